//! Prefetch of the memory behind a key that a command will access, before the command runs.
//!
//! A search for a member of a large collection follows a chain of addresses, each of which is read from memory that is
//! not in the cache. A single search waits at every link. Of several searches, each can take a step while the others
//! wait ("asynchronous memory access chaining": O. Kocberber, B. Falsafi, B. Grot, VLDB 2015). A [`Prefetcher`] is
//! such a search. It changes nothing and has no result: the command repeats the search, now in the cache, and finds
//! what commands before it have changed in the meantime.

use super::zset;
use crate::stdx::prefetch::{LINE, prefetch};
use crate::structures::dict;
use crate::structures::field::Field;
use crate::structures::member::Member;

/// What a command looks for in a collection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PrefetchTarget<'a> {
    /// The beginning.
    Start,
    /// A member or field.
    Member(&'a [u8]),
    /// A member and its place in the order.
    Place(&'a [u8]),
    /// The same, and the place of a score that it may be given.
    Score(&'a [u8], f64),
    /// The members between two ranks, which count from the end if they are negative.
    Ranks {
        /// The first rank.
        start: i64,
        /// The last rank.
        stop: i64,
        /// Whether ranks count from the highest score.
        reverse: bool,
    },
}

/// A search that is made before a command, to prefetch what the command will read.
pub enum Prefetcher<'a> {
    /// To a member of a set.
    Set(dict::PrefetchSteps<'a, Member>),
    /// To a field of a hash.
    Hash(dict::PrefetchSteps<'a, Field>),
    /// To members of a sorted set.
    Zset(zset::PrefetchSteps<'a>),
}

impl Prefetcher<'_> {
    /// Prefetches the next memory that the search needs. Returns whether there was any.
    #[inline]
    pub fn step(&mut self) -> bool {
        match self {
            Prefetcher::Set(way) => way.step(),
            Prefetcher::Hash(way) => way.step(),
            Prefetcher::Zset(way) => way.step(),
        }
    }
}

/// Prefetches the beginning of a block that is searched from its beginning. The processor loads the rest as it is read,
/// so no further steps are needed.
#[inline]
pub fn block<'a>(start: *const u8) -> Option<Prefetcher<'a>> {
    prefetch(start);
    prefetch(start.wrapping_add(LINE));
    None
}
