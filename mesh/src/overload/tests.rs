//! Admission as calls meet it: over the server stack, and as a whole system under too much load.

mod goodput;
mod tcp;

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tonic::{Code, body::Body, service::Routes};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    Class, Deadline, Mounted, call::MODEL, error::PUSHBACK, health::Health, server::Stack, telemetry, testing,
};

const ECHO: &str = "/switchboard.test.v1.Test/Echo";
const HANG: &str = "/switchboard.test.v1.Test/Hang";
const STREAM: &str = "/switchboard.test.v1.Test/Stream";

fn small() -> Config {
    Config { initial: 1, floor: 1, ceiling: 1, queue: 4, voice_share: 0.0, ..Config::default() }
}

fn call(class: Class) -> Call {
    testing::call("acme").with_class(class)
}

/// What a service of tonic answers: one message, and the trailers of an answer.
fn reply() -> Response<Body> {
    let frames = [
        Ok::<_, Status>(http_body::Frame::data(bytes::Bytes::from_static(b"\0\0\0\0\0"))),
        Ok(http_body::Frame::trailers(http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]))),
    ];
    Response::new(Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames))))
}

/// A role that echoes, hangs until `open` is true, or sends one message and then hangs.
fn role(open: watch::Receiver<bool>) -> axum::Router {
    let until = |mut open: watch::Receiver<bool>| async move {
        let _ = open.wait_for(|open| *open).await;
    };
    let hang = open.clone();
    axum::Router::new()
        .route(ECHO, axum::routing::any(|| async { reply() }))
        .route(
            HANG,
            axum::routing::any(move || async move {
                until(hang.clone()).await;
                reply()
            }),
        )
        .route(
            STREAM,
            axum::routing::any(move || async move {
                let first =
                    futures::stream::iter([Ok::<_, Status>(bytes::Bytes::from_static(b"\0\0\0\0\0"))]);
                let rest = futures::stream::once(async move {
                    until(open).await;
                    Ok(bytes::Bytes::from_static(b"\0\0\0\0\0"))
                });
                let body = futures::StreamExt::chain(first, rest);
                Response::new(Body::new(http_body_util::StreamBody::new(futures::StreamExt::map(
                    body,
                    |frame| frame.map(http_body::Frame::data),
                ))))
            }),
        )
}

struct Rig {
    overload: Overload,
    stack: Stack,
    open: watch::Sender<bool>,
}

impl Rig {
    fn new(config: Config) -> Self {
        let (open, closed) = watch::channel(false);
        let overload = Overload::new(config);
        let stack = Stack::from_router(role(closed)).limited(overload.clone());
        Self { overload, stack, open }
    }

    /// A rig whose service and model have answered once.
    async fn known(config: Config, model: Option<&str>) -> Self {
        let rig = Self::new(config);
        rig.whole(ECHO, &call(Class::Chat), model).await;
        rig
    }

    async fn send(&self, path: &str, call: &Call, model: Option<&str>) -> Response<Body> {
        let mut request = Request::post(format!("http://mesh{path}")).body(Body::empty()).unwrap();
        call.write(request.headers_mut());
        if let Some(model) = model {
            request.headers_mut().insert(MODEL, model.parse().unwrap());
        }
        self.stack.clone().oneshot(request).await.unwrap()
    }

    /// Sends, and reads the reply to its end.
    async fn whole(&self, path: &str, call: &Call, model: Option<&str>) -> Option<Code> {
        let response = self.send(path, call, model).await;
        match telemetry::code_of(&response) {
            Some(code) => Some(code),
            None => response.into_body().collect().await.unwrap().trailers().and_then(telemetry::code_in),
        }
    }

    fn lane(&self, model: Option<&str>) -> Arc<Lane> {
        self.overload.lane("switchboard.test.v1.Test", model).0
    }
}

/// Polls once, which is as far as anything gets without outside help.
macro_rules! begin {
    ($future:expr) => {{
        let mut future = Box::pin($future);
        assert!(futures::poll!(future.as_mut()).is_pending());
        future
    }};
}

