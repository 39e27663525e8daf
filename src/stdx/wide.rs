//! Loops over bytes that are compiled once per instruction set, of which the widest that the processor has is used.
#![allow(unsafe_code)]

/// Fewest bytes for which detecting the processor's instruction set is worth the time.
const DISPATCH_MIN: usize = 128;

/// Counting loop, compiled once per instruction set.
#[inline(always)]
fn count_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    whole + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn count_avx512(bytes: &[u8]) -> u64 {
    count_words(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn count_avx2(bytes: &[u8]) -> u64 {
    count_words(bytes)
}

/// Number of bits set in `bytes`. O(n).
pub fn count_ones(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= DISPATCH_MIN {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: the processor has what the function was compiled for, as just asked.
            return unsafe { count_avx512(bytes) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: as above.
            return unsafe { count_avx2(bytes) };
        }
    }
    count_words(bytes)
}

/// Bytes compared between two checks for a difference.
const STEP: usize = 256;

/// Comparing loop, compiled once per instruction set: length of the prefix of whole steps that consists of `skip`.
#[inline(always)]
fn skip_steps(bytes: &[u8], skip: u8) -> usize {
    let pattern = u64::from_ne_bytes([skip; 8]);
    let differs = |step: &[u8; STEP]| {
        let (words, _) = step.as_chunks::<8>();
        words.iter().fold(0, |bits, word| bits | (u64::from_ne_bytes(*word) ^ pattern)) != 0
    };
    let (steps, _) = bytes.as_chunks::<STEP>();
    steps.iter().position(differs).unwrap_or(steps.len()) * STEP
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn skip_avx512(bytes: &[u8], skip: u8) -> usize {
    skip_steps(bytes, skip)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn skip_avx2(bytes: &[u8], skip: u8) -> usize {
    skip_steps(bytes, skip)
}

/// Index of the first byte other than `skip`. O(n).
pub fn find_other(bytes: &[u8], skip: u8) -> Option<usize> {
    let mut start = 0;
    if bytes.len() >= STEP {
        start = skip_most(bytes, skip);
    }
    bytes[start..].iter().position(|byte| *byte != skip).map(|at| start + at)
}

/// As [`skip_steps`], with the widest instruction set that the processor has.
fn skip_most(bytes: &[u8], skip: u8) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function was compiled for, as just asked.
            return unsafe { skip_avx512(bytes, skip) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function was compiled for, as just asked.
            return unsafe { skip_avx2(bytes, skip) };
        }
    }
    skip_steps(bytes, skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same() {
        let mut rng = crate::stdx::rng::Rng::new(9);
        for len in [0, 1, 7, 127, 128, 255, 256, 257, 1000, 5000] {
            let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            let ones: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
            assert_eq!((count_ones(&bytes), count_words(&bytes)), (ones, ones), "{len}");
            let mut same = vec![0xff; len];
            assert_eq!(find_other(&same, 0xff), None, "{len}");
            for _ in 0..len.min(20) {
                let at = rng.index(len);
                same[at] = 0;
                let first = same.iter().position(|byte| *byte == 0);
                assert_eq!(find_other(&same, 0xff), first, "{len}");
                assert!(first.is_some_and(|first| skip_steps(&same, 0xff) <= first), "{len}");
            }
        }
    }
}
