//! What was said aloud, as speech recognisers write it: numbers in words, addresses spelled out.
//!
//! [`Written`] is a text with its spoken numbers in digits, on which the detectors of written numbers
//! run. [`emails()`] finds mailboxes given as "jay at acme dot com" or "j o h n underscore doe at ...".

mod emails;
mod lexicon;

use std::ops::Range;

pub(super) use emails::{emails, normal as normal_email};
pub(super) use lexicon::{Trigger, triggers};
use lexicon::{Word, word};

use super::{dates, plain::View};

/// How many words and digits in a row make a spoken number.
const MIN_ELEMENTS: usize = 3;

/// A text with its spoken numbers in digits. Empty buffers are kept from one use to the next.
#[derive(Default)]
pub(super) struct Written {
    text: String,
    places: Vec<(u32, u32)>,
    /// What was rewritten, in offsets of the text.
    touched: Vec<Range<usize>>,
    elements: Vec<Element>,
}

/// A part of a spoken number.
struct Element {
    /// Where it was said.
    place: Range<usize>,
    /// Its digits, or a letter.
    value: Value,
    /// Whether it was a word, or a digit by itself.
    spoken: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    Number(u32, usize),
    Letter(u8),
}

impl Written {
    /// Reads a text from byte `from` on; says whether anything in it was spoken.
    pub(super) fn read(&mut self, text: &str, from: usize) -> bool {
        self.rewrite(text, from, MIN_ELEMENTS)
    }

    /// The same for a text that is one value.
    pub(super) fn value(text: &str) -> String {
        let mut written = Self::default();
        if written.rewrite(text, 0, 1) { written.text } else { text.to_owned() }
    }

    /// Says whether there was anything to rewrite; if not, there is no text.
    fn rewrite(&mut self, text: &str, from: usize, least: usize) -> bool {
        self.text.clear();
        self.places.clear();
        self.touched.clear();
        let bytes = text.as_bytes();
        let mut copied = 0;
        let mut at = from;
        while at < bytes.len() {
            if !bytes[at].is_ascii_alphanumeric() {
                at += 1;
                continue;
            }
            if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] >= 0x80) {
                at += 1;
                continue;
            }
            let end = self.run(text, at);
            let spoken = self.elements.iter().filter(|element| element.spoken).count();
            let numbers = self.elements.iter().filter(|e| matches!(e.value, Value::Number(..))).count();
            let ordinal =
                self.elements.len() == 1 && spoken == 1 && near_month(text, &self.elements[0].place);
            let year = numbers > 0
                && spoken > 0
                && self.elements.iter().any(|element| matches!(element.value, Value::Number(_, 4)));
            if (spoken >= least && numbers > 0) || ordinal || year {
                self.copy(text, copied..at);
                copied = self.put(end);
            }
            at = end.max(at + 1);
        }
        if self.touched.is_empty() {
            return false;
        }
        self.copy(text, copied..bytes.len());
        true
    }

    pub(super) fn view(&self) -> View<'_> {
        View::mapped(&self.text, &self.places)
    }

    /// Whether something that was found in the text is in what was spoken.
    pub(super) fn touched(&self, range: &Range<usize>) -> bool {
        let at = self.touched.partition_point(|touched| touched.end <= range.start);
        self.touched.get(at).is_some_and(|touched| touched.start < range.end)
    }

    fn copy(&mut self, text: &str, range: Range<usize>) {
        let copied = &text[range.clone()];
        self.text.push_str(copied);
        for (at, c) in copied.char_indices() {
            let (start, end) = (range.start + at, range.start + at + c.len_utf8());
            self.places.extend(std::iter::repeat_n((start as u32, end as u32), c.len_utf8()));
        }
    }

    fn push(&mut self, c: char, place: Range<usize>) {
        self.text.push(c);
        self.places.resize(self.text.len(), (place.start as u32, place.end as u32));
    }

    /// Writes the elements; returns where the last one ended.
    fn put(&mut self, end: usize) -> usize {
        let start = self.text.len();
        let elements = std::mem::take(&mut self.elements);
        for (at, element) in elements.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| &elements[at]);
            if let Some(before) = before
                && matches!((before.value, element.value), (Value::Number(..), Value::Number(..)))
            {
                self.push(' ', before.place.end..element.place.start.max(before.place.end));
            }
            match element.value {
                Value::Letter(letter) => self.push(char::from(letter), element.place.clone()),
                Value::Number(value, digits) => {
                    for place in (0..digits as u32).rev() {
                        let digit = value / 10u32.pow(place) % 10;
                        self.push(char::from(b'0' + digit as u8), element.place.clone());
                    }
                }
            }
        }
        self.touched.push(start..self.text.len());
        self.elements = elements;
        end
    }

    /// Reads the elements of the number that begins at byte `at`; returns where they end.
    fn run(&mut self, text: &str, at: usize) -> usize {
        self.elements.clear();
        let mut tokens = Tokens { text, at };
        let mut end = at;
        while let Some(token) = tokens.next() {
            let gap = &text[end..token.start];
            if !self.elements.is_empty() && !pause(gap) {
                break;
            }
            let Some((value, stop, spoken)) = tokens.element(token.clone(), &self.elements) else { break };
            self.elements.push(Element { place: token.start..stop, value, spoken });
            end = stop;
            tokens.at = stop;
        }
        self.trim();
        self.elements.last().map_or(end, |last| last.place.end)
    }

    /// Leaves out letters that are words of their own: "a", "I", one letter before or behind.
    fn trim(&mut self) {
        let letter = |element: &Element| match element.value {
            Value::Letter(letter) => Some(letter.to_ascii_lowercase()),
            Value::Number(..) => None,
        };
        let head = self.elements.iter().take_while(|element| letter(element).is_some()).count();
        let common = |l: u8| matches!(l, b'a' | b'i' | b'u' | b'r' | b'o' | b's');
        if head == 1 && self.elements.first().and_then(letter).is_some_and(common) {
            self.elements.remove(0);
        }
        let coded = self.elements.first().and_then(letter).is_some();
        let tail = self.elements.iter().rev().take_while(|element| letter(element).is_some()).count();
        if tail == 1 && !coded && self.elements.last().and_then(letter).is_some_and(common) {
            self.elements.pop();
        }
    }
}

