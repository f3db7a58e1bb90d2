//! A loaded model, and what it does. Each task has a file in `model/`; [`request`] is the way that those of
//! texts go, [`speech`] hands on to the modules that do what they do.

mod classify;
mod embed;
mod generate;
#[cfg(test)]
mod goldens;
mod language;
mod load;
mod request;
mod rerank;
mod speech;
#[cfg(test)]
pub(super) mod tests;

pub(crate) use self::{
    classify::ClassifyOptions,
    embed::EmbedOptions,
    generate::{GenerateOptions, Prompt, Writing},
    language::decoder,
    load::Loaded,
    request::{Answer, Timing},
};

use std::{sync::Arc, time::Duration};

use crate::{
    error::Error,
    late,
    profile::Timed,
    repository::Task,
    scheduler::Queue,
    statistics::Counts,
    tokenize::{Piece, TextTokenizer},
    transcribe::Transcriber,
    vad::Listener,
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
    part: Part,
}

/// What does a model's work.
enum Part {
    Texts(Texts),
    Transcriber(Box<Transcriber>),
    Listener(Box<Listener>),
    Language(Arc<generate::Language>),
}

/// What models of texts have.
struct Texts {
    tokenizer: Arc<TextTokenizer>,
    /// For late interaction.
    reader: Option<Arc<late::Reader>>,
    queue: Queue,
}

impl Model {
    /// The tokens of a text, with special ones where `special`.
    ///
    /// # Errors
    /// When the tokenizer fails, which it should for no text; `OtherTask` when it reads no texts.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Piece>, Error> {
        self.texts()?.tokenizer.pieces(text, special)
    }

    /// The text that tokens stand for.
    ///
    /// # Errors
    /// When the tokenizer fails; `OtherTask` when it reads no texts.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.texts()?.tokenizer.decode(ids, skip_special)
    }

    /// What became of requests so far.
    pub(crate) fn statistics(&self) -> Counts {
        match &self.part {
            Part::Texts(texts) => texts.queue.statistics().counts(),
            Part::Transcriber(transcriber) => transcriber.statistics.counts(),
            Part::Listener(listener) => listener.statistics.counts(),
            Part::Language(language) => language.statistics.counts(),
        }
    }

    /// How long batches take, where there is a table of it, and how long what waits will.
    pub(crate) fn profile(&self) -> (Vec<Timed>, Duration) {
        match &self.part {
            Part::Texts(texts) => {
                let (profile, backlog) = texts.queue.profile();
                (profile.cells().collect(), backlog)
            }
            Part::Transcriber(transcriber) => (Vec::new(), transcriber.backlog()),
            Part::Listener(_) => (Vec::new(), Duration::ZERO),
            Part::Language(language) => {
                let (pace, backlog) = language.queue.pace();
                (pace.cells().collect(), backlog)
            }
        }
    }

    /// # Errors
    /// `OtherTask` when it reads no texts.
    pub(crate) fn reads_texts(&self) -> Result<(), Error> {
        self.texts().map(drop)
    }

    fn texts(&self) -> Result<&Texts, Error> {
        match &self.part {
            Part::Texts(texts) => Ok(texts),
            _ => Err(self.other_task("read texts")),
        }
    }

    fn transcriber(&self) -> Result<&Transcriber, Error> {
        match &self.part {
            Part::Transcriber(transcriber) => Ok(transcriber),
            _ => Err(self.other_task("transcribe")),
        }
    }

    fn listener(&self) -> Result<&Listener, Error> {
        match &self.part {
            Part::Listener(listener) => Ok(listener),
            _ => Err(self.other_task("detect speech")),
        }
    }

    fn other_task(&self, wanted: &'static str) -> Error {
        Error::OtherTask { name: self.card.name.clone(), task: self.card.task.name(), wanted }
    }
}
