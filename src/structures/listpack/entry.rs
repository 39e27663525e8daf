//! Encoding and decoding of one entry of a listpack.
//!
//! ```text
//! | encoding (and length) | data          | backlen          |
//!
//! 0vvvvvvv                                 integer 0..=127
//! 10llllll                bytes            text of up to 63 bytes
//! 110vvvvv vvvvvvvv                        integer of 13 bits, signed
//! 1110llll llllllll       bytes            text of up to 4095 bytes, high bits first
//! 0xF0 llllllll × 4       bytes            text, length little-endian
//! 0xF1 … 0xF4             2, 3, 4, 8 bytes signed integer, little-endian
//! 0xFF                                     end of the listpack
//! ```
//!
//! `backlen` is the length of encoding and data together, in a form that is read from its last byte to its first:
//! seven bits per byte, with the top bit set if another byte precedes.
//!
//! Each value has exactly one encoding here: a text that is the canonical decimal of an `i64` is stored as an
//! integer, and the shortest form is used. Two entries are therefore equal exactly if their bytes are.

use crate::stdx::num;

/// Reports a position that is no entry.
#[cold]
#[inline(never)]
pub(in crate::structures) fn corrupt_position() -> ! {
    panic!("no entry stands at this position")
}

/// Marks the end of a listpack, in the place of an entry's first byte.
pub(in crate::structures) const END: u8 = 0xFF;

const TEXT_32: u8 = 0xF0;
const INT_16: u8 = 0xF1;
const INT_24: u8 = 0xF2;
const INT_32: u8 = 0xF3;
const INT_64: u8 = 0xF4;

/// A value in a listpack: an integer, or bytes that are not the canonical decimal of one.
///
/// Compares by text: `Int(10)` equals `Str(b"10")`.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// An integer, which stands for its canonical decimal text.
    Int(i64),
    /// Any bytes.
    Str(&'a [u8]),
}

impl<'a> Item<'a> {
    /// Whether the text of this item is `text`.
    #[inline]
    pub fn eq_bytes(self, text: &[u8]) -> bool {
        match self {
            Item::Str(bytes) => bytes == text,
            Item::Int(v) => num::parse_i64(text) == Some(v),
        }
    }

    /// Length of the text in bytes.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Item::Str(bytes) => bytes.len(),
            Item::Int(v) => usize::from(v < 0) + 1 + v.unsigned_abs().checked_ilog10().unwrap_or(0) as usize,
        }
    }

    /// Whether the text is empty.
    #[inline]
    pub fn is_empty(self) -> bool {
        matches!(self, Item::Str([]))
    }

    /// The integer, if the text is the canonical decimal of an `i64`.
    #[inline]
    pub fn int(self) -> Option<i64> {
        match self {
            Item::Int(v) => Some(v),
            Item::Str(bytes) => num::parse_i64(bytes),
        }
    }

    /// The text, formatted into `buf` if it is stored as an integer.
    #[inline]
    pub fn text<'b>(self, buf: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Item::Str(bytes) => bytes,
            Item::Int(v) => buf.format(v).as_bytes(),
        }
    }

    /// Appends the text to `out`.
    #[inline]
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text(&mut itoa::Buffer::new()));
    }

    /// The text in a new vector.
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }
}

impl PartialEq for Item<'_> {
    #[inline]
    fn eq(&self, other: &Item<'_>) -> bool {
        match (*self, *other) {
            (Item::Int(a), Item::Int(b)) => a == b,
            (item, Item::Str(text)) | (Item::Str(text), item) => item.eq_bytes(text),
        }
    }
}

impl Eq for Item<'_> {}

impl From<i64> for Item<'_> {
    #[inline]
    fn from(v: i64) -> Self {
        Item::Int(v)
    }
}

impl<'a> From<&'a [u8]> for Item<'a> {
    #[inline]
    fn from(text: &'a [u8]) -> Self {
        Item::Str(text)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Item<'a> {
    #[inline]
    fn from(text: &'a [u8; N]) -> Self {
        Item::Str(text)
    }
}

impl<'a> From<&'a Vec<u8>> for Item<'a> {
    #[inline]
    fn from(text: &'a Vec<u8>) -> Self {
        Item::Str(text)
    }
}

