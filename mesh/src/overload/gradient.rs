//! How many calls at once a service does best with, learnt from how long they take.
//!
//! Answers are collected in windows. While a window's mean (`short`) is near to what calls usually take,
//! the limit grows by what may queue; when it is longer, calls wait for each other below, and the limit
//! shrinks by as much:
//!
//! ```text
//! gradient = clamp(1.5 * min(long, base) / short, 0.5, 1)
//! limit    = 0.8 * limit + 0.2 * (limit * gradient + queue)
//! ```
//!
//! It departs from the textbook in two ways. The long mean alone drifts: a service that is overloaded for
//! long enough makes its own slowness look usual. So there is a second measure, `base`, of what calls take
//! while few are under way: from windows that leave half of the limit free, and, when there are none for
//! long, from a window for which the limit is cut to a third. And where a service is slow whatever the limit is,
//! since something behind it is, the limit stops shrinking: slowness becomes usual again.
//!
//! # Source
//! Gradient2 of Netflix' concurrency-limits: its gradient, tolerance and smoothing.

/// How much longer than usual calls may take before the limit shrinks: means of few calls vary as much.
const TOLERANCE: f64 = 1.5;
/// The weight of a window's result against the limit before.
const SMOOTHING: f64 = 0.2;
/// Windows that the long mean is taken over.
const LONG: f64 = 60.0;
/// The most seconds that a call is taken for.
const LONGEST: f64 = 86_400.0;
/// Answers in a window, by the limit: about as many as there are calls in one round.
const ANSWERS: std::ops::RangeInclusive<f64> = 20.0..=100.0;
/// Of so many answers in a window one that tells of overload below counts; fewer may be one caller's own.
const OVERLOADS: u32 = 10;
/// What overload below leaves of the limit.
const BACK_OFF: f64 = 0.9;
/// Windows without half of the limit free after which `base` is measured anew.
const PROBE: u32 = 100;
/// What a probe leaves of the limit. Less than the tolerance gives back, so that a `base` that was measured
/// under load falls from probe to probe until it fits.
const PROBED: f64 = 1.0 / 3.0;
/// Windows of the steepest fall, which leave a third of the limit, after which it must have helped.
const FALL: u32 = 10;
/// What of the time at the beginning of the fall is left where it helped.
const HELPED: f64 = 0.7;

/// The limit, and what it is learnt from. It knows no clock.
pub(super) struct Gradient {
    limit: f64,
    floor: f64,
    ceiling: f64,
    window: Window,
    /// Windows in `long`, up to [`LONG`].
    windows: f64,
    /// Usual seconds, over many windows.
    long: f64,
    /// Seconds while few calls are under way.
    base: f64,
    /// Windows since `base` was measured.
    unmeasured: u32,
    probing: bool,
    epoch: u32,
    fall: Option<Fall>,
}

#[derive(Default)]
struct Window {
    seconds: f64,
    answers: u32,
    overloads: u32,
    /// The most calls under way when an answer came.
    busiest: u32,
}

/// Windows in a row that shrank the limit as much as one may.
struct Fall {
    /// What calls took in the first one.
    from: f64,
    windows: u32,
}

impl Gradient {
    /// A limit that begins at `initial` and stays from `floor` to `ceiling`.
    pub(super) fn new(initial: u32, floor: u32, ceiling: u32) -> Self {
        let floor = f64::from(floor.max(1));
        let ceiling = f64::from(ceiling).max(floor);
        Self {
            limit: f64::from(initial).clamp(floor, ceiling),
            floor,
            ceiling,
            window: Window::default(),
            windows: 0.0,
            long: 0.0,
            base: 0.0,
            unmeasured: 0,
            probing: false,
            epoch: 0,
            fall: None,
        }
    }

    /// Calls that may be under way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from floor to ceiling")]
    pub(super) fn limit(&self) -> u32 {
        let limit = if self.probing { self.limit * PROBED } else { self.limit };
        limit.max(self.floor) as u32
    }

