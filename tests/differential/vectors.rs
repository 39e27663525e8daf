//! Vector sets: replies, scores and payloads beside those of Redis 8.2.
//!
//! What a search finds depends on the graph, which depends on chance there, so that searches compare the vector with all
//! elements (`TRUTH`). Numbers may differ in their last digits, because sums are made in another order.

use std::collections::BTreeMap;

use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::pair::{both, shown, words};
use crate::reply::elements;
use crate::support::{self, Oracle, ServerProcess};

/// Requests of which every reply must be equal, but for the last digits of numbers.
const SCRIPT: &str = r#"
VADD
VADD k
VADD k a
VSIM k
VSIM k ELE
VCARD
VCARD a b
VLINKS k
VADD k VALUES 3 1 2 3 a
VADD k VALUES 3 1 2 3 a
VADD k VALUES 3 1 2 4 b SETATTR '{"y":1950}'
VADD k VALUES 2 1 2 c
VADD k FP32 "\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x80\xbf" d
VADD k FP32 abc d
VADD k FP32 "\x00\x00\x80\x3f\x00\x00\x80\x3f" d
VADD k FP32 "" d
VADD k VALUES 0 d
VADD k VALUES -1 d
VADD k VALUES x d
VADD k VALUES 3 1 2 d
VADD k VALUES 3 1 2 x d
VADD k VALUES 3 1 2 nan d
VADD k VALUES 3 0 0 0 z
VADD k FOO 3 1 2 3 d
VADD k VALUES 3 1 2 3 d NOQUANT
VADD k VALUES 3 1 2 3 d Q8
VADD k VALUES 3 1 2 3 d BIN
VADD k VALUES 3 1 2 3 d BIN Q8 CAS CAS
VADD k VALUES 3 1 2 3 d M 8
VADD k VALUES 3 1 2 3 d M 3
VADD k VALUES 3 1 2 3 d M 4097
VADD k VALUES 3 1 2 3 d M x
VADD k VALUES 3 1 2 3 d EF 0
VADD k VALUES 3 1 2 3 d EF 1000000
VADD k VALUES 3 1 2 3 d EF 1000001
VADD k VALUES 3 1 2 3 d EF
VADD k VALUES 3 1 2 3 d SETATTR
VADD k VALUES 3 1 2 3 d SETATTR "not json"
VADD k VALUES 3 1 2 3 d NOTHREAD
VADD k REDUCE 2 VALUES 3 1 2 3 d
VADD reduced REDUCE 2 VALUES 3 1 2 3 d
VDIM reduced
VADD reduced VALUES 3 1 2 3 e
VADD reduced REDUCE 1 VALUES 3 1 2 3 e
VADD reduced REDUCE 2 VALUES 4 1 2 3 4 e
VADD reduced VALUES 2 1 2 f
VADD other REDUCE 0 VALUES 3 1 2 3 d
VADD other REDUCE x VALUES 3 1 2 3 d
VSIM reduced VALUES 4 1 2 2 2
VADD m4 VALUES 1 1 a M 4 BIN
VADD m4 VALUES 1 1 b
VADD m4 VALUES 1 1 b M 5
VADD m4 VALUES 1 1 b Q8
SET s v
VADD s VALUES 1 1 a
VSIM s VALUES 1 1
VCARD s
VDIM s
VEMB s a
VREM s a
VLINKS s a
VINFO s
VGETATTR s a
VSETATTR s a b
VRANDMEMBER s
VISMEMBER s a
VSIM none VALUES 3 1 1 1
VSIM none ELE a
VSIM none ELE a WITHSCORES
VCARD none
VDIM none
VEMB none a
VREM none a
VLINKS none a WITHSCORES
VINFO none
VGETATTR none a
VSETATTR none a b
VRANDMEMBER none
VRANDMEMBER none 2
VISMEMBER none a
VSIM k ELE absent
VEMB k absent
VEMB k absent RAW
VREM k absent
VLINKS k absent
VGETATTR k absent
VSETATTR k absent b
VRANDMEMBER k 0
VRANDMEMBER k x
VRANDMEMBER k 1 x
VISMEMBER k absent
VISMEMBER k a
VEMB k a
VEMB k a RAW
VEMB k a FOO
VEMB k a RAW x
VEMB k z
VADD full VALUES 3 1 2 3 a NOQUANT
VEMB full a
VEMB full a RAW
VADD bits VALUES 3 1 -2 3 a BIN
VEMB bits a
VEMB bits a RAW
VLINKS k a FOO
VLINKS k a WITHSCORES x
VGETATTR k a
VGETATTR k b
VSETATTR k a '{"x":1}'
VGETATTR k a
VSETATTR k a ""
VGETATTR k a
VSETATTR k a '{"y":2}'
VREM k d
VSIM k ELE a TRUTH
VSIM k ELE a TRUTH WITHSCORES
VSIM k ELE a TRUTH WITHSCORES WITHATTRIBS
VSIM k ELE a TRUTH WITHATTRIBS
VSIM k ELE a WITHSCORES NOTHREAD
VSIM k ELE a COUNT 2
VSIM k ELE a COUNT 0
VSIM k ELE a COUNT x
VSIM k ELE a COUNT
VSIM k ELE a EPSILON 0
VSIM k ELE a EPSILON x
VSIM k ELE a EPSILON 0.01
VSIM k ELE a EPSILON 0.3 TRUTH
VSIM k ELE a EF 0
VSIM k ELE a FILTER ".y > 1"
VSIM k ELE a FILTER ".y >"
VSIM k ELE a FILTER
VSIM k ELE a FILTER ".y > 1" FILTER-EF 0
VSIM k ELE a FILTER ".y > 1" FILTER-EF 1000
VSIM k ELE a FOO
VSIM k FOO a
VSIM k VALUES 2 1 2
VSIM k VALUES 3 1 2
VSIM k VALUES 3 1 2 x
VSIM k VALUES 3 -1 -2 -3 WITHSCORES TRUTH
VSIM bits VALUES 3 1 -2 3 WITHSCORES
VSIM full VALUES 3 1 -2 3 WITHSCORES
TYPE k
OBJECT ENCODING k
VCARD k
VADD one VALUES 1 1 a
VREM one a
EXISTS one
"#;

