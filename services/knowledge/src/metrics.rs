//! Every metric of the crate.

use std::sync::LazyLock;

use mesh::telemetry::{meter, seconds};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, UpDownCounter},
};
use switchboard_mesh as mesh;

/// Time to search, in seconds, without the time to embed the question.
pub(crate) static SEARCH_SECONDS: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_knowledge_search", "Time to search"));

/// Time to parse, embed and store one document, in seconds.
pub(crate) static INGEST_SECONDS: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_knowledge_ingest", "Time to ingest one document"));

static DOCUMENTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter().u64_counter("switchboard_knowledge_documents").with_description("Documents that arrived").build()
});

/// Passages that are stored.
pub(crate) static PASSAGES: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    meter()
        .i64_up_down_counter("switchboard_knowledge_passages")
        .with_description("Passages that are stored")
        .build()
});

/// Counts a document that arrived by what became of it.
pub(crate) fn count_document(outcome: &'static str) {
    DOCUMENTS.add(1, &[KeyValue::new("outcome", outcome)]);
}
