//! The open part of records as Parquet files, for a data lake: in a folder or a bucket.
//!
//! `tenant=<tenant>/day=<day>/records-<first sequence>.parquet`, by day of the ledger's clock in UTC, and
//! never across [`BLOCK`] sequences, so that the same records go to the same files and a later export
//! replaces the last one of an earlier one by more. `tenant=<tenant>/manifest-<sequence>.json` names the
//! checkpoint that covers them, and of each file its records and SHA-256. Sealed bytes stay where they are.

mod place;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh::Tenant;
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use serde::Serialize;
use switchboard_mesh as mesh;
use switchboard_proto::ledger::v1::ExportSummary;

pub(crate) use self::place::Place;
use crate::{
    chain::{self, sha256},
    error::Error,
    hex,
    plan::Row,
    store::Store,
};

/// Sequences that a file does not go across.
const BLOCK: u64 = 50_000;
/// Records that are read at once.
const PAGE: usize = 2000;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// The columns, all of which are there in every record; what a record does not have is empty.
const SCHEMA: &str = "message record {
  required int64 sequence;
  required binary record_id (UTF8);
  required binary kind (UTF8);
  required binary conversation_id (UTF8);
  required binary turn_id (UTF8);
  required binary stage (UTF8);
  required int64 time (TIMESTAMP(MICROS,true));
  required int64 ledger_time (TIMESTAMP(MICROS,true));
  required binary subject (UTF8);
  required binary refers_to (UTF8);
  required binary model (UTF8);
  required binary policy (UTF8);
  required binary prompt (UTF8);
  required binary knowledge (UTF8);
  required binary attributes (JSON);
  required binary hash (UTF8);
}";

/// What was written.
#[derive(Serialize)]
struct Manifest<'a> {
    tenant: &'a str,
    first_sequence: u64,
    last_sequence: u64,
    checkpoint: serde_json::Value,
    files: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    path: String,
    records: usize,
    first_sequence: u64,
    last_sequence: u64,
    bytes: usize,
    sha256: String,
}

/// Exports a tenant's records from `from` on, as far as the latest checkpoint covers them. It begins at the
/// first sequence of the block of `from`. `progress` is told how many records of how many were written.
///
/// # Errors
/// `NotCovered` without a checkpoint, those of [`Place::put`], `Damaged` when a record cannot be read.
pub(crate) async fn export(
    store: &dyn Store,
    place: &Place,
    tenant: &Tenant,
    from: u64,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<ExportSummary, Error> {
    let checkpoint = store.checkpoints_below(tenant, u64::MAX, 1).await?.pop();
    let checkpoint = checkpoint
        .filter(|checkpoint| checkpoint.sequence >= from.max(1))
        .ok_or(Error::NotCovered { what: "the records" })?;
    let first = (from.max(1) - 1) / BLOCK * BLOCK + 1;
    let total = checkpoint.sequence + 1 - first;
    let mut files = Vec::new();
    let mut file: Vec<Row> = Vec::new();
    let (mut next, mut done) = (first, 0);
    while next <= checkpoint.sequence {
        let limit = usize::try_from(checkpoint.sequence - next + 1).unwrap_or(PAGE).min(PAGE);
        let rows = store.scan(tenant, next, limit).await?;
        if rows.is_empty() {
            return Err(Error::Damaged { sequence: next, detail: "it is not there".into() });
        }
        for mut row in rows {
            if row.sequence != next {
                return Err(Error::Damaged { sequence: next, detail: "it is not there".into() });
            }
            next += 1;
            // Sealed bytes are not exported; nor are they held until the file is written.
            row.sealed = None;
            let fits = file.last().is_none_or(|last| {
                (last.sequence - 1) / BLOCK == (row.sequence - 1) / BLOCK && day(last) == day(&row)
            });
            if !fits {
                done += file.len() as u64;
                files.push(write(place, tenant, std::mem::take(&mut file)).await?);
                progress(done, total);
            }
            file.push(row);
        }
    }
    if !file.is_empty() {
        done += file.len() as u64;
        files.push(write(place, tenant, file).await?);
        progress(done, total);
    }
    let names = files.iter().map(|file| file.path.clone()).collect();
    let manifest = Manifest {
        tenant: tenant.as_str(),
        first_sequence: first,
        last_sequence: checkpoint.sequence,
        checkpoint: serde_json::from_str(&checkpoint.to_line())
            .map_err(|error| Error::Export { detail: error.to_string() })?,
        files,
    };
    let path = format!("tenant={tenant}/manifest-{:020}.json", checkpoint.sequence);
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|error| Error::Export { detail: error.to_string() })?;
    place.put(&path, text).await?;
    Ok(ExportSummary {
        records: done,
        files: names,
        manifest: path,
        checkpoint_sequence: checkpoint.sequence,
    })
}

