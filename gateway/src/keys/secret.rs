//! Keys as text, and the hashes that stand for them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::KeysError;

/// The most bytes of what may be a key. A key has 84; hashing more would be work for anyone who asks.
const MOST_BYTES: usize = 128;

/// SHA-256 of a whole key.
pub(super) type Hash = [u8; 32];

/// A new id, and the key that it is part of.
pub(super) fn make() -> Result<(String, String), KeysError> {
    let id = hex(&random::<8>()?);
    let key = format!("sb_{id}_{}", hex(&random::<32>()?));
    Ok((id, key))
}

/// The id in what a caller sends as a key; `None` for what cannot be one.
pub(super) fn id_of(key: &str) -> Option<&str> {
    let (id, _) = key.strip_prefix("sb_")?.split_once('_')?;
    (key.len() <= MOST_BYTES).then_some(id)
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeysError::Random(error.to_string()))?;
    Ok(bytes)
}

pub(super) fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

/// Compares without stopping at the first difference, so that the time tells nothing.
pub(super) fn same(left: &Hash, right: &Hash) -> bool {
    let difference = left.iter().zip(right).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    difference == 0
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut hash = Hash::default();
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}
