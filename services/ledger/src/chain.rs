//! How a record is encoded, and how its hash holds it to the one before.
//!
//! A [`Content`] is a record's open part with the digest of its sealed bytes. [`Content::encode`] is the one
//! canonical form, as the contract tells at `Record.content`: a mark with the version, then every field in
//! order with its number and length, so that no two records share an encoding and none has two.
//! [`Content::decode`] takes nothing else. A record's [`hash`] is over the hash before and the encoding.

use std::{collections::BTreeMap, str};

use ring::digest::{Context, SHA256};
use switchboard_proto::ledger::v1::RecordKind;
use uuid::Uuid;

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// Begins every encoding; the last character is its version.
const MARK: &[u8; 4] = b"SBL1";
/// Fields of an encoding.
const FIELDS: u8 = 20;

/// The open part of a record, with its place and what holds its sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) sequence: u64,
    pub(crate) id: Uuid,
    pub(crate) kind: RecordKind,
    pub(crate) conversation: &'a str,
    pub(crate) turn: &'a str,
    pub(crate) stage: &'a str,
    /// By the writer's clock, in microseconds since 1970.
    pub(crate) time: i64,
    /// By the ledger's clock, in microseconds since 1970.
    pub(crate) ledger_time: i64,
    pub(crate) subject: &'a str,
    pub(crate) refers_to: Option<Uuid>,
    pub(crate) model: &'a str,
    pub(crate) policy: &'a str,
    pub(crate) prompt: &'a str,
    pub(crate) knowledge: &'a str,
    /// As [`encode_attributes`] makes them.
    pub(crate) attributes: &'a [u8],
    pub(crate) seal: Option<Digest>,
}

/// What the chain knows of sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The subject's key.
    pub(crate) key: Uuid,
    /// SHA-256 over the encrypted bytes.
    pub(crate) hash: Hash,
    /// Length of the encrypted bytes.
    pub(crate) length: u64,
}

/// Bytes that are no encoding of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content is no encoding of a record: {0}")]
pub(crate) struct Malformed(&'static str);

impl<'a> Content<'a> {
    /// The canonical encoding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let texts = [self.tenant, self.conversation, self.turn, self.stage, self.subject, self.model];
        let length: usize = texts.iter().map(|text| text.len()).sum::<usize>() + self.attributes.len() + 400;
        let mut out = Fields { bytes: Vec::with_capacity(length), number: 0 };
        out.bytes.extend_from_slice(MARK);
        out.put(self.tenant.as_bytes());
        out.put(&self.sequence.to_be_bytes());
        out.put(self.id.as_bytes());
        out.put(name(self.kind).as_bytes());
        out.put(self.conversation.as_bytes());
        out.put(self.turn.as_bytes());
        out.put(self.stage.as_bytes());
        out.put(&self.time.to_be_bytes());
        out.put(&self.ledger_time.to_be_bytes());
        out.put(self.subject.as_bytes());
        out.put(self.refers_to.as_ref().map_or(&[], |id| id.as_bytes()));
        out.put(self.model.as_bytes());
        out.put(self.policy.as_bytes());
        out.put(self.prompt.as_bytes());
        out.put(self.knowledge.as_bytes());
        out.put(self.attributes);
        out.put(&[u8::from(self.seal.is_some())]);
        out.put(self.seal.as_ref().map_or(&[], |seal| seal.key.as_bytes()));
        out.put(self.seal.as_ref().map_or(&[], |seal| &seal.hash));
        out.put(&self.seal.map_or(0, |seal| seal.length).to_be_bytes());
        out.bytes
    }

    /// Reads an encoding; takes only what [`Content::encode`] makes.
    ///
    /// # Errors
    /// [`Malformed`], which says where it departs.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let rest = bytes.strip_prefix(MARK).ok_or(Malformed("it does not begin with its mark"))?;
        let mut from = Reader { rest, number: 0 };
        let content = Self {
            tenant: from.text()?,
            sequence: from.number()?,
            id: from.id()?.ok_or(Malformed("it has no id"))?,
            kind: kind(from.text()?).ok_or(Malformed("its kind is unknown"))?,
            conversation: from.text()?,
            turn: from.text()?,
            stage: from.text()?,
            time: from.number()?.cast_signed(),
            ledger_time: from.number()?.cast_signed(),
            subject: from.text()?,
            refers_to: from.id()?,
            model: from.text()?,
            policy: from.text()?,
            prompt: from.text()?,
            knowledge: from.text()?,
            attributes: from.field()?,
            seal: from.seal()?,
        };
        if !from.rest.is_empty() {
            return Err(Malformed("something follows it"));
        }
        let mut last: Option<&str> = None;
        for attribute in attributes(content.attributes) {
            let (key, _) = attribute?;
            if last.is_some_and(|last| last >= key) {
                return Err(Malformed("its attributes are not in order"));
            }
            last = Some(key);
        }
        Ok(content)
    }
}

