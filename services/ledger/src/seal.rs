//! Bytes that only their subject's key opens, so that destroying the key erases them.
//!
//! Each subject of a tenant has a data key of its own, made at random, which encrypts with AES-256-GCM. It
//! is kept wrapped, encrypted in the same way, by a master key that is not in the store. Both bind what
//! they encrypt to its place: a wrapped key to tenant and subject, sealed bytes to tenant, record and
//! subject. The nonce is 96 random bits and stands before the ciphertext; a key seals far fewer than the
//! 2^32 messages that this is good for (NIST SP 800-38D, section 8.3).

use std::collections::BTreeMap;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use uuid::Uuid;

use crate::{error::Error, hex};

/// Bytes that sealing adds: the nonce and the tag.
pub(crate) const OVERHEAD: usize = NONCE_LEN + 16;

/// What master keys look like.
pub(crate) const ALLOWED: &str = "id:digits, several with commas between; ids of 1 to 32 characters out of a-z, 0-9 and -, no id \
                                  twice, 64 hexadecimal digits each";

/// A subject's key as it is kept.
#[derive(Clone)]
pub(crate) struct WrappedKey {
    pub(crate) tenant: String,
    pub(crate) subject: String,
    pub(crate) id: Uuid,
    /// The master key that wraps it.
    pub(crate) master: String,
    pub(crate) wrapped: Vec<u8>,
}

/// A subject's key, ready to use.
#[derive(Clone)]
pub(crate) struct DataKey {
    pub(crate) id: Uuid,
    key: LessSafeKey,
}

/// The keys that wrap subjects' keys.
#[derive(Clone)]
pub(crate) struct Masters {
    current: String,
    keys: BTreeMap<String, LessSafeKey>,
}

/// Ids and keys, in their order; `None` where the text is not [`ALLOWED`].
pub(crate) fn parse(text: &str) -> Option<Vec<(String, [u8; 32])>> {
    let mut keys: Vec<(String, [u8; 32])> = Vec::new();
    for entry in text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let (id, digits) = entry.split_once(':')?;
        let named = (1..=32).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !named || keys.iter().any(|(other, _)| other == id) {
            return None;
        }
        keys.push((id.to_owned(), hex::decode(digits)?));
    }
    (!keys.is_empty()).then_some(keys)
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

impl Masters {
    /// The keys of a text, the first one of which is used.
    ///
    /// # Errors
    /// `Key`, which names `source` and what is allowed.
    pub(crate) fn try_new(source: &str, text: &str) -> Result<Self, Error> {
        let keys = parse(text).ok_or_else(|| Error::Key { key: source.into(), allowed: ALLOWED.into() })?;
        let current = keys[0].0.clone();
        let keys = keys.into_iter().map(|(id, bytes)| (id, key(&bytes))).collect();
        Ok(Self { current, keys })
    }

    /// No keys: for who only reads what is open.
    pub(crate) fn none() -> Self {
        Self { current: String::new(), keys: BTreeMap::new() }
    }

    /// The id of the key that is used.
    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    /// Makes a key for a subject.
    ///
    /// # Errors
    /// `Random`.
    pub(crate) fn make(&self, tenant: &str, subject: &str) -> Result<(WrappedKey, DataKey), Error> {
        let id = Uuid::from_bytes(random()?);
        let bytes = random::<32>()?;
        let wrapped = self.wrap(tenant, subject, id, &bytes)?;
        Ok((wrapped, DataKey { id, key: key(&bytes) }))
    }

    fn wrap(&self, tenant: &str, subject: &str, id: Uuid, bytes: &[u8]) -> Result<WrappedKey, Error> {
        let master = self.keys.get(&self.current).ok_or(Error::NoMaster { id: self.current.clone() })?;
        let place = place("key", &[tenant.as_bytes(), subject.as_bytes(), id.as_bytes()]);
        let (tenant, subject, master_id) = (tenant.to_owned(), subject.to_owned(), self.current.clone());
        Ok(WrappedKey { tenant, subject, id, master: master_id, wrapped: encrypt(master, &place, bytes)? })
    }

