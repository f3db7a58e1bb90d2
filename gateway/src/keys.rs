//! API keys: who may call, and for which tenant.
//!
//! [`Keys`] is a file of hashes, read once and held in memory. A key is shown when it is made and
//! never again: neither the file nor a log has it. A key carries 256 random bits, so one round of
//! SHA-256 protects it; slow password hashes are for secrets that can be guessed.
//!
//! One process writes the file. Scopes and expiry are not part of a key yet.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::SystemTime,
};

use mesh::{Tenant, config::Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use switchboard_mesh as mesh;

/// The API keys of a node.
pub struct Keys {
    path: PathBuf,
    table: RwLock<Table>,
}

type Table = BTreeMap<String, Entry>;
type Hash = [u8; 32];

#[derive(Clone)]
struct Entry {
    tenant: Tenant,
    hash: Hash,
    label: String,
    created_at: u64,
}

/// What may be known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Names the key; part of the key itself, and no secret.
    pub id: String,
    /// For whom calls with it are made.
    pub tenant: Tenant,
    /// What it is for, in its maker's words.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
}

/// Why keys could not be read, made or stored.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Make the file readable for this user.
    #[error("the API keys in {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Mend the file, or move it away to start with no keys.
    #[error("the API keys in {} cannot be used: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Make the folder writable, or free some space. What was stored before still stands.
    #[error("the API keys cannot be written to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Choose another label.
    #[error("a key's label is at most 128 characters, none of them control characters")]
    Label,
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// The file's form.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    keys: Vec<StoredKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    tenant: String,
    /// SHA-256 of the whole key, in hexadecimal.
    sha256: String,
    label: String,
    /// Seconds since 1970.
    created_at: u64,
}

impl Keys {
    /// Where a node with the data folder `data` keeps its keys.
    #[must_use]
    pub fn file_in(data: &Path) -> PathBuf {
        data.join("gateway").join("keys.json")
    }

    /// Reads the keys in the file `path`; a missing file has none. Blocks on the file system, as
    /// do [`Keys::create`] and [`Keys::revoke`].
    ///
    /// # Errors
    /// [`KeysError::Read`] or [`KeysError::Malformed`], which name the file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeysError> {
        let path = path.into();
        let table = match fs::read(&path) {
            Ok(bytes) => {
                parse(&bytes).map_err(|reason| KeysError::Malformed { path: path.clone(), reason })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Table::new(),
            Err(source) => return Err(KeysError::Read { path, source }),
        };
        Ok(Self { path, table: RwLock::new(table) })
    }

    /// Makes a key for `tenant` and stores its hash. Returns the key's id and the key, which cannot
    /// be had again. The key is stored durably before this returns.
    ///
    /// # Errors
    /// [`KeysError::Label`], [`KeysError::Random`], or [`KeysError::Write`]; then no key was made.
    pub fn create(&self, tenant: &Tenant, label: &str) -> Result<(String, Secret), KeysError> {
        if label.chars().count() > 128 || label.chars().any(char::is_control) {
            return Err(KeysError::Label);
        }
        let id = hex(&random::<8>()?);
        let key = format!("sb_{id}_{}", hex(&random::<32>()?));
        let created_at =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let entry = Entry { tenant: tenant.clone(), hash: hash(&key), label: label.to_owned(), created_at };
        self.change(|table| table.insert(id.clone(), entry))?;
        Ok((id, Secret::new(key)))
    }

    /// The tenant of a key; `None` when the key is not known.
    #[must_use]
    pub fn verify(&self, key: &str) -> Option<Tenant> {
        let (id, _) = key.strip_prefix("sb_")?.split_once('_')?;
        // A key is 84 bytes; hashing what cannot be one would be work for anyone who asks.
        if key.len() > 128 {
            return None;
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let entry = table.get(id)?;
        same(&entry.hash, &hash(key)).then(|| entry.tenant.clone())
    }

    /// What is known of each key, in order of id.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let info = |(id, entry): (&String, &Entry)| KeyInfo {
            id: id.clone(),
            tenant: entry.tenant.clone(),
            label: entry.label.clone(),
            created_at: entry.created_at,
        };
        table.iter().map(info).collect()
    }

    /// Removes a key; false when there is none of that id. It is refused from then on.
    ///
    /// # Errors
    /// [`KeysError::Write`]; then the key still stands.
    pub fn revoke(&self, id: &str) -> Result<bool, KeysError> {
        if !self.table.read().unwrap_or_else(PoisonError::into_inner).contains_key(id) {
            return Ok(false);
        }
        Ok(self.change(|table| table.remove(id))?.is_some())
    }

    /// Changes a copy, stores it, and only then lets it count.
    fn change<T>(&self, edit: impl FnOnce(&mut Table) -> T) -> Result<T, KeysError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = table.clone();
        let made = edit(&mut next);
        write(&self.path, &next).map_err(|source| KeysError::Write { path: self.path.clone(), source })?;
        *table = next;
        Ok(made)
    }
}

