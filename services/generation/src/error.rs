//! What can go wrong in generation, and what its caller should do.

use switchboard_mesh::error::{self, Fault, Kind};
use tonic::{Code, Status};

use crate::catalogue::LanguageModel;

/// Characters that are told of what a node says.
const TOLD: usize = 200;

/// A request that cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Fix the field.
    #[error("{field}: {allowed}")]
    Invalid { field: &'static str, allowed: &'static str },
    /// Ask for one of the cards that `ListModels` names.
    #[error("there is no model card {name:?}; ListModels names those there are")]
    UnknownModel { name: String },
    /// Ask for another card, or for less.
    #[error("the model card {name:?} cannot serve this: {why}")]
    Unfit { name: String, why: String },
    /// Try again when a node has the model, or ask for another card.
    #[error("no node has the language model {model:?} of the model card {name:?}: {message}")]
    NoNode { name: String, model: String, message: String },
    /// Mend the card: it promises more than its model has.
    #[error(
        "the model {model:?} refuses the prompts of the model card {name:?} ({message}); its context_tokens, \
         max_tokens, bytes_per_token or system_message do not suit the model"
    )]
    PromptRefused { name: String, model: String, message: String },
    /// Try again: the node went away.
    #[error("the node's reply for the model card {name:?} ended without saying why")]
    BrokenOff { name: String },
    /// Give up: the node is of another version, or broken. This goes to the log, so it has none of the node's
    /// words: they may be a customer's.
    #[error("the node answered for the model card {name:?} with {code:?}")]
    Node { name: String, code: Code },
    /// Give up: a template that is built in does not render.
    #[error("the prompt cannot be made")]
    Prompt(#[from] minijinja::Error),
    /// Give up: reading the passages ended.
    #[error("the passages were not read")]
    Unread(#[from] tokio::task::JoinError),
}

impl Fault for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::Unfit { .. } => Kind::Invalid,
            Self::UnknownModel { .. } => Kind::NotFound,
            Self::NoNode { .. } | Self::BrokenOff { .. } => Kind::Unavailable,
            Self::PromptRefused { .. } => Kind::Precondition,
            Self::Node { .. } | Self::Prompt(_) | Self::Unread(_) => Kind::Internal,
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Unfit { .. } => Some("model"),
            _ => None,
        }
    }
}

/// The status that the caller gets for one of the node: what the caller can act on is passed on whole, with
/// its details.
pub(crate) fn from_node(status: Status, model: &LanguageModel) -> Status {
    let code = status.code();
    let message = || status.message().chars().take(TOLD).collect::<String>();
    let (name, model) = (model.name.clone(), model.model.clone());
    error::status(match code {
        Code::ResourceExhausted
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unauthenticated
        | Code::PermissionDenied => return status,
        // Nodes of an earlier version do not know the method.
        Code::NotFound | Code::FailedPrecondition | Code::Unimplemented => {
            Error::NoNode { name, model, message: message() }
        }
        Code::InvalidArgument => Error::PromptRefused { name, model, message: message() },
        code => Error::Node { name, code },
    })
}
