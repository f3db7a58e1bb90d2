//! Tenants never meet: whatever the gateway serves is tried with one tenant's key on another's data.
//!
//! The methods come from the descriptors. One that is new must either be refused by the gateway or
//! have a case here.

use std::{sync::Arc, time::Duration};

use futures::stream;
use prost::Message as _;
use switchboard_gateway::{
    Dependencies,
    keys::{Keys, NewKey, Role},
};
use switchboard_mesh::{Tenant, config::Secret};
use switchboard_proto::{
    DESCRIPTORS,
    conversation::v1::{
        ConverseRequest, Feedback, GetConversationRequest, ListConversationsRequest, Rating,
        SubmitFeedbackRequest, conversation_service_client::ConversationServiceClient, converse_response,
    },
    knowledge::v1::{
        DeleteDocumentRequest, DocumentHeader, Filter, GetPassageRequest, IngestRequest,
        ListDocumentsRequest, QueryForm, SearchMode, SearchRequest, ingest_request::Part,
        knowledge_service_client::KnowledgeServiceClient,
    },
    ledger::v1::{
        AppendRequest, CheckpointsRequest, EraseSubjectRequest, ExportRequest, GetRequest, NewRecord,
        ProveRequest, QueryRequest, RecordKind, VerifyRequest, ledger_service_client::LedgerServiceClient,
    },
    policy::v1::{
        Direction, ForgetRequest, InspectRequest, InspectStreamRequest, RedactRequest,
        inspect_stream_request, policy_service_client::PolicyServiceClient,
    },
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Status, client::GrpcService, metadata::MetadataValue, transport::Channel};

use crate::mesh::Mesh;

const SECRET: &str = "Periwinkle";
const DOCUMENT: &str = "vault.md";
const QUESTION: &str = "What is the code word of the vault?";
/// A conversation's id that both tenants choose, as telephony does with its own call ids.
const SHARED: &str = "call-1";
/// A customer's pseudonym that both tenants choose.
const SUBJECT: &str = "customer-1";

/// What a method has to do with a tenant's data.
enum Case {
    /// It gives some of it out.
    Shows,
    /// It changes it.
    Changes,
    /// Its answer is made of the request alone.
    HoldsNothing,
}

fn case(path: &str) -> Option<Case> {
    let (role, method) = path.strip_prefix("/switchboard.")?.split_once(".v1.")?;
    let method = method.split_once('/')?.1;
    Some(match (role, method) {
        ("conversation", "Converse" | "GetConversation" | "ListConversations")
        | ("knowledge", "Search" | "GetPassage" | "ListDocuments")
        | ("ledger", "Query" | "Get" | "Verify" | "Prove" | "Checkpoints" | "Export")
        | ("policy", "Inspect" | "InspectStream" | "Redact") => Case::Shows,
        ("conversation", "SubmitFeedback")
        | ("knowledge", "Ingest" | "DeleteDocument")
        | ("ledger", "EraseSubject")
        | ("policy", "Forget") => Case::Changes,
        ("embeddings", "Embed" | "EmbedStream")
        | ("generation", "Generate" | "Route" | "ListModels")
        | ("policy", "Decide" | "GetBundle" | "ReloadBundles")
        | ("reranking", "Rerank") => Case::HoldsNothing,
        _ => return None,
    })
}

/// The paths of every method of the contracts.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().flat_map(|file| file.service.iter().map(move |s| (file.package(), s)));
    let paths = services.flat_map(|(package, service)| {
        service.method.iter().map(move |m| format!("/{package}.{}/{}", service.name(), m.name()))
    });
    paths.collect()
}

/// A key, and what its holder claims of itself beside it.
struct Caller {
    key: Secret,
    claims: &'static [(&'static str, &'static str)],
}

