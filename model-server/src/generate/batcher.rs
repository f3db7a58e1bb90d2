//! Continuous batching: sequences join and leave between steps.
//!
//! A step either writes a token in every row that has read its prompt, or reads a part of one prompt; where
//! there is both to do they take turns, so that who writes is never held up for longer than one part. A
//! sequence keeps its tokens, so it can lose its slot to somebody more urgent and read them again later.
//!
//! The thread that does this takes a turn on the device for each step, so that other models come in between.
//!
//! # Source
//! Yu et al. 2022, Orca (iteration-level scheduling); Agrawal et al. 2023, Sarathi (chunked prefills).

use std::{
    cmp::Reverse,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use switchboard_mesh::Class;
use tokio::time::Instant;

use super::{
    decoder::{Decoder, Feed, Shape},
    pace::Pace,
    queue::{Inbox, Queue},
    sequence::Sequence,
};
use crate::{
    backend::BackendError,
    error::Error,
    metrics::{self, generation},
    scheduler::{Turns, patience},
};

/// Most tokens of a prompt that are read in a step while others write.
const PART: usize = 64;
/// The least, however slow the model.
const SMALLEST_PART: usize = 8;
/// Most tokens of a prompt that are read in a step while nobody writes.
const LARGEST_PART: usize = 512;
/// Logits of a part, but for the smallest one: 128 MB.
const MOST_LOGITS: usize = 32 << 20;
/// How long a part should take at most.
const LONGEST_PART: Duration = Duration::from_millis(50);
/// How often a sequence may lose its slot.
const MOST_DISPLACED: u32 = 2;
/// What is told a caller whose text alone needs more memory than there is.
const MEMORY_AGAIN: Duration = Duration::from_secs(1);

/// A sequence in a slot.
struct Row {
    sequence: Sequence,
    /// Tokens that the slot holds.
    fed: usize,
}

impl Row {
    /// Tokens that the slot does not hold yet.
    fn unread(&self) -> usize {
        self.sequence.tokens.len() - self.fed
    }

    fn writes(&self) -> bool {
        self.unread() == 1
    }
}

/// All that a model writes at the moment.
pub(crate) struct Batcher {
    name: Arc<str>,
    decoder: Box<dyn Decoder>,
    shape: Shape,
    inbox: Inbox,
    /// By slot.
    rows: Vec<Option<Row>>,
    /// Whether the last step read a part of a prompt.
    has_read: bool,
    /// The slot after the one that wrote last, for decoders that run row by row.
    turn: usize,
    /// Since when the next step is due.
    since: Instant,
}

impl Batcher {
    /// Puts a decoder to work, on a thread that takes `turns`; at most `most` sequences wait or are under way.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        name: Arc<str>,
        decoder: Box<dyn Decoder>,
        pace: Pace,
        most: usize,
        turns: Turns,
    ) -> io::Result<Queue> {
        let (shape, inbox) = (decoder.shape(), Inbox::new(pace));
        let rows = std::iter::repeat_with(|| None).take(shape.slots).collect();
        let batcher = Self {
            name: Arc::clone(&name),
            decoder,
            shape,
            inbox: inbox.clone(),
            rows,
            has_read: false,
            turn: 0,
            since: Instant::now(),
        };
        thread::Builder::new().name("generate".into()).spawn(move || work(batcher, &turns))?;
        Ok(Queue { name, inbox, shape, most })
    }

    /// The most urgent class that has a part in the next step, and since when that is due; `None` when there
    /// is nothing to do.
    fn next(&self) -> Option<(Class, Instant)> {
        let running = self.under_way().map(|(_, row)| row.sequence.class).max();
        let waiting = self.inbox.lock();
        let class = running.max(waiting.class())?;
        let since = match running {
            Some(_) => self.since,
            None => waiting.since().unwrap_or(self.since),
        };
        Some((class, since))
    }

    fn step(&mut self) {
        self.sweep();
        self.admit();
        let (to_read, to_write) = (self.to_read(), self.to_write());
        match to_read {
            Some((slot, tokens)) if to_write.is_empty() || !self.has_read => {
                self.read(slot, tokens);
                self.has_read = true;
            }
            _ => {
                if !to_write.is_empty() {
                    self.write(&to_write);
                }
                self.has_read = false;
            }
        }
        self.report();
        self.since = Instant::now();
    }

    /// Ends all that waits or is under way, and takes nothing more.
    fn give_up(&mut self) {
        let waiting = self.inbox.close();
        let running: Vec<usize> = self.under_way().map(|(slot, _)| slot).collect();
        running.into_iter().for_each(|slot| self.end(slot, Some(Error::Stopped)));
        for sequence in waiting {
            sequence.end(Error::Stopped);
        }
    }

    fn under_way(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter_map(|(slot, row)| Some((slot, row.as_ref()?)))
    }

    /// Takes the sequence out of a slot; `None` when there is none.
    fn free(&mut self, slot: usize) -> Option<Sequence> {
        let row = self.rows.get_mut(slot)?.take()?;
        self.decoder.clear(slot);
        Some(row.sequence)
    }

    /// Frees the slot of a sequence that has ended.
    fn end(&mut self, slot: usize, error: Option<Error>) {
        let Some(sequence) = self.free(slot) else { return };
        generation::ended(&self.name, sequence.class, sequence.written());
        if let Some(error) = error {
            sequence.end(error);
        }
    }

    /// Frees the slots and places of those who are not waited for any more, or are late.
    fn sweep(&mut self) {
        for slot in 0..self.rows.len() {
            let Some(row) = self.rows.get(slot).and_then(Option::as_ref) else { continue };
            if row.sequence.is_gone() {
                self.end(slot, None);
            } else if row.sequence.deadline.left().is_zero() {
                self.end(slot, Some(Error::Deadline));
            }
        }
        let gone = self.inbox.lock().sweep();
        for sequence in gone {
            let why = if sequence.is_gone() { "gone" } else { "deadline" };
            metrics::refused(&self.name, sequence.class, why, 1);
            sequence.end(Error::Deadline);
        }
    }

    /// Gives slots to those who wait: free ones, and one of somebody less urgent.
    fn admit(&mut self) {
        loop {
            let mut waiting = self.inbox.lock();
            let free = self.rows.iter().position(Option::is_none);
            // Who is overdue gets the next free slot, but keeps nobody more urgent from taking one.
            let class = if free.is_some() { waiting.lead() } else { waiting.class() };
            let Some(class) = class else { break };
            let Some(slot) = free.or_else(|| self.displaceable(class)) else { break };
            let Some(sequence) = waiting.pop(class) else { break };
            drop(waiting);
            if let Some(mut displaced) = self.free(slot) {
                displaced.displaced += 1;
                generation::displaced(&self.name, displaced.class);
                self.inbox.lock().put_back(displaced);
            }
            metrics::queued(&self.name, sequence.class, sequence.arrived.elapsed());
            self.rows[slot] = Some(Row { sequence, fed: 0 });
        }
    }

    /// The slot that somebody of that class may have: of the least urgent, the one with the fewest tokens.
    fn displaceable(&self, class: Class) -> Option<usize> {
        let others = self
            .under_way()
            .filter(|(_, row)| row.sequence.class < class && row.sequence.displaced < MOST_DISPLACED);
        let slot = others.min_by_key(|(_, row)| (row.sequence.class, row.sequence.tokens.len()));
        slot.map(|(slot, _)| slot)
    }

    /// The slot whose prompt is read next, and how many tokens of it.
    fn to_read(&self) -> Option<(usize, usize)> {
        let readers = self.under_way().filter(|(_, row)| row.unread() > 1);
        let (slot, row) =
            readers.min_by_key(|(_, row)| (Reverse(row.sequence.class), row.sequence.arrived))?;
        let alone = !self.under_way().any(|(_, row)| row.writes());
        // Graphs give logits for each token of a part.
        let largest = (MOST_LOGITS / self.shape.vocabulary.max(1)).clamp(PART, LARGEST_PART);
        let (least, most) = if alone { (PART, largest) } else { (SMALLEST_PART, PART) };
        let readable = self.inbox.lock().pace.readable(LONGEST_PART).unwrap_or(PART);
        Some((slot, row.unread().min(readable.clamp(least, most))))
    }

    /// The slots that write in the next step.
    fn to_write(&self) -> Vec<usize> {
        let writers: Vec<usize> =
            self.under_way().filter(|(_, row)| row.writes()).map(|(slot, _)| slot).collect();
        if self.shape.batches {
            return writers;
        }
        // Nothing is won by running rows together: each has its turn.
        let next = writers.iter().copied().find(|slot| *slot >= self.turn);
        next.or(writers.first().copied()).into_iter().collect()
    }

    /// Reads a part of a prompt. After its end, the first token is written.
    fn read(&mut self, slot: usize, tokens: usize) {
        let row = self.rows.get(slot).and_then(Option::as_ref);
        let class = row.map_or(Class::Batch, |row| row.sequence.class);
        if let Some(took) = self.run(&[(slot, tokens)]) {
            self.inbox.lock().pace.has_read(tokens, took);
            generation::read(&self.name, class, tokens, took);
        }
    }

    /// Writes a token in each of these slots.
    fn write(&mut self, slots: &[usize]) {
        let feeds: Vec<(usize, usize)> = slots.iter().map(|&slot| (slot, 1)).collect();
        if let Some(took) = self.run(&feeds) {
            self.inbox.lock().pace.has_written(slots.len(), took);
            generation::wrote(&self.name, slots.len(), took);
        }
        self.turn = slots.last().map_or(0, |slot| slot + 1);
    }

    /// Runs a step for slots, each with its next tokens, and gives it to their sequences. When memory does not
    /// suffice, they are halved; when it fails otherwise, each is tried alone: the fault may be with one, and
    /// the others have no part in it. Returns how long it took if it was made at once.
    fn run(&mut self, feeds: &[(usize, usize)]) -> Option<Duration> {
        let began = Instant::now();
        let step = self.once(feeds);
        let took = began.elapsed();
        match (step, feeds) {
            (Ok(mut logits), _) => {
                let share = took / u32::try_from(feeds.len()).unwrap_or(1).max(1);
                for (&(slot, tokens), row) in
                    feeds.iter().zip(logits.chunks_mut(self.shape.vocabulary.max(1)))
                {
                    self.take_in(slot, tokens, row, share);
                }
                return Some(took);
            }
            (Err(error), &[(slot, _)]) => self.fail(slot, error),
            (Err(BackendError::OutOfMemory(_)), _) => {
                let (first, second) = feeds.split_at(feeds.len() / 2);
                self.run(first);
                self.run(second);
            }
            (Err(BackendError::Failed(_)), _) => {
                for one in feeds.chunks(1) {
                    self.run(one);
                }
            }
        }
        None
    }

    /// Takes in the logits after the tokens that a slot was fed. `share` is the compute that it took.
    fn take_in(&mut self, slot: usize, tokens: usize, logits: &mut [f32], share: Duration) {
        let Some(row) = self.rows.get_mut(slot).and_then(Option::as_mut) else { return };
        row.fed += tokens;
        if row.sequence.is_gone() {
            metrics::wasted(&self.name, row.sequence.class, share);
            return self.end(slot, None);
        }
        if row.unread() > 0 {
            return;
        }
        let (class, now) = (row.sequence.class, Instant::now());
        match row.sequence.last.replace(now) {
            None => generation::first(&self.name, class, now.duration_since(row.sequence.arrived)),
            Some(last) => generation::next(&self.name, class, now.duration_since(last)),
        }
        if !row.sequence.write(logits) {
            self.end(slot, None);
        }
    }

    /// Ends the sequence of a slot whose step failed also alone.
    fn fail(&mut self, slot: usize, error: BackendError) {
        let Some(row) = self.rows.get(slot).and_then(Option::as_ref) else { return };
        let error = match error {
            BackendError::OutOfMemory(reason) => {
                tracing::warn!(model = %self.name, reason, "a text alone needs more memory than there is");
                metrics::refused(&self.name, row.sequence.class, "memory", 1);
                Error::Overloaded { retry_after: MEMORY_AGAIN }
            }
            error @ BackendError::Failed(_) => Error::Backend(error),
        };
        self.end(slot, Some(error));
    }

    /// One step of the decoder. A panic in there is a failure of this step.
    fn once(&mut self, feeds: &[(usize, usize)]) -> Result<Vec<f32>, BackendError> {
        let (rows, decoder) = (&self.rows, &mut self.decoder);
        let feed = |&(slot, tokens): &(usize, usize)| {
            let Row { sequence, fed } = rows.get(slot)?.as_ref()?;
            Some(Feed { slot, past: *fed, tokens: sequence.tokens.get(*fed..fed + tokens)? })
        };
        let rows: Vec<Feed<'_>> = feeds.iter().filter_map(feed).collect();
        let logits = catch_unwind(AssertUnwindSafe(|| decoder.step(&rows)))
            .unwrap_or_else(|_| Err(BackendError::Failed("the decoder panicked".into())))?;
        let wanted = feeds.len() * self.shape.vocabulary;
        match logits.len() == wanted {
            true => Ok(logits),
            false => Err(BackendError::Failed(format!("{} logits where {wanted} are due", logits.len()))),
        }
    }

    /// Tells the way in how things stand.
    fn report(&mut self) {
        let running = self.under_way().count();
        let left = self.under_way().map(|(_, row)| row.sequence.most - row.sequence.written()).sum();
        let held: usize = self.under_way().map(|(_, row)| row.fed).sum();
        let may = self.under_way().filter(|(_, row)| row.sequence.displaced < MOST_DISPLACED);
        let displaceable = may.map(|(_, row)| row.sequence.class).min();
        let mut waiting = self.inbox.lock();
        (waiting.running, waiting.unwritten, waiting.displaceable) = (running, left, displaceable);
        drop(waiting);
        generation::held(&self.name, held, held * self.shape.bytes_per_token);
    }
}

/// Works until the queue is dropped, or the device.
fn work(mut batcher: Batcher, turns: &Turns) {
    while batcher.inbox.wait(batcher.under_way().next().is_some()) {
        let Some((class, since)) = batcher.next() else { continue };
        let Ok(turn) = turns.wait(class, since + patience(class)) else { break };
        let made = catch_unwind(AssertUnwindSafe(|| batcher.step()));
        metrics::computed(&batcher.name, class, turns.end(turn));
        if made.is_err() {
            tracing::error!(model = %batcher.name, "a step panicked; what was under way is given up");
            break;
        }
    }
    batcher.give_up();
}

#[cfg(test)]
mod tests;
