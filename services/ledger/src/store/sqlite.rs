//! The ledger in one SQLite database in the data folder, which one process holds.
//!
//! One connection writes; others read. A commit is on the disk before it is answered (`synchronous=FULL`).
//! What is deleted is overwritten (`secure_delete`), and after an erasure the write-ahead log is emptied, so
//! that a destroyed key is nowhere in the files.

mod statements;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::{Tenant, folder::claim};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use switchboard_mesh as mesh;
use uuid::Uuid;

use super::{Appended, Bounds, Erased, Filter, Move, Store, Which};
use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    error::Error,
    plan::{self, Batch, Head, Known, Plan, Row},
    seal::{Masters, WrappedKey},
};

/// The schema that this version writes. Raise it with a step in [`open`].
const SCHEMA: i64 = 1;
/// Connections for reading that are kept for later.
const IDLE_READERS: usize = 8;
/// The database's file in its folder.
pub(crate) const FILE: &str = "ledger.db";

/// The open database.
#[derive(Clone)]
pub(crate) struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// `None` where the database was opened to be read.
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
    masters: Masters,
    /// The folder is this process's for as long as the file is open.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens the database in `folder`, which is made where it is missing. Blocks.
    ///
    /// # Errors
    /// `InUse`, `File`, `Corrupt` or `Newer`, each of which says what to do.
    pub(crate) fn open(folder: &Path, masters: Masters) -> Result<Self, Error> {
        let lock = claim(folder).map_err(|error| Error::file(folder, &error))?;
        let lock = lock.ok_or_else(|| Error::InUse { folder: folder.to_owned() })?;
        let path = folder.join(FILE);
        let writer = open(&path)?;
        Ok(Self::of(path, Some(writer), masters, Some(lock)))
    }

    /// Opens the database in `folder` to read it, whoever holds it. Blocks.
    ///
    /// # Errors
    /// `File` where there is none, `Corrupt` or `Newer`.
    pub(crate) fn read(folder: &Path, masters: Masters) -> Result<Self, Error> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::File { path, detail: "there is no ledger here".into() });
        }
        let fail = |error: rusqlite::Error| Error::sqlite(&path, &error);
        let connection = reader(&path).map_err(fail)?;
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        if found > SCHEMA {
            return Err(Error::Newer { found, known: SCHEMA });
        }
        Ok(Self::of(path, None, masters, None))
    }

    fn of(path: PathBuf, writer: Option<Connection>, masters: Masters, lock: Option<File>) -> Self {
        Self(Arc::new(Shared {
            path,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            masters,
            _lock: lock,
        }))
    }

    /// Runs `work` in one transaction of the connection that writes.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let mut writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(connection) = writer.as_mut() else {
                return Err(Error::Away { detail: "the database is open for reading alone".into() });
            };
            let run = |connection: &mut Connection| -> Result<T, Failure> {
                // A transaction that is dropped is rolled back, whatever kept it from its end.
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let done = work(&change, &shared)?;
                change.commit()?;
                Ok(done)
            };
            run(connection).map_err(|failure| failure.at(&shared.path))
        });
        done.await.map_err(|_| Error::Lost)?
    }

    /// Runs `work` on a connection that reads.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let idle = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => reader(&shared.path).map_err(|error| Error::sqlite(&shared.path, &error))?,
            };
            let done = work(&connection).map_err(|failure| failure.at(&shared.path));
            let mut readers = shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
            done
        });
        done.await.map_err(|_| Error::Lost)?
    }
}

/// What stops a piece of work: SQLite, or what was found.
enum Failure {
    Engine(rusqlite::Error),
    Found(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Found(error)
    }
}

impl Failure {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::Engine(error) => Error::sqlite(path, &error),
            Self::Found(error) => error,
        }
    }
}