fn parse(bytes: &[u8]) -> Result<Table, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut table = Table::new();
    for key in stored.keys {
        let tenant = Tenant::try_new(&key.tenant).map_err(|allowed| format!("key {}: {allowed}", key.id))?;
        let hash = unhex(&key.sha256)
            .ok_or_else(|| format!("key {}: sha256 must be 64 hexadecimal digits", key.id))?;
        let entry = Entry { tenant, hash, label: key.label, created_at: key.created_at };
        if table.insert(key.id.clone(), entry).is_some() {
            return Err(format!("key {} is there twice", key.id));
        }
    }
    Ok(table)
}

/// Replaces the file as a whole: after a crash either the old or the new one is there.
fn write(path: &Path, table: &Table) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let keys = table
        .iter()
        .map(|(id, entry)| StoredKey {
            id: id.clone(),
            tenant: entry.tenant.as_str().to_owned(),
            sha256: hex(&entry.hash),
            label: entry.label.clone(),
            created_at: entry.created_at,
        })
        .collect();
    let text = serde_json::to_vec_pretty(&Stored { keys })?;
    let draft = path.with_extension(format!("json.{}.tmp", std::process::id()));
    let stored = (|| {
        // A draft that a crash left behind may have other permissions; it is not written into.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    })();
    if stored.is_err() {
        let _ = fs::remove_file(&draft);
    }
    stored
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeysError::Random(error.to_string()))?;
    Ok(bytes)
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

/// Compares without stopping at the first difference, so that the time tells nothing.
fn same(left: &Hash, right: &Hash) -> bool {
    let difference = left.iter().zip(right).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    difference == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Hash> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn acme() -> Tenant {
        Tenant::try_new("acme").unwrap()
    }

    #[test]
    fn a_key_is_known_until_it_is_revoked_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = Keys::file_in(folder.path());
        let keys = Keys::open(&path).unwrap();
        let (id, key) = keys.create(&acme(), "first").unwrap();
        assert_eq!(keys.verify(key.expose()), Some(acme()));

        let again = Keys::open(&path).unwrap();
        assert_eq!(again.verify(key.expose()), Some(acme()));
        assert_eq!(again.list()[0].label, "first");
        assert!(again.revoke(&id).unwrap());
        assert!(!again.revoke(&id).unwrap());
        assert_eq!(again.verify(key.expose()), None);
        assert_eq!(Keys::open(&path).unwrap().list(), []);
    }

    #[test]
    fn near_misses_are_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(Keys::file_in(folder.path())).unwrap();
        let (id, key) = keys.create(&acme(), "").unwrap();
        let key = key.expose();
        let other = keys.create(&acme(), "").unwrap().1;
        let swapped = format!("sb_{id}_{}", other.expose().rsplit('_').next().unwrap());
        let longer = format!("{key}0");
        let huge = format!("{key}{}", "0".repeat(1 << 20));
        for wrong in ["", "sb_", "sb__", &key[..key.len() - 1], &longer, &huge, &swapped, &key.to_uppercase()]
        {
            assert_eq!(keys.verify(wrong), None);
        }
    }

    #[test]
    fn the_file_is_private_and_has_no_key_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = Keys::file_in(folder.path());
        let keys = Keys::open(&path).unwrap();
        let (_, key) = keys.create(&acme(), "till").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("till") && !text.contains(key.expose().rsplit('_').next().unwrap()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn a_malformed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let bad_tenant = r#"{"keys":[{"id":"a","tenant":"A B","sha256":"","label":"","created_at":0}]}"#;
        let bad_hash = r#"{"keys":[{"id":"a","tenant":"a","sha256":"é","label":"","created_at":0}]}"#;
        for bad in ["", "{", "[]", r#"{"keys":[],"more":1}"#, bad_tenant, bad_hash] {
            fs::write(&path, bad).unwrap();
            let error = Keys::open(&path).err().expect("refused").to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn an_unwritable_place_is_named_and_makes_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("gateway");
        let keys = Keys::open(Keys::file_in(folder.path())).unwrap();
        fs::write(&in_the_way, "a file, not a folder").unwrap();
        let error = keys.create(&acme(), "").unwrap_err().to_string();
        assert!(error.contains("keys.json"), "{error}");
        assert_eq!(keys.list(), []);
    }

    #[test]
    fn labels_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(Keys::file_in(folder.path())).unwrap();
        for bad in ["a\nb", &"x".repeat(129)] {
            assert!(matches!(keys.create(&acme(), bad), Err(KeysError::Label)));
        }
    }
}
