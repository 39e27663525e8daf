//! A consumer group: the position up to which it has read, its consumers, and the pending entries of each.

use std::collections::BTreeSet;

use super::id::StreamId;
use super::pending::{Owner, Pending, PendingList};
use super::sorted::Sorted;
use crate::stdx::alloc::relocation::Relocator;

/// Number of a consumer within its group. Valid until the consumer is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerId(pub(super) u32);

/// A consumer, which reads from a stream as a member of a group.
#[derive(Clone)]
pub struct Consumer {
    name: Box<[u8]>,
    seen_ms: i64,
    active_ms: i64,
    pub(super) ids: Sorted<StreamId>,
}

/// A group of consumers that share the entries of a stream.
///
/// What always holds: each pending entry belongs to exactly one consumer, or has been released and belongs to none, and
/// its id is in the corresponding list; `order` has the number of every consumer, ascending by name; the last element
/// of `consumers` is in use.
#[derive(Clone)]
pub struct Group {
    name: Box<[u8]>,
    pub(super) last_id: StreamId,
    /// Number of entries that the group has read or skipped, counted from the first ever added; `None` if unknown.
    pub(super) entries_read: Option<u64>,
    pub(super) pending: PendingList,
    consumers: Vec<Option<Consumer>>,
    order: Vec<u32>,
    free: BTreeSet<u32>,
    pub(super) released: Sorted<StreamId>,
}

/// A pending entry, as commands report it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingEntry {
    /// The entry's id.
    pub id: StreamId,
    /// The consumer that owns the entry; `None` if it was released.
    pub consumer: Option<ConsumerId>,
    /// Time of the last delivery in Unix milliseconds; zero if the entry was released.
    pub delivered_ms: i64,
    /// Number of deliveries.
    pub deliveries: u64,
}

/// How a consumer releases a pending entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The last delivery is not counted.
    Silent,
    /// The delivery count stays.
    Fail,
    /// The delivery count becomes [`FATAL_DELIVERIES`].
    Fatal,
}

/// Delivery count of an entry that was released as hopeless, the greatest possible one.
pub const FATAL_DELIVERIES: u64 = i64::MAX as u64;

impl Consumer {
    /// Name of the consumer.
    #[inline]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Time of the consumer's last activity, in Unix milliseconds.
    #[inline]
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms
    }

    /// Time at which the consumer last received an entry, in Unix milliseconds; -1 for never.
    #[inline]
    pub fn active_ms(&self) -> i64 {
        self.active_ms
    }

    /// Number of entries pending for the consumer. O(1).
    #[inline]
    pub fn pending_len(&self) -> usize {
        self.ids.len()
    }

    /// Ids of the entries pending for the consumer, in order.
    pub fn pending_ids(&self) -> impl Iterator<Item = StreamId> {
        self.ids.iter().copied()
    }
}

