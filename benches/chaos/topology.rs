//! The mesh as processes: which there are, where, and how they find each other.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use switchboard_mesh::identity::{self, Identity};
use tonic::transport::Channel;

use crate::{
    options::{Kind, Options},
    processes::{Launch, Process, Ready},
    proxy::Proxy,
};

/// What there are two nodes of, in the order in which a turn comes to them.
pub(crate) const ROLES: [&str; 8] =
    ["gateway", "conversation", "policy", "embeddings", "inference", "knowledge", "reranking", "generation"];

/// Ports are taken from here on: below those that the system gives to outgoing connections, one of which
/// could otherwise get the port of a node that is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A node of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) role: &'static str,
    /// Where it serves gRPC.
    pub(crate) address: SocketAddr,
}

/// The running mesh.
pub(crate) struct Mesh {
    /// The nodes, in order of role.
    pub(crate) nodes: Vec<Node>,
    /// An API key for its gateways.
    pub(crate) key: String,
    /// In front of etcd, where nodes find each other by it.
    pub(crate) etcd: Option<Proxy>,
    /// In front of Redis, where something is kept in it.
    pub(crate) redis: Option<Proxy>,
    /// The gateways' own, for calls to nodes' own ports.
    identity: Identity,
    processes: BTreeMap<String, Process>,
    /// What stands behind the proxies; ends after the nodes.
    servers: Vec<Process>,
}

impl Mesh {
    /// Stores the example's documents, and starts everything. Returns when all of it is ready.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let (data, logs) = (options.folder.join("data"), options.folder.join("logs"));
        for folder in [&data, &logs] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        store(options, &data)?;
        let key = key(options, &data.join("gateway"))?;
        let mut ports = Ports::new();
        let mut servers = Vec::new();
        let (mut etcd, mut redis) = (None, None);
        let mut identity = Identity::plain();
        if options.mesh == Kind::Full {
            let (server, proxy) = behind(etcd_server(&data, &mut ports)?, &logs).await?;
            servers.push(server);
            etcd = Some(proxy);
            identity = certificates(options, &data)?;
            let (server, proxy) = behind(redis_server(&data, &mut ports)?, &logs).await?;
            servers.push(server);
            redis = Some(proxy);
        }
        let pair = |role: &'static str| {
            let names = ["a", "b"].map(|suffix| format!("{role}-{suffix}"));
            names.map(|name| Ok(Node { name, role, address: ports.next()? }))
        };
        let nodes = ROLES.into_iter().flat_map(pair).collect::<Result<Vec<_>>>()?;
        let mut processes = BTreeMap::new();
        for node in &nodes {
            let mut launch = match node.role {
                "inference" => model_server(options, node),
                _ => switchboard(options, node, &data),
            };
            launch.arguments.extend(peers(node, &nodes, etcd.as_ref()));
            if !identity.is_plain() {
                let files = identity_of(node.role, &data);
                launch.arguments.extend(settings(&files.each_ref().map(String::as_str)));
            }
            if let Some(redis) = redis.as_ref().filter(|_| node.role == "gateway") {
                launch.arguments.extend(settings(&[&format!("redis.nodes=[\"{}\"]", redis.address)]));
            }
            let log = logs.join(format!("{}.log", node.name));
            processes.insert(node.name.clone(), Process::new(launch, log));
        }
        let mut mesh = Self { nodes, key, etcd, redis, identity, processes, servers };
        try_join_all(mesh.processes.values_mut().map(Process::start)).await?;
        Ok(mesh)
    }

    /// The two nodes of a role.
    pub(crate) fn of(&self, role: &str) -> Vec<Node> {
        self.nodes.iter().filter(|node| node.role == role).cloned().collect()
    }

    /// A connection to a node's own port.
    pub(crate) async fn channel(&self, node: &Node) -> Result<Channel> {
        let uri = format!("http://{}", node.address).parse()?;
        let connected = self.identity.connector().connect(node.role, &uri).await;
        connected.map_err(|error| anyhow::anyhow!("{} cannot be reached: {error}", node.name))
    }

    /// The process of a node.
    pub(crate) fn process(&mut self, name: &str) -> Result<&mut Process> {
        self.processes.get_mut(name).with_context(|| format!("there is no node {name}"))
    }

    /// An error when a process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.values_mut().chain(&mut self.servers).try_for_each(Process::check)
    }
}

