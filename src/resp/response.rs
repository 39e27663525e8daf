//! Responses: finds the replies of another server in bytes as they arrive.
//!
//! The counterpart of [`request`](super::request), for connections that this server opens. [`Decoder::next`] finds
//! the end of one complete reply in the bytes received so far and returns a [`Response`], a view of those bytes. Its
//! items are parsed when they are requested, and nothing is allocated.
//!
//! ```text
//!  *2\r\n$3\r\nfoo\r\n:5\r\n          %1\r\n+role\r\n+master\r\n
//!  └─┬─┘ └─────┬─────┘└─┬─┘           └─┬─┘ └──┬──┘ └───┬───┘
//!  two items   item    item           one pair  key     value
//! ```
//!
//! What always holds:
//! - The same bytes result in the same replies and the same error, however they are split.
//! - Parsing a reply of `n` bytes costs O(n) in however many pieces it arrives: no byte is parsed twice.
//! - The decoder's memory is a few integers, whatever lengths are announced and however deep aggregates are nested:
//!   of a nested reply, only the *number* of missing values is kept.

use thiserror::Error;

use crate::stdx::num::parse_i64;

/// Limit for a line (a header, a status, an error): its end is within this many bytes.
const MAX_LINE: usize = 64 << 10;

/// Why bytes are not a reply. Nothing more can be read from the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The first byte of a value is not a marker of the protocol.
    #[error("unexpected byte {0:#04x} where a reply begins")]
    Marker(u8),
    /// A length or count is not a number, negative, or above the limit.
    #[error("invalid length in a reply")]
    Length,
    /// A line does not end within 64 KB.
    #[error("a line of a reply is too long")]
    LineTooLong,
    /// A string is not followed by a line end.
    #[error("a string of a reply does not end where it should")]
    Terminator,
}

/// Kinds of reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A status such as `OK`.
    Simple,
    /// An error, in one line or as a string.
    Error,
    /// An integer.
    Int,
    /// A string.
    Bulk,
    /// A null.
    Null,
    /// A floating point number.
    Double,
    /// True or false.
    Bool,
    /// An integer of any size.
    BigNumber,
    /// A string preceded by a format of three letters.
    Verbatim,
    /// A sequence of values.
    Array,
    /// Keys and values, alternating.
    Map,
    /// Values without order.
    Set,
    /// A message that is not the reply to a request.
    Push,
}

/// Finds complete replies in a buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Number of bytes of the reply parsed so far.
    at: usize,
    /// Number of bytes behind `at` without a line end.
    searched: usize,
    /// Number of missing values, including the one at `at`; 0 before the first byte.
    missing: u64,
    /// Most bytes of a string; `None` for 512 MB.
    max_bulk: Option<usize>,
}

/// A complete reply: a view of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    bytes: &'a [u8],
}

/// What was found at one position.
enum Step {
    /// A value without items, of this many bytes.
    Value(usize),
    /// A header of this many bytes, before this many values.
    Header(usize, u64),
    /// A header of this many bytes, before this many values that describe the value behind them.
    Attribute(usize, u64),
    /// The bytes end too early. This many of them have no line end.
    Short(usize),
}

impl Decoder {
    /// A decoder for strings of at most `max_bulk` bytes.
    pub fn with_max_bulk(max_bulk: usize) -> Decoder {
        Decoder { max_bulk: Some(max_bulk), ..Decoder::default() }
    }

