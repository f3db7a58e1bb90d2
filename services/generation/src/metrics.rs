//! The metrics of this crate.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh::telemetry::{meter, seconds};

static REPLIES: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_generation_replies", "Replies, by card and how they ended"));
static TOKENS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_generation_tokens", "Tokens that cards read (input) and wrote (output)")
});
static DROPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_generation_sentences_dropped", "Sentences that were not sent, by card and why")
});
static CITATIONS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "switchboard_generation_citations_dropped",
        "Citations of passages that the card was not given, by card",
    )
});
static FIRST: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds(
        "switchboard_generation_first_sentence",
        "Time from a request to the reply's first sentence, by card",
    )
});

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(description).build()
}

/// Cards come from the configuration, so there are few.
fn of(card: &str) -> KeyValue {
    KeyValue::new("card", card.to_owned())
}

/// Counts a reply of `card` that ended for `reason`, one of a fixed set.
pub(crate) fn reply(card: &str, reason: &'static str) {
    REPLIES.add(1, &[of(card), KeyValue::new("reason", reason)]);
}

/// Counts the tokens of a reply.
pub(crate) fn tokens(card: &str, input: u32, output: u32) {
    for (direction, tokens) in [("input", input), ("output", output)] {
        TOKENS.add(tokens.into(), &[of(card), KeyValue::new("direction", direction)]);
    }
}

/// Counts a sentence that was not sent, for `reason`, one of a fixed set.
pub(crate) fn dropped(card: &str, reason: &'static str) {
    DROPPED.add(1, &[of(card), KeyValue::new("reason", reason)]);
}

/// Counts a citation of a passage that there is not.
pub(crate) fn no_such_passage(card: &str) {
    CITATIONS.add(1, &[of(card)]);
}

/// Records how long a reply's first sentence took.
pub(crate) fn first_sentence(card: &str, took: Duration) {
    FIRST.record(took.as_secs_f64(), &[of(card)]);
}
