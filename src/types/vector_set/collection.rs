//! A vector set as a value under a key.

use std::ptr;

use super::VectorSet;
use crate::stdx::alloc::relocation::Relocator;
use crate::types::prefetch::{self, PrefetchTarget, Prefetcher};
use crate::types::value::{Collection, Describe, Part};

/// Bytes of an entry of the ordered names: a key of two words and a slot, in nodes that are about two thirds full.
const NAME_ENTRY: usize = 36;
/// Bytes before a shared name: its two reference counts.
const SHARED: usize = 16;

impl Describe for VectorSet {
    fn len(&self) -> usize {
        self.0.names.len()
    }

    /// A node has a vector, a list of layers, and links in each; its element a name and perhaps attributes.
    fn effort(&self) -> usize {
        5 * self.len()
    }

    /// Redis's word for all values of modules, of which this is one there.
    fn encoding(&self) -> &'static str {
        "raw"
    }

    fn bytes(&self, samples: usize) -> usize {
        let inner = &*self.0;
        let samples = if samples == 0 { self.len() } else { samples.min(self.len()) };
        let each = |element: super::ElementRef<'_>| {
            SHARED + element.name().len() + element.attributes().map_or(0, <[u8]>::len)
        };
        let sum: usize = self.iter().take(samples).map(each).sum();
        let texts = sum.checked_div(samples).map_or(0, |_| sum * self.len() / samples);
        let projection = inner.projection.as_ref().map_or(0, |it| size_of_val(it.matrix()));
        let slots = inner.elements.capacity() * size_of::<Option<super::Element>>();
        size_of_val(inner)
            + inner.graph.allocated(samples)
            + texts
            + NAME_ENTRY * self.len()
            + slots
            + projection
    }

    /// Each name with the stored vector, its length, and the attributes.
    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        let mut value = Vec::new();
        for element in self.iter() {
            value.clear();
            element.code().write_bytes(&mut value);
            value.extend_from_slice(&element.code().norm().to_le_bytes());
            value.extend_from_slice(&element.code().range().unwrap_or_default().to_le_bytes());
            value.extend_from_slice(element.attributes().unwrap_or_default());
            f(Part::Field(element.name(), &value));
        }
    }

    fn details(&self, out: &mut String) {
        use std::fmt::Write;
        let _ = write!(out, " dim:{} links:{} max-level:{}", self.dim(), self.links(), self.max_level());
    }
}

impl Collection for VectorSet {
    fn duplicate(&self) -> VectorSet {
        let mut copy = self.clone();
        copy.0.uid = super::next_uid();
        copy
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            by.relocate_box(&mut self.0);
        }
        self.0.graph.relocate(by, cursor, most)
    }

    fn prefetcher<'a>(&'a self, _aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        prefetch::block(ptr::from_ref(&*self.0).cast())
    }
}
