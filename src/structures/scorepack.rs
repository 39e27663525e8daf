//! Scorepack: pairs of member and score in one block of memory.
//!
//! ```text
//! | total bytes: u32 le | count: u32 le | pair | pair | … |
//!
//! pair:   | member | score | back length |
//!
//! score:  0vvvvvvv                          integer 0..=127
//!         110vvvvv vvvvvvvv                 integer of 13 bits, signed
//!         10kkkwww  w + 1 bytes, w ≤ 6      signed little-endian integer, divided by 10^k, k ≤ 6
//!         10000111  8 bytes                 any other double, little-endian
//! ```
//!
//! A member is encoded as in a listpack. The back length counts both encodings of its pair, in the format of a
//! listpack. A sorted set in a listpack would need two back lengths per pair, and format and parse texts for scores
//! with a fraction. Here such a score is `314 / 10^2`: at most as long as the text, and decoded by one division. IEEE
//! division rounds correctly, so the quotient is exactly the double that the decimal text means.
//!
//! What always holds:
//!
//! * The promises of the block (see `block.rs`). **Memory safety rests on them alone**: pairs are read with bounds
//!   checks, so a position that belongs to another scorepack, or that an edit has moved, results in some pair or a
//!   panic.
//! * Members and scores have their one canonical encoding. No score is NaN; −0 becomes 0.
//!
//! Pairs keep the order in which they are inserted. The owner decides on the order and makes sure that no member
//! occurs twice.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::ptr::NonNull;

use super::block::Block;
use super::listpack::entry::{self, Encoded, corrupt_position};
use super::listpack::{Item, Needle};

/// Offset of the number of pairs.
const COUNT: usize = 4;
/// Bytes before the first pair: the size of an empty scorepack.
const HEADER: usize = 8;

/// Pairs of member and score in one block of memory.
///
/// Its representation is the address of the block: never zero, with the low three bits zero.
#[derive(Clone)]
#[repr(transparent)]
pub struct Scorepack {
    block: Block,
}

const _: () = assert!(size_of::<Option<Scorepack>>() == 8);

/// Position of a pair, or of the end: an offset into the block.
///
/// Valid until the scorepack is edited at or before the position. Using a stale position is a logic error, which
/// results in some pair or a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

/// A score in its encoded form.
struct Score {
    bytes: [u8; 9],
    len: usize,
}

/// First byte of a score stored as a double.
const DOUBLE: u8 = 0b1000_0111;
/// Most decimals of a stored quotient.
const DECIMALS: usize = 6;
/// The divisors.
const POWERS: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// The integer and the number of decimals that result in `score`, with the fewest decimals.
#[inline]
fn quotient(score: f64) -> Option<(i64, usize)> {
    // Integers up to this one and the powers are exact doubles, so a quotient is rounded only once.
    const EXACT: f64 = (1u64 << 53) as f64;
    if score.abs() > EXACT {
        return None;
    }
    let whole = score as i64;
    if whole as f64 == score {
        return Some((whole, 0));
    }
    let scaled = score * POWERS[DECIMALS];
    if scaled.abs() > EXACT {
        return None;
    }
    // Rounded to nearest. If the product is so large that its error matters, the comparison fails.
    let mut n = (scaled + 0.5f64.copysign(scaled)) as i64;
    if n as f64 / POWERS[DECIMALS] != score {
        return None;
    }
    let mut decimals = DECIMALS;
    while n % 10 == 0 {
        n /= 10;
        decimals -= 1;
    }
    Some((n, decimals))
}

