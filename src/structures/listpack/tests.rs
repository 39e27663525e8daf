//! Tests of the listpack: against payloads of a running Redis, against a `Vec`, and with hostile bytes.

use super::*;
use crate::stdx::alloc::size_class;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
}

fn texts(lp: &Listpack) -> Vec<Vec<u8>> {
    lp.iter().map(Item::to_vec).collect()
}

/// The samples are payloads of `DUMP` from Redis 7.0, without the RDB framing around the listpack.
#[test]
fn blobs_are_those_of_redis() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "3700000010008161020101816202dfff02816302cfff02816402f1001003816502d00002816602f1ffef03\
             8167027f01816802c08002ff",
            &[
                "a", "1", "b", "-1", "c", "4095", "d", "4096", "e", "-4096", "f", "-4097", "g", "127", "h",
                "128",
            ],
        ),
        (
            "470000001000816902f1ff7f03816a02f200800004816b02f1008003816c02f2ff7fff04816d02f2ffff7f04\
             816e02f30000800005816f02f200008004817002f3ffff7fff05ff",
            &[
                "i", "32767", "j", "32768", "k", "-32768", "l", "-32769", "m", "8388607", "n", "8388608",
                "o", "-8388608", "p", "-8388609",
            ],
        ),
        (
            "930000001600817102f3ffffff7f05817202f4000000800000000009817302f30000008005817402f4ffffff\
             7fffffffff09817502f4ffffffffffffff7f0981760293393232333337323033363835343737353830381481\
             7702f4000000000000008009817802942d39323233333732303336383534373735383039158179028330303704\
             817a02822d30038001822b3103ff",
            &[
                "q",
                "2147483647",
                "r",
                "2147483648",
                "s",
                "-2147483648",
                "t",
                "-2147483649",
                "u",
                "9223372036854775807",
                "v",
                "9223372036854775808",
                "w",
                "-9223372036854775808",
                "x",
                "-9223372036854775809",
                "y",
                "007",
                "z",
                "-0",
                "",
                "+1",
            ],
        ),
        (
            "1e00000005008568656c6c6f060a01800185776f726c640683332e3504ff",
            &["hello", "10", "", "world", "3.5"],
        ),
    ];
    for (blob, values) in cases {
        let blob = &hex(blob);
        let mut lp = Listpack::new();
        for value in values {
            lp.push_back(value.as_bytes());
        }
        lp.check();
        assert_eq!(lp.as_bytes(), blob);
        let back = Listpack::from_bytes_checked(blob).expect("valid");
        assert_eq!(back, lp);
        assert_eq!(texts(&back), values.iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>());
    }
}

/// Widths close to the limits, as Redis 7.0 writes them: it uses the next width one value early.
#[test]
fn backlens_are_those_of_redis() {
    for (len, expected) in [
        (63, "40"),
        (64, "42"),
        (126, "0180"),
        (127, "0181"),
        (4095, "2081"),
        (4096, "2085"),
        (16_377, "7ffe"),
        (16_378, "00ffff"),
        (16_379, "018080"),
        (2_097_145, "7ffffe"),
        (2_097_146, "00ffffff"),
        (2_097_147, "01808080"),
    ] {
        let mut lp = Listpack::new();
        lp.push_back(&vec![b'x'; len]);
        lp.push_back(b"y");
        lp.check();
        let expected = hex(expected);
        let end = lp.last().expect("two entries").0 as usize;
        assert_eq!(lp.as_bytes()[end - expected.len()..end], expected, "for {len} bytes");
        assert_eq!(lp.prev(lp.last().expect("two")), lp.first());
    }
}

#[test]
fn integers_are_recognised_exactly() {
    for text in ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1000000000000000000"] {
        let v: i64 = text.parse().expect("a number");
        assert_eq!(Item::from(text.as_bytes()).int(), Some(v));
        assert_eq!(Item::Int(v).len(), text.len());
        assert_eq!(Item::Int(v), Item::Str(text.as_bytes()));
        assert_eq!(Item::Int(v).to_vec(), text.as_bytes());
    }
    for text in [
        "",
        "-",
        "-0",
        "00",
        "01",
        "-01",
        "+1",
        " 1",
        "1 ",
        "1a",
        "a1",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551617",
        "99999999999999999999",
    ] {
        assert_eq!(Item::from(text.as_bytes()).int(), None, "{text:?}");
    }
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..2000 {
        let v = rng.random::<i64>() >> rng.random_range(0..64);
        let mut lp = Listpack::new();
        lp.push_back(v);
        lp.push_back(v.to_string().as_bytes());
        lp.check();
        let items: Vec<_> = lp.iter().collect();
        assert!(matches!(items[..], [Item::Int(a), Item::Int(b)] if a == v && b == v), "{v}");
    }
}

