//! Members at fixed addresses.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use http::Uri;
use tokio::sync::watch;

use super::{Discovery, Member, Members, Source};

/// The addresses of roles, as they were configured.
#[derive(Default)]
pub struct Fixed(Mutex<BTreeMap<String, watch::Sender<Arc<Members>>>>);

impl Fixed {
    /// Roles at addresses, each at one or several.
    #[must_use]
    pub fn new(roles: BTreeMap<String, Vec<Uri>>) -> Self {
        let senders = roles.into_iter().map(|(role, uris)| (role, watch::Sender::new(members(uris))));
        Self(Mutex::new(senders.collect()))
    }
}

fn members(uris: Vec<Uri>) -> Arc<Members> {
    let nodes = uris.into_iter().map(Member::at).map(Arc::new).collect();
    Arc::new(Members { nodes, source: Source::Fixed, as_of: SystemTime::now() })
}

impl Discovery for Fixed {
    fn watch(&self, role: &str) -> watch::Receiver<Arc<Members>> {
        let mut roles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = roles.entry(role.to_owned()).or_insert_with(|| watch::Sender::new(members(Vec::new())));
        sender.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_its_addresses_and_another_one_none() {
        let uris = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(Uri::from_static).to_vec();
        let fixed = Fixed::new(BTreeMap::from([("inference".to_owned(), uris)]));
        let members = fixed.watch("inference").borrow().clone();
        let ids: Vec<&str> = members.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!((ids, members.source), (vec!["127.0.0.1:1", "127.0.0.1:2"], Source::Fixed));
        assert!(fixed.watch("policy").borrow().nodes.is_empty());
    }
}
