//! The hash table for keys, expiry times, large sets and hashes, and members of sorted sets.
//!
//! A [`Dict`] holds thin pointers to elements that contain their own key ([`Element`]). The table stores six bytes of
//! address and one byte of hash per element, nine elements to a cache line. A lookup reads the line of the bucket
//! and, with rare exceptions, only the one matching element. Callers pass the hash, so that it is computed once per
//! request and can be used to prefetch.
//!
//! A dict grows and shrinks by *incremental rehash*, during which there are two tables. Every mutating access moves
//! one bucket from table 0 to table 1, insertions go to table 1, and lookups try both. A lookup through `&self` never
//! moves anything.
//!
//! The hash function is keyed, but the order in which a scan returns elements reveals bits of their hashes. An
//! attacker who can add elements and scan them can therefore collect some that share a bucket, in this table and in
//! any other. The sign is a chain longer than chance makes it. The table is then *keyed*, that is, rehashed into one
//! that takes its indices from a hash of the hash and a random number, and its long chains are split at once.
//! Lengthening a chain by one element takes as many insertions as there are buckets, so keying costs less than what
//! provoked it. (A scan under way at such a time may miss elements.) Only insertions can cause it: a table does not
//! shrink as long as that would make a chain too long.
//!
//! What always holds:
//! - an element is in exactly one table, in the chain of the bucket that its hash selects there;
//! - no chain is longer than [`Table::is_overlong`] allows, until the next mutating access;
//! - table 1 has memory only during a rehash; buckets of table 0 below `moved` have been emptied then and are not
//!   read again;
//! - nothing is allocated before the first insertion.
//!
//! The parts: `table` (buckets and their packing), `rehash` (when and how the size changes), `scan` (cursors and
//! random elements), `iter` (iteration over everything), `join` (intersection of two dicts), `relocate` (moving its
//! memory). The two tables and the
//! pace of moving are those of Redis' `dict`, the bucket is that of Valkey's `hashtable`.
#![allow(unsafe_code)]

mod iter;
mod join;
mod rehash;
mod relocate;
mod scan;
mod table;

use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

pub use iter::{IntoIter, Iter};
pub use join::Join;
pub use rehash::{ResizePolicy, set_growth_ceiling, set_resize_policy};
use table::{At, Bucket, Table, chain, tag_of};

use crate::stdx::hash::{Key, UNUSED, hash};
use crate::stdx::prefetch::prefetch;

/// An owned thin pointer, not null and below 2^48, which is found by a key among the bytes it points to.
///
/// An element that owns its memory frees it in its `Drop`; a handle to memory owned elsewhere has no `Drop`. The dict
/// converts every address back into an element and drops it when the dict itself is dropped.
///
/// # Safety
/// - `into_raw` and `from_raw` are inverse to each other and neither allocates nor frees; the
///   address is not null and below 2^48.
/// - The dict calls `from_raw` to borrow an element without giving it away, so several values of `Self` may exist for
///   one address, of which all but one are never dropped. `Self` must therefore not claim to be unique: wrap a
///   `NonNull`, not a `Box`.
/// - `key` and `hash` do not panic.
/// - What `key` returns stays valid and unchanged while the element lives, also when the element
///   itself is moved. (Where the bytes lie may change through [`Slot::replace`] and [`Slot::map`].)
pub unsafe trait Element: Sized {
    /// Converts the element into its address, whose holder then owns the element.
    fn into_raw(self) -> NonNull<u8>;

    /// Converts an address back into its element.
    ///
    /// # Safety
    /// `raw` came from [`into_raw`](Self::into_raw) and its element is alive. At most one of the values made from it
    /// is dropped.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;

    /// The key of the element.
    ///
    /// # Safety
    /// `raw` came from [`into_raw`](Self::into_raw) and its element stays alive during `'a`.
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8];

    /// The hash of the element, which callers pass to find it.
    ///
    /// # Safety
    /// `raw` came from [`into_raw`](Self::into_raw) and its element is alive.
    #[inline]
    unsafe fn hash(raw: NonNull<u8>) -> u64 {
        // SAFETY: the caller's promise.
        hash(unsafe { Self::key(raw) })
    }
}

