//! A table: a power of two of 64-byte buckets, and all code that knows how a bucket is packed.
//!
//! A bucket is one cache line with nine slots:
//!
//! ```text
//! offset  0 ..54   nine addresses of 48 bits, little-endian
//! offset 54 ..63   nine tags: the top byte of the hash, 0 = the slot is empty (a hash byte of 0 becomes 1)
//! offset 63        bit 7: the bucket is chained, slot 8 holds the address of its child bucket
//! ```
//!
//! The tags end in the last quarter of the line, so that one aligned 16-byte load and one compare
//! find the slots whose hash may match; only those elements are visited. A full bucket moves its
//! last slot into a child bucket; a child is owned by its bucket and has the same form.
//!
//! What always holds: a set tag means that the slot holds an element; a chained bucket has tag 8 clear and a live
//! child. Buckets of a chain are full from the front, except for gaps that a panic or a forgotten
//! [`Slot`](super::Slot) left, which all code here tolerates.
//!
//! The idea of cache-line buckets with tags is that of Valkey's `hashtable` and Google's Swiss
//! tables; 48-bit slots make nine of what would be seven.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::Element;
use crate::stdx::alloc;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::prefetch::prefetch;

/// Elements of a bucket before it is chained.
pub(super) const SLOTS: usize = 9;

const LAST: Index = Index(SLOTS as u8 - 1);
const TAGS: usize = 54;
const META: usize = 63;
const CHAINED: u8 = 0x80;
const ADDRESS: u64 = (1 << 48) - 1;

/// The tag of an element with this hash: its top byte, but never 0.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    let top = (hash >> 56) as u8;
    top + u8::from(top == 0)
}

/// Number of a slot in its bucket; always below [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Index(u8);

/// A set of slots of one bucket, which is also an iterator over them in order.
#[derive(Clone, Copy)]
pub(super) struct Bits(u32);

impl Bits {
    pub(super) const NONE: Bits = Bits(0);
    const ALL: u32 = (1 << SLOTS) - 1;

    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    #[inline(always)]
    fn first(self) -> Option<Index> {
        if self.0 == 0 { None } else { Some(Index(self.0.trailing_zeros() as u8)) }
    }

    #[inline(always)]
    fn last(self) -> Option<Index> {
        if self.0 == 0 { None } else { Some(Index(31 - self.0.leading_zeros() as u8)) }
    }

    /// The slot that has `n` slots of the set before it.
    #[inline]
    pub(super) fn nth_slot(mut self, n: usize) -> Option<Index> {
        for _ in 0..n {
            self.0 &= self.0.wrapping_sub(1);
        }
        self.first()
    }
}

impl Iterator for Bits {
    type Item = Index;

    #[inline(always)]
    fn next(&mut self) -> Option<Index> {
        let first = self.first();
        self.0 &= self.0.wrapping_sub(1);
        first
    }
}

/// One cache line of slots. See the module's description.
#[repr(C, align(64))]
pub(super) struct Bucket([u8; 64]);

/// The bucket of every table without memory. Lookups find nothing in it, and it is never written.
static NOTHING: Bucket = Bucket([0; 64]);

/// The slots whose tag is `tag`, as bits.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn matches_portable(bucket: &Bucket, tag: u8) -> u32 {
    bucket.0[TAGS..META].iter().rev().fold(0, |bits, &t| bits << 1 | u32::from(t == tag))
}

