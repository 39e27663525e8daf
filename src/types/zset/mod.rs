//! Sorted sets: members with a score each, ordered by score and, for equal scores, by bytes.
//!
//! ```text
//! word: scorepack: members and scores in order
//!       or skip list of the pairs, with a hash table of its nodes by member ([`Indexed`])
//! ```
//!
//! A set is packed while it has few and short members: it is then one block of memory, searched linearly.
//! Invariants:
//!
//! - No member occurs twice, and no score is NaN.
//! - [`packable`] alone decides which sets may be packed. An unpacked set stays unpacked when it shrinks; a set
//!   built at once is judged as a whole.
//!
//! The two encodings have the names and limits of Redis. The one called `listpack` has another layout here, which
//! takes less memory, and is converted to a listpack for files.

mod packed;
mod prefetch;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::{ControlFlow, Range};

use super::Limits;
use super::packed::{Unfit, repeats};
use super::prefetch::{PrefetchTarget, Prefetcher, block};
use super::value::{Collection, Describe, Part};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::num::{self, FloatBuf};
use crate::stdx::rng::Rng;
use crate::structures::dict::Stats;
use crate::structures::indexed::Indexed;
pub use crate::structures::listpack::Item;
use crate::structures::listpack::Listpack;
use crate::structures::scorepack::{Pairs, Scorepack};
use crate::structures::skiplist::{Backward, Forward, NodeRef};
pub use crate::structures::skiplist::{LexBound, LexRange, ScoreRange};
use crate::structures::tagged::{self, OneOf};
pub use prefetch::PrefetchSteps;

/// A sorted set: one word.
#[repr(transparent)]
pub struct Zset(OneOf<Scorepack, Box<Indexed>>);

enum View<'a> {
    Packed(&'a Scorepack),
    Indexed(&'a Indexed),
}

enum ViewMut<'a> {
    Packed(&'a mut Scorepack),
    Indexed(&'a mut Indexed),
}

/// Whether a set of `len` members, the longest of `longest` bytes, may be packed.
#[inline]
fn packable(len: usize, longest: usize, limits: &Limits) -> bool {
    len <= limits.zset_max_listpack_entries && longest <= limits.zset_max_listpack_value
}

/// Restrictions on [`Zset::add`]; by default, it adds a member or sets its score.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Leave existing members unchanged.
    pub only_new: bool,
    /// Add no members.
    pub only_existing: bool,
    /// Only raise scores.
    pub only_greater: bool,
    /// Only lower scores.
    pub only_less: bool,
    /// Add to the existing score.
    pub increment: bool,
}

/// Result of [`Zset::add`], with the member's new score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The member is new.
    Added(f64),
    /// The score of the member has changed.
    Updated(f64),
    /// The member already had this score.
    Same(f64),
    /// The rule forbade the change.
    Refused,
    /// The sum is not a number: infinities of opposite sign were added.
    NotANumber,
}

impl Outcome {
    /// The score to store, if the set changes.
    #[inline]
    fn changed_to(self) -> Option<f64> {
        match self {
            Outcome::Added(score) | Outcome::Updated(score) => Some(score),
            Outcome::Same(_) | Outcome::Refused | Outcome::NotANumber => None,
        }
    }
}

impl Rule {
    /// The outcome for a member with the score `old`, or for a missing member, when `score` is given.
    #[inline]
    fn decide(self, old: Option<f64>, score: f64) -> Outcome {
        let Some(old) = old else {
            return if self.only_existing { Outcome::Refused } else { Outcome::Added(score) };
        };
        if self.only_new {
            return Outcome::Refused;
        }
        let score = if self.increment { old + score } else { score };
        if score.is_nan() {
            return Outcome::NotANumber;
        }
        if (self.only_greater && score <= old) || (self.only_less && score >= old) {
            return Outcome::Refused;
        }
        if score == old { Outcome::Same(score) } else { Outcome::Updated(score) }
    }
}

/// A member with its score.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The member.
    pub member: Item<'a>,
    score: f64,
    packed: bool,
}

