//! Vectors of texts that may come again.
//!
//! A vector depends on its text, the prompt, and what the model's fingerprint stands for, so it holds
//! until the fingerprint changes. The tenant is in the key although it changes nothing of the vector:
//! a quick answer would tell one tenant that another one had asked for the same text. Keys are
//! hashes; no text is kept. The entries used least recently go first.
//!
//! A cache that answers everything would never hear of a new model. So what is believed of a model
//! ages: after [`BELIEVED`] the next request asks for one text again, and its answer renews the
//! belief or ends it.

use std::{
    collections::HashMap,
    mem::size_of,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use sha2::{Digest as _, Sha256};
use switchboard_proto::inference::v1::Vector;
use tokio::time::Instant;

use crate::metrics;

/// How long a model is taken for what it was. The price is one text embedded anew in that time.
const BELIEVED: Duration = Duration::from_secs(30);

/// What an entry takes besides its components: the list's links, the table's slot at its usual load,
/// and the allocator's share, rounded up.
const OVERHEAD: usize = size_of::<Key>() * 2 + size_of::<Kept>() + 96;

type Key = [u8; 32];

/// The model that a name stands for, as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) model: String,
    /// Names the vectors that may be compared. The model's name where a node tells none.
    pub(crate) fingerprint: Arc<str>,
    /// It is old: it should be heard again.
    pub(crate) stale: bool,
}

struct Kept {
    vector: Vector,
    fingerprint: Arc<str>,
}

impl Kept {
    fn bytes(&self) -> usize {
        OVERHEAD + self.vector.values.capacity() * size_of::<f32>()
    }
}

struct State {
    entries: LruCache<Key, Kept>,
    bytes: usize,
    /// By the name that requests use. Only names that a node has answered to come in here, so there
    /// are as few as there are models.
    beliefs: HashMap<String, (Belief, Instant)>,
}

/// Remembers vectors within a bound on memory.
pub(crate) struct Cache {
    most: usize,
    state: Mutex<State>,
}

/// For whom texts are embedded, and how: all that a key holds besides text and fingerprint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) prompt: &'a str,
}

