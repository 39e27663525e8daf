//! Output that has outgrown one block.
//!
//! Replies are appended to a block, a `Vec<u8>`, which suffices for most clients at most times. When the block has
//! [`BLOCK`] bytes it becomes a segment of the chain, as it is, and another block is begun. However much waits for a
//! client that does not read, no byte is moved again, and each block is freed once it is sent.
//!
//! ```text
//!  segments: [block][block][text][block]…     block: replies ·text· replies ·text· replies
//!             ▲ sent up to here                       borrowed strings, sent without copying
//! ```
//!
//! The chain also limits the output: once more bytes wait than allowed, nothing more is appended, and writers can
//! check for that (see [`Chain::refuses`]). The block then has no capacity, so that every append must ask the chain;
//! appending to a block with capacity needs no extra check.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf as _, Bytes};

/// Bytes of a full block.
pub const BLOCK: usize = 256 << 10;

/// A piece of output that is sent as it is.
enum Segment {
    Block(Vec<u8>),
    Shared(Bytes),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Block(block) => block,
            Segment::Shared(text) => text,
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// Why nothing is appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// More bytes would wait than allowed.
    Full,
    /// The client does not want this output.
    Muted,
}

/// The output before and between the bytes of the block being written. The owner of the chain has the block and
/// passes it to each method.
pub struct Chain {
    segments: VecDeque<Segment>,
    /// Bytes of all segments.
    segment_bytes: usize,
    /// Borrowed strings, sent without copying, each with its position in the block. Positions ascend.
    borrowed: VecDeque<(usize, Bytes)>,
    /// Bytes of all borrowed strings.
    borrowed_bytes: usize,
    /// Number of bytes sent: of the first segment, or of the block if there is none.
    sent: usize,
    /// Most bytes that may wait.
    limit: usize,
    refusal: Option<Refusal>,
    /// Whether anything was dropped; see [`Chain::take_dropped`].
    dropped: bool,
    /// The empty block that was being written before output was muted.
    set_aside: Vec<u8>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain {
            segments: VecDeque::new(),
            segment_bytes: 0,
            borrowed: VecDeque::new(),
            borrowed_bytes: 0,
            sent: 0,
            limit: usize::MAX,
            refusal: None,
            dropped: false,
            set_aside: Vec::new(),
        }
    }
}

impl Chain {
    /// Number of bytes before the first byte of `block`, plus those of strings borrowed for it.
    #[inline]
    pub fn before(&self) -> usize {
        self.segment_bytes + self.borrowed_bytes
    }

    /// Number of bytes that wait to be sent, including a block of `block` bytes.
    #[inline]
    pub fn pending(&self, block: usize) -> usize {
        self.before() + block - self.sent
    }

    /// Number of bytes of the block that are sent.
    pub fn sent_of_block(&self) -> usize {
        if self.segments.is_empty() { self.sent } else { 0 }
    }

    /// Whether nothing waits, given a block of `block` bytes.
    #[inline]
    pub fn is_empty(&self, block: usize) -> bool {
        self.segments.is_empty() && self.borrowed.is_empty() && block == self.sent
    }

    /// Number of segments and borrowed strings.
    #[inline]
    pub fn parts(&self) -> usize {
        self.segments.len() + self.borrowed.len()
    }

    /// Bytes allocated for the queues themselves.
    pub fn overhead(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
            + self.borrowed.capacity() * size_of::<(usize, Bytes)>()
            + self.set_aside.capacity()
    }

    /// Sets how many bytes may wait. Output that would exceed this is dropped, with everything after it.
    #[inline]
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether output appended now is dropped.
    #[inline]
    pub fn refuses(&self) -> bool {
        self.refusal.is_some()
    }

    /// Whether output was dropped because too much waited. This never changes back.
    pub fn is_full(&self) -> bool {
        self.refusal == Some(Refusal::Full)
    }

    /// Drops what is appended until [`Chain::unmute`].
    pub fn mute(&mut self, block: &mut Vec<u8>) {
        if self.refusal.is_none() {
            self.refuse(block, Refusal::Muted);
        }
    }

