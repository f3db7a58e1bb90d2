//! The section `[ledger]`.

use std::{path::PathBuf, time::Duration};

use mesh::config::{Invalid, Secret, within};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

use crate::{hex, seal};

/// The section `[ledger]`. What is empty has its place in the folder `ledger` of the data folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// URL of a PostgreSQL database, such as `postgres://user:password@host/ledger?sslmode=verify-full`;
    /// empty keeps the ledger in SQLite. Several nodes may share one database, and then keep one chain for
    /// each tenant.
    pub postgres: Secret,
    /// File that holds the URL, in place of `postgres`.
    pub postgres_file: PathBuf,
    /// Most connections to PostgreSQL, 2 to 100.
    pub postgres_connections: u32,
    /// Folder for signed heads, which are compared with the store when it is verified: keep it where who
    /// can change the store cannot write. Empty takes `heads`.
    pub heads: PathBuf,
    /// Folder that exports go to. Empty takes `export`.
    pub export: PathBuf,
    /// The Ed25519 key that checkpoints are signed with: 64 hexadecimal digits, the private key of RFC 8032.
    pub signing_key: Secret,
    /// File that holds it, in place of `signing_key`. Empty takes `keys/signing.key`, which is made
    /// where it is missing.
    pub signing_key_file: PathBuf,
    /// Public keys, 64 hexadecimal digits each, of checkpoints that others signed or that were signed
    /// before the key was changed.
    pub trusted_keys: Vec<String>,
    /// The keys that subjects' keys are wrapped with: `id:digits`, several with commas between, of 64
    /// hexadecimal digits each. The first one is used; the others still open what they wrapped, which is
    /// wrapped anew at the next start.
    pub master_keys: Secret,
    /// File that holds them, one a line or with commas between, in place of `master_keys`. Empty takes
    /// `keys/master.keys`, which is made where it is missing.
    pub master_keys_file: PathBuf,
    /// How often what is there is signed.
    pub checkpoint: CheckpointConfig,
    /// How much may wait to be written.
    pub queue: QueueConfig,
}

/// The section `[ledger.checkpoint]`: a checkpoint is signed when either is reached.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Records of a tenant since its last checkpoint, 1 to 1,000,000.
    pub records: u64,
    /// Time since the first record that no checkpoint covers, 100 ms to 1 day.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
}

/// The section `[ledger.queue]`: what waits beyond it is refused, to be tried again.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Requests, 1 to 100,000.
    pub requests: usize,
    /// Bytes of all of them, 4 MiB to 1 GiB.
    pub bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            postgres: Secret::new(String::new()),
            postgres_file: PathBuf::new(),
            postgres_connections: 8,
            heads: PathBuf::new(),
            export: PathBuf::new(),
            signing_key: Secret::new(String::new()),
            signing_key_file: PathBuf::new(),
            trusted_keys: Vec::new(),
            master_keys: Secret::new(String::new()),
            master_keys_file: PathBuf::new(),
            checkpoint: CheckpointConfig::default(),
            queue: QueueConfig::default(),
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { records: 1000, every: Duration::from_secs(10) }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { requests: 4096, bytes: 64 << 20 }
    }
}

impl Config {
    /// Checks every value that can be checked without a file.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, its value and what is allowed. Secrets are not told.
    pub fn check(&self) -> Result<(), Invalid> {
        secret("ledger.postgres", &self.postgres, &self.postgres_file)?;
        secret("ledger.signing_key", &self.signing_key, &self.signing_key_file)?;
        secret("ledger.master_keys", &self.master_keys, &self.master_keys_file)?;
        let given = self.signing_key.expose();
        if !given.is_empty() && hex::decode::<32>(given).is_none() {
            return Err(Invalid::new("ledger.signing_key", &self.signing_key, "64 hexadecimal digits"));
        }
        let given = self.master_keys.expose();
        if !given.is_empty() && seal::parse(given).is_none() {
            return Err(Invalid::new("ledger.master_keys", &self.master_keys, seal::ALLOWED));
        }
        for key in &self.trusted_keys {
            if hex::decode::<32>(key).is_none() {
                return Err(Invalid::new("ledger.trusted_keys", key, "64 hexadecimal digits each"));
            }
        }
        within("ledger.postgres_connections", self.postgres_connections, 2..=100)?;
        within("ledger.checkpoint.records", self.checkpoint.records, 1..=1_000_000)?;
        let every = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
        if !every.contains(&self.checkpoint.every) {
            let value = format!("{:?}", self.checkpoint.every);
            return Err(Invalid::new("ledger.checkpoint.every", value, "from 100ms to 1day"));
        }
        within("ledger.queue.requests", self.queue.requests, 1..=100_000)?;
        within("ledger.queue.bytes", self.queue.bytes, 4 << 20..=1 << 30)
    }
}

/// Checks a secret that may come by itself or in a file, not both.
fn secret(key: &str, given: &Secret, file: &std::path::Path) -> Result<(), Invalid> {
    if given.is_masked() {
        return Err(Invalid::new(key, given, "the secret itself: a configuration is printed without it"));
    }
    if !given.expose().is_empty() && !file.as_os_str().is_empty() {
        let allowed = format!("empty where {key} is set");
        return Err(Invalid::new(format!("{key}_file"), file.display(), allowed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named_and_a_secret_is_not_told() {
        type Change = fn(&mut Config);
        let bad: [(&str, Change); 9] = [
            ("ledger.signing_key", |config| config.signing_key = Secret::new("abc".into())),
            ("ledger.master_keys", |config| config.master_keys = Secret::new("one:abc".into())),
            ("ledger.master_keys", |config| config.master_keys = Secret::new("***".into())),
            ("ledger.trusted_keys", |config| config.trusted_keys = vec!["00".into()]),
            ("ledger.postgres_connections", |config| config.postgres_connections = 1),
            ("ledger.checkpoint.records", |config| config.checkpoint.records = 0),
            ("ledger.checkpoint.every", |config| config.checkpoint.every = Duration::ZERO),
            ("ledger.queue.bytes", |config| config.queue.bytes = 1),
            ("ledger.postgres_file", |config| {
                config.postgres = Secret::new("postgres://here".into());
                config.postgres_file = "url".into();
            }),
        ];
        for (key, change) in bad {
            let mut config = Config::default();
            change(&mut config);
            let invalid = config.check().unwrap_err();
            assert_eq!(invalid.key, key);
            assert!(!invalid.to_string().contains("abc"), "{invalid}");
        }
    }
}
