//! A turn as JSON, as HTTP sends it and the command line prints it.
//!
//! [`turn`] makes one object out of the events of a finished turn. Times are milliseconds, with
//! fractions; enums are words in snake case; what is absent in the contract is `null`.

use proto::{
    conversation::v1::{self as conversation, converse_response::Event},
    generation::v1 as generation,
};
use serde::Serialize;
use switchboard_proto as proto;

/// A finished turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// The conversation, new or continued.
    pub conversation_id: String,
    /// The turn's number in it, from 1.
    pub turn: u32,
    /// `answered`, `asked`, `unanswered`, `handed_off` or `refused`.
    pub outcome: &'static str,
    /// Why it ended so, in words for a person.
    pub reason: String,
    /// The sentences in one piece.
    pub reply: String,
    /// The reply, sentence by sentence.
    pub sentences: Vec<Sentence>,
    /// The sources, in order of number.
    pub citations: Vec<Citation>,
    /// The stages, in the order they started.
    pub stages: Vec<Stage>,
    /// The choice of model; null when none was made.
    pub route: Option<Route>,
    /// Until the first sentence was sent; null when there was none.
    pub first_sentence_ms: Option<f64>,
    /// From the request's arrival to the report.
    pub spent_ms: f64,
    /// The budget that was aimed for.
    pub budget: Option<Budget>,
    /// The question as it was understood, redacted.
    pub understood_question: String,
    /// Kinds of personal data that were redacted, such as `card`.
    pub redacted_kinds: Vec<String>,
    /// What the turn had to do without.
    pub degraded: Vec<String>,
    /// Cost in millionths of the account's currency unit.
    pub cost_micros: u64,
    /// The offer to a person; null when there was none.
    pub hand_off: Option<HandOff>,
}

/// A conversation that is offered to a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandOff {
    /// Names the offer in the ledger.
    pub hand_off_id: String,
    /// `asked`, `risk`, `anger`, `too_little_evidence`, `policy` or `failed`.
    pub reason: &'static str,
    /// The same in words for a person.
    pub explanation: String,
    /// The rules of the policy that asked for it.
    pub rules: Vec<String>,
    /// What the person should know first; null where nothing is known.
    pub briefing: Option<Briefing>,
}

/// What a person should know before they take over; all of it redacted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Briefing {
    /// One or two sentences.
    pub summary: String,
    /// The question, with what it leaned on from earlier turns.
    pub question: String,
    /// The language that the customer writes; empty when it could not be told.
    pub language: String,
    /// How the customer feels, from -1 to 1.
    pub sentiment: f32,
    /// How much worse that became over the conversation, from 0 to 2.
    pub sentiment_fall: f32,
    /// What was noticed, such as `chargeback`.
    pub concerns: Vec<String>,
    /// What the customer asked before, oldest first.
    pub earlier_questions: Vec<String>,
    /// The documents that were looked at, most promising first.
    pub documents: Vec<String>,
}

/// A sentence of the reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sentence {
    /// The sentence.
    pub text: String,
    /// Numbers of its sources in the citations, from 1.
    pub sources: Vec<u32>,
}

/// A source of the reply, with its number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Citation {
    /// The number in the reply, from 1.
    pub number: u32,
    /// The document.
    pub document_id: String,
    /// Its title.
    pub title: String,
    /// Headings above the span, outermost first.
    pub heading_path: Vec<String>,
    /// Version of the document.
    pub version: String,
    /// The passage.
    pub passage_id: String,
    /// First character of the span, as an offset into the document's text.
    pub start: u32,
    /// One past its last character.
    pub end: u32,
    /// The span itself.
    pub quote: String,
    /// Where a reader can open the document; empty when there is no such place.
    pub uri: String,
    /// How well the span supports the sentence, in [0, 1].
    pub support: f32,
}

/// A timed part of the turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// `ok`, `skipped`, `failed` or `timed_out`.
    pub status: &'static str,
    /// When it began, from the start of the turn.
    pub started_ms: f64,
    /// The most it was allowed to take; null when the report does not say.
    pub share_ms: Option<f64>,
    /// What it took.
    pub spent_ms: f64,
    /// What it found or why it failed.
    pub detail: String,
}

/// The choice of model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The chosen card.
    pub model: String,
    /// `extractive`, `small` or `large`.
    pub tier: &'static str,
    /// Cards to fall back on, in order.
    pub fallbacks: Vec<String>,
    /// Every card that was looked at.
    pub candidates: Vec<Candidate>,
}

