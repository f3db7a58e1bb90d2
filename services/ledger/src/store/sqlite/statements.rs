//! Every statement that the ledger sends to SQLite.

use mesh::Tenant;
use rusqlite::{
    Connection, OptionalExtension as _, Row as SqlRow, params, params_from_iter, types::ValueRef,
};
use switchboard_mesh as mesh;
use uuid::Uuid;

use super::{
    super::{
        Bounds, Filter, Value, Which,
        filter::{BOUNDS, IN_CHAIN, TENANTS},
        number,
    },
    Failure,
};
use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    error::Error,
    plan::{Columns, Head, Row, Sealed},
    seal::WrappedKey,
};

/// The most bytes of a scan; the record that goes beyond is the last.
const SCAN_BYTES: usize = 8 << 20;

const COLUMNS: &str = "r.sequence, r.id, r.kind, r.conversation, r.turn, r.subject, r.refers_to, r.ledger_time, \
                       r.content, r.hash, s.key, s.bytes, k.id IS NOT NULL";
const FROM: &str = "ledger_records r \
                    LEFT JOIN ledger_sealed s ON s.tenant = r.tenant AND s.sequence = r.sequence \
                    LEFT JOIN ledger_keys k ON k.tenant = s.tenant AND k.id = s.key";

/// Bytes of a value, whatever its type; a record that was tampered with may have any.
fn bytes(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => vec![],
    }
}

/// A number, or one that no record has.
fn integer(value: ValueRef<'_>) -> i64 {
    value.as_i64().unwrap_or(i64::MIN)
}

fn row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let refers_to = row.get_ref(6)?;
    let key = row.get_ref(10)?;
    Ok(Row {
        sequence: u64::try_from(integer(row.get_ref(0)?)).unwrap_or(0),
        columns: Columns {
            id: bytes(row.get_ref(1)?),
            kind: integer(row.get_ref(2)?),
            conversation: bytes(row.get_ref(3)?),
            turn: bytes(row.get_ref(4)?),
            subject: bytes(row.get_ref(5)?),
            refers_to: (refers_to != ValueRef::Null).then(|| bytes(refers_to)),
            ledger_time: integer(row.get_ref(7)?),
        },
        content: bytes(row.get_ref(8)?),
        hash: bytes(row.get_ref(9)?),
        sealed: match key {
            ValueRef::Null => None,
            key => Some(Sealed {
                key: bytes(key),
                bytes: bytes(row.get_ref(11)?),
                key_lives: integer(row.get_ref(12)?) == 1,
            }),
        },
    })
}

pub(super) fn head(connection: &Connection, tenant: &Tenant) -> Result<Head, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT sequence, hash, frontier FROM ledger_heads WHERE tenant = ?1")?;
    let found = statement
        .query_row([tenant.as_str()], |row| {
            Ok((integer(row.get_ref(0)?), bytes(row.get_ref(1)?), bytes(row.get_ref(2)?)))
        })
        .optional()?;
    match found {
        None => Ok(Head::of(tenant.as_str())),
        Some((sequence, hash, frontier)) => {
            Head::from_parts(sequence, &hash, &frontier).ok_or(Failure::Found(Error::DamagedHead))
        }
    }
}

pub(super) fn set_head(connection: &Connection, tenant: &Tenant, head: &Head) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO ledger_heads (tenant, sequence, hash, frontier) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (tenant) DO UPDATE SET sequence = ?2, hash = ?3, frontier = ?4",
    )?;
    statement.execute(params![tenant.as_str(), number(head.sequence), head.hash, head.tree.to_bytes()])?;
    Ok(())
}

pub(super) fn insert(connection: &Connection, tenant: &Tenant, row: &Row) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO ledger_records (tenant, sequence, id, kind, conversation, turn, subject, refers_to, \
         ledger_time, content, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    statement.execute(params![
        tenant.as_str(),
        number(row.sequence),
        row.columns.id,
        row.columns.kind,
        text(&row.columns.conversation),
        text(&row.columns.turn),
        text(&row.columns.subject),
        row.columns.refers_to,
        row.columns.ledger_time,
        row.content,
        row.hash,
    ])?;
    if let Some(sealed) = &row.sealed {
        let mut statement = connection.prepare_cached(
            "INSERT INTO ledger_sealed (tenant, sequence, key, bytes) VALUES (?1, ?2, ?3, ?4)",
        )?;
        statement.execute(params![tenant.as_str(), number(row.sequence), sealed.key, sealed.bytes])?;
    }
    Ok(())
}

