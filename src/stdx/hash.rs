//! A keyed hash of bytes for the hash tables: a few nanoseconds for a short key.
//!
//! There are two functions, of which the one that the processor computes faster is used: one based on AES ([`aes`]),
//! and SipHash-1-3 (Aumasson and Bernstein, 2012). Both are pseudorandom functions of the bytes under a key of 128
//! bits, drawn once per process. Without the key, even an attacker who has seen parts of many hashes learns nothing
//! about the hash of another text, and can find colliding texts only by trial. Faster hashes whose secret is only a
//! seed do not claim that. Trial is nevertheless possible, with the help of scans that reveal bits of hashes; the
//! tables defend themselves against that by splitting long chains.
//!
//! All bits of the result but one are usable: the tables take the low bits as an index and the top byte as a tag. No
//! table looks at the [bits between](UNUSED), of which one is always 0. A number derived from the key may therefore be
//! noted there while a hash is passed along, and is recognised by that bit ([`Key::with_note`]). Results differ from
//! process to process and must never reach a file or a peer.

#[cfg(target_arch = "x86_64")]
mod aes;

use crate::stdx::sync::OnceLock;

/// Without known AES instructions, there are no keys for them.
#[cfg(not(target_arch = "x86_64"))]
mod aes {
    #[derive(Clone, Copy)]
    pub(super) enum Keys {}

    impl Keys {
        pub(super) fn new(_: impl FnMut() -> u64) -> Option<Keys> {
            None
        }

        pub(super) fn hash(&self, _: &[u8]) -> u64 {
            match *self {}
        }
    }
}

/// The initial state of SipHash: the key, expanded to four words.
type Seed = [u64; 4];

/// The secret on which all hashes of this process depend.
struct Secret {
    /// Keys of the function based on AES, if that one is used.
    keys: Option<aes::Keys>,
    seed: Seed,
}

static SECRET: OnceLock<Secret> = OnceLock::new();

/// Bits of a hash that no table looks at.
pub const UNUSED: u64 = (NOTED << 1) - (1 << NOTE);

/// The lowest bit of a number noted in a hash.
const NOTE: u32 = 41;

/// The bit that is set if a number is noted; it is above the number's 14 bits.
const NOTED: u64 = 1 << (NOTE + 14);

/// The initial state for a key.
fn seed(key: [u64; 2]) -> Seed {
    let words: Seed =
        [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    std::array::from_fn(|i| words[i] ^ key[i % 2])
}

impl Secret {
    /// The secret that follows from a key.
    fn new(key: [u64; 2]) -> Secret {
        let seed = seed(key);
        let mut numbers = 0u64..;
        // SipHash of 0, 1, 2, … is a stream of words that is indistinguishable from a random one.
        let word = || numbers.next().map_or(0, |n| siphash(&seed, &n.to_le_bytes()));
        Secret { keys: aes::Keys::new(word), seed }
    }

    /// Unit tests always see the same hashes, so that their failures can be repeated.
    fn fresh() -> Secret {
        Secret::new(if cfg!(test) { [0x5eed, 0x5eed] } else { rand::random() })
    }
}

/// Fixes the seed, so that two runs of a process hash alike. Returns whether it took effect: the
/// seed never changes again once something was hashed or a seed was set.
pub fn set_seed(key: u64) -> bool {
    SECRET.set(Secret::new([key, !key])).is_ok()
}

/// The hash of `bytes` under the secret of this process.
///
/// O(n), without a lock: after the first call, access to the secret takes two loads and two well predicted branches.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let hash = match SECRET.get() {
        Some(Secret { keys: Some(keys), .. }) => keys.hash(bytes),
        _ => hash_by_siphash(bytes),
    };
    hash & !NOTED
}

/// The number noted in a hash: see [`Key::with_note`].
#[inline]
pub fn note_in(hash: u64) -> Option<u16> {
    (hash & NOTED != 0).then_some((hash >> NOTE) as u16 & 0x3fff)
}

/// Hashes the keys of standard maps by [`hash`], which is several times faster for short keys.
#[derive(Clone, Copy, Default)]
pub struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub type BuildKeyHasher = std::hash::BuildHasherDefault<KeyHasher>;

impl std::hash::Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(23) ^ hash(bytes);
    }

    /// The length of a slice, which is left out because the hash of the bytes already depends on it.
    fn write_usize(&mut self, _: usize) {}
}

/// Computes the first hash, and all others if the processor has no AES instructions.
#[inline(never)]
fn hash_by_siphash(bytes: &[u8]) -> u64 {
    let secret = SECRET.get_or_init(Secret::fresh);
    match &secret.keys {
        Some(keys) => keys.hash(bytes),
        None => siphash(&secret.seed, bytes),
    }
}