    /// Whether anything was dropped since the last call.
    pub fn take_dropped(&mut self) -> bool {
        mem::take(&mut self.dropped)
    }

    /// Ends the effect of [`Chain::mute`].
    pub fn unmute(&mut self, block: &mut Vec<u8>) {
        if self.refusal == Some(Refusal::Muted) {
            self.refusal = None;
            if block.capacity() == 0 {
                *block = mem::take(&mut self.set_aside);
            }
        }
    }

    fn refuse(&mut self, block: &mut Vec<u8>, why: Refusal) {
        self.refusal = Some(why);
        if block.is_empty() {
            // Strings may be borrowed for it; their positions are 0 and stay 0.
            self.set_aside = mem::take(block);
        } else {
            self.seal(block);
        }
    }

    /// Appends bytes that do not fit the block: fills the block, and then further ones.
    #[cold]
    #[inline(never)]
    pub fn append(&mut self, block: &mut Vec<u8>, mut bytes: &[u8]) {
        if self.refuses() {
            self.dropped = true;
            return;
        }
        if self.pending(block.len()).saturating_add(bytes.len()) > self.limit {
            self.refuse(block, Refusal::Full);
            return;
        }
        loop {
            self.make_room(block, bytes.len());
            let (now, later) = bytes.split_at(bytes.len().min(block.capacity() - block.len()));
            block.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            bytes = later;
        }
    }

    /// Makes space for `n` bytes, or for some of them.
    fn make_room(&mut self, block: &mut Vec<u8>, n: usize) {
        let (len, capacity) = (block.len(), block.capacity());
        if capacity < BLOCK {
            let wanted = (2 * capacity).max(len + n).min(BLOCK);
            block.reserve_exact(wanted - len);
        } else if len == capacity {
            self.seal(block);
            block.reserve_exact(BLOCK);
        }
    }

    /// Converts the block and the strings borrowed for it into segments.
    fn seal(&mut self, block: &mut Vec<u8>) {
        if self.borrowed.is_empty() {
            if !block.is_empty() {
                self.segment_bytes += block.len();
                self.segments.push_back(Segment::Block(mem::take(block)));
            }
            return;
        }
        // The part of the block that is sent ends before the first borrowed string, so it lies in the first of these
        // segments.
        let mut done = 0;
        let written = Bytes::from(mem::take(block));
        for (at, text) in self.borrowed.drain(..) {
            if at > done {
                self.segment_bytes += at - done;
                self.segments.push_back(Segment::Shared(written.slice(done..at)));
            }
            self.segment_bytes += text.len();
            self.segments.push_back(Segment::Shared(text));
            done = at;
        }
        self.borrowed_bytes = 0;
        if written.len() > done {
            self.segment_bytes += written.len() - done;
            self.segments.push_back(Segment::Shared(written.slice(done..)));
        }
    }

    /// Sends `text` at this point, behind `block` bytes of the block, without copying it.
    pub fn append_shared(&mut self, block: usize, text: Bytes) {
        if !self.refuses() && !text.is_empty() {
            self.borrowed_bytes += text.len();
            self.borrowed.push_back((block, text));
        }
    }

    /// Inserts `header` at `position`, which counts from the first segment on: see [`Chain::before`].
    #[cold]
    pub fn insert(&mut self, block: &mut Vec<u8>, position: usize, header: &[u8]) {
        if self.refuses() {
            return;
        }
        if let Some(at) = position.checked_sub(self.before()) {
            block.reserve_exact(header.len());
            block.extend_from_slice(header);
            block[at..].rotate_right(header.len());
            return;
        }
        let (mut index, mut start) = (self.segments.len(), self.segment_bytes);
        while start > position {
            index -= 1;
            start -= self.segments[index].len();
        }
        let at = position - start;
        self.segment_bytes += header.len();
        if at == 0 {
            self.segments.insert(index, Segment::Block(header.to_vec()));
            return;
        }
        let behind = match &mut self.segments[index] {
            Segment::Block(block) => {
                let behind = block.split_off(at);
                block.extend_from_slice(header);
                self.segments.insert(index + 1, Segment::Block(behind));
                return;
            }
            Segment::Shared(text) => text.split_off(at),
        };
        self.segments.insert(index + 1, Segment::Block(header.to_vec()));
        self.segments.insert(index + 2, Segment::Shared(behind));
    }

