//! `switchboard ingest`.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use futures::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use switchboard_proto::knowledge::v1::{
    DocumentHeader, IngestRequest, IngestResult, IngestStatus, ingest_request::Part,
    knowledge_service_client::KnowledgeServiceClient,
};

use super::{
    Global,
    client::{Client, ServerArgs, explain},
    show,
};
use crate::roles::Role;

/// Roles that ingest needs in this process.
pub(crate) const ROLES: [Role; 3] = [Role::Embeddings, Role::Inference, Role::Knowledge];
/// Largest piece of a document in one message; the contract allows 1 MiB.
const CHUNK: usize = 256 * 1024;
/// Files larger than this are not even read; the service's own limit is lower.
const LARGEST_FILE: u64 = 1 << 30;
/// A large document may take minutes to embed on a small machine.
const LIMIT: Duration = Duration::from_secs(1800);
/// Documents in flight: while one is being written, the next is being embedded.
const AT_ONCE: usize = 2;

/// Flags of `ingest`.
#[derive(Args)]
pub(crate) struct IngestArgs {
    /// Files, or folders with everything below them. A document's id is its path below the folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Language of documents that do not say it themselves, such as `en`
    #[arg(long, default_value = "")]
    locale: String,
    /// Who may see documents that do not say it themselves; may be repeated. Everyone by default
    #[arg(long = "audience", value_name = "NAME")]
    audiences: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// A file that is to be stored.
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
}

/// What became of everything.
#[derive(Default, Serialize)]
struct Summary {
    documents: usize,
    created: usize,
    updated: usize,
    unchanged: usize,
    rejected: Vec<Rejected>,
    passages: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Rejected {
    path: String,
    reason: String,
}

pub(crate) async fn ingest(global: &Global, args: IngestArgs) -> Result<ExitCode> {
    let files = collect(&args.paths)?;
    anyhow::ensure!(!files.is_empty(), "there are no files under {:?}", args.paths);
    let client = Client::open(global, &args.server, &ROLES).await?;
    let began = Instant::now();
    let bar = progress(files.len());
    let mut summary = Summary { documents: files.len(), ..Summary::default() };
    let mut failure = None;
    let (service, arguments) = (&client, &args);
    let mut stored = stream::iter(&files)
        .map(|file| async move { (file, store(service, file, arguments).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((file, outcome)) = stored.next().await {
        bar.inc(1);
        bar.set_message(show::plain(&file.id));
        match outcome {
            Ok(result) => summary.add(file, result, &bar),
            // The service itself is in trouble: going on would fail every document in turn.
            Err(error) => {
                failure = Some(error.context(format!("while storing {}", file.id)));
                break;
            }
        }
    }
    drop(stored);
    bar.finish_and_clear();
    client.close().await;
    if let Some(error) = failure {
        return Err(error);
    }
    summary.seconds = began.elapsed().as_secs_f64();
    if args.json {
        show::line(&serde_json::to_string(&summary)?);
    } else {
        show::line(&summary.for_people());
    }
    Ok(if summary.rejected.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stores one document. The reply comes after it is durable.
async fn store(client: &Client, file: &File, args: &IngestArgs) -> Result<IngestResult> {
    let rejected = |reason: String| IngestResult {
        document_id: file.id.clone(),
        status: IngestStatus::Rejected.into(),
        reason,
        ..IngestResult::default()
    };
    let bytes = match read(&file.path).await {
        Ok(bytes) => bytes,
        Err(reason) => return Ok(rejected(reason)),
    };
    let header = DocumentHeader {
        document_id: file.id.clone(),
        locale: args.locale.clone(),
        audiences: args.audiences.clone(),
        ..DocumentHeader::default()
    };
    send(client, header, bytes).await?.map_or_else(|reason| Ok(rejected(reason)), Ok)
}

/// Sends one document. The inner error says why the service refused this document alone.
pub(crate) async fn send(
    client: &Client,
    header: DocumentHeader,
    bytes: Vec<u8>,
) -> Result<std::result::Result<IngestResult, String>> {
    let mut parts = vec![IngestRequest { part: Some(Part::Header(header)) }];
    parts.extend(bytes.chunks(CHUNK).map(|chunk| IngestRequest { part: Some(Part::Chunk(chunk.to_vec())) }));
    let mut service = KnowledgeServiceClient::new(client.channel(Role::Knowledge));
    match service.ingest(client.request(stream::iter(parts), LIMIT)?).await {
        Ok(response) => {
            response.into_inner().results.into_iter().next().context("no result came back").map(Ok)
        }
        Err(status) if matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::OutOfRange) => {
            Ok(Err(status.message().to_owned()))
        }
        Err(status) => Err(explain(&status)),
    }
}

/// Reads a file, unless it is far too large.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > LARGEST_FILE {
        return Err(format!("{size} bytes; at most {LARGEST_FILE} are read"));
    }
    tokio::fs::read(path).await.map_err(|error| error.to_string())
}

/// Every file under `paths`, in order, hidden ones and links left out.
pub(crate) fn collect(paths: &[PathBuf]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in paths {
        let kind = std::fs::metadata(path).with_context(|| format!("{path:?} cannot be read"))?;
        if kind.is_dir() {
            walk(path, path, &mut files)?;
        } else {
            let id = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            files.push(File { id, path: path.clone() });
        }
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{folder:?} cannot be read"))?;
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            files.push(File { id: parts.join("/"), path });
        }
    }
    Ok(())
}

pub(crate) fn progress(total: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (left: {eta})  {wide_msg}");
    ProgressBar::new(total as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Summary {
    fn add(&mut self, file: &File, result: IngestResult, bar: &ProgressBar) {
        self.passages += u64::from(result.passages);
        match result.status() {
            IngestStatus::Created => self.created += 1,
            IngestStatus::Updated => self.updated += 1,
            IngestStatus::Unchanged => self.unchanged += 1,
            IngestStatus::Rejected | IngestStatus::Unspecified => {
                let rejected =
                    Rejected { path: file.path.display().to_string(), reason: show::plain(&result.reason) };
                bar.suspend(|| eprintln!("rejected {}: {}", rejected.path, rejected.reason));
                self.rejected.push(rejected);
            }
        }
    }

    fn for_people(&self) -> String {
        format!(
            "{} documents in {:.1} s: {} new, {} changed, {} unchanged, {} rejected; {} passages",
            self.documents,
            self.seconds,
            self.created,
            self.updated,
            self.unchanged,
            self.rejected.len(),
            self.passages
        )
    }
}
