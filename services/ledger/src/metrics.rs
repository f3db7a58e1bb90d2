//! Every metric of the crate.

use std::sync::LazyLock;

use mesh::telemetry::{meter, seconds};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh as mesh;

/// Time of a transaction, in seconds, from its begin to its commit.
pub(crate) static COMMIT_SECONDS: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_ledger_commit", "Time to write one transaction"));

static RECORDS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_records")
        .with_description("Records by what became of them")
        .build()
});
static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_refused")
        .with_description("Requests that were not written, by reason")
        .build()
});
static HEADS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_heads")
        .with_description("Signed heads and checkpoints by whether they could be kept")
        .build()
});
static VERDICTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_verdicts")
        .with_description("Verifications by whether the ledger was intact")
        .build()
});

static BREAKS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_breaks")
        .with_description("Transactions that found another head than the one that was signed last")
        .build()
});

/// Counts a chain that does not go on from what was signed of it.
pub(crate) fn breaks() {
    BREAKS.add(1, &[]);
}

/// Counts records that were appended, and those that were there already.
pub(crate) fn records(appended: u64, repeated: u64) {
    RECORDS.add(appended, &[KeyValue::new("outcome", "appended")]);
    RECORDS.add(repeated, &[KeyValue::new("outcome", "repeated")]);
}

/// Counts a request that was not written; the reason is from a fixed set.
pub(crate) fn refused(reason: &'static str) {
    REFUSED.add(1, &[KeyValue::new("reason", reason)]);
}

/// Counts signed heads (`latest`) and checkpoints (`checkpoint`) that were kept or not.
pub(crate) fn heads(what: &'static str, kept: bool, count: usize) {
    HEADS.add(count as u64, &[KeyValue::new("what", what), KeyValue::new("kept", kept)]);
}

static UNSEALED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_ledger_unsealed")
        .with_description("Calls, with a purpose, for sealed bytes, by whether they were given")
        .build()
});

/// Counts a call for sealed bytes.
pub(crate) fn unsealed(given: bool) {
    UNSEALED.add(1, &[KeyValue::new("given", given)]);
}

/// Counts a verification.
pub(crate) fn verdict(intact: bool) {
    VERDICTS.add(1, &[KeyValue::new("intact", intact)]);
}
