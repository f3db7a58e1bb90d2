//! How long a model's batches take, over batch and length.
//!
//! A table of seconds over a grid of shapes: measured at warm-up, and corrected by every batch that
//! runs. Between the grid's shapes it interpolates; beyond them time grows with the tokens.

use std::time::Duration;

/// Rows of the grid's batches.
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// The shortest of the grid's lengths; the others double up to the model's longest.
const SHORTEST: usize = 8;
/// How far one batch moves the cells around its shape. Ten batches of a new speed bring a cell most
/// of the way there; one that was held up by the system moves it by little.
const STEP: f64 = 0.2;
/// What a refusal takes off the time that it rests on: after fourteen the time is half.
const DOUBT: f64 = 0.05;
/// How far doubt takes a time: to this part of the least that was ever measured.
const LEAST: f64 = 0.5;
/// One batch counts as at most so many times slower or faster than was thought.
const WILDEST: f64 = 4.0;

/// Seconds of a batch, over rows and tokens of a row.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    lengths: Vec<usize>,
    /// In order of batch, then of length; empty while nothing is known.
    cells: Vec<Cell>,
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    /// The least that it was, by measuring; 0 while that was never done.
    least: f64,
    /// Whether it was measured, and not made up from its neighbours.
    pub(crate) measured: bool,
    /// Batches that corrected it.
    pub(crate) samples: u64,
}

/// What is known of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timed {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    /// Batches that corrected it.
    pub(crate) samples: u64,
}

/// The shapes worth measuring, the cheapest first: none has more than `batch_tokens` tokens.
pub(crate) fn grid(max_tokens: usize, batch_tokens: usize) -> Vec<(usize, usize)> {
    let lengths = lengths(max_tokens);
    let all = BATCHES.iter().flat_map(|&batch| lengths.iter().map(move |&tokens| (batch, tokens)));
    let mut shapes: Vec<_> =
        all.filter(|(batch, tokens)| *batch == 1 || batch * tokens <= batch_tokens).collect();
    shapes.sort_by_key(|(batch, tokens)| (batch * tokens, *batch));
    shapes
}

fn lengths(max_tokens: usize) -> Vec<usize> {
    let doubling = std::iter::successors(Some(SHORTEST), |length| length.checked_mul(2));
    doubling.take_while(|&length| length < max_tokens).chain([max_tokens]).collect()
}

impl Profile {
    /// A table of what was measured: shapes of [`grid`] with their seconds. The other cells are filled
    /// from the measured one that is nearest in tokens.
    pub(crate) fn new(max_tokens: usize, measured: &[((usize, usize), f64)]) -> Self {
        let lengths = lengths(max_tokens);
        let mut profile = Self { lengths, cells: Vec::new() };
        if measured.is_empty() {
            return profile;
        }
        for &batch in &BATCHES {
            for &tokens in &profile.lengths {
                let known = measured.iter().find(|(shape, _)| *shape == (batch, tokens));
                let seconds = known.map_or_else(|| scaled(measured, batch, tokens), |(_, seconds)| *seconds);
                let (measured, least) = (known.is_some(), known.map_or(0.0, |(_, seconds)| *seconds));
                profile.cells.push(Cell { batch, tokens, seconds, least, measured, samples: 0 });
            }
        }
        profile
    }

