//! `switchboard up`: the whole mesh on one machine, in one process or in one for each role.

mod processes;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use switchboard_gateway::keys::{Keys, NewKey, Role as KeyRole};
use switchboard_mesh::{Tenant, config::Secret};

use super::{Global, show};
use crate::{config::Config, node::Node, roles::Role};

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
    /// Run a process for each role and one for the gateway, and start again those that end: the mesh as it
    /// runs on many machines, for trying out
    #[arg(long)]
    processes: bool,
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
    if args.processes {
        return processes::up(global, &config, &args, &tenant).await;
    }
    let node = Node::start(&config, &Role::ALL, &[]).await?;
    let keys = Arc::new(Keys::open(Keys::file_in(&config.data.0))?);
    let (http, grpc) = node.open_gateway(&config, Arc::clone(&keys)).await?;
    // Only now: a key that is stored but never shown would be lost.
    let made = first_key(&keys, &args, &tenant)?.map(|(_, secret)| secret);
    let signals = node.ready()?;
    let ready = Ready { http: format!("http://{http}"), grpc: format!("http://{grpc}"), made, began };
    ready.show(&config, &args, &[]);
    node.serve_until(signals).await;
    Ok(ExitCode::SUCCESS)
}

/// A new API key, its id and its secret, where there was none or one is wished for.
fn first_key(keys: &Keys, args: &UpArgs, tenant: &Tenant) -> Result<Option<(String, Secret)>> {
    if !args.new_key && !keys.list().is_empty() {
        return Ok(None);
    }
    let label = "made by up".to_owned();
    Ok(Some(keys.create(&NewKey { label, ..NewKey::new(tenant.clone(), KeyRole::Admin) })?))
}

/// What is said once all of it serves.
struct Ready {
    http: String,
    grpc: String,
    made: Option<Secret>,
    began: Instant,
}

impl Ready {
    fn show(&self, config: &Config, args: &UpArgs, processes: &[processes::Process]) {
        let Self { http, grpc, made, began } = self;
        let ready_ms = began.elapsed().as_millis();
        let key = made.as_ref().map(Secret::expose);
        if args.json {
            let mut line = serde_json::json!({
                "http": http, "grpc": grpc, "api_key": key, "tenant": key.map(|_| &args.tenant),
                "ready_ms": ready_ms,
            });
            if !processes.is_empty() {
                line["operator_config"] = processes::operator_file(config).display().to_string().into();
                line["processes"] = processes.iter().map(processes::Process::json).collect();
            }
            return show::line(&line.to_string());
        }
        show::line(&format!("Switchboard is ready after {ready_ms} ms"));
        show::line(&format!("  HTTP     {http}   (/v1/converse, /healthz, /readyz, /metrics)"));
        show::line(&format!("  gRPC     {grpc}   (with reflection)"));
        match key {
            Some(key) => {
                show::line(&format!("  API key  {key}"));
                show::line(&format!(
                    "           for tenant {}; it is shown only now, and kept as a hash",
                    args.tenant
                ));
            }
            None => show::line("  API key  one was made before; --new-key makes another"),
        }
        show::line(&format!("  data     {}", config.data.0.display()));
        if !processes.is_empty() {
            let rows: Vec<_> = processes.iter().map(processes::Process::row).collect();
            let file = processes::operator_file(config);
            show::line(&format!("  look     switchboard --config {} nodes", file.display()));
            show::line(&format!("\n{}", show::table(&["process", "id", "address"], &rows)));
        }
    }
}
