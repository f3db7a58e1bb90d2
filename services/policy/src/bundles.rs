//! Bundles: folders of Rego that decide what may be read, said and done.
//!
//! A base lies under every tenant's own bundle ([`overlay`] says how). [`Bundles`] holds those that the
//! configuration names, and follows their folders while the node runs: a bundle that is sound takes the
//! place of the one before, one that is not changes nothing and is told of. Without a folder the base that
//! is built in decides alone.
//!
//! Entry points are rules of `package switchboard`, each a set of decisions: see [`Entry`]. Rules are code
//! of whoever runs the node: their time is bounded, their size is bounded, and a few builtin functions that
//! fill the memory are; what else they allocate is not.

mod bundle;
mod check;
mod decision;
mod files;
mod overview;
mod voice;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use regorus::Value;
use switchboard_mesh::{Tenant, config::Invalid};
use tokio_util::sync::CancellationToken;

pub(crate) use self::decision::MOST_WORDS;
use self::files::{Sources, Stamp};
pub use self::{
    bundle::Bundle,
    check::Tested,
    decision::{Decision, Outcome, Verdict, overlay},
    overview::{Checked, check},
};
use crate::{config::Config, draft::Voice, metrics};

/// How often the folders are looked at. A change is taken up once two looks saw the same, so that one that
/// is being written is not read in between.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The name of the base that is built in.
pub const BUILT_IN: &str = "base";

/// The files of the base that is built in: the example's.
const BASE: &[(&str, &str)] = &[
    ("bundle.toml", include_str!("../../../examples/policy/base/bundle.toml")),
    ("base.rego", include_str!("../../../examples/policy/base/base.rego")),
    ("data.json", include_str!("../../../examples/policy/base/data.json")),
    // With its tests, so that it has the hash of the folder.
    ("base_test.rego", include_str!("../../../examples/policy/base/base_test.rego")),
];

/// A rule of `package switchboard` that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// What to do with a text, by `input.direction`, `input.findings` and the rest; nothing said allows it.
    Inspect,
    /// What must be said with a draft: decisions with `say`.
    Disclosures,
    /// Whether an action is allowed that has no entry point of its own; nothing said refuses it.
    Decide,
    /// Whether a tool may be called (`tool.call`); nothing said refuses it.
    Tool,
    /// Whether a model may be used (`model.use`); nothing said refuses it.
    Route,
    /// How long data may be kept (`data.keep`): decisions with `keep_days`, the shortest holds; nothing said
    /// keeps nothing.
    Retention,
}

impl Entry {
    /// Every entry point.
    pub const ALL: [Self; 6] =
        [Self::Inspect, Self::Disclosures, Self::Decide, Self::Tool, Self::Route, Self::Retention];

    /// The rule's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Disclosures => "disclosures",
            Self::Decide => "decide",
            Self::Tool => "tool",
            Self::Route => "route",
            Self::Retention => "retention",
        }
    }

    /// The entry point that decides on an action.
    #[must_use]
    pub fn of_action(action: &str) -> Self {
        match action {
            "turn.inspect" => Self::Inspect,
            "tool.call" => Self::Tool,
            "model.use" => Self::Route,
            "data.keep" => Self::Retention,
            _ => Self::Decide,
        }
    }

    fn path(self) -> String {
        format!("{}.{}", bundle::PACKAGE, self.as_str())
    }
}

/// Why rules gave no answer. Holds nothing of what they were asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// They took too long and were cut off.
    #[error("the rules took longer than {limit:?}")]
    Late {
        /// The time that they have.
        limit: Duration,
    },
    /// One of them failed.
    #[error("a rule failed at {place}")]
    Broken {
        /// File, line and column; the bundle where they are not known.
        place: String,
    },
    /// They gave something else than decisions.
    #[error("`{}`: {what}", entry.as_str())]
    Shape {
        /// The entry point.
        entry: Entry,
        /// What is wrong.
        what: String,
    },
}

impl Failure {
    /// A name for labels.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Late { .. } => "late",
            Self::Broken { .. } => "broken",
            Self::Shape { .. } => "shape",
        }
    }
}

