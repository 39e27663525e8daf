//! The log of a stream: its entries and the facts remembered about them, without the groups that read them.

use super::id::{NewId, StreamId};
use super::index::{Index, NodeAt};
use super::node::{Entry, Fields, MAX_NODE_BYTES, Node, NodeLimits, Verdict, Walk};
use super::sorted::Keyed;

/// Why an entry cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// The id is not greater than every id that the stream has had.
    #[error("The ID specified in XADD is equal or smaller than the target stream top item")]
    NotGreater,
    /// The id is `0-0`, which no entry has.
    #[error("The ID specified in XADD must be greater than 0-0")]
    Zero,
    /// The stream has had the greatest possible id.
    #[error("The stream has exhausted the last possible ID, unable to add more items")]
    Exhausted,
    /// The fields and values take more than 1 GB.
    #[error("Elements are too large to be stored")]
    TooLarge,
}

/// Why the last id of a stream cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetIdError {
    /// There is an entry with a greater id.
    #[error("The ID specified in XSETID is smaller than the target stream top item")]
    BelowTop,
    /// The stream has more entries than were ever added.
    #[error("The entries_added specified in XSETID is smaller than the target stream length")]
    AddedBelowLength,
    /// The id is smaller than the greatest deleted id given with it.
    #[error("The ID specified in XSETID is smaller than the provided max_deleted_entry_id")]
    BelowGivenTombstone,
    /// The id is smaller than the greatest deleted id of the stream.
    #[error("The ID specified in XSETID is smaller than current max_deleted_entry_id")]
    BelowTombstone,
}

/// Entries that trimming keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threshold {
    /// The last entries, this many.
    MaxLen(u64),
    /// The entries from this id on.
    MinId(StreamId),
}

/// How to trim a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// Entries to keep.
    pub threshold: Threshold,
    /// `~`: only whole nodes are removed, so more entries may be kept.
    pub approximate: bool,
    /// Largest number of entries removed by an approximate trim; zero for no limit.
    pub limit: u64,
}

impl Trim {
    /// Limit of an approximate trim without an explicit one: a hundred nodes.
    pub fn default_limit(limits: NodeLimits) -> u64 {
        match limits.max_entries.saturating_mul(100) {
            0 => 10_000,
            limit => limit.min(1_000_000),
        }
    }
}

/// The entries of a stream.
///
/// What always holds: `length` is the number of live entries; `first_id` is the id of the first of them, or `0-0`;
/// neither their ids nor master ids are greater than `last_id`.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub index: Index,
    pub length: u64,
    pub last_id: StreamId,
    pub first_id: StreamId,
    pub max_deleted: StreamId,
    pub entries_added: u64,
}

impl Log {
    /// The id that a new entry gets at `now_ms`.
    pub(super) fn next_id(&self, wanted: NewId, now_ms: u64) -> Result<StreamId, AddError> {
        if wanted == NewId::Exact(StreamId::MIN) {
            return Err(AddError::Zero);
        }
        let following = self.last_id.next().ok_or(AddError::Exhausted)?;
        let id = match wanted {
            NewId::Auto if now_ms > self.last_id.ms => StreamId::new(now_ms, 0),
            NewId::Auto => following,
            NewId::AutoSeq(ms) if ms == self.last_id.ms => following,
            NewId::AutoSeq(ms) => StreamId::new(ms, 0),
            NewId::Exact(id) => id,
        };
        let same_ms = |ms| id.ms == ms;
        match wanted {
            NewId::AutoSeq(ms) if !same_ms(ms) => Err(AddError::NotGreater),
            _ if id <= self.last_id => Err(AddError::NotGreater),
            _ => Ok(id),
        }
    }

