//! Files with types and opcodes of newer servers.

use super::*;
use crate::persistence::rdb::format::Dialect;
use crate::stdx::crc64;

/// A file: `magic`, a string under the key `first`, `middle`, and a string under the key `last`.
fn file(magic: &[u8; 9], middle: &[u8]) -> Vec<u8> {
    let around = |key: &[u8]| [&[0, key.len() as u8][..], key, b"\x05value"].concat();
    let mut bytes = [magic, &b"\xfe\x01"[..], &around(b"first"), middle, &around(b"last"), b"\xff"].concat();
    bytes.extend(crc64::update(0, &bytes).to_le_bytes());
    bytes
}

fn load(bytes: &[u8], skip_unsupported: bool) -> (Keyspace, Result<(), LoadError>, Tally) {
    let mut space = empty();
    let options = LoadOptions { skip_unsupported, ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(bytes), Some(bytes.len() as u64), options);
    let result = loader.run(&mut space);
    (space, result, loader.tally())
}

const ARRAY: &[u8] = b"\x1c\x03arr\x04\x01\x09\x00\x00\x05hello\x01\x01\x07\0\0\0\0\0\0\0\
    \x02\x02\0\0\0\0\0\0\xf8\x3f\x40\x64\x03\xc0\x05";
/// Data of a module `test-name` under the key `mod`: a signed and an unsigned number, two floats, a string.
const MODULE: &[u8] = b"\x07\x03mod\x81\x2d\xeb\x2d\xfe\x9a\x67\x97\x00\
    \x01\x05\x02\x41\x00\x03\0\0\0\0\x04\0\0\0\0\0\0\0\0\x05\x03abc\x00";
const MODULE_AUX: &[u8] = b"\xf7\x81\x2d\xeb\x2d\xfe\x9a\x67\x97\x00\x02\x01\x05\x03abc\x00";
const METADATA: &[u8] = b"\xf3\x02\x01\x02\x03\x04\x02\x07\x00\x05\x06\x07\x08\x05\x01x\x00";

#[test]
fn unsupported_values_are_named_or_left_out() {
    let cases: [(&[u8], &str); 4] = [
        (
            ARRAY,
            "an array, a type that is not supported (see rdb-skip-unsupported), at offset 29, in a value of type \
                 28 (array), of the key 'arr'",
        ),
        (
            MODULE,
            "and modules are not supported (see rdb-skip-unsupported), at offset 38, in a value of type 7 \
                  (module-value), of the key 'mod'",
        ),
        (MODULE_AUX, "and modules are not supported, at offset 34"),
        (METADATA, "what modules keep beside the value of a key (opcode 243) is not supported, at offset 25"),
    ];
    for (middle, text) in cases {
        // An expiry before something that is left out must not go to the next key.
        let expiry = b"\xfc\x00\x00\x00\x00\x00\x10\x00\x00";
        let with_expiry = if middle == METADATA || middle == MODULE_AUX { vec![] } else { expiry.to_vec() };
        let bytes = file(b"REDIS0016", middle);
        let (space, result, tally) = load(&bytes, false);
        let error = result.expect_err("it is not supported").to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!((space.len(), tally.skipped), (1, 0));
        for middle in [middle.to_vec(), [&with_expiry, middle].concat(), middle.repeat(20)] {
            let bytes = file(b"REDIS0016", &middle);
            let (space, result, tally) = load(&bytes, true);
            result.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(space.databases()[1].len(), 2);
            assert_eq!(space.databases()[1].volatile(), 0);
            assert!(tally.skipped == 1 || tally.skipped == 20);
            // Wherever such a file is cut off, that is an error.
            for cut in 9..bytes.len() {
                assert!(load(&bytes[..cut], true).1.is_err());
            }
        }
    }
}

#[test]
fn where_a_length_is_unknown_loading_ends() {
    let cases: [(&[u8; 9], &[u8], &str); 5] = [
        (
            b"REDIS0016",
            b"\x21\x03bit\x05\x03abc",
            "a value of type 33, which is not supported; its length is unknown",
        ),
        (
            b"VALKEY081",
            b"\x17\x03pth\x01\x01a\x01b",
            "a value of type 23, which is not supported; its length",
        ),
        (b"VALKEY081", b"\x18\x03pth\x01\x01a\x01b", "a value of type 24, which is unknown; its length"),
        (b"REDIS0016", b"\x28\x03new\x01", "a value of type 40, which is unknown; its length is unknown too"),
        (b"VALKEY081", b"\xf2\x01", "the snapshot has commands in it (opcode 242 of Valkey 9.2)"),
    ];
    for (magic, middle, text) in cases {
        for skip in [false, true] {
            let (space, result, _) = load(&file(magic, middle), skip);
            let error = result.expect_err("it is not supported").to_string();
            let text = if skip { text } else { text.split("; its").next().expect("there is one") };
            assert!(error.contains(text), "{error}");
            assert_eq!(space.len(), 1, "what comes before is loaded");
        }
    }
    for (codec, name) in [(1, "LZ4"), (2, "Zstandard"), (9, "an unknown method")] {
        let bytes = [b"VCS\x01", &[codec][..], b"\x00\x01abcdefgh"].concat();
        let error = load(&bytes, true).1.expect_err("it is compressed").to_string();
        assert!(error.contains(&format!("compressed as a whole by {name}, as Valkey 9.2 does")), "{error}");
    }
}

