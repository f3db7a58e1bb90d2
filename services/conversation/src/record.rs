//! What a turn decided, on its way to the ledger.
//!
//! A turn gathers its decisions in a [`Record`], and hands them to the [`Recorder`] when it is over, or
//! when its caller leaves and it is dropped half way: what was decided is recorded all the same. The
//! recorder puts them into a spool on disk, off the turn's path, and a task brings the spool to the
//! ledger in order. While the ledger is away they wait; their ids make repeats harmless.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use prost::Message as _;
use switchboard_mesh::{Call, Class, Deadline, Tenant, spool::Spool};
use switchboard_proto::{
    conversation::v1::{self as conversation, Feedback},
    ledger::v1::{
        AppendRequest, NewRecord, RecordKind, Versions, ledger_service_client::LedgerServiceClient,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::{metrics, outcome::Change};

/// How long the ledger may take for what it is brought.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the ledger is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Records of a call, and their bytes, that the ledger takes.
const MOST_RECORDS: usize = 256;
const MOST_BYTES: usize = 2 << 20;
/// Records of a tenant that cannot be taken before the rest of them is not tried.
const MOST_STUCK: usize = 3;
/// Sealed bytes of a record that the ledger takes.
pub(crate) const LONGEST_SEALED: usize = 65_536;
/// Bytes of a question or a reply that are sealed.
const LONGEST_TEXT: usize = 32_000;
/// Bytes of a value that the ledger takes.
const LONGEST_VALUE: usize = 8_192;
/// Bytes of a version's name that the ledger takes.
const LONGEST_VERSION: usize = 128;

/// Facts of a record, by name.
pub(crate) type Facts = Vec<(&'static str, String)>;

/// The ledger, wherever it is.
pub(crate) type Ledger = LedgerServiceClient<switchboard_mesh::Channel>;

/// The way to the ledger.
pub(crate) struct Recorder {
    spool: Arc<Spool>,
}

impl Recorder {
    pub(crate) fn new(spool: Spool) -> Self {
        Self { spool: Arc::new(spool) }
    }

    /// Puts records where they are safe until the ledger has them. Whether it could is told, and counted.
    pub(crate) fn put(&self, tenant: &Tenant, records: Vec<NewRecord>) -> bool {
        let put = self.spool.append(&frame(tenant, records));
        if let Err(error) = &put {
            metrics::unrecorded();
            tracing::error!(%error, "decisions could not be kept for the ledger");
        }
        put.is_ok()
    }

    /// Puts a change of a conversation's matter on its way.
    pub(crate) fn outcome(&self, tenant: &Tenant, conversation: &str, change: &Change) {
        self.put(tenant, vec![outcome(conversation, change)]);
    }

    /// Brings what was put to the ledger, until `stop`, and then once more what is left.
    pub(crate) async fn bring(&self, ledger: Ledger, stop: CancellationToken) {
        loop {
            let stopping = stop.is_cancelled();
            let stuck = AtomicBool::new(false);
            let brought = self.spool.drain(|frames| bring(&self.spool, &ledger, frames, &stuck)).await;
            metrics::waiting(self.spool.len());
            if stopping {
                return;
            }
            let more = async {
                match brought {
                    Ok(()) if !stuck.load(Ordering::Relaxed) => self.spool.appended().await,
                    _ => {
                        self.outlast().await;
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            };
            stop.run_until_cancelled(more).await;
        }
    }

    /// Makes what waits outlive the machine's power, since the ledger may be away for long.
    async fn outlast(&self) {
        let spool = Arc::clone(&self.spool);
        let synced = tokio::task::spawn_blocking(move || spool.sync()).await;
        if let Ok(Err(error)) = synced {
            tracing::warn!(%error, "what waits for the ledger may not outlive the machine");
        }
    }
}

/// What the spool holds: records of one tenant.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(message, optional, tag = "2")]
    append: Option<AppendRequest>,
}

/// Records as the spool holds them.
fn frame(tenant: &Tenant, records: Vec<NewRecord>) -> Vec<u8> {
    let append = Some(AppendRequest { records });
    Frame { tenant: tenant.as_str().to_owned(), append }.encode_to_vec()
}

/// The ledger cannot take records now.
#[derive(Debug)]
struct NotNow;

/// Takes records: the ledger, wherever it is.
trait Take: Sync {
    fn take(&self, tenant: &Tenant, records: Vec<NewRecord>)
    -> impl Future<Output = Result<(), Code>> + Send;
}

impl Take for Ledger {
    async fn take(&self, tenant: &Tenant, records: Vec<NewRecord>) -> Result<(), Code> {
        let call = Call::new(tenant.clone(), Deadline::after(PATIENCE)).with_class(Class::Batch);
        let request = call.request_to_any(AppendRequest { records });
        self.clone().append(request).await.map(drop).map_err(|status| status.code())
    }
}

/// Brings frames to the ledger in order, those of one tenant that follow each other in one call. A tenant
/// whose ledger is damaged keeps back nobody else: its records go to the end of the spool, which `stuck`
/// tells.
async fn bring(
    spool: &Spool,
    ledger: &impl Take,
    frames: Vec<Vec<u8>>,
    stuck: &AtomicBool,
) -> Result<(), NotNow> {
    let mut later: Vec<(Tenant, Vec<NewRecord>)> = Vec::new();
    for (tenant, records) in calls(frames) {
        // What comes after what waits waits as well.
        if later.iter().any(|(of, _)| *of == tenant) {
            later.push((tenant, records));
            continue;
        }
        let left = match ledger.take(&tenant, records.clone()).await {
            Ok(()) => continue,
            Err(code) if is_away(code) => return Err(NotNow),
            Err(_) => one_by_one(ledger, &tenant, records).await?,
        };
        if !left.is_empty() {
            later.push((tenant, left));
        }
    }
    for (tenant, records) in later {
        stuck.store(true, Ordering::Relaxed);
        if let Err(error) = spool.put_back(&frame(&tenant, records)) {
            tracing::error!(%error, "what the ledger cannot take now stays at the head of the spool");
            return Err(NotNow);
        }
    }
    Ok(())
}

/// The calls that bring frames.
fn calls(frames: Vec<Vec<u8>>) -> Vec<(Tenant, Vec<NewRecord>)> {
    let mut calls: Vec<(Tenant, Vec<NewRecord>)> = Vec::new();
    for frame in frames {
        let frame = Frame::decode(frame.as_slice()).ok();
        let tenant = frame.as_ref().and_then(|frame| Tenant::try_new(&frame.tenant).ok());
        let (Some(Frame { append: Some(append), .. }), Some(tenant)) = (frame, tenant) else {
            tracing::error!("something in the spool is no record");
            metrics::unrecorded();
            continue;
        };
        match calls.last_mut() {
            Some((of, records)) if *of == tenant && fits(records, &append.records) => {
                records.extend(append.records);
            }
            _ => calls.push((tenant, append.records)),
        }
    }
    calls
}

/// Brings records each by itself, and gives those that cannot be taken now. What the ledger will never
/// take is told and let go: it would keep back all that comes after it.
async fn one_by_one(
    ledger: &impl Take,
    tenant: &Tenant,
    records: Vec<NewRecord>,
) -> Result<Vec<NewRecord>, NotNow> {
    let mut left = Vec::new();
    for record in records {
        if left.len() >= MOST_STUCK {
            left.push(record);
            continue;
        }
        match ledger.take(tenant, vec![record.clone()]).await {
            Ok(()) => {}
            Err(code) if is_away(code) => return Err(NotNow),
            Err(code) if is_refusal(code) => {
                tracing::error!(?code, "the ledger refuses a record");
                metrics::unrecorded();
            }
            Err(code) => {
                tracing::error!(?code, %tenant, "the ledger cannot take a record of this tenant now");
                left.push(record);
            }
        }
    }
    Ok(left)
}

/// Whether nobody's records can be taken now.
fn is_away(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled)
}

/// Whether the same records would be refused again.
fn is_refusal(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::AlreadyExists)
}

/// Whether a call takes more records.
fn fits(records: &[NewRecord], more: &[NewRecord]) -> bool {
    let bytes: usize = records.iter().chain(more).map(prost::Message::encoded_len).sum();
    records.len() + more.len() <= MOST_RECORDS && bytes <= MOST_BYTES
}

/// What a turn decided and said so far.
pub(crate) struct Record {
    recorder: Arc<Recorder>,
    tenant: Tenant,
    conversation: String,
    /// The turn's number; 0 as long as the conversation is not known.
    pub(crate) turn: u32,
    /// The id of the turn's own record, which others refer to.
    pub(crate) id: Uuid,
    /// What was asked and said, redacted, which the ledger keeps encrypted under a key that can be destroyed.
    pub(crate) question: String,
    pub(crate) reply: String,
    decisions: Vec<NewRecord>,
    ended: bool,
}

impl Record {
    pub(crate) fn new(recorder: Arc<Recorder>, tenant: Tenant, conversation: &str) -> Self {
        Self {
            recorder,
            tenant,
            conversation: conversation.to_owned(),
            turn: 0,
            id: Uuid::now_v7(),
            question: String::new(),
            reply: String::new(),
            decisions: Vec::new(),
            ended: false,
        }
    }

    /// Lets all of it go: there was no turn.
    pub(crate) fn forget(mut self) {
        self.ended = true;
    }

    /// Notes a decision of the stage `stage`, and gives its id.
    pub(crate) fn decided(
        &mut self,
        kind: RecordKind,
        stage: &str,
        mut facts: Facts,
        versions: Versions,
        mut sealed: Vec<u8>,
    ) -> Uuid {
        let id = Uuid::now_v7();
        if sealed.len() > LONGEST_SEALED {
            // The decision counts for more than what goes with it.
            facts.push(("sealed", "too long".to_owned()));
            sealed.clear();
        }
        let refers_to = self.id.to_string();
        let decision = NewRecord { stage: stage.to_owned(), refers_to, ..self.record(kind, id, facts) };
        self.decisions.push(NewRecord { versions: Some(shorten(versions)), sealed, ..decision });
        id
    }

    /// Hands over what was decided so far, ahead of the turn: for what is promised to the customer next.
    /// Whether it will come to the ledger is told.
    pub(crate) fn keep(&mut self) -> bool {
        self.recorder.put(&self.tenant, std::mem::take(&mut self.decisions))
    }

    /// Hands the turn over, with what it decided and said. Whether it will come to the ledger is told.
    pub(crate) fn end(mut self, facts: Facts, versions: Versions) -> bool {
        self.put(facts, versions)
    }

    fn put(&mut self, facts: Facts, versions: Versions) -> bool {
        self.ended = true;
        let record = self.record(RecordKind::Turn, self.id, facts);
        let (text, reply) = (cut(&self.question, LONGEST_TEXT), cut(&self.reply, LONGEST_TEXT));
        let said = conversation::Turn {
            turn: self.turn,
            text: text.to_owned(),
            reply: reply.to_owned(),
            ..Default::default()
        };
        let turn = NewRecord { versions: Some(shorten(versions)), sealed: said.encode_to_vec(), ..record };
        let mut records = std::mem::take(&mut self.decisions);
        // The turn first: what was decided refers to it.
        records.insert(0, turn);
        self.recorder.put(&self.tenant, records)
    }

    fn record(&self, kind: RecordKind, id: Uuid, facts: Facts) -> NewRecord {
        about(kind, id, &self.conversation, self.turn, facts)
    }
}

/// A record about a turn of a conversation, as of now.
fn about(kind: RecordKind, id: Uuid, conversation: &str, turn: u32, facts: Facts) -> NewRecord {
    NewRecord {
        record_id: id.to_string(),
        kind: kind.into(),
        conversation_id: conversation.to_owned(),
        turn_id: turn.to_string(),
        time: Some(SystemTime::now().into()),
        subject: conversation.to_owned(),
        attributes: attributes(facts),
        ..NewRecord::default()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            let why = if std::thread::panicking() { "the turn failed" } else { "the caller left" };
            let facts = vec![("outcome", "abandoned".to_owned()), ("reason", why.to_owned())];
            self.put(facts, Versions::default());
        }
    }
}

/// What somebody thought of a turn, redacted, for the ledger. Their words are sealed.
pub(crate) fn feedback(conversation: &str, turn: u32, of: Uuid, given: &Feedback) -> NewRecord {
    let or_none = |is_said: bool, value: String| if is_said { value } else { String::new() };
    let facts = vec![
        ("rating", or_none(given.rating != 0, word(given.rating().as_str_name(), "RATING_"))),
        ("score", or_none(given.score != 0, given.score.to_string())),
        ("resolved", given.resolved.map(|is_resolved| is_resolved.to_string()).unwrap_or_default()),
        ("labels", given.labels.join(", ")),
        ("corrected", or_none(!given.correction.is_empty(), "true".to_owned())),
    ];
    let has_words = !given.comment.is_empty() || !given.correction.is_empty();
    NewRecord {
        refers_to: of.to_string(),
        sealed: if has_words { given.encode_to_vec() } else { Vec::new() },
        ..about(RecordKind::Feedback, Uuid::now_v7(), conversation, turn, facts)
    }
}

/// How a conversation's matter ended, or that it did not, for the ledger.
pub(crate) fn outcome(conversation: &str, change: &Change) -> NewRecord {
    metrics::outcome(change.state.name());
    let facts = vec![("state", change.state.name().to_owned()), ("why", change.why.clone())];
    NewRecord {
        refers_to: change.of.to_string(),
        time: Some(change.time.into()),
        ..about(RecordKind::Outcome, change.id, conversation, change.turn, facts)
    }
}

/// The value of an enum of a contract as a word: its name without `prefix`, in lower case.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// Facts as the ledger takes them: without what is empty, and nothing longer than it may be.
fn attributes(facts: Facts) -> HashMap<String, String> {
    let filled = facts.into_iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(key, value)| (key.to_owned(), clean(&value, LONGEST_VALUE))).collect()
}

