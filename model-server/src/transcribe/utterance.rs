//! An utterance on its way: window after window, to segments with times.
//!
//! # Source
//! OpenAI's `whisper/transcribe.py`: what follows on the last whole segment of a window is in the next one.
//! What was said in one window is no prompt of the next: in calls it makes repetitions more often than it
//! helps.

use std::time::Duration;

use super::{
    decode::Decoded,
    features::{RATE, Spectrogram},
    vocabulary::{Language, Vocabulary},
};
use crate::error::Error;

/// Tokens that a window may have, besides those for each second.
const FEW_TOKENS: usize = 24;
/// Tokens for each second of a window: fast speech has some 7 in English, and twice as many where words are
/// cut into more tokens. A short utterance on which the model loops ends by this, not at 224.
const TOKENS_PER_SECOND: usize = 16;
/// What is left of an utterance after its first window, and shorter than this, is a rest of the last word
/// or of silence.
const SHORTEST_REST: Duration = Duration::from_millis(500);
/// Window lengths where the model allows any: steps of five seconds, so that utterances share batches.
const STEPS: usize = 6;

/// How a model divides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Samples from one frame to the next.
    pub(crate) hop: usize,
    /// Frames of a whole window.
    pub(crate) window: usize,
    /// Frames of a tick, the unit of times.
    pub(crate) tick: usize,
    /// Whether windows may be shorter than a whole one.
    pub(crate) variable: bool,
}

impl Clock {
    fn time(self, frames: usize) -> Duration {
        Duration::from_secs_f64((frames * self.hop) as f64 / RATE as f64)
    }

    /// Frames of the window for what is left.
    fn frames(self, left: usize) -> usize {
        let step = (self.window / STEPS / self.tick * self.tick).max(self.tick);
        match self.variable {
            true => left.div_ceil(step).saturating_mul(step).clamp(step, self.window),
            false => self.window,
        }
    }
}

/// A part of a transcript.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    pub(crate) text: String,
    /// The likelihood of its tokens, as a mean probability, in [0, 1].
    pub(crate) confidence: f32,
    /// Probability that nobody speaks in its window.
    pub(crate) no_speech: f32,
}

/// What was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) text: String,
    /// As a BCP 47 tag.
    pub(crate) locale: String,
    /// The mean over the segments, by their tokens.
    pub(crate) confidence: f32,
    pub(crate) segments: Vec<Segment>,
}

/// What is written of an utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether times are.
    pub(super) timestamps: bool,
    /// Whether what is said is put into English.
    pub(super) translate: bool,
}

/// An utterance that is being transcribed.
pub(crate) struct Utterance {
    spectrogram: Spectrogram,
    clock: Clock,
    pub(super) before: Vec<u32>,
    pub(super) language: Option<Language>,
    pub(super) form: Form,
    /// The frame that the next window begins with.
    at: usize,
    segments: Vec<Segment>,
    /// Sum of likelihoods, and of what they are of.
    sure: (f64, f64),
}

/// The next window of an utterance, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) first: usize,
    pub(super) frames: usize,
    /// Frames with sound.
    content: usize,
}

impl Window {
    /// Tokens that may be written for it.
    pub(super) fn most_tokens(self, clock: Clock) -> usize {
        FEW_TOKENS + (clock.time(self.content).as_secs_f64() * TOKENS_PER_SECOND as f64) as usize
    }
}

impl Utterance {
    pub(super) fn new(
        spectrogram: Spectrogram,
        clock: Clock,
        before: Vec<u32>,
        language: Option<Language>,
        form: Form,
    ) -> Self {
        Self { spectrogram, clock, before, language, form, at: 0, segments: Vec::new(), sure: (0.0, 0.0) }
    }

    /// The next window; `None` when all is done.
    pub(super) fn window(&self) -> Option<Window> {
        let left = self.spectrogram.content().saturating_sub(self.at);
        if left == 0 || (self.at > 0 && self.clock.time(left) < SHORTEST_REST) {
            return None;
        }
        let frames = self.clock.frames(left);
        Some(Window { first: self.at, frames, content: left.min(frames) })
    }

