//! One node of a stream: a run of entries in a listpack, byte for byte as in Redis's files.
//!
//! ```text
//! master entry:  live │ deleted │ n │ field 1 … field n │ 0
//! entry:         flags │ ms − master's │ seq − master's │ value 1 … value n │ items before this one
//! or:            flags │ ms − master's │ seq − master's │ m │ field 1 │ value 1 … value m │ items before this one
//! ```
//!
//! The master entry has the fields of the first entry of the node; entries with the same fields do not repeat them. A
//! deleted entry stays in place, marked by a flag, until its node is removed. The last item of an entry is the number
//! of its other items, so that a node can also be read backwards.
//!
//! What always holds: the listpack has this form, and both counts of the master entry are true; ids of live entries
//! ascend and are not below the master id. [`Node::load`] refuses all other bytes, and all other code relies on that.

use super::id::StreamId;
use super::sorted::Keyed;
use crate::stdx::alloc::relocation::Relocator;
use crate::structures::listpack::{EMPTY, Entries, Item, Iter, Listpack, Pos, Run};

/// Flag of a deleted entry.
const DELETED: i64 = 1;
/// Flag of an entry with the master entry's fields.
const SAME_FIELDS: i64 = 2;
/// Limit for a node in bytes: an entry that would exceed it gets a new node.
pub(super) const MAX_NODE_BYTES: usize = 1 << 30;
/// Panic message for an item that is not as the form of a node requires.
const FORM: &str = "the node has its form";

/// Limits on the size of a node; zero is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLimits {
    /// Largest size in bytes.
    pub max_bytes: usize,
    /// Largest number of entries, including deleted ones.
    pub max_entries: u64,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits { max_bytes: 4096, max_entries: 100 }
    }
}

/// Why bytes are not a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NodeError {
    #[error("no valid listpack")]
    Listpack,
    #[error("not the form of a stream node")]
    Form,
    #[error("ids do not ascend")]
    Order,
}

/// A node: a run of entries.
#[derive(Clone)]
pub(super) struct Node {
    /// Master id: the id of the node's first entry, to which the other ids are relative.
    master: StreamId,
    entries: Listpack,
    marks: Marks,
}

/// Positions of some entries, evenly spaced. A search starts at the last mark that is not beyond the id searched for.
/// Takes two bytes per sixteen entries in a node of a hundred.
///
/// What always holds: positions ascend; the first is that of the first entry; the entries at the others were live when
/// they were marked, so their ids ascend, too. Entries beyond the first 64 KB have no marks.
#[derive(Clone, Copy, Default)]
struct Marks {
    at: [u16; Marks::MOST],
    len: u8,
    /// Binary logarithm of the factor by which the distance between two marks, in entries, exceeds
    /// [`SPACING`](Marks::SPACING).
    thinned: u8,
}

const _: () = assert!(size_of::<Marks>() == 16);

impl Marks {
    const MOST: usize = 7;
    /// Initial number of entries between two marks.
    const SPACING: u64 = 16;

    /// The marks in order.
    #[inline]
    fn iter(&self) -> impl DoubleEndedIterator<Item = Pos> + ExactSizeIterator {
        self.at[..usize::from(self.len)].iter().map(|&at| Pos::from_offset(at.into()))
    }

    /// The mark with this number.
    #[inline]
    fn get(&self, number: usize) -> Option<Pos> {
        self.at[..usize::from(self.len)].get(number).map(|&at| Pos::from_offset(at.into()))
    }

    /// Marks the entry at `pos`, which has `before` entries before it, if a mark is due.
    #[inline]
    fn note(&mut self, before: u64, pos: Pos) {
        let spacing = Self::SPACING << self.thinned.min(48);
        if before.is_multiple_of(spacing) {
            self.mark(before, pos);
        }
    }