pub(super) fn find(connection: &Connection, tenant: &Tenant, which: Which) -> rusqlite::Result<Option<Row>> {
    let by = |clause: &str| {
        connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE r.tenant = $1 AND {IN_CHAIN} AND {clause}"
        ))
    };
    match which {
        Which::Id(id) => by("r.id = $2")?.query_row(params![tenant.as_str(), id.as_bytes()], row).optional(),
        Which::Sequence(sequence) => {
            by("r.sequence = $2")?.query_row(params![tenant.as_str(), number(sequence)], row).optional()
        }
    }
}

/// The row with an id, in the chain or not: no other row can have it.
pub(super) fn find_any(connection: &Connection, tenant: &Tenant, id: Uuid) -> rusqlite::Result<Option<Row>> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE r.tenant = ?1 AND r.id = ?2"))?;
    statement.query_row(params![tenant.as_str(), id.as_bytes()], row).optional()
}

pub(super) fn bounds(connection: &Connection, tenant: &Tenant) -> rusqlite::Result<Bounds> {
    let number = |value: ValueRef<'_>| (value != ValueRef::Null).then(|| integer(value));
    connection.prepare_cached(BOUNDS)?.query_row([tenant.as_str()], |row| {
        Ok(Bounds {
            first: number(row.get_ref(0)?),
            last: number(row.get_ref(1)?),
            head: number(row.get_ref(2)?).unwrap_or(0),
        })
    })
}

/// Runs a statement that has neither values nor rows.
pub(super) fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}

pub(super) fn scan(
    connection: &Connection,
    tenant: &Tenant,
    from: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE r.tenant = ?1 AND r.sequence >= ?2 ORDER BY r.sequence LIMIT ?3"
    ))?;
    let mut found = statement.query(params![tenant.as_str(), number(from), number(limit as u64)])?;
    let (mut rows, mut size) = (Vec::new(), 0);
    while size < SCAN_BYTES
        && let Some(next) = found.next()?
    {
        let next = row(next)?;
        size += next.content.len() + next.sealed.as_ref().map_or(0, |sealed| sealed.bytes.len());
        rows.push(next);
    }
    Ok(rows)
}

/// The statement that lists what `filter` asks for, and its values.
fn listing(tenant: &Tenant, filter: &Filter, limit: usize) -> (String, Vec<Value>) {
    let (clauses, values) = filter.clauses(tenant.as_str(), limit);
    // Sealed bytes are not listed; a megabyte of them a page would be read for nothing.
    let columns = COLUMNS.replace("s.bytes", "NULL");
    // The planner, which knows nothing of how many records a tenant has, would read all of them in order: so
    // the index is named.
    let from = filter.index().map_or_else(
        || FROM.to_owned(),
        |index| FROM.replacen("ledger_records r", &format!("ledger_records r INDEXED BY {index}"), 1),
    );
    (format!("SELECT {columns} FROM {from} WHERE {clauses}"), values)
}

pub(super) fn query(
    connection: &Connection,
    tenant: &Tenant,
    filter: &Filter,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let (listing, values) = listing(tenant, filter, limit);
    let mut statement = connection.prepare_cached(&listing)?;
    let values = values.into_iter().map(|value| match value {
        Value::Text(text) => rusqlite::types::Value::Text(text),
        Value::Bytes(bytes) => rusqlite::types::Value::Blob(bytes),
        Value::Number(number) => rusqlite::types::Value::Integer(number),
    });
    statement.query_map(params_from_iter(values), row)?.collect()
}

