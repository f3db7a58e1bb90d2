//! What can go wrong besides a bad request.

use switchboard_mesh::error::{self, Fault, Kind};
use tonic::{Code, Status};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The answer does not fit the question. Give up: a node is of another version, or broken.
    #[error("the model-server answered {got} scores for {candidates} candidates")]
    Count {
        /// Scores that came.
        got: usize,
        /// Candidates that were sent.
        candidates: usize,
    },
    /// A score is no number. Give up: the model is broken.
    #[error("the model {model:?} gave a score that is no number")]
    NoNumber {
        /// The model.
        model: String,
    },
    /// The named model scores no candidates. Name another one, or none.
    #[error("no node has a model {name:?} that scores candidates")]
    NoSuchModel {
        /// As the request or the configuration names it.
        name: String,
    },
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
            Self::Count { .. } | Self::NoNumber { .. } | Self::Upstream { .. } => Kind::Internal,
            Self::NoSuchModel { .. } => Kind::NotFound,
        }
    }
}

/// The status that the caller gets for one of the model-server: what the caller can act on is passed
/// on whole, with its details.
pub(crate) fn from_upstream(status: Status) -> Status {
    match status.code() {
        Code::NotFound
        | Code::ResourceExhausted
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unauthenticated
        | Code::PermissionDenied => status,
        code => error::status(Error::Upstream { code, message: status.message().to_owned() }),
    }
}
