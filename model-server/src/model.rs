//! A loaded model: its tokenizer, its queue, and what it does with texts. Each task has a file in `model/`;
//! [`request`] is the way that all of them go.

mod classify;
mod embed;
#[cfg(test)]
mod goldens;
mod load;
mod request;
mod rerank;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    classify::ClassifyOptions,
    embed::EmbedOptions,
    load::Loaded,
    request::{Answer, Timing},
};

use std::{sync::Arc, time::Duration};

use crate::{
    error::Error,
    late,
    profile::Profile,
    repository::Task,
    scheduler::Queue,
    statistics::Counts,
    tokenize::{Piece, TextTokenizer},
    warmup::Layout,
};

/// What is known of a model without asking it.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// The folder's name.
    pub(crate) name: String,
    pub(crate) task: Task,
    /// The family, such as `bert`.
    pub(crate) model_type: String,
    /// Components of a vector, for embedding; scores of a text, else.
    pub(crate) dimensions: usize,
    /// Longest input in tokens.
    pub(crate) max_tokens: usize,
    /// Tokens of a batch, padding included.
    pub(crate) max_batch_tokens: usize,
    /// Texts that may wait or be in work.
    pub(crate) queue: usize,
    /// What runs it, such as `onnx/cpu`.
    pub(crate) backend: &'static str,
    /// What its weights are, such as `float32`.
    pub(crate) dtype: String,
    /// Names what may be compared: a hash of all that results depend on besides the request.
    pub(crate) fingerprint: String,
    pub(crate) layout: Layout,
}

/// A model, ready to serve.
pub(crate) struct Model {
    pub(crate) card: Arc<Card>,
    tokenizer: Arc<TextTokenizer>,
    /// For late interaction.
    reader: Option<Arc<late::Reader>>,
    queue: Queue,
}

impl Model {
    /// The tokens of a text, with special ones where `special`.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Piece>, Error> {
        self.tokenizer.pieces(text, special)
    }

    /// The text that tokens stand for.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.tokenizer.decode(ids, skip_special)
    }

    /// What became of requests so far.
    pub(crate) fn statistics(&self) -> Counts {
        self.queue.statistics().counts()
    }

    /// How long batches take, and how long what waits will.
    pub(crate) fn profile(&self) -> (Profile, Duration) {
        self.queue.profile()
    }

    fn other_task(&self, wanted: &'static str) -> Error {
        Error::OtherTask { name: self.card.name.clone(), task: self.card.task.name(), wanted }
    }
}
