//! Active defragmentation: a walk through all entries in steps, which moves blocks from sparse places.
//!
//! A [`Relocator`] decides about each block; this room passes it the blocks. The walk goes through the buckets of each
//! database, and puts large collections aside to process them in steps of their own. Commands run between two steps;
//! whether the walk visits what they add, move or remove does not matter.
//!
//! A shared value, such as a long string that is being sent to a client, is not moved.

use super::databases::Keyspace;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::Key;

/// Number of elements of a large collection processed in one step.
const STEP: usize = 64;

/// A large collection, which is processed in steps.
struct Large {
    db: usize,
    key: Box<[u8]>,
    cursor: u64,
}

/// Position of the walk within a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Keys(u64),
    Expires(u64),
}

/// A walk through all databases, from the first to the last.
pub struct Defragmentation {
    db: usize,
    part: Part,
    large: Vec<Large>,
    /// Number of keys with blocks that were moved; each step through a large collection counts by itself.
    pub key_hits: u64,
    /// Number of keys of which no block was moved.
    pub key_misses: u64,
}

impl Default for Defragmentation {
    fn default() -> Self {
        Defragmentation { db: 0, part: Part::Keys(0), large: Vec::new(), key_hits: 0, key_misses: 0 }
    }
}

impl Defragmentation {
    /// Continues the walk until the end, or until `late`, which is called after each step, returns true; whether more
    /// remains to be done. Collections of more than `most` elements are processed in steps.
    pub fn advance(
        &mut self,
        space: &mut Keyspace,
        by: &mut Relocator,
        most: usize,
        mut late: impl FnMut() -> bool,
    ) -> bool {
        while self.step(space, by, most) {
            if late() {
                return true;
            }
        }
        false
    }

