//! A ledger's data folder, read without a server: for auditors, and for when nothing runs.
//!
//! Whoever holds the folder keeps it; nothing is written to it.

use std::path::{Path, PathBuf};

use mesh::Tenant;
use proto::ledger::v1;
use switchboard_mesh as mesh;
use switchboard_proto as proto;

use crate::{
    Places, ROLE,
    chain::{self, Content},
    checkpoint::{Checkpoint, Trusted},
    config::Config,
    encode,
    error::Error,
    heads, hex, keys, merkle,
    seal::Masters,
    store::{Store as _, sqlite::Sqlite},
    verify,
};

/// A data folder's ledger, open for reading.
pub struct Folder {
    store: Sqlite,
    trusted: Trusted,
    heads: PathBuf,
}

impl Folder {
    /// Opens the ledger of a data folder. `public_keys`, 64 hexadecimal digits each, are believed in place
    /// of the folder's own and the configuration's where there are any. Blocks.
    ///
    /// # Errors
    /// `File` where there is no ledger, `Key` for a key that is none, `Corrupt` or `Newer`.
    pub fn open(data: &Path, config: &Config, public_keys: &[String]) -> Result<Self, Error> {
        let folder = data.join(ROLE);
        let trusted = if public_keys.is_empty() {
            keys::load_trusted(config, &folder)?
        } else {
            let keys = public_keys.iter().map(|key| {
                hex::decode::<32>(key).ok_or_else(|| Error::Key {
                    key: "public key".into(),
                    allowed: "64 hexadecimal digits".into(),
                })
            });
            Trusted::new(keys.collect::<Result<Vec<_>, _>>()?)
        };
        let store = Sqlite::read(&folder, Masters::none())?;
        Ok(Self { store, trusted, heads: Places::of(config, &folder).heads })
    }

    /// Every tenant with records, or with a signed head of records that are gone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        let mut tenants = self.store.tenants().await?;
        tenants.extend(heads::tenants(&self.heads)?.iter().filter_map(|name| Tenant::try_new(name).ok()));
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants)
    }

    /// Verifies a tenant's chain from sequence `from` on; `progress` is told how many records of how many
    /// were read.
    ///
    /// # Errors
    /// When the folder cannot be read; what is wrong with what it holds is the verdict.
    pub async fn verify(
        &self,
        tenant: &Tenant,
        from: u64,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<v1::Verdict, Error> {
        let verdict = verify::verify(&self.store, &self.heads, &self.trusted, tenant, from, progress).await?;
        Ok(encode::verdict(verdict))
    }
}

/// A proof of inclusion, as text: bytes are hexadecimal digits.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The tenant.
    pub tenant: String,
    /// The record's place, from 1.
    pub sequence: u64,
    /// The record's id.
    pub record_id: String,
    /// The record's canonical encoding.
    pub content: String,
    /// The hash of the record before.
    pub previous_hash: String,
    /// The audit path, from the leaf's sibling up.
    pub path: Vec<String>,
    /// Sequence of the checkpoint.
    pub checkpoint_sequence: u64,
    /// Hash of the last record that the checkpoint covers.
    pub head: String,
    /// Root of the tree over all records that it covers.
    pub root: String,
    /// When it was signed, in microseconds since 1970.
    pub time: i64,
    /// Id of the key.
    pub key_id: String,
    /// The signature.
    pub signature: String,
}

/// Checks a proof with a public key, 64 hexadecimal digits, and nothing else.
///
/// # Errors
/// Why it does not hold, for a person.
pub fn check_proof(proof: &Proof, public_key: &str) -> Result<(), String> {
    fn bytes<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
        hex::decode(text).ok_or_else(|| format!("{what} has not {} hexadecimal digits", N * 2))
    }
    let public_key = bytes::<32>("the public key", public_key)?;
    let checkpoint = Checkpoint {
        tenant: proof.tenant.clone(),
        sequence: proof.checkpoint_sequence,
        head: bytes("the head", &proof.head)?,
        root: bytes("the root", &proof.root)?,
        time: proof.time,
        key_id: proof.key_id.clone(),
        signature: bytes("the signature", &proof.signature)?,
        public_key,
    };
    Trusted::new([public_key]).check(&checkpoint)?;
    let content = hex::decode_any(&proof.content).ok_or("the content is no run of hexadecimal digits")?;
    let said = Content::decode(&content).map_err(|error| error.to_string())?;
    if said.tenant != proof.tenant
        || said.sequence != proof.sequence
        || said.id.to_string() != proof.record_id
    {
        return Err("the content is that of another record".into());
    }
    let hash = chain::hash(&bytes("the hash before", &proof.previous_hash)?, &content);
    let path =
        proof.path.iter().map(|hash| bytes("a hash of the path", hash)).collect::<Result<Vec<_>, _>>()?;
    let index = proof.sequence.checked_sub(1).ok_or("sequences begin at 1")?;
    if merkle::verify(&hash, index, proof.checkpoint_sequence, &path, &checkpoint.root) {
        Ok(())
    } else {
        Err("the path does not lead from the record to the root that was signed".into())
    }
}
