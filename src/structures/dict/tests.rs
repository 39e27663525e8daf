use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::table::SLOTS;
use super::*;
use crate::stdx::crc64;

thread_local!(static LIVE: Cell<isize> = const { Cell::new(0) });

/// Number of live items of this thread.
fn live() -> isize {
    LIVE.get()
}

/// Value of [`Item`]'s `BITS` for a checksum that begins with a secret.
const LINEAR: u32 = 0;

struct Inner {
    key: Box<[u8]>,
    value: u64,
}

/// An owned `Inner`, like a `Box` but without its claim to be unique. `BITS` is the number of bits of the hash in
/// use: with few bits, chains are long. With [`LINEAR`], the hash is another one.
struct Item<const BITS: u32>(NonNull<Inner>);

impl<const BITS: u32> Item<BITS> {
    fn new(key: &[u8], value: u64) -> Self {
        LIVE.set(LIVE.get() + 1);
        Item(NonNull::from(Box::leak(Box::new(Inner { key: key.into(), value }))))
    }

    fn key(&self) -> &[u8] {
        // SAFETY: the item is alive as long as `self`.
        unsafe { &self.0.as_ref().key }
    }

    fn value(&self) -> u64 {
        // SAFETY: as in `key`.
        unsafe { self.0.as_ref().value }
    }

    fn set_value(&mut self, value: u64) {
        // SAFETY: as in `key`, and borrowed exclusively.
        unsafe { self.0.as_mut().value = value };
    }

    fn hash_of(key: &[u8]) -> u64 {
        if BITS == LINEAR {
            return crc64::update(0x5eed, key);
        }
        let hash = hash(key);
        if BITS >= 64 { hash } else { hash & ((1 << BITS) - 1) | (hash >> 62) << 62 }
    }
}

impl<const BITS: u32> Drop for Item<BITS> {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
        // SAFETY: made by `Box::leak`, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: a `NonNull` to a block of its own; the key is not changed by any method.
unsafe impl<const BITS: u32> Element for Item<BITS> {
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0.cast()
    }

    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        Item(raw.cast())
    }

    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { &raw.cast::<Inner>().as_ref().key }
    }

    unsafe fn hash(raw: NonNull<u8>) -> u64 {
        // SAFETY: the caller's promise.
        Self::hash_of(unsafe { <Self as Element>::key(raw) })
    }
}

type Plain = Item<64>;

impl<E: Element> Dict<E> {
    /// Asserts the invariants. O(n).
    fn check(&self) {
        assert!(self.is_rehashing() || self.moved == 0);
        assert!(self.tables[0].is_allocated() || !self.is_rehashing());
        let mut children = 0;
        for (t, table) in self.tables.iter().enumerate() {
            let mut used = 0;
            let start = if t == 0 { self.moved } else { 0 };
            assert!(start <= table.len());
            for index in start..table.len() {
                // SAFETY: the dict is borrowed; all slots looked at are occupied.
                unsafe {
                    let buckets: Vec<_> = chain(table.head(index)).collect();
                    children += buckets.len() - 1;
                    for (i, bucket) in buckets.iter().enumerate() {
                        let bucket = bucket.as_ref();
                        let n = bucket.occupied().len();
                        used += n;
                        if i + 1 < buckets.len() {
                            assert_eq!(n, 8, "a gap in a chain");
                        } else if i > 0 {
                            assert!(n > 0, "an empty child");
                        }
                        for slot in bucket.occupied() {
                            let hash = E::hash(bucket.get(slot));
                            assert_eq!(self.index(t, hash) & table.mask(), index);
                            assert!(bucket.matches(tag_of(hash)).any(|s| s == slot));
                        }
                    }
                }
            }
            assert_eq!(used, table.used);
        }
        assert_eq!(children, self.children as usize);
        assert_eq!(self.iter().count(), self.len());
    }
}

fn key_of(n: u64) -> Vec<u8> {
    // Lengths from 1 to 40, so that every way of comparing keys is used.
    let mut key = n.to_string().into_bytes();
    key.resize(key.len() + (n % 37) as usize, b'.');
    key
}

fn insert<const B: u32>(dict: &mut Dict<Item<B>>, n: u64, value: u64) -> Option<u64> {
    let key = key_of(n);
    match dict.entry(Item::<B>::hash_of(&key), &key) {
        Place::Occupied(mut slot) => {
            let old = slot.value();
            slot.set_value(value);
            Some(old)
        }
        Place::Vacant(place) => {
            let slot = place.insert(Item::new(&key, value));
            assert_eq!(slot.value(), value);
            None
        }
    }
}

fn filled(n: u64) -> Dict<Plain> {
    let mut dict = Dict::new();
    for i in 0..n {
        let key = key_of(i);
        dict.insert_unique(hash(&key), Item::new(&key, i));
    }
    dict
}

