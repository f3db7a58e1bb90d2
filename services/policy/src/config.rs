//! The section `[policy]`.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, time::Duration};

use mesh::{
    Tenant,
    config::{Invalid, Secret, within},
};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

use crate::vault::Keys;

/// The section `[policy]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of bundles, each a folder in it; empty where only the base that is built in decides.
    pub bundles: PathBuf,
    /// The bundle under every tenant's own; empty takes the one that is built in.
    pub base: String,
    /// The bundle of tenants that `tenants` does not name; empty leaves them the base alone.
    pub bundle: String,
    /// The time that a bundle's entry point may take, 1 ms to 1 s; what takes longer is cut off, and the text or
    /// action goes no further. A warm decision takes well under 0.1 ms; the rest is for a machine under load.
    #[serde(with = "humantime_serde")]
    pub evaluation: Duration,
    /// Each tenant's own bundle, by the tenant's name.
    pub tenants: BTreeMap<String, String>,
    /// Detectors that are models.
    pub models: ModelsConfig,
    /// What is held of the personal data that was redacted.
    pub vault: VaultConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bundles: PathBuf::new(),
            base: String::new(),
            bundle: String::new(),
            evaluation: Duration::from_millis(100),
            tenants: BTreeMap::new(),
            models: ModelsConfig::default(),
            vault: VaultConfig::default(),
        }
    }
}

/// The section `[policy.models]`: detectors that are models of the mesh's inference nodes. None is asked unless
/// it is named. Where one is away or late, patterns and rules decide alone, and the verdict says so.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// The token classifier that finds names of persons and places, which are then replaced as other personal
    /// data is; empty asks none.
    pub names: String,
    /// Its labels that are persons, without `B-` and `I-`.
    pub persons: Vec<String>,
    /// Its labels that are places; empty leaves places as they are, which searches find better by.
    pub places: Vec<String>,
    /// Whether names are looked for in documents as well. No turn uses a document's redaction, and those of a
    /// company are seldom secret.
    pub names_in_documents: bool,
    /// The lowest score that makes a name, 0 to 1.
    pub names_score: f64,
    /// The classifier that tells texts which give orders to the system; empty asks none.
    pub injection: String,
    /// Its labels that mean so; the highest of them counts.
    pub injection_labels: Vec<String>,
    /// The lowest score that makes a finding, 0.5 to 1.
    pub injection_score: f64,
    /// The time that both have together for a text, 1 ms to 1 s.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Characters that are read of a text, 100 to 64,000; of a longer one rules alone see the rest.
    pub characters: usize,
    /// Characters that a model is given at once, 50 to 8,000: so many as it reads without cutting them.
    pub window: usize,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            names: String::new(),
            persons: list(&["PER", "PERSON"]),
            places: list(&["LOC", "GPE", "LOCATION"]),
            names_in_documents: false,
            names_score: 0.6,
            injection: String::new(),
            injection_labels: list(&["INJECTION", "JAILBREAK", "injection", "LABEL_1"]),
            injection_score: 0.8,
            deadline: Duration::from_millis(40),
            characters: 8_000,
            window: 500,
        }
    }
}

impl ModelsConfig {
    fn check(&self) -> Result<(), Invalid> {
        let fits = |name: &str| name.len() <= 128 && !name.contains(char::is_control);
        for (key, name) in
            [("policy.models.names", &self.names), ("policy.models.injection", &self.injection)]
        {
            if !fits(name) {
                return Err(Invalid::new(key, name.escape_debug(), "the name of a model, or empty"));
            }
        }
        for (key, labels, needed) in [
            ("policy.models.persons", &self.persons, false),
            ("policy.models.places", &self.places, false),
            ("policy.models.injection_labels", &self.injection_labels, !self.injection.is_empty()),
        ] {
            let sound = labels.iter().all(|label| !label.is_empty() && fits(label));
            if !sound || labels.len() > 64 || (needed && labels.is_empty()) {
                return Err(Invalid::new(
                    key,
                    format!("{labels:?}"),
                    "a list of at most 64 labels of the model",
                ));
            }
        }
        within("policy.models.names_score", self.names_score, 0.0..=1.0)?;
        within("policy.models.injection_score", self.injection_score, 0.5..=1.0)?;
        let allowed = Duration::from_millis(1)..=Duration::from_secs(1);
        if !allowed.contains(&self.deadline) {
            let value = format!("{:?}", self.deadline);
            return Err(Invalid::new("policy.models.deadline", value, "from 1ms to 1s"));
        }
        within("policy.models.characters", self.characters, 100..=64_000)?;
        within("policy.models.window", self.window, 50..=8_000)
    }
}

