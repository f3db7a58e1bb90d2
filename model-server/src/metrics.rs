//! Every metric of the role. Times in seconds, names `switchboard_inference_*`. Labels are the model and
//! the class of whoever caused it; of a batch, of the request that leads it.

pub(crate) mod generation;

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh::{
    Class,
    telemetry::{meter, seconds},
};

static QUEUED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("switchboard_inference_queue", "From a request's arrival in the queue to its first batch")
});

static COMPUTE: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_inference_compute", "Time to compute a batch"));

static BATCH_TEXTS: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    meter()
        .u64_histogram("switchboard_inference_batch_texts")
        .with_description("Texts in a batch")
        .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
        .build()
});

static TOKENS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_inference_tokens", "Tokens of texts that were computed"));

static PADDING: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_inference_padding_tokens", "Tokens that were computed to fill up a batch")
});

static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_inference_refused_texts", "Texts left out before they cost compute")
});

static WASTED: LazyLock<Counter<f64>> = LazyLock::new(|| {
    meter()
        .f64_counter("switchboard_inference_wasted")
        .with_unit("s")
        .with_description(
            "Compute spent on texts whose callers had gone, or another text of whose request had failed",
        )
        .build()
});

static MODELS: LazyLock<opentelemetry::metrics::UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("switchboard_inference_models")
        .with_description("Models that are loaded")
        .build()
});

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(description).build()
}

fn labels(model: &str, class: Class) -> [KeyValue; 2] {
    [KeyValue::new("model", model.to_owned()), KeyValue::new("class", class.as_str())]
}

/// A request's first batch began, after it had waited for `time`.
pub(crate) fn queued(model: &str, class: Class, time: Duration) {
    QUEUED.record(time.as_secs_f64(), &labels(model, class));
}

/// A batch was put together.
pub(crate) fn batch(model: &str, class: Class, texts: usize, tokens: usize, padding: usize) {
    let labels = labels(model, class);
    BATCH_TEXTS.record(texts as u64, &labels);
    TOKENS.add(tokens as u64, &labels);
    PADDING.add(padding as u64, &labels);
}

/// A batch was computed.
pub(crate) fn computed(model: &str, class: Class, time: Duration) {
    COMPUTE.record(time.as_secs_f64(), &labels(model, class));
}

/// Texts were left out, for a reason out of `gone`, `deadline`, `overloaded` and `memory`.
pub(crate) fn refused(model: &str, class: Class, reason: &'static str, texts: usize) {
    if texts > 0 {
        let [model, class] = labels(model, class);
        REFUSED.add(texts as u64, &[model, class, KeyValue::new("reason", reason)]);
    }
}

/// Compute was spent on a text that nobody waited for any more.
pub(crate) fn wasted(model: &str, class: Class, time: Duration) {
    WASTED.add(time.as_secs_f64(), &labels(model, class));
}

/// A model was loaded (1) or unloaded (-1).
pub(crate) fn models(change: i64) {
    MODELS.add(change, &[]);
}
