//! API keys: who may call, for which tenant, and as what.
//!
//! [`Keys`] is a file of hashes, held in memory. A key is shown when it is made and never again:
//! neither the file nor a log has it. A key carries 256 random bits, so one round of SHA-256 protects
//! it; slow password hashes are for secrets that can be guessed.
//!
//! Several processes may share the file: a gateway takes in what another one made or revoked.

mod file;
mod role;
mod secret;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use mesh::{Tenant, config::Secret};
pub use role::{Role, Scope};
use switchboard_mesh as mesh;
use tokio_util::sync::CancellationToken;

use self::file::{Entry, Stamp, Table};
use crate::permissions;

/// How often the file is looked at for changes of other processes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time after which a key may expire; one that is to last longer need not expire.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);

/// The API keys of a node.
pub struct Keys {
    path: PathBuf,
    table: RwLock<Table>,
    /// Which content of the file `table` is. Held while either changes, and never while a call is
    /// looked at.
    seen: Mutex<Option<Stamp>>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For whom calls with it are made.
    pub tenant: Tenant,
    /// What it is for.
    pub role: Role,
    /// What it is narrowed to; empty leaves the role as it is.
    pub scopes: Vec<Scope>,
    /// Time until it is refused, 1 second to [`LONGEST_LIFETIME`]; `None` for as long as it is not revoked.
    pub lifetime: Option<Duration>,
    /// What it is for, in its maker's words; at most 128 characters, no control characters.
    pub label: String,
}

impl NewKey {
    /// A key without scopes, expiry or label.
    #[must_use]
    pub fn new(tenant: Tenant, role: Role) -> Self {
        Self { tenant, role, scopes: Vec::new(), lifetime: None, label: String::new() }
    }
}

/// What may be known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Names the key; part of the key itself, and no secret.
    pub id: String,
    /// For whom calls with it are made.
    pub tenant: Tenant,
    /// What it is for.
    pub role: Role,
    /// What it is narrowed to; empty leaves the role as it is.
    pub scopes: Vec<Scope>,
    /// What it is for, in its maker's words.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// From when on it is refused, in seconds since 1970.
    pub expires_at: Option<u64>,
}

impl KeyInfo {
    /// Whether it is refused by now.
    #[must_use]
    pub fn expired(&self) -> bool {
        expired(self.expires_at)
    }
}

/// What a key says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For whom the call is made.
    pub tenant: Tenant,
    /// As what.
    pub role: Role,
    /// What that is narrowed to; empty leaves the role as it is.
    pub scopes: Vec<Scope>,
}

