//! From the files to what connections are made with.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher as _},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig,
    client::Resumption,
    client::danger::ServerCertVerifier as _,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject as _},
    server::{NoServerSessionStorage, danger::ClientCertVerifier as _},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    config::Config,
    error::{Fault, IdentityError},
    spiffe::Peer,
    verify::Verifier,
};

/// Bytes of one file, far above what a bundle of authorities needs.
const LARGEST: u64 = 1 << 20;
/// Certificates between a node and its authority, and authorities.
const MOST: usize = 256;
/// HTTP/2, as gRPC wants it.
const ALPN: &[u8] = b"h2";

/// The bytes of the three files.
#[derive(Hash)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

impl Files {
    pub(super) fn read(config: &Config) -> Result<Self, IdentityError> {
        let [certificate, key, authorities] = config.files().map(|(key, path)| read(key, path));
        Ok(Self { certificate: certificate?, key: key?, authorities: authorities? })
    }

    /// A number that tells files apart, so that the key need not be kept to see a change.
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let fault = |fault| IdentityError { key, path: path.to_owned(), fault };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| fault(Fault::Unreadable(error)))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| fault(Fault::Unreadable(error)))?;
    if bytes.len() as u64 > LARGEST {
        return Err(fault(Fault::Large { limit: LARGEST }));
    }
    Ok(bytes)
}

/// What connections are made with, and how long it holds.
pub(super) struct Material {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) verifier: Arc<Verifier>,
    /// This node, as others see it.
    pub(super) own: Peer,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Material {
    /// Makes connections' settings of `files`, which must be good `now`.
    pub(super) fn of(config: &Config, files: &Files, now: SystemTime) -> Result<Self, IdentityError> {
        let [certificate, key, authorities] = config
            .files()
            .map(|(key, path)| move |fault: Fault| IdentityError { key, path: path.to_owned(), fault });
        let chain = certificates(&files.certificate).map_err(&certificate)?;
        let own = Peer::of(&chain[0], &config.domain).map_err(|error| certificate(error.into()))?;
        let (not_before, not_after) = validity(&chain[0]).map_err(&certificate)?;
        if now < not_before {
            return Err(certificate(Fault::NotYetValid(not_before)));
        }
        if now > not_after {
            return Err(certificate(Fault::Expired(not_after)));
        }
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.authorities).map_err(&authorities)? {
            roots.add(authority).map_err(|error| authorities(malformed(&error)))?;
        }
        // Given to each setting rather than to the process, whose other parts have their own say.
        let provider = Arc::new(ring::default_provider());
        let private = PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| {
            key(if matches!(error, pem::Error::NoItemsFound) { Fault::NoKey } else { malformed(&error) })
        })?;
        let pair = CertifiedKey::from_der(chain, private, &provider).map_err(|error| {
            let other = error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
            key(if other { Fault::OtherKey } else { malformed(&error) })
        })?;
        let verifier = Verifier::new(roots, config.domain.clone(), &provider)
            .map_err(|error| authorities(malformed(&error)))?;
        would_be_believed(&verifier, &pair.cert, &own, now).map_err(&certificate)?;
        let (verifier, pair) = (Arc::new(verifier), Arc::new(SingleCertAndKey::from(pair)));
        let unusable = |error: rustls::Error| certificate(malformed(&error));

        let versions = &[&TLS13, &TLS12];
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_cert_resolver(Arc::clone(&pair) as _);
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Connections are long. What a resumed one saves is not worth a certificate that nobody looked at.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(pair);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        // The name is a role, not that of a host.
        client.enable_sni = false;
        let (server, client) = (Arc::new(server), Arc::new(client));
        Ok(Self { server, client, verifier, own, not_before, not_after })
    }
}

/// Asks of our own certificate what other nodes will.
fn would_be_believed(
    verifier: &Verifier,
    chain: &[CertificateDer<'_>],
    own: &Peer,
    now: SystemTime,
) -> Result<(), Fault> {
    let refused = |error: rustls::Error| Fault::Refused(error.to_string());
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let (own_certificate, between) = chain.split_first().ok_or(Fault::NoCertificate)?;
    verifier.verify_client_cert(own_certificate, between, now).map_err(refused)?;
    for role in own.roles() {
        let role = ServerName::try_from(role).map_err(|error| malformed(&error))?;
        verifier.verify_server_cert(own_certificate, between, &role, &[], now).map_err(refused)?;
    }
    Ok(())
}

fn malformed(error: &dyn std::error::Error) -> Fault {
    Fault::Malformed(error.to_string())
}

/// The certificates of a PEM file; at least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).take(MOST).collect();
    let found = found.map_err(|error| malformed(&error))?;
    if found.is_empty() { Err(Fault::NoCertificate) } else { Ok(found) }
}

/// From when and until when a certificate is valid.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), Fault> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| malformed(&error))?;
    let at = |seconds: i64| {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let validity = certificate.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}

/// Until when the first certificate of a PEM file is valid.
///
/// # Errors
/// A file without a certificate, or with one that cannot be read.
pub fn expiry(text: &[u8]) -> Result<SystemTime, Fault> {
    let found = certificates(text)?;
    Ok(validity(&found[0])?.1)
}

/// Warns of a key that others on this machine can read.
pub(super) fn warn_of_readers(config: &Config) {
    if let Some(mode) = rights_of_others(&config.key) {
        let path = config.key.display();
        tracing::warn!(%path, %mode, "others than its owner have rights on the key file; 600 is meant");
    }
}

/// The mode of a file, where others than its owner have a right on it.
fn rights_of_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| format!("{mode:03o}"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, told) in [(0o600, None), (0o400, None), (0o640, Some("640")), (0o604, Some("604"))] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(rights_of_others(file.path()).as_deref(), told, "{mode:o}");
        }
        assert_eq!(rights_of_others(Path::new("/nowhere/at/all")), None);
    }
}
