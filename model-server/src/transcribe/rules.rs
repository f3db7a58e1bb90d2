//! Which token may come next, and which one does.
//!
//! # Source
//! OpenAI's `whisper/decoding.py` (`SuppressBlank`, `SuppressTokens`, `ApplyTimestampRules`), which
//! transformers' `WhisperTimeStampLogitsProcessor` follows.

use super::vocabulary::Vocabulary;

/// What forbids a token.
const FORBIDDEN: f32 = f32::NEG_INFINITY;

/// Forbids what may not come after `written`, the tokens since the prompt.
pub(super) fn apply(vocabulary: &Vocabulary, written: &[u32], timestamps: bool, logits: &mut [f32]) {
    let mut forbid = |tokens: &[u32]| {
        for token in tokens {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = FORBIDDEN;
            }
        }
    };
    if written.is_empty() {
        forbid(&vocabulary.not_first);
    }
    forbid(&vocabulary.never);
    if timestamps {
        forbid(&[vocabulary.no_timestamps]);
        times(vocabulary, written, logits);
    }
}

/// Times come in pairs, one ends a segment and one begins the next, and none is before the last; the first
/// token is one. One is forced where all of them together are likelier than any text.
fn times(vocabulary: &Vocabulary, written: &[u32], logits: &mut [f32]) {
    let first = vocabulary.first_timestamp as usize;
    let is_time = |token: Option<&u32>| token.is_some_and(|token| vocabulary.is_timestamp(*token));
    let [last, before] = [1, 2].map(|back| written.len().checked_sub(back).and_then(|at| written.get(at)));
    // A lone time at the beginning opens.
    let opening = is_time(last) && (before.is_none() || is_time(before));
    let closing = is_time(last) && !opening;
    if opening {
        logits[first..].fill(FORBIDDEN);
    } else if closing {
        logits[..vocabulary.end as usize].fill(FORBIDDEN);
    }
    if let Some(latest) = written.iter().rev().find(|token| vocabulary.is_timestamp(**token)) {
        // The same again only where it opens what comes next: else segments would have no length.
        let earliest = *latest as usize + usize::from(!closing);
        let earliest = earliest.min(logits.len());
        logits[first..earliest].fill(FORBIDDEN);
    }
    if written.is_empty() {
        logits[..first].fill(FORBIDDEN);
        let allowed = first + vocabulary.max_initial_timestamp as usize + 1;
        if let Some(late) = logits.get_mut(allowed..) {
            late.fill(FORBIDDEN);
        }
    }
    // Both sides lack the same constant, so that logits do as well as log-probabilities.
    let (text, times) = logits.split_at(first);
    let likeliest = text.iter().copied().fold(FORBIDDEN, f32::max);
    if log_sum(times) > likeliest {
        logits[..first].fill(FORBIDDEN);
    }
}

/// The logarithm of the sum of exponentials.
pub(super) fn log_sum(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(FORBIDDEN, f32::max);
    if most == FORBIDDEN {
        return FORBIDDEN;
    }
    most + logits.iter().map(|logit| (logit - most).exp()).sum::<f32>().ln()
}

/// The probability of a token.
pub(super) fn probability(logits: &[f32], token: u32) -> f32 {
    logits.get(token as usize).map_or(0.0, |logit| (logit - log_sum(logits)).exp())
}

/// The next token, and the logarithm of its probability: the likeliest at temperature 0, else one drawn.
/// `None` where no token is allowed.
pub(super) fn choose(logits: &[f32], temperature: f32, random: &mut fastrand::Rng) -> Option<(u32, f32)> {
    let (likeliest, most) = logits.iter().enumerate().max_by(|(a, x), (b, y)| {
        // Of equals the first, as argmax has it elsewhere.
        x.total_cmp(y).then(b.cmp(a))
    })?;
    if *most == FORBIDDEN {
        return None;
    }
    let mut chosen = likeliest;
    if temperature > 0.0 {
        let weight = |logit: &f32| f64::from((logit - most) / temperature).exp();
        let mut left = random.f64() * logits.iter().map(weight).sum::<f64>();
        for (token, logit) in logits.iter().enumerate().filter(|(_, logit)| **logit > FORBIDDEN) {
            chosen = token;
            left -= weight(logit);
            if left < 0.0 {
                break;
            }
        }
    }
    Some((u32::try_from(chosen).ok()?, logits[chosen] - log_sum(logits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcribe::tests::{SIZE, vocabulary};

    /// Which tokens may follow, where all are as likely but for one.
    fn allowed(vocabulary: &Vocabulary, written: &[u32], likely: u32) -> Vec<u32> {
        let mut logits = vec![0.0; SIZE];
        logits[likely as usize] = 50.0;
        apply(vocabulary, written, true, &mut logits);
        let allowed = (0_u32..).zip(logits).filter(|(_, logit)| *logit > FORBIDDEN);
        allowed.map(|(token, _)| token).collect()
    }

    #[test]
    fn times_come_in_pairs_and_never_before_the_last() {
        let vocabulary = vocabulary(&[]);
        let (word, time) = (100, |ticks: u32| vocabulary.first_timestamp + ticks);
        let first = allowed(&vocabulary, &[], word);
        assert_eq!(first, (0..=50).map(time).collect::<Vec<_>>(), "a time of at most a second");
        let opened = allowed(&vocabulary, &[time(5)], word);
        assert!(opened.contains(&word) && opened.iter().all(|token| !vocabulary.is_timestamp(*token)));
        let said = allowed(&vocabulary, &[time(5), word], word);
        assert!(said.contains(&word) && said.contains(&time(6)) && !said.contains(&time(5)));
        let closed = allowed(&vocabulary, &[time(5), word, time(9)], vocabulary.end);
        assert!(closed.contains(&vocabulary.end) && closed.contains(&time(9)));
        assert!(!closed.contains(&word) && !closed.contains(&time(8)));
        let again = allowed(&vocabulary, &[time(5), word, time(9), time(9)], word);
        assert!(again.contains(&word) && !again.contains(&time(10)));
    }

    #[test]
    fn a_time_is_forced_where_all_together_are_likelier_than_any_word() {
        let vocabulary = vocabulary(&[]);
        let written = [vocabulary.first_timestamp, 100];
        let mut logits = vec![0.0; SIZE];
        logits[100] = 5.0;
        let mut less = logits.clone();
        // 1,500 times at 0 together weigh ln 1500 = 7.3.
        apply(&vocabulary, &written, true, &mut logits);
        assert_eq!(logits[100], FORBIDDEN);
        less[100] = 8.0;
        apply(&vocabulary, &written, true, &mut less);
        assert_eq!(less[100], 8.0);
    }

    #[test]
    fn the_likeliest_is_chosen_and_chance_has_its_part_above_zero() {
        let mut random = fastrand::Rng::with_seed(1);
        let logits = [1.0, 3.0, FORBIDDEN, 3.0];
        let (token, likelihood) = choose(&logits, 0.0, &mut random).unwrap();
        assert_eq!(token, 1, "of equals the first");
        let wanted = 3.0 - (2.0 * 3.0_f32.exp() + 1.0_f32.exp()).ln();
        assert!((likelihood - wanted).abs() < 1e-5, "{likelihood} {wanted}");
        let mut counts = [0; 4];
        (0..4000).for_each(|_| counts[choose(&logits, 1.0, &mut random).unwrap().0 as usize] += 1);
        // e^-2 of what the others have.
        assert!((150..370).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        assert_eq!(choose(&[FORBIDDEN; 3], 0.5, &mut random), None);
    }
}
