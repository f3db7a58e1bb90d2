//! Requests, checked: what a record, a filter and an id may be.

use mesh::Tenant;
use prost_types::Timestamp;
use switchboard_mesh as mesh;
use switchboard_proto::ledger::v1::{NewRecord, Order, QueryRequest, RecordKind, Versions};
use uuid::Uuid;

use crate::{
    error::Error,
    plan::{Batch, Draft},
    store::Filter,
};

/// The most records of a request.
pub(crate) const MAX_RECORDS: usize = 256;
/// The most bytes of a request.
pub(crate) const MAX_BYTES: usize = 2 << 20;
/// The most bytes of an id, a version or a subject.
const MAX_NAME: usize = 128;
/// The most bytes of a stage.
const MAX_STAGE: usize = 64;
/// The most attributes.
const MAX_ATTRIBUTES: usize = 64;
/// The most bytes of an attribute's key, of its value, and of all together.
const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 8192;
const MAX_OPEN: usize = 32_768;
/// The most bytes to seal.
const MAX_SEALED: usize = 65_536;
/// The most records of a page, and how many when none is said.
const MAX_PAGE: usize = 500;
const PAGE: usize = 50;

/// Checks the records of a request.
///
/// # Errors
/// `Field`, which names the field and what is allowed.
pub(crate) fn batch(tenant: &Tenant, records: Vec<NewRecord>) -> Result<Batch, Error> {
    if records.is_empty() || records.len() > MAX_RECORDS {
        return Err(Error::field("records", format!("1 to {MAX_RECORDS} records")));
    }
    let size: usize = records.iter().map(prost_len).sum();
    if size > MAX_BYTES {
        return Err(Error::field("records", "at most 2 MiB in all"));
    }
    let mut drafts: Vec<Draft> = Vec::with_capacity(records.len());
    let mut ids = std::collections::HashSet::new();
    for (at, record) in records.into_iter().enumerate() {
        let draft = draft(record).map_err(|error| match error {
            Error::Field { field, allowed } => {
                Error::Field { field: format!("records[{at}].{field}"), allowed }
            }
            other => other,
        })?;
        if !ids.insert(draft.id) {
            return Err(Error::field(format!("records[{at}].record_id"), "no id twice in a request"));
        }
        drafts.push(draft);
    }
    Ok(Batch { tenant: tenant.clone(), drafts })
}

/// About how many bytes a record has on the wire.
fn prost_len(record: &NewRecord) -> usize {
    let attributes: usize = record.attributes.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    record.sealed.len()
        + attributes
        + record.conversation_id.len()
        + record.turn_id.len()
        + record.subject.len()
        + 200
}

fn draft(record: NewRecord) -> Result<Draft, Error> {
    let kind = match RecordKind::try_from(record.kind) {
        Ok(RecordKind::Unspecified | RecordKind::Erasure) | Err(_) => {
            return Err(Error::field("kind", "a kind of record; EraseSubject alone appends erasures"));
        }
        Ok(kind) => kind,
    };
    let id = id_v7("record_id", &record.record_id)?;
    let refers_to = match record.refers_to.as_str() {
        "" => None,
        text => Some(id_of("refers_to", text)?),
    };
    text("conversation_id", &record.conversation_id, MAX_NAME)?;
    text("turn_id", &record.turn_id, MAX_NAME)?;
    text("stage", &record.stage, MAX_STAGE)?;
    text("subject", &record.subject, MAX_NAME)?;
    let Versions { model, policy, prompt, knowledge } = record.versions.unwrap_or_default();
    for (field, value) in [
        ("versions.model", &model),
        ("versions.policy", &policy),
        ("versions.prompt", &prompt),
        ("versions.knowledge", &knowledge),
    ] {
        text(field, value, MAX_NAME)?;
    }
    let attributes: std::collections::BTreeMap<String, String> = record.attributes.into_iter().collect();
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Error::field("attributes", format!("at most {MAX_ATTRIBUTES}")));
    }
    let mut open = 0;
    for (key, value) in &attributes {
        if key.is_empty() {
            return Err(Error::field("attributes", "keys of 1 to 64 bytes"));
        }
        text("attributes", key, MAX_KEY)?;
        // Values are JSON or prose: a line may end in them.
        if value.len() > MAX_VALUE || value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            let allowed = format!(
                "values of at most {MAX_VALUE} bytes, without control characters but line ends and tabs"
            );
            return Err(Error::field("attributes", allowed));
        }
        open += key.len() + value.len();
    }
    if open > MAX_OPEN {
        return Err(Error::field("attributes", format!("at most {MAX_OPEN} bytes in all")));
    }
    if record.sealed.len() > MAX_SEALED {
        return Err(Error::field("sealed", format!("at most {MAX_SEALED} bytes")));
    }
    if !record.sealed.is_empty() && record.subject.is_empty() {
        return Err(Error::field("subject", "the subject, by whose key `sealed` is encrypted"));
    }
    Ok(Draft {
        id,
        kind,
        conversation: record.conversation_id,
        turn: record.turn_id,
        stage: record.stage,
        time: micros("time", record.time)?.ok_or_else(|| Error::field("time", "when it happened"))?,
        subject: record.subject,
        refers_to,
        model,
        policy,
        prompt,
        knowledge,
        attributes,
        sealed: record.sealed,
    })
}