    /// Finds the first complete reply in `bytes`. Returns the reply and its length in bytes, or `None` if it is
    /// incomplete. The next call must pass the bytes behind the reply, or the same bytes with more at their end.
    ///
    /// # Errors
    /// The bytes are not a reply.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Response<'a>, usize)>, Malformed> {
        let max_bulk = self.max_bulk.unwrap_or(512 << 20);
        if self.missing == 0 {
            self.missing = 1;
        }
        while self.missing > 0 {
            match step(&bytes[self.at.min(bytes.len())..], self.searched, max_bulk)? {
                Step::Short(searched) => {
                    self.searched = searched;
                    return Ok(None);
                }
                Step::Value(len) => {
                    self.at += len;
                    self.missing -= 1;
                }
                Step::Header(len, items) => {
                    self.at += len;
                    self.missing = (self.missing - 1).checked_add(items).ok_or(Malformed::Length)?;
                }
                Step::Attribute(len, items) => {
                    self.at += len;
                    self.missing = self.missing.checked_add(items).ok_or(Malformed::Length)?;
                }
            }
            self.searched = 0;
        }
        let end = std::mem::take(&mut self.at);
        Ok(Some((Response { bytes: without_attributes(&bytes[..end]) }, end)))
    }

    /// Drops the state of an unfinished reply, because the next bytes come from a new connection.
    pub fn reset(&mut self) {
        (self.at, self.searched, self.missing) = (0, 0, 0);
    }
}

/// Parses the value or header at the start of `bytes`, of which the first `searched` have no line end.
fn step(bytes: &[u8], searched: usize, max_bulk: usize) -> Result<Step, Malformed> {
    let Some(&marker) = bytes.first() else { return Ok(Step::Short(0)) };
    if !b"+-:$*_,#(=!%~>|".contains(&marker) {
        return Err(Malformed::Marker(marker));
    }
    let window = &bytes[..bytes.len().min(MAX_LINE + 1)];
    let Some(end) = memchr::memchr(b'\n', &window[searched..]).map(|at| searched + at) else {
        return if window.len() > MAX_LINE {
            Err(Malformed::LineTooLong)
        } else {
            Ok(Step::Short(window.len()))
        };
    };
    let header = end + 1;
    let text = line_of(&bytes[1..header]);
    match marker {
        b'$' | b'=' | b'!' => match length(text, marker == b'$')? {
            None => Ok(Step::Value(header)),
            Some(len) if len > max_bulk as u64 => Err(Malformed::Length),
            Some(len) => {
                let whole = header + len as usize + 2;
                match bytes.get(whole - 2..whole) {
                    // The bytes behind a header need not be searched again: its line end stays where it is.
                    None => Ok(Step::Short(end)),
                    Some(b"\r\n") => Ok(Step::Value(whole)),
                    Some(_) => Err(Malformed::Terminator),
                }
            }
        },
        b'*' | b'~' | b'>' => match length(text, marker == b'*')? {
            None => Ok(Step::Value(header)),
            Some(items) => Ok(Step::Header(header, items)),
        },
        b'%' | b'|' => {
            let pairs = length(text, false)?.ok_or(Malformed::Length)?;
            let items = pairs.checked_mul(2).ok_or(Malformed::Length)?;
            Ok(if marker == b'%' { Step::Header(header, items) } else { Step::Attribute(header, items) })
        }
        _ => Ok(Step::Value(header)),
    }
}

/// The line without its line end.
fn line_of(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses a length or count; `None` for −1 where that means "no value".
fn length(text: &[u8], may_be_null: bool) -> Result<Option<u64>, Malformed> {
    match parse_i64(text) {
        Some(-1) if may_be_null => Ok(None),
        Some(n) => u64::try_from(n).map(Some).map_err(|_| Malformed::Length),
        None => Err(Malformed::Length),
    }
}

/// Splits `bytes` behind their first value, which must be complete.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (mut at, mut missing) = (0, 1u64);
    while missing > 0 {
        match step(&bytes[at..], 0, usize::MAX) {
            Ok(Step::Value(len)) => {
                at += len;
                missing -= 1;
            }
            Ok(Step::Header(len, items)) => {
                at += len;
                missing = missing - 1 + items;
            }
            Ok(Step::Attribute(len, items)) => {
                at += len;
                missing += items;
            }
            // Only a complete reply becomes a `Response`.
            Ok(Step::Short(_)) | Err(_) => return (bytes, &[]),
        }
    }
    bytes.split_at(at)
}

