//! `cargo xtask chaos`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::process::output;
use crate::workspace::{FEATURES, Workspace};
use crate::{debian, setup};

pub(crate) const HELP: &str = "\
Sets up, builds, and starts a mesh of real processes on this machine, two of each role. Under a steady load
of turns one of the two is killed and frozen, etcd and Redis are cut off, everything is restarted, and twice as
much is asked as can be done. The client keeps a list of the turns that it was told of, and compares it with
what the mesh knows. Prints a report, and exits with an error when a goal is missed. Takes about eight minutes;
nothing outlives it.

Usage: cargo xtask chaos [options]

  --only PARTS      of kill, freeze, etcd, redis, rolling, overload; with commas between (default: all)
  --roles ROLES     which roles are killed and frozen, with commas between (default: all)
  --rounds N        how often each is killed, and frozen (default: 1)
  --seconds N       how long etcd and Redis are away, and how long overload lasts (default: 60)
  --rate R          turns a second; without it 40 % of the knee, which is looked for first
  --mesh KIND       fixed: nodes at addresses that are configured, in plain text; full: nodes that find each
                    other in etcd and know each other by certificates, gateways that share Redis
                    (default: full)
  --report FILE     where the report goes, in Markdown, with its figures as JSON beside it
                    (default: target/chaos/report.md)

  cargo xtask chaos --only kill --roles knowledge,policy --rate 20
  cargo xtask chaos --only overload --seconds 20

What the processes log is in target/chaos/logs/. Figures hold for a machine that does nothing else.";

/// Sets up and builds, then becomes the test.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    setup::runtime_and_model(workspace)?;
    let servers = "by the test, which starts its own on loopback";
    debian::require("redis-server", &["--version"], &["redis-server"], servers)?;
    debian::require("etcd", &["--version"], &["etcd-server"], servers)?;
    println!("chaos: building, optimised");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--locked", "--profile", "bench", "-p", "switchboard", "-p", "switchboard-model-server"]);
    cargo.args(["--bin", "switchboard", "--bin", "model-server", "--bench", "chaos"]).args(FEATURES);
    let messages = output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let built = |name: &str| {
        let path = executable(&messages, name);
        path.with_context(|| format!("cargo built no `{name}`"))
    };
    let program = built("switchboard")?;
    // Beside the profile's folder: the target folder may be anywhere.
    let target = program.parent().and_then(Path::parent).context("the program is in no target folder")?;
    let folder = target.join("chaos");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut test = Command::new(built("chaos")?);
    test.arg("--switchboard").arg(&program).arg("--model-server").arg(built("model-server")?);
    test.arg("--folder").arg(folder).args(rest);
    // In its place rather than below it, so that a signal reaches the one that ends the processes.
    Err(test.exec()).context("cannot run the test")
}

/// The program that cargo built for the target `name`, by its messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == name);
    built.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_their_target() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"switchboard\"},\"executable\":null}\n\
             not json\n\
             {\"target\":{\"name\":\"switchboard\"},\"executable\":\"/t/release/switchboard\"}\n\
             {\"target\":{\"name\":\"chaos\"},\"executable\":\"/t/release/deps/chaos-1\"}\n";
        assert_eq!(executable(messages, "switchboard"), Some("/t/release/switchboard".into()));
        assert_eq!(executable(messages, "chaos"), Some("/t/release/deps/chaos-1".into()));
        assert_eq!(executable(messages, "model-server"), None);
    }
}
