//! Requests: from bytes as they arrive to the places of a command's arguments.
//!
//! A request is a RESP array of bulk strings, or a line for people who type:
//!
//! ```text
//!  *2\r\n$3\r\nGET\r\n$5\r\nhello\r\n          get "hello"\r\n
//!  └─┬─┘ └─┬─┘├─┘   └─┬─┘├───┘
//!  count  length     length
//!            span (8, 3)   span (17, 5)
//! ```
//!
//! The arguments stay where they were received: a [`Frame`] says which bytes are the request, a [`Span`] per
//! argument where it lies in them. Nothing is allocated for a request that is complete when it is looked at.
//!
//! What always holds:
//! - **The bytes of a frame are a well-formed array of bulk strings** in the one spelling there is (every length
//!   canonical, every line ended by `\r\n`), so that they can be appended to a log or sent to a replica as they
//!   are. The byte after `\r` and the two bytes after a bulk may be anything, by custom; where they are, they are
//!   put right in the buffer. An inline request is spelled as an array in bytes of the frame's own.
//! - The same bytes give the same requests and the same error, however they are split.
//! - A request of `n` bytes costs O(n) in however many pieces it arrives: what was read of an unfinished
//!   request is remembered, and the memory for that is bounded by the bytes received, never by a length that
//!   was only announced (for a large string, 1 MB is reserved on its word, then as much again as has arrived, and above
//!   8 MB 64 times that).
//!
//! # Large strings
//!
//! A bulk of [`LARGE`] bytes or more which is not all there yet is received apart from the buffer, into the
//! [`Sds`] that may become the stored value: no byte of it is copied twice, and the buffer does not grow. At
//! the moment its header is read, all bytes behind the header belong to it, so that moving them out is a
//! truncation of the buffer. From then on [`Decoder::large_spare`] is where to receive; when nothing is missing any
//! more, the buffer goes on right behind the header:
//!
//! ```text
//!  received: *3 $3 SET $3 key $50000 vvvvvvvvvvvvvvvvvvvv… \r\n *1 $4 PING
//!  buffer:   *3 $3 SET $3 key $50000 ◄── nothing here ───► \r\n *1 $4 PING     large[0]: vvvvvvvv…
//! ```
//!
//! The request's bytes thereby have a hole in each place a large string was cut from, right behind its header.
//! [`Frame::write_to`] puts everything back.
//!
//! The idea of receiving a large argument into its final place is Salvatore Sanfilippo's.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::stdx::num::parse_i64;
use crate::stdx::quote::split_args;
use crate::stdx::rng::Rng;
use crate::structures::sds::Sds;

/// A bulk string of at least this many bytes is received apart when it is not all there yet.
pub const LARGE: usize = 32 << 10;

/// A line (a count, a length, an inline request) has its end within this many bytes and one.
const MAX_LINE: usize = 64 << 10;

/// What an announced length is worth before its bytes arrive.
const FIRST_RESERVE: usize = 1 << 20;

/// Whoever has sent this much of a string gets room for [`EARNEST_FACTOR`] times as much, which is all of it as a rule: to
/// double the room of several hundred megabytes again and again is to copy them, and to hold them twice. Room that
/// is not written to takes no memory of the machine.
const EARNEST: usize = 8 << 20;
const EARNEST_FACTOR: usize = 64;

/// Bytes a request may occupy in the buffer: any offset in them fits a span, and is not the mark of a large string.
const MAX_HEAD: usize = if cfg!(test) { 8 << 20 } else { u32::MAX as usize - 1 };

/// Arguments and bytes per argument that a connection may send before it is authenticated.
const UNTRUSTED_ARGS: usize = 10;
const UNTRUSTED_BULK: usize = 16_384;

/// Why the bytes are no request. The connection cannot be read any further.
///
/// Displays as the text after `-ERR Protocol error: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The count of arguments is no number, or above [`Limits::max_args`], or the request's bytes exceed 4 GB.
    #[error("invalid multibulk length")]
    InvalidCount,
    /// More than 10 arguments before authentication.
    #[error("unauthenticated multibulk length")]
    UntrustedCount,
    /// The line with the count of arguments does not end within 64 KB.
    #[error("too big mbulk count string")]
    CountTooLong,
    /// The line with an argument's length does not end within 64 KB.
    #[error("too big bulk count string")]
    LengthTooLong,
    /// An argument that begins with another byte than `$`.
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// An argument's length is no number, or negative, or above [`Limits::max_bulk`].
    #[error("invalid bulk length")]
    InvalidLength,
    /// An argument of more than 16,384 bytes before authentication.
    #[error("unauthenticated bulk length")]
    UntrustedLength,
    /// An inline request that does not end within 64 KB.
    #[error("too big inline request")]
    InlineTooLong,
    /// An inline request with a quote that is not closed, or closed in the middle of a word.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// Appends the text, with the offending byte itself in it (a line end becomes a space), where `Display`
    /// would write a byte above 127 as the two bytes of a UTF-8 character.
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

/// Where one argument lies: from the start of its request's bytes, or which of the request's large strings it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte; [`Span::LARGE_MARK`] for a large string.
    start: u32,
    /// Number of bytes, or the index of the large string.
    len: u32,
}

impl Span {
    const LARGE_MARK: u32 = u32::MAX;

    /// The argument in `head[start..start + len]`. Offsets within a head fit: see `MAX_HEAD`.
    #[inline(always)]
    pub fn within(start: usize, len: usize) -> Span {
        debug_assert!(start + len <= MAX_HEAD);
        Span { start: start as u32, len: len as u32 }
    }

    /// The argument that is the large string `index`.
    fn large(index: usize) -> Span {
        Span { start: Span::LARGE_MARK, len: index as u32 }
    }

    /// The index of the large string, if the argument was received as one.
    #[inline]
    pub fn large_index(self) -> Option<usize> {
        (self.start == Span::LARGE_MARK).then_some(self.len as usize)
    }

    /// The argument's place in the request's bytes; `None` for a large string.
    #[inline]
    pub fn range(self) -> Option<Range<usize>> {
        (self.start != Span::LARGE_MARK).then(|| self.start as usize..self.start as usize + self.len as usize)
    }

