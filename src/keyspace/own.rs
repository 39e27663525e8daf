//! Keys that were given an expiry by clients of a writable replica.
//!
//! The primary does not know of these expiries, so the replica removes such keys itself when they are due.

use std::collections::{BTreeSet, HashMap};

use super::databases::Keyspace;
use super::ledger::Change;
use super::suspension::Expiry;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;

/// Number of a database, and a key in it.
type Place = (u32, Box<[u8]>);

/// Most keys removed per call of [`Keyspace::expire_own`].
const PER_CALL: usize = 1000;

/// The keys, by the time at which each is examined.
#[derive(Default)]
pub struct OwnExpiries {
    times: HashMap<Place, UnixMillis>,
    order: BTreeSet<(UnixMillis, Place)>,
}

impl OwnExpiries {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    fn insert(&mut self, place: Place, at: UnixMillis) {
        if let Some(old) = self.times.insert(place.clone(), at) {
            self.order.remove(&(old, place.clone()));
        }
        self.order.insert((at, place));
    }

    fn pop_due(&mut self, now: UnixMillis) -> Option<Place> {
        if self.order.first()?.0 > now {
            return None;
        }
        let (_, place) = self.order.pop_first()?;
        self.times.remove(&place);
        Some(place)
    }
}

impl Keyspace {
    /// Records the keys among `changes` that have an expiry, if this server is a writable replica.
    pub fn note_own_expiries(&mut self, changes: &[Change], keys: &[u8]) {
        if self.expiry() != Expiry::Overwrite {
            return;
        }
        for change in changes {
            let Change::Key { db, key, .. } = change else { continue };
            let name = &keys[key.clone()];
            let expires = self.dbs[*db as usize].find(Key::new(name)).and_then(|entry| entry.expires());
            if let Some(at) = expires {
                self.own_expiries.insert((*db, name.into()), at);
            }
        }
    }

    /// Removes recorded keys that are due, at most a limited number per call.
    pub fn expire_own(&mut self) {
        if self.expiry() != Expiry::Overwrite {
            return;
        }
        for _ in 0..PER_CALL {
            let Some((db, name)) = self.own_expiries.pop_due(self.now) else { break };
            let (index, key) = (db as usize, Key::new(&name));
            match self.dbs[index].find(key).and_then(|entry| entry.expires()) {
                Some(at) if at > self.now => self.own_expiries.insert((db, name), at),
                Some(_) => self.expire_key(index, key),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::free::Reclaimer;
    use crate::keyspace::{Event, Suspend, Ttl};
    use crate::stdx::rng::Rng;
    use crate::types::Value;

    #[test]
    fn what_clients_set_on_a_replica_expires_there_and_nothing_else_does() {
        let at = UnixMillis;
        let mut space = Keyspace::new(16, Reclaimer::default(), Rng::new(1));
        space.set_now(at(0));
        let set = |space: &mut Keyspace, name: &[u8], ms: i64| {
            space.db(3).set_string(Key::new(name), Value::Int(1), Ttl::At(at(ms)));
        };
        set(&mut space, b"copied", 10);
        space.suspend_expiry(Suspend::WritableReplica, true);
        let note = |space: &mut Keyspace, name: &[u8]| {
            let event = Event::string("set");
            space.note_own_expiries(&[Change::Key { db: 3, key: 0..name.len(), event }], name);
        };
        for (name, ms) in [(&b"a"[..], 10), (b"b", 20), (b"b", 40), (b"c", 30)] {
            set(&mut space, name, ms);
            note(&mut space, name);
        }
        assert_eq!(space.own_expiries.len(), 3);
        // It was noted, and its expiry moved by its primary.
        set(&mut space, b"c", 60);
        let mut left = Vec::new();
        for now in [9, 10, 20, 35, 40, 60] {
            space.set_now(at(now));
            space.expire_own();
            left.push(space.databases()[3].len());
        }
        assert_eq!(left, [4, 3, 3, 3, 2, 1]);
        assert!(space.own_expiries.is_empty());
        // The other one is hidden until somebody writes to it.
        let key = Key::new(b"copied");
        assert!(space.db(3).read(key).is_none() && space.databases()[3].len() == 1);
        assert!(space.db(3).write(key).is_none() && space.databases()[3].is_empty());
    }
}
