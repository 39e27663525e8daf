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
use super::entry::EntryRef;
use super::ledger::{Class, Event};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
#[cfg(test)]
use crate::types::{Describe, Hash};

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
        let Keyspace { dbs, ledger, stats, now, .. } = self;
        let visited = dbs[index].visit_alarm(*now, |key, hash| {
            let removed = hash.pop_due(*now, FIELDS_PER_ROUND, |field| ledger.field_gone(index, key, field));
            if removed > 0 {
                stats.expired_fields += removed as u64;
                ledger.event_only(index, key, Event::of(Class::Expired, "hexpired"));
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