    /// Removes what was appended after `position`. None of it may have been sent.
    pub fn truncate(&mut self, block: &mut Vec<u8>, position: usize) {
        if self.is_full() {
            // The output will not be sent anyway.
            return;
        }
        while let Some((at, text)) = self.borrowed.back()
            && self.before() - text.len() + at >= position
        {
            self.borrowed_bytes -= text.len();
            self.borrowed.pop_back();
        }
        if let Some(len) = position.checked_sub(self.before()) {
            block.truncate(len);
            return;
        }
        block.clear();
        while self.segment_bytes > position
            && let Some(last) = self.segments.pop_back()
        {
            self.segment_bytes -= last.len();
            let Some(len) = position.checked_sub(self.segment_bytes).filter(|&len| len > 0) else { continue };
            match last {
                Segment::Block(mut last) => {
                    last.truncate(len);
                    *block = last;
                }
                Segment::Shared(mut last) => {
                    last.truncate(len);
                    self.segment_bytes += len;
                    self.segments.push_back(Segment::Shared(last));
                }
            }
            return;
        }
    }

    /// The output still to be sent, in order. Pieces may be empty.
    pub fn pieces<'a>(&'a self, block: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut skip = self.sent;
        let segments = self.segments.iter().map(move |segment| &segment.bytes()[mem::take(&mut skip)..]);
        let mut from = self.sent_of_block();
        let borrowed = self.borrowed.iter().flat_map(move |(at, text)| {
            let before = &block[from..*at];
            from = *at;
            [before, &text[..]]
        });
        let last = self.borrowed.back().map_or(self.sent_of_block(), |(at, _)| *at);
        segments.chain(borrowed).chain(std::iter::once(&block[last..]))
    }

    /// Removes the first `n` bytes, which have been sent, and passes finished blocks to `give`.
    pub fn consume(&mut self, mut n: usize, mut give: impl FnMut(Vec<u8>)) {
        while let Some(front) = self.segments.front() {
            let left = front.len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.sent = 0;
            self.segment_bytes -= front.len();
            if let Some(Segment::Block(block)) = self.segments.pop_front() {
                give(block);
            }
        }
        while let Some((at, text)) = self.borrowed.front_mut() {
            let before = *at - self.sent;
            if n < before {
                break;
            }
            self.sent = *at;
            n -= before;
            let now = n.min(text.len());
            text.advance(now);
            self.borrowed_bytes -= now;
            n -= now;
            if !text.is_empty() {
                return;
            }
            self.borrowed.pop_front();
        }
        self.sent += n;
    }

    /// Resets the chain after all of the block was sent.
    pub fn rewind(&mut self) {
        debug_assert!(self.segments.is_empty() && self.borrowed.is_empty());
        self.sent = 0;
        if self.segments.capacity() > KEPT_PARTS {
            self.segments = VecDeque::new();
        }
        if self.borrowed.capacity() > KEPT_PARTS {
            self.borrowed = VecDeque::new();
        }
    }

    /// Removes and returns everything that waits. Output that was refused stays refused.
    pub fn discard(&mut self) -> Chain {
        mem::replace(self, Chain { limit: self.limit, refusal: self.refusal, ..Chain::default() })
    }
}

