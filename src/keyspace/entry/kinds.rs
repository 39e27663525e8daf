//! The types of collections that an entry can store, each named once.

use super::Entry;
use super::found::collection_of;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock::UnixMillis;
use crate::structures::dict::Borrowed;
use crate::types::prefetch::{PrefetchTarget, Prefetcher};
use crate::types::{Collection, Describe, Hash, Kind, List, Set, Stream, VectorSet, Zset};

/// Operations on a collection of which only the kind is known.
pub(super) struct CollectionKind {
    kind: Kind,
    pub(super) describe: fn(&Entry) -> &dyn Describe,
    pub(super) duplicate: fn(&Entry, key: &[u8], expires: Option<UnixMillis>) -> Entry,
    pub(super) ahead: for<'a> fn(&Borrowed<'a, Entry>, PrefetchTarget<'a>) -> Option<Prefetcher<'a>>,
    pub(super) relocate: fn(&mut Entry, &mut Relocator, cursor: u64, most: usize) -> u64,
    /// Drops the value. Only for an entry of this kind, whose value is not used afterwards.
    pub(super) drop: unsafe fn(&mut Entry),
}

impl CollectionKind {
    const fn of<T: Collection>() -> CollectionKind {
        CollectionKind {
            kind: T::KIND,
            describe: |entry| entry.collection::<T>().expect(OF_ITS_KIND),
            duplicate: |entry, key, expires| {
                Entry::with_collection(key, expires, entry.collection::<T>().expect(OF_ITS_KIND).duplicate())
            },
            ahead: |entry, aim| collection_of::<T>(entry)?.prefetcher(aim),
            relocate: |entry, by, cursor, most| {
                entry.collection_mut::<T>().expect(OF_ITS_KIND).relocate(by, cursor, most)
            },
            drop: Entry::drop_collection::<T>,
        }
    }
}

const OF_ITS_KIND: &str = "the kind says of which type the collection is";
pub(super) const LISTED: &str = "`with_collection` takes no collection that is not in the table";

/// All types of collections, by the numbers of their kinds. A new type is added here, and nowhere else in this room.
pub(super) const COLLECTION_KINDS: [Option<CollectionKind>; 16] = {
    let all = [
        CollectionKind::of::<List>(),
        CollectionKind::of::<Stream>(),
        CollectionKind::of::<Set>(),
        CollectionKind::of::<Zset>(),
        CollectionKind::of::<Hash>(),
        CollectionKind::of::<VectorSet>(),
    ];
    let mut by_kind = [const { None }; 16];
    let mut i = 0;
    while i < all.len() {
        let CollectionKind { kind, describe, duplicate, ahead, relocate, drop } = all[i];
        assert!(by_kind[kind as usize].is_none(), "no two types share a kind");
        by_kind[kind as usize] = Some(CollectionKind { kind, describe, duplicate, ahead, relocate, drop });
        i += 1;
    }
    by_kind
};

/// Operations on a collection of the given kind; `None` for a string.
#[inline]
pub(super) fn collection_kind(kind: Kind) -> Option<&'static CollectionKind> {
    static BY_KIND: [Option<CollectionKind>; 16] = COLLECTION_KINDS;
    BY_KIND[kind as usize].as_ref()
}