/// How many bytes `backlen` takes after `size` bytes of encoding and data.
///
/// The limits are those of the format's first implementation, which uses a longer form one value early.
#[inline]
pub(in crate::structures) const fn backlen_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// Writes the `backlen` that follows `size` bytes.
///
/// # Safety
/// `out` must be valid for writes of [`backlen_size`] bytes.
#[inline]
pub(in crate::structures) unsafe fn write_backlen(out: *mut u8, size: usize) {
    // SAFETY: the caller vouches for these bytes.
    unsafe {
        if size <= 127 {
            *out = size as u8;
        } else {
            let n = backlen_size(size);
            for i in 0..n {
                let bits = (size >> (7 * (n - 1 - i))) as u8 & 0x7F;
                *out.add(i) = if i == 0 { bits } else { bits | 0x80 };
            }
        }
    }
}

/// A value in its encoded form, ready to be written: a head of at most nine bytes, and the text if there is one.
#[derive(Clone, Copy)]
pub(in crate::structures) struct Encoded<'a> {
    head: [u8; 9],
    head_len: u8,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// # Panics
    /// If the text is longer than the format allows (4 GB).
    #[inline]
    pub(in crate::structures) fn new(item: Item<'a>) -> Self {
        match item {
            Item::Int(v) => Self::int(v),
            Item::Str(text) => match num::parse_i64(text) {
                Some(v) => Self::int(v),
                None => Self::text(text),
            },
        }
    }

    #[inline]
    fn int(v: i64) -> Self {
        let mut head = [0; 9];
        let le = v.to_le_bytes();
        let (first, data) = match v {
            0..=127 => {
                head[0] = v as u8;
                return Encoded { head, head_len: 1, body: &[] };
            }
            -4096..=4095 => {
                head[0] = 0b1100_0000 | (v >> 8) as u8 & 0b1_1111;
                head[1] = v as u8;
                return Encoded { head, head_len: 2, body: &[] };
            }
            -0x8000..=0x7FFF => (INT_16, 2),
            -0x80_0000..=0x7F_FFFF => (INT_24, 3),
            -0x8000_0000..=0x7FFF_FFFF => (INT_32, 4),
            _ => (INT_64, 8),
        };
        head[0] = first;
        head[1..].copy_from_slice(&le);
        Encoded { head, head_len: 1 + data, body: &[] }
    }

    /// The encoding of a text that is not the canonical decimal of an integer.
    #[inline]
    pub(in crate::structures) fn text(body: &'a [u8]) -> Self {
        let mut head = [0; 9];
        let n = body.len();
        let head_len = if n < 64 {
            head[0] = 0b1000_0000 | n as u8;
            1
        } else if n < 4096 {
            head[0] = 0b1110_0000 | (n >> 8) as u8;
            head[1] = n as u8;
            2
        } else {
            head[0] = TEXT_32;
            let len = u32::try_from(n).expect("no listpack holds 4 GB");
            head[1..5].copy_from_slice(&len.to_le_bytes());
            5
        };
        Encoded { head, head_len, body }
    }

    /// Bytes of encoding and data.
    #[inline]
    pub(in crate::structures) fn size(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Bytes of the whole entry, including `backlen`.
    #[inline]
    pub(in crate::structures) fn entry_size(&self) -> usize {
        self.size() + backlen_size(self.size())
    }

    /// Writes the entry to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of [`entry_size`](Self::entry_size) bytes, none of them in
    /// the text of this value.
    #[inline]
    pub(in crate::structures) unsafe fn write(&self, out: *mut u8) {
        // SAFETY: encoding, data and backlen together are the `entry_size` bytes the caller vouches for.
        unsafe {
            self.write_value(out);
            write_backlen(out.add(self.size()), self.size());
        }
    }

    /// Writes encoding and data to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of [`size`](Self::size) bytes, none of them in the text of this value.
    #[inline]
    pub(in crate::structures) unsafe fn write_value(&self, out: *mut u8) {
        // SAFETY: head (at most nine bytes, of which `head_len` are written) and body together are the
        // `size` bytes the caller vouches for.
        unsafe {
            *out = self.head[0];
            if self.head_len > 1 {
                let n = usize::from(self.head_len);
                out.add(1).copy_from_nonoverlapping(self.head[1..].as_ptr(), n - 1);
            }
            out.add(usize::from(self.head_len)).copy_from_nonoverlapping(self.body.as_ptr(), self.body.len());
        }
    }

    /// The first eight bytes of encoding and data as a little-endian number, with a mask of the bits that count.
    fn word(&self) -> (u64, u64) {
        let mut bytes = [0u8; 8];
        let head = usize::from(self.head_len).min(8);
        bytes[..head].copy_from_slice(&self.head[..head]);
        let body = self.body.len().min(8 - head);
        bytes[head..head + body].copy_from_slice(&self.body[..body]);
        let meant = head + body;
        let mask = if meant == 8 { u64::MAX } else { (1 << (8 * meant)) - 1 };
        (u64::from_le_bytes(bytes), mask)
    }
}

