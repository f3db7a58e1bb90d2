//! What a node is estimated to take for one more call: a peak-sensitive, decaying mean of its latency,
//! and a penalty while it fails.
//!
//! A latency above the estimate replaces it at once, one below pulls it down slowly, and what is not
//! measured again is forgotten, so that a slow node is tried again. A failure is no latency: a node that
//! fails fast would attract calls by it. It puts a penalty on the node instead that runs out with time.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Config;

/// Models whose load is kept apart on one node; a node with more has the rest counted together.
const MODELS: usize = 32;
/// How long it is remembered that a node said it lacks a model.
const LACKS: Duration = Duration::from_secs(30);
/// The longest name of a model that is remembered.
pub(super) const LONGEST_NAME: usize = 128;

/// The load by one kind of call.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// Seconds, and when they were last corrected; none before the first answer.
    latency: Option<(f64, Instant)>,
    /// Mean seconds, not forgotten.
    typical: Option<f64>,
    pub(super) in_flight: u32,
    /// When the penalty has run out.
    penalty: Option<Instant>,
}

impl Load {
    /// The estimate in seconds; none before the first answer.
    pub(super) fn latency(&self, now: Instant, decay: Duration) -> Option<f64> {
        self.latency.map(|(seconds, at)| seconds * fade(now, at, decay))
    }

    /// Mean seconds of its answers, however long ago.
    pub(super) fn typical(&self) -> Option<f64> {
        self.typical
    }

    /// Seconds that are left of its penalty.
    pub(super) fn penalty(&self, now: Instant) -> f64 {
        self.penalty.map_or(0.0, |until| until.saturating_duration_since(now).as_secs_f64())
    }

    /// Takes in that an answer took `took`.
    pub(super) fn observe(&mut self, took: Duration, now: Instant, decay: Duration) {
        let took = took.as_secs_f64();
        let next = match self.latency {
            None => took,
            Some((seconds, at)) => {
                let fade = fade(now, at, decay);
                if took > seconds * fade { took } else { seconds * fade + took * (1.0 - fade) }
            }
        };
        self.latency = Some((next, now));
        // An eighth each, as the mean of TCP's round trips (RFC 6298).
        self.typical = Some(self.typical.map_or(took, |mean| mean + (took - mean) / 8.0));
    }

    /// Takes in that a call was given up after `took`, so that its answer would have taken longer.
    pub(super) fn at_least(&mut self, took: Duration, now: Instant, decay: Duration) {
        let took = took.as_secs_f64();
        if self.latency(now, decay).is_none_or(|seconds| took > seconds) {
            self.latency = Some((took, now));
        }
    }

    /// Puts a penalty on it; the later end of two stands.
    pub(super) fn penalise(&mut self, length: Duration, now: Instant) {
        self.penalty = self.penalty.max(Some(now + length));
    }
}

fn fade(now: Instant, at: Instant, decay: Duration) -> f64 {
    (-(now.saturating_duration_since(at).as_secs_f64() / decay.as_secs_f64())).exp()
}

/// The loads of a node: by model, and of all calls that name none.
#[derive(Default)]
pub(super) struct Loads {
    shared: Load,
    models: Vec<Model>,
}

struct Model {
    name: Arc<str>,
    load: Load,
    used: Instant,
    /// Until when it counts as lacking on the node.
    lacks: Option<Instant>,
}

/// What one more call would add to: seconds of work, of which some is in terms of a latency that is not
/// known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    /// Seconds that are known.
    pub(super) seconds: f64,
    /// How often the unknown latency comes on top.
    pub(super) unknown: f64,
}

impl Loads {
    /// The load of calls for `model`; the shared one where the model is not kept apart.
    pub(super) fn of(&self, model: Option<&str>) -> &Load {
        self.find(model).map_or(&self.shared, |model| &model.load)
    }

    /// The same, to change. Begins to keep the model apart where there is room; `false` where there is
    /// none and the load is the shared one.
    pub(super) fn apart(&mut self, model: Option<&Arc<str>>, now: Instant) -> (&mut Load, bool) {
        match model.and_then(|name| self.place(name, now)) {
            Some(place) => {
                let model = &mut self.models[place];
                model.used = now;
                (&mut model.load, true)
            }
            None => (&mut self.shared, false),
        }
    }

    /// The load of all calls that name no model.
    pub(super) fn shared(&mut self) -> &mut Load {
        &mut self.shared
    }

    /// All that is under way on the node.
    pub(super) fn in_flight(&self) -> u32 {
        let models = self.models.iter().map(|model| model.load.in_flight);
        models.fold(self.shared.in_flight, u32::saturating_add)
    }

    /// What is under way, each call at the latency of its model, and one more for `model`. With one
    /// kind of call it is the latency times those under way and one. A model that is not known yet is
    /// taken at `hint` seconds, if there is one.
    pub(super) fn work(&self, model: Option<&str>, hint: Option<f64>, now: Instant, config: &Config) -> Work {
        let mut work = Work::default();
        let penalty = self.shared.penalty(now);
        let mut add = |load: &Load, count: f64, hint: Option<f64>| {
            let own = if std::ptr::eq(load, &raw const self.shared) { 0.0 } else { load.penalty(now) };
            work.seconds += (penalty + own) * count;
            match load.latency(now, config.decay).or(hint) {
                Some(seconds) => work.seconds += seconds * count,
                None => work.unknown += count,
            }
        };
        for load in std::iter::once(&self.shared).chain(self.models.iter().map(|model| &model.load)) {
            if load.in_flight > 0 {
                add(load, f64::from(load.in_flight), None);
            }
        }
        match model {
            Some(name) => match self.find(Some(name)) {
                Some(known) => add(&known.load, 1.0, hint),
                None => add(&Load::default(), 1.0, hint),
            },
            None => add(&self.shared, 1.0, hint),
        }
        work
    }

