//! How fast does a node write over gRPC: one stream and eight, who joins, and against peers?
//!
//! Starts the built binary with the role `inference` alone; this process is the client, on the same cores. The
//! small language model of the fixtures, in each form that is built, writes in one stream and in eight, in turns.
//! Then a long prompt joins a stream that writes, and the gaps between that one's tokens are told. Where the
//! arguments are a folder that `make_qwen_shaped.py` made and a Python that has the peers' packages, the same model is
//! also run by `peers.py` (onnxruntime-genai and PyTorch), after ours. Prints tables.

#![expect(clippy::print_stdout, reason = "a benchmark's tables are for people")]

#[path = "../node/mod.rs"]
mod node;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use switchboard_proto::inference::v1::{
    GenerateRequest, ProfileRequest, inference_service_client::InferenceServiceClient,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::{Request, transport::Channel};

use self::node::Node;

const ROUNDS: usize = 5;
const STREAMS: [usize; 2] = [1, 8];
/// What every form has beside its own files.
const COMMON: [&str; 4] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// A node with the models that are in a folder, for as long as that is there.
struct Served {
    node: Node,
    _folder: TempDir,
}

impl Served {
    fn start(root: &Path, folder: TempDir) -> Self {
        let repository = format!("inference.repository={}", folder.path().display());
        Self { node: Node::start(root, &[repository]), _folder: folder }
    }

    async fn client(&self) -> InferenceServiceClient<Channel> {
        InferenceServiceClient::new(self.node.connect().await)
    }
}

/// What a caller saw of one text.
#[derive(Clone, Debug)]
struct Seen {
    asked: Instant,
    /// When each token came.
    tokens: Vec<Instant>,
}

impl Seen {
    fn first(&self) -> Duration {
        self.tokens.first().map_or(Duration::ZERO, |first| first.duration_since(self.asked))
    }

