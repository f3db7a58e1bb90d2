//! A gateway in front of roles that do what the text of a request tells them to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use mesh::{Call, Context, Mounted, Tenant, redis::Redis};
use opentelemetry::trace::TracerProvider as _;
use proto::{
    conversation::v1::{
        self as conversation, ConverseResponse, conversation_service_server as conversation_server,
        converse_response::Event,
    },
    embeddings::v1::{self as embeddings, embeddings_service_server as embeddings_server},
    generation::v1 as generation,
    knowledge::v1::{self as knowledge, knowledge_service_server as knowledge_server},
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    Config, Dependencies, Running,
    auth::Door,
    http_api,
    keys::{Keys, NewKey, Role},
};

/// A context with fake roles, an admin's key for the tenant acme, and a sign for cancelled turns.
pub(crate) struct Mesh {
    pub(crate) ctx: Context,
    pub(crate) keys: Arc<Keys>,
    pub(crate) key: String,
    pub(crate) cancelled: Arc<Notify>,
    _folder: tempfile::TempDir,
}

/// Spans that are recorded and go nowhere. For the whole process and before the first span: one
/// that was met without a subscriber may stay switched off.
static TRACING: LazyLock<()> = LazyLock::new(|| {
    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::builder().build().tracer("test");
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    tracing::subscriber::set_global_default(subscriber).expect("set here alone");
});

impl Mesh {
    pub(crate) fn new() -> Self {
        LazyLock::force(&TRACING);
        let cancelled = Arc::new(Notify::new());
        let mesh = Self::with(BTreeMap::new(), Arc::clone(&cancelled));
        for mounted in roles(cancelled) {
            mesh.ctx.mount(&mounted);
        }
        mesh
    }

