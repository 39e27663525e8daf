use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::*;
use crate::keyspace::expire::{ActiveExpire, Cycle};
use crate::keyspace::free::Reclaimer;

/// Contents of the databases, as plain maps.
#[derive(Default)]
struct Model {
    dbs: Vec<HashMap<Vec<u8>, Held>>,
    now: i64,
}

#[derive(Clone, PartialEq, Debug)]
struct Held {
    text: Vec<u8>,
    expires: Option<i64>,
}

impl Model {
    fn new(databases: usize) -> Self {
        Model { dbs: vec![HashMap::new(); databases], now: 1_000_000 }
    }

    fn get(&self, db: usize, key: &[u8]) -> Option<&Held> {
        self.dbs[db].get(key).filter(|held| held.expires.is_none_or(|at| at > self.now))
    }

    fn forget_due(&mut self) {
        let now = self.now;
        for db in &mut self.dbs {
            db.retain(|_, held| held.expires.is_none_or(|at| at > now));
        }
    }
}

/// Compares all keys that have not expired, their values and their expiries.
fn compare(space: &mut Keyspace, model: &Model) {
    for db in 0..model.dbs.len() {
        space.dbs[db].check();
        let view = space.db(db);
        let alive = view.database().keys().iter().filter(|entry| !view.is_due(entry)).count();
        let expected = model.dbs[db].keys().filter(|key| model.get(db, key).is_some()).count();
        assert_eq!(alive, expected, "keys in database {db}");
        for key in model.dbs[db].keys() {
            let held = model.get(db, key);
            let keys = space.dbs[db].keys();
            let Some(entry) = keys.find(Key::new(key).hash(), key) else {
                assert_eq!(held, None, "{}", key.escape_ascii());
                continue;
            };
            if let Some(held) = held {
                let text = entry.string().expect("only strings were stored").to_vec();
                assert_eq!((text, entry.expires().map(|at| at.0)), (held.text.clone(), held.expires));
            }
        }
    }
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0 => Vec::new(),
        // A length that does not fit into a byte.
        1 => vec![b'k'; 250 + rng.index(10)],
        _ => format!("key:{}", rng.below(60)).into_bytes(),
    }
}

fn random_text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => rng.next_u64().to_string().into_bytes(),
        1 => vec![b'v'; EMBED_MAX - 400 + rng.index(500)],
        2 => vec![b'v'; rng.index(10_000)],
        _ => vec![b'v'; rng.index(80)],
    }
}

fn value(text: &[u8]) -> Value<'_> {
    crate::stdx::num::parse_i64(text).map_or(Value::Bytes(text), Value::Int)
}

fn random_expiry(rng: &mut Rng, now: i64) -> i64 {
    now + rng.below(2000) as i64 - 100
}

#[test]
fn agrees_with_a_map() {
    const DBS: usize = 3;
    for seed in 0..20 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let space = &mut Keyspace::new(DBS, Reclaimer::default(), Rng::new(seed));
        if seed % 2 == 1 {
            space.divide_by_slot();
        }
        let model = &mut Model::new(DBS);
        let mut active = ActiveExpire::default();
        space.set_now(UnixMillis(model.now));
        for step in 0..3000 {
            act(rng, space, model, &mut active);
            if step % 10 == 0 {
                compare(space, model);
            }
            if step % 100 == 0 {
                model.forget_due();
            }
        }
    }
}

fn act(rng: &mut Rng, space: &mut Keyspace, model: &mut Model, active: &mut ActiveExpire) {
    let (a, b) = (rng.index(model.dbs.len()), rng.index(model.dbs.len()));
    let (k, k2) = (random_key(rng), random_key(rng));
    let (key, to) = (Key::new(&k), Key::new(&k2));
    let now = model.now;
    let held = model.get(a, &k).cloned();
    match rng.below(26) {
        0..6 => {
            let text = random_text(rng);
            let (ttl, expires) = match rng.below(4) {
                0 => (Ttl::Keep, held.and_then(|held| held.expires)),
                1 => {
                    let at = random_expiry(rng, now);
                    (Ttl::At(UnixMillis(at)), Some(at))
                }
                _ => (Ttl::Clear, None),
            };
            space.db(a).set_string(key, value(&text), ttl);
            model.dbs[a].insert(k, Held { text, expires });
        }
        6..10 => {
            let expires = if rng.chance(0.7) { Some(random_expiry(rng, now)) } else { None };
            let mut db = space.db(a);
            assert_eq!(db.write(key).is_some(), held.is_some());
            if let Some(held) = held {
                assert!(db.set_expires(key, expires.map(UnixMillis)));
                model.dbs[a].insert(k, Held { expires, ..held });
            } else {
                assert!(!db.set_expires(key, expires.map(UnixMillis)));
            }
        }
        10..13 if k != k2 => {
            let mut db = space.db(a);
            assert_eq!(db.contains(key), held.is_some());
            if let Some(held) = held {
                db.rename(key, to);
                model.dbs[a].remove(&k);
                model.dbs[a].insert(k2, held);
            }
        }
        13..15 if a != b => {
            let mut db = space.db(a);
            if db.peek(key).is_some() {
                db.move_to(key, b);
                model.dbs[a].remove(&k);
                model.dbs[b].insert(k, held.expect("the key is there"));
            }
        }
        15..18 if a != b || k != k2 => {
            let mut db = space.db(a);
            if db.read(key).is_some() {
                db.copy(key, to, b);
                model.dbs[b].insert(k2, held.expect("the key is there"));
            }
        }
        18..20 => {
            let removed = space.db(a).remove(key, rng.chance(0.5));
            assert_eq!(removed, held.is_some());
            model.dbs[a].remove(&k);
        }
        20 => match space.db(a).random_key() {
            Some(key) => assert!(model.get(a, &key).is_some()),
            None => assert!(model.dbs[a].keys().all(|key| model.get(a, key).is_none())),
        },
        21 => {
            model.now += rng.below(200) as i64;
            space.set_now(UnixMillis(model.now));
        }
        22 => {
            active.run_to_end(space, Cycle::Slow { tick: Duration::from_secs(100) }, 1 + rng.below(10) as u32)
        }
        23 => {
            if let Ok(string) = space.db(a).string_mut(key) {
                string.append(b"+");
            }
            let mut held = held.unwrap_or(Held { text: Vec::new(), expires: None });
            held.text.push(b'+');
            model.dbs[a].insert(k, held);
        }
        24 => {
            space.swap(a, b);
            model.dbs.swap(a, b);
        }
        25 if rng.one_in(20) => {
            let one = rng.chance(0.8).then_some(a);
            space.flush(one, rng.chance(0.5));
            match one {
                Some(db) => model.dbs[db].clear(),
                None => model.dbs.iter_mut().for_each(HashMap::clear),
            }
        }
        _ => assert_eq!(space.db(a).read(key).is_some(), held.is_some()),
    }
}

