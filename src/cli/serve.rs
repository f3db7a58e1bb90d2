//! `switchboard serve`: some roles in this process, the others elsewhere.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Result;
use clap::Args;
use switchboard_gateway::keys::Keys;
use tokio::sync::oneshot;

use super::{Global, show};
use crate::{
    node::Node,
    roles::{self, Role},
};

/// Flags of `serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Role to serve, `gateway` among them; may be repeated. Roles that these call are found by
    /// `[discovery]`, or under `[peers]`
    #[arg(long = "role", required = true, value_parser = served, value_name = "ROLE")]
    roles: Vec<Served>,
    /// Where to listen for other nodes; port 0 takes a free one. Sets `node.listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Print one JSON line when ready
    #[arg(long)]
    json: bool,
    /// Drain when standard input ends, since whoever started this process has gone
    #[arg(long, hide = true)]
    attached: bool,
}

/// What `serve` serves: a role to other nodes, or the gateway to customers' programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Served {
    Role(Role),
    Gateway,
}

impl Served {
    fn name(self) -> &'static str {
        match self {
            Self::Role(role) => role.name(),
            Self::Gateway => switchboard_gateway::ROLE,
        }
    }
}

fn served(name: &str) -> Result<Served, String> {
    if name == switchboard_gateway::ROLE {
        return Ok(Served::Gateway);
    }
    let role = Role::parse(name).map(Served::Role);
    role.ok_or_else(|| format!("a role is one of {}, {}", roles::names(), switchboard_gateway::ROLE))
}

pub(crate) async fn serve(global: &Global, args: ServeArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let overrides: Vec<_> =
        args.listen.map(|address| ("node.listen", address.to_string())).into_iter().collect();
    let config = global.load(&overrides)?;
    let mut served = args.roles;
    served.sort();
    served.dedup();
    let roles: Vec<Role> = served
        .iter()
        .filter_map(|served| match served {
            Served::Role(role) => Some(*role),
            Served::Gateway => None,
        })
        .collect();
    let names: Vec<&str> = served.iter().map(|served| served.name()).collect();
    let mut node = Node::start(&config, &roles, &names).await?;
    // A gateway alone has nothing for other nodes, and its metrics at its own door.
    let inner = if roles.is_empty() { None } else { Some(node.listen(&config).await?) };
    let doors = if served.contains(&Served::Gateway) {
        let keys = Arc::new(Keys::open(Keys::file_in(&config.data.0))?);
        if keys.list().is_empty() {
            tracing::warn!("there is no API key yet: `switchboard keys create` makes one");
        }
        Some(node.open_gateway(&config, keys).await?)
    } else {
        None
    };
    let signals = node.ready()?;
    if let Some((address, _)) = inner {
        node.announce(&config, address)?;
    }
    let url = |address: SocketAddr| format!("http://{address}");
    let metrics = inner.and_then(|(_, metrics)| metrics).map(|address| format!("{}/metrics", url(address)));
    if args.json {
        let ready_ms = began.elapsed().as_millis();
        let mut line = serde_json::json!({ "metrics": metrics, "roles": names, "ready_ms": ready_ms });
        if let Some((address, _)) = inner {
            line["grpc"] = url(address).into();
        }
        if let Some((http, grpc)) = doors {
            line["gateway"] = serde_json::json!({ "http": url(http), "grpc": url(grpc) });
        }
        show::line(&line.to_string());
    } else {
        show::line(&format!("serving {}", names.join(", ")));
        if let Some((address, _)) = inner {
            show::line(&format!("  to nodes      {}", url(address)));
        }
        if let Some((http, grpc)) = doors {
            show::line(&format!("  to programs   {} (HTTP), {} (gRPC)", url(http), url(grpc)));
        }
        if let Some(metrics) = metrics {
            show::line(&format!("  metrics       {metrics}"));
        }
    }
    if args.attached {
        node.serve_until_either(signals, input_ends()).await;
    } else {
        node.serve_until(signals).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends with standard input. The thread that reads it ends with the process.
async fn input_ends() {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = wait.await;
}
