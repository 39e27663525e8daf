//! A string as an array of bits: counting, searching, combining, and integers of any width in it.
//!
//! Bit 0 is the highest bit of the first byte, so that an integer in the array reads from left to
//! right. What lies beyond the end of the string is zero.

use std::ops::Range;

use crate::stdx::num;
pub use crate::stdx::wide::count_ones as count;
use crate::stdx::wide::find_other;
use crate::structures::sds::Sds;

/// The bytes that a range of bits touches, and masks for the bits of the range in its first and last byte.
fn edges(bits: &Range<usize>) -> (Range<usize>, u8, u8) {
    let last = bits.end - 1;
    (bits.start / 8..last / 8 + 1, 0xff >> (bits.start % 8), 0xff << (7 - last % 8))
}

/// Number of bits set in a range of bits within `bytes`. O(n).
pub fn count_in(bytes: &[u8], bits: Range<usize>) -> u64 {
    if bits.is_empty() {
        return 0;
    }
    let (range, head, tail) = edges(&bits);
    let bytes = &bytes[range];
    let outside = (bytes[0] & !head).count_ones() + (bytes[bytes.len() - 1] & !tail).count_ones();
    count(bytes) - u64::from(outside)
}

/// Index of the first bit equal to `bit` in a range of bits within `bytes`. O(n).
pub fn find(bytes: &[u8], bit: bool, bits: Range<usize>) -> Option<usize> {
    if bits.is_empty() {
        return None;
    }
    let (range, head, tail) = edges(&bits);
    let skip = if bit { 0 } else { 0xff };
    let hit = |at: usize, mask: u8| match (bytes[at] ^ skip) & mask {
        0 => None,
        wanted => Some(at * 8 + wanted.leading_zeros() as usize),
    };
    let (first, last) = (range.start, range.end - 1);
    if first == last {
        return hit(first, head & tail);
    }
    hit(first, head)
        .or_else(|| find_other(&bytes[first + 1..last], skip).and_then(|at| hit(first + 1 + at, 0xff)))
        .or_else(|| hit(last, tail))
}

/// Whether a bit is 1.
pub fn get(bytes: &[u8], bit: usize) -> bool {
    bytes.get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1)
}

/// Writes a bit within `bytes` and returns its old value.
pub fn set(bytes: &mut [u8], bit: usize, on: bool) -> bool {
    let (byte, mask) = (&mut bytes[bit / 8], 0x80u8 >> (bit % 8));
    let was = *byte & mask != 0;
    *byte = if on { *byte | mask } else { *byte & !mask };
    was
}

/// A bitwise operation on strings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Sets the bits that are set in all strings.
    And,
    /// Sets the bits that are set in any string.
    Or,
    /// Sets the bits that are set in an odd number of strings.
    Xor,
    /// Inverts the bits of the only string.
    Not,
    /// Sets the bits that are set in the first string and in no other.
    Diff,
    /// Sets the bits that are set in another string but not in the first.
    Diff1,
    /// Sets the bits that are set in the first string and in another.
    AndOr,
    /// Sets the bits that are set in exactly one string.
    One,
}