    /// Puts the values of a window into `values`.
    pub(super) fn fill(&self, window: Window, values: &mut [f32]) {
        self.spectrogram.window(window.first, values);
    }

    /// Takes what was decoded of a window, and goes on to the next.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(super) fn take(
        &mut self,
        window: Window,
        decoded: &Decoded,
        words: &Vocabulary,
    ) -> Result<(), Error> {
        if self.language.is_none() {
            self.language = decoded.language.and_then(|number| words.languages.get(number)).cloned();
        }
        if decoded.is_silence() {
            self.at = window.first + window.content;
            return Ok(());
        }
        let (parts, next) = match self.form.timestamps {
            true => parts(&decoded.tokens, window, self.clock, words),
            false => (vec![Part { tokens: &decoded.tokens, start: 0, end: window.content }], window.content),
        };
        let all = self.spectrogram.content();
        for Part { tokens, start, end } in parts {
            let text = words.text(tokens)?;
            let [start, end] = [start, end].map(|frames| self.clock.time((window.first + frames).min(all)));
            if text.trim().is_empty() || end <= start {
                continue;
            }
            let weight = tokens.len() as f64;
            self.sure = (self.sure.0 + f64::from(decoded.likelihood) * weight, self.sure.1 + weight);
            let confidence = decoded.likelihood.exp().clamp(0.0, 1.0);
            let text = text.trim().to_owned();
            self.segments.push(Segment { start, end, text, confidence, no_speech: decoded.no_speech });
        }
        self.at = window.first + next;
        Ok(())
    }

    /// The transcript, once all windows are done.
    pub(super) fn finish(self) -> Transcript {
        let texts: Vec<&str> = self.segments.iter().map(|segment| segment.text.as_str()).collect();
        let (sum, weight) = self.sure;
        let confidence = if weight > 0.0 { (sum / weight).exp().clamp(0.0, 1.0) as f32 } else { 0.0 };
        Transcript {
            text: texts.join(" "),
            locale: self.language.map_or_else(|| "en".to_owned(), |language| language.tag),
            confidence,
            segments: self.segments,
        }
    }
}

/// Tokens of a segment; its times are in frames from the window's beginning.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    tokens: &'a [u32],
    start: usize,
    end: usize,
}

/// Cuts tokens into segments, where one ends and the next begins at once; and where the next window begins,
/// in frames from the beginning of this one.
fn parts<'a>(tokens: &'a [u32], window: Window, clock: Clock, words: &Vocabulary) -> (Vec<Part<'a>>, usize) {
    let is_time = |token: u32| words.is_timestamp(token);
    let frames = |token: u32| token.saturating_sub(words.first_timestamp) as usize * clock.tick;
    let pair = |at: &usize| is_time(tokens[at - 1]) && is_time(tokens[*at]);
    let mut cuts: Vec<usize> = (1..tokens.len()).filter(pair).collect();
    // A single time at the end says that there is nothing more in this window.
    let complete = matches!(tokens, [.., before, last] if !is_time(*before) && is_time(*last));
    if let Some(&last) = cuts.last() {
        if complete {
            cuts.push(tokens.len());
        }
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let part = |(from, to): (usize, usize)| {
            let tokens = &tokens[from..to];
            let time =
                |token: Option<&u32>| token.filter(|token| is_time(**token)).map(|token| frames(*token));
            let start = time(tokens.first()).unwrap_or(0);
            Part { tokens, start, end: time(tokens.last()).unwrap_or(window.content) }
        };
        let parts = starts.zip(cuts.iter().copied()).map(part).collect();
        let next = if complete { window.content } else { frames(tokens[last - 1]) };
        // A time is never before the last, and segments have a length: it goes on in any case.
        return (parts, next.clamp(clock.tick, window.content.max(clock.tick)));
    }
    let first = tokens.first().filter(|token| is_time(**token)).map_or(0, |token| frames(*token));
    let last = tokens.iter().rev().find(|token| is_time(**token)).map(|token| frames(*token));
    let end = last.filter(|last| *last > first).unwrap_or(window.content);
    (vec![Part { tokens, start: first, end }], window.content)
}
