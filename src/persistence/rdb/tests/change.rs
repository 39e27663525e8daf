//! Changes loaded values in every possible way, so that everything their structures rely on is exercised.

use std::ops::ControlFlow;

use super::*;
use crate::structures::listpack::Item;
use crate::types::Collection;
use crate::types::set::{difference, intersect, union};
use crate::types::stream::{NewId, NodeLimits, RefPolicy, StreamId, Threshold, Trim};
use crate::types::vector_set::SearchOptions;
use crate::types::zset::ScoreRange;

/// Number of changes per value.
const CHANGES: usize = 12;

/// Often a text that the value contains, otherwise another.
fn some_text(rng: &mut Rng, present: &[Vec<u8>]) -> Vec<u8> {
    if present.is_empty() || rng.one_in(3) { text(rng) } else { present[rng.index(present.len())].clone() }
}

/// The texts of a value: elements, members or fields.
fn texts_of(entry: &Entry) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    if let Some(collection) = entry.describe() {
        collection.each_part(&mut |part| {
            texts.push(match part {
                Part::Item(text) | Part::Field(text, _) | Part::Scored(text, _) => text.to_vec(),
                Part::Logged(entry) => entry.id.to_string().into_bytes(),
            });
        });
    }
    texts
}

/// Changes the values of `space` and checks each in between. Time passes meanwhile, so that keys and fields expire.
pub(super) fn change(space: &mut Keyspace, rng: &mut Rng, limits: &Limits) {
    let mut keys: Vec<(usize, Vec<u8>)> = Vec::new();
    for (index, db) in space.databases().iter().enumerate() {
        keys.extend(db.keys().iter().map(|entry| (index, entry.key().to_vec())));
    }
    for (index, name) in keys {
        let key = Key::new(&name);
        for _ in 0..CHANGES {
            let Some(entry) = space.databases()[index].keys().find(key.hash(), &name) else { break };
            let (kind, present) = (entry.kind(), texts_of(&entry));
            match kind {
                Kind::String => string(space, index, key, rng),
                Kind::List => list(space, index, key, rng, limits, &present),
                Kind::Set => set(space, index, key, rng, limits, &present),
                Kind::Zset => zset(space, index, key, rng, limits, &present),
                Kind::Hash => hash(space, index, key, rng, limits, &present),
                Kind::Stream => stream(space, index, key, rng),
                Kind::VectorSet => vectors(space, index, key, rng, &present),
            }
            if let Some(entry) = space.databases()[index].keys().find(key.hash(), &name) {
                check(&entry);
            }
        }
        entry(space, index, key, rng);
        if rng.one_in(4) {
            pass_time(space, rng);
        }
    }
    pass_time(space, rng);
}

fn pass_time(space: &mut Keyspace, rng: &mut Rng) {
    space.set_now(UnixMillis(space.now().0 + rng.below(1000) as i64));
    ActiveExpire::default().run_to_end(space, Cycle::Slow { tick: std::time::Duration::from_secs(1) }, 10);
}

fn some_time(space: &Keyspace, rng: &mut Rng) -> UnixMillis {
    let from_now = [rng.below(2000) as i64, 1 << 50, i64::MAX - space.now().0][rng.index(3)];
    UnixMillis(space.now().0 + from_now)
}

/// Applies a random operation that any key allows.
fn entry(space: &mut Keyspace, index: usize, key: Key<'_>, rng: &mut Rng) {
    let at = some_time(space, rng);
    let other = Key::new(b"other");
    let mut db = space.db(index);
    match rng.below(8) {
        0 => drop(db.set_expires(key, Some(at))),
        1 => drop(db.set_expires(key, None)),
        2 if db.contains(key) => _ = db.rename(key, other),
        3 if db.contains(key) => {
            db.remove(other, false);
            db.copy(key, other, (index + 1) % DBS);
        }
        4 => drop(db.remove(key, false)),
        5 => drop(db.take(key)),
        6 => db.set_string(key, Value::Bytes(b"another"), crate::keyspace::Ttl::Keep),
        _ => {}
    }
}

fn string(space: &mut Keyspace, index: usize, key: Key<'_>, rng: &mut Rng) {
    let mut db = space.db(index);
    let Ok(text) = db.string_mut(key) else { return };
    match rng.below(4) {
        0 => text.append(b"more"),
        1 => text.set_range(rng.index(300), b"within"),
        2 => text.truncate(rng.index(10)),
        _ => text.shrink_to_fit(),
    }
}