impl<'a> Pair<'a> {
    /// The score, which is not NaN.
    #[inline]
    pub fn score(&self) -> f64 {
        self.score
    }

    /// Passes the score's text to `f` in the format of scans: as in a listpack, or with 17 significant digits.
    pub fn with_scan_text<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let mut text = FloatBuf::new();
        f(if self.packed {
            num::fmt_f64(self.score, &mut text)
        } else {
            num::fmt_f64_17(self.score, &mut text)
        })
    }

    #[inline]
    fn packed((member, score): (Item<'a>, f64)) -> Self {
        Pair { member, score, packed: true }
    }

    #[inline]
    fn indexed(node: NodeRef<'a>) -> Self {
        Pair { member: Item::Str(node.member()), score: node.score(), packed: false }
    }
}

/// The text of a member, even if it is stored as an integer. Compares and hashes as bytes.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    /// The stored text.
    Stored(&'a [u8]),
    /// The decimal digits of an integer, and their number.
    Digits([u8; 20], u8),
}

impl<'a> From<Item<'a>> for Text<'a> {
    #[inline]
    fn from(item: Item<'a>) -> Self {
        match item {
            Item::Str(text) => Text::Stored(text),
            Item::Int(n) => {
                let mut buffer = itoa::Buffer::new();
                let digits = buffer.format(n).as_bytes();
                let mut text = [0; 20];
                text[..digits.len()].copy_from_slice(digits);
                Text::Digits(text, digits.len() as u8)
            }
        }
    }
}

impl AsRef<[u8]> for Text<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Text::Stored(text) => text,
            Text::Digits(text, len) => &text[..usize::from(*len)],
        }
    }
}

impl PartialEq for Text<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_ref());
    }
}

/// Order of a set: by score, then by the bytes of the member.
#[inline]
pub fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0).expect("no score is NaN").then_with(|| a.1.cmp(b.1))
}

impl Zset {
    /// An empty set, packed.
    pub fn new() -> Zset {
        Zset::from_packed(Scorepack::new())
    }

    /// An empty set prepared for `len` members, the longest of `longest` bytes.
    #[inline]
    pub fn sized_for(len: usize, longest: usize, limits: &Limits) -> Zset {
        if packable(len, longest, limits) {
            Zset::new()
        } else {
            Zset::from_indexed(Indexed::with_capacity(len))
        }
    }

    /// The set of these pairs, which ascend by score and member, in the appropriate encoding. O(n).
    ///
    /// # Panics
    /// If the pairs do not ascend.
    pub fn from_sorted<M: AsRef<[u8]>>(pairs: &[(f64, M)], limits: &Limits) -> Zset {
        let longest = pairs.iter().map(|(_, member)| member.as_ref().len()).max().unwrap_or(0);
        let ascending = pairs.iter().map(|(score, member)| (*score, member.as_ref()));
        if packable(pairs.len(), longest, limits)
            && let Some(pack) = packed::from_sorted(ascending.clone())
        {
            return Zset::from_packed(pack);
        }
        Zset::from_indexed(Indexed::from_sorted(pairs.len(), ascending))
    }

    /// A set from a listpack read from a file. It is unpacked if the limits require that. O(n log n).
    ///
    /// # Errors
    /// If the listpack does not consist of ascending pairs of member and score, or a member occurs twice.
    pub fn from_listpack(listpack: &Listpack, limits: &Limits) -> Result<Zset, Unfit> {
        let longest = packed::longest_if_valid(listpack)?;
        let len = listpack.len() / 2;
        if packable(len, longest, limits)
            && let Some(pack) = packed::from_listpack(listpack)
        {
            return Ok(Zset::from_packed(pack));
        }
        let mut set = Zset::from_indexed(Indexed::with_capacity(len));
        let mut buffer = itoa::Buffer::new();
        for (member, score) in packed::listpack_pairs(listpack) {
            set.insert_absent(member.text(&mut buffer), score);
        }
        Ok(set)
    }

