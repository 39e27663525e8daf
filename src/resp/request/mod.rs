//! Requests: finds the arguments of commands in bytes as they arrive.
//!
//! A request is a RESP array of bulk strings, or a line of text typed by a person:
//!
//! ```text
//!  *2\r\n$3\r\nGET\r\n$5\r\nhello\r\n          get "hello"\r\n
//!  └─┬─┘ └─┬─┘├─┘   └─┬─┘├───┘
//!  count  length     length
//!            span (8, 3)   span (17, 5)
//! ```
//!
//! The arguments stay where they were received. A [`Frame`] says which bytes are the request, and a [`Span`] per
//! argument says where the argument is within them. A request that is complete when it is parsed needs no allocation.
//!
//! What always holds:
//! - **The bytes of a frame are a well-formed array of bulk strings** in its only canonical spelling (every length
//!   canonical, every line ended by `\r\n`), so that they can be appended to a log or sent to a replica as they are.
//!   By custom, the byte after `\r` and the two bytes after a bulk string may be anything; the decoder corrects them
//!   in the buffer. An inline request is rewritten as an array in memory of its frame.
//! - The same bytes result in the same requests and the same error, however they are split.
//! - Parsing a request of `n` bytes costs O(n) in however many pieces it arrives, because the decoder remembers how
//!   far it got. The memory for that is bounded by the bytes received, never by an announced length: for a large
//!   string, 1 MB is reserved at once, then as much as has arrived, and above 8 MB four times as much.
//!
//! # Large strings
//!
//! A bulk string of [`LARGE`] bytes or more that has not arrived completely is received outside the buffer, into the
//! [`Sds`] that may become the stored value: no byte of it is copied twice, and the buffer does not grow. When its
//! header is parsed, all bytes behind the header belong to it, so that moving them out is a truncation of the buffer.
//! From then on, bytes are received into [`Decoder::large_spare`]. When the string is complete, the buffer continues
//! directly behind the header:
//!
//! ```text
//!  received: *3 $3 SET $3 key $50000 vvvvvvvvvvvvvvvvvvvv… \r\n *1 $4 PING
//!  buffer:   *3 $3 SET $3 key $50000 ◄── nothing here ───► \r\n *1 $4 PING     large[0]: vvvvvvvv…
//! ```
//!
//! The bytes of the request therefore lack each large string behind its header. [`Frame::write_to`] puts the strings
//! back.
//!
//! The idea of receiving a large argument into its final place is Salvatore Sanfilippo's.

mod decoder;
mod fuzz;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

pub use decoder::{Decoder, LARGE, Unfinished};
pub use fuzz::fuzz;

use crate::stdx::num::parse_i64;
use crate::structures::sds::Sds;

/// Most bytes of a request in the buffer: every offset within them fits a span and differs from the mark of a large
/// string.
const MAX_HEAD: usize = if cfg!(test) { 8 << 20 } else { u32::MAX as usize - 1 };

/// Limits on arguments, and on bytes per argument, for a connection that is not authenticated.
const UNTRUSTED_ARGS: usize = 10;
const UNTRUSTED_BULK: usize = 16_384;

/// Why bytes are not a request. Nothing more can be read from the connection.
///
/// Displays as the text after `-ERR Protocol error: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The count of arguments is not a number or exceeds [`Limits::max_args`], or the request exceeds 4 GB.
    #[error("invalid multibulk length")]
    InvalidCount,
    /// There are more than 10 arguments before authentication.
    #[error("unauthenticated multibulk length")]
    UntrustedCount,
    /// The line with the count of arguments does not end within 64 KB.
    #[error("too big mbulk count string")]
    CountTooLong,
    /// The line with an argument's length does not end within 64 KB.
    #[error("too big bulk count string")]
    LengthTooLong,
    /// An argument begins with this byte instead of `$`.
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The length of an argument is not a number, negative, or above [`Limits::max_bulk`].
    #[error("invalid bulk length")]
    InvalidLength,
    /// An argument has more than 16,384 bytes before authentication.
    #[error("unauthenticated bulk length")]
    UntrustedLength,
    /// An inline request does not end within 64 KB.
    #[error("too big inline request")]
    InlineTooLong,
    /// An inline request has a quote that is not closed, or that is closed in the middle of a word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// Appends the text with the offending byte as it is (a line end becomes a space). `Display` writes a byte above
    /// 127 as the two bytes of a UTF-8 character.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        match *self {
            ProtocolError::ExpectedBulk(got) => {
                out.extend_from_slice(b"expected '$', got '");
                out.push(if matches!(got, b'\r' | b'\n') { b' ' } else { got });
                out.push(b'\'');
            }
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
    }
}

/// Position of an argument: a range in the bytes of its request, or the index of a large string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte; [`Span::LARGE_MARK`] for a large string.
    start: u32,
    /// Number of bytes, or the index of the large string.
    len: u32,
}

impl Span {
    const LARGE_MARK: u32 = u32::MAX;

    /// The argument in `head[start..start + len]`. Offsets within a head fit a span: see `MAX_HEAD`.
    #[inline(always)]
    pub fn within(start: usize, len: usize) -> Span {
        debug_assert!(start + len <= MAX_HEAD);
        Span { start: start as u32, len: len as u32 }
    }

    /// The argument that is the large string `index`.
    fn large(index: usize) -> Span {
        Span { start: Span::LARGE_MARK, len: index as u32 }
    }

    /// Index of the large string, if the argument was received as one.
    #[inline]
    pub fn large_index(self) -> Option<usize> {
        (self.start == Span::LARGE_MARK).then_some(self.len as usize)
    }

