//! From encoded windows to tokens: a batch of rows, step by step, again at higher temperatures where a
//! result is no good.
//!
//! Rows of a batch have prompts of the same length, since the graphs know no padding. A row that is done is
//! carried along until half of them are; then the others go on alone. A row of a batch gets the tokens that
//! it gets alone.
//!
//! # Source
//! OpenAI's `whisper/decoding.py` and `decode_with_fallback` of `whisper/transcribe.py`. Departures: at
//! temperatures above 0 one sequence is drawn, not the best of five, with a seed that is the same each time;
//! tokens are bounded by how long the audio is; a row without a language takes it from the logits behind its
//! whole prompt.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use flate2::{Compression, write::ZlibEncoder};

use super::{
    engine::{Engine, Windows},
    rules,
    vocabulary::{Language, Vocabulary},
};
use crate::backend::BackendError;

const TEMPERATURES: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Text that compresses better than this repeats itself.
const MOST_COMPRESSION: f32 = 2.4;
/// Below this mean log-probability of a token the model does not know what it heard.
const LEAST_LIKELIHOOD: f32 = -1.0;
/// Above this probability nobody speaks, unless the text is likely.
const SILENT: f32 = 0.6;

/// A window to decode.
pub(super) struct Row<'a> {
    /// What was said before, as tokens.
    pub(super) before: &'a [u32],
    /// Found out where it is absent.
    pub(super) language: Option<&'a Language>,
    /// Tokens that may be written.
    pub(super) most: usize,
    pub(super) seed: u64,
}

/// What is decoded of a window.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoded {
    /// The end is left out.
    pub(super) tokens: Vec<u32>,
    /// Mean logarithm of the tokens' probabilities, the end among them.
    pub(super) likelihood: f32,
    /// Probability that nobody speaks.
    pub(super) no_speech: f32,
    /// Which of the vocabulary's languages it is, where it was found out.
    pub(super) language: Option<usize>,
}

impl Decoded {
    /// Whether it is of a window in which nobody speaks.
    pub(super) fn is_silence(&self) -> bool {
        self.no_speech > SILENT && self.likelihood < LEAST_LIKELIHOOD
    }
}

/// Tokens, and the mean of their log-probabilities.
type Written = (Vec<u32>, f32);

/// How a batch is decoded.
pub(super) struct Decoder<'a> {
    pub(super) engine: &'a mut dyn Engine,
    pub(super) vocabulary: &'a Vocabulary,
    /// Tokens that there are positions for, the prompt's among them.
    pub(super) positions: usize,
    /// Whether times are written.
    pub(super) timestamps: bool,
    /// Whether what is said is put into English.
    pub(super) translate: bool,
    /// The time that is left for a row; `None` when nobody waits for it any more.
    pub(super) left: &'a dyn Fn(usize) -> Option<Duration>,
}

