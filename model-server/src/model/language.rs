//! Loading models that write.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{Card, generate::Language, load, load::Loaded};
use crate::{
    backend::BackendError,
    config::Config,
    error::Error,
    generate::{self, Batcher, ChatTemplates, Decoder, Feed, Pace, Vocabulary},
    onnx::{self, Runtime},
    placement::{DecoderOptions, Placement, step_threads},
    repository::{self, BackendName, Description, problem},
    scheduler::Turns,
    statistics::Statistics,
    torch,
    warmup::Layout,
};

/// Tokens of a prompt's part that is timed.
const PART: usize = 64;
/// Tokens that are written behind it with each number of rows.
const WRITTEN: usize = 3;
/// The fewest tokens that a sequence has room for.
const SHORTEST: usize = 64;

/// A model that writes, before it has a queue.
pub(super) struct Unopened {
    decoder: Box<dyn Decoder>,
    vocabulary: Arc<Vocabulary>,
    templates: Option<ChatTemplates>,
    endings: std::collections::BTreeSet<u32>,
    pace: Pace,
}

impl Loaded {
    /// Loads a model that writes, and measures it.
    pub(super) fn language(
        description: &Description,
        language: &repository::Language,
        config: &Config,
        runtime: &Runtime,
    ) -> Result<Self, Error> {
        let Description { folder, graph, settings, .. } = description;
        let inspection = description.inspect()?;
        let vocabulary = Vocabulary::load(&description.tokenizer)?;
        if vocabulary.len() > language.vocabulary {
            let (most, config) = (language.vocabulary, description.config_path.display());
            let problem_is = format!("has {} tokens, but {config} has vocab_size {most}", vocabulary.len());
            return Err(problem(&description.tokenizer, problem_is));
        }
        let (templates, endings) = (ChatTemplates::read(folder)?, generate::endings(folder, &vocabulary)?);
        let (mut decoder, threads) = decoder(description, language, config, runtime, inspection.in_place)?;
        let shape = decoder.shape();
        if shape.vocabulary < vocabulary.len() {
            let problem_is = format!("gives {} logits for {} tokens", shape.vocabulary, vocabulary.len());
            return Err(problem(graph, problem_is));
        }
        let time = settings.warm_up.unwrap_or(config.warm_up);
        let pace = measure(decoder.as_mut(), time)
            .map_err(|error| problem(graph, format!("does not run: {error}")))?;
        let card = Card {
            name: description.name.clone(),
            task: description.task.clone(),
            model_type: description.model_type.clone(),
            dimensions: 0,
            max_tokens: shape.context,
            max_batch_tokens: PART,
            queue: settings.queue.unwrap_or(config.generation.queue),
            backend: Placement::of(config, description.backend).name(),
            dtype: load::dtype(&inspection),
            fingerprint: load::fingerprint(description, &inspection, shape.context)?,
            layout: Layout { instances: shape.slots, threads },
        };
        let unopened = Unopened { decoder, vocabulary, templates, endings, pace };
        Ok(Self::new_of(card, load::Part::Language(Box::new(unopened)), inspection))
    }
}

/// Loads a model's decoder, and says how many threads compute a step.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn decoder(
    description: &Description,
    language: &repository::Language,
    config: &Config,
    runtime: &Runtime,
    in_place: bool,
) -> Result<(Box<dyn Decoder>, usize), Error> {
    let Description { folder, graph, settings, backend, .. } = description;
    let threads = step_threads(settings, config);
    let (context, slots) = room(description, language, config)?;
    let (placement, precision) = (Placement::of(config, *backend), settings.precision);
    let options = DecoderOptions { placement, threads, slots, context, precision };
    let decoder = match backend {
        BackendName::Onnx => onnx::decoder::load(runtime, graph, language, &options, in_place)?,
        BackendName::Torch => {
            let script = graph.extension().is_some_and(|extension| extension == "pt");
            torch::decoder(folder, script.then_some(graph.as_path()), &options)?
        }
    };
    Ok((decoder, threads))
}

