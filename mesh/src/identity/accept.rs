//! The server's side of a handshake.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Held, Identity, Peer,
    material::validity,
    metrics::{self, Outcome},
};

/// The content type with which TLS begins (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// How an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How long, and for how many bytes, a client who is refused may go on talking before it hears why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// A connection that may carry calls.
pub(crate) enum Accepted {
    /// In plain text, from whomever.
    Plain(TcpStream),
    /// From a node of the mesh.
    Secured {
        stream: Box<TlsStream<TcpStream>>,
        peer: Peer,
        /// When the peer's certificate runs out.
        until: Instant,
    },
}

impl Identity {
    /// Makes the connection of a stream that was accepted, within `limit`. What came of it is told and
    /// counted here.
    pub(crate) async fn accept(&self, stream: TcpStream, limit: Duration) -> Option<Accepted> {
        let Some(held) = &self.0 else { return Some(Accepted::Plain(stream)) };
        let from = stream.peer_addr().ok();
        let shaken = tokio::time::timeout(limit, held.shake(stream)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let outcome = shaken.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok);
        metrics::handshake("server", outcome);
        match shaken {
            Ok((stream, peer, not_after)) => {
                let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
                let until = Instant::now() + left;
                Some(Accepted::Secured { stream: Box::new(stream), peer, until })
            }
            Err(error) => {
                let reason = outcome.as_str();
                if outcome.is_identity() && held.told.is_first(outcome, Instant::now()) {
                    let message =
                        "a node was refused; others like it within a minute are told at level debug";
                    tracing::info!(?from, reason, %error, message);
                } else {
                    tracing::debug!(?from, reason, %error, "a connection came to nothing");
                }
                None
            }
        }
    }
}

impl Held {
    /// Makes the connection. Returns also who is at the other end, and until when its certificate is valid.
    pub(super) async fn shake(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Peer, SystemTime)> {
        let mut first = [0; PREFACE.len()];
        let length = stream.peek(&mut first).await?;
        match first[..length] {
            [] => return Err(io::ErrorKind::UnexpectedEof.into()),
            [HANDSHAKE, ..] => {}
            _ => {
                if PREFACE.starts_with(&first[..length]) {
                    say_tls_only(&mut stream).await;
                }
                let fault = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
            }
        }
        let current = self.current.load_full();
        let shaking = TlsAcceptor::from(Arc::clone(&current.server)).accept(stream).into_fallible();
        let stream = match shaking.await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                linger(&mut stream).await;
                return Err(error);
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate =
            certificate.ok_or(rustls::Error::NoCertificatesPresented).map_err(io::Error::other)?;
        let peer = current.verifier.peer(certificate).map_err(io::Error::other)?;
        let (_, not_after) = validity(certificate).map_err(io::Error::other)?;
        Ok((stream, peer, not_after))
    }
}

/// Tells an HTTP/2 client in plain text why it is not served, in its own words: SETTINGS, then GOAWAY
/// with INADEQUATE_SECURITY (RFC 9113, sections 6.5, 6.8 and 7).
async fn say_tls_only(stream: &mut TcpStream) {
    const WHY: &[u8] = b"this node takes TLS only, with a certificate of its mesh";
    let mut answer = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    answer.extend([0, 0, 8 + WHY.len() as u8, 7, 0, 0, 0, 0, 0]);
    answer.extend([0, 0, 0, 0, 0, 0, 0, 0xc]);
    answer.extend(WHY);
    if stream.write_all(&answer).await.is_ok() {
        linger(stream).await;
    }
}

/// Waits until the other side has gone. Closed with bytes unread, the connection would be reset, and what it
/// was told last would be lost.
async fn linger(stream: &mut TcpStream) {
    let gone = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, gone).await;
}
