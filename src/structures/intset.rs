//! A set of integers as one sorted array in which every integer has the width of the widest.
//!
//! ```text
//!              ┌────────────┬────────────┬───────┬───────┬───┬───────┐
//!  Intset ───► │ width u32  │ count u32  │ int 0 │ int 1 │ … │ int n │    all little-endian
//!              │ 2, 4 or 8  │            │       │       │   │       │    ascending, no duplicates
//!              └────────────┴────────────┴───────┴───────┴───┴───────┘
//! ```
//!
//! What always holds: the bytes are exactly those of RDB files and DUMP payloads, so that saving is a copy, and
//! loading is a check and a copy. The block has `size_class` of their number, so that no capacity is stored. The
//! width never decreases: an integer too wide for the array becomes its new minimum or maximum, and removing it does
//! not narrow the others.
//!
//! The idea is the intset of Salvatore Sanfilippo and Pieter Noordhuis; the search through an
//! intersection is the galloping of Bentley and Yao ("An almost optimal algorithm for unbounded
//! searching", 1976).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::iter::FusedIterator;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::slice;

use crate::stdx::alloc::size_class;

/// Bytes before the first integer.
const HEADER: usize = 8;
/// Blocks are aligned for the widest integer, and the header keeps that alignment.
const ALIGN: usize = align_of::<i64>();
const _: () = assert!(HEADER.is_multiple_of(ALIGN));

/// An integer of one width, as stored.
trait Int: Copy {
    /// The value.
    fn load(self) -> i64;
    /// The little-endian form of `v`, which must fit.
    fn store(v: i64) -> Self;
}

macro_rules! int {
    ($t:ty) => {
        impl Int for $t {
            #[inline(always)]
            fn load(self) -> i64 {
                i64::from(<$t>::from_le(self))
            }
            #[inline(always)]
            fn store(v: i64) -> $t {
                debug_assert_eq!(i64::from(v as $t), v);
                (v as $t).to_le()
            }
        }
    };
}
int!(i16);
int!(i32);
int!(i64);

/// Evaluates `$body` with `$ints` bound to the integers of `$set` as a slice of their own width.
macro_rules! with_ints {
    ($set:expr, $ints:ident => $body:expr) => {{
        let set: &Intset = $set;
        // SAFETY: each arm asks for the width it has matched; there are no other widths.
        unsafe {
            match set.width() {
                2 => {
                    let $ints = set.ints::<i16>();
                    $body
                }
                4 => {
                    let $ints = set.ints::<i32>();
                    $body
                }
                _ => {
                    let $ints = set.ints::<i64>();
                    $body
                }
            }
        }
    }};
}

/// The smallest width, in bytes, for `v`.
#[inline]
const fn width_of(v: i64) -> usize {
    if v == v as i16 as i64 {
        2
    } else if v == v as i32 as i64 {
        4
    } else {
        8
    }
}

