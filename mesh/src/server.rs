//! The server stack and the listener.
//!
//! [`Stack`] is what each request meets before a role sees it; [`serve`] carries HTTP/1 and HTTP/2
//! connections to any service, under limits, until told to drain.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;

use crate::{
    Call,
    deadline::{self, DeadlineBody},
    telemetry,
};

/// The routes of a role behind deadline, identity and telemetry.
#[derive(Clone)]
pub struct Stack(axum::Router);

impl Stack {
    /// Puts `routes` behind the stack.
    #[must_use]
    pub fn new(routes: Routes) -> Self {
        Self(routes.prepare().into_axum_router())
    }

    /// Puts a router behind the stack; what it does not know is UNIMPLEMENTED.
    #[must_use]
    pub fn from_router(router: axum::Router) -> Self {
        Self(router.fallback(|| async {
            tonic::Status::unimplemented("no such method on this node").into_http::<Body>()
        }))
    }

    async fn serve(self, mut request: Request<Body>) -> Response<Body> {
        let started = tokio::time::Instant::now();
        let method = telemetry::Method::of(request.uri());
        let call = match Call::from_headers(request.headers()) {
            Ok(call) => call,
            Err(status) => return status.into_http(),
        };
        let span = telemetry::server_span(&method, request.headers());
        let deadline = call.deadline;
        request.extensions_mut().insert(call);
        // The role's future is dropped when the deadline passes or the caller goes: work stops.
        let outcome = deadline.limit(self.0.oneshot(request).instrument(span.clone())).await;
        let response = match outcome {
            Some(Ok(response)) => response.map(Body::new),
            Some(Err(never)) => match never {},
            None => deadline::exceeded().into_http(),
        };
        let code = telemetry::code_of(&response);
        telemetry::record_server(&method, code.unwrap_or(Code::Ok), started.elapsed(), &span);
        if code.is_some() {
            return response;
        }
        response.map(|body| Body::new(telemetry::InSpan::new(DeadlineBody::new(body, deadline), span)))
    }
}

impl<B> Service<Request<B>> for Stack
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let stack = self.clone();
        Box::pin(async move { Ok(stack.serve(request.map(Body::new)).await) })
    }
}

/// Bounds on what connections may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes of headers of one request.
    pub header_bytes: u32,
    /// Time to send a request's headers.
    pub header_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 256,
            header_bytes: 16 * 1024,
            header_time: Duration::from_secs(10),
        }
    }
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {key} = {address}: {source}{}", hint(source))]
pub struct BindError {
    /// The config key.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process has the port: stop it, or choose another (0 takes a free one)"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the right to bind them",
        _ => "",
    }
}

/// Listens on `address`, which config calls `key`.
///
/// # Errors
/// [`BindError`], which names both.
pub async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { key, address, source })
}

/// Serves connections until `stop`, then lets the open ones finish for at most `drain`.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
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
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { break };
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service.clone()))
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(?drain, "calls were still open when the drain time was over");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
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
