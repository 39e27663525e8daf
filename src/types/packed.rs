//! Validation of listpacks from outside, before a collection takes them over.

use crate::stdx::hash::hash;
use crate::structures::listpack::{Item, Listpack};

/// Why a listpack cannot hold a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// The number of entries is not a multiple of the step, such as two for a field and its value.
    #[error("the listpack has too few or too many entries")]
    Uneven,
    /// A key occurs twice.
    #[error("listpack with dup elements")]
    Repeated,
    /// Scores descend, or members with equal scores do.
    #[error("the listpack is not in order")]
    Unordered,
}

/// Length of the longest key, which is every `step`th text from the first on, if the keys are distinct and the
/// listpack consists of whole steps. O(n) expected for any texts.
///
/// # Errors
/// [`Unfit::Uneven`] or [`Unfit::Repeated`].
pub(super) fn longest_key(pack: &Listpack, step: usize) -> Result<usize, Unfit> {
    let count = pack.len();
    if !count.is_multiple_of(step) {
        return Err(Unfit::Uneven);
    }
    let keys = || pack.iter().step_by(step);
    let mut longest = 0;
    if is_suspicious(count / step, keys().inspect(|key| longest = key.len().max(longest))) {
        if texts_repeat(keys()) {
            return Err(Unfit::Repeated);
        }
        // The suspicion came before the end.
        longest = keys().map(|key| key.len()).max().unwrap_or(0);
    }
    Ok(longest)
}

/// Number of texts so few that even if all marks are equal, comparing the texts takes only microseconds.
const FEW: usize = 128;
/// Number of texts up to which the table of marks is on the stack; most hashes have no more fields.
const VERY_FEW: usize = 16;
/// Least number of places per text in a table of marks.
const SPARE: usize = 2;

/// Whether two of these `len` texts, each in canonical form, are equal. O(n) expected, O(n log n) if some are
/// equal.
///
/// Each text leaves a mark in a table by its hash: usually one load and one store. Texts are compared only after
/// two equal marks. A few texts need only an unkeyed hash and a table on the stack.
pub(super) fn repeats<'a>(len: usize, texts: impl Iterator<Item = Item<'a>> + Clone) -> bool {
    is_suspicious(len, texts.clone()) && texts_repeat(texts)
}

/// Whether two of these `len` texts leave the same mark, and so may be equal; the texts behind them are not looked at.
#[inline]
fn is_suspicious<'a>(len: usize, texts: impl Iterator<Item = Item<'a>>) -> bool {
    if len <= VERY_FEW {
        marks_repeat(&mut [0; VERY_FEW * SPARE], texts.map(quick_hash))
    } else if len <= FEW {
        marks_repeat(&mut [0; FEW * SPARE], texts.map(quick_hash))
    } else {
        let hash_of = |item| match item {
            Item::Int(n) => hash(&n.to_le_bytes()),
            Item::Str(text) => hash(text),
        };
        marks_repeat(&mut vec![0; (len * SPARE).next_power_of_two()], texts.map(hash_of))
    }
}

/// An unkeyed hash, for so few texts that collisions do no harm.
#[inline]
fn quick_hash(item: Item<'_>) -> u64 {
    // The golden ratio: odd, and without a pattern.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(FACTOR);
        product as u64 ^ (product >> 64) as u64
    };
    match item {
        Item::Int(n) => mix(0, n as u64),
        Item::Str(text) => {
            let (words, rest) = text.as_chunks::<8>();
            let hash =
                words.iter().fold(text.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
            // Bytes at the end are read as two overlapping halves, or one by one.
            match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
                (Some(first), Some(last)) => {
                    let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
                    mix(hash, u64::from(first) << 32 | u64::from(last))
                }
                _ => mix(hash, rest.iter().fold(1, |word, &byte| word << 8 | u64::from(byte))),
            }
        }
    }
}

/// Whether two of these hashes leave the same mark. `marks` is all zeros; its length is a power of two and greater
/// than the number of hashes.
#[inline]
fn marks_repeat(marks: &mut [u32], mut hashes: impl Iterator<Item = u64>) -> bool {
    let mask = marks.len() - 1;
    hashes.any(|hash| {
        // Zero marks a free place.
        let (mut at, mark) = (hash as usize & mask, (hash >> 32) as u32 | 1);
        while marks[at] != 0 {
            if marks[at] == mark {
                return true;
            }
            at = (at + 1) & mask;
        }
        marks[at] = mark;
        false
    })
}

#[cold]
fn texts_repeat<'a>(texts: impl Iterator<Item = Item<'a>>) -> bool {
    let mut texts: Vec<Vec<u8>> = texts.map(Item::to_vec).collect();
    texts.sort_unstable();
    texts.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn keys_differ() {
        let pack = |items: &[&[u8]]| {
            Listpack::from_items(&items.iter().map(|item| Item::Str(item)).collect::<Vec<_>>())
        };
        let full = |items: &[&[u8]], step| longest_key(&pack(items), step);
        assert_eq!(full(&[], 2), Ok(0));
        assert_eq!(full(&[b"a", b"a", b"-10", b"a"], 2), Ok(3));
        assert_eq!(full(&[b"a", b"b", b"a", b"c"], 2), Err(Unfit::Repeated));
        assert_eq!(full(&[b"a", b"b", b"c"], 2), Err(Unfit::Uneven));
        assert_eq!(full(&[b"a", b"b", b"12345"], 1), Ok(5));
        assert_eq!(full(&[b"1", b"b", b"1"], 1), Err(Unfit::Repeated));
        // An integer, and the text with the same eight bytes.
        assert_eq!(full(&[b"-2", &(-2i64).to_le_bytes()], 1), Ok(8));
    }

    #[test]
    fn a_repeated_key_is_found_wherever_it_is() {
        let mut rng = Rng::new(1);
        for len in [1, 2, 3, VERY_FEW, VERY_FEW + 1, FEW, FEW + 1, 3000] {
            let mut texts: Vec<String> = (0..len).map(|n| n.to_string()).collect();
            texts.iter_mut().step_by(3).for_each(|text| text.push('x'));
            let found =
                |texts: &[String]| repeats(texts.len(), texts.iter().map(|text| Item::from(text.as_bytes())));
            assert!(!found(&texts), "{len} texts");
            for _ in 0..20 {
                let (one, other) = (rng.index(len), rng.index(len));
                let mut twins = texts.clone();
                twins[one].clone_from(&texts[other]);
                assert_eq!(found(&twins), one != other, "{one} and {other} of {len}");
            }
        }
    }
}
