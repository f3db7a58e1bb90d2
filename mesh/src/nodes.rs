//! The nodes of a role at fixed addresses: which one takes the next call, and who stands in for it.
//!
//! Calls go to the nodes in turn. A node that a connection failed to is left out for a while and then
//! tried with a connection alone, so that no call is spent on it; when none is left, calls go to all of
//! them. A request that any node may answer ([`Call::request_to_any`](crate::Call::request_to_any))
//! goes on to the next one where a node is away, is full, or lacks what is asked for.
//!
//! Not done here: nodes that come and go by name, load, and which node has which model. A model that
//! few of many nodes have is looked for anew with each call.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, request::Parts};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tonic::{
    Code, Status, TimeoutExpired,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::ServiceExt as _;

use crate::{Call, deadline, error, telemetry};

/// How long a node is left out after a connection to it failed; twice as long each further time, up
/// to eight times.
const LEFT_OUT: Duration = Duration::from_secs(1);
/// How long a call waits for the connection to a node that was left out, before it goes to another.
const PROBE: Duration = Duration::from_millis(250);

/// The mark of a request that any node may answer.
#[derive(Clone, Copy)]
pub(crate) struct AnyNode;

/// The nodes of one role.
pub(crate) struct Nodes {
    role: String,
    nodes: Vec<Node>,
    next: AtomicUsize,
}

struct Node {
    endpoint: Endpoint,
    state: Mutex<State>,
}

enum State {
    /// Connected, as far as is known; a lost connection is made again by the next call.
    Up(Channel),
    /// To be tried again at `at`.
    Down { at: Instant, failures: u32 },
}

/// What is kept of nodes that did not answer.
enum Refusal {
    /// The node is full.
    Full,
    /// The node is away.
    Away,
    /// The node lacks what is asked for: a model, or the method.
    Lacks,
}

