//! Words, stems and how rare they are.
//!
//! [`content`] gives the terms of a text that carry meaning; a [`Vocabulary`] counts, for one
//! tenant, in how many passages each stem occurs, tells unknown terms, and finds the known word
//! that a typo was meant to be.

use std::collections::{HashMap, HashSet};

use switchboard_text::words::{Language, content_words, distance, is_stop_word};
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Terms of a query beyond this many are not looked at.
pub(crate) const MAX_TERMS: usize = 64;

/// Characters of a term at most; longer runs are cut.
const MAX_TERM: usize = 64;

/// What a corrected term counts for, against one that was spelled as in the documents.
pub(crate) const CORRECTED_WEIGHT: f32 = 0.8;

/// A word of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) word: String,
    pub(crate) stem: String,
}

/// The words of a text that carry meaning, lower-case and without accents, in order. English stop
/// words go in every language; of other languages rarity takes care.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> + use<> {
    content_words(text, Language::English).into_iter().map(fold).filter(|word| !word.is_empty())
}

fn fold(word: String) -> String {
    if word.is_ascii() && word.len() <= MAX_TERM {
        return word;
    }
    word.nfkd().filter(|c| !is_combining_mark(*c)).take(MAX_TERM).collect()
}

/// The stem of a word. One stemmer serves all languages: what matters is that a question's word and
/// a passage's word are treated alike.
fn stem(word: &str) -> String {
    switchboard_text::words::stem(word, Language::English)
}

/// The distinct terms of a query that carry meaning, at most [`MAX_TERMS`], in order; stop words of
/// `locale`'s language go too.
pub(crate) fn content(text: &str, locale: &str) -> Vec<Term> {
    let language = Language::of_tag(locale);
    let mut seen = HashSet::new();
    words(text)
        .filter(|word| !is_stop_word(word, language))
        .map(|word| Term { stem: stem(&word), word })
        .filter(|term| seen.insert(term.stem.clone()))
        .take(MAX_TERMS)
        .collect()
}

/// What a query's term stands for among a tenant's passages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// It occurs as it is; the number of its stem.
    As(u32),
    /// It was taken for a typo of this word.
    For(String, u32),
    /// It was taken for a typo of a stop word.
    Nothing,
    /// It occurs in no passage.
    Unknown,
}

impl Known {
    /// The number of the stem that was found.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Self::As(number) | Self::For(_, number) => Some(*number),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

/// The terms of one tenant's passages.
#[derive(Default)]
pub(crate) struct Vocabulary {
    stems: HashMap<String, u32>,
    /// Passages that hold each stem.
    frequencies: Vec<u32>,
    /// How often each word occurs; only words of letters, which can be misspelled.
    words: HashMap<String, u32>,
    passages: u32,
}

impl Vocabulary {
    /// Counts a passage and returns the numbers of its stems, sorted.
    pub(crate) fn add<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Vec<u32> {
        let mut terms = Vec::new();
        for word in texts.flat_map(words) {
            let next = self.frequencies.len() as u32;
            let number = *self.stems.entry(stem(&word)).or_insert(next);
            if number == next {
                self.frequencies.push(0);
            }
            terms.push(number);
            if word.bytes().all(|b| b.is_ascii_alphabetic()) {
                *self.words.entry(word).or_default() += 1;
            }
        }
        terms.sort_unstable();
        terms.dedup();
        for &term in &terms {
            self.frequencies[term as usize] += 1;
        }
        self.passages += 1;
        terms
    }

    /// Takes a passage out again; `terms` is what [`Self::add`] returned for `texts`.
    pub(crate) fn remove<'a>(&mut self, terms: &[u32], texts: impl Iterator<Item = &'a str>) {
        for &term in terms {
            self.frequencies[term as usize] -= 1;
        }
        for word in texts.flat_map(words) {
            if let Some(count) = self.words.get_mut(&word) {
                *count -= 1;
                if *count == 0 {
                    self.words.remove(&word);
                }
            }
        }
        self.passages -= 1;
    }

    /// How rare a term is: `ln(1 + (N - n + 0.5) / (n + 0.5))` for `n` of `N` passages; an unknown
    /// one is as rare as can be.
    ///
    /// # Source
    /// The inverse document frequency of BM25 as in Lucene, which unlike the original is never
    /// negative.
    pub(crate) fn rarity(&self, term: Option<u32>) -> f32 {
        let n = term.map_or(0.0, |term| self.frequencies[term as usize] as f32);
        (1.0 + (self.passages as f32 - n + 0.5) / (n + 0.5)).ln()
    }