/// Opens a database for writing and makes its tables where they are missing.
fn open(path: &Path) -> Result<Connection, Error> {
    let fail = |error: rusqlite::Error| Error::sqlite(path, &error);
    let mut connection = Connection::open(path).map_err(fail)?;
    configure(&connection).map_err(fail)?;
    let set = || {
        // FULL: a commit is on the disk before it is acknowledged, through a loss of power too.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What was deleted is overwritten: a destroyed key must not be found in a free page.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "cache_size", -64_000)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    };
    let mode = set().map_err(fail)?;
    if !mode.eq_ignore_ascii_case("wal") {
        tracing::warn!(mode, "the file system has no shared memory; readers wait for writes");
    }
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    if found > SCHEMA {
        return Err(Error::Newer { found, known: SCHEMA });
    }
    if found < SCHEMA {
        let mut steps = || {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(include_str!("schema.sqlite.sql"))?;
            change.pragma_update(None, "user_version", SCHEMA)?;
            change.commit()
        };
        steps().map_err(fail)?;
    }
    // A key that was destroyed just before a crash may still stand in the log.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(fail)?;
    Ok(connection)
}

/// Opens a database for reading.
fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Writes the batches of one transaction, tenant by tenant; what is wrong with one tenant's part of the store
/// leaves the others alone.
fn append(
    change: &Transaction<'_>,
    shared: &Shared,
    batches: &[Batch],
    now: i64,
) -> Result<Appended, Failure> {
    let mut tenants: Vec<&Tenant> = batches.iter().map(|batch| &batch.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut outcomes: Vec<Option<_>> = batches.iter().map(|_| None).collect();
    let mut moves = Vec::new();
    for tenant in tenants {
        let own: Vec<usize> = (0..batches.len()).filter(|at| batches[*at].tenant == *tenant).collect();
        let of_tenant: Vec<&Batch> = own.iter().map(|at| &batches[*at]).collect();
        statements::run(change, "SAVEPOINT of_tenant")?;
        match append_tenant(change, &shared.masters, tenant, &of_tenant, now) {
            Ok(plan) => {
                statements::run(change, "RELEASE of_tenant")?;
                if plan.outcomes.iter().any(Result::is_ok) {
                    moves.push(Move { tenant: tenant.clone(), before: plan.before, head: plan.head });
                }
                for (at, outcome) in own.into_iter().zip(plan.outcomes) {
                    outcomes[at] = Some(outcome);
                }
            }
            Err(failure) => {
                let error = failure.at(&shared.path);
                if !error.of_one_tenant() {
                    return Err(error.into());
                }
                statements::run(change, "ROLLBACK TO of_tenant")?;
                statements::run(change, "RELEASE of_tenant")?;
                for at in own {
                    outcomes[at] = Some(Err(error.clone()));
                }
            }
        }
    }
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Lost))).collect();
    Ok(Appended { outcomes, moves })
}

/// Writes the batches of one tenant.
fn append_tenant(
    change: &Transaction<'_>,
    masters: &Masters,
    tenant: &Tenant,
    batches: &[&Batch],
    now: i64,
) -> Result<Plan, Failure> {
    let plan = plan::plan(batches, known(change, masters, tenant, batches, now)?)?;
    for key in &plan.keys {
        statements::insert_key(change, key)?;
    }
    for row in &plan.rows {
        statements::insert(change, tenant, row)?;
    }
    if !plan.rows.is_empty() {
        statements::set_head(change, tenant, &plan.head)?;
    }
    Ok(plan)
}

/// What a plan for `batches`, all of one tenant, has to know.
fn known<'a>(
    change: &Transaction<'_>,
    masters: &'a Masters,
    tenant: &Tenant,
    batches: &[&Batch],
    now: i64,
) -> Result<Known<'a>, Failure> {
    let head = statements::head(change, tenant)?;
    let mut records = HashMap::new();
    let mut keys = HashMap::new();
    let mut asked = HashSet::new();
    for draft in batches.iter().flat_map(|batch| &batch.drafts) {
        if let Some(row) = statements::find_any(change, tenant, draft.id)? {
            records.insert(draft.id, Arc::new(row));
        }
        if !draft.sealed.is_empty()
            && asked.insert(&draft.subject)
            && let Some(kept) = statements::key_of(change, tenant, &draft.subject)?
        {
            keys.insert(draft.subject.clone(), masters.unwrap(&kept)?);
        }
    }
    Ok(Known { head, records, keys, masters, now })
}

#[tonic::async_trait]
impl Store for Sqlite {
    fn shared(&self) -> bool {
        false
    }

