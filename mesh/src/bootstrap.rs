//! From mounted roles to a running node, and back down again.

mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Uri;
pub use node::{Node, NodeConfig, NodeError};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    balance::{self, Options},
    client::Channel,
    discovery::{AboutModel, Discovery, Fixed, Source},
    health::Health,
    identity::Identity,
    local::Slot,
    overload::Overload,
    server::Stack,
};

/// What a role is given to start with: its peers, a place for its data, and a sign to stop.
#[derive(Clone)]
pub struct Context {
    peers: Arc<Mutex<BTreeMap<String, Peer>>>,
    wiring: Arc<Wiring>,
    /// The models that this node has loaded, by name: others learn of them where there is a registry.
    pub models: watch::Sender<Models>,
    /// Where state that must survive is kept.
    pub data: PathBuf,
    /// Cancelled when the node drains.
    pub stop: CancellationToken,
    /// Holds every background task; the drain waits for them.
    pub tasks: TaskTracker,
    /// What is serving on this node.
    pub health: Health,
    /// Who this process is to other nodes.
    pub identity: Identity,
    /// How much this process takes at once, over all of its doors.
    pub overload: Overload,
}

/// Models by name, as a node tells of them.
pub type Models = BTreeMap<String, AboutModel>;

/// How a process reaches the roles of others, and how others reach its own.
pub struct Wiring {
    /// Tells of the nodes of roles that are elsewhere.
    pub discovery: Arc<dyn Discovery>,
    /// Which roles are.
    pub elsewhere: Elsewhere,
    /// How calls are spread over the nodes of a role.
    pub balance: balance::Config,
    /// Who this process is to other nodes, and whom it believes.
    pub identity: Identity,
    /// Bounds what others may ask of this process at once.
    pub overload: Overload,
    /// The life of the process, which the parts above may be bound to.
    pub life: Life,
}

/// The life of a process.
#[derive(Clone, Default)]
pub struct Life {
    /// Cancelled when it drains.
    pub stop: CancellationToken,
    /// Holds every background task; the drain waits for them.
    pub tasks: TaskTracker,
}

/// The roles that are called over the network.
pub enum Elsewhere {
    /// These; every other one is expected in this process.
    These(BTreeSet<String>),
    /// Every one but these.
    AllBut(BTreeSet<String>),
}

impl Elsewhere {
    fn has(&self, role: &str) -> bool {
        match self {
            Self::These(roles) => roles.contains(role),
            Self::AllBut(roles) => !roles.contains(role),
        }
    }
}

impl Wiring {
    /// Roles at fixed addresses, each at one or several. Every other role is expected in this process.
    #[must_use]
    pub fn fixed(roles: BTreeMap<String, Vec<Uri>>) -> Self {
        Self {
            elsewhere: Elsewhere::These(roles.keys().cloned().collect()),
            discovery: Arc::new(Fixed::new(roles)),
            balance: balance::Config::default(),
            identity: Identity::plain(),
            overload: Overload::default(),
            life: Life::default(),
        }
    }
}

#[derive(Clone)]
enum Peer {
    Local(Slot),
    Remote(Channel),
}

/// What a role hands back when it is ready to serve.
#[derive(Clone)]
pub struct Mounted {
    /// The role.
    pub role: &'static str,
    /// Its gRPC routes.
    pub routes: Routes,
    /// Full names of its gRPC services, for health.
    pub services: Vec<&'static str>,
    /// Paths of the methods, `/package.Service/Method`, that go on for as long as their caller likes.
    pub long_lived: Vec<&'static str>,
}

/// A role that could not start, with its reason.
#[derive(Debug, thiserror::Error)]
#[error("{role} cannot start")]
pub struct StartError {
    /// The role.
    pub role: &'static str,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StartError {
    /// Names the role that could not start.
    pub fn new(role: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { role, source: source.into() }
    }
}

impl Context {
    /// A context over `data`, with `remote` roles at fixed addresses, each at one or several. Every
    /// other role is expected in this process. Other nodes are talked to in plain text.
    #[must_use]
    pub fn new(data: PathBuf, remote: BTreeMap<String, Vec<Uri>>) -> Self {
        Self::wired(data, Wiring::fixed(remote))
    }

