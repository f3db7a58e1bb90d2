//! Which role may call what on a node: every method that nodes serve, in one table.
//!
//! It holds between nodes that have an identity. A method that it lacks is served to nobody. Of several
//! roles that a caller has, one that may is enough. The tenant that a caller names is believed, so methods
//! that give a tenant's data away are open to the gateway, which takes the tenant from the key, and to
//! roles that pass on the tenant of the call that they serve.

use tonic::Status;

use super::Peer;
use crate::error::{Kind, of_kind};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Every node with a certificate of the mesh.
    Every,
    /// Those with one of these roles.
    Roles(&'static [&'static str]),
}

/// The doors for customers, agents and admins. Each method that they open is open to it.
pub const GATEWAY: &str = "gateway";
/// People who look after nodes, from a command line.
pub const OPERATOR: &str = "operator";

use Callers::{Every, Roles};

const GATEWAY_ONLY: Callers = Roles(&[GATEWAY]);
const OPERATOR_ONLY: Callers = Roles(&[OPERATOR]);
/// A stage of a turn, which keys for staff may call by itself.
const TURN: Callers = Roles(&["conversation", GATEWAY]);
/// What costs a model's time.
const MODELS: Callers = Roles(&["embeddings", "generation", "reranking"]);
/// What a model is and how fast it is.
const ABOUT_MODELS: Callers = Roles(&["embeddings", "generation", "reranking", OPERATOR]);

