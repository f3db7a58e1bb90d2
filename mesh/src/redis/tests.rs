mod tls;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use redis::cmd;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::Secret,
    rate::{By, Limiter, Rate},
    testing::{RedisServer, eventually},
};

const SOON: Duration = Duration::from_secs(10);

fn config(mode: Mode, nodes: Vec<String>) -> Config {
    Config { nodes, mode, ..Config::default() }
}

fn open(config: &Config) -> Redis {
    Redis::open(config).unwrap().unwrap()
}

async fn set_and_get(redis: &Redis, key: &str) -> Result<String, RedisError> {
    redis.query::<()>(cmd("SET").arg(key).arg("value"), SOON).await?;
    redis.query(cmd("GET").arg(key), SOON).await
}

/// Tries until it works: whoever takes over needs a moment.
async fn in_the_end(redis: &Redis, key: &str) {
    eventually(async || set_and_get(redis, key).await).await;
}

#[tokio::test]
async fn without_an_address_there_is_no_redis() {
    assert!(Redis::open(&Config::default()).unwrap().is_none());
}

#[tokio::test]
async fn one_server_answers_and_comes_back() {
    let mut server = RedisServer::start(&[]);
    let redis = open(&config(Mode::Single, vec![server.address()]));
    assert_eq!(set_and_get(&redis, "a").await.unwrap(), "value");
    assert!(redis.is_up());
    server.kill();
    let error = set_and_get(&redis, "a").await.unwrap_err();
    assert!(matches!(error, RedisError::Away(_)), "{error}");
    // While it is away nobody waits for it.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        assert!(redis.query::<()>(&cmd("PING"), Duration::from_secs(60)).await.is_err());
    }
    let _server = RedisServer::at(server.port, &[]);
    in_the_end(&redis, "b").await;
}

#[tokio::test]
async fn a_command_that_is_refused_is_no_loss_of_redis() {
    let server = RedisServer::start(&[]);
    let redis = open(&config(Mode::Single, vec![server.address()]));
    set_and_get(&redis, "text").await.unwrap();
    let error = redis.query::<i64>(cmd("INCR").arg("text"), SOON).await.unwrap_err();
    assert!(matches!(error, RedisError::Refused(_)), "{error}");
    assert!(redis.is_up());
}

