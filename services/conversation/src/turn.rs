//! One turn, from the customer's words to the report.
//!
//! ```text
//! inspect_input ─┐
//! load_context ──┴─ embed_query ─ retrieve ─ rerank ─ inspect_evidence
//!                     ─ generate ═ inspect_output (by sentences) ─ record ─ report
//! ```
//!
//! No customer text leaves [`Turn::run`] unredacted: what follows `inspect_input` sees only what
//! policy returned. Every failure ends in an answer, a question, a person, or a plain word that there is
//! none; only a bad request or an unknown conversation is an error.
//!
//! `passages` finds what bears on a question, `reply` writes and checks what is said.

mod passages;
mod reply;

use std::{future::Future, sync::Arc, time::Duration};

use prost::Message as _;
use switchboard_mesh::{Call, Class, error};
use switchboard_proto::{
    conversation::v1::{
        BriefingDocument, Budget, ConverseResponse, HandOffReason, NumberedCitation, Outcome, StageStatus,
        TurnHandOff, TurnReport, TurnSentence, TurnStarted, converse_response::Event,
    },
    generation::v1::RouteResponse,
    ledger::v1::{RecordKind, Versions},
    policy::v1::{DecideRequest, Direction, Disclosure, InspectRequest, InspectResponse, Source, Verdict},
};
use switchboard_text::{context, redaction, words};
use tokio::{sync::mpsc::Sender, time::Instant};
use tonic::Status;

use crate::{
    Peers,
    clock::{Clock, Lost, proto_duration},
    hand_off::{self, HandOff, Known, Mood},
    metrics,
    phrases::Phrase,
    record::{Facts, Record, Recorder, word},
    request::Input,
    rerank::Offer,
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
    pub(crate) recorder: Arc<Recorder>,
}

/// How a turn ended, and why.
struct End {
    outcome: Outcome,
    /// In words for a person: of the turn's own, or of the policy's rules.
    reason: String,
    /// What Switchboard itself has to say, if anything.
    phrase: Option<String>,
    hand_off: Option<HandOff>,
}

