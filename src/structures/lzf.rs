//! LZF: fast rather than strong compression, in the stream format of RDB strings and of quicklist nodes.
//!
//! ```text
//! | 000lllll | l + 1 bytes                       a run of literals
//! | lllooooo | oooooooo                          l + 2 bytes from o + 1 bytes back, l in 1..=6
//! | 111ooooo | llllllll | oooooooo               l + 9 bytes from o + 1 bytes back
//! ```
//!
//! What always holds: decompression of any bytes ends with an error or with exactly the announced length, and
//! allocates no more than the input can expand to.
//!
//! The format is Marc Lehmann's LibLZF (2000). The search is the usual one of this family: a table maps a hash of
//! three bytes to their last position, and steps get longer while nothing is found (Yann Collet, LZ4).

/// Most bytes of a literal run.
const MAX_LITERALS: usize = 32;
/// Largest distance of a back reference in bytes.
const MAX_DISTANCE: usize = 1 << 13;
/// Most bytes of a back reference.
const MAX_MATCH: usize = 9 + 255;
/// Fewest bytes of a back reference.
const MIN_MATCH: usize = 3;

/// The bytes are not an LZF stream of the announced length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid LZF stream")]
pub struct CorruptLzf;

/// Compresses `input`; `None` if the result is not shorter. O(n).
pub fn compress(input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    compress_into(input, input.len().saturating_sub(1), &mut out).then_some(out)
}

/// Appends the compressed form of `input` to `out` if it takes at most `limit` bytes. Otherwise leaves `out`
/// unchanged and returns false. O(n).
pub fn compress_into(input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    if input.len() <= MIN_MATCH || u32::try_from(input.len()).is_err() {
        return false;
    }
    let start = out.len();
    out.reserve(limit.min(input.len()));
    // A table is cleared for each input, so it should not be much larger than the input.
    let fits = match input.len() {
        0..=1024 => Compressor::<{ 1 << 9 }>::new(input).run(start + limit, out),
        1025..=16_384 => Compressor::<{ 1 << 12 }>::new(input).run(start + limit, out),
        _ => Compressor::<{ 1 << 14 }>::new(input).run(start + limit, out),
    };
    if !fits {
        out.truncate(start);
    }
    fits
}

/// State of a compression: the input, and the last position of each hash. Zero means "never, or at the start".
struct Compressor<'a, const SLOTS: usize> {
    input: &'a [u8],
    seen: [u32; SLOTS],
}

impl<'a, const SLOTS: usize> Compressor<'a, SLOTS> {
    fn new(input: &'a [u8]) -> Self {
        const { assert!(SLOTS.is_power_of_two()) }
        Compressor { input, seen: [0; SLOTS] }
    }

    /// The four bytes at `at`, little-endian.
    #[inline(always)]
    fn four(&self, at: usize) -> Option<u32> {
        self.input.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    /// Returns the last position of the low three bytes of `four`, and replaces it by `at`.
    #[inline(always)]
    fn exchange(&mut self, four: u32, at: usize) -> usize {
        // Fibonacci hashing of the three bytes, using the top bits.
        let slot = (four << 8).wrapping_mul(0x9E37_79B1) >> (32 - SLOTS.trailing_zeros());
        std::mem::replace(&mut self.seen[slot as usize], at as u32) as usize
    }

    /// Compresses while `out` is shorter than `limit`. Returns false if that is not enough.
    fn run(mut self, limit: usize, out: &mut Vec<u8>) -> bool {
        let input = self.input;
        let (mut at, mut literals) = (0, 0);
        while let Some(four) = self.four(at) {
            let earlier = self.exchange(four, at);
            let distance = at.wrapping_sub(earlier);
            let matches = distance.wrapping_sub(1) < MAX_DISTANCE
                && self.four(earlier).is_some_and(|other| (other ^ four) << 8 == 0);
            if !matches {
                // Takes longer steps if nothing has matched for long.
                at += 1 + ((at - literals) >> 6);
                continue;
            }
            let len = MIN_MATCH
                + common_prefix(
                    &input[earlier + MIN_MATCH..],
                    &input[at + MIN_MATCH..input.len().min(at + MAX_MATCH)],
                );
            if !put_literals(&input[literals..at], limit, out) || out.len() + 3 > limit {
                return false;
            }
            let (far, near) = ((distance - 1) >> 8, distance - 1);
            if len <= 8 {
                out.extend_from_slice(&[((len - 2) << 5 | far) as u8, near as u8]);
            } else {
                out.extend_from_slice(&[(7 << 5 | far) as u8, (len - 9) as u8, near as u8]);
            }
            // The last two positions inside the match, so that a repetition that continues from here is found.
            for inside in [at + len - 2, at + len - 1] {
                if let Some(four) = self.four(inside) {
                    self.exchange(four, inside);
                }
            }
            at += len;
            literals = at;
        }
        put_literals(&input[literals..], limit, out)
    }
}

/// Number of equal bytes at the start of both.
#[inline(always)]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    while let (Some(x), Some(y)) = (a[same..].first_chunk(), b[same..].first_chunk()) {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return same + (differing.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + a[same..].iter().zip(&b[same..]).take_while(|(x, y)| x == y).count()
}

