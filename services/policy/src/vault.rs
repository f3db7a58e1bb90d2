//! The values behind the placeholders, by tenant and conversation.
//!
//! [`Vault::replace`] gives a conversation's placeholders, new ones when it is not held. Each tenant has
//! a shelf of its own in memory with its own bound, so that tenants neither see nor displace each other's. What
//! was not used for long enough is forgotten, by a sweep and on each use.
//!
//! With keys, values are stored as well, each sealed for its place (`keys`): a placeholder is on the disk
//! before anybody sees it, a conversation that is not in memory is read again, and numbers go on where they
//! were. Without, memory is all there is. A conversation that was forgotten there may go on, with placeholders
//! from before in its texts. So each time that one is taken up its numbers begin at another place, one of 900:
//! an old `[card-4711]` then stands for nothing, and not for a card that was told since.

mod disk;
mod keys;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher as _, RandomState},
    ops::{Deref, DerefMut},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use switchboard_mesh::Tenant;
use switchboard_text::redaction::{self, Entity, Kind, Pseudonyms, Redacted, Restored};
use tokio::time::Instant;

use self::disk::Disk;
pub(crate) use self::{keys::Keys, store::StoreError};
use crate::{config::VaultConfig, metrics};

/// How often what is stored is looked through for what is to be forgotten, at the least.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A conversation's placeholders, shared between its calls.
#[derive(Clone)]
pub(crate) struct Held(Arc<Mutex<Values>>);

/// The placeholders themselves.
pub(crate) struct Values {
    pseudonyms: Pseudonyms,
    /// One of them could not be stored: the conversation is to be read again.
    stale: bool,
}

impl Deref for Values {
    type Target = Pseudonyms;

    fn deref(&self) -> &Pseudonyms {
        &self.pseudonyms
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut Pseudonyms {
        &mut self.pseudonyms
    }
}

impl Held {
    fn of(pseudonyms: Pseudonyms) -> Self {
        Self(Arc::new(Mutex::new(Values { pseudonyms, stale: false })))
    }

    /// Placeholders that belong to no conversation and are forgotten with the call.
    fn alone(values: usize) -> Self {
        Self::of(Pseudonyms::with_capacity(values))
    }

    /// Placeholders of a conversation, whose numbers begin anywhere.
    fn fresh(values: usize) -> Self {
        // The keys of the hasher are random, from the operating system at first and other each time.
        // Four digits are easy to read; a conversation seldom has more than ten values of a kind.
        let place = u32::try_from(RandomState::new().hash_one(()) % 900).unwrap_or_default();
        Self::of(Pseudonyms::with_capacity(values).starting_at(1001 + 10 * place))
    }

    /// The placeholders, for as long as a text takes.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Values> {
        // Each change leaves the maps usable; a panic elsewhere costs no conversation its values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is held. Prints nothing.
pub(crate) struct Vault {
    config: VaultConfig,
    shelves: Mutex<HashMap<Tenant, Shelf>>,
    disk: Option<Disk>,
    /// How often something was forgotten, raised behind the disk's delete and with the lock of `shelves`: what
    /// was read before may have it still.
    forgets: AtomicU64,
}

/// One tenant's conversations, in order of their last use.
#[derive(Default)]
struct Shelf {
    conversations: HashMap<Arc<str>, Kept>,
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
}

struct Kept {
    held: Held,
    used: Instant,
    place: u64,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(***)")
    }
}

impl Vault {
    /// A vault in memory alone.
    pub(crate) fn new(config: VaultConfig) -> Self {
        Self { config, shelves: Mutex::default(), disk: None, forgets: AtomicU64::new(0) }
    }

    /// A vault that stores what it holds in the file at `path`. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which names the file.
    pub(crate) fn stored(config: VaultConfig, path: &Path, keys: Keys) -> Result<Self, StoreError> {
        let disk = Disk::open(path, keys, config.values)?;
        Ok(Self { disk: Some(disk), ..Self::new(config) })
    }

    /// Whether its methods wait for a disk.
    pub(crate) fn blocks(&self) -> bool {
        self.disk.is_some()
    }

    /// Replaces what was found in a text by placeholders of a conversation. They are stored when it returns.
    ///
    /// # Errors
    /// [`StoreError`]: the text must not go on.
    pub(crate) fn replace(
        &self,
        tenant: &Tenant,
        conversation: &str,
        text: &str,
        entities: &[Entity],
    ) -> Result<Redacted, StoreError> {
        match self.replace_once(tenant, conversation, text, entities) {
            // Another process was faster with a number; what it stored is read, and there is another one.
            Err(StoreError::Conflict) => self.replace_once(tenant, conversation, text, entities),
            outcome => outcome,
        }
    }