    /// The times that rest on a measurement.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Timed> {
        let known = self.cells.iter().filter(|cell| cell.measured || cell.samples > 0);
        known.map(|&Cell { batch, tokens, seconds, samples, .. }| Timed { batch, tokens, seconds, samples })
    }

    /// Seconds that a batch should take; `None` while nothing is known.
    pub(crate) fn predict(&self, rows: usize, tokens: usize) -> Option<f64> {
        let seconds: f64 =
            self.around(rows, tokens)?.iter().map(|(at, share)| self.cells[*at].seconds * share).sum();
        // Beyond the grid, in proportion.
        let most_rows = BATCHES[BATCHES.len() - 1];
        let longest = self.lengths.last().copied().unwrap_or(1);
        let beyond = (rows as f64 / most_rows as f64).max(1.0) * (tokens as f64 / longest as f64).max(1.0);
        Some(seconds * beyond)
    }

    /// Takes in what a batch took.
    pub(crate) fn observe(&mut self, rows: usize, tokens: usize, took: Duration) {
        let took = took.as_secs_f64().max(1e-6);
        let Some(thought) = self.predict(rows, tokens) else {
            let (batch, length) = (nearest(&BATCHES, rows), nearest(&self.lengths, tokens));
            let scale = (batch * length) as f64 / (rows * tokens).max(1) as f64;
            *self = Self::new(self.lengths.last().copied().unwrap_or(1), &[((batch, length), took * scale)]);
            return;
        };
        let ratio = (took / thought).clamp(1.0 / WILDEST, WILDEST);
        for (at, share) in self.around(rows, tokens).unwrap_or_default() {
            let cell = &mut self.cells[at];
            cell.seconds *= ratio.powf(STEP * share);
            if share >= 0.5 {
                cell.samples += 1;
                cell.least = if cell.least > 0.0 { cell.least.min(cell.seconds) } else { cell.seconds };
            }
        }
    }

    /// Takes in that a batch was refused for what it would have taken. Were the table never doubted, a
    /// machine that was slow for a while would refuse for good: what does not run corrects nothing.
    /// Callers whose deadlines are hopeless lower no time below half of the least that was measured.
    pub(crate) fn doubt(&mut self, rows: usize, tokens: usize) {
        for (at, share) in self.around(rows, tokens).unwrap_or_default() {
            let cell = &mut self.cells[at];
            let doubted = cell.seconds * (1.0 - DOUBT * share);
            cell.seconds = doubted.max(cell.least * LEAST).min(cell.seconds);
        }
    }

    /// The cells around a shape with their shares of it, which sum up to 1.
    fn around(&self, rows: usize, tokens: usize) -> Option<[(usize, f64); 4]> {
        if self.cells.is_empty() {
            return None;
        }
        let (low, high, to_high) = between(&BATCHES, rows);
        let (short, long, to_long) = between(&self.lengths, tokens);
        let at = |batch: usize, length: usize| batch * self.lengths.len() + length;
        Some([
            (at(low, short), (1.0 - to_high) * (1.0 - to_long)),
            (at(low, long), (1.0 - to_high) * to_long),
            (at(high, short), to_high * (1.0 - to_long)),
            (at(high, long), to_high * to_long),
        ])
    }
}

/// The neighbours of `value` in ascending `steps`, by index, and how far it is from the lower one.
fn between(steps: &[usize], value: usize) -> (usize, usize, f64) {
    let high = steps.partition_point(|&step| step < value).min(steps.len() - 1);
    let low = if steps[high] <= value { high } else { high.saturating_sub(1) };
    let way = steps[high].saturating_sub(steps[low]);
    let gone = value.saturating_sub(steps[low]);
    (low, high, if way == 0 { 0.0 } else { (gone as f64 / way as f64).min(1.0) })
}

fn nearest(steps: &[usize], value: usize) -> usize {
    let (low, high, way) = between(steps, value.max(1));
    if way < 0.5 { steps[low] } else { steps[high] }
}

