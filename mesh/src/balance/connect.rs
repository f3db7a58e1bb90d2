//! How connections to nodes are made; the seam where a connection gets its identity.

use std::{future::Future, pin::Pin, time::Duration};

use http::Uri;
use tonic::transport::{Channel, Endpoint};

/// What is told of a connection that could not be made.
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// A connection in the making.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Channel, ConnectError>> + Send + 'a>>;

/// Makes connections to nodes. A connection that is lost is made again by the channel itself.
pub trait Connect: Send + Sync + 'static {
    /// Connects to the node at `uri`, which is expected to serve `role`. May be dropped half-way.
    fn connect<'a>(&'a self, role: &'a str, uri: &'a Uri) -> Connecting<'a>;
}

/// Connections without encryption.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Connect for Plain {
    fn connect<'a>(&'a self, _: &'a str, uri: &'a Uri) -> Connecting<'a> {
        Box::pin(async move { Ok(endpoint(uri.clone()).connect().await?) })
    }
}

/// The settings of every connection between nodes, whatever secures it.
#[must_use]
pub fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        // A node that froze keeps its connections open. Pings find it out, in idle ones too, within the
        // time in which callers shall be well again.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
}
