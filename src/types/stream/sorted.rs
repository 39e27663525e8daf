//! A sequence sorted by id, in chunks. All parts of a stream that are found by id are stored in this form.
//!
//! ```text
//! chunks   │ first id │ first id │ first id │ …
//!              │           │          │
//!              ▼           ▼          ▼
//!          records …   records …  records …     at most 128 each
//! ```
//!
//! Ids only increase, so nearly every insertion is at the end and most removals are at the front. Both are O(1), and
//! the sequence stays compact. Finding a record takes two binary searches. Inserting and removing in the middle moves
//! part of one chunk and, once per half a chunk, part of the list of chunks: O(log n), plus a small share of O(n / 128)
//! moved words. A record costs its size, its share of 56 bytes per chunk, and the spare capacity of the chunk.
//!
//! What always holds: ids ascend strictly; no chunk is empty or longer than [`CHUNK`]; `first` is the id of the chunk's
//! first record; `oldest` is a lower bound for the times of the chunk's records.

use std::collections::VecDeque;

use super::id::StreamId;
use crate::stdx::alloc::relocation::Relocator;

/// Largest number of records in a chunk.
pub(super) const CHUNK: usize = 128;
/// Neighbouring chunks are merged if they have at most this many records together, so that no split follows soon.
const JOINED: usize = CHUNK / 2;

/// A record of a [`Sorted`].
pub(super) trait Keyed {
    /// The sort key.
    fn id(&self) -> StreamId;

    /// The time that [`Sorted::next_older`] compares.
    #[inline]
    fn time(&self) -> i64 {
        i64::MAX
    }
}

impl Keyed for StreamId {
    #[inline]
    fn id(&self) -> StreamId {
        *self
    }
}

#[derive(Clone)]
struct Chunk<T> {
    first: StreamId,
    oldest: i64,
    records: VecDeque<T>,
}

/// Records sorted by id.
#[derive(Clone)]
pub(super) struct Sorted<T> {
    chunks: VecDeque<Chunk<T>>,
    len: usize,
}

/// Position of a record. Valid until records are added or removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    chunk: usize,
    slot: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Sorted { chunks: VecDeque::new(), len: 0 }
    }
}

impl<T: Keyed> Chunk<T> {
    fn new(record: T, capacity: usize) -> Chunk<T> {
        let mut records = VecDeque::with_capacity(capacity);
        let (first, oldest) = (record.id(), record.time());
        records.push_back(record);
        Chunk { first, oldest, records }
    }

    /// Updates `first`, and frees spare capacity that is probably not needed any more.
    fn settle(&mut self) {
        self.first = self.records[0].id();
        if self.records.len() * 4 < self.records.capacity() {
            self.records.shrink_to(self.records.len() * 2);
        }
    }
}

impl<T: Keyed> Sorted<T> {
    /// Number of records.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position of the first record.
    #[inline]
    pub(super) fn front(&self) -> Option<At> {
        (self.len > 0).then_some(At { chunk: 0, slot: 0 })
    }

    /// The position of the last record.
    #[inline]
    pub(super) fn back(&self) -> Option<At> {
        let chunk = self.chunks.len().checked_sub(1)?;
        Some(At { chunk, slot: self.chunks[chunk].records.len() - 1 })
    }

    /// The record at `at`.
    #[inline]
    pub(super) fn get(&self, at: At) -> &T {
        &self.chunks[at.chunk].records[at.slot]
    }

    /// The record at `at`, mutable. Its id must not change.
    #[inline]
    pub(super) fn update<R>(&mut self, at: At, change: impl FnOnce(&mut T) -> R) -> R {
        let chunk = &mut self.chunks[at.chunk];
        let record = &mut chunk.records[at.slot];
        let result = change(record);
        chunk.oldest = chunk.oldest.min(record.time());
        result
    }

    /// The position after `at`.
    #[inline]
    pub(super) fn next(&self, at: At) -> Option<At> {
        if at.slot + 1 < self.chunks[at.chunk].records.len() {
            return Some(At { slot: at.slot + 1, ..at });
        }
        (at.chunk + 1 < self.chunks.len()).then_some(At { chunk: at.chunk + 1, slot: 0 })
    }

