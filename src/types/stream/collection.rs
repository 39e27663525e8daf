//! A stream as a value under a key.

use std::ptr;

use super::{Stream, StreamId};
use crate::stdx::alloc::relocation::Relocator;
use crate::types::prefetch::{self, PrefetchTarget, Prefetcher};
use crate::types::value::{Collection, Describe, Part};

impl Describe for Stream {
    fn len(&self) -> usize {
        usize::try_from(self.entries_len()).unwrap_or(usize::MAX)
    }

    /// Never: a stream without entries still has a last id, counters and groups.
    fn is_empty(&self) -> bool {
        false
    }

    fn effort(&self) -> usize {
        self.allocations()
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    fn bytes(&self, samples: usize) -> usize {
        self.allocated(samples)
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        self.range(StreamId::MIN, StreamId::MAX).for_each(|entry| f(Part::Logged(entry)));
    }
}

impl Collection for Stream {
    fn duplicate(&self) -> Stream {
        self.clone()
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            by.relocate_box(&mut self.0);
        }
        self.relocate_parts(by, cursor, most)
    }

    fn prefetcher<'a>(&'a self, _aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        prefetch::block(ptr::from_ref(&*self.0).cast())
    }
}
