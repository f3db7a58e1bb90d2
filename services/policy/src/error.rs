//! What a caller can have done wrong here.

use mesh::error::{Fault, Kind};
use switchboard_mesh as mesh;

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
    /// Nobody has loaded a policy for the tenant: set one up first.
    #[error("the tenant has no policy bundle loaded, so no action can be decided on")]
    NoPolicy,
    /// The inspection of a long text did not come back.
    #[error("the inspection was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Field { .. } => Kind::Invalid,
            Self::NoPolicy => Kind::Precondition,
            Self::Lost(_) => Kind::Internal,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } => Some(field),
            Self::NoPolicy | Self::Lost(_) => None,
        }
    }
}
