use std::collections::{BTreeMap, BTreeSet};

use crate::keyspace::Suspend;
use crate::keyspace::expire::{ActiveExpire, Cycle};
use crate::keyspace::free::Reclaimer;
use crate::keyspace::{Change, Keyspace, Listeners};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::stdx::rng::Rng;
use crate::types::{Describe, Hash, Limits, NewExpiry, Value};

const DBS: usize = 3;
const CYCLE: Cycle = Cycle::Slow { tick: std::time::Duration::from_secs(1000) };

/// Field → expiry, for each key of each database.
type Model = Vec<BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Option<i64>>>>;

/// Gives a field a value and an expiry, as a command does.
fn put(space: &mut Keyspace, db: usize, key: &[u8], field: &[u8], at: Option<i64>) {
    let (key, now) = (Key::new(key), space.now());
    let expiry = at.map_or(NewExpiry::Never, |at| NewExpiry::At(UnixMillis(at)));
    let mut db = space.db(db);
    let hash = db.write_or_insert(key, Hash::new).expect("only hashes are stored");
    hash.put(field, Value::Int(1), expiry, &Limits::default(), now);
    if at.is_some() {
        db.fields_expire(key);
    }
}

fn expiries(hash: &Hash) -> BTreeMap<Vec<u8>, Option<i64>> {
    hash.iter_with_expiry().map(|(name, _, at)| (name.to_vec(), at.map(|at| at.0))).collect()
}

fn compare(space: &mut Keyspace, model: &Model) {
    for (index, model) in model.iter().enumerate() {
        space.dbs[index].check();
        let keys = space.dbs[index].keys();
        assert_eq!(keys.len(), model.len());
        for entry in keys.iter() {
            let hash = entry.collection::<Hash>().expect("only hashes are stored");
            hash.check();
            assert_eq!(expiries(hash), model[entry.key()]);
        }
    }
}

/// Removes expired fields from the model; whether there were any.
fn forget_due(model: &mut Model, now: i64) {
    for db in model {
        for fields in db.values_mut() {
            fields.retain(|_, at| at.is_none_or(|at| at > now));
        }
        db.retain(|_, fields| !fields.is_empty());
    }
}

#[test]
fn alarms_follow_their_hashes() {
    for seed in 0..40 {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let mut space = Keyspace::new(DBS, Reclaimer::default(), Rng::new(seed));
        let mut active = ActiveExpire::default();
        let mut model: Model = vec![BTreeMap::new(); DBS];
        let mut now = 1_000_000;
        space.set_now(UnixMillis(now));
        for _ in 0..400 {
            let (a, b) = (rng.index(DBS), rng.index(DBS));
            let (k, to) = (vec![b'a' + rng.below(5) as u8], vec![b'a' + rng.below(5) as u8]);
            let field = rng.below(8).to_string().into_bytes();
            let (key, other) = (Key::new(&k), Key::new(&to));
            let known = model[a].contains_key(&k);
            match rng.below(13) {
                0..5 => {
                    let at = rng.chance(0.6).then(|| now + rng.below(60) as i64 - 10);
                    put(&mut space, a, &k, &field, at);
                    model[a].entry(k).or_default().insert(field, at);
                }
                5 => {
                    let mut db = space.db(a);
                    if let Ok(Some(hash)) = db.write_as::<Hash>(key) {
                        hash.remove(&field, UnixMillis(i64::MIN));
                        db.settle::<Hash>(key);
                        let fields = model[a].get_mut(&k).expect("the key is there");
                        fields.remove(&field);
                        if fields.is_empty() {
                            model[a].remove(&k);
                        }
                    }
                }
                6 if k != to => {
                    let replaced = space.db(a).rename(key, other);
                    assert_eq!(replaced.is_some(), known && model[a].contains_key(&to));
                    if let Some(fields) = model[a].remove(&k) {
                        model[a].insert(to, fields);
                    }
                }
                7 if a != b => {
                    space.db(a).move_to(key, b);
                    if let Some(fields) = model[a].remove(&k) {
                        model[b].insert(k, fields);
                    }
                }
                8 if a != b || k != to => {
                    let replaced = space.db(a).copy(key, other, b);
                    assert_eq!(replaced.is_some(), known && model[b].contains_key(&to));
                    if let Some(fields) = model[a].get(&k).cloned() {
                        model[b].insert(to, fields);
                    }
                }
                9 => {
                    // The entry moves when it gains or loses an expiry of its own.
                    let at = rng.one_in(2).then_some(UnixMillis(i64::MAX));
                    assert_eq!(space.db(a).set_expires(key, at), known);
                }
                10 if rng.one_in(4) => {
                    space.db(a).remove(key, true);
                    model[a].remove(&k);
                }
                11 if rng.one_in(20) => {
                    space.flush(Some(a), rng.one_in(2));
                    model[a].clear();
                }
                11 if rng.one_in(2) => {
                    space.swap(a, b);
                    model.swap(a, b);
                }
                12 => {
                    now += rng.below(20) as i64;
                    space.set_now(UnixMillis(now));
                    active.run_to_end(&mut space, CYCLE, 1);
                    forget_due(&mut model, now);
                }
                _ => {}
            }
            compare(&mut space, &model);
        }
    }
}