    /// The argument's bytes: `head` are its request's bytes ([`Frame::head`]), `large` its large strings.
    ///
    /// Panics when they are another request's and the span does not fit.
    #[inline]
    pub fn get<'a>(self, head: &'a [u8], large: &'a [Arc<Sds>]) -> &'a [u8] {
        if self.start != Span::LARGE_MARK {
            &head[self.start as usize..][..self.len as usize]
        } else {
            large[self.len as usize].as_slice()
        }
    }
}

/// What a connection may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes in one argument (`proto-max-bulk-len`).
    pub max_bulk: usize,
    /// Most arguments in one request; at most `i32::MAX` count.
    pub max_args: usize,
    /// False before authentication: at most 10 arguments of at most 16,384 bytes then.
    pub trusted: bool,
}

impl Default for Limits {
    /// The defaults of the protocol: 512 MB, 2^31 - 1 arguments, trusted.
    fn default() -> Limits {
        Limits { max_bulk: 512 << 20, max_args: i32::MAX as usize, trusted: true }
    }
}

impl Limits {
    /// The error for a count of `n` arguments, if it is one.
    fn check_count(&self, n: i64) -> Result<(), ProtocolError> {
        if n > self.max_args.min(i32::MAX as usize) as i64 {
            Err(ProtocolError::InvalidCount)
        } else if n > UNTRUSTED_ARGS as i64 && !self.trusted {
            Err(ProtocolError::UntrustedCount)
        } else {
            Ok(())
        }
    }

    /// The length `text` announces, or the error it is.
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

    /// Largest count that is no error.
    #[inline(always)]
    fn args(&self) -> usize {
        if self.trusted { self.max_args.min(i32::MAX as usize) } else { self.max_args.min(UNTRUSTED_ARGS) }
    }

    /// Largest length that is no error.
    #[inline(always)]
    fn bulk(&self) -> usize {
        if self.trusted { self.max_bulk } else { self.max_bulk.min(UNTRUSTED_BULK) }
    }
}

/// One complete request: `buf[start..end]`, its arguments at `spans[first_span..][..args]`. At least one argument.
#[derive(Debug)]
pub struct Frame {
    /// Where the request begins in the buffer.
    pub start: usize,
    /// Where the next one begins.
    pub end: usize,
    /// Index of the first argument's span in the vector that was given to [`Decoder::next`].
    pub first_span: u32,
    /// Number of arguments, the command's name included.
    pub args: u32,
    /// What of the request does not lie in the buffer; rarely anything.
    pub apart: Option<Box<Apart>>,
}

/// What of a request does not lie in the buffer.
#[derive(Debug, Default)]
pub struct Apart {
    /// The arguments that were received as large strings, in their order. Whoever stores one shares it.
    pub large: Vec<Arc<Sds>>,
    /// An inline request spelled as an array, to which the spans refer instead of the buffer; else empty.
    pub rewritten: Vec<u8>,
}

impl Frame {
    /// The request's bytes, which its spans count from. Large strings are missing from them (see the module's page).
    #[inline]
    pub fn head<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        match &self.apart {
            Some(apart) if !apart.rewritten.is_empty() => &apart.rewritten,
            _ => &buf[self.start..self.end],
        }
    }

    /// The large strings.
    #[inline]
    pub fn large(&self) -> &[Arc<Sds>] {
        self.apart.as_ref().map_or(&[], |apart| &apart.large)
    }

    /// The spans of the arguments, out of the vector given to [`Decoder::next`].
    #[inline]
    pub fn spans<'a>(&self, spans: &'a [Span]) -> &'a [Span] {
        &spans[self.first_span as usize..][..self.args as usize]
    }

    /// The arguments' bytes, in order.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8], spans: &'a [Span]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let (head, large) = (self.head(buf), self.large());
        self.spans(spans).iter().map(move |span| span.get(head, large))
    }

    /// Appends the whole request, large strings in their places.
    ///
    /// One copy when there are none; else each argument is written again, which gives the same bytes, for a head
    /// has only one spelling.
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

/// Appends the request with these arguments as an array of bulk strings. O(bytes).
pub fn write_request<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    write_header(out, b'*', args.len());
    for arg in args {
        write_bulk(out, arg);
    }
}

/// Appends one argument of a request.
pub fn write_bulk(out: &mut Vec<u8>, arg: &[u8]) {
    write_header(out, b'$', arg.len());
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

/// The number in a complete header of the form `marker digits \r\n`, and the header's length, if the number has one
/// to seven digits and is spelled canonically. Anything else, good or bad, is left to [`line`].
///
/// The next header's place depends on this number, so that a chain of these is what a request costs. One or two
/// digits, the most frequent by far, are one load compared under a mask.
#[inline(always)]
fn plain_header(bytes: &[u8], marker: u8) -> Option<(usize, usize)> {
    let word = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
    let digit = |i: u32| ((word >> (8 * i)) & 0xFF).wrapping_sub(u32::from(b'0'));
    if word & 0xFFFF_00FF == 0x0A0D_0000 | u32::from(marker) {
        return (digit(1) <= 9).then_some((digit(1) as usize, 4));
    }
    if word & 0xFF00_00FF == 0x0D00_0000 | u32::from(marker) {
        let plain = digit(1).wrapping_sub(1) <= 8 && digit(2) <= 9 && bytes.get(4) == Some(&b'\n');
        return plain.then(|| ((digit(1) * 10 + digit(2)) as usize, 5));
    }
    long_header(bytes, marker)
}

/// [`plain_header`] for three to seven digits.
#[inline]
fn long_header(bytes: &[u8], marker: u8) -> Option<(usize, usize)> {
    if bytes[0] != marker || bytes[1] == b'0' {
        return None;
    }
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(9).skip(1) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + usize::from(digit);
        } else if i > 1 && byte == b'\r' && bytes.get(i + 1) == Some(&b'\n') {
            return Some((value, i + 2));
        } else {
            return None;
        }
    }
    None
}

/// Reads up to `wanted` complete, canonically spelled arguments from `head[*at..]`, and says how many there were.
///
/// Stops without a word at whatever needs a closer look.
#[inline(always)]
fn read_plain(head: &[u8], at: &mut usize, wanted: usize, spans: &mut Vec<Span>, max_bulk: usize) -> usize {
    let Some(mut rest) = head.get(*at..) else { return 0 };
    let mut missing = wanted;
    while missing > 0 {
        let Some((len, header)) = plain_header(rest, b'$') else { break };
        if len > max_bulk {
            break;
        }
        // At most seven digits: the sum does not overflow.
        let Some((b"\r\n", tail)) = rest.get(header + len..).and_then(|tail| tail.split_first_chunk()) else {
            break;
        };
        spans.push(Span::within(head.len() - rest.len() + header, len));
        rest = tail;
        missing -= 1;
    }
    *at = head.len() - rest.len();
    wanted - missing
}

