//! Why an identity cannot be had.

use std::{fmt, io, path::PathBuf, time::SystemTime};

use humantime_serde::re::humantime::format_rfc3339_seconds;

use super::spiffe::NameError;

/// A file of the identity that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {} cannot be used: {fault}", path.display())]
pub struct IdentityError {
    /// The config key.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it. Part of the message, so no source of it.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It is no certificate store that anybody would have.
    #[error("it is larger than {limit} bytes")]
    Large {
        /// Bytes.
        limit: u64,
    },
    /// It holds no certificate.
    #[error("there is no certificate in it: a PEM file with -----BEGIN CERTIFICATE----- is needed")]
    NoCertificate,
    /// It holds no key.
    #[error("there is no key in it: a PEM file with a PKCS#8, SEC1 or RSA private key is needed")]
    NoKey,
    /// What it holds is broken, or of a kind that is not supported.
    #[error("what it holds is not usable ({0})")]
    Malformed(String),
    /// The key is of another certificate.
    #[error("the key does not belong to the certificate")]
    OtherKey,
    /// The certificate was valid once.
    #[error("the certificate expired {}", At(.0))]
    Expired(SystemTime),
    /// The certificate will be valid.
    #[error("the certificate is valid only from {} on", At(.0))]
    NotYetValid(SystemTime),
    /// The certificate names no node of the mesh.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Other nodes would refuse the certificate.
    #[error("other nodes would refuse the certificate ({0}); identity.authorities must hold its authority")]
    Refused(String),
    /// Callers would miss a role that this node has, and serves.
    #[error(
        "the certificate lacks the role {role}, which the one in use has; to change roles, restart the node"
    )]
    RoleGone {
        /// The first of those that it lacks.
        role: String,
    },
}

/// A time for people.
pub(super) struct At<'a>(pub(super) &'a SystemTime);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter fails beyond the year 9999.
        match fmt::Write::write_fmt(f, format_args!("{}", format_rfc3339_seconds(*self.0))) {
            Ok(()) => Ok(()),
            Err(_) => f.write_str("in a far future"),
        }
    }
}
