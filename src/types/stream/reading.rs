//! Reading in a group: operations that change a group according to the entries of its stream.

use std::collections::BinaryHeap;

use super::group::{ConsumerId, Group, PendingEntry, Release};
use super::id::StreamId;
use super::log::{Log, Range};
use super::node::{Entry, Fields};
use super::pending::Owner;
use super::sorted::At;

impl Log {
    /// Number of entries that the group has not read, if it can be determined.
    pub(super) fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 || self.length == 0 {
            return Some(0);
        }
        // Nothing was deleted after the first entry, and no entry that is left has been read.
        if group.last_id < self.first_id && self.max_deleted < self.first_id {
            return Some(self.length as i64);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_tombstone_from(group.last_id) => read,
            _ => self.added_up_to(group.last_id)?,
        };
        Some(self.entries_added.wrapping_sub(read) as i64)
    }
}

impl Group {
    /// Time at which the first pending entry will have been idle for `min_idle_ms`, in Unix milliseconds; `None` if
    /// none is pending. The time may be too early, but not directly after [`GroupMut::claim_idle`] with the same
    /// `min_idle_ms` has claimed nothing. O(n / 128).
    pub fn idle_at(&self, min_idle_ms: i64) -> Option<i64> {
        self.pending.oldest().map(|time| time.saturating_add(min_idle_ms))
    }

    /// Whether the group has not read or not acknowledged the entry.
    pub(super) fn needs(&self, id: StreamId) -> bool {
        self.last_id < id || self.pending.find(id).is_some()
    }
}

/// How an entry is claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Entries delivered less than this many milliseconds ago are not claimed; zero claims all.
    pub min_idle_ms: i64,
    /// New delivery time of the entry, in Unix milliseconds.
    pub delivered_ms: i64,
    /// New delivery count of the entry; `None` keeps it, or increments it if `counts` is set.
    pub deliveries: Option<u64>,
    /// Whether the claim counts as a delivery, if `deliveries` is `None`.
    pub counts: bool,
    /// Whether an existing entry that is not pending becomes pending.
    pub force: bool,
}

/// Result of [`GroupMut::claim`].
#[derive(Clone, Copy, Debug)]
pub enum Claimed<'a> {
    /// The entry now belongs to the consumer.
    Entry(Entry<'a>),
    /// The pending entry, given here, no longer exists in the stream and has been removed from the pending entries.
    Dropped(PendingEntry),
    /// The entry is not pending, does not exist, or was delivered too recently.
    No,
}

/// Result of [`GroupMut::auto_claim`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AutoClaim {
    /// Id at which the next call continues; `0-0` after the last entry.
    pub cursor: StreamId,
    /// Number of entries claimed.
    pub claimed: u64,
    /// Pending entries that no longer exist in the stream and have been removed from the pending entries.
    pub dropped: Vec<PendingEntry>,
}

/// Result of [`GroupMut::claim_idle`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdleClaim {
    /// Number of entries claimed.
    pub claimed: u64,
    /// Pending entries that no longer exist in the stream and have been removed from the pending entries.
    pub dropped: Vec<PendingEntry>,
}

/// Mutable access to a group, with the entries that it reads.
pub struct GroupMut<'a> {
    log: &'a Log,
    group: &'a mut Group,
}

impl<'a> GroupMut<'a> {
    pub(super) fn new(log: &'a Log, group: &'a mut Group) -> Self {
        GroupMut { log, group }
    }

    /// The group.
    #[inline]
    pub fn group(&self) -> &Group {
        self.group
    }

    /// Sets the last id that the group has read. `entries_read` is capped at the number of entries ever added.
    pub fn set_last_id(&mut self, last_id: StreamId, entries_read: Option<u64>) {
        self.group.last_id = last_id;
        self.group.entries_read = entries_read.map(|read| read.min(self.log.entries_added));
    }

    /// Raises the last id that the group has read to `last_id`, unless it is greater already.
    pub fn advance(&mut self, last_id: StreamId) {
        self.group.last_id = self.group.last_id.max(last_id);
    }

