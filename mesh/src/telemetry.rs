//! Logs, spans and metrics, set up once per process and recorded once per call.
//!
//! Spans and RPC metrics are made by the client and server stacks with OpenTelemetry's names; a
//! handler adds fields, not layers. Nothing here ever sees a message body, so no customer text can
//! reach a log, a span or a label.

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, Meter},
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource, logs::SdkLoggerProvider, metrics::SdkMeterProvider, propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};
use tonic::{Code, body::Body};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Invalid;

/// The status attribute; its name changed between versions of the RPC conventions.
const STATUS_CODE: &str = "rpc.response.status_code";

/// The bucket borders of `rpc.*.call.duration`, in seconds. The conventions begin at 5 ms; a mesh
/// whose hops take microseconds needs finer ones.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The section `[telemetry]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Log lines as JSON objects.
    pub log_json: bool,
    /// Where traces, metrics and logs are sent by OTLP over gRPC, such as `http://127.0.0.1:4317`;
    /// empty sends nothing.
    pub otlp_endpoint: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".into(), log_json: false, otlp_endpoint: String::new() }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Err(error) = EnvFilter::try_new(&self.log) {
            return Err(Invalid::new(
                "telemetry.log",
                &self.log,
                format!("a log filter such as `info` ({error})"),
            ));
        }
        let scheme = self.otlp_endpoint.parse::<Uri>().ok().and_then(|uri| uri.scheme().cloned());
        if !self.otlp_endpoint.is_empty() && scheme.is_none() {
            let allowed = "empty, or a URL such as http://127.0.0.1:4317";
            return Err(Invalid::new("telemetry.otlp_endpoint", &self.otlp_endpoint, allowed));
        }
        Ok(())
    }
}

/// Telemetry that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("telemetry.log = {value:?} is not a log filter: {reason}")]
    Filter {
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
    /// The exporter cannot be made.
    #[error("telemetry.otlp_endpoint = {value:?} cannot be used: {reason}")]
    Otlp {
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
    /// The metrics registry cannot be made.
    #[error("metrics cannot be collected: {0}")]
    Metrics(String),
}

/// Running telemetry; flush it before the process ends.
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracer: Option<SdkTracerProvider>,
    logger: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// A function that renders all metrics, for the scrape endpoint.
    pub fn scraper(&self) -> impl Fn() -> String + Clone + Send + Sync + 'static + use<> {
        let registry = self.registry.clone();
        move || render(&registry)
    }

    /// Sends what is still waiting to be exported.
    pub fn flush(&self) {
        let _ = self.meters.force_flush();
        if let Some(tracer) = &self.tracer {
            let _ = tracer.shutdown();
        }
        if let Some(logger) = &self.logger {
            let _ = logger.shutdown();
        }
    }
}

fn render(registry: &prometheus::Registry) -> String {
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
}

/// Starts logs on standard error, metrics for the scrape endpoint, and OTLP when configured.
///
/// # Errors
/// [`TelemetryError`] for a value that cannot be used. A second start in one process keeps the
/// first one's logs.
pub fn start(config: &Config) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|error| TelemetryError::Filter { value: config.log.clone(), reason: error.to_string() })?;
    let resource = Resource::builder().with_service_name("switchboard").build();
    let otlp = |reason: String| TelemetryError::Otlp { value: config.otlp_endpoint.clone(), reason };
    let exporting = !config.otlp_endpoint.is_empty();
    if exporting && config.otlp_endpoint.parse::<Uri>().ok().and_then(|uri| uri.scheme().cloned()).is_none() {
        return Err(otlp("a URL such as http://127.0.0.1:4317 is allowed".into()));
    }

    let registry = prometheus::Registry::new();
    let scrape = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
    let mut meters = SdkMeterProvider::builder().with_reader(scrape).with_resource(resource.clone());
    let (mut tracer, mut logger) = (None, None);
    if exporting {
        let endpoint = &config.otlp_endpoint;
        let spans = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let spans = spans.map_err(|error| otlp(error.to_string()))?;
        tracer = Some(
            SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource.clone()).build(),
        );
        let logs = opentelemetry_otlp::LogExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let logs = logs.map_err(|error| otlp(error.to_string()))?;
        logger = Some(SdkLoggerProvider::builder().with_batch_exporter(logs).with_resource(resource).build());
        let points =
            opentelemetry_otlp::MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
        meters = meters.with_periodic_exporter(points.map_err(|error| otlp(error.to_string()))?);
    }
    let meters = meters.build();
    global::set_meter_provider(meters.clone());

    // The exporter's own calls must not be traced, or each export would cause the next.
    let own = || EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,opentelemetry=off");
    let to_traces = tracer.as_ref().map(|provider| {
        tracing_opentelemetry::layer().with_tracer(provider.tracer("switchboard")).with_filter(own())
    });
    let to_logs = logger.as_ref().map(|provider| {
        opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge::new(provider).with_filter(own())
    });
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let lines = if config.log_json { lines.json().boxed() } else { lines.boxed() };
    // In tests several nodes share a process; the first one's subscriber serves them all.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(to_traces)
        .with(to_logs)
        .try_init();
    Ok(Telemetry { registry, meters, tracer, logger })
}