/// Combines strings into one as long as the longest; shorter ones are padded with zeros. O(n) in the total length.
///
/// # Panics
/// When there is no source.
pub fn combine(operation: Operation, sources: &[&[u8]]) -> Sds {
    // A piece of the result stays in the fastest cache while all sources are applied to it.
    const PIECE: usize = 16 << 10;
    let len = sources.iter().map(|source| source.len()).max().expect("there is a source");
    let mut result = Sds::with_capacity(len);
    // These two combine the other strings before the first comes in.
    let first_is_last = matches!(operation, Operation::Diff1 | Operation::AndOr);
    let first = if first_is_last { &[] } else { sources[0] };
    result.append(first);
    result.append_zeros(len - first.len());
    if operation == Operation::Not {
        result.as_mut_slice().iter_mut().for_each(|byte| *byte = !*byte);
    }
    // Bits that were set in more than one string.
    let mut repeated = vec![0; if operation == Operation::One { PIECE.min(len) } else { 0 }];
    for (i, piece) in result.as_mut_slice().chunks_mut(PIECE).enumerate() {
        repeated.fill(0);
        for source in &sources[1..] {
            let source = source.get(i * PIECE..).unwrap_or_default();
            let (both, beyond) = piece.split_at_mut(source.len().min(piece.len()));
            let pairs = both.iter_mut().zip(source);
            match operation {
                Operation::And => {
                    pairs.for_each(|(byte, other)| *byte &= other);
                    beyond.fill(0);
                }
                Operation::Or | Operation::Diff1 | Operation::AndOr => {
                    pairs.for_each(|(byte, other)| *byte |= other)
                }
                Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
                Operation::Not => {}
                Operation::Diff => pairs.for_each(|(byte, other)| *byte &= !other),
                Operation::One => pairs.zip(&mut repeated).for_each(|((byte, other), repeated)| {
                    *repeated |= *byte & other;
                    *byte |= other;
                }),
            }
        }
        let first = sources[0].get(i * PIECE..).unwrap_or_default();
        let (both, beyond) = piece.split_at_mut(first.len().min(piece.len()));
        match operation {
            Operation::Diff1 => both.iter_mut().zip(first).for_each(|(byte, first)| *byte &= !first),
            Operation::AndOr => {
                both.iter_mut().zip(first).for_each(|(byte, first)| *byte &= first);
                beyond.fill(0);
            }
            Operation::One => piece.iter_mut().zip(&repeated).for_each(|(byte, repeated)| *byte &= !repeated),
            _ => {}
        }
    }
    result
}

/// What happens to a number that does not fit into its field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// The number keeps its low bits.
    #[default]
    Wrap,
    /// The number becomes the nearest one that fits.
    Saturate,
    /// The field stays unchanged.
    Fail,
}

/// The type of an integer in the array: signed of 1 to 64 bits, or unsigned of 1 to 63.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    signed: bool,
    bits: u32,
}

impl Field {
    /// Parses a type such as `i16` or `u8`.
    pub fn parse(text: &[u8]) -> Option<Field> {
        let (signed, digits, most) = match text {
            [b'i', digits @ ..] => (true, digits, 64),
            [b'u', digits @ ..] => (false, digits, 63),
            _ => return None,
        };
        let bits = num::parse_i64(digits).filter(|bits| (1..=most).contains(bits))?;
        Some(Field { signed, bits: bits as u32 })
    }

    /// Width in bits.
    pub fn bits(self) -> usize {
        self.bits as usize
    }

    /// The low bits of `value` as a number of this type.
    fn wrap(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { ((value << unused) as i64) >> unused } else { ((value << unused) >> unused) as i64 }
    }

