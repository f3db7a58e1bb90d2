//! The generation service: chooses a model card and writes the reply.
//!
//! Serves `GenerationService`. Calls no other role yet: its one card, `extractive`, picks sentences
//! from the evidence that comes with the request. Owns no state.
//!
//! [`extractive`] is the heart: which sentences answer, whether any do, and what to ask otherwise.

mod catalogue;
mod config;
mod error;
pub mod extractive;
mod metrics;
mod service;

pub use config::Config;

use switchboard_mesh as mesh;
use switchboard_proto::generation::v1::generation_service_server::{GenerationServiceServer, SERVICE_NAME};

/// The role's name.
pub const ROLE: &str = "generation";

/// Starts the role.
///
/// # Errors
/// A config value that is not allowed.
#[expect(clippy::unused_async, reason = "every role starts alike")]
pub async fn start(config: Config, _ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    // Evidence of a hundred passages with their sentences stays well below this.
    let server =
        GenerationServiceServer::new(service::Generation::new(config)).max_decoding_message_size(8 << 20);
    Ok(mesh::Mounted {
        role: ROLE,
        routes: tonic::service::Routes::new(server),
        services: vec![SERVICE_NAME],
        long_lived: vec![],
    })
}
