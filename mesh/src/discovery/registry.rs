//! Follows the registry: one watch over all roles of the cluster, and a list to begin with.
//!
//! The watch is opened first and the list taken then, over the same connection; of what the watch tells,
//! that counts which is newer than the list. So nothing falls between the two, and no revision of an
//! earlier connection is ever asked for: an etcd that lost its data, was restored or was compacted meanwhile
//! is listed anew like any other. What a list takes away is decided in `view`.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Members, Source,
    backoff::Backoff,
    etcd::{
        Client, EtcdError, Session, Watch,
        messages::{Event, EventKind, RangeRequest, WatchResponse},
    },
    layout::Layout,
    listing::{Limits, Listing, Node},
    metrics, snapshot,
    view::View,
};

/// Entries that are asked for at once.
const PAGE: i64 = 256;

/// Pages of a list; one that has more is not finished.
const PAGES: usize = 2000;

/// Events that may wait while a list is taken.
const WAITING: usize = 100_000;

/// How often those who watch are told at most: a thousand nodes that tell of their backlog shall not make
/// a thousand lists a second.
const GATHER: Duration = Duration::from_millis(100);

/// How often a list may be taken for nodes that were left out before.
const AGAIN: Duration = Duration::from_secs(10);

/// What went well for so long was no failure from the start.
const STEADY: Duration = Duration::from_secs(3);

/// How often the snapshot is written at most, and how old it may be while all is well.
const WRITE: Duration = Duration::from_secs(1);
const REWRITE: Duration = Duration::from_secs(300);

/// What a registry is followed with.
pub(super) struct Following {
    pub(super) client: Client,
    pub(super) cluster: String,
    pub(super) ttl: Duration,
    pub(super) limits: Limits,
    /// Where the snapshot is; none keeps none.
    pub(super) snapshot: Option<PathBuf>,
    pub(super) seed: Option<u64>,
}

/// The members of all roles, from etcd.
pub(super) struct Registry {
    view: Arc<View>,
    again: Arc<Notify>,
}

impl Registry {
    /// Reads the snapshot, and begins to follow. Blocks for the snapshot.
    pub(super) fn start(following: Following, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let view = Arc::new(View::new(following.ttl, following.limits));
        if let Some(path) = &following.snapshot {
            match snapshot::read(path, &following.cluster) {
                Ok(Some(snapshot::Kept { members, as_of })) => {
                    tracing::info!(path = %path.display(), "other nodes are known from a snapshot so far");
                    view.restore(members, as_of);
                }
                Ok(None) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(path = %path.display(), error, "the snapshot of other nodes is not used");
                }
            }
        }
        let again = Arc::new(Notify::new());
        let (path, cluster) = (following.snapshot.clone(), following.cluster.clone());
        let keeper = Keeper { view: Arc::clone(&view), path, cluster };
        tasks.spawn(keeper.run(stop.clone()));
        let follower = Follower {
            view: Arc::clone(&view),
            again: Arc::clone(&again),
            layout: Layout::new(&following.cluster),
            following,
        };
        tasks.spawn(async move { stop.run_until_cancelled(follower.run()).await });
        Self { view, again }
    }

    pub(super) fn watch(&self, role: &str) -> watch::Receiver<Arc<Members>> {
        let (members, again) = self.view.watch(role);
        if again {
            self.again.notify_one();
        }
        members
    }
}

/// Why a watch ended.
enum Ended {
    /// The registry, or the way to it, is away.
    Away(EtcdError),
    /// It said nothing for too long.
    Silent,
    /// What was to be watched is no longer there.
    Compacted,
    /// It ended the watch for another reason.
    Canceled(String),
    /// More changed than could be kept while a list was taken.
    Behind,
    /// There may be room for nodes that were left out.
    Again,
}

