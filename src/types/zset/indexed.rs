//! A sorted set as a skip list in order, with a hash table of its nodes by member.
//!
//! Invariant: the table refers to exactly the nodes of the list. A node is removed from the table before the list
//! frees it, so that no reference leads to a freed node.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Outcome, Rule};
use crate::stdx::hash::hash;
use crate::stdx::prefetch::{LINE, prefetch};
use crate::stdx::rng::Rng;
use crate::structures::dict::{self, Dict, Element, Place, Stats};
use crate::structures::skiplist::{self, NodeRef, SkipList};
use crate::types::prefetch::PrefetchTarget;

/// A node of the list, as the table refers to it without owning it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Member(NonNull<u8>);

// SAFETY: it is an address; whoever follows it owns the list on its thread.
unsafe impl Send for Member {}

impl Member {
    /// The node, for as long as the set is borrowed.
    ///
    /// # Safety
    /// The member is in the table of `_set`.
    #[inline]
    unsafe fn node(self, _set: &Indexed) -> NodeRef<'_> {
        // SAFETY: what is in the table is in the list, which is not changed while the set is borrowed.
        unsafe { NodeRef::from_raw(self.0) }
    }
}

// SAFETY: `into_raw` and `from_raw` round-trip the node's address, which has 48 bits and is not null; dropping a
// `Member` frees nothing. A node's member never changes and lives as long as the node.
unsafe impl Element for Member {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        self.0
    }
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        Member(raw)
    }
    #[inline]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the table holds nodes of the list only, and the caller promises that this one lives.
        unsafe { skiplist::member_of(raw) }
    }
}

/// A sorted set that is not packed.
pub(super) struct Indexed {
    pub(super) list: SkipList,
    index: Dict<Member>,
}

/// A seed for the levels of a list: different each time, and unknown outside this process.
fn seed() -> u64 {
    static LISTS: AtomicU64 = AtomicU64::new(0);
    hash(&LISTS.fetch_add(1, Ordering::Relaxed).to_le_bytes())
}

impl Indexed {
    /// An empty set with a table for `len` members.
    pub(super) fn with_capacity(len: usize) -> Indexed {
        Indexed { list: SkipList::new(seed()), index: Dict::with_capacity(len) }
    }

    /// The set of `len` ascending pairs. O(n).
    pub(super) fn from_sorted<'m>(len: usize, pairs: impl Iterator<Item = (f64, &'m [u8])>) -> Indexed {
        let list = SkipList::from_sorted(seed(), pairs);
        let mut index = Dict::with_capacity(len);
        for node in &list {
            index.insert_unique(hash(node.member()), Member(node.into_raw()));
        }
        Indexed { list, index }
    }

    /// As [`Indexed::from_sorted`]; `None` if a member occurs twice, with different scores.
    pub(super) fn from_sorted_checked<'m>(
        len: usize,
        pairs: impl Iterator<Item = (f64, &'m [u8])>,
    ) -> Option<Indexed> {
        let list = SkipList::from_sorted(seed(), pairs);
        let mut index = Dict::with_capacity(len);
        for node in &list {
            match index.entry(hash(node.member()), node.member()) {
                Place::Occupied(_) => return None,
                Place::Vacant(place) => drop(place.insert(Member(node.into_raw()))),
            }
        }
        Some(Indexed { list, index })
    }

    #[inline]
    pub(super) fn add(&mut self, member: &[u8], score: f64, rule: Rule) -> Outcome {
        match self.index.entry(hash(member), member) {
            Place::Vacant(place) => {
                let outcome = rule.decide(None, score);
                if let Outcome::Added(score) = outcome {
                    place.insert(Member(self.list.insert(score, member).into_raw()));
                }
                outcome
            }
            Place::Occupied(slot) => {
                let raw = slot.0;
                // SAFETY: the node is in the table, therefore in the list, which is not changed
                // while this reference lives.
                let old = unsafe { NodeRef::from_raw(raw) }.score();
                let outcome = rule.decide(Some(old), score);
                if let Outcome::Updated(score) = outcome {
                    // SAFETY: as above; the node stays the same, and so does the table.
                    unsafe { self.list.update_score(raw, score) };
                }
                outcome
            }
        }
    }

    /// Adds a pair whose member is absent.
    pub(super) fn insert_absent(&mut self, score: f64, member: &[u8]) {
        let node = self.list.insert(score, member).into_raw();
        self.index.insert_unique(hash(member), Member(node));
    }

    #[inline]
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(Member(raw)) = self.index.remove(hash(member), member) else { return false };
        // SAFETY: the node was in the table, therefore in the list, and is in the table no more.
        unsafe { self.list.remove(raw) };
        true
    }

    /// Removes the pairs with these ranks, which exist.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        let Indexed { list, index } = self;
        let all = ranks.len() == list.len();
        if all {
            index.clear();
        }
        list.delete_ranks(ranks.start as u64..ranks.end as u64, |node| {
            if !all {
                index.remove_address(hash(node.member()), node.into_raw());
            }
        });
    }

    #[inline]
    pub(super) fn find(&self, member: &[u8]) -> Option<NodeRef<'_>> {
        let found = self.index.find(hash(member), member)?;
        // SAFETY: it has just been found there.
        Some(unsafe { found.node(self) })
    }

    pub(super) fn random(&self, rng: &mut Rng) -> Option<NodeRef<'_>> {
        let found = self.index.random(&mut || rng.next_u64())?;
        // SAFETY: it has just been found there.
        Some(unsafe { found.node(self) })
    }

    pub(super) fn scan(&self, cursor: u64, mut f: impl FnMut(NodeRef<'_>)) -> u64 {
        // SAFETY: the scan shows what is in the table.
        self.index.scan(cursor, |member| f(unsafe { member.node(self) }))
    }

    /// One step of a running rehash.
    #[inline]
    pub(super) fn step(&mut self) {
        self.index.step();
    }

    pub(super) fn index_stats(&self) -> Stats {
        self.index.stats()
    }

    pub(super) fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        self.list.check();
        assert_eq!(self.list.len(), self.index.len());
        for node in &self.list {
            assert_eq!(self.find(node.member()), Some(node), "the table leads to the node");
        }
    }
}