#[test]
fn a_prefetch_changes_nothing() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    let names: Vec<String> = (0..16).map(|i| i.to_string()).collect();
    let mut keys: Vec<Key<'_>> = names.iter().map(|name| Key::new(name.as_bytes())).collect();
    space.db(0).prefetch(&mut keys);
    for &key in &keys[..8] {
        space.db(0).set_string(key, Value::Int(1), Ttl::Clear);
    }
    space.db(0).prefetch(&mut keys);
    space.db(0).prefetch(&mut []);
    assert_eq!(space.len(), 8);
}

#[test]
fn a_scan_shows_every_key_that_stays_while_the_table_grows_and_shrinks() {
    for seed in 0..20 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(seed));
        if seed % 2 == 1 {
            space.divide_by_slot();
        }
        let stay: BTreeSet<Vec<u8>> = (0..300).map(|i| format!("stay:{i}").into_bytes()).collect();
        for key in &stay {
            space.db(0).set_string(Key::new(key), Value::Int(1), Ttl::Clear);
        }
        let (mut seen, mut cursor, mut grows) = (BTreeSet::new(), 0, true);
        loop {
            cursor = space.db(0).scan(cursor, false, |entry| _ = seen.insert(entry.key().to_vec()));
            if cursor == 0 {
                break;
            }
            // From 300 to 6300 keys and back, in strides that leave a rehash unfinished.
            for _ in 0..rng.below(300) {
                let other = rng.below(6000).to_string();
                let key = Key::new(other.as_bytes());
                if grows {
                    space.db(0).set_string(key, Value::Int(2), Ttl::Clear);
                } else {
                    space.db(0).remove(key, false);
                }
            }
            grows = if grows { space.len() < 5000 } else { space.len() < 600 };
        }
        assert!(seen.is_superset(&stay));
    }
}

#[test]
fn a_key_that_is_due_expires_before_another_takes_its_place() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    space.set_now(UnixMillis(100));
    let key = Key::new(b"k");
    for (ttl, left) in
        [(Ttl::Clear, None), (Ttl::Keep, None), (Ttl::At(UnixMillis(200)), Some(UnixMillis(200)))]
    {
        space.db(0).set_string(key, Value::Bytes(b"old"), Ttl::At(UnixMillis(50)));
        let before = space.stats.expired;
        space.db(0).set_string(key, Value::Bytes(b"new"), ttl);
        assert_eq!(space.stats.expired, before + 1);
        assert_eq!(space.db(0).expires(key), left);
        space.db(0).remove(key, false);
    }
}

/// A database in which `key` is found through a wrong hash, but only in the table of keys.
fn with_wrong_hash(key: &[u8]) -> (Keyspace, Key<'_>) {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    space.dbs[0].reserve(0, 10_000);
    space.db(0).set_string(Key::new(key), Value::Int(1), Ttl::At(UnixMillis(1000)));
    assert!(space.dbs[0].keys().table_sizes()[0] < space.dbs[0].expires().table_sizes()[0]);
    let wrong = Key::with_hash(key, Key::new(key).hash() ^ 1);
    assert!(space.db(0).contains(wrong));
    (space, wrong)
}

#[test]
#[should_panic(expected = "the table of expiries refers to every entry that expires")]
fn an_entry_that_is_still_referred_to_is_not_removed() {
    let (mut space, wrong) = with_wrong_hash(b"k");
    space.db(0).remove(wrong, false);
}

#[test]
fn a_wrong_hash_leaves_no_reference_to_an_entry_that_is_gone() {
    for change in [
        (|db, key| db.set_string(key, Value::Bytes(b"text"), Ttl::Clear)) as fn(&mut Db<'_>, Key<'_>),
        |db, key| db.set_string(key, Value::Bytes(b"text"), Ttl::At(UnixMillis(2000))),
        |db, key| _ = db.set_expires(key, None),
        |db, key| _ = db.remove(key, false),
    ] {
        let (mut space, wrong) = with_wrong_hash(b"k");
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            change(&mut space.db(0), wrong);
        }));
        assert!(changed.is_err());
        space.dbs[0].check();
        assert_eq!(space.db(0).expires(Key::new(b"k")), Some(UnixMillis(1000)), "all is as it was");
    }
}
