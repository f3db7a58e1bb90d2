//! Why the gateway itself refuses a call.

use std::time::Duration;

use mesh::error::{Fault, Kind};
use switchboard_mesh as mesh;
use tonic::Status;

use crate::{keys::Role, metrics};

/// A call that does not get past the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Send a key.
    #[error("an API key is needed: `authorization: Bearer <key>` or `x-api-key: <key>`")]
    NoKey,
    /// Send a key that is known here.
    #[error("the API key is not known here, or was revoked")]
    UnknownKey,
    /// Have a new key made.
    #[error("the API key has expired; have another one made")]
    ExpiredKey,
    /// Use a key of another role.
    #[error("this needs an API key of role {}", one_of(roles))]
    Role {
        /// The roles that may.
        roles: &'static [Role],
    },
    /// Use a key that is not as narrow.
    #[error("this needs an API key whose scopes have {scope}")]
    Scope {
        /// The scope that is needed.
        scope: &'static str,
    },
    /// Not from outside, whatever the key.
    #[error("no API key opens this: it is for other services alone")]
    Closed,
    /// Try again after a moment.
    #[error("the gateway serves as many calls as it can; try again after a moment")]
    Overloaded,
    /// Wait until one of the tenant's own calls has ended.
    #[error("this tenant has as many calls open as it may; try again when one has ended")]
    TenantOverloaded,
    /// Wait until the next call of this class is due.
    #[error("this tenant calls more often than it may in class {class}; try again later")]
    Rate {
        /// The class of the call.
        class: &'static str,
        /// How long to wait.
        after: Duration,
    },
    /// Send less in one call.
    #[error("one call may send at most {limit} bytes")]
    TooManyBytes {
        /// The most that is allowed.
        limit: u64,
    },
}

impl Refused {
    /// The name in metrics.
    fn reason(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::UnknownKey => "unknown_key",
            Self::ExpiredKey => "expired_key",
            Self::Role { .. } => "role",
            Self::Scope { .. } => "scope",
            Self::Closed => "closed",
            Self::Overloaded => "overloaded",
            Self::TenantOverloaded => "tenant_overloaded",
            Self::Rate { .. } => "rate",
            Self::TooManyBytes { .. } => "too_many_bytes",
        }
    }
}

impl Fault for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::NoKey | Self::UnknownKey | Self::ExpiredKey => Kind::Unauthenticated,
            Self::Role { .. } | Self::Scope { .. } | Self::Closed => Kind::Denied,
            Self::Overloaded | Self::TenantOverloaded | Self::Rate { .. } | Self::TooManyBytes { .. } => {
                Kind::Overloaded
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded | Self::TenantOverloaded => Some(Duration::from_secs(1)),
            Self::Rate { after, .. } => Some(*after),
            // Sending as much again would be refused again.
            _ => None,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        metrics::refused(refused.reason());
        mesh::error::status(refused)
    }
}

/// `a, b or c`.
fn one_of(roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => "none".to_owned(),
    }
}
