//! Laws of saving and loading: a saved value loads as itself, alone and as part of a data set; damaged bytes are
//! refused without further harm.

use std::collections::BTreeMap;

use super::dump::RestoreError;
use super::load::{EXPANSION, Fault, Tally};
use super::output::Output;
use super::save::{SavedAccess, Version, version_for};
use super::*;
use crate::keyspace::access::Noted;
use crate::keyspace::expire::{ActiveExpire, Cycle};
use crate::keyspace::free::Reclaimer;
use crate::keyspace::{Entry, Key, Keyspace};
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::types::list::End;
use crate::types::stream::{Group, NewId, NodeLimits, Release, StreamId};
use crate::types::vector_set::{Projection, Quantization};
use crate::types::zset::Rule;
use crate::types::{
    Describe, Hash, Kind, Limits, List, NewExpiry, Part, Set, Stream, Value, VectorSet, Zset,
};

mod border;
mod change;
mod foreign;
mod peers;

const DBS: usize = 4;

fn empty() -> Keyspace {
    let mut space = Keyspace::new(DBS, Reclaimer::default(), Rng::new(1));
    space.set_now(UnixMillis(1_700_000_000_000));
    space
}

/// Limits so low that every encoding occurs often.
fn low(rng: &mut Rng) -> Limits {
    Limits {
        hash_max_listpack_entries: 8,
        hash_max_listpack_value: 40,
        list_max_listpack_size: [3, -1][rng.index(2)],
        list_compress_depth: rng.index(3) as u32,
        set_max_intset_entries: 8,
        set_max_listpack_entries: 8,
        set_max_listpack_value: 40,
        zset_max_listpack_entries: 8,
        zset_max_listpack_value: 40,
        list_packed_threshold: [100, 1 << 30][rng.index(2)],
        ..Limits::default()
    }
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(9) {
        0 => Vec::new(),
        1 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
        2 => vec![b'x'; rng.index(300)],
        3 => {
            let mut bytes = vec![0; rng.index(100)];
            rng.fill(&mut bytes);
            bytes
        }
        4 => format!("0{}", rng.below(100)).into_bytes(),
        5 if rng.one_in(40) => b"long and repeated ".repeat(rng.index(5000)),
        6 if rng.one_in(40) => {
            let mut bytes = vec![0; rng.index(300_000)];
            rng.fill(&mut bytes);
            bytes
        }
        _ => format!("text:{}", rng.below(1000)).into_bytes(),
    }
}

fn score(rng: &mut Rng) -> f64 {
    match rng.below(6) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => rng.f64() * 1e300,
        3 => rng.f64(),
        _ => rng.below(20) as f64 - 10.0,
    }
}

