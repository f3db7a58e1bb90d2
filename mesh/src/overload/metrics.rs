//! Every metric of admission. Services are those that answered, classes and reasons closed sets.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Histogram, UpDownCounter},
};

use super::{lane::Reason, queue::CLASSES};
use crate::{
    Class,
    telemetry::{meter, seconds},
};

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(description).build()
}

/// A number that several lanes of one service add up to.
fn level(name: &'static str, description: &'static str) -> UpDownCounter<i64> {
    meter().i64_up_down_counter(name).with_description(description).build()
}

static LIMIT: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    level("switchboard_mesh_concurrency_limit", "Calls that a service may have under way, over its models")
});
static IN_FLIGHT: LazyLock<UpDownCounter<i64>> =
    LazyLock::new(|| level("switchboard_mesh_in_flight", "Calls that were let in and have not ended"));
static WAITING: LazyLock<UpDownCounter<i64>> =
    LazyLock::new(|| level("switchboard_mesh_waiting", "Calls that wait to be let in"));
static ADMITTED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_admitted", "Calls that were let in, at once or after a wait"));
static REFUSED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("switchboard_mesh_refused", "Calls that were not let in, by reason"));
static WAIT: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("switchboard_mesh_admission_wait", "Time that a call waited until it was let in")
});

/// The metrics of one service.
pub(super) struct Metrics {
    service: [KeyValue; 1],
    classes: [[KeyValue; 2]; 3],
}

impl Metrics {
    pub(super) fn new(service: Arc<str>) -> Self {
        let service = KeyValue::new("service", StringValue::from(service));
        let classes = CLASSES.map(|class| [service.clone(), KeyValue::new("class", class.as_str())]);
        Self { service: [service], classes }
    }

    pub(super) fn limit(&self, change: i64) {
        LIMIT.add(change, &self.service);
    }

    pub(super) fn in_flight(&self, class: Class, change: i64) {
        IN_FLIGHT.add(change, self.of(class));
    }

    pub(super) fn waiting(&self, class: Class, change: i64) {
        WAITING.add(change, self.of(class));
    }

    pub(super) fn admitted(&self, class: Class, waited: Option<Duration>) {
        let way = if waited.is_some() { "waited" } else { "at_once" };
        ADMITTED.add(1, &self.with(class, "way", way));
        if let Some(waited) = waited {
            WAIT.record(waited.as_secs_f64(), self.of(class));
        }
    }

    pub(super) fn refused(&self, class: Class, reason: Reason) {
        REFUSED.add(1, &self.with(class, "reason", reason.as_str()));
    }

    fn of(&self, class: Class) -> &[KeyValue] {
        &self.classes[class as usize]
    }

    fn with(&self, class: Class, key: &'static str, value: &'static str) -> [KeyValue; 3] {
        let [service, class] = self.classes[class as usize].clone();
        [service, class, KeyValue::new(key, value)]
    }
}
