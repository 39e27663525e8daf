//! The backlog: the last part of the replication stream, stored once for all replicas.
//!
//! ```text
//!   first block            …            last block
//!  ┌──────────────────┐ ┌────────┐ ┌──────────────────┐
//!  │▒▒▒▒▒▒│           │ │        │ │           │ free │
//!  └──────────────────┘ └────────┘ └──────────────────┘
//!   given  start          ↑ next byte         end
//!   up                      of a replica
//! ```
//!
//! For a replica that is online, only the offset of the next byte to send is stored. The backlog exceeds its limit only
//! while a replica still has to be sent older bytes. (Since 7.0, Redis shares blocks between replicas by reference
//! counts; here only offsets refer to bytes.)

use std::collections::VecDeque;

/// Capacity of a block in bytes, unless one unit of execution is larger.
const BLOCK: usize = 16 << 10;

/// Size in bytes above which a block, made by one large unit of execution, is trimmed before all of it is obsolete.
const LARGE: usize = 4 * BLOCK;

/// Consecutive bytes of the stream.
struct Block {
    /// Offset of the first byte.
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The last part of a replication stream. Offset `n` is the position behind the first `n` bytes.
#[derive(Default)]
pub struct Backlog {
    blocks: VecDeque<Block>,
    /// Offset of the oldest byte that can be read.
    start: u64,
    /// Offset behind the last byte.
    end: u64,
    /// Bytes allocated by all blocks.
    allocated: usize,
    /// Whether bytes are kept; otherwise they are only counted.
    active: bool,
    /// Database that the stream has selected; `None` if the next command must select one.
    pub selected: Option<u32>,
}

impl Backlog {
    /// Whether bytes are kept.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Offset behind the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Offset of the oldest byte kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Number of bytes kept.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether no bytes are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated, with the list of blocks.
    pub fn allocated(&self) -> usize {
        self.allocated + self.blocks.capacity() * size_of::<Block>()
    }

    /// Begins to keep bytes, from the current offset on.
    pub fn activate(&mut self) {
        self.active = true;
        self.selected = None;
    }

    /// Drops all bytes and keeps none from now on.
    pub fn deactivate(&mut self) {
        self.restart(self.end);
        self.active = false;
    }

    /// Drops all bytes and continues at another offset.
    pub fn restart(&mut self, offset: u64) {
        self.blocks.clear();
        self.allocated = 0;
        (self.start, self.end) = (offset, offset);
        self.selected = None;
    }

    /// Whether a replica that has the first `offset` bytes can be sent the rest.
    pub fn reaches(&self, offset: u64) -> bool {
        self.active && (self.start..=self.end).contains(&offset)
    }

    /// Lets `write` append to the stream. `expected` is an estimate of the number of bytes appended.
    pub fn append_with<T>(
        &mut self,
        expected: usize,
        write: impl FnOnce(&mut Vec<u8>, &mut Option<u32>) -> T,
    ) -> T {
        let fits = |block: &Block| block.bytes.capacity() - block.bytes.len() >= expected;
        if !self.blocks.back().is_some_and(fits) {
            let bytes = Vec::with_capacity(expected.max(BLOCK));
            self.allocated += bytes.capacity();
            self.blocks.push_back(Block { start: self.end, bytes });
        }
        let block = self.blocks.back_mut().expect("just seen to");
        let before = block.bytes.capacity();
        let result = write(&mut block.bytes, &mut self.selected);
        self.allocated += block.bytes.capacity() - before;
        self.end = block.end();
        if !self.active {
            self.restart(self.end);
        }
        result
    }

