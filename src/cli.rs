//! The command line: one file per command.

mod ask;
mod certs;
mod client;
mod config;
mod eval;
mod handoffs;
mod ingest;
mod keys;
mod ledger;
mod models;
mod nodes;
mod policy;
mod serve;
mod show;
mod up;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Process};

/// Exit status for a wrong command line or configuration, as for a usage error.
const USAGE: u8 = 2;

/// Switchboard answers a company's customers from the company's own documents, with citations,
/// inside a time budget.
#[derive(Parser)]
#[command(name = "switchboard", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  switchboard ingest examples/acme/knowledge      # store a folder of documents
  switchboard ask \"Can I return worn shoes?\"      # ask them, in this process
  switchboard up                                  # serve every role; prints an API key once
  switchboard ask \"...\" --server http://127.0.0.1:8081 --api-key sb_...
  switchboard keys create --role customer-app --expires 90d   # make an API key for an app
  switchboard ledger verify                       # read every record's hash, and say whether any was changed
  switchboard certs dev                           # certificates for a mesh that is being developed
  switchboard models list                         # the models that this machine has
  switchboard policy explain \"My card was stolen\"  # what the rules say of a text
  switchboard config print                        # every setting with its value";

/// Flags of every command.
#[derive(Args, Clone)]
struct Global {
    /// Configuration file (TOML); `switchboard.toml` in the current folder when there is one
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHBOARD_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for state; sets `data`
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What the flags `--set` say, wherever they stand
    #[arg(skip)]
    set: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve every role on this machine, with the gateway in front
    Up(up::UpArgs),
    /// Serve some roles to other nodes over gRPC, or the gateway
    Serve(serve::ServeArgs),
    /// Show who serves what, how well, and how fresh that knowledge is
    Nodes(nodes::NodesArgs),
    /// Ask a question and print the answer with its sources and stages
    Ask(ask::AskArgs),
    /// Store documents: files, or folders with everything below them
    Ingest(ingest::IngestArgs),
    /// Measure how well your documents can be searched
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    /// List, check, fetch, import and measure models
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List the conversations that wait for a person
    #[command(subcommand)]
    Handoffs(handoffs::HandoffsCommand),
    /// Verify, look up, prove and export what was decided and done
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Make certificates, by which nodes know each other
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Check, test and explain the rules that decide what may be read, said and done
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Global {
    /// The same flags, with settings over them.
    fn over(&self, more: &[(&str, &str)]) -> Self {
        let mut over = self.clone();
        over.set.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        over
    }

    /// Loads the configuration with the flags over it, and `more` over those.
    fn load(&self, more: &[(&str, String)]) -> Result<Config, ConfigError> {
        let usual = PathBuf::from("switchboard.toml");
        let file = self.config.clone().or_else(|| usual.is_file().then_some(usual));
        let mut overrides = self.set.clone();
        if let Some(data) = &self.data {
            overrides.push(("data".into(), data.display().to_string()));
        }
        overrides.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        crate::config::load(file.as_ref(), &Process, &overrides)
    }
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    let (mut cli, set) = switchboard_mesh::config::parse::<Cli>();
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
            Command::Up(args) => up::up(&cli.global, args).await,
            Command::Serve(args) => serve::serve(&cli.global, args).await,
            Command::Nodes(args) => nodes::nodes(&cli.global, args).await,
            Command::Ask(args) => ask::ask(&cli.global, args).await,
            Command::Ingest(args) => ingest::ingest(&cli.global, args).await,
            Command::Eval(command) => eval::eval(&cli.global, command).await,
            Command::Models(command) => models::models(&cli.global, command).await,
            Command::Keys(command) => keys::keys(&cli.global, command),
            Command::Handoffs(command) => handoffs::handoffs(&cli.global, command).await,
            Command::Ledger(command) => ledger::ledger(&cli.global, command).await,
            Command::Certs(command) => certs::certs(command),
            Command::Policy(command) => policy::policy(&cli.global, command).await,
            Command::Config(command) => config::config(&cli.global, &command),
        }
    });
    // A blocked read of a file or a database must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.downcast_ref::<ConfigError>().is_some() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
