//! The gRPC side: the public services, passed on to their roles without decoding.
//!
//! A call is screened first: protocol, method, key, place, time, rate, size. What it claims about its
//! tenant is dropped and what its key says put in place. Then it goes through the mesh's server
//! stack, as on any node, and from there over the role's channel.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::IntoResponse,
    routing::any,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use mesh::{Call, Channel, Deadline, call, deadline, server::Stack};
use proto::{
    conversation::v1::conversation_service_server, embeddings::v1::embeddings_service_server,
    generation::v1::generation_service_server, knowledge::v1::knowledge_service_server,
    ledger::v1::ledger_service_server, policy::v1::policy_service_server,
    reranking::v1::reranking_service_server,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use crate::{
    auth::{API_KEY, Door, Place},
    bounds::{Capped, Held},
    error::Refused,
    permissions::{self, Access},
};

/// Services that customers may call, with the roles that serve them.
const PUBLIC: [(&str, &str); 7] = [
    (conversation_service_server::SERVICE_NAME, "conversation"),
    (embeddings_service_server::SERVICE_NAME, "embeddings"),
    (generation_service_server::SERVICE_NAME, "generation"),
    (knowledge_service_server::SERVICE_NAME, "knowledge"),
    (ledger_service_server::SERVICE_NAME, "ledger"),
    (policy_service_server::SERVICE_NAME, "policy"),
    (reranking_service_server::SERVICE_NAME, "reranking"),
];

/// The health service, the gateway's own. Needs no key, like reflection.
const HEALTH: &str = "grpc.health.v1.Health";

/// Probes ask this; it answers at once, so it needs no place that others could take.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Stays open for as long as somebody watches.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// Method whose time is bounded by `ingest_time`.
const INGEST: &str = "/switchboard.knowledge.v1.KnowledgeService/Ingest";

/// Methods that go on for as long as a tenant's chain of records is.
const VERIFY: &str = "/switchboard.ledger.v1.LedgerService/Verify";
/// As [`VERIFY`].
const EXPORT: &str = "/switchboard.ledger.v1.LedgerService/Export";

/// Method whose streams stay open while their caller has nothing to ask.
const EMBED_STREAM: &str = "/switchboard.embeddings.v1.EmbeddingsService/EmbedStream";

/// How metadata begins that only the mesh may set.
const INTERNAL: &str = "x-switchboard-";

/// Everything that is served over gRPC.
///
/// # Errors
/// When `descriptors` cannot be decoded.
pub(crate) fn router(
    door: &Arc<Door>,
    ctx: &mesh::Context,
    descriptors: &'static [u8],
) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let listed: Vec<&str> = PUBLIC.iter().map(|(service, _)| *service).chain([HEALTH]).collect();
    let own = mesh::bootstrap::reflection(descriptors, &listed)?.add_service(ctx.health.service());
    let mut routes = Routes::into_axum_router(own).reset_fallback();
    for (service, role) in PUBLIC {
        let channel = ctx.channel(role);
        let pass = any(move |request: Request| forward(channel.clone(), request));
        routes = routes.route(&format!("/{service}/{{method}}"), pass);
    }
    // Their time is bounded here; it is for limits of their own.
    let long_lived = [INGEST, EMBED_STREAM, VERIFY, EXPORT];
    let stack = Stack::from_router(routes).limited(door.overload.clone()).long_lived(long_lived);
    let edge = Edge { door: Arc::clone(door), stack };
    Ok(Router::new().fallback(screen).with_state(edge))
}

#[derive(Clone)]
struct Edge {
    door: Arc<Door>,
    stack: Stack,
}

/// A call that may pass.
struct Admitted {
    place: Option<Place>,
    deadline: Deadline,
}

