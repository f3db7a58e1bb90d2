//! What do 8-bit weights give and take, against 32-bit ones?
//!
//! Makes all-MiniLM-L6-v2 in its three forms, then measures each: the speed of batches, forms taking
//! turns; whether a text's vector depends on the texts beside it in a batch, and how near it is to
//! the fp32 one; and, where the evaluation data is, search with the vectors (`switchboard eval
//! retrieval` on doc2dial's first turns). That data is looked for in `../shared/data`, or in the
//! folder that `SWITCHBOARD_EVAL_DATA` names. Prints tables; takes some four minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switchboard_mesh::{Call, Channel, Context, Deadline, Tenant};
use switchboard_model_server::{
    Config,
    bench::{self, Request},
};
use switchboard_onnx::import::{self, Options, Weights};
use switchboard_proto::{
    inference::v1::{EmbedRequest, Vector, inference_service_client::InferenceServiceClient},
    open_inference::{ModelStatisticsRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
};
use switchboard_text::sentences;

const ROUNDS: usize = 5;
/// Of each measurement of a round.
const SECONDS: f64 = 1.0;
/// What the model is made of; `cargo xtask bench` puts it there.
const ORIGINAL: &str = ".cache/safetensors/all-MiniLM-L6-v2";
const NAME: &str = "all-MiniLM-L6-v2";
/// The forms by the names that `models import --weights` has for them; ratios are to the first.
const FORMS: [(&str, Weights); 3] =
    [("fp32", Weights::Fp32), ("int8", Weights::Int8Dynamic), ("q8", Weights::Weights8)];
/// Texts in a batch, and tokens of each.
const CASES: [(usize, usize); 4] = [(1, 16), (8, 16), (32, 16), (32, 64)];
/// Texts that are embedded together.
const TOGETHER: usize = 32;
/// Share of a batch that may be padding: the model server batches less alike texts apart.
const PADDING: f64 = 0.08;
/// Bytes of a text; shorter ones say nothing.
const SHORTEST: usize = 20;
const DOCUMENTS: &str = "retrieval_doc2dial_docs.jsonl";
const QUESTIONS: &str = "retrieval_doc2dial_queries.jsonl";

/// A form of the model, in a repository of its own.
struct Form {
    name: &'static str,
    repository: PathBuf,
    bytes: u64,
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir()?;
    let forms = make(&root.join(ORIGINAL), folder.path())?;

    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("\nBatches through one session, {cores} threads; medians of {ROUNDS} interleaved rounds\n");
    speed(&forms)?;

    let texts = texts(&root.join("examples/acme/knowledge"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut embedded = Vec::new();
    for form in &forms {
        let work = Embedded::measure(form, &texts, folder.path());
        embedded.push(runtime.block_on(work).with_context(|| form.name)?);
    }
    let data = std::env::var_os("SWITCHBOARD_EVAL_DATA").map_or(root.join("../shared/data"), PathBuf::from);
    let found = data.join(DOCUMENTS).is_file() && data.join(QUESTIONS).is_file();
    let found: Option<Vec<Value>> =
        found.then(|| forms.iter().map(|form| search(root, form, &data)).collect()).transpose()?;
    quality(&forms, &embedded, found.as_deref());
    if found.is_none() {
        println!(
            "\nSearch is not measured: {} has no {DOCUMENTS} and {QUESTIONS}; set SWITCHBOARD_EVAL_DATA to \
             their folder.",
            data.display()
        );
    }
    Ok(())
}

/// Makes the model's forms of the folder `original`.
fn make(original: &Path, folder: &Path) -> Result<Vec<Form>> {
    ensure!(
        original.join("model.safetensors").is_file(),
        "{} has no model.safetensors: run `cargo xtask bench`, which puts it there",
        original.display()
    );
    let make = |(name, weights)| {
        let repository = folder.join(name);
        let options = Options { weights, ..Options::default() };
        let report = import::bert(original, &repository.join(NAME), &options)?;
        Ok(Form { name, repository, bytes: report.bytes })
    };
    FORMS.into_iter().map(make).collect()
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn speed(forms: &[Form]) -> Result<()> {
    // Milliseconds and texts a second of each round, by form and case.
    let mut measured: BTreeMap<(usize, usize), Vec<[f64; 2]>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (case, (batch, tokens)) in CASES.into_iter().enumerate() {
            for (at, form) in forms.iter().enumerate() {
                let request = Request {
                    model: form.repository.join(NAME),
                    batches: vec![batch],
                    tokens: Some(vec![tokens]),
                    instances: Some(vec![1]),
                    threads: None,
                    seconds: SECONDS,
                };
                let cells = bench::run(&Config::default(), &request, |_| ())?;
                let [cell] = cells.as_slice() else { anyhow::bail!("one combination gives one cell") };
                let figures = [cell.p50.as_secs_f64() * 1e3, cell.per_second];
                measured.entry((at, case)).or_default().push(figures);
            }
        }
    }
    let median = |form: usize, case: usize, figure: usize| {
        let mut values: Vec<f64> = measured[&(form, case)].iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("{:<10}{:>14}{:>12}{:>10}{:>10}", "weights", "batch x tokens", "p50 ms", "texts/s", "ratio");
    for (case, (batch, tokens)) in CASES.into_iter().enumerate() {
        for (at, form) in forms.iter().enumerate() {
            let [p50, texts, ratio] =
                [median(at, case, 0), median(at, case, 1), median(at, case, 1) / median(0, case, 1)];
            let size = format!("{batch} x {tokens}");
            println!("{:<10}{size:>14}{p50:>12.2}{texts:>10.0}{ratio:>10.2}", form.name);
        }
    }
    Ok(())
}

/// Sentences, lines and pairs of lines of the Markdown files below `folder`: texts of many lengths, and
/// many of each.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let mut texts = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let lines: Vec<&str> =
                    text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST).collect();
                for line in &lines {
                    texts.extend(sentences::split(line).iter().map(|span| span.of(line).to_owned()));
                }
                texts.extend(lines.iter().map(ToString::to_string));
                texts.extend(lines.windows(2).map(|pair| pair.join(" ")));
            }
        }
    }
    texts.retain(|text| text.len() >= SHORTEST);
    Ok(texts.into_iter().collect())
}

