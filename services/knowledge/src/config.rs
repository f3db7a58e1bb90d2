//! The section `[knowledge]`.

use std::time::Duration;

use mesh::config::{Invalid, within};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

/// What documents may be, how they are cut, and when search stops being exact.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of one document; a larger one is rejected and the stream goes on.
    pub max_document_bytes: usize,
    /// Bytes of one ingest stream; a larger one is refused.
    pub max_stream_bytes: usize,
    /// Documents of one ingest stream.
    pub max_documents: usize,
    /// Time to parse one document.
    #[serde(with = "humantime_serde")]
    pub parse_timeout: Duration,
    /// Characters of a passage at most.
    pub chunk_characters: usize,
    /// Estimated tokens of a passage at most.
    pub chunk_tokens: usize,
    /// Characters that a passage repeats of the one before, in whole sentences, where a section is
    /// longer than one passage. Repeating gained nothing when measured.
    pub overlap_characters: usize,
    /// Texts that are embedded with one call.
    pub embed_batch: usize,
    /// The model that embeds documents; empty takes the embeddings service's default.
    pub embedding_model: String,
    /// Vectors of a tenant up to which every one is compared with the question; beyond it an
    /// approximate index is used.
    pub exact_limit: usize,
    /// Searches that run at once; further ones wait.
    pub searches: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_document_bytes: 20 << 20,
            max_stream_bytes: 1 << 30,
            max_documents: 1000,
            parse_timeout: Duration::from_secs(30),
            chunk_characters: 500,
            chunk_tokens: 128,
            overlap_characters: 0,
            embed_batch: 64,
            embedding_model: String::new(),
            exact_limit: 20_000,
            searches: 4,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("knowledge.max_document_bytes", self.max_document_bytes, 1..=256 << 20)?;
        within("knowledge.max_stream_bytes", self.max_stream_bytes, 1..=64 << 30)?;
        within("knowledge.max_documents", self.max_documents, 1..=100_000)?;
        within("knowledge.parse_timeout in seconds", self.parse_timeout.as_secs(), 1..=600)?;
        within("knowledge.chunk_characters", self.chunk_characters, 50..=8_000)?;
        within("knowledge.chunk_tokens", self.chunk_tokens, 16..=4_096)?;
        within("knowledge.overlap_characters", self.overlap_characters, 0..=self.chunk_characters / 2)?;
        within("knowledge.embed_batch", self.embed_batch, 1..=1_024)?;
        within("knowledge.exact_limit", self.exact_limit, 0..=10_000_000)?;
        within("knowledge.searches", self.searches, 1..=256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let config = Config { chunk_characters: 1, ..Config::default() };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "knowledge.chunk_characters = 1 is not allowed: from 50 to 8000"
        );
    }
}
