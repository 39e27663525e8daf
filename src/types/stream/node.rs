//! One node of a stream: a run of entries in a listpack, byte for byte as in Redis's files.
//!
//! ```text
//! master entry:  live │ deleted │ n │ field 1 … field n │ 0
//! entry:         flags │ ms − master's │ seq − master's │ value 1 … value n │ items before this one
//! or:            flags │ ms − master's │ seq − master's │ m │ field 1 │ value 1 … value m │ items before this one
//! ```
//!
//! The master entry has the fields of the entry that opened the node; entries with the same fields do not repeat them.
//! A deleted entry stays where it is, marked by a flag, until its node goes. The last item of an entry counts the
//! others, so that a node is read backwards, too.
//!
//! What always holds: the listpack has this form, and both counts of the master entry are true; ids of live entries
//! ascend and are not below the master's. [`Node::load`] refuses bytes of which this cannot be said, so that
//! everything else may rely on it.

use super::id::StreamId;
use super::sorted::Keyed;
use crate::structures::listpack::{EMPTY, Entries, Item, Iter, Listpack, Pos};

/// Flag of a deleted entry.
const DELETED: i64 = 1;
/// Flag of an entry with the master entry's fields.
const SAME_FIELDS: i64 = 2;
/// The listpack of a node never becomes larger by an entry that could have a node of its own.
pub(super) const MAX_NODE_BYTES: usize = 1 << 30;
/// What a position promises.
const FORM: &str = "the node has its form";

/// How large nodes may become. Zero stands for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLimits {
    /// Bytes of a node.
    pub max_bytes: usize,
    /// Entries of a node, deleted ones included.
    pub max_entries: u64,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits { max_bytes: 4096, max_entries: 100 }
    }
}

/// Why bytes are no node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NodeError {
    #[error("no valid listpack")]
    Listpack,
    #[error("not the form of a stream node")]
    Form,
    #[error("ids do not ascend")]
    Order,
}

/// A run of entries.
#[derive(Clone)]
pub(super) struct Node {
    /// The id of the entry that opened the node: the others are relative to it.
    master: StreamId,
    entries: Listpack,
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
    /// Its id.
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

    /// Whether there is none: no command adds such an entry.
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

/// Walks over the live entries of a node, from both ends.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    node: &'a Node,
    fields: Entries<'a>,
    num_fields: usize,
    left: Entries<'a>,
}

/// An entry, its place, and its flags.
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
    /// Reads the entry that starts the items of `entries`, which then start behind its fields and values.
    #[inline(always)]
    fn read(&self, entries: &mut Entries<'a>) -> Option<Found<'a>> {
        let (at, flags) = entries.next()?;
        let flags = int(flags);
        let (_, ms) = entries.next().expect(FORM);
        let (_, seq) = entries.next().expect(FORM);
        let id = self.node.absolute(int(ms), int(seq));
        let (pairs, same_fields) = if flags & SAME_FIELDS != 0 {
            (self.num_fields, Some(self.fields))
        } else {
            (int(entries.next().expect(FORM).1) as usize, None)
        };
        Some(Found { at, flags, entry: Entry { id, same_fields, items: *entries, pairs } })
    }

    /// Number of items of an entry's fields and values.
    #[inline]
    fn items_of(entry: &Entry<'_>) -> usize {
        if entry.same_fields.is_some() { entry.pairs } else { 2 * entry.pairs }
    }

    /// The next entry, deleted ones included.
    #[inline(always)]
    fn next_any(&mut self) -> Option<Found<'a>> {
        let mut left = self.left;
        let found = self.read(&mut left)?;
        left.nth(Self::items_of(&found.entry)).expect(FORM);
        self.left = left;
        Some(found)
    }

    /// The last entry, deleted ones included.
    #[inline]
    fn last_any(&mut self) -> Option<Found<'a>> {
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
}

