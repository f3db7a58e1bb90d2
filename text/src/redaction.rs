//! Personal data in text: found by pattern, checksum and the words around, replaced by placeholders.
//!
//! [`find`] says where e-mail addresses, phone numbers, payment cards, IBANs, IP addresses, national
//! ids, dates of birth, account and record numbers and postal addresses stand, written or as they
//! were said ("four one five, double two ..."). [`Stream`] does the same for a text that is still
//! coming. [`redact`] replaces them by placeholders such as `[card-1]`, which stay the same for the same
//! value within a [`Pseudonyms`], that is, within a conversation; [`Pseudonyms::restore`] puts them
//! back. Names need a model: [`with_named`] takes what one found.
//!
//! A checksum makes a detector sure, so card numbers, IBANs and most national ids hardly ever cost
//! other numbers their meaning. Phone numbers have none: they are taken by their form (an
//! international prefix, a trunk zero, the North American 3-3-4) or by the words around them, and a
//! number that is called an order, an invoice or a ticket is left alone.
//!
//! Digits of any script, full-width letters, look-alike letters of other scripts and encoded
//! characters are read as plain ones, and what has no width as nothing; offsets are of the text as it was
//! written. A number may go on behind a line break.
//!
//! One pass over the bytes finds where a closer look pays, see the scanner; everything takes time
//! linear in the text.
//!
//! Text that already holds something like a placeholder cannot be mistaken for one of ours:
//! [`redact`] replaces it too, by `[literal-1]`, whose value is the text as written, and restoring
//! is a single pass. So raw text is redacted once; redacting the result again would hide the
//! placeholders themselves.

mod cards;
mod checks;
mod context;
mod dates;
mod kinds;
mod lexicon;
mod national;
mod numbers;
mod patterns;
mod placeholders;
mod plain;
mod postal;
mod pseudonyms;
mod records;
mod region;
mod scanner;
mod spoken;
mod stream;

use std::ops::Range;

pub use kinds::{Kind, Kinds};
pub use placeholders::{Placeholder, placeholders};
pub use pseudonyms::{Pseudonyms, Redacted, Replaced, Restored, redact, replace, without_placeholders};
pub use stream::{Piece, Stream};

use crate::span::{Span, Spans};

/// A piece of personal data in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
    /// How sure the detector is, in [0, 1]: 0.9 and above with a checksum or an unmistakable form,
    /// below 0.7 by the words around it.
    pub score: f32,
    /// Which detector found it, such as `us-ssn`; from a fixed set.
    pub detector: &'static str,
}

/// Finds personal data; in order, never overlapping. Takes time linear in the text.
#[must_use]
pub fn find(text: &str) -> Vec<Entity> {
    find_kinds(text, Kinds::PATTERNS)
}

/// Like [`find`], with [`Kind::Literal`] too: for raw text.
#[must_use]
pub fn find_with_literals(text: &str) -> Vec<Entity> {
    find_kinds(text, Kinds::ALL)
}

/// Finds personal data of some kinds; in order, never overlapping. What a [`Stream`] of the same kinds
/// finds in the same text, whatever its chunks.
#[must_use]
pub fn find_kinds(text: &str, kinds: Kinds) -> Vec<Entity> {
    let mut hits = Vec::new();
    scanner::Scanner::new(region::Detectors::new(kinds)).scan(text, true, &mut hits);
    let mut spans = Spans::new(text);
    hits.into_iter()
        .map(|Hit { bytes, kind, score, detector }| Entity { span: spans.next(bytes), kind, score, detector })
        .collect()
}

/// Adds what a model found, such as names of persons and places, to what [`find`] found: in order, not
/// overlapping. Where both overlap, what was found by its form stands, and of two from the model the one that
/// begins first; what is left of the other on either side of it is hidden all the same, as far as there are
/// letters or figures in it. A span that is empty or not of this text is left out.
#[must_use]
pub fn with_named(text: &str, found: Vec<Entity>, named: Vec<Entity>) -> Vec<Entity> {
    let mut named: Vec<Entity> = named
        .into_iter()
        .filter(|entity| text.get(entity.span.bytes.clone()).is_some_and(|written| !written.is_empty()))
        .collect();
    named.sort_by_key(|entity| (entity.span.bytes.start, std::cmp::Reverse(entity.span.bytes.end)));
    let mut all: Vec<Entity> = Vec::with_capacity(found.len() + named.len());
    let mut found = found.into_iter().peekable();
    for entity in named {
        let end = entity.span.bytes.end;
        let mut start = entity.span.bytes.start.max(all.last().map_or(0, |last| last.span.bytes.end));
        let part = |bytes: Range<usize>| {
            let written = text.get(bytes.clone())?;
            let from = bytes.start + (written.len() - written.trim_start().len());
            let bytes = from..from + written.trim().len();
            let says = written.contains(char::is_alphanumeric);
            says.then(|| Entity { span: Span { bytes, ..entity.span.clone() }, ..entity.clone() })
        };
        while let Some(earlier) = found.next_if(|next| next.span.bytes.start < end) {
            let taken = earlier.span.bytes.clone();
            all.extend(part(start..taken.start.max(start)));
            start = start.max(taken.end);
            all.push(earlier);
        }
        all.extend(part(start..end.max(start)));
    }
    all.extend(found);
    let mut spans = Spans::new(text);
    for entity in &mut all {
        entity.span = spans.next(entity.span.bytes.clone());
    }
    all
}

/// What a detector reports.
#[derive(Debug)]
struct Hit {
    bytes: Range<usize>,
    kind: Kind,
    score: f32,
    detector: &'static str,
}

#[cfg(test)]
mod tests;
