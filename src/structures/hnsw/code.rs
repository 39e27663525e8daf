//! How a vector is stored: in full, with a byte or with a bit per component; and the distance of two.
//!
//! All vectors are normalised to length 1, and their length is kept beside them, so that the cosine of the angle between
//! two is their scalar product. The distance is 1 minus the cosine, between 0 and 2. Of rows of bits, the distance is
//! estimated from the number of different signs.

use super::dot::{dot_f32, dot_i8, hamming};
use crate::stdx::alloc::relocation::Relocator;

/// How the vectors of a graph are stored. The numbers are those in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Quantization {
    /// In full: four bytes per component.
    Full = 0,
    /// A byte per component, in units of the greatest component divided by 127.
    Bytes = 1,
    /// A bit per component: whether it is positive.
    Signs = 2,
}

impl Quantization {
    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Quantization> {
        [Quantization::Full, Quantization::Bytes, Quantization::Signs].get(usize::from(number)).copied()
    }

    /// Bytes of a stored vector of `dim` components.
    pub fn bytes(self, dim: usize) -> usize {
        match self {
            Quantization::Full => dim * 4,
            Quantization::Bytes => dim,
            Quantization::Signs => dim.div_ceil(64) * 8,
        }
    }
}

/// A vector as it is stored.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stored {
    Full(Vec<f32>),
    /// Components in units of `range / 127`.
    Bytes {
        components: Vec<i8>,
        range: f32,
    },
    Signs {
        bits: Vec<u64>,
        dim: u32,
    },
}

/// A vector in the form in which a graph stores it, and its length before it was normalised.
#[derive(Clone, PartialEq, Debug)]
pub struct Code {
    pub(super) stored: Stored,
    norm: f32,
}

/// The greatest byte of a component.
const MOST: f32 = 127.0;

impl Code {
    /// Normalises and encodes a vector. O(n).
    pub fn new(vector: &[f32], how: Quantization) -> Code {
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        // The direction of a vector of length 0 is unknown: it stays 0.
        let unit: Vec<f32> =
            if norm == 0.0 { vector.to_vec() } else { vector.iter().map(|x| x / norm).collect() };
        let stored = match how {
            Quantization::Full => Stored::Full(unit),
            Quantization::Bytes => {
                let range = unit.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let scale = if range > 0.0 { MOST / range } else { 0.0 };
                let component = |x: &f32| (x * scale).round().clamp(-MOST, MOST) as i8;
                Stored::Bytes { components: unit.iter().map(component).collect(), range }
            }
            Quantization::Signs => {
                let word = |word: &[f32]| {
                    word.iter().enumerate().fold(0, |bits, (i, &x)| bits | u64::from(x > 0.0) << i)
                };
                Stored::Signs { bits: unit.chunks(64).map(word).collect(), dim: unit.len() as u32 }
            }
        };
        Code { stored, norm }
    }

