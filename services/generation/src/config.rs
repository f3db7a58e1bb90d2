//! The section `[generation]`.

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

/// How replies are made.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Least probability that the evidence answers the question; below it the reply says that it
    /// cannot answer. 0 to 1.
    pub min_answerability: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_answerability: 0.5 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("generation.min_answerability", self.min_answerability, 0.0..=1.0)
    }
}
