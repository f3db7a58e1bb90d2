//! Every metric of the crate.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh::telemetry::{meter, seconds};
use switchboard_proto::reranking::v1::Method;

static CANDIDATES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_reranking_candidates")
        .with_description("Candidates that were to be scored, by method and whether they were")
        .build()
});

/// Time that a model took for one part of a request's candidates, in seconds.
pub(crate) static PART: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("switchboard_reranking_part", "Time to score one part of the candidates"));

/// Counts the candidates of one request.
pub(crate) fn count(method: Method, scored: usize, unscored: usize) {
    for (number, word) in [(scored, "yes"), (unscored, "no")] {
        if number > 0 {
            let labels = [KeyValue::new("method", method.as_str_name()), KeyValue::new("scored", word)];
            CANDIDATES.add(number as u64, &labels);
        }
    }
}
