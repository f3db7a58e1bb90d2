//! One thread for each model, and the queue in front of it.
//!
//! [`Queue::start`] gives a backend its thread. A request takes its places with [`Queue::admit`]
//! before anything is spent on it, and hands its rows over with [`Queue::submit`]. The thread takes
//! whatever waits and never waits for more, so batching costs an idle model nothing. A batch starts
//! with the most urgent request's shortest row and is filled with rows of about its length, out of
//! all requests, up to a number of tokens; a large request is spread over many batches. Nobody who waits
//! for an answer waits for rows of class batch in the same batch. Requests whose caller has gone or
//! whose deadline has passed are left out before each batch. When a batch of several requests fails,
//! each of them is tried alone, so that none fails for another's sake.

use std::{
    cmp::Reverse,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use switchboard_mesh::{Call, Class, Deadline};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tracing::Span;

use crate::{
    backend::{Backend, BackendError, Batch},
    error::Error,
    metrics,
};

/// Bounds on queue and batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Texts that may wait or be in work.
    pub(crate) queue: usize,
    /// Tokens of a batch, padding included; a longer row makes a batch of its own.
    pub(crate) batch_tokens: usize,
    /// The token that fills up a row.
    pub(crate) pad: u32,
}

/// The way to a model's thread, which ends when the last of these is gone.
pub(crate) struct Queue {
    // Needs no bound of its own: nothing gets in without places.
    jobs: mpsc::UnboundedSender<Job>,
    places: Arc<Semaphore>,
    capacity: usize,
}

/// Room in the queue for the texts of one request; given back when it is dropped.
pub(crate) struct Places(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// What becomes of a request: a vector for each row, in order.
pub(crate) type Reply = Result<Vec<Vec<f32>>, Error>;

impl Queue {
    /// Starts the thread that owns `backend`; `lost` is called should it end by a panic.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        name: &str,
        backend: Box<dyn Backend>,
        limits: Limits,
        lost: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::unbounded_channel();
        thread::Builder::new().name(format!("model-{name}")).spawn(move || {
            let _watch = Watch(Some(lost));
            work(receiver, backend, limits);
        })?;
        Ok(Self { jobs, places: Arc::new(Semaphore::new(limits.queue)), capacity: limits.queue })
    }

    /// Takes places for `texts` texts. A quarter of the queue is kept free of class batch, so that
    /// an ingest never shuts out those who wait for an answer.
    ///
    /// # Errors
    /// `Overloaded` when there are not enough.
    pub(crate) fn admit(&self, texts: usize, class: Class) -> Result<Places, Error> {
        let kept = if class == Class::Batch { self.capacity / 4 } else { 0 };
        let fits = self.places.available_permits() >= texts.saturating_add(kept);
        let wanted = u32::try_from(texts).unwrap_or(u32::MAX);
        match Arc::clone(&self.places).try_acquire_many_owned(wanted) {
            Ok(places) if fits => Ok(Places(places)),
            _ => {
                metrics::skipped(texts, "overloaded");
                Err(Error::Overloaded)
            }
        }
    }

    /// Hands `rows` of token ids to the model's thread. Dropping the receiver takes them out of the
    /// queue; a batch that has begun is finished without them mattering.
    pub(crate) fn submit(
        &self,
        places: Places,
        rows: Vec<Vec<u32>>,
        call: &Call,
    ) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        let vectors = vec![Vec::new(); rows.len()];
        let mut waiting: Vec<Row> =
            rows.into_iter().enumerate().map(|(index, ids)| Row { index, ids }).collect();
        waiting.sort_by_key(|row| row.ids.len());
        let (class, deadline) = (call.class, call.deadline);
        let arrived = Instant::now();
        let job = Job {
            left: waiting.len(),
            waiting,
            vectors,
            class,
            deadline,
            arrived,
            span: Span::current(),
            reply,
            places,
        };
        // When the thread has ended, the reply is dropped with the job, and that says so.
        let _ = self.jobs.send(job);
        receiver
    }
}

/// Calls what it holds when its thread ends by a panic.
struct Watch<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Watch<F> {
    fn drop(&mut self) {
        if let Some(lost) = self.0.take().filter(|_| thread::panicking()) {
            lost();
        }
    }
}

/// A request on its way through the model.
struct Job {
    /// Rows that are in no batch yet, the shortest first.
    waiting: Vec<Row>,
    /// Results, at the rows' places in the request.
    vectors: Vec<Vec<f32>>,
    /// Rows without a result.
    left: usize,
    class: Class,
    deadline: Deadline,
    arrived: Instant,
    span: Span,
    reply: oneshot::Sender<Reply>,
    places: Places,
}

