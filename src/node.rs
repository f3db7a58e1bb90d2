//! Roles by name in one running process, and the gateway before them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Result, bail};
use futures::future::try_join_all;
use switchboard_gateway::{Dependencies, keys::Keys};
use switchboard_mesh::{
    Context, balance,
    bootstrap::{self, Elsewhere, Life, Signals, Wiring},
    config as mesh_config,
    discovery::{Mixed, Place, Registrar, Seams},
    identity::Identity,
    overload::Overload,
    redis::Redis,
    telemetry,
};

use crate::{config::Config, roles::Role};

/// A set of roles that runs in this process.
pub(crate) struct Node {
    pub(crate) ctx: Context,
    running: bootstrap::Node,
}

impl Node {
    /// Starts telemetry and `roles`, side by side, and connects them. Other nodes are to believe that this
    /// one is what it serves, `served`.
    ///
    /// # Errors
    /// A role that the node's certificate does not name, before any is started; the first role that cannot
    /// start, with its reason.
    pub(crate) async fn start(config: &Config, roles: &[Role], served: &[&str]) -> Result<Self> {
        let telemetry = telemetry::start(&config.telemetry)?;
        mesh_config::writable_folder("data", &config.data.0)?;
        let ctx = Context::wired(config.data.0.clone(), wiring(config, roles).await?);
        is_believed(&ctx.identity, served)?;
        // In dependency order nothing would be gained: a role reaches its peers only when it serves.
        let mounted = try_join_all(roles.iter().map(|role| role.start(config, &ctx))).await?;
        let running = bootstrap::Node::new(ctx.clone(), mounted, telemetry, config.node.drain);
        Ok(Self { ctx, running })
    }

    /// Opens the gateway's two doors. Returns their addresses, HTTP and gRPC.
    ///
    /// # Errors
    /// A port that cannot be had, or a file of the section `[redis]` that cannot be read.
    pub(crate) async fn open_gateway(
        &self,
        config: &Config,
        keys: Arc<Keys>,
    ) -> Result<(SocketAddr, SocketAddr)> {
        let dependencies = Dependencies {
            keys,
            redis: Redis::open(&config.redis)?,
            scrape: self.running.scraper(),
            descriptors: switchboard_proto::DESCRIPTORS,
        };
        let doors = switchboard_gateway::start(config.gateway.clone(), &self.ctx, dependencies).await?;
        Ok((doors.http, doors.grpc))
    }

    /// Serves the roles to other nodes, and their metrics where the configuration has a door for
    /// them. Returns the address, which tells the port where 0 was asked for, and the metrics'.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub(crate) async fn listen(&self, config: &Config) -> Result<(SocketAddr, Option<SocketAddr>)> {
        let address = self.running.listen(config.node.listen, switchboard_proto::DESCRIPTORS).await?;
        let metrics = match config.node.metrics {
            Some(address) => Some(self.running.scrape(address).await?),
            None => None,
        };
        Ok((address, metrics))
    }

    /// Puts the roles, which listen on `address`, into the registry where the configuration names one.
    ///
    /// # Errors
    /// An address that nobody else can call.
    pub(crate) fn announce(&mut self, config: &Config, address: SocketAddr) -> Result<()> {
        let Some(registrar) = Registrar::open(&config.discovery, &Seams::default())? else { return Ok(()) };
        let address = config.discovery.advertised(address)?;
        Ok(self.running.announce(registrar, address, &config.node.zone)?)
    }

    /// Reports the whole node as serving. Signals that come from now on end it well.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(crate) fn ready(&self) -> Result<Signals> {
        Ok(self.running.ready()?)
    }

    /// Waits for SIGINT or SIGTERM, and drains.
    pub(crate) async fn serve_until(self, signals: Signals) {
        self.running.serve_until(signals).await;
    }

    /// Waits for SIGINT, SIGTERM or the end of `other`, and drains.
    pub(crate) async fn serve_until_either(self, mut signals: Signals, other: impl Future<Output = ()>) {
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, "draining"),
            () = other => tracing::info!("draining: who started this process has gone"),
        }
        self.running.stop().await;
    }

    /// Drains and flushes.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// Refuses to go on where other nodes would not believe that this one is what it serves.
fn is_believed(identity: &Identity, served: &[&str]) -> Result<()> {
    let Some(own) = identity.own() else { return Ok(()) };
    if let Some(role) = served.iter().find(|role| !own.has(role)) {
        bail!("identity.certificate is for {own}, and this process serves {role}: others would refuse it");
    }
    Ok(())
}

/// How a process that serves the roles `here` reaches the others.
///
/// # Errors
/// A file that cannot be used.
pub(crate) async fn wiring(config: &Config, here: &[Role]) -> Result<Wiring> {
    let (life, peers, files) = (Life::default(), config.remote(), config.identity.clone());
    let identity = tokio::task::spawn_blocking(move || Identity::load(&files)).await??;
    let place = Place {
        data: config.data.0.clone(),
        stop: life.stop.clone(),
        tasks: &life.tasks,
        seams: Seams::default(),
    };
    let discovery = Arc::new(Mixed::start(&config.discovery, &peers, place)?);
    let elsewhere = if config.discovery.etcd.is_empty() {
        Elsewhere::These(peers.into_keys().collect())
    } else {
        let here = here.iter().map(|role| role.name().to_owned());
        Elsewhere::AllBut(here.filter(|role| !peers.contains_key(role)).collect())
    };
    let balance = balance::Config { zone: config.node.zone.clone(), ..config.balance.clone() };
    let overload = Overload::new(config.overload.clone());
    Ok(Wiring { discovery, elsewhere, balance, identity, overload, life })
}
