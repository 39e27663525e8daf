//! Snapshots for servers of other families and versions, and sources that temporarily have no more bytes.

use std::io::{self, Read};

use super::super::format::value_type::MODULE_2;
use super::super::format::{Dialect, is_supported};
use super::*;
use crate::persistence::rdb::load::Receive;
use crate::persistence::rdb::save::{Reader, Unsendable, version_for_reader};

/// The greatest value type of each version.
fn greatest_type(version: Version) -> u8 {
    use crate::persistence::rdb::format::value_type::*;
    match version {
        Version::Redis70 => STREAM_LISTPACKS_2,
        Version::Redis72 => STREAM_LISTPACKS_3,
        Version::Redis74 => HASH_LISTPACK_EX,
        Version::Redis86 => STREAM_LISTPACKS_4,
        Version::Redis88 => STREAM_LISTPACKS_5,
        Version::Valkey9 => VALKEY_HASH_2,
    }
}

/// A receiver that records the types of values.
struct Types(Vec<u8>);

impl Receive for Types {
    fn databases(&self) -> usize {
        DBS
    }

    fn receive(&mut self, _: usize, batch: &mut Vec<(u64, Entry)>, _: bool) -> Result<(), Entry> {
        batch.clear();
        Ok(())
    }

    fn access(&self) -> crate::keyspace::access::Access {
        Default::default()
    }

    fn read(&mut self, value_type: u8, _: u64, _: Option<&Entry>) {
        self.0.push(value_type);
    }
}

fn hash_with_expiring_field(space: &Keyspace) -> Hash {
    let mut hash = Hash::new();
    let at = NewExpiry::At(UnixMillis(space.now().0 + 5000));
    hash.put(b"field", Value::Bytes(b"v"), at, &Limits::default(), space.now());
    hash
}

#[test]
fn each_reader_gets_a_version_that_it_reads_with_types_of_that_version() {
    let mut seen = [false; 64];
    for seed in 0..60 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let limits = low(rng);
        let mut space = if rng.one_in(4) { newer_streams(rng) } else { random_space(rng, 100, &limits) };
        if rng.one_in(2) {
            let hash = hash_with_expiring_field(&space);
            space.db(2).set_collection(Key::new(b"expiring"), hash, None);
        }
        let volatile = space
            .databases()
            .iter()
            .flat_map(|db| db.keys().iter())
            .any(|entry| entry.collection::<Hash>().is_some_and(|hash| hash.volatile() > 0));
        let readers = [Reader::Unknown, Reader::Valkey9].into_iter().chain((9..=16).map(Reader::Redis));
        for reader in readers {
            let version = match (version_for_reader(&space, reader), reader) {
                (Ok(version), _) => version,
                (Err(Unsendable::TooOld(9)), Reader::Redis(9)) => continue,
                (Err(Unsendable::ExpiringFields { db, key, version }), Reader::Redis(10 | 11)) => {
                    assert!(volatile);
                    let entry = space.databases()[db].keys().find(Key::new(&key).hash(), &key);
                    let entry = entry.expect("the key is named");
                    assert!(entry.collection::<Hash>().is_some_and(|hash| hash.volatile() > 0));
                    assert!(matches!(reader, Reader::Redis(newest) if newest == version));
                    continue;
                }
                (Err(error), reader) => panic!("{reader:?}: {error}"),
            };
            match reader {
                Reader::Unknown => assert_eq!(version.number(), if volatile { 12 } else { 10 }),
                Reader::Valkey9 => assert_eq!(version, Version::Valkey9),
                Reader::Redis(newest) => {
                    assert!(version.number() <= newest);
                    assert!(!volatile || version.number() >= 12);
                }
            }
            let bytes = saved_as(&space, &SaveOptions { version, ..SaveOptions::default() }, true);
            let mut types = Types(Vec::new());
            let mut loader = Loader::new(Box::new(&bytes[..]), None, LoadOptions::default());
            loader.run(&mut types).expect("our own file");
            assert_eq!(loader.version(), version.number());
            for number in types.0 {
                seen[usize::from(number)] = true;
                assert!(number <= greatest_type(version), "type {number} in version {version:?}");
                assert!(number == MODULE_2 || is_supported(number, Dialect::of(version.number())));
            }
            let again = loaded(&bytes, &limits).expect("our own file");
            assert_eq!(again.len(), space.len());
            let expiring = |space: &Keyspace| -> usize {
                let entries = space.databases().iter().flat_map(|db| db.keys().iter());
                entries.map(|entry| entry.collection::<Hash>().map_or(0, |hash| hash.volatile())).sum()
            };
            assert_eq!(expiring(&again), expiring(&space), "no expiry is lost");
        }
    }
    for number in [0, 2, 4, 5, 11, 16, 17, 18, 19, 20, 21, 22, 24, 26, 27] {
        assert!(seen[number], "type {number} was never written");
    }
}

