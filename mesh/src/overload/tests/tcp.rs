//! Admission over a real connection: a slow toy service, called by a plain tonic client.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use tonic::transport::{self, Endpoint};

use super::*;
use crate::server::{self, Limits};

/// Fails a test that waits for what never comes.
async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("it should have come by now")
}

/// A plain client that calls with `class`, and reads the answer to its end.
async fn ask(channel: &transport::Channel, path: &str, class: Class) -> Result<(), Status> {
    let mut request = Request::post(path).body(Body::empty()).unwrap();
    call(class).write(request.headers_mut());
    let response = soon(channel.clone().oneshot(request)).await.unwrap();
    if let Some(refused) = Status::from_header_map(response.headers()) {
        return Err(refused);
    }
    let trailers = soon(response.into_body().collect()).await.unwrap().trailers().cloned();
    assert_eq!(trailers.as_ref().and_then(telemetry::code_in), Some(Code::Ok));
    Ok(())
}

#[tokio::test]
async fn a_slow_service_refuses_batch_first_lets_voice_in_and_pushes_back() {
    let config = Config { initial: 3, floor: 3, ceiling: 3, queue: 2, voice_share: 0.0, ..Config::default() };
    let rig = Rig::new(Config { max_wait: Duration::from_secs(10), ..config });
    let listener = server::bind("test", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let serving = server::serve(listener, rig.stack.clone(), Limits::default(), stop, Duration::ZERO);
    tokio::spawn(serving);
    let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
    ask(&channel, ECHO, Class::Chat).await.unwrap();
    let lane = rig.lane(None);
    let begin = |class| {
        tokio::spawn({
            let channel = channel.clone();
            async move { ask(&channel, HANG, class).await }
        })
    };
    let until = async |what: &dyn Fn() -> bool| {
        soon(async {
            while !what() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    // Three are under way, and two of class batch wait.
    let under_way = [Class::Batch, Class::Chat, Class::Chat].map(begin);
    until(&|| lane.in_flight() == 3).await;
    let waiting = [Class::Batch, Class::Batch].map(begin);
    until(&|| lane.waiting() == 2).await;
    // A third is refused at once, and told to keep away for a while.
    let refused = ask(&channel, HANG, Class::Batch).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pushback: u64 = refused.metadata().get(PUSHBACK).unwrap().to_str().unwrap().parse().unwrap();
    assert!(pushback >= 1000, "{pushback}");
    let told = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(told.is_some_and(|told| told >= Duration::from_secs(1)), "{told:?}");
    // Voice takes the place of one that waits, which is refused; both go once there is room.
    let voice = begin(Class::Voice);
    until(&|| waiting.iter().any(tokio::task::JoinHandle::is_finished)).await;
    assert_eq!(lane.waiting(), 2);
    rig.open.send(true).unwrap();
    soon(voice).await.unwrap().unwrap();
    for call in under_way {
        soon(call).await.unwrap().unwrap();
    }
    let mut codes = Vec::new();
    for call in waiting {
        codes.push(soon(call).await.unwrap().map_or_else(|status| status.code(), |()| Code::Ok));
    }
    codes.sort_by_key(|code| *code as i32);
    assert_eq!(codes, [Code::Ok, Code::ResourceExhausted]);
}
