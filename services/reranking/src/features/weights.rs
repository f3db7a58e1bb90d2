//! What each feature is worth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{COUNT, NAMES, Row};

/// The largest weight, either way: with features about in [0, 1], no sum of these overflows.
const MOST: f32 = 1_000.0;

/// What each feature is worth, in the order of [`NAMES`]; by name in a configuration, where what is
/// not named keeps the weight that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, f32>", into = "BTreeMap<String, f32>")]
pub struct Weights(pub [f32; COUNT]);

/// The weights that are built in: what `switchboard eval rerank --fit` finds on the 182 questions of
/// `examples/acme/rerank.jsonl` (ridge 0.003), rounded.
///
/// What they change in the search's order of 24 candidates, with 95 % intervals; the first line is of
/// weights that were fitted without the question's document, the others are of questions that took no
/// part at all:
///
/// | | right passage first | among five | reciprocal rank | right document first |
/// |---|---|---|---|---|
/// | those 182, cross-validated | +0.027 | +0.016 | +0.024 (+0.01 to +0.04) | +0.016 |
/// | 65 of `examples/acme/questions.jsonl` | +0.015 | +0.031 | +0.029 (-0.00 to +0.07) | +0.000 |
/// | doc2dial, validation part: 295 first turns | -0.007 | -0.014 | -0.009 (-0.02 to +0.00) | +0.000 |
/// | all its 1,743 turns | +0.013 | +0.016 | +0.017 (+0.01 to +0.02) | -0.012 |
///
/// The doc2dial questions are of another kind and were never fitted to; fitted to them, first turns
/// would gain nothing either. What is gained there is gained on follow-ups, whose search mixes in what
/// was said before.
impl Default for Weights {
    fn default() -> Self {
        Self([1.33, 0.97, 2.14, 2.22, 1.03, 1.12, 0.10, 0.23, 0.74, 0.09, 0.50, 0.47, 0.20, 1.66])
    }
}

impl Weights {
    /// The score of a candidate: the weighted sum of its features.
    #[must_use]
    pub fn score(&self, row: &Row) -> f32 {
        row.iter().zip(&self.0).map(|(value, weight)| value * weight).sum()
    }

    /// The scores of candidates, in their order.
    #[must_use]
    pub fn scores(&self, rows: &[Row]) -> Vec<f32> {
        rows.iter().map(|row| self.score(row)).collect()
    }
}

impl TryFrom<BTreeMap<String, f32>> for Weights {
    type Error = String;

    fn try_from(named: BTreeMap<String, f32>) -> Result<Self, String> {
        let mut weights = Self::default();
        for (name, weight) in named {
            let Some(place) = NAMES.iter().position(|known| *known == name) else {
                return Err(format!("unknown feature `{name}`; there are {}", NAMES.join(", ")));
            };
            if !(-MOST..=MOST).contains(&weight) {
                return Err(format!("`{name}` = {weight}; from -{MOST} to {MOST} is allowed"));
            }
            weights.0[place] = weight;
        }
        Ok(weights)
    }
}

impl From<Weights> for BTreeMap<String, f32> {
    fn from(weights: Weights) -> Self {
        NAMES.iter().map(|name| (*name).to_owned()).zip(weights.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_named_and_what_is_not_named_keeps_its_own() {
        let named = BTreeMap::from([("sentence".to_owned(), 7.0)]);
        let weights = Weights::try_from(named).unwrap();
        let expected: Vec<f32> = NAMES
            .iter()
            .zip(Weights::default().0)
            .map(|(name, built_in)| if *name == "sentence" { 7.0 } else { built_in })
            .collect();
        assert_eq!(weights.0.as_slice(), expected);
        assert_eq!(Weights::try_from(BTreeMap::from(weights)).unwrap(), weights);
    }

    #[test]
    fn unknown_features_and_endless_weights_are_refused_by_name() {
        for (name, weight, told) in
            [("sentense", 1.0, "one_sentence"), ("sentence", f32::NAN, "`sentence`"), ("title", 1e9, "1000")]
        {
            let error = Weights::try_from(BTreeMap::from([(name.to_owned(), weight)])).unwrap_err();
            assert!(error.contains(name) && error.contains(told), "{error}");
        }
    }
}