/// A hash table of [`Element`]s. 64 bytes; nothing is allocated before the first insertion.
///
/// The argument `hash` is always the hash of the element: [`stdx::hash::hash`](crate::stdx::hash::hash) of its key,
/// unless the element type defines another, whatever its [unused bits](UNUSED) are. With any other value, elements are
/// not found.
pub struct Dict<E: Element> {
    tables: [Table; 2],
    /// Buckets of table 0 that a running rehash has emptied.
    moved: usize,
    /// Number of child buckets in both tables. 32 bits are enough for 256 GB of them.
    children: u32,
    /// Key of each table, which modifies the index that it takes from a hash; 0 for none.
    keys: [u8; 2],
    /// Whether a chain may be too long.
    overlong: bool,
    /// Binary digits of the number of elements when a shrink was last turned back; 0 for none since the last change of
    /// size.
    turned_back: u8,
    elements: PhantomData<E>,
}

// SAFETY: a dict owns its tables and its elements; nothing is shared with another thread.
unsafe impl<E: Element + Send> Send for Dict<E> {}
// SAFETY: through `&Dict` the tables are only read and elements are only borrowed as `&E`.
unsafe impl<E: Element + Sync> Sync for Dict<E> {}

/// Prefetch of a lookup in steps. Each step starts loading the next memory that the lookup needs and returns, so that
/// other lookups can be prefetched meanwhile. There is no result: the actual lookup then finds its memory in the
/// cache.
pub struct PrefetchSteps<'a, E: Element> {
    dict: &'a Dict<E>,
    hash: u64,
    asked: Asked,
}

/// The last memory that a [`PrefetchSteps`] has prefetched.
#[derive(Clone, Copy)]
enum Asked {
    Dict,
    Bucket,
    Element,
}

impl<E: Element> PrefetchSteps<'_, E> {
    /// Prefetches the next memory access of the lookup. Returns whether there was one.
    #[inline]
    pub fn step(&mut self) -> bool {
        self.asked = match self.asked {
            Asked::Dict if self.dict.is_empty() => return false,
            Asked::Dict => {
                self.dict.prefetch_bucket(self.hash);
                Asked::Bucket
            }
            Asked::Bucket => {
                self.dict.prefetch_element(self.hash);
                Asked::Element
            }
            Asked::Element => return false,
        };
        true
    }
}

/// The index that a table with key `key` takes from a hash.
#[inline(always)]
fn index_under(key: u8, hash: u64) -> usize {
    #[cold]
    fn keyed(key: u8, hash: u64) -> usize {
        let mut bytes = [key; 9];
        bytes[..8].copy_from_slice(&(hash & !UNUSED).to_le_bytes());
        self::hash(&bytes) as usize
    }
    if key == 0 { hash as usize } else { keyed(key, hash) }
}

/// Where [`Dict::locate`] found an element.
#[derive(Clone, Copy)]
struct Found {
    at: At,
    table: u8,
}

impl<E: Element> Dict<E> {
    /// An empty dict. Allocates nothing.
    pub const fn new() -> Dict<E> {
        Dict {
            tables: [Table::unallocated(), Table::unallocated()],
            moved: 0,
            children: 0,
            keys: [0; 2],
            overlong: false,
            turned_back: 0,
            elements: PhantomData,
        }
    }

