//! Reads a whole chain and says whether it is what it was, and if not, which record is the first bad one
//! and how.
//!
//! Three things are compared: each record with its own hash and the one before; what a record is found by,
//! and its sealed bytes, with its content; and the chain with everything that was signed, in the store and
//! outside of it. The first shows a change, a swap and a gap, the last a chain that was cut at its end or
//! made again. At the end it is asked whether rows stand outside of the chain, and whether each key of a
//! subject that is gone has an erasure that says why.

use std::{collections::BTreeMap, sync::Arc};

use mesh::Tenant;
use switchboard_mesh as mesh;
use switchboard_proto::ledger::v1::{Fault, RecordKind};
use uuid::Uuid;

use crate::{
    chain::{self, Content, Hash},
    checkpoint::{Checkpoint, Trusted},
    error::Error,
    heads,
    merkle::Frontier,
    plan::{Head, Row},
    store::{Bounds, Filter, Store, Which},
};

/// Records that are read at once: a page is checked while the next one is read.
const PAGE: usize = 4000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What is wrong; `None` where nothing is.
    pub(crate) bad: Option<Bad>,
    /// Records read.
    pub(crate) records: u64,
    /// Signed statements that agree.
    pub(crate) checkpoints: u64,
    /// Last sequence that one of them covers.
    pub(crate) signed_to: u64,
    /// Hash of the last good record.
    pub(crate) head: Hash,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) fault: Fault,
    pub(crate) sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) id: Option<Uuid>,
    pub(crate) reason: String,
}

/// A signed statement to compare with, or why it is none.
struct Signed {
    sequence: u64,
    whence: &'static str,
    found: Result<Checkpoint, String>,
}

