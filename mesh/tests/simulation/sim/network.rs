//! The mesh's connections over the simulated network.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use switchboard_mesh::balance::{Connect, Connecting, endpoint};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport::Endpoint};
use tower::Service;
use turmoil::net::{TcpListener, TcpStream};

/// Connects as the mesh does, with its settings.
pub(crate) struct Wire;

impl Connect for Wire {
    fn connect<'a>(&'a self, role: &'a str, uri: &'a Uri) -> Connecting<'a> {
        // etcd hangs up on who sends many pings.
        let way = match role {
            "etcd" => Endpoint::from(uri.clone()).connect_timeout(Duration::from_secs(2)),
            _ => endpoint(uri.clone()),
        };
        Box::pin(async move { Ok(way.connect_with_connector(tower::service_fn(dial)).await?) })
    }
}

async fn dial(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    Ok(TokioIo::new(TcpStream::connect(authority).await?))
}

/// Carries connections as the mesh's listener does, until told to leave; then lets the calls that are open end
/// for at most `drain`.
pub(crate) async fn serve<S>(
    port: u16,
    service: S,
    leave: &CancellationToken,
    drain: Duration,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = leave.cancelled() => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                open.spawn(carry(stream, service.clone(), leave.clone()));
            }
            Some(_) = open.join_next(), if !open.is_empty() => {}
        }
    }
    drop(listener);
    let ended = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(drain, ended).await;
    open.shutdown().await;
    Ok(())
}

async fn carry<S>(stream: TcpStream, service: S, leave: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = leave.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
