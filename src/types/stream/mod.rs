//! A stream: entries of fields and values under ids that only increase, and consumer groups that share them.
//!
//! ```text
//! Stream ─ Log ── Index ── Node (a listpack of about a hundred entries, as in files) …
//!       │      └─ length, last id, first id, greatest deleted id, entries ever added
//!       ├─ Group … ── pending entries by id ── consumers, each with its ids
//!       └─ Idempotency, if producers use it
//! ```
//!
//! Since ids only increase, nodes are stored in a sorted sequence of chunks (`sorted.rs`) instead of a tree, and so are
//! pending entries. To find the groups for which an entry is pending, each group is searched, O(log n) per group: an
//! index from ids to groups would cost memory for every delivered entry, for commands that few streams see.
//!
//! Streams are Salvatore Sanfilippo's (Redis 5.0). Group counters came with 7.0, reference policies with 8.2, reading
//! that claims with 8.4, idempotent producers with 8.6, and the release of entries with 8.8.

mod collection;
mod group;
mod id;
mod idempotent;
mod index;
mod load;
mod log;
mod node;
mod pending;
mod reading;
mod sorted;
#[cfg(test)]
mod tests;

pub use crate::structures::listpack::Item;
pub use group::{Consumer, ConsumerId, FATAL_DELIVERIES, Group, PendingEntry, Release};
pub use id::{IdBuf, IdError, NewId, StreamId};
pub use idempotent::{DEFAULT_DURATION_S, DEFAULT_MAX_SIZE, Idempotency, OtherEntry, content_id};
pub use load::{Builder, LoadError};
pub use log::{AddError, Range, SetIdError, Threshold, Trim};
pub use node::{Entry, Fields, NodeLimits};
pub use reading::{AutoClaim, Claim, Claimed, GroupMut, History, IdleClaim, NewEntries};

use crate::stdx::alloc::relocation::Relocator;
use log::Log;
use sorted::Keyed;

/// Treatment of an entry's references in groups when the entry is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RefPolicy {
    /// References stay: the entry remains pending but cannot be read any more.
    #[default]
    Keep,
    /// References are removed with the entry.
    Delete,
    /// The entry is deleted only if every group has read and acknowledged it.
    Acked,
}

/// Result of a deletion under a [`RefPolicy`]. The numbers are those in replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Deletion {
    /// There was no entry with this id.
    Missing = -1,
    /// The entry was deleted.
    Deleted = 1,
    /// The entry stays, because a group needs it.
    Referenced = 2,
}

/// Position of a group. Valid until groups are created or destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupAt(usize);

/// A stream. One machine word.
#[derive(Clone)]
pub struct Stream(Box<Inner>);

const _: () = assert!(size_of::<Stream>() == 8);

#[derive(Clone, Default)]
struct Inner {
    log: Log,
    /// Sorted by name.
    groups: Vec<Group>,
    idempotency: Option<Box<Idempotency>>,
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

/// The stream as a whole.
impl Stream {
    /// An empty stream.
    pub fn new() -> Stream {
        Stream(Box::default())
    }

    /// Number of entries. O(1).
    #[inline]
    pub fn entries_len(&self) -> u64 {
        self.0.log.length
    }

    /// The greatest id that the stream has had, or that was set as its last id.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.0.log.last_id
    }

    /// The id of the first entry; `0-0` if there is none. O(1).
    #[inline]
    pub fn first_id(&self) -> StreamId {
        self.0.log.first_id
    }

    /// The greatest id that was deleted by id, rather than by trimming; `0-0` if none was.
    #[inline]
    pub fn max_deleted_id(&self) -> StreamId {
        self.0.log.max_deleted
    }

    /// Number of entries ever added.
    #[inline]
    pub fn entries_added(&self) -> u64 {
        self.0.log.entries_added
    }

    /// Number of nodes, reported as the number of radix tree keys.
    #[inline]
    pub fn nodes_len(&self) -> usize {
        self.0.log.index.len()
    }

    /// The nodes in order: master id, and the listpack as stored in files.
    pub fn nodes(&self) -> impl Iterator<Item = (StreamId, &[u8])> {
        self.0.log.index.iter().map(|node| (node.id(), node.as_bytes()))
    }

    /// Approximate number of allocations to free. O(groups).
    fn allocations(&self) -> usize {
        let idempotency = self.0.idempotency.as_ref().map_or(0, |state| 1 + 2 * state.len());
        self.nodes_len() + self.0.groups.iter().map(|group| group.effort()).sum::<usize>() + idempotency
    }

