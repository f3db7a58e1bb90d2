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
}

pub(super) struct Entry {
    pub(super) node: Node,
    /// Since when the registry, in reach, has lacked it.
    pub(super) missing: Option<Instant>,
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

    /// The nodes, in order of id.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.nodes.get(id)
    }

    /// Puts a node that is there in place of the one with its id. Returns that one.
    pub(super) fn insert(&mut self, node: Node) -> Option<Entry> {
        self.bytes += node.bytes;
        let old = self.nodes.insert(node.member.id.clone(), Entry { node, missing: None });
        self.bytes -= old.as_ref().map_or(0, |old| old.node.bytes);
        old
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Entry> {
        let gone = self.nodes.remove(id)?;
        self.bytes -= gone.node.bytes;
        Some(gone)
    }

    /// The registry says that a node is gone, which need not be true.
    pub(super) fn miss(&mut self, id: &str, now: Instant) {
        if let Some(entry) = self.nodes.get_mut(id) {
            entry.missing.get_or_insert(now);
        }
    }

    /// Removes what `gone` says.
    pub(super) fn remove_where(&mut self, mut gone: impl FnMut(&Entry) -> bool) {
        let bytes = &mut self.bytes;
        self.nodes.retain(|_, entry| {
            let gone = gone(entry);
            if gone {
                *bytes -= entry.node.bytes;
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
                        entry.node = node;
                    }
                }
                // Of what comes after the cut nothing is known.
                None if cut && last.as_ref().is_none_or(|last| id > last) => {}
                // The time begins anew: while the registry was away nobody could register.
                None if back => entry.missing = Some(now),
                None => {
                    entry.missing.get_or_insert(now);
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
        let missing = self.nodes.iter().filter_map(|(id, entry)| Some((entry.missing?, id.clone())));
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
        let last = self.nodes.pop_last();
        self.bytes -= last.as_ref().map_or(0, |(_, last)| last.node.bytes);
        last.is_some()
    }

    fn fits(&self, limits: Limits) -> bool {
        self.nodes.len() <= limits.nodes && self.bytes <= limits.bytes
    }
}
