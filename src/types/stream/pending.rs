//! The pending entries of a group: entries that were delivered and have not been acknowledged.
//!
//! A record takes 32 bytes, and its id in the list of the consumer another 16. That is 48 bytes, where a radix tree of
//! separately allocated records takes more than a hundred. Each consumer has a list of its own, so that reading the
//! history of a consumer does not depend on the pending entries of others.

use std::collections::BTreeMap;

use super::id::StreamId;
use super::sorted::{At, Keyed, Sorted};
use crate::stdx::alloc::relocation::Relocator;

/// Consumer number for "none".
const NOBODY: u32 = u32::MAX;
/// Consumer number for "not yet known", while a file is loaded.
const UNKNOWN: u32 = u32::MAX - 1;
/// Counts from this one on are stored in a separate table.
const HUGE: u32 = u32::MAX;

/// Owner of a pending entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// The consumer with this number.
    Consumer(u32),
    /// None: the entry was released.
    Nobody,
    /// None yet, while a file is loaded.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    id: StreamId,
    time: i64,
    owner: u32,
    count: u32,
}

const _: () = assert!(size_of::<Record>() == 32);

impl Keyed for Record {
    #[inline]
    fn id(&self) -> StreamId {
        self.id
    }

    #[inline]
    fn time(&self) -> i64 {
        self.time
    }
}

/// One pending entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    pub id: StreamId,
    /// Time of the last delivery in Unix milliseconds; zero for a released entry.
    pub time: i64,
    pub owner: Owner,
    /// Number of deliveries.
    pub count: u64,
}

/// Pending entries, sorted by id.
#[derive(Clone, Default)]
pub(super) struct PendingList {
    records: Sorted<Record>,
    /// Counts that do not fit into a record.
    huge: BTreeMap<StreamId, u64>,
}

impl Owner {
    #[inline]
    fn number(self) -> u32 {
        match self {
            Owner::Consumer(number) => number,
            Owner::Nobody => NOBODY,
            Owner::Unknown => UNKNOWN,
        }
    }

    #[inline]
    fn of(number: u32) -> Owner {
        match number {
            NOBODY => Owner::Nobody,
            UNKNOWN => Owner::Unknown,
            number => Owner::Consumer(number),
        }
    }
}

impl PendingList {
    /// Moves blocks whose places are sparse.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        self.records.relocate(by);
    }

    /// Number of pending entries.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn whole(&self, record: &Record) -> Pending {
        let count = match record.count {
            HUGE => self.huge.get(&record.id).copied().unwrap_or(u64::from(HUGE)),
            count => u64::from(count),
        };
        Pending { id: record.id, time: record.time, owner: Owner::of(record.owner), count }
    }

    /// The form of a count in a record.
    #[inline]
    fn fit(&mut self, id: StreamId, count: u64) -> u32 {
        match u32::try_from(count) {
            Ok(count) if count != HUGE => count,
            _ => {
                self.huge.insert(id, count);
                HUGE
            }
        }
    }

    /// The position of the entry with this id. O(log n).
    #[inline]
    pub(super) fn find(&self, id: StreamId) -> Option<At> {
        self.records.find(id)
    }

    /// The position of the first entry with this id or a greater one. O(log n).
    #[inline]
    pub(super) fn at_or_after(&self, id: StreamId) -> Option<At> {
        self.records.at_or_after(id)
    }

    /// The entry at `at`.
    #[inline]
    pub(super) fn get(&self, at: At) -> Pending {
        self.whole(self.records.get(at))
    }

    /// The owner of the entry at `at`.
    #[inline]
    pub(super) fn owner(&self, at: At) -> Owner {
        Owner::of(self.records.get(at).owner)
    }

    /// The first and the last id.
    pub(super) fn edges(&self) -> Option<(StreamId, StreamId)> {
        let (first, last) = (self.records.front()?, self.records.back()?);
        Some((self.records.get(first).id, self.records.get(last).id))
    }

    /// The position after `at`.
    #[inline]
    pub(super) fn next(&self, at: At) -> Option<At> {
        self.records.next(at)
    }

    /// The position of the first entry from `at` on that was delivered at or before `time`.
    #[inline]
    pub(super) fn next_older(&mut self, at: At, time: i64) -> Option<At> {
        self.records.next_older(at, time)
    }

    /// A lower bound for the delivery times of all entries. O(n / 128).
    #[inline]
    pub(super) fn oldest(&self) -> Option<i64> {
        self.records.oldest()
    }

    /// The position of the first entry.
    #[inline]
    pub(super) fn front(&self) -> Option<At> {
        self.records.front()
    }

    /// Adds an entry, unless its id exists; whether it was added. O(1) at the end, otherwise O(log n).
    #[inline]
    pub(super) fn insert(&mut self, entry: Pending) -> bool {
        let Pending { id, time, owner, count } = entry;
        // A count that does not fit is stored only together with its record.
        let small = u32::try_from(count).unwrap_or(HUGE);
        let fresh = self.records.insert(Record { id, time, owner: owner.number(), count: small });
        if fresh && small == HUGE {
            self.huge.insert(id, count);
        }
        fresh
    }

    /// Replaces the entry at `at` by another one with the same id.
    pub(super) fn replace(&mut self, at: At, entry: Pending) {
        let Pending { id, time, owner, count } = entry;
        if self.records.get(at).count == HUGE {
            self.huge.remove(&id);
        }
        let count = self.fit(id, count);
        self.records.update(at, |record| *record = Record { id, time, owner: owner.number(), count });
    }

    /// Removes the entry at `at`.
    #[inline]
    pub(super) fn remove_at(&mut self, at: At) -> Pending {
        let record = self.records.remove_at(at);
        let entry = self.whole(&record);
        if record.count == HUGE {
            self.huge.remove(&record.id);
        }
        entry
    }

    /// Removes the entry with this id. O(log n).
    #[inline]
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Pending> {
        self.find(id).map(|at| self.remove_at(at))
    }

    /// The entries in order from `at` on.
    pub(super) fn iter_from(&self, at: Option<At>) -> impl Iterator<Item = Pending> {
        self.records.iter_from(at).map(|record| self.whole(record))
    }

    /// The entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Pending> {
        self.records.iter().map(|record| self.whole(record))
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.records.bytes() + self.huge.len() * 2 * size_of::<(StreamId, u64)>()
    }

    /// Number of allocations.
    pub(super) fn allocations(&self) -> usize {
        self.records.allocations() + self.huge.len()
    }

    /// Panics if an invariant is violated. O(n).
    pub(super) fn check(&self) {
        self.records.check();
        let huge = self.records.iter().filter(|record| record.count == HUGE).map(|record| record.id);
        assert!(huge.eq(self.huge.keys().copied()), "every huge count has its record");
        assert!(self.huge.values().all(|&count| count >= u64::from(HUGE)), "small counts stand in records");
    }
}
