//! Moving the memory of a dict to denser places: elements, child buckets, small tables.

use std::alloc::Layout;
use std::mem;
use std::ptr::NonNull;

use super::scan::cursor_buckets;
use super::table::Bucket;
use super::{Dict, Element};
use crate::stdx::alloc::relocation::Relocator;

impl<E: Element> Dict<E> {
    /// Passes the elements at `cursor` through `f`, which may move each in memory but must keep its key, and moves the
    /// child buckets there whose places are sparse. Returns the next cursor: see [`scan`](Self::scan).
    ///
    /// If `f` panics the process is aborted, because a place cannot be left without an element.
    pub fn relocate_at(
        &mut self,
        cursor: u64,
        by: &mut Relocator,
        mut f: impl FnMut(E, &mut Relocator) -> E,
    ) -> u64 {
        let masks = [0, 1].map(|t| self.tables[t].mask() as u64);
        let (moved, rehashing) = (self.moved, self.is_rehashing());
        cursor_buckets(cursor, masks, rehashing, |t, index| {
            let table = &self.tables[t];
            let index = index as usize & table.mask();
            if table.is_allocated() && (t == 1 || index >= moved) {
                // SAFETY: the dict is borrowed exclusively, and the bucket is one of its own.
                unsafe { relocate_chain(table.head(index), by, &mut f) };
            }
        })
    }

    /// As [`relocate_at`](Self::relocate_at), for about `most` elements from `cursor` on. At 0, small tables move, too, if
    /// their places are sparse.
    pub fn relocate(
        &mut self,
        by: &mut Relocator,
        mut cursor: u64,
        most: usize,
        mut f: impl FnMut(E, &mut Relocator) -> E,
    ) -> u64 {
        if cursor == 0 {
            self.tables.iter_mut().for_each(|table| table.relocate(by));
        }
        let (mut elements, mut buckets) = (0, 0);
        loop {
            cursor = self.relocate_at(cursor, by, |element, by| {
                elements += 1;
                f(element, by)
            });
            buckets += 1;
            if cursor == 0 || elements >= most || buckets >= most {
                return cursor;
            }
        }
    }
}

/// # Safety
/// The chain is alive, its elements are of this type, and nobody else uses it.
unsafe fn relocate_chain<E: Element>(
    head: NonNull<Bucket>,
    by: &mut Relocator,
    f: &mut impl FnMut(E, &mut Relocator) -> E,
) {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let guard = Abort;
    let mut bucket = head;
    loop {
        // SAFETY: the chain is ours alone. A slot's element is taken out, and another put in before anybody can look.
        // Child buckets come from boxes, and the bucket before has the only address of each.
        unsafe {
            let b = bucket.as_mut();
            b.prefetch_contents();
            for slot in b.occupied() {
                let (tag, raw) = (b.tag(slot), b.get(slot));
                let element = f(E::from_raw(raw), by).into_raw();
                if element != raw {
                    b.put(slot, tag, element);
                }
            }
            let Some(child) = b.child() else { break };
            let there = by.relocate(child.cast(), Layout::new::<Bucket>()).cast();
            if there != child {
                b.set_child(there);
            }
            bucket = there;
        }
    }
    mem::forget(guard);
}
