//! Replies, written straight into a client's output.
//!
//! Each method appends one element with its exact length in front; there is no tree of reply
//! values in between. What RESP3 has a type for and RESP2 has not (maps, sets, doubles, nulls,
//! booleans …) is written in the form of the protocol the client chose with `HELLO`.
//!
//! A reply may be without bound, what waits for a client may not: the [`Chain`] behind the buffer drops what exceeds
//! the client's limit. Loops over many elements go through [`Reply::each`] and [`Reply::repeat`], which end then.

use super::chain::Chain;
use super::error::Error;
use crate::stdx::num;
use crate::structures::listpack::Item;

/// The protocol version of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// What a connection begins with: five kinds of replies.
    Resp2 = 2,
    /// What `HELLO 3` asks for: maps, sets, doubles, booleans and pushed messages besides.
    Resp3 = 3,
}

/// Proof that a handler has written its reply (or arranged for it): what `Ok` carries.
///
/// Only the methods of [`Reply`] make one, so that a command cannot end without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Replied(());

impl Replied {
    /// The reply comes later, or never: the client was blocked, closed or silenced.
    pub fn later() -> Self {
        Replied(())
    }
}

/// Bytes of the longest header: that of a scan, an array of a cursor and an array.
const LONGEST_HEADER: usize = 64;

/// Elements that are written without asking whether somebody will get them.
const FEW: usize = 1024;

/// A place in a reply where the header of an aggregate will be put once its length is known.
#[must_use = "an aggregate that is opened must be closed"]
pub struct Deferred(usize);

/// Writes one client's reply.
pub struct Reply<'a> {
    /// The block that is being written. Whatever does not fit its capacity is the business of `chain`.
    out: &'a mut Vec<u8>,
    /// Where full blocks go; `None`: `out` grows as long as it must.
    chain: Option<&'a mut Chain>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`, which takes everything.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Reply { out, chain: None, protocol }
    }

    /// A writer at the end of the block `out`, which is the last of `chain`.
    #[inline]
    pub fn chained(out: &'a mut Vec<u8>, chain: &'a mut Chain, protocol: Protocol) -> Self {
        Reply { out, chain: Some(chain), protocol }
    }

    /// Whether nobody will get what is written now: too much waits already, and the client will be closed, or it wants
    /// no reply.
    #[inline]
    pub fn is_futile(&self) -> bool {
        // Whoever refuses has taken the buffer away.
        self.out.capacity() == 0 && self.chain.as_ref().is_some_and(|chain| chain.refuses())
    }

    /// Lets `write` write each of `items`, as long as somebody will get them.
    #[inline]
    pub fn each<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Reply<'a>, T)) {
        let items = items.into_iter();
        if matches!(items.size_hint(), (_, Some(most)) if most <= FEW) {
            // Iterators go faster through all they have than one by one.
            return items.for_each(|item| write(self, item));
        }
        for item in items {
            if self.is_futile() {
                return;
            }
            write(self, item);
        }
    }

    /// Lets `write` write `n` elements in several steps, each given by its first element and the number of them, as long
    /// as somebody will get them. The number of steps grows with the logarithm of `n`.
    #[inline]
    pub fn in_steps(&mut self, n: usize, mut write: impl FnMut(&mut Reply<'a>, usize, usize)) {
        let (mut done, mut step) = (0, FEW);
        while done < n && !self.is_futile() {
            let now = step.min(n - done);
            write(self, done, now);
            done += now;
            step = step.saturating_add(step / 4);
        }
    }

    /// Lets `write` write something `n` times, as long as somebody will get it.
    #[inline]
    pub fn repeat(&mut self, n: usize, mut write: impl FnMut(&mut Reply<'a>)) {
        self.each(0..n, |reply, _| write(reply));
    }

    /// The protocol the client speaks.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the client speaks RESP3.
    #[inline]
    pub fn resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// A second writer to the same place, for a function that wants one by value.
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

    /// Appends what does not fit the buffer.
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

    /// A status line. `text` has no line break.
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
        // Whatever part of the text a client supplied must not end the line early.
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

    /// Type byte, number, line end: one append.
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
        // 1 type byte, at most 20 characters of an i64, 2 bytes of line end.
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
        self.header(b'$', bytes.len() as i64);
        self.raw(bytes);
        self.raw(b"\r\n")
    }

    /// The beginning of a binary-safe string of `len` bytes: these and a line end must follow.
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

    /// A string, or the null of an absent one.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) -> Replied {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nothing, where a string could have been: `$-1` in RESP2.
    #[inline]
    pub fn null(&mut self) -> Replied {
        match self.protocol {
            Protocol::Resp2 => self.raw(b"$-1\r\n"),
            Protocol::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Nothing, where an array could have been: `*-1` in RESP2.
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

    /// A double: its shortest text, as a bulk string in RESP2.
    pub fn double(&mut self, x: f64) -> Replied {
        let mut text = num::FloatBuf::new();
        self.double_text(num::fmt_f64(x, &mut text))
    }

    /// A double that is a text already; a bulk string in RESP2.
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
        self.array(items.len());
        for item in items {
            self.bulk(item.as_ref());
        }
        Replied(())
    }

    /// An array of status lines, as HELP subcommands answer.
    pub fn lines<T: AsRef<str>>(&mut self, items: &[T]) -> Replied {
        self.array(items.len());
        for item in items {
            self.simple(item.as_ref());
        }
        Replied(())
    }

    /// Starts an aggregate whose length is not known yet. Elements follow, then one of the `end_` methods.
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

    /// Ends the array of `n` elements that one step of a scan found, as the second element of an
    /// array that begins with the cursor to go on from.
    pub fn end_scan(&mut self, at: Deferred, cursor: u64, n: usize) -> Replied {
        self.insert_header(at, |reply| {
            reply.array(2);
            reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
            reply.array(n)
        })
    }

    /// Puts what `write` writes, at most 64 bytes, where `at` was noted: ahead of what was written since.
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

    /// [`Reply::insert_header`] where elements fill more than the buffer, or all of it.
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

    /// How many bytes were written to the buffer and the chain: with [`Reply::truncate`] a way back.
    #[inline]
    pub fn position(&self) -> usize {
        self.out.len() + self.chain.as_ref().map_or(0, |chain| chain.before())
    }

    /// Forgets what was written after `position`.
    pub fn truncate(&mut self, position: usize) {
        match &mut self.chain {
            None => self.out.truncate(position),
            Some(chain) => chain.truncate(self.out, position),
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
    fn loops_end_when_nobody_will_read_more() {
        let (mut block, mut chain) = (Vec::with_capacity(100), Chain::default());
        chain.set_limit(1000);
        let mut reply = Reply::chained(&mut block, &mut chain, Protocol::Resp2);
        let mut written = 0;
        reply.repeat(usize::MAX, |reply| {
            reply.bulk(b"member");
            written += 1;
        });
        assert!(reply.is_futile() && written < 200, "{written}");
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
