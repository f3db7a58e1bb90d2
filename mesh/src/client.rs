//! The client stack: what every call to another role goes through, whatever carries it.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use tonic::{Status, body::Body};
use tower::Service;
use tracing::Instrument as _;

use tokio::sync::watch;

use crate::{
    Call,
    balance::{Balancer, Carried, Flight, Options, Snapshot},
    call,
    deadline::{self, DeadlineBody},
    discovery::{Discovery as _, Fixed, Members},
    identity::Identity,
    local::Slot,
    telemetry::{self, Recorded, Recorder, Side},
};

/// A way to reach a role; give it to a generated client.
///
/// Cheap to clone. Each call carries the [`Call`] in its request's extensions to the wire, is
/// raced against its deadline to the end of the response stream, and is traced and counted.
/// Dropping the response cancels the work on the other side.
#[derive(Clone)]
pub struct Channel {
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Local(Slot),
    Tcp(Arc<Balancer>),
}

impl Channel {
    pub(crate) fn local(slot: Slot) -> Self {
        Self { transport: Transport::Local(slot) }
    }

    /// A channel to `uri` over TCP, connected at its first use and again when the connection is
    /// lost.
    #[must_use]
    pub fn tcp(role: &str, uri: Uri) -> Self {
        Self::over(role, vec![uri])
    }

    /// A channel to several nodes over TCP, at fixed addresses. Without an address, calls are
    /// UNAVAILABLE.
    #[must_use]
    pub fn over(role: &str, nodes: Vec<Uri>) -> Self {
        Self::secured(role, nodes, &Identity::plain())
    }

    /// The same, of the node that `identity` says: only to nodes that it believes.
    #[must_use]
    pub fn secured(role: &str, nodes: Vec<Uri>, identity: &Identity) -> Self {
        let members = Fixed::new(BTreeMap::from([(role.to_owned(), nodes)])).watch(role);
        Self::discovered(role, members, Options { connect: identity.connector(), ..Options::default() })
    }

    /// A channel to the nodes that `members` tells of, over TCP. Calls go to where they will be done
    /// soonest; nodes that fail are left out meanwhile. While there are none, calls are UNAVAILABLE.
    #[must_use]
    pub fn discovered(role: &str, members: watch::Receiver<Arc<Members>>, options: Options) -> Self {
        Self { transport: Transport::Tcp(Arc::new(Balancer::new(role, members, options))) }
    }

