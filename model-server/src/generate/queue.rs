//! Who waits for a slot, and the way in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_mesh::{Call, Class};
use tokio::time::Instant;

use super::{
    decoder::Shape,
    pace::Pace,
    sequence::{Chunks, Sequence, Writer},
};
use crate::{error::Error, metrics, scheduler::HOPEFUL};

/// How long a prompt of each class may wait before it goes ahead of more urgent ones.
fn patience(class: Class) -> Duration {
    match class {
        Class::Voice => Duration::ZERO,
        Class::Chat => Duration::from_secs(2),
        Class::Batch => Duration::from_secs(20),
    }
}

/// The least and the most that a caller is told to wait.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// What waits, and what is known of the rest.
pub(super) struct Waiting {
    /// By when each is due, then by number: who goes first comes first.
    queue: BTreeMap<(Instant, u64), Sequence>,
    /// Tokens of what waits that are still to be read.
    unread: usize,
    /// Sequences that wait or have a slot.
    pub(super) held: usize,
    /// Tokens that those with a slot may still write.
    pub(super) unwritten: usize,
    /// Sequences with a slot.
    pub(super) running: usize,
    /// The least urgent class that has a slot and may lose it.
    pub(super) displaceable: Option<Class>,
    pub(super) pace: Pace,
    next: u64,
    closed: bool,
}

impl Waiting {
    fn insert(&mut self, sequence: Sequence) {
        self.unread += sequence.tokens.len();
        let due = sequence.arrived + patience(sequence.class);
        self.next += 1;
        self.queue.insert((due, self.next), sequence);
    }

    /// Puts one that lost its slot back.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        self.insert(sequence);
    }

    /// The class of the one that goes next.
    pub(super) fn lead(&self) -> Option<Class> {
        self.queue.first_key_value().map(|(_, sequence)| sequence.class)
    }

    /// When the first of them came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.queue.values().map(|sequence| sequence.arrived).min()
    }

    /// The most urgent class that waits.
    pub(super) fn class(&self) -> Option<Class> {
        self.queue.values().map(|sequence| sequence.class).max()
    }

    /// Takes out the first of a class.
    pub(super) fn pop(&mut self, class: Class) -> Option<Sequence> {
        let (&key, _) = self.queue.iter().find(|(_, sequence)| sequence.class == class)?;
        let sequence = self.queue.remove(&key)?;
        self.unread -= sequence.tokens.len();
        Some(sequence)
    }

    /// Takes out those who are not waited for any more, or are late.
    pub(super) fn sweep(&mut self) -> Vec<Sequence> {
        let over = |sequence: &Sequence| sequence.is_gone() || sequence.deadline.left().is_zero();
        let keys: Vec<_> = self.queue.iter().filter(|(_, it)| over(it)).map(|(key, _)| *key).collect();
        let gone: Vec<Sequence> = keys.iter().filter_map(|key| self.queue.remove(key)).collect();
        self.unread -= gone.iter().map(|sequence| sequence.tokens.len()).sum::<usize>();
        gone
    }

    /// Makes all that waits have come so much earlier.
    #[cfg(test)]
    pub(super) fn age(&mut self, time: Duration) {
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|((due, id), sequence)| ((due - time, id), sequence)).collect();
    }

    /// Takes out all that waits.
    pub(super) fn drain(&mut self) -> Vec<Sequence> {
        self.unread = 0;
        std::mem::take(&mut self.queue).into_values().collect()
    }

    /// Seconds until a prompt of a class that comes now has its first token, as far as can be foreseen.
    fn until_first(&self, prompt: usize, class: Class, slots: usize) -> f64 {
        let own = self.pace.reading(prompt) + self.pace.writing(1);
        // Prompts of the more urgent are read first.
        let before = self.queue.values().filter(|sequence| sequence.class >= class);
        let before = self.pace.reading(before.map(|sequence| sequence.tokens.len()).sum());
        // When all slots are taken, somebody has to be done first: on the average half of what is left.
        let slot = match self.running < slots || self.displaceable.is_some_and(|least| least < class) {
            true => 0.0,
            false => {
                let left = self.unwritten as f64 / self.running.max(1) as f64 / 2.0;
                left * self.pace.writing(self.running)
            }
        };
        own + before + slot
    }
}