/// The record that tells of an erasure, and the subject.
///
/// # Errors
/// `Field`.
pub(crate) fn erasure(
    tenant: &Tenant,
    subject: String,
    record_id: &str,
    reason: String,
    now: i64,
) -> Result<(Batch, String), Error> {
    let id = id_v7("record_id", record_id)?;
    required("subject", &subject, MAX_NAME)?;
    required("reason", &reason, 256)?;
    // The time is the id's own, so that a repeat has the same content.
    let time = id.get_timestamp().map_or(now, |stamp| {
        let (seconds, nanos) = stamp.to_unix();
        i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000) + i64::from(nanos / 1000)
    });
    let draft = Draft {
        id,
        kind: RecordKind::Erasure,
        conversation: String::new(),
        turn: String::new(),
        stage: String::new(),
        time,
        subject: subject.clone(),
        refers_to: None,
        model: String::new(),
        policy: String::new(),
        prompt: String::new(),
        knowledge: String::new(),
        attributes: [("reason".to_owned(), reason)].into(),
        sealed: vec![],
    };
    Ok((Batch { tenant: tenant.clone(), drafts: vec![draft] }, subject))
}

/// Checks a query; also how many records a page has.
///
/// # Errors
/// `Field`.
pub(crate) fn filter(request: QueryRequest) -> Result<(Filter, usize), Error> {
    let kinds = request.kinds.iter().map(|kind| match RecordKind::try_from(*kind) {
        Ok(RecordKind::Unspecified) | Err(_) => Err(Error::field("kinds", "kinds of records")),
        Ok(kind) => Ok(kind),
    });
    let mut kinds = kinds.collect::<Result<Vec<_>, _>>()?;
    kinds.sort_unstable_by_key(|kind| *kind as i32);
    kinds.dedup();
    text("conversation_id", &request.conversation_id, MAX_NAME)?;
    text("turn_id", &request.turn_id, MAX_NAME)?;
    text("subject", &request.subject, MAX_NAME)?;
    let refers_to = match request.refers_to.as_str() {
        "" => None,
        text => Some(id_of("refers_to", text)?),
    };
    let oldest_first = match Order::try_from(request.order) {
        Ok(Order::Unspecified | Order::NewestFirst) => false,
        Ok(Order::OldestFirst) => true,
        Err(_) => return Err(Error::field("order", "ORDER_NEWEST_FIRST or ORDER_OLDEST_FIRST")),
    };
    let limit = page_size(request.page_size, PAGE, MAX_PAGE)?;
    let filter = Filter {
        kinds,
        conversation: request.conversation_id,
        turn: request.turn_id,
        subject: request.subject,
        refers_to,
        since: micros("since", request.since)?,
        until: micros("until", request.until)?,
        oldest_first,
        after: page_token(&request.page_token)?,
    };
    Ok((filter, limit))
}

/// How many a page has.
///
/// # Errors
/// `Field` beyond `max`.
pub(crate) fn page_size(asked: u32, usual: usize, max: usize) -> Result<usize, Error> {
    match asked as usize {
        0 => Ok(usual),
        asked if asked <= max => Ok(asked),
        _ => Err(Error::field("page_size", format!("at most {max}"))),
    }
}

/// The sequence that a page token stands for.
///
/// # Errors
/// `Field` where it is none.
pub(crate) fn page_token(token: &str) -> Result<Option<u64>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let refused = || Error::field("page_token", "next_page_token of the page before");
    if token.len() > 20 {
        return Err(refused());
    }
    token.parse().map(Some).map_err(|_| refused())
}

/// An id in its usual form.
///
/// # Errors
/// `Field`.
pub(crate) fn id_of(field: &str, text: &str) -> Result<Uuid, Error> {
    let id = if text.len() == 36 { Uuid::try_parse(text).ok() } else { None };
    id.ok_or_else(|| Error::field(field, "a UUID of 36 characters"))
}

