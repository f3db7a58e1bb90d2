//! Speech to text by Whisper models.
//!
//! [`features`] makes a spectrogram of samples, [`utterance`] takes it window by window to segments,
//! [`decode`] makes tokens of a batch of windows by the [`rules`] of the model's [`vocabulary`], and the
//! thread behind [`queue`] does so for all who ask, a batch at a time ([`worker`]). An [`Engine`] computes.

mod decode;
mod engine;
mod features;
mod queue;
mod rules;
mod utterance;
mod vocabulary;
mod worker;

use std::{io, sync::Arc, time::Duration};

use switchboard_mesh::Call;
use tokio::time::Instant;

pub(crate) use self::{
    engine::{Engine, Windows},
    features::{LogMel, Parameters, RATE},
    utterance::{Segment, Transcript},
};
use self::{
    queue::Queue,
    utterance::{Clock, Form, Utterance},
    vocabulary::Vocabulary,
    worker::Worker,
};
use crate::{
    backend::BackendError,
    error::Error,
    repository::{Description, Whisper, problem},
    scheduler::Turns,
    statistics::{Parts, Statistics, Tally},
};

/// Samples whose spectrogram is made on the async threads: a second takes some 0.3 ms.
const INLINE_SAMPLES: usize = RATE;
/// Parts of a prompt that a caller gives, of the tokens that there are positions for.
const PROMPT_PART: usize = 2;

/// How an utterance is to be transcribed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TranscribeOptions {
    /// BCP 47 tag; empty finds it out.
    pub(crate) locale: String,
    /// What was said before, or words that are likely; may be empty.
    pub(crate) prompt: String,
    /// Whether times are left out: each window is a segment.
    pub(crate) without_timestamps: bool,
    /// Whether what is said is put into English.
    pub(crate) translate: bool,
}

/// A model before it has its thread.
pub(crate) struct Loaded {
    engine: Box<dyn Engine>,
    vocabulary: Vocabulary,
    /// Logits that the model gives.
    size: usize,
    features: LogMel,
    clock: Clock,
    positions: usize,
    /// How long a window takes, at least; zero while it is not known.
    window: Duration,
}

impl Loaded {
    /// Reads the files of a model, and runs its graphs once.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn new(
        description: &Description,
        whisper: &Whisper,
        parameters: Parameters,
        engine: Box<dyn Engine>,
    ) -> Result<Self, Error> {
        let Description { folder, graph, config_path, tokenizer, vocabulary, .. } = description;
        let frames = parameters.frames();
        let tick = frames / whisper.source_positions;
        if tick == 0 || tick * whisper.source_positions != frames {
            let positions = whisper.source_positions;
            let says = format!("has {positions} source positions, of which {frames} frames are no multiple");
            return Err(problem(config_path, says));
        }
        let size = vocabulary.ok_or_else(|| problem(config_path, "has no vocab_size"))?;
        let vocabulary = Vocabulary::read(folder, tokenizer, size)?;
        let clock = Clock { hop: parameters.hop(), window: frames, tick, variable: false };
        let (positions, window) = (whisper.target_positions, Duration::ZERO);
        let features = LogMel::new(parameters);
        let mut loaded = Self { engine, vocabulary, size, features, clock, positions, window };
        // At once, so that a graph that does not fit is found out before it is asked.
        loaded.run(frames).map_err(|error| {
            problem(graph, format!("does not run as {} describes it: {error}", config_path.display()))
        })?;
        // Most exports are made for whole windows alone.
        loaded.clock.variable = loaded.run(frames / 2 / tick * tick).is_ok();
        Ok(loaded)
    }

    /// Measures how long a window takes, at least.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn measure(&mut self) -> Result<(), BackendError> {
        self.window = self.run(self.clock.window)?;
        Ok(())
    }

    /// Runs the graphs over silence: a prompt, and a token after it.
    fn run(&mut self, frames: usize) -> Result<Duration, BackendError> {
        let began = Instant::now();
        let values = vec![-1.5; self.features.parameters().mels() * frames];
        self.engine.encode(Windows { rows: 1, frames, values })?;
        let first = self.engine.decode(&[self.vocabulary.start], 1, &[0])?;
        self.engine.mark();
        let second = self.engine.decode(&[self.vocabulary.end], 1, &[0])?;
        self.engine.rewind(&[0])?;
        match [first.len(), second.len()] == [self.size; 2] {
            true => Ok(began.elapsed()),
            false => {
                let says = format!("{} logits; vocab_size is {}", second.len(), self.size);
                Err(BackendError::Failed(says))
            }
        }
    }

    /// Starts the model's thread, which takes `turns` on its device.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn open(self, name: &str, turns: Turns) -> io::Result<Transcriber> {
        let Self { engine, vocabulary, features, clock, positions, window, .. } = self;
        let (vocabulary, mels) = (Arc::new(vocabulary), features.parameters().mels());
        let worker = Worker {
            name: name.into(),
            engine,
            vocabulary: Arc::clone(&vocabulary),
            clock,
            mels,
            positions,
            turns,
        };
        let queue = Queue::start(worker, window)?;
        let statistics = Statistics::default();
        Ok(Transcriber { features: Arc::new(features), vocabulary, clock, positions, queue, statistics })
    }
}

