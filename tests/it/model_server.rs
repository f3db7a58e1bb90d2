//! The program `model-server`: its checks are in `models`, here it serves.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use switchboard_mesh::{Channel, Class};
use switchboard_proto::inference::v1::{
    EmbedRequest, ProfileRequest, inference_service_client::InferenceServiceClient,
};

use crate::{
    binary::{folder, json, stderr, switchboard},
    mesh::{cache, call},
    models::fixtures,
};

/// The program, which Cargo builds beside ours when it tests the whole workspace.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_switchboard")).with_file_name("model-server");
    let build = "`cargo build -p switchboard-model-server` builds it, as `cargo test --workspace` does";
    assert!(path.is_file(), "{} is missing: {build}", path.display());
    path
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("SWITCHBOARD_CONFIG").args(arguments).args([
        "--set",
        "telemetry.log=warn",
        "--set",
        "inference.warm_up=50ms",
    ]);
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A running node; killed when dropped.
struct Node {
    child: Child,
    ready: Value,
}

impl Node {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ready }
    }

    /// A node over `repository`.
    fn serve(repository: &Path, more: &[&str]) -> Self {
        let fixed =
            ["serve", "--json", "--listen", "127.0.0.1:0", "--repository", repository.to_str().unwrap()];
        Self::start(command(&[&fixed[..], more].concat()))
    }

    fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    fn client(&self) -> InferenceServiceClient<Channel> {
        InferenceServiceClient::new(Channel::tcp("inference", self.grpc().parse().unwrap()))
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a GET, head and body.
fn get(url: &str) -> String {
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_lists_what_it_serves_to_whoever_asks() {
    let node = Node::serve(&fixtures().join("models"), &["--metrics", "127.0.0.1:0"]);
    let list = ["models", "list", "--node", node.grpc()];
    let listed = json(&switchboard(folder().path()).args(list).arg("--json").output().unwrap());
    assert_eq!(listed["models"], node.ready["models"]);
    assert_eq!(listed["models"].as_array().unwrap().len(), 8, "{listed}");
    for model in listed["models"].as_array().unwrap() {
        assert!(model["instances"].as_u64() > Some(0) && model["threads"].as_u64() > Some(0), "{model}");
        assert_eq!(model["backend"], "onnx/cpu", "{model}");
    }
    let table = switchboard(folder().path()).args(list).output().unwrap().stdout;
    let table = String::from_utf8(table).unwrap();
    let line =
        table.lines().find(|line| line.starts_with("tiny-embedder ")).unwrap_or_else(|| panic!("{table}"));
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[..6], ["tiny-embedder", "embed", "32", "components", "64", "onnx/cpu"]);

    let metrics = node.ready["metrics"].as_str().unwrap();
    assert!(get(metrics).contains("switchboard_inference_"), "its metrics can be scraped");
    assert!(get(&metrics.replace("/metrics", "/readyz")).starts_with("HTTP/1.1 200"), "and it is ready");
}

#[test]
fn a_node_that_serves_no_models_is_told_from_one_that_is_not_there() {
    let data = folder();
    let mut policy = switchboard(data.path());
    policy.args(["serve", "--role", "policy", "--listen", "127.0.0.1:0", "--json"]);
    let policy = Node::start(policy);
    let list = |node: &str| {
        let output = switchboard(folder().path()).args(["models", "list", "--node", node]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stderr(&output)
    };
    let error = list(policy.grpc());
    assert!(error.contains("serves no models") && error.contains("model-server serve"), "{error}");
    let address = policy.grpc().to_owned();
    drop(policy);
    let error = list(&address);
    assert!(error.contains(&address) && error.contains("Unavailable"), "{error}");
    assert!(list("https://models.example").contains("http://127.0.0.1:8091"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_the_work_in_hand_be_finished() {
    let mut node = Node::serve(&cache().join("models"), &["--set", "node.drain=60s"]);
    let text = "the quick brown fox jumps over the lazy dog ".repeat(20);
    let request = EmbedRequest { texts: vec![text; 64], ..Default::default() };
    let mut client = node.client();
    let batch = call("acme").with_class(Class::Batch);
    let embed = tokio::spawn(async move { client.embed(batch.request(request)).await });
    // Once texts wait in the node's queue, the call is in its hands.
    let mut client = node.client();
    loop {
        let profile =
            client.profile(call("acme").request(ProfileRequest::default())).await.unwrap().into_inner();
        let backlog = profile.models[0].backlog.unwrap();
        if backlog.seconds > 0 || backlog.nanos > 0 {
            break;
        }
        assert!(!embed.is_finished(), "the call is over before it could be seen to wait");
        tokio::task::yield_now().await;
    }
    node.terminate();
    let answer = embed.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.vectors.len(), 64);
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
}

#[test]
fn its_printed_config_can_be_checked() {
    let printed = run(&["config", "print"]);
    assert!(printed.status.success(), "{}", stderr(&printed));
    let data = folder();
    let file = data.path().join("printed.toml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "config", "check"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let as_json = json(&run(&["config", "print", "--json"]));
    assert_eq!(as_json["inference"]["warm_up"], "50ms", "{as_json}");
}

#[test]
fn its_settings_count_wherever_they_stand_and_the_last_of_a_key_wins() {
    let words = ["--set", "inference.threads=3", "--set", "node.drain=7s", "config", "print", "--json"];
    let config = json(&run(&[&words[..], &["--set", "inference.threads=5"]].concat()));
    assert_eq!(
        (&config["inference"]["threads"], &config["node"]["drain"]),
        (&Value::from(5), &Value::from("7s"))
    );
    assert_eq!(json(&run(&words))["inference"]["threads"], 3);
}

#[test]
fn a_mistake_in_its_config_exits_2_and_names_the_key() {
    for (set, names) in [
        ("inference.cors=2", ["cors", "cores"]),
        ("inference.threads=many", ["inference.threads", "many"]),
        ("inference.queue=1", ["inference.queue", "2048"]),
        ("inference.provider=abacus", ["inference.provider", "cuda"]),
        ("gateway.http=127.0.0.1:1", ["gateway", "node"]),
    ] {
        let output = run(&["config", "check", "--set", set]);
        assert_eq!(output.status.code(), Some(2), "{set}: {}", stderr(&output));
        for name in names {
            assert!(stderr(&output).contains(name), "{set}: {name} is missing in {}", stderr(&output));
        }
    }
}

#[test]
fn a_model_that_cannot_be_served_ends_its_start() {
    let models = folder();
    let broken = models.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--repository", models.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let file = broken.join("config.json");
    assert!(stderr(&output).contains(file.to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn its_help_teaches_every_command() {
    let output = run(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["serve", "check", "config", "Examples:", "model-server serve --repository"] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
}
