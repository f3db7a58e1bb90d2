//! Who is calling, what they may call, and whether there is room for another call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header};
use mesh::{Call, Tenant, overload::Overload, redis::Redis};
use switchboard_mesh as mesh;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Config,
    error::Refused,
    keys::{Grant, Keys, Rejected},
    permissions::Access,
    rate::Rates,
};

/// The other header that carries a key.
pub(crate) const API_KEY: &str = "x-api-key";

/// Streams without a key at once: health watches and reflection.
const OPEN_STREAMS: usize = 64;

/// What both listeners share: the keys, the bounds, the rates, and the places.
pub(crate) struct Door {
    pub(crate) config: Config,
    /// What the process can do at once.
    pub(crate) overload: Overload,
    keys: Arc<Keys>,
    rates: Rates,
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
    pub(crate) fn new(config: Config, keys: Arc<Keys>, redis: Option<Redis>, overload: Overload) -> Self {
        let rates = Rates::new(config.rate.clone(), redis);
        let calls = Arc::new(Semaphore::new(config.max_calls));
        let open = Arc::new(Semaphore::new(OPEN_STREAMS));
        Self { config, overload, keys, rates, calls, tenants: Arc::default(), open }
    }

    /// What the key in the headers says of its holder, who may call what takes `access`; `None` where
    /// no key is needed.
    pub(crate) fn authorize(&self, headers: &HeaderMap, access: Access) -> Result<Option<Grant>, Refused> {
        if access == Access::Open {
            return Ok(None);
        }
        let key = key_of(headers).ok_or(Refused::NoKey)?;
        let grant = self.keys.verify(key).map_err(|rejected| match rejected {
            Rejected::Unknown => Refused::UnknownKey,
            Rejected::Expired => Refused::ExpiredKey,
        })?;
        let Access::Key { roles, scope } = access else { return Err(Refused::Closed) };
        if !roles.contains(&grant.role) {
            return Err(Refused::Role { roles });
        }
        if !grant.scopes.is_empty() && !grant.scopes.iter().any(|granted| granted.takes_in(scope)) {
            return Err(Refused::Scope { scope });
        }
        Ok(Some(grant))
    }

    /// A place for one call of `tenant`, held until it is done. Callers never queue here: a refusal
    /// that comes at once can be tried elsewhere, and a queue would eat the turn's budget.
    ///
    /// Both doors come through here once they know the tenant, before they read what it sends.
    pub(crate) fn enter(&self, tenant: &Tenant) -> Result<Place, Refused> {
        let share = self.share(tenant)?;
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| Refused::Overloaded)?;
        Ok(Place { _permit: permit, _share: Some(share) })
    }

    /// Counts a call against its tenant's rate. Both doors come through here once they know the call's
    /// class; over HTTP, that stands in the body.
    pub(crate) async fn count(&self, call: &Call) -> Result<(), Refused> {
        match call.tenant() {
            Ok(tenant) => self.rates.admit(tenant, call.class).await,
            // Who needs no key is bounded by places alone.
            Err(_) => Ok(()),
        }
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
    use crate::{
        keys::{NewKey, Role, Scope},
        permissions,
    };

    fn door(config: Config, keys: &Arc<Keys>) -> Door {
        Door::new(config, Arc::clone(keys), None, Overload::default())
    }

    fn headers(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap())])
    }

    #[test]
    fn a_key_opens_what_its_role_may_call_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let door = door(Config::default(), &keys);
        let acme = Tenant::try_new("acme").unwrap();
        let conversation = "/switchboard.conversation.v1.ConversationService/";
        let knowledge = "/switchboard.knowledge.v1.KnowledgeService/";
        let calls = [
            (conversation, "Converse"),
            (conversation, "GetConversation"),
            (conversation, "ListConversations"),
            (knowledge, "Search"),
            (knowledge, "Ingest"),
            ("/switchboard.policy.v1.PolicyService/", "Restore"),
        ];
        let cases: [(Role, &[&str], &[&str]); 7] = [
            (Role::CustomerApp, &[], &["Converse", "GetConversation"]),
            (Role::Agent, &[], &["Converse", "GetConversation", "ListConversations", "Search"]),
            (Role::Admin, &[], &["Converse", "GetConversation", "ListConversations", "Search", "Ingest"]),
            (Role::Auditor, &[], &["GetConversation", "ListConversations", "Search"]),
            (Role::Admin, &["knowledge:write"], &["Ingest"]),
            (
                Role::Admin,
                &["knowledge", "conversation:read"],
                &["GetConversation", "ListConversations", "Search", "Ingest"],
            ),
            (Role::Agent, &["knowledge"], &["Search"]),
        ];
        for (role, scopes, opened) in cases {
            let scopes = scopes.iter().map(|name| Scope::parse(name).unwrap()).collect();
            let (_, key) = keys.create(&NewKey { scopes, ..NewKey::new(acme.clone(), role) }).unwrap();
            let opens = |(service, method): &(&str, &str)| {
                let access = permissions::method(&format!("{service}{method}")).unwrap();
                door.authorize(&headers(key.expose()), access).is_ok()
            };
            let found: Vec<_> = calls.iter().filter(|call| opens(call)).map(|(_, method)| *method).collect();
            assert_eq!(found, opened, "{role}");
        }
    }

    #[test]
    fn a_refusal_names_the_role_or_the_scope_that_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let door = door(Config::default(), &keys);
        let auditor = NewKey::new(Tenant::try_new("acme").unwrap(), Role::Auditor);
        let narrow = NewKey { scopes: vec![Scope::parse("generation").unwrap()], ..auditor.clone() };
        let refused = |new: &NewKey, path: &str| {
            let (_, key) = keys.create(new).unwrap();
            let access = permissions::method(path).unwrap();
            door.authorize(&headers(key.expose()), access).unwrap_err().to_string()
        };
        let ingest = refused(&auditor, "/switchboard.knowledge.v1.KnowledgeService/Ingest");
        assert_eq!(ingest, "this needs an API key of role admin");
        let converse = refused(&auditor, "/switchboard.conversation.v1.ConversationService/Converse");
        assert_eq!(converse, "this needs an API key of role customer-app, agent or admin");
        let search = refused(&narrow, "/switchboard.knowledge.v1.KnowledgeService/Search");
        assert_eq!(search, "this needs an API key whose scopes have knowledge:read");
        let restore = refused(&auditor, "/switchboard.policy.v1.PolicyService/Restore");
        assert_eq!(restore, "no API key opens this: it is for other services alone");
    }

    #[test]
    fn one_tenant_leaves_places_for_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(Keys::file_in(folder.path())).unwrap());
        let door = door(Config { max_calls: 4, ..Config::default() }, &keys);
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
        let door = door(Config { max_calls: 1, ..Config::default() }, &keys);
        let (acme, globex) = (Tenant::try_new("acme").unwrap(), Tenant::try_new("globex").unwrap());
        let held = door.enter(&acme).unwrap();
        assert_eq!(door.enter(&globex).err(), Some(Refused::Overloaded));
        drop(held);
        assert!(door.enter(&globex).is_ok());
    }
}
