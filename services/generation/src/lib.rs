//! The generation service: chooses a model card and writes the reply.
//!
//! Serves `GenerationService`. Calls `InferenceService.Generate` of the role `inference` for the cards of
//! language models that the configuration names; the card that is built in, `extractive`, picks sentences
//! from the evidence that comes with the request. Owns no state.
//!
//! [`extractive`] says which sentences answer, whether any do, and what to ask otherwise. `prompt` is what a
//! language model is asked, `writer` what becomes of its reply: `cited` reads it, `sources` finds what
//! carries each sentence.

mod catalogue;
mod cited;
mod config;
mod error;
pub mod extractive;
mod metrics;
mod prompt;
mod refusal;
mod service;
mod sources;
mod writer;

pub use config::{Card, Config, Tier};

use std::sync::Arc;

use switchboard_mesh as mesh;
use switchboard_proto::generation::v1::generation_service_server::{GenerationServiceServer, SERVICE_NAME};

/// The role's name.
pub const ROLE: &str = "generation";

/// Starts the role.
///
/// # Errors
/// A config value that is not allowed.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let prompt = prompt::Prompt::new().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let service = service::Generation::new(config, Arc::new(prompt), ctx.channel("inference"));
    // Evidence of a hundred passages with their sentences stays well below this.
    let server = GenerationServiceServer::new(service).max_decoding_message_size(8 << 20);
    Ok(mesh::Mounted {
        role: ROLE,
        routes: tonic::service::Routes::new(server),
        services: vec![SERVICE_NAME],
        long_lived: vec![],
    })
}
