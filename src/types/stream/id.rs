//! Ids of stream entries: milliseconds and a sequence number, in all spellings that clients use.

use std::fmt;

use crate::stdx::num::parse_i64;

/// Longest text accepted as an id, in bytes.
const MAX_TEXT: usize = 127;

/// The id of a stream entry: `ms-seq`. Ids compare by time, then by sequence number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Unix time in milliseconds, or any number that the producer chose.
    pub ms: u64,
    /// Sequence number within the millisecond.
    pub seq: u64,
}

/// Why a text is not a valid id in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    /// The text does not have the form of an id.
    #[error("Invalid stream ID specified as stream command argument")]
    Invalid,
    /// The interval would start after the greatest id.
    #[error("invalid start ID for the interval")]
    Start,
    /// The interval would end before the smallest id.
    #[error("invalid end ID for the interval")]
    End,
}

/// The id requested for a new entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewId {
    /// `*`: the current time, and the next free sequence number.
    Auto,
    /// `ms-*`: this millisecond, and the next free sequence number.
    AutoSeq(u64),
    /// Exactly this id.
    Exact(StreamId),
}

impl StreamId {
    /// `0-0`, which no entry has.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The greatest id.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id with these parts.
    #[inline]
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Whether this is `0-0`.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.ms == 0 && self.seq == 0
    }

    /// The following id; `None` after the greatest.
    #[inline]
    pub const fn next(self) -> Option<StreamId> {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The preceding id; `None` before `0-0`.
    #[inline]
    pub const fn prev(self) -> Option<StreamId> {
        match (self.seq.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }

    /// The id as sixteen bytes in files, most significant first, so that the bytes compare as the ids do.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 16] {
        ((self.ms as u128) << 64 | self.seq as u128).to_be_bytes()
    }

    /// The id for sixteen bytes from [`to_bytes`](Self::to_bytes).
    #[inline]
    pub const fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let both = u128::from_be_bytes(bytes);
        StreamId { ms: (both >> 64) as u64, seq: both as u64 }
    }

    /// Parses `ms-seq`, or `ms` with the sequence number `missing_seq`.
    ///
    /// # Errors
    /// [`IdError::Invalid`] for any other text, including `-` and `+`.
    pub fn parse(text: &[u8], missing_seq: u64) -> Result<StreamId, IdError> {
        let text = clip(text)?;
        let (ms, seq) = match text.iter().position(|&byte| byte == b'-') {
            Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
            None => (text, None),
        };
        let ms = parse_part(ms)?;
        Ok(StreamId { ms, seq: seq.map_or(Ok(missing_seq), parse_part)? })
    }

    /// Parses an id, `-` for the smallest, or `+` for the greatest.
    ///
    /// # Errors
    /// [`IdError::Invalid`].
    pub fn parse_or_edge(text: &[u8], missing_seq: u64) -> Result<StreamId, IdError> {
        match text {
            b"-" => Ok(Self::MIN),
            b"+" => Ok(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }

    /// Parses the start of an interval: an id, `-`, `+`, or `(` and an id that is excluded.
    ///
    /// # Errors
    /// [`IdError::Invalid`], and [`IdError::Start`] if nothing can follow the excluded id.
    pub fn parse_start(text: &[u8]) -> Result<StreamId, IdError> {
        match text {
            [b'(', id @ ..] if !id.is_empty() => Self::parse(id, 0)?.next().ok_or(IdError::Start),
            _ => Self::parse_or_edge(text, 0),
        }
    }

    /// Parses the end of an interval: an id, `-`, `+`, or `(` and an id that is excluded.
    ///
    /// # Errors
    /// [`IdError::Invalid`], and [`IdError::End`] if nothing can precede the excluded id.
    pub fn parse_end(text: &[u8]) -> Result<StreamId, IdError> {
        match text {
            [b'(', id @ ..] if !id.is_empty() => Self::parse(id, u64::MAX)?.prev().ok_or(IdError::End),
            _ => Self::parse_or_edge(text, u64::MAX),
        }
    }

    /// Formats the id as `ms-seq` into `buf` and returns the text. Allocates nothing.
    #[inline]
    pub fn format(self, buf: &mut IdBuf) -> &[u8] {
        // Written from the end to the start, so that nothing has to be moved.
        let mut at = write_digits(&mut buf.0, LONGEST_TEXT, self.seq) - 1;
        buf.0[at] = b'-';
        at = write_digits(&mut buf.0, at, self.ms);
        &buf.0[at..]
    }
}

/// Length of the longest text of an id: two numbers of twenty digits and a hyphen.
const LONGEST_TEXT: usize = 41;

/// The numbers 0 to 99 as two digits.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut n) = ([[0; 2]; 100], 0);
    while n < 100 {
        pairs[n] = [b'0' + n as u8 / 10, b'0' + n as u8 % 10];
        n += 1;
    }
    pairs
};

