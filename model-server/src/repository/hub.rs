//! The files of others: transformers' `config.json`, sentence-transformers' modules, and ColBERT's
//! `artifact.metadata`.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{LateInteraction, json, json_if_there, problem};
use crate::{error::Error, pooling::Pooling};

/// The part of `config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ModelConfig {
    /// The family.
    #[serde(default)]
    pub(crate) model_type: String,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    hidden_size: Option<usize>,
    /// DistilBERT's word for it.
    #[serde(default)]
    dim: Option<usize>,
    #[serde(default)]
    max_position_embeddings: Option<i64>,
    #[serde(default)]
    pub(crate) vocab_size: Option<usize>,
    /// The token that fills up a row.
    #[serde(default)]
    pub(crate) pad_token_id: Option<u32>,
    #[serde(default)]
    id2label: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    num_labels: Option<usize>,
    #[serde(default)]
    pub(crate) problem_type: Option<String>,
    #[serde(default)]
    pub(crate) num_hidden_layers: Option<usize>,
    #[serde(default)]
    pub(crate) num_attention_heads: Option<usize>,
    #[serde(default)]
    pub(crate) num_key_value_heads: Option<usize>,
    #[serde(default)]
    pub(crate) head_dim: Option<usize>,
}

impl ModelConfig {
    /// Components of a token's vector.
    pub(crate) fn width(&self) -> Option<usize> {
        self.hidden_size.or(self.dim)
    }

    /// Tokens that there are positions for; `None` where positions are relative.
    pub(crate) fn positions(&self) -> Option<usize> {
        self.max_position_embeddings.filter(|positions| *positions >= 0).map(|positions| positions as usize)
    }

    /// Whether an architecture has `part` in its name.
    pub(crate) fn architecture_has(&self, part: &str) -> bool {
        self.architectures.iter().flatten().any(|name| name.contains(part))
    }

    /// The labels in the order of the outputs. Where none are named, there are `num_labels`, 2 by
    /// default, as in transformers.
    ///
    /// # Errors
    /// What is wrong with `id2label`.
    pub(crate) fn labels(&self) -> Result<Vec<String>, String> {
        let Some(named) = self.id2label.as_ref().filter(|named| !named.is_empty()) else {
            let count = self.num_labels.unwrap_or(2).min(super::MOST_LABELS + 1);
            return Ok((0..count).map(|number| format!("LABEL_{number}")).collect());
        };
        let label = |number: usize| match named.get(&number.to_string()) {
            Some(Value::String(label)) => Ok(label.clone()),
            Some(Value::Number(label)) => Ok(label.to_string()),
            _ => Err(format!("has an id2label without a name for {number}; it names {} labels", named.len())),
        };
        (0..named.len()).map(label).collect()
    }
}

/// What sentence-transformers' files say.
pub(super) struct SentenceTransformer {
    pub(super) pooling: Option<Pooling>,
    pub(super) normalize: bool,
    /// A module that only a graph can have computed, such as `Dense`.
    pub(super) foreign: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads `modules.json` and the pooling that it names. Without it vectors are scaled.
pub(super) fn sentence_transformer(folder: &Path) -> Result<SentenceTransformer, Error> {
    let path = folder.join("modules.json");
    let modules: Option<Vec<Module>> = json_if_there(&path)?;
    let Some(modules) = modules else {
        return Ok(SentenceTransformer {
            pooling: pooling(&folder.join("1_Pooling/config.json"))?,
            normalize: true,
            foreign: None,
        });
    };
    let mut found = SentenceTransformer { pooling: None, normalize: false, foreign: None };
    for module in modules {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => found.normalize = true,
            "Pooling" => {
                // The name is a folder's beside this file, and no way out of it.
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !module.path.chars().all(plain) {
                    return Err(problem(
                        &path,
                        format!("has a module at {:?}, which is no folder's name", module.path),
                    ));
                }
                found.pooling = pooling(&folder.join(&module.path).join("config.json"))?;
            }
            other => found.foreign = Some(other.to_owned()),
        }
    }
    Ok(found)
}

/// Reads a `1_Pooling/config.json`: either a name, or a switch for each kind.
fn pooling(path: &Path) -> Result<Option<Pooling>, Error> {
    let Some(config) = json_if_there::<BTreeMap<String, Value>>(path)? else { return Ok(None) };
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        return Err(problem(path, "asks to leave prompts out of the pooling, which is not supported"));
    }
    let switched = config.iter().filter(|(_, on)| **on == Value::Bool(true));
    let mut modes: Vec<&str> = switched.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    if let Some(Value::String(mode)) = config.get("pooling_mode") {
        modes.push(mode);
    }
    match modes.as_slice() {
        [] => Ok(None),
        ["mean_tokens" | "mean"] => Ok(Some(Pooling::Mean)),
        ["cls_token" | "cls"] => Ok(Some(Pooling::Cls)),
        ["lasttoken"] => Ok(Some(Pooling::Last)),
        other => {
            let other = other.join(" and ");
            let known = "pooling_mode_mean_tokens, _cls_token or _lasttoken alone is supported";
            Err(problem(path, format!("asks for pooling by {other}; {known}")))
        }
    }
}

/// The prompts by name, empty ones as well, and the name of the default one.
pub(super) fn prompts(path: &Path) -> Result<(BTreeMap<String, String>, Option<String>), Error> {
    #[derive(Default, Deserialize)]
    struct Prompts {
        #[serde(default)]
        prompts: Option<BTreeMap<String, String>>,
        #[serde(default)]
        default_prompt_name: Option<String>,
    }
    let found: Prompts = json_if_there(path)?.unwrap_or_default();
    Ok((found.prompts.unwrap_or_default(), found.default_prompt_name))
}

/// The longest input that a model was trained for.
pub(super) fn max_sequence(path: &Path) -> Result<Option<usize>, Error> {
    #[derive(Default, Deserialize)]
    struct Limits {
        #[serde(default)]
        max_seq_length: Option<usize>,
    }
    Ok(json_if_there::<Limits>(path)?.unwrap_or_default().max_seq_length)
}

/// How late interaction reads, where `artifact.metadata` says so.
pub(super) fn late_interaction(path: &Path) -> Result<Option<LateInteraction>, Error> {
    #[derive(Deserialize)]
    struct Artifact {
        query_maxlen: Option<usize>,
        doc_maxlen: Option<usize>,
        query_token_id: Option<String>,
        doc_token_id: Option<String>,
        attend_to_mask_tokens: Option<bool>,
        mask_punctuation: Option<bool>,
    }
    if !path.exists() {
        return Ok(None);
    }
    let found: Artifact = json(path)?;
    let usual = LateInteraction::default();
    let late = LateInteraction {
        query_tokens: found.query_maxlen.unwrap_or(usual.query_tokens),
        document_tokens: found.doc_maxlen.unwrap_or(usual.document_tokens),
        query_marker: found.query_token_id.unwrap_or(usual.query_marker),
        document_marker: found.doc_token_id.unwrap_or(usual.document_marker),
        attend_to_filler: found.attend_to_mask_tokens.unwrap_or(usual.attend_to_filler),
        skip_punctuation: found.mask_punctuation.unwrap_or(usual.skip_punctuation),
        filler: usual.filler,
    };
    for (key, tokens) in [("query_maxlen", late.query_tokens), ("doc_maxlen", late.document_tokens)] {
        if !(4..=8192).contains(&tokens) {
            return Err(problem(path, format!("has {key} = {tokens}; 4 to 8192 is allowed")));
        }
    }
    Ok(Some(late))
}