/// What may stand between the parts of a spoken number.
fn pause(gap: &str) -> bool {
    gap.len() <= 3 && gap.bytes().all(|byte| matches!(byte, b' ' | b',' | b'-' | b'.' | b'\n')) && gap != "."
        || matches!(gap, " ... " | "... ")
}

/// Whether the name of a month stands beside an ordinal: "july fourth", "fourth of july".
fn near_month(text: &str, place: &Range<usize>) -> bool {
    let month = |(_, word): (usize, &str)| dates::month(word).is_some();
    super::context::words_before(text, place.start).take(1).any(month)
        || super::context::words_after(text, place.end).take(2).any(month)
}

/// The words of letters or of digits of a text.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let start =
            self.at + bytes[self.at..].iter().position(|b| b.is_ascii_alphanumeric() || *b >= 0x80)?;
        let digit = bytes[start].is_ascii_digit();
        let same = |b: &&u8| if digit { b.is_ascii_digit() } else { b.is_ascii_alphabetic() || **b >= 0x80 };
        let end = start + bytes[start..].iter().take_while(same).count();
        self.at = end;
        Some(start..end)
    }

    /// The word behind byte `at`, when hardly anything is between.
    fn word_at(&self, at: usize) -> Option<(Word, Range<usize>)> {
        let mut tokens = Tokens { text: self.text, at };
        let next = tokens.next()?;
        let near = matches!(&self.text[at..next.start], " " | "-" | " - " | "  ");
        (near && !glued(self.text, &next)).then(|| word(&self.text[next.clone()]).map(|word| (word, next)))?
    }

    /// Reads one element that begins with a token: its value, where it ends, whether it was spoken.
    fn element(&self, token: Range<usize>, before: &[Element]) -> Option<(Value, usize, bool)> {
        let text = &self.text[token.clone()];
        if glued(self.text, &token) {
            return None;
        }
        let bytes = text.as_bytes();
        if bytes[0].is_ascii_digit() {
            return (bytes.len() <= 9).then(|| {
                let value = text.parse().unwrap_or(0);
                (Value::Number(value, bytes.len()), token.end, bytes.len() == 1)
            });
        }
        let in_number = before.last().is_some_and(|last| matches!(last.value, Value::Number(..)));
        if let Some(word) = word(text) {
            match word {
                Word::Unit(value) => return Some(self.after_unit(value, token.end, before)),
                Word::Teen(value) | Word::Tens(value) => {
                    return Some(self.after_tens(word, value, token.end));
                }
                Word::Times(times) => {
                    let (next, place) = self.word_at(token.end).or_else(|| self.digit_at(token.end))?;
                    let Word::Unit(digit) = next else { return None };
                    let value = (0..times).fold(0, |value, _| value * 10 + digit);
                    return Some((Value::Number(value, times), place.end, true));
                }
                Word::Ordinal(value) => {
                    let digits = if value > 9 { 2 } else { 1 };
                    return (before.is_empty() || in_number).then_some((
                        Value::Number(value, digits),
                        token.end,
                        true,
                    ));
                }
                Word::Oh if in_number || self.before_number(token.end) => {
                    return Some((Value::Number(0, 1), token.end, true));
                }
                Word::Oh | Word::Hundred | Word::Thousand => {}
            }
        }
        (bytes.len() == 1 && bytes[0].is_ascii_alphabetic()).then_some((
            Value::Letter(bytes[0]),
            token.end,
            false,
        ))
    }

    /// "two thousand four", "four hundred", "four".
    fn after_unit(&self, value: u32, end: usize, before: &[Element]) -> (Value, usize, bool) {
        match self.word_at(end) {
            Some((Word::Thousand, place)) if value == 1 || value == 2 => {
                let and = self.text[place.end..].strip_prefix(" and").map_or(place.end, |_| place.end + 4);
                let (rest, end) = match self.word_at(and) {
                    Some((Word::Unit(unit), place)) => (unit, place.end),
                    Some((Word::Teen(rest), place)) => (rest, place.end),
                    Some((Word::Tens(tens), place)) => match self.word_at(place.end) {
                        Some((Word::Unit(unit), place)) if unit > 0 => (tens + unit, place.end),
                        _ => (tens, place.end),
                    },
                    _ => (0, place.end),
                };
                (Value::Number(value * 1000 + rest, 4), end, true)
            }
            Some((Word::Hundred, place)) if value > 0 => (Value::Number(value * 100, 3), place.end, true),
            _ => {
                let _ = before;
                (Value::Number(value, 1), end, true)
            }
        }
    }

    /// "nineteen eighty four", "twenty oh four", "forty two".
    fn after_tens(&self, word: Word, value: u32, end: usize) -> (Value, usize, bool) {
        let two = |at: usize| match self.word_at(at) {
            Some((Word::Teen(teen), place)) => Some((teen, place.end)),
            Some((Word::Tens(tens), place)) => match self.word_at(place.end) {
                Some((Word::Unit(unit), place)) if unit > 0 => Some((tens + unit, place.end)),
                _ => Some((tens, place.end)),
            },
            _ => None,
        };
        if (18..=20).contains(&value) {
            if let Some((rest, end)) = two(end) {
                return (Value::Number(value * 100 + rest, 4), end, true);
            }
            if let Some((Word::Oh, place)) = self.word_at(end)
                && let Some((Word::Unit(unit), place)) = self.word_at(place.end)
            {
                return (Value::Number(value * 100 + unit, 4), place.end, true);
            }
        }
        match (word, self.word_at(end)) {
            (Word::Tens(_), Some((Word::Unit(unit), place))) if unit > 0 => {
                (Value::Number(value + unit, 2), place.end, true)
            }
            (Word::Tens(_), Some((Word::Ordinal(unit), place))) if unit < 10 => {
                (Value::Number(value + unit, 2), place.end, true)
            }
            (_, Some((Word::Hundred, place))) => (Value::Number(value * 100, 4), place.end, true),
            _ => (Value::Number(value, 2), end, true),
        }
    }

    fn digit_at(&self, at: usize) -> Option<(Word, Range<usize>)> {
        let mut tokens = Tokens { text: self.text, at };
        let next = tokens.next()?;
        let digit = self.text[next.clone()].parse().ok().filter(|_| next.len() == 1)?;
        (&self.text[at..next.start] == " ").then_some((Word::Unit(digit), next))
    }

    fn before_number(&self, at: usize) -> bool {
        self.word_at(at).or_else(|| self.digit_at(at)).is_some_and(|(word, _)| {
            matches!(word, Word::Unit(_) | Word::Teen(_) | Word::Tens(_) | Word::Times(_) | Word::Oh)
        })
    }
}

