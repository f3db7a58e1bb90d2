//! Text as a pattern should see it, with the way back to the text as written.
//!
//! [`Folded::new`] makes lower case of everything, takes marks off letters, drops what shows nothing, and
//! makes plain letters of those that only look different. What is hidden deeper is a view of its own, made
//! from the folded text: letters spaced out ([`Folded::joined`]), figures for letters
//! ([`Folded::unleeted`]), text backwards or rotated, invisible tags, and encodings
//! ([`Folded::decoded`]). [`Folded::origin`] gives the place in the text as written of a stretch of any of
//! them.

mod confusables;
mod encodings;

use std::ops::Range;

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use crate::clean::is_hidden;

/// How much of a text is folded, in bytes; no message or passage is that long.
pub const MAX_BYTES: usize = 16 << 20;

/// The least number of single letters in a row that are read as a word spaced out.
const FEWEST_LETTERS: usize = 4;

/// A folded text; each of its characters knows where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    text: String,
    /// For each byte of `text`, where the character that it comes from begins and ends.
    origins: Vec<(u32, u32)>,
}

impl Folded {
    /// Folds a text. What lies beyond [`MAX_BYTES`] is left out.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut length = text.len().min(MAX_BYTES);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let text = &text[..length];
        let latin = confusables::is_mostly_latin(text);
        let mut folded = Self { text: String::with_capacity(length), origins: Vec::with_capacity(length) };
        let mut word = confusables::Word::default();
        for (at, c) in text.char_indices() {
            let origin = at..at + c.len_utf8();
            if is_invisible(c) {
                continue;
            }
            let mut letter = |c: char| {
                if c.is_alphabetic() {
                    word.letters.push((c, origin.clone()));
                } else if !is_combining_mark(c) {
                    word.flush(latin, &mut folded);
                    folded.push(c, &origin);
                }
            };
            if c.is_ascii() {
                letter(c);
            } else if let Some(c) = confusables::enclosed(c) {
                letter(c);
            } else {
                decompose_compatible(c, letter);
            }
        }
        word.flush(latin, &mut folded);
        folded
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where a stretch of the folded text, given in bytes, stands in the text as written. An empty or
    /// foreign stretch gives an empty place.
    #[must_use]
    pub fn origin(&self, bytes: Range<usize>) -> Range<usize> {
        let places = self.origins.get(bytes).unwrap_or_default();
        let start = places.iter().map(|place| place.0).min().unwrap_or(0);
        let end = places.iter().map(|place| place.1).max().unwrap_or(0);
        start as usize..end as usize
    }

    fn push(&mut self, c: char, origin: &Range<usize>) {
        self.text.push(c);
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        self.origins.extend(std::iter::repeat_n((place(origin.start), place(origin.end)), c.len_utf8()));
    }

    /// Its characters, with where each comes from.
    fn characters(&self) -> impl DoubleEndedIterator<Item = (char, Range<usize>)> {
        self.text.char_indices().map(|(at, c)| {
            let (start, end) = self.origins[at];
            (c, start as usize..end as usize)
        })
    }

    fn mapped(&self, characters: impl Iterator<Item = (char, Range<usize>)>) -> Self {
        let mut view = Self {
            text: String::with_capacity(self.text.len()),
            origins: Vec::with_capacity(self.text.len()),
        };
        for (c, origin) in characters {
            view.push(c, &origin);
        }
        view
    }