    /// Range of the argument in the bytes of its request; `None` for a large string.
    #[inline]
    pub fn range(self) -> Option<Range<usize>> {
        (self.start != Span::LARGE_MARK).then(|| self.start as usize..self.start as usize + self.len as usize)
    }

    /// The bytes of the argument. `head` are the bytes of its request ([`Frame::head`]), `large` the large strings.
    ///
    /// Panics if they belong to another request in which the span does not fit.
    #[inline]
    pub fn get<'a>(self, head: &'a [u8], large: &'a [Arc<Sds>]) -> &'a [u8] {
        if self.start != Span::LARGE_MARK {
            &head[self.start as usize..][..self.len as usize]
        } else {
            large[self.len as usize].as_slice()
        }
    }
}

/// Limits on requests of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of one argument (`proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Most arguments of one request; values above `i32::MAX` count as `i32::MAX`.
    pub max_args: usize,
    /// Whether the connection is authenticated. Otherwise it may send at most 10 arguments of at most 16,384 bytes.
    pub trusted: bool,
}

impl Default for Limits {
    /// The defaults of the protocol: 512 MB, 2^31 - 1 arguments, trusted.
    fn default() -> Limits {
        Limits { max_bulk: 512 << 20, max_args: i32::MAX as usize, trusted: true }
    }
}

impl Limits {
    /// Checks a count of `n` arguments.
    fn check_count(&self, n: i64) -> Result<(), ProtocolError> {
        if n > self.max_args.min(i32::MAX as usize) as i64 {
            Err(ProtocolError::InvalidCount)
        } else if n > UNTRUSTED_ARGS as i64 && !self.trusted {
            Err(ProtocolError::UntrustedCount)
        } else {
            Ok(())
        }
    }

    /// Parses and checks the length in `text`.
    fn check_length(&self, text: &[u8]) -> Result<usize, ProtocolError> {
        match parse_i64(text).and_then(|n| usize::try_from(n).ok()) {
            Some(n) if n <= self.max_bulk => {
                if n > UNTRUSTED_BULK && !self.trusted {
                    return Err(ProtocolError::UntrustedLength);
                }
                Ok(n)
            }
            _ => Err(ProtocolError::InvalidLength),
        }
    }

    /// Largest allowed count.
    #[inline(always)]
    fn args(&self) -> usize {
        if self.trusted { self.max_args.min(i32::MAX as usize) } else { self.max_args.min(UNTRUSTED_ARGS) }
    }

    /// Largest allowed length.
    #[inline(always)]
    fn bulk(&self) -> usize {
        if self.trusted { self.max_bulk } else { self.max_bulk.min(UNTRUSTED_BULK) }
    }
}

/// A complete request: `buf[start..end]`, with its arguments at `spans[first_span..][..args]`. There is at least one
/// argument.
#[derive(Debug)]
pub struct Frame {
    /// Offset of the request in the buffer.
    pub start: usize,
    /// Offset of the end of the request.
    pub end: usize,
    /// Index of the first argument's span in the vector passed to [`Decoder::next`].
    pub first_span: u32,
    /// Number of arguments, including the name of the command.
    pub args: u32,
    /// Parts of the request outside the buffer; rarely any.
    pub apart: Option<Box<Apart>>,
}

/// Parts of a request that are not in the buffer.
#[derive(Debug, Default)]
pub struct Apart {
    /// The arguments that were received as large strings, in order. A handler that stores one shares it.
    pub large: Vec<Arc<Sds>>,
    /// An inline request rewritten as an array. If it is not empty, spans refer to it instead of the buffer.
    pub rewritten: Vec<u8>,
}

impl Frame {
    /// The bytes of the request, which its spans refer to. They lack large strings (see the module documentation).
    #[inline]
    pub fn head<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        match &self.apart {
            Some(apart) if !apart.rewritten.is_empty() => &apart.rewritten,
            _ => &buf[self.start..self.end],
        }
    }

    /// The large strings, in order.
    #[inline]
    pub fn large(&self) -> &[Arc<Sds>] {
        self.apart.as_ref().map_or(&[], |apart| &apart.large)
    }

    /// Spans of the arguments, from the vector passed to [`Decoder::next`].
    #[inline]
    pub fn spans<'a>(&self, spans: &'a [Span]) -> &'a [Span] {
        &spans[self.first_span as usize..][..self.args as usize]
    }

    /// Bytes of the arguments, in order.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8], spans: &'a [Span]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let (head, large) = (self.head(buf), self.large());
        self.spans(spans).iter().map(move |span| span.get(head, large))
    }

    /// Appends the whole request with its large strings. O(bytes).
    ///
    /// One copy if there are no large strings. Otherwise each argument is written again, which results in the same
    /// bytes, because the spelling of a head is canonical.
    pub fn write_to(&self, buf: &[u8], spans: &[Span], out: &mut Vec<u8>) {
        if self.large().is_empty() {
            out.extend_from_slice(self.head(buf));
        } else {
            write_request(out, self.args(buf, spans));
        }
    }
}

/// Appends `marker`, a number, and a line end.
pub fn write_header(out: &mut Vec<u8>, marker: u8, n: usize) {
    out.push(marker);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a request with these arguments as an array of bulk strings. O(bytes).
pub fn write_request<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    write_header(out, b'*', args.len());
    for arg in args {
        write_bulk(out, arg);
    }
}

/// Appends one argument of a request, as a bulk string.
pub fn write_bulk(out: &mut Vec<u8>, arg: &[u8]) {
    write_header(out, b'$', arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}
