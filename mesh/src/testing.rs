//! Help for tests of roles: a context with nothing behind it, and calls to make.

mod redis;

use std::{collections::BTreeMap, path::Path, time::Duration};

use http::Uri;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::redis::RedisServer;
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

/// A call for `tenant` with half a minute to go.
///
/// # Panics
/// When `tenant` is not a tenant's name.
#[must_use]
pub fn call(tenant: &str) -> Call {
    Call::new(Tenant::try_new(tenant).expect("a valid tenant"), Deadline::after(Duration::from_secs(30)))
}