    /// Appends bytes received from a primary, which must be passed on unchanged.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.active {
            self.append_with(bytes.len(), |out, _| out.extend_from_slice(bytes));
        } else {
            self.end += bytes.len() as u64;
            self.start = self.end;
        }
    }

    /// Advances by one byte that no replica will be sent. Does nothing while bytes are kept.
    pub fn skip(&mut self) {
        if !self.active {
            self.restart(self.end + 1);
        }
    }

    /// Bytes from `offset` to the end of their block; empty at the end of the stream. O(log blocks).
    ///
    /// # Panics
    /// If the byte at `offset` has been dropped or has not been written.
    pub fn read(&self, offset: u64) -> &[u8] {
        assert!((self.start..=self.end).contains(&offset), "nobody is sent what there is not");
        let next = self.blocks.partition_point(|block| block.end() <= offset);
        self.blocks.get(next).map_or(&[], |block| &block.bytes[(offset - block.start) as usize..])
    }

    /// Number of blocks that contain bytes at or after `offset`. O(log blocks).
    pub fn blocks_from(&self, offset: u64) -> usize {
        self.blocks.len() - self.blocks.partition_point(|block| block.end() <= offset)
    }

    /// Drops the oldest bytes above `limit`, but none at or after `needed`, the lowest offset that a replica still
    /// needs.
    pub fn trim(&mut self, limit: u64, needed: Option<u64>) {
        let keep_from = self.end.saturating_sub(limit).min(needed.unwrap_or(u64::MAX)).max(self.start);
        // Whole blocks are dropped, so that few commands do this work. The last block is being written to.
        while self.blocks.len() > 1
            && let Some(block) = self.blocks.front()
            && block.end() <= keep_from
        {
            self.allocated -= block.bytes.capacity();
            self.start = block.end();
            self.blocks.pop_front();
        }
        if let Some(block) = self.blocks.front_mut()
            && block.bytes.len() > LARGE
            && (keep_from - block.start) as usize > block.bytes.len() / 2
        {
            self.allocated -= block.bytes.capacity();
            block.bytes = block.bytes.split_off((keep_from - block.start) as usize);
            block.start = keep_from;
            self.start = keep_from;
            self.allocated += block.bytes.capacity();
        }
        // A block that is larger than usual may contain bytes that can no longer be read.
        if self.blocks.front().is_some_and(|block| block.bytes.len() > BLOCK) {
            self.start = keep_from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    /// Everything from `offset` on.
    fn rest(backlog: &Backlog, mut offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let piece = backlog.read(offset);
            if piece.is_empty() {
                return out;
            }
            out.extend_from_slice(piece);
            offset += piece.len() as u64;
        }
    }

    #[test]
    fn a_replica_at_any_offset_is_given_exactly_the_rest() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut backlog, mut all) = (Backlog::default(), Vec::new());
            let offset = rng.below(1000);
            backlog.restart(offset);
            backlog.activate();
            all.resize(offset as usize, 0);
            let (mut reader, limit) = (offset, 20_000 + rng.below(100_000));
            for _ in 0..400 {
                let len = if rng.below(20) == 0 { rng.below(50_000) } else { rng.below(300) } as usize;
                let bytes: Vec<u8> = (0..len).map(|_| rng.below(256) as u8).collect();
                all.extend_from_slice(&bytes);
                backlog.append(&bytes);
                if rng.below(3) == 0 {
                    let piece = backlog.read(reader).len() as u64;
                    reader += rng.below(piece + 1);
                }
                backlog.trim(limit, Some(reader));
                assert_eq!(backlog.end(), all.len() as u64);
                assert!(backlog.reaches(reader) && !backlog.reaches(backlog.end() + 1));
                assert!(backlog.len() >= limit.min(backlog.end() - offset));
            }
            assert_eq!(rest(&backlog, reader), all[reader as usize..]);
            backlog.trim(limit, None);
            let from = backlog.start();
            assert!(backlog.len() <= limit + 70_000.max(limit));
            assert_eq!(rest(&backlog, from), all[from as usize..]);
            let capacities: usize = backlog.blocks.iter().map(|block| block.bytes.capacity()).sum();
            assert_eq!(backlog.allocated, capacities);
            assert!((capacities..capacities + 8192).contains(&backlog.allocated()));
        }
    }

    #[test]
    fn a_large_block_is_trimmed_before_it_is_obsolete() {
        let mut backlog = Backlog::default();
        backlog.activate();
        backlog.append(&[b'x'; 1 << 20]);
        backlog.append(b"abc");
        backlog.trim(20_000, Some(100));
        assert!(backlog.reaches(100), "somebody needs it");
        backlog.trim(20_000, None);
        assert_eq!((backlog.len(), backlog.end()), (20_000, (1 << 20) + 3));
        assert!(backlog.allocated() < 60_000, "{}", backlog.allocated());
        let (first, at) = (backlog.read(backlog.start()).len() as u64, backlog.start());
        assert_eq!((first, backlog.read(at + first)), (19_997, &b"abc"[..]));
    }

    #[test]
    fn a_large_block_is_readable_only_within_the_limit() {
        for len in [BLOCK, BLOCK + 1, 3 * BLOCK, LARGE, LARGE + 1, 2 * LARGE, 10 * BLOCK + 300] {
            for limit in [BLOCK as u64, 2 * BLOCK as u64, LARGE as u64] {
                let mut backlog = Backlog::default();
                backlog.activate();
                backlog.append(b"before");
                backlog.append(&vec![b'x'; len]);
                backlog.trim(limit, None);
                let from = backlog.start();
                assert!(!backlog.reaches(from.wrapping_sub(1)) && backlog.reaches(from));
                assert!(backlog.len() >= limit.min(backlog.end()) && backlog.len() <= limit + BLOCK as u64);
                assert_eq!(rest(&backlog, from).len() as u64, backlog.end() - from);
            }
        }
    }

    #[test]
    fn an_inactive_backlog_counts_bytes_without_keeping_them() {
        let mut backlog = Backlog::default();
        backlog.append(b"abc");
        backlog.append_with(2, |out, selected| {
            out.extend_from_slice(b"de");
            *selected = Some(1);
        });
        assert_eq!((backlog.end(), backlog.len(), backlog.allocated), (5, 0, 0));
        assert_eq!(backlog.selected, None, "who begins here must be told the database");
        assert!(!backlog.reaches(5));
        backlog.skip();
        backlog.skip();
        assert_eq!((backlog.end(), backlog.len()), (7, 0));
        backlog.restart(5);
        backlog.activate();
        backlog.skip();
        assert!(backlog.reaches(5) && backlog.read(5).is_empty());
        backlog.append(b"fgh");
        assert_eq!(backlog.read(6), b"gh");
        backlog.deactivate();
        assert_eq!((backlog.end(), backlog.len()), (8, 0));
    }
}
