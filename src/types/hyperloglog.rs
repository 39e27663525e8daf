//! HyperLogLogs: estimates of the number of distinct elements, to about 0.8 %, in at most 12 KB.
//!
//! The low bits of an element's hash choose one of 16,384 registers. The register keeps the longest run of zeros,
//! plus one, at the start of the other fifty bits. High values are rare, so the registers tell how many elements
//! were added. A HyperLogLog is a string in Redis's format:
//!
//! ```text
//!  0     4   5       8                 16
//! "HYLL" enc  0 0 0   count, 8 bytes    registers …
//! ```
//!
//! The count is the last computed one, little-endian; its highest bit is set when registers have changed since. The
//! registers have one of two encodings:
//!
//! - dense (0): 6 bits each, the first in the lowest bits of the first byte;
//! - sparse (1): runs of equal registers, while that is short and no value is above 32.
//!
//! ```text
//! 00nnnnnn            n + 1 registers are 0
//! 01nnnnnn nnnnnnnn   n + 1 registers are 0
//! 1vvvvvnn            n + 1 registers are v + 1
//! ```
//!
//! The bytes come from clients and files. Functions assume only that [`is_valid`] has accepted them; a
//! contradiction found later is [`Corrupt`].
//!
//! The algorithm is Philippe Flajolet's and others' (2007), with hashes of 64 bits (Heule, Nunkesser, Hall, 2013)
//! and the estimator of Otmar Ertl (2017); the hash is Austin Appleby's MurmurHash64A. Encodings and their
//! thresholds are Redis's, byte for byte.

#![allow(unsafe_code)]

use crate::stdx::rng::Rng;
use crate::structures::sds::Sds;

/// Bits of the hash that choose a register.
const INDEX_BITS: u32 = 14;

/// Number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;

/// Bits of the hash in which the zeros are counted.
const RANK_BITS: usize = 64 - INDEX_BITS as usize;

/// Length of the header in bytes.
const HEADER: usize = 16;

const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;

/// Offset of the last computed count.
const COUNT_AT: usize = 8;

/// Length of a dense HyperLogLog in bytes.
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;

/// Largest register value that the sparse encoding holds.
const SPARSE_MAX_VALUE: u8 = 32;

/// Longest run of registers with a value other than 0 that one opcode holds.
const VALUE_RUN_MAX: usize = 4;

/// Longest run of zero registers that an opcode of one byte holds.
const SHORT_RUN_MAX: usize = 64;

/// An empty HyperLogLog: all registers are one run of zeros, and its count, 0, is valid.
pub const EMPTY: &[u8; HEADER + 2] = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff";

const _: () = assert!(RANK_BITS < 1 << 6 && REGISTERS - 1 == 0x3fff);

/// Error: the registers contradict their encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registers of a HyperLogLog are corrupt")]
pub struct Corrupt;

/// Whether a string looks like a HyperLogLog. O(1).
pub fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes.starts_with(b"HYLL")
        && match bytes[ENCODING_AT] {
            DENSE => bytes.len() == DENSE_LEN,
            SPARSE => true,
            _ => false,
        }
}

/// Whether a valid HyperLogLog is dense.
pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[ENCODING_AT] == DENSE
}

// ---- elements ---------------------------------------------------------------------------------------

/// MurmurHash64A.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

/// Index of an element's register and the least value that the register must have.
#[inline]
fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, 0xadc8_3b19);
    // A one behind the last bit ends every run.
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    (hash as usize & (REGISTERS - 1), rank as u8)
}

/// Adds an element and returns whether a register changed, in which case the caller must [invalidate](forget_count)
/// the count. A sparse HyperLogLog becomes dense rather than longer than `sparse_max` bytes. O(1) if dense, O(n) in
/// the bytes if sparse.
///
/// # Errors
/// [`Corrupt`], perhaps only after earlier calls have added other elements.
pub fn add(string: &mut Sds, element: &[u8], sparse_max: usize) -> Result<bool, Corrupt> {
    let (index, value) = place_of(element);
    let mut place = Place::FIRST;
    raise(string, index, value, sparse_max, &mut place)
}

