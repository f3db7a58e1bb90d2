//! Nodes that fail are left out, and come back.

use super::*;

/// Nodes that failed are not avoided longer than they are out, so that what takes them out is seen.
fn quick() -> Config {
    Config {
        penalty: Duration::from_millis(1),
        ejection: Duration::from_millis(20),
        interval: Duration::from_millis(100),
        slow_start: Duration::from_millis(1),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_node_that_goes_is_left_out_until_it_is_back() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, mut nodes) = serve([&a, &b]).await;
    while a.calls() == 0 || b.calls() == 0 {
        assert_eq!(ask(&channel, As::Any).await, Code::Ok);
    }
    let address = stop(nodes.remove(0)).await;
    let (known, before) = (a.calls(), b.calls());
    for _ in 0..6 {
        assert_eq!(ask(&channel, As::Any).await, Code::Ok, "another one answers");
    }
    // What cannot be sent is sent to another, whoever asks.
    for _ in 0..6 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!((a.calls() - known, b.calls() - before), (0, 12));
    let _back = serve_at(&address, &a).await;
    while a.calls() == known {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
}

#[tokio::test]
async fn a_node_that_was_never_there_costs_no_call() {
    let a = Fake::default();
    let (uri, _guard) = testing::listen(&a.mounted()).await;
    let channel = Channel::over("test", vec![nowhere(), uri]);
    for _ in 0..4 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!(a.calls(), 4);
}

#[tokio::test]
async fn a_node_that_is_slow_is_not_taken_for_one_that_is_away() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, nodes) = serve([&a, &b]).await;
    a.hangs.store(true, Ordering::SeqCst);
    while ask_by(&channel, As::Any, &short(50)).await != Code::DeadlineExceeded {}
    assert_eq!(node(&channel, &nodes[0].0).reason, None);
    a.hangs.store(false, Ordering::SeqCst);
    for _ in 0..4 {
        assert_eq!(ask(&channel, As::Any).await, Code::Ok);
    }
}

#[tokio::test]
async fn a_node_that_stays_silent_goes_out() {
    let a = Fake::default();
    let b = Fake::default();
    let (channel, nodes) = serve([&a, &b]).await;
    while a.calls() == 0 || b.calls() == 0 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    for fake in [&a, &b] {
        fake.hangs.store(true, Ordering::SeqCst);
    }
    let call = short(700);
    let calls = (0..10).map(|_| ask_by(&channel, As::One, &call));
    let codes = futures::future::join_all(calls).await;
    assert!(codes.iter().all(|code| *code == Code::DeadlineExceeded), "{codes:?}");
    // However they were spread, one had five.
    assert!(nodes.iter().any(|(uri, _)| node(&channel, uri).reason == Some("failures")));
    // Nobody else waits for a role that does not answer.
    assert_eq!(snapshot(&channel).breaker, "open");
    assert_eq!(ask(&channel, As::One).await, Code::Unavailable);
}

/// A node that hangs, of which it is known that it usually answers at once.
async fn hanging() -> (Fake, Channel, (Uri, DropGuard)) {
    let fake = Fake::default();
    let (channel, mut nodes) = serve([&fake]).await;
    assert_eq!(ask(&channel, As::One).await, Code::Ok);
    fake.hangs.store(true, Ordering::SeqCst);
    (fake, channel, nodes.remove(0))
}

fn assert_well(channel: &Channel) {
    let known = snapshot(channel);
    assert_eq!((known.breaker, known.nodes[0].reason), ("closed", None));
}

#[tokio::test]
async fn callers_who_leave_early_say_nothing_of_a_node() {
    let (_fake, channel, _node) = hanging().await;
    let call = testing::call("acme");
    let leave = |_| tokio::time::timeout(Duration::from_millis(600), ask_by(&channel, As::One, &call));
    let left = futures::future::join_all((0..10).map(leave)).await;
    assert!(left.iter().all(Result::is_err));
    assert_well(&channel);
}

#[tokio::test]
async fn a_node_that_answers_others_is_not_silent() {
    let (fake, channel, _node) = hanging().await;
    let call = short(700);
    let calls = futures::future::join_all((0..10).map(|_| ask_by(&channel, As::One, &call)));
    let others = async {
        until(|| fake.calls() == 11).await;
        fake.hangs.store(false, Ordering::SeqCst);
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    };
    let (codes, ()) = tokio::join!(calls, others);
    assert!(codes.iter().all(|code| *code == Code::DeadlineExceeded), "{codes:?}");
    assert_well(&channel);
}

