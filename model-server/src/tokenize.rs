//! Texts to token rows, by the model's own `tokenizer.json`.

use std::path::Path;

use tokenizers::{
    Encoding, Tokenizer, TruncationDirection, TruncationParams, utils::truncation::truncate_encodings,
};

use crate::{backend::Row, error::Error, repository::problem};

/// What becomes of a text that is longer than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Truncation {
    /// Its end is cut off.
    #[default]
    End,
    /// Its beginning is cut off.
    Start,
    /// The request is refused.
    Refuse,
}

/// A model's tokenizer, cutting at the length that the model is run with.
pub(crate) struct TextTokenizer {
    inner: Tokenizer,
    max_tokens: usize,
    /// Special tokens that are put around one text, and around a pair.
    added: [usize; 2],
}

/// A text, or a pair of texts, as the model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// What the model gets.
    pub(crate) row: Row,
    /// Its tokens, special ones included.
    pub(crate) count: usize,
    /// Whether the text was longer and was cut.
    pub(crate) truncated: bool,
    /// For each token the characters (Unicode scalar values) that it stands for, from and up to; none
    /// for special tokens. Only where they were asked for.
    pub(crate) spans: Vec<Option<(usize, usize)>>,
}

/// A token for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) special: bool,
    /// Characters of the text that it stands for, from and up to; none for special tokens.
    pub(crate) span: Option<(usize, usize)>,
}

/// A text without special tokens, still in its full length.
#[derive(Clone)]
pub(crate) struct Raw(Encoding);

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// What it says of padding and truncation is put aside: published files fix both at lengths of
    /// their training (128 for MiniLM). Rows are cut at `max_tokens` and padded by the batch.
    ///
    /// # Errors
    /// Names the file when it is not a tokenizer, or marks more borders than a row has tokens.
    pub(crate) fn load(path: &Path, max_tokens: usize) -> Result<Self, Error> {
        let unusable =
            |error: tokenizers::Error| problem(path, format!("is not a usable tokenizer: {error}"));
        let mut inner = Tokenizer::from_file(path).map_err(unusable)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(unusable)?;
        let empty = |pair: bool| -> Result<usize, tokenizers::Error> {
            let nothing = || inner.encode_fast("", false);
            let second = if pair { Some(nothing()?) } else { None };
            Ok(inner.post_process(nothing()?, second, true)?.len())
        };
        let added = [empty(false).map_err(unusable)?, empty(true).map_err(unusable)?];
        if added[1] + 2 > max_tokens {
            let borders = format!("puts {} special tokens around a pair; a row has {max_tokens}", added[1]);
            return Err(problem(path, borders));
        }
        Ok(Self { inner, max_tokens, added })
    }

    /// The largest id that it gives; `None` when it has no tokens.
    pub(crate) fn largest_id(&self) -> Option<u32> {
        self.inner.get_vocab(true).into_values().max()
    }

    /// The id of the token that is written like this.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Splits a text. Takes some 30 microseconds for a sentence and some 10 ms for the longest text that
    /// a request may hold.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn split(&self, text: &str) -> Result<Raw, Error> {
        Ok(Raw(self.inner.encode_fast(text, false).map_err(failed)?))
    }

    /// As [`Self::split`], with the characters that each token stands for.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub(crate) fn split_with_spans(&self, text: &str) -> Result<Raw, Error> {
        Ok(Raw(self.inner.encode_char_offsets(text, false).map_err(failed)?))
    }

    /// The row of a text, cut where it is too long.
    ///
    /// # Errors
    /// `TooLong` where it must not be cut.
    pub(crate) fn row(&self, text: Raw, truncation: Truncation, spans: bool) -> Result<Tokens, Error> {
        self.assemble(text.0, None, self.max_tokens, truncation, spans)
    }

    /// The row of a text of at most `most` tokens, special ones included.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn row_within(&self, text: Raw, most: usize, truncation: Truncation) -> Result<Tokens, Error> {
        self.assemble(text.0, None, most.min(self.max_tokens), truncation, false)
    }

    /// The row of a pair. Where both together are too long, the longer one is cut first, as models of
    /// pairs are trained (the strategy `longest_first`).
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn pair(&self, first: Raw, second: Raw, truncation: Truncation) -> Result<Tokens, Error> {
        self.assemble(first.0, Some(second.0), self.max_tokens, truncation, false)
    }

    fn assemble(
        &self,
        first: Encoding,
        second: Option<Encoding>,
        most: usize,
        truncation: Truncation,
        spans: bool,
    ) -> Result<Tokens, Error> {
        let room = most.saturating_sub(self.added[usize::from(second.is_some())]);
        let length = first.len() + second.as_ref().map_or(0, Encoding::len);
        let truncated = length > room;
        let (mut first, mut second) = (first, second);
        if truncated {
            if truncation == Truncation::Refuse {
                return Err(Error::TooLong { tokens: length + most - room, most });
            }
            let direction = match truncation {
                Truncation::Start => TruncationDirection::Left,
                Truncation::End | Truncation::Refuse => TruncationDirection::Right,
            };
            let params = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
            (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
            // What was cut off would be given its special tokens as well.
            first.take_overflowing();
            second.as_mut().map(Encoding::take_overflowing);
        }
        // Some post-processors trim spans, and have done so once already: a second time would take the
        // first character off.
        let kept = if spans { first.get_offsets().to_vec() } else { Vec::new() };
        let encoding = self.inner.post_process(first, second, true).map_err(failed)?;
        let ids = encoding.get_ids().to_vec();
        let kinds = encoding.get_type_ids();
        let second = kinds.iter().position(|&kind| kind > 0).unwrap_or(ids.len());
        let mut kept = kept.into_iter();
        let special = encoding.get_special_tokens_mask().iter().filter(|_| spans);
        let spans = special.map(|&special| if special == 0 { kept.next() } else { None }).collect();
        let count = ids.len();
        Ok(Tokens { row: Row { second, attended: count, ids }, count, truncated, spans })
    }

    /// The tokens of a text one by one, with special ones where `special`.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub(crate) fn pieces(&self, text: &str, special: bool) -> Result<Vec<Piece>, Error> {
        let encoding = self.inner.encode_char_offsets(text, special).map_err(failed)?;
        let spans = self::spans(&encoding);
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens()).zip(spans);
        let piece = |((&id, text), span): ((&u32, &String), Option<(usize, usize)>)| Piece {
            id,
            text: text.clone(),
            special: span.is_none(),
            span,
        };
        Ok(tokens.map(piece).collect())
    }

    /// The text that tokens stand for. Ids that there are not are left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.inner.decode(ids, skip_special).map_err(failed)
    }
}