struct Fields {
    bytes: Vec<u8>,
    number: u8,
}

impl Fields {
    fn put(&mut self, value: &[u8]) {
        self.number += 1;
        debug_assert!(self.number <= FIELDS, "the encoding has {FIELDS} fields");
        self.bytes.push(self.number);
        self.bytes.extend_from_slice(&length(value).to_be_bytes());
        self.bytes.extend_from_slice(value);
    }
}

/// A length as it is encoded. Requests are bounded far below 4 GiB.
fn length(value: &[u8]) -> u32 {
    u32::try_from(value.len()).expect("values are bounded by their contract")
}

struct Reader<'a> {
    rest: &'a [u8],
    number: u8,
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<&'a [u8], Malformed> {
        self.number += 1;
        let (number, rest) = self.rest.split_first().ok_or(Malformed("it ends early"))?;
        if *number != self.number {
            return Err(Malformed("its fields are not in order"));
        }
        let (value, rest) = prefixed(rest)?;
        self.rest = rest;
        Ok(value)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        str::from_utf8(self.field()?).map_err(|_| Malformed("a text is no UTF-8"))
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let bytes = self.field()?.try_into().map_err(|_| Malformed("a number has not eight bytes"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn id(&mut self) -> Result<Option<Uuid>, Malformed> {
        match self.field()? {
            [] => Ok(None),
            bytes => Uuid::from_slice(bytes).map(Some).map_err(|_| Malformed("an id has not sixteen bytes")),
        }
    }

    fn seal(&mut self) -> Result<Option<Digest>, Malformed> {
        let there = self.field()?;
        let (key, hash, length) = (self.id()?, self.field()?, self.number()?);
        match (there, key, hash, length) {
            ([0], None, [], 0) => Ok(None),
            ([1], Some(key), hash, length) => {
                let hash = hash.try_into().map_err(|_| Malformed("a digest has not 32 bytes"))?;
                Ok(Some(Digest { key, hash, length }))
            }
            _ => Err(Malformed("its seal contradicts itself")),
        }
    }
}

/// Splits a value with its length before it from what follows.
fn prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed("it ends early"))?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Malformed("it ends early"))
}

/// The encoding of attributes: in order of key, each key and value with its length before it.
pub(crate) fn encode_attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in attributes.iter().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&length(text.as_bytes()).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// The keys and values of encoded attributes; ends at the first one that cannot be read.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&str, &str), Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let mut next = || -> Result<&str, Malformed> {
            let (text, rest) = prefixed(bytes)?;
            bytes = rest;
            str::from_utf8(text).map_err(|_| Malformed("an attribute is no UTF-8"))
        };
        let pair = next().and_then(|key| Ok((key, next()?)));
        if pair.is_err() {
            bytes = &[];
        }
        Some(pair)
    })
}

/// The hash that a tenant's first record is held to.
pub(crate) fn genesis(tenant: &str) -> Hash {
    sha256(&[b"switchboard.ledger.chain.v1\0", tenant.as_bytes()])
}

/// The hash of a record: over the one before and its encoding.
pub(crate) fn hash(previous: &Hash, content: &[u8]) -> Hash {
    sha256(&[b"switchboard.ledger.record.v1\0", previous, content])
}

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The name of a kind in encodings: stable whatever the contract's numbers do.
pub(crate) fn name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Unspecified => "",
        RecordKind::Turn => "turn",
        RecordKind::Route => "route",
        RecordKind::PolicyDecision => "policy_decision",
        RecordKind::CacheDecision => "cache_decision",
        RecordKind::ToolProposal => "tool_proposal",
        RecordKind::ToolEffect => "tool_effect",
        RecordKind::HandOff => "hand_off",
        RecordKind::Feedback => "feedback",
        RecordKind::Outcome => "outcome",
        RecordKind::Erasure => "erasure",
    }
}

