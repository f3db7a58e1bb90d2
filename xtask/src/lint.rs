//! `cargo xtask lint`: every check, whether or not another failed.

mod dependencies;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::libtorch::libtorch;
use crate::process::{answers, run as run_command};
use crate::setup;
use crate::workspace::{ALL_FEATURES, Workspace};

type Step = (&'static str, fn(&Workspace) -> anyhow::Result<()>);

const STEPS: [Step; 5] = [
    ("format", format),
    ("clippy", clippy),
    ("docs", docs),
    ("contracts", contracts),
    ("dependencies", dependencies),
];

/// Runs the steps, or the ones that `chosen` names, then lists them with their times and outcomes. An
/// error when any failed.
pub(crate) fn run(workspace: &Workspace, chosen: &[String]) -> anyhow::Result<()> {
    let names = STEPS.map(|(name, _)| name);
    if let Some(unknown) = chosen.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("there is no step `{unknown}`; there are {}", names.join(", "));
    }
    components()?;
    let mut outcomes: Vec<(&str, Duration, bool)> = Vec::new();
    for (name, step) in STEPS {
        if !chosen.is_empty() && !chosen.iter().any(|step| step == name) {
            continue;
        }
        println!("lint: {name}");
        let start = Instant::now();
        let result = step(workspace);
        if let Err(error) = &result {
            println!("lint: {name}: {error:#}");
        }
        outcomes.push((name, start.elapsed(), result.is_ok()));
    }
    println!();
    for (name, spent, passed) in &outcomes {
        let outcome = if *passed { "ok" } else { "FAILED" };
        println!("lint: {name:<13} {outcome:<7} {:6.1} s", spent.as_secs_f64());
    }
    let failed: Vec<&str> = outcomes.iter().filter(|(.., passed)| !passed).map(|(name, ..)| *name).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Adds rustfmt and clippy where a minimal toolchain lacks them.
fn components() -> anyhow::Result<()> {
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if !answers(program, &["--version"]) {
            run_command(std::process::Command::new("rustup").args(["component", "add", component]))
                .with_context(|| format!("this toolchain has no {component}; install it"))?;
        }
    }
    Ok(())
}

fn format(workspace: &Workspace) -> anyhow::Result<()> {
    run_command(workspace.cargo("fmt").args(["--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> anyhow::Result<()> {
    libtorch(workspace)?;
    let mut cargo = workspace.cargo("clippy");
    cargo.args(["--workspace", "--all-targets", "--locked"]).args(ALL_FEATURES);
    run_command(cargo.args(["--", "-D", "warnings"]))
}

fn docs(workspace: &Workspace) -> anyhow::Result<()> {
    libtorch(workspace)?;
    let mut cargo = workspace.cargo("doc");
    run_command(
        cargo
            .args(["--workspace", "--no-deps", "--locked"])
            .args(ALL_FEATURES)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn contracts(workspace: &Workspace) -> anyhow::Result<()> {
    run_command(setup::buf(workspace)?.arg("lint").current_dir(&workspace.root))
}

fn dependencies(workspace: &Workspace) -> anyhow::Result<()> {
    dependencies::check(workspace)
}