/// What the way in and the batcher share.
#[derive(Clone)]
pub(super) struct Inbox(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// Something came, or nothing will.
    news: Condvar,
}

impl Inbox {
    pub(super) fn new(pace: Pace) -> Self {
        let waiting = Waiting {
            queue: BTreeMap::new(),
            unread: 0,
            held: 0,
            unwritten: 0,
            running: 0,
            displaceable: None,
            pace,
            next: 0,
            closed: false,
        };
        Self(Arc::new(Shared { waiting: Mutex::new(waiting), news: Condvar::new() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something waits, unless something is `busy` anyhow. Whether it goes on.
    pub(super) fn wait(&self, busy: bool) -> bool {
        let mut waiting = self.lock();
        while !busy && waiting.queue.is_empty() && !waiting.closed {
            waiting = self.0.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        !waiting.closed
    }

    /// Takes nothing more.
    pub(super) fn close(&self) -> Vec<Sequence> {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.0.news.notify_all();
        waiting.drain()
    }
}

/// The way to a model that writes. It ends with it.
pub(crate) struct Queue {
    pub(super) name: Arc<str>,
    pub(super) inbox: Inbox,
    pub(super) shape: Shape,
    /// Sequences that may wait or be under way.
    pub(super) most: usize,
}

impl Queue {
    /// What the decoder can hold.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// How fast it is, and how long what is there will take.
    pub(crate) fn pace(&self) -> (Pace, Duration) {
        let waiting = self.inbox.lock();
        let rows = waiting.running.max(1);
        let left = waiting.unwritten as f64 / rows as f64 * waiting.pace.writing(rows);
        let backlog = waiting.pace.reading(waiting.unread) + left;
        (waiting.pace.clone(), Duration::try_from_secs_f64(backlog).unwrap_or_default())
    }

    /// Takes a place for a prompt, before anything is spent on it.
    ///
    /// # Errors
    /// `Overloaded` when too many wait, `Stopped` when the model has ended.
    pub(crate) fn admit(&self, call: &Call) -> Result<Place, Error> {
        let mut waiting = self.inbox.lock();
        if waiting.closed {
            return Err(Error::Stopped);
        }
        // Some places are kept free of class batch.
        let kept = if call.class == Class::Batch { self.most / 4 } else { 0 };
        if waiting.held + kept >= self.most {
            metrics::refused(&self.name, call.class, "overloaded", 1);
            let first = waiting.until_first(0, call.class, self.shape.slots);
            let retry_after = Duration::try_from_secs_f64(first).unwrap_or(RETRY[1]);
            return Err(Error::Overloaded { retry_after: retry_after.clamp(RETRY[0], RETRY[1]) });
        }
        waiting.held += 1;
        Ok(Place(self.inbox.clone()))
    }

    /// Has a prompt continued by at most `most` tokens, which fit behind it. Dropping what it returns ends
    /// that before the next step.
    ///
    /// # Errors
    /// `Deadline` when the first token cannot come in time as far as can be foreseen, `Stopped` when the model has
    /// ended.
    pub(crate) fn submit(
        &self,
        place: Place,
        prompt: Vec<u32>,
        most: usize,
        writer: Box<dyn Writer>,
        call: &Call,
    ) -> Result<Chunks, Error> {
        let mut waiting = self.inbox.lock();
        if waiting.closed {
            return Err(Error::Stopped);
        }
        let left = call.deadline.left().as_secs_f64();
        if left <= 0.0 || left < HOPEFUL * waiting.until_first(prompt.len(), call.class, self.shape.slots) {
            metrics::refused(&self.name, call.class, "deadline", 1);
            return Err(Error::Deadline);
        }
        let (sequence, chunks) = Sequence::new(place, prompt, most, writer, call);
        waiting.insert(sequence);
        drop(waiting);
        self.inbox.0.news.notify_one();
        Ok(chunks)
    }
}

/// A place in the queue; given back when it is dropped, which must not be under the queue's lock.
pub(crate) struct Place(Inbox);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        for sequence in self.inbox.close() {
            sequence.end(Error::Stopped);
        }
    }
}