/// Names of the expired fields, and of the events.
fn events_of(space: &mut Keyspace) -> (Vec<String>, Vec<&'static str>) {
    let (changes, bytes) = space.ledger.take();
    let text = |range: &std::ops::Range<usize>| String::from_utf8_lossy(&bytes[range.clone()]).into_owned();
    let (mut fields, mut events) = (Vec::new(), Vec::new());
    for change in &changes {
        match change {
            Change::FieldGone { key, field, .. } => fields.push(format!("{}.{}", text(key), text(field))),
            Change::EventOnly { event, .. } => events.push(event.name),
            other => panic!("{other:?} was not to be expected"),
        }
    }
    (fields, events)
}

#[test]
fn what_is_due_goes_and_is_recorded() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    let mut active = ActiveExpire::default();
    space.set_now(UnixMillis(1000));
    put(&mut space, 0, b"h", b"late", Some(5000));
    put(&mut space, 0, b"h", b"b", Some(1020));
    put(&mut space, 0, b"h", b"a", Some(1010));
    put(&mut space, 0, b"gone", b"x", Some(1030));
    put(&mut space, 0, b"stays", b"y", None);
    assert_eq!(space.dbs[0].with_volatile_fields(), 2);
    space.ledger.take();
    space.ledger.listeners.set(Listeners::NOTIFY, true);
    active.run_to_end(&mut space, CYCLE, 1);
    assert_eq!(events_of(&mut space), (vec![], vec![]));
    space.set_now(UnixMillis(2000));
    for reason in [Suspend::Pause, Suspend::Loading] {
        space.suspend_expiry(reason, true);
        active.run_to_end(&mut space, CYCLE, 1);
        assert_eq!(events_of(&mut space), (vec![], vec![]));
    }
    assert_eq!(space.db(0).due_by(), UnixMillis(i64::MIN));
    space.suspend_expiry(Suspend::Loading, false);
    assert_eq!(space.db(0).due_by(), UnixMillis(2000));
    space.suspend_expiry(Suspend::Pause, false);
    assert_eq!(space.db(0).due_by(), UnixMillis(2000));
    active.run_to_end(&mut space, CYCLE, 1);
    let fields = ["h.a", "h.b", "gone.x"].map(String::from).to_vec();
    assert_eq!(events_of(&mut space), (fields, vec!["hexpired", "hexpired", "del"]));
    assert_eq!((space.stats.expired_fields, space.len(), space.ledger.dirty), (3, 2, 0));
    assert_eq!(space.dbs[0].with_volatile_fields(), 1);
    space.dbs[0].check();
}

