//! Where records are kept: SQLite in the data folder, or PostgreSQL.
//!
//! A [`Store`] locks a tenant's head, writes what [`crate::plan`] says in one transaction and answers when
//! it is durable. All else reads. One suite of tests runs against each.

mod filter;
pub(crate) mod postgres;
pub(crate) mod sqlite;
#[cfg(test)]
pub(crate) mod tests;

use mesh::Tenant;
use switchboard_mesh as mesh;
use uuid::Uuid;

pub(crate) use filter::{Filter, Value};

use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    error::Error,
    plan::{Batch, Head, Receipt, Row},
    seal::WrappedKey,
};

/// What became of the batches of a transaction, in their order, and of the chains that they are in, those
/// where all was there already among them.
#[derive(Default)]
pub(crate) struct Appended {
    pub(crate) outcomes: Vec<Result<Vec<Receipt>, Error>>,
    pub(crate) moves: Vec<Move>,
}

/// How far a transaction took a chain.
#[derive(Clone)]
pub(crate) struct Move {
    pub(crate) tenant: Tenant,
    /// The head that it found.
    pub(crate) before: Head,
    /// The head that it left.
    pub(crate) head: Head,
}

/// Where a tenant's rows stand, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The least and the greatest sequence, where there is a row.
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    /// The sequence of the head at the same moment.
    pub(crate) head: i64,
}

/// What an erasure did.
pub(crate) struct Erased {
    pub(crate) receipt: Receipt,
    /// Records that became unreadable.
    pub(crate) records: u64,
    pub(crate) moved: Move,
}

/// Names one record of a tenant.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Id(Uuid),
    Sequence(u64),
}

/// Keeps records. Nothing that it gives for one tenant is another's.
#[tonic::async_trait]
pub(crate) trait Store: Send + Sync {
    /// Whether other processes may append to the same chains.
    fn shared(&self) -> bool;

    /// Writes batches in one transaction, at `now` in microseconds since 1970.
    ///
    /// # Errors
    /// What kept all of them from being written; what is wrong with one, or with what one tenant has in the
    /// store, is among the outcomes.
    async fn append(&self, batches: Vec<Batch>, now: i64) -> Result<Appended, Error>;

    /// Destroys a subject's key and writes the one record of `batch`, in one transaction. Where that record
    /// is there already, nothing is destroyed.
    async fn erase(&self, batch: Batch, subject: String, now: i64) -> Result<Erased, Error>;

    /// The end of a tenant's chain.
    async fn head(&self, tenant: &Tenant) -> Result<Head, Error>;

    /// The first and the last row of a tenant, with the head.
    async fn bounds(&self, tenant: &Tenant) -> Result<Bounds, Error>;

    /// Records in order of sequence from `from` on, at most `limit` and about 8 MiB, with their sealed
    /// bytes. Those that stand there, whatever they are: verification reads by this.
    async fn scan(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Row>, Error>;

    /// One record of the chain, with its sealed bytes.
    async fn find(&self, tenant: &Tenant, which: Which) -> Result<Option<Row>, Error>;

    /// Records of the chain that a filter takes, in its order, at most `limit`; their sealed bytes are left out.
    async fn query(&self, tenant: &Tenant, filter: Filter, limit: usize) -> Result<Vec<Row>, Error>;

    /// Hashes of records in order of sequence from `from` on, at most `limit`.
    async fn hashes(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Hash>, Error>;

    /// The subject's key with this id.
    async fn key(&self, tenant: &Tenant, id: Uuid) -> Result<Option<WrappedKey>, Error>;

    /// Keys of subjects that another master key than `master` wraps, at most `limit`.
    async fn wrapped_by_others(&self, master: &str, limit: usize) -> Result<Vec<WrappedKey>, Error>;

    /// Puts keys that were wrapped anew in place of what they were, where they are still there.
    async fn rewrap(&self, keys: Vec<WrappedKey>) -> Result<(), Error>;

    /// Keeps checkpoints; one that is there already stays.
    async fn add_checkpoints(&self, checkpoints: Vec<Checkpoint>) -> Result<(), Error>;

    /// Checkpoints with a sequence below `below`, newest first, at most `limit`.
    async fn checkpoints_below(
        &self,
        tenant: &Tenant,
        below: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error>;

    /// Checkpoints with a sequence of at least `from`, oldest first, at most `limit`.
    async fn checkpoints_from(
        &self,
        tenant: &Tenant,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error>;

    /// Every tenant that has records, in order of name.
    async fn tenants(&self) -> Result<Vec<Tenant>, Error>;
}

/// A sequence as a database's number; the chain cannot get so long that it is not one.
fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// A checkpoint as a store keeps it, in its place.
///
/// # Errors
/// `Damaged` when it is none or is another's.
fn checkpoint(tenant: &Tenant, sequence: u64, line: &[u8]) -> Result<Checkpoint, Error> {
    std::str::from_utf8(line)
        .ok()
        .and_then(Checkpoint::from_line)
        .filter(|found| found.tenant == tenant.as_str() && found.sequence == sequence)
        .ok_or_else(|| Error::Damaged { sequence, detail: "its checkpoint is none".into() })
}
