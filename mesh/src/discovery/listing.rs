//! A list of what the registry has, with bounds on what is taken from it.
//!
//! Keys come in order, so the nodes of a role stand together. Of each role the first nodes by id are
//! taken; the rest is not even asked for, and neither are roles beyond a number, unless this process calls
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Member,
    etcd::messages::KeyValue,
    layout::{self, Layout, Skip, is_whole},
    metrics,
};

/// How much is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Nodes of a role.
    pub(super) nodes: usize,
    /// Bytes of the values of a role.
    pub(super) bytes: usize,
    /// Entries of a role that are looked at, whether they can be used or not.
    pub(super) looked_at: usize,
    /// Roles that nobody here calls so far.
    pub(super) roles: usize,
}

impl Default for Limits {
    /// A balancer takes no more than about a thousand nodes either. Capability documents take 1 to 10 KiB.
    fn default() -> Self {
        Self { nodes: 1000, bytes: 16 << 20, looked_at: 4000, roles: 16 }
    }
}

/// A node with what the registry says of its entry.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) member: Arc<Member>,
    /// The revision at which its key was made, which orders registrations.
    pub(super) created: i64,
    /// The size of its value.
    pub(super) bytes: usize,
}

impl Node {
    /// Reads an entry.
    ///
    /// # Errors
    /// Why there is no node to it.
    pub(super) fn read(id: &str, kv: &KeyValue) -> Result<Self, Skip> {
        let member = Arc::new(layout::member(id, &kv.value)?);
        Ok(Self { member, created: kv.create_revision, bytes: kv.value.len() })
    }

    /// A node that an earlier process knew.
    pub(super) fn restored(member: Member) -> Self {
        // As much as its value would take, but for a few bytes.
        let bytes = serde_json::to_vec(&member.about).map_or(0, |about| about.len());
        Self { member: Arc::new(member), created: 0, bytes }
    }
}

/// The nodes of a role in a list.
#[derive(Default)]
pub(super) struct Listed {
    /// By id; `None` for an entry that cannot be used.
    pub(super) nodes: BTreeMap<String, Option<Node>>,
    /// Whether there are more than were taken.
    pub(super) cut: bool,
    /// Nodes among them, and the bytes of their values.
    usable: usize,
    bytes: usize,
}

/// A list in the making.
pub(super) struct Listing {
    limits: Limits,
    wanted: BTreeSet<String>,
    unwanted: usize,
    pub(super) roles: BTreeMap<String, Listed>,
    /// Where the roles begin of which those that nobody calls were left out, and where the list ended before
    /// its end: what keys have inside their cluster.
    called_only: Option<Vec<u8>>,
    ended: Option<Vec<u8>>,
}

impl Listing {
    /// `wanted` are the roles that are taken in any case.
    pub(super) fn new(limits: Limits, wanted: BTreeSet<String>) -> Self {
        Self { limits, wanted, unwanted: 0, roles: BTreeMap::new(), called_only: None, ended: None }
    }

    /// Takes a page of entries, in order of key. Returns the key to go on from.
    pub(super) fn take(&mut self, layout: &Layout, page: &[KeyValue]) -> Vec<u8> {
        let mut go_on = Vec::new();
        let mut passed_over: Option<Vec<u8>> = None;
        for kv in page {
            if passed_over.as_ref().is_some_and(|end| kv.key < *end) {
                continue;
            }
            passed_over = None;
            go_on = [kv.key.as_slice(), &[0]].concat();
            let (role, id) = match layout.parse(&kv.key) {
                Ok(key) => key,
                Err(skip) => {
                    metrics::skipped(skip, &kv.key);
                    continue;
                }
            };
            if self.add(role, id, kv).is_err() {
                metrics::skipped(Skip::TooMany, &kv.key);
                if !self.roles.contains_key(role) {
                    self.called_only.get_or_insert_with(|| layout.inside(&kv.key).to_vec());
                }
                let end = layout.role_end(role);
                go_on.clone_from(&end);
                passed_over = Some(end);
            }
        }
        go_on
    }

    /// Ends the list before its end: nothing is known from `key` on.
    pub(super) fn end(&mut self, layout: &Layout, key: &[u8]) {
        let key = layout.inside(key);
        for (role, listed) in &mut self.roles {
            listed.cut |= !is_whole(role, key);
        }
        self.ended = Some(key.to_vec());
    }

    /// Whether there may be more roles than were taken.
    pub(super) fn roles_cut(&self) -> bool {
        self.called_only.is_some() || self.ended.is_some()
    }

    /// Whether `role` was taken in any case.
    pub(super) fn asked_for(&self, role: &str) -> bool {
        self.wanted.contains(role)
    }

    /// Whether a role that is not among `roles` is not in the registry either.
    pub(super) fn lacks(&self, role: &str) -> bool {
        let before = |key: &Option<Vec<u8>>| key.as_ref().is_none_or(|key| is_whole(role, key));
        before(&self.ended) && (self.wanted.contains(role) || before(&self.called_only))
    }