    fn step(&mut self, space: &mut Keyspace, by: &mut Relocator, most: usize) -> bool {
        if let Some(large) = self.large.last_mut() {
            let before = by.moved;
            let db = &mut space.dbs[large.db];
            large.cursor = db.relocate_large(by, Key::new(&large.key), large.cursor, STEP);
            self.key_hits += u64::from(by.moved > before);
            if large.cursor == 0 {
                self.large.pop();
            }
            return true;
        }
        let Some(db) = space.dbs.get_mut(self.db) else { return false };
        self.part = match self.part {
            Part::Keys(cursor) => {
                let Defragmentation { large, key_hits, key_misses, .. } = self;
                let aside = |key: &[u8]| large.push(Large { db: self.db, key: key.into(), cursor: 0 });
                let count = |moved| if moved > 0 { *key_hits += 1 } else { *key_misses += 1 };
                match db.relocate(by, cursor, most, aside, count) {
                    0 => Part::Expires(0),
                    cursor => Part::Keys(cursor),
                }
            }
            Part::Expires(cursor) => match db.relocate_expires(by, cursor, STEP) {
                0 => {
                    self.db += 1;
                    Part::Keys(0)
                }
                cursor => Part::Expires(cursor),
            },
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::free::Reclaimer;
    use crate::keyspace::{Event, Ttl};
    use crate::stdx::clock::UnixMillis;
    use crate::stdx::rng::Rng;
    use crate::structures::sds::Sds;
    use crate::types::hash::NewExpiry;
    use crate::types::list::End;
    use crate::types::stream::{NewId, NodeLimits};
    use crate::types::zset::Rule;
    use crate::types::{Hash, Limits, List, Part as Element, Set, Stream, Value, Zset};
    use std::sync::Arc;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn space(seed: u64) -> Keyspace {
        let mut space = Keyspace::new(3, Reclaimer::default(), Rng::new(seed));
        if seed % 3 == 2 {
            space.divide_by_slot();
        }
        space.set_now(NOW);
        space
    }

    /// A text that is an integer, a short text, or a long one.
    fn text(rng: &mut Rng) -> Vec<u8> {
        match rng.below(12) {
            0 => rng.below(1_000_000).to_string().into_bytes(),
            1 => vec![b'l'; rng.index(6000)],
            _ => format!("text:{}", rng.below(100_000)).into_bytes(),
        }
    }

    /// Changes the value at a random key, or removes it.
    fn change(space: &mut Keyspace, rng: &mut Rng) {
        let limits = Limits {
            list_max_listpack_size: 16,
            list_compress_depth: rng.below(2) as u32,
            list_packed_threshold: 3000,
            ..Limits::default()
        };
        let db = rng.index(3);
        let name = match rng.below(20) {
            0 => vec![b'k'; 300],
            n => format!("{n}:{}", rng.below(40)).into_bytes(),
        };
        let (key, mut db) = (Key::new(&name), space.db(db));
        if rng.one_in(12) {
            db.remove(key, false);
            return;
        }
        let later = UnixMillis(NOW.0 + 1 + rng.below(1000) as i64);
        let times = if rng.one_in(10) { 400 } else { rng.index(6) };
        match name[0] % 6 {
            0 => {
                let long = rng.one_in(2).then(|| Value::Shared(Arc::new(Sds::from_slice(&text(rng)))));
                let short = text(rng);
                db.set_string(key, long.unwrap_or(Value::Bytes(&short)), Ttl::Clear);
            }
            1 => {
                let Ok(list) = db.write_or_insert(key, List::new) else { return };
                for _ in 0..=times {
                    let text = text(rng);
                    list.prepare(1, text.len(), &limits);
                    list.push(if rng.one_in(2) { End::Head } else { End::Tail }, &text);
                }
                list.pop(End::Head, |_| ());
                db.settle::<List>(key);
            }
            2 => {
                let Ok(set) = db.write_or_insert(key, Set::new) else { return };
                let ints = rng.one_in(3);
                for _ in 0..=times {
                    let text = if ints { rng.below(500).to_string().into_bytes() } else { text(rng) };
                    if rng.one_in(3) {
                        set.remove(&text)
                    } else {
                        set.add(&text, &limits)
                    };
                }
                db.settle::<Set>(key);
            }
            3 => {
                let Ok(zset) = db.write_or_insert(key, Zset::new) else { return };
                for _ in 0..=times {
                    let text = text(rng);
                    if rng.one_in(3) {
                        zset.remove(&text);
                    } else {
                        zset.add(&text, rng.below(50) as f64, Rule::default(), &limits);
                    }
                }
                db.settle::<Zset>(key);
            }
            4 => {
                let Ok(hash) = db.write_or_insert(key, Hash::new) else { return };
                for _ in 0..=times {
                    let (field, value) = (text(rng), text(rng));
                    let expiry = if rng.one_in(9) { NewExpiry::At(later) } else { NewExpiry::Same };
                    hash.put(&field, Value::Bytes(&value), expiry, &limits, NOW);
                }
                db.fields_expire(key);
            }
            _ => {
                let Ok(stream) = db.write_or_insert(key, Stream::new) else { return };
                for _ in 0..=times {
                    let id = stream.next_id(NewId::Auto, 5).expect("ids are left");
                    let value = text(rng);
                    let items = [&b"field"[..], &value];
                    stream.add(id, items.into_iter(), NodeLimits::default()).expect("it is the next");
                }
            }
        }
        if rng.one_in(3) {
            db.set_expires(key, Some(later));
        }
        db.changed(key, Event::generic("changed"), 1);
        db.space().ledger.take();
    }

    /// The content of a keyspace, as text.
    fn contents(space: &Keyspace) -> Vec<String> {
        let mut all = Vec::new();
        for (index, db) in space.databases().iter().enumerate() {
            db.check();
            for entry in db.keys().iter() {
                let mut parts = Vec::new();
                if let Some(collection) = entry.describe() {
                    collection.each_part(&mut |part| {
                        parts.push(match part {
                            Element::Item(item) => format!("{item:?}"),
                            Element::Field(field, value) => format!("{field:?}={value:?}"),
                            Element::Scored(member, score) => format!("{member:?}@{score}"),
                            Element::Logged(entry) => format!("{}", entry.id),
                        });
                    });
                }
                if !matches!(entry.encoding(), "quicklist" | "listpack" | "stream" | "skiplist") {
                    parts.sort();
                }
                let mut digits = itoa::Buffer::new();
                let string = entry.string().map(|string| string.text(&mut digits).to_vec());
                let (key, encoding, expires) = (entry.key(), entry.encoding(), entry.expires());
                all.push(format!("{index} {key:?} {encoding} {expires:?} {string:?} {parts:?}"));
                if let Some(hash) = entry.collection::<Hash>() {
                    hash.check();
                }
            }
        }
        all.sort();
        all
    }

    #[test]
    fn everything_moves_and_nothing_changes() {
        for seed in 0..3 {
            println!("seed {seed}");
            let (mut rng, mut space) = (Rng::new(seed), space(seed));
            for round in 0..6 {
                for _ in 0..100 {
                    change(&mut space, &mut rng);
                }
                let mut by = Relocator::of_everything();
                let mut walk = Defragmentation::default();
                let before = contents(&space);
                let most = [0, 10, 1000][round % 3];
                assert!(!walk.advance(&mut space, &mut by, most, || false));
                assert_eq!(contents(&space), before);
                assert!(by.moved > before.len() as u64 && by.kept == 0);
                assert!(walk.key_hits >= before.len() as u64 && walk.key_misses == 0);
            }
        }
    }

    #[test]
    fn a_walk_goes_on_while_commands_change_what_it_walks_through() {
        for seed in 100..104 {
            println!("seed {seed}");
            let (mut rng, mut space) = (Rng::new(seed), space(seed));
            let mut by = Relocator::of_everything();
            for _ in 0..3 {
                let mut walk = Defragmentation::default();
                // One step at a time, with a few changes between two steps.
                while walk.advance(&mut space, &mut by, 10, || true) {
                    for _ in 0..rng.below(3) {
                        change(&mut space, &mut rng);
                    }
                    if rng.one_in(50) {
                        let before = contents(&space);
                        space.db(0).remove(Key::new(b"nothing"), false);
                        assert_eq!(contents(&space), before);
                    }
                    if rng.one_in(500) {
                        space.flush(Some(rng.index(3)), false);
                    }
                    if rng.one_in(300) {
                        space.set_now(UnixMillis(space.now().0 + 100));
                        while space.expire_fields(0) {}
                        space.set_now(NOW);
                    }
                }
                contents(&space);
            }
        }
    }

    #[test]
    fn what_others_have_stays_where_it_is() {
        let mut space = space(1);
        let shared = Arc::new(Sds::from_slice(&[b'x'; 5000]));
        let address = shared.as_slice().as_ptr();
        space.db(0).set_string(Key::new(b"k"), Value::Shared(Arc::clone(&shared)), Ttl::Clear);
        let walk = |space: &mut Keyspace| {
            let mut by = Relocator::of_everything();
            Defragmentation::default().advance(space, &mut by, 10, || false);
            by.moved
        };
        assert!(walk(&mut space) > 0);
        assert_eq!(shared.as_slice().as_ptr(), address);
        let found = space.db(0).read(Key::new(b"k")).expect("it is there").shared_string();
        assert!(Arc::ptr_eq(&found.expect("a long string"), &shared));
        drop(shared);
        let before = walk(&mut space);
        let found = space.db(0).read(Key::new(b"k")).expect("it is there").shared_string();
        let found = found.expect("a long string");
        assert!(found.as_slice() == [b'x'; 5000] && found.as_slice().as_ptr() != address && before > 2);
    }
}
