//! Checks, for every type and encoding, that loading verifies the invariants on which the structures rely.

use super::*;
use crate::persistence::rdb::format::{NEVER, value_type::*};
use crate::stdx::crc64;
use crate::structures::listpack::{Item, Listpack};

/// How the keys of a collection, each with some companion data, are written: type number, version of the format, and
/// body.
struct Written {
    number: u8,
    version: u16,
    body: fn(&[Vec<u8>]) -> Vec<u8>,
}

fn output(write: impl FnOnce(&mut Output<'_>)) -> Vec<u8> {
    let mut out = Output::to_memory(false);
    write(&mut out);
    out.into_bytes()
}

/// The number of keys, then each key as `write` writes it.
fn counted(keys: &[Vec<u8>], mut write: impl FnMut(&mut Output<'_>, usize, &[u8])) -> Vec<u8> {
    output(|out| {
        out.len(keys.len());
        keys.iter().enumerate().for_each(|(i, key)| write(out, i, key));
    })
}

/// A listpack of keys, each followed by what `beside` returns for its index.
fn listpack(keys: &[Vec<u8>], beside: impl Fn(usize) -> Vec<i64>) -> Vec<u8> {
    let mut pack = Listpack::new();
    for (i, key) in keys.iter().enumerate() {
        pack.push_back(Item::Str(key));
        beside(i).into_iter().for_each(|n| pack.push_back(Item::Int(n)));
    }
    output(|out| out.string(pack.as_bytes()))
}

/// A ziplist of short keys, each followed by its index if `pairs`.
fn ziplist(keys: &[Vec<u8>], pairs: bool) -> Vec<u8> {
    let (mut blob, mut before, mut last, mut count) = (vec![0; 10], 0, 10, 0u16);
    for (i, key) in keys.iter().enumerate() {
        let place = format!("{i:04}").into_bytes();
        for text in std::iter::once(key).chain(pairs.then_some(&place)) {
            last = blob.len();
            blob.extend([before, text.len() as u8]);
            blob.extend(text);
            before = (blob.len() - last) as u8;
            count += 1;
        }
    }
    blob.push(0xff);
    let total = blob.len() as u32;
    blob[..4].copy_from_slice(&total.to_le_bytes());
    blob[4..8].copy_from_slice(&(last as u32).to_le_bytes());
    blob[8..10].copy_from_slice(&count.to_le_bytes());
    output(|out| out.string(&blob))
}

fn zipmap(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut blob = vec![keys.len().min(254) as u8];
    for key in keys {
        blob.push(key.len() as u8);
        blob.extend(key);
        blob.extend(b"\x01\x00v");
    }
    blob.push(0xff);
    output(|out| out.string(&blob))
}

fn text_score(out: &mut Output<'_>, text: &[u8]) {
    out.byte(text.len() as u8);
    out.raw(text);
}

/// A distant expiry for the key with this index, or none.
fn some_expiry(i: usize) -> i64 {
    if i.is_multiple_of(3) { 0 } else { (1 << 45) + i as i64 }
}

const WRITTEN: &[Written] = &[
    Written { number: SET, version: 10, body: |keys| counted(keys, |out, _, key| out.string(key)) },
    Written { number: SET_LISTPACK, version: 11, body: |keys| listpack(keys, |_| Vec::new()) },
    Written {
        number: ZSET,
        version: 10,
        body: |keys| {
            counted(keys, |out, i, key| {
                out.string(key);
                text_score(out, i.to_string().as_bytes());
            })
        },
    },
    Written {
        number: ZSET_2,
        version: 10,
        body: |keys| {
            counted(keys, |out, i, key| {
                out.string(key);
                out.raw(&(i as f64).to_le_bytes());
            })
        },
    },
    Written { number: ZSET_ZIPLIST, version: 6, body: |keys| ziplist(keys, true) },
    Written { number: ZSET_LISTPACK, version: 10, body: |keys| listpack(keys, |i| vec![i as i64]) },
    Written {
        number: HASH,
        version: 10,
        body: |keys| {
            counted(keys, |out, _, key| {
                out.string(key);
                out.string(b"value");
            })
        },
    },
    Written { number: HASH_ZIPMAP, version: 2, body: zipmap },
    Written { number: HASH_ZIPLIST, version: 6, body: |keys| ziplist(keys, true) },
    Written { number: HASH_LISTPACK, version: 11, body: |keys| listpack(keys, |_| vec![1]) },
    Written {
        number: VALKEY_HASH_2,
        version: 80,
        body: |keys| {
            counted(keys, |out, i, key| {
                out.string(key);
                out.string(b"value");
                let at = Some(some_expiry(i)).filter(|&at| at != 0).unwrap_or(NEVER);
                out.raw(&at.to_le_bytes());
            })
        },
    },
    Written {
        number: HASH_METADATA_PRE_GA,
        version: 12,
        body: |keys| {
            counted(keys, |out, i, key| {
                out.len(some_expiry(i) as usize);
                out.string(key);
                out.string(b"value");
            })
        },
    },
    Written {
        number: HASH_METADATA,
        version: 12,
        body: |keys| {
            let fields = counted(keys, |out, i, key| {
                out.len(i % 3);
                out.string(key);
                out.string(b"value");
            });
            [&(1i64 << 45).to_le_bytes()[..], &fields].concat()
        },
    },
    Written {
        number: HASH_LISTPACK_EX_PRE_GA,
        version: 12,
        body: |keys| listpack(keys, |i| vec![1, some_expiry(i)]),
    },
    Written {
        number: HASH_LISTPACK_EX,
        version: 12,
        body: |keys| {
            let pack = listpack(keys, |i| vec![1, some_expiry(i)]);
            [&(1i64 << 45).to_le_bytes()[..], &pack].concat()
        },
    },
];

fn payload(number: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[number], body, &version.to_le_bytes()].concat();
    let sum = crc64::update(0, &bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn restored(number: u8, version: u16, body: &[u8], limits: &Limits) -> Result<Entry, RestoreError> {
    let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
    restore(&payload(number, version, body), b"key", None, &options)
}

/// Different keys, some of them integers.
fn different_keys(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| if i % 2 == 0 { i.to_string() } else { format!("key:{i}") }.into_bytes()).collect()
}

#[test]
fn no_field_or_member_comes_in_twice() {
    let mut rng = Rng::new(1);
    for limits in [Limits::default(), low(&mut rng)] {
        for Written { number, version, body } in WRITTEN {
            for n in [2, 3, 8, 9, 64, 200] {
                let keys = different_keys(n);
                let entry = restored(*number, *version, &body(&keys), &limits).expect("all is well");
                check(&entry);
                assert_eq!(entry.describe().map(Describe::len), Some(n), "type {number}");
                for _ in 0..10 {
                    let (mut twins, one, other) = (keys.clone(), rng.index(n), rng.index(n));
                    twins[one].clone_from(&keys[other]);
                    let refused = restored(*number, *version, &body(&twins), &limits);
                    let right = matches!(refused, Err(RestoreError::Value(_))) == (one != other);
                    assert!(right, "type {number}: {one} and {other} of {n}");
                }
                // Each key twice.
                let twins: Vec<Vec<u8>> = keys.iter().flat_map(|key| [key.clone(), key.clone()]).collect();
                assert!(restored(*number, *version, &body(&twins), &limits).is_err(), "type {number}");
            }
        }
    }
}

/// Whatever is saved of these values, in every version, can be loaded again.
#[test]
fn what_comes_in_can_be_saved_and_loaded() {
    let mut rng = Rng::new(2);
    for limits in [Limits::default(), low(&mut rng)] {
        for Written { number, version, body } in WRITTEN {
            for n in [1, 8, 9, 200] {
                let entry =
                    restored(*number, *version, &body(&different_keys(n)), &limits).expect("it is sound");
                let before = portrait(&entry);
                let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
                for version in [Version::Redis70, Version::Redis72, Version::Redis74, Version::Valkey9] {
                    let bytes = dump(&entry, version, rng.one_in(2));
                    let back = restore(&bytes, b"key", None, &options).expect("our own payload");
                    check(&back);
                    assert_eq!(portrait(&back), before, "type {number}, {version:?}");
                }
                let mut space = empty();
                space.db(0).put(Key::new(b"key"), entry);
                for version in [Version::Redis70, Version::Redis72, Version::Redis74, Version::Valkey9] {
                    let again = loaded(&saved(&space, version), &limits).expect("our own file");
                    assert_same(&again, &portraits(&space));
                }
            }
        }
    }
}

#[test]
fn what_is_sorted_comes_in_sorted() {
    let limits = Limits::default();
    let ints = |width: u32, ints: &[i64]| {
        let mut blob = [width.to_le_bytes(), (ints.len() as u32).to_le_bytes()].concat();
        ints.iter().for_each(|n| blob.extend(&n.to_le_bytes()[..width as usize]));
        let body = output(|out| out.string(&blob));
        restored(SET_INTSET, 11, &body, &limits).map(|entry| check(&entry)).is_ok()
    };
    for width in [2, 4, 8] {
        assert!(ints(width, &[-5, 3, 7]));
        assert!(!ints(width, &[-5, 7, 3]));
        assert!(!ints(width, &[3, 3, 7]));
    }
    let zset = |pairs: &[(&[u8], &[u8])]| {
        let mut pack = Listpack::new();
        pairs.iter().for_each(|(member, score)| pack.append(&[Item::Str(member), Item::Str(score)]));
        let body = output(|out| out.string(pack.as_bytes()));
        restored(ZSET_LISTPACK, 11, &body, &limits).map(|entry| check(&entry)).is_ok()
    };
    assert!(zset(&[(b"a", b"-inf"), (b"b", b"1.5"), (b"c", b"1.5"), (b"a2", b"inf")]));
    assert!(!zset(&[(b"a", b"2"), (b"b", b"1.5")]));
    assert!(!zset(&[(b"b", b"1.5"), (b"a", b"1.5")]));
    for no_score in [&b"nan"[..], b"-nan", b"", b"1x", b"x"] {
        assert!(!zset(&[(b"a", b"1"), (b"b", no_score)]), "{}", no_score.escape_ascii());
        let text = counted(&[b"a".to_vec()], |out, _, key| {
            out.string(key);
            text_score(out, no_score);
        });
        assert!(restored(ZSET, 10, &text, &limits).is_err(), "{}", no_score.escape_ascii());
    }
    let nan = counted(&[b"a".to_vec()], |out, _, key| {
        out.string(key);
        out.raw(&f64::NAN.to_le_bytes());
    });
    assert!(restored(ZSET_2, 10, &nan, &limits).is_err());
    for number in [HASH_LISTPACK, ZSET_LISTPACK, HASH_LISTPACK_EX_PRE_GA] {
        let body = listpack(&different_keys(1), |_| vec![1, 1, 1, 1]);
        assert!(restored(number, 12, &body, &limits).is_err(), "type {number} of five entries");
    }
}

#[test]
fn expiries_of_fields_at_the_extremes() {
    let limits = Limits::default();
    let with = |least: i64, distance: u64| {
        let body = output(|out| {
            out.raw(&least.to_le_bytes());
            out.len(1);
            out.len(distance as usize);
            out.string(b"field");
            out.string(b"value");
        });
        let entry = restored(HASH_METADATA, 12, &body, &limits).ok()?;
        let hash = entry.collection::<Hash>().expect("it is a hash");
        hash.iter_with_expiry().next().map(|(_, _, at)| at.map(|at| at.0))
    };
    assert_eq!(with(i64::MIN, 0), Some(None));
    assert_eq!(with(i64::MIN, 1), None);
    assert_eq!(with(i64::MIN, u64::MAX), Some(Some(i64::MAX - 1)));
    assert_eq!(with(-1, 1), None);
    assert_eq!(with(0, 1), Some(Some(0)));
    assert_eq!(with(0, 1 << 63), Some(Some(i64::MAX)));
    assert_eq!(with(0, u64::MAX), None);
    assert_eq!(with(i64::MAX, 1), Some(Some(i64::MAX)));
    assert_eq!(with(i64::MAX, 2), None);
    // The first and the last representable expiry in one hash, in each format that can store them.
    let mut hash = Hash::new();
    for (field, at) in [(b"a", 0), (b"b", i64::MAX)] {
        hash.put(field, Value::Bytes(b"v"), NewExpiry::At(UnixMillis(at)), &limits, UnixMillis(0));
    }
    let entry = Entry::with_collection(b"key", None, hash);
    for version in [Version::Redis74, Version::Valkey9] {
        let bytes = dump(&entry, version, false);
        let back = restore(&bytes, b"key", None, &LoadOptions::default()).expect("our own payload");
        assert_eq!(portrait(&back), portrait(&entry), "{version:?}");
    }
}

#[test]
fn keys_expire_at_the_extremes_too() {
    for at in [i64::MIN, -1, 0, i64::MAX] {
        let mut file = b"REDIS0011\xfe\x00\xfc".to_vec();
        file.extend(at.to_le_bytes());
        file.extend(b"\x00\x03key\x05value\xff\0\0\0\0\0\0\0\0");
        let mut space = loaded(&file, &Limits::default()).expect("a file");
        let again = loaded(&saved(&space, Version::Redis72), &Limits::default()).expect("our own file");
        assert_same(&again, &portraits(&space));
        ActiveExpire::default().run_to_end(
            &mut space,
            Cycle::Slow { tick: std::time::Duration::from_secs(1) },
            10,
        );
        assert_eq!(space.len(), usize::from(at == i64::MAX), "at {at}");
    }
}

#[test]
fn a_file_with_a_field_twice_names_key_and_place() {
    let fields = [b"a".to_vec(), b"b".to_vec(), b"a".to_vec()];
    let mut file = b"REDIS0011\xfe\x00\x10\x03key".to_vec();
    file.extend(listpack(&fields, |_| vec![1]));
    let end = file.len();
    file.extend(b"\xff\0\0\0\0\0\0\0\0");
    let error = loaded(&file, &Limits::default()).err().expect("a field occurs twice");
    assert_eq!(error.offset, end as u64);
    assert_eq!(error.key.as_deref(), Some(&b"key"[..]));
    assert!(error.to_string().contains("Hash listpack integrity check failed"), "{error}");
}