/// Verifies the chain of `tenant` from sequence `from` on; `folder` has the heads outside the store.
/// `progress` is told how many records of how many were read.
///
/// # Errors
/// When the store or the folder cannot be read now; what is wrong with what they hold is the verdict.
pub(crate) async fn verify(
    store: &dyn Store,
    folder: &std::path::Path,
    trusted: &Trusted,
    tenant: &Tenant,
    from: u64,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Verdict, Error> {
    let from = from.max(1);
    // What is signed is read before the head: records that are appended meanwhile are in neither.
    let mut signed = outside(folder, tenant).await?;
    signed.extend(inside(store, tenant).await?);
    for one in &mut signed {
        if let Ok(checkpoint) = &one.found
            && let Err(reason) = trusted.check(checkpoint)
        {
            one.found = Err(reason);
        }
    }
    signed.sort_by_key(|one| one.sequence);
    let (head, damaged) = match store.head(tenant).await {
        Ok(head) => (head, false),
        Err(Error::DamagedHead) => (Head::of(tenant.as_str()), true),
        Err(error) => return Err(error),
    };
    let last_signed =
        signed.iter().filter(|one| one.found.is_ok()).map(|one| one.sequence).max().unwrap_or(0);
    let target = head.sequence.max(last_signed);
    let start = match from {
        1 => chain::genesis(tenant.as_str()),
        _ => match store.find(tenant, Which::Sequence(from - 1)).await? {
            Some(row) => row.hash()?,
            None => return Err(Error::Gone),
        },
    };
    let mut walk = Walk {
        tenant: tenant.clone(),
        next: from,
        target,
        previous: start,
        tree: (from == 1).then(Frontier::default),
        at: signed.partition_point(|one| one.sequence < from),
        signed: Arc::new(signed),
        dead: BTreeMap::new(),
        verdict: Verdict { bad: None, records: 0, checkpoints: 0, signed_to: from - 1, head: start },
    };
    let mut page = read(store, tenant, from).await;
    while walk.verdict.bad.is_none() && walk.next <= target {
        let rows = match page {
            Ok(rows) => rows,
            Err(Unread::Now(error)) => return Err(error),
            Err(Unread::Ever(reason)) => {
                walk.bad(Fault::Unreadable, walk.next, target, None, reason);
                break;
            }
        };
        let Some(last) = rows.last() else { break };
        let next = last.sequence.saturating_add(1);
        let checked = tokio::task::spawn_blocking(move || {
            walk.take(&rows);
            walk
        });
        let (checked, read) = tokio::join!(checked, read(store, tenant, next));
        walk = checked.map_err(|_| Error::Lost)?;
        page = read;
        progress(walk.verdict.records, (target + 1).saturating_sub(from));
    }
    walk.end(&head, damaged);
    if walk.verdict.bad.is_none() {
        walk.verdict.bad = match unexplained(store, tenant, &walk.dead).await? {
            None => stray(store.bounds(tenant).await?),
            found => found,
        };
    }
    Ok(walk.verdict)
}

/// The first record whose key was destroyed without an erasure of its subject after it.
async fn unexplained(
    store: &dyn Store,
    tenant: &Tenant,
    dead: &BTreeMap<Vec<u8>, (u64, Option<Uuid>)>,
) -> Result<Option<Bad>, Error> {
    let mut first: Option<Bad> = None;
    for (subject, (sequence, id)) in dead {
        // One that was erased while the records were read has its erasure after them.
        let erasures = Filter {
            kinds: vec![RecordKind::Erasure],
            subject: String::from_utf8_lossy(subject).into_owned(),
            oldest_first: true,
            after: Some(*sequence),
            ..Filter::default()
        };
        if first.as_ref().is_none_or(|first| *sequence < first.sequence)
            && store.query(tenant, erasures, 1).await?.is_empty()
        {
            let reason =
                "the key of its sealed bytes was destroyed, and no erasure of its subject is recorded";
            first = Some(Bad {
                fault: Fault::Edited,
                sequence: *sequence,
                last_sequence: *sequence,
                id: *id,
                reason: reason.into(),
            });
        }
    }
    Ok(first)
}

/// Rows before the first place of the chain or after its head.
fn stray(Bounds { first, last, head }: Bounds) -> Option<Bad> {
    let (first, last) = (first?, last?);
    let (place, reason) = if first < 1 {
        (first, "a row stands before the first record of the chain")
    } else if !(1..=head).contains(&last) {
        (last, "a row stands after the head of the chain")
    } else {
        return None;
    };
    let sequence = u64::try_from(place).unwrap_or(0);
    Some(Bad { fault: Fault::Edited, sequence, last_sequence: sequence, id: None, reason: reason.into() })
}

/// Why a page was not read.
enum Unread {
    /// The store is away; nothing is known.
    Now(Error),
    /// The store is damaged.
    Ever(String),
}

async fn read(store: &dyn Store, tenant: &Tenant, from: u64) -> Result<Vec<Row>, Unread> {
    store.scan(tenant, from, PAGE).await.map_err(|error| match error {
        Error::Corrupt { .. } | Error::Storage { .. } | Error::Damaged { .. } => {
            Unread::Ever(format!("the store cannot give the record: {error}"))
        }
        error => Unread::Now(error),
    })
}

/// What was signed and is kept outside the store.
async fn outside(folder: &std::path::Path, tenant: &Tenant) -> Result<Vec<Signed>, Error> {
    let (folder, name) = (folder.to_owned(), tenant.as_str().to_owned());
    let read = tokio::task::spawn_blocking(move || heads::read(&folder, &name));
    let heads = read.await.map_err(|_| Error::Lost)??;
    let signed = heads.into_iter().map(|head| Signed {
        sequence: head.sequence,
        whence: "outside the store",
        found: Ok(head),
    });
    Ok(signed.collect())
}

/// What was signed and is kept in the store.
async fn inside(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Signed>, Error> {
    let whence = "in the store";
    let mut signed = Vec::new();
    let mut from = 0;
    loop {
        match store.checkpoints_from(tenant, from, PAGE).await {
            Ok(page) => {
                let Some(last) = page.last() else { return Ok(signed) };
                from = last.sequence.saturating_add(1);
                signed.extend(page.into_iter().map(|checkpoint| Signed {
                    sequence: checkpoint.sequence,
                    whence,
                    found: Ok(checkpoint),
                }));
            }
            // One that is damaged is told in its place; what stands after it is read singly as far as it
            // goes.
            Err(Error::Damaged { sequence, detail }) if sequence >= from => {
                let sound = store.checkpoints_from(tenant, from, 1).await;
                let (next, found) = match sound {
                    Ok(page) => match page.into_iter().next() {
                        Some(checkpoint) => (checkpoint.sequence, Ok(checkpoint)),
                        None => (sequence, Err(detail)),
                    },
                    Err(Error::Damaged { sequence, detail }) => (sequence, Err(detail)),
                    Err(error) => return Err(error),
                };
                signed.push(Signed { sequence: next, whence, found });
                from = next.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A verification under way.
struct Walk {
    tenant: Tenant,
    /// The sequence that comes next.
    next: u64,
    /// The last sequence that must be there.
    target: u64,
    previous: Hash,
    /// The tree, where the walk began at its first leaf.
    tree: Option<Frontier>,
    signed: Arc<Vec<Signed>>,
    /// The first signed statement that was not compared yet.
    at: usize,
    /// By subject, the first record whose key is gone and that no erasure followed yet.
    dead: BTreeMap<Vec<u8>, (u64, Option<Uuid>)>,
    verdict: Verdict,
}

impl Walk {
    fn bad(
        &mut self,
        fault: Fault,
        sequence: u64,
        last_sequence: u64,
        id: Option<Uuid>,
        reason: impl Into<String>,
    ) {
        if self.verdict.bad.is_none() {
            self.verdict.bad = Some(Bad { fault, sequence, last_sequence, id, reason: reason.into() });
        }
    }

    /// Takes records in order of sequence.
    fn take(&mut self, rows: &[Row]) {
        for row in rows {
            if self.next > self.target || self.verdict.bad.is_some() {
                return;
            }
            self.verdict.records += 1;
            match check(self.tenant.as_str(), self.next, &self.previous, row) {
                Ok(hash) => {
                    self.watch(row);
                    self.pass(hash);
                }
                Err(bad) => self.verdict.bad = Some(bad),
            }
        }
    }

    /// Notes a key that is gone, and an erasure, which is why.
    fn watch(&mut self, row: &Row) {
        if row.columns.kind == i64::from(RecordKind::Erasure as i32) {
            self.dead.remove(&row.columns.subject);
        }
        if row.sealed.as_ref().is_some_and(|sealed| !sealed.key_lives) {
            let place = (row.sequence, Uuid::from_slice(&row.columns.id).ok());
            self.dead.entry(row.columns.subject.clone()).or_insert(place);
        }
    }

    /// Goes past a record that is good by itself, and compares what was signed of it.
    fn pass(&mut self, hash: Hash) {
        if let Some(tree) = &mut self.tree {
            tree.push(&hash);
        }
        let signed = Arc::clone(&self.signed);
        while let Some(one) = signed.get(self.at).filter(|one| one.sequence <= self.next) {
            self.at += 1;
            let since = self.verdict.signed_to + 1;
            match &one.found {
                Err(reason) => {
                    let reason = format!("{} ({})", reason, one.whence);
                    return self.bad(Fault::Checkpoint, one.sequence, one.sequence, None, reason);
                }
                Ok(checkpoint) if checkpoint.head != hash => {
                    let reason = format!(
                        "all hashes fit each other, but a signed head {} says otherwise at sequence {}: the chain was \
                         made again without the signing key",
                        one.whence, one.sequence
                    );
                    return self.bad(Fault::Rewritten, since.min(one.sequence), one.sequence, None, reason);
                }
                Ok(checkpoint) => {
                    if self.tree.as_ref().is_some_and(|tree| tree.root() != checkpoint.root) {
                        let reason =
                            format!("the root of the checkpoint at sequence {} is another", one.sequence);
                        return self.bad(Fault::Checkpoint, one.sequence, one.sequence, None, reason);
                    }
                    self.verdict.checkpoints += 1;
                    self.verdict.signed_to = one.sequence;
                }
            }
        }
        self.previous = hash;
        self.verdict.head = hash;
        self.next += 1;
    }

    /// Says what is wrong at the end.
    fn end(&mut self, head: &Head, damaged: bool) {
        let last = self.next - 1;
        if last < self.target {
            let reason = format!(
                "the chain ends at sequence {last}; {} says that it went on to {}",
                if head.sequence == self.target { "its head" } else { "a signed head" },
                self.target
            );
            self.bad(Fault::Cut, self.next, self.target, None, reason);
        } else if damaged {
            self.bad(Fault::Edited, last, last, None, "the head of the chain in the store cannot be read");
        } else if head.sequence != last
            || head.hash != self.previous
            || self.tree.as_ref().is_some_and(|tree| *tree != head.tree)
        {
            let reason =
                format!("the head in the store, of sequence {}, is not that of the chain", head.sequence);
            self.bad(Fault::Edited, head.sequence, last, None, reason);
        }
        // Bad statements about records that are not there.
        let signed = Arc::clone(&self.signed);
        if let Some((one, reason)) =
            signed[self.at..].iter().find_map(|one| Some((one, one.found.as_ref().err()?)))
        {
            let reason = format!("{reason} ({})", one.whence);
            self.bad(Fault::Checkpoint, one.sequence, one.sequence, None, reason);
        }
    }
}

/// Checks one record, which is to have `sequence` and to follow `previous`, and returns its hash.
fn check(tenant: &str, sequence: u64, previous: &Hash, row: &Row) -> Result<Hash, Bad> {
    let named = Uuid::from_slice(&row.columns.id).ok();
    let bad = |fault, id: Option<Uuid>, reason: String| {
        Err(Bad { fault, sequence, last_sequence: sequence, id, reason })
    };
    if row.sequence > sequence {
        let reason = format!("after sequence {} comes {}", sequence - 1, row.sequence);
        return Err(Bad {
            fault: Fault::Missing,
            sequence,
            last_sequence: row.sequence - 1,
            id: None,
            reason,
        });
    }
    let content = match Content::decode(&row.content) {
        Ok(content) => content,
        Err(error) => return bad(Fault::Edited, named, error.to_string()),
    };
    let id = Some(content.id);
    if content.tenant != tenant {
        return bad(Fault::Edited, id, "the content is another tenant's".into());
    }
    if content.sequence != sequence {
        let reason = format!("the content is that of sequence {}", content.sequence);
        return bad(Fault::Reordered, id, reason);
    }
    let hash = chain::hash(previous, &row.content);
    if hash[..] != row.hash[..] {
        return bad(Fault::Edited, id, "the hash is not that of the content and the record before".into());
    }
    if let Some(column) = row.columns.differs_from(&content) {
        return bad(Fault::Edited, id, format!("{column} is not what the content has"));
    }
    match (&content.seal, &row.sealed) {
        (None, None) => Ok(hash),
        (None, Some(_)) => bad(Fault::Edited, id, "it has sealed bytes that are not its own".into()),
        (Some(_), None) => bad(Fault::Edited, id, "its sealed bytes are not there".into()),
        (Some(digest), Some(sealed)) => {
            if sealed.key != digest.key.as_bytes() {
                return bad(Fault::Edited, id, "its sealed bytes name another key".into());
            }
            if digest.length != sealed.bytes.len() as u64 || digest.hash != chain::sha256(&[&sealed.bytes]) {
                return bad(Fault::Edited, id, "its sealed bytes were changed".into());
            }
            Ok(hash)
        }
    }
}