/// Number of segments and borrowed strings for which an idle client keeps space.
const KEPT_PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn all(chain: &Chain, block: &[u8]) -> Vec<u8> {
        chain.pieces(block).flatten().copied().collect()
    }

    fn append(chain: &mut Chain, block: &mut Vec<u8>, bytes: &[u8]) {
        if bytes.len() <= block.capacity() - block.len() {
            block.extend_from_slice(bytes);
        } else {
            chain.append(block, bytes);
        }
    }

    #[test]
    fn a_chain_behaves_like_one_vector() {
        for seed in 0..8 {
            println!("seed {seed}");
            let mut rng = Rng::new(seed);
            let (mut chain, mut block) = (Chain::default(), Vec::new());
            // The output appended and not sent, and a position to truncate to.
            let (mut model, mut sent) = (Vec::<u8>::new(), 0);
            for _ in 0..60 {
                let text = vec![rng.below(256) as u8; rng.below(BLOCK as u64 / 3) as usize];
                let before = model.len();
                let position = chain.before() + block.len();
                match rng.below(8) {
                    0 => {
                        chain.append_shared(block.len(), text.clone().into());
                        model.extend_from_slice(&text);
                    }
                    1 if sent < model.len() => {
                        let n = rng.below((model.len() - sent) as u64 + 1) as usize;
                        chain.consume(n, |given| assert!(given.capacity() > 0));
                        sent += n;
                    }
                    2 => {
                        append(&mut chain, &mut block, &text);
                        append(&mut chain, &mut block, &text);
                        chain.truncate(&mut block, position);
                    }
                    3 => {
                        append(&mut chain, &mut block, &text);
                        append(&mut chain, &mut block, &text);
                        chain.insert(&mut block, position, b"header");
                        model.extend_from_slice(b"header");
                        model.extend_from_slice(&text);
                        model.extend_from_slice(&text);
                    }
                    4 if rng.one_in(4) => {
                        chain.mute(&mut block);
                        append(&mut chain, &mut block, &text);
                        chain.append_shared(block.len(), text.into());
                        assert!(chain.refuses());
                        chain.unmute(&mut block);
                    }
                    _ => {
                        append(&mut chain, &mut block, &text);
                        model.extend_from_slice(&text);
                    }
                }
                assert!(before <= model.len() && block.capacity() <= BLOCK + 16);
                assert_eq!(chain.pending(block.len()), model.len() - sent);
                assert_eq!(chain.is_empty(block.len()), model.len() == sent);
                assert!(all(&chain, &block) == model[sent..]);
                if chain.is_empty(block.len()) {
                    chain.rewind();
                    block.clear();
                    model.clear();
                    sent = 0;
                }
            }
        }
    }

    #[test]
    fn a_full_chain_takes_nothing_more() {
        let (mut chain, mut block) = (Chain::default(), Vec::new());
        chain.set_limit(BLOCK + 100);
        append(&mut chain, &mut block, &vec![b'a'; BLOCK]);
        append(&mut chain, &mut block, &[b'b'; 100]);
        assert!(!chain.is_full());
        let room = block.capacity() - block.len();
        append(&mut chain, &mut block, &vec![b'c'; room + 1]);
        assert!(chain.is_full() && chain.refuses() && block.capacity() == 0);
        append(&mut chain, &mut block, b"d");
        chain.append_shared(0, Bytes::from_static(b"e"));
        assert_eq!(chain.pending(block.len()), BLOCK + 100);
        chain.unmute(&mut block);
        drop(chain.discard());
        assert!(chain.is_full() && chain.is_empty(0));
    }

    #[test]
    fn no_byte_is_moved_once_its_block_is_full() {
        let (mut chain, mut block) = (Chain::default(), Vec::with_capacity(BLOCK));
        let mut places = Vec::new();
        for _ in 0..100 {
            append(&mut chain, &mut block, &[b'x'; BLOCK / 2]);
            append(&mut chain, &mut block, &[b'y'; BLOCK / 2]);
            places.push(block.as_ptr());
        }
        let now: Vec<_> = chain.pieces(&block).map(<[u8]>::as_ptr).collect();
        assert_eq!(now[..99], places[..99]);
        let mut given = 0;
        chain.consume(50 * BLOCK + 7, |block| given += block.len());
        assert_eq!((given, chain.parts()), (50 * BLOCK, 49));
    }
}
