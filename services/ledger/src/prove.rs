//! Proves that one record is in what a checkpoint covers.

use mesh::Tenant;
use switchboard_mesh as mesh;
use uuid::Uuid;

use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    error::Error,
    merkle::{self, Prover},
    plan::Row,
    store::{Store, Which},
};

/// Hashes that are read at once.
const PAGE: usize = 20_000;

/// A record with its audit path.
pub(crate) struct Proof {
    pub(crate) row: Row,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) path: Vec<Hash>,
}

/// Makes a proof against the checkpoint at `sequence`, or the latest one for 0. Reads the hash of every
/// record that it covers, some million a second.
///
/// # Errors
/// `Gone`, `NotCovered`, or `Damaged` when what is stored does not lead to the checkpoint's root.
pub(crate) async fn prove(
    store: &dyn Store,
    tenant: &Tenant,
    id: Uuid,
    sequence: u64,
) -> Result<Proof, Error> {
    let row = store.find(tenant, Which::Id(id)).await?.ok_or(Error::Gone)?;
    let checkpoint = match sequence {
        0 => store.checkpoints_below(tenant, u64::MAX, 1).await?.pop(),
        at => store.checkpoints_from(tenant, at, 1).await?.pop().filter(|found| found.sequence == at),
    };
    let checkpoint = checkpoint
        .filter(|checkpoint| checkpoint.sequence >= row.sequence)
        .ok_or(Error::NotCovered { what: "the record" })?;
    let size = checkpoint.sequence;
    let index = row.sequence.checked_sub(1).ok_or(Error::Gone)?;
    let mut prover = Prover::new(index, size).ok_or(Error::NotCovered { what: "the record" })?;
    let mut next = 1;
    while next <= size {
        let limit = usize::try_from(size - next + 1).unwrap_or(PAGE).min(PAGE);
        let hashes = store.hashes(tenant, next, limit).await?;
        if hashes.is_empty() {
            return Err(Error::Damaged { sequence: next, detail: "it is not there".into() });
        }
        next += hashes.len() as u64;
        let pushed = tokio::task::spawn_blocking(move || {
            hashes.iter().for_each(|hash| prover.push(hash));
            prover
        });
        prover = pushed.await.map_err(|_| Error::Lost)?;
    }
    let path = prover.path();
    if !merkle::verify(&row.hash()?, index, size, &path, &checkpoint.root) {
        let detail = "what is stored does not lead to the root of the checkpoint".into();
        return Err(Error::Damaged { sequence: row.sequence, detail });
    }
    Ok(Proof { row, checkpoint, path })
}
