//! Weights for what is known of candidates, fitted to the questions of a measurement.
//!
//! How far weights are kept from 0 is chosen by cross-validation: each question is ranked by weights
//! that were fitted without any question about its document.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use switchboard_reranking::{
    features::Weights,
    fit::{Example, fit},
};

use super::Measured;
use crate::cli::{
    eval::{
        data::Question,
        statistics::{self, METRICS, Row},
    },
    show,
};

/// The parts that documents are dealt into.
const FOLDS: usize = 10;
/// Ridges to choose from, the strongest first: from weights that hardly leave the search's order to
/// ones that are as large as the questions ask for.
const RIDGES: [f64; 8] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.000_3];

/// What was fitted.
pub(super) struct Fitted {
    ridge: f64,
    weights: Weights,
    /// For each ridge, what it changed on documents that it was not fitted on.
    tried: Vec<Vec<Row>>,
}

impl Fitted {
    /// Fits weights to all questions, with the ridge that cross-validation chooses.
    ///
    /// # Errors
    /// Fewer than two documents to tell apart.
    pub(super) fn of(questions: &[Question], measured: &[Measured]) -> Result<Self> {
        let examples: Vec<Example> = measured.iter().map(example).collect();
        let folds = folds(questions.iter().map(Question::document));
        ensure!(folds.iter().any(|fold| *fold > 0), "--fit needs questions about two documents at least");
        let fused: Vec<Row> = measured.iter().map(Measured::fused).collect();
        let held_out = |ridge: f64| {
            let of_fold: Vec<Weights> = (0..FOLDS)
                .map(|fold| {
                    let others = examples.iter().zip(&folds).filter(|(_, of)| **of != fold);
                    fit(others.map(|(example, _)| example), ridge)
                })
                .collect();
            let ranked = measured.iter().zip(&folds).map(|(one, fold)| ranked(one, &of_fold[*fold]));
            statistics::change(&fused, &ranked.collect::<Vec<Row>>())
        };
        let tried: Vec<Vec<Row>> = RIDGES.into_iter().map(held_out).collect();
        let ridge = RIDGES[chosen(&tried)];
        Ok(Self { ridge, weights: fit(&examples, ridge), tried })
    }

    /// What was tried, and the weights as a part of a configuration.
    ///
    /// # Errors
    /// Never, for weights that are numbers.
    pub(super) fn for_people(&self) -> Result<String> {
        let header: Vec<&str> = [&["ridge"][..], &METRICS].concat();
        let lines = RIDGES.iter().zip(&self.tried);
        let lines: Vec<_> =
            lines.flat_map(|(ridge, rows)| statistics::change_lines(&ridge.to_string(), rows)).collect();
        let table = show::table(&header, &lines);
        let weights = toml::to_string(&self.weights)?;
        Ok(format!(
            "\nWhat weights change on documents that they were not fitted on\n{table}\n\n\
             With the ridge {}, fitted to all questions:\n\n[reranking.weights]\n{weights}",
            self.ridge
        ))
    }

    /// The same as a JSON object.
    pub(super) fn object(&self) -> Value {
        let tried: Vec<Value> = RIDGES
            .iter()
            .zip(&self.tried)
            .map(|(ridge, rows)| json!({"ridge": ridge, "change": statistics::object(rows)}))
            .collect();
        json!({"ridge": self.ridge, "weights": self.weights, "tried": tried})
    }
}

fn example(one: &Measured) -> Example {
    Example { rows: one.features.clone(), answers: one.right.iter().map(|right| right.1).collect() }
}

/// The figures of a question's candidates in the order that weights give.
fn ranked(one: &Measured, weights: &Weights) -> Row {
    let scores = weights.scores(&one.features);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    statistics::score(order.into_iter().map(|index| one.right[index]))
}

/// Deals documents out in order of name; a question goes where its document does.
fn folds<'a>(documents: impl Iterator<Item = &'a str> + Clone) -> Vec<usize> {
    let mut dealt: BTreeMap<&str, usize> = documents.clone().map(|document| (document, 0)).collect();
    for (number, fold) in dealt.values_mut().enumerate() {
        *fold = number % FOLDS;
    }
    documents.map(|document| dealt[document]).collect()
}

/// The strongest ridge that does nearly as well as the best one: within one standard error of its
/// gain (Hastie, Tibshirani and Friedman 2009, section 7.10). The last figure counts, since it tells
/// orders apart that the others do not.
fn chosen(tried: &[Vec<Row>]) -> usize {
    const FIGURE: usize = METRICS.len() - 1;
    let gain = |rows: &[Row]| statistics::mean(rows, FIGURE);
    let Some(best) = tried.iter().max_by(|a, b| gain(a).total_cmp(&gain(b))) else { return 0 };
    let mean = gain(best);
    let variance = best.iter().map(|row| (row[FIGURE] - mean).powi(2)).sum::<f64>() / best.len() as f64;
    let enough = mean - (variance / best.len() as f64).sqrt();
    tried.iter().position(|rows| gain(rows) >= enough).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_one_document_stay_together() {
        let folds = folds(["b", "a", "b", "c"].into_iter());
        assert_eq!(folds, [1, 0, 1, 2]);
    }

    #[test]
    fn the_strongest_ridge_that_does_as_well_is_chosen() {
        let rows = |gains: [f64; 4]| gains.map(|gain| [gain; METRICS.len()]).to_vec();
        // Gains of 0, 0.2 and 0.25 with a standard error of 0.125.
        let tried = [rows([0.0; 4]), rows([0.2; 4]), rows([0.5, 0.0, 0.5, 0.0])];
        assert_eq!(chosen(&tried), 1);
        assert_eq!(chosen(&tried[..1]), 0);
    }
}
