//! A skip list: pairs of score and member in order, with ranks.
//!
//! ```text
//!  head  ──2──────────────► c ──────────2───────────► end      a number is a span: how many
//!  head ──► a ──► b ──► … each link of level 0 spans 1          positions a link crosses
//!
//!  node: ┌───────────┬──────────────────────────────┬───────────┬───────────────────────┬─────────────┬────────┐
//!        │ score f64 │ backward:48 length:10 level:6│ forward 0 │ span 1 u32  forward 1 │ … level - 1 │ member │
//!        └───────────┴──────────────────────────────┴───────────┴───────────────────────┴─────────────┴────────┘
//!        0           8                              16          24          28          40
//! ```
//!
//! What always holds:
//! - Pairs ascend by score and, among equal scores, by the bytes of the member. No score is NaN; zeros of both signs
//!   are equal.
//! - A node is one allocation of exactly `size_class` bytes, including the member. As long as it is in the list, it
//!   neither moves nor changes its member, even if its score changes, so that an index may point to it.
//! - The head has the position 0, the nodes 1 to n, the end n + 1. The span of a link is the difference of the
//!   positions it joins, also for the last link of a level, which leads to the end.
//! - The head has the layout of a node without member and is as high as the highest node so far.
//!
//! The list is William Pugh's ("Skip lists: a probabilistic alternative to balanced trees", 1990) with the spans of
//! his "Skip list cookbook" and a probability of 1/4 that a node reaches the next level. An address has 48
//! significant bits in user space on x86-64 and AArch64; the other bits of the backward pointer hold level and
//! length. A link of level 0 always spans 1, which is not stored. A node of level 1 therefore takes 24 bytes and the
//! member. Each further level takes 12 bytes, and the average is 4/3 levels.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::alloc::size_class;
use crate::stdx::prefetch::prefetch;

/// Enough for 4^32 nodes.
const MAX_LEVEL: usize = 32;
/// Positions, including that of the end, are counted in 32 bits.
const MAX_LEN: usize = u32::MAX as usize - 1;

const BACKWARD: usize = 8;
const FORWARD: usize = 16;
/// Bytes per level: a span and a pointer.
const LINK: usize = 12;

/// Bytes of a member that are prefetched when it will be read.
const PAIR_ASKED: usize = 16;

const ADDRESS_BITS: u32 = 48;
const ADDRESS: usize = (1 << ADDRESS_BITS) - 1;
const LENGTH_BITS: u32 = 10;
/// Stands for this and any larger length. Such a length precedes the member in 8 bytes.
const LONG: usize = (1 << LENGTH_BITS) - 1;
const _: () = assert!(usize::BITS == 64 && MAX_LEVEL < 1 << (64 - ADDRESS_BITS - LENGTH_BITS));

/// Offset of the member in a node of this level, or of the member's length if that is long.
#[inline]
const fn member_offset(level: usize) -> usize {
    FORWARD + 8 + LINK * (level - 1)
}

#[inline]
fn node_layout(level: usize, length: usize) -> Layout {
    let prefix = if length < LONG { 0 } else { 8 };
    let size = size_class(member_offset(level) + prefix + length);
    Layout::from_size_align(size, 8).expect("a slice in memory is shorter than half the address space")
}

/// The address of a node. Every method requires that the node is live; methods that write also require that nobody
/// else reads what they write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
struct Node(NonNull<u8>);

impl Node {
    /// Allocates a node with its score, level and member written, and without links. Returns the node and the size of
    /// its layout.
    fn allocate(level: usize, score: f64, member: &[u8]) -> (Node, usize) {
        let layout = node_layout(level, member.len());
        // SAFETY: the size is at least that of one level.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        assert!(block.addr().get() <= ADDRESS, "user space has addresses of {ADDRESS_BITS} bits");
        let tag = (level << LENGTH_BITS | member.len().min(LONG)) << ADDRESS_BITS;
        // SAFETY: the block is fresh and has room for score, backward pointer, `level` links and the
        // member with its prefix, as `node_layout` counts them.
        unsafe {
            block.cast::<f64>().write(score);
            block.add(BACKWARD).cast::<*mut u8>().write(ptr::without_provenance_mut(tag));
            let mut at = block.add(member_offset(level));
            if member.len() >= LONG {
                at.cast::<usize>().write_unaligned(member.len());
                at = at.add(8);
            }
            at.as_ptr().copy_from_nonoverlapping(member.as_ptr(), member.len());
        }
        (Node(block), layout.size())
    }

    /// Frees the node and returns its size in bytes.
    ///
    /// # Safety
    /// The node is live and nothing refers to it any more.
    #[inline]
    unsafe fn free(self) -> usize {
        // SAFETY: the block was allocated with the layout that level and length give.
        unsafe {
            let layout = node_layout(self.level(), self.member().len());
            dealloc(self.0.as_ptr(), layout);
            layout.size()
        }
    }

    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn score(self) -> f64 {
        // SAFETY: the score is the first word of a live node.
        unsafe { self.0.cast::<f64>().read() }
    }

    /// # Safety
    /// The node is live, and `score` keeps the order.
    #[inline]
    unsafe fn set_score(self, score: f64) {
        // SAFETY: as in `score`.
        unsafe { self.0.cast::<f64>().write(score) }
    }

    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn backward_word(self) -> *mut u8 {
        // SAFETY: the second word of a live node.
        unsafe { self.0.add(BACKWARD).cast::<*mut u8>().read() }
    }

    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn level(self) -> usize {
        // SAFETY: passed on to the caller.
        unsafe { self.backward_word() }.addr() >> (ADDRESS_BITS + LENGTH_BITS)
    }

    /// The node before; `None` for the first.
    ///
    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn backward(self) -> Option<Node> {
        // SAFETY: passed on to the caller.
        NonNull::new(unsafe { self.backward_word() }.map_addr(|a| a & ADDRESS)).map(Node)
    }

    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn set_backward(self, node: Option<Node>) {
        // SAFETY: the second word of a live node; level and length stay.
        unsafe {
            let tag = self.backward_word().addr() & !ADDRESS;
            let node = node.map_or(ptr::null_mut(), |n| n.0.as_ptr());
            self.0.add(BACKWARD).cast::<*mut u8>().write(node.map_addr(|a| a | tag));
        }
    }

    /// # Safety
    /// The node is live and stays so for `'a`.
    #[inline]
    unsafe fn member<'a>(self) -> &'a [u8] {
        // SAFETY: a live node of this level has its member there, of the length that the tag or the
        // prefix tells; members never change.
        unsafe {
            let tag = self.backward_word().addr() >> ADDRESS_BITS;
            let at = self.0.as_ptr().add(member_offset(tag >> LENGTH_BITS));
            match tag & LONG {
                LONG => slice::from_raw_parts(at.add(8), at.cast::<usize>().read_unaligned()),
                length => slice::from_raw_parts(at, length),
            }
        }
    }

