//! Fields of hashes whose time has come: which hashes to look at, and when.
//!
//! A hash knows which of its fields is due first. So that nobody has to search for the hashes, each database
//! has its [`Alarms`]: those hashes that have fields which expire, ordered by the time at which the first of
//! them does. An alarm is noted in its entry, and set anew when an earlier expiry is given to a field. When a field
//! with an expiry is overwritten or removed, it stays as it is: it then goes off too early, once, and is set to
//! what is right. Commands on hashes therefore pay nothing for the alarms but where they set an expiry.
//!
//! What always holds: each hash with a field that expires has an alarm, no later than the first expiry or
//! than the last time that due fields were removed from it; the alarms have exactly the entries that say so.

use std::collections::BTreeSet;

use super::databases::Keyspace;
use super::db::Db;
#[cfg(test)]
use super::entry::Entry;
use super::entry::EntryRef;
use super::ledger::{Class, Event};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
#[cfg(test)]
use crate::structures::dict::Dict;
#[cfg(test)]
use crate::types::{Describe, Hash};

/// Fields that are removed before another hash has its turn.
const FIELDS_PER_ROUND: usize = 64;

/// The hashes of a database with fields that expire, by the time to look at them.
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
    /// If the alarm is not here: an entry that the alarms would still refer to must not go.
    #[inline]
    pub(super) fn remove(&mut self, alarm: Option<UnixMillis>, entry: EntryRef) {
        if let Some(at) = alarm {
            assert!(self.0.remove(&(at, entry)), "the alarms refer to every entry that says so");
        }
    }

    /// Takes the first alarm that has gone off.
    pub(super) fn pop_due(&mut self, now: UnixMillis) -> Option<EntryRef> {
        let &(at, entry) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(entry)
    }

    /// Panics unless the alarms are those of `keys`. O(n log n).
    #[cfg(test)]
    pub(super) fn check(&self, keys: &Dict<Entry>) {
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
    /// The time by which fields of hashes have expired: before all times where expiry is ignored.
    #[inline]
    pub fn due_by(&mut self) -> UnixMillis {
        let space = self.space();
        match space.expiry() {
            super::Expiry::Ignore => UnixMillis(i64::MIN),
            _ => space.now,
        }
    }

    /// Says that fields of the hash at `key` were given an expiry. O(log n).
    pub fn fields_expire(&mut self, key: Key<'_>) {
        let index = self.index();
        self.space().dbs[index].arm(key);
    }
}

impl Keyspace {
    /// Removes due fields of one hash of a database, a bounded number of them, and the hash if nothing is left of
    /// it; whether there was anything to do. O(log n) for each.
    pub(super) fn expire_fields(&mut self, index: usize) -> bool {
        let Keyspace { dbs, ledger, stats, now, .. } = self;
        let visited = dbs[index].visit_alarm(*now, |key, hash| {
            let removed = hash.pop_due(*now, FIELDS_PER_ROUND, |field| ledger.field_gone(index, key, field));
            if removed > 0 {
                stats.expired_fields += removed as u64;
                ledger.told(index, key, Event { class: Class::Expired, name: "hexpired" });
            }
        });
        if let Some(Some(gone)) = &visited {
            ledger.told(index, gone.key(), Event::generic("del"));
        }
        visited.is_some()
    }
}

#[cfg(test)]
mod tests;
