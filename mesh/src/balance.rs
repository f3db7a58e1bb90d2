//! The nodes of a role: which one takes the next call, and who stands in when it does not.
//!
//! A `Balancer` follows the role's [`Members`] as they come and go. A call
//! goes to the better of two nodes by what it would take there (`pick`, `load`), in the caller's zone
//! while that has enough. Nodes that fail are out for a while and probed before they are back
//! (`health`); when a whole role is down its callers are told at once (`breaker`).
//!
//! A request that any node may answer ([`Call::request_to_any`](crate::Call::request_to_any)) goes on to
//! the next one where a node is away, is full, or lacks what is asked for, within a budget (`asking`),
//! and to a second one at the same time where the first is slow and the request is marked for it
//! (`hedge`). What may change something is sent again only if no byte of it left.
//!
//! Nothing runs in the background but probes, which end by themselves within seconds: members are
//! followed and intervals end when the next call comes.

mod asking;
mod breaker;
mod budget;
mod config;
mod connect;
mod endpoint;
mod flight;
mod health;
mod hedge;
mod lent;
mod load;
mod marks;
mod members;
mod metrics;
mod outcome;
mod percentile;
mod pick;
mod random;
mod snapshot;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use config::Config;
pub use connect::{Connect, ConnectError, Connecting, Plain, endpoint};
pub(crate) use flight::{Carried, Flight};
pub(crate) use marks::{AnyNode, Hedged, Model};
pub(crate) use random::Random;
pub use snapshot::{NodeSnapshot, NodeState, Snapshot};
use tokio::{sync::watch, time::Instant};

use self::{
    breaker::Breaker,
    budget::{Hedges, Retries},
    endpoint::{Endpoint, Node},
    health::Reason,
    members::{Has, Set},
    metrics::Metrics,
    percentile::Latencies,
    pick::{Candidate, Standing, choose, price},
};
use crate::discovery::Members;

/// What a call is taken to last while no node of the role has answered any.
const UNKNOWN: Duration = Duration::from_secs(1);

/// What a channel to discovered nodes is made with.
pub struct Options {
    /// How calls are spread.
    pub config: Config,
    /// Makes connections.
    pub connect: Arc<dyn Connect>,
    /// Fixes the random choices, for simulations; random where none is given.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { config: Config::default(), connect: Arc::new(Plain), seed: None }
    }
}

/// The nodes of one role, and what is known of them.
pub(crate) struct Balancer {
    role: Arc<str>,
    config: Config,
    connect: Arc<dyn Connect>,
    members: watch::Receiver<Arc<Members>>,
    set: RwLock<Arc<Set>>,
    breaker: Breaker,
    retries: Retries,
    hedges: Hedges,
    latencies: Latencies,
    metrics: Arc<Metrics>,
    random: Random,
    born: Instant,
    /// When the interval under way ends, in milliseconds since `born`.
    interval_ends: AtomicU64,
}

impl Balancer {
    pub(crate) fn new(role: &str, members: watch::Receiver<Arc<Members>>, options: Options) -> Self {
        let Options { config, connect, seed } = options;
        let (role, born) = (Arc::<str>::from(role), Instant::now());
        let metrics = Arc::new(Metrics::new(&role));
        let told = members.borrow().clone();
        let (named, counted) = (Arc::clone(&role), Arc::clone(&metrics));
        let breaker = Breaker::new(config.failures, move |circuit| {
            tracing::info!(role = %named, state = circuit.as_str(), "the breaker of a role changed");
            counted.breaker(circuit);
        });
        Self {
            set: RwLock::new(Arc::new(Set::new(told, &[], &role, born))),
            breaker,
            retries: Retries::new(config.retries),
            hedges: Hedges::new(config.hedges),
            latencies: Latencies::default(),
            metrics,
            random: Random::new(seed),
            born,
            interval_ends: AtomicU64::new(millis(config.interval)),
            role,
            config,
            connect,
            members,
        }
    }

