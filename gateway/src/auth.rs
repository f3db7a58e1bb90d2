//! Who is calling, and whether there is room for another call.

use std::sync::Arc;

use http::{HeaderMap, header};
use mesh::Tenant;
use switchboard_mesh as mesh;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Config, error::Refused, keys::Keys};

/// The other header that carries a key.
pub(crate) const API_KEY: &str = "x-api-key";

/// What both listeners share: the keys, the bounds, and the places.
pub(crate) struct Door {
    pub(crate) config: Config,
    keys: Arc<Keys>,
    calls: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(config: Config, keys: Arc<Keys>) -> Self {
        let calls = Arc::new(Semaphore::new(config.max_calls));
        Self { config, keys, calls }
    }

    /// The tenant whose key the headers carry.
    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Result<Tenant, Refused> {
        let key = key_of(headers).ok_or(Refused::NoKey)?;
        self.keys.verify(key).ok_or(Refused::UnknownKey)
    }

    /// A place for one call, held until it is done. Callers never queue here: a refusal that comes
    /// at once can be tried elsewhere, and a queue would eat the turn's budget.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| Refused::Overloaded)
    }
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    headers.get(API_KEY)?.to_str().ok()
}