impl Score {
    #[inline]
    fn new(score: f64) -> Score {
        let mut bytes = [0; 9];
        let (tag, raw, width) = match quotient(score) {
            Some((n @ 0..=127, 0)) => {
                bytes[0] = n as u8;
                return Score { bytes, len: 1 };
            }
            Some((n @ -4096..=4095, 0)) => {
                bytes[0] = 0b1100_0000 | (n >> 8) as u8 & 0b1_1111;
                bytes[1] = n as u8;
                return Score { bytes, len: 2 };
            }
            Some((n, decimals)) => {
                // The bits of the number plus one for its sign.
                let width = (64 - (n ^ (n >> 63)).leading_zeros() as usize) / 8 + 1;
                (0b1000_0000 | (decimals << 3 | (width - 1)) as u8, n.to_le_bytes(), width)
            }
            None => (DOUBLE, score.to_le_bytes(), 8),
        };
        bytes[0] = tag;
        bytes[1..].copy_from_slice(&raw);
        Score { bytes, len: 1 + width }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Bytes of the score at `at`.
#[inline(always)]
fn score_size(blob: &[u8], at: usize) -> usize {
    match blob[at] {
        0..=0x7F => 1,
        tag @ 0x80..=0xBF => 2 + usize::from(tag & 7),
        0xC0..=0xDF => 2,
        _ => corrupt_position(),
    }
}

/// The score at `at`, and its size in bytes.
#[inline(always)]
fn score_at(blob: &[u8], at: usize) -> (f64, usize) {
    match blob[at] {
        n @ 0..=0x7F => (f64::from(n), 1),
        tag @ 0x80..=0xBF => {
            let width = usize::from(tag & 7) + 1;
            let raw = match blob.get(at + 1..at + 9) {
                Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight bytes")),
                None => {
                    let mut eight = [0; 8];
                    let Some(bytes) = blob.get(at + 1..at + 1 + width) else { corrupt_position() };
                    eight[..width].copy_from_slice(bytes);
                    u64::from_le_bytes(eight)
                }
            };
            if width == 8 {
                return (f64::from_bits(raw), 9);
            }
            // Shifted up and down again, so that the highest bit becomes the sign.
            let shift = 64 - 8 * width;
            let n = ((raw << shift) as i64 >> shift) as f64;
            let decimals = usize::from(tag >> 3 & 7);
            (if decimals == 0 { n } else { n / POWERS[decimals] }, 1 + width)
        }
        high @ 0xC0..=0xDF => {
            let bits = u16::from(high & 0x1F) << 8 | u16::from(blob[at + 1]);
            (f64::from((bits << 3) as i16 >> 3), 2)
        }
        _ => corrupt_position(),
    }
}

/// Bytes of member and score of the pair at `at`. The result is below `usize::MAX / 2` but otherwise unchecked.
#[inline(always)]
fn pair_size(blob: &[u8], at: usize) -> usize {
    let member = entry::value_size(blob, at);
    member + score_size(blob, at + member)
}

/// Offset of the pair after the one at `at`, or of the end. Never beyond `blob.len()`.
#[inline(always)]
fn after(blob: &[u8], at: usize) -> usize {
    let size = pair_size(blob, at);
    let next = at + size + entry::backlen_size(size);
    if next > blob.len() {
        corrupt_position();
    }
    next
}

/// The pair at `at`, and the offset of the next one or the end, which may be unchecked.
#[inline(always)]
fn pair_at(blob: &[u8], at: usize) -> ((Item<'_>, f64), usize) {
    let Some((member, size)) = entry::decode(blob, at) else { corrupt_position() };
    let (score, score_size) = score_at(blob, at + size);
    let size = size + score_size;
    ((member, score), at + size + entry::backlen_size(size))
}

/// A pair in its encoded form.
struct EncodedPair<'a> {
    member: Encoded<'a>,
    score: Score,
}

impl<'a> EncodedPair<'a> {
    #[inline]
    fn new(member: Item<'a>, score: f64) -> Self {
        debug_assert!(!score.is_nan());
        EncodedPair { member: Encoded::new(member), score: Score::new(score) }
    }

    /// Bytes of member and score.
    #[inline]
    fn size(&self) -> usize {
        self.member.size() + self.score.len
    }

    /// Bytes of the whole pair.
    #[inline]
    fn pair_size(&self) -> usize {
        self.size() + entry::backlen_size(self.size())
    }

    /// Writes the pair to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of [`pair_size`](Self::pair_size) bytes, none of them in the member.
    #[inline]
    unsafe fn write(&self, out: *mut u8) {
        // SAFETY: member, score and back length are the bytes the caller vouches for.
        unsafe {
            self.member.write_value(out);
            write_score(&self.score, out.add(self.member.size()), self.size());
        }
    }
}

/// Writes a score, and the back length of its pair, whose member and score take `size` bytes.
///
/// # Safety
/// `out` must be valid for writes of both.
#[inline]
unsafe fn write_score(score: &Score, out: *mut u8, size: usize) {
    // SAFETY: the caller vouches for these bytes.
    unsafe {
        out.copy_from_nonoverlapping(score.bytes.as_ptr(), score.len);
        entry::write_backlen(out.add(score.len), size);
    }
}

/// Creating and measuring.
impl Scorepack {
    /// Converts the scorepack into its address. Only [`Scorepack::from_raw`] frees it then.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<u8> {
        self.block.into_raw()
    }

    /// Converts an address from [`Scorepack::into_raw`] back into its scorepack.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and is converted back at most once.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<u8>) -> Scorepack {
        // SAFETY: the caller's promise is the block's.
        Scorepack { block: unsafe { Block::from_raw(raw) } }
    }

