//! The reply: written, checked sentence by sentence, and sent.

use std::time::Duration;

use switchboard_mesh::Call;
use switchboard_proto::{
    conversation::v1::{
        HandOffReason, NumberedCitation, Outcome, StageStatus, TurnSentence, converse_response::Event,
    },
    generation::v1::{
        Citation, Finish, FinishReason, GenerateRequest, GenerateResponse, ReplySentence, generate_response,
    },
    knowledge::v1::SearchResponse,
    policy::v1::{Direction, InspectRequest, InspectResponse, Verdict},
};
use tonic::{Code, Streaming};

use super::{CallerLeft, End, Events, Notes, Turn, send, verdict};
use crate::{
    clock::{Clock, Lost, Timing},
    hand_off::HandOff,
};

/// Characters of a passage that a draft is checked against, by policy's contract.
const LONGEST_PASSAGE: usize = 8_000;

impl Turn {
    /// Streams the reply, each sentence checked before it is sent.
    pub(super) async fn generate(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: String,
        found: SearchResponse,
        notes: &mut Notes,
        events: &Events,
    ) -> Option<End> {
        // What generation was given is what a draft may rest on.
        let passages = found.hits.iter().filter_map(|hit| hit.passage.as_ref());
        let passages: Vec<String> =
            passages.map(|passage| passage.text.chars().take(LONGEST_PASSAGE).collect()).collect();
        let request = GenerateRequest {
            resolved_question: if notes.understood == question {
                String::new()
            } else {
                notes.understood.clone()
            },
            question,
            evidence: found.hits,
            model: String::new(),
            locale: self.input.locale.clone(),
            max_sentences: self.input.target.sentences,
            unknown_terms: found.unknown_terms,
        };
        let timing = clock.begin("generate");
        let mut generation = self.peers.generation.clone();
        let opened = timing
            .limit(call, async |call: Call| {
                Ok(generation.generate(call.request_to_any(request)).await?.into_inner())
            })
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(lost) => {
                clock.close(&timing, &Err::<(), _>(lost.clone()), timing.began.elapsed(), |()| String::new());
                notes.degraded.push(format!("generate: {}", lost.word()));
                return Some(self.lost(&lost, "no reply could be made"));
            }
        };
        let mut checks = Checks { passages, ..Checks::default() };
        let read = self.relay(call, &mut stream, notes, events, &mut checks).await;
        let spent = timing.began.elapsed().saturating_sub(checks.took);
        let detail = notes.route.as_ref().map(|route| route.model.clone()).unwrap_or_default();
        let status = match &read {
            Read::Lost(Lost::TimedOut) => StageStatus::TimedOut,
            Read::Lost(Lost::Failed(_)) => StageStatus::Failed,
            _ => StageStatus::Ok,
        };
        clock.enter(&timing, status, spent, detail);
        match (&checks.first, &read) {
            (None, _) => clock.skip("inspect_output", "there was nothing to check"),
            (Some(timing), Read::Unchecked(lost)) => {
                clock.close(timing, &Err::<(), _>(lost.clone()), checks.took, |()| String::new());
            }
            (Some(timing), Read::Blocked(inspected)) => {
                let detail = format!("{}: a sentence", verdict(inspected.verdict()));
                clock.enter(timing, StageStatus::Ok, checks.took, detail);
            }
            (Some(timing), _) => clock.enter(timing, StageStatus::Ok, checks.took, String::new()),
        }
        match read {
            Read::Gone => None,
            Read::Done(finish) => Some(self.end_of(clock, call, &finish, notes).await),
            Read::Blocked(inspected) => {
                // What was checked and sent stands; a person says the rest.
                let hand_off = HandOff { reason: HandOffReason::Policy, rules: inspected.rules };
                Some(self.hand_off(hand_off, &inspected.reason))
            }
            // What was checked and sent stands; it answers as far as it goes.
            Read::Lost(lost) | Read::Unchecked(lost) if !notes.record.reply.is_empty() => {
                notes.degraded.push(format!("generate: cut at a sentence, {}", lost.word()));
                Some(End::of(Outcome::Answered, "the reply was cut; what was ready was sent"))
            }
            Read::Lost(lost) => {
                notes.degraded.push(format!("generate: {}", lost.word()));
                Some(self.lost(&lost, "no reply was ready"))
            }
            Read::Unchecked(lost) => {
                notes.degraded.push(format!("inspect_output: {}", lost.word()));
                Some(self.lost(&lost, "the reply could not be checked"))
            }
        }
    }

    async fn relay(
        &self,
        call: &Call,
        stream: &mut Streaming<GenerateResponse>,
        notes: &mut Notes,
        events: &Events,
        checks: &mut Checks,
    ) -> Read {
        loop {
            let event = match call.deadline.limit(stream.message()).await {
                Some(Ok(Some(GenerateResponse { event: Some(event) }))) => event,
                Some(Ok(Some(_))) => continue,
                // A stream that ends without its finish has failed as well.
                Some(Ok(None)) => return Read::Lost(Lost::Failed(Code::DataLoss)),
                Some(Err(status)) if status.code() != Code::DeadlineExceeded => {
                    return Read::Lost(Lost::Failed(status.code()));
                }
                Some(Err(_)) | None => return Read::Lost(Lost::TimedOut),
            };
            match event {
                generate_response::Event::Route(route) => notes.routed(route),
                generate_response::Event::Finish(mut finish) => {
                    if !finish.clarification.is_empty() {
                        let question = std::mem::take(&mut finish.clarification);
                        match self.check(call, question, false, notes, checks).await {
                            Ok(text) => finish.clarification = text,
                            Err(read) => return read,
                        }
                    }
                    return Read::Done(finish);
                }
                generate_response::Event::Sentence(mut sentence) => {
                    let verbatim = is_verbatim(&sentence, &checks.passages);
                    let text = match self.check(call, sentence.text.clone(), verbatim, notes, checks).await {
                        Ok(text) => text,
                        Err(read) => return read,
                    };
                    if text != sentence.text {
                        // What may not be said may not be quoted either.
                        sentence.citations.iter_mut().for_each(|citation| citation.quote.clone_from(&text));
                        sentence.text = text;
                    }
                    let sentence = number(sentence, &mut notes.citations);
                    if self.say(sentence, notes, events).await.is_err() {
                        return Read::Gone;
                    }
                }
            }
        }
    }

    /// What policy lets out of a text; how the reply ends where it lets nothing out.
    async fn check(
        &self,
        call: &Call,
        text: String,
        verbatim: bool,
        notes: &mut Notes,
        checks: &mut Checks,
    ) -> Result<String, Read> {
        let timing = Timing::now("inspect_output", call.deadline);
        let began = timing.began;
        let mut policy = self.peers.policy.clone();
        let request = InspectRequest {
            text,
            direction: Direction::Output.into(),
            conversation_id: notes.conversation_id.clone(),
            // A customer is answered in the language that they write in, unless they told another.
            locale: match self.input.locale.as_str() {
                "" => notes.mood.sure_language().to_owned(),
                told => told.to_owned(),
            },
            channel: self.input.channel_name().to_owned(),
            product: self.input.product.clone(),
            jurisdiction: self.input.jurisdiction.clone(),
            // What is quoted word for word is carried by what it is quoted from.
            passages: if verbatim { Vec::new() } else { checks.passages.clone() },
            verbatim,
            ..InspectRequest::default()
        };
        let inspected = timing
            .limit(call, async |call: Call| {
                Ok(policy.inspect(call.request_to_any(request)).await?.into_inner())
            })
            .await;
        checks.took += began.elapsed();
        checks.first.get_or_insert(timing);
        let inspected = inspected.map_err(Read::Unchecked)?;
        notes.checked_without("inspect_output", &inspected.degraded);
        let passes = matches!(inspected.verdict(), Verdict::Allow | Verdict::Rewrite | Verdict::Disclose);
        let new = passes && notes.disclose(inspected.required_disclosures.clone());
        match inspected.verdict() {
            // What every sentence is decided like is noted once, with the turn.
            Verdict::Allow => {}
            Verdict::Disclose if !new => {}
            _ => notes.decided("inspect_output", &inspected, Vec::new()),
        }
        if passes { Ok(inspected.text) } else { Err(Read::Blocked(inspected)) }
    }

    pub(super) async fn say(
        &self,
        sentence: TurnSentence,
        notes: &mut Notes,
        events: &Events,
    ) -> Result<(), CallerLeft> {
        if !notes.record.reply.is_empty() {
            notes.record.reply.push(' ');
        }
        notes.record.reply.push_str(&sentence.text);
        notes.first_sentence.get_or_insert_with(|| self.arrived.elapsed());
        send(events, Event::Sentence(sentence)).await
    }

    async fn end_of(&self, clock: &mut Clock, call: &Call, finish: &Finish, notes: &mut Notes) -> End {
        notes.cost_micros = finish.cost_micros;
        match finish.reason() {
            FinishReason::NeedsClarification => End {
                phrase: Some(finish.clarification.clone()),
                ..End::of(Outcome::Asked, "the question can mean several things")
            },
            _ if notes.record.reply.is_empty() => {
                self.unanswered(clock, call, "the documents do not answer the question", notes).await
            }
            FinishReason::Cut => End::of(Outcome::Answered, "the budget ran out; what was ready was sent"),
            _ => End::of(Outcome::Answered, "the documents answer the question"),
        }
    }
}

