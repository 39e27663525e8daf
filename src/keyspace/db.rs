//! A command's view of the database it selected.
//!
//! Commands access keys only through [`Db`]. Each lookup does what a lookup must do: it removes a due key, records the
//! access, and counts hits and misses.

use std::sync::Arc;

use super::access::Access;
use super::database::Database;
use super::databases::Keyspace;
use super::entry::{self, EMBED_MAX, Entry, Found, Writable};
use super::ledger::{Class, Event, Listeners};
use super::slot::Slot;
use super::suspension::Expiry;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::stdx::rng::Rng;
use crate::structures::sds::Sds;
use crate::types::string::{StringRef, Text};
use crate::types::{Collection, Kind, Value};

/// Error: the key holds a value of another type than the command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key holds a value of another type")]
pub struct WrongType;

/// Effect of setting a value on the expiry of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// The key has no expiry afterwards.
    Clear,
    /// The key keeps its expiry, if it has one.
    Keep,
    /// The key expires at this time.
    At(UnixMillis),
}

const KEY_MISS: Event = Event::of(Class::Miss, "keymiss");
const OVERWRITTEN: Event = Event::of(Class::Overwritten, "overwritten");
const TYPE_CHANGED: Event = Event::of(Class::TypeChanged, "type_changed");

/// Records an access. An unchanged value is not written, so that the cache line stays clean.
#[inline]
fn touch_entry(entry: &Entry, access: &Access, rng: &mut Rng) {
    let old = entry.access();
    let new = access.touched(old, rng);
    if new != old {
        entry.note_access(new);
    }
}

/// A command's view of one database.
pub struct Db<'a> {
    space: &'a mut Keyspace,
    index: usize,
    /// Whether reading a key counts as an access (not with `CLIENT NO-TOUCH`).
    touch: bool,
}

impl<'s> Db<'s> {
    #[inline]
    pub(super) fn new(space: &'s mut Keyspace, index: usize) -> Db<'s> {
        Db { space, index, touch: true }
    }

    /// The same view, for a client whose reads are not recorded as accesses if `no_touch`.
    #[inline]
    pub fn without_touch(mut self, no_touch: bool) -> Self {
        self.touch = !no_touch;
        self
    }

    /// The number of the database.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of databases.
    pub fn databases(&self) -> usize {
        self.space.dbs.len()
    }

    /// The whole keyspace.
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

    /// Reports that a command made `n` changes to `key`; does nothing if `n` is 0.
    #[inline]
    pub fn changed(&mut self, key: Key<'_>, event: Event, n: usize) {
        self.space.ledger.changed(self.index, key, event, n);
    }

    /// Reports that a command made `n` changes to data stored beside the value of `key`, such as the groups of a
    /// stream. This affects neither transactions that watch the key nor clients that cache what they read.
    #[inline]
    pub fn changed_beside(&mut self, key: Key<'_>, event: Event, n: usize) {
        self.space.ledger.changed_beside(self.index, key, event, n);
    }

    /// Reports an event of `key` that concerns transactions watching it, without counting a change: `key` took part in
    /// the change counted last, such as the second key of a rename, or a command counts as a change although it left
    /// `key` unchanged.
    #[inline]
    pub fn also_changed(&mut self, key: Key<'_>, event: Event) {
        self.space.ledger.also_changed(self.index, key, event);
    }

    /// Reports an event of `key` that did not change it.
    pub fn event_only(&mut self, key: Key<'_>, event: Event) {
        self.space.ledger.event_only(self.index, key.bytes, event);
    }

    /// As [`Db::changed`], for changes of parts of the value, such as fields of a hash. Only if somebody is told, `parts`
    /// is asked which.
    #[inline]
    pub fn changed_parts<'p, I: Iterator<Item = &'p [u8]>>(
        &mut self,
        key: Key<'_>,
        event: Event,
        n: usize,
        parts: impl FnOnce() -> I,
    ) {
        self.space.ledger.changed_parts(self.index, key, event, n, parts);
    }

    /// As [`Db::event_only`], for an event that is about these parts of the value.
    pub fn event_of_parts<'p>(&mut self, key: Key<'_>, event: Event, parts: impl Iterator<Item = &'p [u8]>) {
        self.space.ledger.event_of_parts(self.index, key.bytes, event, parts);
    }

