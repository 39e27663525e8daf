//! The databases, and a command's view of the one it selected.
//!
//! [`Keyspace`] owns everything; [`Db`] is a borrowed view with the index of one database, and
//! the only way commands reach keys. Each lookup does what a lookup has to: it removes a key
//! whose time has come, notes the access, counts hits and misses. What always holds:
//!
//! - the table of expiries refers to exactly the entries that have an expiry;
//! - the alarms refer to each hash with fields that expire, at a time when none or only the first is due;
//! - an entry's address is used by no one else, so that it may move on any write.

use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::entry::{self, EMBED_MAX, Entry, EntryRef, Found};
use super::evict::Evictor;
use super::expire::CycleState;
use super::fields::Alarms;
use super::free::{LazyFree, Reclaimer};
use super::ledger::{Class, Event, Ledger};
use super::suspension::{Expiry, Suspend, Suspension};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::stdx::rng::Rng;
use crate::structures::dict::{Dict, Element as _, Place, Slot, Stats};
use crate::structures::sds::Sds;
use crate::types::ahead::{Aim, Scout};
use crate::types::string::{StringRef, Text};
use crate::types::{Collection, Kind, Value};

/// The key holds a value of another type than the command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key holds a value of another type")]
pub struct WrongType;

/// What becomes of a key's expiry when its value is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// The key has no expiry afterwards.
    Clear,
    /// The key keeps its expiry, if it has one.
    Keep,
    /// The key expires at this time.
    At(UnixMillis),
}

/// Counters of the keyspace, as `INFO stats` shows them.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeyspaceStats {
    /// Lookups for reading that found their key.
    pub hits: u64,
    /// Lookups for reading that did not.
    pub misses: u64,
    /// Keys that were removed because their time had come.
    pub expired: u64,
    /// Fields of hashes whose time had come and that were removed for it.
    pub expired_fields: u64,
    /// Running average of the percentage of keys that the expiry cycle found to be due.
    pub expired_stale_percent: f64,
    /// Expiry cycles that ended because their time was up.
    pub expire_cycle_cut_short: u64,
    /// Microseconds spent in expiry cycles.
    pub expire_cycle_us: u64,
    /// Keys that were removed to make room.
    pub evicted: u64,
}

/// How long it took to free what nobody asked to remove: the longest since somebody last looked.
#[derive(Clone, Copy, Default, Debug)]
pub struct Removals {
    /// Whether anybody wants to know; otherwise no clock is read.
    pub timed: bool,
    /// Of a key whose time had come.
    pub expired: Duration,
    /// Of a key that made room.
    pub evicted: Duration,
}

/// One database: its keys, and which of them expire.
#[derive(Default)]
pub struct Database {
    pub(super) keys: Dict<Entry>,
    pub(super) expires: Dict<EntryRef>,
    pub(super) alarms: Alarms,
    pub(super) cycle: CycleState,
}

impl Database {
    /// Number of keys, expired ones that are still there included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys with an expiry.
    pub fn volatile(&self) -> usize {
        self.expires.len()
    }

    /// Number of hashes with fields that expire, and of those of late.
    pub fn with_volatile_fields(&self) -> usize {
        self.alarms.len()
    }

    /// Average time to live in milliseconds, as the expiry cycle last estimated it.
    pub fn avg_ttl_ms(&self) -> i64 {
        self.cycle.avg_ttl_ms as i64
    }

    /// The table of keys.
    pub fn keys(&self) -> &Dict<Entry> {
        &self.keys
    }

    /// The bytes of the table of expiries. O(1).
    pub fn expires_bytes(&self) -> usize {
        self.expires.bytes()
    }

    /// How the table of expiries is filled. O(buckets).
    pub fn expires_stats(&self) -> Stats {
        self.expires.stats()
    }

    /// Makes room for `keys` keys, `volatile` of them with an expiry.
    pub fn reserve(&mut self, keys: usize, volatile: usize) {
        self.keys.reserve(keys);
        self.expires.reserve(volatile);
    }

    /// Moves buckets of running rehashes for about `budget`; whether there is more to do.
    pub fn rehash_for(&mut self, budget: std::time::Duration) -> bool {
        self.keys.shrink_if_sparse();
        self.expires.shrink_if_sparse();
        if self.keys.is_rehashing() {
            return self.keys.rehash_for(budget);
        }
        self.expires.is_rehashing() && self.expires.rehash_for(budget)
    }