/// Lets a call in, or says why not.
async fn screen(State(edge): State<Edge>, request: Request) -> axum::response::Response {
    if let Err(status) = protocol(&request) {
        return status.into_response();
    }
    let (mut parts, body) = request.into_parts();
    let Admitted { place, deadline } = match edge.admit(&parts.uri, &mut parts.headers).await {
        Ok(admitted) => admitted,
        Err(status) => return status.into_http::<axum::body::Body>(),
    };
    let limit = edge.door.config.max_stream_bytes;
    let exceeded = CancellationToken::new();
    let body = Body::new(Capped::new(body, limit, exceeded.clone()));
    let response = tokio::select! {
        Ok(response) = edge.stack.oneshot(Request::from_parts(parts, body)) => Some(response),
        () = exceeded.cancelled() => None,
    };
    let mut response = match response.filter(|_| !exceeded.is_cancelled()) {
        Some(response) => response.map(|body| axum::body::Body::new(Held::new(body, exceeded, limit, place))),
        None => Status::from(Refused::TooManyBytes { limit }).into_http::<axum::body::Body>(),
    };
    // Whoever does not read the answer keeps its place no longer than this: the connection is cut.
    response.extensions_mut().insert(deadline);
    response
}

/// Whether this is gRPC over HTTP/2. What is not, would not understand a gRPC status.
///
/// # Source
/// gRPC over HTTP/2, "Requests": another content type gets 415.
fn protocol(request: &Request) -> Result<(), StatusCode> {
    let media = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    // `application/grpc-web` is another protocol.
    let grpc = media
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    if !grpc {
        Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else if request.version() != Version::HTTP_2 {
        Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
    } else if request.method() != Method::POST {
        Err(StatusCode::METHOD_NOT_ALLOWED)
    } else {
        Ok(())
    }
}

impl Edge {
    /// Decides on a call by its path and metadata, and makes the metadata what the mesh may trust.
    async fn admit(&self, uri: &Uri, headers: &mut HeaderMap) -> Result<Admitted, Status> {
        let config = &self.door.config;
        let path = uri.path();
        // No other name gets further: names that callers make up would become labels of metrics.
        let access = permissions::method(path).filter(|access| *access != Access::Internal);
        let Some(access) = access else {
            return Err(Status::unimplemented("no such method is served here"));
        };
        let caller = self.door.authorize(headers, access)?.map(|grant| grant.tenant);
        let place = match &caller {
            Some(tenant) => Some(self.door.enter(tenant)?),
            None if path == CHECK => None,
            None => Some(self.door.enter_open()?),
        };
        let most = match path {
            WATCH => deadline::LONGEST,
            INGEST | VERIFY | EXPORT => config.ingest_time,
            _ => config.request_time,
        };
        strip(headers);
        if let Some(tenant) = caller {
            let tenant = HeaderValue::from_str(tenant.as_str()).expect("a tenant's name is plain ASCII");
            headers.insert(call::TENANT, tenant);
        }
        let deadline = bound_time(headers, most)?;
        self.door.count(&Call::from_headers(headers)?).await?;
        Ok(Admitted { place, deadline })
    }
}

/// Removes the key, and everything that only the mesh may say. The class is the caller's to
/// choose; the server stack checks it.
fn strip(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    headers.remove(API_KEY);
    let internal: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(INTERNAL) && **name != call::CLASS)
        .cloned()
        .collect();
    for name in internal {
        headers.remove(name);
    }
}

/// Sets `grpc-timeout` to what the caller asks for, but no more than `most`, and says when that is.
fn bound_time(headers: &mut HeaderMap, most: Duration) -> Result<Deadline, Status> {
    let asked = match headers.get(deadline::HEADER) {
        Some(value) => {
            deadline::parse(value).map_err(|allowed| mesh::error::invalid(deadline::HEADER, allowed))?
        }
        None => most,
    };
    headers.insert(deadline::HEADER, deadline::format(asked.min(most)));
    Ok(Deadline::after(asked.min(most)))
}

