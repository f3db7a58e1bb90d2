//! Clients that are not ours, against the built program: `tritonclient`, `tei-client`, and a stock gRPC client
//! that knows nothing but reflection.
//!
//! Their tests are in `clients/`, one file for each client; here the node is started for them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// What setup puts below the workspace's `.cache`.
fn cached(path: &str) -> PathBuf {
    let path = Path::new(CRATE).join("../.cache").join(path);
    path.canonicalize().unwrap_or_else(|_| panic!("{} is missing: run `cargo xtask setup`", path.display()))
}

/// A running `model-server`; killed when dropped.
struct Node {
    child: Child,
    address: String,
    _repository: TempDir,
}

impl Node {
    /// A node with the embedder of setup and the small models of the fixtures, but those that write: these are not
    /// served yet.
    fn start() -> Self {
        let repository = tempfile::tempdir().unwrap();
        let embedder = cached("models/all-MiniLM-L6-v2");
        symlink(&embedder, repository.path().join("all-MiniLM-L6-v2")).unwrap();
        for entry in fs::read_dir(Path::new(CRATE).join("fixtures/models")).unwrap().map(Result::unwrap) {
            if !entry.path().join("generation_config.json").exists() {
                symlink(entry.path(), repository.path().join(entry.file_name())).unwrap();
            }
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_model-server"))
            .current_dir(repository.path())
            .env_remove("SWITCHBOARD_CONFIG")
            .args(["serve", "--listen", "127.0.0.1:0", "--model-control", "--json", "--repository"])
            .arg(repository.path())
            .arg("--set")
            .arg(format!("inference.runtime={}", cached("onnxruntime/libonnxruntime.so").display()))
            .args(["--set", "inference.warm_up=0s", "--set", "telemetry.log=warn"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let address = ready["grpc"].as_str().unwrap().trim_start_matches("http://").to_owned();
        Self { child, address, _repository: repository }
    }

    /// Runs the tests in `clients/{name}.py` against this node.
    fn passes(&self, name: &str) {
        let output = Command::new("python3")
            .current_dir(Path::new(CRATE).join("tests/clients"))
            .args(["-m", "unittest", "-v", name])
            .env("PYTHONPATH", cached("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MODEL_SERVER_ADDRESS", &self.address)
            .env("MODEL_SERVER_FIXTURES", Path::new(CRATE).join("fixtures"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        // A file in which nothing was found would pass as well.
        assert!(said.contains("... ok") && !said.contains("skipped"), "{said}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tritonclient_finds_what_it_knows() {
    Node::start().passes("test_open_inference");
}

#[test]
fn tei_client_finds_what_it_knows() {
    Node::start().passes("test_tei");
}

#[test]
fn a_client_needs_nothing_but_reflection() {
    Node::start().passes("test_reflection");
}
