//! A sorted set as an ascending scorepack, and as the listpack that represents it in files.
//!
//! In the listpack, a score that is an integer is an integer entry (−0 is 0), and so is any other score whose
//! shortest text is that of an integer; other scores are texts. Invariant: that listpack has at most
//! [`SAFETY_LIMIT`] bytes, the size at which Redis gives up the packed form, too.

use std::cmp::Ordering;
use std::ops::Range;

use super::super::packed::{Unfit, longest_key};
use super::order;
use crate::stdx::num::{self, FloatBuf};
use crate::structures::listpack::{EMPTY, Item, Listpack, SAFETY_LIMIT, Writer, encoded_size};
use crate::structures::scorepack::{Pairs, Pos, Scorepack};

/// The score that a listpack entry represents.
#[inline]
fn score_of(item: Item<'_>) -> f64 {
    match item {
        Item::Int(n) => n as f64,
        Item::Str(text) => num::parse_f64_saturating(text).unwrap_or(0.0),
    }
}

/// The listpack entry of a score.
#[inline]
fn score_item(score: f64, text: &mut FloatBuf) -> Item<'_> {
    // All whole numbers up to 2^53, many up to 2^62; the text of a larger one has its own rules.
    const WHOLE: f64 = (1u64 << 62) as f64;
    let whole = score as i64;
    if score.abs() <= WHOLE && whole as f64 == score {
        Item::Int(whole)
    } else {
        Item::Str(num::fmt_f64(score, text))
    }
}

/// Bytes of a pair in a listpack.
fn listpack_pair_bytes(member: Item<'_>, score: f64) -> usize {
    encoded_size(member) + encoded_size(score_item(score, &mut FloatBuf::new()))
}

/// Size in bytes of the listpack that represents this set. O(n).
pub(super) fn listpack_bytes(pack: &Scorepack) -> usize {
    EMPTY + pack.pairs().map(|(member, score)| listpack_pair_bytes(member, score)).sum::<usize>()
}

/// Bytes of the listpack that represents this set. O(n).
pub(super) fn to_listpack(pack: &Scorepack) -> Vec<u8> {
    // Enough unless there are fractions: each pair has one more back length.
    let mut out = Writer::with_capacity(pack.bytes() + 2 * pack.len());
    let (mut pairs, mut text) = (pack.pairs(), FloatBuf::new());
    while let Some((member, score)) = pairs.next_encoded() {
        out.push_encoded(member);
        out.push(score_item(score, &mut text));
    }
    out.finish()
}

/// Largest ratio of the sizes of a listpack and its scorepack. A pair that takes m + s + b bytes, for member, score
/// and back length, takes at most m + t + b + 1 in the listpack. The entry t of a score is as large as s for small
/// integers, and has a text of up to 24 bytes if s is 9; in any case t ≤ 3 s + 4.
pub(super) const EXPANSION: usize = 4;

/// Whether the listpack stays within its limit when this pair is added.
#[inline]
pub(super) fn would_fit(pack: &Scorepack, score: f64, member: &[u8]) -> bool {
    // Upper limit of the bytes that a pair takes in addition to its member.
    const BESIDES: usize = 64;
    (pack.bytes() + member.len() + BESIDES).saturating_mul(EXPANSION) <= SAFETY_LIMIT
        || would_fit_exactly(pack, score, member)
}

#[cold]
fn would_fit_exactly(pack: &Scorepack, score: f64, member: &[u8]) -> bool {
    listpack_bytes(pack) + listpack_pair_bytes(Item::Str(member), score) <= SAFETY_LIMIT
}

