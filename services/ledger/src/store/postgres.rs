//! The ledger in a PostgreSQL database, which several nodes may share.
//!
//! The row of a tenant's head is locked for the length of a transaction, so that nodes that write for the
//! same tenant take turns, and there is one chain. A commit is answered when the server has it on its disk:
//! connections ask for `synchronous_commit`. After an erasure the table of keys is vacuumed, so that a
//! destroyed key is not left in a dead row; what the server keeps in its log and backups is its operators'
//! to expire.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use mesh::Tenant;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres as Engine, Row as _, Transaction,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow},
};
use switchboard_mesh as mesh;
use uuid::Uuid;

use super::{
    Appended, Bounds, Erased, Filter, Move, Store, Value, Which,
    filter::{BOUNDS, IN_CHAIN, TENANTS},
    number,
};
use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    error::Error,
    plan::{self, Batch, Columns, Head, Known, Row, Sealed},
    seal::{DataKey, Masters, WrappedKey},
};

/// The schema that this version writes.
const SCHEMA: i64 = 1;
/// Held while the tables are made, so that nodes that start together do not both; an arbitrary number.
const SCHEMA_LOCK: i64 = 0x5b1e_d6e2;
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of a scan; the record that goes beyond is the last.
const SCAN_BYTES: i64 = 8 << 20;

const COLUMNS: &str = "r.sequence, r.id, r.kind, r.conversation, r.turn, r.subject, r.refers_to, r.ledger_time, \
                       r.content, r.hash, s.key, s.bytes, k.id IS NOT NULL AS lives";
const JOINS: &str = "LEFT JOIN ledger_sealed s ON s.tenant = r.tenant AND s.sequence = r.sequence \
                     LEFT JOIN ledger_keys k ON k.tenant = s.tenant AND k.id = s.key";
const KEY: &str = "SELECT tenant, subject, id, master, wrapped FROM ledger_keys";

/// The database.
pub(crate) struct Postgres {
    pool: PgPool,
    masters: Masters,
}