    /// An empty dict into which `n` elements can be inserted before it grows.
    ///
    /// # Panics
    /// If the table would exceed the address space.
    pub fn with_capacity(n: usize) -> Dict<E> {
        let mut dict = Dict::new();
        dict.reserve(n);
        dict
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.tables[0].used + self.tables[1].used
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a rehash is running.
    #[inline(always)]
    pub fn is_rehashing(&self) -> bool {
        self.tables[1].is_allocated()
    }

    /// The index of an element with this hash in a table, before the table's mask is applied.
    #[inline(always)]
    fn index(&self, table: usize, hash: u64) -> usize {
        index_under(self.keys[table], hash)
    }

    #[inline(always)]
    fn locate(&self, hash: u64, key: &[u8]) -> Option<Found> {
        let (index, tag) = (self.index(0, hash), tag_of(hash));
        if index & self.tables[0].mask() >= self.moved
            && let Some(at) = self.tables[0].search::<E>(index, tag, key)
        {
            return Some(Found { at, table: 0 });
        }
        if self.is_rehashing()
            && let Some(at) = self.tables[1].search::<E>(self.index(1, hash), tag, key)
        {
            return Some(Found { at, table: 1 });
        }
        None
    }

    /// As [`locate`](Self::locate), by the element's address.
    #[inline]
    fn locate_address(&self, hash: u64, raw: NonNull<u8>) -> Option<Found> {
        let tag = tag_of(hash);
        let search = |table: u8| {
            let index = self.index(usize::from(table), hash);
            let at = self.tables[usize::from(table)].search_address(index, tag, raw)?;
            Some(Found { at, table })
        };
        let is_moved = self.index(0, hash) & self.tables[0].mask() < self.moved;
        let in_first = if is_moved { None } else { search(0) };
        in_first.or_else(|| if self.is_rehashing() { search(1) } else { None })
    }

    /// Inserts an element into the table that takes insertions, growing it first if necessary.
    #[inline]
    fn place(&mut self, hash: u64, e: E) -> Found {
        self.grow_if_full();
        let table = usize::from(self.is_rehashing());
        let (index, children) = (self.index(table, hash), self.children);
        // SAFETY: `grow_if_full` has allocated table 0, and table 1 is allocated during a rehash.
        let at = unsafe { self.tables[table].push(index, tag_of(hash), e.into_raw(), &mut self.children) };
        if self.children != children {
            self.watch(table, index);
        }
        Found { at, table: table as u8 }
    }

    /// Forgets the element at `found`, whose hash is `hash`.
    ///
    /// # Safety
    /// `found` was located with this hash, nothing has changed since, and the caller has taken the
    /// element.
    #[inline]
    unsafe fn close(&mut self, hash: u64, found: Found) {
        let index = self.index(usize::from(found.table), hash);
        // SAFETY: the caller's promise; the slot lies in the chain that the hash selects.
        self.children -= unsafe { self.tables[usize::from(found.table)].close(index, found.at) };
        self.shrink_if_needed();
    }

    #[inline(always)]
    fn slot(&mut self, hash: u64, found: Found) -> Slot<'_, E> {
        // SAFETY: `found` is occupied, and the value is never dropped while the slot keeps the address.
        let element = ManuallyDrop::new(unsafe { E::from_raw(found.at.get()) });
        Slot { dict: self, hash, found, borrowed: false, element }
    }

