//! The built binary: its command line, its exit codes, its start and its end.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn switchboard(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("SWITCHBOARD_CONFIG")
        .env_remove("SWITCHBOARD_API_KEY")
        .args(["--data", data.to_str().unwrap()])
        .args(["--set", "telemetry.log=warn", "--set", "inference.warm_up=50ms"]);
    command
}

pub(crate) fn run(data: &Path, arguments: &[&str]) -> Output {
    switchboard(data).args(arguments).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running `up`; killed when dropped.
pub(crate) struct Up {
    child: Child,
    pub(crate) ready: Value,
}

impl Up {
    fn start(data: &Path) -> Self {
        Self::with(data, &[])
    }

    pub(crate) fn with(data: &Path, more: &[&str]) -> Self {
        let mut command = switchboard(data);
        command.args(["up", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json"]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ready }
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    pub(crate) fn client(&self, data: &Path, arguments: &[&str]) -> Output {
        let mut command = switchboard(data);
        command.args(arguments).args(["--server", self.text("grpc"), "--json"]);
        command.env("SWITCHBOARD_API_KEY", self.text("api_key")).output().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn documents(count: usize) -> TempDir {
    let folder = folder();
    for number in 0..count {
        let text = format!(
            "# Rule {number}\n\nRule {number} says that parcel {number} is sent from hall {number} of the depot. \
             It must be signed for by the porter of hall {number} before noon.\n"
        );
        std::fs::write(folder.path().join(format!("rule-{number:03}.md")), text).unwrap();
    }
    folder
}

#[test]
fn help_teaches_every_command() {
    let output = run(folder().path(), &["--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in
        ["up", "serve", "ask", "ingest", "eval", "models", "keys", "certs", "nodes", "config", "Examples:"]
    {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn a_config_mistake_exits_2_and_names_the_key() {
    let data = folder();
    for (set, names) in [
        ("conversation.pasages=3", vec!["pasages", "passages"]),
        ("conversation.passages=many", vec!["conversation.passages", "many"]),
        ("conversation.passages=0", vec!["conversation.passages", "1", "16"]),
        ("gateway.http=nowhere", vec!["gateway.http"]),
        ("peers.polizei=http://localhost:1", vec!["peers.polizei", "policy"]),
    ] {
        let output = run(data.path(), &["--set", set, "config", "check"]);
        assert_eq!(output.status.code(), Some(2), "{set}: {}", stderr(&output));
        for name in names {
            assert!(stderr(&output).contains(name), "{set}: {name} is missing in {}", stderr(&output));
        }
    }
}

#[test]
fn settings_count_wherever_they_stand_and_the_last_of_a_key_wins() {
    let data = folder();
    let [first, second, third] =
        ["passages=3", "passages=4", "passages=5"].map(|set| format!("conversation.{set}"));
    let before = ["--set", first.as_str(), "--set", "node.drain=7s", "config"];
    let words = [&before[..], &["--set", &second, "print", "--json", "--set", &third]].concat();
    let config = json(&run(data.path(), &words));
    assert_eq!(
        (&config["conversation"]["passages"], &config["node"]["drain"]),
        (&Value::from(5), &Value::from("7s"))
    );
    let config = json(&run(data.path(), &[&before[..], &["print", "--json"]].concat()));
    assert_eq!(config["conversation"]["passages"], 3);
}

#[test]
fn the_printed_config_can_be_checked() {
    let data = folder();
    let printed = run(data.path(), &["config", "print"]);
    let file = data.path().join("printed.toml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let output = run(data.path(), &["--config", file.to_str().unwrap(), "config", "check"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_busy_port_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(folder().path(), &["up", "--http", &address, "--grpc", "127.0.0.1:0"]);
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains(&address) && stderr(&output).contains("gateway.http"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_missing_model_or_runtime_says_what_is_missing() {
    for set in
        ["inference.repository=/nonexistent/models", "inference.runtime=/nonexistent/libonnxruntime.so"]
    {
        let output = run(folder().path(), &["--set", set, "ask", "hello?"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("/nonexistent/"), "{}", stderr(&output));
    }
}

#[test]
fn an_unwritable_data_folder_is_named() {
    let file = folder();
    let place = file.path().join("a-file");
    std::fs::write(&place, "not a folder").unwrap();
    let output = run(&place, &["ask", "hello?"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("a-file"), "{}", stderr(&output));
}

#[test]
fn a_running_node_answers_and_drains_on_sigterm() {
    let data = folder();
    let mut up = Up::start(data.path());
    let docs = documents(3);
    let stored = json(&up.client(data.path(), &["ingest", docs.path().to_str().unwrap()]));
    assert_eq!(
        (&stored["created"], &stored["rejected"]),
        (&Value::from(3), &Value::from(Vec::<Value>::new()))
    );
    let turn = json(&up.client(data.path(), &["ask", "From which hall is parcel 2 sent?"]));
    assert_eq!(turn["outcome"], "answered", "{turn}");
    assert_eq!(turn["citations"][0]["document_id"], "rule-002.md", "{turn}");
    // A second process cannot have the same folder.
    let output = run(data.path(), &["ask", "hello?"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
    up.signal("-TERM");
    assert_eq!(up.wait().code(), Some(0));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let data = folder();
    let docs = documents(40);
    let mut up = Up::start(data.path());
    let first = documents(5);
    let stored = json(&up.client(data.path(), &["ingest", first.path().to_str().unwrap()]));
    assert_eq!(stored["created"], 5);
    let mut command = switchboard(data.path());
    command.args(["ingest", docs.path().to_str().unwrap(), "--server", up.text("grpc")]);
    let mut ingest = command
        .env("SWITCHBOARD_API_KEY", up.text("api_key"))
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Wait until it is in the middle: some of the forty are there, the last is not.
    let database = data.path().join("knowledge/knowledge.db-wal");
    let before = std::fs::metadata(&database).map_or(0, |m| m.len());
    let began = Instant::now();
    while std::fs::metadata(&database).map_or(0, |m| m.len()) == before
        && began.elapsed() < Duration::from_secs(20)
    {
        std::thread::yield_now();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "nothing of the second folder was ever written");
    assert!(ingest.try_wait().unwrap().is_none(), "the kill comes in the middle of the ingest");
    up.signal("-KILL");
    up.wait();
    let _ = ingest.wait();
    // Ingesting the five again must find every one of them as it was acknowledged.
    let output = run(data.path(), &["ingest", first.path().to_str().unwrap(), "--json"]);
    let stored = json(&output);
    assert_eq!(stored["unchanged"], 5, "{stored}");
}

#[test]
fn a_folder_that_is_measured_is_left_alone() {
    let data = folder();
    let files = folder();
    let docs = files.path().join("docs.jsonl");
    let queries = files.path().join("queries.jsonl");
    let lines = [
        r#"{"doc_id": "Bees#1", "text": "Bees make honey. They live in hives and dance to tell where flowers are."}"#,
        r#"{"doc_id": "Trams#1", "text": "Trams run on rails. The first tram leaves the depot at five."}"#,
    ];
    std::fs::write(&docs, lines.join("\n")).unwrap();
    let lines = [
        r#"{"question": "What do bees make?", "history": [], "gold": [{"doc_id": "Bees#1", "start": 0, "end": 16}]}"#,
        r#"{"question": "And when does it leave?", "history": ["user:Tell me about trams"], "gold": [{"doc_id": "Trams#1", "start": 20, "end": 60}]}"#,
    ];
    std::fs::write(&queries, lines.join("\n")).unwrap();
    let arguments = ["eval", "retrieval", "--json", "--docs", docs.to_str().unwrap(), "--queries"];
    let output = switchboard(data.path()).args(arguments).arg(&queries).output().unwrap();
    let figures = json(&output);
    for list in ["bm25", "dense", "fused"] {
        assert_eq!(figures[list]["doc@1"], 1.0, "{figures}");
        assert_eq!(figures[list]["span@5"], 1.0, "{figures}");
    }
    assert_eq!(figures["questions"], 2);
    let output =
        switchboard(data.path()).args(arguments).arg(&queries).arg("--first-turns").output().unwrap();
    assert_eq!(json(&output)["questions"], 1);
    assert!(!data.path().join("knowledge").exists(), "the data folder was not touched");
}
