//! How long the next candidates would take, and how many to take at once.
//!
//! Before the first part, the model's own table is asked, as its node measured it, or else what was
//! late a moment ago; afterwards the slowest part of this very request, since load now says more than a
//! table does.

use std::{cmp::Reverse, time::Duration};

use switchboard_proto::inference::v1::ModelProfile;

/// How much longer than foreseen a part may take before it is late: batches wait for one another.
const CAUTION: f64 = 1.25;
/// The part of the time left that one call should take at most, so that stopping stays possible.
const STEP: u32 = 4;

/// How long a model's batches take, by its node's word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Rows, tokens of each, time.
    cells: Vec<(usize, usize, Duration)>,
    backlog: Duration,
}

impl Table {
    /// Reads a profile. Entries that cannot be are left out.
    pub(crate) fn of(profile: &ModelProfile) -> Self {
        let time = |time: Option<prost_types::Duration>| time.and_then(|t| Duration::try_from(t).ok());
        let cells = profile.cells.iter().filter(|cell| cell.batch > 0 && cell.tokens > 0);
        let cells = cells.filter_map(|cell| {
            Some((cell.batch as usize, cell.tokens as usize, time(cell.latency).filter(|t| !t.is_zero())?))
        });
        Self { cells: cells.collect(), backlog: time(profile.backlog).unwrap_or_default() }
    }

    /// The time for `rows` rows of `tokens` tokens, by the nearest entry that holds them; by the
    /// largest one, as often as it takes, when none does.
    fn latency(&self, rows: usize, tokens: usize) -> Option<Duration> {
        let longest = self.cells.iter().map(|cell| cell.1).max()?;
        // A model cuts what is longer than it reads.
        let tokens = tokens.min(longest);
        let holding = self.cells.iter().filter(|cell| cell.0 >= rows && cell.1 >= tokens);
        if let Some(cell) = holding.min_by_key(|cell| cell.0 * cell.1) {
            return Some(cell.2);
        }
        let widest =
            self.cells.iter().filter(|cell| cell.1 >= tokens).max_by_key(|cell| (cell.0, Reverse(cell.1)))?;
        Some(widest.2 * u32::try_from(rows.div_ceil(widest.0)).unwrap_or(u32::MAX))
    }
}

/// Foresees the parts of one request.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    table: Option<Table>,
    /// Seconds for each token of a padded batch, of the slowest part so far.
    slowest: Option<f64>,
    /// That is only how long an earlier request waited in vain.
    in_vain: bool,
}

impl Pace {
    /// `late` is what [`Pace::late`] told of an earlier request that brought nothing.
    pub(crate) fn new(table: Option<Table>, late: Option<f64>) -> Self {
        Self { table: table.filter(|table| !table.cells.is_empty()), slowest: late, in_vain: late.is_some() }
    }

