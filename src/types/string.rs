//! Strings: an integer where the text is one, else bytes.
//!
//! Where the bytes lie (inside the entry, or in a shared string of their own) is the keyspace's
//! business; what is decided here is which texts are integers and how long a string may get.

use crate::stdx::num;
use crate::structures::sds::Sds;
use std::sync::Arc;

/// Longest string reported as `embstr`; a longer one is `raw`.
pub const EMBSTR_MAX: usize = 44;

/// A string value, as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum StringRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> StringRef<'a> {
    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        match *self {
            StringRef::Int(n) => num::decimal_len(n),
            StringRef::Bytes(b) => b.len(),
        }
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, StringRef::Bytes(b) if b.is_empty())
    }

    /// The text; an integer is written into `buffer` first.
    pub fn text<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            StringRef::Int(n) => buffer.format(n).as_bytes(),
            StringRef::Bytes(b) => b,
        }
    }

    /// The value as an integer, when the text is exactly one.
    pub fn int(&self) -> Option<i64> {
        match *self {
            StringRef::Int(n) => Some(n),
            StringRef::Bytes(b) => num::parse_i64(b),
        }
    }

    /// The text, owned.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }
}

/// The text as a string ready for changes, with its own buffer.
pub fn unshare(shared: &mut Arc<Sds>) -> &mut Sds {
    Arc::make_mut(shared)
}
