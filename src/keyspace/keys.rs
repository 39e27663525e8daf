//! The keys of one database, in one table or in one table per slot, and the only access to their entries.
//!
//! Readers get shared references. An entry can be changed, replaced, added and removed only through the tables that
//! [`Keys::touching`] returns, and no code outside this file can get around that.

use std::mem;
use std::time::Duration;

use super::by_slot::{BySlot, Table};
use super::entry::{Entry, EntryRef, Found};
use super::slot::Slot as ClusterSlot;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::Key;
use crate::structures::dict::{Borrowed, Dict, Element as _, Place, Slot, Stats};

/// The entries of one database by key.
pub struct Keys(Tables);

/// The tables of all slots, of which there are none before the first key.
#[derive(Clone, Copy)]
pub struct SlotTables<'a>(&'a [Table]);

impl SlotTables<'_> {
    /// Prefetches the entry of a key whose bucket is in the cache. The slot must be noted in the hash.
    #[inline(always)]
    pub fn prefetch_entry(self, hash: u64) {
        if let Some(table) = noted_slot(hash).and_then(|slot| self.0.get(slot.index())) {
            table.prefetch_element(hash);
        }
    }
}

enum Tables {
    One(Dict<Entry>),
    BySlot(Box<BySlot>),
}

/// The slot of a key. It is read from the hash if it is noted there.
#[inline(always)]
fn slot_of(key: Key<'_>) -> ClusterSlot {
    match key.note() {
        Some(slot) => ClusterSlot::from_low_bits(u64::from(slot)),
        None => ClusterSlot::of(key.bytes),
    }
}

/// The slot noted in a hash.
#[inline]
fn noted_slot(hash: u64) -> Option<ClusterSlot> {
    Key::with_hash(&[], hash).note().map(|slot| ClusterSlot::from_low_bits(u64::from(slot)))
}

impl Tables {
    /// The table that would contain the entry of `key`.
    #[inline]
    fn table(&self, key: Key<'_>) -> Option<&Dict<Entry>> {
        match self {
            Tables::One(table) => Some(table),
            Tables::BySlot(tables) => tables.table(slot_of(key)),
        }
    }

    #[inline]
    fn table_mut(&mut self, key: Key<'_>) -> Option<&mut Dict<Entry>> {
        match self {
            Tables::One(table) => Some(table),
            Tables::BySlot(tables) => tables.table_mut(slot_of(key)),
        }
    }
}

impl Keys {
    /// No keys, stored in one table or in one table per slot.
    pub(super) fn new(by_slot: bool) -> Keys {
        Keys(if by_slot { Tables::BySlot(Box::new(BySlot::new())) } else { Tables::One(Dict::default()) })
    }

    /// Access for changes: called before an entry is changed, with the hash of its key, or with `None` before all
    /// entries are changed. Returns the tables in which the change is made.
    ///
    /// All code that must see an entry before it changes belongs here, such as a snapshot that is written while
    /// commands run, or values that are on disk. Neither exists, so this call does nothing and costs nothing.
    ///
    /// These are not changes and do not call it: recording an access ([`Entry::note_access`]), moving buckets of a
    /// rehash, moving memory to denser places, reserving space, and swapping whole databases.
    #[inline(always)]
    fn touching(&mut self, _hash: Option<u64>) -> &mut Tables {
        &mut self.0
    }

