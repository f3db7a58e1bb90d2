//! The model repository: a folder with a folder for each model, in the layout of the Hugging Face
//! hub. What a model is, is read from its files, never from its name.
//!
//! [`describe`] reads a model's folder without loading it: `config.json` tells the kind of model,
//! sentence-transformers' files tell pooling, prompts and longest input, `artifact.metadata` tells late
//! interaction, and `model.toml` ([`Settings`]) overrides what is found.

mod hub;
mod language;
mod settings;
mod speech;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use switchboard_mesh::error::chain;
use switchboard_onnx::inspect::{self, Inspection};

pub(crate) use self::{
    hub::ModelConfig,
    language::Language,
    settings::{BackendName, LateInteraction, Settings, TaskName},
    speech::{Decoders, Whisper},
};
use crate::{error::Error, pooling::Pooling, torch};

/// The shortest input that a model may be made for: a text's first and last token, and some words.
const FEWEST_TOKENS: usize = 8;
/// Bytes of the largest settings file.
const LARGEST_SETTINGS: u64 = 4 << 20;
/// Bytes of the largest tokenizer; the largest published ones have some 35 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;
/// Labels of a classifier.
const MOST_LABELS: usize = 10_000;
/// Families whose positions begin behind the padding token's.
const SHIFTED: [&str; 6] = ["roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"];

/// What a model does, with what it takes to do it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// A text to a vector.
    Embed {
        /// `None` where only the graph can make one vector of a text, by modules that there are not here.
        pooling: Option<Pooling>,
        /// Whether vectors are scaled to length 1 unless the request says otherwise.
        normalize: bool,
        prompts: BTreeMap<String, String>,
        default_prompt: Option<String>,
    },
    /// Query and text, read together, to a score.
    CrossEncoder,
    /// Query and text, read apart, to a score.
    LateInteraction(LateInteraction),
    /// A text to labels.
    Sequence {
        labels: Vec<String>,
        /// Whether each label holds or not by itself; else exactly one does.
        independent: bool,
    },
    /// Each token of a text to a label.
    Tokens { labels: Vec<String> },
    /// A prompt to what follows.
    Generate(Language),
    /// Speech to text.
    Transcribe(Whisper),
    /// Sound to the parts of it that are speech.
    DetectSpeech,
}

