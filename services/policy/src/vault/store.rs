//! Where sealed values are kept between starts.

use std::{
    fmt::Debug,
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};

/// The schema that this version writes. Raise it with a step in [`Sqlite::open`].
const SCHEMA: i64 = 1;

/// A sealed value. Its place is told beside it.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) number: u32,
    pub(super) key: String,
    pub(super) mark: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

/// What is stored of a conversation.
#[derive(Default)]
pub(super) struct Stored {
    /// The highest number of any of its placeholders, forgotten ones among them.
    pub(super) highest: u32,
    /// The values, oldest first.
    pub(super) rows: Vec<Row>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process gave the number to another value: read the conversation again.
    #[error("a placeholder was given to another value at the same time")]
    Conflict,
    /// The folder or the file cannot be used.
    #[error("the vault in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no random numbers to seal with.
    #[error("the system gives no random numbers")]
    Random,
    /// The database does not answer, or is full.
    #[error("the vault's database: {0}")]
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => Self::Conflict,
            _ => Self::Database(error),
        }
    }
}

type Outcome<T> = Result<T, StoreError>;

/// Keeps sealed values. Every method blocks; what it has done is on the disk when it returns.
pub(super) trait Store: Debug + Send + Sync {
    /// What is stored of a conversation, the newest `most` values; `None` for one that was never stored. Counts
    /// as a use at `now`, in seconds since 1970.
    fn load(&self, tenant: &str, conversation: &str, most: usize, now: i64) -> Outcome<Option<Stored>>;
    /// Adds values in one transaction, and drops the oldest beyond `most`.
    fn add(&self, tenant: &str, conversation: &str, rows: &[Row], most: usize, now: i64) -> Outcome<()>;
    /// Puts other seals in the place of those of the same kinds and numbers, in one transaction.
    fn reseal(&self, tenant: &str, conversation: &str, rows: &[Row]) -> Outcome<()>;
    /// Removes the values of a conversation; how many there were.
    fn forget(&self, tenant: &str, conversation: &str) -> Outcome<usize>;
    /// Removes every value of a tenant with one of these marks; how many there were.
    fn forget_marked(&self, tenant: &str, marks: &[Vec<u8>]) -> Outcome<usize>;
    /// Removes the values of conversations not used since `before`; how many there were. Numbers are kept until
    /// `numbers_before`.
    fn expire(&self, before: i64, numbers_before: i64) -> Outcome<usize>;
}

/// A file of SQLite.
#[derive(Debug)]
pub(super) struct Sqlite(Mutex<Connection>);

impl Sqlite {
    /// Opens the file, or makes it, readable for this user alone.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which names it.
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| unusable(error.to_string()))?;
        }
        // The database's other files take over the mode of this one.
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = file.map_err(|error| unusable(error.to_string()))?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|error| unusable(error.to_string()))?;
        let database = |error: rusqlite::Error| unusable(error.to_string());
        let mut connection = Connection::open(path).map_err(database)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(database)?;
        connection.set_prepared_statement_cache_capacity(32);
        // A commit is on the disk before it is acknowledged, and what was removed is written over.
        connection.pragma_update(None, "synchronous", "FULL").map_err(database)?;
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(())).map_err(database)?;
        let _: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(database)?;
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database)?;
        if found > SCHEMA {
            let reason = format!("it is of version {found}; this program knows versions up to {SCHEMA}");
            return Err(unusable(reason));
        }
        if found < 1 {
            let mut make = || {
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // Another process may have been first.
                let found: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
                if found < 1 {
                    change.execute_batch(include_str!("schema.sql"))?;
                    change.pragma_update(None, "user_version", SCHEMA)?;
                }
                change.commit()
            };
            make().map_err(database)?;
        }
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was not committed is rolled back as it is dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use is written down once in so many seconds: a turn shall not wait for it.
const USE_AFTER: i64 = 86_400;

