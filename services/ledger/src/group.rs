//! Records of many callers in one transaction.
//!
//! Requests wait in a bounded queue. One task takes all that wait, writes them in one transaction, writes
//! the signed heads that it leaves, and answers everyone; what comes meanwhile is the next transaction. So
//! the time that a disk needs to make something durable is shared by all who wait for it. What the queue
//! cannot hold is refused at once. The same task signs checkpoints, between transactions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh::Tenant;
use switchboard_mesh as mesh;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{Checkpoint, Signer},
    config::{CheckpointConfig, QueueConfig},
    error::Error,
    heads::Heads,
    metrics,
    plan::{Batch, Head, Receipt},
    store::{Erased, Move, Store},
};

/// The most requests of a transaction.
const GROUP: usize = 512;
/// How often the task looks for tenants whose records are due to be signed.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that a permit of the queue stands for.
const UNIT: usize = 1024;

/// A way to write; the task ends once it is told to stop and what waited is written.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

struct Waiting {
    work: Work,
    _room: OwnedSemaphorePermit,
}

enum Work {
    Append(Batch, oneshot::Sender<Result<Vec<Receipt>, Error>>),
    Erase(Batch, String, oneshot::Sender<Result<(Receipt, u64), Error>>),
}

/// What the task works with.
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) checkpoint: CheckpointConfig,
}

/// The time by this process's clock, in microseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Writer {
    /// Makes the queue and the task that serves it until `stop`.
    pub(crate) fn new(
        engine: Engine,
        queue: &QueueConfig,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, waiting) = mpsc::channel(queue.requests);
        let room = Arc::new(Semaphore::new(queue.bytes / UNIT));
        let task = Task { engine, unsigned: HashMap::new(), signed: HashMap::new(), known: HashMap::new() }
            .run(waiting, stop);
        (Self { queue: sender, room }, task)
    }

    /// Appends a batch; answers when it is durable. A caller who leaves before it is written takes it back.
    ///
    /// # Errors
    /// `Overloaded` at once when the queue is full, else what kept the batch from being written.
    pub(crate) async fn append(&self, batch: Batch, bytes: usize) -> Result<Vec<Receipt>, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Append(batch, reply), bytes)?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    /// Erases a subject; answers when its key is gone.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(crate) async fn erase(&self, batch: Batch, subject: String) -> Result<(Receipt, u64), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Erase(batch, subject, reply), 0)?;
        answer.await.map_err(|_| Error::Stopping)?
    }

    fn send(&self, work: Work, bytes: usize) -> Result<(), Error> {
        let full = || {
            metrics::refused("overloaded");
            Error::Overloaded
        };
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(units).map_err(|_| full())?;
        self.queue.try_send(Waiting { work, _room: room }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })
    }
}

