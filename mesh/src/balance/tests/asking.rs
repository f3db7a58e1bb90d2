//! What goes to another node, what is sent again, and what is not.

use super::*;

#[tokio::test]
async fn what_one_node_lacks_or_has_no_room_for_another_is_asked() {
    for code in [
        Code::NotFound,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::ResourceExhausted,
        Code::Unavailable,
    ] {
        let (a, b) = (Fake::with(code), Fake::default());
        let (channel, _nodes) = serve([&a, &b]).await;
        for _ in 0..4 {
            assert_eq!(ask(&channel, As::Any).await, Code::Ok, "{code:?}");
        }
        assert_eq!(b.calls(), 4);
        assert_eq!(b.heard.lock().unwrap().0.as_slice(), b"said", "the message is whole");
    }
}

#[tokio::test]
async fn an_answer_is_an_answer_and_is_not_asked_for_twice() {
    let (a, b) = (Fake::with(Code::InvalidArgument), Fake::with(Code::InvalidArgument));
    let (channel, _nodes) = serve([&a, &b]).await;
    assert_eq!(ask(&channel, As::Any).await, Code::InvalidArgument);
    assert_eq!(a.calls() + b.calls(), 1);
    // What may change something is sent once, whatever comes back.
    for fake in [&a, &b] {
        fake.code.store(Code::Unavailable as u32, Ordering::SeqCst);
    }
    assert_eq!(ask(&channel, As::One).await, Code::Unavailable);
    assert_eq!(a.calls() + b.calls(), 2);
}

#[tokio::test]
async fn of_several_refusals_the_one_to_try_again_is_told() {
    for (a, b, told) in [
        (Code::NotFound, Code::ResourceExhausted, Code::ResourceExhausted),
        (Code::ResourceExhausted, Code::Unavailable, Code::ResourceExhausted),
        (Code::NotFound, Code::Unavailable, Code::Unavailable),
        (Code::NotFound, Code::NotFound, Code::NotFound),
    ] {
        let (a, b) = (Fake::with(a), Fake::with(b));
        let (channel, _nodes) = serve([&a, &b]).await;
        for calls in 1..=2 {
            assert_eq!(ask(&channel, As::Any).await, told);
            assert_eq!((a.calls(), b.calls()), (calls, calls), "each is asked once");
        }
    }
}

