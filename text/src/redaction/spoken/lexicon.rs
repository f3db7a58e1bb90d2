//! The words of spoken numbers.

use std::sync::LazyLock;

use crate::redaction::lexicon::Lexicon;

/// What a word says in a spoken number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    /// A digit.
    Unit(u32),
    /// "oh", a zero among digits.
    Oh,
    /// 10 to 19.
    Teen(u32),
    /// 20 to 90.
    Tens(u32),
    /// "hundred"
    Hundred,
    /// "thousand"
    Thousand,
    /// "double", "triple": how often the next digit stands.
    Times(usize),
    /// "fourth", "twentieth": 1 to 31.
    Ordinal(u32),
}

/// Why a word makes the words around it worth a look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::redaction) enum Trigger {
    /// It is part of a number.
    Number,
    /// It is the @ of an address.
    At,
    /// It is the full stop of an address.
    Dot,
    /// It joins the parts of a mailbox's name.
    Joint,
}

/// Digits from zero to nine; more than English where a word is hardly anything else.
const UNITS: [&str; 10] = [
    "zero null cero nought naught zéro",
    "one eins uno",
    "two zwei zwo deux dos",
    "three drei trois tres",
    "four vier quatre cuatro",
    "five fünf fuenf cinq cinco",
    "six sechs seis",
    "seven sieben sept siete",
    "eight acht huit ocho",
    "nine neun neuf nueve niner",
];
const TEENS: &str = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen";
const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
const ORDINALS: &str = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth \
                        fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth";
const DOTS: &str = "dot punkt punto";
const ATS: &str = "at arroba";
const JOINTS: &str = "underscore hyphen dash";

static WORDS: LazyLock<Lexicon<Word>> = LazyLock::new(|| {
    let numbered = |words: &'static str, from: u32, step: u32, word: fn(u32) -> Word| {
        words.split_whitespace().zip(0..).map(move |(name, at)| (name, word(from + at * step)))
    };
    let units = UNITS
        .iter()
        .zip(0..)
        .flat_map(|(names, value)| names.split_whitespace().map(move |name| (name, Word::Unit(value))));
    units
        .chain(numbered(TEENS, 10, 1, Word::Teen))
        .chain(numbered(TENS, 20, 10, Word::Tens))
        .chain(numbered(ORDINALS, 1, 1, Word::Ordinal))
        .chain([
            ("oh", Word::Oh),
            ("o", Word::Oh),
            ("hundred", Word::Hundred),
            ("thousand", Word::Thousand),
            ("double", Word::Times(2)),
            ("triple", Word::Times(3)),
            ("treble", Word::Times(3)),
        ])
        .collect()
});

static TRIGGERS: LazyLock<Lexicon<Trigger>> = LazyLock::new(|| {
    let all = |words: &'static str, trigger| words.split(' ').map(move |word| (word, trigger));
    WORDS
        .words()
        .map(|word| (word, Trigger::Number))
        .chain(all(ATS, Trigger::At))
        .chain(all(DOTS, Trigger::Dot))
        .chain(all(JOINTS, Trigger::Joint))
        .collect()
});

/// The longest word of the tables, in bytes: "seventeenth".
const LONGEST: usize = 11;

/// What a word says, if it is one of a number.
pub(super) fn word(word: &str) -> Option<Word> {
    if word.len() > LONGEST { None } else { WORDS.of(word) }
}

/// Every word of a number, in lower case.
pub(super) fn words() -> impl Iterator<Item = (&'static str, Word)> {
    WORDS.words().filter_map(|word| Some((word, WORDS.get(word)?)))
}

/// Why words are worth a look, if they are.
pub(in crate::redaction) fn triggers() -> &'static Lexicon<Trigger> {
    &TRIGGERS
}