/// A random value of any type and encoding under `key`.
fn random_entry(rng: &mut Rng, key: &[u8], limits: &Limits) -> Entry {
    let expires = rng.one_in(3).then(|| UnixMillis(1_800_000_000_000 + rng.below(1 << 40) as i64));
    let most = if rng.one_in(4) { 40 } else { 10 };
    let len = 1 + rng.index(most);
    match rng.below(8) {
        0 => {
            // A text that is an integer is stored as an integer.
            let text = text(rng);
            let value = num::parse_i64(&text).map_or(Value::Bytes(&text), Value::Int);
            Entry::new(key, expires, value)
        }
        1 => Entry::new(key, expires, Value::Int(rng.next_u64() as i64 >> rng.below(64))),
        2 => {
            let mut list = List::new();
            for _ in 0..len {
                let element = text(rng);
                list.prepare(1, element.len(), limits);
                list.push(End::Tail, &element);
            }
            Entry::with_collection(key, expires, list)
        }
        3 => {
            let ints = rng.one_in(2);
            let mut set = Set::new();
            for _ in 0..len {
                let member = if ints {
                    (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes()
                } else {
                    text(rng)
                };
                set.add(&member, limits);
            }
            Entry::with_collection(key, expires, set)
        }
        4 => {
            let mut zset = Zset::new();
            for _ in 0..len {
                zset.add(&text(rng), score(rng), Rule::default(), limits);
            }
            Entry::with_collection(key, expires, zset)
        }
        5 => Entry::with_collection(key, expires, random_stream(rng, len)),
        6 => Entry::with_collection(key, expires, random_vectors(rng, len)),
        _ => {
            let mut hash = Hash::new();
            let fields_expire = rng.one_in(3);
            for _ in 0..len {
                let field = text(rng);
                hash.set(&field, Value::Bytes(&text(rng)), limits);
                if fields_expire && rng.one_in(2) {
                    hash.set_expiry(&field, Some(UnixMillis((rng.next_u64() >> 1) as i64)));
                }
            }
            Entry::with_collection(key, expires, hash)
        }
    }
}

/// A random vector set of any quantization, perhaps with a projection and attributes.
fn random_vectors(rng: &mut Rng, len: usize) -> VectorSet {
    let how = [Quantization::Full, Quantization::Bytes, Quantization::Signs][rng.index(3)];
    let dim = 1 + rng.index(70);
    let projection = if rng.one_in(3) { Projection::new(5, dim) } else { None };
    let mut set = VectorSet::new(dim, 4 + rng.index(3), how, projection);
    for _ in 0..len {
        let vector: Vec<f32> = (0..dim).map(|_| rng.f64() as f32 - 0.5).collect();
        let attributes = text(rng);
        set.add(&text(rng), &vector, 20, rng.one_in(2).then_some(&attributes));
    }
    set
}

/// A random stream with groups, some of whose entries are pending, deleted or acknowledged.
fn random_stream(rng: &mut Rng, len: usize) -> Stream {
    let limits = NodeLimits { max_bytes: 4096, max_entries: 1 + rng.below(5) };
    let mut stream = Stream::new();
    for i in 0..len {
        let id = stream.next_id(NewId::Auto, i as u64 / 3 * 1000).expect("the ids are far from their end");
        let texts: Vec<Vec<u8>> = (0..2 * (1 + rng.index(3))).map(|_| text(rng)).collect();
        stream.add(id, texts.iter().map(Vec::as_slice), limits).expect("the id is new");
    }
    for name in [&b"g"[..], b"", b"other"].into_iter().take(rng.index(4)) {
        let at = stream.create_group(name, StreamId::MIN, Some(0)).expect("the names differ");
        for consumer in [&b"a"[..], b"b"] {
            let now_ms = rng.below(1 << 40) as i64;
            let mut group = stream.group_mut(at);
            let consumer = group.create_consumer(consumer, now_ms).expect("the names differ");
            let read: Vec<_> = group
                .read_new(consumer, rng.below(len as u64 + 1), rng.one_in(4), now_ms)
                .map(|entry| entry.id)
                .collect();
            for id in read {
                if rng.one_in(3) {
                    stream.group_mut(at).acknowledge(id);
                }
            }
        }
    }
    let ids: Vec<_> = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
    for id in ids {
        if rng.one_in(4) {
            stream.delete(id);
        }
    }
    stream
}

/// Adds state that only newer versions of the format can store: idempotency ids, and released entries.
fn with_newer_state(mut stream: Stream, rng: &mut Rng) -> Stream {
    let names: Vec<Vec<u8>> = stream.groups().map(|group| group.name().to_vec()).collect();
    for name in names {
        let at = stream.find_group(&name).expect("it is there");
        let ids: Vec<_> = stream.group(at).pending(StreamId::MIN, StreamId::MAX).map(|e| e.id).collect();
        for id in ids {
            let how = [Release::Silent, Release::Fail, Release::Fatal][rng.index(3)];
            if rng.one_in(2) {
                stream.group_mut(at).release(id, how, None, false);
            }
        }
    }
    if rng.one_in(2) {
        let state = stream.idempotency_or_default();
        state.configure(Some(1 + rng.below(86_400)), Some(2 + rng.below(50)));
        for i in 0..rng.below(30) {
            let id = StreamId::new(1_700_000_000_000 + i, rng.below(3));
            // The same idempotency id may come again.
            let _ = state.record(&text(rng), &text(rng), id);
        }
        state.set_counters(rng.below(1000), rng.next_u64() >> 1);
    }
    stream.check();
    stream
}

/// A data set of such streams.
fn newer_streams(rng: &mut Rng) -> Keyspace {
    let mut space = empty();
    for key in 0..12u8 {
        let len = rng.index(30);
        let stream = with_newer_state(random_stream(rng, len), rng);
        space.db(rng.index(DBS)).set_collection(Key::new(&[key]), stream, None);
    }
    space
}

fn random_space(rng: &mut Rng, keys: usize, limits: &Limits) -> Keyspace {
    let mut space = empty();
    for _ in 0..keys {
        let key = text(rng);
        let entry = random_entry(rng, &key, limits);
        space.db(rng.index(DBS)).put(Key::new(&key), entry);
    }
    space
}

/// Everything that must be equal after loading. Unordered parts are sorted.
fn portrait(entry: &Entry) -> String {
    let mut parts = Vec::new();
    if let Some(text) = entry.string() {
        parts.push(text.to_vec().escape_ascii().to_string());
    } else if let Some(collection) = entry.describe() {
        collection.each_part(&mut |part| {
            parts.push(match part {
                Part::Item(item) => item.escape_ascii().to_string(),
                Part::Field(field, value) => format!("{}={}", field.escape_ascii(), value.escape_ascii()),
                Part::Scored(member, score) => {
                    format!("{}:{:x}", member.escape_ascii(), (score + 0.0).to_bits())
                }
                Part::Logged(entry) => format!("{entry:?}"),
            });
        });
        if matches!(entry.kind(), Kind::Set | Kind::Hash) {
            parts.sort_unstable();
        }
    }
    if let Some(hash) = entry.collection::<Hash>() {
        let expiries =
            hash.iter_with_expiry().filter_map(|(field, _, at)| at.map(|at| (field.to_vec(), at.0)));
        let expiries: BTreeMap<Vec<u8>, i64> = expiries.collect();
        parts.push(format!("{expiries:?}"));
    }
    if let Some(set) = entry.collection::<VectorSet>() {
        parts.push(format!("{} {:?} {:?}", set.links(), set.quantization(), set.projection()));
        for element in set.iter() {
            let links = element.links().map(|links| {
                let names = links.map(|hit| hit.element.name().escape_ascii().to_string());
                names.collect::<Vec<_>>().join(" ")
            });
            parts.push(format!("{} {}", element.id(), links.collect::<Vec<_>>().join("|")));
        }
    }
    if let Some(stream) = entry.collection::<Stream>() {
        let (last, tombstone) = (stream.last_id(), stream.max_deleted_id());
        parts.push(format!("{last} {tombstone} {}", stream.entries_added()));
        for group in stream.groups() {
            let name_of = |consumer| group.consumer(consumer).name().escape_ascii().to_string();
            let read = group.entries_read();
            parts.push(format!("{} {} {read:?}", group.name().escape_ascii(), group.last_id()));
            parts.extend(
                group.consumers().map(|(_, consumer)| {
                    format!("{} {}", consumer.name().escape_ascii(), consumer.seen_ms())
                }),
            );
            parts.extend(group.pending(StreamId::MIN, StreamId::MAX).map(|entry| {
                let consumer = entry.consumer.map(name_of);
                format!("{} {consumer:?} {} {}", entry.id, entry.delivered_ms, entry.deliveries)
            }));
        }
        if let Some(state) = stream.idempotency() {
            parts.push(format!("{} {}", state.duration_s(), state.max_size()));
            parts.push(format!("{} {}", state.added(), state.duplicates()));
            for (producer, _, ids) in state.producers() {
                let ids: Vec<_> = ids.map(|(iid, id)| format!("{}={id}", iid.escape_ascii())).collect();
                parts.push(format!("{} {}", producer.escape_ascii(), ids.join(" ")));
            }
        }
    }
    format!("{} {:?} {}", entry.kind().name(), entry.expires(), parts.join(" "))
}

fn portraits(space: &Keyspace) -> BTreeMap<(usize, Vec<u8>), String> {
    let mut all = BTreeMap::new();
    for (index, db) in space.databases().iter().enumerate() {
        for entry in db.keys().iter() {
            all.insert((index, entry.key().to_vec()), portrait(&entry));
        }
    }
    all
}

/// Asserts equality and reports differences briefly.
fn assert_same(space: &Keyspace, expected: &BTreeMap<(usize, Vec<u8>), String>) {
    let found = portraits(space);
    for (key, portrait) in expected {
        let other = found.get(key).map_or("nothing", String::as_str);
        if other != portrait {
            let cut = |text: &str| text.chars().take(300).collect::<String>();
            panic!("{}: {} became {}", key.1.escape_ascii(), cut(portrait), cut(other));
        }
    }
    assert_eq!(found.len(), expected.len(), "keys");
}

fn saved(space: &Keyspace, version: Version) -> Vec<u8> {
    let version = version_for(space, version);
    saved_as(space, &SaveOptions { version, redis_version: "7.2.4", ..SaveOptions::default() }, true)
}

fn saved_as(space: &Keyspace, options: &SaveOptions, compress: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Output::to(&mut bytes, compress, true);
    save(space, &[], options, &mut out, &mut |_| Ok(())).expect("nothing fails");
    assert_eq!(out.end().expect("memory takes all"), bytes.len() as u64);
    bytes
}

fn loaded(bytes: &[u8], limits: &Limits) -> Result<Keyspace, LoadError> {
    let mut space = empty();
    let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(bytes), Some(bytes.len() as u64), options);
    loader.run(&mut space)?;
    assert_eq!(loader.offset(), bytes.len() as u64);
    Ok(space)
}

