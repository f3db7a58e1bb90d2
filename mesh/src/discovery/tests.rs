//! Against real etcd servers.

mod trouble;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    etcd::{
        Client, Endpoints, Session,
        messages::{Done, LeaseId, PutRequest, RangeRequest},
    },
    *,
};
use crate::{
    balance::Plain,
    testing::{EtcdServer, eventually},
};

const TTL: Duration = Duration::from_secs(2);

fn config(server: &EtcdServer) -> Config {
    Config { etcd: vec![server.url()], ttl: TTL, snapshot: String::new(), ..Config::default() }
}

/// A process that looks for others; it ends with this value.
struct Looker {
    discovery: Mixed,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Looker {
    fn start(config: &Config, data: &Path, seams: Seams) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let place = Place { data: data.to_owned(), stop: stop.clone(), tasks: &tasks, seams };
        let discovery = Mixed::start(config, &BTreeMap::new(), place).unwrap();
        Self { discovery, tasks, stop: stop.drop_guard() }
    }

    fn of(server: &EtcdServer) -> Self {
        Self::start(&config(server), &std::env::temp_dir(), Seams::default())
    }

    fn watch(&self, role: &str) -> Seen {
        Seen(self.discovery.watch(role))
    }

    async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        timeout(Duration::from_secs(10), self.tasks.wait()).await.expect("all tasks end");
    }
}

struct Seen(watch::Receiver<Arc<Members>>);

impl Seen {
    fn ids(&self) -> Vec<String> {
        ids(&self.0.borrow())
    }

    /// Waits for these nodes, from this source.
    async fn until(&mut self, source: Source, wanted: &[&str]) {
        let is = |members: &Arc<Members>| members.source == source && ids(members) == wanted;
        let seen = timeout(Duration::from_secs(60), self.0.wait_for(is)).await.map(drop);
        assert!(seen.is_ok(), "wanted {wanted:?} from {source:?}, has {:?}", self.0.borrow());
    }