/// Accepts connections and closes each when the head of a request has arrived.
async fn breaks_at_each_request(listener: TcpListener, requests: Arc<AtomicU32>) {
    const PREFACE: usize = 24;
    const FRAME_HEAD: usize = 9;
    const HEADERS: u8 = 1;
    while let Ok((mut stream, _)) = listener.accept().await {
        stream.read_exact(&mut [0; PREFACE]).await.unwrap();
        let mut head = [0; FRAME_HEAD];
        while head[3] != HEADERS {
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        }
        requests.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_call_whose_connection_breaks_is_sent_again_only_if_it_changes_nothing() {
    for (mark, ends) in [(As::One, Code::Unavailable), (As::Any, Code::Ok)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let breaking: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let serving = tokio::spawn(breaks_at_each_request(listener, Arc::clone(&requests)));
        let (uri, _guard) = testing::listen(&Fake::default().mounted()).await;
        let channel = Channel::over("test", vec![breaking.clone(), uri]);
        let mut last = Code::Ok;
        while requests.load(Ordering::SeqCst) == 0 {
            assert_eq!(last, Code::Ok);
            last = ask(&channel, mark).await;
        }
        assert_eq!(last, ends, "{mark:?}");
        assert_eq!(node(&channel, &breaking).reason, Some("connection"));
        serving.abort();
    }
}

#[tokio::test]
async fn the_only_node_is_asked_again_after_a_while() {
    let fake = Fake::with(Code::Unavailable);
    *fake.first.lock().unwrap() = Some(2);
    let (channel, _nodes) = serve([&fake]).await;
    assert_eq!(ask(&channel, As::Any).await, Code::Ok);
    assert_eq!(fake.calls(), 3);
    // At most three times in all.
    *fake.first.lock().unwrap() = None;
    assert_eq!(ask(&channel, As::Any).await, Code::Unavailable);
    assert_eq!(fake.calls(), 6);
}

#[tokio::test]
async fn a_node_that_is_full_is_asked_again_only_if_it_says_when() {
    for (pushback, calls) in [(None, 1), (Some("1"), 3), (Some("-1"), 1), (Some("never"), 1)] {
        let fake = Fake::with(Code::ResourceExhausted);
        *fake.pushback.lock().unwrap() = pushback;
        let (channel, _nodes) = serve([&fake]).await;
        assert_eq!(ask(&channel, As::Any).await, Code::ResourceExhausted);
        assert_eq!(fake.calls(), calls, "{pushback:?}");
    }
}

#[tokio::test]
async fn a_wait_that_outlasts_the_deadline_is_not_begun() {
    let fake = Fake::with(Code::Unavailable);
    *fake.pushback.lock().unwrap() = Some("20000");
    let (channel, _nodes) = serve([&fake]).await;
    assert_eq!(ask_by(&channel, As::Any, &short(10_000)).await, Code::Unavailable);
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_again() {
    let (a, b) = (Fake::with(Code::Unavailable), Fake::with(Code::Unavailable));
    let (channel, _nodes) = serve_with(Config { retries: 0, ..Config::default() }, [&a, &b]).await;
    assert_eq!(ask(&channel, As::Any).await, Code::Unavailable);
    assert_eq!(a.calls() + b.calls(), 1);
    // What a node lacks costs nobody anything.
    let (a, b) = (Fake::with(Code::NotFound), Fake::with(Code::NotFound));
    let (channel, _nodes) = serve_with(Config { retries: 0, ..Config::default() }, [&a, &b]).await;
    assert_eq!(ask(&channel, As::Any).await, Code::NotFound);
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

#[tokio::test]
async fn a_slow_call_is_hedged_once_enough_is_known() {
    let next_hangs = Arc::new(AtomicBool::new(false));
    let fake = || Fake { next_hangs: Arc::clone(&next_hangs), ..Fake::default() };
    let (a, b) = (fake(), fake());
    let (channel, _nodes) = serve([&a, &b]).await;
    for _ in 0..60 {
        assert_eq!(ask(&channel, As::Hedged).await, Code::Ok);
    }
    let (before_a, before_b) = (a.calls(), b.calls());
    next_hangs.store(true, Ordering::SeqCst);
    assert_eq!(ask(&channel, As::Hedged).await, Code::Ok, "another node answers");
    assert_eq!((a.calls() - before_a, b.calls() - before_b), (1, 1), "never the same");
    let in_flight = || snapshot(&channel).nodes.iter().map(|node| node.in_flight).sum::<u32>();
    until(|| in_flight() == 0).await;
    // Without the mark nobody else is asked.
    next_hangs.store(true, Ordering::SeqCst);
    assert_eq!(ask_by(&channel, As::Any, &short(50)).await, Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_hedged() {
    let next_hangs = Arc::new(AtomicBool::new(false));
    let fake = || Fake { next_hangs: Arc::clone(&next_hangs), ..Fake::default() };
    let (a, b) = (fake(), fake());
    let (channel, _nodes) = serve([&a, &b]).await;
    for _ in 0..60 {
        assert_eq!(ask(&channel, As::Hedged).await, Code::Ok);
    }
    next_hangs.store(true, Ordering::SeqCst);
    let batch = short(100).with_class(Class::Batch);
    assert_eq!(ask_by(&channel, As::Hedged, &batch).await, Code::DeadlineExceeded);
    assert_eq!(a.calls() + b.calls(), 61);
}

#[tokio::test]
async fn errors_say_nothing_of_how_long_an_answer_takes() {
    let next_hangs = Arc::new(AtomicBool::new(false));
    let fake = || Fake { next_hangs: Arc::clone(&next_hangs), ..Fake::with(Code::InvalidArgument) };
    let (a, b) = (fake(), fake());
    let (channel, _nodes) = serve([&a, &b]).await;
    for _ in 0..60 {
        assert_eq!(ask(&channel, As::Hedged).await, Code::InvalidArgument);
    }
    next_hangs.store(true, Ordering::SeqCst);
    assert_eq!(ask_by(&channel, As::Hedged, &short(100)).await, Code::DeadlineExceeded);
}

#[tokio::test]
async fn errors_pay_for_no_retries() {
    let fake = Fake::with(Code::Unavailable);
    let (channel, _nodes) = serve_with(Config { retries: 2, ..Config::default() }, [&fake]).await;
    assert_eq!(ask(&channel, As::Any).await, Code::Unavailable);
    assert_eq!(fake.calls(), 2, "until half of the budget is gone");
    fake.code.store(Code::InvalidArgument as u32, Ordering::SeqCst);
    for _ in 0..40 {
        assert_eq!(ask(&channel, As::Any).await, Code::InvalidArgument);
    }
    fake.code.store(Code::Unavailable as u32, Ordering::SeqCst);
    assert_eq!(ask(&channel, As::Any).await, Code::Unavailable);
    assert_eq!(fake.calls(), 43);
}

/// Connections that take a while.
struct Slow(Duration);

impl Connect for Slow {
    fn connect<'a>(&'a self, role: &'a str, uri: &'a Uri) -> Connecting<'a> {
        Box::pin(async move {
            tokio::time::sleep(self.0).await;
            Plain.connect(role, uri).await
        })
    }
}

#[tokio::test]
async fn a_node_is_told_what_is_left_when_the_request_is_sent() {
    const SLOW: Duration = Duration::from_millis(400);
    for mark in [As::One, As::Any, As::Hedged] {
        let fake = Fake::default();
        let (uri, _guard) = testing::listen(&fake.mounted()).await;
        let (_told, members) = watch::channel(told(vec![Member::at(uri)]));
        let options = Options { connect: Arc::new(Slow(SLOW)), ..Options::default() };
        let channel = Channel::discovered("test", members, options);
        assert_eq!(ask_by(&channel, mark, &short(5000)).await, Code::Ok);
        let heard = fake.heard.lock().unwrap().1[deadline::HEADER].clone();
        let left = deadline::parse(&heard).unwrap();
        assert!(left <= Duration::from_millis(5000) - SLOW, "{mark:?} {left:?}");
    }
}

#[tokio::test]
async fn hedges_are_capped() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, _nodes) = serve_with(Config { hedges: 0.0, ..Config::default() }, [&a, &b]).await;
    for _ in 0..60 {
        assert_eq!(ask(&channel, As::Hedged).await, Code::Ok);
    }
    for fake in [&a, &b] {
        fake.hangs.store(true, Ordering::SeqCst);
    }
    let before = a.calls() + b.calls();
    assert_eq!(ask_by(&channel, As::Hedged, &short(50)).await, Code::DeadlineExceeded);
    assert_eq!(a.calls() + b.calls() - before, 1);
}
