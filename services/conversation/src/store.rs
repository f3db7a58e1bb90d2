//! What is remembered of conversations: one small trait, and its in-memory version.
//!
//! Only redacted text comes here. Everything is bounded: conversations by number and age, turns by
//! number.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use lru::LruCache;
use switchboard_mesh::Tenant;
use switchboard_proto::conversation::v1::{Channel, Feedback, Outcome};
use tokio::time::Instant;
use tonic::async_trait;
use uuid::Uuid;

use crate::{
    Config,
    error::Error,
    outcome::{Change, Matter},
};

/// A conversation as it is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) started_at: SystemTime,
    pub(crate) updated_at: SystemTime,
    /// Turns begun, forgotten ones included.
    pub(crate) turn_count: u32,
    /// The remembered ones that have ended, oldest first.
    pub(crate) turns: Vec<Turn>,
}

/// A turn that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) number: u32,
    /// Its record in the ledger.
    pub(crate) record: Uuid,
    pub(crate) text: String,
    pub(crate) reply: String,
    pub(crate) outcome: Outcome,
    pub(crate) channel: Channel,
    pub(crate) feedback: Option<Feedback>,
}

impl Conversation {
    /// The conversation without its turns.
    fn summary(&self) -> Self {
        let Self { id, started_at, updated_at, turn_count, turns: _ } = self;
        Self {
            id: id.clone(),
            started_at: *started_at,
            updated_at: *updated_at,
            turn_count: *turn_count,
            turns: Vec::new(),
        }
    }
}

/// Where conversations are kept.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Starts a conversation with its first turn.
    async fn start(&self, tenant: &Tenant, id: &str) -> Result<Conversation, Error>;
    /// Opens a conversation for its next turn, whose number is its `turn_count` afterwards. A matter that was
    /// settled is open again.
    async fn next(&self, tenant: &Tenant, id: &str) -> Result<(Conversation, Option<Change>), Error>;
    /// Adds a turn that has ended. A conversation that is gone by now is let go.
    async fn append(&self, tenant: &Tenant, id: &str, turn: Turn);
    /// A conversation.
    async fn get(&self, tenant: &Tenant, id: &str) -> Result<Conversation, Error>;
    /// All of a tenant's conversations, latest first, without their turns.
    async fn list(&self, tenant: &Tenant) -> Vec<Conversation>;
    /// Sets the feedback of a turn, and gives the turn's record in the ledger and what it changes of the matter.
    async fn feedback(
        &self,
        tenant: &Tenant,
        id: &str,
        turn: u32,
        feedback: Feedback,
    ) -> Result<(Uuid, Option<Change>), Error>;
    /// Takes matters for settled that were answered and are quiet for long enough: tenant, conversation, change.
    async fn assume(&self) -> Vec<(Tenant, String, Change)>;
    /// Lets go of what was not used for too long. Called every now and then.
    async fn forget(&self);
}

/// Conversations in this process's memory, a shelf for each tenant: none can push out another's.
pub(crate) struct Memory {
    shelves: Mutex<HashMap<Tenant, Shelf>>,
    per_tenant: NonZeroUsize,
    max_turns: usize,
    forget_after: Duration,
    assume_after: Duration,
}

type Shelf = LruCache<String, Held>;

struct Held {
    /// When its last turn ended.
    used: Instant,
    /// When the customer was last heard, or answered.
    heard: Instant,
    conversation: Conversation,
    matter: Matter,
}

