//! The gateway's doors over a whole mesh: keys, tenants, reflection, a turn.

use std::sync::Arc;

use switchboard_gateway::{
    Dependencies,
    keys::{Keys, NewKey, Role},
};
use switchboard_mesh::{Tenant, config::Secret};
use switchboard_proto::{
    conversation::v1::{
        Outcome, conversation_service_client::ConversationServiceClient, converse_response::Event,
    },
    inference::v1::{ListModelsRequest, inference_service_client::InferenceServiceClient},
    policy::v1::{RestoreRequest, policy_service_client::PolicyServiceClient},
};
use tonic::{Code, Request, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::mesh::{Mesh, assert_code, question, shop};

/// The services that a node lists by reflection.
pub(crate) async fn reflected(channel: Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tokio_stream::iter([request]);
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(stream).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
        other => panic!("{other:?}"),
    }
}

struct Door {
    mesh: Mesh,
    channel: Channel,
    key: Secret,
}

async fn door() -> Door {
    let mesh = Mesh::whole().await;
    shop(&mesh).await;
    let keys = Arc::new(Keys::open(mesh.ctx.data.join("keys.json")).unwrap());
    let (_, key) = keys.create(&NewKey::new(Tenant::try_new("acme").unwrap(), Role::Admin)).unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let config = switchboard_gateway::Config { http: any, grpc: any, ..Default::default() };
    let descriptors = switchboard_proto::DESCRIPTORS;
    let dependencies = Dependencies { keys, redis: None, scrape: String::new, descriptors };
    let doors = switchboard_gateway::start(config, &mesh.ctx, dependencies);
    let grpc = doors.await.unwrap().grpc;
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
    Door { mesh, channel, key }
}

impl Door {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.key.expose());
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        request
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_grpc_client_with_a_key_gets_a_cited_answer() {
    let door = door().await;
    let mut client = ConversationServiceClient::new(door.channel.clone());
    let mut stream =
        client.converse(door.request(question("How much is standard delivery?"))).await.unwrap().into_inner();
    let mut report = None;
    while let Some(event) = stream.message().await.unwrap() {
        if let Some(Event::Report(found)) = event.event {
            report = Some(found);
        }
    }
    let report = report.unwrap();
    assert_eq!(report.outcome(), Outcome::Answered, "{report:?}");
    assert_eq!(report.citations[0].citation.as_ref().unwrap().document_id, "shipping.md");
    drop(door.mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nothing_is_served_but_health_and_reflection() {
    let door = door().await;
    let mut client = ConversationServiceClient::new(door.channel.clone());
    assert_code(client.converse(Request::new(question("hello there"))).await, Code::Unauthenticated);
    let names = reflected(door.channel.clone()).await;
    assert!(names.contains(&"switchboard.conversation.v1.ConversationService".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("inference")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_is_the_keys_whatever_the_caller_says() {
    let door = door().await;
    let mut request = door.request(question("How much is standard delivery?"));
    request.metadata_mut().insert("x-switchboard-tenant", "other".parse().unwrap());
    let mut stream =
        ConversationServiceClient::new(door.channel.clone()).converse(request).await.unwrap().into_inner();
    let mut text = String::new();
    while let Some(event) = stream.message().await.unwrap() {
        if let Some(Event::Sentence(sentence)) = event.event {
            text.push_str(&sentence.text);
        }
    }
    assert!(text.contains("4.95"), "acme's documents answered: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_values_and_models_stay_inside() {
    let door = door().await;
    let restore =
        RestoreRequest { text: "[card-1]".into(), conversation_id: "x".into(), purpose: "curious".into() };
    let mut policy = PolicyServiceClient::new(door.channel.clone());
    assert_code(policy.restore(door.request(restore)).await, Code::PermissionDenied);
    let mut models = InferenceServiceClient::new(door.channel.clone());
    assert_code(models.list_models(door.request(ListModelsRequest {})).await, Code::Unimplemented);
}
