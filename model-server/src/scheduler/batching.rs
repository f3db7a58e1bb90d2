//! Which of the waiting rows share a batch.

/// Share of a batch's tokens that may be padding.
const MOST_PADDING: f64 = 0.08;
/// Padding tokens of a batch that never matter: two short texts side by side are cheaper than apart,
/// whatever their lengths.
const FREE_PADDING: usize = 8;

/// What bounds a batch.
pub(super) struct Bounds<'a> {
    /// Tokens, padding included; a longer row makes a batch of its own.
    pub(super) tokens: usize,
    /// Seconds that each row has left.
    pub(super) left: &'a [f64],
    /// Seconds that a batch of so many rows of so many tokens takes, where that is known.
    pub(super) seconds: &'a dyn Fn(usize, usize) -> Option<f64>,
}

/// Chooses rows for a batch around the row `lead`, by length: those nearest to it that keep within
/// `bounds`, with little padding, and make nobody in it late. `lengths` are the rows' tokens, those who go first before the
/// others. Returns places in `lengths`, `lead` among them.
pub(super) fn choose(lengths: &[usize], lead: usize, bounds: &Bounds<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable: among rows of one length, who goes first stays first.
    order.sort_by_key(|&at| lengths[at]);
    let start = order.iter().position(|&at| at == lead).unwrap_or(0);
    let length = |place: usize| lengths[order[place]];
    // The batch is a run of `order`, from `low` up to but without `high`.
    let (mut low, mut high, mut sum) = (start, start + 1, length(start));
    let left = |place: usize| bounds.left[order[place]];
    let mut hurry = left(start);
    loop {
        let fits = |low: usize, high: usize, sum: usize, hurry: f64| {
            let (rows, longest) = (high - low, length(high - 1));
            let (tokens, padding) = (rows * longest, rows * longest - sum);
            let little = padding <= FREE_PADDING || padding as f64 <= MOST_PADDING * tokens as f64;
            let on_time = || (bounds.seconds)(rows, longest).is_none_or(|seconds| seconds <= hurry);
            tokens <= bounds.tokens && little && on_time()
        };
        let lower = low.checked_sub(1).map(|place| (length(place), hurry.min(left(place))));
        let lower = lower.filter(|(add, hurry)| fits(low - 1, high, sum + add, *hurry));
        let upper = (high < order.len()).then(|| (length(high), hurry.min(left(high))));
        let upper = upper.filter(|(add, hurry)| fits(low, high + 1, sum + add, *hurry));
        // The nearer one; of two as near the shorter, which costs nobody else anything.
        let nearer = match (lower, upper) {
            (Some((shorter, _)), Some((longer, _))) => length(start) - shorter <= longer - length(start),
            (lower, _) => lower.is_some(),
        };
        match (lower, upper) {
            (Some((add, time)), _) if nearer => (low, sum, hurry) = (low - 1, sum + add, time),
            (_, Some((add, time))) => (high, sum, hurry) = (high + 1, sum + add, time),
            _ => break,
        }
    }
    order[low..high].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(lengths: &[usize], lead: usize, tokens: usize) -> Vec<usize> {
        let left = vec![1.0; lengths.len()];
        let mut chosen = choose(lengths, lead, &Bounds { tokens, left: &left, seconds: &|_, _| None });
        chosen.sort_unstable();
        chosen
    }

    #[test]
    fn rows_of_about_the_leads_length_share_its_batch() {
        assert_eq!(chosen(&[100, 8, 102, 256, 97, 9], 0, 512), [0, 2, 4]);
        assert_eq!(chosen(&[100, 8, 102, 256, 97, 9], 1, 512), [1, 5]);
        assert_eq!(chosen(&[100, 8, 102, 256, 97, 9], 3, 512), [3]);
    }

    #[test]
    fn short_rows_share_a_batch_whatever_their_lengths() {
        assert_eq!(chosen(&[3, 8], 0, 512), [0, 1]);
    }

    #[test]
    fn a_batch_keeps_to_its_tokens_and_its_time() {
        assert_eq!(chosen(&[16; 64], 0, 512).len(), 32);
        assert_eq!(chosen(&[600, 600], 1, 512), [1], "a row that is too long goes alone");
    }

    #[test]
    fn nobody_in_a_batch_is_made_late_by_another() {
        let seconds = |rows: usize, _: usize| Some(rows as f64);
        let chosen = |left: &[f64]| {
            let mut chosen = choose(&[16; 8], 1, &Bounds { tokens: 512, left, seconds: &seconds });
            chosen.sort_unstable();
            chosen
        };
        assert_eq!(chosen(&[9.0; 8]).len(), 8);
        assert_eq!(chosen(&[9.0, 3.5, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]), [0, 1, 2], "the lead has little time");
        assert_eq!(chosen(&[4.5, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]), [0, 1, 2, 3], "who joined has little");
    }

    #[test]
    fn of_equal_rows_those_who_go_first_are_taken() {
        assert_eq!(chosen(&[16, 16, 16, 16], 0, 32), [0, 1]);
    }

    proptest! {
        #[test]
        fn every_batch_has_its_lead_and_is_within_bounds(
            lengths in proptest::collection::vec(1usize..300, 1..100),
            lead in any::<prop::sample::Index>(),
            tokens in 1usize..2_000,
        ) {
            let lead = lead.index(lengths.len());
            let chosen = chosen(&lengths, lead, tokens);
            prop_assert!(chosen.contains(&lead));
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            let longest = chosen.iter().map(|&at| lengths[at]).max().unwrap();
            let sum: usize = chosen.iter().map(|&at| lengths[at]).sum();
            prop_assert!(chosen.len() == 1 || longest * chosen.len() <= tokens);
            let padding = longest * chosen.len() - sum;
            prop_assert!(padding <= FREE_PADDING || padding as f64 <= MOST_PADDING * (longest * chosen.len()) as f64);
        }
    }
}