fn list(
    space: &mut Keyspace,
    index: usize,
    key: Key<'_>,
    rng: &mut Rng,
    limits: &Limits,
    present: &[Vec<u8>],
) {
    let mut db = space.db(index);
    let Ok(Some(list)) = db.write_as::<List>(key) else { return };
    let (one, other) = (some_text(rng, present), some_text(rng, present));
    let end = if rng.one_in(2) { End::Head } else { End::Tail };
    let at = rng.index(list.len() + 2);
    list.prepare(1, one.len(), limits);
    match rng.below(9) {
        0 => list.push(end, &one),
        1 => drop(list.pop(end, |item| item.to_vec())),
        2 => drop(list.set(at as i64, &one)),
        3 => drop(list.insert(&other, rng.one_in(2), &one)),
        4 => drop(list.remove(&other, end, rng.index(3))),
        5 if at < list.len() => list.remove_range(at, rng.index(list.len() - at) + 1),
        6 => list.positions(&other, end, 3, |_| true),
        7 => list.visit(-(at as i64), end, 5, |_| ()),
        _ => list.relax(limits),
    }
    db.settle::<List>(key);
}

fn set(
    space: &mut Keyspace,
    index: usize,
    key: Key<'_>,
    rng: &mut Rng,
    limits: &Limits,
    present: &[Vec<u8>],
) {
    let mut db = space.db(index);
    let Ok(Some(set)) = db.write_as::<Set>(key) else { return };
    let member = some_text(rng, present);
    match rng.below(8) {
        0 | 1 => drop(set.add(&member, limits)),
        2 => drop(set.remove(&member)),
        3 => {
            let most = rng.index(set.len() + 2);
            set.pop(most, rng, limits, |_| ());
        }
        4 => _ = set.random_distinct(rng.index(5), rng, |_| ControlFlow::Continue(())),
        5 => set.random_repeated(3, rng, |_| ()),
        6 => drop(set.scan(rng.next_u64(), |_| ())),
        _ => {
            let other = set.duplicate();
            let (mut both, mut any, mut first) = (0, 0, 0);
            let count = |n: &mut usize| {
                *n += 1;
                ControlFlow::Continue(())
            };
            let _ = intersect(&mut [set, &other], |_| count(&mut both));
            let _ = union(&[set, &other, &other, &other], limits, |_| count(&mut any));
            let _ = difference(set, &mut [&other], limits, |_| count(&mut first));
            assert_eq!((both, any, first), (set.len(), set.len(), 0));
        }
    }
    db.settle::<Set>(key);
}

fn vectors(space: &mut Keyspace, index: usize, key: Key<'_>, rng: &mut Rng, present: &[Vec<u8>]) {
    let mut db = space.db(index);
    let Ok(Some(set)) = db.write_as::<VectorSet>(key) else { return };
    let name = some_text(rng, present);
    let vector: Vec<f32> = (0..set.dim().min(1 << 10)).map(|_| rng.f64() as f32 - 0.5).collect();
    match rng.below(4) {
        0 if vector.len() == set.dim() => _ = set.add(&name, &vector, 10, None),
        1 => _ = set.set_attributes(&name, &text(rng)),
        2 if vector.len() == set.dim() => {
            let options = SearchOptions {
                count: 5,
                ef: 10,
                filter: None,
                filter_ef: 1,
                least: 0.0,
                exhaustive: rng.one_in(2),
            };
            assert!(set.search(&vector, &options).len() <= 5);
        }
        _ => _ = set.remove(&name),
    }
    set.check();
    db.settle::<VectorSet>(key);
}

