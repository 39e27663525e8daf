//! Listpack: a sequence of short texts and integers in one block of memory, byte for byte in
//! Redis's format, so that RDB files and DUMP payloads carry the block as it is.
//!
//! ```text
//! | total bytes: u32 le | count: u16 le | entry | entry | … | 0xFF |
//! ```
//!
//! A count of 65535 means "that many or more: iterate to count". Encodings of [`entries`](self) are described in
//! `entry.rs`. Entries can be iterated over in both directions.
//!
//! What always holds:
//!
//! * The promises of the block (see `block.rs`): a [`Listpack`] is one thin pointer, growing inside a size class
//!   moves nothing, and `total` is true. **Memory safety rests on them alone**: entries are read with bounds checks,
//!   so a position that belongs to another listpack, or that an edit has moved, results in some value or a panic,
//!   never in a read outside the block.
//! * Each value has its one canonical encoding; equality of values is equality of bytes.
//!
//! The idea is Salvatore Sanfilippo's (the listpack specification, 2017).
#![allow(unsafe_code)]

pub(in crate::structures) mod entry;
#[cfg(test)]
mod tests;

use std::alloc::Layout;
use std::fmt;
use std::iter::FusedIterator;
use std::ptr::NonNull;

use super::block::Block;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::num;
use entry::{END, Encoded, corrupt_position};
pub use entry::{Item, Needle};

/// Offset of the count of entries.
const COUNT: usize = 4;
/// Bytes before the first entry.
const HEADER: usize = 6;
/// Header and end mark: the size of an empty listpack in bytes.
pub const EMPTY: usize = HEADER + 1;
/// The count that means "iterate to count".
const UNKNOWN: u16 = u16::MAX;
/// No listpack should exceed this many bytes; see [`Listpack::would_fit`].
pub const SAFETY_LIMIT: usize = 1 << 30;

const _: () = assert!(size_of::<Option<Listpack>>() == 8);

/// A sequence of texts and integers in one block of memory.
///
/// Its representation is the address of the block: never zero, with the low three bits zero.
#[derive(Clone)]
#[repr(transparent)]
pub struct Listpack {
    block: Block,
}

/// Position of an entry: an offset into the block.
///
/// Valid until the listpack is edited at or before the position. Using a stale position is a logic error, which
/// results in some value or a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

impl Pos {
    /// Position of the first entry of any listpack.
    pub(super) const FIRST: Pos = Pos(HEADER as u32);

    /// The offset from the start of the block, for callers that store positions in less space.
    #[inline]
    pub fn offset(self) -> u32 {
        self.0
    }

    /// The position with an [`offset`](Self::offset).
    #[inline]
    pub fn from_offset(offset: u32) -> Pos {
        Pos(offset)
    }
}

/// The bytes are not a listpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid listpack")]
pub struct CorruptListpack;

/// Bytes that the entry of `item` adds to a listpack. O(1); O(digits) for a number.
pub fn encoded_size<'a>(item: impl Into<Item<'a>>) -> usize {
    Encoded::new(item.into()).entry_size()
}

/// Creating, converting and measuring.
impl Listpack {
    /// An empty listpack.
    pub fn new() -> Self {
        Listpack { block: Block::copy_of(&[EMPTY as u8, 0, 0, 0, 0, 0, END]) }
    }

