//! Every statement that the store sends to SQLite.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use mesh::Tenant;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use switchboard_mesh as mesh;

use super::{Model, Replaced, Space, Write};
use crate::{
    catalog::Catalog,
    document::{Document, NewPassage, NewSentence},
    error::Error,
    terms,
};

/// The schema that this version writes. Raise it with a step in [`migrate`].
const SCHEMA: i64 = 1;

/// Opens a database for writing, makes or migrates its tables, and checks that it is whole.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    let fail = |error| Error::sqlite(path, error);
    let connection = Connection::open(path).map_err(fail)?;
    configure(&connection).map_err(fail)?;
    // FULL: a commit is on the disk before it is acknowledged, through a loss of power too.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(fail)?;
    if !mode.eq_ignore_ascii_case("wal") {
        tracing::warn!(mode, "the file system has no shared memory; searches wait for writes");
    }
    let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if damage != "ok" {
        return Err(Error::Corrupt { path: path.to_owned(), detail: damage });
    }
    migrate(connection, path)
}

/// Opens a database for reading.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Brings the tables to [`SCHEMA`], a step at a time, in one transaction.
fn migrate(mut connection: Connection, path: &Path) -> Result<Connection, Error> {
    let fail = |error| Error::sqlite(path, error);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    if found > SCHEMA {
        return Err(Error::Newer { path: path.to_owned(), found, known: SCHEMA });
    }
    if found < SCHEMA {
        let steps = || {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if found < 1 {
                change.execute_batch(include_str!("schema.sql"))?;
            }
            change.pragma_update(None, "user_version", SCHEMA)?;
            change.commit()
        };
        let mut steps = steps;
        steps().map_err(fail)?;
    }
    Ok(connection)
}

/// What a database holds.
pub(super) struct Loaded {
    pub(super) model: Option<Model>,
    pub(super) spaces: HashMap<Tenant, Arc<Space>>,
}