    /// Creates a consumer, last seen at `now_ms`; `None` if the name exists.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> Option<ConsumerId> {
        self.group.create_consumer(name, now_ms, -1)
    }

    /// Deletes a consumer with its pending entries and returns their number. O(k log n) for k such entries.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<u64> {
        let consumer = self.group.find_consumer(name)?;
        Some(self.group.delete_consumer(consumer))
    }

    /// Records that a consumer was active at `now_ms`.
    pub fn saw(&mut self, consumer: ConsumerId, now_ms: i64) {
        self.group.saw(consumer, now_ms);
    }

    /// Whether there is an entry that the group has not read. O(1) unless entries at the end are deleted.
    pub fn has_new(&self) -> bool {
        let start = self.group.last_id.next();
        start.is_some_and(|start| {
            start <= self.log.last_id && self.log.range_back(start, StreamId::MAX).next().is_some()
        })
    }

    /// Delivers up to `count` entries that the group has not read to a consumer, each when the iterator returns it.
    /// They become pending unless `no_ack` is set. O(log n), then O(1) for each.
    pub fn read_new(self, consumer: ConsumerId, count: u64, no_ack: bool, now_ms: i64) -> NewEntries<'a> {
        // Nothing follows the greatest id: the range from there is empty, or its entry has been read.
        let start = self.group.last_id.next().unwrap_or(StreamId::MAX);
        let range = self.log.range(start, StreamId::MAX);
        NewEntries { log: self.log, group: self.group, range, consumer, left: count, no_ack, now_ms }
    }

    /// Delivers up to `count` entries that are pending for a consumer and follow `after` once more, each when the
    /// iterator returns it. O(log n + entries of a node) for each, O(log n) if they are close together.
    pub fn history(self, consumer: ConsumerId, after: StreamId, count: u64, now_ms: i64) -> History<'a> {
        let at = after.next().and_then(|start| self.group.consumer(consumer).ids.at_or_after(start));
        History { finder: self.log.finder(), group: self.group, consumer, at, left: count, now_ms }
    }

    /// Acknowledges an entry; whether it was pending. O(log n).
    #[inline]
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        self.group.forget(id)
    }

    /// Claims an entry for a consumer. O(log n + entries of a node).
    pub fn claim(&mut self, id: StreamId, consumer: ConsumerId, claim: &Claim, now_ms: i64) -> Claimed<'a> {
        let Some(entry) = self.log.find(id) else {
            let Some(pending) = self.group.find_pending(id) else { return Claimed::No };
            self.group.forget(id);
            return Claimed::Dropped(pending);
        };
        let before = match self.group.find_pending(id) {
            Some(pending) => {
                let idle = now_ms.saturating_sub(pending.delivered_ms);
                if claim.min_idle_ms > 0 && pending.consumer.is_some() && idle < claim.min_idle_ms {
                    return Claimed::No;
                }
                pending.deliveries
            }
            None if claim.force => 1,
            None => return Claimed::No,
        };
        let count = claim.deliveries.unwrap_or(before.saturating_add(u64::from(claim.counts)));
        self.group.assign(id, Owner::Consumer(consumer.0), claim.delivered_ms, count);
        self.group.served(consumer, now_ms);
        Claimed::Entry(entry)
    }

    /// Claims up to `count` pending entries from `start` on that were delivered at least `min_idle_ms` ago for a
    /// consumer, and calls `each` with each of them. Examines at most ten times `count` pending entries. `counts` says
    /// whether the claim counts as a delivery.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the command, each of its own type")]
    pub fn auto_claim(
        &mut self,
        consumer: ConsumerId,
        start: StreamId,
        min_idle_ms: i64,
        count: u64,
        counts: bool,
        now_ms: i64,
        mut each: impl FnMut(Entry<'a>),
    ) -> AutoClaim {
        let mut result = AutoClaim::default();
        let (mut attempts, mut left) = (count.saturating_mul(10), count);
        let mut finder = self.log.finder();
        let mut at = self.group.pending.at_or_after(start);
        while let Some(here) = at.filter(|_| attempts > 0 && left > 0) {
            attempts -= 1;
            let pending = self.group.pending.get(here);
            let Some(entry) = finder.find(pending.id) else {
                result.dropped.push(pending.into());
                self.group.forget(pending.id);
                left -= 1;
                at = self.group.pending.at_or_after(pending.id);
                continue;
            };
            at = self.group.pending.next(here);
            let is_released = pending.owner == Owner::Nobody;
            if min_idle_ms > 0 && !is_released && now_ms.saturating_sub(pending.time) < min_idle_ms {
                continue;
            }
            let deliveries = pending.count.saturating_add(u64::from(counts));
            self.group.assign(pending.id, Owner::Consumer(consumer.0), now_ms, deliveries);
            self.group.served(consumer, now_ms);
            each(entry);
            result.claimed += 1;
            left -= 1;
        }
        result.cursor = at.map_or(StreamId::MIN, |at| self.group.pending.get(at).id);
        result
    }

    /// Claims up to `count` pending entries that were delivered at least `min_idle_ms` ago for a consumer, longest idle
    /// first. Calls `each` with each entry, the milliseconds since its last delivery (`None` if it was released), and
    /// the number of its deliveries before this one. If `each` returns false, that entry is the last one claimed. O(n /
    /// 128) if there are none.
    pub fn claim_idle(
        &mut self,
        consumer: ConsumerId,
        min_idle_ms: i64,
        count: u64,
        now_ms: i64,
        mut each: impl FnMut(Entry<'a>, Option<i64>, u64) -> bool,
    ) -> IdleClaim {
        let mut result = IdleClaim::default();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count == 0 {
            return result;
        }
        // The `count` oldest entries so far, with the youngest of them on top.
        let mut oldest: BinaryHeap<(i64, StreamId)> = BinaryHeap::new();
        // Released entries have the delivery time zero: they have been idle for ever.
        let mut bound = now_ms.saturating_sub(min_idle_ms).max(0);
        let mut finder = self.log.finder();
        let mut at = self.group.pending.front();
        while let Some(here) = at.and_then(|at| self.group.pending.next_older(at, bound)) {
            let pending = self.group.pending.get(here);
            at = self.group.pending.next(here);
            if finder.find(pending.id).is_none() {
                result.dropped.push(pending.into());
                continue;
            }
            oldest.push((pending.time, pending.id));
            if oldest.len() > count {
                oldest.pop();
            }
            if let Some(&(youngest, _)) = oldest.peek().filter(|_| oldest.len() == count) {
                // Of equally old entries, the smaller id takes precedence, and ids only increase from here on.
                bound = youngest.saturating_sub(1);
            }
        }
        for dropped in &result.dropped {
            self.group.forget(dropped.id);
        }
        for (_, id) in oldest.into_sorted_vec() {
            let pending = self.group.find_pending(id).expect("what was selected is pending");
            let entry = self.log.find(id).expect("what was selected exists");
            let idle = pending.consumer.map(|_| now_ms.saturating_sub(pending.delivered_ms));
            self.group.assign(id, Owner::Consumer(consumer.0), now_ms, pending.deliveries.saturating_add(1));
            result.claimed += 1;
            if !each(entry, idle, pending.deliveries) {
                break;
            }
        }
        if result.claimed > 0 {
            self.group.served(consumer, now_ms);
        }
        result
    }

    /// Releases a pending entry: it then has no owner and counts as idle for ever. The delivery count becomes
    /// `deliveries` or follows from `release`. With `force`, an existing entry that is not pending becomes pending.
    /// Returns whether anything was done. O(log n).
    pub fn release(&mut self, id: StreamId, release: Release, deliveries: Option<u64>, force: bool) -> bool {
        let before = match self.group.find_pending(id) {
            Some(pending) => pending.deliveries,
            None if force && self.log.find(id).is_some() => 0,
            None => return false,
        };
        self.group.assign(id, Owner::Nobody, 0, deliveries.unwrap_or_else(|| release.count(before)));
        true
    }
}

/// Entries being delivered to a consumer for the first time. See [`GroupMut::read_new`].
pub struct NewEntries<'a> {
    log: &'a Log,
    group: &'a mut Group,
    range: Range<'a>,
    consumer: ConsumerId,
    left: u64,
    no_ack: bool,
    now_ms: i64,
}

