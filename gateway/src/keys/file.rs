//! The file of keys: its form, and how several processes share it.
//!
//! Whoever changes it holds the lock beside it, reads it afresh, and replaces it as a whole; so readers
//! need no lock, and no change is lost.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use mesh::Tenant;
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;

use super::{
    KeysError, Role, Scope,
    secret::{self, Hash},
};

/// The form that is written. Version 1 had neither roles nor scopes nor expiry, nor a number.
const VERSION: u32 = 2;
/// The largest file that is read, some 50,000 keys.
const MOST_BYTES: u64 = 16 << 20;

pub(super) type Table = BTreeMap<String, Entry>;

/// What is kept of a key.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) tenant: Tenant,
    pub(super) role: Role,
    /// What it is narrowed to; empty leaves the role as it is.
    pub(super) scopes: Vec<Scope>,
    pub(super) hash: Hash,
    pub(super) label: String,
    /// Seconds since 1970, as is the next one.
    pub(super) created_at: u64,
    /// From when on it is refused.
    pub(super) expires_at: Option<u64>,
}

/// Tells one content of the file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// Every change through [`write()`] makes a new file.
    inode: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default = "first_version")]
    version: u32,
    keys: Vec<StoredKey>,
}

fn first_version() -> u32 {
    1
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    /// SHA-256 of the whole key, in hexadecimal.
    sha256: String,
    label: String,
    /// Seconds since 1970.
    created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

/// Opens the file, and says which content it has; `None` when there is no file.
pub(super) fn open(path: &Path) -> Result<Option<(File, Stamp)>, KeysError> {
    let failed = |source| KeysError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let stamp = stamp(&file).map_err(failed)?;
    Ok(Some((file, stamp)))
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let about = file.metadata()?;
    Ok(Stamp { modified: about.modified().ok(), bytes: about.len(), inode: about.ino() })
}

/// Reads what was opened.
pub(super) fn read(path: &Path, file: File) -> Result<Table, KeysError> {
    let malformed = |reason| KeysError::Malformed { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(malformed(format!("it has more than {MOST_BYTES} bytes")));
    }
    parse(&bytes).map_err(malformed)
}

fn parse(bytes: &[u8]) -> Result<Table, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if !(1..=VERSION).contains(&stored.version) {
        return Err(format!("version is {}; 1 and {VERSION} are known", stored.version));
    }
    let mut table = Table::new();
    for key in stored.keys {
        let id = key.id.clone();
        let entry = entry(key, stored.version).map_err(|reason| format!("key {id}: {reason}"))?;
        if table.insert(id.clone(), entry).is_some() {
            return Err(format!("key {id} is there twice"));
        }
    }
    Ok(table)
}

fn entry(key: StoredKey, version: u32) -> Result<Entry, String> {
    let role = match key.role {
        Some(role) => role,
        // Before there were roles, a key opened everything that the gateway served.
        None if version == 1 => Role::Admin,
        None => return Err("role is missing".to_owned()),
    };
    Ok(Entry {
        tenant: Tenant::try_new(&key.tenant)?,
        role,
        scopes: key.scopes.iter().map(|scope| Scope::parse(scope)).collect::<Result<_, _>>()?,
        hash: secret::unhex(&key.sha256).ok_or("sha256 must be 64 hexadecimal digits")?,
        label: key.label,
        created_at: key.created_at,
        expires_at: key.expires_at,
    })
}

/// Keeps other processes, and other threads, from changing the file until it is dropped; waits while
/// another does. The system takes it from a process that dies.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let folder = folder_of(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = beside(path, "lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(beside)?;
    file.lock()?;
    Ok(file)
}

/// Replaces the file as a whole: after a crash either the old or the new one is there. Call with the
/// lock.
pub(super) fn write(path: &Path, table: &Table) -> io::Result<Stamp> {
    let keys = table.iter().map(|(id, entry)| StoredKey {
        id: id.clone(),
        tenant: entry.tenant.as_str().to_owned(),
        role: Some(entry.role),
        scopes: entry.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        sha256: secret::hex(&entry.hash),
        label: entry.label.clone(),
        created_at: entry.created_at,
        expires_at: entry.expires_at,
    });
    let text = serde_json::to_vec_pretty(&Stored { version: VERSION, keys: keys.collect() })?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "there are too many keys for one file"));
    }
    let draft = beside(path, "tmp");
    let stored = (|| {
        // A draft that a crash left behind may have other permissions; it is not written into.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        let stamp = stamp(&file)?;
        fs::rename(&draft, path)?;
        File::open(folder_of(path))?.sync_all()?;
        Ok(stamp)
    })();
    if stored.is_err() {
        let _ = fs::remove_file(&draft);
    }
    stored
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file with the same name and another ending behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