/// Raises a register to at least `value` and returns whether it was lower. The search for the register starts at
/// `place`.
fn raise(
    string: &mut Sds,
    index: usize,
    value: u8,
    sparse_max: usize,
    place: &mut Place,
) -> Result<bool, Corrupt> {
    if is_dense(string) {
        return Ok(raise_dense(&mut string.as_mut_slice()[HEADER..], index, value));
    }
    match raise_sparse(string, index, value, sparse_max, place)? {
        Raised::Done(changed) => Ok(changed),
        Raised::TooLarge => {
            make_dense(string)?;
            Ok(raise_dense(&mut string.as_mut_slice()[HEADER..], index, value))
        }
    }
}

// ---- counting ---------------------------------------------------------------------------------------

/// The last computed count, unless a register has changed since.
pub fn known_count(bytes: &[u8]) -> Option<u64> {
    let count = *bytes[COUNT_AT..].first_chunk::<8>().expect("a valid one has a header");
    let count = u64::from_le_bytes(count);
    (count >> 63 == 0).then_some(count)
}

/// Stores a count, which stays valid until a register changes.
pub fn keep_count(bytes: &mut [u8], count: u64) {
    bytes[COUNT_AT..HEADER].copy_from_slice(&count.to_le_bytes());
}

/// Invalidates the stored count, because registers have changed or may have.
pub fn forget_count(bytes: &mut [u8]) {
    bytes[HEADER - 1] |= 0x80;
}

/// Estimates the number of distinct elements. O(n).
///
/// # Errors
/// [`Corrupt`] if the registers contradict their encoding.
pub fn count(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; 64];
    if is_dense(bytes) {
        // Four registers are three bytes. Each of the four has its own histogram, so that increments of equal
        // values do not depend on each other.
        let mut parts = [[0u32; 64]; 4];
        let (triples, _) = bytes[HEADER..].as_chunks::<3>();
        for triple in triples {
            for (part, value) in parts.iter_mut().zip(unpack(*triple)) {
                part[usize::from(value & 63)] += 1;
            }
        }
        histogram = total(&parts);
    } else {
        let mut seen = 0;
        for run in Runs(&bytes[HEADER..]) {
            let run = run?;
            seen += run.len;
            if seen > REGISTERS {
                return Err(Corrupt);
            }
            histogram[usize::from(run.value)] += run.len as u32;
        }
        if seen != REGISTERS {
            return Err(Corrupt);
        }
    }
    Ok(estimate(&histogram))
}

/// Sum of several histograms.
fn total(parts: &[[u32; 64]; 4]) -> [u32; 64] {
    std::array::from_fn(|value| parts.iter().map(|part| part[value]).sum())
}

