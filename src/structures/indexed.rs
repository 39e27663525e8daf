//! A skip list of pairs in order, together with a hash table of its nodes by member.
//!
//! Invariant: the table refers to nodes of the list only, each once. A node is removed from the table before the list
//! frees it, so that no reference leads to a freed node. The list is changed only here, where the table follows.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dict::{self, Dict, Element, Place, Stats};
use super::skiplist::{self, NodeRef, SkipList};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::hash;
use crate::stdx::rng::Rng;

/// A node of the list, as the table refers to it without owning it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct IndexedNode(NonNull<u8>);

// SAFETY: it is an address; whoever follows it owns the list on its thread.
unsafe impl Send for IndexedNode {}
// SAFETY: as above.
unsafe impl Sync for IndexedNode {}

impl IndexedNode {
    /// The node, for as long as the set is borrowed.
    ///
    /// # Safety
    /// The member is in the table of `_set`.
    #[inline]
    unsafe fn node(self, _set: &Indexed) -> NodeRef<'_> {
        // SAFETY: what is in the table is in the list, which is not changed while the set is borrowed.
        unsafe { NodeRef::from_raw(self.0) }
    }
}

// SAFETY: `into_raw` and `from_raw` round-trip the node's address, which has 48 bits and is not null; dropping a
// `IndexedNode` frees nothing. A node's member never changes and lives as long as the node.
unsafe impl Element for IndexedNode {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        self.0
    }
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        IndexedNode(raw)
    }
    #[inline]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the table holds nodes of the list only, and the caller promises that this one lives.
        unsafe { skiplist::member_of(raw) }
    }
}

/// Pairs of score and member in order, each member once, which are also found by member.
pub struct Indexed {
    list: SkipList,
    index: Dict<IndexedNode>,
}

/// A seed for the levels of a list: different each time, and unknown outside this process.
fn seed() -> u64 {
    static LISTS: AtomicU64 = AtomicU64::new(0);
    hash(&LISTS.fetch_add(1, Ordering::Relaxed).to_le_bytes())
}

impl Indexed {
    /// An empty set with a table for `len` members.
    pub fn with_capacity(len: usize) -> Indexed {
        Indexed { list: SkipList::new(seed()), index: Dict::with_capacity(len) }
    }

