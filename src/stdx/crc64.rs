//! CRC-64 with Jones' polynomial: the checksum of RDB files and DUMP payloads.
//!
//! The polynomial is David Jones' (2002), reflected, with no initial value and no final inversion, so that a sum can
//! be continued: `update(update(0, a), b)` is the sum of `a` followed by `b`. Eight bytes are summed at a time with
//! eight tables ("slicing", Kounavis and Berry, 2005), which are computed at compile time.

/// The polynomial with its bits reversed.
const POLYNOMIAL: u64 = 0xad93_d235_94c9_35a9_u64.reverse_bits();

/// `TABLES[n][byte]`: the sum of `byte` followed by `n` zeros.
static TABLES: [[u64; 256]; 8] = {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
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
            tables[n][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
};

/// Continues the sum `sum` with `bytes`; a new sum starts with 0. O(n), more than a gigabyte per second.
pub fn update(mut sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let x = (sum ^ u64::from_le_bytes(*word)).to_le_bytes();
        sum = TABLES[7][usize::from(x[0])]
            ^ TABLES[6][usize::from(x[1])]
            ^ TABLES[5][usize::from(x[2])]
            ^ TABLES[4][usize::from(x[3])]
            ^ TABLES[3][usize::from(x[4])]
            ^ TABLES[2][usize::from(x[5])]
            ^ TABLES[1][usize::from(x[6])]
            ^ TABLES[0][usize::from(x[7])];
    }
    for &byte in rest {
        sum = TABLES[0][usize::from(sum as u8 ^ byte)] ^ sum >> 8;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum computed bit by bit, as defined.
    fn slowly(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |sum, &byte| {
            (0..8).fold(
                sum ^ u64::from(byte),
                |sum, _| if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 },
            )
        })
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * i / 7) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(update(0, &bytes[..len]), slowly(&bytes[..len]), "{len} bytes");
        }
        for cut in [0, 1, 7, 8, 9, 100, 300] {
            assert_eq!(update(update(0, &bytes[..cut]), &bytes[cut..]), slowly(&bytes), "cut at {cut}");
        }
    }
}
