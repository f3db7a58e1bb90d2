//! The figures of ranked lists, and how far they can be trusted.

use switchboard_proto::knowledge::v1::Hit;

use super::data::Question;

/// The figures of one list. Recall to a depth, and reciprocal rank.
pub(super) const METRICS: [&str; 8] =
    ["doc@1", "doc@5", "doc@10", "doc_mrr", "span@1", "span@5", "span@10", "span_mrr"];

/// The figures of one list, in the order of [`METRICS`].
pub(super) type Row = [f64; METRICS.len()];

const RESAMPLES: usize = 1_000;

/// Whether a passage is from the right document, and whether it answers.
pub(super) type Right = (bool, bool);

/// What is right about each hit of a list.
pub(super) fn right(hits: &[Hit], question: &Question) -> Vec<Right> {
    hits.iter().map(|hit| (question.is_document(hit), question.is_answer(hit))).collect()
}

/// The figures of one ranked list.
pub(super) fn score(list: impl Iterator<Item = Right>) -> Row {
    let mut ranks = [None; 2];
    for (rank, (document, answer)) in (1..).zip(list) {
        for (first, right) in ranks.iter_mut().zip([document, answer]) {
            if right {
                first.get_or_insert(rank);
            }
        }
    }
    let mut row = [0.0; METRICS.len()];
    for (block, rank) in ranks.into_iter().enumerate() {
        let Some(rank) = rank else { continue };
        for (offset, depth) in [1, 5, 10].into_iter().enumerate() {
            row[block * 4 + offset] = f64::from(u8::from(rank <= depth));
        }
        row[block * 4 + 3] = 1.0 / f64::from(rank);
    }
    row
}

/// What `after` has more than `before`, question by question.
pub(super) fn change(before: &[Row], after: &[Row]) -> Vec<Row> {
    let difference =
        |(before, after): (&Row, &Row)| std::array::from_fn(|metric| after[metric] - before[metric]);
    before.iter().zip(after).map(difference).collect()
}

pub(super) fn mean(rows: &[Row], metric: usize) -> f64 {
    rows.iter().map(|row| row[metric]).sum::<f64>() / rows.len() as f64
}

/// The 95 % interval of a mean by the percentile bootstrap (Efron and Tibshirani 1993, section 13.3).
pub(super) fn interval(rows: &[Row], metric: usize) -> (f64, f64) {
    // A fixed seed: the same data gives the same interval. Numerical Recipes' 64-bit generator.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % rows.len()
    };
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..rows.len()).map(|_| rows[pick()][metric]).sum::<f64>() / rows.len() as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    (means[RESAMPLES * 25 / 1000], means[RESAMPLES * 975 / 1000 - 1])
}

/// Two lines of a table: the means, and their intervals below them.
pub(super) fn lines(name: &str, rows: &[Row]) -> [Vec<String>; 2] {
    table_lines(name, rows, |mean| format!("{mean:.3}"), |low, high| format!("{low:.2}-{high:.2}"))
}

/// The same of a change, with its sign.
pub(super) fn change_lines(name: &str, rows: &[Row]) -> [Vec<String>; 2] {
    table_lines(name, rows, |mean| format!("{mean:+.3}"), |low, high| format!("{low:+.2}..{high:+.2}"))
}

fn table_lines(
    name: &str,
    rows: &[Row],
    cell: impl Fn(f64) -> String,
    range: impl Fn(f64, f64) -> String,
) -> [Vec<String>; 2] {
    let cells = (0..METRICS.len()).map(|metric| cell(mean(rows, metric)));
    let ranges = (0..METRICS.len()).map(|metric| {
        let (low, high) = interval(rows, metric);
        range(low, high)
    });
    [
        [name.to_owned()].into_iter().chain(cells).collect(),
        [String::new()].into_iter().chain(ranges).collect(),
    ]
}

/// The means and their intervals as a JSON object.
pub(super) fn object(rows: &[Row]) -> serde_json::Value {
    let mut figures = serde_json::Map::new();
    let mut intervals = serde_json::Map::new();
    for (index, metric) in METRICS.iter().enumerate() {
        figures.insert((*metric).into(), mean(rows, index).into());
        let (low, high) = interval(rows, index);
        intervals.insert((*metric).into(), vec![low, high].into());
    }
    figures.insert("ci95".into(), intervals.into());
    figures.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_right_passage_counts() {
        let row = score([(true, false), (false, false), (true, true), (true, true)].into_iter());
        // Right document at once; an answer at rank 3.
        assert_eq!(row, [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0 / 3.0]);
        assert_eq!(score([(false, false)].into_iter()), [0.0; METRICS.len()]);
    }

    #[test]
    fn the_interval_holds_the_mean() {
        let rows: Vec<_> = (0..200).map(|i| [f64::from(i % 2); METRICS.len()]).collect();
        let (low, high) = interval(&rows, 0);
        assert!(low < 0.5 && 0.5 < high && high - low < 0.2, "{low} {high}");
    }

    #[test]
    fn a_change_is_told_question_by_question() {
        let (before, after) = ([[0.0; 8], [1.0; 8]], [[1.0; 8], [0.5; 8]]);
        assert_eq!(change(&before, &after), [[1.0; 8], [-0.5; 8]]);
    }
}
