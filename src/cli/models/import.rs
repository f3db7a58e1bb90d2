//! `switchboard models import`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use switchboard_onnx::import::{self, Options};

use super::{RepositoryArgs, check};
use crate::cli::{Global, show};

/// Flags of `models import`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ImportArgs {
    /// Folder with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "FOLDER")]
    source: PathBuf,
    /// Name of the model to make; the folder's name when not given
    #[arg(long, value_parser = local_name)]
    name: Option<String>,
    /// How the weights are kept
    #[arg(long, value_enum, default_value_t)]
    weights: Weights,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Writes the ONNX graph of a model of the BERT family (bert, roberta, xlm-roberta, camembert,
distilbert) with its head, and puts it with its settings and tokenizer into the folder of models.

Examples:
  switchboard models import onnx/fixtures/bert-sequence --repository /tmp/models
  switchboard models import onnx/fixtures/bert --repository /tmp/models --weights q8 --name bert-q8
  switchboard models bench bert-q8 --repository /tmp/models      # is it worth it on this machine?";

/// How weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// 32-bit floats: as exact as the original
    #[default]
    Fp32,
    /// 8-bit integers, multiplied as such: the fastest on CPUs, but a text's vector then depends on the
    /// texts beside it in its batch
    Int8,
    /// 8-bit blocks, each row rounded for itself: about a quarter of the memory and nearly as exact, but
    /// not faster on CPUs
    Q8,
}

impl From<Weights> for import::Weights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Fp32 => Self::Fp32,
            Weights::Int8 => Self::Int8Dynamic,
            Weights::Q8 => Self::Weights8,
        }
    }
}

/// A name that can be a model's folder: letters, digits, `.`, `-` and `_`, not hidden.
pub(super) fn local_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=96).contains(&text.len())
        && !text.starts_with('.')
        && !text.ends_with('.')
        && text.chars().all(fine)
    {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 96 letters, digits, dots, - and _, and has no dot at either end".into())
    }
}

pub(super) async fn import(global: &Global, args: ImportArgs) -> Result<ExitCode> {
    let config = args.repository.load(global)?;
    let repository = super::repository(&config)?;
    let source =
        args.source.canonicalize().with_context(|| format!("{} cannot be read", args.source.display()))?;
    let name = match args.name {
        Some(name) => name,
        None => {
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            local_name(&name)
                .map_err(|allowed| anyhow::anyhow!("{name:?} cannot be its name, use --name: {allowed}"))?
        }
    };
    let target = repository.join(&name);
    weights(&source, &target, args.weights, args.json).await?;
    let checked = check::folder(&config, target.clone()).await?;
    if args.json {
        let object = json!({ "folder": target, "check": checked.json() });
        show::line(&serde_json::to_string_pretty(&object)?);
    } else {
        show::line(&checked.text());
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the model folder `target` of the weights in `source`.
///
/// # Errors
/// When `target` is there already, or `source` cannot be made into a graph.
pub(super) async fn weights(source: &Path, target: &Path, weights: Weights, quiet: bool) -> Result<()> {
    if target.exists() {
        bail!("{} is there already: remove it, or choose another --name", target.display());
    }
    let (source, destination) = (source.to_owned(), target.to_owned());
    let options = Options { weights: weights.into(), ..Options::default() };
    let work = move || import::bert(&source, &destination, &options);
    let report = tokio::task::spawn_blocking(work).await?.context("no graph could be made")?;
    if !quiet {
        show::line(&format!("{}: {report}", target.display()));
    }
    Ok(())
}
