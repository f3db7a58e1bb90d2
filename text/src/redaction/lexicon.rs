//! Words, each with what it means: looked up in a few nanoseconds.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Words and what they mean. The words are known beforehand, so nobody can choose them to collide.
pub(super) struct Lexicon<T> {
    words: HashMap<&'static str, T, BuildHasherDefault<Fnv>>,
    filter: Filter,
}

impl<T: Copy> Lexicon<T> {
    /// What a word in lower case means.
    pub(super) fn get(&self, lower: &str) -> Option<T> {
        self.may_hold(key(lower.as_bytes())).then(|| self.words.get(lower).copied())?
    }

    /// What a word in any case means.
    pub(super) fn of(&self, word: &str) -> Option<T> {
        // Other letters may change their length with their case.
        if word.is_ascii() && !self.may_hold(key(word.as_bytes())) {
            return None;
        }
        self.words.get(Lower::of(word)?.as_str()).copied()
    }

    /// Whether there can be a word with this [`key`]: the answer is no for nearly all others.
    pub(super) fn may_hold(&self, key: u64) -> bool {
        self.filter.may_hold(key)
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &'static str> {
        self.words.keys().copied()
    }
}

impl<T> FromIterator<(&'static str, T)> for Lexicon<T> {
    fn from_iter<I: IntoIterator<Item = (&'static str, T)>>(words: I) -> Self {
        let words: HashMap<_, _, _> = words.into_iter().collect();
        let mut filter = Filter([0; 128]);
        words.keys().for_each(|word| filter.add(key(word.as_bytes())));
        Self { words, filter }
    }
}

/// A set of keys that says no after one multiplication.
struct Filter([u64; 128]);

impl Filter {
    fn place(key: u64) -> (usize, u32) {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51;
        ((hash >> 6) as usize & 127, (hash & 63) as u32)
    }

    fn add(&mut self, key: u64) {
        let (word, bit) = Self::place(key);
        self.0[word] |= 1 << bit;
    }

    #[inline]
    fn may_hold(&self, key: u64) -> bool {
        let (word, bit) = Self::place(key);
        self.0[word] >> bit & 1 == 1
    }
}

/// A word's first eight bytes with its length, the same in either case.
#[inline]
pub(super) fn key(word: &[u8]) -> u64 {
    let length = word.len();
    // The first and the last bytes of a short word overlap in what they share.
    let eight = match (word.first_chunk::<8>(), word.first_chunk::<4>(), word.last_chunk::<4>()) {
        (Some(eight), ..) => u64::from_le_bytes(*eight),
        (_, Some(first), Some(last)) => {
            let last = u64::from(u32::from_le_bytes(*last));
            u64::from(u32::from_le_bytes(*first)) | last << (8 * (length - 4))
        }
        _ => word.iter().rev().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte)),
    };
    key_of(eight, length)
}

/// The same of the eight bytes that a word of a length begins with, whatever stands behind it.
#[inline]
pub(super) fn key_of(eight: u64, length: usize) -> u64 {
    let kept = if length >= 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
    ((eight | 0x2020_2020_2020_2020) & kept) ^ ((length as u64) << 56)
}

/// FNV-1a, eight bytes at a time: for short keys faster than the standard library's.
#[derive(Default)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let eight = chunk.iter().fold(0, |eight, &byte| eight << 8 | u64::from(byte));
            self.0 = (self.0 ^ eight).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 ^= self.0 >> 29;
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The longest word of any table, in bytes, and a little more.
pub(super) const WORD_BYTES: usize = 32;

/// A word in lower case: itself, or in a buffer on the stack.
pub(super) enum Lower<'t> {
    Itself(&'t str),
    Made([u8; WORD_BYTES], usize),
}

impl<'t> Lower<'t> {
    /// `None` when the word is longer than any of interest.
    pub(super) fn of(word: &'t str) -> Option<Self> {
        let mut bytes = [0; WORD_BYTES];
        if word.len() <= WORD_BYTES {
            if word.bytes().all(|byte| byte < 0x80 && !byte.is_ascii_uppercase()) {
                return Some(Self::Itself(word));
            }
            let mut seen = 0;
            // Words are short: a call to copy one costs more than this.
            for (to, &from) in bytes.iter_mut().zip(word.as_bytes()) {
                *to = from.to_ascii_lowercase();
                seen |= from;
            }
            if seen < 0x80 {
                return Some(Self::Made(bytes, word.len()));
            }
        }
        let mut length = 0;
        for c in word.chars().flat_map(char::to_lowercase) {
            let end = length + c.len_utf8();
            c.encode_utf8(bytes.get_mut(length..end)?);
            length = end;
        }
        Some(Self::Made(bytes, length))
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Itself(word) => word,
            Self::Made(bytes, length) => std::str::from_utf8(&bytes[..*length]).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_any_case_and_nothing_else_is() {
        let words = ["o", "at", "one", "four", "seven", "straße", "telefoon", "burgerservicenummer"];
        let lexicon: Lexicon<usize> = words.into_iter().zip(0..).collect();
        for (word, at) in words.into_iter().zip(0..) {
            assert_eq!(lexicon.get(word), Some(at), "{word}");
            assert_eq!(lexicon.of(word), Some(at), "{word}");
            let upper = word.to_uppercase().replace("SS", "ẞ");
            assert_eq!(lexicon.of(&upper), Some(at), "{upper}");
            assert_eq!(lexicon.get(&word[..word.len() - 1]), None, "{word}");
        }
        assert_eq!(lexicon.get("At"), None);
        assert_eq!(lexicon.of(&"a".repeat(99)), None);
    }

    #[test]
    fn a_key_is_of_the_word_alone() {
        let text = b"At the dot of seventeen";
        for length in 0..=9 {
            let eight = u64::from_le_bytes(*text.first_chunk().unwrap());
            assert_eq!(key(&text[..length]), key_of(eight, length), "{length}");
            assert_eq!(key(&text[..length]), key(&text[..length].to_ascii_lowercase()), "{length}");
        }
    }
}