#[test]
fn what_is_saved_is_loaded() {
    for seed in 0..30 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let limits = low(rng);
        let keys = rng.index(300);
        let space = random_space(rng, keys, &limits);
        let before = portraits(&space);
        for version in [Version::Redis72, Version::Redis70] {
            let once = loaded(&saved(&space, version), &limits).expect("our own file");
            assert_same(&once, &before);
            // A value may have kept a large encoding from when it was larger. A loaded value has the encoding that
            // fits its size.
            let twice = loaded(&saved(&once, version), &limits).expect("our own file");
            assert_same(&twice, &before);
            assert_eq!(encodings(&twice), encodings(&once));
        }
    }
}

fn encodings(space: &Keyspace) -> BTreeMap<(usize, Vec<u8>), &'static str> {
    let mut all = BTreeMap::new();
    for (index, db) in space.databases().iter().enumerate() {
        for entry in db.keys().iter() {
            all.insert((index, entry.key().to_vec()), entry.encoding());
        }
    }
    all
}

#[test]
fn encodings_follow_the_limits_of_the_loading_server() {
    let rng = &mut Rng::new(5);
    let wide = Limits::default();
    let space = random_space(rng, 300, &wide);
    let bytes = saved(&space, Version::Redis72);
    let tight = low(rng);
    let other = loaded(&bytes, &tight).expect("our own file");
    for (a, b) in space.databases().iter().zip(other.databases()) {
        assert_eq!(a.len(), b.len());
        for entry in b.keys().iter() {
            check(&entry);
        }
    }
    assert!(other.databases()[0].keys().iter().any(|entry| entry.encoding() == "skiplist"));
    assert!(other.databases()[0].keys().iter().any(|entry| entry.encoding() == "hashtable"));
}

