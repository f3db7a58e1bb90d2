//! Whether passages carry a sentence, by its words: what they do not say, and what they say otherwise.
//!
//! [`Evidence`] reads passages once; [`Evidence::support`] compares a sentence with them. Its content words
//! give a score; its numbers, names and denials have to agree, whatever the score. That finds a wrong
//! amount, an invented name and a dropped "not", which are what a language model gets wrong in a sentence
//! that else reads like its source. It cannot find two facts that were swapped within a passage, and a free
//! paraphrase scores low: a model has to judge that one.

use std::collections::HashSet;

use crate::{
    entities,
    negation::{self, Clause},
    numbers::{self, Number},
    span::Span,
    words::{self, Language},
};

/// Share of a clause's words that a passage's clause must have to speak of the same matter.
const SAME_MATTER: f32 = 0.6;
/// Fewer content words than this say too little for denials to be compared.
const FEWEST: usize = 2;

/// What a sentence says that its passages do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disagreement {
    /// A number, an amount, a length of time or a date that no passage has.
    Number,
    /// A clause that denies what the passages affirm, or affirms what they deny.
    Negation,
    /// A name, a code, an address or a quotation that no passage has.
    Entity,
}

/// How well passages carry a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// Share of the sentence's content words that the passages have, in [0, 1]: those of the best passage
    /// count whole, those that only others have count half. 1 for a sentence without content words.
    pub score: f32,
    /// How many different content words the sentence has; with none it claims nothing.
    pub words: usize,
    /// What does not agree, in order.
    pub disagreements: Vec<(Span, Disagreement)>,
}

/// Passages, read for comparison.
#[derive(Debug, Default)]
pub struct Evidence {
    language: Language,
    passages: Vec<Passage>,
}

#[derive(Debug)]
struct Passage {
    terms: HashSet<String>,
    /// All of its words in lower case, for names.
    words: HashSet<String>,
    /// Without white space, in lower case, for codes and addresses.
    squeezed: String,
    numbers: Vec<Number>,
    clauses: Vec<(HashSet<String>, Clause)>,
}

impl Evidence {
    /// Reads passages, in the language of the sentences to come. Takes time linear in them.
    #[must_use]
    pub fn new(passages: &[&str], language: Language) -> Self {
        let read = |text: &&str| {
            let mut numbers = numbers::find(text, Language::English);
            // Marks in figures mean what the passage's language says, which is not known.
            numbers.extend(numbers::find(text, Language::German));
            let clauses = negation::clauses(text)
                .into_iter()
                .map(|clause| (terms(clause.span.of(text), language).into_iter().collect(), clause))
                .collect();
            Passage {
                terms: terms(text, language).into_iter().collect(),
                words: words::normal(text).split(is_edge).map(str::to_owned).collect(),
                squeezed: squeezed(text),
                numbers,
                clauses,
            }
        };
        Self { language, passages: passages.iter().map(read).collect() }
    }

    /// Compares a sentence with the passages. Takes time linear in both.
    #[must_use]
    pub fn support(&self, sentence: &str) -> Support {
        let wanted: HashSet<String> = terms(sentence, self.language).into_iter().collect();
        let mut disagreements = self.numbers(sentence);
        disagreements.extend(self.entities(sentence));
        disagreements.extend(self.denials(sentence));
        disagreements.sort_by_key(|(span, _)| (span.bytes.start, span.bytes.end));
        Support { score: self.score(&wanted), words: wanted.len(), disagreements }
    }

    fn score(&self, wanted: &HashSet<String>) -> f32 {
        if wanted.is_empty() {
            return 1.0;
        }
        let held = |passage: &Passage| wanted.iter().filter(|term| passage.holds(term)).count();
        let best = self.passages.iter().map(held).max().unwrap_or(0);
        let any =
            wanted.iter().filter(|term| self.passages.iter().any(|passage| passage.holds(term))).count();
        (best as f32 + (any - best) as f32 / 2.0) / wanted.len() as f32
    }

