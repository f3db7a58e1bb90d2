//! Turns on the device for work that is no batch of rows.
//!
//! A thread asks for a turn before each of its steps, and has the cores until it ends it. It waits among
//! the batches of its class, by when it is due; where nothing else waits it need not ask anybody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use switchboard_mesh::Class;
use tokio::time::Instant;

use super::{Shared, State, number};
use crate::error::Error;

/// How much of what is believed of a step's time a new one changes.
const NEWS: f64 = 0.2;

/// Who waits for a turn, by class; in it, who is due first.
#[derive(Default)]
pub(super) struct Asking([BTreeMap<(Instant, u64), Asked>; 3]);

struct Asked {
    slots: usize,
    /// Seconds that it should take.
    cost: f64,
    /// Gets what the class pays for it.
    grant: SyncSender<Option<f64>>,
}

impl Asking {
    /// When the first of a class is due, and what it costs.
    pub(super) fn first(&self, class: usize) -> Option<(Instant, f64)> {
        self.0[class].first_key_value().map(|((due, _), asked)| (*due, asked.cost))
    }
}

impl State {
    /// Whether so many of `slots` are free. Who is alone may want more than there are.
    fn has_room(&self, wanted: usize, slots: usize) -> bool {
        self.busy == 0 || self.busy + wanted <= slots
    }

    /// Gives the first of a class its turn, if there are the cores for it.
    pub(super) fn grant(&mut self, class: usize, slots: usize) -> bool {
        let first = self.asking.0[class].first_key_value();
        if !first.is_some_and(|(_, asked)| self.has_room(asked.slots, slots)) {
            return false;
        }
        let Some((_, asked)) = self.asking.0[class].pop_first() else { return false };
        let waiting = self.waiting();
        let paid = self.shares.begin(class, asked.cost, waiting);
        self.busy += asked.slots;
        // Who asked waits for it, on a channel that has the room.
        let _ = asked.grant.try_send(paid);
        true
    }
}

/// Turns for the steps of one model.
pub(crate) struct Turns {
    shared: Arc<Shared>,
    slots: usize,
    /// How long a step takes, in seconds, as bits.
    typical: AtomicU64,
}

/// The cores, until it is dropped.
pub(crate) struct Turn {
    shared: Arc<Shared>,
    class: usize,
    slots: usize,
    paid: Option<f64>,
    began: Instant,
}

impl Turns {
    pub(super) fn new(shared: Arc<Shared>, slots: usize) -> Self {
        Self { shared, slots, typical: AtomicU64::new(0.0_f64.to_bits()) }
    }

    /// Waits for a turn; `due` is when the work is to be done, which also says who of a class goes first.
    ///
    /// # Errors
    /// `Stopped` when the device is gone.
    pub(crate) fn wait(&self, class: Class, due: Instant) -> Result<Turn, Error> {
        let (class, slots) = (number(class), self.slots);
        let cost = f64::from_bits(self.typical.load(Ordering::Relaxed));
        let turn = |paid| {
            let (shared, began) = (Arc::clone(&self.shared), Instant::now());
            Turn { shared, class, slots, paid, began }
        };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Error::Stopped);
        }
        if state.waiting() == [false; 3] && state.has_room(slots, self.shared.slots) {
            state.busy += slots;
            return Ok(turn(state.shares.begin(class, cost, [false; 3])));
        }
        let (grant, granted) = sync_channel(1);
        let id = state.number();
        state.asking.0[class].insert((due, id), Asked { slots, cost, grant });
        drop(state);
        self.shared.work.notify_one();
        granted.recv().map(turn).map_err(|_| Error::Stopped)
    }

    /// Ends a turn. Returns how long it took.
    pub(crate) fn end(&self, turn: Turn) -> Duration {
        let took = turn.began.elapsed();
        let typical = f64::from_bits(self.typical.load(Ordering::Relaxed));
        let typical = if typical > 0.0 { typical } else { took.as_secs_f64() };
        let typical = typical + NEWS * (took.as_secs_f64() - typical);
        self.typical.store(typical.to_bits(), Ordering::Relaxed);
        drop(turn);
        took
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.busy = state.busy.saturating_sub(self.slots);
        let waiting = state.waiting();
        state.shares.end(self.class, self.paid, self.began.elapsed().as_secs_f64(), waiting);
        drop(state);
        self.shared.work.notify_all();
    }
}
