//! Whether a node gets calls: failures in a row and rates of success that take it out, and the way back.
//!
//! A node that cannot be connected to is [`Reason::Connection`] at once: nothing is lost by looking
//! again soon. One that fails calls is out for longer each time. Either is probed before it is back, and
//! then gets its share little by little.

use std::time::Duration;

use tokio::time::Instant;

use super::Config;

/// A node that cannot be connected to is looked at again after this time at the latest.
const LONGEST_AWAY: Duration = Duration::from_secs(8);
/// The share that a node begins with when it is new or back.
const FIRST_SHARE: f64 = 0.1;
/// Calls in an interval without which a rate says nothing.
const ENOUGH: u32 = 20;
/// By how much a node must do worse than the rest, beyond what chance explains.
const GAP: f64 = 0.1;
/// Standard errors between a node's rate and the others' that chance does not explain: one in 700
/// intervals of an equal node.
const ERRORS: f64 = 3.0;

/// Why a node is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No connection can be made.
    Connection,
    /// Calls failed in a row.
    Failures,
    /// It fails more calls than the others.
    Rate,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Failures => "failures",
            Self::Rate => "rate",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Up { since: Instant },
    Out { until: Instant, reason: Reason, probed: bool },
}

/// Calls of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) succeeded: u32,
    pub(super) failed: u32,
}

/// The health of one node.
#[derive(Debug)]
pub(super) struct Health {
    state: State,
    /// Failures since the last success.
    failures: u32,
    /// Times that it went out and was not well for a whole interval since.
    times: u32,
    window: Window,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Up { since: now }, failures: 0, times: 0, window: Window::default() }
    }

    /// Why it is out; none while it is up.
    pub(super) fn out(&self) -> Option<Reason> {
        match self.state {
            State::Up { .. } => None,
            State::Out { reason, .. } => Some(reason),
        }
    }

    /// A call was answered. `true` when a node that could not be reached is back by it.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        self.failures = 0;
        self.window.succeeded = self.window.succeeded.saturating_add(1);
        let back = self.out() == Some(Reason::Connection);
        if back {
            self.back(now);
        }
        back
    }

    /// A call failed. `true` when the node goes out by it.
    pub(super) fn failed(&mut self, now: Instant, config: &Config) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.window.failed = self.window.failed.saturating_add(1);
        let enough = self.failures >= config.failures && self.out().is_none();
        if enough {
            self.eject(Reason::Failures, now, config);
        }
        enough
    }

    /// A connection could not be made. `true` when the node goes out by it.
    pub(super) fn unreachable(&mut self, now: Instant, config: &Config) -> bool {
        let first = self.out().is_none();
        self.window.failed = self.window.failed.saturating_add(1);
        self.eject(Reason::Connection, now, config);
        first
    }

    /// A connection broke. `true` when the node goes out by it, until it is probed at the next chance.
    pub(super) fn suspect(&mut self, now: Instant) -> bool {
        let up = self.out().is_none();
        if up {
            self.state = State::Out { until: now, reason: Reason::Connection, probed: false };
        }
        up
    }

    /// Takes it out for a time that doubles.
    pub(super) fn eject(&mut self, reason: Reason, now: Instant, config: &Config) {
        let longest = match reason {
            Reason::Connection => config.longest_ejection.min(LONGEST_AWAY),
            Reason::Failures | Reason::Rate => config.longest_ejection,
        };
        let length = config.ejection.saturating_mul(2_u32.saturating_pow(self.times.min(16))).min(longest);
        self.times = self.times.saturating_add(1);
        self.failures = 0;
        self.state = State::Out { until: now + length, reason, probed: false };
    }

    /// Whether it is to be probed now; whoever is told so does it.
    pub(super) fn probe(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Out { until, probed, .. } if now >= *until && !*probed => {
                *probed = true;
                true
            }
            _ => false,
        }
    }

    /// A probe failed: it stays out.
    pub(super) fn still_out(&mut self, now: Instant, config: &Config) {
        if let Some(reason) = self.out() {
            self.eject(reason, now, config);
        }
    }

    /// It is up, and new again.
    pub(super) fn back(&mut self, now: Instant) {
        self.failures = 0;
        self.window = Window::default();
        self.state = State::Up { since: now };
    }

    /// The share of the calls that it gets, up to 1.
    pub(super) fn share(&self, now: Instant, config: &Config) -> f64 {
        let State::Up { since } = self.state else { return FIRST_SHARE };
        let up = now.saturating_duration_since(since).as_secs_f64() / config.slow_start.as_secs_f64();
        up.clamp(FIRST_SHARE, 1.0)
    }

    /// The calls of the interval that ends, and a new one begins.
    pub(super) fn turn(&mut self) -> Window {
        let window = std::mem::take(&mut self.window);
        if self.out().is_none() && window.failed == 0 && window.succeeded > 0 {
            self.times = self.times.saturating_sub(1);
        }
        window
    }
}