fn check(entry: &Entry) {
    if let Some(list) = entry.collection::<List>() {
        list.check();
    }
    if let Some(set) = entry.collection::<Set>() {
        set.check();
    }
    if let Some(zset) = entry.collection::<Zset>() {
        zset.check();
    }
    if let Some(hash) = entry.collection::<Hash>() {
        hash.check();
    }
}

#[test]
fn a_file_can_be_loaded_bit_by_bit_from_a_reader_that_gives_little() {
    struct Little<'a>(&'a [u8]);
    impl std::io::Read for Little<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = buffer.len().min(7);
            self.0.read(&mut buffer[..n])
        }
    }
    let rng = &mut Rng::new(9);
    let limits = low(rng);
    let space = random_space(rng, 100, &limits);
    let bytes = saved(&space, Version::Redis72);
    let size = bytes.len() as u64;
    // Other bytes follow, and the size is unknown.
    let more = [&bytes[..], b"more"].concat();
    let mut other = empty();
    let options = LoadOptions { limits, ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(Little(&more)), None, options);
    let mut steps = 0;
    while loader.step(&mut other, 100, 3).expect("our own file") == Step::More {
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
    assert_eq!(loader.offset(), size);
    assert_eq!(loader.tally(), Tally { loaded: space.len() as u64, ..Tally::default() });
    assert_same(&other, &portraits(&space));
}

