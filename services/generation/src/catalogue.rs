//! The model cards, and the choice among them.

use switchboard_proto::generation::v1::{Candidate, ModelCard, RouteResponse, Tier};

use crate::error::Error;

/// The built-in extractive card's name.
pub(crate) const EXTRACTIVE: &str = "extractive";

/// All cards, in order of name.
pub(crate) fn cards() -> Vec<ModelCard> {
    vec![ModelCard {
        name: EXTRACTIVE.into(),
        tier: Tier::Extractive.into(),
        provider: "builtin".into(),
        context_tokens: 0,
        languages: Vec::new(),
        input_micros_per_million_tokens: 0,
        output_micros_per_million_tokens: 0,
        // It never says what the documents do not say, and never rephrases what they do.
        quality: 0.5,
    }]
}

/// Chooses the card for a request that asks for `wanted`, or for any.
///
/// # Errors
/// `UnknownModel` when `wanted` names none.
pub(crate) fn route(wanted: &str) -> Result<RouteResponse, Error> {
    let cards = cards();
    let chosen =
        if wanted.is_empty() { cards.first() } else { cards.iter().find(|card| card.name == wanted) };
    let chosen = chosen.ok_or_else(|| Error::UnknownModel { name: wanted.chars().take(64).collect() })?;
    let candidates = cards
        .iter()
        .map(|card| Candidate {
            model: card.name.clone(),
            eligible: wanted.is_empty() || card.name == wanted,
            reason: if card.name == chosen.name {
                "highest expected quality that is in time"
            } else {
                "not asked for"
            }
            .into(),
            expected_quality: card.quality,
            in_time_probability: 1.0,
        })
        .collect();
    Ok(RouteResponse { model: chosen.name.clone(), tier: chosen.tier, fallbacks: Vec::new(), candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_card_is_named_in_the_error() {
        let error = route("gpt").unwrap_err();
        assert!(error.to_string().contains("\"gpt\""));
    }

    #[test]
    fn the_default_route_is_the_extractive_card() {
        let decision = route("").unwrap();
        assert_eq!((decision.model.as_str(), decision.tier()), (EXTRACTIVE, Tier::Extractive));
    }
}
