//! What callers send, checked: each field within its bound.

use std::sync::Arc;

use proto::policy::v1::{self as v1, DecideRequest, ForgetRequest, InspectRequest};
use regorus::Value;
use switchboard_proto as proto;

use crate::{detectors::Source, error::Error, facts, inspection::Direction, judge::About};

/// The most characters of a text, by contract.
pub(super) const MAX_CHARACTERS: usize = 64_000;
/// The most bytes of a conversation's id and of a purpose: ids are UUIDs or the caller's own keys,
/// a purpose is a phrase.
const MAX_NAME_BYTES: usize = 256;
/// The most bytes of a channel, a product or a jurisdiction, and of a locale.
const MAX_WORD_BYTES: usize = 64;
/// The most passages of a draft, and characters of each.
const MAX_PASSAGES: usize = 16;
const MAX_PASSAGE_CHARACTERS: usize = 8_000;

/// A text to inspect.
pub(super) struct Inspecting {
    pub(super) text: Arc<str>,
    pub(super) direction: Direction,
    pub(super) source: Source,
    pub(super) about: About,
}

impl Inspecting {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`], which names it.
    pub(super) fn of(request: InspectRequest) -> Result<Self, Error> {
        let (direction, source) = (direction_of(request.direction)?, source_of(request.source)?);
        check_text(&request.text)?;
        check_conversation(&request.conversation_id)?;
        check_word("locale", &request.locale)?;
        check_word("channel", &request.channel)?;
        check_word("product", &request.product)?;
        check_word("jurisdiction", &request.jurisdiction)?;
        if request.passages.len() > MAX_PASSAGES
            || request.passages.iter().any(|passage| longer_than(passage, MAX_PASSAGE_CHARACTERS))
        {
            return Err(Error::Field {
                field: "passages",
                allowed: "at most 16 of at most 8,000 characters",
            });
        }
        let facts = facts::object("facts", request.facts.as_ref(), &std::collections::HashMap::new())?;
        let about = About {
            conversation: request.conversation_id,
            locale: request.locale,
            channel: request.channel,
            product: request.product,
            jurisdiction: request.jurisdiction,
            passages: request.passages,
            verbatim: request.verbatim,
            facts,
        };
        Ok(Self { text: request.text.into(), direction, source, about })
    }

    /// How much is to be looked at, in bytes: the text, and what it is held against.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.about.passages.iter().map(String::len).sum::<usize>()
    }

    /// Whether what is found in it may be stored: it belongs to a conversation.
    pub(super) fn is_stored(&self) -> bool {
        !self.about.conversation.is_empty()
    }
}

/// What to forget.
pub(super) enum Forget {
    Conversation(String),
    Value(String),
}

impl Forget {
    /// How much is to be looked at, in bytes: a value is looked for in every conversation.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Conversation(_) => 0,
            Self::Value(_) => usize::MAX,
        }
    }
}

/// # Errors
/// [`Error::Field`] unless exactly one of both is named.
pub(super) fn forget(request: ForgetRequest) -> Result<Forget, Error> {
    let ForgetRequest { conversation_id, value } = request;
    check_conversation(&conversation_id)?;
    if value.len() > MAX_NAME_BYTES {
        return Err(Error::Field { field: "value", allowed: "at most 256 bytes" });
    }
    match (conversation_id.is_empty(), value.trim().is_empty()) {
        (false, true) => Ok(Forget::Conversation(conversation_id)),
        (true, false) => Ok(Forget::Value(value)),
        _ => Err(Error::Field { field: "conversation_id", allowed: "either a conversation or a value" }),
    }
}

/// The action, and its facts as one object.
///
/// # Errors
/// [`Error::Field`], which names the field.
pub(super) fn action(request: DecideRequest) -> Result<(String, Value), Error> {
    let DecideRequest { action, facts, details } = request;
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if !(1..=64).contains(&action.len()) || !action.bytes().all(known) {
        let allowed = "1 to 64 characters out of a-z, 0-9, `.`, `-` and `_`, such as tool.call";
        return Err(Error::Field { field: "action", allowed });
    }
    let facts = facts::object("details", details.as_ref(), &facts)?;
    Ok((action, facts))
}

fn direction_of(direction: i32) -> Result<Direction, Error> {
    match v1::Direction::try_from(direction) {
        Ok(v1::Direction::Input) => Ok(Direction::Input),
        Ok(v1::Direction::Output) => Ok(Direction::Output),
        Ok(v1::Direction::Unspecified) | Err(_) => {
            Err(Error::Field { field: "direction", allowed: "DIRECTION_INPUT or DIRECTION_OUTPUT" })
        }
    }
}

fn source_of(source: i32) -> Result<Source, Error> {
    match v1::Source::try_from(source) {
        Ok(v1::Source::Unspecified | v1::Source::Customer) => Ok(Source::Customer),
        Ok(v1::Source::Document) => Ok(Source::Document),
        Ok(v1::Source::Tool) => Ok(Source::Tool),
        Err(_) => {
            let allowed = "SOURCE_CUSTOMER, SOURCE_DOCUMENT or SOURCE_TOOL";
            Err(Error::Field { field: "source", allowed })
        }
    }
}

pub(super) fn check_text(text: &str) -> Result<(), Error> {
    match longer_than(text, MAX_CHARACTERS) {
        true => Err(Error::Field { field: "text", allowed: "at most 64,000 characters" }),
        false => Ok(()),
    }
}

fn longer_than(text: &str, characters: usize) -> bool {
    // A character takes at most four bytes; a text far over the limit is not counted through.
    text.len() > characters * 4 || text.chars().count() > characters
}

fn check_word(field: &'static str, word: &str) -> Result<(), Error> {
    match word.len() > MAX_WORD_BYTES {
        true => Err(Error::Field { field, allowed: "at most 64 bytes" }),
        false => Ok(()),
    }
}

pub(super) fn check_conversation(conversation: &str) -> Result<(), Error> {
    if conversation.len() > MAX_NAME_BYTES {
        return Err(Error::Field { field: "conversation_id", allowed: "at most 256 bytes" });
    }
    Ok(())
}

pub(super) fn check_restore(conversation: &str, purpose: &str) -> Result<(), Error> {
    check_conversation(conversation)?;
    if conversation.is_empty() {
        return Err(Error::Field { field: "conversation_id", allowed: "the conversation to restore from" });
    }
    if purpose.trim().is_empty() || purpose.len() > MAX_NAME_BYTES {
        return Err(Error::Field { field: "purpose", allowed: "why it is needed, 1 to 256 bytes" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_count_as_work_and_so_does_a_value_to_forget() {
        let request = InspectRequest {
            text: "a".repeat(10),
            direction: v1::Direction::Output.into(),
            passages: vec!["b".repeat(8_000); 2],
            ..Default::default()
        };
        assert_eq!(Inspecting::of(request).unwrap().bytes(), 16_010);
        let named = |conversation_id: &str, value: &str| ForgetRequest {
            conversation_id: conversation_id.into(),
            value: value.into(),
        };
        assert_eq!(forget(named("c1", "")).unwrap().bytes(), 0);
        assert_eq!(forget(named("", "jo@home.de")).unwrap().bytes(), usize::MAX);
    }
}