/// Order of a stored pair and another pair.
#[inline]
fn compare(stored: (Item<'_>, f64), score: f64, member: &[u8]) -> Ordering {
    if stored.1 != score {
        return if stored.1 < score { Ordering::Less } else { Ordering::Greater };
    }
    stored.0.text(&mut itoa::Buffer::new()).cmp(member)
}

/// Inserts a pair whose member is absent. O(pairs after it).
pub(super) fn insert(pack: &mut Scorepack, score: f64, member: &[u8]) {
    // From the back, because scores that grow with time are common.
    let mut pairs = pack.pairs();
    let mut place = pairs.back();
    while pairs.next_back().is_some_and(|pair| compare(pair, score, member) == Ordering::Greater) {
        place = pairs.back();
    }
    pack.insert(place, member, score);
}

/// Changes the score of the member at `at`. O(bytes).
pub(super) fn update(pack: &mut Scorepack, at: Pos, score: f64, member: &[u8]) {
    let compared = |at: Pos| compare(pack.get(at), score, member);
    let above_prev = pack.prev(at).map(compared).is_none_or(Ordering::is_lt);
    let below_next = pack.next(at).map(compared).is_none_or(Ordering::is_gt);
    if above_prev && below_next {
        pack.set_score(at, score);
    } else {
        pack.remove(at);
        insert(pack, score, member);
    }
}

/// Ranks from the first pair that is `above_min` to the first following pair that is not `below_max`. O(n).
pub(super) fn ranks(
    pack: &Scorepack,
    mut above_min: impl FnMut((Item<'_>, f64)) -> bool,
    mut below_max: impl FnMut((Item<'_>, f64)) -> bool,
) -> Range<usize> {
    let mut pairs = pack.pairs();
    let mut start = 0;
    let mut pair = pairs.next();
    while let Some(p) = pair
        && !above_min(p)
    {
        start += 1;
        pair = pairs.next();
    }
    let mut end = start;
    while let Some(p) = pair
        && below_max(p)
    {
        end += 1;
        pair = pairs.next();
    }
    start..end
}

/// The pairs after the leading ones for which `outside` holds. O(n).
pub(super) fn skip(pack: &Scorepack, mut outside: impl FnMut((Item<'_>, f64)) -> bool) -> Pairs<'_> {
    let mut pairs = pack.pairs();
    loop {
        let here = pairs;
        if !pairs.next().is_some_and(&mut outside) {
            return here;
        }
    }
}

/// The pairs before the trailing ones for which `outside` holds. O(n).
pub(super) fn skip_back(pack: &Scorepack, mut outside: impl FnMut((Item<'_>, f64)) -> bool) -> Pairs<'_> {
    let mut pairs = pack.pairs();
    loop {
        let here = pairs;
        if !pairs.next_back().is_some_and(&mut outside) {
            return here;
        }
    }
}

/// A scorepack of ascending pairs; `None` if its listpack would be too large. O(n).
pub(super) fn from_sorted<'a>(pairs: impl Iterator<Item = (f64, &'a [u8])> + Clone) -> Option<Scorepack> {
    let mut last: Option<(f64, &[u8])> = None;
    let mut bytes = EMPTY;
    for pair in pairs.clone() {
        assert!(last.is_none_or(|last| order(last, pair).is_lt()), "the pairs of a sorted source ascend");
        last = Some(pair);
        bytes += listpack_pair_bytes(Item::Str(pair.1), pair.0);
    }
    let pairs = pairs.map(|(score, member)| (Item::Str(member), score));
    (bytes <= SAFETY_LIMIT).then(|| Scorepack::from_pairs(pairs))
}

/// The members and scores of a listpack of pairs.
pub(super) fn listpack_pairs(listpack: &Listpack) -> impl Iterator<Item = (Item<'_>, f64)> + Clone {
    listpack.pairs().map(|(member, score)| (member, score_of(score)))
}

/// The scorepack of a listpack with ascending pairs; `None` if it is too large. O(n).
pub(super) fn from_listpack(listpack: &Listpack) -> Option<Scorepack> {
    let pairs = listpack_pairs(listpack);
    (listpack.bytes() <= SAFETY_LIMIT).then(|| Scorepack::from_pairs(pairs))
}

/// Length of the longest member, if the entries are ascending pairs without repeated members. O(n).
pub(super) fn longest_if_valid(listpack: &Listpack) -> Result<usize, Unfit> {
    let longest = longest_key(listpack, 2)?;
    let mut last: Option<(Item<'_>, f64)> = None;
    for (member, score) in listpack.pairs() {
        if let Item::Str(text) = score {
            num::parse_f64_saturating(text).ok_or(Unfit::Unordered)?;
        }
        let (score, mut text) = (score_of(score), itoa::Buffer::new());
        if last.is_some_and(|last| compare(last, score, member.text(&mut text)) != Ordering::Less) {
            return Err(Unfit::Unordered);
        }
        last = Some((member, score));
    }
    Ok(longest)
}