    /// Whether somebody is told which parts of a value change.
    #[inline]
    pub fn names_parts(&self) -> bool {
        self.space.ledger.listeners.has(Listeners::PARTS)
    }

    /// Reports that the value of `key`, of type `old`, was replaced by the one that is there.
    #[cold]
    pub fn report_replaced(&mut self, key: Key<'_>, old: Kind) {
        self.event_only(key, OVERWRITTEN);
        if self.database().find(key).is_some_and(|entry| entry.kind() != old) {
            self.event_only(key, TYPE_CHANGED);
        }
    }

    // ---- looking up -----------------------------------------------------------------------

    /// Prefetches the memory for lookups of `keys`, first the buckets, then the entries, so that the accesses
    /// overlap, and notes in the keys what the lookups need. Sixteen keys are a good number: more would evict each
    /// other's cache lines before use.
    #[inline]
    pub fn prefetch(&self, keys: &mut [Key<'_>]) {
        let db = self.database();
        if db.keys().is_by_slot() {
            for key in &mut *keys {
                *key = db.noting_slot(*key);
            }
        }
        for key in &*keys {
            db.prefetch_bucket(key.hash());
        }
        for key in &*keys {
            db.prefetch_entry(key.hash());
        }
    }

    /// Removes the key if it has expired; whether it must be treated as absent.
    #[inline(always)]
    fn expire_if_due(&mut self, key: Key<'_>) -> bool {
        self.database().has_due(key, self.space.now) && self.space.due_key_accessed(self.index, key, false)
    }

    /// As [`Db::expire_if_due`], before a change of the key.
    #[inline(always)]
    fn expire_to_write(&mut self, key: Key<'_>) -> bool {
        self.database().has_due(key, self.space.now) && self.space.due_key_accessed(self.index, key, true)
    }

    #[inline]
    fn touching(&mut self, key: Key<'_>, touch: bool) -> Option<Writable<'_>> {
        let Keyspace { dbs, access, rng, .. } = &mut *self.space;
        let entry = dbs[self.index].touching(key)?;
        if touch {
            touch_entry(&entry, access, rng);
        }
        Some(entry)
    }

    #[cold]
    fn missed(&mut self, key: Key<'_>) {
        self.space.stats.misses += 1;
        self.event_only(key, KEY_MISS);
    }

    #[inline]
    fn read_with(&mut self, key: Key<'_>, touch: bool) -> Option<Found<'_>> {
        if self.expire_if_due(key) {
            self.missed(key);
            return None;
        }
        let Keyspace { dbs, access, rng, stats, ledger, .. } = &mut *self.space;
        match dbs[self.index].read(key) {
            Some(found) => {
                stats.hits += 1;
                if touch {
                    touch_entry(&found, access, rng);
                }
                Some(found)
            }
            None => {
                stats.misses += 1;
                ledger.event_only(self.index, key.bytes, KEY_MISS);
                None
            }
        }
    }

    /// The entry of `key`, for reading: counts a hit or a miss and records the access.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        self.read_with(key, self.touch)
    }

    /// As [`Db::read`], but does not record the access in the entry.
    pub fn peek(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        self.read_with(key, false)
    }

    /// As [`Db::peek`], without counting a hit or a miss.
    pub fn inspect(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        if self.expire_if_due(key) {
            return None;
        }
        self.database_mut().read(key)
    }

    /// The entry of `key`, for a command that decides by it whether to change the key: records the access, but counts
    /// neither a hit nor a miss.
    #[inline]
    pub fn find(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        if self.expire_if_due(key) {
            return None;
        }
        let Keyspace { dbs, access, rng, .. } = &mut *self.space;
        let found = dbs[self.index].read(key)?;
        if self.touch {
            touch_entry(&found, access, rng);
        }
        Some(found)
    }

    /// As [`Db::inspect`], but finds a key that is due as long as it has not been removed.
    pub fn inspect_even_if_due(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        self.database_mut().read(key)
    }

    /// The entry of `key`, to be changed in place.
    #[inline]
    pub fn write(&mut self, key: Key<'_>) -> Option<Writable<'_>> {
        if self.expire_to_write(key) {
            return None;
        }
        self.touching(key, self.touch)
    }

    /// Whether the key exists. The only effect is the removal of an expired key.
    pub fn contains(&mut self, key: Key<'_>) -> bool {
        !self.expire_if_due(key) && self.database().find(key).is_some()
    }

    /// Whether the key exists and has not expired; does not remove it.
    pub fn exists_now(&self, key: Key<'_>) -> bool {
        let entry = self.database().find(key);
        entry.is_some_and(|entry| !self.is_due(&entry))
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    #[inline]
    pub fn read_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(found) => found.into_string().map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key`, found as by [`Db::find`].
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    pub fn find_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.find(key) {
            None => Ok(None),
            Some(found) => found.into_string().map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key`, for a command that will change it.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    pub fn write_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.write(key) {
            None => Ok(None),
            Some(entry) => entry.into_string().map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key`, for reading, in a form that outlives the lookup: a long string is shared, a short one
    /// copied.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    pub fn read_text(&mut self, key: Key<'_>) -> Result<Option<Text>, WrongType> {
        let Some(found) = self.read(key) else { return Ok(None) };
        match found.shared_string() {
            Some(shared) => Ok(Some(Text::Shared(shared))),
            None => found.string().map(|text| Some(Text::Copied(text.to_vec()))).ok_or(WrongType),
        }
    }

    /// The collection at `key`, for reading.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    #[inline]
    pub fn read_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&T>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(found) => found.into_collection().map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key`, found as by [`Db::find`].
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    #[inline]
    pub fn find_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&T>, WrongType> {
        match self.find(key) {
            None => Ok(None),
            Some(found) => found.into_collection().map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key`, without the effects of a lookup: for commands that work on several keys at once and
    /// have called [`read_as`](Self::read_as) for each of them. A key that has expired is not there, even if it may
    /// not be removed yet.
    #[inline]
    pub fn look_as<T: Collection>(&self, key: Key<'_>) -> Option<&T> {
        let entry = self.database().find(key)?;
        if self.is_due(&entry) { None } else { entry::collection_of(&entry) }
    }

    /// The collection at `key`, for changes. Call [`Db::settle`] if it may have become empty.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    #[inline]
    pub fn write_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&mut T>, WrongType> {
        match self.write(key) {
            None => Ok(None),
            Some(entry) => entry.into_collection().map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key`, for changes; created by `make` if the key is missing.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    #[inline]
    pub fn write_or_insert<T: Collection>(
        &mut self,
        key: Key<'_>,
        make: impl FnOnce() -> T,
    ) -> Result<&mut T, WrongType> {
        let mut touch = self.touch;
        if self.expire_to_write(key) || self.database().find(key).is_none() {
            let mut entry = Entry::with_collection(key.bytes, None, make());
            entry.set_access(self.space.access.fresh());
            self.database_mut().put(key, entry);
            self.born(key);
            // Creation is not an access: the frequency keeps its initial value.
            touch = false;
        }
        let entry = self.touching(key, touch).expect("the key was there or has just been added");
        entry.into_collection().ok_or(WrongType)
    }

    /// Removes the key when its collection has become empty and does not stay that way ([`Describe::is_empty`](crate::types::Describe::is_empty));
    /// whether it was removed. The command reports its own event first.
    pub fn settle<T: Collection>(&mut self, key: Key<'_>) -> bool {
        let entry = self.database().find(key);
        if !entry.is_some_and(|entry| entry.collection::<T>().is_some_and(T::is_empty)) {
            return false;
        }
        self.database_mut().take(key);
        self.also_changed(key, Event::generic("del"));
        true
    }

    // ---- storing --------------------------------------------------------------------------

    fn born(&mut self, key: Key<'_>) {
        let event = Event::of(Class::New, "new");
        self.space.ledger.event_only(self.index, key.bytes, event);
    }

    /// Stores a string under `key`, replacing any value. The caller reports the change; that there was another value is
    /// reported here.
    pub fn set_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl) {
        if self.place_string(key, value, ttl, true) && self.space.ledger.listeners.has(Listeners::NOTIFY) {
            self.report_replaced(key, Kind::String);
        }
    }

    /// As [`Db::set_string`], and reports the change with its event.
    #[inline]
    pub fn set_string_reporting(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl, event: Event) {
        let replaced = self.place_string(key, value, ttl, true);
        self.space.ledger.changed_over(self.index, key, event, replaced.then_some(OVERWRITTEN));
    }

    /// As [`Db::set_string`], for a string that was computed from the one that is there: it does not count as another
    /// value.
    #[inline]
    pub fn update_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl) {
        self.place_string(key, value, ttl, false);
    }

    /// Stores a string; whether a string was overwritten in place, which is not reported. That another value was
    /// replaced is reported if the new one `is_other`.
    ///
    /// A string overwritten by one of the same size class is changed in place: one copy, no allocation.
    #[inline]
    fn place_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl, is_other: bool) -> bool {
        let Keyspace { dbs, access, rng, now, .. } = &mut *self.space;
        let Some(mut entry) = dbs[self.index].touching(key) else {
            self.add_string(key, value, ttl);
            return false;
        };
        let expires = entry.expires();
        let due = expires.is_some_and(|at| at <= *now);
        let expiry_fits = match ttl {
            Ttl::Clear => expires.is_none(),
            Ttl::Keep => !due,
            Ttl::At(_) => expires.is_some() && !due,
        };
        let overwritten = expiry_fits
            && match &value {
                Value::Bytes(bytes) => entry.overwrite(bytes),
                Value::Int(n) => entry.overwrite_int(*n),
                _ => false,
            };
        if !overwritten {
            drop(entry);
            self.replace_string(key, value, ttl, is_other);
            return false;
        }
        if let Ttl::At(at) = ttl {
            entry.write_expire(at);
        }
        let new = access.touched(entry.access(), rng);
        entry.note_access(new);
        true
    }

    /// Stores a string under a key that is known to be absent.
    fn add_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl) {
        let expires = match ttl {
            Ttl::At(at) => Some(at),
            Ttl::Clear | Ttl::Keep => None,
        };
        let mut entry = Entry::new(key.bytes, expires, value);
        entry.set_access(self.space.access.fresh());
        self.database_mut().add(key, entry);
        self.born(key);
    }

    /// Stores a string in place of the value under `key`.
    fn replace_string(&mut self, key: Key<'_>, value: Value<'_>, ttl: Ttl, is_other: bool) {
        // A key whose time has come is not overwritten: it goes, and another one comes.
        self.expire_to_write(key);
        let expires = match ttl {
            Ttl::Clear => None,
            Ttl::At(at) => Some(at),
            Ttl::Keep => self.database().find(key).and_then(|old| old.expires()),
        };
        let mut entry = Entry::new(key.bytes, expires, value);
        entry.set_access(self.access_of_new_value(key));
        self.put_over(key, entry, is_other);
    }

    /// Access data of a value about to be stored: the frequency of the key is kept, and the access recorded.
    fn access_of_new_value(&mut self, key: Key<'_>) -> u32 {
        let Keyspace { dbs, access, rng, .. } = &mut *self.space;
        let old = if access.counts() { dbs[self.index].find(key) } else { None };
        old.map_or_else(|| access.fresh(), |old| access.touched(old.access(), rng))
    }

    /// As [`Db::set_string`], for bytes changed in place, whose encoding is reported as `raw`.
    pub fn set_raw_string(&mut self, key: Key<'_>, bytes: Sds, ttl: Ttl) {
        if bytes.len() > EMBED_MAX {
            return self.set_string(key, Value::Shared(Arc::new(bytes)), ttl);
        }
        self.set_string(key, Value::Bytes(&bytes), ttl);
        if let Some(mut entry) = self.database_mut().touching(key) {
            entry.mark_changed();
        }
    }

    /// Stores a collection under `key`, replacing any value. The caller reports the change.
    pub fn set_collection<T: Collection>(&mut self, key: Key<'_>, value: T, expires: Option<UnixMillis>) {
        // A key whose time has come is not overwritten: it goes, and another one comes.
        self.expire_to_write(key);
        let mut entry = Entry::with_collection(key.bytes, expires, value);
        entry.set_access(self.access_of_new_value(key));
        self.put(key, entry);
    }

    /// Stores an entry under its key, replacing any value.
    pub fn put(&mut self, key: Key<'_>, entry: Entry) {
        self.put_over(key, entry, true);
    }

    /// As [`Db::put`]; reports that there was a value if the new one `is_other`.
    fn put_over(&mut self, key: Key<'_>, entry: Entry, is_other: bool) {
        debug_assert_eq!(entry.key(), key.bytes);
        match self.database_mut().put(key, entry) {
            Some(old) => {
                let kind = old.kind();
                self.space.reclaimer.entry(old, self.space.lazy.server_del);
                if is_other && self.space.ledger.listeners.has(Listeners::NOTIFY) {
                    self.report_replaced(key, kind);
                }
            }
            None => self.born(key),
        }
    }

    /// The string at `key` in a form that can be changed and grow; created empty if the key is missing. Its
    /// encoding is reported as `raw` from then on.
    ///
    /// # Errors
    /// [`WrongType`] if the value has another type.
    pub fn string_mut(&mut self, key: Key<'_>) -> Result<&mut Sds, WrongType> {
        self.expire_to_write(key);
        let found = self.find(key).map(|found| (found.kind(), found.is_changeable()));
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
        let entry = self.database_mut().touching(key).expect("the key is there by now");
        entry.into_sds().ok_or(WrongType)
    }

    // ---- removing, expiring, moving -------------------------------------------------------

    /// Removes the key and frees its value, in the background if `lazily` is set and the value is large; whether
    /// the key existed. The caller reports the change.
    pub fn remove(&mut self, key: Key<'_>, lazily: bool) -> bool {
        match self.take(key) {
            Some(old) => {
                self.space.reclaimer.entry(old, lazily);
                true
            }
            None => false,
        }
    }

    /// As [`Db::remove`], for an empty result that leaves nothing under its key: the old value counts as removed by
    /// the command, even if it has expired.
    pub fn remove_for_empty_result(&mut self, key: Key<'_>, lazily: bool) -> bool {
        match self.database_mut().take(key) {
            Some(old) => {
                self.space.reclaimer.entry(old, lazily);
                true
            }
            None => false,
        }
    }

    /// Removes the key's entry and returns it. The caller reports the change.
    pub fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        // Where a key that is due stays until it is written, its removal is such a change.
        if self.space.expiry() != Expiry::Overwrite && self.expire_if_due(key) {
            return None;
        }
        self.database_mut().take(key)
    }

    /// The expiry of the key.
    pub fn expires(&mut self, key: Key<'_>) -> Option<UnixMillis> {
        self.database().find(key).and_then(|entry| entry.expires())
    }

    /// Sets or removes the expiry of the key; whether the key exists.
    pub fn set_expires(&mut self, key: Key<'_>, at: Option<UnixMillis>) -> bool {
        let Some(mut entry) = self.database_mut().touching(key) else { return false };
        match (entry.expires(), at) {
            (None, None) => true,
            (Some(_), Some(at)) => {
                entry.write_expire(at);
                true
            }
            _ => {
                drop(entry);
                self.database_mut().rebuild(key, |entry| entry.with_expires(at))
            }
        }
    }

    /// Exempts a key from eviction, or ends that; whether this changed anything, or `None` if the key does not exist. The
    /// caller reports the change.
    pub fn protect(&mut self, key: Key<'_>, on: bool) -> Option<bool> {
        if self.expire_to_write(key) {
            return None;
        }
        self.database_mut().protect(key, on)
    }

    /// Whether expired keys are removed here. If not, another server decides, and an expiry in the past is stored
    /// like any other.
    #[inline]
    pub fn removes_due_keys(&self) -> bool {
        self.space.expiry() == Expiry::Remove
    }

    /// Stores `entry` under its key as a new key; the type of the value that was there.
    fn put_as_new(&mut self, key: Key<'_>, entry: Entry) -> Option<Kind> {
        debug_assert_eq!(entry.key(), key.bytes);
        let old = self.database_mut().put(key, entry);
        let kind = old.as_ref().map(Entry::kind);
        if let Some(old) = old {
            self.space.reclaimer.entry(old, self.space.lazy.server_del);
        }
        self.born(key);
        kind
    }

    /// Moves the value of `from`, with its expiry and access data, to the key `to`, replacing any value, whose type is
    /// returned. The caller has looked up `from` and reports the change. O(1): of a value outside the entry, only the
    /// pointer moves.
    pub fn rename(&mut self, from: Key<'_>, to: Key<'_>) -> Option<Kind> {
        let entry = self.database_mut().take(from)?;
        let expires = entry.expires();
        // The name means another key from now on, which is exempt from eviction if it was before.
        self.database_mut().protect(to, false);
        self.put_as_new(to, entry.renamed(to.bytes, expires))
    }

    /// Moves the key with its entry to database `db`, replacing any value. The caller has looked up the key and reports
    /// the change. O(1): nothing is copied.
    pub fn move_to(&mut self, key: Key<'_>, db: usize) {
        if let Some(entry) = self.database_mut().take(key) {
            self.other(db).put_as_new(key, entry);
        }
    }

    /// Stores a deep copy of the value of `from`, with its expiry, under the key `to` of database `db`, replacing any
    /// value, whose type is returned. The caller has looked up `from` and reports the change. O(n) in the elements of a
    /// collection; a long string is shared.
    pub fn copy(&mut self, from: Key<'_>, to: Key<'_>, db: usize) -> Option<Kind> {
        let entry = self.database().find(from)?;
        let mut copy = entry.duplicate(to.bytes, entry.expires());
        copy.set_access(self.space.access.fresh());
        self.other(db).put_as_new(to, copy)
    }

    /// A random key that has not expired. O(1) expected.
    ///
    /// If nearly all keys have expired and may not be removed, an expired one is returned after 100 attempts.
    pub fn random_key(&mut self) -> Option<Vec<u8>> {
        for attempt in 0.. {
            let Keyspace { dbs, rng, .. } = &mut *self.space;
            let db = &dbs[self.index];
            let key = db.keys().random(&mut || rng.next_u64())?.key().to_vec();
            let all_volatile = db.volatile() == db.len();
            if !self.expire_if_due(Key::new(&key)) || (all_volatile && attempt >= 100) {
                return Some(key);
            }
        }
        None
    }

    /// One step of a scan: calls `f` with entries and returns the next cursor, 0 at the end. With `one_slot`, the scan
    /// ends behind the slot that the cursor is in: see [`Keys::scan_slot`](super::keys::Keys::scan_slot).
    pub fn scan(&self, cursor: u64, one_slot: bool, f: impl FnMut(&Entry)) -> u64 {
        let keys = self.database().keys();
        match one_slot {
            false => keys.scan(cursor, f),
            true if keys.hides(Slot::from_low_bits(cursor)) => 0,
            true => keys.scan_slot(cursor, f),
        }
    }

    /// Whether an entry has expired.
    pub fn is_due(&self, entry: &Entry) -> bool {
        entry.expires().is_some_and(|at| at <= self.space.now) && self.space.expiry() != Expiry::Ignore
    }

    /// Removes the key if it has expired.
    pub fn expire_due(&mut self, key: Key<'_>) -> bool {
        self.expire_if_due(key)
    }
}

#[cfg(test)]
mod tests;