impl Node {
    /// A node with one entry, whose fields become the master entry's.
    pub(super) fn new<'f>(id: StreamId, items: impl Iterator<Item = &'f [u8]> + Clone) -> Node {
        let fields = items.clone().step_by(2);
        let mut node = Node { master: id, entries: Listpack::new() };
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

    /// Takes in bytes from outside. O(n).
    ///
    /// # Errors
    /// Unless they have the form of a node, with true counts and ascending ids.
    pub(super) fn load(master: StreamId, bytes: &[u8]) -> Result<Node, NodeError> {
        let entries = Listpack::from_bytes_checked(bytes).map_err(|_| NodeError::Listpack)?;
        let node = Node { master, entries };
        node.validate()?;
        Ok(node)
    }

    /// Whether everything holds that always holds.
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
        // Each item takes two bytes at least: no count beyond that is true, and no sum of them overflows.
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

    /// Panics unless everything holds that always holds. O(n).
    pub(super) fn check(&self) {
        self.entries.check();
        self.validate().expect("a node is valid");
    }

    /// The listpack, as it goes into files.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.entries.as_bytes()
    }

    /// Bytes allocated.
    #[inline]
    pub(super) fn allocated(&self) -> usize {
        self.entries.allocated()
    }

    /// The id that is `ms` and `seq` away from the master's.
    #[inline]
    fn absolute(&self, ms: i64, seq: i64) -> StreamId {
        StreamId { ms: self.master.ms.wrapping_add(ms as u64), seq: self.master.seq.wrapping_add(seq as u64) }
    }

    /// Numbers of live and of deleted entries. O(1).
    #[inline]
    pub(super) fn counts(&self) -> (u64, u64) {
        let mut items = self.entries.iter();
        let mut next = || int(items.next().expect(FORM)) as u64;
        (next(), next())
    }

    /// Moves `n` entries from the live to the deleted ones, or with zero adds a live one.
    fn recount(&mut self, removed: u64) {
        let (live, deleted) = self.counts();
        let at = self.entries.first().expect(FORM);
        if removed == 0 {
            self.entries.replace(at, Item::Int(live as i64 + 1));
        } else {
            self.entries.replace(at, Item::Int((live - removed) as i64));
            let at = self.entries.next(at).expect(FORM);
            self.entries.replace(at, Item::Int((deleted + removed) as i64));
        }
    }

    /// Whether an entry of `bytes` bytes of fields and values still belongs into this node.
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

    /// Adds an entry at the end. Fields and values take turns in `items`.
    pub(super) fn push<'f>(&mut self, id: StreamId, items: impl Iterator<Item = &'f [u8]> + Clone) {
        let (mut master, num_fields) = self.walk_fields();
        let mut fields = items.clone().step_by(2);
        let same = (0..num_fields).all(|_| match (master.next(), fields.next()) {
            (Some((_, item)), Some(field)) => item.eq_bytes(field),
            _ => false,
        }) && fields.next().is_none();
        let (ms, seq) = (id.ms.wrapping_sub(self.master.ms), id.seq.wrapping_sub(self.master.seq));
        let mut batch = Batch::new(&mut self.entries);
        batch.push(Item::Int(if same { SAME_FIELDS } else { 0 }));
        batch.push(Item::Int(ms as i64));
        batch.push(Item::Int(seq as i64));
        if same {
            items.skip(1).step_by(2).for_each(|value| batch.push(Item::Str(value)));
            batch.push(Item::Int(num_fields as i64 + 3));
        } else {
            let pairs = items.clone().count() / 2;
            batch.push(Item::Int(pairs as i64));
            items.for_each(|item| batch.push(Item::Str(item)));
            batch.push(Item::Int(2 * pairs as i64 + 4));
        }
        batch.flush();
        self.recount(0);
    }

    /// The items from the first field of the master entry on, and how many of them are fields.
    #[inline]
    fn walk_fields(&self) -> (Entries<'_>, usize) {
        let mut items = self.entries.entries();
        let num_fields = int(items.nth(2).expect(FORM).1) as usize;
        (items, num_fields)
    }

    /// A walk over all entries. O(fields of the master entry).
    #[inline]
    pub(super) fn walk(&self) -> Walk<'_> {
        let (fields, num_fields) = self.walk_fields();
        let mut left = self.entries.entries();
        // Two counts, the number of fields, the fields, and the zero.
        left.nth(num_fields + 3);
        Walk { node: self, fields, num_fields, left }
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

    /// Deletes the entry with this id; says whether it was there. O(entries).
    pub(super) fn delete(&mut self, id: StreamId) -> bool {
        let mut walk = self.walk();
        while let Some(found) = walk.next_any() {
            if found.flags & DELETED == 0 && found.entry.id >= id {
                if found.entry.id != id {
                    return false;
                }
                let (at, flags) = (found.at, found.flags);
                self.entries.replace(at, Item::Int(flags | DELETED));
                self.recount(1);
                return true;
            }
        }
        false
    }

    /// Deletes, from the front on, entries for which `verdict` says so, until it says to stop. Returns how many.
    pub(super) fn delete_while(&mut self, mut verdict: impl FnMut(StreamId) -> Verdict) -> u64 {
        let mut marked = Vec::new();
        let mut walk = self.walk();
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
            self.entries.replace(at, Item::Int(flags | DELETED));
        }
        if !marked.is_empty() {
            self.recount(marked.len() as u64);
        }
        marked.len() as u64
    }
}

/// What becomes of an entry that trimming looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Delete,
    Keep,
    Stop,
}

/// Collects items for a listpack, so that it grows once for many of them.
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
