//! A node with the role `inference` alone: the built binary, in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tonic::transport::Channel;

/// The node. It ends with this.
pub(crate) struct Node {
    process: Child,
    grpc: String,
    #[allow(dead_code, reason = "not every benchmark reads metrics")]
    pub(crate) metrics: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    /// Starts it in the folder `root`, with `settings` over those that benchmarks have in common.
    pub(crate) fn start(root: &Path, settings: &[String]) -> Self {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        // As cargo has it for whatever it starts: Torch's threads would take the cores while they wait.
        serve.current_dir(root).env("OMP_WAIT_POLICY", "passive");
        let common = ["telemetry.log=warn", "node.metrics=127.0.0.1:0"];
        for setting in common.into_iter().chain(settings.iter().map(String::as_str)) {
            serve.args(["--set", setting]);
        }
        serve.args(["serve", "--role", "inference", "--listen", "127.0.0.1:0", "--json"]);
        let mut process = serve.stdout(Stdio::piped()).spawn().expect("the node starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("the node says that it is ready");
        let ready: Value = serde_json::from_str(&line).expect("a line of JSON");
        let text = |key: &str| ready[key].as_str().expect("a string").to_owned();
        Self { process, grpc: text("grpc"), metrics: text("metrics") }
    }

    pub(crate) async fn connect(&self) -> Channel {
        Channel::from_shared(self.grpc.clone()).expect("a URL").connect().await.expect("connected")
    }
}
