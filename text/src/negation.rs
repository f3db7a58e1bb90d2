//! Where a text denies: cues such as "not", "kein" and "unable", and the clause that each turns round.
//!
//! [`clauses`] cuts a text into clauses and says of each whether it denies. Two cues in a clause cancel
//! each other out ("not impossible"). English and German; closed word classes, no grammar: a clause ends
//! at punctuation and at conjunctions that open a new one.
//!
//! # Source
//! The idea of cues with pseudo-cues that look alike ("not only", "no later than") and of scopes that end
//! at conjunctions: NegEx, Chapman et al. 2001. The lists are ours.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::span::{Span, Spans};

/// Words that deny.
const CUES: [&str; 51] = [
    "not",
    "no",
    "never",
    "none",
    "nobody",
    "nothing",
    "nowhere",
    "neither",
    "cannot",
    "without",
    "unable",
    "impossible",
    "ineligible",
    "unavailable",
    "invalid",
    "forbidden",
    "prohibited",
    "excluded",
    "exempt",
    "nicht",
    "kein",
    "keine",
    "keinen",
    "keinem",
    "keiner",
    "keines",
    "nie",
    "niemals",
    "nichts",
    "niemand",
    "nirgends",
    "weder",
    "ohne",
    "unmöglich",
    "ausgeschlossen",
    "untersagt",
    "verboten",
    "ungültig",
    "unzulässig",
    "dont",
    "cant",
    "wont",
    "isnt",
    "arent",
    "doesnt",
    "didnt",
    "wasnt",
    "shouldnt",
    "couldnt",
    "wouldnt",
    "non",
];

/// Cues that deny nothing where these words follow.
const PSEUDO: [(&str, &[&str]); 27] = [
    ("not", &["only"]),
    ("not", &["just"]),
    ("not", &["more", "than"]),
    ("not", &["less", "than"]),
    ("not", &["later", "than"]),
    ("not", &["longer", "than"]),
    ("not", &["to", "worry"]),
    ("no", &["more", "than"]),
    ("no", &["less", "than"]),
    ("no", &["fewer", "than"]),
    ("no", &["later", "than"]),
    ("no", &["longer", "than"]),
    ("no", &["matter"]),
    ("no", &["doubt"]),
    ("no", &["problem"]),
    ("no", &["worries"]),
    ("no", &["wonder"]),
    ("never", &["mind"]),
    ("nothing", &["but"]),
    ("nicht", &["nur"]),
    ("nicht", &["mehr", "als"]),
    ("nicht", &["später", "als"]),
    ("nicht", &["länger", "als"]),
    ("kein", &["problem"]),
    ("keine", &["sorge"]),
    ("ohne", &["zweifel"]),
    ("without", &["doubt"]),
];

/// Words that open a clause of their own.
const OPENERS: [&str; 37] = [
    "but", "however", "although", "though", "while", "whereas", "because", "since", "if", "unless", "when",
    "where", "which", "who", "whose", "that", "so", "aber", "sondern", "jedoch", "obwohl", "während", "weil",
    "wenn", "falls", "sofern", "dass", "damit", "der", "die", "das", "deren", "dessen", "ob", "als", "wobei",
    "doch",
];

/// Relative pronouns and the like, which open a clause behind a comma alone: else they are articles.
const BEHIND_COMMA: [&str; 9] = ["der", "die", "das", "deren", "dessen", "als", "so", "that", "since"];

/// Words that begin a main clause behind a comma.
const SUBJECTS: [&str; 32] = [
    "you", "we", "i", "it", "they", "he", "she", "this", "there", "please", "your", "our", "sie", "wir",
    "ich", "es", "du", "er", "ihr", "können", "kann", "ist", "sind", "wird", "werden", "muss", "müssen",
    "haben", "bitte", "darf", "dürfen", "gilt",
];

