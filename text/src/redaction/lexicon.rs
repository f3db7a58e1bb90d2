//! Words, each with what it means: looked up in a few nanoseconds.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Words and what they mean. The words are known beforehand, so nobody can choose them to collide.
pub(super) struct Lexicon<T>(HashMap<&'static str, T, BuildHasherDefault<Fnv>>);

impl<T: Copy> Lexicon<T> {
    pub(super) fn get(&self, word: &str) -> Option<T> {
        self.0.get(word).copied()
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

impl<T> FromIterator<(&'static str, T)> for Lexicon<T> {
    fn from_iter<I: IntoIterator<Item = (&'static str, T)>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
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
