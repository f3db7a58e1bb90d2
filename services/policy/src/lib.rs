//! What may be read, said and done.
//!
//! Serves `PolicyService`: `Inspect` and `Redact` replace personal data by placeholders, `Restore`
//! puts it back for who may see it, `Decide` answers that no policy is loaded. Calls no other role.
//! Owns the vault: the raw values behind the placeholders of each tenant's conversations, in
//! memory only, bounded and forgotten after a while. Nothing of it reaches a log, a span, a label or
//! an error.

mod config;
mod error;
mod inspection;
mod metrics;
mod service;
mod vault;

use std::sync::Arc;

use mesh::{Context, Mounted, StartError};
use proto::policy::v1::policy_service_server::PolicyServiceServer;
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::service::Routes;

pub use config::{Config, VaultConfig};

/// The role's name, in discovery, config and metrics.
pub const ROLE: &str = "policy";
/// The full name of the gRPC service, for health.
pub const SERVICE: &str = "switchboard.policy.v1.PolicyService";

/// Starts the role: the service, and a task that forgets what has been held long enough.
///
/// # Errors
/// [`StartError`] when a value of the config is not allowed.
pub async fn start(config: Config, ctx: &Context) -> Result<Mounted, StartError> {
    config.check().map_err(|invalid| StartError::new(ROLE, invalid))?;
    let vault = Arc::new(vault::Vault::new(config.vault));
    let (sweeping, stop) = (vault.clone(), ctx.stop.clone());
    ctx.tasks.spawn(async move {
        stop.run_until_cancelled(sweeping.sweep()).await;
    });
    // Patterns are compiled at their first use; that shall not be a customer's.
    let _ = switchboard_text::redaction::find("call +1 202 555 0100 or pay with 4111 1111 1111 1111");
    let service = PolicyServiceServer::new(service::Service::new(vault));
    Ok(Mounted { role: ROLE, routes: Routes::new(service), services: vec![SERVICE], long_lived: vec![] })
}
