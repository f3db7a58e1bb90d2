//! What happened in a simulation, by the simulation's own clock.

use std::{
    fmt::Write as _,
    hash::{DefaultHasher, Hasher as _},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use switchboard_mesh::Class;
use tonic::Code;

/// How a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To one node: it may change something.
    One,
    /// To any node.
    Any,
    /// To any node, and to a second one meanwhile.
    Hedged,
}

/// What a caller wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) id: u64,
    pub(crate) class: Class,
    pub(crate) kind: Kind,
    /// Messages of the answer; 0 for a call that is no stream.
    pub(crate) messages: u32,
    /// How long a well node works for it.
    pub(crate) work: Duration,
    /// How long the caller waits.
    pub(crate) limit: Duration,
    /// When the caller goes before that.
    pub(crate) gone_after: Option<Duration>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Code(Code),
    /// Its caller went.
    Gone,
    /// It was still there long after its deadline.
    Hung,
}

#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    pub(crate) wish: Wish,
    pub(crate) begun: Duration,
    /// Nodes that the channel knew of then.
    pub(crate) known: usize,
    pub(crate) first_message: Option<Duration>,
    pub(crate) messages: u32,
    pub(crate) end: Option<(Duration, End)>,
    /// What the caller was told.
    pub(crate) told: String,
}

/// A request that began to be worked on.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) id: u64,
    pub(crate) node: usize,
    pub(crate) class: Class,
    pub(crate) begun: Duration,
    /// The time that was left for it then.
    pub(crate) left: Duration,
    pub(crate) ended: Option<Duration>,
}

/// A request that a node was too busy for.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) id: u64,
    pub(crate) node: usize,
    pub(crate) class: Class,
    pub(crate) arrived: Duration,
    pub(crate) refused: Duration,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// By id.
    pub(crate) calls: Vec<CallRecord>,
    pub(crate) executions: Vec<Execution>,
    pub(crate) refusals: Vec<Refusal>,
    /// When a node started, by which number and how often before.
    pub(crate) starts: Vec<(Duration, usize)>,
    /// When the first request of each start was answered.
    pub(crate) first_answers: Vec<(Duration, usize)>,
    /// Where the clock stands while no host runs.
    outside: Option<Duration>,
}

/// Shared by all that happens in one simulation, which runs in one thread.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Records>>);

impl History {
    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().expect("whoever panics ends the simulation")
    }

    /// Sets the clock for as long as no host runs; none lets the host that runs tell the time.
    pub(crate) fn outside(&self, now: Option<Duration>) {
        self.records().outside = now;
    }

    /// The time since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        let outside = self.records().outside;
        outside.unwrap_or_else(|| turmoil::sim_elapsed().expect("a host runs"))
    }

    /// A request begins to be worked on, until the value is dropped.
    pub(crate) fn execute(&self, id: u64, node: usize, class: Class, left: Duration) -> Working {
        let begun = self.now();
        let mut records = self.records();
        records.executions.push(Execution { id, node, class, begun, left, ended: None });
        Working { history: self.clone(), index: records.executions.len() - 1 }
    }

    /// A copy of what happened so far, which nothing changes any more.
    pub(crate) fn snapshot(&self) -> Self {
        Self(Arc::new(Mutex::new(self.records().clone())))
    }

    /// A number that is the same for the same history.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut text = String::new();
        let _ = write!(text, "{:?}", self.records());
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// Work under way.
pub(crate) struct Working {
    history: History,
    index: usize,
}

impl Drop for Working {
    fn drop(&mut self) {
        let now = self.history.now();
        self.history.records().executions[self.index].ended = Some(now);
    }
}
