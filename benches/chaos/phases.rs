//! What is done to the mesh under load, and what its client sees of it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::{
    client::{Class, Client, End},
    knee::{self, Knee},
    load::{Load, Turns},
    measure,
    proxy::Fault,
    reconcile::{Kept, reconcile},
    report::{Goal, Row, Section},
    say,
    topology::{Mesh, ROLES},
};

/// Load before the first fault, to compare with.
const QUIET: Duration = Duration::from_secs(10);
/// The same where little depends on it.
const SHORT: Duration = Duration::from_secs(5);
/// How long a killed node is away: the time to be well again, and to be seen to stay so.
const KILLED: Duration = Duration::from_secs(7);
/// How long a frozen one is away; it is found out later.
const FROZEN: Duration = Duration::from_secs(9);
/// By how much a slow server is late.
const LATE: Duration = Duration::from_millis(300);
/// Between two faults.
const CALM: Duration = Duration::from_secs(2);
/// How many times the p99 of the quiet part still counts as well.
const WELL: f64 = 1.5;
/// Seconds more than it that count as well in any case: with 2 s of turns the p99 is that of one turn, and a
/// machine with more processes than cores makes one wait now and then.
pub(crate) const MORE: f64 = 0.05;

/// What all parts have in common.
pub(crate) struct Run {
    pub(crate) mesh: Mesh,
    pub(crate) client: Arc<Client>,
    pub(crate) questions: Arc<Vec<String>>,
    /// Turns a second of steady load.
    pub(crate) rate: f64,
    pub(crate) knee: Knee,
    pub(crate) rounds: u32,
    pub(crate) roles: Vec<String>,
    /// How long outages and overload last.
    pub(crate) span: Duration,
}

/// A fault, in seconds from the beginning of the load.
struct Mark {
    what: String,
    at: f64,
    /// When what was away came back.
    cleared: f64,
    end: f64,
    /// Whether it is asked when the p99 was back.
    watched: bool,
    note: String,
}

impl Mark {
    /// A span of which it is not asked when the p99 was back.
    fn whole(what: &str, at: f64, end: f64, note: String) -> Self {
        Self { what: what.to_owned(), at, cleared: end, end, watched: false, note }
    }
}

impl Run {
    /// One node of each role is killed, and started again.
    pub(crate) async fn kill(&mut self) -> Result<Section> {
        let (load, mut marks, mut ends) = (self.begin("kill", QUIET).await, Vec::new(), Vec::new());
        for (role, index) in self.turns_of_roles() {
            let node = self.mesh.of(role)[index].clone();
            let at = load.now();
            self.mesh.process(&node.name)?.kill()?;
            if role == "conversation" {
                ends.push(Instant::now());
            }
            say(&format!("kill: {} is killed", node.name));
            sleep(KILLED).await;
            let cleared = load.now();
            let ready = self.mesh.process(&node.name)?.start().await?;
            sleep(CALM).await;
            self.mesh.check()?;
            let note = format!("ready again after {:.1} s", ready.as_secs_f64());
            marks.push(Mark { what: node.name, at, cleared, end: load.now(), watched: true, note });
        }
        let mut section = self.end("Kill one of two", load, &marks, &ends).await?;
        let share = section.lost as f64 / section.sent.max(1) as f64;
        section.goals.push(Goal::most("turns lost, %", share * 100.0, 0.1));
        section.goals.extend(slowest(&section.rows, 2.0));
        Ok(section)
    }

    /// One node of each role is frozen, and goes on.
    pub(crate) async fn freeze(&mut self) -> Result<Section> {
        let (load, mut marks) = (self.begin("freeze", QUIET).await, Vec::new());
        for (role, index) in self.turns_of_roles() {
            let node = self.mesh.of(role)[index].clone();
            let at = load.now();
            self.mesh.process(&node.name)?.freeze()?;
            say(&format!("freeze: {} is frozen", node.name));
            sleep(FROZEN).await;
            let cleared = load.now();
            self.mesh.process(&node.name)?.thaw()?;
            sleep(CALM).await;
            self.mesh.check()?;
            marks.push(Mark {
                what: node.name,
                at,
                cleared,
                end: load.now(),
                watched: true,
                note: String::new(),
            });
        }
        let mut section = self.end("Freeze one of two", load, &marks, &[]).await?;
        section.goals.extend(slowest(&section.rows, 5.0));
        Ok(section)
    }

