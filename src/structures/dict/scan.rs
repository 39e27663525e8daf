//! Iteration over a dict in many calls, and random elements.
//!
//! [`Dict::scan`] counts its cursor in reverse binary: the highest bit of the bucket index is incremented first and
//! the carry runs down. When the table grows or shrinks, the elements of one bucket move to buckets that share its
//! low bits, which are neighbours in this order. A cursor therefore means the same set of visited elements in a table
//! of any size. The idea is Pieter Noordhuis', from Redis.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::table::{Bucket, SLOTS, chain};
use super::{Borrowed, Dict, Element};
use crate::stdx::prefetch::prefetch;

/// The cursor after `cursor` in a table with this mask; 0 after the last.
#[inline]
fn next_cursor(cursor: u64, mask: u64) -> u64 {
    (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
}

/// Calls `visit` with the table and the index of each bucket at `cursor`, and returns the next cursor. The index is to be
/// taken modulo the size of the table.
#[inline(always)]
pub(super) fn cursor_buckets(
    cursor: u64,
    masks: [u64; 2],
    rehashing: bool,
    mut visit: impl FnMut(usize, u64),
) -> u64 {
    if !rehashing {
        visit(0, cursor);
        return next_cursor(cursor, masks[0]);
    }
    let (small, large) = if masks[0] <= masks[1] { (0, 1) } else { (1, 0) };
    visit(small, cursor);
    // All buckets of the larger table whose elements are, were or will be in that one.
    let mut cursor = cursor;
    loop {
        visit(large, cursor);
        cursor = next_cursor(cursor, masks[large]);
        if cursor & (masks[small] ^ masks[large]) == 0 {
            return cursor;
        }
    }
}

/// A number below `n`, made from 64 random bits.
#[inline]
fn below(n: usize, random: u64) -> usize {
    ((random as u128 * n as u128) >> 64) as usize
}

/// Calls `f` for each element of a chain.
///
/// # Safety
/// The chain is alive, and neither it nor its elements change.
#[inline]
unsafe fn each<E: Element>(head: NonNull<Bucket>, mut f: impl FnMut(&E)) {
    // SAFETY: the caller's promise; the value is not dropped.
    unsafe {
        head.as_ref().prefetch_contents();
        for bucket in chain(head) {
            for slot in bucket.as_ref().occupied() {
                f(&ManuallyDrop::new(E::from_raw(bucket.as_ref().get(slot))));
            }
        }
    }
}

/// Candidates of [`Dict::random`] whose buckets are prefetched together.
const BATCH: usize = 4;
/// Number of batches tried before the search for the next element replaces the fair choice.
const BATCHES: usize = 64;

/// The part of one table from which [`Dict::random`] draws.
struct Urn {
    first: usize,
    buckets: usize,
    /// Places per bucket: at least as many as any chain has elements, with rare exceptions.
    places: usize,
}

impl Urn {
    /// An urn for a table whose chains have `elements / buckets` elements on average when it is full. Their lengths
    /// are Poisson distributed: fewer than one chain in ten thousand exceeds the mean by more than four standard
    /// deviations plus one.
    fn new(first: usize, buckets: usize, elements: usize) -> Urn {
        if buckets == 0 {
            return Urn { first, buckets, places: 0 };
        }
        let mean = elements as f64 / buckets as f64;
        let places = (mean + 4.0 * mean.sqrt() + 1.5) as usize;
        Urn { first, buckets, places: places.min(elements) }
    }

    fn size(&self) -> usize {
        self.buckets * self.places
    }
}

impl<E: Element> Dict<E> {
    /// Calls `f` for the elements at `cursor` and returns the next cursor. Start with 0 and stop at 0.
    ///
    /// Every element that is in the dict from the first call to the last is visited at least once, and possibly more
    /// often, however the dict grows and shrinks in between. Any cursor is allowed. O(1) on average; O(ratio of the
    /// table sizes) during a rehash.
    pub fn scan(&self, cursor: u64, mut f: impl FnMut(&E)) -> u64 {
        let mut visit = |t: usize, index: u64| {
            let table = &self.tables[t];
            let index = index as usize & table.mask();
            if t == 1 || index >= self.moved {
                // SAFETY: the dict is borrowed, so nothing changes.
                unsafe { each(table.head(index), &mut f) };
            }
        };
        let masks = [0, 1].map(|t| self.tables[t].mask() as u64);
        if !self.is_rehashing() {
            prefetch(self.tables[0].head(next_cursor(cursor, masks[0]) as usize).as_ptr());
        }
        cursor_buckets(cursor, masks, self.is_rehashing(), &mut visit)
    }

    /// A random element; `rng` returns 64 random bits. Each element is equally likely, except for those in the
    /// fullest one of ten thousand chains. `None` if the dict is empty.
    ///
    /// O(1) expected. Only in a table that is nearly empty (which happens under a policy that forbids shrinking), the
    /// neighbour of a large gap is preferred after 256 tries.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<Borrowed<'_, E>> {
        if self.is_empty() {
            return None;
        }
        // Draws a place of a bucket until it is occupied. Buckets have more places than elements, and all have the
        // same number, so a long chain is not at a disadvantage.
        let [first, second] = &self.tables;
        let urns = if self.is_rehashing() {
            // Until the rehash ends, the new table has only part of its elements.
            [
                Urn::new(self.moved, first.len() - self.moved, first.used),
                Urn::new(0, second.len(), self.len()),
            ]
        } else {
            [Urn::new(0, first.len(), first.used), Urn::new(0, 0, 0)]
        };
        let size = urns[0].size() + urns[1].size();
        for _ in 0..BATCHES {
            let draws: [(NonNull<Bucket>, usize, usize); BATCH] = std::array::from_fn(|_| {
                let draw = below(size, rng());
                let (t, draw) = if draw < urns[0].size() { (0, draw) } else { (1, draw - urns[0].size()) };
                let places = urns[t].places;
                let head = self.tables[t].head(urns[t].first + draw / places);
                prefetch(head.as_ptr());
                (head, draw % places, places)
            });
            for (head, place, places) in draws {
                // SAFETY: the dict is borrowed, so the chain stays as it is.
                if let Some(raw) = unsafe { nth(head, place, places, rng) } {
                    // SAFETY: an element of this dict.
                    return Some(unsafe { Borrowed::new(raw) });
                }
            }
        }
        self.random_neighbour(rng)
    }

    /// An element of the first non-empty chain from a random bucket on.
    #[cold]
    fn random_neighbour(&self, rng: &mut impl FnMut() -> u64) -> Option<Borrowed<'_, E>> {
        let buckets = self.span();
        let start = below(buckets, rng());
        for i in 0..buckets {
            let head = self.nth_bucket((start + i) % buckets);
            // SAFETY: the dict is borrowed, so the chain stays as it is.
            let elements = unsafe { count(head) };
            if elements > 0 {
                // SAFETY: as above.
                let raw = unsafe { nth(head, below(elements, rng()), elements, rng) };
                // SAFETY: an element of this dict.
                return raw.map(|raw| unsafe { Borrowed::new(raw) });
            }
        }
        None
    }

    /// Calls `f` for up to `n` elements that lie together at a random place, and returns their number: at least one
    /// unless the dict or `n` is 0. Much cheaper than `n` fair choices. O(n). Fewer than `n` are found where the
    /// table is sparse.
    pub fn sample(&self, n: usize, rng: &mut impl FnMut() -> u64, mut f: impl FnMut(&E)) -> usize {
        let n = n.min(self.len());
        if n == 0 {
            return 0;
        }
        let (small, large) = if self.tables[1].len() == 0 || self.tables[0].mask() <= self.tables[1].mask() {
            (&self.tables[0], &self.tables[1])
        } else {
            (&self.tables[1], &self.tables[0])
        };
        let start = below(small.len(), rng());
        let mut budget = n.saturating_mul(10).saturating_add(64);
        // Starts within a bucket, because otherwise its last slots might never be reached. The iteration goes around
        // until it reaches the elements skipped at its start.
        let mut skip = below(self.len().min(2 * SLOTS), rng());
        let mut seen = 0;
        for i in 0..2 * small.len() {
            let index = (start + i) & small.mask();
            prefetch(small.head(index + 1).as_ptr());
            // During a rehash: the elements that are, were or will be in this bucket, as in `scan`.
            let related = (index..large.len()).step_by(small.len()).map(|index| (large, index));
            for (table, index) in std::iter::once((small, index)).chain(related) {
                if seen >= n || budget == 0 {
                    break;
                }
                if index < self.moved && std::ptr::eq(table, &raw const self.tables[0]) {
                    continue;
                }
                budget -= 1;
                // SAFETY: the dict is borrowed, so nothing changes.
                unsafe {
                    each::<E>(table.head(index), |e| {
                        if skip > 0 {
                            skip -= 1;
                        } else if seen < n {
                            seen += 1;
                            f(e);
                        }
                    });
                }
            }
            if seen >= n || budget == 0 {
                break;
            }
        }
        if seen == 0
            && let Some(e) = self.random(rng)
        {
            seen = 1;
            f(&e);
        }
        seen
    }

    /// Number of buckets in both tables that may have elements.
    fn span(&self) -> usize {
        self.tables[0].len() - self.moved + self.tables[1].len()
    }

    /// One of the [`span`](Self::span) buckets.
    #[inline]
    fn nth_bucket(&self, n: usize) -> NonNull<Bucket> {
        let old = self.tables[0].len() - self.moved;
        if n < old { self.tables[0].head(self.moved + n) } else { self.tables[1].head(n - old) }
    }
}

/// Number of elements in a chain.
///
/// # Safety
/// The chain is alive and does not change.
unsafe fn count(head: NonNull<Bucket>) -> usize {
    // SAFETY: the caller's promise.
    unsafe { chain(head).map(|bucket| bucket.as_ref().occupied().len()).sum() }
}

/// The element at place `place` of a chain, if the chain is long enough. A chain with more than `places` elements,
/// which cannot all be drawn, returns a random one.
///
/// # Safety
/// The chain is alive and does not change.
#[inline]
unsafe fn nth(
    head: NonNull<Bucket>,
    mut place: usize,
    places: usize,
    rng: &mut impl FnMut() -> u64,
) -> Option<NonNull<u8>> {
    // SAFETY: the caller's promise.
    unsafe {
        let first = head.as_ref();
        if first.is_chained() {
            let elements = count(head);
            if elements > places {
                place = below(elements, rng());
            }
        }
        for bucket in chain(head) {
            let occupied = bucket.as_ref().occupied();
            if let Some(slot) = occupied.nth_slot(place) {
                return Some(bucket.as_ref().get(slot));
            }
            place -= occupied.len();
        }
    }
    None
}