/// Words by which a clause holds only in some cases, so that its denial says nothing of the others.
const CONDITIONS: [&str; 18] = [
    "only",
    "unless",
    "except",
    "until",
    "if",
    "otherwise",
    "apart",
    "besides",
    "nur",
    "außer",
    "bis",
    "wenn",
    "falls",
    "sofern",
    "sonst",
    "ausgenommen",
    "lediglich",
    "solely",
];

/// A word that denies.
#[derive(Clone, Debug, PartialEq)]
pub struct Cue {
    /// The word.
    pub span: Span,
}

/// A part of a sentence that says one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// Where it stands: the scope of its cues.
    pub span: Span,
    /// The words that deny in it, in order.
    pub cues: Vec<Cue>,
    /// Whether it holds only in some cases: "only", "unless", "nur".
    pub conditional: bool,
}

impl Clause {
    /// Whether it denies: an odd number of cues.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.cues.len() % 2 == 1
    }
}

/// Whether a sentence denies in any of its clauses.
#[must_use]
pub fn is_negative(sentence: &str) -> bool {
    clauses(sentence).iter().any(Clause::is_negative)
}

/// Whether a lower-case word denies wherever it stands.
pub(crate) fn is_cue(word: &str) -> bool {
    CUES.contains(&word)
}

/// The clauses of a text, in order; together they hold all of its words. Takes time linear in the text.
#[must_use]
pub fn clauses(text: &str) -> Vec<Clause> {
    let words = words(text);
    let mut clauses = Vec::new();
    let mut start = 0;
    for at in 1..=words.len() {
        let Some(word) = words.get(at) else {
            clauses.extend(clause(text, &words[start..]));
            break;
        };
        let between = &text[words[at - 1].bytes.end..word.bytes.start];
        let comma = between.contains(',');
        let numbered = matches!(words[at - 1].lower.as_str(), "no" | "nr") && word.is_figure();
        let ends = between.contains(['.', '!', '?', ';', ':', '(', ')', '–', '—', '\n']) && !numbered;
        let opener =
            OPENERS.contains(&word.lower.as_str()) && (comma || !BEHIND_COMMA.contains(&word.lower.as_str()));
        // A comma alone parts clauses where a new subject or verb follows; else it is a list's.
        let apart = comma && SUBJECTS.contains(&word.lower.as_str());
        if ends || opener || apart {
            clauses.extend(clause(text, &words[start..at]));
            start = at;
        }
    }
    let mut spans = Spans::new(text);
    let mut found = Vec::new();
    for (range, cues, conditional) in clauses {
        let mut within = Spans::new(&text[range.clone()]);
        let span = spans.next(range.clone());
        let cue = |cue: Range<usize>| {
            let inner = within.next(cue.start - range.start..cue.end - range.start).chars;
            let from = span.chars.start;
            Cue { span: Span { chars: from + inner.start..from + inner.end, bytes: cue } }
        };
        let cues = cues.into_iter().map(cue).collect();
        found.push(Clause { span, cues, conditional });
    }
    found
}

struct Word {
    lower: String,
    bytes: Range<usize>,
}

impl Word {
    fn is_figure(&self) -> bool {
        self.lower.starts_with(|c: char| c.is_ascii_digit())
    }
}

fn words(text: &str) -> Vec<Word> {
    // A word over this long is none of the lists'; lower-casing it would only cost.
    const LONGEST: usize = 32;
    text.unicode_word_indices()
        .map(|(at, word)| Word {
            lower: if word.len() > LONGEST { String::new() } else { word.to_lowercase().replace('’', "'") },
            bytes: at..at + word.len(),
        })
        .collect()
}

type Found = (Range<usize>, Vec<Range<usize>>, bool);