/// A complete value without the attributes before it.
fn without_attributes(mut bytes: &[u8]) -> &[u8] {
    while bytes.first() == Some(&b'|')
        && let Ok(Step::Attribute(len, mut items)) = step(bytes, 0, usize::MAX)
    {
        bytes = &bytes[len..];
        while items > 0 {
            bytes = split(bytes).1;
            items -= 1;
        }
    }
    bytes
}

impl<'a> Response<'a> {
    /// The kind of the reply.
    pub fn kind(self) -> Kind {
        let null = |kind| if self.line() == b"-1" { Kind::Null } else { kind };
        match self.bytes.first() {
            Some(b'+') => Kind::Simple,
            Some(b'-' | b'!') => Kind::Error,
            Some(b':') => Kind::Int,
            Some(b'$') => null(Kind::Bulk),
            Some(b'*') => null(Kind::Array),
            Some(b',') => Kind::Double,
            Some(b'#') => Kind::Bool,
            Some(b'(') => Kind::BigNumber,
            Some(b'=') => Kind::Verbatim,
            Some(b'%') => Kind::Map,
            Some(b'~') => Kind::Set,
            Some(b'>') => Kind::Push,
            _ => Kind::Null,
        }
    }

    /// The first line, without its marker and its line end.
    fn line(self) -> &'a [u8] {
        let end = memchr::memchr(b'\n', self.bytes).map_or(self.bytes.len(), |at| at + 1);
        line_of(self.bytes.get(1..end).unwrap_or_default())
    }

    /// The text of a value without items: a status, the text of an error without its marker, the digits of a number,
    /// or the bytes of a string. Empty for a null or an aggregate.
    pub fn text(self) -> &'a [u8] {
        match self.bytes.first() {
            Some(b'$' | b'=' | b'!') => {
                let header = memchr::memchr(b'\n', self.bytes).map_or(self.bytes.len(), |at| at + 1);
                let string = self.bytes.get(header..).unwrap_or_default();
                let string = string.strip_suffix(b"\r\n").unwrap_or(string);
                if self.bytes[0] == b'=' { string.get(4..).unwrap_or_default() } else { string }
            }
            Some(b'*' | b'%' | b'~' | b'>' | b'_') | None => &[],
            Some(_) => self.line(),
        }
    }

    /// The integer, if the reply is one or its text is one.
    pub fn int(self) -> Option<i64> {
        parse_i64(self.text())
    }

    /// The text of the error, if the reply is one.
    pub fn error(self) -> Option<&'a [u8]> {
        (self.kind() == Kind::Error).then(|| self.text())
    }

    /// Whether the reply is the status `OK`.
    pub fn is_ok(self) -> bool {
        self.kind() == Kind::Simple && self.text() == b"OK"
    }

    /// The items of an aggregate, keys and values of a map alternating; none for anything else. O(bytes) over all
    /// items.
    pub fn items(self) -> impl Iterator<Item = Response<'a>> {
        let mut left = match step(self.bytes, 0, usize::MAX) {
            Ok(Step::Header(len, items)) => (items, &self.bytes[len..]),
            _ => (0, &[][..]),
        };
        std::iter::from_fn(move || {
            if left.0 == 0 {
                return None;
            }
            let (item, rest) = split(left.1);
            left = (left.0 - 1, rest);
            Some(Response { bytes: without_attributes(item) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    /// The reply as one line of text.
    fn shown(reply: Response<'_>) -> String {
        let text = || String::from_utf8_lossy(reply.text()).into_owned();
        let items = || reply.items().map(shown).collect::<Vec<_>>().join(" ");
        match reply.kind() {
            Kind::Null => "nil".to_owned(),
            Kind::Error => format!("!{}", text()),
            Kind::Array => format!("[{}]", items()),
            Kind::Map => format!("{{{}}}", items()),
            Kind::Set => format!("<{}>", items()),
            Kind::Push => format!(">{}", items()),
            _ => text(),
        }
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let (mut decoder, mut at, mut all) = (Decoder::default(), 0, Vec::new());
        while let Some((reply, len)) = decoder.next(&bytes[at..])? {
            all.push(shown(reply));
            at += len;
        }
        Ok(all)
    }

    const EXAMPLES: &[(&str, &str)] = &[
        ("+OK\r\n", "OK"),
        ("-ERR no\r\n", "!ERR no"),
        (":-12\r\n", "-12"),
        ("$5\r\na\r\nbc\r\n", "a\r\nbc"),
        ("$0\r\n\r\n", ""),
        ("$-1\r\n", "nil"),
        ("*-1\r\n", "nil"),
        ("_\r\n", "nil"),
        ("*0\r\n", "[]"),
        ("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n", "[a [1 []]]"),
        ("%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n", "{a <t 1.5>}"),
        (">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", ">invalidate [k]"),
        ("=7\r\ntxt:abc\r\n", "abc"),
        ("!5\r\nERR x\r\n", "!ERR x"),
        ("(123456789012345678901234567890\r\n", "123456789012345678901234567890"),
        ("|1\r\n+ttl\r\n:3\r\n+OK\r\n", "OK"),
        ("*2\r\n|1\r\n+a\r\n*1\r\n:9\r\n:1\r\n:2\r\n", "[1 2]"),
    ];

    #[test]
    fn every_kind_of_reply_is_understood() {
        for (bytes, expected) in EXAMPLES {
            assert_eq!(decoded(bytes.as_bytes()), Ok(vec![(*expected).to_owned()]), "{bytes:?}");
        }
        assert_eq!(decoded(b":+7\r\n").map(|all| all.len()), Ok(1));
    }

    #[test]
    fn replies_do_not_depend_on_how_they_are_split() {
        let mut rng = Rng::new(11);
        for _ in 0..300 {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..1 + rng.below(6) {
                let (example, text) = EXAMPLES[rng.below(EXAMPLES.len() as u64) as usize];
                bytes.extend_from_slice(example.as_bytes());
                expected.push(text.to_owned());
            }
            let (mut decoder, mut got, mut begin, mut end) = (Decoder::default(), Vec::new(), 0, 0);
            while end < bytes.len() {
                end = (end + 1 + rng.below(4) as usize).min(bytes.len());
                while let Some((reply, len)) = decoder.next(&bytes[begin..end]).expect("replies") {
                    got.push(shown(reply));
                    begin += len;
                }
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn malformed_replies_are_errors() {
        assert_eq!(decoded(b"?\r\n"), Err(Malformed::Marker(b'?')));
        assert_eq!(decoded(b"$x\r\n"), Err(Malformed::Length));
        assert_eq!(decoded(b"*-2\r\n"), Err(Malformed::Length));
        assert_eq!(decoded(b"~-1\r\n"), Err(Malformed::Length));
        assert_eq!(decoded(b"$1\r\nabc"), Err(Malformed::Terminator));
        assert_eq!(decoded(b"%9223372036854775807\r\n%9223372036854775807\r\n"), Err(Malformed::Length));
        assert_eq!(Decoder::with_max_bulk(10).next(b"$11\r\n"), Err(Malformed::Length));
        assert_eq!(decoded(&[b'+'; MAX_LINE + 2]), Err(Malformed::LineTooLong));
    }

    #[test]
    fn any_bytes_are_read_to_an_end() {
        let mut rng = Rng::new(5);
        for _ in 0..20_000 {
            let (example, _) = EXAMPLES[rng.below(EXAMPLES.len() as u64) as usize];
            let mut bytes = example.as_bytes().to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = b"+-:$*_,#(=!%~>|\r\n019a"[rng.below(21) as usize];
            }
            let _ = decoded(&bytes);
        }
    }

    #[test]
    fn deep_nesting_costs_no_memory_and_no_stack() {
        let mut bytes = b"*1\r\n".repeat(200_000);
        bytes.extend_from_slice(b":1\r\n");
        let mut decoder = Decoder::default();
        let (mut reply, len) = decoder.next(&bytes).expect("a reply").expect("whole");
        assert_eq!(len, bytes.len());
        for _ in 0..3 {
            reply = reply.items().next().expect("an item");
        }
        assert_eq!(reply.kind(), Kind::Array);
    }
}