impl Unopened {
    /// Opens its queue.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn open(self, card: &Card, turns: Turns) -> std::io::Result<Language> {
        let Self { decoder, vocabulary, templates, endings, pace } = self;
        let queue = Batcher::start(card.name.as_str().into(), decoder, pace, card.queue, turns)?;
        Ok(Language {
            vocabulary,
            templates,
            endings: Arc::new(endings),
            grammars: Mutex::default(),
            queue,
            statistics: Arc::new(Statistics::default()),
        })
    }
}

/// Tokens of a sequence, and how many sequences, that the memory for keys and values suffices for.
fn room(
    description: &Description,
    language: &repository::Language,
    config: &Config,
) -> Result<(usize, usize), Error> {
    let (settings, bounds) = (&description.settings, &config.generation);
    let context = settings.context.unwrap_or(bounds.context).min(language.positions);
    let tokens =
        usize::try_from(bounds.cache_mib << 20).unwrap_or(usize::MAX) / language.bytes_per_token().max(1);
    if tokens < SHORTEST.min(context) {
        let wanted = (SHORTEST.min(context) * language.bytes_per_token()).div_ceil(1 << 20);
        let problem_is = format!(
            "needs {wanted} MiB for the keys and values of the shortest sequence; \
             inference.generation.cache_mib is {}",
            bounds.cache_mib
        );
        return Err(problem(&description.folder, problem_is));
    }
    let context = context.min(tokens);
    let slots = settings.slots.unwrap_or(bounds.slots).clamp(1, (tokens / context).max(1));
    Ok((context, slots))
}

/// Times a part of a prompt, and tokens written in one row and in several, for about so long. Without any
/// time it runs once.
fn measure(decoder: &mut dyn Decoder, time: Duration) -> Result<Pace, BackendError> {
    let shape = decoder.shape();
    let mut pace = Pace::new(shape.slots, shape.batches);
    // A context has room for eight tokens at least.
    let part: Vec<u32> = (0u32..).take(PART.min(shape.context - WRITTEN)).map(|at| at % 8).collect();
    let began = Instant::now();
    // The first run of all takes longer than any other.
    let logits = decoder.step(&[Feed { slot: 0, past: 0, tokens: &part }])?;
    if logits.len() != shape.vocabulary || logits.iter().any(|logit| logit.is_nan()) {
        return Err(BackendError::Failed("gives logits that are no numbers".into()));
    }
    while began.elapsed() < time / 2 {
        let began = Instant::now();
        decoder.step(&[Feed { slot: 0, past: 0, tokens: &part }])?;
        pace.has_read(part.len(), began.elapsed());
    }
    let rows = std::iter::successors(Some(1), |rows| Some(rows * 2)).take_while(|rows| *rows <= shape.slots);
    let mut rows: Vec<usize> = rows.collect();
    if rows.last() != Some(&shape.slots) {
        rows.push(shape.slots);
    }
    if !shape.batches {
        rows.truncate(1);
    }
    for rows in rows {
        // From the end of the part again with each number of rows.
        for slot in 0..rows {
            if began.elapsed() >= time {
                return Ok(cleared(decoder, pace));
            }
            decoder.step(&[Feed { slot, past: 0, tokens: &part }])?;
        }
        for past in part.len()..part.len() + WRITTEN {
            let feeds: Vec<Feed<'_>> =
                (0..rows).map(|slot| Feed { slot, past, tokens: &part[..1] }).collect();
            if began.elapsed() >= time {
                return Ok(cleared(decoder, pace));
            }
            let began = Instant::now();
            decoder.step(&feeds)?;
            pace.has_written(rows, began.elapsed());
        }
    }
    Ok(cleared(decoder, pace))
}

/// What was measured, with nothing left in the slots.
fn cleared(decoder: &mut dyn Decoder, pace: Pace) -> Pace {
    (0..decoder.shape().slots).for_each(|slot| decoder.clear(slot));
    pace
}
