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
    /// Whether a batch of so many rows of so many tokens would still be on time for all in it.
    pub(super) on_time: &'a dyn Fn(usize, usize) -> bool,
}

/// Chooses rows for a batch around the row `lead`, by length: those nearest to it that keep within
/// `bounds`, with little padding. `lengths` are the rows' tokens, those who go first before the
/// others. Returns places in `lengths`, `lead` among them.
pub(super) fn choose(lengths: &[usize], lead: usize, bounds: &Bounds<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable: among rows of one length, who goes first stays first.
    order.sort_by_key(|&at| lengths[at]);
    let start = order.iter().position(|&at| at == lead).unwrap_or(0);
    let length = |place: usize| lengths[order[place]];
    // The batch is a run of `order`, from `low` up to but without `high`.
    let (mut low, mut high, mut sum) = (start, start + 1, length(start));
    loop {
        let fits = |low: usize, high: usize, sum: usize| {
            let (rows, longest) = (high - low, length(high - 1));
            let (tokens, padding) = (rows * longest, rows * longest - sum);
            let little = padding <= FREE_PADDING || padding as f64 <= MOST_PADDING * tokens as f64;
            tokens <= bounds.tokens && little && (bounds.on_time)(rows, longest)
        };
        let lower = (low > 0).then(|| length(low - 1)).filter(|add| fits(low - 1, high, sum + add));
        let upper = (high < order.len()).then(|| length(high)).filter(|add| fits(low, high + 1, sum + add));
        // The nearer one; of two as near the shorter, which costs nobody else anything.
        let nearer = match (lower, upper) {
            (Some(shorter), Some(longer)) => length(start) - shorter <= longer - length(start),
            (lower, _) => lower.is_some(),
        };
        match (lower, upper) {
            (Some(add), _) if nearer => (low, sum) = (low - 1, sum + add),
            (_, Some(add)) => (high, sum) = (high + 1, sum + add),
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
        let mut chosen = choose(lengths, lead, &Bounds { tokens, on_time: &|_, _| true });
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
        let on_time = |rows: usize, _: usize| rows <= 3;
        assert_eq!(choose(&[16; 64], 5, &Bounds { tokens: 512, on_time: &on_time }).len(), 3);
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
