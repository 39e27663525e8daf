//! Structures for bytes and order, compared with the standard library's: `Sds` with `Vec<u8>`, `Intset` with
//! `BTreeSet<i64>` and a sorted `Vec<i64>`, `SkipList` with `BTreeSet`.
//!
//! `cargo bench --bench ordered`

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use spinel::structures::intset::Intset;
use spinel::structures::sds::Sds;
use spinel::structures::skiplist::{ScoreRange, SkipList};

#[global_allocator]
static ALLOCATOR: spinel::stdx::alloc::Jemalloc = spinel::stdx::alloc::Jemalloc;

fn sds(c: &mut Criterion) {
    let mut group = c.benchmark_group("bytes");
    let small = [7u8; 24];
    group.bench_function("copy 24/sds", |b| b.iter(|| Sds::from_slice(black_box(&small))));
    group.bench_function("copy 24/vec", |b| b.iter(|| black_box(&small).to_vec()));
    group.bench_function("append 8 x 1000/sds", |b| {
        b.iter(|| {
            let mut s = Sds::new();
            for i in 0..1000u64 {
                s.append(black_box(&i.to_le_bytes()));
            }
            s
        });
    });
    group.bench_function("append 8 x 1000/vec", |b| {
        b.iter(|| {
            let mut s = Vec::new();
            for i in 0..1000u64 {
                s.extend_from_slice(black_box(&i.to_le_bytes()));
            }
            s
        });
    });
    group.finish();
}

fn intset(c: &mut Criterion) {
    let mut group = c.benchmark_group("integers 512");
    let mut rng = SmallRng::seed_from_u64(1);
    let values: Vec<i64> = (0..512).map(|_| rng.random_range(-30_000..30_000)).collect();
    let probes: Vec<i64> = (0..512).map(|_| rng.random_range(-30_000..30_000)).collect();
    group.bench_function("add/intset", |b| {
        b.iter(|| {
            let mut set = Intset::new();
            for &v in &values {
                set.add(v);
            }
            set
        });
    });
    group.bench_function("add/btree", |b| {
        b.iter(|| {
            values.iter().copied().fold(BTreeSet::new(), |mut set, v| {
                set.insert(v);
                set
            })
        })
    });
    group.bench_function("add/vec", |b| {
        b.iter(|| {
            let mut set = Vec::new();
            for &v in &values {
                if let Err(at) = set.binary_search(&v) {
                    set.insert(at, v);
                }
            }
            set
        });
    });
    let tree: BTreeSet<i64> = values.iter().copied().collect();
    let vec: Vec<i64> = tree.iter().copied().collect();
    let set = Intset::from_sorted(vec.iter().copied());
    let other = Intset::from_sorted(probes.iter().copied().collect::<BTreeSet<i64>>());
    let other_tree: BTreeSet<i64> = other.iter().collect();
    group.bench_function("contains x 512/intset", |b| {
        b.iter(|| probes.iter().filter(|&&v| set.contains(v)).count());
    });
    group.bench_function("contains x 512/btree", |b| {
        b.iter(|| probes.iter().filter(|v| tree.contains(v)).count());
    });
    group.bench_function("contains x 512/vec", |b| {
        b.iter(|| probes.iter().filter(|v| vec.binary_search(v).is_ok()).count());
    });
    group.bench_function("sum/intset", |b| b.iter(|| black_box(&set).iter().sum::<i64>()));
    group.bench_function("sum/btree", |b| b.iter(|| black_box(&tree).iter().sum::<i64>()));
    group.bench_function("intersect/intset", |b| {
        b.iter(|| {
            let mut n = 0;
            set.intersect(black_box(&other), |_| n += 1);
            n
        });
    });
    group.bench_function("intersect/btree", |b| b.iter(|| tree.intersection(black_box(&other_tree)).count()));
    group.finish();
}

/// Converts a score to an integer with the same order, for `BTreeSet`.
fn key(score: f64, member: &[u8]) -> (u64, Box<[u8]>) {
    (score as u64, member.into())
}

fn skiplist(c: &mut Criterion) {
    for n in [1_000usize, 100_000] {
        let mut group = c.benchmark_group(format!("pairs {n}"));
        group.sample_size(20);
        let mut rng = SmallRng::seed_from_u64(1);
        let pairs: Vec<(f64, String)> =
            (0..n).map(|i| (f64::from(rng.random_range(0..1u32 << 30)), format!("member:{i:09}"))).collect();
        let build = || {
            let mut list = SkipList::new(1);
            for (score, member) in &pairs {
                list.insert(*score, member.as_bytes());
            }
            list
        };
        let build_tree = || {
            pairs.iter().map(|(s, m)| key(*s, m.as_bytes())).fold(BTreeSet::new(), |mut t, p| {
                t.insert(p);
                t
            })
        };
        group.bench_function("insert/skiplist", |b| b.iter_with_large_drop(build));
        group.bench_function("insert/btree", |b| b.iter_with_large_drop(build_tree));
        let (list, tree) = (build(), build_tree());
        let sorted: Vec<(f64, Vec<u8>)> = list.iter().map(|p| (p.score(), p.member().to_vec())).collect();
        group.bench_function("bulk/skiplist", |b| {
            b.iter_with_large_drop(|| SkipList::from_sorted(1, sorted.iter().map(|(s, m)| (*s, m))));
        });
        group.bench_function("rank/skiplist", |b| {
            let mut i = 0;
            b.iter(|| {
                i = (i + 7919) % n;
                let (score, member) = &pairs[i];
                list.find(*score, member.as_bytes()).map(|node| list.rank(node))
            });
        });
        group.bench_function("by rank/skiplist", |b| {
            let mut i = 0;
            b.iter(|| {
                i = (i + 7919) % n;
                list.by_rank(i as u64).map(|node| node.score())
            });
        });
        group.bench_function("first in range/skiplist", |b| {
            let mut i = 0;
            b.iter(|| {
                i = (i + 7919) % n;
                let range = ScoreRange::inclusive(pairs[i].0, f64::INFINITY);
                list.first_in_score_range(&range).map(|node| node.score())
            });
        });
        group.bench_function("first in range/btree", |b| {
            let mut i = 0;
            b.iter(|| {
                i = (i + 7919) % n;
                tree.range(key(pairs[i].0, b"")..).next().map(|pair| pair.0)
            });
        });
        group.bench_function("walk/skiplist", |b| b.iter(|| list.iter().map(|p| p.score()).sum::<f64>()));
        group.bench_function("walk/btree", |b| b.iter(|| tree.iter().map(|p| p.0).sum::<u64>()));
        group.bench_function("remove half/skiplist", |b| {
            b.iter_batched_ref(
                build,
                |list| pairs.iter().step_by(2).all(|(s, m)| list.remove_pair(*s, m.as_bytes())),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, sds, intset, skiplist);
criterion_main!(benches);