impl Bucket {
    /// The slots whose tag is `tag`; the empty ones for tag 0.
    #[inline(always)]
    pub(super) fn matches(&self, tag: u8) -> Bits {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_set1_epi8};
            // SAFETY: offset 48 of a bucket is 16-byte aligned and has 16 bytes after it; every
            // x86-64 has SSE2.
            let bits = unsafe {
                let line = _mm_load_si128(self.0.as_ptr().add(48).cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(line, _mm_set1_epi8(tag as i8)))
            };
            Bits(bits as u32 >> (TAGS - 48) & Bits::ALL)
        }
        #[cfg(not(target_arch = "x86_64"))]
        Bits(matches_portable(self, tag))
    }

    /// The slots that hold an element.
    #[inline(always)]
    pub(super) fn occupied(&self) -> Bits {
        Bits(self.matches(0).0 ^ Bits::ALL)
    }

    /// Slots that an element can be put into. In a chained bucket, the last slot is not one of them.
    #[inline(always)]
    fn free(&self) -> Bits {
        Bits(self.matches(0).0 & (Bits::ALL >> u32::from(self.is_chained())))
    }

    #[inline(always)]
    pub(super) fn is_chained(&self) -> bool {
        self.0[META] & CHAINED != 0
    }

    /// The 48 bits in a slot, as an address with the provenance of the pointer that was put in.
    #[inline(always)]
    fn address(&self, i: Index) -> *mut u8 {
        // SAFETY: slot 8, the last, is read from 48..56: inside the bucket.
        let word = unsafe { self.0.as_ptr().add(6 * i.0 as usize).cast::<u64>().read_unaligned() };
        ptr::with_exposed_provenance_mut((u64::from_le(word) & ADDRESS) as usize)
    }

    /// The element in slot `i`.
    ///
    /// # Safety
    /// The slot is occupied.
    #[inline(always)]
    pub(super) unsafe fn get(&self, i: Index) -> NonNull<u8> {
        debug_assert!(self.tag(i) != 0, "slot {i:?} is empty");
        // SAFETY: elements are not null (`Element`), and this slot holds one.
        unsafe { NonNull::new_unchecked(self.address(i)) }
    }

    #[inline(always)]
    pub(super) fn tag(&self, i: Index) -> u8 {
        self.0[TAGS + i.0 as usize]
    }

    /// Writes `raw` into slot `i`, without dropping what was there.
    #[inline(always)]
    pub(super) fn put(&mut self, i: Index, tag: u8, raw: NonNull<u8>) {
        debug_assert!(tag != 0);
        self.set_address(i, raw);
        self.0[TAGS + i.0 as usize] = tag;
    }

    #[inline(always)]
    fn set_address(&mut self, i: Index, raw: NonNull<u8>) {
        let address = raw.as_ptr().expose_provenance() as u64;
        debug_assert!(address <= ADDRESS, "an address above 48 bits");
        // SAFETY: as in `address`. The two bytes behind the slot are written as they were.
        unsafe {
            let p = self.0.as_mut_ptr().add(6 * i.0 as usize).cast::<u64>();
            let word = u64::from_le(p.read_unaligned()) & !ADDRESS | address & ADDRESS;
            p.write_unaligned(word.to_le());
        }
    }

    /// Marks slot `i` empty, without dropping what was there.
    #[inline(always)]
    pub(super) fn clear(&mut self, i: Index) {
        self.0[TAGS + i.0 as usize] = 0;
    }

    /// The child bucket, if this one is chained.
    #[inline(always)]
    pub(super) fn child(&self) -> Option<NonNull<Bucket>> {
        if !self.is_chained() {
            return None;
        }
        // SAFETY: a chained bucket holds the address of its child there, which is not null.
        Some(unsafe { NonNull::new_unchecked(self.address(LAST).cast()) })
    }

    /// Gives a full bucket a child, which gets the last element.
    fn grow_child(&mut self) -> NonNull<Bucket> {
        let mut child = Box::new(Bucket([0; 64]));
        let last = self.tag(LAST);
        if last != 0 {
            // SAFETY: its tag is set.
            child.put(Index(0), last, unsafe { self.get(LAST) });
        }
        let child = NonNull::from(Box::leak(child));
        self.set_address(LAST, child.cast());
        self.clear(LAST);
        self.0[META] |= CHAINED;
        child
    }

    /// Writes the address of the child, which has moved.
    pub(super) fn set_child(&mut self, child: NonNull<Bucket>) {
        debug_assert!(self.is_chained());
        self.set_address(LAST, child.cast());
    }

    /// Frees the child, whose elements have been moved.
    ///
    /// # Safety
    /// The bucket is chained, its child is not, and the child is not used any more.
    unsafe fn free_child(&mut self) {
        if let Some(child) = self.child() {
            self.0[META] &= !CHAINED;
            // SAFETY: children come from `Box` in `grow_child` and are owned by their bucket alone.
            drop(unsafe { Box::from_raw(child.as_ptr()) });
        }
    }

    /// Prefetches the beginnings of this bucket's elements, and the line of its child.
    #[inline(always)]
    pub(super) fn prefetch_contents(&self) {
        for i in self.occupied() {
            prefetch(self.address(i));
        }
        if self.is_chained() {
            prefetch(self.address(LAST));
        }
    }

    /// Prefetches the elements that may match `tag`, and the line of the child.
    #[inline(always)]
    pub(super) fn prefetch_matches(&self, tag: u8) {
        for i in self.matches(tag) {
            let p = self.address(i);
            prefetch(p);
            // Elements are 8-byte aligned and often reach into the next line.
            prefetch(p.wrapping_add(40));
        }
        if self.is_chained() {
            prefetch(self.address(LAST));
        }
    }
}

