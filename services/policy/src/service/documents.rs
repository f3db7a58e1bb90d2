//! What was decided on passages of documents, which come again with every question that they may answer.
//!
//! A verdict is remembered by tenant, bundles, models and the hash of all that was asked, and for a while only:
//! rules may read the clock.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use proto::policy::v1::InspectResponse;
use sha2::{Digest as _, Sha256};
use switchboard_mesh::Tenant;
use switchboard_proto as proto;

use super::decode::Inspecting;
use crate::{detectors::Source, inspection::Direction, judge::About};

/// Passages that are remembered, a KiB or two each.
const MOST: NonZeroUsize = NonZeroUsize::new(8_192).expect("is above 0");
/// The longest passage that is remembered, in bytes: what is kept is bounded.
const MOST_BYTES: usize = 8_192;
/// How long a verdict holds.
const FOR: Duration = Duration::from_secs(600);

/// Verdicts on passages.
pub(crate) struct Documents(Mutex<LruCache<Key, (Instant, InspectResponse)>>);

/// All that a verdict rests on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    tenant: Tenant,
    /// Bundles and models.
    decides: String,
    asked: [u8; 32],
}

impl Documents {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }

    pub(super) fn get(&self, key: &Key) -> Option<InspectResponse> {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, verdict) = verdicts.get(key)?;
        (since.elapsed() < FOR).then(|| verdict.clone())
    }

    pub(super) fn put(&self, key: Key, verdict: &InspectResponse) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.put(key, (Instant::now(), verdict.clone()));
    }
}

impl Key {
    /// The key of a passage; none for what is no passage, or is a long one, or belongs to a conversation, whose placeholders
    /// are its own, or comes with facts.
    pub(super) fn of(
        tenant: &Tenant,
        decides: impl FnOnce() -> String,
        request: &Inspecting,
    ) -> Option<Self> {
        let Inspecting { text, direction, source, about } = request;
        let About { conversation, locale, channel, product, jurisdiction, passages, verbatim, facts } = about;
        let plain = *direction == Direction::Input
            && *source == Source::Document
            && text.len() <= MOST_BYTES
            && conversation.is_empty()
            && passages.is_empty()
            && facts.as_object().is_ok_and(|facts| facts.is_empty());
        if !plain {
            return None;
        }
        let mut asked = Sha256::new();
        for part in [&**text, locale, channel, product, jurisdiction] {
            asked.update((part.len() as u64).to_be_bytes());
            asked.update(part);
        }
        asked.update([u8::from(*verbatim)]);
        Some(Self { tenant: tenant.clone(), decides: decides(), asked: asked.finalize().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, source: Source, conversation: &str) -> Inspecting {
        let about = About { conversation: conversation.into(), ..About::default() };
        Inspecting { text: text.into(), direction: Direction::Input, source, about }
    }

    fn key(tenant: &str, bundles: &str, text: &str) -> Key {
        let tenant = Tenant::try_new(tenant).unwrap();
        Key::of(&tenant, || bundles.into(), &asked(text, Source::Document, "")).unwrap()
    }

    #[test]
    fn a_verdict_is_of_one_tenant_its_bundles_and_one_text() {
        let documents = Documents::new();
        let verdict = InspectResponse { text: "a passage".into(), ..Default::default() };
        documents.put(key("acme", "base 1", "a passage"), &verdict);
        assert_eq!(documents.get(&key("acme", "base 1", "a passage")), Some(verdict));
        for other in [
            key("beta", "base 1", "a passage"),
            key("acme", "base 2", "a passage"),
            key("acme", "base 1", "b"),
        ] {
            assert_eq!(documents.get(&other), None);
        }
    }

    #[test]
    fn what_a_customer_writes_is_looked_at_each_time() {
        let acme = Tenant::try_new("acme").unwrap();
        for (source, conversation) in [(Source::Customer, ""), (Source::Tool, ""), (Source::Document, "c1")] {
            assert!(Key::of(&acme, || "base 1".into(), &asked("a", source, conversation)).is_none());
        }
    }

    #[test]
    fn a_long_passage_is_looked_at_each_time_and_a_verbatim_one_has_a_verdict_of_its_own() {
        let acme = Tenant::try_new("acme").unwrap();
        let of = |request: &Inspecting| Key::of(&acme, || "base 1".into(), request);
        let mut request = asked(&"a".repeat(8_192), Source::Document, "");
        let key = of(&request);
        assert!(key.is_some());
        request.about.verbatim = true;
        assert!(of(&request).is_some_and(|verbatim| Some(verbatim) != key));
        assert!(of(&asked(&"a".repeat(8_193), Source::Document, "")).is_none());
    }
}
