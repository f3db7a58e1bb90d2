//! The seam between decoding and computing: what runs the two graphs of a model that transcribes.

use crate::backend::BackendError;

/// Windows of spectrograms to encode, of the same length.
pub(crate) struct Windows {
    pub(crate) rows: usize,
    pub(crate) frames: usize,
    /// `[rows, mels, frames]`.
    pub(crate) values: Vec<f32>,
}

/// Computes a batch of windows, step by step. It holds the state of one batch: what [`Self::encode`] was
/// given last, and what was decoded of it since. One thread at a time calls it.
pub(crate) trait Engine: Send {
    /// Encodes windows, and forgets what was there before.
    ///
    /// # Errors
    /// When the engine fails, as all of its steps may.
    fn encode(&mut self, windows: Windows) -> Result<(), BackendError>;

    /// Reads so many further tokens of each row: `ids` is `[rows, width]`. The first ones after
    /// [`Self::encode`] are a prompt; from then on it is one of each row at a time. Returns the logits behind
    /// the tokens at the places `wanted`, `[rows, wanted, vocabulary]`.
    ///
    /// # Errors
    /// As [`Self::encode`]; also when a logit is not a number.
    fn decode(&mut self, ids: &[u32], width: usize, wanted: &[usize]) -> Result<Vec<f32>, BackendError>;

    /// Remembers where decoding has come to.
    fn mark(&mut self);

    /// Goes back to the mark, with those of its rows alone.
    ///
    /// # Errors
    /// As [`Self::encode`].
    fn rewind(&mut self, rows: &[usize]) -> Result<(), BackendError>;

    /// Goes on with those of the present rows alone.
    ///
    /// # Errors
    /// As [`Self::encode`].
    fn keep(&mut self, rows: &[usize]) -> Result<(), BackendError>;
}
