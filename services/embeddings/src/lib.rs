//! Texts to vectors: the role `embeddings`.
//!
//! It serves `EmbeddingsService` (`Embed`, `EmbedStream`) and calls `InferenceService.Embed` of the
//! role `inference`. It checks requests, embeds each distinct text once, and spreads a large request
//! over calls that model-servers can batch well; see `embed`. Of what interactive callers asked for it
//! remembers the vectors, in memory and within a bound; see `cache`.

mod cache;
mod config;
mod embed;
mod error;
mod metrics;
mod service;

use switchboard_mesh as mesh;
use switchboard_proto::embeddings::v1::embeddings_service_server::EmbeddingsServiceServer;
use tonic::service::Routes;

pub use config::Config;

use crate::{embed::Embedder, service::Service};

/// The role.
pub const ROLE: &str = "embeddings";
/// The full name of its gRPC service.
pub const SERVICE: &str = "switchboard.embeddings.v1.EmbeddingsService";
/// Goes on for as long as its caller likes.
const EMBED_STREAM: &str = "/switchboard.embeddings.v1.EmbeddingsService/EmbedStream";
/// Bytes of the largest request. The most texts of the greatest length are 32 MiB of ASCII; what is
/// over a bound by a little is still read, so that the answer can name the field.
const LARGEST_REQUEST: usize = 40 << 20;
/// Bytes of the largest answer of a model-server: the vectors of the most texts, with room to spare.
const LARGEST_ANSWER: usize = 16 << 20;

/// Returns the role ready to serve; models are only asked for in calls.
///
/// # Errors
/// When a value of `config` is not allowed.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let service = Service::new(Embedder::new(ctx.channel("inference"), LARGEST_ANSWER, config));
    let server = EmbeddingsServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let long_lived = vec![EMBED_STREAM];
    Ok(mesh::Mounted { role: ROLE, routes: Routes::new(server), services: vec![SERVICE], long_lived })
}
