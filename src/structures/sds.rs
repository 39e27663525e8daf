//! A simple dynamic string: bytes of any kind behind one thin pointer.
//!
//! ```text
//!            ┌───────────┬───────────┬──────────────┬─────────────────┐
//!  Sds ────► │ len usize │ cap usize │ bytes[0..len]│ spare (cap-len) │
//!            └───────────┴───────────┴──────────────┴─────────────────┘
//! ```
//!
//! What always holds: `len <= cap <= isize::MAX - 16`; the first `len` bytes are initialised; `cap` is zero
//! exactly when the pointer is the address of [`EMPTY`], which is never written and never freed;
//! otherwise the block has `16 + cap` bytes, 8-byte alignment, and one owner.
//!
//! A `Vec<u8>` takes three words where it is stored. This string takes one, so that a value in an entry or a node of
//! a collection costs one pointer, and so does `Option<Sds>`. Length and capacity are stored with the bytes, as in
//! Salvatore Sanfilippo's SDS library, which is also the source of the growth rule: an append that does not fit
//! doubles the string below 1 MB, and adds 1 MB above.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::alloc::size_class;

/// The part of a block before the bytes.
#[repr(C, align(8))]
struct Header {
    len: usize,
    cap: usize,
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 16);

/// The target of every string without capacity, so that reading the header needs no branch.
static EMPTY: Header = Header { len: 0, cap: 0 };

/// Strings shorter than this double when they grow; longer ones grow by this many bytes.
const GREEDY_LIMIT: usize = 1 << 20;

/// Largest capacity: the block must fit in `isize::MAX` bytes, rounded down to its alignment.
const MAX_CAPACITY: usize = isize::MAX as usize - 7 - HEADER;

/// Bytes of a shared string's block: two counts and the pointer.
const COUNTED: usize = 3 * size_of::<usize>();

/// Blocks of more bytes than this are rounded to pages by the allocator.
const LARGEST_SMALL_BLOCK: usize = 32 << 10;
const PAGE: usize = 4096;

/// A growable string of bytes, one pointer wide.
///
/// Binary safe; `len` is O(1); an empty string allocates nothing. Dereferences to `[u8]`.
pub struct Sds {
    head: NonNull<Header>,
}

const _: () = assert!(size_of::<Option<Sds>>() == 8);

// SAFETY: an `Sds` is the only owner of its block, and hands out its bytes under the borrow rules of
// `Vec<u8>`. The shared `EMPTY` is never written.
unsafe impl Send for Sds {}
// SAFETY: as above: `&Sds` only reads.
unsafe impl Sync for Sds {}

#[cold]
fn capacity_overflow() -> ! {
    panic!("capacity overflow");
}

/// Bytes to allocate for a block with space for `cap` bytes that need not grow.
fn exact_block(cap: usize) -> usize {
    let n = cap + HEADER;
    if n <= LARGEST_SMALL_BLOCK { size_class(n) } else { n.next_multiple_of(PAGE) }
}

/// Bytes to allocate for a block with space for `needed` bytes that is expected to grow.
fn greedy_block(needed: usize) -> usize {
    let wanted = if needed < GREEDY_LIMIT { needed * 2 } else { needed.saturating_add(GREEDY_LIMIT) };
    size_class(wanted.min(MAX_CAPACITY) + HEADER)
}

fn layout(block: usize) -> Layout {
    match Layout::from_size_align(block, align_of::<Header>()) {
        Ok(layout) => layout,
        Err(_) => capacity_overflow(),
    }
}

impl Sds {
    /// The empty string. Allocates nothing.
    #[inline]
    pub const fn new() -> Sds {
        // SAFETY: the address of a static is not null.
        Sds { head: unsafe { NonNull::new_unchecked((&raw const EMPTY).cast_mut()) } }
    }

    /// A copy of `bytes` in the smallest block that holds it.
    ///
    /// Panics above `isize::MAX - 23` bytes, as `Vec` does; O(n).
    #[inline]
    pub fn from_slice(bytes: &[u8]) -> Sds {
        let mut s = Sds::with_capacity(bytes.len());
        // SAFETY: the capacity is at least `bytes.len()`; a fresh block and a borrowed slice are disjoint.
        unsafe {
            s.bytes_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            s.set_len(bytes.len());
        }
        s
    }

