//! The table of keys of one database, and the one door to its entries.
//!
//! Whoever reads gets shared references. An entry can be changed, replaced, added and removed only through what
//! [`Keys::touching`] hands out, and nobody outside of this file can get around that.

use std::mem;
use std::ops::Deref;
use std::time::Duration;

use super::entry::{Entry, EntryRef, Found};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::Key;
use crate::structures::dict::{Dict, Element as _, Place, Slot};

/// The entries of one database, by their keys.
pub(super) struct Keys(Dict<Entry>);

impl Keys {
    pub(super) fn new() -> Keys {
        Keys(Dict::default())
    }

    /// The door: whoever changes an entry whose key has the given hash, or all entries where there is none, passes
    /// it first, and gets the table to make the change in.
    ///
    /// This is the place for whatever has to see an entry before it changes: a snapshot that is written while commands
    /// run saves the bucket of the hash here, and a value that lies on disk is brought in. As yet there is neither,
    /// so that the door does nothing and costs nothing.
    ///
    /// No change, and free to go on without it: to note an access ([`Entry::note_access`]), to move buckets of a rehash,
    /// to move memory to denser places, to make room, and to let whole databases change places.
    #[inline(always)]
    fn touching(&mut self, _hash: Option<u64>) -> &mut Dict<Entry> {
        &mut self.0
    }

    /// The entry of `key`, to be changed, replaced or removed. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn slot(&mut self, key: Key<'_>) -> Option<Slot<'_, Entry>> {
        self.touching(Some(key.hash())).find_mut(key.hash(), key.bytes)
    }

    /// As [`Keys::slot`], by the entry's address, which is only compared: see [`Dict::find_address_mut`].
    #[inline]
    pub(super) fn slot_at(&mut self, hash: u64, entry: EntryRef) -> Option<Slot<'_, Entry>> {
        self.touching(Some(hash)).find_address_mut(hash, entry.into_raw())
    }

    /// The place of `key`, where its entry is or is to be. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn place(&mut self, key: Key<'_>) -> Place<'_, Entry> {
        self.touching(Some(key.hash())).entry(key.hash(), key.bytes)
    }

    /// Takes all entries out, which leaves an empty table. O(1).
    pub(super) fn take_all(&mut self) -> Keys {
        Keys(mem::take(self.touching(None)))
    }

    /// The entry of `key`, to be read. O(1); one step of a running rehash.
    #[inline]
    pub(super) fn read(&mut self, key: Key<'_>) -> Option<Found<'_>> {
        Found::new(&mut self.0, key)
    }

    /// Moves memory at `cursor`: see [`Dict::relocate`].
    pub(super) fn relocate(
        &mut self,
        by: &mut Relocator,
        cursor: u64,
        f: impl FnMut(Entry, &mut Relocator) -> Entry,
    ) -> u64 {
        self.0.relocate(by, cursor, 1, f)
    }

    /// The entry of `key`, to be moved in parts.
    pub(super) fn relocating(&mut self, key: Key<'_>) -> Option<Slot<'_, Entry>> {
        self.0.find_mut(key.hash(), key.bytes)
    }

    /// Makes room for `additional` keys.
    pub(super) fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    /// Shrinks the table if it is all but empty.
    pub(super) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }

    /// Moves buckets of a running rehash for about `budget`; whether there is more to do.
    pub(super) fn rehash_for(&mut self, budget: Duration) -> bool {
        self.0.rehash_for(budget)
    }
}

impl Deref for Keys {
    type Target = Dict<Entry>;

    #[inline(always)]
    fn deref(&self) -> &Dict<Entry> {
        &self.0
    }
}
