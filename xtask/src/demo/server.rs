//! A `switchboard up` of the demo's own, which never outlives it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::private_folder;
use crate::process::{output, wait_within};
use crate::workspace::Workspace;

/// Runs the server until this shell's stdin closes, then stops it and removes the folder $1.
///
/// The demo holds the other end of stdin, so the server goes with it however it ends: at its end, by
/// Ctrl-C, or by a kill. SIGTERM lets the server drain; after 15 s it is killed.
const WATCH: &str = r#"
folder=$1; shift
trap '' INT
"$@" & server=$!
exec >/dev/null
cat
kill -TERM "$server" 2>/dev/null
tries=0
while kill -0 "$server" 2>/dev/null && [ "$tries" -lt 150 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$server" 2>/dev/null
wait "$server"; code=$?
rm -rf -- "$folder"
exit "$code"
"#;

/// A little more than the shell gives the server.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The running server.
pub(super) struct Server {
    /// The address of its gRPC port.
    pub(super) grpc: String,
    /// How long its start took, by its own account.
    pub(super) ready_ms: u64,
    api_key: String,
    binary: PathBuf,
    folder: PathBuf,
    /// The shell around it; none once stopped.
    watch: Option<Child>,
}

impl Server {
    /// Starts the server with `more` arguments and waits until it is ready, for `limit` at most.
    pub(super) fn start(
        binary: &Path,
        workspace: &Workspace,
        limit: Duration,
        more: &[String],
    ) -> anyhow::Result<Server> {
        let folder = std::env::temp_dir().join(format!("switchboard-demo-{}", std::process::id()));
        private_folder(&folder)?;
        let mut server = Server {
            grpc: String::new(),
            ready_ms: 0,
            api_key: String::new(),
            binary: binary.into(),
            folder,
            watch: None,
        };
        let ready = server.spawn(workspace, more).and_then(|stdout| first_line(stdout, limit));
        match ready.and_then(|line| server.read_ready(&line)) {
            Ok(()) => Ok(server),
            Err(error) => {
                let stopped = server.stop(Some(&workspace.cache));
                let detail = stopped.err().map(|error| format!(" ({error:#})")).unwrap_or_default();
                Err(error.context(format!("`switchboard up` did not start{detail}")))
            }
        }
    }

    fn spawn(&mut self, workspace: &Workspace, more: &[String]) -> anyhow::Result<ChildStdout> {
        let log = File::create(self.log())?;
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh"]).arg(&self.folder).arg(&self.binary);
        command.arg("up").arg("--data").arg(self.data());
        command.args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]).args(more);
        command.current_dir(&workspace.root).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("cannot run sh")?;
        let stdout = child.stdout.take();
        self.watch = Some(child);
        stdout.context("the server has no stdout")
    }

    fn read_ready(&mut self, line: &str) -> anyhow::Result<()> {
        let ready: Value = serde_json::from_str(line).with_context(|| format!("it printed `{line}`"))?;
        let text = |key: &str| {
            let value = ready[key].as_str().filter(|value| !value.is_empty());
            value.map(String::from).with_context(|| format!("its first line has no `{key}`"))
        };
        self.grpc = text("grpc")?;
        self.api_key = text("api_key")?;
        self.ready_ms = ready["ready_ms"].as_u64().unwrap_or_default();
        Ok(())
    }

    /// A key of its own for another tenant of this server.
    pub(super) fn key(&self, tenant: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.binary);
        command
            .arg("--data")
            .arg(self.data())
            .args(["keys", "create", "--role", "admin", "--tenant", tenant]);
        let key = output(command.stdin(Stdio::null()))?;
        Ok(key.trim().to_owned())
    }

    /// A client command of the same binary against this server.
    pub(super) fn client(&self, subcommand: &str) -> Command {
        self.subcommand(subcommand, &[])
    }

    /// The same, of a command with commands of its own.
    pub(super) fn subcommand(&self, name: &str, of: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(name).args(of).args(["--server", &self.grpc]).env("SWITCHBOARD_API_KEY", &self.api_key);
        command.stdin(Stdio::null());
        command
    }

    /// A folder for the demo's own files, removed at the end.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that the server has written: its log and every file of its data, by name.
    pub(super) fn written(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut written = vec![("the log".to_owned(), fs::read(self.log())?)];
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(content) = fs::read(&path) {
                    // A file that cannot be read any more was a passing one, such as SQLite's journal.
                    let name = path.strip_prefix(&self.folder).unwrap_or(&path);
                    written.push((name.display().to_string(), content));
                }
            }
        }
        Ok(written)
    }

    /// Stops the server and removes its folder. Keeps the log in `keep_log`, and shows its end, when
    /// that is given. An error when the server did not drain and end with success.
    pub(super) fn stop(mut self, keep_log: Option<&PathBuf>) -> anyhow::Result<()> {
        if let Some(cache) = keep_log {
            self.show_log(&cache.join("demo.log"));
        }
        let Some(watch) = self.watch.take() else { return Ok(()) };
        match end(watch) {
            Some(0) => Ok(()),
            Some(code) => bail!("`switchboard up` ended with exit code {code}"),
            None => bail!("`switchboard up` did not stop"),
        }
    }

    fn show_log(&self, kept: &Path) {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(20)..] {
            println!("log: {line}");
        }
        if fs::write(kept, &log).is_ok() {
            println!("log: all of it is in {}", kept.display());
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("up.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            end(watch);
        }
    }
}

