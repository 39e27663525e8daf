//! Client-side caching: keys that clients keep copies of, and the clients to notify when a key changes.
//!
//! There are two modes. By default the server remembers which clients have read a key. When the key changes, the key
//! and its readers are forgotten, so that each client is notified once per read. In broadcast mode the server
//! remembers only prefixes: a client is notified of every changed key with one of its prefixes, once per turn of the
//! event loop for all such keys.
//!
//! Clients are remembered by reference. One that leaves stays in the table until its keys change or are evicted from
//! the table, and is then found to be gone. Leaving is therefore cheap, and the table has a limit. (The scheme is
//! that of Redis 6, by Salvatore Sanfilippo.)

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::Arc;

use super::{ClientFlags, ClientKey, ClientRef, Clients};
use crate::stdx::hash::Map;
use crate::stdx::rng::Rng;

/// Which commands have their keys remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Caching {
    /// All commands.
    #[default]
    Always,
    /// Commands directly before which the client asked for it.
    OptIn,
    /// All commands but those directly before which the client declined.
    OptOut,
}

/// How a client's keys are tracked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tracking {
    /// Whether keys are tracked by prefix instead of by what the client reads.
    pub broadcast: bool,
    /// Which commands have their keys remembered.
    pub caching: Caching,
    /// Whether the client is not notified of its own changes.
    pub no_loop: bool,
    /// The client that gets the messages instead.
    pub redirect: Option<ClientRef>,
    /// Whether the client that should get the messages is gone.
    pub broken: bool,
    /// Prefixes in broadcast mode, sorted.
    prefixes: Vec<Arc<[u8]>>,
}

impl Tracking {
    /// Identity of the client that gets the messages; 0 for the client itself.
    pub fn redirect_id(&self) -> i64 {
        self.redirect.map_or(0, |client| client.id as i64)
    }

    /// Bytes allocated. The prefixes count in full, though others share them. O(prefixes).
    pub fn memory(&self) -> usize {
        let prefix = |prefix: &Arc<[u8]>| size_of_val(prefix) + prefix.len();
        size_of::<Self>() + self.prefixes.iter().map(prefix).sum::<usize>()
    }

    /// The prefixes in broadcast mode, sorted.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.prefixes.iter().map(|prefix| &**prefix)
    }
}

/// Number of free places for keys that is kept.
const ROOM_KEPT: usize = 1024;

/// A key that clients have read.
struct ReadKey {
    key: Arc<[u8]>,
    /// Sorted by identity.
    readers: Vec<ClientRef>,
}

/// A prefix of broadcast mode.
#[derive(Default)]
struct Prefix {
    listeners: HashSet<ClientKey>,
    /// Keys changed in this turn, each with the client that changed it last.
    changed: BTreeMap<Box<[u8]>, Option<ClientKey>>,
}

/// All tracked keys and prefixes.
#[derive(Default)]
pub struct Tracked {
    /// Number of clients whose keys are tracked.
    clients: usize,
    /// Number of connected clients whose keys are, or have been, remembered.
    readers: usize,
    /// Index of each key in `read`.
    places: Map<Arc<[u8]>, u32>,
    read: Vec<ReadKey>,
    items: usize,
    prefixes: Map<Arc<[u8]>, Prefix>,
    /// Number of prefixes of each length. A key is looked up by its own beginnings of these lengths.
    lengths: BTreeMap<usize, usize>,
    /// Prefixes with changed keys.
    pending: Vec<Arc<[u8]>>,
    /// How often in a row the table of keys was found too large and could not be reduced at once.
    pub hurry: usize,
}

impl Tracked {
    /// Number of clients whose keys are tracked.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Whether anybody may have to be notified of a change, now or after tracking again.
    pub fn concerns_anybody(&self) -> bool {
        self.clients > 0 || self.readers > 0
    }

    /// Number of keys remembered.
    pub fn keys(&self) -> usize {
        self.read.len()
    }

