//! One device, the queues of its models, and the threads that work them off.
//!
//! [`Device`] stands for the cores (or a GPU) that several models share; [`Device::open`] gives a model
//! its [`Queue`]. A request takes its places with [`Queue::admit`] before anything is spent on it, and
//! hands its rows over with [`Queue::submit`]. Whenever the device has room, a thread takes the next
//! batch: the class by [`shares`], in it the request that is due first over all models, and around that
//! one's shortest row what [`batching`] finds for it. Batching costs an idle model nothing: only after a
//! batch of several requests does a model wait, for a fiftieth of the time that the batch took, since
//! callers who were just answered tend to come back together.
//!
//! A request that is dropped leaves its queue at once. One that cannot be done before its deadline is
//! refused before it costs anything. When a batch of several requests fails, each is tried alone,
//! so that none fails for another's sake; when memory runs out, the batch is halved.
//!
//! Work that is no batch of rows, such as the steps of a transcription, has a thread of its own and takes
//! [`Turns`]: for each step it waits, as a batch would, until cores are free and it is the most urgent.

mod batching;
mod compute;
mod job;
mod jobs;
mod lane;
mod shares;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use switchboard_mesh::{Call, Class};

pub(crate) use self::{
    job::{Done, Ticket, patience},
    lane::{Engine, Limits},
    turns::{Turn, Turns},
};
use self::{
    lane::Lane,
    shares::{Shares, number},
    turns::Asking,
};
use crate::{backend::Row, error::Error, metrics, profile::Profile, statistics::Statistics};

/// The part of a predicted time that must fit before the deadline for a request to be taken. Less than
/// all of it: a prediction that is too long by a little should not refuse what can be done.
pub(crate) const HOPEFUL: f64 = 0.7;

/// Cores, or a GPU, that models share. Its threads end when it is dropped.
pub(crate) struct Device {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There may be work: a request came, or a batch ended.
    work: Condvar,
    /// Threads that can compute at once.
    slots: usize,
}

struct State {
    lanes: BTreeMap<u64, Lane>,
    /// Who waits for a turn.
    asking: Asking,
    /// Slots in use.
    busy: usize,
    shares: Shares,
    /// The next number of a lane or a job.
    next: u64,
    closed: bool,
}

impl Device {
    /// A device of `slots` cores, and a thread for each. `batch` and `chat` are the parts of the time of
    /// more urgent classes that these are sure of. `lost` is called should a thread end by a panic.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(
        name: &str,
        slots: usize,
        [batch, chat]: [f64; 2],
        lost: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let shares = Shares::new(batch, chat);
        let (lanes, asking) = (BTreeMap::new(), Asking::default());
        let state = State { lanes, asking, busy: 0, shares, next: 0, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), slots });
        let device = Self { shared };
        for number in 0..slots {
            let (shared, lost) = (Arc::clone(&device.shared), lost.clone());
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                let _watch = Watch(lost);
                compute::work(&shared);
            })?;
        }
        Ok(device)
    }

    /// A queue for a model.
    pub(crate) fn open(&self, engine: Engine) -> Queue {
        let statistics = Arc::new(Statistics::default());
        let lane = Lane::new(engine, self.shared.slots, Arc::clone(&statistics));
        let mut state = self.shared.lock();
        let id = state.number();
        state.lanes.insert(id, lane);
        Queue { lane: id, shared: Arc::clone(&self.shared), statistics }
    }

    /// Turns for work whose steps take so many threads.
    pub(crate) fn turns(&self, threads: usize) -> Turns {
        Turns::new(Arc::clone(&self.shared), threads.clamp(1, self.shared.slots))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // Who waits would wait for good; what is in work is finished.
        let waiting: Vec<_> = state.lanes.values_mut().map(Lane::give_up).collect();
        let asking = std::mem::take(&mut state.asking);
        drop(state);
        drop((waiting, asking));
        self.shared.work.notify_all();
    }
}

