//! The section `[identity]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spiffe;
use crate::config::Invalid;

/// Who this node is to other nodes. Without files, nodes talk in plain text and trust whoever calls.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// PEM file of this node's certificate, followed by those between it and an authority.
    pub certificate: PathBuf,
    /// PEM file of the certificate's key: PKCS#8, SEC1 or RSA.
    pub key: PathBuf,
    /// PEM file of the authorities of the mesh.
    pub authorities: PathBuf,
    /// The SPIFFE trust domain that every certificate of the mesh names.
    pub domain: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            authorities: PathBuf::new(),
            domain: "switchboard".into(),
        }
    }
}

impl Config {
    /// Checks what can be checked without reading the files.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let files = self.files();
        if !self.is_plain()
            && let Some((key, path)) = files.into_iter().find(|(_, path)| is_empty(path))
        {
            let allowed = "a PEM file: certificate, key and authorities are set together, or none of them";
            return Err(Invalid::new(key, format!("{:?}", path.display()), allowed));
        }
        if !spiffe::is_domain(&self.domain) {
            let allowed = "a SPIFFE trust domain: 1 to 255 characters out of a-z, 0-9, ., - and _";
            return Err(Invalid::new("identity.domain", format!("{:?}", self.domain), allowed));
        }
        Ok(())
    }

    /// Whether no file is set.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.files().into_iter().all(|(_, path)| is_empty(path))
    }

    /// Each file with its key.
    pub(super) fn files(&self) -> [(&'static str, &Path); 3] {
        [
            ("identity.certificate", &self.certificate),
            ("identity.key", &self.key),
            ("identity.authorities", &self.authorities),
        ]
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_files_are_set_together_or_not_at_all() {
        assert!(Config::default().check().is_ok() && Config::default().is_plain());
        let whole = Config {
            certificate: "node.pem".into(),
            key: "node.key".into(),
            authorities: "ca.pem".into(),
            ..Config::default()
        };
        assert!(whole.check().is_ok() && !whole.is_plain());
        for (key, part) in [
            ("identity.certificate", Config { certificate: PathBuf::new(), ..whole.clone() }),
            ("identity.key", Config { key: PathBuf::new(), ..whole.clone() }),
            ("identity.authorities", Config { authorities: PathBuf::new(), ..whole.clone() }),
        ] {
            let error = part.check().unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains("together"), "{error}");
        }
    }

    #[test]
    fn a_domain_is_a_spiffe_trust_domain() {
        for bad in ["", "Acme", "spiffe://acme", "a/b", &"x".repeat(256)] {
            let error = Config { domain: bad.into(), ..Config::default() }.check().unwrap_err();
            assert_eq!(error.key, "identity.domain", "{bad:?}");
        }
    }
}
