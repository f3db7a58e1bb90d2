//! The HTTP side: a turn, and what operators ask.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use mesh::health::Health;
use serde_json::json;
use switchboard_mesh as mesh;
use tracing::Instrument as _;

use crate::{
    auth::Door,
    converse::{Turns, converse},
    metrics,
    permissions::Route,
    problem::Problem,
    trace,
};

/// Everything that is served over HTTP.
pub(crate) fn router(
    door: Arc<Door>,
    ctx: &mesh::Context,
    scrape: impl Fn() -> String + Send + Sync + 'static,
) -> Router {
    let scrape = Arc::new(scrape);
    let metrics = move || {
        let text = scrape();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let turns = Turns { door: Arc::clone(&door), conversation: ctx.channel("conversation") };
    let mut router = Router::new();
    for route in Route::ALL {
        let handler = match route {
            Route::Converse => post(converse).with_state(turns.clone()),
            Route::Healthz => get(async || Json(json!({"status": "ok"}))),
            Route::Readyz => get(ready).with_state(ctx.health.clone()),
            Route::Metrics => get(metrics.clone()),
        };
        router = router.route(route.path(), handler);
    }
    router
        .method_not_allowed_fallback(async || {
            let message = "this path is not served with this method; see the header `allow`";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(middleware::from_fn_with_state(door, guard))
        .layer(middleware::from_fn(observe))
}

/// Lets through what [`Route::access`] allows, with the caller's [`Grant`](crate::keys::Grant) in the
/// request's extensions; a path that is no route goes nowhere.
async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let Some(route) = Route::at(request.uri().path()) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"));
    };
    if let Some(grant) = door.authorize(request.headers(), route.access())? {
        request.extensions_mut().insert(grant);
    }
    Ok(next.run(request).await)
}

/// Whether the node serves everything that is mounted on it, and if not, what is missing.
async fn ready(State(health): State<Health>) -> Response {
    if health.ready() {
        return Json(json!({"status": "ready"})).into_response();
    }
    let missing: Vec<String> = health
        .report()
        .into_iter()
        .filter(|(_, serving)| !serving)
        // The empty name stands for the whole node.
        .map(|(name, _)| if name.is_empty() { "node".to_owned() } else { name })
        .collect();
    let body = json!({"status": "not_ready", "not_serving": missing});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Traces and measures a request, up to its response's headers.
async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = route_of(request.uri().path());
    let span = trace::span(metrics::method_label(&method), route, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    metrics::request(&method, route, response.status(), started.elapsed());
    response
}

/// The path as a label: anyone can invent paths, a label's values are a closed set.
fn route_of(path: &str) -> &'static str {
    Route::at(path).map_or("_OTHER", Route::path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use futures::StreamExt as _;
    use http::{Method, header::CONTENT_TYPE};
    use http_body_util::BodyExt as _;
    use mesh::Tenant;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        Config,
        keys::{Keys, NewKey, Role},
        permissions::Access,
        testing::{Mesh, soon},
    };

    fn ask(mesh: &Mesh, body: impl Into<Body>) -> http::Request<Body> {
        http::Request::post("/v1/converse")
            .header("authorization", format!("Bearer {}", mesh.key))
            .header("content-type", "application/json; charset=utf-8")
            .body(body.into())
            .unwrap()
    }

    async fn send(router: Router, request: http::Request<Body>) -> (StatusCode, http::HeaderMap, Value) {
        let response = soon(router.oneshot(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = soon(body.collect()).await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (parts.status, parts.headers, value)
    }

    #[tokio::test]
    async fn a_turn_comes_as_one_object_for_the_tenant_of_the_key() {
        let mesh = Mesh::new();
        let (status, _, turn) = send(mesh.http(Config::default()), ask(&mesh, r#"{"text": "hi"}"#)).await;
        assert_eq!(status, 200);
        assert_eq!(turn["reply"], "Hello acme. hi");
        assert_eq!(turn["citations"][0]["document_id"], "returns.md");
    }

    #[tokio::test]
    async fn the_budget_and_the_channel_set_deadline_and_class() {
        let mesh = Mesh::new();
        let body = r#"{"text": "tell the call", "channel": "voice", "budget": {"whole_ms": 1500}}"#;
        let (_, _, turn) = send(mesh.http(Config::default()), ask(&mesh, body)).await;
        assert_eq!(turn["sentences"][1]["text"], "voice 4 Voice");
        let body = r#"{"text": "tell the call", "channel": "email", "budget": {"whole_ms": 1500}}"#;
        let (_, _, turn) = send(mesh.http(Config::default()), ask(&mesh, body)).await;
        assert_eq!(turn["sentences"][1]["text"], "batch 4 Email");
        let config = Config { request_time: Duration::from_secs(3), ..Config::default() };
        let body = r#"{"text": "tell the call", "budget": {"whole_ms": 3e10}}"#;
        let (_, _, turn) = send(mesh.http(config), ask(&mesh, body)).await;
        assert_eq!(turn["sentences"][1]["text"], "chat 3 Unspecified");
    }

    #[tokio::test]
    async fn a_turn_streams_its_events_in_order() {
        let mesh = Mesh::new();
        let mut by_header = ask(&mesh, r#"{"text": "hi"}"#);
        by_header.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let mut by_query = ask(&mesh, r#"{"text": "hi"}"#);
        *by_query.uri_mut() = "/v1/converse?stream=true".parse().unwrap();
        for request in [by_header, by_query] {
            let (status, headers, body) = send(mesh.http(Config::default()), request).await;
            assert_eq!(status, 200);
            assert_eq!(headers[CONTENT_TYPE], "text/event-stream");
            let body = body.as_str().unwrap();
            let names: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
            assert_eq!(names, ["started", "sentence", "sentence", "report"]);
            let last = body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
            assert_eq!(serde_json::from_str::<Value>(last).unwrap()["reply"], "Hello acme. hi");
        }
    }

    #[tokio::test]
    async fn a_failure_in_mid_stream_is_an_event_and_before_it_a_status() {
        let mesh = Mesh::new();
        let router = mesh.http(Config::default());
        let mut request = ask(&mesh, r#"{"text": "fail late"}"#);
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let (status, _, body) = send(router.clone(), request).await;
        assert_eq!(status, 200);
        let body = body.as_str().unwrap();
        assert!(body.contains("event: error\ndata: {\"error\":{\"code\":\"unavailable\""), "{body}");

        let (status, headers, body) = send(router.clone(), ask(&mesh, r#"{"text": "fail late"}"#)).await;
        assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &"1".parse().unwrap()));
        assert_eq!(body["error"]["message"], "knowledge is away");

        let mut request = ask(&mesh, r#"{"text": "refuse the budget"}"#);
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let (status, _, body) = send(router, request).await;
        assert_eq!((status.as_u16(), &body["error"]["field"]), (400, &"budget.whole_ms".into()));
    }

    #[tokio::test]
    async fn only_a_known_key_gets_in() {
        let mesh = Mesh::new();
        let router = mesh.http(Config::default());
        let cases: [(&str, String, u16); 6] = [
            ("authorization", format!("bearer {}", mesh.key), 200),
            ("x-api-key", mesh.key.clone(), 200),
            ("x-other", mesh.key.clone(), 401),
            ("authorization", mesh.key.clone(), 401),
            ("authorization", format!("Bearer {}0", mesh.key), 401),
            ("x-api-key", "sb_1_2".into(), 401),
        ];
        for (name, value, expected) in cases {
            let request = http::Request::post("/v1/converse")
                .header(name, value)
                .header("x-switchboard-tenant", "acme")
                .header("content-type", "application/json")
                .body(Body::from(r#"{"text": "hi"}"#))
                .unwrap();
            let (status, headers, body) = send(router.clone(), request).await;
            assert_eq!(status, expected);
            if expected == 401 {
                assert_eq!(body["error"]["code"], "unauthenticated");
                assert!(headers.contains_key("www-authenticate"));
            }
        }
    }

    #[tokio::test]
    async fn every_route_is_open_or_takes_a_key_of_one_of_its_roles() {
        let mesh = Mesh::new();
        let router = mesh.http(Config::default());
        for route in Route::ALL {
            let request = |key: Option<String>| {
                let mut request = ask(&mesh, r#"{"text": "hi"}"#);
                *request.uri_mut() = route.path().parse().unwrap();
                request.headers_mut().remove("authorization");
                if let Some(key) = key {
                    request.headers_mut().insert("x-api-key", key.parse().unwrap());
                }
                request
            };
            let (without, ..) = send(router.clone(), request(None)).await;
            let Access::Key { roles, .. } = route.access() else {
                assert_ne!(without, 401, "{}", route.path());
                continue;
            };
            assert_eq!(without, 401, "{}", route.path());
            for role in Role::ALL {
                let (status, _, body) = send(router.clone(), request(Some(mesh.key_of(role)))).await;
                assert_eq!(status == 403, !roles.contains(&role), "{} as {role}: {body}", route.path());
            }
        }
    }

    #[tokio::test]
    async fn a_refused_key_learns_what_is_needed_and_no_more() {
        let mesh = Mesh::new();
        let with = |key: &str| {
            let mut request = ask(&mesh, r#"{"text": "Rosebud", "conversation_id": "c1"}"#);
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
            request
        };
        let router = mesh.http(Config::default());
        let (status, headers, body) = send(router.clone(), with(&mesh.key_of(Role::Auditor))).await;
        assert_eq!((status.as_u16(), headers.contains_key("www-authenticate")), (403, false));
        let message = "this needs an API key of role customer-app, agent or admin";
        assert_eq!(body, json!({"error": {"code": "permission_denied", "message": message}}));

        let lifetime = Some(Duration::from_secs(60));
        let new = NewKey { lifetime, ..NewKey::new(Tenant::try_new("acme").unwrap(), Role::Admin) };
        let (id, key) = mesh.keys.create(&new).unwrap();
        let info = mesh.keys.list().into_iter().find(|info| info.id == id).unwrap();
        let path = Keys::file_in(&mesh.ctx.data);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&info.expires_at.unwrap().to_string(), "1")).unwrap();
        mesh.keys.refresh().unwrap();
        let (status, headers, body) = send(router, with(key.expose())).await;
        assert_eq!((status.as_u16(), headers.contains_key("www-authenticate")), (401, true));
        assert_eq!(body["error"]["code"], "unauthenticated");
        assert!(body["error"]["message"].as_str().unwrap().contains("expired"), "{body}");
    }

    #[tokio::test]
    async fn a_bad_field_is_named_and_its_value_is_not_repeated() {
        let mesh = Mesh::new();
        let router = mesh.http(Config::default());
        let cases = [
            (r#"{}"#, "text"),
            (r#"{"text": ["Rosebud"]}"#, "text"),
            (r#"{"text": "a", "channel": "Rosebud, expected x"}"#, "channel"),
            (r#"{"text": "a", "audiences": ["a", {"Rosebud": 1}]}"#, "audiences[1]"),
            (r#"{"text": "a", "budget": {"whole_ms": "Rosebud"}}"#, "budget.whole_ms"),
            (r#"{"text": "a", "budget": {"whole_ms": -1}}"#, "budget.whole_ms"),
            (r#"{"text": "a", "budget": {"whole_ms": 1e300}}"#, "budget.whole_ms"),
            (r#"{"text": "a", "budget": {"whole": 1}}"#, "budget.whole"),
            (r#"{"text": "a", "tenant": "Rosebud"}"#, "tenant"),
        ];
        for (body, field) in cases {
            let (status, _, answer) = send(router.clone(), ask(&mesh, body)).await;
            assert_eq!((status.as_u16(), answer["error"]["field"].as_str()), (400, Some(field)), "{body}");
            assert!(!answer.to_string().contains("Rosebud"), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_is_not_json_is_refused_with_its_place() {
        let mesh = Mesh::new();
        let router = mesh.http(Config::default());
        let deep = format!("{{\"text\": {}", "[".repeat(100_000));
        for body in [&b""[..], b"{", b"[]", b"{\"text\": \"\xff\"}", b"{\"text\": \"a\"} x", deep.as_bytes()]
        {
            let (status, _, answer) = send(router.clone(), ask(&mesh, body.to_vec())).await;
            assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
            assert_eq!(answer["error"]["code"], "invalid_argument");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_or_not_it_tells_its_length() {
        let mesh = Mesh::new();
        let router = mesh.http(Config { max_body_bytes: 1024, ..Config::default() });
        let mut announced = ask(&mesh, "{}");
        announced.headers_mut().insert("content-length", 1025.into());
        let chunks = futures::stream::repeat("     ").map(Ok::<_, std::io::Error>);
        let unannounced = ask(&mesh, Body::from_stream(chunks));
        for request in [announced, unannounced] {
            let (status, _, body) = send(router.clone(), request).await;
            assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &"payload_too_large".into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let mesh = Mesh::new();
        let chunks =
            futures::stream::once(async { Ok::<_, std::io::Error>("{") }).chain(futures::stream::pending());
        let request = ask(&mesh, Body::from_stream(chunks));
        // Not through `send`, whose own limit would come at the same time.
        let response = mesh.http(Config::default()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 408);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_with_its_deadline() {
        let mesh = Mesh::new();
        for text in ["never answer", "never end"] {
            let request = ask(&mesh, format!(r#"{{"text": "{text}"}}"#));
            let response = mesh.http(Config::default()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 504, "{text}");
        }
    }

    #[tokio::test]
    async fn more_calls_than_places_are_refused_and_a_dropped_one_frees_its_place() {
        let mesh = Mesh::new();
        let router = mesh.http(Config { max_calls: 1, ..Config::default() });
        let mut request = ask(&mesh, r#"{"text": "never end"}"#);
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let open = soon(router.clone().oneshot(request)).await.unwrap();
        assert!(open.extensions().get::<switchboard_mesh::Deadline>().is_some());
        let (status, headers, body) = send(router.clone(), ask(&mesh, r#"{"text": "hi"}"#)).await;
        assert_eq!((status.as_u16(), &headers["retry-after"]), (429, &"1".parse().unwrap()));
        assert_eq!(body["error"]["code"], "resource_exhausted");
        drop(open);
        soon(mesh.cancelled.notified()).await;
        let (status, ..) = send(router, ask(&mesh, r#"{"text": "hi"}"#)).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn paths_methods_and_content_types_that_are_not_served_say_so_in_json() {
        let mesh = Mesh::new();
        let mut plain = ask(&mesh, "{}");
        plain.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        let mut get = ask(&mesh, "");
        *get.method_mut() = Method::GET;
        let mut elsewhere = ask(&mesh, "");
        *elsewhere.uri_mut() = "/v1/nothing".parse().unwrap();
        let cases = [
            (elsewhere, 404, "not_found"),
            (get, 405, "method_not_allowed"),
            (plain, 415, "unsupported_media_type"),
        ];
        for (request, expected, code) in cases {
            let (status, headers, body) = send(mesh.http(Config::default()), request).await;
            assert_eq!((status.as_u16(), &body["error"]["code"]), (expected, &code.into()));
            assert_eq!(headers.contains_key("allow"), expected == 405);
        }
    }

    #[tokio::test]
    async fn readiness_tells_what_is_missing() {
        let mesh = Mesh::new();
        let get = || http::Request::get("/readyz").body(Body::empty()).unwrap();
        mesh.ctx.health.set("switchboard.policy.v1.PolicyService", false);
        let (status, _, body) = send(mesh.http(Config::default()), get()).await;
        assert_eq!(status, 503);
        assert_eq!(body["not_serving"], json!(["node", "switchboard.policy.v1.PolicyService"]));
        mesh.ctx.health.set("", true);
        let (status, ..) = send(mesh.http(Config::default()), get()).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn operators_need_no_key_over_a_real_connection() {
        let mesh = Mesh::new();
        let running = mesh.start(Config::default()).await;
        for (path, expected) in [("/healthz", r#"{"status":"ok"}"#), ("/metrics", "up 1\n")] {
            let mut stream = tokio::net::TcpStream::connect(running.http).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            soon(stream.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(expected), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_dropped_connection_cancels_its_turn() {
        let mesh = Mesh::new();
        let running = mesh.start(Config::default()).await;
        for (text, accept) in
            [("never answer", "*/*"), ("never end", "*/*"), ("never end", "text/event-stream")]
        {
            let body = format!(r#"{{"text": "{text}"}}"#);
            let request = format!(
                "POST /v1/converse HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\naccept: {accept}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                mesh.key,
                body.len()
            );
            let mut stream = tokio::net::TcpStream::connect(running.http).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            if accept == "text/event-stream" {
                // The turn has begun once its first byte is here.
                soon(stream.read_u8()).await.unwrap();
            }
            drop(stream);
            soon(mesh.cancelled.notified()).await;
        }
    }

    #[tokio::test]
    async fn a_trace_from_outside_goes_on_inside() {
        let mesh = Mesh::new();
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let mut request = ask(&mesh, r#"{"text": "tell the trace"}"#);
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        request.headers_mut().insert("traceparent", parent.parse().unwrap());
        let (_, _, turn) = send(mesh.http(Config::default()), request).await;
        let told = turn["sentences"][1]["text"].as_str().unwrap();
        assert!(told.starts_with(&format!("00-{trace}-")) && told != parent, "{told}");
    }
}
