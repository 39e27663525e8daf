//! Zsets. (Encodings follow.)
#![allow(unsafe_code)]

use super::value::{Collection, Describe, Kind};

/// A zset.
#[repr(transparent)]
pub struct Zset(u64);

impl Describe for Zset {
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
unsafe impl Collection for Zset {
    const KIND: Kind = Kind::Zset;
    fn duplicate(&self) -> Self {
        Zset(self.0)
    }
}
