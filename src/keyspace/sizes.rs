//! How large values are: a histogram per type, with a bin for each power of two.

use super::entry::Entry;
use crate::types::{Describe, Kind};

/// The types that are counted, in the order of their numbers.
pub const COUNTED: [Kind; 5] = [Kind::String, Kind::List, Kind::Set, Kind::Zset, Kind::Hash];

/// A bin for size 0, and one for each power of two that a size can begin with.
const BINS: usize = 1 + u64::BITS as usize;

/// Counts of values by type and size: bytes of strings, elements of collections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    counts: Box<[[u64; BINS]; COUNTED.len()]>,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { counts: Box::new([[0; BINS]; COUNTED.len()]) }
    }
}

impl Sizes {
    /// Counts the value of an entry, whether it is due or not.
    pub fn add(&mut self, entry: &Entry) {
        let Some(counts) = self.counts.get_mut(entry.kind() as usize) else { return };
        let size = match entry.string() {
            Some(text) => text.len(),
            None => entry.describe().map_or(0, Describe::len),
        };
        counts[(u64::BITS - (size as u64).leading_zeros()) as usize] += 1;
    }

    /// The bins of a type that are not empty: the smallest size in each, and its count.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.get(kind as usize).into_iter().flatten().enumerate();
        let smallest = |bin: usize| if bin == 0 { 0 } else { 1 << (bin - 1) };
        counts.filter(|(_, count)| **count > 0).map(move |(bin, &count)| (smallest(bin), count))
    }
}

const _: () = {
    let mut i = 0;
    while i < COUNTED.len() {
        assert!(COUNTED[i] as usize == i, "a type's number is its place");
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Value;

    #[test]
    fn a_bin_holds_the_sizes_from_one_power_of_two_to_the_next() {
        let mut sizes = Sizes::default();
        for len in [0, 1, 2, 3, 4, 7, 8, 1023, 1024, 5000] {
            sizes.add(&Entry::new(b"k", None, Value::Bytes(&vec![b'x'; len])));
        }
        sizes.add(&Entry::new(b"k", None, Value::Int(-123)));
        sizes.add(&Entry::with_collection(b"k", None, crate::types::List::new()));
        sizes.add(&Entry::with_collection(b"k", None, crate::types::Stream::default()));
        let strings: Vec<_> = sizes.of(Kind::String).collect();
        assert_eq!(strings, [(0, 1), (1, 1), (2, 2), (4, 3), (8, 1), (512, 1), (1024, 1), (4096, 1)]);
        assert_eq!(sizes.of(Kind::List).collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!(sizes.of(Kind::Stream).count(), 0);
    }
}
