//! Placeholders for personal data, and the way back.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    fmt,
};

use super::{
    Entity, Kind, Placeholder, dates, find_with_literals,
    placeholders::replace_each,
    plain::Plain,
    spoken::{self, Written},
};

/// How many values are held unless told otherwise: more than a person gives away in a conversation.
const CAPACITY: usize = 200;

/// The placeholders of one conversation, with the values they stand for.
///
/// The same value, however it is spelt, has the same placeholder; restoring gives its first
/// spelling. Numbers are never used twice. Beyond its capacity the oldest value is forgotten: its
/// placeholders can no longer be restored, and should it come again it gets a new one. Prints
/// nothing of what it holds.
pub struct Pseudonyms {
    capacity: usize,
    first: u32,
    numbers: HashMap<(Kind, String), u32>,
    values: HashMap<(Kind, u32), Value>,
    last: HashMap<Kind, u32>,
    order: VecDeque<(Kind, u32)>,
}

struct Value {
    written: String,
    normal: String,
}

impl Default for Pseudonyms {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(***)")
    }
}

impl Pseudonyms {
    /// Holds at most `capacity` values, at least one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            first: 1,
            numbers: HashMap::new(),
            values: HashMap::new(),
            last: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Numbers the values of each kind from `first` on, 1 to 100,000,000; from 1 unless told so. For
    /// who may forget a whole conversation and begin it anew: with another first number, placeholders
    /// from before stand for nothing, and not for somebody else's value.
    #[must_use]
    pub fn starting_at(self, first: u32) -> Self {
        Self { first: first.clamp(1, 100_000_000), ..self }
    }

    /// How many values are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether a value was seen before and is still held.
    #[must_use]
    pub fn knows(&self, kind: Kind, value: &str) -> bool {
        self.numbers.contains_key(&(kind, normal(kind, value)))
    }

    /// The placeholder of a value; a new one for a value that is not held.
    pub fn placeholder(&mut self, kind: Kind, value: &str) -> String {
        let key = (kind, normal(kind, value));
        let number = match self.numbers.get(&key) {
            Some(&number) => number,
            None => self.insert(key, value),
        };
        Placeholder { kind, number }.to_string()
    }

    fn insert(&mut self, key: (Kind, String), value: &str) -> u32 {
        while self.values.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(forgotten) = self.values.remove(&oldest) {
                self.numbers.remove(&(oldest.0, forgotten.normal));
            }
        }
        let number = self.last.entry(key.0).or_insert(self.first - 1);
        *number += 1;
        let place = (key.0, *number);
        self.values.insert(place, Value { written: value.to_owned(), normal: key.1.clone() });
        self.order.push_back(place);
        self.numbers.insert(key, place.1);
        place.1
    }

    /// Takes up a value under the number that it had before, as when a conversation goes on after a restart.
    /// Later numbers of its kind are higher. Beyond the capacity the oldest value is forgotten.
    pub fn remember(&mut self, kind: Kind, number: u32, value: &str) {
        let last = self.last.get(&kind).copied().unwrap_or(self.first - 1);
        self.last.insert(kind, number.saturating_sub(1));
        self.insert((kind, normal(kind, value)), value);
        self.last.insert(kind, last.max(number));
    }

    /// Forgets a value, however it is spelt; whether it was held. Its number is not used again.
    pub fn forget(&mut self, kind: Kind, value: &str) -> bool {
        let Some(number) = self.numbers.remove(&(kind, normal(kind, value))) else { return false };
        self.values.remove(&(kind, number));
        self.order.retain(|place| *place != (kind, number));
        true
    }

    /// Forgets every value. Their numbers are not used again.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.values.clear();
        self.order.clear();
    }

    /// The spelling under which a value is known: two with the same one share a placeholder.
    #[must_use]
    pub fn spelling(kind: Kind, value: &str) -> String {
        normal(kind, value)
    }

    /// Puts values back in a single pass; a placeholder whose value is not held stays and is counted.
    #[must_use]
    pub fn restore(&self, text: &str) -> Restored {
        let (mut restored, mut missing) = (0, 0);
        let text = replace_each(text, |Placeholder { kind, number }| {
            let value = self.values.get(&(kind, number));
            match value {
                Some(_) => restored += 1,
                None => missing += 1,
            }
            value.map(|value| Cow::Borrowed(value.written.as_str()))
        });
        Restored { text, restored, missing }
    }
}

