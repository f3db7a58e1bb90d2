//! Detecting speech: which parts of a sound somebody speaks in.
//!
//! A [`Detector`] is one stream: it is given samples as they come, and tells when speech begins and ends.
//! [`advance`] takes many streams a step further as one batch of the [`Engine`]. [`Listener`] serves whole
//! sounds over a model of the repository.
//!
//! # Source
//! Silero VAD 6.2: its model, and the rules of `get_speech_timestamps` in its package.

mod segments;
mod serve;

use std::{collections::VecDeque, time::Duration};

use self::segments::Segmenter;
pub(crate) use self::{
    segments::{Event, Sensitivity, Speech, speeches},
    serve::{Listener, Worker},
};
use crate::{backend::BackendError, error::Error};

/// Numbers that the model keeps of a stream, in each of its two layers.
pub(crate) const STATE: usize = 128;
/// Streams of one batch: a step takes as long for eight as for one, about, and more are no faster.
pub(crate) const MOST_STREAMS: usize = 64;

/// Computes steps. One thread at a time calls it.
pub(crate) trait Engine: Send {
    /// Whether it knows no other rate than 16 kHz.
    fn only_16_khz(&self) -> bool;

    /// A step of so many streams of the same rate: `input` is `[rows, context and samples]`, `state`
    /// `[2, rows, STATE]`, which becomes what the next step takes. Returns the probability of speech for
    /// each.
    ///
    /// # Errors
    /// When the engine fails; the state is then what it was.
    fn run(
        &mut self,
        rate: u32,
        rows: usize,
        input: &[f32],
        state: &mut Vec<f32>,
    ) -> Result<Vec<f32>, BackendError>;
}

/// Samples a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// 8 kHz, as telephones have it.
    Narrow,
    /// 16 kHz.
    Wide,
}

impl Rate {
    /// # Errors
    /// Says which there are.
    pub(crate) fn new(hertz: u32) -> Result<Self, Error> {
        match hertz {
            8000 => Ok(Self::Narrow),
            16_000 => Ok(Self::Wide),
            other => Err(Error::invalid("sample_rate", format!("{other}; 8000 and 16000 are allowed"))),
        }
    }

    pub(crate) fn hertz(self) -> u32 {
        match self {
            Self::Narrow => 8000,
            Self::Wide => 16_000,
        }
    }

    /// Samples of a step: 32 ms.
    pub(crate) fn step(self) -> usize {
        self.hertz() as usize / 1000 * 32
    }

    /// Samples before a step that the model reads with it: 4 ms.
    fn context(self) -> usize {
        self.hertz() as usize / 1000 * 4
    }

    pub(crate) fn time(self, samples: usize) -> Duration {
        Duration::from_secs_f64(samples as f64 / f64::from(self.hertz()))
    }
}

/// A stream that is listened to.
pub(crate) struct Detector {
    rate: Rate,
    /// The end of what the last step read, then what no step has read yet.
    samples: Vec<f32>,
    /// Of these, how many are read.
    read: usize,
    /// `[2, STATE]`.
    state: Vec<f32>,
    segmenter: Segmenter,
    events: VecDeque<Event>,
}

impl Detector {
    pub(crate) fn new(rate: Rate, sensitivity: Sensitivity) -> Self {
        Self {
            rate,
            samples: vec![0.0; rate.context()],
            read: rate.context(),
            state: vec![0.0; 2 * STATE],
            segmenter: Segmenter::new(rate, sensitivity),
            events: VecDeque::new(),
        }
    }

    /// Takes in the next samples, finite and in [-1, 1].
    pub(crate) fn push(&mut self, samples: &[f32]) {
        let unread = self.read.saturating_sub(self.rate.context());
        self.samples.drain(..unread);
        self.read -= unread;
        self.samples.extend(samples);
    }

    /// Notes that no samples will come: what is left is filled up with silence to a step.
    pub(crate) fn fill_up(&mut self) {
        let left = self.samples.len() - self.read;
        let missing = left.next_multiple_of(self.rate.step()) - left;
        self.samples.resize(self.samples.len() + missing, 0.0);
    }

    /// Notes that all steps are taken, of so many samples.
    pub(crate) fn end(&mut self, length: usize) {
        self.segmenter.end(length, &mut self.events);
    }

    /// Whether there are samples for a step.
    pub(crate) fn is_ready(&self) -> bool {
        self.samples.len() - self.read >= self.rate.step()
    }

    /// What has happened since it was last asked, in order.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }

    /// The samples of the next step, with those before.
    fn input(&self) -> &[f32] {
        &self.samples[self.read - self.rate.context()..self.read + self.rate.step()]
    }

    fn heard(&mut self, probability: f32) {
        self.read += self.rate.step();
        self.segmenter.push(probability, &mut self.events);
    }
}

/// Takes a step of every stream that has the samples for one, those of the same rate as a batch. Returns
/// the probability of speech for each of them; `None` for the others.
///
/// # Errors
/// When the engine fails; no stream of the batch that failed has moved.
pub(crate) fn advance(
    engine: &mut dyn Engine,
    streams: &mut [&mut Detector],
) -> Result<Vec<Option<f32>>, BackendError> {
    let mut found = vec![None; streams.len()];
    for rate in [Rate::Narrow, Rate::Wide] {
        let ready = |at: &usize| streams[*at].rate == rate && streams[*at].is_ready();
        let ready: Vec<usize> = (0..streams.len()).filter(ready).collect();
        for batch in ready.chunks(MOST_STREAMS) {
            let input: Vec<f32> = batch.iter().flat_map(|at| streams[*at].input()).copied().collect();
            // A layer after the other, in each the streams.
            let mut state = Vec::with_capacity(2 * batch.len() * STATE);
            for layer in 0..2 {
                let of = |at: &usize| &streams[*at].state[layer * STATE..(layer + 1) * STATE];
                batch.iter().for_each(|at| state.extend_from_slice(of(at)));
            }
            let probabilities = engine.run(rate.hertz(), batch.len(), &input, &mut state)?;
            for (place, at) in batch.iter().enumerate() {
                let stream = &mut streams[*at];
                for layer in 0..2 {
                    let from = (layer * batch.len() + place) * STATE;
                    stream.state[layer * STATE..(layer + 1) * STATE]
                        .copy_from_slice(&state[from..from + STATE]);
                }
                let probability = probabilities.get(place).copied().unwrap_or_default();
                stream.heard(probability);
                found[*at] = Some(probability);
            }
        }
    }
    Ok(found)
}

/// Takes a step of silence, to see whether an engine runs.
///
/// # Errors
/// When it does not.
pub(crate) fn probe(engine: &mut dyn Engine) -> Result<(), BackendError> {
    let mut detector = Detector::new(Rate::Wide, Sensitivity::default());
    detector.push(&vec![0.0; Rate::Wide.step()]);
    advance(engine, &mut [&mut detector]).map(drop)
}

#[cfg(test)]
mod tests;
