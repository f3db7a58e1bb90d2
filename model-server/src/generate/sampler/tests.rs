use proptest::prelude::*;
use serde::Deserialize;

use super::*;

fn sampler(sampling: Sampling) -> Sampler {
    sampling.check().unwrap();
    Sampler::new(sampling)
}

fn warm() -> Sampling {
    Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }
}

fn tokens(sampler: &mut Sampler, logits: &[f32], count: usize) -> Vec<u32> {
    (0..count).map(|_| sampler.next(&mut logits.to_vec(), &[], None).unwrap().token).collect()
}

#[test]
fn a_value_out_of_range_is_named() {
    let usual = Sampling::default;
    for (sampling, wanted) in [
        (Sampling { temperature: 2.1, ..usual() }, "temperature: 2.1; 0 to 2 is allowed"),
        (Sampling { temperature: f32::NAN, ..usual() }, "temperature: NaN; 0 to 2 is allowed"),
        (Sampling { top_k: 1 << 21, ..usual() }, "top_k: 2097152; 0 to 1048576 is allowed"),
        (Sampling { top_p: 0.0, ..usual() }, "top_p: 0; over 0 and up to 1 is allowed"),
        (Sampling { repetition_penalty: -1.0, ..usual() }, "repetition_penalty: -1; over 0 and up to 10"),
        (Sampling { logprobs: Some(21), ..usual() }, "logprobs: 21; 0 to 20 is allowed"),
    ] {
        let error = sampling.check().unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    assert!(usual().check().is_ok());
}

#[test]
fn the_first_of_the_likeliest_is_taken_at_temperature_zero() {
    let mut sampler = sampler(Sampling::default());
    let choice = sampler.next(&mut [0.5, 2.0, -1.0, 2.0], &[], None).unwrap();
    assert_eq!(choice, Choice { token: 1, logprob: None, alternatives: Vec::new() });
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        let error = sampler(warm()).next(&mut [0.0, bad, bad], &[], None);
        assert_eq!(error, Err(SampleError::NotANumber { token: 1 }));
    }
}

#[test]
fn nothing_to_choose_from_is_an_error() {
    let nothing = Err(SampleError::NothingAllowed);
    for sampling in [warm(), Sampling::default(), Sampling { top_k: 1, top_p: 0.5, ..warm() }] {
        assert_eq!(sampler(sampling.clone()).next(&mut [], &[], None), nothing);
        assert_eq!(sampler(sampling.clone()).next(&mut [f32::NEG_INFINITY; 3], &[], None), nothing);
        // Token 40 is there in the set, but not in the vocabulary.
        let allowed = Allowed { words: vec![0, 1 << 8] };
        assert_eq!(sampler(sampling).next(&mut [0.0; 3], &[], Some(&allowed)), nothing);
    }
}

#[test]
fn only_allowed_tokens_are_drawn() {
    let allowed = Allowed { words: vec![0b10100, 1] };
    let mut sampler = sampler(Sampling { logprobs: Some(1), ..warm() });
    for _ in 0..200 {
        let choice = sampler.next(&mut [5.0; 64], &[], Some(&allowed)).unwrap();
        assert!([2, 4, 32].contains(&choice.token), "{choice:?}");
        // Log-probabilities are the model's, whatever is allowed.
        assert!((choice.logprob.unwrap() + 64f32.ln()).abs() < 1e-5, "{choice:?}");
        assert_eq!(choice.alternatives[0].0, 0);
    }
}

#[test]
fn a_seed_gives_the_same_tokens_for_ever() {
    let logits: Vec<f32> = (0..40).map(|token| ((token * 37) % 11) as f32 / 4.0).collect();
    let first = tokens(&mut sampler(warm()), &logits, 12);
    assert_eq!(first, tokens(&mut sampler(warm()), &logits, 12));
    assert_ne!(first, tokens(&mut sampler(Sampling { seed: 8, ..warm() }), &logits, 12));
    // Written down, so that no update of a library changes it unseen.
    assert_eq!(first, [7, 7, 27, 29, 24, 15, 4, 32, 15, 38, 8, 16]);
}

