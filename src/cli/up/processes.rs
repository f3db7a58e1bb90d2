//! `up --processes`: a process for each role and one for the gateway, kept running.
//!
//! They talk over mTLS, with certificates of the configuration or such as are made for it. Each is this program with `serve --role R`. It holds the other end of its standard input: when this
//! process ends, however it does, its children see that and drain.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use switchboard_gateway::keys::Keys;
use switchboard_mesh::{
    Tenant,
    bootstrap::Signals,
    discovery,
    identity::{self, permissions::OPERATOR},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinSet,
};

use super::{Ready, UpArgs, first_key};
use crate::{
    cli::{Global, certs},
    config::Config,
    roles::Role,
};

/// Loading models takes the longest.
const START: Duration = Duration::from_secs(120);
/// The first wait before a process is started again, and the longest: each in a row is twice as long.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A process that ran for as long was well.
const WELL: Duration = Duration::from_secs(10);
/// Beyond the time to drain, how long a process may take to end: it leaves the registry and flushes telemetry.
const GRACE: Duration = Duration::from_secs(6);

/// A process that is ready.
pub(super) struct Process {
    name: &'static str,
    id: u32,
    ready: Value,
}

impl Process {
    pub(super) fn json(&self) -> Value {
        serde_json::json!({ "role": self.name, "pid": self.id, "grpc": self.address() })
    }

    pub(super) fn row(&self) -> Vec<String> {
        vec![self.name.to_owned(), self.id.to_string(), self.address().to_owned()]
    }

    fn address(&self) -> &str {
        self.ready["grpc"].as_str().or_else(|| self.ready["gateway"]["grpc"].as_str()).unwrap_or_default()
    }
}

/// A process that runs, and the other end of its standard input, which `Child::wait` would close.
struct Running {
    child: Child,
    input: ChildStdin,
}

/// How to start one.
struct Plan {
    name: &'static str,
    arguments: Vec<String>,
}

pub(super) async fn up(global: &Global, config: &Config, args: &UpArgs, tenant: &Tenant) -> Result<ExitCode> {
    let began = Instant::now();
    switchboard_mesh::config::writable_folder("data", &config.data.0)?;
    let mut signals = Signals::listen().context("signals cannot be waited for")?;
    let (plans, gateway) = plans(global, config, args)?;
    let drain = config.node.drain.max(config.gateway.drain);
    let (stop, stopped) = watch::channel(());
    let mut running = JoinSet::new();
    let mut processes = Vec::new();
    let started = async {
        let mut starting = JoinSet::new();
        for plan in plans {
            starting
                .spawn(async move { start(&plan).await.map(|(process, running)| (plan, process, running)) });
        }
        while let Some(started) = starting.join_next().await {
            let (plan, process, child) = started.context("a process could not be watched")??;
            processes.push(process);
            running.spawn(keep(plan, child, stopped.clone(), drain));
        }
        // Last, so that its doors open on a mesh that answers, and with the key, so that it has it at once.
        let keys = Keys::open(Keys::file_in(&config.data.0))?;
        let made = first_key(&keys, args, tenant)?;
        let (process, child) = match start(&gateway).await {
            Ok(started) => started,
            Err(error) => {
                // One that is stored but never shown would be lost.
                if let Some((id, _)) = &made {
                    keys.revoke(id)?;
                }
                return Err(error);
            }
        };
        let door = |name: &str| process.ready["gateway"][name].as_str().unwrap_or_default().to_owned();
        let (http, grpc) = (door("http"), door("grpc"));
        processes.push(process);
        running.spawn(keep(gateway, child, stopped.clone(), drain));
        anyhow::Ok((http, grpc, made.map(|(_, secret)| secret)))
    };
    let signal = tokio::select! {
        started = started => {
            let (http, grpc, made) = started?;
            processes.sort_by_key(|process| process.name);
            Ready { http, grpc, made, began }.show(config, args, &processes);
            signals.next().await
        }
        signal = signals.next() => signal,
    };
    tracing::info!(signal, "draining");
    drop(stop);
    drop(stopped);
    while running.join_next().await.is_some() {}
    Ok(ExitCode::SUCCESS)
}