/// A redacted text as one would say it: `[card-1]` becomes "card". For searching, where the kind of a
/// value means something and its number nothing. What only looked like a placeholder goes.
#[must_use]
pub fn without_placeholders(text: &str) -> String {
    replace_each(text, |placeholder| {
        Some(match placeholder.kind {
            Kind::Literal => Cow::Borrowed(""),
            kind => kind.as_str().replace('-', " ").into(),
        })
    })
}

/// The spelling under which a value is known: without separators, case or extension marks, and the
/// same whether it was said or written.
fn normal(kind: Kind, value: &str) -> String {
    if kind == Kind::Literal {
        return value.to_owned();
    }
    let mut plain = Plain::default();
    let plain = plain.read(value).text;
    match kind {
        Kind::Literal | Kind::Ip => plain.to_lowercase(),
        Kind::Email => spoken::normal_email(plain),
        Kind::Phone => {
            let kept = |c: &char| c.is_ascii_digit() || matches!(c, '+' | 'x');
            Written::value(plain).to_lowercase().chars().filter(kept).collect()
        }
        Kind::DateOfBirth => dates::normal(&Written::value(plain)),
        Kind::Iban | Kind::Card | Kind::NationalId | Kind::Record => {
            let written = Written::value(plain);
            written.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
        }
        Kind::Address => {
            let written = Written::value(plain).to_lowercase();
            written.chars().filter(|c| c.is_alphanumeric()).collect()
        }
        Kind::Person | Kind::Place => {
            let words: Vec<String> = plain.split_whitespace().map(str::to_lowercase).collect();
            words.join(" ")
        }
    }
}

/// A text with placeholders.
#[derive(Debug)]
pub struct Redacted {
    /// The text.
    pub text: String,
    /// What was replaced, in order; offsets are into the original.
    pub replaced: Vec<Replaced>,
}

/// Something that was replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Replaced {
    /// What it was, and where.
    pub entity: Entity,
    /// What stands there now.
    pub placeholder: String,
}

/// A text with values put back. Prints nothing of the text.
pub struct Restored {
    /// The text.
    pub text: String,
    /// How many placeholders were replaced by their values.
    pub restored: usize,
    /// How many were left because their value is not held.
    pub missing: usize,
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text: _, restored, missing } = self;
        f.debug_struct("Restored")
            .field("restored", restored)
            .field("missing", missing)
            .finish_non_exhaustive()
    }
}

/// Replaces all personal data in a raw text, and what looks like a placeholder.
///
/// Restoring the result gives the text back, but for values that were spelt differently before.
pub fn redact(text: &str, pseudonyms: &mut Pseudonyms) -> Redacted {
    replace(text, find_with_literals(text), pseudonyms)
}

/// Replaces what was found in a text: in order and not overlapping, as [`super::find`] gives it.
/// [`redact`] does both for raw text; this is for who replaces only some of it.
///
/// # Panics
/// When something was not found in this text.
pub fn replace(text: &str, entities: Vec<Entity>, pseudonyms: &mut Pseudonyms) -> Redacted {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let mut replaced = Vec::with_capacity(entities.len());
    for entity in entities {
        let placeholder = pseudonyms.placeholder(entity.kind, entity.span.of(text));
        out.push_str(&text[from..entity.span.bytes.start]);
        out.push_str(&placeholder);
        from = entity.span.bytes.end;
        replaced.push(Replaced { entity, placeholder });
    }
    out.push_str(&text[from..]);
    Redacted { text: out, replaced }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_under_its_number_and_a_forgotten_one_under_another() {
        let mut pseudonyms = Pseudonyms::default().starting_at(20);
        pseudonyms.remember(Kind::Email, 7, "jo@home.de");
        assert_eq!(pseudonyms.placeholder(Kind::Email, "JO@home.de"), "[email-7]");
        assert_eq!(pseudonyms.restore("[email-7]").text, "jo@home.de");
        assert_eq!(pseudonyms.placeholder(Kind::Email, "al@home.de"), "[email-20]");
        assert!(
            pseudonyms.forget(Kind::Email, "Jo@home.de") && !pseudonyms.forget(Kind::Email, "jo@home.de")
        );
        assert_eq!(pseudonyms.restore("[email-7]").missing, 1);
        assert_eq!(pseudonyms.placeholder(Kind::Email, "jo@home.de"), "[email-21]");
        pseudonyms.clear();
        assert!(pseudonyms.is_empty());
        assert_eq!(pseudonyms.placeholder(Kind::Email, "jo@home.de"), "[email-22]");
    }

    #[test]
    fn a_search_reads_kinds_and_no_numbers() {
        let redacted = redact("Refund 4111 1111 1111 1111 and [card-9], please", &mut Pseudonyms::default());
        assert_eq!(without_placeholders(&redacted.text), "Refund card and , please");
    }
}
