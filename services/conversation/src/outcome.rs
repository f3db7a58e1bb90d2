//! How a conversation's matter ended, as it turned out later.
//!
//! It is confirmed when the customer says so: by feedback on the last turn, or on any that tells whether the
//! matter is settled. It is assumed when what was answered stays quiet for `conversation.assume_after`. It is
//! reopened when the customer comes back after that, or says that it is not settled. Each change is a record
//! of the ledger that refers to the matter's last turn; [`sweep`] finds what became quiet. What is known of
//! matters lies in the store of conversations and lasts as long as they do there.

use std::{sync::Arc, time::SystemTime};

use switchboard_proto::conversation::v1::{Feedback, Outcome, Rating};
use uuid::Uuid;

use crate::{
    record::Recorder,
    store::{Store, Turn},
};

/// The lowest score of who is content, and the highest of who is not; between them nothing is said.
const CONTENT: u32 = 4;
const DISCONTENT: u32 = 2;

/// How a matter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The customer said that it is settled.
    Confirmed,
    /// Nothing was heard any more.
    Assumed,
    /// It was settled, and is no more.
    Reopened,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Assumed => "assumed",
            Self::Reopened => "reopened",
        }
    }
}

/// A change of a matter, for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) state: State,
    /// By what.
    pub(crate) why: String,
    /// The turn that it is about: the last one when the matter was settled.
    pub(crate) turn: u32,
    /// That turn's record.
    pub(crate) of: Uuid,
    /// The id of the change's own record.
    pub(crate) id: Uuid,
    pub(crate) time: SystemTime,
}

/// What is known of a matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matter {
    /// How it was settled, where it is.
    settled: Option<Change>,
    /// The customer said that it is not settled, and nothing was answered since.
    is_disputed: bool,
    /// Changes so far.
    changes: u32,
}

impl Matter {
    /// The customer writes again.
    pub(crate) fn came_back(&mut self) -> Option<Change> {
        self.is_disputed = false;
        self.reopen("the customer came back".to_owned())
    }

    /// Feedback came for the turn `number`; `last` is the last one that has ended, and `newest` the number of the
    /// last that has begun.
    pub(crate) fn heard(
        &mut self,
        feedback: &Feedback,
        number: u32,
        newest: u32,
        last: &Turn,
    ) -> Option<Change> {
        let (is_content, why) = opinion(feedback)?;
        if !is_content {
            self.is_disputed = true;
            return self.reopen(why);
        }
        match &self.settled {
            // A repeat of it may be one because it did not come to the ledger: as the same record it does no harm.
            Some(settled) if settled.state == State::Confirmed => Some(settled.clone()),
            // What is asked after it may not be settled.
            _ if number == newest || feedback.resolved.is_some() => {
                self.is_disputed = false;
                Some(self.settle(State::Confirmed, why, last))
            }
            _ => None,
        }
    }

    /// Nothing was heard for long enough since the turn `last`.
    pub(crate) fn quiet(&mut self, last: &Turn) -> Option<Change> {
        let may_be_assumed = last.outcome == Outcome::Answered && self.settled.is_none() && !self.is_disputed;
        may_be_assumed.then(|| self.settle(State::Assumed, "nothing was heard any more".to_owned(), last))
    }

    fn settle(&mut self, state: State, why: String, last: &Turn) -> Change {
        let change = self.change(state, why, last.number, last.record);
        self.settled = Some(change.clone());
        change
    }

    fn reopen(&mut self, why: String) -> Option<Change> {
        let settled = self.settled.take()?;
        Some(self.change(State::Reopened, why, settled.turn, settled.of))
    }

    fn change(&mut self, state: State, why: String, turn: u32, of: Uuid) -> Change {
        self.changes += 1;
        Change { state, why, turn, of, id: id(of, self.changes), time: SystemTime::now() }
    }
}

