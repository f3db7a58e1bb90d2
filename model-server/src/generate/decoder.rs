//! The seam between continuous batching and computing: steps of a causal language model over slots.

use crate::backend::BackendError;

/// Runs steps of a causal language model. One thread calls it.
///
/// A slot holds keys and values of one sequence. What a slot holds is told by the caller with every step:
/// a [`Feed`] writes from position `past` on, and what stood there or after is forgotten. So a step that
/// failed can be made again, and a slot is emptied by feeding it from 0; from no other place before its end is it
/// fed.
pub(crate) trait Decoder: Send {
    /// Its fixed measures.
    fn shape(&self) -> Shape;

    /// Feeds each row's tokens after what its slot holds, and gives the logits after the last token of
    /// each row: `[rows, vocabulary]`. Rows have different slots, any lengths from 1 on, any pasts.
    ///
    /// # Errors
    /// When the engine fails; no slot holds more than before `past` then.
    fn step(&mut self, rows: &[Feed<'_>]) -> Result<Vec<f32>, BackendError>;

    /// Lets go of what a slot holds, where that frees memory.
    fn clear(&mut self, slot: usize);
}

/// What one slot is fed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed<'a> {
    /// Which slot, from 0.
    pub(crate) slot: usize,
    /// Tokens that it holds and keeps.
    pub(crate) past: usize,
    /// The next tokens; never empty, `past + tokens.len()` is at most `Shape::context`.
    pub(crate) tokens: &'a [u32],
}

/// A decoder's measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sequences that it can hold at once.
    pub(crate) slots: usize,
    /// Most tokens of a sequence.
    pub(crate) context: usize,
    /// Logits of a row.
    pub(crate) vocabulary: usize,
    /// Bytes of keys and values that a token takes.
    pub(crate) bytes_per_token: usize,
    /// Whether rows of a step share its work; otherwise it runs row by row.
    pub(crate) batches: bool,
}
