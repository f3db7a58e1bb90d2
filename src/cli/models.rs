//! `switchboard models`: the models of this machine, or of a node.

mod bench;
mod check;
mod choose;
mod hub;
mod import;
mod list;
mod pull;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};

use super::Global;
use crate::config::Config;

/// What to do with models.
#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models of a folder, or those that a node has loaded
    List(list::ListArgs),
    /// Say what a model's folder holds, and what is wrong with it
    Check(check::CheckArgs),
    /// Fetch a model from a model hub
    Pull(pull::PullArgs),
    /// Make a model for this server from a folder of safetensors weights
    Import(import::ImportArgs),
    /// Measure how fast a model is on this machine
    Bench(bench::BenchArgs),
}

/// Where the models are.
#[derive(Args)]
pub(super) struct RepositoryArgs {
    /// Folder with a folder for each model; sets `inference.repository`
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
}

impl RepositoryArgs {
    /// The configuration with the flag over it.
    fn load(&self, global: &Global) -> Result<Config> {
        let folder = self.repository.as_ref().map(|folder| folder.display().to_string());
        Ok(global
            .load(&folder.map(|folder| ("inference.repository", folder)).into_iter().collect::<Vec<_>>())?)
    }
}

/// The folder of models that `config` means.
fn repository(config: &Config) -> Result<PathBuf> {
    switchboard_model_server::repository(&config.inference)
        .context("there is no folder of models: name one with --repository")
}

/// The folder of a model, given by its name in the folder of models or by a path. A path is what has a
/// slash in it; a plain name is tried as either, the model first.
fn folder_of(config: &Config, given: &str) -> Result<PathBuf> {
    let path = PathBuf::from(given);
    if path.file_name().is_none() {
        // Such as `.`, which does not tell the model's name.
        return path.canonicalize().with_context(|| format!("{given:?} cannot be read"));
    }
    if given.contains('/') {
        return Ok(path);
    }
    let repository = switchboard_model_server::repository(&config.inference);
    if let Some(model) =
        repository.as_ref().ok().map(|folder| folder.join(given)).filter(|model| model.is_dir())
    {
        return Ok(model);
    }
    let looked = repository.map_or_else(|error| error.to_string(), |folder| folder.display().to_string());
    ensure!(
        path.is_dir(),
        "there is no model {given:?} in the folder of models ({looked}), and no such folder here"
    );
    Ok(path)
}

pub(crate) async fn models(global: &Global, command: ModelsCommand) -> Result<ExitCode> {
    match command {
        ModelsCommand::List(args) => list::list(global, args).await,
        ModelsCommand::Check(args) => check::check(global, args).await,
        ModelsCommand::Pull(args) => pull::pull(global, args).await,
        ModelsCommand::Import(args) => import::import(global, args).await,
        ModelsCommand::Bench(args) => bench::bench(global, args).await,
    }
}
