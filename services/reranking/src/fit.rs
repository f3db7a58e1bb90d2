//! Weights from labelled questions.
//!
//! Of each question's candidates, every one that answers should score above every one that does not.
//! [`fit`] makes that as likely as it can under a logistic model of their difference, every question
//! counting alike, and keeps weights small. The same examples give the same weights.
//!
//! # Source
//! The pairwise logistic loss: Burges et al. 2005, "Learning to Rank using Gradient Descent", with a
//! linear score, for which it is convex; so Newton's method with halved steps finds its one minimum.

use crate::features::{COUNT, Row, Weights};

/// A question's candidates.
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// The features of each.
    pub rows: Vec<Row>,
    /// Whether each answers.
    pub answers: Vec<bool>,
}

type Vector = [f64; COUNT];
type Matrix = [Vector; COUNT];

/// Newton's method doubles the right digits with each step; this many are never needed.
const STEPS: usize = 50;
/// A step after which no weight moved by more is the last one.
const STILL: f64 = 1e-9;

/// Fits weights. A question of which all candidates answer, or none, says nothing and is left out.
///
/// `ridge` is what the mean of the weights' squares costs, over two, beside the mean loss of a
/// question; above 0. The larger it is, the closer to 0 weights stay.
#[must_use]
pub fn fit<'a>(examples: impl IntoIterator<Item = &'a Example>, ridge: f64) -> Weights {
    let questions: Vec<Vec<Vector>> =
        examples.into_iter().map(differences).filter(|pairs| !pairs.is_empty()).collect();
    let mut weights = [0.0; COUNT];
    for _ in 0..STEPS {
        let (before, gradient, curvature) = expand(&questions, &weights, ridge);
        let step = solve(curvature, gradient);
        let moved = |share: f64| -> Vector { std::array::from_fn(|k| weights[k] - share * step[k]) };
        // The loss is convex: near enough along the step it is lower.
        let shares = std::iter::successors(Some(1.0), |share| Some(share / 2.0)).take(30);
        let lower = shares.map(moved).find(|moved| loss(&questions, moved, ridge) <= before);
        let Some(next) = lower else { break };
        let still = next.iter().zip(&weights).all(|(next, now)| (next - now).abs() < STILL);
        weights = next;
        if still {
            break;
        }
    }
    Weights(weights.map(|weight| weight as f32))
}

/// What each candidate that answers has more than each one that does not.
fn differences(example: &Example) -> Vec<Vector> {
    let of = |answers: bool| {
        let all = example.rows.iter().zip(&example.answers);
        all.filter(move |(_, answer)| **answer == answers).map(|(row, _)| row)
    };
    let pair =
        |better: &Row, worse: &Row| std::array::from_fn(|k| f64::from(better[k]) - f64::from(worse[k]));
    of(true).flat_map(|better| of(false).map(move |worse| pair(better, worse))).collect()
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn loss(questions: &[Vec<Vector>], weights: &Vector, ridge: f64) -> f64 {
    // ln(1 + exp(-z)), without overflow.
    let of = |pair: &Vector| {
        let margin = dot(pair, weights);
        (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
    };
    let each = questions.iter().map(|pairs| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64);
    each.sum::<f64>() / questions.len().max(1) as f64 + ridge / 2.0 * dot(weights, weights)
}

/// The loss with its first and second derivatives.
fn expand(questions: &[Vec<Vector>], weights: &Vector, ridge: f64) -> (f64, Vector, Matrix) {
    let mut gradient = weights.map(|weight| ridge * weight);
    let mut curvature = [[0.0; COUNT]; COUNT];
    for (k, row) in curvature.iter_mut().enumerate() {
        row[k] = ridge;
    }
    for pairs in questions {
        let share = 1.0 / (pairs.len() * questions.len()) as f64;
        for pair in pairs {
            let wrong = 1.0 / (1.0 + dot(pair, weights).exp());
            for (i, row) in curvature.iter_mut().enumerate() {
                gradient[i] -= share * wrong * pair[i];
                for (cell, other) in row.iter_mut().zip(pair) {
                    *cell += share * wrong * (1.0 - wrong) * pair[i] * other;
                }
            }
        }
    }
    (loss(questions, weights, ridge), gradient, curvature)
}

/// Solves `matrix * x = right` for a symmetric positive definite matrix, which needs no pivots.
fn solve(mut matrix: Matrix, mut right: Vector) -> Vector {
    for pivot in 0..COUNT {
        let (above, below) = matrix.split_at_mut(pivot + 1);
        let (upper, (head, tail)) = (&above[pivot], right.split_at_mut(pivot + 1));
        for (row, value) in below.iter_mut().zip(tail) {
            let factor = row[pivot] / upper[pivot];
            for (cell, other) in row.iter_mut().zip(upper).skip(pivot) {
                *cell -= factor * other;
            }
            *value -= factor * head[pivot];
        }
    }
    for row in (0..COUNT).rev() {
        let known: f64 = (row + 1..COUNT).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates of which the first answers; only the first two features tell.
    fn example(rows: &[[f32; 2]]) -> Example {
        let row = |told: &[f32; 2]| std::array::from_fn(|k| told.get(k).copied().unwrap_or(0.5));
        let answers = (0..rows.len()).map(|index| index == 0).collect();
        Example { rows: rows.iter().map(row).collect(), answers }
    }

    #[test]
    fn what_tells_the_answer_is_worth_more_than_what_does_not() {
        let examples =
            [example(&[[0.9, 0.1], [0.2, 0.3], [0.1, 0.0]]), example(&[[0.7, 0.5], [0.3, 0.5], [0.6, 0.6]])];
        let weights = fit(&examples, 0.01).0;
        assert!(weights[0] > 1.0 && weights[0] > weights[1].abs(), "{weights:?}");
        // What is the same in every candidate is worth nothing.
        assert!(weights[2..].iter().all(|weight| weight.abs() < 1e-6), "{weights:?}");
        for example in &examples {
            let scores = Weights(weights).scores(&example.rows);
            assert!(scores[1..].iter().all(|score| *score < scores[0]), "{scores:?}");
        }
        assert_eq!(fit(&examples, 0.01).0, weights, "the same examples give the same weights");
    }

    #[test]
    fn the_fit_is_where_the_loss_is_lowest() {
        let examples = [example(&[[0.9, 0.1], [0.2, 0.3]]), example(&[[0.2, 0.9], [0.4, 0.5]])];
        let questions: Vec<_> = examples.iter().map(differences).collect();
        let fitted = fit(&examples, 0.05).0.map(f64::from);
        let lowest = loss(&questions, &fitted, 0.05);
        for k in 0..2 {
            for step in [-0.01, 0.01] {
                let mut beside = fitted;
                beside[k] += step;
                assert!(loss(&questions, &beside, 0.05) > lowest);
            }
        }
    }

    #[test]
    fn questions_that_say_nothing_leave_no_weight() {
        let nothing = Example { rows: vec![[1.0; COUNT]; 3], answers: vec![false; 3] };
        assert_eq!(fit([&nothing, &Example::default()], 0.1), Weights([0.0; COUNT]));
        assert_eq!(fit([], 0.1), Weights([0.0; COUNT]));
    }

    #[test]
    fn candidates_that_are_far_apart_do_not_overflow() {
        let far = example(&[[1e6, 0.0], [-1e6, 0.0]]);
        assert!(fit([&far], 1e-6).0.iter().all(|weight| weight.is_finite()));
    }
}
