//! Turns that arrive when they are due, however slow the answers are.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    client::{Class, Client, Turn},
    measure::Point,
    topology::ROOT,
};

/// Of ten turns, three are voice, five chat and two batch.
const MIX: [Class; 10] = {
    use Class::{Batch, Chat, Voice};
    [Voice, Chat, Chat, Batch, Voice, Chat, Chat, Voice, Chat, Batch]
};

/// Load that goes on until it is stopped.
pub(crate) struct Load {
    /// When it began.
    pub(crate) began: Instant,
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Turn>>,
}

/// All turns of a load.
pub(crate) struct Turns {
    pub(crate) began: Instant,
    /// In the order in which they were due.
    pub(crate) all: Vec<Turn>,
}

impl Load {
    /// Begins to ask `rate` turns a second: a Poisson process, the same in every run.
    pub(crate) fn start(client: &Arc<Client>, questions: &Arc<Vec<String>>, rate: f64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let began = Instant::now();
        let task = tokio::spawn(arrive(Arc::clone(client), Arc::clone(questions), rate, began, stopped));
        Self { began, stop, task }
    }

    /// Seconds since it began.
    pub(crate) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Stops asking, and waits for the turns that are under way.
    pub(crate) async fn stop(self) -> Result<Turns> {
        self.stop.send_replace(true);
        let mut all = self.task.await.context("the load failed")?;
        all.sort_by_key(|turn| turn.due);
        Ok(Turns { began: self.began, all })
    }
}

impl Turns {
    /// Those that were due in a span, in seconds from the beginning.
    pub(crate) fn within(&self, from: f64, to: f64) -> impl Iterator<Item = &Turn> + Clone {
        let began = self.began;
        self.all.iter().filter(move |turn| (from..to).contains(&(turn.due - began).as_secs_f64()))
    }

    /// All of them as points.
    pub(crate) fn points(&self) -> Vec<Point> {
        let point = |turn: &Turn| Point {
            due: (turn.due - self.began).as_secs_f64(),
            took: if turn.acknowledged.is_some() { turn.took.as_secs_f64() } else { f64::INFINITY },
        };
        self.all.iter().map(point).collect()
    }
}

async fn arrive(
    client: Arc<Client>,
    questions: Arc<Vec<String>>,
    rate: f64,
    began: Instant,
    mut stopped: watch::Receiver<bool>,
) -> Vec<Turn> {
    let (mut open, mut done) = (JoinSet::new(), Vec::new());
    let mut random = Random(1);
    let mut due = began;
    for number in 0.. {
        due += Duration::from_secs_f64(-random.fraction().ln() / rate);
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep_until(due) => {}
        }
        let (client, questions) = (Arc::clone(&client), Arc::clone(&questions));
        let class = MIX[number % MIX.len()];
        open.spawn(async move { client.turn(&questions[number % questions.len()], class, due).await });
        while let Some(Ok(turn)) = open.try_join_next() {
            done.push(turn);
        }
    }
    // Each ends by itself: the client's patience is bounded.
    done.extend(open.join_all().await);
    done
}

/// The example's questions that stand alone.
pub(crate) fn questions() -> Result<Vec<String>> {
    let path = std::path::Path::new(ROOT).join("examples/acme/questions.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let alone = lines.filter(|line| line["follows"] != true);
    Ok(alone.filter_map(|line| line["question"].as_str().map(str::to_owned)).collect())
}

/// Numbers that look random and are the same in every run: SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    /// Above 0, at most 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