/// Calls what it holds when its thread ends by a panic.
struct Watch<F: Fn()>(F);

impl<F: Fn()> Drop for Watch<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A lane that takes requests.
    fn lane(&mut self, id: u64) -> Result<&mut Lane, Error> {
        let open = !self.closed;
        self.lanes.get_mut(&id).filter(|_| open).ok_or(Error::Stopped)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The way to a model's instances. They end with it, once their batches are done.
pub(crate) struct Queue {
    lane: u64,
    shared: Arc<Shared>,
    statistics: Arc<Statistics>,
}

/// Room in the queue for the rows of one request; given back when it is dropped.
pub(crate) struct Places {
    rows: usize,
    lane: u64,
    shared: Arc<Shared>,
}

impl Queue {
    /// Takes places for `rows` rows. A quarter of the queue is kept free of class batch, so that an
    /// ingest never shuts out those who wait for an answer.
    ///
    /// # Errors
    /// `Overloaded` when there are not enough.
    pub(crate) fn admit(&self, rows: usize, class: Class) -> Result<Places, Error> {
        let mut state = self.shared.lock();
        let lane = state.lane(self.lane)?;
        let kept = if class == Class::Batch { lane.limits.queue / 4 } else { 0 };
        if lane.held.saturating_add(rows).saturating_add(kept) > lane.limits.queue {
            let retry_after = lane.drained_in();
            metrics::refused(&lane.name, class, "overloaded", rows);
            return Err(Error::Overloaded { retry_after });
        }
        lane.held += rows;
        Ok(Places { rows, lane: self.lane, shared: Arc::clone(&self.shared) })
    }

    /// Puts `rows` into the queue. Dropping the ticket takes them out again; a batch that has begun is
    /// finished without them mattering.
    ///
    /// # Errors
    /// `Deadline` when they cannot be done in time, as far as that can be foreseen.
    pub(crate) fn submit(&self, places: Places, rows: Vec<Row>, call: &Call) -> Result<Ticket, Error> {
        let mut state = self.shared.lock();
        let id = state.number();
        let lane = state.lane(self.lane)?;
        let (job, receiver) = job::Job::new(rows, call, lane);
        if lane.is_late(job.load, job.due, call) {
            metrics::refused(&lane.name, call.class, "deadline", job.load.rows);
            return Err(Error::Deadline);
        }
        lane.insert(id, job);
        drop(state);
        self.shared.work.notify_one();
        Ok(Ticket::new(receiver, places, number(call.class), id, call))
    }

    /// What became of requests so far.
    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// How long batches take, and how long what waits will.
    pub(crate) fn profile(&self) -> (Profile, Duration) {
        let state = self.shared.lock();
        let lane = state.lanes.get(&self.lane);
        let empty = || (Profile::new(1, &[]), Duration::ZERO);
        lane.map_or_else(empty, |lane| (lane.profile.clone(), lane.backlog()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let ended = state.lanes.get_mut(&self.lane).is_some_and(Lane::close);
        let gone = if ended { state.lanes.remove(&self.lane) } else { None };
        drop(state);
        // Sessions may take a while to end: not under the lock.
        drop(gone);
    }
}

impl Places {
    /// Takes a request out of the queue, if it is still there; `reason` is why.
    fn withdraw(&self, class: usize, id: u64, reason: &'static str) {
        let mut state = self.shared.lock();
        let gone = state.lanes.get_mut(&self.lane).and_then(|lane| lane.remove(class, id));
        if let (Some(job), Some(lane)) = (&gone, state.lanes.get(&self.lane)) {
            metrics::refused(&lane.name, shares::CLASSES[class], reason, job.waiting.len());
        }
        drop(state);
        if gone.is_some() {
            // What waited behind it may fit where it did not.
            self.shared.work.notify_one();
        }
        drop(gone);
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if let Some(lane) = self.shared.lock().lanes.get_mut(&self.lane) {
            lane.held = lane.held.saturating_sub(self.rows);
        }
    }
}