    /// What a term stands for. Taking it for a typo reads the whole vocabulary and is left out where
    /// it may not `correct`.
    pub(crate) fn look_up(&self, term: &Term, correct: bool) -> Known {
        if let Some(number) = self.number(&term.stem) {
            return Known::As(number);
        }
        if swaps(&term.word).any(|word| is_stop_word(&word, Language::English)) {
            return Known::Nothing;
        }
        match correct.then(|| self.correct(&term.word)).flatten() {
            Some(word) => match self.number(&stem(word)) {
                Some(number) => Known::For(word.to_owned(), number),
                None => Known::Unknown,
            },
            None => Known::Unknown,
        }
    }

    fn number(&self, stem: &str) -> Option<u32> {
        self.stems.get(stem).copied().filter(|&number| self.frequencies[number as usize] > 0)
    }

    /// The known word that `word` is most likely a typo of: the nearest, then the most frequent.
    /// Typos rarely hit the first letter, and a short word with another letter in it is usually
    /// another word, so up to four letters only a swap of neighbours counts.
    fn correct(&self, word: &str) -> Option<&str> {
        let length = word.len();
        if !word.bytes().all(|b| b.is_ascii_alphabetic()) || length < 3 {
            return None;
        }
        let allowed = if length >= 8 { 2 } else { 1 };
        let swapped: Vec<String> = swaps(word).collect();
        self.words
            .iter()
            .filter_map(|(known, &count)| {
                let edits = if swapped.contains(known) {
                    1
                } else if length <= 4 || known.as_bytes()[0] != word.as_bytes()[0] {
                    return None;
                } else {
                    distance(word, known, allowed)?
                };
                Some((edits, std::cmp::Reverse(count), known.as_str()))
            })
            .min()
            .map(|(_, _, known)| known)
    }
}

/// A word of ASCII letters with each pair of neighbours swapped in turn; nothing for other words
/// and for those of less than three letters.
fn swaps(word: &str) -> impl Iterator<Item = String> + '_ {
    let plain = word.len() >= 3 && word.bytes().all(|b| b.is_ascii_alphabetic());
    let last = if plain { word.len() - 1 } else { 0 };
    (0..last).filter_map(|at| {
        let mut letters = word.as_bytes().to_vec();
        letters.swap(at, at + 1);
        String::from_utf8(letters).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for text in
            ["Shipping costs for returned parcels", "Returning shoes", "Coats and boots", "warehouses"]
        {
            vocabulary.add([text].into_iter());
        }
        vocabulary
    }

    fn look_up(word: &str) -> Known {
        vocabulary().look_up(&content(word, "")[0], true)
    }

    #[test]
    fn words_are_folded_and_stop_words_carry_nothing() {
        assert_eq!(words("Cafe\u{301} ÜBER don't 4-5").collect::<Vec<_>>(), ["cafe", "uber", "4", "5"]);
        let stems: Vec<_> =
            content("Can I return the shoes, returning 2?", "").into_iter().map(|t| t.stem).collect();
        assert_eq!(stems, ["return", "shoe", "2"]);
        assert_eq!(content(&"x1 ".repeat(5), "").len(), 1);
    }

    #[test]
    fn a_term_is_known_by_its_stem() {
        assert!(matches!(look_up("returns"), Known::As(_)));
        assert_eq!(look_up("kayak"), Known::Unknown);
    }

    #[test]
    fn typos_find_the_word_that_was_meant() {
        let corrected = |word: &str| match look_up(word) {
            Known::For(word, _) => word,
            other => panic!("{word} is {other:?}"),
        };
        assert_eq!(corrected("shiping"), "shipping");
        assert_eq!(corrected("retruned"), "returned");
        assert_eq!(corrected("wharehoses"), "warehouses");
        assert_eq!(corrected("shose"), "shoes");
        assert_eq!(
            vocabulary().look_up(&Term { word: "waht".into(), stem: "waht".into() }, true),
            Known::Nothing
        );
    }

    #[test]
    fn another_word_is_not_a_typo() {
        for word in ["boat", "costa", "2024", "goats", "horses"] {
            let known = look_up(word);
            assert!(matches!(known, Known::Unknown | Known::For(..)), "{word}: {known:?}");
            if word != "costa" {
                assert_eq!(known, Known::Unknown, "{word}");
            }
        }
    }

    #[test]
    fn what_is_removed_is_forgotten() {
        let mut vocabulary = Vocabulary::default();
        let terms = vocabulary.add(["Kayaks float"].into_iter());
        let common = vocabulary.add(["float"].into_iter());
        assert!(vocabulary.rarity(Some(terms[0])) > vocabulary.rarity(Some(common[0])));
        vocabulary.remove(&terms, ["Kayaks float"].into_iter());
        assert_eq!(vocabulary.look_up(&content("kayak", "")[0], true), Known::Unknown);
        assert_eq!(vocabulary.look_up(&content("kayaka", "")[0], true), Known::Unknown);
        assert!(vocabulary.rarity(None) >= vocabulary.rarity(Some(common[0])));
    }
}
