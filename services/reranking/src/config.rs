//! The section `[reranking]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

use crate::features::Weights;

/// What scores candidates.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of requests that name none; empty takes the model-servers' first one for the task.
    pub model: String,
    /// Candidates of one call to a model-server where it does not tell how long batches take, 1 to 256.
    pub candidates_per_call: usize,
    /// Whether what is known of the candidates is weighed where there is no model. `switchboard eval
    /// rerank` tells what it would change on your own questions.
    pub features: bool,
    /// What each feature is worth then, -1,000 to 1,000.
    pub weights: Weights,
    /// How long it is remembered that no model-server has a model for this, or that the model was too
    /// slow for anything, 0 s to 1 h.
    #[serde(with = "humantime_serde")]
    pub look_again: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: String::new(),
            // Enough to fill a small batch, few enough to stop after in time.
            candidates_per_call: 8,
            // Follow-ups gain by it, but questions that stand alone do not on pages that the weights were
            // not fitted to, the right document comes first less often, and of 258 replies of the
            // extractive tier none became right or wrong. The figures stand by the weights.
            features: false,
            weights: Weights::default(),
            look_again: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the first key whose value is not allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("reranking.candidates_per_call", self.candidates_per_call, 1..=256)?;
        within("reranking.look_again in seconds", self.look_again.as_secs(), 0..=3_600)
    }
}
