//! The section `[discovery]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::{Uri, uri::Authority};
use serde::{Deserialize, Deserializer, Serialize};

use super::etcd::Direct;
use crate::config::{Invalid, within};

/// How nodes find each other.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// URLs of etcd's endpoints, as a list or with commas between, such as `http://127.0.0.1:2379`; none
    /// goes without a registry.
    #[serde(deserialize_with = "list")]
    pub etcd: Vec<String>,
    /// The user of etcd; empty where it asks for none.
    pub username: String,
    /// File that holds the user's password.
    pub password_file: PathBuf,
    /// PEM file of the authorities to trust where the URLs say https; empty takes the system's.
    pub ca_file: PathBuf,
    /// PEM file of the certificate that is shown to etcd; empty shows none.
    pub certificate: PathBuf,
    /// PEM file of the key of `certificate`.
    pub key: PathBuf,
    /// Names the nodes that belong together: lower-case letters, digits and `-`.
    pub cluster: String,
    /// How long a node that says nothing more stays in the registry; whole seconds, 2 to 600. The same for
    /// all nodes of a cluster.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// File under the data folder that keeps what was last known of the other nodes, for a start without
    /// etcd; empty keeps none.
    pub snapshot: String,
    /// `host:port` that others reach this node at; port 0 stands for the one of `node.listen`. Empty takes
    /// all of `node.listen`.
    pub advertise: String,
    /// How often names of peers written `dns://host:port` are looked up again, 1 s to 1 h.
    #[serde(with = "humantime_serde")]
    pub dns_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            etcd: Vec::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            cluster: "default".into(),
            ttl: Duration::from_secs(12),
            snapshot: "members".into(),
            advertise: String::new(),
            dns_interval: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let uris = self.endpoints()?;
        let secure = uris.iter().any(|uri| uri.scheme_str() == Some("https"));
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        if self.username.is_empty() != empty(&self.password_file) {
            let given = self.password_file.display();
            let allowed = "set where discovery.username is, and only there";
            return Err(Invalid::new("discovery.password_file", given, allowed));
        }
        if empty(&self.certificate) != empty(&self.key) {
            let given = self.certificate.display();
            let allowed = "set where discovery.key is, and only there";
            return Err(Invalid::new("discovery.certificate", given, allowed));
        }
        for (key, file) in
            [("discovery.ca_file", &self.ca_file), ("discovery.certificate", &self.certificate)]
        {
            if !empty(file) && !secure {
                return Err(Invalid::new(
                    key,
                    file.display(),
                    "empty where no URL of discovery.etcd is https",
                ));
            }
        }
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.cluster.is_empty() || self.cluster.len() > 63 || !self.cluster.chars().all(named) {
            let allowed = "1 to 63 lower-case letters, digits and -";
            return Err(Invalid::new("discovery.cluster", &self.cluster, allowed));
        }
        within("discovery.ttl", self.ttl.as_secs_f64(), 2.0..=600.0)?;
        if self.ttl.subsec_nanos() != 0 {
            return Err(Invalid::new("discovery.ttl", self.ttl.as_secs_f64(), "whole seconds"));
        }
        if self.snapshot.contains(['/', '\\', '\0']) || matches!(&*self.snapshot, "." | "..") {
            let allowed = "the name of a file in the data folder, or empty";
            return Err(Invalid::new("discovery.snapshot", &self.snapshot, allowed));
        }
        if !self.advertise.is_empty() && split(&self.advertise).is_none() {
            let allowed = "empty, or host:port that others can reach, such as 10.0.0.7:7070";
            return Err(Invalid::new("discovery.advertise", &self.advertise, allowed));
        }
        within("discovery.dns_interval", self.dns_interval.as_secs_f64(), 1.0..=3600.0)
    }

    /// `host:port` that others reach this node at, which listens on `bound`.
    ///
    /// # Errors
    /// [`Invalid`] where it listens on every address and nothing says which one others can reach.
    pub fn advertised(&self, bound: SocketAddr) -> Result<String, Invalid> {
        if self.advertise.is_empty() {
            if bound.ip().is_unspecified() {
                let allowed = format!("host:port that others can reach, since node.listen is {bound}");
                return Err(Invalid::new("discovery.advertise", "\"\"", allowed));
            }
            return Ok(bound.to_string());
        }
        match split(&self.advertise) {
            Some((host, 0)) => Ok(format!("{host}:{}", bound.port())),
            _ => Ok(self.advertise.clone()),
        }
    }

    /// The endpoints of etcd.
    pub(super) fn endpoints(&self) -> Result<Vec<Uri>, Invalid> {
        let parse = |url: &String| {
            let uri = url.parse::<Uri>().ok().filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty())
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && matches!(uri.path(), "" | "/")
            });
            uri.ok_or_else(|| {
                let allowed = "URLs such as http://127.0.0.1:2379; users go to discovery.username";
                // A URL may hold a password, and is not repeated then.
                let shown = if url.contains('@') { "***" } else { url };
                Invalid::new("discovery.etcd", shown, allowed)
            })
        };
        self.etcd.iter().map(parse).collect()
    }

    /// How connections to etcd are made.
    pub(super) fn direct(&self) -> Direct {
        Direct {
            authorities: self.ca_file.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// Host, in brackets where it is an IPv6 address, and port of `host:port`. The host is one that can be called.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let authority: Authority = address.parse().ok().filter(|_| !address.contains('@'))?;
    let port = authority.port_u16()?;
    let host = &address[..address.rfind(':')?];
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let callable = bare.parse::<std::net::IpAddr>().map_or(true, |ip| !ip.is_unspecified());
    (callable && !bare.is_empty() && address.len() <= 255).then_some((host, port))
}

/// Reads a list, or a string with commas between.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of URLs, or a string of them with commas between")]
    enum Urls {
        List(Vec<String>),
        Line(String),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::List(list) => list,
        Urls::Line(line) => {
            line.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config { etcd: vec!["http://127.0.0.1:2379".into()], ..Config::default() };
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        assert!(Config::default().check().is_ok());
        for (key, error) in [
            ("discovery.etcd", refusal(|config| config.etcd = vec!["127.0.0.1:2379".into()])),
            ("discovery.etcd", refusal(|config| config.etcd = vec!["ftp://a:1".into()])),
            ("discovery.etcd", refusal(|config| config.etcd = vec!["http://a:1/path".into()])),
            ("discovery.password_file", refusal(|config| config.username = "root".into())),
            ("discovery.certificate", refusal(|config| config.key = "key.pem".into())),
            ("discovery.ca_file", refusal(|config| config.ca_file = "ca.pem".into())),
            ("discovery.cluster", refusal(|config| config.cluster = "a/b".into())),
            ("discovery.cluster", refusal(|config| config.cluster = String::new())),
            ("discovery.ttl", refusal(|config| config.ttl = Duration::from_secs(1))),
            ("discovery.ttl", refusal(|config| config.ttl = Duration::from_millis(2500))),
            ("discovery.snapshot", refusal(|config| config.snapshot = "../members".into())),
            ("discovery.advertise", refusal(|config| config.advertise = "host".into())),
            ("discovery.advertise", refusal(|config| config.advertise = "0.0.0.0:7070".into())),
            ("discovery.dns_interval", refusal(|config| config.dns_interval = Duration::ZERO)),
        ] {
            assert!(error.starts_with(key), "{key}: {error}");
        }
        let secret = refusal(|config| config.etcd = vec!["http://root:hush@a:1".into()]);
        assert!(secret.starts_with("discovery.etcd") && !secret.contains("hush"), "{secret}");
    }

    #[test]
    fn endpoints_come_as_a_list_or_a_line() {
        let list: Config = toml::from_str(r#"etcd = ["http://a:1", "http://b:2"]"#).unwrap();
        let line: Config = toml::from_str(r#"etcd = "http://a:1, http://b:2""#).unwrap();
        assert_eq!(list.etcd, line.etcd);
        assert_eq!(list.endpoints().unwrap().len(), 2);
        let none: Config = toml::from_str(r#"etcd = """#).unwrap();
        assert!(none.etcd.is_empty());
        assert!(toml::from_str::<Config>("etcd = 3").unwrap_err().to_string().contains("list of URLs"));
        assert!(toml::from_str::<Config>("etdc = []").is_err());
    }

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        let mut config = Config::default();
        let (one, all) = (([10, 0, 0, 7], 7070).into(), ([0, 0, 0, 0], 7071).into());
        assert_eq!(config.advertised(one).unwrap(), "10.0.0.7:7070");
        let refused = config.advertised(all).unwrap_err().to_string();
        assert!(refused.starts_with("discovery.advertise") && refused.contains("node.listen"), "{refused}");
        config.advertise = "node-1.example:0".into();
        assert_eq!(config.advertised(all).unwrap(), "node-1.example:7071");
        config.advertise = "[fd00::7]:80".into();
        assert_eq!(config.advertised(all).unwrap(), "[fd00::7]:80");
    }
}
