//! Every metric of the crate.

use std::sync::LazyLock;

use opentelemetry::metrics::{Counter, UpDownCounter};
use switchboard_mesh::telemetry::meter;

/// Texts whose vector was remembered.
pub(crate) static HITS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_embeddings_cache_hits")
        .with_description("Texts whose vector was remembered")
        .build()
});

/// Texts that had to be embedded.
pub(crate) static MISSES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_embeddings_cache_misses")
        .with_description("Texts that had to be embedded")
        .build()
});

/// Memory that remembered vectors take.
pub(crate) static BYTES: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("switchboard_embeddings_cache_bytes")
        .with_description("Memory that remembered vectors take, in bytes")
        .build()
});