    /// A listpack of `items`, in one allocation.
    pub fn from_items(items: &[Item<'_>]) -> Self {
        let mut lp = Self::new();
        lp.append(items);
        lp
    }

    /// Checks and copies a block from outside: every entry, the header and the count. O(n).
    ///
    /// Entries in an encoding longer than necessary are encoded again, so [`as_bytes`](Self::as_bytes) may be shorter
    /// than `bytes`.
    ///
    /// # Errors
    /// [`CorruptListpack`] unless `bytes` is exactly one well-formed listpack.
    pub fn from_bytes_checked(bytes: &[u8]) -> Result<Self, CorruptListpack> {
        let (total, rest) = bytes.split_first_chunk().ok_or(CorruptListpack)?;
        let (count, entries) = rest.split_first_chunk().ok_or(CorruptListpack)?;
        if u32::from_le_bytes(*total) as usize != bytes.len() || entries.last() != Some(&END) {
            return Err(CorruptListpack);
        }
        let (mut at, mut found, mut all_canonical) = (HEADER, 0usize, true);
        let end = bytes.len() - 1;
        while at < end {
            // Without the end mark, so that no entry can include it.
            let (size, canonical) = entry::validate(&bytes[..end], at).ok_or(CorruptListpack)?;
            at += size;
            found += 1;
            all_canonical &= canonical;
        }
        let count = u16::from_le_bytes(*count);
        if count != UNKNOWN && usize::from(count) != found {
            return Err(CorruptListpack);
        }
        let mut lp = Listpack { block: Block::copy_of(bytes) };
        lp.set_header_count(clamp_count(found));
        if !all_canonical {
            let items: Vec<Item<'_>> = lp.iter().collect();
            let canonical = Self::from_items(&items);
            lp = canonical;
        }
        Ok(lp)
    }

    /// A listpack of `total` bytes, zeroed and then written by `fill`, which returns whether it succeeded. The bytes
    /// must form a listpack; only the size in the header and the end mark are checked.
    pub(super) fn from_filled(total: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Self> {
        if total < EMPTY || u32::try_from(total).is_err() {
            return None;
        }
        let block = Block::from_filled(total, |bytes| fill(bytes) && bytes.ends_with(&[END]))?;
        Some(Listpack { block })
    }

    /// Converts the listpack into one word whose low three bits are zero. Only [`Listpack::from_raw`] frees it then.
    #[inline]
    pub(in crate::structures) fn into_raw(self) -> NonNull<u8> {
        self.block.into_raw()
    }

    /// Converts a word from [`Listpack::into_raw`] back into its listpack.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and is converted back at most once.
    #[inline]
    pub(in crate::structures) unsafe fn from_raw(raw: NonNull<u8>) -> Listpack {
        // SAFETY: the caller's promise is the block's.
        Listpack { block: unsafe { Block::from_raw(raw) } }
    }

    /// The layout of the allocation.
    pub(in crate::structures) fn layout(&self) -> Layout {
        self.block.layout()
    }

    /// Moves the block if its place is sparse.
    pub fn relocate(&mut self, by: &mut Relocator) {
        self.block.relocate(by);
    }

    /// The bytes of the block, as in an RDB file.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.block.as_bytes()
    }

    /// Size of the block in bytes, including header and end mark. O(1).
    #[inline]
    pub fn bytes(&self) -> usize {
        self.block.total()
    }

    /// Bytes allocated. O(1).
    #[inline]
    pub fn allocated(&self) -> usize {
        self.block.allocated()
    }

    /// Number of entries. O(1) below 65535 entries, otherwise O(n).
    #[inline]
    pub fn len(&self) -> usize {
        match self.header_count() {
            UNKNOWN => self.count_from(HEADER),
            count => usize::from(count),
        }
    }

    /// Whether there are no entries. O(1).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes() == EMPTY
    }

    /// Whether the block stays within [`SAFETY_LIMIT`] when entries of `add` bytes are added.
    #[inline]
    pub fn would_fit(&self, add: usize) -> bool {
        self.bytes().saturating_add(add) <= SAFETY_LIMIT
    }

    /// Panics unless the block is well-formed and canonical. O(n). For tests and DEBUG.
    pub fn check(&self) {
        let blob = self.as_bytes();
        assert_eq!(blob.last(), Some(&END), "ends with the end mark");
        let (mut at, mut found) = (HEADER, 0usize);
        while at < blob.len() - 1 {
            let (size, canonical) =
                entry::validate(&blob[..blob.len() - 1], at).expect("every entry is well-formed");
            assert!(canonical, "the entry at {at} is canonical");
            at += size;
            found += 1;
        }
        let count = self.header_count();
        assert!(count == UNKNOWN || usize::from(count) == found, "the header counts {found}");
    }

    /// Number of entries from offset `at` to the end.
    #[cold]
    fn count_from(&self, at: usize) -> usize {
        Entries { blob: self.as_bytes(), front: at, back: self.end() }.count()
    }

    /// Offset of the end mark.
    #[inline]
    fn end(&self) -> usize {
        self.bytes() - 1
    }

    #[inline]
    fn header_count(&self) -> u16 {
        u16::from_le_bytes(self.block.read(COUNT))
    }

    #[inline]
    fn set_header_count(&mut self, count: u16) {
        self.block.write(COUNT, &count.to_le_bytes());
    }

