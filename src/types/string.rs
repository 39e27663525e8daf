//! Strings: an integer where the text is one, otherwise bytes.
//!
//! The keyspace decides where the bytes lie: inside the entry, or in a shared string. This module decides which
//! texts are integers and how long a string may get.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::stdx::num;
use crate::structures::sds::Sds;

/// Longest string reported as `embstr`; a longer one is `raw`.
pub const EMBSTR_MAX: usize = 44;

/// A borrowed string value.
#[derive(Clone, Copy, Debug)]
pub enum StringRef<'a> {
    /// The decimal text of an integer.
    Int(i64),
    /// Any other text.
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

    /// The value as an integer, if the text is the canonical form of one.
    pub fn int(&self) -> Option<i64> {
        match *self {
            StringRef::Int(n) => Some(n),
            StringRef::Bytes(b) => num::parse_i64(b),
        }
    }

    /// An owned copy of the text.
    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }
}

/// An owned string value that copies only short texts.
#[derive(Clone, Debug)]
pub enum Text {
    /// A copy of a short text.
    Copied(Vec<u8>),
    /// A long text, shared with its key.
    Shared(Arc<Sds>),
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Copied(bytes) => bytes,
            Text::Shared(shared) => shared,
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::Copied(Vec::new())
    }
}

/// Indices of the elements from `start` to `end`, inclusive, among `len` elements; negative ones count from the
/// end. The range is clamped to the elements, but an `end` before the first element means the first element.
pub fn clamp_range(start: i64, end: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_front = |i: i64| if i < 0 { (len + i).max(0) } else { i };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

/// As [`clamp_range`], but empty when both ends count from the end in the wrong order.
pub fn clamp_ordered(start: i64, end: i64, len: usize) -> Range<usize> {
    if start < 0 && end < 0 && start > end { 0..0 } else { clamp_range(start, end, len) }
}

/// Mutable access to the text, which is first copied if others share it.
pub fn unshare(shared: &mut Arc<Sds>) -> &mut Sds {
    Arc::make_mut(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let cases: &[(i64, i64, usize, Range<usize>)] = &[
            (0, -1, 5, 0..5),
            (1, 3, 5, 1..4),
            (-3, -2, 5, 2..4),
            (0, 100, 5, 0..5),
            (-100, 100, 5, 0..5),
            (5, 9, 5, 0..0),
            (3, 2, 5, 0..0),
            (0, -100, 5, 0..1),
            (-100, -90, 5, 0..1),
            (0, -1, 0, 0..0),
            (0, 0, 0, 0..0),
            (i64::MIN, i64::MAX, 5, 0..5),
            (i64::MAX, i64::MIN, 5, 0..0),
        ];
        for (start, end, len, expected) in cases.iter().cloned() {
            assert_eq!(clamp_range(start, end, len), expected, "{start} to {end} of {len}");
            assert_eq!(clamp_ordered(start, end, len), expected, "{start} to {end} of {len}");
        }
        assert_eq!(clamp_range(-6, -7, 5), 0..1);
        assert_eq!(clamp_ordered(-6, -7, 5), 0..0);
    }
}
