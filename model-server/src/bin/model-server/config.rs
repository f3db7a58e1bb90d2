//! The program's configuration, and the commands that show it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use switchboard_mesh::{
    bootstrap::NodeConfig,
    config::{ConfigError, Process},
    discovery, identity, overload, telemetry, terminal,
};

use crate::Global;

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The listeners and the drain.
    pub(crate) node: NodeConfig,
    pub(crate) discovery: discovery::Config,
    pub(crate) identity: identity::Config,
    pub(crate) overload: overload::Config,
    pub(crate) telemetry: telemetry::Config,
    pub(crate) inference: switchboard_model_server::Config,
}

impl Default for Config {
    fn default() -> Self {
        // Another port than `switchboard serve` has, so that both can be tried on one machine.
        // It holds no tenant's data, and the clients of others that it serves have no certificates.
        let node =
            NodeConfig { listen: ([127, 0, 0, 1], 8091).into(), plain_text: true, ..NodeConfig::default() };
        Self {
            node,
            discovery: Default::default(),
            identity: Default::default(),
            overload: Default::default(),
            telemetry: Default::default(),
            inference: Default::default(),
        }
    }
}

/// Loads and checks the configuration: `file`, else `model-server.toml` where there is one, then the
/// environment, then `overrides`.
///
/// # Errors
/// The key, where it came from, and what is allowed.
pub(crate) fn load(file: Option<PathBuf>, overrides: &[(String, String)]) -> Result<Config, ConfigError> {
    let usual = PathBuf::from("model-server.toml");
    let file = file.or_else(|| usual.is_file().then_some(usual));
    let config: Config = switchboard_mesh::config::load(file.as_deref(), &Process, overrides)?;
    config.node.check(&config.identity)?;
    config.discovery.check()?;
    config.identity.check()?;
    config.overload.check()?;
    config.telemetry.check()?;
    config.inference.check()?;
    Ok(config)
}

/// What to do with the configuration.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration can be used; exit 2 and the key at fault when it cannot
    Check,
    /// Print every key with its value, as TOML (or JSON)
    Print {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn config(global: &Global, command: &ConfigCommand) -> Result<ExitCode> {
    let config = global.load(&[])?;
    let text = match command {
        ConfigCommand::Check => "the configuration is valid".to_owned(),
        ConfigCommand::Print { json: true } => serde_json::to_string_pretty(&config)?,
        ConfigCommand::Print { json: false } => {
            toml::to_string_pretty(&config).context("the configuration cannot be printed")?
        }
    };
    terminal::line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
