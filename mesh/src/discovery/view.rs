//! What is known of all roles, and when something of it is given up.
//!
//! The rules, with `settle` as twice the time that a lease lives and a little more:
//!
//! 1. While the registry is away nothing changes, however long that takes.
//! 2. A node that says that it leaves is removed at once.
//! 3. What the registry lacks, or says is gone, is *missing* from then on, and no more than that: its node may
//!    have died, or be cut off from the registry, alone or with all others, so that leases end that nobody
//!    could renew; or all data may be lost. Callers notice dead nodes by themselves, and sooner.
//! 4. A node that has been missing for `settle`, with the registry in reach, is removed. The nodes of a
//!    role of which none is left in the registry stay for a quarter of an hour: they may be unable to
//!    write there, and calls to nodes that are gone fail no less without them. Each return of the registry
//!    begins the time anew, but not without end.
//! 5. An entry that cannot be read leaves what was known of its node as it was.
//! 6. Of what a list did not come to, because it has an end, nothing is known: it stays as it was, as far as
//!    there is room. Where there is not, nodes that are missing give way first, then the last by id.
//! 7. Of several nodes at one address, all but one must be dead: one that is in the registry comes before
//!    one that is missing, and then the one that was registered last.
//!
//! Only this machine's monotonic clock and the registry's order of changes decide. No other machine's wall
//! clock does.

mod role;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use http::Uri;
use tokio::{sync::watch, time::Instant};

use self::role::{Entry, Role};
use super::{
    Member, Members, Source,
    layout::Skip,
    listing::{Limits, Listed, Listing, Node},
    metrics,
};

/// How long the nodes of a role stay of which the registry has none.
const LAST: Duration = Duration::from_secs(15 * 60);

/// So many times the roles that nobody calls are taken from an earlier process: which of them are called is not
/// known yet.
const RESTORED: usize = 4;

/// All roles as the registry told of them.
pub(super) struct View(Mutex<Inner>);

struct Inner {
    settle: Duration,
    limits: Limits,
    roles: BTreeMap<String, Role>,
    watched: BTreeMap<String, watch::Sender<Arc<Members>>>,
    /// Watched roles of which something changed that was not published.
    dirty: BTreeSet<String>,
    source: Source,
    as_of: SystemTime,
    /// Whether roles were left out for being too many.
    roles_cut: bool,
    /// Counts changes of the set of roles, nodes and addresses.
    changes: u64,
}

impl View {
    /// Nothing known so far.
    pub(super) fn new(ttl: Duration, limits: Limits) -> Self {
        Self(Mutex::new(Inner {
            // Twice the time of a lease, and what it takes to find etcd again.
            settle: ttl * 2 + Duration::from_secs(5),
            limits,
            roles: BTreeMap::new(),
            watched: BTreeMap::new(),
            dirty: BTreeSet::new(),
            source: Source::Memory,
            as_of: SystemTime::UNIX_EPOCH,
            roles_cut: false,
            changes: 0,
        }))
    }

    /// What an earlier process knew, within the same bounds as what the registry says.
    pub(super) fn restore(&self, members: BTreeMap<String, Vec<Member>>, as_of: SystemTime) {
        let mut inner = self.inner();
        let limits = inner.limits;
        for (role, members) in members.into_iter().take(limits.roles.saturating_mul(RESTORED)) {
            let known = inner.roles.entry(role).or_default();
            for member in members {
                known.insert(Node::restored(member));
            }
            known.trim(limits);
            known.take_changed();
        }
        (inner.source, inner.as_of) = (Source::Snapshot, as_of);
        inner.touch_all();
        inner.publish();
    }

    /// The members of `role`. Also says whether the registry should be listed again for them.
    pub(super) fn watch(&self, role: &str) -> (watch::Receiver<Arc<Members>>, bool) {
        let mut inner = self.inner();
        if let Some(sender) = inner.watched.get(role) {
            return (sender.subscribe(), false);
        }
        let members = inner.members(role);
        metrics::members(role, members.nodes.len(), members.source);
        let sender = watch::Sender::new(Arc::new(members));
        let receiver = sender.subscribe();
        inner.watched.insert(role.to_owned(), sender);
        (receiver, inner.roles_cut && !inner.roles.contains_key(role))
    }

