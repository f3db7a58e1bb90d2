//! One model's queue and its instances.

use std::{
    collections::{BTreeMap, btree_map},
    sync::Arc,
    time::Duration,
};

use switchboard_mesh::Call;
use tokio::time::Instant;

use super::{
    batching::{self, Bounds},
    job::Job,
    shares::number,
};
use crate::{
    backend::{Backend, Reading, Row},
    error::Error,
    metrics,
    profile::Profile,
    statistics::Statistics,
};

/// Rows that are looked at for a batch: several times what fits into one.
const LOOKED_AT: usize = 512;
/// The least and the most that a caller is told to wait.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// Bounds on queue and batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rows that may wait or be in work.
    pub(crate) queue: usize,
    /// Tokens of a batch, padding included; a longer row makes a batch of its own.
    pub(crate) batch_tokens: usize,
    /// The token that fills up a row.
    pub(crate) pad: u32,
}

/// When a job is due, and its number: who goes first in its class.
pub(super) type Key = (Instant, u64);

/// A row that was taken for a batch, and whose it is.
pub(super) struct Picked {
    pub(super) class: usize,
    pub(super) key: Key,
    pub(super) index: usize,
    pub(super) row: Row,
}

pub(super) struct Lane {
    pub(super) name: Arc<str>,
    /// By class.
    jobs: [BTreeMap<Key, Job>; 3],
    /// Tokens that wait, by class.
    tokens: [usize; 3],
    /// Places that are taken.
    pub(super) held: usize,
    /// Instances that compute nothing at the moment.
    idle: Vec<Box<dyn Backend>>,
    instances: usize,
    /// Cores that a batch takes.
    pub(super) slots: usize,
    pub(super) reading: Reading,
    pub(super) profile: Profile,
    pub(super) limits: Limits,
    pub(super) statistics: Arc<Statistics>,
    /// Nobody will submit any more.
    closed: bool,
}