/// A random text: with a length close to the limits of an encoding, a number, or something short.
fn random_text(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0..=2 => (rng.random::<i64>() >> rng.random_range(0..64)).to_string().into_bytes(),
        3 => rng.random_range(-5i64..5).to_string().into_bytes(),
        4 => {
            let near = [63usize, 126, 127, 200][rng.random_range(0..4)];
            vec![b'a' + rng.random_range(0..3u8); near + rng.random_range(0..3) - 1]
        }
        5 if rng.random_range(0..20) == 0 => {
            let near = [4095usize, 16_378][rng.random_range(0..2)];
            vec![b'z'; near + rng.random_range(0..3) - 1]
        }
        6 => Vec::new(),
        _ => (0..rng.random_range(1..20)).map(|_| rng.random_range(b'0'..b':')).collect(),
    }
}

#[test]
fn behaves_like_a_vec() {
    for seed in 0..60 {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut lp = Listpack::new();
        for step in 0..200 {
            let text = random_text(rng);
            let n = model.len();
            let at = if n == 0 { 0 } else { rng.random_range(0..n) };
            let pos = lp.seek(at as i64);
            match (rng.random_range(0..14), pos) {
                (0 | 1, _) => {
                    lp.push_back(&text);
                    model.push(text);
                }
                (2, _) => {
                    lp.push_front(&text);
                    model.insert(0, text);
                }
                (3, Some(pos)) => {
                    assert_eq!(lp.insert_before(pos, &text), pos);
                    model.insert(at, text);
                }
                (4, Some(pos)) => {
                    let new = lp.insert_after(pos, &text);
                    assert!(lp.get(new).eq_bytes(&text));
                    model.insert(at + 1, text);
                }
                (5 | 6, Some(pos)) => {
                    lp.replace(pos, &text);
                    model[at] = text;
                }
                (7, Some(pos)) => {
                    let next = lp.remove(pos);
                    model.remove(at);
                    assert_eq!(next.map(|p| lp.get(p).to_vec()), model.get(at).cloned());
                }
                (8, _) => {
                    let count = rng.random_range(0..4);
                    let index = rng.random_range(-(n as i64) - 1..=n as i64);
                    lp.remove_range(index, count);
                    let start = if index < 0 { index + n as i64 } else { index };
                    if (0..n as i64).contains(&start) {
                        let start = start as usize;
                        model.drain(start..(start + count).min(n));
                    }
                }
                (9, _) => {
                    let more: Vec<Vec<u8>> = (0..rng.random_range(0..4)).map(|_| random_text(rng)).collect();
                    let items: Vec<Item<'_>> = more.iter().map(Item::from).collect();
                    if let Some(pos) = pos.filter(|_| rng.random()) {
                        lp.insert_all(pos, &items);
                        model.splice(at..at, more);
                    } else {
                        lp.append(&items);
                        model.extend(more);
                    }
                }
                (10, _) => {
                    let tail = lp.split_off(at);
                    tail.check();
                    lp.check();
                    assert_eq!((lp.len(), tail.len()), (at, n - at));
                    // Merged in the other order, so that the content changes.
                    lp = Listpack::merge(tail, lp);
                    model.rotate_left(at);
                }
                (11, _) if rng.random_range(0..4) == 0 => {
                    let keep = rng.random_range(0..=n + 1);
                    lp.truncate(keep);
                    model.truncate(keep);
                }
                (12, _) => {
                    let item = Item::from(&text);
                    let skip = rng.random_range(0..3);
                    let found = lp.find(item, skip);
                    let wanted = (0..n).step_by(skip + 1).find(|&i| model[i] == text);
                    assert_eq!(found, wanted.and_then(|i| lp.seek(i as i64)), "seed {seed} step {step}");
                }
                _ => {
                    let wanted = model.get(at).cloned();
                    if let Some(text) = wanted {
                        let first = model.iter().position(|m| *m == text).expect("it is there");
                        assert_eq!(lp.find(&text, 0), lp.seek(first as i64), "seed {seed} step {step}");
                    }
                }
            }
            lp.check();
            assert_eq!(lp.len(), model.len(), "seed {seed} step {step}");
            assert_eq!(texts(&lp), model, "seed {seed} step {step}");
            assert_eq!(lp.allocated(), size_class(lp.bytes()));
        }
        // All ways of iterating agree.
        let mut backward: Vec<_> = lp.iter().rev().map(Item::to_vec).collect();
        backward.reverse();
        assert_eq!(backward, model, "seed {seed}");
        let (mut steps, mut at) = (Vec::new(), lp.first());
        while let Some(pos) = at {
            steps.push(pos);
            at = lp.next(pos);
        }
        let (mut back, mut at) = (Vec::new(), lp.last());
        while let Some(pos) = at {
            back.push(pos);
            at = lp.prev(pos);
        }
        back.reverse();
        assert_eq!(steps, back);
        for (i, &pos) in steps.iter().enumerate() {
            assert_eq!(lp.seek(i as i64), Some(pos));
            assert_eq!(lp.seek(i as i64 - steps.len() as i64), Some(pos));
            assert_eq!(lp.iter().nth(i), lp.iter_from(pos).next());
        }
        assert_eq!(lp.seek(steps.len() as i64), None);
        assert_eq!(lp.seek(-(steps.len() as i64) - 1), None);
        assert_eq!((lp.seek(i64::MIN), lp.seek(i64::MAX)), (None, None));
        let pairs: Vec<_> = lp.pairs().map(|(a, b)| [a.to_vec(), b.to_vec()]).collect();
        assert_eq!(pairs, model.chunks_exact(2).map(|p| [p[0].clone(), p[1].clone()]).collect::<Vec<_>>());
        for (i, pair) in pairs.iter().enumerate() {
            assert!(lp.pairs().nth(i).is_some_and(|(a, _)| a.eq_bytes(&pair[0])));
        }
        assert_eq!(Listpack::from_bytes_checked(lp.as_bytes()).as_ref(), Ok(&lp));
        assert_eq!(lp.clone(), lp);
    }
}