impl Caller {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.key.expose());
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        for (name, value) in self.claims {
            match name.strip_suffix("-bin") {
                Some(_) => {
                    let value = MetadataValue::from_bytes(value.as_bytes());
                    request.metadata_mut().append_bin(*name, value);
                }
                None => {
                    request.metadata_mut().append(*name, value.parse().unwrap());
                }
            }
        }
        request
    }
}

/// A whole mesh with a gateway, over which `globex` has something to hide.
struct World {
    mesh: Mesh,
    channel: Channel,
    http: std::net::SocketAddr,
    globex: Caller,
    /// Holds the most powerful key that there is, and says that it is globex.
    acme: Caller,
    conversation: String,
    passage: String,
    placeholder: String,
    /// A record of the ledger, and its hash.
    record: String,
    hash: String,
}

const FORGED: &[(&str, &str)] = &[
    ("x-switchboard-tenant", "globex"),
    ("x-switchboard-tenant", "globex"),
    ("x-switchboard-tenant-bin", "globex"),
    ("x-switchboard-role", "admin"),
    ("x-tenant", "globex"),
    ("tenant", "globex"),
];

impl World {
    async fn new() -> Self {
        let mesh = Mesh::whole().await;
        let keys = Arc::new(Keys::open(mesh.ctx.data.join("keys.json")).unwrap());
        let key = |tenant: &str| {
            let new = NewKey::new(Tenant::try_new(tenant).unwrap(), Role::Admin);
            keys.create(&new).unwrap().1
        };
        let globex = Caller { key: key("globex"), claims: &[] };
        let acme = Caller { key: key("acme"), claims: FORGED };
        let any = ([127, 0, 0, 1], 0).into();
        let config = switchboard_gateway::Config { http: any, grpc: any, ..Default::default() };
        let dependencies = Dependencies { keys, redis: None, scrape: String::new, descriptors: DESCRIPTORS };
        let doors = switchboard_gateway::start(config, &mesh.ctx, dependencies);
        let doors = doors.await.unwrap();
        let channel = Channel::from_shared(format!("http://{}", doors.grpc)).unwrap();
        let channel = channel.connect().await.unwrap();
        let [conversation, passage, placeholder, record, hash] = Default::default();
        let http = doors.http;
        let mut world =
            Self { mesh, channel, http, globex, acme, conversation, passage, placeholder, record, hash };
        world.fill().await;
        world
    }

    /// Gives both tenants something of each kind.
    async fn fill(&mut self) {
        let vault = format!("# Vault\n\nThe code word of the vault is {SECRET}. Ottoline opens the vault.\n");
        self.ingest(&self.globex, DOCUMENT, &vault).await.unwrap();
        let shop = "# Shop\n\nThe vault of our shop has no code word. It opens at nine.\n";
        self.ingest(&self.acme, "shop.md", shop).await.unwrap();
        let hits = self.knowledge().search(self.globex.request(search())).await.unwrap().into_inner().hits;
        self.passage = hits[0].passage.as_ref().unwrap().passage_id.clone();
        let (text, conversation) = self.converse(&self.globex, String::new()).await.unwrap();
        assert!(text.contains(SECRET), "{text}");
        self.conversation = conversation;
        // The turn is on record a moment after its answer.
        self.mesh.records("globex", &self.conversation, 1).await;
        let redacted = self.policy().redact(self.globex.request(redact())).await.unwrap().into_inner();
        self.placeholder = redacted.findings[0].placeholder.clone();
        self.append("acme").await;
        (self.record, self.hash) = self.append("globex").await;
    }