fn remove(dict: &mut Dict<Plain>, n: u64) -> bool {
    let key = key_of(n);
    dict.remove(hash(&key), &key).is_some()
}

fn finish(dict: &mut Dict<impl Element>) {
    while dict.rehash_step(100) {}
}

/// Random operations on a dict and on a `HashMap`, which must agree.
fn model<const B: u32>(seed: u64, steps: usize, keys: u64, policies: &[ResizePolicy]) {
    println!("seed {seed}");
    let before = live();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut dict = Dict::<Item<B>>::new();
    let mut map = HashMap::<Vec<u8>, u64>::new();
    // Phases of mostly inserting and mostly removing, so that the size varies.
    let mut phase = 0.8;
    for step in 0..steps {
        if step % 997 == 0 {
            phase = [0.9, 0.6, 0.3, 0.05][rng.random_range(0..4)];
            set_resize_policy(policies[rng.random_range(0..policies.len())]);
        }
        let n = rng.random_range(0..keys);
        let key = key_of(n);
        let hash = Item::<B>::hash_of(&key);
        let value = rng.random();
        match rng.random_range(0..20) {
            0..8 if rng.random_bool(phase) => {
                assert_eq!(insert(&mut dict, n, value), map.insert(key, value));
            }
            0..8 => {
                assert_eq!(dict.remove(hash, &key).map(|e| e.value()), map.remove(&key));
            }
            8 if !map.contains_key(&key) && rng.random_bool(phase) => {
                dict.insert_unique(hash, Item::new(&key, value));
                map.insert(key, value);
            }
            9 => match dict.find_mut(hash, &key) {
                Some(mut slot) => {
                    assert_eq!(slot.replace(Item::new(&key, value)).value(), map[&key]);
                    assert_eq!(slot.value(), value);
                    map.insert(key, value);
                }
                None => assert!(!map.contains_key(&key)),
            },
            10 => {
                if let Some(mut slot) = dict.find_mut(hash, &key) {
                    slot.map(|old| Item::new(old.key(), value));
                    assert_eq!(slot.key(), key);
                    map.insert(key, value);
                }
            }
            11 => {
                if let Some(mut slot) = dict.find_mut(hash, &key) {
                    // The pointer follows the element that was swapped in.
                    *slot = Item::new(&key, value);
                    map.insert(key, value);
                }
            }
            12 => match dict.entry(hash, &key) {
                Place::Occupied(mut slot) => {
                    slot.set_value(1);
                    assert!(map.remove(&key).is_some());
                    assert_eq!(slot.remove().value(), 1);
                }
                Place::Vacant(_) => assert!(!map.contains_key(&key)),
            },
            13 => {
                dict.rehash_step(rng.random_range(0..5));
            }
            14 => {
                let mut seen = HashSet::new();
                let mut cursor = 0;
                loop {
                    cursor = dict.scan(cursor, |e| {
                        assert_eq!(map[e.key()], e.value());
                        seen.insert(e.key().to_vec());
                    });
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!(seen.len(), map.len());
            }
            15 if step % 7 == 0 => {
                let bit = rng.random_range(0..3);
                dict.retain(|e| e.value() >> bit & 3 != 0);
                map.retain(|_, v| *v >> bit & 3 != 0);
            }
            16 => {
                let mut word = || rng.next_u64();
                match dict.random(&mut word) {
                    Some(e) => assert_eq!(map[e.key()], e.value()),
                    None => assert!(map.is_empty()),
                }
                let seen = dict.sample(7, &mut word, |e| assert_eq!(map[e.key()], e.value()));
                assert!(seen <= 7.min(map.len()) && (seen > 0 || map.is_empty()));
            }
            17 if step % 13 == 0 => dict.reserve(rng.random_range(0..200)),
            18 if step % 11 == 0 => {
                dict.shrink_if_sparse();
                dict.rehash_for(Duration::from_micros(1));
            }
            19 if step % 300 == 0 => {
                for e in dict.drain().take(3) {
                    assert_eq!(map[e.key()], e.value());
                }
                map.clear();
                assert_eq!(dict.bytes(), 0);
            }
            _ => {
                dict.prefetch_bucket(hash);
                dict.prefetch_element(hash);
                assert_eq!(dict.find(hash, &key).map(|e| e.value()), map.get(&key).copied());
            }
        }
        assert_eq!(dict.len(), map.len());
        if step % 16 == 0 {
            dict.check();
            assert_eq!(live() - before, map.len() as isize);
        }
    }
    for (key, value) in &map {
        let e = dict.find(Item::<B>::hash_of(key), key).expect("in the map, hence in the dict");
        assert_eq!((e.key(), e.value()), (&key[..], *value));
    }
    let mut all: Vec<_> = dict.iter().map(|e| (e.key().to_vec(), e.value())).collect();
    all.sort();
    let mut expected: Vec<_> = map.into_iter().collect();
    expected.sort();
    assert_eq!(all, expected);
    drop(dict);
    assert_eq!(live(), before);
    set_resize_policy(ResizePolicy::Allow);
}

#[test]
fn behaves_like_a_map_when_resizing_is_allowed() {
    for seed in 0..6 {
        model::<64>(seed, 12_000, [20, 300, 3000][seed as usize % 3], &[ResizePolicy::Allow]);
    }
}

#[test]
fn behaves_like_a_map_when_resizing_is_avoided_or_forbidden() {
    for seed in 10..14 {
        model::<64>(seed, 12_000, 1500, &[ResizePolicy::Avoid]);
        model::<64>(seed, 6_000, 400, &[ResizePolicy::Forbid]);
    }
}

#[test]
fn behaves_like_a_map_when_the_policy_changes() {
    let all = [ResizePolicy::Allow, ResizePolicy::Avoid, ResizePolicy::Forbid];
    for seed in 20..24 {
        model::<64>(seed, 20_000, [100, 1500][seed as usize % 2], &all);
    }
}

#[test]
fn behaves_like_a_map_when_hashes_collide() {
    for seed in 30..34 {
        model::<3>(seed, 6000, 400, &[ResizePolicy::Allow, ResizePolicy::Avoid]);
    }
}

#[test]
fn an_unused_dict_is_small() {
    const EMPTY: Dict<Plain> = Dict::new();
    assert!(size_of::<Dict<Plain>>() <= 64);
    let mut dict = EMPTY;
    assert_eq!(dict.bytes(), 0);
    assert_eq!(dict.table_sizes(), [0, 0]);
    assert!(dict.find(1, b"x").is_none());
    assert!(dict.find_mut(1, b"x").is_none());
    assert!(dict.remove(1, b"x").is_none());
    assert!(dict.iter().next().is_none());
    assert_eq!(dict.scan(0, |_| ()), 0);
    assert_eq!(dict.scan(u64::MAX, |_| ()), 0);
    assert!(dict.random(&mut || 0).is_none());
    assert_eq!(dict.sample(5, &mut || 0, |_| ()), 0);
    assert!(!dict.rehash_step(1) && !dict.shrink_if_sparse());
    dict.retain(|_| true);
    dict.clear();
    dict.prefetch_bucket(7);
    dict.prefetch_element(7);
    assert_eq!(dict.stats(), Stats::default());
    dict.check();
    assert_eq!(dict.bytes(), 0);
}

#[test]
fn nine_elements_need_one_bucket() {
    let mut dict = filled(9);
    assert_eq!(dict.bytes(), 64);
    insert(&mut dict, 9, 9);
    assert_eq!(dict.table_sizes(), [2, 0]);
    assert_eq!(dict.stats().tables[0].elements, 10);
    dict.check();
}

#[test]
fn grows_at_load_one_and_shrinks_below_a_tenth() {
    let mut dict = filled(9 * 1024);
    finish(&mut dict);
    assert_eq!(dict.table_sizes(), [1024, 0]);
    insert(&mut dict, 9 * 1024, 0);
    assert_eq!(dict.table_sizes(), [1024, 2048]);
    finish(&mut dict);
    let mut n = 9 * 1024;
    while dict.len() * 10 >= 2048 * 9 {
        assert!(!dict.is_rehashing(), "shrinks at {}", dict.len());
        assert!(remove(&mut dict, n));
        n -= 1;
    }

    assert_eq!(dict.table_sizes(), [2048, 256]);
    // Accesses alone complete it.
    for i in 0..2048 {
        dict.find_mut(hash(&key_of(i)), &key_of(i));
    }
    assert_eq!(dict.table_sizes(), [256, 0]);
    dict.check();
}

#[test]
fn the_policy_decides_when_to_resize() {
    set_resize_policy(ResizePolicy::Forbid);
    let mut dict = filled(1000);
    assert_eq!(dict.table_sizes(), [1, 0]);
    dict.check();
    set_resize_policy(ResizePolicy::Allow);
    insert(&mut dict, 1000, 0);
    finish(&mut dict);
    assert_eq!(dict.table_sizes(), [128, 0]);

    set_resize_policy(ResizePolicy::Avoid);
    let mut n = 1001;
    while dict.len() <= 5 * 9 * 128 {
        insert(&mut dict, n, 0);
        n += 1;
    }
    assert_eq!(dict.table_sizes(), [128, 0]);
    insert(&mut dict, n, 0);
    assert_eq!(dict.table_sizes(), [128, 1024]);
    finish(&mut dict);
    // Below a tenth, but not below a fiftieth.
    dict.retain(|e| e.key().len() == 1);
    assert_eq!(dict.table_sizes()[1], 1);
    finish(&mut dict);
    dict.check();
    set_resize_policy(ResizePolicy::Allow);
}

#[test]
fn growth_beyond_the_ceiling_is_postponed() {
    set_growth_ceiling(0);
    let mut dict = filled(9);
    assert_eq!(dict.table_sizes(), [1, 0]);
    let mut n = 9;
    while dict.len() * 1000 <= 9 * 1618 {
        insert(&mut dict, n, 0);
        assert_eq!(dict.table_sizes(), [1, 0]);
        n += 1;
    }
    insert(&mut dict, n, 0);
    finish(&mut dict);
    assert_eq!(dict.table_sizes(), [2, 0]);
    dict.check();
    // A ceiling far above changes nothing.
    set_growth_ceiling(1 << 40);
    let dict = filled(9 * 256 + 1);
    assert!(dict.table_sizes().contains(&512));
    set_growth_ceiling(usize::MAX);
}

#[test]
fn a_rehash_pauses_while_it_is_avoided_but_not_for_ever() {
    let mut dict = filled(9 * 256);
    finish(&mut dict);
    insert(&mut dict, 9 * 256, 0);
    assert_eq!(dict.table_sizes(), [256, 512]);
    set_resize_policy(ResizePolicy::Avoid);
    let moved = dict.moved;
    for i in 0..100 {
        insert(&mut dict, i, 1);
    }
    assert!(dict.rehash_step(1000) && dict.rehash_for(Duration::from_secs(100)));
    assert_eq!(dict.moved, moved);
    // If the new table is too full itself, waiting would cost more than moving.
    for i in 0..20_000 {
        insert(&mut dict, i, 1);
    }
    assert!(dict.tables[0].len() >= 512);
    set_resize_policy(ResizePolicy::Allow);
    dict.check();
}

#[test]
fn capacity_is_enough() {
    for n in [1, 9, 10, 1000, 12_345] {
        let mut dict = Dict::<Plain>::with_capacity(n);
        let sizes = dict.table_sizes();
        for i in 0..n as u64 {
            insert(&mut dict, i, i);
        }
        assert_eq!(dict.table_sizes(), sizes);
    }
    assert_eq!(Dict::<Plain>::with_capacity(0).bytes(), 0);
}

#[test]
fn scan_sees_everything_while_the_table_grows_and_shrinks() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let start = rng.random_range(1..3000);
        let mut dict = filled(start);
        // The first few stay; the others come and go.
        let stay = rng.random_range(1..=start);
        let mut next = start;
        let (mut low, mut high) = (stay, start);
        let growing = seed % 3;
        let mut seen = HashSet::new();
        let mut cursor = 0;
        for calls in 1.. {
            cursor = dict.scan(cursor, |e| {
                seen.insert(e.key().to_vec());
            });
            if cursor == 0 {
                break;
            }
            assert!(calls < 100_000, "scan does not come to an end");
            for _ in 0..rng.random_range(0..20) {
                let grow = if growing == 2 { rng.random_bool(0.5) } else { growing == 1 };
                if grow && dict.len() < 20_000 {
                    insert(&mut dict, next, 0);
                    next += 1;
                    high = next;
                } else if low < high {
                    remove(&mut dict, low);
                    low += 1;
                }
            }
            dict.rehash_step(rng.random_range(0..3));
        }
        for n in 0..stay {
            assert!(seen.contains(&key_of(n)), "element {n} of {stay} was missed");
        }
        dict.check();
    }
}