#[tokio::test]
async fn a_call_takes_no_longer_than_it_may() {
    // A listener that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = open(&config(Mode::Single, vec![silent.local_addr().unwrap().to_string()]));
    let began = Instant::now();
    let error = redis.query::<()>(&cmd("PING"), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, RedisError::Late), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_went_silent_until_it_speaks_again() {
    const WITHIN: Duration = Duration::from_millis(20);
    let server = RedisServer::start(&[]);
    let redis = open(&config(Mode::Single, vec![server.address()]));
    set_and_get(&redis, "a").await.unwrap();
    // The connection stands, and nobody answers on it.
    server.say("CLIENT PAUSE 4000 ALL");
    let silent = async {
        while redis.is_up() {
            redis.query::<()>(&cmd("PING"), WITHIN).await.unwrap_err();
        }
    };
    tokio::time::timeout(SOON, silent).await.unwrap();
    // Meanwhile a new connection is tried, which nobody answers on either.
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(500) {
        let error = redis.query::<()>(&cmd("PING"), WITHIN).await.unwrap_err();
        assert!(matches!(error, RedisError::Away(_)), "{error}");
        calls += 1;
        tokio::task::yield_now().await;
    }
    assert!(calls > 100, "{calls} calls in half a second have waited");
    in_the_end(&redis, "b").await;
}

#[tokio::test]
async fn a_pause_that_is_shorter_than_silence_costs_no_connection() {
    let server = RedisServer::start(&[]);
    let redis = open(&config(Mode::Single, vec![server.address()]));
    set_and_get(&redis, "a").await.unwrap();
    server.say("CLIENT PAUSE 1000 ALL");
    // Many at once are late at one time.
    let late = (0..20)
        .map(|_| async { redis.query::<()>(&cmd("PING"), Duration::from_millis(20)).await.unwrap_err() });
    futures::future::join_all(late).await;
    assert!(redis.is_up());
}

/// What a server that answers all else does with a GET.
#[derive(Clone, Copy)]
enum Get {
    Swallows,
    HangsUp,
    Refuses,
}

/// Serves until it is dropped with the runtime. Returns a way to it, and how many connections were made.
async fn odd_server(get: Get) -> (Redis, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = open(&config(Mode::Single, vec![listener.local_addr().unwrap().to_string()]));
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    // A command begins with an asterisk, and none of these has another one.
                    for command in said.split('*').skip(1) {
                        let answer = match get {
                            _ if !command.contains("\r\nGET\r\n") => "+PONG\r\n",
                            Get::Swallows => "",
                            Get::HangsUp => return,
                            Get::Refuses => "-READONLY You can't write against a read only replica.\r\n",
                        };
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    (redis, connections)
}

#[tokio::test]
async fn a_server_that_takes_connections_and_is_of_no_use_is_left_alone_for_longer_each_time() {
    for get in [Get::Swallows, Get::HangsUp, Get::Refuses] {
        let (redis, connections) = odd_server(get).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1500) {
            redis.query::<()>(cmd("GET").arg("a"), Duration::from_millis(20)).await.unwrap_err();
            tokio::task::yield_now().await;
        }
        // At once, after 0.2, 0.4 and 0.8 seconds; and each swallows for 0.1 first.
        let connections = connections.load(Ordering::SeqCst);
        assert!((2..=4).contains(&connections), "{connections}");
    }
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_looked_for_anew() {
    let (server, other) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let redis = open(&config(Mode::Single, vec![server.address()]));
    set_and_get(&redis, "a").await.unwrap();
    server.say(&format!("REPLICAOF 127.0.0.1 {}", other.port));
    let error = set_and_get(&redis, "a").await.unwrap_err();
    assert!(matches!(error, RedisError::Away(_)), "{error}");
    assert!(!redis.is_up());
    server.say("REPLICAOF NO ONE");
    in_the_end(&redis, "b").await;
}

#[tokio::test]
async fn a_node_of_a_cluster_that_is_away_costs_its_own_slots_only_and_no_time() {
    let mut nodes = RedisServer::cluster();
    let redis = open(&config(Mode::Cluster, vec![nodes[0].address(), nodes[1].address()]));
    set_and_get(&redis, "a").await.unwrap();
    nodes[2].kill();
    let (mut answered, mut away) = (0, 0);
    for key in 0..60 {
        let began = Instant::now();
        match set_and_get(&redis, &format!("key-{key}")).await {
            Ok(_) => answered += 1,
            Err(RedisError::Away(_)) => away += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    assert!(answered >= 30 && away >= 10, "{answered} {away}");
}

#[tokio::test]
async fn an_address_that_swallows_packets_holds_up_only_the_first_callers() {
    // A listener that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(Mode::Single, vec![silent.local_addr().unwrap().to_string()]);
    let redis = open(&Config { connect_timeout: Duration::from_millis(200), ..config });
    let ping = async || redis.query::<()>(&cmd("PING"), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(ping().await, RedisError::Late));
    let (began, mut late) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        late += usize::from(matches!(ping().await, RedisError::Late));
        tokio::task::yield_now().await;
    }
    assert!(late <= 5, "{late} calls have waited");
}

#[tokio::test]
async fn users_have_their_passwords_and_rights() {
    let server = RedisServer::start(&[]);
    server.say("ACL SETUSER app on >hush ~* +@all -flushall");
    server.say("ACL SETUSER default off");
    let mut config = config(Mode::Single, vec![server.address()]);
    let away = set_and_get(&open(&config), "a").await.unwrap_err();
    assert!(matches!(away, RedisError::Refused(_) | RedisError::Away(_)), "{away}");
    (config.user, config.password) = ("app".into(), Secret::new("hush".into()));
    let redis = open(&config);
    assert_eq!(set_and_get(&redis, "a").await.unwrap(), "value");
    let denied = redis.query::<()>(&cmd("FLUSHALL"), SOON).await.unwrap_err();
    assert!(matches!(denied, RedisError::Refused(_)), "{denied}");
    let file = std::env::temp_dir().join(format!("switchboard-password-{}", server.port));
    std::fs::write(&file, "hush\n").unwrap();
    (config.password, config.password_file) = (Secret::new(String::new()), file.clone());
    assert_eq!(set_and_get(&open(&config), "a").await.unwrap(), "value");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_cluster_answers_for_all_slots() {
    let nodes = RedisServer::cluster();
    let redis = open(&config(Mode::Cluster, vec![nodes[0].address()]));
    for key in 0..50 {
        assert_eq!(set_and_get(&redis, &format!("key-{key}")).await.unwrap(), "value");
    }
    let limiter = Limiter::new(Some(redis), "test");
    let rate = Rate { per_second: 0.01, burst: 1 };
    for tenant in 0..20 {
        let tenant = format!("tenant-{tenant}");
        assert_eq!(limiter.admit(&tenant, rate).await.wait, None);
        assert!(limiter.admit(&tenant, rate).await.wait.is_some());
    }
}

#[tokio::test]
async fn the_sentinels_tell_of_the_new_master() {
    let mut master = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    master.until("INFO replication", &["state=online"]);
    let sentinel = RedisServer::sentinel(master.port);
    sentinel.until("SENTINEL REPLICAS mymaster", &[&replica.port.to_string()]);
    let redis = open(&config(Mode::Sentinel, vec![sentinel.address()]));
    assert_eq!(set_and_get(&redis, "a").await.unwrap(), "value");
    master.kill();
    in_the_end(&redis, "b").await;
    assert!(replica.say("INFO replication").contains("role:master"));
}

#[tokio::test]
async fn gateways_share_a_tenants_rate_and_each_has_its_own_where_redis_is_away() {
    let mut server = RedisServer::start(&[]);
    let gateway = || Limiter::new(Some(open(&config(Mode::Single, vec![server.address()]))), "test");
    let (one, other) = (gateway(), gateway());
    let rate = Rate { per_second: 0.1, burst: 4 };
    // The first calls make the connections, and may be decided before there are any.
    for limiter in [&one, &other] {
        while limiter.admit("warm-up", Rate { per_second: 1e6, burst: 1000 }).await.by == By::Local {}
    }
    let mut passed = 0;
    for turn in 0..10 {
        let limiter = if turn % 2 == 0 { &one } else { &other };
        let verdict = limiter.admit("acme", rate).await;
        assert_eq!(verdict.by, By::Redis);
        passed += usize::from(verdict.wait.is_none());
        assert!(verdict.wait.is_none_or(|wait| wait <= Duration::from_secs(10)));
    }
    assert_eq!(passed, 4);
    assert_eq!(one.admit("other-tenant", rate).await.wait, None);
    server.kill();
    let mut local = 0;
    while local < 4 {
        let verdict = one.admit("acme", rate).await;
        assert_eq!((verdict.by, verdict.wait), (By::Local, None), "nobody is refused for Redis being away");
        local += 1;
    }
    assert!(one.admit("acme", rate).await.wait.is_some(), "but the rate holds");
}