    /// An empty string with space for at least `cap` bytes, rounded up only to the allocator's size class.
    ///
    /// Allocates nothing for 0. Panics above `isize::MAX - 23` bytes.
    pub fn with_capacity(cap: usize) -> Sds {
        if cap == 0 {
            return Sds::new();
        }
        if cap > MAX_CAPACITY {
            capacity_overflow();
        }
        let layout = layout(exact_block(cap));
        // SAFETY: the layout's size is at least the header's 16 bytes.
        let block = unsafe { alloc(layout) }.cast::<Header>();
        let Some(head) = NonNull::new(block) else { handle_alloc_error(layout) };
        // SAFETY: the block is fresh, aligned for a header and larger than one.
        unsafe { head.write(Header { len: 0, cap: layout.size() - HEADER }) };
        Sds { head }
    }

    /// Moves a shared string and its reference count, if nothing else shares it and their places are sparse.
    pub fn relocate_shared(shared: &mut Arc<Sds>, by: &mut Relocator) {
        let Some(string) = Arc::get_mut(shared) else { return };
        if string.capacity() > 0 {
            // SAFETY: with capacity, the block is ours, of this layout, and nobody else has its address.
            let block = unsafe { by.relocate(string.head.cast(), layout(HEADER + string.capacity())) };
            string.head = block.cast();
        }
        if by.asks_to_move(&*string, COUNTED) {
            *shared = Arc::new(std::mem::take(string));
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: `head` is `EMPTY` or our live block, both of which begin with a header.
        unsafe { self.head.as_ref() }
    }

    /// Address of the first byte.
    #[inline]
    fn bytes_ptr(&self) -> *mut u8 {
        // SAFETY: `EMPTY` and every block have at least `HEADER` bytes, so that this stays in bounds or
        // one past the end.
        unsafe { self.head.as_ptr().cast::<u8>().add(HEADER) }
    }

    /// Number of bytes. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        self.header().len
    }