impl Postgres {
    /// Connects, and makes the tables where they are missing.
    ///
    /// # Errors
    /// `Key` for a URL that is none, `Away` when the server cannot be reached, `Newer`.
    pub(crate) async fn open(url: &str, connections: u32, masters: Masters) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url).map_err(|_| Error::Key {
            key: "ledger.postgres".into(),
            allowed: "a URL such as postgres://user:password@host:5432/ledger?sslmode=verify-full".into(),
        })?;
        // An answer means durable, whatever the server's default is; nothing waits for ever.
        let options = options.application_name("switchboard-ledger").options([
            ("synchronous_commit", "on"),
            ("lock_timeout", "10s"),
            ("statement_timeout", "60s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT)
            .connect_with(options)
            .await
            .map_err(|error| Error::postgres(&error))?;
        let store = Self { pool, masters };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), Error> {
        let work = async {
            let mut change = self.pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK).execute(&mut *change).await?;
            sqlx::raw_sql(include_str!("schema.postgres.sql")).execute(&mut *change).await?;
            let found: Option<i64> =
                sqlx::query_scalar("SELECT MAX(version) FROM ledger_schema").fetch_one(&mut *change).await?;
            if found.is_none() {
                sqlx::query("INSERT INTO ledger_schema (version) VALUES ($1)")
                    .bind(SCHEMA)
                    .execute(&mut *change)
                    .await?;
            }
            change.commit().await?;
            Ok(found)
        };
        match work.await.map_err(|error: sqlx::Error| Error::postgres(&error))? {
            Some(found) if found > SCHEMA => Err(Error::Newer { found, known: SCHEMA }),
            _ => Ok(()),
        }
    }

    /// Writes the batches of one tenant inside a transaction; the head where it went on.
    async fn append_tenant(
        &self,
        change: &mut Transaction<'static, Engine>,
        tenant: &Tenant,
        batches: &[&Batch],
        now: i64,
    ) -> Result<plan::Plan, Failure> {
        let head = lock_head(change, tenant).await?;
        let ids: Vec<Vec<u8>> = batches
            .iter()
            .flat_map(|batch| &batch.drafts)
            .map(|draft| draft.id.as_bytes().to_vec())
            .collect();
        let sql =
            format!("SELECT {COLUMNS} FROM ledger_records r {JOINS} WHERE r.tenant = $1 AND r.id = ANY($2)");
        let found =
            sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(ids).fetch_all(&mut **change).await?;
        let mut records = HashMap::new();
        for row in &found {
            let row = row_of(row)?;
            records.insert(Uuid::from_slice(&row.columns.id).unwrap_or_default(), Arc::new(row));
        }
        let subjects: Vec<String> = batches
            .iter()
            .flat_map(|batch| &batch.drafts)
            .filter(|draft| !draft.sealed.is_empty())
            .map(|draft| draft.subject.clone())
            .collect();
        let mut keys: HashMap<String, DataKey> = HashMap::new();
        if !subjects.is_empty() {
            let sql = format!("{KEY} WHERE tenant = $1 AND subject = ANY($2)");
            let found = sqlx::query(AssertSqlSafe(sql))
                .bind(tenant.as_str())
                .bind(subjects)
                .fetch_all(&mut **change)
                .await?;
            for row in &found {
                let kept = wrapped_key(row)?;
                keys.insert(kept.subject.clone(), self.masters.unwrap(&kept)?);
            }
        }
        let known = Known { head, records, keys, masters: &self.masters, now };
        let plan = plan::plan(batches, known)?;
        for key in &plan.keys {
            sqlx::query(
                "INSERT INTO ledger_keys (tenant, subject, id, master, wrapped) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&key.tenant)
            .bind(&key.subject)
            .bind(key.id.as_bytes().to_vec())
            .bind(&key.master)
            .bind(&key.wrapped)
            .execute(&mut **change)
            .await?;
        }
        if !plan.rows.is_empty() {
            insert(change, tenant, &plan.rows).await?;
            sqlx::query("UPDATE ledger_heads SET sequence = $2, hash = $3, frontier = $4 WHERE tenant = $1")
                .bind(tenant.as_str())
                .bind(number(plan.head.sequence))
                .bind(plan.head.hash.to_vec())
                .bind(plan.head.tree.to_bytes())
                .execute(&mut **change)
                .await?;
        }
        Ok(plan)
    }

    async fn try_append(&self, batches: &[Batch], now: i64) -> Result<Appended, Failure> {
        // In order of name: two nodes that each lock several heads never wait for each other.
        let mut tenants: BTreeMap<&Tenant, Vec<usize>> = BTreeMap::new();
        for (at, batch) in batches.iter().enumerate() {
            tenants.entry(&batch.tenant).or_default().push(at);
        }
        let mut outcomes: Vec<Option<_>> = batches.iter().map(|_| None).collect();
        // An error ends a whole transaction: where it is one tenant's, the others begin another one.
        'again: loop {
            let mut change = self.pool.begin().await?;
            let mut moves = Vec::new();
            for (tenant, own) in &tenants {
                let of_tenant: Vec<&Batch> = own.iter().map(|at| &batches[*at]).collect();
                let plan = match self.append_tenant(&mut change, tenant, &of_tenant, now).await {
                    Ok(plan) => plan,
                    Err(failure) => {
                        let error = Error::from(failure);
                        if !error.of_one_tenant() {
                            return Err(error.into());
                        }
                        change.rollback().await?;
                        for at in own {
                            outcomes[*at] = Some(Err(error.clone()));
                        }
                        let damaged = *tenant;
                        tenants.remove(damaged);
                        continue 'again;
                    }
                };
                if plan.outcomes.iter().any(Result::is_ok) {
                    moves.push(Move { tenant: (*tenant).clone(), before: plan.before, head: plan.head });
                }
                for (at, outcome) in own.iter().zip(plan.outcomes) {
                    outcomes[*at] = Some(outcome);
                }
            }
            change.commit().await?;
            let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Lost))).collect();
            return Ok(Appended { outcomes, moves });
        }
    }

    async fn try_erase(&self, batch: &Batch, subject: &str, now: i64) -> Result<Erased, Failure> {
        let tenant = &batch.tenant;
        let mut change = self.pool.begin().await?;
        let mut plan = self.append_tenant(&mut change, tenant, &[batch], now).await?;
        let receipts = plan.outcomes.pop().unwrap_or(Err(Error::Lost))?;
        let receipt = receipts.into_iter().next().ok_or(Error::Lost)?;
        let mut records = 0;
        if !receipt.repeated {
            let sql = "SELECT COUNT(*) FROM ledger_sealed s JOIN ledger_keys k ON k.tenant = s.tenant AND k.id = s.key \
                       WHERE k.tenant = $1 AND k.subject = $2";
            let count: i64 =
                sqlx::query_scalar(sql).bind(tenant.as_str()).bind(subject).fetch_one(&mut *change).await?;
            records = u64::try_from(count).unwrap_or(0);
            sqlx::query("DELETE FROM ledger_keys WHERE tenant = $1 AND subject = $2")
                .bind(tenant.as_str())
                .bind(subject)
                .execute(&mut *change)
                .await?;
        }
        change.commit().await?;
        let moved = Move { tenant: tenant.clone(), before: plan.before, head: plan.head };
        Ok(Erased { receipt, records, moved })
    }

    async fn checkpoints(
        &self,
        sql: &'static str,
        tenant: &Tenant,
        bound: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(number(bound)).bind(limit_of(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        let read = |row: &PgRow| -> Result<Checkpoint, Failure> {
            let (sequence, line): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            Ok(super::checkpoint(tenant, u64::try_from(sequence).unwrap_or(0), line.as_bytes())?)
        };
        rows.iter().map(|row| read(row).map_err(Error::from)).collect()
    }
}

/// What stops a piece of work: PostgreSQL, or what was found.
enum Failure {
    Engine(sqlx::Error),
    Found(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Found(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Engine(error) => Self::postgres(&error),
            Failure::Found(error) => error,
        }
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Takes a tenant's head for this transaction; another node that wants it waits.
async fn lock_head(change: &mut PgConnection, tenant: &Tenant) -> Result<Head, Failure> {
    let select = "SELECT sequence, hash, frontier FROM ledger_heads WHERE tenant = $1 FOR UPDATE";
    let mut found = sqlx::query(select).bind(tenant.as_str()).fetch_optional(&mut *change).await?;
    if found.is_none() {
        let empty = Head::of(tenant.as_str());
        sqlx::query(
            "INSERT INTO ledger_heads (tenant, sequence, hash, frontier) VALUES ($1, 0, $2, $3) \
             ON CONFLICT (tenant) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(empty.hash.to_vec())
        .bind(empty.tree.to_bytes())
        .execute(&mut *change)
        .await?;
        found = sqlx::query(select).bind(tenant.as_str()).fetch_optional(&mut *change).await?;
    }
    let row = found.ok_or(Error::DamagedHead)?;
    head_of(&row)
}

fn head_of(row: &PgRow) -> Result<Head, Failure> {
    let (sequence, hash, frontier): (i64, Vec<u8>, Vec<u8>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Head::from_parts(sequence, &hash, &frontier).ok_or(Failure::Found(Error::DamagedHead))
}

/// Writes all rows with two statements.
async fn insert(change: &mut PgConnection, tenant: &Tenant, rows: &[Arc<Row>]) -> Result<(), Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    sqlx::query(
        "INSERT INTO ledger_records (tenant, sequence, id, kind, conversation, turn, subject, refers_to, ledger_time, \
         content, hash) SELECT $1, * FROM UNNEST($2::BIGINT[], $3::BYTEA[], $4::BIGINT[], $5::TEXT[], $6::TEXT[], \
         $7::TEXT[], $8::BYTEA[], $9::BIGINT[], $10::BYTEA[], $11::BYTEA[])",
    )
    .bind(tenant.as_str())
    .bind(rows.iter().map(|row| number(row.sequence)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.columns.id.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.columns.kind).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| text(&row.columns.conversation)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| text(&row.columns.turn)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| text(&row.columns.subject)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.columns.refers_to.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.columns.ledger_time).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.content.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.hash.clone()).collect::<Vec<_>>())
    .execute(&mut *change)
    .await?;
    let sealed: Vec<_> = rows.iter().filter_map(|row| Some((row.sequence, row.sealed.as_ref()?))).collect();
    if !sealed.is_empty() {
        sqlx::query(
            "INSERT INTO ledger_sealed (tenant, sequence, key, bytes) \
             SELECT $1, * FROM UNNEST($2::BIGINT[], $3::BYTEA[], $4::BYTEA[])",
        )
        .bind(tenant.as_str())
        .bind(sealed.iter().map(|(sequence, _)| number(*sequence)).collect::<Vec<_>>())
        .bind(sealed.iter().map(|(_, sealed)| sealed.key.clone()).collect::<Vec<_>>())
        .bind(sealed.iter().map(|(_, sealed)| sealed.bytes.clone()).collect::<Vec<_>>())
        .execute(&mut *change)
        .await?;
    }
    Ok(())
}

fn row_of(row: &PgRow) -> Result<Row, Failure> {
    let text = |at: usize| -> Result<Vec<u8>, sqlx::Error> { Ok(row.try_get::<String, _>(at)?.into_bytes()) };
    let sealed = match row.try_get::<Option<Vec<u8>>, _>(10)? {
        None => None,
        Some(key) => Some(Sealed {
            key,
            bytes: row.try_get::<Option<Vec<u8>>, _>(11)?.unwrap_or_default(),
            key_lives: row.try_get(12)?,
        }),
    };
    Ok(Row {
        sequence: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0),
        columns: Columns {
            id: row.try_get(1)?,
            kind: row.try_get(2)?,
            conversation: text(3)?,
            turn: text(4)?,
            subject: text(5)?,
            refers_to: row.try_get(6)?,
            ledger_time: row.try_get(7)?,
        },
        content: row.try_get(8)?,
        hash: row.try_get(9)?,
        sealed,
    })
}

fn wrapped_key(row: &PgRow) -> Result<WrappedKey, Failure> {
    let id: Vec<u8> = row.try_get(2)?;
    Ok(WrappedKey {
        tenant: row.try_get(0)?,
        subject: row.try_get(1)?,
        // A key whose id is not one opens nothing, which is told where it is used.
        id: Uuid::from_slice(&id).unwrap_or_default(),
        master: row.try_get(3)?,
        wrapped: row.try_get(4)?,
    })
}

#[tonic::async_trait]
impl Store for Postgres {
    fn shared(&self) -> bool {
        true
    }

    async fn append(&self, batches: Vec<Batch>, now: i64) -> Result<Appended, Error> {
        Ok(self.try_append(&batches, now).await?)
    }

    async fn erase(&self, batch: Batch, subject: String, now: i64) -> Result<Erased, Error> {
        let erased = self.try_erase(&batch, &subject, now).await?;
        if let Err(error) = sqlx::query("VACUUM ledger_keys").execute(&self.pool).await {
            let error = Error::postgres(&error);
            tracing::warn!(%error, "the table of keys could not be vacuumed after an erasure");
        }
        Ok(erased)
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, Error> {
        let sql = "SELECT sequence, hash, frontier FROM ledger_heads WHERE tenant = $1";
        let found = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(&self.pool).await;
        match found.map_err(|error| Error::postgres(&error))? {
            None => Ok(Head::of(tenant.as_str())),
            Some(row) => Ok(head_of(&row)?),
        }
    }

    async fn bounds(&self, tenant: &Tenant) -> Result<Bounds, Error> {
        let found = sqlx::query(BOUNDS).bind(tenant.as_str()).fetch_one(&self.pool).await;
        let row = found.map_err(|error| Error::postgres(&error))?;
        let number = |at: usize| -> Result<Option<i64>, Failure> { Ok(row.try_get(at)?) };
        Ok(Bounds { first: number(0)?, last: number(1)?, head: number(2)?.unwrap_or(0) })
    }

    async fn scan(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Row>, Error> {
        // What the rows before take is summed up by the server, which need not read the bytes for it.
        let sql = format!(
            "SELECT {COLUMNS} FROM ( \
               SELECT r.*, SUM(OCTET_LENGTH(r.content) + COALESCE(OCTET_LENGTH(s.bytes), 0)) OVER ( \
                 ORDER BY r.sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
               FROM (SELECT * FROM ledger_records WHERE tenant = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3) r \
               LEFT JOIN ledger_sealed s ON s.tenant = r.tenant AND s.sequence = r.sequence) r \
             {JOINS} WHERE COALESCE(r.before, 0) < $4 ORDER BY r.sequence"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(number(from))
            .bind(limit_of(limit))
            .bind(SCAN_BYTES);
        let rows = query.fetch_all(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        rows.iter().map(|row| row_of(row).map_err(Error::from)).collect()
    }

    async fn find(&self, tenant: &Tenant, which: Which) -> Result<Option<Row>, Error> {
        let clause = match which {
            Which::Id(_) => "r.id = $2",
            Which::Sequence(_) => "r.sequence = $2",
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM ledger_records r {JOINS} WHERE r.tenant = $1 AND {IN_CHAIN} AND {clause}"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
        let query = match which {
            Which::Id(id) => query.bind(id.as_bytes().to_vec()),
            Which::Sequence(sequence) => query.bind(number(sequence)),
        };
        let found = query.fetch_optional(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        Ok(found.as_ref().map(row_of).transpose()?)
    }

    async fn query(&self, tenant: &Tenant, filter: Filter, limit: usize) -> Result<Vec<Row>, Error> {
        let (clauses, values) = filter.clauses(tenant.as_str(), limit);
        // Sealed bytes are not listed.
        let columns = COLUMNS.replace("s.bytes", "NULL::BYTEA");
        let mut query = sqlx::query(AssertSqlSafe(format!(
            "SELECT {columns} FROM ledger_records r {JOINS} WHERE {clauses}"
        )));
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Number(number) => query.bind(number),
            };
        }
        let rows = query.fetch_all(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        rows.iter().map(|row| row_of(row).map_err(Error::from)).collect()
    }

    async fn hashes(&self, tenant: &Tenant, from: u64, limit: usize) -> Result<Vec<Hash>, Error> {
        let sql = "SELECT sequence, hash FROM ledger_records WHERE tenant = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(number(from)).bind(limit_of(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        let mut hashes = Vec::with_capacity(rows.len());
        for (row, expected) in rows.iter().zip(from..) {
            let read = || -> Result<(i64, Vec<u8>), Failure> { Ok((row.try_get(0)?, row.try_get(1)?)) };
            let (sequence, hash) = read()?;
            let damaged = |detail: &str| Error::Damaged { sequence: expected, detail: detail.into() };
            if sequence != number(expected) {
                return Err(damaged("it is not there"));
            }
            hashes.push(hash.try_into().map_err(|_| damaged("its hash has not 32 bytes"))?);
        }
        Ok(hashes)
    }

    async fn key(&self, tenant: &Tenant, id: Uuid) -> Result<Option<WrappedKey>, Error> {
        let sql = format!("{KEY} WHERE tenant = $1 AND id = $2");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id.as_bytes().to_vec());
        let found = query.fetch_optional(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        Ok(found.as_ref().map(wrapped_key).transpose()?)
    }

    async fn wrapped_by_others(&self, master: &str, limit: usize) -> Result<Vec<WrappedKey>, Error> {
        let sql = format!("{KEY} WHERE master <> $1 LIMIT $2");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(master).bind(limit_of(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(|error| Error::postgres(&error))?;
        rows.iter().map(|row| wrapped_key(row).map_err(Error::from)).collect()
    }

    async fn rewrap(&self, keys: Vec<WrappedKey>) -> Result<(), Error> {
        let work = async {
            let mut change = self.pool.begin().await?;
            for key in &keys {
                sqlx::query(
                    "UPDATE ledger_keys SET master = $4, wrapped = $5 WHERE tenant = $1 AND subject = $2 AND id = $3",
                )
                .bind(&key.tenant)
                .bind(&key.subject)
                .bind(key.id.as_bytes().to_vec())
                .bind(&key.master)
                .bind(&key.wrapped)
                .execute(&mut *change)
                .await?;
            }
            change.commit().await
        };
        work.await.map_err(|error| Error::postgres(&error))
    }

    async fn add_checkpoints(&self, checkpoints: Vec<Checkpoint>) -> Result<(), Error> {
        let tenants: Vec<String> = checkpoints.iter().map(|checkpoint| checkpoint.tenant.clone()).collect();
        let sequences: Vec<i64> = checkpoints.iter().map(|checkpoint| number(checkpoint.sequence)).collect();
        let lines: Vec<String> = checkpoints.iter().map(Checkpoint::to_line).collect();
        let query = sqlx::query(
            "INSERT INTO ledger_checkpoints (tenant, sequence, line) \
             SELECT * FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::TEXT[]) ON CONFLICT DO NOTHING",
        );
        let written = query.bind(tenants).bind(sequences).bind(lines).execute(&self.pool).await;
        written.map(|_| ()).map_err(|error| Error::postgres(&error))
    }

    async fn checkpoints_below(
        &self,
        tenant: &Tenant,
        below: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        let sql = "SELECT sequence, line FROM ledger_checkpoints WHERE tenant = $1 AND sequence < $2 \
                   ORDER BY sequence DESC LIMIT $3";
        self.checkpoints(sql, tenant, below, limit).await
    }

    async fn checkpoints_from(
        &self,
        tenant: &Tenant,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, Error> {
        let sql = "SELECT sequence, line FROM ledger_checkpoints WHERE tenant = $1 AND sequence >= $2 \
                   ORDER BY sequence LIMIT $3";
        self.checkpoints(sql, tenant, from, limit).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        let names: Vec<String> = sqlx::query_scalar(TENANTS)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| Error::postgres(&error))?;
        Ok(names.iter().filter_map(|name| Tenant::try_new(name).ok()).collect())
    }
}
