use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::DropGuard;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    Call, Channel, Class, Deadline, Mounted, call, deadline,
    discovery::{About, AboutModel, Member, Source},
    telemetry, testing,
};

mod asking;
mod following;
mod leaving_out;

/// A node that ends each call with a code, and counts them.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<AtomicU32>,
    code: Arc<AtomicU32>,
    /// So many calls get the code before all others are answered; none for all.
    first: Arc<Mutex<Option<u32>>>,
    /// Every second call is answered.
    every_second: Arc<AtomicBool>,
    /// Calls wait for their caller to go.
    hangs: Arc<AtomicBool>,
    /// The next call does; for several nodes together, the one that comes first.
    next_hangs: Arc<AtomicBool>,
    /// Answers begin and do not end.
    streams: Arc<AtomicBool>,
    /// What a refusal says about trying again.
    pushback: Arc<Mutex<Option<&'static str>>>,
    /// What the last call said, and its metadata.
    heard: Arc<Mutex<(Vec<u8>, HeaderMap)>>,
}

impl Fake {
    fn with(code: Code) -> Self {
        Self { code: Arc::new(AtomicU32::new(code as u32)), ..Self::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn mounted(&self) -> Mounted {
        let fake = self.clone();
        let answer = move |headers: HeaderMap, body: Bytes| fake.clone().answer(headers, body);
        let router = axum::Router::new().route("/switchboard.test.v1.Test/Ask", axum::routing::any(answer));
        Mounted { role: "test", routes: router.into(), services: vec![], long_lived: vec![] }
    }

    async fn answer(self, headers: HeaderMap, body: Bytes) -> Response<Body> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        *self.heard.lock().unwrap() = (body.to_vec(), headers);
        if self.hangs.load(Ordering::SeqCst) || self.next_hangs.swap(false, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.streams.load(Ordering::SeqCst) {
            let endless = futures::stream::pending::<Result<http_body::Frame<Bytes>, Status>>();
            return Response::new(Body::new(http_body_util::StreamBody::new(endless)));
        }
        let passed = self.first.lock().unwrap().is_some_and(|first| call > first);
        let skipped = self.every_second.load(Ordering::SeqCst) && call.is_multiple_of(2);
        let code = Code::from(self.code.load(Ordering::SeqCst) as i32);
        if code == Code::Ok || passed || skipped {
            return Response::new(Body::empty());
        }
        let mut response = Status::new(code, format!("{code:?}")).into_http::<Body>();
        if let Some(value) = *self.pushback.lock().unwrap() {
            response.headers_mut().insert("grpc-retry-pushback-ms", value.parse().unwrap());
        }
        response
    }
}

/// Nodes that serve, and a channel to them all.
async fn serve<const N: usize>(fakes: [&Fake; N]) -> (Channel, Vec<(Uri, DropGuard)>) {
    serve_with(Config::default(), fakes).await
}

async fn serve_with<const N: usize>(config: Config, fakes: [&Fake; N]) -> (Channel, Vec<(Uri, DropGuard)>) {
    let mut nodes = Vec::new();
    for fake in fakes {
        nodes.push(testing::listen(&fake.mounted()).await);
    }
    let members = nodes.iter().map(|(uri, _)| Member::at(uri.clone())).collect();
    (discovered(config, members).0, nodes)
}

/// A channel to members, which the sender changes.
fn discovered(config: Config, members: Vec<Member>) -> (Channel, watch::Sender<Arc<Members>>) {
    let (sender, receiver) = watch::channel(told(members));
    let options = Options { config, ..Options::default() };
    (Channel::discovered("test", receiver, options), sender)
}

fn told(members: Vec<Member>) -> Arc<Members> {
    let nodes = members.into_iter().map(Arc::new).collect();
    Arc::new(Members { nodes, source: Source::Registry, as_of: std::time::SystemTime::now() })
}

/// Which mark a request carries.
#[derive(Clone, Copy, Debug)]
enum As {
    One,
    Any,
    Hedged,
    For(&'static str),
}

/// Asks once; OK is what it ends with when the answer has begun.
async fn ask(channel: &Channel, mark: As) -> Code {
    ask_by(channel, mark, &testing::call("acme")).await
}

async fn ask_by(channel: &Channel, mark: As, call: &Call) -> Code {
    telemetry::code_of(&asked(channel, mark, call).await).unwrap_or(Code::Ok)
}

async fn asked(channel: &Channel, mark: As, call: &Call) -> Response<Body> {
    let marked = match mark {
        As::One => call.request(()),
        As::Any => call.request_to_any(()),
        As::Hedged => call::hedged(call.request(())),
        As::For(model) => call.request_for(model, ()),
    };
    let mut request = Request::post("http://mesh/switchboard.test.v1.Test/Ask")
        .body(Body::new(Full::from("said")))
        .unwrap();
    *request.extensions_mut() = marked.into_parts().1;
    channel.clone().oneshot(request).await.unwrap()
}

/// A call that soon nobody waits for.
fn short(millis: u64) -> Call {
    testing::call("acme").until(Deadline::after(Duration::from_millis(millis)))
}

fn snapshot(channel: &Channel) -> Snapshot {
    channel.snapshot().expect("a channel over TCP")
}

/// What is known of the node at `uri`.
fn node(channel: &Channel, uri: &Uri) -> NodeSnapshot {
    let nodes = snapshot(channel).nodes;
    nodes.into_iter().find(|node| node.uri == uri.to_string()).expect("a member")
}

/// Waits until `done`.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// Stops a node and waits until nobody listens at its address.
async fn stop(node: (Uri, DropGuard)) -> String {
    let address = node.0.authority().unwrap().to_string();
    drop(node.1);
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    address
}

/// Serves at an address that was in use before.
async fn serve_at(address: &str, fake: &Fake) -> DropGuard {
    let listener = TcpListener::bind(address).await.unwrap();
    let stack = crate::server::Stack::new(fake.mounted().routes);
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(crate::server::serve(listener, stack, Default::default(), stop.clone(), Duration::ZERO));
    stop.drop_guard()
}

/// Where nobody listens: the discard port of loopback.
fn nowhere() -> Uri {
    Uri::from_static("http://127.0.0.1:9")
}