/// The layout of the block for `count` integers of `width` bytes.
#[inline]
fn layout(width: usize, count: usize) -> Layout {
    let size = size_class(HEADER + width * count);
    // SAFETY: `ALIGN` is a power of two; the count is a `u32`, so that the size stays below 2^36.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

/// Index of `v` among `ints`, or the index at which to insert it. O(log n); O(1) beyond both ends.
#[inline]
fn search<T: Int>(ints: &[T], v: i64) -> Result<usize, usize> {
    let (Some(min), Some(max)) = (ints.first(), ints.last()) else { return Err(0) };
    if v > max.load() {
        return Err(ints.len());
    }
    if v < min.load() {
        return Err(0);
    }
    let at = ints.partition_point(|x| x.load() < v);
    // `v` is not above the maximum, so `at` is an index.
    if ints[at].load() == v { Ok(at) } else { Err(at) }
}

/// A sorted set of integers in one allocation, one pointer wide.
#[repr(transparent)]
pub struct Intset {
    blob: NonNull<u8>,
}

const _: () = assert!(size_of::<Option<Intset>>() == 8);

// SAFETY: an `Intset` is the only owner of its block and hands it out under the borrow rules of a `Vec`.
unsafe impl Send for Intset {}
// SAFETY: as above: `&Intset` only reads.
unsafe impl Sync for Intset {}

impl Intset {
    /// The empty set. Allocates 8 bytes.
    pub fn new() -> Intset {
        Intset::allocate(2, 0)
    }

    /// The layout of the allocation.
    pub(in crate::structures) fn layout(&self) -> Layout {
        layout(self.width(), self.len())
    }

    /// A set whose header declares `count` integers of `width` bytes. The integers are not written yet.
    fn allocate(width: usize, count: usize) -> Intset {
        let layout = layout(width, count);
        // SAFETY: the size is at least the header's 8 bytes.
        let Some(blob) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut set = Intset { blob };
        set.set_header(width, count);
        set
    }

    #[inline]
    fn set_header(&mut self, width: usize, count: usize) {
        let count = u32::try_from(count).expect("callers bound the count");
        // SAFETY: the block is ours and begins with two aligned u32.
        unsafe { self.blob.cast::<[u32; 2]>().write([(width as u32).to_le(), count.to_le()]) };
    }

    /// Bytes per integer: 2, 4 or 8.
    #[inline]
    pub fn width(&self) -> usize {
        // SAFETY: every block begins with two aligned and initialised u32.
        u32::from_le(unsafe { self.blob.cast::<u32>().read() }) as usize
    }

    /// Number of integers. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: as in `width`.
        u32::from_le(unsafe { self.blob.cast::<u32>().add(1).read() }) as usize
    }

    /// Whether there are no integers.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn first_int(&self) -> *mut u8 {
        // SAFETY: every block has at least `HEADER` bytes.
        unsafe { self.blob.as_ptr().add(HEADER) }
    }

    /// The integers.
    ///
    /// # Safety
    /// `T` is `self.width()` bytes wide.
    #[inline]
    unsafe fn ints<T: Int>(&self) -> &[T] {
        debug_assert_eq!(size_of::<T>(), self.width());
        // SAFETY: the header is followed by `len` initialised integers of this width, whose alignment
        // divides `ALIGN`.
        unsafe { slice::from_raw_parts(self.first_int().cast(), self.len()) }
    }

    /// Moves to the block for `count` integers of the current width, if that differs.
    fn resize(&mut self, count: usize) {
        let (old, new) = (layout(self.width(), self.len()), layout(self.width(), count));
        if old.size() != new.size() {
            // SAFETY: the block was allocated with `old`, as the header says; the new size is not zero.
            let moved = unsafe { realloc(self.blob.as_ptr(), old, new.size()) };
            let Some(blob) = NonNull::new(moved) else { handle_alloc_error(new) };
            self.blob = blob;
        }
    }

    /// Adds `v`. Returns whether it was absent.
    ///
    /// O(n) for the bytes that move; O(1) for a new maximum that fits the width. A value that needs a larger width
    /// rewrites the array. Panics at 2^32 integers.
    pub fn add(&mut self, v: i64) -> bool {
        if width_of(v) > self.width() {
            self.upgrade(v);
            return true;
        }
        let Err(at) = with_ints!(self, ints => search(ints, v)) else { return false };
        let (width, len) = (self.width(), self.len());
        assert!(len < u32::MAX as usize, "an intset counts its integers in 32 bits");
        self.resize(len + 1);
        // SAFETY: the block now has room for `len + 1` integers, of which the tail `at..len` moves up by one;
        // the vacated slot is aligned for its width.
        unsafe {
            let slot = self.first_int().add(at * width);
            slot.copy_to(slot.add(width), (len - at) * width);
            store(slot, width, v);
        }
        self.set_header(width, len + 1);
        true
    }

    /// Adds `v`, which is wider than every integer so far and therefore becomes the first or the last.
    fn upgrade(&mut self, v: i64) {
        let len = self.len();
        assert!(len < u32::MAX as usize, "an intset counts its integers in 32 bits");
        let width = width_of(v);
        let wide = Intset::allocate(width, len + 1);
        let front = usize::from(v < 0);
        // SAFETY: `wide` has `len + 1` slots: `front` or `len` for `v`, and `len` from `front` on for the rest.
        unsafe {
            for (i, x) in self.iter().enumerate() {
                store(wide.first_int().add((front + i) * width), width, x);
            }
            let at = if front == 1 { 0 } else { len };
            store(wide.first_int().add(at * width), width, v);
        }
        *self = wide;
    }

    /// Removes `v`. Returns whether it was present. O(n) for the bytes that move.
    pub fn remove(&mut self, v: i64) -> bool {
        let Ok(at) = with_ints!(self, ints => search(ints, v)) else { return false };
        let (width, len) = (self.width(), self.len());
        // SAFETY: slot `at` exists, and the tail behind it moves down by one.
        unsafe {
            let slot = self.first_int().add(at * width);
            slot.add(width).copy_to(slot, (len - at - 1) * width);
        }
        // The block is resized while the header still has its size.
        self.resize(len - 1);
        self.set_header(width, len - 1);
        true
    }

    /// Whether `v` is in the set. O(log n); O(1) for values beyond both ends.
    #[inline]
    pub fn contains(&self, v: i64) -> bool {
        with_ints!(self, ints => search(ints, v).is_ok())
    }

    /// The integer at `index` in ascending order. O(1), so that a uniform index is a uniform choice.
    #[inline]
    pub fn get(&self, index: usize) -> Option<i64> {
        with_ints!(self, ints => ints.get(index).map(|x| x.load()))
    }

    /// The smallest integer. O(1).
    #[inline]
    pub fn min(&self) -> Option<i64> {
        self.get(0)
    }

    /// The largest integer. O(1).
    #[inline]
    pub fn max(&self) -> Option<i64> {
        self.get(self.len().wrapping_sub(1))
    }

    /// The integers in ascending order, from both ends.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        // SAFETY: each arm asks for the width it has matched; there are no other widths.
        Iter(unsafe {
            match self.width() {
                2 => Width::W2(self.ints().iter()),
                4 => Width::W4(self.ints().iter()),
                _ => Width::W8(self.ints().iter()),
            }
        })
    }

    /// Calls `each` with every integer that is in both sets, ascending.
    ///
    /// O(s + s·log(l/s)) for a smaller set of s and a larger one of l integers: iterates over the smaller and gallops
    /// through the larger.
    pub fn intersect(&self, other: &Intset, mut each: impl FnMut(i64)) {
        let (small, large) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        with_ints!(large, ints => {
            let mut rest = ints;
            for v in small.iter() {
                let mut step = 1;
                // All of `rest[..step / 2]` is below `v`, so `step / 2 <= rest.len()`.
                while rest.get(step - 1).is_some_and(|x| x.load() < v) {
                    step *= 2;
                }
                let (from, to) = (step / 2, step.min(rest.len()));
                let at = from + rest[from..to].partition_point(|x| x.load() < v);
                rest = &rest[at..];
                match rest.first() {
                    Some(x) if x.load() == v => each(v),
                    Some(_) => {}
                    None => break,
                }
            }
        });
    }

    /// The bytes of an RDB file or DUMP payload.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the header and the integers are initialised.
        unsafe { slice::from_raw_parts(self.blob.as_ptr(), HEADER + self.width() * self.len()) }
    }

    /// A copy of `blob` if it is a valid intset: known width, exact length, ascending without duplicates.
    ///
    /// Any bytes are allowed; nothing is allocated before the length was checked. An empty set is valid.
    pub fn from_bytes_checked(blob: &[u8]) -> Option<Intset> {
        let (width, rest) = blob.split_first_chunk::<4>()?;
        let (count, ints) = rest.split_first_chunk::<4>()?;
        let width = u32::from_le_bytes(*width) as usize;
        let count = u32::from_le_bytes(*count) as usize;
        if !matches!(width, 2 | 4 | 8) || count.checked_mul(width)? != ints.len() {
            return None;
        }
        let set = Intset::allocate(width, count);
        // SAFETY: the block has room for `count` integers, which is what `ints` holds.
        unsafe { set.first_int().copy_from_nonoverlapping(ints.as_ptr(), ints.len()) };
        set.is_ascending().then_some(set)
    }

    fn is_ascending(&self) -> bool {
        with_ints!(self, ints => ints.is_sorted_by(|a, b| a.load() < b.load()))
    }

    /// The set of the integers of `sorted`, which must ascend without duplicates, in one allocation.
    ///
    /// O(n). Panics if they do not ascend.
    pub fn from_sorted(sorted: impl IntoIterator<Item = i64>) -> Intset {
        // The width is known only once all integers are.
        let ints: Vec<i64> = sorted.into_iter().collect();
        assert!(ints.is_sorted_by(|a, b| a < b), "the integers of a sorted source ascend");
        assert!(u32::try_from(ints.len()).is_ok(), "an intset counts its integers in 32 bits");
        let ends = [ints.first(), ints.last()].into_iter().flatten();
        let width = ends.map(|&v| width_of(v)).max().unwrap_or(2);
        let set = Intset::allocate(width, ints.len());
        for (i, v) in ints.into_iter().enumerate() {
            // SAFETY: the block has a slot of this width for each of the integers.
            unsafe { store(set.first_int().add(i * width), width, v) };
        }
        set
    }

    /// Bytes allocated.
    #[inline]
    pub fn bytes(&self) -> usize {
        layout(self.width(), self.len()).size()
    }

    /// Converts the set into one word whose low three bits are zero. Only [`Intset::from_raw`] frees it then.
    #[inline]
    pub(in crate::structures) fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).blob
    }

    /// Converts a word from [`Intset::into_raw`] back into its set.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and is converted back at most once.
    #[inline]
    pub(in crate::structures) unsafe fn from_raw(raw: NonNull<u8>) -> Intset {
        Intset { blob: raw }
    }
}