    /// Number of bytes that fit without another allocation.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.header().cap
    }

    /// Whether the length is zero.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.bytes_ptr(), self.len()) }
    }

    /// The bytes, mutable.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively. For `EMPTY` the slice has no byte.
        unsafe { std::slice::from_raw_parts_mut(self.bytes_ptr(), self.len()) }
    }

    /// Declares the first `len` bytes to be the content.
    ///
    /// # Safety
    /// `len <= self.capacity()`, and the first `len` bytes of the block are initialised.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity());
        if self.capacity() != 0 {
            // SAFETY: with capacity, the block is ours and not `EMPTY`.
            unsafe { self.head.as_mut().len = len };
        }
    }

    /// The space behind the content, for a reader to fill. [`Sds::set_len`] then makes it part of the content.
    #[inline]
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let (len, cap) = (self.len(), self.capacity());
        // SAFETY: `len..cap` lies within the block, is borrowed exclusively, and may be uninitialised.
        unsafe { std::slice::from_raw_parts_mut(self.bytes_ptr().add(len).cast(), cap - len) }
    }

    /// Reallocates the block to `block` bytes. The content must fit.
    fn resize_block(&mut self, block: usize) {
        let (len, cap) = (self.len(), self.capacity());
        let new = layout(block);
        debug_assert!(block >= HEADER + len && block > HEADER);
        let moved = if cap == 0 {
            // SAFETY: the layout's size is not zero.
            unsafe { alloc(new) }
        } else {
            // SAFETY: with capacity, the block is ours and has `HEADER + cap` bytes; `layout` has checked
            // that the new size does not overflow.
            unsafe { realloc(self.head.as_ptr().cast(), layout(HEADER + cap), new.size()) }
        };
        let Some(head) = NonNull::new(moved.cast::<Header>()) else { handle_alloc_error(new) };
        // SAFETY: the block is ours, aligned, and at least `HEADER` bytes long; its first
        // `HEADER + len` bytes (or none that count, when `len` is zero) were carried over.
        unsafe { head.write(Header { len, cap: new.size() - HEADER }) };
        self.head = head;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, extra: usize, greedy: bool) {
        match self.len().checked_add(extra) {
            Some(needed) if needed <= MAX_CAPACITY => {
                self.resize_block(if greedy { greedy_block(needed) } else { exact_block(needed) });
            }
            _ => capacity_overflow(),
        }
    }

    /// Makes space for `extra` more bytes and, except for the first allocation, for as many again: twice the new
    /// length below 1 MB, 1 MB more above. Amortised O(1) per byte appended.
    ///
    /// The first allocation is exact, because most strings are written once.
    #[inline]
    pub fn reserve(&mut self, extra: usize) {
        if extra > self.capacity() - self.len() {
            self.grow(extra, self.capacity() > 0);
        }
    }

    /// Makes space for `extra` more bytes, rounded up only to the allocator's size class.
    #[inline]
    pub fn reserve_exact(&mut self, extra: usize) {
        if extra > self.capacity() - self.len() {
            self.grow(extra, false);
        }
    }

    /// Adds `bytes` at the end. Amortised O(n) in the bytes added.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let len = self.len();
        // SAFETY: `reserve` made room for `bytes.len()` behind `len`; `bytes` cannot lie in our block,
        // which is borrowed exclusively.
        unsafe {
            self.bytes_ptr().add(len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.set_len(len + bytes.len());
        }
    }

    /// Makes space for `extra` more bytes, like [`Sds::reserve`]. Returns whether all bytes behind the end are zero.
    ///
    /// A large block is allocated as zeros, which the system supplies without cost for pages that are never touched.
    fn reserve_zeros(&mut self, extra: usize) -> bool {
        /// Below this size, clearing the bytes costs less.
        const LARGE: usize = 1 << 20;
        let (len, cap) = (self.len(), self.capacity());
        // The existing bytes must be copied, which is worthwhile if they are the smaller part.
        if extra < LARGE || extra <= cap - len || len > extra {
            self.reserve(extra);
            return false;
        }
        let needed = len.checked_add(extra).filter(|&needed| needed <= MAX_CAPACITY);
        let Some(needed) = needed else { capacity_overflow() };
        let new = layout(if cap > 0 { greedy_block(needed) } else { exact_block(needed) });
        // SAFETY: the layout's size is not zero.
        let block = unsafe { alloc_zeroed(new) };
        let Some(head) = NonNull::new(block.cast::<Header>()) else { handle_alloc_error(new) };
        // SAFETY: the block is aligned and has room for a header and `needed` bytes, of which `len` are ours; the old
        // block is another one, and with capacity it is ours to free.
        unsafe {
            head.write(Header { len, cap: new.size() - HEADER });
            let bytes = head.as_ptr().cast::<u8>().add(HEADER);
            bytes.copy_from_nonoverlapping(self.bytes_ptr(), len);
            if cap > 0 {
                dealloc(self.head.as_ptr().cast(), layout(HEADER + cap));
            }
        }
        self.head = head;
        true
    }

    /// Adds `n` zero bytes at the end.
    pub fn append_zeros(&mut self, n: usize) {
        let cleared = self.reserve_zeros(n);
        let len = self.len();
        // SAFETY: room for `n` bytes behind `len` was made; what is there is zero or is made so.
        unsafe {
            if !cleared {
                self.bytes_ptr().add(len).write_bytes(0, n);
            }
            self.set_len(len + n);
        }
    }

    /// Overwrites the bytes from `offset` on with `bytes`. A gap between the end and `offset` is filled with zeros.
    ///
    /// Does nothing if `bytes` is empty. Panics if the new length would exceed the largest capacity, so callers must
    /// limit `offset`.
    pub fn set_range(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(end) = offset.checked_add(bytes.len()) else { capacity_overflow() };
        let len = self.len();
        let cleared = end > len && self.reserve_zeros(end - len);
        // SAFETY: the capacity is at least `end`; the gap `len..offset` and the range `offset..end` lie
        // within it, and with what lay before them everything up to the new length is initialised.
        unsafe {
            if offset > len && !cleared {
                self.bytes_ptr().add(len).write_bytes(0, offset - len);
            }
            self.bytes_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.set_len(end.max(len));
        }
    }

    /// Keeps the first `len` bytes. Does nothing if there are fewer. The capacity stays.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            // SAFETY: a prefix of initialised bytes.
            unsafe { self.set_len(len) };
        }
    }

    /// Removes every byte. The capacity stays.
    #[inline]
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Frees the spare capacity, as far as the allocator's size classes allow.
    pub fn shrink_to_fit(&mut self) {
        if self.is_empty() {
            *self = Sds::new();
        } else {
            let block = exact_block(self.len());
            if block < HEADER + self.capacity() {
                self.resize_block(block);
            }
        }
    }

    /// Bytes of the block: header, content and spare. Zero if nothing is allocated.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        match self.capacity() {
            0 => 0,
            cap => HEADER + cap,
        }
    }

    /// Converts the string into one word whose low three bits are zero.
    ///
    /// Only [`Sds::from_raw`] frees it then.
    #[inline]
    pub fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).head.cast()
    }

    /// Converts a word from [`Sds::into_raw`] back into its string.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and is converted back at most once.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<u8>) -> Sds {
        Sds { head: raw.cast() }
    }
}

