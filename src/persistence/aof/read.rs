//! An append-only file as a sequence of requests.
//!
//! Between requests there may be annotations: lines that begin with `#`, such as timestamps. Everything else must be
//! a request in the form that clients send, as an array.

use std::io::{self, Read};

use crate::persistence::rdb::SavedReplication;
use crate::resp::request::{Decoder, Frame, Limits, Span};

/// Bytes read at a time.
const PIECE: usize = 512 << 10;
/// Longest annotation in bytes.
const LONGEST_REMARK: usize = 1024;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes at this offset are not a request.
    #[error("bad file format at offset {0}")]
    Format(u64),
    /// The file ends in the middle of a request.
    #[error("unexpected end of file")]
    Truncated,
}

/// Result of [`Requests::next`].
pub enum Next {
    /// A complete request.
    Request(Frame),
    /// The buffer holds no complete request: call [`Requests::fill`]. Frames returned before are invalid then.
    Fill,
    /// The file has ended.
    End,
}

/// Splits a file into requests. Bytes that are read and not yet consumed are in a buffer of the caller, always the same
/// one, to which frames refer.
pub struct Requests<R> {
    source: R,
    /// Offset in the buffer of the first byte not consumed.
    pos: usize,
    /// Bytes in the buffer.
    len: usize,
    decoder: Decoder,
    read: u64,
    /// Offset of the last request returned.
    started: u64,
    /// Offset of the request that is still incomplete.
    begun: Option<u64>,
    size: u64,
    ended: bool,
    /// The position stated by the last annotation, if no request followed it; `None` if the file has had neither so
    /// far.
    position: Option<Option<SavedReplication>>,
    /// Offset behind the last annotation with a position, unless it was withdrawn.
    position_end: Option<u64>,
}

impl<R: Read> Requests<R> {
    /// Reads from `source`, which is positioned at offset `at` of a file of `size` bytes.
    pub fn new(source: R, at: u64, size: u64) -> Self {
        let decoder = Decoder::default();
        Requests {
            source,
            pos: 0,
            len: 0,
            decoder,
            read: at,
            started: at,
            begun: None,
            size,
            ended: false,
            position: None,
            position_end: None,
        }
    }

    /// The position of the data read so far in a replication stream: `None` if the file has neither stated one nor
    /// changed anything, `Some(None)` if there is none because a request followed.
    pub fn position(&self) -> Option<Option<SavedReplication>> {
        self.position
    }

    /// Offset behind the last annotation with a position, unless it was withdrawn.
    pub fn position_end(&self) -> Option<u64> {
        self.position_end
    }

    /// Offset of the end of the last request and of the annotations that follow it.
    pub fn offset(&self) -> u64 {
        // The large strings of an incomplete request are no longer in the buffer.
        self.begun.unwrap_or_else(|| self.read - (self.len - self.pos) as u64)
    }