impl Group {
    /// A group without consumers that has read up to `last_id`.
    pub(super) fn new(name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            name: name.into(),
            last_id,
            entries_read,
            pending: PendingList::default(),
            consumers: Vec::new(),
            order: Vec::new(),
            free: BTreeSet::new(),
            released: Sorted::default(),
        }
    }

    /// Moves blocks whose places are sparse.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        by.relocate_bytes(&mut self.name);
        self.pending.relocate(by);
        by.relocate_vec(&mut self.consumers);
        by.relocate_vec(&mut self.order);
        for consumer in self.consumers.iter_mut().flatten() {
            by.relocate_bytes(&mut consumer.name);
            consumer.ids.relocate(by);
        }
        self.released.relocate(by);
    }

    /// Name of the group.
    #[inline]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The last id delivered to the group.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// Number of entries that the group has read or skipped, counted from the first ever added; `None` if unknown.
    #[inline]
    pub fn entries_read(&self) -> Option<u64> {
        self.entries_read
    }

    /// Number of pending entries. O(1).
    #[inline]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The smallest and the greatest pending id. O(1).
    #[inline]
    pub fn pending_edges(&self) -> Option<(StreamId, StreamId)> {
        self.pending.edges()
    }

    /// Number of consumers. O(1).
    #[inline]
    pub fn consumers_len(&self) -> usize {
        self.order.len()
    }

    /// The consumers in order of their names.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.order.iter().map(|&number| (ConsumerId(number), self.consumer(ConsumerId(number))))
    }

    /// The consumer with this number.
    ///
    /// # Panics
    /// If the consumer was deleted.
    #[inline]
    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.consumers[id.0 as usize].as_ref().expect("a consumer's number is valid until it is deleted")
    }

    #[inline]
    fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        self.consumers[id.0 as usize].as_mut().expect("a consumer's number is valid until it is deleted")
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.order.binary_search_by(|&number| self.consumer(ConsumerId(number)).name().cmp(name))
    }

    /// The consumer with this name. O(log consumers).
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.place(name).ok().map(|place| ConsumerId(self.order[place]))
    }

    /// Creates a consumer, unless the name exists. O(log consumers), plus moving part of a list of numbers.
    pub(super) fn create_consumer(
        &mut self,
        name: &[u8],
        seen_ms: i64,
        active_ms: i64,
    ) -> Option<ConsumerId> {
        let place = self.place(name).err()?;
        let consumer = Consumer { name: name.into(), seen_ms, active_ms, ids: Sorted::default() };
        let number = match self.free.pop_first() {
            Some(number) => {
                self.consumers[number as usize] = Some(consumer);
                number
            }
            None => {
                self.consumers.push(Some(consumer));
                u32::try_from(self.consumers.len() - 1).expect("fewer consumers than bytes of memory")
            }
        };
        self.order.insert(place, number);
        Some(ConsumerId(number))
    }

    /// Deletes a consumer with its pending entries and returns their number. O(k log n) for k such entries.
    pub(super) fn delete_consumer(&mut self, id: ConsumerId) -> u64 {
        let place = self.place(self.consumer(id).name()).expect("a consumer is listed");
        self.order.remove(place);
        let consumer = self.consumers[id.0 as usize].take().expect("a listed consumer is there");
        self.free.insert(id.0);
        self.give_back_places();
        for &pending in consumer.ids.iter() {
            self.pending.remove(pending);
        }
        consumer.ids.len() as u64
    }

    /// Frees memory behind the last consumer.
    fn give_back_places(&mut self) {
        while self.consumers.pop_if(|last| last.is_none()).is_some() {
            self.free.remove(&(self.consumers.len() as u32));
        }
        let (used, listed) = (self.consumers.len(), self.order.len());
        if used * 4 <= self.consumers.capacity() {
            self.consumers.shrink_to(used * 2);
        }
        if listed * 4 <= self.order.capacity() {
            self.order.shrink_to(listed * 2);
        }
    }

    /// Records that a consumer was active at `now_ms`.
    #[inline]
    pub(super) fn saw(&mut self, id: ConsumerId, now_ms: i64) {
        self.consumer_mut(id).seen_ms = now_ms;
    }

    /// Records that a consumer received an entry at `now_ms`.
    #[inline]
    pub(super) fn served(&mut self, id: ConsumerId, now_ms: i64) {
        self.consumer_mut(id).active_ms = now_ms;
    }

    /// The list of the ids of an owner's pending entries.
    #[inline]
    fn list(&mut self, owner: Owner) -> Option<&mut Sorted<StreamId>> {
        match owner {
            Owner::Consumer(number) => Some(&mut self.consumer_mut(ConsumerId(number)).ids),
            Owner::Nobody => Some(&mut self.released),
            Owner::Unknown => None,
        }
    }

    /// Makes an entry pending for `owner`, replacing any previous owner. O(log n), O(1) for a new greatest id.
    #[inline]
    pub(super) fn assign(&mut self, id: StreamId, owner: Owner, time: i64, count: u64) {
        let entry = Pending { id, time, owner, count };
        let mut before = None;
        if !self.pending.insert(entry) {
            let at = self.pending.find(id).expect("an entry that cannot be added is there");
            before = Some(self.pending.owner(at));
            self.pending.replace(at, entry);
        }
        if before != Some(owner) {
            if let Some(list) = before.and_then(|before| self.list(before)) {
                list.remove(id);
            }
            if let Some(list) = self.list(owner) {
                list.insert(id);
            }
        }
    }

    /// Removes an entry from the pending entries; whether it was pending. O(log n).
    #[inline]
    pub(super) fn forget(&mut self, id: StreamId) -> bool {
        let Some(entry) = self.pending.remove(id) else {
            return false;
        };
        if let Some(list) = self.list(entry.owner) {
            list.remove(id);
        }
        true
    }

    /// The pending entry with this id. O(log n).
    #[inline]
    pub fn find_pending(&self, id: StreamId) -> Option<PendingEntry> {
        self.pending.find(id).map(|at| self.pending.get(at).into())
    }

    /// The pending entries with ids in `start..=end`, in order.
    pub fn pending(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = PendingEntry> {
        self.pending
            .iter_from(self.pending.at_or_after(start))
            .take_while(move |entry| entry.id <= end)
            .map(PendingEntry::from)
    }

    /// The entries with ids in `start..=end` that are pending for one consumer, in order. O(log n) for each.
    pub fn pending_of(
        &self,
        consumer: ConsumerId,
        start: StreamId,
        end: StreamId,
    ) -> impl Iterator<Item = PendingEntry> {
        let ids = &self.consumer(consumer).ids;
        ids.iter_from(ids.at_or_after(start))
            .take_while(move |&&id| id <= end)
            .map(|&id| self.find_pending(id).expect("what a consumer has is pending"))
    }

    /// Ids of the released entries, which are pending without an owner, in order.
    pub fn released(&self) -> impl Iterator<Item = StreamId> {
        self.released.iter().copied()
    }

    /// Number of released entries. O(1).
    #[inline]
    pub fn released_len(&self) -> usize {
        self.released.len()
    }

    /// Estimated bytes allocated.
    pub fn bytes(&self) -> usize {
        size_of::<Group>()
            + self.name.len()
            + self.pending.bytes()
            + self.released.bytes()
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
            + (self.order.capacity() + 2 * self.free.len()) * size_of::<u32>()
            + self.consumers.iter().flatten().map(|c| c.name.len() + c.ids.bytes()).sum::<usize>()
    }

    /// Number of allocations.
    pub fn effort(&self) -> usize {
        let consumers = self.consumers.iter().flatten().map(|c| 1 + c.ids.allocations()).sum::<usize>();
        2 + self.pending.allocations() + self.released.allocations() + consumers
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        self.pending.check();
        self.released.check();
        assert_eq!(self.order.len(), self.consumers.iter().flatten().count(), "every consumer is listed");
        assert_eq!(self.order.len() + self.free.len(), self.consumers.len(), "numbers are used or free");
        assert!(
            self.consumers.last().is_none_or(Option::is_some),
            "no place behind the last consumer is kept"
        );
        let names: Vec<_> = self.consumers().map(|(_, consumer)| consumer.name()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "names ascend");
        let mut owned = self.released.len();
        assert!(self.released().all(|id| self.find_pending(id).is_some_and(|p| p.consumer.is_none())));
        for (number, consumer) in self.consumers() {
            consumer.ids.check();
            owned += consumer.pending_len();
            let mut ids = consumer.pending_ids();
            assert!(ids.all(|id| self.find_pending(id).is_some_and(|p| p.consumer == Some(number))));
        }
        assert_eq!(owned, self.pending.len(), "every pending entry stands in one list");
    }
}

impl From<Pending> for PendingEntry {
    #[inline]
    fn from(pending: Pending) -> PendingEntry {
        let consumer = match pending.owner {
            Owner::Consumer(number) => Some(ConsumerId(number)),
            Owner::Nobody | Owner::Unknown => None,
        };
        PendingEntry { id: pending.id, consumer, delivered_ms: pending.time, deliveries: pending.count }
    }
}

impl Release {
    /// The delivery count after the release, if it was `before`.
    pub(super) fn count(self, before: u64) -> u64 {
        match self {
            Release::Silent => before.saturating_sub(1),
            Release::Fail => before,
            Release::Fatal => FATAL_DELIVERIES,
        }
    }
}
