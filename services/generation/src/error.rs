//! What can go wrong in generation, and what its caller should do.

use switchboard_mesh::error::{Fault, Kind};

/// A request that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fix the field.
    #[error("{field}: {allowed}")]
    Invalid { field: &'static str, allowed: &'static str },
    /// Ask for one of the cards that `ListModels` names.
    #[error("there is no model card {name:?}; ListModels names those there are")]
    UnknownModel { name: String },
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::UnknownModel { .. } => Kind::NotFound,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::UnknownModel { .. } => None,
        }
    }
}