    /// The element with this key. O(1). Moves nothing, even during a rehash.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Borrowed<'_, E>> {
        let found = self.locate(hash, key)?;
        // SAFETY: just found, and borrowed from `self`.
        Some(unsafe { Borrowed::new(found.at.get()) })
    }

    /// Calls `each` for each of `keys` in order, with the element if there is one. O(1) per key. The memory accesses
    /// of several keys overlap.
    #[inline]
    pub fn find_each<'a, 'k>(
        &'a self,
        mut keys: impl Iterator<Item = Key<'k>>,
        mut each: impl FnMut(Option<Borrowed<'a, E>>),
    ) {
        const WINDOW: usize = 16;
        let mut window = [Key::NONE; WINDOW];
        loop {
            // The window is iterated first, so that no key is taken without a place for it.
            let taken = window.iter_mut().zip(&mut keys).map(|(place, key)| *place = key).count();
            if taken == 0 {
                return;
            }
            let window = &window[..taken];
            window.iter().for_each(|key| self.prefetch_bucket(key.hash()));
            window.iter().for_each(|key| self.prefetch_element(key.hash()));
            window.iter().for_each(|key| each(self.find(key.hash(), key.bytes)));
        }
    }

    /// The element with this key, for changing or removing it. O(1). Makes one step of a running rehash.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<Slot<'_, E>> {
        self.step();
        let found = self.locate(hash, key)?;
        Some(self.slot(hash, found))
    }

    /// The element at the address `raw`, for changing or removing it. Unlike a search by key, this finds exactly that
    /// element. `raw` is only compared. O(1). Makes one step of a running rehash.
    #[inline]
    pub fn find_address_mut(&mut self, hash: u64, raw: NonNull<u8>) -> Option<Slot<'_, E>> {
        self.step();
        let found = self.locate_address(hash, raw)?;
        Some(self.slot(hash, found))
    }

    /// The place for this key, occupied or vacant, found by one search. O(1). Makes one step of a running rehash.
    #[inline]
    pub fn entry(&mut self, hash: u64, key: &[u8]) -> Place<'_, E> {
        self.step();
        match self.locate(hash, key) {
            Some(found) => Place::Occupied(self.slot(hash, found)),
            None => Place::Vacant(Vacant { dict: self, hash }),
        }
    }

    /// Removes and returns the element with this key. O(1). Makes one step of a running rehash.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<E> {
        self.find_mut(hash, key).map(Slot::remove)
    }

    /// Removes and returns the element at the address `raw`: see [`find_address_mut`](Self::find_address_mut).
    #[inline]
    pub fn remove_address(&mut self, hash: u64, raw: NonNull<u8>) -> Option<E> {
        self.find_address_mut(hash, raw).map(Slot::remove)
    }

    /// Removes and returns a random element, each equally likely: see [`random`](Self::random). `None` if the dict is
    /// empty.
    pub fn remove_random(&mut self, rng: &mut impl FnMut() -> u64) -> Option<E> {
        let raw = self.random(rng)?.as_raw();
        // SAFETY: `raw` is an element of this dict, alive until it is taken out below.
        let hash = unsafe { E::hash(raw) };
        self.remove_address(hash, raw)
    }

    /// Inserts an element whose key the caller knows to be absent. O(1), without a search. Makes one step of a
    /// running rehash.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, e: E) {
        self.step();
        self.place(hash, e);
    }

    /// Starts a prefetch in steps of the lookup of an element. The dict itself need not be in the cache.
    #[inline]
    pub fn prefetch_steps(&self, hash: u64) -> PrefetchSteps<'_, E> {
        let start = std::ptr::from_ref(self).cast::<u8>();
        prefetch(start);
        prefetch(start.wrapping_add(size_of::<Self>() - 1));
        PrefetchSteps { dict: self, hash, asked: Asked::Dict }
    }

    /// First stage of a prefetched lookup: prefetches the bucket that `hash` selects, in both tables during a rehash.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch(self.tables[0].head(self.index(0, hash)).as_ptr());
        if self.is_rehashing() {
            prefetch(self.tables[1].head(self.index(1, hash)).as_ptr());
        }
    }

    /// Second stage, once the bucket is in the cache: prefetches the elements whose tags match.
    #[inline(always)]
    pub fn prefetch_element(&self, hash: u64) {
        let (index, tag) = (self.index(0, hash), tag_of(hash));
        if index & self.tables[0].mask() >= self.moved {
            self.tables[0].bucket(index).prefetch_matches(tag);
        }
        if self.is_rehashing() {
            self.tables[1].bucket(self.index(1, hash)).prefetch_matches(tag);
        }
    }

    /// Drops all elements and frees the tables. O(n).
    pub fn clear(&mut self) {
        drop(mem::take(self));
    }

    /// Empties the dict and returns its elements. The iterator drops those that are not consumed.
    pub fn drain(&mut self) -> IntoIter<E> {
        mem::take(self).into_iter()
    }

    /// Number of buckets of each table without children; the second is 0 unless a rehash is running.
    #[inline]
    pub fn table_sizes(&self) -> [usize; 2] {
        [self.tables[0].len(), self.tables[1].len()]
    }

    /// Bytes of the tables with their child buckets, without the elements. O(1).
    #[inline]
    pub fn bytes(&self) -> usize {
        (self.tables[0].len() + self.tables[1].len() + self.children as usize) * size_of::<Bucket>()
    }

    /// Statistics of the buckets and their chains. O(buckets).
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for (t, (table, stats)) in self.tables.iter().zip(&mut stats.tables).enumerate() {
            stats.buckets = table.len();
            stats.elements = table.used;
            for index in 0..table.len() {
                let (mut buckets, mut elements) = (0, 0);
                if t == 1 || index >= self.moved {
                    // SAFETY: the chain lives as long as `self` is borrowed.
                    for bucket in unsafe { chain(table.head(index)) } {
                        buckets += 1;
                        // SAFETY: as above.
                        elements += unsafe { bucket.as_ref() }.occupied().len();
                    }
                    stats.chained += buckets - 1;
                }
                stats.longest_chain = stats.longest_chain.max(buckets);
                stats.most_elements = stats.most_elements.max(elements);
                stats.lengths[elements.min(Stats::LENGTHS - 1)] += 1;
            }
        }
        stats
    }
}