impl Task {
    /// The name in `model.toml`, in tables and in errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::CrossEncoder | Self::LateInteraction(_) => "rerank",
            Self::Sequence { .. } | Self::Tokens { .. } => "classify",
            Self::Generate(_) => "generate",
            Self::Transcribe(_) => "transcribe",
            Self::DetectSpeech => "detect-speech",
        }
    }

    /// Whether it is of that name.
    pub(crate) fn is(&self, name: TaskName) -> bool {
        let own = match self {
            Self::Embed { .. } => TaskName::Embed,
            Self::CrossEncoder | Self::LateInteraction(_) => TaskName::Rerank,
            Self::Sequence { .. } | Self::Tokens { .. } => TaskName::Classify,
            Self::Generate(_) => TaskName::Generate,
            Self::Transcribe(_) => TaskName::Transcribe,
            Self::DetectSpeech => TaskName::DetectSpeech,
        };
        own == name
    }

    /// What kind of it, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Embed { pooling: Some(Pooling::Mean), .. } => "mean pooling",
            Self::Embed { pooling: Some(Pooling::Cls), .. } => "first token",
            Self::Embed { pooling: Some(Pooling::Last), .. } => "last token",
            Self::Embed { pooling: None, .. } => "pooled by the graph",
            Self::CrossEncoder => "cross-encoder",
            Self::LateInteraction(_) => "late interaction",
            Self::Sequence { independent: true, .. } => "texts, any number of labels",
            Self::Sequence { independent: false, .. } => "texts, one label",
            Self::Tokens { .. } => "tokens",
            Self::Generate(_) => "decoder only",
            Self::Transcribe(Whisper { decoders: Decoders::Merged(_), .. }) => "Whisper, merged decoder",
            Self::Transcribe(_) => "Whisper, two decoders",
            Self::DetectSpeech => "Silero",
        }
    }

    /// Names of its prompts, in order.
    pub(crate) fn prompts(&self) -> Vec<String> {
        match self {
            Self::Embed { prompts, .. } => prompts.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> &[String] {
        match self {
            Self::Sequence { labels, .. } | Self::Tokens { labels } => labels,
            _ => &[],
        }
    }
}

/// A model's folder, with its files found and their settings read.
#[derive(Debug)]
pub(crate) struct Description {
    /// The folder's name, which is the model's.
    pub(crate) name: String,
    /// The folder.
    pub(crate) folder: PathBuf,
    /// `config.json`.
    pub(crate) config_path: PathBuf,
    /// `tokenizer.json`.
    pub(crate) tokenizer: PathBuf,
    /// What runs it.
    pub(crate) backend: BackendName,
    /// The ONNX or TorchScript file.
    pub(crate) graph: PathBuf,
    /// The family, such as `bert`.
    pub(crate) model_type: String,
    /// What it does.
    pub(crate) task: Task,
    /// Most tokens of a row, as far as the files say.
    pub(crate) max_tokens: Option<usize>,
    /// Rows of the table of word vectors, where the config says.
    pub(crate) vocabulary: Option<usize>,
    /// Components of a token's vector, where the config says.
    pub(crate) width: Option<usize>,
    /// The token that fills up a row.
    pub(crate) pad: u32,
    /// What `model.toml` says.
    pub(crate) settings: Settings,
}

impl Description {
    /// The files that results depend on, besides those that a graph names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (graph, tokenizer) = (self.graph.clone(), self.tokenizer.clone());
        match &self.task {
            Task::Transcribe(whisper) => {
                let settings = ["generation_config.json", "preprocessor_config.json"];
                let decoders = whisper.decoders.files().into_iter().map(Path::to_owned);
                let settings = settings.into_iter().map(|file| self.folder.join(file));
                [graph, tokenizer].into_iter().chain(decoders).chain(settings).collect()
            }
            Task::DetectSpeech => vec![graph],
            _ => vec![graph, tokenizer],
        }
    }

    /// Reads the graph, and sees that it can be what it says. Of a model with several, inputs and outputs are
    /// the first one's, and constants those of all.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn inspect(&self) -> Result<Inspection, Error> {
        let mut found = self.inspect_file(&self.graph)?;
        let Task::Transcribe(whisper) = &self.task else { return Ok(found) };
        for decoder in whisper.decoders.files() {
            let other = self.inspect_file(decoder)?;
            found.weight_bytes += other.weight_bytes;
            for (kind, bytes) in other.weights {
                *found.weights.entry(kind).or_default() += bytes;
            }
            found.batch_variant.extend(other.batch_variant);
            found.external_files.extend(other.external_files);
        }
        found.batch_variant.sort();
        found.batch_variant.dedup();
        found.external_files.sort();
        found.external_files.dedup();
        Ok(found)
    }

    fn inspect_file(&self, graph: &Path) -> Result<Inspection, Error> {
        match graph.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors" | "json") => return language::inspect(&self.folder),
            _ if self.backend == BackendName::Torch => return torch::inspect(graph),
            _ => {}
        }
        inspect::inspect(graph, &self.folder).map_err(|error| {
            // Its text begins with the path, as ours does.
            let text = chain(&error);
            let own = text.strip_prefix(&*graph.to_string_lossy()).unwrap_or(&text).trim_start();
            let own = own.strip_prefix(':').map_or(own.to_owned(), |it| format!("cannot be used:{it}"));
            problem(graph, own)
        })
    }
}

