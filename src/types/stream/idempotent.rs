//! Idempotent producers: which entry was added under which idempotency id, so that an entry sent again is not added
//! twice.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::id::StreamId;

/// Default time in seconds for which an idempotency id is remembered.
pub const DEFAULT_DURATION_S: u64 = 100;
/// Default number of idempotency ids remembered per producer.
pub const DEFAULT_MAX_SIZE: u64 = 100;

/// Idempotency ids of all producers of a stream.
///
/// The age of an idempotency id follows from the time in the id of its entry, so files store no other time.
///
/// What always holds: each producer has at least one and at most `max_size` idempotency ids; in the order in which they
/// are forgotten, the ids of their entries do not descend.
#[derive(Clone)]
pub struct Idempotency {
    duration_s: u64,
    max_size: u64,
    producers: BTreeMap<Box<[u8]>, Producer>,
    added: u64,
    duplicates: u64,
}

#[derive(Clone, Default)]
struct Producer {
    entries: HashMap<Arc<[u8]>, StreamId>,
    order: VecDeque<(Arc<[u8]>, StreamId)>,
}

/// The idempotency id belongs to another entry already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the idempotency id belongs to another entry")]
pub struct OtherEntry;

impl Default for Idempotency {
    fn default() -> Self {
        Idempotency {
            duration_s: DEFAULT_DURATION_S,
            max_size: DEFAULT_MAX_SIZE,
            producers: BTreeMap::new(),
            added: 0,
            duplicates: 0,
        }
    }
}

/// An idempotency id computed from fields and values: equal for equal content in the same order.
pub fn content_id<'f>(items: impl Iterator<Item = &'f [u8]>) -> [u8; 16] {
    let mut hash = Sha1::new();
    for item in items {
        hash.update((item.len() as u64).to_le_bytes());
        hash.update(item);
    }
    let digest: [u8; 20] = hash.finalize().into();
    *digest.first_chunk().expect("a digest has twenty bytes")
}

impl Idempotency {
    /// Time in seconds for which an idempotency id is remembered.
    pub fn duration_s(&self) -> u64 {
        self.duration_s
    }

    /// Largest number of ids remembered per producer.
    pub fn max_size(&self) -> u64 {
        self.max_size
    }

    /// Number of producers with remembered ids.
    pub fn producers_len(&self) -> usize {
        self.producers.len()
    }