/// Ertl's estimate from a histogram of register values.
fn estimate(histogram: &[u32; 64]) -> u64 {
    /// 1 / (2 ln 2)
    #[allow(clippy::excessive_precision)]
    const ALPHA: f64 = 0.721347520444481703680;
    let m = REGISTERS as f64;
    let mut z = m * tau((m - f64::from(histogram[RANK_BITS + 1])) / m);
    for &n in histogram[1..=RANK_BITS].iter().rev() {
        z = (z + f64::from(n)) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    let estimate = (ALPHA * m * m / z).round();
    // A larger estimate comes from forged registers; no real count reaches 2^63.
    if estimate < (1u64 << 63) as f64 { estimate as u64 } else { 1 << 63 }
}

/// Contribution of the registers at the upper limit to the estimate.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Contribution of the registers at 0 to the estimate.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

// ---- dense ------------------------------------------------------------------------------------------

/// Unpacks four registers of six bits.
#[inline]
fn unpack([a, b, c]: [u8; 3]) -> [u8; 4] {
    [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2]
}

#[inline]
fn pack([a, b, c, d]: [u8; 4]) -> [u8; 3] {
    [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2]
}

fn raise_dense(registers: &mut [u8], index: usize, value: u8) -> bool {
    let (triples, _) = registers.as_chunks_mut::<3>();
    let triple = &mut triples[index / 4];
    let mut four = unpack(*triple);
    let old = &mut four[index % 4];
    if *old >= value {
        return false;
    }
    *old = value;
    *triple = pack(four);
    true
}

/// Makes a HyperLogLog dense and returns whether it was sparse. O(n).
///
/// # Errors
/// [`Corrupt`]; nothing is changed then.
pub fn make_dense(string: &mut Sds) -> Result<bool, Corrupt> {
    if is_dense(string) {
        return Ok(false);
    }
    let mut registers = Registers::default();
    registers.merge(string)?;
    let mut dense = Sds::with_capacity(DENSE_LEN);
    dense.append(&string[..HEADER]);
    dense.append_zeros(DENSE_LEN - HEADER);
    let bytes = dense.as_mut_slice();
    bytes[ENCODING_AT] = DENSE;
    let (triples, _) = bytes[HEADER..].as_chunks_mut::<3>();
    let (fours, _) = registers.0.as_chunks::<4>();
    for (triple, four) in triples.iter_mut().zip(fours) {
        *triple = pack(*four);
    }
    *string = dense;
    Ok(true)
}

// ---- sparse -----------------------------------------------------------------------------------------

/// Consecutive equal registers, as one opcode encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Value of each register.
    pub value: u8,
    /// Number of registers.
    pub len: usize,
    /// Length of the opcode in bytes.
    pub bytes: usize,
}

impl Run {
    /// The run at the beginning of `bytes`.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Run> {
        let &first = bytes.first()?;
        Some(match first >> 6 {
            0 => Run { value: 0, len: usize::from(first & 0x3f) + 1, bytes: 1 },
            1 => {
                let &second = bytes.get(1)?;
                Run { value: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, bytes: 2 }
            }
            _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
        })
    }
}

/// Number of registers in the eight runs at the beginning of `bytes`, and in the last of these, if the opcode of each
/// is one byte.
#[inline]
fn eight_short_runs(bytes: &[u8]) -> Option<(usize, usize)> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let opcodes = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    // One bit for each opcode of registers that are not 0, and for each of two bytes.
    let values = opcodes >> 7 & ONES;
    let long = opcodes >> 6 & ONES & !values;
    if long != 0 {
        return None;
    }
    // The lowest two bits of the former are a length, six bits of the others; both less one.
    let lens = opcodes & (ONES * 0x3f) & !(values * 0x3c);
    let pairs = (lens & EVEN) + (lens >> 8 & EVEN);
    let sum = pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48;
    Some((sum as usize + 8, (lens >> 56) as usize + 1))
}

/// Iterator over the runs of a sparse HyperLogLog.
struct Runs<'a>(&'a [u8]);

impl Iterator for Runs<'_> {
    type Item = Result<Run, Corrupt>;

    #[inline]
    fn next(&mut self) -> Option<Result<Run, Corrupt>> {
        if self.0.is_empty() {
            return None;
        }
        let run = Run::read(self.0);
        self.0 = run.map_or(&[], |run| &self.0[run.bytes..]);
        Some(run.ok_or(Corrupt))
    }
}

/// The runs of a valid sparse HyperLogLog.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = Result<Run, Corrupt>> + '_ {
    Runs(&bytes[HEADER..])
}

/// Offset of an opcode, and the register with which it begins.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    register: usize,
}

impl Place {
    const FIRST: Place = Place { at: HEADER, register: 0 };
}

enum Raised {
    /// The register has at least the value; whether it was lower before.
    Done(bool),
    /// The sparse encoding cannot hold the change.
    TooLarge,
}

