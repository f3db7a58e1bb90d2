//! How fast does a node embed over gRPC, against the same model in a plain loop?
//!
//! Starts the built binary with the role `inference` alone; this process is the client, on the same
//! cores. The other side is `inference_loop.py`: the Python package `onnxruntime` with the same ONNX file
//! and the same number of threads, tokenising included. Both take turns for a few rounds, and medians are
//! compared. Then: texts of mixed lengths, with the share of padding; and callers who leave while they
//! wait, with the compute that went into them. Prints tables; takes some three minutes.

#![expect(clippy::print_stdout, reason = "a benchmark's tables are for people")]

mod node;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use switchboard_proto::{
    inference::v1::{EmbedRequest, inference_service_client::InferenceServiceClient},
    tei::v1::{EmbedRequest as TeiRequest, embed_client::EmbedClient},
};
use tonic::{Request, transport::Channel};

use self::node::Node;

const ROUNDS: usize = 5;
/// Of each measurement.
const SECONDS: f64 = 1.5;
const MODEL: &str = ".cache/models/all-MiniLM-L6-v2";

/// Words of one token each.
const WORDS: [&str; 15] = [
    "order", "house", "water", "city", "music", "light", "paper", "river", "phone", "table", "green",
    "north", "story", "shoe", "money",
];

/// A text of so many tokens, its two special ones included.
fn text(number: usize, tokens: usize) -> String {
    let word = |at: usize| WORDS[(number * 7 + at * (1 + number % 3)) % WORDS.len()];
    (0..tokens - 2).map(word).collect::<Vec<_>>().join(" ")
}

/// The sum of a metric of a node over its labels.
fn metric(node: &Node, name: &str) -> f64 {
    let address = node.metrics.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("answered");
    let lines = page.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The plain loop, in a process of its own.
struct Loop {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Loop {
    fn start(root: &Path, threads: usize) -> Self {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", root.join(".cache/python")).arg(root.join("benches/inference_loop.py"));
        python.arg(root.join(MODEL)).arg(threads.to_string());
        let mut process =
            python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, stdin, stdout }
    }

    /// Texts a second.
    fn measure(&mut self, batch: usize, tokens: usize) -> f64 {
        writeln!(self.stdin, "{batch} {tokens} {SECONDS}").expect("the loop listens");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the loop answers");
        line.trim().parse().expect("the loop gives a number; are its packages in .cache/python?")
    }
}

/// What callers saw in a closed loop.
#[derive(Default)]
struct Seen {
    texts_per_second: f64,
    latencies: Vec<Duration>,
}

/// Which door, how many callers, how many texts in a call, of how many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    tei: bool,
    callers: usize,
    texts: usize,
    tokens: usize,
}

async fn call(channel: &Channel, case: Case, number: usize) -> Duration {
    let began = Instant::now();
    if case.tei {
        let inputs = text(number, case.tokens);
        let request = TeiRequest { inputs, truncate: true, ..TeiRequest::default() };
        EmbedClient::new(channel.clone()).embed(request).await.expect("a vector");
    } else {
        let texts = (0..case.texts).map(|at| text(number * case.texts + at, case.tokens)).collect();
        let mut request = Request::new(EmbedRequest { texts, ..EmbedRequest::default() });
        request.metadata_mut().insert("x-switchboard-tenant", "default".parse().expect("ASCII"));
        InferenceServiceClient::new(channel.clone()).embed(request).await.expect("vectors");
    }
    began.elapsed()
}

async fn measure(channel: &Channel, case: Case) -> Seen {
    call(channel, case, 0).await;
    let began = Instant::now();
    let time = Duration::from_secs_f64(SECONDS);
    let callers = (0..case.callers).map(async |caller| {
        let mut latencies = Vec::new();
        let mut number = caller;
        while began.elapsed() < time {
            latencies.push(call(channel, case, number).await);
            number += case.callers;
        }
        latencies
    });
    let latencies: Vec<Duration> = futures::future::join_all(callers).await.concat();
    let texts = latencies.len() * if case.tei { 1 } else { case.texts };
    Seen { texts_per_second: texts as f64 / began.elapsed().as_secs_f64(), latencies }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(latencies: &mut [Duration], share: f64) -> f64 {
    latencies.sort();
    latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (node, mut plain) = (Node::start(&root, &[]), Loop::start(&root, threads));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = node.connect().await;
        println!("\nTexts a second, medians of {ROUNDS} interleaved rounds; {threads} threads\n");
        against_the_loop(&channel, &mut plain).await;
        mixed(&channel, &node).await;
        leaving(&node).await;
    });
}

