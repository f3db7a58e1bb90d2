//! From a file, the environment and flags to a checked type.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Environment, Invalid};

/// The prefix of variables that set keys.
const PREFIX: &str = "SWITCHBOARD__";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("config file {path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("config file {path:?} is not TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it breaks off.
        source: Box<toml::de::Error>,
    },
    /// A key is unknown, or its value has the wrong type.
    #[error("{key} (from {origin}): {reason}")]
    Key {
        /// The key.
        key: String,
        /// Who set it.
        origin: Origin,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A value is out of range.
    #[error(transparent)]
    Value(#[from] Invalid),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// `--set`, or a flag that stands for it.
    Flag(String),
    /// Any of them.
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
pub struct Process;

impl Environment for Process {
    fn variables(&self) -> Vec<(String, String)> {
        // Values that are not UTF-8 cannot be ours.
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }
}

/// Loads a configuration: defaults, then the file, then the environment (`SWITCHBOARD__NODE__DRAIN`
/// sets `node.drain`), then `overrides` (pairs of key and value, from flags). `C` refuses unknown
/// keys by itself; its values are the caller's to check.
///
/// # Errors
/// [`ConfigError`], which names the key, where it came from, and what is allowed.
pub fn load<C: Default + Serialize + DeserializeOwned>(
    file: Option<&Path>,
    environment: &dyn Environment,
    overrides: &[(String, String)],
) -> Result<C, ConfigError> {
    // Everything stands on the defaults, so that a part of a table can be set alone.
    let defaults = toml::Table::try_from(C::default());
    let mut table = defaults.unwrap_or_default();
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file: toml::Table = text
            .parse()
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
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
    let parsed: Result<C, _> = serde_path_to_error::deserialize(toml::Value::Table(table));
    parsed.map_err(|error| {
        let key = error.path().to_string();
        let reason = error.inner().to_string().trim().to_owned();
        // An unknown key is reported at its parent: look for what was set below it as well.
        let below = |set: &str| set == key || set.starts_with(&format!("{key}.")) || key == ".";
        let origin =
            origins.iter().find(|(set, _)| below(set) && (**set == key || reason_names(&reason, set)));
        let origin = origin.map(|(_, origin)| origin.clone());
        let origin =
            origin.or_else(|| file.map(|path| Origin::File(path.to_owned()))).unwrap_or(Origin::Unknown);
        ConfigError::Key { key, origin, reason }
    })
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
            reason: "a key such as node.drain is expected".into(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::bootstrap::NodeConfig;

    use super::*;

    struct Map(Vec<(String, String)>);

    impl Environment for Map {
        fn variables(&self) -> Vec<(String, String)> {
            self.0.clone()
        }
    }

    #[derive(Default, serde::Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Small {
        node: NodeConfig,
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn any_section_can_be_loaded_alone() {
        let environment = Map(vec![pair("SWITCHBOARD__NODE__DRAIN", "3s"), pair("OTHER", "x")]);
        let small: Small = load(None, &environment, &[pair("node.metrics", "127.0.0.1:9091")]).unwrap();
        assert_eq!(small.node.drain, Duration::from_secs(3));
        assert_eq!(small.node.metrics, Some(([127, 0, 0, 1], 9091).into()));
        assert_eq!(small.node.listen, NodeConfig::default().listen);
    }

    #[test]
    fn an_empty_address_is_none_and_another_must_be_one() {
        let small: Small = load(None, &Map(vec![]), &[pair("node.metrics", "")]).unwrap();
        assert_eq!(small.node.metrics, None);
        let error = load::<Small>(None, &Map(vec![]), &[pair("node.metrics", "here")]).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("node.metrics") && error.contains("\"here\""), "{error}");
    }

    #[test]
    fn a_section_that_this_binary_lacks_is_an_error_that_names_it() {
        let environment = Map(vec![pair("SWITCHBOARD__GATEWAY__HTTP", "127.0.0.1:1")]);
        let error = load::<Small>(None, &environment, &[]).err().unwrap().to_string();
        assert!(error.contains("`gateway`") && error.contains("`node`"), "{error}");
    }

    #[test]
    fn a_key_below_a_value_is_refused() {
        let overrides = [pair("node.listen", "127.0.0.1:1"), pair("node.listen.port", "2")];
        let error = load::<Small>(None, &Map(vec![]), &overrides).err().unwrap().to_string();
        assert!(error.contains("node.listen.port") && error.contains("not a table"), "{error}");
        assert!(load::<Small>(None, &Map(vec![]), &[pair("", "1")]).is_err());
    }
}
