//! How models say that they cannot answer, whatever they were told to say.

use crate::prompt::REFUSAL;

/// How such sentences begin, in lower case.
const BEGINNINGS: [&str; 18] = [
    "i could not find",
    "i couldn't find",
    "i can not answer",
    "i cannot answer",
    "i can't answer",
    "i am unable to answer",
    "i'm unable to answer",
    "i am not able to answer",
    "i do not have enough information",
    "i don't have enough information",
    "the passages do not",
    "the passages don't",
    "ich kann diese frage nicht",
    "ich kann das nicht beantworten",
    "ich konnte das nicht",
    "das konnte ich in den",
    "dazu finde ich",
    "die passagen enthalten kein",
];

/// Whether a sentence says that the passages do not answer.
pub(crate) fn is_refusal(sentence: &str) -> bool {
    let longest = BEGINNINGS.iter().map(|beginning| beginning.len()).max().unwrap_or(0);
    let lower: String = sentence
        .chars()
        .take(longest)
        .map(|c| if c == '’' { '\'' } else { c })
        .flat_map(char::to_lowercase)
        .collect();
    sentence == REFUSAL || BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_known_by_how_they_begin() {
        for refusal in [REFUSAL, "I couldn’t find anything on that.", "Die Passagen enthalten keine Angaben."]
        {
            assert!(is_refusal(refusal), "{refusal}");
        }
        for answer in ["You cannot return shoes.", "I", "", "Shoes that I could not find are refunded."] {
            assert!(!is_refusal(answer), "{answer}");
        }
    }
}
