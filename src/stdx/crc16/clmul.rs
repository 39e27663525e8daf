//! The sum by the processor's carry-less multiplication.
//!
//! Texts are polynomials over GF(2), highest bit first. A block of 16 bytes is `h * x^64 + l`, and its sum is this times
//! `x^16` modulo the polynomial `P`. With `h` multiplied by `x^80 mod P` instead of `x^80`, what remains to be divided
//! has 80 bits. It is divided by a multiplication with the reciprocal of `P` (Barrett, 1986), which is exact for
//! polynomials.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_set_epi64x, _mm_shuffle_epi8,
    _mm_srli_si128, _mm_xor_si128,
};
use std::sync::atomic::{AtomicBool, Ordering};

use super::POLYNOMIAL;

/// Size of a block in bytes.
const BLOCK: usize = 16;
/// Size of a word in bytes.
const WORD: usize = 8;

/// `x^16 + POLYNOMIAL`.
const P: u64 = 1 << 16 | POLYNOMIAL as u64;

/// Quotient without its highest bit, `x^64`, and remainder of `x^80` divided by [`P`].
const X80: (u64, u16) = {
    let (mut quotient, mut rest) = (0u64, 1u16);
    let mut bit = 0;
    // Each power is `x` times the one before, and gives the quotient one bit more.
    while bit < 80 {
        let carry = rest & 0x8000 != 0;
        rest = if carry { rest << 1 ^ POLYNOMIAL } else { rest << 1 };
        // The highest bit of the quotient leaves the word.
        quotient = quotient << 1 | carry as u64;
        bit += 1;
    }
    (quotient, rest)
};

/// Whether the processor is known to have the instructions. Only [`detect`] sets it.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Finds out whether the processor has the instructions.
pub(super) fn detect() {
    if std::arch::is_x86_feature_detected!("pclmulqdq") && std::arch::is_x86_feature_detected!("ssse3") {
        AVAILABLE.store(true, Ordering::Relaxed);
    }
}

/// The sum of `bytes`; `None` unless the processor is known to have the instructions.
#[inline(always)]
pub(super) fn checksum(bytes: &[u8]) -> Option<u16> {
    // SAFETY: `detect` has found the instructions.
    AVAILABLE.load(Ordering::Relaxed).then(|| unsafe { checksum_by_clmul(bytes) })
}

#[target_feature(enable = "pclmulqdq,ssse3")]
fn checksum_by_clmul(bytes: &[u8]) -> u16 {
    if let Ok(block) = bytes.try_into() {
        return step(load(block));
    }
    let n = bytes.len();
    match n {
        WORD..=BLOCK => {
            // The words overlap. In two steps, because a shift by all bits is needed if the last word is the whole text.
            let half = 4 * (BLOCK - n) as u32;
            step(block(word(bytes, 0) >> half >> half, word(bytes, n - WORD)))
        }
        0..WORD => step(block(0, bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)))),
        _ => long(bytes),
    }
}

/// The word at `at`, which must exist.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + WORD].try_into().expect("as many as asked for"))
}

/// The sum of more than one block. Leading zeros do not change a sum, so the first block need not be full.
#[inline(never)]
#[target_feature(enable = "pclmulqdq,ssse3")]
fn long(bytes: &[u8]) -> u16 {
    let (rest, blocks) = bytes.as_rchunks::<BLOCK>();
    let first = rest.iter().fold(0, |block, &byte| block << 8 | u128::from(byte));
    blocks.iter().fold(step(block((first >> 64) as u64, first as u64)), |sum, bytes| {
        step(_mm_xor_si128(load(bytes), block(u64::from(sum) << 48, 0)))
    })
}

/// A block of two words.
#[inline]
#[target_feature(enable = "sse2")]
fn block(high: u64, low: u64) -> __m128i {
    _mm_set_epi64x(high as i64, low as i64)
}

/// A block whose first byte is the highest.
#[inline]
#[target_feature(enable = "ssse3")]
fn load(bytes: &[u8; BLOCK]) -> __m128i {
    let reversed = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    // SAFETY: there are 16 bytes, and the instruction asks for no alignment.
    _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, reversed)
}

/// The sum of a block.
#[inline]
#[target_feature(enable = "pclmulqdq,sse2")]
fn step(text: __m128i) -> u16 {
    // The last argument of a multiplication chooses a word of each factor.
    let powers = block(1 << 16, X80.1.into());
    let divisor = block(P, X80.0);
    let high = _mm_clmulepi64_si128::<0x01>(text, powers);
    let low = _mm_clmulepi64_si128::<0x10>(text, powers);
    let dividend = _mm_xor_si128(high, low);
    let top = _mm_srli_si128::<2>(dividend);
    let quotient = _mm_xor_si128(top, _mm_srli_si128::<8>(_mm_clmulepi64_si128::<0x00>(top, divisor)));
    let product = _mm_clmulepi64_si128::<0x10>(quotient, divisor);
    _mm_cvtsi128_si32(_mm_xor_si128(dividend, product)) as u16
}