fn id_v7(field: &str, text: &str) -> Result<Uuid, Error> {
    let id = id_of(field, text)?;
    if id.get_version_num() != 7 || id.get_variant() != uuid::Variant::RFC4122 {
        return Err(Error::field(field, "a UUID of version 7"));
    }
    Ok(id)
}

fn text(field: &str, value: &str, max: usize) -> Result<(), Error> {
    if value.len() > max || value.chars().any(char::is_control) {
        return Err(Error::field(field, format!("at most {max} bytes, without control characters")));
    }
    Ok(())
}

/// Checks a text that must be there.
///
/// # Errors
/// `Field`.
pub(crate) fn required(field: &str, value: &str, max: usize) -> Result<(), Error> {
    if value.trim().is_empty() {
        return Err(Error::field(field, format!("1 to {max} bytes")));
    }
    text(field, value, max)
}

/// Microseconds since 1970; what is finer is cut off.
fn micros(field: &str, time: Option<Timestamp>) -> Result<Option<i64>, Error> {
    let Some(time) = time else { return Ok(None) };
    // The years 1 to 9999, as the type says.
    if !(0..1_000_000_000).contains(&time.nanos)
        || !(-62_135_596_800..=253_402_300_799).contains(&time.seconds)
    {
        return Err(Error::field(
            field,
            "a time between the years 1 and 9999, with nanos below 1,000,000,000",
        ));
    }
    Ok(Some(time.seconds * 1_000_000 + i64::from(time.nanos / 1000)))
}

/// The time of microseconds since 1970.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> NewRecord {
        NewRecord {
            record_id: Uuid::now_v7().to_string(),
            kind: RecordKind::Turn.into(),
            time: Some(timestamp(-1)),
            ..NewRecord::default()
        }
    }

    fn refused(change: impl FnOnce(&mut NewRecord)) -> String {
        let mut record = record();
        change(&mut record);
        match batch(&Tenant::try_new("acme").unwrap(), vec![record]) {
            Err(Error::Field { field, .. }) => field,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn a_field_that_is_not_allowed_is_named() {
        assert_eq!(refused(|record| record.record_id = "x".into()), "records[0].record_id");
        assert_eq!(refused(|record| record.record_id = Uuid::new_v4().to_string()), "records[0].record_id");
        assert_eq!(refused(|record| record.kind = 0), "records[0].kind");
        assert_eq!(refused(|record| record.kind = 99), "records[0].kind");
        assert_eq!(refused(|record| record.kind = RecordKind::Erasure.into()), "records[0].kind");
        assert_eq!(refused(|record| record.time = None), "records[0].time");
        assert_eq!(
            refused(|record| record.time = Some(Timestamp { seconds: 0, nanos: -1 })),
            "records[0].time"
        );
        let far = Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(refused(|record| record.time = Some(far)), "records[0].time");
        assert_eq!(refused(|record| record.turn_id = "a\0b".into()), "records[0].turn_id");
        assert_eq!(refused(|record| record.stage = "s".repeat(65)), "records[0].stage");
        assert_eq!(refused(|record| record.sealed = vec![1]), "records[0].subject");
        assert_eq!(refused(|record| record.refers_to = "1".into()), "records[0].refers_to");
        let many = |record: &mut NewRecord| {
            record.attributes = (0..65).map(|number| (number.to_string(), String::new())).collect();
        };
        assert_eq!(refused(many), "records[0].attributes");
        let long = |record: &mut NewRecord| {
            record.attributes = (0..5).map(|number| (number.to_string(), "v".repeat(8000))).collect();
        };
        assert_eq!(refused(long), "records[0].attributes");
    }

    #[test]
    fn an_id_stands_once_in_a_request() {
        let one = record();
        let tenant = Tenant::try_new("acme").unwrap();
        let twice = batch(&tenant, vec![one.clone(), one]).err().unwrap();
        assert!(twice.to_string().starts_with("records[1].record_id"), "{twice}");
        assert!(batch(&tenant, vec![]).is_err());
        assert!(batch(&tenant, (0..257).map(|_| record()).collect()).is_err());
    }

    #[test]
    fn a_time_before_1970_is_kept_to_the_microsecond() {
        assert_eq!(micros("time", Some(timestamp(-1))).unwrap(), Some(-1));
        assert_eq!(micros("time", Some(timestamp(1_500_000))).unwrap(), Some(1_500_000));
    }
}
