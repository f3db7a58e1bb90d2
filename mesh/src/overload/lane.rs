//! One limit with its queue: calls that are under way, and those that wait for them to end.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Config,
    gradient::Gradient,
    metrics::Metrics,
    queue::{CLASSES, Queue, Ticket},
};
use crate::{
    Call, Class, Tenant,
    error::{Fault, Kind},
};

/// Bounds of what callers are told to wait.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(5);
/// The least that class batch is told to wait: it is not to come back while others are still refused.
const BATCH: Duration = Duration::from_secs(1);

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The queue is full.
    Full,
    /// Its place in the queue went to one of a higher class, or of a tenant that has fewer.
    PushedOut,
    /// It waited as long as one may.
    WaitedOut,
    /// Its deadline leaves no time to wait.
    Late,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::PushedOut => "pushed_out",
            Self::WaitedOut => "waited_out",
            Self::Late => "late",
        }
    }
}

/// A call that was not let in.
#[derive(Debug, thiserror::Error)]
#[error("the service has as many calls of class {} as it can take now: try again later", class.as_str())]
pub(super) struct Refused {
    pub(super) reason: Reason,
    class: Class,
    after: Duration,
}

impl Fault for Refused {
    fn kind(&self) -> Kind {
        Kind::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.after)
    }
}

/// A limit and its queue.
pub(super) struct Lane {
    state: Mutex<State>,
    max_wait: Duration,
    voice_share: f64,
    metrics: Metrics,
}

struct State {
    gradient: Gradient,
    in_flight: [u32; 3],
    queue: Queue<oneshot::Sender<Result<Permit, Reason>>>,
    /// The limit that metrics know.
    told: u32,
    used: Instant,
}

impl State {
    fn total(&self) -> u32 {
        self.in_flight.iter().sum()
    }

    fn has_room(&self, class: Class, voice_share: f64) -> bool {
        let limit = self.gradient.limit();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the limit")]
        let kept = (f64::from(limit) * voice_share) as u32;
        let others = self.total() - self.in_flight[Class::Voice as usize];
        self.total() < limit && (class == Class::Voice || others < limit.saturating_sub(kept))
    }
}

impl Lane {
    pub(super) fn new(service: Arc<str>, config: &Config) -> Arc<Self> {
        let gradient = Gradient::new(config.initial, config.floor, config.ceiling);
        let metrics = Metrics::new(service);
        let told = gradient.limit();
        metrics.limit(told.into());
        let state = State {
            gradient,
            in_flight: [0; 3],
            queue: Queue::new(config.queue),
            told,
            used: Instant::now(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            max_wait: config.max_wait,
            voice_share: config.voice_share,
            metrics,
        })
    }

    /// Lets a call in, at once or when its turn comes. Dropping the future gives the turn up.
    ///
    /// # Errors
    /// [`Refused`], with the time after which trying again makes sense.
    pub(super) async fn admit(self: &Arc<Self>, call: &Call) -> Result<Permit, Refused> {
        let class = call.class;
        let (waiting, until) = match self.enter(call) {
            Ok(Entered::Now(permit)) => {
                self.metrics.admitted(class, None);
                return Ok(permit);
            }
            Ok(Entered::Later(waiting, until)) => (waiting, until),
            Err(reason) => return Err(self.refuse(class, reason)),
        };
        let began = Instant::now();
        match waiting.turn(until).await {
            Ok(permit) => {
                self.metrics.admitted(class, Some(began.elapsed()));
                Ok(permit)
            }
            Err(reason) => Err(self.refuse(class, reason)),
        }
    }

    fn enter(self: &Arc<Self>, call: &Call) -> Result<Entered, Reason> {
        let (class, now) = (call.class, Instant::now());
        let mut state = self.state();
        state.used = now;
        // Whoever waits of this class or a higher one was there before.
        let alone = CLASSES
            .into_iter()
            .rev()
            .take_while(|other| *other >= class)
            .all(|other| state.queue.waiting(other) == 0);
        if alone && state.has_room(class, self.voice_share) {
            return Ok(Entered::Now(self.begin(&mut state, class, call.tenant().ok().cloned())));
        }
        // Who is let in too late to be answered costs others their time.
        let usual = Duration::from_secs_f64(state.gradient.usual());
        let spare = call.deadline.for_hop().left().saturating_sub(usual);
        if spare.is_zero() {
            return Err(Reason::Late);
        }
        let until = now + spare.min(self.max_wait);
        let (turn_tx, turn) = oneshot::channel();
        let pushed = state.queue.push(class, call.tenant().ok(), turn_tx);
        drop(state);
        let (ticket, out) = pushed.map_err(|_| Reason::Full)?;
        self.metrics.waiting(class, 1);
        if let Some((lower, turn)) = out {
            self.metrics.waiting(lower, -1);
            // Who went meanwhile needs no answer.
            let _ = turn.send(Err(Reason::PushedOut));
        }
        Ok(Entered::Later(Waiting { lane: Arc::clone(self), ticket, turn }, until))
    }