    /// A context over `data` that reaches others by `wiring`.
    #[must_use]
    pub fn wired(data: PathBuf, wiring: Wiring) -> Self {
        let Life { stop, tasks } = wiring.life.clone();
        Self {
            peers: Arc::default(),
            identity: wiring.identity.clone(),
            overload: wiring.overload.clone(),
            wiring: Arc::new(wiring),
            models: watch::Sender::default(),
            data,
            stop,
            tasks,
            health: Health::default(),
        }
    }

    /// A channel to `role`: in process, or over TCP where it is elsewhere. May be taken before the role
    /// has started; calls made before then are UNAVAILABLE.
    #[must_use]
    pub fn channel(&self, role: &str) -> Channel {
        let mut peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match peers.entry(role.to_owned()).or_insert_with(|| self.peer(role)) {
            Peer::Local(slot) => Channel::local(slot.clone()),
            Peer::Remote(channel) => channel.clone(),
        }
    }

    fn peer(&self, role: &str) -> Peer {
        let Wiring { discovery, elsewhere, balance, identity, .. } = &*self.wiring;
        if !elsewhere.has(role) {
            return Peer::Local(Slot::default());
        }
        let options = Options { config: balance.clone(), connect: identity.connector(), seed: None };
        Peer::Remote(Channel::discovered(role, discovery.watch(role), options))
    }

    /// Mounts a started role in this process and reports it as serving.
    pub fn mount(&self, mounted: &Mounted) {
        let stack = Stack::new(mounted.routes.clone());
        let mut peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match peers.entry(mounted.role.to_owned()).or_insert_with(|| self.peer(mounted.role)) {
            Peer::Local(slot) => slot.fill(stack),
            // Configured to be elsewhere: served to others from here, called there from here.
            Peer::Remote(_) => {}
        }
        for service in &mounted.services {
            self.health.set(service, true);
        }
    }

    /// Roles that something in this process calls and that are neither here nor elsewhere.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let nowhere = |peer: &Peer| match peer {
            Peer::Local(slot) => slot.is_empty(),
            // Of others, nodes may come.
            Peer::Remote(channel) => channel
                .snapshot()
                .is_some_and(|known| known.source == Source::Fixed && known.nodes.is_empty()),
        };
        peers.iter().filter(|(_, peer)| nowhere(peer)).map(|(role, _)| role.clone()).collect()
    }

    /// Every mounted role as one service, with health and reflection over `descriptors` (an encoded
    /// `FileDescriptorSet`), behind the server stack.
    ///
    /// # Errors
    /// When `descriptors` cannot be decoded.
    pub fn node(
        &self,
        mounted: Vec<Mounted>,
        descriptors: &'static [u8],
    ) -> Result<Stack, tonic_reflection::server::Error> {
        let mut routes = axum::Router::new();
        let mut names = vec!["grpc.health.v1.Health"];
        let mut long_lived = Vec::new();
        for role in mounted {
            names.extend(&role.services);
            long_lived.extend(role.long_lived);
            routes = routes.merge(without_fallback(role.routes));
        }
        let routes = routes.merge(without_fallback(Routes::new(self.health.service())));
        let routes = routes.merge(without_fallback(reflection(descriptors, &names)?));
        Ok(Stack::from_router(routes).limited(self.overload.clone()).long_lived(long_lived))
    }

    /// Stops serving: health first, then everything that watches `stop`; waits for the background
    /// tasks for at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.health.stop();
        self.stop.cancel();
        self.tasks.close();
        // Listeners bound their own drain by the same limit; they shall have the last word.
        if tokio::time::timeout(limit + Duration::from_secs(1), self.tasks.wait()).await.is_err() {
            tracing::warn!(
                ?limit,
                left = self.tasks.len(),
                "background tasks were still running when the drain time was over"
            );
        }
    }
}

fn without_fallback(routes: Routes) -> axum::Router {
    routes.into_axum_router().reset_fallback()
}

/// The reflection service over `descriptors`, versions v1 and v1alpha, listing only `services`.
///
/// # Errors
/// When `descriptors` cannot be decoded.
pub fn reflection(
    descriptors: &'static [u8],
    services: &[&str],
) -> Result<Routes, tonic_reflection::server::Error> {
    let build = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for service in services {
            builder = builder.with_service_name(*service);
        }
        builder
    };
    Ok(Routes::new(build().build_v1()?).add_service(build().build_v1alpha()?))
}

/// SIGINT and SIGTERM, from the moment of [`Signals::listen`] on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen; the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for either, and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