/// Fields and values of a hash, sorted.
fn pairs(space: &Keyspace, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entry = space.databases()[1].keys().find(Key::new(key).hash(), key).expect("it is there");
    let hash: &Hash = entry.collection().expect("it is a hash");
    hash.check();
    let mut pairs: Vec<_> = hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    pairs.sort();
    pairs
}

fn expected() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(b"field1".to_vec(), b"1".to_vec()), (b"field2".to_vec(), b"x2".to_vec())]
}

#[test]
fn hashes_with_templates_are_plain_hashes() {
    // A template numbered 5, and hashes that refer to it: a listpack of the number and the values, or the number and
    // the values as strings.
    let template = b"\xf2\x05\x02\x06field1\x06field2";
    let packed = b"\x1e\x01p\x0f\x0f\0\0\0\x03\0\x05\x01\x01\x01\x82x2\x03\xff";
    let array = b"\x20\x01a\x05\xc0\x01\x02x2";
    let bytes = file(b"REDIS0015", &[&template[..], packed, array].concat());
    let (space, result, tally) = load(&bytes, false);
    result.expect("templates are known");
    assert_eq!(tally, Tally { loaded: 4, ..Tally::default() });
    assert_eq!(pairs(&space, b"p"), expected());
    assert_eq!(pairs(&space, b"a"), expected());
    let bad: [&[u8]; 6] =
        [packed, array, &template.repeat(2), b"\xf2\x05\x00", b"\xf2\x05\x02\x01f", b"\x1e\x01p\x00"];
    for bad in bad {
        assert!(load(&file(b"REDIS0015", bad), true).1.is_err(), "{}", bad.escape_ascii());
    }
    // The number of values must be that of the fields.
    let short = [&b"\xf2\x05\x01\x06field1"[..], packed].concat();
    assert!(load(&file(b"REDIS0015", &short), true).1.is_err());
    // In Valkey's files the numbers mean something else.
    assert!(load(&file(b"VALKEY081", template), true).1.is_err());
}

#[test]
fn many_hashes_do_not_multiply_a_long_template() {
    let long = [b"\xf2\x05\x01\x80\x00\x01\x00\x00".to_vec(), vec![b'f'; 1 << 16]].concat();
    let array: Vec<u8> =
        (0..5000u16).flat_map(|i| [&b"\x20\x02"[..], &i.to_le_bytes(), b"\x05\x00"].concat()).collect();
    let error = load(&file(b"REDIS0015", &[long, array].concat()), false).1.expect_err("they take too much");
    assert!(error.to_string().contains("hashes take too much from their templates"), "{error}");
}

#[test]
fn a_hash_on_its_own_brings_its_fields() {
    // A listpack of fields, or fields as strings; then a listpack of a number and the values, or values as strings.
    let fields_packed = b"\x00\x17\x17\0\0\0\x02\0\x86field1\x07\x86field2\x07\xff";
    let fields = b"\x01\x02\x06field1\x06field2";
    let values_packed = b"\x0f\x0f\0\0\0\x03\0\x00\x01\x01\x01\x82x2\x03\xff";
    let values = b"\xc0\x01\x02x2";
    for fields in [&fields_packed[..], fields] {
        for (number, values) in [(29, &values_packed[..]), (31, values)] {
            let body = [&[number][..], fields, values].concat();
            // Redis sends such payloads to its replicas without a checksum.
            let payload = [&body[..], b"\x0f\0", &[0; 8]].concat();
            let entry =
                restore(&payload, b"h", None, &LoadOptions::default()).expect("a payload of Redis 8.10");
            let mut space = empty();
            space.db(1).put(Key::new(b"h"), entry);
            assert_eq!(pairs(&space, b"h"), expected());
            let older = [&body[..], b"\x0e\0", &[0; 8]].concat();
            let refused = restore(&older, b"h", None, &LoadOptions::default());
            assert!(matches!(refused, Err(RestoreError::Trailer)), "before, payloads had one");
            for cut in 1..body.len() {
                let payload = [&body[..cut], b"\x0f\0", &[0; 8]].concat();
                assert!(restore(&payload, b"h", None, &LoadOptions::default()).is_err());
            }
        }
    }
    // A reference has no meaning without a file.
    for body in [&b"\x1e\x0d\x0d\0\0\0\x03\0\x05\x01\x01\x01\x02\x01\xff"[..], b"\x20\x05\xc0\x01\xc0\x02"] {
        let payload = [body, b"\x0f\0", &[0; 8]].concat();
        assert!(matches!(
            restore(&payload, b"h", None, &LoadOptions::default()),
            Err(RestoreError::Value(_))
        ));
    }
}

#[test]
fn every_family_has_its_own_types() {
    use crate::persistence::rdb::format::{is_supported, type_name};
    for number in 0..=255u8 {
        let redis = matches!(number, 0..=5 | 9..=27 | 29..=32);
        let valkey = matches!(number, 0..=5 | 9..=22);
        assert_eq!(is_supported(number, Dialect::Redis), redis, "{number}");
        assert_eq!(is_supported(number, Dialect::Valkey), valkey, "{number}");
        for dialect in [Dialect::Redis, Dialect::Valkey] {
            assert!(!is_supported(number, dialect) || type_name(number, dialect).is_some(), "{number}");
        }
    }
}
