//! How long does a warm turn take, and how much of it is not model or search?
//!
//! Starts the built binary, stores the example company's documents, and asks its questions over
//! gRPC, one caller at a time. Times are the server's own, from the turn reports; model and search
//! time come from the metrics that the node exports. Prints a table; takes about half a minute.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use switchboard_proto::conversation::v1::{
    ConverseRequest, TurnReport, conversation_service_client::ConversationServiceClient,
    converse_response::Event,
};
use tonic::{Request, transport::Channel};

const WARM_UP: usize = 50;
const TURNS: usize = 500;

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = tempfile::tempdir().expect("a temporary folder");
    let binary = env!("CARGO_BIN_EXE_switchboard");
    let mut up = Command::new(binary);
    up.current_dir(root).arg("--data").arg(data.path());
    up.args([
        "--set",
        "telemetry.log=warn",
        "up",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
    ]);
    let mut node = Node(up.stdout(Stdio::piped()).spawn().expect("the node starts"));
    let mut line = String::new();
    let output = node.0.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("the node says that it is ready");
    let ready: Value = serde_json::from_str(&line).expect("a line of JSON");
    let text = |key: &str| ready[key].as_str().expect("a string").to_owned();
    let (grpc, http, key) = (text("grpc"), text("http"), text("api_key"));
    let stored = Command::new(binary)
        .current_dir(root)
        .args(["ingest", "examples/acme/knowledge", "--server", &grpc, "--api-key", &key])
        .status()
        .expect("ingest runs");
    assert!(stored.success(), "the example's documents are stored");
    let questions: Vec<String> = std::fs::read_to_string(root.join("examples/acme/questions.jsonl"))
        .expect("the example's questions")
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["question"].as_str().map(str::to_owned))
        .collect();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (reports, before, after) = runtime.block_on(async {
        let channel = Channel::from_shared(grpc).expect("a URL").connect().await.expect("connected");
        for question in questions.iter().cycle().take(WARM_UP) {
            turn(&channel, &key, question).await;
        }
        let before = Busy::read(&http);
        let mut reports = Vec::with_capacity(TURNS);
        for question in questions.iter().cycle().take(TURNS) {
            reports.push(turn(&channel, &key, question).await);
        }
        (reports, before, Busy::read(&http))
    });
    print(&reports, before.until(after), &ready, resident(node.0.id()));
}

async fn turn(channel: &Channel, key: &str, question: &str) -> TurnReport {
    let mut request =
        Request::new(ConverseRequest { text: question.to_owned(), ..ConverseRequest::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
    let mut client = ConversationServiceClient::new(channel.clone());
    let mut stream = client.converse(request).await.expect("a turn").into_inner();
    loop {
        let event = stream.message().await.expect("an event").expect("a report before the end");
        if let Some(Event::Report(report)) = event.event {
            return report;
        }
    }
}

/// Seconds spent in the model and in search, from the node's metrics.
#[derive(Clone, Copy)]
struct Busy {
    model: f64,
    search: f64,
}

impl Busy {
    fn read(http: &str) -> Self {
        let mut stream = TcpStream::connect(http.trim_start_matches("http://")).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("UTF-8");
        let sum = |metric: &str| {
            let lines = page.lines().filter(|line| line.starts_with(metric) && !line.starts_with('#'));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Self {
            model: sum("switchboard_inference_compute_seconds_sum"),
            search: sum("switchboard_knowledge_search_seconds_sum"),
        }
    }

    fn until(self, later: Self) -> Self {
        Self { model: later.model - self.model, search: later.search - self.search }
    }
}

fn millis(time: Option<prost_types::Duration>) -> f64 {
    Duration::try_from(time.unwrap_or_default()).unwrap_or_default().as_secs_f64() * 1e3
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

fn resident(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or("unknown".into(), |kilobytes| format!("{} MB", kilobytes / 1000))
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn print(reports: &[TurnReport], busy: Busy, ready: &Value, resident: String) {
    let row = |name: &str, mut values: Vec<f64>| {
        let (p50, p99) = (percentile(&mut values, 0.5), percentile(&mut values, 0.99));
        println!("{name:<16} {p50:>9.2} {p99:>9.2}");
    };
    println!("{TURNS} warm turns, one caller; milliseconds\n\n{:<16} {:>9} {:>9}", "", "p50", "p99");
    row("turn", reports.iter().map(|report| millis(report.spent)).collect());
    for stage in ["inspect_input", "load_context", "embed_query", "retrieve", "generate", "inspect_output"] {
        let spent =
            reports.iter().flat_map(|r| &r.stages).filter(|s| s.name == stage).map(|s| millis(s.spent));
        row(stage, spent.collect());
    }
    let beside = |report: &TurnReport| {
        let busy = report.stages.iter().filter(|s| ["embed_query", "retrieve"].contains(&s.name.as_str()));
        millis(report.spent) - busy.map(|s| millis(s.spent)).sum::<f64>()
    };
    row("all but these 2", reports.iter().map(beside).collect());
    let mean = reports.iter().map(|report| millis(report.spent)).sum::<f64>() / TURNS as f64;
    let (model, search) = (busy.model * 1e3 / TURNS as f64, busy.search * 1e3 / TURNS as f64);
    println!(
        "\nmean turn {mean:.2} = model {model:.2} + search {search:.2} + mesh {:.2}",
        mean - model - search
    );
    println!("ready after {} ms; resident {resident}", ready["ready_ms"]);
}
