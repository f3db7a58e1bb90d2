//! Spans of HTTP requests, under the trace that the caller sends.

use std::collections::HashMap;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span of a request; method and route are labels, never what the caller spelled.
///
/// # Source
/// `traceparent` and `tracestate`: W3C Trace Context.
pub(crate) fn span(method: &'static str, route: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "http.server",
        otel.kind = "server",
        otel.name = format!("{method} {route}"),
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    let carried: HashMap<String, String> = ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.to_owned())))
        .collect();
    if !span.is_none() && !carried.is_empty() {
        // Fails where no trace layer is installed, and then there is nothing to connect.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carried));
    }
    span
}