#[test]
fn random_is_fair() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut word = || rng.next_u64();
    // Load 0.4 and 0.9, a few elements, an almost empty table, and the middle of a rehash.
    let mut cases: Vec<(&str, Dict<Plain>)> = Vec::new();
    for n in [1, 2, 7, 9, 60, 500, 1000] {
        let mut dict = filled(n);
        finish(&mut dict);
        cases.push(("plain", dict));
    }
    set_resize_policy(ResizePolicy::Forbid);
    let mut sparse = Dict::with_capacity(1000);
    for i in 0..30 {
        insert(&mut sparse, i, 0);
    }
    cases.push(("sparse", sparse));
    let mut full = Dict::with_capacity(100);
    for i in 0..700 {
        insert(&mut full, i, 0);
    }
    cases.push(("overfull", full));
    set_resize_policy(ResizePolicy::Allow);
    let mut growing = filled(9 * 64 + 1);
    growing.rehash_step(20);
    assert!(growing.is_rehashing());
    cases.push(("growing", growing));
    let mut shrinking = filled(1000);
    finish(&mut shrinking);
    set_resize_policy(ResizePolicy::Forbid);
    shrinking.retain(|e| e.value() < 100);
    set_resize_policy(ResizePolicy::Allow);
    assert!(shrinking.shrink_if_sparse());
    shrinking.rehash_step(20);
    assert!(shrinking.is_rehashing());
    cases.push(("shrinking", shrinking));

    for (name, dict) in cases {
        let n = dict.len();
        let mut counts: HashMap<Vec<u8>, u32> = HashMap::new();
        const PER: usize = 100;
        for _ in 0..PER * n {
            let e = dict.random(&mut word).expect("not empty");
            *counts.entry(e.key().to_vec()).or_default() += 1;
        }
        let missing = (n - counts.len()) as f64 * PER as f64;
        let chi: f64 =
            missing + counts.values().map(|&c| (f64::from(c) - PER as f64).powi(2) / PER as f64).sum::<f64>();
        let freedom = (n - 1) as f64;
        // Five standard deviations.
        assert!(
            chi < freedom + 5.0 * (2.0 * freedom).sqrt() + 1e-9,
            "{name}, {n} elements: chi-square {chi}"
        );
    }
}