/// The arguments by which `node` finds the others: `etcd` where there is one, else fixed addresses.
fn peers(node: &Node, nodes: &[Node], etcd: Option<&Proxy>) -> Vec<String> {
    if let Some(etcd) = etcd {
        return settings(&[&format!("discovery.etcd=http://{}", etcd.address)]);
    }
    // A model-server calls nobody, and a gateway is called by nobody.
    let others = ROLES.into_iter().filter(|role| *role != "gateway" && *role != node.role);
    let set = |role| {
        let all = nodes.iter().filter(|node| node.role == role);
        let all: Vec<String> = all.map(|node| format!("http://{}", node.address)).collect();
        settings(&[&format!("peers.{role}={}", all.join(","))])
    };
    if node.role == "inference" { Vec::new() } else { others.flat_map(set).collect() }
}

/// Starts a server, and a proxy in front of it.
async fn behind((launch, address): (Launch, SocketAddr), logs: &Path) -> Result<(Process, Proxy)> {
    let log = logs.join(format!("{}.log", launch.name));
    let mut process = Process::new(launch, log);
    process.start().await?;
    Ok((process, Proxy::start(address).await?))
}

fn etcd_server(data: &Path, ports: &mut Ports) -> Result<(Launch, SocketAddr)> {
    let (clients, members) = (ports.next()?, ports.next()?);
    let (url, members) = (format!("http://{clients}"), format!("http://{members}"));
    let folder = data.join("etcd").display().to_string();
    let mut arguments = words(&["--name", "chaos", "--log-level", "warn", "--data-dir", &folder]);
    arguments.extend(words(&["--listen-client-urls", &url, "--advertise-client-urls", &url]));
    arguments.extend(words(&["--listen-peer-urls", &members, "--initial-advertise-peer-urls", &members]));
    arguments.extend(words(&["--initial-cluster", &format!("chaos={members}")]));
    Ok((server("etcd", arguments, clients), clients))
}

