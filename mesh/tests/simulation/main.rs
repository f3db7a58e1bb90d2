//! The mesh through simulated trouble; `cargo xtask simulate` does the same for many hours.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a simulation are small")]

mod sim;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use sim::promises::Counts;

/// Seeds that are simulated, and for how long each.
const SEEDS: u64 = 40;
const LENGTH: Duration = Duration::from_secs(180);

#[test]
fn no_promise_is_broken() {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut broken, mut counts) = (String::new(), Counts::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return (broken, counts);
            }
            let report = sim::simulate(seed, LENGTH);
            broken += &report.to_string();
            counts.add(&report.counts);
        }
    };
    let (mut broken, mut counts) = (String::new(), Counts::default());
    thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        for (told, counted) in threads.map(|thread| thread.join().unwrap()) {
            broken += &told;
            counts.add(&counted);
        }
    });
    assert!(broken.is_empty(), "\n{broken}");
    // Where nothing was tried, nothing was kept either.
    let tried =
        [counts.had_to_succeed, counts.had_to_stop, counts.had_to_go_first, counts.again, counts.late];
    assert!(tried.iter().all(|count| *count >= 50), "{counts:?}");
}

#[test]
fn a_seed_replays() {
    let first = sim::simulate(7, LENGTH).fingerprint;
    let other = sim::simulate(8, LENGTH).fingerprint;
    let again = sim::simulate(7, LENGTH).fingerprint;
    assert_eq!(first, again);
    assert_ne!(first, other);
}
