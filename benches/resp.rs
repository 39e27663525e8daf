//! Time to parse a request, in pipelines of 100 requests in one buffer.
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spinel::resp::request::{Decoder, Limits, write_request};

/// Requests in one buffer: about as many as one `recv` of 16 KB returns.
const PIPELINE: usize = 100;

fn pipeline(request: impl Fn(usize, &mut Vec<u8>)) -> Vec<u8> {
    let mut buf = Vec::new();
    for i in 0..PIPELINE {
        request(i, &mut buf);
    }
    buf
}

fn bench(c: &mut Criterion) {
    let key = |i: usize| format!("key:{:012}", i * 7_919);
    let of = |args: &[&[u8]], buf: &mut Vec<u8>| write_request(buf, args.iter().copied());
    let streams = [
        ("PING", pipeline(|_, buf| of(&[b"PING"], buf))),
        ("GET 16", pipeline(|i, buf| of(&[b"GET", key(i).as_bytes()], buf))),
        ("SET 16 64", pipeline(|i, buf| of(&[b"SET", key(i).as_bytes(), &[b'v'; 64]], buf))),
        ("SET 16 1024", pipeline(|i, buf| of(&[b"SET", key(i).as_bytes(), &[b'v'; 1024]], buf))),
        (
            "SET 16 1..200",
            pipeline(|i, buf| of(&[b"SET", key(i).as_bytes(), &vec![b'v'; 1 + i * 37 % 200]], buf)),
        ),
        (
            "MSET 20",
            pipeline(|i, buf| {
                of(&[&[&b"MSET"[..]], &[key(i).as_bytes(), b"value"].repeat(10)[..]].concat(), buf)
            }),
        ),
        ("inline GET", pipeline(|i, buf| buf.extend_from_slice(format!("GET {}\r\n", key(i)).as_bytes()))),
    ];
    let limits = Limits::default();
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, mut buf) in streams {
        let mut spans = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut decoder, mut pos) = (Decoder::new(), 0);
                spans.clear();
                while let Some(frame) = decoder.next(&mut buf, &mut pos, &mut spans, &limits).expect("valid")
                {
                    black_box((frame.end, frame.first_span, frame.args));
                }
                assert_eq!(pos, buf.len());
                black_box(&spans);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
