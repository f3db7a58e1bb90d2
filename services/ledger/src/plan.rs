//! What a transaction writes: pure, so that every store writes the same.
//!
//! A store locks a tenant's [`Head`], reads the records that have one of the new ids and the keys of the
//! subjects, and asks [`plan`]. Records go on from the head, in their order; what is there already is found
//! and not written again. The store writes what the [`Plan`] says and the new head, in one transaction.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mesh::Tenant;
use switchboard_mesh as mesh;
use switchboard_proto::ledger::v1::RecordKind;
use uuid::Uuid;

use crate::{
    chain::{self, Content, Digest, Hash},
    error::Error,
    merkle::Frontier,
    seal::{DataKey, Masters, OVERHEAD, WrappedKey},
};

/// A record as its writer made it, checked.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) id: Uuid,
    pub(crate) kind: RecordKind,
    pub(crate) conversation: String,
    pub(crate) turn: String,
    pub(crate) stage: String,
    /// By the writer's clock, in microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) subject: String,
    pub(crate) refers_to: Option<Uuid>,
    pub(crate) model: String,
    pub(crate) policy: String,
    pub(crate) prompt: String,
    pub(crate) knowledge: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Bytes to seal; empty for none.
    pub(crate) sealed: Vec<u8>,
}

/// Records of one request: all or none.
pub(crate) struct Batch {
    pub(crate) tenant: Tenant,
    pub(crate) drafts: Vec<Draft>,
}

/// The end of a tenant's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of the last record; 0 when there is none.
    pub(crate) sequence: u64,
    pub(crate) hash: Hash,
    pub(crate) tree: Frontier,
}

/// A record as it is kept.
#[derive(Clone, Default)]
pub(crate) struct Row {
    pub(crate) sequence: u64,
    /// What it is found by, each as the content has it.
    pub(crate) columns: Columns,
    /// The canonical encoding.
    pub(crate) content: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) sealed: Option<Sealed>,
}

/// What records are found by, as it stands in the store.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) id: Vec<u8>,
    pub(crate) kind: i64,
    pub(crate) conversation: Vec<u8>,
    pub(crate) turn: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) refers_to: Option<Vec<u8>>,
    pub(crate) ledger_time: i64,
}

/// Encrypted bytes.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    /// Whether their key is still there.
    pub(crate) key_lives: bool,
}

/// Says where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: Uuid,
    pub(crate) sequence: u64,
    pub(crate) hash: Hash,
    pub(crate) repeated: bool,
}

/// What to write for one tenant.
pub(crate) struct Plan {
    /// For each batch its receipts, or why none of it is written.
    pub(crate) outcomes: Vec<Result<Vec<Receipt>, Error>>,
    pub(crate) rows: Vec<Arc<Row>>,
    pub(crate) keys: Vec<WrappedKey>,
    /// The head that it goes on from, and the one that it leaves.
    pub(crate) before: Head,
    pub(crate) head: Head,
}

/// What is there before.
pub(crate) struct Known<'a> {
    pub(crate) head: Head,
    /// Records that have an id of the drafts.
    pub(crate) records: HashMap<Uuid, Arc<Row>>,
    /// Keys of the subjects of drafts with bytes to seal.
    pub(crate) keys: HashMap<String, DataKey>,
    pub(crate) masters: &'a Masters,
    /// By the ledger's clock, in microseconds since 1970.
    pub(crate) now: i64,
}

impl Head {
    /// The head of a chain without records.
    pub(crate) fn of(tenant: &str) -> Self {
        Self { sequence: 0, hash: chain::genesis(tenant), tree: Frontier::default() }
    }

    /// The head as a store keeps it; `None` where it is none.
    pub(crate) fn from_parts(sequence: i64, hash: &[u8], frontier: &[u8]) -> Option<Self> {
        let sequence = u64::try_from(sequence).ok()?;
        Some(Self { sequence, hash: hash.try_into().ok()?, tree: Frontier::from_bytes(sequence, frontier)? })
    }

