//! What the files of a language model say of it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use switchboard_mesh::error::chain;
use switchboard_onnx::{inspect::Inspection, safetensors::Safetensors};

use super::{BackendName, ModelConfig, Settings, json_if_there, onnx, onnx_files, present, problem};
use crate::error::Error;

/// Layers, heads and components that a model may have; the largest published ones have some 130, 130 and 512.
const MOST: usize = 4096;

/// A causal language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Language {
    pub(crate) layers: usize,
    /// Heads of keys and values.
    pub(crate) heads: usize,
    /// Components of a head.
    pub(crate) head_size: usize,
    /// Logits of a token.
    pub(crate) vocabulary: usize,
    /// Tokens that there are positions for.
    pub(crate) positions: usize,
}

impl Language {
    pub(super) fn read(path: &Path, config: &ModelConfig) -> Result<Self, Error> {
        let wanted = |key: &str, value: Option<usize>| match value {
            Some(value) if (1..=MOST).contains(&value) => Ok(value),
            Some(value) => Err(problem(path, format!("has {key} = {value}; 1 to {MOST} is allowed"))),
            None => Err(problem(path, format!("has no {key}, which a language model needs"))),
        };
        let heads = wanted("num_attention_heads", config.num_attention_heads)?;
        let head_size = match config.head_dim {
            Some(size) => wanted("head_dim", Some(size))?,
            None => wanted("hidden_size", config.width().map(|width| width / heads))?,
        };
        let kv_heads = config.num_key_value_heads.or(Some(heads));
        let large = |key: &str, value: Option<usize>| match value {
            Some(value) if (8..=1 << 22).contains(&value) => Ok(value),
            Some(value) => Err(problem(path, format!("has {key} = {value}; 8 to 4194304 is allowed"))),
            None => Err(problem(path, format!("has no {key}, which a language model needs"))),
        };
        Ok(Self {
            layers: wanted("num_hidden_layers", config.num_hidden_layers)?,
            heads: wanted("num_key_value_heads", kv_heads)?,
            head_size,
            vocabulary: large("vocab_size", config.vocab_size)?,
            positions: large("max_position_embeddings", config.positions())?,
        })
    }

    /// Bytes of keys and values that a token takes, with numbers of 32 bits.
    pub(crate) fn bytes_per_token(&self) -> usize {
        self.layers * 2 * self.heads * self.head_size * 4
    }
}

/// The file that is run, and by what: as `model.toml` says; else onnxruntime-genai's, optimum's, the safetensors,
/// or a TorchScript file, whichever there is first.
pub(super) fn graph(folder: &Path, settings: &Settings) -> Result<(BackendName, PathBuf), Error> {
    let weights = ["model.safetensors", "model.safetensors.index.json"].map(|file| folder.join(file));
    let weights = weights.into_iter().find(|path| path.exists());
    let script = Some(folder.join("model.pt")).filter(|path| path.exists());
    let is_onnx = |path: &Path| path.extension().is_some_and(|extension| extension == "onnx");
    let (backend, path) = match (settings.backend, &settings.file) {
        (backend, Some(named)) => {
            let found = if is_onnx(named) { BackendName::Onnx } else { BackendName::Torch };
            (backend.unwrap_or(found), folder.join(named))
        }
        (Some(BackendName::Torch), None) => {
            (BackendName::Torch, weights.or(script).unwrap_or_else(|| folder.join("model.safetensors")))
        }
        (None, None) if onnx_files(folder).is_empty() => match weights.or(script) {
            Some(path) => (BackendName::Torch, path),
            None => return Ok((BackendName::Onnx, onnx(folder)?)),
        },
        (_, None) => {
            let path = match genai(folder)? {
                Some(path) => path,
                None => optimum(folder)?,
            };
            (BackendName::Onnx, path)
        }
    };
    present(&path, u64::MAX)?;
    Ok((backend, path))
}

/// The file that a `genai_config.json` names.
fn genai(folder: &Path) -> Result<Option<PathBuf>, Error> {
    #[derive(Deserialize)]
    struct Config {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        decoder: Decoder,
    }
    #[derive(Deserialize)]
    struct Decoder {
        filename: PathBuf,
    }
    let path = folder.join("genai_config.json");
    let Some(config) = json_if_there::<Config>(&path)? else { return Ok(None) };
    let file = config.model.decoder.filename;
    match file.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
        true => Ok(Some(folder.join(file))),
        false => {
            Err(problem(&path, format!("has filename = {file:?}, which is not below the model's folder")))
        }
    }
}

/// The graph of optimum's layout: the usual one, or the one that older versions merged.
fn optimum(folder: &Path) -> Result<PathBuf, Error> {
    let merged =
        ["onnx/decoder_model_merged.onnx", "decoder_model_merged.onnx"].map(|file| folder.join(file));
    let usual = ["onnx/model.onnx", "model.onnx"].map(|file| folder.join(file));
    match usual.iter().chain(&merged).find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => onnx(folder),
    }
}

/// What the safetensors of a folder hold.
pub(super) fn inspect(folder: &Path) -> Result<Inspection, Error> {
    let file = Safetensors::open(folder).map_err(|error| {
        // Its text begins with the path, as ours does.
        let (text, path) = (chain(&error), error.path());
        let own = text.strip_prefix(&*path.to_string_lossy()).unwrap_or(&text);
        problem(path, own.trim_start())
    })?;
    let mut inspection = Inspection::default();
    inspection.weights = file.bytes();
    inspection.weight_bytes = inspection.weights.values().sum();
    inspection.external_files = file.files().map(Path::to_owned).collect();
    Ok(inspection)
}