impl Memory {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            shelves: Mutex::new(HashMap::new()),
            per_tenant: NonZeroUsize::new(config.max_conversations).unwrap_or(NonZeroUsize::MIN),
            max_turns: config.max_turns,
            forget_after: config.forget_after,
            // What is forgotten is quiet for as long as it can be.
            assume_after: config.assume_after.min(config.forget_after),
        }
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<Tenant, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` on a conversation that is there and not too old.
    fn with<T>(
        &self,
        tenant: &Tenant,
        id: &str,
        change: impl FnOnce(&mut Held) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut shelves = self.shelves();
        let held =
            shelves.get_mut(tenant).and_then(|shelf| shelf.get_mut(id)).ok_or(Error::NoConversation)?;
        if held.used.elapsed() > self.forget_after {
            return Err(Error::NoConversation);
        }
        change(held)
    }
}

#[async_trait]
impl Store for Memory {
    async fn start(&self, tenant: &Tenant, id: &str) -> Result<Conversation, Error> {
        let now = SystemTime::now();
        let conversation = Conversation {
            id: id.to_owned(),
            started_at: now,
            updated_at: now,
            turn_count: 1,
            turns: Vec::new(),
        };
        let mut shelves = self.shelves();
        let shelf = shelves.entry(tenant.clone()).or_insert_with(|| LruCache::new(self.per_tenant));
        let (now, matter) = (Instant::now(), Matter::default());
        shelf.put(id.to_owned(), Held { used: now, heard: now, conversation: conversation.clone(), matter });
        Ok(conversation)
    }

    async fn next(&self, tenant: &Tenant, id: &str) -> Result<(Conversation, Option<Change>), Error> {
        self.with(tenant, id, |held| {
            held.heard = Instant::now();
            held.conversation.turn_count += 1;
            Ok((held.conversation.clone(), held.matter.came_back()))
        })
    }

    async fn append(&self, tenant: &Tenant, id: &str, turn: Turn) {
        let max_turns = self.max_turns;
        let _ = self.with(tenant, id, |held| {
            held.used = Instant::now();
            held.heard = held.used;
            let conversation = &mut held.conversation;
            conversation.updated_at = SystemTime::now();
            // Turns may end in another order than they began in.
            let place = conversation.turns.partition_point(|other| other.number < turn.number);
            conversation.turns.insert(place, turn);
            let surplus = conversation.turns.len().saturating_sub(max_turns);
            conversation.turns.drain(..surplus);
            Ok(())
        });
    }

    async fn get(&self, tenant: &Tenant, id: &str) -> Result<Conversation, Error> {
        self.with(tenant, id, |held| Ok(held.conversation.clone()))
    }

    async fn list(&self, tenant: &Tenant) -> Vec<Conversation> {
        let mut own: Vec<Conversation> = {
            let shelves = self.shelves();
            let shelf = shelves.get(tenant).into_iter().flat_map(|shelf| shelf.iter().map(|(_, held)| held));
            shelf
                .filter(|held| held.used.elapsed() <= self.forget_after)
                .map(|held| held.conversation.summary())
                .collect()
        };
        own.sort_by(|a, b| (b.updated_at, &b.id).cmp(&(a.updated_at, &a.id)));
        own
    }

    async fn feedback(
        &self,
        tenant: &Tenant,
        id: &str,
        turn: u32,
        feedback: Feedback,
    ) -> Result<(Uuid, Option<Change>), Error> {
        self.with(tenant, id, |held| {
            held.heard = Instant::now();
            let turns = &mut held.conversation.turns;
            let at = turns.iter().position(|t| t.number == turn).ok_or(Error::NoTurn)?;
            let newest = held.conversation.turn_count;
            let change = turns.last().and_then(|last| held.matter.heard(&feedback, turn, newest, last));
            turns[at].feedback = Some(feedback);
            Ok((turns[at].record, change))
        })
    }

    async fn assume(&self) -> Vec<(Tenant, String, Change)> {
        let mut shelves = self.shelves();
        let mut changes = Vec::new();
        for (tenant, shelf) in shelves.iter_mut() {
            for (id, held) in shelf.iter_mut() {
                // A turn that has not ended says nothing yet.
                let ended = held.conversation.turns.last();
                let last = ended.filter(|last| last.number == held.conversation.turn_count);
                // What is about to be forgotten is as quiet as it will be.
                let is_quiet =
                    held.heard.elapsed() >= self.assume_after || held.used.elapsed() >= self.forget_after;
                if is_quiet && let Some(change) = last.and_then(|last| held.matter.quiet(last)) {
                    changes.push((tenant.clone(), id.clone(), change));
                }
            }
        }
        changes
    }

    async fn forget(&self) {
        let mut shelves = self.shelves();
        shelves.retain(|_, shelf| {
            // What was used least recently comes last.
            while shelf.peek_lru().is_some_and(|(_, held)| held.used.elapsed() > self.forget_after) {
                shelf.pop_lru();
            }
            !shelf.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(max_conversations: usize, max_turns: usize) -> Memory {
        Memory::new(&Config { max_conversations, max_turns, ..Config::default() })
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::try_new(name).unwrap()
    }

    fn turn(number: u32) -> Turn {
        Turn {
            number,
            text: format!("question {number}"),
            reply: String::new(),
            record: Uuid::nil(),
            outcome: Outcome::Answered,
            channel: Channel::Chat,
            feedback: None,
        }
    }

    #[tokio::test]
    async fn tenants_never_see_each_others_conversations() {
        let store = store(10, 10);
        let own = store.start(&tenant("a"), "1").await.unwrap();
        assert!(matches!(store.get(&tenant("b"), &own.id).await, Err(Error::NoConversation)));
        assert!(matches!(store.next(&tenant("b"), &own.id).await, Err(Error::NoConversation)));
        assert!(store.list(&tenant("b")).await.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_turns_are_forgotten_and_still_counted() {
        let (store, owner) = (store(10, 2), tenant("a"));
        let id = store.start(&owner, "1").await.unwrap().id;
        for number in 1..=3 {
            store.append(&owner, &id, turn(number)).await;
            store.next(&owner, &id).await.unwrap();
        }
        let conversation = store.get(&owner, &id).await.unwrap();
        assert_eq!(conversation.turns.iter().map(|t| t.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(conversation.turn_count, 4);
    }

    #[tokio::test]
    async fn concurrent_turns_of_one_conversation_get_their_own_numbers() {
        let (store, owner) = (store(10, 10), tenant("a"));
        let id = store.start(&owner, "1").await.unwrap().id;
        let (second, third) = tokio::join!(store.next(&owner, &id), store.next(&owner, &id));
        assert_ne!(second.unwrap().0.turn_count, third.unwrap().0.turn_count);
    }

    #[tokio::test]
    async fn the_least_recently_used_conversation_makes_room() {
        let (store, owner) = (store(2, 2), tenant("a"));
        let first = store.start(&owner, "first").await.unwrap().id;
        let second = store.start(&owner, "second").await.unwrap().id;
        store.get(&owner, &first).await.unwrap();
        store.start(&owner, "third").await.unwrap();
        assert!(store.get(&owner, &first).await.is_ok());
        assert!(store.get(&owner, &second).await.is_err());
    }

    #[tokio::test]
    async fn one_tenant_cannot_push_out_anothers_conversations() {
        let store = store(1, 2);
        store.start(&tenant("a"), "own").await.unwrap();
        for id in ["1", "2", "3"] {
            store.start(&tenant("b"), id).await.unwrap();
        }
        assert!(store.get(&tenant("a"), "own").await.is_ok());
    }

    #[tokio::test]
    async fn what_is_too_old_is_gone_from_memory() {
        let config = Config { forget_after: Duration::ZERO, ..Config::default() };
        let store = Memory::new(&config);
        store.start(&tenant("a"), "1").await.unwrap();
        assert!(store.next(&tenant("a"), "1").await.is_err());
        store.forget().await;
        assert!(store.shelves().is_empty());
    }
}
