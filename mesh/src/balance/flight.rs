//! A call under way at a node, from the moment it is sent to the end of its response stream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body, transport::Channel};

use super::{Balancer, endpoint::Endpoint, health::Reason, outcome};
use crate::{Deadline, error, whole::Whole};

/// A node that has not answered for this long when the time is over counts as failing; earlier, it is the
/// caller who was in a hurry.
const SILENCE: Duration = Duration::from_millis(500);
/// How many times longer than by its estimate a node must have been silent as well.
const PATIENCE: f64 = 4.0;

/// Counts a call as under way until dropped, and takes what becomes of it into the node's account.
pub(crate) struct Flight {
    balancer: Arc<Balancer>,
    endpoint: Arc<Endpoint>,
    model: Option<Arc<str>>,
    began: Instant,
    deadline: Deadline,
    request: Whole,
    heard: bool,
    /// Keeps the connection of a node that is no member any more until its calls are done.
    link: Option<Channel>,
}

impl Flight {
    pub(super) fn begin(
        balancer: &Arc<Balancer>,
        endpoint: &Arc<Endpoint>,
        model: Option<&Arc<str>>,
        deadline: Deadline,
    ) -> Self {
        let began = Instant::now();
        let mut state = endpoint.state();
        let (load, apart) = state.loads.apart(model, began);
        load.in_flight += 1;
        drop(state);
        // What was begun under one name must end under it.
        let model = model.filter(|_| apart).cloned();
        let (balancer, endpoint) = (Arc::clone(balancer), Arc::clone(endpoint));
        Self { balancer, endpoint, model, began, deadline, request: Whole::Was, heard: false, link: None }
    }

    /// The call is sent now, with the body that is returned; what it waited for a connection is not its
    /// latency.
    pub(super) fn sent(&mut self, link: Channel, body: Body) -> Body {
        self.began = Instant::now();
        self.link = Some(link);
        let (request, body) = Whole::watch(body);
        self.request = request;
        body
    }

    /// The node answered with `code`.
    pub(super) fn answered(&mut self, code: Code) {
        if is_late(code) {
            // The time is over, whoever noticed first: no answer.
            return;
        }
        self.heard = true;
        if outcome::is_failure(code) {
            return self.failed(None);
        }
        let now = Instant::now();
        let took = now - self.began;
        let decay = self.balancer.config.decay;
        let mut state = self.endpoint.state();
        let (load, _) = state.loads.apart(self.model.as_ref(), now);
        // An error is fast, and says nothing of how long an answer takes.
        if code == Code::Ok {
            load.observe(took, now, decay);
        }
        if code == Code::Ok
            && let Some(model) = &self.model
        {
            state.loads.note_having(model);
        }
        state.heard = Some(now);
        let back = state.health.succeeded(now);
        drop(state);
        if back {
            self.balancer.is_back(&self.endpoint);
        }
    }

    /// The node lacks what was asked for.
    pub(super) fn lacks(&mut self, model: Option<&Arc<str>>) {
        self.heard = true;
        let now = Instant::now();
        let mut state = self.endpoint.state();
        if let Some(model) = model {
            state.loads.note_lacking(model, now);
        }
        state.heard = Some(now);
        state.health.succeeded(now);
    }

    /// The node is full, and says for how long.
    pub(super) fn full(&mut self, avoid: Option<Duration>) {
        self.heard = true;
        let (now, config) = (Instant::now(), &self.balancer.config);
        let mut state = self.endpoint.state();
        state.heard = Some(now);
        let (load, _) = state.loads.apart(self.model.as_ref(), now);
        load.penalise(config.penalty.max(avoid.unwrap_or_default()), now);
    }

    /// The node failed the call.
    pub(super) fn failed(&mut self, avoid: Option<Duration>) {
        self.endpoint.state().heard = Some(Instant::now());
        self.fails(avoid);
    }

    fn fails(&mut self, avoid: Option<Duration>) {
        self.heard = true;
        let (now, config) = (Instant::now(), &self.balancer.config);
        let mut state = self.endpoint.state();
        state.loads.shared().penalise(config.penalty.max(avoid.unwrap_or_default()), now);
        let out = state.health.failed(now, config);
        drop(state);
        if out {
            self.balancer.is_out(&self.endpoint, Reason::Failures);
        }
    }

    /// The connection broke under the call: the node crashed, froze, or is cut off. Whether it is back
    /// already, a probe tells.
    pub(super) fn broke(&mut self) {
        self.fails(None);
        let suspect = self.endpoint.state().health.suspect(Instant::now());
        if suspect {
            self.balancer.is_out(&self.endpoint, Reason::Connection);
        }
    }

    /// No connection can be had.
    pub(super) fn unreachable(&mut self) {
        self.heard = true;
        self.link = None;
        self.balancer.unreachable(&self.endpoint);
    }

    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// Nobody waits for the call any more, and the node said nothing. It is to blame only if the caller
    /// waited for as long as it had, and nobody else heard of the node meanwhile either.
    fn given_up(&mut self) {
        // What is still being sent cannot be answered yet.
        let Some(since) = self.request.since(self.began) else { return };
        let (now, config) = (Instant::now(), &self.balancer.config);
        let took = now - since;
        let mut state = self.endpoint.state();
        let (load, _) = state.loads.apart(self.model.as_ref(), now);
        // Not the estimate, which others who gave up have raised.
        let known = load.typical().unwrap_or(super::UNKNOWN.as_secs_f64());
        load.at_least(took, now, config.decay);
        let silent = self.deadline.expired()
            && state.heard.is_none_or(|at| at < since)
            && took >= SILENCE
            && took.as_secs_f64() >= known * PATIENCE;
        let out = silent && state.health.failed(now, config);
        drop(state);
        if out {
            self.balancer.is_out(&self.endpoint, Reason::Failures);
        }
        if silent {
            self.balancer.breaker.silent(self.began);
        }
    }
}

/// Whether a code says that the time was over, and nothing else.
pub(super) fn is_late(code: Code) -> bool {
    matches!(code, Code::DeadlineExceeded | Code::Cancelled)
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.heard {
            self.given_up();
        }
        let mut state = self.endpoint.state();
        let (load, _) = state.loads.apart(self.model.as_ref(), Instant::now());
        load.in_flight = load.in_flight.saturating_sub(1);
    }
}

pin_project! {
    /// A response body that ends its flight when it ends.
    pub(crate) struct Carried<B> {
        #[pin]
        inner: B,
        flight: Option<Flight>,
    }
}

impl<B> Carried<B> {
    /// `flight` is none where nothing is counted.
    pub(crate) fn new(inner: B, flight: Option<Flight>) -> Self {
        Self { inner, flight }
    }
}

impl<B: http_body::Body<Data = Bytes, Error = Status>> http_body::Body for Carried<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let mut frame = ready!(this.inner.poll_frame(cx));
        let ends = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().is_some(),
            Some(Err(_)) | None => true,
        };
        if ends && let Some(mut flight) = this.flight.take() {
            match &mut frame {
                Some(Err(status)) => {
                    flight.failed(None);
                    // What a node has to say comes in trailers; this is the connection.
                    *status = outcome::broken(status.code(), &error::chain(status), &flight.balancer.role);
                }
                Some(Ok(frame)) => {
                    let code = frame.trailers_ref().and_then(crate::telemetry::code_in);
                    if code.is_some_and(outcome::is_failure) {
                        flight.failed(None);
                    }
                }
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
