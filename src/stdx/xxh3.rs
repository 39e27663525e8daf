//! XXH3 with 64 bits and without a seed, Yann Collet's hash function, by its specification.
//!
//! Clients compute digests of values themselves and compare them with the server's, so the results are fixed. There
//! is one formula for each of the lengths 0, 1 to 3, 4 to 8, 9 to 16, 17 to 128, 129 to 240, and above. Longer texts
//! pass through eight accumulators of 64 bits, in stripes of 64 bytes; the secret moves on by eight bytes with each
//! stripe, and the accumulators are scrambled when its end is reached. All reads are little-endian.

const SECRET_LEN: usize = 192;
/// Default secret of the specification.
#[rustfmt::skip]
const SECRET: [u8; SECRET_LEN] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];
const STRIPE: usize = 64;
/// Bytes by which the secret moves on with each stripe.
const STEP: usize = 8;
const STRIPES_PER_BLOCK: usize = (SECRET_LEN - STRIPE) / STEP;

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME32_2: u64 = 0x85EB_CA77;
const PRIME32_3: u64 = 0xC2B2_AE3D;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME64_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME64_5: u64 = 0x27D4_EB2F_1656_67C5;
const MIX_1: u64 = 0x1656_6791_9E37_79F9;
const MIX_2: u64 = 0x9FB2_1C65_1E98_DF25;

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The product of two numbers, its halves combined by XOR.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The final mixing of XXH3.
fn avalanche(mut hash: u64) -> u64 {
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(MIX_1);
    hash ^ hash >> 32
}

/// The final mixing of XXH64.
fn avalanche64(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(PRIME64_2);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(PRIME64_3);
    hash ^ hash >> 32
}

/// Sixteen bytes from `at` on, mixed with the secret from `secret` on.
fn mix16(bytes: &[u8], at: usize, secret: usize) -> u64 {
    fold(u64_at(bytes, at) ^ u64_at(&SECRET, secret), u64_at(bytes, at + 8) ^ u64_at(&SECRET, secret + 8))
}

/// The hash of `bytes`. O(n).
pub fn xxh3_64(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    match len {
        0 => avalanche64(u64_at(&SECRET, 56) ^ u64_at(&SECRET, 64)),
        1..=3 => {
            let combined = u64::from(bytes[0]) << 16
                | u64::from(bytes[len / 2]) << 24
                | u64::from(bytes[len - 1])
                | (len as u64) << 8;
            avalanche64(combined ^ u32_at(&SECRET, 0) ^ u32_at(&SECRET, 4))
        }
        4..=8 => {
            let (first, last) = (u32_at(bytes, 0), u32_at(bytes, len - 4));
            let mut hash = last.wrapping_add(first << 32) ^ u64_at(&SECRET, 8) ^ u64_at(&SECRET, 16);
            hash ^= hash.rotate_left(49) ^ hash.rotate_left(24);
            hash = hash.wrapping_mul(MIX_2);
            hash ^= (hash >> 35).wrapping_add(len as u64);
            hash = hash.wrapping_mul(MIX_2);
            hash ^ hash >> 28
        }
        9..=16 => {
            let low = u64_at(bytes, 0) ^ u64_at(&SECRET, 24) ^ u64_at(&SECRET, 32);
            let high = u64_at(bytes, len - 8) ^ u64_at(&SECRET, 40) ^ u64_at(&SECRET, 48);
            let sum = (len as u64).wrapping_add(low.swap_bytes()).wrapping_add(high);
            avalanche(sum.wrapping_add(fold(low, high)))
        }
        17..=128 => {
            // Pairs of sixteen bytes, from both ends towards the middle.
            let sum = (0..len.div_ceil(32)).fold((len as u64).wrapping_mul(PRIME64_1), |sum, i| {
                let front = mix16(bytes, 16 * i, 32 * i);
                sum.wrapping_add(front).wrapping_add(mix16(bytes, len - 16 * (i + 1), 32 * i + 16))
            });
            avalanche(sum)
        }
        129..=240 => {
            const START: usize = 3;
            const LAST: usize = 136 - 17;
            let first = (0..8).fold((len as u64).wrapping_mul(PRIME64_1), |sum, i| {
                sum.wrapping_add(mix16(bytes, 16 * i, 16 * i))
            });
            let sum = (8..len / 16).fold(avalanche(first), |sum, i| {
                sum.wrapping_add(mix16(bytes, 16 * i, 16 * (i - 8) + START))
            });
            avalanche(sum.wrapping_add(mix16(bytes, len - 16, LAST)))
        }
        _ => long(bytes),
    }
}

