//! What can go wrong, at start-up and in a call.

use std::{path::PathBuf, time::Duration};

use switchboard_mesh::error::{Fault, Kind};

use crate::backend::BackendError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or folder of the repository cannot be used. Mend it and start again.
    #[error("{} {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The runtime library cannot be used. Install it, or set `inference.runtime`.
    #[error("the ONNX Runtime library {} {problem}", path.display())]
    Runtime {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No such model. Ask for one that is loaded.
    #[error("no model of that name is loaded here; loaded: {loaded}")]
    UnknownModel {
        /// Names of the loaded models.
        loaded: String,
    },
    /// No model does this. Ask another node.
    #[error("no model for this task is loaded")]
    NoModel,
    /// The model's queue is full. Try again, here or elsewhere.
    #[error("the model's queue is full")]
    Overloaded,
    /// The deadline passed before the work was begun. Allow more time.
    #[error("the deadline passed while the texts waited for the model")]
    Deadline,
    /// The model's thread has ended. Try elsewhere.
    #[error("the model has stopped")]
    Stopped,
    /// The tokenizer refused a text; it should take any.
    #[error("a text could not be tokenised: {0}")]
    Tokenizer(String),
    /// The model failed on a batch.
    #[error("the model could not run")]
    Backend(#[from] BackendError),
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File { .. } | Self::Runtime { .. } | Self::NoModel => Kind::Precondition,
            Self::UnknownModel { .. } => Kind::NotFound,
            Self::Overloaded => Kind::Overloaded,
            Self::Deadline => Kind::Deadline,
            Self::Stopped => Kind::Unavailable,
            Self::Tokenizer(_) | Self::Backend(_) => Kind::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        // A few batches later there is room again.
        matches!(self, Self::Overloaded).then_some(Duration::from_millis(250))
    }
}
