//! The nodes of a role at a moment, and which of them have a model.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::endpoint::{Endpoint, Node};
use crate::discovery::Members;

/// Nodes that are taken from one source; a source that tells of more is not believed.
const MOST: usize = 1024;

/// The nodes of a role, with what is kept of each.
pub(super) struct Set {
    pub(super) members: Arc<Members>,
    pub(super) nodes: Vec<Node>,
}

/// Whether a node has the model that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Has {
    No,
    Unknown,
    Yes,
}

impl Set {
    /// The nodes that `members` tells of. Those that were in `before` keep what is known of them; of two
    /// with one id at one address the first is taken.
    pub(super) fn new(members: Arc<Members>, before: &[Node], role: &str, now: Instant) -> Self {
        let before: BTreeMap<(&str, String), &Node> = before.iter().map(|node| (key(node), node)).collect();
        let mut seen = std::collections::BTreeSet::new();
        let mut nodes = Vec::with_capacity(members.nodes.len().min(MOST));
        for member in &members.nodes {
            let key = (member.id.as_str(), member.uri.to_string());
            if nodes.len() == MOST {
                tracing::warn!(role, told = members.nodes.len(), MOST, "more nodes than are believed");
                break;
            }
            let known = before.get(&key).filter(|node| node.endpoint.is(member));
            if seen.insert(key) {
                let endpoint = match known {
                    Some(node) => Arc::clone(&node.endpoint),
                    None => Arc::new(Endpoint::new(member, now)),
                };
                nodes.push(Node { member: Arc::clone(member), endpoint });
            }
        }
        Self { members, nodes }
    }

    /// Whether the node at `index` has `model`, by what it tells of itself or said to a call.
    pub(super) fn has(&self, index: usize, model: &str, now: Instant) -> Has {
        let node = &self.nodes[index];
        if node.endpoint.state().loads.lacks(model, now) {
            return Has::No;
        }
        let told = &node.member.about.models;
        match (told.contains_key(model), told.is_empty()) {
            (true, _) => Has::Yes,
            (false, true) => Has::Unknown,
            (false, false) => Has::No,
        }
    }
}

fn key(node: &Node) -> (&str, String) {
    (&node.endpoint.id, node.endpoint.uri.to_string())
}
