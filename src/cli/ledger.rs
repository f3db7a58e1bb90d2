//! `switchboard ledger`: what was decided and done, through a server or from a data folder.

mod proof;
mod verify;

use std::{collections::BTreeMap, io::IsTerminal as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use switchboard_proto::ledger::v1::{
    ExportRequest, Order, QueryRequest, Record, RecordKind, export_response,
    ledger_service_client::LedgerServiceClient,
};

use super::{
    Global,
    client::{Client, ServerArgs, explain},
    show,
};
use crate::roles::Role;

/// A page of records.
const PAGE: u32 = 200;
/// How long one page may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a whole chain may take.
const LONG: Duration = Duration::from_secs(3600);

/// What to do with the ledger.
#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// Read a whole chain and compare it with what was signed; exit status 1 when it was tampered with
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArgs),
    /// List records by what they are about, newest first
    Query(QueryArgs),
    /// Write the open part of records as Parquet files, by day, to a folder or a bucket
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Prove that one record is in the ledger, for somebody who has only the public key
    #[command(after_help = proof::HELP)]
    Prove(proof::ProveArgs),
    /// Check a proof that `prove` wrote, with the public key alone; exit status 1 when it does not hold
    CheckProof(proof::CheckArgs),
}

/// Flags of `ledger query`.
#[derive(Args)]
pub(crate) struct QueryArgs {
    /// Records of this kind: turn, route, policy-decision, cache-decision, tool-proposal, tool-effect,
    /// hand-off, feedback, outcome (whether a matter was confirmed, assumed to be settled, or reopened),
    /// erasure; may be repeated
    #[arg(long = "kind", value_parser = kind, value_name = "KIND")]
    kinds: Vec<RecordKind>,
    /// Records of this conversation
    #[arg(long, default_value = "", value_name = "ID")]
    conversation: String,
    /// Records of this turn: it, what was decided in it, its feedback and its outcome. Turns are numbered in
    /// each conversation, so that --conversation belongs to it
    #[arg(long, default_value = "", value_name = "ID")]
    turn: String,
    /// Records that concern this customer, by pseudonym
    #[arg(long, default_value = "", value_name = "ID")]
    subject: String,
    /// Records that add to the one with this id, such as its feedback
    #[arg(long, default_value = "", value_name = "ID")]
    refers_to: String,
    /// Records that were appended at this time or later, such as 2026-11-28T09:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    since: Option<std::time::SystemTime>,
    /// Records that were appended before this time
    #[arg(long, value_parser = time, value_name = "TIME")]
    until: Option<std::time::SystemTime>,
    /// Begin with the first record
    #[arg(long)]
    oldest_first: bool,
    /// Most records to print
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print one JSON object a line, with everything that a record has
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

const EXPORT_HELP: &str = "\
A node writes to where its section [ledger.export] says: a folder, or a bucket of a store that speaks S3 (`url`,
`endpoint`, `region`, and `credentials` or `credentials_file`). The same records go to the same files.

Examples:
  switchboard ledger export --to /var/exports
  SWITCHBOARD__LEDGER__EXPORT__CREDENTIALS=ID:SECRET switchboard ledger export --to s3://lake/switchboard \
    --set ledger.export.endpoint=https://minio.example:9000";

/// Flags of `ledger export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// First sequence; what an earlier export wrote from there on is written again
    #[arg(long, default_value_t = 1, value_name = "N")]
    from: u64,
    /// Folder or `s3://bucket/prefix` to write to, in place of what the configuration says; not with
    /// --server, which writes to where its node does
    #[arg(long, value_name = "PLACE", conflicts_with = "server")]
    to: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn kind(name: &str) -> Result<RecordKind, String> {
    let full = format!("RECORD_KIND_{}", name.to_uppercase().replace('-', "_"));
    RecordKind::from_str_name(&full).filter(|kind| *kind != RecordKind::Unspecified).ok_or_else(|| {
        "a kind is turn, route, policy-decision, cache-decision, tool-proposal, tool-effect, hand-off, feedback, \
         outcome or erasure"
            .to_owned()
    })
}

fn kind_name(kind: RecordKind) -> String {
    kind.as_str_name().trim_start_matches("RECORD_KIND_").to_lowercase().replace('_', "-")
}

fn time(text: &str) -> Result<std::time::SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|error| format!("{error}; such as 2026-11-28T09:00:00Z"))
}

pub(crate) async fn ledger(global: &Global, command: LedgerCommand) -> Result<ExitCode> {
    match command {
        LedgerCommand::Verify(args) => verify::verify(global, args).await,
        LedgerCommand::Query(args) => query(global, args).await,
        LedgerCommand::Export(args) => export(global, args).await,
        LedgerCommand::Prove(args) => proof::prove(global, args).await,
        LedgerCommand::CheckProof(args) => proof::check(&args),
    }
}