    /// Takes the next record.
    pub(crate) fn push(&mut self, hash: Hash) {
        self.sequence += 1;
        self.hash = hash;
        self.tree.push(&hash);
    }
}

impl Row {
    /// The content, decoded.
    ///
    /// # Errors
    /// `Damaged`, which names the record.
    pub(crate) fn content(&self) -> Result<Content<'_>, Error> {
        Content::decode(&self.content)
            .map_err(|error| Error::Damaged { sequence: self.sequence, detail: error.to_string() })
    }

    /// The hash.
    ///
    /// # Errors
    /// `Damaged`, which names the record.
    pub(crate) fn hash(&self) -> Result<Hash, Error> {
        self.hash.as_slice().try_into().map_err(|_| Error::Damaged {
            sequence: self.sequence,
            detail: "its hash has not 32 bytes".into(),
        })
    }
}

impl Columns {
    /// Those of a content.
    pub(crate) fn of(content: &Content<'_>) -> Self {
        Self {
            id: content.id.as_bytes().to_vec(),
            kind: i64::from(content.kind as i32),
            conversation: content.conversation.into(),
            turn: content.turn.into(),
            subject: content.subject.into(),
            refers_to: content.refers_to.map(|id| id.as_bytes().to_vec()),
            ledger_time: content.ledger_time,
        }
    }