pub(super) fn hashes(
    connection: &Connection,
    tenant: &Tenant,
    from: u64,
    limit: usize,
) -> Result<Vec<Hash>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, hash FROM ledger_records WHERE tenant = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut found = statement.query(params![tenant.as_str(), number(from), number(limit as u64)])?;
    let mut hashes = Vec::new();
    let mut expected = from;
    while let Some(row) = found.next()? {
        let (sequence, hash) = (integer(row.get_ref(0)?), bytes(row.get_ref(1)?));
        let damaged = |detail: &str| Error::Damaged { sequence: expected, detail: detail.into() };
        if sequence != number(expected) {
            return Err(damaged("it is not there").into());
        }
        hashes.push(hash.try_into().map_err(|_| damaged("its hash has not 32 bytes"))?);
        expected += 1;
    }
    Ok(hashes)
}

const KEY: &str = "SELECT tenant, subject, id, master, wrapped FROM ledger_keys";

fn wrapped_key(row: &SqlRow<'_>) -> rusqlite::Result<WrappedKey> {
    let id: Vec<u8> = row.get(2)?;
    // A key whose id is not one opens nothing, which is told where it is used.
    let id = Uuid::from_slice(&id).unwrap_or_default();
    Ok(WrappedKey {
        tenant: row.get(0)?,
        subject: row.get(1)?,
        id,
        master: row.get(3)?,
        wrapped: row.get(4)?,
    })
}

pub(super) fn key(
    connection: &Connection,
    tenant: &Tenant,
    id: Uuid,
) -> rusqlite::Result<Option<WrappedKey>> {
    let mut statement = connection.prepare_cached(&format!("{KEY} WHERE tenant = ?1 AND id = ?2"))?;
    statement.query_row(params![tenant.as_str(), id.as_bytes()], wrapped_key).optional()
}

pub(super) fn key_of(
    connection: &Connection,
    tenant: &Tenant,
    subject: &str,
) -> rusqlite::Result<Option<WrappedKey>> {
    let mut statement = connection.prepare_cached(&format!("{KEY} WHERE tenant = ?1 AND subject = ?2"))?;
    statement.query_row(params![tenant.as_str(), subject], wrapped_key).optional()
}

pub(super) fn insert_key(connection: &Connection, key: &WrappedKey) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO ledger_keys (tenant, subject, id, master, wrapped) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    statement.execute(params![key.tenant, key.subject, key.id.as_bytes(), key.master, key.wrapped])?;
    Ok(())
}

pub(super) fn delete_key(connection: &Connection, tenant: &Tenant, subject: &str) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM ledger_keys WHERE tenant = ?1 AND subject = ?2", [tenant.as_str(), subject])?;
    Ok(())
}

pub(super) fn sealed_with(connection: &Connection, tenant: &Tenant, key: Uuid) -> rusqlite::Result<u64> {
    let sql = "SELECT COUNT(*) FROM ledger_sealed WHERE tenant = ?1 AND key = ?2";
    let count: i64 = connection.query_row(sql, params![tenant.as_str(), key.as_bytes()], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn wrapped_by_others(
    connection: &Connection,
    master: &str,
    limit: usize,
) -> rusqlite::Result<Vec<WrappedKey>> {
    let mut statement = connection.prepare(&format!("{KEY} WHERE master <> ?1 LIMIT ?2"))?;
    statement.query_map(params![master, number(limit as u64)], wrapped_key)?.collect()
}

pub(super) fn rewrap(connection: &Connection, key: &WrappedKey) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE ledger_keys SET master = ?4, wrapped = ?5 WHERE tenant = ?1 AND subject = ?2 AND id = ?3",
    )?;
    statement.execute(params![key.tenant, key.subject, key.id.as_bytes(), key.master, key.wrapped])?;
    Ok(())
}

pub(super) fn insert_checkpoint(connection: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO ledger_checkpoints (tenant, sequence, line) VALUES (?1, ?2, ?3)",
    )?;
    statement.execute(params![checkpoint.tenant, number(checkpoint.sequence), checkpoint.to_line()])?;
    Ok(())
}

