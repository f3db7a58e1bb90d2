//! Percentiles, and when they are back to what they were.

/// Seconds over which a percentile is taken while it is watched.
pub(crate) const WINDOW: f64 = 2.0;
/// Seconds between the beginnings of two windows.
const STEP: f64 = 0.25;
/// Seconds for which it has to stay well to count as back.
const STAY: f64 = 2.0;
/// Fewer turns in a window say nothing.
const FEWEST: usize = 5;

/// A turn as a point: when it was due, in seconds from some beginning, and how long it took.
/// One that was not answered took for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) due: f64,
    pub(crate) took: f64,
}

/// The value that a share of all are not above; 0 without any.
pub(crate) fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).or(values.last()).copied().unwrap_or(0.0)
}

/// The same of the turns that were due from `from` on and before `to`.
pub(crate) fn percentile_within(points: &[Point], from: f64, to: f64, share: f64) -> f64 {
    let inside = points.iter().filter(|point| (from..to).contains(&point.due));
    percentile(inside.map(|point| point.took), share)
}

/// The p99 of such turns.
pub(crate) fn p99(points: &[Point], from: f64, to: f64) -> f64 {
    percentile_within(points, from, to, 0.99)
}

/// Seconds from `at` to the first window from which on the p99 is at most `limit` for [`STAY`] seconds;
/// none when that does not come about before `end`.
pub(crate) fn back(points: &[Point], at: f64, end: f64, limit: f64) -> Option<f64> {
    let steps = ((end - WINDOW - at) / STEP).floor().max(-1.0) as i64;
    let needed = (STAY / STEP) as usize;
    let well: Vec<bool> = (0..=steps)
        .map(|step| {
            let from = at + step as f64 * STEP;
            let inside = || points.iter().filter(|point| (from..from + WINDOW).contains(&point.due));
            inside().count() >= FEWEST && p99(points, from, from + WINDOW) <= limit
        })
        .collect();
    let first = well.windows(needed.min(well.len()).max(1)).position(|run| run.iter().all(|well| *well))?;
    Some(first as f64 * STEP)
}