    /// What a call that begins now hands back with its answer.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What calls usually take, in seconds; 0 while nothing is known.
    pub(super) fn usual(&self) -> f64 {
        self.long
    }

    /// Takes in a call that was answered after `seconds`, when `in_flight` were under way, itself among
    /// them. Whoever was refused, went, or failed is not to be told here.
    pub(super) fn answered(&mut self, seconds: f64, in_flight: u32, epoch: u32) {
        // Calls that began before a probe met the others that it keeps out.
        if !seconds.is_finite() || (self.probing && epoch != self.epoch) {
            return;
        }
        self.window.seconds += seconds.clamp(0.0, LONGEST);
        self.window.answers += 1;
        self.count(in_flight);
    }

    /// Takes in a call that failed because something below has too much to do.
    pub(super) fn overloaded(&mut self, in_flight: u32) {
        self.window.overloads += 1;
        self.count(in_flight);
    }

    fn count(&mut self, in_flight: u32) {
        self.window.busiest = self.window.busiest.max(in_flight);
        let enough = f64::from(self.limit()).clamp(*ANSWERS.start(), *ANSWERS.end());
        if f64::from(self.window.answers + self.window.overloads) >= enough {
            let window = std::mem::take(&mut self.window);
            self.learn(&window);
        }
    }

    fn learn(&mut self, window: &Window) {
        let busy = window.busiest.saturating_mul(2) >= self.limit();
        let probed = std::mem::take(&mut self.probing);
        if window.overloads * OVERLOADS >= window.answers + window.overloads {
            self.fall = None;
            // With few calls under way it is not their number.
            if busy {
                self.set(self.limit * BACK_OFF);
            }
            return;
        }
        let short = window.seconds / f64::from(window.answers);
        self.remember(short, busy, probed);
        if probed || !busy {
            self.unmeasured = 0;
            self.fall = None;
            return;
        }
        let usual = self.long.min(self.base);
        let gradient = if short > 0.0 { (TOLERANCE * usual / short).clamp(0.5, 1.0) } else { 1.0 };
        let target = self.limit * gradient + queue(self.limit);
        self.set((1.0 - SMOOTHING) * self.limit + SMOOTHING * target);
        self.watch_fall(gradient, short);
        self.unmeasured += 1;
        if self.unmeasured >= PROBE {
            self.unmeasured = 0;
            self.probing = true;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    fn remember(&mut self, short: f64, busy: bool, probed: bool) {
        if self.windows == 0.0 {
            self.base = short;
        }
        self.windows = (self.windows + 1.0).min(LONG);
        self.long += (short - self.long) / self.windows;
        // After a slow phase the mean would take as long again to forget it.
        if self.long > 2.0 * short {
            self.long *= 0.95;
        }
        let weight = match (probed, busy) {
            (true, _) => 1.0,
            (false, false) => 0.25,
            // Under load calls take no less than without: it has become faster.
            (false, true) if short < self.base => 0.05,
            (false, true) => 0.0,
        };
        self.base += (short - self.base) * weight;
    }

    /// Ends a fall that does not help.
    fn watch_fall(&mut self, gradient: f64, short: f64) {
        if gradient > 0.5 {
            self.fall = None;
            return;
        }
        let fall = self.fall.get_or_insert(Fall { from: short, windows: 0 });
        fall.windows += 1;
        if fall.windows >= FALL {
            if short > fall.from * HELPED {
                self.base = short;
                self.long = short;
            }
            self.fall = None;
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.floor, self.ceiling);
    }
}

/// Calls that may wait below beyond those that are worked on, so that there is always one at hand: 4 at
/// the usual limits, less where 4 would be most of the limit.
fn queue(limit: f64) -> f64 {
    limit.sqrt().min(limit / 4.0).max(1.0)
}

#[cfg(test)]
mod tests;
