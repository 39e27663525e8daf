//! Prefetch of searches in a sorted set that is not packed.

use crate::stdx::prefetch::{LINE, prefetch};
use crate::structures::dict;
use crate::structures::indexed::{Indexed, IndexedNode};
use crate::structures::skiplist;
use crate::types::prefetch::PrefetchTarget;

/// Length up to which the upper nodes of a list in regular use are assumed to be in the cache.
const SHORT: usize = 4096;

/// Largest number of members of a range that are prefetched; more would displace those of other commands.
const RANGE_ASKED: usize = 32;

/// Prefetch in steps of what a command accesses in a set: the header, then the node of a member, then its place in the
/// order.
pub struct PrefetchSteps<'a> {
    set: &'a Indexed,
    aim: PrefetchTarget<'a>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Header,
    Index(dict::PrefetchSteps<'a, IndexedNode>),
    /// On the way to the place of a member.
    Node(skiplist::PrefetchSteps<'a>),
    /// On the way to the member's new place, or to ranks.
    Order(skiplist::PrefetchSteps<'a>),
}

impl<'a> PrefetchSteps<'a> {
    /// `set` itself need not be in the cache.
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

    /// The stage after the current one, which has ended.
    fn next_stage(&self) -> Option<Stage<'a>> {
        let PrefetchSteps { set, aim, ref stage } = *self;
        let long = set.list().len() > SHORT;
        match (stage, aim) {
            (
                Stage::Header,
                PrefetchTarget::Member(member)
                | PrefetchTarget::Place(member)
                | PrefetchTarget::Score(member, _),
            ) => Some(Stage::Index(set.prefetch_steps(member))),
            (Stage::Header, PrefetchTarget::Ranks { start, stop, reverse }) if long => {
                let len = set.list().len() as i64;
                let absolute = |rank: i64| if rank < 0 { len.saturating_add(rank).max(0) } else { rank };
                let (start, stop) = (absolute(start), absolute(stop));
                let more = usize::try_from(stop.saturating_sub(start)).unwrap_or(0).min(RANGE_ASKED);
                let rank = if reverse { (len - 1).saturating_sub(start).max(0) } else { start };
                Some(Stage::Order(set.list().prefetch_steps_to_rank(rank as u64, more, reverse)))
            }
            (Stage::Index(_), PrefetchTarget::Place(member) | PrefetchTarget::Score(member, _)) if long => {
                let place = set
                    .find(member)
                    .map(|node| Stage::Node(set.list().prefetch_steps(node.score(), node.member())));
                place.or_else(|| self.new_place())
            }
            (Stage::Node(_), _) => self.new_place(),
            _ => None,
        }
    }

    /// The search for the place that a member's new score determines.
    fn new_place(&self) -> Option<Stage<'a>> {
        match self.aim {
            PrefetchTarget::Score(member, score) if !score.is_nan() => {
                Some(Stage::Order(self.set.list().prefetch_steps(score, member)))
            }
            _ => None,
        }
    }
}