    /// The layout of the allocation.
    pub(super) fn layout(&self) -> Layout {
        self.block.layout()
    }

    /// An empty scorepack.
    pub fn new() -> Self {
        Scorepack { block: Block::copy_of(&[HEADER as u8, 0, 0, 0, 0, 0, 0, 0]) }
    }

    /// A scorepack of `pairs`, in one allocation. O(n); iterates over them twice.
    ///
    /// # Panics
    /// If it would exceed 4 GB, or if the second iteration returns other pairs.
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (Item<'a>, f64)> + Clone) -> Self {
        let size =
            pairs.clone().map(|(member, score)| EncodedPair::new(member, score).pair_size()).sum::<usize>();
        let mut pack = Scorepack::new();
        // SAFETY: the loop writes all `size` bytes, or it panics: `pack`, which does not know pairs that are not
        // written, is not read by `drop` behind its header.
        let mut window = unsafe { pack.block.splice(HEADER, 0, size) };
        let (mut room, mut count) = (size, 0);
        for (member, score) in pairs {
            let pair = EncodedPair::new(member, score);
            room = room.checked_sub(pair.pair_size()).expect("the pairs are the same again");
            // SAFETY: the pairs so far take `size - room` of the `size` bytes.
            unsafe {
                pair.write(window);
                window = window.add(pair.pair_size());
            }
            count += 1;
        }
        assert_eq!(room, 0, "the pairs are the same again");
        pack.set_len(count);
        pack
    }

    /// Size of the block in bytes, including the header. O(1).
    #[inline]
    pub fn bytes(&self) -> usize {
        self.block.total()
    }

    /// Bytes allocated. O(1).
    #[inline]
    pub fn allocated(&self) -> usize {
        self.block.allocated()
    }

    /// Number of pairs. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        u32::from_le_bytes(self.block.read(COUNT)) as usize
    }

    /// Whether there are no pairs. O(1).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes() == HEADER
    }

    /// Panics unless the block is well-formed and canonical. O(n).
    pub fn check(&self) {
        let blob = self.blob();
        let (mut at, mut count) = (HEADER, 0);
        while at < blob.len() {
            let ((member, score), next) = pair_at(blob, at);
            let member_size = entry::value_size(blob, at);
            assert!(!score.is_nan() && (score != 0.0 || score.is_sign_positive()), "{score} is a score");
            assert_eq!(Encoded::new(member).size(), member_size, "the member at {at} is canonical");
            let canonical = Score::new(score);
            assert!(blob[at + member_size..].starts_with(canonical.as_bytes()), "{score} is canonical");
            assert_eq!(entry::before(blob, next, at), at, "the back length leads to the start");
            (at, count) = (next, count + 1);
        }
        assert_eq!(at, blob.len(), "the last pair ends where the block does");
        assert_eq!(count, self.len(), "the header counts the pairs");
    }

    #[inline]
    fn blob(&self) -> &[u8] {
        self.block.as_bytes()
    }

    /// There are never more pairs than bytes, so the number fits.
    #[inline]
    fn set_len(&mut self, len: usize) {
        self.block.write(COUNT, &(len as u32).to_le_bytes());
    }
}

/// Searching.
impl Scorepack {
    /// The position of the end. O(1).
    #[inline]
    pub fn end(&self) -> Pos {
        Pos(self.bytes() as u32)
    }

    /// The pair at `pos`. O(1).
    #[inline]
    pub fn get(&self, pos: Pos) -> (Item<'_>, f64) {
        pair_at(self.blob(), pos.0 as usize).0
    }

    /// The score of the pair at `pos`. O(1).
    #[inline]
    pub fn score(&self, pos: Pos) -> f64 {
        let (blob, at) = (self.blob(), pos.0 as usize);
        score_at(blob, at + entry::value_size(blob, at)).0
    }

