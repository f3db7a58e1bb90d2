//! A role that is down, as a whole, is not waited for.
//!
//! When calls keep failing for want of any node that can be reached, the circuit opens: calls fail at
//! once, with word of when to try again. Then one call at a time is let through until one is answered.
//! Many calls that fail with one node say nothing of the others: a connection that breaks ends all that it
//! carried at the same moment.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How long calls fail at once the first time; twice as long each further time.
const OPEN: Duration = Duration::from_millis(250);
/// How long calls fail at once at most.
const LONGEST: Duration = Duration::from_secs(5);

/// What a circuit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Circuit {
    /// All calls.
    Closed,
    /// None until then, and one from then on.
    Open { until: Instant },
    /// None but the one that is under way.
    Probing,
}

impl Circuit {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::Probing => "half_open",
        }
    }
}

struct State {
    circuit: Circuit,
    failures: u32,
    times: u32,
}

impl State {
    /// A place for a call, or when to try again.
    fn enter(&mut self, now: Instant) -> Result<bool, Duration> {
        match self.circuit {
            Circuit::Closed => Ok(false),
            Circuit::Open { until } if now >= until => {
                self.circuit = Circuit::Probing;
                Ok(true)
            }
            Circuit::Open { until } => Err(until - now),
            Circuit::Probing => Err(OPEN),
        }
    }

    fn failed(&mut self, now: Instant, threshold: u32) {
        self.failures = self.failures.saturating_add(1);
        match self.circuit {
            Circuit::Closed if self.failures < threshold => {}
            Circuit::Closed | Circuit::Probing => {
                let length = OPEN.saturating_mul(2_u32.saturating_pow(self.times.min(8))).min(LONGEST);
                self.times = self.times.saturating_add(1);
                self.circuit = Circuit::Open { until: now + length };
            }
            // Of a call that was let through before it opened.
            Circuit::Open { .. } => {}
        }
    }
}

/// The circuit of a role.
pub(super) struct Breaker {
    threshold: u32,
    /// Closed and without failures, which spares most calls the lock.
    quiet: AtomicBool,
    born: Instant,
    /// When a node answered last, in milliseconds since `born`.
    heard: AtomicU64,
    state: Mutex<State>,
    /// Told of each change.
    changed: Box<dyn Fn(Circuit) + Send + Sync>,
}

/// A call's place behind the breaker. Dropped without word, a call that probed leaves its place to the
/// next one.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probes: bool,
}

impl Breaker {
    /// Opens after `threshold` failures in a row.
    pub(super) fn new(threshold: u32, changed: impl Fn(Circuit) + Send + Sync + 'static) -> Self {
        let state = State { circuit: Circuit::Closed, failures: 0, times: 0 };
        let (quiet, state) = (AtomicBool::new(true), Mutex::new(state));
        let (born, heard) = (Instant::now(), AtomicU64::new(0));
        Self { threshold, quiet, born, heard, state, changed: Box::new(changed) }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn enter(&self) -> Result<Pass<'_>, Duration> {
        let quiet = self.quiet.load(Ordering::Relaxed);
        let probes = if quiet { false } else { self.with(|state| state.enter(Instant::now()))? };
        Ok(Pass { breaker: self, probes })
    }

    /// A node answered.
    pub(super) fn succeeded(&self) {
        self.heard.store(self.age(Instant::now()), Ordering::Relaxed);
        if !self.quiet.load(Ordering::Relaxed) {
            self.with(|state| *state = State { circuit: Circuit::Closed, failures: 0, times: 0 });
        }
    }

    /// A call found no node that could be reached, or heard nothing.
    pub(super) fn failed(&self) {
        self.with(|state| state.failed(Instant::now(), self.threshold));
    }

    /// A call that was sent at `began` heard nothing. Where anybody was answered since, the role is not
    /// down.
    pub(super) fn silent(&self, began: Instant) {
        if self.heard.load(Ordering::Relaxed) <= self.age(began) {
            self.failed();
        }
    }

    fn age(&self, at: Instant) -> u64 {
        super::millis(at.saturating_duration_since(self.born))
    }

    pub(super) fn circuit(&self) -> Circuit {
        self.state().circuit
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.circuit;
        let told = change(&mut state);
        self.quiet.store(state.circuit == Circuit::Closed && state.failures == 0, Ordering::Relaxed);
        let after = state.circuit;
        drop(state);
        if before != after {
            (self.changed)(after);
        }
        told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// A node answered.
    pub(super) fn succeeded(mut self) {
        self.probes = false;
        self.breaker.succeeded();
    }

    /// No node could be reached.
    pub(super) fn failed(mut self) {
        self.probes = false;
        self.breaker.failed();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probes {
            self.breaker.with(|state| {
                if state.circuit == Circuit::Probing {
                    state.circuit = Circuit::Open { until: Instant::now() };
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(3, |_| {})
    }

    fn fail(breaker: &Breaker, times: usize) {
        for _ in 0..times {
            breaker.enter().unwrap_or_else(|_| panic!("let through")).failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_is_down_fails_at_once_and_for_longer_each_time() {
        let breaker = breaker();
        fail(&breaker, 3);
        for length in [250, 500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis) {
            assert_eq!(breaker.enter().err(), Some(length));
            tokio::time::advance(length).await;
            let probe = breaker.enter().unwrap_or_else(|_| panic!("one is let through"));
            assert_eq!(breaker.circuit(), Circuit::Probing);
            assert_eq!(breaker.enter().err(), Some(OPEN), "and no more than one");
            probe.failed();
        }
        tokio::time::advance(LONGEST).await;
        breaker.enter().unwrap_or_else(|_| panic!("one is let through")).succeeded();
        assert_eq!(breaker.circuit(), Circuit::Closed);
        fail(&breaker, 2);
        assert!(breaker.enter().is_ok(), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_in_between_keeps_it_closed() {
        let breaker = breaker();
        for _ in 0..10 {
            fail(&breaker, 2);
            breaker.enter().unwrap_or_else(|_| panic!("let through")).succeeded();
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_answered_others_meanwhile_is_not_down() {
        let breaker = breaker();
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(700)).await;
        breaker.succeeded();
        for _ in 0..10 {
            breaker.silent(began);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
        for _ in 0..3 {
            breaker.silent(Instant::now());
        }
        assert!(matches!(breaker.circuit(), Circuit::Open { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_its_place() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(OPEN).await;
        drop(breaker.enter());
        assert!(breaker.enter().is_ok());
    }
}
