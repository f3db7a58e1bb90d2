//! A small etcd: keys with leases and revisions, and watches, as far as discovery uses them.
//!
//! Its messages are written from etcd's own API v3, apart from those of the client, so that a mistake in one
//! of them shows.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{body::Body as AxumBody, routing::post};
use futures::{Stream, StreamExt as _, stream};
use http::Request;
use prost::{Message, Oneof};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;

use super::{history::History, network};

/// Where etcd listens.
pub(crate) const PORT: u16 = 2379;

#[derive(Clone, Copy, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    limit: i64,
    #[prost(int64, tag = "4")]
    revision: i64,
    #[prost(bool, tag = "8")]
    keys_only: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    more: bool,
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

/// Of a put and of a revocation.
#[derive(Clone, PartialEq, Message)]
struct Done {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    id: i64,
}

/// Of a grant and of a renewal.
#[derive(Clone, PartialEq, Message)]
struct LeaseResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

/// To renew or to revoke.
#[derive(Clone, PartialEq, Message)]
struct LeaseRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(oneof = "Wanted", tags = "1, 2, 3")]
    wanted: Option<Wanted>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Wanted {
    #[prost(message, tag = "1")]
    Create(WatchCreateRequest),
    #[prost(message, tag = "2")]
    Cancel(WatchCancelRequest),
    #[prost(message, tag = "3")]
    Progress(WatchProgressRequest),
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    start_revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCancelRequest {
    #[prost(int64, tag = "1")]
    watch_id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WatchProgressRequest {}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "2")]
    watch_id: i64,
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(int64, tag = "5")]
    compact_revision: i64,
    #[prost(string, tag = "6")]
    cancel_reason: String,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// 0 for a put, 1 for a deletion.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    kv: Option<KeyValue>,
}

struct Lease {
    ttl: i64,
    ends: Duration,
}

struct Watcher {
    key: Vec<u8>,
    range_end: Vec<u8>,
    answers: mpsc::UnboundedSender<Result<WatchResponse, Status>>,
}

struct Data {
    revision: i64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
    watchers: Vec<Watcher>,
    /// How long each answer takes.
    delay: Duration,
}

