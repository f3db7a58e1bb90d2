//! One turn, from the customer's words to the report.
//!
//! ```text
//! inspect_input ─┐
//! load_context ──┴─ embed_query ─ retrieve ─ rerank ─ generate ═ inspect_output (by sentences) ─ report
//! ```
//!
//! No customer text leaves [`Turn::run`] unredacted: what follows `inspect_input` sees only what
//! policy returned. Every failure ends in an answer, a question, or a plain word that there is
//! none; only a bad request or an unknown conversation is an error.

use std::{future::Future, sync::Arc, time::Duration};

use switchboard_mesh::{Call, Class, call::hedged, error};
use switchboard_proto::{
    conversation::v1::{
        Budget, ConverseResponse, NumberedCitation, Outcome, StageStatus, TurnReport, TurnSentence,
        TurnStarted, converse_response::Event,
    },
    embeddings::v1::EmbedRequest,
    generation::v1::{
        Citation, Finish, FinishReason, GenerateRequest, GenerateResponse, ReplySentence, RouteResponse,
        generate_response,
    },
    knowledge::v1::{Correction, Filter, QueryForm, SearchRequest, SearchResponse},
    policy::v1::{Direction, InspectRequest, InspectResponse, Verdict},
    reranking::v1::Method,
};
use switchboard_text::{context, redaction};
use tokio::{sync::mpsc::Sender, time::Instant};
use tonic::{Code, Status, Streaming};

use crate::{
    Peers,
    clock::{Clock, Lost, Timing, proto_duration},
    metrics,
    phrases::Phrase,
    request::Input,
    rerank::{self, Advice, Offer},
    store::{self, Conversation, Store},
};

/// Where a turn's events go; closed when the caller has left.
pub(crate) type Events = Sender<Result<ConverseResponse, Status>>;

/// A turn that is about to run.
pub(crate) struct Turn {
    pub(crate) input: Input,
    pub(crate) call: Call,
    pub(crate) arrived: Instant,
    pub(crate) passages: u32,
    /// Passages to choose from where they are reranked.
    pub(crate) candidates: u32,
    pub(crate) reranking: Arc<Offer>,
    pub(crate) peers: Peers,
    pub(crate) store: Arc<dyn Store>,
}

/// How a turn ended, and why.
struct End {
    outcome: Outcome,
    reason: &'static str,
    /// What Switchboard itself has to say, if anything.
    phrase: Option<String>,
}

/// What a turn has gathered for its report.
#[derive(Default)]
struct Notes {
    conversation_id: String,
    reply: String,
    citations: Vec<NumberedCitation>,
    route: Option<RouteResponse>,
    cost_micros: u64,
    degraded: Vec<String>,
    redacted_kinds: Vec<String>,
    question: String,
    understood: String,
    first_sentence: Option<Duration>,
}

impl Turn {
    /// Runs the turn and sends its events. Dropping the future stops all of its work.
    pub(crate) async fn run(self, events: Events) {
        let target = self.input.target;
        // The turn works to the earlier of the budget and the caller's deadline, the latter less the
        // time to say how it ended.
        let patience =
            self.call.deadline.for_hop().for_hop().instant().saturating_duration_since(self.arrived);
        let whole = target.whole.min(patience);
        let mut clock = Clock::start(self.arrived, target.first_sentence.min(whole), whole);
        // Work that nobody waits for stays that, whatever the channel.
        let class = if self.call.class == Class::Batch { Class::Batch } else { self.input.class() };
        let call = self.call.until(clock.end()).with_class(class);
        let mut notes = Notes::default();
        let (id, new) = match self.input.conversation_id.as_str() {
            // Version 7 ids sort by time, which is the order that lists want.
            "" => (uuid::Uuid::now_v7().to_string(), true),
            id => (id.to_owned(), false),
        };
        let (inspected, loaded) = self.begin(&mut clock, &call, &id, new).await;
        let conversation = match loaded {
            Ok(conversation) => conversation,
            Err(status) => return drop(events.send(Err(status)).await),
        };
        let number = conversation.turn_count;
        notes.conversation_id.clone_from(&id);
        let started = TurnStarted { conversation_id: id.clone(), turn: number };
        if send(&events, Event::Started(started)).await.is_err() {
            return;
        }
        let end = match inspected {
            Ok(inspected) => {
                self.answer(&mut clock, &call, inspected, &conversation, &mut notes, &events).await
            }
            Err(lost) => {
                notes.degraded.push(format!("inspect_input: {}", lost.word()));
                Some(self.lost(&lost, "the question could not be checked"))
            }
        };
        // `None`: the caller has left.
        let Some(end) = end else { return };
        self.finish(clock, end, notes, &id, number, &events).await;
    }

