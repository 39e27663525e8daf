//! A block of memory that stores its own length in its first four bytes, little-endian.
//!
//! What always holds, and what the memory safety of structures made of blocks rests on: the block is allocated with
//! exactly `size_class(total)` bytes, `total` is true, and the bytes below it are initialised. No capacity is stored,
//! the owner is one thin pointer, and growing inside a size class moves nothing.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::listpack::entry::corrupt_position;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::alloc::size_class;

/// Bytes that the total takes.
const TOTAL: usize = size_of::<u32>();

/// Address of a block. Its low three bits are zero.
#[repr(transparent)]
pub(super) struct Block(NonNull<u8>);

const _: () = assert!(size_of::<Option<Block>>() == 8);

// SAFETY: a block is owned by its handle alone, and `&self` methods only read.
unsafe impl Send for Block {}
// SAFETY: as above: shared access never writes.
unsafe impl Sync for Block {}

/// The layout of a block with `total` bytes in use.
#[inline]
fn layout(total: usize) -> Layout {
    Layout::from_size_align(size_class(total), 8).expect("below 8 GB")
}

impl Block {
    /// Allocates a block of `total` bytes, of which only the total is written.
    ///
    /// # Safety
    /// The caller writes the other bytes before anything reads them.
    ///
    /// # Panics
    /// If `total` is too small for the total itself, or 4 GB or more.
    pub(super) unsafe fn allocate(total: usize) -> Block {
        assert!(total >= TOTAL, "a block says its size");
        let layout = layout(total);
        // SAFETY: no class is of zero size.
        match NonNull::new(unsafe { alloc(layout) }) {
            Some(start) => {
                let mut block = Block(start);
                block.set_total(total);
                block
            }
            None => handle_alloc_error(layout),
        }
    }

    /// A copy of `bytes`, which begin with their number.
    pub(super) fn copy_of(bytes: &[u8]) -> Block {
        // SAFETY: all bytes are written at once.
        let mut block = unsafe { Block::allocate(bytes.len()) };
        // SAFETY: the new block has room for `bytes`, which lie elsewhere.
        unsafe { block.0.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        // The total is written whatever `bytes` begin with.
        block.set_total(bytes.len());
        block
    }

    /// A block of `total` bytes, zeroed and then written by `fill`, which must also write the total and returns
    /// whether it succeeded.
    pub(super) fn from_filled(total: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Block> {
        // SAFETY: the bytes are zeroed next. The block is not dropped while its total may be untrue: if `fill`
        // panics, it leaks.
        let mut block = ManuallyDrop::new(unsafe { Block::allocate(total) });
        let start = block.0.as_ptr();
        // SAFETY: the block has `total` bytes, which are initialised before they become a slice; nothing
        // else refers to them.
        let bytes = unsafe {
            start.write_bytes(0, total);
            std::slice::from_raw_parts_mut(start, total)
        };
        let filled = fill(bytes);
        let valid = filled && block.total() == total;
        block.set_total(total);
        let block = ManuallyDrop::into_inner(block);
        valid.then_some(block)
    }

    /// Converts the block into its address. Only [`Block::from_raw`] frees it then.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }

    /// Converts an address from [`Block::into_raw`] back into its block.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and is converted back at most once.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<u8>) -> Block {
        Block(raw)
    }

    /// Bytes in use, including the total. O(1).
    #[inline]
    pub(super) fn total(&self) -> usize {
        // SAFETY: every block begins with its total.
        u32::from_le(unsafe { self.0.cast::<u32>().read() }) as usize
    }

    /// The layout of the allocation.
    #[inline]
    pub(super) fn layout(&self) -> Layout {
        layout(self.total())
    }

    /// Moves the block if its place is sparse.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        // SAFETY: the block is live, of this layout, and nobody else has its address.
        self.0 = unsafe { by.relocate(self.0, self.layout()) };
    }

    /// Bytes allocated. O(1).
    #[inline]
    pub(super) fn allocated(&self) -> usize {
        size_class(self.total())
    }

