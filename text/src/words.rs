//! Words reduced to comparable terms, for lexical evidence.
//!
//! [`terms`] lower-cases, drops stop words and stems (Snowball), so that "returning" meets "return".
//! [`question_type`] says what an answer must hold, and [`correct`] mends a typo by a vocabulary.

mod lists;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// The language whose stop words and endings count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// English, and anything unknown.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// The language of a BCP 47 tag such as `de-AT`; English for any other and for none.
    #[must_use]
    pub fn of_tag(tag: &str) -> Self {
        match tag.split(['-', '_']).next() {
            Some(primary) if primary.eq_ignore_ascii_case("de") => Self::German,
            _ => Self::English,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::English => Algorithm::English,
            Self::German => Algorithm::German,
        }
    }
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuestionType {
    /// Yes or no.
    Polar,
    /// A person.
    Person,
    /// A place.
    Place,
    /// A point in time.
    Time,
    /// A length of time.
    Duration,
    /// An amount of money or a number of things.
    Quantity,
    /// A reason.
    Reason,
    /// A way to do something.
    Manner,
    /// One out of several.
    Choice,
    /// A thing or an explanation.
    Thing,
    /// Not a question, or of another kind.
    Other,
}

/// The words of a text as written, without punctuation; words with an apostrophe are whole.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.unicode_words()
}

/// Whether a text has this wording: all of its words, one behind the other, in any case and with any marks and
/// white space between. One without a word is looked for as it stands.
#[must_use]
pub fn says(text: &str, wording: &str) -> bool {
    let lower = |text: &str| words(text).map(str::to_lowercase).collect::<Vec<_>>();
    let (said, wanted) = (lower(text), lower(wording));
    match wanted.len() {
        0 => text.contains(wording.trim()),
        length => said.windows(length).any(|stretch| stretch == wanted),
    }
}

/// The content words of a text in order: lower case, compatibility-composed (NFKC), without stop
/// words, English clitics (`'s`, `n't`) or endings. Repeats are kept. A text of stop words alone
/// has none.
#[must_use]
pub fn terms(text: &str, language: Language) -> Vec<String> {
    content_words(text, language).into_iter().map(|word| stem(&word, language)).collect()
}

/// The content words of a text, lower case but not stemmed, in order.
#[must_use]
pub fn content_words(text: &str, language: Language) -> Vec<String> {
    let text = normal(text);
    let bare = text.unicode_words().map(strip_clitic);
    bare.filter(|word| !word.is_empty() && !is_stop_word(word, language)).map(str::to_owned).collect()
}

/// The stem of a lower-case word.
#[must_use]
pub fn stem(word: &str, language: Language) -> String {
    thread_local! {
        // Making a stemmer costs an allocation; asking for it per word would cost it per word.
        static STEMMERS: RefCell<BTreeMap<Language, Stemmer>> = const { RefCell::new(BTreeMap::new()) };
    }
    STEMMERS.with_borrow_mut(|stemmers| {
        let stemmer = stemmers.entry(language).or_insert_with(|| Stemmer::create(language.algorithm()));
        stemmer.stem(word).into_owned()
    })
}

/// Whether a lower-case word carries no content of its own.
#[must_use]
pub fn is_stop_word(word: &str, language: Language) -> bool {
    // Every word of every text is asked about; a look through the list would be most of the work.
    static ENGLISH: LazyLock<HashSet<&str>> = LazyLock::new(|| lists::ENGLISH.into_iter().collect());
    static GERMAN: LazyLock<HashSet<&str>> = LazyLock::new(|| lists::GERMAN.into_iter().collect());
    match language {
        Language::English => ENGLISH.contains(word),
        Language::German => GERMAN.contains(word),
    }
}

/// Whether a lower-case word is a stop word in any language known here.
pub(crate) fn is_stop_word_anywhere(word: &str) -> bool {
    is_stop_word(word, Language::English) || is_stop_word(word, Language::German)
}

/// Lower case, composed, with the plain apostrophe and `email` in one spelling.
pub(crate) fn normal(text: &str) -> String {
    // Composing ASCII changes nothing, and most text is.
    let lower: String = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.nfkc().flat_map(char::to_lowercase).map(|c| if c == '’' { '\'' } else { c }).collect()
    };
    if lower.contains("e-mail") { lower.replace("e-mail", "email") } else { lower }
}

