//! `cargo xtask bench`.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use crate::process::{output, run as run_command};
use crate::workspace::{FEATURES, Workspace};
use crate::{python, setup};

/// Sets up, then runs the benchmarks in `benches/`.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    setup::runtime_and_model(workspace)?;
    setup::original_model(workspace)?;
    python::packages(workspace)?;
    // Only benchmark targets: the test harness of other targets refuses criterion's arguments.
    run_command(
        workspace
            .cargo("bench")
            .args(["--locked", "-p", "switchboard", "--bench", "*"])
            .args(FEATURES)
            .args(rest),
    )?;
    println!("\nThe figures of each benchmark are below {}", target(workspace)?.join("criterion").display());
    Ok(())
}

/// The folder that cargo builds into.
fn target(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let text = output(workspace.cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?.into())
}
