//! A machine word that owns one of several structures: a thin pointer and, in its low bits, the number of its type.
//!
//! ```text
//!  OneOf<A, B, C>: address of A's memory | 0        View::First(&A)
//!                  address of B's memory | 1        View::Second(…)
//!                  address of C's memory | 2        View::Third(…)
//! ```
//!
//! The first type is represented by its address alone ([`Transparent`]), so that the word is a value of that type
//! while the number is 0, and is borrowed as one. The others are borrowed as [`Thin`] says: a box as a reference to
//! what is in it, a block through [`Lent`] or [`Place`].
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, transmute};
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::intset::Intset;
use super::listpack::{self, Listpack};
use super::scorepack::Scorepack;
use crate::stdx::alloc::relocation::Relocator;

/// Mask of the bits that are zero in a pointer to 8-byte aligned memory.
const BITS: usize = 7;

/// A structure that owns its memory through one thin pointer.
///
/// # Safety
/// - `into_raw` and `from_raw` are inverse to each other, and the pointer is to 8-byte aligned memory.
/// - `borrow` and `borrow_mut` show the value of that pointer, and nothing safe that is done with the result leaves the
///   word without a value of `Self`, whatever panics or is forgotten.
pub unsafe trait Thin: Sized + 'static {
    /// What a borrowed word shows.
    type Ref<'a>;
    /// What an exclusively borrowed word shows.
    type Mut<'a>;

    /// Converts the structure into its pointer, whose holder then owns it.
    fn into_raw(self) -> NonNull<u8>;

    /// Converts a pointer back into its structure.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and at most one value made from it is dropped.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;

    /// Shows the structure of a pointer.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and its owner is borrowed for `'a`.
    unsafe fn borrow<'a>(raw: NonNull<u8>) -> Self::Ref<'a>;

    /// Shows the structure of a word exclusively.
    ///
    /// # Safety
    /// `word` is the sum of `tag`, which is at most 7, and a pointer from `into_raw`, and owns the structure.
    unsafe fn borrow_mut<'a>(word: &'a mut NonNull<u8>, tag: usize) -> Self::Mut<'a>;

    /// The layout of the memory behind a pointer, from the global allocator, which may lie anywhere.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and its structure is live.
    unsafe fn layout(raw: NonNull<u8>) -> Layout;
}

/// A structure that is laid out as the pointer to its memory.
///
/// # Safety
/// Transparently a `NonNull<u8>`, the pointer that `into_raw` returns.
pub unsafe trait Transparent: Thin {}

/// The pointer of a word with this tag.
#[inline(always)]
fn without(word: NonNull<u8>, tag: usize) -> NonNull<u8> {
    debug_assert_eq!(word.addr().get() & BITS, tag);
    // SAFETY: the pointer is to memory aligned to 8 bytes and not null, so its address is 8 or more.
    unsafe { NonNull::new_unchecked(word.as_ptr().wrapping_byte_sub(tag)) }
}

/// The word of a pointer to 8-byte aligned memory.
#[inline(always)]
fn with(raw: NonNull<u8>, tag: usize) -> NonNull<u8> {
    debug_assert!(raw.addr().get() & BITS == 0 && tag <= BITS, "a tag needs an aligned pointer");
    raw.map_addr(|address| address | tag)
}

macro_rules! block {
    ($($block:ty),*) => {$(
        // SAFETY: its only field is the pointer to its memory, which is aligned to 8 bytes. `Lent` changes nothing, and
        // `Place` changes the word only while `with` runs, which writes the block's address back.
        unsafe impl Thin for $block {
            type Ref<'a> = Lent<'a, $block>;
            type Mut<'a> = Place<'a, $block>;

            #[inline(always)]
            fn into_raw(self) -> NonNull<u8> {
                <$block>::into_raw(self)
            }

            #[inline(always)]
            unsafe fn from_raw(raw: NonNull<u8>) -> Self {
                // SAFETY: the caller's promise.
                unsafe { <$block>::from_raw(raw) }
            }

            #[inline(always)]
            unsafe fn borrow<'a>(raw: NonNull<u8>) -> Lent<'a, $block> {
                // SAFETY: the caller's promise; the value is never dropped.
                let value = ManuallyDrop::new(unsafe { <$block>::from_raw(raw) });
                Lent { value, word: PhantomData }
            }

            #[inline(always)]
            unsafe fn borrow_mut<'a>(word: &'a mut NonNull<u8>, tag: usize) -> Place<'a, $block> {
                Place { word, tag, block: PhantomData }
            }

            unsafe fn layout(raw: NonNull<u8>) -> Layout {
                // SAFETY: the caller's promise; the value is never dropped.
                ManuallyDrop::new(unsafe { <$block>::from_raw(raw) }).layout()
            }
        }

        // SAFETY: the type is `repr(transparent)`, and its `into_raw` returns its only field.
        unsafe impl Transparent for $block {}

        const _: () = assert!(size_of::<$block>() == 8 && align_of::<$block>() == 8);
    )*};
}
block!(Intset, Listpack, Scorepack);

