//! A service that answers after a while, with one message or with several.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::routing::post;
use futures::{Stream, stream};
use http::{Request, Response, header::HeaderValue};
use hyper::body::Incoming;
use prost::Message;
use switchboard_mesh::{
    Call, Class, call,
    overload::{self, Overload},
    server::Stack,
};
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;

use super::history::{History, Refusal, Working};

pub(crate) const ASK: &str = "/switchboard.toy.v1.ToyService/Ask";
pub(crate) const LISTEN: &str = "/switchboard.toy.v1.ToyService/Listen";
/// The metadata key of a request's number.
pub(crate) const ID: &str = "x-toy-id";
/// Requests that a node works on at once.
const CORES: usize = 2;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AskRequest {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) work_ms: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) messages: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AskResponse {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) number: u32,
}

/// How a node does, which the simulation changes.
#[derive(Debug)]
pub(crate) struct Mood {
    /// How many times as long it takes.
    pub(crate) slowness: AtomicU32,
    /// It fails at once.
    pub(crate) fails: AtomicBool,
}

impl Default for Mood {
    fn default() -> Self {
        Self { slowness: AtomicU32::new(1), fails: AtomicBool::new(false) }
    }
}

/// The toy service of one start of a node.
#[derive(Clone)]
pub(crate) struct Toy {
    node: usize,
    mood: Arc<Mood>,
    history: History,
    cores: Arc<Semaphore>,
}

/// Limits that are reached by a hundred calls a second.
fn limits() -> overload::Config {
    overload::Config { initial: 8, floor: 2, ceiling: 64, queue: 16, ..overload::Config::default() }
}

/// What a node serves: the toy behind the mesh's server stack.
pub(crate) fn service(
    node: usize,
    mood: &Arc<Mood>,
    history: &History,
) -> impl tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let (mood, cores) = (Arc::clone(mood), Arc::new(Semaphore::new(CORES)));
    let toy = Toy { node, mood, history: history.clone(), cores };
    let (ask, listen, history) = (toy.clone(), toy, history.clone());
    let router = axum::Router::new()
        .route(
            ASK,
            post(move |request: Request<axum::body::Body>| {
                let method = tower::service_fn(move |request| ask.clone().ask(request));
                async move {
                    Grpc::new(ProstCodec::<AskResponse, AskRequest>::default()).unary(method, request).await
                }
            }),
        )
        .route(
            LISTEN,
            post(move |request: Request<axum::body::Body>| {
                let method = tower::service_fn(move |request| listen.clone().listen(request));
                async move {
                    let mut grpc = Grpc::new(ProstCodec::<AskResponse, AskRequest>::default());
                    grpc.server_streaming(method, request).await
                }
            }),
        );
    let stack = Stack::from_router(router).limited(Overload::new(limits()));
    tower::service_fn(move |request: Request<Incoming>| {
        let (stack, history) = (stack.clone(), history.clone());
        async move {
            let id = request.headers().get(ID).and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
            let class = class_of(request.headers().get(call::CLASS));
            let arrived = history.now();
            let response = stack.oneshot(request).await?;
            let full = HeaderValue::from(Code::ResourceExhausted as i32);
            match id {
                Some(id) if response.headers().get("grpc-status") == Some(&full) => {
                    let refused = history.now();
                    history.records().refusals.push(Refusal { id, node, class, arrived, refused });
                }
                Some(_) => {
                    let now = history.now();
                    let mut records = history.records();
                    let started = records.starts.iter().filter(|(_, started)| *started == node).count();
                    let answered = records.first_answers.iter().filter(|(_, first)| *first == node).count();
                    if answered < started {
                        records.first_answers.push((now, node));
                    }
                }
                None => {}
            }
            Ok(response)
        }
    })
}

fn class_of(value: Option<&HeaderValue>) -> Class {
    match value.map(HeaderValue::as_bytes) {
        Some(b"voice") => Class::Voice,
        Some(b"batch") => Class::Batch,
        _ => Class::Chat,
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<AskResponse, Status>> + Send>>;

impl Toy {
    /// Notes that a request is worked on. A request that fails at once was worked on as well.
    fn begin(&self, request: &tonic::Request<AskRequest>) -> Result<Working, Status> {
        let call = Call::of(request)?;
        let id = request.get_ref().id;
        let working = self.history.execute(id, self.node, call.class, call.deadline.left());
        if self.mood.fails.load(Ordering::Relaxed) {
            return Err(Status::unavailable("this node is not well"));
        }
        Ok(working)
    }

    async fn work(&self, time: Duration) {
        let _core = self.cores.acquire().await;
        tokio::time::sleep(time * self.mood.slowness.load(Ordering::Relaxed)).await;
    }

    async fn ask(self, request: tonic::Request<AskRequest>) -> Result<tonic::Response<AskResponse>, Status> {
        let _working = self.begin(&request)?;
        let AskRequest { id, work_ms, .. } = request.into_inner();
        self.work(Duration::from_millis(work_ms)).await;
        Ok(tonic::Response::new(AskResponse { id, number: 0 }))
    }

    async fn listen(self, request: tonic::Request<AskRequest>) -> Result<tonic::Response<Answers>, Status> {
        let working = self.begin(&request)?;
        let AskRequest { id, work_ms, messages } = request.into_inner();
        let each = Duration::from_millis(work_ms) / messages.max(1);
        let answers = stream::unfold((self, working, 0), move |(toy, working, number)| async move {
            if number == messages {
                return None;
            }
            toy.work(each).await;
            Some((Ok(AskResponse { id, number }), (toy, working, number + 1)))
        });
        Ok(tonic::Response::new(Box::pin(answers)))
    }
}