#[test]
fn counts_beyond_the_header() {
    let mut lp = Listpack::new();
    let items: Vec<Item<'_>> = (0..65_534).map(Item::Int).collect();
    lp.append(&items);
    assert_eq!((lp.header_count(), lp.len()), (65_534, 65_534));
    lp.push_back(65_534);
    assert_eq!((lp.header_count(), lp.len()), (UNKNOWN, 65_535));
    lp.push_back(65_535);
    assert_eq!(lp.len(), 65_536);
    assert_eq!(lp.get(lp.seek(65_535).expect("inside")), Item::Int(65_535));
    assert_eq!(lp.get(lp.seek(-1).expect("inside")), Item::Int(65_535));
    assert_eq!((lp.seek(65_536), lp.seek(-65_537)), (None, None));
    assert_eq!(Listpack::from_bytes_checked(lp.as_bytes()).map(|lp| lp.len()), Ok(65_536));
    let tail = lp.split_off(65_000);
    assert_eq!((lp.header_count(), tail.header_count()), (65_000, 536));
    let merged = Listpack::merge(lp, tail);
    assert_eq!(merged.len(), 65_536);
    merged.check();
}

#[test]
fn a_stale_position_is_no_memory_error() {
    let rng = &mut SmallRng::seed_from_u64(7);
    for _ in 0..3000 {
        let mut lp = Listpack::new();
        for _ in 0..rng.random_range(0..8) {
            lp.push_back(&random_text(rng));
        }
        let total = lp.bytes();
        let pos = Pos(rng.random_range(0..total as u32 + 20));
        let what = rng.random_range(0..8);
        // Whatever the result, neither a sanitizer nor the size may complain.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            match what {
                0 => drop(lp.get(pos).to_vec()),
                1 => drop(lp.next(pos)),
                2 => drop(lp.prev(pos)),
                3 => drop(lp.remove(pos)),
                4 => lp.replace(pos, b"some text"),
                5 => drop(lp.insert_after(pos, b"x")),
                6 => drop(lp.insert_before(pos, 70_000)),
                _ => drop(lp.find_from(pos, &Needle::new(b"abc"), 1)),
            }
            lp.iter().for_each(|item| drop(item.to_vec()));
            lp.iter().rev().for_each(|item| drop(item.to_vec()));
        }));
        assert_eq!(lp.as_bytes().len(), lp.bytes());
    }
}

