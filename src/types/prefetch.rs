//! Prefetch of the memory behind a key that a command will access, before the command runs.
//!
//! A search for a member of a large collection follows a chain of addresses, each of which is read from memory outside
//! the cache. A single search waits at every link. With several searches, each can make a step while the others wait
//! ("asynchronous memory access chaining": O. Kocberber, B. Falsafi, B. Grot, VLDB 2015). A [`Prefetcher`] is such a
//! search. It changes nothing and has no result: the command repeats the search, now in the cache, and sees what
//! preceding commands have changed in the meantime.

use super::zset;
use crate::stdx::prefetch::{LINE, prefetch};
use crate::structures::dict;
use crate::structures::field::Field;
use crate::structures::member::Member;

/// What a command accesses in a collection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PrefetchTarget<'a> {
    /// The beginning of the collection.
    Start,
    /// A member or field.
    Member(&'a [u8]),
    /// A member and its place in the order.
    Place(&'a [u8]),
    /// A member, its place in the order, and its place with a score that the command may give it.
    Score(&'a [u8], f64),
    /// The members between two ranks, which count from the end if negative.
    Ranks {
        /// The first rank.
        start: i64,
        /// The last rank.
        stop: i64,
        /// Whether ranks count from the highest score.
        reverse: bool,
    },
}

/// A search made before a command runs, to prefetch the memory that the command will read.
pub enum Prefetcher<'a> {
    /// Search for a member of a set.
    Set(dict::PrefetchSteps<'a, Member>),
    /// Search for a field of a hash.
    Hash(dict::PrefetchSteps<'a, Field>),
    /// Search for members of a sorted set.
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

/// Prefetches the beginning of a block that is searched from its start. The processor loads the rest while it is read,
/// so no further steps are needed.
#[inline]
pub fn block<'a>(start: *const u8) -> Option<Prefetcher<'a>> {
    prefetch(start);
    prefetch(start.wrapping_add(LINE));
    None
}
