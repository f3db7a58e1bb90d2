//! The model cards, and the choice among them.

use std::sync::Arc;

use switchboard_proto::generation::v1::{Candidate, ModelCard, RouteResponse, Tier};

use crate::{
    config::{self, Card},
    error::Error,
    prompt::Prompt,
};

/// The built-in extractive card's name.
pub(crate) const EXTRACTIVE: &str = "extractive";
/// Nothing is measured yet of how long language models take: they are neither trusted nor ruled out.
const UNKNOWN: f32 = 0.5;

/// All cards.
pub(crate) struct Catalogue {
    /// As they are told, in order of name.
    told: Vec<ModelCard>,
    language_models: Vec<Arc<LanguageModel>>,
    prompt: Arc<Prompt>,
}

/// A card that writes.
#[derive(Debug)]
pub(crate) struct LanguageModel {
    pub(crate) name: String,
    /// As nodes name it.
    pub(crate) model: String,
    pub(crate) card: Card,
}

/// What a request asks of a card.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    /// The card that it names; empty for any.
    pub(crate) model: &'a str,
    /// Language of the reply; empty for any.
    pub(crate) locale: &'a str,
    /// Length of the question.
    pub(crate) question_bytes: usize,
    /// Length of the best passage; 0 when there is none.
    pub(crate) passage_bytes: usize,
}

impl Catalogue {
    /// The cards of a configuration that was checked, beside the one that is built in.
    pub(crate) fn new(config: &config::Config, prompt: Arc<Prompt>) -> Self {
        let language_models: Vec<Arc<LanguageModel>> = config
            .cards
            .iter()
            .map(|(name, card)| {
                let model = if card.model.is_empty() { name } else { &card.model };
                Arc::new(LanguageModel { name: name.clone(), model: model.clone(), card: card.clone() })
            })
            .collect();
        let mut told: Vec<ModelCard> =
            language_models.iter().map(|model| model.told(prompt.version())).collect();
        told.push(ModelCard {
            name: EXTRACTIVE.into(),
            tier: Tier::Extractive.into(),
            provider: "builtin".into(),
            // It never says what the documents do not say, and never rephrases what they do.
            quality: 0.5,
            ..ModelCard::default()
        });
        told.sort_by(|a, b| a.name.cmp(&b.name));
        Self { told, language_models, prompt }
    }

    /// All cards, in order of name.
    pub(crate) fn cards(&self) -> &[ModelCard] {
        &self.told
    }

    /// The language model of a card; none for the extractive one.
    pub(crate) fn language_model(&self, card: &str) -> Option<&Arc<LanguageModel>> {
        self.language_models.iter().find(|model| model.name == card)
    }

    /// Chooses the card for a request: the one that it names, else the extractive one.
    ///
    /// # Errors
    /// `UnknownModel` when it names none that there is, `Unfit` when it names one that cannot serve it.
    pub(crate) fn route(&self, needs: &Needs<'_>) -> Result<RouteResponse, Error> {
        let wanted = if needs.model.is_empty() { EXTRACTIVE } else { needs.model };
        let chosen = self.told.iter().find(|card| card.name == wanted);
        let chosen = chosen.ok_or_else(|| Error::UnknownModel { name: wanted.chars().take(64).collect() })?;
        if let Some(why) = self.obstacle(chosen, needs) {
            return Err(Error::Unfit { name: chosen.name.clone(), why });
        }
        let candidate = |card: &ModelCard| {
            let is_chosen = card.name == chosen.name;
            let reason = match (is_chosen, needs.model.is_empty()) {
                (true, false) => "asked for".to_owned(),
                (true, true) => "taken when no card is asked for".to_owned(),
                (false, false) => "not asked for".to_owned(),
                (false, true) => {
                    self.obstacle(card, needs).unwrap_or_else(|| "taken only when it is asked for".to_owned())
                }
            };
            Candidate {
                model: card.name.clone(),
                eligible: is_chosen,
                reason,
                expected_quality: card.quality,
                in_time_probability: if card.tier() == Tier::Extractive { 1.0 } else { UNKNOWN },
            }
        };
        Ok(RouteResponse {
            model: chosen.name.clone(),
            tier: chosen.tier,
            fallbacks: Vec::new(),
            candidates: self.told.iter().map(candidate).collect(),
        })
    }

    /// Why a card cannot serve a request, whoever chooses.
    fn obstacle(&self, told: &ModelCard, needs: &Needs<'_>) -> Option<String> {
        let card = &self.language_model(&told.name)?.card;
        let covers = |tag: &String| primary(tag).eq_ignore_ascii_case(primary(needs.locale));
        if !needs.locale.is_empty() && !card.languages.is_empty() && !card.languages.iter().any(covers) {
            return Some(format!("it does not write {}, only {}", needs.locale, card.languages.join(", ")));
        }
        let room = self.prompt.room(card, needs.question_bytes);
        let passage = if needs.passage_bytes == 0 { 0 } else { Prompt::cost(card, needs.passage_bytes) };
        if room.is_none_or(|room| room < passage) {
            return Some(format!(
                "its context of {} tokens does not hold the question, the best passage and a reply of {}",
                card.context_tokens, card.max_tokens
            ));
        }
        None
    }
}

