//! `model-server check`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use switchboard_model_server::{check, repository};

use crate::Global;

/// Flags of `check`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CheckArgs {
    /// A model's folder, or a folder with a folder for each model; what `serve` would take when not given
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Loads every model and runs it once. Says its task, inputs, outputs, weights, labels and longest
input, and warns where results depend on the batch; or names the file that is at fault and what is
wrong with it. Exits with 1 when a model cannot be served.

Examples:
  model-server check                          # the folder that `serve` takes
  model-server check .cache/models            # another one
  model-server check .cache/models --json";

pub(crate) fn check(global: &Global, args: &CheckArgs) -> Result<ExitCode> {
    let config = global.load(&[])?.inference;
    let path = args.folder.clone().map_or_else(|| repository(&config), Ok)?;
    let usable = check::print(&config, &path, args.json)?;
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
