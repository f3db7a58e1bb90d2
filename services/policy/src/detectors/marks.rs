//! What is told by characters rather than words: marks of chat formats, masked foul words, phrases without
//! their spaces, and the words that tell which hidden views of a text are worth a look.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use switchboard_text::fold::Folded;

use super::{injection, profanity};

/// What a mark tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A mark of a chat format.
    Format,
    /// A foul word with letters masked.
    Masked,
    /// A telling word written backwards.
    Backwards,
    /// A telling word rotated.
    Rotated,
}

/// All marks in one automaton, and the phrases without spaces in another.
#[derive(Debug)]
pub(super) struct Marks {
    marks: AhoCorasick,
    told: Vec<Told>,
    squeezed: AhoCorasick,
}

impl Marks {
    pub(super) fn new() -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut told = Vec::new();
        let mut add = |list: &mut dyn Iterator<Item = String>, tells: Told| {
            for word in list {
                words.push(word);
                told.push(tells);
            }
        };
        let telling = || injection::TELLING.iter().map(|word| Folded::new(word));
        add(&mut injection::MARKS.iter().map(|mark| (*mark).to_owned()), Told::Format);
        add(&mut profanity::MASKED.iter().map(|mark| (*mark).to_owned()), Told::Masked);
        add(&mut telling().map(|word| word.reversed().as_str().to_owned()), Told::Backwards);
        add(&mut telling().map(|word| word.rotated().as_str().to_owned()), Told::Rotated);
        let automaton = |words: &[String]| {
            let mut builder = AhoCorasickBuilder::new();
            builder.match_kind(MatchKind::LeftmostLongest);
            builder.build(words).expect("the tables are far smaller than what an automaton can hold")
        };
        let squeezed: Vec<String> = injection::SQUEEZED.iter().map(|phrase| (*phrase).to_owned()).collect();
        Self { marks: automaton(&words), told, squeezed: automaton(&squeezed) }
    }

    /// Marks in a folded text, in order.
    pub(super) fn find(&self, text: &str) -> impl Iterator<Item = (Told, Range<usize>)> {
        let found = self.marks.find_iter(text.as_bytes());
        found.map(|found| (self.told[found.pattern().as_usize()], found.range()))
    }

    /// Phrases in a folded text whatever white space and marks stand within them, at most `most`.
    pub(super) fn squeezed(&self, text: &str, most: usize) -> Vec<Range<usize>> {
        let mut letters = String::with_capacity(text.len());
        // For each byte of `letters` its place in the text.
        let mut places: Vec<usize> = Vec::with_capacity(text.len());
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()) {
            letters.push(char::from(byte));
            places.push(at);
        }
        let found = self.squeezed.find_iter(&letters).take(most);
        found.map(|found| places[found.start()]..places[found.end() - 1] + 1).collect()
    }
}