    /// The entry of `key`, for changing, replacing or removing it. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn slot(&mut self, key: Key<'_>) -> Option<Slot<'_, Entry>> {
        self.touching(Some(key.hash())).table_mut(key)?.find_mut(key.hash(), key.bytes)
    }

    /// As [`Keys::slot`], for the entry at an address, which is only compared: see [`Dict::find_address_mut`]. `hash`
    /// is the hash of a key from [`Keys::key`].
    #[inline]
    pub(super) fn slot_at(&mut self, hash: u64, entry: EntryRef) -> Option<Slot<'_, Entry>> {
        let table = match self.touching(Some(hash)) {
            Tables::One(table) => table,
            Tables::BySlot(tables) => tables.table_mut(noted_slot(hash)?)?,
        };
        table.find_address_mut(hash, entry.into_raw())
    }

    /// The place for `key`, occupied or vacant. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn place(&mut self, key: Key<'_>) -> Place<'_, Entry> {
        let table = match self.touching(Some(key.hash())) {
            Tables::One(table) => table,
            Tables::BySlot(tables) => tables.table_to_fill(slot_of(key)),
        };
        table.entry(key.hash(), key.bytes)
    }

    /// Adds and counts an entry whose key the caller knows to be absent. O(1), without a search; one step of a running
    /// rehash.
    #[inline]
    pub(super) fn insert_absent(&mut self, key: Key<'_>, entry: Entry) {
        match self.touching(Some(key.hash())) {
            Tables::One(table) => table.insert_unique(key.hash(), entry),
            Tables::BySlot(tables) => {
                tables.table_to_fill(slot_of(key)).insert_unique(key.hash(), entry);
                tables.added(slot_of(key));
            }
        }
    }

    /// Counts an entry that was inserted at a [`Keys::place`].
    #[inline]
    pub(super) fn added(&mut self, key: Key<'_>) {
        if let Tables::BySlot(tables) = &mut self.0 {
            tables.added(slot_of(key));
        }
    }

    /// Counts an entry that was removed from its [`Keys::slot`].
    #[inline]
    pub(super) fn removed(&mut self, key: Key<'_>) {
        if let Tables::BySlot(tables) = &mut self.0 {
            tables.removed(slot_of(key));
        }
    }

    /// Removes and returns all entries. O(1).
    pub(super) fn take_all(&mut self) -> Keys {
        let empty = Keys::new(self.is_by_slot());
        Keys(mem::replace(self.touching(None), empty.0))
    }

    /// The entry of `key`, for reading. O(1); one step of a running rehash.
    #[inline(always)]
    pub(super) fn read(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        Found::new(self.0.table_mut(key)?, key)
    }

    /// Moves memory at `cursor` to denser places and returns the next cursor, 0 at the end: see [`Dict::relocate`].
    pub(super) fn relocate(
        &mut self,
        by: &mut Relocator,
        cursor: u64,
        f: impl FnMut(Entry, &mut Relocator) -> Entry,
    ) -> u64 {
        match &mut self.0 {
            Tables::One(table) => table.relocate(by, cursor, 1, f),
            Tables::BySlot(tables) => tables.relocate(by, cursor, f),
        }
    }

    /// The entry of `key`, for moving its memory in parts.
    pub(super) fn relocating(&mut self, key: Key<'_>) -> Option<Slot<'_, Entry>> {
        self.0.table_mut(key)?.find_mut(key.hash(), key.bytes)
    }

    /// Reserves space for `additional` keys in a single table. With a table per slot, the slots of the keys are
    /// unknown.
    pub(super) fn reserve(&mut self, additional: usize) {
        if let Tables::One(table) = &mut self.0 {
            table.reserve(additional);
        }
    }

    /// Shrinks tables that are nearly empty, and continues running rehashes for about `budget`; whether more remains to
    /// be done.
    pub(super) fn rehash_for(&mut self, budget: Duration) -> bool {
        match &mut self.0 {
            Tables::One(table) => {
                table.shrink_if_sparse();
                table.is_rehashing() && table.rehash_for(budget)
            }
            Tables::BySlot(tables) => tables.rehash_for(budget),
        }
    }
}

impl Keys {
    /// Whether there is a table for each slot.
    #[inline]
    pub fn is_by_slot(&self) -> bool {
        matches!(self.0, Tables::BySlot(_))
    }

