//! Listpacks from outside: are they what a collection may be made of?

use crate::stdx::hash::hash;
use crate::structures::listpack::Listpack;

/// The length of the longest of every `step`th text, beginning with the first, if they all differ and the listpack
/// consists of whole steps; `None` otherwise. O(n log n).
pub(super) fn longest_key(pack: &Listpack, step: usize) -> Option<usize> {
    let mut hashes = Vec::with_capacity(pack.len().div_ceil(step));
    let (mut longest, mut digits, mut count) = (0, itoa::Buffer::new(), 0usize);
    for item in pack.iter() {
        if count.is_multiple_of(step) {
            let text = item.text(&mut digits);
            longest = longest.max(text.len());
            hashes.push(hash(text));
        }
        count += 1;
    }
    if !count.is_multiple_of(step) {
        return None;
    }
    hashes.sort_unstable();
    // Texts with one hash are most likely one text; only then the texts themselves are compared.
    if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
        let mut texts: Vec<Vec<u8>> = pack.iter().step_by(step).map(|item| item.to_vec()).collect();
        texts.sort_unstable();
        if texts.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
    }
    Some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::listpack::Item;

    #[test]
    fn keys_differ() {
        let pack = |items: &[&[u8]]| {
            Listpack::from_items(&items.iter().map(|item| Item::Str(item)).collect::<Vec<_>>())
        };
        assert_eq!(longest_key(&pack(&[]), 2), Some(0));
        assert_eq!(longest_key(&pack(&[b"a", b"a", b"-10", b"a"]), 2), Some(3));
        assert_eq!(longest_key(&pack(&[b"a", b"b", b"a", b"c"]), 2), None);
        assert_eq!(longest_key(&pack(&[b"a", b"b", b"c"]), 2), None);
        assert_eq!(longest_key(&pack(&[b"a", b"b", b"12345"]), 1), Some(5));
        assert_eq!(longest_key(&pack(&[b"1", b"b", b"1"]), 1), None);
    }
}