    fn add(&mut self, role: &str, id: &str, kv: &KeyValue) -> Result<(), Skip> {
        if !self.roles.contains_key(role) && !self.wanted.contains(role) {
            if self.unwanted == self.limits.roles {
                return Err(Skip::TooMany);
            }
            self.unwanted += 1;
        }
        let listed = self.roles.entry(role.to_owned()).or_default();
        if listed.usable == self.limits.nodes || listed.nodes.len() == self.limits.looked_at {
            listed.cut = true;
            return Err(Skip::TooMany);
        }
        let node = match Node::read(id, kv) {
            Ok(node) => Some(node),
            // As if its entry were gone already.
            Err(Skip::Left) => return Ok(()),
            Err(skip) => {
                metrics::skipped(skip, &kv.key);
                None
            }
        };
        let bytes = node.as_ref().map_or(0, |node| node.bytes);
        if listed.bytes + bytes > self.limits.bytes {
            listed.cut = true;
            return Err(Skip::TooMany);
        }
        listed.bytes += bytes;
        listed.usable += usize::from(node.is_some());
        listed.nodes.insert(id.to_owned(), node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::About;

    fn entry(key: String, address: &str) -> KeyValue {
        let value = layout::value(address, &About::default());
        KeyValue { key: key.into_bytes(), value, ..KeyValue::default() }
    }

    fn take(limits: Limits, keys: &[&str]) -> (Listing, Vec<u8>) {
        let layout = Layout::new("default");
        let page: Vec<KeyValue> =
            keys.iter().map(|key| entry(format!("/switchboard/v1/default/nodes/{key}"), "a:1")).collect();
        let mut listing = Listing::new(limits, BTreeSet::from(["z".to_owned()]));
        let go_on = listing.take(&layout, &page);
        (listing, go_on)
    }

    #[test]
    fn of_too_many_nodes_the_first_are_taken_and_the_next_role_follows() {
        let limits = Limits { nodes: 2, ..Limits::default() };
        let (listing, go_on) = take(limits, &["a/1", "a/2", "a/3", "a/4", "b/1"]);
        let ids: Vec<&String> = listing.roles["a"].nodes.keys().collect();
        assert_eq!(ids, ["1", "2"]);
        assert!(listing.roles["a"].cut && !listing.roles["b"].cut);
        assert_eq!(go_on, b"/switchboard/v1/default/nodes/b/1\0");
        let (_, go_on) = take(limits, &["a/1", "a/2", "a/3", "a/4"]);
        assert_eq!(go_on, b"/switchboard/v1/default/nodes/a0", "the rest of the role is not asked for");
    }

    #[test]
    fn entries_that_cannot_be_used_take_no_place_of_those_that_can() {
        let layout = Layout::new("default");
        let entries: Vec<KeyValue> = (0..9)
            .map(|number| entry(format!("/switchboard/v1/default/nodes/a/{number}"), ["", "a:1"][number % 2]))
            .collect();
        for (nodes, looked_at, ids) in [(2, 9, "0123"), (9, 5, "01234"), (0, 9, "")] {
            let limits = Limits { nodes, looked_at, ..Limits::default() };
            let mut listing = Listing::new(limits, BTreeSet::new());
            // Page by page, so that what was counted is carried on.
            for kv in &entries {
                listing.take(&layout, std::slice::from_ref(kv));
            }
            let listed = &listing.roles["a"];
            assert_eq!((listed.nodes.keys().cloned().collect::<String>(), listed.cut), (ids.into(), true));
            assert_eq!(listed.usable, listed.nodes.values().flatten().count());
        }
    }

    #[test]
    fn roles_that_nobody_calls_leave_room_for_those_that_are_called() {
        let limits = Limits { roles: 2, ..Limits::default() };
        let (listing, _) = take(limits, &["a/1", "b/1", "c/1", "z/1"]);
        assert_eq!(listing.roles.keys().collect::<Vec<_>>(), ["a", "b", "z"]);
        assert!(listing.roles_cut());
    }

    #[test]
    fn only_of_what_was_looked_at_is_it_known_that_it_is_not_there() {
        let limits = Limits { roles: 2, ..Limits::default() };
        // In order of key: `-` comes before `/`.
        let (mut listing, _) = take(limits, &["b/1", "c-2/1", "c/1", "d/1"]);
        let lacks =
            |listing: &Listing| ["a", "b-2", "c-1", "c", "e", "z", "zz"].map(|role| listing.lacks(role));
        assert_eq!(lacks(&listing), [true, true, true, false, false, true, false], "z is called");
        assert!(listing.asked_for("z") && !listing.asked_for("c"));
        let layout = Layout::new("default");
        listing.end(&layout, b"/switchboard/v1/default/nodes/c-2/1\0");
        assert_eq!(lacks(&listing), [true, true, true, false, false, false, false]);
        assert!(!listing.roles["b"].cut && listing.roles["c-2"].cut, "more of c-2 may follow");

        let (mut listing, _) = take(Limits::default(), &["a/1"]);
        assert!(!listing.roles_cut() && listing.lacks("b"));
        listing.end(&layout, b"/switchboard/v1/default/nodes/a0");
        assert!(listing.roles_cut() && !listing.lacks("b") && !listing.roles["a"].cut);
    }

    #[test]
    fn large_values_have_an_end() {
        let limits = Limits { bytes: 150, ..Limits::default() };
        let (listing, _) = take(limits, &["a/1", "a/2", "a/3", "b/1"]);
        assert!(listing.roles["a"].cut && listing.roles["a"].nodes.len() < 3);
    }
}