    #[inline(never)]
    fn mark(&mut self, before: u64, pos: Pos) {
        let Ok(at) = u16::try_from(pos.offset()) else { return };
        let mut len = usize::from(self.len);
        if (before == 0) != (len == 0) {
            return;
        }
        if len == Self::MOST {
            (1..=Self::MOST / 2).for_each(|i| self.at[i] = self.at[2 * i]);
            len = Self::MOST.div_ceil(2);
            self.thinned += 1;
            if !before.is_multiple_of(Self::SPACING << self.thinned.min(48)) {
                self.len = len as u8;
                return;
            }
        }
        self.at[len] = at;
        self.len = len as u8 + 1;
    }

    /// Adjusts the marks when the size of what precedes the entries changes from `old` to `new` bytes.
    #[cold]
    fn shift(&mut self, old: usize, new: usize) {
        for i in 0..usize::from(self.len) {
            match u16::try_from(usize::from(self.at[i]) + new - old) {
                Ok(at) => self.at[i] = at,
                Err(_) => return self.len = i as u8,
            }
        }
    }
}

impl Keyed for Node {
    #[inline]
    fn id(&self) -> StreamId {
        self.master
    }
}

/// An entry of a stream, borrowed from it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Id of the entry.
    pub id: StreamId,
    same_fields: Option<Entries<'a>>,
    items: Entries<'a>,
    pairs: usize,
}

/// The fields and values of an entry, in the order in which they were given.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    same_fields: Option<Entries<'a>>,
    items: Entries<'a>,
    left: usize,
}

impl<'a> Entry<'a> {
    /// Number of field-value pairs. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// Whether there are no pairs. No command adds such an entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// The fields and values.
    #[inline]
    pub fn fields(&self) -> Fields<'a> {
        Fields { same_fields: self.same_fields, items: self.items, left: self.pairs }
    }
}

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.id)?;
        f.debug_list().entries(self.fields()).finish()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field = match &mut self.same_fields {
            Some(fields) => fields.next(),
            None => self.items.next(),
        };
        Some((field.expect(FORM).1, self.items.next().expect(FORM).1))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Iterator over the live entries of a node, from both ends.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    node: &'a Node,
    fields: Entries<'a>,
    num_fields: usize,
    left: Entries<'a>,
    /// Number of items at the front of `left` that belong to the entry read last.
    unread: usize,
}

/// An entry with its position and flags.
struct Found<'a> {
    at: Pos,
    flags: i64,
    entry: Entry<'a>,
}

#[inline]
fn int(item: Item<'_>) -> i64 {
    match item {
        Item::Int(value) => value,
        Item::Str(_) => panic!("{FORM}"),
    }
}

impl<'a> Walk<'a> {
    /// Reads the entry at the start of `entries` and leaves `entries` at the entry's fields and values.
    #[inline(always)]
    fn read(&self, entries: &mut Entries<'a>) -> Option<Found<'a>> {
        let at = entries.pos();
        let flags = entries.next_int()?;
        let ms = entries.next_int().expect(FORM);
        let seq = entries.next_int().expect(FORM);
        let id = self.node.absolute(ms, seq);
        let (pairs, same_fields) = if flags & SAME_FIELDS != 0 {
            (self.num_fields, Some(self.fields))
        } else {
            (entries.next_int().expect(FORM) as usize, None)
        };
        Some(Found { at, flags, entry: Entry { id, same_fields, items: *entries, pairs } })
    }

    /// Number of items of `pairs` fields and values.
    #[inline]
    fn items_of(pairs: usize, same_fields: bool) -> usize {
        if same_fields { pairs } else { 2 * pairs }
    }

    /// Skips the remaining items of the entry read last.
    #[inline(always)]
    fn pass(&mut self) {
        assert!(self.left.skip_entries(self.unread), "{FORM}");
        self.unread = 0;
    }

    /// The next entry, deleted ones included.
    #[inline(always)]
    fn next_any(&mut self) -> Option<Found<'a>> {
        self.pass();
        let mut left = self.left;
        let found = self.read(&mut left)?;
        self.left = left;
        // The fields and values are followed by the count of items.
        self.unread = Self::items_of(found.entry.pairs, found.entry.same_fields.is_some()) + 1;
        Some(found)
    }

