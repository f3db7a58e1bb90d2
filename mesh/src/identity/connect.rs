//! The client's side of a handshake.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Held, NameError,
    metrics::{self, Outcome, tls},
};
use crate::balance::{Connect, Connecting, endpoint};

/// A node that could not be connected to.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0:?} is no role's name")]
    NoRole(String),
    #[error("the address has no host")]
    NoHost,
    #[error("{0}")]
    Tcp(#[from] io::Error),
    #[error("the node does not speak TLS: it has no identity, or it is something else")]
    PlainText,
    #[error("the node was not believed: {0}")]
    Name(NameError),
    #[error("no TLS with the node: {0}")]
    Tls(io::Error),
}

/// Connections to nodes whose certificate has the role that is called. Whatever the address says, they are
/// encrypted.
pub(super) struct Secured(Arc<Held>);

impl Secured {
    pub(super) fn new(held: Arc<Held>) -> Self {
        Self(held)
    }
}

impl Connect for Secured {
    fn connect<'a>(&'a self, role: &'a str, uri: &'a Uri) -> Connecting<'a> {
        Box::pin(async move {
            let name = ServerName::try_from(role).map_err(|_| DialError::NoRole(role.to_owned()))?.to_owned();
            let held = Arc::clone(&self.0);
            // The channel dials again by itself when the connection is lost, with what is current then.
            let dial = tower::service_fn(move |uri: Uri| {
                let (held, name) = (Arc::clone(&held), name.clone());
                async move { held.dial(name, &uri).await.map(TokioIo::new) }
            });
            Ok(endpoint(uri.clone()).connect_with_connector(dial).await?)
        })
    }
}

impl Held {
    async fn dial(&self, name: ServerName<'static>, uri: &Uri) -> Result<TlsStream<TcpStream>, DialError> {
        let host = uri.host().ok_or(DialError::NoHost)?.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let client = Arc::clone(&self.current.load().client);
        let shaken = TlsConnector::from(client).connect(name, stream).await;
        let outcome = shaken.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok);
        metrics::handshake("client", outcome);
        shaken.map_err(|error| match (outcome, tls(&error)) {
            (Outcome::PlainText, _) => DialError::PlainText,
            (_, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)))) => {
                match other.0.downcast_ref::<NameError>() {
                    Some(name) => DialError::Name(name.clone()),
                    None => DialError::Tls(error),
                }
            }
            _ => DialError::Tls(error),
        })
    }
}
