//! From logits to text: the sampler, the grammar, the characters, the stop strings of one sequence.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    grammar::Constraint,
    sampler::{Choice, SampleError, Sampler, Sampling},
    sequence::{Odds, Writer, Written},
    stops::Stops,
    text::{Detokenizer, Vocabulary},
};
use crate::{backend::BackendError, error::Error};

/// Writes one text.
pub(crate) struct TextWriter {
    vocabulary: Arc<Vocabulary>,
    /// Tokens that end a text.
    endings: Arc<BTreeSet<u32>>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    detokenizer: Detokenizer,
    stops: Stops,
}

impl Writer for TextWriter {
    fn write(&mut self, logits: &mut [f32], context: &[u32]) -> Result<Written, Error> {
        // Models have room for more tokens than their tokenizers know.
        logits.iter_mut().skip(self.vocabulary.len()).for_each(|logit| *logit = f32::NEG_INFINITY);
        let allowed = self.constraint.as_mut().map(Constraint::mask).transpose()?;
        let choice = self.sampler.next(logits, context, allowed.as_ref()).map_err(|error| match error {
            SampleError::NotANumber { .. } => Error::Backend(BackendError::Failed(error.to_string())),
            SampleError::NothingAllowed => Error::invalid("constraint", error.to_string()),
        })?;
        let Choice { token, logprob, alternatives } = choice;
        let odds = logprob.map(|logprob| Odds { logprob, top: alternatives });
        if self.endings.contains(&token) {
            return Ok(Written { token, text: self.flush(), odds, ends: true });
        }
        let mut text = self.stops.push(&self.detokenizer.push(token));
        let mut ends = self.stops.found().is_some();
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
            if constraint.is_done() && !ends {
                text.push_str(&self.flush());
                ends = true;
            }
        }
        Ok(Written { token, text, odds, ends })
    }

    fn flush(&mut self) -> String {
        let mut text = self.stops.push(&self.detokenizer.finish());
        text.push_str(&self.stops.finish());
        text
    }
}

/// How one text is to be written.
pub(crate) struct Style {
    pub(crate) sampling: Sampling,
    pub(crate) stops: Stops,
    pub(crate) constraint: Option<Constraint>,
}

impl Style {
    /// What writes so, with the tokens of a model.
    pub(crate) fn writer(self, vocabulary: &Arc<Vocabulary>, endings: &Arc<BTreeSet<u32>>) -> TextWriter {
        TextWriter {
            vocabulary: Arc::clone(vocabulary),
            endings: Arc::clone(endings),
            sampler: Sampler::new(self.sampling),
            constraint: self.constraint,
            detokenizer: Detokenizer::new(vocabulary, true),
            stops: self.stops,
        }
    }
}