impl Store for Sqlite {
    fn load(&self, tenant: &str, conversation: &str, most: usize, now: i64) -> Outcome<Option<Stored>> {
        let connection = self.connection();
        let about = connection
            .prepare_cached(
                "SELECT highest, used_at FROM conversations WHERE tenant = ? AND conversation = ?",
            )?
            .query_row(params![tenant, conversation], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let Some((highest, used_at)) = about else { return Ok(None) };
        let mut select = connection.prepare_cached(
            "SELECT kind, number, key, mark, sealed FROM held WHERE tenant = ? AND conversation = ?
             ORDER BY id DESC LIMIT ?",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = select.query_map(params![tenant, conversation, most], |row| {
            Ok(Row {
                kind: row.get(0)?,
                number: row.get(1)?,
                key: row.get(2)?,
                mark: row.get(3)?,
                sealed: row.get(4)?,
            })
        })?;
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        if now - used_at > USE_AFTER {
            let touch = "UPDATE conversations SET used_at = ? WHERE tenant = ? AND conversation = ?";
            connection.prepare_cached(touch)?.execute(params![now, tenant, conversation])?;
        }
        Ok(Some(Stored { highest, rows }))
    }

    fn add(&self, tenant: &str, conversation: &str, rows: &[Row], most: usize, now: i64) -> Outcome<()> {
        let highest = rows.iter().map(|row| row.number).max().unwrap_or(0);
        let mut connection = self.connection();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change
            .prepare_cached(
                "INSERT INTO conversations (tenant, conversation, highest, used_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET highest = max(highest, ?3), used_at = ?4",
            )?
            .execute(params![tenant, conversation, highest, now])?;
        for row in rows {
            change
                .prepare_cached(
                    "INSERT INTO held (tenant, conversation, kind, number, key, mark, sealed)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    tenant,
                    conversation,
                    row.kind,
                    row.number,
                    row.key,
                    row.mark,
                    row.sealed
                ])?;
        }
        change
            .prepare_cached(
                "DELETE FROM held WHERE tenant = ?1 AND conversation = ?2 AND id NOT IN
                 (SELECT id FROM held WHERE tenant = ?1 AND conversation = ?2 ORDER BY id DESC LIMIT ?3)",
            )?
            .execute(params![tenant, conversation, i64::try_from(most).unwrap_or(i64::MAX)])?;
        Ok(change.commit()?)
    }

    fn reseal(&self, tenant: &str, conversation: &str, rows: &[Row]) -> Outcome<()> {
        let mut connection = self.connection();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for row in rows {
            change
                .prepare_cached(
                    "UPDATE held SET key = ?, mark = ?, sealed = ?
                     WHERE tenant = ? AND conversation = ? AND kind = ? AND number = ?",
                )?
                .execute(params![
                    row.key,
                    row.mark,
                    row.sealed,
                    tenant,
                    conversation,
                    row.kind,
                    row.number
                ])?;
        }
        Ok(change.commit()?)
    }

    fn forget(&self, tenant: &str, conversation: &str) -> Outcome<usize> {
        let connection = self.connection();
        let forget = "DELETE FROM held WHERE tenant = ? AND conversation = ?";
        Ok(connection.prepare_cached(forget)?.execute(params![tenant, conversation])?)
    }

    fn forget_marked(&self, tenant: &str, marks: &[Vec<u8>]) -> Outcome<usize> {
        let mut connection = self.connection();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut forgotten = 0;
        for mark in marks {
            forgotten += change
                .prepare_cached("DELETE FROM held WHERE tenant = ? AND mark = ?")?
                .execute(params![tenant, mark])?;
        }
        change.commit()?;
        Ok(forgotten)
    }

    fn expire(&self, before: i64, numbers_before: i64) -> Outcome<usize> {
        let mut connection = self.connection();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let forgotten = change
            .prepare_cached(
                "DELETE FROM held WHERE (tenant, conversation) IN
                 (SELECT tenant, conversation FROM conversations WHERE used_at < ?)",
            )?
            .execute([before])?;
        change.prepare_cached("DELETE FROM conversations WHERE used_at < ?")?.execute([numbers_before])?;
        change.commit()?;
        Ok(forgotten)
    }
}