/// What [`line`] found.
enum Line {
    /// The line ends before this index.
    End(usize),
    /// No end up to this index, from which to search on.
    Short(usize),
    /// No end where the last admissible one would be.
    TooLong,
}

/// Searches `bytes[searched..]` for `end`. A NUL byte hides all that follows it, so that a line with one runs on until
/// it is too long: what comes from something that does not speak the protocol is not read as commands.
fn line(bytes: &[u8], end: u8, searched: usize) -> Line {
    let window = &bytes[..bytes.len().min(MAX_LINE + 1)];
    let found = memchr::memchr2(end, 0, &window[searched.min(window.len())..]);
    match found.map(|i| i + searched) {
        Some(i) if window[i] == end => Line::End(i),
        _ if window.len() > MAX_LINE => Line::TooLong,
        Some(nul) => Line::Short(nul),
        None => Line::Short(window.len()),
    }
}

/// What is known of a request that is not complete.
///
/// Offsets count from the request's first byte, which may move in the buffer between calls.
#[derive(Default)]
struct Partial {
    /// Arguments announced; 0 until the count is read, and for an inline request.
    announced: usize,
    /// The first byte that is not understood yet: a header's, or the one behind a large string's header.
    at: usize,
    /// Up to here, no line end lies behind `at`.
    searched: usize,
    /// The arguments so far.
    spans: Vec<Span>,
    /// The large strings so far; the last one may still be incomplete.
    large: Vec<Sds>,
    /// The length of the large string being received. It has no span yet.
    receiving: Option<usize>,
    /// An inline request as an array, once it is complete.
    rewritten: Vec<u8>,
}

/// How far a request got.
enum Progress {
    /// More bytes are needed.
    Short,
    /// It has no arguments, and ends at this offset.
    Empty(usize),
    /// It is complete, and ends at this offset.
    Complete(usize),
}

impl Partial {
    /// Bytes of the large string that have not arrived; 0 if none is being received.
    fn missing(&self) -> usize {
        match (self.receiving, self.large.last()) {
            (Some(len), Some(string)) => len - string.len(),
            _ => 0,
        }
    }

    /// The large string being received, with room for at least one more byte if any is missing.
    fn large_with_room(&mut self) -> Option<&mut Sds> {
        let missing = self.missing();
        let string = self.large.last_mut()?;
        if missing > 0 && string.len() == string.capacity() {
            let earned = match string.len() {
                len if len < EARNEST => len.max(FIRST_RESERVE),
                len => len.saturating_mul(EARNEST_FACTOR),
            };
            string.reserve_exact(missing.min(earned));
        }
        Some(string)
    }

    /// Moves what `buf[from..]` has of the large string being received out of the buffer.
    fn take_large(&mut self, buf: &mut Vec<u8>, from: usize) {
        let have = self.missing().min(buf.len() - from);
        let mut bytes = &buf[from..from + have];
        while !bytes.is_empty()
            && let Some(string) = self.large_with_room()
        {
            let (now, later) = bytes.split_at(bytes.len().min(string.capacity() - string.len()));
            string.append(now);
            bytes = later;
        }
        buf.drain(from..from + have);
    }

    /// Reads on in the request that begins at `buf[start]`, which must exist.
    fn advance(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        limits: &Limits,
    ) -> Result<Progress, ProtocolError> {
        if self.announced == 0 {
            let head = head_at(buf, start);
            if head[0] != b'*' {
                return self.advance_inline(head);
            }
            let end = match line(head, b'\r', self.searched) {
                Line::End(end) if end + 1 < head.len() => end,
                Line::End(searched) | Line::Short(searched) => {
                    self.searched = searched;
                    return Ok(Progress::Short);
                }
                Line::TooLong => return Err(ProtocolError::CountTooLong),
            };
            let n = parse_i64(&head[1..end]).ok_or(ProtocolError::InvalidCount)?;
            limits.check_count(n)?;
            self.at = end + 2;
            buf[start + end + 1] = b'\n';
            if n <= 0 {
                return Ok(Progress::Empty(self.at));
            }
            self.announced = n as usize;
        }
        while self.spans.len() < self.announced {
            if let Some(len) = self.receiving {
                self.take_large(buf, start + self.at);
                let Some(end) = buf.get_mut(start + self.at..start + self.at + 2) else {
                    return Ok(Progress::Short);
                };
                debug_assert_eq!(self.large.last().map(|string| string.len()), Some(len));
                end.copy_from_slice(b"\r\n");
                self.at += 2;
                self.spans.push(Span::large(self.large.len() - 1));
                self.receiving = None;
                continue;
            }
            let head = head_at(buf, start);
            read_plain(head, &mut self.at, self.announced - self.spans.len(), &mut self.spans, limits.bulk());
            if self.spans.len() == self.announced {
                break;
            }
            let rest = &head[self.at..];
            let end = match line(rest, b'\r', self.searched.saturating_sub(self.at)) {
                Line::End(end) if end + 1 < rest.len() => end,
                Line::TooLong => return Err(ProtocolError::LengthTooLong),
                Line::End(searched) | Line::Short(searched) => {
                    self.searched = self.at + searched;
                    return short(head);
                }
            };
            if rest[0] != b'$' {
                return Err(ProtocolError::ExpectedBulk(rest[0]));
            }
            let len = limits.check_length(&rest[1..end])?;
            let payload = self.at + end + 2;
            // A length may be near `usize::MAX` if the limit is: subtract from what is there instead of adding.
            let have = head.len() - payload;
            if have >= len && have - len >= 2 {
                self.spans.push(Span::within(payload, len));
                self.at = payload + len + 2;
                buf[start + self.at - 2..start + self.at].copy_from_slice(b"\r\n");
            } else if len >= LARGE && have < len && head.len() < MAX_HEAD {
                self.at = payload;
                self.large.push(Sds::with_capacity(len.min(FIRST_RESERVE)));
                self.receiving = Some(len);
            } else {
                return short(head);
            }
            buf[start + payload - 1] = b'\n';
        }
        Ok(Progress::Complete(self.at))
    }