    /// Number of remembered ids. O(producers).
    pub fn len(&self) -> usize {
        self.producers.values().map(|producer| producer.order.len()).sum()
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Whether the settings are the defaults, no ids are remembered and both counters are zero.
    pub fn is_default(&self) -> bool {
        let settings = (self.duration_s, self.max_size) == (DEFAULT_DURATION_S, DEFAULT_MAX_SIZE);
        settings && self.producers.is_empty() && (self.added, self.duplicates) == (0, 0)
    }

    /// Number of entries ever added with an idempotency id.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Number of entries ever sent again and therefore not added.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Sets both counters to values from a file.
    pub fn set_counters(&mut self, added: u64, duplicates: u64) {
        (self.added, self.duplicates) = (added, duplicates);
    }

    /// Changes the given settings, and forgets all ids if one of them differs from before; whether one does.
    pub fn configure(&mut self, duration_s: Option<u64>, max_size: Option<u64>) -> bool {
        let new = (duration_s.unwrap_or(self.duration_s), max_size.unwrap_or(self.max_size).max(1));
        let differs = new != (self.duration_s, self.max_size);
        if differs {
            (self.duration_s, self.max_size) = new;
            self.producers.clear();
        }
        differs
    }

    /// The entry that a producer added with this id, if it is still remembered at `now_ms`. O(log producers).
    pub fn find(&self, producer: &[u8], iid: &[u8], now_ms: u64) -> Option<StreamId> {
        let id = *self.producers.get(producer)?.entries.get(iid)?;
        (!self.is_over(id, now_ms)).then_some(id)
    }

    /// Counts an entry that was sent again.
    pub fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Counts an entry added with an idempotency id and remembers the id. Forgets the producer's ids that have expired
    /// by `now_ms`.
    pub fn add(&mut self, producer: &[u8], iid: &[u8], id: StreamId, now_ms: u64) {
        self.expire_producer(producer, now_ms);
        if self.record(producer, iid, id).is_ok() {
            self.added += 1;
        }
    }

    /// Remembers that an idempotency id belongs to an entry, without counting the entry, as for entries from files.
    /// O(log producers).
    ///
    /// # Errors
    /// [`OtherEntry`] if the idempotency id belongs to another entry.
    pub fn record(&mut self, producer: &[u8], iid: &[u8], id: StreamId) -> Result<(), OtherEntry> {
        if !self.producers.contains_key(producer) {
            self.producers.insert(producer.into(), Producer::default());
        }
        let max_size = self.max_size;
        let producer = self.producers.get_mut(producer).expect("it was created if need be");
        if let Some(&known) = producer.entries.get(iid) {
            return if known == id { Ok(()) } else { Err(OtherEntry) };
        }
        let iid: Arc<[u8]> = iid.into();
        producer.entries.insert(iid.clone(), id);
        // Entries come in ascending order, except in files written by other programs.
        let place = producer.order.iter().rposition(|(_, other)| *other <= id).map_or(0, |place| place + 1);
        producer.order.insert(place, (iid, id));
        while producer.order.len() as u64 > max_size {
            producer.forget_first();
        }
        Ok(())
    }

    /// Whether the idempotency id of the entry `id` has expired by `now_ms`.
    fn is_over(&self, id: StreamId, now_ms: u64) -> bool {
        id.ms.saturating_add(self.duration_s.saturating_mul(1000)) <= now_ms
    }

    fn expire_producer(&mut self, name: &[u8], now_ms: u64) -> u64 {
        let limit = now_ms.checked_sub(self.duration_s.saturating_mul(1000));
        let (Some(limit), Some(producer)) = (limit, self.producers.get_mut(name)) else {
            return 0;
        };
        let mut forgotten = 0;
        while producer.order.front().is_some_and(|(_, id)| id.ms <= limit) {
            producer.forget_first();
            forgotten += 1;
        }
        if producer.order.is_empty() {
            self.producers.remove(name);
        }
        forgotten
    }

    /// Forgets the ids that have expired by `now_ms` and returns their number. O(producers + forgotten).
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let Some(limit) = now_ms.checked_sub(self.duration_s.saturating_mul(1000)) else {
            return 0;
        };
        let mut forgotten = 0;
        self.producers.retain(|_, producer| {
            while producer.order.front().is_some_and(|(_, id)| id.ms <= limit) {
                producer.forget_first();
                forgotten += 1;
            }
            !producer.order.is_empty()
        });
        forgotten
    }

    /// When the first id expires, in Unix milliseconds; `None` if none is remembered. O(producers).
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let first = self.producers.values().filter_map(|p| p.order.front()).map(|(_, id)| id.ms).min()?;
        Some(first.saturating_add(self.duration_s.saturating_mul(1000)))
    }

    /// The producers in order of their names, each with the number of its ids, and these with their entries, oldest
    /// first.
    pub fn producers(&self) -> impl Iterator<Item = (&[u8], usize, impl Iterator<Item = (&[u8], StreamId)>)> {
        self.producers.iter().map(|(name, producer)| {
            (&**name, producer.order.len(), producer.order.iter().map(|(iid, id)| (&**iid, *id)))
        })
    }

    /// Estimated bytes allocated.
    pub fn bytes(&self) -> usize {
        let of_producer = |(name, producer): (&[u8], &Producer)| {
            let ids = producer.order.iter().map(|(iid, _)| iid.len() + 16).sum::<usize>();
            name.len()
                + size_of::<Producer>()
                + ids
                + producer.order.capacity() * 32
                + producer.entries.capacity() * 33
        };
        size_of::<Idempotency>()
            + self.producers.iter().map(|(name, producer)| of_producer((name, producer))).sum::<usize>()
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        for producer in self.producers.values() {
            assert!(!producer.order.is_empty(), "no producer is empty");
            assert!(producer.order.len() as u64 <= self.max_size, "no producer has too many ids");
            assert_eq!(producer.order.len(), producer.entries.len(), "every id is listed");
            assert!(producer.order.iter().is_sorted_by_key(|(_, id)| *id), "entries do not descend");
            assert!(producer.order.iter().all(|(iid, id)| producer.entries.get(iid) == Some(id)));
        }
    }
}

impl Producer {
    fn forget_first(&mut self) {
        if let Some((iid, _)) = self.order.pop_front() {
            self.entries.remove(&iid);
        }
    }
}
