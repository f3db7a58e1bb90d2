//! Every metric of the crate.

use std::sync::LazyLock;

use mesh::telemetry::meter;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, UpDownCounter},
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
static UNOPENED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_vault_unopened")
        .with_description("Stored values that no key opens")
        .build()
});
static HELD: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("switchboard_policy_conversations")
        .with_description("Conversations whose values are held")
        .build()
});

static DECISIONS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_decisions")
        .with_description("Texts and actions decided on, by entry point and verdict")
        .build()
});
static FAILURES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_failures")
        .with_description("Decisions that failed closed because the rules gave no answer")
        .build()
});
static EVALUATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    meter()
        .f64_histogram("switchboard_policy_evaluation_duration")
        .with_unit("s")
        .with_description("Time that the rules of a decision took")
        .with_boundaries(vec![1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 1e-1])
        .build()
});
static BUNDLES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_policy_bundle_loads")
        .with_description("Bundles whose files changed: taken up, or refused and left as they were")
        .build()
});

static MODELS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    meter()
        .f64_histogram("switchboard_policy_model_duration")
        .with_unit("s")
        .with_description("Time that a detector's model took for a text, by outcome")
        .with_boundaries(vec![1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 1e-1, 2e-1, 1.0])
        .build()
});

/// Counts a text that a model was asked about, and its time; both names are from fixed sets.
pub(crate) fn model(detector: &'static str, outcome: &'static str, seconds: f64) {
    MODELS.record(seconds, &[KeyValue::new("detector", detector), KeyValue::new("outcome", outcome)]);
}

/// Counts a decision and its time.
pub(crate) fn decided(entry: &'static str, verdict: &'static str, seconds: f64) {
    DECISIONS.add(1, &[KeyValue::new("entry", entry), KeyValue::new("verdict", verdict)]);
    EVALUATION.record(seconds, &[KeyValue::new("entry", entry)]);
}

/// Counts a decision that failed closed.
pub(crate) fn failed(entry: &'static str, cause: &'static str) {
    FAILURES.add(1, &[KeyValue::new("entry", entry), KeyValue::new("cause", cause)]);
}

/// Counts a bundle that changed, by outcome.
pub(crate) fn bundle_loaded(outcome: &'static str) {
    BUNDLES.add(1, &[KeyValue::new("outcome", outcome)]);
}

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

/// Counts stored values that could not be opened.
pub(crate) fn unopened(values: u64) {
    UNOPENED.add(values, &[]);
}

/// Counts conversations that began or ceased to be held.
pub(crate) fn held(change: i64) {
    HELD.add(change, &[]);
}
