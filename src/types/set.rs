//! Sets. (Encodings follow.)
#![allow(unsafe_code)]

use super::value::{Collection, Describe, Kind};

/// A set.
#[repr(transparent)]
pub struct Set(u64);

impl Describe for Set {
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
unsafe impl Collection for Set {
    const KIND: Kind = Kind::Set;
    fn duplicate(&self) -> Self {
        Set(self.0)
    }
}
