//! How much may be sent on top of what was asked for.

use std::sync::atomic::{AtomicI64, Ordering};

/// A thousandth of a token is the unit.
const TOKEN: i64 = 1000;
/// What a success earns towards trying another call again.
const EARNED: i64 = TOKEN / 10;
/// Hedges that may have been saved up.
const SAVED: i64 = 10 * TOKEN;

/// Tokens for calls that are tried again. A failure takes one, a success gives back a tenth, and calls are
/// tried again while more than half are there: when much fails, nodes do not get it several times.
///
/// # Source
/// gRFC A6, "retry throttling".
pub(super) struct Retries {
    tokens: AtomicI64,
    most: i64,
}

impl Retries {
    /// For `at_once` failures that may all be tried again.
    pub(super) fn new(at_once: u32) -> Self {
        let most = i64::from(at_once) * 2 * TOKEN;
        Self { tokens: AtomicI64::new(most), most }
    }

    /// Takes a failure into account. `true` when its call may be tried again.
    pub(super) fn spend(&self) -> bool {
        let before = change(&self.tokens, -TOKEN, self.most);
        before > self.most / 2
    }

    /// Takes a success into account.
    pub(super) fn earn(&self) {
        // Full nearly always: a read is cheaper for all than a write.
        if self.tokens.load(Ordering::Relaxed) < self.most {
            change(&self.tokens, EARNED, self.most);
        }
    }

    /// Whether more than half are there.
    pub(super) fn plenty(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) > self.most / 2
    }
}

/// Tokens for calls that are sent to a second node while the first is slow.
pub(super) struct Hedges {
    tokens: AtomicI64,
    earned: i64,
}

impl Hedges {
    /// For a share of the calls.
    pub(super) fn new(share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a share is between 0 and 1")]
        let earned = (share * TOKEN as f64) as i64;
        Self { tokens: AtomicI64::new(0), earned }
    }

    /// Takes a call into account.
    pub(super) fn earn(&self) {
        change(&self.tokens, self.earned, SAVED);
    }

    /// Takes a token, if one is there.
    pub(super) fn spend(&self) -> bool {
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                (tokens >= TOKEN).then(|| tokens - TOKEN)
            })
            .is_ok()
    }
}

/// Changes `tokens` within 0 and `most`; returns what was there.
fn change(tokens: &AtomicI64, by: i64, most: i64) -> i64 {
    let change = |tokens: i64| Some((tokens + by).clamp(0, most));
    tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_tried_again_and_then_one_in_ten() {
        let retries = Retries::new(100);
        assert_eq!((0..1000).filter(|_| retries.spend()).count(), 100);
        let again = (0..10_000).filter(|_| {
            for _ in 0..9 {
                retries.earn();
            }
            retries.spend()
        });
        assert_eq!(again.count(), 0, "nine successes do not pay for a failure");
        for _ in 0..1010 {
            retries.earn();
        }
        assert!(retries.plenty() && retries.spend());
        assert!(!Retries::new(0).spend());
    }

    proptest! {
        #[test]
        fn hedges_stay_below_their_share(share in 0.0..0.5f64, calls in 0usize..2000) {
            let hedges = Hedges::new(share);
            let mut sent = 0;
            for _ in 0..calls {
                hedges.earn();
                sent += usize::from(hedges.spend());
            }
            prop_assert!(sent as f64 <= share * calls as f64 + 1e-6);
        }
    }
}
