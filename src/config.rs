//! The whole configuration: one TOML file, environment over it, flags over that.
//!
//! `SWITCHBOARD__KNOWLEDGE__MAX_DOCUMENT_BYTES=1000` sets `knowledge.max_document_bytes`. Unknown
//! keys are errors. This is the one place that reads the environment.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Environment, Invalid};

/// The prefix of variables that set keys.
const PREFIX: &str = "SWITCHBOARD__";

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where this node keeps its state.
    pub(crate) data: DataFolder,
    /// The node's own listener and its drain.
    pub(crate) node: Node,
    /// Roles that run elsewhere: role to URL.
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) telemetry: switchboard_mesh::telemetry::Config,
    pub(crate) gateway: switchboard_gateway::Config,
    pub(crate) conversation: switchboard_conversation::Config,
    pub(crate) generation: switchboard_generation::Config,
    pub(crate) knowledge: switchboard_knowledge::Config,
    pub(crate) embeddings: switchboard_embeddings::Config,
    pub(crate) policy: switchboard_policy::Config,
    pub(crate) inference: switchboard_model_server::Config,
}

/// The folder for state; `switchboard-data` by default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct DataFolder(pub(crate) PathBuf);

impl Default for DataFolder {
    fn default() -> Self {
        Self("switchboard-data".into())
    }
}

/// The section `[node]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Where `serve` listens for other nodes.
    pub(crate) listen: std::net::SocketAddr,
    /// How long open calls may take to finish once the node drains.
    #[serde(with = "humantime_serde")]
    pub(crate) drain: std::time::Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 7070).into(), drain: std::time::Duration::from_secs(10) }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("config file {path:?} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    #[error("config file {path:?} is not TOML")]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    /// A key is unknown, or its value has the wrong type.
    #[error("{key} (from {origin}): {reason}")]
    Key { key: String, origin: Origin, reason: String },
    /// A value is out of range.
    #[error(transparent)]
    Value(#[from] Invalid),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File(PathBuf),
    Variable(String),
    Flag(String),
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "--set {name}"),
            Self::Unknown => f.write_str("the configuration"),
        }
    }
}

/// The environment of this process.
pub(crate) struct Process;

impl Environment for Process {
    fn variables(&self) -> Vec<(String, String)> {
        // Values that are not UTF-8 cannot be ours.
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }
}

/// Loads the configuration: defaults, then the file, then the environment, then `overrides` (pairs of
/// key and value, from flags).
///
/// # Errors
/// [`ConfigError`], which names the key, where it came from, and what is allowed.
pub(crate) fn load(
    file: Option<&PathBuf>,
    environment: &dyn Environment,
    overrides: &[(String, String)],
) -> Result<Config, ConfigError> {
    // Everything stands on the defaults, so that a part of a table can be set alone.
    let defaults = toml::Table::try_from(Config::default());
    let mut table = defaults.unwrap_or_default();
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let file: toml::Table = text
            .parse()
            .map_err(|source| ConfigError::Syntax { path: path.clone(), source: Box::new(source) })?;
        lay_over(&mut table, file);
    }
    let mut variables = environment.variables();
    variables.sort();
    for (name, value) in &variables {
        if let Some(key) = name.strip_prefix(PREFIX) {
            let key = key.to_lowercase().replace("__", ".");
            set(&mut table, &key, value, Origin::Variable(name.clone()), &mut origins)?;
        }
    }
    for (key, value) in overrides {
        set(&mut table, key, value, Origin::Flag(key.clone()), &mut origins)?;
    }
    let parsed: Result<Config, _> = serde_path_to_error::deserialize(toml::Value::Table(table));
    let config = parsed.map_err(|error| {
        let key = error.path().to_string();
        let reason = error.inner().to_string().trim().to_owned();
        // An unknown key is reported at its parent: look for what was set below it as well.
        let below = |set: &str| set == key || set.starts_with(&format!("{key}.")) || key == ".";
        let origin =
            origins.iter().find(|(set, _)| below(set) && (**set == key || reason_names(&reason, set)));
        let origin = origin.map(|(_, origin)| origin.clone());
        let origin =
            origin.or_else(|| file.map(|path| Origin::File(path.clone()))).unwrap_or(Origin::Unknown);
        ConfigError::Key { key, origin, reason }
    })?;
    config.check()?;
    Ok(config)
}

fn reason_names(reason: &str, key: &str) -> bool {
    key.rsplit('.').next().is_some_and(|last| reason.contains(&format!("`{last}`")))
}

