//! Processes that are killed, frozen, ended and started again. None outlives this program's end, be it
//! by an error, a panic or a signal that it waits for.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{net::TcpStream, sync::oneshot};

use crate::topology::ROOT;

/// How long a process may take to be ready, on a machine with more of them than cores.
const START: Duration = Duration::from_secs(60);
/// A little more than a node is given to drain.
const END: Duration = Duration::from_secs(15);
/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

/// How a process tells that it is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ready {
    /// By a first line of JSON on its standard output.
    Line,
    /// By taking connections.
    Port(SocketAddr),
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) ready: Ready,
}

/// A process that can be started more than once, always in the same way.
pub(crate) struct Process {
    launch: Launch,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet; what it writes is added to `log`.
    pub(crate) fn new(launch: Launch, log: PathBuf) -> Self {
        Self { launch, log, child: None }
    }

    /// Starts it and waits until it is ready. Returns how long that took.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        let name = &self.launch.name;
        ensure!(self.child.is_none(), "{name} runs already");
        let began = Instant::now();
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.launch.program);
        // A node that is told so ends when this end of its standard input goes.
        command.current_dir(ROOT).args(&self.launch.arguments).stdin(Stdio::piped());
        command.env_remove("SWITCHBOARD_CONFIG").env_remove("SWITCHBOARD_API_KEY");
        command.stdout(Stdio::piped()).stderr(log.try_clone()?);
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", self.launch.program.display()))?;
        let first = follow(child.stdout.take().context("no standard output")?, log);
        self.child = Some(child);
        let ready = async {
            match self.launch.ready {
                Ready::Line => {
                    let line = first.await.context("it wrote nothing")?;
                    serde_json::from_str::<Value>(&line)
                        .map(drop)
                        .with_context(|| format!("it wrote {line:?}"))
                }
                Ready::Port(address) => {
                    while TcpStream::connect(address).await.is_err() {
                        tokio::time::sleep(LOOK).await;
                    }
                    Ok(())
                }
            }
        };
        let ready = tokio::time::timeout(START, ready).await.context("it took too long").flatten();
        ready.with_context(|| format!("{name} did not start; see {}", self.log.display()))?;
        Ok(began.elapsed())
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("{} does not run", self.launch.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it from running without ending it: its connections stay open and nobody answers.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end, and waits until it has. Returns how long that took.
    ///
    /// An error when it does not end in time, or not with success.
    pub(crate) async fn terminate(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.signal(Signal::TERM)?;
        let name = &self.launch.name;
        let child = self.child.as_mut().with_context(|| format!("{name} does not run"))?;
        while began.elapsed() < END {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                ensure!(status.success(), "{name} ended with {status}");
                return Ok(began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{name} did not end within {END:?} of SIGTERM")
    }

    /// An error when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        let name = &self.launch.name;
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            bail!("{name} ended by itself with {status}; see {}", self.log.display());
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.launch.name))?;
        // It is a child that was not waited for, so the id is still its own.
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(id, signal).with_context(|| format!("{} cannot be signalled", self.launch.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads what a process writes, so that it never waits for a reader: the first line comes back, the
/// others go to its log.
fn follow(output: ChildStdout, mut log: File) -> oneshot::Receiver<String> {
    let (tx, rx) = oneshot::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        if let Some(first) = lines.next() {
            let _ = tx.send(first);
        }
        for line in lines {
            let _ = writeln!(log, "{line}");
        }
    });
    rx
}