    /// `value` as a number of this type, or `None` if it does not fit and `overflow` says to fail.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = if self.signed {
            (-1i128 << (self.bits - 1), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        };
        if (low..=high).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.wrap(value as u64)),
            Overflow::Saturate => Some(value.clamp(low, high) as i64),
            Overflow::Fail => None,
        }
    }

    /// Value of a field after `value` is stored in it, or `None` if `overflow` says to fail. For an unsigned field,
    /// a negative number counts as one above 2^63.
    ///
    /// A number so low that its distance to the highest value of the field is not an `i64` saturates at the highest
    /// value: compatible with Redis, whose arithmetic wraps around there.
    pub fn assign(self, value: i64, overflow: Overflow) -> Option<i64> {
        if !self.signed {
            return self.fit(i128::from(value as u64), overflow);
        }
        let highest = i64::MAX >> (64 - self.bits);
        if overflow == Overflow::Saturate && self.bits < 64 && highest.checked_sub(value).is_none() {
            return Some(highest);
        }
        self.fit(i128::from(value), overflow)
    }

    /// Value of a field after `increment` is added to `old`, or `None` if `overflow` says to fail.
    pub fn add(self, old: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(old) + i128::from(increment), overflow)
    }

    /// The 16 bytes that start with the first byte of the field, as a big-endian number; zeros past the end.
    fn window(bytes: &[u8], at: usize) -> u128 {
        let rest = bytes.get(at / 8..).unwrap_or_default();
        let mut window = [0; 16];
        let n = rest.len().min(16);
        window[..n].copy_from_slice(&rest[..n]);
        u128::from_be_bytes(window)
    }

    /// Distance between the lowest bit of the field and the lowest bit of its window.
    fn shift(self, at: usize) -> usize {
        128 - at % 8 - self.bits()
    }

    /// Reads the field at bit `at`.
    pub fn read(self, bytes: &[u8], at: usize) -> i64 {
        self.wrap((Self::window(bytes, at) >> self.shift(at)) as u64)
    }

    /// Writes the field at bit `at`. The whole field lies within `bytes`.
    pub fn write(self, bytes: &mut [u8], at: usize, value: i64) {
        let mask = ((1u128 << self.bits) - 1) << self.shift(at);
        let value = (value as u64 as u128) << self.shift(at) & mask;
        let window = (Self::window(bytes, at) & !mask | value).to_be_bytes();
        let touched = (at % 8 + self.bits()).div_ceil(8);
        bytes[at / 8..at / 8 + touched].copy_from_slice(&window[..touched]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn random_bytes(rng: &mut Rng, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; rng.index(max + 1)];
        match rng.index(4) {
            0 => bytes.fill(0xff),
            1 => {}
            _ => rng.fill(&mut bytes),
        }
        if !bytes.is_empty() && rng.one_in(2) {
            let at = rng.index(bytes.len());
            bytes[at] = rng.next_u32() as u8;
        }
        bytes
    }

    #[test]
    fn counting_and_finding_agree_with_bit_by_bit() {
        let seed = 81;
        let mut rng = Rng::new(seed);
        for round in 0..3000 {
            let bytes = random_bytes(&mut rng, if round % 10 == 0 { 700 } else { 30 });
            let bits = bytes.len() * 8;
            let (a, b) = (rng.index(bits + 1), rng.index(bits + 1));
            let range = a.min(b)..a.max(b);
            let ones = range.clone().filter(|&i| get(&bytes, i)).count() as u64;
            assert_eq!(count_in(&bytes, range.clone()), ones, "seed {seed}, round {round}");
            for bit in [false, true] {
                let first = range.clone().find(|&i| get(&bytes, i) == bit);
                assert_eq!(find(&bytes, bit, range.clone()), first, "seed {seed}, round {round}");
            }
            assert_eq!(count(&bytes), count_in(&bytes, 0..bits));
        }
    }

    #[test]
    fn bits_are_numbered_from_the_left() {
        let mut bytes = *b"@\0";
        assert!(get(&bytes, 1) && !get(&bytes, 0) && !get(&bytes, 100));
        assert!(!set(&mut bytes, 2, true));
        assert!(set(&mut bytes, 1, false));
        assert!(!set(&mut bytes, 15, true));
        assert_eq!(bytes, [0x20, 0x01]);
    }

    #[test]
    fn combining_agrees_with_byte_by_byte() {
        let seed = 82;
        let mut rng = Rng::new(seed);
        for round in 0..400 {
            let max = if round % 50 == 0 { 40_000 } else { 40 };
            let sources: Vec<Vec<u8>> = (0..=rng.index(4)).map(|_| random_bytes(&mut rng, max)).collect();
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = sources.iter().map(Vec::len).max().expect("at least one");
            let byte = |source: &Vec<u8>, i: usize| source.get(i).copied().unwrap_or(0);
            type Fold = fn(u8, u8) -> u8;
            let folds: [(Operation, Fold); 3] = [
                (Operation::And, |a, b| a & b),
                (Operation::Or, |a, b| a | b),
                (Operation::Xor, |a, b| a ^ b),
            ];
            for (operation, fold) in folds {
                let expected: Vec<u8> = (0..len)
                    .map(|i| sources[1..].iter().fold(byte(&sources[0], i), |acc, s| fold(acc, byte(s, i))))
                    .collect();
                assert_eq!(combine(operation, &slices).as_slice(), expected, "seed {seed}, {operation:?}");
            }
            let others = |i: usize| sources[1..].iter().fold(0, |acc, s| acc | byte(s, i));
            let once = |i: usize| {
                let set = |bit: u8| sources.iter().filter(|s| byte(s, i) >> bit & 1 == 1).count();
                (0..8).filter(|&bit| set(bit) == 1).fold(0u8, |acc, bit| acc | 1 << bit)
            };
            type Byte<'a> = &'a dyn Fn(usize) -> u8;
            let rest: [(Operation, Byte<'_>); 4] = [
                (Operation::Diff, &|i| byte(&sources[0], i) & !others(i)),
                (Operation::Diff1, &|i| others(i) & !byte(&sources[0], i)),
                (Operation::AndOr, &|i| byte(&sources[0], i) & others(i)),
                (Operation::One, &once),
            ];
            for (operation, expected) in rest {
                let expected: Vec<u8> = (0..len).map(expected).collect();
                assert_eq!(combine(operation, &slices).as_slice(), expected, "seed {seed}, {operation:?}");
            }
            let inverse: Vec<u8> = sources[0].iter().map(|b| !b).collect();
            assert_eq!(combine(Operation::Not, &slices[..1]).as_slice(), inverse);
        }
    }

    #[test]
    fn fields_are_read_as_they_were_written() {
        let seed = 83;
        let mut rng = Rng::new(seed);
        for _ in 0..5000 {
            let mut bytes = random_bytes(&mut rng, 20);
            bytes.resize(bytes.len() + 9, 0);
            let signed = rng.one_in(2);
            let field = Field { signed, bits: 1 + rng.below(if signed { 64 } else { 63 }) as u32 };
            let at = rng.index(bytes.len() * 8 - field.bits() + 1);
            let value = field.wrap(rng.next_u64());
            let mut expected = bytes.clone();
            for i in 0..field.bits() {
                set(&mut expected, at + i, value as u64 >> (field.bits() - 1 - i) & 1 == 1);
            }
            field.write(&mut bytes, at, value);
            assert_eq!(bytes, expected, "seed {seed}, {field:?} at {at}");
            assert_eq!(field.read(&bytes, at), value, "seed {seed}, {field:?} at {at}");
            // A field that crosses the end reads zeros there.
            let cut = (at / 8 + 1).min(bytes.len());
            expected[cut..].fill(0);
            assert_eq!(field.read(&bytes[..cut], at), field.read(&expected, at), "seed {seed}");
        }
        assert_eq!(Field::parse(b"u63").expect("valid").read(&[], 1 << 40), 0);
    }

    #[test]
    fn overflow_by_type() {
        let field = |text: &str| Field::parse(text.as_bytes()).expect("valid");
        use Overflow::{Fail, Saturate, Wrap};
        let sums: &[(&str, i64, i64, Overflow, Option<i64>)] = &[
            ("u8", 100, 257, Wrap, Some(101)),
            ("u8", 100, 257, Saturate, Some(255)),
            ("u8", 100, -101, Saturate, Some(0)),
            ("u8", 100, 156, Fail, None),
            ("u8", 100, 155, Fail, Some(255)),
            ("i8", 100, 28, Wrap, Some(-128)),
            ("i8", -100, -200, Saturate, Some(-128)),
            ("i64", i64::MAX, 1, Wrap, Some(i64::MIN)),
            ("i64", i64::MIN, -1, Saturate, Some(i64::MIN)),
            ("i64", i64::MAX, 1, Fail, None),
            ("u63", i64::MAX, i64::MAX, Saturate, Some(i64::MAX)),
            ("u63", 0, i64::MIN, Wrap, Some(0)),
        ];
        for &(text, old, increment, overflow, expected) in sums {
            assert_eq!(field(text).add(old, increment, overflow), expected, "{text} {old} + {increment}");
        }
        assert_eq!(field("u8").assign(-1, Saturate), Some(255));
        assert_eq!(field("i8").assign(-200, Saturate), Some(-128));
        assert_eq!(field("i8").assign(i64::MIN + 128, Saturate), Some(-128));
        assert_eq!(field("i8").assign(i64::MIN + 127, Saturate), Some(127));
        assert_eq!(field("i64").assign(i64::MIN, Saturate), Some(i64::MIN));
        assert_eq!(field("u8").assign(-1, Fail), None);
        assert_eq!(field("i1").assign(1, Wrap), Some(-1));
        for text in ["u64", "i65", "i0", "u", "", "x8", "u08", "I8", "i-1", "i8 "] {
            assert_eq!(Field::parse(text.as_bytes()), None, "{text}");
        }
    }
}
