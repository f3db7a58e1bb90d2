//! The hashes that a hub names its files by.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A hash that tells whether a file is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of the bytes.
    Sha256(String),
    /// As git names a blob: SHA-1 over its length and its bytes.
    Git(String),
}

impl Checksum {
    /// A hash in hexadecimal digits, as it stands in a list or in an `ETag`; none if it is none of these.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::Git(text)),
            _ => None,
        }
    }

    /// The name of its kind, and its digits.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Sha256(digits) => ("sha256", digits),
            Self::Git(digits) => ("git object id", digits),
        }
    }

    /// Whether the file at `path` is of this content.
    pub(crate) fn is_of(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::new(Some(self), file.metadata()?.len());
        hasher.feed_all(&mut file)?;
        Ok(hasher.finish().as_ref() == Some(self))
    }
}

/// The hash that a checksum is of.
pub(super) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    None,
}

impl Hasher {
    /// Over a file of `size` bytes, of the kind that `kind` is of.
    pub(super) fn new(kind: Option<&Checksum>, size: u64) -> Self {
        match kind {
            Some(Checksum::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Checksum::Git(_)) => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
            None => Self::None,
        }
    }

    pub(super) fn feed_all(&mut self, file: &mut File) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self {
                Self::Sha256(hash) => hash.update(&buffer[..read]),
                Self::Git(hash) => hash.update(&buffer[..read]),
                Self::None => return Ok(()),
            }
        }
    }

    pub(super) fn finish(self) -> Option<Checksum> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => Some(Checksum::Sha256(hex(&hash.finalize()))),
            Self::Git(hash) => Some(Checksum::Git(hex(&hash.finalize()))),
            Self::None => None,
        }
    }
}
