//! Late interaction: query and document are read apart, and their tokens' vectors compared.
//!
//! # Source
//! Khattab and Zaharia 2020 (ColBERT), section 3: markers behind the first token, queries filled up with
//! mask tokens, punctuation of documents left out, and the sum over the query's tokens of the best
//! cosine with a token of the document.

use std::collections::BTreeSet;

use crate::{
    backend::Row,
    error::Error,
    pooling,
    repository::LateInteraction,
    tokenize::{TextTokenizer, Tokens, Truncation},
};

/// Reads queries and documents, with the special tokens' ids found.
pub(crate) struct Reader {
    query_tokens: usize,
    document_tokens: usize,
    query_marker: u32,
    document_marker: u32,
    filler: u32,
    attend_to_filler: bool,
    /// Ids of a document's tokens that count for nothing.
    skipped: BTreeSet<u32>,
}

impl Reader {
    /// Finds the special tokens; rows have at most `max_tokens`.
    ///
    /// # Errors
    /// What the tokenizer lacks.
    pub(crate) fn new(
        late: &LateInteraction,
        tokenizer: &TextTokenizer,
        max_tokens: usize,
    ) -> Result<Self, String> {
        let id = |token: &str| tokenizer.id(token).ok_or_else(|| format!("has no token {token:?}"));
        let mut skipped = BTreeSet::new();
        if late.skip_punctuation {
            skipped.extend(
                (b'!'..=b'~')
                    .map(char::from)
                    .filter(char::is_ascii_punctuation)
                    .filter_map(|c| tokenizer.id(c.encode_utf8(&mut [0; 4]))),
            );
        }
        Ok(Self {
            query_tokens: late.query_tokens.min(max_tokens),
            document_tokens: late.document_tokens.min(max_tokens),
            query_marker: id(&late.query_marker)?,
            document_marker: id(&late.document_marker)?,
            filler: id(&late.filler)?,
            attend_to_filler: late.attend_to_filler,
            skipped,
        })
    }

    /// Most tokens of a document.
    pub(crate) fn max_tokens(&self) -> usize {
        self.document_tokens
    }

    /// The row of a query: cut or filled up to its length.
    ///
    /// # Errors
    /// `TooLong` where it must not be cut.
    pub(crate) fn query(
        &self,
        tokenizer: &TextTokenizer,
        text: &str,
        truncation: Truncation,
    ) -> Result<Tokens, Error> {
        let mut tokens = marked(tokenizer, text, self.query_marker, self.query_tokens, truncation)?;
        let length = self.query_tokens.max(tokens.row.ids.len());
        tokens.row.ids.resize(length, self.filler);
        if self.attend_to_filler {
            tokens.row.attended = length;
        }
        (tokens.row.second, tokens.count) = (length, length);
        Ok(tokens)
    }

    /// The row of a document.
    ///
    /// # Errors
    /// `TooLong` where it must not be cut.
    pub(crate) fn document(
        &self,
        tokenizer: &TextTokenizer,
        text: &str,
        truncation: Truncation,
    ) -> Result<Tokens, Error> {
        marked(tokenizer, text, self.document_marker, self.document_tokens, truncation)
    }

    /// The sum over the query's tokens of the best cosine with one of the document's, whose tokens are
    /// `ids`. Vectors are `width` wide, and the query's [scaled] already. 0 for a document of which
    /// no token counts.
    pub(crate) fn score(&self, query: &[f32], document: Vec<f32>, width: usize, ids: &[u32]) -> f32 {
        let document = scaled(document, width);
        let counts = |(_, id): &(&[f32], &u32)| !self.skipped.contains(id);
        let document: Vec<&[f32]> =
            document.chunks_exact(width).zip(ids).filter(counts).map(|(vector, _)| vector).collect();
        if document.is_empty() {
            return 0.0;
        }
        let best = |token: &[f32]| {
            document.iter().map(|other| pooling::dot(token, other)).fold(f32::NEG_INFINITY, f32::max)
        };
        query.chunks_exact(width).map(best).sum()
    }
}

/// Scales each token's vector to length 1; one of zeros stays.
pub(crate) fn scaled(mut vectors: Vec<f32>, width: usize) -> Vec<f32> {
    for vector in vectors.chunks_exact_mut(width) {
        let _ = pooling::normalise(vector);
    }
    vectors
}

/// The row of a text with `marker` behind its first token.
fn marked(
    tokenizer: &TextTokenizer,
    text: &str,
    marker: u32,
    most: usize,
    truncation: Truncation,
) -> Result<Tokens, Error> {
    let raw = tokenizer.split(text)?;
    let tokens = tokenizer.row_for_marker(raw, most, truncation)?;
    let mut ids = tokens.row.ids;
    ids.insert(ids.len().min(1), marker);
    Ok(Tokens { count: ids.len(), row: Row::single(ids), ..tokens })
}
