//! A running process: its roles in one mesh, from start to drain.
//!
//! A binary starts telemetry, makes a [`Context`], starts its roles with it and mounts them here; then
//! it opens its doors, says that it is ready, and serves until a signal.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use axum::{Json, Router, extract::State, routing::get};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Context, Mounted, Signals};
use crate::{
    config::{Invalid, empty_is_none},
    discovery::{self, About, Announcement, Registrar, Registration},
    health::Health,
    identity, server,
    telemetry::Telemetry,
};

/// The section `[node]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Where `serve` listens for other nodes.
    pub listen: SocketAddr,
    /// Where `serve` has `/metrics`, `/healthz` and `/readyz` over HTTP, without a key; empty opens no
    /// such door.
    #[serde(with = "empty_is_none")]
    pub metrics: Option<SocketAddr>,
    /// How long open calls may take to finish once the node drains.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// The zone that this node runs in, such as `eu-west-1a`: calls stay in it while it has enough. Empty
    /// where zones do not matter.
    pub zone: String,
    /// Whether other machines may call this node in plain text, and as whoever they say: for networks that
    /// see to that themselves. Without it a node that has no certificate listens on loopback only.
    pub plain_text: bool,
}

impl NodeConfig {
    /// Checks the values; `identity` is how the node talks to others.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self, identity: &identity::Config) -> Result<(), Invalid> {
        if identity.is_plain() && !self.plain_text && !self.listen.ip().is_loopback() {
            let allowed =
                "a loopback address, unless [identity] names certificates or node.plain_text is true";
            return Err(Invalid::new("node.listen", self.listen, allowed));
        }
        if self.zone.len() > 64 || !self.zone.chars().all(|c| c.is_ascii_graphic()) {
            let allowed = "empty, or up to 64 letters, digits and signs";
            return Err(Invalid::new("node.zone", &self.zone, allowed));
        }
        Ok(())
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7070).into(),
            metrics: None,
            drain: Duration::from_secs(10),
            zone: String::new(),
            plain_text: false,
        }
    }
}