async fn against_the_loop(channel: &Channel, plain: &mut Loop) {
    let case = |tei, callers, texts, tokens| Case { tei, callers, texts, tokens };
    // What each is compared with, in the loop: texts in a batch. What is wanted of it.
    let cases = [
        (case(false, 1, 32, 16), 32, 0.90, "32 texts in a call"),
        (case(false, 32, 1, 16), 1, 1.5, "one text in a call, of 32 callers"),
        (case(false, 32, 1, 64), 1, 1.05, "the same, 64 tokens"),
    ];
    // Texts a second of text-embeddings-inference 1.9.3 on such a machine, where the loop's batches of 32
    // did 353 (16 tokens) and 91 (64 tokens).
    let for_scale = [
        (case(true, 1, 1, 16), 106.0, 353.0, 1.3),
        (case(true, 8, 1, 16), 170.0, 353.0, 1.0),
        (case(true, 32, 1, 16), 190.0, 353.0, 1.5),
        (case(true, 32, 1, 64), 58.0, 91.0, 1.3),
    ];
    let mut ours: BTreeMap<Case, (Vec<f64>, Vec<Duration>)> = BTreeMap::new();
    let mut loops: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (batch, tokens) in [(1, 16), (32, 16), (1, 64), (32, 64)] {
            loops.entry((batch, tokens)).or_default().push(plain.measure(batch, tokens));
        }
        for case in cases.iter().map(|case| case.0).chain(for_scale.iter().map(|case| case.0)) {
            let seen = measure(channel, case).await;
            let entry = ours.entry(case).or_default();
            entry.0.push(seen.texts_per_second);
            entry.1.extend(seen.latencies);
        }
    }
    let loops: BTreeMap<(usize, usize), f64> =
        loops.into_iter().map(|(key, mut values)| (key, median(&mut values))).collect();
    let mut ours: BTreeMap<Case, (f64, Vec<Duration>)> = ours
        .into_iter()
        .map(|(key, (mut values, latencies))| (key, (median(&mut values), latencies)))
        .collect();
    println!(
        "the plain loop: {:?}\n",
        loops.iter().map(|(k, v)| format!("{}x{} {v:.0}", k.0, k.1)).collect::<Vec<_>>()
    );
    println!(
        "{:<36}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}",
        "InferenceService", "ours", "loop", "ratio", "goal", "p50 ms", "p99 ms"
    );
    for (case, batch, goal, name) in cases {
        let (speed, latencies) = ours.get_mut(&case).expect("measured");
        let other = loops[&(batch, case.tokens)];
        let (p50, p99) = (percentile(latencies, 0.5), percentile(latencies, 0.99));
        println!("{name:<36}{speed:>8.0}{other:>8.0}{:>8.2}{goal:>8.2}{p50:>9.1}{p99:>9.1}", *speed / other);
    }
    println!(
        "\n{:<36}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}",
        "tei.v1, callers x tokens", "ours", "TEI*", "ratio", "goal", "p50 ms", "p99 ms"
    );
    for (case, tei, its_loop, goal) in for_scale {
        let (speed, latencies) = ours.get_mut(&case).expect("measured");
        let name = format!("{} x {}", case.callers, case.tokens);
        // What TEI would do here, where the loop is as fast as it is.
        let here = tei * loops[&(32, case.tokens)] / its_loop;
        let (p50, p99) = (percentile(latencies, 0.5), percentile(latencies, 0.99));
        println!("{name:<36}{speed:>8.0}{here:>8.0}{:>8.2}{goal:>8.2}{p50:>9.1}{p99:>9.1}", *speed / here);
    }
    println!(
        "* text-embeddings-inference 1.9.3, measured once on such a machine, scaled by the loop's speed"
    );
}