#[test]
fn draws_follow_the_weights() {
    let logits = [0.7f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
    let drawn = tokens(&mut sampler(warm()), &logits, 20_000);
    for (token, wanted) in [0.7, 0.2, 0.1].into_iter().enumerate() {
        let share = drawn.iter().filter(|drawn| **drawn == token as u32).count() as f64 / 20_000.0;
        // Four standard deviations of a share of 20,000 draws are at most 0.014.
        assert!((share - wanted).abs() < 0.014, "{token}: {share}");
    }
}

#[test]
fn the_smallest_temperature_is_as_good_as_none() {
    let sampling = Sampling { temperature: f32::MIN_POSITIVE, ..warm() };
    assert_eq!(tokens(&mut sampler(sampling), &[1.0, 3.0, 2.999], 50), [1; 50]);
}

#[derive(Deserialize)]
struct Case {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    repetition_penalty: f32,
    logits: Vec<f32>,
    context: Vec<u32>,
    /// Log-probabilities of the three likeliest tokens, before all else.
    likeliest: Vec<(u32, f32)>,
    /// The tokens that may be drawn, and their probabilities.
    kept: Vec<(usize, f64)>,
}

/// What transformers' logits processors make of logits.
#[test]
fn transformers_keeps_the_same_tokens() {
    let goldens = include_str!("../../../fixtures/goldens/sampling.json");
    let cases: Vec<Case> = serde_json::from_str(goldens).unwrap();
    assert!(cases.len() >= 20);
    for (number, case) in cases.into_iter().enumerate() {
        let Case { temperature, top_k, top_p, repetition_penalty, .. } = case;
        let sampling = Sampling { temperature, top_k, top_p, repetition_penalty, seed: 1, logprobs: Some(3) };
        let mut sampler = sampler(sampling);
        let choice = sampler.next(&mut case.logits.clone(), &case.context, None).unwrap();
        for (own, wanted) in choice.alternatives.iter().zip(&case.likeliest) {
            assert_eq!(own.0, wanted.0, "case {number}");
            assert!((own.1 - wanted.1).abs() < 1e-4, "case {number}: {own:?} {wanted:?}");
        }
        let mut logits = case.logits;
        sampler.penalise(&mut logits, &case.context);
        let kept = sampler.kept(&logits).unwrap();
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        assert_eq!(kept.len(), case.kept.len(), "case {number}");
        for ((token, weight), (wanted, probability)) in kept.into_iter().zip(case.kept) {
            assert_eq!(token, wanted, "case {number}");
            // transformers computes in f32.
            assert!((weight / total - probability).abs() < 1e-5, "case {number}: token {token}");
        }
    }
}

proptest! {
    /// The selection in halves is the one by sorting.
    #[test]
    fn bounds_keep_what_sorting_would(
        logits in prop::collection::vec(prop::sample::select(vec![-9.0f32, -1.0, 0.0, 0.5, 2.0, 3.0]), 1..60),
        top_k in 0u32..70,
        top_p in 0.01f32..1.0,
    ) {
        let sampler = sampler(Sampling { top_k, top_p, ..warm() });
        let mut sorted: Vec<(usize, f64)> =
            logits.iter().map(|logit| f64::from(*logit).exp()).enumerate().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if let Some(&(_, last)) = sorted.get((top_k as usize).wrapping_sub(1)) {
            sorted.retain(|(_, weight)| *weight >= last);
        }
        let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let enough = sorted.iter().position(|(_, weight)| {
            sum += weight;
            sum >= f64::from(top_p) * total
        });
        sorted.truncate(enough.map_or(usize::MAX, |last| last + 1));
        let mut wanted: Vec<usize> = sorted.into_iter().map(|(token, _)| token).collect();
        wanted.sort_unstable();
        let kept: Vec<usize> = sampler.kept(&logits).unwrap().into_iter().map(|(token, _)| token).collect();
        // Where a share is met to the last bit, rounding decides about one token.
        prop_assert!(kept.len().abs_diff(wanted.len()) <= 1, "{kept:?} {wanted:?}");
        let fewer = kept.len().min(wanted.len());
        if kept.len() == wanted.len() {
            prop_assert_eq!(kept, wanted);
        } else {
            prop_assert!(fewer > 0);
        }
    }

    #[test]
    fn what_others_draw_changes_nothing(
        logits in prop::collection::vec(-5.0f32..5.0, 2..30),
        seed: u64,
        others in 0usize..4,
    ) {
        let sampling = Sampling { temperature: 0.8, top_p: 0.9, top_k: 20, seed, ..Sampling::default() };
        let alone = tokens(&mut sampler(sampling.clone()), &logits, 8);
        let mut own = sampler(sampling.clone());
        let mut beside = sampler(Sampling { seed: seed ^ 1, ..sampling });
        for wanted in alone {
            tokens(&mut beside, &logits, others);
            prop_assert_eq!(tokens(&mut own, &logits, 1), [wanted]);
        }
    }
}