/// Reads every document into memory.
pub(super) fn load(connection: &Connection, exact_limit: usize) -> rusqlite::Result<Loaded> {
    let model = model(connection)?;
    let dimension = model.as_ref().map_or(0, |model| model.dimension);
    let mut spaces = HashMap::new();
    let mut tenants = connection.prepare("SELECT id, name FROM tenants")?;
    let mut tenants = tenants.query([])?;
    while let Some(row) = tenants.next()? {
        let (number, name) = (row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
        let tenant = Tenant::try_new(&name).map_err(|allowed| unreadable(1, allowed))?;
        let mut catalog = Catalog::new(dimension, exact_limit);
        load_tenant(connection, number, dimension, &mut catalog)?;
        spaces.insert(tenant, Arc::new(Space { number, catalog: RwLock::new(catalog) }));
    }
    Ok(Loaded { model, spaces })
}

/// Reads one tenant's documents into memory, with its number; `None` for an unknown tenant.
pub(super) fn load_one(
    connection: &Connection,
    tenant: &Tenant,
    exact_limit: usize,
) -> rusqlite::Result<Option<(i64, Catalog)>> {
    let dimension = model(connection)?.map_or(0, |model| model.dimension);
    let number = connection
        .query_row("SELECT id FROM tenants WHERE name = ?1", [tenant.as_str()], |row| row.get(0))
        .optional()?;
    let Some(number) = number else { return Ok(None) };
    let mut catalog = Catalog::new(dimension, exact_limit);
    load_tenant(connection, number, dimension, &mut catalog)?;
    Ok(Some((number, catalog)))
}

fn load_tenant(
    connection: &Connection,
    tenant: i64,
    dimension: usize,
    catalog: &mut Catalog,
) -> rusqlite::Result<()> {
    let mut documents = connection.prepare_cached(
        "SELECT id, document_id, title, locale, audiences, uri, version, ingested_at, outdated FROM documents WHERE tenant = ?1",
    )?;
    let mut passages = connection.prepare_cached(
        "SELECT id, passage_id, fingerprint, headings, first, past, text, vector
         FROM passages WHERE document = ?1 ORDER BY ordinal",
    )?;
    let mut sentences = connection
        .prepare_cached("SELECT first, past, vector FROM sentences WHERE passage = ?1 ORDER BY ordinal")?;
    let mut documents = documents.query([tenant])?;
    while let Some(row) = documents.next()? {
        let number: i64 = row.get(0)?;
        let held = passages
            .query_map([number], |row| {
                let id: i64 = row.get(0)?;
                let sentences = sentences
                    .query_map([id], |row| {
                        Ok(NewSentence {
                            start: row.get(0)?,
                            end: row.get(1)?,
                            vector: vector(row, 2, dimension)?,
                        })
                    })?
                    .collect::<rusqlite::Result<_>>()?;
                let passage = NewPassage {
                    id: row.get(1)?,
                    fingerprint: row.get(2)?,
                    headings: list(row, 3)?,
                    start: row.get(4)?,
                    end: row.get(5)?,
                    text: row.get(6)?,
                    vector: vector(row, 7, dimension)?,
                    sentences,
                };
                Ok((id, passage))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let document = Document {
            id: row.get(1)?,
            title: row.get(2)?,
            locale: row.get(3)?,
            audiences: list(row, 4)?,
            uri: row.get(5)?,
            version: row.get(6)?,
            passages: held.len() as u32,
            ingested_at: row.get(7)?,
            outdated: row.get(8)?,
        };
        catalog.replace(document, held);
    }
    Ok(())
}

fn model(connection: &Connection) -> rusqlite::Result<Option<Model>> {
    let setting = |key: &str| {
        connection
            .query_row("SELECT value FROM settings WHERE key = ?1", [key], |row| row.get::<_, String>(0))
            .optional()
    };
    Ok(match (setting("model")?, setting("dimension")?) {
        (Some(name), Some(dimension)) => {
            let dimension = dimension.parse().map_err(|_| unreadable(0, "not a dimension"))?;
            Some(Model { name, dimension })
        }
        _ => None,
    })
}

/// What a write left in the database.
pub(super) struct Stored {
    pub(super) tenant: i64,
    /// The row of each passage, in order.
    pub(super) rows: Vec<i64>,
    pub(super) replaced: Replaced,
}

/// Puts a document in place of the one with its id; passages whose fingerprint is stored already
/// only move. The inner error is the name of another model whose vectors are stored.
pub(super) fn replace(
    connection: &mut Connection,
    write: &Write,
) -> rusqlite::Result<Result<Stored, String>> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Err(stored) = set_model(&change, &write.model)? {
        return Ok(Err(stored));
    }
    let tenant = tenant(&change, write.tenant.as_str())?;
    let (number, created) = put_document(&change, tenant, &write.document)?;
    let mut held: HashMap<(String, Vec<u8>), i64> = change
        .prepare_cached("SELECT passage_id, fingerprint, id FROM passages WHERE document = ?1")?
        .query_map([number], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let kept: Vec<Option<i64>> = write
        .passages
        .iter()
        .map(|passage| held.remove(&(passage.id.clone(), passage.fingerprint.clone())))
        .collect();
    // Before the new ones: a passage whose title changed has the id of the one it replaces.
    for row in held.into_values() {
        delete_passage(&change, tenant, row)?;
    }
    let mut rows = Vec::with_capacity(write.passages.len());
    let mut written = 0;
    for ((passage, kept), ordinal) in write.passages.iter().zip(kept).zip(0_i64..) {
        let row = match kept {
            Some(row) => {
                change
                    .prepare_cached(
                        "UPDATE passages SET ordinal = ?2, first = ?3, past = ?4
                         WHERE id = ?1 AND (ordinal, first, past) <> (?2, ?3, ?4)",
                    )?
                    .execute(params![row, ordinal, passage.start, passage.end])?;
                row
            }
            None => {
                written += 1;
                insert_passage(&change, tenant, number, ordinal, passage, &write.document.title)?
            }
        };
        rows.push(row);
    }
    change.commit()?;
    Ok(Ok(Stored { tenant, rows, replaced: Replaced { created, written } }))
}

/// Removes a document.
pub(super) fn delete(connection: &mut Connection, tenant: i64, document_id: &str) -> rusqlite::Result<()> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows: Vec<i64> = change
        .prepare_cached(
            "SELECT passages.id FROM passages JOIN documents ON documents.id = passages.document
             WHERE documents.tenant = ?1 AND documents.document_id = ?2",
        )?
        .query_map(params![tenant, document_id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for row in rows {
        delete_passage(&change, tenant, row)?;
    }
    change
        .prepare_cached("DELETE FROM documents WHERE tenant = ?1 AND document_id = ?2")?
        .execute(params![tenant, document_id])?;
    change.commit()
}

/// Hands over the row and the BM25 score (higher is better) of each of a tenant's passages that
/// match `expression`, in no order. A word counts alike in title, headings and text: no weighting of
/// columns gained anything when measured.
pub(super) fn words(
    connection: &Connection,
    tenant: i64,
    expression: &str,
    mut take: impl FnMut(i64, f32),
) -> rusqlite::Result<()> {
    // SQLite's score is the negated one, for sorting.
    let sql =
        format!("SELECT rowid, -bm25(words_{tenant}) FROM words_{tenant} WHERE words_{tenant} MATCH ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([expression])?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, row.get(1)?);
    }
    Ok(())
}

/// Records the model of the vectors; another one is taken only when no document is stored.
fn set_model(change: &Transaction<'_>, model: &Model) -> rusqlite::Result<Result<(), String>> {
    match self::model(change)? {
        Some(stored) if stored == *model => return Ok(Ok(())),
        Some(stored) => {
            let any: bool =
                change.query_row("SELECT EXISTS (SELECT 1 FROM documents)", [], |row| row.get(0))?;
            if any {
                return Ok(Err(stored.name));
            }
        }
        None => {}
    }
    let mut put = change.prepare_cached("INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)")?;
    put.execute(params!["model", model.name])?;
    put.execute(params!["dimension", model.dimension.to_string()])?;
    Ok(Ok(()))
}

/// A tenant's number; a new tenant gets one, and a full-text index.
fn tenant(change: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    let found = change
        .prepare_cached("SELECT id FROM tenants WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(number) = found {
        return Ok(number);
    }
    change.execute("INSERT INTO tenants (name) VALUES (?1)", [name])?;
    let number = change.last_insert_rowid();
    // Contentless: the words are in `passages` already.
    change.execute_batch(&format!(
        "CREATE VIRTUAL TABLE words_{number} USING fts5(title, headings, body, content = '', \
         contentless_delete = 1, tokenize = \"porter unicode61 remove_diacritics 2\")"
    ))?;
    Ok(number)
}

fn put_document(change: &Transaction<'_>, tenant: i64, document: &Document) -> rusqlite::Result<(i64, bool)> {
    let found: Option<i64> = change
        .prepare_cached("SELECT id FROM documents WHERE tenant = ?1 AND document_id = ?2")?
        .query_row(params![tenant, document.id], |row| row.get(0))
        .optional()?;
    let number = change
        .prepare_cached(
            "INSERT INTO documents (tenant, document_id, title, locale, audiences, uri, version, ingested_at, outdated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (tenant, document_id) DO UPDATE SET title = excluded.title, locale = excluded.locale,
             audiences = excluded.audiences, uri = excluded.uri, version = excluded.version,
             ingested_at = excluded.ingested_at, outdated = excluded.outdated
             RETURNING id",
        )?
        .query_row(
            params![
                tenant,
                document.id,
                document.title,
                document.locale,
                json(&document.audiences),
                document.uri,
                document.version,
                document.ingested_at,
                document.outdated
            ],
            |row| row.get(0),
        )?;
    Ok((number, found.is_none()))
}

fn insert_passage(
    change: &Transaction<'_>,
    tenant: i64,
    document: i64,
    ordinal: i64,
    passage: &NewPassage,
    title: &str,
) -> rusqlite::Result<i64> {
    change
        .prepare_cached(
            "INSERT INTO passages
             (tenant, document, passage_id, ordinal, fingerprint, headings, first, past, text, vector)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            tenant,
            document,
            passage.id,
            ordinal,
            passage.fingerprint,
            json(&passage.headings),
            passage.start,
            passage.end,
            passage.text,
            bytes(&passage.vector)
        ])?;
    let row = change.last_insert_rowid();
    change
        .prepare_cached(&format!(
            "INSERT INTO words_{tenant} (rowid, title, headings, body) VALUES (?1, ?2, ?3, ?4)"
        ))?
        .execute(params![
            row,
            searchable(title),
            searchable(&passage.headings.join("\n")),
            searchable(&passage.text)
        ])?;
    let mut insert = change.prepare_cached(
        "INSERT INTO sentences (passage, ordinal, first, past, vector) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (sentence, ordinal) in passage.sentences.iter().zip(0_i64..) {
        insert.execute(params![row, ordinal, sentence.start, sentence.end, bytes(&sentence.vector)])?;
    }
    Ok(row)
}

fn delete_passage(change: &Transaction<'_>, tenant: i64, row: i64) -> rusqlite::Result<()> {
    change.prepare_cached("DELETE FROM passages WHERE id = ?1")?.execute([row])?;
    change.prepare_cached(&format!("DELETE FROM words_{tenant} WHERE rowid = ?1"))?.execute([row])?;
    Ok(())
}

/// A text as the full-text index gets it: the same words that queries are made of.
fn searchable(text: &str) -> String {
    terms::words(text).collect::<Vec<_>>().join(" ")
}

fn json(list: &[String]) -> String {
    serde_json::to_string(list).expect("a list of strings is JSON")
}

fn list(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| unreadable(column, "not a list of strings"))
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

fn vector(row: &rusqlite::Row<'_>, column: usize, dimension: usize) -> rusqlite::Result<Vec<f32>> {
    let (components, rest) = row.get_ref(column)?.as_blob()?.as_chunks::<4>();
    if components.len() != dimension || !rest.is_empty() {
        return Err(unreadable(column, "a vector of another length"));
    }
    Ok(components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn unreadable(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, what.into())
}