    /// Bytes allocated outside the stream's own word, estimated from `samples` nodes (0: all of them).
    fn allocated(&self, samples: usize) -> usize {
        let index = &self.0.log.index;
        let looked_at = if samples == 0 { index.len() } else { samples.min(index.len()) };
        let nodes: usize = index.iter().take(looked_at).map(node::Node::allocated).sum();
        let nodes = nodes.checked_div(looked_at).map_or(0, |_| nodes * index.len() / looked_at);
        let groups: usize = self.0.groups.iter().map(|group| group.bytes()).sum();
        let idempotency = self.0.idempotency.as_ref().map_or(0, |state| state.bytes());
        size_of::<Inner>() + nodes + index.bytes() + groups + idempotency
    }

    /// Moves blocks whose places are sparse, except the stream's own: first those of `most` chunks of nodes, then of as
    /// many groups. Returns the next cursor, 0 at the end.
    fn relocate_parts(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        /// Set in cursors of groups, which come after the entries.
        const GROUPS: u64 = 1 << 62;
        let from = (cursor & !GROUPS) as usize;
        let until = from.saturating_add(most.div_ceil(sorted::CHUNK));
        if cursor & GROUPS == 0 {
            return match (from..until).find(|&chunk| !self.0.log.index.relocate(chunk, by)) {
                Some(_) if self.0.groups.is_empty() => 0,
                Some(_) => GROUPS,
                None => until as u64,
            };
        }
        if from == 0 {
            by.relocate_vec(&mut self.0.groups);
        }
        let groups = self.0.groups.len();
        self.0.groups.iter_mut().take(until).skip(from).for_each(|group| group.relocate(by));
        if until < groups { until as u64 | GROUPS } else { 0 }
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        self.0.log.check();
        assert!(self.0.groups.is_sorted_by(|a, b| a.name() < b.name()), "names of groups ascend");
        self.0.groups.iter().for_each(|group| group.check());
        if let Some(state) = &self.0.idempotency {
            state.check();
        }
    }
}

/// Entries.
impl Stream {
    /// The id that a new entry gets if it is added at `now_ms`. O(1).
    ///
    /// # Errors
    /// As [`add`](Self::add): the wanted id is too small, or there is none left.
    #[inline]
    pub fn next_id(&self, wanted: NewId, now_ms: u64) -> Result<StreamId, AddError> {
        self.0.log.next_id(wanted, now_ms)
    }

    /// Adds an entry. `items` are its fields and values, alternating. O(bytes of the entry).
    ///
    /// # Errors
    /// If the id is not greater than [`last_id`](Self::last_id), or the entry too large.
    #[inline]
    pub fn add<'f>(
        &mut self,
        id: StreamId,
        items: impl Iterator<Item = &'f [u8]> + Clone,
        limits: NodeLimits,
    ) -> Result<(), AddError> {
        self.0.log.add(id, items, limits)
    }

    /// The entries with ids in `start..=end`, in order. O(log n), then O(1) for each.
    #[inline]
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        self.0.log.range(start, end)
    }

    /// The entries with ids in `start..=end`, last first. O(log n), then O(1) for each.
    #[inline]
    pub fn range_back(&self, start: StreamId, end: StreamId) -> Range<'_> {
        self.0.log.range_back(start, end)
    }

    /// The entry with this id. O(log n + entries of a node).
    #[inline]
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.0.log.find(id)
    }

    /// The first entry.
    #[inline]
    pub fn first(&self) -> Option<Entry<'_>> {
        self.range(self.first_id(), StreamId::MAX).next()
    }

    /// The last entry.
    #[inline]
    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_back(StreamId::MIN, StreamId::MAX).next()
    }

    /// Deletes an entry but not the groups' references to it; whether the entry existed. O(log n + entries of a node).
    #[inline]
    pub fn delete(&mut self, id: StreamId) -> bool {
        self.0.log.delete(id)
    }

    /// Deletes an entry under `policy`. O(groups × log n + entries of a node).
    pub fn delete_with(&mut self, id: StreamId, policy: RefPolicy) -> Deletion {
        self.delete_noting(id, policy).0
    }

    /// As [`Stream::delete_with`]. Also returns whether anything has changed, which includes that an entry deleted
    /// earlier is no longer pending.
    pub fn delete_noting(&mut self, id: StreamId, policy: RefPolicy) -> (Deletion, bool) {
        let mut changed = false;
        match policy {
            RefPolicy::Acked if self.0.is_referenced(id) => return (Deletion::Referenced, false),
            RefPolicy::Delete => changed = self.0.forget(id),
            RefPolicy::Keep | RefPolicy::Acked => {}
        }
        if self.0.log.delete(id) { (Deletion::Deleted, true) } else { (Deletion::Missing, changed) }
    }

    /// Acknowledges an entry for a group and deletes it under `policy`. [`Deletion::Missing`] if the entry is not
    /// pending; an entry that is pending but no longer exists counts as deleted. O(groups × log n + entries of a node).
    pub fn acknowledge_and_delete(&mut self, group: GroupAt, id: StreamId, policy: RefPolicy) -> Deletion {
        if !self.0.groups[group.0].forget(id) {
            return Deletion::Missing;
        }
        match self.delete_with(id, policy) {
            Deletion::Missing => Deletion::Deleted,
            other => other,
        }
    }

    /// Removes entries from the front and returns their number. With [`RefPolicy::Keep`], O(nodes removed + entries of
    /// the last of them). Under the other policies, O(groups × log n) per entry examined, and an approximate trim
    /// removes nothing.
    pub fn trim(&mut self, trim: Trim, policy: RefPolicy) -> u64 {
        let Inner { log, groups, .. } = &mut *self.0;
        match policy {
            RefPolicy::Keep => log.trim(trim, true, |_| true),
            RefPolicy::Delete => log.trim(trim, false, |id| {
                groups.iter_mut().for_each(|group| {
                    group.forget(id);
                });
                true
            }),
            RefPolicy::Acked => log.trim(trim, false, |id| !groups.iter().any(|group| group.needs(id))),
        }
    }

    /// The exact threshold that results in the current state of the stream, after an approximate trim. Files and
    /// replicas get this threshold.
    pub fn exact_threshold(&self, trimmed: Threshold) -> Threshold {
        match trimmed {
            Threshold::MaxLen(_) => Threshold::MaxLen(self.entries_len()),
            Threshold::MinId(_) if self.entries_len() == 0 => Threshold::MinId(StreamId::MAX),
            Threshold::MinId(_) => Threshold::MinId(self.first_id()),
        }
    }

    /// Sets the last id and, if given, the number of entries ever added and the greatest deleted id.
    ///
    /// # Errors
    /// If these contradict each other or the entries.
    pub fn set_id(
        &mut self,
        id: StreamId,
        entries_added: Option<u64>,
        max_deleted: Option<StreamId>,
    ) -> Result<(), SetIdError> {
        self.0.log.set_id(id, entries_added, max_deleted)
    }
}

