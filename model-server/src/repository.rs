//! The model repository: a folder with a folder for each model, in the layout of the Hugging Face
//! hub: `config.json`, `tokenizer.json`, `onnx/model.onnx` (or `model.onnx`), and sometimes
//! `1_Pooling/config.json`. What a model is, is read from its config, never from its name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::error::Error;

/// The shortest input that a model may be made for: a text's first and last token, and some words.
const FEWEST_TOKENS: usize = 8;

/// The families whose graphs take `input_ids` and `attention_mask` and give hidden states.
const FAMILIES: [&str; 1] = ["bert"];

/// A model's folder, with its files found and its config read.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The folder's name, which is the model's.
    pub(crate) name: String,
    /// `config.json`.
    pub(crate) config_path: PathBuf,
    /// What it says.
    pub(crate) config: ModelConfig,
    /// `tokenizer.json`.
    pub(crate) tokenizer: PathBuf,
    /// `model.onnx`.
    pub(crate) graph: PathBuf,
}

/// The part of `config.json` that matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelConfig {
    /// The family.
    model_type: String,
    /// Length of a vector.
    pub(crate) hidden_size: usize,
    /// Longest input in tokens.
    pub(crate) max_position_embeddings: usize,
    /// The token that fills up a row.
    #[serde(default)]
    pub(crate) pad_token_id: u32,
}

/// The part of sentence-transformers' pooling module that matters here.
#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// Finds the models of a repository, in order of name. Hidden folders and plain files are left out.
///
/// # Errors
/// Names the folder or file that is missing or cannot be used; also when there is no model.
pub(crate) fn scan(repository: &Path) -> Result<Vec<Folder>, Error> {
    let unreadable = |error: io::Error| problem(repository, format!("cannot be read: {error}"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(repository).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_dir() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let wanted = "holds no model; a folder with config.json, tokenizer.json and onnx/model.onnx is one";
        return Err(problem(repository, wanted));
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Folder, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| problem(path, "has a name that is not UTF-8"))?.to_owned();

    let config_path = path.join("config.json");
    let config: ModelConfig = json(&config_path)?;
    if !FAMILIES.contains(&config.model_type.as_str()) {
        let families = FAMILIES.join(", ");
        return Err(problem(
            &config_path,
            format!("has model_type {:?}; supported: {families}", config.model_type),
        ));
    }
    let tokens = config.max_position_embeddings;
    if tokens < FEWEST_TOKENS {
        let problem_is = format!("has max_position_embeddings {tokens}; at least {FEWEST_TOKENS} are needed");
        return Err(problem(&config_path, problem_is));
    }
    let pooling = path.join("1_Pooling/config.json");
    if pooling.exists() && !json::<PoolingConfig>(&pooling)?.pooling_mode_mean_tokens {
        return Err(problem(&pooling, "asks for another pooling than pooling_mode_mean_tokens"));
    }

    let graph = path.join("onnx/model.onnx");
    let in_root = path.join("model.onnx");
    let graph = if !graph.exists() && in_root.exists() { in_root } else { graph };
    let tokenizer = path.join("tokenizer.json");
    for file in [&graph, &tokenizer] {
        fs::metadata(file).map_err(|error| problem(file, format!("cannot be read: {error}")))?;
    }
    Ok(Folder { name, config_path, config, tokenizer, graph })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|error| problem(path, format!("cannot be read: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| problem(path, format!("cannot be used: {error}")))
}

/// The error that names `path`.
pub(crate) fn problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::File { path: path.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(folder: &Path, graph: &str) {
        fs::create_dir_all(folder.join("onnx")).unwrap();
        let config = r#"{"model_type": "bert", "hidden_size": 4, "max_position_embeddings": 8}"#;
        fs::write(folder.join("config.json"), config).unwrap();
        for file in ["tokenizer.json", graph] {
            fs::write(folder.join(file), "").unwrap();
        }
    }

    #[test]
    fn models_are_found_in_order_of_name_and_in_both_layouts() {
        let folder = tempfile::tempdir().unwrap();
        model(&folder.path().join("b"), "onnx/model.onnx");
        model(&folder.path().join("a"), "model.onnx");
        model(&folder.path().join(".partial"), "model.onnx");
        fs::write(folder.path().join("README.md"), "").unwrap();
        let found = scan(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|folder| folder.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(found[0].graph.ends_with("a/model.onnx") && found[1].graph.ends_with("onnx/model.onnx"));
    }

    #[test]
    fn a_model_for_almost_no_tokens_is_refused() {
        for tokens in [0, 1, 7] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            model(&path, "model.onnx");
            let config =
                format!(r#"{{"model_type": "bert", "hidden_size": 4, "max_position_embeddings": {tokens}}}"#);
            fs::write(path.join("config.json"), config).unwrap();
            let error = scan(folder.path()).unwrap_err().to_string();
            assert!(error.contains("a/config.json has max_position_embeddings"), "{error}");
        }
    }

    #[test]
    fn another_pooling_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        model(&path, "model.onnx");
        fs::create_dir(path.join("1_Pooling")).unwrap();
        fs::write(path.join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
        let error = scan(folder.path()).unwrap_err().to_string();
        assert!(error.contains("1_Pooling/config.json"), "{error}");
    }
}