#[test]
fn an_alarm_may_go_off_too_early() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    let mut active = ActiveExpire::default();
    space.set_now(UnixMillis(1000));
    put(&mut space, 0, b"h", b"a", Some(1010));
    put(&mut space, 0, b"h", b"b", Some(1050));
    put(&mut space, 0, b"h", b"a", None);
    let alarm = |space: &Keyspace| {
        let key = Key::new(b"h");
        space.dbs[0].keys().find(key.hash(), key.bytes).and_then(|entry| entry.alarm()).map(|at| at.0)
    };
    assert_eq!(alarm(&space), Some(1010));
    space.set_now(UnixMillis(1020));
    active.run_to_end(&mut space, CYCLE, 1);
    assert_eq!(alarm(&space), Some(1050));
    put(&mut space, 0, b"h", b"b", None);
    space.set_now(UnixMillis(1060));
    active.run_to_end(&mut space, CYCLE, 1);
    assert_eq!(alarm(&space), None);
    assert_eq!(space.stats.expired_fields, 0);
    space.dbs[0].check();
}

#[test]
fn one_large_hash_does_not_keep_the_others_waiting() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    space.set_now(UnixMillis(1000));
    for i in 0..10_000 {
        put(&mut space, 0, b"large", i.to_string().as_bytes(), Some(1001));
    }
    for i in 0..5 {
        put(&mut space, 0, format!("small:{i}").as_bytes(), b"f", Some(1500));
    }
    space.set_now(UnixMillis(2000));
    let mut rounds = 0;
    let mut gone_small = BTreeSet::new();
    while space.expire_fields(0) {
        rounds += 1;
        space.dbs[0].check();
        let small =
            (0..5).filter(|i| !space.db(0).contains(Key::new(format!("small:{i}").as_bytes()))).count();
        gone_small.insert((small, rounds));
    }
    assert!(gone_small.contains(&(5, 6)), "each had its turn after the first round of the large one");
    assert_eq!(rounds, 5 + 10_000_usize.div_ceil(super::FIELDS_PER_ROUND));
    assert!(space.is_empty());
    assert_eq!(space.dbs[0].with_volatile_fields(), 0);
}

#[test]
fn a_copy_has_the_expiries_and_its_own_alarm() {
    let mut space = Keyspace::new(2, Reclaimer::default(), Rng::new(1));
    space.set_now(UnixMillis(1000));
    put(&mut space, 0, b"h", b"a", Some(1010));
    put(&mut space, 0, b"h", b"b", None);
    assert_eq!(space.db(0).copy(Key::new(b"h"), Key::new(b"copy"), 1), None);
    space.set_now(UnixMillis(1010));
    ActiveExpire::default().run_to_end(&mut space, CYCLE, 1);
    for (db, key) in [(0, Key::new(b"h")), (1, Key::new(b"copy"))] {
        assert_eq!(space.db(db).look_as::<Hash>(key).map(Describe::len), Some(1));
    }
}

#[test]
fn a_hash_that_is_replaced_leaves_no_alarm_behind() {
    let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
    space.set_now(UnixMillis(1000));
    let names: [&[u8]; 4] = [b"emptied", b"earlier", b"later", b"plain"];
    for (name, at) in names.into_iter().zip([Some(1010), Some(1020), Some(1030), None]) {
        put(&mut space, 0, name, b"field", at);
    }
    let mut take = |name| std::mem::take(space.db(0).write_as::<Hash>(Key::new(name)).unwrap().unwrap());
    let (earlier, later, plain) = (take(b"earlier"), take(b"later"), take(b"plain"));
    take(b"emptied");
    // Each entry has another hash than the one for which its alarm was set.
    let hashes: [(&[u8], Hash); 3] = [(b"later", earlier), (b"plain", later), (b"earlier", plain)];
    for (name, hash) in hashes {
        *space.db(0).write_as::<Hash>(Key::new(name)).unwrap().unwrap() = hash;
    }
    assert_eq!(space.dbs[0].with_volatile_fields(), 3, "the alarms are those of the entries");
    assert!(space.db(0).remove(Key::new(b"later"), false));
    space.db(0).rename(Key::new(b"plain"), Key::new(b"renamed"));
    space.dbs[0].check();
    space.set_now(UnixMillis(2000));
    ActiveExpire::default().run_to_end(&mut space, CYCLE, 1);
    space.dbs[0].check();
    assert_eq!(space.dbs[0].with_volatile_fields(), 0);
    assert_eq!(
        space.dbs[0].keys().iter().map(|entry| entry.key().to_vec()).collect::<Vec<_>>(),
        [b"earlier"]
    );
}