/// As [`raise`]. `place` is the first opcode, or the place left by a call for a lower register; on return it is an
/// opcode at or before the register's.
fn raise_sparse(
    string: &mut Sds,
    index: usize,
    value: u8,
    sparse_max: usize,
    place: &mut Place,
) -> Result<Raised, Corrupt> {
    if value > SPARSE_MAX_VALUE {
        return Ok(Raised::TooLarge);
    }
    let bytes = string.as_slice();
    let (mut here, mut before) = (*place, None);
    // Far from the register, the search takes eight opcodes at once.
    let mut far = true;
    let run = loop {
        if far && let Some((len, last)) = eight_short_runs(&bytes[here.at..]) {
            far = index >= here.register + len;
            if far {
                here = Place { at: here.at + 8, register: here.register + len };
                before = Some(Place { at: here.at - 1, register: here.register - last });
                continue;
            }
        }
        let run = Run::read(&bytes[here.at..]).ok_or(Corrupt)?;
        if index >= here.register + run.len {
            before = Some(here);
            here = Place { at: here.at + run.bytes, register: here.register + run.len };
        } else if before.is_none() && here.at != HEADER {
            // The opcode before the register has been joined with its predecessor, so its offset is unknown.
            here = Place::FIRST;
        } else {
            break run;
        }
    };
    *place = before.unwrap_or(Place::FIRST);
    if run.value >= value {
        return Ok(Raised::Done(false));
    }
    // Splits the run into the registers before this one, this one, and those behind it.
    let mut opcodes = Opcodes::default();
    opcodes.push(run.value, index - here.register);
    opcodes.push(value, 1);
    opcodes.push(run.value, here.register + run.len - 1 - index);
    let opcodes = opcodes.as_slice();
    if opcodes.len() > run.bytes && string.len() + opcodes.len() - run.bytes > sparse_max {
        return Ok(Raised::TooLarge);
    }
    replace(string, here.at, run.bytes, opcodes);
    join_values(string, place.at);
    Ok(Raised::Done(true))
}

/// The opcodes that replace one: at most two bytes, one and two.
#[derive(Default)]
struct Opcodes {
    bytes: [u8; 5],
    len: usize,
}

impl Opcodes {
    /// Appends an opcode for `n` registers with this value, unless `n` is 0.
    fn push(&mut self, value: u8, n: usize) {
        if n == 0 {
            return;
        }
        let last = n - 1;
        let opcode = match value {
            0 if n > SHORT_RUN_MAX => [0x40 | (last >> 8) as u8, last as u8],
            0 => [last as u8, 0],
            _ => [0x80 | (value - 1) << 2 | last as u8, 0],
        };
        let bytes = 1 + usize::from(value == 0 && n > SHORT_RUN_MAX);
        self.bytes[self.len..self.len + bytes].copy_from_slice(&opcode[..bytes]);
        self.len += bytes;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Replaces `old` bytes at `at` by `new`.
fn replace(string: &mut Sds, at: usize, old: usize, new: &[u8]) {
    let len = string.len();
    if new.len() > old {
        string.append_zeros(new.len() - old);
    }
    let bytes = string.as_mut_slice();
    bytes.copy_within(at + old..len, at + new.len());
    bytes[at..at + new.len()].copy_from_slice(new);
    string.truncate(len + new.len() - old);
}

/// Joins runs of equal value among the five opcodes from `at` on, as far as one opcode can hold them: a change may
/// have made neighbours equal.
fn join_values(string: &mut Sds, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = Run::read(&string[at.min(string.len())..]) else { return };
        let next = Run::read(&string[at + run.bytes..]);
        match next {
            Some(next) if run.value > 0 && next.value == run.value && run.len + next.len <= VALUE_RUN_MAX => {
                let mut joined = Opcodes::default();
                joined.push(run.value, run.len + next.len);
                replace(string, at, 2, joined.as_slice());
            }
            _ => at += run.bytes,
        }
    }
}

// ---- unions -----------------------------------------------------------------------------------------

/// Raises each register, one byte each, to the packed register with the same index. O(n).
fn raise_all(registers: &mut [u8; REGISTERS], packed: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for, as just asked.
        return unsafe { raise_all_avx2(registers, packed) };
    }
    raise_by_fours(registers, packed);
}