#[tokio::test(start_paused = true)]
async fn the_urgent_go_first_when_there_is_room() {
    let rig = Rig::known(small(), None).await;
    let (batch, chat, voice) = (call(Class::Batch), call(Class::Chat), call(Class::Voice));
    let first = begin!(rig.whole(HANG, &chat, None));
    let mut batch = begin!(rig.send(ECHO, &batch, None));
    let mut chat = begin!(rig.send(ECHO, &chat, None));
    let voice = begin!(rig.whole(ECHO, &voice, None));
    assert_eq!(rig.lane(None).waiting(), 3);
    rig.open.send_replace(true);
    assert_eq!(first.await, Some(Code::Ok));
    assert!(futures::poll!(chat.as_mut()).is_pending(), "voice is to go before it");
    assert_eq!(voice.await, Some(Code::Ok));
    assert!(futures::poll!(batch.as_mut()).is_pending(), "chat is to go before it");
    drop(chat.await);
    assert_eq!(telemetry::code_of(&batch.await), None);
    assert_eq!((rig.lane(None).waiting(), rig.lane(None).in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_let_in_is_told_when_to_come_back() {
    let rig = Rig::known(Config { queue: 1, ..small() }, None).await;
    let (batch, chat) = (call(Class::Batch), call(Class::Chat));
    let _running = begin!(rig.send(HANG, &chat, None));
    let pushed_out = begin!(rig.send(ECHO, &batch, None));
    let _waiting = begin!(rig.send(ECHO, &chat, None));
    for refused in [pushed_out.await, rig.send(ECHO, &batch, None).await] {
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(told, Some(Duration::from_secs(1)), "batch comes back last");
        assert_eq!(refused.headers()[PUSHBACK], "1000");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_allowed_or_past_its_deadline() {
    let rig = Rig::known(small(), None).await;
    let chat = call(Class::Chat);
    let _running = begin!(rig.send(HANG, &chat, None));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.whole(ECHO, &chat, None).await, Some(Code::ResourceExhausted));
    assert_eq!(began.elapsed(), small().max_wait);
    let short = chat.until(Deadline::after(Duration::from_millis(100)));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.whole(ECHO, &short, None).await, Some(Code::ResourceExhausted));
    assert!(began.elapsed() <= Duration::from_millis(96), "{:?}", began.elapsed());
    assert_eq!(rig.lane(None).waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_would_be_answered_too_late_is_not_kept_waiting() {
    let rig = Rig::known(small(), None).await;
    let chat = call(Class::Chat);
    // Calls take 300 ms.
    for _ in 0..20 {
        let slow = begin!(rig.whole(HANG, &chat, None));
        tokio::time::advance(Duration::from_millis(300)).await;
        rig.open.send_replace(true);
        assert_eq!(slow.await, Some(Code::Ok));
        rig.open.send_replace(false);
    }
    let _running = begin!(rig.send(HANG, &chat, None));
    let short = chat.until(Deadline::after(Duration::from_millis(250)));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.whole(ECHO, &short, None).await, Some(Code::ResourceExhausted));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_goes_leaves_the_queue_at_once() {
    let rig = Rig::known(small(), None).await;
    let chat = call(Class::Chat);
    let running = begin!(rig.send(HANG, &chat, None));
    let gone = begin!(rig.send(ECHO, &chat, None));
    let stays = begin!(rig.whole(ECHO, &chat, None));
    drop(gone);
    assert_eq!(rig.lane(None).waiting(), 1);
    drop(running);
    assert_eq!(stays.await, Some(Code::Ok));
    assert_eq!(rig.lane(None).in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_goes_to_the_next() {
    let rig = Rig::known(small(), None).await;
    let chat = call(Class::Chat);
    let running = begin!(rig.send(HANG, &chat, None));
    let called = begin!(rig.send(ECHO, &chat, None));
    let next = begin!(rig.whole(ECHO, &chat, None));
    drop(running);
    assert_eq!(rig.lane(None).in_flight(), 1, "the turn was given");
    drop(called);
    assert_eq!(next.await, Some(Code::Ok));
    assert_eq!(rig.lane(None).in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_under_way_to_the_end_of_its_stream() {
    let rig = Rig::known(small(), None).await;
    let chat = call(Class::Chat);
    let mut body = rig.send(STREAM, &chat, None).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(rig.lane(None).in_flight(), 1);
    let waiting = begin!(rig.whole(ECHO, &chat, None));
    drop(body);
    assert_eq!(waiting.await, Some(Code::Ok));
    let body = rig.send(STREAM, &chat, None).await.into_body();
    rig.open.send_replace(true);
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.to_bytes().len(), 10);
    assert_eq!(rig.lane(None).in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_part_is_kept_for_voice() {
    let config = Config { initial: 4, ceiling: 4, voice_share: 0.25, ..small() };
    let rig = Rig::known(config, None).await;
    let (chat, voice) = (call(Class::Chat), call(Class::Voice));
    let mut running: Vec<_> = Vec::new();
    for _ in 0..3 {
        running.push(begin!(rig.send(HANG, &chat, None)));
    }
    let _waiting = begin!(rig.send(HANG, &chat, None));
    assert_eq!((rig.lane(None).in_flight(), rig.lane(None).waiting()), (3, 1));
    assert_eq!(rig.whole(ECHO, &voice, None).await, Some(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn models_do_not_wait_for_each_other() {
    let rig = Rig::known(small(), Some("large")).await;
    rig.whole(ECHO, &call(Class::Chat), Some("small")).await;
    let chat = call(Class::Chat);
    let _running = begin!(rig.send(HANG, &chat, Some("large")));
    let _waiting = begin!(rig.send(ECHO, &chat, Some("large")));
    assert_eq!(rig.whole(ECHO, &chat, Some("small")).await, Some(Code::Ok));
    assert_eq!(rig.whole(ECHO, &chat, None).await, Some(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn streams_that_go_on_take_no_place_of_other_calls_and_do_not_teach_their_limit() {
    let (_open, closed) = watch::channel(false);
    let overload = Overload::new(small());
    let stack = Stack::from_router(role(closed)).limited(overload.clone()).long_lived([STREAM]);
    let (open, _) = watch::channel(false);
    let rig = Rig { overload, stack, open };
    let chat = call(Class::Chat);
    // From the first call on, which nobody has answered yet.
    let first = rig.send(STREAM, &chat, None).await;
    assert_eq!(rig.overload.0.other.in_flight(), 0);
    assert_eq!(rig.whole(ECHO, &chat, None).await, Some(Code::Ok));
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut body = first.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(rig.whole(ECHO, &chat, None).await, Some(Code::Ok));
    let lane = |name| rig.overload.lane(name, None).0;
    let streams = lane(STREAM.trim_start_matches('/'));
    assert_eq!((streams.in_flight(), rig.lane(None).in_flight()), (1, 0));
    let short = chat.until(Deadline::after(Duration::from_millis(250)));
    assert_eq!(rig.whole(STREAM, &short, None).await, Some(Code::ResourceExhausted), "they have a limit too");
}

#[tokio::test(start_paused = true)]
async fn names_that_are_made_up_get_no_limit_of_their_own() {
    let rig = Rig::known(Config::default(), None).await;
    let chat = call(Class::Chat);
    for number in 0..200 {
        let path = format!("/made.up{number}.Service/Do");
        assert_eq!(rig.whole(&path, &chat, None).await, Some(Code::Unimplemented));
        let path = format!("/switchboard.test.v1.Test/Do{number}");
        let model = format!("model-{number}");
        assert_eq!(rig.whole(&path, &chat, Some(&model)).await, Some(Code::Unimplemented));
    }
    let services = rig.overload.0.services.read().unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services["switchboard.test.v1.Test"].models.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn models_that_answer_are_bounded_and_the_idle_make_room() {
    let rig = Rig::new(Config::default());
    let chat = call(Class::Chat);
    rig.whole(ECHO, &chat, Some("busy")).await;
    let _running = begin!(rig.send(HANG, &chat, Some("busy")));
    for number in 0..200 {
        tokio::time::advance(Duration::from_millis(1)).await;
        rig.whole(ECHO, &chat, Some(&format!("model-{number}"))).await;
    }
    let services = rig.overload.0.services.read().unwrap();
    let models = &services["switchboard.test.v1.Test"].models;
    assert_eq!(models.len(), MOST);
    assert!(models.contains_key("busy") && models.contains_key("model-199"));
}

#[tokio::test(start_paused = true)]
async fn health_is_told_however_busy_a_node_is() {
    let overload = Overload::new(small());
    let health = Routes::new(Health::default().service());
    let stack = Stack::new(health).limited(overload.clone());
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut request = Request::post("http://mesh/grpc.health.v1.Health/Watch")
            .header("content-type", "application/grpc")
            .body(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"\0\0\0\0\0"))))
            .unwrap();
        call(Class::Batch).write(request.headers_mut());
        let mut body = stack.clone().oneshot(request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().unwrap().is_data());
        open.push(body);
    }
    assert_eq!(overload.0.other.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_within_a_process_and_those_of_a_node_that_is_told_so_are_not_limited() {
    let (_open, closed) = watch::channel(false);
    let mounted = Mounted { role: "test", routes: role(closed).into(), services: vec![], long_lived: vec![] };
    let channel = testing::serve(&mounted);
    let request = || {
        let mut request = Request::post(format!("http://mesh{HANG}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(call(Class::Batch));
        request
    };
    let calls: Vec<_> = (0..2000).map(|_| channel.clone().oneshot(request())).collect();
    let mut all = futures::stream::FuturesUnordered::from_iter(calls);
    assert!(futures::poll!(futures::StreamExt::next(&mut all)).is_pending(), "one was refused");

    let rig = Rig::new(Config { enabled: false, ..small() });
    let chat = call(Class::Chat);
    let _running = begin!(rig.send(HANG, &chat, None));
    assert_eq!(rig.whole(ECHO, &chat, None).await, Some(Code::Ok));
}

mod teaching {
    use super::*;

    fn learning() -> Config {
        Config { initial: 8, floor: 1, ceiling: 100, ..Config::default() }
    }

    /// Ends `count` calls with `code` after `took`, with six others under way.
    async fn teach(overload: &Overload, code: Option<Code>, took: Duration, count: usize) -> u32 {
        let chat = call(Class::Chat);
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(overload.admit(&chat, ECHO, None).await.unwrap());
        }
        for _ in 0..count {
            // Refused once the others alone are too many.
            let Ok(Some(place)) = overload.admit(&chat, ECHO, None).await else { break };
            tokio::time::advance(took).await;
            match code {
                Some(code) => place.end(code),
                None => drop(place),
            }
        }
        overload.0.services.read().unwrap()["switchboard.test.v1.Test"].own.limit()
    }

    async fn known() -> Overload {
        let overload = Overload::new(learning());
        let place = overload.admit(&call(Class::Chat), ECHO, None).await.unwrap().unwrap();
        place.end(Code::Ok);
        overload
    }

    const TAKES: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn answers_raise_the_limit() {
        assert!(teach(&known().await, Some(Code::Ok), TAKES, 200).await > 8);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_callers_who_go_teach_nothing() {
        let overload = known().await;
        for code in [None, Some(Code::InvalidArgument), Some(Code::Unavailable), Some(Code::Cancelled)] {
            assert_eq!(teach(&overload, code, TAKES, 200).await, 8, "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn overload_below_lowers_it() {
        let limit = teach(&known().await, Some(Code::ResourceExhausted), TAKES, 200).await;
        assert!(limit < 8, "{limit}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_only_if_it_was_not_the_callers_haste() {
        let overload = known().await;
        let before = teach(&overload, Some(Code::Ok), TAKES, 200).await;
        let hasty = teach(&overload, Some(Code::DeadlineExceeded), TAKES / 2, 200).await;
        assert_eq!(hasty, before);
        let late = teach(&overload, Some(Code::DeadlineExceeded), TAKES * 3, 400).await;
        assert!(late < before, "{late} of {before}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_was_spent_on_sending_is_no_overload() {
        let overload = known().await;
        let before = teach(&overload, Some(Code::Ok), TAKES, 200).await;
        let chat = call(Class::Chat);
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(overload.admit(&chat, ECHO, None).await.unwrap());
        }
        for turn in 0..200 {
            let (sender, frames) =
                futures::channel::mpsc::unbounded::<Result<http_body::Frame<bytes::Bytes>, Status>>();
            let mut place = overload.admit(&chat, ECHO, None).await.unwrap().unwrap();
            let body = place.receive(Body::new(http_body_util::StreamBody::new(frames)));
            tokio::time::advance(TAKES * 10).await;
            // Every second one has come to the end when the time is over.
            if turn % 2 == 0 {
                drop(sender);
                body.collect().await.unwrap();
            }
            place.end(Code::DeadlineExceeded);
        }
        let lane = overload.0.services.read().unwrap()["switchboard.test.v1.Test"].own.limit();
        assert_eq!(lane, before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_still_sends_teaches_nothing() {
        let overload = known().await;
        let chat = call(Class::Chat);
        let (sender, frames) =
            futures::channel::mpsc::unbounded::<Result<http_body::Frame<bytes::Bytes>, Status>>();
        let mut place = overload.admit(&chat, ECHO, None).await.unwrap().unwrap();
        let body = place.receive(Body::new(http_body_util::StreamBody::new(frames)));
        tokio::time::advance(Duration::from_secs(100)).await;
        drop(sender);
        body.collect().await.unwrap();
        tokio::time::advance(TAKES).await;
        assert!(place.took().is_some_and(|took| took == TAKES), "{:?}", place.took());
        let (_sender, frames) =
            futures::channel::mpsc::unbounded::<Result<http_body::Frame<bytes::Bytes>, Status>>();
        let mut place = overload.admit(&chat, ECHO, None).await.unwrap().unwrap();
        let _body = place.receive(Body::new(http_body_util::StreamBody::new(frames)));
        assert_eq!(place.took(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_not_needed() {
    let nobody = Call::from_headers(&http::HeaderMap::new()).unwrap();
    let overload = Overload::new(small());
    let place = overload.admit(&nobody, ECHO, None).await.unwrap();
    let waiting = begin!(overload.admit(&nobody, ECHO, None));
    drop(place);
    assert!(waiting.await.unwrap().is_some());
}