    /// Number of readers of all remembered keys.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of prefixes.
    pub fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// Remembers that a client has read a key. O(log readers) for a known reader, O(readers) for a new one.
    pub fn remember(&mut self, key: &[u8], reader: ClientRef) {
        let place = match self.places.get(key) {
            Some(&place) => place as usize,
            None => {
                // Indices are 32 bits wide. A key beyond that is not remembered, and its readers are not tracked.
                let Ok(place) = u32::try_from(self.read.len()) else { return };
                let key: Arc<[u8]> = key.into();
                self.places.insert(Arc::clone(&key), place);
                self.read.push(ReadKey { key, readers: vec![reader] });
                self.items += 1;
                return;
            }
        };
        let readers = &mut self.read[place].readers;
        if let Err(at) = readers.binary_search_by_key(&reader.id, |reader| reader.id) {
            readers.insert(at, reader);
            self.items += 1;
        }
    }

    /// Forgets a key and returns its readers.
    pub fn forget(&mut self, key: &[u8]) -> Vec<ClientRef> {
        let Some(place) = self.places.remove(key) else { return Vec::new() };
        let gone = self.read.swap_remove(place as usize);
        if let Some(moved) = self.read.get(place as usize) {
            *self.places.get_mut(&moved.key).expect("each key has its place") = place;
        }
        self.items -= gone.readers.len();
        self.shrink();
        gone.readers
    }

    /// Frees space that many keys needed once. Moves few of the remaining keys, and rarely.
    fn shrink(&mut self) {
        if self.read.capacity() > ROOM_KEPT && self.read.len() < self.read.capacity() / 16 {
            self.read.shrink_to(2 * self.read.len());
            self.places.shrink_to(2 * self.places.len());
        }
    }

    /// Forgets all keys. The tables are returned because freeing them takes time.
    #[must_use = "freeing a large table takes time, which another thread has"]
    pub fn forget_all(&mut self) -> Forgotten {
        self.items = 0;
        Forgotten { _places: mem::take(&mut self.places), _read: mem::take(&mut self.read) }
    }

    /// A random key, each equally likely.
    pub fn random_key(&self, rng: &mut Rng) -> Option<Arc<[u8]>> {
        rng.choose(&self.read).map(|read| Arc::clone(&read.key))
    }

    /// Notes under all prefixes of a key that `by` has changed it. O(lengths of prefixes).
    pub fn changed(&mut self, key: &[u8], by: Option<ClientKey>) {
        for (&length, _) in self.lengths.range(..=key.len()) {
            let Some((name, _)) = self.prefixes.get_key_value(&key[..length]) else { continue };
            let name = Arc::clone(name);
            let prefix = self.prefixes.get_mut(&name).expect("it was there just now");
            if prefix.changed.is_empty() {
                self.pending.push(name);
            }
            prefix.changed.insert(key.into(), by);
        }
    }

    /// Whether broadcast messages are pending.
    #[inline]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the pending broadcast of one prefix.
    pub fn take_pending(&mut self) -> Option<Broadcast> {
        let name = self.pending.pop()?;
        let prefix = self.prefixes.get_mut(&name).expect("what is pending has listeners");
        let listeners = prefix.listeners.iter().copied().collect();
        let changed = std::mem::take(&mut prefix.changed).into_iter().collect();
        Some(Broadcast { listeners, changed })
    }

    fn add_prefix(&mut self, name: &Arc<[u8]>, client: ClientKey) {
        let lengths = &mut self.lengths;
        let prefix = self.prefixes.entry(Arc::clone(name)).or_insert_with(|| {
            *lengths.entry(name.len()).or_default() += 1;
            Prefix::default()
        });
        prefix.listeners.insert(client);
    }

