//! Nodes of one mesh, of others, and of none, at each other's doors.

mod ca;
mod handshake;
mod rotation;

use std::time::Duration;

use http::Uri;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use tower::ServiceExt as _;

use self::ca::{Authority, Files};
use super::*;
use crate::{
    Call, Channel, Class, Deadline, Tenant,
    health::Health,
    server::{self, Limits, Listener, Stack},
    testing,
};

/// A node with `identity` that answers health checks and, at the path of a method that tells nothing, says for
/// whom and until when it was called.
async fn node(identity: Identity, limits: Limits) -> (Uri, DropGuard) {
    let whom = async |request: axum::extract::Request| {
        let call = request.extensions().get::<Call>().unwrap();
        let told = format!(
            "{} {} {}",
            call.tenant().unwrap(),
            call.class.as_str(),
            call.deadline.left().as_secs_f64() <= 5.0
        );
        let mut response = Status::ok(told).into_http::<tonic::body::Body>();
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response
    };
    let redact = "/switchboard.policy.v1.PolicyService/Redact";
    let routes = Routes::new(Health::default().service());
    let router = routes.prepare().into_axum_router().route(redact, axum::routing::any(whom));
    let tcp = server::bind("test", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let uri = format!("http://{}", tcp.local_addr().unwrap()).parse().unwrap();
    let stop = CancellationToken::new();
    let listener = Listener::new(tcp, identity);
    let drain = Duration::from_secs(1);
    tokio::spawn(server::serve(listener, Stack::from_router(router), limits, stop.clone(), drain));
    (uri, stop.drop_guard())
}

/// A channel of a node with `identity` to `role` at `uri`.
fn channel(identity: &Identity, role: &str, uri: &Uri) -> Channel {
    Channel::secured(role, vec![uri.clone()], identity)
}

async fn check(channel: Channel) -> Result<(), Status> {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).check(testing::call("acme").request(request)).await.map(drop)
}

/// Calls `Redact`, and returns its status with what the node said.
async fn redact(channel: Channel) -> Status {
    let deadline = Deadline::after(Duration::from_secs(5));
    let call = Call::new(Tenant::try_new("acme").unwrap(), deadline).with_class(Class::Voice);
    let mut request = http::Request::post("http://mesh/switchboard.policy.v1.PolicyService/Redact")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::empty())
        .unwrap();
    request.extensions_mut().insert(call);
    let response = channel.oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap()
}

#[tokio::test]
async fn a_call_over_mtls_keeps_tenant_class_and_deadline() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let status = redact(channel(&ca.node("conversation").load(), "policy", &uri)).await;
    assert_eq!((status.code(), status.message()), (Code::Ok, "acme voice true"));
}

#[tokio::test]
async fn a_role_may_not_call_what_is_not_its_business() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let knowledge = channel(&ca.node("knowledge").load(), "policy", &uri);
    let status = redact(knowledge.clone()).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    let told = status.message();
    assert!(told.contains("role knowledge") && told.contains("PolicyService/Redact"), "{told}");
    check(knowledge).await.unwrap();
    // One certificate may be for several roles.
    let both = ca.node("knowledge/conversation").load();
    assert_eq!(redact(channel(&both, "policy", &uri)).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_node_in_plain_text_asks_nobody_who_he_is() {
    let (uri, _guard) = node(Identity::plain(), Limits::default()).await;
    let status = redact(channel(&Identity::plain(), "policy", &uri)).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
}

#[tokio::test]
async fn a_server_with_another_role_is_not_called() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("knowledge/reranking").load(), Limits::default()).await;
    let caller = ca.node("conversation").load();
    check(channel(&caller, "reranking", &uri)).await.unwrap();
    let status = check(channel(&caller, "policy", &uri)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("is for knowledge, reranking, not for policy"), "{status:?}");
}

#[tokio::test]
async fn a_server_of_another_mesh_is_not_called() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (uri, _guard) = node(other.node("policy").load(), Limits::default()).await;
    let status = check(channel(&ca.node("conversation").load(), "policy", &uri)).await.unwrap_err();
    assert!(status.message().contains("UnknownIssuer"), "{status:?}");
}

#[tokio::test]
async fn a_secured_client_says_that_a_server_is_in_plain_text() {
    let ca = Authority::new();
    let (uri, _guard) = node(Identity::plain(), Limits::default()).await;
    let status = check(channel(&ca.node("conversation").load(), "policy", &uri)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("does not speak TLS"), "{status:?}");
}

#[tokio::test]
async fn a_client_in_plain_text_hears_that_the_server_takes_tls_only() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let status = check(channel(&Identity::plain(), "policy", &uri)).await.unwrap_err();
    // What gRPC makes of INADEQUATE_SECURITY: it cannot be mended by trying again.
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("takes TLS only"), "{status:?}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let ca = Authority::new();
    let good = || ca.node("policy");
    let refusal = |files: &Files| {
        let Err(error) = Identity::load(&files.config) else { panic!("it is refused") };
        (error.key, error.to_string())
    };
    let gone = good();
    std::fs::remove_file(&gone.config.key).unwrap();
    let (empty, keyless, broken, bundle) = (good(), good(), good(), good());
    std::fs::write(&empty.config.certificate, "").unwrap();
    std::fs::write(&keyless.config.key, std::fs::read(&keyless.config.certificate).unwrap()).unwrap();
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken.config.certificate, nonsense).unwrap();
    std::fs::write(&bundle.config.authorities, nonsense).unwrap();
    let other_key = good();
    std::fs::copy(&good().config.key, &other_key.config.key).unwrap();
    let large = good();
    std::fs::write(&large.config.authorities, vec![b'\n'; (1 << 20) + 1]).unwrap();
    let stranger = good();
    std::fs::write(&stranger.config.authorities, Authority::new().pem()).unwrap();
    let day = Duration::from_secs(86_400);
    let now = SystemTime::now();
    for (key, told, files) in [
        ("identity.key", "No such file", gone),
        ("identity.certificate", "no certificate", empty),
        ("identity.key", "no key", keyless),
        ("identity.certificate", "cannot be read", broken),
        ("identity.authorities", "not usable", bundle),
        ("identity.key", "does not belong", other_key),
        ("identity.authorities", "larger than", large),
        ("identity.certificate", "would refuse", stranger),
        ("identity.certificate", "expired", ca.lived("policy", now - 2 * day, now - day)),
        ("identity.certificate", "valid only from", ca.lived("policy", now + day, now + 2 * day)),
        ("identity.certificate", "trust domain \"other\"", ca.named(&["spiffe://other/role/policy"])),
        ("identity.certificate", "0 URIs", ca.named(&[])),
        (
            "identity.certificate",
            "2 URIs",
            ca.named(&["spiffe://switchboard/role/policy", "spiffe://switchboard/role/tools"]),
        ),
        ("identity.certificate", "not of the form", ca.named(&["https://switchboard/policy"])),
    ] {
        let (named, error) = refusal(&files);
        assert!(named == key && error.starts_with(key) && error.contains(told), "{told}: {error}");
    }
}

#[test]
fn without_files_an_identity_is_plain() {
    let identity = Identity::load(&Config::default()).unwrap();
    assert!(identity.is_plain() && identity.own().is_none());
}
