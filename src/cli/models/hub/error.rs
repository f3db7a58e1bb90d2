//! What can go wrong between here and a hub.

use std::{io, path::PathBuf};

use ureq::http::StatusCode;

/// Why a hub was of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// A setting cannot be used. Change it.
    #[error("{key} {problem}")]
    Setting { key: String, problem: String },
    /// There is no way to the hub. Try again later, or bring the files by other means.
    #[error("the model hub {hub} cannot be reached: {reason}")]
    Unreachable { hub: String, reason: String },
    /// The hub has no such model, revision or file.
    #[error("the model hub {hub} has no {what}")]
    Unknown { hub: String, what: String },
    /// The hub wants to know who is asking.
    #[error("{what} is not given to everyone (or not there at all): {advice}")]
    Denied { what: String, advice: &'static str },
    /// The hub is busy or broken. Try again later.
    #[error("the model hub answered {status}")]
    Busy { status: StatusCode },
    /// The connection ended early. Trying again goes on where it ended.
    #[error("{path}: the connection was cut after {got} of {size} bytes: {reason}")]
    Cut { path: String, got: u64, size: u64, reason: String },
    /// The hub's answer is not what it should be.
    #[error("the model hub's answer cannot be used: {problem}")]
    Answer { problem: String },
    /// What came is not what the hub says it has. It was thrown away.
    #[error("{path} has the {kind} {found}, and {expected} was expected: what came was thrown away")]
    Checksum { path: String, kind: &'static str, found: String, expected: String },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl HubError {
    /// Whether the same request may succeed in a moment.
    pub(crate) fn passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Cut { .. })
    }
}

/// The answer cannot be used, for `problem`.
pub(super) fn answer(problem: impl Into<String>) -> HubError {
    HubError::Answer { problem: problem.into() }
}