    /// The bytes in use.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        // SAFETY: the bytes below the total are allocated and initialised, and `&self` keeps them so.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.total()) }
    }

    /// The `N` bytes at offset `at`, which must lie in the block.
    #[inline]
    pub(super) fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        debug_assert!(at + N <= self.total());
        let bytes = self.as_bytes();
        *bytes[at..].first_chunk().unwrap_or_else(|| corrupt_position())
    }

    /// Overwrites the bytes at offset `at`, which must lie in the block behind the total.
    #[inline]
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at >= TOTAL && at + bytes.len() <= self.total(), "the bytes lie in the block");
        // SAFETY: they do; `&mut self` excludes that `bytes` do, too.
        unsafe { self.0.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    #[inline]
    fn set_total(&mut self, total: usize) {
        let total = u32::try_from(total).expect("a block is smaller than 4 GB");
        // SAFETY: every block has room for its total.
        unsafe { self.0.cast::<u32>().write(total.to_le()) }
    }

    /// Replaces the bytes `at..at + old` by `new` unwritten ones and returns their address. Everything behind them
    /// moves, and the block is reallocated if its size class changes.
    ///
    /// # Safety
    /// The caller writes the `new` bytes before anything reads them.
    ///
    /// # Panics
    /// If the range does not lie between the total and the end, or the block would exceed 4 GB.
    /// If the range does not lie between the total and the end, or the block would exceed 4 GB.
    #[inline]
    pub(super) unsafe fn splice(&mut self, at: usize, old: usize, new: usize) -> *mut u8 {
        let total = self.total();
        if at < TOTAL || at > total || old > total - at {
            corrupt_position();
        }
        let new_total = total - old + new;
        assert!(u32::try_from(new_total).is_ok(), "a block is smaller than 4 GB");
        let tail = total - at - old;
        // SAFETY: `at + old <= total` (checked above) and `at + new + tail == new_total`. The block is large enough
        // for the larger of both totals while the tail moves: it grows before, and shrinks after.
        unsafe {
            if size_class(new_total) > size_class(total) {
                self.reallocate(total, new_total);
            }
            if old != new {
                let window = self.0.as_ptr().add(at);
                window.add(new).copy_from(window.add(old), tail);
                if size_class(new_total) < size_class(total) {
                    self.reallocate(total, new_total);
                }
                self.set_total(new_total);
            }
            self.0.as_ptr().add(at)
        }
    }

    /// Moves the block from the size class of `old_total` to that of `new_total`.
    ///
    /// # Safety
    /// The block is allocated for `old_total`.
    #[cold]
    #[inline(never)]
    unsafe fn reallocate(&mut self, old_total: usize, new_total: usize) {
        let (old, new) = (layout(old_total), layout(new_total));
        // SAFETY: the caller vouches for the old layout; the new size is a class, so not zero.
        match NonNull::new(unsafe { realloc(self.0.as_ptr(), old, new.size()) }) {
            Some(start) => self.0 = start,
            None => handle_alloc_error(new),
        }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the block is live and was allocated with the layout of its total.
        unsafe { dealloc(self.0.as_ptr(), layout(self.total())) }
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Block::copy_of(self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splices_move_what_is_behind() {
        let mut block = Block::copy_of(b"\0\0\0\0abcdef");
        assert_eq!(block.total(), 10);
        // SAFETY: both bytes are written.
        unsafe { block.splice(5, 3, 2).copy_from_nonoverlapping(b"XY".as_ptr(), 2) };
        assert_eq!(&block.as_bytes()[4..], b"aXYef");
        // SAFETY: all hundred bytes are written.
        unsafe { block.splice(9, 0, 100).write_bytes(b'-', 100) };
        assert_eq!((block.total(), block.allocated()), (109, 112));
        assert_eq!(block.read(4), *b"aXYef---");
        block.write(4, b"A");
        let copy = block.clone();
        // SAFETY: no bytes are new.
        unsafe { block.splice(5, 104, 0) };
        assert_eq!(&block.as_bytes()[4..], b"A");
        assert_eq!(&copy.as_bytes()[4..10], b"AXYef-");
    }

    #[test]
    fn a_filled_block_says_its_size() {
        let fill = |says: u8| {
            Block::from_filled(6, |bytes| {
                assert_eq!(bytes, [0; 6]);
                bytes.copy_from_slice(&[says, 0, 0, 0, 7, 8]);
                true
            })
        };
        assert_eq!(fill(6).expect("true").as_bytes(), [6, 0, 0, 0, 7, 8]);
        assert!(fill(200).is_none());
    }

    #[test]
    #[should_panic(expected = "no entry")]
    fn a_range_outside_is_refused() {
        // SAFETY: it panics.
        unsafe { Block::copy_of(&[0; 8]).splice(6, 3, 0) };
    }
}
