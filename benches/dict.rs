//! The dict compared with std's `HashMap` (hashbrown), with the same hash function and elements.
//!
//! 1,000 elements stay in the caches, 2,000,000 do not. "16 prefetched" looks up 16 keys at a time in two stages,
//! as pipelined commands do.
#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::hint::black_box;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spinel::stdx::alloc::Jemalloc;
use spinel::stdx::hash::hash;
use spinel::structures::dict::{Dict, Element, Place};

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

type Key = [u8; 16];

/// One allocation of 24 bytes, like a small entry of the keyspace.
#[repr(C)]
struct Block {
    key: Key,
    value: u64,
}

struct Entry(NonNull<Block>);

impl Entry {
    fn new(n: u64) -> Entry {
        Entry(NonNull::from(Box::leak(Box::new(Block { key: key(n), value: n }))))
    }

    fn block(&self) -> &Block {
        // SAFETY: alive as long as `self`.
        unsafe { self.0.as_ref() }
    }

    fn value(&self) -> u64 {
        self.block().value
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: made from a box, and dropped only once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: a pointer to a block of its own, whose key never changes.
unsafe impl Element for Entry {
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0.cast()
    }

    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        Entry(raw.cast())
    }

    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { &raw.cast::<Block>().as_ref().key }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.block().key == other.block().key
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.block().key.hash(state);
    }
}

impl Borrow<Key> for Entry {
    fn borrow(&self) -> &Key {
        &self.block().key
    }
}

/// Hashes a single key with the dict's function.
#[derive(Default)]
struct OneKey(u64);

impl Hasher for OneKey {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }

    #[inline]
    fn write_usize(&mut self, _length: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

type Std = HashMap<Entry, (), BuildHasherDefault<OneKey>>;

fn key(mut n: u64) -> Key {
    let mut key = *b"key:000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    key
}

fn dict(n: u64) -> Dict<Entry> {
    let mut dict = Dict::new();
    for i in 0..n {
        dict.insert_unique(hash(&key(i)), Entry::new(i));
    }
    while dict.rehash_step(1000) {}
    dict
}

fn std_map(n: u64) -> Std {
    (0..n).map(|i| (Entry::new(i), ())).collect()
}

fn xorshift() -> impl FnMut() -> u64 {
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    }
}

const KEYS: usize = 1 << 18;

/// Keys `from..from + n` in an order that no hardware prefetcher predicts.
fn order(from: u64, n: u64) -> Vec<Key> {
    let mut next = xorshift();
    (0..KEYS).map(|_| key(from + next() % n)).collect()
}

/// Cycles through the numbers below [`KEYS`].
fn around() -> impl FnMut() -> usize {
    let mut i = 0;
    move || {
        i = (i + 1) % KEYS;
        i
    }
}

const SIZES: [u64; 2] = [1000, 2_000_000];

fn hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    let bytes = [7u8; 256];
    for n in [4usize, 16, 40, 256] {
        group.bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| hash(black_box(&bytes[..n]))));
    }
    group.finish();
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    for n in SIZES {
        let (dict, std) = (dict(n), std_map(n));
        let (keys, absent) = (order(0, n), order(n, 1 << 30));
        let mut next = around();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("dict", n), |b| {
            b.iter(|| {
                let key = &keys[next()];
                dict.find(hash(key), key).expect("inserted").value()
            });
        });
        group.bench_function(BenchmarkId::new("std", n), |b| {
            b.iter(|| std.get_key_value(&keys[next()]).expect("inserted").0.value());
        });
        group.bench_function(BenchmarkId::new("dict, absent", n), |b| {
            b.iter(|| {
                let key = &absent[next()];
                dict.find(hash(key), key).is_some()
            });
        });
        group.bench_function(BenchmarkId::new("std, absent", n), |b| {
            b.iter(|| std.contains_key(&absent[next()]));
        });
        group.throughput(Throughput::Elements(16));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("dict, 16 prefetched", n), |b| {
            b.iter(|| {
                at = (at + 16) % KEYS;
                let keys = &keys[at..at + 16];
                let hashes: [u64; 16] = std::array::from_fn(|i| hash(&keys[i]));
                hashes.iter().for_each(|&h| dict.prefetch_bucket(h));
                hashes.iter().for_each(|&h| dict.prefetch_element(h));
                let found = keys.iter().zip(hashes).map(|(key, h)| dict.find(h, key));
                found.map(|e| e.expect("inserted").value()).sum::<u64>()
            });
        });
    }
    group.finish();
}

fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert");
    for n in [9u64, 1000, 100_000] {
        group.throughput(Throughput::Elements(n));
        let batch = if n > 10_000 { BatchSize::PerIteration } else { BatchSize::SmallInput };
        let entries = || (0..n).map(Entry::new).collect::<Vec<_>>();
        group.bench_function(BenchmarkId::new("dict", n), |b| {
            b.iter_batched(
                entries,
                |entries| {
                    let mut dict = Dict::new();
                    for e in entries {
                        let key = e.block().key;
                        if let Place::Vacant(place) = dict.entry(hash(&key), &key) {
                            place.insert(e);
                        }
                    }
                    dict
                },
                batch,
            );
        });
        group.bench_function(BenchmarkId::new("std", n), |b| {
            b.iter_batched(
                entries,
                |entries| {
                    let mut std = Std::default();
                    for e in entries {
                        std.insert(e, ());
                    }
                    std
                },
                batch,
            );
        });
        group.bench_function(BenchmarkId::new("dict, unique with capacity", n), |b| {
            b.iter_batched(
                entries,
                |entries| {
                    let mut dict = Dict::with_capacity(entries.len());
                    for e in entries {
                        dict.insert_unique(hash(&e.block().key), e);
                    }
                    dict
                },
                batch,
            );
        });
    }
    group.finish();
}

fn remove_and_insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("remove and insert");
    for n in SIZES {
        let (mut dict, mut std) = (dict(n), std_map(n));
        let keys = order(0, n);
        let mut next = around();
        group.bench_function(BenchmarkId::new("dict", n), |b| {
            b.iter(|| {
                let key = &keys[next()];
                let h = hash(key);
                let e = dict.remove(h, key).expect("inserted");
                dict.insert_unique(h, e);
            });
        });
        group.bench_function(BenchmarkId::new("std", n), |b| {
            b.iter(|| {
                let (e, ()) = std.remove_entry(&keys[next()]).expect("inserted");
                std.insert(e, ());
            });
        });
    }
    group.finish();
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for n in SIZES {
        let (dict, std) = (dict(n), std_map(n));
        group.throughput(Throughput::Elements(n));
        group.bench_function(BenchmarkId::new("dict", n), |b| {
            b.iter(|| dict.iter().map(|e| e.value()).sum::<u64>());
        });
        group.bench_function(BenchmarkId::new("dict, scan", n), |b| {
            b.iter(|| {
                let (mut sum, mut cursor) = (0, 0);
                loop {
                    cursor = dict.scan(cursor, |e| sum += e.value());
                    if cursor == 0 {
                        break sum;
                    }
                }
            });
        });
        group.bench_function(BenchmarkId::new("std", n), |b| {
            b.iter(|| std.keys().map(Entry::value).sum::<u64>());
        });
        let mut rng = xorshift();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("dict, random", n), |b| {
            b.iter(|| dict.random(&mut rng).expect("not empty").value());
        });
        group.throughput(Throughput::Elements(16));
        group.bench_function(BenchmarkId::new("dict, sample 16", n), |b| {
            b.iter(|| {
                let mut sum = 0;
                dict.sample(16, &mut rng, |e| sum += e.value());
                sum
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = hashes, find, insert, remove_and_insert, walk
}
criterion_main!(benches);
