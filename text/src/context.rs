//! Questions that lean on the turns before them: "and for shoes?".
//!
//! [`leaning`] names what makes a question lean, [`forms`] gives the wordings to search with, each
//! with a weight, and [`resolve`] fills the topic in for whoever has to understand or answer it.
//! A search uses what both sides said, at a lower weight; what is filled in is the customer's alone.
//! All rules are closed word classes of English and German; none needs a model.

mod lists;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::words::{is_stop_word_anywhere, normal, strip_clitic};

/// A question of at most this many words, openings aside, says too little to stand alone.
pub const SHORT_WORDS: usize = 3;
/// How many of the customer's turns before the question can be filled in.
pub const TURNS: usize = 3;
/// How many turns, of either side, lend their meaning to a question.
pub const MEANING_TURNS: usize = 4;
/// How many turns, of either side, lend their words to a question.
pub const WORD_TURNS: usize = 8;
/// How much those words count beside the question's own; 0.1 to 0.5 were tried.
pub const WORD_WEIGHT: f32 = 0.2;
/// How much of an earlier turn is used, in characters, from its end: the question of a long message
/// mostly comes last, and a search reads some 250 tokens.
pub const TURN_CHARACTERS: usize = 400;

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The customer.
    Customer,
    /// The company, by whatever voice.
    Company,
}

/// Something said earlier in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// By whom.
    pub speaker: Speaker,
    /// What.
    pub text: String,
}

/// A wording to search with: words for BM25, meaning to embed, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The words to look for; empty takes no part in it.
    pub words: String,
    /// The text to embed; empty takes no part in it.
    pub meaning: String,
    /// How much it counts beside the other forms, within each ranked list; above 0, at most 1.
    pub weight: f32,
}

/// What makes a question lean on earlier turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaning {
    /// It begins as a continuation: and, what about, und, was ist mit.
    pub continues: bool,
    /// It has a pronoun with nothing in the question that it could stand for.
    pub open_pronoun: bool,
    /// It has at most [`SHORT_WORDS`] words.
    pub short: bool,
    /// It has no content word at all.
    pub empty: bool,
}

impl Leaning {
    /// Whether any of it holds.
    #[must_use]
    pub fn any(self) -> bool {
        self.continues || self.open_pronoun || self.short || self.empty
    }
}

/// Says what makes a question lean, whatever was said before.
#[must_use]
pub fn leaning(question: &str) -> Leaning {
    let text = normal(question);
    let words: Vec<&str> = text.unicode_words().map(strip_clitic).filter(|word| !word.is_empty()).collect();
    let fillers = words.iter().take_while(|word| lists::FILLERS.contains(word)).count();
    let words = &words[fillers..];
    let content: Vec<bool> = words.iter().map(|word| is_content(word)).collect();
    Leaning {
        continues: lists::CONTINUATIONS.iter().any(|opening| words.starts_with(opening)),
        open_pronoun: has_open_pronoun(words, &content),
        short: words.len() <= SHORT_WORDS,
        empty: !content.contains(&true),
    }
}

/// Whether a question can be understood without the turns before it.
#[must_use]
pub fn standalone(question: &str, history: &[Turn]) -> bool {
    said(history).next().is_none() || !leaning(question).any()
}

/// The wordings to search with; 1 to 3, the question alone first.
///
/// With a history, the meaning of the question is mixed half and half with that of the question
/// followed by the last [`MEANING_TURNS`] turns, latest first; and the words of the last
/// [`WORD_TURNS`] turns count a little. On public dialogues about help pages this found the right
/// span among the first five for 0.79 of the questions, against 0.66 with the history put in front of
/// the question, and still for 0.71 after a change of topic.
#[must_use]
pub fn forms(question: &str, history: &[Turn]) -> Vec<Form> {
    let mut forms = vec![Form { words: question.to_owned(), meaning: question.to_owned(), weight: 1.0 }];
    let recent = |count| {
        history.iter().rev().map(|turn| tail(turn.text.trim())).filter(|text| !text.is_empty()).take(count)
    };
    let spoken: Vec<&str> = recent(WORD_TURNS).collect();
    if !spoken.is_empty() {
        let meaning = [question].into_iter().chain(recent(MEANING_TURNS)).collect::<Vec<_>>().join(" ");
        forms.push(Form { words: String::new(), meaning, weight: 1.0 });
        forms.push(Form { words: spoken.join(" "), meaning: String::new(), weight: WORD_WEIGHT });
    }
    forms
}

