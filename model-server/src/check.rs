//! What a folder of models holds, and what is wrong with it: for people, before it is served.
//!
//! [`folders`] finds the models, [`read`] says of one what its files say, and [`folder`] runs it as well.
//! Both give a [`Checked`], which makes the text and the JSON that every command prints.

mod report;

use std::path::{Path, PathBuf};

use serde_json::json;
use switchboard_mesh::terminal;
use switchboard_onnx::inspect::{Dimension, Inspection};

use crate::{
    Config, Error, library,
    model::Loaded,
    onnx::Runtime,
    repository::{self, Description, Settings, Task, problem},
};

/// What makes a folder a model's, rather than a folder of models.
const MARKS: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "model.toml",
    "model.onnx",
    "onnx/model.onnx",
    "model.pt",
    "model.safetensors",
];

/// A model's folder, and what became of looking at it.
#[derive(Debug)]
pub struct Checked {
    /// The folder's name.
    pub name: String,
    /// What it holds; or which file is at fault, and what is wrong with it.
    pub found: Result<Found, Error>,
}

/// What was found in a model's folder.
#[derive(Clone, Debug)]
pub struct Found {
    /// `embed`, `rerank`, `classify`, `transcribe` or `detect-speech`.
    pub task: &'static str,
    /// What kind of it, such as `mean pooling` or `cross-encoder`.
    pub kind: &'static str,
    /// The family that `config.json` names, such as `bert`.
    pub model_type: String,
    /// The ONNX or TorchScript file, relative to the folder.
    pub file: PathBuf,
    /// Bytes of the weights.
    pub bytes: u64,
    /// What the weights are, such as `float32`, each with its bytes; the most first.
    pub weights: Vec<(&'static str, u64)>,
    /// The graph's inputs, each with its type and shape.
    pub inputs: Vec<String>,
    /// The graph's outputs, likewise.
    pub outputs: Vec<String>,
    /// Components of a vector, or scores of a text; absent where only running the model would tell.
    pub dimensions: Option<usize>,
    /// Longest input in tokens, under this configuration.
    pub max_tokens: usize,
    /// Labels of a classifier, in the order of its outputs.
    pub labels: Vec<String>,
    /// Names of its prompts.
    pub prompts: Vec<String>,
    /// Whether vectors are scaled to length 1; absent for other tasks.
    pub normalize: Option<bool>,
    /// What names results that may be compared; absent where the model was not run.
    pub fingerprint: Option<String>,
    /// Operators in which the rows of a batch depend on each other: with any, a text's result changes
    /// with the texts beside it.
    pub batch_variant: Vec<String>,
}

/// The models in `path` with their folders, in order of name: `path` is a model's own folder, or a
/// folder of them.
///
/// # Errors
/// When `path` cannot be read, or holds no model.
pub fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    if !MARKS.iter().any(|mark| path.join(mark).exists()) {
        return Ok(repository::list(path)?.into_iter().collect());
    }
    // A model is named as its folder is, which `.` does not tell.
    let named = if path.file_name().is_some() { std::path::absolute(path) } else { path.canonicalize() };
    let folder = named.map_err(|error| problem(path, format!("cannot be read: {error}")))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(vec![(name, folder)])
}

/// Says what the files in `folder` say, without loading or running the model.
#[must_use]
pub fn read(config: &Config, folder: &Path) -> Checked {
    let found = || {
        let description = repository::describe(folder)?;
        Ok(Found::new(config, &description, &description.inspect()?))
    };
    Checked { name: name(folder), found: found() }
}