/// Why a bundle is not used. Each names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Make the folder and its files readable.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Take the file out of the folder, or give it a name that means something.
    #[error("{}: not a file of a bundle: *.rego, bundle.toml, data.json, data.yaml and *.md are", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Make it smaller.
    #[error("{}: {allowed}", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Mend `bundle.toml`.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Mend the data.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Add a file of rules.
    #[error("{}: there is no file of rules (*.rego)", path.display())]
    NoRules {
        /// The folder.
        path: PathBuf,
    },
    /// Name a rule of `package switchboard` as an entry point.
    #[error(
        "{name}: package switchboard has none of the rules inspect, disclosures, decide, tool, route, retention"
    )]
    NoEntry {
        /// The bundle.
        name: String,
    },
    /// Mend the rules.
    #[error("{place}: {reason}")]
    Rules {
        /// File, line and column, as far as they are known.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Mend the rules: they fail whatever they are asked.
    #[error("{name}: asked with an empty input: {failure}")]
    Trial {
        /// The bundle.
        name: String,
        /// How they fail.
        failure: Failure,
    },
    /// Mend the rules or their tests.
    #[error("{place}: {name} fails: {fault}{}", more(*others))]
    Test {
        /// File and line of the test.
        place: String,
        /// Its name.
        name: String,
        /// Why it fails.
        fault: String,
        /// How many more fail.
        others: usize,
    },
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!("; {others} more fail"),
    }
}

/// What decides for a tenant: the base, and its own bundle over it.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Lies under every tenant's.
    pub base: Arc<Bundle>,
    /// The tenant's own.
    pub own: Option<Arc<Bundle>>,
}

impl Layers {
    /// Asks entry points, and lays what the tenant's says over what the base says.
    ///
    /// # Errors
    /// [`Failure`] of either: the caller fails closed.
    pub fn ask<const N: usize>(&self, entries: [Entry; N], input: &Value) -> Result<[Outcome; N], Failure> {
        let base = self.base.ask(entries, input)?;
        let own = match &self.own {
            Some(own) => own.ask(entries, input)?,
            None => [const { Vec::new() }; N],
        };
        let mut own = own.into_iter();
        Ok(base.map(|base| overlay(base, own.next().unwrap_or_default())))
    }

    /// How the company wants to speak, base first: what either bans or wants, and the stricter where they differ.
    pub fn voices(&self) -> impl Iterator<Item = &Voice> + Clone {
        self.bundles().map(|bundle| &bundle.voice)
    }

    /// The bundles, base first.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> + Clone {
        std::iter::once(&self.base).chain(&self.own)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        self.own.iter().try_for_each(|own| write!(f, ", {own}"))
    }
}

/// A bundle that is followed.
struct Slot {
    /// Its folder; `None` for the base that is built in.
    folder: Option<PathBuf>,
    current: ArcSwap<Bundle>,
    /// Why the files as they are now are not in use.
    refused: ArcSwapOption<String>,
    /// Locked for as long as a look takes, which may be a load with all its tests.
    seen: Mutex<Seen>,
}

/// What was seen of a folder.
#[derive(Default)]
struct Seen {
    /// The last look, whose content has been dealt with when `settled`.
    stamp: Option<Stamp>,
    settled: bool,
}

/// The bundles of a node.
pub struct Bundles {
    base: Slot,
    named: BTreeMap<String, Slot>,
    tenants: HashMap<Tenant, String>,
    /// For tenants that are not named.
    otherwise: Option<String>,
    limit: Duration,
}

impl fmt::Debug for Bundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundles").field("named", &self.named.keys()).finish_non_exhaustive()
    }
}

impl Bundles {
    /// Reads, checks and tests every bundle that `config` names. Blocks on the file system, and while tests
    /// run.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, and the file and line of what is wrong.
    pub fn open(config: &Config) -> Result<Self, Invalid> {
        let limit = config.evaluation;
        let slot = |key: String, name: &str| {
            let folder = config.bundles.join(name);
            let stamp = files::stamp(&folder);
            let bundle = stamp.and_then(|stamp| Ok((stamp, load(&folder, limit)?)));
            let (stamp, bundle) = bundle
                .map_err(|error| Invalid::new(key, name, format!("the name of a sound bundle: {error}")))?;
            let seen = Seen { stamp: Some(stamp), settled: true };
            Ok(Slot { folder: Some(folder), seen: Mutex::new(seen), ..Slot::of(bundle) })
        };
        let base = match config.base.as_str() {
            "" => {
                let current = built_in(limit).map_err(|error| {
                    Invalid::new("policy.base", "", format!("a bundle; the one that is built in: {error}"))
                })?;
                Slot::of(current)
            }
            name => slot("policy.base".to_owned(), name)?,
        };
        let mut named = BTreeMap::new();
        let tenants = config.tenants.iter().map(|(tenant, name)| (format!("policy.tenants.{tenant}"), name));
        let otherwise = (!config.bundle.is_empty()).then(|| ("policy.bundle".to_owned(), &config.bundle));
        for (key, name) in otherwise.into_iter().chain(tenants) {
            if !named.contains_key(name) {
                named.insert(name.clone(), slot(key, name)?);
            }
        }
        let tenants = config
            .tenants
            .iter()
            .filter_map(|(tenant, name)| Some((Tenant::try_new(tenant).ok()?, name.clone())));
        let otherwise = (!config.bundle.is_empty()).then(|| config.bundle.clone());
        Ok(Self { base, named, tenants: tenants.collect(), otherwise, limit })
    }

