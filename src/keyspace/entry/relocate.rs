//! Moving an entry and its value to denser places.
#![allow(unsafe_code)]

use std::alloc::dealloc;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::kinds::{LISTED, collection_kind};
use super::{Entry, EntryRef, Form};
use crate::stdx::alloc::relocation::Relocator;
use crate::structures::sds::Sds;

impl Entry {
    /// Moves blocks of the value if their places are sparse: those of about `most` elements from `cursor` on. Returns
    /// the next cursor, 0 at the end.
    pub(in crate::keyspace) fn relocate_value(
        &mut self,
        by: &mut Relocator,
        cursor: u64,
        most: usize,
    ) -> u64 {
        match self.shape().form {
            Form::Int | Form::Embedded => 0,
            Form::Shared => {
                // SAFETY: the form says that the word is an `Arc<Sds>`; `&mut self` makes the access unique.
                Sds::relocate_shared(unsafe { self.word().cast::<Arc<Sds>>().as_mut() }, by);
                0
            }
            Form::Object => {
                let kind = collection_kind(self.kind()).expect(LISTED);
                (kind.relocate)(self, by, cursor, most)
            }
        }
    }

    /// The same entry, in another block if its own place is sparse. `moved` is then called with the entry in its old
    /// block, which still exists, and in its new one.
    pub(in crate::keyspace) fn relocated(
        self,
        by: &mut Relocator,
        moved: impl FnOnce(EntryRef, &Entry),
    ) -> Entry {
        let old = ManuallyDrop::new(self);
        let layout = old.shape().layout();
        // SAFETY: the block is live and of this layout. Once it is copied and the references to it are changed, the copy
        // alone is the entry, and owns the value.
        unsafe {
            let Some(copy) = by.copy(old.0, layout) else { return ManuallyDrop::into_inner(old) };
            let new = ManuallyDrop::new(Entry(copy));
            moved(old.reference(), &new);
            dealloc(old.0.as_ptr(), layout);
            ManuallyDrop::into_inner(new)
        }
    }
}