    /// Opens a kept key.
    ///
    /// # Errors
    /// `NoMaster` when the key that wraps it is not there, `Unsealed` when it does not fit.
    pub(crate) fn unwrap(&self, kept: &WrappedKey) -> Result<DataKey, Error> {
        let bytes = self.bytes(kept)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| Error::Unsealed)?;
        Ok(DataKey { id: kept.id, key: key(&bytes) })
    }

    /// Wraps a kept key with the master key that is used now.
    ///
    /// # Errors
    /// As [`Masters::unwrap`].
    pub(crate) fn rewrap(&self, kept: &WrappedKey) -> Result<WrappedKey, Error> {
        self.wrap(&kept.tenant, &kept.subject, kept.id, &self.bytes(kept)?)
    }

    fn bytes(&self, kept: &WrappedKey) -> Result<Vec<u8>, Error> {
        let master =
            self.keys.get(&kept.master).ok_or_else(|| Error::NoMaster { id: kept.master.clone() })?;
        let place = place("key", &[kept.tenant.as_bytes(), kept.subject.as_bytes(), kept.id.as_bytes()]);
        decrypt(master, &place, &kept.wrapped)
    }
}

impl DataKey {
    /// Encrypts a record's bytes.
    ///
    /// # Errors
    /// `Random`.
    pub(crate) fn seal(
        &self,
        tenant: &str,
        record: Uuid,
        subject: &str,
        bytes: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let place = place("seal", &[tenant.as_bytes(), record.as_bytes(), subject.as_bytes()]);
        encrypt(&self.key, &place, bytes)
    }

    /// Decrypts a record's bytes.
    ///
    /// # Errors
    /// `Unsealed` when they are not what this key sealed for this record.
    pub(crate) fn open(
        &self,
        tenant: &str,
        record: Uuid,
        subject: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let place = place("seal", &[tenant.as_bytes(), record.as_bytes(), subject.as_bytes()]);
        decrypt(&self.key, &place, sealed)
    }
}

fn key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes 32 bytes"))
}

/// What ciphertext is bound to.
fn place(what: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut place = format!("switchboard.ledger.{what}.v1\0").into_bytes();
    for part in parts {
        place.extend_from_slice(&(part.len() as u64).to_be_bytes());
        place.extend_from_slice(part);
    }
    place
}

fn encrypt(key: &LessSafeKey, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce = random::<NONCE_LEN>()?;
    let mut sealed = Vec::with_capacity(bytes.len() + OVERHEAD);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(bytes);
    let place = Aad::from(place);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), place, &mut sealed[NONCE_LEN..])
        .map_err(|_| Error::Unsealed)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn decrypt(key: &LessSafeKey, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Unsealed)?;
    let mut bytes = rest.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| Error::Unsealed)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(text: &str) -> Masters {
        Masters::try_new("test", text).unwrap()
    }

    fn entry(id: &str, byte: u8) -> String {
        format!("{id}:{}", hex::encode(&[byte; 32]))
    }

    #[test]
    fn sealed_bytes_are_opened_in_their_place_only() {
        let keys = masters(&entry("one", 1));
        let (kept, key) = keys.make("acme", "s").unwrap();
        let id = Uuid::from_u128(9);
        let sealed = key.seal("acme", id, "s", b"words").unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        assert!(!sealed.windows(5).any(|part| part == b"words"));
        let again = keys.unwrap(&kept).unwrap();
        assert_eq!(again.open("acme", id, "s", &sealed).unwrap(), b"words");
        assert!(again.open("globex", id, "s", &sealed).is_err());
        assert!(again.open("acme", Uuid::from_u128(8), "s", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(again.open("acme", id, "s", &changed).is_err(), "byte {at}");
            assert!(again.open("acme", id, "s", &sealed[..at]).is_err(), "cut at {at}");
        }
        let other = WrappedKey { subject: "t".into(), ..kept };
        assert!(matches!(keys.unwrap(&other), Err(Error::Unsealed)));
    }

    #[test]
    fn a_master_key_can_be_changed() {
        let (kept, key) = masters(&entry("one", 1)).make("acme", "s").unwrap();
        let sealed = key.seal("acme", Uuid::nil(), "s", b"words").unwrap();
        let both = masters(&format!("{},\n{}", entry("two", 2), entry("one", 1)));
        let anew = both.rewrap(&kept).unwrap();
        assert_eq!((anew.master.as_str(), both.current()), ("two", "two"));
        let alone = masters(&entry("two", 2));
        assert_eq!(alone.unwrap(&anew).unwrap().open("acme", Uuid::nil(), "s", &sealed).unwrap(), b"words");
        assert!(matches!(alone.unwrap(&kept), Err(Error::NoMaster { id }) if id == "one"));
        assert!(matches!(masters(&entry("one", 3)).unwrap(&kept), Err(Error::Unsealed)));
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        let twice = format!("{},{}", entry("a", 1), entry("a", 2));
        for bad in ["", ",", "a", "a:00", &entry("A", 1), &entry("", 1), &twice] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