/// Every role on a port of its own, and the gateway. They find each other in the registry where the
/// configuration names one, else at the addresses that are chosen here.
fn plans(global: &Global, config: &Config, args: &UpArgs) -> Result<(Vec<Plan>, Plan)> {
    let mut common = Vec::new();
    if let Some(file) = &global.config {
        common.extend(["--config".to_owned(), file.display().to_string()]);
    }
    common.extend(["--data".to_owned(), config.data.0.display().to_string()]);
    let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
    common.extend(global.set.iter().flat_map(|(key, value)| set(key, value.clone())));
    // Held together until all are known, so that none is given twice.
    let held: Vec<_> =
        Role::ALL.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses = held.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    drop(held);
    if config.discovery.etcd.is_empty() {
        for (role, address) in Role::ALL.iter().zip(&addresses) {
            common.extend(set(&format!("peers.{}", role.name()), format!("http://{address}")));
        }
    }
    let identities = if config.identity.is_plain() {
        certs::for_all(&config.data.0.join("certs"), &config.identity.domain)?
    } else {
        BTreeMap::new()
    };
    let operator = identities.get(OPERATOR).unwrap_or(&config.identity);
    write_operator(config, operator, &addresses)?;
    let serve = |name: &'static str, more: &[String]| {
        let mut arguments = common.clone();
        // They share the data folder.
        arguments.extend(set("discovery.snapshot", format!("members-{name}")));
        // What one process can have, and not eight.
        arguments.extend(
            ["node.metrics", "discovery.advertise"].into_iter().flat_map(|key| set(key, String::new())),
        );
        if let Some(identity) = identities.get(name) {
            let files = [
                ("certificate", &identity.certificate),
                ("key", &identity.key),
                ("authorities", &identity.authorities),
            ];
            let file =
                |(key, file): (&str, &PathBuf)| set(&format!("identity.{key}"), file.display().to_string());
            arguments.extend(files.into_iter().flat_map(file));
        }
        arguments.extend(["serve", "--json", "--attached", "--role", name].map(str::to_owned));
        arguments.extend_from_slice(more);
        Plan { name, arguments }
    };
    let roles = Role::ALL.iter().zip(addresses);
    let roles =
        roles.map(|(role, address)| serve(role.name(), &["--listen".to_owned(), address.to_string()]));
    let doors = [("gateway.http", args.http), ("gateway.grpc", args.grpc)];
    let doors = doors.into_iter().filter_map(|(key, address)| Some(set(key, address?.to_string())));
    let doors: Vec<_> = doors.flatten().collect();
    Ok((roles.collect(), serve(switchboard_gateway::ROLE, &doors)))
}

/// The file by which commands such as `nodes` reach the processes, in the data folder.
pub(super) fn operator_file(config: &Config) -> PathBuf {
    config.data.0.join("operator.toml")
}

fn write_operator(config: &Config, identity: &identity::Config, addresses: &[SocketAddr]) -> Result<()> {
    let mut settings = toml::Table::new();
    // An empty path stays empty.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !identity.is_plain() {
        let identity = identity::Config {
            certificate: absolute(&identity.certificate),
            key: absolute(&identity.key),
            authorities: absolute(&identity.authorities),
            domain: identity.domain.clone(),
        };
        settings.insert("identity".into(), toml::Value::try_from(identity)?);
    }
    if config.discovery.etcd.is_empty() {
        let peer = |(role, address): (&Role, &SocketAddr)| {
            (role.name().to_owned(), toml::Value::from(format!("http://{address}")))
        };
        settings
            .insert("peers".into(), toml::Table::from_iter(Role::ALL.iter().zip(addresses).map(peer)).into());
    } else {
        // What was known when somebody looked is nothing to start from.
        let found = &config.discovery;
        let discovery = discovery::Config {
            snapshot: String::new(),
            password_file: absolute(&found.password_file),
            ca_file: absolute(&found.ca_file),
            certificate: absolute(&found.certificate),
            key: absolute(&found.key),
            ..found.clone()
        };
        settings.insert("discovery".into(), toml::Value::try_from(discovery)?);
    }
    let file = operator_file(config);
    std::fs::write(&file, toml::to_string_pretty(&settings)?)
        .with_context(|| format!("{} cannot be written", file.display()))
}

/// Starts a process and waits until it serves.
async fn start(plan: &Plan) -> Result<(Process, Running)> {
    let Plan { name, arguments } = plan;
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("the process of {name} cannot be started"))?;
    let input = child.stdin.take().context("its input is piped")?;
    let output = child.stdout.take().context("its output is piped")?;
    let mut line = String::new();
    let mut output = BufReader::new(output);
    let read = tokio::time::timeout(START, output.read_line(&mut line)).await;
    let Ok(ready) = serde_json::from_str(&line) else {
        if read.is_err() {
            bail!("{name} is not ready after {} s", START.as_secs());
        }
        child.start_kill()?;
        let status = child.wait().await?;
        bail!("{name} did not start ({status}); what it says of it stands above");
    };
    Ok((Process { name, id: child.id().unwrap_or_default(), ready }, Running { child, input }))
}

/// Starts a process again whenever it ends, until told to stop.
async fn keep(plan: Plan, mut running: Running, mut stopped: watch::Receiver<()>, drain: Duration) {
    let (mut since, mut wait) = (Instant::now(), AGAIN.0);
    loop {
        let status = tokio::select! {
            _ = stopped.changed() => return end(running, drain).await,
            status = running.child.wait() => status,
        };
        if since.elapsed() >= WELL {
            wait = AGAIN.0;
        }
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::warn!(role = plan.name, status, ?wait, "a process ended; it is started again");
        eprintln!("{} ended ({status}); it is started again", plan.name);
        running = loop {
            let again = async {
                tokio::time::sleep(wait).await;
                start(&plan).await
            };
            let started = tokio::select! {
                _ = stopped.changed() => return,
                started = again => started,
            };
            wait = (wait * 2).min(AGAIN.1);
            match started {
                Ok((_, running)) => break running,
                Err(error) => eprintln!("{error:#}"),
            }
        };
        since = Instant::now();
    }
}

/// Lets a process drain, and kills it if it does not end.
async fn end(Running { mut child, input }: Running, drain: Duration) {
    drop(input);
    if tokio::time::timeout(drain + GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