    /// What is known of the nodes now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (set, now) = (self.current(), Instant::now());
        let node = |node: &Node| {
            let state = node.endpoint.state();
            let reason = state.health.out();
            let slow = state.health.share(now, &self.config) < 1.0;
            let latency = state.loads.of(None).latency(now, self.config.decay);
            NodeSnapshot {
                id: node.member.id.clone(),
                uri: node.member.uri.to_string(),
                zone: node.member.about.zone.clone(),
                in_flight: state.loads.in_flight(),
                latency: latency.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                state: match (reason, slow) {
                    (Some(_), _) => NodeState::Out,
                    (None, true) => NodeState::SlowStart,
                    (None, false) => NodeState::Up,
                },
                reason: reason.map(Reason::as_str),
            }
        };
        Snapshot {
            role: self.role.to_string(),
            source: set.members.source,
            as_of: set.members.as_of,
            breaker: self.breaker.circuit().as_str(),
            nodes: set.nodes.iter().map(node).collect(),
        }
    }

    /// The nodes by what discovery tells now.
    fn current(&self) -> Arc<Set> {
        let told = self.members.borrow();
        {
            let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&set.members, &told) {
                return Arc::clone(&set);
            }
        }
        let told = Arc::clone(&told);
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&set.members, &told) {
            let next = Set::new(told, &set.nodes, &self.role, Instant::now());
            let stays =
                |node: &Node| next.nodes.iter().any(|next| Arc::ptr_eq(&next.endpoint, &node.endpoint));
            let new = next.nodes.len() != set.nodes.iter().filter(|node| stays(node)).count();
            *set = Arc::new(next);
            if new {
                // Of a node that was not there nothing bad is known.
                self.breaker.succeeded();
            }
        }
        Arc::clone(&set)
    }

    /// Whether every node is out.
    fn none_is_up(&self) -> bool {
        self.current().nodes.iter().all(|node| node.endpoint.state().health.out().is_some())
    }

    /// The next node besides those tried; of those that have the model, if any node tells that it does.
    fn pick(self: &Arc<Self>, set: &Set, model: Option<&str>, tried: &[usize]) -> Option<usize> {
        if set.nodes.len() == 1 {
            return tried.is_empty().then_some(0);
        }
        let now = Instant::now();
        self.end_interval(set, now);
        let mut candidates = Vec::with_capacity(set.nodes.len());
        let mut best = Has::No;
        let mut zoned = false;
        for (index, node) in set.nodes.iter().enumerate() {
            let has = model.map_or(Has::Unknown, |model| set.has(index, model, now));
            // Whoever tells that it has a model is believed, so that the others are not asked.
            if has == Has::Yes || !tried.contains(&index) {
                if has > best {
                    candidates.clear();
                    (best, zoned) = (has, false);
                }
                if has == best && !tried.contains(&index) {
                    let near = !self.config.zone.is_empty() && node.member.about.zone == self.config.zone;
                    zoned |= near;
                    candidates.push(self.candidate(index, node, model, near, now));
                }
            }
        }
        price(&mut candidates, UNKNOWN.as_secs_f64());
        let (index, why) = choose(&candidates, zoned, &mut || self.random.next())?;
        self.metrics.picked(why);
        Some(index)
    }

    fn candidate(
        self: &Arc<Self>,
        index: usize,
        node: &Node,
        model: Option<&str>,
        near: bool,
        now: Instant,
    ) -> Candidate {
        let mut state = node.endpoint.state();
        let work = state.loads.work(model, node.hint(model), now, &self.config);
        let load = state.loads.of(model);
        let standing = match state.health.out() {
            None => Standing::Up,
            Some(Reason::Connection) => Standing::Away,
            Some(Reason::Failures | Reason::Rate) => Standing::Ejected,
        };
        let candidate = Candidate {
            index,
            cost: work.seconds,
            unknown: work.unknown,
            latency: load.latency(now, self.config.decay),
            typical: load.typical(),
            share: state.health.share(now, &self.config),
            near,
            busy: state.loads.busy(model, now),
            standing,
        };
        let probe = state.health.probe(now);
        drop(state);
        if probe {
            self.probe(Arc::clone(&node.endpoint));
        }
        candidate
    }

    /// Compares the nodes' rates of success once an interval, and takes out the one that does worst.
    fn end_interval(&self, set: &Set, now: Instant) {
        let passed = millis(now.saturating_duration_since(self.born));
        let ends = self.interval_ends.load(Ordering::Relaxed);
        let next = passed + millis(self.config.interval);
        let claim =
            |ends| self.interval_ends.compare_exchange(ends, next, Ordering::Relaxed, Ordering::Relaxed);
        if passed < ends || claim(ends).is_err() {
            return;
        }
        let windows: Vec<_> = set.nodes.iter().map(|node| node.endpoint.state().health.turn()).collect();
        let out = set.nodes.iter().filter(|node| node.endpoint.state().health.out().is_some()).count();
        // With half of the nodes out, what is left is needed.
        if (out + 1) * 2 > set.nodes.len() {
            return;
        }
        if let Some(worst) = health::outlier(&windows) {
            let endpoint = &set.nodes[worst].endpoint;
            let mut state = endpoint.state();
            if state.health.out().is_none() {
                state.health.eject(Reason::Rate, now, &self.config);
                drop(state);
                self.is_out(endpoint, Reason::Rate);
            }
        }
    }

    /// Looks whether a node that is out answers again, besides all calls.
    fn probe(self: &Arc<Self>, endpoint: Arc<Endpoint>) {
        let balancer = Arc::downgrade(self);
        let (connect, role) = (Arc::clone(&self.connect), Arc::clone(&self.role));
        tokio::spawn(async move {
            let well = endpoint.probe(connect.as_ref(), &role).await;
            let Some(balancer) = balancer.upgrade() else { return };
            let now = Instant::now();
            if well {
                endpoint.state().health.back(now);
                balancer.is_back(&endpoint);
            } else {
                endpoint.state().health.still_out(now, &balancer.config);
            }
        });
    }

    /// A connection to a node could not be made.
    fn unreachable(&self, endpoint: &Endpoint) {
        endpoint.disconnect();
        if endpoint.state().health.unreachable(Instant::now(), &self.config) {
            self.is_out(endpoint, Reason::Connection);
        }
    }

    fn is_out(&self, endpoint: &Endpoint, reason: Reason) {
        self.metrics.ejected(reason);
        let reason = reason.as_str();
        tracing::warn!(role = %self.role, node = %endpoint.uri, reason, "a node is out");
    }

    fn is_back(&self, endpoint: &Endpoint) {
        self.breaker.succeeded();
        tracing::info!(role = %self.role, node = %endpoint.uri, "a node is back");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests;
