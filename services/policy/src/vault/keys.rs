//! The keys of what is stored, and how a value is sealed with them.
//!
//! Of each key that is configured, every tenant has keys of its own: one to seal (AES-256-GCM), one to find a
//! value again without reading it (HMAC-SHA-256), both by HKDF-SHA-256. What a value belongs to (tenant,
//! conversation, placeholder) is authenticated with it: a row that is moved elsewhere does not open.

use std::fmt;

use mesh::{
    Tenant,
    config::{Invalid, Secret},
};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{self, HKDF_SHA256, Prk, Salt},
    hmac::{self, HMAC_SHA256},
    rand::{SecureRandom as _, SystemRandom},
};
use switchboard_mesh as mesh;
use switchboard_text::redaction::{Kind, Pseudonyms};

/// The most keys at once: the one in use, and those of before.
const MOST_KEYS: usize = 16;

/// The keys; the first is for what is written. Prints nothing.
pub(crate) struct Keys {
    keys: Vec<Key>,
    random: SystemRandom,
}

struct Key {
    id: String,
    root: Prk,
}

/// What a value belongs to.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) conversation: &'a str,
    pub(super) placeholder: &'a str,
}

/// A value that only its key opens.
pub(super) struct Sealed {
    pub(super) key: String,
    /// Nonce, then what was sealed, then its tag.
    pub(super) bytes: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// Reads keys, each an id, `:`, and 64 hexadecimal digits, with commas or line ends between; `None` where
    /// there is none. `key` is the configuration's, for messages.
    ///
    /// # Errors
    /// [`Invalid`], which shows nothing of a key but its id.
    pub(crate) fn parse(key: &str, text: &Secret) -> Result<Option<Self>, Invalid> {
        let refused = |allowed: String| Invalid::new(key, text, allowed);
        let mut keys: Vec<Key> = Vec::new();
        let lines = text.expose().split(['\n', ',']).map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (id, digits) = line.split_once(':').unwrap_or_default();
            let fits = (1..=32).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let bytes = unhex(digits).filter(|_| fits).ok_or_else(|| {
                refused(
                    "keys such as 2026-11:<64 hexadecimal digits>, the one to write with first".to_owned(),
                )
            })?;
            if keys.iter().any(|key| key.id == id) {
                return Err(refused(format!("keys with ids of their own; {id} is there twice")));
            }
            // The salt keeps these keys apart from any that another program derives.
            let root = Salt::new(HKDF_SHA256, b"switchboard.policy.vault.v1").extract(&bytes);
            keys.push(Key { id: id.to_owned(), root });
        }
        if keys.len() > MOST_KEYS {
            return Err(refused(format!("at most {MOST_KEYS} keys")));
        }
        Ok((!keys.is_empty()).then(|| Self { keys, random: SystemRandom::new() }))
    }

    /// Whether a value sealed with this key is sealed with the one in use.
    pub(super) fn is_current(&self, id: &str) -> bool {
        self.keys.first().is_some_and(|key| key.id == id)
    }

    /// Seals a value with the key in use; `None` when the system has no random numbers.
    pub(super) fn seal(&self, place: Place<'_>, value: &str) -> Option<Sealed> {
        let key = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = value.as_bytes().to_vec();
        let sealing = key.sealing(place.tenant)?;
        let aad = Aad::from(place.bytes());
        sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        Some(Sealed { key: key.id.clone(), bytes })
    }

    /// Opens a value; `None` where its key is not among these, or it is not what was sealed for this place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &Sealed) -> Option<String> {
        let key = self.keys.iter().find(|key| key.id == sealed.key)?;
        let (nonce, rest) = sealed.bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let opened = key.sealing(place.tenant)?.open_in_place(nonce, Aad::from(place.bytes()), &mut rest);
        String::from_utf8(opened.ok()?.to_vec()).ok()
    }

    /// By what a value is found again: the mark that it has with each key, the one in use first.
    pub(super) fn marks(&self, tenant: &Tenant, kind: Kind, value: &str) -> Vec<Vec<u8>> {
        let spelling = Pseudonyms::spelling(kind, value);
        let marks = self.keys.iter().filter_map(|key| {
            let info = [b"mark".as_slice(), tenant.as_str().as_bytes()];
            let key = hmac::Key::from(key.root.expand(&info, HMAC_SHA256).ok()?);
            let mut context = hmac::Context::with_key(&key);
            context.update(kind.as_str().as_bytes());
            context.update(&[0]);
            context.update(spelling.as_bytes());
            Some(context.sign().as_ref().to_vec())
        });
        marks.collect()
    }
}