/// Groups.
impl Stream {
    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.0.groups.binary_search_by(|group| group.name().cmp(name))
    }

    /// Number of groups.
    #[inline]
    pub fn groups_len(&self) -> usize {
        self.0.groups.len()
    }

    /// The groups in order of their names.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.groups.iter()
    }

    /// The position of the group with this name. O(log groups).
    #[inline]
    pub fn find_group(&self, name: &[u8]) -> Option<GroupAt> {
        self.place(name).ok().map(GroupAt)
    }

    /// The group at a position.
    ///
    /// # Panics
    /// If there is no such group.
    #[inline]
    pub fn group(&self, at: GroupAt) -> &Group {
        &self.0.groups[at.0]
    }

    /// The group at a position, mutable, with the entries that it reads.
    ///
    /// # Panics
    /// If there is no such group.
    #[inline]
    pub fn group_mut(&mut self, at: GroupAt) -> GroupMut<'_> {
        let Inner { log, groups, .. } = &mut *self.0;
        GroupMut::new(log, &mut groups[at.0])
    }

    /// Creates a group that has read up to `last_id`; `None` if the name exists. `entries_read` is capped at the number
    /// of entries ever added.
    pub fn create_group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    ) -> Option<GroupAt> {
        let place = self.place(name).err()?;
        let entries_read = entries_read.map(|read| read.min(self.entries_added()));
        self.0.groups.insert(place, Group::new(name, last_id, entries_read));
        Some(GroupAt(place))
    }

    /// Destroys a group; whether it existed.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        self.place(name).is_ok_and(|place| {
            self.0.groups.remove(place);
            true
        })
    }

    /// Number of entries that a group has not read; `None` if it cannot be determined, because entries were deleted by
    /// id or the group's position was set. Negative if numbers that a client has set contradict each other. O(1).
    pub fn lag(&self, group: &Group) -> Option<i64> {
        self.0.log.lag(group)
    }
}

/// Idempotent producers.
impl Stream {
    /// State of idempotent producers, if there have been any.
    #[inline]
    pub fn idempotency(&self) -> Option<&Idempotency> {
        self.0.idempotency.as_deref()
    }

    /// State of idempotent producers, mutable, if there have been any.
    #[inline]
    pub fn idempotency_mut(&mut self) -> Option<&mut Idempotency> {
        self.0.idempotency.as_deref_mut()
    }

    /// State of idempotent producers, mutable; created if there is none.
    pub fn idempotency_or_default(&mut self) -> &mut Idempotency {
        self.0.idempotency.get_or_insert_default()
    }
}

impl Inner {
    /// Whether a group has not read or not acknowledged the entry.
    fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.iter().any(|group| group.needs(id))
    }

    /// Removes an id from the pending entries of all groups; whether it was pending in any.
    fn forget(&mut self, id: StreamId) -> bool {
        let mut found = false;
        for group in &mut self.groups {
            found |= group.forget(id);
        }
        found
    }
}
