//! Replies, written directly into a client's output.
//!
//! Each method appends one element with its exact length in front; no tree of reply values is built. Types that RESP3
//! has and RESP2 lacks (maps, sets, doubles, nulls, booleans …) are written in the form of the protocol that the
//! client chose with `HELLO`.
//!
//! A reply has no size limit, but the output that waits for a client has: the [`Chain`] behind the buffer drops what
//! exceeds the client's limit. Commands that only read use [`Reply::each`], [`Reply::repeat`] and [`Reply::in_steps`]
//! to write many elements, which stop then, and end other walks by [`Reply::proceed`]. Commands that change data while
//! they write must not: their effects do not depend on who reads the reply.

use std::ops::ControlFlow;

use super::chain::Chain;
use super::error::Error;
use crate::stdx::num;
use crate::structures::listpack::Item;

/// The protocol version of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// The initial protocol, with five kinds of replies.
    Resp2 = 2,
    /// The protocol chosen by `HELLO 3`, which also has maps, sets, doubles, booleans and pushed messages.
    Resp3 = 3,
}

/// Proof that a handler has replied, as the `Ok` value of its result.
///
/// It is returned by the methods of [`Reply`], and by [`Replied::later`] for handlers that do not reply through one,
/// so that no command ends without a reply by accident.
#[derive(Clone, Copy, Debug)]
pub struct Replied(());

impl Replied {
    /// No reply is written here: it was written elsewhere, or comes later, or never, because the client was blocked,
    /// closed or silenced.
    pub fn later() -> Self {
        Replied(())
    }
}

/// Bytes of the longest header, that of a scan: an array of a cursor and an array.
const LONGEST_HEADER: usize = 64;

/// Number of elements written without checking whether they are dropped.
const FEW: usize = 1024;

/// Position in a reply where the header of an aggregate will be inserted once its length is known.
#[must_use = "an aggregate that is opened must be closed"]
pub struct Deferred(usize);

