//! The name in a certificate: which roles its holder has.
//!
//! A certificate of the mesh is an X.509-SVID: its one URI names the trust domain and, after `role`, each
//! role of the process, such as `spiffe://switchboard/role/knowledge/policy`. One name with several roles
//! rather than several names, since SPIFFE allows one URI a certificate.
//!
//! # Source
//! SPIFFE-ID, sections 2.1 to 2.3; X509-SVID, section 2.

use std::{fmt, sync::Arc};

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _, prelude::X509Certificate};

/// The longest SPIFFE ID, in bytes.
const LONGEST: usize = 2048;
/// More roles than a process can have.
const ROLES: usize = 64;

/// Who is at the other end of a connection, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    roles: Arc<[Box<str>]>,
}

/// Why a certificate names no node of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not X.509, or its names cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no URI, or several.
    #[error("the certificate has {0} URIs as its name: one is needed, spiffe://DOMAIN/role/ROLE")]
    Uris(usize),
    /// Its URI has another form.
    #[error("the certificate's name {0:?} is not of the form spiffe://DOMAIN/role/ROLE, with further /ROLE")]
    Form(String),
    /// It is of another mesh.
    #[error("the certificate's name is of the trust domain {found:?}, not of {expected:?}")]
    Domain {
        /// The domain in the certificate.
        found: String,
        /// The mesh's.
        expected: String,
    },
    /// It is another node's.
    #[error("the certificate is for {has}, not for {role}")]
    Role {
        /// The role that was called.
        role: String,
        /// The roles that the certificate is for.
        has: Peer,
    },
}

impl Peer {
    /// The roles, as the certificate has them in order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(AsRef::as_ref)
    }

    /// Whether it has `role`.
    #[must_use]
    pub fn has(&self, role: &str) -> bool {
        self.roles().any(|has| has == role)
    }

    /// The peer that a certificate names. Whether the certificate is to be believed is checked before.
    ///
    /// # Errors
    /// A certificate that names no node of `domain`.
    pub(super) fn of(certificate: &CertificateDer<'_>, domain: &str) -> Result<Self, NameError> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| NameError::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| NameError::Unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<&str> = names.iter().filter_map(uri).collect();
        match uris[..] {
            [uri] => Self::parse(uri, domain),
            _ => Err(NameError::Uris(uris.len())),
        }
    }

    fn parse(uri: &str, domain: &str) -> Result<Self, NameError> {
        // Of what cannot be a name no more is told than fits a line.
        let form = || NameError::Form(uri.chars().take(128).collect());
        let rest = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= LONGEST).ok_or_else(form)?;
        let (found, path) = rest.split_once('/').ok_or_else(form)?;
        if !is_domain(found) {
            return Err(form());
        }
        if found != domain {
            return Err(NameError::Domain { found: found.to_owned(), expected: domain.to_owned() });
        }
        let roles: Vec<&str> = path.strip_prefix("role/").ok_or_else(form)?.split('/').collect();
        if roles.len() > ROLES || !roles.iter().all(|role| is_segment(role)) {
            return Err(form());
        }
        Ok(Self { roles: roles.into_iter().map(Box::from).collect() })
    }

    /// A peer with these roles, for tests.
    #[cfg(test)]
    pub(super) fn with(roles: &[&str]) -> Self {
        Self { roles: roles.iter().copied().map(Box::from).collect() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.roles().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(role)?;
        }
        Ok(())
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        // A URI that is no text counts as one that has another form.
        GeneralName::Invalid(tag, _) if tag.0 == 6 => Some(""),
        _ => None,
    }
}

/// Whether `name` can be a trust domain.
pub(super) fn is_domain(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

/// Whether `name` can be a segment of a path.
fn is_segment(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    plain && !name.is_empty() && name.len() <= 64 && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_may_hold_several_roles() {
        let peer = Peer::parse("spiffe://switchboard/role/knowledge/policy", "switchboard").unwrap();
        assert!(peer.has("knowledge") && peer.has("policy") && !peer.has("know"));
        assert_eq!(peer.to_string(), "knowledge, policy");
    }

    #[test]
    fn what_is_no_name_of_the_mesh_is_refused() {
        let long = format!("spiffe://switchboard/role/{}", "a".repeat(65));
        let many = format!("spiffe://switchboard/role{}", "/a".repeat(65));
        for bad in [
            "",
            "spiffe://",
            "spiffe://switchboard",
            "spiffe://switchboard/",
            "spiffe://switchboard/role",
            "spiffe://switchboard/role/",
            "spiffe://switchboard/role//policy",
            "spiffe://switchboard/role/policy/",
            "spiffe://switchboard/role/../policy",
            "spiffe://switchboard/role/pol%69cy",
            "spiffe://switchboard/role/policy?x",
            "spiffe://switchboard/node/policy",
            "spiffe://switchboard:80/role/policy",
            "spiffe://user@switchboard/role/policy",
            "https://switchboard/role/policy",
            "SPIFFE://switchboard/role/policy",
            &long,
            &many,
        ] {
            let error = Peer::parse(bad, "switchboard").unwrap_err();
            assert!(matches!(error, NameError::Form(_)), "{bad}: {error}");
        }
        let error = Peer::parse("spiffe://other/role/policy", "switchboard").unwrap_err();
        assert!(error.to_string().contains("\"other\""), "{error}");
    }
}
