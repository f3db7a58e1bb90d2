//! Contracts of others that a node serves beside its own, so that their clients work as they are.
//!
//! `inference.GRPCInferenceService` is the Open Inference Protocol with Triton's extensions, `tei.v1` the
//! contract of text-embeddings-inference. A door checks a request, asks the model, and puts what it gave
//! into the words of its contract.

mod open_inference;
mod stream;
mod tei;

use std::sync::Arc;

use switchboard_mesh::{Call, Tenant, error, health::Health};
use switchboard_proto::{
    open_inference::grpc_inference_service_server::{self, GrpcInferenceServiceServer},
    tei::v1::{
        embed_server::{self, EmbedServer},
        info_server::{self, InfoServer},
        predict_server::{self, PredictServer},
        rerank_server::{self, RerankServer},
        tokenize_server::{self, TokenizeServer},
    },
};
use tonic::{Request, Status, service::Routes};

use crate::{LARGEST_REQUEST, registry::Registry};

/// Bytes of the largest message that has one text or two. The longest text has 125 KiB; what is over the
/// bound is still read, so that the answer can name the field.
const LARGEST_TEXT: usize = 1 << 20;

/// The tenant of calls that name none: others' clients know of no tenants. A node's own port, where these
/// doors are, trusts its callers; the gateway does not lead here.
const NO_TENANT: &str = "default";

/// The full names of the doors' services.
pub(crate) const SERVICES: [&str; 6] = [
    grpc_inference_service_server::SERVICE_NAME,
    info_server::SERVICE_NAME,
    embed_server::SERVICE_NAME,
    predict_server::SERVICE_NAME,
    rerank_server::SERVICE_NAME,
    tokenize_server::SERVICE_NAME,
];

/// The doors' streams, which go on for as long as their caller likes. Each message has a time of its own.
pub(crate) const STREAMS: [&str; 9] = [
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/tei.v1.Embed/EmbedStream",
    "/tei.v1.Embed/EmbedSparseStream",
    "/tei.v1.Embed/EmbedAllStream",
    "/tei.v1.Predict/PredictStream",
    "/tei.v1.Predict/PredictPairStream",
    "/tei.v1.Rerank/RerankStream",
    "/tei.v1.Tokenize/TokenizeStream",
    "/tei.v1.Tokenize/DecodeStream",
];

/// The doors' routes.
pub(crate) fn routes(registry: &Arc<Registry>, health: &Health) -> Routes {
    let open_inference = open_inference::Door::new(Arc::clone(registry), health.clone());
    let tei = tei::Door::new(Arc::clone(registry));
    Routes::new(GrpcInferenceServiceServer::new(open_inference).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(InfoServer::new(tei.clone()))
        .add_service(EmbedServer::new(tei.clone()).max_decoding_message_size(LARGEST_TEXT))
        .add_service(PredictServer::new(tei.clone()).max_decoding_message_size(LARGEST_TEXT))
        .add_service(RerankServer::new(tei.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(TokenizeServer::new(tei).max_decoding_message_size(LARGEST_TEXT))
}

/// The call that `request` belongs to, with a tenant.
fn call_of<T>(request: &Request<T>) -> Result<Call, Status> {
    let call = Call::of(request)?;
    if call.tenant().is_ok() {
        return Ok(call);
    }
    let tenant =
        Tenant::try_new(NO_TENANT).map_err(|allowed| error::of_kind(error::Kind::Internal, allowed))?;
    Ok(Call::new(tenant, call.deadline).with_class(call.class))
}

/// As much of a caller's name for something as an error may repeat: it may be of any length.
fn shown(name: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = name.chars().take(MOST).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}
