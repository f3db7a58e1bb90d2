//! The values behind the placeholders, by tenant and conversation, in memory only.
//!
//! [`Vault::open`] gives a conversation's placeholders, new ones when it is not held. Each tenant has
//! a shelf of its own with its own bound, so that tenants neither see nor displace each other's. What
//! was not used for long enough is forgotten, by a sweep and on each use.
//!
//! A conversation that was forgotten may go on, with placeholders from before in its texts. So each
//! time that one is taken up its numbers begin at another place, one of 900: an old `[card-4711]`
//! then stands for nothing, and not for a card that was told since.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use switchboard_mesh::Tenant;
use switchboard_text::redaction::Pseudonyms;
use tokio::time::Instant;

use crate::{config::VaultConfig, metrics};

/// A conversation's placeholders, shared between its calls.
#[derive(Clone)]
pub(crate) struct Held(Arc<Mutex<Pseudonyms>>);

impl Held {
    /// Placeholders that belong to no conversation and are forgotten with the call.
    pub(crate) fn alone(values: usize) -> Self {
        Self(Arc::new(Mutex::new(Pseudonyms::with_capacity(values))))
    }

    /// Placeholders of a conversation, whose numbers begin anywhere.
    fn fresh(values: usize) -> Self {
        // The keys of the hasher are random, from the operating system at first and other each time.
        // Four digits are easy to read; a conversation seldom has more than ten values of a kind.
        let place = u32::try_from(RandomState::new().hash_one(()) % 900).unwrap_or_default();
        let values = Pseudonyms::with_capacity(values).starting_at(1001 + 10 * place);
        Self(Arc::new(Mutex::new(values)))
    }

    /// The placeholders, for as long as a text takes.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pseudonyms> {
        // Each change leaves the maps usable; a panic elsewhere costs no conversation its values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is held. Prints nothing.
pub(crate) struct Vault {
    config: VaultConfig,
    shelves: Mutex<HashMap<Tenant, Shelf>>,
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
    pub(crate) fn new(config: VaultConfig) -> Self {
        Self { config, shelves: Mutex::default() }
    }

    /// The placeholders of a conversation; an empty one has none to share with any other call.
    pub(crate) fn open(&self, tenant: &Tenant, conversation: &str) -> Held {
        if conversation.is_empty() {
            return Held::alone(self.config.values);
        }
        let mut shelves = self.shelves();
        let shelf = shelves.entry(tenant.clone()).or_default();
        shelf.forget(&self.config, Instant::now());
        if let Some(held) = shelf.touch(conversation) {
            return held;
        }
        while shelf.conversations.len() >= self.config.conversations && shelf.drop_oldest() {}
        shelf.insert(conversation, Held::fresh(self.config.values))
    }

    /// The placeholders of a conversation that is held.
    pub(crate) fn find(&self, tenant: &Tenant, conversation: &str) -> Option<Held> {
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(tenant)?;
        shelf.forget(&self.config, Instant::now());
        shelf.touch(conversation)
    }

    /// Forgets, again and again, what was not used for long enough; never ends.
    pub(crate) async fn sweep(&self) {
        let mut ticks = tokio::time::interval(self.config.keep / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.shelves().retain(|_, shelf| {
                shelf.forget(&self.config, now);
                !shelf.conversations.is_empty()
            });
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
        Vault::new(VaultConfig { conversations, values: 5, keep: Duration::from_secs(60) })
    }

    fn held(vault: &Vault, name: &str, conversation: &str) -> Option<String> {
        // The numbers begin anywhere; the first value has the first of them.
        let values = vault.find(&tenant(name), conversation)?;
        let all: String = (1001..=9991).map(|number| format!("[email-{number}]")).collect();
        Some(redaction::without_placeholders(&values.lock().restore(&all).text).replace("email", ""))
    }

    fn tell(vault: &Vault, name: &str, conversation: &str, text: &str) -> String {
        redact(text, &mut vault.open(&tenant(name), conversation).lock()).text
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
        let swept = tokio::time::timeout(Duration::from_secs(76), vault.sweep()).await;
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
