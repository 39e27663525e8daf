//! Expiry of fields of hashes: which hashes to check, and when.
//!
//! A hash knows which of its fields expires first. To avoid a search for such hashes, each database has its
//! [`Alarms`]: the hashes with fields that expire, ordered by the earliest expiry. The alarm is stored in the
//! entry, and updated when a field gets an earlier expiry. When a field with an expiry is overwritten or removed,
//! the alarm is left unchanged: it then fires too early, once, and is corrected. Commands on hashes therefore pay
//! for alarms only where they set an expiry.
//!
//! Invariants: each hash with a field that expires has an alarm, no later than the earliest expiry or than the last
//! removal of expired fields from it; the alarms have exactly the entries whose flag says so.

use std::collections::BTreeSet;

use super::databases::Keyspace;
use super::db::Db;
use super::entry::{EntryRef, Writable};
use super::ledger::{Class, Event};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::types::{Describe, Hash};

/// Whose rules hold for fields that expire, where servers differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FieldRules {
    /// Those of Redis 8.2: whoever reads a due field by its name removes it; whoever sets or removes one finds it.
    #[default]
    Redis,
    /// Those of Valkey 9.1: a due field is absent for everybody, and removed by the expiry cycle.
    Valkey,
}

impl FieldRules {
    /// The event of fields that are removed because they have expired.
    fn expired(self) -> Event {
        match self {
            FieldRules::Redis => Event::hash("hexpired"),
            FieldRules::Valkey => Event::of(Class::Expired, "hexpired"),
        }
    }
}

/// Fields removed before the next hash is handled.
const FIELDS_PER_ROUND: usize = 64;

/// The hashes of a database with fields that expire, by alarm time.
#[derive(Default)]
pub(super) struct Alarms(BTreeSet<(UnixMillis, EntryRef)>);

impl Alarms {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an entry's alarm, if it has one.
    #[inline]
    pub(super) fn add(&mut self, alarm: Option<UnixMillis>, entry: EntryRef) {
        if let Some(at) = alarm {
            self.0.insert((at, entry));
        }
    }

    /// Removes an entry's alarm, if it has one.
    ///
    /// # Panics
    /// If the alarm is missing: an entry must not be freed while the alarms may still refer to it.
    #[inline]
    pub(super) fn remove(&mut self, alarm: Option<UnixMillis>, entry: EntryRef) {
        if let Some(at) = alarm {
            assert!(self.0.remove(&(at, entry)), "the alarms refer to every entry that says so");
        }
    }

    /// Removes the first alarm that has fired.
    pub(super) fn pop_due(&mut self, now: UnixMillis) -> Option<EntryRef> {
        let &(at, entry) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(entry)
    }

    /// Panics unless the alarms match the entries in `keys`. O(n log n).
    #[cfg(test)]
    pub(super) fn check(&self, keys: &super::keys::Keys) {
        let mut expected = BTreeSet::new();
        for entry in keys.iter() {
            let earliest = entry.collection::<Hash>().and_then(Describe::earliest_expiry);
            assert!(
                entry.alarm().is_some() || earliest.is_none(),
                "a hash with fields that expire has an alarm"
            );
            expected.extend(entry.alarm().map(|at| (at, entry.reference())));
        }
        assert!(self.0 == expected, "the alarms have exactly the entries that say so");
    }
}

impl Db<'_> {
    /// Time up to which fields count as expired: before all times if expiry is ignored.
    #[inline]
    pub fn due_by(&mut self) -> UnixMillis {
        let space = self.space();
        match space.expiry() {
            super::Expiry::Ignore => UnixMillis(i64::MIN),
            _ => space.now,
        }
    }

    /// Time up to which fields count as expired for a command that sets or removes them.
    #[inline]
    pub fn due_to_writers_by(&mut self) -> UnixMillis {
        match self.space().field_rules {
            FieldRules::Redis => UnixMillis(i64::MIN),
            FieldRules::Valkey => self.due_by(),
        }
    }

    /// Removes those of `fields` of the hash at `key` that have expired, or all such fields for `None`, because they
    /// were read, and the hash if it becomes empty. Nothing if reading removes nothing. O(log n) for each field.
    #[cold]
    pub fn remove_read(&mut self, key: Key<'_>, fields: Option<&mut dyn Iterator<Item = &[u8]>>) {
        let index = self.index();
        if !self.removes_due_keys() || self.space().field_rules == FieldRules::Valkey {
            return;
        }
        let Keyspace { dbs, ledger, stats, now, field_rules, .. } = self.space();
        let now = *now;
        let Some(hash) = dbs[index].touching(key).and_then(Writable::into_collection::<Hash>) else { return };
        if hash.earliest_expiry().is_none_or(|at| at > now) {
            return;
        }
        let mut gone = |field: &[u8]| ledger.field_gone(index, key.bytes, field);
        let removed = match fields {
            None => hash.pop_due(now, usize::MAX, gone),
            Some(fields) => {
                fields.filter(|field| hash.remove_due(field, now)).inspect(|field| gone(field)).count()
            }
        };
        if removed == 0 {
            return;
        }
        stats.expired_fields += removed as u64;
        ledger.event_only(index, key.bytes, field_rules.expired());
        if hash.is_empty() {
            dbs[index].take(key);
            ledger.event_only(index, key.bytes, Event::generic("del"));
        }
    }

    /// Updates the alarm after fields of the hash at `key` got an expiry. O(log n).
    pub fn fields_expire(&mut self, key: Key<'_>) {
        let index = self.index();
        self.space().dbs[index].arm(key);
    }
}

impl Keyspace {
    /// Removes expired fields of one hash of a database, a bounded number of them, and the hash if it becomes
    /// empty; whether there was anything to do. O(log n) for each.
    pub(super) fn expire_fields(&mut self, index: usize) -> bool {
        let Keyspace { dbs, ledger, stats, now, field_rules, .. } = self;
        let visited = dbs[index].visit_alarm(*now, |key, hash| {
            let removed = hash.pop_due(*now, FIELDS_PER_ROUND, |field| ledger.field_gone(index, key, field));
            if removed > 0 {
                stats.expired_fields += removed as u64;
                ledger.event_only(index, key, field_rules.expired());
            }
        });
        if let Some(Some(gone)) = &visited {
            ledger.event_only(index, gone.key(), Event::generic("del"));
        }
        visited.is_some()
    }
}

#[cfg(test)]
mod tests;