    /// How many of the next candidates to take at once, of `tokens` tokens each, with `left` to go:
    /// as many as are quickest for each one and leave time to stop; `usual`, as long as it does, where
    /// there is no table; 1 when nothing leaves time, or to learn how slow a late node is.
    pub(crate) fn rows(&self, tokens: usize, left: Duration, usual: usize) -> usize {
        if self.in_vain {
            return 1;
        }
        let step = left / STEP;
        let fits = |rows: &usize| self.predict(*rows, tokens).is_none_or(|time| time <= step);
        let Some(table) = &self.table else {
            let halves = std::iter::successors(Some(usual), |rows| Some(rows / 2).filter(|rows| *rows > 0));
            return halves.into_iter().find(fits).unwrap_or(1);
        };
        let mut sizes: Vec<usize> = table.cells.iter().map(|cell| cell.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        // What was seen says how slow the node is now, the table which size is the quickest.
        let fitting = sizes.iter().filter(|rows| fits(rows));
        let fitting = fitting.filter_map(|&rows| Some((rows, table.latency(rows, tokens)?)));
        let each = |(rows, time): &(usize, Duration)| time.as_secs_f64() / *rows as f64;
        let best = fitting.min_by(|a, b| each(a).total_cmp(&each(b)));
        best.map_or(sizes.first().copied().unwrap_or(usual), |(rows, _)| rows)
    }

    /// The time that `rows` rows of `tokens` tokens would take; `None` when nothing is known.
    pub(crate) fn predict(&self, rows: usize, tokens: usize) -> Option<Duration> {
        let seen = self.slowest.map(|slowest| slowest * (rows * tokens) as f64 * CAUTION);
        if let Some(seconds) = seen {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let table = self.table.as_ref()?;
        Some(table.latency(rows, tokens)?.mul_f64(CAUTION) + table.backlog)
    }

    /// What to remember of a part that was still running after `waited`: seconds for each token, at
    /// least.
    pub(crate) fn late(rows: usize, tokens: usize, waited: Duration) -> f64 {
        waited.as_secs_f64() / (rows * tokens).max(1) as f64
    }

    /// Takes in what a part took.
    pub(crate) fn note(&mut self, rows: usize, tokens: usize, took: Duration) {
        let rate = Self::late(rows, tokens, took);
        let before = self.slowest.filter(|_| !self.in_vain);
        self.slowest = Some(before.map_or(rate, |slowest| slowest.max(rate)));
        self.in_vain = false;
    }
}

/// About the number of tokens of a text of so many bytes beside a query: four bytes a token is what
/// English word pieces take, and three tokens mark the borders.
pub(crate) fn tokens(bytes: usize) -> usize {
    bytes / 4 + 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchboard_proto::inference::v1::ProfileCell;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn table(cells: &[(u32, u32, u64)]) -> Table {
        let cell = |&(batch, tokens, time): &(u32, u32, u64)| ProfileCell {
            batch,
            tokens,
            latency: prost_types::Duration::try_from(millis(time)).ok(),
            samples: 0,
        };
        Table::of(&ModelProfile { cells: cells.iter().map(cell).collect(), ..ModelProfile::default() })
    }

    #[test]
    fn the_nearest_entry_that_holds_a_batch_tells_its_time() {
        let table = table(&[(1, 64, 4), (8, 64, 20), (1, 256, 15), (8, 256, 90), (0, 64, 1), (8, 64, 0)]);
        assert_eq!(table.cells.len(), 4, "entries that cannot be are left out");
        assert_eq!(table.latency(1, 40), Some(millis(4)));
        assert_eq!(table.latency(3, 40), Some(millis(20)));
        assert_eq!(table.latency(3, 65), Some(millis(90)));
        // Longer than any: it will be cut. More than any: one after the other.
        assert_eq!(table.latency(1, 9_000), Some(millis(15)));
        assert_eq!(table.latency(20, 64), Some(millis(60)));
        assert_eq!(Table::default().latency(1, 1), None);
    }

    #[test]
    fn a_part_is_as_large_as_is_quick_and_leaves_time_to_stop() {
        let pace = Pace::new(Some(table(&[(1, 64, 8), (4, 64, 16), (16, 64, 48), (64, 64, 256)])), None);
        assert_eq!(pace.rows(60, millis(10_000), 8), 16, "3 ms each; 64 take 4 ms each");
        assert_eq!(pace.rows(60, millis(100), 8), 4, "within a quarter of the time");
        assert_eq!(pace.rows(60, millis(1), 8), 1);
        assert_eq!(Pace::new(None, None).rows(60, millis(1), 8), 8);
    }

    #[test]
    fn what_was_seen_counts_more_than_the_table() {
        let mut pace = Pace::new(Some(table(&[(8, 64, 8)])), None);
        assert_eq!(pace.predict(8, 64), Some(millis(10)));
        pace.note(8, 64, millis(80));
        pace.note(8, 64, millis(40));
        assert_eq!(pace.predict(8, 64), Some(millis(100)), "the slowest so far, with caution");
        assert_eq!(Pace::new(None, None).predict(8, 64), None);
    }

    #[test]
    fn after_a_late_part_a_smaller_one_is_tried_and_then_none() {
        let late = |rows, waited| Pace::new(None, Some(Pace::late(rows, 64, millis(waited))));
        // Eight were not done within 400 ms: one may be, within 400 ms.
        assert_eq!(late(8, 400).rows(64, millis(400), 8), 1);
        assert!(late(8, 400).predict(1, 64).unwrap() < millis(400));
        // One was not: with as much time it is not begun.
        assert!(late(1, 400).predict(1, 64).unwrap() > millis(400));
        // What a part really took counts from then on.
        let mut pace = late(1, 400);
        pace.note(1, 64, millis(500));
        assert_eq!((pace.rows(64, millis(5_000), 8), pace.predict(1, 64)), (2, Some(millis(625))));
    }

    proptest! {
        #[test]
        fn foresight_never_fails(
            cells in proptest::collection::vec((0u32..=u32::MAX, 0u32..=u32::MAX, 0u64..10_000_000), 0..6),
            rows in 1usize..2_000,
            tokens in 1usize..100_000,
            took in 0u64..1_000_000,
        ) {
            let mut pace = Pace::new(Some(table(&cells)), None);
            prop_assert!(pace.rows(tokens, millis(took), 8) >= 1);
            pace.predict(rows, tokens);
            pace.note(rows, tokens, millis(took));
            prop_assert!(pace.predict(rows, tokens).is_some());
        }
    }
}