impl Key {
    fn sealing(&self, tenant: &Tenant) -> Option<LessSafeKey> {
        let info = [b"seal".as_slice(), tenant.as_str().as_bytes()];
        let okm: hkdf::Okm<'_, _> = self.root.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl Place<'_> {
    /// Lengths keep the end of one part from being taken for the beginning of the next.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.tenant.as_str(), self.conversation, self.placeholder] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::parse("policy.vault.keys", &Secret::new(text.into())).unwrap().unwrap()
    }

    fn two() -> (String, String) {
        (format!("a:{}", "01".repeat(32)), format!("b:{}", "FF".repeat(32)))
    }

    #[test]
    fn a_value_opens_at_its_place_with_its_key_alone() {
        let (a, b) = two();
        let (tenant, other) = (Tenant::try_new("acme").unwrap(), Tenant::try_new("other").unwrap());
        let place = Place { tenant: &tenant, conversation: "c1", placeholder: "[email-1]" };
        let sealed = keys(&a).seal(place, "jo@home.de").unwrap();
        assert!(!String::from_utf8_lossy(&sealed.bytes).contains("home"));
        assert_eq!(keys(&a).open(place, &sealed).as_deref(), Some("jo@home.de"));
        for elsewhere in [
            Place { tenant: &other, ..place },
            Place { conversation: "c2", ..place },
            Place { conversation: "c1[", placeholder: "email-1]", ..place },
            Place { placeholder: "[email-2]", ..place },
        ] {
            assert_eq!(keys(&a).open(elsewhere, &sealed), None);
        }
        assert_eq!(keys(&b).open(place, &sealed), None, "another key");
        let renamed = Sealed { key: "b".into(), bytes: sealed.bytes.clone() };
        assert_eq!(keys(&format!("{b}\n{a}")).open(place, &renamed), None, "a key under another's id");
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(keys(&a).open(place, &Sealed { key: "a".into(), bytes }), None, "byte {at}");
        }
        assert_eq!(keys(&a).open(place, &Sealed { key: "a".into(), bytes: vec![1; 5] }), None);
    }

    #[test]
    fn the_first_key_writes_and_the_others_read() {
        let (a, b) = two();
        let tenant = Tenant::try_new("acme").unwrap();
        let place = Place { tenant: &tenant, conversation: "c1", placeholder: "[email-1]" };
        let old = keys(&a).seal(place, "jo@home.de").unwrap();
        let both = keys(&format!("# rotated\n{b}\n{a}\n"));
        assert_eq!(both.open(place, &old).as_deref(), Some("jo@home.de"));
        assert!(!both.is_current(&old.key) && both.is_current(&both.seal(place, "x").unwrap().key));
    }

    #[test]
    fn a_value_is_found_by_any_spelling_and_only_in_its_tenant() {
        let (a, b) = two();
        let (tenant, other) = (Tenant::try_new("acme").unwrap(), Tenant::try_new("other").unwrap());
        let marks = |keys: &Keys, tenant| keys.marks(tenant, Kind::Email, "jo@home.de");
        let both = keys(&format!("{b},{a}"));
        assert_eq!(both.marks(&tenant, Kind::Email, "JO@HOME.DE"), marks(&both, &tenant));
        assert_ne!(marks(&both, &other), marks(&both, &tenant));
        assert_eq!(marks(&both, &tenant)[1..], marks(&keys(&a), &tenant));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let (a, _) = two();
        for bad in ["a", "a:12", ":x", &format!("a b:{}", "0".repeat(64)), &format!("{a},{a}")] {
            let message = Keys::parse("policy.vault.keys", &Secret::new(bad.into())).unwrap_err().to_string();
            assert!(message.starts_with("policy.vault.keys = ***"), "{message}");
            assert!(!message.contains(&"01".repeat(32)), "{message}");
        }
        assert!(Keys::parse("k", &Secret::new(" \n".into())).unwrap().is_none());
    }
}
