//! The conversation service: a turn from the customer's words to a checked reply.
//!
//! Serves `ConversationService`. Calls policy, embeddings, knowledge, reranking, generation and the ledger.
//! Owns the session context, redacted, behind `store`, and a spool of what the ledger is still to hear.
//!
//! `turn` is the story of one turn, stage by stage; `clock` divides its budget and keeps its
//! accounts; `record` brings what was decided to the ledger, `hand_off` tells a person what to know, `outcome`
//! tells how a matter ended.

mod clock;
mod config;
mod error;
mod hand_off;
mod metrics;
mod outcome;
mod phrases;
mod record;
mod request;
mod rerank;
mod service;
mod store;
mod turn;

pub use config::{Config, Rerank};
pub use rerank::{ordered as reranked, request as rerank_request};

use std::{sync::Arc, time::Duration};

use switchboard_mesh::{
    self as mesh,
    spool::{Limits, Spool},
};
use switchboard_proto::{
    conversation::v1::conversation_service_server::{ConversationServiceServer, SERVICE_NAME},
    embeddings::v1::embeddings_service_client::EmbeddingsServiceClient,
    generation::v1::generation_service_client::GenerationServiceClient,
    knowledge::v1::knowledge_service_client::KnowledgeServiceClient,
    ledger::v1::ledger_service_client::LedgerServiceClient,
    policy::v1::policy_service_client::PolicyServiceClient,
    reranking::v1::reranking_service_client::RerankingServiceClient,
};

/// How often conversations are looked through for those that are quiet, or too old to be kept.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The role's name.
pub const ROLE: &str = "conversation";

/// The services that a turn calls.
#[derive(Clone)]
pub(crate) struct Peers {
    policy: PolicyServiceClient<mesh::Channel>,
    embeddings: EmbeddingsServiceClient<mesh::Channel>,
    knowledge: KnowledgeServiceClient<mesh::Channel>,
    reranking: RerankingServiceClient<mesh::Channel>,
    generation: GenerationServiceClient<mesh::Channel>,
}

/// Starts the role.
///
/// # Errors
/// A config value that is not allowed, or a spool that cannot be opened in the data folder.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let peers = Peers {
        policy: PolicyServiceClient::new(ctx.channel("policy")),
        embeddings: EmbeddingsServiceClient::new(ctx.channel("embeddings")),
        knowledge: KnowledgeServiceClient::new(ctx.channel("knowledge")).max_decoding_message_size(16 << 20),
        reranking: RerankingServiceClient::new(ctx.channel("reranking")).max_encoding_message_size(16 << 20),
        generation: GenerationServiceClient::new(ctx.channel("generation"))
            .max_encoding_message_size(16 << 20),
    };
    let store: Arc<dyn store::Store> = Arc::new(store::Memory::new(&config));
    let limits = Limits { bytes: config.spool_mib << 20, ..Limits::default() };
    let folder = ctx.data.join(ROLE).join("spool");
    let spool = tokio::task::spawn_blocking(move || Spool::open(&folder, limits)).await;
    let spool = spool
        .map_err(|error| mesh::StartError::new(ROLE, error))?
        .map_err(|error| mesh::StartError::new(ROLE, error))?;
    let recorder = Arc::new(record::Recorder::new(spool));
    let (sweeping, outcomes, stop) = (Arc::clone(&store), Arc::clone(&recorder), ctx.stop.clone());
    ctx.tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            outcome::sweep(&sweeping, &outcomes).await;
            sweeping.forget().await;
        }
    });
    let (bringing, stop) = (Arc::clone(&recorder), ctx.stop.clone());
    let ledger = LedgerServiceClient::new(ctx.channel("ledger")).max_encoding_message_size(4 << 20);
    ctx.tasks.spawn(async move { bringing.bring(ledger, stop).await });
    // Far above the limits of the fields, so that it is those which answer.
    let server = ConversationServiceServer::new(service::Conversations::new(config, peers, store, recorder))
        .max_decoding_message_size(4 << 20);
    Ok(mesh::Mounted {
        role: ROLE,
        routes: tonic::service::Routes::new(server),
        services: vec![SERVICE_NAME],
        long_lived: vec![],
    })
}