impl Decoder<'_> {
    /// The tokens between what was said before and the first that is written; the language and what follows
    /// are left out where it is to be found out.
    fn prompt(&self, row: &Row<'_>) -> Vec<u32> {
        let mut prompt = Vec::with_capacity(row.before.len() + 5);
        if let Some(previous) = self.vocabulary.previous.filter(|_| !row.before.is_empty()) {
            prompt.push(previous);
            prompt.extend(row.before);
        }
        prompt.push(self.vocabulary.start);
        match row.language {
            Some(language) => prompt.extend(self.task(language.id)),
            None if self.vocabulary.languages.is_empty() => {
                prompt.extend(Some(self.vocabulary.no_timestamps).filter(|_| !self.timestamps));
            }
            None => {}
        }
        prompt
    }

    /// What follows on the start, where the model speaks several languages.
    fn task(&self, language: u32) -> impl Iterator<Item = u32> + use<> {
        let no_timestamps = Some(self.vocabulary.no_timestamps).filter(|_| !self.timestamps);
        let task = if self.translate { self.vocabulary.translate } else { self.vocabulary.transcribe };
        [Some(language), task, no_timestamps].into_iter().flatten()
    }

    /// Decodes windows whose rows have prompts of the same length. `None` for a row that nobody waits for.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) fn decode(
        &mut self,
        windows: Windows,
        rows: &[Row<'_>],
    ) -> Result<Vec<Option<Decoded>>, BackendError> {
        self.engine.encode(windows)?;
        let prompts: Vec<Vec<u32>> = rows.iter().map(|row| self.prompt(row)).collect();
        let width = prompts.first().map_or(0, Vec::len);
        let start =
            prompts.first().and_then(|prompt| prompt.iter().position(|id| *id == self.vocabulary.start));
        let (start, last) = (start.unwrap_or(0), width.saturating_sub(1));
        let ids: Vec<u32> = prompts.concat();
        if ids.len() != rows.len() * width {
            return Err(BackendError::Failed("prompts of a batch differ in length".into()));
        }
        let logits = self.engine.decode(&ids, width, &[start, last])?;
        let size = logits.len() / (2 * rows.len()).max(1);
        let behind = |row: usize, place: usize| &logits[(2 * row + place) * size..][..size];
        let mut decoded: Vec<Decoded> = Vec::with_capacity(rows.len());
        let mut first: Vec<f32> = Vec::with_capacity(rows.len() * size);
        let mut width = width;
        for row in 0..rows.len() {
            let no_speech = self.vocabulary.no_speech;
            let no_speech = no_speech.map_or(0.0, |token| rules::probability(behind(row, 0), token));
            decoded.push(Decoded { no_speech, ..Decoded::default() });
            first.extend(behind(row, 1));
        }
        if rows.iter().all(|row| row.language.is_none()) && !self.vocabulary.languages.is_empty() {
            let mut tasks = Vec::with_capacity(rows.len());
            for (row, decoded) in decoded.iter_mut().enumerate() {
                let logit = |language: &Language| behind(row, 0)[language.id as usize];
                let known = self.vocabulary.languages.iter().map(logit).enumerate();
                let (spoken, _) = known.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or_default();
                decoded.language = Some(spoken);
                tasks.push(self.task(self.vocabulary.languages[spoken].id).collect::<Vec<u32>>());
            }
            for step in 0..tasks[0].len() {
                let ids: Vec<u32> = tasks.iter().map(|task| task[step]).collect();
                first = self.engine.decode(&ids, 1, &[0])?;
                width += 1;
            }
        }
        self.engine.mark();
        self.attempts(rows, decoded, &first, self.positions.saturating_sub(width))
    }

    /// Decodes at one temperature after the other, until every row is good or its time is up.
    fn attempts(
        &mut self,
        rows: &[Row<'_>],
        mut decoded: Vec<Decoded>,
        first: &[f32],
        room: usize,
    ) -> Result<Vec<Option<Decoded>>, BackendError> {
        let mut gone = vec![false; rows.len()];
        let mut open: Vec<usize> = (0..rows.len()).collect();
        for (number, temperature) in TEMPERATURES.into_iter().enumerate() {
            if number > 0 {
                self.engine.rewind(&open)?;
            }
            let began = Instant::now();
            let found = self.attempt(rows, &open, first, room, temperature)?;
            let took = began.elapsed();
            let mut again = Vec::new();
            for (row, found) in open.into_iter().zip(found) {
                let Some((tokens, likelihood)) = found else {
                    gone[row] = true;
                    continue;
                };
                let decoded = &mut decoded[row];
                (decoded.tokens, decoded.likelihood) = (tokens, likelihood);
                let bad = likelihood < LEAST_LIKELIHOOD || self.repeats(&decoded.tokens);
                // Another attempt takes about as long.
                let time = (self.left)(row).is_some_and(|left| left > took);
                if bad && time && !decoded.is_silence() {
                    again.push(row);
                }
            }
            open = again;
            if open.is_empty() {
                break;
            }
        }
        let found = decoded.into_iter().zip(gone);
        Ok(found.map(|(decoded, gone)| (!gone).then_some(decoded)).collect())
    }

    /// Decodes the rows that are `open` at one temperature: tokens and their mean log-probability.
    fn attempt(
        &mut self,
        rows: &[Row<'_>],
        open: &[usize],
        first: &[f32],
        room: usize,
        temperature: f32,
    ) -> Result<Vec<Option<Written>>, BackendError> {
        let size = first.len() / rows.len().max(1);
        let mut logits: Vec<f32> =
            open.iter().flat_map(|row| &first[row * size..][..size]).copied().collect();
        let mut writers: Vec<Writer> =
            open.iter().map(|row| Writer::new(rows[*row].seed, temperature)).collect();
        // Which writer each of the engine's rows is.
        let mut carried: Vec<usize> = (0..open.len()).collect();
        loop {
            for (place, number) in carried.iter().enumerate() {
                let (writer, row) = (&mut writers[*number], open[*number]);
                if !writer.writes {
                    continue;
                }
                if (self.left)(row).is_none() {
                    (writer.writes, writer.gone) = (false, true);
                    continue;
                }
                let logits = &mut logits[place * size..][..size];
                rules::apply(self.vocabulary, &writer.tokens, self.timestamps, logits);
                writer.write(logits, temperature, self.vocabulary.end, rows[row].most.min(room));
            }
            let live: Vec<usize> =
                (0..carried.len()).filter(|place| writers[carried[*place]].writes).collect();
            if live.is_empty() {
                break;
            }
            if live.len() * 2 <= carried.len() {
                self.engine.keep(&live)?;
                carried = live.into_iter().map(|place| carried[place]).collect();
            }
            let last =
                |number: &usize| writers[*number].tokens.last().copied().unwrap_or(self.vocabulary.end);
            let ids: Vec<u32> = carried.iter().map(last).collect();
            logits = self.engine.decode(&ids, 1, &[0])?;
        }
        Ok(writers.into_iter().map(Writer::finish).collect())
    }

    /// Whether a text says the same over and over.
    fn repeats(&self, tokens: &[u32]) -> bool {
        self.vocabulary.text(tokens).is_ok_and(|text| compression(&text) > MOST_COMPRESSION)
    }
}

/// A row while it is written.
struct Writer {
    tokens: Vec<u32>,
    /// Sum of the logarithms of the tokens' probabilities.
    sum: f32,
    random: fastrand::Rng,
    writes: bool,
    gone: bool,
}

impl Writer {
    fn new(seed: u64, temperature: f32) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ u64::from(temperature.to_bits()));
        Self { tokens: Vec::new(), sum: 0.0, random, writes: true, gone: false }
    }

    /// Writes the next token, of `most` at most.
    fn write(&mut self, logits: &[f32], temperature: f32, end: u32, most: usize) {
        let chosen = rules::choose(logits, temperature, &mut self.random).filter(|_| most > 0);
        let Some((token, likelihood)) = chosen else {
            self.writes = false;
            return;
        };
        self.sum += likelihood;
        if token != end {
            self.tokens.push(token);
        }
        // No step is taken for a token that there is no room for.
        self.writes = token != end && self.tokens.len() < most;
    }

    fn finish(self) -> Option<Written> {
        let mean = self.sum / (self.tokens.len() + 1) as f32;
        (!self.gone).then_some((self.tokens, mean))
    }
}

/// How many bytes of a text zlib makes one of.
fn compression(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    text.len() as f32 / packed.map_or(1, |packed| packed.len()).max(1) as f32
}

#[cfg(test)]
mod tests;