    /// Updates the count for `added` new and `removed` old entries. An unknown count stays unknown.
    #[inline]
    fn recount(&mut self, added: usize, removed: usize) {
        let count = self.header_count();
        if count != UNKNOWN {
            self.set_header_count(clamp_count((usize::from(count) + added).saturating_sub(removed)));
        }
    }

    /// Replaces the bytes `at..at + old` by `new` unwritten ones and returns their address. Everything behind them
    /// moves, and the block is reallocated if its size class changes.
    ///
    /// # Safety
    /// The caller writes the `new` bytes before anything reads them.
    ///
    /// # Panics
    /// If the range does not lie between header and end mark, or the listpack would exceed 4 GB.
    #[inline]
    unsafe fn splice(&mut self, at: usize, old: usize, new: usize) -> *mut u8 {
        let end = self.end();
        if at < HEADER || at > end || old > end - at {
            corrupt_position();
        }
        // SAFETY: the caller's promise.
        unsafe { self.block.splice(at, old, new) }
    }
}

/// The header's count for `n` entries.
#[inline]
fn clamp_count(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(UNKNOWN)
}

/// Searching.
impl Listpack {
    /// The first entry.
    #[inline]
    pub fn first(&self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(HEADER as u32))
    }

    /// The last entry. O(1).
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.before(self.end())
    }

    /// The entry after `pos`. O(1).
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let next = entry::after(self.as_bytes(), pos.0 as usize);
        (next < self.end()).then_some(Pos(next as u32))
    }

    /// The position that an entry gets when it is added at the end. O(1).
    #[inline]
    pub fn end_pos(&self) -> Pos {
        Pos(self.end() as u32)
    }

    /// The entry before `pos`. O(1).
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.0 as usize)
    }

    /// The entry that ends at offset `end`.
    #[inline]
    fn before(&self, end: usize) -> Option<Pos> {
        (end > HEADER).then(|| Pos(entry::before(self.as_bytes(), end, HEADER) as u32))
    }

    /// The value at `pos`. O(1).
    #[inline]
    pub fn get(&self, pos: Pos) -> Item<'_> {
        entry::value(self.as_bytes(), pos.0 as usize)
    }

    /// The entry with this index; a negative index counts from the end, -1 being the last. O(n) from the nearer end.
    pub fn seek(&self, index: i64) -> Option<Pos> {
        let count = self.header_count();
        let (from_front, steps) = if count == UNKNOWN {
            if index >= 0 { (true, index as u64) } else { (false, !index as u64) }
        } else {
            let count = u64::from(count);
            let index = if index >= 0 { index as u64 } else { count.checked_sub(index.unsigned_abs())? };
            if index >= count {
                return None;
            }
            if index <= count / 2 { (true, index) } else { (false, count - 1 - index) }
        };
        let mut entries = self.entries();
        let steps = usize::try_from(steps).ok()?;
        let found = if from_front { entries.nth(steps) } else { entries.nth_back(steps) };
        found.map(|(pos, _)| pos)
    }

    /// Bytes of the entry at `pos`. O(1).
    pub fn entry_size(&self, pos: Pos) -> usize {
        entry::after(self.as_bytes(), pos.0 as usize) - pos.0 as usize
    }

    /// The index of the entry at `pos`. O(n).
    pub fn index_of(&self, pos: Pos) -> usize {
        Entries { back: pos.0 as usize, ..self.entries() }.count()
    }

    /// The first entry equal to `item` among every `skip + 1`-th entry, starting with the first: with `skip` 1, among
    /// the fields of field-value pairs. O(n).
    #[inline]
    pub fn find<'a>(&self, item: impl Into<Item<'a>>, skip: usize) -> Option<Pos> {
        self.find_from(self.first()?, &Needle::new(item), skip)
    }

    /// The first entry equal to `needle` among `from` and every `skip + 1`-th entry after it. O(n).
    pub fn find_from(&self, from: Pos, needle: &Needle<'_>, skip: usize) -> Option<Pos> {
        let blob = self.as_bytes();
        let end = blob.len() - 1;
        let mut at = from.0 as usize;
        loop {
            if needle.matches_at(blob, at) {
                return Some(Pos(at as u32));
            }
            for _ in 0..=skip {
                at = entry::after(blob, at);
                if at == end {
                    return None;
                }
            }
        }
    }

    /// The values in order; backwards with `rev()`.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries())
    }

    /// The values from `pos` to the end.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter(self.entries_from(pos))
    }

    /// Positions and values in order; backwards with `rev()`.
    #[inline]
    pub fn entries(&self) -> Entries<'_> {
        Entries { blob: self.as_bytes(), front: HEADER, back: self.end() }
    }

    /// Positions and values from `pos` to the end.
    #[inline]
    pub fn entries_from(&self, pos: Pos) -> Entries<'_> {
        Entries { front: pos.0 as usize, ..self.entries() }
    }

    /// Values in pairs: fields and values of a hash, or members and scores of a sorted set. A last value without a
    /// partner is left out.
    #[inline]
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs(self.entries())
    }
}

