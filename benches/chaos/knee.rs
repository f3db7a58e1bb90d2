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

/// Looks for the knee, in turns a second: doubling, then bisecting.
pub(crate) async fn find(client: &Arc<Client>, questions: &Arc<Vec<String>>) -> Result<f64> {
    let idle = sum_up(&ask(client, questions, IDLE, TRY * 2).await?);
    say(&format!("knee: {IDLE} turns/s: p99 {:.0} ms", idle.p99 * 1e3));
    let limit = idle.p99 * SLOWER;
    let bears = async |rate: f64| {
        let tried = sum_up(&ask(client, questions, rate, TRY).await?);
        let well = tried.good >= GOOD && tried.p99 <= limit;
        let verdict = if well { "well" } else { "too much" };
        let (good, p99) = (tried.good * 100.0, tried.p99 * 1e3);
        say(&format!("knee: {rate:.0} turns/s: in time {good:.1} %, p99 {p99:.0} ms: {verdict}"));
        anyhow::Ok(well)
    };
    let (mut low, mut high) = (IDLE, IDLE * 2.0);
    while high < MOST && bears(high).await? {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..3 {
        let middle = f64::midpoint(low, high);
        if bears(middle).await? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
