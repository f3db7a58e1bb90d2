//! Members that come and go, what they tell of themselves, and how calls are spread over them.

use super::*;

/// Begins `count` calls that are not answered, and waits until they have arrived.
fn begin(channel: &Channel, count: usize) -> Vec<tokio::task::JoinHandle<Code>> {
    let one = |_| {
        let channel = channel.clone();
        tokio::spawn(async move { ask(&channel, As::One).await })
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn calls_go_to_the_node_with_fewer_under_way() {
    let (a, b) = (Fake::default(), Fake::default());
    for fake in [&a, &b] {
        fake.hangs.store(true, Ordering::SeqCst);
    }
    let (channel, _nodes) = serve([&a, &b]).await;
    let calls = begin(&channel, 10);
    until(|| a.calls() + b.calls() == 10).await;
    assert_eq!((a.calls(), b.calls()), (5, 5));
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| snapshot(&channel).nodes.iter().all(|node| node.in_flight == 0)).await;
}

#[tokio::test]
async fn a_call_is_under_way_to_the_end_of_its_stream() {
    let fake = Fake::default();
    fake.streams.store(true, Ordering::SeqCst);
    let (channel, nodes) = serve([&fake]).await;
    let response = asked(&channel, As::One, &testing::call("acme")).await;
    assert_eq!(telemetry::code_of(&response), None);
    assert_eq!(node(&channel, &nodes[0].0).in_flight, 1);
    drop(response);
    assert_eq!(node(&channel, &nodes[0].0).in_flight, 0);
    fake.streams.store(false, Ordering::SeqCst);
    let response = asked(&channel, As::One, &testing::call("acme")).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(node(&channel, &nodes[0].0).in_flight, 0);
}

#[tokio::test]
async fn a_stream_whose_connection_breaks_is_unavailable() {
    let fake = Fake::default();
    fake.streams.store(true, Ordering::SeqCst);
    let (channel, mut nodes) = serve([&fake]).await;
    let response = asked(&channel, As::Any, &testing::call("acme")).await;
    assert_eq!(telemetry::code_of(&response), None);
    stop(nodes.remove(0)).await;
    let status = response.into_body().collect().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn members_come_and_go_and_their_calls_go_on() {
    let (a, b) = (Fake::default(), Fake::default());
    a.streams.store(true, Ordering::SeqCst);
    let (uri_a, _guard_a) = testing::listen(&a.mounted()).await;
    let (uri_b, _guard_b) = testing::listen(&b.mounted()).await;
    let (channel, sender) = discovered(Config::default(), vec![]);
    assert_eq!(ask(&channel, As::One).await, Code::Unavailable);
    sender.send(told(vec![Member::at(uri_a.clone())])).unwrap();
    let mut open = asked(&channel, As::One, &short(300)).await.into_body();
    sender.send(told(vec![Member::at(uri_a.clone()), Member::at(uri_b.clone())])).unwrap();
    assert_eq!(node(&channel, &uri_a).in_flight, 1, "what is known of a node that stays is kept");
    sender.send(told(vec![Member::at(uri_b)])).unwrap();
    for _ in 0..4 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (1, 4));
    // The stream of the node that went is ended by its deadline and by nothing else.
    let last = open.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(telemetry::code_in(&last), Some(Code::DeadlineExceeded));
}

#[tokio::test]
async fn a_process_that_started_again_is_a_new_one() {
    let a = Fake::default();
    a.hangs.store(true, Ordering::SeqCst);
    let (uri, _guard) = testing::listen(&a.mounted()).await;
    let member =
        |started_at| Member { about: About { started_at, ..About::default() }, ..Member::at(uri.clone()) };
    let (channel, sender) = discovered(Config::default(), vec![member(1)]);
    let calls = begin(&channel, 1);
    until(|| a.calls() == 1).await;
    sender.send(told(vec![member(1)])).unwrap();
    assert_eq!(node(&channel, &uri).in_flight, 1);
    sender.send(told(vec![member(2)])).unwrap();
    let known = node(&channel, &uri);
    assert_eq!((known.in_flight, known.state), (0, NodeState::SlowStart));
    calls[0].abort();
}

fn with_models(uri: &Uri, models: &[&str]) -> Member {
    let models = models.iter().map(|name| ((*name).to_owned(), AboutModel::default())).collect();
    Member { about: About { models, ..About::default() }, ..Member::at(uri.clone()) }
}

#[tokio::test]
async fn only_nodes_that_have_the_model_are_asked() {
    let (a, b) = (Fake::default(), Fake::default());
    let (uri_a, _guard_a) = testing::listen(&a.mounted()).await;
    let (uri_b, _guard_b) = testing::listen(&b.mounted()).await;
    let members = vec![with_models(&uri_a, &["small"]), with_models(&uri_b, &["small", "large"])];
    let (channel, _sender) = discovered(Config::default(), members);
    for _ in 0..10 {
        assert_eq!(ask(&channel, As::For("large")).await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (0, 10));
    assert_eq!(b.heard.lock().unwrap().1.get(call::MODEL).unwrap(), "large");
    // The one that has it is not replaced by one that has not.
    b.code.store(Code::ResourceExhausted as u32, Ordering::SeqCst);
    assert_eq!(ask(&channel, As::For("large")).await, Code::ResourceExhausted);
    assert_eq!(a.calls(), 0);
    // What nobody tells of may have been loaded a moment ago.
    assert_eq!(ask(&channel, As::For("new")).await, Code::Ok);
}

#[tokio::test]
async fn where_nobody_tells_of_models_who_lacks_one_is_remembered() {
    let (a, b) = (Fake::with(Code::NotFound), Fake::default());
    let (channel, _nodes) = serve([&a, &b]).await;
    for _ in 0..20 {
        assert_eq!(ask(&channel, As::For("large")).await, Code::Ok);
    }
    assert!(a.calls() <= 1, "{}", a.calls());
    // Only of that model.
    a.code.store(Code::Ok as u32, Ordering::SeqCst);
    let before = a.calls();
    while a.calls() == before {
        assert_eq!(ask(&channel, As::For("small")).await, Code::Ok);
    }
}

#[tokio::test]
async fn the_own_zone_is_asked_and_the_other_stands_in() {
    let (a, b) = (Fake::default(), Fake::default());
    let (uri_a, guard_a) = testing::listen(&a.mounted()).await;
    let (uri_b, _guard_b) = testing::listen(&b.mounted()).await;
    let in_zone = |uri: &Uri, zone: &str| Member {
        about: About { zone: zone.into(), ..About::default() },
        ..Member::at(uri.clone())
    };
    let config = Config { zone: "near".into(), ..Config::default() };
    let (channel, _sender) = discovered(config, vec![in_zone(&uri_a, "near"), in_zone(&uri_b, "far")]);
    for _ in 0..20 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (20, 0));
    stop((uri_a, guard_a)).await;
    for _ in 0..5 {
        assert_eq!(ask(&channel, As::One).await, Code::Ok);
    }
    assert_eq!(b.calls(), 5);
}