/// The section `[policy.vault]`: how much personal data is held, where, and for how long.
///
/// With `keys` or `keys_file` it is stored in the node's data folder, sealed; without, it is in memory alone.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Conversations held for each tenant, 1 to 1,000,000; beyond that the one unused for longest is
    /// forgotten. A busy tenant costs another none of its conversations.
    pub conversations: usize,
    /// Values held for each conversation, 1 to 10,000; beyond that the oldest is forgotten. A value
    /// takes some 100 bytes.
    pub values: usize,
    /// How long a conversation is held in memory after its last use, 1 s to 7 days.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// How long a conversation's values are stored after its last use, 1 hour to 10 years.
    #[serde(with = "humantime_serde")]
    pub stored: Duration,
    /// Keys that stored values are sealed with: an id, `:`, and 64 hexadecimal digits (32 random bytes), with
    /// commas between. The first one writes, all read; what an older one sealed is sealed anew as it is used.
    /// Best given by the environment.
    pub keys: Secret,
    /// File that holds the keys, one a line, in place of `keys`.
    pub keys_file: PathBuf,
}

/// The largest file of keys that is read.
const MOST_KEY_BYTES: u64 = 16 << 10;

impl VaultConfig {
    /// The keys; `None` where values are held in memory alone. Reads the file where there is one.
    ///
    /// # Errors
    /// [`Invalid`], which names the key and shows nothing of a secret.
    pub(crate) fn keys(&self) -> Result<Option<Keys>, Invalid> {
        if self.keys_file.as_os_str().is_empty() {
            return Keys::parse("policy.vault.keys", &self.keys);
        }
        let name = "policy.vault.keys_file";
        let refused = |allowed: String| Invalid::new(name, self.keys_file.display(), allowed);
        let mut text = String::new();
        let read = std::fs::File::open(&self.keys_file)
            .and_then(|file| file.take(MOST_KEY_BYTES + 1).read_to_string(&mut text));
        read.map_err(|error| refused(format!("a file of keys that can be read: {error}")))?;
        if text.len() as u64 > MOST_KEY_BYTES {
            return Err(refused("a file of at most 16 KiB".to_owned()));
        }
        match Keys::parse(name, &Secret::new(text))? {
            Some(keys) => Ok(Some(keys)),
            None => {
                Err(refused("a file with a key in it, such as 2026-11:<64 hexadecimal digits>".to_owned()))
            }
        }
    }