    /// The next node of level `i`; `None` at the end.
    ///
    /// # Safety
    /// The node is live and higher than `i`.
    #[inline]
    unsafe fn forward(self, i: usize) -> Option<Node> {
        // SAFETY: a live node has a pointer there, or null, for each of its levels.
        unsafe { self.0.add(FORWARD + LINK * i).cast::<Option<Node>>().read_unaligned() }
    }

    /// # Safety
    /// The node is live and higher than `i`.
    #[inline]
    unsafe fn set_forward(self, i: usize, node: Option<Node>) {
        // SAFETY: as in `forward`.
        unsafe { self.0.add(FORWARD + LINK * i).cast::<Option<Node>>().write_unaligned(node) }
    }

    /// Number of positions that the link of level `i` crosses.
    ///
    /// # Safety
    /// The node is live and higher than `i`.
    #[inline]
    unsafe fn span(self, i: usize) -> u32 {
        if i == 0 {
            return 1;
        }
        // SAFETY: a live node has a span before each pointer but the first, at a multiple of 4.
        unsafe { self.0.add(FORWARD + LINK * i - 4).cast::<u32>().read() }
    }

    /// # Safety
    /// The node is live and higher than `i`, which is not 0.
    #[inline]
    unsafe fn set_span(self, i: usize, span: u32) {
        debug_assert!(i > 0);
        // SAFETY: as in `span`.
        unsafe { self.0.add(FORWARD + LINK * i - 4).cast::<u32>().write(span) }
    }

    /// Whether the node comes before the pair.
    ///
    /// # Safety
    /// The node is live.
    #[inline]
    unsafe fn precedes(self, score: f64, member: &[u8]) -> bool {
        // SAFETY: passed on to the caller.
        unsafe {
            let own = self.score();
            own < score || (own == score && self.member() < member)
        }
    }
}

/// The target of a link, as an address to prefetch.
#[inline(always)]
fn address(node: Option<Node>) -> *const u8 {
    node.map_or(ptr::null(), |n| n.0.as_ptr().cast_const())
}

/// A node of a list that is borrowed for `'a`: one pointer, `Copy`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeRef<'a> {
    node: Node,
    list: PhantomData<&'a SkipList>,
}

const _: () = assert!(size_of::<Option<NodeRef<'_>>>() == 8);

impl<'a> NodeRef<'a> {
    /// # Safety
    /// The node is live and stays so for `'a`.
    #[inline]
    unsafe fn new(node: Node) -> NodeRef<'a> {
        NodeRef { node, list: PhantomData }
    }

    /// The score; never NaN.
    #[inline]
    pub fn score(self) -> f64 {
        // SAFETY: the node is live for `'a`.
        unsafe { self.node.score() }
    }

    /// The member.
    #[inline]
    pub fn member(self) -> &'a [u8] {
        // SAFETY: the node is live for `'a`.
        unsafe { self.node.member() }
    }

    /// The next node. O(1).
    #[inline]
    pub fn next(self) -> Option<NodeRef<'a>> {
        // SAFETY: the node is live for `'a`, during which the list does not change, and with it its neighbour.
        unsafe { self.node.forward(0).map(|n| NodeRef::new(n)) }
    }

    /// The previous node. O(1).
    #[inline]
    pub fn prev(self) -> Option<NodeRef<'a>> {
        // SAFETY: as in `next`.
        unsafe { self.node.backward().map(|n| NodeRef::new(n)) }
    }

    /// This node and the following ones, ascending.
    #[inline]
    pub fn forward(self) -> Forward<'a> {
        Forward { next: Some(self) }
    }

    /// This node and the preceding ones, descending.
    #[inline]
    pub fn backward(self) -> Backward<'a> {
        Backward { next: Some(self) }
    }

    /// The node as one word whose low three bits and high sixteen bits are zero, for an index beside the list.
    ///
    /// The word stays valid, with the same member, until the list removes the node or is dropped. Copies own nothing.
    #[inline]
    pub fn into_raw(self) -> NonNull<u8> {
        self.node.0
    }

    /// The node for a word from [`NodeRef::into_raw`].
    ///
    /// # Safety
    /// The node is still in its list, and the list neither changes nor is dropped during `'a`.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<u8>) -> NodeRef<'a> {
        // SAFETY: the caller's promise.
        unsafe { NodeRef::new(Node(raw)) }
    }
}

impl fmt::Debug for NodeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?}, \"{}\")", self.score(), self.member().escape_ascii())
    }
}

/// The member of the node for a word from [`NodeRef::into_raw`], which an index hashes and compares.
///
/// # Safety
/// The node is still in its list and stays there for `'a`. Its score may change meanwhile.
#[inline]
pub unsafe fn member_of<'a>(raw: NonNull<u8>) -> &'a [u8] {
    // SAFETY: the node is live for `'a`, and members do not change.
    unsafe { Node(raw).member() }
}

/// A range of scores between two bounds, each of which may be excluded. Neither bound is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The lower bound; may be infinite.
    pub min: f64,
    /// The upper bound; may be infinite.
    pub max: f64,
    /// Whether `min` itself is excluded.
    pub min_exclusive: bool,
    /// Whether `max` itself is excluded.
    pub max_exclusive: bool,
}

impl ScoreRange {
    /// The scores from `min` to `max`, both included.
    pub const fn inclusive(min: f64, max: f64) -> ScoreRange {
        ScoreRange { min, max, min_exclusive: false, max_exclusive: false }
    }

    /// Whether `score` satisfies the lower bound.
    #[inline]
    pub fn above_min(&self, score: f64) -> bool {
        if self.min_exclusive { score > self.min } else { score >= self.min }
    }

    /// Whether `score` satisfies the upper bound.
    #[inline]
    pub fn below_max(&self, score: f64) -> bool {
        if self.max_exclusive { score < self.max } else { score <= self.max }
    }

    /// Whether `score` satisfies both bounds.
    #[inline]
    pub fn contains(&self, score: f64) -> bool {
        self.above_min(score) && self.below_max(score)
    }

    /// Whether no score satisfies both bounds.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.min > self.max || (self.min == self.max && (self.min_exclusive || self.max_exclusive))
    }
}

/// One end of a [`LexRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// Before every member.
    Min,
    /// Behind every member.
    Max,
    /// At this member, included.
    Incl(&'a [u8]),
    /// At this member, excluded.
    Excl(&'a [u8]),
}

/// A range of members between two bounds, compared as bytes. Only meaningful if all scores are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    /// The lower bound.
    pub min: LexBound<'a>,
    /// The upper bound.
    pub max: LexBound<'a>,
}

