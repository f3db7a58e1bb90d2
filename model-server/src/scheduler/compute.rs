//! What the device's threads do: the next batch, through a model, to its requests.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::Span;

use super::{
    Shared, State,
    lane::{Lane, Picked, Taken},
    shares::CLASSES,
};
use crate::{
    backend::{Backend, BackendError, Batch, Reading, Row},
    error::Error,
    metrics,
};

/// What is told a caller whose texts alone need more memory than there is.
const MEMORY_AGAIN: Duration = Duration::from_secs(1);

/// A batch to compute, taken out of its lane.
struct Work {
    lane: u64,
    class: usize,
    picked: Vec<Picked>,
    taken: Taken,
    reading: Reading,
    pad: u32,
    name: Arc<str>,
    slots: usize,
    /// What its class paid for it.
    paid: Option<f64>,
    span: Span,
}

/// What goes next.
enum Chosen {
    Work(Work),
    /// Somebody who waited for a turn has it now.
    Turn,
}

/// What a thread does next.
enum Next {
    Work(Work),
    /// Wait until there is work, and look again at that time if there is one.
    Wait(Option<Instant>),
}

/// A request: its class and its job's number.
type Owner = (usize, u64);

/// What became of a row.
type Outcome = Result<Vec<f32>, BackendError>;

/// One run of the backend.
struct Run {
    rows: usize,
    length: usize,
    took: Duration,
    done: bool,
}