/// A reply, of which numbers are compared by value. The number of nodes that a set has had, and the highest layer of its
/// graph, depend on the server.
fn differs(ours: &[u8], theirs: &[u8]) -> bool {
    let words = |reply: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(reply).split("\r\n").map(str::to_lowercase).collect()
    };
    let (ours, theirs) = (words(ours), words(theirs));
    let length = |word: &str| word.starts_with('$') && word != "$-1";
    let same = |(a, b): (&String, &String)| {
        let number = |word: &str| word.trim_start_matches(',').parse::<f64>().ok();
        a == b
            || (length(a) && length(b))
            || matches!((number(a), number(b)), (Some(a), Some(b)) if (a - b).abs() < 1e-4)
    };
    ours.len() != theirs.len() || !ours.iter().zip(&theirs).all(same)
}

fn servers() -> Option<(ServerProcess, ServerProcess)> {
    let program = Oracle::Redis8_2.program()?;
    let ours = ServerProcess::start(&support::spinel(), &Oracle::Redis8_2.compat());
    Some((ours, ServerProcess::start(&program, &[])))
}

#[test]
fn vector_sets_answer_as_those_of_redis_do() {
    let Some((ours, theirs)) = servers() else { return };
    let mut found = String::new();
    for protocol in ["2", "3"] {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        both(&mut clients, &words(&["FLUSHALL"]));
        for line in SCRIPT.lines().filter(|line| !line.is_empty()) {
            let args = quote::split_args(line.as_bytes()).expect("balanced quotes");
            let (x, y) = both(&mut clients, &args);
            if differs(&x, &y) {
                let (x, y) = (quote::repr(&x), quote::repr(&y));
                found += &format!("RESP{protocol}: {}\n  spinel {x}\n  theirs {y}\n", shown(&args));
            }
        }
    }
    assert!(found.is_empty(), "replies differ:\n{found}");
}

fn floats(rng: &mut Rng, dim: usize) -> Vec<u8> {
    (0..dim).flat_map(|_| (rng.f64() as f32 * 2.0 - 1.0).to_le_bytes()).collect()
}

fn request(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.to_vec()).collect()
}

/// Elements and their scores.
fn scores(reply: &[u8]) -> BTreeMap<Vec<u8>, f64> {
    let text = |bulk: &[u8]| bulk.split(|&byte| byte == b'\n').nth(1).map(|text| text.trim_ascii().to_vec());
    let texts: Vec<Vec<u8>> = elements(reply).into_iter().filter_map(text).collect();
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    texts.chunks(2).map(|pair| (pair[0].clone(), number(&pair[1]).expect("a score"))).collect()
}

