//! What a balancer knows at a moment, for people.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::discovery::Source;

/// The nodes of a role as their callers see them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The role.
    pub role: String,
    /// Where its members are known from.
    pub source: Source,
    /// When they were last known to be true.
    pub as_of: SystemTime,
    /// Whether calls fail at once: `closed` while they are sent, `half_open` while one is tried, `open`
    /// while none is.
    pub breaker: &'static str,
    /// The nodes, in order of id.
    pub nodes: Vec<NodeSnapshot>,
}

/// A node as its callers see it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeSnapshot {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub uri: String,
    /// Its zone; empty where none is told.
    pub zone: String,
    /// Calls under way from this process, streams that have not ended included.
    pub in_flight: u32,
    /// The estimate of its latency, of calls that name no model; `None` before the first answer and after a
    /// long while.
    pub latency: Option<Duration>,
    /// Whether it gets calls.
    pub state: NodeState,
    /// Why it is out: `connection`, `failures` or `rate`.
    pub reason: Option<&'static str>,
}

/// Whether a node gets calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its full share.
    Up,
    /// A share that grows, since it is new or back.
    SlowStart,
    /// None.
    Out,
}