fn stream(space: &mut Keyspace, index: usize, key: Key<'_>, rng: &mut Rng) {
    let now_ms = space.now().0;
    let mut db = space.db(index);
    let Ok(Some(stream)) = db.write_as::<Stream>(key) else { return };
    let ids: Vec<StreamId> = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
    let id = if ids.is_empty() { StreamId::MIN } else { ids[rng.index(ids.len())] };
    let policy = [RefPolicy::Keep, RefPolicy::Delete, RefPolicy::Acked][rng.index(3)];
    match rng.below(7) {
        0 | 1 => {
            // The id may be the greatest that there is.
            if let Ok(id) = stream.next_id(NewId::Auto, now_ms as u64) {
                let texts = [text(rng), text(rng)];
                stream
                    .add(id, texts.iter().map(Vec::as_slice), NodeLimits::default())
                    .expect("the id is new");
            }
        }
        2 => drop(stream.delete_with(id, policy)),
        3 => {
            let threshold = Threshold::MaxLen(rng.below(ids.len() as u64 + 1));
            stream.trim(Trim { threshold, approximate: rng.one_in(2), limit: 0 }, policy);
        }
        4 => {
            stream.create_group(&text(rng), id, None);
        }
        5 => {
            let name = stream.groups().next().map(|group| group.name().to_vec());
            if let Some(name) = name {
                assert!(stream.destroy_group(&name), "it was listed");
            }
        }
        _ => {
            let name = stream.groups().last().map(|group| group.name().to_vec());
            if let Some(at) = name.and_then(|name| stream.find_group(&name)) {
                let mut group = stream.group_mut(at);
                let consumer = group.group().find_consumer(b"a");
                if let Some(consumer) = consumer.or_else(|| group.create_consumer(b"a", now_ms)) {
                    group.auto_claim(consumer, StreamId::MIN, 0, 3, true, now_ms, |_| ());
                    stream.group_mut(at).acknowledge(id);
                    stream.group_mut(at).read_new(consumer, 3, false, now_ms).for_each(drop);
                }
            }
        }
    }
    stream.check();
}

fn zset(
    space: &mut Keyspace,
    index: usize,
    key: Key<'_>,
    rng: &mut Rng,
    limits: &Limits,
    present: &[Vec<u8>],
) {
    let mut db = space.db(index);
    let Ok(Some(zset)) = db.write_as::<Zset>(key) else { return };
    let member = some_text(rng, present);
    match rng.below(7) {
        0 | 1 => drop(zset.add(&member, score(rng), Rule::default(), limits)),
        2 => drop(zset.add(&member, score(rng), Rule { increment: true, ..Rule::default() }, limits)),
        3 => drop(zset.remove(&member)),
        4 => {
            let start = rng.index(zset.len() + 1);
            zset.remove_ranks(start..start + rng.index(4));
        }
        5 => {
            let rank = zset.rank(&member).map(|(rank, _)| rank);
            let found = rank.and_then(|rank| zset.from_rank(rank, false).next());
            assert_eq!(found.map(|pair| pair.member.to_vec()), rank.map(|_| member));
            zset.ranks_by_score(&ScoreRange::inclusive(score(rng), score(rng)));
        }
        _ => {
            let _ = zset.sample(3, rng, |_| ControlFlow::Continue(()));
            zset.scan(rng.next_u64(), |_| ());
        }
    }
    db.settle::<Zset>(key);
}

fn hash(
    space: &mut Keyspace,
    index: usize,
    key: Key<'_>,
    rng: &mut Rng,
    limits: &Limits,
    present: &[Vec<u8>],
) {
    let (now, at) = (space.now(), some_time(space, rng));
    let mut db = space.db(index);
    let Ok(Some(hash)) = db.write_as::<Hash>(key) else { return };
    let (field, value) = (some_text(rng, present), text(rng));
    let expiry = [NewExpiry::Never, NewExpiry::Same, NewExpiry::At(at)][rng.index(3)];
    match rng.below(8) {
        0 | 1 => drop(hash.put(&field, Value::Bytes(&value), expiry, limits, now)),
        2 => drop(hash.remove(&field, now)),
        3 => drop(hash.set_expiry(&field, Some(at))),
        4 => drop(hash.set_expiry(&field, None)),
        5 => {
            // As if one command had given each field its expiry: all are due together.
            for field in present {
                hash.set_expiry(field, Some(at));
            }
        }
        6 => {
            let _ = hash.random_distinct(rng.index(5), rng, now, |_, _| ControlFlow::Continue(()));
            hash.scan(rng.next_u64(), now, |_, _| ());
        }
        _ => {
            let _ = hash.get(&field, now).map(Item::to_vec);
            assert!(hash.len_at(now) <= hash.len());
        }
    }
    db.fields_expire(key);
    db.settle::<Hash>(key);
}
