//! The section `[policy]`.

use std::time::Duration;

use mesh::config::{Invalid, within};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

/// The section `[policy]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is held of the personal data that was redacted.
    pub vault: VaultConfig,
}

/// The section `[policy.vault]`: how much personal data is held in memory, and for how long.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Conversations held for each tenant, 1 to 1,000,000; beyond that the one unused for longest is
    /// forgotten. A busy tenant costs another none of its conversations.
    pub conversations: usize,
    /// Values held for each conversation, 1 to 10,000; beyond that the oldest is forgotten. A value
    /// takes some 100 bytes.
    pub values: usize,
    /// How long a conversation is held after its last use, 1 s to 7 days.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self { conversations: 10_000, values: 100, keep: Duration::from_secs(3600) }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("policy.vault.conversations", self.vault.conversations, 1..=1_000_000)?;
        within("policy.vault.values", self.vault.values, 1..=10_000)?;
        let allowed = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
        if !allowed.contains(&self.vault.keep) {
            let value = format!("{:?}", self.vault.keep);
            return Err(Invalid::new("policy.vault.keep", value, "from 1s to 7days"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let mut config = Config::default();
        config.vault.keep = Duration::ZERO;
        assert_eq!(config.check().unwrap_err().key, "policy.vault.keep");
        config.vault = VaultConfig { conversations: 0, ..VaultConfig::default() };
        assert_eq!(config.check().unwrap_err().key, "policy.vault.conversations");
        config.vault = VaultConfig { values: 20_000, ..VaultConfig::default() };
        assert_eq!(config.check().unwrap_err().key, "policy.vault.values");
    }
}