    /// A server behind a proxy is away: refused for half of the time, silent for the other half, and slow for a
    /// moment.
    pub(crate) async fn outage(&mut self, server: &'static str) -> Result<Option<Section>> {
        let there = |mesh: &Mesh| match server {
            "etcd" => mesh.etcd.is_some(),
            _ => mesh.redis.is_some(),
        };
        if !there(&self.mesh) {
            say(&format!("{server}: not part of this mesh; left out"));
            return Ok(None);
        }
        let (load, mut marks) = (self.begin(server, SHORT).await, Vec::new());
        let half = self.span / 2;
        let faults = [
            (Fault::Cut, "refuses", half),
            (Fault::BlackHole, "is silent", half),
            (Fault::Delay(LATE), "is slow", CALM),
        ];
        for (fault, what, span) in faults {
            let at = load.now();
            self.set(server, fault);
            say(&format!("{server}: {what}"));
            sleep(span).await;
            self.mesh.check()?;
            marks.push(Mark::whole(&format!("{server} {what}"), at, load.now(), String::new()));
        }
        self.set(server, Fault::Pass);
        let at = load.now();
        sleep(CALM).await;
        marks.push(Mark::whole(&format!("{server} is back"), at, load.now(), String::new()));
        let mut section = self.end(&format!("{server} away"), load, &marks, &[]).await?;
        section.goals.push(Goal::most("turns lost", section.lost as f64, 0.0));
        Ok(Some(section))
    }

    /// Each process is ended well and started again, one after the other.
    pub(crate) async fn rolling(&mut self) -> Result<Section> {
        let (load, mut marks, mut ends) = (self.begin("rolling", SHORT).await, Vec::new(), Vec::new());
        for role in ROLES {
            let at = load.now();
            let mut note = Vec::new();
            for node in self.mesh.of(role) {
                let process = self.mesh.process(&node.name)?;
                let ended = process.terminate().await?;
                if role == "conversation" {
                    ends.push(Instant::now());
                }
                let ready = process.start().await?;
                note.push(format!("{:.1} + {:.1} s", ended.as_secs_f64(), ready.as_secs_f64()));
                sleep(Duration::from_secs(1)).await;
            }
            say(&format!("rolling: {role} was restarted, end and start: {}", note.join(", ")));
            self.mesh.check()?;
            let now = load.now();
            marks.push(Mark::whole(role, at, now, note.join(", ")));
        }
        let mut section = self.end("Rolling restart", load, &marks, &ends).await?;
        section.goals.push(Goal::most("turns lost", section.lost as f64, 0.0));
        Ok(section)
    }

    /// Twice the knee.
    pub(crate) async fn overload(&mut self) -> Result<Section> {
        let knee = self.knee.late;
        say(&format!("overload: {knee:.0} turns/s, from where on turns are late"));
        let at_knee = knee::ask(&self.client, &self.questions, knee, QUIET).await?;
        say(&format!("overload: {:.0} turns/s for {} s", knee * 2.0, self.span.as_secs()));
        let twice = knee::ask(&self.client, &self.questions, knee * 2.0, self.span).await?;
        self.mesh.check()?;
        let good = |turns: &Turns, span: Duration| {
            turns.all.iter().filter(|turn| turn.in_time()).count() as f64 / span.as_secs_f64()
        };
        let mut rows = Vec::new();
        for (what, turns, span) in [("the knee", &at_knee, QUIET), ("twice the knee", &twice, self.span)] {
            let end = span.as_secs_f64() + 1.0;
            rows.push(row(turns, &Mark::whole(what, 0.0, end, shares(turns)), f64::INFINITY, 0.0));
        }
        let (before, during) = (good(&at_knee, QUIET), good(&twice, self.span));
        let voice = twice.all.iter().filter(|turn| turn.class == Class::Voice);
        let attained = voice.clone().filter(|turn| turn.in_time()).count() as f64;
        let voice = attained / voice.count().max(1) as f64;
        let batch = twice.all.iter().filter(|turn| turn.class == Class::Batch);
        let refused = batch.clone().filter(|turn| matches!(turn.end, End::Refused(_))).count() as f64;
        let batch = refused / batch.count().max(1) as f64;
        let mut section = Section::new("Twice the knee", rows, &twice);
        section.kept = self.reconcile(&twice, &[]).await?;
        section.about = format!("Goodput {before:.1} turns/s at the knee and {during:.1} at twice as much.");
        section.goals.push(Goal::least("goodput of the knee's, %", 100.0 * during / before, 90.0));
        section.goals.push(Goal::least("voice in time, %", 100.0 * voice, 99.0));
        section.goals.push(Goal::more("batch refused, %", 100.0 * batch, 0.0));
        section.goals.push(Goal::most("acknowledged turns missing", section.kept.missing as f64, 0.0));
        Ok(section)
    }

