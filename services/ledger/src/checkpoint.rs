//! Signed statements of what a tenant's ledger was.
//!
//! A [`Checkpoint`] says: up to this record the chain has this head, and the tree over it this root. Whoever
//! changes the store cannot make another one without the signing key, so a chain that was made again does not
//! fit those that are kept elsewhere.

use std::collections::BTreeMap;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{
    chain::{Hash, sha256},
    error::Error,
    hex,
    plan::Head,
};

/// A signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) tenant: String,
    /// Of the last record that it covers.
    pub(crate) sequence: u64,
    /// The hash of that record.
    pub(crate) head: Hash,
    /// Of the tree over all records up to it.
    pub(crate) root: Hash,
    /// When it was signed, in microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) key_id: String,
    pub(crate) signature: [u8; 64],
    pub(crate) public_key: [u8; 32],
}

/// Signs checkpoints.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// The public keys that are believed, by id.
#[derive(Clone, Default)]
pub(crate) struct Trusted(BTreeMap<String, [u8; 32]>);

/// The id of a public key.
pub(crate) fn key_id(public: &[u8; 32]) -> String {
    hex::encode(&sha256(&[public])[..8])
}

impl Signer {
    /// Signs with the private key `seed`.
    ///
    /// # Errors
    /// `Key` when it is none.
    pub(crate) fn try_new(seed: &[u8; 32]) -> Result<Self, Error> {
        let refused = || Error::Key { key: "ledger.signing_key".into(), allowed: "an Ed25519 key".into() };
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| refused())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| refused())?;
        Ok(Self { pair, public })
    }

    /// The public key.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Signs what `head` says of the tenant's ledger, at `time` in microseconds since 1970.
    pub(crate) fn sign(&self, tenant: &str, head: &Head, time: i64) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            tenant: tenant.to_owned(),
            sequence: head.sequence,
            head: head.hash,
            root: head.tree.root(),
            time,
            key_id: key_id(&self.public),
            signature: [0; 64],
            public_key: self.public,
        };
        let signature = self.pair.sign(&checkpoint.statement());
        checkpoint.signature.copy_from_slice(signature.as_ref());
        checkpoint
    }
}

impl Trusted {
    /// Believes these keys.
    pub(crate) fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self(keys.into_iter().map(|key| (key_id(&key), key)).collect())
    }

    /// Checks the signature; the public key that a checkpoint brings is not believed.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub(crate) fn check(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let Some(public) = self.0.get(&checkpoint.key_id) else {
            let known = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "the checkpoint at sequence {} is signed with the key {:?}, which is not trusted (trusted: {known})",
                checkpoint.sequence, checkpoint.key_id
            ));
        };
        UnparsedPublicKey::new(&ED25519, public)
            .verify(&checkpoint.statement(), &checkpoint.signature)
            .map_err(|_| {
                format!("the signature of the checkpoint at sequence {} does not fit", checkpoint.sequence)
            })
    }
}

impl Checkpoint {
    /// What is signed, as the contract tells at `Checkpoint.signature`.
    fn statement(&self) -> Vec<u8> {
        let parts: [&[u8]; 6] = [
            self.tenant.as_bytes(),
            &self.sequence.to_be_bytes(),
            &self.head,
            &self.root,
            &self.time.to_be_bytes(),
            self.key_id.as_bytes(),
        ];
        let mut bytes = b"switchboard.ledger.checkpoint.v1\0".to_vec();
        for part in parts {
            let length = u32::try_from(part.len()).expect("tenants and key ids are short");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// One line of JSON, for files.
    pub(crate) fn to_line(&self) -> String {
        let line = Line {
            tenant: self.tenant.clone(),
            sequence: self.sequence,
            head: hex::encode(&self.head),
            root: hex::encode(&self.root),
            time: self.time,
            key_id: self.key_id.clone(),
            signature: hex::encode(&self.signature),
            public_key: hex::encode(&self.public_key),
        };
        serde_json::to_string(&line).expect("texts and numbers are always JSON")
    }

    /// Reads [`Checkpoint::to_line`].
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        Some(Self {
            head: hex::decode(&line.head)?,
            root: hex::decode(&line.root)?,
            signature: hex::decode(&line.signature)?,
            public_key: hex::decode(&line.public_key)?,
            tenant: line.tenant,
            sequence: line.sequence,
            time: line.time,
            key_id: line.key_id,
        })
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant: String,
    sequence: u64,
    head: String,
    root: String,
    time: i64,
    key_id: String,
    signature: String,
    public_key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_holds_only_as_it_was_signed_and_by_a_key_that_is_trusted() {
        let signer = Signer::try_new(&[7; 32]).unwrap();
        let mut head = Head::of("acme");
        head.sequence = 3;
        let signed = signer.sign("acme", &head, 5);
        let trusted = Trusted::new([signer.public()]);
        assert_eq!(trusted.check(&signed), Ok(()));
        assert_eq!(Checkpoint::from_line(&signed.to_line()).as_ref(), Some(&signed));
        let mut other = [(); 5].map(|()| signed.clone());
        other[0].tenant = "globex".into();
        other[1].sequence = 4;
        other[2].head[0] ^= 1;
        other[3].root[31] ^= 128;
        other[4].time = 6;
        for changed in other {
            assert!(trusted.check(&changed).unwrap_err().contains("does not fit"), "{changed:?}");
        }
        // A key that a checkpoint brings itself is worth nothing.
        let forged = Signer::try_new(&[8; 32]).unwrap().sign("acme", &head, 5);
        assert!(trusted.check(&forged).unwrap_err().contains("not trusted"));
        let borrowed = Checkpoint { key_id: signed.key_id, ..forged };
        assert!(trusted.check(&borrowed).unwrap_err().contains("does not fit"));
    }
}