// SAFETY: a box is its pointer, whose alignment is checked. References to what is in it change no pointer.
unsafe impl<T: 'static> Thin for Box<T> {
    type Ref<'a> = &'a T;
    type Mut<'a> = &'a mut T;

    #[inline(always)]
    fn into_raw(self) -> NonNull<u8> {
        const { assert!(align_of::<T>() > BITS && size_of::<T>() > 0, "low bits must be free") };
        NonNull::from(Box::leak(self)).cast()
    }

    #[inline(always)]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Box::from_raw(raw.cast().as_ptr()) }
    }

    #[inline(always)]
    unsafe fn borrow<'a>(raw: NonNull<u8>) -> &'a T {
        // SAFETY: the pointer is the box's, which is borrowed for 'a by the caller's promise.
        unsafe { raw.cast().as_ref() }
    }

    #[inline(always)]
    unsafe fn borrow_mut(word: &mut NonNull<u8>, tag: usize) -> &mut T {
        // SAFETY: the pointer is that of a box, which the word owns, and the word is borrowed exclusively for 'a.
        unsafe { without(*word, tag).cast().as_mut() }
    }

    unsafe fn layout(_: NonNull<u8>) -> Layout {
        Layout::new::<T>()
    }
}

// SAFETY: there are no values.
unsafe impl Thin for Infallible {
    type Ref<'a> = Infallible;
    type Mut<'a> = Infallible;

    fn into_raw(self) -> NonNull<u8> {
        match self {}
    }

    #[inline(always)]
    unsafe fn from_raw(_: NonNull<u8>) -> Self {
        // SAFETY: no pointer comes from `into_raw`.
        unsafe { std::hint::unreachable_unchecked() }
    }

    #[inline(always)]
    unsafe fn borrow<'a>(_: NonNull<u8>) -> Self::Ref<'a> {
        // SAFETY: as above.
        unsafe { std::hint::unreachable_unchecked() }
    }

    #[inline(always)]
    unsafe fn borrow_mut(_: &mut NonNull<u8>, _: usize) -> Infallible {
        // SAFETY: as above.
        unsafe { std::hint::unreachable_unchecked() }
    }

    unsafe fn layout(_: NonNull<u8>) -> Layout {
        // SAFETY: as above.
        unsafe { std::hint::unreachable_unchecked() }
    }
}

/// A word that owns a value of one of these types. Two types suffice: the third is then absent.
///
/// What always holds: the word is a pointer from `into_raw` of the type that its low bits number, and owns that value.
#[repr(transparent)]
pub struct OneOf<A: Transparent, B: Thin, C: Thin = Infallible> {
    word: NonNull<u8>,
    owned: PhantomData<(A, B, C)>,
}

const _: () = assert!(size_of::<OneOf<Listpack, Box<u64>>>() == 8);

// SAFETY: the word owns its value alone, as a box would.
unsafe impl<A: Transparent + Send, B: Thin + Send, C: Thin + Send> Send for OneOf<A, B, C> {}
// SAFETY: a shared word shows its value shared.
unsafe impl<A: Transparent + Sync, B: Thin + Sync, C: Thin + Sync> Sync for OneOf<A, B, C> {}