/// Whether feedback says that the matter is settled, and by what; `None` when it says neither. The plainest
/// word counts.
fn opinion(feedback: &Feedback) -> Option<(bool, String)> {
    let rated = |is_content, word: &str| Some((is_content, word.to_owned()));
    match (feedback.resolved, feedback.rating(), feedback.score) {
        (Some(true), ..) => rated(true, "said to be resolved"),
        (Some(false), ..) => rated(false, "said not to be resolved"),
        (None, Rating::Helpful, _) => rated(true, "rated helpful"),
        (None, Rating::Unhelpful, _) => rated(false, "rated unhelpful"),
        (None, Rating::Unspecified, 0) => None,
        (None, Rating::Unspecified, score @ ..=DISCONTENT) => Some((false, format!("score {score}"))),
        (None, Rating::Unspecified, score @ CONTENT..) => Some((true, format!("score {score}"))),
        (None, Rating::Unspecified, _) => None,
    }
}

/// The id of the change `number` of the matter of a turn, the same in every repeat: the turn's own with the
/// number added to its last four bytes. They are random, and no other id has the rest in common.
fn id(of: Uuid, number: u32) -> Uuid {
    let mut bytes = of.into_bytes();
    let [.., a, b, c, d] = bytes;
    let moved = u32::from_be_bytes([a, b, c, d]).wrapping_add(number);
    bytes[12..].copy_from_slice(&moved.to_be_bytes());
    Uuid::from_bytes(bytes)
}