    fn replace_once(
        &self,
        tenant: &Tenant,
        conversation: &str,
        text: &str,
        entities: &[Entity],
    ) -> Result<Redacted, StoreError> {
        let held = self.open(tenant, conversation)?;
        let mut values = held.lock();
        if values.stale {
            return Err(StoreError::Conflict);
        }
        // The oldest may make room for others of this very text, and come again in it under another number.
        let before: Vec<Option<String>> = entities
            .iter()
            .map(|entity| {
                let (kind, value) = (entity.kind, entity.span.of(text));
                values.knows(kind, value).then(|| values.placeholder(kind, value))
            })
            .collect();
        let redacted = redaction::replace(text, entities.to_vec(), &mut values);
        let Some(disk) = self.disk.as_ref().filter(|_| !conversation.is_empty()) else {
            return Ok(redacted);
        };
        let given = redacted.replaced.iter().zip(before);
        let new = given.filter(|(replaced, before)| before.as_ref() != Some(&replaced.placeholder));
        let new = new.map(|(replaced, _)| replaced);
        if let Err(error) = disk.add(tenant, conversation, text, new) {
            // Nobody has seen these placeholders; whoever waits for them reads what is stored.
            values.stale = true;
            // Before anybody who waits can look for it again.
            self.displace(tenant, conversation);
            return Err(error);
        }
        Ok(redacted)
    }

    /// Whether a conversation has a value.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be read.
    pub(crate) fn knows(
        &self,
        tenant: &Tenant,
        conversation: &str,
    ) -> Result<impl Fn(Kind, &str) -> bool + use<>, StoreError> {
        let held = self.find(tenant, conversation)?;
        Ok(move |kind: Kind, value: &str| held.as_ref().is_some_and(|held| held.lock().knows(kind, value)))
    }

    /// Puts values back; what is not held is as missing as a conversation that never was.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be read.
    pub(crate) fn restore(
        &self,
        tenant: &Tenant,
        conversation: &str,
        text: &str,
    ) -> Result<Restored, StoreError> {
        let held = self.find(tenant, conversation)?.unwrap_or_else(|| Held::alone(1));
        let values = held.lock();
        Ok(values.restore(text))
    }

    /// The placeholders of a conversation; an empty one has none to share with any other call.
    pub(crate) fn open(&self, tenant: &Tenant, conversation: &str) -> Result<Held, StoreError> {
        if conversation.is_empty() {
            return Ok(Held::alone(self.config.values));
        }
        match self.find(tenant, conversation)? {
            Some(held) => Ok(held),
            None => {
                let fresh = Held::fresh(self.config.values);
                Ok(Self::shelve(&mut self.shelves(), &self.config, tenant, conversation, fresh))
            }
        }
    }

    /// The placeholders of a conversation that is held.
    pub(crate) fn find(&self, tenant: &Tenant, conversation: &str) -> Result<Option<Held>, StoreError> {
        if conversation.is_empty() {
            return Ok(None);
        }
        if let Some(held) = self.touch(tenant, conversation) {
            return Ok(Some(held));
        }
        let Some(disk) = &self.disk else { return Ok(None) };
        loop {
            let forgets = self.forgets.load(Ordering::Acquire);
            let Some(stored) = disk.load(tenant, conversation)? else { return Ok(None) };
            if let Some(held) = self.take_up(tenant, conversation, stored, forgets) {
                return Ok(Some(held));
            }
        }
    }

    /// The placeholders of a conversation that is in memory, which are used by that.
    pub(crate) fn touch(&self, tenant: &Tenant, conversation: &str) -> Option<Held> {
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(tenant)?;
        shelf.forget(&self.config, Instant::now());
        shelf.touch(conversation)
    }

    /// Shelves what was read when there had been so many `forgets`; `None` when there was one since, and it is to
    /// be read again.
    fn take_up(&self, tenant: &Tenant, conversation: &str, stored: Pseudonyms, forgets: u64) -> Option<Held> {
        let mut shelves = self.shelves();
        let current = self.forgets.load(Ordering::Acquire) == forgets;
        current.then(|| Self::shelve(&mut shelves, &self.config, tenant, conversation, Held::of(stored)))
    }