/// The seconds of the measured shape that is nearest in tokens, in proportion to the tokens.
fn scaled(measured: &[((usize, usize), f64)], batch: usize, tokens: usize) -> f64 {
    let wanted = (batch * tokens) as f64;
    let apart = |((batch, tokens), _): &((usize, usize), f64)| ((batch * tokens) as f64 / wanted).ln().abs();
    let nearest = measured.iter().min_by(|a, b| apart(a).total_cmp(&apart(b)));
    nearest.map_or(0.0, |((batch, tokens), seconds)| seconds * wanted / (batch * tokens) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A machine that takes 1 ms and 0.1 ms for each token.
    fn linear() -> Profile {
        let measured: Vec<_> = grid(256, 512)
            .into_iter()
            .map(|(batch, tokens)| ((batch, tokens), 1e-3 + 1e-4 * (batch * tokens) as f64))
            .collect();
        Profile::new(256, &measured)
    }

    #[test]
    fn the_grid_is_within_its_bounds_and_begins_with_the_cheapest() {
        let shapes = grid(300, 64);
        assert_eq!(shapes[0], (1, 8));
        assert!(shapes.contains(&(1, 300)) && shapes.contains(&(8, 8)) && !shapes.contains(&(16, 8)));
        assert!(shapes.is_sorted_by_key(|(batch, tokens)| batch * tokens));
    }

    #[test]
    fn between_the_cells_it_interpolates_and_beyond_them_it_grows() {
        let profile = linear();
        for (rows, tokens, expected) in [(1, 16, 0.0026), (3, 24, 0.0082), (1, 512, 0.0532), (64, 8, 0.0532)]
        {
            let seconds = profile.predict(rows, tokens).unwrap();
            assert!((seconds - expected).abs() < 1e-9, "{rows}x{tokens}: {seconds}");
        }
        assert_eq!(Profile::new(256, &[]).predict(1, 16), None);
    }

    #[test]
    fn batches_correct_it() {
        let mut profile = linear();
        for _ in 0..30 {
            profile.observe(4, 64, Duration::from_millis(100));
        }
        let seconds = profile.predict(4, 64).unwrap();
        assert!((seconds - 0.1).abs() < 0.005, "{seconds}");
        assert!((profile.predict(1, 8).unwrap() - 0.0018).abs() < 1e-9, "far cells stay");
        let cell = profile.cells().find(|cell| (cell.batch, cell.tokens) == (4, 64)).unwrap();
        assert_eq!(cell.samples, 30);
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_in_the_end() {
        let mut profile = linear();
        (0..30).for_each(|_| profile.observe(1, 8, Duration::from_secs(10)));
        let tries = (0..).find(|_| {
            profile.doubt(1, 8);
            profile.predict(1, 8).unwrap() < 0.01
        });
        assert!(tries.is_some_and(|tries| tries < 150), "{tries:?}");
    }

    #[test]
    fn hopeless_deadlines_lower_no_time_for_good() {
        let mut profile = linear();
        (0..1000).for_each(|_| profile.doubt(4, 64));
        let seconds = profile.predict(4, 64).unwrap();
        assert!((seconds - 0.5 * (1e-3 + 256e-4)).abs() < 1e-9, "{seconds}");
    }

    #[test]
    fn the_first_batch_tells_of_all_shapes() {
        let mut profile = Profile::new(256, &[]);
        profile.observe(2, 16, Duration::from_millis(4));
        assert!((profile.predict(2, 16).unwrap() - 0.004).abs() < 1e-9);
        assert!((profile.predict(4, 32).unwrap() - 0.016).abs() < 1e-9);
        assert_eq!(profile.cells().count(), 1);
    }

    proptest! {
        #[test]
        fn any_shape_has_a_finite_time(
            max_tokens in 1usize..10_000,
            batches in proptest::collection::vec((1usize..2_000, 1usize..10_000, 0u64..10_000_000), 0..20),
            rows in 0usize..5_000,
            tokens in 0usize..100_000,
        ) {
            let mut profile = Profile::new(max_tokens, &[]);
            for (rows, tokens, micros) in &batches {
                profile.observe(*rows, *tokens, Duration::from_micros(*micros));
            }
            let seconds = profile.predict(rows, tokens);
            prop_assert_eq!(seconds.is_some(), !batches.is_empty());
            prop_assert!(seconds.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0));
        }
    }
}