fn shorten(versions: Versions) -> Versions {
    let Versions { model, policy, prompt, knowledge } = versions;
    let [model, policy, prompt, knowledge] =
        [model, policy, prompt, knowledge].map(|name| clean(&name, LONGEST_VERSION));
    Versions { model, policy, prompt, knowledge }
}

/// The begin of a text, of at most `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A text without control characters, of at most `most` bytes.
fn clean(text: &str, most: usize) -> String {
    cut(text, most).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
impl Recorder {
    /// What waits for the ledger, which it then does no more.
    pub(crate) async fn held(&self) -> Vec<NewRecord> {
        let mut held = Vec::new();
        let drained: Result<(), NotNow> = self
            .spool
            .drain(|frames| {
                held.extend(calls(frames).into_iter().flat_map(|(_, records)| records));
                std::future::ready(Ok(()))
            })
            .await;
        drained.unwrap();
        held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A ledger that is damaged for tenant `broken` and refuses records without a kind.
    #[derive(Default)]
    struct Damaged(Mutex<Vec<(String, String)>>);

    impl Take for Damaged {
        async fn take(&self, tenant: &Tenant, records: Vec<NewRecord>) -> Result<(), Code> {
            if tenant.as_str() == "broken" {
                return Err(Code::Internal);
            }
            if records.iter().any(|record| record.kind() == RecordKind::Unspecified) {
                return Err(Code::InvalidArgument);
            }
            let taken = records.into_iter().map(|record| (tenant.to_string(), record.record_id));
            self.0.lock().unwrap().extend(taken);
            Ok(())
        }
    }

    fn record(id: u32, kind: RecordKind) -> Vec<NewRecord> {
        vec![NewRecord { record_id: id.to_string(), kind: kind.into(), ..NewRecord::default() }]
    }

    #[tokio::test]
    async fn a_tenant_whose_ledger_is_damaged_keeps_back_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), switchboard_mesh::spool::Limits::default()).unwrap();
        let (broken, acme) = (Tenant::try_new("broken").unwrap(), Tenant::try_new("acme").unwrap());
        for id in 0..200 {
            spool.append(&frame(&broken, record(id, RecordKind::Turn))).unwrap();
        }
        spool.append(&frame(&acme, record(1, RecordKind::Turn))).unwrap();
        spool.append(&frame(&acme, record(2, RecordKind::Unspecified))).unwrap();
        spool.append(&frame(&acme, record(3, RecordKind::Turn))).unwrap();
        let (ledger, stuck) = (Damaged::default(), AtomicBool::new(false));
        for _ in 0..2 {
            let drained = spool.drain(|frames| bring(&spool, &ledger, frames, &stuck)).await;
            assert!(drained.is_ok() && stuck.load(Ordering::Relaxed));
        }
        let taken: Vec<String> = ledger.0.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
        assert_eq!(taken, ["1", "3"], "what is refused for good is let go");
        let mut left = Vec::new();
        let all: Result<(), NotNow> = spool
            .drain(|frames| {
                left.extend(calls(frames).into_iter().flat_map(|(_, records)| records));
                std::future::ready(Ok(()))
            })
            .await;
        assert!(all.is_ok());
        let ids: Vec<String> = left.into_iter().map(|record| record.record_id).collect();
        assert_eq!(ids, (0..200).map(|id| id.to_string()).collect::<Vec<_>>(), "all of it, in order");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(clean("a\u{1}bäc", 4), "a b");
        assert_eq!(clean("a\u{1}bäc", 5), "a bä");
        assert_eq!(clean("ok", 4), "ok");
    }
}