    /// Watches that none of these nodes is ever lacking, until the value is asked.
    fn never_lacks(&self, wanted: &'static [&'static str]) -> Never {
        let mut members = self.0.clone();
        let task = tokio::spawn(async move {
            loop {
                let now = ids(&members.borrow_and_update());
                if let Some(lost) = wanted.iter().find(|id| !now.iter().any(|now| now == *id)) {
                    return format!("{lost} is not in {now:?}");
                }
                if members.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        Never(task)
    }
}

struct Never(tokio::task::JoinHandle<String>);

impl Never {
    async fn happened(self) {
        tokio::task::yield_now().await;
        assert!(!self.0.is_finished(), "{:?}", self.0.await);
        self.0.abort();
    }
}

fn ids(members: &Members) -> Vec<String> {
    members.nodes.iter().map(|node| node.id.clone()).collect()
}

/// A node that is registered; it is killed with this value.
struct Here {
    registration: Registration,
    about: watch::Sender<About>,
    _stop: DropGuard,
}

fn register(config: &Config, id: &str, address: &str, roles: &[&str]) -> Here {
    let (about, receiver) = watch::channel(About { version: "1".into(), ..About::default() });
    let registrar = Registrar::open(config, &Seams::default()).unwrap().unwrap();
    let stop = CancellationToken::new();
    let announcement = Announcement {
        id: id.into(),
        address: address.into(),
        roles: roles.iter().map(ToString::to_string).collect(),
        about: receiver,
    };
    let registration = registrar.register(announcement, &stop, &TaskTracker::new()).unwrap();
    Here { registration, about, _stop: stop.drop_guard() }
}

async fn registered(server: &EtcdServer, id: &str, address: &str) -> Here {
    let here = register(&config(server), id, address, &["inference"]);
    timeout(Duration::from_secs(60), here.registration.registered()).await.unwrap();
    here
}

/// A way to etcd beside all that is tested.
async fn session(server: &EtcdServer) -> Session {
    let endpoints = Endpoints {
        uris: vec![server.url().parse().unwrap()],
        connect: Arc::new(Plain),
        username: String::new(),
        password_file: "".into(),
        within: Duration::from_secs(30),
    };
    Client::new(endpoints, 0).session().await.unwrap()
}

const PREFIX: &str = "/switchboard/v1/default/nodes/";

async fn put(session: &Session, key: &str, value: &[u8]) {
    let key = format!("{PREFIX}{key}").into_bytes();
    session.put(PutRequest { key, value: value.to_vec(), lease: 0 }).await.unwrap();
}

async fn delete(session: &Session, key: &str) {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Delete {
        #[prost(string, tag = "1")]
        key: String,
    }
    let request = Delete { key: format!("{PREFIX}{key}") };
    session.call::<_, Done>("/etcdserverpb.KV/DeleteRange", request).await.unwrap();
}

async fn raw(session: &Session) -> Vec<(String, String)> {
    let (key, range_end) = (PREFIX.into(), format!("{}0", PREFIX.trim_end_matches('/')).into());
    let answer = session.range(RangeRequest { key, range_end, ..RangeRequest::default() }).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    answer.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

/// Waits until etcd itself has these nodes, in order.
async fn has(session: &Session, wanted: &[&str]) {
    // It could be watched, but what is tested is how we watch.
    eventually(async || {
        let keys = raw(session).await;
        let ids: Vec<&str> = keys.iter().filter_map(|(key, _)| key.rsplit('/').next()).collect();
        if ids == wanted { Ok(()) } else { Err(format!("{keys:?} and not {wanted:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_say_something_new_and_go() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    inference.until(Source::Registry, &[]).await;
    let one = register(&config(&server), "one", "127.0.0.1:7001", &["inference", "policy"]);
    inference.until(Source::Registry, &["one"]).await;
    looker.watch("policy").until(Source::Registry, &["one"]).await;
    let two = register(&config(&server), "two", "127.0.0.1:7002", &["inference"]);
    inference.until(Source::Registry, &["one", "two"]).await;
    assert_eq!(inference.0.borrow().nodes[1].uri, "http://127.0.0.1:7002");
    let written = raw(&session(&server).await).await;
    assert_eq!(written[0].0, format!("{PREFIX}inference/one"));
    assert!(written[0].1.starts_with(r#"{"Op":0,"Addr":"127.0.0.1:7001","Metadata":{"#), "{written:?}");
    one.about.send_modify(|about| about.version = "2".into());
    let told = inference.0.wait_for(|members| members.nodes[0].about.version == "2");
    timeout(Duration::from_secs(30), told).await.unwrap().unwrap();
    one.registration.withdraw().await;
    inference.until(Source::Registry, &["two"]).await;
    two.registration.withdraw().await;
    inference.until(Source::Registry, &[]).await;
    assert!(raw(&session(&server).await).await.is_empty());
    looker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_gone_when_its_lease_ends() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    inference.until(Source::Registry, &[]).await;
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    let two = registered(&server, "two", "127.0.0.1:7002").await;
    inference.until(Source::Registry, &["one", "two"]).await;
    let one_stays = inference.never_lacks(&["one"]);
    drop(two);
    inference.until(Source::Registry, &["one"]).await;
    one_stays.happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_form_harms_nobody() {
    let server = EtcdServer::start();
    let session = session(&server).await;
    let good = layout::value("127.0.0.1:7001", &About::default());
    put(&session, "inference/good", &good).await;
    let huge = vec![b'x'; 1 << 20];
    let garbage: [(&str, &[u8]); 6] = [
        ("inference/bytes", b"\xff\x00"),
        ("inference/huge", &huge),
        ("inference/gone", br#"{"Op":1,"Addr":"127.0.0.1:7009"}"#),
        ("inference/nowhere", br#"{"Op":0,"Addr":"0.0.0.0:0"}"#),
        ("inference/a/b", &good),
        ("", &good),
    ];
    for (key, value) in &garbage {
        put(&session, key, value).await;
    }
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    inference.until(Source::Registry, &["good"]).await;
    // And once more as changes.
    for (key, value) in &garbage {
        put(&session, key, value).await;
    }
    put(&session, "inference/good", b"no longer").await;
    put(&session, "inference/last", &layout::value("127.0.0.1:7002", &About::default())).await;
    inference.until(Source::Registry, &["good", "last"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_thousand_nodes_all_are_found_and_of_too_many_the_first() {
    let server = EtcdServer::start();
    let session = session(&server).await;
    let about = About { zone: "z".repeat(60), ..About::default() };
    let mut puts = JoinSet::new();
    for number in 0..5_300 {
        // The last role has more than are taken.
        let role = (number / 1000).min(4);
        let key = format!("role-{role}/{number:05}");
        let (session, value) = (session.clone(), layout::value(&format!("127.0.0.1:{}", 1 + number), &about));
        puts.spawn(async move { put(&session, &key, &value).await });
        if puts.len() > 200 {
            puts.join_next().await.unwrap().unwrap();
        }
    }
    puts.join_all().await;
    let looker = Looker::of(&server);
    for role in 0..5 {
        let mut seen = looker.watch(&format!("role-{role}"));
        let all = seen.0.wait_for(|members| members.nodes.len() == 1000);
        timeout(Duration::from_secs(60), all).await.unwrap().unwrap();
        assert_eq!(seen.ids()[999], format!("{:05}", role * 1000 + 999));
    }
    // Where one goes, one that was left out comes in.
    delete(&session, "role-4/04000").await;
    let mut seen = looker.watch("role-4");
    let filled = seen.0.wait_for(|members| members.nodes.last().is_some_and(|last| last.id == "05000"));
    timeout(Duration::from_secs(60), filled).await.unwrap().unwrap();
    assert_eq!(seen.ids().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_at_one_address_the_newer_counts() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let _old = registered(&server, "b-old", "127.0.0.1:7001").await;
    inference.until(Source::Registry, &["b-old"]).await;
    for newer in ["a-new", "c-new"] {
        let new = registered(&server, newer, "127.0.0.1:7001").await;
        inference.until(Source::Registry, &[newer]).await;
        new.registration.withdraw().await;
        inference.until(Source::Registry, &["b-old"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_somebody_removed_comes_back() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    inference.until(Source::Registry, &["one"]).await;
    let one_stays = inference.never_lacks(&["one"]);
    let session = session(&server).await;
    delete(&session, "inference/one").await;
    has(&session, &["one"]).await;
    one_stays.happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_gone_is_taken_anew() {
    let server = EtcdServer::start();
    let looker = Looker::of(&server);
    let mut inference = looker.watch("inference");
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    inference.until(Source::Registry, &["one"]).await;
    let session = session(&server).await;
    let key = format!("{PREFIX}inference/one").into_bytes();
    let lease = session.range(RangeRequest { key, ..RangeRequest::default() }).await.unwrap().kvs[0].lease;
    let one_stays = inference.never_lacks(&["one"]);
    session.call::<_, Done>("/etcdserverpb.Lease/LeaseRevoke", LeaseId { id: lease }).await.unwrap();
    has(&session, &["one"]).await;
    one_stays.happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_do_not_see_each_other() {
    let server = EtcdServer::start();
    let other = Config { cluster: "default-2".into(), ..config(&server) };
    let here = register(&other, "other", "127.0.0.1:7009", &["inference"]);
    here.registration.registered().await;
    let _one = registered(&server, "one", "127.0.0.1:7001").await;
    let (mine, theirs) = (Looker::of(&server), Looker::start(&other, Path::new("/"), Seams::default()));
    mine.watch("inference").until(Source::Registry, &["one"]).await;
    theirs.watch("inference").until(Source::Registry, &["other"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_a_password() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        second: String,
    }
    let server = EtcdServer::start();
    let admin = session(&server).await;
    let named = |name: &str, second: &str| Named { name: name.into(), second: second.into() };
    for (path, request) in [
        ("/etcdserverpb.Auth/UserAdd", named("root", "hush")),
        ("/etcdserverpb.Auth/RoleAdd", named("root", "")),
        ("/etcdserverpb.Auth/UserGrantRole", named("root", "root")),
        ("/etcdserverpb.Auth/AuthEnable", named("", "")),
    ] {
        admin.call::<_, Done>(path, request).await.unwrap();
    }
    let folder = TempDir::new().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    std::fs::write(&right, "hush\n").unwrap();
    std::fs::write(&wrong, "loud").unwrap();
    let user =
        |file: &Path| Config { username: "root".into(), password_file: file.into(), ..config(&server) };
    let stranger = register(&config(&server), "stranger", "127.0.0.1:7008", &["inference"]);
    let liar = register(&user(&wrong), "liar", "127.0.0.1:7009", &["inference"]);
    let one = register(&user(&right), "one", "127.0.0.1:7001", &["inference"]);
    let looker = Looker::start(&user(&right), folder.path(), Seams::default());
    looker.watch("inference").until(Source::Registry, &["one"]).await;
    timeout(Duration::from_secs(60), one.registration.registered()).await.unwrap();
    assert!(!liar.registration.is_registered() && !stranger.registration.is_registered());
    // A password that was changed is read again.
    std::fs::write(&wrong, "hush").unwrap();
    looker.watch("inference").until(Source::Registry, &["liar", "one"]).await;
    one.registration.withdraw().await;
    looker.watch("inference").until(Source::Registry, &["liar"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_secure_the_way_to_etcd() {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    let folder = TempDir::new().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, foreign) = (authority("ours"), authority("foreign"));
    let write = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let made = |name: &str| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // etcd calls itself with its own.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ours).unwrap();
        (write(&format!("{name}.pem"), certificate.pem()), write(&format!("{name}.key"), key.serialize_pem()))
    };
    let ((server, server_key), (node, node_key)) = (made("server"), made("node"));
    let (ours, foreign) = (write("ours.pem", ours.pem()), write("foreign.pem", foreign.pem()));
    let server = EtcdServer::start_with_tls([server, server_key, ours.clone()]);
    let right = Config { ca_file: ours.clone(), certificate: node, key: node_key, ..config(&server) };
    let distrusting = Config { ca_file: foreign, ..right.clone() };
    let nameless = Config { ca_file: ours, ..config(&server) };
    let refused =
        [&distrusting, &nameless].map(|config| register(config, "x", "127.0.0.1:7009", &["inference"]));
    let looker = Looker::start(&right, folder.path(), Seams::default());
    let one = register(&right, "one", "127.0.0.1:7001", &["inference"]);
    looker.watch("inference").until(Source::Registry, &["one"]).await;
    assert!(refused.iter().all(|refused| !refused.registration.is_registered()));
    one.registration.withdraw().await;
    looker.watch("inference").until(Source::Registry, &[]).await;
}