/// Drops what English hangs on a word with an apostrophe.
pub(crate) fn strip_clitic(word: &str) -> &str {
    const CLITICS: [&str; 7] = ["n't", "'s", "'ll", "'re", "'ve", "'d", "'m"];
    CLITICS.iter().find_map(|clitic| word.strip_suffix(clitic)).unwrap_or(word).trim_matches('\'')
}

/// What a question asks for, by its question word or opening verb; English or German.
#[must_use]
pub fn question_type(text: &str) -> QuestionType {
    let text = normal(text);
    let words: Vec<&str> = text.unicode_words().map(strip_clitic).collect();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let found = match *word {
            "how" | "wie" => match next {
                "long" | "lange" => QuestionType::Duration,
                "much" | "many" | "viel" | "viele" | "hoch" | "teuer" | "expensive" => QuestionType::Quantity,
                "often" | "far" | "oft" | "weit" | "big" | "heavy" | "groß" | "schwer" => {
                    QuestionType::Quantity
                }
                "soon" | "fast" | "schnell" | "quickly" => QuestionType::Duration,
                _ => QuestionType::Manner,
            },
            "wieviel" | "wieviele" => QuestionType::Quantity,
            "who" | "whom" | "whose" | "wer" | "wem" | "wen" => QuestionType::Person,
            "where" | "wo" | "wohin" | "woher" => QuestionType::Place,
            "when" | "wann"
                if at == 0 || matches!(words[at - 1], "and" | "und" | "by" | "until" | "bis" | "since") =>
            {
                QuestionType::Time
            }
            "why" | "warum" | "wieso" | "weshalb" => QuestionType::Reason,
            "which" | "welche" | "welcher" | "welches" | "welchen" => QuestionType::Choice,
            "what" | "was" if at == 0 || *word == "what" => match next {
                "time" => QuestionType::Time,
                _ => QuestionType::Thing,
            },
            opening if at == 0 && lists::POLAR.contains(&opening) => return QuestionType::Polar,
            _ => continue,
        };
        return found;
    }
    // "Hi, can I return this?": the verb comes after a greeting.
    let polar =
        words.windows(2).any(|pair| lists::POLAR.contains(&pair[0]) && lists::SUBJECTS.contains(&pair[1]));
    if polar { QuestionType::Polar } else { QuestionType::Other }
}

/// How many edits a term of some length may be away from what was meant: none below 4 characters
/// (too many words are one edit apart), one up to 6, two above. The steps are those of the usual
/// search engines' automatic fuzziness, begun one character later.
fn tolerance(characters: usize) -> usize {
    match characters {
        0..4 => 0,
        4..7 => 1,
        _ => 2,
    }
}

/// The word of a vocabulary that a mistyped term most likely is: the term itself when it is there,
/// else the closest within one edit (4 to 6 characters) or two (7 and more); of equally close ones
/// the first with the same first letter, then the first. Two edits need the same first letter, since
/// people seldom mistype it. Terms with digits are codes and never corrected. Both sides are
/// lower case.
pub fn correct<'v>(term: &str, vocabulary: impl IntoIterator<Item = &'v str>) -> Option<&'v str> {
    let written: Vec<char> = term.chars().collect();
    // Nothing that long is a mistyped word, and it would cost time.
    let limit = if written.len() > 40 || written.iter().any(char::is_ascii_digit) {
        0
    } else {
        tolerance(written.len())
    };
    let mut best: Option<((usize, bool), &str)> = None;
    for word in vocabulary {
        if word == term {
            return Some(word);
        }
        let other_start = word.chars().next() != written.first().copied();
        let limit = if other_start { limit.min(1) } else { limit };
        let Some(distance) = bounded(&written, word, limit) else { continue };
        if best.is_none_or(|(rank, _)| (distance, other_start) < rank) {
            best = Some(((distance, other_start), word));
        }
    }
    best.map(|(_, word)| word)
}

