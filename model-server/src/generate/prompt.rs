//! A prompt that is part template and part what people wrote, and its tokens.
//!
//! Special tokens are parsed where the template wrote them. What people wrote never becomes one, whatever it
//! looks like: while the template is rendered, the marks of special tokens (`<`, `|`, ...) in what people
//! wrote have stand-ins from Unicode's private use, so that however the template cuts and joins, what is
//! whole with its true marks is the template's own. Afterwards the marks come back.

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{
    Model as _, NormalizedString, OffsetReferential, OffsetType, PreTokenizer as _,
    tokenizer::normalizer::Range,
};

use super::text::Vocabulary;
use crate::error::Error;

/// Stand-ins come from the first block of these that no text uses.
const PRIVATE: std::ops::Range<u32> = 0x10_0000..0x10_ff00;
/// Characters of a block, and so the most different marks.
const BLOCK: usize = 256;

/// What special tokens look like.
pub(crate) struct Guard {
    /// The characters of special tokens that are neither letters nor digits, `_` nor white space; of one that
    /// has none, the first.
    marks: Vec<char>,
    /// Finds special tokens in plain text.
    finder: AhoCorasick,
}

impl Guard {
    /// For these special tokens.
    ///
    /// # Errors
    /// When there are more marks than stand-ins.
    pub(super) fn new(special: &[String]) -> Result<Self, String> {
        let is_mark = |letter: &char| !letter.is_alphanumeric() && *letter != '_' && !letter.is_whitespace();
        let mut marks: Vec<char> = Vec::new();
        for token in special {
            let from = marks.len();
            marks.extend(token.chars().filter(is_mark));
            if marks.len() == from {
                marks.extend(token.chars().next());
            }
        }
        marks.sort_unstable();
        marks.dedup();
        if marks.len() > BLOCK {
            return Err(format!("has special tokens of {} marks; {BLOCK} are allowed", marks.len()));
        }
        let special = special.iter().filter(|token| !token.is_empty());
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(special);
        Ok(Self { marks, finder: finder.map_err(|error| error.to_string())? })
    }

    /// Whether a text could become a special token, or part of one.
    pub(super) fn touches(&self, text: &str) -> bool {
        text.chars().any(|letter| self.marks.binary_search(&letter).is_ok())
    }

    /// Whether a special token stands in a text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.finder.is_match(text)
    }

    /// The first stand-in: of a block that none of these texts uses.
    pub(super) fn stand_in<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Option<u32> {
        let block = |letter: char| (letter as u32).checked_sub(PRIVATE.start).map(|at| at as usize / BLOCK);
        let mut used = vec![false; PRIVATE.len() / BLOCK];
        for block in texts.flat_map(|text| text.chars().filter_map(block)) {
            if let Some(used) = used.get_mut(block) {
                *used = true;
            }
        }
        used.iter().position(|used| !used).map(|block| PRIVATE.start + (block * BLOCK) as u32)
    }

    /// A text with stand-ins for marks.
    pub(super) fn hide(&self, text: &str, first: u32) -> String {
        let hidden = |letter: char| match self.marks.binary_search(&letter) {
            Ok(at) => char::from_u32(first + at as u32).unwrap_or(letter),
            Err(_) => letter,
        };
        text.chars().map(hidden).collect()
    }

    /// The mark that a character stands for, or itself.
    fn shown(&self, letter: char, first: u32) -> char {
        let at = (letter as u32).checked_sub(first).map(|at| at as usize);
        at.and_then(|at| self.marks.get(at)).copied().unwrap_or(letter)
    }
}

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// The text, with stand-ins for the marks in what people wrote.
    pub(super) marked: String,
    /// The first stand-in; `None` where there are none.
    pub(super) stand_in: Option<u32>,
}

impl Prompt {
    /// The text as the template makes it.
    pub(crate) fn text(&self, vocabulary: &Vocabulary) -> String {
        match self.stand_in {
            Some(first) => self.marked.chars().map(|it| vocabulary.guard.shown(it, first)).collect(),
            None => self.marked.clone(),
        }
    }

    /// Its tokens, without any that the tokenizer would put around a text: templates write these
    /// themselves. The same as of the whole text at once, but for special tokens that people wrote.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn ids(&self, vocabulary: &Vocabulary) -> Result<Vec<u32>, Error> {
        let tokenizer = &vocabulary.tokenizer;
        let added = tokenizer.get_added_vocabulary();
        let mut parts = added.extract_and_normalize(tokenizer.get_normalizer(), &self.marked);
        let failed = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
        if let Some(first) = self.stand_in {
            let guard = &vocabulary.guard;
            let show = |_, mut part: NormalizedString| {
                part.map(|letter| guard.shown(letter, first));
                Ok(guard.cut(part))
            };
            parts.split(show).map_err(failed)?;
        }
        if let Some(splitter) = tokenizer.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut parts).map_err(failed)?;
        }
        parts.tokenize(|part| tokenizer.get_model().tokenize(part.get())).map_err(failed)?;
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::None);
        let tokens = parts.into_iter().flat_map(|(_, _, tokens)| tokens.iter().flatten());
        Ok(tokens.map(|token| token.id).collect())
    }
}

impl Guard {
    /// Cuts a text behind the first character of each special token in it. Some kinds of models have special
    /// tokens among their ordinary pieces, and find them in any text.
    fn cut(&self, part: NormalizedString) -> Vec<NormalizedString> {
        let text = part.get();
        let mut ends: Vec<usize> = Vec::new();
        for found in self.finder.find_iter(text) {
            let first = text[found.range()].chars().next().map_or(0, char::len_utf8);
            ends.push(found.start() + first);
        }
        ends.push(text.len());
        let mut from = 0;
        let mut parts = Vec::with_capacity(ends.len());
        for end in ends {
            parts.extend(part.slice(Range::Normalized(from..end)));
            from = end;
        }
        parts
    }
}

impl Vocabulary {
    /// The tokens of a text, special ones read in it and put around it as the tokenizer says.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoded = self.tokenizer.encode_fast(text, true);
        encoded.map(|encoded| encoded.get_ids().to_vec()).map_err(|error| Error::Tokenizer(error.to_string()))
    }

    /// The special tokens that a text has as it stands, in order.
    pub(super) fn special_in(&self, text: &str) -> Vec<u32> {
        let added = self.tokenizer.get_added_vocabulary();
        let parts = added.extract_and_normalize(self.tokenizer.get_normalizer(), text);
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::None);
        let tokens = parts.into_iter().flat_map(|(_, _, tokens)| tokens.iter().flatten());
        tokens.map(|token| token.id).filter(|id| self.is_special(*id)).collect()
    }
}

#[cfg(test)]
mod tests;
