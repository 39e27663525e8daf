//! A sorted set as a listpack: member, score, member, score …, ascending.
//!
//! A score that is a whole number is an integer entry (and −0 is 0); any other is its shortest text.

use std::cmp::Ordering;
use std::ops::Range;

use super::super::packed::{Scrutiny, Unfit, longest_key};
use super::order;
use crate::stdx::num::{self, FloatBuf};
use crate::structures::listpack::{Item, Listpack, Pairs, Pos, encoded_size};

/// The score an entry stands for.
#[inline]
pub(super) fn score_of(item: Item<'_>) -> f64 {
    match item {
        Item::Int(n) => n as f64,
        Item::Str(text) => num::parse_f64_saturating(text).unwrap_or(0.0),
    }
}

/// The entry for a score.
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

/// The score of the member at `at`.
#[inline]
pub(super) fn score_at(listpack: &Listpack, at: Pos) -> f64 {
    let score = listpack.next(at).expect("a score follows each member");
    score_of(listpack.get(score))
}

/// Bytes that a pair takes.
pub(super) fn pair_size(score: f64, member: &[u8]) -> usize {
    encoded_size(member) + encoded_size(score_item(score, &mut FloatBuf::new()))
}

/// How a stored pair and another compare.
#[inline]
fn compare(stored: (Item<'_>, Item<'_>), score: f64, member: &[u8]) -> Ordering {
    let own = score_of(stored.1);
    if own != score {
        return if own < score { Ordering::Less } else { Ordering::Greater };
    }
    stored.0.text(&mut itoa::Buffer::new()).cmp(member)
}

/// Puts a pair whose member is absent in its place. O(pairs behind it).
pub(super) fn insert(listpack: &mut Listpack, score: f64, member: &[u8]) {
    // From the back, for scores that grow with time are common.
    let mut entries = listpack.entries();
    let mut behind = None;
    while let (Some((_, stored_score)), Some((at, stored))) = (entries.next_back(), entries.next_back()) {
        if compare((stored, stored_score), score, member) == Ordering::Less {
            break;
        }
        behind = Some(at);
    }
    let mut text = FloatBuf::new();
    let items = [Item::Str(member), score_item(score, &mut text)];
    match behind {
        Some(at) => listpack.insert_all(at, &items),
        None => listpack.append(&items),
    }
}

/// Gives the member at `at` another score. O(bytes).
pub(super) fn update(listpack: &mut Listpack, at: Pos, score: f64, member: &[u8]) {
    let score_pos = listpack.next(at).expect("a score follows each member");
    let pair_at = |at: Pos| {
        let score = listpack.next(at).expect("a score follows each member");
        (listpack.get(at), listpack.get(score))
    };
    let prev = listpack.prev(at).and_then(|score| listpack.prev(score)).map(pair_at);
    let next = listpack.next(score_pos).map(pair_at);
    let above_prev = prev.is_none_or(|pair| compare(pair, score, member) == Ordering::Less);
    let below_next = next.is_none_or(|pair| compare(pair, score, member) == Ordering::Greater);
    if above_prev && below_next {
        listpack.replace(score_pos, score_item(score, &mut FloatBuf::new()));
    } else {
        listpack.remove_range_at(at, 2);
        insert(listpack, score, member);
    }
}

/// How many pairs come before `member`, and its score. O(n).
pub(super) fn rank(listpack: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    let at = listpack.find(member, 1)?;
    let mut before = 0;
    let mut entries = listpack.entries();
    // Members and scores alternate: the rank is the number of members passed.
    while entries.next()?.0 != at {
        entries.next()?;
        before += 1;
    }
    Some((before, score_of(entries.next()?.1)))
}

/// The ranks from the first pair that is `above_min` to the first behind that is not `below_max`. O(n).
pub(super) fn ranks(
    listpack: &Listpack,
    mut above_min: impl FnMut((Item<'_>, Item<'_>)) -> bool,
    mut below_max: impl FnMut((Item<'_>, Item<'_>)) -> bool,
) -> Range<usize> {
    let mut pairs = listpack.pairs();
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

/// The pairs behind those at the front for which `outside` holds. O(n).
pub(super) fn skip(listpack: &Listpack, mut outside: impl FnMut((Item<'_>, Item<'_>)) -> bool) -> Pairs<'_> {
    let mut pairs = listpack.pairs();
    loop {
        let here = pairs;
        if !pairs.next().is_some_and(&mut outside) {
            return here;
        }
    }
}

/// The pairs before those at the back for which `outside` holds. O(n).
pub(super) fn skip_back(
    listpack: &Listpack,
    mut outside: impl FnMut((Item<'_>, Item<'_>)) -> bool,
) -> Pairs<'_> {
    let mut pairs = listpack.pairs();
    loop {
        let here = pairs;
        if !pairs.next_back().is_some_and(&mut outside) {
            return here;
        }
    }
}

/// A listpack of pairs that ascend. O(n).
pub(super) fn from_sorted<M: AsRef<[u8]>>(pairs: &[(f64, M)]) -> Listpack {
    let mut listpack = Listpack::new();
    let mut last: Option<(f64, &[u8])> = None;
    for (score, member) in pairs {
        let pair = (*score, member.as_ref());
        assert!(last.is_none_or(|last| order(last, pair).is_lt()), "the pairs of a sorted source ascend");
        let mut text = FloatBuf::new();
        listpack.append(&[Item::Str(pair.1), score_item(pair.0, &mut text)]);
        last = Some(pair);
    }
    listpack
}

/// Length of the longest member, if these are pairs that ascend and no member occurs twice. O(n log n).
pub(super) fn longest_if_valid(listpack: &Listpack) -> Result<usize, Unfit> {
    let longest = longest_key(listpack, 2, Scrutiny::Full)?;
    let mut last: Option<(Item<'_>, Item<'_>)> = None;
    for (member, score) in listpack.pairs() {
        if let Item::Str(text) = score {
            num::parse_f64_saturating(text).ok_or(Unfit::Unordered)?;
        }
        let mut text = itoa::Buffer::new();
        let text = member.text(&mut text);
        if last.is_some_and(|last| compare(last, score_of(score), text) != Ordering::Less) {
            return Err(Unfit::Unordered);
        }
        last = Some((member, score));
    }
    Ok(longest)
}