    /// The set of these pairs, read from a file in any order; `None` if a member occurs twice. No score is NaN.
    /// O(n) if the pairs ascend or descend, otherwise O(n log n).
    pub fn from_pairs(mut pairs: Vec<(f64, &[u8])>, limits: &Limits) -> Option<Zset> {
        let ascend = |pairs: &[(f64, &[u8])]| pairs.is_sorted_by(|a, b| order(*a, *b).is_lt());
        if !ascend(&pairs) {
            pairs.reverse();
        }
        if !ascend(&pairs) {
            pairs.sort_unstable_by(|a, b| order(*a, *b));
            if !ascend(&pairs) {
                return None;
            }
        }
        let longest = pairs.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
        if packable(pairs.len(), longest, limits)
            && let Some(pack) = packed::from_sorted(pairs.iter().copied())
        {
            return (!repeats(pairs.len(), pairs.iter().map(|(_, member)| Item::Str(member))))
                .then(|| Zset::from_packed(pack));
        }
        Indexed::from_sorted_checked(pairs.len(), pairs.iter().copied()).map(Zset::from_indexed)
    }

    /// The bytes of a packed set as a listpack of alternating members and scores, the form of files. O(n).
    pub fn to_listpack(&self) -> Option<Vec<u8>> {
        match self.view() {
            View::Packed(pack) => Some(packed::to_listpack(pack)),
            View::Indexed(_) => None,
        }
    }

    fn from_packed(pack: Scorepack) -> Zset {
        Zset(OneOf::first(pack))
    }

    fn from_indexed(indexed: Indexed) -> Zset {
        Zset(OneOf::second(Box::new(indexed)))
    }

    /// Whether the set is packed, and [`Zset::to_listpack`] returns a value.
    #[inline]
    pub fn is_packed(&self) -> bool {
        self.0.is_first()
    }

