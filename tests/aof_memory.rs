//! Damaged append-only files: bounds the memory that the reader allocates, and checks that it never panics and
//! always ends.
//!
//! This is the only test of its program, because the allocator counts for the whole process.

#[path = "support/counting.rs"]
mod counting;

use counting::peak;
use spinel::persistence::aof::check::{Repair, check};
use spinel::persistence::rdb::load::EXPANSION;
use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;

/// Bytes for buffers and for memory allocated before anything is read.
const FIXED: usize = 4 << 20;

fn requests() -> Vec<u8> {
    let mut bytes = b"#TS:1700000000\r\n".to_vec();
    let long = vec![b'x'; 40_000];
    for words in [
        &[&b"SELECT"[..], b"0"][..],
        &[b"SET", b"key", b"value"],
        &[b"MULTI"],
        &[b"RPUSH", b"list", b"a", b"b", b"", b"\r\n"],
        &[b"EXEC"],
        &[b"SET", b"long", &long],
        &[b"PEXPIREAT", b"key", b"4102444800000"],
    ] {
        write_request(&mut bytes, words.iter().copied());
    }
    bytes
}

#[test]
fn no_file_takes_more_than_its_share() {
    let tail = requests();
    let snapshot = |bytes: &[u8]| [bytes, &tail].concat();
    let files = [
        tail.clone(),
        snapshot(include_bytes!("data/redis-7.0.rdb")),
        snapshot(include_bytes!("data/valkey-9.1-fields.rdb")),
        // Counts and lengths that exceed the data.
        b"*2147483647\r\n$3\r\nSET\r\n".to_vec(),
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9223372036854775807\r\nx".to_vec(),
        b"*1048576\r\n$536870912\r\n".to_vec(),
    ];
    let path = std::env::temp_dir().join(format!("spinel-aof-fuzz-{}", std::process::id()));
    let rng = &mut Rng::new(42);
    for round in 0..1500 {
        let mut bytes = files[rng.index(files.len())].clone();
        for _ in 0..rng.below(4) {
            // Cuts are taken at the beginning and around line ends, where most cases differ.
            let line = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
            let lines: Vec<usize> = line.collect();
            let at = match rng.below(3) {
                0 => rng.index(bytes.len()),
                1 => rng.index(bytes.len().min(100)),
                _ => lines.get(rng.index(lines.len().max(1))).map_or(0, |at| (at + 1).min(bytes.len() - 1)),
            };
            match rng.below(7) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = b"*$#0159-\r\n"[rng.index(10)],
                2 => bytes[at] ^= 1 << rng.below(8),
                3 => bytes.insert(at, b"0123456789\r\n*$"[rng.index(14)]),
                4 => drop(bytes.remove(at)),
                5 => {
                    let again = bytes[at..(at + 50).min(bytes.len())].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes.truncate(at + 1),
            }
            if bytes.is_empty() {
                bytes.push(b'*');
            }
        }
        std::fs::write(&path, &bytes).expect("room for it");
        let mend = [Repair::Nothing, Repair::Fix, Repair::Until(1_700_000_000)][rng.index(3)];
        let mut out = Vec::with_capacity(4096);
        let (valid, used) = peak(|| check(&path, mend, &mut out, &mut || true));
        let valid = valid.expect("memory takes everything");
        let most = bytes.len() * EXPANSION + FIXED;
        let shown = || bytes[..bytes.len().min(500)].escape_ascii().to_string();
        assert!(used <= most, "round {round}: {used} bytes for {}: {}", bytes.len(), shown());
        // A repaired file is valid.
        if mend == Repair::Fix && valid {
            assert!(
                check(&path, Repair::Nothing, &mut out, &mut || false).expect("as before"),
                "{round}: {}",
                shown()
            );
        }
    }
    let _ = std::fs::remove_file(path);
}
