//! `switchboard models check`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use switchboard_model_server::check::{self, Checked};

use super::RepositoryArgs;
use crate::{cli::Global, config::Config};

/// Flags of `models check`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CheckArgs {
    /// A model of the repository, or the path of a model's folder or of a folder of models; the whole
    /// repository when not given
    #[arg(value_name = "MODEL|DIR")]
    what: Option<String>,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Loads every model and runs it once. Says its task, inputs, outputs, weights, labels and longest
input, and warns where results depend on the batch; or names the file that is at fault and what is
wrong with it. Exits with 1 when a model cannot be served.

Examples:
  switchboard models check                       # every model that this machine has
  switchboard models check all-MiniLM-L6-v2      # one of them
  switchboard models check .cache/models --json";

pub(super) async fn check(global: &Global, args: CheckArgs) -> Result<ExitCode> {
    let config = args.repository.load(global)?;
    let path = match &args.what {
        Some(what) => super::folder_of(&config, what)?,
        None => super::repository(&config)?,
    };
    let work = move || check::print(&config.inference, &path, args.json);
    let usable = tokio::task::spawn_blocking(work).await??;
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the model in `folder`, off the async threads.
///
/// # Errors
/// When the runtime library cannot be used.
pub(super) async fn folder(config: &Config, folder: PathBuf) -> Result<Checked> {
    let config = config.inference.clone();
    Ok(tokio::task::spawn_blocking(move || check::folder(&config, &folder)).await??)
}
