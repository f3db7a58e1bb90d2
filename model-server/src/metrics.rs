//! Every metric of the role. Times in seconds, names `switchboard_inference_*`.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh::telemetry::{meter, seconds};

/// Texts in a batch.
pub(crate) static BATCH_TEXTS: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    meter()
        .u64_histogram("switchboard_inference_batch_texts")
        .with_description("Texts in a batch")
        .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
        .build()
});

/// Tokens in a batch, padding included.
pub(crate) static BATCH_TOKENS: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    meter()
        .u64_histogram("switchboard_inference_batch_tokens")
        .with_description("Tokens in a batch, padding included")
        .with_boundaries(vec![16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0])
        .build()
});

/// From a request's arrival in the queue to its first batch.
pub(crate) static QUEUED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("switchboard_inference_queue", "From a request's arrival in the queue to its first batch")
});

/// Time to compute a batch.
pub(crate) static COMPUTE: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_inference_compute", "Time to compute a batch"));

static SKIPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_inference_skipped_texts")
        .with_description("Texts left out before they cost compute")
        .build()
});

/// Texts that were computed for a caller who had gone.
pub(crate) static WASTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_inference_wasted_texts")
        .with_description("Texts computed for a caller who had gone")
        .build()
});

/// Counts texts that were left out, for a reason out of `gone`, `deadline` and `overloaded`.
pub(crate) fn skipped(texts: usize, reason: &'static str) {
    SKIPPED.add(texts as u64, &[KeyValue::new("reason", reason)]);
}