    /// The pair after the one at `pos`. O(1).
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let next = after(self.blob(), pos.0 as usize);
        (next < self.bytes()).then_some(Pos(next as u32))
    }

    /// The pair before `pos`. O(1).
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        let at = pos.0 as usize;
        (at > HEADER).then(|| Pos(entry::before(self.blob(), at, HEADER) as u32))
    }

    /// The position of `member`, and the number of pairs before it. O(n).
    #[inline]
    pub fn find(&self, member: &[u8]) -> Option<(Pos, usize)> {
        let needle = Needle::new(member);
        let (blob, mut at, mut rank) = (self.blob(), HEADER, 0);
        while at < blob.len() {
            if needle.matches_at(blob, at) {
                return Some((Pos(at as u32), rank));
            }
            at = after(blob, at);
            rank += 1;
        }
        None
    }

    /// The pair with `rank` pairs before it, or the end if there are exactly that many; `None` if there are fewer.
    /// O(n) from the nearer end.
    pub fn seek(&self, rank: usize) -> Option<Pos> {
        let behind = self.len().checked_sub(rank)?;
        let blob = self.blob();
        let at = if rank <= behind {
            (0..rank).fold(HEADER, |at, _| after(blob, at))
        } else {
            (0..behind).fold(blob.len(), |at, _| entry::before(blob, at, HEADER))
        };
        Some(Pos(at as u32))
    }

    /// The pairs in order; backwards with `rev()`.
    #[inline]
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs { blob: self.blob(), front: HEADER, back: self.bytes() }
    }

    /// The pairs from `pos` on.
    #[inline]
    pub fn pairs_from(&self, pos: Pos) -> Pairs<'_> {
        Pairs { front: pos.0 as usize, ..self.pairs() }
    }

    /// The pairs before `pos`.
    #[inline]
    pub fn pairs_before(&self, pos: Pos) -> Pairs<'_> {
        Pairs { back: pos.0 as usize, ..self.pairs() }
    }
}

/// Editing.
impl Scorepack {
    /// Inserts a pair before `pos`, which becomes its position. `score` must not be NaN. O(bytes behind it).
    ///
    /// # Panics
    /// If the scorepack would exceed 4 GB.
    pub fn insert(&mut self, pos: Pos, member: &[u8], score: f64) {
        let at = pos.0 as usize;
        if at < HEADER {
            corrupt_position();
        }
        let pair = EncodedPair::new(Item::Str(member), score);
        // SAFETY: `splice` makes room for this pair, which is written at once. The member is borrowed from
        // elsewhere: `&mut self` excludes a text inside this block.
        unsafe { pair.write(self.block.splice(at, 0, pair.pair_size())) };
        self.set_len(self.len() + 1);
    }

    /// Sets the score of the pair at `pos`, which stays valid. `score` must not be NaN. O(1) if the size stays the
    /// same, otherwise O(bytes behind it).
    ///
    /// # Panics
    /// If the scorepack would exceed 4 GB.
    pub fn set_score(&mut self, pos: Pos, score: f64) {
        let (blob, at) = (self.blob(), pos.0 as usize);
        let member = entry::value_size(blob, at);
        let old = after(blob, at) - at - member;
        let score = Score::new(score);
        let size = member + score.len;
        let new = score.len + entry::backlen_size(size);
        // SAFETY: `splice` makes room for score and back length, which are written at once.
        unsafe { write_score(&score, self.block.splice(at + member, old, new), size) };
    }

    /// Removes the pair at `pos`. O(bytes behind it).
    pub fn remove(&mut self, pos: Pos) {
        let at = pos.0 as usize;
        self.cut(at, after(self.blob(), at), 1);
    }

    /// Removes the pairs with these ranks, which must exist. O(bytes).
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let (Some(start), Some(_)) = (self.seek(ranks.start), self.seek(ranks.end)) else {
            corrupt_position()
        };
        let (blob, start) = (self.blob(), start.0 as usize);
        let end = ranks.clone().fold(start, |at, _| after(blob, at));
        self.cut(start, end, ranks.len());
    }

    /// Removes the bytes `start..end`, which are `count` pairs.
    fn cut(&mut self, start: usize, end: usize, count: usize) {
        if start < HEADER {
            corrupt_position();
        }
        // SAFETY: no bytes are new.
        unsafe { self.block.splice(start, end - start, 0) };
        self.set_len(self.len().saturating_sub(count));
    }
}

impl Default for Scorepack {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scorepack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs()).finish()
    }
}

/// Iterator over the pairs of a [`Scorepack`], from both ends.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    blob: &'a [u8],
    /// Offset of the next pair from the front.
    front: usize,
    /// Offset of the end of the next pair from the back.
    back: usize,
}