    /// Whether the role is in this process, where nobody but the caller can try a call again.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.transport, Transport::Local(_))
    }

    /// What is known of the role's nodes; none for a role in this process.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        match &self.transport {
            Transport::Local(_) => None,
            Transport::Tcp(balancer) => Some(balancer.snapshot()),
        }
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
        let method = telemetry::Method::of(request.uri());
        let span = telemetry::client_span(&method);
        let mut recorder = Recorder::new(Side::Client, method, span.clone());
        match call::model(request.extensions()) {
            Some(model) => request.headers_mut().insert(call::MODEL, model),
            // Nobody else says what is needed.
            None => request.headers_mut().remove(call::MODEL),
        };
        telemetry::inject(&span, request.headers_mut());
        let outcome = call.deadline.limit(self.send(request, &call).instrument(span)).await;
        let (mut response, flight) = match outcome.unwrap_or_else(|| Err(deadline::exceeded())) {
            Ok(carried) => carried,
            Err(status) => {
                recorder.end(status.code());
                return status.into_http();
            }
        };
        // Whoever passes the response on can tell when it is overdue.
        response.extensions_mut().insert(call.deadline);
        // A response that already carries its status has no stream to watch.
        match telemetry::code_of(&response) {
            Some(code) => {
                recorder.end(code);
                response
            }
            None => response.map(|body| {
                let body = Carried::new(DeadlineBody::new(body, call.deadline), flight);
                Body::new(Recorded::new(body, recorder))
            }),
        }
    }

    async fn send(
        self,
        mut request: Request<Body>,
        call: &Call,
    ) -> Result<(Response<Body>, Option<Flight>), Status> {
        match self.transport {
            Transport::Local(slot) => {
                call.write(request.headers_mut());
                Ok((slot.call(request).await?, None))
            }
            // It writes the call itself, each time that it sends it.
            Transport::Tcp(balancer) => balancer.send(request, call).await,
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

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use tonic::{Code, service::Routes, transport::Endpoint};
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Context as Mesh, Deadline, Mounted, Tenant, health::Health, testing};

    /// Long enough that a first message gets through, short enough to wait for.
    const SHORT: Duration = Duration::from_millis(150);

    fn watch() -> HealthCheckRequest {
        HealthCheckRequest { service: String::new() }
    }

    fn short_call() -> Call {
        Call::new(Tenant::try_new("acme").unwrap(), Deadline::after(SHORT))
    }

    fn health() -> Mounted {
        let routes = Routes::new(Health::default().service());
        Mounted { role: "health", routes, services: vec![], long_lived: vec![] }
    }

    async fn assert_stream_is_cut(mut client: HealthClient<Channel>) {
        let mut states = client.watch(short_call().request(watch())).await.unwrap().into_inner();
        let first = states.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::NotServing);
        let began = std::time::Instant::now();
        let status = states.message().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(began.elapsed() < SHORT * 4, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_stream_past_its_deadline_is_cut_in_process() {
        assert_stream_is_cut(HealthClient::new(testing::serve(&health()))).await;
    }

    #[tokio::test]
    async fn a_stream_past_its_deadline_is_cut_over_tcp() {
        let (uri, _guard) = testing::listen(&health()).await;
        assert_stream_is_cut(HealthClient::new(Channel::tcp("health", uri))).await;
    }

    #[tokio::test]
    async fn the_server_cuts_a_stream_for_a_client_of_another_make() {
        let (uri, _guard) = testing::listen(&health()).await;
        let channel = Endpoint::from(uri).connect().await.unwrap();
        let mut request = tonic::Request::new(watch());
        request.metadata_mut().insert(deadline::HEADER, "150m".parse().unwrap());
        let mut states = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
        assert!(states.message().await.unwrap().is_some());
        assert_eq!(states.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    }

    /// A role whose one method hangs, and tells when it begins and when it is dropped.
    fn hanging(began: Arc<tokio::sync::Notify>, dropped: Arc<AtomicBool>) -> Mounted {
        struct Guard(Arc<AtomicBool>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let hang = move || {
            let (began, guard) = (Arc::clone(&began), Guard(Arc::clone(&dropped)));
            async move {
                began.notify_one();
                let _guard = guard;
                std::future::pending::<()>().await;
            }
        };
        let router = axum::Router::new().route("/switchboard.test.v1.Test/Hang", axum::routing::any(hang));
        Mounted { role: "test", routes: router.into(), services: vec![], long_lived: vec![] }
    }

    fn hang_request(call: &Call) -> Request<Body> {
        let mut request =
            Request::post("http://mesh/switchboard.test.v1.Test/Hang").body(Body::empty()).unwrap();
        request.extensions_mut().insert(call.clone());
        request
    }

    #[tokio::test]
    async fn a_caller_who_goes_stops_the_work() {
        let (began, dropped) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
        let channel = testing::serve(&hanging(Arc::clone(&began), Arc::clone(&dropped)));
        let call = tokio::spawn(channel.oneshot(hang_request(&testing::call("acme"))));
        began.notified().await;
        call.abort();
        let _ = call.await;
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_dropped_at_the_deadline() {
        let (began, dropped) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
        let channel = testing::serve(&hanging(began, Arc::clone(&dropped)));
        let response = channel.oneshot(hang_request(&short_call())).await.unwrap();
        assert_eq!(telemetry::code_of(&response), Some(Code::DeadlineExceeded));
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn an_expired_deadline_is_not_forwarded() {
        let (began, dropped) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
        let channel = testing::serve(&hanging(began, Arc::clone(&dropped)));
        let call = testing::call("acme").until(Deadline::after(Duration::ZERO));
        let response = channel.oneshot(hang_request(&call)).await.unwrap();
        assert_eq!(telemetry::code_of(&response), Some(Code::DeadlineExceeded));
        assert!(!dropped.load(Ordering::SeqCst), "the handler must not have run");
    }

    #[tokio::test]
    async fn a_role_that_is_not_there_is_unavailable() {
        let mesh = Mesh::new(std::env::temp_dir(), std::collections::BTreeMap::new());
        let status = HealthClient::new(mesh.channel("nobody"))
            .check(testing::call("acme").request(watch()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        // Nobody listens on the discard port of loopback.
        let channel = Channel::tcp("far", Uri::from_static("http://127.0.0.1:9"));
        let status =
            HealthClient::new(channel).check(testing::call("acme").request(watch())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
}
