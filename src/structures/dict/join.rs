//! Intersection of two dicts without hashing.
//!
//! Equal keys have equal hashes, and a table takes the index from the low bits of the hash. An element and its equal
//! in another dict therefore lie in buckets of the same number or, if one table is longer, of numbers with equal low
//! bits; and their tags are equal. Buckets are compared in pairs, tags first, so that an element whose tag the other
//! bucket lacks is never read. Databases call this a hash join of two tables with equal partitions.

use std::ptr::NonNull;

use super::table::{Table, chain, same};
use super::{Borrowed, Dict, Element};
use crate::stdx::prefetch::prefetch;

/// Pairs that are prefetched before the first of them is compared. There may be a few more.
const WINDOW: usize = 16;

/// The iterator of [`Dict::join`].
pub struct Join<'a, E: Element> {
    left: &'a Dict<E>,
    right: &'a Dict<E>,
    /// Index of the next bucket, and the number of buckets of the longer table.
    index: usize,
    end: usize,
    /// Pairs of elements with equal tags: those being compared, and those being prefetched.
    pairs: Vec<Pair>,
    next_pairs: Vec<Pair>,
}

/// An element of the left dict, and one of the right.
type Pair = (NonNull<u8>, NonNull<u8>);

impl<E: Element> Dict<E> {
    /// The elements of this dict whose key is also in the other dict, in no particular order. O(buckets of both),
    /// which is less than the cost of one lookup per element of the smaller dict.
    ///
    /// `None` if that would not be so, because a table is sparse or much longer than the other, or if one of the
    /// dicts is being rehashed or has been keyed.
    pub fn join<'a>(&'a self, other: &'a Dict<E>) -> Option<Join<'a, E>> {
        let end = self.tables[0].len().max(other.tables[0].len());
        let keyed = self.keys[0] != 0 || other.keys[0] != 0;
        if self.is_rehashing() || other.is_rehashing() || keyed || end > self.len().min(other.len()) {
            return None;
        }
        let pairs = || Vec::with_capacity(2 * WINDOW);
        Some(Join { left: self, right: other, index: 0, end, pairs: pairs(), next_pairs: pairs() })
    }
}

impl<'a, E: Element> Join<'a, E> {
    /// Collects pairs from the next buckets until there are enough to keep the memory busy.
    fn gather(&mut self) {
        let (left, right): (&Table, &Table) = (&self.left.tables[0], &self.right.tables[0]);
        while self.next_pairs.len() < WINDOW && self.index < self.end {
            let (a, b) = (left.head(self.index), right.head(self.index));
            self.index += 1;
            // SAFETY: the dicts are borrowed, so that the chains stay as they are; only occupied slots are read.
            unsafe {
                for a in chain(a).map(|a| a.as_ref()) {
                    for b in chain(b).map(|b| b.as_ref()) {
                        for slot in a.occupied() {
                            for twin in b.matches(a.tag(slot)) {
                                let pair = (a.get(slot), b.get(twin));
                                prefetch(pair.0.as_ptr());
                                prefetch(pair.1.as_ptr());
                                self.next_pairs.push(pair);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<'a, E: Element> Iterator for Join<'a, E> {
    type Item = Borrowed<'a, E>;

    #[inline]
    fn next(&mut self) -> Option<Borrowed<'a, E>> {
        loop {
            while let Some((a, b)) = self.pairs.pop() {
                // SAFETY: both are elements of dicts that are borrowed.
                unsafe {
                    if same(E::key(a), E::key(b)) {
                        return Some(Borrowed::new(a));
                    }
                }
            }
            std::mem::swap(&mut self.pairs, &mut self.next_pairs);
            self.gather();
            if self.pairs.is_empty() && self.next_pairs.is_empty() {
                return None;
            }
        }
    }
}