    /// Reads an inline request from its first byte on.
    fn advance_inline(&mut self, head: &[u8]) -> Result<Progress, ProtocolError> {
        let end = match line(head, b'\n', self.searched) {
            Line::End(end) => end,
            Line::TooLong => return Err(ProtocolError::InlineTooLong),
            Line::Short(searched) => {
                self.searched = searched;
                return Ok(Progress::Short);
            }
        };
        let text = &head[..end];
        let args = split_args(text.strip_suffix(b"\r").unwrap_or(text))
            .map_err(|_| ProtocolError::UnbalancedQuotes)?;
        if args.is_empty() {
            return Ok(Progress::Empty(end + 1));
        }
        write_header(&mut self.rewritten, b'*', args.len());
        for arg in &args {
            write_header(&mut self.rewritten, b'$', arg.len());
            self.spans.push(Span::within(self.rewritten.len(), arg.len()));
            self.rewritten.extend_from_slice(arg);
            self.rewritten.extend_from_slice(b"\r\n");
        }
        Ok(Progress::Complete(end + 1))
    }
}

/// The bytes from a request's start on, as far as spans reach.
fn head_at(buf: &[u8], start: usize) -> &[u8] {
    let bytes = &buf[start..];
    &bytes[..bytes.len().min(MAX_HEAD)]
}

/// More bytes are needed, unless they would lie where no span reaches.
fn short(head: &[u8]) -> Result<Progress, ProtocolError> {
    if head.len() < MAX_HEAD { Ok(Progress::Short) } else { Err(ProtocolError::InvalidCount) }
}

/// What is held of an unfinished request, for memory accounting and for lists of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Arguments its header announced; 0 if that is not read yet.
    pub args_announced: usize,
    /// Arguments that are complete.
    pub args_read: usize,
    /// Bytes in the buffer that are understood: headers and complete arguments.
    pub head_bytes: usize,
    /// Bytes received into large strings.
    pub large_bytes: usize,
    /// Bytes of these in the one that is still being received.
    pub receiving_bytes: usize,
    /// Bytes allocated for all of it, large strings included.
    pub allocated_bytes: usize,
}

/// Reads requests from a buffer, and remembers the unfinished one at its end. One word, no allocation while idle.
#[derive(Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() == 8);

impl Decoder {
    /// A decoder at the start of a request.
    pub const fn new() -> Decoder {
        Decoder { partial: None }
    }