    /// The last entry, deleted ones included.
    #[inline]
    fn last_any(&mut self) -> Option<Found<'a>> {
        self.pass();
        let (_, count) = self.left.next_back()?;
        let (at, _) = self.left.nth_back(int(count) as usize - 1).expect(FORM);
        self.read(&mut self.node.entries.entries_from(at))
    }

    /// The next live entry.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let found = self.next_any()?;
            if found.flags & DELETED == 0 {
                return Some(found.entry);
            }
        }
    }

    /// Records how many items of the entry read last `fields` has consumed.
    #[inline]
    pub(super) fn taken(&mut self, fields: &Fields<'a>) {
        self.left = self.left.starting_at(fields.items.pos());
        self.unread = Self::items_of(fields.left, fields.same_fields.is_some()) + 1;
    }

    /// The last live entry.
    #[inline]
    pub(super) fn next_back(&mut self) -> Option<Entry<'a>> {
        loop {
            let found = self.last_any()?;
            if found.flags & DELETED == 0 {
                return Some(found.entry);
            }
        }
    }

    /// The id of the entry at `pos`.
    #[inline]
    fn id_at(&self, pos: Pos) -> StreamId {
        let mut entries = self.left.starting_at(pos);
        let mut next = || entries.next_int().expect(FORM);
        let (_, ms, seq) = (next(), next(), next());
        self.node.absolute(ms, seq)
    }
}

impl Node {
    /// Moves the entries if their place is sparse.
    pub(super) fn relocate(&mut self, by: &mut Relocator) {
        self.entries.relocate(by);
    }