/// Works until the device is closed.
pub(super) fn work(shared: &Shared) {
    let mut state = shared.lock();
    while !state.closed {
        let mut work = match state.next(shared.slots) {
            Next::Work(work) => work,
            Next::Wait(None) => {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            Next::Wait(Some(until)) => {
                let time = until.saturating_duration_since(Instant::now());
                let waited = shared.work.wait_timeout(state, time);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
        };
        drop(state);
        // There may be room for another one beside it.
        shared.work.notify_one();
        let mut runs = Vec::new();
        let rows: Vec<&Row> = work.picked.iter().map(|picked| &picked.row).collect();
        let owners: Vec<Owner> = work.picked.iter().map(|picked| (picked.class, picked.job)).collect();
        let lane = work.lane;
        let waits = |(class, job): Owner| shared.lock().lanes.get_mut(&lane)?.job(class, job).map(drop);
        let (reading, pad) = (work.reading, work.pad);
        let mut runner =
            Runner { backend: work.taken.backend(), reading, pad, waits: &waits, runs: &mut runs };
        let outcomes = work.span.in_scope(|| runner.run(&rows, &owners));
        for run in &runs {
            metrics::computed(&work.name, CLASSES[work.class], run.took);
        }
        state = shared.lock();
        let ended = state.finish(work, outcomes, &runs);
        shared.work.notify_all();
        if ended.is_some() {
            // Sessions may take a while to end: not under the lock.
            drop(state);
            drop(ended);
            state = shared.lock();
        }
    }
}

impl State {
    /// The next batch, if there is one and there is room for it.
    fn next(&mut self, slots: usize) -> Next {
        let now = Instant::now();
        let mut until: Option<Instant> = None;
        let mut ready = Vec::with_capacity(self.lanes.len());
        for (id, lane) in &mut self.lanes {
            (0..3).for_each(|class| lane.refuse_late(class));
            match lane.gathers_until(now) {
                Some(gathered) => until = Some(until.map_or(gathered, |until| until.min(gathered))),
                None if lane.idle() > 0 => ready.push(*id),
                None => {}
            }
        }
        loop {
            match self.choose(&ready, slots) {
                Some(Chosen::Work(work)) => return Next::Work(work),
                Some(Chosen::Turn) => {}
                None => return Next::Wait(until),
            }
        }
    }

    /// What goes next, out of the lanes that are ready and of who waits for a turn.
    fn choose(&mut self, ready: &[u64], slots: usize) -> Option<Chosen> {
        // For each class the model whose request is due first: when, what it costs, and which it is.
        let first = [0, 1, 2].map(|class| {
            let lanes = ready.iter().filter_map(|id| Some((*id, self.lanes.get(id)?)));
            let leads = lanes.filter_map(|(id, lane)| lane.lead(class).map(|(_, job)| (id, lane, job)));
            let lead = leads.min_by_key(|(.., job)| job.due);
            let lead = lead.map(|(id, lane, job)| (job.due, lane.next_cost(job), Some(id)));
            let turn = self.asking.first(class).map(|(due, cost)| (due, cost, None));
            lead.into_iter().chain(turn).min_by_key(|(due, ..)| *due)
        });
        let class = self.shares.next(first.map(|first| first.map(|(_, cost, _)| cost)))?;
        match first[class]? {
            (.., Some(id)) => self.batch_of(id, class, slots).map(Chosen::Work),
            (.., None) => self.grant(class, slots).then_some(Chosen::Turn),
        }
    }

    /// The next batch of a lane.
    fn batch_of(&mut self, id: u64, class: usize, slots: usize) -> Option<Work> {
        let busy = self.busy;
        let waiting: usize = self.lanes.values().map(Lane::waiting).sum();
        let lane = self.lanes.get_mut(&id)?;
        // What goes next waits for its cores. Were smaller batches let past it, it might for ever.
        if busy + lane.slots > slots && busy > 0 {
            return None;
        }
        let lone = busy == 0 && waiting == 1;
        let taken = lane.take(lone)?;
        let takes = match &taken {
            Taken::Instance(_) => lane.slots,
            Taken::Wide(wide) => wide.threads.min(slots),
        };
        let free = slots.saturating_sub(busy + takes) / lane.slots;
        let sharers = 1 + free.min(lane.idle());
        let picked = lane.pick(class, sharers);
        let longest = picked.iter().map(|picked| picked.row.ids.len()).max().unwrap_or(0);
        let seconds = lane.profile.predict(picked.len(), longest).unwrap_or_default();
        let mut work = lane.begin(id, class, picked, taken, takes);
        self.busy += work.slots;
        work.paid = self.shares.begin(class, seconds, self.waiting());
        Some(work)
    }

    /// Which classes have something waiting.
    pub(super) fn waiting(&self) -> [bool; 3] {
        let in_lanes = |class| self.lanes.values().any(|lane| lane.lead(class).is_some());
        [0, 1, 2].map(|class| self.asking.first(class).is_some() || in_lanes(class))
    }

    /// Gives each row's numbers to its request, and answers those that are complete. Returns the lane
    /// where this was the last batch of one that is closed.
    fn finish(&mut self, work: Work, outcomes: Vec<Outcome>, runs: &[Run]) -> Option<Lane> {
        self.busy -= work.slots;
        let took: Duration = runs.iter().map(|run| run.took).sum();
        let waiting = self.waiting();
        self.shares.end(work.class, work.paid, took.as_secs_f64(), waiting);
        let lane = self.lanes.get_mut(&work.lane)?;
        for run in runs.iter().filter(|run| run.done) {
            lane.profile.observe(run.rows, run.length, work.taken.on_an_instance(run.took));
            lane.statistics.executed(run.rows, run.took);
        }
        lane.put_back(work.taken);
        let tokens: usize = work.picked.iter().map(|picked| picked.row.ids.len()).sum();
        let mut answered = 0;
        for (picked, outcome) in work.picked.into_iter().zip(outcomes) {
            let share = took.mul_f64(picked.row.ids.len() as f64 / tokens.max(1) as f64);
            answered += usize::from(lane.settle(&picked, outcome, share));
        }
        lane.answered(answered, took);
        if lane.ended() { self.lanes.remove(&work.lane) } else { None }
    }
}

impl Lane {
    fn begin(&mut self, id: u64, class: usize, picked: Vec<Picked>, taken: Taken, slots: usize) -> Work {
        let now = Instant::now();
        let mut span = Span::none();
        let mut last: Option<u64> = None;
        for Picked { class, job, .. } in &picked {
            if last.replace(*job) == Some(*job) {
                continue;
            }
            let name = Arc::clone(&self.name);
            let Some(job) = self.job(*class, *job) else { continue };
            if let Some(waited) = job.begin(now) {
                metrics::queued(&name, job.class, waited);
            }
            if span.is_none() {
                let rows = picked.len();
                span = tracing::info_span!(parent: &job.span, "compute", model = %name, rows);
            } else {
                span.follows_from(&job.span);
            }
        }
        let lengths: Vec<usize> = picked.iter().map(|picked| picked.row.ids.len()).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0);
        let (read, padded) = (lengths.iter().sum::<usize>(), longest * lengths.len());
        metrics::batch(&self.name, CLASSES[class], lengths.len(), read, padded - read);
        let name = Arc::clone(&self.name);
        Work {
            lane: id,
            class,
            picked,
            taken,
            reading: self.reading,
            pad: self.limits.pad,
            name,
            slots,
            paid: None,
            span,
        }
    }

    /// Gives a row's numbers to its request. `share` is the compute that it took. Whether the request is
    /// answered with that.
    fn settle(&mut self, picked: &Picked, outcome: Outcome, share: Duration) -> bool {
        let name = Arc::clone(&self.name);
        let class = CLASSES[picked.class];
        let Some(job) = self.job(picked.class, picked.job) else {
            // Its caller has gone since, or another row of it failed.
            metrics::wasted(&name, class, share);
            return false;
        };
        let error = match outcome {
            Ok(numbers) => match job.keep(picked.index, numbers) {
                true => None,
                false => return false,
            },
            Err(BackendError::OutOfMemory(reason)) => {
                tracing::warn!(model = %name, reason, "a text alone needs more memory than there is");
                metrics::refused(&name, class, "memory", 1);
                Some(Error::Overloaded { retry_after: MEMORY_AGAIN })
            }
            Err(error) => Some(Error::Backend(error)),
        };
        let heard = self.remove(picked.class, picked.job).is_some_and(|job| job.answer(error));
        if !heard {
            metrics::wasted(&name, class, share);
        }
        heard
    }
}

/// Runs rows through a backend, whatever it takes.
struct Runner<'a> {
    backend: &'a mut dyn Backend,
    reading: Reading,
    pad: u32,
    /// Whether a request is still waited for.
    waits: &'a dyn Fn(Owner) -> Option<()>,
    runs: &'a mut Vec<Run>,
}

