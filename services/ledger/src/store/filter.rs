//! Which records to list, and the statement for it, which SQLite and PostgreSQL both read.

use std::fmt::Write as _;

use switchboard_proto::ledger::v1::RecordKind;
use uuid::Uuid;

use super::number;

/// Which records to list; what is empty does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kinds: Vec<RecordKind>,
    pub(crate) conversation: String,
    pub(crate) turn: String,
    pub(crate) subject: String,
    pub(crate) refers_to: Option<Uuid>,
    /// By the ledger's clock, in microseconds since 1970.
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) oldest_first: bool,
    /// The last sequence of the page before.
    pub(crate) after: Option<u64>,
}

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
}

impl Filter {
    /// The index that finds least, of those that find in the order of sequences; `None` where the chain itself
    /// is read in order: for no filter, for several kinds, and for times alone, which are the planner's to weigh.
    pub(super) fn index(&self) -> Option<&'static str> {
        [
            (self.refers_to.is_some(), "ledger_records_refers_to"),
            (!self.conversation.is_empty(), "ledger_records_conversation"),
            (!self.turn.is_empty(), "ledger_records_turn"),
            (!self.subject.is_empty(), "ledger_records_subject"),
            (self.kinds.len() == 1, "ledger_records_kind"),
        ]
        .into_iter()
        .find_map(|(is_asked, index)| is_asked.then_some(index))
    }

    /// What stands in a statement after `WHERE`, made of fixed words alone, and the values for its places
    /// `$1`, `$2` and so on, the first of which is the tenant. `limit` is the last.
    pub(super) fn clauses(&self, tenant: &str, limit: usize) -> (String, Vec<Value>) {
        let mut clauses = format!("r.tenant = $1 AND {IN_CHAIN}");
        let mut values = vec![Value::Text(tenant.to_owned())];
        let mut add = |clause: &str, value: Value| {
            values.push(value);
            // Writing to a string cannot fail.
            let _ = write!(clauses, " AND {clause} ${}", values.len());
        };
        // That they are not empty is said once more, so that the indexes, which leave empty ones out, are
        // used.
        for (column, text) in [
            ("r.conversation <> '' AND r.conversation =", &self.conversation),
            ("r.turn <> '' AND r.turn =", &self.turn),
            ("r.subject <> '' AND r.subject =", &self.subject),
        ] {
            if !text.is_empty() {
                add(column, Value::Text(text.clone()));
            }
        }
        if let Some(id) = self.refers_to {
            add("r.refers_to =", Value::Bytes(id.as_bytes().to_vec()));
        }
        if let Some(since) = self.since {
            add("r.ledger_time >=", Value::Number(since));
        }
        if let Some(until) = self.until {
            add("r.ledger_time <", Value::Number(until));
        }
        if let Some(after) = self.after {
            let clause = if self.oldest_first { "r.sequence >" } else { "r.sequence <" };
            add(clause, Value::Number(number(after)));
        }
        if !self.kinds.is_empty() {
            let mut places = Vec::new();
            for kind in &self.kinds {
                values.push(Value::Number(i64::from(*kind as i32)));
                places.push(format!("${}", values.len()));
            }
            let _ = write!(clauses, " AND r.kind IN ({})", places.join(", "));
        }
        let direction = if self.oldest_first { "ASC" } else { "DESC" };
        values.push(Value::Number(i64::try_from(limit).unwrap_or(i64::MAX)));
        let _ = write!(clauses, " ORDER BY r.sequence {direction} LIMIT ${}", values.len());
        (clauses, values)
    }
}

/// Takes a row that stands in its tenant's chain; others are nobody's records. The `+` keeps it from the
/// choice of an index.
pub(super) const IN_CHAIN: &str =
    "+r.sequence BETWEEN 1 AND (SELECT h.sequence FROM ledger_heads h WHERE h.tenant = $1)";

/// The first and the last row of a tenant, and its head, of one moment.
pub(super) const BOUNDS: &str = "SELECT (SELECT MIN(sequence) FROM ledger_records WHERE tenant = $1), \
     (SELECT MAX(sequence) FROM ledger_records WHERE tenant = $1), \
     (SELECT sequence FROM ledger_heads WHERE tenant = $1)";

/// Lists the tenants of records and heads, of each once, without reading every record.
pub(super) const TENANTS: &str = "WITH RECURSIVE named (tenant) AS ( \
     SELECT MIN(tenant) FROM ledger_records \
     UNION ALL \
     SELECT (SELECT MIN(r.tenant) FROM ledger_records r WHERE r.tenant > named.tenant) \
     FROM named WHERE named.tenant IS NOT NULL \
   ) SELECT tenant FROM named WHERE tenant IS NOT NULL UNION SELECT tenant FROM ledger_heads ORDER BY 1";
