//! What a model's thread does with a batch: the next window of several utterances, step by step.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use switchboard_mesh::Class;
use tokio::time::Instant;

use super::{
    decode::{Decoded, Decoder, Row},
    engine::{Engine, Windows},
    queue::Job,
    utterance::{Clock, Form, Window},
    vocabulary::Vocabulary,
};
use crate::{
    backend::BackendError,
    error::Error,
    metrics,
    scheduler::{Turn, Turns},
};

/// Windows of a batch: what the step of a decoder costs is mostly its weights, which eight rows share.
pub(super) const MOST_ROWS: usize = 8;
/// What is told a caller whose utterance alone needs more memory than there is.
const MEMORY_AGAIN: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) engine: Box<dyn Engine>,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) clock: Clock,
    pub(super) mels: usize,
    /// Tokens that there are positions for.
    pub(super) positions: usize,
    pub(super) turns: Turns,
}

/// What the windows of a batch have in common: frames, tokens before them, whether the language is known,
/// and what is written.
pub(super) type Key = (usize, usize, bool, Form);

impl Worker {
    pub(super) fn key(job: &Job) -> Option<Key> {
        let utterance = &job.utterance;
        let window = utterance.window()?;
        Some((window.frames, utterance.before.len(), utterance.language.is_some(), utterance.form))
    }

    /// Transcribes the next window of each; all have the same [`Key`].
    pub(super) fn windows(&mut self, batch: &mut [Job]) -> Result<(), Error> {
        let windows: Vec<Window> = batch.iter().filter_map(|job| job.utterance.window()).collect();
        let (Some(first), Some(lead)) = (windows.first(), batch.first()) else { return Ok(()) };
        if windows.len() != batch.len() {
            return Err(Error::Backend(BackendError::Failed("an utterance has no window".into())));
        }
        let Form { timestamps, translate } = lead.utterance.form;
        let rows = batch.len();
        let span = tracing::info_span!(parent: &lead.span, "transcribe", model = %self.name, rows);
        let _entered = span.enter();
        let now = Instant::now();
        let size = self.mels * first.frames;
        let mut values = vec![0.0; rows * size];
        for ((job, window), values) in batch.iter_mut().zip(&windows).zip(values.chunks_exact_mut(size)) {
            job.utterance.fill(*window, values);
            if job.began.is_none() {
                job.began = Some(now);
                metrics::queued(&self.name, job.class, now.duration_since(job.arrived));
            }
        }
        let class = batch.iter().map(|job| job.class).max().unwrap_or(Class::Batch);
        let decoded = {
            let rows: Vec<Row<'_>> = batch
                .iter()
                .zip(&windows)
                .map(|(job, window)| Row {
                    before: &job.utterance.before,
                    language: job.utterance.language.as_ref(),
                    most: window.most_tokens(self.clock),
                    seed: window.first as u64,
                })
                .collect();
            let left = |row: usize| batch.get(row).and_then(Job::time_left);
            let due = batch.iter().map(|job| job.due).min().unwrap_or(now);
            let mut paced = Paced {
                inner: self.engine.as_mut(),
                turns: &self.turns,
                class,
                due,
                name: &self.name,
                stopped: false,
            };
            let decode = || {
                let (vocabulary, positions) = (&self.vocabulary, self.positions);
                let engine = &mut paced;
                let windows = Windows { rows: rows.len(), frames: first.frames, values };
                let mut decoder =
                    Decoder { engine, vocabulary, positions, timestamps, translate, left: &left };
                decoder.decode(windows, &rows)
            };
            let result = catch_unwind(AssertUnwindSafe(decode));
            let result = result.unwrap_or_else(|_| Err(BackendError::Failed("the backend panicked".into())));
            if paced.stopped {
                return Err(Error::Stopped);
            }
            result
        };
        let decoded: Vec<Option<Decoded>> = decoded.map_err(|error| match error {
            BackendError::OutOfMemory(reason) if batch.len() == 1 => {
                tracing::warn!(model = %self.name, reason, "a window alone needs more memory than there is");
                Error::Overloaded { retry_after: MEMORY_AGAIN }
            }
            error => Error::Backend(error),
        })?;
        for ((job, window), decoded) in batch.iter_mut().zip(windows).zip(decoded) {
            // Who has gone, or is late, leaves before the next window.
            if let Some(decoded) = decoded {
                job.utterance.take(window, &decoded, &self.vocabulary)?;
            }
        }
        Ok(())
    }
}

/// An engine that takes a turn on the device for each step.
struct Paced<'a> {
    inner: &'a mut dyn Engine,
    turns: &'a Turns,
    class: Class,
    due: Instant,
    name: &'a str,
    stopped: bool,
}

impl Paced<'_> {
    fn turn(&mut self) -> Result<Turn, BackendError> {
        // What is left comes after what is due by now: an utterance has many steps, and would have its class
        // for itself.
        self.turns.wait(self.class, self.due.max(Instant::now())).map_err(|_| {
            self.stopped = true;
            BackendError::Failed("the device has stopped".into())
        })
    }

    fn step<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Engine) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let turn = self.turn()?;
        let result = work(self.inner);
        metrics::computed(self.name, self.class, self.turns.end(turn));
        result
    }
}

impl Engine for Paced<'_> {
    fn encode(&mut self, windows: Windows) -> Result<(), BackendError> {
        self.step(|engine| engine.encode(windows))
    }

    fn decode(&mut self, ids: &[u32], width: usize, wanted: &[usize]) -> Result<Vec<f32>, BackendError> {
        self.step(|engine| engine.decode(ids, width, wanted))
    }

    fn mark(&mut self) {
        self.inner.mark();
    }

    fn rewind(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        self.inner.rewind(rows)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<(), BackendError> {
        self.inner.keep(rows)
    }
}
