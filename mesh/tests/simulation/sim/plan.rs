//! What goes wrong in a simulation and when, drawn from its seed.

use std::{fmt, time::Duration};

use super::random::Random;

/// Nothing goes wrong for so long at the beginning, so that it is known how well things go then.
pub(crate) const CALM: Duration = Duration::from_secs(25);
/// Nothing goes wrong for so long at the end.
pub(crate) const REST: Duration = Duration::from_secs(50);

/// How long it takes at most until a node that is new is known, with the registry in reach.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// How long a restart in good order takes at most.
pub(crate) const RESTART: Duration = Duration::from_secs(10);

/// Something that is wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What the caller and a node send to each other is lost.
    Cut(usize),
    /// What the caller sends to a node is lost.
    Deaf(usize),
    /// What a node sends to the caller is lost.
    Mute(usize),
    /// What the caller and a node send to each other arrives when this is over.
    Held(usize),
    /// The way between the caller and a node is long.
    Far(usize),
    /// The process of a node is gone; its machine refuses connections.
    Killed(usize),
    /// The machine of a node is gone; connections to it come to nothing.
    Crashed(usize),
    /// A node takes ten times as long.
    Slow(usize),
    /// A node fails all requests at once.
    Failing(usize),
    /// A node is stopped in good order, and started again.
    Restarted(usize),
    /// There are forty times as many calls.
    Rush,
    /// The caller and the registry do not hear each other.
    RegistryCut,
    /// No node and the registry hear each other, but the caller does: all leases may end before its eyes.
    RegistryAlone,
    /// One node and the registry do not hear each other.
    NodeCut(usize),
    /// The registry's machine is gone for a while.
    RegistryGone,
    /// The registry has lost all data.
    RegistryEmpty,
    /// The registry takes long to answer.
    RegistrySlow,
    /// The registry ends all watches.
    Compacted,
}

impl Fault {
    /// Whether it concerns the registry alone, so that calls are to notice nothing.
    pub(crate) fn is_of_registry(self) -> bool {
        matches!(
            self,
            Self::RegistryCut
                | Self::RegistryAlone
                | Self::NodeCut(_)
                | Self::RegistryGone
                | Self::RegistryEmpty
                | Self::RegistrySlow
                | Self::Compacted
        )
    }

    /// Whether a node has to be announced anew after it.
    fn moves(self) -> bool {
        matches!(self, Self::Killed(_) | Self::Crashed(_) | Self::Restarted(_) | Self::NodeCut(_))
    }

    /// The node that is concerned; none where all are.
    pub(crate) fn node(self) -> Option<usize> {
        match self {
            Self::Cut(node)
            | Self::Deaf(node)
            | Self::Mute(node)
            | Self::Held(node)
            | Self::Far(node)
            | Self::Killed(node)
            | Self::Crashed(node)
            | Self::Slow(node)
            | Self::Failing(node)
            | Self::Restarted(node) => Some(node),
            _ => None,
        }
    }
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Episode {
    /// Whether it goes on at some time from `from` to `until`.
    pub(crate) fn within(&self, from: Duration, until: Duration) -> bool {
        self.from <= until && from <= self.until
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from.as_secs_f64(), self.until.as_secs_f64());
        write!(f, "{:?} from {from:.2} s to {until:.2} s", self.fault)
    }
}

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) nodes: usize,
    /// Calls that may fail at once and still be tried again.
    pub(crate) retries: u32,
    /// In order of their beginning.
    pub(crate) episodes: Vec<Episode>,
}