    /// Policy's view of the question, beside the conversation so far.
    async fn begin(
        &self,
        clock: &mut Clock,
        call: &Call,
        id: &str,
        new: bool,
    ) -> (Result<InspectResponse, Lost>, Result<Conversation, Status>) {
        let (inspecting, loading) = (clock.begin("inspect_input"), clock.begin("load_context"));
        let mut policy = self.peers.policy.clone();
        let inspect = inspecting.limit(call, async |call: Call| {
            let request = InspectRequest {
                text: self.input.text.clone(),
                direction: Direction::Input.into(),
                conversation_id: id.to_owned(),
                locale: self.input.locale.clone(),
            };
            Ok(policy.inspect(call.request_to_any(request)).await?.into_inner())
        });
        let load = async {
            let tenant = call.tenant()?;
            let conversation =
                if new { self.store.start(tenant, id).await } else { self.store.next(tenant, id).await };
            conversation.map_err(error::status)
        };
        let ((inspected, inspecting_took), (loaded, loading_took)) =
            tokio::join!(timed(inspect), timed(load));
        clock.close(&inspecting, &inspected, inspecting_took, |found| match found.findings.len() {
            0 => String::new(),
            redacted => format!("{redacted} redacted"),
        });
        let accounted =
            loaded.as_ref().map(|found| found.turns.len()).map_err(|status| Lost::Failed(status.code()));
        clock.close(&loading, &accounted, loading_took, |turns| format!("{turns} earlier turns"));
        (inspected, loaded)
    }

    /// Everything between the checked question and the end of the reply.
    async fn answer(
        &self,
        clock: &mut Clock,
        call: &Call,
        inspected: InspectResponse,
        conversation: &Conversation,
        notes: &mut Notes,
        events: &Events,
    ) -> Option<End> {
        notes.redacted_kinds = inspected.findings.iter().map(|finding| finding.kind.clone()).collect();
        notes.redacted_kinds.sort();
        notes.redacted_kinds.dedup();
        match inspected.verdict() {
            Verdict::Allow | Verdict::Rewrite => {}
            Verdict::Refuse => {
                return Some(self.phrase(Outcome::Refused, "policy refused the question", Phrase::Refused));
            }
            // What is not understood is not passed: verdicts may be added that this turn cannot act on.
            _ => return Some(self.phrase(Outcome::Unanswered, "policy asks for a person", Phrase::NotNow)),
        }
        notes.question = inspected.text;
        // What is searched for is the kind of a redacted value, not its placeholder.
        let question = redaction::without_placeholders(&notes.question);
        let history: Vec<context::Turn> = conversation.turns.iter().flat_map(context_turns).collect();
        let found = match self.look(clock, call, &question, &history, notes).await {
            Ok(found) => found,
            Err(lost) => {
                notes.degraded.push(format!("retrieve: {}", lost.word()));
                return Some(self.lost(&lost, "the documents could not be searched"));
            }
        };
        let (question, mut found) = match found.corrections.is_empty() {
            true => (question, found),
            // The words found their way past the typos; the vector did not, so it is made again.
            false => {
                let meant = correct(&question, &found.corrections);
                match self.look(clock, call, &meant, &history, notes).await {
                    // A word that the documents lack need not be a typo: what was meant fits better.
                    Ok(again) if nearest(&again) > nearest(&found) + NEARER => (meant, again),
                    _ => (question, found),
                }
            }
        };
        notes.understood = context::resolve(&question, &history);
        notes.degraded.extend(found.degraded.iter().map(|list| format!("retrieve: without {list}")));
        if found.hits.is_empty() {
            clock.skip("generate", "no passage was found");
            return Some(self.phrase(Outcome::Unanswered, "no passage was found", Phrase::NoAnswer));
        }
        self.rerank(clock, call, &mut found, notes).await;
        found.hits.truncate(self.passages as usize);
        self.generate(clock, call, question, found, notes, events).await
    }

    /// Looks for what bears on a question.
    async fn look(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: &str,
        history: &[context::Turn],
        notes: &mut Notes,
    ) -> Result<SearchResponse, Lost> {
        let forms = self.embed(clock, call, question, history, notes).await;
        self.retrieve(clock, call, forms).await
    }

