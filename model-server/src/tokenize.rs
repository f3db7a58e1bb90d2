//! Texts to token ids, by the model's own `tokenizer.json`.

use std::path::Path;

use tokenizers::{Tokenizer, TruncationParams};

use crate::{error::Error, repository::problem};

/// A model's tokenizer, cutting at the length that the model is run with.
pub(crate) struct TextTokenizer(Tokenizer);

/// A text as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Token ids, special ones included.
    pub(crate) ids: Vec<u32>,
    /// Whether the text was longer and was cut.
    pub(crate) truncated: bool,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// What it says of padding and truncation is put aside: published files fix both at lengths of
    /// their training (128 for MiniLM). Rows are cut at `max_tokens` and padded by the batch.
    ///
    /// # Errors
    /// Names the file when it is not a tokenizer.
    pub(crate) fn load(path: &Path, max_tokens: usize) -> Result<Self, Error> {
        let unusable =
            |error: tokenizers::Error| problem(path, format!("is not a usable tokenizer: {error}"));
        let mut tokenizer = Tokenizer::from_file(path).map_err(unusable)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(unusable)?;
        Ok(Self(tokenizer))
    }

    /// Tokenises one text. Takes some 30 microseconds for a sentence and some 10 ms for the longest
    /// text that a request may hold.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let encoding = self.0.encode_fast(text, true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), truncated: !encoding.get_overflowing().is_empty() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::setup;

    fn tokenizer() -> TextTokenizer {
        TextTokenizer::load(&setup::model().join("tokenizer.json"), 16).unwrap()
    }

    #[test]
    fn rows_are_neither_padded_nor_cut_at_the_files_length() {
        let tokenizer = TextTokenizer::load(&setup::model().join("tokenizer.json"), 256).unwrap();
        assert_eq!(
            tokenizer.encode("hello").unwrap(),
            Tokens { ids: vec![101, 7592, 102], truncated: false }
        );
        assert_eq!(tokenizer.encode(&"hello ".repeat(200)).unwrap().ids.len(), 202);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let tokenizer = tokenizer();
        assert!(!tokenizer.encode(&"hello ".repeat(14)).unwrap().truncated);
        let cut = tokenizer.encode(&"hello ".repeat(15)).unwrap();
        assert!(cut.truncated);
        assert_eq!((cut.ids.len(), cut.ids[0], cut.ids[15]), (16, 101, 102));
    }

    #[test]
    fn any_text_has_tokens() {
        let tokenizer = tokenizer();
        proptest!(|(text in any::<String>())| {
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert!((2..=16).contains(&tokens.ids.len()));
        });
    }
}
