//! A machine word that holds a pointer and, in its three low bits, a tag for the encoding.
//!
//! Collections are stored in their entries as such a word. The structures inside own their memory through a thin
//! pointer; [`Lent`] and [`LentMut`] restore the owner for as long as the word is borrowed.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, transmute};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::structures::intset::{self, Intset};
use crate::structures::listpack::{self, Listpack};

/// Mask of the bits that are zero in a pointer to 8-byte aligned memory.
const BITS: usize = 7;

/// A pointer to 8-byte aligned memory and a number below 8.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Tagged(NonNull<u8>);

const _: () = assert!(size_of::<Tagged>() == 8);

impl Tagged {
    #[inline]
    pub(super) fn new(pointer: NonNull<u8>, tag: usize) -> Tagged {
        assert!(pointer.addr().get() & BITS == 0 && tag <= BITS, "a tag needs an aligned pointer");
        Tagged(pointer.map_addr(|addr| addr | tag))
    }

    /// A word that owns `value` and has the tag `tag`.
    #[inline]
    pub(super) fn of<T: Thin>(value: T, tag: usize) -> Tagged {
        Tagged::new(value.into_raw(), tag)
    }

    /// Takes the value out of the word.
    ///
    /// # Safety
    /// The word comes from [`Tagged::of`] with a `T` and this tag, and is not used afterwards.
    #[inline]
    pub(super) unsafe fn take<T: Thin>(self, tag: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { T::from_raw(self.pointer(tag)) }
    }

    #[inline(always)]
    pub(super) fn tag(self) -> usize {
        self.0.addr().get() & BITS
    }

    /// Address that the word points to.
    #[inline(always)]
    pub(super) fn address(self) -> *const u8 {
        self.0.as_ptr().wrapping_byte_sub(self.tag())
    }

    /// The pointer of a word that carries `tag`.
    #[inline(always)]
    pub(super) fn pointer(self, tag: usize) -> NonNull<u8> {
        debug_assert_eq!(self.tag(), tag);
        assert!(tag <= BITS, "a tag is below 8");
        // SAFETY: `new` was given a pointer that is not null and aligned to 8 bytes, so that it is 8 or more.
        unsafe { NonNull::new_unchecked(self.0.as_ptr().wrapping_byte_sub(tag)) }
    }
}

/// A structure that owns its memory through one thin pointer to 8-byte aligned memory.
///
/// # Safety
/// `from_raw` reverses `into_raw`. Two values restored from one pointer may be used as long as the rules of
/// borrowing hold between them and only one of them is dropped.
pub(super) unsafe trait Thin: Sized {
    fn into_raw(self) -> NonNull<u8>;
    /// # Safety
    /// `raw` comes from `into_raw`.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;
}

macro_rules! thin {
    ($t:ty) => {
        // SAFETY: its only field is the pointer to a block that is aligned to 8 bytes.
        unsafe impl Thin for $t {
            #[inline(always)]
            fn into_raw(self) -> NonNull<u8> {
                <$t>::into_raw(self)
            }
            #[inline(always)]
            unsafe fn from_raw(raw: NonNull<u8>) -> Self {
                // SAFETY: the caller's promise.
                unsafe { <$t>::from_raw(raw) }
            }
        }
    };
}
thin!(Intset);
thin!(Listpack);

// SAFETY: a box is its pointer. One to less aligned memory gets no tag.
unsafe impl<T> Thin for Box<T> {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self)).cast()
    }
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Box::from_raw(raw.cast().as_ptr()) }
    }
}

/// A structure whose word is borrowed.
pub(super) struct Lent<'a, T> {
    value: ManuallyDrop<T>,
    word: PhantomData<&'a T>,
}

impl<'a, T: Thin> Lent<'a, T> {
    /// # Safety
    /// `word` carries `tag` and a pointer from `T::into_raw`; its owner is borrowed for 'a.
    #[inline(always)]
    pub(super) unsafe fn new(word: Tagged, tag: usize) -> Lent<'a, T> {
        // SAFETY: the caller's promise; the value is never dropped.
        let value = ManuallyDrop::new(unsafe { T::from_raw(word.pointer(tag)) });
        Lent { value, word: PhantomData }
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a> Lent<'a, Intset> {
    /// The bytes of the block, as files store them.
    #[inline]
    pub(super) fn bytes_of(&self) -> &'a [u8] {
        // SAFETY: as in `ints`.
        unsafe { transmute::<&[u8], &'a [u8]>(self.value.as_bytes()) }
    }

    /// The integers, ascending.
    #[inline]
    pub(super) fn ints(&self) -> intset::Iter<'a> {
        // SAFETY: the iterator reads the block, not the handle, and the block is borrowed for 'a.
        unsafe { transmute::<intset::Iter<'_>, intset::Iter<'a>>(self.value.iter()) }
    }
}

impl<'a> Lent<'a, Listpack> {
    /// The values in order.
    #[inline]
    pub(super) fn items(&self) -> listpack::Iter<'a> {
        // SAFETY: as in `ints`.
        unsafe { transmute::<listpack::Iter<'_>, listpack::Iter<'a>>(self.value.iter()) }
    }

    /// The block as it goes into a file.
    #[inline]
    pub(super) fn bytes_of(&self) -> &'a [u8] {
        // SAFETY: as in `ints`.
        unsafe { transmute::<&[u8], &'a [u8]>(self.value.as_bytes()) }
    }

    /// The values in pairs.
    #[inline]
    pub(super) fn pairs(&self) -> listpack::Pairs<'a> {
        // SAFETY: as in `ints`.
        unsafe { transmute::<listpack::Pairs<'_>, listpack::Pairs<'a>>(self.value.pairs()) }
    }

    /// The value at `pos`.
    #[inline]
    pub(super) fn at(&self, pos: listpack::Pos) -> listpack::Item<'a> {
        // SAFETY: as in `ints`.
        unsafe { transmute::<listpack::Item<'_>, listpack::Item<'a>>(self.value.get(pos)) }
    }
}

/// A structure whose word is mutably borrowed: if its memory moves, the new address is written to the word.
pub(super) struct LentMut<'a, T: Thin> {
    word: &'a mut Tagged,
    tag: usize,
    value: ManuallyDrop<T>,
}

impl<'a, T: Thin> LentMut<'a, T> {
    /// # Safety
    /// `word` carries `tag` and a pointer from `T::into_raw`. The value is not leaked.
    #[inline(always)]
    pub(super) unsafe fn new(word: &'a mut Tagged, tag: usize) -> LentMut<'a, T> {
        // SAFETY: the caller's promise.
        let value = ManuallyDrop::new(unsafe { T::from_raw(word.pointer(tag)) });
        LentMut { word, tag, value }
    }
}

impl<T: Thin> Deref for LentMut<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Thin> DerefMut for LentMut<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Thin> Drop for LentMut<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the value is not used after this.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        *self.word = Tagged::new(value.into_raw(), self.tag);
    }
}
