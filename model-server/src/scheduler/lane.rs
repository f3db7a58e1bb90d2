//! One model's queue and its instances.

mod forecast;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    batching::{self, Bounds},
    job::Job,
    jobs::{Jobs, Load},
    shares::number,
};
use crate::{
    backend::{Backend, Reading, Row},
    error::Error,
    metrics,
    profile::Profile,
    statistics::Statistics,
    warmup::Wide,
};

/// Rows that are looked at for a batch: several times what fits into one.
const LOOKED_AT: usize = 512;
/// Of a batch's time, how long the next one waits for those who were just answered to come back: many
/// do, and the first of them would be a batch of one.
const GATHERING: f64 = 0.02;
/// The most that is waited for them.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);

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

/// A loaded model, as the scheduler sees it.
pub(crate) struct Engine {
    /// For metrics and traces.
    pub(crate) name: Arc<str>,
    /// Its instances; each computes a batch at a time.
    pub(crate) backends: Vec<Box<dyn Backend>>,
    /// A session on more cores, for a lone row.
    pub(crate) wide: Option<Wide>,
    /// Cores that a batch takes.
    pub(crate) threads: usize,
    pub(crate) reading: Reading,
    /// How long its batches take, as far as is known.
    pub(crate) profile: Profile,
    pub(crate) limits: Limits,
}

/// A row that was taken for a batch, and whose it is.
pub(super) struct Picked {
    pub(super) class: usize,
    /// The job's number.
    pub(super) job: u64,
    /// The row's place in the request.
    pub(super) index: usize,
    pub(super) row: Row,
}

/// A session that computes.
pub(super) enum Taken {
    Instance(Box<dyn Backend>),
    Wide(Wide),
}

impl Taken {
    pub(super) fn backend(&mut self) -> &mut dyn Backend {
        match self {
            Self::Instance(backend) => backend.as_mut(),
            Self::Wide(wide) => wide.backend.as_mut(),
        }
    }

    /// What a batch would have taken on an instance, if it took so long here.
    pub(super) fn on_an_instance(&self, took: Duration) -> Duration {
        match self {
            Self::Instance(_) => took,
            Self::Wide(wide) => took.div_f64(wide.ratio.max(0.01)),
        }
    }
}

/// Callers who were just answered, and until when they are waited for.
struct Gathering {
    callers: usize,
    until: Instant,
}

pub(super) struct Lane {
    pub(super) name: Arc<str>,
    /// By class.
    jobs: [Jobs; 3],
    /// Places that are taken.
    pub(super) held: usize,
    /// Instances that compute nothing at the moment.
    idle: Vec<Box<dyn Backend>>,
    instances: usize,
    /// The session for a lone row, while it computes nothing.
    wide: Option<Wide>,
    /// Whether it computes.
    wide_busy: bool,
    /// Cores that a batch takes.
    pub(super) slots: usize,
    pub(super) reading: Reading,
    pub(super) profile: Profile,
    pub(super) limits: Limits,
    pub(super) statistics: Arc<Statistics>,
    gathering: Option<Gathering>,
    /// Nobody will submit any more.
    closed: bool,
}

impl Lane {
    /// A lane whose batches take at most `slots` cores.
    pub(super) fn new(engine: Engine, slots: usize, statistics: Arc<Statistics>) -> Self {
        Self {
            name: engine.name,
            jobs: Default::default(),
            held: 0,
            instances: engine.backends.len(),
            idle: engine.backends,
            wide: engine.wide,
            wide_busy: false,
            slots: engine.threads.clamp(1, slots),
            reading: engine.reading,
            profile: engine.profile,
            limits: engine.limits,
            statistics,
            gathering: None,
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
        self.jobs.iter_mut().flat_map(Jobs::give_up).collect()
    }

    pub(super) fn ended(&self) -> bool {
        self.closed && self.idle.len() == self.instances && !self.wide_busy
    }

    /// A session to compute with: the one on more cores for what is `lone`, where there is one.
    pub(super) fn take(&mut self, lone: bool) -> Option<Taken> {
        if lone && let Some(wide) = self.wide.take() {
            self.wide_busy = true;
            return Some(Taken::Wide(wide));
        }
        self.idle.pop().map(Taken::Instance)
    }

    pub(super) fn put_back(&mut self, taken: Taken) {
        match taken {
            Taken::Instance(backend) => self.idle.push(backend),
            Taken::Wide(wide) => (self.wide, self.wide_busy) = (Some(wide), false),
        }
    }

    /// Rows that wait.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.iter().map(|jobs| jobs.load().rows).sum()
    }

