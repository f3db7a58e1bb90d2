//! The program `model-server`: a node that runs models and nothing else.
//!
//! It reads the sections `[node]`, `[discovery]`, `[identity]`, `[overload]`, `[inference]` and `[telemetry]`, as
//! `switchboard serve --role inference` does, and has no other role in it: the one to put on machines with many
//! cores or a GPU.

mod check;
mod config;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use mesh::{
    Call, Context, Deadline, Tenant,
    bootstrap::{Node, Wiring},
    config::ConfigError,
    discovery::{Registrar, Seams},
    identity::Identity,
    overload::Overload,
    telemetry, terminal,
};
use switchboard_mesh as mesh;
use switchboard_model_server::{
    ROLE,
    listing::{self, Loaded},
};

use crate::config::Config;

/// Exit status for a wrong command line or configuration, as for a usage error.
const USAGE: u8 = 2;
/// A list in process takes microseconds.
const LIST: Duration = Duration::from_secs(5);

/// Runs models: embeds, reranks and classifies text over gRPC.
#[derive(Parser)]
#[command(name = "model-server", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  model-server serve --repository .cache/models       # serve every model in the folder
  model-server serve --listen 0.0.0.0:8091 --metrics 0.0.0.0:9091
  model-server check .cache/models                    # say what the folder holds
  model-server config print                           # every setting with its value

A model is a folder in the layout of the Hugging Face hub: config.json, tokenizer.json and
onnx/model.onnx. SWITCHBOARD__INFERENCE__THREADS=4 sets inference.threads, and so on.";

/// Flags of every command.
#[derive(Args)]
struct Global {
    /// Configuration file (TOML); `model-server.toml` in the current folder when there is one
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHBOARD_CONFIG")]
    config: Option<PathBuf>,
    /// What the flags `--set` say, wherever they stand
    #[arg(skip)]
    set: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over gRPC until SIGINT or SIGTERM
    Serve(ServeArgs),
    /// Say what the models in a folder are, and what is wrong with them
    Check(check::CheckArgs),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Flags of `serve`.
#[derive(Args)]
struct ServeArgs {
    /// Folder with a folder for each model. Sets `inference.repository`
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// Where to serve gRPC; port 0 takes a free one. Sets `node.listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where to serve /metrics, /healthz and /readyz over HTTP. Sets `node.metrics`
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Let callers load and unload models. Sets `inference.model_control`
    #[arg(long)]
    model_control: bool,
    /// Print one JSON line when ready: addresses, models, time to start
    #[arg(long)]
    json: bool,
}

impl Global {
    /// Loads the configuration with the flags over it, and `more` over those.
    fn load(&self, more: &[(&str, String)]) -> Result<Config, ConfigError> {
        let mut overrides = self.set.clone();
        overrides.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        config::load(self.config.clone(), &overrides)
    }
}

fn main() -> ExitCode {
    let (mut cli, set) = mesh::config::parse::<Cli>();
    cli.global.set = set;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve(&cli.global, args).await,
            Command::Check(args) => check::check(&cli.global, &args),
            Command::Config(command) => config::config(&cli.global, &command),
        }
    });
    // A model that is being loaded must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            let usage = error.downcast_ref::<ConfigError>().is_some();
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

async fn serve(global: &Global, args: ServeArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let mut overrides = Vec::new();
    overrides.extend(args.repository.map(|folder| ("inference.repository", folder.display().to_string())));
    overrides.extend(args.listen.map(|address| ("node.listen", address.to_string())));
    overrides.extend(args.metrics.map(|address| ("node.metrics", address.to_string())));
    overrides.extend(args.model_control.then(|| ("inference.model_control", "true".to_owned())));
    let config = global.load(&overrides)?;
    let telemetry = telemetry::start(&config.telemetry)?;
    // No state is kept: the data folder is for roles that have some.
    let overload = Overload::new(config.overload);
    let identity = tokio::task::spawn_blocking(move || Identity::load(&config.identity)).await??;
    if let Some(own) = identity.own().filter(|own| !own.has(ROLE)) {
        bail!("identity.certificate is for {own}, and this process serves {ROLE}: others would refuse it");
    }
    let wiring = Wiring { overload, identity, ..Wiring::fixed(Default::default()) };
    let ctx = Context::wired(PathBuf::new(), wiring);
    let mounted = switchboard_model_server::start(config.inference, &ctx).await?;
    let mut node = Node::new(ctx, vec![mounted], telemetry, config.node.drain);
    let address = node.listen(config.node.listen, switchboard_proto::DESCRIPTORS).await?;
    let metrics = match config.node.metrics {
        Some(address) => Some(node.scrape(address).await?),
        None => None,
    };
    let tenant = Tenant::try_new("default").map_err(anyhow::Error::msg)?;
    let call = Call::new(tenant, Deadline::after(LIST));
    let models = listing::ask(node.ctx.channel(ROLE), &call).await;
    let models = models.context("the loaded models cannot be listed")?;
    let signals = node.ready()?;
    if let Some(registrar) = Registrar::open(&config.discovery, &Seams::default())? {
        node.announce(registrar, config.discovery.advertised(address)?, &config.node.zone)?;
    }
    let ready_ms = began.elapsed().as_millis();
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    if args.json {
        let models: Vec<_> = models.iter().map(Loaded::json).collect();
        let line = serde_json::json!({
            "grpc": format!("http://{address}"), "metrics": metrics, "models": models, "ready_ms": ready_ms,
        });
        terminal::line(&line.to_string());
    } else {
        terminal::line(&format!("serving on http://{address} after {ready_ms} ms"));
        if let Some(metrics) = metrics {
            terminal::line(&format!("metrics on {metrics}"));
        }
        terminal::line(&listing::table(&models));
    }
    node.serve_until(signals).await;
    Ok(ExitCode::SUCCESS)
}