impl LexRange<'_> {
    /// Whether `member` satisfies the lower bound.
    #[inline]
    pub fn above_min(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Min => true,
            LexBound::Max => false,
            LexBound::Incl(min) => member >= min,
            LexBound::Excl(min) => member > min,
        }
    }

    /// Whether `member` satisfies the upper bound.
    #[inline]
    pub fn below_max(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Incl(max) => member <= max,
            LexBound::Excl(max) => member < max,
        }
    }

    /// Whether `member` satisfies both bounds.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        self.above_min(member) && self.below_max(member)
    }
}

/// For each level, the last node before a place in the list, with its position.
struct Path([MaybeUninit<(Node, u32)>; MAX_LEVEL]);

impl Path {
    /// # Safety
    /// The head was higher than `i` when the path was taken.
    #[inline]
    unsafe fn at(&self, i: usize) -> (Node, u32) {
        // SAFETY: a descent writes every level of the head.
        unsafe { self.0[i].assume_init() }
    }
}

/// Target of a prefetch in steps.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// The node with this rank, and then `more` nodes behind it, or before it if `reverse`.
    Rank { rank: u32, more: usize, reverse: bool },
    /// `more` further nodes.
    Along { more: usize, reverse: bool },
    /// The last node before this pair.
    Pair { score: f64, member: &'a [u8] },
}

/// Prefetch of a search in steps. Each step starts loading the next node that the search needs and returns, so that
/// other searches can be prefetched meanwhile. There is no result: the actual search then finds its nodes in the
/// cache.
pub struct PrefetchSteps<'a> {
    goal: Goal<'a>,
    node: Node,
    position: u32,
    level: usize,
    /// The node that is being loaded, which comes next.
    asked: Option<Node>,
    /// The first node known to lie behind the target.
    bound: Option<Node>,
    list: PhantomData<&'a SkipList>,
}

impl<'a> PrefetchSteps<'a> {
    fn new(list: &'a SkipList, goal: Goal<'a>) -> PrefetchSteps<'a> {
        let level = list.height() - 1;
        PrefetchSteps {
            goal,
            node: list.head,
            position: 0,
            level,
            asked: None,
            bound: None,
            list: PhantomData,
        }
    }

    /// Prefetches the beginning of a node and its byte `at`.
    #[inline(always)]
    fn ask(node: Node, at: usize) {
        let start = node.0.as_ptr().cast_const();
        prefetch(start);
        prefetch(start.wrapping_add(at));
    }

    /// Prefetches the next node of the search. Returns whether there is one.
    #[inline]
    pub fn step(&mut self) -> bool {
        match self.goal {
            Goal::Rank { rank, more, reverse } => self.step_to_rank(rank, more, reverse),
            Goal::Along { more, reverse } => self.step_along(more, reverse),
            Goal::Pair { score, member } => self.step_to_pair(score, member),
        }
    }

    /// Ranks are known before a node is read, so a node is prefetched only once it is certain that the search passes
    /// through it.
    #[inline]
    fn step_to_rank(&mut self, rank: u32, more: usize, reverse: bool) -> bool {
        loop {
            // SAFETY: the head and what its links lead to are live while the list is borrowed; a node that was
            // reached by a link of `level` is higher than that.
            let (next, span) = unsafe { (self.node.forward(self.level), self.node.span(self.level)) };
            if let Some(next) = next
                && self.position + span <= rank
            {
                (self.node, self.position) = (next, self.position + span);
                PrefetchSteps::ask(next, FORWARD + LINK * self.level);
                return true;
            }
            if self.level == 0 {
                self.goal = Goal::Along { more, reverse };
                return self.arrive(next);
            }
            self.level -= 1;
        }
    }

    #[inline]
    fn step_along(&mut self, more: usize, reverse: bool) -> bool {
        let Some(left) = more.checked_sub(1) else { return false };
        self.goal = Goal::Along { more: left, reverse };
        // SAFETY: the head is not arrived at; nodes are live while the list is borrowed.
        self.arrive(unsafe { if reverse { self.node.backward() } else { self.node.forward(0) } })
    }

    /// Prefetches a node whose pair will be read.
    #[inline]
    fn arrive(&mut self, node: Option<Node>) -> bool {
        let Some(node) = node else { return false };
        self.node = node;
        PrefetchSteps::ask(node, member_offset(1) + PAIR_ASKED);
        true
    }

    /// A pair can be compared only once its node is in the cache.
    #[inline]
    fn step_to_pair(&mut self, score: f64, member: &[u8]) -> bool {
        loop {
            // SAFETY: as in `step_to_rank`.
            unsafe {
                match self.node.forward(self.level).filter(|&n| Some(n) != self.bound) {
                    Some(next) if self.asked != Some(next) => {
                        PrefetchSteps::ask(next, FORWARD + LINK * self.level);
                        self.asked = Some(next);
                        return true;
                    }
                    Some(next) if next.precedes(score, member) => self.node = next,
                    other => {
                        self.bound = other.or(self.bound);
                        if self.level == 0 {
                            return false;
                        }
                        self.level -= 1;
                    }
                }
            }
        }
    }
}

/// An ordered list of pairs of score and member, which owns its nodes.
///
/// Searches, insertions and removals take O(log n) on average; `n` is at most 2^32 - 2.
pub struct SkipList {
    head: Node,
    tail: Option<Node>,
    len: usize,
    /// State of the random generator for levels; never zero.
    rng: u64,
    /// Bytes of the nodes and the head.
    bytes: usize,
}

// SAFETY: the list is the only owner of its nodes, which hold plain bytes; handles to them borrow it or are
// words whose users promise that it is not changed meanwhile.
unsafe impl Send for SkipList {}
// SAFETY: as above: `&SkipList` only reads.
unsafe impl Sync for SkipList {}

impl SkipList {
    /// The empty list. `seed` determines the levels of its nodes; an attacker who knows it can make searches slow.
    pub fn new(seed: u64) -> SkipList {
        let (head, bytes) = Node::allocate(1, 0.0, b"");
        // SAFETY: the head is ours and has one level.
        unsafe { head.set_forward(0, None) };
        // The multiplication makes neighbouring seeds start differently; `| 1` avoids zero.
        SkipList { head, tail: None, len: 0, rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, bytes }
    }