/// Appends `bytes` as literal runs. Returns false if `out` would be longer than `limit`.
#[inline]
fn put_literals(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    if out.len() + bytes.len() + bytes.len().div_ceil(MAX_LITERALS) > limit {
        return false;
    }
    for run in bytes.chunks(MAX_LITERALS) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
    true
}

/// Decompresses `input` into `len` bytes. O(len).
///
/// # Errors
/// [`CorruptLzf`] if `input` is not an LZF stream or expands to another number of bytes.
pub fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, CorruptLzf> {
    if !may_expand_to(input.len(), len) {
        return Err(CorruptLzf);
    }
    let mut out = vec![0; len];
    decompress_into(input, &mut out)?;
    Ok(out)
}

/// Most bytes to which a byte of a stream expands: three bytes expand to at most `MAX_MATCH`.
pub const MAX_EXPANSION: usize = MAX_MATCH / 3;

/// Whether a stream of `stream` bytes can expand to `len` bytes. Call before allocating for a length from outside.
pub fn may_expand_to(stream: usize, len: usize) -> bool {
    len <= stream.saturating_mul(MAX_EXPANSION)
}

/// Fills `out` with the decompressed `input`. O(n).
///
/// # Errors
/// [`CorruptLzf`] if `input` is not an LZF stream or does not expand to `out.len()` bytes.
pub fn decompress_into(input: &[u8], out: &mut [u8]) -> Result<(), CorruptLzf> {
    let (mut from, mut to) = (0, 0);
    while let Some(&control) = input.get(from) {
        let control = usize::from(control);
        from += 1;
        if control < MAX_LITERALS {
            let n = control + 1;
            // A copy of fixed size, where there is space, takes a few instructions instead of a call.
            let wide = (input[from..].first_chunk::<32>(), out[to..].first_chunk_mut::<32>());
            if let (Some(source), Some(target)) = wide {
                *target = *source;
            } else {
                let source = input.get(from..from + n).ok_or(CorruptLzf)?;
                out.get_mut(to..to + n).ok_or(CorruptLzf)?.copy_from_slice(source);
            }
            from += n;
            to += n;
            continue;
        }
        let mut len = (control >> 5) + 2;
        if len == 9 {
            len += usize::from(*input.get(from).ok_or(CorruptLzf)?);
            from += 1;
        }
        let near = usize::from(*input.get(from).ok_or(CorruptLzf)?);
        from += 1;
        let distance = ((control & 0x1F) << 8 | near) + 1;
        let source = to.checked_sub(distance).ok_or(CorruptLzf)?;
        if out.len() - to < len {
            return Err(CorruptLzf);
        }
        if distance >= 8 && out.len() - to >= len.next_multiple_of(8) {
            // Bytes written beyond the match are overwritten by what follows it.
            for i in (0..len).step_by(8) {
                out.copy_within(source + i..source + i + 8, to + i);
            }
        } else if distance == 1 {
            let byte = out[source];
            out[to..to + len].fill(byte);
        } else {
            // Source and target may overlap, which repeats a short pattern.
            for i in 0..len {
                out[to + i] = out[source + i];
            }
        }
        to += len;
    }
    if to == out.len() { Ok(()) } else { Err(CorruptLzf) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    /// A random mixture of random bytes, repeated phrases, runs and slowly changing text.
    fn sample(rng: &mut SmallRng, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        let letters = rng.random_range(1..=255u8);
        while bytes.len() < len {
            let n = rng.random_range(1..400).min(len - bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.extend((0..n).map(|_| rng.random_range(0..=letters))),
                1 => bytes.extend(std::iter::repeat_n(rng.random::<u8>(), n)),
                _ if !bytes.is_empty() => {
                    let start = rng.random_range(0..bytes.len());
                    let end = (start + n).min(bytes.len());
                    bytes.extend_from_within(start..end);
                }
                _ => {}
            }
        }
        bytes
    }

    #[test]
    fn decompression_undoes_compression() {
        let mut compressed = 0;
        for seed in 0..800 {
            let rng = &mut SmallRng::seed_from_u64(seed);
            let len = match rng.random_range(0..10) {
                0 => rng.random_range(0..40),
                1 => rng.random_range(10_000..200_000),
                _ => rng.random_range(0..9000),
            };
            let bytes = sample(rng, len);
            if let Some(packed) = compress(&bytes) {
                compressed += 1;
                assert!(packed.len() < bytes.len(), "seed {seed}");
                assert_eq!(decompress(&packed, bytes.len()).as_ref(), Ok(&bytes), "seed {seed}");
                for wrong in [0, 1, bytes.len() - 1, bytes.len() + 1, usize::MAX] {
                    assert_eq!(decompress(&packed, wrong), Err(CorruptLzf), "seed {seed}, length {wrong}");
                }
                let mut out = b"before".to_vec();
                assert!(compress_into(&bytes, packed.len() + 1, &mut out), "seed {seed}");
                assert_eq!(out[6..], packed);
                assert!(!compress_into(&bytes, packed.len() - 1, &mut out), "seed {seed}");
                assert_eq!(out[6..], packed);
            }
        }
        assert!(compressed > 400);
    }

    #[test]
    fn compresses_what_can_be_compressed() {
        assert_eq!(compress(b""), None);
        assert_eq!(compress(b"abc"), None);
        assert_eq!(compress(b"abcdefghijklmnopqrstuvwxyz0123456789"), None);
        let zeros = compress(&[0; 8192]).expect("compressible");
        assert!(zeros.len() < 8192 / 80, "{}", zeros.len());
        let text: Vec<u8> = (0..2000).flat_map(|i| format!("element:{i};").into_bytes()).collect();
        assert!(compress(&text).expect("compressible").len() < text.len() / 2);
    }

    /// The sample is a string as Redis 7.0 writes it into a DUMP payload.
    #[test]
    fn streams_of_redis_are_read() {
        let packed = b"\x1fSpinels were taken for rubies: a\0b\xe0\xff\x01\xe0\x19\x01\0S\xe1\x15J\0x\xe0\xff\0\xe0\x1a\0\x82~\
            \0,\xa2\x86\x02, s\xe1\x06Z\x01en";
        let phrase = "Spinels were taken for rubies: ";
        let text =
            [phrase, &"ab".repeat(150), phrase, &"x".repeat(300), "rubies, rubies, spinels were taken"]
                .concat();
        assert_eq!(decompress(packed, text.len()).as_deref(), Ok(text.as_bytes()));
    }

    #[test]
    fn hostile_streams_are_refused() {
        for (bytes, len) in [
            (&b"\x00"[..], 1),           // a literal without its byte
            (b"\x1fabc", 32),            // a run that ends early
            (b"\x20\x00", 3),            // nothing to refer back to
            (b"\x00a\x20\x01", 4),       // one byte too far back
            (b"\x00a\x20", 4),           // the distance is missing
            (b"\x00a\xe0\x00", 10),      // the distance of a long match is missing
            (b"\x00a\xe0", 10),          // all of it is missing
            (b"\x00a\x20\x00", 3),       // longer than announced
            (b"\x00a\x20\x00", 5),       // shorter than announced
            (b"\x00a\x20\x00", 1 << 60), // far more than these bytes can stand for
            (b"", 1),
        ] {
            assert_eq!(decompress(bytes, len), Err(CorruptLzf), "{bytes:?}");
        }
        assert_eq!(decompress(b"", 0), Ok(Vec::new()));
        let rng = &mut SmallRng::seed_from_u64(5);
        let mut good = 0;
        for _ in 0..20_000 {
            let len = rng.random_range(1..600);
            let bytes = sample(rng, len);
            let mut stream = compress(&bytes).unwrap_or_else(|| bytes.clone());
            for _ in 0..rng.random_range(0..4) {
                let i = rng.random_range(0..stream.len());
                stream[i] = rng.random();
            }
            good += usize::from(decompress(&stream, len).is_ok());
        }
        assert!(good > 100);
    }
}
