//! Clients whom no identity would make, at a node's door.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ca::self_signed, *};
use crate::identity::metrics::Outcome;

/// A client as others make them: it checks that the server is `localhost`, and shows what it is given.
fn foreign(authorities: &str, own: Option<&Files>, alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.config.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_file(&files.config.key).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn address(uri: &Uri) -> SocketAddr {
    uri.authority().unwrap().as_str().parse().unwrap()
}

async fn tls(uri: &Uri, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address(uri)).await.unwrap();
    client.connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

type Connection = tokio::task::JoinHandle<hyper::Result<()>>;

/// Connects and asks for the node's health; what went wrong, if anything did.
async fn ask(uri: &Uri, client: &TlsConnector) -> Result<String, String> {
    asked(uri, client).await.map(|(told, ..)| told)
}

/// As [`ask`], with the connection, which lives as long as its sender.
async fn asked(
    uri: &Uri,
    client: &TlsConnector,
) -> Result<(String, SendRequest<Full<Bytes>>, Connection), String> {
    let stream = tls(uri, client).await.map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .unwrap();
    match sender.send_request(request).await {
        Ok(response) => Ok((response.status().to_string(), sender, connection)),
        Err(_) => Err(crate::error::chain(&connection.await.unwrap().unwrap_err())),
    }
}

#[tokio::test]
async fn a_client_of_another_make_is_served() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let client = foreign(&ca.pem(), Some(&ca.node("conversation")), &[b"h2"]);
    assert_eq!(ask(&uri, &client).await.unwrap(), "200 OK");
}

/// What those show who are no nodes of the mesh, and as what they are counted.
fn strangers(ca: &Authority) -> Vec<(&'static str, Option<Files>, Outcome)> {
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let role = "conversation";
    vec![
        ("an expired certificate", Some(ca.lived(role, now - 2 * day, now - day)), Outcome::Expired),
        ("one that is not valid yet", Some(ca.lived(role, now + day, now + 2 * day)), Outcome::NotYetValid),
        ("one that is its own authority", Some(self_signed(role, &ca.pem())), Outcome::UnknownAuthority),
        ("one of another authority", Some(Authority::new().node(role)), Outcome::UnknownAuthority),
        ("one of another domain", Some(ca.named(&["spiffe://other/role/conversation"])), Outcome::Name),
        ("one without a name", Some(ca.named(&[])), Outcome::Name),
        ("no certificate", None, Outcome::NoCertificate),
    ]
}

#[tokio::test]
async fn who_is_no_node_of_the_mesh_is_refused() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    for (who, files, _) in strangers(&ca) {
        let client = foreign(&ca.pem(), files.as_ref(), &[b"h2"]);
        let error = ask(&uri, &client).await.unwrap_err();
        assert!(error.contains("alert"), "{who}: {error}");
    }
    // The door is still open to others.
    check(channel(&ca.node("conversation").load(), "policy", &uri)).await.unwrap();
}

#[tokio::test]
async fn what_came_of_a_handshake_is_told_apart() {
    let ca = Authority::new();
    let identity = ca.node("policy").load();
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}", door.local_addr().unwrap()).parse().unwrap();
    let counted = async |client: &TlsConnector| {
        let (shaken, _) = tokio::join!(
            async { identity.0.as_ref().unwrap().shake(door.accept().await.unwrap().0).await.map(drop) },
            async { tls(&uri, client).await.map(drop) },
        );
        shaken.as_ref().map_or_else(Outcome::of, |()| Outcome::Ok)
    };
    for (who, files, outcome) in strangers(&ca) {
        assert_eq!(counted(&foreign(&ca.pem(), files.as_ref(), &[b"h2"])).await, outcome, "{who}");
    }
    let node = ca.node("conversation");
    assert_eq!(counted(&foreign(&ca.pem(), Some(&node), &[b"h2"])).await, Outcome::Ok);
    assert_eq!(counted(&foreign(&ca.pem(), Some(&node), &[b"http/1.1"])).await, Outcome::Protocol);
    // The client does not believe the server, and says so.
    assert_eq!(counted(&foreign(&Authority::new().pem(), Some(&node), &[b"h2"])).await, Outcome::Refused);
}

#[tokio::test]
async fn only_http2_is_spoken_over_tls() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let client = foreign(&ca.pem(), Some(&ca.node("conversation")), &[b"http/1.1"]);
    let error = tls(&uri, &client).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

/// Whether the other side closes within a few seconds.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_of_its_peer() {
    let ca = Authority::new();
    let (uri, _guard) = node(ca.node("policy").load(), Limits::default()).await;
    let (hour, end) = (Duration::from_secs(3600), SystemTime::now() + Duration::from_secs(4));
    let short = ca.lived("conversation", end - hour, end);
    let client = foreign(&ca.pem(), Some(&short), &[b"h2"]);
    let (told, _sender, connection) = asked(&uri, &client).await.unwrap();
    assert_eq!(told, "200 OK");
    let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
    ended.expect("it is shut down").unwrap().unwrap();
    assert!(SystemTime::now() >= end - Duration::from_secs(1), "not before its time");
    assert!(ask(&uri, &client).await.is_err());
}

#[tokio::test]
async fn a_connection_of_a_node_is_not_kept_for_ever_and_its_calls_do_not_notice() {
    let ca = Authority::new();
    let limits = Limits { age: Duration::from_millis(300), ..Limits::default() };
    let (uri, _guard) = node(ca.node("policy").load(), limits).await;
    let client = foreign(&ca.pem(), Some(&ca.node("conversation")), &[b"h2"]);
    let (_, _sender, connection) = asked(&uri, &client).await.unwrap();
    let calls = channel(&ca.node("conversation").load(), "policy", &uri);
    let mut made = 0;
    while !connection.is_finished() || made < 1000 {
        check(calls.clone()).await.unwrap();
        made += 1;
        assert!(made < 1_000_000, "the connection is still open");
    }
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_slow_at_the_handshake_is_shown_out() {
    let ca = Authority::new();
    let limits = Limits { handshake_time: Duration::from_millis(100), ..Limits::default() };
    let (uri, _guard) = node(ca.node("policy").load(), limits).await;
    for hello in [&b""[..], &[22, 3, 1]] {
        let mut stream = TcpStream::connect(address(&uri)).await.unwrap();
        stream.write_all(hello).await.unwrap();
        assert!(is_closed(&mut stream).await, "after {hello:?}");
    }
}

#[tokio::test]
async fn handshakes_at_once_are_bounded_and_keep_nobody_out_for_long() {
    let ca = Authority::new();
    let limits = Limits { connections: 2, handshake_time: Duration::from_millis(300), ..Limits::default() };
    let (uri, _guard) = node(ca.node("policy").load(), limits).await;
    let client = foreign(&ca.pem(), Some(&ca.node("conversation")), &[b"h2"]);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address(&uri)).await.unwrap());
    }
    // Two of them have the places, two more the next; then it is our turn.
    let began = std::time::Instant::now();
    let answered = tokio::time::timeout(Duration::from_secs(10), ask(&uri, &client)).await;
    assert_eq!(answered.unwrap().unwrap(), "200 OK");
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_node_that_drains_does_not_wait_for_handshakes() {
    let ca = Authority::new();
    let (uri, guard) = node(ca.node("policy").load(), Limits::default()).await;
    let mut stream = TcpStream::connect(address(&uri)).await.unwrap();
    stream.write_all(&[22, 3, 1]).await.unwrap();
    drop(guard);
    assert!(is_closed(&mut stream).await);
}
