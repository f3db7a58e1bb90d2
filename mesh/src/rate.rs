//! How often a tenant may call: limits that all gateways share through Redis, and a local one where it
//! is away.
//!
//! The generic cell rate algorithm: a key has a theoretical arrival time, which each call moves by one
//! interval; a call that comes more than the burst before it is refused, and told how long to wait. One
//! number for each key, no windows whose edges let twice as much through.
//!
//! # Source
//! ITU-T I.371, the virtual scheduling form of the GCRA.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use redis::Script;
use tokio::time::Instant;

use crate::redis::Redis;

/// How long Redis may take to say whether a call is within its limit.
pub const WITHIN: Duration = Duration::from_millis(20);
/// Keys that are remembered here; beyond it the one that was idle longest goes.
const MOST_KEYS: usize = 10_000;

/// The time is the server's own: gateways' clocks need not agree. Returns 0, or the microseconds after
/// which the call would be let through.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000000 + tonumber(now[2])
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1]) or now)
if due < now then due = now end
local early = due - now - tolerance
if early > 0 then return early end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000) + 1000)
return 0
",
    )
});

/// So many calls a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls a second in the long run, more than 0.
    pub per_second: f64,
    /// Calls that may come at once, 1 at least.
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.per_second).unwrap_or(Duration::from_secs(86_400))
    }

    /// How long before its time a call may come.
    fn tolerance(self) -> Duration {
        self.interval() * self.burst.saturating_sub(1)
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Redis, for all gateways together.
    Redis,
    /// This process, for itself: Redis is away or slow, or there is none.
    Local,
}

/// Whether a call may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `None` lets it; else how long its caller should wait.
    pub wait: Option<Duration>,
    /// Who decided.
    pub by: By,
}

/// Limits by key.
pub struct Limiter {
    redis: Option<Redis>,
    /// Put before every key.
    prefix: String,
    local: Local,
}

impl Limiter {
    /// Limits through `redis` where there is one; `prefix` tells its keys from others', such as
    /// `switchboard:default:rate`.
    #[must_use]
    pub fn new(redis: Option<Redis>, prefix: impl Into<String>) -> Self {
        Self { redis, prefix: prefix.into(), local: Local::default() }
    }

    /// Counts a call against `key`, if it is within `rate`.
    ///
    /// Waits for Redis no longer than [`WITHIN`]. Where it does not answer, the same rate holds for this
    /// process alone: with several gateways, a tenant may get as many times as much meanwhile, but is
    /// never refused because Redis is away.
    pub async fn admit(&self, key: &str, rate: Rate) -> Verdict {
        if let Some(redis) = &self.redis {
            // The braces keep a key in one slot of a Cluster, whatever is added to it.
            let name = format!("{}:{{{key}}}", self.prefix);
            let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            let arguments = [micros(rate.interval()), micros(rate.tolerance())];
            match redis.script::<i64>(&SCRIPT, &[&name], &arguments, WITHIN).await {
                Ok(wait) => {
                    let wait = u64::try_from(wait).ok().filter(|&wait| wait > 0).map(Duration::from_micros);
                    return Verdict { wait, by: By::Redis };
                }
                Err(error) => tracing::debug!(%error, "a rate is limited here alone"),
            }
        }
        Verdict { wait: self.local.admit(key, rate, Instant::now()), by: By::Local }
    }
}

/// The same, in this process.
#[derive(Default)]
struct Local(Mutex<HashMap<String, Instant>>);

impl Local {
    fn admit(&self, key: &str, rate: Rate, now: Instant) -> Option<Duration> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = due.get(key).copied().unwrap_or(now).max(now);
        let early = (at - now).saturating_sub(rate.tolerance());
        if !early.is_zero() {
            return Some(early);
        }
        if due.len() >= MOST_KEYS && !due.contains_key(key) {
            due.retain(|_, at| *at > now);
            let oldest = due.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| due.len() >= MOST_KEYS) {
                due.remove(&oldest);
            }
        }
        due.insert(key.to_owned(), at + rate.interval());
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 5 };

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let (local, start) = (Local::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(local.admit("acme", RATE, start), None);
        }
        assert_eq!(local.admit("acme", RATE, start), Some(Duration::from_millis(100)));
        assert_eq!(local.admit("other", RATE, start), None, "tenants have their own");
        let later = start + Duration::from_millis(100);
        assert_eq!(local.admit("acme", RATE, later), None);
        assert!(local.admit("acme", RATE, later).is_some());
        // A long rest earns the burst again, and no more.
        let rested = start + Duration::from_secs(3600);
        assert_eq!((0..9).filter(|_| local.admit("acme", RATE, rested).is_none()).count(), 5);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (local, now) = (Local::default(), Instant::now());
        for key in 0..MOST_KEYS + 10 {
            assert_eq!(local.admit(&key.to_string(), RATE, now), None);
        }
        assert_eq!(local.0.lock().unwrap().len(), MOST_KEYS);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_its_burst_and_its_rate(
            gaps in prop::collection::vec(0_u64..300, 1..200),
        ) {
            let local = Local::default();
            let mut now = Instant::now();
            let mut passed = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if local.admit("acme", RATE, now).is_none() {
                    passed.push(now);
                }
            }
            for (at, first) in passed.iter().enumerate() {
                for (count, last) in passed[at..].iter().enumerate() {
                    let most = f64::from(RATE.burst) + (*last - *first).as_secs_f64() * RATE.per_second;
                    prop_assert!((count + 1) as f64 <= most + 1e-6);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_let_through(calls in 1_usize..50) {
            let local = Local::default();
            let mut now = Instant::now();
            for _ in 0..calls {
                if let Some(wait) = local.admit("acme", RATE, now) {
                    now += wait;
                    prop_assert_eq!(local.admit("acme", RATE, now), None);
                }
            }
        }
    }
}