impl Cache {
    /// A cache of at most `bytes`; of 0 it keeps nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let state = State { entries: LruCache::unbounded(), bytes: 0, beliefs: HashMap::new() };
        Self { most: bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the model of this name was when it was last heard of.
    pub(crate) fn belief(&self, name: &str) -> Option<Belief> {
        if self.most == 0 {
            return None;
        }
        let (belief, heard) = self.state().beliefs.get(name)?.clone();
        Some(Belief { stale: heard.elapsed() >= BELIEVED, ..belief })
    }

    /// Notes what the model of this name is. When it is another one than before, what the former one
    /// made is dropped.
    pub(crate) fn heard(&self, name: &str, model: &str, fingerprint: &Arc<str>) {
        if self.most == 0 {
            return;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let belief = Belief { model: model.to_owned(), fingerprint: Arc::clone(fingerprint), stale: false };
        let former = state.beliefs.insert(name.to_owned(), (belief, Instant::now()));
        let Some((former, _)) = former.filter(|(former, _)| former.fingerprint != *fingerprint) else {
            return;
        };
        tracing::info!(model, "the model has changed: what the former one made is forgotten");
        let outdated = state.entries.iter().filter(|(_, kept)| kept.fingerprint == former.fingerprint);
        for key in outdated.map(|(key, _)| *key).collect::<Vec<_>>() {
            state.remove(&key);
        }
    }

    /// The vectors of `texts` as far as they are remembered. Only a reader that `counts` as a use
    /// keeps them from being the next to go.
    pub(crate) fn find(
        &self,
        scope: Scope<'_>,
        fingerprint: &str,
        texts: &[String],
        counts: bool,
    ) -> Vec<Option<Vector>> {
        // Hashing needs no lock.
        let keys: Vec<Key> = texts.iter().map(|text| key(scope, fingerprint, text)).collect();
        let mut state = self.state();
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            let kept = if counts { state.entries.get(key) } else { state.entries.peek(key) };
            found.push(kept.map(|kept| kept.vector.clone()));
        }
        found
    }

    /// Remembers the vector of `text`.
    pub(crate) fn keep(&self, scope: Scope<'_>, fingerprint: &Arc<str>, text: &str, vector: &Vector) {
        if self.most == 0 {
            return;
        }
        let key = key(scope, fingerprint, text);
        let kept = Kept { vector: vector.clone(), fingerprint: Arc::clone(fingerprint) };
        let bytes = kept.bytes();
        if bytes > self.most {
            return;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        state.remove(&key);
        while state.bytes + bytes > self.most {
            let Some((_, oldest)) = state.entries.pop_lru() else { break };
            state.count(-(oldest.bytes() as i64));
        }
        state.entries.put(key, kept);
        state.count(bytes as i64);
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.state().bytes
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.entries.pop(key) {
            self.count(-(kept.bytes() as i64));
        }
    }

    fn count(&mut self, change: i64) {
        self.bytes = self.bytes.saturating_add_signed(change as isize);
        metrics::BYTES.add(change, &[]);
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let bytes = self.state().bytes as i64;
        metrics::BYTES.add(-bytes, &[]);
    }
}

/// The hash of everything that a vector depends on, and of the tenant. Lengths stand before the
/// parts, so that no two lists of parts read the same.
fn key(scope: Scope<'_>, fingerprint: &str, text: &str) -> Key {
    let mut hash = Sha256::new();
    for part in [scope.tenant, fingerprint, scope.prompt, text] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'static> = Scope { tenant: "t", prompt: "" };

    fn vector(value: f32) -> Vector {
        Vector { values: vec![value; 8], tokens: 3, truncated: false }
    }

    fn has(cache: &Cache, scope: Scope<'_>, fingerprint: &str, text: &str) -> bool {
        cache.find(scope, fingerprint, &[text.to_owned()], true)[0].is_some()
    }

    fn one_entry() -> usize {
        Kept { vector: vector(0.0), fingerprint: "f".into() }.bytes()
    }

    #[test]
    fn an_entry_is_found_by_everything_it_depends_on_and_by_its_tenant() {
        let (cache, fingerprint) = (Cache::new(1 << 20), Arc::from("f"));
        cache.keep(SCOPE, &fingerprint, "text", &vector(1.0));
        assert_eq!(cache.find(SCOPE, "f", &["text".into()], true), [Some(vector(1.0))]);
        assert!(!has(&cache, SCOPE, "g", "text"));
        assert!(!has(&cache, SCOPE, "f", "Text"));
        assert!(!has(&cache, Scope { tenant: "u", ..SCOPE }, "f", "text"));
        assert!(!has(&cache, Scope { prompt: "query", ..SCOPE }, "f", "text"));
        // Parts do not run into each other.
        assert_ne!(
            key(Scope { tenant: "ab", ..SCOPE }, "c", "d"),
            key(Scope { tenant: "a", ..SCOPE }, "bc", "d")
        );
    }

    #[test]
    fn memory_is_bounded_and_the_least_recently_used_go_first() {
        let (cache, fingerprint) = (Cache::new(3 * one_entry()), Arc::from("f"));
        for text in ["a", "b", "c"] {
            cache.keep(SCOPE, &fingerprint, text, &vector(0.0));
        }
        assert!(has(&cache, SCOPE, "f", "a"));
        // A look that does not count as a use saves nothing.
        assert!(cache.find(SCOPE, "f", &["b".into()], false)[0].is_some());
        cache.keep(SCOPE, &fingerprint, "d", &vector(0.0));
        assert!(!has(&cache, SCOPE, "f", "b"));
        assert!(["a", "c", "d"].iter().all(|text| has(&cache, SCOPE, "f", text)));
        assert!(cache.bytes() <= 3 * one_entry());
        // The same text again takes no more room; what is larger than everything takes none.
        cache.keep(SCOPE, &fingerprint, "d", &vector(1.0));
        cache.keep(SCOPE, &fingerprint, "e", &Vector { values: vec![0.0; 10_000], ..Vector::default() });
        assert_eq!(cache.bytes(), 3 * one_entry());
    }

    #[test]
    fn another_fingerprint_drops_what_the_former_model_made() {
        let cache = Cache::new(1 << 20);
        let (old, new, other) = (Arc::from("old"), Arc::from("new"), Arc::from("other"));
        cache.heard("", "m", &old);
        cache.keep(SCOPE, &old, "a", &vector(0.0));
        cache.keep(SCOPE, &other, "b", &vector(0.0));
        cache.heard("", "m", &new);
        assert!(!has(&cache, SCOPE, "old", "a"));
        assert!(has(&cache, SCOPE, "other", "b"));
        assert_eq!(cache.bytes(), one_entry());
        assert_eq!(cache.belief("").unwrap().fingerprint, new);
    }

    #[tokio::test(start_paused = true)]
    async fn a_belief_ages() {
        let cache = Cache::new(1 << 20);
        assert_eq!(cache.belief(""), None);
        cache.heard("", "m", &Arc::from("f"));
        assert!(!cache.belief("").unwrap().stale);
        tokio::time::advance(BELIEVED).await;
        assert!(cache.belief("").unwrap().stale);
    }

    #[test]
    fn a_cache_of_no_bytes_remembers_nothing() {
        let (cache, fingerprint) = (Cache::new(0), Arc::from("f"));
        cache.heard("", "m", &fingerprint);
        cache.keep(SCOPE, &fingerprint, "a", &vector(0.0));
        assert_eq!((cache.belief(""), has(&cache, SCOPE, "f", "a")), (None, false));
    }
}
