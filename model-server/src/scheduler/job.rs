//! A request on its way through a queue.

use std::{cmp::Reverse, time::Duration};

use switchboard_mesh::{Call, Class, Deadline};
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use super::{Places, jobs::Load, lane::Lane};
use crate::{backend::Row, error::Error};

/// How long a request of each class may wait before it counts as due, whatever its deadline: among
/// requests of one class, whoever came earlier goes first unless another one is in a hurry.
pub(crate) fn patience(class: Class) -> Duration {
    match class {
        Class::Voice => Duration::from_millis(100),
        Class::Chat => Duration::from_millis(500),
        Class::Batch => Duration::from_secs(30),
    }
}

/// What was made of a request.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Each row's numbers, in order.
    pub(crate) rows: Vec<Vec<f32>>,
    /// From the request's arrival to its first batch.
    pub(crate) queue: Duration,
    /// From there until the last one was done.
    pub(crate) inference: Duration,
}

pub(super) type Reply = Result<Done, Error>;

/// A request that waits, or is in work.
pub(super) struct Job {
    /// Rows that are in no batch yet, with their places in the request; the longest first, so that the
    /// next one to take is at the end.
    pub(super) waiting: Vec<(usize, Row)>,
    /// What they are together.
    pub(super) load: Load,
    /// Numbers, at the rows' places in the request.
    results: Vec<Vec<f32>>,
    /// Rows without numbers.
    left: usize,
    pub(super) class: Class,
    pub(super) deadline: Deadline,
    /// When it should be begun.
    pub(super) due: Instant,
    arrived: Instant,
    began: Option<Instant>,
    pub(super) span: Span,
    reply: oneshot::Sender<Reply>,
}

impl Job {
    pub(super) fn new(rows: Vec<Row>, call: &Call, lane: &Lane) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, receiver) = oneshot::channel();
        let arrived = Instant::now();
        let load = Load::of(&rows);
        let due = lane.latest(call.deadline, load).min(arrived + patience(call.class));
        let results = vec![Vec::new(); rows.len()];
        let mut waiting: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
        waiting.sort_by_key(|(index, row)| Reverse((row.ids.len(), *index)));
        let job = Self {
            left: waiting.len(),
            waiting,
            load,
            results,
            class: call.class,
            deadline: call.deadline,
            due,
            arrived,
            began: None,
            span: Span::current(),
            reply,
        };
        (job, receiver)
    }

    /// Notes that its first batch begins; returns how long it waited, the first time.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.began.is_some() {
            return None;
        }
        self.began = Some(now);
        Some(now.duration_since(self.arrived))
    }

    /// Keeps the numbers of a row; whether they were the last.
    pub(super) fn keep(&mut self, index: usize, numbers: Vec<f32>) -> bool {
        self.results[index] = numbers;
        self.left -= 1;
        self.left == 0
    }

    /// Answers it. Returns whether anybody was there to hear it.
    pub(super) fn answer(self, error: Option<Error>) -> bool {
        let reply = match error {
            Some(error) => Err(error),
            None => {
                let began = self.began.unwrap_or(self.arrived);
                let queue = began.duration_since(self.arrived);
                Ok(Done { rows: self.results, queue, inference: began.elapsed() })
            }
        };
        self.reply.send(reply).is_ok()
    }
}

/// A request's claim on its answer. Dropping it takes the request out of the queue.
pub(crate) struct Ticket {
    receiver: oneshot::Receiver<Reply>,
    places: Places,
    class: usize,
    id: u64,
    deadline: Deadline,
    /// Why it is dropped, if it is.
    reason: &'static str,
}

impl Ticket {
    pub(super) fn new(
        receiver: oneshot::Receiver<Reply>,
        places: Places,
        class: usize,
        id: u64,
        call: &Call,
    ) -> Self {
        Self { receiver, places, class, id, deadline: call.deadline, reason: "gone" }
    }

    /// Waits for the answer, until the deadline.
    ///
    /// # Errors
    /// What became of it instead.
    pub(crate) async fn answer(mut self) -> Result<Done, Error> {
        match self.deadline.limit(&mut self.receiver).await {
            Some(Ok(reply)) => reply,
            Some(Err(_)) => Err(Error::Stopped),
            None => {
                self.reason = "deadline";
                Err(Error::Deadline)
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.places.withdraw(self.class, self.id, self.reason);
    }
}
