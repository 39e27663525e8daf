//! CRC-16/XMODEM (polynomial 0x1021, initial value 0, highest bit first), from which a cluster derives the slots of
//! keys.
//!
//! Where the processor multiplies without carry, 16 bytes are summed at a time ([`clmul`]). Elsewhere eight bytes are, with
//! eight tables, as in [`crc64`](super::crc64). Leading zeros do not change the sum, so the bytes that do not fill a word
//! are summed first, with zeros before them.

#[cfg(target_arch = "x86_64")]
mod clmul;

/// There is no known instruction.
#[cfg(not(target_arch = "x86_64"))]
mod clmul {
    pub(super) fn detect() {}

    pub(super) fn checksum(_: &[u8]) -> Option<u16> {
        None
    }
}

const POLYNOMIAL: u16 = 0x1021;

/// `TABLES[n][byte]`: the sum of `byte` followed by `n` zeros.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 != 0 { sum << 1 ^ POLYNOMIAL } else { sum << 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        byte = 0;
        while byte < 256 {
            let before = tables[n - 1][byte];
            tables[n][byte] = before << 8 ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
};

/// The sum of `bytes`. O(n), some nanoseconds for a short key.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    clmul::checksum(bytes).unwrap_or_else(|| checksum_by_tables(bytes))
}

/// Computes the first sum, and all others if the processor lacks the instructions.
#[inline(never)]
fn checksum_by_tables(bytes: &[u8]) -> u16 {
    clmul::detect();
    let (rest, words) = bytes.as_rchunks::<8>();
    let mut sum = if rest.is_empty() { 0 } else { step(0, first_word(bytes, rest)) };
    for word in words {
        sum = step(sum, u64::from_be_bytes(*word));
    }
    sum
}

/// Continues the sum `sum` with a word.
#[inline(always)]
fn step(sum: u16, word: u64) -> u16 {
    let word = (word ^ u64::from(sum) << 48).to_be_bytes();
    (0..8).fold(0, |sum, i| sum ^ TABLES[7 - i][word[i] as usize])
}

/// The bytes before the first whole word, fewer than eight, as a word with leading zeros.
#[inline(always)]
fn first_word(bytes: &[u8], rest: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        // In two steps, because a shift by all bits is needed if no byte is left.
        Some(first) => u64::from_be_bytes(*first) >> 8 >> (56 - 8 * (rest.len() as u32 & 7)),
        None => rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        assert_eq!(checksum(b"123456789"), 0x31c3);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn words_and_bits_agree() {
        let bytes: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(167) ^ 0x5a).collect();
        for start in 0..20 {
            for end in start..bytes.len() {
                let bytes = &bytes[start..end];
                let expected = bytes.iter().fold(0u16, |sum, &byte| {
                    (0..8).fold(sum ^ u16::from(byte) << 8, |sum, _| {
                        if sum & 0x8000 != 0 { sum << 1 ^ POLYNOMIAL } else { sum << 1 }
                    })
                });
                assert_eq!(checksum_by_tables(bytes), expected, "{start}..{end}");
                assert_eq!(checksum(bytes), expected, "{start}..{end}");
            }
        }
    }
}