    /// Number of keys. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Tables::One(table) => table.len(),
            Tables::BySlot(tables) => tables.len(),
        }
    }

    /// Whether there are no keys.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `bytes` as a key, with its slot noted if there is a table for each slot.
    #[inline]
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        self.noting_slot(Key::new(bytes))
    }

    /// The same key, with its slot noted if there is a table for each slot.
    #[inline]
    pub(super) fn noting_slot<'a>(&self, key: Key<'a>) -> Key<'a> {
        if self.is_by_slot() { key.with_note(slot_of(key).number()) } else { key }
    }

    /// The entry of the key `bytes`, whose hash is `hash`. O(1); moves nothing.
    #[inline]
    pub fn find(&self, hash: u64, bytes: &[u8]) -> Option<Borrowed<'_, Entry>> {
        self.0.table(Key::with_hash(bytes, hash))?.find(hash, bytes)
    }

    /// Prefetches the bucket of a key. With a table per slot, the slot must be noted in the hash.
    #[inline(always)]
    pub(super) fn prefetch_bucket(&self, hash: u64) {
        match &self.0 {
            Tables::One(table) => table.prefetch_bucket(hash),
            Tables::BySlot(tables) => tables.prefetch_bucket(noted_slot(hash), hash),
        }
    }

    /// The tables of all slots; none if there is but one table.
    #[inline]
    pub fn slot_tables(&self) -> SlotTables<'_> {
        SlotTables(match &self.0 {
            Tables::One(_) => &[],
            Tables::BySlot(tables) => tables.all(),
        })
    }

    /// Prefetches the entry of a key whose bucket is in the cache.
    #[inline(always)]
    pub(super) fn prefetch_element(&self, hash: u64) {
        match &self.0 {
            Tables::One(table) => table.prefetch_element(hash),
            Tables::BySlot(tables) => tables.prefetch_element(noted_slot(hash), hash),
        }
    }

    /// The tables: one, or one per slot.
    fn tables(&self) -> impl Iterator<Item = &Dict<Entry>> {
        let (one, many) = match &self.0 {
            Tables::One(table) => (Some(table), None),
            Tables::BySlot(tables) => (None, Some(tables.tables())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// All entries, slot by slot where there is a table for each.
    pub fn iter(&self) -> impl Iterator<Item = Borrowed<'_, Entry>> {
        self.tables().flat_map(Dict::iter)
    }

    /// As [`Keys::iter`], without the entries of slots that are being imported.
    pub fn iter_shown(&self) -> impl Iterator<Item = Borrowed<'_, Entry>> {
        let (one, many) = match &self.0 {
            Tables::One(table) => (Some(table), None),
            Tables::BySlot(tables) => (None, Some(tables.shown_tables())),
        };
        one.into_iter().chain(many.into_iter().flatten()).flat_map(Dict::iter)
    }

    /// Number of keys without those of slots that are being imported. O(1), or O(slots) while there are such.
    pub fn shown_len(&self) -> usize {
        match &self.0 {
            Tables::One(table) => table.len(),
            Tables::BySlot(tables) => tables.shown_len(),
        }
    }

    /// Whether a slot is being imported.
    pub fn hides(&self, slot: ClusterSlot) -> bool {
        match &self.0 {
            Tables::One(_) => false,
            Tables::BySlot(tables) => tables.is_hidden(slot.index()),
        }
    }

    /// Whether a key is in a slot that is being imported. The slot must be noted in its hash where there is a table for
    /// each slot.
    pub(super) fn hides_hash(&self, hash: u64) -> bool {
        noted_slot(hash).is_some_and(|slot| self.hides(slot))
    }

    /// Hides the keys of these slots, and of no others: see [`Keyspace::hide_slots`](super::Keyspace::hide_slots).
    pub(super) fn hide(&mut self, slots: &[ClusterSlot]) {
        if let Tables::BySlot(tables) = &mut self.0 {
            tables.hide(slots);
        }
    }

    /// One step of a scan: calls `f` for entries and returns the next cursor, 0 at the end. See [`Dict::scan`].
    pub fn scan(&self, cursor: u64, f: impl FnMut(&Entry)) -> u64 {
        match &self.0 {
            Tables::One(table) => table.scan(cursor, f),
            Tables::BySlot(tables) => tables.scan(cursor, false, f),
        }
    }

    /// As [`Keys::scan`], for the keys of one slot. The first cursor is the number of the slot, the last one 0.
    pub fn scan_slot(&self, cursor: u64, f: impl FnMut(&Entry)) -> u64 {
        match &self.0 {
            Tables::One(_) => 0,
            Tables::BySlot(tables) => tables.scan(cursor, true, f),
        }
    }

    /// The entries of a slot; none unless there is a table for each slot.
    pub fn in_slot(&self, slot: ClusterSlot) -> impl Iterator<Item = Borrowed<'_, Entry>> {
        self.table_of(slot).into_iter().flat_map(Dict::iter)
    }

    /// Number of keys in a slot; 0 unless there is a table for each slot. O(1).
    pub fn count_in_slot(&self, slot: ClusterSlot) -> usize {
        self.table_of(slot).map_or(0, Dict::len)
    }

    fn table_of(&self, slot: ClusterSlot) -> Option<&Dict<Entry>> {
        match &self.0 {
            Tables::One(_) => None,
            Tables::BySlot(tables) => tables.table(slot),
        }
    }

    /// A random entry, each equally likely: see [`Dict::random`].
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<Borrowed<'_, Entry>> {
        match &self.0 {
            Tables::One(table) => table.random(rng),
            Tables::BySlot(tables) => tables.random(rng),
        }
    }

    /// Calls `f` for up to `n` entries that lie together at a random place: see [`Dict::sample`].
    pub fn sample(&self, n: usize, rng: &mut impl FnMut() -> u64, f: impl FnMut(&Entry)) -> usize {
        match &self.0 {
            Tables::One(table) => table.sample(n, rng, f),
            Tables::BySlot(tables) => tables.sample(n, rng, f),
        }
    }

    /// Bytes of the tables. O(1), or O(slots) where there is a table for each slot.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Tables::One(table) => table.bytes(),
            Tables::BySlot(tables) => tables.bytes(),
        }
    }

    /// Bytes of the table that a key is in, divided by the number of its keys. O(1).
    pub fn share_of(&self, key: Key<'_>) -> usize {
        self.0.table(key).map_or(0, |table| table.bytes() / table.len().max(1))
    }

    /// Number of buckets of the tables, and of those that running rehashes move to.
    pub fn table_sizes(&self) -> [usize; 2] {
        self.tables().map(Dict::table_sizes).fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
    }

    /// Statistics of all tables. O(buckets).
    pub fn stats(&self) -> Stats {
        self.tables().map(Dict::stats).fold(Stats::default(), Stats::and)
    }
}
