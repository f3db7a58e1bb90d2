//! The section `[inference]`.

use std::{num::NonZero, path::PathBuf, thread};

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

/// What a node runs, and within which limits.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of models: one folder in it for each, named as the model is. Empty takes the first
    /// there is of `models/` beside the executable, `.cache/models/` of the checkout that the
    /// executable was built in, and the same of the working folder if that is a checkout.
    pub repository: PathBuf,
    /// The ONNX Runtime library, version 1.22 or later. Empty looks in the same order: beside the
    /// executable, then in `.cache/onnxruntime/` of the same checkouts.
    pub runtime: PathBuf,
    /// Threads that compute one batch; 0 takes one for each core.
    pub threads: usize,
    /// Tokens that are read of a text, special ones included; the rest is cut. Never more than the
    /// model's own limit.
    pub max_tokens: usize,
    /// Tokens of one batch, padding included. A small batch keeps the wait of the next one short.
    pub max_batch_tokens: usize,
    /// Texts that may wait for a model, or be in work; a request beyond that is refused.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repository: PathBuf::new(),
            runtime: PathBuf::new(),
            threads: 0,
            max_tokens: 256,
            // On two cores MiniLM's throughput is flat from 512 tokens on, and such a batch takes
            // some 90 ms; a larger one would only make others wait for longer.
            max_batch_tokens: 512,
            queue: 4096,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the first key whose value is not allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("inference.threads", self.threads, 0..=256)?;
        within("inference.max_tokens", self.max_tokens, 8..=8192)?;
        within("inference.max_batch_tokens", self.max_batch_tokens, self.max_tokens..=1 << 20)?;
        // The largest request must fit, also when a quarter is kept free of class batch.
        within("inference.queue", self.queue, 2048..=1 << 20)
    }

    /// Threads that compute one batch.
    pub(crate) fn compute_threads(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        }
    }
}
