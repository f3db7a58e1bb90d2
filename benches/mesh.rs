//! What does the mesh add to a call, and what does it do about a slow node?
//!
//! Two tables. The first compares one hop over loopback TCP with all layers of the mesh on (mTLS, deadline,
//! balancing, telemetry, limits) to bare tonic without TLS, call by call in turns. The second gives an open
//! stream of calls to three nodes, one of them ten times slower, and compares the times with those of three
//! healthy nodes, and with tonic's own balancer. Takes about a minute.

#![expect(clippy::print_stdout, reason = "a benchmark's tables are for people")]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use switchboard_mesh::{
    Call, Channel, Deadline, Tenant,
    identity::{self, Identity},
    server::{self, Limits, Listener, Stack},
    telemetry,
};
use switchboard_proto::generation::v1::{
    GenerateRequest, GenerateResponse, ListModelsRequest, ListModelsResponse, RouteRequest, RouteResponse,
    generation_service_client::GenerationServiceClient,
    generation_service_server::{GenerationService, GenerationServiceServer},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Request, Response, Status,
    service::Routes,
    transport::{Endpoint, Server},
};

/// Rounds of the first table, and calls of each kind in one.
const ROUNDS: usize = 40;
const CALLS: usize = 250;
/// What a healthy node takes for a call, and how many it does at once.
const WORK: Duration = Duration::from_millis(5);
const AT_ONCE: usize = 8;
/// Calls a second of the second table, and for how long.
const RATE: u64 = 300;
const TIME: Duration = Duration::from_secs(10);

/// A service that takes `work` for each call.
struct Toy {
    work: Duration,
    places: Semaphore,
}

impl Toy {
    fn routes(work: Duration) -> Routes {
        Routes::new(GenerationServiceServer::new(Self { work, places: Semaphore::new(AT_ONCE) }))
    }
}

#[tonic::async_trait]
impl GenerationService for Toy {
    type GenerateStream = tokio_stream::Empty<Result<GenerateResponse, Status>>;

    async fn generate(&self, _: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        Err(Status::unimplemented("only ListModels is measured"))
    }

    async fn route(&self, _: Request<RouteRequest>) -> Result<Response<RouteResponse>, Status> {
        Err(Status::unimplemented("only ListModels is measured"))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        if !self.work.is_zero() {
            let _place = self.places.acquire().await;
            tokio::time::sleep(self.work).await;
        }
        Ok(Response::new(ListModelsResponse::default()))
    }
}

fn call() -> Call {
    let tenant = Tenant::try_new("bench").expect("a valid tenant");
    Call::new(tenant, Deadline::after(Duration::from_secs(10)))
}

/// A node of bare tonic.
async fn bare(work: Duration) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_routes(Toy::routes(work)).serve_with_incoming(incoming));
    Endpoint::from_shared(format!("http://{address}")).expect("a URL").tcp_nodelay(true)
}

/// The identity of a role, by certificates as they are made for development.
fn identity(folder: &Path, role: &str) -> Identity {
    let files = identity::Config {
        certificate: folder.join(format!("{role}.pem")),
        key: folder.join(format!("{role}.key")),
        authorities: folder.join("ca.pem"),
        ..identity::Config::default()
    };
    Identity::load(&files).expect("certificates that were made just now")
}

/// A node of the mesh.
async fn node(work: Duration, identity: Identity) -> (http::Uri, DropGuard) {
    let listener = server::bind("bench", ([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stack, stop) = (Stack::new(Toy::routes(work)), CancellationToken::new());
    let listener = Listener::new(listener, identity);
    tokio::spawn(server::serve(listener, stack, Limits::default(), stop.clone(), Duration::from_secs(1)));
    (format!("http://{address}").parse().expect("a URL"), stop.drop_guard())
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // As in a running node: metrics are collected, lines are logged from `info`.
        let _telemetry = telemetry::start(&telemetry::Config::default()).expect("the defaults are valid");
        hop().await;
        slow().await;
    });
}