    /// The text with words put together that were written letter by letter (`i g n o r e`, `i.g.n.o.r.e`)
    /// or with marks inside (`ig_no*re`). Two spaces, or a mark of another kind, part spaced-out words.
    /// `None` when nothing changes.
    #[must_use]
    pub fn joined(&self) -> Option<Self> {
        let characters: Vec<char> = self.text.chars().collect();
        let mut dropped = vec![false; characters.len()];
        let at = |place: usize| characters.get(place).copied().unwrap_or(' ');
        let mut place = 0;
        while place < characters.len() {
            // A run of letter, separator, letter, separator, ...; a word's edge on both sides.
            let alone = place == 0 || !at(place - 1).is_alphanumeric();
            if alone && at(place).is_alphanumeric() {
                let separator = at(place + 1);
                let mut last = place;
                let mut letters = 1;
                while is_separator(separator)
                    && at(last + 1) == separator
                    && at(last + 2).is_alphanumeric()
                    && !at(last + 3).is_alphanumeric()
                {
                    last += 2;
                    letters += 1;
                }
                if letters >= FEWEST_LETTERS {
                    (place..last).filter(|at| (at - place) % 2 == 1).for_each(|at| dropped[at] = true);
                }
                place = last + 1;
                continue;
            }
            // A lone mark between two letters.
            let inside = matches!(at(place), '_' | '*' | '-' | '.' | '|' | '~' | '^' | '+' | '\u{b7}');
            if inside && place > 0 && at(place - 1).is_alphabetic() && at(place + 1).is_alphabetic() {
                dropped[place] = true;
            }
            place += 1;
        }
        if !dropped.contains(&true) {
            return None;
        }
        let kept = self.characters().zip(dropped).filter(|(_, dropped)| !dropped);
        Some(self.mapped(kept.map(|(character, _)| character)))
    }

    /// The text with letters for the figures and signs that stand for them within words; `one` is what
    /// `1`, `!` and `|` stand for, `i` or `l`. `None` when nothing changes.
    #[must_use]
    pub fn unleeted(&self, one: char) -> Option<Self> {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '@' | '$' | '!' | '|');
        let mut changes: Vec<(usize, char)> = Vec::new();
        let mut at = 0;
        for word in self.text.split(|c| !is_word(c)) {
            // "30" is a number and "$30" a price; "!" at the end of a word is a cry.
            if word.contains(char::is_alphabetic) {
                let inner = word.trim_end_matches(|c: char| !c.is_alphanumeric());
                let meant = inner.char_indices().map(|(place, c)| (at + place, c, unleeted(c, one)));
                changes.extend(meant.filter(|(_, c, meant)| c != meant).map(|(at, _, meant)| (at, meant)));
            }
            at += word.len();
            at += self.text[at..].chars().next().map_or(0, char::len_utf8);
        }
        let mut changes = changes.into_iter().peekable();
        changes.peek()?;
        let places = self.text.char_indices().map(|(at, _)| at);
        Some(self.mapped(self.characters().zip(places).map(|((c, origin), at)| {
            (changes.next_if(|change| change.0 == at).map_or(c, |change| change.1), origin)
        })))
    }

    /// The text backwards.
    #[must_use]
    pub fn reversed(&self) -> Self {
        self.mapped(self.characters().rev())
    }

    /// The text with its letters thirteen places on, as rot13 does.
    #[must_use]
    pub fn rotated(&self) -> Self {
        let turn = |c: char| match c {
            'a'..='z' => char::from(b'a' + (c as u8 - b'a' + 13) % 26),
            _ => c,
        };
        self.mapped(self.characters().map(|(c, origin)| (turn(c), origin)))
    }
}

/// What shows nothing: controls, format characters, variation selectors. White space stays.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}') || is_hidden(c) || (c.is_control() && !c.is_whitespace())
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '.' | '-' | '_' | '*' | '/' | '|' | ',' | '~' | '+')
}

fn unleeted(c: char, one: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        '8' => 'b',
        '9' => 'g',
        _ => c,
    }
}

/// The text that invisible tag characters spell, which no person sees and a language model reads; `None`
/// where there are none. The tags of flag emoji are too few to say anything.
#[must_use]
pub fn tags(text: &str) -> Option<Folded> {
    let mut view = Folded::default();
    for (at, c) in text.char_indices() {
        if let Some(plain) = u32::from(c).checked_sub(0xe0000).and_then(char::from_u32)
            && (' '..='~').contains(&plain)
        {
            view.push(plain.to_ascii_lowercase(), &(at..at + c.len_utf8()));
        }
    }
    (!view.text.is_empty()).then_some(view)
}

#[cfg(test)]
mod tests;
