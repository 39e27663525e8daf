//! Lists. (Encodings follow.)
#![allow(unsafe_code)]

use super::value::{Collection, Describe, Kind};

/// A list.
#[repr(transparent)]
pub struct List(u64);

impl Describe for List {
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
unsafe impl Collection for List {
    const KIND: Kind = Kind::List;
    fn duplicate(&self) -> Self {
        List(self.0)
    }
}
