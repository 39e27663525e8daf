//! Tests of the quicklist against a `Vec`, over many fills, depths and thresholds.

use super::*;
use crate::structures::lzf;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

type Model = Vec<Vec<u8>>;

fn contents(list: &Quicklist) -> Model {
    let mut all = Vec::new();
    list.visit(0, Direction::Forward, |item| {
        all.push(item.to_vec());
        true
    });
    all
}

/// A random element: a number, something short, or about `scale` bytes; compressible or not.
fn element(rng: &mut SmallRng, scale: usize) -> Vec<u8> {
    match rng.random_range(0..8) {
        0 | 1 => (rng.random::<i64>() >> rng.random_range(0..64)).to_string().into_bytes(),
        2 => Vec::new(),
        3 => {
            let len = rng.random_range(0..=scale + scale / 8);
            (0..len).map(|_| rng.random()).collect()
        }
        4 => vec![rng.random_range(b'a'..b'd'); rng.random_range(0..=scale + scale / 8)],
        5 => [b'=', rng.random_range(b'a'..b'd')].repeat(rng.random_range(0..=scale / 16)),
        _ => format!("element:{}", rng.random_range(0..30)).into_bytes(),
    }
}

fn check(list: &Quicklist, model: &Model, adopted: bool, what: &str) {
    list.check();
    assert_eq!(list.len(), model.len(), "{what}");
    assert_eq!(contents(list), *model, "{what}");
    let options = list.options();
    for node in list.nodes() {
        if let NodeRef::Packed(entries) = node {
            let within = entries.len() == 1 || options.allows(entries.len(), entries.bytes());
            assert!(within || adopted, "{what}: {} elements in {} bytes", entries.len(), entries.bytes());
        }
    }
    assert!(list.bytes() >= size_of::<Quicklist>());
}

fn direction(rng: &mut SmallRng) -> Direction {
    if rng.random() { Direction::Forward } else { Direction::Backward }
}

/// Iterates with a cursor from a random element on and edits at random.
fn edit_underway(list: &mut Quicklist, model: &mut Model, rng: &mut SmallRng, scale: usize, what: &str) {
    if model.is_empty() {
        assert!(list.cursor(0, Direction::Forward).next().is_none());
        return;
    }
    let direction = direction(rng);
    let forward = direction == Direction::Forward;
    let start = rng.random_range(0..model.len());
    let mut cursor = list.cursor(start as i64 - if rng.random() { model.len() as i64 } else { 0 }, direction);
    // The cursor of the model: the index of the next element, as a signed number.
    let mut upcoming = start as i64;
    let rare = rng.random_range(1..6);
    for _ in 0..rng.random_range(1..40) {
        let wanted = usize::try_from(upcoming).ok().filter(|&i| i < model.len());
        assert_eq!(cursor.next().map(Item::to_vec), wanted.map(|i| model[i].clone()), "{what}");
        let Some(mut at) = wanted else { return };
        assert_eq!(cursor.index(), Some(at), "{what}");
        for _ in 0..rng.random_range(0..3) {
            let new = element(rng, scale);
            match rng.random_range(0..3 * rare) {
                0 => {
                    cursor.insert_before(&new);
                    model.insert(at, new);
                    at += 1;
                }
                1 => {
                    cursor.insert_after(&new);
                    model.insert(at + 1, new);
                }
                2 => {
                    cursor.replace(&new);
                    model[at] = new;
                }
                _ => {}
            }
            assert_eq!(cursor.item().map(Item::to_vec), Some(model[at].clone()), "{what}");
            assert_eq!(cursor.index(), Some(at), "{what}");
        }
        if rng.random_range(0..rare) == 0 {
            cursor.remove();
            assert!(cursor.item().is_none() && cursor.index().is_none());
            model.remove(at);
            upcoming = if forward { at as i64 } else { at as i64 - 1 };
        } else {
            upcoming = if forward { at as i64 + 1 } else { at as i64 - 1 };
        }
    }
}

/// Reads from a random element on, in every possible way.
fn read(list: &Quicklist, model: &Model, rng: &mut SmallRng, what: &str) {
    let len = model.len() as i64;
    let index = rng.random_range(-len - 2..=len + 2);
    let absolute = usize::try_from(if index < 0 { index + len } else { index }).ok();
    let absolute = absolute.filter(|&i| i < model.len());
    assert_eq!(list.get(index).map(|e| e.item().to_vec()), absolute.map(|i| model[i].clone()), "{what}");
    let direction = direction(rng);
    let wanted: Vec<&[u8]> = match (absolute, direction) {
        (None, _) => Vec::new(),
        (Some(i), Direction::Forward) => model[i..].iter().map(Vec::as_slice).collect(),
        (Some(i), Direction::Backward) => model[..=i].iter().rev().map(Vec::as_slice).collect(),
    };
    let mut iter = list.iter(index, direction);
    for text in &wanted {
        assert!(iter.next().is_some_and(|item| item.eq_bytes(text)), "{what}");
    }
    assert!(iter.next().is_none() && iter.next().is_none(), "{what}");
    let stop = rng.random_range(0..=wanted.len());
    let mut seen = 0;
    list.visit(index, direction, |item| {
        assert!(item.eq_bytes(wanted[seen]), "{what}");
        seen += 1;
        seen < stop
    });
    assert_eq!(seen, stop.max(usize::from(!wanted.is_empty())).min(wanted.len()), "{what}");
}