struct Task {
    engine: Engine,
    /// Heads that no checkpoint covers, with when the first of their records was written.
    unsigned: HashMap<Tenant, (Head, Instant)>,
    /// The sequence of each tenant's last checkpoint, as far as it is known.
    signed: HashMap<Tenant, u64>,
    /// What this process signed last of each tenant, which its next transaction has to go on from, and
    /// whether it is written outside the store.
    known: HashMap<Tenant, (Checkpoint, bool)>,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>, stop: CancellationToken) {
        self.catch_up().await;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut group = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => waiting.close(),
                taken = waiting.recv_many(&mut group, GROUP) => {
                    if taken == 0 {
                        break;
                    }
                    self.write(std::mem::take(&mut group)).await;
                    self.sign(false).await;
                    continue;
                }
                _ = look.tick() => {
                    self.sign(false).await;
                    continue;
                }
            }
            // Closed: what waits is still written, then the queue ends.
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                self.write(std::mem::take(&mut group)).await;
            }
            break;
        }
        self.sign(true).await;
    }

    /// Looks which chains went on since their last checkpoint, as after a crash; they are due like new
    /// records. Their heads are written outside the store as well: a record that became durable just
    /// before the crash is acknowledged when it is repeated, and nothing is acknowledged that no signed
    /// head covers.
    async fn catch_up(&mut self) {
        let mut ahead = Vec::new();
        let told = |error: Error| {
            tracing::error!(%error, "the checkpoints of the ledger could not be read; verify it");
        };
        let store = &self.engine.store;
        let look = async |tenant: &Tenant| {
            let last = store.checkpoints_below(tenant, u64::MAX, 1).await?;
            Ok::<_, Error>((store.head(tenant).await?, last.first().map_or(0, |last| last.sequence)))
        };
        for tenant in store.tenants().await.map_err(told).unwrap_or_default() {
            // One that is damaged does not keep the others.
            let Ok((head, last)) = look(&tenant).await.map_err(told) else { continue };
            if head.sequence > last {
                ahead.push(Move { tenant: tenant.clone(), before: head.clone(), head });
            }
            self.signed.insert(tenant, last);
        }
        self.note(ahead).await;
    }

    async fn write(&mut self, group: Vec<Waiting>) {
        let mut batches = Vec::with_capacity(group.len());
        let mut replies = Vec::with_capacity(group.len());
        let mut room = Vec::with_capacity(group.len());
        for Waiting { work, _room: held } in group {
            match work {
                // A caller who has gone is not worked for.
                Work::Append(_, reply) if reply.is_closed() => {}
                Work::Append(batch, reply) => {
                    batches.push(batch);
                    replies.push(reply);
                    room.push(held);
                }
                // In its turn: what came before is written before.
                Work::Erase(batch, subject, reply) => {
                    self.append(std::mem::take(&mut batches), std::mem::take(&mut replies)).await;
                    let erased = self.erase(batch, subject).await;
                    let _ = reply.send(erased);
                }
            }
        }
        self.append(batches, replies).await;
        drop(room);
    }

    async fn append(
        &mut self,
        batches: Vec<Batch>,
        replies: Vec<oneshot::Sender<Result<Vec<Receipt>, Error>>>,
    ) {
        if batches.is_empty() {
            return;
        }
        let tenants: Vec<Tenant> = batches.iter().map(|batch| batch.tenant.clone()).collect();
        let began = Instant::now();
        let appended = self.engine.store.append(batches, now()).await;
        metrics::COMMIT_SECONDS.record(began.elapsed().as_secs_f64(), &[]);
        match appended {
            Ok(appended) => {
                let unkept = self.note(appended.moves).await;
                for ((outcome, tenant), reply) in appended.outcomes.into_iter().zip(tenants).zip(replies) {
                    match &outcome {
                        Ok(receipts) => {
                            let repeated = receipts.iter().filter(|receipt| receipt.repeated).count() as u64;
                            metrics::records(receipts.len() as u64 - repeated, repeated);
                        }
                        Err(Error::Conflict { .. }) => metrics::refused("conflict"),
                        Err(error) => {
                            tracing::error!(%error, %tenant, "records could not be written");
                            metrics::refused("failed");
                        }
                    }
                    let kept = !unkept.contains(&tenant);
                    let _ = reply.send(outcome.and_then(|done| kept.then_some(done).ok_or(Error::Unkept)));
                }
            }
            Err(error) => {
                tracing::warn!(%error, requests = replies.len(), "records could not be written");
                metrics::refused(match error {
                    Error::Full => "full",
                    Error::Away { .. } => "away",
                    _ => "failed",
                });
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn erase(&mut self, batch: Batch, subject: String) -> Result<(Receipt, u64), Error> {
        let Erased { receipt, records, moved } = self.engine.store.erase(batch, subject, now()).await?;
        if !receipt.repeated {
            metrics::records(1, 0);
        }
        if self.note(vec![moved]).await.is_empty() { Ok((receipt, records)) } else { Err(Error::Unkept) }
    }

    /// Whether a transaction began where this process left the chain, or, where others append as well, at
    /// records after that.
    async fn goes_on(&self, moved: &Move, known: &Checkpoint) -> bool {
        let Move { tenant, before, .. } = moved;
        if before.sequence == known.sequence {
            return before.hash == known.head;
        }
        let store = &self.engine.store;
        before.sequence > known.sequence
            && store.shared()
            && store.hashes(tenant, known.sequence, 1).await.is_ok_and(|hashes| hashes == [known.head])
    }

    /// Keeps for good what was signed of chains that do not go on from it: the next heads take its place in
    /// `latest`, and verification shall name what is gone. Returns the tenants whose could not be kept.
    async fn keep_evidence(&mut self, moves: &[Move]) -> HashSet<Tenant> {
        let (mut tenants, mut evidence) = (HashSet::new(), Vec::new());
        for moved in moves {
            let tenant = &moved.tenant;
            if let Some((known, _)) = self.known.get(tenant)
                && !self.goes_on(moved, known).await
            {
                let (signed, found) = (known.sequence, moved.before.sequence);
                tracing::error!(%tenant, signed, found, "a chain does not go on from its signed head; verify it");
                metrics::breaks();
                evidence.push(known.clone());
                tenants.insert(tenant.clone());
            }
        }
        if evidence.is_empty() {
            return tenants;
        }
        let outside = Arc::clone(&self.engine.heads);
        let kept = tokio::task::spawn_blocking(move || outside.append(&evidence)).await;
        match kept {
            Ok(Ok(())) => HashSet::new(),
            failed => {
                tracing::error!(?failed, "a signed head could not be kept");
                tenants
            }
        }
    }

    /// Writes the signed heads of a transaction outside the store, and notes that they are to be covered.
    /// Returns the tenants whose head is not written.
    async fn note(&mut self, mut moves: Vec<Move>) -> HashSet<Tenant> {
        let mut unkept = self.keep_evidence(&moves).await;
        moves.retain(|Move { tenant, head, .. }| {
            // Of what is there already, nothing is to be written.
            let same = |(known, written): &(Checkpoint, bool)| {
                *written && known.sequence == head.sequence && known.head == head.hash
            };
            !unkept.contains(tenant) && !self.known.get(tenant).is_some_and(same)
        });
        if moves.is_empty() {
            return unkept;
        }
        for Move { tenant, head, .. } in &moves {
            if self.signed.get(tenant).is_some_and(|last| *last == head.sequence) {
                continue;
            }
            self.unsigned
                .entry(tenant.clone())
                .and_modify(|(kept, _)| *kept = head.clone())
                .or_insert_with(|| (head.clone(), Instant::now()));
        }
        let (time, signer) = (now(), &self.engine.signer);
        let heads: Vec<Checkpoint> =
            moves.iter().map(|moved| signer.sign(moved.tenant.as_str(), &moved.head, time)).collect();
        let (outside, lines) = (Arc::clone(&self.engine.heads), heads.clone());
        let written = tokio::task::spawn_blocking(move || {
            lines.iter().map(|head| outside.latest(head)).collect::<Vec<_>>()
        });
        let mut written = written.await.unwrap_or_default().into_iter();
        for (Move { tenant, .. }, head) in moves.into_iter().zip(heads) {
            let written = written.next().unwrap_or_else(|| Err(std::io::Error::other("work stopped")));
            metrics::heads("latest", written.is_ok(), 1);
            if let Err(error) = &written {
                tracing::error!(%error, %tenant, "a signed head could not be written outside the store");
                unkept.insert(tenant.clone());
            }
            self.known.insert(tenant, (head, written.is_ok()));
        }
        unkept
    }

    /// Signs the chains that are due, or all that went on.
    async fn sign(&mut self, all: bool) {
        let CheckpointConfig { records, every } = self.engine.checkpoint;
        let due: Vec<Tenant> = self
            .unsigned
            .iter()
            .filter(|(tenant, (head, since))| {
                let last = self.signed.get(*tenant).copied().unwrap_or(0);
                all || since.elapsed() >= every || head.sequence.saturating_sub(last) >= records
            })
            .map(|(tenant, _)| tenant.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        let time = now();
        let checkpoints: Vec<Checkpoint> = due
            .iter()
            .filter_map(|tenant| {
                let (head, _) = self.unsigned.get(tenant)?;
                Some(self.engine.signer.sign(tenant.as_str(), head, time))
            })
            .collect();
        let outside = Arc::clone(&self.engine.heads);
        let lines = checkpoints.clone();
        let kept = tokio::task::spawn_blocking(move || outside.append(&lines)).await;
        let kept = kept
            .map_err(|_| Error::Lost)
            .and_then(|kept| kept.map_err(|error| Error::file("checkpoints.jsonl", &error)));
        let count = checkpoints.len();
        let stored = match kept {
            Ok(()) => self.engine.store.add_checkpoints(checkpoints).await,
            Err(error) => Err(error),
        };
        metrics::heads("checkpoint", stored.is_ok(), count);
        if let Err(error) = stored {
            // They stay due; the interval is begun again, so that a full disk is not asked all the time.
            tracing::error!(%error, "checkpoints could not be kept; they are signed later");
            for tenant in due {
                if let Some((_, since)) = self.unsigned.get_mut(&tenant) {
                    *since = Instant::now();
                }
            }
            return;
        }
        for tenant in due {
            if let Some((head, _)) = self.unsigned.remove(&tenant) {
                self.signed.insert(tenant, head.sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, task::Poll};

    use super::*;
    use crate::{
        plan::tests::{draft, masters},
        store::{postgres::Postgres, sqlite::Sqlite},
    };

    struct Bench {
        writer: Writer,
        task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        stop: CancellationToken,
        store: Arc<dyn Store>,
        _folder: tempfile::TempDir,
    }

    fn bench(queue: &QueueConfig) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(folder.path(), masters()).unwrap());
        bench_of(queue, store, folder)
    }

    fn bench_of(queue: &QueueConfig, store: Arc<dyn Store>, folder: tempfile::TempDir) -> Bench {
        let engine = Engine {
            store: Arc::clone(&store),
            heads: Arc::new(Heads::open(folder.path()).unwrap()),
            signer: Arc::new(Signer::try_new(&[1; 32]).unwrap()),
            checkpoint: CheckpointConfig { every: Duration::from_secs(3600), ..CheckpointConfig::default() },
        };
        let stop = CancellationToken::new();
        let (writer, task) = Writer::new(engine, queue, stop.clone());
        Bench { writer, task: Box::pin(task), stop, store, _folder: folder }
    }

    fn batch(number: u128) -> Batch {
        Batch { tenant: Tenant::try_new("acme").unwrap(), drafts: vec![draft(number)] }
    }

    #[tokio::test]
    async fn what_the_queue_cannot_hold_is_refused_at_once() {
        let Bench { writer, task, stop, store, _folder } =
            bench(&QueueConfig { requests: 2, bytes: 8 << 20 });
        // The task does not run yet: nothing leaves the queue.
        let mut waiting: Vec<_> = (0..2).map(|number| Box::pin(writer.append(batch(number), 1))).collect();
        for one in &mut waiting {
            assert!(matches!(
                std::future::poll_fn(|cx| Poll::Ready(one.as_mut().poll(cx))).await,
                Poll::Pending
            ));
        }
        assert!(matches!(writer.append(batch(2), 1).await, Err(Error::Overloaded)));
        // Who leaves takes the request back.
        drop(waiting.pop());
        let task = tokio::spawn(task);
        assert_eq!(waiting.pop().unwrap().await.unwrap()[0].sequence, 1);
        assert_eq!(writer.append(batch(3), 1).await.unwrap()[0].sequence, 2);
        stop.cancel();
        task.await.unwrap();
        let head = store.head(&Tenant::try_new("acme").unwrap()).await.unwrap();
        assert_eq!(head.sequence, 2);
        assert!(matches!(writer.append(batch(4), 1).await, Err(Error::Stopping)));
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_well() {
        let Bench { writer, task: _task, .. } = bench(&QueueConfig { requests: 100, bytes: 4 << 20 });
        let mut first = Box::pin(writer.append(batch(0), 3 << 20));
        assert!(std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await.is_pending());
        assert!(matches!(writer.append(batch(1), 2 << 20).await, Err(Error::Overloaded)));
    }

    /// A live cut that no checkpoint covers, and then a head for each place of the tenant's file.
    #[tokio::test]
    async fn a_cut_while_it_runs_is_not_covered_up() {
        let Bench { writer, task, stop, store, _folder: folder } = bench(&QueueConfig::default());
        let task = tokio::spawn(task);
        for number in 0..5 {
            writer.append(batch(number), 1).await.unwrap();
        }
        let tenant = Tenant::try_new("acme").unwrap();
        let mut head = Head::of("acme");
        store.hashes(&tenant, 1, 3).await.unwrap().into_iter().for_each(|hash| head.push(hash));
        let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
        let parts = rusqlite::params![head.sequence.cast_signed(), head.hash, head.tree.to_bytes()];
        database.execute("DELETE FROM ledger_records WHERE sequence > ?1", [3]).unwrap();
        database.execute("UPDATE ledger_heads SET sequence = ?1, hash = ?2, frontier = ?3", parts).unwrap();
        for number in 5..9 {
            writer.append(batch(number), 1).await.unwrap();
        }
        let trusted = crate::checkpoint::Trusted::new([Signer::try_new(&[1; 32]).unwrap().public()]);
        let verdict =
            crate::verify::verify(&*store, folder.path(), &trusted, &tenant, 1, &mut |_, _| ()).await;
        let bad = verdict.unwrap().bad.unwrap();
        assert_eq!((bad.fault, bad.last_sequence), (switchboard_proto::ledger::v1::Fault::Rewritten, 5));
        stop.cancel();
        task.await.unwrap();
    }

    /// A chain that was made again to the same length is seen as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_head_that_was_changed_while_it_runs_keeps_the_signed_one() {
        let Bench { writer, task, stop, store: _store, _folder: folder } = bench(&QueueConfig::default());
        let task = tokio::spawn(task);
        for number in 0..5 {
            writer.append(batch(number), 1).await.unwrap();
        }
        let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
        database.execute("UPDATE ledger_heads SET hash = zeroblob(32)", []).unwrap();
        writer.append(batch(5), 1).await.unwrap();
        let kept = std::fs::read_to_string(folder.path().join("checkpoints.jsonl")).unwrap();
        assert!(kept.contains("\"sequence\":5"), "{kept}");
        stop.cancel();
        task.await.unwrap();
    }

    /// Another node's records between one's own are no break; a chain that was made shorter is.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_that_share_a_store_take_each_other_for_no_tampering() {
        let server = mesh::testing::PostgresServer::start();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let store = Arc::new(Postgres::open(&server.url(), 2, masters()).await.unwrap());
            nodes.push(bench_of(&QueueConfig::default(), store, tempfile::tempdir().unwrap()));
        }
        let [first, second] = <[Bench; 2]>::try_from(nodes).ok().unwrap();
        let (one, other) = (tokio::spawn(first.task), tokio::spawn(second.task));
        let kept = || std::fs::read_to_string(first._folder.path().join("checkpoints.jsonl")).unwrap();
        for number in 0..3 {
            first.writer.append(batch(number * 2), 1).await.unwrap();
            second.writer.append(batch(number * 2 + 1), 1).await.unwrap();
        }
        first.writer.append(batch(6), 1).await.unwrap();
        assert_eq!(kept(), "");
        let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
        let cut = "DELETE FROM ledger_records WHERE tenant = 'acme'; DELETE FROM ledger_heads WHERE tenant = 'acme'";
        sqlx::raw_sql(cut).execute(&pool).await.unwrap();
        for number in 7..16 {
            second.writer.append(batch(number), 1).await.unwrap();
        }
        first.writer.append(batch(16), 1).await.unwrap();
        assert!(kept().contains("\"sequence\":7"), "{}", kept());
        first.stop.cancel();
        second.stop.cancel();
        one.await.unwrap();
        other.await.unwrap();
    }

    #[tokio::test]
    async fn what_no_signed_head_covers_is_not_acknowledged() {
        let Bench { writer, task, stop, _folder: folder, .. } = bench(&QueueConfig::default());
        let task = tokio::spawn(task);
        writer.append(batch(0), 1).await.unwrap();
        let latest = folder.path().join("latest");
        let file = std::fs::read_dir(&latest).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(matches!(writer.append(batch(1), 1).await, Err(Error::Unkept)));
        assert!(matches!(writer.append(batch(1), 1).await, Err(Error::Unkept)), "a repeat as well");
        std::fs::remove_dir(&file).unwrap();
        let receipts = writer.append(batch(1), 1).await.unwrap();
        assert!(receipts[0].repeated && file.is_file());
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_when_it_stops_is_written_and_signed() {
        let Bench { writer, task, stop, store, _folder } = bench(&QueueConfig::default());
        let mut waiting: Vec<_> = (0..600).map(|number| Box::pin(writer.append(batch(number), 1))).collect();
        for one in &mut waiting {
            assert!(std::future::poll_fn(|cx| Poll::Ready(one.as_mut().poll(cx))).await.is_pending());
        }
        stop.cancel();
        task.await;
        for one in waiting {
            one.await.unwrap();
        }
        let tenant = Tenant::try_new("acme").unwrap();
        assert_eq!(store.checkpoints_below(&tenant, u64::MAX, 1).await.unwrap()[0].sequence, 600);
    }
}