    /// Which one does not stand there as the content has it.
    pub(crate) fn differs_from(&self, content: &Content<'_>) -> Option<&'static str> {
        let same = [
            ("id", self.id == content.id.as_bytes()),
            ("kind", self.kind == i64::from(content.kind as i32)),
            ("conversation", self.conversation == content.conversation.as_bytes()),
            ("turn", self.turn == content.turn.as_bytes()),
            ("subject", self.subject == content.subject.as_bytes()),
            (
                "refers_to",
                self.refers_to.as_deref() == content.refers_to.as_ref().map(|id| &id.as_bytes()[..]),
            ),
            ("ledger_time", self.ledger_time == content.ledger_time),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
    }
}

/// Plans the batches of one tenant, in their order.
///
/// # Errors
/// What keeps all of them from being written; what is wrong with one is among the outcomes.
pub(crate) fn plan(batches: &[&Batch], known: Known<'_>) -> Result<Plan, Error> {
    let Known { head, mut records, mut keys, masters, now } = known;
    let outcomes = Vec::with_capacity(batches.len());
    let mut plan = Plan { outcomes, rows: vec![], keys: vec![], before: head.clone(), head };
    for batch in batches {
        let conflict = batch.drafts.iter().find_map(|draft| {
            let there = records.get(&draft.id)?;
            if !(1..=plan.head.sequence).contains(&there.sequence) {
                let detail = "it stands outside of the chain".into();
                return Some(Error::Damaged { sequence: there.sequence, detail });
            }
            match same(batch.tenant.as_str(), draft, there, &keys) {
                Ok(true) => None,
                Ok(false) => Some(Error::Conflict { id: draft.id }),
                Err(error) => Some(error),
            }
        });
        if let Some(error) = conflict {
            plan.outcomes.push(Err(error));
            continue;
        }
        let mut receipts = Vec::with_capacity(batch.drafts.len());
        for draft in &batch.drafts {
            if let Some(there) = records.get(&draft.id) {
                let (sequence, hash) = (there.sequence, there.hash()?);
                receipts.push(Receipt { id: draft.id, sequence, hash, repeated: true });
                continue;
            }
            let sealed = seal(batch.tenant.as_str(), draft, &mut keys, &mut plan.keys, masters)?;
            let row = Arc::new(row(batch.tenant.as_str(), draft, sealed, &mut plan.head, now));
            let (sequence, hash) = (plan.head.sequence, plan.head.hash);
            receipts.push(Receipt { id: draft.id, sequence, hash, repeated: false });
            records.insert(draft.id, Arc::clone(&row));
            plan.rows.push(row);
        }
        plan.outcomes.push(Ok(receipts));
    }
    Ok(plan)
}

/// Seals a draft's bytes with its subject's key, which is made where there is none.
fn seal(
    tenant: &str,
    draft: &Draft,
    keys: &mut HashMap<String, DataKey>,
    made: &mut Vec<WrappedKey>,
    masters: &Masters,
) -> Result<Option<Sealed>, Error> {
    if draft.sealed.is_empty() {
        return Ok(None);
    }
    if !keys.contains_key(&draft.subject) {
        let (wrapped, key) = masters.make(tenant, &draft.subject)?;
        made.push(wrapped);
        keys.insert(draft.subject.clone(), key);
    }
    let key = &keys[&draft.subject];
    let bytes = key.seal(tenant, draft.id, &draft.subject, &draft.sealed)?;
    Ok(Some(Sealed { key: key.id.as_bytes().to_vec(), bytes, key_lives: true }))
}

/// Makes the next record of the chain.
fn row(tenant: &str, draft: &Draft, sealed: Option<Sealed>, head: &mut Head, now: i64) -> Row {
    let attributes = chain::encode_attributes(&draft.attributes);
    let seal = sealed.as_ref().map(|sealed| Digest {
        key: Uuid::from_slice(&sealed.key).unwrap_or_default(),
        hash: chain::sha256(&[&sealed.bytes]),
        length: sealed.bytes.len() as u64,
    });
    let content =
        Content { sequence: head.sequence + 1, ledger_time: now, seal, ..draft.content(tenant, &attributes) };
    let encoded = content.encode();
    let hash = chain::hash(&head.hash, &encoded);
    head.push(hash);
    Row {
        sequence: content.sequence,
        columns: Columns::of(&content),
        content: encoded,
        hash: hash.to_vec(),
        sealed,
    }
}

impl Draft {
    /// The content as far as its writer says it.
    fn content<'a>(&'a self, tenant: &'a str, attributes: &'a [u8]) -> Content<'a> {
        Content {
            tenant,
            sequence: 0,
            id: self.id,
            kind: self.kind,
            conversation: &self.conversation,
            turn: &self.turn,
            stage: &self.stage,
            time: self.time,
            ledger_time: 0,
            subject: &self.subject,
            refers_to: self.refers_to,
            model: &self.model,
            policy: &self.policy,
            prompt: &self.prompt,
            knowledge: &self.knowledge,
            attributes,
            seal: None,
        }
    }
}