/// Editing.
impl Listpack {
    /// Adds an entry at the end. O(1) amortised.
    ///
    /// # Panics
    /// If the listpack would exceed 4 GB, as for every method that adds entries. Call [`would_fit`](Self::would_fit)
    /// first.
    #[inline]
    pub fn push_back<'a>(&mut self, item: impl Into<Item<'a>>) {
        self.put(self.end(), 0, Encoded::new(item.into()));
        self.recount(1, 0);
    }

    /// Adds an entry at the front. O(bytes).
    #[inline]
    pub fn push_front<'a>(&mut self, item: impl Into<Item<'a>>) {
        self.put(HEADER, 0, Encoded::new(item.into()));
        self.recount(1, 0);
    }

    /// Adds an entry before `pos` and returns its position, which is `pos`. O(bytes behind it).
    pub fn insert_before<'a>(&mut self, pos: Pos, item: impl Into<Item<'a>>) -> Pos {
        self.put(pos.0 as usize, 0, Encoded::new(item.into()));
        self.recount(1, 0);
        pos
    }

    /// Adds an entry after `pos` and returns its position; `pos` stays valid. O(bytes behind it).
    pub fn insert_after<'a>(&mut self, pos: Pos, item: impl Into<Item<'a>>) -> Pos {
        let next = Pos(entry::after(self.as_bytes(), pos.0 as usize) as u32);
        self.insert_before(next, item)
    }

    /// Replaces the value at `pos`, which stays valid. O(1) if the size stays the same, otherwise O(bytes behind it).
    pub fn replace<'a>(&mut self, pos: Pos, item: impl Into<Item<'a>>) {
        let at = pos.0 as usize;
        let old = entry::after(self.as_bytes(), at) - at;
        self.put(at, old, Encoded::new(item.into()));
    }

    /// Replaces the integer at `pos`, which stays valid. O(1) if the size stays the same, otherwise O(bytes behind it).
    #[inline]
    pub fn replace_int(&mut self, pos: Pos, value: i64) {
        let at = pos.0 as usize;
        // Integers of one byte, the most frequent ones, are their encoding.
        match (self.block.read::<1>(at), value) {
            ([0..=0x7F], 0..=0x7F) => self.block.write(at, &[value as u8]),
            _ => self.replace(pos, Item::Int(value)),
        }
    }

    /// Adds the entries of a run at the end with at most one reallocation.
    #[inline]
    pub fn append_run(&mut self, run: &Run) {
        self.put_raw(self.end(), &run.bytes[..run.len]);
        self.recount(run.count, 0);
    }

    /// Adds several entries at the end with at most one reallocation.
    pub fn append(&mut self, items: &[Item<'_>]) {
        self.put_all(self.end(), items);
    }

    /// Adds several entries before `pos` with at most one reallocation. `pos` is then the position of the first of
    /// them.
    pub fn insert_all(&mut self, pos: Pos, items: &[Item<'_>]) {
        self.put_all(pos.0 as usize, items);
    }

    /// Removes the entry at `pos` and returns the position of the entry that followed, which has the same offset now.
    /// O(bytes behind it).
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_range_at(pos, 1)
    }

    /// Removes up to `n` entries from `pos` on and returns the position of the entry that followed. O(n + bytes
    /// behind).
    pub fn remove_range_at(&mut self, pos: Pos, n: usize) -> Option<Pos> {
        let start = pos.0 as usize;
        let (mut at, mut removed) = (start, 0);
        let end = self.end();
        while removed < n && at < end {
            at = entry::after(self.as_bytes(), at);
            removed += 1;
        }
        // SAFETY: no bytes are new.
        unsafe { self.splice(start, at - start, 0) };
        self.recount(0, removed);
        (start < self.end()).then_some(pos)
    }

    /// Removes up to `n` entries from `index` on; a negative index counts from the end. O(bytes).
    pub fn remove_range(&mut self, index: i64, n: usize) {
        if n == 0 {
            return;
        }
        if let Some(pos) = self.seek(index) {
            self.remove_range_at(pos, n);
        }
    }

    /// Keeps the first `len` entries. O(n).
    pub fn truncate(&mut self, len: usize) {
        if let Some(pos) = i64::try_from(len).ok().and_then(|index| self.seek(index)) {
            self.cut(pos, len);
        }
    }

    /// Moves the entries from `index` on into a new listpack. O(bytes).
    pub fn split_off(&mut self, index: usize) -> Listpack {
        let Some(pos) = i64::try_from(index).ok().and_then(|index| self.seek(index)) else {
            return Listpack::new();
        };
        let count = self.header_count();
        let mut tail = Listpack::new();
        let moved = match count {
            UNKNOWN => self.count_from(pos.0 as usize),
            count => usize::from(count) - index,
        };
        tail.put_raw(HEADER, &self.as_bytes()[pos.0 as usize..self.end()]);
        tail.set_header_count(clamp_count(moved));
        self.cut(pos, index);
        tail
    }

    /// Adds the entries of `other` at the end. O(bytes of `other`).
    pub fn extend_back(&mut self, other: &Listpack) {
        self.put_raw(self.end(), &other.as_bytes()[HEADER..other.end()]);
        self.recount_merged(other);
    }

    /// Adds the entries of `other` before the first. O(bytes).
    pub fn extend_front(&mut self, other: &Listpack) {
        self.put_raw(HEADER, &other.as_bytes()[HEADER..other.end()]);
        self.recount_merged(other);
    }

    /// The entries of `first`, then those of `second`. Copies the smaller listpack into the larger.
    pub fn merge(mut first: Listpack, mut second: Listpack) -> Listpack {
        if first.bytes() >= second.bytes() {
            first.extend_back(&second);
            first
        } else {
            second.extend_front(&first);
            second
        }
    }

    /// Ends the listpack before `pos`, whose index is `len`.
    fn cut(&mut self, pos: Pos, len: usize) {
        let at = pos.0 as usize;
        // SAFETY: no bytes are new.
        unsafe { self.splice(at, self.end() - at, 0) };
        self.set_header_count(clamp_count(len));
    }

    /// Updates the count after the entries of `other` were added.
    fn recount_merged(&mut self, other: &Listpack) {
        match other.header_count() {
            UNKNOWN => self.set_header_count(UNKNOWN),
            count => self.recount(usize::from(count), 0),
        }
    }

    /// Replaces the `old` bytes at `at` by one entry.
    #[inline]
    fn put(&mut self, at: usize, old: usize, encoded: Encoded<'_>) {
        // SAFETY: `splice` makes room for this entry, which is written at once. The text is borrowed from
        // elsewhere: `&mut self` excludes a text inside this block.
        unsafe { encoded.write(self.splice(at, old, encoded.entry_size())) };
    }

    /// Inserts bytes that are whole entries at `at`.
    fn put_raw(&mut self, at: usize, entries: &[u8]) {
        // SAFETY: `splice` makes room for these bytes, which lie in another block and are written at once.
        unsafe {
            self.splice(at, 0, entries.len()).copy_from_nonoverlapping(entries.as_ptr(), entries.len())
        };
    }

    fn put_all(&mut self, at: usize, items: &[Item<'_>]) {
        let size = items.iter().map(|&item| Encoded::new(item).entry_size()).sum();
        // SAFETY: the loop writes the `size` bytes.
        let mut window = unsafe { self.splice(at, 0, size) };
        for &item in items {
            let encoded = Encoded::new(item);
            // SAFETY: the entries together take the `size` bytes that `splice` made room for.
            unsafe {
                encoded.write(window);
                window = window.add(encoded.entry_size());
            }
        }
        self.recount(items.len(), 0);
    }
}

/// A few short entries, encoded one after the other before they are added to a listpack with
/// [`Listpack::append_run`]: each is looked at once, and nothing is allocated.
pub struct Run {
    bytes: [u8; Run::ROOM],
    len: usize,
    count: usize,
}

impl Run {
    const ROOM: usize = 512;

    /// Whether `items` texts of `bytes` bytes in total and `ints` integers fit, whatever they are.
    #[inline]
    pub fn fits(items: usize, bytes: usize, ints: usize) -> bool {
        // A text shorter than the room has a head of one or two bytes and as many of `backlen`.
        items < Self::ROOM && bytes < Self::ROOM && 4 * items + bytes + 10 * ints <= Self::ROOM
    }

    /// A run without entries.
    #[inline]
    pub fn new() -> Run {
        Run { bytes: [0; Self::ROOM], len: 0, count: 0 }
    }

    /// Adds an integer.
    ///
    /// # Panics
    /// If there is no room for it.
    #[inline]
    pub fn push_int(&mut self, value: i64) {
        match value {
            0..=0x7F => self.put(&[value as u8, 1]),
            _ => self.push_encoded(Encoded::new(Item::Int(value))),
        }
    }

    /// Adds a text, which is stored as an integer if it is the canonical decimal of one.
    ///
    /// # Panics
    /// If there is no room for it.
    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        match num::parse_i64(text) {
            Some(value) => self.push_int(value),
            None => self.push_encoded(Encoded::text(text)),
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self.count += 1;
    }

    #[inline(always)]
    fn push_encoded(&mut self, encoded: Encoded<'_>) {
        let size = encoded.entry_size();
        let window = &mut self.bytes[self.len..self.len + size];
        // SAFETY: the window has room for the entry, whose text lies elsewhere: `self` is borrowed for changes.
        unsafe { encoded.write(window.as_mut_ptr()) };
        self.len += size;
        self.count += 1;
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a listpack from front to back into a vector, for structures that store their entries in another form.
pub struct Writer {
    bytes: Vec<u8>,
    count: usize,
}

impl Writer {
    /// A writer with space for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        let mut out = Vec::with_capacity(bytes.max(EMPTY));
        out.extend_from_slice(&[0; HEADER]);
        Writer { bytes: out, count: 0 }
    }

    /// Adds an entry at the end.
    #[inline]
    pub fn push<'a>(&mut self, item: impl Into<Item<'a>>) {
        let encoded = Encoded::new(item.into());
        let (len, size) = (self.bytes.len(), encoded.entry_size());
        self.bytes.reserve(size);
        // SAFETY: there is room for `size` bytes behind the first `len`, and all of them are written.
        unsafe {
            encoded.write(self.bytes.as_mut_ptr().add(len));
            self.bytes.set_len(len + size);
        }
        self.count += 1;
    }

    /// Adds an entry at the end whose encoding and data exist in another block.
    #[inline]
    pub fn push_encoded(&mut self, encoded: &[u8]) {
        let (size, width) = (encoded.len(), entry::backlen_size(encoded.len()));
        self.bytes.reserve(size + width);
        self.bytes.extend_from_slice(encoded);
        // SAFETY: there is room for the `width` bytes of the backlen, which are written.
        unsafe {
            entry::write_backlen(self.bytes.as_mut_ptr().add(self.bytes.len()), size);
            self.bytes.set_len(self.bytes.len() + width);
        }
        self.count += 1;
    }

    /// The bytes of the listpack.
    ///
    /// # Panics
    /// If they are 4 GB or more.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        bytes.push(END);
        let total = u32::try_from(bytes.len()).expect("a listpack is smaller than 4 GB");
        bytes[..COUNT].copy_from_slice(&total.to_le_bytes());
        bytes[COUNT..HEADER].copy_from_slice(&clamp_count(self.count).to_le_bytes());
        bytes
    }
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Listpack {
    /// Whether both have the same values in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes()[HEADER..] == other.as_bytes()[HEADER..]
    }
}