    /// The position before `at`.
    #[inline]
    pub(super) fn prev(&self, at: At) -> Option<At> {
        if at.slot > 0 {
            return Some(At { slot: at.slot - 1, ..at });
        }
        let chunk = at.chunk.checked_sub(1)?;
        Some(At { chunk, slot: self.chunks[chunk].records.len() - 1 })
    }

    /// Index of the chunk whose range includes `id`; `None` if `id` precedes all records.
    #[inline]
    fn chunk_of(&self, id: StreamId) -> Option<usize> {
        // Usually it is the last or the first chunk.
        let last = self.chunks.len().checked_sub(1)?;
        if id >= self.chunks[last].first {
            return Some(last);
        }
        if last == 0 || id < self.chunks[1].first {
            return (id >= self.chunks[0].first).then_some(0);
        }
        self.chunks.partition_point(|chunk| chunk.first <= id).checked_sub(1)
    }

    /// The position of the record with this id. O(log n).
    #[inline]
    pub(super) fn find(&self, id: StreamId) -> Option<At> {
        let chunk = self.chunk_of(id)?;
        let records = &self.chunks[chunk].records;
        let slot = if self.chunks[chunk].first == id { 0 } else { records.partition_point(|r| r.id() < id) };
        (slot < records.len() && records[slot].id() == id).then_some(At { chunk, slot })
    }

    /// The position of the first record with this id or a greater one. O(log n).
    pub(super) fn at_or_after(&self, id: StreamId) -> Option<At> {
        let Some(chunk) = self.chunk_of(id) else {
            return self.front();
        };
        let slot = self.chunks[chunk].records.partition_point(|r| r.id() < id);
        if slot < self.chunks[chunk].records.len() {
            return Some(At { chunk, slot });
        }
        (chunk + 1 < self.chunks.len()).then_some(At { chunk: chunk + 1, slot: 0 })
    }

    /// The position of the last record with this id or a smaller one. O(log n).
    pub(super) fn at_or_before(&self, id: StreamId) -> Option<At> {
        let chunk = self.chunk_of(id)?;
        let slot = self.chunks[chunk].records.partition_point(|r| r.id() <= id);
        Some(At { chunk, slot: slot - 1 })
    }

