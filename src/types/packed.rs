//! Listpacks from outside: are they what a collection may be made of?

use crate::stdx::hash::hash;
use crate::structures::listpack::{Item, Listpack};

/// Why a listpack cannot be a collection's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Its entries do not make whole steps, such as a field and its value.
    #[error("the listpack has too few or too many entries")]
    Uneven,
    /// A key occurs twice.
    #[error("listpack with dup elements")]
    Repeated,
    /// Scores descend, or members of one score.
    #[error("the listpack is not in order")]
    Unordered,
}

/// How closely a listpack is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scrutiny {
    /// Each key occurs once.
    Full,
    /// That is believed, where it is not needed to keep memory sound: nothing worse than wrong answers follows.
    Trusting,
}

/// The length of the longest of every `step`th text, beginning with the first, if they all differ and the listpack
/// consists of whole steps. O(n log n), O(n) if it is trusted.
///
/// # Errors
/// It does not, or two are equal; a trusted one is not looked at that closely.
pub(super) fn longest_key(pack: &Listpack, step: usize, scrutiny: Scrutiny) -> Result<usize, Unfit> {
    let (mut longest, mut count) = (0, 0usize);
    for item in pack.iter() {
        if count.is_multiple_of(step) {
            longest = longest.max(item.len());
        }
        count += 1;
    }
    if !count.is_multiple_of(step) {
        return Err(Unfit::Uneven);
    }
    if scrutiny == Scrutiny::Full && repeats(pack.iter().step_by(step)) {
        return Err(Unfit::Repeated);
    }
    Ok(longest)
}

/// Whether two of these texts are equal. O(n log n).
pub(super) fn repeats<'a>(texts: impl Iterator<Item = Item<'a>> + Clone) -> bool {
    let mut digits = itoa::Buffer::new();
    let mut hashes: Vec<u64> = texts.clone().map(|item| hash(item.text(&mut digits))).collect();
    hashes.sort_unstable();
    if hashes.windows(2).all(|pair| pair[0] != pair[1]) {
        return false;
    }
    // Texts with one hash are most likely one text; only then the texts themselves are compared.
    let mut texts: Vec<Vec<u8>> = texts.map(Item::to_vec).collect();
    texts.sort_unstable();
    texts.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        let pack = |items: &[&[u8]]| {
            Listpack::from_items(&items.iter().map(|item| Item::Str(item)).collect::<Vec<_>>())
        };
        let full = |items: &[&[u8]], step| longest_key(&pack(items), step, Scrutiny::Full);
        assert_eq!(full(&[], 2), Ok(0));
        assert_eq!(full(&[b"a", b"a", b"-10", b"a"], 2), Ok(3));
        assert_eq!(full(&[b"a", b"b", b"a", b"c"], 2), Err(Unfit::Repeated));
        assert_eq!(full(&[b"a", b"b", b"c"], 2), Err(Unfit::Uneven));
        assert_eq!(full(&[b"a", b"b", b"12345"], 1), Ok(5));
        assert_eq!(full(&[b"1", b"b", b"1"], 1), Err(Unfit::Repeated));
        assert_eq!(longest_key(&pack(&[b"1", b"b", b"1"]), 1, Scrutiny::Trusting), Ok(1));
    }
}