/// The kind of this name.
pub(crate) fn kind(name: &str) -> Option<RecordKind> {
    KINDS.into_iter().find(|kind| self::name(*kind) == name)
}

/// Every kind that a record can have.
pub(crate) const KINDS: [RecordKind; 10] = [
    RecordKind::Turn,
    RecordKind::Route,
    RecordKind::PolicyDecision,
    RecordKind::CacheDecision,
    RecordKind::ToolProposal,
    RecordKind::ToolEffect,
    RecordKind::HandOff,
    RecordKind::Feedback,
    RecordKind::Outcome,
    RecordKind::Erasure,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(attributes: &[u8]) -> Content<'_> {
        Content {
            tenant: "acme",
            sequence: 7,
            id: Uuid::from_u128(1),
            kind: RecordKind::Turn,
            conversation: "c",
            turn: "t",
            stage: "",
            time: -1,
            ledger_time: 2,
            subject: "",
            refers_to: None,
            model: "",
            policy: "",
            prompt: "",
            knowledge: "k",
            attributes,
            seal: None,
        }
    }

    #[test]
    fn an_encoding_is_what_the_contract_says() {
        let bytes = plain(&[]).encode();
        assert_eq!(&bytes[..13], b"SBL1\x01\0\0\0\x04acme");
        assert_eq!(&bytes[13..26], b"\x02\0\0\0\x08\0\0\0\0\0\0\0\x07");
        assert_eq!(&bytes[47..56], b"\x04\0\0\0\x04turn");
        assert_eq!(&bytes[bytes.len() - 13..], b"\x14\0\0\0\x08\0\0\0\0\0\0\0\0");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(
            texts in prop::collection::vec(".{0,20}", 9),
            numbers in prop::array::uniform3(any::<i64>()),
            ids in prop::array::uniform2(any::<u128>()),
            refers in any::<Option<u128>>(),
            given in prop::collection::btree_map(".{1,8}", ".{0,16}", 0..5),
            sealed in any::<Option<([u8; 32], u64)>>(),
            kind in 0..KINDS.len(),
        ) {
            let attributes = encode_attributes(&given);
            let content = Content {
                tenant: &texts[0], sequence: numbers[0].cast_unsigned(), id: Uuid::from_u128(ids[0]),
                kind: KINDS[kind], conversation: &texts[1], turn: &texts[2], stage: &texts[3],
                time: numbers[1], ledger_time: numbers[2], subject: &texts[4],
                refers_to: refers.map(Uuid::from_u128), model: &texts[5], policy: &texts[6],
                prompt: &texts[7], knowledge: &texts[8], attributes: &attributes,
                seal: sealed.map(|(hash, length)| Digest { key: Uuid::from_u128(ids[1]), hash, length }),
            };
            let bytes = content.encode();
            prop_assert!(Content::decode(&bytes).is_ok_and(|read| read == content));
            for end in 0..bytes.len() {
                prop_assert!(Content::decode(&bytes[..end]).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn a_changed_bit_changes_the_hash_and_what_is_read_is_canonical(at in 0usize..2000, bit in 0u8..8) {
            let given = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
            let attributes = encode_attributes(&given);
            let whole = plain(&attributes).encode();
            let mut changed = whole.clone();
            let at = at % whole.len();
            changed[at] ^= 1 << bit;
            prop_assert_ne!(hash(&[0; 32], &whole), hash(&[0; 32], &changed));
            if let Ok(read) = Content::decode(&changed) {
                prop_assert!(read.encode() == changed, "only canonical encodings are read");
            }
        }
    }

    #[test]
    fn attributes_out_of_order_are_no_encoding() {
        let mut swapped = encode_attributes(&BTreeMap::from([("b".to_owned(), String::new())]));
        swapped.extend(encode_attributes(&BTreeMap::from([("a".to_owned(), String::new())])));
        assert_eq!(
            Content::decode(&plain(&swapped).encode()).err(),
            Some(Malformed("its attributes are not in order"))
        );
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for found in KINDS {
            assert_eq!(kind(name(found)), Some(found));
        }
        assert_eq!(kind(""), None);
    }
}
