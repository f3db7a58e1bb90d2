//! Every metric of the crate.

use std::sync::LazyLock;

use mesh::telemetry::meter;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, UpDownCounter},
};
use switchboard_mesh as mesh;

static REPLACED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_replaced")
        .with_description("Values replaced by placeholders")
        .build()
});
static RESTORED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_restored")
        .with_description("Placeholders asked to be restored")
        .build()
});
static RESTORES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_restores")
        .with_description("Calls, with a purpose, to restore a text")
        .build()
});
static HELD: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("switchboard_policy_conversations")
        .with_description("Conversations whose values are held")
        .build()
});

/// Counts a value that was replaced; kind and direction are from fixed sets.
pub(crate) fn replaced(kind: &'static str, direction: &'static str) {
    REPLACED.add(1, &[KeyValue::new("kind", kind), KeyValue::new("direction", direction)]);
}

/// Counts a call to restore, with the placeholders that were restored and those whose value is no longer held.
pub(crate) fn restored(restored: usize, missing: usize) {
    RESTORES.add(1, &[]);
    RESTORED.add(restored as u64, &[KeyValue::new("outcome", "restored")]);
    RESTORED.add(missing as u64, &[KeyValue::new("outcome", "missing")]);
}

/// Counts conversations that began or ceased to be held.
pub(crate) fn held(change: i64) {
    HELD.add(change, &[]);
}