    /// Instances that compute nothing at the moment.
    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn insert(&mut self, id: u64, job: Job) {
        self.jobs[number(job.class)].insert(id, job);
    }

    pub(super) fn remove(&mut self, class: usize, id: u64) -> Option<Job> {
        self.jobs[class].remove(id)
    }

    pub(super) fn job(&mut self, class: usize, id: u64) -> Option<&mut Job> {
        self.jobs[class].get(id)
    }

    /// The job of a class that goes next: the first that has rows waiting.
    pub(super) fn lead(&self, class: usize) -> Option<(u64, &Job)> {
        self.jobs[class].lead()
    }

    /// Refuses the jobs of a class whose deadline has passed, or will before the next batch of theirs
    /// could end. Those behind the first that is in time are left for when they come first.
    pub(super) fn refuse_late(&mut self, class: usize) {
        while let Some((id, job)) = self.lead(class) {
            let left = job.deadline.left().as_secs_f64();
            let length = job.waiting.last().map_or(1, |(_, row)| row.ids.len());
            if left > 0.0 && left >= super::HOPEFUL * self.next_cost(job) {
                return;
            }
            if left > 0.0 {
                self.profile.doubt(1, length);
            }
            if let Some(job) = self.remove(class, id) {
                metrics::refused(&self.name, job.class, "deadline", job.waiting.len());
                job.answer(Some(Error::Deadline));
            }
        }
    }

    /// Notes that so many callers have just been answered, after a batch that took so long.
    pub(super) fn answered(&mut self, callers: usize, took: Duration) {
        let wait = took.mul_f64(GATHERING).min(LONGEST_GATHERING);
        self.gathering = (callers > 1).then(|| Gathering { callers, until: Instant::now() + wait });
    }

    /// Until when nothing is begun here, so that who was just answered may share a batch again. What is
    /// spoken is never held up.
    pub(super) fn gathers_until(&mut self, now: Instant) -> Option<Instant> {
        let waiting = self.waiting();
        let spoken = self.jobs.last().is_some_and(|voice| voice.load().rows > 0);
        let enough = |gathering: &Gathering| waiting >= gathering.callers || gathering.until <= now;
        if spoken || self.gathering.as_ref().is_some_and(enough) {
            self.gathering = None;
        }
        self.gathering.as_ref().map(|gathering| gathering.until)
    }

    /// Takes the rows of the next batch out of the jobs, led by the first of `class`; rows of less urgent
    /// classes have no part in it: they would only make it longer. `sharers` instances are free for
    /// what waits.
    pub(super) fn pick(&mut self, class: usize, sharers: usize) -> Vec<Picked> {
        let Some((lead, _)) = self.lead(class) else { return Vec::new() };
        let mut looked_at: Vec<(usize, u64, usize)> = Vec::new();
        let (mut lengths, mut left): (Vec<usize>, Vec<f64>) = (Vec::new(), Vec::new());
        let of = |class: usize| self.jobs[class].waiting().map(move |(id, job)| (class, id, job));
        // The lead's row is the first that is looked at.
        let first = of(class).take(1);
        let others = (class + 1..3).rev().flat_map(of).chain(of(class).skip(1));
        for (class, id, job) in first.chain(others) {
            let time = job.deadline.left().as_secs_f64();
            // Who cannot be in time anyhow must not keep the others from sharing.
            if id != lead && time < self.next_cost(job) {
                continue;
            }
            for (place, (_, row)) in job.waiting.iter().enumerate().rev() {
                looked_at.push((class, id, place));
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
        let seconds = |rows: usize, tokens: usize| self.profile.predict(rows, tokens);
        let chosen = batching::choose(&lengths, 0, &Bounds { tokens, left: &left, seconds: &seconds });
        let picked = self.take_out(chosen.into_iter().map(|at| looked_at[at]).collect());
        self.postpone(class, lead);
        picked
    }

    fn take_out(&mut self, mut chosen: Vec<(usize, u64, usize)>) -> Vec<Picked> {
        // Of each job the last place first, so that the places of the rest stay what they are; and all
        // rows of a job one after the other.
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let taken = chosen.into_iter().filter_map(|(class, job, place)| {
            let (index, row) = self.jobs[class].take(job, place)?;
            Some(Picked { class, job, index, row })
        });
        taken.collect()
    }

    /// What is left of a large job comes after those that are due by now: otherwise it would have its
    /// class for itself until it is done.
    fn postpone(&mut self, class: usize, id: u64) {
        let Some(job) = self.jobs[class].get(id) else { return };
        let (due, deadline, load) = (job.due, job.deadline, job.load);
        let due = due.max(Instant::now()).min(self.latest(deadline, load));
        self.jobs[class].postpone(id, due);
    }
}