/// The buckets of the chain that begins with `head`, in order.
///
/// # Safety
/// While the iterator is used, `head` is alive and its chain keeps its buckets.
#[inline(always)]
pub(super) unsafe fn chain(head: NonNull<Bucket>) -> impl Iterator<Item = NonNull<Bucket>> {
    // SAFETY: the caller keeps the chain alive.
    std::iter::successors(Some(head), |bucket| unsafe { bucket.as_ref() }.child())
}

/// Position of an element: a slot of a bucket, which may be a child bucket.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) bucket: NonNull<Bucket>,
    pub(super) slot: Index,
}

impl At {
    /// The element.
    ///
    /// # Safety
    /// The bucket is alive and the slot occupied.
    #[inline(always)]
    pub(super) unsafe fn get(self) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { self.bucket.as_ref().get(self.slot) }
    }
}

/// Whether two keys are equal. Keys are short, so comparing whole words is faster than calling `memcmp`.
#[inline(always)]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    /// # Safety
    /// `p` has eight bytes from `at` on.
    #[inline(always)]
    unsafe fn word(p: &[u8], at: usize) -> u64 {
        debug_assert!(at + 8 <= p.len());
        // SAFETY: the caller's promise.
        unsafe { p.as_ptr().add(at).cast::<u64>().read_unaligned() }
    }
    /// # Safety
    /// `p` has four bytes from `at` on.
    #[inline(always)]
    unsafe fn half(p: &[u8], at: usize) -> u32 {
        debug_assert!(at + 4 <= p.len());
        // SAFETY: as in `word`.
        unsafe { p.as_ptr().add(at).cast::<u32>().read_unaligned() }
    }
    let n = a.len();
    if n != b.len() {
        return false;
    }
    match n {
        8..=32 => {
            let mut at = 0;
            while at + 8 < n {
                // SAFETY: at + 8 < n, the length of both.
                if unsafe { word(a, at) != word(b, at) } {
                    return false;
                }
                at += 8;
            }
            // SAFETY: n is at least 8.
            unsafe { word(a, n - 8) == word(b, n - 8) }
        }
        // SAFETY: n is at least 4.
        4..=7 => unsafe { half(a, 0) == half(b, 0) && half(a, n - 4) == half(b, n - 4) },
        _ => a == b,
    }
}

/// A power of two of buckets. It does not know the type of the elements, which its owner must drop.
pub(super) struct Table {
    buckets: NonNull<Bucket>,
    /// Number of buckets minus one: index = hash & mask.
    mask: usize,
    /// Number of elements in this table.
    pub(super) used: usize,
}

impl Table {
    /// A table without memory, in which nothing is found.
    pub(super) const fn unallocated() -> Table {
        // SAFETY: the address of a static is not null.
        let buckets = unsafe { NonNull::new_unchecked((&raw const NOTHING).cast_mut()) };
        Table { buckets, mask: 0, used: 0 }
    }

    fn layout(count: usize) -> Layout {
        Layout::array::<Bucket>(count).expect("more buckets than there are addresses")
    }

    /// A table of `count` empty buckets, a power of two.
    ///
    /// # Panics
    /// If their size exceeds the address space.
    pub(super) fn with_buckets(count: usize) -> Table {
        assert!(count.is_power_of_two());
        let layout = Self::layout(count);
        // SAFETY: the layout is not empty.
        let p = unsafe { alloc::zeroed(layout) };
        let Some(buckets) = NonNull::new(p.cast::<Bucket>()) else { handle_alloc_error(layout) };
        Table { buckets, mask: count - 1, used: 0 }
    }

