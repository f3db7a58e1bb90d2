//! The section `[balance]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, within};

/// How calls are spread over the nodes of a role, and what is done when one fails.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The zone that this process runs in, which is `node.zone`. Nodes of it are preferred while enough of
    /// them are well; empty prefers none.
    #[serde(skip)]
    pub zone: String,
    /// How fast what was measured is forgotten: after this time a latency counts for a third.
    #[serde(with = "humantime_serde")]
    pub decay: Duration,
    /// How long a node that is new or back takes to get its full share.
    #[serde(with = "humantime_serde")]
    pub slow_start: Duration,
    /// How long a node that failed or refused a call is avoided at least.
    #[serde(with = "humantime_serde")]
    pub penalty: Duration,
    /// Failures in a row that take a node out, or that let a role count as down.
    pub failures: u32,
    /// How long a node is out the first time; twice as long each further time.
    #[serde(with = "humantime_serde")]
    pub ejection: Duration,
    /// How long a node is out at most.
    #[serde(with = "humantime_serde")]
    pub longest_ejection: Duration,
    /// How often the nodes' rates of success are compared.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How often one call is sent at most, the first time included.
    pub attempts: u32,
    /// Calls that may fail at once and still be tried again; beyond, one in ten that succeed earns a
    /// further try. 0 tries nothing again.
    pub retries: u32,
    /// The share of the calls that may be hedged which is sent to a second node when the first is slow;
    /// 0 hedges none.
    pub hedges: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            zone: String::new(),
            decay: Duration::from_secs(10),
            slow_start: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
            failures: 5,
            ejection: Duration::from_secs(1),
            longest_ejection: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            attempts: 3,
            retries: 100,
            hedges: 0.05,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let seconds = |key: &str, value: Duration| match value {
            value if (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&value) => Ok(()),
            value => {
                let shown = humantime_serde::re::humantime::format_duration(value);
                Err(Invalid::new(format!("balance.{key}"), shown, "1ms to 1h"))
            }
        };
        seconds("decay", self.decay)?;
        seconds("slow_start", self.slow_start)?;
        seconds("penalty", self.penalty)?;
        seconds("ejection", self.ejection)?;
        seconds("longest_ejection", self.longest_ejection)?;
        seconds("interval", self.interval)?;
        within("balance.failures", self.failures, 1..=1000)?;
        within("balance.attempts", self.attempts, 1..=5)?;
        within("balance.retries", self.retries, 0..=100_000)?;
        within("balance.hedges", self.hedges, 0.0..=0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named() {
        assert!(Config::default().check().is_ok());
        let bad = [
            (Config { attempts: 0, ..Config::default() }, "balance.attempts"),
            (Config { hedges: f64::NAN, ..Config::default() }, "balance.hedges"),
            (Config { decay: Duration::ZERO, ..Config::default() }, "balance.decay"),
        ];
        for (config, key) in bad {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