    /// Brings in the line where the key's bucket lies.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.keys.prefetch_bucket(hash);
    }

    /// Brings in the entry, once its bucket is there.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.keys.prefetch_element(hash);
    }

    /// The way to what a command looks for in the collection at `key`, whose entry has come in. Nothing is done
    /// about a key that is due.
    #[inline]
    pub fn ahead<'a>(&'a self, key: Key<'_>, aim: Aim<'a>) -> Option<Scout<'a>> {
        entry::ahead_in(&self.keys.find(key.hash(), key.bytes)?, aim)
    }

    /// Adds entries that come from a file and empties `batch`. The memory that they go to is asked for first, for
    /// all of them at once.
    ///
    /// Of two entries with one key the later stays if `replace`.
    ///
    /// # Errors
    /// A key was there before and `replace` is false: its entry, where it stopped.
    pub fn load(&mut self, batch: &mut Vec<(u64, Entry)>, replace: bool) -> Result<(), Entry> {
        for (hash, entry) in batch.iter() {
            self.prefetch_bucket(*hash);
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
            match self.keys.entry(hash, entry.key()) {
                Place::Vacant(place) => drop(place.insert(entry)),
                Place::Occupied(_) => return Err(entry),
            }
            if volatile {
                self.expires.insert_unique(hash, address);
            }
            self.alarms.add(alarm, address);
        }
        Ok(())
    }

    /// Puts `new` where the key's entry is, or adds it; the old one is handed back.
    fn put(&mut self, key: Key<'_>, mut new: Entry) -> Option<Entry> {
        let volatile = new.expires().is_some();
        let alarm = new.arm();
        let address = new.reference();
        let old = match self.keys.entry(key.hash(), key.bytes) {
            Place::Occupied(mut slot) => {
                // The references to the old entry go before it does: should one be missed, which panics, none is
                // left to an entry that is gone.
                match (slot.expires().is_some(), volatile) {
                    (false, false) => {}
                    (false, true) => self.expires.insert_unique(key.hash(), address),
                    (true, false) => _ = reference_to(&mut self.expires, key, slot.reference()).remove(),
                    (true, true) => {
                        reference_to(&mut self.expires, key, slot.reference()).replace(address);
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
        self.alarms.add(alarm, address);
        old
    }

    /// Lets `change` rebuild the key's entry; whether the key is there.
    pub(super) fn rebuild(&mut self, key: Key<'_>, change: impl FnOnce(Entry) -> Entry) -> bool {
        let Some(mut slot) = self.keys.find_mut(key.hash(), key.bytes) else { return false };
        // The reference goes before the entry does.
        if slot.expires().is_some() {
            reference_to(&mut self.expires, key, slot.reference()).remove();
        }
        self.alarms.remove(slot.alarm(), slot.reference());
        slot.map(change);
        if slot.expires().is_some() {
            self.expires.insert_unique(key.hash(), slot.reference());
        }
        self.alarms.add(slot.alarm(), slot.reference());
        true
    }

    /// Checks that the two tables agree. O(n).
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
    }

    /// Takes the key's entry out.
    pub(super) fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        let slot = self.keys.find_mut(key.hash(), key.bytes)?;
        if slot.expires().is_some() {
            reference_to(&mut self.expires, key, slot.reference()).remove();
        }
        self.alarms.remove(slot.alarm(), slot.reference());
        Some(slot.remove())
    }
}

/// The place of the reference to `entry` in a table of expiries.
///
/// # Panics
/// If it is not there: an entry that the table would still refer to must not go.
#[inline]
fn reference_to<'a>(expires: &'a mut Dict<EntryRef>, key: Key<'_>, entry: EntryRef) -> Slot<'a, EntryRef> {
    let found = expires.find_address_mut(key.hash(), entry.into_raw());
    found.expect("the table of expiries refers to every entry that expires")
}

/// All databases and what their keys have in common.
pub struct Keyspace {
    pub(super) dbs: Vec<Database>,
    /// The record of what the running command changed.
    pub ledger: Ledger,
    /// The clocks by which accesses are noted.
    pub access: Access,
    /// The source of random choices.
    pub rng: Rng,
    /// Counters since the start or the last `CONFIG RESETSTAT`.
    pub stats: KeyspaceStats,
    /// Frees what is removed.
    pub reclaimer: Reclaimer,
    /// Which removals free large values in the background.
    pub lazy: LazyFree,
    suspension: Suspension,
    /// Chooses the keys that go when memory is short.
    pub evictor: Evictor,
    /// How long it took to free expired and evicted keys.
    pub removals: Removals,
    pub(super) now: UnixMillis,
}

impl Keyspace {
    /// `databases` empty databases.
    pub fn new(databases: usize, reclaimer: Reclaimer, rng: Rng) -> Self {
        Keyspace {
            dbs: (0..databases).map(|_| Database::default()).collect(),
            ledger: Ledger::default(),
            access: Access::default(),
            rng,
            stats: KeyspaceStats::default(),
            reclaimer,
            lazy: LazyFree::default(),
            suspension: Suspension::default(),
            evictor: Evictor::default(),
            removals: Removals::default(),
            now: UnixMillis(0),
        }
    }

    /// Tells the time, by which keys expire and accesses are noted.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
        self.access.set_now(now);
    }

    /// The time the keyspace goes by.
    #[inline]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// What becomes of keys that are due.
    #[inline]
    pub fn expiry(&self) -> Expiry {
        self.suspension.expiry()
    }

    /// Gives a reason for due keys to stay, or takes it back.
    pub fn suspend_expiry(&mut self, reason: Suspend, on: bool) {
        self.suspension.set(reason, on);
    }

    /// The databases, by number.
    pub fn databases(&self) -> &[Database] {
        &self.dbs
    }

    /// Database `index`, for maintenance.
    pub fn database_mut(&mut self, index: usize) -> &mut Database {
        &mut self.dbs[index]
    }

    /// The type of the value at `key` of database `db`, if it is there and not due.
    pub fn kind_of(&self, db: usize, key: Key<'_>) -> Option<Kind> {
        let entry = self.dbs[db].keys.find(key.hash(), key.bytes)?;
        let due = entry.expires().is_some_and(|at| at <= self.now);
        if due && self.expiry() != Expiry::Ignore { None } else { Some(entry.kind()) }
    }

    /// A view of database `index`.
    #[inline]
    pub fn db(&mut self, index: usize) -> Db<'_> {
        Db { space: self, index, touch: true }
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Database::len).sum()
    }

    /// Whether no database has a key.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(Database::is_empty)
    }

    /// Removes all keys of one database, or of all; how many there were. O(1) when `lazily`.
    pub fn flush(&mut self, db: Option<usize>, lazily: bool) -> usize {
        let range = db.map_or(0..self.dbs.len(), |db| db..db + 1);
        let mut removed = 0;
        for db in &mut self.dbs[range] {
            let old = std::mem::take(db);
            let n = old.len();
            removed += n;
            if lazily && n > 0 {
                self.reclaimer.later(old, n as u64);
            }
        }
        self.ledger.flushed(db, removed);
        removed
    }

    /// Lets two databases change places.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.ledger.swapped(a, b);
    }
}

