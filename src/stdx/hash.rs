//! A keyed hash of bytes for the hash tables: a few nanoseconds for a short key.
//!
//! The seed is drawn once per process, so nobody outside can prepare keys that collide. The
//! function is foldhash in its "quality" variant (a widening multiply whose halves are folded
//! together): every bit of the result is usable, the tables take the low bits as an index and the
//! top byte as a tag. Results differ from process to process and must never reach a file or a peer.

use std::hash::Hasher;
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

struct Seed {
    /// Where the accumulator starts.
    start: u64,
    /// What the input is mixed with.
    mix: SharedSeed,
}

static SEED: OnceLock<Seed> = OnceLock::new();

impl Seed {
    fn from_words(start: u64, mix: u64) -> Seed {
        Seed { start, mix: SharedSeed::from_u64(mix) }
    }

    /// Unit tests always see the same hashes, so that their failures can be repeated.
    #[cold]
    fn fresh() -> Seed {
        if cfg!(test) {
            Seed::from_words(0x5eed, 0x5eed)
        } else {
            Seed::from_words(rand::random(), rand::random())
        }
    }
}

/// Fixes the seed, so that two runs of a process hash alike. Returns whether it took effect: the
/// seed never changes again once something was hashed or a seed was set.
pub fn set_seed(seed: u64) -> bool {
    SEED.set(Seed::from_words(seed, !seed)).is_ok()
}

/// The hash of `bytes` under the seed of this process.
///
/// O(n), without a lock: past the first call the seed is one load and a predicted branch away.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let seed = SEED.get_or_init(Seed::fresh);
    let mut hasher = FoldHasher::with_seed(seed.start, &seed.mix);
    hasher.write(bytes);
    hasher.finish()
}

/// A map from names that outsiders choose: std's, with this module's hash function (each map draws its own seed).
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;

/// Bytes with their hash, computed once and carried along.
///
/// Whatever is looked for with a hash that is not that of the bytes is not found, or is found in one table and
/// missed in another. Memory safety must not rest on it: who keeps two tables in step checks that they are.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    hash: u64,
}

impl Key<'_> {
    /// No bytes, to fill an array with before there are keys. Nothing is found with it.
    pub const NONE: Key<'static> = Key { bytes: &[], hash: 0 };
}

impl<'a> Key<'a> {
    /// Hashes `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Key { bytes, hash: hash(bytes) }
    }

    /// `bytes` whose hash, [`hash`], was computed before.
    #[inline]
    pub fn with_hash(bytes: &'a [u8], hash: u64) -> Self {
        Key { bytes, hash }
    }

    /// The hash of the bytes.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
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
        // A key and the same key with zeroes after it are different keys.
        let zeroes = [0u8; 300];
        let lengths: HashSet<u64> = (0..=300).map(|n| hash(&zeroes[..n])).collect();
        assert_eq!(lengths.len(), 301);
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
