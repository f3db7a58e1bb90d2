//! The gateway's own metrics; RPCs are measured by the mesh.

use std::{sync::LazyLock, time::Duration};

use http::{Method, StatusCode};
use mesh::{
    Class,
    telemetry::{meter, seconds},
};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use switchboard_mesh as mesh;

static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_gateway_refused")
        .with_description("Calls that the gateway itself refused, by reason")
        .build()
});

static RATED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    meter()
        .u64_counter("switchboard_gateway_rated")
        .with_description(
            "Calls that were held against their tenant's rate, by class, by who counted, and by outcome. \
             Counted locally where there is a Redis, it is away",
        )
        .build()
});

/// Named by OpenTelemetry's HTTP conventions.
static REQUESTS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("http.server.request.duration", "Time from a request's arrival to its response headers")
});

/// Counts a refused call; `reason` is one of a closed set.
pub(crate) fn refused(reason: &'static str) {
    REFUSED.add(1, &[KeyValue::new("reason", reason)]);
}

/// Counts a call that was held against a rate; `by` and `outcome` are each one of a closed set.
pub(crate) fn rated(class: Class, by: &'static str, outcome: &'static str) {
    let class = KeyValue::new("class", class.as_str());
    RATED.add(1, &[class, KeyValue::new("by", by), KeyValue::new("outcome", outcome)]);
}

/// Records an HTTP request; `route` is one of a closed set.
pub(crate) fn request(method: &Method, route: &'static str, status: StatusCode, took: Duration) {
    let attributes = [
        KeyValue::new("http.request.method", method_label(method)),
        KeyValue::new("http.route", route),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
    ];
    REQUESTS.record(took.as_secs_f64(), &attributes);
}

/// The method as a label: anyone can invent methods, a label's values are a closed set.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