impl Nodes {
    pub(crate) fn new(role: &str, addresses: Vec<Uri>) -> Self {
        let alone = addresses.len() == 1;
        let node = |uri: Uri| {
            let endpoint = Endpoint::from(uri)
                .connect_timeout(Duration::from_secs(2))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(5));
            // With nobody to stand in, the first call may as well find out.
            let state = match alone {
                true => State::Up(endpoint.connect_lazy()),
                false => State::Down { at: Instant::now(), failures: 0 },
            };
            Node { endpoint, state: Mutex::new(state) }
        };
        Self {
            role: role.to_owned(),
            nodes: addresses.into_iter().map(node).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Sends a request to the next node; one that any may answer, to one after the other until one
    /// does.
    ///
    /// # Errors
    /// UNAVAILABLE when no connection can be had, or the one in use breaks.
    pub(crate) async fn send(&self, request: Request<Body>, call: &Call) -> Result<Response<Body>, Status> {
        if self.nodes.len() == 1 || request.extensions().get::<AnyNode>().is_none() {
            let (index, channel) = self.pick(&[]).await.ok_or_else(|| self.nowhere())?;
            return self.exchange(index, channel, request).await;
        }
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut tried = Vec::with_capacity(self.nodes.len());
        let mut kept: Option<(Refusal, Result<Response<Body>, Status>)> = None;
        while let Some((index, channel)) = self.pick(&tried).await {
            tried.push(index);
            // Time has passed since the one before.
            call.write(&mut parts.headers);
            let outcome = self.exchange(index, channel, copy(&parts, &body)).await;
            let Some(refusal) = refusal(&outcome) else { return outcome };
            tracing::debug!(role = self.role, index, "a node did not take the call");
            let tells_more = |(before, _): &(Refusal, _)| refusal.weight() > before.weight();
            if kept.as_ref().is_none_or(tells_more) {
                kept = Some((refusal, outcome));
            }
        }
        kept.map_or_else(|| Err(self.nowhere()), |(_, outcome)| outcome)
    }

    /// The next node that is up, besides those tried; the next one of all, if none is.
    async fn pick(&self, tried: &[usize]) -> Option<(usize, Channel)> {
        let count = self.nodes.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let left: Vec<usize> = (0..count)
            .map(|offset| first.wrapping_add(offset) % count)
            .filter(|index| !tried.contains(index))
            .collect();
        for &index in &left {
            if let Some(channel) = self.nodes[index].connected().await {
                return Some((index, channel));
            }
        }
        left.first().map(|&index| (index, self.nodes[index].endpoint.connect_lazy()))
    }

    /// Carries a request to one node, and notes how that went.
    async fn exchange(
        &self,
        index: usize,
        channel: Channel,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let node = &self.nodes[index];
        match channel.clone().oneshot(request).await {
            Ok(response) => {
                node.up(channel);
                Ok(response)
            }
            // The transport's own timer; it says nothing about the node.
            Err(error) if is_timeout(&error) => Err(deadline::exceeded()),
            Err(error) => {
                if self.nodes.len() > 1 {
                    node.down();
                }
                let status = Status::from_error(Box::new(error));
                Err(match status.code() {
                    // A connection that breaks under a call is reported as a call that was cancelled.
                    Code::Unknown | Code::Internal | Code::Cancelled => error::of_kind(
                        error::Kind::Unavailable,
                        format!("{} cannot be reached: {}", self.role, status.message()),
                    ),
                    _ => status,
                })
            }
        }
    }

    fn nowhere(&self) -> Status {
        error::of_kind(error::Kind::Unavailable, format!("{} has no address", self.role))
    }
}

impl Node {
    /// A channel to this node if it is up; it is tried if it is time to.
    async fn connected(&self) -> Option<Channel> {
        {
            let mut state = self.state();
            match &mut *state {
                State::Up(channel) => return Some(channel.clone()),
                State::Down { at, .. } if Instant::now() < *at => return None,
                // The others do not wait for this.
                State::Down { at, .. } => *at = Instant::now() + LEFT_OUT,
            }
        }
        if let Ok(Ok(channel)) = tokio::time::timeout(PROBE, self.endpoint.connect()).await {
            self.up(channel.clone());
            return Some(channel);
        }
        self.down();
        None
    }

    fn up(&self, channel: Channel) {
        let mut state = self.state();
        if let State::Down { failures, .. } = *state {
            if failures > 0 {
                tracing::info!(node = %self.endpoint.uri(), failures, "a node can be reached again");
            }
            *state = State::Up(channel);
        }
    }

    fn down(&self) {
        let mut state = self.state();
        let failures = match &*state {
            State::Up(_) => 0,
            State::Down { failures, .. } => *failures,
        };
        if failures == 0 {
            tracing::warn!(node = %self.endpoint.uri(), "a node cannot be reached; the others take its calls");
        }
        let at = Instant::now() + LEFT_OUT * 2_u32.pow(failures.min(3));
        *state = State::Down { at, failures: failures.saturating_add(1) };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    chain.any(|error| error.is::<TimeoutExpired>())
}

fn copy(parts: &Parts, body: &Bytes) -> Request<Body> {
    Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())))
}

/// Why another node should be asked; none when this one has answered.
fn refusal(outcome: &Result<Response<Body>, Status>) -> Option<Refusal> {
    let code = match outcome {
        // A node that refuses says so at once; what comes later is an answer.
        Ok(response) => telemetry::code_of(response)?,
        Err(status) => status.code(),
    };
    match code {
        Code::ResourceExhausted => Some(Refusal::Full),
        Code::Unavailable => Some(Refusal::Away),
        Code::NotFound | Code::FailedPrecondition | Code::Unimplemented => Some(Refusal::Lacks),
        _ => None,
    }
}

impl Refusal {
    /// Of several, the caller hears the one with which trying again makes the most sense.
    fn weight(&self) -> u8 {
        match self {
            Self::Full => 2,
            Self::Away => 1,
            Self::Lacks => 0,
        }
    }
}

#[cfg(test)]
mod tests;
