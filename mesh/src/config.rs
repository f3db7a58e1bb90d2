//! Configuration: pieces that every section is made of, and how a binary loads its own.
//!
//! One TOML file, environment over it, flags over that; [`load()`] is the one place that reads the
//! environment, through [`Environment`].

mod flag;
mod load;

use std::{fmt, path::PathBuf};

pub use flag::parse;
pub use load::{ConfigError, Origin, Process, load};
use serde::{Deserialize, Serialize};

/// A value that is not allowed: which key, what it is, what may stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value} is not allowed: {allowed}")]
pub struct Invalid {
    /// The full key, such as `gateway.max_body_bytes`.
    pub key: String,
    /// The value as given; `***` for a secret.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Invalid {
    /// Names a key, its value and what is allowed.
    pub fn new(key: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// Checks that `value` lies in `range`.
///
/// # Errors
/// [`Invalid`], which names the key and the range.
pub fn within<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(Invalid::new(key, value, format!("from {} to {}", range.start(), range.end())))
    }
}

/// The process environment, or a map in tests.
pub trait Environment {
    /// All variables.
    fn variables(&self) -> Vec<(String, String)>;
}

/// What is printed in place of a secret.
const MASK: &str = "***";

/// A string that is never printed.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// Whether this is what is printed of a secret, as in a configuration that was printed and read again.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.0 == MASK
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // That there is none may be seen, and must not read back as one.
        serializer.serialize_str(if self.0.is_empty() { "" } else { MASK })
    }
}

/// For values that may be absent, in `#[serde(with = ..)]`: TOML has no null, so an empty string says so.
pub mod empty_is_none {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes the value as a string; the empty one for none.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }

    /// Reads a string that is empty or says a value.
    ///
    /// # Errors
    /// What the value's own parser says.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error| D::Error::custom(format!("{error}: {text:?}")))
    }
}

/// A folder that must be writable: made if missing, tried with a file.
///
/// # Errors
/// [`Invalid`], which names the key, the folder and the system's reason.
pub fn writable_folder(key: &str, folder: &std::path::Path) -> Result<(), Invalid> {
    let refuse = |error: std::io::Error| {
        Invalid::new(key, folder.display(), format!("a folder that this user can write to ({error})"))
    };
    std::fs::create_dir_all(folder).map_err(refuse)?;
    let probe: PathBuf = folder.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"probe").map_err(refuse)?;
    std::fs::remove_file(&probe).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("sk-123".into());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        #[derive(Serialize)]
        struct Section {
            none: Secret,
            one: Secret,
        }
        let printed = toml::to_string(&Section { none: Secret::new(String::new()), one: secret }).unwrap();
        assert_eq!(printed, "none = \"\"\none = \"***\"\n");
    }

    #[test]
    fn a_range_error_names_key_value_and_range() {
        let error = within("knowledge.limit", 0, 1..=100).unwrap_err();
        assert_eq!(error.to_string(), "knowledge.limit = 0 is not allowed: from 1 to 100");
    }
}
