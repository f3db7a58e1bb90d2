//! `switchboard eval retrieval`: how well a knowledge base can be searched, measured on questions
//! with known answers.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use switchboard_proto::{
    embeddings::v1::{EmbedRequest, embeddings_service_client::EmbeddingsServiceClient},
    knowledge::v1::{
        DocumentHeader, Filter, Format, Hit, IngestStatus, QueryForm, SearchMode, SearchRequest,
        knowledge_service_client::KnowledgeServiceClient,
    },
};
use switchboard_text::context::{self, Speaker, Turn};

use super::{Global, client::Client, client::explain, ingest, show};
use crate::roles::Role;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Recall and mean reciprocal rank of the search, with 95 % intervals
    ///
    /// A passage is a hit when it overlaps a gold span, or, for the document figures, when it is
    /// from the right document. Documents are stored in a temporary folder; your data is not touched.
    Retrieval(RetrievalArgs),
}

/// Flags of `eval retrieval`.
#[derive(Args)]
pub(crate) struct RetrievalArgs {
    /// Documents, a JSON object a line: doc_id, text, and optionally title
    #[arg(long, value_name = "FILE")]
    docs: PathBuf,
    /// Questions, a JSON object a line: question, history (of "user:..." and "agent:..." lines,
    /// may be empty), gold (of doc_id, start, end in characters)
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Keep only questions without history
    #[arg(long)]
    first_turns: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Document {
    doc_id: String,
    text: String,
    #[serde(default)]
    title: Option<String>,
}

#[derive(Deserialize)]
struct Query {
    question: String,
    #[serde(default)]
    history: Vec<String>,
    gold: Vec<Gold>,
}

#[derive(Deserialize)]
struct Gold {
    doc_id: String,
    start: u32,
    end: u32,
}

/// How deep a search looks: recall is reported to 10, reciprocal ranks beyond this count as 0.
const DEPTH: u32 = 100;
const LIMIT: Duration = Duration::from_secs(120);
const RESAMPLES: usize = 1_000;
const MODES: [(&str, SearchMode); 3] =
    [("bm25", SearchMode::Lexical), ("dense", SearchMode::Dense), ("fused", SearchMode::Unspecified)];
const METRICS: [&str; 8] = ["doc@1", "doc@5", "doc@10", "doc_mrr", "span@1", "span@5", "span@10", "span_mrr"];

pub(crate) async fn eval(global: &Global, command: EvalCommand) -> Result<ExitCode> {
    let EvalCommand::Retrieval(args) = command;
    let documents: Vec<Document> = json_lines(&args.docs)?;
    let mut queries: Vec<Query> = json_lines(&args.queries)?;
    if args.first_turns {
        queries.retain(|query| query.history.is_empty());
    }
    anyhow::ensure!(!documents.is_empty(), "--docs {:?} holds no document", args.docs);
    anyhow::ensure!(!queries.is_empty(), "--queries {:?} holds no question to measure", args.queries);

    let folder = Temporary::new()?;
    let quiet = [("data", folder.0.display().to_string()), ("telemetry.log", "warn".to_owned())];
    let config = global.load(&quiet)?;
    let client = Client::embedded(&config, &ingest::ROLES).await?;
    let measured = measure(&client, documents, &queries).await;
    client.close().await;
    report(&measured?, queries.len(), args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// For each mode, the metrics of each query.
type Measured = HashMap<&'static str, Vec<[f64; METRICS.len()]>>;

async fn measure(client: &Client, documents: Vec<Document>, queries: &[Query]) -> Result<Measured> {
    let bar = ingest::progress(documents.len());
    for document in documents {
        // Ids such as `Title#3` carry their title where there is no other.
        let title = document
            .title
            .unwrap_or_else(|| document.doc_id.split('#').next().unwrap_or_default().to_owned());
        let header = DocumentHeader {
            document_id: document.doc_id.clone(),
            format: Format::Text.into(),
            title,
            ..DocumentHeader::default()
        };
        let result =
            ingest::send(client, header, document.text.into_bytes()).await?.map_err(anyhow::Error::msg)?;
        if result.status() == IngestStatus::Rejected {
            bar.suspend(|| eprintln!("rejected {}: {}", document.doc_id, show::plain(&result.reason)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let bar = ingest::progress(queries.len());
    let mut measured = Measured::new();
    for query in queries {
        let forms = forms(client, query).await?;
        for (name, mode) in MODES {
            let hits = search(client, &forms, mode).await?;
            measured.entry(name).or_default().push(score(&hits, &query.gold));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// The wordings that a conversation would search for, with their vectors.
async fn forms(client: &Client, query: &Query) -> Result<Vec<QueryForm>> {
    let history: Vec<Turn> = query.history.iter().map(|line| turn(line)).collect();
    let wordings = context::forms(&query.question, &history);
    let meant = wordings.iter().filter(|form| !form.meaning.is_empty());
    let texts = meant.map(|form| form.meaning.clone()).collect();
    let mut service = EmbeddingsServiceClient::new(client.channel(Role::Embeddings));
    let request = client.request(EmbedRequest { texts, model: String::new() }, LIMIT)?;
    let embedded = service.embed(request).await.map_err(|status| explain(&status))?.into_inner();
    let mut vectors = embedded.embeddings.into_iter();
    let forms = wordings.into_iter().map(|form| {
        let vector = if form.meaning.is_empty() { None } else { vectors.next() };
        let vector = vector.map(|embedding| embedding.values).unwrap_or_default();
        QueryForm { text: form.words, vector, weight: form.weight }
    });
    Ok(forms.collect())
}

fn turn(line: &str) -> Turn {
    match line.split_once(':') {
        Some(("agent" | "assistant", text)) => Turn { speaker: Speaker::Company, text: text.trim().into() },
        Some(("user" | "customer", text)) => Turn { speaker: Speaker::Customer, text: text.trim().into() },
        _ => Turn { speaker: Speaker::Customer, text: line.to_owned() },
    }
}

async fn search(client: &Client, forms: &[QueryForm], mode: SearchMode) -> Result<Vec<Hit>> {
    let request = SearchRequest {
        forms: forms.to_vec(),
        limit: DEPTH,
        filter: Some(Filter { all_audiences: true, ..Filter::default() }),
        mode: mode.into(),
    };
    let mut service =
        KnowledgeServiceClient::new(client.channel(Role::Knowledge)).max_decoding_message_size(64 << 20);
    let found = service.search(client.request(request, LIMIT)?).await.map_err(|status| explain(&status))?;
    Ok(found.into_inner().hits)
}

/// The metrics of one ranked list, in the order of [`METRICS`].
fn score(hits: &[Hit], gold: &[Gold]) -> [f64; METRICS.len()] {
    let rank = |is_hit: &dyn Fn(&Gold, &Hit) -> bool| {
        hits.iter().position(|hit| gold.iter().any(|gold| is_hit(gold, hit))).map(|position| position + 1)
    };
    let same = |gold: &Gold, hit: &Hit| hit.passage.as_ref().is_some_and(|p| p.document_id == gold.doc_id);
    let overlaps = |gold: &Gold, hit: &Hit| {
        same(gold, hit) && hit.passage.as_ref().is_some_and(|p| p.start < gold.end && gold.start < p.end)
    };
    let mut row = [0.0; METRICS.len()];
    for (block, rank) in [rank(&same), rank(&overlaps)].into_iter().enumerate() {
        let Some(rank) = rank else { continue };
        for (offset, depth) in [1, 5, 10].into_iter().enumerate() {
            row[block * 4 + offset] = f64::from(u8::from(rank <= depth));
        }
        row[block * 4 + 3] = 1.0 / rank as f64;
    }
    row
}

fn mean(rows: &[[f64; METRICS.len()]], metric: usize) -> f64 {
    rows.iter().map(|row| row[metric]).sum::<f64>() / rows.len() as f64
}

/// The 95 % interval of a mean by the percentile bootstrap (Efron and Tibshirani 1993, section 13.3).
fn interval(rows: &[[f64; METRICS.len()]], metric: usize) -> (f64, f64) {
    // A fixed seed: the same data gives the same interval. Numerical Recipes' 64-bit generator.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % rows.len()
    };
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..rows.len()).map(|_| rows[pick()][metric]).sum::<f64>() / rows.len() as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    (means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1])
}

fn report(measured: &Measured, questions: usize, as_json: bool) -> Result<()> {
    if as_json {
        let mut object = Map::new();
        object.insert("questions".into(), questions.into());
        for (name, _) in MODES {
            let rows = &measured[name];
            let mut figures = Map::new();
            let mut intervals = Map::new();
            for (index, metric) in METRICS.iter().enumerate() {
                figures.insert((*metric).into(), json!(mean(rows, index)));
                let (low, high) = interval(rows, index);
                intervals.insert((*metric).into(), json!([low, high]));
            }
            figures.insert("ci95".into(), Value::Object(intervals));
            object.insert(name.into(), Value::Object(figures));
        }
        show::line(&serde_json::to_string(&object)?);
        return Ok(());
    }
    let header: Vec<&str> = [&[""][..], &METRICS].concat();
    let mut lines = Vec::new();
    for (name, _) in MODES {
        let rows = &measured[name];
        let cells = (0..METRICS.len()).map(|metric| format!("{:.3}", mean(rows, metric)));
        lines.push([name.to_owned()].into_iter().chain(cells).collect());
        let ranges = (0..METRICS.len()).map(|metric| {
            let (low, high) = interval(rows, metric);
            format!("{low:.2}-{high:.2}")
        });
        lines.push([String::new()].into_iter().chain(ranges).collect());
    }
    show::line(&format!("{questions} questions; below each figure its 95 % interval"));
    show::line(&show::table(&header, &lines));
    Ok(())
}

fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = std::fs::File::open(path).with_context(|| format!("{path:?} cannot be read"))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{path:?}, line {}", index + 1);
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            rows.push(serde_json::from_str(&line).with_context(place)?);
        }
    }
    Ok(rows)
}

/// A folder that is removed again.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("switchboard-eval-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("{path:?} cannot be made"))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::knowledge::v1::Passage;

    use super::*;

    fn hit(document: &str, start: u32, end: u32) -> Hit {
        let passage = Passage { document_id: document.into(), start, end, ..Passage::default() };
        Hit { passage: Some(passage), ..Hit::default() }
    }

    #[test]
    fn a_passage_that_only_touches_the_gold_span_is_no_hit() {
        let gold = [Gold { doc_id: "a".into(), start: 10, end: 20 }];
        let row = score(&[hit("a", 0, 10), hit("b", 10, 20), hit("a", 19, 30)], &gold);
        // Right document at once; right span at rank 3.
        assert_eq!(row, [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0 / 3.0]);
    }

    #[test]
    fn the_interval_holds_the_mean() {
        let rows: Vec<_> = (0..200).map(|i| [f64::from(i % 2); METRICS.len()]).collect();
        let (low, high) = interval(&rows, 0);
        assert!(low < 0.5 && 0.5 < high && high - low < 0.2, "{low} {high}");
    }
}
