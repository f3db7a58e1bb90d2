//! From a folder to a model that is ready to serve.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    thread,
};

use sha2::{Digest as _, Sha256};
use switchboard_onnx::inspect::Inspection;

use super::{Card, Model, language::Unopened};
use crate::{
    backend::{Batch, Reading, Row},
    config::Config,
    error::Error,
    late,
    onnx::Runtime,
    placement::Placement,
    repository::{Description, Task, problem},
    scheduler::{Device, Engine, Limits},
    tokenize::{TextTokenizer, Truncation},
    transcribe,
    vad::{self, Listener, Worker},
    warmup::{self, Layout, Subject, Warm},
};

/// What is loaded of a model before it gets a queue.
pub(crate) struct Loaded {
    card: Card,
    part: Part,
    inspection: Inspection,
}

/// What does the work, before it has a queue.
pub(super) enum Part {
    Texts(Box<Texts>),
    Transcriber(Box<transcribe::Loaded>),
    Listener(Box<dyn vad::Engine>),
    Language(Box<Unopened>),
}

/// What is loaded of a model of texts.
pub(super) struct Texts {
    tokenizer: TextTokenizer,
    reader: Option<Arc<late::Reader>>,
    reading: Reading,
    limits: Limits,
    warm: Warm,
}

impl Model {
    /// Loads the model that `description` tells of, measures it, and opens its queue on `device`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(
        description: &Description,
        config: &Config,
        runtime: &Runtime,
        device: &Device,
    ) -> Result<Self, Error> {
        let loaded = Loaded::new(description, config, runtime)?;
        for operator in &loaded.inspection.batch_variant {
            let model = &loaded.card.name;
            tracing::warn!(%model, operator, "results depend on the batch: rows share a scale in this operator");
        }
        let Loaded { card, part, .. } = loaded;
        let no_thread = |error| problem(&description.folder, format!("cannot be given a thread: {error}"));
        let part = match part {
            Part::Texts(texts) => super::Part::Texts(texts.open(&card, device)),
            Part::Transcriber(loaded) => {
                let turns = device.turns(card.layout.threads);
                let opened = loaded.open(&card.name, turns).map_err(no_thread)?;
                super::Part::Transcriber(Box::new(opened))
            }
            Part::Listener(engine) => {
                let (name, turns) = (card.name.as_str().into(), device.turns(card.layout.threads));
                let opened = Listener::start(Worker { name, engine, turns }).map_err(no_thread)?;
                super::Part::Listener(Box::new(opened))
            }
            Part::Language(unopened) => {
                let opened = unopened.open(&card, device.turns(card.layout.threads)).map_err(no_thread)?;
                super::Part::Language(Arc::new(opened))
            }
        };
        tracing::info!(
            model = %card.name,
            task = card.task.name(),
            dimensions = card.dimensions,
            max_tokens = card.max_tokens,
            instances = card.layout.instances,
            threads = card.layout.threads,
            fingerprint = card.fingerprint,
            "model loaded"
        );
        Ok(Self { card: Arc::new(card), part })
    }
}

impl Texts {
    fn open(self, card: &Card, device: &Device) -> super::Texts {
        let Self { tokenizer, reader, reading, limits, warm } = self;
        let queue = device.open(Engine {
            name: card.name.as_str().into(),
            backends: warm.backends,
            wide: warm.wide,
            threads: card.layout.threads,
            reading,
            profile: warm.profile,
            limits,
        });
        super::Texts { tokenizer: Arc::new(tokenizer), reader, queue }
    }
}