impl<'a> Pairs<'a> {
    /// The score of the next pair from the front, with encoding and data of its member in the format of a listpack.
    #[inline]
    pub fn next_encoded(&mut self) -> Option<(&'a [u8], f64)> {
        if self.front >= self.back {
            return None;
        }
        let (blob, at) = (self.blob, self.front);
        let member = entry::value_size(blob, at);
        let (score, score_size) = score_at(blob, at + member);
        let size = member + score_size;
        self.front = at + size + entry::backlen_size(size);
        Some((&blob[at..at + member], score))
    }

    /// Position of the next pair from the front.
    #[inline]
    pub fn front(&self) -> Pos {
        Pos(self.front as u32)
    }

    /// Position of the end of the next pair from the back.
    #[inline]
    pub fn back(&self) -> Pos {
        Pos(self.back as u32)
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (pair, next) = pair_at(self.blob, self.front);
        self.front = next;
        Some(pair)
    }
}

impl DoubleEndedIterator for Pairs<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = entry::before(self.blob, self.back, self.front);
        Some(pair_at(self.blob, self.back).0)
    }
}

impl FusedIterator for Pairs<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::alloc::size_class;
    use crate::stdx::rng::Rng;

    type Model = Vec<(Vec<u8>, f64)>;

    fn any_member(rng: &mut Rng) -> Vec<u8> {
        match rng.below(12) {
            0..=2 => rng.below(100_000).to_string().into_bytes(),
            3 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
            // Lengths at which a head or a back length gets longer.
            4 => vec![b'x'; 50 + rng.index(90)],
            5 if rng.one_in(4) => vec![b'y'; 4080 + rng.index(40)],
            6 if rng.one_in(8) => vec![b'z'; 16_360 + rng.index(40)],
            _ => (0..rng.index(12)).map(|_| rng.below(256) as u8).collect(),
        }
    }

    fn any_score(rng: &mut Rng) -> f64 {
        let integer = rng.next_u64() as i64 >> rng.below(64);
        let score = match rng.below(8) {
            0..=1 => integer as f64,
            2..=3 => integer as f64 / POWERS[rng.index(8)],
            4 => rng.f64(),
            5 => f64::from_bits(rng.next_u64()),
            6 => [f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX][rng.index(6)],
            _ => rng.below(200) as f64 - 100.0,
        };
        if score.is_nan() { 1.5 } else { score }
    }

    fn agree(pack: &Scorepack, model: &Model) {
        pack.check();
        assert_eq!((pack.len(), pack.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(pack.allocated(), size_class(pack.bytes()));
        let same =
            |(pair, own): ((Item<'_>, f64), &(Vec<u8>, f64))| pair.0.eq_bytes(&own.0) && pair.1 == own.1;
        assert!(pack.pairs().zip(model).all(same));
        assert!(pack.pairs().rev().zip(model.iter().rev()).all(same));
        assert_eq!((pack.pairs().count(), pack.pairs().rev().count()), (model.len(), model.len()));
    }

    #[test]
    fn behaves_like_a_vec() {
        for seed in 0..30 {
            println!("seed {seed}");
            let mut rng = Rng::new(seed);
            let (mut pack, mut model) = (Scorepack::new(), Model::new());
            for _ in 0..300 {
                let rank = rng.index(model.len() + 1);
                let pos = pack.seek(rank).expect("a pair or the end");
                match rng.below(8) {
                    0..=2 => {
                        let (member, score) = (any_member(&mut rng), any_score(&mut rng));
                        pack.insert(pos, &member, score);
                        model.insert(rank, (member, score));
                        assert_eq!(pack.score(pos), score);
                    }
                    3 if rank < model.len() => {
                        pack.remove(pos);
                        model.remove(rank);
                    }
                    4 if rank < model.len() => {
                        model[rank].1 = any_score(&mut rng);
                        pack.set_score(pos, model[rank].1);
                    }
                    5 => {
                        let end = (rank + rng.index(4)).min(model.len());
                        pack.remove_ranks(rank..end);
                        model.drain(rank..end);
                    }
                    6 if rank < model.len() => {
                        let first = model.iter().position(|own| own.0 == model[rank].0).expect("itself");
                        let (found, before) = pack.find(&model[rank].0).expect("it is there");
                        assert_eq!((before, pack.get(found).1), (first, model[first].1));
                        let next = pack.seek(rank + 1).filter(|&pos| pos != pack.end());
                        assert_eq!(pack.next(pos), next);
                        assert_eq!(pack.prev(pos), rank.checked_sub(1).and_then(|rank| pack.seek(rank)));
                        assert_eq!(pack.pairs_from(pos).count(), model.len() - rank);
                        assert_eq!(pack.pairs_before(pos).count(), rank);
                        assert_eq!((pack.pairs_from(pos).front(), pack.pairs_before(pos).back()), (pos, pos));
                    }
                    _ => {
                        let again = model.iter().map(|(member, score)| (Item::Str(member), *score));
                        assert_eq!(Scorepack::from_pairs(again).blob(), pack.blob());
                        assert_eq!(pack.clone().blob(), pack.blob());
                        assert!(pack.seek(model.len() + 1).is_none());
                        assert!(pack.find(b"never a member").is_none());
                    }
                }
                agree(&pack, &model);
            }
        }
    }

    #[test]
    fn a_score_is_read_as_the_double_it_was() {
        let mut rng = Rng::new(1);
        for _ in 0..200_000 {
            let score = any_score(&mut rng);
            let encoded = Score::new(score);
            let (read, size) = score_at(encoded.as_bytes(), 0);
            assert_eq!((read + 0.0).to_bits(), (score + 0.0).to_bits(), "{score:e}");
            assert_eq!((size, score_size(encoded.as_bytes(), 0)), (encoded.len, encoded.len), "{score:e}");
        }
    }

    #[test]
    fn scores_take_few_bytes() {
        for (score, bytes) in [
            (0.0, 1),
            (-0.0, 1),
            (127.0, 1),
            (128.0, 2),
            (-1.0, 2),
            (4095.0, 2),
            (-4096.0, 2),
            (4096.0, 3),
            (32767.0, 3),
            (32768.0, 4),
            (0.1, 2),
            (-0.5, 2),
            (9.99, 3),
            (1234.56, 4),
            (0.000001, 2),
            (1_700_000_000.0, 5),
            (1_700_000_000_000.0, 7),
            (1_700_000_000.123, 7),
            (9007199254740992.0, 8),
            (9007199254740994.0, 9),
            (0.0000001, 9),
            (1.0 / 3.0, 9),
            (f64::INFINITY, 9),
            (-1e300, 9),
        ] {
            assert_eq!(Score::new(score).len, bytes, "{score}");
        }
    }

    #[test]
    fn a_pair_has_one_back_length() {
        let mut pack = Scorepack::new();
        for i in 0..50 {
            pack.insert(pack.end(), format!("m{i:06}").as_bytes(), f64::from(i));
        }
        assert_eq!(pack.bytes(), HEADER + 50 * (1 + 7 + 1 + 1));
    }

    #[test]
    fn members_of_megabytes() {
        let mut pack = Scorepack::new();
        let members = [vec![b'a'; 2_097_140], vec![b'b'; 2_097_160], vec![b'c'; 5 << 20]];
        for (i, member) in members.iter().enumerate() {
            pack.insert(pack.end(), member, i as f64);
        }
        // The back length of the first pair gets longer, and shorter again.
        for score in [1.0 / 3.0, 0.0] {
            pack.set_score(Pos(HEADER as u32), score);
            pack.check();
        }
        assert_eq!(pack.find(&members[2]).expect("it is there").1, 2);
        assert_eq!(pack.pairs().rev().map(|pair| pair.1).collect::<Vec<_>>(), [2.0, 1.0, 0.0]);
        pack.remove_ranks(0..2);
        assert_eq!(pack.get(Pos(HEADER as u32)), (Item::Str(&members[2]), 2.0));
    }

    #[test]
    fn a_stale_position_is_no_memory_error() {
        let mut pack = Scorepack::new();
        for i in 0..40 {
            pack.insert(pack.end(), &vec![i as u8; i], i as f64 / 7.0);
        }
        for at in HEADER as u32..=pack.bytes() as u32 + 9 {
            let stale = |edit: fn(&mut Scorepack, Pos) -> bool| {
                let mut pack = pack.clone();
                // A panic is allowed; a sanitizer would report a read outside.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edit(&mut pack, Pos(at))));
            };
            stale(|pack, pos| pack.get(pos).1 == pack.score(pos));
            stale(|pack, pos| pack.next(pos) == pack.prev(pos));
            stale(|pack, pos| pack.pairs_from(pos).count() == pack.pairs_before(pos).rev().count());
            stale(|pack, pos| {
                pack.remove(pos);
                true
            });
            stale(|pack, pos| {
                pack.set_score(pos, 0.5);
                true
            });
        }
    }
}
