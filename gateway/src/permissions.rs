//! Who may call what: every RPC of the contracts and every HTTP route, in one table.
//!
//! What is not in the table is not served. A key opens a method when its role is among the method's
//! roles and, where the key has scopes, one of them takes in the method's. Roles say what a key is
//! for; scopes only take away from that.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::keys::Role::{self, Admin, Agent, Auditor, CustomerApp};

/// What it takes to call a method or a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// No key: what probes, scrapers and clients ask before they have one.
    Open,
    /// A key.
    Key {
        /// The roles whose keys open it.
        roles: &'static [Role],
        /// The service, or the group of its methods, that a key with scopes must have.
        scope: &'static str,
    },
    /// No key opens it, though its service is served: it gives back what must stay inside.
    Closed,
    /// Its service is for the mesh alone; from outside there is no such method.
    Internal,
}

use Access::{Closed, Internal, Open};

const fn key(roles: &'static [Role], scope: &'static str) -> Access {
    Access::Key { roles, scope }
}

/// Talking to customers, and for them.
const FRONT: &[Role] = &[CustomerApp, Agent, Admin];
/// One conversation, whose id is known to those who take part in it.
const ANYONE: &[Role] = &[CustomerApp, Agent, Admin, Auditor];
/// Looking at everything that a tenant has.
const READERS: &[Role] = &[Agent, Admin, Auditor];
/// Work that costs compute and changes nothing.
const STAFF: &[Role] = &[Agent, Admin];
/// Looking at what was decided, and for whom.
const AUDITORS: &[Role] = &[Admin, Auditor];
/// Changing what customers are told.
const OWNERS: &[Role] = &[Admin];

/// A service, and what each of its methods takes.
type Service = (&'static str, &'static [(&'static str, Access)]);

/// Every method that there is, by service.
const SERVICES: &[Service] = &[
    (
        "switchboard.conversation.v1.ConversationService",
        &[
            ("Converse", CONVERSE),
            ("GetConversation", key(ANYONE, "conversation:read")),
            ("ListConversations", key(READERS, "conversation:read")),
            ("SubmitFeedback", key(FRONT, "conversation:write")),
        ],
    ),
    (
        "switchboard.embeddings.v1.EmbeddingsService",
        &[("Embed", key(STAFF, "embeddings")), ("EmbedStream", key(STAFF, "embeddings"))],
    ),
    (
        "switchboard.generation.v1.GenerationService",
        &[
            ("Generate", key(STAFF, "generation")),
            ("Route", key(STAFF, "generation")),
            ("ListModels", key(READERS, "generation")),
        ],
    ),
    (
        "switchboard.knowledge.v1.KnowledgeService",
        &[
            ("Ingest", key(OWNERS, "knowledge:write")),
            ("Search", key(READERS, "knowledge:read")),
            ("GetPassage", key(READERS, "knowledge:read")),
            ("DeleteDocument", key(OWNERS, "knowledge:write")),
            ("ListDocuments", key(READERS, "knowledge:read")),
        ],
    ),
    (
        "switchboard.policy.v1.PolicyService",
        &[
            ("Inspect", key(STAFF, "policy")),
            ("InspectStream", key(STAFF, "policy")),
            ("Redact", key(STAFF, "policy")),
            // Gives raw personal data back.
            ("Restore", Closed),
            ("Forget", key(OWNERS, "policy")),
            ("Decide", key(READERS, "policy")),
            ("GetBundle", key(READERS, "policy")),
            ("ReloadBundles", key(OWNERS, "policy")),
        ],
    ),
    (
        "switchboard.ledger.v1.LedgerService",
        &[
            // What was decided is told by who decided it.
            ("Append", Closed),
            ("Query", key(AUDITORS, "ledger:read")),
            ("Get", key(AUDITORS, "ledger:read")),
            // Gives raw personal data back.
            ("Unseal", Closed),
            ("Verify", key(AUDITORS, "ledger:read")),
            ("Prove", key(AUDITORS, "ledger:read")),
            ("Checkpoints", key(AUDITORS, "ledger:read")),
            ("Export", key(AUDITORS, "ledger:export")),
            ("EraseSubject", key(OWNERS, "ledger:write")),
        ],
    ),
    ("switchboard.reranking.v1.RerankingService", &[("Rerank", key(STAFF, "reranking"))]),
    (
        "switchboard.inference.v1.InferenceService",
        &[
            ("Embed", Internal),
            ("Rerank", Internal),
            ("Generate", Internal),
            ("Transcribe", Internal),
            ("DetectSpeech", Internal),
            ("Classify", Internal),
            ("ListModels", Internal),
            ("Profile", Internal),
        ],
    ),
    (
        "inference.GRPCInferenceService",
        &[
            ("ServerLive", Internal),
            ("ServerReady", Internal),
            ("ModelReady", Internal),
            ("ServerMetadata", Internal),
            ("ModelMetadata", Internal),
            ("ModelInfer", Internal),
            ("ModelStreamInfer", Internal),
            ("ModelConfig", Internal),
            ("ModelStatistics", Internal),
            ("RepositoryIndex", Internal),
            ("RepositoryModelLoad", Internal),
            ("RepositoryModelUnload", Internal),
        ],
    ),
    ("tei.v1.Info", &[("Info", Internal)]),
    (
        "tei.v1.Embed",
        &[
            ("Embed", Internal),
            ("EmbedStream", Internal),
            ("EmbedSparse", Internal),
            ("EmbedSparseStream", Internal),
            ("EmbedAll", Internal),
            ("EmbedAllStream", Internal),
        ],
    ),
    (
        "tei.v1.Predict",
        &[
            ("Predict", Internal),
            ("PredictPair", Internal),
            ("PredictStream", Internal),
            ("PredictPairStream", Internal),
        ],
    ),
    ("tei.v1.Rerank", &[("Rerank", Internal), ("RerankStream", Internal)]),
    (
        "tei.v1.Tokenize",
        &[
            ("Tokenize", Internal),
            ("TokenizeStream", Internal),
            ("Decode", Internal),
            ("DecodeStream", Internal),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", Open), ("Watch", Open)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Open)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Open)]),
];

/// A turn, over whichever door.
const CONVERSE: Access = key(FRONT, "conversation:write");

/// What is served over HTTP; the router is made of these and of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Converse,
    Healthz,
    Readyz,
    Metrics,
}

impl Route {
    pub(crate) const ALL: [Self; 4] = [Self::Converse, Self::Healthz, Self::Readyz, Self::Metrics];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Converse => "/v1/converse",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
        }
    }

    /// What it takes to call it, with any method.
    pub(crate) fn access(self) -> Access {
        match self {
            Self::Converse => CONVERSE,
            // Operators' own; where HTTP listens says who can reach them.
            Self::Healthz | Self::Readyz | Self::Metrics => Open,
        }
    }

    /// The route at `path`.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.path() == path)
    }
}

/// What it takes to call the gRPC method at `path`; `None` where there is none.
pub(crate) fn method(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = SERVICES.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|(_, access)| *access)
}