fn model_test(options: QuicklistOptions, seed: u64, steps: usize, scale: usize) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut list = Quicklist::new(options);
    let mut model = Model::new();
    let mut adopted = false;
    for step in 0..steps {
        let what = format!("{options:?}, seed {seed}, step {step}");
        let len = model.len() as i64;
        match rng.random_range(0..20) {
            0..=3 => {
                for _ in 0..rng.random_range(1..12) {
                    let new = element(rng, scale);
                    list.push_back(&new);
                    model.push(new);
                }
            }
            4..=6 => {
                for _ in 0..rng.random_range(1..12) {
                    let new = element(rng, scale);
                    list.push_front(&new);
                    model.insert(0, new);
                }
            }
            7 => {
                for _ in 0..rng.random_range(1..20) {
                    assert_eq!(list.peek(Direction::Backward).map(Item::to_vec), model.last().cloned());
                    assert_eq!(list.pop_back(|item| item.to_vec()), model.pop(), "{what}");
                }
            }
            8 => {
                for _ in 0..rng.random_range(1..20) {
                    assert_eq!(list.front().map(Item::to_vec), model.first().cloned());
                    let wanted = (!model.is_empty()).then(|| model.remove(0));
                    assert_eq!(list.pop_front(|item| item.to_vec()), wanted, "{what}");
                }
            }
            9..=12 => edit_underway(&mut list, &mut model, rng, scale, &what),
            13 => {
                let start = rng.random_range(-len - 1..=len);
                let count = rng.random_range(0..30.min(model.len() + 3));
                let deleted = list.delete_range(start, count);
                let start = usize::try_from(if start < 0 { start + len } else { start }).ok();
                let wanted = start.filter(|&s| s < model.len()).map_or(0, |s| {
                    let end = (s + count).min(model.len());
                    model.drain(s..end).count()
                });
                assert_eq!(deleted, wanted, "{what}");
            }
            14 => {
                list.rotate();
                if !model.is_empty() {
                    model.rotate_right(1);
                }
            }
            15 => {
                let index = rng.random_range(-len - 1..=len);
                let new = element(rng, scale);
                let at = usize::try_from(if index < 0 { index + len } else { index }).ok();
                let at = at.filter(|&i| i < model.len());
                assert_eq!(list.replace(index, &new), at.is_some(), "{what}");
                if let Some(at) = at {
                    model[at] = new;
                }
            }
            16 if rng.random_range(0..5) == 0 => {
                let mut entries = Listpack::new();
                for _ in 0..rng.random_range(0..10) {
                    let new = element(rng, scale.min(50));
                    entries.push_back(&new);
                    model.push(new);
                }
                list.append_listpack(entries);
                if rng.random() {
                    let new = element(rng, scale);
                    list.append_plain(new.clone());
                    model.push(new);
                }
                adopted = true;
            }
            17 => {
                let copy = list.clone();
                check(&copy, &model, adopted, &what);
                list = copy;
            }
            18 if rng.random_range(0..4) == 0 => {
                list.set_options(QuicklistOptions { depth: rng.random_range(0..4), ..options });
                check(&list, &model, adopted, &what);
                list.set_options(options);
            }
            _ => read(&list, &model, rng, &what),
        }
        check(&list, &model, adopted, &what);
        if model.len() > 400 {
            list.delete_range(50, 300);
            model.drain(50..350);
        }
    }
}

#[test]
fn behaves_like_a_vec_with_counted_nodes() {
    for fill in [0, 1, 2, 5, 30, 128] {
        for depth in 0..4 {
            for packed_threshold in [1, 12, 60, 1 << 30] {
                let options = QuicklistOptions { fill, depth, packed_threshold };
                let seed = (fill as u64) << 40 | u64::from(depth) << 36 | u64::from(packed_threshold);
                model_test(options, seed, 150, 90);
            }
        }
    }
}

#[test]
fn behaves_like_a_vec_with_nodes_limited_in_bytes() {
    for (fill, scale) in [(-1, 900), (-1, 4600), (-2, 3000), (-3, 6000), (-5, 20_000), (10, 8200)] {
        for depth in [0, 1, 2] {
            for packed_threshold in [700, 1 << 30] {
                let options = QuicklistOptions { fill, depth, packed_threshold };
                model_test(options, scale as u64 + u64::from(depth), 120, scale);
            }
        }
    }
}