#[tokio::test]
async fn who_still_sends_has_not_been_kept_waiting() {
    let (_fake, channel, _node) = hanging().await;
    let send = |_| {
        let endless = futures::stream::pending::<Result<http_body::Frame<Bytes>, Status>>();
        let body = Body::new(http_body_util::StreamBody::new(endless));
        let mut request = Request::post("http://mesh/switchboard.test.v1.Test/Ask").body(body).unwrap();
        request.extensions_mut().insert(short(700));
        channel.clone().oneshot(request)
    };
    for response in futures::future::join_all((0..10).map(send)).await {
        assert_eq!(telemetry::code_of(&response.unwrap()), Some(Code::DeadlineExceeded));
    }
    assert_well(&channel);
}

#[tokio::test]
async fn many_calls_that_break_with_one_node_do_not_take_the_role_down() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, mut nodes) = serve([&a, &b]).await;
    while a.calls() == 0 || b.calls() == 0 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    for fake in [&a, &b] {
        fake.hangs.store(true, Ordering::SeqCst);
    }
    // More with the one than a breaker bears, however they are spread.
    let (known, mut open) = (a.calls(), tokio::task::JoinSet::new());
    while a.calls() < known + 10 {
        let (channel, before) = (channel.clone(), a.calls() + b.calls());
        open.spawn(async move { ask(&channel, As::One).await });
        until(|| a.calls() + b.calls() > before).await;
    }
    b.hangs.store(false, Ordering::SeqCst);
    // With it goes its connection, and all that it carried.
    stop(nodes.remove(0)).await;
    for _ in 0..10 {
        assert_eq!(open.join_next().await.unwrap().unwrap(), Code::Unavailable);
    }
    assert_eq!(snapshot(&channel).breaker, "closed");
    assert_eq!(ask(&channel, As::One).await, Code::Ok);
}

#[tokio::test]
async fn failures_in_a_row_take_a_node_out_and_a_probe_brings_it_back() {
    let (a, b) = (Fake::with(Code::Internal), Fake::default());
    let (channel, nodes) = serve_with(quick(), [&a, &b]).await;
    let uri = &nodes[0].0;
    while node(&channel, uri).reason != Some("failures") {
        ask(&channel, As::One).await;
    }
    assert_eq!(a.calls(), 5);
    a.code.store(Code::Ok as u32, Ordering::SeqCst);
    while a.calls() == 5 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!(node(&channel, uri).reason, None);
}

#[tokio::test]
async fn of_two_nodes_the_one_that_fails_more_goes_out() {
    let (a, b) = (Fake::with(Code::Internal), Fake::default());
    a.every_second.store(true, Ordering::SeqCst);
    let (channel, nodes) = serve_with(quick(), [&a, &b]).await;
    while node(&channel, &nodes[0].0).reason != Some("rate") {
        ask(&channel, As::One).await;
    }
    assert_eq!(node(&channel, &nodes[1].0).reason, None);
}

#[tokio::test]
async fn a_process_that_accepts_and_does_not_answer_is_not_back() {
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}", frozen.local_addr().unwrap()).parse().unwrap();
    let endpoint = Endpoint::new(&Member::at(uri), Instant::now());
    assert!(!endpoint.probe(&Plain, "test").await);
    let (uri, _guard) = testing::listen(&Fake::default().mounted()).await;
    let endpoint = Endpoint::new(&Member::at(uri), Instant::now());
    assert!(endpoint.probe(&Plain, "test").await, "a node without a health service lives");
}

#[tokio::test]
async fn a_role_that_is_down_says_so_at_once_until_it_is_back() {
    let fake = Fake::default();
    let (uri, guard) = testing::listen(&fake.mounted()).await;
    let channel = Channel::tcp("test", uri.clone());
    let address = stop((uri, guard)).await;
    while snapshot(&channel).breaker == "closed" {
        assert_eq!(ask(&channel, As::One).await, Code::Unavailable);
    }
    let refused = asked(&channel, As::One, &testing::call("acme")).await;
    let status = Status::from_header_map(refused.headers()).unwrap();
    assert!(status.message().contains("down"), "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let _back = serve_at(&address, &fake).await;
    while ask(&channel, As::One).await != Code::Ok {}
    assert_eq!(snapshot(&channel).breaker, "closed");
}

#[tokio::test]
async fn without_any_node_a_call_is_unavailable() {
    let far = nowhere();
    for nodes in [vec![], vec![far.clone()], vec![far.clone(), far]] {
        let channel = Channel::over("test", nodes);
        for mark in [As::One, As::Any, As::Any, As::Hedged] {
            assert_eq!(ask(&channel, mark).await, Code::Unavailable);
        }
    }
}