    /// Adds an entry. O(bytes of the entry).
    pub(super) fn add<'f>(
        &mut self,
        id: StreamId,
        items: impl Iterator<Item = &'f [u8]> + Clone,
        limits: NodeLimits,
    ) -> Result<(), AddError> {
        if id.is_zero() {
            return Err(AddError::Zero);
        }
        if self.last_id == StreamId::MAX {
            return Err(AddError::Exhausted);
        }
        if id <= self.last_id {
            return Err(AddError::NotGreater);
        }
        let bytes: usize = items.clone().map(<[u8]>::len).sum();
        // The listpack's overhead for an item is proportional to the item's length, except for the shortest items.
        if bytes > MAX_NODE_BYTES || items.clone().count() > MAX_NODE_BYTES / 16 {
            return Err(AddError::TooLarge);
        }
        match self.index.last_mut() {
            Some(node) if node.takes(bytes, limits) => node.push(id, items),
            _ => self.index.push(Node::new(id, items)),
        }
        self.last_id = id;
        if self.length == 0 {
            self.first_id = id;
        }
        self.length += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        Ok(())
    }

    /// Deletes an entry and records its id as a tombstone; whether it existed. O(log n + entries of a node).
    pub(super) fn delete(&mut self, id: StreamId) -> bool {
        let Some(at) = self.index.covering(id) else {
            return false;
        };
        if !self.index.update(at, |node| node.delete(id)) {
            return false;
        }
        if self.index.get(at).counts().0 == 0 {
            self.index.remove(at);
        }
        self.length -= 1;
        self.max_deleted = self.max_deleted.max(id);
        if id == self.first_id {
            self.find_first();
        }
        true
    }

    /// Determines `first_id` anew.
    pub(super) fn find_first(&mut self) {
        // No entry precedes the previous first one.
        self.first_id =
            self.range(self.first_id, StreamId::MAX).next().map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Removes entries from the front and returns their number. With `keep_refs`, entries are removed without a
    /// question, and whole nodes at once. Otherwise `may_delete` decides about each entry, and an approximate trim
    /// removes nothing, because it does not examine entries. O(nodes removed + entries of the last of them).
    pub(super) fn trim(
        &mut self,
        trim: Trim,
        keep_refs: bool,
        mut may_delete: impl FnMut(StreamId) -> bool,
    ) -> u64 {
        if trim.approximate && !keep_refs {
            return 0;
        }
        let before = self.length;
        let mut at = self.index.front();
        while let Some(here) = at {
            if matches!(trim.threshold, Threshold::MaxLen(max) if self.length <= max) {
                break;
            }
            let node = self.index.get(here);
            let (live, _) = node.counts();
            let whole = match trim.threshold {
                Threshold::MaxLen(max) => self.length - live >= max,
                // Deleted entries count, too, because the last id of a node is then found without a search.
                Threshold::MinId(min) => node.last_any() < Some(min),
            };
            if keep_refs {
                if whole {
                    if trim.approximate && trim.limit > 0 && before - self.length + live > trim.limit {
                        break;
                    }
                    self.index.remove(here);
                    self.length -= live;
                    at = self.index.front();
                    continue;
                }
                if trim.approximate {
                    break;
                }
            }
            let (mut left, mut stopped, first) = (self.length, false, self.first_id);
            let removed = self.index.update(here, |node| {
                node.delete_while(first, |id| {
                    let done = match trim.threshold {
                        Threshold::MaxLen(max) => left <= max,
                        Threshold::MinId(min) => id >= min,
                    };
                    if done {
                        stopped = true;
                        Verdict::Stop
                    } else if may_delete(id) {
                        left -= 1;
                        Verdict::Delete
                    } else {
                        Verdict::Keep
                    }
                })
            });
            self.length -= removed;
            let next = self.index.next(here).map(|next| self.index.get(next).id());
            if !keep_refs && live == removed {
                self.index.remove(here);
            }
            // The last node examined is the first one that the threshold does not cover entirely, even if entries in it
            // are kept.
            at = next.filter(|_| whole && !stopped).and_then(|id| self.index.covering(id));
        }
        if self.length != before {
            self.find_first();
        }
        before - self.length
    }

    /// The live entries with ids in `start..=end`, in order.
    #[inline]
    pub(super) fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        let at = self.index.covering(start).or_else(|| self.index.front());
        Range {
            index: &self.index,
            at,
            walk: at.map(|at| self.index.get(at).walk_from(start)),
            start,
            end,
            backward: false,
        }
    }

    /// The live entries with ids in `start..=end`, last first.
    #[inline]
    pub(super) fn range_back(&self, start: StreamId, end: StreamId) -> Range<'_> {
        let at = self.index.covering(end);
        Range {
            index: &self.index,
            at,
            walk: at.map(|at| self.index.get(at).walk_up_to(end)),
            start,
            end,
            backward: true,
        }
    }

    /// A search for entries, which is fast for ascending ids.
    #[inline]
    pub(super) fn finder(&self) -> Finder<'_> {
        Finder { index: &self.index, at: None, walk: None, reached: StreamId::MIN }
    }

    /// The live entry with this id. O(log n + entries of a node).
    #[inline]
    pub(super) fn find(&self, id: StreamId) -> Option<Entry<'_>> {
        self.finder().find(id)
    }

    /// Sets the last id, and the facts about the stream that an append-only file or a primary states with it.
    pub(super) fn set_id(
        &mut self,
        id: StreamId,
        entries_added: Option<u64>,
        max_deleted: Option<StreamId>,
    ) -> Result<(), SetIdError> {
        if max_deleted.is_some_and(|tombstone| id < tombstone) {
            return Err(SetIdError::BelowGivenTombstone);
        }
        if id < self.max_deleted {
            return Err(SetIdError::BelowTombstone);
        }
        if self.length > 0 {
            let last = self.range_back(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
            if Some(id) < last {
                return Err(SetIdError::BelowTop);
            }
            if entries_added.is_some_and(|added| added < self.length) {
                return Err(SetIdError::AddedBelowLength);
            }
        }
        // A node that trimming has emptied must not precede later entries with smaller ids.
        while let Some(at) = self.index.back().filter(|&at| self.index.get(at).id() > id) {
            self.index.remove(at);
        }
        self.last_id = id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        if let Some(tombstone) = max_deleted.filter(|tombstone| !tombstone.is_zero()) {
            self.max_deleted = tombstone;
        }
        Ok(())
    }

    /// Whether an entry with an id of at least `start` may have been deleted by id, rather than by trimming.
    pub(super) fn has_tombstone_from(&self, start: StreamId) -> bool {
        self.length > 0 && !self.max_deleted.is_zero() && start <= self.max_deleted
    }

    /// Number of entries that had been added up to and including `id`, if it can be determined.
    pub(super) fn added_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.length == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if !id.is_zero() && id < self.max_deleted {
            return None;
        }
        if id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        if self.max_deleted.is_zero() || self.max_deleted < self.first_id {
            let before = self.entries_added.wrapping_sub(self.length);
            if id < self.first_id {
                return Some(before);
            }
            if id == self.first_id {
                return Some(before.wrapping_add(1));
            }
        }
        None
    }

    /// Panics if an invariant is violated. O(n).
    pub(super) fn check(&self) {
        self.index.check();
        let (mut length, mut previous) = (0, None);
        for node in self.index.iter() {
            node.check();
            assert!(node.id() <= self.last_id, "no master id is beyond the last id");
            length += node.counts().0;
            if let (Some(first), Some(last)) = (node.first_live(), node.last_live()) {
                assert!(Some(first) > previous, "ids ascend from node to node");
                assert!(node.id() <= first, "a node begins with its master");
                previous = Some(last);
            }
        }
        assert_eq!(length, self.length, "the live entries are counted");
        assert!(previous.is_none_or(|last| last <= self.last_id), "no id is beyond the last id");
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map_or(StreamId::MIN, |entry| entry.id);
        assert_eq!(first, self.first_id, "the first id is known");
    }
}

