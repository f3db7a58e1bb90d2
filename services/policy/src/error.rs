//! What a caller can have done wrong here.

use mesh::error::{Fault, Kind};
use switchboard_mesh as mesh;

use crate::vault::StoreError;

/// Why a call cannot be served. None of the messages holds any of the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field is not as it should be: fix the request.
    #[error("{field}: {allowed}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The vault could not be read or written: try again; the text must not go on without it.
    #[error("the vault does not answer; what it holds is safe")]
    Vault(#[from] StoreError),
    /// The inspection of a long text did not come back.
    #[error("the inspection was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Field { .. } => Kind::Invalid,
            Self::Vault(_) => Kind::Unavailable,
            Self::Lost(_) => Kind::Internal,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } => Some(field),
            Self::Vault(_) | Self::Lost(_) => None,
        }
    }
}