    fn remove_prefix(&mut self, name: &Arc<[u8]>, client: ClientKey) {
        let Some(prefix) = self.prefixes.get_mut(name) else { return };
        prefix.listeners.remove(&client);
        if prefix.listeners.is_empty() {
            if !prefix.changed.is_empty() {
                self.pending.retain(|pending| pending != name);
            }
            self.prefixes.remove(name);
            if let Some(count) = self.lengths.get_mut(&name.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&name.len());
                }
            }
        }
    }
}

/// Tables of forgotten keys, to be dropped where the time does not matter.
#[derive(Default)]
pub struct Forgotten {
    _places: Map<Arc<[u8]>, u32>,
    _read: Vec<ReadKey>,
}

/// Broadcast about the changed keys of one prefix.
pub struct Broadcast {
    /// Clients with this prefix.
    pub listeners: Vec<ClientKey>,
    /// Changed keys, each with the client that changed it last.
    pub changed: Vec<(Box<[u8]>, Option<ClientKey>)>,
}

impl Clients {
    /// Tracks a client's keys as `wanted` says. `prefixes` are added to the client's earlier ones (broadcast mode).
    pub fn track(&mut self, key: ClientKey, wanted: Tracking, prefixes: &[&[u8]]) {
        let client = &mut self.slab[key.0];
        let before = client.tracking.take();
        self.tracking.clients += usize::from(before.is_none());
        let mut tracking = wanted;
        tracking.prefixes = before.map(|tracking| tracking.prefixes).unwrap_or_default();
        for &prefix in prefixes {
            let Err(at) = tracking.prefixes.binary_search_by(|known| (**known).cmp(prefix)) else { continue };
            let name = match self.tracking.prefixes.get_key_value(prefix) {
                Some((name, _)) => Arc::clone(name),
                None => prefix.into(),
            };
            self.tracking.add_prefix(&name, key);
            tracking.prefixes.insert(at, name);
        }
        client.flags.set(ClientFlags::TRACKS_READS, !tracking.broadcast);
        client.flags.set(ClientFlags::CHOSE_CACHING, false);
        if !tracking.broadcast && !client.flags.has(ClientFlags::READS_REMEMBERED) {
            client.flags.set(ClientFlags::READS_REMEMBERED, true);
            self.tracking.readers += 1;
        }
        client.tracking = Some(Box::new(tracking));
    }

    /// Ends the tracking of a client's keys. What it has read stays remembered: it may still have copies, and is
    /// notified of their changes if it is tracked again. O(its prefixes).
    pub fn untrack(&mut self, key: ClientKey) {
        let client = &mut self.slab[key.0];
        client.flags.set(ClientFlags::TRACKS_READS, false);
        client.flags.set(ClientFlags::CHOSE_CACHING, false);
        let Some(tracking) = client.tracking.take() else { return };
        for name in &tracking.prefixes {
            self.tracking.remove_prefix(name, key);
        }
        self.tracking.clients -= 1;
    }

