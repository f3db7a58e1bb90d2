//! Which candidates answer a query best: the role `reranking`.
//!
//! It serves `RerankingService.Rerank` and calls `InferenceService` (`Rerank`, `Profile`) of the role
//! `inference`. It owns no state but what it has heard of models in the last minute. `rank` scores the
//! most promising candidates first and stops in time, for which `pace` foresees what the next ones
//! would take; [`features`] weighs what is known of candidates where there is no model, by weights that
//! [`fit`] finds on labelled questions.

mod config;
mod error;
pub mod features;
pub mod fit;
mod metrics;
mod pace;
mod rank;
mod service;

use switchboard_mesh as mesh;
use switchboard_proto::{
    inference::v1::inference_service_client::InferenceServiceClient,
    reranking::v1::reranking_service_server::{RerankingServiceServer, SERVICE_NAME},
};
use tonic::service::Routes;

pub use config::Config;

use crate::{rank::Reranker, service::Service};

/// The role.
pub const ROLE: &str = "reranking";
/// Bytes of the largest request. The most candidates of the greatest length are 32 MiB of ASCII; what
/// is over a bound by a little is still read, so that the answer can name the field.
const LARGEST_REQUEST: usize = 40 << 20;

/// Returns the role ready to serve; models are only asked for in calls.
///
/// # Errors
/// When a value of `config` is not allowed.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let inference = InferenceServiceClient::new(ctx.channel("inference"));
    let service = Service::new(Reranker::new(inference, config));
    let server = RerankingServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    Ok(mesh::Mounted {
        role: ROLE,
        routes: Routes::new(server),
        services: vec![SERVICE_NAME],
        long_lived: vec![],
    })
}