    /// Writes a record, as a role does, and waits until a checkpoint covers it; its id and hash.
    async fn append(&self, tenant: &str) -> (String, String) {
        let record = NewRecord {
            record_id: uuid::Uuid::now_v7().to_string(),
            kind: RecordKind::Turn.into(),
            time: Some(std::time::SystemTime::now().into()),
            subject: SUBJECT.into(),
            sealed: SECRET.as_bytes().to_vec(),
            ..Default::default()
        };
        let mut ledger = LedgerServiceClient::new(self.mesh.ctx.channel("ledger"));
        let call = switchboard_mesh::testing::call(tenant);
        let append = AppendRequest { records: vec![record.clone()] };
        let receipts = ledger.append(call.request(append)).await.unwrap().into_inner().receipts;
        loop {
            let list = CheckpointsRequest::default();
            let reply = ledger.checkpoints(call.request(list)).await.unwrap().into_inner();
            if reply.checkpoints.first().is_some_and(|last| last.sequence >= receipts[0].sequence) {
                return (record.record_id, format!("{:?}", receipts[0].hash));
            }
            tokio::task::yield_now().await;
        }
    }

    fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone())
    }

    fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel.clone())
    }

    fn knowledge(&self) -> KnowledgeServiceClient<Channel> {
        KnowledgeServiceClient::new(self.channel.clone())
    }

    fn policy(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.channel.clone())
    }

    async fn ingest(&self, caller: &Caller, id: &str, text: &str) -> Result<String, Status> {
        let header = DocumentHeader { document_id: id.into(), ..Default::default() };
        let parts = [Part::Header(header), Part::Chunk(text.as_bytes().to_vec())];
        let parts = stream::iter(parts.map(|part| IngestRequest { part: Some(part) }));
        self.knowledge().ingest(caller.request(parts)).await.map(|reply| format!("{reply:?}"))
    }

    /// Everything that a turn says, and its conversation.
    async fn converse(&self, caller: &Caller, conversation_id: String) -> Result<(String, String), Status> {
        let ask = ConverseRequest { text: QUESTION.into(), conversation_id, ..Default::default() };
        let mut events = self.conversations().converse(caller.request(ask)).await?.into_inner();
        let (mut said, mut conversation) = (String::new(), String::new());
        while let Some(event) = events.message().await? {
            // The report repeats the question.
            said.push_str(&format!("{event:?}"));
            if let Some(converse_response::Event::Report(report)) = event.event {
                conversation = report.conversation_id;
            }
        }
        Ok((said, conversation))
    }

    /// Calls `path` on globex's data; what came back, or why it was refused.
    async fn call(&self, caller: &Caller, path: &str) -> Result<String, Status> {
        fn told<T: std::fmt::Debug>(reply: Result<tonic::Response<T>, Status>) -> Result<String, Status> {
            reply.map(|reply| format!("{:?}", reply.into_inner()))
        }
        let conversation_id = self.conversation.clone();
        match path.rsplit('/').next().unwrap() {
            "Converse" => {
                let (fresh, _) = self.converse(caller, String::new()).await?;
                let continued = self.converse(caller, conversation_id).await;
                if std::ptr::eq(caller, &self.acme) {
                    assert_eq!(continued.unwrap_err().code(), Code::NotFound);
                } else {
                    continued.unwrap();
                }
                Ok(fresh)
            }
            "GetConversation" => {
                let get = GetConversationRequest { conversation_id };
                told(self.conversations().get_conversation(caller.request(get)).await)
            }
            "ListConversations" => {
                let list = ListConversationsRequest::default();
                told(self.conversations().list_conversations(caller.request(list)).await)
            }
            "SubmitFeedback" => {
                let rating = Rating::Unhelpful.into();
                let feedback = Feedback { rating, comment: "no".into(), ..Feedback::default() };
                let submit = SubmitFeedbackRequest { conversation_id, turn: 1, feedback: Some(feedback) };
                told(self.conversations().submit_feedback(caller.request(submit)).await)
            }
            "Search" => told(self.knowledge().search(caller.request(search())).await),
            "GetPassage" => {
                let get = GetPassageRequest { passage_id: self.passage.clone() };
                told(self.knowledge().get_passage(caller.request(get)).await)
            }
            "ListDocuments" => {
                let list = ListDocumentsRequest::default();
                told(self.knowledge().list_documents(caller.request(list)).await)
            }
            "Ingest" => self.ingest(caller, DOCUMENT, "# Vault\n\nThe vault is empty.\n").await,
            "DeleteDocument" => {
                let delete = DeleteDocumentRequest { document_id: DOCUMENT.into() };
                told(self.knowledge().delete_document(caller.request(delete)).await)
            }
            "Inspect" => {
                let RedactRequest { text, conversation_id } = redact();
                let direction = Direction::Input.into();
                let inspect = InspectRequest { text, conversation_id, direction, ..Default::default() };
                told(self.policy().inspect(caller.request(inspect)).await)
            }
            "InspectStream" => {
                let RedactRequest { text, conversation_id } = redact();
                let direction = Direction::Input.into();
                let start = InspectRequest { conversation_id, direction, ..Default::default() };
                let parts =
                    [inspect_stream_request::Part::Start(start), inspect_stream_request::Part::Chunk(text)];
                let parts = parts.map(|part| InspectStreamRequest { part: Some(part) });
                let reply = self.policy().inspect_stream(caller.request(stream::iter(parts))).await?;
                let mut pieces = reply.into_inner();
                let mut seen = Vec::new();
                while let Some(piece) = pieces.message().await? {
                    seen.push(piece);
                }
                Ok(format!("{seen:?}"))
            }
            "Forget" => {
                let forget = ForgetRequest { conversation_id: SHARED.into(), value: String::new() };
                told(self.policy().forget(caller.request(forget)).await)
            }
            "Redact" => told(self.policy().redact(caller.request(redact())).await),
            "Query" => told(self.ledger().query(caller.request(QueryRequest::default())).await),
            "Get" => {
                let get = GetRequest { record_id: self.record.clone(), sequence: 0 };
                told(self.ledger().get(caller.request(get)).await)
            }
            "Prove" => {
                let prove = ProveRequest { record_id: self.record.clone(), checkpoint_sequence: 0 };
                told(self.ledger().prove(caller.request(prove)).await)
            }
            "Checkpoints" => {
                let list = CheckpointsRequest::default();
                told(self.ledger().checkpoints(caller.request(list)).await)
            }
            "Verify" => {
                let verify = caller.request(VerifyRequest::default());
                all(self.ledger().verify(verify).await?.into_inner()).await
            }
            "Export" => {
                let export = caller.request(ExportRequest::default());
                all(self.ledger().export(export).await?.into_inner()).await
            }
            "EraseSubject" => {
                let erase = EraseSubjectRequest {
                    subject: SUBJECT.into(),
                    record_id: uuid::Uuid::now_v7().to_string(),
                    reason: "asked".into(),
                };
                told(self.ledger().erase_subject(caller.request(erase)).await)
            }
            other => panic!("{other} is said to touch tenants' data, and is not tried"),
        }
    }

    /// All that globex sees of its data.
    async fn state(&self) -> String {
        let mut seen = String::new();
        for path in ["/ListDocuments", "/Search", "/GetConversation", "/ListConversations", "/Redact"] {
            seen.push_str(&self.call(&self.globex, path).await.unwrap());
        }
        // A hash stands for its record and all before it.
        let query = self.globex.request(QueryRequest::default());
        let records = self.ledger().query(query).await.unwrap().into_inner().records;
        seen + &format!("{:?}", records.iter().map(|record| &record.hash).collect::<Vec<_>>())
    }

    /// What is globex's in a text.
    fn leaked(&self, text: &str) -> Option<&str> {
        let [conversation, passage, placeholder, record, hash] =
            [&self.conversation, &self.passage, &self.placeholder, &self.record, &self.hash]
                .map(String::as_str);
        [SECRET, DOCUMENT, "Ottoline", conversation, passage, placeholder, record, hash, "tenant=globex"]
            .into_iter()
            .find(|own| text.contains(own))
    }

    /// Calls a method without knowing its messages.
    async fn raw(&self, path: &str) -> Status {
        let mut request = http::Request::post(path).header("content-type", "application/grpc");
        request = request.header("x-api-key", self.acme.key.expose());
        for (name, value) in FORGED {
            request = request.header(*name, *value);
        }
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, cx))
            .await
            .unwrap();
        let response = channel.call(request.body(tonic::body::Body::empty()).unwrap()).await.unwrap();
        Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok("let in"))
    }
}

