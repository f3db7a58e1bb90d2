//! The metrics of this crate.

use std::sync::LazyLock;

use opentelemetry::{KeyValue, metrics::Counter};
use switchboard_mesh::telemetry::meter;

static REPLIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_generation_replies")
        .with_description("Replies, by card and how they ended")
        .build()
});

/// Counts a reply of `card` that ended for `reason`, one of a fixed set.
pub(crate) fn reply(card: &'static str, reason: &'static str) {
    REPLIES.add(1, &[KeyValue::new("card", card), KeyValue::new("reason", reason)]);
}
