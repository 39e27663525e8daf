//! Iteration over all elements: by reference, by value, or with removal of some.
//!
//! Elements lie scattered in memory, so following one pointer after the other would wait for each. The elements of
//! the next bucket are therefore prefetched while those of the current one are returned.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::table::{At, Bits, Bucket, Table, chain};
use super::{Borrowed, Dict, Element};
use crate::stdx::prefetch::prefetch;

/// Position in an iteration over all elements, table 0 first. It borrows nothing: see [`Walk::next`].
struct Walk {
    /// Remaining slots of the current bucket.
    bits: Bits,
    bucket: NonNull<Bucket>,
    /// Next bucket of the current table, and the number of buckets left.
    next: NonNull<Bucket>,
    left: usize,
    /// First bucket of table 1 and its number of buckets, until table 1 becomes the current one.
    other: (NonNull<Bucket>, usize),
}

/// Distance in buckets at which lines are prefetched; their elements are prefetched one bucket ahead.
const AHEAD: usize = 4;

impl Walk {
    fn new<E: Element>(dict: &Dict<E>) -> Walk {
        let [first, second] = &dict.tables;
        let next = first.head(dict.moved);
        Walk {
            bits: Bits::NONE,
            // A bucket without a child, so that the first step continues with `next`.
            bucket: Table::unallocated().head(0),
            next,
            left: first.len() - dict.moved,
            other: (second.head(0), second.len()),
        }
    }

    /// The next occupied slot.
    ///
    /// # Safety
    /// The dict's tables are alive, and no element was inserted, removed or moved since the iteration began.
    /// (Elements already returned may have been dropped.)
    #[inline(always)]
    unsafe fn next(&mut self) -> Option<At> {
        loop {
            if let Some(slot) = self.bits.next() {
                return Some(At { bucket: self.bucket, slot });
            }
            // SAFETY: the caller keeps the tables alive and unchanged.
            unsafe { self.next_bucket()? };
        }
    }

    /// # Safety
    /// As for [`Walk::next`].
    #[inline]
    unsafe fn next_bucket(&mut self) -> Option<()> {
        // SAFETY: `bucket` and `next` are buckets of live tables; `next` only while some are left.
        unsafe {
            if let Some(child) = self.bucket.as_ref().child() {
                self.bucket = child;
            } else {
                if self.left == 0 {
                    (self.next, self.left) = std::mem::replace(&mut self.other, (self.next, 0));
                    if self.left == 0 {
                        return None;
                    }
                }
                self.bucket = self.next;
                self.left -= 1;
                self.next = self.next.add(1);
                if self.left > 0 {
                    self.next.as_ref().prefetch_contents();
                    prefetch(self.next.as_ptr().wrapping_add(AHEAD));
                }
                if let Some(child) = self.bucket.as_ref().child() {
                    child.as_ref().prefetch_contents();
                }
            }
            self.bits = self.bucket.as_ref().occupied();
        }
        Some(())
    }
}

/// The iterator of [`Dict::iter`].
pub struct Iter<'a, E: Element> {
    walk: Walk,
    left: usize,
    dict: PhantomData<&'a Dict<E>>,
}

impl<'a, E: Element> Iterator for Iter<'a, E> {
    type Item = Borrowed<'a, E>;

