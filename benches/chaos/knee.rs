//! How much the mesh can do: the rate from which on it is slow, or not in time.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    client::Client,
    load::{Load, Turns},
    measure::percentile,
    say,
};

/// How long a rate is tried.
const TRY: Duration = Duration::from_secs(4);
/// The same near to where turns are late: for a few seconds queues take more than can be done.
const LONG_TRY: Duration = Duration::from_secs(8);
/// More tries after doubling.
const TRIES: usize = 2;
/// Turns a second that the mesh is not busy with.
const IDLE: f64 = 8.0;
/// How many times its idle p99 a rate may cost.
const SLOWER: f64 = 3.0;
/// The share of the turns that has to be answered in time.
const GOOD: f64 = 0.95;
/// More than one client process could ask for.
const MOST: f64 = 4096.0;

/// What a rate came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    /// Share of the turns that were answered in time.
    pub(crate) good: f64,
    pub(crate) p99: f64,
}

/// Asks `rate` turns a second for `time`.
pub(crate) async fn ask(
    client: &Arc<Client>,
    questions: &Arc<Vec<String>>,
    rate: f64,
    time: Duration,
) -> Result<Turns> {
    let load = Load::start(client, questions, rate);
    tokio::time::sleep(time).await;
    load.stop().await
}

/// Sums up what was asked.
pub(crate) fn sum_up(turns: &Turns) -> Tried {
    let good = turns.all.iter().filter(|turn| turn.in_time()).count();
    Tried {
        good: good as f64 / turns.all.len().max(1) as f64,
        p99: percentile(turns.points().iter().map(|point| point.took), 0.99),
    }
}

/// How much the mesh can do, in turns a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knee {
    /// From here on turns are slow: their p99 is more than three times that of an idle mesh.
    pub(crate) slow: f64,
    /// From here on turns are late: fewer than 95 % are in the time of their class.
    pub(crate) late: f64,
}

/// Looks for the knee: doubling, then bisecting.
pub(crate) async fn find(client: &Arc<Client>, questions: &Arc<Vec<String>>) -> Result<Knee> {
    let idle = sum_up(&ask(client, questions, IDLE, TRY * 2).await?);
    say(&format!("knee: {IDLE} turns/s: p99 {:.0} ms", idle.p99 * 1e3));
    let limit = idle.p99 * SLOWER;
    let mut tried: Vec<(f64, Tried)> = vec![(IDLE, idle)];
    let mut rate = IDLE * 2.0;
    while rate < MOST && tried.last().is_some_and(|(_, last)| last.good >= GOOD) {
        rate *= 2.0;
        tried.push((rate, bears(client, questions, rate, TRY).await?));
    }
    let fast = |tried: &Tried| tried.good >= GOOD && tried.p99 <= limit;
    let slow = bisect(client, questions, &mut tried, TRY, fast).await?;
    let late = bisect(client, questions, &mut tried, LONG_TRY, |tried| tried.good >= GOOD).await?;
    Ok(Knee { slow, late })
}

async fn bears(
    client: &Arc<Client>,
    questions: &Arc<Vec<String>>,
    rate: f64,
    time: Duration,
) -> Result<Tried> {
    let tried = sum_up(&ask(client, questions, rate, time).await?);
    let (good, p99) = (tried.good * 100.0, tried.p99 * 1e3);
    say(&format!("knee: {rate:.0} turns/s: in time {good:.1} %, p99 {p99:.0} ms"));
    Ok(tried)
}

/// The highest rate below the lowest that is not well, by a few more tries.
async fn bisect(
    client: &Arc<Client>,
    questions: &Arc<Vec<String>>,
    tried: &mut Vec<(f64, Tried)>,
    time: Duration,
    well: impl Fn(&Tried) -> bool,
) -> Result<f64> {
    for left in (0..=TRIES).rev() {
        tried.sort_by(|a, b| a.0.total_cmp(&b.0));
        let first = tried.iter().position(|(_, tried)| !well(tried)).unwrap_or(tried.len());
        let low = tried[..first].last().map_or(IDLE, |(rate, _)| *rate);
        let Some((high, _)) = tried.get(first).filter(|_| left > 0) else { return Ok(low) };
        let middle = f64::midpoint(low, *high);
        tried.push((middle, bears(client, questions, middle, time).await?));
    }
    Ok(IDLE)
}
