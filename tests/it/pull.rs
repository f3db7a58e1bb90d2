//! `switchboard models pull` from a hub on the loopback address, as a user runs it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{folder, json, stderr, switchboard},
    hub::{COMMIT, Cut, Running, Seen},
    models::{fixtures, weights},
};

/// Secret enough to be noticed wherever it turns up.
const TOKEN: &str = "hf_nobody_may_read_this";

/// A hub with the files of `model`, and a folder of models to pull them into.
struct Pull {
    hub: Running,
    url: String,
    repository: TempDir,
}

impl Pull {
    fn of(model: &Path) -> Self {
        let mut files = Vec::new();
        collect(model, "", &mut files);
        let files: Vec<_> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let hub = Running::start(&files);
        Self { url: hub.url.clone(), hub, repository: folder() }
    }

    /// A hub with a model that has a graph.
    fn ready_made() -> Self {
        Self::of(&fixtures().join("models/tiny-sequence-classifier"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = switchboard(self.repository.path());
        // What the machine is set up with must not matter.
        for variable in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(variable);
        }
        command.env("HF_ENDPOINT", &self.url).args(["models", "pull"]).args(arguments);
        command.arg("--repository").arg(self.repository.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The model's folder.
    fn target(&self) -> PathBuf {
        self.repository.path().join("small")
    }

    /// Every file below the folder of models.
    fn there(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(self.repository.path(), "", &mut files);
        files.into_iter().map(|(path, _)| path).collect()
    }

    fn large_file(&self) -> Vec<u8> {
        self.hub.hub.files.lock().unwrap()["onnx/model.onnx"].clone()
    }
}

fn collect(root: &Path, below: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else {
            files.push((path, fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
}

fn file<'a>(report: &'a Value, path: &str) -> &'a Value {
    let files = report["files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path}: {report}"))
}

#[test]
fn a_model_is_fetched_checked_and_not_fetched_again() {
    let pull = Pull::ready_made();
    let report = json(&pull.run(&["acme/small@v2", "--json"]));
    assert_eq!((&report["commit"], &report["hub"]), (&COMMIT.into(), &Value::from(pull.url.as_str())));
    assert_eq!(report["check"]["task"], "classify", "{report}");
    assert_eq!(file(&report, "onnx/model.onnx")["checksum"]["kind"], "sha256");
    assert_eq!(fs::read(pull.target().join("onnx/model.onnx")).unwrap(), pull.large_file());
    assert!(pull.there().iter().all(|path| path.starts_with("small/")), "nothing else: {:?}", pull.there());
    assert_eq!(pull.hub.seen()[0].path, "/api/acme/small/v2");

    // What somebody added stays, and what is the same is not fetched again.
    fs::write(pull.target().join("model.toml"), "max_tokens = 32\n").unwrap();
    let again = json(&pull.run(&["acme/small", "--json"]));
    assert_eq!(file(&again, "onnx/model.onnx")["kept"], true, "{again}");
    assert_eq!(again["check"]["max_tokens"], 32, "{again}");
    let fetched = |seen: &&Seen| seen.path == "/store/onnx/model.onnx";
    assert_eq!(pull.hub.seen().iter().filter(fetched).count(), 1);
}

#[test]
fn people_are_told_what_came_and_what_it_is() {
    let pull = Pull::ready_made();
    let output = pull.run(&["acme/small", "--name", "sorter"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    for word in [COMMIT, &pull.url, "files fetched", "sorter: classify, texts, one label", "billing"] {
        assert!(said.contains(word), "{word} is missing in\n{said}");
    }
}

#[test]
fn a_cut_transfer_goes_on_by_itself() {
    let pull = Pull::ready_made();
    let cut = |after| Cut { path: "onnx/model.onnx", after, stalls: false };
    *pull.hub.hub.cuts.lock().unwrap() = vec![cut(9_000), cut(20_000)];
    let report = json(&pull.run(&["acme/small", "--json"]));
    // How much of what was sent before the cut arrives is the system's affair.
    let resumed = file(&report, "onnx/model.onnx")["resumed_from"].as_u64().unwrap();
    let asked = pull.hub.seen().into_iter().filter(|seen| seen.path == "/store/onnx/model.onnx");
    let ranges: Vec<_> = asked.map(|seen| seen.range).collect();
    assert_eq!((ranges.len(), &ranges[0]), (3, &None), "{ranges:?}");
    assert_eq!(ranges[2], (resumed > 0).then(|| format!("bytes={resumed}-")), "{ranges:?}");
    assert_eq!(fs::read(pull.target().join("onnx/model.onnx")).unwrap(), pull.large_file());
    assert_eq!(report["check"]["usable"], true, "{report}");
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_ended() {
    let pull = Pull::ready_made();
    let whole = pull.large_file();
    let half = whole.len() / 2;
    *pull.hub.hub.cuts.lock().unwrap() = vec![Cut { path: "onnx/model.onnx", after: half, stalls: true }];
    let mut child = pull.command(&["acme/small"]).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let part = || {
        let entries = fs::read_dir(pull.repository.path().join(".pull-small/onnx")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    while part() < half as u64 {
        assert!(began.elapsed() < Duration::from_secs(60), "the half never came");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!pull.target().exists(), "a half is no model");
    let report = json(&pull.run(&["acme/small", "--json"]));
    assert_eq!(file(&report, "onnx/model.onnx")["resumed_from"], half, "{report}");
    assert_eq!(fs::read(pull.target().join("onnx/model.onnx")).unwrap(), whole);
    assert_eq!(file(&report, "config.json")["kept"], true, "what was whole is kept: {report}");
    assert_eq!(report["check"]["usable"], true, "{report}");
}

#[test]
fn bytes_of_another_hash_never_become_a_model() {
    let pull = Pull::ready_made();
    *pull.hub.hub.wrong.lock().unwrap() = Some("ab".repeat(32));
    let output = pull.run(&["acme/small"]);
    assert_eq!(output.status.code(), Some(1));
    for word in ["sha256", &"ab".repeat(32), "thrown away"] {
        assert!(stderr(&output).contains(word), "{word} is missing in {}", stderr(&output));
    }
    assert!(!pull.target().exists());
    assert_eq!(pull.there(), Vec::<String>::new(), "nothing of it is kept");
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_never_printed() {
    let pull = Pull::ready_made();
    *pull.hub.hub.token.lock().unwrap() = Some(TOKEN.into());
    let output = pull.run(&["acme/small"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("HF_TOKEN"), "what to set: {}", stderr(&output));

    let all = ["acme/small", "--set", "telemetry.log=trace"];
    let silent = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(output);
        assert!(!said.contains(TOKEN) && !said.contains("hf_wrong"), "{said}");
    };
    let output = pull.command(&all).env("HF_TOKEN", "hf_wrong").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    silent(&output);
    let output = pull.command(&all).env("HF_TOKEN", TOKEN).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    silent(&output);
    let seen = pull.hub.seen();
    let store: Vec<_> = seen.iter().filter(|seen| seen.path.starts_with("/store/")).collect();
    assert!(!store.is_empty() && store.iter().all(|seen| seen.token.is_none()), "{store:?}");
    let hub = seen.iter().filter(|seen| !seen.path.starts_with("/store/") && seen.token.is_some());
    assert!(hub.count() > 1, "{seen:?}");
}

#[test]
fn without_a_hub_it_names_the_folder_to_put_the_model_in() {
    let mut pull = Pull::ready_made();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    pull.url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let output = pull.run(&["acme/small"]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    for word in [pull.target().to_str().unwrap(), &pull.url, "config.json", "onnx/model.onnx", "models check"]
    {
        assert!(error.contains(word), "{word} is missing in {error}");
    }
    assert_eq!(pull.there(), Vec::<String>::new());
    assert!(!pull.repository.path().join(".pull-small").exists(), "no trace is left");
}

#[test]
fn files_of_hostile_names_are_left_out() {
    let pull = Pull::ready_made();
    let hostile = [
        "../evil.json",
        "/etc/evil",
        "onnx/../../evil.onnx",
        "1_Pooling/..\\evil",
        ".bashrc",
        "a\u{1b}[2J\n",
    ];
    *pull.hub.hub.listed.lock().unwrap() = hostile.map(String::from).to_vec();
    let output = pull.run(&["acme/small"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for path in &hostile[..5] {
        let told = format!("{path:?}");
        assert!(stderr(&output).contains(&told), "{told} is missing in {}", stderr(&output));
    }
    assert!(!stderr(&output).contains('\u{1b}'), "{:?}", stderr(&output));
    assert!(
        pull.there().iter().all(|path| path.starts_with("small/") && !path.contains("evil")),
        "{:?}",
        pull.there()
    );
    assert!(!pull.hub.seen().iter().any(|seen| seen.path.contains("evil")), "they were not asked for");
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let pull = Pull::ready_made();
    for arguments in [
        &["../small"][..],
        &["acme/../small"],
        &["acme/small/x"],
        &["acme/small@"],
        &["acme/small@../x"],
        &["acme/small", "--name", "../outside"],
        &["acme/small", "--name", ".hidden"],
    ] {
        let output = pull.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
    assert!(pull.hub.seen().is_empty(), "the hub was not even asked");
}

#[test]
fn weights_without_a_graph_are_imported() {
    let pull = Pull::of(&weights("bert-sequence"));
    let report = json(&pull.run(&["acme/small", "--json"]));
    assert_eq!(report["check"]["kind"], "texts, one label", "{report}");
    assert!(pull.target().join("onnx/model.onnx").is_file());
    assert!(pull.there().iter().all(|path| path.starts_with("small/")), "nothing else: {:?}", pull.there());
    let output = pull.run(&["acme/small"]);
    assert!(stderr(&output).contains("there already"), "{}", stderr(&output));
}

#[test]
fn what_the_hub_lacks_is_named() {
    let pull = Pull::ready_made();
    let output = pull.run(&["acme/none@v7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("acme/none") && stderr(&output).contains("v7"), "{}", stderr(&output));
    let output = pull.run(&["acme/small", "--file", "onnx/*fp16*"]);
    assert_eq!(output.status.code(), Some(1));
    for word in ["onnx/*fp16*", "onnx/model.onnx"] {
        assert!(stderr(&output).contains(word), "{word} is missing in {}", stderr(&output));
    }
    pull.hub.hub.files.lock().unwrap().remove("tokenizer.json");
    let output = pull.run(&["acme/small"]);
    assert!(stderr(&output).contains("tokenizer.json"), "{}", stderr(&output));
}

#[test]
fn a_whole_file_that_is_no_model_is_told_and_fails() {
    let pull = Pull::ready_made();
    let garbage = b"as the hub has it, and yet no graph".repeat(9);
    pull.hub.hub.files.lock().unwrap().insert("onnx/model.onnx".into(), garbage);
    let output = pull.run(&["acme/small"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("small: cannot be served") && said.contains("onnx/model.onnx"), "{said}");
}