/// A card as the router saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The card.
    pub model: String,
    /// Whether it could have been chosen.
    pub eligible: bool,
    /// Why not, or what was expected of it.
    pub reason: String,
    /// Expected quality, in [0, 1].
    pub expected_quality: f32,
    /// Probability of finishing in time, in [0, 1].
    pub in_time_probability: f32,
}

/// The time a turn should take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Until the first sentence.
    pub first_sentence_ms: Option<f64>,
    /// Until the end.
    pub whole_ms: Option<f64>,
}

/// The event `started`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Started {
    conversation_id: String,
    turn: u32,
}

/// The event `sentence`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NextSentence {
    text: String,
    sources: Vec<u32>,
    /// The citations that this sentence brings, each new to the turn.
    citations: Vec<Citation>,
}

/// The turn that `events` tell of, in the order they came; `None` without a report.
#[must_use]
pub fn turn(events: &[conversation::ConverseResponse]) -> Option<Turn> {
    let mut sentences = Vec::new();
    let mut report = None;
    let mut offered = None;
    for event in events {
        match &event.event {
            Some(Event::Sentence(said)) => {
                sentences.push(Sentence { text: said.text.clone(), sources: said.sources.clone() });
            }
            Some(Event::Report(ending)) => report = Some(ending),
            Some(Event::HandOff(offer)) => offered = Some(hand_off(offer)),
            Some(Event::Started(_)) | None => {}
        }
    }
    let report = report?;
    let reply = sentences.iter().map(|said: &Sentence| said.text.as_str()).collect::<Vec<_>>().join(" ");
    Some(Turn {
        conversation_id: report.conversation_id.clone(),
        turn: report.turn,
        outcome: outcome(report.outcome()),
        reason: report.reason.clone(),
        reply,
        sentences,
        citations: report.citations.iter().map(citation).collect(),
        stages: report.stages.iter().map(stage).collect(),
        route: report.route.as_ref().map(route),
        first_sentence_ms: report.first_sentence_after.as_ref().map(millis),
        spent_ms: report.spent.as_ref().map_or(0.0, millis),
        budget: report.budget.as_ref().map(|budget| Budget {
            first_sentence_ms: budget.first_sentence.as_ref().map(millis),
            whole_ms: budget.whole.as_ref().map(millis),
        }),
        understood_question: report.understood_question.clone(),
        redacted_kinds: report.redacted_kinds.clone(),
        degraded: report.degraded.clone(),
        cost_micros: report.cost_micros,
        hand_off: offered,
    })
}

pub(crate) fn hand_off(event: &conversation::TurnHandOff) -> HandOff {
    HandOff {
        hand_off_id: event.hand_off_id.clone(),
        reason: match event.reason() {
            conversation::HandOffReason::Asked => "asked",
            conversation::HandOffReason::Risk => "risk",
            conversation::HandOffReason::Anger => "anger",
            conversation::HandOffReason::TooLittleEvidence => "too_little_evidence",
            conversation::HandOffReason::Failed => "failed",
            conversation::HandOffReason::Policy | conversation::HandOffReason::Unspecified => "policy",
        },
        explanation: event.explanation.clone(),
        rules: event.rules.clone(),
        briefing: event.briefing.as_ref().map(|briefing| Briefing {
            summary: briefing.summary.clone(),
            question: briefing.question.clone(),
            language: briefing.language.clone(),
            sentiment: briefing.sentiment,
            sentiment_fall: briefing.sentiment_fall,
            concerns: briefing.concerns.clone(),
            earlier_questions: briefing.earlier_questions.clone(),
            documents: briefing.documents.iter().map(|document| document.document_id.clone()).collect(),
        }),
    }
}

pub(crate) fn started(event: &conversation::TurnStarted) -> Started {
    Started { conversation_id: event.conversation_id.clone(), turn: event.turn }
}

pub(crate) fn sentence(event: &conversation::TurnSentence) -> NextSentence {
    NextSentence {
        text: event.text.clone(),
        sources: event.sources.clone(),
        citations: event.new_citations.iter().map(citation).collect(),
    }
}

