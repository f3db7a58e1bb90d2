//! Whole sounds through a model: a thread that takes all that are there a step further at a time.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use switchboard_mesh::{Call, Class};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Detector, Engine, Event, MOST_STREAMS, Rate, Sensitivity, Speech, advance, speeches};
use crate::{
    backend::BackendError,
    error::Error,
    metrics,
    scheduler::{Turns, patience},
    statistics::{Parts, Statistics, Tally},
};

/// Sounds that may wait.
const MOST_WAITING: usize = 64;
/// When there should be room again: a minute of sound takes some 0.3 s.
const RETRY: Duration = Duration::from_millis(500);
/// Steps that are taken in one turn on the device, about 10 ms: others are not held up, and taking turns
/// costs nothing much.
pub(super) const STEPS: usize = 64;

/// What the thread works with.
pub(crate) struct Worker {
    pub(crate) name: Arc<str>,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) turns: Turns,
}

struct Job {
    detector: Detector,
    /// Samples of the sound.
    length: usize,
    class: Class,
    /// As in the scheduler.
    due: Instant,
    reply: oneshot::Sender<Result<Vec<Event>, Error>>,
}

/// A model that detects speech, ready to serve.
pub(crate) struct Listener {
    name: Arc<str>,
    only_16_khz: bool,
    jobs: mpsc::Sender<Job>,
    pub(crate) statistics: Statistics,
}

impl Listener {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(worker: Worker) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(MOST_WAITING);
        let (name, only_16_khz) = (Arc::clone(&worker.name), worker.engine.only_16_khz());
        thread::Builder::new().name("detect-speech".into()).spawn(move || work(worker, receiver))?;
        Ok(Self { name, only_16_khz, jobs, statistics: Statistics::default() })
    }

    /// The stretches of speech in a sound. Dropping the future takes it out, at the latest after the next
    /// turn.
    ///
    /// # Errors
    /// `Invalid` for a rate that the model does not know, `Overloaded` when too many wait, and what else
    /// became of it.
    pub(crate) async fn detect(
        &self,
        samples: &[f32],
        rate: Rate,
        sensitivity: Sensitivity,
        call: &Call,
    ) -> Result<Vec<Speech>, Error> {
        let tally = Tally::begin(&self.statistics);
        let result = self.answer(samples, rate, sensitivity, call).await;
        tally.ended(1, result)
    }

    async fn answer(
        &self,
        samples: &[f32],
        rate: Rate,
        sensitivity: Sensitivity,
        call: &Call,
    ) -> Result<(Vec<Speech>, Parts), Error> {
        if self.only_16_khz && rate != Rate::Wide {
            return Err(Error::invalid("sample_rate", format!("{}; this model takes 16000", rate.hertz())));
        }
        let overloaded = || {
            metrics::refused(&self.name, call.class, "overloaded", 1);
            Error::Overloaded { retry_after: RETRY }
        };
        // As in the scheduler, a quarter is kept free of class batch.
        if call.class == Class::Batch && self.jobs.capacity() <= MOST_WAITING / 4 {
            return Err(overloaded());
        }
        let began = Instant::now();
        let mut detector = Detector::new(rate, sensitivity);
        detector.push(samples);
        detector.fill_up();
        let (reply, receiver) = oneshot::channel();
        let job = Job {
            detector,
            length: samples.len(),
            class: call.class,
            due: call.deadline.instant().min(began + patience(call.class)),
            reply,
        };
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => overloaded(),
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        let events = match call.deadline.limit(receiver).await {
            Some(Ok(reply)) => reply?,
            Some(Err(_)) => return Err(Error::Stopped),
            None => return Err(Error::Deadline),
        };
        let parts = Parts { infer: began.elapsed(), ..Parts::default() };
        Ok((speeches(events, samples.len(), rate, sensitivity), parts))
    }
}

/// Works until nobody can ask any more, or the device is gone.
fn work(mut worker: Worker, mut receiver: mpsc::Receiver<Job>) {
    let mut active: Vec<Job> = Vec::new();
    loop {
        if active.is_empty() {
            match receiver.blocking_recv() {
                Some(job) => active.push(job),
                None => return,
            }
        }
        while active.len() < MOST_STREAMS
            && let Ok(job) = receiver.try_recv()
        {
            active.push(job);
        }
        active.retain(|job| !job.reply.is_closed());
        let class = active.iter().map(|job| job.class).max();
        let due = active.iter().map(|job| job.due).min();
        let (Some(class), Some(due)) = (class, due) else { continue };
        // What is left comes after what is due by now.
        let Ok(turn) = worker.turns.wait(class, due.max(Instant::now())) else { return };
        let stepping = || steps(worker.engine.as_mut(), &mut active);
        let result = catch_unwind(AssertUnwindSafe(stepping));
        metrics::computed(&worker.name, class, worker.turns.end(turn));
        let failed = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(BackendError::Failed("the backend panicked".into())),
        };
        for mut job in std::mem::take(&mut active) {
            match &failed {
                Some(error) => drop(job.reply.send(Err(Error::Backend(error.clone())))),
                None if job.detector.is_ready() => active.push(job),
                None => {
                    job.detector.end(job.length);
                    let _ = job.reply.send(Ok(job.detector.events().collect()));
                }
            }
        }
    }
}

fn steps(engine: &mut dyn Engine, active: &mut [Job]) -> Result<(), BackendError> {
    let mut streams: Vec<&mut Detector> = active.iter_mut().map(|job| &mut job.detector).collect();
    for _ in 0..STEPS {
        if !streams.iter().any(|stream| stream.is_ready()) {
            break;
        }
        advance(engine, &mut streams)?;
    }
    Ok(())
}