    /// A mesh whose roles are on another node, reached over TCP; `far` sees their cancelled turns.
    pub(crate) async fn over(far: &Self) -> Self {
        let roles = roles(Arc::clone(&far.cancelled));
        let names: Vec<_> = roles.iter().map(|mounted| mounted.role.to_owned()).collect();
        let node = far.ctx.node(roles, proto::DESCRIPTORS).unwrap();
        let listener = mesh::server::bind("far", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let uri: http::Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (limits, stop) = (mesh::server::Limits::default(), far.ctx.stop.clone());
        far.ctx.tasks.spawn(mesh::server::serve(listener, node, limits, stop, Duration::ZERO));
        let remote = names.into_iter().map(|role| (role, vec![uri.clone()])).collect();
        Self::with(remote, Arc::default())
    }

    fn with(remote: BTreeMap<String, Vec<http::Uri>>, cancelled: Arc<Notify>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ctx = Context::new(folder.path().to_owned(), remote);
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let key = keys.create(&new_key(Role::Admin)).unwrap().1.expose().to_owned();
        Self { ctx, keys, key, cancelled, _folder: folder }
    }

    /// Another key for the tenant acme.
    pub(crate) fn key_of(&self, role: Role) -> String {
        self.keys.create(&new_key(role)).unwrap().1.expose().to_owned()
    }

    /// An admin's key for another tenant.
    pub(crate) fn key_for(&self, tenant: &str) -> String {
        let new = NewKey::new(Tenant::try_new(tenant).unwrap(), Role::Admin);
        self.keys.create(&new).unwrap().1.expose().to_owned()
    }

    /// What both sides share.
    pub(crate) fn door(&self, config: Config) -> Arc<Door> {
        Arc::new(Door::new(config, Arc::clone(&self.keys), None, self.ctx.overload.clone()))
    }

    /// The HTTP side without a socket.
    pub(crate) fn http(&self, config: Config) -> axum::Router {
        http_api::router(self.door(config), &self.ctx, || "up 1\n".to_owned())
    }

    /// Both sides on free ports.
    pub(crate) async fn start(&self, config: Config) -> Running {
        self.start_over(config, None).await
    }

    /// Both sides on free ports, with a Redis.
    pub(crate) async fn start_over(&self, config: Config, redis: Option<Redis>) -> Running {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { http: free, grpc: free, ..config };
        let (keys, scrape) = (Arc::clone(&self.keys), || "up 1\n".to_owned());
        let dependencies = Dependencies { keys, redis, scrape, descriptors: proto::DESCRIPTORS };
        crate::start(config, &self.ctx, dependencies).await.unwrap()
    }
}

fn new_key(role: Role) -> NewKey {
    NewKey::new(Tenant::try_new("acme").unwrap(), role)
}

fn roles(cancelled: Arc<Notify>) -> Vec<Mounted> {
    let fake = Fake(cancelled);
    vec![
        Mounted {
            role: "conversation",
            routes: Routes::new(conversation_server::ConversationServiceServer::new(fake.clone())),
            services: vec![conversation_server::SERVICE_NAME],
            long_lived: vec![],
        },
        Mounted {
            role: "knowledge",
            routes: Routes::new(knowledge_server::KnowledgeServiceServer::new(fake.clone())),
            services: vec![knowledge_server::SERVICE_NAME],
            long_lived: vec![],
        },
        Mounted {
            role: "embeddings",
            routes: Routes::new(embeddings_server::EmbeddingsServiceServer::new(fake)),
            services: vec![embeddings_server::SERVICE_NAME],
            long_lived: vec![],
        },
    ]
}

/// A whole turn, in which the first sentence names the tenant and the second is `text`.
pub(crate) fn events(tenant: &str, text: &str) -> Vec<ConverseResponse> {
    let millis = |millis: i32| prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 };
    let citation =
        generation::Citation { document_id: "returns.md".into(), support: 1.0, ..Default::default() };
    let numbered = conversation::NumberedCitation { number: 1, citation: Some(citation) };
    let sentence = |text: String, sources: Vec<u32>| {
        let new_citations = if sources.is_empty() { Vec::new() } else { vec![numbered.clone()] };
        Event::Sentence(conversation::TurnSentence { text, sources, new_citations })
    };
    let report = conversation::TurnReport {
        conversation_id: "c1".into(),
        turn: 1,
        outcome: conversation::Outcome::Answered.into(),
        stages: vec![conversation::Stage {
            name: "retrieve".into(),
            status: conversation::StageStatus::TimedOut.into(),
            started_after: Some(prost_types::Duration { seconds: 0, nanos: 1_500_000 }),
            share: Some(millis(20)),
            spent: Some(millis(20)),
            detail: String::new(),
        }],
        route: Some(generation::RouteResponse {
            model: "extractive".into(),
            tier: generation::Tier::Extractive.into(),
            ..Default::default()
        }),
        citations: vec![numbered.clone()],
        budget: Some(conversation::Budget { first_sentence: Some(millis(500)), whole: None }),
        spent: Some(millis(30)),
        ..Default::default()
    };
    [
        Event::Started(conversation::TurnStarted { conversation_id: "c1".into(), turn: 1 }),
        sentence(format!("Hello {tenant}."), vec![1]),
        sentence(text.to_owned(), vec![]),
        Event::Report(report),
    ]
    .map(|event| ConverseResponse { event: Some(event) })
    .to_vec()
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Fake(Arc<Notify>);

/// Tells of the drop of whatever holds it.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl conversation_server::ConversationService for Fake {
    type ConverseStream = Answers<ConverseResponse>;

    async fn converse(
        &self,
        request: Request<conversation::ConverseRequest>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.as_str().to_owned();
        let traceparent =
            request.metadata().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        let message = request.into_inner();
        let whole = events(&tenant, &message.text);
        let guard = Guard(Arc::clone(&self.0));
        let answers: Self::ConverseStream = match message.text.as_str() {
            "never answer" => {
                let _guard = guard;
                std::future::pending().await
            }
            "never end" => {
                let rest = stream::once(async move {
                    let _guard = guard;
                    std::future::pending().await
                });
                Box::pin(stream::iter(whole.into_iter().take(1).map(Ok)).chain(rest))
            }
            "refuse the budget" => {
                return Err(mesh::error::invalid("budget.whole", "1 ms to 10 minutes"));
            }
            "fail late" => {
                let failure = mesh::error::of_kind(mesh::error::Kind::Unavailable, "knowledge is away");
                Box::pin(stream::iter(whole.into_iter().take(1).map(Ok).chain([Err(failure)])))
            }
            "tell the trace" => {
                Box::pin(stream::iter(events(&tenant, &traceparent.unwrap_or_default()).into_iter().map(Ok)))
            }
            "tell the call" => {
                let left = call.deadline.left().as_secs_f64().ceil();
                let told = format!("{} {left} {:?}", call.class.as_str(), message.channel());
                Box::pin(stream::iter(events(&tenant, &told).into_iter().map(Ok)))
            }
            _ => Box::pin(stream::iter(whole.into_iter().map(Ok))),
        };
        Ok(Response::new(answers))
    }