    /// Adds a record at the end. Its id must be greater than all others. O(1).
    ///
    /// # Panics
    /// If the id is not greater.
    #[inline]
    pub(super) fn push(&mut self, record: T) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(chunk) => {
                assert!(chunk.records.back().is_some_and(|last| last.id() < record.id()), "ids ascend");
                if chunk.records.len() < CHUNK {
                    chunk.oldest = chunk.oldest.min(record.time());
                    chunk.records.push_back(record);
                } else {
                    self.chunks.push_back(Chunk::new(record, CHUNK));
                }
            }
            None => {
                // Most sequences stay within one chunk.
                if self.chunks.capacity() == 0 {
                    self.chunks.reserve_exact(1);
                }
                self.chunks.push_back(Chunk::new(record, 0));
            }
        }
    }

    /// Adds a record, unless its id exists; whether it was added. O(log n).
    pub(super) fn insert(&mut self, record: T) -> bool {
        let id = record.id();
        if self.back().is_none_or(|back| self.get(back).id() < id) {
            self.push(record);
            return true;
        }
        let mut at = self.chunk_of(id).unwrap_or(0);
        let mut slot = self.chunks[at].records.partition_point(|r| r.id() < id);
        if self.chunks[at].records.get(slot).is_some_and(|r| r.id() == id) {
            return false;
        }
        if self.chunks[at].records.len() == CHUNK {
            let upper = self.chunks[at].records.split_off(CHUNK / 2);
            let chunk = Chunk { first: upper[0].id(), oldest: self.chunks[at].oldest, records: upper };
            self.chunks.insert(at + 1, chunk);
            if slot > CHUNK / 2 {
                at += 1;
                slot -= CHUNK / 2;
            }
        }
        let chunk = &mut self.chunks[at];
        chunk.oldest = chunk.oldest.min(record.time());
        chunk.records.insert(slot, record);
        chunk.first = chunk.records[0].id();
        self.len += 1;
        true
    }

    /// Removes the record with this id. O(log n).
    #[inline]
    pub(super) fn remove(&mut self, id: StreamId) -> Option<T> {
        self.find(id).map(|at| self.remove_at(at))
    }

    /// Removes the record at `at`.
    pub(super) fn remove_at(&mut self, at: At) -> T {
        self.len -= 1;
        let chunk = &mut self.chunks[at.chunk];
        let record = chunk.records.remove(at.slot).expect("a place has a record");
        if chunk.records.is_empty() {
            self.chunks.remove(at.chunk);
            if self.chunks.is_empty() {
                self.chunks = VecDeque::new();
            }
            return record;
        }
        chunk.settle();
        if chunk.records.len() <= JOINED / 2 {
            self.join(at.chunk);
        }
        record
    }

    /// Merges a short chunk with a neighbour, if both fit into one.
    #[cold]
    fn join(&mut self, chunk: usize) {
        let len = |i: usize| self.chunks.get(i).map_or(CHUNK, |c| c.records.len());
        let left = if len(chunk) + len(chunk + 1) <= JOINED {
            chunk
        } else if chunk > 0 && len(chunk) + len(chunk - 1) <= JOINED {
            chunk - 1
        } else {
            return;
        };
        let right = self.chunks.remove(left + 1).expect("it has a right neighbour");
        let left = &mut self.chunks[left];
        left.oldest = left.oldest.min(right.oldest);
        left.records.extend(right.records);
    }

    /// The position of the first record from `from` on whose time is at most `time`. Skips whole chunks where possible,
    /// and corrects bounds that were too low: O(n / 128) if there is no such record.
    pub(super) fn next_older(&mut self, from: At, time: i64) -> Option<At> {
        let At { mut chunk, mut slot } = from;
        while let Some(c) = self.chunks.get_mut(chunk) {
            if c.oldest <= time {
                let found = c.records.iter().skip(slot).position(|r| r.time() <= time);
                if let Some(steps) = found {
                    return Some(At { chunk, slot: slot + steps });
                }
                if slot == 0 {
                    c.oldest = c.records.iter().map(Keyed::time).min().unwrap_or(i64::MAX);
                }
            }
            (chunk, slot) = (chunk + 1, 0);
        }
        None
    }

    /// A lower bound for the times of all records. It is exact after [`next_older`](Self::next_older) has found none.
    /// O(n / 128).
    pub(super) fn oldest(&self) -> Option<i64> {
        self.chunks.iter().map(|chunk| chunk.oldest).min()
    }

    /// The records from `at` on, in order.
    #[inline]
    pub(super) fn iter_from(&self, at: Option<At>) -> impl Iterator<Item = &T> {
        let At { chunk, slot } = at.unwrap_or(At { chunk: self.chunks.len(), slot: 0 });
        self.chunks.range(chunk.min(self.chunks.len())..).flat_map(|c| &c.records).skip(slot)
    }

    /// All records in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.records)
    }

    /// Bytes allocated, without what the records own.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.chunks.iter().map(|chunk| chunk.records.capacity() * size_of::<T>()).sum::<usize>()
    }

    /// Moves the records of a chunk, and the blocks that each record owns, if their places are sparse. Returns whether
    /// the chunk exists.
    pub(super) fn relocate_chunk(
        &mut self,
        chunk: usize,
        by: &mut Relocator,
        mut each: impl FnMut(&mut T, &mut Relocator),
    ) -> bool {
        if chunk == 0 {
            by.relocate_deque(&mut self.chunks);
        }
        let Some(chunk) = self.chunks.get_mut(chunk) else { return false };
        by.relocate_deque(&mut chunk.records);
        chunk.records.iter_mut().for_each(|record| each(record, by));
        true
    }

    /// As [`relocate_chunk`](Self::relocate_chunk), for all chunks.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        let mut chunk = 0;
        while self.relocate_chunk(chunk, by, |_, _| ()) {
            chunk += 1;
        }
    }

    /// Number of allocations.
    pub(super) fn allocations(&self) -> usize {
        self.chunks.len() + usize::from(self.chunks.capacity() > 0)
    }

    /// Panics if an invariant is violated. O(n).
    pub(super) fn check(&self) {
        let mut previous = None;
        for chunk in &self.chunks {
            assert!(
                !chunk.records.is_empty() && chunk.records.len() <= CHUNK,
                "chunks have 1 to {CHUNK} records"
            );
            assert_eq!(chunk.first, chunk.records[0].id(), "a chunk knows its first id");
            assert!(chunk.records.iter().all(|r| r.time() >= chunk.oldest), "no record is older");
        }
        for record in self.iter() {
            assert!(previous < Some(record.id()), "ids ascend");
            previous = Some(record.id());
        }
        assert_eq!(self.iter().count(), self.len, "the records are counted");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stdx::rng::Rng;

    impl Keyed for (StreamId, i64) {
        fn id(&self) -> StreamId {
            self.0
        }

        fn time(&self) -> i64 {
            self.1
        }
    }

    #[test]
    fn behaves_like_a_tree() {
        for seed in 0..6 {
            println!("seed {seed}");
            let mut rng = Rng::new(seed);
            let (mut sorted, mut model) = (Sorted::<(StreamId, i64)>::default(), BTreeMap::new());
            let range = [50, 1000, 20_000][seed as usize % 3];
            for step in 0..6000u64 {
                let id = StreamId::new(rng.below(range), rng.below(2));
                match rng.below(if step < 4000 { 8 } else { 14 }) {
                    0..=3 => {
                        let time = rng.below(1000) as i64;
                        let fresh = !model.contains_key(&id);
                        assert_eq!(sorted.insert((id, time)), fresh);
                        model.entry(id).or_insert(time);
                    }
                    4 => {
                        let id = StreamId::new(range + step, 0);
                        sorted.push((id, 5));
                        model.insert(id, 5);
                    }
                    5 => {
                        let time = rng.below(2000) as i64;
                        if let Some(at) = sorted.find(id) {
                            sorted.update(at, |r| r.1 = time);
                        }
                        model.entry(id).and_modify(|t| *t = time);
                    }
                    6 => {
                        let time = rng.below(100) as i64;
                        let mut found = Vec::new();
                        let mut at = sorted.front();
                        while let Some(here) = at.and_then(|at| sorted.next_older(at, time)) {
                            found.push(sorted.get(here).0);
                            at = sorted.next(here);
                        }
                        assert!(found.iter().eq(model.iter().filter(|(_, t)| **t <= time).map(|(id, _)| id)));
                    }
                    7 | 8 if !model.is_empty() => {
                        let id = *model.keys().next().expect("not empty");
                        assert_eq!(sorted.remove(id).map(|r| r.1), model.remove(&id));
                    }
                    _ => assert_eq!(sorted.remove(id).map(|r| r.1), model.remove(&id)),
                }
                let probe = StreamId::new(rng.below(range), 0);
                let get = |at: Option<At>| at.map(|at| *sorted.get(at));
                let pair = |entry: Option<(&StreamId, &i64)>| entry.map(|(id, t)| (*id, *t));
                assert_eq!(get(sorted.find(probe)), model.get_key_value(&probe).map(|(id, t)| (*id, *t)));
                assert_eq!(get(sorted.at_or_after(probe)), pair(model.range(probe..).next()));
                assert_eq!(get(sorted.at_or_before(probe)), pair(model.range(..=probe).next_back()));
                if step % 64 == 0 {
                    sorted.check();
                    assert!(sorted.iter().copied().eq(model.iter().map(|(id, t)| (*id, *t))));
                    let from = sorted.at_or_after(probe);
                    assert!(sorted.iter_from(from).map(|r| r.0).eq(model.range(probe..).map(|(id, _)| *id)));
                    let mut back = Vec::new();
                    let mut at = sorted.back();
                    while let Some(here) = at {
                        back.push(sorted.get(here).0);
                        at = sorted.prev(here);
                    }
                    assert!(back.iter().eq(model.keys().rev()));
                }
            }
        }
    }

    #[test]
    fn removals_leave_no_sparse_chunks() {
        let mut sorted = Sorted::default();
        for ms in 0..100_000 {
            sorted.push(StreamId::new(ms, 0));
        }
        for ms in (0..100_000).filter(|ms| ms % 100 != 0) {
            sorted.remove(StreamId::new(ms, 0));
        }
        sorted.check();
        assert_eq!(sorted.len(), 1000);
        assert!(sorted.chunks.len() < 100, "{} chunks", sorted.chunks.len());
    }
}