fn raise_by_fours(registers: &mut [u8], packed: &[u8]) {
    let (triples, _) = packed.as_chunks::<3>();
    let (fours, _) = registers.as_chunks_mut::<4>();
    for (four, triple) in fours.iter_mut().zip(triples) {
        let values = unpack(*triple);
        four.iter_mut().zip(values).for_each(|(old, value)| *old = value.max(*old));
    }
}

/// Processes thirty-two registers at a time: spreads their 24 bytes over eight words, three bytes each, then shifts
/// the four registers of each word into its four bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn raise_all_avx2(registers: &mut [u8; REGISTERS], packed: &[u8]) {
    use std::arch::x86_64::*;
    let spread = _mm256_setr_epi8(
        0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, // the first half
        0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1,
    );
    let (blocks, rest) = registers.as_chunks_mut::<32>();
    // The load of a block's second half reads four bytes past the block.
    let mut done = 0;
    for (block, bytes) in blocks.iter_mut().zip(packed.windows(28).step_by(24)) {
        let (Some(low), Some(high)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) else { break };
        // SAFETY: both loads read 16 bytes of an array of so many; the last load and the store are of the 32 bytes
        // of the block. None needs alignment.
        unsafe {
            let low = _mm_loadu_si128(low.as_ptr().cast());
            let high = _mm_loadu_si128(high.as_ptr().cast());
            let words = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), spread);
            let first = _mm256_and_si256(words, _mm256_set1_epi32(0x3f));
            let second = _mm256_and_si256(_mm256_slli_epi32::<2>(words), _mm256_set1_epi32(0x3f00));
            let third = _mm256_and_si256(_mm256_slli_epi32::<4>(words), _mm256_set1_epi32(0x3f_0000));
            let fourth = _mm256_and_si256(_mm256_slli_epi32::<6>(words), _mm256_set1_epi32(0x3f00_0000));
            let values = _mm256_or_si256(_mm256_or_si256(first, second), _mm256_or_si256(third, fourth));
            let place = block.as_mut_ptr().cast();
            _mm256_storeu_si256(place, _mm256_max_epu8(_mm256_loadu_si256(place), values));
        }
        done += 1;
    }
    debug_assert!(rest.is_empty());
    raise_by_fours(blocks[done..].as_flattened_mut(), &packed[done * 24..]);
}

/// The registers of a union, one byte each.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Self {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Raises the registers to those of `bytes`, a valid HyperLogLog. O(n).
    ///
    /// # Errors
    /// [`Corrupt`]; some registers may have been raised.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupt> {
        if is_dense(bytes) {
            raise_all(&mut self.0, &bytes[HEADER..]);
            return Ok(());
        }
        let mut index = 0;
        for run in runs(bytes) {
            let run = run?;
            let registers = self.0.get_mut(index..index + run.len).ok_or(Corrupt)?;
            if run.value > 0 {
                registers.iter_mut().for_each(|old| *old = run.value.max(*old));
            }
            index += run.len;
        }
        if index == REGISTERS { Ok(()) } else { Err(Corrupt) }
    }

    /// Estimates the number of distinct elements of the union. O(1).
    pub fn count(&self) -> u64 {
        let mut parts = [[0u32; 64]; 4];
        let (fours, _) = self.0.as_chunks::<4>();
        for four in fours {
            for (part, value) in parts.iter_mut().zip(four) {
                part[usize::from(value & 63)] += 1;
            }
        }
        estimate(&total(&parts))
    }

    /// Raises the registers of a valid HyperLogLog to these. It becomes dense if `dense` is set or the sparse
    /// encoding cannot hold the result. O(n).
    ///
    /// # Errors
    /// [`Corrupt`] if the registers of `string` contradict their encoding.
    pub fn store(&self, string: &mut Sds, dense: bool, sparse_max: usize) -> Result<(), Corrupt> {
        if dense {
            make_dense(string)?;
            let (triples, _) = string.as_mut_slice()[HEADER..].as_chunks_mut::<3>();
            let (fours, _) = self.0.as_chunks::<4>();
            for (triple, four) in triples.iter_mut().zip(fours) {
                let old = unpack(*triple);
                *triple = pack(std::array::from_fn(|i| old[i].max(four[i])));
            }
            forget_count(string);
            return Ok(());
        }
        let mut place = Place::FIRST;
        for (index, &value) in self.0.iter().enumerate().filter(|(_, value)| **value > 0) {
            raise(string, index, value, sparse_max, &mut place)?;
        }
        forget_count(string);
        Ok(())
    }

    /// The registers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        self.0.iter().copied()
    }
}

