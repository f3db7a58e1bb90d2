//! The client stack: what every call to another role goes through, whatever carries it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use tonic::{
    Code, Status,
    body::Body,
    transport::{self, Endpoint},
};
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;

use crate::{
    Call,
    deadline::{self, DeadlineBody},
    local::Slot,
    telemetry,
};

/// A way to reach a role; give it to a generated client.
///
/// Cheap to clone. Each call carries the [`Call`] in its request's extensions to the wire, is
/// raced against its deadline to the end of the response stream, and is traced and counted.
/// Dropping the response cancels the work on the other side.
#[derive(Clone)]
pub struct Channel {
    role: Arc<str>,
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Local(Slot),
    Tcp(transport::Channel),
}

impl Channel {
    pub(crate) fn local(role: &str, slot: Slot) -> Self {
        Self { role: role.into(), transport: Transport::Local(slot) }
    }

    /// A channel to `uri` over TCP, connected at its first use and again when the connection is
    /// lost.
    #[must_use]
    pub fn tcp(role: &str, uri: Uri) -> Self {
        let endpoint = Endpoint::from(uri)
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5));
        Self { role: role.into(), transport: Transport::Tcp(endpoint.connect_lazy()) }
    }

    /// The role at the other end.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Carries one call. Errors come as a response with a gRPC status, never as a transport error.
    async fn exchange(self, mut request: Request<Body>) -> Response<Body> {
        let call = match request.extensions().get::<Call>() {
            Some(call) => Ok(call.clone()),
            None => Call::from_headers(request.headers()),
        };
        let call = match call {
            Ok(call) => call.until(call.deadline.for_hop()),
            Err(status) => return status.into_http(),
        };
        if call.deadline.expired() {
            return deadline::exceeded().into_http();
        }
        let started = tokio::time::Instant::now();
        let method = telemetry::Method::of(request.uri());
        let span = telemetry::client_span(&method);
        call.write(request.headers_mut());
        telemetry::inject(&span, request.headers_mut());
        let outcome = call.deadline.limit(self.send(request).instrument(span.clone())).await;
        let result = match outcome {
            Some(Ok(response)) => Ok(response),
            // The transport below has a timer of its own that says CANCELLED.
            Some(Err(status)) if status.code() == Code::Cancelled && call.deadline.expired() => {
                Err(deadline::exceeded())
            }
            Some(Err(status)) => Err(status),
            None => Err(deadline::exceeded()),
        };
        let code = match &result {
            Ok(response) => telemetry::code_of(response),
            Err(status) => Some(status.code()),
        };
        telemetry::record_client(&method, code.unwrap_or(Code::Ok), started.elapsed(), &span);
        match result {
            // A response that already carries its status has no stream to watch.
            Ok(response) if code.is_some() => response,
            Ok(response) => response.map(|body| Body::new(DeadlineBody::new(body, call.deadline))),
            Err(status) => status.into_http(),
        }
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        match self.transport {
            Transport::Local(slot) => slot.call(request).await,
            Transport::Tcp(channel) => channel.oneshot(request).await.map_err(|error| {
                let mut status = Status::from_error(Box::new(error));
                if matches!(status.code(), Code::Unknown | Code::Internal) {
                    status = crate::error::of_kind(
                        crate::error::Kind::Unavailable,
                        format!("{} cannot be reached: {}", self.role, status.message()),
                    );
                }
                status
            }),
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Readiness is decided per call: a channel never blocks its clones.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { Ok(channel.exchange(request).await) })
    }
}