/// What a borrowed [`OneOf`] owns.
pub enum View<'a, A, B: Thin, C: Thin> {
    /// A value of the first type.
    First(&'a A),
    /// A value of the second type.
    Second(B::Ref<'a>),
    /// A value of the third type.
    Third(C::Ref<'a>),
}

/// What an exclusively borrowed [`OneOf`] owns.
pub enum ViewMut<'a, A, B: Thin, C: Thin> {
    /// A value of the first type.
    First(&'a mut A),
    /// A value of the second type.
    Second(B::Mut<'a>),
    /// A value of the third type.
    Third(C::Mut<'a>),
}

/// What a [`OneOf`] owned.
pub enum Owned<A, B, C> {
    /// A value of the first type.
    First(A),
    /// A value of the second type.
    Second(B),
    /// A value of the third type.
    Third(C),
}

impl<A: Transparent, B: Thin, C: Thin> OneOf<A, B, C> {
    /// A word that owns a value of the first type.
    #[inline]
    pub fn first(value: A) -> Self {
        OneOf { word: value.into_raw(), owned: PhantomData }
    }

    /// A word that owns a value of the second type.
    #[inline]
    pub fn second(value: B) -> Self {
        OneOf { word: with(value.into_raw(), 1), owned: PhantomData }
    }

    /// A word that owns a value of the third type.
    #[inline]
    pub fn third(value: C) -> Self {
        OneOf { word: with(value.into_raw(), 2), owned: PhantomData }
    }

    #[inline(always)]
    fn tag(&self) -> usize {
        self.word.addr().get() & BITS
    }

    /// Whether the value is of the first type.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.tag() == 0
    }

    /// Address of the value's memory, for a prefetch.
    #[inline(always)]
    pub fn address(&self) -> *const u8 {
        self.word.as_ptr().wrapping_byte_sub(self.tag())
    }

    /// The value.
    #[inline(always)]
    pub fn view(&self) -> View<'_, A, B, C> {
        // SAFETY: the tag says what the word owns, which is borrowed with it. A word with the tag 0 is laid out as a
        // value of the first type.
        unsafe {
            match self.tag() {
                0 => View::First(&*ptr::from_ref(self).cast::<A>()),
                1 => View::Second(B::borrow(without(self.word, 1))),
                _ => View::Third(C::borrow(without(self.word, 2))),
            }
        }
    }

    /// The value, to be changed.
    #[inline(always)]
    pub fn view_mut(&mut self) -> ViewMut<'_, A, B, C> {
        // SAFETY: as in `view`; the borrow is exclusive. Whatever value of the first type is put in place of another is
        // a word with the tag 0.
        unsafe {
            match self.tag() {
                0 => ViewMut::First(&mut *ptr::from_mut(self).cast::<A>()),
                1 => ViewMut::Second(B::borrow_mut(&mut self.word, 1)),
                _ => ViewMut::Third(C::borrow_mut(&mut self.word, 2)),
            }
        }
    }

    /// Moves the value's memory if its place is sparse; what that refers to stays.
    pub fn relocate(&mut self, by: &mut Relocator) {
        let tag = self.tag();
        let raw = without(self.word, tag);
        // SAFETY: the tag says what the word owns, whose memory may lie anywhere: the word alone has its address.
        unsafe {
            let layout = match tag {
                0 => A::layout(raw),
                1 => B::layout(raw),
                _ => C::layout(raw),
            };
            self.word = with(by.relocate(raw, layout), tag);
        }
    }

    /// Takes the value out of the word.
    #[inline]
    pub fn into_owned(self) -> Owned<A, B, C> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the tag says what the word owns; the word is not used afterwards.
        unsafe {
            match this.tag() {
                0 => Owned::First(A::from_raw(this.word)),
                1 => Owned::Second(B::from_raw(without(this.word, 1))),
                _ => Owned::Third(C::from_raw(without(this.word, 2))),
            }
        }
    }
}

impl<A: Transparent, B: Thin, C: Thin> Drop for OneOf<A, B, C> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the tag says what the word owns; the word is not used afterwards.
        unsafe {
            match self.tag() {
                0 => drop(A::from_raw(self.word)),
                1 => drop(B::from_raw(without(self.word, 1))),
                _ => drop(C::from_raw(without(self.word, 2))),
            }
        }
    }
}

/// A block whose word is borrowed. It is never dropped, and nobody can take it out.
pub struct Lent<'a, T> {
    value: ManuallyDrop<T>,
    word: PhantomData<&'a T>,
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'a> Lent<'a, Listpack> {
    /// The values in order, for as long as the word is borrowed.
    #[inline]
    pub fn items(&self) -> listpack::Iter<'a> {
        // SAFETY: the iterator reads the block, not the handle, and the block is borrowed for 'a.
        unsafe { transmute::<listpack::Iter<'_>, listpack::Iter<'a>>(self.value.iter()) }
    }

    /// The bytes of the block, for as long as the word is borrowed.
    #[inline]
    pub fn bytes_of(&self) -> &'a [u8] {
        // SAFETY: as in `items`.
        unsafe { transmute::<&[u8], &'a [u8]>(self.value.as_bytes()) }
    }
}