#[test]
fn random_finds_the_last_element_of_a_large_table() {
    let mut dict = Dict::<Plain>::with_capacity(500_000);
    insert(&mut dict, 1, 1);
    let mut rng = StdRng::seed_from_u64(3);
    assert_eq!(dict.random(&mut || rng.next_u64()).expect("one is there").value(), 1);
    assert_eq!(dict.sample(9, &mut || rng.next_u64(), |_| ()), 1);
}

#[test]
fn sample_reaches_every_element() {
    let mut dict = filled(9 * 64 + 1);
    let mut rng = StdRng::seed_from_u64(4);
    for _ in 0..3 {
        let mut seen = HashSet::new();
        for _ in 0..3000 {
            let mut keys = HashSet::new();
            let n = dict.sample(5, &mut || rng.next_u64(), |e| {
                keys.insert(e.key().to_vec());
            });
            assert_eq!((n, keys.len()), (5, 5), "five different elements");
            seen.extend(keys);
        }
        assert!(seen.len() > dict.len() * 9 / 10);
        assert_eq!(dict.sample(usize::MAX, &mut || rng.next_u64(), |_| ()), dict.len());
        dict.rehash_step(20);
    }
}

#[test]
fn every_element_is_dropped_once() {
    let before = live();
    for n in [0, 1, 9, 10, 100, 577, 1000] {
        drop(filled(n));
        assert_eq!(live(), before);
        let mut dict = filled(n);
        dict.rehash_step(1);
        dict.clear();
        assert_eq!(live(), before);
        let mut dict = filled(n);
        for take in 0..n.min(30) as usize {
            let kept: Vec<_> = dict.drain().take(take).collect();
            assert_eq!(live(), before + take as isize);
            drop(kept);
            dict = filled(n);
        }
        let taken = mem::take(&mut dict);
        assert_eq!((taken.len(), dict.len()), (n as usize, 0));
        assert_eq!(taken.into_iter().count(), n as usize);
    }
    assert_eq!(live(), before);
}