/// Lays the keys of `over` over those of `under`, table by table.
fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Sets a dotted key. Where the default is no string, the text is taken as TOML if it is a number, a
/// boolean or an array; else it is the string.
fn set(
    table: &mut toml::Table,
    key: &str,
    text: &str,
    origin: Origin,
    origins: &mut BTreeMap<String, Origin>,
) -> Result<(), ConfigError> {
    let parsed = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = match parsed {
        Some(
            value @ (toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Array(_)),
        ) => value,
        _ => toml::Value::String(text.to_owned()),
    };
    let mut parts: Vec<&str> = key.split('.').collect();
    let Some(last) = parts.pop().filter(|last| !last.is_empty()) else {
        return Err(ConfigError::Key {
            key: key.into(),
            origin,
            reason: "a key such as knowledge.chunk_characters".into(),
        });
    };
    let mut place = table;
    for part in parts {
        let next = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = match next {
            toml::Value::Table(next) => next,
            _ => {
                let reason = format!("`{part}` is a value, not a table");
                return Err(ConfigError::Key { key: key.into(), origin, reason });
            }
        };
    }
    let value = if place.get(last).is_some_and(toml::Value::is_str) {
        toml::Value::String(text.to_owned())
    } else {
        value
    };
    place.insert(last.to_owned(), value);
    origins.insert(key.to_owned(), origin);
    Ok(())
}

impl Config {
    /// Checks every section.
    ///
    /// # Errors
    /// The first key whose value is not allowed.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.telemetry.check()?;
        self.gateway.check()?;
        self.conversation.check()?;
        self.generation.check()?;
        self.knowledge.check()?;
        self.embeddings.check()?;
        self.policy.check()?;
        self.inference.check()?;
        for (role, url) in &self.peers {
            let key = format!("peers.{role}");
            if crate::roles::Role::parse(role).is_none() {
                return Err(Invalid::new(key, url, format!("a role as key: {}", crate::roles::names())));
            }
            if url
                .parse::<http::Uri>()
                .ok()
                .filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some())
                .is_none()
            {
                return Err(Invalid::new(key, url, "a URL such as http://127.0.0.1:7070"));
            }
        }
        Ok(())
    }

    /// The peers as addresses. Call after [`Config::check`].
    pub(crate) fn remote(&self) -> BTreeMap<String, http::Uri> {
        self.peers.iter().filter_map(|(role, url)| Some((role.clone(), url.parse().ok()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map(Vec<(String, String)>);

    impl Environment for Map {
        fn variables(&self) -> Vec<(String, String)> {
            self.0.clone()
        }
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switchboard.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn flags_stand_over_environment_over_file() {
        let (_folder, path) = file("[generation]\nmin_answerability = 0.1\n[conversation]\npassages = 3\n");
        let environment = Map(vec![
            pair("SWITCHBOARD__GENERATION__MIN_ANSWERABILITY", "0.2"),
            pair("SWITCHBOARD_API_KEY", "x"),
        ]);
        let config = load(Some(&path), &environment, &[pair("conversation.max_turns", "7")]).unwrap();
        assert!((config.generation.min_answerability - 0.2).abs() < 1e-6);
        assert_eq!((config.conversation.passages, config.conversation.max_turns), (3, 7));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let (_folder, path) = file("[generation]\nmin_answerabilty = 0.1\n");
        let message = load(Some(&path), &Map(vec![]), &[]).unwrap_err().to_string();
        assert!(message.contains("min_answerabilty") && message.contains("switchboard.toml"), "{message}");
        assert!(message.contains("min_answerability"), "what is allowed: {message}");
    }

    #[test]
    fn a_wrong_type_names_key_and_variable() {
        let environment = Map(vec![pair("SWITCHBOARD__CONVERSATION__PASSAGES", "many")]);
        let message = load(None, &environment, &[]).unwrap_err().to_string();
        assert!(message.contains("conversation.passages"), "{message}");
        assert!(message.contains("SWITCHBOARD__CONVERSATION__PASSAGES"), "{message}");
    }

    #[test]
    fn a_value_out_of_range_says_the_range() {
        let message =
            load(None, &Map(vec![]), &[pair("conversation.passages", "0")]).unwrap_err().to_string();
        assert_eq!(message, "conversation.passages = 0 is not allowed: from 1 to 50");
    }

    #[test]
    fn a_part_of_a_table_can_be_set_alone() {
        let overrides = [pair("conversation.chat.whole", "5s"), pair("data", "2024")];
        let config = load(None, &Map(vec![]), &overrides).unwrap();
        assert_eq!(config.conversation.chat.whole, std::time::Duration::from_secs(5));
        assert_eq!(config.data.0, PathBuf::from("2024"));
    }

    #[test]
    fn the_printed_defaults_load_again() {
        let printed = toml::to_string(&Config::default()).unwrap();
        let (_folder, path) = file(&printed);
        let loaded = load(Some(&path), &Map(vec![]), &[]).unwrap();
        assert_eq!(toml::to_string(&loaded).unwrap(), printed);
    }
}
