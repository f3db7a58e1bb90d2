//! The utterances of a model that wait or are in work, and the thread that works them off.
//!
//! The thread takes the windows of several utterances as a batch: the most urgent first, and with it those
//! whose windows and prompts have the same lengths. For each step of a batch it takes a turn on the device,
//! so that other models come in between. Utterances join and leave between windows; those that nobody waits
//! for leave between steps.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use switchboard_mesh::{Call, Class, Deadline};
use tokio::{sync::oneshot, time::Instant};

use super::{
    utterance::{Transcript, Utterance},
    worker::{MOST_ROWS, Worker},
};
use crate::{
    error::Error,
    metrics,
    scheduler::{HOPEFUL, patience},
    statistics::Parts,
};

/// Windows that may wait or be in work: half an hour of sound, whose spectrograms take 60 MB.
pub(super) const MOST_WINDOWS: usize = 64;
/// The least and the most that a caller is told to wait.
const RETRY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// A transcript, and where the time went since the utterance came here.
type Reply = Result<(Transcript, Parts), Error>;

/// An utterance that waits or is in work.
pub(super) struct Job {
    pub(super) utterance: Utterance,
    pub(super) class: Class,
    deadline: Deadline,
    /// When it should be begun: as in the scheduler, the patience of its class, so that nobody starves.
    pub(super) due: Instant,
    pub(super) arrived: Instant,
    pub(super) began: Option<Instant>,
    pub(super) span: tracing::Span,
    reply: oneshot::Sender<Reply>,
}

impl Job {
    /// What is left of its time; `None` when nobody waits for it any more.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let left = self.deadline.left();
        (!self.reply.is_closed() && !left.is_zero()).then_some(left)
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Windows of all that was admitted and is not answered.
    held: usize,
    /// How long a window takes; zero while it is not known.
    window: Duration,
    closed: bool,
}

struct Shared {
    name: Arc<str>,
    state: Mutex<State>,
    work: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.work.notify_all();
    }
}

/// Sees to it that nobody waits for a thread that has ended, however it did.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The way to the thread. It ends with it.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

/// Room for the windows of an utterance; given back when it is dropped.
pub(super) struct Places {
    shared: Arc<Shared>,
    windows: usize,
}

impl Queue {
    /// Starts the thread. `window` is how long a window takes, as far as is known.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(worker: Worker, window: Duration) -> io::Result<Self> {
        let state = Mutex::new(State { window, ..State::default() });
        let shared = Arc::new(Shared { name: Arc::clone(&worker.name), state, work: Condvar::new() });
        let queue = Self { shared: Arc::clone(&shared) };
        thread::Builder::new().name("transcribe".into()).spawn(move || {
            let ended = Ended(shared);
            work(worker, &ended.0);
        })?;
        Ok(queue)
    }

    /// Takes places for so many windows, before anything is spent on them. A quarter is kept free of class
    /// batch.
    ///
    /// # Errors
    /// `Stopped` when the thread has ended, `Overloaded` when there are not enough, `Deadline` when they
    /// cannot be done in time, as far as that can be foreseen.
    pub(super) fn admit(&self, windows: usize, call: &Call) -> Result<Places, Error> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Error::Stopped);
        }
        let name = &self.shared.name;
        let kept = if call.class == Class::Batch { MOST_WINDOWS / 4 } else { 0 };
        // One alone may be longer than all places.
        if state.held > 0 && state.held + windows + kept > MOST_WINDOWS {
            metrics::refused(name, call.class, "overloaded", 1);
            let retry_after = (state.window * (state.held as u32 / 2)).clamp(RETRY[0], RETRY[1]);
            return Err(Error::Overloaded { retry_after });
        }
        if call.deadline.left() < state.window.mul_f64(windows as f64 * HOPEFUL) {
            // A window may have been slow for once: what is believed of it does not stay for good.
            state.window = state.window.mul_f64(0.9);
            metrics::refused(name, call.class, "deadline", 1);
            return Err(Error::Deadline);
        }
        state.held += windows;
        Ok(Places { shared: Arc::clone(&self.shared), windows })
    }

    /// Transcribes an utterance. Dropping the future takes it out, at the latest after the next step.
    ///
    /// # Errors
    /// What became of it instead.
    pub(super) async fn transcribe(&self, places: Places, utterance: Utterance, call: &Call) -> Reply {
        let (reply, receiver) = oneshot::channel();
        let arrived = Instant::now();
        let job = Job {
            utterance,
            class: call.class,
            deadline: call.deadline,
            due: call.deadline.instant().min(arrived + patience(call.class)),
            arrived,
            began: None,
            span: tracing::Span::current(),
            reply,
        };
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(Error::Stopped);
            }
            state.waiting.push_back(job);
        }
        self.shared.work.notify_one();
        let answer = call.deadline.limit(receiver).await;
        drop(places);
        match answer {
            Some(Ok(reply)) => reply,
            Some(Err(_)) => Err(Error::Stopped),
            None => Err(Error::Deadline),
        }
    }

    /// How long what was admitted and is not answered takes, about: the thread holds most of it.
    pub(super) fn backlog(&self) -> Duration {
        let state = self.shared.lock();
        state.window * state.held as u32
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.held = state.held.saturating_sub(self.windows);
    }
}

