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

impl Truncation {
    /// Where the library is to cut; `None` where nothing may be cut.
    fn direction(self) -> Option<TruncationDirection> {
        match self {
            Self::End => Some(TruncationDirection::Right),
            Self::Start => Some(TruncationDirection::Left),
            Self::Refuse => None,
        }
    }
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

/// What a row is to be.
#[derive(Clone, Copy)]
struct Form {
    /// Tokens that it may have, special ones included.
    most: usize,
    /// Of these, as many as the caller puts in afterwards.
    reserved: usize,
    truncation: Truncation,
    /// Tokens at the beginning that stay when the beginning is cut off.
    kept: usize,
    /// Whether spans are wanted.
    spans: bool,
}

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

    /// The row of a text, cut where it is too long. The field of errors is the caller's to name.
    ///
    /// # Errors
    /// `TooLong` where it must not be cut; `Invalid` where there is no token to read.
    pub(crate) fn row(&self, text: Raw, truncation: Truncation, spans: bool) -> Result<Tokens, Error> {
        self.assemble(text.0, None, Form { spans, ..self.form(truncation) })
    }

    /// The row of a text behind a prompt, which stays when the text's beginning is cut off.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn prompted(&self, prompt: &str, text: &str, truncation: Truncation) -> Result<Tokens, Error> {
        if prompt.is_empty() {
            return self.row(self.split(text)?, truncation, false);
        }
        let both = format!("{prompt}{text}");
        if truncation != Truncation::Start {
            return self.row(self.split(&both)?, truncation, false);
        }
        // Only the slower way tells which tokens are of the prompt.
        let both = self.inner.encode(both, false).map_err(failed)?;
        let of_prompt = both.get_offsets().iter().take_while(|(_, end)| *end <= prompt.len());
        let kept = of_prompt.count();
        self.assemble(both, None, Form { kept, ..self.form(truncation) })
    }

    /// The row of a text of at most `most` tokens, of which one is left for the caller to put in.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn row_for_marker(
        &self,
        text: Raw,
        most: usize,
        truncation: Truncation,
    ) -> Result<Tokens, Error> {
        let most = most.min(self.max_tokens);
        self.assemble(text.0, None, Form { most, reserved: 1, ..self.form(truncation) })
    }

    /// Splits the first text of pairs, and cuts it to what the longest of them could hold of it.
    ///
    /// # Errors
    /// `TooLong` where it must not be cut and leaves no room for a second text.
    pub(crate) fn first_of_pairs(&self, text: &str, truncation: Truncation) -> Result<Raw, Error> {
        let Raw(mut first) = self.split(text)?;
        let room = self.max_tokens.saturating_sub(self.added[1]);
        if first.len() > room {
            let tokens = first.len() + self.added[1];
            let direction = truncation.direction().ok_or_else(|| Error::TooLong {
                field: "text".into(),
                tokens,
                most: self.max_tokens,
            })?;
            first.truncate(room, 0, direction);
            first.take_overflowing();
        }
        Ok(Raw(first))
    }

    /// The row of a pair. Where both together are too long, the longer one is cut first, as models of
    /// pairs are trained (the strategy `longest_first`).
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn pair(&self, first: Raw, second: Raw, truncation: Truncation) -> Result<Tokens, Error> {
        self.assemble(first.0, Some(second.0), self.form(truncation))
    }

    fn form(&self, truncation: Truncation) -> Form {
        Form { most: self.max_tokens, reserved: 0, truncation, kept: 0, spans: false }
    }

    fn assemble(
        &self,
        mut first: Encoding,
        mut second: Option<Encoding>,
        form: Form,
    ) -> Result<Tokens, Error> {
        let Form { most, reserved, truncation, kept, spans } = form;
        let room = most.saturating_sub(self.added[usize::from(second.is_some())] + reserved);
        let length = first.len() + second.as_ref().map_or(0, Encoding::len);
        let truncated = length > room;
        if truncated {
            let tokens = length + most - room;
            let direction = truncation.direction();
            let direction = direction.ok_or_else(|| Error::TooLong { field: "text".into(), tokens, most })?;
            if kept > 0 {
                first = without_middle(first, kept.min(room), room);
            } else {
                let params = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
                (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
            }
            // What was cut off would be given its special tokens as well.
            first.take_overflowing();
            second.as_mut().map(Encoding::take_overflowing);
        }
        // Some post-processors trim spans, and have done so once already: a second time would take the
        // first character off.
        let kept = if spans { first.get_offsets().to_vec() } else { Vec::new() };
        let encoding = self.inner.post_process(first, second, true).map_err(failed)?;
        let ids = encoding.get_ids().to_vec();
        if ids.is_empty() {
            return Err(Error::invalid("text", "has no token that the model could read"));
        }
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

/// Cuts an encoding to its first `kept` tokens and as many of its last ones as there is `room` for.
fn without_middle(mut encoding: Encoding, kept: usize, room: usize) -> Encoding {
    let mut tail = encoding.clone();
    encoding.truncate(kept, 0, TruncationDirection::Right);
    encoding.take_overflowing();
    tail.truncate(room - kept, 0, TruncationDirection::Left);
    tail.take_overflowing();
    encoding.merge_with(tail, false);
    encoding
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
mod tests;