fn spans(encoding: &Encoding) -> Vec<Option<(usize, usize)>> {
    let special = encoding.get_special_tokens_mask().iter();
    encoding
        .get_offsets()
        .iter()
        .zip(special)
        .map(|(span, &special)| (special == 0).then_some(*span))
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::setup;

    fn tokenizer(max_tokens: usize) -> TextTokenizer {
        TextTokenizer::load(&setup::model().join("tokenizer.json"), max_tokens).unwrap()
    }

    fn row(tokenizer: &TextTokenizer, text: &str, truncation: Truncation) -> Result<Tokens, Error> {
        tokenizer.row(tokenizer.split(text).unwrap(), truncation, false)
    }

    #[test]
    fn rows_are_neither_padded_nor_cut_at_the_files_length() {
        let tokenizer = tokenizer(256);
        let tokens = row(&tokenizer, "hello", Truncation::End).unwrap();
        assert_eq!((tokens.row, tokens.truncated), (Row::single(vec![101, 7592, 102]), false));
        let long = row(&tokenizer, &"hello ".repeat(200), Truncation::End).unwrap();
        assert_eq!(long.row.ids.len(), 202);
    }

    #[test]
    fn a_long_text_is_cut_at_either_end_or_refused() {
        let tokenizer = tokenizer(16);
        assert!(!row(&tokenizer, &"hello ".repeat(14), Truncation::Refuse).unwrap().truncated);
        let text = format!("first {}last", "hello ".repeat(13));
        let [end, start] =
            [Truncation::End, Truncation::Start].map(|side| row(&tokenizer, &text, side).unwrap());
        let last = tokenizer.id("last").unwrap();
        assert!(end.truncated && start.truncated);
        assert_eq!((end.row.ids.len(), end.row.ids[1], end.row.ids[15]), (16, 2034, 102));
        assert_eq!((start.row.ids.len(), start.row.ids[0], start.row.ids[14]), (16, 101, last));
        let error = row(&tokenizer, &text, Truncation::Refuse).unwrap_err();
        assert!(matches!(error, Error::TooLong { tokens: 17, most: 16 }), "{error}");
    }

    #[test]
    fn of_a_pair_the_longer_text_is_cut_first() {
        let tokenizer = tokenizer(12);
        let split = |text: &str| tokenizer.split(text).unwrap();
        let pair = tokenizer.pair(split("a b"), split(&"c ".repeat(20)), Truncation::End).unwrap();
        assert!(pair.truncated);
        assert_eq!((pair.row.ids.len(), pair.row.second), (12, 4));
        let pair = tokenizer.pair(split(&"c ".repeat(20)), split(&"d ".repeat(20)), Truncation::End).unwrap();
        assert_eq!((pair.row.ids.len(), pair.row.second), (12, 6));
    }

    #[test]
    fn spans_are_in_characters() {
        let tokenizer = tokenizer(16);
        let raw = tokenizer.split_with_spans("Größe 😀 ok").unwrap();
        let tokens = tokenizer.row(raw, Truncation::End, true).unwrap();
        assert_eq!((tokens.spans[0], tokens.spans.len()), (None, tokens.row.ids.len()));
        assert_eq!(tokens.spans[tokens.spans.len() - 2], Some((8, 10)));
    }

    #[test]
    fn any_text_has_tokens() {
        let tokenizer = tokenizer(16);
        proptest!(|(text in any::<String>(), other in any::<String>())| {
            let [one, two] = [&text, &other].map(|text| tokenizer.split(text).unwrap());
            let tokens = tokenizer.row(one.clone(), Truncation::End, false).unwrap();
            prop_assert!((2..=16).contains(&tokens.row.ids.len()));
            let pair = tokenizer.pair(one, two, Truncation::Start).unwrap();
            prop_assert!((3..=16).contains(&pair.row.ids.len()));
            prop_assert!(pair.row.second <= pair.row.ids.len());
        });
    }
}
