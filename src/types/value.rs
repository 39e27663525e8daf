//! Types of values, and owned values on their way into or out of the keyspace.

use super::prefetch::{PrefetchTarget, Prefetcher};
use super::stream;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock::UnixMillis;
pub use crate::structures::sds::Value;

/// Defines [`Kind`]: each type once, with its number and its name.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $name:literal;)*) => {
        /// The type of a value, with its number in files.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// Name in the reply of `TYPE`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Bytes, or an integer as text.
    String = 0, "string";
    /// Elements in a sequence with two ends.
    List = 1, "list";
    /// Distinct members without order.
    Set = 2, "set";
    /// Distinct members with scores, ordered by score.
    Zset = 3, "zset";
    /// Fields with values, some of which may expire.
    Hash = 4, "hash";
    /// Elements with vectors, found by similarity. Redis's number for all types of modules.
    VectorSet = 5, "vectorset";
    /// A log of entries.
    Stream = 6, "stream";
}

impl Kind {
    /// The kind with this name, in any letter case.
    pub fn from_name(name: &[u8]) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| name.eq_ignore_ascii_case(kind.name().as_bytes()))
    }
}

/// Properties of a collection that do not depend on its type.
pub trait Describe {
    /// Number of elements, members, fields.
    fn len(&self) -> usize;

    /// Whether the collection is empty, so that its key is removed. A stream is kept even without entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate number of allocations to free, which decides on which thread the collection is freed.
    fn effort(&self) -> usize;

    /// Name in the reply of `OBJECT ENCODING`.
    fn encoding(&self) -> &'static str;

    /// Bytes outside the entry, estimated from `samples` elements (0: all of them).
    fn bytes(&self, samples: usize) -> usize;

    /// Calls `f` with each element, in order if there is one: for digests and inspection.
    fn each_part(&self, _f: &mut dyn FnMut(Part<'_>)) {}

    /// Appends details of the encoding for `DEBUG OBJECT` to `out`, as ` name:value` words.
    fn details(&self, _out: &mut String) {}

    /// Earliest expiry of an element, if elements can expire.
    fn earliest_expiry(&self) -> Option<UnixMillis> {
        None
    }

    /// Statistics of the hash table for `DEBUG HTSTATS-KEY`, if there is one.
    fn table_stats(&self) -> Option<crate::structures::dict::Stats> {
        None
    }
}

/// One element of a collection.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// An element of a list or a member of a set.
    Item(&'a [u8]),
    /// A field of a hash and its value.
    Field(&'a [u8], &'a [u8]),
    /// A member of a sorted set and its score.
    Scored(&'a [u8], f64),
    /// An entry of a stream.
    Logged(stream::Entry<'a>),
}

/// A collection that can be stored in an entry, as one word.
///
/// Entries rely on two properties for memory safety: the type is exactly one 8-byte word with an alignment of at most
/// 8, and no two types have the same [`KIND`](sealed::Stored::KIND). Both are checked below for the types that can
/// implement this trait.
pub trait Collection: sealed::Stored + Describe + Sized + Send + 'static {
    /// A deep copy.
    fn duplicate(&self) -> Self;

    /// One step of a running rehash of the table: reading commands take it, so that a collection that no longer
    /// changes does not keep two tables for ever.
    fn step(&mut self) {}

    /// Moves blocks of about `most` elements from `cursor` on if their places are sparse. Returns the next cursor, 0 at
    /// the end. If the collection changes between two calls, some blocks are examined twice or not at all.
    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64;

    /// Prefetches the beginning of the collection. Returns the search for what a command looks for, if that takes
    /// further accesses.
    fn prefetcher<'a>(&'a self, aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>>;
}

mod sealed {
    /// A type that has a [`Kind`](super::Kind) of its own. Only the list below has such types.
    pub trait Stored {
        /// The type of the value.
        const KIND: super::Kind;
    }
}

/// Gives each type of collection its kind.
macro_rules! stored {
    ($($collection:ty = $kind:ident;)*) => {
        $(
            impl sealed::Stored for $collection {
                const KIND: Kind = Kind::$kind;
            }

            const _: () = assert!(size_of::<$collection>() == 8 && align_of::<$collection>() <= 8);
        )*

        /// An arm that no value reaches, because its kind occurs above, is an error: no two types have the same kind.
        #[deny(unreachable_patterns)]
        const _: fn(Kind) = |kind| match kind {
            $(Kind::$kind => {})*
            Kind::String => {}
        };
    };
}

stored! {
    super::List = List;
    super::Set = Set;
    super::Zset = Zset;
    super::Hash = Hash;
    super::Stream = Stream;
    super::VectorSet = VectorSet;
}
