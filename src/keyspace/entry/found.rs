//! Results of lookups: an entry for reading, or one for changing in place.
#![allow(unsafe_code)]

use std::mem::{ManuallyDrop, transmute};
use std::ops::Deref;
use std::sync::Arc;

use super::kinds::collection_kind;
use super::{Entry, Form};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::structures::dict::{Borrowed, Dict, Slot};
use crate::structures::sds::Sds;
use crate::types::Collection;
use crate::types::prefetch::{self, PrefetchTarget, Prefetcher};
use crate::types::string::StringRef;

/// An entry that was looked up for reading.
///
/// The table it lies in is borrowed exclusively for `'a`, so that nobody else has a reference to the entry.
pub struct Found<'a>(Borrowed<'a, Entry>);

impl<'a> Found<'a> {
    /// Looks `key` up. O(1); one step of a running rehash of `keys`.
    #[inline]
    pub(in crate::keyspace) fn new(keys: &'a mut Dict<Entry>, key: Key<'_>) -> Option<Found<'a>> {
        keys.step();
        keys.find(key.hash(), key.bytes).map(Found)
    }

    /// The string, for as long as the table is borrowed.
    #[inline]
    pub(in crate::keyspace) fn into_string(self) -> Option<StringRef<'a>> {
        // SAFETY: the bytes lie in the entry's block (or the string it owns), and the table that owns the entry is
        // borrowed exclusively for the result's lifetime.
        unsafe { transmute::<Option<StringRef<'_>>, Option<StringRef<'a>>>(self.0.string()) }
    }

    /// The collection, after one step of the rehash of its table if one is running.
    #[inline]
    pub(in crate::keyspace) fn into_collection<T: Collection>(self) -> Option<&'a T> {
        let mut entry = ManuallyDrop::new(Entry(self.0.0));
        // SAFETY: the collection's word lies in the entry's block, which its table owns; the table is borrowed
        // exclusively for the result's lifetime, and `self`, the only way to the entry, ends here.
        let collection =
            unsafe { transmute::<Option<&mut T>, Option<&'a mut T>>(entry.collection_mut::<T>()) }?;
        collection.step();
        Some(collection)
    }
}

impl Deref for Found<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// An entry that was looked up for a change. Its value can be changed, but the entry can be neither replaced nor moved.
///
/// The tables of a database refer to entries by their addresses, so only the database may replace an entry:
///
/// ```compile_fail,E0594
/// # use spinel::keyspace::{Db, Entry, Key};
/// # use spinel::types::Value;
/// fn swap(mut db: Db<'_>) {
///     let mut found = db.write(Key::new(b"volatile")).unwrap();
///     *found = Entry::new(b"volatile", None, Value::Int(1));
/// }
/// ```
pub struct Writable<'a>(Slot<'a, Entry>);

impl<'a> Writable<'a> {
    #[inline]
    pub(in crate::keyspace) fn new(slot: Slot<'a, Entry>) -> Writable<'a> {
        Writable(slot)
    }

    /// Overwrites an integer by another one; false when the value is not stored as an integer.
    #[inline]
    pub fn overwrite_int(&mut self, n: i64) -> bool {
        self.0.overwrite_int(n)
    }

    /// As [`Entry::overwrite`].
    #[inline]
    pub(in crate::keyspace) fn overwrite(&mut self, bytes: &[u8]) -> bool {
        self.0.overwrite(bytes)
    }

    /// As [`Entry::write_expire`].
    #[inline]
    pub(in crate::keyspace) fn write_expire(&mut self, at: UnixMillis) {
        self.0.write_expire(at);
    }

    /// As [`Entry::mark_changed`].
    pub(in crate::keyspace) fn mark_changed(&mut self) {
        self.0.mark_changed();
    }

    /// The string, for as long as the table is borrowed.
    #[inline]
    pub(in crate::keyspace) fn into_string(self) -> Option<StringRef<'a>> {
        let entry = ManuallyDrop::new(Entry(self.0.0));
        // SAFETY: the bytes lie in the entry's block (or the string it owns), and the slot borrows
        // the table that owns the entry exclusively for the result's lifetime.
        unsafe { transmute::<Option<StringRef<'_>>, Option<StringRef<'a>>>(entry.string()) }
    }

    /// The collection, for as long as the table is borrowed.
    #[inline]
    pub(in crate::keyspace) fn into_collection<T: Collection>(self) -> Option<&'a mut T> {
        let mut entry = ManuallyDrop::new(Entry(self.0.0));
        // SAFETY: the collection's word lies in the entry's block, which the slot's table owns; the
        // slot borrows that table exclusively for the result's lifetime.
        unsafe { transmute::<Option<&mut T>, Option<&'a mut T>>(entry.collection_mut::<T>()) }
    }

    /// The long string, for as long as the table is borrowed.
    pub(in crate::keyspace) fn into_sds(self) -> Option<&'a mut Sds> {
        let mut entry = ManuallyDrop::new(Entry(self.0.0));
        // SAFETY: the string belongs to the entry alone (`sds_mut` sees to it), and the slot
        // borrows the entry's table exclusively for the result's lifetime.
        unsafe { transmute::<Option<&mut Sds>, Option<&'a mut Sds>>(entry.sds_mut()) }
    }
}

impl Deref for Writable<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// The collection in an entry that its table lends, for as long as the loan lasts.
#[inline]
pub(in crate::keyspace) fn collection_of<'a, T: Collection>(entry: &Borrowed<'a, Entry>) -> Option<&'a T> {
    // SAFETY: the collection's word lies in the entry's block, which stays as it is while the table
    // is borrowed, that is for 'a.
    unsafe { transmute::<Option<&T>, Option<&'a T>>(entry.collection::<T>()) }
}

/// The search for what a command accesses in the value of an entry that its table lends.
#[inline]
pub(in crate::keyspace) fn ahead_in<'a>(
    entry: &Borrowed<'a, Entry>,
    aim: PrefetchTarget<'a>,
) -> Option<Prefetcher<'a>> {
    if let Some(kind) = collection_kind(entry.kind()) {
        return (kind.ahead)(entry, aim);
    }
    if entry.shape().form != Form::Shared {
        return None;
    }
    // SAFETY: the form says that the word is an `Arc<Sds>`.
    let text = unsafe { entry.word().cast::<Arc<Sds>>().as_ref() };
    // To share a long string, its reference count is incremented, which is in the two words before it.
    prefetch::block(Arc::as_ptr(text).cast::<usize>().wrapping_sub(2).cast())
}
