//! `switchboard models list`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use switchboard_mesh::{Call, Channel, Deadline, Tenant};
use switchboard_model_server::{
    check::{self, Checked},
    listing::{self, Loaded},
};
use tonic::{Code, Status};

use super::RepositoryArgs;
use crate::{
    cli::{
        Global,
        client::{DEFAULT_TENANT, explain},
        show,
    },
    roles::Role,
};

/// A list is made from memory: what takes longer is a node that is not there.
const LIMIT: Duration = Duration::from_secs(10);

/// Flags of `models list`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ListArgs {
    /// List what the model node at this gRPC address has loaded: that of `model-server serve`, or of
    /// `switchboard serve --role inference`
    #[arg(long, visible_alias = "server", value_name = "URL", conflicts_with = "repository")]
    node: Option<http::Uri>,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Reads the models' files; `switchboard models check` runs them as well, and says more.

Examples:
  switchboard models list                                  # what this machine has
  switchboard models list --repository .cache/models --json
  switchboard models list --node http://127.0.0.1:8091     # what a running model-server has loaded";

pub(super) async fn list(global: &Global, args: ListArgs) -> Result<ExitCode> {
    match &args.node {
        Some(node) => loaded(node, args.json).await?,
        None => stored(global, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The models of the repository.
async fn stored(global: &Global, args: &ListArgs) -> Result<()> {
    let config = args.repository.load(global)?;
    let repository = super::repository(&config)?;
    let folder = repository.clone();
    let read = move || -> Result<Vec<Checked>> {
        let folders = check::folders(&folder)?;
        Ok(folders.iter().map(|(_, folder)| check::read(&config.inference, folder)).collect())
    };
    let models = tokio::task::spawn_blocking(read).await??;
    if args.json {
        let models: Vec<_> = models.iter().map(Checked::json).collect();
        let object = json!({ "repository": repository.display().to_string(), "models": models });
        show::line(&serde_json::to_string_pretty(&object)?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = models.iter().filter_map(row).collect();
    if !rows.is_empty() {
        let header = ["model", "task", "kind", "gives", "tokens", "weights", "size"];
        show::line(&show::table(&header, &rows));
    }
    for model in models.iter().filter(|model| !model.is_ok()) {
        show::line(&model.text());
    }
    Ok(())
}

fn row(model: &Checked) -> Option<Vec<String>> {
    let found = model.found.as_ref().ok()?;
    Some(vec![
        show::plain(&model.name),
        found.task.to_owned(),
        found.kind.to_owned(),
        found.result(),
        found.max_tokens.to_string(),
        found.weight_type().to_owned(),
        show::bytes(found.bytes),
    ])
}

/// The models of a running node.
async fn loaded(node: &http::Uri, as_json: bool) -> Result<()> {
    let usable = node.scheme_str() == Some("http") && node.authority().is_some();
    ensure!(usable, "--node: a URL such as http://127.0.0.1:8091 is allowed");
    let tenant = Tenant::try_new(DEFAULT_TENANT).map_err(anyhow::Error::msg)?;
    let call = Call::new(tenant, Deadline::after(LIMIT));
    let models = listing::ask(Channel::tcp(Role::Inference.name(), node.clone()), &call).await;
    let models = models.map_err(|status| from_node(node, &status))?;
    if as_json {
        let models: Vec<_> = models.iter().map(Loaded::json).collect();
        let object = json!({ "node": node.to_string(), "models": models });
        show::line(&serde_json::to_string_pretty(&object)?);
    } else if models.is_empty() {
        show::line("no model is loaded");
    } else {
        show::line(&listing::table(&models));
    }
    Ok(())
}

/// What a node's refusal means.
fn from_node(node: &http::Uri, status: &Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented | Code::Unauthenticated => anyhow::anyhow!(
            "{node} serves no models itself: name a model node's own address, which `model-server serve` and \
             `switchboard serve --role inference` print; a gateway does not pass this on"
        ),
        _ => explain(status).context(format!("{node} does not list its models")),
    }
}
