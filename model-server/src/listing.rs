//! What a running node has loaded, as any of its callers is told: for people and as JSON.

use serde_json::{Value, json};
use switchboard_mesh::{Call, Channel, terminal};
use switchboard_proto::inference::v1::{
    ListModelsRequest, Model, ModelProfile, ProfileRequest, inference_service_client::InferenceServiceClient,
};
use tonic::Status;

/// A model that a node has loaded, and how it uses the node's cores.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it is.
    pub model: Model,
    /// How long its batches take; absent when it was unloaded in between.
    pub profile: Option<ModelProfile>,
}

/// Asks the node behind `channel`. The models are in order of name.
///
/// # Errors
/// The node's status.
pub async fn ask(channel: Channel, call: &Call) -> Result<Vec<Loaded>, Status> {
    let mut client = InferenceServiceClient::new(channel);
    let models = client.list_models(call.request(ListModelsRequest {})).await?.into_inner().models;
    let profiles = client.profile(call.request(ProfileRequest::default())).await?.into_inner().models;
    let with_profile = |model: Model| {
        let profile = profiles.iter().find(|profile| profile.model == model.name).cloned();
        Loaded { model, profile }
    };
    Ok(models.into_iter().map(with_profile).collect())
}

/// A table for people.
#[must_use]
pub fn table(models: &[Loaded]) -> String {
    let header = ["model", "task", "gives", "tokens", "runs on", "instances", "threads"];
    terminal::table(&header, &models.iter().map(Loaded::row).collect::<Vec<_>>())
}

impl Loaded {
    /// One object.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self { model, profile } = self;
        json!({
            "name": model.name, "task": self.task(), "dimensions": model.dimensions,
            "max_tokens": model.max_tokens, "backend": model.backend, "fingerprint": model.fingerprint,
            "labels": model.labels, "prompts": model.prompts,
            "instances": profile.as_ref().map(|profile| profile.instances),
            "threads": profile.as_ref().map(|profile| profile.threads),
        })
    }

    /// The name of its task, as in `model.toml`.
    fn task(&self) -> String {
        self.model.task().as_str_name().trim_start_matches("TASK_").to_lowercase()
    }

    fn row(&self) -> Vec<String> {
        let Self { model, profile } = self;
        let gives = match (model.dimensions, model.labels.len()) {
            (0, 0) => "-".to_owned(),
            (0, labels) => format!("{labels} labels"),
            (components, _) => format!("{components} components"),
        };
        let count = |count: fn(&ModelProfile) -> u32| {
            profile.as_ref().map_or_else(|| "-".to_owned(), |profile| count(profile).to_string())
        };
        vec![
            terminal::plain(&model.name),
            self.task(),
            gives,
            model.max_tokens.to_string(),
            terminal::plain(&model.backend),
            count(|profile| profile.instances),
            count(|profile| profile.threads),
        ]
    }
}