    /// Offset of the last request returned.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the next request in `buf` and appends its spans to `spans`.
    ///
    /// # Errors
    /// The next bytes are not a request, or are cut off.
    pub fn next(&mut self, buf: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<Next, Fault> {
        // The decoder allocates for the bytes received, not for announced lengths, so no limit is needed.
        let limits = Limits { max_bulk: i64::MAX as usize, ..Limits::default() };
        loop {
            if self.decoder.is_idle() {
                match buf.get(self.pos) {
                    None => return Ok(if self.ended { Next::End } else { Next::Fill }),
                    Some(b'#') => {
                        let rest = &buf[self.pos..];
                        match memchr::memchr(b'\n', &rest[..rest.len().min(LONGEST_REMARK)]) {
                            Some(end) => {
                                let stated = SavedReplication::read_annotation(&rest[..end]);
                                self.pos += end + 1;
                                self.len = buf.len();
                                if let Some(position) = stated {
                                    self.position = Some(position);
                                    self.position_end = position.map(|_| self.offset());
                                }
                            }
                            None if rest.len() >= LONGEST_REMARK => return Err(Fault::Format(self.offset())),
                            None => return self.more(),
                        }
                        continue;
                    }
                    Some(b'*') => {}
                    Some(_) => return Err(Fault::Format(self.offset())),
                }
            }
            let start = self.offset();
            let next = self.decoder.next(buf, &mut self.pos, spans, &limits);
            self.len = buf.len();
            return match next {
                Ok(Some(frame)) => {
                    self.position = Some(None);
                    self.started = start;
                    self.begun = None;
                    Ok(Next::Request(frame))
                }
                Ok(None) => {
                    self.begun = (!self.decoder.is_idle()).then_some(start);
                    self.more()
                }
                Err(_) => Err(Fault::Format(start)),
            };
        }
    }

    fn more(&self) -> Result<Next, Fault> {
        if self.ended { Err(Fault::Truncated) } else { Ok(Next::Fill) }
    }

    /// Reads more into `buf`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn fill(&mut self, buf: &mut Vec<u8>) -> Result<(), Fault> {
        buf.drain(..self.pos);
        self.pos = 0;
        let read = (&mut self.source).take(PIECE as u64).read_to_end(buf);
        self.len = buf.len();
        let n = read?;
        self.read += n as u64;
        self.ended = n == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Args;
    use crate::resp::request::write_request;

    /// Reads a file that arrives in pieces of `piece` bytes. Returns the first word of each request, and how the file
    /// ended.
    fn words(bytes: &[u8], piece: usize) -> (Vec<String>, Result<u64, Fault>) {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let n = self.1.min(self.0.len()).min(buf.len());
                buf[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let mut requests = Requests::new(Pieces(bytes, piece), 0, bytes.len() as u64);
        let (mut buf, mut spans, mut words) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match requests.next(&mut buf, &mut spans) {
                Ok(Next::Request(frame)) => {
                    let args = Args::new(frame.head(&buf), frame.spans(&spans), &[]);
                    words.push(String::from_utf8_lossy(args.at(0)).into_owned());
                    spans.clear();
                }
                Ok(Next::Fill) => {
                    if let Err(fault) = requests.fill(&mut buf) {
                        return (words, Err(fault));
                    }
                }
                Ok(Next::End) => return (words, Ok(requests.offset())),
                Err(fault) => return (words, Err(fault)),
            }
        }
    }

    fn file() -> Vec<u8> {
        let mut bytes = b"#TS:1700000000\r\n".to_vec();
        write_request(&mut bytes, [&b"SELECT"[..], b"0"].into_iter());
        bytes.extend_from_slice(b"#TS:1700000001\r\n");
        let long = vec![b'x'; 100_000];
        write_request(&mut bytes, [&b"SET"[..], b"k", &long].into_iter());
        write_request(&mut bytes, [&b"INCR"[..], b"n"].into_iter());
        bytes
    }

    #[test]
    fn requests_and_remarks() {
        for piece in [1000, 65_536, 1 << 20] {
            let (words, end) = words(&file(), piece);
            assert_eq!(words, ["SELECT", "SET", "INCR"]);
            assert_eq!(end.expect("well formed"), file().len() as u64);
        }
    }

    #[test]
    fn a_position_holds_until_the_next_request() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let request = "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
        let (line, other) = (format!("#REPL:{id}:77:3\r\n"), format!("#REPL:{id}:99:0\r\n"));
        let at = |offset, db| {
            Some(Some(SavedReplication { id: *id.as_bytes().first_chunk().expect("40 digits"), offset, db }))
        };
        let cases = [
            (String::new(), None),
            ("#TS:1\r\n".into(), None),
            (request.into(), Some(None)),
            (line.clone(), at(77, 3)),
            (format!("{request}{line}#TS:5\r\n"), at(77, 3)),
            (format!("{line}{request}"), Some(None)),
            (format!("{line}{request}{request}{other}"), at(99, 0)),
            (format!("{line}#REPL:-\r\n"), Some(None)),
            (format!("{line}#REPL:{id}:7\r\n"), Some(None)),
            (format!("{line}#REPL:{id}:-7:0\r\n"), Some(None)),
            (format!("{line}#REPL:short:7:0\r\n"), Some(None)),
        ];
        for (text, expected) in cases {
            {
                let mut requests = Requests::new(text.as_bytes(), 0, text.len() as u64);
                let (mut buf, mut spans) = (Vec::new(), Vec::new());
                loop {
                    match requests.next(&mut buf, &mut spans).expect("well formed") {
                        Next::Fill => requests.fill(&mut buf).expect("memory can be read"),
                        Next::Request(_) => spans.clear(),
                        Next::End => break,
                    }
                }
                assert_eq!(requests.position(), expected, "{text}");
                if let Some(Some(_)) = expected {
                    let end = text.rfind("#REPL").expect("there is one");
                    let end = end + text[end..].find('\n').expect("it ends") + 1;
                    assert_eq!(requests.position_end(), Some(end as u64));
                }
            }
        }
    }

    #[test]
    fn cut_anywhere_it_is_truncated_and_never_more() {
        let bytes = file();
        for cut in (1..bytes.len()).filter(|cut| *cut < 200 || *cut > bytes.len() - 200) {
            match words(&bytes[..cut], 1 << 20).1 {
                Err(Fault::Truncated) => {}
                Ok(at) => assert_eq!(at, cut as u64),
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }

    #[test]
    fn a_long_string_that_is_cut_off_counts_for_nothing() {
        let mut bytes = file();
        let whole = bytes.len() as u64;
        write_request(&mut bytes, [&b"SET"[..], b"k", &vec![b'y'; 3 << 20]].into_iter());
        for cut in [whole as usize + 30, whole as usize + (2 << 20), bytes.len() - 1] {
            let mut requests = Requests::new(&bytes[..cut], 0, cut as u64);
            let (mut buf, mut spans) = (Vec::new(), Vec::new());
            loop {
                match requests.next(&mut buf, &mut spans) {
                    Ok(Next::Fill) => requests.fill(&mut buf).expect("memory can be read"),
                    Ok(Next::Request(_)) => {}
                    Ok(Next::End) => panic!("it is cut off"),
                    Err(fault) => break assert!(matches!(fault, Fault::Truncated)),
                }
            }
            assert_eq!(requests.offset(), whole);
        }
    }

    #[test]
    fn anything_else_is_refused_where_it_begins() {
        let bytes = file();
        for wrong in ["!!!", "SET a b\r\n", "*1\r\n:1\r\n", "$1\r\nx\r\n", "\r\n"] {
            let all = [&bytes, wrong.as_bytes()].concat();
            let (words, end) = words(&all, 1 << 20);
            assert_eq!(words.len(), 3);
            assert!(matches!(end, Err(Fault::Format(at)) if at == bytes.len() as u64), "{wrong}: {end:?}");
        }
    }
}