impl Runner<'_> {
    /// Computes rows, whose requests are `owners`. When memory does not suffice, they are halved; when
    /// they fail otherwise, each request's rows are tried alone: the fault may be in the rows of one, and
    /// the others, of other tenants perhaps, have no part in it. Whoever has gone meanwhile is not tried
    /// again.
    fn run(&mut self, rows: &[&Row], owners: &[Owner]) -> Vec<Outcome> {
        let all = |error: &BackendError| rows.iter().map(|_| Err(error.clone())).collect();
        if !self.runs.is_empty() && owners.iter().all(|&owner| (self.waits)(owner).is_none()) {
            return all(&BackendError::Failed("nobody waits for it".into()));
        }
        match self.once(rows) {
            Ok(numbers) => numbers.into_iter().map(Ok).collect(),
            Err(BackendError::OutOfMemory(_)) if rows.len() > 1 => {
                let (first, second) = rows.split_at(rows.len() / 2);
                let (of_first, of_second) = owners.split_at(rows.len() / 2);
                let mut outcomes = self.run(first, of_first);
                outcomes.extend(self.run(second, of_second));
                outcomes
            }
            Err(error @ BackendError::OutOfMemory(_)) => all(&error),
            Err(error) if owners.windows(2).all(|pair| pair[0] == pair[1]) => all(&error),
            Err(_) => {
                let mut outcomes = Vec::with_capacity(rows.len());
                let mut at = 0;
                for part in owners.chunk_by(|a, b| a == b) {
                    outcomes.extend(self.run(&rows[at..at + part.len()], part));
                    at += part.len();
                }
                outcomes
            }
        }
    }

    /// Runs the rows as one batch. A panic in there is a failure of this batch.
    fn once(&mut self, rows: &[&Row]) -> Result<Vec<Vec<f32>>, BackendError> {
        let batch = Batch::new(rows.iter().copied(), self.pad);
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let output = self.backend.run(&batch)?;
            self.reading.rows(&output, &batch)
        }));
        let result = result.unwrap_or_else(|_| Err(BackendError::Failed("the backend panicked".into())));
        let (took, done) = (started.elapsed(), result.is_ok());
        self.runs.push(Run { rows: batch.rows, length: batch.length, took, done });
        result
    }
}
