//! `cargo xtask demo`: the product's main job, driven from outside and checked.
//!
//! It starts `switchboard up` on free ports with a temporary data folder, ingests a folder of
//! documents, asks each question with `switchboard ask` (over gRPC), and holds each answer against
//! what the question file expects. Nothing here knows the example company but the default paths.

mod check;
mod etcd;
mod questions;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::process::{output, output_within};
use crate::workspace::{FEATURES, Workspace};
use crate::{debian, setup};
use check::{Turn, check};
use etcd::Etcd;
use questions::Question;
use server::Server;

pub(crate) const HELP: &str = "\
Sets up, builds, starts a server on free ports with a temporary data folder, ingests documents, asks
questions over gRPC, and prints each answer with its sources and the stages of its turn. Exits with
an error when any answer is not as expected. The server is stopped and its data removed at the end.

Usage: cargo xtask demo [--processes] [--docs DIR --questions FILE]

  --processes        a process for each role: they find each other in an etcd that is started with them,
                     and talk over mTLS with certificates that are made for it
  --docs DIR         the documents: Markdown, HTML, text, PDF, FAQ tables as CSV or JSON Lines
                     (default: examples/acme/knowledge)
  --questions FILE   the questions (default: examples/acme/demo.jsonl)

In FILE, each line is a question, a TAB, and the document that should be cited: its path below DIR,
or `none` when the documents do not answer. Empty lines and lines that begin with `#` are skipped.

  How long do refunds take?<TAB>billing/refunds.md
  Do you sell boats?<TAB>none

A line that begins with `{` is a JSON object instead, with the fields
  question   the question
  expect     the document, or \"none\"
  contains   (optional) phrases, one of which must stand in the answer or its quotes
  every      (optional) phrases all of which must stand there
  never      (optional) phrases of which none may stand there
  outcome    (optional) how the turn must end: answered, asked, unanswered, handed_off or refused
  product, jurisdiction   (optional) for the rules of the policy, such as savings and GB
  follows    (optional) true: asked in the conversation of the line before

A question with a card number in it also fails when the number is found in the answer, in the log or
in the stored data.";

/// Model load and warm-up on a slow machine take a few seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Far above any budget of a turn: reaching it means that the answer hangs.
const ASK_LIMIT: Duration = Duration::from_secs(120);
/// Some thousand documents on two cores.
const INGEST_LIMIT: Duration = Duration::from_secs(3600);

/// The second tenant of the example, whose customers are answered under stricter rules.
const BANK: &str = "bank";

/// What the command line asks for.
struct Options {
    processes: bool,
    docs: PathBuf,
    /// The documents of [`BANK`]; none with documents of a person's own.
    bank: Option<PathBuf>,
    questions: PathBuf,
    /// Whether a document that cannot be read is a failure: it is in the project's own example.
    strict: bool,
}

/// Runs the demo. An error when a step fails or an answer is not as expected.
pub(crate) fn run(workspace: &Workspace, rest: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(workspace, rest)?;
    let questions = questions::read(&options.questions)?;
    setup::runtime_and_model(workspace)?;
    let binary = build(workspace)?;
    // Ends after the server.
    let etcd = options.processes.then(registry).transpose()?;
    let mut more = etcd.as_ref().map_or_else(Vec::new, |etcd| {
        vec!["--processes".to_owned(), "--set".to_owned(), format!("discovery.etcd={}", etcd.url)]
    });
    let bundles = workspace.root.join("examples/policy");
    let policies = [format!("policy.bundles={}", bundles.display()), format!("policy.tenants.{BANK}={BANK}")];
    more.extend(policies.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
    let server = Server::start(&binary, workspace, START_LIMIT, &more)?;
    println!("demo: `switchboard up` is ready after {} ms, gRPC at {}", server.ready_ms, server.grpc);
    let result = converse(&server, &options, &questions);
    let failed = result.as_ref().map_or(true, |turns| turns.iter().any(|turn| !turn.faults.is_empty()));
    let stopped = server.stop(failed.then_some(&workspace.cache));
    let turns = result?;
    summarise(&turns);
    stopped?;
    let failed = turns.iter().filter(|turn| !turn.faults.is_empty()).count();
    ensure!(failed == 0, "{failed} of {} answers are not as expected", turns.len());
    Ok(())
}

/// An etcd for the processes to meet in.
fn registry() -> anyhow::Result<Etcd> {
    debian::require(
        "etcd",
        &["--version"],
        &["etcd-server"],
        "by `--processes`, for nodes to find each other",
    )?;
    Etcd::start()
}

impl Options {
    fn parse(workspace: &Workspace, rest: &[String]) -> anyhow::Result<Options> {
        let (mut docs, mut questions, mut processes) = (None, None, false);
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            if argument == "--processes" {
                processes = true;
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let place = match name {
                "--docs" => &mut docs,
                "--questions" => &mut questions,
                _ => bail!("unexpected argument `{argument}`; see --help"),
            };
            let value = value.or_else(|| rest.next().cloned());
            *place = Some(PathBuf::from(value.with_context(|| format!("{name} needs a value"))?));
        }
        let strict = docs.is_none();
        let (docs, questions, bank) = match (docs, questions) {
            (Some(docs), Some(questions)) => (docs, questions, None),
            (None, None) => {
                let examples = workspace.root.join("examples");
                let acme = examples.join("acme");
                (acme.join("knowledge"), acme.join("demo.jsonl"), Some(examples.join("bank/knowledge")))
            }
            _ => bail!("--docs and --questions go together; see --help"),
        };
        ensure!(docs.is_dir(), "--docs: {} is not a folder", docs.display());
        Ok(Options { processes, docs: docs.canonicalize()?, bank, questions, strict })
    }
}

/// Builds the binary and returns its path.
fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    println!("demo: building switchboard");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--locked", "-p", "switchboard", "--bin", "switchboard"]).args(FEATURES);
    let messages = output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.next_back().context("cargo built no executable")
}

