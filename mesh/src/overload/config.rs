//! The section `[overload]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, within};

/// How many calls a node takes at once, of each service and each model, and what becomes of the rest.
///
/// The defaults are generous: they let an idle node do what it likes, and find the limit of a busy one.
/// Where calls keep whole cores or a GPU busy, `initial = 4` and `floor = 1` find it sooner.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether calls are limited at all.
    pub enabled: bool,
    /// Calls at once before anything was measured.
    pub initial: u32,
    /// Calls at once that are always let in.
    pub floor: u32,
    /// Calls at once that are never exceeded.
    pub ceiling: u32,
    /// Calls that may wait for others to end; 0 refuses them at once.
    pub queue: u32,
    /// How long a call may wait, if its deadline allows as much.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// The share of the limit that is kept free for calls of class voice.
    pub voice_share: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            initial: 64,
            floor: 4,
            ceiling: 1024,
            queue: 256,
            max_wait: Duration::from_millis(500),
            voice_share: 0.1,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("overload.ceiling", self.ceiling, 1..=100_000)?;
        within("overload.floor", self.floor, 1..=self.ceiling)?;
        within("overload.initial", self.initial, self.floor..=self.ceiling)?;
        within("overload.queue", self.queue, 0..=10_000)?;
        within("overload.voice_share", self.voice_share, 0.0..=0.9)?;
        if self.max_wait > Duration::from_secs(60) {
            let shown = humantime_serde::re::humantime::format_duration(self.max_wait);
            return Err(Invalid::new("overload.max_wait", shown, "0s to 1m"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named() {
        assert!(Config::default().check().is_ok());
        let bad = [
            (Config { ceiling: 0, ..Config::default() }, "overload.ceiling"),
            (Config { floor: 0, ..Config::default() }, "overload.floor"),
            (Config { floor: 65, ..Config::default() }, "overload.initial"),
            (Config { initial: 2000, ..Config::default() }, "overload.initial"),
            (Config { queue: 10_001, ..Config::default() }, "overload.queue"),
            (Config { voice_share: f64::NAN, ..Config::default() }, "overload.voice_share"),
            (Config { max_wait: Duration::from_secs(61), ..Config::default() }, "overload.max_wait"),
        ];
        for (config, key) in bad {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