impl LanguageModel {
    fn told(&self, prompt: &str) -> ModelCard {
        let card = &self.card;
        let tier = match card.tier {
            config::Tier::Small => Tier::Small,
            config::Tier::Large => Tier::Large,
        };
        ModelCard {
            name: self.name.clone(),
            tier: tier.into(),
            provider: "node".into(),
            context_tokens: card.context_tokens,
            languages: card.languages.clone(),
            input_micros_per_million_tokens: card.input_micros_per_million_tokens,
            output_micros_per_million_tokens: card.output_micros_per_million_tokens,
            quality: card.quality,
            prompt: prompt.to_owned(),
        }
    }

    /// What tokens cost, in millionths of the account's currency unit, rounded up.
    pub(crate) fn cost(&self, input_tokens: u32, output_tokens: u32) -> u64 {
        let price = |tokens: u32, micros: u64| u128::from(tokens) * u128::from(micros);
        let whole = price(input_tokens, self.card.input_micros_per_million_tokens)
            + price(output_tokens, self.card.output_micros_per_million_tokens);
        u64::try_from(whole.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// The language of a tag without its region.
fn primary(tag: &str) -> &str {
    tag.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let german = Card { languages: vec!["de".into()], ..Card::default() };
        let short = Card { context_tokens: 600, tier: config::Tier::Large, ..Card::default() };
        let cards = [("german", german), ("short", short), ("any", Card::default())];
        let cards = cards.map(|(name, card)| (name.to_owned(), card)).into();
        let config = config::Config { cards, ..config::Config::default() };
        Catalogue::new(&config, Arc::new(Prompt::new().unwrap()))
    }

    fn reasons(route: &RouteResponse) -> Vec<(&str, bool, &str)> {
        route.candidates.iter().map(|c| (c.model.as_str(), c.eligible, c.reason.as_str())).collect()
    }

    #[test]
    fn an_unknown_card_is_named_in_the_error() {
        let error = catalogue().route(&Needs { model: "gpt", ..Needs::default() }).unwrap_err();
        assert!(error.to_string().contains("\"gpt\""));
    }

    #[test]
    fn without_a_name_the_extractive_card_runs_and_the_others_say_why_not() {
        let needs = Needs { locale: "en-IE", question_bytes: 40, passage_bytes: 2_000, ..Needs::default() };
        let route = catalogue().route(&needs).unwrap();
        assert_eq!((route.model.as_str(), route.tier()), (EXTRACTIVE, Tier::Extractive));
        let context =
            "its context of 600 tokens does not hold the question, the best passage and a reply of 256";
        assert_eq!(
            reasons(&route),
            [
                ("any", false, "taken only when it is asked for"),
                (EXTRACTIVE, true, "taken when no card is asked for"),
                ("german", false, "it does not write en-IE, only de"),
                ("short", false, context),
            ]
        );
    }

    #[test]
    fn a_card_that_is_asked_for_runs_where_it_can() {
        let catalogue = catalogue();
        let needs = Needs { model: "german", locale: "DE-at", question_bytes: 40, passage_bytes: 500 };
        let route = catalogue.route(&needs).unwrap();
        assert_eq!((route.model.as_str(), route.tier()), ("german", Tier::Small));
        assert_eq!(reasons(&route)[0], ("any", false, "not asked for"));
        assert_eq!(reasons(&route)[2], ("german", true, "asked for"));
        for needs in
            [Needs { locale: "en", ..needs }, Needs { model: "short", passage_bytes: 2_000, ..needs }]
        {
            let error = catalogue.route(&needs).unwrap_err();
            assert!(matches!(&error, Error::Unfit { name, .. } if name == needs.model), "{error}");
        }
    }

    #[test]
    fn costs_are_rounded_up_and_never_overflow() {
        let card = Card {
            input_micros_per_million_tokens: 150_000,
            output_micros_per_million_tokens: 600_000,
            ..Card::default()
        };
        let priced = |card| LanguageModel { name: "a".into(), model: "a".into(), card };
        assert_eq!(priced(card.clone()).cost(1_000, 100), 210);
        assert_eq!(priced(card.clone()).cost(1, 0), 1);
        let dear = Card { input_micros_per_million_tokens: u64::MAX, ..card };
        assert_eq!(priced(dear).cost(u32::MAX, 1), u64::MAX);
    }
}