/// Works until the queue is dropped, or the device.
fn work(mut worker: Worker, shared: &Shared) {
    let mut active: Vec<Job> = Vec::new();
    loop {
        {
            let mut state = shared.lock();
            while active.is_empty() && state.waiting.is_empty() && !state.closed {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            active.extend(state.waiting.drain(..));
        }
        active = active.into_iter().filter_map(|job| leave_or_stay(job, &worker.name)).collect();
        active.sort_by_key(|job| job.due);
        let Some(lead) = active.first() else { continue };
        let key = Worker::key(lead);
        let mut batch: Vec<Job> = Vec::with_capacity(MOST_ROWS);
        for job in std::mem::take(&mut active) {
            let fits = batch.len() < MOST_ROWS && Worker::key(&job) == key;
            if fits { batch.push(job) } else { active.push(job) }
        }
        let began = Instant::now();
        let count = batch.len();
        match worker.windows(&mut batch) {
            Ok(()) => shared.lock().window = began.elapsed() / count as u32,
            // The device is gone, and what waits for it with it.
            Err(Error::Stopped) => return,
            Err(error) if batch.len() == 1 => {
                if let Some(job) = batch.pop() {
                    let _ = job.reply.send(Err(error));
                }
            }
            Err(error) => {
                // The fault may be in one of them, and the others have no part in it.
                tracing::warn!(model = %worker.name, error = %error, "a batch failed; its windows are tried alone");
                for mut job in std::mem::take(&mut batch) {
                    match worker.windows(std::slice::from_mut(&mut job)) {
                        Ok(()) => batch.push(job),
                        Err(error) => drop(job.reply.send(Err(error))),
                    }
                }
            }
        }
        active.append(&mut batch);
    }
}

/// Answers an utterance that is done or late; one that nobody waits for is left out.
fn leave_or_stay(job: Job, name: &str) -> Option<Job> {
    if job.reply.is_closed() {
        // Who waited to the end of the time has not gone.
        let late = job.deadline.left().is_zero();
        metrics::refused(name, job.class, if late { "deadline" } else { "gone" }, 1);
        return None;
    }
    if job.utterance.window().is_none() {
        let began = job.began.unwrap_or(job.arrived);
        let queue = began.duration_since(job.arrived);
        let parts = Parts { queue, infer: began.elapsed(), ..Parts::default() };
        let _ = job.reply.send(Ok((job.utterance.finish(), parts)));
        return None;
    }
    if job.deadline.left().is_zero() {
        metrics::refused(name, job.class, "deadline", 1);
        let _ = job.reply.send(Err(Error::Deadline));
        return None;
    }
    Some(job)
}
