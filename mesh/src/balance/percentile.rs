//! How long the calls of a method take, as far as it tells when to hedge one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

/// How long a window is; the one before still counts.
const WINDOW: Duration = Duration::from_secs(30);
/// Calls without which a percentile says nothing.
const ENOUGH: u32 = 50;
/// Nothing is hedged earlier: below, it is the caller's own scheduling that is measured.
const FLOOR: Duration = Duration::from_millis(1);
/// Four a doubling, so that a bucket's border is at most a fifth off; the last holds all beyond a minute.
const BUCKETS: usize = 105;
/// Kinds of calls that are told apart; others are never hedged.
const KINDS: usize = 64;

/// Counts of durations by size, in two windows.
struct Histogram {
    began: Instant,
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

impl Histogram {
    fn new(now: Instant) -> Self {
        Self { began: now, now: [0; BUCKETS], before: [0; BUCKETS] }
    }

    fn record(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        let count = &mut self.now[bucket(took)];
        *count = count.saturating_add(1);
    }

    /// The 95th percentile, rounded up to a bucket's border; none before enough calls.
    fn p95(&mut self, now: Instant) -> Option<Duration> {
        self.turn(now);
        let counts = || self.now.iter().zip(&self.before).map(|(a, b)| a.saturating_add(*b));
        let total = counts().fold(0_u32, u32::saturating_add);
        if total < ENOUGH {
            return None;
        }
        let rank = total - total / 20;
        let mut seen = 0_u32;
        let place = counts().position(|count| {
            seen = seen.saturating_add(count);
            seen >= rank
        });
        Some(border(place.unwrap_or(BUCKETS - 1)).max(FLOOR))
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= WINDOW {
            let last = std::mem::replace(&mut self.now, [0; BUCKETS]);
            self.before = if passed >= WINDOW * 2 { [0; BUCKETS] } else { last };
            self.began = now;
        }
    }
}

fn bucket(took: Duration) -> usize {
    let micros = took.as_secs_f64() * 1e6;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the last")]
    let place = (micros.max(1.0).log2() * 4.0).clamp(0.0, (BUCKETS - 1) as f64) as usize;
    place
}

fn border(bucket: usize) -> Duration {
    Duration::from_secs_f64(((bucket + 1) as f64 / 4.0).exp2() / 1e6)
}

/// The latencies of the kinds of calls that may be hedged, by method and model.
#[derive(Default)]
pub(super) struct Latencies(RwLock<HashMap<String, Arc<Mutex<Histogram>>>>);

impl Latencies {
    /// How long a call of `method` for `model` may take before it counts as slow; none while that is not
    /// known.
    pub(super) fn slow(&self, method: &str, model: Option<&str>) -> Option<Duration> {
        self.find(&name(method, model))?.lock().unwrap_or_else(PoisonError::into_inner).p95(Instant::now())
    }

    /// Takes in that an answer took `took`, unless there are too many kinds.
    pub(super) fn record(&self, method: &str, model: Option<&str>, took: Duration) {
        let (name, now) = (name(method, model), Instant::now());
        if let Some(kind) = self.find(&name).or_else(|| self.add(name, now)) {
            kind.lock().unwrap_or_else(PoisonError::into_inner).record(took, now);
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Mutex<Histogram>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn add(&self, name: String, now: Instant) -> Option<Arc<Mutex<Histogram>>> {
        let mut kinds = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS && !kinds.contains_key(&name) {
            return None;
        }
        Some(Arc::clone(kinds.entry(name).or_insert_with(|| Arc::new(Mutex::new(Histogram::new(now))))))
    }
}

fn name(method: &str, model: Option<&str>) -> String {
    match model {
        Some(model) => format!("{method} {model}"),
        None => method.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_calls_say_nothing_and_old_ones_are_forgotten() {
        let began = Instant::now();
        let mut histogram = Histogram::new(began);
        for _ in 0..ENOUGH - 1 {
            histogram.record(Duration::from_millis(20), began);
        }
        assert_eq!(histogram.p95(began), None);
        histogram.record(Duration::from_millis(20), began);
        assert!(histogram.p95(began).is_some());
        assert!(histogram.p95(began + WINDOW).is_some(), "the window before counts");
        assert_eq!(histogram.p95(began + WINDOW * 2), None);
    }

    #[test]
    fn what_is_fast_anyway_is_not_hedged_early() {
        let now = Instant::now();
        let mut histogram = Histogram::new(now);
        for _ in 0..100 {
            histogram.record(Duration::from_micros(80), now);
        }
        assert_eq!(histogram.p95(now), Some(FLOOR));
    }

    #[test]
    fn kinds_are_bounded() {
        let latencies = Latencies::default();
        let kinds = || latencies.0.read().unwrap().len();
        for n in 0..1000 {
            assert_eq!(latencies.slow("m", Some(&n.to_string())), None);
        }
        assert_eq!(kinds(), 0, "who only asks takes no place");
        for n in 0..1000 {
            latencies.record("m", Some(&n.to_string()), FLOOR);
        }
        assert_eq!(kinds(), KINDS);
        for _ in 0..ENOUGH {
            latencies.record("m", Some("0"), FLOOR);
        }
        assert!(latencies.slow("m", Some("0")).is_some());
    }

    proptest! {
        #[test]
        fn the_percentile_is_at_most_a_bucket_off(mut micros in prop::collection::vec(1_000u64..10_000_000, 50..300)) {
            let now = Instant::now();
            let mut histogram = Histogram::new(now);
            for micros in &micros {
                histogram.record(Duration::from_micros(*micros), now);
            }
            micros.sort_unstable();
            let exact = micros[micros.len() - micros.len() / 20 - 1] as f64 / 1e6;
            let told = histogram.p95(now).unwrap().as_secs_f64();
            prop_assert!(told >= exact * 0.999 && told <= exact * 1.2, "{told} for {exact}");
        }
    }
}
