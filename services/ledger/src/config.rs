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
    /// Where exports go.
    pub export: ExportConfig,
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

/// The section `[ledger.export]`: a folder, or a bucket of a store that speaks S3.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Folder that exports go to. Empty takes `export` in the ledger's folder, unless there is a `url`.
    pub folder: PathBuf,
    /// Bucket that exports go to in place of a folder, and what stands before their names there:
    /// `s3://bucket` or `s3://bucket/prefix`.
    pub url: String,
    /// URL of the store, such as `https://minio.example:9000`; empty takes Amazon's of `region`.
    pub endpoint: String,
    /// The bucket's region. Stores that have none take any.
    pub region: String,
    /// Whether `endpoint` may be of plain `http` elsewhere than on this machine: who listens there reads
    /// what is exported.
    pub allow_http: bool,
    /// PEM file of certificates to trust for `endpoint`, besides the system's.
    pub certificates: PathBuf,
    /// Who writes: `access-key-id:secret-access-key`, and `:session-token` where there is one.
    pub credentials: Secret,
    /// File that holds it, in place of `credentials`; read at each export.
    pub credentials_file: PathBuf,
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
            export: ExportConfig::default(),
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

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            url: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            allow_http: false,
            certificates: PathBuf::new(),
            credentials: Secret::new(String::new()),
            credentials_file: PathBuf::new(),
        }
    }
}

/// What credentials look like.
pub(crate) const CREDENTIALS_ALLOWED: &str =
    "access-key-id:secret-access-key, and :session-token where there is one";

impl ExportConfig {
    /// The bucket, and what stands before names in it; `None` for a folder or a URL that is none.
    pub(crate) fn bucket(&self) -> Option<(&str, &str)> {
        let rest = self.url.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let fits = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        (fits && prefix.len() <= 512 && object_store::path::Path::parse(prefix).is_ok())
            .then_some((bucket, prefix))
    }

    /// Id, secret and session token, which may be empty.
    pub(crate) fn credentials(given: &Secret) -> Option<[&str; 3]> {
        let mut parts = given.expose().splitn(3, ':');
        let found = [parts.next()?, parts.next()?, parts.next().unwrap_or_default()];
        let usable = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        (!found[0].is_empty() && !found[1].is_empty() && found.into_iter().all(usable)).then_some(found)
    }

    /// Checks what can be checked without a file.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        secret("ledger.export.credentials", &self.credentials, &self.credentials_file)?;
        let given = !self.credentials.expose().is_empty();
        if given && Self::credentials(&self.credentials).is_none() {
            return Err(Invalid::new("ledger.export.credentials", &self.credentials, CREDENTIALS_ALLOWED));
        }
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=64).contains(&self.region.len()) || !self.region.bytes().all(name) {
            return Err(Invalid::new("ledger.export.region", &self.region, "a region such as eu-central-1"));
        }
        self.check_endpoint()?;
        if self.url.is_empty() {
            return Ok(());
        }
        if self.bucket().is_none() {
            return Err(Invalid::new(
                "ledger.export.url",
                &self.url,
                "empty, or s3://bucket or s3://bucket/prefix",
            ));
        }
        if !self.folder.as_os_str().is_empty() {
            let value = self.folder.display();
            return Err(Invalid::new("ledger.export.folder", value, "empty where ledger.export.url is set"));
        }
        if !given && self.credentials_file.as_os_str().is_empty() {
            let allowed = format!("{CREDENTIALS_ALLOWED}, where ledger.export.url is set");
            return Err(Invalid::new("ledger.export.credentials", "empty", allowed));
        }
        Ok(())
    }

    fn check_endpoint(&self) -> Result<(), Invalid> {
        if self.endpoint.is_empty() {
            return Ok(());
        }
        let refused = |allowed: &str| Err(Invalid::new("ledger.export.endpoint", &self.endpoint, allowed));
        let uri = self.endpoint.parse::<http::Uri>().ok();
        let Some(uri) = uri.filter(|uri| uri.path() == "/" && uri.query().is_none()) else {
            return refused("empty, or a URL such as https://minio.example:9000");
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => Ok(()),
            Some("http") if !host.is_empty() && (here || self.allow_http) => Ok(()),
            Some("http") if !host.is_empty() => {
                refused("https, or http on this machine, or http elsewhere with ledger.export.allow_http")
            }
            _ => refused("empty, or a URL such as https://minio.example:9000"),
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
        self.export.check()?;
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
        let bad: [(&str, Change); 15] = [
            ("ledger.signing_key", |config| config.signing_key = Secret::new("abc".into())),
            ("ledger.master_keys", |config| config.master_keys = Secret::new("one:abc".into())),
            ("ledger.master_keys", |config| config.master_keys = Secret::new("***".into())),
            ("ledger.trusted_keys", |config| config.trusted_keys = vec!["00".into()]),
            ("ledger.postgres_connections", |config| config.postgres_connections = 1),
            ("ledger.checkpoint.records", |config| config.checkpoint.records = 0),
            ("ledger.checkpoint.every", |config| config.checkpoint.every = Duration::ZERO),
            ("ledger.queue.bytes", |config| config.queue.bytes = 1),
            ("ledger.export.url", |config| config.export.url = "s3://b".into()),
            ("ledger.export.credentials", |config| config.export.url = "s3://bucket/some/where".into()),
            ("ledger.export.credentials", |config| config.export.credentials = Secret::new("abc".into())),
            ("ledger.export.region", |config| config.export.region = "".into()),
            ("ledger.export.endpoint", |config| config.export.endpoint = "http://minio.example:9000".into()),
            ("ledger.export.folder", |config| {
                config.export.url = "s3://bucket".into();
                config.export.credentials = Secret::new("id:abc".into());
                config.export.folder = "here".into();
            }),
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

    #[test]
    fn plain_http_is_for_this_machine_unless_said_otherwise() {
        let allowed = |endpoint: &str, allow_http| {
            let export = ExportConfig { endpoint: endpoint.into(), allow_http, ..ExportConfig::default() };
            export.check().is_ok()
        };
        for endpoint in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:1", "https://s3.example/"]
        {
            assert!(allowed(endpoint, false), "{endpoint}");
        }
        assert!(!allowed("http://10.0.0.1", false) && allowed("http://10.0.0.1", true));
        for endpoint in ["ftp://a", "s3.example", "https://a/b", "https://a/?b"] {
            assert!(!allowed(endpoint, true), "{endpoint}");
        }
    }

    #[test]
    fn credentials_may_have_a_session_token() {
        let given = |text: &str| {
            let secret = Secret::new(text.into());
            ExportConfig::credentials(&secret).map(|parts| parts.map(str::to_owned))
        };
        assert_eq!(given("id:a/b+c="), Some(["id", "a/b+c=", ""].map(str::to_owned)));
        assert_eq!(given("id:secret:to:ken"), Some(["id", "secret", "to:ken"].map(str::to_owned)));
        for bad in ["", "id", "id:", ":secret", "id:sec ret"] {
            assert_eq!(given(bad), None, "{bad}");
        }
    }
}