#[test]
fn a_forgotten_slot_loses_its_element_only() {
    let before = live();
    let mut dict = filled(300);
    let mut other = Item::new(&key_of(5), 77);
    let lost = other.0;
    {
        let mut slot = dict.find_mut(hash(&key_of(5)), &key_of(5)).expect("inserted");
        mem::swap(&mut *slot, &mut other);
        mem::forget(slot);
    }
    // `other` owns the dict's element; the item swapped in is lost with the slot.
    assert_eq!(other.value(), 5);
    assert!(dict.find(hash(&key_of(5)), &key_of(5)).is_none());
    assert_eq!(dict.iter().count(), 299);
    insert(&mut dict, 5, 78);
    for i in 300..3000 {
        insert(&mut dict, i, i);
    }
    finish(&mut dict);
    dict.check();
    drop(dict);
    drop(other);
    assert_eq!(live(), before + 1);
    // If the dict had kept a second owner, this would free it twice.
    drop(Item::<64>(lost));
    assert_eq!(live(), before);
}

#[test]
fn a_panic_in_retain_leaves_a_usable_dict() {
    let before = live();
    let mut dict = filled(500);
    let mut calls = 0;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        dict.retain(|e| {
            calls += 1;
            assert!(calls < 200, "on purpose");
            e.value() % 2 == 0
        });
    }));
    assert!(result.is_err());
    assert_eq!(live() - before, dict.len() as isize);
    dict.retain(|e| e.value() % 3 == 0);
    for n in (0..500).step_by(6) {
        assert!(dict.find(hash(&key_of(n)), &key_of(n)).is_some());
    }
    drop(dict);
    assert_eq!(live(), before);
}

