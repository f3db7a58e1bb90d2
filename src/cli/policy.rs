//! `switchboard policy`: bundles of rules on a developer's machine, and what they decide.

mod ask;
mod explain;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use switchboard_policy::bundles::{self, Checked, Entry, Tested};

use super::{Global, show};

/// The time that an entry point may take here: nobody waits for it.
const EVALUATION: Duration = Duration::from_secs(1);

/// What to do with a policy.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what a bundle holds, and what is wrong with it, as a node does before it uses one
    Check(CheckArgs),
    /// Run the tests of a bundle: its rules whose names begin with `test_`
    Test(TestArgs),
    /// Show what the rules say of a text or an action, which of them decided, and why
    Explain(Box<explain::ExplainArgs>),
}

const CHECK_HELP: &str = "\
A bundle is a folder:
  bundle.toml     version = \"1.0.0\"
  *.rego          rules of package switchboard
  *_test.rego     their tests
  data.json       what the rules look up, as data.*; or data.yaml

Its entry points are sets of decisions, {\"rule\": .., \"verdict\": .., \"reason\": ..}:
  inspect         what to do with a text (a question, a document, a draft)
  disclosures     what must be said with a draft: \"say\" has the sentence
  tool            whether a tool may be called (tool.call)
  route           whether a model may be used (model.use)
  retention       how long data is kept (data.keep): \"keep_days\"
  decide          every other action
A verdict is allow, disclose, rewrite, ask, refuse or hand_off; of several the strictest holds.

Examples:
  switchboard policy check examples/policy/bank
  cp -r examples/policy/retail my-policy && switchboard policy check my-policy";

/// Flags of `policy check`.
#[derive(Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    /// The bundle's folder; may be repeated
    #[arg(required = true, value_name = "DIR")]
    bundles: Vec<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Flags of `policy test`.
#[derive(Args)]
#[command(after_help = "\
A test is a rule that is true when it passes:
  test_a_stranger_is_asked if {
      some decision in data.switchboard.tool with input as {\"facts\": {\"effect\": \"reversible\"}}
      decision.verdict == \"ask\"
  }")]
pub(crate) struct TestArgs {
    /// The bundle's folder; may be repeated
    #[arg(required = true, value_name = "DIR")]
    bundles: Vec<PathBuf>,
    /// Show the tests that passed as well
    #[arg(long, short)]
    verbose: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) async fn policy(global: &Global, command: PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => Ok(check(&args)),
        PolicyCommand::Test(args) => Ok(test(&args)),
        PolicyCommand::Explain(args) => explain::explain(global, *args).await,
    }
}

/// Prints each bundle; success when all of them are sound and their tests pass.
fn check(args: &CheckArgs) -> ExitCode {
    let mut sound = true;
    let mut told = Vec::new();
    for folder in &args.bundles {
        let checked = bundles::check(folder, EVALUATION);
        let failed = checked.as_ref().map_or(1, |checked| failed(&checked.tests).count());
        sound &= failed == 0;
        match (args.json, checked) {
            (true, Ok(checked)) => told.push(about(folder, &checked)),
            (true, Err(error)) => told.push(json!({ "folder": folder, "error": error.to_string() })),
            (false, Ok(checked)) => print_checked(&checked),
            (false, Err(error)) => {
                show::line(&format!("{} {}", show::styled("not sound:", "31"), plain(&error)))
            }
        }
    }
    if args.json {
        show::line(&Value::from(told).to_string());
    }
    code(sound)
}

fn print_checked(checked: &Checked) {
    let Checked { bundle, rules, tests } = checked;
    let files = if *rules == 1 { "file" } else { "files" };
    let entries: Vec<&str> = bundle.entries.iter().map(|entry| entry.as_str()).collect();
    show::line(&format!(
        "{}: rules in {rules} {files}, entry points {}",
        show::plain(&bundle.to_string()),
        entries.join(", ")
    ));
    match (tests.len(), failed(tests).count()) {
        (0, _) => show::line("  no tests: add some in a file *_test.rego"),
        (all, 0) => show::line(&format!("  {all} tests pass")),
        (all, failed) => show::line(&format!("  {failed} of {all} tests fail; a node would not use it")),
    }
    for test in failed(tests) {
        print_failed(test);
    }
}

/// Prints the tests that fail; success when none does.
fn test(args: &TestArgs) -> ExitCode {
    let mut sound = true;
    let mut told = Vec::new();
    for folder in &args.bundles {
        let tests = match bundles::test(folder) {
            Ok(tests) => tests,
            Err(error) => {
                sound = false;
                match args.json {
                    true => told.push(json!({ "folder": folder, "error": error.to_string() })),
                    false => show::line(&format!("{} {}", show::styled("not sound:", "31"), plain(&error))),
                }
                continue;
            }
        };
        sound &= failed(&tests).count() == 0;
        if args.json {
            told.extend(tests.iter().map(tested));
            continue;
        }
        for test in &tests {
            match test.fault {
                Some(_) => print_failed(test),
                None if args.verbose => {
                    show::line(&format!("  {} {}", show::styled("pass", "32"), show::plain(&test.name)))
                }
                None => {}
            }
        }
        let (all, failed) = (tests.len(), failed(&tests).count());
        show::line(&format!("{}: {} of {all} tests pass", folder.display(), all - failed));
    }
    if args.json {
        show::line(&Value::from(told).to_string());
    }
    code(sound)
}

fn failed(tests: &[Tested]) -> impl Iterator<Item = &Tested> {
    tests.iter().filter(|test| test.fault.is_some())
}

fn print_failed(test: &Tested) {
    let fault = test.fault.as_deref().unwrap_or_default();
    let name = show::plain(&test.name);
    show::line(&format!(
        "  {} {name}: {} ({})",
        show::styled("FAIL", "31"),
        show::plain(fault),
        show::plain(&test.place)
    ));
}

fn about(folder: &Path, checked: &Checked) -> Value {
    let Checked { bundle, rules, tests } = checked;
    json!({
        "folder": folder, "name": &*bundle.name, "version": bundle.version, "hash": bundle.hash,
        "rules": rules, "entry_points": bundle.entries.iter().map(|entry| Entry::as_str(*entry)).collect::<Vec<_>>(),
        "tests": tests.iter().map(tested).collect::<Vec<_>>(),
    })
}

fn tested(test: &Tested) -> Value {
    json!({
        "test": test.name, "place": test.place, "passed": test.fault.is_none(), "fault": test.fault,
        "seconds": test.took.as_secs_f64(),
    })
}

/// An error's words, which can quote a file, without what would move a terminal.
fn plain(error: &dyn std::error::Error) -> String {
    show::plain(&error.to_string())
}

fn code(sound: bool) -> ExitCode {
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
