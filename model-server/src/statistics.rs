//! What became of a model's requests so far, in the terms of Triton's statistics extension.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Requests, and the time that they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

impl Total {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time += time;
    }
}

/// The counts of a model since it was loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Rows that were computed for requests that succeeded.
    pub(crate) inferences: u64,
    /// Milliseconds since 1970 of the last request; 0 for none.
    pub(crate) last_inference: u64,
    /// Requests that succeeded, failed, and whose caller went away.
    pub(crate) success: Total,
    pub(crate) fail: Total,
    pub(crate) cancel: Total,
    /// Of those that succeeded: waiting, tokenising, computing, and making the answer.
    pub(crate) queue: Total,
    pub(crate) input: Total,
    pub(crate) infer: Total,
    pub(crate) output: Total,
    /// Batches by their number of rows.
    pub(crate) batches: BTreeMap<usize, Total>,
}

/// Keeps the counts.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Counts>);

/// The parts of a request that succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) queue: Duration,
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
}

impl Statistics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Takes in a batch.
    pub(crate) fn executed(&self, rows: usize, took: Duration) {
        self.lock().batches.entry(rows).or_default().add(took);
    }

    /// Takes in a request that succeeded.
    pub(crate) fn succeeded(&self, rows: usize, parts: Parts) {
        let mut counts = self.lock();
        counts.inferences += rows as u64;
        counts.last_inference = now();
        counts.success.add(parts.queue + parts.input + parts.infer + parts.output);
        counts.queue.add(parts.queue);
        counts.input.add(parts.input);
        counts.infer.add(parts.infer);
        counts.output.add(parts.output);
    }

    /// Takes in a request that failed after `time`.
    pub(crate) fn failed(&self, time: Duration) {
        let mut counts = self.lock();
        counts.last_inference = now();
        counts.fail.add(time);
    }

    /// Takes in a request whose caller went away after `time`.
    pub(crate) fn cancelled(&self, time: Duration) {
        self.lock().cancel.add(time);
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Counts a request however it ends: dropped without a word, its caller has gone.
pub(crate) struct Tally<'a> {
    statistics: Option<&'a Statistics>,
    began: Instant,
}

impl<'a> Tally<'a> {
    pub(crate) fn begin(statistics: &'a Statistics) -> Self {
        Self { statistics: Some(statistics), began: Instant::now() }
    }

    pub(crate) fn succeeded(mut self, rows: usize, parts: Parts) {
        if let Some(statistics) = self.statistics.take() {
            statistics.succeeded(rows, parts);
        }
    }

    pub(crate) fn failed(mut self) {
        if let Some(statistics) = self.statistics.take() {
            statistics.failed(self.began.elapsed());
        }
    }

    /// Counts it by what became of it; of one that succeeded, `rows` were computed.
    pub(crate) fn ended<T, E>(self, rows: usize, result: Result<(T, Parts), E>) -> Result<T, E> {
        match result {
            Ok((answer, parts)) => {
                self.succeeded(rows, parts);
                Ok(answer)
            }
            Err(error) => {
                self.failed();
                Err(error)
            }
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if let Some(statistics) = self.statistics {
            statistics.cancelled(self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_the_sum_of_its_parts() {
        let statistics = Statistics::default();
        let [queue, input, infer, output] = [1, 2, 3, 4].map(Duration::from_millis);
        statistics.succeeded(5, Parts { queue, input, infer, output });
        statistics.failed(Duration::from_millis(7));
        statistics.executed(8, infer);
        statistics.executed(8, infer);
        let counts = statistics.counts();
        assert_eq!(counts.success, Total { count: 1, time: Duration::from_millis(10) });
        assert_eq!((counts.inferences, counts.fail.count, counts.cancel.count), (5, 1, 0));
        assert_eq!(counts.batches[&8], Total { count: 2, time: Duration::from_millis(6) });
        assert!(counts.last_inference > 0);
    }
}