fn long(bytes: &[u8]) -> u64 {
    let mut sums = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1];
    let block = STRIPE * STRIPES_PER_BLOCK;
    let blocks = (bytes.len() - 1) / block;
    for n in 0..blocks {
        for (i, stripe) in bytes[n * block..(n + 1) * block].chunks_exact(STRIPE).enumerate() {
            accumulate(&mut sums, stripe, i * STEP);
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            let key = u64_at(&SECRET, SECRET_LEN - STRIPE + 8 * i);
            *sum = (*sum ^ *sum >> 47 ^ key).wrapping_mul(PRIME32_1);
        }
    }
    // The last stripe is the last 64 bytes, whether or not they overlap the one before.
    let rest = &bytes[blocks * block..];
    for i in 0..(rest.len() - 1) / STRIPE {
        accumulate(&mut sums, &rest[i * STRIPE..(i + 1) * STRIPE], i * STEP);
    }
    accumulate(&mut sums, &bytes[bytes.len() - STRIPE..], SECRET_LEN - STRIPE - 7);
    let merged = (0..4).fold((bytes.len() as u64).wrapping_mul(PRIME64_1), |merged, i| {
        let (a, b) =
            (sums[2 * i] ^ u64_at(&SECRET, 11 + 16 * i), sums[2 * i + 1] ^ u64_at(&SECRET, 19 + 16 * i));
        merged.wrapping_add(fold(a, b))
    });
    avalanche(merged)
}

/// Adds a stripe to the accumulators, mixed with the secret from `secret` on.
fn accumulate(sums: &mut [u64; 8], stripe: &[u8], secret: usize) {
    for i in 0..8 {
        let value = u64_at(stripe, 8 * i);
        let keyed = value ^ u64_at(&SECRET, secret + 8 * i);
        sums[i ^ 1] = sums[i ^ 1].wrapping_add(value);
        sums[i] = sums[i].wrapping_add((keyed & 0xFFFF_FFFF).wrapping_mul(keyed >> 32));
    }
}

#[cfg(test)]
mod tests {
    use super::xxh3_64;

    /// Lengths at both sides of every change of formula, with the hashes of the reference implementation.
    #[rustfmt::skip]
    const KNOWN: &[(usize, u64)] = &[
        (0, 0x2d06_8005_38d3_94c2), (1, 0x4c5c_ca45_d0f4_811f), (2, 0xa7e2_50c9_7710_ff27),
        (3, 0x15f7_093b_173d_005c), (4, 0xdca0_12f9_5811_b6b9), (7, 0x7561_869c_23da_3c1b),
        (8, 0xdec6_a9a4_3575_982e), (9, 0xcbe3_9339_9f17_ffbd), (15, 0x545e_1999_0471_dc37),
        (16, 0x7e48_4c18_d748_95d0), (17, 0x208b_de5e_e2be_d407), (32, 0x03df_0ac5_255d_1446),
        (33, 0x199a_3621_22d7_1f46), (64, 0xdd30_702a_b46b_3745), (65, 0xfab3_6b85_1b94_ce20),
        (96, 0xd245_cd25_4158_2982), (97, 0x60e3_e1d0_d437_85b3), (128, 0xf92b_70ea_a21a_6288),
        (129, 0xf8f7_6713_f2bb_60fa), (144, 0xd87f_0076_5ee3_d89e), (145, 0x65d4_8041_7b47_34f8),
        (239, 0xcaa9_b7a5_8846_4745), (240, 0xccc7_3751_72c4_1f03), (241, 0x0b3b_6309_48ce_4a00),
        (256, 0xec85_b75b_afe6_ca74), (257, 0x12ef_0ff6_3384_1459), (512, 0xefc2_e52d_1c2f_fbaa),
        (1023, 0xf0d3_30ce_2b33_00fb), (1024, 0x23bc_880e_bf0d_29c6), (1025, 0xc09f_dfbc_398c_7d82),
        (1087, 0x3ab6_ed4b_5be0_6fcc), (1088, 0xa16b_ad67_843c_5a45), (1089, 0x8223_27a8_6aad_957c),
        (2048, 0x19f6_f9c9_8733_1373), (2049, 0x5045_460f_5d85_c275), (100000, 0xccf9_0df7_e7e3_7036),
    ];

    #[test]
    fn hashes_are_those_of_the_reference() {
        assert_eq!(xxh3_64(b"Hello world"), 0xb6ac_b9d8_4a38_ff74);
        for &(len, hash) in KNOWN {
            let text: Vec<u8> = (0..len).map(|i| (i * 31 + 7) as u8).collect();
            assert_eq!(xxh3_64(&text), hash, "{len} bytes");
        }
    }
}
