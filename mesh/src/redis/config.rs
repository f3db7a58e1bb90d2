//! The section `[redis]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, Secret, within};

/// What stands behind the addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One server.
    #[default]
    Single,
    /// Sentinels, which tell who the master is.
    Sentinel,
    /// Nodes of a Cluster.
    Cluster,
}

/// How Redis is reached.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `host:port` of the server, of the Sentinels, or of some nodes of the Cluster; none goes without
    /// Redis.
    pub nodes: Vec<String>,
    /// What they are: `single`, `sentinel` or `cluster`.
    pub mode: Mode,
    /// The name that the Sentinels have for the master.
    pub master: String,
    /// The ACL user; empty takes the default one.
    pub user: String,
    /// The user's password; empty for none.
    pub password: Secret,
    /// File that holds the password, in place of `password`.
    pub password_file: PathBuf,
    /// The database, which a Cluster has only one of.
    pub database: i64,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// PEM file of the authorities to trust; empty takes the system's.
    pub authorities: PathBuf,
    /// PEM files of this node's certificate and its key, where the server asks for one.
    pub certificate: PathBuf,
    /// The key of `certificate`.
    pub key: PathBuf,
    /// How long a connection may take to be made.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            mode: Mode::default(),
            master: "mymaster".into(),
            user: String::new(),
            password: Secret::new(String::new()),
            password_file: PathBuf::new(),
            database: 0,
            tls: false,
            authorities: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        for node in &self.nodes {
            address(node)?;
        }
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        if self.mode == Mode::Single && self.nodes.len() > 1 {
            let allowed = "one address; for several, redis.mode says what they are: sentinel or cluster";
            return Err(Invalid::new("redis.nodes", self.nodes.join(", "), allowed));
        }
        if self.mode == Mode::Sentinel && self.master.is_empty() {
            return Err(Invalid::new(
                "redis.master",
                "\"\"",
                "the name that the Sentinels have for the master",
            ));
        }
        if self.mode == Mode::Cluster && self.database != 0 {
            return Err(Invalid::new("redis.database", self.database, "0: a Cluster has one database"));
        }
        if self.password.is_masked() {
            let allowed = "the password itself: a configuration is printed without it";
            return Err(Invalid::new("redis.password", &self.password, allowed));
        }
        if !self.password.expose().is_empty() && !empty(&self.password_file) {
            let given = self.password_file.display();
            return Err(Invalid::new("redis.password_file", given, "empty where redis.password is set"));
        }
        if empty(&self.certificate) != empty(&self.key) {
            let given = self.certificate.display();
            return Err(Invalid::new("redis.certificate", given, "set where redis.key is, and only there"));
        }
        if !self.tls && (!empty(&self.authorities) || !empty(&self.certificate)) {
            return Err(Invalid::new("redis.tls", false, "true where certificates are set"));
        }
        within("redis.database", self.database, 0..=1 << 20)?;
        within("redis.connect_timeout", self.connect_timeout.as_secs_f64(), 0.01..=60.0)
    }

    /// The password, from the file where there is one.
    ///
    /// # Errors
    /// [`Invalid`] when the file cannot be read.
    pub(super) fn secret(&self) -> Result<Secret, Invalid> {
        if self.password_file.as_os_str().is_empty() {
            return Ok(self.password.clone());
        }
        let text = file("redis.password_file", &self.password_file)?;
        let text = String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned();
        Ok(Secret::new(text))
    }
}

/// Host and port of `host:port`.
pub(super) fn address(node: &str) -> Result<(String, u16), Invalid> {
    let parts = node.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() && !host.contains("//") => {
            Ok((host.trim_matches(['[', ']']).to_owned(), port))
        }
        _ => Err(Invalid::new("redis.nodes", node, "host:port, such as 127.0.0.1:6379")),
    }
}

/// Reads a file that a key names.
pub(super) fn file(key: &str, path: &PathBuf) -> Result<Vec<u8>, Invalid> {
    std::fs::read(path)
        .map_err(|error| Invalid::new(key, path.display(), format!("a file that can be read ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config { nodes: vec!["localhost:6379".into()], ..Config::default() };
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        assert!(Config::default().check().is_ok());
        let two = || vec!["a:1".to_owned(), "b:2".to_owned()];
        for (key, error) in [
            ("redis.nodes", refusal(|config| config.nodes = vec!["redis://localhost:6379".into()])),
            ("redis.nodes", refusal(|config| config.nodes = vec!["localhost".into()])),
            ("redis.nodes", refusal(|config| config.nodes = two())),
            (
                "redis.master",
                refusal(|config| (config.mode, config.master) = (Mode::Sentinel, String::new())),
            ),
            ("redis.database", refusal(|config| (config.mode, config.database) = (Mode::Cluster, 3))),
            ("redis.certificate", refusal(|config| config.certificate = "a.pem".into())),
            ("redis.tls", refusal(|config| config.authorities = "a.pem".into())),
            ("redis.password", refusal(|config| config.password = Secret::new("***".into()))),
            ("redis.connect_timeout", refusal(|config| config.connect_timeout = Duration::ZERO)),
        ] {
            assert!(error.starts_with(key), "{key}: {error}");
        }
        let both = refusal(|config| {
            (config.password, config.password_file) = (Secret::new("hush".into()), "p".into());
        });
        assert!(both.contains("redis.password_file") && !both.contains("hush"), "{both}");
    }

    #[test]
    fn addresses_may_be_of_the_sixth_version() {
        assert_eq!(address("[::1]:6379").unwrap(), ("::1".into(), 6379));
        assert_eq!(address("redis:7").unwrap(), ("redis".into(), 7));
    }
}