/// The meter of every metric that is not an RPC's.
#[must_use]
pub fn meter() -> Meter {
    global::meter("switchboard")
}

/// A histogram of seconds with the mesh's bucket borders.
#[must_use]
pub fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    meter()
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(SECONDS.to_vec())
        .build()
}

static SERVER: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds("rpc.server.call.duration", "Time from a call's arrival to the end of its reply")
});
static CLIENT: LazyLock<Histogram<f64>> =
    LazyLock::new(|| seconds("rpc.client.call.duration", "Time from sending a call to the end of its reply"));

/// A full method name, `package.Service/Method`, bounded so that it can be a label.
#[derive(Clone, Debug)]
pub(crate) struct Method(String);

impl Method {
    /// The method that a path names. What is not of our packages, or of gRPC's own, is `_OTHER`:
    /// labels come from a closed set whatever the outside sends.
    pub(crate) fn of(uri: &Uri) -> Self {
        let path = uri.path().trim_start_matches('/');
        let known = path.starts_with("switchboard.") || path.starts_with("grpc.");
        let plain =
            path.len() <= 96 && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/".contains(&b));
        Self(if known && plain { path.to_owned() } else { "_OTHER".to_owned() })
    }
}

fn attributes(method: &Method, code: Code) -> [KeyValue; 3] {
    [
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method.0.clone()),
        KeyValue::new(STATUS_CODE, name_of(code)),
    ]
}

/// Which end of a call is being measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Measures one call, once, to its very end: the trailers of its stream, or its being given up.
pub(crate) struct Recorder {
    side: Side,
    method: Method,
    started: tokio::time::Instant,
    span: Span,
    done: bool,
}

impl Recorder {
    pub(crate) fn new(side: Side, method: Method, span: Span) -> Self {
        Self { side, method, started: tokio::time::Instant::now(), span, done: false }
    }

    /// Records the call as ended with `code`; later ends count for nothing.
    pub(crate) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.span.record(STATUS_CODE, name_of(code));
        // An unknown method can be sent in any number of spellings by anyone; one label for all.
        let other = Method("_OTHER".into());
        let method = if code == Code::Unimplemented { &other } else { &self.method };
        let histogram = match self.side {
            Side::Client => &CLIENT,
            Side::Server => &SERVER,
        };
        histogram.record(self.started.elapsed().as_secs_f64(), &attributes(method, code));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

pub(crate) fn client_span(method: &Method) -> Span {
    tracing::info_span!("rpc.client", otel.kind = "client", otel.name = %method.0, rpc.response.status_code = tracing::field::Empty)
}

/// The span of a call that arrived with `headers`, under the caller's trace.
pub(crate) fn server_span(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!("rpc.server", otel.kind = "server", otel.name = %method.0, rpc.response.status_code = tracing::field::Empty);
    // In one process the parent is the current span already.
    if span.is_none() || !headers.contains_key("traceparent") {
        return span;
    }
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    let _ = span.set_parent(parent);
    span
}

/// Writes the trace of `span` to `headers`, where one is recorded.
pub(crate) fn inject(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeadersMut(headers));
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// The status of a response that carries it in its headers; `None` while a stream may follow.
pub(crate) fn code_of(response: &Response<Body>) -> Option<Code> {
    code_in(response.headers())
}

/// The status that headers or trailers carry.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// The name of a code as OpenTelemetry's RPC conventions write it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

pin_project! {
    /// A body whose frames are made inside its call's span and whose end is recorded.
    pub(crate) struct Recorded<B> {
        #[pin]
        inner: B,
        recorder: Recorder,
    }
}

impl<B> Recorded<B> {
    pub(crate) fn new(inner: B, recorder: Recorder) -> Self {
        Self { inner, recorder }
    }
}

impl<B: http_body::Body> http_body::Body for Recorded<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = {
            let _entered = this.recorder.span.enter();
            this.inner.poll_frame(cx)
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.recorder.end(code_in(trailers).unwrap_or(Code::Unknown));
                }
            }
            Poll::Ready(Some(Err(_))) => this.recorder.end(Code::Unknown),
            Poll::Ready(None) => this.recorder.end(Code::Ok),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
