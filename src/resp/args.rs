//! A request's arguments, as slices of the bytes that arrived.
//!
//! [`Args`] is three references and `Copy`: handlers pass it by value, and creating it allocates nothing. An argument
//! too large for the input buffer is received into a string of its own, which a handler that stores it can share
//! instead of copying.

use std::sync::Arc;

use super::Error;
use super::request::{self, Span};
use crate::stdx::hash::{self, Key};
use crate::stdx::num;
use crate::structures::sds::Sds;

/// The arguments of one request. Argument 0 is the name of the command.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    large: &'a [Arc<Sds>],
    /// Index of the argument that `hash` belongs to; 0 if no hash was computed in advance.
    hashed: u32,
    /// Whether they are all arguments of a request.
    whole: bool,
    hash: u64,
}

impl<'a> Args<'a> {
    /// The arguments at `spans`, in `bytes` or in `large`.
    #[inline]
    pub fn new(bytes: &'a [u8], spans: &'a [Span], large: &'a [Arc<Sds>]) -> Self {
        Args { bytes, spans, large, hashed: 0, whole: true, hash: 0 }
    }

    /// The same arguments, with the known hash of argument `index`.
    #[inline]
    pub fn with_hash(self, index: u32, hash: u64) -> Self {
        Args { hashed: index, hash, ..self }
    }

    /// The bytes of the request, the spans of its arguments, and its large strings.
    pub fn parts(&self) -> (&'a [u8], &'a [Span], &'a [Arc<Sds>]) {
        (self.bytes, self.spans, self.large)
    }