/// 64 callers with texts of 8 to 256 tokens.
async fn mixed(channel: &Channel, node: &Node) {
    let names = ["switchboard_inference_padding_tokens_total", "switchboard_inference_tokens_total"];
    let before = names.map(|name| metric(node, name));
    let began = Instant::now();
    let callers = (0..64_usize).map(async |caller| {
        let mut seen = Vec::new();
        let mut number = caller;
        while began.elapsed() < Duration::from_secs(20) {
            // Spread over the range, and the same in every run.
            let tokens = 8 + (number * 2_654_435_761 % 4_294_967_296) * 249 / 4_294_967_296;
            let case = Case { tei: false, callers: 64, texts: 1, tokens };
            seen.push((tokens, call(channel, case, number).await));
            number += 64;
        }
        seen
    });
    let seen: Vec<(usize, Duration)> = futures::future::join_all(callers).await.concat();
    let [padding, tokens] = names.map(|name| metric(node, name));
    let (padding, tokens) = (padding - before[0], tokens - before[1]);
    println!("\nMixed lengths, 8 to 256 tokens, 64 callers\n");
    println!(
        "padding share {:.1} % of {:.0} tokens (goal: under 10 %)",
        100.0 * padding / (padding + tokens),
        tokens + padding
    );
    println!("{:<16}{:>8}{:>9}{:>9}{:>8}{:>8}", "tokens", "calls", "p50 ms", "p99 ms", "ratio", "goal");
    for (low, high) in [(8, 32), (33, 64), (65, 128), (129, 256)] {
        let of_class = seen.iter().filter(|(tokens, _)| (low..=high).contains(tokens));
        let mut latencies: Vec<Duration> = of_class.map(|(_, latency)| *latency).collect();
        let (p50, p99) = (percentile(&mut latencies, 0.5), percentile(&mut latencies, 0.99));
        let name = format!("{low} to {high}");
        println!("{name:<16}{:>8}{p50:>9.1}{p99:>9.1}{:>8.2}{:>8}", latencies.len(), p99 / p50, "< 4");
    }
}

/// Callers who leave while they wait cost nothing.
async fn leaving(node: &Node) {
    let channel = node.connect().await;
    let names = [
        "switchboard_inference_tokens_total",
        "switchboard_inference_refused_texts_total",
        "switchboard_inference_wasted_seconds_total",
    ];
    let before = names.map(|name| metric(node, name));
    // Something to wait for.
    let long = Case { tei: false, callers: 1, texts: 32, tokens: 256 };
    let busy = call(&channel, long, 0);
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let one = Case { tei: false, callers: 64, texts: 1, tokens: 32 };
        let mut callers: FuturesUnordered<_> = (0..64_usize)
            .map(|number| {
                let channel = &channel;
                async move {
                    let work = call(channel, one, number);
                    // Half of them have no patience. The first batches take longer than this.
                    let patience = Duration::from_millis(if number % 2 == 0 { 50 } else { 60_000 });
                    tokio::time::timeout(patience, work).await.is_ok()
                }
            })
            .collect();
        let mut stayed = 0;
        while let Some(answered) = callers.next().await {
            stayed += usize::from(answered);
        }
        stayed
    };
    let (_, stayed) = tokio::join!(busy, waiting);
    let after = names.map(|name| metric(node, name));
    let [tokens, refused, wasted] = [0, 1, 2].map(|at| after[at] - before[at]);
    println!("\nHalf of 64 callers leave while they wait behind a large request\n");
    println!("answered {stayed}, left the queue {refused:.0}");
    let needed = (32 * 256 + stayed * 32) as f64;
    println!(
        "tokens computed {tokens:.0}, needed by those who stayed {needed:.0}; compute spent on the gone {:.1} ms",
        wasted * 1e3
    );
}