    /// A node with one entry, whose fields become those of the master entry.
    pub(super) fn new<'f>(id: StreamId, items: impl Iterator<Item = &'f [u8]> + Clone) -> Node {
        let fields = items.clone().step_by(2);
        let mut node = Node { master: id, entries: Listpack::new(), marks: Marks::default() };
        let mut batch = Batch::new(&mut node.entries);
        batch.push(Item::Int(0));
        batch.push(Item::Int(0));
        batch.push(Item::Int(fields.clone().count() as i64));
        fields.for_each(|field| batch.push(Item::Str(field)));
        batch.push(Item::Int(0));
        batch.flush();
        node.push(id, items);
        node
    }

    /// Takes over bytes from outside. O(n).
    ///
    /// # Errors
    /// The bytes do not have the form of a node, a count is wrong, or ids do not ascend.
    pub(super) fn load(master: StreamId, bytes: &[u8]) -> Result<Node, NodeError> {
        let entries = Listpack::from_bytes_checked(bytes).map_err(|_| NodeError::Listpack)?;
        let mut node = Node { master, entries, marks: Marks::default() };
        node.validate()?;
        node.marks = node.find_marks();
        Ok(node)
    }

    /// Computes the marks of all entries. The first entry is marked even if it is deleted.
    fn find_marks(&self) -> Marks {
        let (mut marks, mut before) = (Marks::default(), 0);
        let mut walk = self.walk();
        while let Some(found) = walk.next_any() {
            if before == 0 || found.flags & DELETED == 0 {
                marks.note(before, found.at);
            }
            before += 1;
        }
        marks
    }

    /// Checks all invariants of the listpack.
    fn validate(&self) -> Result<(), NodeError> {
        fn int(items: &mut Iter<'_>) -> Result<i64, NodeError> {
            match items.next() {
                Some(Item::Int(value)) => Ok(value),
                _ => Err(NodeError::Form),
            }
        }
        fn skip(items: &mut Iter<'_>, n: usize) -> Result<(), NodeError> {
            if n > 0 { items.nth(n - 1).map(|_| ()).ok_or(NodeError::Form) } else { Ok(()) }
        }
        // Each item takes at least two bytes, so larger counts are wrong, and sums of accepted counts cannot overflow.
        let most = self.entries.bytes() as i64;
        let count = |n: i64| if (0..=most).contains(&n) { Ok(n as usize) } else { Err(NodeError::Form) };
        let mut items = self.entries.iter();
        let (live, deleted) = (count(int(&mut items)?)?, count(int(&mut items)?)?);
        let num_fields = count(int(&mut items)?)?;
        skip(&mut items, num_fields)?;
        if int(&mut items)? != 0 {
            return Err(NodeError::Form);
        }
        let (mut found_live, mut found_deleted, mut previous) = (0, 0, None);
        while let Some(flags) = items.next() {
            let Item::Int(flags @ 0..=3) = flags else {
                return Err(NodeError::Form);
            };
            let id = self.absolute(int(&mut items)?, int(&mut items)?);
            let before = if flags & SAME_FIELDS != 0 {
                skip(&mut items, num_fields)?;
                num_fields + 3
            } else {
                let pairs = count(int(&mut items)?)?;
                skip(&mut items, 2 * pairs)?;
                2 * pairs + 4
            };
            if int(&mut items)? != before as i64 {
                return Err(NodeError::Form);
            }
            if flags & DELETED != 0 {
                found_deleted += 1;
                continue;
            }
            found_live += 1;
            if id < self.master || previous >= Some(id) || id.is_zero() {
                return Err(NodeError::Order);
            }
            previous = Some(id);
        }
        if (live, deleted) == (found_live, found_deleted) { Ok(()) } else { Err(NodeError::Form) }
    }

    /// Panics if an invariant is violated. O(n).
    pub(super) fn check(&self) {
        self.entries.check();
        self.validate().expect("a node is valid");
        let mut walk = self.walk();
        let all: Vec<Pos> = std::iter::from_fn(|| walk.next_any()).map(|found| found.at).collect();
        assert!(self.marks.iter().all(|mark| all.contains(&mark)), "marks are positions of entries");
        assert!(self.marks.get(0).is_none_or(|first| all[0] == first), "the first entry is marked first");
        assert!(self.marks.iter().is_sorted_by(|a, b| a < b), "marks ascend");
        let ids = self.marks.iter().skip(1).map(|mark| self.walk().id_at(mark));
        assert!(ids.is_sorted_by(|a, b| a < b), "the ids of marks ascend");
    }

    /// The listpack as stored in files.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.entries.as_bytes()
    }

    /// Bytes allocated.
    #[inline]
    pub(super) fn allocated(&self) -> usize {
        self.entries.allocated()
    }

    /// The id at a distance of `ms` and `seq` from the master id.
    #[inline]
    fn absolute(&self, ms: i64, seq: i64) -> StreamId {
        StreamId { ms: self.master.ms.wrapping_add(ms as u64), seq: self.master.seq.wrapping_add(seq as u64) }
    }

    /// Numbers of live and of deleted entries. O(1).
    #[inline]
    pub(super) fn counts(&self) -> (u64, u64) {
        let mut items = self.entries.entries();
        let mut next = || items.next_int().expect(FORM) as u64;
        (next(), next())
    }

    /// Counts `n` live entries as deleted, or with zero one more live entry.
    #[inline]
    fn recount(&mut self, removed: u64) {
        let (live, deleted) = self.counts();
        let before = self.entries.bytes();
        let at = self.entries.first().expect(FORM);
        if removed == 0 {
            self.entries.replace_int(at, live as i64 + 1);
        } else {
            self.entries.replace_int(at, (live - removed) as i64);
            let at = self.entries.next(at).expect(FORM);
            self.entries.replace_int(at, (deleted + removed) as i64);
        }
        if self.entries.bytes() != before {
            self.marks.shift(before, self.entries.bytes());
        }
    }

    /// Whether another entry with `bytes` bytes of fields and values fits into this node.
    #[inline]
    pub(super) fn takes(&self, bytes: usize, limits: NodeLimits) -> bool {
        let max_bytes = match limits.max_bytes {
            0 => MAX_NODE_BYTES,
            max => max.min(MAX_NODE_BYTES),
        };
        if self.entries.bytes() + bytes >= max_bytes {
            return false;
        }
        let (live, deleted) = self.counts();
        limits.max_entries == 0 || live + deleted < limits.max_entries
    }

    /// Adds an entry at the end. `items` are its fields and values, alternating.
    pub(super) fn push<'f>(&mut self, id: StreamId, items: impl Iterator<Item = &'f [u8]> + Clone) {
        let (mut master, num_fields) = self.walk_fields();
        let mut fields = items.clone().step_by(2);
        let same = (0..num_fields).all(|_| match (master.next(), fields.next()) {
            (Some((_, item)), Some(field)) => item.eq_bytes(field),
            _ => false,
        }) && fields.next().is_none();
        let (live, deleted) = self.counts();
        self.marks.note(live + deleted, self.entries.end_pos());
        let new = NewEntry {
            ms: id.ms.wrapping_sub(self.master.ms),
            seq: id.seq.wrapping_sub(self.master.seq),
            same,
        };
        let (count, bytes) = items.clone().fold((0, 0), |(n, bytes), item| (n + 1, bytes + item.len()));
        if Run::fits(count, bytes, NewEntry::INTS) {
            let mut run = Run::new();
            new.write(items, count, &mut run);
            self.entries.append_run(&run);
        } else {
            let mut batch = Batch::new(&mut self.entries);
            new.write(items, count, &mut batch);
            batch.flush();
        }
        self.recount(0);
    }

    /// The items from the first field of the master entry on, and the number of fields.
    #[inline]
    fn walk_fields(&self) -> (Entries<'_>, usize) {
        let mut items = self.entries.entries();
        items.skip_entries(2);
        let num_fields = items.next_int().expect(FORM) as usize;
        (items, num_fields)
    }

    /// Iterates over all entries. O(fields of the master entry).
    #[inline]
    pub(super) fn walk(&self) -> Walk<'_> {
        let (fields, num_fields) = self.walk_fields();
        let left = match self.marks.get(0) {
            Some(first) => fields.starting_at(first),
            None => {
                let mut left = fields;
                // The fields are followed by a zero.
                left.skip_entries(num_fields + 1);
                left
            }
        };
        Walk { node: self, fields, num_fields, left, unread: 0 }
    }

    /// Iterates over the entries from this id on, and possibly a few before it. O(log entries).
    #[inline]
    pub(super) fn walk_from(&self, id: StreamId) -> Walk<'_> {
        let mut walk = self.walk();
        let (mut low, mut high) = (0, usize::from(self.marks.len));
        while high - low > 1 {
            let middle = low.midpoint(high);
            match self.marks.get(middle) {
                Some(mark) if walk.id_at(mark) <= id => low = middle,
                _ => high = middle,
            }
        }
        if let Some(mark) = self.marks.get(low) {
            walk.left = walk.left.starting_at(mark);
        }
        walk
    }

    /// Iterates over the entries up to this id, and possibly a few after it. O(log entries).
    #[inline]
    pub(super) fn walk_up_to(&self, id: StreamId) -> Walk<'_> {
        let mut walk = self.walk();
        let beyond = self.marks.iter().skip(1).find(|&mark| walk.id_at(mark) > id);
        if let Some(mark) = beyond {
            walk.left = walk.left.ending_at(mark);
        }
        walk
    }

    /// The id of the first live entry.
    pub(super) fn first_live(&self) -> Option<StreamId> {
        self.walk().next().map(|entry| entry.id)
    }

    /// The id of the last live entry.
    pub(super) fn last_live(&self) -> Option<StreamId> {
        self.walk().next_back().map(|entry| entry.id)
    }

    /// The id of the last entry, even if it is deleted.
    pub(super) fn last_any(&self) -> Option<StreamId> {
        self.walk().last_any().map(|found| found.entry.id)
    }

    /// Deletes the entry with this id; whether it existed. O(entries).
    pub(super) fn delete(&mut self, id: StreamId) -> bool {
        let mut walk = self.walk_from(id);
        while let Some(found) = walk.next_any() {
            if found.flags & DELETED == 0 && found.entry.id >= id {
                if found.entry.id != id {
                    return false;
                }
                let (at, flags) = (found.at, found.flags);
                self.entries.replace_int(at, flags | DELETED);
                self.recount(1);
                return true;
            }
        }
        false
    }

    /// Deletes the entries for which `verdict` returns [`Verdict::Delete`], until it returns [`Verdict::Stop`]. `first`
    /// is the id of the first live entry, or a smaller one. Returns the number of deleted entries.
    pub(super) fn delete_while(
        &mut self,
        first: StreamId,
        mut verdict: impl FnMut(StreamId) -> Verdict,
    ) -> u64 {
        let mut marked = Vec::new();
        let mut walk = self.walk_from(first);
        while let Some(found) = walk.next_any() {
            if found.flags & DELETED != 0 {
                continue;
            }
            match verdict(found.entry.id) {
                Verdict::Delete => marked.push((found.at, found.flags)),
                Verdict::Keep => {}
                Verdict::Stop => break,
            }
        }
        for &(at, flags) in &marked {
            self.entries.replace_int(at, flags | DELETED);
        }
        if !marked.is_empty() {
            self.recount(marked.len() as u64);
        }
        marked.len() as u64
    }
}

