//! A checked `ConverseRequest`.

use std::time::Duration;

use switchboard_mesh::Class;
use switchboard_proto::conversation::v1::{Channel, ConverseRequest};

use crate::{Config, config::Target, error::Error};

const MAX_BUDGET: Duration = Duration::from_secs(600);
const MIN_BUDGET: Duration = Duration::from_millis(1);
const MAX_AUDIENCES: usize = 16;
const MAX_NAME: usize = 64;

/// What the customer wants, with nothing left to check.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) conversation_id: String,
    /// The text as cleaned: raw still, until policy has seen it.
    pub(crate) text: String,
    pub(crate) channel: Channel,
    pub(crate) locale: String,
    pub(crate) audiences: Vec<String>,
    /// For the policy's rules: what it is about, and whose law applies; empty when unknown.
    pub(crate) product: String,
    pub(crate) jurisdiction: String,
    /// The budget that is aimed for, and the length of the reply.
    pub(crate) target: Target,
}

impl Input {
    /// Checks a request.
    ///
    /// # Errors
    /// The field and what is allowed.
    pub(crate) fn try_from_request(request: ConverseRequest, config: &Config) -> Result<Self, Error> {
        let channel = match request.channel() {
            Channel::Unspecified if request.channel != 0 => {
                return Err(invalid("channel", "one of chat, voice, email, social"));
            }
            Channel::Unspecified => Channel::Chat,
            channel => channel,
        };
        let text = switchboard_text::clean::clean_question(&request.text)
            .map_err(|unusable| invalid("text", unusable.to_string()))?;
        if request.conversation_id.len() > MAX_NAME {
            return Err(invalid("conversation_id", "an id that an earlier turn returned, or empty"));
        }
        if !locale_is_plain(&request.locale) {
            return Err(invalid("locale", "a BCP 47 tag such as `en` or `de-AT`, or empty"));
        }
        if request.audiences.len() > MAX_AUDIENCES
            || request.audiences.iter().any(|a| a.is_empty() || a.len() > MAX_NAME)
        {
            return Err(invalid("audiences", "at most 16 names of 1 to 64 bytes"));
        }
        for (field, value) in [("product", &request.product), ("jurisdiction", &request.jurisdiction)] {
            if value.len() > MAX_NAME || value.chars().any(char::is_control) {
                return Err(invalid(field, "at most 64 bytes without control characters, or empty"));
            }
        }
        let target = target(&request, channel, config)?;
        Ok(Self {
            conversation_id: request.conversation_id,
            text,
            channel,
            locale: request.locale,
            audiences: request.audiences,
            product: request.product,
            jurisdiction: request.jurisdiction,
            target,
        })
    }

    /// The channel in a word, such as `chat`.
    pub(crate) fn channel_name(&self) -> &'static str {
        match self.channel {
            Channel::Unspecified | Channel::Chat => "chat",
            Channel::Voice => "voice",
            Channel::Email => "email",
            Channel::Social => "social",
        }
    }

    /// The class of the turn's calls.
    pub(crate) fn class(&self) -> Class {
        match self.channel {
            Channel::Voice => Class::Voice,
            Channel::Email => Class::Batch,
            _ => Class::Chat,
        }
    }
}

fn invalid(field: &'static str, allowed: impl Into<String>) -> Error {
    Error::Invalid { field, allowed: allowed.into() }
}

fn locale_is_plain(locale: &str) -> bool {
    locale.len() <= 35 && locale.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn target(request: &ConverseRequest, channel: Channel, config: &Config) -> Result<Target, Error> {
    let usual = match channel {
        Channel::Voice => config.voice,
        Channel::Email => config.email,
        Channel::Social => config.social,
        Channel::Chat | Channel::Unspecified => config.chat,
    };
    let Some(budget) = request.budget else { return Ok(usual) };
    let read = |field, given: Option<prost_types::Duration>, usual| match given.map(Duration::try_from) {
        None => Ok(usual),
        Some(Ok(time)) if (MIN_BUDGET..=MAX_BUDGET).contains(&time) => Ok(time),
        Some(_) => Err(invalid(field, "from 1 ms to 10 minutes")),
    };
    let whole = read("budget.whole", budget.whole, usual.whole)?;
    let first_sentence =
        read("budget.first_sentence", budget.first_sentence, usual.first_sentence.min(whole))?;
    if first_sentence > whole {
        return Err(invalid("budget.first_sentence", "at most budget.whole"));
    }
    Ok(Target { first_sentence, whole, ..usual })
}

#[cfg(test)]
mod tests {
    use switchboard_proto::conversation::v1::Budget;

    use super::*;

    fn request(text: &str) -> ConverseRequest {
        ConverseRequest { text: text.into(), ..ConverseRequest::default() }
    }

    fn field(request: ConverseRequest) -> &'static str {
        match Input::try_from_request(request, &Config::default()).unwrap_err() {
            Error::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn a_budget_of_nothing_or_of_a_year_names_its_field() {
        for whole in [seconds(0), seconds(31_536_000), seconds(-1)] {
            let budget = Some(Budget { first_sentence: None, whole });
            assert_eq!(field(ConverseRequest { budget, ..request("hello") }), "budget.whole");
        }
    }

    #[test]
    fn a_short_whole_budget_shortens_the_first_sentence() {
        let whole = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
        let budget = Some(Budget { first_sentence: None, whole });
        let input =
            Input::try_from_request(ConverseRequest { budget, ..request("hello") }, &Config::default())
                .unwrap();
        assert_eq!(input.target.first_sentence, Duration::from_millis(1));
    }

    #[test]
    fn unusable_questions_name_the_text() {
        for text in ["", "   ", "🙂🙂", "\u{0}\u{7}", &"x".repeat(8_001)] {
            assert_eq!(field(request(text)), "text", "{text:?}");
        }
    }

    #[test]
    fn what_the_policy_is_told_is_short() {
        let product = "x".repeat(65);
        assert_eq!(field(ConverseRequest { product, ..request("hello") }), "product");
        let jurisdiction = "D\nE".to_owned();
        assert_eq!(field(ConverseRequest { jurisdiction, ..request("hello") }), "jurisdiction");
    }

    #[test]
    fn an_unknown_channel_is_refused() {
        assert_eq!(field(ConverseRequest { channel: 77, ..request("hello") }), "channel");
    }
}
