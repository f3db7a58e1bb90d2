//! `switchboard up` and `switchboard serve`.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use switchboard_gateway::keys::{Keys, NewKey, Role as KeyRole};
use switchboard_mesh::Tenant;

use super::{Global, show};
use crate::{
    node::Node,
    roles::{self, Role},
};

/// Flags of `up`.
#[derive(Args)]
pub(crate) struct UpArgs {
    /// Where to serve HTTP; port 0 takes a free one. Sets `gateway.http`
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where to serve gRPC; port 0 takes a free one. Sets `gateway.grpc`
    #[arg(long, value_name = "ADDR")]
    grpc: Option<SocketAddr>,
    /// Tenant of the API key that is made when there is none
    #[arg(long, default_value = super::client::DEFAULT_TENANT)]
    tenant: String,
    /// Make another API key, even when there is one
    #[arg(long)]
    new_key: bool,
    /// Print one JSON line when ready: addresses, API key if one was made, time to start
    #[arg(long)]
    json: bool,
}

pub(crate) async fn up(global: &Global, args: UpArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let mut overrides = Vec::new();
    overrides.extend(args.http.map(|address| ("gateway.http", address.to_string())));
    overrides.extend(args.grpc.map(|address| ("gateway.grpc", address.to_string())));
    let config = global.load(&overrides)?;
    let tenant = Tenant::try_new(&args.tenant).map_err(|allowed| anyhow::anyhow!("--tenant: {allowed}"))?;
    if let Some(role) = config.peers.keys().next() {
        bail!("peers.{role}: `up` runs every role in this process; use `serve` for roles in several");
    }
    let node = Node::start(&config, &Role::ALL).await?;
    let keys = Arc::new(Keys::open(Keys::file_in(&config.data.0))?);
    let (http, grpc) = node.open_gateway(&config, Arc::clone(&keys)).await?;
    // Only now: a key that is stored but never shown would be lost.
    let made = if args.new_key || keys.list().is_empty() {
        let label = "made by up".to_owned();
        Some(keys.create(&NewKey { label, ..NewKey::new(tenant.clone(), KeyRole::Admin) })?)
    } else {
        None
    };
    let signals = node.ready()?;
    let ready_ms = began.elapsed().as_millis();
    let key = made.as_ref().map(|(_, secret)| secret.expose());
    if args.json {
        let line = serde_json::json!({
            "http": format!("http://{http}"), "grpc": format!("http://{grpc}"),
            "api_key": key, "tenant": key.map(|_| tenant.as_str()), "ready_ms": ready_ms,
        });
        show::line(&line.to_string());
    } else {
        show::line(&format!("Switchboard is ready after {ready_ms} ms"));
        show::line(&format!("  HTTP     http://{http}   (/v1/converse, /healthz, /readyz, /metrics)"));
        show::line(&format!("  gRPC     http://{grpc}   (with reflection)"));
        match key {
            Some(key) => {
                show::line(&format!("  API key  {key}"));
                show::line(&format!(
                    "           for tenant {tenant}; it is shown only now, and kept as a hash"
                ));
            }
            None => show::line("  API key  one was made before; --new-key makes another"),
        }
        show::line(&format!("  data     {}", config.data.0.display()));
    }
    drop(made);
    node.serve_until(signals).await;
    Ok(ExitCode::SUCCESS)
}

/// Flags of `serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Role to serve; may be repeated. Roles that these call are found under `[peers]`
    #[arg(long = "role", required = true, value_parser = role, value_name = "ROLE")]
    roles: Vec<Role>,
    /// Where to listen; port 0 takes a free one. Sets `node.listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Print one JSON line when ready
    #[arg(long)]
    json: bool,
}

fn role(name: &str) -> Result<Role, String> {
    Role::parse(name).ok_or_else(|| format!("a role is one of {}", roles::names()))
}

pub(crate) async fn serve(global: &Global, args: ServeArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let overrides: Vec<_> =
        args.listen.map(|address| ("node.listen", address.to_string())).into_iter().collect();
    let config = global.load(&overrides)?;
    let mut roles = args.roles;
    roles.sort();
    roles.dedup();
    let node = Node::start(&config, &roles).await?;
    let (address, metrics) = node.listen(&config).await?;
    let signals = node.ready()?;
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    if args.json {
        let ready_ms = began.elapsed().as_millis();
        let line = serde_json::json!({
            "grpc": format!("http://{address}"), "metrics": metrics.map(|at| format!("http://{at}/metrics")),
            "roles": names, "ready_ms": ready_ms,
        });
        show::line(&line.to_string());
    } else {
        show::line(&format!("serving {} on http://{address}", names.join(", ")));
        if let Some(metrics) = metrics {
            show::line(&format!("metrics on http://{metrics}/metrics"));
        }
    }
    node.serve_until(signals).await;
    Ok(ExitCode::SUCCESS)
}