impl Eq for Listpack {}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterator over positions and values of a [`Listpack`], from both ends.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    blob: &'a [u8],
    /// Offset of the next entry from the front.
    front: usize,
    /// Offset of the end of the next entry from the back.
    back: usize,
}

impl<'a> Entries<'a> {
    /// The entries from `pos` on, up to the same end.
    #[inline]
    pub fn starting_at(self, pos: Pos) -> Entries<'a> {
        Entries { front: pos.0 as usize, ..self }
    }

    /// The entries before `pos`, from the same start.
    #[inline]
    pub fn ending_at(self, pos: Pos) -> Entries<'a> {
        Entries { back: pos.0 as usize, ..self }
    }

    /// The position of the next entry from the front, if there is one.
    #[inline]
    pub fn pos(&self) -> Pos {
        Pos(self.front as u32)
    }

    /// The next entry, which is an integer; `None` at the end or if it is a text.
    #[inline(always)]
    pub fn next_int(&mut self) -> Option<i64> {
        if self.front < self.back
            && let Some(&value @ 0..=0x7F) = self.blob.get(self.front)
        {
            self.front += 2;
            return Some(i64::from(value));
        }
        match self.next() {
            Some((_, Item::Int(value))) => Some(value),
            _ => None,
        }
    }

    /// As `next`, inlined where the entry is short, as most are.
    #[inline(always)]
    fn step(&mut self) -> Option<(Pos, Item<'a>)> {
        let at = self.front;
        if at < self.back
            && let Some((&head, rest)) = self.blob.get(at..).and_then(<[u8]>::split_first)
        {
            if let 0..=0x7F = head {
                self.front = at + 2;
                return Some((Pos(at as u32), Item::Int(i64::from(head))));
            }
            // Two bits and a length.
            if let 0x80..=0xBF = head
                && let Some(text) = rest.get(..usize::from(head & 0x3F))
            {
                self.front = at + 2 + text.len();
                return Some((Pos(at as u32), Item::Str(text)));
            }
        }
        self.next()
    }

    /// Passes over `n` entries; whether there were as many.
    #[inline]
    pub fn skip_entries(&mut self, n: usize) -> bool {
        for _ in 0..n {
            if self.front >= self.back {
                return false;
            }
            self.front = entry::after(self.blob, self.front);
        }
        true
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Pos, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let at = self.front;
        let Some((item, size)) = entry::decode(self.blob, at) else { corrupt_position() };
        self.front = at + size + entry::backlen_size(size);
        Some((Pos(at as u32), item))
    }

    /// Skips `n` entries without decoding them.
    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        for _ in 0..n {
            if self.front >= self.back {
                return None;
            }
            self.front = entry::after(self.blob, self.front);
        }
        self.next()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        while let Some(entry) = self.step() {
            folded = f(folded, entry);
        }
        folded
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        // No entry is shorter than two bytes.
        let most = self.back.saturating_sub(self.front) / 2;
        (usize::from(most > 0), Some(most))
    }

    fn count(mut self) -> usize {
        let mut n = 0;
        while self.front < self.back {
            self.front = entry::after(self.blob, self.front);
            n += 1;
        }
        n
    }
}

