//! The parts of the chaos test that decide what it says: when a percentile is back, and what its proxy
//! does to connections.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use self::{
    measure::{Point, back, percentile},
    proxy::{Fault, Proxy},
};

#[allow(dead_code, reason = "the bench uses all of it")]
#[path = "../../benches/chaos/measure.rs"]
mod measure;
#[path = "../../benches/chaos/proxy.rs"]
mod proxy;

/// Twenty turns a second until `end`; those that are due in `slow` take a second.
fn points(end: f64, slow: std::ops::Range<f64>) -> Vec<Point> {
    let due = (0..).map(|number| f64::from(number) / 20.0).take_while(|due| *due < end);
    due.map(|due| Point { due, took: if slow.contains(&due) { 1.0 } else { 0.01 } }).collect()
}

#[test]
fn a_percentile_is_back_when_it_stays_so() {
    let found = |slow| back(&points(30.0, slow), 10.0, 20.0, 0.05);
    assert_eq!(found(0.0..0.0), Some(0.0));
    assert_eq!(found(10.0..11.5), Some(1.5));
    // A second of calm is not enough, since it does not last.
    let mut twice = points(30.0, 10.0..11.0);
    twice.iter_mut().filter(|point| (14.0..14.5).contains(&point.due)).for_each(|point| point.took = 1.0);
    assert_eq!(back(&twice, 10.0, 20.0, 0.05), Some(4.5));
    assert_eq!(found(10.0..30.0), None);
    // Nobody was served.
    assert_eq!(back(&[], 10.0, 20.0, 0.05), None);
}

#[test]
fn a_turn_without_an_answer_took_for_ever() {
    let mut lost = points(30.0, 0.0..0.0);
    lost.iter_mut()
        .filter(|point| (12.0..12.1).contains(&point.due))
        .for_each(|point| point.took = f64::INFINITY);
    assert_eq!(back(&lost, 10.0, 20.0, 0.05), Some(2.25));
    assert!(percentile(lost.iter().map(|point| point.took), 1.0).is_infinite());
    assert!(percentile(lost.iter().map(|point| point.took), 0.5) < 0.05);
}

/// Sends back what comes.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn say(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"said").await?;
    hear(stream).await
}

async fn hear(stream: &mut TcpStream) -> io::Result<()> {
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.map(drop)
}

#[tokio::test]
async fn a_proxy_passes_refuses_and_says_nothing() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut open = TcpStream::connect(proxy.address).await.unwrap();
    say(&mut open).await.unwrap();

    proxy.set(Fault::BlackHole);
    let mut new = TcpStream::connect(proxy.address).await.unwrap();
    let silence = Duration::from_millis(50);
    for stream in [&mut open, &mut new] {
        assert!(tokio::time::timeout(silence, say(stream)).await.is_err());
    }
    proxy.set(Fault::Pass);
    // What was said meanwhile was only held up.
    for stream in [&mut open, &mut new] {
        hear(stream).await.unwrap();
    }

    proxy.set(Fault::Cut);
    assert!(open.read(&mut [0]).await.map_or(true, |count| count == 0), "it is closed");
    while let Ok(mut stream) = TcpStream::connect(proxy.address).await {
        // Until the listener is gone, what it took is closed.
        let _ = stream.read(&mut [0]).await;
    }
    proxy.set(Fault::Pass);
    let mut back = loop {
        if let Ok(stream) = TcpStream::connect(proxy.address).await {
            break stream;
        }
        tokio::task::yield_now().await;
    };
    say(&mut back).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_delays_loses_nothing() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let began = std::time::Instant::now();
    say(&mut stream).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(40), "both ways");
}