/// Closes the shell's stdin, which makes it stop the server, and returns the server's exit code.
fn end(mut watch: Child) -> Option<i32> {
    drop(watch.stdin.take());
    wait_within(watch, STOP_LIMIT)
}

/// The first line that a program writes; what follows is read too, so that it never blocks.
fn first_line(stdout: ChildStdout, limit: Duration) -> anyhow::Result<String> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // The receiver is gone when the limit has passed; the rest is read all the same.
        let _ = tx.send(lines.next());
        lines.for_each(drop);
    });
    let line = rx.recv_timeout(limit);
    ensure!(line.is_ok(), "it was not ready after {} s", limit.as_secs());
    line.ok().flatten().context("it ended at once")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;

    use super::*;

    /// The temporary folder is named by process, so one server at a time.
    static ONE: Mutex<()> = Mutex::new(());

    const READY: &str = r#"echo '{"grpc":"http://127.0.0.1:1","api_key":"k","ready_ms":5}'"#;

    /// Starts a shell script in the server's place.
    fn start(name: &str, script: &str) -> (Workspace, anyhow::Result<Server>) {
        let root = std::env::temp_dir().join(format!("xtask-server-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let binary = root.join("switchboard");
        fs::write(&binary, format!("#!/bin/sh\nmkdir -p \"$3\"\n{script}\n")).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let workspace = Workspace { cache: root.clone(), downloads: root.clone(), root };
        let server = Server::start(&binary, &workspace, Duration::from_secs(20), &[]);
        (workspace, server)
    }

    #[test]
    fn a_server_is_stopped_gently_and_its_data_removed() {
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Before it says that it is ready.
        let trap = "trap 'echo drained >&2; exit 0' TERM";
        let wait = "while :; do sleep 0.05; done";
        let script = format!("{trap}; echo secret > \"$3/file\"; {READY}; {wait}");
        let (workspace, server) = start("gentle", &script);
        let server = server.unwrap();
        assert_eq!((server.grpc.as_str(), server.ready_ms), ("http://127.0.0.1:1", 5));
        let written = server.written().unwrap();
        assert!(written.contains(&("data/file".into(), b"secret\n".to_vec())));
        let folder = server.folder().to_owned();
        server.stop(None).unwrap();
        assert!(!folder.exists());
        fs::remove_dir_all(workspace.root).unwrap();
    }

    #[test]
    fn a_server_that_fails_to_start_is_reported_with_its_exit_code() {
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (workspace, server) = start("fails", "echo 'port is busy' >&2; exit 7");
        let error = format!("{:#}", server.err().unwrap());
        assert_eq!(
            error,
            "`switchboard up` did not start (`switchboard up` ended with exit code 7): it ended at once"
        );
        assert_eq!(fs::read_to_string(workspace.cache.join("demo.log")).unwrap(), "port is busy\n");
        fs::remove_dir_all(workspace.root).unwrap();
    }
}
