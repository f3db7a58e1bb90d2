//! A model's folder: its graph, and the files that describe it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Options, Report, config::settings, error::ImportError, graph, write::beside};
use crate::short::short;

/// Files that a model cannot do without.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that are copied where they are there: settings, the tokenizer, and what says whose the model is.
const OPTIONAL: [&str; 15] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "artifact.metadata",
    "model.toml",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "NOTICE.txt",
];
/// Bytes of such a file; the largest tokenizers have some 35 MB.
const LARGEST: u64 = 256 << 20;

/// Makes a model's folder at `destination` of the folder `source`: the graph as `onnx/model.onnx`, and
/// the settings and tokenizer beside it.
///
/// `destination` appears whole or not at all. Everything is written into a hidden folder beside it,
/// which is renamed in the end.
///
/// # Errors
/// When `destination` is there already, or names the file of `source` and what is wrong with it.
pub fn bert(source: &Path, destination: &Path, options: &Options) -> Result<Report, ImportError> {
    let unwritable = |source| ImportError::Unwritable { path: destination.to_owned(), source };
    if destination.file_name().is_none() {
        return Err(unwritable(io::Error::other("it has no name")));
    }
    if destination.symlink_metadata().is_ok() {
        return Err(ImportError::Exists { path: destination.to_owned() });
    }
    let files = description(source)?;
    if let Some(parent) = destination.parent() {
        fs::create_dir_all(parent).map_err(unwritable)?;
    }
    let work = Work(beside(destination));
    fs::create_dir(&work.0).map_err(unwritable)?;
    for file in files {
        copy(source, &work.0, &file)?;
    }
    let report = graph(source, &work.0.join("onnx/model.onnx"), options)?;
    fs::rename(&work.0, destination).map_err(unwritable)?;
    Ok(report)
}

/// A folder that goes when this is dropped, if it is still there.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        // After success there is nothing to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Names, below `source`, of the files to copy.
fn description(source: &Path) -> Result<Vec<String>, ImportError> {
    let mut files: Vec<String> = NEEDED.map(String::from).into();
    files.extend(OPTIONAL.iter().filter(|name| source.join(name).is_file()).map(ToString::to_string));
    if files.iter().any(|name| name == "modules.json") {
        modules(&source.join("modules.json"))?;
    }
    let unreadable = |error| ImportError::Unreadable { path: source.to_owned(), source: error };
    for entry in fs::read_dir(source).map_err(unreadable)? {
        let folder = entry.map_err(unreadable)?.file_name();
        // A module's own settings, such as `1_Pooling/config.json`.
        let Some(folder) = folder.to_str().filter(|name| is_module(name)) else {
            continue;
        };
        let name = format!("{folder}/config.json");
        if source.join(&name).is_file() {
            files.push(name);
        }
    }
    Ok(files)
}

fn is_module(folder: &str) -> bool {
    folder.split_once('_').is_some_and(|(number, name)| {
        (1..=3).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Refuses a model that has weights outside of its encoder: its graph would be only half of it.
fn modules(path: &Path) -> Result<(), ImportError> {
    let modules = settings(path)?;
    let kinds = modules.as_array().into_iter().flatten().filter_map(|module| module["type"].as_str());
    for kind in kinds {
        let name = kind.rsplit('.').next().unwrap_or_default();
        if !["Transformer", "Pooling", "Normalize"].contains(&name) {
            let kind = short(kind);
            let problem =
                format!("the module {kind} is not supported: Transformer, Pooling and Normalize are");
            return Err(ImportError::Settings { path: path.to_owned(), problem });
        }
    }
    Ok(())
}

fn copy(source: &Path, destination: &Path, name: &str) -> Result<(), ImportError> {
    let (from, to) = (source.join(name), destination.join(name));
    let unreadable = |source| ImportError::Unreadable { path: from.clone(), source };
    let metadata = fs::metadata(&from).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        let problem = format!("it is no file of at most {LARGEST} bytes");
        return Err(ImportError::Settings { path: from, problem });
    }
    let unwritable = |source| ImportError::Unwritable { path: to.clone(), source };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(unwritable)?;
    }
    fs::copy(&from, &to).map_err(unwritable)?;
    Ok(())
}
