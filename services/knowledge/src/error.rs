//! What can go wrong, and what the caller should do about it.

use std::{path::PathBuf, time::Duration};

use mesh::error::{Fault, Kind};
use rusqlite::ErrorCode;
use switchboard_mesh as mesh;

/// A failure of the knowledge service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the folder: stop it, or use another folder.
    #[error("the folder {} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be used: make it writable.
    #[error("the folder {} cannot be used", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database is damaged: restore it from a copy, or remove it and ingest again.
    #[error(
        "the database {} is damaged ({detail}); restore a copy, or remove it and ingest again",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The database was written by a later version: use that version.
    #[error("the database {} has schema {found}; this version knows up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The latest schema known here.
        known: i64,
    },
    /// Vectors of two models cannot be compared: go back to the stored one, or delete every
    /// document and ingest again.
    #[error(
        "the stored vectors are of model {stored:?}, new ones would be of {found:?}; embed with the stored \
         model, or delete every document and ingest again"
    )]
    OtherModel {
        /// The model of the stored vectors.
        stored: String,
        /// The model that was configured or that answered.
        found: String,
    },
    /// The disk is full; nothing was stored and nothing was lost. Safe to try again.
    #[error("the disk is full; nothing of this document was stored")]
    Full,
    /// The database cannot be written; nothing was stored and nothing was lost.
    #[error("the database cannot be written")]
    ReadOnly(#[source] rusqlite::Error),
    /// SQLite failed otherwise.
    #[error("the database failed")]
    Storage(#[source] rusqlite::Error),
    /// The node is stopping; try another.
    #[error("the knowledge service is stopping")]
    Stopping,
    /// The embeddings service did not do its part; nothing of the document was stored.
    #[error("the texts could not be embedded: {message}")]
    Embeddings {
        /// What to do.
        kind: Kind,
        /// What it said.
        message: String,
    },
    /// There is no such passage, or no longer.
    #[error("there is no such passage; its document may have changed")]
    PassageGone,
    /// A query vector of another model.
    #[error("the vector has {given} components; those of the passages have {expected}")]
    Dimension {
        /// Components of the stored vectors.
        expected: usize,
        /// Components of the query's.
        given: usize,
    },
    /// A passage came to the store without one of its vectors.
    #[error("a passage lacks a vector of {dimension} components")]
    Incomplete {
        /// Components of the vectors.
        dimension: usize,
    },
    /// Another connection holds the database; nothing was stored. Safe to try again.
    #[error("the database is busy")]
    Busy(#[source] rusqlite::Error),
    /// As many documents as may be are being parsed, and none was done in time. Safe to try again.
    #[error("too many documents are being read; try again later")]
    ParsersBusy,
    /// A thread that should have answered is gone.
    #[error("work stopped without an answer")]
    Lost,
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } | Self::Folder { .. } | Self::Newer { .. } | Self::OtherModel { .. } => {
                Kind::Precondition
            }
            Self::Full | Self::ParsersBusy => Kind::Overloaded,
            Self::ReadOnly(_) | Self::Busy(_) | Self::Stopping => Kind::Unavailable,
            Self::Corrupt { .. } | Self::Storage(_) | Self::Incomplete { .. } | Self::Lost => Kind::Internal,
            Self::Embeddings { kind, .. } => *kind,
            Self::PassageGone => Kind::NotFound,
            Self::Dimension { .. } => Kind::Invalid,
        }
    }

    fn field(&self) -> Option<&str> {
        matches!(self, Self::Dimension { .. }).then_some("forms.vector")
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full => Some(Duration::from_secs(30)),
            _ if matches!(self.kind(), Kind::Unavailable | Kind::Overloaded) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl Error {
    /// Sorts an error of SQLite by what the caller should do; `path` is the database.
    pub(crate) fn sqlite(path: &std::path::Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly(error)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path: path.to_owned(), detail: error.to_string() }
            }
            _ => Self::Storage(error),
        }
    }
}
