//! A client for as much of etcd's API v3 as discovery needs.
//!
//! A [`Client`] opens a [`Session`] with one of the endpoints. A session is never mended: whoever gets an
//! error from it drops it, and opens the next one, with the next endpoint. Every call has a bound.

mod connect;
pub(super) mod messages;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Uri, uri::PathAndQuery};
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, client::Grpc, metadata::AsciiMetadataValue};
use tonic_prost::ProstCodec;

pub(super) use self::connect::Direct;
use self::messages::{
    AuthenticateRequest, AuthenticateResponse, Done, GrantRequest, Lease, LeaseId, PutRequest, RangeRequest,
    RangeResponse, WatchAsk, WatchCreate, WatchProgress, WatchRequest, WatchResponse,
};
use crate::balance::{Connect, ConnectError};

/// The largest answer that is read. etcd takes values of up to 1.5 MiB unless told otherwise, so that a
/// page that is too large for this can be asked for in smaller ones.
const LARGEST: usize = 32 << 20;

/// Why etcd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum EtcdError {
    #[error("no connection to etcd")]
    Unreachable(#[source] ConnectError),
    #[error("the file of the password for etcd cannot be read")]
    Password(#[source] std::io::Error),
    #[error("etcd refused")]
    Refused(#[from] Status),
    #[error("etcd did not answer in time")]
    Late,
    #[error("etcd ended a stream")]
    Ended,
}

impl EtcdError {
    /// Whether the answer was larger than what is read.
    pub(super) fn too_large(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
            && status.message().contains("decoded message length"))
    }
}

/// Where etcd is, and how to get in.
pub(super) struct Endpoints {
    pub(super) uris: Vec<Uri>,
    /// Makes connections; asked for the role `etcd`.
    pub(super) connect: Arc<dyn Connect>,
    /// The user; empty where etcd asks for none.
    pub(super) username: String,
    pub(super) password_file: PathBuf,
    /// How long a session may take to open, and a call to answer.
    pub(super) within: Duration,
}

/// A way to etcd. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    endpoints: Endpoints,
    next: AtomicUsize,
}

impl Client {
    /// Begins with the endpoint `first`, counted round, so that not all begin with the same.
    pub(super) fn new(endpoints: Endpoints, first: usize) -> Self {
        Self(Arc::new(Inner { endpoints, next: AtomicUsize::new(first) }))
    }

    /// The next session is to be with another endpoint.
    pub(super) fn turn(&self) {
        self.0.next.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens a session.
    pub(super) async fn session(&self) -> Result<Session, EtcdError> {
        timeout(self.0.endpoints.within, self.open()).await.unwrap_or(Err(EtcdError::Late))
    }

    async fn open(&self) -> Result<Session, EtcdError> {
        let Endpoints { uris, connect, username, password_file, within } = &self.0.endpoints;
        let uri = &uris[self.0.next.load(Ordering::Relaxed) % uris.len()];
        let channel = connect.connect("etcd", uri).await.map_err(EtcdError::Unreachable)?;
        let grpc = Grpc::new(channel).max_decoding_message_size(LARGEST);
        let mut session = Session { grpc, token: None, within: *within };
        if !username.is_empty() {
            // Read each time: it may have changed.
            let password = tokio::fs::read_to_string(password_file).await.map_err(EtcdError::Password)?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            let request = AuthenticateRequest { name: username.clone(), password };
            let path = "/etcdserverpb.Auth/Authenticate";
            let AuthenticateResponse { token } = session.call(path, request).await?;
            let token = token.parse().map_err(|_| Status::internal("a token that is no header"))?;
            session.token = Some(token);
        }
        Ok(session)
    }
}

/// A connection to one endpoint, with what proves who is calling. Cheap to clone.
#[derive(Clone)]
pub(super) struct Session {
    grpc: Grpc<tonic::transport::Channel>,
    token: Option<AsciiMetadataValue>,
    within: Duration,
}

impl Session {
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn put(&self, request: PutRequest) -> Result<Done, EtcdError> {
        self.call("/etcdserverpb.KV/Put", request).await
    }