#[inline(always)]
fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    [a, b, c.rotate_left(32), d]
}

/// SipHash-1-3: one round per word, three at the end.
#[inline(always)]
fn siphash(seed: &Seed, bytes: &[u8]) -> u64 {
    let mut state = *seed;
    let mut absorb = |word: u64| {
        state[3] ^= word;
        state = round(state);
        state[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| absorb(u64::from_le_bytes(*word)));
    absorb((bytes.len() as u64) << 56 | last_word(bytes, rest));
    state[2] ^= 0xff;
    let [a, b, c, d] = round(round(round(state)));
    a ^ b ^ c ^ d
}

/// The last word: up to seven bytes, `rest`, with zeros above. Uses overlapping loads instead of a loop.
#[inline(always)]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    let n = rest.len() as u32;
    if let Some(last) = bytes.last_chunk::<8>() {
        // In two steps, because a shift by all bits is needed if nothing is left.
        return u64::from_le_bytes(*last) >> (8 * (7 - n)) >> 8;
    }
    if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        return half(first) | half(last) << (8 * (n - 4));
    }
    match *rest {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, ..] => u64::from(u32::from_le_bytes([a, b, c, 0])),
    }
}

/// A map for keys chosen by outsiders: the standard one, whose hash function is SipHash-1-3 with a key per map.
pub type Map<K, V> = std::collections::HashMap<K, V>;

/// Bytes with their hash, which is computed once and passed along.
///
/// A search with a wrong hash finds nothing, or finds a key in one table and misses it in another. Memory safety must
/// not depend on the hash: code that keeps two tables in step must check that they agree.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    hash: u64,
}

impl Key<'_> {
    /// No bytes. Initialises arrays of keys; nothing is found with it.
    pub const NONE: Key<'static> = Key { bytes: &[], hash: 0 };
}

impl<'a> Key<'a> {
    /// Hashes `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Key { bytes, hash: hash(bytes) }
    }

    /// `bytes` with their [`hash`], which was computed before.
    #[inline]
    pub fn with_hash(bytes: &'a [u8], hash: u64) -> Self {
        Key { bytes, hash }
    }

    /// The hash of the bytes, possibly with a noted number.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }

    /// The same key with the lowest 14 bits of a number noted in its hash, so that a number computed from the key need
    /// not be computed again. Tables find the key as before.
    #[inline]
    pub fn with_note(self, note: u16) -> Self {
        Key { hash: self.hash & !UNUSED | NOTED | u64::from(note & 0x3fff) << NOTE, ..self }
    }

    /// The number noted in the hash.
    #[inline]
    pub fn note(self) -> Option<u16> {
        note_in(self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn equal_bytes_hash_alike_and_others_differ() {
        let mut seen = HashSet::new();
        for n in 0..100_000u32 {
            let key = format!("key:{n}");
            assert_eq!(hash(key.as_bytes()), hash(key.clone().as_bytes()));
            seen.insert(hash(key.as_bytes()));
        }
        assert_eq!(seen.len(), 100_000);
        // A key and the same key with zeros behind it are different keys.
        let zeroes = [0u8; 300];
        let lengths: HashSet<u64> = (0..=300).map(|n| hash(&zeroes[..n])).collect();
        assert_eq!(lengths.len(), 301);
    }

    #[test]
    fn hashes_are_those_of_another_implementation() {
        use std::hash::{DefaultHasher, Hasher};
        // The key of std's default is zero.
        let texts: Vec<u8> = (0..100).map(|n: u8| n.wrapping_mul(37)).collect();
        for len in 0..texts.len() {
            let mut theirs = DefaultHasher::new();
            theirs.write(&texts[..len]);
            assert_eq!(siphash(&seed([0, 0]), &texts[..len]), theirs.finish(), "{len} bytes");
        }
    }

    #[test]
    fn low_bits_and_top_byte_are_spread() {
        for shift in [0, 56] {
            let mut counts = [0f64; 256];
            for n in 0..256_000u64 {
                counts[(hash(&n.to_le_bytes()) >> shift) as usize & 255] += 1.0;
            }
            let chi: f64 = counts.iter().map(|c| (c - 1000.0) * (c - 1000.0) / 1000.0).sum();
            // 255 degrees of freedom: mean 255, standard deviation 22.6.
            assert!(chi < 390.0, "chi-square {chi} at bit {shift}");
        }
    }

    #[test]
    fn the_seed_is_fixed_after_the_first_hash() {
        let before = hash(b"x");
        assert!(!set_seed(1));
        assert_eq!(hash(b"x"), before);
    }
}
