//! The company's documents: ingest, hybrid search, citations.
//!
//! Serves `switchboard.knowledge.v1.KnowledgeService`: documents come in as Markdown, HTML, text,
//! PDF or FAQ tables, are cut into passages that follow headings and sentences, and are found again
//! by words (BM25) and by meaning (vectors), fused by reciprocal rank. Calls `EmbeddingsService` for
//! documents; questions bring their vectors with them.
//!
//! Owns `<data>/knowledge`: one SQLite database with documents, passages, words and vectors, held by
//! one process. All of a tenant's passages are also in memory, where vectors are searched.
//!
//! Start reading at `service.rs`; `ingest.rs` and `search.rs` are the two ways through the crate.

mod catalog;
mod chunk;
pub mod config;
mod document;
mod error;
mod fusion;
mod graph;
mod index;
mod ingest;
mod metrics;
mod parse;
mod search;
mod service;
mod store;
mod terms;

use std::sync::Arc;

use mesh::StartError;
use proto::knowledge::v1::knowledge_service_server::{KnowledgeServiceServer, SERVICE_NAME};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

/// The role's name.
pub const ROLE: &str = "knowledge";
/// Goes on for as many documents as its caller has.
const INGEST: &str = "/switchboard.knowledge.v1.KnowledgeService/Ingest";

/// Opens the store in the context's data folder and makes the service.
///
/// Embeddings need not be there yet. When `knowledge.embedding_model` names another model than the
/// stored vectors', the role does not start.
///
/// # Errors
/// A folder that is in use, cannot be written or holds a damaged database; a config that
/// [`Config::check`] refuses.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, StartError> {
    let fail = |error: Error| StartError::new(ROLE, mesh::error::chain(&error));
    config.check().map_err(|error| StartError::new(ROLE, error))?;
    let folder = ctx.data.join(ROLE);
    let exact_limit = config.exact_limit;
    let opened = tokio::task::spawn_blocking(move || store::Store::open(&folder, exact_limit)).await;
    let store = Arc::new(opened.map_err(|_| fail(Error::Lost))?.map_err(fail)?);
    if let Some(model) = store.model() {
        if !config.embedding_model.is_empty() && config.embedding_model != model.name {
            return Err(fail(Error::OtherModel { stored: model.name, found: config.embedding_model }));
        }
        tracing::info!(model = model.name, dimension = model.dimension, "knowledge is open");
    }
    let service = service::Service::new(config, store, ctx.channel("embeddings"));
    let routes = Routes::new(KnowledgeServiceServer::new(service));
    Ok(mesh::Mounted { role: ROLE, routes, services: vec![SERVICE_NAME], long_lived: vec![INGEST] })
}
