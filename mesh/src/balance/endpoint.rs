//! One node: its connection, its load and its health.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use tokio::time::Instant;
use tonic::{Code, body::Body, transport::Channel};
use tower::ServiceExt as _;

use super::{Connect, connect::ConnectError, health::Health, load::Loads};
use crate::{discovery::Member, telemetry};

/// How long a probe waits for an answer.
const PROBE: Duration = Duration::from_secs(1);
/// How long a connection may take, whatever makes it.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// What is kept of a node for as long as it is a member.
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) uri: Uri,
    started_at: u64,
    pub(super) state: Mutex<State>,
    link: Mutex<Option<Channel>>,
    /// Held by whoever connects, so that a crowd of callers makes one connection.
    connecting: tokio::sync::Mutex<()>,
}

pub(super) struct State {
    pub(super) loads: Loads,
    pub(super) health: Health,
    /// When it last answered a call, with whatever.
    pub(super) heard: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(member: &Member, now: Instant) -> Self {
        Self {
            id: member.id.clone(),
            uri: member.uri.clone(),
            started_at: member.about.started_at,
            state: Mutex::new(State { loads: Loads::default(), health: Health::new(now), heard: None }),
            link: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether this is the process that `member` tells of. One that started again is another: what was
    /// measured of the one before says nothing.
    pub(super) fn is(&self, member: &Member) -> bool {
        self.id == member.id && self.uri == member.uri && self.started_at == member.about.started_at
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, made if there is none yet, within `limit`.
    pub(super) async fn channel(
        &self,
        connect: &dyn Connect,
        role: &str,
        limit: Duration,
    ) -> Result<Channel, ConnectError> {
        if let Some(channel) = self.link().clone() {
            return Ok(channel);
        }
        let made = tokio::time::timeout(limit, async {
            let _one = self.connecting.lock().await;
            if let Some(channel) = self.link().clone() {
                return Ok(channel);
            }
            let channel = connect.connect(role, &self.uri).await?;
            *self.link() = Some(channel.clone());
            Ok(channel)
        });
        made.await.unwrap_or_else(|_| Err(format!("no connection within {limit:?}").into()))
    }

    /// Drops the connection; those who use it keep it.
    pub(super) fn disconnect(&self) {
        *self.link() = None;
    }

    /// Whether the node answers on a new connection. Frozen processes still accept connections, so that
    /// one alone says little; what is answered does not matter.
    pub(super) async fn probe(&self, connect: &dyn Connect, role: &str) -> bool {
        self.disconnect();
        let answered = tokio::time::timeout(PROBE, async {
            let channel = self.channel(connect, role, PROBE).await.ok()?;
            // An empty message: the health of the node as a whole.
            let message = Body::new(Full::new(Bytes::from_static(&[0; 5])));
            let request = Request::post("http://node/grpc.health.v1.Health/Check")
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .body(message)
                .ok()?;
            let response = channel.oneshot(request).await.ok()?;
            Some(telemetry::code_of(&response) != Some(Code::Unavailable))
        });
        let well = answered.await.ok().flatten().unwrap_or(false);
        if !well {
            self.disconnect();
        }
        well
    }

    fn link(&self) -> MutexGuard<'_, Option<Channel>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member and what is kept of it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) member: Arc<Member>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Node {
    /// Seconds that a call for `model` takes by the node's own word: its shortest measured batch.
    pub(super) fn hint(&self, model: Option<&str>) -> Option<f64> {
        let about = self.member.about.models.get(model?)?;
        let seconds = about.profile.iter().map(|(_, _, seconds)| *seconds);
        seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0).min_by(f64::total_cmp)
    }
}
