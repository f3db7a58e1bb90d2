//! What can go wrong with a call, and what its caller should do.

use switchboard_mesh::error::{Fault, Kind};

/// A call that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fix the field.
    #[error("{field}: {allowed}")]
    Invalid { field: &'static str, allowed: String },
    /// Start a new conversation.
    #[error("there is no such conversation; it may have been forgotten, or belong to another tenant")]
    NoConversation,
    /// Ask for a turn that is remembered.
    #[error("the conversation remembers no such turn")]
    NoTurn,
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NoConversation | Self::NoTurn => Kind::NotFound,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            _ => None,
        }
    }
}