    /// Puts a conversation on its tenant's shelf, unless another call was faster; what stands there.
    fn shelve(
        shelves: &mut HashMap<Tenant, Shelf>,
        config: &VaultConfig,
        tenant: &Tenant,
        conversation: &str,
        held: Held,
    ) -> Held {
        let shelf = shelves.entry(tenant.clone()).or_default();
        shelf.forget(config, Instant::now());
        if let Some(held) = shelf.touch(conversation) {
            return held;
        }
        while shelf.conversations.len() >= config.conversations && shelf.drop_oldest() {}
        shelf.insert(conversation, held)
    }

    fn displace(&self, tenant: &Tenant, conversation: &str) {
        if let Some(shelf) = self.shelves().get_mut(tenant) {
            shelf.remove(conversation);
        }
    }

    /// Forgets the values of a conversation for good; how many there were. Their numbers are not used again.
    ///
    /// # Errors
    /// [`StoreError`]: some of it may still be stored.
    pub(crate) fn forget(&self, tenant: &Tenant, conversation: &str) -> Result<usize, StoreError> {
        let held = self.shelves().get_mut(tenant).and_then(|shelf| shelf.touch(conversation));
        let mut values = held.as_ref().map(Held::lock);
        // With the lock of the conversation, so that none is stored in between.
        let stored = self.disk.as_ref().map_or(Ok(0), |disk| disk.forget(tenant, conversation))?;
        let known = values.as_ref().map_or(0, |values| values.len());
        if let Some(values) = &mut values {
            values.clear();
        }
        drop(values);
        // Another call may have read it before that, and shelved it by now or be about to.
        let mut shelves = self.shelves();
        self.forgets.fetch_add(1, Ordering::AcqRel);
        if let Some(shelf) = shelves.get_mut(tenant).filter(|_| self.disk.is_some()) {
            shelf.remove_other(conversation, held.as_ref());
        }
        drop(shelves);
        Ok(stored.max(known))
    }

    /// Forgets a value in each of a tenant's conversations for good; in how many it was.
    ///
    /// # Errors
    /// [`StoreError`]: some of it may still be stored.
    pub(crate) fn forget_value(&self, tenant: &Tenant, value: &str) -> Result<usize, StoreError> {
        let stored = self.disk.as_ref().map_or(Ok(0), |disk| disk.forget_value(tenant, value))?;
        let held: Vec<Held> = {
            let shelves = self.shelves();
            self.forgets.fetch_add(1, Ordering::AcqRel);
            let conversations = shelves.get(tenant).map(|shelf| shelf.conversations.values());
            conversations.into_iter().flatten().map(|kept| kept.held.clone()).collect()
        };
        let forgotten = held.iter().map(|held| {
            let mut values = held.lock();
            Kind::ALL.into_iter().filter(|kind| values.forget(*kind, value)).count()
        });
        let known: usize = forgotten.sum();
        Ok(stored.max(known))
    }