    fn numbers(&self, sentence: &str) -> Vec<(Span, Disagreement)> {
        let mut found = numbers::find(sentence, self.language);
        found.retain(|number| {
            !self.passages.iter().flat_map(|passage| &passage.numbers).any(|other| number.agrees(other))
        });
        found.into_iter().map(|number| (number.span, Disagreement::Number)).collect()
    }

    fn entities(&self, sentence: &str) -> Vec<(Span, Disagreement)> {
        let mut found = entities::find(sentence, self.language);
        found.retain(|entity| {
            let written = entity.span.of(sentence);
            let known = |passage: &Passage| match entity.kind {
                entities::Kind::Name => {
                    let name = words::normal(written);
                    let mut parts = name.split(is_edge).filter(|part| !part.is_empty());
                    // "Refunds" for "refund": the name may be a plain word, written large.
                    parts.all(|part| {
                        passage.words.contains(part)
                            || passage.terms.contains(&words::stem(part, self.language))
                    })
                }
                _ => passage.squeezed.contains(&squeezed(written)),
            };
            !self.passages.iter().any(known)
        });
        found.into_iter().map(|entity| (entity.span, Disagreement::Entity)).collect()
    }

    /// Clauses that the passages' clauses about the same matter contradict, all of the nearest ones.
    fn denials(&self, sentence: &str) -> Vec<(Span, Disagreement)> {
        let mut found = Vec::new();
        for clause in negation::clauses(sentence) {
            let wanted: HashSet<String> =
                terms(clause.span.of(sentence), self.language).into_iter().collect();
            if wanted.len() < FEWEST || clause.conditional {
                continue;
            }
            let mut nearest = 0;
            let mut contradicts = false;
            for (terms, other) in self.passages.iter().flat_map(|passage| &passage.clauses) {
                let shared = wanted.intersection(terms).count();
                let same = other.is_negative() == clause.is_negative() || other.conditional;
                if shared > nearest {
                    (nearest, contradicts) = (shared, !same);
                } else if shared == nearest {
                    contradicts &= !same;
                }
            }
            if contradicts && nearest >= FEWEST && nearest as f32 >= SAME_MATTER * wanted.len() as f32 {
                let span = clause.cues.first().map_or_else(|| clause.span.clone(), |cue| cue.span.clone());
                found.push((span, Disagreement::Negation));
            }
        }
        found
    }
}

impl Passage {
    fn holds(&self, term: &str) -> bool {
        self.terms.contains(term)
    }
}

/// Content words without those that deny or count, which are compared apart.
fn terms(text: &str, language: Language) -> Vec<String> {
    let mut words = words::content_words(text, language);
    words.retain(|word| {
        let number = word.starts_with(|c: char| c.is_ascii_digit()) || numbers::is_spelled(word);
        !number && !negation::is_cue(word)
    });
    words.into_iter().map(|word| words::stem(&word, language)).collect()
}

fn is_edge(c: char) -> bool {
    !c.is_alphanumeric() && c != '\''
}

