//! Roles by name in one running process, and the gateway before them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use futures::future::try_join_all;
use switchboard_gateway::{Dependencies, keys::Keys};
use switchboard_mesh::{
    Context,
    bootstrap::{self, Signals},
    config as mesh_config,
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
    /// Starts telemetry and `roles`, side by side, and connects them.
    ///
    /// # Errors
    /// The first role that cannot start, with its reason.
    pub(crate) async fn start(config: &Config, roles: &[Role]) -> Result<Self> {
        let telemetry = telemetry::start(&config.telemetry)?;
        mesh_config::writable_folder("data", &config.data.0)?;
        let mut ctx = Context::new(config.data.0.clone(), config.remote());
        ctx.overload = Overload::new(config.overload.clone());
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

    /// Drains and flushes.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}
