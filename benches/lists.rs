//! Listpack and quicklist, compared with `VecDeque<Vec<u8>>`; LZF by size of input.
//!
//! Run with `cargo bench --bench lists`.

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spinel::stdx::alloc::Jemalloc;
use spinel::structures::listpack::{Item, Listpack, Needle};
use spinel::structures::lzf;
use spinel::structures::quicklist::{Direction, Quicklist, QuicklistOptions};

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Texts of 3, 16 and 64 bytes: what benchmarks push, an identifier, a small record.
const SIZES: [usize; 3] = [3, 16, 64];

fn text(i: usize, len: usize) -> Vec<u8> {
    let mut text = format!("{i:x}").into_bytes();
    text.resize(len, b'x');
    text.rotate_left(1);
    text
}

fn quicklist(n: usize, len: usize, depth: u16) -> Quicklist {
    let mut list = Quicklist::new(QuicklistOptions { depth, ..QuicklistOptions::default() });
    (0..n).for_each(|i| list.push_back(&text(i, len)));
    list
}

fn deque(n: usize, len: usize) -> VecDeque<Vec<u8>> {
    (0..n).map(|i| text(i, len)).collect()
}

fn ends(c: &mut Criterion) {
    let mut group = c.benchmark_group("push_back and pop_front, 10000 queued");
    for len in SIZES {
        let value = text(7, len);
        group.bench_function(BenchmarkId::new("quicklist", len), |b| {
            let mut list = quicklist(10_000, len, 0);
            b.iter(|| {
                list.push_back(black_box(&value));
                list.pop_front(|item| item.len())
            });
        });
        group.bench_function(BenchmarkId::new("VecDeque", len), |b| {
            let mut list = deque(10_000, len);
            b.iter(|| {
                list.push_back(black_box(&value).clone());
                list.pop_front().map(|text| text.len())
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("10000 pushes to the front");
    group.throughput(Throughput::Elements(10_000));
    for len in SIZES {
        let value = text(7, len);
        group.bench_function(BenchmarkId::new("quicklist", len), |b| {
            b.iter(|| {
                let mut list = Quicklist::new(QuicklistOptions::default());
                (0..10_000).for_each(|_| list.push_front(black_box(&value)));
                list
            });
        });
        group.bench_function(BenchmarkId::new("VecDeque", len), |b| {
            b.iter(|| {
                let mut list = VecDeque::new();
                (0..10_000).for_each(|_| list.push_front(black_box(&value).clone()));
                list
            });
        });
    }
    group.finish();
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("copy 600 of 100000 from the middle");
    group.throughput(Throughput::Elements(600));
    for len in SIZES {
        let mut out = Vec::with_capacity(100_000);
        for depth in [0, 1] {
            let list = quicklist(100_000, len, depth);
            group.bench_function(BenchmarkId::new(format!("quicklist, depth {depth}"), len), |b| {
                b.iter(|| {
                    out.clear();
                    let mut left = 600;
                    list.visit(50_000, Direction::Forward, |item| {
                        item.write_to(&mut out);
                        left -= 1;
                        left > 0
                    });
                    out.len()
                });
            });
        }
        let list = deque(100_000, len);
        group.bench_function(BenchmarkId::new("VecDeque", len), |b| {
            b.iter(|| {
                out.clear();
                list.range(50_000..50_600).for_each(|text| out.extend_from_slice(text));
                out.len()
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("element 30000 of 100000");
    for len in SIZES {
        let list = quicklist(100_000, len, 0);
        group.bench_function(BenchmarkId::new("quicklist", len), |b| {
            b.iter(|| list.get(black_box(30_000)).map(|entry| entry.item().len()));
        });
    }
    group.finish();
}

fn editing(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert in the middle of 10000 and delete again");
    for len in SIZES {
        let value = text(7, len);
        for depth in [0, 1] {
            group.bench_function(BenchmarkId::new(format!("quicklist, depth {depth}"), len), |b| {
                let mut list = quicklist(10_000, len, depth);
                b.iter(|| {
                    let mut cursor = list.cursor(5000, Direction::Forward);
                    cursor.next();
                    cursor.insert_after(black_box(&value));
                    cursor.next();
                    cursor.remove();
                });
            });
        }
        group.bench_function(BenchmarkId::new("VecDeque", len), |b| {
            let mut list = deque(10_000, len);
            b.iter(|| {
                list.insert(5001, black_box(&value).clone());
                list.remove(5001)
            });
        });
    }
    group.finish();
}

fn listpack(c: &mut Criterion) {
    let fields: Vec<Vec<u8>> = (0..128).map(|i| format!("field:{i:03}").into_bytes()).collect();
    let mut lp = Listpack::new();
    for field in &fields {
        lp.append(&[Item::from(field), Item::from(b"some value")]);
    }
    let mut group = c.benchmark_group("listpack");
    group.bench_function("find the last of 128 fields", |b| {
        b.iter(|| lp.find(black_box(&fields[127]), 1));
    });
    let needle = Needle::new(&fields[127]);
    let first = lp.first().expect("not empty");
    group.bench_function("find it with a prepared needle", |b| {
        b.iter(|| lp.find_from(first, black_box(&needle), 1));
    });
    group.bench_function("walk 256 entries", |b| {
        b.iter(|| lp.iter().map(Item::len).sum::<usize>());
    });
    group.bench_function("walk 256 entries backwards", |b| {
        b.iter(|| lp.iter().rev().map(Item::len).sum::<usize>());
    });
    group.bench_function("build of 16 texts, one by one", |b| {
        b.iter(|| {
            let mut lp = Listpack::new();
            fields[..16].iter().for_each(|field| lp.push_back(black_box(field)));
            lp
        });
    });
    let items: Vec<Item<'_>> = fields[..16].iter().map(Item::from).collect();
    group.bench_function("build of 16 texts, at once", |b| {
        b.iter(|| Listpack::from_items(black_box(&items)));
    });
    group.bench_function("replace in the middle, same size", |b| {
        let pos = lp.seek(128).expect("inside");
        b.iter(|| lp.replace(pos, black_box(&fields[3])));
    });
    let blob = lp.as_bytes().to_vec();
    group.throughput(Throughput::Bytes(blob.len() as u64));
    group.bench_function("validate", |b| {
        b.iter_batched(|| (), |()| Listpack::from_bytes_checked(black_box(&blob)), BatchSize::SmallInput);
    });
    group.finish();
}

fn compression(c: &mut Criterion) {
    let mut group = c.benchmark_group("LZF");
    for n in [4, 100, 1000] {
        let text: Vec<u8> = (0..n).flat_map(|i| format!("user:{i}:name=someone;").into_bytes()).collect();
        let packed = lzf::compress(&text).expect("compressible");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("compress", text.len()), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                lzf::compress_into(black_box(&text), text.len(), &mut out)
            });
        });
        group.bench_function(BenchmarkId::new("decompress", text.len()), |b| {
            let mut out = vec![0; text.len()];
            b.iter(|| lzf::decompress_into(black_box(&packed), &mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, ends, reading, editing, listpack, compression);
criterion_main!(benches);