    /// The vector stored in `bytes`, as [`Code::bytes`] writes them; `None` if they are not of the right number. `range`
    /// counts only for [`Quantization::Bytes`].
    pub fn from_bytes(bytes: &[u8], dim: usize, how: Quantization, norm: f32, range: f32) -> Option<Code> {
        if bytes.len() != how.bytes(dim) {
            return None;
        }
        let stored = match how {
            Quantization::Full => {
                Stored::Full(bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
            }
            Quantization::Bytes => {
                Stored::Bytes { components: bytes.iter().map(|&byte| byte.cast_signed()).collect(), range }
            }
            Quantization::Signs => {
                let mut bits: Vec<u64> =
                    bytes.as_chunks::<8>().0.iter().map(|x| u64::from_le_bytes(*x)).collect();
                // Bits beyond the last component would count as differences.
                if let Some(last) = bits.last_mut()
                    && !dim.is_multiple_of(64)
                {
                    *last &= (1 << (dim % 64)) - 1;
                }
                Stored::Signs { bits, dim: dim as u32 }
            }
        };
        Some(Code { stored, norm })
    }

    /// Appends the stored vector in the bytes of files. O(n).
    pub fn write_bytes(&self, out: &mut Vec<u8>) {
        match &self.stored {
            Stored::Full(unit) => unit.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
            Stored::Bytes { components, .. } => out.extend(components.iter().map(|x| x.cast_unsigned())),
            Stored::Signs { bits, .. } => bits.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        }
    }

    /// Length of the vector before it was normalised.
    pub fn norm(&self) -> f32 {
        self.norm
    }

    /// The greatest component of the normalised vector, if it is needed to decode it.
    pub fn range(&self) -> Option<f32> {
        if let Stored::Bytes { range, .. } = self.stored { Some(range) } else { None }
    }

    /// The vector, as far as it can be told from what is stored: of signs, 1 and -1. O(n).
    pub fn decode(&self) -> Vec<f32> {
        match &self.stored {
            Stored::Full(unit) => unit.iter().map(|x| x * self.norm).collect(),
            Stored::Bytes { components, range } => {
                components.iter().map(|&x| f32::from(x) * range / MOST * self.norm).collect()
            }
            Stored::Signs { bits, dim } => (0..*dim as usize)
                .map(|i| if bits[i / 64] >> (i % 64) & 1 == 1 { 1.0 } else { -1.0 })
                .collect(),
        }
    }

    /// Distance to a vector stored in the same way, with as many components: from 0 for the same direction to 2 for the
    /// opposite. Never NaN. O(n).
    #[inline]
    pub fn distance(&self, other: &Code) -> f32 {
        let distance = match (&self.stored, &other.stored) {
            (Stored::Full(a), Stored::Full(b)) => 1.0 - dot_f32(a, b),
            (Stored::Bytes { components: a, range: ra }, Stored::Bytes { components: b, range: rb }) => {
                1.0 - dot_i8(a, b) as f32 * (ra * rb / (MOST * MOST))
            }
            (Stored::Signs { bits: a, dim }, Stored::Signs { bits: b, .. }) => {
                hamming(a, b) as f32 * 2.0 / *dim as f32
            }
            _ => unreachable!("all vectors of a graph are stored in the same way"),
        };
        // A NaN can come from components of a file, and counts as far.
        if distance <= 0.0 { 0.0 } else { distance.min(2.0) }
    }

    /// The similarity that clients see for a distance: from 1 for the same direction to 0 for the opposite.
    #[inline]
    pub fn similarity(distance: f32) -> f64 {
        1.0 - f64::from(distance) / 2.0
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        match &self.stored {
            Stored::Full(unit) => unit.capacity() * 4,
            Stored::Bytes { components, .. } => components.capacity(),
            Stored::Signs { bits, .. } => bits.capacity() * 8,
        }
    }

    /// The address of the first component, to be prefetched.
    #[inline]
    pub(super) fn start(&self) -> *const u8 {
        match &self.stored {
            Stored::Full(unit) => unit.as_ptr().cast(),
            Stored::Bytes { components, .. } => components.as_ptr().cast(),
            Stored::Signs { bits, .. } => bits.as_ptr().cast(),
        }
    }

    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        match &mut self.stored {
            Stored::Full(unit) => by.relocate_vec(unit),
            Stored::Bytes { components, .. } => by.relocate_vec(components),
            Stored::Signs { bits, .. } => by.relocate_vec(bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts of Redis 8.2.3: what it stores for these vectors.
    #[test]
    fn codes_are_those_of_redis() {
        let a = Code::new(&[1.0, 2.0, 3.0], Quantization::Bytes);
        assert_eq!((a.norm(), a.range()), (3.741_657_5, Some(0.801_783_7)));
        let mut bytes = Vec::new();
        a.write_bytes(&mut bytes);
        assert_eq!(bytes, b"*U\x7f");
        assert_eq!(a.decode(), [0.992_125_9, 2.007_874, 3.0]);
        let b = Code::new(&[1.0, 2.0, 4.0], Quantization::Bytes);
        let mut bytes = Vec::new();
        b.write_bytes(&mut bytes);
        assert_eq!(bytes, b" ?\x7f");
        assert_eq!(a.distance(&b), f32::from_bits(0x3c1b_2500));
        let signs = Code::new(&[1.0, -2.0, 3.0], Quantization::Signs);
        let mut bytes = Vec::new();
        signs.write_bytes(&mut bytes);
        assert_eq!(bytes, [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(signs.decode(), [1.0, -1.0, 1.0]);
        let other = Code::new(&[1.0, 2.0, 3.0], Quantization::Signs);
        assert_eq!(signs.distance(&other), f32::from_bits(0x3f2a_aaab));
    }

    #[test]
    fn bytes_are_read_back() {
        let vector: Vec<f32> = (0..70).map(|i| (i as f32 * 0.7).sin()).collect();
        for how in [Quantization::Full, Quantization::Bytes, Quantization::Signs] {
            let code = Code::new(&vector, how);
            let mut bytes = Vec::new();
            code.write_bytes(&mut bytes);
            let range = code.range().unwrap_or_default();
            assert_eq!(Code::from_bytes(&bytes, 70, how, code.norm(), range).as_ref(), Some(&code));
            assert_eq!(Code::from_bytes(&bytes[1..], 70, how, 1.0, range), None);
            assert!(code.distance(&code) < 0.02);
        }
    }

    #[test]
    fn vectors_without_direction_are_no_trouble() {
        let zero = Code::new(&[0.0; 3], Quantization::Bytes);
        assert_eq!(zero.distance(&Code::new(&[1.0, 0.0, 0.0], Quantization::Bytes)), 1.0);
        let nan = Code::from_bytes(&f32::NAN.to_le_bytes(), 1, Quantization::Full, 1.0, 0.0).unwrap();
        assert_eq!(nan.distance(&nan), 2.0);
    }
}