/// Whether a token is a part of a longer word.
fn glued(text: &str, token: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let part = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'\'' | b'_') || *b >= 0x80)
    };
    token.start.checked_sub(1).is_some_and(|at| part(bytes.get(at))) || part(bytes.get(token.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut written = Written::default();
        if written.read(text, 0) { written.text } else { text.to_owned() }
    }

    #[test]
    fn spoken_numbers_are_written_in_digits() {
        for (spoken, expected) in [
            ("call four one five, double two five oh", "call 4 1 5 22 5 0"),
            ("it is double five one", "it is double five one"),
            ("it is triple five one two three", "it is 555 1 2 3"),
            ("born july fourth nineteen eighty four", "born july 4 1984"),
            ("born on the fourth of july two thousand and four", "born on the 4 of july 2004"),
            ("twenty oh four was good", "2004 was good"),
            ("a b one two three four five six c", "ab1 2 3 4 5 6c"),
            ("one eight hundred five five five", "1 800 5 5 5"),
            ("no one wants one of these", "no one wants one of these"),
            ("oh no, I have one", "oh no, I have one"),
            ("4 1 5 5 five", "4 1 5 5 5"),
            ("null eins sieben zwo", "0 1 7 2"),
        ] {
            assert_eq!(written(spoken), expected, "{spoken:?}");
        }
    }
}
