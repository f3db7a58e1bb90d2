//! The choices of a simulation, fixed by its seed.

use std::time::Duration;

/// Random numbers that are the same on every machine and in every version, so that a seed replays.
///
/// # Source
/// SplitMix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one part of a simulation; parts do not disturb each other.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut mixed = Self(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(mixed.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that has `percent` chances in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time from `from` to below `to`, in whole milliseconds.
    pub(crate) fn time(&mut self, from: Duration, to: Duration) -> Duration {
        let span = (to - from).as_millis() as u64;
        from + Duration::from_millis(self.below(span.max(1)))
    }

    /// A time from `from` to below about `to`, the short ones as likely as the long ones: each doubling has
    /// the same chance.
    pub(crate) fn spread(&mut self, from: Duration, to: Duration) -> Duration {
        let doublings = u64::from((to.as_millis() / from.as_millis().max(1)).max(1).ilog2()) + 1;
        let base = from * (1 << self.below(doublings));
        self.time(base, base * 2).min(to)
    }

    /// One of `all`, which is not empty.
    pub(crate) fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}
