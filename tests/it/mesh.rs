//! The harness: roles of the real crates in one process, with the real model, over a folder of
//! their own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::stream;
use http::Uri;
use switchboard_mesh::{
    Call, Context, Deadline, Mounted, Tenant, bootstrap::Wiring, error, identity::Identity, server,
    testing::eventually,
};
use switchboard_proto::{
    conversation::v1::{
        ConverseRequest, ConverseResponse, Outcome, TurnHandOff, TurnReport,
        conversation_service_client::ConversationServiceClient, converse_response::Event,
    },
    knowledge::v1::{
        DocumentHeader, IngestRequest, IngestResult, ingest_request::Part,
        knowledge_service_client::KnowledgeServiceClient,
    },
    ledger::v1::{Order, QueryRequest, Record, ledger_service_client::LedgerServiceClient},
};
use tempfile::TempDir;
use tonic::{Code, Status};

/// Every role, in order of name.
pub(crate) const ALL: [&str; 8] =
    ["conversation", "embeddings", "generation", "inference", "knowledge", "ledger", "policy", "reranking"];

/// Roles in this process.
pub(crate) struct Mesh {
    pub(crate) ctx: Context,
    mounted: Vec<Mounted>,
    _folder: TempDir,
}

/// Where `cargo xtask setup` puts the runtime and the models.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache")
}

pub(crate) fn inference_config() -> switchboard_model_server::Config {
    switchboard_model_server::Config {
        repository: cache().join("models"),
        runtime: cache().join("onnxruntime/libonnxruntime.so"),
        // Nothing here depends on how well the cores are used.
        warm_up: Duration::from_millis(50),
        ..Default::default()
    }
}

/// The example's bundles: tenant `bank` has the bank's, tenant `clinic` the clinic's.
pub(crate) fn policy_config() -> switchboard_policy::Config {
    switchboard_policy::Config {
        bundles: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policy"),
        tenants: ["bank", "clinic"].map(|name| (name.to_owned(), name.to_owned())).into(),
        ..Default::default()
    }
}

/// Little may wait for the ledger, so that a test can fill it.
fn conversation_config() -> switchboard_conversation::Config {
    switchboard_conversation::Config { spool_mib: 1, ..Default::default() }
}

/// Every record is covered by a checkpoint at once.
fn ledger_config() -> switchboard_ledger::Config {
    let checkpoint = switchboard_ledger::config::CheckpointConfig { records: 1, ..Default::default() };
    switchboard_ledger::Config { checkpoint, ..Default::default() }
}

impl Mesh {
    /// All roles in one process.
    pub(crate) async fn whole() -> Self {
        Self::of(&ALL, BTreeMap::new()).await
    }

    /// Some roles, with others elsewhere or nowhere.
    pub(crate) async fn of(roles: &[&str], remote: BTreeMap<String, Vec<Uri>>) -> Self {
        Self::secured(roles, remote, Identity::plain()).await
    }

    /// The same, as `identity`.
    pub(crate) async fn secured(
        roles: &[&str],
        remote: BTreeMap<String, Vec<Uri>>,
        identity: Identity,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ctx = Context::wired(folder.path().to_owned(), Wiring { identity, ..Wiring::fixed(remote) });
        let mut mounted = Vec::new();
        for role in roles {
            let started = match *role {
                "conversation" => switchboard_conversation::start(conversation_config(), &ctx).await,
                "embeddings" => switchboard_embeddings::start(Default::default(), &ctx).await,
                "generation" => switchboard_generation::start(Default::default(), &ctx).await,
                "inference" => switchboard_model_server::start(inference_config(), &ctx).await,
                "knowledge" => switchboard_knowledge::start(Default::default(), &ctx).await,
                "ledger" => switchboard_ledger::start(ledger_config(), &ctx).await,
                "policy" => switchboard_policy::start(policy_config(), &ctx).await,
                "reranking" => switchboard_reranking::start(Default::default(), &ctx).await,
                other => panic!("no role {other}"),
            };
            let started = started
                .unwrap_or_else(|error| panic!("{}; has `cargo xtask setup` run?", error::chain(&error)));
            ctx.mount(&started);
            mounted.push(started);
        }
        Self { ctx, mounted, _folder: folder }
    }