fn same_scores(ours: &[u8], theirs: &[u8], tolerance: f64, what: &str) {
    let (ours, theirs) = (scores(ours), scores(theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (name, score) in &ours {
        let other =
            theirs.get(name).unwrap_or_else(|| panic!("{what}: {} is not found", name.escape_ascii()));
        assert!((score - other).abs() <= tolerance, "{what}: {} is {score}, {other}", name.escape_ascii());
    }
}

#[test]
fn true_scores_and_payloads_are_those_of_redis() {
    const DIM: usize = 50;
    const ELEMENTS: usize = 300;
    let Some((ours, theirs)) = servers() else { return };
    let mut clients = (ours.client(), theirs.client());
    let mut rng = Rng::new(0x5919);
    for (how, tolerance) in [("NOQUANT", 1e-5), ("Q8", 1e-3), ("BIN", 1e-5)] {
        for i in 0..ELEMENTS {
            let (name, vector) = (format!("e{i}"), floats(&mut rng, DIM));
            let attributes = format!("{{\"n\":{i},\"odd\":{}}}", i % 2 == 1);
            let parts: [&[u8]; 9] = [
                b"VADD",
                how.as_bytes(),
                b"FP32",
                &vector,
                name.as_bytes(),
                how.as_bytes(),
                b"M",
                b"8",
                b"SETATTR",
            ];
            let mut args = request(&parts);
            args.push(attributes.into());
            assert_eq!(both(&mut clients, &args), (b":1\r\n".to_vec(), b":1\r\n".to_vec()));
            if i % 5 == 4 {
                let gone = format!("e{}", i - 2);
                both(&mut clients, &words(&["VREM", how, &gone]));
            }
        }
        let (x, y) = both(&mut clients, &words(&["VCARD", how]));
        assert_eq!(x, y);
        for filter in ["1", ".n < 50 and .odd", ".n % 7 == 3 or .n in [1, 2, 8]"] {
            let vector = floats(&mut rng, DIM);
            let parts: [&[u8]; 10] = [
                b"VSIM",
                how.as_bytes(),
                b"FP32",
                &vector,
                b"TRUTH",
                b"WITHSCORES",
                b"COUNT",
                b"1000",
                b"FILTER",
                filter.as_bytes(),
            ];
            let (x, y) = both(&mut clients, &request(&parts));
            same_scores(&x, &y, tolerance, &format!("{how}, {filter}"));
        }
        // Each loads the other's payload, with all links.
        for ours_to_theirs in [true, false] {
            let dump = request(&[b"DUMP", how.as_bytes()]);
            let (x, y) = both(&mut clients, &dump);
            let payload = if ours_to_theirs { x } else { y };
            let start = payload.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
            let payload = &payload[start..payload.len() - 2];
            let copy = format!("{how}-{ours_to_theirs}");
            let restored = both(&mut clients, &request(&[b"RESTORE", copy.as_bytes(), b"0", payload]));
            assert_eq!(restored, (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec()), "{copy}");
            for i in 0..ELEMENTS {
                let name = format!("e{i}");
                let (x, y) = both(&mut clients, &words(&["VLINKS", &copy, &name]));
                let layers = |reply: &[u8]| -> Vec<Vec<Vec<u8>>> {
                    let sorted = |layer: &[u8]| {
                        let mut names: Vec<Vec<u8>> =
                            elements(layer).into_iter().map(<[u8]>::to_vec).collect();
                        names.sort();
                        names
                    };
                    if reply[0] == b'*' {
                        elements(reply).into_iter().map(sorted).collect()
                    } else {
                        Vec::new()
                    }
                };
                assert_eq!(layers(&x), layers(&y), "{copy}, {name}");
                let (x, y) = both(&mut clients, &words(&["VEMB", &copy, &name, "RAW"]));
                assert!(!differs(&x, &y), "{copy}, {name}: {} {}", quote::repr(&x), quote::repr(&y));
                let (x, y) = both(&mut clients, &words(&["VGETATTR", &copy, &name]));
                assert_eq!(x, y, "{copy}, {name}");
            }
            // What was loaded is searched and changed.
            let (x, y) = both(&mut clients, &words(&["VSIM", &copy, "ELE", "e0", "TRUTH", "WITHSCORES"]));
            same_scores(&x, &y, tolerance, &copy);
            let vector = floats(&mut rng, DIM);
            let add =
                request(&[b"VADD", copy.as_bytes(), b"FP32", &vector, b"new", how.as_bytes(), b"M", b"8"]);
            assert_eq!(both(&mut clients, &add), (b":1\r\n".to_vec(), b":1\r\n".to_vec()));
            for i in 0..ELEMENTS {
                both(&mut clients, &words(&["VREM", &copy, &format!("e{i}")]));
            }
            assert_eq!(both(&mut clients, &words(&["VCARD", &copy])).0, b":1\r\n");
        }
    }
}
