//! The mesh through simulated trouble; `cargo xtask simulate` does the same for many hours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a simulation are small")]

mod sim;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// Seeds that are simulated, and for how long each.
const SEEDS: u64 = 20;
const LENGTH: Duration = Duration::from_secs(180);

#[test]
fn no_promise_is_broken() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut broken = String::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return broken;
            }
            broken += &sim::simulate(seed, LENGTH).to_string();
        }
    };
    let broken: String = thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn a_seed_replays() {
    let first = sim::simulate(7, LENGTH).fingerprint;
    let other = sim::simulate(8, LENGTH).fingerprint;
    let again = sim::simulate(7, LENGTH).fingerprint;
    assert_eq!(first, again);
    assert_ne!(first, other);
}
