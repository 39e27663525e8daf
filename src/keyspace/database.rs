//! One database: the table of keys, and the tables that refer to its entries.
//!
//! What always holds:
//!
//! - the table of expiries refers to exactly the entries that have an expiry;
//! - the alarms refer to each hash with fields that expire, at a time when at most the first of these fields is due;
//! - the names of protected keys are those of the entries that say so;
//! - no other code keeps an entry's address, so that any write may move the entry.
//!
//! Only this file knows the tables, so no other code can make them disagree.
#![allow(unsafe_code)]

use std::mem;
use std::time::Duration;

use super::entry::{self, Entry, EntryRef, Found, Writable};
use super::expire::CycleState;
use super::fields::Alarms;
use super::keys::Keys;
use super::slot::Slot as ClusterSlot;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::structures::dict::{Borrowed, Dict, Element as _, Place, Slot, Stats};
use crate::structures::member::Member;
use crate::types::prefetch::{PrefetchTarget, Prefetcher};
use crate::types::{Describe, Hash};

/// One database: its keys, and the expiries.
pub struct Database {
    keys: Keys,
    expires: Dict<EntryRef>,
    alarms: Alarms,
    /// Names of the keys that are exempt from eviction.
    protected: Dict<Member>,
    pub(super) cycle: CycleState,
}

impl Database {
    /// An empty database, with one table of keys or with one for each slot.
    pub(super) fn new(by_slot: bool) -> Database {
        Database {
            keys: Keys::new(by_slot),
            expires: Dict::default(),
            alarms: Alarms::default(),
            protected: Dict::default(),
            cycle: CycleState::default(),
        }
    }

    /// Number of keys, including expired ones that have not been removed.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Number of keys, without those of slots that are being imported. O(1), or O(slots) while there are such.
    pub fn shown_len(&self) -> usize {
        self.keys.shown_len()
    }

