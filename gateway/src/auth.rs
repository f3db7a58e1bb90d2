//! Who is calling, and whether there is room for another call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header};
use mesh::Tenant;
use switchboard_mesh as mesh;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Config, error::Refused, keys::Keys};

/// The other header that carries a key.
pub(crate) const API_KEY: &str = "x-api-key";

/// Streams without a key at once: health watches and reflection.
const OPEN_STREAMS: usize = 64;

/// What both listeners share: the keys, the bounds, and the places.
pub(crate) struct Door {
    pub(crate) config: Config,
    keys: Arc<Keys>,
    calls: Arc<Semaphore>,
    /// Open calls of each tenant that has any.
    tenants: Arc<Mutex<HashMap<Tenant, usize>>>,
    open: Arc<Semaphore>,
}

/// Room for one call; given back when it is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// One call of a tenant, counted until it is dropped.
struct Share {
    tenants: Arc<Mutex<HashMap<Tenant, usize>>>,
    tenant: Tenant,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = tenants.get_mut(&self.tenant) {
            *calls -= 1;
            if *calls == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

impl Door {
    pub(crate) fn new(config: Config, keys: Arc<Keys>) -> Self {
        let calls = Arc::new(Semaphore::new(config.max_calls));
        let open = Arc::new(Semaphore::new(OPEN_STREAMS));
        Self { config, keys, calls, tenants: Arc::default(), open }
    }

    /// The tenant whose key the headers carry.
    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Result<Tenant, Refused> {
        let key = key_of(headers).ok_or(Refused::NoKey)?;
        self.keys.verify(key).ok_or(Refused::UnknownKey)
    }

    /// A place for one call of `tenant`, held until it is done. Callers never queue here: a refusal
    /// that comes at once can be tried elsewhere, and a queue would eat the turn's budget.
    pub(crate) fn enter(&self, tenant: &Tenant) -> Result<Place, Refused> {
        let share = self.share(tenant)?;
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| Refused::Overloaded)?;
        Ok(Place { _permit: permit, _share: Some(share) })
    }

    /// A place for one stream that needs no key.
    pub(crate) fn enter_open(&self) -> Result<Place, Refused> {
        let permit = Arc::clone(&self.open).try_acquire_owned().map_err(|_| Refused::Overloaded)?;
        Ok(Place { _permit: permit, _share: None })
    }

    /// Counts a call of `tenant`, so that no tenant takes the places of all.
    fn share(&self, tenant: &Tenant) -> Result<Share, Refused> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let open = tenants.get(tenant).copied().unwrap_or(0);
        if open >= self.config.calls_per_tenant() {
            return Err(Refused::TenantOverloaded);
        }
        tenants.insert(tenant.clone(), open + 1);
        Ok(Share { tenants: Arc::clone(&self.tenants), tenant: tenant.clone() })
    }
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    headers.get(API_KEY)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_places_for_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let door = Door::new(Config { max_calls: 4, ..Config::default() }, keys);
        let (acme, globex) = (Tenant::try_new("acme").unwrap(), Tenant::try_new("globex").unwrap());
        let held = [door.enter(&acme).unwrap(), door.enter(&acme).unwrap()];
        assert_eq!(door.enter(&acme).err(), Some(Refused::TenantOverloaded));
        let others = [door.enter(&globex).unwrap(), door.enter(&globex).unwrap()];
        drop(held);
        assert!(door.enter(&acme).is_ok());
        drop(others);
        assert!(door.tenants.lock().unwrap().is_empty());
    }

    #[test]
    fn a_call_that_found_no_place_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let door = Door::new(Config { max_calls: 1, ..Config::default() }, keys);
        let (acme, globex) = (Tenant::try_new("acme").unwrap(), Tenant::try_new("globex").unwrap());
        let held = door.enter(&acme).unwrap();
        assert_eq!(door.enter(&globex).err(), Some(Refused::Overloaded));
        drop(held);
        assert!(door.enter(&globex).is_ok());
    }
}
