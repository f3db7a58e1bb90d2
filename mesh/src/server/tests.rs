//! How long a call may take whose caller does not say.

use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::health::Health;

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const STREAM: &str = "/switchboard.test.v1.Test/Stream";
const OTHER: &str = "/switchboard.test.v1.Test/Other";

/// Streams that send one message and never end.
fn streams() -> axum::Router {
    let stream = || async {
        let first = futures::stream::iter([Ok::<_, Status>(bytes::Bytes::from_static(b"\0\0\0\0\0"))]);
        let frames = first.chain(futures::stream::pending()).map(|data| data.map(http_body::Frame::data));
        Response::new(Body::new(StreamBody::new(frames)))
    };
    axum::Router::new().route(STREAM, axum::routing::any(stream)).route(OTHER, axum::routing::any(stream))
}

/// How long a stream goes on until it is ended for its deadline.
async fn lasts(stack: Stack, method: &str, timeout: Option<&str>) -> Duration {
    let mut request = Request::post(format!("http://mesh{method}"))
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(bytes::Bytes::from_static(b"\0\0\0\0\0"))))
        .unwrap();
    if let Some(timeout) = timeout {
        request.headers_mut().insert(deadline::HEADER, timeout.parse().unwrap());
    }
    let began = Instant::now();
    let mut body = stack.oneshot(request).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    // Nothing happens until then, so the paused clock goes there at once.
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.trailers_ref().and_then(telemetry::code_in), Some(Code::DeadlineExceeded));
    began.elapsed()
}

fn about(expected: Duration, found: Duration) {
    assert!(found >= expected && found < expected + Duration::from_secs(1), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_declared_goes_on_for_long_where_its_caller_says_nothing() {
    let stack = Stack::from_router(streams()).long_lived([STREAM]);
    about(deadline::LONGEST, lasts(stack.clone(), STREAM, None).await);
    about(deadline::DEFAULT, lasts(stack.clone(), OTHER, None).await);
    about(Duration::from_secs(5), lasts(stack, STREAM, Some("5S")).await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_health_goes_on_on_every_node() {
    let health = Health::default();
    let stack = Stack::new(Routes::new(health.service()));
    about(deadline::LONGEST, lasts(stack, WATCH, None).await);
}
