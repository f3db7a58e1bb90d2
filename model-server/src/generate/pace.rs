//! How fast a model reads and writes: measured at warm-up, corrected by every step.

use std::time::Duration;

use crate::profile::Timed;

/// How far one step moves what is thought.
const STEP: f64 = 0.2;
/// One step counts as at most so many times slower or faster than was thought.
const WILDEST: f64 = 4.0;

/// Seconds that steps take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// To read one token of a prompt; 0 while nothing is known.
    read: f64,
    /// To write a token in each of so many rows, from one row on; 0 where nothing is known.
    write: Vec<f64>,
    /// Whether rows share a step; otherwise each takes the time of one.
    batches: bool,
    /// Steps that it rests on: of reading, and of writing with so many rows.
    reads: u64,
    writes: Vec<u64>,
}

impl Pace {
    /// For a model that writes in at most so many rows, which share its steps if it `batches`.
    pub(crate) fn new(rows: usize, batches: bool) -> Self {
        Self { write: vec![0.0; rows], writes: vec![0; rows], batches, ..Self::default() }
    }

    /// Takes in how long so many tokens of a prompt took.
    pub(crate) fn has_read(&mut self, tokens: usize, took: Duration) {
        observe(&mut self.read, took.as_secs_f64() / tokens.max(1) as f64);
        self.reads += 1;
    }

    /// Takes in how long a token in each of so many rows took.
    pub(crate) fn has_written(&mut self, rows: usize, took: Duration) {
        let at = rows.clamp(1, self.write.len().max(1)) - 1;
        if let (Some(seconds), Some(samples)) = (self.write.get_mut(at), self.writes.get_mut(at)) {
            observe(seconds, took.as_secs_f64());
            *samples += 1;
        }
    }

    /// Seconds to read so many tokens; 0 while nothing is known.
    pub(crate) fn reading(&self, tokens: usize) -> f64 {
        self.read * tokens as f64
    }

    /// Seconds to write a token in each of so many rows; 0 while nothing is known. Where that was never
    /// done, it is what the nearest number of rows took.
    pub(crate) fn writing(&self, rows: usize) -> f64 {
        let at = rows.max(1) - 1;
        let each = if self.batches { 1.0 } else { rows.max(1) as f64 };
        let known = self.write.iter().enumerate().filter(|(_, seconds)| **seconds > 0.0);
        known.min_by_key(|(known, _)| known.abs_diff(at)).map_or(0.0, |(_, seconds)| *seconds * each)
    }

    /// Tokens that are read in so long, as far as is known.
    pub(crate) fn readable(&self, time: Duration) -> Option<usize> {
        (self.read > 0.0).then(|| (time.as_secs_f64() / self.read) as usize)
    }

    /// What is known: a token written in so many rows, and a part of a prompt.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Timed> {
        /// Prompts are told of by so many tokens.
        const TOLD: usize = 64;
        let read = Timed { batch: 1, tokens: TOLD, seconds: self.reading(TOLD), samples: self.reads };
        let writes = self.write.iter().zip(&self.writes).enumerate();
        let writes =
            writes.map(|(at, (&seconds, &samples))| Timed { batch: at + 1, tokens: 1, seconds, samples });
        writes.chain([read]).filter(|timed| timed.seconds > 0.0)
    }
}

fn observe(thought: &mut f64, took: f64) {
    let took = took.max(1e-9);
    *thought = match *thought {
        0.0 => took,
        thought => thought * (took / thought).clamp(1.0 / WILDEST, WILDEST).powf(STEP),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_done_takes_what_the_nearest_takes() {
        let mut pace = Pace::new(8, true);
        assert_eq!(
            (pace.writing(3), pace.reading(10), pace.readable(Duration::from_secs(1))),
            (0.0, 0.0, None)
        );
        pace.has_written(1, Duration::from_millis(10));
        pace.has_written(8, Duration::from_millis(20));
        pace.has_read(64, Duration::from_millis(64));
        assert_eq!([1, 3, 7, 8].map(|rows| pace.writing(rows)), [0.01, 0.01, 0.02, 0.02]);
        assert_eq!(pace.readable(Duration::from_millis(50)), Some(50));
        let told: Vec<_> = pace.cells().map(|timed| (timed.batch, timed.tokens)).collect();
        assert_eq!(told, [(1, 1), (8, 1), (1, 64)]);
    }

    #[test]
    fn rows_that_share_nothing_take_their_time_one_after_the_other() {
        let mut pace = Pace::new(8, false);
        pace.has_written(1, Duration::from_millis(10));
        assert!((pace.writing(8) - 0.08).abs() < 1e-9);
    }

    #[test]
    fn one_slow_step_changes_little_and_many_change_all() {
        let mut pace = Pace::new(1, true);
        pace.has_written(1, Duration::from_millis(10));
        pace.has_written(1, Duration::from_secs(10));
        assert!(pace.writing(1) < 0.015);
        (0..60).for_each(|_| pace.has_written(1, Duration::from_millis(20)));
        assert!((pace.writing(1) - 0.02).abs() < 1e-3);
    }
}