/// Carries a call to its role; frames and trailers pass unread, both ways, as they come.
async fn forward(channel: Channel, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut outgoing = http::Request::new(Body::new(body));
    *outgoing.method_mut() = Method::POST;
    *outgoing.version_mut() = Version::HTTP_2;
    // The path alone: the role's address is the channel's, and gRPC has no query.
    *outgoing.uri_mut() = Uri::try_from(parts.uri.path()).expect("a path of a URI is a URI");
    *outgoing.headers_mut() = parts.headers;
    outgoing.headers_mut().remove(header::CONTENT_LENGTH);
    outgoing.headers_mut().remove(header::HOST);
    outgoing.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(call) = parts.extensions.get::<Call>() {
        outgoing.extensions_mut().insert(call.clone());
    }
    match channel.oneshot(outgoing).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use proto::{
        conversation::v1::{
            self as conversation, conversation_service_client::ConversationServiceClient,
            converse_response::Event,
        },
        embeddings::v1::{self as embeddings, embeddings_service_client::EmbeddingsServiceClient},
        inference::v1::{self as inference, inference_service_client::InferenceServiceClient},
        knowledge::v1::{self as knowledge, knowledge_service_client::KnowledgeServiceClient},
        policy::v1::{self as policy, policy_service_client::PolicyServiceClient},
    };
    use tonic::{Code, transport};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    use super::*;
    use crate::{
        Config,
        keys::Role,
        testing::{Mesh, soon},
    };

    async fn connect(mesh: &Mesh, config: Config) -> transport::Channel {
        let running = mesh.start(config).await;
        transport::Endpoint::from_shared(format!("http://{}", running.grpc)).unwrap().connect().await.unwrap()
    }

    fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in metadata {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    fn ask(text: &str) -> conversation::ConverseRequest {
        conversation::ConverseRequest { text: text.into(), ..Default::default() }
    }

    /// The second sentence of a turn, which the fake fills.
    async fn told(
        client: &mut ConversationServiceClient<transport::Channel>,
        request: tonic::Request<conversation::ConverseRequest>,
    ) -> Result<String, Status> {
        let events: Vec<_> = soon(client.converse(request)).await?.into_inner().collect().await;
        let events: Vec<_> = events.into_iter().collect::<Result<_, _>>()?;
        match events[2].event.clone() {
            Some(Event::Sentence(sentence)) => Ok(sentence.text),
            other => panic!("not a sentence: {other:?}"),
        }
    }

    #[tokio::test]
    async fn only_a_known_key_gets_in() {
        let mesh = Mesh::new();
        let mut client = ConversationServiceClient::new(connect(&mesh, Config::default()).await);
        let bearer = format!("Bearer {}", mesh.key);
        for metadata in [("authorization", bearer.as_str()), ("x-api-key", mesh.key.as_str())] {
            assert_eq!(told(&mut client, with(ask("hi"), &[metadata])).await.unwrap(), "hi");
        }
        let spoofed = ("x-switchboard-tenant", "acme");
        for metadata in [spoofed, ("x-api-key", "sb_1_2"), ("authorization", "Basic eDp5")] {
            let status = told(&mut client, with(ask("hi"), &[metadata])).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated);
        }
        mesh.keys.revoke(&mesh.keys.list()[0].id).unwrap();
        let status = told(&mut client, with(ask("hi"), &[("x-api-key", &mesh.key)])).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn what_a_caller_says_about_itself_has_no_effect() {
        let mesh = Mesh::new();
        let mut client = ConversationServiceClient::new(connect(&mesh, Config::default()).await);
        let metadata = [
            ("x-api-key", mesh.key.as_str()),
            ("x-switchboard-tenant", "globex"),
            ("x-switchboard-tenant", "initech"),
            ("x-switchboard-role", "admin"),
            ("x-harmless", "1"),
        ];
        let request = with(conversation::ListConversationsRequest::default(), &metadata);
        let seen = client.list_conversations(request).await.unwrap().into_inner().conversations;
        let seen: Vec<_> = seen.iter().map(|row| row.conversation_id.as_str()).collect();
        assert_eq!(seen[0], "acme");
        assert!(seen.contains(&"x-harmless"));
        for gone in ["authorization", "x-api-key", "x-switchboard-role"] {
            assert!(!seen.contains(&gone), "{gone} came through");
        }
    }

    #[tokio::test]
    async fn class_and_time_are_kept_within_bounds() {
        let mesh = Mesh::new();
        let mut client = ConversationServiceClient::new(connect(&mesh, Config::default()).await);
        let key = ("x-api-key", mesh.key.as_str());
        let cases: [(&[_], &str); 4] = [
            (&[key], "chat 660 Unspecified"),
            (&[key, ("x-switchboard-class", "voice")], "voice 660 Unspecified"),
            (&[key, ("grpc-timeout", "5S")], "chat 5 Unspecified"),
            (&[key, ("grpc-timeout", "100H")], "chat 660 Unspecified"),
        ];
        for (metadata, expected) in cases {
            assert_eq!(told(&mut client, with(ask("tell the call"), metadata)).await.unwrap(), expected);
        }
        for bad in [("x-switchboard-class", "emperor"), ("grpc-timeout", "soon")] {
            let status = told(&mut client, with(ask("tell the call"), &[key, bad])).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains("class") || status.message().contains("grpc-timeout"));
        }
    }

    #[tokio::test]
    async fn a_call_ends_with_its_deadline() {
        let mesh = Mesh::new();
        // No timeout of the client's own: its timer would say CANCELLED, and race with ours.
        let config = Config { request_time: Duration::from_millis(100), ..Config::default() };
        let mut client = ConversationServiceClient::new(connect(&mesh, config).await);
        for text in ["never answer", "never end"] {
            let request = with(ask(text), &[("x-api-key", &mesh.key)]);
            assert_eq!(told(&mut client, request).await.unwrap_err().code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn a_key_of_another_role_is_denied_and_told_which_is_needed() {
        let mesh = Mesh::new();
        let mut client = KnowledgeServiceClient::new(connect(&mesh, Config::default()).await);
        for role in Role::ALL {
            let key = mesh.key_of(role);
            let metadata = [("x-api-key", key.as_str()), ("x-switchboard-role", "admin")];
            let request = with(knowledge::DeleteDocumentRequest::default(), &metadata);
            let told = client.delete_document(request).await;
            if role == Role::Admin {
                told.unwrap();
                continue;
            }
            let status = told.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{role}");
            assert_eq!(status.message(), "this needs an API key of role admin");
        }
    }

    #[tokio::test]
    async fn every_method_of_a_contract_is_let_in_or_refused_as_declared() {
        let mesh = Mesh::new();
        let door = mesh.door(Config::default());
        let edge = Edge { door, stack: Stack::from_router(Router::new()) };
        let keys = Role::ALL.map(|role| (Some(role), mesh.key_of(role)));
        let nobody = (None, "sb_1_2".to_owned());
        for path in permissions::paths() {
            for (role, key) in keys.iter().chain([&nobody]) {
                let mut headers = HeaderMap::from_iter([(
                    HeaderName::from_static(API_KEY),
                    HeaderValue::from_str(key).unwrap(),
                )]);
                let uri = Uri::try_from(path.as_str()).unwrap();
                let admitted = edge.admit(&uri, &mut headers).await;
                let code = admitted.map_or_else(|status| status.code(), |_| Code::Ok);
                let expected = match (permissions::method(&path).unwrap(), role) {
                    (Access::Internal, _) => Code::Unimplemented,
                    (Access::Open, _) => Code::Ok,
                    (_, None) => Code::Unauthenticated,
                    (Access::Key { roles, .. }, Some(role)) if roles.contains(role) => Code::Ok,
                    (Access::Key { .. } | Access::Closed, Some(_)) => Code::PermissionDenied,
                };
                assert_eq!(code, expected, "{path} as {role:?}");
            }
        }
    }

    #[test]
    fn what_is_passed_on_is_what_keys_open() {
        let mut opened: Vec<_> = permissions::paths()
            .filter(|path| matches!(permissions::method(path), Some(Access::Key { .. } | Access::Closed)))
            .map(|path| path[1..].split_once('/').unwrap().0.to_owned())
            .collect();
        opened.sort();
        opened.dedup();
        let mut passed = PUBLIC.map(|(service, _)| service);
        passed.sort_unstable();
        assert_eq!(opened, passed);
    }

    #[tokio::test]
    async fn raw_personal_data_is_out_of_every_keys_reach() {
        let mesh = Mesh::new();
        let mut client = PolicyServiceClient::new(connect(&mesh, Config::default()).await);
        let key = [("x-api-key", mesh.key.as_str())];
        let status = client.restore(with(policy::RestoreRequest::default(), &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        // Its neighbours pass, and find that this node has no policy role.
        let status = client.redact(with(policy::RedactRequest::default(), &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn what_is_not_public_is_unimplemented() {
        let mesh = Mesh::new();
        let channel = connect(&mesh, Config::default()).await;
        let key = [("x-api-key", mesh.key.as_str())];
        let mut inner = InferenceServiceClient::new(channel.clone());
        let status = inner.embed(with(inference::EmbedRequest::default(), &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let paths = [
            "/x.Y/Z",
            "/switchboard.policy.v1.PolicyService/Resto%72e",
            "/switchboard.policy.v1.PolicyService/",
            "/switchboard.policy.v1.PolicyService//Restore",
            "/switchboard.conversation.v1.ConversationService/Nothing",
            "/grpc.health.v1.Health/Nothing",
        ];
        for path in paths {
            let request = http::Request::post(path)
                .header("content-type", "application/grpc")
                .header("x-api-key", &mesh.key)
                .body(Body::empty())
                .unwrap();
            let response = channel.clone().oneshot(request).await.unwrap();
            let status = Status::from_header_map(response.headers()).expect("a status");
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_grpc_gets_an_http_status() {
        let mesh = Mesh::new();
        let channel = connect(&mesh, Config::default()).await;
        for media in ["application/json", "application/grpc-web", "application/grpcx"] {
            let request =
                http::Request::post("/x.Y/Z").header("content-type", media).body(Body::empty()).unwrap();
            assert_eq!(channel.clone().oneshot(request).await.unwrap().status(), 415, "{media}");
        }
        let request = http::Request::get("/x.Y/Z").header("content-type", "application/grpc+proto");
        let response = channel.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 405);
    }

    #[tokio::test]
    async fn health_and_reflection_are_open_and_list_what_is_public() {
        let mesh = Mesh::new();
        let channel = connect(&mesh, Config::default()).await;
        let service = conversation_service_server::SERVICE_NAME.to_owned();
        let check = HealthCheckRequest { service };
        let health = HealthClient::new(channel.clone()).check(check).await.unwrap().into_inner();
        assert_eq!(health.status, 1);

        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = tokio_stream::once(list);
        let mut answers =
            ServerReflectionClient::new(channel).server_reflection_info(asked).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(listed)) = answer else { panic!("not a list") };
        let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
        names.retain(|name| !name.starts_with("grpc.reflection."));
        let mut expected: Vec<_> = PUBLIC.iter().map(|(service, _)| *service).chain([HEALTH]).collect();
        names.sort();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[tokio::test]
    async fn a_request_stream_is_bounded_even_if_the_role_does_not_mind() {
        let mesh = Mesh::new();
        let config = Config { max_stream_bytes: 10_000, ..Config::default() };
        let mut client = KnowledgeServiceClient::new(connect(&mesh, config).await);
        let chunk =
            knowledge::IngestRequest { part: Some(knowledge::ingest_request::Part::Chunk(vec![0; 1000])) };
        let mut send = async |chunks: usize| {
            let parts = futures::stream::iter(vec![chunk.clone(); chunks]);
            soon(client.ingest(with(parts, &[("x-api-key", &mesh.key)]))).await.map(drop)
        };
        send(9).await.unwrap();
        let status = send(11).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("10000"), "{}", status.message());
    }

    #[tokio::test]
    async fn roles_on_other_nodes_are_reached_in_the_same_way() {
        let far = Mesh::new();
        let mesh = Mesh::over(&far).await;
        let channel = connect(&mesh, Config { max_stream_bytes: 10_000, ..Config::default() }).await;
        let key = [("x-api-key", mesh.key.as_str()), ("x-switchboard-tenant", "globex")];
        let mut client = ConversationServiceClient::new(channel.clone());
        assert_eq!(told(&mut client, with(ask("hi"), &key)).await.unwrap(), "hi");
        let request = with(conversation::ListConversationsRequest::default(), &key);
        let seen = client.list_conversations(request).await.unwrap().into_inner().conversations;
        assert_eq!(seen[0].conversation_id, "acme");
        let status = told(&mut client, with(ask("refuse the budget"), &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);

        let open = soon(client.converse(with(ask("never end"), &key))).await.unwrap();
        drop(open);
        soon(far.cancelled.notified()).await;

        let chunk = vec![0; 20_000];
        let part = Some(knowledge::ingest_request::Part::Chunk(chunk));
        let parts = tokio_stream::once(knowledge::IngestRequest { part });
        let status = soon(KnowledgeServiceClient::new(channel).ingest(with(parts, &key))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn streams_flow_both_ways_as_they_come() {
        let mesh = Mesh::new();
        let config = Config { max_stream_bytes: 1024, ..Config::default() };
        let mut client = EmbeddingsServiceClient::new(connect(&mesh, config).await);
        let (tx, rx) = tokio::sync::mpsc::channel(1);
        let asked = tokio_stream::wrappers::ReceiverStream::new(rx);
        let request = |model: String| embeddings::EmbedStreamRequest {
            request: Some(embeddings::EmbedRequest { model, ..Default::default() }),
        };
        let mut answers =
            soon(client.embed_stream(with(asked, &[("x-api-key", &mesh.key)]))).await.unwrap().into_inner();
        for model in ["a", "b", "c"] {
            tx.send(request(model.into())).await.unwrap();
            let answer = soon(answers.message()).await.unwrap().unwrap();
            assert_eq!(answer.response.unwrap().model, model);
        }
        // One message too many ends the answers with the reason.
        tx.send(request("x".repeat(2000))).await.unwrap();
        let status = soon(answers.message()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn more_calls_than_places_are_refused_and_a_dropped_one_frees_its_place() {
        let mesh = Mesh::new();
        let channel = connect(&mesh, Config { max_calls: 1, ..Config::default() }).await;
        let mut client = ConversationServiceClient::new(channel.clone());
        let key = [("x-api-key", mesh.key.as_str())];
        let mut open = client.converse(with(ask("never end"), &key)).await.unwrap().into_inner();
        assert!(soon(open.message()).await.unwrap().is_some());
        let status = told(&mut client, with(ask("hi"), &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        // Health is not a call that can be crowded out.
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.unwrap();
        drop(open);
        soon(mesh.cancelled.notified()).await;
        // The place is free once the stream's body is gone, which is at the same drop.
        assert_eq!(told(&mut client, with(ask("hi"), &key)).await.unwrap(), "hi");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_health_outlives_an_ordinary_call() {
        let mesh = Mesh::new();
        let config = Config { request_time: Duration::from_millis(100), ..Config::default() };
        let door = mesh.door(config);
        let edge = Edge { door, stack: Stack::from_router(Router::new()) };
        let time = async |path: &'static str| {
            let mut headers = HeaderMap::new();
            let admitted = edge.admit(&Uri::from_static(path), &mut headers).await;
            admitted.map(|admitted| (admitted.deadline.left(), admitted.place))
        };
        let mut places = Vec::new();
        for _ in 0..64 {
            places.push(time(WATCH).await.unwrap());
        }
        assert!(places.iter().all(|(left, _)| *left == deadline::LONGEST));
        // Watchers crowd out each other, and never a probe.
        assert_eq!(time(WATCH).await.err().map(|status| status.code()), Some(Code::ResourceExhausted));
        let (left, place) = time(CHECK).await.unwrap();
        assert!(left == Duration::from_millis(100) && place.is_none());
        drop(places);
        assert!(time("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await.is_ok());
    }

    #[tokio::test]
    async fn every_response_says_when_its_connection_may_be_cut() {
        let mesh = Mesh::new();
        let door = mesh.door(Config::default());
        let router = router(&door, &mesh.ctx, proto::DESCRIPTORS).unwrap();
        let path = format!("/{}/Converse", conversation_service_server::SERVICE_NAME);
        let request = http::Request::post(path)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("x-api-key", &mesh.key)
            .header("grpc-timeout", "5S")
            .body(axum::body::Body::empty())
            .unwrap();
        let response = soon(router.oneshot(request)).await.unwrap();
        let deadline = response.extensions().get::<Deadline>().expect("a deadline");
        assert!(deadline.left() > Duration::from_secs(1) && deadline.left() <= Duration::from_secs(5));
    }

    #[tokio::test]
    async fn details_of_a_roles_status_come_through() {
        use tonic_types::StatusExt as _;
        let mesh = Mesh::new();
        let mut client = ConversationServiceClient::new(connect(&mesh, Config::default()).await);
        let request = with(ask("refuse the budget"), &[("x-api-key", &mesh.key)]);
        let status = told(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "budget.whole");
    }
}