/// Ingests and asks. The turns come back in the order of the questions, with what is wrong in each.
fn converse<'a>(
    server: &Server,
    options: &Options,
    questions: &'a [Question],
) -> anyhow::Result<Vec<Turn<'a>>> {
    // The gateway takes a key up within about a second, while the first documents are stored.
    let bank = options.bank.as_ref().map(|_| server.key(BANK)).transpose()?;
    ingest(server.client("ingest"), &options.docs, options.strict)?;
    if let Some((docs, key)) = options.bank.as_ref().zip(bank.as_ref()) {
        let mut command = server.client("ingest");
        command.env("SWITCHBOARD_API_KEY", key);
        ingest(command, docs, options.strict)?;
    }
    let mut turns: Vec<Turn> = Vec::new();
    for (index, question) in questions.iter().enumerate() {
        let whose = question.tenant.as_ref().map(|tenant| format!(" ({tenant})")).unwrap_or_default();
        println!("\n--- {} of {}{whose}: {}\n", index + 1, questions.len(), question.text);
        let before = if question.follows { turns.last() } else { None };
        let conversation = before.and_then(|turn| turn.answer["conversation_id"].as_str());
        let mut command = server.client("ask");
        if let Some(tenant) = &question.tenant {
            ensure!(tenant == BANK, "there is no tenant `{tenant}` in the demo but `{BANK}`");
            command
                .env("SWITCHBOARD_API_KEY", bank.as_ref().context("the bank's documents were not stored")?);
        }
        for (flag, value) in [("--product", &question.product), ("--jurisdiction", &question.jurisdiction)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        let asked = ask(server, command, index, &question.text, conversation);
        let (answer, mut faults) = match asked {
            Ok(answer) => {
                let faults = check(question, &answer, conversation);
                (answer, faults)
            }
            Err(error) => (Value::Null, vec![format!("{error:#}")]),
        };
        faults.extend(check::kept_back(question, &server.written()?));
        for fault in &faults {
            println!("FAILED: {fault}");
        }
        turns.push(Turn { question, answer, faults });
    }
    on_record(server, &mut turns)?;
    Ok(turns)
}

/// Shows what is on record of the demo, and notes where a hand-off is missing there.
fn on_record(server: &Server, turns: &mut [Turn]) -> anyhow::Result<()> {
    println!("\n--- who waits for a person: switchboard handoffs list\n");
    let shown = output_within(&mut server.subcommand("handoffs", &["list"]), ASK_LIMIT)?;
    ensure!(shown.status.success(), "`switchboard handoffs list` ended with {}", shown.status);
    let mut command = server.subcommand("handoffs", &["list"]);
    let listed = output_within(command.arg("--json").stdout(Stdio::piped()), ASK_LIMIT)?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for turn in turns.iter_mut().filter(|turn| turn.question.tenant.is_none()) {
        if let Some(id) = turn.answer["hand_off"]["hand_off_id"].as_str()
            && !listed.contains(id)
        {
            turn.faults.push("the hand-off is not on record".into());
        }
    }
    println!("\n--- whether the record of it all is whole: switchboard ledger verify\n");
    let verified = output_within(&mut server.subcommand("ledger", &["verify"]), ASK_LIMIT)?;
    ensure!(verified.status.success(), "`switchboard ledger verify` ended with {}", verified.status);
    Ok(())
}

