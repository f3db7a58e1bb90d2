//! What hostile peers may do to a node: nothing that others notice for long.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{Request, StatusCode};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::DropGuard;
use tonic::{Code, service::Routes};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{Channel, Mounted, call, health::Health, telemetry, testing};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Streams that are reset, if the node lets them.
const RESETS: u32 = 20_000;
/// How long anybody else may have to wait, on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(5);

/// A node, and a client of another make that has a connection to it.
struct Rig {
    address: SocketAddr,
    others: HealthClient<Channel>,
    _node: DropGuard,
}

impl Rig {
    async fn new() -> Self {
        let health = Health::default();
        health.set("", true);
        let routes = Routes::new(health.service());
        let role = Mounted { role: "health", routes, services: vec![], long_lived: vec![] };
        let (uri, node) = testing::listen(&role).await;
        let authority = uri.authority().unwrap().as_str().parse().unwrap();
        Self { address: authority, others: HealthClient::new(Channel::tcp("health", uri)), _node: node }
    }

    async fn connect(&self) -> SendRequest<Bytes> {
        self.watched().await.0
    }

    /// The same, with how the connection ends.
    async fn watched(&self) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let end = tokio::spawn(connection);
        (client.ready().await.unwrap(), end)
    }

    /// Everybody else is served as ever.
    async fn others_are_well(&mut self) {
        let request = testing::call("acme").request(HealthCheckRequest::default());
        let began = Instant::now();
        self.others.check(request).await.unwrap();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

fn request() -> http::request::Builder {
    Request::post(format!("http://node{CHECK}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// A message of gRPC: whether it is compressed, its length, and what is in it.
fn message(compressed: bool, body: &[u8]) -> Bytes {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[u8::from(compressed)], &length[..], body].concat().into()
}

/// The gRPC status of a call with that head and body.
async fn ask(client: &mut SendRequest<Bytes>, request: http::request::Builder, body: Bytes) -> Code {
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!(head.status, StatusCode::OK);
    if let Some(code) = telemetry::code_in(&head.headers) {
        return code;
    }
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    telemetry::code_in(&body.trailers().await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect().await;
    let large = request().header("x-large", "x".repeat(64 * 1024)).body(()).unwrap();
    let (response, _stream) = client.send_request(large, true).unwrap();
    match timeout(SOON, response).await.unwrap() {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.is_remote(), "{error}"),
    }
    rig.others_are_well().await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_harm_nobody() {
    let mut rig = Rig::new().await;
    let (mut client, end) = rig.watched().await;
    let mut sent = 0;
    for _ in 0..RESETS {
        // An error is the end of the connection, which is an answer as well.
        let Ok(ready) = client.ready().await else { break };
        client = ready;
        let Ok((_, mut stream)) = client.send_request(request().body(()).unwrap(), false) else { break };
        stream.send_reset(Reason::CANCEL);
        sent += 1;
        if sent % 1000 == 0 {
            rig.others_are_well().await;
        }
        client = match client.ready().await {
            Ok(client) => client,
            Err(_) => break,
        };
    }
    if sent < RESETS {
        // The node had enough: it says so, or has closed before that was read.
        let end = timeout(SOON, end).await.unwrap().unwrap().unwrap_err();
        assert!(end.reason() == Some(Reason::ENHANCE_YOUR_CALM) || end.is_io(), "after {sent}: {end:?}");
    }
    rig.others_are_well().await;
}

#[tokio::test]
async fn pings_without_end_harm_nobody() {
    let mut rig = Rig::new().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    let mut taken = 0;
    let pings = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00anything".repeat(1000);
    for _ in 0..200 {
        // Nobody reads the answers: at some point the node takes no more, or has had enough.
        if !matches!(timeout(Duration::from_millis(200), stream.write_all(&pings)).await, Ok(Ok(()))) {
            break;
        }
        taken += 1;
        rig.others_are_well().await;
    }
    assert!(taken > 0, "some are answered");
    rig.others_are_well().await;
}

#[tokio::test]
async fn nothing_that_is_compressed_is_unpacked() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect().await;
    // What a megabyte of zeros becomes matters not: it is never looked at.
    let bomb = message(true, &[0x1f; 64]);
    let code = ask(&mut client, request().header("grpc-encoding", "gzip"), bomb).await;
    assert_eq!(code, Code::Unimplemented);
    // A flag without the header says as much.
    assert_ne!(ask(&mut client, request(), message(true, b"")).await, Code::Ok);
    rig.others_are_well().await;
}

#[tokio::test]
async fn a_message_that_claims_to_be_huge_is_refused_before_it_comes() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect().await;
    let claim = [&[0], &u32::MAX.to_be_bytes()[..]].concat();
    assert_eq!(ask(&mut client, request(), claim.into()).await, Code::OutOfRange);
    rig.others_are_well().await;
}

#[tokio::test]
async fn tenants_in_disguise_are_no_tenants() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect().await;
    let check = |name: &str| request().header(call::TENANT, name.as_bytes());
    assert_eq!(ask(&mut client, check("acme"), message(false, b"")).await, Code::Ok);
    for disguise in
        ["", "Acme", "acme ,globex", "acme,globex", "../acme", "acme%00", "a\u{441}me", "acme\u{200b}"]
    {
        let code = ask(&mut client, check(disguise), message(false, b"")).await;
        assert_eq!(code, Code::InvalidArgument, "{disguise:?}");
    }
    rig.others_are_well().await;
}
