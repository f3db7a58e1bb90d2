//! Metrics of models that write.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};
use switchboard_mesh::{
    Class,
    telemetry::{meter, seconds},
};

use super::{counter, labels};

static FIRST: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds(
        "switchboard_inference_time_to_first_token",
        "From a prompt's arrival in the queue to its first token",
    )
});

static NEXT: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("switchboard_inference_time_per_output_token", "From one token to the next one")
});

static READ: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "switchboard_inference_prompt_tokens",
        "Tokens of prompts that were read, those read again included",
    )
});

static WRITTEN: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_inference_output_tokens", "Tokens that were written"));

static PREFILL: LazyLock<Counter<f64>> =
    LazyLock::new(|| busy("switchboard_inference_prefill", "Compute spent on reading prompts"));

static DECODE: LazyLock<Counter<f64>> =
    LazyLock::new(|| busy("switchboard_inference_decode", "Compute spent on writing tokens"));

static ROWS: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    meter()
        .u64_histogram("switchboard_inference_decode_rows")
        .with_description("Rows in which a step wrote a token")
        .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
        .build()
});

static DISPLACED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "switchboard_inference_displaced",
        "Sequences that lost their slot to a more urgent one for a while",
    )
});

static HELD_TOKENS: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    meter()
        .u64_gauge("switchboard_inference_kv_tokens")
        .with_description("Tokens whose keys and values are held")
        .build()
});

static HELD_BYTES: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    meter()
        .u64_gauge("switchboard_inference_kv_bytes")
        .with_unit("By")
        .with_description("Bytes of the keys and values that are held")
        .build()
});

fn busy(name: &'static str, description: &'static str) -> Counter<f64> {
    meter().f64_counter(name).with_unit("s").with_description(description).build()
}

fn model(model: &str) -> [KeyValue; 1] {
    [KeyValue::new("model", model.to_owned())]
}

/// A prompt's first token came, so long after the prompt.
pub(crate) fn first(model: &str, class: Class, time: Duration) {
    FIRST.record(time.as_secs_f64(), &labels(model, class));
}

/// Another token came, so long after the one before.
pub(crate) fn next(model: &str, class: Class, time: Duration) {
    NEXT.record(time.as_secs_f64(), &labels(model, class));
}

/// A part of a prompt was read.
pub(crate) fn read(model: &str, class: Class, tokens: usize, time: Duration) {
    READ.add(tokens as u64, &labels(model, class));
    PREFILL.add(time.as_secs_f64(), &self::model(model));
}

/// A token was written in each of so many rows.
pub(crate) fn wrote(model: &str, rows: usize, time: Duration) {
    ROWS.record(rows as u64, &self::model(model));
    DECODE.add(time.as_secs_f64(), &self::model(model));
}

/// A sequence ended after so many tokens.
pub(crate) fn ended(model: &str, class: Class, tokens: usize) {
    WRITTEN.add(tokens as u64, &labels(model, class));
}

/// A sequence lost its slot.
pub(crate) fn displaced(model: &str, class: Class) {
    DISPLACED.add(1, &labels(model, class));
}

/// So much is held of keys and values.
pub(crate) fn held(model: &str, tokens: usize, bytes: usize) {
    HELD_TOKENS.record(tokens as u64, &self::model(model));
    HELD_BYTES.record(bytes as u64, &self::model(model));
}