    /// A list to fill.
    pub(super) fn listing(&self) -> Listing {
        let inner = self.inner();
        Listing::new(inner.limits, inner.watched.keys().cloned().collect())
    }

    /// Takes over what the registry has. `back` says that it was out of reach before. Returns whether the
    /// registry should be listed again, since a role was left out that is called by now.
    pub(super) fn listed(&self, mut listing: Listing, back: bool, now: Instant) -> bool {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let unseen = |role: &String| !listing.roles.contains_key(role) && !listing.lacks(role);
        let again = inner.watched.keys().any(|role| unseen(role) && !listing.asked_for(role));
        inner.roles_cut = listing.roles_cut();
        for (name, role) in &mut inner.roles {
            match listing.roles.remove(name) {
                Some(told) => role.take_over(told, back, now),
                None if listing.lacks(name) => role.take_over(Listed::default(), back, now),
                // The list did not come to it.
                None => {}
            }
        }
        for (name, told) in listing.roles {
            let mut role = Role::default();
            role.take_over(told, back, now);
            inner.roles.insert(name, role);
        }
        for role in inner.roles.values_mut() {
            role.trim(inner.limits);
            inner.changes += u64::from(role.take_changed());
        }
        inner.trim_roles();
        inner.source = Source::Registry;
        inner.as_of = SystemTime::now();
        inner.touch_all();
        inner.publish();
        again
    }

    /// A node was written to the registry.
    ///
    /// # Errors
    /// [`Skip::TooMany`] where there is no room for it.
    pub(super) fn put(&self, role: &str, node: Node) -> Result<(), Skip> {
        let mut inner = self.inner();
        let limits = inner.limits;
        if !inner.roles.contains_key(role) {
            let unwatched = inner.roles.keys().filter(|role| !inner.watched.contains_key(*role)).count();
            if unwatched >= limits.roles && !inner.watched.contains_key(role) {
                inner.roles_cut = true;
                return Err(Skip::TooMany);
            }
        }
        let known = inner.roles.entry(role.to_owned()).or_default();
        let id = node.member.id.clone();
        let old = known.get(&id).map_or((0, 0), |entry| (1, entry.node.bytes));
        known.give_way(limits, 1 - old.0, node.bytes.saturating_sub(old.1));
        if known.bytes() + node.bytes > limits.bytes + known.get(&id).map_or(0, |entry| entry.node.bytes) {
            known.cut = true;
            inner.touch(role);
            return Err(Skip::TooMany);
        }
        known.insert(node);
        known.trim(limits);
        let kept = known.get(&id).is_some();
        inner.touch(role);
        if kept { Ok(()) } else { Err(Skip::TooMany) }
    }

    /// A node is gone from the registry, and said nothing. Returns whether the registry should be listed again,
    /// since there is room now for nodes that were left out.
    pub(super) fn delete(&self, role: &str, id: &str, now: Instant) -> bool {
        self.change(role, |known| known.miss(id, now))
    }

    /// A node says that it leaves. Returns as [`delete`](Self::delete) does.
    pub(super) fn leave(&self, role: &str, id: &str) -> bool {
        self.change(role, |known| known.remove(id))
    }

    fn change(&self, role: &str, change: impl FnOnce(&mut Role)) -> bool {
        let mut inner = self.inner();
        let Some(known) = inner.roles.get_mut(role) else { return false };
        change(known);
        // Also for an entry that was of no use: it has made room, or is one of those that were left out.
        let again = known.cut;
        inner.touch(role);
        again
    }

    /// Something was heard of the registry: what is known is true now.
    pub(super) fn heard(&self) {
        self.inner().as_of = SystemTime::now();
    }

    /// The registry is out of reach.
    pub(super) fn away(&self) {
        let mut inner = self.inner();
        if inner.source == Source::Registry {
            inner.source = Source::Memory;
            inner.touch_all();
            inner.publish();
        }
    }

