//! What can go wrong besides a bad request.

use switchboard_mesh::error::{self, Fault, Kind};
use tonic::{Code, Status};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The answer does not fit the question. Give up: a node is of another version, or broken.
    #[error("the model-server answered {got} vectors for {texts} texts")]
    Count {
        /// Vectors that came.
        got: usize,
        /// Texts that were sent.
        texts: usize,
    },
    /// Calls of one request met different models again and again, whose vectors must not be mixed.
    /// Try again: nodes are being changed.
    #[error("the model changed while the texts were embedded")]
    ModelChanged,
    /// The model-server found fault with what had been checked here. Give up.
    #[error("the model-server answered {code:?}: {message}")]
    Upstream {
        /// Its code.
        code: Code,
        /// Its message.
        message: String,
    },
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Count { .. } | Self::Upstream { .. } => Kind::Internal,
            Self::ModelChanged => Kind::Unavailable,
        }
    }
}

/// The status that the caller gets for one of the model-server.
///
/// What the caller can act on is passed on whole, with its details: of what was not checked here,
/// that is the name of a prompt. That a node has no embedding model at all is the same to a caller as
/// that there is no node.
pub(crate) fn from_upstream(status: Status, prompted: bool) -> Status {
    match status.code() {
        Code::InvalidArgument if prompted => status,
        Code::NotFound
        | Code::ResourceExhausted
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unauthenticated
        | Code::PermissionDenied => status,
        Code::FailedPrecondition => error::of_kind(Kind::Unavailable, status.message()),
        code => error::status(Error::Upstream { code, message: status.message().to_owned() }),
    }
}