/// Whether a draft is the record that has its id. Of sealed bytes whose key is gone, only the length can be
/// compared.
fn same(tenant: &str, draft: &Draft, there: &Row, keys: &HashMap<String, DataKey>) -> Result<bool, Error> {
    let kept = there.content()?;
    let attributes = chain::encode_attributes(&draft.attributes);
    let as_draft = Content { sequence: 0, ledger_time: 0, seal: None, ..kept };
    if as_draft != draft.content(tenant, &attributes) || kept.seal.is_some() == draft.sealed.is_empty() {
        return Ok(false);
    }
    let (Some(digest), Some(sealed)) = (kept.seal, &there.sealed) else {
        return Ok(kept.seal.is_none());
    };
    match keys.get(&draft.subject).filter(|key| key.id == digest.key) {
        Some(key) => Ok(key.open(tenant, draft.id, &draft.subject, &sealed.bytes)? == draft.sealed),
        None => Ok(sealed.bytes.len() == draft.sealed.len() + OVERHEAD),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hex;

    pub(crate) fn masters() -> Masters {
        Masters::try_new("test", &format!("one:{}", hex::encode(&[1; 32]))).unwrap()
    }

    pub(crate) fn draft(number: u128) -> Draft {
        let id =
            uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000, &(number as u64).to_be_bytes_10());
        Draft {
            id: id.into_uuid(),
            kind: RecordKind::Route,
            conversation: format!("c{}", number % 7),
            turn: format!("t{number}"),
            stage: "route".into(),
            time: 1_700_000_000_000_000 + i64::try_from(number).unwrap(),
            subject: String::new(),
            refers_to: None,
            model: "small".into(),
            policy: "p1".into(),
            prompt: String::new(),
            knowledge: "k1".into(),
            attributes: BTreeMap::from([("why".into(), "cheapest".into())]),
            sealed: vec![],
        }
    }

    trait Ten {
        fn to_be_bytes_10(self) -> [u8; 10];
    }

    impl Ten for u64 {
        fn to_be_bytes_10(self) -> [u8; 10] {
            let mut bytes = [0; 10];
            bytes[2..].copy_from_slice(&self.to_be_bytes());
            bytes
        }
    }

    fn run(batches: &[&Batch], records: HashMap<Uuid, Arc<Row>>, head: Head, now: i64) -> Plan {
        plan(batches, Known { head, records, keys: HashMap::new(), masters: &masters(), now }).unwrap()
    }

    fn batch(drafts: Vec<Draft>) -> Batch {
        Batch { tenant: Tenant::try_new("acme").unwrap(), drafts }
    }

    #[test]
    fn records_go_on_from_the_head_whatever_the_clock_says() {
        let first = run(&[&batch(vec![draft(1), draft(2)])], HashMap::new(), Head::of("acme"), 100);
        let later = run(&[&batch(vec![draft(3)])], HashMap::new(), first.head.clone(), 50);
        assert_eq!((first.head.sequence, later.head.sequence), (2, 3));
        let (before, after) = (&first.rows[1], &later.rows[0]);
        assert_eq!(after.hash().unwrap(), chain::hash(&before.hash().unwrap(), &after.content));
        assert!(after.content().unwrap().ledger_time < before.content().unwrap().ledger_time);
    }

    #[test]
    fn a_repeat_is_the_same_record_and_other_content_a_conflict() {
        let mut other = draft(1);
        other.stage = "generate".into();
        let batches = [batch(vec![draft(1)]), batch(vec![draft(1), draft(2)]), batch(vec![draft(3), other])];
        let plan = run(&batches.iter().collect::<Vec<_>>(), HashMap::new(), Head::of("acme"), 1);
        assert_eq!(plan.rows.len(), 2, "the last batch is written as a whole or not at all");
        let repeated = &plan.outcomes[1].as_ref().unwrap()[0];
        assert!(repeated.repeated && repeated.sequence == 1);
        assert!(matches!(plan.outcomes[2], Err(Error::Conflict { id }) if id == draft(1).id));
    }

    #[test]
    fn sealed_bytes_take_part_in_what_is_the_same() {
        let secret = |bytes: &[u8]| {
            let mut draft = draft(1);
            (draft.subject, draft.sealed) = ("s".into(), bytes.to_vec());
            batch(vec![draft])
        };
        let batches = [secret(b"one"), secret(b"one"), secret(b"two"), batch(vec![draft(1)])];
        let plan = run(&batches.iter().collect::<Vec<_>>(), HashMap::new(), Head::of("acme"), 1);
        let fates: Vec<bool> = plan.outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(fates, [true, true, false, false]);
        assert_eq!(plan.keys.len(), 1);
        // Once the key is gone, nobody can tell.
        let there = HashMap::from([(draft(1).id, Arc::clone(&plan.rows[0]))]);
        let gone = run(&[&secret(b"two"), &secret(b"three")], there.clone(), plan.head, 2);
        let fates: Vec<bool> = gone.outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(fates, [true, false]);
        // A row that is not in the chain is no record.
        let forged = run(&[&secret(b"one")], there, Head::of("acme"), 2);
        assert!(matches!(forged.outcomes[0], Err(Error::Damaged { sequence: 1, .. })));
    }
}
