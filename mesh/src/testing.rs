//! Help for tests of roles: a context with nothing behind it, and calls to make.

mod etcd;
mod postgres;
mod redis;
mod s3;

use std::{
    collections::BTreeMap,
    fmt,
    net::TcpListener,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use http::Uri;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{etcd::EtcdServer, postgres::PostgresServer, redis::RedisServer, s3::S3Server};
use crate::{
    Call, Channel, Context, Deadline, Mounted, Tenant,
    server::{self, Limits, Stack},
};

/// A context over a folder, with no remote roles.
#[must_use]
pub fn context(data: &Path) -> Context {
    Context::new(data.to_owned(), BTreeMap::new())
}

/// Mounts a role in a fresh in-process mesh and returns a channel to it.
#[must_use]
pub fn serve(mounted: &Mounted) -> Channel {
    let context = Context::new(std::env::temp_dir(), BTreeMap::new());
    context.mount(mounted);
    context.channel(mounted.role)
}

/// Serves a role on a free port of loopback, until the guard is dropped.
///
/// # Panics
/// When there is no free port.
pub async fn listen(role: &Mounted) -> (Uri, DropGuard) {
    let listener = server::bind("test", ([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    let uri = format!("http://{address}").parse().expect("an address and a port are a URL");
    let stop = CancellationToken::new();
    let stack = Stack::new(role.routes.clone()).long_lived(role.long_lived.iter().copied());
    tokio::spawn(server::serve(listener, stack, Limits::default(), stop.clone(), Duration::from_secs(1)));
    (uri, stop.drop_guard())
}

/// Looks until there is what is wanted: for what nothing tells of, as another server's state or a file's.
/// `look` gives it, or what there is instead.
///
/// # Panics
/// With what there was instead, when it is not there within a minute.
pub async fn eventually<T, E: fmt::Debug>(mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    const LONG_ENOUGH: Duration = Duration::from_secs(60);
    const BETWEEN: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) => assert!(begun.elapsed() < LONG_ENOUGH, "not within {LONG_ENOUGH:?}: {instead:?}"),
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// A port of loopback that is free, and that nobody else gets by asking the system for one: a server that is
/// stopped finds it free when it starts again.
fn free_port() -> u16 {
    // Below the ports that Linux gives to whoever asks for any, and another part of them for each process.
    const FIRST: u32 = 16_000;
    const COUNT: u32 = 16_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(211);
    for _ in 0..COUNT {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + number).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of loopback is free");
}

/// A call for `tenant` with half a minute to go.
///
/// # Panics
/// When `tenant` is not a tenant's name.
#[must_use]
pub fn call(tenant: &str) -> Call {
    Call::new(Tenant::try_new(tenant).expect("a valid tenant"), Deadline::after(Duration::from_secs(30)))
}
