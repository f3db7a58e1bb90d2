//! The whole configuration: one TOML file, environment over it, flags over that.
//!
//! `SWITCHBOARD__KNOWLEDGE__MAX_DOCUMENT_BYTES=1000` sets `knowledge.max_document_bytes`. Unknown
//! keys are errors. How it is loaded is the mesh's: every binary does it alike.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
pub(crate) use switchboard_mesh::config::{ConfigError, Process};
use switchboard_mesh::{
    bootstrap::NodeConfig,
    config::{self as mesh_config, Environment, Invalid},
};

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where this node keeps its state.
    pub(crate) data: DataFolder,
    /// The node's own listener and its drain.
    pub(crate) node: NodeConfig,
    /// Roles that run elsewhere: role to URL, or to several with commas between. `dns://host:port` stands for
    /// every address of that name.
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) discovery: switchboard_mesh::discovery::Config,
    pub(crate) identity: switchboard_mesh::identity::Config,
    pub(crate) balance: switchboard_mesh::balance::Config,
    pub(crate) telemetry: switchboard_mesh::telemetry::Config,
    /// How much this process takes at once, whichever door it comes by.
    pub(crate) overload: switchboard_mesh::overload::Config,
    /// What gateways share.
    pub(crate) redis: switchboard_mesh::redis::Config,
    pub(crate) gateway: switchboard_gateway::Config,
    pub(crate) conversation: switchboard_conversation::Config,
    pub(crate) generation: switchboard_generation::Config,
    pub(crate) knowledge: switchboard_knowledge::Config,
    pub(crate) embeddings: switchboard_embeddings::Config,
    pub(crate) ledger: switchboard_ledger::Config,
    pub(crate) policy: switchboard_policy::Config,
    pub(crate) reranking: switchboard_reranking::Config,
    pub(crate) inference: switchboard_model_server::Config,
    pub(crate) hub: Hub,
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

/// The section `[hub]`: where `models pull` takes models from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hub {
    /// URL of a model hub; empty takes the variable `HF_ENDPOINT`, else the public Hugging Face hub.
    pub(crate) endpoint: String,
    /// File that holds the access token; empty takes the variable `HF_TOKEN`, else the file that
    /// `HF_TOKEN_PATH` names, else asks without one.
    pub(crate) token_file: PathBuf,
    /// PEM file of the certificates to trust; empty takes the variable `SSL_CERT_FILE`, else those of
    /// the public authorities, which are built in.
    pub(crate) certificates: PathBuf,
}

impl Hub {
    fn check(&self) -> Result<(), Invalid> {
        let uri = self.endpoint.parse::<http::Uri>().ok();
        let usable = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
        });
        if self.endpoint.is_empty() || usable {
            return Ok(());
        }
        Err(Invalid::new("hub.endpoint", &self.endpoint, "empty, or a URL such as https://hub.example"))
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
    let config: Config = mesh_config::load(file.map(PathBuf::as_path), environment, overrides)?;
    config.check()?;
    Ok(config)
}

impl Config {
    /// Checks every section.
    ///
    /// # Errors
    /// The first key whose value is not allowed.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.node.check(&self.identity)?;
        self.discovery.check()?;
        self.identity.check()?;
        self.balance.check()?;
        self.telemetry.check()?;
        self.overload.check()?;
        self.redis.check()?;
        self.gateway.check()?;
        self.conversation.check()?;
        self.generation.check()?;
        self.knowledge.check()?;
        self.embeddings.check()?;
        self.ledger.check()?;
        self.policy.check()?;
        self.reranking.check()?;
        self.inference.check()?;
        self.hub.check()?;
        for (role, url) in &self.peers {
            let key = format!("peers.{role}");
            if crate::roles::Role::parse(role).is_none() {
                return Err(Invalid::new(key, url, format!("a role as key: {}", crate::roles::names())));
            }
            if addresses(url).is_none() {
                return Err(Invalid::new(
                    key,
                    url,
                    "a URL such as http://127.0.0.1:7070 or dns://policy.example:7070, or several with commas between",
                ));
            }
        }
        Ok(())
    }

    /// The peers as addresses. Call after [`Config::check`].
    pub(crate) fn remote(&self) -> BTreeMap<String, Vec<http::Uri>> {
        self.peers.iter().filter_map(|(role, url)| Some((role.clone(), addresses(url)?))).collect()
    }
}

