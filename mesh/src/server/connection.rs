//! Connections: accepted, bounded, watched, drained.
//!
//! A connection is made in its own task and counts from the start, so that callers who are slow at it, or
//! many, keep nobody else from being accepted but by their number. hyper bounds headers, streams and
//! keep-alives. What it leaves open is closed here by a watch on each connection: one that never sends a
//! request, one that is long idle, and one whose peer does not read, so that a call's deadline passes without
//! its stream being able to end. One of a node ends with that node's certificate, or when it is old, since who
//! is at its other end is looked at only when it begins: open calls are finished, further ones need a new one.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::Listener;
use crate::{
    Deadline,
    balance::Random,
    deadline,
    identity::{Accepted, Peer},
};

/// Bounds on what connections may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams: u32,
    /// Time for a TLS handshake.
    pub handshake_time: Duration,
    /// Bytes of headers of one request.
    pub header_bytes: u32,
    /// Time to send a request's headers, and on a new connection to send a first request.
    pub header_time: Duration,
    /// Time that a connection may be open without a call.
    pub idle_time: Duration,
    /// Time that a stream may be open past its deadline because its peer does not read.
    pub grace: Duration,
    /// Age at which a connection of a node with a certificate takes no further calls, with up to a tenth more at
    /// random, so that not all end at once. Whoever is no longer believed, as when an authority is taken away,
    /// is gone by then.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 256,
            handshake_time: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(300),
            grace: Duration::from_secs(10),
            age: Duration::from_secs(60 * 60),
        }
    }
}

/// Serves connections until `stop`, then lets the open ones finish for at most `drain`. No
/// connection outlives it.
pub async fn serve<S, B>(
    listener: impl Into<Listener>,
    service: S,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Listener { tcp: listener, identity } = listener.into();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { break };
        let (service, stop, identity) = (service.clone(), stop.clone(), identity.clone());
        open.spawn(async move {
            let accepted = tokio::select! {
                biased;
                accepted = identity.accept(stream, limits.handshake_time) => accepted,
                () = stop.cancelled() => None,
            };
            match accepted {
                Some(Accepted::Plain(stream)) => carry(stream, None, service, limits, stop).await,
                Some(Accepted::Secured { stream, peer, until }) => {
                    let age = limits.age.mul_f64(1.0 + Random::new(None).fraction() / 10.0);
                    let end = until.min(Instant::now() + age);
                    carry(stream, Some((peer, end)), service, limits, stop).await;
                }
                None => {}
            }
            drop(place);
        });
    }
    drop(listener);
    let finished = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, finished).await.is_err() {
        tracing::warn!(?drain, open = open.len(), "calls were still open when the drain time was over");
        open.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return Some((stream, place));
            }
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to be closed.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Carries one connection to its end. Requests of a known `peer` say who it is, until its time is over.
async fn carry<I, S, B>(
    stream: I,
    peer: Option<(Peer, Instant)>,
    service: S,
    limits: Limits,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size((limits.header_bytes as usize).max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    let (peer, mut end) = peer.unzip();
    if peer.is_some() {
        builder = builder.http2_only();
    }
    let activity = Activity::new();
    let service = TowerToHyperService::new(Watched { inner: service, peer, activity: activity.clone() });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let (mut closing, mut over) = (false, false);
    loop {
        // A call that begins meanwhile may be due earlier: look again soon.
        let due = activity.due(&limits).min(Instant::now() + limits.grace);
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(end.unwrap_or(due)), if end.is_some() => {
                if std::mem::replace(&mut over, true) {
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
                // Whatever was open is due by then, and a peer that does not want to go is cut off.
                end = Some(Instant::now() + deadline::LONGEST + limits.grace);
            }
            () = tokio::time::sleep_until(due) => match activity.verdict(&limits) {
                Verdict::Keep => {}
                Verdict::Finish if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                // A second time: the peer did not take the hint.
                Verdict::Finish | Verdict::Cut => return,
            },
        }
    }
}

/// What to do with a connection.
enum Verdict {
    Keep,
    Finish,
    Cut,
}

/// What a connection is doing.
#[derive(Clone)]
struct Activity(Arc<Mutex<State>>);

struct State {
    used: bool,
    /// Since when there was no change.
    since: Instant,
    /// Open calls, with the time of each from which it is overdue.
    open: HashMap<u64, Instant>,
    next: u64,
}

impl Activity {
    fn new() -> Self {
        let state = State { used: false, since: Instant::now(), open: HashMap::new(), next: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call.
    fn enter(&self) -> Ticket {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.used = true;
        // Until it says its deadline.
        state.open.insert(number, Instant::now() + deadline::LONGEST);
        Ticket { activity: self.clone(), number }
    }

    /// When to look next.
    fn due(&self, limits: &Limits) -> Instant {
        let state = self.state();
        match state.open.values().min() {
            Some(overdue) => *overdue + limits.grace,
            None if state.used => state.since + limits.idle_time,
            None => state.since + limits.header_time,
        }
    }

    fn verdict(&self, limits: &Limits) -> Verdict {
        let now = Instant::now();
        if now < self.due(limits) {
            return Verdict::Keep;
        }
        let mut state = self.state();
        // A connection that is told to finish has as long again to do so.
        state.since = now;
        if state.used && state.open.is_empty() { Verdict::Finish } else { Verdict::Cut }
    }
}

/// An open call; it ends when this is dropped.
struct Ticket {
    activity: Activity,
    number: u64,
}

impl Ticket {
    fn until(&self, deadline: Deadline) {
        self.activity.state().open.insert(self.number, deadline.instant());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.open.remove(&self.number);
        state.since = Instant::now();
    }
}

/// Enters each call of a connection into its activity, to the end of the response body, and says whose it is.
#[derive(Clone)]
struct Watched<S> {
    inner: S,
    peer: Option<Peer>,
    activity: Activity,
}

impl<S, B> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let ticket = self.activity.enter();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if let Some(deadline) = response.extensions().get::<Deadline>() {
                ticket.until(*deadline);
            }
            Ok(response.map(|inner| WatchedBody { inner, ticket }))
        })
    }
}