#[test]
fn due_keys_are_left_out_and_accesses_kept() {
    let mut space = empty();
    let now = space.now();
    let at = |ms: i64| Some(UnixMillis(now.0 + ms));
    for (key, expires) in [(b"past", at(0)), (b"soon", at(1)), (b"ever", None)] {
        let mut entry = Entry::new(key, expires, Value::Int(1));
        entry.set_access(space.access.bits_for_idle(77));
        space.db(0).put(Key::new(key), entry);
    }
    let options = SaveOptions { access: SavedAccess::Idle, ..SaveOptions::default() };
    let bytes = saved_as(&space, &options, true);
    let mut other = empty();
    let options = LoadOptions { drop_due: Some(now), ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(&bytes[..]), Some(bytes.len() as u64), options);
    loader.run(&mut other).expect("our own file");
    assert_eq!(loader.tally(), Tally { loaded: 2, expired: 1, ..Tally::default() });
    assert_eq!(other.databases()[0].volatile(), 1);
    for entry in other.databases()[0].keys().iter() {
        assert_eq!(other.access.idle_seconds(entry.access()), 77);
    }
    space.access.noted = Noted::Frequency;
    let options = SaveOptions { access: SavedAccess::Frequency, ..SaveOptions::default() };
    let bytes = saved_as(&space, &options, true);
    other.flush(None, false);
    other.access.noted = Noted::Frequency;
    let mut loader = Loader::new(Box::new(&bytes[..]), None, LoadOptions::default());
    loader.run(&mut other).expect("our own file");
    let frequency = |space: &Keyspace, key: &[u8]| {
        let entry = space.databases()[0].keys().find(Key::new(key).hash(), key).expect("it is there");
        space.access.frequency(entry.access())
    };
    assert_eq!(frequency(&other, b"ever"), frequency(&space, b"ever"));
}

#[test]
fn a_key_that_is_there_already() {
    let mut space = empty();
    space.db(0).set_string(Key::new(b"k"), Value::Bytes(b"file"), crate::keyspace::Ttl::Clear);
    let bytes = saved(&space, Version::Redis72);
    space.db(0).set_string(Key::new(b"k"), Value::Bytes(b"memory"), crate::keyspace::Ttl::Clear);
    let mut loader = Loader::new(Box::new(&bytes[..]), None, LoadOptions::default());
    let error = loader.run(&mut space).expect_err("the key is there");
    assert!(matches!(error.fault, Fault::Duplicate));
    assert!(error.to_string().contains("of the key 'k'"), "{error}");
    let options = LoadOptions { replace: true, ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(&bytes[..]), None, options);
    loader.run(&mut space).expect("it may be replaced");
    let text = space.db(0).read_string(Key::new(b"k")).expect("a string").map(|text| text.to_vec());
    assert_eq!(text.as_deref(), Some(&b"file"[..]));
}

#[test]
fn a_value_dumped_is_restored() {
    for seed in 0..500 {
        let rng = &mut Rng::new(seed);
        let limits = low(rng);
        let entry = random_entry(rng, b"key", &limits);
        let options = LoadOptions { limits, ..LoadOptions::default() };
        for version in [Version::Redis70, Version::Redis72] {
            let payload = dump(&entry, version, seed % 2 == 0);
            let back = restore(&payload, b"key", entry.expires(), &options).expect("our own payload");
            check(&back);
            if version == Version::Redis72 {
                assert!(portrait(&back) == portrait(&entry), "seed {seed}");
            }
            let mut bad = payload.clone();
            let at = rng.index(bad.len());
            bad[at] ^= 1 << rng.below(8);
            let refused = restore(&bad, b"key", None, &options).err();
            assert!(matches!(refused, Some(RestoreError::Trailer)), "seed {seed}, byte {at}");
        }
    }
}

