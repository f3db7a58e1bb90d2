//! The hosts of a simulation: one that calls and some that serve.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use switchboard_mesh::{
    Channel,
    balance::{self, Options},
    discovery::{self, About, Announcement, Discovery as _, Mixed, Place, Registrar, Seams},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use turmoil::Sim;

use super::{
    callers::{self, Rush},
    clock::Clock,
    etcd::{self, Etcd},
    history::History,
    network::{self, Wire},
    plan::{Episode, Fault, Plan},
    toy::{self, Mood},
};

/// The step of the simulation. What is sent arrives at a step, so that this is the grain of the network and of
/// all that happens between hosts; inside a host, time is exact to the millisecond.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// How long a message takes at most where nothing is wrong.
pub(crate) const LATENCY: Duration = Duration::from_millis(20);
/// How long a message takes at most on a long way.
pub(crate) const FAR: Duration = Duration::from_millis(400);
/// How long a node that is stopped in good order waits for its calls.
const DRAIN: Duration = Duration::from_secs(6);
/// How long a node is not there between a stop in good order and the next start.
const PAUSE: Duration = Duration::from_millis(500);
const PORT: u16 = 7000;
const CALLER: &str = "caller";
const REGISTRY: &str = "etcd";
const ROLE: &str = "toy";
/// When the calls begin: by then all nodes are known.
const STARTED: Duration = Duration::from_secs(5);
/// How long a slow registry takes for each answer: nodes give it up and the caller does not, so that their leases
/// end before its eyes.
const SLOW: Duration = Duration::from_secs(4);

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// What is left of a node between its starts, and what the simulation changes of it.
#[derive(Default)]
struct Node {
    mood: Arc<Mood>,
    /// The process is not there.
    down: AtomicBool,
    starts: AtomicU32,
    /// Tells the process to stop in good order.
    leave: Mutex<CancellationToken>,
}

/// A simulation under way.
pub(crate) struct World<'a> {
    clock: Clock,
    sim: Sim<'a>,
    plan: Plan,
    nodes: Vec<Arc<Node>>,
    etcd: Etcd,
    rush: Rush,
    history: History,
}

