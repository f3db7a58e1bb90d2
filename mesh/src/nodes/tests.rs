use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32},
};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::DropGuard;

use super::*;
use crate::{Channel as MeshChannel, Mounted, testing};

/// A node that ends each call with a code, and counts them.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<AtomicU32>,
    code: Arc<AtomicU32>,
    /// Calls wait for their caller to go.
    hangs: Arc<AtomicBool>,
    /// What the last call said.
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    fn with(code: Code) -> Self {
        Self { code: Arc::new(AtomicU32::new(code as u32)), ..Self::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn mounted(&self) -> Mounted {
        let fake = self.clone();
        let answer = move |body: Bytes| {
            let fake = fake.clone();
            async move {
                fake.calls.fetch_add(1, Ordering::SeqCst);
                *fake.heard.lock().unwrap() = body.to_vec();
                if fake.hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let code = Code::from(fake.code.load(Ordering::SeqCst) as i32);
                let status = Status::new(code, format!("{code:?}"));
                if code == Code::Ok { Response::new(Body::empty()) } else { status.into_http() }
            }
        };
        let router = axum::Router::new().route("/switchboard.test.v1.Test/Ask", axum::routing::any(answer));
        Mounted { role: "test", routes: router.into(), services: vec![] }
    }
}

/// Nodes that serve, and a channel to them all.
async fn serve<const N: usize>(fakes: [&Fake; N]) -> (MeshChannel, Vec<(Uri, DropGuard)>) {
    let mut nodes = Vec::new();
    for fake in fakes {
        nodes.push(testing::listen(&fake.mounted()).await);
    }
    let addresses = nodes.iter().map(|(uri, _)| uri.clone()).collect();
    (MeshChannel::over("test", addresses), nodes)
}

/// Asks once; OK is what it ends with when the answer has begun.
async fn ask(channel: &MeshChannel, any: bool) -> Code {
    ask_for(channel, any, &testing::call("acme")).await
}

async fn ask_for(channel: &MeshChannel, any: bool, call: &Call) -> Code {
    let marked = if any { call.request_to_any(()) } else { call.request(()) };
    let mut request = Request::post("http://mesh/switchboard.test.v1.Test/Ask")
        .body(Body::new(Full::from("said")))
        .unwrap();
    *request.extensions_mut() = marked.into_parts().1;
    let response = channel.clone().oneshot(request).await.unwrap();
    telemetry::code_of(&response).unwrap_or(Code::Ok)
}

/// Stops a node and waits until nobody listens at its address.
async fn stop(node: (Uri, DropGuard)) -> String {
    let address = node.0.authority().unwrap().to_string();
    drop(node.1);
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    address
}

#[tokio::test]
async fn nodes_take_calls_in_turn() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, _nodes) = serve([&a, &b]).await;
    for _ in 0..10 {
        assert_eq!(ask(&channel, false).await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (5, 5));
}

#[tokio::test]
async fn a_node_that_goes_is_left_out_until_it_is_back() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, mut nodes) = serve([&a, &b]).await;
    for _ in 0..4 {
        assert_eq!(ask(&channel, true).await, Code::Ok);
    }
    let address = stop(nodes.remove(0)).await;
    let before = b.calls();
    for _ in 0..6 {
        assert_eq!(ask(&channel, true).await, Code::Ok, "another one answers");
    }
    assert_eq!(b.calls() - before, 6);
    // What is known to be away costs no call, whoever made it.
    for _ in 0..6 {
        assert_eq!(ask(&channel, false).await, Code::Ok);
    }
    let listener = TcpListener::bind(&address).await.unwrap();
    let stack = crate::server::Stack::new(a.mounted().routes);
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = crate::server::serve(listener, stack, Default::default(), stop.clone(), Duration::ZERO);
    let serving = tokio::spawn(serving);
    let known = a.calls();
    while a.calls() == known {
        assert_eq!(ask(&channel, false).await, Code::Ok);
    }
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_node_that_was_never_there_costs_no_call() {
    let a = Fake::default();
    let (uri, _guard) = testing::listen(&a.mounted()).await;
    // Nobody listens on the discard port of loopback.
    let channel = MeshChannel::over("test", vec![Uri::from_static("http://127.0.0.1:9"), uri]);
    for _ in 0..4 {
        assert_eq!(ask(&channel, false).await, Code::Ok);
    }
    assert_eq!(a.calls(), 4);
}

#[tokio::test]
async fn a_node_that_is_slow_is_not_taken_for_one_that_is_away() {
    let (a, b) = (Fake::default(), Fake::default());
    let (channel, _nodes) = serve([&a, &b]).await;
    a.hangs.store(true, Ordering::SeqCst);
    let soon = testing::call("acme").until(crate::Deadline::after(Duration::from_millis(50)));
    assert_eq!(ask_for(&channel, true, &soon).await, Code::DeadlineExceeded);
    a.hangs.store(false, Ordering::SeqCst);
    for _ in 0..4 {
        assert_eq!(ask(&channel, true).await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (3, 2));
}

#[tokio::test]
async fn without_any_node_a_call_is_unavailable() {
    let far = Uri::from_static("http://127.0.0.1:9");
    for nodes in [vec![], vec![far.clone()], vec![far.clone(), far]] {
        let channel = MeshChannel::over("test", nodes);
        for any in [false, true, true] {
            assert_eq!(ask(&channel, any).await, Code::Unavailable);
        }
    }
}

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
            assert_eq!(ask(&channel, true).await, Code::Ok, "{code:?}");
        }
        assert_eq!(b.calls(), 4);
        assert_eq!(b.heard.lock().unwrap().as_slice(), b"said", "the message is whole");
    }
}

#[tokio::test]
async fn an_answer_is_an_answer_and_is_not_asked_for_twice() {
    let (a, b) = (Fake::with(Code::InvalidArgument), Fake::with(Code::InvalidArgument));
    let (channel, _nodes) = serve([&a, &b]).await;
    assert_eq!(ask(&channel, true).await, Code::InvalidArgument);
    assert_eq!(a.calls() + b.calls(), 1);
    // What may change something is sent once, whatever comes back.
    for fake in [&a, &b] {
        fake.code.store(Code::Unavailable as u32, Ordering::SeqCst);
    }
    assert_eq!(ask(&channel, false).await, Code::Unavailable);
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
            assert_eq!(ask(&channel, true).await, told);
            assert_eq!((a.calls(), b.calls()), (calls, calls), "each is asked once");
        }
    }
}