/// Writes `v` in `width` bytes.
///
/// # Safety
/// `width` is 2, 4 or 8; `slot` is aligned for it and may be written to.
#[inline]
unsafe fn store(slot: *mut u8, width: usize, v: i64) {
    // SAFETY: the caller's promise.
    unsafe {
        match width {
            2 => slot.cast::<i16>().write(Int::store(v)),
            4 => slot.cast::<i32>().write(Int::store(v)),
            _ => slot.cast::<i64>().write(Int::store(v)),
        }
    }
}

impl Drop for Intset {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the block is ours and was allocated with the layout that the header gives.
        unsafe { dealloc(self.blob.as_ptr(), layout(self.width(), self.len())) };
    }
}

impl Default for Intset {
    fn default() -> Intset {
        Intset::new()
    }
}

impl Clone for Intset {
    fn clone(&self) -> Intset {
        let copy = Intset::allocate(self.width(), self.len());
        let ints = &self.as_bytes()[HEADER..];
        // SAFETY: the copy has room for as many integers of the same width.
        unsafe { copy.first_int().copy_from_nonoverlapping(ints.as_ptr(), ints.len()) };
        copy
    }
}

impl PartialEq for Intset {
    /// Equal sets may differ in width.
    fn eq(&self, other: &Intset) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Intset {}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Intset {
    type Item = i64;
    type IntoIter = Iter<'a>;
    #[inline]
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The integers of an [`Intset`] in ascending order.
#[derive(Clone)]
pub struct Iter<'a>(Width<'a>);

#[derive(Clone)]
enum Width<'a> {
    W2(slice::Iter<'a, i16>),
    W4(slice::Iter<'a, i32>),
    W8(slice::Iter<'a, i64>),
}

/// Evaluates `$body` with `$it` bound to the iterator inside.
macro_rules! each_width {
    ($self:ident, $it:ident => $body:expr) => {
        match $self.0 {
            Width::W2(ref mut $it) => $body,
            Width::W4(ref mut $it) => $body,
            Width::W8(ref mut $it) => $body,
        }
    };
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        each_width!(self, it => it.next().map(|x| x.load()))
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<i64> {
        each_width!(self, it => it.nth(n).map(|x| x.load()))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = match &self.0 {
            Width::W2(it) => it.len(),
            Width::W4(it) => it.len(),
            Width::W8(it) => it.len(),
        };
        (n, Some(n))
    }

    #[inline]
    fn fold<B, F: FnMut(B, i64) -> B>(mut self, init: B, mut f: F) -> B {
        each_width!(self, it => it.fold(init, |b, x| f(b, x.load())))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<i64> {
        each_width!(self, it => it.next_back().map(|x| x.load()))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeSet;

    fn check(set: &Intset, model: &BTreeSet<i64>, seed: u64) {
        assert!(set.iter().eq(model.iter().copied()), "seed {seed}: {set:?} is not {model:?}");
        assert!(set.iter().rev().eq(model.iter().rev().copied()), "seed {seed}");
        assert!(set.is_ascending() && set.len() == model.len());
        assert_eq!((set.min(), set.max()), (model.first().copied(), model.last().copied()));
        let blob = set.as_bytes();
        assert_eq!(set.bytes(), size_class(blob.len()));
        assert_eq!(&Intset::from_bytes_checked(blob).expect("its own blob"), set);
    }

    /// Values close to the limits of the widths.
    fn value(rng: &mut SmallRng, widest: u32) -> i64 {
        let border = [0, 100, 1 << 15, -(1 << 15), 1 << 31, -(1 << 31), i64::MAX, i64::MIN];
        border[rng.random_range(0..widest as usize)].wrapping_add(rng.random_range(-40..40))
    }

    #[test]
    fn agrees_with_a_btree_set() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            let mut width = 2;
            for step in 0..400u32 {
                let v = value(&mut rng, 2 + step / 60);
                if rng.random_range(0..5) < 3 {
                    assert_eq!(set.add(v), model.insert(v), "seed {seed}");
                } else {
                    assert_eq!(set.remove(v), model.remove(&v), "seed {seed}");
                }
                check(&set, &model, seed);
                let probe = value(&mut rng, 8);
                assert_eq!(set.contains(probe), model.contains(&probe), "seed {seed}");
                assert!(set.width() >= width, "a set never narrows");
                width = set.width();
                let i = rng.random_range(0..set.len() + 2);
                assert_eq!(set.get(i), model.iter().nth(i).copied());
            }
            check(&set.clone(), &model, seed);
            check(&Intset::from_sorted(model.iter().copied()), &model, seed);
            // SAFETY: comes from `into_raw`, taken back once.
            check(&unsafe { Intset::from_raw(set.into_raw()) }, &model, seed);
        }
    }

    #[test]
    fn large_sets_grow_and_shrink_through_their_blocks() {
        let mut set = Intset::new();
        for v in 0..30_000 {
            assert!(set.add(v * 2));
        }
        assert_eq!((set.len(), set.width(), set.contains(59_998), set.contains(7)), (30_000, 4, true, false));
        for v in (0..30_000).rev() {
            assert!(set.remove(v * 2));
        }
        assert_eq!((set.bytes(), set.width()), (8, 4));
    }

    #[test]
    fn intersections_agree_and_commute() {
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut some = |n: usize, widest| -> BTreeSet<i64> {
                (0..rng.random_range(0..=n)).map(|_| value(&mut rng, widest)).collect()
            };
            let (a, b) = (some(8, 8), some(300, 1 + (seed % 8) as u32));
            let expected: Vec<i64> = a.intersection(&b).copied().collect();
            let (a, b) = (Intset::from_sorted(a), Intset::from_sorted(b));
            for (a, b) in [(&a, &b), (&b, &a)] {
                let mut found = Vec::new();
                a.intersect(b, |v| found.push(v));
                assert_eq!(found, expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn blobs_are_exact() {
        let mut set = Intset::from_sorted([-1, 1, 258]);
        assert_eq!(set.as_bytes(), b"\x02\0\0\0\x03\0\0\0\xff\xff\x01\0\x02\x01");
        assert_eq!(set.bytes(), 16);
        set.add(-40_000);
        set.remove(1);
        assert_eq!(set.as_bytes(), b"\x04\0\0\0\x03\0\0\0\xc0\x63\xff\xff\xff\xff\xff\xff\x02\x01\0\0");
        assert_eq!(Intset::new().as_bytes(), b"\x02\0\0\0\0\0\0\0");
        // From a Redis 7.0 server: `SADD k 1 2 -3 70000 9000000000`, then `DUMP k` between type and version.
        let dumped =
            b"\x08\0\0\0\x05\0\0\0\xfd\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\
                       \x70\x11\x01\0\0\0\0\0\0\x1a\x71\x18\x02\0\0\0";
        assert_eq!(Intset::from_sorted([-3, 1, 2, 70_000, 9_000_000_000]).as_bytes(), dumped);
    }

    #[test]
    fn hostile_blobs_are_refused() {
        let refused: [&[u8]; 10] = [
            b"",
            b"\x02\0\0\0",
            b"\x02\0\0\0\0\0\0",
            b"\x02\0\0\0\x01\0\0\0",
            b"\x02\0\0\0\x01\0\0\0\x01",
            b"\x02\0\0\0\x01\0\0\0\x01\0\x02",
            b"\x03\0\0\0\x01\0\0\0\x01\0\0",
            b"\0\0\0\0\x01\0\0\0",
            b"\x08\0\0\0\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
            b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0",
        ];
        for blob in refused {
            assert!(Intset::from_bytes_checked(blob).is_none(), "{blob:?}");
        }
        assert!(Intset::from_bytes_checked(b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0").is_none());
        for seed in 0..500 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut blob = Intset::from_sorted([-5, 3, 1 << 20]).as_bytes().to_vec();
            let at = rng.random_range(0..blob.len());
            blob[at] ^= 1 << rng.random_range(0..8);
            if let Some(set) = Intset::from_bytes_checked(&blob) {
                assert_eq!((set.as_bytes(), set.iter().count()), (&blob[..], 3), "seed {seed}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn unsorted_sources_are_a_mistake() {
        Intset::from_sorted([1, 1]);
    }
}