impl Plan {
    /// The plan of `seed` for `length`, which is more than [`CALM`] and [`REST`] together.
    pub(crate) fn draw(seed: u64, length: Duration) -> Self {
        let mut random = Random::new(seed, 1);
        let nodes = 2 + random.below(4) as usize;
        let retries = if random.chance(20) { 10 } else { 100 };
        let seconds = Duration::from_secs;
        let (mut episodes, mut at) = (Vec::<Episode>::new(), CALM);
        loop {
            let mut group = Vec::new();
            for _ in 0..1 + random.below(3) {
                let from = at + random.time(Duration::ZERO, seconds(5));
                let (fault, lasts) = (fault(&mut random, nodes), random.spread(seconds(1), seconds(40)));
                let lasts = match fault {
                    Fault::Restarted(_) => RESTART,
                    // Minutes, as often as not.
                    fault if fault.is_of_registry() => lasts * random.one(&[1, 4]),
                    _ => lasts,
                };
                let episode = Episode { fault, from, until: from + lasts };
                // A node has one trouble at a time, and so has the registry.
                let whose = |episode: &Episode| match episode.fault {
                    fault if fault.is_of_registry() => (None, true),
                    fault => (fault.node(), false),
                };
                let taken = |other: &Episode| whose(other) == whose(&episode);
                if !group.iter().any(taken) {
                    group.push(episode);
                }
            }
            let over = group.iter().map(|episode| episode.until).max().unwrap_or(at);
            if over + REST > length {
                break;
            }
            episodes.extend(group);
            at = over + if random.chance(40) { random.time(seconds(2), seconds(15)) } else { seconds(60) };
        }
        episodes.sort_by_key(|episode| episode.from);
        Self { seed, length, nodes, retries, episodes }
    }

    /// What goes wrong from `from` to `until` and has to do with calls. A node that began anew while the
    /// registry was not well is in trouble until it is there again.
    pub(crate) fn troubles(&self, from: Duration, until: Duration) -> Vec<Episode> {
        let (registry, others): (Vec<Episode>, Vec<Episode>) = self.episodes.iter().partition(|episode| {
            episode.fault.is_of_registry() && !matches!(episode.fault, Fault::NodeCut(_))
        });
        let known = |mut episode: Episode| {
            if episode.fault.moves() {
                episode.until += ANNOUNCED;
                for other in &registry {
                    if other.within(episode.from, episode.until) {
                        episode.until = episode.until.max(other.until + ANNOUNCED);
                    }
                }
            }
            episode
        };
        others.into_iter().map(known).filter(|episode| episode.within(from, until)).collect()
    }

    /// Nodes that the registry told of by now and has no reason to have forgotten.
    pub(crate) fn announced(&self, at: Duration) -> usize {
        let troubles = self.troubles(at.saturating_sub(ANNOUNCED), at);
        let away =
            |node| troubles.iter().any(|episode| episode.fault.moves() && episode.fault.node() == Some(node));
        (0..self.nodes).filter(|node| !away(*node)).count()
    }

    /// Whether nothing goes wrong from `from` to `until` that has to do with calls.
    pub(crate) fn is_calm(&self, from: Duration, until: Duration) -> bool {
        self.troubles(from, until).is_empty()
    }

    /// Whether a node and the way to it are well from `from` to `until`.
    pub(crate) fn is_well(&self, node: usize, from: Duration, until: Duration) -> bool {
        let concerned =
            |episode: &Episode| episode.fault.node() == Some(node) && !episode.fault.is_of_registry();
        !self.episodes.iter().any(|episode| concerned(episode) && episode.within(from, until))
    }
}

fn fault(random: &mut Random, nodes: usize) -> Fault {
    let node = random.below(nodes as u64) as usize;
    let faults = [
        Fault::Cut(node),
        Fault::Deaf(node),
        Fault::Mute(node),
        Fault::Held(node),
        Fault::Far(node),
        Fault::Killed(node),
        Fault::Crashed(node),
        Fault::Slow(node),
        Fault::Failing(node),
        Fault::Restarted(node),
        Fault::Rush,
    ];
    let of_registry = [
        Fault::RegistryCut,
        Fault::RegistryAlone,
        Fault::NodeCut(node),
        Fault::RegistryGone,
        Fault::RegistryEmpty,
        Fault::RegistrySlow,
        Fault::Compacted,
    ];
    if random.chance(35) { random.one(&of_registry) } else { random.one(&faults) }
}
