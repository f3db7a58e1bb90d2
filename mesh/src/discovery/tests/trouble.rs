//! etcd that is away, freezes, forgets, or was never there.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::*;
use crate::balance::{Connect, Connecting};

/// A way to etcd that can be closed.
#[derive(Default)]
struct Gate {
    closed: AtomicBool,
}

impl Connect for Gate {
    fn connect<'a>(&'a self, role: &'a str, uri: &'a http::Uri) -> Connecting<'a> {
        Box::pin(async move {
            match self.closed.load(Ordering::SeqCst) {
                true => Err("closed".into()),
                false => Plain.connect(role, uri).await,
            }
        })
    }
}

/// Looks on for longer than nodes that are missing are kept.
async fn look_on() {
    tokio::time::sleep(TTL * 2 + Duration::from_secs(7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_and_when_it_is_back_nobody_is_lost() {
    let mut server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    let two = registered(&server, "two", "127.0.0.1:7002").await;
    inference.until(Source::Registry, &["one", "two"]).await;
    let nobody_is_lost = inference.never_lacks(&["one", "two"]);
    block_in_place(|| server.kill());
    inference.until(Source::Memory, &["one", "two"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    block_in_place(|| server.restart());
    inference.until(Source::Registry, &["one", "two"]).await;
    look_on().await;
    nobody_is_lost.happened().await;
    // And all is as ever.
    two.registration.withdraw().await;
    inference.until(Source::Registry, &["one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_lost_its_data_gets_it_back_and_nobody_is_lost() {
    let mut server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    let two = registered(&server, "two", "127.0.0.1:7002").await;
    let _three = registered(&server, "three", "127.0.0.1:7003").await;
    inference.until(Source::Registry, &["one", "three", "two"]).await;
    let nobody_is_lost = inference.never_lacks(&["one", "three"]);
    for _ in 0..3 {
        block_in_place(|| {
            server.kill();
            server.wipe();
            server.restart();
        });
        has(&session(&server).await, &["one", "three", "two"]).await;
    }
    inference.until(Source::Registry, &["one", "three", "two"]).await;
    // One that ends meanwhile is given up in the end.
    block_in_place(|| server.kill());
    drop(two);
    block_in_place(|| {
        server.wipe();
        server.restart();
    });
    inference.until(Source::Registry, &["one", "three"]).await;
    look_on().await;
    nobody_is_lost.happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_freezes_is_noticed_and_nobody_is_lost() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let one = registered(&server, "one", "127.0.0.1:7001").await;
    inference.until(Source::Registry, &["one"]).await;
    let nobody_is_lost = inference.never_lacks(&["one"]);
    server.pause();
    inference.until(Source::Memory, &["one"]).await;
    // It knows as well, and its lease has ended when etcd goes on.
    let lost = one.registration.told.clone();
    timeout(Duration::from_secs(60), lost.clone().wait_for(|told| !*told)).await.unwrap().unwrap();
    tokio::time::sleep(TTL).await;
    assert!(!*lost.borrow());
    server.resume();
    inference.until(Source::Registry, &["one"]).await;
    look_on().await;
    nobody_is_lost.happened().await;
    timeout(Duration::from_secs(60), one.registration.registered()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compacted_meanwhile_is_listed_anew() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Compact {
        #[prost(int64, tag = "1")]
        revision: i64,
        #[prost(bool, tag = "2")]
        physical: bool,
    }
    let mut server = EtcdServer::start();
    let gate = Arc::new(Gate::default());
    let seams = Seams { connect: Some(gate.clone()), ..Seams::default() };
    let looker = Looker::start(&config(&server), Path::new("/"), seams);
    let mut inference = looker.watch("inference");
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    inference.until(Source::Registry, &["one"]).await;
    let value = |port: u16| layout::value(&format!("127.0.0.1:{port}"), &About::default());
    put(&session(&server).await, "inference/gone", &value(7002)).await;
    inference.until(Source::Registry, &["gone", "one"]).await;
    gate.closed.store(true, Ordering::SeqCst);
    block_in_place(|| server.restart());
    inference.until(Source::Memory, &["gone", "one"]).await;
    let session = session(&server).await;
    delete(&session, "inference/gone").await;
    put(&session, "inference/new", &value(7003)).await;
    let newest = session.range(RangeRequest { key: b"x".into(), ..RangeRequest::default() }).await.unwrap();
    let revision = newest.header.unwrap().revision;
    session.call::<_, Done>("/etcdserverpb.KV/Compact", Compact { revision, physical: true }).await.unwrap();
    gate.closed.store(false, Ordering::SeqCst);
    inference.until(Source::Registry, &["gone", "new", "one"]).await;
    inference.until(Source::Registry, &["new", "one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_etcd_serves_from_the_snapshot_and_goes_over_when_etcd_is_there() {
    let mut server = EtcdServer::start();
    let folder = TempDir::new().unwrap();
    let config = Config { snapshot: "members".into(), ..config(&server) };
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    let two = registered(&server, "two", "127.0.0.1:7002").await;
    let looker = Looker::start(&config, folder.path(), Seams::default());
    looker.watch("inference").until(Source::Registry, &["one", "two"]).await;
    looker.stop().await;
    block_in_place(|| server.kill());
    drop(two);
    let looker = Looker::start(&config, folder.path(), Seams::default());
    let mut inference = looker.watch("inference");
    assert_eq!(inference.ids(), ["one", "two"], "at once");
    assert_eq!(inference.0.borrow().source, Source::Snapshot);
    assert_eq!(inference.0.borrow().nodes[0].about.version, "1");
    block_in_place(|| server.restart());
    inference.until(Source::Registry, &["one", "two"]).await;
    inference.until(Source::Registry, &["one"]).await;
    looker.stop().await;
    // A damaged one is refused, and what the registry says is taken.
    std::fs::write(folder.path().join("members"), "switchboard-members 1 00\n{}").unwrap();
    let looker = Looker::start(&config, folder.path(), Seams::default());
    looker.watch("inference").until(Source::Registry, &["one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_etcd_a_node_starts_and_ends_all_the_same() {
    let mut server = EtcdServer::stopped();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    assert!(inference.ids().is_empty());
    let early = register(&config(&server), "early", "127.0.0.1:7001", &["inference"]);
    let leaving = register(&config(&server), "leaving", "127.0.0.1:7002", &["inference"]);
    let left = timeout(Duration::from_secs(4), leaving.registration.withdraw()).await;
    assert!(left.is_ok(), "nobody waits for an etcd that is not there");
    block_in_place(|| server.restart());
    inference.until(Source::Registry, &["early"]).await;
    timeout(Duration::from_secs(60), early.registration.registered()).await.unwrap();
    looker.stop().await;
}

/// A way to etcd on which everything takes `delay`, there and back.
async fn slow_way(server: &EtcdServer, delay: Duration) -> String {
    async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
        let (sent, mut under_way) = mpsc::unbounded_channel();
        let read = async move {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut bytes).await {
                let _ = sent.send((Instant::now() + delay, bytes[..length].to_vec()));
            }
        };
        let write = async move {
            while let Some((at, bytes)) = under_way.recv().await {
                sleep_until(at).await;
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(read, write);
    }
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", door.local_addr().unwrap());
    let etcd: http::Uri = server.url().parse().unwrap();
    let etcd = etcd.authority().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = door.accept().await {
            let Ok(far) = TcpStream::connect(&etcd).await else { continue };
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(from_near, to_far, delay));
            tokio::spawn(carry(from_far, to_near, delay));
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn many_roles_are_registered_over_a_slow_way_before_their_lease_ends() {
    let server = EtcdServer::start();
    let slow = Config { etcd: vec![slow_way(&server, Duration::from_millis(100)).await], ..config(&server) };
    let roles: Vec<String> = (0..40).map(|number| format!("role-{number}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    // One after the other they would take eight seconds, and the lease lives for two.
    let one = register(&slow, "one", "127.0.0.1:7001", &roles);
    timeout(Duration::from_secs(60), one.registration.registered()).await.unwrap();
    let looker = Looker::of(&server);
    let (mut first, mut last) = (looker.watch("role-0"), looker.watch("role-39"));
    first.until(Source::Registry, &["one"]).await;
    last.until(Source::Registry, &["one"]).await;
    let stays = [first.never_lacks(&["one"]), last.never_lacks(&["one"])];
    tokio::time::sleep(TTL * 2).await;
    for stays in stays {
        stays.happened().await;
    }
}