/// The names of a repository's models with their folders, in order of name. Left out are hidden folders,
/// plain files, and folders whose names are not UTF-8, which no request could name.
///
/// # Errors
/// When the folder cannot be read, or holds no model.
pub(crate) fn list(repository: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let unreadable = |error: io::Error| problem(repository, format!("cannot be read: {error}"));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(repository).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.is_dir() {
            continue;
        }
        match name(&path) {
            Ok(name) => drop(found.insert(name, path)),
            Err(error) => tracing::warn!(%error, "the folder is left out"),
        }
    }
    if found.is_empty() {
        let wanted = "holds no model; a folder with config.json, tokenizer.json and onnx/model.onnx or \
                      model.pt is one";
        return Err(problem(repository, wanted));
    }
    Ok(found)
}

fn name(folder: &Path) -> Result<String, Error> {
    let name = folder.file_name().and_then(|name| name.to_str());
    Ok(name.ok_or_else(|| problem(folder, "has a name that is not UTF-8"))?.to_owned())
}

/// Reads what the files of a model's folder say.
///
/// # Errors
/// Names the file that is missing or cannot be used, and what is allowed.
pub(crate) fn describe(folder: &Path) -> Result<Description, Error> {
    let name = name(folder)?;
    let config_path = folder.join("config.json");
    let config: ModelConfig = json(&config_path)?;
    let settings = Settings::read(&folder.join("model.toml"))?;
    let tokenizer = folder.join("tokenizer.json");
    let kind = settings.task.or_else(|| speech(&config.model_type));
    if kind != Some(TaskName::DetectSpeech) {
        present(&tokenizer, LARGEST_TOKENIZER)?;
    }
    let (backend, graph, task) = match kind {
        Some(TaskName::Transcribe) => {
            let (encoder, whisper) = speech::whisper(folder, &config_path, settings.file.as_deref())?;
            (BackendName::Onnx, encoder, Task::Transcribe(whisper))
        }
        Some(TaskName::DetectSpeech) => {
            let (backend, graph) = graph(folder, &settings)?;
            (backend, graph, Task::DetectSpeech)
        }
        _ => {
            let task = task(folder, &config_path, &config, &settings)?;
            let (backend, graph) = match task {
                Task::Generate(_) => language::graph(folder, &settings)?,
                _ => graph(folder, &settings)?,
            };
            (backend, graph, task)
        }
    };
    let max_tokens = max_tokens(folder, &config_path, &config, &settings, &task)?;
    Ok(Description {
        name,
        folder: folder.to_owned(),
        tokenizer,
        backend,
        graph,
        task,
        max_tokens,
        vocabulary: config.vocab_size,
        width: config.width(),
        pad: config.pad_token_id.unwrap_or(0),
        model_type: config.model_type,
        config_path,
        settings,
    })
}

/// What models of speech do, by their family.
fn speech(model_type: &str) -> Option<TaskName> {
    match model_type {
        speech::WHISPER => Some(TaskName::Transcribe),
        other if speech::SILERO.contains(&other) => Some(TaskName::DetectSpeech),
        _ => None,
    }
}

/// The file to run, and by what: as `model.toml` says; else an ONNX file, else TorchScript.
fn graph(folder: &Path, settings: &Settings) -> Result<(BackendName, PathBuf), Error> {
    let script = folder.join("model.pt");
    let is_script = |path: &Path| path.extension().is_some_and(|extension| extension == "pt");
    let (backend, path) = match (settings.backend, &settings.file) {
        (Some(backend), Some(named)) => (backend, folder.join(named)),
        (None, Some(named)) if is_script(named) => (BackendName::Torch, folder.join(named)),
        (None, Some(named)) => (BackendName::Onnx, folder.join(named)),
        (Some(BackendName::Torch), None) => (BackendName::Torch, script),
        (None, None) if script.exists() && onnx_files(folder).is_empty() => (BackendName::Torch, script),
        (_, None) => return Ok((BackendName::Onnx, onnx(folder)?)),
    };
    present(&path, u64::MAX)?;
    Ok((backend, path))
}

