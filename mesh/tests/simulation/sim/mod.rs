//! A mesh in one thread, on a network and a clock that are simulated: every choice follows from a seed, so that
//! what went wrong once goes wrong again.
//!
//! One host calls, others serve; between them things break by a [`Plan`](plan::Plan). What happened is written
//! down ([`history`]) and compared with what was promised ([`promises`]).

mod callers;
mod clock;
mod etcd;
pub(crate) mod history;
mod network;
pub(crate) mod plan;
pub(crate) mod promises;
mod random;
mod toy;
mod world;

use std::{fmt, time::Duration};

use self::{
    history::History,
    plan::Plan,
    promises::{Broken, Counts},
    world::World,
};

/// What a simulation showed.
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) broken: Vec<Broken>,
    pub(crate) counts: Counts,
    pub(crate) fingerprint: u64,
}

/// Simulates `seed` for `length`.
pub(crate) fn simulate(seed: u64, length: Duration) -> Report {
    let plan = Plan::draw(seed, length);
    match World::new(plan.clone()).run() {
        Ok((plan, history)) => judge(plan, &history),
        Err(error) => {
            let broken = vec![Broken { promise: "no host fails", at: Duration::ZERO, what: error }];
            Report { plan, broken, counts: Counts::default(), fingerprint: 0 }
        }
    }
}

fn judge(plan: Plan, history: &History) -> Report {
    let fingerprint = history.fingerprint();
    let (broken, counts) = promises::check(&plan, &history.records());
    Report { plan, broken, counts, fingerprint }
}

/// How many broken promises are told in full.
const TOLD: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.plan.length.as_secs() / 60;
        for broken in self.broken.iter().take(TOLD) {
            let (promise, at) = (broken.promise, broken.at.as_secs_f64());
            writeln!(f, "seed {}: {promise}: broken at {at:.3} s", self.plan.seed)?;
            writeln!(f, "    {}", broken.what)?;
            for episode in &self.plan.episodes {
                let (from, until) = (broken.at.saturating_sub(Duration::from_secs(60)), broken.at);
                if episode.within(from, until) {
                    writeln!(f, "    after {episode}, of {} nodes", self.plan.nodes)?;
                }
            }
        }
        if self.broken.len() > TOLD {
            writeln!(f, "    and {} more of this seed", self.broken.len() - TOLD)?;
        }
        if !self.broken.is_empty() {
            writeln!(f, "    again: cargo xtask simulate --seed {} --minutes {minutes}", self.plan.seed)?;
        }
        Ok(())
    }
}