async fn query(global: &Global, args: QueryArgs) -> Result<ExitCode> {
    let client = Client::open(global, &args.server, &[Role::Ledger]).await?;
    let found = pages(&client, &args).await;
    client.close().await;
    let records = found?;
    if args.json {
        for record in &records {
            show::line(&json_of(record).to_string());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if records.is_empty() {
        show::line("No record is as asked.");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    let header =
        ["sequence", "appended", "kind", "conversation", "turn", "stage", "subject", "record", "facts"];
    show::line(&show::table(&header, &rows));
    Ok(ExitCode::SUCCESS)
}

async fn pages(client: &Client, args: &QueryArgs) -> Result<Vec<Record>> {
    let mut service = LedgerServiceClient::new(client.channel(Role::Ledger));
    let order = if args.oldest_first { Order::OldestFirst } else { Order::NewestFirst };
    let mut request = QueryRequest {
        kinds: args.kinds.iter().map(|kind| i32::from(*kind)).collect(),
        conversation_id: args.conversation.clone(),
        turn_id: args.turn.clone(),
        subject: args.subject.clone(),
        refers_to: args.refers_to.clone(),
        since: args.since.map(Into::into),
        until: args.until.map(Into::into),
        order: order.into(),
        ..QueryRequest::default()
    };
    let mut records = Vec::new();
    while records.len() < args.limit {
        let left = u32::try_from(args.limit - records.len()).unwrap_or(PAGE);
        request.page_size = left.min(PAGE);
        let page = service.query(client.request(request.clone(), ANSWER)?).await;
        let page = page.map_err(|status| explain(&status))?.into_inner();
        records.extend(page.records);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(records)
}

fn row(record: &Record) -> Vec<String> {
    let facts: BTreeMap<_, _> = record.attributes.iter().collect();
    let facts: Vec<String> = facts.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut facts = show::plain(&facts.join(" ")).replace('\n', " ");
    if let Some((end, _)) = facts.char_indices().nth(60) {
        facts.truncate(end);
        facts.push('…');
    }
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { show::plain(text) };
    vec![
        record.sequence.to_string(),
        when(record.ledger_time),
        kind_name(record.kind()),
        or_none(&record.conversation_id),
        or_none(&record.turn_id),
        or_none(&record.stage),
        or_none(&record.subject),
        record.record_id.clone(),
        or_none(&facts),
    ]
}

fn when(time: Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| std::time::SystemTime::try_from(time).ok());
    time.map_or_else(|| "-".to_owned(), |time| humantime::format_rfc3339_millis(time).to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json_of(record: &Record) -> Value {
    let versions = record.versions.clone().unwrap_or_default();
    let attributes: BTreeMap<_, _> = record.attributes.iter().collect();
    json!({
        "sequence": record.sequence, "record_id": record.record_id, "kind": kind_name(record.kind()),
        "conversation_id": record.conversation_id, "turn_id": record.turn_id, "stage": record.stage,
        "time": when(record.time), "ledger_time": when(record.ledger_time), "subject": record.subject,
        "refers_to": record.refers_to,
        "versions": { "model": versions.model, "policy": versions.policy, "prompt": versions.prompt,
            "knowledge": versions.knowledge },
        "attributes": attributes, "seal": record.seal().as_str_name().trim_start_matches("SEAL_").to_lowercase(),
        "previous_hash": hex(&record.previous_hash), "hash": hex(&record.hash), "content": hex(&record.content),
    })
}

async fn export(global: &Global, args: ExportArgs) -> Result<ExitCode> {
    let global = match args.to.as_deref() {
        None => global.clone(),
        Some(url) if url.starts_with("s3://") => {
            global.over(&[("ledger.export.url", url), ("ledger.export.folder", "")])
        }
        Some(folder) => global.over(&[("ledger.export.folder", folder), ("ledger.export.url", "")]),
    };
    let client = Client::open(&global, &args.server, &[Role::Ledger]).await?;
    let bar = bar();
    let done = exported(&client, args.from, &bar).await;
    bar.finish_and_clear();
    client.close().await;
    let summary = done?;
    if args.json {
        let told = json!({ "records": summary.records, "files": summary.files, "manifest": summary.manifest,
            "checkpoint_sequence": summary.checkpoint_sequence });
        show::line(&told.to_string());
    } else {
        for file in &summary.files {
            show::line(&show::plain(file));
        }
        show::line(&format!(
            "{} records, covered by the checkpoint at sequence {}; {}",
            summary.records,
            summary.checkpoint_sequence,
            show::plain(&summary.manifest)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn exported(
    client: &Client,
    from: u64,
    bar: &ProgressBar,
) -> Result<switchboard_proto::ledger::v1::ExportSummary> {
    let mut service = LedgerServiceClient::new(client.channel(Role::Ledger));
    let request = client.request(ExportRequest { from_sequence: from }, LONG)?;
    let mut parts = service.export(request).await.map_err(|status| explain(&status))?.into_inner();
    while let Some(part) = parts.message().await.map_err(|status| explain(&status))? {
        match part.part.context("an empty message came")? {
            export_response::Part::Progress(progress) => {
                bar.set_length(progress.total);
                bar.set_position(progress.records);
            }
            export_response::Part::Summary(summary) => return Ok(summary),
        }
    }
    bail!("the ledger ended without saying what it wrote")
}

/// A bar on the error output of a terminal.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} records, {per_sec}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Where a proof goes or comes from.
fn file(path: &Path) -> Result<String> {
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    anyhow::ensure!(length <= 1 << 20, "{}: a proof has at most 1 MiB", path.display());
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