/// What a turn has gathered for its report.
struct Notes {
    conversation_id: String,
    /// The remembered turns before this one.
    earlier: Vec<store::Turn>,
    citations: Vec<NumberedCitation>,
    route: Option<RouteResponse>,
    cost_micros: u64,
    degraded: Vec<String>,
    redacted_kinds: Vec<String>,
    understood: String,
    first_sentence: Option<Duration>,
    mood: Mood,
    /// What must be said before the turn ends, each once.
    disclosures: Vec<Disclosure>,
    /// The documents that were looked at.
    documents: Vec<BriefingDocument>,
    /// The policy that decided.
    bundle: String,
    record: Record,
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
        let tenant = match call.tenant() {
            Ok(tenant) => tenant.clone(),
            Err(status) => return drop(events.send(Err(status)).await),
        };
        let (id, new) = match self.input.conversation_id.as_str() {
            // Version 7 ids sort by time, which is the order that lists want.
            "" => (uuid::Uuid::now_v7().to_string(), true),
            id => (id.to_owned(), false),
        };
        let mut record = Record::new(Arc::clone(&self.recorder), tenant, &id);
        let (inspected, loaded) = self.begin(&mut clock, &call, &id, new).await;
        let conversation = match loaded {
            Ok(conversation) => conversation,
            Err(status) => {
                // There is no turn of which anything could be told.
                record.forget();
                return drop(events.send(Err(status)).await);
            }
        };
        let number = conversation.turn_count;
        record.turn = number;
        let mut notes = Notes::new(&id, conversation, record);
        let started = TurnStarted { conversation_id: id, turn: number };
        if send(&events, Event::Started(started)).await.is_err() {
            return;
        }
        let end = match inspected {
            Ok(inspected) => self.answer(&mut clock, &call, inspected, &mut notes, &events).await,
            Err(lost) => {
                notes.degraded.push(format!("inspect_input: {}", lost.word()));
                Some(self.lost(&lost, "the question could not be checked"))
            }
        };
        // `None`: the caller has left.
        let Some(end) = end else { return };
        self.finish(clock, end, notes, &events).await;
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
                source: Source::Customer.into(),
                conversation_id: id.to_owned(),
                locale: self.input.locale.clone(),
                channel: self.input.channel_name().to_owned(),
                product: self.input.product.clone(),
                jurisdiction: self.input.jurisdiction.clone(),
                ..InspectRequest::default()
            };
            Ok(policy.inspect(call.request_to_any(request)).await?.into_inner())
        });
        let load = async {
            let tenant = call.tenant()?;
            if new {
                return self.store.start(tenant, id).await.map_err(error::status);
            }
            let (conversation, reopened) = self.store.next(tenant, id).await.map_err(error::status)?;
            if let Some(change) = reopened {
                self.recorder.outcome(tenant, id, &change);
            }
            Ok(conversation)
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
        notes: &mut Notes,
        events: &Events,
    ) -> Option<End> {
        notes.redacted_kinds = hand_off::kinds(&inspected.findings);
        notes.decided("inspect_input", &inspected, Vec::new());
        notes.checked_without("inspect_input", &inspected.degraded);
        notes.mood = Mood::of(&inspected);
        let (verdict, reason) = (inspected.verdict(), inspected.reason.clone());
        let handed_off = HandOff::asked_by(&inspected);
        notes.disclose(inspected.required_disclosures);
        notes.record.question = inspected.text;
        // What is searched for is the kind of a redacted value, not its placeholder.
        let question = redaction::without_placeholders(&notes.record.question);
        notes.understood.clone_from(&question);
        match verdict {
            Verdict::Allow | Verdict::Rewrite | Verdict::Disclose => {}
            Verdict::Refuse => return Some(self.phrase(Outcome::Refused, &reason, Phrase::Refused)),
            Verdict::Ask => return Some(self.phrase(Outcome::Asked, &reason, Phrase::Rephrase)),
            // What is not understood is not passed: verdicts may be added that this turn cannot act on.
            Verdict::HandOff | Verdict::Unspecified => return Some(self.hand_off(handed_off, &reason)),
        }
        let history: Vec<context::Turn> = notes.earlier.iter().flat_map(context_turns).collect();
        let (question, mut found) = match self.search(clock, call, question, &history, notes).await {
            Ok(found) => found,
            Err(lost) => {
                notes.degraded.push(format!("retrieve: {}", lost.word()));
                return Some(self.lost(&lost, "the documents could not be searched"));
            }
        };
        notes.understood = context::resolve(&question, &history);
        notes.degraded.extend(found.degraded.iter().map(|list| format!("retrieve: without {list}")));
        self.rerank(clock, call, &mut found, notes).await;
        found.hits.truncate(self.passages as usize);
        if let Err(lost) = self.sift(clock, call, &mut found.hits, notes).await {
            notes.degraded.push(format!("inspect_evidence: {}", lost.word()));
            return Some(self.lost(&lost, "the documents could not be checked"));
        }
        if found.hits.is_empty() {
            clock.skip("generate", "there is no passage that may answer");
            return Some(self.unanswered(clock, call, "there is no passage that may answer", notes).await);
        }
        notes.documents = hand_off::documents(&found.hits);
        self.generate(clock, call, question, found, notes, events).await
    }

    /// The end of a turn whose documents do not answer: whether a person is asked is policy's to say.
    async fn unanswered(&self, clock: &mut Clock, call: &Call, reason: &str, notes: &mut Notes) -> End {
        let mut policy = self.peers.policy.clone();
        let decided = clock
            .run(
                "decide",
                call,
                async |call: Call| {
                    let facts =
                        [("channel", self.input.channel_name()), ("language", notes.mood.language.as_str())];
                    let request = DecideRequest {
                        action: "turn.unanswered".to_owned(),
                        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                        details: None,
                    };
                    Ok(policy.decide(call.request_to_any(request)).await?.into_inner())
                },
                |decided| verdict(decided.verdict()),
            )
            .await;
        if let Ok(decided) = &decided {
            let facts = vec![
                ("action", "turn.unanswered".to_owned()),
                ("verdict", verdict(decided.verdict())),
                ("reason", decided.reason.clone()),
                ("rules", decided.rules.join(", ")),
            ];
            let versions = Versions { policy: decided.bundle.clone(), ..Versions::default() };
            notes.record.decided(RecordKind::PolicyDecision, "decide", facts, versions, Vec::new());
        }
        match decided {
            Ok(decided) if decided.verdict() == Verdict::Allow => {
                self.phrase(Outcome::Unanswered, reason, Phrase::NoAnswer)
            }
            Ok(decided) => {
                let rules = decided.rules;
                self.hand_off(HandOff { reason: HandOffReason::TooLittleEvidence, rules }, reason)
            }
            // A person can always be asked.
            Err(lost) => {
                notes.degraded.push(format!("decide: {}", lost.word()));
                self.hand_off(HandOff::of(HandOffReason::TooLittleEvidence), reason)
            }
        }
    }

    fn phrase(&self, outcome: Outcome, reason: &str, phrase: Phrase) -> End {
        End { phrase: Some(phrase.text(&self.input.locale).to_owned()), ..End::of(outcome, reason) }
    }

    fn hand_off(&self, hand_off: HandOff, reason: &str) -> End {
        let end = self.phrase(Outcome::HandedOff, reason, hand_off.phrase());
        End { hand_off: Some(hand_off), ..end }
    }

    /// The end of a turn that lost a part it needs: to ask again helps where the time was short, else a
    /// person does.
    fn lost(&self, lost: &Lost, reason: &str) -> End {
        match lost {
            Lost::TimedOut => self.phrase(Outcome::Unanswered, reason, Phrase::NoTime),
            Lost::Failed(_) => self.hand_off(HandOff::of(HandOffReason::Failed), reason),
        }
    }

    /// Says what is left to say, remembers the turn, records it, and reports: to the ledger also when the
    /// caller has left by now.
    async fn finish(self, mut clock: Clock, mut end: End, mut notes: Notes, events: &Events) {
        let number = notes.record.turn;
        // Nobody is told that a person takes over before that is where a person will see it.
        let mut offer = end.hand_off.as_ref().map(|hand_off| notes.offer(hand_off, &end.reason, &self.input));
        if offer.is_some() && !notes.record.keep() {
            offer = None;
            end = self.phrase(Outcome::Unanswered, "the hand-off could not be recorded", Phrase::NotPassedOn);
        }
        let disclosures =
            std::mem::take(&mut notes.disclosures).into_iter().map(|disclosure| disclosure.text);
        let said = notes.record.reply.clone();
        // What the reply says by itself is not said again.
        let last = end.phrase.into_iter().chain(disclosures.filter(|text| !words::says(&said, text)));
        let mut heard = true;
        for text in last {
            let sentence = TurnSentence { text, ..TurnSentence::default() };
            heard = heard && self.say(sentence, &mut notes, events).await.is_ok();
        }
        if let Some(offer) = offer {
            heard = heard && send(events, Event::HandOff(offer)).await.is_ok();
        }
        let channel = self.input.channel;
        if let Ok(tenant) = self.call.tenant() {
            let turn = store::Turn {
                number,
                record: notes.record.id,
                text: notes.record.question.clone(),
                reply: notes.record.reply.clone(),
                outcome: end.outcome,
                channel,
                feedback: None,
            };
            self.store.append(tenant, &notes.conversation_id, turn).await;
        }
        let target = self.input.target;
        if clock.over() {
            notes.degraded.push("the budget ran out".into());
        }
        let timing = clock.begin("record");
        let mut facts = notes.facts(&clock, end.outcome, &end.reason, self.input.channel_name());
        if !heard {
            facts.push(("delivered", "false".to_owned()));
        }
        let versions = notes.versions();
        let (status, detail) = match notes.record.end(facts, versions) {
            true => (StageStatus::Ok, ""),
            false => {
                notes.degraded.push("record: failed".into());
                (StageStatus::Failed, "nothing could be written to the spool")
            }
        };
        clock.enter(&timing, status, timing.began.elapsed(), detail.to_owned());
        let spent = clock.spent();
        metrics::turn(channel, end.outcome, spent, notes.first_sentence, target.whole);
        let report = TurnReport {
            conversation_id: notes.conversation_id,
            turn: number,
            outcome: end.outcome.into(),
            reason: end.reason,
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

impl Notes {
    fn new(id: &str, conversation: Conversation, record: Record) -> Self {
        Self {
            conversation_id: id.to_owned(),
            earlier: conversation.turns,
            citations: Vec::new(),
            route: None,
            cost_micros: 0,
            degraded: Vec::new(),
            redacted_kinds: Vec::new(),
            understood: String::new(),
            first_sentence: None,
            mood: Mood::default(),
            disclosures: Vec::new(),
            documents: Vec::new(),
            bundle: String::new(),
            record,
        }
    }

    /// Notes what policy decided about a text; `about` tells which, where the stage has several.
    fn decided(&mut self, stage: &'static str, inspected: &InspectResponse, about: Facts) {
        self.bundle.clone_from(&inspected.bundle);
        let mut facts = vec![
            ("verdict", verdict(inspected.verdict())),
            ("reason", inspected.reason.clone()),
            ("rules", inspected.rules.join(", ")),
            ("redacted", hand_off::kinds(&inspected.findings).join(", ")),
            ("signals", hand_off::kinds(&inspected.signals).join(", ")),
            ("sentiment", format!("{:.2}", inspected.sentiment)),
            ("without", inspected.degraded.join(", ")),
        ];
        facts.extend(about);
        let versions = Versions { policy: inspected.bundle.clone(), ..Versions::default() };
        self.record.decided(RecordKind::PolicyDecision, stage, facts, versions, Vec::new());
    }

    /// Notes which model was chosen, and why.
    fn routed(&mut self, route: RouteResponse) {
        let candidates = route.candidates.iter().map(|candidate| {
            let kept = if candidate.eligible { "kept" } else { "dropped" };
            format!("{} {kept}: {}", candidate.model, candidate.reason)
        });
        let facts = vec![
            ("model", route.model.clone()),
            ("tier", word(route.tier().as_str_name(), "TIER_")),
            ("fallbacks", route.fallbacks.join(", ")),
            ("candidates", candidates.collect::<Vec<_>>().join("; ")),
        ];
        let versions = Versions { model: route.model.clone(), ..Versions::default() };
        self.record.decided(RecordKind::Route, "route", facts, versions, Vec::new());
        self.route = Some(route);
    }

    /// Notes what must be said before the turn ends; whether any of it is new.
    fn disclose(&mut self, disclosures: Vec<Disclosure>) -> bool {
        let before = self.disclosures.len();
        for disclosure in disclosures {
            if !self.disclosures.iter().any(|known| known.text == disclosure.text) {
                self.disclosures.push(disclosure);
            }
        }
        self.disclosures.len() > before
    }

    /// Notes that a check went without detectors that it should have had.
    fn checked_without(&mut self, stage: &str, detectors: &[String]) {
        for detector in detectors {
            let told = format!("{stage}: without {detector}");
            if !self.degraded.contains(&told) {
                self.degraded.push(told);
            }
        }
    }

    /// Offers the conversation to a person, on the record.
    fn offer(&mut self, hand_off: &HandOff, explanation: &str, input: &Input) -> TurnHandOff {
        let channel = input.channel_name();
        let known = Known {
            question: if self.understood.is_empty() { &self.record.question } else { &self.understood },
            channel: input.channel,
            mood: &self.mood,
            earlier: &self.earlier,
            documents: &self.documents,
        };
        let briefing = hand_off::briefing(explanation, &known);
        let facts = vec![
            ("state", "offered".to_owned()),
            ("reason", word(hand_off.reason.as_str_name(), "HAND_OFF_REASON_")),
            ("explanation", explanation.to_owned()),
            ("channel", channel.to_owned()),
            ("rules", hand_off.rules.join(", ")),
            ("concerns", self.mood.concerns.join(", ")),
            ("sentiment", format!("{:.2}", self.mood.sentiment)),
            ("language", self.mood.language.clone()),
        ];
        let versions = Versions { policy: self.bundle.clone(), ..Versions::default() };
        let sealed = briefing.encode_to_vec();
        let id = self.record.decided(RecordKind::HandOff, "plan", facts, versions, sealed);
        TurnHandOff {
            hand_off_id: id.to_string(),
            reason: hand_off.reason.into(),
            explanation: explanation.to_owned(),
            rules: hand_off.rules.clone(),
            briefing: Some(briefing),
        }
    }

    /// What the ledger tells of the turn, without any of its text.
    fn facts(&self, clock: &Clock, outcome: Outcome, reason: &str, channel: &str) -> Facts {
        let cited = self.citations.iter().filter_map(|numbered| numbered.citation.as_ref());
        let cited: Vec<String> =
            cited.map(|c| format!("{}@{}:{}-{}", c.document_id, c.version, c.start, c.end)).collect();
        vec![
            ("outcome", word(outcome.as_str_name(), "OUTCOME_")),
            ("reason", reason.to_owned()),
            ("channel", channel.to_owned()),
            ("spent_ms", format!("{:.1}", clock.spent().as_secs_f64() * 1e3)),
            ("stages", clock.summary()),
            ("citations", cited.join(", ")),
            ("degraded", self.degraded.join(", ")),
            ("redacted", self.redacted_kinds.join(", ")),
            ("cost_micros", self.cost_micros.to_string()),
        ]
    }

    fn versions(&self) -> Versions {
        let model = self.route.as_ref().map(|route| route.model.clone()).unwrap_or_default();
        let cited = self.citations.iter().filter_map(|numbered| numbered.citation.as_ref());
        let mut cited: Vec<&str> = cited.map(|citation| citation.version.as_str()).collect();
        cited.dedup();
        Versions { model, policy: self.bundle.clone(), knowledge: cited.join(" "), ..Versions::default() }
    }
}

impl End {
    fn of(outcome: Outcome, reason: &str) -> Self {
        Self { outcome, reason: reason.to_owned(), phrase: None, hand_off: None }
    }
}

/// A verdict as a word.
fn verdict(verdict: Verdict) -> String {
    word(verdict.as_str_name(), "VERDICT_")
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