const KEY_MISS: Event = Event { class: Class::Miss, name: "keymiss" };

impl Keyspace {
    #[cold]
    fn missed(&mut self, db: usize, key: Key<'_>) {
        self.stats.misses += 1;
        self.ledger.told(db, key.bytes, KEY_MISS);
    }
}

/// Notes an access. Not writing what is there already keeps the entry's line clean.
#[inline]
fn touch_entry(entry: &mut Entry, access: &Access, rng: &mut Rng) {
    let old = entry.access();
    let new = access.touched(old, rng);
    if new != old {
        entry.set_access(new);
    }
}

/// A command's view of one database.
pub struct Db<'a> {
    space: &'a mut Keyspace,
    index: usize,
    /// Whether reading a key counts as an access (`CLIENT NO-TOUCH` says no).
    touch: bool,
}

impl<'s> Db<'s> {
    /// The same view for a client whose reads leave no trace.
    #[inline]
    pub fn without_touch(mut self, no_touch: bool) -> Self {
        self.touch = !no_touch;
        self
    }

    /// The number of the database.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.space.dbs.len()
    }

    /// Everything under this view.
    pub fn space(&mut self) -> &mut Keyspace {
        self.space
    }

    /// A view of another database.
    pub fn other(&mut self, index: usize) -> Db<'_> {
        Db { space: self.space, index, touch: self.touch }
    }

    /// The database itself.
    pub fn database(&self) -> &Database {
        &self.space.dbs[self.index]
    }

    #[inline]
    fn database_mut(&mut self) -> &mut Database {
        &mut self.space.dbs[self.index]
    }

    /// The source of random choices.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.space.rng
    }

    /// Says that a command changed `key`, `n` times; nothing happens when `n` is 0.
    #[inline]
    pub fn changed(&mut self, key: Key<'_>, event: Event, n: usize) {
        self.space.ledger.changed(self.index, key.bytes, event, n);
    }

    /// Says that `key` took part in the change that was counted last, like the second key of a rename.
    #[inline]
    pub fn also_changed(&mut self, key: Key<'_>, event: Event) {
        self.space.ledger.also_changed(self.index, key.bytes, event);
    }

    /// Says that something happened to `key` that did not change it.
    pub fn told(&mut self, key: Key<'_>, event: Event) {
        self.space.ledger.told(self.index, key.bytes, event);
    }

    // ---- looking up -----------------------------------------------------------------------

    /// Asks for the memory that looking up `keys` will touch, first the buckets, then the entries,
    /// so that the accesses overlap. Sixteen keys are a good number: more would evict each other's
    /// lines before use.
    #[inline]
    pub fn prefetch(&self, keys: &[Key<'_>]) {
        let db = self.database();
        for key in keys {
            db.prefetch_bucket(key.hash());
        }
        for key in keys {
            db.prefetch_entry(key.hash());
        }
    }

    /// Removes the key if its time has come; whether it must be treated as absent.
    #[inline]
    fn expire_if_due(&mut self, key: Key<'_>) -> bool {
        let db = &self.space.dbs[self.index];
        if db.expires.is_empty() {
            return false;
        }
        let Some(at) = db.keys.find(key.hash(), key.bytes).and_then(|entry| entry.expires()) else {
            return false;
        };
        if at > self.space.now {
            return false;
        }
        self.space.meet_due_key(self.index, key)
    }

    #[inline]
    fn slot(&mut self, key: Key<'_>, touch: bool) -> Option<Slot<'_, Entry>> {
        let Keyspace { dbs, access, rng, .. } = &mut *self.space;
        let mut slot = dbs[self.index].keys.find_mut(key.hash(), key.bytes)?;
        if touch {
            touch_entry(&mut slot, access, rng);
        }
        Some(slot)
    }

    /// The entry of `key`, read: counts a hit or a miss and notes the access.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        let touch = self.touch;
        if self.expire_if_due(key) {
            self.space.missed(self.index, key);
            return None;
        }
        let Keyspace { dbs, access, rng, stats, ledger, .. } = &mut *self.space;
        match dbs[self.index].keys.find_mut(key.hash(), key.bytes) {
            Some(mut slot) => {
                stats.hits += 1;
                if touch {
                    touch_entry(&mut slot, access, rng);
                }
                Some(Found(slot))
            }
            None => {
                stats.misses += 1;
                ledger.told(self.index, key.bytes, KEY_MISS);
                None
            }
        }
    }

    /// As [`Db::read`], but the access leaves no trace in the entry.
    pub fn peek(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        let touch = std::mem::replace(&mut self.touch, false);
        let found = self.read(key).is_some();
        self.touch = touch;
        if !found {
            return None;
        }
        self.database_mut().keys.find_mut(key.hash(), key.bytes).map(Found)
    }

    /// As [`Db::peek`], without counting a hit or a miss.
    pub fn inspect(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        if self.expire_if_due(key) {
            return None;
        }
        self.database_mut().keys.find_mut(key.hash(), key.bytes).map(Found)
    }

    /// The entry of `key`, about to be changed in place.
    #[inline]
    pub fn write(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        if self.expire_if_due(key) {
            return None;
        }
        self.slot(key, self.touch).map(Found)
    }

    /// Whether the key is there. Changes nothing but removing it when its time has come.
    pub fn contains(&mut self, key: Key<'_>) -> bool {
        !self.expire_if_due(key) && self.database().keys.find(key.hash(), key.bytes).is_some()
    }

    /// Whether the key is there and not due, without removing it.
    pub fn is_there_now(&self, key: Key<'_>) -> bool {
        let entry = self.database().keys.find(key.hash(), key.bytes);
        entry.is_some_and(|entry| !self.is_due(&entry))
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    #[inline]
    pub fn read_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(found) => entry::string_in(found.0).map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key`, for a command that will change it.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    pub fn write_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.write(key) {
            None => Ok(None),
            Some(found) => entry::string_in(found.0).map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key`, read, in a form that outlives the lookup: a long one is shared, a
    /// short one copied.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    pub fn read_text(&mut self, key: Key<'_>) -> Result<Option<Text>, WrongType> {
        let Some(slot) = self.read(key) else { return Ok(None) };
        match slot.shared_string() {
            Some(shared) => Ok(Some(Text::Shared(shared))),
            None => slot.string().map(|text| Some(Text::Copied(text.to_vec()))).ok_or(WrongType),
        }
    }

    /// The collection at `key`, read.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    #[inline]
    pub fn read_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&T>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(found) => {
                let collection = entry::collection_in::<T>(found.0).ok_or(WrongType)?;
                collection.step();
                Ok(Some(collection))
            }
        }
    }

    /// The collection at `key`, without any of the effects of a lookup: for commands that work on
    /// several keys at the same time and have [`read_as`](Self::read_as) each of them before.
    #[inline]
    pub fn look_as<T: Collection>(&self, key: Key<'_>) -> Option<&T> {
        let entry = self.database().keys.find(key.hash(), key.bytes)?;
        entry::collection_of(&entry)
    }

    /// The collection at `key`, to be changed. Call [`Db::settle`] if it may have become empty.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    #[inline]
    pub fn write_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&mut T>, WrongType> {
        match self.write(key) {
            None => Ok(None),
            Some(found) => entry::collection_in::<T>(found.0).map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key`, to be changed; `make` makes one where there is none.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    #[inline]
    pub fn write_or_insert<T: Collection>(
        &mut self,
        key: Key<'_>,
        make: impl FnOnce() -> T,
    ) -> Result<&mut T, WrongType> {
        let mut touch = self.touch;
        if self.expire_if_due(key) || self.database().keys.find(key.hash(), key.bytes).is_none() {
            let mut entry = Entry::with_collection(key.bytes, None, make());
            entry.set_access(self.space.access.fresh());
            self.database_mut().put(key, entry);
            self.born(key);
            // Coming into being is no access: the frequency stays where it begins.
            touch = false;
        }
        let slot = self.slot(key, touch).expect("the key was there or has just been added");
        entry::collection_in::<T>(slot).ok_or(WrongType)
    }

    /// Removes the key when its collection has become empty and does not stay that way ([`Describe::is_empty`](crate::types::Describe::is_empty));
    /// whether it was removed. The command reports its own event first.
    pub fn settle<T: Collection>(&mut self, key: Key<'_>) -> bool {
        let entry = self.database().keys.find(key.hash(), key.bytes);
        if !entry.is_some_and(|entry| entry.collection::<T>().is_some_and(T::is_empty)) {
            return false;
        }
        self.database_mut().take(key);
        self.also_changed(key, Event::generic("del"));
        true
    }

    // ---- storing --------------------------------------------------------------------------

    fn born(&mut self, key: Key<'_>) {
        let event = Event { class: Class::New, name: "new" };
        self.space.ledger.told(self.index, key.bytes, event);
    }

    /// Stores a string under `key`, whatever was there before. The caller reports the change.
    ///
    /// An overwritten string of the same size class stays where it is: one copy, no allocation.
    #[inline]
    pub fn set_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl) {
        let Keyspace { dbs, access, rng, now, .. } = &mut *self.space;
        if let Some(mut slot) = dbs[self.index].keys.find_mut(key.hash(), key.bytes) {
            let expires = slot.expires();
            let due = expires.is_some_and(|at| at <= *now);
            let expiry_fits = match ttl {
                Ttl::Clear => expires.is_none(),
                Ttl::Keep => !due,
                Ttl::At(_) => expires.is_some() && !due,
            };
            let overwritten = expiry_fits
                && match &value {
                    Value::Bytes(bytes) => slot.overwrite(bytes),
                    Value::Int(n) => slot.overwrite_int(*n),
                    _ => false,
                };
            if overwritten {
                if let Ttl::At(at) = ttl {
                    slot.write_expire(at);
                }
                let new = access.touched(slot.access(), rng);
                slot.set_access(new);
                return;
            }
        }
        self.replace_or_add(key, value, ttl);
    }

    fn replace_or_add(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl) {
        // A key whose time has come is not overwritten: it goes, and another one comes.
        self.expire_if_due(key);
        let expires = match ttl {
            Ttl::Clear => None,
            Ttl::At(at) => Some(at),
            Ttl::Keep => self.database().keys.find(key.hash(), key.bytes).and_then(|old| old.expires()),
        };
        let mut entry = Entry::new(key.bytes, expires, value);
        entry.set_access(self.access_of_new_value(key));
        self.put(key, entry);
    }

    /// The access data of a value that is about to be stored: a key stays as frequent as it was, and is used.
    fn access_of_new_value(&mut self, key: Key<'_>) -> u32 {
        let Keyspace { dbs, access, rng, .. } = &mut *self.space;
        let old = if access.lfu { dbs[self.index].keys.find(key.hash(), key.bytes) } else { None };
        old.map_or_else(|| access.fresh(), |old| access.touched(old.access(), rng))
    }

    /// As [`Db::set_string`], for bytes that are the outcome of changes: they are reported as `raw`.
    pub fn set_raw_string(&mut self, key: Key<'_>, bytes: Sds, ttl: Ttl) {
        if bytes.len() > EMBED_MAX {
            return self.set_string(key, Value::Shared(Arc::new(bytes)), ttl);
        }
        self.set_string(key, Value::Bytes(&bytes), ttl);
        if let Some(mut slot) = self.database_mut().keys.find_mut(key.hash(), key.bytes) {
            slot.mark_changed();
        }
    }

    /// Stores a collection under `key`, whatever was there before. The caller reports the change.
    pub fn set_collection<T: Collection>(&mut self, key: Key<'_>, value: T, expires: Option<UnixMillis>) {
        // A key whose time has come is not overwritten: it goes, and another one comes.
        self.expire_if_due(key);
        let mut entry = Entry::with_collection(key.bytes, expires, value);
        entry.set_access(self.access_of_new_value(key));
        self.put(key, entry);
    }

    /// Stores a ready entry under its key, whatever was there before.
    pub fn put(&mut self, key: Key<'_>, entry: Entry) {
        debug_assert_eq!(entry.key(), key.bytes);
        match self.database_mut().put(key, entry) {
            Some(old) => self.space.reclaimer.entry(old, self.space.lazy.server_del),
            None => self.born(key),
        }
    }

    /// The string at `key` as one that can be changed and grown; an empty one is made where
    /// there is none. It is reported as `raw` from then on.
    ///
    /// # Errors
    /// [`WrongType`] when there is a value of another type.
    pub fn string_mut(&mut self, key: Key<'_>) -> Result<&mut Sds, WrongType> {
        let found = self.write(key).map(|found| (found.kind(), found.is_changeable()));
        match found {
            None => {
                let mut entry = Entry::new(key.bytes, None, Value::Shared(Default::default()));
                entry.set_access(self.space.access.fresh());
                self.put(key, entry);
            }
            Some((_, true)) => {}
            Some((Kind::String, false)) => {
                self.database_mut().rebuild(key, Entry::into_changeable);
            }
            Some(_) => return Err(WrongType),
        }
        let slot = self.database_mut().keys.find_mut(key.hash(), key.bytes).expect("the key is there by now");
        entry::sds_in(slot).ok_or(WrongType)
    }

    // ---- removing, expiring, moving -------------------------------------------------------

    /// Removes the key and frees its value, in the background if `lazily` and it is large;
    /// whether it was there. The caller reports the change.
    pub fn remove(&mut self, key: Key<'_>, lazily: bool) -> bool {
        match self.take(key) {
            Some(old) => {
                self.space.reclaimer.entry(old, lazily);
                true
            }
            None => false,
        }
    }

    /// As [`Db::remove`], for a result that is empty and leaves nothing under its key: what was there goes as the
    /// command's doing, also when its time has come.
    pub fn displace(&mut self, key: Key<'_>, lazily: bool) -> bool {
        match self.database_mut().take(key) {
            Some(old) => {
                self.space.reclaimer.entry(old, lazily);
                true
            }
            None => false,
        }
    }

    /// Takes the key's entry out. The caller reports the change.
    pub fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        if self.expire_if_due(key) {
            return None;
        }
        self.database_mut().take(key)
    }

    /// When the key expires.
    pub fn expires(&mut self, key: Key<'_>) -> Option<UnixMillis> {
        self.database().keys.find(key.hash(), key.bytes).and_then(|entry| entry.expires())
    }

    /// Gives the key an expiry, or takes it away; whether the key is there.
    pub fn set_expires(&mut self, key: Key<'_>, at: Option<UnixMillis>) -> bool {
        let Some(entry) = self.database().keys.find(key.hash(), key.bytes) else { return false };
        match (entry.expires(), at) {
            (None, None) => true,
            (Some(_), Some(at)) => {
                entry.write_expire(at);
                true
            }
            _ => self.database_mut().rebuild(key, |entry| entry.with_expires(at)),
        }
    }

    /// Whether a key that is due is removed here. Otherwise that is somebody else's decision, and
    /// an expiry in the past is kept like any other.
    #[inline]
    pub fn removes_due_keys(&self) -> bool {
        self.space.expiry() == Expiry::Remove
    }

    /// Puts `entry` under its key as if nothing had been there before.
    fn put_as_new(&mut self, key: Key<'_>, entry: Entry) {
        debug_assert_eq!(entry.key(), key.bytes);
        if let Some(old) = self.database_mut().put(key, entry) {
            self.space.reclaimer.entry(old, self.space.lazy.server_del);
        }
        self.born(key);
    }

    /// Moves the value of `from`, its expiry and its access data to the key `to`, whatever was
    /// there before; whether `from` was there. The caller has looked `from` up and reports the change.
    /// O(1): of a value that does not lie in the entry, only the pointer moves.
    pub fn rename(&mut self, from: Key<'_>, to: Key<'_>) -> bool {
        let Some(entry) = self.database_mut().take(from) else { return false };
        let expires = entry.expires();
        self.put_as_new(to, entry.renamed(to.bytes, expires));
        true
    }

    /// Moves the key with its entry to database `db`, whatever was there before; whether it was
    /// there. The caller has looked it up and reports the change. O(1): nothing is copied.
    pub fn move_to(&mut self, key: Key<'_>, db: usize) -> bool {
        let Some(entry) = self.database_mut().take(key) else { return false };
        self.other(db).put_as_new(key, entry);
        true
    }

    /// Puts a deep copy of the value of `from`, with its expiry, under the key `to` of database `db`,
    /// whatever was there before; whether `from` was there. The caller has looked it up and
    /// reports the change. O(n) in the elements of a collection; a long string is shared.
    pub fn copy(&mut self, from: Key<'_>, to: Key<'_>, db: usize) -> bool {
        let Some(entry) = self.database().keys.find(from.hash(), from.bytes) else { return false };
        let mut copy = entry.duplicate(to.bytes, entry.expires());
        copy.set_access(self.space.access.fresh());
        self.other(db).put_as_new(to, copy);
        true
    }

    /// A random key that is not expired. O(1) expected.
    ///
    /// Where nearly all keys are due and may not be removed, a due one is returned after 100 tries.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        for attempt in 0.. {
            let Keyspace { dbs, rng, .. } = &mut *self.space;
            let db = &dbs[self.index];
            let key = db.keys.random(&mut || rng.next_u64())?.key().to_vec();
            let all_volatile = db.expires.len() == db.keys.len();
            if !self.expire_if_due(Key::new(&key)) || (all_volatile && attempt >= 100) {
                return Some(key);
            }
        }
        None
    }

    /// One step of a scan: calls `f` with entries; the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, mut f: impl FnMut(&Entry)) -> u64 {
        self.database().keys.scan(cursor, |entry| f(entry))
    }

    /// Whether an entry's time has come.
    pub fn is_due(&self, entry: &Entry) -> bool {
        entry.expires().is_some_and(|at| at <= self.space.now) && self.space.expiry() != Expiry::Ignore
    }

    /// Removes the key if its time has come.
    pub fn expire_due(&mut self, key: Key<'_>) -> bool {
        self.expire_if_due(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::time::Duration;

    use super::*;
    use crate::keyspace::entry::EMBED_MAX;
    use crate::keyspace::expire::{ActiveExpire, Cycle};

    /// What the databases hold, without any of the machinery.
    #[derive(Default)]
    struct Model {
        dbs: Vec<HashMap<Vec<u8>, Held>>,
        now: i64,
    }

    #[derive(Clone, PartialEq, Debug)]
    struct Held {
        text: Vec<u8>,
        expires: Option<i64>,
    }

    impl Model {
        fn new(databases: usize) -> Self {
            Model { dbs: vec![HashMap::new(); databases], now: 1_000_000 }
        }

        fn get(&self, db: usize, key: &[u8]) -> Option<&Held> {
            self.dbs[db].get(key).filter(|held| held.expires.is_none_or(|at| at > self.now))
        }

        fn forget_due(&mut self) {
            let now = self.now;
            for db in &mut self.dbs {
                db.retain(|_, held| held.expires.is_none_or(|at| at > now));
            }
        }
    }

    /// Compares everything: the keys that are not due, their values and their expiries.
    fn compare(space: &mut Keyspace, model: &Model) {
        for db in 0..model.dbs.len() {
            space.dbs[db].check();
            let view = space.db(db);
            let alive = view.database().keys().iter().filter(|entry| !view.is_due(entry)).count();
            let expected = model.dbs[db].keys().filter(|key| model.get(db, key).is_some()).count();
            assert_eq!(alive, expected, "keys in database {db}");
            for key in model.dbs[db].keys() {
                let held = model.get(db, key);
                let keys = space.dbs[db].keys();
                let Some(entry) = keys.find(Key::new(key).hash(), key) else {
                    assert_eq!(held, None, "{}", key.escape_ascii());
                    continue;
                };
                if let Some(held) = held {
                    let text = entry.string().expect("only strings were stored").to_vec();
                    assert_eq!((text, entry.expires().map(|at| at.0)), (held.text.clone(), held.expires));
                }
            }
        }
    }

    fn random_key(rng: &mut Rng) -> Vec<u8> {
        match rng.below(20) {
            0 => Vec::new(),
            // A length that does not fit into a byte.
            1 => vec![b'k'; 250 + rng.index(10)],
            _ => format!("key:{}", rng.below(60)).into_bytes(),
        }
    }

    fn random_text(rng: &mut Rng) -> Vec<u8> {
        match rng.below(8) {
            0 => rng.next_u64().to_string().into_bytes(),
            1 => vec![b'v'; EMBED_MAX - 400 + rng.index(500)],
            2 => vec![b'v'; rng.index(10_000)],
            _ => vec![b'v'; rng.index(80)],
        }
    }

    fn value(text: &[u8]) -> Value<'_> {
        crate::stdx::num::parse_i64(text).map_or(Value::Bytes(text), Value::Int)
    }

    fn random_expiry(rng: &mut Rng, now: i64) -> i64 {
        now + rng.below(2000) as i64 - 100
    }

    #[test]
    fn agrees_with_a_map() {
        const DBS: usize = 3;
        for seed in 0..20 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let space = &mut Keyspace::new(DBS, Reclaimer::default(), Rng::new(seed));
            let model = &mut Model::new(DBS);
            let mut active = ActiveExpire::default();
            space.set_now(UnixMillis(model.now));
            for step in 0..3000 {
                act(rng, space, model, &mut active);
                if step % 10 == 0 {
                    compare(space, model);
                }
                if step % 100 == 0 {
                    model.forget_due();
                }
            }
        }
    }

    fn act(rng: &mut Rng, space: &mut Keyspace, model: &mut Model, active: &mut ActiveExpire) {
        let (a, b) = (rng.index(model.dbs.len()), rng.index(model.dbs.len()));
        let (k, k2) = (random_key(rng), random_key(rng));
        let (key, to) = (Key::new(&k), Key::new(&k2));
        let now = model.now;
        let held = model.get(a, &k).cloned();
        match rng.below(26) {
            0..6 => {
                let text = random_text(rng);
                let (ttl, expires) = match rng.below(4) {
                    0 => (Ttl::Keep, held.and_then(|held| held.expires)),
                    1 => {
                        let at = random_expiry(rng, now);
                        (Ttl::At(UnixMillis(at)), Some(at))
                    }
                    _ => (Ttl::Clear, None),
                };
                space.db(a).set_string(key, value(&text), ttl);
                model.dbs[a].insert(k, Held { text, expires });
            }
            6..10 => {
                let expires = if rng.chance(0.7) { Some(random_expiry(rng, now)) } else { None };
                let mut db = space.db(a);
                assert_eq!(db.write(key).is_some(), held.is_some());
                if let Some(held) = held {
                    assert!(db.set_expires(key, expires.map(UnixMillis)));
                    model.dbs[a].insert(k, Held { expires, ..held });
                } else {
                    assert!(!db.set_expires(key, expires.map(UnixMillis)));
                }
            }
            10..13 if k != k2 => {
                let mut db = space.db(a);
                assert_eq!(db.contains(key), held.is_some());
                if let Some(held) = held {
                    assert!(db.rename(key, to));
                    model.dbs[a].remove(&k);
                    model.dbs[a].insert(k2, held);
                }
            }
            13..15 if a != b => {
                let mut db = space.db(a);
                if db.peek(key).is_some() {
                    assert!(db.move_to(key, b));
                    model.dbs[a].remove(&k);
                    model.dbs[b].insert(k, held.expect("the key is there"));
                }
            }
            15..18 if a != b || k != k2 => {
                let mut db = space.db(a);
                if db.read(key).is_some() {
                    assert!(db.copy(key, to, b));
                    model.dbs[b].insert(k2, held.expect("the key is there"));
                }
            }
            18..20 => {
                let removed = space.db(a).remove(key, rng.chance(0.5));
                assert_eq!(removed, held.is_some());
                model.dbs[a].remove(&k);
            }
            20 => match space.db(a).random_key() {
                Some(key) => assert!(model.get(a, &key).is_some()),
                None => assert!(model.dbs[a].keys().all(|key| model.get(a, key).is_none())),
            },
            21 => {
                model.now += rng.below(200) as i64;
                space.set_now(UnixMillis(model.now));
            }
            22 => active.run(space, Cycle::Slow { tick: Duration::from_secs(100) }, 1 + rng.below(10) as u32),
            23 => {
                if let Ok(string) = space.db(a).string_mut(key) {
                    string.append(b"+");
                }
                let mut held = held.unwrap_or(Held { text: Vec::new(), expires: None });
                held.text.push(b'+');
                model.dbs[a].insert(k, held);
            }
            24 => {
                space.swap(a, b);
                model.dbs.swap(a, b);
            }
            25 if rng.one_in(20) => {
                let one = rng.chance(0.8).then_some(a);
                space.flush(one, rng.chance(0.5));
                match one {
                    Some(db) => model.dbs[db].clear(),
                    None => model.dbs.iter_mut().for_each(HashMap::clear),
                }
            }
            _ => assert_eq!(space.db(a).read(key).is_some(), held.is_some()),
        }
    }

    #[test]
    fn a_prefetch_changes_nothing() {
        let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
        let names: Vec<String> = (0..16).map(|i| i.to_string()).collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(name.as_bytes())).collect();
        space.db(0).prefetch(&keys);
        for &key in &keys[..8] {
            space.db(0).set_string(key, Value::Int(1), Ttl::Clear);
        }
        space.db(0).prefetch(&keys);
        space.db(0).prefetch(&[]);
        assert_eq!(space.len(), 8);
    }

    #[test]
    fn a_scan_shows_every_key_that_stays_while_the_table_grows_and_shrinks() {
        for seed in 0..10 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(seed));
            let stay: BTreeSet<Vec<u8>> = (0..300).map(|i| format!("stay:{i}").into_bytes()).collect();
            for key in &stay {
                space.db(0).set_string(Key::new(key), Value::Int(1), Ttl::Clear);
            }
            let (mut seen, mut cursor, mut grows) = (BTreeSet::new(), 0, true);
            loop {
                cursor = space.db(0).scan(cursor, |entry| _ = seen.insert(entry.key().to_vec()));
                if cursor == 0 {
                    break;
                }
                // From 300 to 6300 keys and back, in strides that leave a rehash unfinished.
                for _ in 0..rng.below(300) {
                    let other = rng.below(6000).to_string();
                    let key = Key::new(other.as_bytes());
                    if grows {
                        space.db(0).set_string(key, Value::Int(2), Ttl::Clear);
                    } else {
                        space.db(0).remove(key, false);
                    }
                }
                grows = if grows { space.len() < 5000 } else { space.len() < 600 };
            }
            assert!(seen.is_superset(&stay));
        }
    }

    #[test]
    fn a_key_that_is_due_expires_before_another_takes_its_place() {
        let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
        space.set_now(UnixMillis(100));
        let key = Key::new(b"k");
        for (ttl, left) in
            [(Ttl::Clear, None), (Ttl::Keep, None), (Ttl::At(UnixMillis(200)), Some(UnixMillis(200)))]
        {
            space.db(0).set_string(key, Value::Bytes(b"old"), Ttl::At(UnixMillis(50)));
            let before = space.stats.expired;
            space.db(0).set_string(key, Value::Bytes(b"new"), ttl);
            assert_eq!(space.stats.expired, before + 1);
            assert_eq!(space.db(0).expires(key), left);
            space.db(0).remove(key, false);
        }
    }

    /// A database in which `key` is found with a hash that is not its own, but only in the table of keys.
    fn with_wrong_hash(key: &[u8]) -> (Keyspace, Key<'_>) {
        let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
        space.dbs[0].reserve(0, 10_000);
        space.db(0).set_string(Key::new(key), Value::Int(1), Ttl::At(UnixMillis(1000)));
        assert!(space.dbs[0].keys.table_sizes()[0] < space.dbs[0].expires.table_sizes()[0]);
        let wrong = Key::with_hash(key, Key::new(key).hash() ^ 1);
        assert!(space.db(0).contains(wrong));
        (space, wrong)
    }

    #[test]
    #[should_panic(expected = "the table of expiries refers to every entry that expires")]
    fn an_entry_that_is_still_referred_to_is_not_removed() {
        let (mut space, wrong) = with_wrong_hash(b"k");
        space.db(0).remove(wrong, false);
    }

    #[test]
    fn a_wrong_hash_leaves_no_reference_to_an_entry_that_is_gone() {
        for change in [
            (|db, key| db.set_string(key, Value::Bytes(b"text"), Ttl::Clear)) as fn(&mut Db<'_>, Key<'_>),
            |db, key| db.set_string(key, Value::Bytes(b"text"), Ttl::At(UnixMillis(2000))),
            |db, key| _ = db.set_expires(key, None),
            |db, key| _ = db.remove(key, false),
        ] {
            let (mut space, wrong) = with_wrong_hash(b"k");
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                change(&mut space.db(0), wrong);
            }));
            assert!(changed.is_err());
            space.dbs[0].check();
            assert_eq!(space.db(0).expires(Key::new(b"k")), Some(UnixMillis(1000)), "all is as it was");
        }
    }
}