/// The path of every method that is declared.
#[cfg(test)]
pub(crate) fn paths() -> impl Iterator<Item = String> {
    let path = |service: &str, method: &str| format!("/{service}/{method}");
    SERVICES
        .iter()
        .flat_map(move |(service, methods)| methods.iter().map(move |(name, _)| path(service, name)))
}

/// Every scope that a key may have, in order of name: services, and the groups of their methods.
pub(crate) fn scopes() -> impl Iterator<Item = &'static str> {
    static SCOPES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
        let groups = keyed().map(|(_, scope)| scope);
        groups.flat_map(|group| [group, group.split(':').next().unwrap_or(group)]).collect()
    });
    SCOPES.iter().copied()
}

/// Whether a key of `role` could call anything in the group of methods, or the service, `scope`.
pub(crate) fn reaches(role: Role, takes_in: impl Fn(&str) -> bool) -> bool {
    keyed().any(|(roles, group)| roles.contains(&role) && takes_in(group))
}

/// Roles and scope of each method that takes a key.
fn keyed() -> impl Iterator<Item = (&'static [Role], &'static str)> {
    SERVICES.iter().flat_map(|(_, methods)| *methods).filter_map(|(_, access)| match *access {
        Access::Key { roles, scope } => Some((roles, scope)),
        Open | Closed | Internal => None,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The paths of every method in a descriptor set.
    fn methods(descriptors: &[u8]) -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(descriptors).unwrap().file;
        let services = files.iter().flat_map(|file| file.service.iter().map(move |s| (file.package(), s)));
        let paths = services.flat_map(|(package, service)| {
            service.method.iter().map(move |m| format!("/{package}.{}/{}", service.name(), m.name()))
        });
        paths.collect()
    }

    #[test]
    fn every_rpc_has_one_permission_and_every_permission_an_rpc() {
        let contracts = methods(switchboard_proto::DESCRIPTORS);
        let builtin = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let exist: BTreeSet<String> =
            contracts.into_iter().chain(builtin.into_iter().flat_map(methods)).collect();
        let mut declared = BTreeSet::new();
        for path in paths() {
            assert!(declared.insert(path.clone()), "{path} is declared twice");
        }
        let undeclared: Vec<_> = exist.difference(&declared).collect();
        assert!(undeclared.is_empty(), "declare in permissions.rs who may call {undeclared:?}");
        let unknown: Vec<_> = declared.difference(&exist).collect();
        assert!(unknown.is_empty(), "there is no such method: {unknown:?}");
        assert!(exist.iter().all(|path| method(path).is_some()));
    }

    #[test]
    fn what_is_not_declared_is_not_there() {
        for path in [
            "",
            "/",
            "//",
            "switchboard.policy.v1.PolicyService/Redact",
            "/switchboard.policy.v1.PolicyService/",
            "/switchboard.policy.v1.PolicyService/redact",
            "/switchboard.policy.v1.PolicyService//Redact",
            "/switchboard.policy.v1.PolicyService/Redact/",
            "/x.Y/Z",
        ] {
            assert_eq!(method(path), None, "{path}");
        }
        assert_eq!((Route::at("/v1/converse/"), Route::at("/v1")), (None, None));
    }

    #[test]
    fn an_admin_may_call_whatever_takes_a_key_and_an_auditor_changes_nothing() {
        for (roles, scope) in keyed() {
            assert!(roles.contains(&Admin), "{scope}");
            assert!(!(scope.ends_with(":write") && roles.contains(&Auditor)), "{scope}");
        }
        assert!(!reaches(CustomerApp, |group| group.starts_with("knowledge")));
    }

    #[test]
    fn a_scope_names_a_service_that_takes_keys() {
        for scope in scopes() {
            let role = scope.split(':').next().unwrap();
            let part = format!("switchboard.{role}.");
            assert!(SERVICES.iter().any(|(service, _)| service.starts_with(&part)), "{scope}");
        }
    }
}