    /// The next request of `buf[*pos..]`: its arguments' spans are appended to `spans`, and `pos` moves past it.
    ///
    /// `Ok(None)` when the bytes end before the request does. `pos` then is where the unfinished request
    /// begins (requests without arguments may have been skipped before it), and reading goes on when there are
    /// more bytes. Until then the caller keeps `buf[*pos..]`, but may move it to another place of the buffer. Bytes of
    /// a large string are taken out of `buf`, and loose line ends are put right (see the module's page), never any
    /// byte before `pos`.
    ///
    /// After an error nothing of the unfinished request is kept, and `pos` is where the request began.
    ///
    /// O(bytes read); panics if `*pos > buf.len()`.
    #[inline(always)]
    pub fn next(
        &mut self,
        buf: &mut Vec<u8>,
        pos: &mut usize,
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Option<Frame>, ProtocolError> {
        if self.partial.is_some() {
            return self.resume(buf, pos, spans, limits);
        }
        let start = *pos;
        let head = head_at(buf, start);
        let first_span = spans.len();
        let (mut announced, mut at) = (0, 0);
        if let Some((count, header)) = plain_header(head, b'*')
            && count.wrapping_sub(1) < limits.args()
        {
            (announced, at) = (count, header);
            if read_plain(head, &mut at, announced, spans, limits.bulk()) == announced {
                *pos = start + at;
                let (first_span, args) = (first_span as u32, announced as u32);
                return Ok(Some(Frame { start, end: *pos, first_span, args, apart: None }));
            }
        } else if head.is_empty() {
            return Ok(None);
        }
        self.begin((announced, at, first_span), buf, pos, spans, limits)
    }

    /// Goes on with the request that was unfinished at the last call.
    #[cold]
    fn resume(
        &mut self,
        buf: &mut Vec<u8>,
        pos: &mut usize,
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Option<Frame>, ProtocolError> {
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        match partial.advance(buf, *pos, limits)? {
            Progress::Short => {
                self.partial = Some(partial);
                Ok(None)
            }
            Progress::Empty(len) => {
                *pos += len;
                self.next(buf, pos, spans, limits)
            }
            Progress::Complete(len) => Ok(Some(frame(*partial, len, pos, spans))),
        }
    }

    /// Looks more closely at the request at `buf[*pos]`, and at those behind it as long as they have no arguments.
    ///
    /// Known of the first are the number of its arguments (0: nothing), how far it was read, and where the spans
    /// of the arguments up to there begin.
    #[cold]
    #[inline(never)]
    fn begin(
        &mut self,
        (announced, at, first_span): (usize, usize, usize),
        buf: &mut Vec<u8>,
        pos: &mut usize,
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<Option<Frame>, ProtocolError> {
        let read = spans[first_span..].to_vec();
        spans.truncate(first_span);
        let mut partial = Partial { announced, at, spans: read, ..Partial::default() };
        loop {
            match partial.advance(buf, *pos, limits)? {
                Progress::Short => {
                    self.partial = Some(Box::new(partial));
                    return Ok(None);
                }
                Progress::Empty(len) => *pos += len,
                Progress::Complete(len) => return Ok(Some(frame(partial, len, pos, spans))),
            }
            if *pos == buf.len() {
                return Ok(None);
            }
            partial = Partial::default();
        }
    }

    /// Bytes still missing of the large string being received, if any: [`Decoder::large_spare`] is where they go.
    ///
    /// They may as well be appended to the buffer given to [`Decoder::next`], at the price of a copy.
    #[inline]
    pub fn large_missing(&self) -> Option<usize> {
        self.partial.as_ref().map(|partial| partial.missing()).filter(|&missing| missing > 0)
    }

    /// Where to receive next bytes of a large string: not empty if any are missing, and never more than are missing.
    ///
    /// When it is as long as [`Decoder::large_missing`], whatever is received beyond it belongs into the buffer (one
    /// `readv` can do both). Otherwise receive here only, and ask again.
    pub fn large_spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let Some(partial) = &mut self.partial else { return &mut [] };
        let missing = partial.missing();
        let Some(string) = partial.large_with_room() else { return &mut [] };
        let spare = string.spare_capacity_mut();
        let room = spare.len().min(missing);
        &mut spare[..room]
    }

    /// Takes in `n` bytes received into [`Decoder::large_spare`]. When none is missing any more, [`Decoder::next`] goes on.
    ///
    /// # Safety
    /// The first `n` bytes of the slice `large_spare` last gave are initialised, `next` was not called since, and `n` is
    /// not more than its length.
    pub unsafe fn large_received(&mut self, n: usize) {
        let Some(partial) = &mut self.partial else { return };
        debug_assert!(n <= partial.missing());
        if let Some(string) = partial.large.last_mut() {
            // SAFETY: the spare slice begins where the content ends and lies within the capacity; the caller
            // promises that its first `n` bytes are initialised.
            unsafe { string.set_len(string.len() + n) };
        }
    }

    /// Gives back the room reserved for bytes of a large string that have not come. They find new room.
    pub fn shrink(&mut self) {
        if let Some(string) = self.partial.as_mut().and_then(|partial| partial.large.last_mut()) {
            string.shrink_to_fit();
        }
    }

    /// Is there no unfinished request?
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// What is held of the unfinished request; all zero when there is none. O(large strings in it).
    pub fn unfinished(&self) -> Unfinished {
        let Some(partial) = &self.partial else { return Unfinished::default() };
        Unfinished {
            args_announced: partial.announced,
            args_read: partial.spans.len(),
            head_bytes: partial.at,
            receiving_bytes: match (partial.receiving, partial.large.last()) {
                (Some(_), Some(string)) => string.len(),
                _ => 0,
            },
            large_bytes: partial.large.iter().map(|string| string.len()).sum(),
            allocated_bytes: size_of::<Partial>()
                + partial.spans.capacity() * size_of::<Span>()
                + partial.large.capacity() * size_of::<Sds>()
                + partial.large.iter().map(Sds::allocated_bytes).sum::<usize>(),
        }
    }
}

/// Hands out a complete request of `len` bytes at `pos`.
fn frame(mut partial: Partial, len: usize, pos: &mut usize, spans: &mut Vec<Span>) -> Frame {
    let (start, first_span) = (*pos, spans.len());
    *pos += len;
    let args = partial.spans.len() as u32;
    if spans.is_empty() && partial.spans.len() > spans.capacity() {
        *spans = partial.spans;
    } else {
        spans.append(&mut partial.spans);
    }
    let plain = partial.large.is_empty() && partial.rewritten.is_empty();
    let apart = (!plain).then(|| {
        let large = partial.large.into_iter().map(Arc::new).collect();
        Box::new(Apart { large, rewritten: partial.rewritten })
    });
    Frame { start, end: *pos, first_span: first_span as u32, args, apart }
}

/// Feeds `events` random streams of requests (valid, mutated, garbage) to decoders, whole and in pieces, large strings
/// through the buffer and past it, and compares requests and errors with a plain reading of the whole stream.
///
/// Panics, naming the seed, at the first difference, and when a decoder holds more than its input calls for.
pub fn fuzz(seed: u64, events: usize) {
    let mut rng = Rng::new(seed);
    for event in 0..events {
        let limits = fuzz::random_limits(&mut rng);
        let stream = fuzz::random_stream(&mut rng);
        let expected = fuzz::read_whole(&stream, &limits);
        for feed in 0..4 {
            let got = fuzz::feed(&stream, &limits, &mut rng, if feed == 0 { usize::MAX } else { 0 });
            assert!(
                got == expected,
                "seed {seed}, event {event}, feed {feed}: {got:?} instead of {expected:?} from {stream:?}"
            );
        }
    }
}

/// The parts of [`fuzz()`], which tests share.
mod fuzz {
    use super::*;

    /// What a stream amounts to: its requests, then an error or (`None`) the end of the bytes, and how many bytes
    /// were not part of a request that was read.
    pub(super) type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

    fn pick(rng: &mut Rng, range: Range<usize>) -> usize {
        range.start + rng.index(range.len())
    }

    pub(super) fn random_limits(rng: &mut Rng) -> Limits {
        match pick(rng, 0..4) {
            0 => Limits { trusted: false, ..Limits::default() },
            1 => Limits { max_bulk: pick(rng, 1..100_000), max_args: pick(rng, 1..20), trusted: true },
            _ => Limits::default(),
        }
    }

    fn random_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
        const SYNTAX: &[u8] = b"\r\n\r\n$*0123456789-+ \"'\\x\0";
        let plain = rng.chance(0.8);
        (0..len)
            .map(|_| if plain { b"abcdefghij"[pick(rng, 0..10)] } else { SYNTAX[pick(rng, 0..SYNTAX.len())] })
            .collect()
    }

    fn random_len(rng: &mut Rng) -> usize {
        match pick(rng, 0..60) {
            0 => pick(rng, LARGE - 2..LARGE + 2),
            1 => pick(rng, LARGE..3 * LARGE),
            2..5 => pick(rng, 100..20_000),
            5..15 => pick(rng, 10..1000),
            15..20 => [0, 9, 10, 99, 100, 999, 1000, 9999, 10_000][pick(rng, 0..9)],
            _ => pick(rng, 0..20),
        }
    }

    /// One to eight requests, some of them damaged.
    pub(super) fn random_stream(rng: &mut Rng) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..pick(rng, 1..9) {
            match pick(rng, 0..20) {
                0 => stream.extend_from_slice(
                    [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n", b"  \n", b"*-7\rx"][pick(rng, 0..5)],
                ),
                1..4 => {
                    for _ in 0..pick(rng, 0..5) {
                        let word = [&b"set"[..], b"\"a b\"", b"'x'", b"\"\\x41\\n\"", b"y\tz", b"\"\""];
                        stream.extend_from_slice(word[pick(rng, 0..word.len())]);
                        stream.push(b' ');
                    }
                    stream.extend_from_slice([&b"\r\n"[..], b"\n", b"\r\r\n"][pick(rng, 0..3)]);
                }
                4 => {
                    let len = pick(rng, 1..50);
                    stream.extend(random_bytes(rng, len));
                }
                5 if rng.chance(0.2) => {
                    stream.extend_from_slice([&b""[..], b"*", b"*1\r\n", b"*1\r\n$"][pick(rng, 0..4)]);
                    let len = pick(rng, MAX_LINE - 3..MAX_LINE + 8);
                    stream.resize(stream.len() + len, b'1');
                    stream.extend_from_slice(b"\r\n");
                }
                _ => {
                    let most = pick(rng, 2..14);
                    let n = pick(rng, 1..most);
                    let args: Vec<Vec<u8>> = (0..n)
                        .map(|_| {
                            let len = random_len(rng);
                            random_bytes(rng, len)
                        })
                        .collect();
                    write_request(&mut stream, args.iter().map(Vec::as_slice));
                }
            }
        }
        if rng.chance(0.4) {
            for _ in 0..pick(rng, 1..4) {
                let at = pick(rng, 0..stream.len() + 1);
                let bytes = random_bytes(rng, 2);
                match pick(rng, 0..3) {
                    0 => stream.truncate(at),
                    1 => drop(stream.splice(at..at, bytes)),
                    _ => drop(stream.splice(at..(at + 2).min(stream.len()), bytes)),
                }
            }
        }
        stream
    }

    /// Up to which byte a line goes whose end is `end`, read the plain way.
    fn line_end(bytes: &[u8], end: u8) -> Result<Option<usize>, ()> {
        for (i, &byte) in bytes.iter().enumerate().take(MAX_LINE + 1) {
            if byte == end {
                return Ok(Some(i));
            }
            if byte == 0 {
                break;
            }
        }
        if bytes.len() > MAX_LINE { Err(()) } else { Ok(None) }
    }

    /// The request at the start of `bytes` and its length, read with no regard to speed.
    #[expect(clippy::type_complexity, reason = "a model is best in one piece")]
    fn read_one(bytes: &[u8], limits: &Limits) -> Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError> {
        if bytes.first() != Some(&b'*') {
            let Some(end) = line_end(bytes, b'\n').map_err(|()| ProtocolError::InlineTooLong)? else {
                return Ok(None);
            };
            let text = if end > 0 && bytes[end - 1] == b'\r' { &bytes[..end - 1] } else { &bytes[..end] };
            let args = split_args(text).map_err(|_| ProtocolError::UnbalancedQuotes)?;
            return Ok(Some((args.iter().map(|arg| arg.to_vec()).collect(), end + 1)));
        }
        let number = |text: &[u8]| -> Option<i64> {
            let n: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            (n.to_string().as_bytes() == text).then_some(n)
        };
        let Some(end) = line_end(bytes, b'\r').map_err(|()| ProtocolError::CountTooLong)? else {
            return Ok(None);
        };
        let mut at = end + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        let count = number(&bytes[1..end]).ok_or(ProtocolError::InvalidCount)?;
        if count > i64::from(i32::MAX) || count > limits.max_args as i64 {
            return Err(ProtocolError::InvalidCount);
        }
        if count > 10 && !limits.trusted {
            return Err(ProtocolError::UntrustedCount);
        }
        let mut args = Vec::new();
        for _ in 0..count {
            let rest = &bytes[at..];
            let Some(end) = line_end(rest, b'\r').map_err(|()| ProtocolError::LengthTooLong)? else {
                return Ok(None);
            };
            if end + 2 > rest.len() {
                return Ok(None);
            }
            if rest[0] != b'$' {
                return Err(ProtocolError::ExpectedBulk(rest[0]));
            }
            let len = number(&rest[1..end]).ok_or(ProtocolError::InvalidLength)?;
            if len < 0 || len > limits.max_bulk as i64 {
                return Err(ProtocolError::InvalidLength);
            }
            if len > 16_384 && !limits.trusted {
                return Err(ProtocolError::UntrustedLength);
            }
            let (from, to) = (end + 2, end + 2 + len as usize);
            if to + 2 > rest.len() {
                return Ok(None);
            }
            args.push(rest[from..to].to_vec());
            at += to + 2;
        }
        Ok(Some((args, at)))
    }

    /// What `stream` amounts to, read the plain way.
    pub(super) fn read_whole(stream: &[u8], limits: &Limits) -> Outcome {
        let (mut at, mut requests) = (0, Vec::new());
        while at < stream.len() {
            match read_one(&stream[at..], limits) {
                Ok(Some((args, len))) => {
                    at += len;
                    if !args.is_empty() {
                        requests.push(args);
                    }
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        (requests, None)
    }

    /// What a decoder makes of `stream`, given `first` bytes of it and then pieces of random length.
    pub(super) fn feed(stream: &[u8], limits: &Limits, rng: &mut Rng, first: usize) -> Outcome {
        let (mut decoder, mut buf, mut pos, mut spans) = (Decoder::new(), Vec::new(), 0, Vec::new());
        let mut requests = Vec::new();
        let mut rest = stream;
        let mut piece = first.min(rest.len());
        let mut total = 0;
        let longest = [1, 10, 1000, 100_000][pick(rng, 0..4)];
        // Byte by byte is for the small streams only.
        let longest = longest.max(stream.len() / 1000);
        loop {
            if rng.one_in(2) {
                piece -= receive_large(&mut decoder, &mut rest, piece);
            }
            let (now, later) = rest.split_at(piece);
            buf.extend_from_slice(now);
            rest = later;
            loop {
                let before = spans.len();
                match decoder.next(&mut buf, &mut pos, &mut spans, limits) {
                    Ok(Some(frame)) => {
                        assert!(
                            decoder.is_idle()
                                && frame.end == pos
                                && frame.spans(&spans).len() == spans.len() - before
                        );
                        let args: Vec<_> = frame.args(&buf, &spans).map(<[u8]>::to_vec).collect();
                        let (mut as_received, mut spelled) = (Vec::new(), Vec::new());
                        frame.write_to(&buf, &spans, &mut as_received);
                        write_request(&mut spelled, args.iter().map(Vec::as_slice));
                        assert!(as_received == spelled, "{as_received:?} instead of {spelled:?}");
                        requests.push(args);
                    }
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
            check(&decoder, &buf[pos..], stream.len());
            total = total.max(buf.len());
            if rest.is_empty() {
                return (requests, None);
            }
            if rng.one_in(2) {
                buf.drain(..pos);
                pos = 0;
                spans.clear();
            }
            piece = pick(rng, 1..longest + 1).min(rest.len());
        }
    }

    /// Receives up to `most` bytes of `rest` past the buffer, if a large string misses some, and says how many.
    pub(super) fn receive_large(decoder: &mut Decoder, rest: &mut &[u8], most: usize) -> usize {
        let Some(missing) = decoder.large_missing() else { return 0 };
        let spare = decoder.large_spare();
        assert!(!spare.is_empty() && spare.len() <= missing);
        let n = spare.len().min(most);
        for (slot, &byte) in spare.iter_mut().zip(&rest[..n]) {
            slot.write(byte);
        }
        // SAFETY: the first `n` bytes of the spare were just written.
        unsafe { decoder.large_received(n) };
        *rest = &rest[n..];
        n
    }

    /// What holds of a decoder between calls that was given `received` bytes in all; `unread` are those in the buffer.
    pub(super) fn check(decoder: &Decoder, unread: &[u8], received: usize) {
        let held = decoder.unfinished();
        assert!(held.large_bytes <= received);
        // A span of 8 bytes per 6 bytes of the shortest argument, doubled by the vector's growth; a large
        // string of twice its bytes; both once more while they grow.
        assert!(held.allocated_bytes <= 4 * received + FIRST_RESERVE * 9 / 8 + 1024);
        let Some(partial) = &decoder.partial else {
            assert!(unread.is_empty(), "idle, but {unread:?} is not read");
            return;
        };
        assert!(partial.at <= unread.len() && partial.searched <= unread.len());
        assert!(partial.spans.len() <= partial.announced && partial.rewritten.is_empty());
        let received_large = partial.large.len() - usize::from(partial.receiving.is_some());
        assert_eq!(partial.spans.iter().filter(|span| span.large_index().is_some()).count(), received_large);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(stream: &[u8], limits: &Limits) -> fuzz::Outcome {
        let expected = fuzz::read_whole(stream, limits);
        let mut rng = Rng::new(1);
        let got = fuzz::feed(stream, limits, &mut rng, usize::MAX);
        assert_eq!(got, expected);
        got
    }

    /// What the text after `-ERR Protocol error: ` is for `stream`; empty if there is no error.
    fn error(stream: &[u8], limits: &Limits) -> String {
        outcome(stream, limits).1.map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn arguments_are_found() {
        let all = Limits::default();
        let requests = |stream: &[u8]| {
            let (requests, error) = outcome(stream, &all);
            assert_eq!(error, None);
            requests
        };
        assert_eq!(requests(b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"), [[&b"GET"[..], b"hello"]]);
        assert_eq!(requests(b"*1\r\n$0\r\n\r\n"), [[b""]]);
        assert_eq!(requests(b"*1\rX$3\rYfooZZ*1\r\n$1\r\na\r\n"), [[&b"foo"[..]], [b"a"]]);
        assert_eq!(requests(b"*0\r\n*-1\r\n*-9223372036854775808\r\n\r\n\n  \r\n"), [[b""; 0]; 0]);
        assert_eq!(requests(b"get  hello\r\nping\n"), [vec![&b"get"[..], b"hello"], vec![b"ping"]]);
        assert_eq!(requests(b"ECHO a\"b\"\r\n"), [[&b"ECHO"[..], b"ab"]]);
        assert_eq!(requests(b"ECHO \"\\x41\\n\" ''\r\n"), [[&b"ECHO"[..], b"A\n", b""]]);
        assert_eq!(requests(b"\0\r\nPING\r\n"), [[b""; 0]; 0]);
    }

    /// The texts that Redis 7.0.15 answered with.
    #[test]
    fn errors_are_those_of_redis() {
        let all = Limits::default();
        let long = |head: &[u8], len: usize| [head, &vec![b'1'; len - 1]].concat();
        for (stream, text) in [
            (&b"*2147483648\r\n"[..], "invalid multibulk length"),
            (b"*-9223372036854775809\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*a\r\n", "invalid multibulk length"),
            (b"*01\r\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*+1\r\n", "invalid multibulk length"),
            (b"*-0\r\n", "invalid multibulk length"),
            (b"*1\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*1\r$4\r\nPING\r\n", "expected '$', got '4'"),
            (b"*2147483647\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
            (b"*1\r\nfoo\n", ""),
            (b"*1\r\n\0\r\n", ""),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$536870912\r\n", ""),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", "invalid bulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n", "invalid bulk length"),
            (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
            (b"*1\r\n$03\r\nfoo\r\n", "invalid bulk length"),
            (b"*1\r\n$3\nfoo\r\n", "invalid bulk length"),
            (&long(b"*", 65_536), ""),
            (&long(b"*", 65_537), "too big mbulk count string"),
            (&long(b"*1\r\n$", 65_536), ""),
            (&long(b"*1\r\n$", 65_537), "too big bulk count string"),
            (&long(b"*1\r\na", 65_537), "too big bulk count string"),
            (&long(b"a", 65_536), ""),
            (&long(b"a", 65_537), "too big inline request"),
            (&long(b"\0\n\n\n", 65_537), "too big inline request"),
            (b"ECHO \"a\r\n", "unbalanced quotes in request"),
            (b"ECHO 'a\r\n", "unbalanced quotes in request"),
            (b"ECHO \"a\"b\r\n", "unbalanced quotes in request"),
        ] {
            assert_eq!(error(stream, &all), text, "{:?}", &stream[..stream.len().min(80)]);
        }
        let untrusted = Limits { trusted: false, ..all };
        for (stream, text) in [
            (&b"*10\r\n$x\r\n"[..], "invalid bulk length"),
            (b"*11\r\n", "unauthenticated multibulk length"),
            (b"*2147483648\r\n", "invalid multibulk length"),
            (b"*1\r\n$16384\r\n", ""),
            (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"a b c d e f g h i j k l m n o\r\n", ""),
        ] {
            assert_eq!(error(stream, &untrusted), text, "{stream:?}");
        }
        let mut text = Vec::new();
        ProtocolError::ExpectedBulk(0xFF).write_text(&mut text);
        ProtocolError::ExpectedBulk(b'\n').write_text(&mut text);
        ProtocolError::InvalidCount.write_text(&mut text);
        assert_eq!(text, b"expected '$', got '\xFF'expected '$', got ' 'invalid multibulk length");
    }

    /// Each sample stream, cut at every place, and (where it is short) at every pair of places.
    #[test]
    fn every_split_gives_the_same() {
        let mut large = Vec::new();
        let value = vec![b'v'; LARGE];
        write_request(&mut large, [&b"SET"[..], b"k", &value, &value, b"x"].into_iter());
        large.extend_from_slice(b"PING\r\n");
        let samples: [(&[u8], usize); 5] = [
            (b"*2\r\n$3\r\nGET\r\n$12\r\nhello, world\r\n*0\r\n\r\nset \"a b\" c\r\n*1\r\n$0\r\n\r\n*1\r\nx\r\n", 1),
            (b"*-1\r*11\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\nab\n$1\rXa\r\n", 1),
            (b"*1\r\n$4\r\nPING\r\n*1\r\n$-4\r\nPING\r\n", 1),
            (b"ECHO 'x\\'y' z\r\nECHO \"\r\n", 1),
            (&large, 331),
        ];
        let limits = Limits::default();
        for (stream, step) in samples {
            let expected = fuzz::read_whole(stream, &limits);
            for first in (0..=stream.len()).filter(|at| step == 1 || at % step == 0 || stream.len() - at < 40)
            {
                for second in (first..=stream.len()).step_by(step * step) {
                    for direct in [false, true] {
                        let (mut decoder, mut buf, mut pos) = (Decoder::new(), Vec::new(), 0);
                        let (mut spans, mut requests, mut error) = (Vec::new(), Vec::new(), None);
                        for mut piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                            while direct && !piece.is_empty() && decoder.large_missing().is_some() {
                                let len = piece.len();
                                fuzz::receive_large(&mut decoder, &mut piece, len);
                            }
                            buf.extend_from_slice(piece);
                            while error.is_none() {
                                match decoder.next(&mut buf, &mut pos, &mut spans, &limits) {
                                    Ok(Some(frame)) => {
                                        requests.push(frame.args(&buf, &spans).map(<[u8]>::to_vec).collect());
                                    }
                                    Ok(None) => break,
                                    Err(e) => error = Some(e),
                                }
                            }
                        }
                        assert!((requests, error) == expected, "cut at {first} and {second} of {stream:?}");
                    }
                }
            }
        }
    }

    /// The request of a million arguments, in pieces: every byte is looked at a bounded number of times, so that this
    /// ends; and a header that promises much costs nothing.
    #[test]
    fn long_requests_in_pieces() {
        let mut stream = Vec::new();
        write_request(&mut stream, std::iter::repeat_n(&b"x"[..], 1_000_000));
        let (mut decoder, mut buf, mut pos, mut spans) = (Decoder::new(), Vec::new(), 0, Vec::new());
        let limits = Limits::default();
        let mut frames = Vec::new();
        for piece in stream.chunks(1000) {
            buf.extend_from_slice(piece);
            frames
                .extend(decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("the request is valid"));
            fuzz::check(&decoder, &buf[pos..], buf.len());
        }
        assert_eq!((frames.len(), spans.len(), pos), (1, 1_000_000, stream.len()));
        assert!(frames[0].args(&buf, &spans).all(|arg| arg == b"x"));

        for header in [&b"*2147483647\r\n"[..], b"*1\r\n$536870912\r\nabc"] {
            let (mut buf, mut pos) = (header.to_vec(), 0);
            assert!(decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("a valid header").is_none());
            assert!(decoder.unfinished().allocated_bytes < FIRST_RESERVE * 9 / 8);
            decoder = Decoder::new();
        }
    }

    #[test]
    fn large_strings_are_cut_out() {
        let (mut decoder, mut pos, mut spans) = (Decoder::new(), 0, Vec::new());
        let value: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut stream = b"PING\r\n".to_vec();
        write_request(&mut stream, [&b"SET"[..], b"key", &value, b"KEEPTTL"].into_iter());
        let mut buf = stream[..1000].to_vec();
        let mut rest = &stream[1000..];
        let limits = Limits::default();
        assert!(decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("a valid request").is_some());
        assert!(decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("a valid request").is_none());
        assert!(buf.ends_with(b"$3000000\r\n"));
        assert_eq!((decoder.unfinished().args_announced, decoder.unfinished().args_read), (4, 2));
        while let Some(missing) = decoder.large_missing() {
            assert!(fuzz::receive_large(&mut decoder, &mut rest, missing) > 0);
            // Twice what has arrived, in pages.
            assert!(
                decoder.unfinished().allocated_bytes
                    < 2 * decoder.unfinished().large_bytes + FIRST_RESERVE + 8192
            );
        }
        assert!(decoder.unfinished().allocated_bytes < value.len() + 8192);
        buf.extend_from_slice(rest);
        let frame = decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("valid").expect("complete");
        assert_eq!(frame.head(&buf), b"*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3000000\r\n\r\n$7\r\nKEEPTTL\r\n");
        assert!(frame.large()[0].as_slice() == value);
        let mut out = Vec::new();
        frame.write_to(&buf, &spans, &mut out);
        assert!(out == stream[6..]);
    }

    /// A request whose bytes no span could reach, with the limit lowered for tests.
    #[test]
    fn a_head_has_a_largest_size() {
        let mut stream = b"*2000\r\n".to_vec();
        let arg = vec![b'a'; LARGE - 1];
        while stream.len() < MAX_HEAD + 10 {
            stream.extend_from_slice(b"$32767\r\n");
            stream.extend_from_slice(&arg);
            stream.extend_from_slice(b"\r\n");
        }
        for piece in [100_000, stream.len()] {
            let (mut decoder, mut buf, mut pos, mut spans) = (Decoder::new(), Vec::new(), 0, Vec::new());
            let mut error = None;
            for piece in stream.chunks(piece) {
                buf.extend_from_slice(piece);
                error = error.or(decoder.next(&mut buf, &mut pos, &mut spans, &Limits::default()).err());
            }
            assert_eq!(error, Some(ProtocolError::InvalidCount));
        }
    }

    #[test]
    fn fuzz_smoke() {
        super::fuzz(1, 600);
    }
}