    /// Forgets, again and again, what was not used for long enough; never ends.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let every = self.config.keep / 4;
        let every = if self.blocks() { every.min(LOOK_EVERY) } else { every };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.shelves().retain(|_, shelf| {
                shelf.forget(&self.config, now);
                !shelf.conversations.is_empty()
            });
            if self.blocks() {
                let vault = Arc::clone(&self);
                // A panic there is told by its hook; the next look may do better.
                let _ = tokio::task::spawn_blocking(move || vault.expire()).await;
            }
        }
    }

    fn expire(&self) {
        let Some(disk) = &self.disk else { return };
        if let Err(error) = disk.expire(self.config.stored) {
            tracing::warn!(%error, "the vault could not be looked through for what is to be forgotten");
        }
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<Tenant, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn touch(&mut self, conversation: &str) -> Option<Held> {
        let kept = self.conversations.get_mut(conversation)?;
        if let Some(id) = self.order.remove(&kept.place) {
            self.order.insert(self.next, id);
        }
        (kept.place, kept.used) = (self.next, Instant::now());
        self.next += 1;
        Some(kept.held.clone())
    }

    fn insert(&mut self, conversation: &str, held: Held) -> Held {
        let id: Arc<str> = conversation.into();
        self.order.insert(self.next, id.clone());
        self.conversations.insert(id, Kept { held: held.clone(), used: Instant::now(), place: self.next });
        self.next += 1;
        metrics::held(1);
        held
    }

    fn remove(&mut self, conversation: &str) {
        if let Some(kept) = self.conversations.remove(conversation) {
            self.order.remove(&kept.place);
            metrics::held(-1);
        }
    }

    /// Removes a conversation that stands here otherwise than as `held`.
    fn remove_other(&mut self, conversation: &str, held: Option<&Held>) {
        let same = |kept: &Kept| held.is_some_and(|held| Arc::ptr_eq(&held.0, &kept.held.0));
        if self.conversations.get(conversation).is_some_and(|kept| !same(kept)) {
            self.remove(conversation);
        }
    }

    fn forget(&mut self, config: &VaultConfig, now: Instant) {
        let expired = |shelf: &Self| {
            let oldest = shelf.order.values().next().and_then(|id| shelf.conversations.get(id));
            oldest.is_some_and(|kept| now.saturating_duration_since(kept.used) >= config.keep)
        };
        while expired(self) && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, id)) = self.order.pop_first() else { return false };
        if self.conversations.remove(&id).is_some() {
            metrics::held(-1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchboard_text::redaction::{self, redact};

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::try_new(name).unwrap()
    }

    fn vault(conversations: usize) -> Vault {
        let keep = Duration::from_secs(60);
        Vault::new(VaultConfig { conversations, values: 5, keep, ..VaultConfig::default() })
    }

    fn held(vault: &Vault, name: &str, conversation: &str) -> Option<String> {
        // The numbers begin anywhere; the first value has the first of them.
        let values = vault.find(&tenant(name), conversation).unwrap()?;
        let all: String = (1001..=9991).map(|number| format!("[email-{number}]")).collect();
        Some(redaction::without_placeholders(&values.lock().restore(&all).text).replace("email", ""))
    }

    fn tell(vault: &Vault, name: &str, conversation: &str, text: &str) -> String {
        redact(text, &mut vault.open(&tenant(name), conversation).unwrap().lock()).text
    }

    #[tokio::test]
    async fn tenants_and_conversations_are_apart() {
        let vault = vault(2);
        tell(&vault, "acme", "c1", "a@b.de");
        tell(&vault, "other", "c1", "x@y.de");
        assert_eq!(held(&vault, "acme", "c1").as_deref(), Some("a@b.de"));
        assert_eq!(held(&vault, "other", "c1").as_deref(), Some("x@y.de"));
        assert_eq!(held(&vault, "acme", "c2"), None);
    }

    #[tokio::test]
    async fn the_conversation_unused_for_longest_goes_first_and_only_of_its_tenant() {
        let vault = vault(2);
        tell(&vault, "other", "c1", "x@y.de");
        for conversation in ["c1", "c2"] {
            tell(&vault, "acme", conversation, "a@b.de");
        }
        assert!(held(&vault, "acme", "c1").is_some());
        tell(&vault, "acme", "c3", "a@b.de");
        assert!(held(&vault, "acme", "c2").is_none());
        assert!(held(&vault, "acme", "c1").is_some() && held(&vault, "acme", "c3").is_some());
        assert!(held(&vault, "other", "c1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_is_forgotten() {
        let vault = vault(5);
        tell(&vault, "acme", "c1", "a@b.de");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(held(&vault, "acme", "c1").is_some());
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(held(&vault, "acme", "c1").is_some(), "use keeps it");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(held(&vault, "acme", "c1").is_none());
    }

    #[tokio::test]
    async fn a_conversation_taken_up_again_seldom_uses_its_old_placeholders() {
        // One conversation is held, so each displaces the one before.
        let vault = vault(1);
        let again = (0..200).filter(|round| {
            let before = tell(&vault, "acme", &format!("c{round}"), "a@b.de");
            before == tell(&vault, "acme", &format!("d{round}"), "x@y.de")
        });
        // One in 900 is expected; eight of 200 come once in a hundred million runs or less.
        assert!(again.count() < 8);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_forgets_without_any_call() {
        let vault = Arc::new(vault(5));
        tell(&vault, "acme", "c1", "a@b.de");
        // The sweep never ends; paused time runs through its ticks.
        let swept = tokio::time::timeout(Duration::from_secs(76), Arc::clone(&vault).sweep()).await;
        assert!(swept.is_err());
        assert!(vault.shelves().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_printed() {
        let vault = vault(5);
        tell(&vault, "acme", "c1", "a@b.de");
        assert_eq!(format!("{vault:?}"), "Vault(***)");
    }
}
