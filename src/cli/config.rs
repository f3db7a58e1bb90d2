//! `switchboard config check | print`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::{Global, show};

/// What to do with the configuration.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration can be used; exit 2 and the key at fault when it cannot
    Check,
    /// Print every key with its value, as TOML (or JSON); secrets as ***
    Print {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn config(global: &Global, command: &ConfigCommand) -> Result<ExitCode> {
    let config = global.load(&[])?;
    match command {
        ConfigCommand::Check => show::line("the configuration is valid"),
        ConfigCommand::Print { json: true } => show::line(&serde_json::to_string_pretty(&config)?),
        ConfigCommand::Print { json: false } => {
            show::line(
                toml::to_string_pretty(&config).context("the configuration cannot be printed")?.trim_end(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