/// Decision about an entry during trimming.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Delete,
    Keep,
    Stop,
}

/// Items of an entry before its fields and values.
struct NewEntry {
    ms: u64,
    seq: u64,
    same: bool,
}

/// Destination of the items of an entry.
trait Sink<'f> {
    fn int(&mut self, value: i64);
    fn text(&mut self, text: &'f [u8]);
}

impl Sink<'_> for Run {
    #[inline(always)]
    fn int(&mut self, value: i64) {
        self.push_int(value);
    }

    #[inline(always)]
    fn text(&mut self, text: &[u8]) {
        self.push(text);
    }
}

impl<'f> Sink<'f> for Batch<'_, 'f> {
    #[inline]
    fn int(&mut self, value: i64) {
        self.push(Item::Int(value));
    }

    #[inline]
    fn text(&mut self, text: &'f [u8]) {
        self.push(Item::Str(text));
    }
}

impl NewEntry {
    /// Largest number of integers in an entry besides its fields and values.
    const INTS: usize = 5;

    /// Writes the entry with these `count` fields and values.
    #[inline(always)]
    fn write<'f>(&self, mut items: impl Iterator<Item = &'f [u8]>, count: usize, sink: &mut impl Sink<'f>) {
        let pairs = count as i64 / 2;
        sink.int(if self.same { SAME_FIELDS } else { 0 });
        sink.int(self.ms as i64);
        sink.int(self.seq as i64);
        if self.same {
            while let (Some(_), Some(value)) = (items.next(), items.next()) {
                sink.text(value);
            }
            sink.int(pairs + 3);
        } else {
            sink.int(pairs);
            items.for_each(|item| sink.text(item));
            sink.int(2 * pairs + 4);
        }
    }
}

/// Collects items for a listpack, which then grows once for many items.
struct Batch<'l, 'f> {
    listpack: &'l mut Listpack,
    items: [Item<'f>; 32],
    len: usize,
}

impl<'l, 'f> Batch<'l, 'f> {
    #[inline]
    fn new(listpack: &'l mut Listpack) -> Self {
        Batch { listpack, items: [Item::Int(0); 32], len: 0 }
    }

    #[inline]
    fn push(&mut self, item: Item<'f>) {
        if self.len == self.items.len() {
            self.flush();
        }
        self.items[self.len] = item;
        self.len += 1;
    }

    #[inline]
    fn flush(&mut self) {
        self.listpack.append(&self.items[..self.len]);
        self.len = 0;
    }
}

const _: () = assert!(EMPTY < MAX_NODE_BYTES);