impl Lane {
    pub(super) fn new(
        name: Arc<str>,
        backends: Vec<Box<dyn Backend>>,
        slots: usize,
        reading: Reading,
        profile: Profile,
        limits: Limits,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            name,
            jobs: Default::default(),
            tokens: [0; 3],
            held: 0,
            instances: backends.len(),
            idle: backends,
            slots,
            reading,
            profile,
            limits,
            statistics,
            closed: false,
        }
    }

    /// Notes that nobody will submit any more; whether nothing is in work either.
    pub(super) fn close(&mut self) -> bool {
        self.closed = true;
        self.ended()
    }

    /// Takes out all that has rows waiting.
    pub(super) fn give_up(&mut self) -> Vec<Job> {
        self.tokens = [0; 3];
        let waiting = |jobs: &mut BTreeMap<Key, Job>| -> Vec<Job> {
            jobs.extract_if(.., |_, job| !job.waiting.is_empty()).map(|(_, job)| job).collect()
        };
        self.jobs.iter_mut().flat_map(waiting).collect()
    }

    pub(super) fn ended(&self) -> bool {
        self.closed && self.idle.len() == self.instances
    }

    /// An instance to compute with, and back.
    pub(super) fn take(&mut self) -> Option<Box<dyn Backend>> {
        self.idle.pop()
    }

    pub(super) fn put_back(&mut self, backend: Box<dyn Backend>) {
        self.idle.push(backend);
    }

    /// Instances that compute nothing at the moment.
    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    pub(super) fn insert(&mut self, key: Key, job: Job) {
        let class = number(job.class);
        self.tokens[class] += tokens(&job.waiting);
        self.jobs[class].insert(key, job);
    }

    pub(super) fn remove(&mut self, class: usize, key: Key) -> Option<Job> {
        let job = self.jobs[class].remove(&key)?;
        self.tokens[class] = self.tokens[class].saturating_sub(tokens(&job.waiting));
        Some(job)
    }

    pub(super) fn job(&mut self, class: usize, key: Key) -> Option<&mut Job> {
        self.jobs[class].get_mut(&key)
    }

    /// The job of a class that goes next: the first that has rows waiting.
    pub(super) fn lead(&self, class: usize) -> Option<(Key, &Job)> {
        self.jobs[class].iter().find(|(_, job)| !job.waiting.is_empty()).map(|(key, job)| (*key, job))
    }

    /// Seconds that the next batch of a job takes, at least; 0 while nothing is known.
    pub(super) fn next_cost(&self, job: &Job) -> f64 {
        let length = job.waiting.last().map_or(1, |(_, row)| row.ids.len());
        self.profile.predict(1, length).unwrap_or_default()
    }

    /// Refuses the jobs of a class whose deadline has passed, or will before the next batch of theirs
    /// could end. Those behind the first that is in time are left for when they come first.
    pub(super) fn refuse_late(&mut self, class: usize) {
        while let Some((key, job)) = self.lead(class) {
            let left = job.deadline.left().as_secs_f64();
            if left > 0.0 && left >= super::HOPEFUL * self.next_cost(job) {
                return;
            }
            if let Some(job) = self.remove(class, key) {
                metrics::refused(&self.name, job.class, "deadline", job.waiting.len());
                job.answer(Some(Error::Deadline));
            }
        }
    }

    /// Takes the rows of the next batch out of the jobs, led by the first of `class`; rows of less urgent
    /// classes have no part in it: they would only make it longer. `sharers` instances are free for
    /// what waits.
    pub(super) fn pick(&mut self, class: usize, sharers: usize) -> Vec<Picked> {
        let Some((lead, _)) = self.lead(class) else { return Vec::new() };
        let mut looked_at: Vec<(usize, Key, usize)> = Vec::new();
        let (mut lengths, mut left): (Vec<usize>, Vec<f64>) = (Vec::new(), Vec::new());
        let more_urgent = (class + 1..3)
            .rev()
            .flat_map(|class| self.jobs[class].iter().map(move |(key, job)| (class, *key, job)));
        let of_class = self.jobs[class].iter().map(|(key, job)| (class, *key, job));
        // The lead's row is the first that is looked at.
        let first = of_class.clone().filter(|(_, key, _)| *key == lead);
        let others = more_urgent.chain(of_class.filter(|(_, key, _)| *key != lead));
        for (class, key, job) in first.chain(others) {
            let time = job.deadline.left().as_secs_f64();
            for (place, (_, row)) in job.waiting.iter().enumerate().rev() {
                looked_at.push((class, key, place));
                lengths.push(row.ids.len());
                left.push(time);
            }
            if looked_at.len() >= LOOKED_AT {
                break;
            }
        }
        let tokens = match sharers {
            0 | 1 => self.limits.batch_tokens,
            sharers => self.limits.batch_tokens.min(lengths.iter().sum::<usize>().div_ceil(sharers)),
        };
        // What is led by a row in a hurry must not be made late by those who join it.
        let hurry = left.first().copied().unwrap_or_default();
        let on_time = |rows: usize, tokens: usize| {
            rows == 1 || self.profile.predict(rows, tokens).is_none_or(|seconds| seconds <= hurry)
        };
        let chosen = batching::choose(&lengths, 0, &Bounds { tokens, on_time: &on_time });
        self.take_out(chosen.into_iter().map(|at| looked_at[at]).collect())
    }

    fn take_out(&mut self, mut chosen: Vec<(usize, Key, usize)>) -> Vec<Picked> {
        // Of each job the last place first, so that the places of the rest stay what they are; and all
        // rows of a job one after the other.
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let mut picked = Vec::with_capacity(chosen.len());
        for (class, key, place) in chosen {
            if let btree_map::Entry::Occupied(mut job) = self.jobs[class].entry(key) {
                let (index, row) = job.get_mut().waiting.remove(place);
                self.tokens[class] = self.tokens[class].saturating_sub(row.ids.len());
                picked.push(Picked { class, key, index, row });
            }
        }
        picked
    }

    /// Whether `rows` cannot be done before the call's deadline, alone or behind what goes before them.
    pub(super) fn is_late(&mut self, rows: &[Row], call: &Call) -> bool {
        let left = call.deadline.left().as_secs_f64();
        if left <= 0.0 {
            return true;
        }
        let (count, longest) = self.first_batch(rows);
        let Some(alone) = self.alone(rows) else { return false };
        if left < super::HOPEFUL * alone {
            self.profile.doubt(count, longest);
            return true;
        }
        let before = self.tokens[number(call.class)..].iter().sum();
        left < super::HOPEFUL * (alone + self.seconds(before))
    }

    /// Seconds that `rows` take when nothing else is there; `None` while nothing is known.
    pub(super) fn alone(&self, rows: &[Row]) -> Option<f64> {
        let (count, longest) = self.first_batch(rows);
        let batch = self.profile.predict(count, longest)?;
        let batches = rows.len().div_ceil(count) as f64;
        Some(batch * (batches / self.instances.max(1) as f64).max(1.0))
    }

    /// The shape of a batch that some of `rows` fill, or all of them.
    fn first_batch(&self, rows: &[Row]) -> (usize, usize) {
        let total: usize = rows.iter().map(|row| row.ids.len()).sum();
        let mean = total.div_ceil(rows.len().max(1)).max(1);
        ((self.limits.batch_tokens / mean).clamp(1, rows.len().max(1)), mean)
    }

    /// Seconds that so many waiting tokens take.
    fn seconds(&self, tokens: usize) -> f64 {
        const LENGTH: usize = 32;
        let rows = (self.limits.batch_tokens / LENGTH).clamp(1, 32);
        let full = self.profile.predict(rows, LENGTH).unwrap_or_default();
        full * tokens as f64 / (rows * LENGTH) as f64 / self.instances.max(1) as f64
    }

    /// How long what waits takes.
    pub(super) fn backlog(&self) -> Duration {
        let waiting = self.tokens.iter().sum();
        Duration::try_from_secs_f64(self.seconds(waiting)).unwrap_or_default()
    }

    /// When there should be room again: when half of what waits is done.
    pub(super) fn drained_in(&self) -> Duration {
        (self.backlog() / 2).clamp(RETRY[0], RETRY[1])
    }
}

fn tokens(rows: &[(usize, Row)]) -> usize {
    rows.iter().map(|(_, row)| row.ids.len()).sum()
}
