//! Connections to etcd.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::balance::{Connect, ConnectError, Connecting};

/// Connects over TCP, with TLS where the URL says https.
///
/// HTTP/2 pings are left out: etcd hangs up on who sends many, and both of its streams are looked after by
/// messages of their own.
#[derive(Clone, Debug, Default)]
pub(in crate::discovery) struct Direct {
    /// PEM file of the authorities to trust; empty takes the system's.
    pub(in crate::discovery) authorities: PathBuf,
    /// PEM files of this node's certificate and its key; empty shows none.
    pub(in crate::discovery) certificate: PathBuf,
    pub(in crate::discovery) key: PathBuf,
}

impl Connect for Direct {
    fn connect<'a>(&'a self, _: &'a str, uri: &'a Uri) -> Connecting<'a> {
        Box::pin(async move {
            let mut endpoint = Endpoint::from(uri.clone()).connect_timeout(Duration::from_secs(2));
            endpoint = endpoint.tcp_nodelay(true);
            if uri.scheme_str() == Some("https") {
                endpoint = endpoint.tls_config(self.tls().await?)?;
            }
            Ok(endpoint.connect().await?)
        })
    }
}

impl Direct {
    /// Reads the files at each connection: certificates are renewed while a node runs.
    async fn tls(&self) -> Result<ClientTlsConfig, ConnectError> {
        let mut tls = ClientTlsConfig::new();
        tls = match given(&self.authorities) {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read(file).await?)),
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (given(&self.certificate), given(&self.key)) {
            tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
        }
        Ok(tls)
    }
}

fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

async fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()).into())
}
