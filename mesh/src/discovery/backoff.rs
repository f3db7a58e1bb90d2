//! Waits between attempts: longer each time, bounded, and never in step with others.

use std::time::Duration;

use crate::balance::Random;

/// The longest wait after a first failure.
const FIRST: Duration = Duration::from_millis(100);

/// The waits of one loop.
pub(super) struct Backoff {
    most: Duration,
    failures: u32,
    random: Random,
}

impl Backoff {
    /// Waits of at most `most`; `seed` fixes them.
    pub(super) fn new(most: Duration, seed: Option<u64>) -> Self {
        Self { most, failures: 0, random: Random::new(seed) }
    }

    /// How long to wait now: between half and all of a bound that doubles with every failure.
    pub(super) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16))).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(0.5 + self.random.fraction() / 2.0)
    }

    /// It worked: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(4), None);
        for _ in 0..3 {
            let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
            assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
            assert!(waits[6..].iter().all(|wait| (2.0..=4.0).contains(&wait.as_secs_f64())), "{waits:?}");
            backoff.reset();
        }
    }
}