    /// Notes that a client leaves, so that nobody needs to remember what it has read. Returns tables that are no
    /// longer needed: those of all keys, if no other client has read any.
    #[must_use = "freeing a large table takes time, which another thread has"]
    pub fn forget_reader(&mut self, key: ClientKey) -> Forgotten {
        let client = &mut self.slab[key.0];
        if client.flags.has(ClientFlags::READS_REMEMBERED) {
            client.flags.set(ClientFlags::READS_REMEMBERED, false);
            self.tracking.readers -= 1;
        }
        if self.tracking.readers == 0 { self.tracking.forget_all() } else { Forgotten::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl Tracked {
        fn check(&self) {
            assert_eq!(self.places.len(), self.read.len());
            assert_eq!(self.items, self.read.iter().map(|read| read.readers.len()).sum::<usize>());
            for (place, read) in self.read.iter().enumerate() {
                assert_eq!(self.places[&read.key], place as u32);
                assert!(!read.readers.is_empty() && read.readers.is_sorted_by_key(|reader| reader.id));
            }
            let mut lengths = BTreeMap::new();
            assert!(self.pending.iter().all(|name| self.prefixes.contains_key(name)));
            for (name, prefix) in &self.prefixes {
                *lengths.entry(name.len()).or_insert(0) += 1;
                assert!(!prefix.listeners.is_empty());
                assert_eq!(!prefix.changed.is_empty(), self.pending.contains(name));
            }
            assert_eq!(self.lengths, lengths);
        }
    }

    #[test]
    fn keys_and_readers_agree_with_a_set_of_pairs() {
        let seed = rand::random();
        let mut rng = Rng::new(seed);
        let mut tracked = Tracked::default();
        let mut model: BTreeSet<(Vec<u8>, u64)> = BTreeSet::new();
        for step in 0..5000 {
            let key = format!("key{}", rng.below(40)).into_bytes();
            let id = rng.below(10);
            match rng.below(100) {
                0 => {
                    drop(tracked.forget_all());
                    model.clear();
                }
                1..30 => {
                    let expected: Vec<u64> =
                        model.iter().filter(|pair| pair.0 == key).map(|pair| pair.1).collect();
                    let told: Vec<u64> = tracked.forget(&key).iter().map(|reader| reader.id).collect();
                    assert_eq!(told, expected, "step {step} of seed {seed}");
                    model.retain(|pair| pair.0 != key);
                }
                _ => {
                    tracked.remember(&key, ClientRef { key: ClientKey(id as usize), id });
                    model.insert((key, id));
                }
            }
            tracked.check();
            assert_eq!(tracked.items(), model.len(), "step {step} of seed {seed}");
            let random = tracked.random_key(&mut rng);
            assert_eq!(random.is_none(), model.is_empty());
            assert!(random.is_none_or(|key| model.iter().any(|pair| pair.0 == *key)));
        }
    }

    #[test]
    fn many_keys_leave_no_room_behind() {
        let mut tracked = Tracked::default();
        let key = |i: u32| i.to_le_bytes();
        (0..50_000).for_each(|i| tracked.remember(&key(i), ClientRef { key: ClientKey(1), id: 1 }));
        (10..50_000).for_each(|i| assert_eq!(tracked.forget(&key(i)).len(), 1));
        tracked.check();
        assert!(tracked.keys() == 10 && tracked.read.capacity() < 4000 && tracked.places.capacity() < 8000);
    }

    #[test]
    fn a_changed_key_is_noted_for_each_of_its_prefixes() {
        let mut tracked = Tracked::default();
        let names: Vec<Arc<[u8]>> =
            [&b""[..], b"a", b"ab", b"b", b"abcd"].iter().map(|&name| name.into()).collect();
        for (i, name) in names.iter().enumerate() {
            tracked.add_prefix(name, ClientKey(i));
        }
        tracked.add_prefix(&names[2], ClientKey(9));
        tracked.check();
        tracked.changed(b"abc", Some(ClientKey(1)));
        tracked.changed(b"b", None);
        tracked.changed(b"abc", None);
        tracked.check();
        let mut told = BTreeMap::new();
        while let Some(Broadcast { mut listeners, changed }) = tracked.take_pending() {
            listeners.sort_unstable_by_key(|client| client.0);
            assert!(changed.iter().all(|(_, by)| by.is_none()));
            let keys: Vec<String> =
                changed.iter().map(|(key, _)| String::from_utf8_lossy(key).into()).collect();
            told.insert(listeners.iter().map(|client| client.0).collect::<Vec<_>>(), keys.join(" "));
        }
        let expected = [(vec![0], "abc b"), (vec![1], "abc"), (vec![2, 9], "abc"), (vec![3], "b")];
        assert_eq!(told, expected.map(|(clients, keys)| (clients, keys.to_owned())).into());
        for (i, name) in names.iter().enumerate() {
            tracked.changed(b"abcd", None);
            tracked.remove_prefix(name, ClientKey(i));
        }
        tracked.remove_prefix(&names[2], ClientKey(9));
        assert!(tracked.take_pending().is_none() && tracked.lengths.is_empty() && !tracked.has_pending());
    }
}