    /// Hides the keys of these slots, and of no others.
    pub(super) fn hide(&mut self, slots: &[ClusterSlot]) {
        self.keys.hide(slots);
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys with an expiry.
    pub fn volatile(&self) -> usize {
        self.expires.len()
    }

    /// Names of the keys that are exempt from eviction.
    pub fn protected(&self) -> &Dict<Member> {
        &self.protected
    }

    /// Exempts a key from eviction, or ends that; whether this changed anything, or `None` if the key does not exist.
    /// O(1).
    pub(super) fn protect(&mut self, key: Key<'_>, on: bool) -> Option<bool> {
        let mut slot = self.keys.slot(key)?;
        if slot.is_protected() == on {
            return Some(false);
        }
        slot.set_protected(on);
        drop(slot);
        note_protected(&mut self.protected, key.bytes, on);
        Some(true)
    }

    /// Number of hashes that have, or recently had, fields that expire.
    pub fn with_volatile_fields(&self) -> usize {
        self.alarms.len()
    }

    /// Average time to live in milliseconds, as the expiry cycle last estimated it.
    pub fn avg_ttl_ms(&self) -> i64 {
        self.cycle.avg_ttl_ms as i64
    }

    /// The keys and their entries.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The table of expiries.
    pub(super) fn expires(&self) -> &Dict<EntryRef> {
        &self.expires
    }

    /// Average size of one key in the tables, in bytes; of one that expires if `volatile`. O(1).
    pub fn table_share(&self, key: Key<'_>, volatile: bool) -> usize {
        let of_expires = if volatile { self.expires_bytes() / self.volatile().max(1) } else { 0 };
        self.keys().share_of(key) + of_expires
    }

    /// Size of the table of expiries in bytes. O(1).
    pub fn expires_bytes(&self) -> usize {
        self.expires.bytes()
    }

    /// Statistics of the table of expiries. O(buckets).
    pub fn expires_stats(&self) -> Stats {
        self.expires.stats()
    }

    /// Reserves capacity for `keys` keys, `volatile` of them with an expiry.
    pub fn reserve(&mut self, keys: usize, volatile: usize) {
        self.keys.reserve(keys);
        self.expires.reserve(volatile);
    }

    /// Continues running rehashes for about `budget`; whether more remains to be done.
    pub fn rehash_for(&mut self, budget: Duration) -> bool {
        self.expires.shrink_if_sparse();
        if self.keys.rehash_for(budget) {
            return true;
        }
        self.expires.is_rehashing() && self.expires.rehash_for(budget)
    }

    /// The same key, with its slot noted in the hash if there is a table per slot: see [`Key::with_note`].
    #[inline]
    pub fn noting_slot<'a>(&self, key: Key<'a>) -> Key<'a> {
        self.keys.noting_slot(key)
    }

    /// Prefetches the bucket of the key with this hash. With a table per slot, the slot must be noted in the hash.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.keys.prefetch_bucket(hash);
    }

    /// Prefetches the entry of the key, whose bucket is in the cache.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.keys.prefetch_element(hash);
    }

    /// The search for `aim` in the collection at `key`, whose entry is in the cache. A due key is treated like any
    /// other.
    #[inline]
    pub fn prefetcher<'a>(&'a self, key: Key<'_>, aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        entry::ahead_in(&self.find(key)?, aim)
    }

    /// The entry of `key`, due or not. O(1); moves nothing.
    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<Borrowed<'_, Entry>> {
        self.keys.find(key.hash(), key.bytes)
    }

    /// Whether `key` exists and is due. O(1), without a search if no key expires.
    #[inline]
    pub(super) fn has_due(&self, key: Key<'_>, now: UnixMillis) -> bool {
        !self.expires.is_empty()
            && self.find(key).and_then(|entry| entry.expires()).is_some_and(|at| at <= now)
    }

    /// The entry of `key`, for reading. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn read(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        self.keys.read(key)
    }

    /// The entry of `key`, for changing it in place. O(1); one step of a running rehash.
    ///
    /// Together with [`put`](Self::put), [`rebuild`](Self::rebuild), [`take`](Self::take) and
    /// [`take_all`](Self::take_all) this is the only way to change a database, and each of these goes through [`Keys`].
    #[inline]
    pub(super) fn touching(&mut self, key: Key<'_>) -> Option<Writable<'_>> {
        self.keys.slot(key).map(Writable::new)
    }

    /// Calls `f` for the entries with an expiry at `cursor` and returns the next cursor: see [`Dict::scan`].
    pub(super) fn scan_volatile(&self, cursor: u64, mut f: impl FnMut(&Entry, EntryRef)) -> u64 {
        self.expires.scan(cursor, |&reference| {
            // SAFETY: the table of expiries refers to entries of this database, which is borrowed.
            f(&*unsafe { reference.lend() }, reference);
        })
    }

    /// Calls `f` for up to `n` entries with an expiry that lie together at a random place: see [`Dict::sample`].
    pub(super) fn sample_volatile(&self, n: usize, rng: &mut impl FnMut() -> u64, mut f: impl FnMut(&Entry)) {
        self.expires.sample(n, rng, |reference| {
            // SAFETY: as in `scan_volatile`.
            f(&*unsafe { reference.lend() });
        });
    }

    /// What `f` makes of a random entry with an expiry, each equally likely; `None` if there is none.
    pub(super) fn draw_volatile<T>(
        &self,
        rng: &mut impl FnMut() -> u64,
        f: impl FnOnce(&Entry) -> T,
    ) -> Option<T> {
        let reference = self.expires.random(rng)?;
        // SAFETY: as in `scan_volatile`.
        Some(f(&*unsafe { reference.lend() }))
    }

    /// Adds entries read from a file and empties `batch`. The destination memory of all entries is prefetched
    /// first.
    ///
    /// If a key exists already, its entry is replaced if `replace` is set.
    ///
    /// # Errors
    /// If a key exists already and `replace` is not set: the entry at which loading stopped.
    pub fn load(&mut self, batch: &mut Vec<(u64, Entry)>, replace: bool) -> Result<(), Entry> {
        for (hash, entry) in batch.iter() {
            self.keys.prefetch_bucket(*hash);
            if entry.expires().is_some() {
                self.expires.prefetch_bucket(*hash);
            }
        }
        for (hash, mut entry) in batch.drain(..) {
            if replace {
                let key = entry.key().to_vec();
                self.put(Key::with_hash(&key, hash), entry);
                continue;
            }
            let (volatile, alarm, address) = (entry.expires().is_some(), entry.arm(), entry.reference());
            let name = entry.is_protected().then(|| entry.key().to_vec());
            let hash = self.keys.noting_slot(Key::with_hash(entry.key(), hash)).hash();
            match self.keys.place(Key::with_hash(entry.key(), hash)) {
                Place::Vacant(place) => {
                    place.insert(entry);
                }
                Place::Occupied(_) => return Err(entry),
            }
            self.keys.added(Key::with_hash(&[], hash));
            if volatile {
                self.expires.insert_unique(hash, address);
            }
            self.alarms.add(alarm, address);
            if let Some(name) = name {
                note_protected(&mut self.protected, &name, true);
            }
        }
        Ok(())
    }

    /// Stores `new` in place of the key's entry, or adds it; returns the old entry. A key that is exempt from eviction
    /// stays so with another value.
    pub(super) fn put(&mut self, key: Key<'_>, mut new: Entry) -> Option<Entry> {
        let volatile = new.expires().is_some();
        let mut comes_protected = new.is_protected();
        let alarm = new.arm();
        let address = new.reference();
        let old = match self.keys.place(key) {
            Place::Occupied(mut slot) => {
                if slot.is_protected() {
                    new.set_protected(true);
                    comes_protected = false;
                }
                // The references to the old entry are removed before the entry: if one is missing, which panics, no
                // reference to a freed entry remains.
                match (slot.expires().is_some(), volatile) {
                    (false, false) => {}
                    (false, true) => self.expires.insert_unique(key.hash(), address),
                    (true, false) => {
                        _ = reference_to(&mut self.expires, key.hash(), slot.reference()).remove()
                    }
                    (true, true) => {
                        reference_to(&mut self.expires, key.hash(), slot.reference()).replace(address);
                    }
                }
                self.alarms.remove(slot.alarm(), slot.reference());
                Some(slot.replace(new))
            }
            Place::Vacant(place) => {
                place.insert(new);
                if volatile {
                    self.expires.insert_unique(key.hash(), address);
                }
                None
            }
        };
        if old.is_none() {
            self.keys.added(key);
        }
        self.alarms.add(alarm, address);
        if comes_protected {
            note_protected(&mut self.protected, key.bytes, true);
        }
        old
    }

    /// Adds an entry whose key the caller knows to be absent.
    pub(super) fn add(&mut self, key: Key<'_>, mut new: Entry) {
        debug_assert!(self.find(key).is_none() && !new.is_protected());
        let alarm = new.arm();
        let address = new.reference();
        if new.expires().is_some() {
            self.expires.insert_unique(key.hash(), address);
        }
        self.keys.insert_absent(key, new);
        self.alarms.add(alarm, address);
    }

    /// Replaces the key's entry by the result of `change`; whether the key exists.
    pub(super) fn rebuild(&mut self, key: Key<'_>, change: impl FnOnce(Entry) -> Entry) -> bool {
        let Some(mut slot) = self.keys.slot(key) else { return false };
        // The reference goes before the entry does.
        if slot.expires().is_some() {
            reference_to(&mut self.expires, key.hash(), slot.reference()).remove();
        }
        self.alarms.remove(slot.alarm(), slot.reference());
        slot.map(change);
        if slot.expires().is_some() {
            self.expires.insert_unique(key.hash(), slot.reference());
        }
        self.alarms.add(slot.alarm(), slot.reference());
        true
    }

    /// Moves entries at `cursor` and their values if their places are sparse, and returns the next cursor, 0 at the
    /// end. A collection with more than `most` parts is left to [`relocate_large`](Self::relocate_large): `large` is
    /// called with its key. `each` is called with the number of blocks moved for each entry.
    pub(super) fn relocate(
        &mut self,
        by: &mut Relocator,
        cursor: u64,
        most: usize,
        mut large: impl FnMut(&[u8]),
        mut each: impl FnMut(u64),
    ) -> u64 {
        let Database { keys, expires, alarms, .. } = self;
        keys.relocate(by, cursor, |mut entry, by| {
            let before = by.moved;
            if entry.effort() > most {
                large(entry.key());
            } else {
                entry.relocate_value(by, 0, usize::MAX);
            }
            let entry = entry.relocated(by, |old, new| {
                if new.expires().is_some() {
                    let hash = Key::new(new.key()).hash();
                    reference_to(expires, hash, old).replace(new.reference());
                }
                alarms.remove(new.alarm(), old);
                alarms.add(new.alarm(), new.reference());
            });
            each(by.moved - before);
            entry
        })
    }

    /// Moves the memory of about `most` elements of the collection at `key` from `cursor` on, if their places are
    /// sparse. Returns the next cursor, 0 at the end or if the key no longer exists.
    pub(super) fn relocate_large(
        &mut self,
        by: &mut Relocator,
        key: Key<'_>,
        cursor: u64,
        most: usize,
    ) -> u64 {
        self.keys.relocating(key).map_or(0, |mut slot| slot.relocate_value(by, cursor, most))
    }

    /// Moves memory of the table of expiries at `cursor` if its places are sparse, and returns the next cursor, 0 at
    /// the end.
    pub(super) fn relocate_expires(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        self.expires.relocate(by, cursor, most, |reference, _| reference)
    }

    /// Panics if the two tables disagree. O(n).
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut volatile = 0;
        for entry in self.keys.iter() {
            let key = Key::new(entry.key());
            let reference = self.expires.find(key.hash(), key.bytes).map(|reference| reference.as_raw());
            let expected = entry.expires().map(|_| entry.as_raw());
            assert_eq!(reference, expected, "{}", key.bytes.escape_ascii());
            volatile += usize::from(expected.is_some());
        }
        assert_eq!(volatile, self.expires.len(), "the table of expiries refers to keys that are gone");
        self.alarms.check(&self.keys);
        let protected = self.keys.iter().filter(|entry| entry.is_protected());
        let named = |name: &[u8]| self.protected.find(Key::new(name).hash(), name).is_some();
        assert_eq!(protected.inspect(|entry| assert!(named(entry.key()))).count(), self.protected.len());
    }

    /// Removes the name of a removed entry if it was protected.
    #[inline]
    fn forget_protected(&mut self, taken: &Entry) {
        if taken.is_protected() {
            note_protected(&mut self.protected, taken.key(), false);
        }
    }

    /// Removes the key's entry and returns it.
    pub(super) fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        let slot = self.keys.slot(key)?;
        let taken = take_from(slot, key.hash(), &mut self.expires, &mut self.alarms);
        self.forget_protected(&taken);
        self.keys.removed(key);
        Some(taken)
    }

    /// Removes and returns an entry that the table of expiries or the alarms refer to. `hash` is that of its key, with
    /// the slot noted if there is a table per slot.
    pub(super) fn take_at(&mut self, hash: u64, entry: EntryRef) -> Option<Entry> {
        let slot = self.keys.slot_at(hash, entry)?;
        let taken = take_from(slot, hash, &mut self.expires, &mut self.alarms);
        self.forget_protected(&taken);
        self.keys.removed(Key::with_hash(taken.key(), hash));
        Some(taken)
    }

    /// Removes and returns everything, which leaves an empty database. O(1).
    pub(super) fn take_all(&mut self) -> Database {
        Database {
            keys: self.keys.take_all(),
            expires: mem::take(&mut self.expires),
            alarms: mem::take(&mut self.alarms),
            protected: mem::take(&mut self.protected),
            cycle: mem::take(&mut self.cycle),
        }
    }

    /// Updates the alarms after fields of the hash at `key` were given an expiry. O(log n).
    pub(super) fn arm(&mut self, key: Key<'_>) {
        let Some(mut slot) = self.keys.slot(key) else { return };
        let (old, earliest) = (slot.alarm(), slot.collection::<Hash>().and_then(Describe::earliest_expiry));
        let Some(earliest) = earliest else { return };
        if old.is_some_and(|old| old <= earliest) {
            return;
        }
        if !slot.has_room_for_alarm() {
            drop(slot);
            self.rebuild(key, Entry::with_room_for_alarm);
            slot = self.keys.slot(key).expect("it was found a moment ago");
        }
        self.alarms.remove(old, slot.reference());
        slot.set_alarm(Some(earliest));
        self.alarms.add(Some(earliest), slot.reference());
    }

    /// Calls `remove` to remove due fields of the hash with the first alarm. Returns `None` if no alarm has fired by
    /// `now`, and the entry if the hash has become empty, which removes it. O(log n) besides `remove`.
    pub(super) fn visit_alarm(
        &mut self,
        now: UnixMillis,
        remove: impl FnOnce(&[u8], &mut Hash),
    ) -> Option<Option<Entry>> {
        let reference = self.alarms.pop_due(now)?;
        // SAFETY: the alarms refer to entries of this database. The entry stays where it is, and its key as it is,
        // while the key is used.
        let lent = unsafe { reference.lend() };
        let key = self.keys.key(lent.key());
        let mut slot =
            self.keys.slot_at(key.hash(), reference).expect("what has an alarm is in the table of keys");
        let hash = slot.collection_mut::<Hash>().expect("only hashes have alarms");
        remove(key.bytes, hash);
        let (next, empty) = (hash.earliest_expiry(), hash.is_empty());
        // If more fields are due, all other hashes with a fired alarm come first.
        let next = next.map(|at| at.max(now));
        if next.is_none() {
            hash.drop_expiry_table();
        }
        slot.set_alarm(next);
        self.alarms.add(next, slot.reference());
        drop(slot);
        Some(if empty { self.take_at(key.hash(), reference) } else { None })
    }
}

/// Adds a name to those of protected keys, or removes it.
#[cold]
fn note_protected(names: &mut Dict<Member>, name: &[u8], on: bool) {
    let hash = Key::new(name).hash();
    if on {
        names.insert_unique(hash, Member::new(name));
    } else {
        names.remove(hash, name);
    }
}

/// Removes the entry in `slot` from all tables. `hash` is that of its key.
#[inline]
fn take_from(slot: Slot<'_, Entry>, hash: u64, expires: &mut Dict<EntryRef>, alarms: &mut Alarms) -> Entry {
    // The references go before the entry does.
    if slot.expires().is_some() {
        reference_to(expires, hash, slot.reference()).remove();
    }
    alarms.remove(slot.alarm(), slot.reference());
    slot.remove()
}

/// The slot of the reference to `entry` in a table of expiries.
///
/// # Panics
/// If the reference is missing: an entry must not be freed while the table may still refer to it.
#[inline]
fn reference_to(expires: &mut Dict<EntryRef>, hash: u64, entry: EntryRef) -> Slot<'_, EntryRef> {
    let found = expires.find_address_mut(hash, entry.into_raw());
    found.expect("the table of expiries refers to every entry that expires")
}
