//! `switchboard models list`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use switchboard_mesh::{Call, Channel, Deadline, Tenant};
use switchboard_model_server::check::{self, Checked};
use switchboard_proto::inference::v1::{
    ListModelsRequest, Model, ModelProfile, ProfileRequest, Task,
    inference_service_client::InferenceServiceClient,
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
  switchboard models list                                 what this machine has
  switchboard models list --repository .cache/models --json
  switchboard models list --node http://127.0.0.1:8091    what a running model-server has loaded";

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

/// A model that a node has loaded, with how it uses the node's cores.
type Loaded = (Model, Option<ModelProfile>);

/// The models of a running node.
async fn loaded(node: &http::Uri, as_json: bool) -> Result<()> {
    let usable = node.scheme_str() == Some("http") && node.authority().is_some();
    ensure!(usable, "--node: a URL such as http://127.0.0.1:8091 is allowed");
    let models = ask(node).await.map_err(|status| from_node(node, &status))?;
    if as_json {
        let models: Vec<_> = models.iter().map(object).collect();
        let object = json!({ "node": node.to_string(), "models": models });
        show::line(&serde_json::to_string_pretty(&object)?);
        return Ok(());
    }
    if models.is_empty() {
        show::line("no model is loaded");
        return Ok(());
    }
    let header = ["model", "task", "gives", "tokens", "runs on", "instances", "threads"];
    let rows: Vec<_> = models.iter().map(node_row).collect();
    show::line(&show::table(&header, &rows));
    Ok(())
}

async fn ask(node: &http::Uri) -> Result<Vec<Loaded>, Status> {
    let tenant = Tenant::try_new(DEFAULT_TENANT).map_err(Status::internal)?;
    let call = Call::new(tenant, Deadline::after(LIMIT));
    let mut client = InferenceServiceClient::new(Channel::tcp(Role::Inference.name(), node.clone()));
    let models = client.list_models(call.request(ListModelsRequest {})).await?.into_inner().models;
    let profile = client.profile(call.request(ProfileRequest::default())).await?.into_inner().models;
    let profile_of = |name: &str| profile.iter().find(|profile| profile.model == name).cloned();
    Ok(models.into_iter().map(|model| (profile_of(&model.name), model)).map(|(p, m)| (m, p)).collect())
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

/// The name of a task, as in `model.toml`.
fn task(model: &Model) -> &'static str {
    match model.task() {
        Task::Unspecified => "-",
        Task::Embed => "embed",
        Task::Rerank => "rerank",
        Task::Generate => "generate",
        Task::Transcribe => "transcribe",
        Task::Classify => "classify",
    }
}

fn node_row((model, profile): &Loaded) -> Vec<String> {
    let gives = match (model.dimensions, model.labels.len()) {
        (0, 0) => "-".to_owned(),
        (0, labels) => format!("{labels} labels"),
        (components, _) => format!("{components} components"),
    };
    let count = |count: fn(&ModelProfile) -> u32| {
        profile.as_ref().map_or_else(|| "-".to_owned(), |profile| count(profile).to_string())
    };
    vec![
        show::plain(&model.name),
        task(model).to_owned(),
        gives,
        model.max_tokens.to_string(),
        show::plain(&model.backend),
        count(|profile| profile.instances),
        count(|profile| profile.threads),
    ]
}

fn object((model, profile): &Loaded) -> Value {
    json!({
        "name": model.name, "task": task(model), "dimensions": model.dimensions,
        "max_tokens": model.max_tokens, "backend": model.backend, "fingerprint": model.fingerprint,
        "labels": model.labels, "prompts": model.prompts,
        "instances": profile.as_ref().map(|profile| profile.instances),
        "threads": profile.as_ref().map(|profile| profile.threads),
    })
}