/// The node that does worst of those that do worse than all the others together, by what chance does not
/// explain; none where all do alike. Each is compared to the rest, not to the mean of all, so that two
/// nodes are enough.
///
/// # Source
/// A test of two proportions with the pooled variance.
pub(super) fn outlier(windows: &[Window]) -> Option<usize> {
    let sum = |take: fn(&Window) -> u32| windows.iter().map(|window| f64::from(take(window))).sum::<f64>();
    let (succeeded, failed) = (sum(|window| window.succeeded), sum(|window| window.failed));
    let gap = |window: &Window| {
        let (own_succeeded, own) =
            (f64::from(window.succeeded), f64::from(window.succeeded) + f64::from(window.failed));
        let rest = succeeded + failed - own;
        if own < f64::from(ENOUGH) || rest < f64::from(ENOUGH) {
            return None;
        }
        let pooled = succeeded / (succeeded + failed);
        let error = (pooled * (1.0 - pooled) * (1.0 / own + 1.0 / rest)).sqrt();
        let gap = (succeeded - own_succeeded) / rest - own_succeeded / own;
        (gap >= GAP && gap > ERRORS * error).then_some(gap)
    };
    let gaps = windows.iter().enumerate().filter_map(|(index, window)| Some((index, gap(window)?)));
    gaps.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn failures_in_a_row_take_a_node_out_for_longer_each_time() {
        let (config, mut now) = (Config::default(), Instant::now());
        let mut health = Health::new(now);
        for length in [1, 2, 4, 8, 16, 30, 30] {
            for _ in 0..4 {
                assert!(!health.failed(now, &config));
            }
            health.succeeded(now);
            for _ in 0..4 {
                assert!(!health.failed(now, &config), "a success in between counts");
            }
            assert!(health.failed(now, &config));
            assert_eq!(health.out(), Some(Reason::Failures));
            assert!(!health.probe(now + second(length) - Duration::from_millis(1)));
            now += second(length);
            assert!(health.probe(now) && !health.probe(now), "one probes");
            health.back(now);
        }
    }

    #[test]
    fn a_probe_that_fails_keeps_a_node_out_for_longer() {
        let (config, now) = (Config::default(), Instant::now());
        let mut health = Health::new(now);
        assert!(health.unreachable(now, &config) && health.probe(now + second(1)));
        health.still_out(now + second(1), &config);
        assert!(!health.probe(now + second(2)) && health.probe(now + second(3)));
    }

    #[test]
    fn a_node_whose_connection_broke_is_probed_at_once() {
        let (config, now) = (Config::default(), Instant::now());
        let mut health = Health::new(now);
        assert!(health.suspect(now) && !health.suspect(now));
        assert_eq!(health.out(), Some(Reason::Connection));
        assert!(health.probe(now));
        health.still_out(now, &config);
        assert!(!health.probe(now) && health.probe(now + second(1)));
    }

    #[test]
    fn a_node_gets_its_share_little_by_little() {
        let (config, now) = (Config::default(), Instant::now());
        let health = Health::new(now);
        let shares = [0, 1, 5, 10, 100].map(|at| (health.share(now + second(at), &config) * 10.0).round());
        assert_eq!(shares, [1.0, 1.0, 5.0, 10.0, 10.0]);
    }

    #[test]
    fn times_out_are_forgiven_one_by_one() {
        let (config, now) = (Config::default(), Instant::now());
        let mut health = Health::new(now);
        health.eject(Reason::Rate, now, &config);
        health.eject(Reason::Rate, now, &config);
        health.back(now);
        health.succeeded(now);
        health.turn();
        health.eject(Reason::Rate, now, &config);
        assert!(health.probe(now + second(2)), "as the second time");
    }

    fn window(succeeded: u32, failed: u32) -> Window {
        Window { succeeded, failed }
    }

    #[test]
    fn the_worse_of_two_nodes_is_found() {
        assert_eq!(outlier(&[window(100, 0), window(60, 40)]), Some(1));
        assert_eq!(outlier(&[window(60, 40), window(100, 0)]), Some(0));
        assert_eq!(outlier(&[window(50, 50), window(50, 50)]), None, "all do alike");
        assert_eq!(outlier(&[window(100, 0), window(95, 5)]), None, "a few failures are no reason");
        assert_eq!(outlier(&[window(100, 0), window(0, 19)]), None, "too few calls");
        assert_eq!(outlier(&[window(0, 100)]), None, "there is nothing to compare to");
    }

    proptest! {
        #[test]
        fn an_outlier_did_worse_than_the_rest(calls in prop::collection::vec((0u32..500, 0u32..500), 0..8)) {
            let windows: Vec<Window> = calls.iter().map(|(s, f)| window(*s, *f)).collect();
            if let Some(index) = outlier(&windows) {
                let rate = |w: &Window| f64::from(w.succeeded) / f64::from(w.succeeded + w.failed);
                let best = windows.iter().map(rate).filter(|r| r.is_finite()).fold(0.0, f64::max);
                prop_assert!(rate(&windows[index]) + GAP <= best + 1e-9);
            }
        }
    }
}
