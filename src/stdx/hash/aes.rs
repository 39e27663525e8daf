//! The hash based on the processor's AES instructions.
//!
//! The construction is that of Pelican-MAC (Daemen and Rijmen, 2005). The state begins with a secret. Each block but
//! the last is added to the state, which is then mixed by four unkeyed rounds of AES; any two different texts are known
//! to result in the same state for at most one in 2^113 secrets. Finally the last block is added, and the state is
//! encrypted by full AES under a secret key. A text of at most one block is thus simply encrypted, and half of the
//! result is the hash.
//!
//! A last block that is not full is filled with preceding bytes of the text, or by repeating bytes of its own. To tell
//! such texts apart, the secret added to the last block depends on its length, as in CMAC.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x,
    _mm_setzero_si128, _mm_xor_si128,
};

/// Size of a block in bytes.
const BLOCK: usize = 16;
/// Number of rounds that mix in a block other than the last.
const MIXING: usize = 4;

/// The secrets, drawn independently. A value of this type proves that the processor has the instructions.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// Initial state for texts of more than one block.
    start: __m128i,
    /// Secret added to a last block of 0 to 16 bytes, by its length.
    last: [__m128i; BLOCK + 1],
    /// Round keys of the final AES encryption.
    rounds: [__m128i; 10],
}

impl Keys {
    /// Keys made of the words that `word` returns, which must be independent; `None` if the processor has no AES
    /// instructions.
    pub(super) fn new(mut word: impl FnMut() -> u64) -> Option<Keys> {
        // SAFETY: every x86-64 processor has SSE2.
        let mut block = || unsafe { _mm_set_epi64x(word() as i64, word() as i64) };
        std::arch::is_x86_feature_detected!("aes").then(|| Keys {
            start: block(),
            last: std::array::from_fn(|_| block()),
            rounds: std::array::from_fn(|_| block()),
        })
    }

    /// The hash of `bytes`.
    #[inline(always)]
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        // SAFETY: `new` has made sure of the instructions.
        unsafe { self.hash_by_aes(bytes) }
    }

    #[target_feature(enable = "aes,sse2")]
    fn hash_by_aes(&self, bytes: &[u8]) -> u64 {
        let n = bytes.len();
        if n < BLOCK {
            return self.finish(short_block(bytes), n);
        }
        let last = load(chunk(bytes, n - BLOCK));
        if n == BLOCK {
            return self.finish(last, BLOCK);
        }
        self.finish(_mm_xor_si128(last, self.mix(bytes)), (n - 1) % BLOCK + 1)
    }

    /// The state after all blocks but the last. The text has more than one block.
    #[inline(never)]
    #[target_feature(enable = "aes,sse2")]
    fn mix(&self, bytes: &[u8]) -> __m128i {
        let mut state = self.start;
        for block in bytes[..bytes.len() - 1].as_chunks::<BLOCK>().0 {
            state = _mm_xor_si128(state, load(block));
            for _ in 0..MIXING {
                state = _mm_aesenc_si128(state, _mm_setzero_si128());
            }
        }
        state
    }

    /// Adds the secret for a last block of `length` bytes to the state, encrypts it, and returns half of it.
    #[inline]
    #[target_feature(enable = "aes,sse2")]
    fn finish(&self, state: __m128i, length: usize) -> u64 {
        let mut state = _mm_xor_si128(state, self.last[length]);
        let [rounds @ .., last] = &self.rounds;
        for &key in rounds {
            state = _mm_aesenc_si128(state, key);
        }
        _mm_cvtsi128_si64(_mm_aesenclast_si128(state, *last)) as u64
    }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(block: &[u8; BLOCK]) -> __m128i {
    // SAFETY: the block is 16 bytes, and the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

/// The `N` bytes from `at` on, which must exist.
#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..at + N].try_into().expect("as many as asked for")
}

