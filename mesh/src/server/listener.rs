//! A door for connections, and who may come in by it.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::identity::Identity;

/// Listens for connections: in plain text, or for nodes of the mesh alone.
///
/// With an identity each connection must be TLS with a certificate of the mesh and carries HTTP/2; its
/// requests have the caller's [`Peer`](crate::identity::Peer) in their extensions. In plain text HTTP/1.1
/// is spoken too.
pub struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) identity: Identity,
}

impl Listener {
    /// A door for those that `identity` believes; for everybody where it is plain.
    #[must_use]
    pub fn new(tcp: TcpListener, identity: Identity) -> Self {
        Self { tcp, identity }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A door for everybody.
impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, Identity::plain())
    }
}
