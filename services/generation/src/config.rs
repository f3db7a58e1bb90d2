//! The section `[generation]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

use crate::catalogue::EXTRACTIVE;

/// Names that stand for something else: the card that is built in, and a whole turn.
const TAKEN: [&str; 2] = [EXTRACTIVE, "switchboard"];
/// Tokens that a card's context must have beside the reply, for instructions, question and passages.
const LEAST_PROMPT: u32 = 256;
/// Most tokens of a reply, by the contract of the nodes.
const MOST_REPLY: u32 = 32_768;
/// Most cards, and most languages of one.
const MOST: usize = 64;

/// How replies are made.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Least probability that the evidence answers the question; below it the reply of the extractive
    /// card says that it cannot answer. 0 to 1.
    pub min_answerability: f32,
    /// Language models that write replies, by name; at most 64. A name has 1 to 64 characters out of a-z,
    /// 0-9, `-`, `_` and `.`; `extractive` and `switchboard` are taken.
    pub cards: BTreeMap<String, Card>,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_answerability: 0.5, cards: BTreeMap::new() }
    }
}

/// A language model on the nodes of the role `inference`: `[generation.cards.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Card {
    /// The model, as nodes name it; empty takes the card's name.
    pub model: String,
    /// How capable and costly it is: `small` or `large`.
    pub tier: Tier,
    /// Tokens that prompt and reply may have together, 257 to 10,000,000; no more than the model has.
    pub context_tokens: u32,
    /// Most tokens of a reply, 1 to 32,768; it leaves 256 of the context or more to the prompt.
    pub max_tokens: u32,
    /// Randomness, 0 to 2; 0 always takes the most likely token.
    pub temperature: f32,
    /// Expected quality of its replies, 0 to 1, before anything is measured.
    pub quality: f32,
    /// Languages that it writes, as BCP 47 tags; empty for any. At most 64.
    pub languages: Vec<String>,
    /// Price of a million prompt tokens, in millionths of the account's currency unit.
    pub input_micros_per_million_tokens: u64,
    /// Price of a million reply tokens, in millionths of the account's currency unit.
    pub output_micros_per_million_tokens: u64,
    /// Bytes of text to one token, 1 to 16, by which prompts are made to fit. Less is on the safe side.
    pub bytes_per_token: f32,
    /// Whether its chat template takes a system message; otherwise the instructions stand first in the
    /// customer's.
    pub system_message: bool,
}

impl Default for Card {
    fn default() -> Self {
        Self {
            model: String::new(),
            tier: Tier::Small,
            context_tokens: 4_096,
            max_tokens: 256,
            temperature: 0.0,
            quality: 0.7,
            languages: Vec::new(),
            input_micros_per_million_tokens: 0,
            output_micros_per_million_tokens: 0,
            // English has some 4 to 5 with usual vocabularies, German 3 to 4.
            bytes_per_token: 3.0,
            system_message: true,
        }
    }
}

/// How capable and costly a language model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Runs nearly anywhere.
    Small,
    /// Better, slower and dearer.
    Large,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        within("generation.min_answerability", self.min_answerability, 0.0..=1.0)?;
        if self.cards.len() > MOST {
            return Err(Invalid::new("generation.cards", self.cards.len(), "at most 64 cards"));
        }
        self.cards.iter().try_for_each(|(name, card)| card.check(name))
    }
}

impl Card {
    fn check(&self, name: &str) -> Result<(), Invalid> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) || TAKEN.contains(&name) {
            let allowed = "a name of 1 to 64 characters out of a-z, 0-9, -, _ and ., other than extractive \
                           and switchboard";
            return Err(Invalid::new("generation.cards", name, allowed));
        }
        let key = |key: &str| format!("generation.cards.{name}.{key}");
        within(&key("model's length"), self.model.len(), 0..=256)?;
        within(&key("context_tokens"), self.context_tokens, LEAST_PROMPT + 1..=10_000_000)?;
        within(&key("max_tokens"), self.max_tokens, 1..=MOST_REPLY.min(self.context_tokens - LEAST_PROMPT))?;
        within(&key("temperature"), self.temperature, 0.0..=2.0)?;
        within(&key("quality"), self.quality, 0.0..=1.0)?;
        within(&key("bytes_per_token"), self.bytes_per_token, 1.0..=16.0)?;
        if self.languages.len() > MOST {
            return Err(Invalid::new(key("languages"), self.languages.len(), "at most 64 tags"));
        }
        match self.languages.iter().find(|tag| tag.is_empty() || !is_tag(tag)) {
            Some(tag) => Err(Invalid::new(key("languages"), tag, "BCP 47 tags such as `en` or `de-AT`")),
            None => Ok(()),
        }
    }
}

/// Whether a text could be a BCP 47 tag, or is empty.
pub(crate) fn is_tag(text: &str) -> bool {
    text.len() <= 35 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        toml::from_str::<Config>(text).unwrap().check().unwrap_err().to_string()
    }

    #[test]
    fn a_card_needs_no_more_than_its_name() {
        let config: Config = toml::from_str("[cards.\"qwen2.5-0.5b\"]").unwrap();
        config.check().unwrap();
        assert_eq!(config.cards["qwen2.5-0.5b"].tier, Tier::Small);
    }

    #[test]
    fn a_bad_value_is_told_with_its_card_and_key() {
        for (text, start) in [
            ("[cards.extractive]", "generation.cards = extractive"),
            ("[cards.Big]", "generation.cards = Big"),
            ("[cards.a]\ncontext_tokens = 256", "generation.cards.a.context_tokens = 256"),
            ("[cards.a]\nmax_tokens = 0", "generation.cards.a.max_tokens = 0"),
            ("[cards.a]\nmax_tokens = 3841", "generation.cards.a.max_tokens = 3841"),
            ("[cards.a]\ntemperature = 2.5", "generation.cards.a.temperature = 2.5"),
            ("[cards.a]\nquality = nan", "generation.cards.a.quality = NaN"),
            ("[cards.a]\nbytes_per_token = 0.5", "generation.cards.a.bytes_per_token = 0.5"),
            ("[cards.a]\nlanguages = ['en', 'de_AT']", "generation.cards.a.languages = de_AT"),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(start), "{problem}");
        }
        let unknown = toml::from_str::<Config>("[cards.a]\ntoken = 1").unwrap_err().to_string();
        assert!(unknown.contains("context_tokens"), "{unknown}");
    }
}