fn citation(numbered: &conversation::NumberedCitation) -> Citation {
    let source = numbered.citation.clone().unwrap_or_default();
    Citation {
        number: numbered.number,
        document_id: source.document_id,
        title: source.title,
        heading_path: source.heading_path,
        version: source.version,
        passage_id: source.passage_id,
        start: source.start,
        end: source.end,
        quote: source.quote,
        uri: source.uri,
        support: source.support,
    }
}

fn stage(stage: &conversation::Stage) -> Stage {
    Stage {
        name: stage.name.clone(),
        status: status(stage.status()),
        started_ms: stage.started_after.as_ref().map_or(0.0, millis),
        share_ms: stage.share.as_ref().map(millis),
        spent_ms: stage.spent.as_ref().map_or(0.0, millis),
        detail: stage.detail.clone(),
    }
}

fn route(route: &generation::RouteResponse) -> Route {
    let candidate = |candidate: &generation::Candidate| Candidate {
        model: candidate.model.clone(),
        eligible: candidate.eligible,
        reason: candidate.reason.clone(),
        expected_quality: candidate.expected_quality,
        in_time_probability: candidate.in_time_probability,
    };
    Route {
        model: route.model.clone(),
        tier: tier(route.tier()),
        fallbacks: route.fallbacks.clone(),
        candidates: route.candidates.iter().map(candidate).collect(),
    }
}

fn outcome(outcome: conversation::Outcome) -> &'static str {
    match outcome {
        conversation::Outcome::Unspecified => "unspecified",
        conversation::Outcome::Answered => "answered",
        conversation::Outcome::Asked => "asked",
        conversation::Outcome::Unanswered => "unanswered",
        conversation::Outcome::HandedOff => "handed_off",
        conversation::Outcome::Refused => "refused",
    }
}

fn status(status: conversation::StageStatus) -> &'static str {
    match status {
        conversation::StageStatus::Unspecified => "unspecified",
        conversation::StageStatus::Ok => "ok",
        conversation::StageStatus::Skipped => "skipped",
        conversation::StageStatus::Failed => "failed",
        conversation::StageStatus::TimedOut => "timed_out",
    }
}

fn tier(tier: generation::Tier) -> &'static str {
    match tier {
        generation::Tier::Unspecified => "unspecified",
        generation::Tier::Extractive => "extractive",
        generation::Tier::Small => "small",
        generation::Tier::Large => "large",
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for any time shorter than 285,000 years")]
fn millis(time: &prost_types::Duration) -> f64 {
    time.seconds as f64 * 1e3 + f64::from(time.nanos) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_turn_has_exactly_the_fields_that_programs_rely_on() {
        let value = serde_json::to_value(turn(&testing::events("acme", "where is it?")).unwrap()).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |text: &str| -> Vec<String> {
            let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        let whole = "conversation_id turn outcome reason reply sentences citations stages route first_sentence_ms \
                     spent_ms budget understood_question redacted_kinds degraded cost_micros hand_off";
        assert_eq!(keys(&value), sorted(whole));
        assert_eq!(keys(&value["sentences"][0]), sorted("text sources"));
        let citation = "number document_id title heading_path version passage_id start end quote uri support";
        assert_eq!(keys(&value["citations"][0]), sorted(citation));
        assert_eq!(keys(&value["stages"][0]), sorted("name status started_ms share_ms spent_ms detail"));
        assert_eq!(keys(&value["route"]), sorted("model tier fallbacks candidates"));
        assert_eq!(keys(&value["budget"]), sorted("first_sentence_ms whole_ms"));
        assert_eq!(value["outcome"], "answered");
        assert_eq!(value["stages"][0]["status"], "timed_out");
        assert_eq!(value["stages"][0]["started_ms"], 1.5);
        assert_eq!(value["route"]["tier"], "extractive");
        assert_eq!(value["reply"], "Hello acme. where is it?");
        assert_eq!(value["first_sentence_ms"], serde_json::Value::Null);
    }

    #[test]
    fn events_without_a_report_are_no_turn() {
        let mut events = testing::events("acme", "hm");
        events.pop();
        assert_eq!(turn(&events), None);
    }

    #[test]
    fn an_outcome_of_the_future_is_unspecified() {
        let report = conversation::TurnReport { outcome: 77, ..Default::default() };
        let event = conversation::ConverseResponse { event: Some(Event::Report(report)) };
        assert_eq!(turn(&[event]).unwrap().outcome, "unspecified");
    }
}
