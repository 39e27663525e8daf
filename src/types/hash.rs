//! Hashs. (Encodings follow.)
#![allow(unsafe_code)]

use super::value::{Collection, Describe, Kind};

/// A hash.
#[repr(transparent)]
pub struct Hash(u64);

impl Describe for Hash {
    fn len(&self) -> usize {
        self.0 as usize
    }
    fn effort(&self) -> usize {
        1
    }
    fn encoding(&self) -> &'static str {
        "listpack"
    }
    fn bytes(&self, _samples: usize) -> usize {
        0
    }
}

// SAFETY: one word.
unsafe impl Collection for Hash {
    const KIND: Kind = Kind::Hash;
    fn duplicate(&self) -> Self {
        Hash(self.0)
    }
}