// ---- the test that users can run ------------------------------------------------------------------------

/// Failure of the self-test.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A dense register does not have the value to which it was raised.
    #[error("register {index} was not raised to {value} as it should")]
    NotRaised {
        /// Index of the register.
        index: usize,
        /// The value.
        value: u8,
    },
    /// Dense registers differ from those of the array.
    #[error("registers are not what they were set to")]
    Registers,
    /// The two encodings give different counts of the same elements.
    #[error("the sparse one counts {sparse}, the dense one {dense}")]
    Differ {
        /// Count of the sparse HyperLogLog.
        sparse: u64,
        /// Count of the dense HyperLogLog.
        dense: u64,
    },
    /// A count is further from the number of elements than the expected error.
    #[error("of {elements} elements {counted} were counted")]
    Inexact {
        /// Number of elements.
        elements: u64,
        /// The count.
        counted: u64,
    },
    /// Registers contradict their encoding.
    #[error("{0}")]
    Corrupt(#[from] Corrupt),
}

/// Self-test behind `PFSELFTEST`: compares dense registers with an array, then adds a hundred thousand elements to
/// a sparse and to a dense HyperLogLog, which must agree and stay within the expected error.
///
/// # Errors
/// The first failure.
pub fn self_test(rng: &mut Rng) -> Result<(), SelfTestError> {
    let mut dense = Sds::from_slice(EMPTY);
    make_dense(&mut dense)?;
    let mut model = vec![0; REGISTERS];
    for _ in 0..4 * REGISTERS {
        let (index, value) = (rng.index(REGISTERS), rng.below(64) as u8);
        let raised = raise_dense(&mut dense.as_mut_slice()[HEADER..], index, value);
        if raised != (value > model[index]) {
            return Err(SelfTestError::NotRaised { index, value });
        }
        model[index] = value.max(model[index]);
    }
    let (triples, _) = dense[HEADER..].as_chunks::<3>();
    let registers: Vec<u8> = triples.iter().flat_map(|triple| unpack(*triple)).collect();
    if registers != model {
        return Err(SelfTestError::Registers);
    }
    let mut sparse = Sds::from_slice(EMPTY);
    let mut dense = sparse.clone();
    make_dense(&mut dense)?;
    let (seed, mut checkpoint) = (rng.next_u64(), 1);
    for i in 1..=100_000u64 {
        let element = (seed ^ i).to_le_bytes();
        for string in [&mut sparse, &mut dense] {
            add(string, &element, 3000)?;
        }
        if i != checkpoint {
            continue;
        }
        let (n, same) = (count(&sparse)?, count(&dense)?);
        if n != same {
            return Err(SelfTestError::Differ { sparse: n, dense: same });
        }
        // The standard error is 1.04 divided by the square root of the number of registers. Six times that
        // practically never happens.
        let allowed = (6.0 * 1.04 / (REGISTERS as f64).sqrt() * i as f64).ceil() as u64;
        if n.abs_diff(i) > allowed {
            return Err(SelfTestError::Inexact { elements: i, counted: n });
        }
        checkpoint *= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Sds {
        Sds::from_slice(EMPTY)
    }

    /// All registers, after a check of each run.
    fn registers(bytes: &[u8]) -> Vec<u8> {
        assert!(is_valid(bytes));
        let mut registers = Registers::default();
        registers.merge(bytes).expect("it is sound");
        registers.iter().collect()
    }

    /// Merging packed registers gives the same result with every instruction set.
    #[test]
    fn packed_registers_are_merged_alike() {
        let mut rng = Rng::new(7);
        for _ in 0..20 {
            let packed: Vec<u8> = (0..DENSE_LEN - HEADER).map(|_| rng.next_u64() as u8).collect();
            let mut wide = [0; REGISTERS];
            wide.iter_mut().for_each(|register| *register = rng.next_u64() as u8 & 63);
            let mut narrow = wide;
            raise_all(&mut wide, &packed);
            raise_by_fours(&mut narrow, &packed);
            assert_eq!(wide, narrow);
        }
    }

    #[test]
    fn as_redis_stores_it() {
        let mut string = empty();
        assert_eq!(add(&mut string, b"a", 3000), Ok(true));
        assert_eq!(add(&mut string, b"a", 3000), Ok(false));
        forget_count(&mut string);
        // 12,711 zeros, one register of 2, 3,672 zeros.
        assert_eq!(&string[..], b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x71\xa6\x84\x4e\x57");
        assert_eq!(known_count(&string), None);
        assert_eq!(count(&string), Ok(1));
        keep_count(string.as_mut_slice(), 1);
        assert_eq!(known_count(&string), Some(1));
        assert_eq!(make_dense(&mut string), Ok(true));
        assert_eq!(make_dense(&mut string), Ok(false));
        assert_eq!((string.len(), known_count(&string), count(&string)), (DENSE_LEN, Some(1), Ok(1)));
    }

    #[test]
    fn eight_runs_are_as_long_as_one_after_another() {
        let mut rng = Rng::new(3);
        let mut short = 0;
        for _ in 0..10_000 {
            // One in eight is of two bytes if all kinds are equally frequent, so most are of registers that are not 0.
            let opcodes: [u8; 9] = std::array::from_fn(|_| match rng.below(20) {
                0 => rng.below(256) as u8,
                1..6 => rng.below(64) as u8,
                _ => 128 + rng.below(128) as u8,
            });
            let all: Result<Vec<Run>, Corrupt> = Runs(&opcodes).take(8).collect();
            let runs = all.ok().filter(|runs| runs.iter().all(|run| run.bytes == 1));
            let expected = runs.map(|runs| (runs.iter().map(|run| run.len).sum(), runs[7].len));
            short += usize::from(expected.is_some());
            assert_eq!(eight_short_runs(&opcodes), expected, "{opcodes:x?}");
        }
        assert!((1000..9900).contains(&short), "{short}");
        assert_eq!(eight_short_runs(&[0; 8]), Some((8, 1)));
        assert_eq!(eight_short_runs(&[0x3f; 8]), Some((512, 64)));
        assert_eq!(eight_short_runs(&[0; 7]), None);
    }

    #[test]
    fn both_encodings_agree_with_an_array() {
        for seed in 0..6 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let sparse_max = [0, 18, 100, 1000, 3000, 16_000][seed as usize];
            let (mut string, mut model) = (empty(), vec![0; REGISTERS]);
            for step in 0..3000 {
                // Neighbours meet, and values are often equal.
                let index = if rng.chance(0.5) { rng.index(300) } else { rng.index(REGISTERS) };
                let highest = if rng.one_in(300) { 51 } else { 4 };
                let value = 1 + rng.below(highest) as u8;
                let before = (is_dense(&string), string.len());
                let mut place = Place::FIRST;
                let raised = raise(&mut string, index, value, sparse_max, &mut place).expect("it is sound");
                assert_eq!(raised, value > model[index]);
                model[index] = value.max(model[index]);
                assert!(is_dense(&string) || string.len() <= sparse_max.max(before.1));
                assert!(is_dense(&string) || !before.0, "it never becomes sparse again");
                if step % 20 == 0 {
                    assert_eq!(registers(&string), model);
                }
                if step % 500 == 0 {
                    let mut dense = string.clone();
                    make_dense(&mut dense).expect("it is sound");
                    assert_eq!(registers(&dense), model);
                    assert_eq!(count(&string), count(&dense));
                }
            }
        }
    }

    #[test]
    fn a_union_is_stored_as_if_registers_were_raised_one_by_one() {
        for seed in 0..40 {
            println!("seed {seed}");
            let rng = &mut Rng::new(seed);
            let sparse_max = 100 + rng.index(3000);
            let mut make = |n: u64| {
                let mut string = empty();
                for _ in 0..n {
                    let (index, value) = (rng.index(500), 1 + rng.below(3) as u8);
                    let mut place = Place::FIRST;
                    raise(&mut string, index, value, 16_000, &mut place).expect("it is sound");
                }
                string
            };
            let (target, source) = (make(seed * 10), make(seed * 20));
            let mut union = Registers::default();
            union.merge(&target).expect("it is sound");
            union.merge(&source).expect("it is sound");
            let (mut stored, mut expected) = (target.clone(), target);
            union.store(&mut stored, false, sparse_max).expect("it is sound");
            for (index, value) in union.iter().enumerate().filter(|(_, value)| *value > 0) {
                let mut place = Place::FIRST;
                raise(&mut expected, index, value, sparse_max, &mut place).expect("it is sound");
            }
            forget_count(&mut expected);
            assert_eq!(stored.as_slice(), expected.as_slice());
            assert_eq!(registers(&stored), union.iter().collect::<Vec<_>>());
            assert_eq!(count(&stored), Ok(union.count()));
        }
    }

    #[test]
    fn counts_are_close() {
        self_test(&mut Rng::new(7)).expect("it counts well");
    }

    #[test]
    fn what_is_corrupt_is_refused() {
        assert!(!is_valid(b""));
        assert!(!is_valid(b"HYLL\x01"));
        assert!(!is_valid(b"HYLK\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"));
        assert!(!is_valid(b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"));
        assert!(!is_valid(b"HYLL\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"));
        for registers in [&b""[..], b"\x7f", b"\x7f\xfe", b"\x7f\xff\0", b"\x7f\xff\x7f\xff", b"\x7f\xff\xff"]
        {
            let mut string = Sds::from_slice(&[&EMPTY[..HEADER], registers].concat());
            assert!(is_valid(&string));
            assert_eq!(count(&string), Err(Corrupt));
            assert_eq!(make_dense(&mut string), Err(Corrupt));
            assert_eq!(Registers::default().merge(&string), Err(Corrupt));
        }
    }

    #[test]
    fn no_bytes_do_harm() {
        for seed in 0..3000 {
            let rng = &mut Rng::new(seed);
            let mut bytes = EMPTY[..HEADER].to_vec();
            if rng.one_in(10) {
                bytes[ENCODING_AT] = DENSE;
                bytes.resize(DENSE_LEN, 0);
            } else {
                bytes.resize(HEADER + rng.index(200), 0);
            }
            rng.fill(&mut bytes[COUNT_AT..]);
            let mut string = Sds::from_slice(&bytes);
            let _ = count(&string);
            for _ in 0..20 {
                let _ = add(&mut string, &rng.next_u64().to_le_bytes(), 250);
            }
            let mut union = Registers::default();
            if union.merge(&string).is_ok() {
                let _ = union.count();
                let _ = union.store(&mut string, rng.chance(0.5), 250);
            }
            let _ = make_dense(&mut string);
        }
    }
}
