//! The section `[embeddings]`.

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

/// Which model embeds, how large requests are spread, and what is remembered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of requests that name none; empty takes the model-server's first one.
    pub model: String,
    /// Texts of one call to a model-server, 1 to 1,024.
    pub texts_per_call: usize,
    /// Calls to model-servers that one request has open at once, 1 to 64.
    pub calls_at_once: usize,
    /// Memory for vectors of texts that may come again, in MiB, 0 to 65,536; 0 remembers none.
    pub cache_mib: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: String::new(),
            // Enough for full batches, and little lost when a call has to be made again.
            texts_per_call: 128,
            // On one node, one is computed while the next one's texts are tokenised; the others are
            // for further nodes.
            calls_at_once: 4,
            // Some 38,000 vectors of 384 components: a day's questions of a small company.
            cache_mib: 64,
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
        within("embeddings.calls_at_once", self.calls_at_once, 1..=64)?;
        within("embeddings.cache_mib", self.cache_mib, 0..=65_536)
    }
}
