//! The metrics of this crate.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};
use switchboard_mesh::telemetry;
use switchboard_proto::conversation::v1::{Channel, Outcome, StageStatus};

static TURN: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    telemetry::seconds("switchboard_conversation_turn", "Time from a turn's arrival to its report")
});
static FIRST: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    telemetry::seconds(
        "switchboard_conversation_first_sentence",
        "Time from a turn's arrival to its first sentence",
    )
});
static STAGE: LazyLock<Histogram<f64>> =
    LazyLock::new(|| telemetry::seconds("switchboard_conversation_stage", "Time that a stage took"));
static OVER: LazyLock<Counter<u64>> = LazyLock::new(|| {
    telemetry::meter()
        .u64_counter("switchboard_conversation_over_budget")
        .with_description("Turns that ended after their budget")
        .build()
});

static UNRECORDED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    telemetry::meter()
        .u64_counter("switchboard_conversation_unrecorded")
        .with_description(
            "Turns whose decisions did not come to the ledger: the spool or the ledger refused them",
        )
        .build()
});

static WAITING: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    telemetry::meter()
        .u64_gauge("switchboard_conversation_unrecorded_waiting")
        .with_description("Turns whose decisions wait on disk for the ledger")
        .build()
});

static OUTCOME: LazyLock<Counter<u64>> = LazyLock::new(|| {
    telemetry::meter()
        .u64_counter("switchboard_conversation_outcomes")
        .with_description("Matters that were confirmed, assumed to be settled, or reopened")
        .build()
});

/// Counts how a matter ended, or that it did not.
pub(crate) fn outcome(state: &'static str) {
    OUTCOME.add(1, &[KeyValue::new("state", state)]);
}

/// Tells how many turns wait for the ledger.
pub(crate) fn waiting(turns: usize) {
    WAITING.record(turns as u64, &[]);
}

/// Counts a turn whose decisions are not in the ledger.
pub(crate) fn unrecorded() {
    UNRECORDED.add(1, &[]);
}

pub(crate) fn stage(name: &'static str, status: StageStatus, spent: Duration) {
    let labels = [KeyValue::new("stage", name), KeyValue::new("status", status.as_str_name())];
    STAGE.record(spent.as_secs_f64(), &labels);
}

pub(crate) fn turn(
    channel: Channel,
    outcome: Outcome,
    spent: Duration,
    first: Option<Duration>,
    whole: Duration,
) {
    let labels =
        [KeyValue::new("channel", channel.as_str_name()), KeyValue::new("outcome", outcome.as_str_name())];
    TURN.record(spent.as_secs_f64(), &labels);
    if let Some(first) = first {
        FIRST.record(first.as_secs_f64(), &labels);
    }
    if spent > whole {
        OVER.add(1, &labels);
    }
}
