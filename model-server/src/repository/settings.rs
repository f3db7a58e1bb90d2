//! `model.toml`: what the operator knows better than the model's files.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{problem, text};
use crate::{bounds::SMALLEST_QUEUE, error::Error, placement::Precision, pooling::Pooling};

/// The keys of `model.toml`. All may be absent; those that the section `[inference]` has as well override
/// it for this model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `embed`, `rerank`, `classify`, `generate`, `transcribe` or `detect-speech`.
    pub(crate) task: Option<TaskName>,
    /// `onnx` or `torch`, where the folder has files for both.
    pub(crate) backend: Option<BackendName>,
    /// The ONNX or TorchScript (`.pt`) file, relative to the folder.
    pub(crate) file: Option<PathBuf>,
    /// The graph's output that is read, by name, where it is none of the usual ones or not the first of
    /// them, such as `sentence_embedding`.
    pub(crate) output: Option<String>,
    /// `mean`, `cls` or `last`; of no effect on an output with one vector for each text.
    pub(crate) pooling: Option<Pooling>,
    /// Whether vectors are scaled to length 1.
    pub(crate) normalize: Option<bool>,
    /// Tokens that are read of a text.
    pub(crate) max_tokens: Option<usize>,
    /// Batches that are computed side by side.
    pub(crate) instances: Option<usize>,
    /// Threads that compute one batch.
    pub(crate) threads: Option<usize>,
    /// Tokens of a batch, padding included.
    pub(crate) max_batch_tokens: Option<usize>,
    /// Texts that may wait or be in work.
    pub(crate) queue: Option<usize>,
    /// Tokens of a prompt and of what is written after it.
    pub(crate) context: Option<usize>,
    /// Texts that are continued side by side.
    pub(crate) slots: Option<usize>,
    /// What a language model's weights, keys and values are kept as, `float32` or `bfloat16`, where its files
    /// leave it open.
    pub(crate) precision: Option<Precision>,
    /// Time for measuring while it is loaded.
    #[serde(with = "humantime_serde")]
    pub(crate) warm_up: Option<Duration>,
    /// What is put before a text, by name.
    pub(crate) prompts: BTreeMap<String, String>,
    /// The prompt of requests that name none.
    pub(crate) default_prompt: Option<String>,
    /// How queries and documents are read apart.
    pub(crate) late_interaction: Option<LateInteraction>,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TaskName {
    Embed,
    Rerank,
    Classify,
    Generate,
    Transcribe,
    DetectSpeech,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendName {
    Onnx,
    Torch,
}

/// How a model of late interaction reads queries and documents.
///
/// # Source
/// Khattab and Zaharia 2020 (ColBERT), section 3.2; defaults and names as in its checkpoints'
/// `artifact.metadata`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LateInteraction {
    /// Tokens that a query is cut or filled up to.
    pub(crate) query_tokens: usize,
    /// Tokens that a document is cut to.
    pub(crate) document_tokens: usize,
    /// The token behind the first one of a query.
    pub(crate) query_marker: String,
    /// The token behind the first one of a document.
    pub(crate) document_marker: String,
    /// The token that fills up a query.
    pub(crate) filler: String,
    /// Whether other tokens attend to those that fill up a query.
    pub(crate) attend_to_filler: bool,
    /// Whether a document's punctuation counts for nothing.
    pub(crate) skip_punctuation: bool,
}

impl Default for LateInteraction {
    fn default() -> Self {
        Self {
            query_tokens: 32,
            document_tokens: 220,
            query_marker: "[unused0]".into(),
            document_marker: "[unused1]".into(),
            filler: "[MASK]".into(),
            attend_to_filler: false,
            skip_punctuation: true,
        }
    }
}

impl Settings {
    /// Reads a `model.toml`; all is absent where there is none.
    ///
    /// # Errors
    /// Names the file, the key, and what is allowed.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let settings: Self = toml::from_str(&text(path)?)
            .map_err(|error| problem(path, format!("cannot be used: {}", error.to_string().trim_end())))?;
        let within = |key: &str, value: Option<usize>, least: usize, most: usize| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(problem(path, format!("has {key} = {value}; {least} to {most} is allowed")))
            }
            _ => Ok(()),
        };
        within("max_tokens", settings.max_tokens, 8, 8192)?;
        within("context", settings.context, 64, 1 << 20)?;
        within("slots", settings.slots, 1, 256)?;
        within("instances", settings.instances, 1, 64)?;
        within("threads", settings.threads, 1, 256)?;
        within("max_batch_tokens", settings.max_batch_tokens, 8, 1 << 20)?;
        within("queue", settings.queue, SMALLEST_QUEUE, 1 << 20)?;
        within("prompts", Some(settings.prompts.len()), 0, 64)?;
        if let Some(late) = &settings.late_interaction {
            within("late_interaction.query_tokens", Some(late.query_tokens), 4, 512)?;
            within("late_interaction.document_tokens", Some(late.document_tokens), 4, 8192)?;
        }
        let plain = |file: &PathBuf| file.components().all(|part| matches!(part, Component::Normal(_)));
        match &settings.file {
            Some(file) if !plain(file) => {
                Err(problem(path, format!("has file = {file:?}, which is not below the model's folder")))
            }
            _ => Ok(settings),
        }
    }
}