/// Why a node cannot open its doors.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] server::BindError),
    /// A listener has no address.
    #[error("the listener's address cannot be told")]
    Address(#[source] std::io::Error),
    /// The descriptor set cannot be decoded.
    #[error("the contracts cannot be described")]
    Contracts(#[source] tonic_reflection::server::Error),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for")]
    Signals(#[source] std::io::Error),
}

/// How long a node that serves no more still takes calls: those who follow the registry hear of it within
/// milliseconds, those who watch its health do so too.
const FAREWELL: Duration = Duration::from_millis(300);

/// A set of roles that runs in this process.
pub struct Node {
    /// What its roles were started with.
    pub ctx: Context,
    mounted: Vec<Mounted>,
    telemetry: Telemetry,
    drain: Duration,
    registration: Option<Registration>,
}

impl Node {
    /// Mounts started roles and connects them, and follows the files of the identity. Warns of every peer that
    /// nobody serves.
    #[must_use]
    pub fn new(ctx: Context, mounted: Vec<Mounted>, telemetry: Telemetry, drain: Duration) -> Self {
        for role in &mounted {
            ctx.mount(role);
        }
        for role in ctx.missing() {
            tracing::warn!(
                role,
                "a peer is neither in this process nor under [peers]: calls to it will fail"
            );
        }
        ctx.tasks.spawn(ctx.identity.clone().watch(ctx.stop.clone()));
        Self { ctx, mounted, telemetry, drain, registration: None }
    }

    /// A function that renders all metrics, for a scrape endpoint.
    pub fn scraper(&self) -> impl Fn() -> String + Clone + Send + Sync + 'static + use<> {
        self.telemetry.scraper()
    }

    /// Serves the roles to other nodes on `address`, as the context's identity, with health and reflection over `descriptors`.
    /// Returns the address, which tells the port where 0 was asked for.
    ///
    /// # Errors
    /// A port that cannot be had, or `descriptors` that cannot be decoded.
    pub async fn listen(
        &self,
        address: SocketAddr,
        descriptors: &'static [u8],
    ) -> Result<SocketAddr, NodeError> {
        let listener = server::bind("node.listen", address).await?;
        let bound = listener.local_addr().map_err(NodeError::Address)?;
        let stack = self.ctx.node(self.mounted.clone(), descriptors).map_err(NodeError::Contracts)?;
        if self.ctx.identity.is_plain() && !bound.ip().is_loopback() {
            tracing::warn!(address = %bound, "whoever reaches this port may call this node, as any tenant");
        }
        let listener = server::Listener::new(listener, self.ctx.identity.clone());
        let stop = self.ctx.stop.clone();
        self.ctx.tasks.spawn(server::serve(listener, stack, server::Limits::default(), stop, self.drain));
        Ok(bound)
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` on `address`. Returns the address.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub async fn scrape(&self, address: SocketAddr) -> Result<SocketAddr, NodeError> {
        let listener = server::bind("node.metrics", address).await?;
        let bound = listener.local_addr().map_err(NodeError::Address)?;
        let render = self.scraper();
        let metrics = move || {
            let text = render();
            async move { ([("content-type", "text/plain; version=0.0.4")], text) }
        };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || Json(Status { status: "ok", not_serving: vec![] })))
            .route("/readyz", get(ready).with_state(self.ctx.health.clone()));
        let stop = self.ctx.stop.clone();
        self.ctx.tasks.spawn(server::serve(listener, router, server::Limits::default(), stop, self.drain));
        Ok(bound)
    }

    /// Puts the node into the registry, so that others find its roles at `address`, `host:port`, in `zone`,
    /// with the models that it tells of. To be called when it serves.
    ///
    /// # Errors
    /// An address that nobody can call.
    pub fn announce(&mut self, registrar: Registrar, address: String, zone: &str) -> Result<(), Invalid> {
        let started_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let about = About {
            zone: zone.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: started_at.as_secs(),
            models: self.ctx.models.borrow().clone(),
        };
        let (told, about) = watch::channel(about);
        let (mut models, stop) = (self.ctx.models.subscribe(), self.ctx.stop.clone());
        self.ctx.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while models.changed().await.is_ok() {
                let now = models.borrow_and_update().clone();
                told.send_modify(|about| about.models = now);
            }
        }));
        let roles = self.mounted.iter().map(|mounted| mounted.role.to_owned()).collect();
        let announcement = Announcement { id: discovery::instance_id(), address, roles, about };
        self.registration = Some(registrar.register(announcement, &self.ctx.stop, &self.ctx.tasks)?);
        Ok(())
    }

    /// Reports the whole node as serving. Signals that come from now on end it well.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub fn ready(&self) -> Result<Signals, NodeError> {
        let signals = Signals::listen().map_err(NodeError::Signals)?;
        self.ctx.health.set("", true);
        Ok(signals)
    }

    /// Waits for SIGINT or SIGTERM, and drains.
    pub async fn serve_until(self, mut signals: Signals) {
        let signal = signals.next().await;
        tracing::info!(signal, "draining");
        self.stop().await;
    }

    /// Says that it serves no more, leaves the registry, and drains when others had time to hear of it.
    /// Flushes telemetry.
    pub async fn stop(mut self) {
        if self.ctx.health.ready() {
            self.ctx.health.stop();
            if let Some(registration) = self.registration.take() {
                registration.withdraw().await;
            }
            tokio::time::sleep(FAREWELL).await;
        }
        self.ctx.drain(self.drain).await;
        drop(self.mounted);
        // Exporters may block on the network; they are flushed off the runtime's own threads.
        let telemetry = self.telemetry;
        let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    }
}

/// The body of `/healthz` and `/readyz`, as the gateway's.
#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_serving: Vec<String>,
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<Status>) {
    if health.ready() {
        return (StatusCode::OK, Json(Status { status: "ready", not_serving: vec![] }));
    }
    let missing = health.report().into_iter().filter(|(_, serving)| !serving);
    // The empty name stands for the whole node.
    let names = missing.map(|(name, _)| if name.is_empty() { "node".to_owned() } else { name });
    let status = Status { status: "not_ready", not_serving: names.collect() };
    (StatusCode::SERVICE_UNAVAILABLE, Json(status))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::{Channel, telemetry, testing};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn node() -> Node {
        let ctx = testing::context(&std::env::temp_dir());
        let quiet = telemetry::Config { log: "off".into(), ..telemetry::Config::default() };
        let telemetry = telemetry::start(&quiet).unwrap();
        let routes = tonic::service::Routes::default();
        let role = Mounted { role: "test", routes, services: vec!["test.v1.Test"], long_lived: vec![] };
        Node::new(ctx, vec![role], telemetry, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_node_is_ready_when_it_says_so_and_its_doors_close_when_it_stops() {
        let node = node();
        let free = ([127, 0, 0, 1], 0).into();
        let metrics = node.scrape(free).await.unwrap();
        let address = node.listen(free, &[]).await.unwrap();
        assert!(get(metrics, "/healthz").await.starts_with("HTTP/1.1 200"));
        let before = get(metrics, "/readyz").await;
        assert!(
            before.starts_with("HTTP/1.1 503") && before.contains(r#""not_serving":["node"]"#),
            "{before}"
        );
        let _signals = node.ready().unwrap();
        assert!(get(metrics, "/readyz").await.starts_with("HTTP/1.1 200"));
        let uri = format!("http://{address}").parse().unwrap();
        let mut health = HealthClient::new(Channel::tcp("health", uri));
        for service in ["", "test.v1.Test"] {
            let request = HealthCheckRequest { service: service.into() };
            let reply = health.check(testing::call("acme").request(request)).await.unwrap().into_inner();
            assert_eq!(reply.status().as_str_name(), "SERVING", "{service:?}");
        }
        let scraped = get(metrics, "/metrics").await;
        assert!(scraped.starts_with("HTTP/1.1 200") && scraped.contains("version=0.0.4"), "{scraped}");
        node.stop().await;
        assert!(TcpStream::connect(metrics).await.is_err() && TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_key() {
        let node = node();
        let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap();
        for (told, error) in [
            ("node.metrics", node.scrape(taken).await.err().unwrap()),
            ("node.listen", node.listen(taken, &[]).await.err().unwrap()),
        ] {
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