#[test]
fn stats_count_chains() {
    set_resize_policy(ResizePolicy::Forbid);
    let mut dict = filled(30);
    set_resize_policy(ResizePolicy::Allow);
    let stats = dict.stats().tables[0].clone();
    // 8 + 8 + 8 + 6.
    assert_eq!((stats.buckets, stats.elements, stats.chained), (1, 30, 3));
    assert_eq!((stats.longest_chain, stats.most_elements, stats.lengths[30]), (4, 30, 1));
    assert_eq!(dict.bytes(), 4 * 64);
    for n in 0..21 {
        assert!(remove(&mut dict, n));
        dict.check();
    }
    assert_eq!(dict.bytes(), 2 * 64);
    assert!(remove(&mut dict, 21));
    assert_eq!(dict.bytes(), 64, "a child is freed with its last element");
    dict.check();
}

#[test]
fn a_dict_moves_between_threads() {
    struct Handle(u64);
    // SAFETY: the number stands for an address; the key is the handle's own, static bytes.
    unsafe impl Element for Handle {
        fn into_raw(self) -> NonNull<u8> {
            NonNull::new(std::ptr::without_provenance_mut(self.0 as usize)).expect("not 0")
        }
        unsafe fn from_raw(raw: NonNull<u8>) -> Self {
            Handle(raw.addr().get() as u64)
        }
        unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
            if raw.addr().get().is_multiple_of(2) { b"even" } else { b"odd" }
        }
    }
    let mut dict = Dict::new();
    dict.insert_unique(hash(b"even"), Handle(2));
    dict.insert_unique(hash(b"odd"), Handle(0xffff_ffff_ffff));
    let dict = std::thread::spawn(move || dict).join().expect("does not panic");
    assert_eq!(dict.find(hash(b"odd"), b"odd").expect("inserted").0, 0xffff_ffff_ffff);
}

#[test]
fn many_lookups_at_once_find_what_single_ones_do() {
    let mut dict = Dict::new();
    for i in 0..1000u64 {
        let key = (2 * i).to_string();
        dict.insert_unique(hash(key.as_bytes()), Item::<64>::new(key.as_bytes(), i));
        if !i.is_multiple_of(111) {
            continue;
        }
        for n in [0, 1, 15, 16, 17, 100] {
            let names: Vec<String> = (i..i + n).map(|name| name.to_string()).collect();
            let mut found = Vec::new();
            dict.find_each(names.iter().map(|name| Key::new(name.as_bytes())), |item| {
                found.push(item.map(|item| item.value()));
            });
            let single =
                |name: &String| dict.find(hash(name.as_bytes()), name.as_bytes()).map(|item| item.value());
            assert_eq!(found, names.iter().map(single).collect::<Vec<_>>());
        }
    }
}

fn join_agrees<const B: u32>(rng: &mut StdRng) {
    let mut joined = 0;
    for round in 0..300 {
        let (mut dicts, mut maps) = ([Dict::new(), Dict::new()], [HashMap::new(), HashMap::new()]);
        let most = [0, 1, 10, 200, 3000][round % 5];
        for (dict, map) in dicts.iter_mut().zip(&mut maps) {
            for _ in 0..rng.random_range(0..=most) {
                let (n, value) = (rng.random_range(0..most as u64 + 1), rng.random());
                insert::<B>(dict, n, value);
                map.insert(key_of(n), value);
            }
            if rng.random() {
                dict.rehash_for(Duration::from_secs(1));
            }
        }
        let [a, b] = &dicts;
        let Some(join) = a.join(b) else {
            assert!(b.join(a).is_none());
            continue;
        };
        joined += 1;
        let mut seen: Vec<_> = join.map(|e| (e.key().to_vec(), e.value())).collect();
        let in_both = maps[0].iter().filter(|(key, _)| maps[1].contains_key(*key));
        let mut expected: Vec<_> = in_both.map(|(key, value)| (key.clone(), *value)).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }
    assert!(joined > 50, "{joined}");
}

#[test]
fn a_join_finds_what_both_dicts_have() {
    let mut rng = StdRng::seed_from_u64(11);
    join_agrees::<64>(&mut rng);
    // Long chains, in tables whose lengths differ.
    join_agrees::<2>(&mut rng);
}

#[test]
fn prefetch_steps_end_behind_the_element() {
    let mut dict = Dict::new();
    assert!(!dict.prefetch_steps(7).step(), "nothing is asked for in an empty dict");
    for n in 0..100 {
        insert::<64>(&mut dict, n, n);
        let mut way = dict.prefetch_steps(hash(&key_of(n)));
        assert_eq!((0..5).map(|_| way.step()).collect::<Vec<_>>(), [true, true, false, false, false]);
    }
    dict.check();
}