impl Job {
    /// Gives the places back, then answers: who asks again on an answer finds them free. Returns
    /// whether anybody was there to hear it.
    fn answer(self, reply: impl FnOnce(Vec<Vec<f32>>) -> Reply) -> bool {
        drop(self.places);
        self.reply.send(reply(self.vectors)).is_ok()
    }
}

/// A row of token ids and its place in its request.
struct Row {
    index: usize,
    ids: Vec<u32>,
}

/// A row in a batch, and the place of its job among the jobs.
struct Picked {
    job: usize,
    row: Row,
}

fn work(mut receiver: mpsc::UnboundedReceiver<Job>, mut backend: Box<dyn Backend>, limits: Limits) {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        if jobs.is_empty() {
            match receiver.blocking_recv() {
                Some(job) => jobs.push(job),
                None => return,
            }
        }
        while let Ok(job) = receiver.try_recv() {
            jobs.push(job);
        }
        skip(&mut jobs);
        // Stable: within a class, who came first goes first.
        jobs.sort_by_key(|job| Reverse(job.class));
        let picked = pick(&mut jobs, limits.batch_tokens);
        if !picked.is_empty() {
            run(&mut jobs, picked, backend.as_mut(), limits.pad);
        }
        finish(&mut jobs);
    }
}

/// Leaves out requests that nobody waits for any more.
fn skip(jobs: &mut Vec<Job>) {
    for job in jobs.extract_if(.., |job| job.reply.is_closed() || job.deadline.expired()) {
        if job.reply.is_closed() {
            metrics::skipped(job.waiting.len(), "gone");
        } else {
            metrics::skipped(job.waiting.len(), "deadline");
            job.answer(|_| Err(Error::Deadline));
        }
    }
}

/// Takes the next batch out of `jobs`, which are in order of urgency.
fn pick(jobs: &mut [Job], batch_tokens: usize) -> Vec<Picked> {
    let mut picked: Vec<Picked> = Vec::new();
    let (mut shortest, mut longest) = (usize::MAX, 0);
    let head = jobs.first().map(|job| job.class);
    for (job, entry) in jobs.iter_mut().enumerate() {
        // A batch that these rows fill takes several times as long as the urgent ones alone.
        if entry.class == Class::Batch && head != Some(Class::Batch) && !picked.is_empty() {
            break;
        }
        let mut kept = Vec::new();
        for row in entry.waiting.drain(..) {
            let length = row.ids.len();
            let (low, high) = (shortest.min(length), longest.max(length));
            if picked.is_empty() || (alike(low, high) && (picked.len() + 1) * high <= batch_tokens) {
                (shortest, longest) = (low, high);
                picked.push(Picked { job, row });
            } else {
                kept.push(row);
            }
        }
        entry.waiting = kept;
        if picked.len().saturating_add(1) * longest > batch_tokens {
            break;
        }
    }
    picked
}

/// Whether rows of these lengths may share a batch: no more than half of a row is padding, or so
/// few tokens that it does not matter.
fn alike(shortest: usize, longest: usize) -> bool {
    longest <= shortest.saturating_mul(2) || longest - shortest <= 8
}

/// Answers the requests that have all their vectors.
fn finish(jobs: &mut Vec<Job>) {
    for job in jobs.extract_if(.., |job| job.left == 0) {
        let texts = job.vectors.len();
        if !job.answer(Ok) {
            metrics::WASTED.add(texts as u64, &[]);
        }
    }
}

/// Computes a batch. When it fails, each request in it is tried alone: the fault may be in the rows
/// of one, and the others, of other tenants perhaps, have no part in it.
fn run(jobs: &mut Vec<Job>, picked: Vec<Picked>, backend: &mut dyn Backend, pad: u32) {
    let now = Instant::now();
    for job in jobs.iter().filter(|job| job.left == job.vectors.len() && job.waiting.len() < job.left) {
        metrics::QUEUED.record(now.duration_since(job.arrived).as_secs_f64(), &[]);
    }
    let mut failed: Vec<(usize, BackendError)> = Vec::new();
    match compute(jobs, &picked, backend, pad) {
        Ok(vectors) => store(jobs, picked, vectors),
        Err(error) => {
            let parts = by_job(picked);
            let alone = parts.len() == 1;
            for part in parts {
                let job = part[0].job;
                let result = if alone { Err(error.clone()) } else { compute(jobs, &part, backend, pad) };
                match result {
                    Ok(vectors) => store(jobs, part, vectors),
                    Err(error) => failed.push((job, error)),
                }
            }
        }
    }
    // From the back, so that the places of the rest stay what they are.
    for (job, error) in failed.into_iter().rev() {
        jobs.remove(job).answer(|_| Err(Error::Backend(error)));
    }
}