impl<'a> NewEntries<'a> {
    /// Delivers the next entry, if there is one, and calls `read` with it; see [`Range::read_next`].
    #[inline]
    pub fn read_next<R>(&mut self, read: impl FnOnce(StreamId, &mut Fields<'a>) -> R) -> Option<R> {
        let entry = self.next()?;
        let mut fields = entry.fields();
        let result = read(entry.id, &mut fields);
        self.range.taken(&fields);
        Some(result)
    }
}

impl<'a> Iterator for NewEntries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.range.next()?;
        let group = &mut *self.group;
        if entry.id <= group.last_id {
            return None;
        }
        // If the group's position is known, at or after the first entry, and no tombstone follows it, the count grows
        // by one.
        let follows = group.last_id >= self.log.first_id && !self.log.has_tombstone_from(group.last_id);
        group.entries_read = match group.entries_read {
            Some(read) if follows => Some(read.wrapping_add(1)),
            _ => self.log.added_up_to(entry.id),
        };
        group.last_id = entry.id;
        // Entries that need no acknowledgement do not make the consumer active.
        if !self.no_ack {
            group.assign(entry.id, Owner::Consumer(self.consumer.0), self.now_ms, 1);
            group.served(self.consumer, self.now_ms);
        }
        Some(entry)
    }
}

/// Entries being delivered to a consumer again, without content if they no longer exist. See [`GroupMut::history`].
pub struct History<'a> {
    finder: super::log::Finder<'a>,
    group: &'a mut Group,
    consumer: ConsumerId,
    at: Option<At>,
    left: u64,
    now_ms: i64,
}

impl<'a> Iterator for History<'a> {
    type Item = (StreamId, Option<Entry<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at?;
        self.left = self.left.checked_sub(1)?;
        let ids = &self.group.consumer(self.consumer).ids;
        let id = *ids.get(at);
        self.at = ids.next(at);
        let entry = self.finder.find(id);
        if entry.is_some() {
            let at = self.group.pending.find(id).expect("what a consumer has is pending");
            let mut pending = self.group.pending.get(at);
            (pending.time, pending.count) = (self.now_ms, pending.count.saturating_add(1));
            self.group.pending.replace(at, pending);
        }
        Some((id, entry))
    }
}