/// The URLs of a list; none where one of them is not usable.
fn addresses(list: &str) -> Option<Vec<http::Uri>> {
    let usable = |uri: &http::Uri| match uri.scheme_str() {
        Some("http") => uri.host().is_some(),
        Some("dns") => uri.host().is_some() && uri.port_u16().is_some(),
        _ => false,
    };
    list.split(',').map(|url| url.trim().parse().ok().filter(usable)).collect()
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
        assert_eq!(message, "conversation.passages = 0 is not allowed: from 1 to 16");
    }

    #[test]
    fn a_part_of_a_table_can_be_set_alone() {
        let overrides = [pair("conversation.chat.whole", "5s"), pair("data", "2024")];
        let config = load(None, &Map(vec![]), &overrides).unwrap();
        assert_eq!(config.conversation.chat.whole, std::time::Duration::from_secs(5));
        assert_eq!(config.data.0, PathBuf::from("2024"));
    }

    #[test]
    fn cards_of_language_models_are_set_by_name() {
        let (_folder, path) =
            file("[generation.cards.small]\nmodel = \"qwen\"\nlanguages = [\"en\", \"de\"]\n");
        let environment = Map(vec![pair("SWITCHBOARD__GENERATION__CARDS__SMALL__MAX_TOKENS", "64")]);
        let config = load(Some(&path), &environment, &[pair("generation.cards.big.tier", "large")]).unwrap();
        let small = &config.generation.cards["small"];
        assert_eq!((small.model.as_str(), small.max_tokens, small.languages.len()), ("qwen", 64, 2));
        let printed = toml::to_string(&config).unwrap();
        assert!(printed.contains("[generation.cards.big]\n"), "{printed}");
        let bad = [pair("generation.cards.big.quality", "2")];
        let message = load(None, &Map(vec![]), &bad).unwrap_err().to_string();
        assert_eq!(message, "generation.cards.big.quality = 2 is not allowed: from 0 to 1");
        let bad = [pair("generation.cards.big.tier", "huge")];
        let message = load(None, &Map(vec![]), &bad).unwrap_err().to_string();
        assert!(message.contains("generation.cards.big.tier") && message.contains("large"), "{message}");
    }

    #[test]
    fn a_tenant_has_rates_of_its_own() {
        let (_folder, path) = file("[gateway.rate.tenants.acme]\nvoice = { per_second = 50 }\n");
        let overrides =
            [pair("gateway.rate.tenants.acme.batch.per_second", "7"), pair("gateway.rate.chat.burst", "9")];
        let config = load(Some(&path), &Map(vec![]), &overrides).unwrap();
        let own = config.gateway.rate.tenants["acme"];
        assert_eq!(
            (own.voice.unwrap().per_second, own.batch.unwrap().per_second, own.chat.is_none()),
            (50.0, 7.0, true)
        );
        let bad = [pair("gateway.rate.tenants.acme.voice.per_second", "-1")];
        let message = load(None, &Map(vec![]), &bad).unwrap_err().to_string();
        assert!(message.starts_with("gateway.rate.tenants.acme.voice.per_second = -1"), "{message}");
    }

    #[test]
    fn a_node_without_certificates_stays_on_loopback_unless_told_otherwise() {
        let everywhere = pair("node.listen", "0.0.0.0:7070");
        let message = load(None, &Map(vec![]), std::slice::from_ref(&everywhere)).unwrap_err().to_string();
        assert!(
            message.starts_with("node.listen = 0.0.0.0:7070") && message.contains("[identity]"),
            "{message}"
        );
        assert!(load(None, &Map(vec![]), &[everywhere, pair("node.plain_text", "true")]).is_ok());
    }

    #[test]
    fn redis_and_overload_are_checked_with_the_rest() {
        for (key, bad) in [("redis.nodes", "[\"redis://here\"]"), ("overload.floor", "0")] {
            let message = load(None, &Map(vec![]), &[pair(key, bad)]).unwrap_err().to_string();
            assert!(message.starts_with(key), "{message}");
        }
    }

    #[test]
    fn a_role_may_be_at_several_addresses() {
        let two = [pair("peers.inference", "http://127.0.0.1:7071, http://127.0.0.1:7072")];
        let config = load(None, &Map(vec![]), &two).unwrap();
        let nodes: Vec<String> = config.remote()["inference"].iter().map(ToString::to_string).collect();
        assert_eq!(nodes, ["http://127.0.0.1:7071/", "http://127.0.0.1:7072/"]);
        for bad in ["", "http://127.0.0.1:7071,", "http://a,https://b", "127.0.0.1:7071"] {
            let message = load(None, &Map(vec![]), &[pair("peers.inference", bad)]).unwrap_err().to_string();
            assert!(message.contains("peers.inference") && message.contains("commas"), "{message}");
        }
    }

    #[test]
    fn the_printed_defaults_load_again() {
        let printed = toml::to_string(&Config::default()).unwrap();
        let (_folder, path) = file(&printed);
        let loaded = load(Some(&path), &Map(vec![]), &[]).unwrap();
        assert_eq!(toml::to_string(&loaded).unwrap(), printed);
    }
}