/// Everything that a stream says.
async fn all<T: std::fmt::Debug>(mut parts: tonic::Streaming<T>) -> Result<String, Status> {
    let mut said = String::new();
    while let Some(part) = parts.message().await? {
        said.push_str(&format!("{part:?}"));
    }
    Ok(said)
}

fn search() -> SearchRequest {
    SearchRequest {
        forms: vec![QueryForm { text: QUESTION.into(), ..Default::default() }],
        filter: Some(Filter { all_audiences: true, ..Default::default() }),
        mode: SearchMode::Lexical.into(),
        ..Default::default()
    }
}

fn redact() -> RedactRequest {
    RedactRequest { text: "I am jo@home.de".into(), conversation_id: SHARED.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_reaches_another_tenants_data() {
    let world = World::new().await;
    let (mut shows, mut changes) = (Vec::new(), Vec::new());
    let mut paths = methods();
    // Once acme has stored a document with that id, the id is its own as well.
    paths.sort_by_key(|path| path.ends_with("/Ingest"));
    for path in paths {
        let cases = match case(&path) {
            None => {
                let code = world.raw(&path).await.code();
                let refused = matches!(code, Code::Unimplemented | Code::PermissionDenied);
                assert!(refused, "{path} is served, so it needs a case here: {code:?}");
                continue;
            }
            Some(Case::HoldsNothing) => continue,
            Some(Case::Shows) => &mut shows,
            Some(Case::Changes) => &mut changes,
        };
        let before = world.state().await;
        let told = match world.call(&world.acme, &path).await {
            Ok(reply) => reply,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{path}: {status:?}");
                format!("{status:?}")
            }
        };
        let told = if path.ends_with("/Ingest") { told.replace(DOCUMENT, "") } else { told };
        assert_eq!(world.leaked(&told), None, "{path}: {told}");
        assert_eq!(world.state().await, before, "{path} changed what globex has");
        cases.push(path);
    }
    // None of the attempts was in vain: with globex's own key each of them does what it does.
    assert_eq!((shows.len(), changes.len()), (15, 5));
    // A turn adds to the ledger, whose head is then another one.
    shows.sort_by_key(|path| path.ends_with("/Converse"));
    for path in shows {
        let told = world.call(&world.globex, &path).await.unwrap();
        assert!(world.leaked(&told).is_some(), "{path}: {told}");
    }
    changes.sort_by_key(|path| path.ends_with("DeleteDocument"));
    for path in changes {
        let before = world.state().await;
        world.call(&world.globex, &path).await.unwrap();
        assert_ne!(world.state().await, before, "{path} changed nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_door_keeps_tenants_apart_as_well() {
    let world = World::new().await;
    let post = async |caller: &Caller, conversation: &str| {
        let body = serde_json::json!({"text": QUESTION, "conversation_id": conversation}).to_string();
        let claims: String =
            caller.claims.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "POST /v1/converse?tenant=globex HTTP/1.1\r\nhost: globex\r\nconnection: close\r\n\
             x-api-key: {}\r\n{claims}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            caller.key.expose(),
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(world.http).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
        answer
    };
    let before = world.state().await;
    let fresh = post(&world.acme, "").await;
    assert!(fresh.starts_with("HTTP/1.1 200") && world.leaked(&fresh).is_none(), "{fresh}");
    let continued = post(&world.acme, &world.conversation).await;
    assert!(continued.starts_with("HTTP/1.1 404") && world.leaked(&continued).is_none(), "{continued}");
    assert_eq!(world.state().await, before);
    let own = post(&world.globex, &world.conversation).await;
    assert!(own.starts_with("HTTP/1.1 200") && own.contains(SECRET), "{own}");
}
