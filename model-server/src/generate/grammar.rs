//! Output that is held to a JSON schema, a regular expression or a grammar.
//!
//! [`Grammars`] knows a model's tokens and is made once; a [`Constraint`] follows one sequence. What a
//! request's grammar may cost is counted in steps and states, not in time, so that the same one passes or
//! fails on every machine: a mask takes microseconds as a rule and some 30 ms at the worst. What costs more
//! is an error of that request alone.

use std::{collections::BTreeSet, sync::Arc};

use llguidance::{
    Matcher, ParserFactory,
    api::{ParserLimits, StopReason, TopLevelGrammar},
    earley::SlicedBiasComputer,
    toktrie::{ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};

use super::{sampler::Allowed, text::Vocabulary};
use crate::error::Error;

/// Bytes of the largest grammar.
const LARGEST: usize = 64 << 10;
/// How deep brackets may lie within each other: readers of grammars call themselves for each.
const DEEPEST: usize = 64;
/// Characters of an error that are told.
const LONGEST_ERROR: usize = 300;
/// The field that errors name.
const FIELD: &str = "grammar";
const NOTHING_FITS: &str = "no token of the model fits";

/// What output is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// JSON that fits a schema, which is given as JSON.
    JsonSchema(String),
    /// A text that a regular expression matches from its beginning to its end.
    Regex(String),
    /// A text of a grammar in Lark's notation, as llguidance reads it.
    Lark(String),
}

/// A model's tokens, as grammars need them.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// Special tokens that end nothing: a grammar may name them, and must not write them.
    forbidden: Vec<u32>,
}

impl Grammars {
    /// For a model with these tokens, of which `endings` end a text. Takes about a second for the largest
    /// vocabularies.
    ///
    /// # Errors
    /// When the tokens cannot be used.
    pub(crate) fn new(vocabulary: &Vocabulary, endings: &BTreeSet<u32>) -> Result<Self, Error> {
        let ids = 0..vocabulary.len() as u32;
        // A special token's name has a byte before it that no text has, so that no text is written with it.
        let word = |id: u32| match vocabulary.is_special(id) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], vocabulary.bytes(id)].concat(),
            false if endings.contains(&id) => Vec::new(),
            false => vocabulary.bytes(id).to_vec(),
        };
        let words: Vec<Vec<u8>> = ids.clone().map(word).collect();
        let known: Vec<u32> = endings.iter().copied().filter(|id| ids.contains(id)).collect();
        let info = TokRxInfo::new(ids.end, known.first().copied().unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &words);
        if !known.is_empty() {
            trie = trie.with_eos_tokens(&known);
        }
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|error| Error::Tokenizer(short(&error)))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            // Both counted at some 50,000 and 14,000 a millisecond, by the library.
            initial_lexer_fuel: 1_000_000,
            step_lexer_fuel: 200_000,
            // States take 1 to 2 kB each.
            max_lexer_states: 20_000,
            max_grammar_size: 100_000,
            // Would be paid before the first token, and is not counted.
            precompute_large_lexemes: false,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let forbidden = ids.filter(|id| vocabulary.is_special(*id) && !endings.contains(id)).collect();
        Ok(Self { factory, forbidden })
    }

    /// Begins a sequence.
    ///
    /// # Errors
    /// What is wrong with the rule: it cannot be read, nothing fits it, or it is too large.
    pub(crate) fn begin(&self, rule: &Rule) -> Result<Constraint, Error> {
        let (Rule::JsonSchema(source) | Rule::Regex(source) | Rule::Lark(source)) = rule;
        if !(1..=LARGEST).contains(&source.len()) {
            return Err(Error::invalid(FIELD, format!("{} bytes; 1 to {LARGEST} are allowed", source.len())));
        }
        let depth = depth(source);
        if depth > DEEPEST {
            return Err(Error::invalid(FIELD, format!("brackets {depth} deep; {DEEPEST} are allowed")));
        }
        let grammar = match rule {
            Rule::JsonSchema(schema) => {
                let schema = serde_json::from_str(schema);
                let schema = schema.map_err(|error| Error::invalid(FIELD, format!("is no JSON: {error}")))?;
                TopLevelGrammar::from_json_schema(schema)
            }
            Rule::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Rule::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|error| Error::invalid(FIELD, short(&error)))?;
        Ok(Constraint { matcher: Matcher::new(Ok(parser)), forbidden: self.forbidden.clone(), tokens: 0 })
    }
}

/// How deep a source's brackets lie within each other, at most; those in texts count as well.
fn depth(source: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The first line of an error: others show the state of the library, which catches its own panics.
fn short(error: &anyhow::Error) -> String {
    let text = error.to_string();
    if text.starts_with("panic") {
        return "cannot be followed".into();
    }
    text.lines().next().unwrap_or_default().chars().take(LONGEST_ERROR).collect()
}

/// Where a sequence stands in its grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
    forbidden: Vec<u32>,
    /// Tokens so far.
    tokens: usize,
}

impl Constraint {
    /// The tokens that may come next: an ending one where the text may end, and nothing else where it
    /// [must](Self::is_done).
    ///
    /// # Errors
    /// When no token fits, or to find out would cost too much.
    pub(crate) fn mask(&mut self) -> Result<Allowed, Error> {
        let mut mask = self.matcher.compute_mask_or_eos().map_err(|error| self.failed(&error))?;
        self.forbidden.iter().for_each(|token| mask.disallow_token(*token));
        if mask.is_zero() && !self.is_done() {
            return Err(self.refused(NOTHING_FITS));
        }
        Ok(Allowed { words: mask.as_slice().to_vec() })
    }

    /// Takes a token, which the mask has to have allowed.
    ///
    /// # Errors
    /// When it was not allowed, or to take it would cost too much.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), Error> {
        self.matcher.consume_token(token).map_err(|error| self.failed(&error))?;
        self.tokens += 1;
        Ok(())
    }

    /// Whether the text is complete, and nothing can follow.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.matcher.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }

    fn failed(&self, error: &anyhow::Error) -> Error {
        match self.matcher.stop_reason() {
            StopReason::NoExtensionBias => self.refused(NOTHING_FITS),
            _ => self.refused(&short(error)),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::invalid(FIELD, format!("behind {} tokens: {why}", self.tokens))
    }
}

#[cfg(test)]
mod tests;