#[test]
fn an_address_stands_for_one_element_whatever_its_key() {
    let mut dict = Dict::<Plain>::new();
    let (key, hash) = (key_of(1), hash(&key_of(1)));
    // Twins, which no caller creates, so that a search by key would find just one of them.
    let mut twins: Vec<NonNull<u8>> = Vec::new();
    for value in 0..20 {
        let item = Plain::new(&key, value);
        twins.push(item.0.cast());
        dict.insert_unique(hash, item);
        insert(&mut dict, 100 + value, 0);
    }
    for (value, &raw) in twins.iter().enumerate().rev() {
        assert_eq!(dict.find_address_mut(hash, raw).map(|item| item.value()), Some(value as u64));
        assert_eq!(dict.remove_address(hash, raw).map(|item| item.value()), Some(value as u64));
        dict.check();
    }
    // An address that is not in the table is only compared.
    assert!(dict.remove_address(hash, NonNull::dangling()).is_none());
    assert_eq!(dict.len(), 20);
    let mut rng = StdRng::seed_from_u64(1);
    let mut left: HashSet<Vec<u8>> = dict.iter().map(|item| item.key().to_vec()).collect();
    while let Some(item) = dict.remove_random(&mut || rng.random()) {
        assert!(left.remove(Plain::key(&item)));
        dict.check();
    }
    assert!(left.is_empty());
}

/// What a scan reveals: each key with the cursor at which it was returned, whose low bits are those of an index.
fn shown<const BITS: u32>(dict: &Dict<Item<BITS>>) -> HashMap<Vec<u8>, u64> {
    let (mut keys, mut cursor) = (HashMap::new(), 0);
    loop {
        let here = cursor;
        cursor = dict.scan(cursor, |item| {
            keys.insert(item.key().to_vec(), here);
        });
        if cursor == 0 {
            return keys;
        }
    }
}

