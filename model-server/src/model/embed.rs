//! Texts to vectors.

use switchboard_mesh::Call;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Model,
    request::{Size, Work, each},
};
use crate::{
    backend::BackendError,
    error::Error,
    pooling,
    repository::Task,
    tokenize::{TextTokenizer, Tokens, Truncation},
};

/// How to embed.
#[derive(Clone, Debug, Default)]
pub(crate) struct EmbedOptions {
    /// Name of the prompt; empty takes the default one.
    pub(crate) prompt: String,
    /// Whether to scale to length 1; as the folder says when absent.
    pub(crate) normalize: Option<bool>,
    /// Components to keep; 0 keeps all.
    pub(crate) dimensions: usize,
    pub(crate) truncation: Truncation,
}

/// A text's vector.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Its components.
    pub(crate) values: Vec<f32>,
    /// Tokens that were read, special ones included.
    pub(crate) tokens: usize,
    /// Whether the text was cut to the model's length.
    pub(crate) truncated: bool,
}

impl Model {
    /// Embeds `texts`, in order. Dropping the future stops the tokenising and takes the texts out of
    /// the queue; a batch that has begun is finished.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Deadline` when the call's cannot be kept, `OtherTask` when
    /// it embeds nothing, `Invalid` for an unknown prompt, a length that vectors do not have, or a text
    /// without tokens, `TooLong` for one that is longer than may be.
    pub(crate) async fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
        call: &Call,
    ) -> Result<Answer<Embedding>, Error> {
        let Task::Embed { normalize, prompts, default_prompt, .. } = &self.card.task else {
            return Err(self.other_task("embed"));
        };
        let EmbedOptions { prompt, dimensions, truncation, .. } = options;
        let normalize = options.normalize.unwrap_or(*normalize);
        if dimensions > self.card.dimensions {
            let problem = format!("{dimensions}; at most {} are there", self.card.dimensions);
            return Err(Error::invalid("dimensions", problem));
        }
        let name = if prompt.is_empty() { default_prompt.as_ref() } else { Some(&prompt) };
        let prompt = match name {
            None => String::new(),
            Some(name) => prompts.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Error::invalid("prompt", format!("the model has no prompt of that name; it has {known}"))
            })?,
        };
        let finish = move |tokens: Vec<Tokens>, rows: Vec<Vec<f32>>, _: &CancellationToken| {
            let vector = |(mut values, tokens): (Vec<f32>, Tokens)| {
                if dimensions > 0 {
                    values.truncate(dimensions);
                }
                if normalize && pooling::normalise(&mut values).is_none() {
                    let problem = "the model gave a vector without direction".to_owned();
                    return Err(BackendError::Failed(problem).into());
                }
                Ok(Embedding { values, tokens: tokens.count, truncated: tokens.truncated })
            };
            rows.into_iter().zip(tokens).map(vector).collect()
        };
        let (rows, size) = (texts.len(), Size::of(&texts));
        let prepare = move |tokenizer: &TextTokenizer, gone: &CancellationToken| {
            each(&texts, gone, |text| tokenizer.prompted(&prompt, text, truncation))
        };
        self.run(Work { rows, size, prepare, finish, aside: false }, call).await
    }
}