    /// Removes what has been missing for long enough. To be called now and then. Returns whether the registry
    /// should be listed again, as [`delete`](Self::delete) does.
    pub(super) fn expire(&self, now: Instant) -> bool {
        let mut inner = self.inner();
        let inner = &mut *inner;
        if inner.as_of > SystemTime::UNIX_EPOCH {
            metrics::age(SystemTime::now().duration_since(inner.as_of).unwrap_or_default().as_secs_f64());
        }
        if inner.source != Source::Registry {
            return false;
        }
        let (mut changed, mut again) = (Vec::new(), false);
        for (name, role) in &mut inner.roles {
            let some_left = role.entries().any(|entry| entry.missing.is_none());
            let limit = if some_left { inner.settle } else { LAST.max(inner.settle) };
            let before = role.len();
            role.remove_where(|entry| {
                entry.missing.is_some_and(|missing| now.saturating_duration_since(missing.since) >= limit)
            });
            let gone = before - role.len();
            if gone > 0 {
                tracing::info!(role = name, gone, "nodes that the registry lacks are given up");
                changed.push(name.clone());
                again |= role.cut;
            }
        }
        for role in changed {
            inner.touch(&role);
        }
        inner.roles.retain(|_, role| !role.is_empty() || role.cut);
        inner.publish();
        again
    }

    /// Tells those who watch of what changed.
    pub(super) fn publish(&self) {
        self.inner().publish();
    }

    /// How often there was another set of roles, nodes and addresses. What nodes say of themselves changes all
    /// the time, and is not counted.
    pub(super) fn changes(&self) -> u64 {
        self.inner().changes
    }

    /// Where the members are known from.
    pub(super) fn source(&self) -> Source {
        self.inner().source
    }

    /// All that is known.
    pub(super) fn all(&self) -> BTreeMap<String, Vec<Arc<Member>>> {
        let inner = self.inner();
        inner.roles.keys().map(|role| (role.clone(), inner.members(role).nodes)).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Removes roles that nobody calls, where there are too many: those that the registry lacks first, then the
    /// last by name.
    fn trim_roles(&mut self) {
        let unwatched = self.roles.iter().filter(|(name, _)| !self.watched.contains_key(*name));
        let is_lacking = |role: &Role| role.entries().all(|entry| entry.missing.is_some());
        let mut unwatched: Vec<(bool, String)> =
            unwatched.map(|(name, role)| (is_lacking(role), name.clone())).collect();
        unwatched.sort();
        for (lacking, name) in unwatched.into_iter().skip(self.limits.roles) {
            self.changes += u64::from(self.roles.remove(&name).is_some_and(|role| !role.is_empty()));
            self.roles_cut |= !lacking;
        }
    }

    fn touch(&mut self, role: &str) {
        self.changes += u64::from(self.roles.get_mut(role).is_some_and(Role::take_changed));
        if self.watched.contains_key(role) {
            self.dirty.insert(role.to_owned());
        }
    }

    fn touch_all(&mut self) {
        self.dirty = self.watched.keys().cloned().collect();
    }

    fn publish(&mut self) {
        for role in std::mem::take(&mut self.dirty) {
            let members = self.members(&role);
            let Some(sender) = self.watched.get(&role) else { continue };
            sender.send_if_modified(|told| {
                let same = told.source == members.source && told.nodes == members.nodes;
                if !same {
                    metrics::members(&role, members.nodes.len(), members.source);
                    *told = Arc::new(members);
                }
                !same
            });
        }
    }

    /// One node for each address, in order of id.
    fn members(&self, role: &str) -> Members {
        let mut at: BTreeMap<String, &Entry> = BTreeMap::new();
        let entries = self.roles.get(role).into_iter().flat_map(Role::entries);
        for entry in entries {
            let worth = |entry: &Entry| (entry.missing.is_none(), entry.node.created);
            match at.entry(address(&entry.node.member.uri)) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(entry);
                }
                btree_map::Entry::Occupied(mut place) if worth(entry) > worth(place.get()) => {
                    place.insert(entry);
                }
                btree_map::Entry::Occupied(_) => {}
            }
        }
        let mut nodes: Vec<Arc<Member>> = at.values().map(|entry| Arc::clone(&entry.node.member)).collect();
        nodes.sort_by(|one, other| one.id.cmp(&other.id));
        Members { nodes, source: self.source, as_of: self.as_of }
    }
}

fn address(uri: &Uri) -> String {
    uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
