//! Which refusals are told aloud.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::metrics::Outcome;

/// How long others like one that was told are told of only at debug level. Whoever reaches the port can be
/// refused as often as he likes; the metrics count them all.
const QUIET: Duration = Duration::from_secs(60);

/// When an outcome was told aloud last.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<Outcome, Instant>>);

impl Told {
    /// Whether this is the first such `outcome` in a minute. It counts as told then.
    pub(super) fn is_first(&self, outcome: Outcome, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.get(&outcome).is_none_or(|at| now.saturating_duration_since(*at) >= QUIET);
        if first {
            told.insert(outcome, now);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_refusals_the_first_of_each_kind_in_a_minute_is_told() {
        let (told, now) = (Told::default(), Instant::now());
        let aloud = |second| {
            let at = now + Duration::from_secs(second);
            [Outcome::Expired, Outcome::Name].map(|outcome| told.is_first(outcome, at))
        };
        assert_eq!(aloud(0), [true, true]);
        assert!((1..60).all(|second| aloud(second) == [false, false]));
        assert!(told.is_first(Outcome::Expired, now + QUIET));
        assert_eq!(aloud(61), [false, true]);
    }
}
