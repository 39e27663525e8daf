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
use crate::stdx::hash::{Map, hash};
use crate::stdx::rng::Rng;
use crate::structures::dict::{Dict, Place};
use crate::structures::field::Field;
use crate::structures::sds::Value;

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

/// A key that clients have read, and those clients: one block, the key being the name of a field and the clients its
/// value, [`Reader`] after `Reader` in order of their identities. A key of 16 bytes that one client has read takes 32
/// bytes, and about 13 in the table.
pub struct ReadKey(Field);

/// Bytes of a client's reference: the identity, then the place, both little-endian.
type Reader = [u8; 12];

fn encode(client: ClientRef) -> Reader {
    let place = u32::try_from(client.key.0).expect("there are fewer than 2^32 descriptors");
    let mut bytes = [0; size_of::<Reader>()];
    bytes[..8].copy_from_slice(&client.id.to_le_bytes());
    bytes[8..].copy_from_slice(&place.to_le_bytes());
    bytes
}

fn decode(bytes: &Reader) -> ClientRef {
    let (id, place) = bytes.split_first_chunk::<8>().expect("a reference has 12 bytes");
    let place = u32::from_le_bytes(place.try_into().expect("four are left"));
    ClientRef { key: ClientKey(place as usize), id: u64::from_le_bytes(*id) }
}

impl ReadKey {
    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0.name()
    }

    /// The clients, by identity.
    pub fn readers(&self) -> impl ExactSizeIterator<Item = ClientRef> {
        readers(&self.0).iter().map(decode)
    }
}

fn readers(read: &Field) -> &[Reader] {
    read.value().as_chunks().0
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
    /// The keys that clients have read, each laid out as a [`ReadKey`].
    read: Dict<Field>,
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
        let new = encode(reader);
        match self.read.entry(hash(key), key) {
            Place::Vacant(vacant) => drop(vacant.insert(Field::new(key, Value::Bytes(&new), None))),
            Place::Occupied(mut read) => {
                let known = readers(&read);
                let Err(at) = known.binary_search_by_key(&reader.id, |known| decode(known).id) else {
                    return;
                };
                let mut all = known.to_vec();
                all.insert(at, new);
                read.map(|read| read.with_value(Value::Bytes(all.as_flattened()), None));
            }
        }
        self.items += 1;
    }

    /// Forgets a key. Returns it with its readers; `None` if nobody has read it.
    pub fn forget(&mut self, key: &[u8]) -> Option<ReadKey> {
        let gone = self.read.remove(hash(key), key)?;
        self.items -= readers(&gone).len();
        Some(ReadKey(gone))
    }

    /// Forgets a random key, each equally likely.
    pub fn forget_random(&mut self, rng: &mut Rng) -> Option<ReadKey> {
        let gone = self.read.remove_random(&mut || rng.next_u64())?;
        self.items -= readers(&gone).len();
        Some(ReadKey(gone))
    }

    /// Forgets all keys. The table is returned because freeing it takes time.
    #[must_use = "freeing a large table takes time, which another thread has"]
    pub fn forget_all(&mut self) -> Forgotten {
        self.items = 0;
        Forgotten { _read: mem::take(&mut self.read) }
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

/// Forgotten keys, to be dropped where the time does not matter.
#[derive(Default)]
pub struct Forgotten {
    _read: Dict<Field>,
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
            assert_eq!(self.items, self.read.iter().map(|read| readers(&read).len()).sum::<usize>());
            for read in self.read.iter() {
                assert!(read.value().len().is_multiple_of(size_of::<Reader>()) && !read.value().is_empty());
                assert!(readers(&read).is_sorted_by_key(|reader| decode(reader).id));
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
            let key = format!("key{}", rng.below(if step < 4000 { 40 } else { 2 })).into_bytes();
            // A hundred readers do not fit in the block of their key.
            let id = rng.below(200) << rng.below(40);
            match rng.below(300) {
                0 => {
                    drop(tracked.forget_all());
                    model.clear();
                }
                1..3 => {
                    let expected: Vec<u64> =
                        model.iter().filter(|pair| pair.0 == key).map(|pair| pair.1).collect();
                    let gone = tracked.forget(&key);
                    let told = gone.iter().flat_map(|gone| gone.readers().map(|reader| reader.id));
                    let told: Vec<u64> = told.collect();
                    assert_eq!(told, expected, "step {step} of seed {seed}");
                    model.retain(|pair| pair.0 != key);
                }
                _ => {
                    tracked.remember(&key, ClientRef { key: ClientKey(id as u32 as usize), id });
                    model.insert((key, id));
                }
            }
            tracked.check();
            assert_eq!(tracked.items(), model.len(), "step {step} of seed {seed}");
            if rng.one_in(8) {
                let random = tracked.forget_random(&mut rng);
                assert_eq!(random.is_none(), model.is_empty());
                let Some(random) = random else { continue };
                let pairs = random.readers().map(|reader| (random.key().to_vec(), reader.id));
                pairs.for_each(|pair| assert!(model.remove(&pair)));
                assert!(model.iter().all(|pair| pair.0 != random.key()));
            }
        }
    }

    #[test]
    fn many_keys_leave_no_room_behind() {
        let mut tracked = Tracked::default();
        let key = |i: u32| i.to_le_bytes();
        (0..50_000).for_each(|i| tracked.remember(&key(i), ClientRef { key: ClientKey(1), id: 1 }));
        let full = tracked.read.bytes();
        (10..50_000).for_each(|i| assert!(tracked.forget(&key(i)).is_some()));
        tracked.check();
        assert!(tracked.keys() == 10 && full > 500_000 && tracked.read.bytes() < 10_000);
    }

    #[test]
    fn a_key_and_its_reader_take_one_small_block() {
        let mut tracked = Tracked::default();
        (0..60_000).for_each(|i| {
            tracked.remember(format!("key:{i:012}").as_bytes(), ClientRef { key: ClientKey(1), id: i });
        });
        let blocks: usize = tracked.read.iter().map(|read| read.bytes()).sum();
        assert!(blocks + tracked.read.bytes() < 60_000 * 52, "{blocks} {}", tracked.read.bytes());
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
