//! `cargo xtask bench`.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::libtorch::libtorch;
use crate::process::{output, run as run_command};
use crate::workspace::{ALL_FEATURES, Workspace};
use crate::{python, setup};

/// Sets up, then runs the benchmarks in `benches/`: those whose names `rest` begins with, or all.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    setup::runtime_and_model(workspace)?;
    setup::original_model(workspace)?;
    python::packages(workspace)?;
    libtorch(workspace)?;
    let metadata = metadata(workspace)?;
    let all = targets(&metadata);
    let (named, rest) = split(rest, &all);
    let names: Vec<&str> = if named.is_empty() { all } else { named.iter().map(String::as_str).collect() };
    let mut cargo = workspace.cargo("bench");
    cargo.args(["--locked", "-p", "switchboard"]).args(ALL_FEATURES);
    // Only benchmark targets: the test harness of other targets refuses criterion's arguments.
    for name in &names {
        cargo.args(["--bench", name]);
    }
    run_command(cargo.args(rest))?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    println!("\nWhat criterion measured is below {}", Path::new(target).join("criterion").display());
    Ok(())
}

/// What cargo knows of the workspace.
fn metadata(workspace: &Workspace) -> anyhow::Result<Value> {
    let text = output(workspace.cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo metadata wrote no JSON")
}

/// The names of the benchmarks of the root package that this command runs.
fn targets(metadata: &Value) -> Vec<&str> {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], Vec::as_slice)
    }
    let packages = list(&metadata["packages"]).iter();
    packages
        .filter(|package| package["name"] == "switchboard")
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| list(&target["kind"]).iter().any(|kind| kind == "bench"))
        .filter_map(|target| target["name"].as_str())
        // It takes minutes and is a command of its own.
        .filter(|name| *name != "chaos")
        .collect()
}

/// The benchmarks that the arguments begin with, and the arguments behind them. A name is cargo's to
/// choose by: only criterion would take it for a filter, and the benchmarks that print tables have none.
fn split<'a>(arguments: &'a [String], targets: &[&str]) -> (&'a [String], &'a [String]) {
    let names = arguments.iter().take_while(|argument| targets.contains(&argument.as_str())).count();
    arguments.split_at(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_names_choose_benchmarks_and_the_rest_is_passed_on() {
        for (line, names, rest) in [
            ("", 0, 0),
            ("hop", 1, 0),
            ("hop turn tcp", 2, 1),
            ("tcp hop", 0, 2),
            ("hop -- --quick", 1, 2),
            ("-- hop", 0, 2),
        ] {
            let words: Vec<String> = line.split_whitespace().map(String::from).collect();
            let (chosen, passed) = split(&words, &["hop", "turn"]);
            assert_eq!((chosen, passed.len()), (&words[..names], rest), "{line:?}");
        }
    }

    #[test]
    fn the_benchmarks_are_those_of_the_root_package() {
        let metadata = serde_json::json!({"packages": [
            {"name": "switchboard", "targets": [
                {"name": "switchboard", "kind": ["bin"]}, {"name": "hop", "kind": ["bench"]},
                {"name": "chaos", "kind": ["bench"]},
            ]},
            {"name": "xtask", "targets": [{"name": "other", "kind": ["bench"]}]},
        ]});
        assert_eq!(targets(&metadata), ["hop"]);
        assert!(targets(&Value::Null).is_empty());
    }
}
