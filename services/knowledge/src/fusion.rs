//! Weighted reciprocal rank fusion of any number of ranked lists.

use std::collections::HashMap;

/// Damps the lead of the first ranks.
///
/// # Source
/// Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual
/// Rank Learning Methods": 60 was best over four TREC collections.
const K: f32 = 60.0;

/// One list of passages, best first, and how much it counts.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    pub(crate) weight: f32,
    pub(crate) items: Vec<u32>,
}

/// Fuses lists into one, best first: each list gives its item at rank `r` (from 1) the score
/// `weight / (K + r)`. Equal scores are ordered by item, so that results repeat.
pub(crate) fn fuse<'a>(lists: impl IntoIterator<Item = &'a Ranked>) -> Vec<(u32, f32)> {
    let mut scores: HashMap<u32, f32> = HashMap::new();
    for list in lists {
        for (rank, &item) in list.items.iter().enumerate() {
            *scores.entry(item).or_default() += list.weight / (K + 1.0 + rank as f32);
        }
    }
    let mut fused: Vec<_> = scores.into_iter().collect();
    fused.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(weight: f32, items: &[u32]) -> Ranked {
        Ranked { weight, items: items.to_vec() }
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let fused = fuse(&[list(1.0, &[7, 8]), list(0.5, &[8])]);
        assert_eq!(fused[0].0, 8);
        assert!((fused[0].1 - (1.0 / 62.0 + 0.5 / 61.0)).abs() < 1e-7);
        assert!((fused[1].1 - 1.0 / 61.0).abs() < 1e-7);
    }

    #[test]
    fn agreement_beats_a_single_first_place() {
        let fused = fuse(&[list(1.0, &[1, 2, 3]), list(1.0, &[4, 2, 5])]);
        assert_eq!(fused[0].0, 2);
    }

    #[test]
    fn a_lighter_list_cannot_outvote_a_heavier_one() {
        let fused = fuse(&[list(1.0, &[1]), list(0.2, &[2])]);
        assert_eq!(fused.iter().map(|hit| hit.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn no_lists_give_nothing() {
        assert!(fuse(&[]).is_empty());
    }
}
