//! What does one hop cost, and how much of that is ours?
//!
//! The same handler (a list of one model card) is called through the mesh's client and server stacks
//! and through bare tonic, in process and over loopback TCP. The difference within a pair is what
//! the deadline, telemetry and error layers add.

use std::{collections::BTreeMap, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use switchboard_mesh::{Call, Channel, Context, Deadline, Mounted, Tenant, server, telemetry};
use switchboard_proto::generation::v1::{
    ListModelsRequest, generation_service_client::GenerationServiceClient,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::transport::{Endpoint, Server};

fn call() -> Call {
    let tenant = Tenant::try_new("bench").expect("a valid tenant");
    Call::new(tenant, Deadline::after(Duration::from_secs(60)))
}

fn context() -> Context {
    Context::new(std::env::temp_dir(), BTreeMap::new())
}

async fn role() -> Mounted {
    switchboard_generation::start(switchboard_generation::Config::default(), &context())
        .await
        .expect("the defaults are valid")
}

fn hop(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    // As in a running node: metrics are collected, lines are logged from `info`.
    let _telemetry = telemetry::start(&telemetry::Config::default()).expect("the defaults are valid");
    let mounted = runtime.block_on(role());

    let mut group = criterion.benchmark_group("hop");
    let bare = GenerationServiceClient::new(mounted.routes.clone());
    group.bench_function("in process, bare tonic", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let mut client = bare.clone();
            async move { client.list_models(ListModelsRequest {}).await.expect("served") }
        });
    });
    let ctx = context();
    ctx.mount(&mounted);
    let client = GenerationServiceClient::new(ctx.channel("generation"));
    bench(&mut group, &runtime, "in process, mesh", &client);

    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_routes(mounted.routes.clone()).serve_with_incoming(incoming));
        address
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL").tcp_nodelay(true);
    let bare = GenerationServiceClient::new(runtime.block_on(endpoint.connect()).expect("connected"));
    group.bench_function("loopback TCP, bare tonic", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let mut client = bare.clone();
            async move { client.list_models(ListModelsRequest {}).await.expect("served") }
        });
    });

    let address = runtime.block_on(async {
        let listener = server::bind("bench", ([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stack = server::Stack::new(mounted.routes.clone());
        let limits = server::Limits::default();
        tokio::spawn(server::serve(listener, stack, limits, ctx.stop.clone(), Duration::from_secs(1)));
        address
    });
    let uri = format!("http://{address}").parse().expect("a URL");
    // `enter`: the connection is made by a task of this runtime.
    let _entered = runtime.enter();
    let client = GenerationServiceClient::new(Channel::tcp("generation", uri));
    bench(&mut group, &runtime, "loopback TCP, mesh", &client);
    group.finish();
}

fn bench(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    runtime: &Runtime,
    name: &str,
    client: &GenerationServiceClient<Channel>,
) {
    let call = call();
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| {
            let mut client = client.clone();
            let request = call.request(ListModelsRequest {});
            async move { client.list_models(request).await.expect("served") }
        });
    });
}

criterion_group!(benches, hop);
criterion_main!(benches);