impl Ended {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Silent => "silent",
            Self::Compacted => "compacted",
            Self::Canceled(_) => "canceled",
            Self::Behind => "behind",
            Self::Again => "again",
        }
    }

    /// Whether the registry is in reach all the same.
    fn in_reach(&self) -> bool {
        matches!(self, Self::Compacted | Self::Behind | Self::Again)
    }
}

impl From<EtcdError> for Ended {
    fn from(error: EtcdError) -> Self {
        Self::Away(error)
    }
}

struct Follower {
    view: Arc<View>,
    again: Arc<Notify>,
    layout: Layout,
    following: Following,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_secs(5), self.following.seed);
        let mut told_away = false;
        loop {
            let begun = Instant::now();
            let Err(ended) = self.follow(&mut told_away).await;
            if begun.elapsed() > STEADY {
                backoff.reset();
            }
            metrics::watch_restarted(ended.as_str());
            if !ended.in_reach() {
                self.view.away();
                self.following.client.turn();
            }
            match &ended {
                Ended::Again => {}
                Ended::Away(error) if !told_away => {
                    told_away = true;
                    let error: &dyn std::error::Error = error;
                    tracing::warn!(error, "the registry is away; what was known of other nodes is kept");
                }
                Ended::Away(_) => {}
                Ended::Canceled(reason) => {
                    let reason: String = reason.chars().take(200).collect();
                    tracing::warn!(reason, "the registry ended the watch");
                }
                ended => tracing::info!(reason = ended.as_str(), "the registry is listed anew"),
            }
            sleep(backoff.next()).await;
        }
    }

    /// Lists and watches until that ends.
    async fn follow(&self, told_away: &mut bool) -> Result<std::convert::Infallible, Ended> {
        let session = self.following.client.session().await?;
        let (key, end) = self.layout.range();
        let mut watch = session.watch(key, end).await?;
        let begun = self.listed(&session, &mut watch).await?;
        if std::mem::take(told_away) {
            tracing::info!("the registry is back");
        }
        self.watched(watch, begun).await
    }

    /// Takes a list while the watch goes on. Returns the revision of the list.
    async fn listed(&self, session: &Session, watch: &mut Watch) -> Result<Begun, Ended> {
        let mut waiting: Vec<Event> = Vec::new();
        let (listing, revision) = {
            let mut list = pin!(self.list(session));
            loop {
                tokio::select! {
                    // Always in this order, so that a simulation replays.
                    biased;
                    listed = &mut list => break listed?,
                    answer = watch.next() => {
                        waiting.extend(usable(answer?)?);
                        if waiting.len() > WAITING {
                            return Err(Ended::Behind);
                        }
                    }
                }
            }
        };
        let back = self.view.source() != Source::Registry;
        self.view.listed(listing, back, Instant::now());
        let again = self.apply(waiting, revision);
        self.view.publish();
        Ok(Begun { revision, again, at: Instant::now() })
    }

    /// Lists all entries, page by page, as they were at one revision.
    async fn list(&self, session: &Session) -> Result<(Listing, i64), EtcdError> {
        let mut listing = self.view.listing();
        let (mut key, range_end) = self.layout.range();
        let (mut revision, mut limit) = (0, PAGE);
        for _ in 0..PAGES {
            let request = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit,
                revision,
                serializable: true,
                keys_only: false,
            };
            let page = match session.range(request).await {
                // Values can be larger than any that is used.
                Err(error) if error.too_large() && limit > 1 => {
                    limit /= 4;
                    limit = limit.max(1);
                    continue;
                }
                page => page?,
            };
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            if page.kvs.is_empty() {
                return Ok((listing, revision));
            }
            key = listing.take(&self.layout, &page.kvs);
            if !page.more || key >= range_end {
                return Ok((listing, revision));
            }
        }
        tracing::warn!(pages = PAGES, "the registry has more entries than are looked at");
        listing.roles_cut = true;
        Ok((listing, revision))
    }

    async fn watched(&self, mut watch: Watch, begun: Begun) -> Result<std::convert::Infallible, Ended> {
        let quiet = self.following.ttl;
        let mut heard = Instant::now();
        let mut asking = interval(quiet / 3);
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut changed, mut tell_at, mut again) = (false, Instant::now(), begun.again);
        let mut again_at = begun.at + AGAIN;
        loop {
            tokio::select! {
                // What was said is heard before it is asked whether anything was said.
                biased;
                () = sleep_until(tell_at), if changed => {
                    self.view.publish();
                    (changed, tell_at) = (false, Instant::now() + GATHER);
                }
                () = sleep_until(again_at), if again => return Err(Ended::Again),
                () = self.again.notified(), if !again => {
                    again = true;
                    // Somebody waits for it.
                    again_at = again_at.min(Instant::now().max(begun.at + Duration::from_secs(1)));
                }
                answer = watch.next() => {
                    let answer = answer?;
                    if heard.elapsed() >= quiet / 2 {
                        // It was held up, and leases may have ended that nobody could renew.
                        self.view.settle(Instant::now());
                    }
                    heard = Instant::now();
                    self.view.heard();
                    let events = usable(answer)?;
                    changed |= !events.is_empty();
                    again |= self.apply(events, begun.revision);
                }
                _ = asking.tick() => {
                    if heard.elapsed() >= quiet {
                        return Err(Ended::Silent);
                    }
                    watch.ask_progress();
                }
            }
        }
    }

    /// Takes over changes that are newer than `revision`. Returns whether a new list is called for.
    fn apply(&self, events: Vec<Event>, revision: i64) -> bool {
        let mut again = false;
        for event in events {
            let kind = event.kind();
            let Some(kv) = event.kv.filter(|kv| kv.mod_revision > revision) else { continue };
            let (role, id) = match self.layout.parse(&kv.key) {
                Ok(key) => key,
                Err(skip) => {
                    metrics::skipped(skip, &kv.key);
                    continue;
                }
            };
            match kind {
                EventKind::Delete => again |= self.view.delete(role, id, Instant::now()),
                EventKind::Put => {
                    let put = Node::read(id, &kv).map(|node| self.view.put(role, node));
                    if let Some(Err(skip)) = put {
                        metrics::skipped(skip, &kv.key);
                    }
                }
            }
        }
        again
    }
}