/// Every ONNX file.
fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let is_graph = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "onnx");
    let in_folder = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(is_graph).collect::<Vec<_>>()
    };
    let mut others = in_folder(&folder.join("onnx"));
    others.extend(in_folder(folder));
    others.sort();
    others
}

/// The ONNX file: the usual one, else the only one there is.
fn onnx(folder: &Path) -> Result<PathBuf, Error> {
    let usual = [folder.join("onnx/model.onnx"), folder.join("model.onnx")];
    if let Some(path) = usual.iter().find(|path| path.exists()) {
        present(path, u64::MAX)?;
        return Ok(path.clone());
    }
    match onnx_files(folder).as_slice() {
        [one] => Ok(one.clone()),
        [] if has_weights(folder) => {
            let import =
                "is not there; `switchboard models import` makes it of the folder's safetensors weights";
            Err(problem(&usual[0], import))
        }
        [] => Err(problem(&usual[0], "cannot be read: there is no such file")),
        several => {
            let relative = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
            let names: Vec<_> = several.iter().map(relative).collect();
            let choose =
                format!("is not there; choose one of {} with `file` in model.toml", names.join(", "));
            Err(problem(&usual[0], choose))
        }
    }
}

fn has_weights(folder: &Path) -> bool {
    ["model.safetensors", "model.safetensors.index.json"].iter().any(|file| folder.join(file).exists())
}

fn task(folder: &Path, path: &Path, config: &ModelConfig, settings: &Settings) -> Result<Task, Error> {
    let late = || -> Result<Option<LateInteraction>, Error> {
        let found = hub::late_interaction(&folder.join("artifact.metadata"))?;
        let is_late = found.is_some() || config.architecture_has("ColBERT");
        let found = found.or_else(|| is_late.then(LateInteraction::default));
        Ok(settings.late_interaction.clone().or(found))
    };
    let labels = || {
        let labels = config.labels().map_err(|what| problem(path, what))?;
        match labels.len() {
            1..=MOST_LABELS => Ok(labels),
            count => Err(problem(path, format!("has {count} labels; 1 to {MOST_LABELS} are allowed"))),
        }
    };
    let sequence = config.architecture_has("ForSequenceClassification");
    let tokens = config.architecture_has("ForTokenClassification");
    let found = match settings.task {
        Some(task) => task,
        None if config.architecture_has("ForCausalLM") => TaskName::Generate,
        None if tokens => TaskName::Classify,
        None if sequence && config.labels().is_ok_and(|labels| labels.len() == 1) => TaskName::Rerank,
        None if sequence => TaskName::Classify,
        None if late()?.is_some() => TaskName::Rerank,
        None => TaskName::Embed,
    };
    match found {
        TaskName::Classify if tokens => Ok(Task::Tokens { labels: labels()? }),
        TaskName::Classify if sequence => {
            let labels = labels()?;
            // Of one label alone it can only be said whether it holds.
            let independent =
                config.problem_type.as_deref() == Some("multi_label_classification") || labels.len() == 1;
            Ok(Task::Sequence { labels, independent })
        }
        TaskName::Classify => {
            let wanted = "names no architecture that ends in ForSequenceClassification or \
                          ForTokenClassification, without which there are no labels";
            Err(problem(path, wanted))
        }
        TaskName::Rerank if sequence => match labels()?.len() {
            1 => Ok(Task::CrossEncoder),
            count => Err(problem(path, format!("has {count} labels; a model that reranks has 1"))),
        },
        TaskName::Rerank => match late()? {
            Some(late) => Ok(Task::LateInteraction(late)),
            None => {
                let wanted = "is of no model that reranks: it names no ForSequenceClassification, and there \
                              is neither an artifact.metadata nor [late_interaction] in model.toml";
                Err(problem(path, wanted))
            }
        },
        TaskName::Generate => Ok(Task::Generate(Language::read(path, config)?)),
        // Those of speech are told before.
        TaskName::Embed | TaskName::Transcribe | TaskName::DetectSpeech => embed(folder, settings),
    }
}

