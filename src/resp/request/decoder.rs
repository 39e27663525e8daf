//! The decoder: parses requests, remembers an unfinished one, and receives large strings.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::{Apart, Frame, Limits, MAX_HEAD, ProtocolError, Span, write_header};
use crate::stdx::num::parse_i64;
use crate::stdx::quote::split_args;
use crate::structures::sds::Sds;

/// A bulk string of at least this many bytes is received outside the buffer, unless it has arrived completely.
pub const LARGE: usize = 32 << 10;

/// Limit for a line (a count, a length, an inline request): its end is at most at this offset.
pub(super) const MAX_LINE: usize = 64 << 10;

/// Bytes reserved for a large string before any of it has arrived.
pub(super) const FIRST_RESERVE: usize = 1 << 20;

/// A string of which this many bytes have arrived gets space for [`LARGE_RESERVE_FACTOR`] times as many: the space counts
/// as used memory, so that keys would be evicted for what may never arrive, but extending it often would copy hundreds of
/// megabytes each time. Reserved space that is not written to takes no physical memory.
const LARGE_RESERVE_FROM: usize = 4 << 20;
const LARGE_RESERVE_FACTOR: usize = 4;

/// Parses a complete header of the form `marker digits \r\n` with one to seven digits in canonical spelling. Returns
/// the number and the length of the header. Anything else, valid or not, is left to [`line`].
///
/// The position of the next header depends on this number, so that a chain of such headers determines the cost of a
/// request. One or two digits, by far the most frequent, take one load compared under a mask.
#[inline(always)]
pub(super) fn plain_header(bytes: &[u8], marker: u8) -> Option<(usize, usize)> {
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

/// Like [`plain_header`], for three to seven digits.
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

/// Reads up to `wanted` complete, canonically spelled arguments from `head[*at..]` and returns their number.
///
/// Stops at the first argument that is not plain, without reporting why.
#[inline(always)]
fn read_plain(head: &[u8], at: &mut usize, wanted: usize, spans: &mut Vec<Span>, max_bulk: usize) -> usize {
    let Some(mut rest) = head.get(*at..) else { return 0 };
    let mut missing = wanted;
    while missing > 0 {
        let Some((len, header)) = plain_header(rest, b'$') else { break };
        if len > max_bulk {
            break;
        }
        // At most seven digits, so the sum does not overflow.
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

/// Result of [`line`].
enum Line {
    /// The line ends before this index.
    End(usize),
    /// There is no line end before this index, where the search can continue.
    Short(usize),
    /// There is no line end up to the last allowed index.
    TooLong,
}

/// Searches `bytes[searched..]` for the line end `end`. A NUL byte hides everything after it, so that a line with a
/// NUL byte continues until it is too long: data of another protocol are thus not read as commands.
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

/// State of an incomplete request.
///
/// Offsets count from the first byte of the request, whose position in the buffer may change between calls.
#[derive(Default)]
pub(super) struct Partial {
    /// Number of announced arguments; 0 for an inline request, and until the count is read.
    pub(super) announced: usize,
    /// Offset of the first byte not parsed yet: of a header, or behind the header of a large string.
    pub(super) at: usize,
    /// There is no line end between `at` and this offset.
    pub(super) searched: usize,
    /// Spans of the arguments so far.
    pub(super) spans: Vec<Span>,
    /// The large strings so far. The last one may be incomplete.
    pub(super) large: Vec<Sds>,
    /// Length of the large string being received, which has no span yet.
    pub(super) receiving: Option<usize>,
    /// An inline request rewritten as an array, once it is complete.
    pub(super) rewritten: Vec<u8>,
}

/// Result of parsing more of a request.
enum Progress {
    /// More bytes are needed.
    Short,
    /// The request has no arguments and ends at this offset.
    Empty(usize),
    /// The request is complete and ends at this offset.
    Complete(usize),
}

impl Partial {
    /// Number of bytes of the large string that have not arrived; 0 if none is being received.
    fn missing(&self) -> usize {
        match (self.receiving, self.large.last()) {
            (Some(len), Some(string)) => len - string.len(),
            _ => 0,
        }
    }

    /// The large string being received, with space for at least one more byte if any is missing.
    fn large_with_room(&mut self) -> Option<&mut Sds> {
        let missing = self.missing();
        let string = self.large.last_mut()?;
        if missing > 0 && string.len() == string.capacity() {
            let earned = match string.len() {
                len if len < LARGE_RESERVE_FROM => len.max(FIRST_RESERVE),
                len => len.saturating_mul(LARGE_RESERVE_FACTOR),
            };
            string.reserve_exact(missing.min(earned));
        }
        Some(string)
    }

    /// Moves the part of the large string in `buf[from..]` out of the buffer.
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

    /// Continues parsing the request that begins at `buf[start]`. That byte must exist.
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
            // A length may be near `usize::MAX` if the limit is, so this subtracts from the available length instead
            // of adding.
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

    /// Parses an inline request from its first byte on.
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

/// The bytes from the start of a request on, as far as spans reach.
fn head_at(buf: &[u8], start: usize) -> &[u8] {
    let bytes = &buf[start..];
    &bytes[..bytes.len().min(MAX_HEAD)]
}

/// More bytes are needed, unless they would be out of reach of spans.
fn short(head: &[u8]) -> Result<Progress, ProtocolError> {
    if head.len() < MAX_HEAD { Ok(Progress::Short) } else { Err(ProtocolError::InvalidCount) }
}

/// Sizes of an unfinished request, for memory accounting and lists of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Number of arguments announced by the header; 0 if it has not been read.
    pub args_announced: usize,
    /// Number of complete arguments.
    pub args_read: usize,
    /// Bytes parsed in the buffer: headers and complete arguments.
    pub head_bytes: usize,
    /// Bytes received into large strings.
    pub large_bytes: usize,
    /// Bytes received of the large string that is still incomplete.
    pub receiving_bytes: usize,
    /// Bytes allocated for the request, including large strings.
    pub allocated_bytes: usize,
}

/// Parses requests in a buffer and remembers the unfinished one at its end. One word in size; no allocation while
/// idle.
#[derive(Default)]
pub struct Decoder {
    pub(super) partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() == 8);

impl Decoder {
    /// A decoder at the start of a request.
    pub const fn new() -> Decoder {
        Decoder { partial: None }
    }

    /// Parses the next request of `buf[*pos..]`, appends the spans of its arguments to `spans`, and moves `pos` past
    /// it.
    ///
    /// Returns `Ok(None)` if the bytes end before the request does. Then `pos` is the start of the unfinished request
    /// (requests without arguments before it may have been skipped), and the next call with more bytes continues it.
    /// Until then the caller must keep `buf[*pos..]`, but may move it within the buffer. Bytes of a large string are
    /// removed from `buf`, and line ends are corrected (see the module documentation), but no byte before `pos`
    /// changes.
    ///
    /// After an error the state of the unfinished request is dropped, and `pos` is where the request began.
    ///
    /// O(bytes read). Panics if `*pos > buf.len()`.
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

    /// Continues the request that was unfinished at the last call.
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

    /// Parses the request at `buf[*pos]` in every detail, and those behind it as long as they have no arguments.
    ///
    /// The tuple says what is known of the first request: the number of its arguments (0 if nothing is known), the
    /// offset parsed so far, and the index of its first span.
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

    /// Number of bytes missing of the large string being received, if any. They are received into
    /// [`Decoder::large_spare`].
    ///
    /// They may also be appended to the buffer passed to [`Decoder::next`], at the price of a copy.
    #[inline]
    pub fn large_missing(&self) -> Option<usize> {
        self.partial.as_ref().map(|partial| partial.missing()).filter(|&missing| missing > 0)
    }

    /// Space for the next bytes of a large string: not empty if any are missing, and never larger than the missing
    /// part.
    ///
    /// If it is as large as [`Decoder::large_missing`], bytes received beyond it belong in the buffer (one `readv`
    /// can fill both). Otherwise receive only into this space, and call again.
    pub fn large_spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let Some(partial) = &mut self.partial else { return &mut [] };
        let missing = partial.missing();
        let Some(string) = partial.large_with_room() else { return &mut [] };
        let spare = string.spare_capacity_mut();
        let room = spare.len().min(missing);
        &mut spare[..room]
    }

    /// Accounts for `n` bytes received into [`Decoder::large_spare`]. Once no byte is missing, [`Decoder::next`]
    /// continues.
    ///
    /// # Safety
    /// The first `n` bytes of the slice last returned by `large_spare` are initialised, `next` was not called since,
    /// and `n` is at most the length of the slice.
    pub unsafe fn large_received(&mut self, n: usize) {
        let Some(partial) = &mut self.partial else { return };
        debug_assert!(n <= partial.missing());
        if let Some(string) = partial.large.last_mut() {
            // SAFETY: the spare slice begins where the content ends and lies within the capacity; the caller
            // promises that its first `n` bytes are initialised.
            unsafe { string.set_len(string.len() + n) };
        }
    }

    /// Frees the space reserved for bytes of a large string that have not arrived. New space is reserved when they
    /// arrive.
    pub fn shrink(&mut self) {
        if let Some(string) = self.partial.as_mut().and_then(|partial| partial.large.last_mut()) {
            string.shrink_to_fit();
        }
    }

    /// Whether there is no unfinished request.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Sizes of the unfinished request; all zero if there is none. O(large strings in it).
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

/// Makes a frame of a complete request of `len` bytes at `pos`.
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