    async fn embed(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: &str,
        history: &[context::Turn],
        notes: &mut Notes,
    ) -> Vec<QueryForm> {
        let wordings = context::forms(question, history);
        let (with_meaning, texts): (Vec<usize>, Vec<String>) = wordings
            .iter()
            .enumerate()
            .filter(|(_, form)| !form.meaning.is_empty())
            .map(|(position, form)| (position, form.meaning.clone()))
            .unzip();
        let mut forms: Vec<QueryForm> = wordings
            .into_iter()
            .map(|form| QueryForm { text: form.words, vector: Vec::new(), weight: form.weight })
            .collect();
        let mut embeddings = self.peers.embeddings.clone();
        let embedded = clock
            .run(
                "embed_query",
                call,
                async |call: Call| {
                    let request = EmbedRequest { texts, ..EmbedRequest::default() };
                    Ok(embeddings.embed(hedged(call.request_to_any(request))).await?.into_inner())
                },
                |found| format!("{} wordings", found.embeddings.len()),
            )
            .await;
        match embedded {
            Ok(found) => {
                for (position, embedding) in with_meaning.into_iter().zip(found.embeddings) {
                    forms[position].vector = embedding.values;
                }
            }
            Err(lost) => notes.degraded.push(format!("embed_query: {}", lost.word())),
        }
        // A form that was to bring its meaning alone brings nothing without it.
        forms.retain(|form| !form.text.is_empty() || !form.vector.is_empty());
        forms
    }

    async fn retrieve(
        &self,
        clock: &mut Clock,
        call: &Call,
        forms: Vec<QueryForm>,
    ) -> Result<SearchResponse, Lost> {
        let request = SearchRequest {
            forms,
            limit: match self.reranking.advice() {
                Advice::Ask => self.passages.max(self.candidates),
                Advice::Skip(_) | Advice::Off => self.passages,
            },
            filter: Some(Filter {
                locale: self.input.locale.clone(),
                audiences: self.input.audiences.clone(),
                all_audiences: false,
            }),
            mode: 0,
        };
        // Not hedged: documents are where they were stored, and another node does not have them.
        let mut knowledge = self.peers.knowledge.clone();
        clock
            .run(
                "retrieve",
                call,
                async |call: Call| Ok(knowledge.search(call.request_to_any(request)).await?.into_inner()),
                |found| format!("{} passages", found.hits.len()),
            )
            .await
    }

    /// Puts the passages into a better order, if there is anything to order them by.
    async fn rerank(&self, clock: &mut Clock, call: &Call, found: &mut SearchResponse, notes: &mut Notes) {
        match self.reranking.advice() {
            Advice::Ask if found.hits.len() > 1 => {}
            Advice::Ask => return clock.skip("rerank", "there is nothing to order"),
            Advice::Skip(why) => return clock.skip("rerank", why),
            Advice::Off => return,
        }
        let request = rerank::request(&notes.understood, &self.input.locale, &found.hits);
        let timing = clock.begin("rerank");
        let mut reranking = self.peers.reranking.clone();
        let ranked = timing
            .limit(call, async |call: Call| {
                Ok(reranking.rerank(hedged(call.request_to_any(request))).await?.into_inner())
            })
            .await;
        let took = timing.began.elapsed();
        let ranked = match ranked {
            Ok(ranked) => ranked,
            Err(lost) => {
                if lost == Lost::Failed(Code::Unavailable) {
                    self.reranking.nothing("the service was not there a moment ago");
                }
                notes.degraded.push(format!("rerank: {}", lost.word()));
                return clock.close(&timing, &Err::<(), _>(lost), took, |()| String::new());
            }
        };
        let scored = ranked.ranking.iter().filter(|place| place.scored).count();
        let by = match ranked.method() {
            Method::Model if scored == 0 => {
                notes.degraded.push(format!("rerank: {}", Lost::TimedOut.word()));
                return clock.close(&timing, &Err::<(), _>(Lost::TimedOut), took, |()| String::new());
            }
            Method::Model => &ranked.model,
            Method::Features => "what is known of them",
            Method::None | Method::Unspecified => {
                const WHY: &str = "no node has a model for it";
                self.reranking.nothing(WHY);
                return clock.enter(&timing, StageStatus::Skipped, took, WHY.into());
            }
        };
        let detail = format!("{scored} of {} passages by {by}", found.hits.len());
        found.hits = rerank::ordered(std::mem::take(&mut found.hits), &ranked.ranking);
        clock.enter(&timing, StageStatus::Ok, took, detail);
    }