/// Writes a number in decimal digits that end at `end`, and returns the offset of the first.
#[inline]
fn write_digits(buf: &mut [u8; LONGEST_TEXT], end: usize, mut n: u64) -> usize {
    let mut at = end;
    while n >= 10 {
        at -= 2;
        buf[at..at + 2].copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    // One digit is left over at the front, or the number is zero, which is written only if there are no other digits.
    if n > 0 || at == end {
        at -= 1;
        buf[at] = b'0' + n as u8;
    }
    at
}

/// Buffer for the text of an id.
pub struct IdBuf([u8; LONGEST_TEXT]);

impl IdBuf {
    /// An empty buffer.
    pub const fn new() -> IdBuf {
        IdBuf([0; LONGEST_TEXT])
    }
}

impl Default for IdBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl NewId {
    /// Parses the id of a new entry: `*`, `ms-*`, `ms-seq` or `ms`.
    ///
    /// # Errors
    /// [`IdError::Invalid`].
    pub fn parse(text: &[u8]) -> Result<NewId, IdError> {
        if text == b"*" {
            return Ok(NewId::Auto);
        }
        match clip(text)? {
            [ms @ .., b'-', b'*'] if !ms.contains(&b'-') => parse_part(ms).map(NewId::AutoSeq),
            text => StreamId::parse(text, 0).map(NewId::Exact),
        }
    }
}

/// The part of a text that is parsed: a C string of limited length.
fn clip(text: &[u8]) -> Result<&[u8], IdError> {
    if text.len() > MAX_TEXT {
        return Err(IdError::Invalid);
    }
    Ok(text.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// Parses one part as C's `strtoull` does: white space, a sign and leading zeros are allowed, and a minus sign negates
/// modulo 2^64. Only canonical negative numbers are refused.
fn parse_part(text: &[u8]) -> Result<u64, IdError> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).map_err(|_| IdError::Invalid);
    }
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let (digits, negative) = match &text[spaces..] {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    if digits.is_empty() {
        return Err(IdError::Invalid);
    }
    let mut value = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(IdError::Invalid);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit)))
            .ok_or(IdError::Invalid)?;
    }
    Ok(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId::new(ms, seq)
    }

    #[test]
    fn ids_are_read_as_c_reads_them() {
        use IdError::Invalid;
        for (text, value) in [
            (&b"1-2"[..], Ok(id(1, 2))),
            (b"7", Ok(id(7, 9))),
            (b"007-008", Ok(id(7, 8))),
            (b"+5", Ok(id(5, 9))),
            (b"1-+5", Ok(id(1, 5))),
            (b" 1", Ok(id(1, 9))),
            (b"1--0", Ok(id(1, 0))),
            (b"1--05", Ok(id(1, u64::MAX - 4))),
            (b"5\0junk", Ok(id(5, 9))),
            (b"18446744073709551615-18446744073709551615", Ok(StreamId::MAX)),
            (b"18446744073709551616", Err(Invalid)),
            (b"", Err(Invalid)),
            (b"-", Err(Invalid)),
            (b"+", Err(Invalid)),
            (b"1-", Err(Invalid)),
            (b"-1", Err(Invalid)),
            (b"1--5", Err(Invalid)),
            (b"1-2-3", Err(Invalid)),
            (b"1-x", Err(Invalid)),
            (b"1 ", Err(Invalid)),
            (b"5-*", Err(Invalid)),
            (&[b'0'; 128], Err(Invalid)),
        ] {
            assert_eq!(StreamId::parse(text, 9), value, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn intervals_exclude_what_follows_a_parenthesis() {
        assert_eq!(StreamId::parse_start(b"-"), Ok(StreamId::MIN));
        assert_eq!(StreamId::parse_end(b"+"), Ok(StreamId::MAX));
        assert_eq!(StreamId::parse_start(b"5"), Ok(id(5, 0)));
        assert_eq!(StreamId::parse_end(b"5"), Ok(id(5, u64::MAX)));
        assert_eq!(StreamId::parse_start(b"(5"), Ok(id(5, 1)));
        assert_eq!(StreamId::parse_end(b"(5"), Ok(id(5, u64::MAX - 1)));
        assert_eq!(StreamId::parse_end(b"(5-0"), Ok(id(4, u64::MAX)));
        assert_eq!(StreamId::parse_end(b"(0-0"), Err(IdError::End));
        let max = b"(18446744073709551615-18446744073709551615";
        assert_eq!(StreamId::parse_start(max), Err(IdError::Start));
        for text in [&b"("[..], b"(-", b"(+", b"((1"] {
            assert_eq!(StreamId::parse_start(text), Err(IdError::Invalid));
            assert_eq!(StreamId::parse_end(text), Err(IdError::Invalid));
        }
    }

    #[test]
    fn new_ids_may_leave_parts_to_the_stream() {
        assert_eq!(NewId::parse(b"*"), Ok(NewId::Auto));
        assert_eq!(NewId::parse(b"12-*"), Ok(NewId::AutoSeq(12)));
        assert_eq!(NewId::parse(b"12"), Ok(NewId::Exact(id(12, 0))));
        for text in [&b"-*"[..], b"1-2-*", b"1-**", b"*-1", b""] {
            assert_eq!(NewId::parse(text), Err(IdError::Invalid));
        }
    }

    #[test]
    fn neighbours_and_bytes_agree_with_the_order() {
        let edge = [id(0, 0), id(0, u64::MAX), id(1, 0), id(u64::MAX, 0), StreamId::MAX];
        for pair in edge.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
        }
        for id in edge {
            assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
            assert!(id.next().is_none_or(|next| next > id && next.prev() == Some(id)));
            assert_eq!(id.format(&mut IdBuf::new()), id.to_string().as_bytes());
        }
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.prev()), (None, None));
    }
}
