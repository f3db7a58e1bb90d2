//! What is known of the nodes of one role.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::discovery::listing::{Limits, Listed, Node};

/// The nodes of a role, those that are missing among them.
#[derive(Default)]
pub(super) struct Role {
    nodes: BTreeMap<String, Entry>,
    /// Bytes of the values of all nodes.
    bytes: usize,
    /// Whether nodes were left out for being too many.
    pub(super) cut: bool,
    /// Whether there is another set of nodes and addresses than when this was last asked.
    changed: bool,
}

pub(super) struct Entry {
    pub(super) node: Node,
    /// The registry, in reach, lacks it.
    pub(super) missing: Option<Missing>,
}

/// Since when the registry lacks a node, and how often that time began anew.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    pub(super) since: Instant,
    anew: u32,
}

/// How often the time of a missing node begins anew: a registry that comes and goes, or ends every watch after
/// a moment, shall not keep dead nodes for ever. An outage is no reason to give up nodes, and nobody has so many
/// in one while.
const ANEW: u32 = 60;

impl Missing {
    fn from(now: Instant) -> Self {
        Self { since: now, anew: 0 }
    }

    /// The same, with its time beginning anew where it may.
    fn again(self, now: Instant) -> Self {
        if self.anew < ANEW { Self { since: now, anew: self.anew + 1 } } else { self }
    }
}

impl Role {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of the values of all nodes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is another set of nodes and addresses than when this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The nodes, in order of id.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.nodes.get(id)
    }

    /// Puts a node that is there in place of the one with its id.
    pub(super) fn insert(&mut self, node: Node) {
        let (uri, bytes) = (node.member.uri.clone(), node.bytes);
        let old = self.nodes.insert(node.member.id.clone(), Entry { node, missing: None });
        self.changed |= old.as_ref().is_none_or(|old| old.node.member.uri != uri);
        self.bytes = self.bytes + bytes - old.map_or(0, |old| old.node.bytes);
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(gone) = self.nodes.remove(id) {
            self.bytes -= gone.node.bytes;
            self.changed = true;
        }
    }

    /// The registry says that a node is gone, which need not be true.
    pub(super) fn miss(&mut self, id: &str, now: Instant) {
        if let Some(entry) = self.nodes.get_mut(id) {
            entry.missing.get_or_insert(Missing::from(now));
        }
    }

    /// Removes what `gone` says.
    pub(super) fn remove_where(&mut self, mut gone: impl FnMut(&Entry) -> bool) {
        let (bytes, changed) = (&mut self.bytes, &mut self.changed);
        self.nodes.retain(|_, entry| {
            let gone = gone(entry);
            if gone {
                *bytes -= entry.node.bytes;
                *changed = true;
            }
            !gone
        });
    }

    /// Takes over what the registry has of this role; of an entry that it cannot read, there is no node.
    pub(super) fn take_over(&mut self, told: Listed, back: bool, now: Instant) {
        let (mut told, cut) = (told.nodes, told.cut);
        self.cut = cut;
        let last = told.last_key_value().map(|(last, _)| last.clone());
        for (id, entry) in &mut self.nodes {
            match told.remove(id) {
                Some(node) => {
                    entry.missing = None;
                    if let Some(node) = node {
                        self.bytes = self.bytes - entry.node.bytes + node.bytes;
                        self.changed |= entry.node.member.uri != node.member.uri;
                        entry.node = node;
                    }
                }
                // Of what comes after the cut nothing is known.
                None if cut && last.as_ref().is_none_or(|last| id > last) => {}
                None => {
                    let missing = entry.missing.get_or_insert(Missing::from(now));
                    if back {
                        // While the registry was away nobody could register.
                        *missing = missing.again(now);
                    }
                }
            }
        }
        for node in told.into_values().flatten() {
            self.insert(node);
        }
    }

    /// Removes what is too much: what is missing first, the longest missing before others, then the last by id,
    /// as in a list.
    pub(super) fn trim(&mut self, limits: Limits) {
        if self.fits(limits) {
            return;
        }
        self.give_way(limits, 0, 0);
        while !self.fits(limits) && self.remove_last() {
            self.cut = true;
        }
    }

    /// Removes what is missing, the longest missing first, until there is room for so much more.
    pub(super) fn give_way(&mut self, limits: Limits, nodes: usize, bytes: usize) {
        let room = Limits {
            nodes: limits.nodes.saturating_sub(nodes),
            bytes: limits.bytes.saturating_sub(bytes),
            ..limits
        };
        if self.fits(room) {
            return;
        }
        let missing = self.nodes.iter().filter_map(|(id, entry)| Some((entry.missing?.since, id.clone())));
        let mut missing: Vec<(Instant, String)> = missing.collect();
        missing.sort();
        for (_, id) in missing {
            if self.fits(room) {
                return;
            }
            self.remove(&id);
        }
    }

    fn remove_last(&mut self) -> bool {
        let last = self.nodes.last_key_value().map(|(last, _)| last.clone());
        last.inspect(|last| self.remove(last)).is_some()
    }

    fn fits(&self, limits: Limits) -> bool {
        self.nodes.len() <= limits.nodes && self.bytes <= limits.bytes
    }
}
