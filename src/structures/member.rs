//! A member of a set, as an element of a hash table: a text in a block of its own.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::dict::Element;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::alloc::size_class;

/// A length byte of this value says that the length follows in eight bytes.
const LONG: u8 = u8::MAX;
const LONG_PREFIX: usize = 1 + size_of::<u64>();

/// A member in a hash table: `[length u8][bytes]`, or `[255][length u64][bytes]`.
pub struct Member(NonNull<u8>);

// SAFETY: a member owns its block alone and never changes it.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl Member {
    /// Bytes before a text of `len` bytes.
    #[inline]
    const fn prefix(len: usize) -> usize {
        if len < LONG as usize { 1 } else { LONG_PREFIX }
    }

    #[inline]
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(size_class(Member::prefix(len) + len), 1).expect("a text fits in memory")
    }

    /// A member with this text, in a block of its own.
    pub fn new(text: &[u8]) -> Member {
        let layout = Member::layout(text.len());
        // SAFETY: no class is of zero size.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the block has room for the prefix and the text.
        unsafe {
            if text.len() < LONG as usize {
                block.write(text.len() as u8);
            } else {
                block.write(LONG);
                block.add(1).cast::<u64>().write_unaligned(text.len() as u64);
            }
            let bytes = block.add(Member::prefix(text.len()));
            bytes.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len());
        }
        Member(block)
    }

    /// Bytes of the block of a member whose text has `len` bytes.
    pub fn block_bytes(len: usize) -> usize {
        Member::layout(len).size()
    }

    /// The same member, in another place if its own is sparse.
    pub fn relocated(self, by: &mut Relocator) -> Member {
        let this = ManuallyDrop::new(self);
        // SAFETY: the member owns its block, of this layout, and is not used again.
        Member(unsafe { by.relocate(this.0, Member::layout(this.text().len())) })
    }

    /// The member's text.
    #[inline]
    pub fn text(&self) -> &[u8] {
        // SAFETY: the member is alive while it is borrowed.
        unsafe { Member::key(self.0) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let layout = Member::layout(self.text().len());
        // SAFETY: the block was allocated with the layout of its text.
        unsafe { dealloc(self.0.as_ptr(), layout) };
    }
}

// SAFETY: the pointer is the allocator's; the text stays in the block, which never changes.
unsafe impl Element for Member {
    #[inline(always)]
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }

    #[inline(always)]
    unsafe fn from_raw(raw: NonNull<u8>) -> Member {
        Member(raw)
    }

    #[inline(always)]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the member is alive during 'a, and its prefix tells how long the text behind it is.
        unsafe {
            let len = match raw.read() {
                LONG => raw.add(1).cast::<u64>().read_unaligned() as usize,
                len => usize::from(len),
            };
            std::slice::from_raw_parts(raw.add(Member::prefix(len)).as_ptr(), len)
        }
    }
}