    /// Streams the reply, each sentence checked before it is sent.
    async fn generate(
        &self,
        clock: &mut Clock,
        call: &Call,
        question: String,
        found: SearchResponse,
        notes: &mut Notes,
        events: &Events,
    ) -> Option<End> {
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
        let mut checks = Checks::default();
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
            (Some(timing), Read::Blocked(lost)) => {
                clock.close(timing, &Err::<(), _>(lost.clone()), checks.took, |()| String::new());
            }
            (Some(timing), _) => clock.enter(timing, StageStatus::Ok, checks.took, String::new()),
        }
        match read {
            Read::Gone => None,
            Read::Done(finish) => Some(self.end_of(&finish, notes)),
            // What was checked and sent stands; it answers as far as it goes.
            Read::Lost(lost) | Read::Blocked(lost) if !notes.reply.is_empty() => {
                notes.degraded.push(format!("generate: cut at a sentence, {}", lost.word()));
                Some(End::of(Outcome::Answered, "the reply was cut; what was ready was sent", None))
            }
            Read::Lost(lost) => {
                notes.degraded.push(format!("generate: {}", lost.word()));
                Some(self.lost(&lost, "no reply was ready"))
            }
            Read::Blocked(lost) => {
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
                generate_response::Event::Route(route) => notes.route = Some(route),
                generate_response::Event::Finish(mut finish) => {
                    if !finish.clarification.is_empty() {
                        match self.check(call, &finish.clarification, notes, checks).await {
                            Ok(text) => finish.clarification = text,
                            Err(lost) => return Read::Blocked(lost),
                        }
                    }
                    return Read::Done(finish);
                }
                generate_response::Event::Sentence(mut sentence) => {
                    let text = match self.check(call, &sentence.text, notes, checks).await {
                        Ok(text) => text,
                        Err(lost) => return Read::Blocked(lost),
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

    /// What policy lets out of a text.
    async fn check(
        &self,
        call: &Call,
        text: &str,
        notes: &Notes,
        checks: &mut Checks,
    ) -> Result<String, Lost> {
        let timing = Timing::now("inspect_output", call.deadline);
        let began = timing.began;
        let mut policy = self.peers.policy.clone();
        let inspected = timing
            .limit(call, async |call: Call| {
                let request = InspectRequest {
                    text: text.to_owned(),
                    direction: Direction::Output.into(),
                    conversation_id: notes.conversation_id.clone(),
                    locale: self.input.locale.clone(),
                };
                Ok(policy.inspect(call.request_to_any(request)).await?.into_inner())
            })
            .await;
        checks.took += began.elapsed();
        checks.first.get_or_insert(timing);
        let inspected = inspected?;
        match inspected.verdict() {
            Verdict::Allow | Verdict::Rewrite => Ok(inspected.text),
            _ => Err(Lost::Failed(Code::PermissionDenied)),
        }
    }

    async fn say(
        &self,
        sentence: TurnSentence,
        notes: &mut Notes,
        events: &Events,
    ) -> Result<(), CallerLeft> {
        if !notes.reply.is_empty() {
            notes.reply.push(' ');
        }
        notes.reply.push_str(&sentence.text);
        notes.first_sentence.get_or_insert_with(|| self.arrived.elapsed());
        send(events, Event::Sentence(sentence)).await
    }

    fn end_of(&self, finish: &Finish, notes: &mut Notes) -> End {
        notes.cost_micros = finish.cost_micros;
        match finish.reason() {
            FinishReason::NeedsClarification => End::of(
                Outcome::Asked,
                "the question can mean several things",
                Some(finish.clarification.clone()),
            ),
            _ if notes.reply.is_empty() => {
                self.phrase(Outcome::Unanswered, "the documents do not answer the question", Phrase::NoAnswer)
            }
            FinishReason::Cut => {
                End::of(Outcome::Answered, "the budget ran out; what was ready was sent", None)
            }
            _ => End::of(Outcome::Answered, "the documents answer the question", None),
        }
    }

    fn phrase(&self, outcome: Outcome, reason: &'static str, phrase: Phrase) -> End {
        End::of(outcome, reason, Some(phrase.text(&self.input.locale).to_owned()))
    }

    fn lost(&self, lost: &Lost, reason: &'static str) -> End {
        let phrase = if *lost == Lost::TimedOut { Phrase::NoTime } else { Phrase::NotNow };
        self.phrase(Outcome::Unanswered, reason, phrase)
    }

    /// Says what is left to say, remembers the turn, and reports.
    async fn finish(self, clock: Clock, end: End, mut notes: Notes, id: &str, number: u32, events: &Events) {
        if let Some(text) = end.phrase {
            let sentence = TurnSentence { text, ..TurnSentence::default() };
            if self.say(sentence, &mut notes, events).await.is_err() {
                return;
            }
        }
        let channel = self.input.channel;
        if let Ok(tenant) = self.call.tenant() {
            let turn = store::Turn {
                number,
                text: notes.question,
                reply: notes.reply,
                outcome: end.outcome,
                channel,
                feedback: None,
            };
            self.store.append(tenant, id, turn).await;
        }
        let target = self.input.target;
        if clock.over() {
            notes.degraded.push("the budget ran out".into());
        }
        let spent = clock.spent();
        metrics::turn(channel, end.outcome, spent, notes.first_sentence, target.whole);
        let report = TurnReport {
            conversation_id: id.to_owned(),
            turn: number,
            outcome: end.outcome.into(),
            reason: end.reason.into(),
            stages: clock.into_stages(),
            route: notes.route,
            citations: notes.citations,
            cost_micros: notes.cost_micros,
            degraded: notes.degraded,
            budget: Some(Budget {
                first_sentence: proto_duration(target.first_sentence),
                whole: proto_duration(target.whole),
            }),
            first_sentence_after: notes.first_sentence.and_then(proto_duration),
            spent: proto_duration(spent),
            understood_question: notes.understood,
            redacted_kinds: notes.redacted_kinds,
        };
        let _ = send(events, Event::Report(report)).await;
    }
}

impl End {
    fn of(outcome: Outcome, reason: &'static str, phrase: Option<String>) -> Self {
        Self { outcome, reason, phrase }
    }
}

/// How reading the reply came to its end.
enum Read {
    Done(Finish),
    /// The reply broke off.
    Lost(Lost),
    /// A sentence could not be checked, or was not let out.
    Blocked(Lost),
    Gone,
}

/// What checking the sentences of a reply took together.
#[derive(Default)]
struct Checks {
    first: Option<Timing>,
    took: Duration,
}

/// Runs `work` and says how long it took.
async fn timed<F: Future>(work: F) -> (F::Output, Duration) {
    let began = Instant::now();
    let output = work.await;
    (output, began.elapsed())
}

/// The caller no longer listens.
struct CallerLeft;

async fn send(events: &Events, event: Event) -> Result<(), CallerLeft> {
    events.send(Ok(ConverseResponse { event: Some(event) })).await.map_err(|_| CallerLeft)
}

fn context_turns(turn: &store::Turn) -> [context::Turn; 2] {
    [
        context::Turn {
            speaker: context::Speaker::Customer,
            text: redaction::without_placeholders(&turn.text),
        },
        context::Turn { speaker: context::Speaker::Company, text: turn.reply.clone() },
    ]
}

/// By how much the best passage must come nearer, as a cosine, for a correction to be believed.
const NEARER: f32 = 0.03;

/// The cosine of the best passage.
fn nearest(found: &SearchResponse) -> f32 {
    found.hits.iter().map(|hit| hit.similarity).fold(0.0, f32::max)
}

/// A question with its misspelt words replaced. Corrections are in lower case, as search reads them.
fn correct(question: &str, corrections: &[Correction]) -> String {
    let mut corrected = String::with_capacity(question.len());
    let mut rest = question;
    while let Some(start) = rest.find(char::is_alphanumeric) {
        let length = rest[start..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        let lower = word.to_lowercase();
        let meant = corrections.iter().find(|correction| correction.written == lower);
        corrected.push_str(&rest[..start]);
        corrected.push_str(meant.map_or(word, |correction| &correction.corrected));
        rest = &rest[start + length..];
    }
    corrected + rest
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
    fn typos_are_replaced_where_they_stand() {
        let correction = |written: &str, corrected: &str| Correction {
            written: written.into(),
            corrected: corrected.into(),
        };
        let corrections = [correction("pasword", "password"), correction("a", "b")];
        assert_eq!(correct("My Pasword, pasword2?", &corrections), "My password, pasword2?");
        assert_eq!(correct("Größe? …", &corrections), "Größe? …");
    }

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