/// Entries of a stream in an interval of ids, forwards or backwards. No allocation; O(1) for each entry.
#[derive(Clone)]
pub struct Range<'a> {
    index: &'a Index,
    at: Option<NodeAt>,
    walk: Option<Walk<'a>>,
    start: StreamId,
    end: StreamId,
    backward: bool,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let walk = self.walk.as_mut()?;
            let entry = if self.backward { walk.next_back() } else { walk.next() };
            let Some(entry) = entry else {
                self.turn();
                continue;
            };
            let (early, late) = if self.backward {
                (entry.id > self.end, entry.id < self.start)
            } else {
                (entry.id < self.start, entry.id > self.end)
            };
            if late {
                self.walk = None;
                return None;
            }
            if !early {
                return Some(entry);
            }
        }
    }
}

impl<'a> Range<'a> {
    /// Calls `read` with the next entry, if there is one. Fields that `read` consumes are not traversed again, so this
    /// is the faster way to read entries with their fields.
    #[inline]
    pub fn read_next<R>(&mut self, read: impl FnOnce(StreamId, &mut Fields<'a>) -> R) -> Option<R> {
        let entry = self.next()?;
        let mut fields = entry.fields();
        let result = read(entry.id, &mut fields);
        self.taken(&fields);
        Some(result)
    }

    /// Records how many fields of the entry returned last `fields` has consumed.
    #[inline]
    pub(super) fn taken(&mut self, fields: &Fields<'a>) {
        if let Some(walk) = self.walk.as_mut().filter(|_| !self.backward) {
            walk.taken(fields);
        }
    }

    /// Moves to the next node.
    fn turn(&mut self) {
        let step = if self.backward { Index::prev } else { Index::next };
        self.at = self.at.and_then(|at| step(self.index, at));
        self.walk = self.at.map(|at| self.index.get(at).walk());
    }
}

/// Finds entries by id, continuing from the last one found if possible.
pub(super) struct Finder<'a> {
    index: &'a Index,
    at: Option<NodeAt>,
    walk: Option<Walk<'a>>,
    reached: StreamId,
}

impl<'a> Finder<'a> {
    /// The live entry with this id.
    pub(super) fn find(&mut self, id: StreamId) -> Option<Entry<'a>> {
        let at = self.index.covering(id)?;
        if self.at != Some(at) || id <= self.reached || self.walk.is_none() {
            (self.at, self.walk, self.reached) =
                (Some(at), Some(self.index.get(at).walk_from(id)), StreamId::MIN);
        }
        let walk = self.walk.as_mut()?;
        loop {
            let mut ahead = *walk;
            match ahead.next() {
                Some(entry) if entry.id <= id => {
                    (*walk, self.reached) = (ahead, entry.id);
                    if entry.id == id {
                        return Some(entry);
                    }
                }
                _ => return None,
            }
        }
    }
}