/// Why a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It was never made, or was revoked.
    Unknown,
    /// It was good once.
    Expired,
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
    /// Choose another time.
    #[error("a key expires after 1 second to {} days, or not at all", LONGEST_LIFETIME.as_secs() / 86_400)]
    Lifetime,
    /// Choose another role, or another scope.
    #[error("a key of role {role} can do nothing in the scope {scope}; its scopes are {allowed}")]
    Scope {
        /// The role.
        role: Role,
        /// The scope that adds nothing.
        scope: Scope,
        /// Scopes that the role can be narrowed to.
        allowed: String,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl Keys {
    /// Where a node with the data folder `data` keeps its keys.
    #[must_use]
    pub fn file_in(data: &Path) -> PathBuf {
        data.join("gateway").join("keys.json")
    }

    /// Reads the keys in the file `path`; a missing file has none. Blocks on the file system, as
    /// do [`Keys::refresh`], [`Keys::create`] and [`Keys::revoke`].
    ///
    /// # Errors
    /// [`KeysError::Read`] or [`KeysError::Malformed`], which name the file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeysError> {
        let path = path.into();
        let keys = Self { path, table: RwLock::default(), seen: Mutex::default() };
        keys.refresh()?;
        Ok(keys)
    }

    /// Reads the file again if it has changed; whether it has. A content that cannot be used is told
    /// once, and the keys stay what they were.
    ///
    /// # Errors
    /// [`KeysError::Read`] or [`KeysError::Malformed`], which name the file.
    pub fn refresh(&self) -> Result<bool, KeysError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = file::open(&self.path)?;
        let stamp = found.as_ref().map(|(_, stamp)| *stamp);
        if *seen == stamp {
            return Ok(false);
        }
        *seen = stamp;
        let table = match found {
            Some((file, _)) => file::read(&self.path, file)?,
            None => Table::new(),
        };
        self.install(table);
        Ok(true)
    }

    /// Takes in the changes of other processes, within about a second, until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = String::new();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let keys = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || keys.refresh()).await;
            let problem = match looked {
                Ok(Ok(false)) => continue,
                Ok(Ok(true)) => {
                    tracing::info!(keys = self.read().len(), "the API keys were changed");
                    told.clear();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // A file that stays unreadable is not worth a line a second.
            if problem != told {
                tracing::error!(error = problem, "the API keys stay what they were");
                told = problem;
            }
        }
    }

    /// Makes a key and stores its hash. Returns the key's id and the key, which cannot be had again.
    /// The key is stored durably before this returns.
    ///
    /// # Errors
    /// [`KeysError`]; then no key was made.
    pub fn create(&self, new: &NewKey) -> Result<(String, Secret), KeysError> {
        check(new)?;
        let (id, key) = secret::make()?;
        let created_at = now();
        let mut scopes = new.scopes.clone();
        scopes.sort();
        scopes.dedup();
        let entry = Entry {
            tenant: new.tenant.clone(),
            role: new.role,
            scopes,
            hash: secret::hash(&key),
            label: new.label.clone(),
            created_at,
            expires_at: new.lifetime.map(|lifetime| created_at.saturating_add(lifetime.as_secs())),
        };
        self.change(|table| Some(table.insert(id.clone(), entry)))?;
        Ok((id, Secret::new(key)))
    }

    /// What a key says of its holder.
    ///
    /// # Errors
    /// Why it is not accepted; that it has expired is only told to who has the whole key.
    pub fn verify(&self, key: &str) -> Result<Grant, Rejected> {
        let id = secret::id_of(key).ok_or(Rejected::Unknown)?;
        let table = self.read();
        let entry = table.get(id).filter(|entry| secret::same(&entry.hash, &secret::hash(key)));
        let entry = entry.ok_or(Rejected::Unknown)?;
        if expired(entry.expires_at) {
            return Err(Rejected::Expired);
        }
        Ok(Grant { tenant: entry.tenant.clone(), role: entry.role, scopes: entry.scopes.clone() })
    }

    /// What is known of each key, in order of id.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let info = |(id, entry): (&String, &Entry)| KeyInfo {
            id: id.clone(),
            tenant: entry.tenant.clone(),
            role: entry.role,
            scopes: entry.scopes.clone(),
            label: entry.label.clone(),
            created_at: entry.created_at,
            expires_at: entry.expires_at,
        };
        self.read().iter().map(info).collect()
    }

    /// Removes a key; false when there is none of that id. It is refused from then on: here at once,
    /// in other processes when they look next.
    ///
    /// # Errors
    /// [`KeysError::Write`]; then the key still stands. [`KeysError::Read`] or [`KeysError::Malformed`].
    pub fn revoke(&self, id: &str) -> Result<bool, KeysError> {
        Ok(self.change(|table| table.remove(id))?.is_some())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn install(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Changes what the file has by now, stores it, and only then lets it count. `edit` gives `None`
    /// where there is nothing to change.
    fn change<T>(&self, edit: impl FnOnce(&mut Table) -> Option<T>) -> Result<Option<T>, KeysError> {
        let failed = |source| KeysError::Write { path: self.path.clone(), source };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = file::lock(&self.path).map_err(failed)?;
        let (mut table, mut stamp) = match file::open(&self.path)? {
            Some((file, stamp)) => (file::read(&self.path, file)?, Some(stamp)),
            None => (Table::new(), None),
        };
        let made = edit(&mut table);
        if made.is_some() {
            stamp = Some(file::write(&self.path, &table).map_err(failed)?);
        }
        self.install(table);
        *seen = stamp;
        Ok(made)
    }
}

/// Refuses what nobody can have meant.
fn check(new: &NewKey) -> Result<(), KeysError> {
    if new.label.chars().count() > 128 || new.label.chars().any(char::is_control) {
        return Err(KeysError::Label);
    }
    if new.lifetime.is_some_and(|life| life < Duration::from_secs(1) || life > LONGEST_LIFETIME) {
        return Err(KeysError::Lifetime);
    }
    let useful = |scope: Scope| permissions::reaches(new.role, |group| scope.takes_in(group));
    if let Some(scope) = new.scopes.iter().copied().find(|scope| !useful(*scope)) {
        let names = permissions::scopes().filter_map(|name| Scope::parse(name).ok());
        let allowed: Vec<_> = names.filter(|scope| useful(*scope)).map(Scope::as_str).collect();
        return Err(KeysError::Scope { role: new.role, scope, allowed: allowed.join(", ") });
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn expired(at: Option<u64>) -> bool {
    at.is_some_and(|at| at <= now())
}

#[cfg(test)]
mod tests;
