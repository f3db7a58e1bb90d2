//! An authority, and certificates of it for whoever is needed.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::identity::{Config, Identity};

/// An authority of its own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate's files in a folder that goes with them.
pub(super) struct Files {
    pub(super) config: Config,
    _folder: TempDir,
}

impl Files {
    pub(super) fn load(&self) -> Identity {
        Identity::load(&self.config).unwrap()
    }

    /// Puts the files of `other` in place of these.
    pub(super) fn become_as(&self, other: &Files) {
        for ((_, from), (_, to)) in other.config.files().into_iter().zip(self.config.files()) {
            std::fs::copy(from, to).unwrap();
        }
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Each has a name of its own.
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{:?}", &key.public_key_raw()[..8]));
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A node with these roles, with slashes between.
    pub(super) fn node(&self, roles: &str) -> Files {
        self.named(&[&format!("spiffe://switchboard/role/{roles}")])
    }

    /// A node with these URIs as names.
    pub(super) fn named(&self, uris: &[&str]) -> Files {
        let hour = Duration::from_secs(3600);
        self.made(uris, SystemTime::now() - hour, SystemTime::now() + 24 * hour)
    }

    /// A node whose certificate is valid from `from` to `to`.
    pub(super) fn lived(&self, role: &str, from: SystemTime, to: SystemTime) -> Files {
        self.made(&[&format!("spiffe://switchboard/role/{role}")], from, to)
    }

    fn made(&self, uris: &[&str], from: SystemTime, to: SystemTime) -> Files {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        (params.not_before, params.not_after) = (from.into(), to.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        files(&certificate.pem(), &key, &self.pem())
    }
}

/// A certificate that is its own authority.
pub(super) fn self_signed(role: &str, authorities: &str) -> Files {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://switchboard/role/{role}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    files(&certificate.pem(), &key, authorities)
}

fn files(certificate: &str, key: &KeyPair, authorities: &str) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = Config {
        certificate: path("node.pem"),
        key: path("node.key"),
        authorities: path("ca.pem"),
        ..Config::default()
    };
    std::fs::write(&config.certificate, certificate).unwrap();
    std::fs::write(&config.key, key.serialize_pem()).unwrap();
    std::fs::write(&config.authorities, authorities).unwrap();
    Files { config, _folder: folder }
}