/// Writer of one client's reply.
pub struct Reply<'a> {
    /// The block being written. `chain` handles whatever does not fit its capacity.
    out: &'a mut Vec<u8>,
    /// Receives full blocks; `None` lets `out` grow without limit.
    chain: Option<&'a mut Chain>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`, without a limit.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Reply { out, chain: None, protocol }
    }

    /// A writer at the end of `out`, the last block of `chain`.
    #[inline]
    pub fn chained(out: &'a mut Vec<u8>, chain: &'a mut Chain, protocol: Protocol) -> Self {
        Reply { out, chain: Some(chain), protocol }
    }

    /// Whether whatever is written now is dropped: too much output waits, so that the client will be closed, or the
    /// client wants no reply.
    #[inline]
    pub fn is_dropping(&self) -> bool {
        // A chain that refuses output has taken the buffer away.
        self.out.capacity() == 0 && self.chain.as_ref().is_some_and(|chain| chain.refuses())
    }

    /// Whether to continue writing elements: breaks once the output is dropped.
    #[inline]
    pub fn proceed(&self) -> ControlFlow<()> {
        if self.is_dropping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Calls `write` for each of `items`, until the output is dropped. Few items may all be visited. Taking an item
    /// must have no effect.
    #[inline]
    pub fn each<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Reply<'a>, T)) {
        let items = items.into_iter();
        if matches!(items.size_hint(), (_, Some(most)) if most <= FEW) {
            // Iterators are faster in `for_each` than element by element.
            return items.for_each(|item| write(self, item));
        }
        for item in items {
            if self.is_dropping() {
                return;
            }
            write(self, item);
        }
    }

    /// Calls `write` for `n` elements in several steps, each given by its first element and its number of elements,
    /// until the output is dropped. The number of steps grows with the logarithm of `n`.
    #[inline]
    pub fn in_steps(&mut self, n: usize, mut write: impl FnMut(&mut Reply<'a>, usize, usize)) {
        let (mut done, mut step) = (0, FEW);
        while done < n && !self.is_dropping() {
            let now = step.min(n - done);
            write(self, done, now);
            done += now;
            step = step.saturating_add(step / 4);
        }
    }

    /// Calls `write` `n` times, until the output is dropped.
    #[inline]
    pub fn repeat(&mut self, n: usize, mut write: impl FnMut(&mut Reply<'a>)) {
        self.each(0..n, |reply, _| write(reply));
    }

    /// The client's protocol.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the client uses RESP3.
    #[inline]
    pub fn resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// A second writer at the same place, for a function that takes one by value.
    #[inline]
    pub fn reborrow(&mut self) -> Reply<'_> {
        Reply { out: self.out, chain: self.chain.as_deref_mut(), protocol: self.protocol }
    }

    /// Bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> Replied {
        if bytes.len() <= self.out.capacity() - self.out.len() {
            self.out.extend_from_slice(bytes);
        } else {
            self.overflow(bytes);
        }
        Replied(())
    }

    /// Appends bytes that do not fit the buffer.
    #[cold]
    #[inline(never)]
    fn overflow(&mut self, bytes: &[u8]) {
        match &mut self.chain {
            None => self.out.extend_from_slice(bytes),
            Some(chain) => chain.append(self.out, bytes),
        }
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) -> Replied {
        self.raw(b"+OK\r\n")
    }

    /// A status line. `text` must not contain a line break.
    #[inline]
    pub fn simple(&mut self, text: &str) -> Replied {
        debug_assert!(!text.contains(['\r', '\n']));
        self.raw(b"+");
        self.raw(text.as_bytes());
        self.raw(b"\r\n")
    }

    /// An error line; see [`Error`] for the texts.
    #[cold]
    pub fn error(&mut self, error: &Error) -> Replied {
        let mut line = vec![b'-'];
        error.write(&mut line);
        while line.len() > 1 && matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        // Parts of the text may come from a client and must not end the line early.
        for byte in &mut line[1..] {
            if *byte == b'\r' || *byte == b'\n' {
                *byte = b' ';
            }
        }
        line.extend_from_slice(b"\r\n");
        self.raw(&line)
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) -> Replied {
        self.header(b':', n)
    }

    /// A boolean: `:1`/`:0` in RESP2.
    #[inline]
    pub fn bool(&mut self, yes: bool) -> Replied {
        match (self.protocol, yes) {
            (Protocol::Resp2, true) => self.raw(b":1\r\n"),
            (Protocol::Resp2, false) => self.raw(b":0\r\n"),
            (Protocol::Resp3, true) => self.raw(b"#t\r\n"),
            (Protocol::Resp3, false) => self.raw(b"#f\r\n"),
        }
    }

    /// Type byte, number and line end in one append.
    #[inline]
    fn header(&mut self, kind: u8, n: i64) -> Replied {
        if (0..10).contains(&n) {
            return self.raw(&[kind, b'0' + n as u8, b'\r', b'\n']);
        }
        if (10..100).contains(&n) {
            let n = n as u8;
            return self.raw(&[kind, b'0' + n / 10, b'0' + n % 10, b'\r', b'\n']);
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        // 1 byte of type, at most 20 characters of an i64, 2 bytes of line end.
        let mut line = [0u8; 23];
        line[0] = kind;
        line[1..=digits.len()].copy_from_slice(digits);
        line[digits.len() + 1] = b'\r';
        line[digits.len() + 2] = b'\n';
        self.raw(&line[..digits.len() + 3])
    }

    /// A binary-safe string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) -> Replied {
        if append_short(self.out, bytes) { Replied(()) } else { self.long_bulk(bytes) }
    }

    #[inline(never)]
    fn long_bulk(&mut self, bytes: &[u8]) -> Replied {
        self.header(b'$', bytes.len() as i64);
        self.raw(bytes);
        self.raw(b"\r\n")
    }

    /// The start of a binary-safe string of `len` bytes, which must follow with a line end.
    pub fn bulk_header(&mut self, len: usize) -> Replied {
        self.header(b'$', len as i64)
    }

    /// An integer as a string.
    #[inline]
    pub fn bulk_int(&mut self, n: i64) -> Replied {
        self.bulk(itoa::Buffer::new().format(n).as_bytes())
    }

    /// A value of a listpack as a string.
    #[inline]
    pub fn item(&mut self, item: Item<'_>) -> Replied {
        match item {
            Item::Str(bytes) => self.bulk(bytes),
            Item::Int(n) => self.bulk_int(n),
        }
    }

    /// A string, or a null if there is none.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) -> Replied {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// A null in place of a string: `$-1` in RESP2.
    #[inline]
    pub fn null(&mut self) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// A null in place of an array: `*-1` in RESP2.
    #[inline]
    pub fn null_array(&mut self) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"*-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// The header of an array; its `n` elements follow.
    #[inline]
    pub fn array(&mut self, n: usize) -> Replied {
        self.header(b'*', n as i64)
    }

    /// The header of a map of `n` pairs; a flat array in RESP2.
    #[inline]
    pub fn map(&mut self, n: usize) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', 2 * n as i64),
            Protocol::Resp3 => self.header(b'%', n as i64),
        }
    }

    /// The header of a set of `n` members; an array in RESP2.
    #[inline]
    pub fn set(&mut self, n: usize) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', n as i64),
            Protocol::Resp3 => self.header(b'~', n as i64),
        }
    }

    /// The header of an out-of-band message of `n` elements; an array in RESP2.
    #[inline]
    pub fn push(&mut self, n: usize) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', n as i64),
            Protocol::Resp3 => self.header(b'>', n as i64),
        }
    }

    /// The header of an attribute of `n` pairs (RESP3 only), which precedes the reply it describes.
    pub fn attribute(&mut self, n: usize) -> Replied {
        debug_assert!(self.resp3());
        self.header(b'|', n as i64)
    }

    /// A double in its shortest form; a bulk string in RESP2.
    pub fn double(&mut self, x: f64) -> Replied {
        let mut text = num::FloatBuf::new();
        self.double_text(num::fmt_f64(x, &mut text))
    }

    /// A double given as text; a bulk string in RESP2.
    pub fn double_text(&mut self, text: &[u8]) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.raw(b",");
                self.raw(text);
                self.raw(b"\r\n")
            }
        }
    }

    /// An integer of any size, in decimal; a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &str) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => {
                self.raw(b"(");
                self.raw(digits.as_bytes());
                self.raw(b"\r\n")
            }
        }
    }

    /// Text with a three-letter format (`txt`, `mkd`) for people to read; a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) -> Replied {
        debug_assert_eq!(format.len(), 3);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.raw(format.as_bytes());
                self.raw(b":");
                self.raw(text);
                self.raw(b"\r\n")
            }
        }
    }

    /// An array of strings.
    pub fn bulks<T: AsRef<[u8]>>(&mut self, items: &[T]) -> Replied {
        let replied = self.array(items.len());
        self.each(items, |reply, item| _ = reply.bulk(item.as_ref()));
        replied
    }

    /// An array of status lines, as HELP subcommands answer.
    pub fn lines<T: AsRef<str>>(&mut self, items: &[T]) -> Replied {
        self.array(items.len());
        for item in items {
            self.simple(item.as_ref());
        }
        Replied(())
    }

    /// Begins an aggregate of unknown length. Elements follow, then one of the `end_` methods.
    pub fn defer(&mut self) -> Deferred {
        Deferred(self.position())
    }

    /// Ends an aggregate as an array of `n` elements.
    pub fn end_array(&mut self, at: Deferred, n: usize) -> Replied {
        self.insert_header(at, |reply| reply.array(n))
    }

    /// Ends an aggregate as a set of `n` members.
    pub fn end_set(&mut self, at: Deferred, n: usize) -> Replied {
        self.insert_header(at, |reply| reply.set(n))
    }

    /// Ends an aggregate as a map of `n` pairs.
    pub fn end_map(&mut self, at: Deferred, n: usize) -> Replied {
        self.insert_header(at, |reply| reply.map(n))
    }

    /// Ends the array of the `n` elements found by one step of a scan. It becomes the second element of an array that
    /// begins with the next cursor.
    pub fn end_scan(&mut self, at: Deferred, cursor: u64, n: usize) -> Replied {
        self.insert_header(at, |reply| {
            reply.array(2);
            reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
            reply.array(n)
        })
    }

    /// Inserts the output of `write`, at most 64 bytes, at the position `at`: before everything written since.
    pub fn insert(&mut self, at: Deferred, write: impl FnOnce(&mut Reply<'_>)) -> Replied {
        self.insert_header(at, |reply| {
            write(reply);
            Replied(())
        })
    }

    /// Moves the elements up by the header's length: one copy inside one buffer, if they are in one.
    fn insert_header(&mut self, at: Deferred, header: impl FnOnce(&mut Reply<'_>) -> Replied) -> Replied {
        let before = self.chain.as_ref().map_or(0, |chain| chain.before());
        if at.0 >= before && self.out.capacity() - self.out.len() >= LONGEST_HEADER {
            let end = self.out.len();
            header(self);
            let len = self.out.len() - end;
            self.out[at.0 - before..].rotate_right(len);
        } else {
            self.insert_apart(at, header);
        }
        Replied(())
    }

    /// [`Reply::insert_header`] for elements that fill the buffer or exceed it.
    #[cold]
    fn insert_apart(&mut self, at: Deferred, write: impl FnOnce(&mut Reply<'_>) -> Replied) {
        let mut header = Vec::new();
        write(&mut Reply::new(&mut header, self.protocol));
        match &mut self.chain {
            Some(chain) => chain.insert(self.out, at.0, &header),
            None => {
                self.out.extend_from_slice(&header);
                self.out[at.0..].rotate_right(header.len());
            }
        }
    }

    /// Number of bytes written to the buffer and the chain, for [`Reply::truncate`].
    #[inline]
    pub fn position(&self) -> usize {
        self.out.len() + self.chain.as_ref().map_or(0, |chain| chain.before())
    }

    /// Removes what was written after `position`.
    pub fn truncate(&mut self, position: usize) {
        match &mut self.chain {
            None => self.out.truncate(position),
            Some(chain) => chain.truncate(self.out, position),
        }
    }
}

/// Appends a string of fewer than a hundred bytes with its header and line end, if there is space for all of it;
/// whether it was appended. Most replies consist of such strings: one check of the space, and a few stores.
#[allow(unsafe_code)]
#[inline(always)]
fn append_short(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    /// Bytes stored for the header.
    const HEADER: usize = size_of::<u64>();
    let (n, len) = (bytes.len(), out.len());
    // A header has at most 5 bytes, a line end 2: both fit in what is stored for the header.
    if n >= 100 || out.capacity() - len < n + HEADER {
        return false;
    }
    let digits = n as u8;
    let (header, header_len) = if n < 10 {
        ([b'$', b'0' + digits, b'\r', b'\n', 0, 0, 0, 0], 4)
    } else {
        ([b'$', b'0' + digits / 10, b'0' + digits % 10, b'\r', b'\n', 0, 0, 0], 5)
    };
    // SAFETY: the spare capacity is `n + HEADER` bytes or more, checked above. The header takes the first `HEADER` of
    // them, of which `header_len` stay; the text and the line end take `n + 2` behind these, and
    // `header_len + 2 <= HEADER`. Everything up to the new length is written. `out` is borrowed for changes, so that
    // `bytes` is apart from it.
    unsafe {
        let end = out.as_mut_ptr().add(len);
        end.cast::<[u8; HEADER]>().write(header);
        let text = end.add(header_len);
        copy_short(bytes, text);
        text.add(n).cast::<[u8; 2]>().write(*b"\r\n");
        out.set_len(len + header_len + n + 2);
    }
    true
}

/// Copies bytes, without a function call for up to 16 of them: these are copied in two pieces that may overlap.
///
/// # Safety
/// There are as many bytes at `to` that may be written, apart from these.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn copy_short(bytes: &[u8], to: *mut u8) {
    let n = bytes.len();
    // SAFETY: the caller's promise; each piece lies within the `n` bytes.
    unsafe {
        match n {
            0 => {}
            1..4 => {
                to.write(bytes[0]);
                to.add(n / 2).write(bytes[n / 2]);
                to.add(n - 1).write(bytes[n - 1]);
            }
            4..8 => copy_halves::<4>(bytes, to),
            8..=16 => copy_halves::<8>(bytes, to),
            _ => to.copy_from_nonoverlapping(bytes.as_ptr(), n),
        }
    }
}

/// Copies between `N` and 2 `N` bytes.
///
/// # Safety
/// As for [`copy_short`].
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn copy_halves<const N: usize>(bytes: &[u8], to: *mut u8) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>()) {
        // SAFETY: the caller's promise; there are at least `N` bytes.
        unsafe {
            to.cast::<[u8; N]>().write(*first);
            to.add(bytes.len() - N).cast::<[u8; N]>().write(*last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, f: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        f(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).expect("the tests write text")
    }

    #[test]
    fn each_type_in_both_protocols() {
        type Case = (fn(&mut Reply<'_>) -> Replied, &'static str, &'static str);
        let cases: &[Case] = &[
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.int(7), ":7\r\n", ":7\r\n"),
            (|r| r.int(42), ":42\r\n", ":42\r\n"),
            (|r| r.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (
                |r| r.bulk(&[b'x'; 123]),
                concat!(
                    "$123\r\n",
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "\r\n"
                ),
                concat!(
                    "$123\r\n",
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "\r\n"
                ),
            ),
            (|r| r.bulk_int(-10), "$3\r\n-10\r\n", "$3\r\n-10\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.bool(true), ":1\r\n", "#t\r\n"),
            (|r| r.map(3), "*6\r\n", "%3\r\n"),
            (|r| r.set(10), "*10\r\n", "~10\r\n"),
            (|r| r.push(2), "*2\r\n", ">2\r\n"),
            (|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|r| r.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
            (|r| r.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (i, (f, resp2, resp3)) in cases.iter().enumerate() {
            assert_eq!(
                written(Protocol::Resp2, |r| {
                    f(r);
                }),
                *resp2,
                "case {i}"
            );
            assert_eq!(
                written(Protocol::Resp3, |r| {
                    f(r);
                }),
                *resp3,
                "case {i}"
            );
        }
    }

    #[test]
    fn strings_of_all_lengths_are_whole_whatever_room_there_is() {
        let text: Vec<u8> = (0..120).collect();
        for n in 0..text.len() {
            let expected = [format!("${n}\r\n").as_bytes(), &text[..n], b"\r\n"].concat();
            for room in 0..150 {
                let (mut block, mut chain) = (Vec::with_capacity(room), Chain::default());
                Reply::chained(&mut block, &mut chain, Protocol::Resp2).bulk(&text[..n]);
                let written: Vec<u8> = chain.pieces(&block).flatten().copied().collect();
                assert!(written == expected, "{n} bytes with room for {room}");
            }
        }
    }

    #[test]
    fn a_deferred_header_goes_in_front() {
        let text = written(Protocol::Resp3, |r| {
            r.int(1);
            let at = r.defer();
            r.bulk(b"a");
            r.bulk(b"b");
            r.end_set(at, 2);
            r.int(2);
        });
        assert_eq!(text, ":1\r\n~2\r\n$1\r\na\r\n$1\r\nb\r\n:2\r\n");
    }

    #[test]
    fn the_cursor_goes_before_what_a_scan_found() {
        let text = written(Protocol::Resp3, |r| {
            let at = r.defer();
            r.bulk(b"a");
            r.end_scan(at, u64::MAX, 1);
        });
        assert_eq!(text, "*2\r\n$20\r\n18446744073709551615\r\n*1\r\n$1\r\na\r\n");
    }

    #[test]
    fn headers_are_put_before_elements_in_many_blocks() {
        let member = vec![b'm'; 1000];
        for n in [1, 200, 1000] {
            let (mut block, mut chain) = (Vec::with_capacity(100), Chain::default());
            let mut reply = Reply::chained(&mut block, &mut chain, Protocol::Resp2);
            reply.ok();
            let at = reply.defer();
            reply.repeat(n, |reply| _ = reply.bulk(&member));
            reply.end_array(at, n);
            reply.int(7);
            let mut expected = format!("+OK\r\n*{n}\r\n").into_bytes();
            (0..n).for_each(|_| expected.extend([&b"$1000\r\n"[..], &member, b"\r\n"].concat()));
            expected.extend_from_slice(b":7\r\n");
            let written: Vec<u8> = chain.pieces(&block).flatten().copied().collect();
            assert!(written == expected, "{n} members");
            assert_eq!(chain.parts() > 0, n == 1000);
        }
    }

    #[test]
    fn loops_end_when_output_is_dropped() {
        let (mut block, mut chain) = (Vec::with_capacity(100), Chain::default());
        chain.set_limit(1000);
        let mut reply = Reply::chained(&mut block, &mut chain, Protocol::Resp2);
        let mut written = 0;
        reply.repeat(usize::MAX, |reply| {
            reply.bulk(b"member");
            written += 1;
        });
        assert!(reply.is_dropping() && written < 200, "{written}");
        assert!(chain.is_full() && chain.pending(block.len()) < 2000);
        let mut reply = Reply::chained(&mut block, &mut chain, Protocol::Resp2);
        reply.in_steps(usize::MAX, |_, _, _| panic!("nobody will read it"));
    }

    #[test]
    fn an_error_stays_one_line() {
        let error = Error::text("ERR what 'a\r\nb' is");
        assert_eq!(
            written(Protocol::Resp2, |r| {
                r.error(&error);
            }),
            "-ERR what 'a  b' is\r\n"
        );
    }
}