    #[inline(always)]
    pub(super) fn is_allocated(&self) -> bool {
        !ptr::eq(self.buckets.as_ptr(), &raw const NOTHING)
    }

    /// Number of buckets without children; 0 for a table without memory.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        if self.is_allocated() { self.mask + 1 } else { 0 }
    }

    #[inline(always)]
    pub(super) fn mask(&self) -> usize {
        self.mask
    }

    /// Number of elements that fit without children.
    #[inline(always)]
    pub(super) fn slots(&self) -> usize {
        self.len() * SLOTS
    }

    /// The bucket at `index`, which is taken modulo the number of buckets.
    #[inline(always)]
    pub(super) fn head(&self, index: usize) -> NonNull<Bucket> {
        // SAFETY: the index is masked, so it stays inside the allocation (of one bucket at least).
        unsafe { self.buckets.add(index & self.mask) }
    }

    #[inline(always)]
    pub(super) fn bucket(&self, index: usize) -> &Bucket {
        // SAFETY: the bucket is alive as long as the table, and changes only through `&mut`.
        unsafe { self.head(index).as_ref() }
    }

    /// Finds the element with `key` in the chain at `index`.
    #[inline(always)]
    pub(super) fn search<E: Element>(&self, index: usize, tag: u8, key: &[u8]) -> Option<At> {
        let mut bucket = self.head(index);
        loop {
            // SAFETY: the buckets of a chain live as long as the table.
            let b = unsafe { bucket.as_ref() };
            for slot in b.matches(tag) {
                // SAFETY: `tag` is not 0, so a slot that matches is occupied, and its element is alive.
                if same(unsafe { E::key(b.get(slot)) }, key) {
                    return Some(At { bucket, slot });
                }
            }
            bucket = b.child()?;
        }
    }

    /// Finds the element at the address `raw` in the chain at `index`, without looking at it.
    #[inline]
    pub(super) fn search_address(&self, index: usize, tag: u8, raw: NonNull<u8>) -> Option<At> {
        // SAFETY: the buckets of a chain live as long as the table.
        unsafe { chain(self.head(index)) }.find_map(|bucket| {
            // SAFETY: as above.
            let b = unsafe { bucket.as_ref() };
            // SAFETY: `tag` is not 0, so a slot that matches is occupied.
            b.matches(tag).find(|&slot| unsafe { b.get(slot) } == raw).map(|slot| At { bucket, slot })
        })
    }

    /// Whether the chain at `index` is longer than chance explains.
    ///
    /// The lengths of chains are Poisson distributed. With a mean of m elements, fewer than one table in 10^20 has a
    /// chain of more than 2 m and 64. The bound is four times that: a chain of so many buckets costs a lookup about a
    /// microsecond, and tables that few elements are left in may well have chains of some length.
    pub(super) fn is_overlong(&self, index: usize) -> bool {
        const BUCKETS: usize = 32;
        // All buckets of a chain but the last hold one element less than there are slots.
        let mean = self.used / (SLOTS - 1) / (self.mask + 1);
        // SAFETY: the buckets of a chain live as long as the table.
        self.bucket(index).is_chained()
            && unsafe { chain(self.head(index)) }.count() > BUCKETS + 2 * (mean + 1)
    }

    /// Whether few elements of the chain at `index` share their hash with another one. `hash_of` returns the hash of
    /// the element at an address.
    pub(super) fn differs(&self, index: usize, hash_of: impl Fn(NonNull<u8>) -> u64) -> bool {
        let mut hashes = Vec::new();
        // SAFETY: the buckets of a chain live as long as the table; only occupied slots are read.
        unsafe {
            for bucket in chain(self.head(index)).map(|bucket| bucket.as_ref()) {
                hashes.extend(bucket.occupied().map(|slot| hash_of(bucket.get(slot))));
            }
        }
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len() > all / 2
    }

    /// Clears the bucket at `index`.
    ///
    /// # Safety
    /// The table is allocated, and [`empty`](Self::empty) was called for this bucket.
    pub(super) unsafe fn wipe(&mut self, index: usize) {
        // SAFETY: the bucket is alive and exclusively ours; what it held is the caller's.
        unsafe { self.head(index).write(Bucket([0; 64])) };
    }

    /// Adds an element to the chain at `index`, and counts a new child bucket in `children`.
    ///
    /// # Safety
    /// The table is allocated.
    #[inline]
    pub(super) unsafe fn push(&mut self, index: usize, tag: u8, raw: NonNull<u8>, children: &mut u32) -> At {
        self.used += 1;
        let mut bucket = self.head(index);
        loop {
            // SAFETY: buckets of an allocated table are ours to write, and `&mut self` is exclusive.
            let b = unsafe { bucket.as_mut() };
            if let Some(slot) = b.free().first() {
                b.put(slot, tag, raw);
                return At { bucket, slot };
            }
            bucket = match b.child() {
                Some(child) => child,
                None => {
                    *children = children.checked_add(1).expect("the children take less than 256 GB");
                    b.grow_child()
                }
            };
        }
    }

    /// Empties the slot `at` of the chain at `index`. The last element of the chain moves into the gap, and a child
    /// bucket that becomes empty is freed, so that chains are no longer than necessary. No element leaves its chain.
    /// Returns the number of children freed (0 or 1).
    ///
    /// # Safety
    /// `at` is a slot of that chain, and the caller drops or takes its element.
    #[inline]
    pub(super) unsafe fn close(&mut self, index: usize, mut at: At) -> u32 {
        self.used -= 1;
        let mut last = self.head(index);
        // SAFETY: here and below, the chain's buckets are alive and exclusively ours, and no two
        // references to one bucket are held at a time.
        unsafe {
            at.bucket.as_mut().clear(at.slot);
            let mut parent = None;
            while let Some(child) = last.as_ref().child() {
                parent = Some(last);
                last = child;
            }
            let Some(mut parent) = parent else { return 0 };
            if last != at.bucket
                && let Some(from) = last.as_ref().occupied().last()
            {
                let (tag, raw) = (last.as_ref().tag(from), last.as_ref().get(from));
                last.as_mut().clear(from);
                at.bucket.as_mut().put(at.slot, tag, raw);
            }
            if last.as_ref().occupied().is_empty() {
                parent.as_mut().free_child();
                return 1;
            }
        }
        0
    }

    /// Closes all gaps of the chain at `index`. Returns the number of children freed.
    ///
    /// # Safety
    /// The table is allocated and the buckets of this chain are not in use.
    pub(super) unsafe fn tidy(&mut self, index: usize) -> u32 {
        let mut freed = 0;
        loop {
            let mut last = self.head(index);
            let mut parent = None;
            let mut gap = None;
            // SAFETY: as in `close`.
            unsafe {
                while let Some(child) = last.as_ref().child() {
                    if gap.is_none() {
                        gap = last.as_ref().free().first().map(|slot| At { bucket: last, slot });
                    }
                    parent = Some(last);
                    last = child;
                }
                let Some(mut parent) = parent else { return freed };
                match (last.as_ref().occupied().last(), gap) {
                    (None, _) => {
                        parent.as_mut().free_child();
                        freed += 1;
                    }
                    (Some(from), Some(mut to)) => {
                        let (tag, raw) = (last.as_ref().tag(from), last.as_ref().get(from));
                        last.as_mut().clear(from);
                        to.bucket.as_mut().put(to.slot, tag, raw);
                    }
                    (Some(_), None) => return freed,
                }
            }
        }
    }

    /// Calls `f` with the tag and the address of every element of the chain at `index`, then frees its children. The
    /// bucket itself keeps its bytes. Returns the numbers of elements and children.
    ///
    /// # Safety
    /// `f` takes ownership of the elements, and the bucket is not read again.
    #[inline]
    pub(super) unsafe fn empty(&self, index: usize, mut f: impl FnMut(u8, NonNull<u8>)) -> (usize, u32) {
        let (mut elements, mut children) = (0, 0);
        let head = self.head(index);
        let mut bucket = head;
        loop {
            // SAFETY: the chain is alive; a child is freed after it was read, and nobody reads it again.
            unsafe {
                let b = bucket.as_ref();
                let occupied = b.occupied();
                elements += occupied.len();
                for i in occupied {
                    f(b.tag(i), b.get(i));
                }
                let next = b.child();
                if bucket != head {
                    children += 1;
                    drop(Box::from_raw(bucket.as_ptr()));
                }
                match next {
                    Some(next) => bucket = next,
                    None => return (elements, children),
                }
            }
        }
    }

    /// Moves the buckets if they are few and their place is sparse.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        if !self.is_allocated() {
            return;
        }
        let layout = Self::layout(self.mask + 1);
        if layout.size() < alloc::MAPPED_FROM {
            // SAFETY: below that size, the block is the allocator's, and nobody else has its address.
            self.buckets = unsafe { by.relocate(self.buckets.cast(), layout) }.cast();
        }
    }

    /// Returns the memory of the buckets in `range` to the system, as far as it consists of whole pages, while the
    /// table stays in use.
    ///
    /// # Safety
    /// These buckets have been emptied and are not read again.
    pub(super) unsafe fn discard(&self, range: Range<usize>) {
        debug_assert!(range.end <= self.len());
        // SAFETY: the buckets lie in the table's block, and the caller needs them no more.
        unsafe { alloc::discard(self.head(range.start).cast(), range.len() * size_of::<Bucket>()) };
    }

    /// Frees the memory of the table. `from` is the first bucket that may still have children; `children` says
    /// whether there are any at all.
    ///
    /// # Safety
    /// The elements have been dropped or taken.
    pub(super) unsafe fn free_memory(&mut self, from: usize, children: bool) {
        if !self.is_allocated() {
            return;
        }
        if children {
            for index in from..self.len() {
                if self.bucket(index).is_chained() {
                    // SAFETY: the elements are the caller's business, and the table is freed next.
                    unsafe { self.empty(index, |_, _| ()) };
                }
            }
        }
        // SAFETY: allocated in `with_buckets` with the same layout.
        unsafe { alloc::free_zeroed(self.buckets.as_ptr().cast(), Self::layout(self.mask + 1)) };
        *self = Table::unallocated();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
        assert_eq!(align_of::<Bucket>(), 64);
        assert_eq!(TAGS, 6 * SLOTS);
        assert_eq!(META, TAGS + SLOTS);
    }

    #[test]
    fn slots_do_not_disturb_each_other() {
        let mut bucket = Bucket([0; 64]);
        let address =
            |i: usize| NonNull::new(ptr::without_provenance_mut::<u8>(0xfedc_ba98_7600 + i)).expect("not 0");
        for round in 0..2 {
            for i in 0..SLOTS {
                let i = if round == 0 { i } else { SLOTS - 1 - i };
                bucket.put(Index(i as u8), 1 + i as u8, address(i));
            }
            assert_eq!(bucket.occupied().len(), SLOTS);
            for i in 0..SLOTS {
                // SAFETY: just put in.
                assert_eq!(unsafe { bucket.get(Index(i as u8)) }, address(i));
                assert_eq!(bucket.matches(1 + i as u8).next(), Some(Index(i as u8)));
                assert_eq!(bucket.matches(1 + i as u8).len(), 1);
            }
            assert!(!bucket.is_chained());
        }
        bucket.clear(Index(4));
        assert_eq!(bucket.free().next(), Some(Index(4)));
        assert_eq!(bucket.free().len(), 1);
        // The last byte is not a tag.
        bucket.0[META] = CHAINED;
        assert!(bucket.matches(CHAINED).is_empty());
    }

    #[test]
    fn the_portable_match_is_the_same() {
        let mut word = 1u64;
        let mut bucket = Bucket([0; 64]);
        for _ in 0..2000 {
            for byte in &mut bucket.0 {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (word >> 60) as u8;
            }
            for tag in 0..=16 {
                assert_eq!(bucket.matches(tag).0, matches_portable(&bucket, tag));
            }
        }
    }

    #[test]
    fn keys_compare_like_slices() {
        let base: Vec<u8> = (0..100).collect();
        for n in 0..base.len() {
            assert!(same(&base[..n], &base.clone()[..n]));
            assert!(!same(&base[..n], &base[..n + 1]));
            for i in 0..n {
                let mut other = base[..n].to_vec();
                other[i] ^= 0x40;
                assert!(!same(&base[..n], &other), "length {n}, byte {i}");
            }
        }
    }

    #[test]
    fn tags_are_never_zero() {
        assert_eq!(tag_of(0), 1);
        assert_eq!(tag_of(1 << 56), 1);
        assert_eq!(tag_of(u64::MAX), 255);
    }
}
