//! The slots that a cluster divides its keys into.
//!
//! A slot is the CRC-16 of a key modulo 16384. If the key has a *hash tag*, only the tag is summed, so that keys with
//! the same tag are in the same slot and one command can use them together. The hash tag is the text between the first
//! `{` and the first `}` after it, unless it is empty.

use std::fmt;

use crate::stdx::{crc16, num};

/// Number of slots.
pub const SLOTS: usize = 1 << Slot::BITS;

/// Number of a slot, below [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// Number of bits of a slot.
    pub const BITS: u32 = 14;
    /// The first slot.
    pub const FIRST: Slot = Slot(0);
    /// The last slot.
    pub const LAST: Slot = Slot(SLOTS as u16 - 1);

    /// The slot with this number; `None` if there is none.
    #[inline]
    pub const fn new(n: usize) -> Option<Slot> {
        if n < SLOTS { Some(Slot(n as u16)) } else { None }
    }

    /// The slot with this number in decimal digits; `None` if there is none.
    pub fn parse(text: &[u8]) -> Option<Slot> {
        Slot::new(usize::try_from(num::parse_i64(text)?).ok()?)
    }

    /// The lowest 14 bits of `bits`.
    #[inline]
    pub const fn from_low_bits(bits: u64) -> Slot {
        Slot(bits as u16 & Slot::LAST.0)
    }

    /// The slot of a key. O(n).
    #[inline]
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16::checksum(hash_tag(key)) & Slot::LAST.0)
    }

    /// The number, as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// All slots in order.
    pub fn all() -> impl ExactSizeIterator<Item = Slot> + DoubleEndedIterator + Clone {
        (0..SLOTS as u16).map(Slot)
    }

    /// The slots from `self` to `last`, both included.
    pub fn to(self, last: Slot) -> impl ExactSizeIterator<Item = Slot> + Clone {
        (self.0..last.0 + 1).map(Slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot of a key: see [`Slot::of`].
#[inline]
pub fn key_slot(key: &[u8]) -> Slot {
    Slot::of(key)
}

/// The part of a key that decides its slot: the hash tag, or all of the key if it has none.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    if lacks_brace(key) { key } else { search_hash_tag(key) }
}

/// As [`hash_tag`], by a search.
#[inline(never)]
fn search_hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let behind = &key[open + 1..];
    match memchr::memchr(b'}', behind) {
        None | Some(0) => key,
        Some(close) => &behind[..close],
    }
}

/// Whether a key of 8 to 32 bytes contains no `{`, which is quickly known; false for other keys.
#[inline]
fn lacks_brace(key: &[u8]) -> bool {
    /// Compares all bytes at once.
    #[inline(always)]
    fn is_without<const N: usize>(bytes: &[u8; N]) -> bool {
        bytes.iter().fold(true, |without, &byte| without & (byte != b'{'))
    }
    if let Ok(key) = key.try_into() {
        return is_without::<16>(key);
    }
    // The two parts overlap.
    match key.len() {
        17..=32 => [key.first_chunk::<16>(), key.last_chunk()].iter().flatten().all(|part| is_without(part)),
        8..=16 => [key.first_chunk::<8>(), key.last_chunk()].iter().flatten().all(|part| is_without(part)),
        _ => false,
    }
}

/// The slot of all keys that match a pattern: that of its hash tag, or of the only key that matches; `None` if they may
/// be in different slots.
pub fn pattern_slot(pattern: &[u8]) -> Option<Slot> {
    let mut open = None;
    for (i, byte) in pattern.iter().enumerate() {
        match (byte, open) {
            (b'*' | b'?' | b'[' | b'\\', _) => return None,
            (b'{', None) => open = Some(i + 1),
            (b'}', Some(start)) if start < i => return Some(Slot::of(&pattern[start..i])),
            // An empty tag is none, and there is no other one.
            (b'}', Some(start)) if start == i => open = Some(usize::MAX),
            _ => {}
        }
    }
    Some(Slot::of(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_other_servers() {
        let known: &[(&[u8], u16)] = &[
            (b"", 0),
            (b"a", 15495),
            (b"foo", 12182),
            (b"{foo}", 12182),
            (b"x{foo}y", 12182),
            (b"{}", 15257),
            (b"{}foo", 9500),
            (b"foo{}bar", 14292),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"{", 4092),
            (b"}", 12090),
            (b"a{b", 13340),
            (b"}a{b}", 3300),
            (b"a}b{c}", 7365),
            (b"123456789", 12739),
            (b"user1000", 3443),
            (b"{user1000}.following", 3443),
            (b"\x00\xff\x80a{", 1822),
            (b"{\xff}x", 7920),
            (&[b'x'; 300], 11216),
        ];
        for &(key, slot) in known {
            assert_eq!(key_slot(key), Slot(slot), "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_tag_is_found_wherever_it_is() {
        for len in 3..70 {
            let plain = vec![b'k'; len];
            assert_eq!(hash_tag(&plain), plain);
            for at in 0..len - 2 {
                let mut key = plain.clone();
                key[at] = b'{';
                assert_eq!(hash_tag(&key), key, "{len}, {at}");
                key[len - 1] = b'}';
                assert_eq!(hash_tag(&key), &plain[..len - at - 2], "{len}, {at}");
            }
        }
    }

    #[test]
    fn numbers_of_slots() {
        assert_eq!(Slot::parse(b"0"), Some(Slot::FIRST));
        assert_eq!(Slot::parse(b"16383"), Some(Slot::LAST));
        for text in [&b"16384"[..], b"-1", b"", b"1x", b"99999999999999999999"] {
            assert_eq!(Slot::parse(text), None);
        }
        assert_eq!(Slot::all().len(), SLOTS);
        assert!(Slot(3).to(Slot(5)).eq([Slot(3), Slot(4), Slot(5)]));
        assert_eq!(Slot::LAST.to(Slot::LAST).count(), 1);
    }
}