    async fn get_conversation(
        &self,
        _: Request<conversation::GetConversationRequest>,
    ) -> Result<Response<conversation::GetConversationResponse>, Status> {
        Err(mesh::error::of_kind(mesh::error::Kind::NotFound, "gone"))
    }

    /// Lists the tenant, then each header that came, as conversations.
    async fn list_conversations(
        &self,
        request: Request<conversation::ListConversationsRequest>,
    ) -> Result<Response<conversation::ListConversationsResponse>, Status> {
        let tenant = Call::of(&request)?.tenant()?.as_str().to_owned();
        let headers = request.metadata().clone().into_headers();
        let names = headers.keys().map(|name| name.as_str().to_owned());
        let conversations = std::iter::once(tenant)
            .chain(names)
            .map(|conversation_id| conversation::Conversation { conversation_id, ..Default::default() })
            .collect();
        Ok(Response::new(conversation::ListConversationsResponse { conversations, ..Default::default() }))
    }

    async fn submit_feedback(
        &self,
        _: Request<conversation::SubmitFeedbackRequest>,
    ) -> Result<Response<conversation::SubmitFeedbackResponse>, Status> {
        Ok(Response::new(conversation::SubmitFeedbackResponse {}))
    }
}

#[tonic::async_trait]
impl knowledge_server::KnowledgeService for Fake {
    /// Reads everything and is content whatever happens to the stream.
    async fn ingest(
        &self,
        request: Request<Streaming<knowledge::IngestRequest>>,
    ) -> Result<Response<knowledge::IngestResponse>, Status> {
        let mut parts = request.into_inner();
        while let Ok(Some(_)) = parts.message().await {}
        Ok(Response::new(knowledge::IngestResponse::default()))
    }

    async fn search(
        &self,
        _: Request<knowledge::SearchRequest>,
    ) -> Result<Response<knowledge::SearchResponse>, Status> {
        Ok(Response::new(knowledge::SearchResponse::default()))
    }

    async fn get_passage(
        &self,
        _: Request<knowledge::GetPassageRequest>,
    ) -> Result<Response<knowledge::GetPassageResponse>, Status> {
        Ok(Response::new(knowledge::GetPassageResponse::default()))
    }

    async fn delete_document(
        &self,
        _: Request<knowledge::DeleteDocumentRequest>,
    ) -> Result<Response<knowledge::DeleteDocumentResponse>, Status> {
        Ok(Response::new(knowledge::DeleteDocumentResponse::default()))
    }

    async fn list_documents(
        &self,
        _: Request<knowledge::ListDocumentsRequest>,
    ) -> Result<Response<knowledge::ListDocumentsResponse>, Status> {
        Ok(Response::new(knowledge::ListDocumentsResponse::default()))
    }
}

#[tonic::async_trait]
impl embeddings_server::EmbeddingsService for Fake {
    async fn embed(
        &self,
        _: Request<embeddings::EmbedRequest>,
    ) -> Result<Response<embeddings::EmbedResponse>, Status> {
        Ok(Response::new(embeddings::EmbedResponse::default()))
    }

    type EmbedStreamStream = Answers<embeddings::EmbedStreamResponse>;

    /// Answers each request as it comes, with its model's name.
    async fn embed_stream(
        &self,
        request: Request<Streaming<embeddings::EmbedStreamRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let answers = request.into_inner().map(|asked| {
            let model = asked?.request.unwrap_or_default().model;
            let response = Some(embeddings::EmbedResponse { model, ..Default::default() });
            Ok(embeddings::EmbedStreamResponse { response })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Fails a test that waits for what never comes.
pub(crate) async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("it should have come by now")
}
