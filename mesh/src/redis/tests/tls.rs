//! Redis over TLS, with certificates of an authority of our own.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

/// Certificates in files.
struct Pki {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { folder: tempfile::tempdir().unwrap(), authority };
        std::fs::write(pki.authorities(), pki.authority.pem()).unwrap();
        pki
    }

    fn authorities(&self) -> PathBuf {
        self.folder.path().join("authorities.pem")
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Not the authority's, or it would look as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let [certificate_file, key_file] =
            ["crt", "key"].map(|kind| self.folder.path().join(format!("{name}.{kind}")));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (certificate_file, key_file)
    }

    /// A server on loopback that has a certificate for `name`.
    fn server(&self, name: &str, asks_for_one: bool) -> RedisServer {
        let (certificate, key) = self.issue(name);
        let authorities = self.authorities();
        RedisServer::with_tls(&certificate, &key, asks_for_one.then_some(&*authorities), &[])
    }

    /// How a client that trusts this authority reaches `server`.
    fn config(&self, server: &RedisServer) -> Config {
        let trusted = Config { tls: true, authorities: self.authorities(), ..Config::default() };
        Config { nodes: vec![server.address()], ..trusted }
    }
}

async fn refusal(config: &Config) -> String {
    match set_and_get(&open(config), "a").await.unwrap_err() {
        RedisError::Away(why) => why.to_lowercase(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_of_a_trusted_authority_answers_and_limits_rates() {
    let pki = Pki::new();
    let server = pki.server("127.0.0.1", false);
    let redis = open(&pki.config(&server));
    assert_eq!(set_and_get(&redis, "a").await.unwrap(), "value");
    let limiter = Limiter::new(Some(redis), "test");
    let rate = Rate { per_second: 0.01, burst: 1 };
    let verdict = limiter.admit("acme", rate).await;
    assert_eq!((verdict.by, verdict.wait), (By::Redis, None));
    assert!(limiter.admit("acme", rate).await.wait.is_some());
}

#[tokio::test]
async fn a_server_of_another_authority_or_another_name_is_not_spoken_to() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.server("127.0.0.1", false);
    let stranger = Config { nodes: vec![server.address()], ..other.config(&server) };
    let why = refusal(&stranger).await;
    assert!(why.contains("certificate"), "{why}");
    let elsewhere = pki.server("redis.example", false);
    let why = refusal(&pki.config(&elsewhere)).await;
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let pki = Pki::new();
    let server = pki.server("127.0.0.1", true);
    let mut config = pki.config(&server);
    refusal(&config).await;
    (config.certificate, config.key) = pki.issue("gateway");
    assert_eq!(set_and_get(&open(&config), "a").await.unwrap(), "value");
    let stranger = Pki::new();
    (config.certificate, config.key) = stranger.issue("gateway");
    refusal(&config).await;
}

#[tokio::test]
async fn without_tls_a_server_that_speaks_nothing_else_is_away() {
    let pki = Pki::new();
    let server = pki.server("127.0.0.1", false);
    let plain = config(Mode::Single, vec![server.address()]);
    assert!(set_and_get(&open(&plain), "a").await.is_err());
}
