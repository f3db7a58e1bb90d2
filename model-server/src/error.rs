//! What can go wrong, at start-up and in a call.

use std::{path::PathBuf, time::Duration};

use switchboard_mesh::error::{Fault, Kind};

use crate::backend::BackendError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the repository cannot be used. Mend it and load the model again.
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
    /// A model's folder cannot be loaded. Its operator reads why in the log; callers learn no paths.
    #[error("the model {name} cannot be loaded: {reason}")]
    Unloadable {
        /// The model.
        name: String,
        /// Which file is at fault, relative to the model's folder, and what is wrong with it.
        reason: String,
    },
    /// No such model. Ask for one that is loaded.
    #[error("no model of that name is loaded here; loaded: {loaded}")]
    UnknownModel {
        /// Names of the loaded models.
        loaded: String,
    },
    /// No such folder in the repository. Load one that is there.
    #[error("the repository has no folder of that name; there are: {there}")]
    NotInRepository {
        /// Names of the folders.
        there: String,
    },
    /// No model does this. Ask another node.
    #[error("no model for this task is loaded")]
    NoModel,
    /// The named model does something else. Name another one.
    #[error("the model {name} does not {wanted}: its task is {task}")]
    OtherTask {
        /// The model.
        name: String,
        /// Its task.
        task: &'static str,
        /// What was asked of it.
        wanted: &'static str,
    },
    /// A field of the request is out of bounds. Change it.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What it is, and what is allowed.
        problem: String,
    },
    /// A text is longer than the model reads and was not to be cut. Shorten it, or let it be cut.
    #[error("{field}: {tokens} tokens; the model reads {most}")]
    TooLong {
        /// The field.
        field: String,
        /// Its tokens, special ones included.
        tokens: usize,
        /// As many as fit.
        most: usize,
    },
    /// Callers may not load and unload models. Set `inference.model_control` to let them.
    #[error("loading and unloading models is switched off on this node")]
    NoControl,
    /// The model's queue is full, or the device's memory is. Try again later, here or elsewhere.
    #[error("the model has more work than it can take")]
    Overloaded {
        /// When there should be room.
        retry_after: Duration,
    },
    /// The deadline passed, or would have, before the work was done. Allow more time.
    #[error("it cannot be done before the deadline")]
    Deadline,
    /// The model has been unloaded, or its engine has ended. Try elsewhere.
    #[error("the model has stopped")]
    Stopped,
    /// The tokenizer refused a text; it should take any.
    #[error("a text could not be tokenised: {0}")]
    Tokenizer(String),
    /// The model failed on a batch.
    #[error("the model could not run")]
    Backend(#[from] BackendError),
}

impl Error {
    /// A field of the request that is not allowed.
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// The same about another field, where it is about one: who finds the error may not know which.
    pub(crate) fn in_field(self, field: impl Into<String>) -> Self {
        let field = field.into();
        match self {
            Self::Invalid { problem, .. } => Self::Invalid { field, problem },
            Self::TooLong { tokens, most, .. } => Self::TooLong { field, tokens, most },
            other => other,
        }
    }
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File { .. } | Self::Runtime { .. } | Self::Unloadable { .. } => Kind::Precondition,
            Self::NoModel | Self::OtherTask { .. } => Kind::Precondition,
            Self::UnknownModel { .. } | Self::NotInRepository { .. } => Kind::NotFound,
            Self::Invalid { .. } | Self::TooLong { .. } => Kind::Invalid,
            Self::NoControl => Kind::Denied,
            Self::Overloaded { .. } => Kind::Overloaded,
            Self::Deadline => Kind::Deadline,
            Self::Stopped => Kind::Unavailable,
            Self::Tokenizer(_) | Self::Backend(_) => Kind::Internal,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } | Self::TooLong { field, .. } => Some(field),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}