fn squeezed(text: &str) -> String {
    words::normal(text).chars().filter(|c| !c.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETURNS: &str = "You can return most items within 30 days of delivery. Shoes that were worn outside \
                           cannot be returned. Refunds arrive within 5 to 7 business days. Parcels go with \
                           Royal Mail and cost £3.95.";
    const VERSAND: &str = "Der Standardversand kostet 4,95 € und dauert 2 bis 4 Werktage. Gutscheine werden \
                           nicht erstattet. Die Zustellung erfolgt durch DHL.";

    fn disagreements(sentence: &str, passage: &str, language: Language) -> Vec<(String, Disagreement)> {
        let support = Evidence::new(&[passage], language).support(sentence);
        support.disagreements.into_iter().map(|(span, kind)| (span.of(sentence).to_owned(), kind)).collect()
    }

    fn english(sentence: &str) -> Vec<(String, Disagreement)> {
        disagreements(sentence, RETURNS, Language::English)
    }

    fn german(sentence: &str) -> Vec<(String, Disagreement)> {
        disagreements(sentence, VERSAND, Language::German)
    }

    #[test]
    fn what_a_passage_says_is_carried() {
        let evidence = Evidence::new(&[RETURNS, VERSAND], Language::English);
        for sentence in [
            "Shoes that were worn outside cannot be returned.",
            "Most items can be returned within 30 days of delivery.",
            "You can return most items within thirty days.",
            "Refunds arrive in 5 to 7 business days.",
        ] {
            let support = evidence.support(sentence);
            assert!(support.score > 0.9 && support.disagreements.is_empty(), "{sentence} {support:?}");
        }
        assert!(evidence.support("Our pizzas are baked in stone ovens.").score < 0.3);
        assert_eq!(evidence.support("It is what it is.").words, 0);
    }

    #[test]
    fn numbers_have_to_agree() {
        let number = |text: &str| vec![(text.to_owned(), Disagreement::Number)];
        assert_eq!(english("You can return most items within 60 days of delivery."), number("60 days"));
        assert_eq!(english("You can return most items within 30 hours of delivery."), number("30 hours"));
        assert_eq!(english("Parcels cost €3.95."), number("€3.95"));
        assert_eq!(english("Most items can be returned within thirty days."), []);
        assert_eq!(german("Der Standardversand kostet 5,95 €."), number("5,95 €"));
        assert_eq!(german("Der Standardversand kostet 4,95 Euro und dauert zwei bis vier Werktage."), []);
    }

    #[test]
    fn names_have_to_be_there() {
        let entity = |text: &str| vec![(text.to_owned(), Disagreement::Entity)];
        assert_eq!(english("Parcels go with Deutsche Post."), entity("Deutsche Post"));
        assert_eq!(english("Your parcels go with Royal Mail."), []);
        assert_eq!(german("Die Zustellung erfolgt durch UPS."), entity("UPS"));
        assert_eq!(german("Die Zustellung erfolgt durch DHL."), []);
        assert_eq!(english("Write to help@shop.example to return items."), entity("help@shop.example"));
    }

    #[test]
    fn denials_have_to_agree() {
        let negation = |text: &str| vec![(text.to_owned(), Disagreement::Negation)];
        let turned = "Shoes that were worn outside can be returned";
        assert_eq!(english(&format!("{turned}.")), negation(turned));
        assert_eq!(english("You can not return most items within 30 days."), negation("not"));
        assert_eq!(german("Gutscheine werden erstattet."), negation("Gutscheine werden erstattet"));
        assert_eq!(german("Gutscheine werden nicht erstattet."), []);
        assert_eq!(english("It is not possible to return shoes worn outside."), []);
    }

    #[test]
    fn without_passages_nothing_is_carried() {
        let support = Evidence::new(&[], Language::English).support("Returns are free for 30 days.");
        assert_eq!(support.score, 0.0);
        assert_eq!(support.disagreements.len(), 1);
    }

    proptest! {
        #[test]
        fn a_sentence_is_carried_by_itself(text in r"([A-Z]?[a-z]{1,6} |[0-9]{1,4}( days| €)? |not |, |but |\. ){0,24}") {
            for language in [Language::English, Language::German] {
                let support = Evidence::new(&[&text], language).support(&text);
                prop_assert_eq!(support.score, 1.0);
                prop_assert!(
                    support.disagreements.iter().all(|(_, kind)| *kind == Disagreement::Negation),
                    "{:?}",
                    support
                );
            }
        }

        #[test]
        fn no_text_is_too_odd(sentence in r"\PC{0,60}", passage in r"\PC{0,60}") {
            let support = Evidence::new(&[&passage], Language::English).support(&sentence);
            prop_assert!((0.0..=1.0).contains(&support.score));
            for (span, _) in &support.disagreements {
                prop_assert!(sentence.get(span.bytes.clone()).is_some());
            }
        }
    }
}