    /// The set of `len` ascending pairs. O(n).
    pub fn from_sorted<'m>(len: usize, pairs: impl Iterator<Item = (f64, &'m [u8])>) -> Indexed {
        let list = SkipList::from_sorted(seed(), pairs);
        let mut index = Dict::with_capacity(len);
        for node in &list {
            index.insert_unique(hash(node.member()), IndexedNode(node.into_raw()));
        }
        Indexed { list, index }
    }

    /// As [`Indexed::from_sorted`]; `None` if a member occurs twice, with different scores.
    pub fn from_sorted_checked<'m>(
        len: usize,
        pairs: impl Iterator<Item = (f64, &'m [u8])>,
    ) -> Option<Indexed> {
        let list = SkipList::from_sorted(seed(), pairs);
        let mut index = Dict::with_capacity(len);
        for node in &list {
            match index.entry(hash(node.member()), node.member()) {
                Place::Occupied(_) => return None,
                Place::Vacant(place) => drop(place.insert(IndexedNode(node.into_raw()))),
            }
        }
        Some(Indexed { list, index })
    }

    /// Moves about `most` blocks from `cursor` on if their places are sparse. Returns the next cursor, 0 at the end. If
    /// pairs change between two calls, some blocks may not be examined.
    pub fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        /// Set in cursors of the table, which comes after the list.
        const TABLE: u64 = 1 << 62;
        let Indexed { list, index } = self;
        if cursor & TABLE != 0 {
            let next = index.relocate(by, cursor & !TABLE, most, |node, _| node);
            return if next == 0 { 0 } else { next | TABLE };
        }
        let seen = list.relocate(cursor, most, by, |old, new| {
            let slot = index.find_address_mut(hash(old.member()), old.into_raw());
            slot.expect("every node is in the table").replace(IndexedNode(new.into_raw()));
        });
        let next = cursor + seen as u64;
        if next < list.len() as u64 && seen > 0 { next } else { TABLE }
    }

    /// The pairs in order, to be read.
    #[inline]
    pub fn list(&self) -> &SkipList {
        &self.list
    }

    /// Sets the score of `member` to the one that `choose` returns. `choose` gets the current score (`None` if the
    /// member is absent; it is then added) and returns the new one, or `None` for no change, together with the result
    /// of this method. No score is NaN. O(log n) on average.
    #[inline]
    pub fn put<R>(&mut self, member: &[u8], choose: impl FnOnce(Option<f64>) -> (Option<f64>, R)) -> R {
        match self.index.entry(hash(member), member) {
            Place::Vacant(place) => {
                let (new, result) = choose(None);
                if let Some(score) = new {
                    place.insert(IndexedNode(self.list.insert(score, member).into_raw()));
                }
                result
            }
            Place::Occupied(slot) => {
                let raw = slot.0;
                // SAFETY: the node is in the table, therefore in the list, which is not changed
                // while this reference lives.
                let old = unsafe { NodeRef::from_raw(raw) }.score();
                let (new, result) = choose(Some(old));
                if let Some(score) = new {
                    // SAFETY: as above; the node stays the same, and so does the table.
                    unsafe { self.list.update_score(raw, score) };
                }
                result
            }
        }
    }

    /// Adds a pair whose member is absent. O(log n) on average.
    pub fn insert_absent(&mut self, score: f64, member: &[u8]) {
        let node = self.list.insert(score, member).into_raw();
        self.index.insert_unique(hash(member), IndexedNode(node));
    }

    /// Removes the pair of a member and returns whether there was one. O(log n) on average.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(IndexedNode(raw)) = self.index.remove(hash(member), member) else { return false };
        // SAFETY: the node was in the table, therefore in the list, and is in the table no more.
        unsafe { self.list.remove(raw) };
        true
    }

    /// Removes the pairs with these ranks, which exist. O(log n) and O(1) for each.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let Indexed { list, index } = self;
        let all = ranks.len() == list.len();
        if all {
            index.clear();
        }
        list.delete_ranks(ranks.start as u64..ranks.end as u64, |node| {
            if !all {
                index.remove_address(hash(node.member()), node.into_raw());
            }
        });
    }

    /// The pair of a member. O(1).
    #[inline]
    pub fn find(&self, member: &[u8]) -> Option<NodeRef<'_>> {
        let found = self.index.find(hash(member), member)?;
        // SAFETY: it has just been found there.
        Some(unsafe { found.node(self) })
    }

    /// A random pair, each equally likely; `None` if there is none.
    pub fn random(&self, rng: &mut Rng) -> Option<NodeRef<'_>> {
        let found = self.index.random(&mut || rng.next_u64())?;
        // SAFETY: it has just been found there.
        Some(unsafe { found.node(self) })
    }

    /// Calls `f` with the pairs at a cursor and returns the next: see [`Dict::scan`].
    pub fn scan(&self, cursor: u64, mut f: impl FnMut(NodeRef<'_>)) -> u64 {
        // SAFETY: the scan shows what is in the table.
        self.index.scan(cursor, |member| f(unsafe { member.node(self) }))
    }

    /// One step of a running rehash of the table.
    #[inline]
    pub fn step(&mut self) {
        self.index.step();
    }

    /// Starts a prefetch in steps of [`Indexed::find`].
    #[inline]
    pub fn prefetch_steps(&self, member: &[u8]) -> dict::PrefetchSteps<'_, IndexedNode> {
        self.index.prefetch_steps(hash(member))
    }

    /// Statistics of the table. O(buckets).
    pub fn index_stats(&self) -> Stats {
        self.index.stats()
    }

    /// Bytes of the table. O(1).
    pub fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// Panics if an invariant is violated. O(n).
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.list.check();
        assert_eq!(self.list.len(), self.index.len());
        for node in &self.list {
            assert_eq!(self.find(node.member()), Some(node), "the table leads to the node");
        }
    }
}
