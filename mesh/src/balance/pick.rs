//! Which node takes the next call: the better of two that are drawn by chance.
//!
//! Two random candidates are compared, and not all, so that many callers with the same stale view do not
//! all run to the same node.
//!
//! # Source
//! Mitzenmacher 2001, "The power of two choices in randomized load balancing".

/// How much more than a node elsewhere one of the own zone may cost before calls leave the zone.
const SPILL: f64 = 3.0;

/// A node that may take a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place among the nodes of the role.
    pub(super) index: usize,
    /// Seconds of work with the call added.
    pub(super) cost: f64,
    /// Calls in it whose latency is not known yet.
    pub(super) unknown: f64,
    /// The estimate of its latency.
    pub(super) latency: Option<f64>,
    /// Seconds that a call took it on average; none before the first.
    pub(super) typical: Option<f64>,
    /// The share of calls that it gets, up to 1.
    pub(super) share: f64,
    /// Whether it is in the caller's zone.
    pub(super) near: bool,
    /// Whether it refused or failed a call just now.
    pub(super) busy: bool,
    pub(super) standing: Standing,
}

/// What is known of whether a node can take calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    /// Taken out for what it did with calls.
    Ejected,
    /// There is no connection to it.
    Away,
}

/// Why a node was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// By its load alone.
    Load,
    /// It is in the caller's zone.
    Zone,
    /// The caller's zone has not enough.
    Spill,
    /// More than half are out, so being out is no reason.
    Panic,
    /// None is up.
    Last,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Zone => "zone",
            Self::Spill => "spill",
            Self::Panic => "panic",
            Self::Last => "last",
        }
    }
}

/// Puts a price on calls whose latency is not known: that of the other candidates on average, or `default`
/// seconds where nothing is known of any.
pub(super) fn price(all: &mut [Candidate], default: f64) {
    let known = all.iter().filter_map(|candidate| candidate.latency);
    let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), latency| (sum + latency, count + 1));
    let each = if count == 0 { default } else { sum / f64::from(count) };
    for candidate in all {
        candidate.cost += candidate.unknown * each;
        candidate.unknown = 0.0;
    }
}

/// Chooses a candidate; none if there is none. `zoned` when some nodes are in the caller's zone.
pub(super) fn choose(
    all: &[Candidate],
    zoned: bool,
    random: &mut impl FnMut() -> u64,
) -> Option<(usize, Why)> {
    let count = |of: &dyn Fn(&Candidate) -> bool| all.iter().filter(|candidate| of(candidate)).count();
    let up = |candidate: &Candidate| candidate.standing == Standing::Up;
    let healthy = count(&up);
    if (all.len() - healthy) * 2 > all.len() {
        // Those that no connection can be had to are no use even so.
        let why = if healthy == all.len() { Why::Load } else { Why::Panic };
        if let Some(chosen) = better_of_two(all, |c| c.standing != Standing::Away, random) {
            return Some((chosen.index, why));
        }
        return better_of_two(all, |_| true, random).map(|chosen| (chosen.index, Why::Last));
    }
    if zoned {
        let (near, here) = (count(&|c| c.near), count(&|c| c.near && up(c)));
        // Half of a zone cannot carry what all of it did.
        if here > 0 && here * 2 >= near {
            let local = better_of_two(all, |c| c.near && up(c), random)?;
            let far = better_of_two(all, |c| !c.near && up(c), random);
            return Some(match far.filter(|far| full(local, far)) {
                Some(far) => (far.index, Why::Spill),
                None => (local.index, Why::Zone),
            });
        }
        return better_of_two(all, up, random).map(|chosen| (chosen.index, Why::Spill));
    }
    better_of_two(all, up, random).map(|chosen| (chosen.index, Why::Load))
}

/// Whether a node of the own zone has so much to do that one elsewhere is asked.
fn full(local: &Candidate, far: &Candidate) -> bool {
    // What a node elsewhere would cost is not known by an estimate that faded while nobody asked it.
    let dear = far.typical.is_some_and(|typical| local.cost > SPILL * far.cost.max(typical));
    !far.busy && (local.busy || dear)
}

fn better_of_two<'a>(
    all: &'a [Candidate],
    of: impl Fn(&Candidate) -> bool,
    random: &mut impl FnMut() -> u64,
) -> Option<&'a Candidate> {
    let count = all.iter().filter(|candidate| of(candidate)).count();
    let nth = |n: usize| all.iter().filter(|candidate| of(candidate)).nth(n);
    if count < 2 {
        return nth(0);
    }
    let first = below(random(), count);
    let second = (first + 1 + below(random(), count - 1)) % count;
    let (a, b) = (nth(first)?, nth(second)?);
    // At a tie the first is as random as the second.
    Some(if b.cost / b.share < a.cost / a.share { b } else { a })
}

fn below(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