/// How a watch began: with a list of this revision, then.
struct Begun {
    revision: i64,
    /// Whether another list is called for already.
    again: bool,
    at: Instant,
}

/// The events of an answer, unless it ends the watch.
fn usable(answer: WatchResponse) -> Result<Vec<Event>, Ended> {
    match (answer.canceled, answer.compact_revision) {
        (false, _) => Ok(answer.events),
        (true, 0) => Err(Ended::Canceled(answer.cancel_reason)),
        (true, _) => Err(Ended::Compacted),
    }
}

/// Looks after what time changes: nodes that are given up, and the snapshot.
struct Keeper {
    view: Arc<View>,
    path: Option<PathBuf>,
    cluster: String,
}

impl Keeper {
    async fn run(self, stop: CancellationToken) {
        let (mut written, mut written_at, mut warned) = (self.view.changes(), Instant::now(), false);
        let mut ticks = interval(WRITE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                biased;
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            self.view.expire(Instant::now());
            let changes = self.view.changes();
            let due = changes != written || written_at.elapsed() >= REWRITE;
            if due && self.view.source() == Source::Registry {
                (written, written_at) = (changes, Instant::now());
                if let Err(error) = self.write().await
                    && !std::mem::replace(&mut warned, true)
                {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "what is known of other nodes cannot be written to the data folder"
                    );
                }
            }
            if last {
                return;
            }
        }
    }

    async fn write(&self) -> std::io::Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let (members, cluster) = (self.view.all(), self.cluster.clone());
        let work = tokio::task::spawn_blocking(move || snapshot::write(&path, &cluster, &members));
        work.await.unwrap_or(Ok(()))
    }
}