/// What etcd keeps while its process is not there. Clones share it.
#[derive(Clone)]
pub(crate) struct Etcd {
    data: Arc<Mutex<Data>>,
    history: History,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Etcd {
    pub(crate) fn new(history: &History) -> Self {
        let data = Data {
            revision: 1,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            watchers: Vec::new(),
            delay: Duration::ZERO,
        };
        Self { data: Arc::new(Mutex::new(data)), history: history.clone() }
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().expect("whoever panics ends the simulation")
    }

    /// All data are lost, and revisions begin anew.
    pub(crate) fn lose_everything(&self) {
        let mut data = self.data();
        (data.revision, data.keys, data.leases) = (1, BTreeMap::new(), BTreeMap::new());
    }

    /// Sets how long each answer takes.
    pub(crate) fn delay(&self, delay: Duration) {
        self.data().delay = delay;
    }

    /// Ends all watches, as for those that are too far behind.
    pub(crate) fn compact(&self) {
        let mut data = self.data();
        let (header, compact_revision) = (data.header(), data.revision);
        for watcher in std::mem::take(&mut data.watchers) {
            let cancel_reason = "etcdserver: mvcc: required revision has been compacted".to_owned();
            let ended = WatchResponse {
                header,
                canceled: true,
                compact_revision,
                cancel_reason,
                ..WatchResponse::default()
            };
            let _ = watcher.answers.send(Ok(ended));
        }
    }

    /// One process of it.
    pub(crate) async fn run(self) -> io::Result<()> {
        let now = self.history.now();
        {
            let mut data = self.data();
            data.watchers.clear();
            // A new leader gives every lease its whole time again.
            data.leases.values_mut().for_each(|lease| lease.ends = now + seconds(lease.ttl));
        }
        let expiring = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let now = expiring.history.now();
                expiring.data().expire(now);
            }
        });
        let router = self.router();
        let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { Ok::<_, Infallible>(router.oneshot(request).await?.map(Body::new)) }
        });
        network::serve(PORT, service, &CancellationToken::new(), Duration::ZERO).await
    }

    fn router(&self) -> axum::Router {
        let router = axum::Router::new();
        let router = self.method(router, "/etcdserverpb.KV/Range", Data::range);
        let router = self.method(router, "/etcdserverpb.KV/Put", Data::put);
        let router = self.method(router, "/etcdserverpb.Lease/LeaseGrant", Data::grant);
        let router = self.method(router, "/etcdserverpb.Lease/LeaseRevoke", Data::revoke);
        let (renewing, watching) = (self.clone(), self.clone());
        router
            .route(
                "/etcdserverpb.Lease/LeaseKeepAlive",
                post(move |request: Request<AxumBody>| async move {
                    let method =
                        tower::service_fn(move |request: tonic::Request<Streaming<LeaseRequest>>| {
                            let answers = renewing.clone().renew(request.into_inner());
                            async move { Ok::<_, Status>(Response::new(answers)) }
                        });
                    Grpc::new(ProstCodec::<LeaseResponse, LeaseRequest>::default())
                        .streaming(method, request)
                        .await
                }),
            )
            .route(
                "/etcdserverpb.Watch/Watch",
                post(move |request: Request<AxumBody>| async move {
                    let method =
                        tower::service_fn(move |request: tonic::Request<Streaming<WatchRequest>>| {
                            let answers = watching.clone().watch(request.into_inner());
                            async move { Ok::<_, Status>(Response::new(answers)) }
                        });
                    Grpc::new(ProstCodec::<WatchResponse, WatchRequest>::default())
                        .streaming(method, request)
                        .await
                }),
            )
    }

    fn method<Q, A>(
        &self,
        router: axum::Router,
        path: &'static str,
        method: fn(&mut Data, Q, Duration) -> Result<A, Status>,
    ) -> axum::Router
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let etcd = self.clone();
        router.route(
            path,
            post(move |request: Request<AxumBody>| async move {
                let method = tower::service_fn(move |request: tonic::Request<Q>| {
                    let etcd = etcd.clone();
                    async move {
                        etcd.wait().await;
                        let now = etcd.history.now();
                        method(&mut etcd.data(), request.into_inner(), now).map(Response::new)
                    }
                });
                Grpc::new(ProstCodec::<A, Q>::default()).unary(method, request).await
            }),
        )
    }

    async fn wait(&self) {
        let delay = self.data().delay;
        tokio::time::sleep(delay).await;
    }

    fn renew(self, requests: Streaming<LeaseRequest>) -> Answers<LeaseResponse> {
        Box::pin(requests.then(move |request| {
            let etcd = self.clone();
            async move {
                let id = request?.id;
                etcd.wait().await;
                let now = etcd.history.now();
                Ok(etcd.data().renew(id, now))
            }
        }))
    }

    fn watch(self, requests: Streaming<WatchRequest>) -> Answers<WatchResponse> {
        let (sender, answers) = mpsc::unbounded_channel();
        let answers = UnboundedReceiverStream::new(answers).map(Some);
        let requests = requests.filter_map(move |request| {
            let (etcd, sender) = (self.clone(), sender.clone());
            async move {
                match request {
                    Ok(request) => {
                        etcd.wait().await;
                        etcd.data().watched(request, sender);
                        None
                    }
                    Err(status) => Some(Err(status)),
                }
            }
        });
        // When the client has no more to ask, it is gone.
        let requests = requests.map(Some).chain(stream::once(async { None }));
        let all = stream::select_with_strategy(requests, answers, |(): &mut ()| stream::PollNext::Left);
        Box::pin(all.take_while(|answer| std::future::ready(answer.is_some())).filter_map(std::future::ready))
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}

/// Whether `key` is meant by a request.
fn meant(key: &[u8], from: &[u8], range_end: &[u8]) -> bool {
    if range_end.is_empty() { key == from } else { key >= from && key < range_end }
}

impl Data {
    fn header(&self) -> Option<Header> {
        Some(Header { cluster_id: 1, member_id: 1, revision: self.revision })
    }

