//! The section `[conversation]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchboard_mesh::config::{Invalid, within};

/// Passages that policy checks a draft against, by its contract.
const MOST_PASSAGES: u32 = 16;

/// Budgets and memory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time to aim for in a chat.
    pub chat: Target,
    /// Time to aim for on the phone.
    pub voice: Target,
    /// Time to aim for on a social network.
    pub social: Target,
    /// Time to aim for by e-mail.
    pub email: Target,
    /// Passages that may answer a question, 1 to 16: drafts are checked against all of them.
    pub passages: u32,
    /// Whether passages are put into a better order before one answers.
    pub rerank: Rerank,
    /// Passages that are fetched to choose from where they are reranked, 1 to 100; fewer than
    /// `passages` counts as that.
    pub rerank_candidates: u32,
    /// Conversations that are remembered of one tenant, 1 to 1,000,000; the one that was used least
    /// recently goes first.
    pub max_conversations: usize,
    /// Turns of a conversation that are remembered, 1 to 1,000; the oldest go first.
    pub max_turns: usize,
    /// How long a conversation is remembered after its last turn, 1 s to 1 year.
    #[serde(with = "humantime_serde")]
    pub forget_after: Duration,
    /// How long a conversation that was answered has to stay quiet for its matter to be taken for settled,
    /// 1 min to 1 year; beyond `forget_after` it counts as that. Conversations that are pushed out by others
    /// or lost with the process before are not settled.
    #[serde(with = "humantime_serde")]
    pub assume_after: Duration,
    /// MiB of decisions that wait on disk while the ledger is away, 1 to 65,536; beyond that turns go on and
    /// their decisions are lost, which is told and counted.
    pub spool_mib: u64,
}

/// Whether passages are put into a better order.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Rerank {
    /// Where the reranking service has something to order by.
    Auto,
    /// Never.
    Off,
}

/// A channel's default budget and the length of its replies.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Until the first sentence.
    #[serde(with = "humantime_serde")]
    pub first_sentence: Duration,
    /// Until the end.
    #[serde(with = "humantime_serde")]
    pub whole: Duration,
    /// Most sentences of a reply, 1 to 50.
    pub sentences: u32,
}

impl Default for Config {
    fn default() -> Self {
        let target = |first: u64, whole: u64, sentences| Target {
            first_sentence: Duration::from_millis(first),
            whole: Duration::from_millis(whole),
            sentences,
        };
        Self {
            chat: target(2_000, 6_000, 4),
            voice: target(800, 4_000, 2),
            social: target(5_000, 15_000, 3),
            email: target(60_000, 60_000, 8),
            passages: 8,
            rerank: Rerank::Auto,
            // The right passage is among the first 24 nearly as often as among the first 100, and a
            // small cross-encoder reads 24 in the time that a chat has for it.
            rerank_candidates: 24,
            max_conversations: 10_000,
            max_turns: 50,
            forget_after: Duration::from_secs(24 * 3600),
            // Half of `forget_after`, so that who comes back on the same day reopens it.
            assume_after: Duration::from_secs(12 * 3600),
            spool_mib: 256,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        let channels =
            [("chat", self.chat), ("voice", self.voice), ("social", self.social), ("email", self.email)];
        for (name, target) in channels {
            let whole = format!("conversation.{name}.whole");
            let show = |time: Duration| humantime_serde::re::humantime::format_duration(time).to_string();
            if !(Duration::from_millis(1)..=Duration::from_secs(600)).contains(&target.whole) {
                return Err(Invalid::new(whole, show(target.whole), "from 1ms to 10min"));
            }
            if target.first_sentence > target.whole || target.first_sentence.is_zero() {
                let key = format!("conversation.{name}.first_sentence");
                return Err(Invalid::new(
                    key,
                    show(target.first_sentence),
                    format!("above 0, at most {whole}"),
                ));
            }
            within(&format!("conversation.{name}.sentences"), target.sentences, 1..=50)?;
        }
        within("conversation.forget_after in seconds", self.forget_after.as_secs(), 1..=31_536_000)?;
        within("conversation.assume_after in seconds", self.assume_after.as_secs(), 60..=31_536_000)?;
        within("conversation.passages", self.passages, 1..=MOST_PASSAGES)?;
        within("conversation.rerank_candidates", self.rerank_candidates, 1..=100)?;
        within("conversation.max_conversations", self.max_conversations, 1..=1_000_000)?;
        within("conversation.max_turns", self.max_turns, 1..=1_000)?;
        within("conversation.spool_mib", self.spool_mib, 1..=65_536)
    }
}