/// Mutates files. Nothing may panic, and whatever is accepted must be sound: it can be changed in every way, and what
/// is saved of it can be loaded again.
fn fuzz(seed: u64, rounds: usize) {
    let rng = &mut Rng::new(seed);
    let limits = low(rng);
    let newer = seed % 3 == 2;
    let space = if newer { newer_streams(rng) } else { random_space(rng, 30, &limits) };
    let version = match rng.below(4) {
        _ if newer => Version::Redis88,
        0 => Version::Redis70,
        _ => Version::Redis72,
    };
    let file = saved_as(&space, &SaveOptions { version, ..SaveOptions::default() }, rng.one_in(2));
    for round in 0..rounds {
        let mut bytes = file.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.index(bytes.len());
            match rng.below(8) {
                0 => bytes.truncate(at),
                1 => bytes[at] = rng.next_u64() as u8,
                2 => bytes[at] ^= 1 << rng.below(8),
                3 => bytes[at] = [0, 0x80, 0x81, 0xc3, 0xff, 0x3f, 0x7f, 22][rng.index(8)],
                4 => bytes.insert(at, rng.next_u64() as u8),
                5 | 6 => {
                    // A piece copied from elsewhere, so that different parts become equal.
                    let n = rng.index(12).min(bytes.len() - at);
                    let from = rng.index(bytes.len() - n + 1);
                    bytes.copy_within(from..from + n, at);
                }
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                return;
            }
        }
        let mut other = empty();
        let options = LoadOptions { limits: limits.clone(), checksum: false, ..LoadOptions::default() };
        let size = bytes.len() as u64;
        let mut loader = Loader::new(Box::new(&bytes[..]), rng.one_in(2).then_some(size), options);
        let _ = loader.run(&mut other);
        let mut memory = 0;
        for db in other.databases() {
            memory += db.keys().bytes() + db.expires_bytes();
            for entry in db.keys().iter() {
                check(&entry);
                let _ = portrait(&entry);
                memory += entry.block_bytes() + entry.describe().map_or(0, |collection| collection.bytes(0));
            }
        }
        assert!(memory <= bytes.len() * EXPANSION + 4096, "seed {seed}, round {round}: {memory} bytes");
        if round % 4 > 0 {
            continue;
        }
        change::change(&mut other, rng, &limits);
        let older = [Version::Redis70, Version::Redis72, Version::Redis74][rng.index(3)];
        let version = if newer { Version::Redis88 } else { older };
        let again = loaded(&saved(&other, version), &limits).expect("what was saved is loaded");
        assert_same(&again, &portraits(&other));
    }
}

#[test]
fn damaged_files_do_no_harm() {
    for seed in 0..40 {
        println!("seed {seed}");
        fuzz(seed, 60);
    }
}

#[test]
fn newer_stream_state_is_written_where_the_version_can_store_it() {
    use super::format::value_type::*;
    let limits = Limits::default();
    for seed in 0..30 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let space = newer_streams(rng);
        let again = loaded(&saved(&space, Version::Redis88), &limits).expect("our own file");
        assert_same(&again, &portraits(&space));
        for entry in space.databases().iter().flat_map(|db| db.keys().iter()) {
            let stream: &Stream = entry.collection().expect("all are streams");
            let released = stream.groups().map(|group| group.released_len()).sum::<usize>();
            let idempotent = stream.idempotency().is_some();
            for version in [Version::Redis70, Version::Redis72, Version::Redis86, Version::Redis88] {
                let payload = dump(&entry, version, rng.one_in(2));
                let number = match version {
                    Version::Redis70 => STREAM_LISTPACKS_2,
                    Version::Redis88 if released > 0 => STREAM_LISTPACKS_5,
                    Version::Redis86 if idempotent || released > 0 => STREAM_LISTPACKS_4,
                    Version::Redis88 if idempotent => STREAM_LISTPACKS_4,
                    _ => STREAM_LISTPACKS_3,
                };
                assert_eq!(payload[0], number);
                let options = LoadOptions { limits: limits.clone(), ..LoadOptions::default() };
                let other = restore(&payload, entry.key(), None, &options).expect("our own payload");
                let restored: &Stream = other.collection().expect("a stream");
                restored.check();
                if version == Version::Redis88 {
                    assert_eq!(portrait(&other), portrait(&entry));
                }
                // Released entries stay pending: without an owner, or for a consumer whose name stands for none.
                for (ours, theirs) in stream.groups().zip(restored.groups()) {
                    let of = |group: &Group| -> Vec<_> {
                        let entries = group.pending(StreamId::MIN, StreamId::MAX);
                        let name = |consumer| group.consumer(consumer).name().to_vec();
                        entries
                            .map(|e| (e.id, e.delivered_ms, e.deliveries, e.consumer.map_or(vec![], name)))
                            .collect()
                    };
                    assert_eq!(of(ours), of(theirs));
                }
            }
        }
    }
}