/// How reading the reply came to its end.
enum Read {
    Done(Finish),
    /// The reply broke off.
    Lost(Lost),
    /// A sentence could not be checked.
    Unchecked(Lost),
    /// Policy does not let a sentence out.
    Blocked(InspectResponse),
    Gone,
}

/// What checking the sentences of a reply took together.
#[derive(Default)]
struct Checks {
    /// What a sentence may rest on.
    passages: Vec<String>,
    first: Option<Timing>,
    took: Duration,
}

/// Whether a sentence is quoted word for word from what it cites.
fn is_verbatim(sentence: &ReplySentence, passages: &[String]) -> bool {
    let said = sentence.text.trim();
    let quoted = |citation: &Citation| {
        citation.quote.contains(said) && passages.iter().any(|passage| passage.contains(said))
    };
    !said.is_empty() && sentence.citations.iter().any(quoted)
}

/// Gives the citations of a sentence their numbers in the reply: one for each span.
fn number(sentence: ReplySentence, known: &mut Vec<NumberedCitation>) -> TurnSentence {
    let mut numbered = TurnSentence { text: sentence.text, ..TurnSentence::default() };
    for citation in sentence.citations {
        let span = |c: &Citation| (c.document_id.clone(), c.version.clone(), c.start, c.end);
        let place = known.iter().find(|k| k.citation.as_ref().is_some_and(|c| span(c) == span(&citation)));
        let source = match place {
            Some(place) => place.number,
            None => {
                let number = known.len() as u32 + 1;
                let new = NumberedCitation { number, citation: Some(citation) };
                known.push(new.clone());
                numbered.new_citations.push(new);
                number
            }
        };
        numbered.sources.push(source);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_its_number() {
        let citation = |start| Citation { document_id: "a".into(), start, ..Citation::default() };
        let sentence = |citations| ReplySentence { text: String::new(), citations };
        let mut known = Vec::new();
        assert_eq!(number(sentence(vec![citation(1), citation(2)]), &mut known).sources, [1, 2]);
        let again = number(sentence(vec![citation(2)]), &mut known);
        assert_eq!((again.sources, again.new_citations.len()), (vec![2], 0));
    }
}