fn redis_server(data: &Path, ports: &mut Ports) -> Result<(Launch, SocketAddr)> {
    let (address, folder) = (ports.next()?, data.join("redis"));
    fs::create_dir_all(&folder)?;
    let mut arguments = words(&["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    arguments.extend(words(&["--save", "", "--appendonly", "no", "--dir", &folder.display().to_string()]));
    Ok((server("redis-server", arguments, address), address))
}

fn server(program: &str, arguments: Vec<String>, address: SocketAddr) -> Launch {
    Launch { name: program.to_owned(), program: program.into(), arguments, ready: Ready::Port(address) }
}

fn switchboard(options: &Options, node: &Node, data: &Path) -> Launch {
    // The gateways have their keys in common.
    let folder = data.join(if node.role == "gateway" { node.role } else { &node.name });
    let mut arguments = words(&[
        "--data",
        &folder.display().to_string(),
        "serve",
        "--json",
        "--attached",
        "--role",
        node.role,
    ]);
    arguments.extend(settings(&[
        "telemetry.log=warn",
        "node.drain=5s",
        "gateway.drain=5s",
        // The tenant is one, and what it may have at once is not the question here.
        "gateway.max_calls=8192",
        "gateway.max_calls_per_tenant=8192",
        // Redis is asked at each call, and always says yes.
        "gateway.rate.voice.per_second=100000",
        "gateway.rate.chat.per_second=100000",
        "gateway.rate.batch.per_second=100000",
        "conversation.max_conversations=1000000",
        // A question that was asked before costs as much as a new one.
        "embeddings.cache_mib=0",
    ]));
    if node.role == "gateway" {
        arguments.extend(settings(&[&format!("gateway.grpc={}", node.address), "gateway.http=127.0.0.1:0"]));
    } else {
        arguments.extend(words(&["--listen", &node.address.to_string()]));
    }
    Launch { name: node.name.clone(), program: options.switchboard.clone(), arguments, ready: Ready::Line }
}

fn model_server(options: &Options, node: &Node) -> Launch {
    let mut arguments = words(&["serve", "--json", "--listen", &node.address.to_string()]);
    arguments.extend(words(&["--repository", &Path::new(ROOT).join(".cache/models").display().to_string()]));
    arguments.extend(settings(&[
        "telemetry.log=warn",
        "node.drain=5s",
        // Two of them share the machine with everything else.
        "inference.cores=1",
        "inference.instances=1",
        "inference.threads=1",
        "inference.warm_up=200ms",
    ]));
    Launch { name: node.name.clone(), program: options.model_server.clone(), arguments, ready: Ready::Line }
}

/// Makes certificates for all roles. Returns the identity of a gateway.
fn certificates(options: &Options, data: &Path) -> Result<Identity> {
    let mut command = Command::new(&options.switchboard);
    command.args(["certs", "dev", "--out"]).arg(data.join("certs"));
    let done = command.stdin(Stdio::null()).output().context("cannot run switchboard")?;
    ensure!(done.status.success(), "no certificates were made: {}", String::from_utf8_lossy(&done.stderr));
    let at = |name: &str| data.join("certs").join(name);
    let (certificate, key, authorities) = (at("gateway.pem"), at("gateway.key"), at("ca.pem"));
    let config = identity::Config { certificate, key, authorities, ..identity::Config::default() };
    Ok(Identity::load(&config)?)
}

/// The settings by which a node of `role` has its certificate.
fn identity_of(role: &str, data: &Path) -> [String; 3] {
    let at = |name: &str| data.join("certs").join(name).display().to_string();
    [
        format!("identity.certificate={}", at(&format!("{role}.pem"))),
        format!("identity.key={}", at(&format!("{role}.key"))),
        format!("identity.authorities={}", at("ca.pem")),
    ]
}

/// The repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Stores the example's documents for both nodes of knowledge, which do not share a store.
fn store(options: &Options, data: &Path) -> Result<()> {
    let seed = data.join("seed");
    let mut command = Command::new(&options.switchboard);
    command.current_dir(ROOT).arg("--data").arg(&seed);
    command.args(["--set", "inference.warm_up=200ms", "ingest", "--json", "examples/acme/knowledge"]);
    let done = command.stdin(Stdio::null()).output().context("cannot run switchboard")?;
    ensure!(done.status.success(), "documents were not stored: {}", String::from_utf8_lossy(&done.stderr));
    for name in ["knowledge-a", "knowledge-b"] {
        copy(&seed.join("knowledge"), &data.join(name).join("knowledge"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn key(options: &Options, data: &PathBuf) -> Result<String> {
    let mut command = Command::new(&options.switchboard);
    command.arg("--data").arg(data).args(["keys", "create", "--role", "admin", "--label", "chaos"]);
    let done = command.stdin(Stdio::null()).output().context("cannot run switchboard")?;
    ensure!(done.status.success(), "no API key was made: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn settings(pairs: &[&str]) -> Vec<String> {
    pairs.iter().flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()]).collect()
}

/// Ports of the loopback address that are free now.
struct Ports {
    next: u16,
}

impl Ports {
    fn new() -> Self {
        // Two tests at once begin at different places.
        let places = u32::from(PORTS.end - PORTS.start) / 100;
        let place = std::process::id() % places * 100;
        Self { next: PORTS.start + u16::try_from(place).unwrap_or_default() }
    }

    fn next(&mut self) -> Result<SocketAddr> {
        for _ in PORTS {
            let address = SocketAddr::from(([127, 0, 0, 1], self.next));
            self.next = if self.next + 1 < PORTS.end { self.next + 1 } else { PORTS.start };
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        anyhow::bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
    }
}

/// How long the mesh is given to settle before anything is measured.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