    /// Number of arguments, including the name of the command.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // A request always has its command's name.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Argument `i`, or `None` past the end.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.spans.get(i).map(|span| self.slice(span))
    }

    #[inline]
    fn slice(&self, span: &Span) -> &'a [u8] {
        match span.range() {
            Some(range) => &self.bytes[range],
            None => &self.large[span.large_index().unwrap_or_default()],
        }
    }

    /// Argument `i` as a key: its bytes with their hash.
    ///
    /// # Panics
    /// If there is no argument `i`. Arity is checked before a handler runs.
    #[inline(always)]
    pub fn key(&self, i: usize) -> Key<'a> {
        let bytes = self.at(i);
        let hash = if i as u32 == self.hashed && i != 0 { self.hash } else { hash::hash(bytes) };
        Key::with_hash(bytes, hash)
    }

    /// Argument `i` as a key, if its hash was computed in advance.
    #[inline]
    pub fn hashed_key(&self, i: usize) -> Option<Key<'a>> {
        (i as u32 == self.hashed && i != 0).then(|| Key::with_hash(self.at(i), self.hash))
    }

    /// The hash that was computed in advance, if any.
    #[inline]
    pub fn known_hash(&self) -> Option<u64> {
        (self.hashed != 0).then_some(self.hash)
    }

    /// Argument `i`.
    ///
    /// # Panics
    /// If there is no argument `i`. Arity is checked before a handler runs.
    #[inline]
    pub fn at(&self, i: usize) -> &'a [u8] {
        self.slice(&self.spans[i])
    }

    /// The string that argument `i` was received into, if it was too large for the input buffer.
    #[inline]
    pub fn shared(&self, i: usize) -> Option<&'a Arc<Sds>> {
        self.spans.get(i).and_then(|span| span.large_index()).map(|i| &self.large[i])
    }

    /// Whether argument `i` is `word`, in any case.
    #[inline]
    pub fn is(&self, i: usize, word: &str) -> bool {
        self.get(i).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Argument `i` as a signed 64-bit integer.
    ///
    /// # Errors
    /// [`Error::NotInteger`] if it is not a canonical integer, or out of range.
    #[inline]
    pub fn int(&self, i: usize) -> Result<i64, Error> {
        num::parse_i64(self.at(i)).ok_or(Error::NotInteger)
    }

    /// Argument `i` as a double. Infinities are allowed, NaN is not.
    ///
    /// # Errors
    /// [`Error::NotFloat`].
    #[inline]
    pub fn float(&self, i: usize) -> Result<f64, Error> {
        num::parse_f64(self.at(i)).ok_or(Error::NotFloat)
    }

    /// Argument `i` as the cursor of a scan, in the syntax of C's `strtoul`: an optional sign (a minus counts down
    /// from 2^64), then digits. An empty argument is 0.
    ///
    /// # Errors
    /// "invalid cursor", if it is anything else or needs more than 64 bits.
    pub fn cursor(&self, i: usize) -> Result<u64, Error> {
        // Bytes after a NUL byte are ignored.
        let text = self.at(i).split(|&b| b == 0).next().unwrap_or_default();
        let digits = match text {
            [b'+' | b'-', digits @ ..] if !digits.is_empty() => digits,
            text => text,
        };
        let value = digits.iter().try_fold(0u64, |value, &byte| match byte {
            b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        });
        let value = value.ok_or_else(|| Error::text("ERR invalid cursor"))?;
        Ok(if text.first() == Some(&b'-') { value.wrapping_neg() } else { value })
    }

    /// Argument `i` as the number of one of `databases` databases.
    ///
    /// # Errors
    /// It is not a 32-bit integer, or there is no such database.
    pub fn database(&self, i: usize, databases: usize) -> Result<usize, Error> {
        let number = i32::try_from(self.int(i)?).map_err(|_| {
            Error::text("ERR value is out of range, value must between -2147483648 and 2147483647")
        })?;
        let index = usize::try_from(number).ok().filter(|&index| index < databases);
        index.ok_or_else(|| Error::text("ERR DB index is out of range"))
    }

    /// The arguments from `i` on as a list of their own, in which `at(0)` is argument `i`.
    #[inline]
    pub fn rest(&self, i: usize) -> Args<'a> {
        Args {
            spans: &self.spans[i.min(self.spans.len())..],
            hashed: 0,
            whole: self.whole && i == 0,
            ..*self
        }
    }

    /// The arguments in `range` as a list of their own.
    #[inline]
    pub fn range(&self, range: std::ops::Range<usize>) -> Args<'a> {
        let whole = self.whole && range == (0..self.spans.len());
        Args { spans: &self.spans[range], hashed: 0, whole, ..*self }
    }

    /// Appends the request with these arguments, as it arrived if it is in one piece. O(bytes).
    pub fn write_request(&self, out: &mut Vec<u8>) {
        if self.whole && self.bytes.first() == Some(&b'*') && self.large.is_empty() {
            out.extend_from_slice(self.bytes);
        } else {
            request::write_request(out, self.iter());
        }
    }

    /// All arguments in order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone + use<'a> {
        let args = *self;
        self.spans.iter().map(move |span| args.slice(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_request_is_passed_on_as_a_request_of_its_own() {
        let bytes = b"*3\r\n$1\r\na\r\n$2\r\nbb\r\n$1\r\nc\r\n";
        let mut spans = Vec::new();
        let (mut buf, mut pos) = (bytes.to_vec(), 0);
        let next =
            request::Decoder::default().next(&mut buf, &mut pos, &mut spans, &request::Limits::default());
        assert!(next.expect("well formed").is_some());
        let args = Args::new(bytes, &spans, &[]);
        let written = |args: Args<'_>| {
            let mut out = Vec::new();
            args.write_request(&mut out);
            out
        };
        assert_eq!(written(args), bytes);
        assert_eq!(written(args.rest(0)), bytes);
        assert_eq!(written(args.rest(1)), b"*2\r\n$2\r\nbb\r\n$1\r\nc\r\n");
        assert_eq!(written(args.range(0..2)), b"*2\r\n$1\r\na\r\n$2\r\nbb\r\n");
        assert_eq!(written(args.rest(1).rest(0)), b"*2\r\n$2\r\nbb\r\n$1\r\nc\r\n");
    }
}