    fn gaps(&self) -> Vec<Duration> {
        self.tokens.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect()
    }
}

/// Has a prompt continued, and tells when the first token is there.
async fn write(
    mut client: InferenceServiceClient<Channel>,
    model: &str,
    prompt: String,
    most: u32,
    mut begun: Option<oneshot::Sender<()>>,
) -> Seen {
    let request =
        GenerateRequest { model: model.into(), prompt, max_tokens: most, ..GenerateRequest::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-switchboard-tenant", "bench".parse().expect("a value"));
    let asked = Instant::now();
    let mut steps = client.generate(request).await.expect("begun").into_inner();
    let mut tokens = Vec::new();
    while let Some(step) = steps.message().await.expect("a step") {
        if step.tokens as usize > tokens.len() {
            tokens.push(Instant::now());
        }
        if let Some(begun) = begun.take() {
            let _ = begun.send(());
        }
    }
    Seen { asked, tokens }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Tokens a second of all streams from the first token on, and seconds to the first one, of one round.
async fn round(node: &Served, model: &str, streams: usize, prompts: &[String], most: u32) -> (f64, f64) {
    let client = node.client().await;
    let writing =
        (0..streams).map(|at| write(client.clone(), model, prompts[at % prompts.len()].clone(), most, None));
    let seen = futures::future::join_all(writing).await;
    let first: Vec<f64> = seen.iter().map(|seen| seen.first().as_secs_f64()).collect();
    let begun = seen.iter().filter_map(|seen| seen.tokens.first()).min().copied();
    let ended = seen.iter().filter_map(|seen| seen.tokens.last()).max().copied();
    let tokens: usize = seen.iter().map(|seen| seen.tokens.len().saturating_sub(1)).sum();
    let took = begun.zip(ended).map_or(1.0, |(begun, ended)| ended.duration_since(begun).as_secs_f64());
    (tokens as f64 / took.max(1e-9), median(first))
}

/// The forms that are built, each with its files.
fn forms() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut forms = vec![
        ("onnx-gqa", vec!["gqa.onnx", "genai_config.json", "model.safetensors"]),
        ("onnx-optimum", vec!["model.onnx", "model.safetensors"]),
    ];
    if cfg!(feature = "torch") {
        forms.push(("torch", vec!["model.safetensors"]));
        forms.push(("torchscript", vec!["model.pt"]));
    }
    forms
}

fn fixtures(root: &Path) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let source = root.join("model-server/fixtures/models/tiny-lm");
    for (name, files) in forms() {
        let to = folder.path().join(name);
        std::fs::create_dir(&to).expect("a folder");
        for file in COMMON.iter().copied().chain(files) {
            std::fs::copy(source.join(file), to.join(file)).expect("copied");
        }
    }
    Served::start(root, folder)
}

async fn small(root: &Path) {
    let node = fixtures(root);
    // Plain text, after which the model seldom ends by itself.
    let prompts: Vec<String> =
        ["The desk lamp costs", "Write to", "[1] The heater", "Your parcel", "The shop in"]
            .map(|prompt| prompt.repeat(4))
            .to_vec();
    println!("the small model, tokens a second: medians of {ROUNDS} rounds\n");
    println!("{:<14}{:>10}{:>10}{:>8}{:>16}", "form", "1 stream", "8", "ratio", "first token ms");
    for (model, _) in forms() {
        let mut speeds = [Vec::new(), Vec::new()];
        let mut firsts = Vec::new();
        for at in 0..=ROUNDS {
            for (streams, speeds) in STREAMS.into_iter().zip(&mut speeds) {
                let (speed, first) = round(&node, model, streams, &prompts, 200).await;
                // The first round warms up.
                if at > 0 {
                    speeds.push(speed);
                    if streams == 1 {
                        firsts.push(first);
                    }
                }
            }
        }
        let [one, eight] = speeds.map(median);
        let first = median(firsts) * 1e3;
        println!("{model:<14}{one:>10.0}{eight:>10.0}{:>8.2}{first:>16.2}", eight / one);
    }
    println!(
        "\nwho joins: gaps between the tokens of a stream while a prompt of some 400 tokens joins, ms\n"
    );
    println!("{:<14}{:>10}{:>10}{:>18}", "form", "median", "longest", "a part of 64");
    for (model, _) in forms() {
        let client = node.client().await;
        let mut profile = Request::new(ProfileRequest { model: model.into() });
        profile.metadata_mut().insert("x-switchboard-tenant", "bench".parse().expect("a value"));
        let profile = client.clone().profile(profile).await.expect("a profile").into_inner();
        let cells = profile.models.into_iter().flat_map(|model| model.cells);
        let part = cells.filter(|cell| cell.tokens == 64).filter_map(|cell| cell.latency).next();
        let part = part.map_or(0.0, |part| f64::from(part.nanos) / 1e6 + part.seconds as f64 * 1e3);
        let mut gaps = Vec::new();
        for _ in 0..ROUNDS {
            let long = "The desk lamp costs 39.95 euros. ".repeat(28);
            let (begun, has_begun) = oneshot::channel();
            let joins = async {
                has_begun.await.expect("a first token");
                write(client.clone(), model, long, 4, None).await
            };
            let writes = write(client.clone(), model, prompts[0].clone(), 250, Some(begun));
            let (seen, _) = tokio::join!(writes, joins);
            gaps.extend(seen.gaps().iter().map(|gap| gap.as_secs_f64() * 1e3));
        }
        let longest = gaps.iter().copied().fold(0.0, f64::max);
        println!("{model:<14}{:>10.2}{longest:>10.2}{part:>18.2}", median(gaps));
    }
}

/// The large model, ours and theirs.
async fn large(root: &Path, qwen: &Path, python: &str) {
    const TOKENS: u32 = 32;
    let folder = tempfile::tempdir().expect("a folder");
    let genai = folder.path().join("onnx-gqa");
    std::fs::create_dir(&genai).expect("a folder");
    let link = |from: PathBuf, to: PathBuf| {
        std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(drop))
    };
    for file in ["model.onnx", "model.onnx.data", "genai_config.json"] {
        link(qwen.join("genai").join(file), genai.join(file)).expect("linked");
    }
    for file in COMMON {
        link(qwen.join("hub").join(file), genai.join(file)).expect("linked");
    }
    let mut models = vec!["onnx-gqa"];
    if cfg!(feature = "torch") {
        let torch = folder.path().join("torch");
        std::fs::create_dir(&torch).expect("a folder");
        for file in COMMON.iter().copied().chain(["model.safetensors"]) {
            link(qwen.join("hub").join(file), torch.join(file)).expect("linked");
        }
        models.push("torch");
    }
    let node = Served::start(root, folder);
    let prompts: Vec<String> = (0..8).map(|at| format!("{at} ").repeat(64)).collect();
    println!("\na model of Qwen2.5-0.5B's shape, prompts of 128 tokens: medians\n");
    println!("{:<16}{:>10}{:>12}{:>16}", "", "streams", "tokens/s", "first token ms");
    for streams in STREAMS {
        let mut ours = vec![(Vec::new(), Vec::new()); models.len()];
        for at in 0..=2 {
            for (model, (speeds, firsts)) in models.iter().zip(&mut ours) {
                let (speed, first) = round(&node, model, streams, &prompts, TOKENS).await;
                if at > 0 {
                    speeds.push(speed);
                    firsts.push(first);
                }
            }
        }
        for (model, (speeds, firsts)) in models.iter().zip(ours) {
            println!("{model:<16}{streams:>10}{:>12.1}{:>16.0}", median(speeds), median(firsts) * 1e3);
        }
        let mut peers = Command::new(python);
        peers.arg(root.join("benches/generation/peers.py")).arg(qwen);
        peers.args(["--streams", &streams.to_string(), "--tokens", &TOKENS.to_string(), "--repeats", "2"]);
        let output = peers.output().expect("peers.py runs");
        println!("{}", String::from_utf8_lossy(&output.stdout).trim());
    }
}

#[tokio::main]
async fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    small(root).await;
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    match arguments.next() {
        Some(folder) => {
            let python = arguments.next().unwrap_or_else(|| "python3".into());
            large(root, Path::new(&folder), &python).await;
        }
        None => println!("\nnot compared with peers: no folder of make_qwen_shaped.py was given"),
    }
}
