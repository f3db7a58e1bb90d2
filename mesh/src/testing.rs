//! Help for tests of roles: a context with nothing behind it, and calls to make.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{Call, Channel, Context, Deadline, Mounted, Tenant};

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

/// A call for `tenant` with half a minute to go.
///
/// # Panics
/// When `tenant` is not a tenant's name.
#[must_use]
pub fn call(tenant: &str) -> Call {
    Call::new(Tenant::try_new(tenant).expect("a valid tenant"), Deadline::after(Duration::from_secs(30)))
}
