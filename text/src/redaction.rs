//! Personal data in text: found by pattern and checksum, replaced by placeholders.
//!
//! [`find`] says where e-mail addresses, phone numbers, payment cards, IBANs, IP addresses and
//! national ids stand. [`redact`] replaces them by placeholders such as `[card-1]`, which stay the
//! same for the same value within a [`Pseudonyms`], that is, within a conversation;
//! [`Pseudonyms::restore`] puts them back. Names and street addresses need a model and are not found
//! here.
//!
//! A checksum makes a detector sure, so card numbers, IBANs and most national ids hardly ever cost
//! other numbers their meaning. Phone numbers have none: they are taken by their form (an
//! international prefix, a trunk zero, the North American 3-3-4) or by the words before them, and a
//! number that is called an order, an invoice or a ticket is left alone.
//!
//! Full-width letters, digits and marks, as East Asian keyboards write them, are read as plain ones.
//!
//! Text that already holds something like a placeholder cannot be mistaken for one of ours:
//! [`redact`] replaces it too, by `[literal-1]`, whose value is the text as written, and restoring
//! is a single pass. So raw text is redacted once; redacting the result again would hide the
//! placeholders themselves.

mod checks;
mod context;
mod numbers;
mod patterns;
mod pseudonyms;

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

pub use pseudonyms::{Pseudonyms, Redacted, Replaced, Restored, redact, replace, without_placeholders};

use crate::span::{Span, Spans};

/// What a piece of personal data is. The order is that of precedence: where two overlap, the first
/// of this list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Text that looks like a placeholder; no personal data, see the module's documentation.
    Literal,
    /// An e-mail address.
    Email,
    /// An international bank account number.
    Iban,
    /// A payment card number.
    Card,
    /// A number that a state gave to a person.
    NationalId,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A phone number.
    Phone,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Literal, Self::Email, Self::Iban, Self::Card, Self::NationalId, Self::Ip, Self::Phone];

    /// The name in placeholders, findings and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::NationalId => "national-id",
            Self::Ip => "ip",
            Self::Phone => "phone",
        }
    }

    /// Whether it identifies a person or their money whoever wrote it. Contact details do not: a
    /// company's own stand in its documents.
    #[must_use]
    pub fn is_always_private(self) -> bool {
        matches!(self, Self::Iban | Self::Card | Self::NationalId)
    }
}

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
    let plain = plain(text);
    in_text(text, &plain, in_order(&plain, hits(&plain)))
}

/// Like [`find`], with [`Kind::Literal`] too: for raw text.
#[must_use]
pub fn find_with_literals(text: &str) -> Vec<Entity> {
    let plain = plain(text);
    let mut hits = hits(&plain);
    patterns::literals(&plain, &mut hits);
    in_text(text, &plain, in_order(&plain, hits))
}

/// The text with full-width characters (Unicode block Halfwidth and Fullwidth Forms) as ASCII; each
/// character stays one character.
fn plain(text: &str) -> Cow<'_, str> {
    let narrow = |c| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xff01 + 0x21).unwrap_or(c),
        '\u{3000}' => ' ',
        _ => c,
    };
    if text.chars().all(|c| narrow(c) == c) { text.into() } else { text.chars().map(narrow).collect() }
}

/// Gives what was found in the [`plain`] form of a text its place in the text as written.
fn in_text(text: &str, plain: &str, mut entities: Vec<Entity>) -> Vec<Entity> {
    if text.len() != plain.len() {
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for Span { chars, bytes } in entities.iter_mut().map(|entity| &mut entity.span) {
            *bytes = starts[chars.start]..starts[chars.end];
        }
    }
    entities
}

/// What a detector reports, before overlaps are resolved.
struct Hit {
    bytes: Range<usize>,
    kind: Kind,
    score: f32,
    detector: &'static str,
}

fn hits(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    patterns::emails(text, &mut hits);
    patterns::ibans(text, &mut hits);
    patterns::addresses(text, &mut hits);
    patterns::national_ids(text, &mut hits);
    numbers::find(text, &mut hits);
    hits
}

/// Keeps, of hits that overlap, the most specific kind, then the longest, then the first.
fn in_order(text: &str, mut hits: Vec<Hit>) -> Vec<Entity> {
    hits.sort_by_key(|hit| (hit.kind, std::cmp::Reverse(hit.bytes.len()), hit.bytes.start));
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for hit in hits {
        // What is kept does not overlap, so only the last one that begins before the end can reach in.
        let free = kept
            .range(..hit.bytes.end)
            .next_back()
            .is_none_or(|(_, before)| before.bytes.end <= hit.bytes.start);
        if free {
            kept.insert(hit.bytes.start, hit);
        }
    }
    let mut spans = Spans::new(text);
    kept.into_values()
        .map(|Hit { bytes, kind, score, detector }| Entity { span: spans.next(bytes), kind, score, detector })
        .collect()
}

#[cfg(test)]
mod tests;
