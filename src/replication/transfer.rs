//! Framing of a snapshot: a header, the snapshot, and an end mark if the length is not known.
//!
//! ```text
//! \n \n $1234\r\n       <1234 bytes>                    the length is known
//! \n \n $EOF:<mark>\r\n <any number of bytes> <mark>    it is not: the mark is 40 random bytes
//! ```
//!
//! Line feeds before the header keep the connection alive while the snapshot is being made.

use thiserror::Error;

/// Length in bytes of the mark at the end of a snapshot of unknown length.
pub const MARK_LEN: usize = 40;
/// Limit for the header in bytes, and for the text of an error in its place.
const MAX_HEADER: usize = 1024;

/// Why the primary does not send a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The primary sent an error.
    #[error("MASTER aborted replication with an error: {0}")]
    Error(String),
    /// The data received are neither a header nor an error.
    #[error(
        "Bad protocol from MASTER, the first byte is not '$' (we received '{0}'), are you sure the host and port are \
         right?"
    )]
    NoHeader(String),
}

/// How the end of a snapshot is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The snapshot has this many bytes.
    Length(u64),
    /// The snapshot ends before this mark.
    Mark([u8; MARK_LEN]),
}

/// Parses the header at the beginning of `bytes`. Returns the header and the number of bytes up to its end, including
/// the line feeds before it. If the header is incomplete, returns `None` and the number of line feeds, which the caller
/// may drop.
///
/// # Errors
/// The bytes are not a header.
pub fn read_header(bytes: &[u8]) -> Result<(Option<Framing>, usize), Refused> {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\n').count();
    let rest = &bytes[blank..];
    let Some(end) = rest.iter().take(MAX_HEADER).position(|&byte| byte == b'\n') else {
        if rest.len() >= MAX_HEADER {
            return Err(Refused::NoHeader(shown(&rest[..40])));
        }
        return Ok((None, blank));
    };
    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    let framing = match line {
        [b'-', error @ ..] => return Err(Refused::Error(shown(error))),
        [b'$', b'E', b'O', b'F', b':', mark @ ..] => mark.try_into().ok().map(Framing::Mark),
        [b'$', digits @ ..] => {
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).map(Framing::Length)
        }
        _ => None,
    };
    let framing = framing.ok_or_else(|| Refused::NoHeader(shown(line)))?;
    Ok((Some(framing), blank + end + 1))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Separates a snapshot from the bytes that follow it.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// Bytes of the snapshot so far.
    received: u64,
    /// The last bytes received, which may be the beginning of the mark.
    tail: Vec<u8>,
    ended: bool,
}

impl Body {
    /// A snapshot framed in this way, before its first byte.
    pub fn new(framing: Framing) -> Body {
        Body { framing, received: 0, tail: Vec::new(), ended: framing == Framing::Length(0) }
    }

    /// Bytes of the snapshot received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Length of the snapshot in bytes, if it is known.
    pub fn size(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(len) => Some(len),
            Framing::Mark(_) => None,
        }
    }

    /// Whether the snapshot is complete.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Processes received bytes and appends those of the snapshot to `out`. Returns the number of bytes processed; the
    /// bytes after those follow the snapshot.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        if self.ended {
            return 0;
        }
        let before = out.len();
        let taken = match self.framing {
            Framing::Length(len) => {
                let n = usize::try_from(len - self.received).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..n]);
                self.ended = self.received + n as u64 == len;
                n
            }
            // No byte follows the mark until the replica has acknowledged the snapshot, so all bytes belong to it.
            Framing::Mark(mark) => {
                self.tail.extend_from_slice(bytes);
                if self.tail.ends_with(&mark) {
                    self.ended = true;
                    self.tail.truncate(self.tail.len() - MARK_LEN);
                    out.append(&mut self.tail);
                } else {
                    let sure = self.tail.len().saturating_sub(MARK_LEN);
                    out.extend(self.tail.drain(..sure));
                }
                bytes.len()
            }
        };
        self.received += (out.len() - before) as u64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn headers_and_errors_in_their_place() {
        assert_eq!(read_header(b""), Ok((None, 0)));
        assert_eq!(read_header(b"\n\n$12"), Ok((None, 2)));
        assert_eq!(read_header(b"\n$12\r\nabc"), Ok((Some(Framing::Length(12)), 6)));
        let mut marked = b"$EOF:".to_vec();
        marked.extend_from_slice(&[b'x'; 40]);
        marked.extend_from_slice(b"\r\nrest");
        assert_eq!(read_header(&marked), Ok((Some(Framing::Mark([b'x'; 40])), 47)));
        assert_eq!(read_header(b"-ERR no\r\n"), Err(Refused::Error("ERR no".into())));
        for wrong in [&b"+OK\r\n"[..], b"$-1\r\n", b"$\r\n", b"$EOF:short\r\n", b"$1x\n", &[b'a'; 2000]] {
            assert!(matches!(read_header(wrong), Err(Refused::NoHeader(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_snapshot_comes_out_whole_however_it_is_cut() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let snapshot: Vec<u8> = (0..rng.below(400)).map(|_| b'a' + rng.below(2) as u8).collect();
            let mark = [b'a'; MARK_LEN];
            let by_mark = rng.below(2) == 0;
            let mut sent = snapshot.clone();
            let mut body = if by_mark {
                // The snapshot here cannot contain the mark. With a random mark of 40 bytes, it practically never does.
                let mut mark = mark;
                mark[17] = b'M';
                sent.extend_from_slice(&mark);
                Body::new(Framing::Mark(mark))
            } else {
                sent.extend_from_slice(b"*1\r\n");
                Body::new(Framing::Length(snapshot.len() as u64))
            };
            let (mut out, mut at) = (Vec::new(), 0);
            while !body.has_ended() {
                let n = (1 + rng.below(60) as usize).min(sent.len() - at);
                at += body.take(&sent[at..at + n], &mut out);
            }
            assert_eq!(out, snapshot);
            assert_eq!(body.received(), snapshot.len() as u64);
            assert_eq!(&sent[at..], if by_mark { &b""[..] } else { b"*1\r\n" });
        }
    }
}