#[test]
fn fields_keep_their_expiries_and_go_in_time() {
    let mut space = empty();
    let limits = Limits::default();
    let mut hash = Hash::new();
    let at = |ms: i64| NewExpiry::At(UnixMillis(space.now().0 + ms));
    for (field, expiry) in [("never", NewExpiry::Never), ("soon", at(5)), ("late", at(5000))] {
        hash.put(field.as_bytes(), Value::Bytes(b"v"), expiry, &limits, space.now());
    }
    space.db(0).set_collection(Key::new(b"h"), hash, None);
    let bytes = saved(&space, Version::Redis72);
    assert!(bytes.starts_with(b"VALKEY080"));
    let mut other = loaded(&bytes, &limits).expect("our own file");
    assert_same(&other, &portraits(&space));
    assert_eq!(other.databases()[0].with_volatile_fields(), 1);
    other.set_now(UnixMillis(space.now().0 + 100));
    let cycle = Cycle::Slow { tick: std::time::Duration::from_secs(1) };
    ActiveExpire::default().run_to_end(&mut other, cycle, 1);
    assert_eq!(other.stats.expired_fields, 1);
    assert_eq!(other.db(0).look_as::<Hash>(Key::new(b"h")).map(Describe::len), Some(2));
    // Where expired fields are not wanted, they are left out, and so is a hash that has no others.
    let options = LoadOptions { drop_due: Some(UnixMillis(i64::MAX)), ..LoadOptions::default() };
    let mut none = empty();
    Loader::new(Box::new(&bytes[..]), None, options).run(&mut none).expect("our own file");
    assert_eq!(none.db(0).look_as::<Hash>(Key::new(b"h")).map(Describe::len), Some(1));
    let options = LoadOptions {
        drop_due: Some(UnixMillis(i64::MAX)),
        drop_due_fields: false,
        ..LoadOptions::default()
    };
    let mut all = empty();
    Loader::new(Box::new(&bytes[..]), None, options).run(&mut all).expect("our own file");
    assert_eq!(all.db(0).look_as::<Hash>(Key::new(b"h")).map(Describe::len), Some(3));
    // A version that cannot store expiries has the fields without them.
    let plain = SaveOptions { redis_version: "7.2.4", ..SaveOptions::default() };
    let other = loaded(&saved_as(&space, &plain, true), &limits).expect("our own file");
    assert_eq!((other.len(), other.databases()[0].with_volatile_fields()), (1, 0));
}

