//! Why the gateway itself refuses a call.

use std::time::Duration;

use mesh::error::{Fault, Kind};
use switchboard_mesh as mesh;
use tonic::Status;

use crate::metrics;

/// A call that does not get past the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Send a key.
    #[error("an API key is needed: `authorization: Bearer <key>` or `x-api-key: <key>`")]
    NoKey,
    /// Send a key that is known here.
    #[error("the API key is not known here, or was revoked")]
    UnknownKey,
    /// Not with this kind of key.
    #[error("this method returns raw personal data and is not served to ordinary API keys")]
    Restricted,
    /// Try again after a moment.
    #[error("the gateway serves as many calls as it can; try again after a moment")]
    Overloaded,
    /// Wait until one of the tenant's own calls has ended.
    #[error("this tenant has as many calls open as it may; try again when one has ended")]
    TenantOverloaded,
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
            Self::Restricted => "restricted",
            Self::Overloaded => "overloaded",
            Self::TenantOverloaded => "tenant_overloaded",
            Self::TooManyBytes { .. } => "too_many_bytes",
        }
    }
}

impl Fault for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::NoKey | Self::UnknownKey => Kind::Unauthenticated,
            Self::Restricted => Kind::Denied,
            Self::Overloaded | Self::TenantOverloaded | Self::TooManyBytes { .. } => Kind::Overloaded,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        // Sending as much again would be refused again.
        matches!(self, Self::Overloaded | Self::TenantOverloaded).then_some(Duration::from_secs(1))
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        metrics::refused(refused.reason());
        mesh::error::status(refused)
    }
}