/// The place of a block in a word that is borrowed exclusively. The word changes only while [`Place::with`] runs, so a
/// place may be forgotten.
pub struct Place<'a, T> {
    /// The sum of `tag` and a pointer from `T::into_raw`.
    word: &'a mut NonNull<u8>,
    tag: usize,
    block: PhantomData<&'a mut T>,
}

const _: () = assert!(!std::mem::needs_drop::<Place<'_, Listpack>>());

impl<T: Thin> Place<'_, T> {
    /// Calls `f` with the block, which may move, and writes its address back to the word, also if `f` panics.
    #[inline(always)]
    pub fn with<R>(self, f: impl FnOnce(&mut T) -> R) -> R {
        struct WriteBack<'a, T: Thin> {
            place: Place<'a, T>,
            value: ManuallyDrop<T>,
        }
        impl<T: Thin> Drop for WriteBack<'_, T> {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: the value is not used after this.
                let value = unsafe { ManuallyDrop::take(&mut self.value) };
                *self.place.word = with(value.into_raw(), self.place.tag);
            }
        }
        // SAFETY: the word owns a block of this type. It is not read before the block's address is written back, and
        // only the value that a word owns is dropped.
        let value = ManuallyDrop::new(unsafe { T::from_raw(without(*self.word, self.tag)) });
        let mut lent = WriteBack { place: self, value };
        f(&mut lent.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Word = OneOf<Listpack, Intset, Box<String>>;

    fn words() -> [Word; 3] {
        let string = Box::new(String::from("text"));
        [Word::first(Listpack::new()), Word::second(Intset::new()), Word::third(string)]
    }

    /// The contents of a word as text.
    fn text(word: &Word) -> String {
        match word.view() {
            View::First(pack) => pack.iter().filter_map(|item| item.int()).map(|n| n.to_string()).collect(),
            View::Second(ints) => ints.iter().map(|n| n.to_string()).collect(),
            View::Third(string) => string.clone(),
        }
    }

    fn grow(word: &mut Word) {
        match word.view_mut() {
            ViewMut::First(pack) => (0..100).for_each(|n| pack.push_back(n)),
            ViewMut::Second(place) => place.with(|ints| (0..100).for_each(|n| assert!(ints.add(n)))),
            ViewMut::Third(string) => *string = (0..100).map(|n| n.to_string()).collect(),
        }
    }

    #[test]
    fn a_word_is_what_was_put_in() {
        let numbers: String = (0..100).map(|n| n.to_string()).collect();
        for mut word in words() {
            let first = word.is_first();
            grow(&mut word);
            assert_eq!(text(&word), numbers);
            assert_eq!(word.address().addr() & BITS, 0);
            match word.into_owned() {
                Owned::First(pack) => assert!(first && pack.len() == 100),
                Owned::Second(ints) => assert!(!first && ints.len() == 100),
                Owned::Third(string) => assert!(!first && *string == numbers),
            }
        }
    }

    #[test]
    fn a_panic_leaves_the_block_in_the_word() {
        let mut word = Word::second(Intset::new());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if let ViewMut::Second(place) = word.view_mut() {
                place.with(|ints| {
                    (0..1000).for_each(|n| assert!(ints.add(n)));
                    panic!("halfway");
                });
            }
        }));
        assert!(caught.is_err());
        assert!(matches!(word.view(), View::Second(ints) if ints.len() == 1000));
    }

    #[test]
    fn a_moved_word_is_the_same() {
        let numbers: String = (0..100).map(|n| n.to_string()).collect();
        for mut word in words() {
            grow(&mut word);
            let (before, mut by) = (word.address(), Relocator::of_everything());
            word.relocate(&mut by);
            assert!(word.address() != before && by.moved == 1);
            assert_eq!(text(&word), numbers);
        }
    }

    #[test]
    fn blocks_may_be_exchanged() {
        let [mut word, ..] = words();
        grow(&mut word);
        let mut other = Listpack::new();
        if let ViewMut::First(pack) = word.view_mut() {
            std::mem::swap(pack, &mut other);
        }
        assert_eq!((text(&word).as_str(), other.len()), ("", 100));
    }
}