#[test]
fn slots_on_their_way_are_named_in_both_formats() {
    let mut space = empty();
    space.db(0).set_string(Key::new(b"s"), Value::Bytes(b"text"), crate::keyspace::db::Ttl::Clear);
    let imports = vec![
        super::SlotImport { name: vec![b'a'; 40], ranges: vec![(0, 0), (100, 16383)] },
        super::SlotImport { name: b"b".to_vec(), ranges: vec![(7, 8)] },
    ];
    for version in [Version::Redis72, Version::Valkey9] {
        let options = SaveOptions { version, slot_imports: imports.clone(), ..SaveOptions::default() };
        let bytes = saved_as(&space, &options, true);
        let mut loader = Loader::new(Box::new(&bytes[..]), None, LoadOptions::default());
        let mut other = empty();
        loader.run(&mut other).expect("our own file");
        assert_eq!((other.len(), &loader.about().slot_imports), (1, &imports));
    }
    // As Valkey 9.1 writes it, with its compression.
    let mut file =
        b"VALKEY080\xf3\xc3\x09\x28\x01aa\xe0\x1b\x00\x01aa\x02\x63\x8c\x63\x8e\x63\x91\x63\x91\xff".to_vec();
    file.extend_from_slice(&[0; 8]);
    let mut loader = Loader::new(Box::new(&file[..]), None, LoadOptions::default());
    loader.run(&mut empty()).expect("a file of Valkey");
    let expected = super::SlotImport { name: vec![b'a'; 40], ranges: vec![(9100, 9102), (9105, 9105)] };
    assert_eq!(loader.about().slot_imports, [expected]);
}

#[test]
fn fields_keep_their_expiries_in_the_format_of_redis_7_4() {
    let mut space = empty();
    let limits = Limits::default();
    let mut hash = Hash::new();
    for i in 0..50 {
        let expiry =
            if i % 3 == 0 { NewExpiry::Never } else { NewExpiry::At(UnixMillis(4_000_000_000_000 + i * i)) };
        hash.put(format!("field:{i}").as_bytes(), Value::Bytes(b"v"), expiry, &limits, space.now());
    }
    space.db(0).set_collection(Key::new(b"h"), hash, None);
    space.db(0).set_string(Key::new(b"s"), Value::Bytes(b"text"), crate::keyspace::db::Ttl::Clear);
    let bytes = saved(&space, Version::Redis74);
    assert!(bytes.starts_with(b"REDIS0012"));
    assert_same(&loaded(&bytes, &limits).expect("our own file"), &portraits(&space));
    // Type, least expiry, one field (distance from the least expiry plus one, name, value), then version.
    let mut one = Hash::new();
    one.put(b"a", Value::Bytes(b"v"), NewExpiry::At(UnixMillis(4_102_444_800_123)), &limits, space.now());
    let entry = Entry::with_collection(b"h", None, one);
    let payload = dump(&entry, Version::Redis74, true);
    assert_eq!(payload[..16], *b"\x18\x7b\xd8\xc3\x2c\xbb\x03\x00\x00\x01\x01\x01a\x01v\x0c");
    let back = restore(&payload, b"h", None, &LoadOptions::default()).expect("our own payload");
    assert_eq!(back.collection::<Hash>().map(Hash::volatile), Some(1));
}

#[test]
fn a_hash_with_expiries_is_written_as_valkey_writes_it() {
    // `HSETEX h PXAT 4102444800123 FIELDS 1 a v`, and `HSET h b 2` after it, dumped by Valkey 9.1.
    let one = b"\x16\x01\x01a\x01v\x7b\xd8\xc3\x2c\xbb\x03\x00\x00\x50\x00\x3d\xb0\x5c\xcb\x9a\xfd\x4b\x41";
    let two =
        b"\x16\x02\x01a\x01v\x7b\xd8\xc3\x2c\xbb\x03\x00\x00\x01b\xc0\x02\xff\xff\xff\xff\xff\xff\xff\xff\
        \x50\x00\x65\xf1\x88\x37\x4d\xb7\x69\x64";
    let options = LoadOptions::default();
    let entry = restore(one, b"h", None, &options).expect("Valkey's own payload");
    assert_eq!(dump(&entry, Version::Redis72, true), one);
    let entry = restore(two, b"h", None, &options).expect("Valkey's own payload");
    let hash = entry.collection::<Hash>().expect("it is a hash");
    let expiries: BTreeMap<_, _> = hash.iter_with_expiry().map(|(name, _, at)| (name.to_vec(), at)).collect();
    let expected = [(b"a".to_vec(), Some(UnixMillis(4_102_444_800_123))), (b"b".to_vec(), None)];
    assert_eq!(expiries, BTreeMap::from(expected));
}