impl Loaded {
    /// Loads and measures a model.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn new(description: &Description, config: &Config, runtime: &Runtime) -> Result<Self, Error> {
        match &description.task {
            Task::Transcribe(whisper) => Self::transcriber(description, whisper, config, runtime),
            Task::DetectSpeech => Self::listener(description, config, runtime),
            Task::Generate(language) => Self::language(description, language, config, runtime),
            _ => Self::texts(description, config, runtime),
        }
    }

    pub(super) fn new_of(card: Card, part: Part, inspection: Inspection) -> Self {
        Self { card, part, inspection }
    }

    fn texts(description: &Description, config: &Config, runtime: &Runtime) -> Result<Self, Error> {
        let Description { graph, settings, task, pad, .. } = description;
        let inspection = description.inspect()?;
        let own = settings.max_tokens.unwrap_or(config.max_tokens);
        let max_tokens = description.max_tokens.map_or(own, |most| most.min(own));
        let max_batch_tokens = settings.max_batch_tokens.unwrap_or(config.max_batch_tokens).max(max_tokens);
        let tokenizer = TextTokenizer::load(&description.tokenizer, max_tokens)?;
        fits(description, &tokenizer)?;
        let reader = match task {
            Task::LateInteraction(late) => {
                let reader = late::Reader::new(late, &tokenizer, max_tokens);
                Some(Arc::new(reader.map_err(|what| problem(&description.tokenizer, what))?))
            }
            _ => None,
        };
        let reading = match task {
            Task::Embed { pooling: Some(pooling), .. } => Reading::Pooled(*pooling),
            Task::Embed { pooling: None, .. } => Reading::Rows,
            Task::CrossEncoder | Task::Sequence { .. } => Reading::Rows,
            Task::Tokens { .. } | Task::LateInteraction(_) => Reading::Tokens,
            // These are loaded otherwise.
            Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => Reading::Rows,
        };
        let row = long_row(description, &tokenizer, max_tokens)?;

        let placement = Placement::of(config, description.backend);
        let make = |threads| placement.load(runtime, description, threads);
        let subject = Subject {
            make: &make,
            row: &row,
            reading,
            pad: *pad,
            max_batch_tokens,
            bytes: inspection.weight_bytes,
        };
        let time = settings.warm_up.unwrap_or(config.warm_up);
        let (instances, threads) =
            (settings.instances.unwrap_or(config.instances), settings.threads.unwrap_or(config.threads));
        let layouts = match config.provider {
            crate::Provider::Cpu => {
                warmup::layouts(config.shared_cores(), instances, threads, inspection.weight_bytes)
            }
            // Batches on one GPU run one after the other.
            _ => vec![Layout { instances: instances.max(1), threads: 1 }],
        };
        // Hashing reads all of the weights; the sessions load meanwhile.
        let (fingerprint, warm) = thread::scope(|scope| {
            let fingerprint = scope.spawn(|| fingerprint(description, &inspection, max_tokens));
            let warm = warmup::warm_up(&subject, &layouts, time);
            (fingerprint.join().expect("hashing does not panic"), warm)
        });
        let mut warm = warm.map_err(|error| match error {
            warmup::WarmUpError::Make(error) => error,
            error => {
                let config = description.config_path.display();
                problem(graph, format!("does not run as {config} describes it: {error}"))
            }
        })?;
        let dimensions = width(description, &mut warm, &row, reading)?;
        let card = Card {
            name: description.name.clone(),
            task: task.clone(),
            model_type: description.model_type.clone(),
            dimensions,
            max_tokens: reader.as_ref().map_or(max_tokens, |reader| reader.max_tokens()),
            max_batch_tokens,
            queue: settings.queue.unwrap_or(config.queue),
            backend: placement.name(),
            dtype: dtype(&inspection),
            fingerprint: fingerprint?,
            layout: warm.layout,
        };
        let limits = Limits { queue: card.queue, batch_tokens: max_batch_tokens, pad: *pad };
        let texts = Texts { tokenizer, reader, reading, limits, warm };
        Ok(Self { card, part: Part::Texts(Box::new(texts)), inspection })
    }

    /// What is known of it.
    pub(crate) fn card(&self) -> &Card {
        &self.card
    }

    /// What its graph holds.
    pub(crate) fn inspection(&self) -> &Inspection {
        &self.inspection
    }
}

/// The type that most of the weights have.
pub(super) fn dtype(inspection: &Inspection) -> String {
    let most = inspection.weights.iter().max_by_key(|(_, count)| **count);
    most.map_or_else(String::new, |(element, _)| element.name().to_owned())
}

/// Whether the tokenizer's ids have a place in the table of word vectors.
fn fits(description: &Description, tokenizer: &TextTokenizer) -> Result<(), Error> {
    let Some(vocabulary) = description.vocabulary else { return Ok(()) };
    match tokenizer.largest_id() {
        Some(largest) if largest as usize >= vocabulary => {
            let config = description.config_path.display();
            let text = format!("gives ids up to {largest}, but {config} has vocab_size {vocabulary}");
            Err(problem(&description.tokenizer, text))
        }
        None => Err(problem(&description.tokenizer, "has no tokens")),
        _ => Ok(()),
    }
}

/// A row of as many tokens as the model reads.
fn long_row(description: &Description, tokenizer: &TextTokenizer, max_tokens: usize) -> Result<Row, Error> {
    let raw = tokenizer.split(&"warm up ".repeat(max_tokens))?;
    let tokens = tokenizer.row(raw, Truncation::End, false);
    Ok(tokens.map_err(|_| problem(&description.tokenizer, "gives no tokens for words"))?.row)
}

/// Components of a result, found by running a short row; checked against what the files say.
fn width(description: &Description, warm: &mut Warm, row: &Row, reading: Reading) -> Result<usize, Error> {
    let short = Row::single(row.ids.iter().copied().take(8).collect());
    let batch = Batch::new([&short].into_iter(), description.pad);
    let unfit = |what: String| problem(&description.graph, what);
    let backend = warm.backends.first_mut().ok_or_else(|| unfit("has no instance".into()))?;
    let output = backend.run(&batch).and_then(|output| {
        let width = output.width;
        reading.rows(&output, &batch).map(|_| width)
    });
    let width = output.map_err(|error| unfit(format!("does not run: {error}")))?;
    let wanted = match &description.task {
        // Behind another output than the token vectors there may be a layer of another width.
        Task::Embed { .. } if description.settings.output.is_some() => None,
        Task::Embed { .. } => description.width,
        Task::CrossEncoder => Some(1),
        Task::Sequence { labels, .. } | Task::Tokens { labels } => Some(labels.len()),
        Task::LateInteraction(_) | Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => None,
    };
    match wanted {
        Some(wanted) if wanted != width => {
            let config = description.config_path.display();
            let what = if matches!(description.task, Task::Embed { .. }) { "hidden_size" } else { "labels" };
            Err(unfit(format!("gives {width} numbers where {config} says {wanted} ({what})")))
        }
        _ => Ok(width),
    }
}

/// The first half of a SHA-256 over all that results depend on besides the request, in hex.
pub(super) fn fingerprint(
    description: &Description,
    inspection: &Inspection,
    max_tokens: usize,
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update((max_tokens as u64).to_le_bytes());
    // Prompts are named by requests; what a name stands for is part of what they get.
    hash.update(format!("{:?}{:?}", description.task, description.settings.output));
    for path in description.files().iter().chain(&inspection.external_files) {
        feed(&mut hash, path).map_err(|error| problem(path, format!("cannot be read: {error}")))?;
    }
    Ok(hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn feed(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}
