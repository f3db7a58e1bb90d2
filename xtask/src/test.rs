//! `cargo xtask test`.

use crate::libtorch::libtorch;
use crate::process::run as run_command;
use crate::workspace::{ALL_FEATURES, Workspace};
use crate::{debian, python, setup};

/// Sets up, then runs `cargo test` over the workspace or what `rest` selects.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    setup::runtime_and_model(workspace)?;
    python::packages(workspace)?;
    let servers = "by tests, which start their own on loopback";
    debian::require("redis-server", &["--version"], &["redis-server"], servers)?;
    debian::require("etcd", &["--version"], &["etcd-server"], servers)?;
    // Debian keeps its programs off the path.
    let look = "postgres --version || ls /usr/lib/postgresql/*/bin/postgres";
    debian::require("sh", &["-c", look], &["postgresql"], servers)?;
    if !selects_packages(rest) || rest.iter().any(|argument| argument.contains("torch")) {
        libtorch(workspace)?;
    }
    let mut cargo = workspace.cargo("test");
    cargo.arg("--locked");
    if !selects_packages(rest) {
        cargo.arg("--workspace").args(ALL_FEATURES);
    }
    run_command(cargo.args(rest))?;
    if selects_packages(rest) {
        return Ok(());
    }
    // Random texts, cut at random: new ones in every run, so it prints the seed of a failure.
    let fuzz = ["--locked", "-p", "switchboard-text", "--example", "fuzz", "--", "--seconds", FUZZ_SECONDS];
    run_command(workspace.cargo("run").args(fuzz))
}

/// How long redaction is tried with random texts.
const FUZZ_SECONDS: &str = "60";

/// Whether the arguments for cargo, those before `--`, choose packages.
fn selects_packages(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_package_takes_the_place_of_the_workspace() {
        let selects = |line: &str| selects_packages(&line.split(' ').map(String::from).collect::<Vec<_>>());
        assert!(selects("-p switchboard-policy"));
        assert!(selects("--package=switchboard-policy redact"));
        assert!(!selects("deadline -- -p"));
    }
}