async fn hop() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut certs = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    certs.args(["certs", "dev", "--out"]).arg(folder.path()).stdout(Stdio::null());
    assert!(certs.status().expect("the program runs").success());
    let bare = bare(Duration::ZERO).await.connect().await.expect("connected");
    let bare = GenerationServiceClient::new(bare);
    let (plain, _plain) = node(Duration::ZERO, Identity::plain()).await;
    let plain = GenerationServiceClient::new(Channel::tcp("generation", plain));
    let (secured, _secured) = node(Duration::ZERO, identity(folder.path(), "generation")).await;
    let gateway = identity(folder.path(), "gateway");
    let secured = GenerationServiceClient::new(Channel::secured("generation", vec![secured], &gateway));
    let mut seen: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for _ in 0..CALLS {
            let (mut client, began) = (bare.clone(), Instant::now());
            client.list_models(ListModelsRequest {}).await.expect("served");
            seen[0].push(began.elapsed());
        }
        for (at, client) in [(1, &plain), (2, &secured)] {
            for _ in 0..CALLS {
                let (mut client, request) = (client.clone(), call().request(ListModelsRequest {}));
                let began = Instant::now();
                client.list_models(request).await.expect("served");
                seen[at].push(began.elapsed());
            }
        }
    }
    println!("\nOne hop over loopback TCP, {} calls each, one at a time, in turns\n", ROUNDS * CALLS);
    println!("{:<24}{:>10}{:>10}{:>12}{:>12}", "", "p50 us", "p99 us", "added p50", "added p99");
    seen.iter_mut().for_each(|times| times.sort());
    let base = [0.5, 0.99].map(|share| percentile(&seen[0], share));
    for (name, times) in ["bare tonic", "mesh, plain text", "mesh, mTLS"].iter().zip(&seen) {
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(times, share));
        let added = [micros(p50) - micros(base[0]), micros(p99) - micros(base[1])];
        println!("{name:<24}{:>10.0}{:>10.0}{:>12.0}{:>12.0}", micros(p50), micros(p99), added[0], added[1]);
    }
    println!("goal, with mTLS: added p50 <= 60, p99 <= 300");
}

/// Calls at a steady rate, however long they take.
async fn stream<F: Future<Output = ()> + Send + 'static>(send: impl Fn() -> F) -> Vec<Duration> {
    let (began, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    let mut timer = tokio::time::interval(Duration::from_nanos(1_000_000_000 / RATE));
    while began.elapsed() < TIME {
        timer.tick().await;
        let (work, began) = (send(), Instant::now());
        tasks.spawn(async move {
            work.await;
            began.elapsed()
        });
    }
    let mut times: Vec<_> = tasks.join_all().await;
    times.sort();
    times
}

async fn slow() {
    let mut results = Vec::new();
    for (name, works) in
        [("mesh, three healthy nodes", [1, 1, 1]), ("mesh, one ten times slower", [1, 1, 10])]
    {
        let mut nodes = Vec::new();
        for times in works {
            nodes.push(node(WORK * times, Identity::plain()).await);
        }
        let uris = nodes.iter().map(|(uri, _)| uri.clone()).collect();
        let client = GenerationServiceClient::new(Channel::over("generation", uris));
        let times = stream(|| {
            let mut client = client.clone();
            async move {
                client.list_models(call().request_to_any(ListModelsRequest {})).await.expect("served");
            }
        });
        results.push((name, times.await));
    }
    let mut endpoints = Vec::new();
    for times in [1, 1, 10] {
        endpoints.push(bare(WORK * times).await);
    }
    let client = GenerationServiceClient::new(tonic::transport::Channel::balance_list(endpoints.into_iter()));
    let times = stream(|| {
        let mut client = client.clone();
        async move {
            client.list_models(ListModelsRequest {}).await.expect("served");
        }
    });
    results.push(("tonic's balancer, the same", times.await));
    println!(
        "\nThree nodes, {} ms a call, {RATE} calls a second for {} s\n",
        WORK.as_millis(),
        TIME.as_secs()
    );
    println!("{:<32}{:>8}{:>9}{:>9}{:>9}{:>14}", "", "calls", "p50 ms", "p95 ms", "p99 ms", "p99, ratio");
    let base = percentile(&results[0].1, 0.99);
    for (name, times) in &results {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(times, share));
        let ratio = millis(p99) / millis(base);
        let [p50, p95, p99] = [p50, p95, p99].map(millis);
        println!("{name:<32}{:>8}{p50:>9.1}{p95:>9.1}{p99:>9.1}{ratio:>14.2}", times.len());
    }
    println!("goal: with a slow node at most 1.3 times the healthy p99");
}