    /// Roles and which of their nodes, for all rounds.
    fn turns_of_roles(&self) -> Vec<(&'static str, usize)> {
        let chosen = |role: &&str| self.roles.is_empty() || self.roles.iter().any(|name| name == role);
        let round = |round: u32| ROLES.into_iter().filter(chosen).map(move |role| (role, round as usize % 2));
        (0..self.rounds).flat_map(round).collect()
    }

    fn set(&self, server: &str, fault: Fault) {
        let proxy = if server == "etcd" { &self.mesh.etcd } else { &self.mesh.redis };
        if let Some(proxy) = proxy {
            proxy.set(fault);
        }
    }

    async fn begin(&self, part: &str, quiet: Duration) -> Load {
        say(&format!("{part}: {:.0} turns/s, quiet for {} s", self.rate, quiet.as_secs()));
        let load = Load::start(&self.client, &self.questions, self.rate);
        sleep(quiet).await;
        load
    }

    async fn end(&self, name: &str, load: Load, marks: &[Mark], ends: &[Instant]) -> Result<Section> {
        let turns = load.stop().await?;
        let points = turns.points();
        // The first second warms up what was idle.
        let quiet = measure::p99(&points, 1.0, marks.first().map_or(0.0, |mark| mark.at));
        let limit = (quiet * WELL).max(quiet + MORE);
        let rows = marks.iter().map(|mark| row(&turns, mark, limit, quiet)).collect();
        let mut section = Section::new(name, rows, &turns);
        section.kept = self.reconcile(&turns, ends).await?;
        section.about =
            format!("p99 of the quiet part {:.0} ms; back means at most {:.0} ms.", quiet * 1e3, limit * 1e3);
        section.goals.push(Goal::most("acknowledged turns missing", section.kept.missing as f64, 0.0));
        say(&format!(
            "{name}: {} turns, {} refused, {} lost; {} acknowledged, {} not kept, {} missing",
            section.sent,
            section.refused,
            section.lost,
            section.kept.acknowledged,
            section.kept.forgotten,
            section.kept.missing
        ));
        Ok(section)
    }

    async fn reconcile(&self, turns: &Turns, ends: &[Instant]) -> Result<Kept> {
        let mut nodes = Vec::new();
        for node in self.mesh.of("conversation") {
            nodes.push(self.mesh.channel(&node).await?);
        }
        reconcile(&nodes, turns, ends).await
    }
}

fn row(turns: &Turns, mark: &Mark, limit: f64, quiet: f64) -> Row {
    let points = turns.points();
    let back = measure::back(&points, mark.at, mark.cleared, limit).unwrap_or(f64::INFINITY);
    Row {
        back: mark.watched.then_some(back),
        at: mark.at,
        quiet,
        p99: measure::p99(&points, mark.at, mark.cleared),
        ..Row::of(&mark.what, turns.within(mark.at, mark.end), &mark.note)
    }
}

/// The goal on how long it took until the p99 was back, over all faults.
fn slowest(rows: &[Row], most: f64) -> impl Iterator<Item = Goal> {
    let slowest = rows.iter().filter_map(|row| row.back).fold(0.0, f64::max);
    std::iter::once(Goal::most("p99 back after, s, at the slowest", slowest, most))
}

/// What became of each class.
fn shares(turns: &Turns) -> String {
    let class = |class: Class| {
        let all = turns.all.iter().filter(|turn| turn.class == class);
        let share = |count: usize| 100.0 * count as f64 / all.clone().count().max(1) as f64;
        let good = share(all.clone().filter(|turn| turn.in_time()).count());
        let refused = share(all.clone().filter(|turn| matches!(turn.end, End::Refused(_))).count());
        format!("{} {good:.1} % in time, {refused:.1} % refused", class.name())
    };
    Class::ALL.map(class).join("; ")
}