    fn range(&mut self, request: RangeRequest, _: Duration) -> Result<RangeResponse, Status> {
        if request.revision > self.revision {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision is a future revision"));
        }
        // Old states are not kept: whoever asks for one has to begin anew.
        if request.revision != 0 && request.revision < self.revision {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        }
        let all: Vec<&KeyValue> =
            self.keys.values().filter(|kv| meant(&kv.key, &request.key, &request.range_end)).collect();
        let limit = if request.limit == 0 { all.len() } else { request.limit.unsigned_abs() as usize };
        let mut kvs: Vec<KeyValue> = all.iter().take(limit).map(|kv| KeyValue::clone(kv)).collect();
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResponse { header: self.header(), more: kvs.len() < all.len(), count: all.len() as i64, kvs })
    }

    fn put(&mut self, PutRequest { key, value, lease }: PutRequest, _: Duration) -> Result<Done, Status> {
        if lease != 0 && !self.leases.contains_key(&lease) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        self.revision += 1;
        let (create_revision, version) = match self.keys.get(&key) {
            Some(known) => (known.create_revision, known.version + 1),
            None => (self.revision, 1),
        };
        let kv = KeyValue {
            key: key.clone(),
            create_revision,
            mod_revision: self.revision,
            version,
            value,
            lease,
        };
        self.keys.insert(key, kv.clone());
        self.tell(&[Event { kind: 0, kv: Some(kv) }]);
        Ok(Done { header: self.header() })
    }

    fn grant(
        &mut self,
        LeaseGrantRequest { ttl, id }: LeaseGrantRequest,
        now: Duration,
    ) -> Result<LeaseResponse, Status> {
        let id = if id == 0 { self.next_lease } else { id };
        self.next_lease += 1;
        self.leases.insert(id, Lease { ttl, ends: now + seconds(ttl) });
        Ok(LeaseResponse { header: self.header(), id, ttl })
    }

    fn renew(&mut self, id: i64, now: Duration) -> LeaseResponse {
        let ttl = self.leases.get_mut(&id).map_or(0, |lease| {
            lease.ends = now + seconds(lease.ttl);
            lease.ttl
        });
        LeaseResponse { header: self.header(), id, ttl }
    }

    fn revoke(&mut self, LeaseRequest { id }: LeaseRequest, _: Duration) -> Result<Done, Status> {
        if self.leases.remove(&id).is_none() {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        self.forget(id);
        Ok(Done { header: self.header() })
    }

    fn expire(&mut self, now: Duration) {
        let over: Vec<i64> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.leases.remove(&id);
            self.forget(id);
        }
    }

    /// Removes the keys of a lease that is over.
    fn forget(&mut self, lease: i64) {
        let keys: Vec<Vec<u8>> =
            self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        self.revision += 1;
        let mut events = Vec::new();
        for key in keys {
            self.keys.remove(&key);
            let kv = KeyValue { key, mod_revision: self.revision, ..KeyValue::default() };
            events.push(Event { kind: 1, kv: Some(kv) });
        }
        self.tell(&events);
    }

    fn tell(&mut self, events: &[Event]) {
        let header = self.header();
        self.watchers.retain(|watcher| {
            let meant = |event: &&Event| {
                event.kv.as_ref().is_some_and(|kv| meant(&kv.key, &watcher.key, &watcher.range_end))
            };
            let events: Vec<Event> = events.iter().filter(meant).cloned().collect();
            if events.is_empty() {
                return !watcher.answers.is_closed();
            }
            watcher.answers.send(Ok(WatchResponse { header, events, ..WatchResponse::default() })).is_ok()
        });
    }

    fn watched(
        &mut self,
        request: WatchRequest,
        answers: mpsc::UnboundedSender<Result<WatchResponse, Status>>,
    ) {
        let header = self.header();
        match request.wanted {
            Some(Wanted::Create(WatchCreateRequest { key, range_end, start_revision })) => {
                let created = WatchResponse { header, created: true, ..WatchResponse::default() };
                let _ = answers.send(Ok(created));
                if start_revision != 0 && start_revision <= self.revision {
                    // Old changes are not kept.
                    let compact_revision = self.revision;
                    let ended = WatchResponse {
                        header,
                        canceled: true,
                        compact_revision,
                        ..WatchResponse::default()
                    };
                    let _ = answers.send(Ok(ended));
                    return;
                }
                self.watchers.push(Watcher { key, range_end, answers });
            }
            Some(Wanted::Progress(_)) => {
                let _ = answers.send(Ok(WatchResponse { header, watch_id: -1, ..WatchResponse::default() }));
            }
            Some(Wanted::Cancel(_)) | None => {}
        }
    }
}