fn clause(text: &str, words: &[Word]) -> Option<Found> {
    let (first, last) = (words.first()?, words.last()?);
    let mut cues = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let denies = CUES.contains(&word.lower.as_str()) || word.lower.ends_with("n't");
        if !denies {
            continue;
        }
        let follow = |expected: &&[&str]| {
            expected
                .iter()
                .enumerate()
                .all(|(step, expected)| words.get(at + 1 + step).is_some_and(|word| word.lower == *expected))
        };
        let pseudo = PSEUDO.iter().any(|(cue, words)| *cue == word.lower && follow(words));
        // "No. 5" is a number; "non" counts before its hyphen.
        let after = text[word.bytes.end..].chars().next();
        let numbered =
            word.lower == "no" && after == Some('.') && words.get(at + 1).is_some_and(Word::is_figure);
        // "isn't it?": a question about what was said, at its end.
        let tag = word.lower.ends_with("n't") && at + 2 == words.len() && at > 0;
        if pseudo || numbered || (word.lower == "non" && after != Some('-')) || (tag && is_pronoun(words)) {
            continue;
        }
        cues.push(word.bytes.clone());
    }
    let conditional = words.iter().any(|word| CONDITIONS.contains(&word.lower.as_str()));
    Some((first.bytes.start..last.bytes.end, cues, conditional))
}

fn is_pronoun(words: &[Word]) -> bool {
    let last = words.last().map_or("", |word| word.lower.as_str());
    matches!(last, "it" | "you" | "they" | "he" | "she" | "we" | "i")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn denials_are_found() {
        for text in [
            "Shoes cannot be returned.",
            "You can't return shoes.",
            "We don’t ship to Norway.",
            "No refund is given.",
            "Gift cards are non-refundable.",
            "It is impossible to cancel.",
            "Schuhe können nicht zurückgegeben werden.",
            "Dafür gibt es keine Erstattung.",
            "Ohne Beleg geht es leider gar schlecht.",
            "We no longer ship there.",
        ] {
            assert!(is_negative(text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_denial_is_none() {
        for text in [
            "Shoes can be returned.",
            "Not only shoes can be returned.",
            "Return it no later than May 1.",
            "No problem, you can return it.",
            "See No. 5 of the terms.",
            "Nicht nur Schuhe, auch Socken nehmen wir zurück.",
            "It is not impossible to return it.",
            "It can be returned, isn't it?",
            "Notice the knot on the note.",
        ] {
            assert!(!is_negative(text), "{text}: {:?}", clauses(text));
        }
    }

    #[test]
    fn a_denial_turns_round_its_own_clause_alone() {
        let text = "If the seal is not broken, you can return it, but worn shoes cannot be returned.";
        let clauses = clauses(text);
        let said: Vec<(&str, bool)> =
            clauses.iter().map(|clause| (clause.span.of(text), clause.is_negative())).collect();
        assert_eq!(
            said,
            [
                ("If the seal is not broken", true),
                ("you can return it", false),
                ("but worn shoes cannot be returned", true),
            ]
        );
        assert_eq!(clauses[2].cues[0].span.of(text), "cannot");
        assert!(clauses[0].conditional && !clauses[1].conditional);
    }

    #[test]
    fn a_list_is_one_clause() {
        let text = "We do not take back socks, gloves, hats or scarves";
        assert_eq!(clauses(text).len(), 1);
    }

    proptest! {
        #[test]
        fn clauses_hold_every_word_in_order(text in r"(not |no |kein |but |, |\. |non-|don't |[a-zäß]{1,5} |\PC){0,30}") {
            let mut end = 0;
            let mut inside = 0;
            for clause in clauses(&text) {
                prop_assert!(clause.span.bytes.start >= end);
                end = clause.span.bytes.end;
                let said = text.get(clause.span.bytes.clone());
                prop_assert!(said.is_some());
                inside += said.map_or(0, |said| said.unicode_words().count());
                for cue in &clause.cues {
                    prop_assert!(cue.span.bytes.start >= clause.span.bytes.start && cue.span.bytes.end <= end);
                    prop_assert_eq!(text[..cue.span.bytes.start].chars().count(), cue.span.chars.start);
                }
            }
            prop_assert_eq!(inside, text.unicode_words().count());
        }
    }
}