/// Runs `picked` through the backend as one batch. A panic in there is a failure of this batch.
fn compute(
    jobs: &[Job],
    picked: &[Picked],
    backend: &mut dyn Backend,
    pad: u32,
) -> Result<Vec<Vec<f32>>, BackendError> {
    let batch = Batch::new(picked.iter().map(|picked| picked.row.ids.as_slice()), pad);
    let mut last = picked[0].job;
    let parent = &jobs[last].span;
    let span = tracing::info_span!(parent: parent, "embed_batch", rows = batch.rows, length = batch.length);
    for &Picked { job, .. } in picked {
        if job != last {
            span.follows_from(&jobs[job].span);
            last = job;
        }
    }
    metrics::BATCH_TEXTS.record(batch.rows as u64, &[]);
    metrics::BATCH_TOKENS.record(batch.ids.len() as u64, &[]);
    let started = Instant::now();
    let result = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| backend.embed(&batch))));
    metrics::COMPUTE.record(started.elapsed().as_secs_f64(), &[]);
    result
        .unwrap_or_else(|_| Err(BackendError("the backend panicked".into())))
        .and_then(|vectors| fits(vectors, batch.rows))
}

/// Gives each row's vector to its request.
fn store(jobs: &mut [Job], picked: Vec<Picked>, vectors: Vec<Vec<f32>>) {
    for (Picked { job, row }, vector) in picked.into_iter().zip(vectors) {
        jobs[job].vectors[row.index] = vector;
        jobs[job].left -= 1;
    }
}

/// Splits a batch into the parts of its jobs, which stand one after the other in it.
fn by_job(picked: Vec<Picked>) -> Vec<Vec<Picked>> {
    let mut parts: Vec<Vec<Picked>> = Vec::new();
    for one in picked {
        match parts.last_mut() {
            Some(part) if part[0].job == one.job => part.push(one),
            _ => parts.push(vec![one]),
        }
    }
    parts
}

