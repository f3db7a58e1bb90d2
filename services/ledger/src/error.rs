//! What can go wrong, and what the caller should do about it.
//!
//! Errors are told to everyone who waited for the same transaction, so they can be copied and keep what the
//! engine below said as text. None of them holds anything of a record but its id and place.

use std::{path::PathBuf, time::Duration};

use mesh::error::{Fault, Kind};
use rusqlite::ErrorCode;
use switchboard_mesh as mesh;
use uuid::Uuid;

/// A failure of the ledger.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A field is not as it should be: fix the request.
    #[error("{field}: {allowed}")]
    Field {
        /// Its name.
        field: String,
        /// What is allowed.
        allowed: String,
    },
    /// The id was given to another record before: make a new one.
    #[error("the record {id} is there with other content; nothing of this request was written")]
    Conflict {
        /// The id.
        id: Uuid,
    },
    /// The tenant has no such record.
    #[error("there is no such record")]
    Gone,
    /// The record has no sealed bytes.
    #[error("the record has no sealed bytes")]
    NotSealed,
    /// The subject was erased; nobody can read the bytes again.
    #[error("the sealed bytes cannot be read: their subject was erased")]
    Erased,
    /// No signed checkpoint covers what was asked for: wait for the next one.
    #[error("no checkpoint covers {what} yet; `ledger.checkpoint` says how often one is signed")]
    NotCovered {
        /// What was asked for.
        what: &'static str,
    },
    /// Exports cannot be written: make the folder of `ledger.export` writable.
    #[error("the export cannot be written: {detail}")]
    Export {
        /// What the place said.
        detail: String,
    },
    /// The store that exports go to refuses them: put the key right, or what it points to.
    #[error("the export cannot be written; {key}: {detail}")]
    Place {
        /// The key of the configuration.
        key: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The store that exports go to is away. Safe to try again: the same records go to the same files.
    #[error("the export cannot be written now; {key}: {detail}")]
    PlaceAway {
        /// The key that says where it is.
        key: &'static str,
        /// What was tried.
        detail: String,
    },
    /// Too much waits to be written; nothing of this request was. Safe to try again.
    #[error("too many records wait to be written; try again later")]
    Overloaded,
    /// The disk is full; nothing was written and nothing was lost. Safe to try again.
    #[error("the disk is full; nothing of this request was written")]
    Full,
    /// The store cannot be reached or written now; what was not answered may be repeated.
    #[error("the store of the ledger is away: {detail}")]
    Away {
        /// What the engine said.
        detail: String,
    },
    /// The records are written, but not their signed head outside the store: repeat the request.
    #[error("the signed head of the records could not be written outside the store; repeat the request")]
    Unkept,
    /// The store failed otherwise.
    #[error("the store of the ledger failed: {detail}")]
    Storage {
        /// What the engine said.
        detail: String,
    },
    /// A stored record cannot be read: verify the ledger.
    #[error("the record at sequence {sequence} cannot be read ({detail}); verify the ledger")]
    Damaged {
        /// Its place.
        sequence: u64,
        /// What is wrong.
        detail: String,
    },
    /// The stored head of a chain is not one: verify the ledger.
    #[error("the stored head of the chain cannot be read; verify the ledger")]
    DamagedHead,
    /// The database is damaged: restore it from a copy.
    #[error("the database {} is damaged ({detail}); keep it, verify it, and restore a copy", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The store was written by a later version: use that version.
    #[error("the store has schema {found}; this version knows up to {known}")]
    Newer {
        /// Its schema.
        found: i64,
        /// The latest schema known here.
        known: i64,
    },
    /// Another process holds the folder: stop it, or use another folder.
    #[error("the folder {} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("{} cannot be used: {detail}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A key is not as it should be.
    #[error("{key}: {allowed}")]
    Key {
        /// The key of the configuration, or its file.
        key: String,
        /// What is allowed.
        allowed: String,
    },
    /// Sealed bytes cannot be opened with the key that is there.
    #[error("the sealed bytes do not fit their key; verify the ledger")]
    Unsealed,
    /// The master key that a subject's key was wrapped with is not there.
    #[error("the master key {id:?} is not among `ledger.master_keys`")]
    NoMaster {
        /// Its id.
        id: String,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// The node is stopping; try another.
    #[error("the ledger is stopping")]
    Stopping,
    /// A thread that should have answered is gone.
    #[error("work stopped without an answer")]
    Lost,
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Field { .. } => Kind::Invalid,
            Self::Conflict { .. } => Kind::Exists,
            Self::Gone | Self::NotSealed => Kind::NotFound,
            Self::Erased
            | Self::NotCovered { .. }
            | Self::Export { .. }
            | Self::Place { .. }
            | Self::Newer { .. }
            | Self::InUse { .. }
            | Self::File { .. }
            | Self::Key { .. } => Kind::Precondition,
            Self::Overloaded => Kind::Overloaded,
            Self::Full | Self::Away { .. } | Self::PlaceAway { .. } | Self::Unkept | Self::Stopping => {
                Kind::Unavailable
            }
            Self::Storage { .. }
            | Self::Damaged { .. }
            | Self::DamagedHead
            | Self::Corrupt { .. }
            | Self::Unsealed
            | Self::NoMaster { .. }
            | Self::Random
            | Self::Lost => Kind::Internal,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } => Some(field),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full | Self::Unkept | Self::PlaceAway { .. } => Some(Duration::from_secs(10)),
            Self::Overloaded => Some(Duration::from_millis(200)),
            Self::Away { .. } | Self::Stopping => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl Error {
    /// Names a field of a request and what is allowed there.
    pub(crate) fn field(field: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::Field { field: field.into(), allowed: allowed.into() }
    }

    /// A file or folder that cannot be used.
    pub(crate) fn file(path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::File { path: path.into(), detail: error.to_string() }
    }

    /// Whether it lies in what one tenant has in the store, so that others can go on.
    pub(crate) fn of_one_tenant(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::DamagedHead
                | Self::Unsealed
                | Self::NoMaster { .. }
                | Self::Storage { .. }
        )
    }

    /// Sorts an error of SQLite by what the caller should do; `path` is the database.
    pub(crate) fn sqlite(path: &std::path::Path, error: &rusqlite::Error) -> Self {
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure,
            ) => Self::Away { detail },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path: path.to_owned(), detail }
            }
            _ => Self::Storage { detail },
        }
    }

    /// Sorts an error of PostgreSQL by what the caller should do. What a server says of values is left out.
    pub(crate) fn postgres(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(told) => {
                let code = told.code().unwrap_or_default();
                let detail = format!("PostgreSQL answered {code}");
                match code.as_ref() {
                    "53100" => Self::Full,
                    // A connection, a shutdown, too many clients, a lock or a statement that took too long, a
                    // read-only standby, a deadlock, a transaction to be done again.
                    code if code.starts_with("08") || code.starts_with("57") || code.starts_with("53") => {
                        Self::Away { detail }
                    }
                    "55P03" | "25006" | "40P01" | "40001" => Self::Away { detail },
                    _ => Self::Storage { detail },
                }
            }
            sqlx::Error::Io(error) => Self::Away { detail: error.to_string() },
            sqlx::Error::Tls(error) => Self::Away { detail: error.to_string() },
            sqlx::Error::PoolTimedOut => Self::Away { detail: "no connection was free in time".into() },
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => {
                Self::Away { detail: "the connection was lost".into() }
            }
            _ => Self::Storage { detail: "an answer of PostgreSQL could not be read".into() },
        }
    }
}