    /// Whether calls for `model` are under a penalty.
    pub(super) fn busy(&self, model: Option<&str>, now: Instant) -> bool {
        self.shared.penalty(now) > 0.0 || self.of(model).penalty(now) > 0.0
    }

    /// Remembers for a while that the node lacks `name`.
    pub(super) fn note_lacking(&mut self, name: &Arc<str>, now: Instant) {
        if let Some(place) = self.place(name, now) {
            self.models[place].lacks = Some(now + LACKS);
        }
    }

    /// Forgets that the node lacks `name`.
    pub(super) fn note_having(&mut self, name: &str) {
        if let Some(model) = self.models.iter_mut().find(|model| &*model.name == name) {
            model.lacks = None;
        }
    }

    /// Whether the node said not long ago that it lacks `name`.
    pub(super) fn lacks(&self, name: &str, now: Instant) -> bool {
        self.find(Some(name)).and_then(|model| model.lacks).is_some_and(|until| now < until)
    }

    fn find(&self, model: Option<&str>) -> Option<&Model> {
        model.and_then(|name| self.models.iter().find(|model| &*model.name == name))
    }

    /// The place of a model. Where there is no room, the one that was not used for longest and has
    /// nothing under way makes some.
    fn place(&mut self, name: &Arc<str>, now: Instant) -> Option<usize> {
        if let Some(place) = self.models.iter().position(|model| model.name == *name) {
            return Some(place);
        }
        if name.len() > LONGEST_NAME {
            return None;
        }
        if self.models.len() >= MODELS {
            let idle = self.models.iter().enumerate().filter(|(_, model)| model.load.in_flight == 0);
            let (oldest, _) = idle.min_by_key(|(_, model)| model.used)?;
            self.models.swap_remove(oldest);
        }
        self.models.push(Model { name: Arc::clone(name), load: Load::default(), used: now, lacks: None });
        Some(self.models.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn millis(load: &Load, now: Instant) -> f64 {
        load.latency(now, DECAY).unwrap() * 1e3
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let (mut load, began) = (Load::default(), Instant::now());
        assert_eq!(load.latency(began, DECAY), None);
        load.observe(Duration::from_millis(5), began, DECAY);
        load.observe(Duration::from_millis(100), began, DECAY);
        assert!((millis(&load, began) - 100.0).abs() < 1e-6);
        load.observe(Duration::from_millis(5), began, DECAY);
        assert!(millis(&load, began) > 99.0);
        // A time constant later a peak counts for 1/e.
        assert!((millis(&load, began + DECAY) - 36.8).abs() < 0.1);
        let mut now = began;
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            load.observe(Duration::from_millis(5), now, DECAY);
        }
        assert!((millis(&load, now) - 5.0).abs() < 0.1, "{}", millis(&load, now));
    }

    #[test]
    fn a_penalty_runs_out_and_the_longer_of_two_stands() {
        let (mut load, now) = (Load::default(), Instant::now());
        load.penalise(Duration::from_secs(5), now);
        load.penalise(Duration::from_secs(1), now);
        assert!((load.penalty(now + Duration::from_secs(2)) - 3.0).abs() < 1e-6);
        assert!(load.penalty(now + Duration::from_secs(5)) <= 0.0);
    }

    #[test]
    fn work_is_what_is_under_way_at_the_pace_of_each_model() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        let config = Config::default();
        let (small, large): (Arc<str>, Arc<str>) = ("small".into(), "large".into());
        for (name, millis, count) in [(&small, 10, 3), (&large, 200, 1)] {
            let (load, apart) = loads.apart(Some(name), now);
            assert!(apart);
            load.observe(Duration::from_millis(millis), now, DECAY);
            load.in_flight = count;
        }
        let is = |model, hint, seconds: f64, unknown: f64| {
            let work = loads.work(Some(model), hint, now, &config);
            assert!((work.seconds - seconds).abs() < 1e-6, "{work:?}");
            assert!((work.unknown - unknown).abs() < 1e-6, "{work:?}");
        };
        is("small", None, 0.03 + 0.2 + 0.01, 0.0);
        is("large", None, 0.03 + 0.2 + 0.2, 0.0);
        // Of a third nothing is known but what is told.
        is("new", None, 0.23, 1.0);
        is("new", Some(0.5), 0.73, 0.0);
        assert_eq!(loads.in_flight(), 4);
    }

    #[test]
    fn names_from_outside_are_bounded() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        loads.apart(Some(&"busy".into()), now).0.in_flight = 1;
        for index in 0..1000 {
            loads.apart(Some(&format!("model-{index}").into()), now + Duration::from_millis(index));
        }
        assert_eq!(loads.models.len(), MODELS);
        assert_eq!(loads.of(Some("busy")).in_flight, 1, "what is under way is not lost");
        assert!(!loads.apart(Some(&"x".repeat(LONGEST_NAME + 1).into()), now).1);
    }

    #[test]
    fn that_a_node_lacks_a_model_is_remembered_for_a_while() {
        let (mut loads, now) = (Loads::default(), Instant::now());
        loads.note_lacking(&"m".into(), now);
        assert!(loads.lacks("m", now) && !loads.lacks("other", now));
        assert!(!loads.lacks("m", now + LACKS));
        loads.note_having("m");
        assert!(!loads.lacks("m", now));
    }
}