#[test]
fn what_cannot_be_sent_is_named() {
    let mut space = empty();
    let hash = hash_with_expiring_field(&space);
    space.db(3).set_collection(Key::new(b"ses\x01sion"), hash, None);
    let error = version_for_reader(&space, Reader::Redis(11)).expect_err("Valkey 8 has no such fields");
    assert_eq!(
        error.to_string(),
        "the hash 'ses\\x01sion' in database 3 has fields that expire, which version 11 of the RDB format cannot store"
    );
    // A hash whose fields no longer expire can be sent.
    let mut db = space.db(3);
    let hash = db.write_as::<Hash>(Key::new(b"ses\x01sion")).expect("a hash").expect("it is there");
    hash.set_expiry(b"field", None);
    assert!(space.databases()[3].with_volatile_fields() > 0);
    assert!(matches!(version_for_reader(&space, Reader::Redis(11)), Ok(Version::Redis72)));
    assert!(matches!(version_for_reader(&space, Reader::Unknown), Ok(Version::Redis70)));
}

#[test]
fn a_position_is_written_where_other_servers_write_it_and_parts_can_be_left_out() {
    let mut space = empty();
    space.db(0).set_string(Key::new(b"k"), Value::Bytes(b"v"), crate::keyspace::Ttl::Clear);
    let position =
        SavedReplication { id: *b"0123456789abcdef0123456789abcdef01234567", offset: 5_000_000_000, db: 3 };
    for (keys, functions) in [(true, true), (true, false), (false, true), (false, false)] {
        let options = SaveOptions {
            redis_version: "7.2.4",
            replication: Some(position),
            parts: SavedParts { keys, functions },
            ..SaveOptions::default()
        };
        let mut bytes = Vec::new();
        let mut out = Output::to(&mut bytes, true, true);
        save(&space, &[b"#!lua name=l\n"], &options, &mut out, &mut |_| Ok(())).expect("nothing fails");
        out.end().expect("memory takes all");
        let text = bytes.escape_ascii().to_string();
        let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} is missing in {text}"));
        let names = ["redis-ver", "redis-bits", "ctime", "used-mem", "repl-stream-db", "repl-id"];
        let names = names.into_iter().chain(["repl-offset", "aof-base"]);
        let places: Vec<_> = names.map(place).collect();
        assert!(places.is_sorted(), "{text}");
        let mut other = empty();
        let mut loader = Loader::new(Box::new(&bytes[..]), None, LoadOptions::default());
        loader.run(&mut other).expect("our own file");
        assert_eq!(loader.position(), Some(position));
        assert_eq!((other.len(), loader.take_libraries().len()), (usize::from(keys), usize::from(functions)));
    }
    let mut loader =
        Loader::new(Box::new(&b"REDIS0011\xff\0\0\0\0\0\0\0\0"[..]), None, LoadOptions::default());
    loader.run(&mut empty()).expect("an empty file");
    assert_eq!(loader.position(), None);
}

/// A source that gives a few bytes at a time and would block in between.
struct Stuttering<'a> {
    bytes: &'a [u8],
    rng: Rng,
    most: u64,
}

impl Read for Stuttering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rng.one_in(2) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = (1 + self.rng.below(self.most) as usize).min(buffer.len());
        self.bytes.read(&mut buffer[..n])
    }
}

#[test]
fn a_source_may_have_nothing_more_at_any_byte() {
    let mut starved = 0;
    for seed in 0..40 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let limits = low(rng);
        let mut space = random_space(rng, 60, &limits);
        if rng.one_in(4) {
            let mut text = vec![0; 700_000];
            rng.fill(&mut text);
            space.db(1).set_string(Key::new(b"long"), Value::Bytes(&text), crate::keyspace::Ttl::Clear);
        }
        let bytes = saved(&space, Version::Redis72);
        let followed = [&bytes[..], b"what follows"].concat();
        let size = [None, Some(bytes.len() as u64)][rng.index(2)];
        let most = [3, 500, 300_000][rng.index(3)];
        // Small steps through long data would take long.
        let most = most.max(bytes.len() as u64 / 5000);
        let source = Stuttering { bytes: &followed, rng: Rng::new(seed), most };
        let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
        let mut loader = Loader::resumable(Box::new(source), size, options);
        let mut other = empty();
        loop {
            match loader.step(&mut other, 1 << 20, u64::MAX).expect("our own file") {
                Step::Starved => starved += 1,
                Step::More => {}
                Step::Done => break,
            }
        }
        assert_eq!((loader.offset(), loader.tally().loaded), (bytes.len() as u64, space.len() as u64));
        let unread = loader.unread();
        assert!(b"what follows".starts_with(unread) && (size.is_none() || unread.is_empty()), "{unread:?}");
        assert_same(&other, &portraits(&space));
    }
    assert!(starved > 1000, "{starved}");
}

#[test]
fn a_source_that_ends_early_is_an_error_wherever_it_ends() {
    let rng = &mut Rng::new(3);
    let limits = low(rng);
    let bytes = saved(&random_space(rng, 12, &limits), Version::Redis72);
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 300).chain(bytes.len() - 10..bytes.len()) {
        let source = Stuttering { bytes: &bytes[..cut], rng: Rng::new(cut as u64), most: 400 };
        let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
        let mut loader = Loader::resumable(Box::new(source), None, options);
        let error = loader.run(&mut empty()).expect_err("it is cut off");
        assert!(matches!(error.fault, Fault::Truncated), "cut at {cut}: {error}");
    }
}