    #[inline]
    fn next(&mut self) -> Option<Borrowed<'a, E>> {
        // SAFETY: the dict is borrowed, so its tables stay as they are.
        let at = unsafe { self.walk.next()? };
        self.left = self.left.saturating_sub(1);
        // SAFETY: the slot is occupied and its element lives as long as the dict is borrowed.
        Some(unsafe { Borrowed::new(at.get()) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<E: Element> FusedIterator for Iter<'_, E> {}

impl<'a, E: Element> IntoIterator for &'a Dict<E> {
    type Item = Borrowed<'a, E>;
    type IntoIter = Iter<'a, E>;

    fn into_iter(self) -> Iter<'a, E> {
        self.iter()
    }
}

/// The elements of a dict, by value: see [`Dict::drain`] and `into_iter`.
pub struct IntoIter<E: Element> {
    walk: Walk,
    /// Only elements that the iteration has not reached belong to it.
    dict: ManuallyDrop<Dict<E>>,
}

// SAFETY: the iterator owns the dict that its walk points into.
unsafe impl<E: Element + Send> Send for IntoIter<E> {}

impl<E: Element> Iterator for IntoIter<E> {
    type Item = E;

    #[inline]
    fn next(&mut self) -> Option<E> {
        // SAFETY: nobody but this walk knows the dict.
        let at = unsafe { self.walk.next()? };
        // SAFETY: the slot is occupied, and the walk passes it once.
        Some(unsafe { E::from_raw(at.get()) })
    }
}

impl<E: Element> FusedIterator for IntoIter<E> {}

impl<E: Element> Drop for IntoIter<E> {
    fn drop(&mut self) {
        /// Frees the tables, even if dropping an element panics.
        struct Tables<'a> {
            tables: &'a mut [Table; 2],
            moved: usize,
            children: bool,
        }
        impl Drop for Tables<'_> {
            fn drop(&mut self) {
                let [first, second] = &mut *self.tables;
                // SAFETY: the elements have been taken or dropped; after a panic, some are leaked.
                unsafe {
                    first.free_memory(self.moved, self.children);
                    second.free_memory(0, self.children);
                }
            }
        }
        let dict = &mut *self.dict;
        let some = !dict.is_empty();
        let _tables = Tables { moved: dict.moved, children: dict.children > 0, tables: &mut dict.tables };
        if std::mem::needs_drop::<E>() && some {
            // SAFETY: as in `next`; the tables are freed after this loop.
            while let Some(at) = unsafe { self.walk.next() } {
                // SAFETY: as in `next`.
                drop(unsafe { E::from_raw(at.get()) });
            }
        }
    }
}

impl<E: Element> IntoIterator for Dict<E> {
    type Item = E;
    type IntoIter = IntoIter<E>;

    fn into_iter(self) -> IntoIter<E> {
        IntoIter { walk: Walk::new(&self), dict: ManuallyDrop::new(self) }
    }
}

impl<E: Element> Dict<E> {
    /// All elements, in no particular order. O(buckets + n), with the memory of the next elements prefetched.
    pub fn iter(&self) -> Iter<'_, E> {
        Iter { walk: Walk::new(self), left: self.len(), dict: PhantomData }
    }

    /// Drops the elements for which `keep` returns false. O(buckets + n).
    pub fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        let starts = [self.moved, 0];
        for (t, start) in starts.into_iter().enumerate() {
            for index in start..self.tables[t].len() {
                let table = &mut self.tables[t];
                table.bucket(index + 1).prefetch_contents();
                let mut gaps = false;
                // SAFETY: the chain is alive and changes its buckets only in `tidy`, below.
                for mut bucket in unsafe { chain(table.head(index)) } {
                    // SAFETY: as above; the table is allocated, for it has buckets.
                    for slot in unsafe { bucket.as_ref() }.occupied() {
                        // SAFETY: the slot is occupied. The element is dropped only after it has left the slot.
                        let e = ManuallyDrop::new(unsafe { E::from_raw(At { bucket, slot }.get()) });
                        if !keep(&e) {
                            // SAFETY: no other reference to the bucket is alive.
                            unsafe { bucket.as_mut() }.clear(slot);
                            table.used -= 1;
                            gaps = true;
                            drop(ManuallyDrop::into_inner(e));
                        }
                    }
                }
                if gaps {
                    // SAFETY: the chain is no longer walked.
                    self.children -= unsafe { table.tidy(index) };
                }
            }
        }
        self.shrink_if_sparse();
    }
}