/// The question with its topic filled in: unchanged when it stands alone, else behind the turns that
/// it leans on, back to one that stands alone, at most [`TURNS`].
///
/// The earlier turns are kept as sentences, not woven in: which of their words a follow-up replaces
/// ("a jacket" by "shoes") takes a model to tell, and a reader of both needs no telling.
#[must_use]
pub fn resolve(question: &str, history: &[Turn]) -> String {
    if standalone(question, history) {
        return question.to_owned();
    }
    let mut needed = Vec::new();
    for turn in said(history).take(TURNS) {
        needed.push(turn);
        if !leaning(turn).any() {
            break;
        }
    }
    joined(needed.into_iter().rev(), question)
}

/// What the customer said, latest first, without thanks and the like.
fn said(history: &[Turn]) -> impl Iterator<Item = &str> {
    let customer = history.iter().rev().filter(|turn| turn.speaker == Speaker::Customer);
    customer
        .map(|turn| tail(turn.text.trim()))
        .filter(|text| normal(text).unicode_words().any(|word| !lists::FILLERS.contains(&word)))
}

/// The end of a long text, from a word on.
fn tail(text: &str) -> &str {
    let Some((at, _)) = text.char_indices().rev().nth(TURN_CHARACTERS) else { return text };
    let cut = &text[at..];
    cut.find(char::is_whitespace).map_or(cut, |space| cut[space..].trim_start())
}

fn joined<'t>(earlier: impl Iterator<Item = &'t str>, question: &str) -> String {
    let mut text = String::new();
    for turn in earlier {
        text.push_str(turn);
        if !turn.ends_with(['.', '!', '?', '…', '。', '？']) {
            text.push('.');
        }
        text.push(' ');
    }
    text + question
}

fn is_content(word: &str) -> bool {
    !is_stop_word_anywhere(word) && !lists::FILLERS.contains(&word)
}