impl<E: Element> Default for Dict<E> {
    fn default() -> Self {
        Dict::new()
    }
}

impl<E: Element> Drop for Dict<E> {
    fn drop(&mut self) {
        if self.tables[0].is_allocated() {
            let dict = mem::take(self);
            // Only the iterator's drop frees a dict.
            drop(dict.into_iter());
        }
    }
}

impl<E: Element> fmt::Debug for Dict<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict").field("len", &self.len()).field("table_sizes", &self.table_sizes()).finish()
    }
}

/// Distribution of a dict's elements, by [`Dict::stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Statistics of both tables; the second is all zero unless a rehash is running.
    pub tables: [TableStats; 2],
}

/// Distribution of one table's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// Number of buckets without children.
    pub buckets: usize,
    /// Number of elements, including those in child buckets.
    pub elements: usize,
    /// Number of child buckets.
    pub chained: usize,
    /// Number of buckets in the longest chain, including its first.
    pub longest_chain: usize,
    /// Number of elements in the fullest chain.
    pub most_elements: usize,
    /// Number of chains with 0, 1, 2, … elements; the last entry counts all longer ones, too.
    pub lengths: [usize; Stats::LENGTHS],
}

impl Stats {
    /// Number of entries of [`TableStats::lengths`].
    pub const LENGTHS: usize = 50;
}

impl Stats {
    /// The statistics of two dicts together.
    pub fn and(mut self, other: Stats) -> Stats {
        for (table, other) in self.tables.iter_mut().zip(other.tables) {
            table.buckets += other.buckets;
            table.elements += other.elements;
            table.chained += other.chained;
            table.longest_chain = table.longest_chain.max(other.longest_chain);
            table.most_elements = table.most_elements.max(other.most_elements);
            table.lengths.iter_mut().zip(other.lengths).for_each(|(n, other)| *n += other);
        }
        self
    }
}

impl Default for TableStats {
    fn default() -> Self {
        TableStats {
            buckets: 0,
            elements: 0,
            chained: 0,
            longest_chain: 0,
            most_elements: 0,
            lengths: [0; Stats::LENGTHS],
        }
    }
}

/// An element borrowed from a dict.
pub struct Borrowed<'a, E: Element> {
    element: ManuallyDrop<E>,
    raw: NonNull<u8>,
    dict: PhantomData<&'a E>,
}

impl<'a, E: Element> Borrowed<'a, E> {
    /// # Safety
    /// `raw` is an element of a dict that is borrowed for `'a`.
    #[inline(always)]
    unsafe fn new(raw: NonNull<u8>) -> Self {
        // SAFETY: alive by the caller's promise; never dropped.
        Borrowed { element: ManuallyDrop::new(unsafe { E::from_raw(raw) }), raw, dict: PhantomData }
    }