/// Loads the model in `folder`, runs it once, and says what it is.
///
/// # Errors
/// When the runtime library cannot be used. What is wrong with the model is in [`Checked::found`].
pub fn folder(config: &Config, folder: &Path) -> Result<Checked, Error> {
    let runtime = Runtime::load(&library::find(&config.runtime)?)?;
    let found = || {
        let mut description = repository::describe(folder)?;
        // Nothing is measured, whatever is configured: one instance, run once.
        let settings = &mut description.settings;
        (settings.warm_up, settings.instances) = (Some(std::time::Duration::ZERO), Some(1));
        let loaded = Loaded::new(&description, config, &runtime)?;
        let card = loaded.card();
        Ok(Found {
            dimensions: Some(card.dimensions).filter(|dimensions| *dimensions > 0),
            max_tokens: card.max_tokens,
            fingerprint: Some(card.fingerprint.clone()),
            ..Found::new(config, &description, loaded.inspection())
        })
    };
    Ok(Checked { name: name(folder), found: found() })
}

/// Runs [`folder`] on every model in `path` and prints what it says, each as soon as it is known; or
/// everything as one JSON object with the key `models`. Returns whether all can be served.
///
/// # Errors
/// As [`folders`] and [`folder`].
pub fn print(config: &Config, path: &Path, as_json: bool) -> Result<bool, Error> {
    let mut models = Vec::new();
    let mut usable = true;
    for (position, (_, path)) in folders(path)?.into_iter().enumerate() {
        let checked = folder(config, &path)?;
        usable &= checked.is_ok();
        if as_json {
            models.push(checked.json());
        } else {
            let space = if position > 0 { "\n" } else { "" };
            terminal::line(&format!("{space}{}", checked.text()));
        }
    }
    if as_json {
        terminal::line(&format!("{:#}", json!({ "models": models })));
    }
    Ok(usable)
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Found {
    fn new(config: &Config, description: &Description, graph: &Inspection) -> Self {
        let Description { task, folder, settings, .. } = description;
        let mut weights: Vec<_> = graph.weights.iter().map(|(kind, bytes)| (kind.name(), *bytes)).collect();
        weights.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let most = settings.max_tokens.unwrap_or(config.max_tokens);
        let most = description.max_tokens.map_or(most, |own| most.min(own));
        let (normalize, max_tokens) = match task {
            Task::Embed { normalize, .. } => (Some(*normalize), most),
            Task::LateInteraction(late) => (None, late.document_tokens.min(most)),
            Task::CrossEncoder | Task::Sequence { .. } | Task::Tokens { .. } => (None, most),
            Task::Transcribe(whisper) => (None, whisper.target_positions),
            Task::DetectSpeech => (None, 0),
            Task::Generate(language) => {
                let own = settings.context.unwrap_or(config.generation.context);
                (None, own.min(language.positions))
            }
        };
        let dimensions = match task {
            Task::Embed { .. } if settings.output.is_some() => last_dimension(graph, settings),
            Task::Embed { .. } => description.width,
            Task::CrossEncoder => Some(1),
            Task::LateInteraction(_) => last_dimension(graph, settings),
            Task::Sequence { labels, .. } | Task::Tokens { labels } => Some(labels.len()),
            Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => None,
        };
        Self {
            task: task.name(),
            kind: task.kind(),
            model_type: description.model_type.clone(),
            file: description.graph.strip_prefix(folder).unwrap_or(&description.graph).to_owned(),
            bytes: graph.weight_bytes,
            weights,
            inputs: graph.inputs.iter().map(ToString::to_string).collect(),
            outputs: graph.outputs.iter().map(ToString::to_string).collect(),
            dimensions,
            max_tokens,
            labels: task.labels().to_vec(),
            prompts: task.prompts(),
            normalize,
            fingerprint: None,
            batch_variant: graph.batch_variant.clone(),
        }
    }
}

/// The size of the last dimension of the output that is named, or the only one, if the graph says it.
fn last_dimension(graph: &Inspection, settings: &Settings) -> Option<usize> {
    let output = match (&settings.output, graph.outputs.as_slice()) {
        (Some(named), outputs) => outputs.iter().find(|output| output.name == *named)?,
        (None, [only]) => only,
        (None, _) => return None,
    };
    match output.dims.as_ref()?.last()? {
        Dimension::Fixed(size) => usize::try_from(*size).ok(),
        Dimension::Symbol(_) | Dimension::Unknown => None,
    }
}
