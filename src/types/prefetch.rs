//! Looking ahead: the memory that a command is about to touch behind its key, asked for before the command runs.
//!
//! To find a member of a large collection is to follow a chain of addresses, each of which comes out of memory that
//! is not in the cache. One search waits at every link. Of several, each can take a step while the others
//! wait ("asynchronous memory access chaining": O. Kocberber, B. Falsafi, B. Grot, VLDB 2015). A [`Prefetcher`] is
//! such a search. It changes nothing and has no result: what it leads to is in the cache when the command that it went
//! ahead of looks for it, and whatever commands before that one have changed in the meantime, that one finds.

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

/// A search that goes ahead of a command.
pub enum Prefetcher<'a> {
    /// To a member of a set.
    Set(dict::PrefetchSteps<'a, Member>),
    /// To a field of a hash.
    Hash(dict::PrefetchSteps<'a, Field>),
    /// To members of a sorted set.
    Zset(zset::PrefetchSteps<'a>),
}

impl Prefetcher<'_> {
    /// Goes on to where memory must come in first; whether there is such a place.
    #[inline]
    pub fn step(&mut self) -> bool {
        match self {
            Prefetcher::Set(way) => way.step(),
            Prefetcher::Hash(way) => way.step(),
            Prefetcher::Zset(way) => way.step(),
        }
    }
}

/// Asks for the first bytes of a block in which everything is found by reading on.
#[inline]
pub fn block<'a>(start: *const u8) -> Option<Prefetcher<'a>> {
    prefetch(start);
    prefetch(start.wrapping_add(LINE));
    None
}