    async fn append(&self, batches: Vec<Batch>, now: i64) -> Result<Appended, Error> {
        self.write(move |change, shared| append(change, shared, &batches, now)).await
    }

    async fn erase(&self, batch: Batch, subject: String, now: i64) -> Result<Erased, Error> {
        let erased = self
            .write(move |change, shared| {
                let tenant = batch.tenant.clone();
                let mut appended = append(change, shared, std::slice::from_ref(&batch), now)?;
                let receipts = appended.outcomes.pop().unwrap_or(Err(Error::Lost))?;
                let receipt = receipts.into_iter().next().ok_or(Error::Lost)?;
                let mut records = 0;
                if !receipt.repeated
                    && let Some(key) = statements::key_of(change, &tenant, &subject)?
                {
                    records = statements::sealed_with(change, &tenant, key.id)?;
                    statements::delete_key(change, &tenant, &subject)?;
                }
                let moved = appended.moves.pop().ok_or(Error::Lost)?;
                Ok(Erased { receipt, records, moved })
            })
            .await?;
        let shared = Arc::clone(&self.0);
        // The key is gone from the database; now from the log as well. Readers may keep a part of it for a
        // moment, which the next erasure or the next start empties.
        let emptied = tokio::task::spawn_blocking(move || {
            let writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.as_ref().map(|connection| {
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            })
        });
        if !matches!(emptied.await, Ok(Some(Ok(0)))) {
            tracing::warn!(
                "the log of the ledger could not be emptied after an erasure; it is at the next one"
            );
        }
        Ok(erased)
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| statements::head(connection, &tenant)).await
    }

    async fn bounds(&self, tenant: &Tenant) -> Result<Bounds, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| Ok(statements::bounds(connection, &tenant)?)).await
    }

    async fn scan(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Row>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| Ok(statements::scan(connection, &tenant, from, limit)?)).await
    }

    async fn find(&self, tenant: &Tenant, which: Which) -> Result<Option<Row>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| Ok(statements::find(connection, &tenant, which)?)).await
    }

    async fn query(&self, tenant: &Tenant, filter: Filter, limit: usize) -> Result<Vec<Row>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| Ok(statements::query(connection, &tenant, &filter, limit)?)).await
    }

    async fn hashes(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Hash>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| statements::hashes(connection, &tenant, from, limit)).await
    }

    async fn key(&self, tenant: &Tenant, id: Uuid) -> Result<Option<WrappedKey>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| Ok(statements::key(connection, &tenant, id)?)).await
    }

    async fn wrapped_by_others(&self, master: &str, limit: usize) -> Result<Vec<WrappedKey>, Error> {
        let master = master.to_owned();
        self.reading(move |connection| Ok(statements::wrapped_by_others(connection, &master, limit)?)).await
    }

    async fn rewrap(&self, keys: Vec<WrappedKey>) -> Result<(), Error> {
        self.write(move |change, _| {
            for key in &keys {
                statements::rewrap(change, key)?;
            }
            Ok(())
        })
        .await
    }

    async fn add_checkpoints(&self, checkpoints: Vec<Checkpoint>) -> Result<(), Error> {
        self.write(move |change, _| {
            for checkpoint in &checkpoints {
                statements::insert_checkpoint(change, checkpoint)?;
            }
            Ok(())
        })
        .await
    }

    async fn checkpoints_below(
        &self,
        tenant: &Tenant,
        below: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| statements::checkpoints(connection, &tenant, below, limit, true)).await
    }

    async fn checkpoints_from(
        &self,
        tenant: &Tenant,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        let tenant = tenant.clone();
        self.reading(move |connection| statements::checkpoints(connection, &tenant, from, limit, false)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        self.reading(|connection| Ok(statements::tenants(connection)?)).await
    }
}

#[cfg(test)]
impl Sqlite {
    /// Lets the database have no more pages than it has, and `more`; `None` for as many as it likes.
    pub(crate) fn bound_pages(&self, more: Option<i64>) {
        let writer = self.0.writer.lock().unwrap();
        let connection = writer.as_ref().unwrap();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let most = more.map_or(1 << 30, |more| pages + more);
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).unwrap();
    }
}