    /// What decides for a tenant.
    #[must_use]
    pub fn of(&self, tenant: &Tenant) -> Layers {
        let own = self.own(tenant).map(|slot| slot.current.load_full());
        Layers { base: self.base.current.load_full(), own }
    }

    fn own(&self, tenant: &Tenant) -> Option<&Slot> {
        let name = self.tenants.get(tenant).or(self.otherwise.as_ref())?;
        self.named.get(name)
    }

    /// What decides for a tenant, each with the reason why the files as they are now are not in use.
    pub(crate) fn about(&self, tenant: &Tenant) -> Vec<(Arc<Bundle>, Option<String>)> {
        let slots = std::iter::once(&self.base).chain(self.own(tenant));
        let about = |slot: &Slot| {
            let refused = slot.refused.load().as_deref().cloned();
            (slot.current.load_full(), refused)
        };
        slots.map(about).collect()
    }

    /// Takes up what changed in the folders, and tells of what is not sound; `at_once` without waiting for a
    /// second look. Blocks.
    pub(crate) fn look(&self, at_once: bool) {
        for slot in std::iter::once(&self.base).chain(self.named.values()) {
            slot.look(self.limit, at_once);
        }
    }

    /// Follows the folders until `stop`. Reading and testing are done on threads that may block.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let follow = async {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let bundles = Arc::clone(&self);
                // A panic there is told by its hook; the next look may do better.
                let _ = tokio::task::spawn_blocking(move || bundles.look(false)).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }
}

impl Slot {
    /// A bundle that is in use, of no folder.
    fn of(bundle: Bundle) -> Self {
        Self {
            folder: None,
            current: ArcSwap::from_pointee(bundle),
            refused: ArcSwapOption::empty(),
            seen: Mutex::default(),
        }
    }

    fn look(&self, limit: Duration, at_once: bool) {
        let Some(folder) = &self.folder else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match files::stamp(folder) {
            Ok(stamp) => stamp,
            Err(error) => {
                (seen.stamp, seen.settled) = (None, false);
                return self.refuse(folder, &error);
            }
        };
        let same = seen.stamp.as_ref() == Some(&stamp);
        if same && seen.settled {
            return;
        }
        (seen.stamp, seen.settled) = (Some(stamp), false);
        if !same && !at_once {
            return;
        }
        let loaded = files::read(folder).and_then(|sources| {
            // Files that were written again as they were are no new bundle.
            let same = sources.hash == self.current.load().hash;
            if same { Ok(None) } else { tested(&sources, limit).map(Some) }
        });
        match loaded {
            Ok(None) => self.refused.store(None),
            Ok(Some(bundle)) => {
                tracing::info!(%bundle, "a new bundle of rules is in use");
                metrics::bundle_loaded("ok");
                self.current.store(Arc::new(bundle));
                self.refused.store(None);
            }
            Err(error) => self.refuse(folder, &error),
        }
        seen.settled = true;
    }

    fn refuse(&self, folder: &Path, error: &BundleError) {
        let error = error.to_string();
        if self.refused.load().as_deref() != Some(&error) {
            tracing::warn!(folder = %folder.display(), error, "a bundle of rules is not used; the one before stays");
            metrics::bundle_loaded("refused");
            self.refused.store(Some(Arc::new(error)));
        }
    }
}

/// Reads and checks the bundle in a folder, and runs its tests. Blocks.
///
/// # Errors
/// [`BundleError`], which names the file.
pub fn load(folder: &Path, limit: Duration) -> Result<Bundle, BundleError> {
    tested(&files::read(folder)?, limit)
}

/// The base that is built in.
///
/// # Errors
/// [`BundleError`] when it is not sound, which a test rules out.
pub fn built_in(limit: Duration) -> Result<Bundle, BundleError> {
    let files = BASE.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Bundle::compile(&files::assemble(BUILT_IN.to_owned(), Path::new(BUILT_IN), files)?, limit)
}

/// Runs the tests of the bundle in a folder. Blocks.
///
/// # Errors
/// [`BundleError`] when it cannot be read, or rules or tests are no Rego.
pub fn test(folder: &Path) -> Result<Vec<Tested>, BundleError> {
    check::run(&files::read(folder)?)
}

fn tested(sources: &Sources, limit: Duration) -> Result<Bundle, BundleError> {
    let bundle = Bundle::compile(sources, limit)?;
    let mut failed = check::run(sources)?
        .into_iter()
        .filter_map(|test| test.fault.map(|fault| (test.place, test.name, fault)));
    match failed.next() {
        None => Ok(bundle),
        Some((place, name, fault)) => Err(BundleError::Test { place, name, fault, others: failed.count() }),
    }
}

#[cfg(test)]
mod tests;
