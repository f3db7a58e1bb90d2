//! Offering a conversation to a person: why, and what they should know first.

use switchboard_proto::{
    conversation::v1::{Briefing, BriefingDocument, Channel, HandOffReason},
    knowledge::v1::Hit,
    policy::v1::{Finding, InspectResponse},
};

use crate::{phrases::Phrase, record::cut, store};

/// Questions and documents that a briefing has.
const MOST: usize = 5;
/// Bytes of the question in a briefing, and of each earlier one: together less than the ledger keeps.
const LONGEST_QUESTION: usize = 16_000;
const LONGEST_EARLIER: usize = 6_000;
/// A sentiment below which a customer whom a rule hands over is taken for angry.
const ANGRY: f32 = -0.3;
/// A fall of the sentiment from which on the same is so.
const FALLEN: f32 = 0.3;

/// From here on a language that was detected is believed; a few words give less.
const SURE: f32 = 0.8;

/// Why a conversation is offered to a person.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HandOff {
    pub(crate) reason: HandOffReason,
    /// The rules of the policy that asked for it.
    pub(crate) rules: Vec<String>,
}

impl HandOff {
    /// For a reason of the turn's own.
    pub(crate) fn of(reason: HandOffReason) -> Self {
        Self { reason, rules: Vec::new() }
    }

    /// As policy asked for when it inspected the customer's words.
    pub(crate) fn asked_by(inspected: &InspectResponse) -> Self {
        let any = |of: fn(&str) -> bool| inspected.signals.iter().any(|signal| of(&signal.kind));
        let reason = if any(is_risk) {
            HandOffReason::Risk
        } else if any(|kind| kind == "human-requested") {
            HandOffReason::Asked
        } else if inspected.sentiment <= ANGRY || inspected.sentiment_fall >= FALLEN {
            HandOffReason::Anger
        } else {
            HandOffReason::Policy
        };
        Self { reason, rules: inspected.rules.clone() }
    }

    /// What the customer is told.
    pub(crate) fn phrase(&self) -> Phrase {
        match self.reason {
            HandOffReason::Anger => Phrase::SorryPassedOn,
            HandOffReason::TooLittleEvidence => Phrase::NoAnswerPassedOn,
            HandOffReason::Failed => Phrase::NotNowPassedOn,
            _ => Phrase::PassedOn,
        }
    }
}

/// Kinds of findings that tell of a risk to the customer or the company.
fn is_risk(kind: &str) -> bool {
    kind.starts_with("risk-")
}

/// What policy noticed about the customer's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mood {
    /// BCP 47 tag; empty when unknown.
    pub(crate) language: String,
    /// How sure that is, in [0, 1].
    pub(crate) confidence: f32,
    pub(crate) sentiment: f32,
    pub(crate) fall: f32,
    /// Kinds of what was found, each once.
    pub(crate) concerns: Vec<String>,
}

impl Mood {
    pub(crate) fn of(inspected: &InspectResponse) -> Self {
        let detected = inspected.language.clone().unwrap_or_default();
        Self {
            language: detected.code,
            confidence: detected.confidence,
            sentiment: inspected.sentiment,
            fall: inspected.sentiment_fall,
            concerns: kinds(&inspected.signals),
        }
    }

    /// The language, where it is as good as certain; empty otherwise.
    pub(crate) fn sure_language(&self) -> &str {
        if self.confidence >= SURE { &self.language } else { "" }
    }
}

/// The kinds of findings, each once, in order of name.
pub(crate) fn kinds(findings: &[Finding]) -> Vec<String> {
    let mut kinds: Vec<String> = findings.iter().map(|finding| finding.kind.clone()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What a turn knows that a person should know. All of it is redacted.
pub(crate) struct Known<'a> {
    pub(crate) question: &'a str,
    pub(crate) channel: Channel,
    pub(crate) mood: &'a Mood,
    pub(crate) earlier: &'a [store::Turn],
    pub(crate) documents: &'a [BriefingDocument],
}

/// What a person should know before they take over.
pub(crate) fn briefing(explanation: &str, known: &Known<'_>) -> Briefing {
    let Known { question, channel, mood, earlier, documents } = *known;
    let times = match earlier.len() {
        0 => "This is the first message.".to_owned(),
        1 => "It is the second message of the conversation.".to_owned(),
        before => format!("There were {before} messages before it."),
    };
    let feels = match mood.sentiment {
        low if low <= ANGRY => " The customer sounds upset.",
        _ if mood.fall >= FALLEN => " The customer sounds less content than before.",
        _ => "",
    };
    let skipped = earlier.len().saturating_sub(MOST);
    Briefing {
        summary: format!("Handed over because {explanation}. {times}{feels}"),
        question: cut(question, LONGEST_QUESTION).to_owned(),
        channel: channel.into(),
        language: mood.language.clone(),
        sentiment: mood.sentiment,
        sentiment_fall: mood.fall,
        concerns: mood.concerns.clone(),
        earlier_questions: earlier[skipped..]
            .iter()
            .map(|turn| cut(&turn.text, LONGEST_EARLIER).to_owned())
            .collect(),
        documents: documents.to_vec(),
    }
}

/// The documents of passages, best first, each once.
pub(crate) fn documents(hits: &[Hit]) -> Vec<BriefingDocument> {
    let mut documents: Vec<BriefingDocument> = Vec::new();
    for passage in hits.iter().filter_map(|hit| hit.passage.as_ref()) {
        if documents.len() < MOST && !documents.iter().any(|known| known.document_id == passage.document_id) {
            let (document_id, title) = (passage.document_id.clone(), passage.title.clone());
            documents.push(BriefingDocument { document_id, title });
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::record::LONGEST_SEALED;

    #[test]
    fn a_briefing_of_the_longest_questions_fits_into_the_ledger() {
        let long = "ж".repeat(8_000);
        let turn = store::Turn {
            number: 1,
            record: uuid::Uuid::nil(),
            text: "語".repeat(8_000),
            reply: String::new(),
            outcome: switchboard_proto::conversation::v1::Outcome::Answered,
            channel: Channel::Chat,
            feedback: None,
        };
        let earlier = vec![turn; 9];
        let mood = Mood::default();
        let known =
            Known { question: &long, channel: Channel::Chat, mood: &mood, earlier: &earlier, documents: &[] };
        let briefing = briefing("the customer asks for a person", &known);
        assert_eq!(briefing.earlier_questions.len(), MOST);
        assert!(briefing.encoded_len() <= LONGEST_SEALED, "{}", briefing.encoded_len());
    }
}
