//! What is stored of the vault: sealed on the way in, opened on the way out.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use switchboard_mesh::Tenant;
use switchboard_text::redaction::{self, Kind, Placeholder, Pseudonyms, Replaced};

use super::{
    keys::{Keys, Place, Sealed},
    store::{Row, Sqlite, Store, StoreError},
};
use crate::metrics;

/// How much longer than the values their numbers are kept, so that a placeholder in an old text never stands for
/// another value.
const NUMBERS: Duration = Duration::from_secs(5 * 365 * 86_400);

/// A store, and the keys to what is in it.
pub(super) struct Disk {
    keys: Keys,
    store: Box<dyn Store>,
    /// The most values of a conversation.
    most: usize,
}

impl Disk {
    pub(super) fn open(path: &Path, keys: Keys, most: usize) -> Result<Self, StoreError> {
        Ok(Self { keys, store: Box::new(Sqlite::open(path)?), most })
    }

    /// The placeholders of a conversation, with every value that can be opened; `None` for one that was never
    /// stored. What is sealed with a key of before is sealed anew.
    pub(super) fn load(&self, tenant: &Tenant, conversation: &str) -> Result<Option<Pseudonyms>, StoreError> {
        let stored = self.store.load(tenant.as_str(), conversation, self.most, now())?;
        let Some(stored) = stored else { return Ok(None) };
        // A limit of Pseudonyms, far beyond what a conversation has.
        let first = stored.highest.saturating_add(1);
        let mut pseudonyms = Pseudonyms::with_capacity(self.most).starting_at(first);
        let (mut anew, mut lost) = (Vec::new(), 0);
        for row in stored.rows {
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == row.kind) else { continue };
            let placeholder = Placeholder { kind, number: row.number }.to_string();
            let place = Place { tenant, conversation, placeholder: &placeholder };
            let sealed = Sealed { key: row.key, bytes: row.sealed };
            let Some(value) = self.keys.open(place, &sealed) else {
                lost += 1;
                continue;
            };
            pseudonyms.remember(kind, row.number, &value);
            if !self.keys.is_current(&sealed.key) {
                anew.extend(self.row(place, kind, row.number, &value));
            }
        }
        if lost > 0 {
            // Its key is gone, or somebody changed the file. Neither gives a value back.
            tracing::warn!(lost, "stored values could not be opened; their placeholders stay");
            metrics::unopened(lost);
        }
        if !anew.is_empty()
            && let Err(error) = self.store.reseal(tenant.as_str(), conversation, &anew)
        {
            tracing::warn!(%error, "values could not be sealed with the new key; they stay under the old one");
        }
        Ok(Some(pseudonyms))
    }

    /// Stores values that were replaced in `text`.
    pub(super) fn add<'a>(
        &self,
        tenant: &Tenant,
        conversation: &str,
        text: &str,
        replaced: impl Iterator<Item = &'a Replaced>,
    ) -> Result<(), StoreError> {
        let mut rows: Vec<Row> = Vec::new();
        for Replaced { entity, placeholder } in replaced {
            let Some((_, Placeholder { number, .. })) = redaction::placeholders(placeholder).next() else {
                continue;
            };
            let known = |row: &Row| row.number == number && row.kind == entity.kind.as_str();
            if rows.iter().any(known) {
                continue;
            }
            let place = Place { tenant, conversation, placeholder };
            let row = self.row(place, entity.kind, number, entity.span.of(text));
            rows.push(row.ok_or(StoreError::Random)?);
        }
        match rows.is_empty() {
            true => Ok(()),
            false => self.store.add(tenant.as_str(), conversation, &rows, self.most, now()),
        }
    }

    fn row(&self, place: Place<'_>, kind: Kind, number: u32, value: &str) -> Option<Row> {
        let Sealed { key, bytes: sealed } = self.keys.seal(place, value)?;
        let mark = self.keys.marks(place.tenant, kind, value).into_iter().next()?;
        Some(Row { kind: kind.as_str().to_owned(), number, key, mark, sealed })
    }

    pub(super) fn forget(&self, tenant: &Tenant, conversation: &str) -> Result<usize, StoreError> {
        self.store.forget(tenant.as_str(), conversation)
    }

    pub(super) fn forget_value(&self, tenant: &Tenant, value: &str) -> Result<usize, StoreError> {
        let marks = Kind::ALL.into_iter().flat_map(|kind| self.keys.marks(tenant, kind, value));
        self.store.forget_marked(tenant.as_str(), &marks.collect::<Vec<_>>())
    }

    pub(super) fn expire(&self, keep: Duration) -> Result<usize, StoreError> {
        let before = |ago: Duration| now().saturating_sub(seconds(ago));
        self.store.expire(before(keep), before(keep + NUMBERS))
    }
}

fn now() -> i64 {
    seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
