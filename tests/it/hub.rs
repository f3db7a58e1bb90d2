//! A model hub on the loopback address: two ports, as the real one has a store behind it, and the
//! mischief that a test asks for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The commit that every revision is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub has, and how it behaves.
#[derive(Default)]
pub(crate) struct Hub {
    /// The files of its one model, `acme/small`.
    pub(crate) files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Paths that are listed on top of those.
    pub(crate) listed: Mutex<Vec<String>>,
    /// What goes wrong on the way, each once.
    pub(crate) cuts: Mutex<Vec<Cut>>,
    /// The hash that is told of every large file, in place of the true one.
    pub(crate) wrong: Mutex<Option<String>>,
    /// The token that it asks for.
    pub(crate) token: Mutex<Option<String>>,
    /// Whether it sends the whole file, whatever part was asked for.
    pub(crate) deaf: Mutex<bool>,
    /// Every request that came.
    pub(crate) seen: Mutex<Vec<Seen>>,
    store: Mutex<Option<SocketAddr>>,
}

/// An answer that is not sent whole.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// The file.
    pub(crate) path: &'static str,
    /// Bytes that are sent.
    pub(crate) after: usize,
    /// Whether nothing comes from then on; else the connection ends.
    pub(crate) stalls: bool,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

/// A hub that runs until the process ends.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) hub: Arc<Hub>,
}

impl Running {
    /// Starts a hub with `files`.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let hub = Arc::new(Hub::default());
        *hub.files.lock().unwrap() =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let (started, address) = std::sync::mpsc::channel();
        let shared = Arc::clone(&hub);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                *shared.store.lock().unwrap() = Some(store.local_addr().unwrap());
                started.send(front.local_addr().unwrap()).unwrap();
                let front_routes = Router::new()
                    .route("/api/models/{owner}/{model}/revision/{revision}", get(list))
                    .route("/{owner}/{model}/resolve/{commit}/{*path}", get(resolve))
                    .with_state(Arc::clone(&shared));
                let store_routes = Router::new().route("/store/{*path}", get(stored)).with_state(shared);
                let (a, b) = tokio::join!(axum::serve(front, front_routes), axum::serve(store, store_routes));
                a.and(b).unwrap();
            });
        });
        Self { url: format!("http://{}", address.recv().unwrap()), hub }
    }

    /// The requests for files' bytes so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.hub.seen.lock().unwrap().clone()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    fn note(&self, path: &str, headers: &HeaderMap) -> Option<StatusCode> {
        let text = |name: header::HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let token = text(header::AUTHORIZATION);
        self.seen.lock().unwrap().push(Seen {
            path: path.to_owned(),
            range: text(header::RANGE),
            token: token.clone(),
        });
        let wanted = self.token.lock().unwrap().clone().map(|token| format!("Bearer {token}"));
        (wanted.is_some() && wanted != token).then_some(StatusCode::UNAUTHORIZED)
    }

    /// Files over this size are kept in the store, as git-lfs does.
    fn is_large(bytes: &[u8]) -> bool {
        bytes.len() > 64
    }
}

async fn list(
    State(hub): State<Arc<Hub>>,
    Path((owner, model, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = hub.note(&format!("/api/{owner}/{model}/{revision}"), &headers) {
        return refused.into_response();
    }
    if (owner.as_str(), model.as_str()) != ("acme", "small") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let wrong = hub.wrong.lock().unwrap().clone();
    let mut siblings: Vec<Value> = Vec::new();
    for (path, bytes) in hub.files.lock().unwrap().iter() {
        siblings.push(if Hub::is_large(bytes) {
            let hash = wrong.clone().unwrap_or_else(|| sha256(bytes));
            json!({ "rfilename": path, "size": bytes.len(), "blobId": "0".repeat(40),
                "lfs": { "sha256": hash, "size": bytes.len(), "pointerSize": 134 } })
        } else {
            json!({ "rfilename": path, "size": bytes.len() })
        });
    }
    siblings.extend(hub.listed.lock().unwrap().iter().map(|path| json!({ "rfilename": path, "size": 3 })));
    Json(json!({ "id": "acme/small", "sha": COMMIT, "siblings": siblings, "tags": ["onnx"] })).into_response()
}

async fn resolve(
    State(hub): State<Arc<Hub>>,
    Path((_, _, commit, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = hub.note(&path, &headers) {
        return refused.into_response();
    }
    let bytes = hub.files.lock().unwrap().get(&path).cloned();
    let Some(bytes) = bytes.filter(|_| commit == COMMIT) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !Hub::is_large(&bytes) {
        return send(&hub, &path, &bytes, &headers);
    }
    let store = hub.store.lock().unwrap().unwrap();
    let location = format!("http://{store}/store/{path}");
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

async fn stored(State(hub): State<Arc<Hub>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let refused = {
        // The store has no tokens; it must not see the hub's.
        let token = hub.token.lock().unwrap().take();
        let refused = hub.note(&format!("/store/{path}"), &headers);
        *hub.token.lock().unwrap() = token;
        refused
    };
    assert!(refused.is_none());
    let bytes = hub.files.lock().unwrap().get(&path).cloned();
    bytes.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |bytes| send(&hub, &path, &bytes, &headers))
}

/// Sends a file, or the part of it that was asked for; cut where a test wants it.
fn send(hub: &Hub, path: &str, bytes: &[u8], headers: &HeaderMap) -> Response {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let from: usize = range
        .filter(|_| !*hub.deaf.lock().unwrap())
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    let rest = bytes[from.min(bytes.len())..].to_vec();
    let mut response = Response::builder().header(header::CONTENT_LENGTH, rest.len());
    if from > 0 {
        let part = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, part);
    }
    let cut = {
        let mut cuts = hub.cuts.lock().unwrap();
        cuts.iter().position(|cut| cut.path == path).map(|position| cuts.remove(position))
    };
    let body = match cut {
        None => Body::from(rest),
        Some(Cut { after, stalls, .. }) => {
            let first = rest[..after.min(rest.len())].to_vec();
            let pieces = [Ok(first), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
            // The second piece comes a little later, so that the first is on its way by then.
            let state = (pieces.into_iter(), stalls);
            let pieces = futures::stream::unfold(state, async |(mut pieces, stalls)| {
                if stalls && pieces.len() == 1 {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                Some((pieces.next()?, (pieces, stalls)))
            });
            Body::from_stream(pieces)
        }
    };
    response.body(body).unwrap()
}