fn day(row: &Row) -> i64 {
    row.columns.ledger_time.div_euclid(DAY)
}

/// Writes one file; the rows are of one day.
async fn write(place: &Place, tenant: &Tenant, rows: Vec<Row>) -> Result<Written, Error> {
    let (first, last) = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => (first.sequence, last.sequence),
        _ => return Err(Error::Lost),
    };
    let path = format!("tenant={tenant}/day={}/records-{first:020}.parquet", date(day(&rows[0])));
    let records = rows.len();
    let made = tokio::task::spawn_blocking(move || parquet(&rows));
    let bytes = made.await.map_err(|_| Error::Lost)??;
    let (size, hash) = (bytes.len(), hex::encode(&sha256(&[&bytes])));
    place.put(&path, bytes).await?;
    Ok(Written { path, records, first_sequence: first, last_sequence: last, bytes: size, sha256: hash })
}

/// The date of a day since 1970, `2026-11-28`.
///
/// # Source
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A column of a file.
enum Column {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

/// The rows as one Parquet file.
fn parquet(rows: &[Row]) -> Result<Vec<u8>, Error> {
    let columns = columns(rows)?;
    let write = || -> Result<Vec<u8>, ParquetError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let mut file = SerializedFileWriter::new(Vec::new(), schema, properties)?;
        let mut group = file.next_row_group()?;
        for column in &columns {
            let mut writer = group
                .next_column()?
                .ok_or_else(|| ParquetError::General("the schema has fewer columns".into()))?;
            match column {
                Column::Numbers(values) => writer.typed::<Int64Type>().write_batch(values, None, None)?,
                Column::Texts(values) => writer.typed::<ByteArrayType>().write_batch(values, None, None)?,
            };
            writer.close()?;
        }
        group.close()?;
        file.into_inner()
    };
    write().map_err(|error| Error::Export { detail: error.to_string() })
}

/// The columns of [`SCHEMA`], in its order.
fn columns(rows: &[Row]) -> Result<Vec<Column>, Error> {
    let contents = rows.iter().map(Row::content).collect::<Result<Vec<_>, _>>()?;
    let texts = |text: &dyn Fn(&chain::Content<'_>) -> String| {
        Column::Texts(contents.iter().map(|content| ByteArray::from(text(content).into_bytes())).collect())
    };
    let numbers =
        |number: &dyn Fn(&chain::Content<'_>) -> i64| Column::Numbers(contents.iter().map(number).collect());
    let attributes = |content: &chain::Content<'_>| {
        let pairs = chain::attributes(content.attributes).filter_map(Result::ok);
        serde_json::Value::from_iter(pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))).to_string()
    };
    Ok(vec![
        numbers(&|content| i64::try_from(content.sequence).unwrap_or(i64::MAX)),
        texts(&|content| content.id.to_string()),
        texts(&|content| chain::name(content.kind).to_owned()),
        texts(&|content| content.conversation.to_owned()),
        texts(&|content| content.turn.to_owned()),
        texts(&|content| content.stage.to_owned()),
        numbers(&|content| content.time),
        numbers(&|content| content.ledger_time),
        texts(&|content| content.subject.to_owned()),
        texts(&|content| content.refers_to.map(|id| id.to_string()).unwrap_or_default()),
        texts(&|content| content.model.to_owned()),
        texts(&|content| content.policy.to_owned()),
        texts(&|content| content.prompt.to_owned()),
        texts(&|content| content.knowledge.to_owned()),
        texts(&attributes),
        Column::Texts(rows.iter().map(|row| ByteArray::from(hex::encode(&row.hash).into_bytes())).collect()),
    ])
}