/// Size of encoding and data by first byte, where that byte determines it; zero elsewhere.
const SIZE_BY_FIRST: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut first = 0;
    while first < 256 {
        table[first] = match first as u8 {
            0..=0x7F => 1,
            0x80..=0xBF => 1 + (first as u8 & 0x3F),
            0xC0..=0xDF => 2,
            INT_16 => 3,
            INT_24 => 4,
            INT_32 => 5,
            INT_64 => 9,
            _ => 0,
        };
        first += 1;
    }
    table
};

/// Bytes of encoding and data of the entry at `at`. The result is below `usize::MAX / 2` but otherwise unchecked.
///
/// # Panics
/// If no value starts there.
#[inline(always)]
pub(in crate::structures) fn value_size(blob: &[u8], at: usize) -> usize {
    match SIZE_BY_FIRST[usize::from(blob[at])] {
        0 => long_size(blob, at),
        size => usize::from(size),
    }
}

/// [`value_size`] for texts whose length is not in the first byte alone.
fn long_size(blob: &[u8], at: usize) -> usize {
    match blob[at..] {
        [first @ 0xE0..=0xEF, low, ..] => 2 + (usize::from(first & 0xF) << 8 | usize::from(low)),
        [TEXT_32, a, b, c, d, ..] => 5 + u32::from_le_bytes([a, b, c, d]) as usize,
        _ => corrupt_position(),
    }
}

/// Offset of the entry after the one at `at`, or of the end mark. Always below `blob.len()`.
///
/// # Panics
/// If that offset is outside, because `at` was not an entry.
#[inline(always)]
pub(in crate::structures) fn after(blob: &[u8], at: usize) -> usize {
    let next = match SIZE_BY_FIRST[usize::from(blob[at])] {
        0 => {
            let size = long_size(blob, at);
            at + size + backlen_size(size)
        }
        size => at + usize::from(size) + 1,
    };
    if next >= blob.len() {
        corrupt_position();
    }
    next
}

/// Offset of the entry that ends at `end`.
///
/// # Panics
/// If there is no `backlen` before `end` whose entry starts at or after `floor`.
#[inline]
pub(in crate::structures) fn before(blob: &[u8], end: usize, floor: usize) -> usize {
    let last = blob[end - 1];
    let (size, width) = if last < 0x80 { (usize::from(last), 1) } else { long_backlen(blob, end) };
    match end.checked_sub(size + width) {
        Some(at) if at >= floor => at,
        _ => corrupt_position(),
    }
}

/// The `backlen` of several bytes that ends at `end`, and its width.
fn long_backlen(blob: &[u8], end: usize) -> (usize, usize) {
    let mut size = 0;
    for (i, &byte) in blob[..end].iter().rev().take(5).enumerate() {
        size |= usize::from(byte & 0x7F) << (7 * i);
        if byte < 0x80 {
            return (size, i + 1);
        }
    }
    corrupt_position()
}

/// The value at `at`.
///
/// # Panics
/// If the value would end outside `blob`, or no value starts with this byte, because `at` was not an entry.
#[inline]
pub(in crate::structures) fn value(blob: &[u8], at: usize) -> Item<'_> {
    match decode(blob, at) {
        Some((item, _)) => item,
        None => corrupt_position(),
    }
}

