//! Tests of requests: samples, every split of them, limits, and random streams.

use super::decoder::{FIRST_RESERVE, plain_header};
use super::*;
use crate::stdx::rng::Rng;

fn outcome(stream: &[u8], limits: &Limits) -> fuzz::Outcome {
    let expected = fuzz::read_whole(stream, limits);
    let mut rng = Rng::new(1);
    let got = fuzz::feed(stream, limits, &mut rng, usize::MAX);
    assert_eq!(got, expected);
    got
}

/// The text after `-ERR Protocol error: ` for `stream`; empty if there is no error.
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

/// The texts are those of Redis 7.0.15.
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

/// Cuts each sample stream at every position, and short ones at every pair of positions.
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
        for first in (0..=stream.len()).filter(|at| step == 1 || at % step == 0 || stream.len() - at < 40) {
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

/// A request of a million arguments arrives in pieces. Every byte is read a bounded number of times, or the test
/// would not end. A header that promises much costs nothing.
#[test]
fn long_requests_in_pieces() {
    let mut stream = Vec::new();
    write_request(&mut stream, std::iter::repeat_n(&b"x"[..], 1_000_000));
    let (mut decoder, mut buf, mut pos, mut spans) = (Decoder::new(), Vec::new(), 0, Vec::new());
    let limits = Limits::default();
    let mut frames = Vec::new();
    for piece in stream.chunks(1000) {
        buf.extend_from_slice(piece);
        frames.extend(decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("the request is valid"));
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
        // Twice the bytes that have arrived, rounded up to pages.
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

/// A request with bytes beyond the reach of spans. The limit is lower in tests.
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
    fuzz(1, 600);
}

/// A plain header has the value that its digits have as a canonical integer.
#[test]
fn plain_headers_are_canonical_integers() {
    let zeros = ["", "0", "00", "-", "+", " "];
    for number in (0..1200u64).chain((1..=20).map(|digits| 10u64.saturating_pow(digits) - 1)) {
        for text in zeros.map(|before| format!("{before}{number}")) {
            let header = format!("${text}\r\nx");
            let canonical = parse_i64(text.as_bytes()).filter(|_| !text.starts_with('-'));
            let expected = canonical.filter(|_| text.len() <= 7).map(|n| (n as usize, text.len() + 3));
            assert_eq!(plain_header(header.as_bytes(), b'$'), expected, "{header:?}");
        }
    }
}