/// Records what became quiet. Called every now and then, before what is too old is let go.
pub(crate) async fn sweep(store: &Arc<dyn Store>, recorder: &Recorder) {
    for (tenant, conversation, change) in store.assume().await {
        recorder.outcome(&tenant, &conversation, &change);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchboard_mesh::{Tenant, spool};
    use switchboard_proto::{conversation::v1::Channel, ledger::v1::RecordKind};

    use super::*;
    use crate::{Config, store::Memory};

    fn turn(number: u32, outcome: Outcome) -> Turn {
        Turn {
            number,
            record: Uuid::now_v7(),
            text: "question".into(),
            reply: "answer".into(),
            outcome,
            channel: Channel::Chat,
            feedback: None,
        }
    }

    fn rated(rating: Rating) -> Feedback {
        Feedback { rating: rating.into(), ..Feedback::default() }
    }

    fn state(change: Option<Change>) -> Option<State> {
        change.map(|change| change.state)
    }

    #[test]
    fn feedback_says_by_its_plainest_word_whether_a_matter_is_settled() {
        let scored = |score| Feedback { score, ..Feedback::default() };
        let told = |feedback: &Feedback| opinion(feedback).map(|(is_content, _)| is_content);
        let by_score: Vec<_> = (0..=5).map(|score| told(&scored(score))).collect();
        assert_eq!(by_score, [None, Some(false), Some(false), None, Some(true), Some(true)]);
        assert_eq!(told(&Feedback { score: 5, ..rated(Rating::Unhelpful) }), Some(false));
        assert_eq!(told(&Feedback { resolved: Some(true), ..rated(Rating::Unhelpful) }), Some(true));
        assert_eq!(told(&Feedback { labels: vec!["tone".into()], ..Feedback::default() }), None);
    }

    #[test]
    fn a_matter_is_confirmed_once_and_reopened_once() {
        let (mut matter, last) = (Matter::default(), turn(2, Outcome::Answered));
        assert_eq!(
            matter.heard(&rated(Rating::Helpful), 1, 2, &last),
            None,
            "an earlier turn is not the end"
        );
        let confirmed = matter.heard(&rated(Rating::Helpful), 2, 2, &last).unwrap();
        assert_eq!((confirmed.state, confirmed.turn, confirmed.of), (State::Confirmed, 2, last.record));
        let again = matter.heard(&rated(Rating::Helpful), 2, 2, &last);
        assert_eq!(again.as_ref(), Some(&confirmed), "the same record");
        let reopened = matter.heard(&rated(Rating::Unhelpful), 2, 2, &last).unwrap();
        assert_eq!((reopened.state, reopened.of), (State::Reopened, last.record));
        assert_eq!(matter.heard(&rated(Rating::Unhelpful), 2, 2, &last), None);
        assert_eq!(matter.quiet(&last), None, "what is disputed is not assumed");
        let resolved = Feedback { resolved: Some(true), ..Feedback::default() };
        assert_eq!(state(matter.heard(&resolved, 1, 2, &last)), Some(State::Confirmed));
        assert_eq!(state(matter.came_back()), Some(State::Reopened));
        assert_eq!(matter.came_back(), None);
    }

    #[test]
    fn what_is_asked_while_feedback_comes_is_not_settled_by_it() {
        let (mut matter, last) = (Matter::default(), turn(1, Outcome::Answered));
        assert_eq!(matter.heard(&rated(Rating::Helpful), 1, 2, &last), None);
        let resolved = Feedback { resolved: Some(true), ..Feedback::default() };
        assert_eq!(state(matter.heard(&resolved, 1, 2, &last)), Some(State::Confirmed));
    }

    #[test]
    fn the_ids_of_changes_are_their_own_and_of_version_7() {
        let of = Uuid::from_bytes([0xff; 16]);
        assert_ne!(id(of, 1), id(of, 2));
        let turn = Uuid::now_v7();
        assert_eq!(id(turn, 1), id(turn, 1));
        assert!(id(turn, 1) != turn && id(turn, 1).get_version_num() == 7);
    }

    /// The outcomes that a sweep puts into the spool.
    async fn swept(store: &Arc<dyn Store>) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(spool::Spool::open(folder.path(), spool::Limits::default()).unwrap());
        sweep(store, &recorder).await;
        let records = recorder.held().await.into_iter();
        let records = records.filter(|record| record.kind() == RecordKind::Outcome);
        records.map(|record| (record.conversation_id, record.attributes["state"].clone())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_answered_and_stays_quiet_is_assumed_to_be_settled() {
        let after = Duration::from_secs(3600);
        let config = Config { assume_after: after, ..Config::default() };
        let store: Arc<dyn Store> = Arc::new(Memory::new(&config));
        let owner = Tenant::try_new("acme").unwrap();
        for (id, outcome) in [("answered", Outcome::Answered), ("asked", Outcome::Asked)] {
            store.start(&owner, id).await.unwrap();
            store.append(&owner, id, turn(1, outcome)).await;
        }
        // A turn that is under way, or was left: nobody knows yet.
        store.start(&owner, "left").await.unwrap();
        store.append(&owner, "left", turn(1, Outcome::Answered)).await;
        store.next(&owner, "left").await.unwrap();
        tokio::time::advance(after - Duration::from_millis(1)).await;
        assert!(swept(&store).await.is_empty());
        // Who says something is not quiet.
        store.start(&owner, "later").await.unwrap();
        store.append(&owner, "later", turn(1, Outcome::Answered)).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(swept(&store).await, [("answered".to_owned(), "assumed".to_owned())]);
        assert!(swept(&store).await.is_empty(), "once");
        let (_, change) = store.next(&owner, "answered").await.unwrap();
        assert_eq!(state(change), Some(State::Reopened));
        store.append(&owner, "answered", turn(2, Outcome::Answered)).await;
        tokio::time::advance(after).await;
        let mut again = swept(&store).await;
        again.sort();
        assert_eq!(again.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["answered", "later"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_matter_is_settled_before_its_conversation_is_forgotten() {
        let (day, week) = (Duration::from_secs(86_400), Duration::from_secs(7 * 86_400));
        let config = Config { assume_after: week, forget_after: day, ..Config::default() };
        let store: Arc<dyn Store> = Arc::new(Memory::new(&config));
        let owner = Tenant::try_new("acme").unwrap();
        store.start(&owner, "c").await.unwrap();
        store.append(&owner, "c", turn(1, Outcome::Answered)).await;
        tokio::time::advance(day + Duration::from_secs(1)).await;
        assert_eq!(swept(&store).await, [("c".to_owned(), "assumed".to_owned())]);
        store.forget().await;
        assert!(store.get(&owner, "c").await.is_err());

        // Feedback that says nothing of it does not keep it from that.
        store.start(&owner, "d").await.unwrap();
        store.append(&owner, "d", turn(1, Outcome::Answered)).await;
        tokio::time::advance(day - Duration::from_secs(60)).await;
        let tone = Feedback { labels: vec!["tone".into()], ..Feedback::default() };
        store.feedback(&owner, "d", 1, tone).await.unwrap();
        assert!(swept(&store).await.is_empty());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(swept(&store).await, [("d".to_owned(), "assumed".to_owned())]);
    }
}
