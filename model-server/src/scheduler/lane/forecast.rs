//! How long things will take in a lane, and what cannot be in time.

use std::time::Duration;

use switchboard_mesh::{Call, Deadline};
use tokio::time::Instant;

use super::{Lane, Load, number};
use crate::scheduler::{HOPEFUL, job::Job};

/// Rows of the largest batches that the profile is measured for.
const FULL: usize = 32;
/// The least and the most that a caller is told to wait.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

impl Lane {
    /// Whether what comes now and is due then cannot be done before the call's deadline, alone or behind
    /// what goes before it.
    pub(in crate::scheduler) fn is_late(&mut self, load: Load, due: Instant, call: &Call) -> bool {
        let left = call.deadline.left().as_secs_f64();
        if left <= 0.0 {
            return true;
        }
        let Some(alone) = self.alone(load) else { return false };
        if left < HOPEFUL * alone {
            let (rows, length) = self.shape(load, load.rows);
            self.profile.doubt(rows, length);
            return true;
        }
        let class = number(call.class);
        let more_urgent: Load = self.jobs[class + 1..].iter().map(super::Jobs::load).sum();
        let before = more_urgent + self.jobs[class].ahead(due);
        if left < HOPEFUL * (alone + self.seconds(before)) {
            let (rows, length) = self.shape(before, FULL);
            self.profile.doubt(rows, length);
            return true;
        }
        false
    }

    /// When a load must be begun at the latest to be done before the deadline.
    pub(in crate::scheduler) fn latest(&self, deadline: Deadline, load: Load) -> Instant {
        let run = Duration::try_from_secs_f64(self.alone(load).unwrap_or_default()).unwrap_or_default();
        deadline.instant().checked_sub(run).unwrap_or_else(Instant::now)
    }

    /// Seconds that the next batch of a job takes, at least; 0 while nothing is known.
    pub(in crate::scheduler) fn next_cost(&self, job: &Job) -> f64 {
        let length = job.waiting.last().map_or(1, |(_, row)| row.ids.len());
        self.profile.predict(1, length).unwrap_or_default()
    }

    /// Seconds that a load takes when nothing else is there; `None` while nothing is known.
    fn alone(&self, load: Load) -> Option<f64> {
        let (rows, length) = self.shape(load, load.rows);
        let batches = load.rows.div_ceil(rows) as f64 / self.instances.max(1) as f64;
        Some(self.profile.predict(rows, length)? * batches.max(1.0))
    }

    /// Seconds that a load takes in full batches with others; 0 while nothing is known.
    fn seconds(&self, load: Load) -> f64 {
        let (rows, length) = self.shape(load, FULL);
        let full = self.profile.predict(rows, length).unwrap_or_default();
        full * load.rows as f64 / rows as f64 / self.instances.max(1) as f64
    }

    /// Rows, `most` at most, and length of a batch of rows as long as those of a load.
    fn shape(&self, load: Load, most: usize) -> (usize, usize) {
        let length = load.tokens.div_ceil(load.rows.max(1)).max(1);
        ((self.limits.batch_tokens / length).clamp(1, most.max(1)), length)
    }

    /// How long what waits takes.
    pub(in crate::scheduler) fn backlog(&self) -> Duration {
        let waiting = self.jobs.iter().map(super::Jobs::load).sum();
        Duration::try_from_secs_f64(self.seconds(waiting)).unwrap_or_default()
    }

    /// When there should be room again: when half of what waits is done.
    pub(in crate::scheduler) fn drained_in(&self) -> Duration {
        (self.backlog() / 2).clamp(RETRY[0], RETRY[1])
    }
}
