//! `cargo xtask simulate`.

use crate::process::run as run_command;
use crate::workspace::Workspace;

pub(crate) const HELP: &str = "\
Simulates the mesh in trouble, seed after seed, and prints which promises were broken and how to see that
again. One seed always shows the same. Needs nothing that is set up.

Usage: cargo xtask simulate [options]

  --hours H     simulated hours in all (24)
  --minutes M   simulated minutes of each seed (10)
  --seed S      the first seed (0); without --hours or --seeds, that one alone
  --seeds N     as many seeds, in place of --hours";

/// Runs mesh/benches/simulation.rs, built like the tests are, so that it is soon there.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    let mut cargo = workspace.cargo("bench");
    cargo.args([
        "--locked",
        "--quiet",
        "-p",
        "switchboard-mesh",
        "--bench",
        "simulation",
        "--profile",
        "dev",
        "--",
    ]);
    run_command(cargo.args(rest))
}