    /// Serves the roles over TCP on a free port.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = server::bind("test", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stack = self.ctx.node(self.mounted.clone(), switchboard_proto::DESCRIPTORS).unwrap();
        let listener = server::Listener::new(listener, self.ctx.identity.clone());
        let stop = self.ctx.stop.clone();
        self.ctx.tasks.spawn(server::serve(
            listener,
            stack,
            server::Limits::default(),
            stop,
            Duration::from_secs(1),
        ));
        address
    }

    /// Stores a document for `tenant`.
    pub(crate) async fn ingest(&self, tenant: &str, id: &str, text: &str) -> IngestResult {
        let parts = [
            Part::Header(DocumentHeader { document_id: id.into(), ..Default::default() }),
            Part::Chunk(text.as_bytes().to_vec()),
        ];
        let parts: Vec<_> = parts.into_iter().map(|part| IngestRequest { part: Some(part) }).collect();
        let mut client = KnowledgeServiceClient::new(self.ctx.channel("knowledge"));
        let response = client.ingest(call(tenant).request(stream::iter(parts))).await.unwrap();
        response.into_inner().results.remove(0)
    }

    /// Runs a turn to its end.
    pub(crate) async fn converse(&self, call: &Call, request: ConverseRequest) -> Result<Reply, Status> {
        let mut client = ConversationServiceClient::new(self.ctx.channel("conversation"));
        let mut stream = client.converse(call.request(request)).await?.into_inner();
        let mut events = Vec::new();
        while let Some(event) = stream.message().await? {
            events.push(event);
        }
        Ok(Reply::of(events))
    }

    /// The records of a conversation, oldest first, once the ledger has `least` of them.
    pub(crate) async fn records(&self, tenant: &str, conversation: &str, least: usize) -> Vec<Record> {
        let mut ledger = LedgerServiceClient::new(self.ctx.channel("ledger"));
        // They come by way of the disk.
        eventually(async || {
            let request = QueryRequest {
                conversation_id: conversation.to_owned(),
                order: Order::OldestFirst.into(),
                ..QueryRequest::default()
            };
            match ledger.query(call(tenant).request(request)).await {
                Ok(found) if found.get_ref().records.len() >= least => Ok(found.into_inner().records),
                found => Err(found),
            }
        })
        .await
    }

    /// Asks a question for tenant `acme`.
    pub(crate) async fn ask(&self, text: &str) -> Reply {
        self.converse(&call("acme"), question(text)).await.unwrap()
    }
}

/// A finished turn.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) hand_off: Option<TurnHandOff>,
    pub(crate) report: TurnReport,
}

impl Reply {
    fn of(events: Vec<ConverseResponse>) -> Self {
        let mut text = String::new();
        let (mut report, mut hand_off) = (None, None);
        let last = events.len() - 1;
        for (position, event) in events.into_iter().enumerate() {
            match event.event.unwrap() {
                Event::Started(_) => assert_eq!(position, 0, "`started` comes first"),
                Event::HandOff(offer) => hand_off = Some(offer),
                Event::Sentence(sentence) => {
                    text.push_str(&sentence.text);
                    text.push('\n');
                }
                Event::Report(found) => {
                    assert_eq!(position, last, "the report comes last");
                    report = Some(found);
                }
            }
        }
        Self { text, hand_off, report: report.expect("every turn ends with its report") }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.report.outcome()
    }

    pub(crate) fn documents(&self) -> Vec<String> {
        self.report.citations.iter().map(|c| c.citation.clone().unwrap().document_id).collect()
    }
}

/// A call for `tenant` with half a minute to go.
pub(crate) fn call(tenant: &str) -> Call {
    Call::new(Tenant::try_new(tenant).unwrap(), Deadline::after(Duration::from_secs(30)))
}

pub(crate) fn question(text: &str) -> ConverseRequest {
    ConverseRequest { text: text.into(), ..Default::default() }
}

/// Three documents of a shop, for tests that need something to find.
pub(crate) const RETURNS: &str = "# Returns\n\n## Jackets\n\nA jacket can be returned within 30 days if its \
    tags are still on it. We refund the price to the card that you paid with.\n\n## Shoes\n\nShoes that were \
    worn outside cannot be returned. Unworn shoes can be returned within 14 days in their box.\n";
pub(crate) const SHIPPING: &str = "# Shipping\n\n## Costs\n\nStandard delivery costs 4.95 euros and is free for \
    orders over 60 euros.\n\n## Times\n\nStandard delivery takes two to four business days.\n";
pub(crate) const WARRANTY: &str = "# Warranty\n\nAll tents come with a warranty of five years. The warranty \
    covers broken seams and zips, but no damage by storm.\n";

pub(crate) async fn shop(mesh: &Mesh) {
    for (id, text) in [("returns.md", RETURNS), ("shipping.md", SHIPPING), ("warranty.md", WARRANTY)] {
        let result = mesh.ingest("acme", id, text).await;
        assert!(result.passages > 0, "{result:?}");
    }
}

pub(crate) fn assert_code<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    status
}