    fn begin(self: &Arc<Self>, state: &mut State, class: Class, tenant: Option<Tenant>) -> Permit {
        state.in_flight[class as usize] += 1;
        state.queue.began(tenant.as_ref());
        self.metrics.in_flight(class, 1);
        Permit { lane: Arc::clone(self), class, tenant, began: Instant::now(), epoch: state.gradient.epoch() }
    }

    /// Changes the state, and lets in whom that makes room for.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut begun = Vec::new();
        let mut state = self.state();
        change(&mut state);
        loop {
            let (limits, share) = (&*state, self.voice_share);
            let room = CLASSES.map(|c| limits.has_room(c, share));
            let Some((class, tenant, turn)) = state.queue.pop(|class| room[class as usize]) else { break };
            begun.push((turn, self.begin(&mut state, class, tenant)));
        }
        let limit = state.gradient.limit();
        let told = std::mem::replace(&mut state.told, limit);
        // A permit that nobody takes any more ends at once, which needs the lock.
        drop(state);
        if limit != told {
            self.metrics.limit(i64::from(limit) - i64::from(told));
        }
        for (turn, permit) in begun {
            self.metrics.waiting(permit.class, -1);
            let _ = turn.send(Ok(permit));
        }
    }

    fn refuse(&self, class: Class, reason: Reason) -> Refused {
        self.metrics.refused(class, reason);
        let state = self.state();
        let rounds = 1.0 + state.queue.len() as f64 / f64::from(state.gradient.limit());
        let after = Duration::from_secs_f64(state.gradient.usual() * rounds);
        let least = if class == Class::Batch { BATCH } else { SOONEST };
        Refused { reason, class, after: after.clamp(least, LATEST) }
    }

    /// When it was last used; none while it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.total() == 0 && state.queue.len() == 0).then_some(state.used)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn limit(&self) -> u32 {
        self.state().gradient.limit()
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> u32 {
        self.state().total()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state().queue.len()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let told = self.state().told;
        self.metrics.limit(-i64::from(told));
    }
}

enum Entered {
    Now(Permit),
    Later(Waiting, Instant),
}

/// A place in the queue, given up when dropped.
struct Waiting {
    lane: Arc<Lane>,
    ticket: Ticket,
    turn: oneshot::Receiver<Result<Permit, Reason>>,
}

impl Waiting {
    async fn turn(mut self, until: Instant) -> Result<Permit, Reason> {
        match tokio::time::timeout_at(until, &mut self.turn).await {
            Ok(Ok(turn)) => turn,
            // The other end lives in the queue, and is never dropped unused while this stands in it.
            Ok(Err(_)) | Err(_) => Err(Reason::WaitedOut),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.lane.state().queue.remove(self.ticket);
        if left.is_some() {
            self.lane.metrics.waiting(self.ticket.class(), -1);
        }
    }
}

/// A call that is under way, until dropped.
pub(super) struct Permit {
    lane: Arc<Lane>,
    class: Class,
    tenant: Option<Tenant>,
    pub(super) began: Instant,
    epoch: u32,
}

impl Permit {
    /// The call was answered after `took`.
    pub(super) fn answered(&self, took: Duration) {
        self.lane.change(|state| {
            let in_flight = state.total();
            state.gradient.answered(took.as_secs_f64(), in_flight, self.epoch);
        });
    }

    /// Something that the call needs has too much to do.
    pub(super) fn overloaded(&self) {
        self.lane.change(|state| {
            let in_flight = state.total();
            state.gradient.overloaded(in_flight);
        });
    }

    /// What calls usually take.
    pub(super) fn usual(&self) -> Duration {
        Duration::from_secs_f64(self.lane.state().gradient.usual())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lane.metrics.in_flight(self.class, -1);
        self.lane.change(|state| {
            let in_flight = &mut state.in_flight[self.class as usize];
            *in_flight = in_flight.saturating_sub(1);
            state.queue.ended(self.tenant.take());
        });
    }
}

#[cfg(test)]
mod tests;
