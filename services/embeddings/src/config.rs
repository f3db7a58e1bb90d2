//! The section `[embeddings]`.

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

/// Which model embeds, and how large requests are spread.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of requests that name none; empty takes the model-server's first one.
    pub model: String,
    /// Texts of one call to a model-server.
    pub texts_per_call: usize,
    /// Calls to model-servers that one request has open at once.
    pub calls_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: String::new(),
            // Enough for full batches, and little lost when a call has to be made again.
            texts_per_call: 128,
            // One is computed while the next one's texts are tokenised.
            calls_at_once: 2,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the first key whose value is not allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("embeddings.texts_per_call", self.texts_per_call, 1..=1024)?;
        within("embeddings.calls_at_once", self.calls_at_once, 1..=64)
    }
}