/// The number of insertions, deletions, substitutions and swaps of neighbours between two words;
/// `None` above `limit`.
///
/// # Source
/// Damerau 1964; the restricted variant (optimal string alignment), in which no piece is edited
/// twice.
#[must_use]
pub fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    bounded(&a.chars().collect::<Vec<_>>(), b, limit)
}

fn bounded(a: &[char], b: &str, limit: usize) -> Option<usize> {
    // A cheap refusal first: a vocabulary is long, and most of its words differ in length.
    let length = b.chars().take(a.len() + limit + 1).count();
    if length.abs_diff(a.len()) > limit {
        return None;
    }
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut cost = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row.push(cost);
        }
        if row.iter().min().is_some_and(|&least| least > limit)
            && before.iter().min().is_none_or(|&least| least > limit)
        {
            return None;
        }
        before = std::mem::replace(&mut above, row);
    }
    (above[b.len()] <= limit).then_some(above[b.len()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_are_stemmed_content_words() {
        assert_eq!(
            terms("Can I still be returning the SHOES I've worn?", Language::English),
            ["return", "shoe", "worn"]
        );
        assert_eq!(
            terms("Kann ich die Schuhe zurückgeben?", Language::German),
            terms("kann ich den Schuh zurückgeben", Language::German)
        );
        assert_eq!(
            terms("customer’s E-Mail, don't, 30 days", Language::English),
            ["custom", "email", "30", "day"]
        );
        assert!(terms("what is it that you do?", Language::English).is_empty());
    }

    #[test]
    fn other_scripts_pass() {
        assert_eq!(terms("Где мой заказ", Language::English), ["где", "мой", "заказ"]);
    }

    #[test]
    fn questions_say_what_they_ask_for() {
        for (text, kind) in [
            ("How long does shipping take?", QuestionType::Duration),
            ("Hi! How much is it?", QuestionType::Quantity),
            ("Wie kann ich bezahlen?", QuestionType::Manner),
            ("When does my refund arrive?", QuestionType::Time),
            ("Wo ist mein Paket?", QuestionType::Place),
            ("Can I return shoes?", QuestionType::Polar),
            ("Hello, can I return shoes?", QuestionType::Polar),
            ("Can I get a refund when I cancel?", QuestionType::Polar),
            ("What is covered?", QuestionType::Thing),
            ("And why not?", QuestionType::Reason),
            ("I want my money back", QuestionType::Other),
        ] {
            assert_eq!(question_type(text), kind, "{text:?}");
        }
    }

    #[test]
    fn a_wording_is_found_whatever_its_marks_and_case() {
        let reply = "Gladly. The value of investments can go down,\n as well as up! Write to us.";
        assert!(says(reply, "the value of investments can go down as well as up."));
        assert!(!says(reply, "the value of an investment can go down") && !says("a b", "a b c"));
        assert!(!says(reply, "...") && !says(reply, "⚠️") && says("Mind: ⚠️", " ⚠️ "));
    }

    #[test]
    fn typos_are_corrected_by_the_vocabulary() {
        let vocabulary = ["return", "refund", "shipping", "shop", "shoes", "warranty"];
        for (typed, meant) in [
            ("retrun", "return"),
            ("shiping", "shipping"),
            ("waranti", "warranty"),
            ("shoes", "shoes"),
            ("heturn", "return"),
        ] {
            assert_eq!(correct(typed, vocabulary), Some(meant), "{typed:?}");
        }
        for typed in ["sho", "a4711", "elephant", ""] {
            assert_eq!(correct(typed, vocabulary), None, "{typed:?}");
        }
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("abcd", "abdc", 2), Some(1));
        assert_eq!(distance("abc", "xyz", 2), None);
        assert_eq!(distance("", "ab", 2), Some(2));
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_its_limit_only_cuts(a in "[abc]{0,7}", b in "[abc]{0,7}", limit in 0usize..4) {
            let full = distance(&a, &b, 20);
            prop_assert_eq!(full, distance(&b, &a, 20));
            prop_assert_eq!(full == Some(0), a == b);
            prop_assert_eq!(distance(&a, &b, limit), full.filter(|&edits| edits <= limit));
        }
    }
}