/// A vector too few would leave its request waiting for good.
fn fits(vectors: Vec<Vec<f32>>, rows: usize) -> Result<Vec<Vec<f32>>, BackendError> {
    if vectors.len() == rows {
        Ok(vectors)
    } else {
        Err(BackendError(format!("{} vectors for {rows} rows", vectors.len())))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc as sync, time::Duration};

    use proptest::prelude::*;
    use switchboard_mesh::testing::call;

    use super::*;

    /// Says which rows it got, waits to be let go, and answers each row with its first token.
    struct Gated {
        seen: sync::Sender<Vec<i64>>,
        go: sync::Receiver<()>,
    }

    impl Backend for Gated {
        fn embed(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>, BackendError> {
            let first: Vec<i64> = batch.ids.chunks(batch.length).map(|row| row[0]).collect();
            let _ = self.seen.send(first.clone());
            let _ = self.go.recv();
            assert!(!first.contains(&555), "a defect of the engine");
            if first.contains(&777) {
                return Ok(Vec::new());
            }
            if first.contains(&666) {
                return Err(BackendError("broken".into()));
            }
            Ok(first.iter().map(|&id| vec![id as f32]).collect())
        }
    }

    struct Rig {
        queue: Queue,
        seen: sync::Receiver<Vec<i64>>,
        go: sync::Sender<()>,
    }

    impl Rig {
        fn new(queue: usize, batch_tokens: usize) -> Self {
            let ((seen_tx, seen), (go, go_rx)) = (sync::channel(), sync::channel());
            let backend = Box::new(Gated { seen: seen_tx, go: go_rx });
            let queue = Queue::start("test", backend, Limits { queue, batch_tokens, pad: 0 }, || {}).unwrap();
            Self { queue, seen, go }
        }

        fn submit(&self, rows: &[&[u32]], call: &Call) -> oneshot::Receiver<Reply> {
            let places = self.queue.admit(rows.len(), call.class).unwrap();
            self.queue.submit(places, rows.iter().map(|row| row.to_vec()).collect(), call)
        }

        /// The batch that the model works on next.
        fn next(&self) -> Vec<i64> {
            self.seen.recv_timeout(Duration::from_secs(10)).expect("a batch")
        }

        fn go(&self) {
            self.go.send(()).unwrap();
        }
    }

    fn answered(reply: oneshot::Receiver<Reply>) -> Vec<Vec<f32>> {
        reply.blocking_recv().expect("an answer").expect("vectors")
    }

    #[test]
    fn an_idle_model_starts_with_what_is_there() {
        let rig = Rig::new(16, 64);
        let reply = rig.submit(&[&[1, 1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        rig.go();
        assert_eq!(answered(reply), [[1.0]]);
    }

    #[test]
    fn what_waits_is_put_together() {
        let rig = Rig::new(16, 64);
        let first = rig.submit(&[&[1, 1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        let second = rig.submit(&[&[2, 2]], &call("t"));
        let third = rig.submit(&[&[3, 3], &[4]], &call("t"));
        rig.go();
        rig.go();
        assert_eq!(rig.next(), [2, 4, 3]);
        assert_eq!(answered(first), [[1.0]]);
        assert_eq!(answered(second), [[2.0]]);
        assert_eq!(answered(third), [[3.0], [4.0]]);
    }

    #[test]
    fn a_request_whose_caller_left_is_skipped() {
        let rig = Rig::new(4, 64);
        let first = rig.submit(&[&[1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        drop(rig.submit(&[&[2], &[2]], &call("t")));
        let third = rig.submit(&[&[3]], &call("t"));
        rig.go();
        assert_eq!(rig.next(), [3]);
        rig.go();
        answered(first);
        answered(third);
        // Its places are free again.
        let fourth = rig.submit(&[&[4], &[4], &[4], &[4]], &call("t"));
        assert_eq!(rig.next(), [4, 4, 4, 4]);
        rig.go();
        answered(fourth);
    }

    #[test]
    fn a_large_request_whose_caller_leaves_is_not_finished() {
        let rig = Rig::new(16, 1);
        let first = rig.submit(&[&[1], &[2], &[3]], &call("t"));
        assert_eq!(rig.next(), [1]);
        drop(first);
        let second = rig.submit(&[&[9]], &call("t"));
        rig.go();
        assert_eq!(rig.next(), [9]);
        rig.go();
        answered(second);
    }

    #[test]
    fn a_request_past_its_deadline_is_skipped() {
        let rig = Rig::new(16, 64);
        let late = call("t").until(Deadline::after(Duration::ZERO));
        let reply = rig.submit(&[&[1]], &late);
        assert!(matches!(reply.blocking_recv().unwrap(), Err(Error::Deadline)));
        let second = rig.submit(&[&[2]], &call("t"));
        assert_eq!(rig.next(), [2]);
        rig.go();
        answered(second);
    }

    #[test]
    fn a_full_queue_refuses_and_class_batch_first() {
        let rig = Rig::new(4, 64);
        let first = rig.submit(&[&[1], &[1]], &call("t"));
        rig.next();
        let batch = call("t").with_class(Class::Batch);
        assert!(matches!(rig.queue.admit(2, batch.class), Err(Error::Overloaded)));
        let second = rig.submit(&[&[2], &[2]], &call("t"));
        assert!(matches!(rig.queue.admit(1, Class::Voice), Err(Error::Overloaded)));
        rig.go();
        rig.go();
        answered(first);
        answered(second);
        assert!(rig.queue.admit(3, Class::Batch).is_ok());
    }

    #[test]
    fn voice_goes_before_chat_before_batch() {
        let rig = Rig::new(16, 1);
        let classes = [Class::Chat, Class::Batch, Class::Chat, Class::Voice];
        let replies: Vec<_> = (1..)
            .zip(classes)
            .map(|(id, class)| {
                let reply = rig.submit(&[&[id]], &call("t").with_class(class));
                if id == 1 {
                    assert_eq!(rig.next(), [1]);
                }
                reply
            })
            .collect();
        for _ in classes {
            rig.go();
        }
        replies.into_iter().for_each(|reply| drop(answered(reply)));
        assert_eq!([rig.next(), rig.next(), rig.next()], [[4], [3], [2]]);
    }

    #[test]
    fn rows_of_class_batch_never_lengthen_an_urgent_batch() {
        let rig = Rig::new(16, 64);
        let first = rig.submit(&[&[1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        let ingest = rig.submit(&[&[2], &[3]], &call("t").with_class(Class::Batch));
        let voice = rig.submit(&[&[4]], &call("t").with_class(Class::Voice));
        let chat = rig.submit(&[&[5]], &call("t"));
        for _ in 0..3 {
            rig.go();
        }
        assert_eq!(rig.next(), [4, 5]);
        assert_eq!(rig.next(), [2, 3]);
        for reply in [first, ingest, voice, chat] {
            answered(reply);
        }
    }

    #[test]
    fn a_request_that_breaks_a_batch_fails_alone() {
        let rig = Rig::new(16, 64);
        let first = rig.submit(&[&[1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        let before = rig.submit(&[&[5], &[6]], &call("t"));
        let bad = rig.submit(&[&[666]], &call("t"));
        let after = rig.submit(&[&[7]], &call("t"));
        for _ in 0..5 {
            rig.go();
        }
        assert_eq!(rig.next(), [5, 6, 666, 7]);
        answered(first);
        assert!(matches!(bad.blocking_recv().unwrap(), Err(Error::Backend(_))));
        assert_eq!(answered(before), [[5.0], [6.0]]);
        assert_eq!(answered(after), [[7.0]]);
    }

    #[test]
    fn a_panic_in_the_backend_fails_its_request_and_the_thread_lives_on() {
        let rig = Rig::new(16, 64);
        let bad = rig.submit(&[&[555]], &call("t"));
        rig.go();
        assert!(matches!(bad.blocking_recv().unwrap(), Err(Error::Backend(_))));
        let good = rig.submit(&[&[5]], &call("t"));
        rig.go();
        assert_eq!(answered(good), [[5.0]]);
    }

    #[test]
    fn the_loss_of_the_thread_is_told() {
        /// Its panic is outside of what is caught: it comes with the thread's end.
        struct Last;
        impl Backend for Last {
            fn embed(&mut self, _: &Batch) -> Result<Vec<Vec<f32>>, BackendError> {
                unreachable!("nothing is asked of it")
            }
        }
        impl Drop for Last {
            fn drop(&mut self) {
                panic!("a defect outside of a batch");
            }
        }
        let (tell, told) = sync::channel();
        let limits = Limits { queue: 1, batch_tokens: 1, pad: 0 };
        let queue = Queue::start("test", Box::new(Last), limits, move || tell.send(()).unwrap()).unwrap();
        drop(queue);
        told.recv_timeout(Duration::from_secs(10)).expect("to be told");
    }

    #[test]
    fn a_failed_batch_fails_its_requests_and_no_others() {
        let rig = Rig::new(16, 2);
        let first = rig.submit(&[&[1]], &call("t"));
        assert_eq!(rig.next(), [1]);
        let bad = rig.submit(&[&[666], &[7]], &call("t"));
        let short = rig.submit(&[&[777], &[7]], &call("t"));
        let good = rig.submit(&[&[5]], &call("t"));
        for _ in 0..4 {
            rig.go();
        }
        answered(first);
        assert!(matches!(bad.blocking_recv().unwrap(), Err(Error::Backend(_))));
        assert!(matches!(short.blocking_recv().unwrap(), Err(Error::Backend(_))));
        assert_eq!(answered(good), [[5.0]]);
    }

    proptest! {
        #[test]
        fn batches_hold_every_row_once_within_their_tokens(
            requests in prop::collection::vec(prop::collection::vec(1_usize..40, 1..12), 1..8),
            batch_tokens in 40_usize..160,
        ) {
            let rig = Rig::new(1024, batch_tokens);
            let all: usize = requests.iter().map(Vec::len).sum();
            let mut id = 0;
            let replies: Vec<_> = requests
                .iter()
                .map(|lengths| {
                    let rows = lengths.iter().zip(id + 1..).map(|(&length, id)| vec![id; length]);
                    let rows: Vec<Vec<u32>> = rows.collect();
                    id += lengths.len() as u32;
                    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                    rig.submit(&rows, &call("t"))
                })
                .collect();
            (0..all).for_each(|_| rig.go());
            let mut expected = 0;
            for (reply, lengths) in replies.into_iter().zip(&requests) {
                let vectors = answered(reply);
                prop_assert_eq!(vectors.len(), lengths.len());
                for vector in vectors {
                    expected += 1;
                    prop_assert_eq!(vector, vec![expected as f32]);
                }
            }
            let lengths: Vec<usize> = requests.concat();
            let mut seen = Vec::new();
            for batch in rig.seen.try_iter() {
                let rows = batch.iter().map(|&id| lengths[id as usize - 1]);
                let (low, high) = (rows.clone().min().unwrap(), rows.max().unwrap());
                prop_assert!(batch.len() * high <= batch_tokens && alike(low, high));
                seen.extend(batch);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (1..=all as i64).collect::<Vec<_>>());
        }
    }
}