impl World<'_> {
    pub(crate) fn new(plan: Plan) -> Self {
        let clock = Clock::start(plan.seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .epoch(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .tick_duration(TICK)
            .simulation_duration(plan.length * 2)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(LATENCY)
            .tcp_capacity(1024)
            .build();
        let (history, rush) = (History::default(), Arc::new(AtomicU32::new(1)));
        history.outside(Some(Duration::ZERO));
        let nodes: Vec<Arc<Node>> = (0..plan.nodes).map(|_| Arc::default()).collect();
        let etcd = Etcd::new(&history);
        let kept = etcd.clone();
        sim.host(REGISTRY, move || {
            let etcd = kept.clone();
            async move { Ok(etcd.run().await?) }
        });
        for (index, node) in nodes.iter().enumerate() {
            let node = Arc::clone(node);
            let (plan, history) = (plan.clone(), history.clone());
            sim.host(name(index), move || serve(index, Arc::clone(&node), plan.clone(), history.clone()));
        }
        let config = balance::Config { retries: plan.retries, ..balance::Config::default() };
        let options = Options { config, connect: Arc::new(Wire), seed: Some(plan.seed) };
        let (seed, noted, rushing) = (plan.seed, history.clone(), Arc::clone(&rush));
        sim.client(CALLER, async move {
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let place = Place { data: PathBuf::new(), stop, tasks: &tasks, seams: seams(seed) };
            let discovery = Mixed::start(&discovery(), &BTreeMap::new(), place)?;
            let channel = Channel::discovered(ROLE, discovery.watch(ROLE), options);
            tokio::time::sleep(STARTED).await;
            callers::call(channel, seed, rushing, noted).await;
            Ok(())
        });
        Self { clock, sim, plan, nodes, etcd, rush, history }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What a host failed with.
    pub(crate) fn run(mut self) -> Result<(Plan, History), String> {
        let mut changes: Vec<(Duration, bool, Episode)> = Vec::new();
        for episode in &self.plan.episodes {
            changes.push((episode.from, true, *episode));
            changes.push((episode.until, false, *episode));
        }
        changes.sort_by_key(|(at, begins, _)| (*at, *begins));
        let mut changes = changes.into_iter().peekable();
        while self.sim.elapsed() < self.plan.length {
            while let Some((_, begins, episode)) = changes.next_if(|(at, ..)| *at <= self.sim.elapsed()) {
                match begins {
                    true => self.begin(episode.fault),
                    false => self.end(episode.fault),
                }
            }
            self.clock.set(self.sim.elapsed());
            self.history.outside(None);
            self.sim.step().map_err(|error| error.to_string())?;
            self.history.outside(Some(self.sim.elapsed()));
        }
        // Hosts that are dropped change nothing any more of what happened.
        let history = self.history.snapshot();
        Ok((self.plan, history))
    }

    fn begin(&mut self, fault: Fault) {
        let to = fault.node().map(name).unwrap_or_default();
        let to = to.as_str();
        match fault {
            Fault::Cut(_) => self.sim.partition(CALLER, to),
            Fault::Deaf(_) => self.sim.partition_oneway(CALLER, to),
            Fault::Mute(_) => self.sim.partition_oneway(to, CALLER),
            Fault::Held(_) => self.sim.hold(CALLER, to),
            Fault::Far(_) => self.sim.set_link_max_message_latency(CALLER, to, FAR),
            Fault::Killed(node) => {
                self.nodes[node].down.store(true, Ordering::Relaxed);
                self.sim.bounce(to);
            }
            Fault::Crashed(_) => {
                // A machine that is gone says no farewell.
                self.sim.partition(CALLER, to);
                self.sim.crash(to);
            }
            Fault::Slow(node) => self.nodes[node].mood.slowness.store(10, Ordering::Relaxed),
            Fault::Failing(node) => self.nodes[node].mood.fails.store(true, Ordering::Relaxed),
            Fault::Restarted(node) => self.nodes[node].leave.lock().expect("nobody panics with it").cancel(),
            Fault::Rush => self.rush.store(40, Ordering::Relaxed),
            Fault::RegistryCut => self.sim.partition(CALLER, REGISTRY),
            Fault::RegistryAlone => self.each(|sim, node| sim.partition(node, REGISTRY)),
            Fault::NodeCut(node) => self.sim.partition(name(node), REGISTRY),
            Fault::RegistryGone => {
                self.sim.partition(CALLER, REGISTRY);
                self.sim.crash(REGISTRY);
            }
            Fault::RegistryEmpty => {
                self.etcd.lose_everything();
                self.sim.bounce(REGISTRY);
            }
            Fault::RegistrySlow => self.etcd.delay(SLOW),
            Fault::Compacted => self.etcd.compact(),
        }
    }

    fn each(&self, change: impl Fn(&Sim<'_>, String)) {
        (0..self.plan.nodes).for_each(|node| change(&self.sim, name(node)));
    }

    fn end(&mut self, fault: Fault) {
        let to = fault.node().map(name).unwrap_or_default();
        let to = to.as_str();
        match fault {
            Fault::Cut(_) | Fault::Deaf(_) | Fault::Mute(_) => self.sim.repair(CALLER, to),
            Fault::Held(_) => self.sim.release(CALLER, to),
            Fault::Far(_) => self.sim.set_link_max_message_latency(CALLER, to, LATENCY),
            Fault::Killed(node) => {
                self.nodes[node].down.store(false, Ordering::Relaxed);
                self.sim.bounce(to);
            }
            Fault::Crashed(_) => {
                self.sim.repair(CALLER, to);
                self.sim.bounce(to);
            }
            Fault::Slow(node) => self.nodes[node].mood.slowness.store(1, Ordering::Relaxed),
            Fault::Failing(node) => self.nodes[node].mood.fails.store(false, Ordering::Relaxed),
            // It comes back by itself.
            Fault::Restarted(_) => {}
            Fault::Rush => self.rush.store(1, Ordering::Relaxed),
            Fault::RegistryCut => self.sim.repair(CALLER, REGISTRY),
            Fault::RegistryAlone => self.each(|sim, node| sim.repair(node, REGISTRY)),
            Fault::NodeCut(node) => self.sim.repair(name(node), REGISTRY),
            Fault::RegistryGone => {
                self.sim.repair(CALLER, REGISTRY);
                self.sim.bounce(REGISTRY);
            }
            Fault::RegistrySlow => self.etcd.delay(Duration::ZERO),
            Fault::RegistryEmpty | Fault::Compacted => {}
        }
    }
}

/// The `[discovery]` section of all processes.
fn discovery() -> discovery::Config {
    let etcd = vec![format!("http://{REGISTRY}:{}", etcd::PORT)];
    discovery::Config { etcd, snapshot: String::new(), ..discovery::Config::default() }
}

fn seams(seed: u64) -> Seams {
    Seams { connect: Some(Arc::new(Wire)), seed: Some(seed), ..Seams::default() }
}

/// A node: one process after the other.
async fn serve(index: usize, node: Arc<Node>, plan: Plan, history: History) -> turmoil::Result {
    if node.down.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    loop {
        let starts = node.starts.fetch_add(1, Ordering::Relaxed);
        let told_to_leave = CancellationToken::new();
        *node.leave.lock().expect("nobody panics with it") = told_to_leave.clone();
        let now = history.now();
        history.records().starts.push((now, index));
        let service = toy::service(index, &node.mood, &history);
        // A process that starts again is elsewhere, as in most clusters.
        let port = PORT + u16::try_from(starts % 1000).unwrap_or_default();
        let registrar =
            Registrar::open(&discovery(), &seams(plan.seed ^ now.as_millis() as u64 ^ index as u64))?;
        let registrar = registrar.ok_or("etcd is configured")?;
        // Its clock is wrong by up to an hour.
        let wrong = 1_700_000_000 + plan.seed.wrapping_mul(index as u64 + 1) % 7200;
        let about = About { started_at: wrong + now.as_secs(), ..About::default() };
        let announcement = Announcement {
            id: format!("{}-{starts}", name(index)),
            address: format!("{}:{port}", name(index)),
            roles: vec![ROLE.to_owned()],
            about: watch::channel(about).1,
        };
        let (stop, tasks, leave) = (CancellationToken::new(), TaskTracker::new(), CancellationToken::new());
        let registration = registrar.register(announcement, &stop, &tasks)?;
        let leaving = async {
            told_to_leave.cancelled().await;
            registration.withdraw().await;
            leave.cancel();
        };
        let serving = network::serve(port, service, &leave, DRAIN);
        let (served, ()) = futures::future::join(serving, leaving).await;
        served?;
        tokio::time::sleep(PAUSE).await;
    }
}