/// Whether a pronoun stands for nothing that the question names before it. `content` says of each
/// word whether it is one; a single pass, since a question may be long and written to be slow.
fn has_open_pronoun(words: &[&str], content: &[bool]) -> bool {
    let last_content = content.iter().rposition(|&is| is).unwrap_or(0);
    // "How long does it take to ship?" speaks of the shipping: "it" before this place is explained.
    let last_clause = words[..last_content].iter().rposition(|word| lists::CLAUSES.contains(word));
    let content_at = |place: Option<usize>| place.and_then(|place| content.get(place)) == Some(&true);
    let mut contents = 0;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1);
        let after = content_at(Some(at + 1));
        let open = match *word {
            "it" | "es" => last_clause.is_none_or(|clause| clause <= at),
            // "shoes that I wore" and "that jacket" name what they mean; "is that free" does not.
            "that" | "this" | "these" | "those" => {
                let asked = before.is_some_and(|before| lists::AUXILIARIES.contains(&words[before]));
                asked || (!after && !content_at(before)) || at + 1 == words.len()
            }
            "das" | "dies" | "diese" | "dieser" | "diesen" | "one" => !after,
            word => lists::PRONOUNS.contains(&word),
        };
        if open {
            return true;
        }
        if content[at] {
            // What a later pronoun can stand for: a noun behind a determiner, or two content words
            // ("return shoes"), of which one is hardly the verb.
            contents += 1;
            let determined = before.is_some_and(|before| lists::DETERMINERS.contains(&words[before]));
            if determined || contents >= 2 {
                return false;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn customer(text: &str) -> Turn {
        Turn { speaker: Speaker::Customer, text: text.into() }
    }

    #[test]
    fn follow_ups_lean() {
        let history = [customer("Can I return a jacket after 30 days?")];
        for question in [
            "and for shoes?",
            "What about shoes I wore outside?",
            "ok, and how long would shoes take to arrive then?",
            "How do I return it?",
            "is that possible for jewellery too",
            "Which one should I choose?",
            "why?",
            "Und wie ist es bei reduzierten Schuhen?",
            "Was ist mit Schuhen, die ich getragen habe?",
            "Gilt das auch für Schuhe im Angebot?",
            "Can they be exchanged for another size?",
        ] {
            assert!(!standalone(question, &history), "{question:?}");
            assert!(standalone(question, &[]), "{question:?}");
        }
    }

    #[test]
    fn whole_questions_stand_alone() {
        let history = [customer("Can I return a jacket after 30 days?")];
        for question in [
            "How long does standard shipping take to Canada?",
            "If the shoes don't fit, can I return them?",
            "Can I send back shoes that I have worn outside?",
            "How long does it take to ship to Canada?",
            "Where can I find my invoice for the last order?",
            "Wie lange dauert der Versand nach Österreich?",
            "Kann ich das Paket an eine andere Adresse liefern lassen?",
            "Do you sell gift cards in your stores?",
        ] {
            assert!(standalone(question, &history), "{question:?} {:?}", leaning(question));
        }
    }

    #[test]
    fn forms_hold_the_question_and_its_conversation_latest_first() {
        let history = [
            customer("Can I return a jacket?"),
            Turn { speaker: Speaker::Company, text: "Within 30 days.".into() },
        ];
        let forms = forms("and for shoes?", &history);
        let form = |words: &str, meaning: &str, weight| Form {
            words: words.into(),
            meaning: meaning.into(),
            weight,
        };
        assert_eq!(
            forms,
            [
                form("and for shoes?", "and for shoes?", 1.0),
                form("", "and for shoes? Within 30 days. Can I return a jacket?", 1.0),
                form("Within 30 days. Can I return a jacket?", "", WORD_WEIGHT),
            ]
        );
        assert_eq!(super::forms("and for shoes?", &[]).len(), 1);
    }

    #[test]
    fn a_follow_up_is_resolved_back_to_a_whole_question() {
        let history = [
            customer("Do you ship to Norway?"),
            customer("Can I return a jacket after 30 days?"),
            customer("and for shoes?"),
        ];
        assert_eq!(
            resolve("even if they are worn?", &history),
            "Can I return a jacket after 30 days? and for shoes? even if they are worn?"
        );
        let whole = "Where can I find my invoice for the last order?";
        assert_eq!(resolve(whole, &history), whole);
    }

    #[test]
    fn long_turns_are_cut_to_their_end() {
        let history = [customer(&format!("{} Can I return it?", "word ".repeat(500)))];
        let words = &forms("and shoes?", &history)[2].words;
        assert!(words.ends_with("Can I return it?") && words.chars().count() <= TURN_CHARACTERS);
    }

    #[test]
    fn hostile_questions_take_linear_time() {
        // A scan of what follows each word takes minutes for these.
        let many = "it when ".repeat(20_000);
        assert!(!leaning(&format!("return shoes {many}")).open_pronoun);
        assert!(!leaning(&format!("{many}shoes")).open_pronoun);
        assert!(leaning(&many).open_pronoun);
    }

    proptest! {
        #[test]
        fn there_is_always_a_form(question in ".{0,40}", turns in prop::collection::vec(".{0,40}", 0..4)) {
            let history: Vec<Turn> = turns.iter().map(|text| customer(text)).collect();
            let forms = forms(&question, &history);
            prop_assert!((1..=3).contains(&forms.len()));
            prop_assert!(forms.iter().all(|form| form.weight > 0.0 && form.weight <= 1.0));
            prop_assert!(resolve(&question, &history).ends_with(&question));
        }
    }
}
