//! `switchboard eval`: how well a knowledge base is searched, and its passages ordered, measured on
//! questions with known answers.

mod data;
mod rerank;
mod retrieval;
mod statistics;
mod store;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Global;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Recall and mean reciprocal rank of the search, with 95 % intervals
    ///
    /// A passage is a hit when it answers, or, for the document figures, when it is from the right
    /// document. Documents are stored in a temporary folder; your data is not touched.
    #[command(after_help = FORMATS)]
    Retrieval(retrieval::RetrievalArgs),
    /// What reranking makes of the search's order, with 95 % intervals of the change
    ///
    /// Candidates are ranked by the reranking service as a turn would have them: by a model where
    /// there is one, else by what is known of them where `reranking.features` is on.
    #[command(after_help = FORMATS)]
    Rerank(rerank::RerankArgs),
}

const FORMATS: &str = "\
Documents are a folder, as `ingest` takes it, or a file with a JSON object a line: doc_id, text, and
optionally title. Questions are a JSON object a line: question; what was said before it, as history (of
\"user:...\" and \"agent:...\" lines) or follows (true: it leans on the question above it); and where its answer
is, as gold (of doc_id, start and end in characters) or expect (the document; `none` leaves the question
out) and contains (phrases, one of which stands in the passage).";

/// Flags of every measurement.
#[derive(Args)]
struct DataArgs {
    /// Documents: a folder, or a file of JSON Lines
    #[arg(long, value_name = "PATH")]
    docs: PathBuf,
    /// Questions, as JSON Lines
    #[arg(long, alias = "questions", value_name = "FILE")]
    queries: PathBuf,
    /// Keep only questions without history
    #[arg(long)]
    first_turns: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn eval(global: &Global, command: EvalCommand) -> Result<ExitCode> {
    match command {
        EvalCommand::Retrieval(args) => retrieval::retrieval(global, args).await?,
        EvalCommand::Rerank(args) => rerank::rerank(global, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
