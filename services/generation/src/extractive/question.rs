//! What a question holds and asks for.

use std::collections::{BTreeSet, HashSet};

use switchboard_proto::knowledge::v1::Passage;
use switchboard_text::words::{self, Language, QuestionType};

/// More terms than this make a question no clearer.
const MAX_TERMS: usize = 64;
/// Shorter words begin or end too many others by chance.
const MIN_COMPOUND_PART: usize = 5;

/// A question taken apart.
pub(super) struct Question {
    pub(super) terms: BTreeSet<String>,
    /// Those of them that the question itself has, not what it leans on.
    latest: BTreeSet<String>,
    pub(super) wanted: Option<Kind>,
    pub(super) language: Language,
}

impl Question {
    /// `latest` is the question itself, `whole` has what it leans on in front.
    pub(super) fn new(latest: &str, whole: &str, language: Language) -> Self {
        let terms = |text| words::terms(text, language).into_iter().take(MAX_TERMS).collect();
        let wanted = Kind::of(latest).or_else(|| Kind::of(whole));
        Self { terms: terms(whole), latest: terms(latest), wanted, language }
    }

    /// What a term counts for: those of the question itself twice as much as what it leans on, so
    /// that "and to a card?" after a question about PayPal is about cards.
    pub(super) fn weight(&self, term: &str) -> f32 {
        if self.latest.contains(term) { 2.0 } else { 1.0 }
    }

    pub(super) fn terms_of(&self, text: &str) -> HashSet<String> {
        words::terms(text, self.language).into_iter().collect()
    }

    /// The terms of everything that stands above a passage.
    pub(super) fn terms_above(&self, passage: &Passage) -> HashSet<String> {
        self.terms_of(&format!("{} {}", passage.title, passage.heading_path.join(" ")))
    }

    /// Whether a text of these terms speaks of one of the question's. In German a part of a
    /// compound will do: "Expressversand" is found in "Express".
    pub(super) fn holds(&self, terms: &HashSet<String>, term: &str) -> bool {
        terms.contains(term)
            || self.language == Language::German && terms.iter().any(|other| is_part(term, other))
    }

    /// Whether a heading asks nearly this: it ends as a question does and holds half of the terms.
    pub(super) fn is_asked_by(&self, heading: &str) -> bool {
        let terms = self.terms_of(heading);
        let shared = self.terms.iter().filter(|term| self.holds(&terms, term)).count();
        heading.trim_end().ends_with('?') && shared > 0 && 2 * shared >= self.terms.len()
    }
}

fn is_part(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.chars().count() >= MIN_COMPOUND_PART && (long.starts_with(short) || long.ends_with(short))
}

/// The language of a question that does not say: German when it has more of the stop words that
/// only German has than of those that only English has, else English.
#[must_use]
pub fn language_of(text: &str) -> Language {
    let lower = text.to_lowercase();
    let (mut german, mut english) = (0, 0);
    for word in words::words(&lower) {
        match (words::is_stop_word(word, Language::German), words::is_stop_word(word, Language::English)) {
            (true, false) => german += 1,
            (false, true) => english += 1,
            _ => {}
        }
    }
    if german > english { Language::German } else { Language::English }
}

/// What a sentence must name to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Money or a number.
    Amount,
    /// A date, a time of day or a length of time.
    Time,
}

impl Kind {
    fn of(question: &str) -> Option<Self> {
        match words::question_type(question) {
            QuestionType::Quantity => Some(Self::Amount),
            QuestionType::Duration | QuestionType::Time => Some(Self::Time),
            _ if has(question, PRICE) => Some(Self::Amount),
            _ => has(question, HOURS).then_some(Self::Time),
        }
    }

    pub(super) fn is_in(self, sentence: &str) -> bool {
        match self {
            Self::Amount => {
                sentence.contains(|c: char| c.is_ascii_digit() || "€$£%".contains(c))
                    || has(sentence, NUMBERS)
            }
            Self::Time => has(sentence, TIMES) || has_clock(sentence),
        }
    }
}

fn has(text: &str, list: &[&str]) -> bool {
    let lower = text.to_lowercase();
    words::words(&lower).any(|word| list.contains(&word))
}

/// A digit, a colon, a digit: `14:00`.
fn has_clock(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| w[0].is_ascii_digit() && w[1] == b':' && w[2].is_ascii_digit())
}

const PRICE: &[&str] =
    &["cost", "costs", "price", "prices", "fee", "fees", "kostet", "kosten", "preis", "preise", "gebühr"];

const HOURS: &[&str] = &[
    "hours",
    "deadline",
    "öffnungszeiten",
    "öffnungszeit",
    "lieferzeit",
    "lieferzeiten",
    "frist",
    "uhrzeit",
];

const NUMBERS: &[&str] = &[
    "free",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "kostenlos",
    "kostenfrei",
    "gratis",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "half",
];

const TIMES: &[&str] = &[
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
    "minuten",
    "stunde",
    "stunden",
    "tag",
    "tage",
    "tagen",
    "werktag",
    "werktage",
    "werktagen",
    "woche",
    "wochen",
    "monat",
    "monate",
    "monaten",
    "jahr",
    "jahre",
    "jahren",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonntag",
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "januar",
    "februar",
    "märz",
    "mai",
    "juni",
    "juli",
    "oktober",
    "dezember",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn german_is_told_by_its_stop_words() {
        assert_eq!(language_of("Kann ich getragene Schuhe zurückgeben?"), Language::German);
        assert_eq!(language_of("Can I return worn shoes?"), Language::English);
        assert_eq!(language_of("Warranty"), Language::English);
    }

    #[test]
    fn a_part_of_a_german_compound_is_found() {
        let text = "Express nach Deutschland";
        let german = Question::new("Expressversand", "Expressversand", Language::German);
        assert!(german.terms.iter().all(|term| german.holds(&german.terms_of(text), term)));
        let english = Question::new("Expressversand", "Expressversand", Language::English);
        assert!(!english.terms.iter().any(|term| english.holds(&english.terms_of(text), term)));
    }

    #[test]
    fn an_answer_to_how_much_names_an_amount() {
        let kind = |text| Question::new(text, text, Language::English).wanted;
        assert_eq!(kind("What does express cost?"), Some(Kind::Amount));
        assert_eq!(kind("How long is the link valid?"), Some(Kind::Time));
        assert_eq!(kind("opening hours"), Some(Kind::Time));
        assert_eq!(kind("Can I return shoes?"), None);
        assert!(Kind::Amount.is_in("It is €4.95.") && Kind::Amount.is_in("It is free of charge."));
        assert!(Kind::Time.is_in("Within 14 days.") && Kind::Time.is_in("Before 14:00."));
        assert!(!Kind::Time.is_in("Press 1.") && !Kind::Amount.is_in("Press the button."));
    }

    #[test]
    fn the_latest_question_says_what_is_wanted() {
        let question = Question::new(
            "And how much is it?",
            "When do you deliver? And how much is it?",
            Language::English,
        );
        assert_eq!(question.wanted, Some(Kind::Amount));
    }
}
