//! A running process: its roles in one mesh, from start to drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use switchboard_gateway::keys::Keys;
use switchboard_mesh::{
    Context, Mounted,
    bootstrap::Signals,
    config as mesh_config, server,
    telemetry::{self, Telemetry},
};

use crate::{config::Config, roles::Role};

/// A set of roles that runs in this process.
pub(crate) struct Node {
    pub(crate) ctx: Context,
    mounted: Vec<Mounted>,
    telemetry: Telemetry,
    drain: Duration,
}

impl Node {
    /// Starts telemetry and `roles`, side by side, and connects them.
    ///
    /// # Errors
    /// The first role that cannot start, with its reason.
    pub(crate) async fn start(config: &Config, roles: &[Role]) -> Result<Self> {
        let telemetry = telemetry::start(&config.telemetry)?;
        mesh_config::writable_folder("data", &config.data.0)?;
        let ctx = Context::new(config.data.0.clone(), config.remote());
        // In dependency order nothing would be gained: a role reaches its peers only when it serves.
        let mounted = try_join_all(roles.iter().map(|role| role.start(config, &ctx))).await?;
        for role in &mounted {
            ctx.mount(role);
        }
        for role in ctx.missing() {
            tracing::warn!(
                role,
                "a peer is neither in this process nor under [peers]: calls to it will fail"
            );
        }
        Ok(Self { ctx, mounted, telemetry, drain: config.node.drain })
    }

    /// Opens the gateway's two doors. Returns their addresses, HTTP and gRPC.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub(crate) async fn open_gateway(
        &self,
        config: &Config,
        keys: Arc<Keys>,
    ) -> Result<(SocketAddr, SocketAddr)> {
        let scrape = self.telemetry.scraper();
        let descriptors = switchboard_proto::DESCRIPTORS;
        let doors =
            switchboard_gateway::start(config.gateway.clone(), &self.ctx, keys, scrape, descriptors).await?;
        Ok((doors.http, doors.grpc))
    }

    /// Serves the roles to other nodes on `address`. Returns the address, which tells the port where
    /// 0 was asked for.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub(crate) async fn listen(&self, address: SocketAddr) -> Result<SocketAddr> {
        let listener = server::bind("node.listen", address).await?;
        let bound = listener.local_addr()?;
        let mounted = self.mounted.iter().map(|m| Mounted {
            role: m.role,
            routes: m.routes.clone(),
            services: m.services.clone(),
        });
        let stack = self
            .ctx
            .node(mounted.collect(), switchboard_proto::DESCRIPTORS)
            .context("the contracts cannot be described")?;
        let stop = self.ctx.stop.clone();
        self.ctx.tasks.spawn(server::serve(listener, stack, server::Limits::default(), stop, self.drain));
        Ok(bound)
    }

    /// Reports the whole node as serving. Signals that come from now on end it well.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(crate) fn ready(&self) -> Result<Signals> {
        let signals = Signals::listen().context("signals cannot be waited for")?;
        self.ctx.health.set("", true);
        Ok(signals)
    }

    /// Waits for SIGINT or SIGTERM, and drains.
    pub(crate) async fn serve_until(self, mut signals: Signals) {
        let signal = signals.next().await;
        tracing::info!(signal, "draining");
        self.stop().await;
    }

    /// Drains and flushes.
    pub(crate) async fn stop(self) {
        self.ctx.drain(self.drain).await;
        drop(self.mounted);
        // Exporters may block on the network; they are flushed off the runtime's own threads.
        let telemetry = self.telemetry;
        let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    }
}