    fn check_keys(&self) -> Result<(), Invalid> {
        if self.keys.is_masked() {
            let allowed = "the keys themselves: a configuration is printed without them";
            return Err(Invalid::new("policy.vault.keys", &self.keys, allowed));
        }
        if !self.keys.expose().is_empty() && !self.keys_file.as_os_str().is_empty() {
            let given = self.keys_file.display();
            return Err(Invalid::new(
                "policy.vault.keys_file",
                given,
                "empty where policy.vault.keys is set",
            ));
        }
        Keys::parse("policy.vault.keys", &self.keys).map(drop)
    }
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self {
            conversations: 10_000,
            values: 100,
            keep: Duration::from_secs(3600),
            stored: Duration::from_secs(30 * 86_400),
            keys: Secret::new(String::new()),
            keys_file: PathBuf::new(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(1);
        if !allowed.contains(&self.evaluation) {
            let value = format!("{:?}", self.evaluation);
            return Err(Invalid::new("policy.evaluation", value, "from 1ms to 1s"));
        }
        for (tenant, name) in &self.tenants {
            let key = format!("policy.tenants.{tenant}");
            Tenant::try_new(tenant).map_err(|allowed| Invalid::new(key.as_str(), name, allowed))?;
            self.check_bundle(&key, name)?;
        }
        for (key, name) in [("policy.base", &self.base), ("policy.bundle", &self.bundle)] {
            if !name.is_empty() {
                self.check_bundle(key, name)?;
            }
        }
        within("policy.vault.conversations", self.vault.conversations, 1..=1_000_000)?;
        within("policy.vault.values", self.vault.values, 1..=10_000)?;
        let allowed = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
        if !allowed.contains(&self.vault.keep) {
            let value = format!("{:?}", self.vault.keep);
            return Err(Invalid::new("policy.vault.keep", value, "from 1s to 7days"));
        }
        let allowed = Duration::from_secs(3600)..=Duration::from_secs(3_650 * 86_400);
        if !allowed.contains(&self.vault.stored) {
            let value = format!("{:?}", self.vault.stored);
            return Err(Invalid::new("policy.vault.stored", value, "from 1hour to 3650days"));
        }
        self.vault.check_keys()?;
        self.models.check()
    }

    /// A bundle's name is that of a folder, and must not lead elsewhere.
    fn check_bundle(&self, key: &str, name: &str) -> Result<(), Invalid> {
        // The same characters as a tenant's name.
        if Tenant::try_new(name).is_err() {
            return Err(Invalid::new(key, name, "a bundle: 1 to 64 characters out of a-z, 0-9, - and _"));
        }
        if self.bundles.as_os_str().is_empty() {
            return Err(Invalid::new(key, name, "set only where policy.bundles is, the folder of bundles"));
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
    fn a_bundle_is_a_folder_in_the_folder_of_bundles() {
        let with = |name: &str| Config {
            bundles: "policies".into(),
            tenants: [("acme".to_owned(), name.to_owned())].into(),
            ..Config::default()
        };
        assert_eq!(with("retail").check(), Ok(()));
        for bad in ["", "../secrets", "a/b", "Retail"] {
            assert_eq!(with(bad).check().unwrap_err().key, "policy.tenants.acme", "{bad}");
        }
        let nowhere = Config { bundles: PathBuf::new(), ..with("retail") };
        assert!(nowhere.check().unwrap_err().to_string().contains("policy.bundles"));
        let slow = Config { evaluation: Duration::from_secs(5), ..Config::default() };
        assert_eq!(slow.check().unwrap_err().key, "policy.evaluation");
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
        config.vault = VaultConfig { stored: Duration::ZERO, ..VaultConfig::default() };
        assert_eq!(config.check().unwrap_err().key, "policy.vault.stored");
        config.vault = VaultConfig { keys: Secret::new("a:12".into()), ..VaultConfig::default() };
        assert_eq!(config.check().unwrap_err().key, "policy.vault.keys");
    }

    #[test]
    fn a_value_of_the_models_that_is_out_of_range_is_named() {
        let default = ModelsConfig::default;
        for (models, key) in [
            (ModelsConfig { names: "a\nb".into(), ..default() }, "names"),
            (ModelsConfig { persons: vec![String::new()], ..default() }, "persons"),
            (
                ModelsConfig { injection: "a".into(), injection_labels: Vec::new(), ..default() },
                "injection_labels",
            ),
            (ModelsConfig { names_score: f64::NAN, ..default() }, "names_score"),
            (ModelsConfig { injection_score: 0.4, ..default() }, "injection_score"),
            (ModelsConfig { deadline: Duration::from_secs(2), ..default() }, "deadline"),
            (ModelsConfig { characters: 99, ..default() }, "characters"),
            (ModelsConfig { window: 8_001, ..default() }, "window"),
        ] {
            let error = Config { models, ..Config::default() }.check().unwrap_err();
            assert_eq!(error.key, format!("policy.models.{key}"));
        }
        let places = ModelsConfig { names: "a".into(), places: Vec::new(), ..default() };
        assert_eq!(Config { models: places, ..Config::default() }.check(), Ok(()));
    }
}