    /// A list of the pairs of `sorted`, which must ascend by score and member without duplicates.
    ///
    /// O(n). The levels are those of a perfectly balanced list. Panics if the pairs do not ascend.
    pub fn from_sorted<M: AsRef<[u8]>>(seed: u64, sorted: impl IntoIterator<Item = (f64, M)>) -> SkipList {
        let mut list = SkipList::new(seed);
        // The last node of each level. The end is behind all of them.
        let mut path = Path([MaybeUninit::uninit(); MAX_LEVEL]);
        path.0[0].write((list.head, 0));
        for (score, member) in sorted {
            let member = member.as_ref();
            if let Some(tail) = list.tail {
                // SAFETY: the tail is a node of the list.
                assert!(unsafe { tail.precedes(score, member) }, "the pairs of a sorted source ascend");
            }
            // Every fourth node reaches level 2, every sixteenth level 3, …
            let level = 1 + ((list.len + 1).trailing_zeros() / 2) as usize;
            let old = list.height();
            let node = list.new_node(level, score, member);
            if list.height() > old {
                for i in 0..list.height() {
                    // SAFETY: the levels below `old` are written.
                    if i >= old || unsafe { path.at(i) }.1 == 0 {
                        path.0[i].write((list.head, 0));
                    }
                }
            }
            // SAFETY: the path leads to the end, for each level of the head; the node is not linked.
            unsafe { list.link(node, &path) };
            for last in &mut path.0[..level] {
                last.write((node, list.len as u32));
            }
        }
        list
    }

    /// Number of nodes. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no nodes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated for nodes and head. O(1).
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn height(&self) -> usize {
        // SAFETY: the head is live.
        unsafe { self.head.level() }
    }

    /// A random level: 1, increased by one with a probability of 1/4 each time.
    #[inline]
    fn random_level(&mut self) -> usize {
        // Marsaglia's xorshift with Vigna's multiplier, of which the high bits are the better ones.
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        let bits = self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (1 + bits.leading_zeros() as usize / 2).min(MAX_LEVEL)
    }

    /// Descends from the head to the last node for which `below(node, position)` holds, which must hold for a prefix
    /// of the list. Calls `step` with the last such node of every level.
    #[inline(always)]
    fn descend(
        &self,
        below: impl Fn(Node, u32) -> bool,
        mut step: impl FnMut(usize, Node, u32),
    ) -> (Node, u32) {
        let (mut node, mut position) = (self.head, 0);
        // The first node known not to be below: a link to it needs no second comparison.
        let mut bound = None;
        for i in (0..self.height()).rev() {
            // SAFETY: the head and what its links lead to are live nodes while the list is borrowed; a
            // node reached by a link of level `i` is higher than `i`, and so is the head.
            unsafe {
                loop {
                    let next = node.forward(i);
                    let Some(n) = next.filter(|_| next != bound) else { break };
                    if i > 0 {
                        // Most comparisons fail, and the search then continues here.
                        prefetch(address(node.forward(i - 1)));
                    }
                    let there = position + node.span(i);
                    if !below(n, there) {
                        bound = next;
                        break;
                    }
                    (node, position) = (n, there);
                }
            }
            step(i, node, position);
        }
        (node, position)
    }

    /// The path to the last node for which `below` holds.
    #[inline(always)]
    fn path(&self, below: impl Fn(Node, u32) -> bool) -> Path {
        let mut path = Path([MaybeUninit::uninit(); MAX_LEVEL]);
        self.descend(below, |i, node, position| {
            path.0[i].write((node, position));
        });
        path
    }

    /// The number of nodes for which `below` holds, and the first node for which it does not.
    #[inline(always)]
    fn partition(&self, below: impl Fn(Node, u32) -> bool) -> (u32, Option<Node>) {
        let (node, position) = self.descend(below, |_, _, _| ());
        // SAFETY: the descent ends at a live node or the head.
        (position, unsafe { node.forward(0) })
    }

