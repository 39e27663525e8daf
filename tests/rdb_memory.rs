//! Damaged snapshots: bounds the memory that the loader allocates.
//!
//! This is the only test of its program, because the allocator counts for the whole process.

#[path = "support/counting.rs"]
mod counting;

use counting::peak;
use spinel::keyspace::Keyspace;
use spinel::keyspace::free::Reclaimer;
use spinel::persistence::rdb::load::EXPANSION;
use spinel::persistence::rdb::{LoadOptions, Loader};
use spinel::stdx::rng::Rng;

/// Bytes for buffers and for memory allocated before anything is read.
const FIXED: usize = 3 << 20;

#[test]
fn no_file_takes_more_than_its_share() {
    let files: [&[u8]; 4] = [
        include_bytes!("data/redis-7.0.rdb"),
        include_bytes!("data/valkey-9.1.rdb"),
        include_bytes!("data/old.rdb"),
        // Lengths that exceed the data: of a string, a set, a sorted set, a hash, a list, a compressed string.
        b"REDIS0011\xfe\x00\xfb\x81\xff\xff\xff\xff\xff\xff\xff\xff\x02\x02\x01s\x81\x00\x00\x00\xff\xff\xff\xff\xff",
    ];
    let rng = &mut Rng::new(42);
    for round in 0..6000 {
        let mut bytes = files[rng.index(files.len())].to_vec();
        for _ in 0..rng.below(4) {
            let at = rng.index(bytes.len());
            match rng.below(5) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = [0x80, 0x81, 0xc3, 0xbf, 0x7f][rng.index(5)],
                2 => bytes[at] ^= 1 << rng.below(8),
                3 => bytes.insert(at, 0xff),
                _ => bytes.truncate(at + 1),
            }
        }
        let known = rng.one_in(2).then_some(bytes.len() as u64);
        let (space, used) = peak(|| {
            let mut space = Keyspace::new(16, Reclaimer::default(), Rng::new(1));
            let options = LoadOptions { checksum: false, ..LoadOptions::default() };
            let _ = Loader::new(Box::new(&bytes[..]), known, options).run(&mut space);
            space
        });
        let most = bytes.len() * EXPANSION + FIXED;
        assert!(
            used <= most,
            "round {round}: {used} bytes for {} ({known:?}): {}",
            bytes.len(),
            bytes.escape_ascii()
        );
        drop(space);
    }
}