/// The block of a text of fewer than 16 bytes.
#[inline]
#[target_feature(enable = "sse2")]
fn short_block(bytes: &[u8]) -> __m128i {
    let n = bytes.len();
    let (first, last) = match n {
        8.. => (u64::from_le_bytes(*chunk(bytes, 0)), u64::from_le_bytes(*chunk(bytes, n - 8))),
        4.. => {
            let half = |at| u64::from(u32::from_le_bytes(*chunk(bytes, at)));
            (half(0), half(n - 4))
        }
        // Of two bytes, the middle one is also the last.
        2.. => (u64::from(u16::from_le_bytes([bytes[0], bytes[n / 2]])), u64::from(bytes[n - 1])),
        _ => (bytes.first().map_or(0, |&byte| u64::from(byte)), 0),
    };
    _mm_set_epi64x(last as i64, first as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiply(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b != 0 {
            product ^= if b & 1 != 0 { a } else { 0 };
            a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
            b >>= 1;
        }
        product
    }

    /// The S-box of AES by its definition: the inverse in the field, and an affine map.
    fn substitute(byte: u8) -> u8 {
        let inverse = (0..=255).find(|&other| multiply(byte, other) == 1).unwrap_or(0);
        (0..5).fold(0x63, |sum, n| sum ^ inverse.rotate_left(n))
    }

    /// A round of AES by its definition; the last round does not mix columns.
    fn round(state: [u8; 16], key: [u8; 16], is_last: bool) -> [u8; 16] {
        let shifted: [u8; 16] = std::array::from_fn(|i| substitute(state[(i + i % 4 * 4) % 16]));
        std::array::from_fn(|i| {
            let mixed = (0..4).fold(0, |sum, row| {
                let factor = [2, 3, 1, 1][(row + 4 - i % 4) % 4];
                sum ^ multiply(shifted[i / 4 * 4 + row], factor)
            });
            key[i] ^ if is_last { shifted[i] } else { mixed }
        })
    }

    fn bytes_of(block: __m128i) -> [u8; 16] {
        // SAFETY: both are 16 bytes of which any value is valid.
        unsafe { std::mem::transmute(block) }
    }

    fn sum(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    /// The hash by its definition.
    fn expected(keys: &Keys, bytes: &[u8]) -> u64 {
        let n = bytes.len();
        let (mut state, mut done) = ([0; 16], 0);
        if n > 16 {
            state = bytes_of(keys.start);
        }
        while n - done > 16 {
            state = sum(state, bytes[done..done + 16].try_into().expect("16 bytes"));
            (0..4).for_each(|_| state = round(state, [0; 16], false));
            done += 16;
        }
        let mut last = [0; 16];
        match n {
            0 => {}
            1..4 => {
                (last[0], last[8]) = (bytes[0], if n > 1 { bytes[n - 1] } else { 0 });
                last[1] = if n > 1 { bytes[n / 2] } else { 0 };
            }
            4..8 => {
                last[..4].copy_from_slice(&bytes[..4]);
                last[8..12].copy_from_slice(&bytes[n - 4..]);
            }
            8..16 => {
                last[..8].copy_from_slice(&bytes[..8]);
                last[8..].copy_from_slice(&bytes[n - 8..]);
            }
            16.. => last.copy_from_slice(&bytes[n - 16..]),
        }
        state = sum(sum(state, last), bytes_of(keys.last[n - done]));
        for (i, key) in keys.rounds.into_iter().enumerate() {
            state = round(state, bytes_of(key), i == 9);
        }
        u64::from_le_bytes(state[..8].try_into().expect("8 bytes"))
    }

    #[test]
    fn the_definition_is_that_of_aes() {
        // From FIPS 197, appendix B: the state before its second round, the round key, and the state after the round.
        let block = |number: u128| number.to_be_bytes();
        let state = block(0xa49c_7ff2_689f_352b_6b5b_ea43_026a_5049);
        let key = block(0xf2c2_95f2_7a96_b943_5935_807a_7359_f67f);
        let start = block(0xaa8f_5f03_61dd_e3ef_82d2_4ad2_6832_469a);
        assert_eq!(round(state, key, false), start);
    }

    #[test]
    fn hashes_are_those_of_the_definition() {
        let mut words = 0..;
        let word = || words.next().map_or(0, |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let Some(keys) = Keys::new(word) else { return };
        let text: Vec<u8> = (0..100).map(|n: u8| n.wrapping_mul(37).wrapping_add(11)).collect();
        for n in 0..text.len() {
            assert_eq!(keys.hash(&text[..n]), expected(&keys, &text[..n]), "{n} bytes");
        }
    }
}
