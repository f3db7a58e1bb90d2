//! Who serves a role, where, and with what.
//!
//! A [`Discovery`] tells of a role's [`Members`] as they come and go. Balancing
//! (`balance`) takes what it tells and never asks where it is from.
//!
//! [`Mixed`] is what a process has: fixed addresses, names that are looked up again, and for all other
//! roles the registry, an etcd in which every node stands under a lease ([`Registrar`]). `view` says when a
//! node is given up; above all, never because the registry is away. A start without the registry serves
//! from a snapshot of what was last known.

mod backoff;
mod config;
mod dns;
mod etcd;
mod fixed;
mod layout;
mod listing;
mod metrics;
mod mixed;
mod registrar;
mod registry;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

pub use config::Config;
pub use dns::{Resolve, Resolving, System};
pub use fixed::Fixed;
use http::Uri;
pub use mixed::{Mixed, Place, Seams, instance_id};
pub use registrar::{Announcement, Registrar, Registration};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A source of members.
///
/// A source that cannot be reached keeps telling what it last knew: the members of a role that had some
/// are never emptied because discovery is away.
pub trait Discovery: Send + Sync + 'static {
    /// The members of `role`, now and as they change. Of a role that nobody serves there are none. The
    /// sender is kept for as long as the source lives.
    fn watch(&self, role: &str) -> watch::Receiver<Arc<Members>>;
}

/// The nodes that serve a role.
#[derive(Clone, Debug)]
pub struct Members {
    /// The nodes, in order of id.
    pub nodes: Vec<Arc<Member>>,
    /// Where this is from.
    pub source: Source,
    /// When it was last known to be true; 1970 where that was never.
    pub as_of: SystemTime,
}

/// Where the members of a role are known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration.
    Fixed,
    /// A name server.
    Dns,
    /// The registry, which is in reach.
    Registry,
    /// What the registry said when it was last in reach.
    Memory,
    /// A file of what an earlier process was told.
    Snapshot,
}

impl Source {
    /// Its name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Dns => "dns",
            Self::Registry => "registry",
            Self::Memory => "memory",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A node that serves a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Names the process; the same for all roles that it serves.
    pub id: String,
    /// Where it listens: scheme, host and port.
    pub uri: Uri,
    /// What it says of itself.
    pub about: About,
}

/// What a node says of itself: its capability document.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct About {
    /// The zone it runs in, such as `eu-west-1a`; empty where zones are not told.
    pub zone: String,
    /// The version of the program.
    pub version: String,
    /// When the process started, in seconds since 1970.
    pub started_at: u64,
    /// The models it has loaded, by name; none for roles without models.
    pub models: BTreeMap<String, AboutModel>,
}

/// What a node says of a model that it has loaded.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct AboutModel {
    /// What it does, such as `embed`.
    pub task: String,
    /// Names what may be compared: vectors of one fingerprint.
    pub fingerprint: String,
    /// Components of a vector; 0 where it gives none.
    pub dimensions: u32,
    /// Longest input in tokens.
    pub max_tokens: u32,
    /// Batches computed side by side.
    pub instances: u32,
    /// Its warm-up profile: rows, tokens of a row, seconds of the batch.
    pub profile: Vec<(u32, u32, f64)>,
    /// Seconds that what waits for it takes.
    pub backlog: f64,
}

impl Member {
    /// A member of which only the address is known.
    #[must_use]
    pub fn at(uri: Uri) -> Self {
        let id = uri.authority().map_or_else(|| uri.to_string(), ToString::to_string);
        Self { id, uri, about: About::default() }
    }
}