    /// A reference to a node of this list.
    #[inline]
    fn handle(&self, node: Node) -> NodeRef<'_> {
        // SAFETY: callers pass nodes of the list, which is borrowed as long as the handle.
        unsafe { NodeRef::new(node) }
    }

    /// The node; `None` for the head.
    #[inline]
    fn not_head(&self, node: Node) -> Option<Node> {
        (node != self.head).then_some(node)
    }

    /// Raises the head to `level` levels.
    #[cold]
    fn raise_head(&mut self, level: usize) {
        let old = self.head;
        let (head, bytes) = Node::allocate(level, 0.0, b"");
        // SAFETY: the new head is higher than the old one, whose links it takes over; nothing points at a head.
        unsafe {
            head.set_forward(0, old.forward(0));
            for i in 1..level {
                let inherited = i < old.level();
                head.set_forward(i, if inherited { old.forward(i) } else { None });
                head.set_span(i, if inherited { old.span(i) } else { self.len as u32 + 1 });
            }
            self.bytes += bytes;
            self.bytes -= old.free();
        }
        self.head = head;
    }

    /// Creates a node and counts it, without linking it. The head is at least as high.
    fn new_node(&mut self, level: usize, score: f64, member: &[u8]) -> Node {
        debug_assert!(!score.is_nan(), "NaN has no place in an order");
        assert!(self.len < MAX_LEN, "a skip list counts its nodes in 32 bits");
        if level > self.height() {
            self.raise_head(level);
        }
        let (node, bytes) = Node::allocate(level, score, member);
        self.bytes += bytes;
        node
    }

    /// Links `node` behind the nodes of `path`.
    ///
    /// # Safety
    /// The node is live, in no list, not higher than the head, and its place is behind the nodes of the path. The
    /// list has not changed since the path was taken.
    #[inline]
    unsafe fn link(&mut self, node: Node, path: &Path) {
        // SAFETY: the caller's promise: the path has a node on each level of the head, which is higher than
        // that level.
        unsafe {
            let level = node.level();
            let (prev, position) = path.at(0);
            let next = prev.forward(0);
            node.set_forward(0, next);
            prev.set_forward(0, Some(node));
            for i in 1..level {
                let (before, at) = path.at(i);
                node.set_forward(i, before.forward(i));
                node.set_span(i, before.span(i) - (position - at));
                before.set_forward(i, Some(node));
                before.set_span(i, position - at + 1);
            }
            for i in level..self.height() {
                let (before, _) = path.at(i);
                before.set_span(i, before.span(i) + 1);
            }
            node.set_backward(self.not_head(prev));
            match next {
                Some(next) => next.set_backward(Some(node)),
                None => self.tail = Some(node),
            }
        }
        self.len += 1;
    }

    /// Unlinks `node`, which stays alive.
    ///
    /// # Safety
    /// The node is live. (That it is in this list is checked.)
    #[inline]
    unsafe fn unlink(&mut self, node: Node) {
        // SAFETY: the caller's promise, and once the node is found in the list, it is the successor of the
        // path's nodes on each of its levels.
        unsafe {
            let (score, member) = (node.score(), node.member());
            let path = self.path(|n, _| n.precedes(score, member));
            let (prev, _) = path.at(0);
            assert!(prev.forward(0) == Some(node), "the node is in another list");
            let (level, next) = (node.level(), node.forward(0));
            prev.set_forward(0, next);
            for i in 1..level {
                let (before, _) = path.at(i);
                before.set_forward(i, node.forward(i));
                before.set_span(i, before.span(i) + node.span(i) - 1);
            }
            for i in level..self.height() {
                let (before, _) = path.at(i);
                before.set_span(i, before.span(i) - 1);
            }
            match next {
                Some(next) => next.set_backward(self.not_head(prev)),
                None => self.tail = self.not_head(prev),
            }
        }
        self.len -= 1;
    }

    /// Moves up to `most` nodes from rank `from` on if their places are sparse. Returns the number of nodes examined.
    /// `moved` is called with the old node, which still exists, and with the new one. O(log n), and O(1) for each node.
    pub fn relocate(
        &mut self,
        from: u64,
        most: usize,
        by: &mut Relocator,
        mut moved: impl FnMut(NodeRef<'_>, NodeRef<'_>),
    ) -> usize {
        let mut path = self.path(|_, position| u64::from(position) <= from);
        for seen in 0..most {
            // SAFETY: the path has a live node, or the head, on each level of the head; the node behind them on its
            // levels is theirs to link. The copy is the node from the moment when nothing leads to the old one any more:
            // what `moved` was shown ends with the call.
            unsafe {
                let (prev, position) = path.at(0);
                let Some(old) = prev.forward(0) else { return seen };
                prefetch(address(old.forward(0)));
                let level = old.level();
                let layout = node_layout(level, old.member().len());
                let mut node = old;
                if let Some(copy) = by.copy(old.0, layout) {
                    assert!(copy.addr().get() <= ADDRESS, "user space has addresses of {ADDRESS_BITS} bits");
                    node = Node(copy);
                    for i in 0..level {
                        path.at(i).0.set_forward(i, Some(node));
                    }
                    match node.forward(0) {
                        Some(next) => next.set_backward(Some(node)),
                        None => self.tail = Some(node),
                    }
                    moved(NodeRef::new(old), NodeRef::new(node));
                    dealloc(old.0.as_ptr(), layout);
                }
                for last in &mut path.0[..level] {
                    last.write((node, position + 1));
                }
            }
        }
        most
    }

    /// Adds a pair that is absent. O(log n).
    ///
    /// If the pair is present, the list then contains it twice. `score` must not be NaN.
    pub fn insert(&mut self, score: f64, member: &[u8]) -> NodeRef<'_> {
        let level = self.random_level();
        let node = self.new_node(level, score, member);
        // SAFETY: the descent passes live nodes, and its path leads to the pair's place; the node is fresh.
        unsafe {
            let path = self.path(|n, _| n.precedes(score, member));
            self.link(node, &path);
        }
        self.handle(node)
    }

    /// Removes and frees a node. O(log n). Panics if it is in another list.
    ///
    /// # Safety
    /// `node` comes from [`NodeRef::into_raw`] and is still in its list.
    pub unsafe fn remove(&mut self, node: NonNull<u8>) {
        let node = Node(node);
        // SAFETY: the node is live by the caller's promise, and once unlinked nothing refers to it.
        unsafe {
            self.unlink(node);
            self.bytes -= node.free();
        }
    }

    /// Removes and frees the node of a pair. Returns whether there was one. O(log n).
    pub fn remove_pair(&mut self, score: f64, member: &[u8]) -> bool {
        match self.find(score, member).map(NodeRef::into_raw) {
            Some(node) => {
                // SAFETY: the node has just been found in this list.
                unsafe { self.remove(node) };
                true
            }
            None => false,
        }
    }

    /// Sets the score of a node and moves the node to its new place.
    ///
    /// O(1) if it stays between its neighbours, otherwise O(log n). `score` must not be NaN. Panics if the node has
    /// to move and is in another list.
    ///
    /// # Safety
    /// `node` comes from [`NodeRef::into_raw`] and is still in its list.
    pub unsafe fn update_score(&mut self, node: NonNull<u8>, score: f64) -> NodeRef<'_> {
        debug_assert!(!score.is_nan(), "NaN has no place in an order");
        let node = Node(node);
        // SAFETY: the node is live by the caller's promise, and so are its neighbours. It is linked by a path
        // that was taken after it was unlinked.
        unsafe {
            let member = node.member();
            let above_prev = node.backward().is_none_or(|n| n.precedes(score, member));
            let below_next = node.forward(0).is_none_or(|n| !n.precedes(score, member));
            if above_prev && below_next {
                node.set_score(score);
            } else {
                self.unlink(node);
                node.set_score(score);
                let path = self.path(|n, _| n.precedes(score, member));
                self.link(node, &path);
            }
        }
        self.handle(node)
    }

    /// The node of a pair. O(log n).
    pub fn find(&self, score: f64, member: &[u8]) -> Option<NodeRef<'_>> {
        // SAFETY: the descent passes live nodes.
        let (_, node) = self.partition(|n, _| unsafe { n.precedes(score, member) });
        node.map(|n| self.handle(n)).filter(|n| n.score() == score && n.member() == member)
    }

    /// Number of nodes before `node`. O(log n). Panics if `node` is in another list.
    pub fn rank(&self, node: NodeRef<'_>) -> u64 {
        let (score, member) = (node.score(), node.member());
        // SAFETY: the descent passes live nodes.
        let (position, found) = self.partition(|n, _| unsafe { n.precedes(score, member) });
        assert!(found == Some(node.node), "the node is in another list");
        u64::from(position)
    }

    /// The node with `rank` nodes before it. O(log n).
    pub fn by_rank(&self, rank: u64) -> Option<NodeRef<'_>> {
        let rank = u32::try_from(rank).ok()?;
        let (_, node) = self.partition(|_, position| position <= rank);
        node.map(|n| self.handle(n)).filter(|_| (rank as usize) < self.len)
    }

    /// Starts a prefetch in steps of the search for the node with this rank and `more` nodes behind it, or before it
    /// if `reverse`.
    pub fn prefetch_steps_to_rank(&self, rank: u64, more: usize, reverse: bool) -> PrefetchSteps<'_> {
        PrefetchSteps::new(self, Goal::Rank { rank: u32::try_from(rank).unwrap_or(u32::MAX), more, reverse })
    }

    /// Starts a prefetch in steps of the search for the place of a pair, whether the pair exists or not.
    pub fn prefetch_steps<'a>(&'a self, score: f64, member: &'a [u8]) -> PrefetchSteps<'a> {
        PrefetchSteps::new(self, Goal::Pair { score, member })
    }

    /// The lowest pair. O(1).
    #[inline]
    pub fn first(&self) -> Option<NodeRef<'_>> {
        // SAFETY: the head is live.
        unsafe { self.head.forward(0) }.map(|n| self.handle(n))
    }

    /// The highest pair. O(1).
    #[inline]
    pub fn last(&self) -> Option<NodeRef<'_>> {
        self.tail.map(|n| self.handle(n))
    }

    /// The first node for which `below_min` does not hold, if `below_max` holds for it.
    #[inline(always)]
    fn first_in(
        &self,
        below_min: impl Fn(NodeRef<'_>) -> bool,
        below_max: impl Fn(NodeRef<'_>) -> bool,
    ) -> Option<NodeRef<'_>> {
        let (_, node) = self.partition(|n, _| below_min(self.handle(n)));
        node.map(|n| self.handle(n)).filter(|&n| below_max(n))
    }

    /// The last node for which `below_max` holds, unless `below_min` holds for it.
    #[inline(always)]
    fn last_in(
        &self,
        below_min: impl Fn(NodeRef<'_>) -> bool,
        below_max: impl Fn(NodeRef<'_>) -> bool,
    ) -> Option<NodeRef<'_>> {
        let (node, _) = self.descend(|n, _| below_max(self.handle(n)), |_, _, _| ());
        self.not_head(node).map(|n| self.handle(n)).filter(|&n| !below_min(n))
    }

    /// Ranks of the nodes for which `below_max` holds and `below_min` does not.
    #[inline(always)]
    fn ranks_in(
        &self,
        below_min: impl Fn(NodeRef<'_>) -> bool,
        below_max: impl Fn(NodeRef<'_>) -> bool,
    ) -> Range<u64> {
        let (start, _) = self.partition(|n, _| below_min(self.handle(n)));
        let (end, _) = self.partition(|n, _| below_max(self.handle(n)));
        u64::from(start)..u64::from(end.max(start))
    }

    /// The lowest pair within `range`. O(log n).
    pub fn first_in_score_range(&self, range: &ScoreRange) -> Option<NodeRef<'_>> {
        self.first_in(|n| !range.above_min(n.score()), |n| range.below_max(n.score()))
    }

    /// The highest pair within `range`. O(log n).
    pub fn last_in_score_range(&self, range: &ScoreRange) -> Option<NodeRef<'_>> {
        self.last_in(|n| !range.above_min(n.score()), |n| range.below_max(n.score()))
    }

    /// Ranks of the pairs within `range`; their number is the difference. O(log n).
    pub fn ranks_in_score_range(&self, range: &ScoreRange) -> Range<u64> {
        self.ranks_in(|n| !range.above_min(n.score()), |n| range.below_max(n.score()))
    }

    /// The lowest pair within `range`, in a list with equal scores. O(log n).
    pub fn first_in_lex_range(&self, range: &LexRange<'_>) -> Option<NodeRef<'_>> {
        self.first_in(|n| !range.above_min(n.member()), |n| range.below_max(n.member()))
    }

    /// The highest pair within `range`, in a list with equal scores. O(log n).
    pub fn last_in_lex_range(&self, range: &LexRange<'_>) -> Option<NodeRef<'_>> {
        self.last_in(|n| !range.above_min(n.member()), |n| range.below_max(n.member()))
    }

    /// Ranks of the pairs within `range`, in a list with equal scores. O(log n).
    pub fn ranks_in_lex_range(&self, range: &LexRange<'_>) -> Range<u64> {
        self.ranks_in(|n| !range.above_min(n.member()), |n| range.below_max(n.member()))
    }

    /// Removes the nodes with these ranks, as far as they exist, and returns their number.
    ///
    /// `each` gets every node, ascending, before it is freed. O(log n) to unlink the nodes, and O(1) for each.
    pub fn delete_ranks(&mut self, ranks: Range<u64>, mut each: impl FnMut(NodeRef<'_>)) -> u64 {
        let start = ranks.start.min(self.len as u64) as u32;
        let end = ranks.end.min(self.len as u64) as u32;
        if start >= end {
            return 0;
        }
        let from = self.path(|_, position| position <= start);
        let to = self.path(|_, position| position <= end);
        // SAFETY: both paths have a node on every level of the head. The nodes between them, from the
        // successor of `from` to the end of `to`, are live and, when freed, unreachable from the list.
        unsafe {
            for i in 1..self.height() {
                let ((before, at), (last, last_at)) = (from.at(i), to.at(i));
                before.set_span(i, last_at + last.span(i) - at - (end - start));
                before.set_forward(i, last.forward(i));
            }
            let ((prev, _), (last, _)) = (from.at(0), to.at(0));
            let (mut doomed, next) = (prev.forward(0), last.forward(0));
            prev.set_forward(0, next);
            match next {
                Some(next) => next.set_backward(self.not_head(prev)),
                None => self.tail = self.not_head(prev),
            }
            self.len -= (end - start) as usize;
            while let Some(node) = doomed.filter(|_| doomed != next) {
                doomed = node.forward(0);
                prefetch(address(doomed));
                each(NodeRef::new(node));
                self.bytes -= node.free();
            }
        }
        u64::from(end - start)
    }

    /// Removes the pairs within `range`, like [`SkipList::delete_ranks`], and returns their number.
    pub fn delete_score_range(&mut self, range: &ScoreRange, each: impl FnMut(NodeRef<'_>)) -> u64 {
        self.delete_ranks(self.ranks_in_score_range(range), each)
    }

    /// Removes the pairs within `range`, like [`SkipList::delete_ranks`], and returns their number.
    ///
    /// For a list with equal scores.
    pub fn delete_lex_range(&mut self, range: &LexRange<'_>, each: impl FnMut(NodeRef<'_>)) -> u64 {
        self.delete_ranks(self.ranks_in_lex_range(range), each)
    }

    /// All nodes, ascending.
    #[inline]
    pub fn iter(&self) -> Forward<'_> {
        Forward { next: self.first() }
    }

    /// All nodes, descending.
    #[inline]
    pub fn iter_rev(&self) -> Backward<'_> {
        Backward { next: self.last() }
    }

    /// Asserts the invariants of the module. O(n · levels).
    #[cfg(test)]
    pub(crate) fn check(&self) {
        // SAFETY: everything reached is a node of the list.
        unsafe {
            let mut bytes = node_layout(self.height(), 0).size();
            let mut prev = None;
            // For each level: the node whose link is pending, and its position.
            let mut pending = vec![(self.head, 0u32); self.height()];
            let mut position = 0;
            let mut at = self.head.forward(0);
            while let Some(node) = at {
                position += 1;
                assert!(node.backward() == prev, "backward mirrors forward");
                if let Some(prev) = prev {
                    assert!(prev.precedes(node.score(), node.member()), "pairs ascend");
                }
                assert!(!node.score().is_nan() && node.level() >= 1);
                for (i, link) in pending.iter_mut().enumerate().take(node.level()) {
                    assert!(link.0.forward(i) == Some(node));
                    assert_eq!(link.0.span(i), position - link.1, "a span is a difference of positions");
                    *link = (node, position);
                }
                bytes += node_layout(node.level(), node.member().len()).size();
                prev = at;
                at = node.forward(0);
            }
            assert_eq!(position as usize, self.len);
            for (i, (node, from)) in pending.iter().enumerate() {
                assert!(node.forward(i).is_none());
                assert!(i == 0 || node.span(i) == position + 1 - from, "the last link spans to the end");
            }
            assert!(self.tail == prev);
            assert_eq!(self.bytes, bytes);
        }
    }
}

impl Drop for SkipList {
    /// O(n). Reads and writes nothing but the nodes.
    fn drop(&mut self) {
        let mut at = Some(self.head);
        while let Some(node) = at {
            // SAFETY: the list owns its head and nodes; each is left before it is freed.
            unsafe {
                at = node.forward(0);
                prefetch(address(at));
                node.free();
            }
        }
    }
}

impl fmt::Debug for SkipList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a SkipList {
    type Item = NodeRef<'a>;
    type IntoIter = Forward<'a>;
    #[inline]
    fn into_iter(self) -> Forward<'a> {
        self.iter()
    }
}

/// Nodes in ascending order. The processor loads the next node while the caller reads one.
#[derive(Clone)]
pub struct Forward<'a> {
    next: Option<NodeRef<'a>>,
}