/// A model that transcribes, ready to serve.
pub(crate) struct Transcriber {
    features: Arc<LogMel>,
    vocabulary: Arc<Vocabulary>,
    clock: Clock,
    positions: usize,
    queue: Queue,
    pub(crate) statistics: Statistics,
}

impl Transcriber {
    /// Transcribes mono samples at 16 kHz, which the caller has checked. Dropping the future takes the
    /// utterance out, at the latest after the next step.
    ///
    /// # Errors
    /// `Invalid` for a language that the model does not speak, `Overloaded` when there is too much to do,
    /// `Deadline` when it cannot be done in time, and what else became of it.
    pub(crate) async fn transcribe(
        &self,
        samples: Vec<f32>,
        options: TranscribeOptions,
        call: &Call,
    ) -> Result<Transcript, Error> {
        let tally = Tally::begin(&self.statistics);
        let result = self.answer(samples, options, call).await;
        tally.ended(1, result)
    }

    async fn answer(
        &self,
        samples: Vec<f32>,
        options: TranscribeOptions,
        call: &Call,
    ) -> Result<(Transcript, Parts), Error> {
        let TranscribeOptions { locale, prompt, without_timestamps, translate } = options;
        if translate && self.vocabulary.translate.is_none() {
            return Err(Error::invalid("translate", "this model knows English alone"));
        }
        let language = match locale.as_str() {
            "" => None,
            tag => self.vocabulary.language(tag).map_err(|what| Error::invalid("locale", what))?.cloned(),
        };
        let before = match (prompt.trim(), self.vocabulary.previous) {
            ("", _) => Vec::new(),
            (_, None) => return Err(Error::invalid("prompt", "this model takes none")),
            // One token says what it is.
            (text, Some(_)) => self.vocabulary.tokens(text, self.positions / PROMPT_PART - 1)?,
        };
        let windows = samples.len().div_ceil(self.clock.hop * self.clock.window);
        let places = self.queue.admit(windows, call)?;
        let began = Instant::now();
        let spectrogram = if samples.len() <= INLINE_SAMPLES {
            self.features.extract(&samples)
        } else {
            let features = Arc::clone(&self.features);
            let made = tokio::task::spawn_blocking(move || features.extract(&samples)).await;
            made.map_err(|error| Error::Backend(BackendError::Failed(error.to_string())))?
        };
        let input = began.elapsed();
        let form = Form { timestamps: !without_timestamps, translate };
        let utterance = Utterance::new(spectrogram, self.clock, before, language, form);
        let (transcript, parts) = self.queue.transcribe(places, utterance, call).await?;
        Ok((transcript, Parts { input, ..parts }))
    }

    /// How long what was taken in takes, about.
    pub(crate) fn backlog(&self) -> Duration {
        self.queue.backlog()
    }
}

#[cfg(test)]
pub(crate) mod tests;
