//! Which token comes next, from a row of logits.
//!
//! The order of steps is transformers': tokens that a grammar forbids fall out, repetition is made less
//! likely, then temperature, `top_k`, `top_p`, and a draw. A [`Sampler`] belongs to one sequence and reads
//! nothing but its own row, so what it draws does not depend on the batch that the row stands in.

use std::cmp::Ordering;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};

use crate::error::Error;

/// Tokens of the largest `top_k`; the largest vocabularies have some 260,000.
const LARGEST_TOP_K: u32 = 1 << 20;
/// Alternatives that are told with a token.
const MOST_ALTERNATIVES: u32 = 20;
/// The greatest repetition penalty.
const GREATEST_PENALTY: f32 = 10.0;

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// Randomness, 0 to 2; at 0 the likeliest token is always taken.
    pub(crate) temperature: f32,
    /// As many of the likeliest tokens are drawn from; 0 sets no bound. Tokens as likely as the last of them
    /// stay in.
    pub(crate) top_k: u32,
    /// The fewest of the likeliest tokens that are together this likely are drawn from; over 0, up to 1.
    pub(crate) top_p: f32,
    /// What a token's logit is divided by (multiplied, below 0) once it has been read or written; over 0, up
    /// to 10; 1 changes nothing.
    ///
    /// # Source
    /// Keskar et al. 2019 (CTRL), section 4.1; over the prompt as well, as in transformers.
    pub(crate) repetition_penalty: f32,
    /// The seed of the draw.
    pub(crate) seed: u64,
    /// Whether log-probabilities are told, and for how many alternatives; 0 to 20.
    pub(crate) logprobs: Option<u32>,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0, logprobs: None }
    }
}

impl Sampling {
    /// Checks that values are in range.
    ///
    /// # Errors
    /// Names the field, its value, and what is allowed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let over_zero = |value: f32, most: f32| value > 0.0 && value <= most;
        let allowed = [
            ("temperature", (0.0..=2.0).contains(&self.temperature), self.temperature, "0 to 2"),
            ("top_k", self.top_k <= LARGEST_TOP_K, self.top_k as f32, "0 to 1048576"),
            ("top_p", over_zero(self.top_p, 1.0), self.top_p, "over 0 and up to 1"),
            (
                "repetition_penalty",
                over_zero(self.repetition_penalty, GREATEST_PENALTY),
                self.repetition_penalty,
                "over 0 and up to 10",
            ),
            (
                "logprobs",
                self.logprobs.is_none_or(|count| count <= MOST_ALTERNATIVES),
                self.logprobs.unwrap_or(0) as f32,
                "0 to 20",
            ),
        ];
        match allowed.into_iter().find(|(_, sound, ..)| !sound) {
            Some((field, _, value, range)) => {
                Err(Error::invalid(field, format!("{value}; {range} is allowed")))
            }
            None => Ok(()),
        }
    }
}

/// The tokens that may come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Bit `i % 32` of word `i / 32` is token `i`'s; tokens behind the last word are not allowed.
    pub(crate) words: Vec<u32>,
}

impl Allowed {
    /// Whether a token may come.
    pub(crate) fn contains(&self, token: usize) -> bool {
        self.words.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// The token.
    pub(crate) token: u32,
    /// Its log-probability, where they were asked for: of the model's own distribution, before penalty,
    /// temperature and bounds, so that figures of different settings compare. As in OpenAI's interface and
    /// vLLM's.
    pub(crate) logprob: Option<f32>,
    /// The likeliest tokens and their log-probabilities, likeliest first; as many as were asked for.
    pub(crate) alternatives: Vec<(u32, f32)>,
}

/// Why no token could be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SampleError {
    /// The model gave a logit that is not a number, or infinitely great.
    #[error("the logit of token {token} is no number that can be compared")]
    NotANumber {
        /// The first such token.
        token: usize,
    },
    /// There are no logits, or all tokens are ruled out.
    #[error("no token can come next")]
    NothingAllowed,
}

/// Draws the tokens of one sequence.
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// Which tokens have had their penalty in this step, a bit each.
    seen: Vec<u64>,
}

