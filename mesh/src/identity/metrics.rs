//! Every metric of identity. All labels come from closed sets.

use std::{io, sync::LazyLock};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge},
};
use rustls::{CertificateError, Error, InvalidMessage};

use super::spiffe::NameError;
use crate::telemetry::meter;

static HANDSHAKES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    let about = "TLS connections between nodes, begun on either side, by what came of them";
    meter().u64_counter("switchboard_mesh_handshakes").with_description(about).build()
});
static RELOADS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    let about = "Changes of the identity's files, by what came of them";
    meter().u64_counter("switchboard_mesh_identity_reloads").with_description(about).build()
});
static LEFT: LazyLock<Gauge<f64>> = LazyLock::new(|| {
    let about = "Time until this node's certificate expires; negative once it has";
    meter().f64_gauge("switchboard_mesh_certificate_left").with_unit("s").with_description(about).build()
});

/// What came of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Ok,
    /// It took too long.
    Late,
    /// The other side does not speak TLS.
    PlainText,
    /// A client showed no certificate.
    NoCertificate,
    Expired,
    NotYetValid,
    UnknownAuthority,
    /// A name that is no node's of the mesh.
    Name,
    /// A server that has not the role that was called.
    Role,
    /// Another fault of the certificate.
    Certificate,
    /// The other side refused ours, or said that it cannot go on.
    Refused,
    /// No version or cipher in common, or bytes that make no sense.
    Protocol,
    /// The connection broke.
    Broken,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::PlainText => "plain_text",
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownAuthority => "unknown_authority",
            Self::Name => "name",
            Self::Role => "role",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Broken => "broken",
        }
    }

    /// Whether it is about who the other side is, which somebody has to put right.
    pub(super) fn is_identity(self) -> bool {
        matches!(
            self,
            Self::NoCertificate
                | Self::Expired
                | Self::NotYetValid
                | Self::UnknownAuthority
                | Self::Name
                | Self::Role
                | Self::Certificate
        )
    }

    /// What an error of the TLS library tells.
    pub(super) fn of(error: &io::Error) -> Self {
        match tls(error) {
            None if error.kind() == io::ErrorKind::TimedOut => Self::Late,
            None => Self::Broken,
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::PlainText,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::AlertReceived(_)) => Self::Refused,
            Some(Error::InvalidCertificate(fault)) => match fault {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Other(other) => match other.0.downcast_ref::<NameError>() {
                    Some(NameError::Role { .. }) => Self::Role,
                    Some(_) => Self::Name,
                    None => Self::Certificate,
                },
                _ => Self::Certificate,
            },
            Some(_) => Self::Protocol,
        }
    }
}

/// The TLS library's error inside an I/O error.
pub(super) fn tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Counts a handshake of `side`, client or server.
pub(super) fn handshake(side: &'static str, outcome: Outcome) {
    HANDSHAKES.add(1, &[KeyValue::new("side", side), KeyValue::new("outcome", outcome.as_str())]);
}

/// Counts a change of the files.
pub(super) fn reloaded(outcome: &'static str) {
    RELOADS.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// Tells the seconds until the certificate expires.
pub(super) fn certificate_left(seconds: f64) {
    LEFT.record(seconds, &[]);
}