    /// Grants a lease of `ttl`, in whole seconds.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        let ttl = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        self.call("/etcdserverpb.Lease/LeaseGrant", GrantRequest { ttl, id: 0 }).await
    }

    /// Ends a lease, and with it the keys under it.
    pub(super) async fn revoke(&self, id: i64) -> Result<Done, EtcdError> {
        self.call("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id }).await
    }

    /// Keeps the lease `id` alive for as long as the value is asked to.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<KeepAlive, EtcdError> {
        let (requests, receiver) = mpsc::channel(1);
        let _ = requests.try_send(LeaseId { id });
        let answers = self.stream("/etcdserverpb.Lease/LeaseKeepAlive", receiver).await?;
        let (left, at) = (0, Instant::now());
        let mut keep_alive = KeepAlive { id, requests, answers, left, at, within: self.within };
        keep_alive.answer().await?;
        Ok(keep_alive)
    }

    /// Watches the keys from `key` to before `range_end`, from now on. The first answer says since when.
    pub(super) async fn watch(&self, key: Vec<u8>, range_end: Vec<u8>) -> Result<Watch, EtcdError> {
        let (requests, receiver) = mpsc::channel(4);
        let create = WatchCreate { key, range_end, fragment: true };
        let _ = requests.try_send(WatchRequest { ask: Some(WatchAsk::Create(create)) });
        Ok(Watch { requests, answers: self.stream("/etcdserverpb.Watch/Watch", receiver).await? })
    }

    /// One call with one answer.
    pub(super) async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, EtcdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let work = async {
            let mut grpc = self.grpc.clone();
            grpc.ready().await.map_err(|error| EtcdError::Unreachable(error.into()))?;
            let path = PathAndQuery::from_static(path);
            let answer = grpc.unary(self.request(request), path, ProstCodec::<Q, A>::default()).await?;
            Ok(answer.into_inner())
        };
        timeout(self.within, work).await.unwrap_or(Err(EtcdError::Late))
    }

    async fn stream<Q, A>(
        &self,
        path: &'static str,
        requests: mpsc::Receiver<Q>,
    ) -> Result<Streaming<A>, EtcdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let work = async {
            let mut grpc = self.grpc.clone();
            grpc.ready().await.map_err(|error| EtcdError::Unreachable(error.into()))?;
            let mut request = self.request(ReceiverStream::new(requests));
            // A member that is cut off from the others says so, in place of being silent.
            request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
            let path = PathAndQuery::from_static(path);
            let answer = grpc.streaming(request, path, ProstCodec::<Q, A>::default()).await?;
            Ok(answer.into_inner())
        };
        timeout(self.within, work).await.unwrap_or(Err(EtcdError::Late))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// A lease that is kept alive.
pub(super) struct KeepAlive {
    id: i64,
    requests: mpsc::Sender<LeaseId>,
    answers: Streaming<Lease>,
    /// Seconds that were left of it at the last answer; 0 when there is no such lease.
    pub(super) left: i64,
    /// When the last answer came.
    pub(super) at: Instant,
    within: Duration,
}

impl KeepAlive {
    /// Renews the lease. Returns whether it is still there.
    pub(super) async fn renew(&mut self) -> Result<bool, EtcdError> {
        self.requests.send(LeaseId { id: self.id }).await.map_err(|_| EtcdError::Ended)?;
        self.answer().await?;
        Ok(self.left > 0)
    }

    async fn answer(&mut self) -> Result<(), EtcdError> {
        let answer = timeout(self.within, self.answers.message()).await.map_err(|_| EtcdError::Late)?;
        self.left = answer?.ok_or(EtcdError::Ended)?.ttl;
        self.at = Instant::now();
        Ok(())
    }
}

/// A watch, which tells of changes in order.
pub(super) struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watch {
    /// Asks for a sign of life. Asks nothing more where etcd has not taken the last requests yet.
    pub(super) fn ask_progress(&self) {
        let _ = self.requests.try_send(WatchRequest { ask: Some(WatchAsk::Progress(WatchProgress {})) });
    }

    /// The next answer. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, EtcdError> {
        self.answers.message().await?.ok_or(EtcdError::Ended)
    }
}
