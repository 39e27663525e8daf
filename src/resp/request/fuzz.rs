//! Random streams of requests, parsed by the decoder and by a simple parser that must agree with it.
#![allow(unsafe_code)]

use std::ops::Range;

use super::decoder::{FIRST_RESERVE, MAX_LINE};
use super::*;
use crate::stdx::quote::split_args;
use crate::stdx::rng::Rng;

/// Feeds `events` random streams of requests (valid, mutated, garbage) to decoders, whole and in pieces, with large
/// strings through the buffer and past it, and compares requests and errors with a simple parser of the whole stream.
///
/// Panics, naming the seed, at the first difference, or if a decoder holds more memory than its input justifies.
pub fn fuzz(seed: u64, events: usize) {
    let mut rng = Rng::new(seed);
    for event in 0..events {
        let limits = random_limits(&mut rng);
        let stream = random_stream(&mut rng);
        let expected = read_whole(&stream, &limits);
        for round in 0..4 {
            let got = feed(&stream, &limits, &mut rng, if round == 0 { usize::MAX } else { 0 });
            assert!(
                got == expected,
                "seed {seed}, event {event}, feed {round}: {got:?} instead of {expected:?} from {stream:?}"
            );
        }
    }
}

/// Result of parsing a stream: its requests, and the error at its end, if any.
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

/// Index of the line end `end`, found by a simple search.
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

/// Parses the request at the start of `bytes` in the simplest way. Returns its arguments and its length.
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

/// Parses `stream` in the simplest way.
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

/// Feeds `stream` to a decoder: the first `first` bytes, then pieces of random length.
pub(super) fn feed(stream: &[u8], limits: &Limits, rng: &mut Rng, first: usize) -> Outcome {
    let (mut decoder, mut buf, mut pos, mut spans) = (Decoder::new(), Vec::new(), 0, Vec::new());
    let mut requests = Vec::new();
    let mut rest = stream;
    let mut piece = first.min(rest.len());
    let mut total = 0;
    let longest = [1, 10, 1000, 100_000][pick(rng, 0..4)];
    // Only small streams are fed byte by byte.
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

/// Receives up to `most` bytes of `rest` into a large string, if one is incomplete, and returns their number.
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

/// Asserts the invariants of a decoder between calls. It was given `received` bytes in all, of which `unread` are
/// in the buffer.
pub(super) fn check(decoder: &Decoder, unread: &[u8], received: usize) {
    let held = decoder.unfinished();
    assert!(held.large_bytes <= received);
    // A span of 8 bytes per 6 bytes of the shortest argument, doubled by the growth of the vector; a large string
    // of twice its bytes; both once more while they grow.
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