pin_project! {
    /// A response body that keeps its call open.
    struct WatchedBody<B> {
        #[pin]
        inner: B,
        ticket: Ticket,
    }
}

impl<B: http_body::Body> http_body::Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn door(limits: Limits) -> (std::net::SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
        tokio::spawn(serve(listener, router, limits, stop.clone(), Duration::from_secs(1)));
        (address, stop.drop_guard())
    }

    fn impatient() -> Limits {
        let short = Duration::from_millis(100);
        Limits { header_time: short, idle_time: short, ..Limits::default() }
    }

    /// Whether the other side closes within two seconds.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await.is_ok()
    }

    #[tokio::test]
    async fn who_says_nothing_is_shown_out() {
        let (address, _guard) = door(impatient()).await;
        for hello in ["", "PRI"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(hello.as_bytes()).await.unwrap();
            assert!(is_closed(&mut stream).await, "after {hello:?}");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_its_calls_are_answered() {
        let (address, _guard) = door(impatient()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut page = String::new();
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut page));
        read.await.unwrap().unwrap();
        assert!(page.ends_with("hello"), "{page}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_far_past_its_deadline_costs_the_connection() {
        let (activity, limits) = (Activity::new(), Limits::default());
        let ticket = activity.enter();
        ticket.until(Deadline::after(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(activity.verdict(&limits), Verdict::Keep));
        tokio::time::advance(limits.grace).await;
        assert!(matches!(activity.verdict(&limits), Verdict::Cut));
        drop(ticket);
        assert!(matches!(activity.verdict(&limits), Verdict::Keep));
        tokio::time::advance(limits.idle_time).await;
        assert!(matches!(activity.verdict(&limits), Verdict::Finish));
    }
}