#[test]
fn other_encodings_become_canonical() {
    // "5" as text, 5 as a 64-bit integer, "a" with a 12-bit and a 32-bit length; count unknown.
    let entries = [
        &b"\x815\x02"[..],
        b"\xf4\x05\0\0\0\0\0\0\0\x09",
        b"\xe0\x01a\x03",
        b"\xf0\x01\0\0\0a\x06",
        b"\xc0\x05\x02",
    ]
    .concat();
    let total = (HEADER + entries.len() + 1) as u32;
    let blob = [&total.to_le_bytes()[..], &[0xFF, 0xFF], &entries, &[END]].concat();
    let lp = Listpack::from_bytes_checked(&blob).expect("well-formed");
    lp.check();
    assert_eq!(lp.header_count(), 5);
    assert_eq!(texts(&lp), [b"5", b"5", b"a", b"a", b"5"]);
}

#[test]
fn corrupt_blobs_are_refused_or_walkable() {
    let rng = &mut SmallRng::seed_from_u64(3);
    let mut accepted = 0;
    for round in 0..30_000 {
        let mut blob = if round % 3 == 0 {
            (0..rng.random_range(0..60)).map(|_| rng.random()).collect()
        } else {
            let mut lp = Listpack::new();
            for _ in 0..rng.random_range(0..6) {
                lp.push_back(&random_text(rng));
            }
            lp.as_bytes().to_vec()
        };
        for _ in 0..rng.random_range(0..3) {
            if !blob.is_empty() {
                let i = rng.random_range(0..blob.len());
                blob[i] = if rng.random() { rng.random() } else { blob[i] ^ (1 << rng.random_range(0..8)) };
            }
        }
        if rng.random_range(0..4) == 0 {
            blob.truncate(rng.random_range(0..=blob.len()));
        }
        if blob.len() >= EMPTY && rng.random() {
            // With a true header, so that the entries are reached.
            let total = blob.len() as u32;
            blob[..4].copy_from_slice(&total.to_le_bytes());
            if rng.random() {
                blob[4..6].fill(0xFF);
            }
            let end = blob.len() - 1;
            blob[end] = END;
        }
        if let Ok(lp) = Listpack::from_bytes_checked(&blob) {
            accepted += 1;
            lp.check();
            assert_eq!(lp.iter().count(), lp.len());
            assert_eq!(lp.iter().rev().count(), lp.len());
            let mut reversed = texts(&lp);
            reversed.reverse();
            assert_eq!(lp.iter().rev().map(Item::to_vec).collect::<Vec<_>>(), reversed);
        }
    }
    assert!(accepted > 1000);
}

#[test]
fn sizes_are_predicted() {
    let rng = &mut SmallRng::seed_from_u64(9);
    let mut lp = Listpack::new();
    for _ in 0..500 {
        let text = random_text(rng);
        let wanted = lp.bytes() + encoded_size(&text);
        lp.push_back(&text);
        assert_eq!(lp.bytes(), wanted);
    }
    assert!(lp.would_fit(1000) && !lp.would_fit(SAFETY_LIMIT) && !lp.would_fit(usize::MAX));
}

#[test]
fn a_writer_writes_what_appending_does() {
    let mut rng = SmallRng::seed_from_u64(5);
    for _ in 0..50 {
        let (mut writer, mut lp) = (Writer::with_capacity(0), Listpack::new());
        for _ in 0..rng.random_range(0..40) {
            let text = random_text(&mut rng);
            writer.push(&text);
            lp.push_back(&text);
        }
        assert_eq!(writer.finish(), lp.as_bytes());
    }
}
