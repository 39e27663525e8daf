//! Products of vectors, and differences of rows of bits: loops that are compiled once per instruction set.
//!
//! The sums are kept in a fixed number of lanes, so that the result does not depend on the width of the registers, and
//! graphs that two machines build from the same vectors are the same.
#![allow(unsafe_code)]

/// Sums kept side by side.
const LANES: usize = 16;

#[inline(always)]
fn product_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = sums.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        width /= 2;
    }
    sums[0] + rest
}

#[inline(always)]
fn product_i8(a: &[i8], b: &[i8]) -> i64 {
    /// Products whose sum fits 32 bits.
    const PIECE: usize = 1 << 16;
    let sum = |a: &[i8], b: &[i8]| -> i32 {
        a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b))).sum()
    };
    a.chunks(PIECE).zip(b.chunks(PIECE)).map(|(a, b)| i64::from(sum(a, b))).sum()
}

#[inline(always)]
fn differing(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Defines a function that runs a loop with the widest registers that the processor has.
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis $name:ident = $body:ident as $wide:ident($a:ty) -> $result:ty) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,popcnt")]
        fn $wide(a: $a, b: $a) -> $result {
            $body(a, b)
        }

        $(#[$doc])*
        #[inline]
        $vis fn $name(a: $a, b: $a) -> $result {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                // SAFETY: the processor has these instructions.
                return unsafe { $wide(a, b) };
            }
            $body(a, b)
        }
    };
}

dispatched! {
    /// The scalar product of two vectors of the same length. O(n).
    pub dot_f32 = product_f32 as product_f32_wide(&[f32]) -> f32
}

dispatched! {
    /// The scalar product of two vectors of small integers of the same length. O(n).
    pub(super) dot_i8 = product_i8 as product_i8_wide(&[i8]) -> i64
}

dispatched! {
    /// Number of bits in which two rows of the same length differ. O(n).
    pub(super) hamming = differing as differing_wide(&[u64]) -> u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn products_are_those_of_plain_loops() {
        let mut rng = Rng::new(1);
        for len in [0, 1, 15, 16, 17, 100, 768] {
            let a: Vec<f32> = (0..len).map(|_| rng.f64() as f32 - 0.5).collect();
            let b: Vec<f32> = (0..len).map(|_| rng.f64() as f32 - 0.5).collect();
            let plain: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            assert!((f64::from(dot_f32(&a, &b)) - plain).abs() < 1e-4);
            assert_eq!(dot_f32(&a, &b).to_bits(), product_f32(&a, &b).to_bits(), "whatever the registers");
            let a: Vec<i8> = (0..len).map(|_| rng.next_u64() as i8).collect();
            let b: Vec<i8> = (0..len).map(|_| rng.next_u64() as i8).collect();
            let plain: i64 = a.iter().zip(&b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            assert_eq!(dot_i8(&a, &b), plain);
            let a: Vec<u64> = (0..len).map(|_| rng.next_u64()).collect();
            let b: Vec<u64> = (0..len).map(|_| rng.next_u64()).collect();
            let plain: u32 = (0..64 * len).map(|i| ((a[i / 64] ^ b[i / 64]) >> (i % 64) & 1) as u32).sum();
            assert_eq!(hamming(&a, &b), plain);
        }
    }

    #[test]
    fn long_vectors_of_extremes_do_not_overflow() {
        let a = vec![-128i8; 1 << 20];
        assert_eq!(dot_i8(&a, &a), (1 << 20) * 128 * 128);
    }
}
