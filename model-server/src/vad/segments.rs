//! From probabilities to stretches of speech.

use std::{collections::VecDeque, time::Duration};

use super::Rate;

/// When speech is taken to begin and to end; the defaults are the package's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sensitivity {
    /// Probability from which on it is speech, above 0 and below 1.
    pub(crate) threshold: f32,
    /// Shorter speech is none.
    pub(crate) min_speech: Duration,
    /// Shorter silence is a pause in speech.
    pub(crate) min_silence: Duration,
    /// What is added before and after.
    pub(crate) pad: Duration,
}

impl Default for Sensitivity {
    fn default() -> Self {
        Self {
            threshold: 0.5,
            min_speech: Duration::from_millis(250),
            min_silence: Duration::from_millis(100),
            pad: Duration::from_millis(30),
        }
    }
}

impl Sensitivity {
    /// Below this it is silence; between the two it stays what it was.
    fn lower(&self) -> f32 {
        (self.threshold - 0.15).max(0.01)
    }
}

/// What is noticed of a stream. Places are in samples from its beginning, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Speech began there, and has lasted for long enough.
    Began(usize),
    /// It ended there, and silence has lasted for long enough.
    Ended(usize),
}

/// Finds where speech begins and ends, from one step's probability after the other.
pub(super) struct Segmenter {
    sensitivity: Sensitivity,
    step: usize,
    min_speech: f64,
    min_silence: f64,
    /// Samples so far.
    at: usize,
    /// Where the present speech began.
    start: Option<usize>,
    /// Whether that was told.
    told: bool,
    /// Where the present silence in it began.
    silence: Option<usize>,
}

impl Segmenter {
    pub(super) fn new(rate: Rate, sensitivity: Sensitivity) -> Self {
        let samples = |time: Duration| time.as_secs_f64() * f64::from(rate.hertz());
        Self {
            step: rate.step(),
            min_speech: samples(sensitivity.min_speech),
            min_silence: samples(sensitivity.min_silence),
            sensitivity,
            at: 0,
            start: None,
            told: false,
            silence: None,
        }
    }

    /// Takes in the next step's probability, and puts what is noticed by it into `events`.
    pub(super) fn push(&mut self, probability: f32, events: &mut VecDeque<Event>) {
        let now = self.at;
        self.at += self.step;
        let speaks = probability >= self.sensitivity.threshold;
        if speaks {
            self.silence = None;
        }
        let Some(start) = self.start else {
            self.start = speaks.then_some(now);
            return;
        };
        if probability < self.sensitivity.lower() {
            self.silence.get_or_insert(now);
        }
        self.tell(start, self.silence.unwrap_or(now), events);
        if let Some(silence) = self.silence.filter(|since| (now - since) as f64 >= self.min_silence) {
            if std::mem::take(&mut self.told) {
                events.push_back(Event::Ended(silence));
            }
            (self.start, self.silence) = (None, None);
        }
    }

    /// Notes that the stream has ended, after so many samples: what was speech until then is speech to its
    /// end.
    pub(super) fn end(&mut self, length: usize, events: &mut VecDeque<Event>) {
        if let Some(start) = self.start {
            self.tell(start, length, events);
        }
    }

    /// Tells of speech from `start` once it is known to be long enough.
    fn tell(&mut self, start: usize, until: usize, events: &mut VecDeque<Event>) {
        if !self.told && until.saturating_sub(start) as f64 > self.min_speech {
            self.told = true;
            events.push_back(Event::Began(start));
        }
    }
}

/// A stretch of speech, in samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speech {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The stretches of speech of a whole sound of so many samples, padded; two that are close share what is
/// between them.
pub(crate) fn speeches(
    events: impl IntoIterator<Item = Event>,
    length: usize,
    rate: Rate,
    sensitivity: Sensitivity,
) -> Vec<Speech> {
    let pad = (sensitivity.pad.as_secs_f64() * f64::from(rate.hertz())) as usize;
    let mut found: Vec<Speech> = Vec::new();
    for event in events {
        match (event, found.last_mut()) {
            (Event::Began(start), _) => found.push(Speech { start, end: length }),
            (Event::Ended(end), Some(last)) => last.end = end,
            (Event::Ended(_), None) => {}
        }
    }
    for at in 0..found.len() {
        if at == 0 {
            found[0].start = found[0].start.saturating_sub(pad);
        }
        match found.get(at + 1).map(|next| next.start - found[at].end) {
            Some(between) if between < 2 * pad => {
                found[at].end += between / 2;
                found[at + 1].start -= between / 2;
            }
            Some(_) => {
                found[at].end = (found[at].end + pad).min(length);
                found[at + 1].start -= pad;
            }
            None => found[at].end = (found[at].end + pad).min(length),
        }
    }
    found
}
