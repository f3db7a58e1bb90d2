//! The server stack and the listener.
//!
//! [`Stack`] is what each request meets before a role sees it; [`serve`] carries HTTP/1 and HTTP/2
//! connections to any service, under limits, until told to drain.

mod connection;
#[cfg(test)]
mod hostile;
mod listener;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pub use connection::{Limits, serve};
use http::{HeaderMap, Request, Response, Uri};
pub use listener::Listener;
use tokio::net::TcpListener;
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;

use crate::{
    Call, Deadline, call,
    deadline::{self, DeadlineBody},
    identity::{Peer, permissions},
    overload::{Held, Overload, Place},
    telemetry::{self, Recorded, Recorder, Side},
};

/// Methods that every node serves and that go on for as long as their caller likes.
const LONG_LIVED: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The routes of a role behind permissions, deadline, tenant, telemetry and a limit on what is done at once.
///
/// The limit is that of [`overload::Config`](crate::overload::Config)'s defaults unless another is
/// [given](Self::limited). Calls within a process pass none. What a caller may call is asked where the
/// listener knows who it is.
#[derive(Clone)]
pub struct Stack {
    routes: axum::Router,
    overload: Option<Overload>,
    long_lived: Arc<BTreeSet<&'static str>>,
}

impl Stack {
    /// Puts `routes` behind the stack.
    #[must_use]
    pub fn new(routes: Routes) -> Self {
        Self::behind(routes.prepare().into_axum_router())
    }

    /// Puts a router behind the stack; what it does not know is UNIMPLEMENTED.
    #[must_use]
    pub fn from_router(router: axum::Router) -> Self {
        Self::behind(
            router.fallback(|| async {
                Status::unimplemented("no such method on this node").into_http::<Body>()
            }),
        )
    }

    fn behind(routes: axum::Router) -> Self {
        let long_lived = Arc::new(BTreeSet::from(LONG_LIVED));
        Self { routes, overload: Some(Overload::default()), long_lived }
    }

    /// This stack with methods, `/package.Service/Method`, that go on for as long as their caller likes,
    /// besides watches of health and reflection: a call of them without a deadline has
    /// [`deadline::LONGEST`] in place of [`deadline::DEFAULT`], and each has a limit of its own on what is
    /// done at once.
    #[must_use]
    pub fn long_lived(mut self, methods: impl IntoIterator<Item = &'static str>) -> Self {
        Arc::make_mut(&mut self.long_lived).extend(methods);
        self
    }

    /// This stack with the limits of `overload`, which several stacks of a process may share.
    #[must_use]
    pub fn limited(self, overload: Overload) -> Self {
        Self { overload: Some(overload), ..self }
    }

    /// This stack without a limit, for calls that were let in elsewhere in this process.
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { overload: None, ..self }
    }

    async fn serve(self, mut request: Request<Body>) -> Response<Body> {
        let method = telemetry::Method::of(request.uri());
        let span = telemetry::server_span(&method, request.headers());
        let mut recorder = Recorder::new(Side::Server, method, span.clone());
        // First of all, so that who may not call costs nothing and learns nothing.
        let peer = request.extensions().get::<Peer>();
        let allowed = peer.map_or(Ok(()), |peer| permissions::check(peer, request.uri().path()));
        let call = match allowed.and_then(|()| Call::from_headers(request.headers())) {
            Ok(call) if self.goes_on(&request) => call.with_deadline(Deadline::after(deadline::LONGEST)),
            Ok(call) => call,
            Err(status) => {
                recorder.end(status.code());
                return status.into_http();
            }
        };
        // Before anything is done for the call, and with its whole time before it.
        let mut place = match self.admit(&call, request.uri(), request.headers()).await {
            Ok(place) => place,
            Err(status) => {
                recorder.end(status.code());
                return status.into_http();
            }
        };
        if let Some(place) = &mut place {
            request = request.map(|body| place.receive(body));
        }
        let deadline = call.deadline;
        request.extensions_mut().insert(call);
        // The role's future is dropped when the deadline passes or the caller goes: work stops.
        let outcome = deadline.limit(self.routes.oneshot(request).instrument(span)).await;
        let mut response = match outcome {
            Some(Ok(response)) => response.map(Body::new),
            Some(Err(never)) => match never {},
            None => deadline::exceeded().into_http(),
        };
        response.extensions_mut().insert(deadline);
        match telemetry::code_of(&response) {
            Some(code) => {
                recorder.end(code);
                if let Some(place) = place {
                    place.end(code);
                }
                response
            }
            None => response.map(|body| {
                let body = Held::new(DeadlineBody::new(body, deadline), place);
                Body::new(Recorded::new(body, recorder))
            }),
        }
    }

    /// Whether a request may go on for long, since its caller does not say for how long.
    fn goes_on(&self, request: &Request<Body>) -> bool {
        !request.headers().contains_key(deadline::HEADER) && self.long_lived.contains(request.uri().path())
    }

    async fn admit(&self, call: &Call, uri: &Uri, headers: &HeaderMap) -> Result<Option<Place>, Status> {
        let Some(overload) = &self.overload else { return Ok(None) };
        let model = headers.get(call::MODEL).and_then(|name| name.to_str().ok());
        match self.long_lived.get(uri.path()) {
            Some(method) => overload.admit_long(call, method, model).await,
            None => overload.admit(call, uri.path(), model).await,
        }
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

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {key} = {address}{}", hint(source))]
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

#[cfg(test)]
mod tests;