impl<'a> Iterator for Forward<'a> {
    type Item = NodeRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<NodeRef<'a>> {
        let node = self.next?;
        self.next = node.next();
        prefetch(address(self.next.map(|n| n.node)));
        Some(node)
    }
}

impl FusedIterator for Forward<'_> {}

/// Nodes in descending order. The processor loads the next node while the caller reads one.
#[derive(Clone)]
pub struct Backward<'a> {
    next: Option<NodeRef<'a>>,
}

impl<'a> Iterator for Backward<'a> {
    type Item = NodeRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<NodeRef<'a>> {
        let node = self.next?;
        self.next = node.prev();
        prefetch(address(self.next.map(|n| n.node)));
        Some(node)
    }
}

impl FusedIterator for Backward<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::HashMap;

    type Model = Vec<(f64, Vec<u8>)>;

    fn place(model: &Model, score: f64, member: &[u8]) -> usize {
        model.partition_point(|(s, m)| *s < score || (*s == score && m.as_slice() < member))
    }

    fn pair(node: NodeRef<'_>) -> (f64, Vec<u8>) {
        (node.score(), node.member().to_vec())
    }

    fn check(list: &SkipList, model: &Model, seed: u64) {
        list.check();
        assert!(list.iter().map(pair).eq(model.iter().cloned()), "seed {seed}: {list:?} is not {model:?}");
        assert!(list.iter_rev().map(pair).eq(model.iter().rev().cloned()), "seed {seed}");
        assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(list.first().map(pair).as_ref(), model.first());
        assert_eq!(list.last().map(pair).as_ref(), model.last());
    }

    fn member(rng: &mut SmallRng) -> Vec<u8> {
        let length = match rng.random_range(0..20) {
            0 => rng.random_range(LONG - 2..LONG + 3),
            1 => 0,
            _ => rng.random_range(1..20),
        };
        (0..length).map(|_| rng.random_range(b'a'..=b'd')).collect()
    }

    fn score(rng: &mut SmallRng) -> f64 {
        let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE];
        match rng.random_range(0..10) {
            0 => special[rng.random_range(0..special.len())],
            _ => f64::from(rng.random_range(-10..10)) / 2.0,
        }
    }

    #[test]
    fn agrees_with_a_sorted_vec() {
        for seed in 0..30 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut list = SkipList::new(seed);
            let mut model = Model::new();
            // The index that a sorted set keeps beside its list.
            let mut index: HashMap<Vec<u8>, NonNull<u8>> = HashMap::new();
            for step in 0..400 {
                let (s, m) = (score(&mut rng), member(&mut rng));
                let any = (!model.is_empty()).then(|| rng.random_range(0..model.len()));
                match (rng.random_range(0..10), any) {
                    (0..5, _) => match index.get(&m) {
                        None => {
                            index.insert(m.clone(), list.insert(s, &m).into_raw());
                            model.insert(place(&model, s, &m), (s, m));
                        }
                        Some(&raw) => {
                            // SAFETY: the index holds nodes of the list.
                            let node = unsafe { NodeRef::from_raw(raw) };
                            assert_eq!(node.member(), m);
                            model.remove(list.rank(node) as usize);
                            // SAFETY: as above.
                            let moved = unsafe { list.update_score(raw, s) };
                            assert_eq!(moved.into_raw(), raw);
                            model.insert(place(&model, s, &m), (s, m));
                        }
                    },
                    (5, Some(i)) => {
                        let (s, m) = model.remove(i);
                        let raw = index.remove(&m).expect("the model and the index agree");
                        // SAFETY: the index holds nodes of the list.
                        assert_eq!(unsafe { member_of(raw) }, m);
                        if step % 2 == 0 {
                            // SAFETY: as above, and the node has left the index.
                            unsafe { list.remove(raw) };
                        } else {
                            assert!(list.remove_pair(s, &m));
                        }
                        assert!(!list.remove_pair(s, &m));
                    }
                    (6, Some(i)) => {
                        // A small change often keeps the place.
                        let (s, m) = model.remove(i);
                        let s = if s.is_finite() { s + 0.25 } else { s };
                        // SAFETY: the index holds nodes of the list.
                        unsafe { list.update_score(index[&m], s) };
                        model.insert(place(&model, s, &m), (s, m));
                    }
                    (7, Some(i)) => {
                        let node = list.by_rank(i as u64).expect("a rank within the list");
                        assert_eq!(pair(node), model[i], "seed {seed}");
                        assert_eq!(list.rank(node), i as u64, "seed {seed}");
                        assert_eq!(list.find(node.score(), node.member()), Some(node));
                        assert!(node.forward().map(pair).eq(model[i..].iter().cloned()));
                        assert!(node.backward().map(pair).eq(model[..=i].iter().rev().cloned()));
                        assert!(
                            list.by_rank(model.len() as u64).is_none() && list.by_rank(u64::MAX).is_none()
                        );
                    }
                    (8, Some(i)) if step % 4 == 0 => {
                        let ranks = i as u64..(i + rng.random_range(0..20)) as u64;
                        let mut gone = Model::new();
                        let n = list.delete_ranks(ranks.clone(), |n| gone.push(pair(n)));
                        let expected: Model = model.drain(i..model.len().min(ranks.end as usize)).collect();
                        assert_eq!((gone.len() as u64, &gone), (n, &expected), "seed {seed}");
                        for (_, m) in &gone {
                            index.remove(m);
                        }
                    }
                    _ => {
                        let range = ScoreRange {
                            min: s,
                            max: if rng.random() { s + 2.0 } else { score(&mut rng) },
                            min_exclusive: rng.random(),
                            max_exclusive: rng.random(),
                        };
                        let within: Model = model.iter().filter(|p| range.contains(p.0)).cloned().collect();
                        assert_eq!(list.first_in_score_range(&range).map(pair), within.first().cloned());
                        assert_eq!(list.last_in_score_range(&range).map(pair), within.last().cloned());
                        let ranks = list.ranks_in_score_range(&range);
                        assert_eq!(ranks.end - ranks.start, within.len() as u64, "seed {seed}: {range:?}");
                        assert!(!range.is_empty() || within.is_empty());
                        if step % 8 == 0 {
                            let mut gone = Model::new();
                            list.delete_score_range(&range, |n| gone.push(pair(n)));
                            assert_eq!(gone, within, "seed {seed}: {range:?}");
                            for (_, m) in &gone {
                                index.remove(m);
                            }
                            model.retain(|p| !range.contains(p.0));
                        }
                    }
                }
                check(&list, &model, seed);
            }
        }
    }

    #[test]
    fn lexical_ranges_agree() {
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut members: Vec<Vec<u8>> = (0..rng.random_range(0..60)).map(|_| member(&mut rng)).collect();
            members.sort();
            members.dedup();
            let mut list = SkipList::from_sorted(seed, members.iter().map(|m| (1.0, m)));
            let mut model: Model = members.into_iter().map(|m| (1.0, m)).collect();
            for _ in 0..40 {
                let (a, b) = (member(&mut rng), member(&mut rng));
                let mut bound = |m| match rng.random_range(0..8) {
                    0 => LexBound::Min,
                    1 => LexBound::Max,
                    2..5 => LexBound::Incl(m),
                    _ => LexBound::Excl(m),
                };
                let range = LexRange { min: bound(&a), max: bound(&b) };
                let within: Model = model.iter().filter(|p| range.contains(&p.1)).cloned().collect();
                assert_eq!(list.first_in_lex_range(&range).map(pair), within.first().cloned());
                assert_eq!(list.last_in_lex_range(&range).map(pair), within.last().cloned());
                let ranks = list.ranks_in_lex_range(&range);
                assert_eq!(ranks.end - ranks.start, within.len() as u64, "seed {seed}: {range:?}");
                if rng.random_range(0..10) == 0 {
                    let mut gone = Model::new();
                    list.delete_lex_range(&range, |n| gone.push(pair(n)));
                    assert_eq!(gone, within, "seed {seed}: {range:?}");
                    model.retain(|p| !range.contains(&p.1));
                }
                check(&list, &model, seed);
            }
        }
    }

    #[test]
    fn bulk_built_lists_are_lists() {
        for n in [0, 1, 3, 4, 5, 15, 16, 17, 64, 300, 1025] {
            let model: Model = (0..n).map(|i| (f64::from(i / 3), format!("m{i:05}").into_bytes())).collect();
            let mut list = SkipList::from_sorted(1, model.iter().map(|(s, m)| (*s, m)));
            check(&list, &model, n as u64);
            for (i, (s, m)) in model.iter().enumerate() {
                assert_eq!(list.rank(list.find(*s, m).expect("every pair is there")), i as u64);
            }
            list.insert(-1.0, b"first");
            list.insert(1e9, b"last");
            list.check();
            assert_eq!(list.delete_ranks(0..u64::MAX, |_| ()), n as u64 + 2);
            check(&list, &Model::new(), n as u64);
        }
    }

    #[test]
    fn nodes_are_small_and_levels_are_geometric() {
        let mut list = SkipList::new(7);
        let head = list.bytes();
        assert_eq!(head, 24);
        let n = 20_000u32;
        for i in 0..n {
            list.insert(f64::from(i), format!("member{i:010}").as_bytes());
        }
        list.check();
        let average = list.bytes() as f64 / f64::from(n);
        assert!((44.0..46.0).contains(&average), "{average} bytes for a member of 16");
        assert!((6..=MAX_LEVEL).contains(&list.height()));
    }

    #[test]
    #[should_panic(expected = "another list")]
    fn nodes_of_other_lists_are_refused() {
        let (mut a, mut b) = (SkipList::new(1), SkipList::new(2));
        a.insert(1.0, b"x");
        let node = b.insert(1.0, b"x").into_raw();
        // SAFETY: the node is live, in the other list.
        unsafe { a.remove(node) };
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn unsorted_sources_are_a_mistake() {
        SkipList::from_sorted(0, [(1.0, "b"), (1.0, "a")]);
    }

    /// Makes all steps of a prefetch. Returns the node where it ends and the number of steps.
    fn walk(mut way: PrefetchSteps<'_>) -> (Node, usize) {
        let mut steps = 0;
        while way.step() {
            steps += 1;
        }
        (way.node, steps)
    }

    #[test]
    fn prefetch_steps_end_where_a_search_does() {
        let mut rng = SmallRng::seed_from_u64(5);
        for len in [1usize, 2, 10, 500] {
            let mut list = SkipList::new(len as u64);
            for i in 0..len {
                list.insert(f64::from(rng.random_range(0..100)), format!("m:{i}").as_bytes());
            }
            let nodes: Vec<_> = list.iter().collect();
            for _ in 0..200 {
                let (rank, more) = (rng.random_range(0..len), rng.random_range(0..5));
                let (node, steps) = walk(list.prefetch_steps_to_rank(rank as u64, more, false));
                assert_eq!(node, nodes[(rank + more).min(len - 1)].node);
                assert!(steps < 60, "{steps}");
                let (node, _) = walk(list.prefetch_steps_to_rank(rank as u64, more, true));
                assert_eq!(node, nodes[rank.saturating_sub(more)].node);
                let (before, steps) = walk(list.prefetch_steps(nodes[rank].score(), nodes[rank].member()));
                // SAFETY: the list is borrowed; the way ends at one of its nodes or at the head.
                assert_eq!(unsafe { before.forward(0) }, Some(nodes[rank].node));
                assert!(steps < 120, "{steps}");
            }
            // Beyond the last node there is nothing to prefetch, and trying does no harm.
            walk(list.prefetch_steps_to_rank(len as u64, 3, false));
            walk(list.prefetch_steps_to_rank(u64::MAX, 3, true));
            assert_eq!(Some(walk(list.prefetch_steps(f64::INFINITY, b"")).0), list.tail);
        }
        let empty = SkipList::new(1);
        assert_eq!(walk(empty.prefetch_steps_to_rank(0, 3, false)), (empty.head, 0));
        assert_eq!(walk(empty.prefetch_steps(1.0, b"m")), (empty.head, 0));
    }
}