#[test]
fn nodes_grow_as_the_fill_says() {
    for (fill, per_node) in [(1, 1), (3, 3), (0, 1)] {
        let mut list = Quicklist::new(QuicklistOptions { fill, ..QuicklistOptions::default() });
        (0..30).for_each(|i| list.push_back(i));
        assert_eq!(list.node_count(), 30 / per_node);
    }
    for (fill, limit) in [(-1, 4096), (-2, 8192), (-3, 16_384), (-4, 32_768), (-5, 65_536), (-9, 65_536)] {
        let mut list = Quicklist::new(QuicklistOptions { fill, ..QuicklistOptions::default() });
        (0..3 * ((limit - LISTPACK_FRAME) / 52) + 1).for_each(|_| list.push_back(&[b'x'; 50]));
        assert_eq!(list.node_count(), 4, "fill {fill}: three full nodes and a rest");
        let first = list.nodes().next();
        assert!(matches!(first, Some(NodeRef::Packed(lp)) if lp.bytes() <= limit && lp.bytes() > limit - 52));
        list.push_back(&vec![b'x'; limit]);
        assert!(matches!(list.nodes().last(), Some(NodeRef::Packed(lp)) if lp.len() == 1));
        list.push_back(&vec![b'x'; limit + 1]);
        assert!(matches!(list.nodes().last(), Some(NodeRef::Plain(_))));
        list.check();
    }
    let mut list = Quicklist::new(QuicklistOptions { packed_threshold: 5, ..QuicklistOptions::default() });
    for text in [&b"1234"[..], b"12345", b"abcd", b"abcde"] {
        list.push_back(text);
    }
    let plain: Vec<bool> = list.nodes().map(|node| matches!(node, NodeRef::Plain(_))).collect();
    assert_eq!(plain, [false, true, false, true]);
}

#[test]
fn inner_nodes_are_compressed() {
    let options = QuicklistOptions { fill: 16, depth: 2, ..QuicklistOptions::default() };
    let mut list = Quicklist::new(options);
    (0..16 * 8).for_each(|i| list.push_back(format!("element number {i}").as_bytes()));
    let compressed = |list: &Quicklist| -> String {
        list.nodes().map(|node| if matches!(node, NodeRef::PackedLzf { .. }) { 'z' } else { '-' }).collect()
    };
    assert_eq!(compressed(&list), "--zzzz--");
    for node in list.nodes() {
        if let NodeRef::PackedLzf { raw_len, stream } = node {
            let raw = lzf::decompress(stream, raw_len).expect("a valid stream");
            assert_eq!(Listpack::from_bytes_checked(&raw).map(|lp| lp.len()), Ok(16));
        }
    }
    // They stay so when they are read, and after the cursor that edits them has gone.
    assert!(list.get(64).is_some_and(|entry| entry.item().eq_bytes(b"element number 64")));
    assert!(list.replace(64, b"other"));
    assert_eq!(compressed(&list), "--zzzz--");
    let uncompressed = {
        let mut list = list.clone();
        list.set_options(QuicklistOptions { depth: 0, ..options });
        list.bytes()
    };
    assert!(list.bytes() < uncompressed);
    list.delete_range(0, 32);
    assert_eq!(compressed(&list), "--zz--");
}

#[test]
fn small_neighbours_merge() {
    let mut list = Quicklist::new(QuicklistOptions { fill: 4, ..QuicklistOptions::default() });
    (0..16).for_each(|i| list.push_back(i));
    assert_eq!(list.node_count(), 4);
    list.delete_range(2, 12);
    assert_eq!(list.node_count(), 1);
    let mut list = Quicklist::new(QuicklistOptions { fill: 4, ..QuicklistOptions::default() });
    (0..400).for_each(|i| list.push_back(i));
    let mut cursor = list.cursor(0, Direction::Forward);
    while let Some(item) = cursor.next() {
        if item.int().is_some_and(|v| v % 4 != 0) {
            cursor.remove();
        }
    }
    drop(cursor);
    list.check();
    assert_eq!(list.len(), 100);
    assert!(list.node_count() <= 50, "{} nodes", list.node_count());
}

#[test]
fn becomes_and_comes_from_one_listpack() {
    let entries = Listpack::from_items(&[Item::Int(1), Item::Str(b"two")]);
    let mut list = Quicklist::from_listpack(entries.clone(), QuicklistOptions::default());
    assert_eq!(list.single_listpack(), Some(&entries));
    list.push_back(3);
    let back = list.into_listpack().unwrap_or_else(|_| panic!("one node"));
    assert_eq!(back, Listpack::from_items(&[Item::Int(1), Item::Str(b"two"), Item::Int(3)]));
    let mut list = Quicklist::new(QuicklistOptions::default());
    assert!(list.single_listpack().is_none());
    list.append_plain(b"alone".to_vec());
    assert!(list.into_listpack().is_err_and(|list| list.len() == 1));
}

#[test]
fn a_long_list_gives_its_memory_back_and_may_be_dropped_elsewhere() {
    let mut list = Quicklist::new(QuicklistOptions { fill: 1, ..QuicklistOptions::default() });
    let empty = list.bytes();
    for i in 0..10_000 {
        list.push(Item::Int(i), if i % 2 == 0 { Direction::Forward } else { Direction::Backward });
    }
    let full = list.bytes();
    while list.len() > 3 {
        list.pop_front(|_| ());
    }
    list.check();
    assert!(list.bytes() < empty + (full - empty) / 100, "{} of {full} bytes", list.bytes());
    std::thread::spawn(move || drop(list)).join().expect("no panic");
}