/// Groups of as many texts as are embedded together, so alike in length that the model server puts
/// them into one batch.
fn groups(alone: &[Vector]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..alone.len()).collect();
    order.sort_by_key(|&at| alone[at].tokens);
    let tokens = |at: &usize| f64::from(alone[*at].tokens);
    let mut groups = Vec::new();
    let mut rest = order.as_slice();
    while let Some((group, more)) = rest.split_at_checked(TOGETHER) {
        if tokens(&group[0]) >= (1.0 - PADDING) * tokens(&group[TOGETHER - 1]) {
            groups.push(group.to_vec());
            rest = more;
        } else {
            rest = &rest[1..];
        }
    }
    groups
}

/// What a form makes of texts.
struct Embedded {
    /// The vector of each text when it is embedded alone.
    alone: Vec<Vector>,
    /// The cosines of that to the text's vector from a batch with others, for the texts in such batches.
    batched: Vec<f64>,
}

impl Embedded {
    /// Through the service in this process.
    async fn measure(form: &Form, texts: &[String], folder: &Path) -> Result<Self> {
        let config = Config {
            repository: form.repository.clone(),
            // A request's texts are in one batch, whatever their length.
            max_batch_tokens: TOGETHER * Config::default().max_tokens,
            instances: 1,
            warm_up: Duration::ZERO,
            ..Config::default()
        };
        let ctx = Context::new(folder.to_owned(), BTreeMap::new());
        ctx.mount(&switchboard_model_server::start(config, &ctx).await?);
        let channel = ctx.channel(switchboard_model_server::ROLE);
        let mut alone = Vec::with_capacity(texts.len());
        for text in texts {
            alone.extend(embed(&channel, vec![text.clone()]).await?);
        }
        let groups = groups(&alone);
        let before = batches(&channel).await?;
        let mut batched = Vec::new();
        for group in &groups {
            let together = group.iter().map(|&at| texts[at].clone()).collect();
            let vectors = embed(&channel, together).await?;
            batched.extend(group.iter().zip(&vectors).map(|(&at, vector)| cosine(&alone[at], vector)));
        }
        let whole = batches(&channel).await? - before;
        ensure!(
            !groups.is_empty() && whole == groups.len() as u64,
            "{whole} of {} requests were one batch",
            groups.len()
        );
        ctx.stop.cancel();
        Ok(Self { alone, batched })
    }
}

fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let tenant = Tenant::try_new("bench").expect("a valid tenant");
    request.extensions_mut().insert(Call::new(tenant, Deadline::after(Duration::from_secs(60))));
    request
}

async fn embed(channel: &Channel, texts: Vec<String>) -> Result<Vec<Vector>> {
    let request = request(EmbedRequest { texts, ..EmbedRequest::default() });
    Ok(InferenceServiceClient::new(channel.clone()).embed(request).await?.into_inner().vectors)
}

/// How many batches of [`TOGETHER`] texts the model has computed.
async fn batches(channel: &Channel) -> Result<u64> {
    let request = request(ModelStatisticsRequest { name: NAME.into(), version: String::new() });
    let mut door = GrpcInferenceServiceClient::new(channel.clone());
    let models = door.model_statistics(request).await?.into_inner().model_stats;
    let batches = models.iter().flat_map(|model| &model.batch_stats);
    let batches = batches.filter(|batch| batch.batch_size == TOGETHER as u64);
    Ok(batches.filter_map(|batch| batch.compute_infer.as_ref()).map(|infer| infer.count).sum())
}

fn cosine(a: &Vector, b: &Vector) -> f64 {
    let dot = |a: &Vector, b: &Vector| {
        a.values.iter().zip(&b.values).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// What `switchboard eval retrieval` says of search with the form's vectors.
fn search(root: &Path, form: &Form, data: &Path) -> Result<Value> {
    let mut eval = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    eval.current_dir(root).stderr(Stdio::inherit());
    eval.arg("--set").arg(format!("inference.repository={}", form.repository.display()));
    eval.args(["eval", "retrieval", "--first-turns", "--json"]);
    eval.arg("--docs").arg(data.join(DOCUMENTS)).arg("--queries").arg(data.join(QUESTIONS));
    let output = eval.output().context("the built binary cannot be started")?;
    ensure!(output.status.success(), "`switchboard eval retrieval` with {} failed", form.name);
    serde_json::from_slice(&output.stdout).context("`switchboard eval retrieval` wrote no JSON")
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn quality(forms: &[Form], embedded: &[Embedded], searched: Option<&[Value]>) {
    let (texts, batched) = (embedded[0].alone.len(), embedded[0].batched.len());
    println!(
        "\nCosines of the vectors of {texts} texts: alone against in a batch of {TOGETHER} ({batched} of them), and \
         alone against fp32"
    );
    if let Some([first, ..]) = searched {
        println!("Search: {} first turns of doc2dial", first["questions"]);
    }
    print!("\n{:<8}{:>7}{:>17}{:>11}{:>15}", "weights", "MB", "batched: lowest", "mean", "to fp32: mean");
    let header = format!("{:>17}{:>7}{:>15}{:>7}", "vectors: span@5", "MRR", "fused: span@5", "MRR");
    println!("{}", if searched.is_some() { &header } else { "" });
    for (at, (form, seen)) in forms.iter().zip(embedded).enumerate() {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let lowest = seen.batched.iter().copied().fold(f64::INFINITY, f64::min);
        let near: Vec<f64> =
            seen.alone.iter().zip(&embedded[0].alone).map(|(own, exact)| cosine(own, exact)).collect();
        let megabytes = form.bytes as f64 / 1e6;
        let (mean_batched, mean_near) = (mean(&seen.batched), mean(&near));
        print!("{:<8}{megabytes:>7.1}{lowest:>17.7}{mean_batched:>11.7}{mean_near:>15.5}", form.name);
        if let Some(figures) = searched.map(|searched| &searched[at]) {
            let figure = |mode: &str, metric: &str| figures[mode][metric].as_f64().unwrap_or(f64::NAN);
            print!("{:>17.3}{:>7.3}", figure("dense", "span@5"), figure("dense", "span_mrr"));
            print!("{:>15.3}{:>7.3}", figure("fused", "span@5"), figure("fused", "span_mrr"));
        }
        println!();
    }
}