fn embed(folder: &Path, settings: &Settings) -> Result<Task, Error> {
    let found = hub::sentence_transformer(folder)?;
    if let Some(kind) = found.foreign.as_ref().filter(|_| settings.output.is_none()) {
        let wanted = "Transformer, Pooling and Normalize are supported; export the model with it in its graph, \
                      and name that output with `output` in model.toml";
        return Err(problem(&folder.join("modules.json"), format!("has a module {kind:?}; {wanted}")));
    }
    let (mut prompts, default) = hub::prompts(&folder.join("config_sentence_transformers.json"))?;
    let default_prompt = settings.default_prompt.clone().or(default);
    if default_prompt.is_none() {
        // Newer files name prompts whether or not there is anything to them. An empty one is of use only to
        // who wants none where there is a default.
        prompts.retain(|_, prompt| !prompt.is_empty());
    }
    prompts.extend(settings.prompts.clone());
    if let Some(name) = default_prompt.as_ref().filter(|name| !prompts.contains_key(*name)) {
        let path = folder.join("config_sentence_transformers.json");
        return Err(problem(&path, format!("names a default prompt that there is not: {name:?}")));
    }
    let pooling = match found.foreign {
        Some(_) => None,
        None => settings.pooling.or(found.pooling).or(Some(Pooling::Mean)),
    };
    let normalize = settings.normalize.unwrap_or(found.normalize);
    Ok(Task::Embed { pooling, normalize, prompts, default_prompt })
}

fn max_tokens(
    folder: &Path,
    path: &Path,
    config: &ModelConfig,
    settings: &Settings,
    task: &Task,
) -> Result<Option<usize>, Error> {
    let shift = match SHIFTED.contains(&config.model_type.as_str()) {
        true => config.pad_token_id.unwrap_or(1) as usize + 1,
        false => 0,
    };
    let enough = |path: &Path, key: &str, tokens: Option<usize>| match tokens {
        Some(few) if few < FEWEST_TOKENS => {
            Err(problem(path, format!("has {key} for {few} tokens; {FEWEST_TOKENS} are needed")))
        }
        tokens => Ok(tokens),
    };
    // Models with relative positions say -1, or nothing.
    let positions = config.positions().map(|positions| positions.saturating_sub(shift));
    let positions = enough(path, "max_position_embeddings", positions)?;
    let trained = folder.join("sentence_bert_config.json");
    let trained = enough(&trained, "max_seq_length", hub::max_sequence(&trained)?)?;
    let own = settings.max_tokens.or(trained);
    let most = match (positions, own) {
        (Some(positions), Some(own)) => Some(positions.min(own)),
        (positions, own) => positions.or(own),
    };
    match (task, positions) {
        (Task::LateInteraction(late), Some(positions)) if late.query_tokens > positions => {
            let wanted = late.query_tokens;
            Err(problem(
                path,
                format!("has positions for {positions} tokens; queries are filled up to {wanted}"),
            ))
        }
        _ => Ok(most),
    }
}

fn present(path: &Path, largest: u64) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(|error| problem(path, format!("cannot be read: {error}")))?;
    if metadata.len() > largest {
        return Err(problem(path, format!("has {} bytes; at most {largest} are read", metadata.len())));
    }
    Ok(())
}

/// Reads a settings file of bounded size.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let unreadable = |error: io::Error| problem(path, format!("cannot be read: {error}"));
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(LARGEST_SETTINGS + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST_SETTINGS {
        return Err(problem(path, format!("has more than the {LARGEST_SETTINGS} bytes that are read")));
    }
    Ok(text)
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_str(&text(path)?).map_err(|error| problem(path, format!("cannot be used: {error}")))
}

/// As [`json`]; `None` where there is no such file.
pub(crate) fn json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if path.exists() { json(path).map(Some) } else { Ok(None) }
}

/// The error that names `path`.
pub(crate) fn problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::File { path: path.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