#[test]
fn a_scan_that_removes_what_it_sees_misses_nothing() {
    for n in [100, 1000, 10_000, 60_000, 200_000] {
        for rounds_between_removals in [1, 7, 1000] {
            let mut dict = Dict::<Plain>::new();
            for i in 0..n {
                let key = format!("key:{i}");
                dict.insert_unique(hash(key.as_bytes()), Plain::new(key.as_bytes(), i));
            }
            let (mut cursor, mut seen) = (0, vec![]);
            loop {
                for _ in 0..rounds_between_removals {
                    cursor = dict.scan(cursor, |item| seen.push(item.key().to_vec()));
                    if cursor == 0 {
                        break;
                    }
                }
                for key in seen.drain(..) {
                    dict.remove(hash(&key), &key);
                    let (longest, allowed) =
                        if dict.len().is_multiple_of(64) { longest_chain(&dict) } else { (0, 0) };
                    assert!(longest <= allowed, "{longest} buckets with {} keys", dict.len());
                }
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(dict.len(), 0, "{n} keys, removed after {rounds_between_removals} calls");
            dict.check();
        }
    }
}

#[test]
fn a_table_turned_back_shrinks_later() {
    let mut dict = Dict::<Plain>::new();
    for i in 0..100_000u64 {
        let key = i.to_le_bytes();
        dict.insert_unique(hash(&key), Plain::new(&key, i));
    }
    while dict.rehash_step(1000) {}
    let shown = shown(&dict);
    let (kept, others): (Vec<_>, Vec<_>) = shown.keys().partition(|key| shown[*key] & INDEX_MASK == 5);
    others.into_iter().for_each(|key| drop(dict.remove(hash(key), key).expect("it was shown")));
    while dict.rehash_step(1000) {}
    let large = dict.table_sizes()[0];
    assert!(large * SLOTS > 8 * kept.len(), "it would have chains that are too long");
    dict.check();
    for key in &kept[..kept.len() - 100] {
        dict.remove(hash(key), key).expect("it was kept");
        dict.check();
    }
    while dict.rehash_step(1000) {}
    let (small, left) = (dict.table_sizes(), dict.len());
    assert!(small[0] <= large / 16, "{small:?} buckets of {large} for {left} of {} keys", kept.len());
    assert!(kept[kept.len() - 100..].iter().all(|key| dict.find(hash(key), key).is_some()));
}

/// Bits of an index that the attacks below work with.
const INDEX_BITS: u32 = 6;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// Keys that collide if flipping several bits of a key changes its index as flipping them one by one does.
fn derived_keys<const BITS: u32>(rng: &mut StdRng) -> Vec<[u8; 16]> {
    let mut dict = Dict::<Item<BITS>>::with_capacity(10_000);
    for n in 0..10_000 {
        insert(&mut dict, n, 0);
    }
    let base: u128 = rng.random();
    let flipped = |bit: u32| (base ^ (1 << bit)).to_le_bytes();
    for key in std::iter::once(base.to_le_bytes()).chain((0..128).map(flipped)) {
        dict.insert_unique(Item::<BITS>::hash_of(&key), Item::new(&key, 0));
    }
    while dict.rehash_step(1000) {}
    let shown = shown(&dict);
    let index = |key: [u8; 16]| shown[&key[..]] & INDEX_MASK;
    // Sets of bits whose flips cancel each other out, found by elimination.
    let (mut basis, mut neutral): (Vec<(u64, u128)>, Vec<u128>) = (Vec::new(), Vec::new());
    for bit in 0..128 {
        let (mut change, mut bits) = (index(flipped(bit)) ^ index(base.to_le_bytes()), 1u128 << bit);
        for &(other, other_bits) in &basis {
            if change ^ other < change {
                (change, bits) = (change ^ other, bits ^ other_bits);
            }
        }
        if change == 0 {
            neutral.push(bits);
        } else {
            basis.push((change, bits));
            basis.sort_unstable_by_key(|&(change, _)| std::cmp::Reverse(change));
        }
    }
    let any = |rng: &mut StdRng| neutral.iter().filter(|_| rng.random()).fold(base, |key, bits| key ^ bits);
    (0..1000).map(|_| any(rng).to_le_bytes()).collect()
}

/// The largest number of keys with one index.
fn most_with_one_index<const BITS: u32>(keys: &[[u8; 16]]) -> usize {
    let mut counts = [0; 1 << INDEX_BITS];
    keys.iter().for_each(|key| counts[(Item::<BITS>::hash_of(key) & INDEX_MASK) as usize] += 1);
    counts.into_iter().max().expect("there are indices")
}

#[test]
fn what_scans_show_does_not_tell_which_keys_collide() {
    let mut rng = StdRng::seed_from_u64(7);
    let linear = most_with_one_index::<LINEAR>(&derived_keys::<LINEAR>(&mut rng));
    assert_eq!(linear, 1000, "the attack finds out about a function that lets it");
    // 1000 / 64, and six standard deviations.
    let real = most_with_one_index::<64>(&derived_keys::<64>(&mut rng));
    assert!(real < 40, "{real} keys with one index");
}

/// Buckets in the longest chain that a lookup can meet, and in the longest allowed one.
fn longest_chain(dict: &Dict<Plain>) -> (usize, usize) {
    let tables = dict.stats().tables;
    let mean = tables.iter().map(|table| table.elements / (SLOTS - 1) / table.buckets.max(1)).max();
    let longest = tables.iter().map(|table| table.longest_chain).max();
    (longest.unwrap_or(0), 32 + 2 * (mean.unwrap_or(0) + 1) + 1)
}

#[test]
fn keys_gathered_from_one_bucket_make_no_long_chain() {
    let mut rng = StdRng::seed_from_u64(8);
    let mut dict = Dict::<Plain>::new();
    for round in 0..3 {
        println!("round {round}");
        // Fills the table, scans it, and keeps only keys whose indices share some bits: they lie in few buckets when
        // the table has shrunk.
        for _ in 0..100_000 {
            let key: [u8; 16] = rng.random();
            dict.insert_unique(hash(&key), Plain::new(&key, 0));
        }
        while dict.rehash_step(1000) {}
        let shown = shown(&dict);
        assert_eq!(shown.len(), dict.len(), "a scan shows everything");
        let (kept, others): (Vec<_>, Vec<_>) = shown.keys().partition(|key| shown[*key] & INDEX_MASK == 5);
        assert!(kept.len() > 1000);
        for (i, key) in others.into_iter().enumerate() {
            assert!(dict.remove(hash(key), key).is_some());
            if i % 512 == 0 || dict.len() < kept.len() + 100 || dict.is_rehashing() && i % 16 == 0 {
                let (longest, allowed) = longest_chain(&dict);
                assert!(longest <= allowed, "{longest} buckets with {} keys", dict.len());
            }
        }
        dict.check();
        // The same keys in another table. Without a key, they would all have one of few indices.
        let mut own = Dict::<Plain>::new();
        for (i, key) in kept.iter().enumerate() {
            own.insert_unique(hash(key), Plain::new(key, i as u64));
            let (longest, allowed) = longest_chain(&own);
            assert!(longest <= allowed, "{longest} buckets with {i} keys");
        }
        own.check();
        for dict in [&dict, &own] {
            assert_eq!(dict.len(), kept.len());
            assert!(kept.iter().all(|key| dict.find(hash(key), key).is_some()));
        }
        if round == 0 {
            let indices: HashSet<u64> = kept.iter().map(|key| hash(key) & INDEX_MASK).collect();
            assert_eq!(indices.len(), 1, "the attack does what it says");
            assert!(own.keys[0] != own.keys[1] || own.keys[0] != 0, "the table was keyed");
        }
    }
}
