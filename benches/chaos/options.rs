//! What the command line asks for; `cargo xtask chaos --help` explains it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Flags, the paths that xtask adds among them.
#[derive(Parser)]
pub(crate) struct Options {
    /// The built `switchboard`
    #[arg(long, hide = true)]
    pub(crate) switchboard: PathBuf,
    /// The built `model-server`
    #[arg(long, hide = true)]
    pub(crate) model_server: PathBuf,
    /// The folder for data, logs and the report
    #[arg(long, hide = true)]
    pub(crate) folder: PathBuf,
    /// Which parts to run, with commas between; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Part>,
    /// How often each role is killed, and frozen
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long etcd and Redis are away, and how long overload lasts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub(crate) seconds: u64,
    /// Turns a second; without it 40 % of the knee, which is looked for first
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Roles that are killed, frozen and restarted, with commas between; all by default
    #[arg(long, value_delimiter = ',')]
    pub(crate) roles: Vec<String>,
    /// What the mesh is made of
    #[arg(long, value_enum, default_value_t = Kind::Full)]
    pub(crate) mesh: Kind,
    /// Where the report goes, in Markdown; its figures go beside it as JSON
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

/// A part of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// One of two nodes of each role is killed.
    Kill,
    /// One of two nodes of each role is frozen.
    Freeze,
    /// The registry is away.
    Etcd,
    /// Redis is away.
    Redis,
    /// Everything is restarted, one process after the other.
    Rolling,
    /// Twice as much is asked as can be done.
    Overload,
}

/// What the mesh is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Nodes at addresses that the configuration names, in plain text, and nothing else.
    Fixed,
    /// Nodes that find each other in etcd and know each other by certificates, and gateways that share Redis.
    Full,
}

impl Options {
    /// Whether a part is asked for.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.1..=100_000.0).contains(rate));
    rate.ok_or_else(|| "a number of turns a second, 0.1 to 100000".to_owned())
}
