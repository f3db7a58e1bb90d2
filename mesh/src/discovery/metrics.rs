//! Every metric of discovery. Roles are those that this process asks for; all other labels are closed sets.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge},
};

use super::{Source, layout::Skip};
use crate::telemetry::meter;

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(description).build()
}

static MEMBERS: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    let about = "Nodes that are known of a role, by where they are known from";
    meter().u64_gauge("switchboard_mesh_members").with_description(about).build()
});
static AGE: LazyLock<Gauge<f64>> = LazyLock::new(|| {
    let about = "Time since what is known of the nodes was last known to be true";
    meter().f64_gauge("switchboard_mesh_members_age").with_unit("s").with_description(about).build()
});
static RESTARTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_mesh_watch_restarts", "Watches of the registry that ended, by reason")
});
static SKIPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_mesh_members_skipped", "Entries of the registry that were left out, by reason")
});
static LEASES_LOST: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("switchboard_mesh_leases_lost", "Times that the registry had forgotten this node")
});

/// Records how many nodes of `role` are known, and where from: of other sources there are none then.
pub(super) fn members(role: &str, count: usize, from: Source) {
    use Source::{Dns, Fixed, Memory, Registry, Snapshot};
    for source in [Fixed, Dns, Registry, Memory, Snapshot] {
        let count = if source == from { count as u64 } else { 0 };
        MEMBERS.record(
            count,
            &[KeyValue::new("role", role.to_owned()), KeyValue::new("source", source.as_str())],
        );
    }
}

/// Records the age, in seconds, of what the registry told.
pub(super) fn age(seconds: f64) {
    AGE.record(seconds, &[]);
}

pub(super) fn watch_restarted(reason: &'static str) {
    RESTARTS.add(1, &[KeyValue::new("reason", reason)]);
}

pub(super) fn lease_lost() {
    LEASES_LOST.add(1, &[]);
}

/// Counts an entry that was left out, and warns of the first of each kind.
pub(super) fn skipped(skip: Skip, key: &[u8]) {
    static WARNED: [AtomicBool; Skip::ALL.len()] = [const { AtomicBool::new(false) }; Skip::ALL.len()];
    SKIPPED.add(1, &[KeyValue::new("reason", skip.as_str())]);
    if !WARNED[skip as usize].swap(true, Ordering::Relaxed) {
        // Whoever wrote it chose its name: it is shown escaped and in part.
        let key = key[..key.len().min(200)].escape_ascii();
        tracing::warn!(%key, reason = %skip, "an entry of the registry is left out; others like it are only counted");
    }
}