fn ingest(mut command: Command, docs: &Path, strict: bool) -> anyhow::Result<()> {
    println!("demo: ingesting {}", docs.display());
    command.arg("--json").arg("--").arg(docs).stdout(Stdio::piped());
    let done = output_within(&mut command, INGEST_LIMIT)?;
    let text = String::from_utf8_lossy(&done.stdout);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let report: Value = serde_json::from_str(last)
        .with_context(|| format!("`switchboard ingest` ended with {} and reported nothing", done.status))?;
    let rejected = report["rejected"].as_array().map(Vec::as_slice).unwrap_or_default();
    for document in rejected {
        let text = |key: &str| document[key].as_str().unwrap_or("?");
        println!("demo: rejected {}: {}", text("path"), text("reason"));
    }
    let stored = report["documents"].as_u64().unwrap_or(0);
    let spent = report["seconds"].as_f64().unwrap_or_default();
    println!("demo: {stored} documents, {} passages, {spent:.1} s", report["passages"]);
    ensure!(stored > 0, "no document of {} was stored", docs.display());
    // A document that is rejected is reported above and does not fail a folder of a person's own.
    ensure!(!strict || rejected.is_empty(), "{} documents were rejected", rejected.len());
    ensure!(!strict || done.status.success(), "`switchboard ingest` ended with {}", done.status);
    Ok(())
}

/// Asks one question: the answer for people goes to the terminal, and the one for programs comes back.
fn ask(
    server: &Server,
    mut command: Command,
    index: usize,
    text: &str,
    conversation: Option<&str>,
) -> anyhow::Result<Value> {
    let file = server.folder().join(format!("answer-{index}.json"));
    command.arg("--json-file").arg(&file);
    if let Some(id) = conversation {
        command.args(["--conversation", id]);
    }
    let done = output_within(command.arg("--").arg(text), ASK_LIMIT)?;
    ensure!(done.status.success(), "`switchboard ask` ended with {}", done.status);
    let json = fs::read(&file).context("`switchboard ask` wrote no JSON file")?;
    serde_json::from_slice(&json).context("`switchboard ask` wrote a broken JSON file")
}

fn summarise(turns: &[Turn]) {
    let first_cited =
        |turn: &Turn| check::cited(&turn.answer).first().map_or("no source".into(), |id| (*id).into());
    let cited: Vec<String> = turns.iter().map(first_cited).collect();
    let width = cited.iter().map(String::len).max().unwrap_or_default();
    println!("\n  #  result       time  {:width$}  question", "source");
    for ((index, turn), cited) in (1..).zip(turns).zip(&cited) {
        let outcome = if turn.faults.is_empty() { "ok" } else { "FAILED" };
        let spent = turn.answer["spent_ms"].as_f64();
        let spent = spent.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        println!("{index:>3}  {outcome:<6} {spent:>10}  {cited:width$}  {}", turn.question.text);
        for fault in &turn.faults {
            println!("{:24}{fault}", "");
        }
    }
    println!();
}

/// Creates a folder that only this user can read.
fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        let workspace = Workspace::find().unwrap();
        Options::parse(&workspace, &line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_example_is_the_default_and_strict() {
        let options = parse("").unwrap();
        assert!(options.docs.ends_with("examples/acme/knowledge") && options.strict);
        assert!(questions::read(&options.questions).unwrap().len() >= 6);
    }

    #[test]
    fn a_folder_of_ones_own_comes_with_its_questions() {
        let options = parse("--docs=/ --questions q.tsv").unwrap();
        assert_eq!((options.docs.as_path(), options.strict), (Path::new("/"), false));
        let message = |line| parse(line).err().unwrap().to_string();
        assert_eq!(message("--docs /"), "--docs and --questions go together; see --help");
        assert_eq!(message("--docs"), "--docs needs a value");
        assert_eq!(message("--doc /"), "unexpected argument `--doc`; see --help");
        assert_eq!(message("--docs /no-such --questions q"), "--docs: /no-such is not a folder");
    }
}