pub(super) fn checkpoints(
    connection: &Connection,
    tenant: &Tenant,
    bound: u64,
    limit: usize,
    newest_first: bool,
) -> Result<Vec<Checkpoint>, Failure> {
    let clause = if newest_first {
        "sequence < ?2 ORDER BY sequence DESC"
    } else {
        "sequence >= ?2 ORDER BY sequence"
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT sequence, line FROM ledger_checkpoints WHERE tenant = ?1 AND {clause} LIMIT ?3"
    ))?;
    let mut found = statement.query(params![tenant.as_str(), number(bound), number(limit as u64)])?;
    let mut checkpoints = Vec::new();
    while let Some(row) = found.next()? {
        let sequence = u64::try_from(integer(row.get_ref(0)?)).unwrap_or(0);
        let line = bytes(row.get_ref(1)?);
        checkpoints.push(super::super::checkpoint(tenant, sequence, &line)?);
    }
    Ok(checkpoints)
}

pub(super) fn tenants(connection: &Connection) -> rusqlite::Result<Vec<Tenant>> {
    let mut statement = connection.prepare(TENANTS)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    Ok(names.iter().filter_map(|name| Tenant::try_new(name).ok()).collect())
}

#[cfg(test)]
mod tests {
    use switchboard_proto::ledger::v1::RecordKind;

    use super::*;

    /// How SQLite reads records for `filter`, and whether it sorts them.
    fn plan(connection: &Connection, filter: &Filter) -> (String, bool) {
        let (sql, values) = listing(&Tenant::try_new("acme").unwrap(), filter, 50);
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        assert_eq!(statement.parameter_count(), values.len());
        let steps = statement.query_map(params_from_iter(values.iter().map(|_| 1)), |row| row.get(3));
        let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
        let reads: Vec<_> = steps.iter().filter(|step| step.split(' ').nth(1) == Some("r")).collect();
        assert_eq!(reads.len(), 1, "{steps:?}");
        (reads[0].clone(), steps.iter().any(|step| step.contains("TEMP B-TREE")))
    }

    #[test]
    fn a_listing_reads_what_it_asks_for_in_order_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../schema.sqlite.sql")).unwrap();
        let all = Filter::default();
        let of = |conversation: &str| Filter { conversation: conversation.into(), ..Filter::default() };
        let kinds = |kinds: &[RecordKind]| Filter { kinds: kinds.to_vec(), ..Filter::default() };
        let one = [RecordKind::Outcome];
        let (kind, conversation) = ("INDEX ledger_records_kind (tenant=? AND kind=?", "conversation=?");
        let cases = [
            (of("c"), conversation),
            (Filter { after: Some(9), ..of("c") }, "conversation=? AND sequence<?)"),
            (Filter { turn: "1".into(), kinds: one.to_vec(), since: Some(1), ..of("c") }, conversation),
            (Filter { turn: "1".into(), ..all.clone() }, "turn=?"),
            (Filter { subject: "s".into(), kinds: one.to_vec(), ..all.clone() }, "subject=?"),
            (Filter { refers_to: Some(Uuid::nil()), ..of("c") }, "refers_to=?"),
            (kinds(&one), kind),
            (Filter { since: Some(1), after: Some(9), ..kinds(&one) }, kind),
            // The chain in its order.
            (kinds(&[RecordKind::Outcome, RecordKind::Feedback]), "PRIMARY KEY (tenant=?"),
            (Filter { since: Some(1), ..all.clone() }, "PRIMARY KEY (tenant=?"),
            (all.clone(), "PRIMARY KEY (tenant=?"),
            // A time that begins and ends is read by itself, and sorted: clocks are set, sequences are not.
            (
                Filter { since: Some(1), until: Some(2), ..all },
                "INDEX ledger_records_time (tenant=? AND ledger_time",
            ),
        ];
        for (filter, expected) in cases {
            for oldest_first in [false, true] {
                let filter = Filter { oldest_first, ..filter.clone() };
                let (read, sorts) = plan(&connection, &filter);
                let bound = if oldest_first { "sequence>?" } else { "sequence<?" };
                let expected = expected.replace("sequence<?", bound);
                assert!(read.starts_with("SEARCH r") && read.contains(&expected), "{filter:?}: {read}");
                assert_eq!(sorts, read.contains("ledger_time"), "{filter:?}");
            }
        }
    }
}