/// Lists up to this length are in the cache if they are used often.
const SHORT: usize = 4096;

/// More members of a range are not asked for ahead: with those of other commands they would displace each other.
const RANGE_ASKED: usize = 32;

/// The way to what a command looks for in a set: first the header, then by member to the node, then in the order.
pub struct PrefetchSteps<'a> {
    set: &'a Indexed,
    aim: PrefetchTarget<'a>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Header,
    Index(dict::PrefetchSteps<'a, Member>),
    /// To the place where a member is.
    Node(skiplist::PrefetchSteps<'a>),
    /// To the place where it will be, or to ranks.
    Order(skiplist::PrefetchSteps<'a>),
}

impl<'a> PrefetchSteps<'a> {
    /// `set` may not have come in yet.
    pub(super) fn new(set: &'a Indexed, aim: PrefetchTarget<'a>) -> PrefetchSteps<'a> {
        let start = std::ptr::from_ref(set).cast::<u8>();
        prefetch(start);
        prefetch(start.wrapping_add(LINE));
        PrefetchSteps { set, aim, stage: Stage::Header }
    }

    /// See [`Prefetcher::step`](crate::types::prefetch::Prefetcher::step).
    #[inline]
    pub fn step(&mut self) -> bool {
        loop {
            let goes_on = match &mut self.stage {
                Stage::Header => false,
                Stage::Index(way) => way.step(),
                Stage::Node(way) | Stage::Order(way) => way.step(),
            };
            if goes_on {
                return true;
            }
            let Some(next) = self.next_stage() else { return false };
            self.stage = next;
        }
    }

    /// What comes behind a stage that has ended.
    fn next_stage(&self) -> Option<Stage<'a>> {
        let PrefetchSteps { set, aim, ref stage } = *self;
        let long = set.list.len() > SHORT;
        match (stage, aim) {
            (
                Stage::Header,
                PrefetchTarget::Member(member)
                | PrefetchTarget::Place(member)
                | PrefetchTarget::Score(member, _),
            ) => Some(Stage::Index(set.index.prefetch_steps(hash(member)))),
            (Stage::Header, PrefetchTarget::Ranks { start, stop, reverse }) if long => {
                let len = set.list.len() as i64;
                let absolute = |rank: i64| if rank < 0 { len.saturating_add(rank).max(0) } else { rank };
                let (start, stop) = (absolute(start), absolute(stop));
                let more = usize::try_from(stop.saturating_sub(start)).unwrap_or(0).min(RANGE_ASKED);
                let rank = if reverse { (len - 1).saturating_sub(start).max(0) } else { start };
                Some(Stage::Order(set.list.prefetch_steps_to_rank(rank as u64, more, reverse)))
            }
            (Stage::Index(_), PrefetchTarget::Place(member) | PrefetchTarget::Score(member, _)) if long => {
                let place = set
                    .find(member)
                    .map(|node| Stage::Node(set.list.prefetch_steps(node.score(), node.member())));
                place.or_else(|| self.new_place())
            }
            (Stage::Node(_), _) => self.new_place(),
            _ => None,
        }
    }

    /// The way to the place that a member's new score gives it.
    fn new_place(&self) -> Option<Stage<'a>> {
        match self.aim {
            PrefetchTarget::Score(member, score) if !score.is_nan() => {
                Some(Stage::Order(self.set.list.prefetch_steps(score, member)))
            }
            _ => None,
        }
    }
}
