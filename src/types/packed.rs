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

/// The length of the longest of every `step`th text, beginning with the first, if they all differ and the listpack
/// consists of whole steps. O(n) expected, whatever the texts are.
///
/// # Errors
/// It does not, or two are equal.
pub(super) fn longest_key(pack: &Listpack, step: usize) -> Result<usize, Unfit> {
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
    if repeats(count / step, pack.iter().step_by(step)) {
        return Err(Unfit::Repeated);
    }
    Ok(longest)
}

/// Texts whose marks fit on the stack: as many as a listpack has by default.
const FEW: usize = 128;
/// Places in a table of marks for each text, at least.
const SPARE: usize = 2;

/// Whether two of these `len` texts, each in its canonical form, are equal. O(n) expected, O(n log n) where some are.
///
/// Each text leaves a mark in a table, by its keyed hash: one load and one store for most of them. Only two equal
/// marks make it worth comparing texts.
pub(super) fn repeats<'a>(len: usize, texts: impl Iterator<Item = Item<'a>> + Clone) -> bool {
    let places = (len * SPARE).next_power_of_two();
    let (mut few, mut many) = ([0; FEW * SPARE], Vec::new());
    let marks = match few.get_mut(..places) {
        Some(marks) => marks,
        None => {
            many.resize(places, 0);
            &mut many[..]
        }
    };
    marks_repeat(marks, texts.clone()) && texts_repeat(texts)
}

/// Whether two texts have the same mark. `marks` is all zero, a power of two of places and more than there are texts.
fn marks_repeat<'a>(marks: &mut [u32], texts: impl Iterator<Item = Item<'a>>) -> bool {
    let mask = marks.len() - 1;
    for item in texts {
        // The same bytes for a number and for a text are no harm: the texts are compared.
        let hash = match item {
            Item::Int(n) => hash(&n.to_le_bytes()),
            Item::Str(text) => hash(text),
        };
        // Zero is a free place.
        let (mut at, mark) = (hash as usize & mask, (hash >> 32) as u32 | 1);
        while marks[at] != 0 {
            if marks[at] == mark {
                return true;
            }
            at = (at + 1) & mask;
        }
        marks[at] = mark;
    }
    false
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
        // An integer, and the text of the same eight bytes.
        assert_eq!(full(&[b"-2", &(-2i64).to_le_bytes()], 1), Ok(8));
    }

    #[test]
    fn a_repeated_key_is_found_wherever_it_is() {
        let mut rng = Rng::new(1);
        for len in [1, 2, 3, FEW - 1, FEW, FEW + 1, 3000] {
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