/// The value at `at`, and the number of bytes of its encoding and data; `None` unless they lie inside `blob`.
#[inline(always)]
pub(in crate::structures) fn decode(blob: &[u8], at: usize) -> Option<(Item<'_>, usize)> {
    let rest = blob.get(at..)?;
    let (&first, rest) = rest.split_first()?;
    Some(match first {
        0..=0x7F => (Item::Int(i64::from(first)), 1),
        0x80..=0xBF => {
            let n = usize::from(first & 0x3F);
            (Item::Str(rest.get(..n)?), 1 + n)
        }
        0xC0..=0xDF => {
            let bits = u16::from(first & 0x1F) << 8 | u16::from(*rest.first()?);
            // Shifted up and down again, so that the thirteenth bit becomes the sign.
            (Item::Int(i64::from((bits << 3) as i16 >> 3)), 2)
        }
        0xE0..=0xEF => {
            let n = usize::from(first & 0xF) << 8 | usize::from(*rest.first()?);
            (Item::Str(rest.get(1..1 + n)?), 2 + n)
        }
        TEXT_32 => {
            let n = u32::from_le_bytes(*rest.first_chunk()?) as usize;
            (Item::Str(rest.get(4..4 + n)?), 5 + n)
        }
        INT_16 => (Item::Int(i64::from(i16::from_le_bytes(*rest.first_chunk()?))), 3),
        INT_24 => {
            let &[a, b, c] = rest.first_chunk()?;
            (Item::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)), 4)
        }
        INT_32 => (Item::Int(i64::from(i32::from_le_bytes(*rest.first_chunk()?))), 5),
        INT_64 => (Item::Int(i64::from_le_bytes(*rest.first_chunk()?)), 9),
        _ => return None,
    })
}

/// Bytes of the whole entry at `at` if it lies inside `blob` and its `backlen` agrees, and whether its value has the
/// encoding that this module uses.
pub(in crate::structures) fn validate(blob: &[u8], at: usize) -> Option<(usize, bool)> {
    let (item, size) = decode(blob, at)?;
    let width = backlen_size(size);
    let backlen = blob.get(at + size..at + size + width)?;
    let agrees = backlen.iter().enumerate().all(|(i, &byte)| {
        let bits = (size >> (7 * (width - 1 - i))) as u8 & 0x7F;
        byte == if i == 0 { bits } else { bits | 0x80 }
    });
    // The value is the same, so the encodings are equal if they have the same length and kind.
    let canonical = match item {
        Item::Int(v) => Encoded::int(v).size() == size,
        Item::Str(text) => num::parse_i64(text).is_none() && Encoded::text(text).size() == size,
    };
    agrees.then_some((size + width, canonical))
}

/// A value to search for, encoded once for any number of comparisons.
pub struct Needle<'a> {
    encoded: Encoded<'a>,
    word: u64,
    mask: u64,
}

impl<'a> Needle<'a> {
    /// Prepares `item`. A text that is a canonical decimal is searched for as an integer.
    pub fn new(item: impl Into<Item<'a>>) -> Self {
        let encoded = Encoded::new(item.into());
        let (word, mask) = encoded.word();
        Needle { encoded, word, mask }
    }

    /// Whether `item` has this needle's text.
    #[inline]
    pub fn matches(&self, item: Item<'_>) -> bool {
        item == value_of(&self.encoded)
    }

    /// Whether the entry at `at` has the value of this needle. Encodings are unique, so bytes are compared.
    #[inline(always)]
    pub(in crate::structures) fn matches_at(&self, blob: &[u8], at: usize) -> bool {
        match blob.get(at..at + 8) {
            Some(eight) => {
                let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
                (word ^ self.word) & self.mask == 0 && (self.mask != u64::MAX || self.matches_whole(blob, at))
            }
            None => self.matches_whole(blob, at),
        }
    }

    #[inline]
    fn matches_whole(&self, blob: &[u8], at: usize) -> bool {
        let head = usize::from(self.encoded.head_len);
        blob.get(at..at + self.encoded.size()).is_some_and(|bytes| {
            bytes[..head] == self.encoded.head[..head] && bytes[head..] == *self.encoded.body
        })
    }
}

/// The value that was encoded.
fn value_of<'a>(encoded: &Encoded<'a>) -> Item<'a> {
    match encoded.head[0] {
        0x80..=0xBF | 0xE0..=0xEF | TEXT_32 => Item::Str(encoded.body),
        _ => value_of_head(&encoded.head),
    }
}

fn value_of_head<'a>(head: &[u8; 9]) -> Item<'a> {
    match decode(head, 0) {
        Some((Item::Int(v), _)) => Item::Int(v),
        _ => unreachable!("a head without a body is an integer"),
    }
}
