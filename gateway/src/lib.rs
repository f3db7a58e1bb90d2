//! The edge: what customers of the mesh may call, who they are, and how much they may ask for.
//!
//! Two listeners. HTTP serves a turn as JSON or server-sent events, with `/healthz`, `/readyz` and
//! `/metrics`. gRPC serves the services that platform teams call, with health and reflection, and
//! passes their calls on to the roles without decoding them. On both, an API key ([`keys`]) says for
//! which tenant a call is made, and whether its holder may make it (`permissions.rs` has the table);
//! whatever a caller says about that itself is dropped.
//!
//! Calls `ConversationService.Converse` for HTTP, and any public service for gRPC. Owns the API
//! keys. Bodies, headers, streams, times, the number of calls at once and their rate ([`rate`]) are
//! bounded ([`Config`]); beyond that, both doors share the process's adaptive limit
//! ([`mesh::overload`]).

#[cfg(test)]
mod admission;
mod auth;
mod body;
mod bounds;
mod config;
mod converse;
mod error;
mod grpc;
mod http_api;
pub mod json;
pub mod keys;
mod metrics;
mod permissions;
mod problem;
pub mod rate;
#[cfg(test)]
mod testing;
mod trace;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use config::Config;
use mesh::{
    StartError,
    redis::{self, Redis},
    server,
};
use switchboard_mesh as mesh;

/// Its name among the roles. It has nothing for other nodes, and is nobody's peer.
pub const ROLE: &str = "gateway";

/// A gateway that is listening.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Where HTTP is served; the actual port where the config says 0.
    pub http: SocketAddr,
    /// Where gRPC is served; the actual port where the config says 0.
    pub grpc: SocketAddr,
}

/// How long Redis may take to answer once a gateway starts; a connection has a shorter time of its own.
const FIRST_PING: Duration = Duration::from_secs(60);

/// What a gateway is made of.
pub struct Dependencies<S> {
    /// The API keys.
    pub keys: Arc<keys::Keys>,
    /// Where gateways count calls together; without it each counts for itself.
    pub redis: Option<Redis>,
    /// Makes the text of `/metrics`.
    pub scrape: S,
    /// The encoded `FileDescriptorSet` that reflection serves.
    pub descriptors: &'static [u8],
}

/// Binds both listeners and serves them on `ctx.tasks` until `ctx.stop`. What other processes change in
/// the file of the keys counts within about a second.
///
/// `/metrics` needs no key, so HTTP should be bound where only those who may see it can reach it; the
/// default is the loopback address.
///
/// # Errors
/// When an address cannot be bound, or the descriptors cannot be decoded. That Redis is away is none.
pub async fn start(
    config: Config,
    ctx: &mesh::Context,
    dependencies: Dependencies<impl Fn() -> String + Send + Sync + 'static>,
) -> Result<Running, StartError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| StartError::new(ROLE, source);
    let http = server::bind("gateway.http", config.http).await.map_err(|error| fail(error.into()))?;
    let grpc = server::bind("gateway.grpc", config.grpc).await.map_err(|error| fail(error.into()))?;
    let running = Running {
        http: http.local_addr().map_err(|error| fail(error.into()))?,
        grpc: grpc.local_addr().map_err(|error| fail(error.into()))?,
    };
    let drain = config.drain;
    let Dependencies { keys, redis, scrape, descriptors } = dependencies;
    ctx.tasks.spawn(Arc::clone(&keys).watch(ctx.stop.clone()));
    if let Some(redis) = redis.clone() {
        // So that the first calls find a connection, and the log tells at once how it is.
        let stop = ctx.stop.clone();
        ctx.tasks.spawn(async move { stop.run_until_cancelled(redis::ping(&redis, FIRST_PING)).await });
    }
    let door = Arc::new(auth::Door::new(config, keys, redis, ctx.overload.clone()));
    let grpc_edge = grpc::router(&door, ctx, descriptors).map_err(fail)?;
    let http_edge = http_api::router(door, ctx, scrape);
    let limits = server::Limits::default();
    ctx.tasks.spawn(server::serve(http, http_edge, limits, ctx.stop.clone(), drain));
    ctx.tasks.spawn(server::serve(grpc, grpc_edge, limits, ctx.stop.clone(), drain));
    tracing::info!(http = %running.http, grpc = %running.grpc, "gateway is listening");
    Ok(running)
}