impl Sampler {
    /// For a sequence; `sampling` has been [checked](Sampling::check).
    pub(crate) fn new(sampling: Sampling) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Self { sampling, rng, seen: Vec::new() }
    }

    /// Draws a token. Takes a few passes over the vocabulary, and never sorts all of it.
    ///
    /// `logits` is `[vocabulary]` and is changed; `context` are the tokens of the prompt and those written so
    /// far, in any order; `allowed` is the set that a grammar allows. Of tokens that are equally likely the
    /// first one counts as the likelier.
    ///
    /// # Errors
    /// `NotANumber` where the model has failed; `NothingAllowed` where nothing is left.
    pub(crate) fn next(
        &mut self,
        logits: &mut [f32],
        context: &[u32],
        allowed: Option<&Allowed>,
    ) -> Result<Choice, SampleError> {
        if let Some(token) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            return Err(SampleError::NotANumber { token });
        }
        let raw = self.sampling.logprobs.map(|count| Raw::of(logits, count as usize));
        if let Some(allowed) = allowed {
            let forbidden = logits.iter_mut().enumerate().filter(|(token, _)| !allowed.contains(*token));
            forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }
        // The logit of the token itself is still needed; what is drawn from has another value.
        let before = raw.is_some().then(|| logits.to_vec());
        self.penalise(logits, context);
        let token = if self.sampling.temperature == 0.0 { greedy(logits) } else { self.draw(logits) };
        let token = token.ok_or(SampleError::NothingAllowed)?;
        let raw = raw.zip(before);
        let logprob = raw.as_ref().map(|(raw, before)| before[token] - raw.normaliser);
        let alternatives = raw.map(|(raw, _)| raw.alternatives).unwrap_or_default();
        Ok(Choice { token: token as u32, logprob, alternatives })
    }

    fn penalise(&mut self, logits: &mut [f32], context: &[u32]) {
        let penalty = self.sampling.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        self.seen.clear();
        self.seen.resize(logits.len().div_ceil(64), 0);
        for &token in context {
            let token = token as usize;
            let Some(logit) = logits.get_mut(token) else { continue };
            let word = &mut self.seen[token / 64];
            // Once for each token, however often it is there.
            if *word >> (token % 64) & 1 == 0 {
                *word |= 1 << (token % 64);
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    /// Draws by weight. A weight that is too small for an f64 is never drawn.
    fn draw(&mut self, logits: &[f32]) -> Option<usize> {
        let kept = self.kept(logits)?;
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut rest = uniform(&mut self.rng) * total;
        let mut drawn = None;
        for (token, weight) in kept.into_iter().filter(|(_, weight)| *weight > 0.0) {
            drawn = Some(token);
            rest -= weight;
            if rest < 0.0 {
                break;
            }
        }
        drawn
    }

    /// The tokens that `top_k` and `top_p` leave, in their order, with their weights: the likeliest has 1.
    fn kept(&self, logits: &[f32]) -> Option<Vec<(usize, f64)>> {
        let top = logits[greedy(logits)?];
        let temperature = f64::from(self.sampling.temperature);
        // In f64 even the smallest temperature leaves a number.
        let weight = |ranked: &Ranked| (f64::from(ranked.logit - top) / temperature).exp();
        let possible = || {
            let all = logits.iter().enumerate().map(|(token, &logit)| Ranked { logit, token });
            all.filter(|ranked| ranked.logit > f32::NEG_INFINITY)
        };
        let mut least = Ranked { logit: f32::NEG_INFINITY, token: usize::MAX };
        let top_k = self.sampling.top_k as usize;
        let bounded = 0 < top_k && top_k < logits.len();
        if bounded || self.sampling.top_p < 1.0 {
            let mut ranked: Vec<Ranked> = possible().collect();
            if bounded && top_k < ranked.len() {
                let (_, last, _) = ranked.select_nth_unstable_by(top_k - 1, Ranked::order);
                least = Ranked { token: usize::MAX, ..*last };
                ranked.retain(|ranked| ranked.is_in(least));
            }
            if self.sampling.top_p < 1.0 {
                least = nucleus(&mut ranked, f64::from(self.sampling.top_p), weight);
            }
        }
        // In the order of tokens, which does not depend on how the selection has moved them.
        let kept = possible().filter(|ranked| ranked.is_in(least));
        Some(kept.map(|ranked| (ranked.token, weight(&ranked))).collect())
    }
}

/// A number in [0, 1) that is a multiple of 2^-53.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The likeliest token; the first of several.
fn greedy(logits: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.map_or(f32::NEG_INFINITY, |best| logits[best]) {
            best = Some(token);
        }
    }
    best
}

/// A token in the order of likelihood.
#[derive(Clone, Copy)]
struct Ranked {
    logit: f32,
    token: usize,
}

impl Ranked {
    /// The likelier first; of equals, the first token.
    fn order(&self, other: &Self) -> Ordering {
        // There is nothing here that is not a number.
        let by_logit = other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal);
        by_logit.then(self.token.cmp(&other.token))
    }

    /// Whether it is not less likely than `least`.
    fn is_in(&self, least: Self) -> bool {
        self.logit > least.logit || (self.logit == least.logit && self.token <= least.token)
    }
}

/// The last token of the fewest that together have the share `top_p` of all weight. Halves the part in
/// question in each pass, so that all passes together are as long as two.
fn nucleus(ranked: &mut [Ranked], top_p: f64, weight: impl Fn(&Ranked) -> f64) -> Ranked {
    let mut wanted = top_p * ranked.iter().map(&weight).sum::<f64>();
    let mut part = ranked;
    while part.len() > 1 {
        let middle = part.len() / 2;
        part.select_nth_unstable_by(middle, Ranked::order);
        let (upper, lower) = part.split_at_mut(middle);
        let of_upper: f64 = upper.iter().map(&weight).sum();
        if of_upper >= wanted {
            part = upper;
        } else {
            wanted -= of_upper;
            part = lower;
        }
    }
    // There is none where nothing was left before; then nothing is drawn either.
    part.first().copied().unwrap_or(Ranked { logit: f32::NEG_INFINITY, token: usize::MAX })
}

/// What log-probabilities are told from: the logits as the model gave them.
struct Raw {
    /// The logarithm of the sum of all exponentials.
    normaliser: f32,
    alternatives: Vec<(u32, f32)>,
}

impl Raw {
    fn of(logits: &[f32], count: usize) -> Self {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
        let normaliser = (f64::from(top) + sum.ln()) as f32;
        let ranked = logits.iter().enumerate().map(|(token, &logit)| Ranked { logit, token });
        let mut ranked: Vec<Ranked> = if count == 0 { Vec::new() } else { ranked.collect() };
        if count < ranked.len() {
            ranked.select_nth_unstable_by(count, Ranked::order);
            ranked.truncate(count);
        }
        ranked.sort_unstable_by(Ranked::order);
        let possible = ranked.into_iter().filter(|ranked| ranked.logit > f32::NEG_INFINITY);
        let alternatives = possible.map(|ranked| (ranked.token as u32, ranked.logit - normaliser)).collect();
        Self { normaliser, alternatives }
    }
}

#[cfg(test)]
mod tests;