/// A service, and who may call each of its methods.
type Service = (&'static str, &'static [(&'static str, Callers)]);

const SERVICES: &[Service] = &[
    (
        "switchboard.conversation.v1.ConversationService",
        &[
            ("Converse", GATEWAY_ONLY),
            ("GetConversation", GATEWAY_ONLY),
            ("ListConversations", GATEWAY_ONLY),
            ("SubmitFeedback", GATEWAY_ONLY),
        ],
    ),
    (
        "switchboard.embeddings.v1.EmbeddingsService",
        &[("Embed", Roles(&["conversation", "knowledge", GATEWAY])), ("EmbedStream", GATEWAY_ONLY)],
    ),
    (
        "switchboard.generation.v1.GenerationService",
        &[("Generate", TURN), ("Route", TURN), ("ListModels", Roles(&[GATEWAY, OPERATOR]))],
    ),
    (
        "switchboard.knowledge.v1.KnowledgeService",
        &[
            ("Ingest", GATEWAY_ONLY),
            ("Search", TURN),
            ("GetPassage", TURN),
            ("DeleteDocument", GATEWAY_ONLY),
            ("ListDocuments", GATEWAY_ONLY),
        ],
    ),
    (
        "switchboard.policy.v1.PolicyService",
        &[
            // A model's answer is inspected as it comes, and so is what a tool returns.
            ("Inspect", Roles(&["conversation", "generation", "tools", GATEWAY])),
            ("InspectStream", Roles(&["conversation", "generation", "tools", GATEWAY])),
            ("Redact", TURN),
            // Gives raw personal data back: to what acts on it, and to people.
            ("Restore", Roles(&["handoff", "tools"])),
            ("Forget", Roles(&["conversation", "handoff", GATEWAY])),
            ("Decide", Roles(&["conversation", "generation", "handoff", "ledger", "tools", GATEWAY])),
            ("GetBundle", TURN),
            ("ReloadBundles", GATEWAY_ONLY),
        ],
    ),
    (
        "switchboard.ledger.v1.LedgerService",
        &[
            ("Append", Roles(&["conversation", "generation", "handoff", "policy", "tools", GATEWAY])),
            ("Query", Roles(&["conversation", "handoff", "tools", GATEWAY])),
            ("Get", Roles(&["conversation", "handoff", "tools", GATEWAY])),
            // Gives raw personal data back: to what acts on it, and to people.
            ("Unseal", Roles(&["handoff", "tools"])),
            ("Verify", GATEWAY_ONLY),
            ("Prove", GATEWAY_ONLY),
            ("Checkpoints", GATEWAY_ONLY),
            ("Export", GATEWAY_ONLY),
            ("EraseSubject", GATEWAY_ONLY),
        ],
    ),
    ("switchboard.reranking.v1.RerankingService", &[("Rerank", TURN)]),
    (
        "switchboard.inference.v1.InferenceService",
        &[
            ("Embed", MODELS),
            ("Rerank", MODELS),
            ("Generate", MODELS),
            ("Transcribe", MODELS),
            ("DetectSpeech", MODELS),
            ("Classify", Roles(&["embeddings", "generation", "policy", "reranking"])),
            ("ListModels", ABOUT_MODELS),
            ("Profile", ABOUT_MODELS),
        ],
    ),
    // The contracts of others are for tools that people run against a model server.
    (
        "inference.GRPCInferenceService",
        &[
            ("ServerLive", Every),
            ("ServerReady", Every),
            ("ModelReady", Every),
            ("ServerMetadata", OPERATOR_ONLY),
            ("ModelMetadata", OPERATOR_ONLY),
            ("ModelInfer", OPERATOR_ONLY),
            ("ModelStreamInfer", OPERATOR_ONLY),
            ("ModelConfig", OPERATOR_ONLY),
            ("ModelStatistics", OPERATOR_ONLY),
            ("RepositoryIndex", OPERATOR_ONLY),
            ("RepositoryModelLoad", OPERATOR_ONLY),
            ("RepositoryModelUnload", OPERATOR_ONLY),
        ],
    ),
    ("tei.v1.Info", &[("Info", OPERATOR_ONLY)]),
    (
        "tei.v1.Embed",
        &[
            ("Embed", OPERATOR_ONLY),
            ("EmbedStream", OPERATOR_ONLY),
            ("EmbedSparse", OPERATOR_ONLY),
            ("EmbedSparseStream", OPERATOR_ONLY),
            ("EmbedAll", OPERATOR_ONLY),
            ("EmbedAllStream", OPERATOR_ONLY),
        ],
    ),
    (
        "tei.v1.Predict",
        &[
            ("Predict", OPERATOR_ONLY),
            ("PredictPair", OPERATOR_ONLY),
            ("PredictStream", OPERATOR_ONLY),
            ("PredictPairStream", OPERATOR_ONLY),
        ],
    ),
    ("tei.v1.Rerank", &[("Rerank", OPERATOR_ONLY), ("RerankStream", OPERATOR_ONLY)]),
    (
        "tei.v1.Tokenize",
        &[
            ("Tokenize", OPERATOR_ONLY),
            ("TokenizeStream", OPERATOR_ONLY),
            ("Decode", OPERATOR_ONLY),
            ("DecodeStream", OPERATOR_ONLY),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", Every), ("Watch", Every)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Every)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Every)]),
];

/// Every method, as `/package.Service/Method`, with those who may call it.
pub fn methods() -> impl Iterator<Item = (String, Callers)> {
    SERVICES.iter().flat_map(|(service, methods)| {
        methods.iter().map(move |(method, callers)| (format!("/{service}/{method}"), *callers))
    })
}

/// The service and method at `path`, and those who may call it.
fn find(path: &str) -> Option<(&'static str, &'static str, Callers)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (service, methods) = SERVICES.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|(name, callers)| (*service, *name, *callers))
}

/// Whether `peer` may call the method at `path`.
///
/// # Errors
/// PERMISSION_DENIED, which says who may not call what.
pub(crate) fn check(peer: &Peer, path: &str) -> Result<(), Status> {
    let denied = |message: String| {
        tracing::info!(%peer, "{message}");
        Err(of_kind(Kind::Denied, message))
    };
    match find(path) {
        Some((.., Every)) => Ok(()),
        Some((.., Roles(roles))) if roles.iter().any(|role| peer.has(role)) => Ok(()),
        Some((service, method, _)) => {
            denied(format!("a node with the role {peer} may not call {service}/{method}"))
        }
        // Its name is whatever the caller sent.
        None => denied(format!("a node with the role {peer} may not call this method: nobody may")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(roles: &[&str], path: &str) -> bool {
        check(&Peer::with(roles), path).is_ok()
    }

    #[test]
    fn a_role_may_call_what_its_work_needs_and_no_more() {
        let redact = "/switchboard.policy.v1.PolicyService/Redact";
        assert!(may(&["conversation"], redact) && may(&["gateway"], redact));
        assert!(!may(&["knowledge"], redact) && !may(&["operator"], redact));
        assert!(may(&["knowledge", "conversation"], redact), "one of several roles is enough");
        assert!(!may(&["gateway"], "/switchboard.inference.v1.InferenceService/Embed"));
        assert!(may(&["operator"], "/switchboard.inference.v1.InferenceService/Profile"));
        assert!(may(&["anything"], "/grpc.health.v1.Health/Check"));
    }

    #[test]
    fn raw_personal_data_goes_to_tools_and_handoff_alone() {
        let restore = "/switchboard.policy.v1.PolicyService/Restore";
        for role in ["conversation", "gateway", "operator", "generation", "policy"] {
            assert!(!may(&[role], restore), "{role}");
        }
        assert!(may(&["tools"], restore) && may(&["handoff"], restore));
        let unseal = "/switchboard.ledger.v1.LedgerService/Unseal";
        assert!(may(&["tools"], unseal) && !may(&["gateway"], unseal) && !may(&["conversation"], unseal));
    }

    #[test]
    fn an_operator_reaches_no_tenants_data() {
        let holders =
            ["conversation", "knowledge", "ledger", "policy"].map(|role| format!("/switchboard.{role}."));
        for (path, callers) in methods() {
            let open = may(&[OPERATOR], &path);
            assert!(!(open && holders.iter().any(|holder| path.starts_with(holder))), "{path} {callers:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for path in ["", "/", "/x.Y/Z", "/grpc.health.v1.Health/", "/grpc.health.v1.Health/check"] {
            assert!(!may(&["gateway"], path), "{path}");
        }
    }
}
