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
    layout::{LARGEST_VALUE, Layout, Skip},
    listing::{Limits, Listing, Node},
    metrics, snapshot,
    view::View,
};

/// Entries that are asked for at once.
const PAGE: i64 = 256;

/// Pages of a list; one that has more is not finished.
const PAGES: usize = 2000;

/// Events that may wait while a list is taken, and their bytes.
const WAITING: usize = 100_000;
const WAITING_BYTES: usize = 64 << 20;

/// How often those who watch are told at most: a thousand nodes that tell of their backlog shall not make
/// a thousand lists a second.
const GATHER: Duration = Duration::from_millis(100);

/// How often a list may be taken for nodes that were left out before.
const AGAIN: Duration = Duration::from_secs(10);

/// What went well for so long was no failure from the start.
const STEADY: Duration = Duration::from_secs(3);

/// How often the snapshot is written at most, which is when nodes come, go or move, and how old it may be while
/// all is well: what nodes say of themselves is not worth a write each time.
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
        let written = view.changes();
        let keeper = Keeper { view: Arc::clone(&view), again: Arc::clone(&again), path, cluster, written };
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

    /// Whether it is to be told. What keeps the registry out of reach is tried every few seconds, and told once
    /// until `told_away` is taken back.
    fn is_news(&self, told_away: &mut bool) -> bool {
        match self {
            Self::Again => false,
            Self::Away(_) | Self::Canceled(_) => !std::mem::replace(told_away, true),
            Self::Silent | Self::Compacted | Self::Behind => true,
        }
    }

    fn tell(&self) {
        match self {
            Self::Away(error) => {
                let error: &dyn std::error::Error = error;
                tracing::warn!(error, "the registry is away; what was known of other nodes is kept");
            }
            Self::Canceled(reason) => {
                let reason: String = reason.chars().take(200).collect();
                tracing::warn!(reason, "the registry ended the watch; what was known of other nodes is kept");
            }
            ended => tracing::info!(reason = ended.as_str(), "the registry is listed anew"),
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
            if ended.is_news(&mut told_away) {
                ended.tell();
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
        let mut waiting = Waiting::default();
        let (listing, revision) = {
            let mut list = pin!(self.list(session));
            loop {
                tokio::select! {
                    // Always in this order, so that a simulation replays.
                    biased;
                    listed = &mut list => break listed?,
                    answer = watch.next() => waiting.add(usable(answer?)?)?,
                }
            }
        };
        let back = self.view.source() != Source::Registry;
        let left_out = self.view.listed(listing, back, Instant::now());
        let again = self.apply(waiting.events, revision) || left_out;
        self.view.publish();
        Ok(Begun { revision, again, at: Instant::now() })
    }

    /// Lists all entries, page by page, as they were at one revision.
    async fn list(&self, session: &Session) -> Result<(Listing, i64), EtcdError> {
        let mut listing = self.view.listing();
        let (mut key, range_end) = self.layout.range();
        let (mut revision, mut size) = (0, PageSize::default());
        for _ in 0..PAGES {
            let request = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: size.0,
                revision,
                serializable: true,
                keys_only: false,
            };
            let page = match session.range(request).await {
                // Values can be larger than any that is used.
                Err(error) if error.too_large() && size.shrink() => continue,
                page => page?,
            };
            size.grow();
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
        listing.end(&self.layout, &key);
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
                EventKind::Put => match Node::read(id, &kv).and_then(|node| self.view.put(role, node)) {
                    Ok(()) => {}
                    Err(Skip::Left) => again |= self.view.leave(role, id),
                    Err(skip) => metrics::skipped(skip, &kv.key),
                },
            }
        }
        again
    }
}

/// Entries that are asked for at once, from 1 to [`PAGE`].
struct PageSize(i64);

impl Default for PageSize {
    fn default() -> Self {
        Self(PAGE)
    }
}

impl PageSize {
    /// Fewer, since a page was too large. Returns whether that is possible.
    fn shrink(&mut self) -> bool {
        let possible = self.0 > 1;
        self.0 = (self.0 / 4).max(1);
        possible
    }

    /// More, since a page was not too large: a few large values shall not make the whole list slow.
    fn grow(&mut self) {
        self.0 = (self.0 * 2).min(PAGE);
    }
}

/// Events that wait for a list.
#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    bytes: usize,
}

impl Waiting {
    /// Keeps `events`. Values larger than any that is used are cut, and skipped for their size all the same.
    fn add(&mut self, events: Vec<Event>) -> Result<(), Ended> {
        for mut event in events {
            if let Some(kv) = &mut event.kv {
                kv.value.truncate(LARGEST_VALUE + 1);
                kv.value.shrink_to_fit();
                self.bytes += kv.key.len() + kv.value.len();
            }
            self.events.push(event);
            if self.events.len() > WAITING || self.bytes > WAITING_BYTES {
                return Err(Ended::Behind);
            }
        }
        Ok(())
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
    again: Arc<Notify>,
    path: Option<PathBuf>,
    cluster: String,
    /// The changes that the snapshot has.
    written: u64,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        let (mut written_at, mut warned) = (Instant::now(), false);
        let mut ticks = interval(WRITE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                biased;
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            if self.view.expire(Instant::now()) {
                self.again.notify_one();
            }
            let changes = self.view.changes();
            let due = changes != self.written || written_at.elapsed() >= REWRITE;
            if due && self.view.source() == Source::Registry {
                (self.written, written_at) = (changes, Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{etcd::messages::KeyValue, layout};

    fn put(bytes: usize) -> Event {
        let kv = KeyValue { key: b"k".to_vec(), value: vec![0; bytes], ..KeyValue::default() };
        Event { kind: EventKind::Put as i32, kv: Some(kv) }
    }

    #[test]
    fn what_waits_for_a_list_is_bounded_in_bytes_and_large_values_are_cut() {
        let mut waiting = Waiting::default();
        let most = WAITING_BYTES / (LARGEST_VALUE + 2);
        for _ in 0..most {
            assert!(waiting.add(vec![put(1 << 20)]).is_ok());
        }
        let value = &waiting.events[0].kv.as_ref().unwrap().value;
        assert!(value.capacity() < 2 * LARGEST_VALUE);
        assert_eq!(layout::member("x", value), Err(layout::Skip::Size));
        let behind = waiting.add(vec![put(1 << 20), put(1 << 20)]);
        assert!(matches!(behind, Err(Ended::Behind)) && waiting.bytes < WAITING_BYTES + 2 * LARGEST_VALUE);
    }

    #[test]
    fn pages_grow_again_after_those_that_had_to_be_small() {
        let mut size = PageSize::default();
        while size.shrink() {}
        assert_eq!(size.0, 1);
        for _ in 0..8 {
            size.grow();
        }
        assert_eq!(size.0, PAGE);
        size.grow();
        assert_eq!(size.0, PAGE);
    }

    #[test]
    fn that_a_watch_is_refused_is_told_once_however_often_it_is_tried() {
        let mut told = false;
        let refused = || Ended::Canceled("etcdserver: permission denied".into());
        assert!(refused().is_news(&mut told));
        assert!(!refused().is_news(&mut told) && !Ended::Away(EtcdError::Late).is_news(&mut told));
        // It came back, and is away again.
        told = false;
        assert!(Ended::Away(EtcdError::Late).is_news(&mut told) && !refused().is_news(&mut told));
        assert!(Ended::Compacted.is_news(&mut told) && !Ended::Again.is_news(&mut told));
    }
}
