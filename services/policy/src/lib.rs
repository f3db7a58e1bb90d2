//! What may be read, said and done.
//!
//! Serves `PolicyService`: `Inspect` (and `InspectStream`, for a text that arrives bit by bit) replaces
//! personal data by placeholders and gives the verdict of the tenant's rules, `Redact` does the former alone,
//! `Restore` puts it back for who may see it, `Forget` removes it, `Decide` gives the verdict on an action.
//! Calls inference, where a model is set for names or orders. Owns the bundles of rules ([`bundles`]) and the
//! vault: the raw values behind the placeholders of each tenant's conversations, bounded and forgotten after a
//! while. Nothing of it reaches a log, a span, a label or an error.

pub mod bundles;
mod config;
pub mod detectors;
pub mod draft;
mod error;
mod facts;
mod inspection;
pub mod judge;
mod metrics;
mod models;
mod service;
mod vault;

use std::{path::Path, sync::Arc};

use mesh::{Context, Mounted, StartError};
use proto::{
    inference::v1::inference_service_client::InferenceServiceClient,
    policy::v1::policy_service_server::PolicyServiceServer,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::service::Routes;

use self::vault::Vault;

pub use config::{Config, ModelsConfig, VaultConfig};
pub use inspection::Direction;

/// The role's name, in discovery, config and metrics.
pub const ROLE: &str = "policy";
/// The full name of the gRPC service, for health.
pub const SERVICE: &str = "switchboard.policy.v1.PolicyService";

/// A method whose call may last long: a text that arrives bit by bit.
const INSPECT_STREAM: &str = "/switchboard.policy.v1.PolicyService/InspectStream";

/// Starts the role: the service, a task that follows the bundles, and one that forgets what has been held long
/// enough.
///
/// # Errors
/// [`StartError`] when a value of the config is not allowed, or a bundle is not sound.
pub async fn start(config: Config, ctx: &Context) -> Result<Mounted, StartError> {
    config.check().map_err(|invalid| StartError::new(ROLE, invalid))?;
    let inference = InferenceServiceClient::new(ctx.channel("inference"));
    let models = models::Models::new(inference, config.models.clone());
    let data = ctx.data.join(ROLE).join("vault.sqlite");
    let opened = tokio::task::spawn_blocking(move || {
        let bundles = bundles::Bundles::open(&config).map_err(|invalid| StartError::new(ROLE, invalid))?;
        Ok((bundles, open_vault(config.vault, &data)?))
    });
    let (bundles, vault) = opened.await.map_err(|lost| StartError::new(ROLE, lost))??;
    let (bundles, vault) = (Arc::new(bundles), Arc::new(vault));
    ctx.tasks.spawn(Arc::clone(&bundles).watch(ctx.stop.clone()));
    let (sweeping, stop) = (vault.clone(), ctx.stop.clone());
    ctx.tasks.spawn(async move {
        stop.run_until_cancelled(sweeping.sweep()).await;
    });
    // Patterns are compiled at their first use; that shall not be a customer's.
    let _ = switchboard_text::redaction::find("call +1 202 555 0100 or pay with 4111 1111 1111 1111");
    let _ = switchboard_text::redaction::placeholders("[card-1]").next();
    let judge = judge::Judge::new(Arc::clone(&bundles));
    let service = service::Service::new(Arc::new(service::Core {
        vault,
        judge,
        bundles,
        documents: service::Documents::new(),
        models,
    }));
    let routes = Routes::new(PolicyServiceServer::new(service));
    Ok(Mounted { role: ROLE, routes, services: vec![SERVICE], long_lived: vec![INSPECT_STREAM] })
}

fn open_vault(config: VaultConfig, path: &Path) -> Result<Vault, StartError> {
    let keys = config.keys().map_err(|invalid| StartError::new(ROLE, invalid))?;
    match keys {
        Some(keys) => Vault::stored(config, path, keys).map_err(|error| StartError::new(ROLE, error)),
        None => {
            tracing::info!(
                "policy.vault has no keys: what is redacted is held in memory, and lost with the process"
            );
            Ok(Vault::new(config))
        }
    }
}