impl DoubleEndedIterator for Entries<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.nth_back(0)
    }

    #[inline]
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        for _ in 0..=n {
            if self.front >= self.back {
                return None;
            }
            self.back = entry::before(self.blob, self.back, self.front);
        }
        Some((Pos(self.back as u32), entry::value(self.blob, self.back)))
    }
}

impl FusedIterator for Entries<'_> {}

/// Iterator over the values of a [`Listpack`], from both ends.
#[derive(Clone, Copy)]
pub struct Iter<'a>(Entries<'a>);

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.0.next().map(|(_, item)| item)
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Item<'a>> {
        self.0.nth(n).map(|(_, item)| item)
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        self.0.fold(init, |folded, (_, item)| f(folded, item))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn count(self) -> usize {
        self.0.count()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(_, item)| item)
    }

    #[inline]
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        self.0.nth_back(n).map(|(_, item)| item)
    }
}

impl FusedIterator for Iter<'_> {}

/// Iterator over the values of a [`Listpack`] in pairs, from both ends.
#[derive(Clone, Copy)]
pub struct Pairs<'a>(Entries<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (_, first) = self.0.next()?;
        let (_, second) = self.0.next()?;
        Some((first, second))
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        if n > 0 {
            self.0.nth(n.checked_mul(2)? - 1)?;
        }
        self.next()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        while let Some((_, first)) = self.0.step()
            && let Some((_, second)) = self.0.step()
        {
            folded = f(folded, (first, second));
        }
        folded
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.0.size_hint();
        (least / 2, most.map(|most| most / 2))
    }
}

impl DoubleEndedIterator for Pairs<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let (_, second) = self.0.next_back()?;
        let (_, first) = self.0.next_back()?;
        Some((first, second))
    }
}

impl FusedIterator for Pairs<'_> {}
