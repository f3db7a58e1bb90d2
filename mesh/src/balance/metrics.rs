//! Every metric of the balancer. The roles and all other labels come from closed sets.

use std::{sync::Arc, sync::LazyLock};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Gauge},
};

use super::{breaker::Circuit, health, outcome::Refusal, pick::Why};
use crate::telemetry::meter;

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(description).build()
}

static PICKS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_picks", "Nodes chosen, by reason"));
static RETRIES: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_retries", "Calls sent again, by what the node before did"));
static HEDGES: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_hedges", "Calls sent to a second node, and those it won"));
static EJECTIONS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_ejections", "Nodes taken out, by reason"));
static BREAKER: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    let about = "Whether calls to a role fail at once: 0 closed, 1 half open, 2 open";
    meter().u64_gauge("switchboard_mesh_breaker").with_description(about).build()
});

/// The metrics of one role.
pub(super) struct Metrics(StringValue);

impl Metrics {
    pub(super) fn new(role: &Arc<str>) -> Self {
        Self(StringValue::from(Arc::clone(role)))
    }

    pub(super) fn picked(&self, why: Why) {
        PICKS.add(1, &[self.role(), KeyValue::new("reason", why.as_str())]);
    }

    pub(super) fn retried(&self, after: Refusal) {
        RETRIES.add(1, &[self.role(), KeyValue::new("after", after.as_str())]);
    }

    pub(super) fn hedge_sent(&self) {
        HEDGES.add(1, &[self.role(), KeyValue::new("event", "sent")]);
    }

    pub(super) fn hedge_won(&self) {
        HEDGES.add(1, &[self.role(), KeyValue::new("event", "won")]);
    }

    pub(super) fn ejected(&self, reason: health::Reason) {
        EJECTIONS.add(1, &[self.role(), KeyValue::new("reason", reason.as_str())]);
    }

    pub(super) fn breaker(&self, circuit: Circuit) {
        let level = match circuit {
            Circuit::Closed => 0,
            Circuit::Probing => 1,
            Circuit::Open { .. } => 2,
        };
        BREAKER.record(level, &[self.role()]);
    }

    fn role(&self) -> KeyValue {
        KeyValue::new("role", self.0.clone())
    }
}