impl Drop for Sds {
    #[inline]
    fn drop(&mut self) {
        let cap = self.capacity();
        if cap != 0 {
            // SAFETY: with capacity, the block is ours, was allocated with `HEADER + cap` bytes at the
            // header's alignment (a layout that was valid then), and is not used again.
            unsafe {
                let layout = Layout::from_size_align_unchecked(HEADER + cap, align_of::<Header>());
                dealloc(self.head.as_ptr().cast(), layout);
            }
        }
    }
}

impl Default for Sds {
    #[inline]
    fn default() -> Sds {
        Sds::new()
    }
}

impl Clone for Sds {
    #[inline]
    fn clone(&self) -> Sds {
        Sds::from_slice(self)
    }
}

impl Deref for Sds {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for Sds {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for Sds {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// `Hash`, `Eq` and `Ord` below are those of the slice, as `Borrow` requires.
impl Borrow<[u8]> for Sds {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Sds {
    #[inline]
    fn from(bytes: &[u8]) -> Sds {
        Sds::from_slice(bytes)
    }
}

impl fmt::Debug for Sds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Sds {
    #[inline]
    fn eq(&self, other: &Sds) -> bool {
        **self == **other
    }
}

impl Eq for Sds {}

impl PartialEq<[u8]> for Sds {
    #[inline]
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialOrd for Sds {
    #[inline]
    fn partial_cmp(&self, other: &Sds) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sds {
    #[inline]
    fn cmp(&self, other: &Sds) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Sds {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A string to be stored, which may still be borrowed from a request.
pub enum Value<'a> {
    /// A string that is the decimal text of an integer.
    Int(i64),
    /// A string, to be copied.
    Bytes(&'a [u8]),
    /// A string that is on its own already.
    Shared(Arc<Sds>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    fn check(s: &Sds) {
        assert!(s.len() <= s.capacity());
        assert_eq!(s.capacity() == 0, std::ptr::eq(s.head.as_ptr(), &raw const EMPTY));
        let block = s.allocated_bytes();
        assert!(block == 0 || block == size_class(block) || block.is_multiple_of(PAGE));
        assert_eq!((EMPTY.len, EMPTY.cap), (0, 0));
    }

    #[test]
    fn sizes_and_growth() {
        assert_eq!(size_of::<Sds>(), 8);
        assert_eq!(Sds::new().allocated_bytes(), 0);
        assert_eq!(Sds::from_slice(&[1; 8]).allocated_bytes(), 24);
        assert_eq!(Sds::from_slice(&[1; 9]).allocated_bytes(), 32);
        assert_eq!(Sds::from_slice(&vec![1; 40_000]).allocated_bytes(), 40_960);
        let mut s = Sds::from_slice(b"hello");
        s.append(b" world");
        assert_eq!(s.capacity(), size_class(2 * 11 + 16) - 16);
        let mut big = Sds::from_slice(&vec![7; GREEDY_LIMIT]);
        let needed = big.capacity() + 1;
        big.append_zeros(needed - big.len());
        assert_eq!(big.capacity(), size_class(needed + GREEDY_LIMIT + 16) - 16);
        big.truncate(3);
        big.shrink_to_fit();
        assert_eq!((big.as_slice(), big.allocated_bytes()), (&[7u8, 7, 7][..], 24));
    }

    /// Strings that grow by much are zeroed, even if the allocator returns a block that was in use before.
    #[test]
    fn much_growth_is_zeros() {
        const MUCH: usize = 3 << 20;
        for before in [0, 1, 100, MUCH] {
            for by_range in [false, true] {
                drop(Sds::from_slice(&vec![0xee; before + MUCH + 1]));
                let mut s = Sds::from_slice(&vec![7; before]);
                if by_range {
                    s.set_range(before + MUCH - 1, b"\0");
                } else {
                    s.append_zeros(MUCH);
                }
                assert_eq!(s.len(), before + MUCH);
                assert!(s[..before].iter().all(|&byte| byte == 7));
                assert!(s[before..].iter().all(|&byte| byte == 0));
                s.append(b"end");
                assert!(s.ends_with(b"\0end") && s.capacity() >= s.len());
            }
        }
    }

    #[test]
    fn the_empty_string_stays_unwritten() {
        let mut s = Sds::default();
        s.clear();
        s.truncate(5);
        s.append(b"");
        s.append_zeros(0);
        s.set_range(1 << 40, b"");
        s.shrink_to_fit();
        s.as_mut_slice().fill(1);
        assert!(s.spare_capacity_mut().is_empty());
        check(&s);
        // SAFETY: comes from `into_raw`, taken back once.
        let s = unsafe { Sds::from_raw(s.into_raw()) };
        check(&s.clone());
        assert_eq!(s, Sds::from_slice(b""));
    }

    #[test]
    #[should_panic(expected = "capacity overflow")]
    fn absurd_sizes_panic() {
        Sds::from_slice(b"x").reserve(isize::MAX as usize);
    }

    #[test]
    #[should_panic(expected = "capacity overflow")]
    fn absurd_offsets_panic() {
        Sds::new().set_range(usize::MAX, b"x");
    }

    #[test]
    fn agrees_with_vec() {
        for seed in 0..20u64 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut s, mut v) = (Sds::new(), Vec::new());
            for step in 0..500 {
                let bytes: Vec<u8> = (0..rng.random_range(0..80)).map(|_| rng.random()).collect();
                match rng.random_range(0..12) {
                    0..4 => {
                        s.append(&bytes);
                        v.extend_from_slice(&bytes);
                    }
                    4 => {
                        s.append_zeros(bytes.len());
                        v.resize(v.len() + bytes.len(), 0);
                    }
                    5 => {
                        let offset = rng.random_range(0..=v.len() + 50);
                        s.set_range(offset, &bytes);
                        if !bytes.is_empty() {
                            v.resize(v.len().max(offset + bytes.len()), 0);
                            v[offset..offset + bytes.len()].copy_from_slice(&bytes);
                        }
                    }
                    6 => {
                        let len = rng.random_range(0..=v.len() + 1);
                        s.truncate(len);
                        v.truncate(len);
                    }
                    7 => s.shrink_to_fit(),
                    8 => {
                        s.reserve(bytes.len());
                        for (slot, byte) in s.spare_capacity_mut().iter_mut().zip(&bytes) {
                            slot.write(*byte);
                        }
                        // SAFETY: the loop has just initialised these bytes.
                        unsafe { s.set_len(s.len() + bytes.len()) };
                        v.extend_from_slice(&bytes);
                    }
                    9 => {
                        s.reserve_exact(bytes.len());
                        assert!(s.capacity() >= v.len() + bytes.len());
                        // SAFETY: comes from `into_raw`, taken back once.
                        s = unsafe { Sds::from_raw(s.into_raw()) };
                    }
                    10 if step % 10 == 0 => {
                        s.clear();
                        v.clear();
                    }
                    _ => {
                        let copy = s.clone();
                        assert_eq!(copy, s);
                        assert_eq!(copy.cmp(&Sds::from_slice(&bytes)), v.cmp(&bytes));
                        s = copy;
                    }
                }
                check(&s);
                assert_eq!(s.as_slice(), v, "seed {seed}, step {step}");
            }
            assert_eq!(format!("{:?}", Sds::from_slice(b"a\0\"")), r#"b"a\x00\"""#);
        }
    }
}
