//! A registry of the demo's own, which ends with it.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::private_folder;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running etcd on loopback.
pub(super) struct Etcd {
    /// Where nodes reach it.
    pub(super) url: String,
    process: Child,
    folder: PathBuf,
}

impl Etcd {
    /// Starts it over an empty folder and waits until it takes connections.
    pub(super) fn start() -> anyhow::Result<Etcd> {
        let folder = std::env::temp_dir().join(format!("switchboard-demo-etcd-{}", std::process::id()));
        private_folder(&folder)?;
        let port = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let (clients, peers) = (port()?, port()?);
        let (url, peer_url) = (format!("http://{clients}"), format!("http://{peers}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.join("data")).args(["--name", "demo", "--logger", "zap"]);
        for (flag, url) in [("client", &url), ("peer", &peer_url)] {
            command.args([format!("--listen-{flag}-urls"), url.clone()]);
        }
        command.args(["--advertise-client-urls", &url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("demo={peer_url}")]);
        let log = fs::File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("cannot run etcd")?;
        let mut etcd = Etcd { url, process, folder };
        let began = Instant::now();
        while TcpStream::connect(clients).is_err() {
            let ended = etcd.process.try_wait()?.is_some();
            ensure!(!ended && began.elapsed() < START_LIMIT, "etcd did not start: {}", etcd.log());
            thread::park_timeout(Duration::from_millis(50));
        }
        Ok(etcd)
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let mut text = String::new();
        let _ = fs::File::open(self.folder.join("log")).and_then(|mut log| log.read_to_string(&mut text));
        text.lines().rev().take(3).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