    /// The element's key, which lives as long as the borrow of the dict.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        // SAFETY: the element is in a dict that is borrowed for 'a.
        unsafe { E::key(self.raw) }
    }

    /// The address of the element, for element types whose references live for `'a`.
    #[inline]
    pub fn as_raw(&self) -> NonNull<u8> {
        self.raw
    }
}

impl<E: Element> Deref for Borrowed<'_, E> {
    type Target = E;

    #[inline(always)]
    fn deref(&self) -> &E {
        &self.element
    }
}

/// The place of an element in a dict, through which it can be changed, replaced and removed.
///
/// The pointer in the dict follows changes of the element through `DerefMut`. The key must stay the same bytes;
/// otherwise the element is not found any more.
pub struct Slot<'a, E: Element> {
    dict: &'a mut Dict<E>,
    hash: u64,
    found: Found,
    /// Whether a `&mut E` was borrowed. The slot in the table is then marked empty, so that a forgotten `Slot` whose
    /// element was swapped for another leaves no second owner behind.
    borrowed: bool,
    element: ManuallyDrop<E>,
}

impl<E: Element> Slot<'_, E> {
    /// Writes the address of the element into the table.
    #[inline]
    fn write_address(&mut self) {
        // SAFETY: both this value and the table's address stand for one element, of which only the
        // table's is dropped.
        let raw = unsafe { std::ptr::read(&raw const *self.element) }.into_raw();
        // SAFETY: the bucket is alive and exclusively ours as long as `dict` is borrowed.
        unsafe { self.found.at.bucket.as_mut() }.put(self.found.at.slot, tag_of(self.hash), raw);
        self.borrowed = false;
    }

    /// Replaces the element by `new`, which has the same key, and returns it. O(1).
    #[inline]
    pub fn replace(&mut self, new: E) -> E {
        let old = mem::replace(&mut *self.element, new);
        self.write_address();
        old
    }

    /// Passes the element through `f`, which may move it in memory but must keep its key. O(1) besides `f`.
    ///
    /// If `f` panics the process is aborted, because the place cannot be left without an element.
    #[inline]
    pub fn map(&mut self, f: impl FnOnce(E) -> E) {
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        let guard = Abort;
        // SAFETY: another element is put in before anybody can look.
        let old = unsafe { ManuallyDrop::take(&mut self.element) };
        self.element = ManuallyDrop::new(f(old));
        mem::forget(guard);
        self.write_address();
    }

    /// Removes and returns the element. O(1).
    #[inline]
    pub fn remove(self) -> E {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again but for closing the slot the element was found in.
        unsafe {
            let element = ManuallyDrop::take(&mut this.element);
            let (hash, found) = (this.hash, this.found);
            this.dict.close(hash, found);
            element
        }
    }
}

impl<E: Element> Deref for Slot<'_, E> {
    type Target = E;

    #[inline(always)]
    fn deref(&self) -> &E {
        &self.element
    }
}

impl<E: Element> DerefMut for Slot<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        if !self.borrowed {
            self.borrowed = true;
            // SAFETY: as in `write_address`.
            unsafe { self.found.at.bucket.as_mut() }.clear(self.found.at.slot);
        }
        &mut self.element
    }
}

impl<E: Element> Drop for Slot<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.borrowed {
            self.write_address();
        }
    }
}

/// Result of [`Dict::entry`].
pub enum Place<'a, E: Element> {
    /// There is an element with the key.
    Occupied(Slot<'a, E>),
    /// There is no element with the key.
    Vacant(Vacant<'a, E>),
}

/// The place for a key that is not in the dict.
pub struct Vacant<'a, E: Element> {
    dict: &'a mut Dict<E>,
    hash: u64,
}

impl<'a, E: Element> Vacant<'a, E> {
    /// Inserts the element, whose key must be the one that was searched for. O(1), unless the table grows.
    #[inline]
    pub fn insert(self, e: E) -> Slot<'a, E> {
        let found = self.dict.place(self.hash, e);
        self.dict.slot(self.hash, found)
    }
}

#[cfg(test)]
mod tests;