    #[inline]
    fn view(&self) -> View<'_> {
        match self.0.view() {
            tagged::View::First(pack) => View::Packed(pack),
            tagged::View::Second(indexed) => View::Indexed(indexed),
        }
    }

    #[inline]
    fn view_mut(&mut self) -> ViewMut<'_> {
        match self.0.view_mut() {
            tagged::ViewMut::First(pack) => ViewMut::Packed(pack),
            tagged::ViewMut::Second(indexed) => ViewMut::Indexed(indexed),
        }
    }

    /// Converts a packed set to the other encoding, with capacity for `len` members, or at least for its own.
    #[cold]
    fn unpack(&mut self, len: usize) {
        let View::Packed(pack) = self.view() else { return };
        let len = len.max(pack.len());
        let mut buffer = itoa::Buffer::new();
        let mut indexed = Indexed::with_capacity(len);
        for (member, score) in pack.pairs() {
            indexed.insert_absent(score, member.text(&mut buffer));
        }
        *self = Zset::from_indexed(indexed);
    }

    /// Converts the encoding if `len` members would not fit. Their lengths do not count: some may not be added.
    #[inline]
    pub fn expect(&mut self, len: usize, limits: &Limits) {
        if self.is_packed() && !packable(len, 0, limits) {
            self.unpack(len);
        }
    }

    /// Adds `member` with `score`, or sets its score, as far as `rule` allows. `score` is not NaN.
    ///
    /// O(log n) on average; O(n) while packed.
    #[inline]
    pub fn add(&mut self, member: &[u8], score: f64, rule: Rule, limits: &Limits) -> Outcome {
        debug_assert!(!score.is_nan());
        match self.view_mut() {
            ViewMut::Indexed(indexed) => indexed.put(member, |old| {
                let outcome = rule.decide(old, score);
                (outcome.changed_to(), outcome)
            }),
            ViewMut::Packed(pack) => {
                let found = pack.find(member).map(|(at, _)| at);
                let outcome = rule.decide(found.map(|at| pack.score(at)), score);
                match (outcome, found) {
                    (Outcome::Added(score), _) => {
                        let len = pack.len() + 1;
                        if packable(len, member.len(), limits) && packed::would_fit(pack, score, member) {
                            packed::insert(pack, score, member);
                        } else {
                            self.unpack(len);
                            self.insert_absent(member, score);
                        }
                    }
                    (Outcome::Updated(score), Some(at)) => {
                        if packed::would_fit(pack, score, member) {
                            packed::update(pack, at, score, member);
                        } else {
                            self.unpack(0);
                            self.add(member, score, Rule::default(), limits);
                        }
                    }
                    _ => {}
                }
                outcome
            }
        }
    }

    fn insert_absent(&mut self, member: &[u8], score: f64) {
        match self.view_mut() {
            ViewMut::Packed(pack) => packed::insert(pack, score, member),
            ViewMut::Indexed(indexed) => indexed.insert_absent(score, member),
        }
    }

    /// Removes a member and returns whether there was one. O(log n) on average; O(n) while packed.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.view_mut() {
            ViewMut::Packed(pack) => {
                let Some((at, _)) = pack.find(member) else { return false };
                pack.remove(at);
                true
            }
            ViewMut::Indexed(indexed) => indexed.remove(member),
        }
    }

    /// Removes the members with these ranks, as far as they exist, and returns their number.
    ///
    /// O(log n), and O(1) for each member; O(n) while packed.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) -> usize {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return 0;
        }
        match self.view_mut() {
            ViewMut::Packed(pack) => pack.remove_ranks(ranks.clone()),
            ViewMut::Indexed(indexed) => indexed.remove_ranks(ranks.clone()),
        }
        ranks.len()
    }

    /// The score of a member. O(1); O(n) while packed.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.view() {
            View::Packed(pack) => pack.find(member).map(|(at, _)| pack.score(at)),
            View::Indexed(indexed) => indexed.find(member).map(NodeRef::score),
        }
    }

    /// Number of members before this one, and its score. O(log n); O(n) while packed.
    #[inline]
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.view() {
            View::Packed(pack) => pack.find(member).map(|(at, rank)| (rank, pack.score(at))),
            View::Indexed(indexed) => {
                let node = indexed.find(member)?;
                Some((indexed.list().rank(node) as usize, node.score()))
            }
        }
    }

    /// Ranks of the members with a score in `range`. O(log n); O(n) while packed.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        match self.view() {
            View::Packed(pack) => {
                packed::ranks(pack, |pair| range.above_min(pair.1), |pair| range.below_max(pair.1))
            }
            View::Indexed(indexed) => narrow(indexed.list().ranks_in_score_range(range)),
        }
    }

    /// Ranks of the members in `range`, in a set whose scores are all equal. O(log n); O(n) while packed.
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        match self.view() {
            View::Packed(pack) => {
                let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
                packed::ranks(
                    pack,
                    |pair| range.above_min(pair.0.text(&mut a)),
                    |pair| range.below_max(pair.0.text(&mut b)),
                )
            }
            View::Indexed(indexed) => narrow(indexed.list().ranks_in_lex_range(range)),
        }
    }

    /// The pairs from the one with this rank on: ascending, or descending with ranks counted from the highest pair.
    /// O(log n) for the first; O(n) while packed.
    pub fn from_rank(&self, rank: usize, reverse: bool) -> Iter<'_> {
        if rank >= self.len() {
            return Iter(Walk::Done);
        }
        match (self.view(), reverse) {
            (View::Packed(pack), false) => {
                Iter(pack.seek(rank).map_or(Walk::Done, |at| Walk::Packed(pack.pairs_from(at))))
            }
            (View::Packed(pack), true) => {
                let end = pack.seek(pack.len() - rank);
                Iter(end.map_or(Walk::Done, |at| Walk::PackedBack(pack.pairs_before(at))))
            }
            (View::Indexed(indexed), _) => {
                let list = indexed.list();
                // The ends are accessible without a search.
                let ascending = if reverse { list.len() - 1 - rank } else { rank };
                let node = match ascending {
                    0 => list.first(),
                    last if last == list.len() - 1 => list.last(),
                    rank => list.by_rank(rank as u64),
                };
                Iter::indexed(node, reverse)
            }
        }
    }

    /// All pairs in order, or backwards.
    #[inline]
    pub fn iter(&self, reverse: bool) -> Iter<'_> {
        self.from_rank(0, reverse)
    }

    /// The pairs from the first in `range` on, or from the last if reversed. The iteration continues beyond the far end
    /// of the range.
    pub fn from_score(&self, range: &ScoreRange, reverse: bool) -> Iter<'_> {
        match (self.view(), reverse) {
            (View::Packed(pack), false) => {
                Iter(Walk::Packed(packed::skip(pack, |pair| !range.above_min(pair.1))))
            }
            (View::Packed(pack), true) => {
                Iter(Walk::PackedBack(packed::skip_back(pack, |pair| !range.below_max(pair.1))))
            }
            (View::Indexed(indexed), false) => {
                Iter::indexed(indexed.list().first_in_score_range(range), false)
            }
            (View::Indexed(indexed), true) => Iter::indexed(indexed.list().last_in_score_range(range), true),
        }
    }

    /// As [`Zset::from_score`], by the bytes of members, in a set whose scores are all equal.
    pub fn from_lex(&self, range: &LexRange<'_>, reverse: bool) -> Iter<'_> {
        let mut text = itoa::Buffer::new();
        match (self.view(), reverse) {
            (View::Packed(pack), false) => {
                Iter(Walk::Packed(packed::skip(pack, |pair| !range.above_min(pair.0.text(&mut text)))))
            }
            (View::Packed(pack), true) => Iter(Walk::PackedBack(packed::skip_back(pack, |pair| {
                !range.below_max(pair.0.text(&mut text))
            }))),
            (View::Indexed(indexed), false) => Iter::indexed(indexed.list().first_in_lex_range(range), false),
            (View::Indexed(indexed), true) => Iter::indexed(indexed.list().last_in_lex_range(range), true),
        }
    }

    /// A random pair, each equally likely. O(1); O(n) while packed.
    pub fn random(&self, rng: &mut Rng) -> Option<Pair<'_>> {
        if self.is_empty() {
            return None;
        }
        match self.view() {
            View::Packed(_) => self.from_rank(rng.index(self.len()), false).next(),
            View::Indexed(indexed) => indexed.random(rng).map(Pair::indexed),
        }
    }

    /// Passes `count` distinct random pairs, or all if there are fewer, to `f` until it breaks. Each choice is equally
    /// likely.
    ///
    /// O(count · log n), but never more than O(n).
    pub fn sample(
        &self,
        count: usize,
        rng: &mut Rng,
        mut f: impl FnMut(Pair<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let len = self.len();
        // A search costs a few times as much as a step.
        if self.is_packed() || count >= len / 4 {
            // Knuth's selection sampling: each pair is taken with the probability that remains.
            let mut wanted = count.min(len);
            for (i, pair) in self.iter(false).enumerate() {
                if wanted == 0 {
                    break;
                }
                if rng.below((len - i) as u64) < wanted as u64 {
                    wanted -= 1;
                    f(pair)?;
                }
            }
            return ControlFlow::Continue(());
        }
        // Floyd's sampling: `count` distinct ranks from as many draws.
        let mut seen = std::collections::HashSet::with_capacity(count);
        for end in len - count..len {
            let draw = rng.index(end + 1);
            let rank = if seen.insert(draw) { draw } else { end };
            seen.insert(rank);
            if let Some(pair) = self.from_rank(rank, false).next() {
                f(pair)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Passes the pairs at `cursor` to `f` and returns the next cursor. A scan starts with 0 and ends when 0 is
    /// returned. A packed set is passed as a whole. Every member that stays during the whole scan is seen.
    pub fn scan(&self, cursor: u64, mut f: impl FnMut(Pair<'_>)) -> u64 {
        match self.view() {
            View::Packed(pack) => {
                pack.pairs().map(Pair::packed).for_each(f);
                0
            }
            View::Indexed(indexed) => indexed.scan(cursor, |node| f(Pair::indexed(node))),
        }
    }

    /// Panics if an invariant is violated. O(n).
    #[cfg(test)]
    pub(crate) fn check(&self) {
        match self.view() {
            View::Packed(pack) => {
                pack.check();
                let listpack = Listpack::from_bytes_checked(&packed::to_listpack(pack)).expect("well-formed");
                assert_eq!(listpack.bytes(), packed::listpack_bytes(pack));
                assert!(listpack.bytes() <= packed::EXPANSION * pack.bytes());
                assert!(packed::longest_if_valid(&listpack).is_ok());
            }
            View::Indexed(indexed) => indexed.check(),
        }
    }
}

#[inline]
fn narrow(ranks: Range<u64>) -> Range<usize> {
    ranks.start as usize..ranks.end as usize
}

impl Default for Zset {
    fn default() -> Self {
        Zset::new()
    }
}

impl Describe for Zset {
    #[inline]
    fn len(&self) -> usize {
        match self.view() {
            View::Packed(pack) => pack.len(),
            View::Indexed(indexed) => indexed.list().len(),
        }
    }

    fn effort(&self) -> usize {
        match self.view() {
            View::Packed(_) => 1,
            View::Indexed(indexed) => indexed.list().len(),
        }
    }

    fn encoding(&self) -> &'static str {
        if self.is_packed() { "listpack" } else { "skiplist" }
    }

    fn bytes(&self, _samples: usize) -> usize {
        match self.view() {
            View::Packed(pack) => pack.allocated(),
            // Both count their own allocations.
            View::Indexed(indexed) => size_of::<Indexed>() + indexed.list().bytes() + indexed.index_bytes(),
        }
    }

    fn table_stats(&self) -> Option<Stats> {
        match self.view() {
            View::Packed(_) => None,
            View::Indexed(indexed) => Some(indexed.index_stats()),
        }
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        for pair in self.iter(false) {
            f(Part::Scored(pair.member.text(&mut itoa::Buffer::new()), pair.score()));
        }
    }
}

impl Collection for Zset {
    fn duplicate(&self) -> Self {
        match self.view() {
            View::Packed(pack) => Zset::from_packed(pack.clone()),
            View::Indexed(indexed) => {
                let pairs = indexed.list().iter().map(|node| (node.score(), node.member()));
                Zset::from_indexed(Indexed::from_sorted(indexed.list().len(), pairs))
            }
        }
    }

    #[inline]
    fn step(&mut self) {
        if let ViewMut::Indexed(indexed) = self.view_mut() {
            indexed.step();
        }
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            self.0.relocate(by);
        }
        match self.view_mut() {
            ViewMut::Packed(_) => 0,
            ViewMut::Indexed(indexed) => indexed.relocate(by, cursor, most),
        }
    }

    fn prefetcher<'a>(&'a self, aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        match self.view() {
            View::Packed(_) => block(self.0.address()),
            View::Indexed(indexed) => Some(Prefetcher::Zset(PrefetchSteps::new(indexed, aim))),
        }
    }
}

/// Pairs of a [`Zset`] in one direction.
#[derive(Clone)]
pub struct Iter<'a>(Walk<'a>);

#[derive(Clone)]
enum Walk<'a> {
    Packed(Pairs<'a>),
    PackedBack(Pairs<'a>),
    Indexed(Forward<'a>),
    IndexedBack(Backward<'a>),
    Done,
}

impl<'a> Iter<'a> {
    fn indexed(node: Option<NodeRef<'a>>, reverse: bool) -> Self {
        Iter(match node {
            None => Walk::Done,
            Some(node) if reverse => Walk::IndexedBack(node.backward()),
            Some(node) => Walk::Indexed(node.forward()),
        })
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match &mut self.0 {
            Walk::Packed(pairs) => pairs.next().map(Pair::packed),
            Walk::PackedBack(pairs) => pairs.next_back().map(Pair::packed),
            Walk::Indexed(nodes) => nodes.next().map(Pair::indexed),
            Walk::IndexedBack(nodes) => nodes.next().map(Pair::indexed),
            Walk::Done => None,
        }
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
