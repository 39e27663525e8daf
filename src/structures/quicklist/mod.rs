//! Quicklist: a doubly linked list whose nodes each hold many elements in a listpack.
//!
//! ```text
//!  head                                                         tail
//! ┌──────────┐   ┌───────────────┐   ┌──────────┐   ┌──────────┐
//! │ listpack │ ⇄ │ listpack, LZF │ ⇄ │ plain    │ ⇄ │ listpack │
//! └──────────┘   └───────────────┘   └──────────┘   └──────────┘
//! ```
//!
//! The *fill* limits the size of a node: a number of elements, or one of five sizes in bytes. An element too large to
//! share a node has a *plain* node of its own. With a compress depth of `d`, all nodes except the outermost `d` at
//! each end are compressed, if that saves space. They are read through a copy, and decompressed in place only to be
//! edited.
//!
//! What always holds:
//!
//! * No node is empty, and the counts of the nodes add up to `len`.
//! * The outermost `depth` nodes at each end are uncompressed; all others are compressed, or known to be
//!   incompressible, unless a [`CursorMut`] is on them.
//! * Nodes are slots of one vector, linked by index: 32 bytes each, no allocation of their own, and no unsafe code.
//!
//! The idea is Matt Stancliff's (Redis 3.2); plain nodes are Redis 7.0's.

mod cursor;
mod node;
#[cfg(test)]
mod tests;

use crate::stdx::alloc::relocation::Relocator;
use crate::structures::listpack::{Item, Listpack, Pos, encoded_size};
pub use cursor::{CursorMut, Iter};
use node::{Data, NIL, Nodes};

/// Most bytes of a node if the fill is a number of elements.
const COUNTED_NODE_BYTES: usize = 8192;
/// Most bytes of a node for the fills -1 to -5.
const NODE_BYTES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];
/// Bytes of a listpack's header and end mark, which each merge saves.
const LISTPACK_FRAME: usize = 7;

/// Options for arranging elements in nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicklistOptions {
    /// Elements per node if positive (zero means one), with a limit of 8 KB; -1 to -5 for nodes of at
    /// most 4, 8, 16, 32 or 64 KB.
    pub fill: i16,
    /// Nodes at each end that stay uncompressed; zero for all.
    pub depth: u16,
    /// Elements of at least this many bytes have a plain node, whatever the fill.
    pub packed_threshold: u32,
}

impl Default for QuicklistOptions {
    /// 8 KB, no compression.
    fn default() -> Self {
        QuicklistOptions { fill: -2, depth: 0, packed_threshold: 1 << 30 }
    }
}

impl QuicklistOptions {
    /// Most bytes of a node.
    #[inline]
    pub fn max_bytes(self) -> usize {
        match self.fill {
            0.. => COUNTED_NODE_BYTES,
            fill => NODE_BYTES[usize::from(fill.unsigned_abs()).min(NODE_BYTES.len()) - 1],
        }
    }

    /// Most elements of a node.
    #[inline]
    pub fn max_count(self) -> usize {
        usize::try_from(self.fill).map_or(usize::MAX, |fill| fill.max(1))
    }

    /// Whether an element of `len` bytes gets a plain node.
    #[inline]
    fn is_large(self, len: usize) -> bool {
        len >= self.packed_threshold as usize || len > self.max_bytes()
    }

    /// Whether a node of `count` elements in `bytes` bytes is within the limits.
    #[inline]
    fn allows(self, count: usize, bytes: usize) -> bool {
        count <= self.max_count() && bytes <= self.max_bytes()
    }
}

/// Direction of iteration, or the end at which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From head to tail.
    Forward,
    /// From tail to head.
    Backward,
}

impl Direction {
    /// The other direction.
    #[inline]
    pub fn reversed(self) -> Self {
        match self {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        }
    }
}

/// A list of byte strings with cheap operations at both ends.
#[derive(Clone)]
pub struct Quicklist {
    nodes: Nodes,
    len: usize,
    options: QuicklistOptions,
}

/// A node as stored, for writing to an RDB file.
#[derive(Clone, Copy, Debug)]
pub enum NodeRef<'a> {
    /// Elements in a listpack.
    Packed(&'a Listpack),
    /// One large element.
    Plain(&'a [u8]),
    /// A compressed listpack.
    PackedLzf {
        /// Bytes of the listpack.
        raw_len: usize,
        /// The listpack as an LZF stream.
        stream: &'a [u8],
    },
    /// One large element, compressed.
    PlainLzf {
        /// Bytes of the element.
        raw_len: usize,
        /// The element as an LZF stream.
        stream: &'a [u8],
    },
}

/// An element of a list, with the decompressed copy that may be needed to read it.
pub struct Entry<'a> {
    stored: &'a Data,
    /// The decompressed copy of `stored`, if that is compressed.
    copy: Option<Data>,
    pos: Pos,
}

impl Entry<'_> {
    /// The element.
    #[inline]
    pub fn item(&self) -> Item<'_> {
        self.copy.as_ref().unwrap_or(self.stored).get(self.pos)
    }
}

/// The whole list.
impl Quicklist {
    /// An empty list.
    pub fn new(options: QuicklistOptions) -> Self {
        Quicklist { nodes: Nodes::new(), len: 0, options }
    }

    /// A list with `entries` as its only node, whatever its size.
    pub fn from_listpack(entries: Listpack, options: QuicklistOptions) -> Self {
        let mut list = Self::new(options);
        list.append_listpack(entries);
        list
    }

    /// The listpack of the only node, if there is just one and it is not plain.
    pub fn single_listpack(&self) -> Option<&Listpack> {
        match self.nodes() {
            mut nodes if nodes.len() == 1 => match nodes.next() {
                Some(NodeRef::Packed(entries)) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// The listpack of the only node.
    ///
    /// # Errors
    /// The list itself, unless it has exactly one node, which is not plain.
    pub fn into_listpack(mut self) -> Result<Listpack, Self> {
        if self.single_listpack().is_none() {
            return Err(self);
        }
        match self.nodes.unlink(self.nodes.first(Direction::Forward)) {
            Data::Packed { entries, .. } => Ok(entries),
            _ => unreachable!("`single_listpack` said so"),
        }
    }

    /// Number of elements. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of nodes. O(1).
    #[inline]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The current options.
    #[inline]
    pub fn options(&self) -> QuicklistOptions {
        self.options
    }

    /// Sets the options for future changes. Existing nodes are compressed or decompressed if the depth changes, but
    /// neither split nor merged. O(1); O(bytes) if the depth changes.
    pub fn set_options(&mut self, options: QuicklistOptions) {
        let old = std::mem::replace(&mut self.options, options);
        if old.depth == options.depth {
            return;
        }
        let (depth, last) = (usize::from(options.depth), self.nodes.len().saturating_sub(1));
        let mut id = self.nodes.first(Direction::Forward);
        for i in 0..self.nodes.len() {
            let node = &mut self.nodes[id];
            id = node.next;
            if depth > 0 && i >= depth && last - i >= depth {
                node.data.compress();
            } else {
                node.data.decompress();
            }
        }
    }

    /// Bytes allocated, including the list itself. O(nodes).
    pub fn bytes(&self) -> usize {
        let contents: usize = self.nodes.iter().map(|(_, node)| node.data.allocated()).sum();
        size_of::<Self>() + self.nodes.allocated() + contents
    }

    /// Moves blocks of about `most` nodes from `cursor` on if their places are sparse. Returns the next cursor, 0 at
    /// the end.
    pub fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            self.nodes.relocate_slots(by);
        }
        self.nodes.relocate(usize::try_from(cursor).unwrap_or(usize::MAX), most, by) as u64
    }

    /// The nodes from head to tail, as they are stored.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeRef<'_>> {
        let mut id = self.nodes.first(Direction::Forward);
        (0..self.nodes.len()).map(move |_| {
            let node = &self.nodes[id];
            id = node.next;
            match &node.data {
                Data::Packed { entries, .. } => NodeRef::Packed(entries),
                Data::Plain { bytes, .. } => NodeRef::Plain(bytes),
                Data::PackedLzf { packed, .. } => {
                    NodeRef::PackedLzf { raw_len: packed.raw_len(), stream: packed.stream() }
                }
                Data::PlainLzf { packed } => {
                    NodeRef::PlainLzf { raw_len: packed.raw_len(), stream: packed.stream() }
                }
                Data::Vacant => unreachable!("vacant slots are not linked"),
            }
        })
    }

    /// Adds `entries` as a node at the tail, whatever its size. Does nothing if it is empty.
    pub fn append_listpack(&mut self, entries: Listpack) {
        if !entries.is_empty() {
            self.append_node(Data::packed(entries));
        }
    }

    /// Adds a plain node at the tail, however small the element.
    pub fn append_plain(&mut self, element: Vec<u8>) {
        self.append_node(Data::plain(element));
    }

    fn append_node(&mut self, data: Data) {
        self.len += data.count();
        self.nodes.insert_before(NIL, data);
        self.settle();
    }

    /// Panics unless all invariants of this module hold. O(bytes).
    pub fn check(&self) {
        self.nodes.check();
        let (depth, nodes) = (usize::from(self.options.depth), self.nodes.len());
        let mut len = 0;
        for (i, (_, node)) in self.nodes.iter().enumerate() {
            assert!(node.data.count() > 0, "no node is empty");
            len += node.data.count();
            let outer = depth == 0 || i < depth || nodes - 1 - i < depth;
            assert!(!(outer && node.data.is_compressed()), "node {i} of {nodes} is uncompressed");
            let copy = node.data.decompressed();
            if let Data::Packed { count, entries, .. } = copy.as_ref().unwrap_or(&node.data) {
                entries.check();
                assert_eq!(*count as usize, entries.len(), "node {i} of {nodes} counts its elements");
            }
            if !outer && copy.is_none() {
                let mut again = node.data.clone();
                if let Data::Packed { stiff, .. } | Data::Plain { stiff, .. } = &mut again {
                    *stiff = false;
                }
                again.compress();
                assert!(!again.is_compressed(), "node {i} of {nodes} is compressed if it can be");
            }
        }
        assert_eq!(self.len, len, "elements are counted");
    }
}

/// Operations at the ends.
impl Quicklist {
    /// Adds an element after the last. O(1) amortised.
    #[inline]
    pub fn push_back<'a>(&mut self, item: impl Into<Item<'a>>) {
        self.push(item.into(), Direction::Backward);
    }

    /// Adds an element before the first. O(bytes of a node).
    #[inline]
    pub fn push_front<'a>(&mut self, item: impl Into<Item<'a>>) {
        self.push(item.into(), Direction::Forward);
    }

    /// Adds an element at the end where `direction` starts.
    pub fn push(&mut self, item: Item<'_>, direction: Direction) {
        self.len += 1;
        let id = self.nodes.first(direction);
        if id != NIL && self.fits(id, item) {
            self.push_into(id, item, direction);
            return;
        }
        let data = self.data_for(item);
        match direction {
            Direction::Forward => self.nodes.insert_after(NIL, data),
            Direction::Backward => self.nodes.insert_before(NIL, data),
        };
        self.settle();
    }

    /// The first element. O(1).
    #[inline]
    pub fn front(&self) -> Option<Item<'_>> {
        self.peek(Direction::Forward)
    }

    /// The last element. O(1).
    #[inline]
    pub fn back(&self) -> Option<Item<'_>> {
        self.peek(Direction::Backward)
    }

    /// The element at the end where `direction` starts. O(1).
    #[inline]
    pub fn peek(&self, direction: Direction) -> Option<Item<'_>> {
        let id = self.nodes.first(direction);
        if id == NIL {
            return None;
        }
        let data = &self.nodes[id].data;
        data.first(direction).map(|pos| data.get(pos))
    }

    /// Removes the first element after passing it to `f`. O(bytes of a node).
    #[inline]
    pub fn pop_front<R>(&mut self, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.pop(Direction::Forward, f)
    }

    /// Removes the last element after passing it to `f`. O(1).
    #[inline]
    pub fn pop_back<R>(&mut self, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.pop(Direction::Backward, f)
    }

    /// Removes the element at the end where `direction` starts, after passing it to `f`.
    pub fn pop<R>(&mut self, direction: Direction, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let id = self.nodes.first(direction);
        if id == NIL {
            return None;
        }
        let data = &mut self.nodes[id].data;
        let pos = data.first(direction)?;
        let result = f(data.get(pos));
        self.len -= 1;
        match data {
            Data::Packed { count, stiff, entries } if *count > 1 => {
                entries.remove(pos);
                *count -= 1;
                *stiff = false;
            }
            _ => {
                self.nodes.unlink(id);
                self.settle();
                self.nodes.compact();
            }
        }
        Some(result)
    }

    /// Moves the last element to the front. O(bytes of a node).
    pub fn rotate(&mut self) {
        if self.len > 1
            && let Some(element) = self.pop_back(|item| item.to_vec())
        {
            self.push_front(&element);
        }
    }
}

/// Operations at any element.
impl Quicklist {
    /// The element with this index; a negative index counts from the end, -1 being the last. O(nodes) from the nearer
    /// end, plus O(elements of a node).
    pub fn get(&self, index: i64) -> Option<Entry<'_>> {
        let (id, offset) = self.locate(self.absolute(index)?)?;
        let stored = &self.nodes[id].data;
        let copy = stored.decompressed();
        let pos = copy.as_ref().unwrap_or(stored).seek(offset)?;
        Some(Entry { stored, copy, pos })
    }

    /// Replaces the value of the element with this index. Returns false if there is none. O(nodes + bytes of a node).
    pub fn replace<'a>(&mut self, index: i64, item: impl Into<Item<'a>>) -> bool {
        let mut cursor = self.cursor(index, Direction::Forward);
        let found = cursor.next().is_some();
        if found {
            cursor.replace(item);
        }
        found
    }

    /// The elements from `index` on in `direction`; none if there is no element with that index.
    pub fn iter(&self, index: i64, direction: Direction) -> Iter<'_> {
        Iter::new(self, index, direction)
    }

    /// A cursor that iterates from `index` on in `direction` and can edit.
    pub fn cursor(&mut self, index: i64, direction: Direction) -> CursorMut<'_> {
        CursorMut::new(self, index, direction)
    }

    /// Passes the elements from `index` on in `direction` to `f` until that returns false. Faster than
    /// [`iter`](Self::iter), because it cannot be interrupted and continued.
    pub fn visit(&self, index: i64, direction: Direction, mut f: impl FnMut(Item<'_>) -> bool) {
        let Some((mut id, offset)) = self.absolute(index).and_then(|index| self.locate(index)) else {
            return;
        };
        let mut skip = match direction {
            Direction::Forward => offset,
            Direction::Backward => self.nodes[id].data.count() - 1 - offset,
        };
        while id != NIL {
            let node = &self.nodes[id];
            let copy = node.data.decompressed();
            let more = match (copy.as_ref().unwrap_or(&node.data).elements(), direction) {
                (Ok(entries), Direction::Forward) => entries.skip(skip).all(|(_, item)| f(item)),
                (Ok(entries), Direction::Backward) => entries.rev().skip(skip).all(|(_, item)| f(item)),
                (Err(item), _) => f(item),
            };
            if !more {
                return;
            }
            skip = 0;
            id = node.towards(direction);
        }
    }

    /// Removes up to `count` elements from `start` on and returns their number. A negative `start` counts from the
    /// end. O(nodes). Nodes removed as a whole are not read.
    pub fn delete_range(&mut self, start: i64, count: usize) -> usize {
        let Some(start) = self.absolute(start) else { return 0 };
        let Some((mut id, mut offset)) = self.locate(start) else { return 0 };
        let wanted = count.min(self.len - start);
        let mut left = wanted;
        // The last node up to and around the gap in which elements remain.
        let mut before = self.nodes[id].prev;
        while left > 0 {
            let node = &mut self.nodes[id];
            let (next, in_node) = (node.next, node.data.count());
            let gone = left.min(in_node - offset);
            if gone == in_node {
                self.nodes.unlink(id);
            } else {
                node.data.decompress();
                let Data::Packed { count, stiff, entries } = &mut node.data else {
                    unreachable!("a plain node goes as a whole");
                };
                entries.remove_range(i64::try_from(offset).expect("an index"), gone);
                *count -= gone as u32;
                *stiff = false;
                before = id;
            }
            left -= gone;
            offset = 0;
            id = next;
        }
        self.len -= wanted;
        if wanted > 0 {
            let center = if before == NIL { self.nodes.first(Direction::Forward) } else { before };
            self.merge_around(center);
            self.nodes.compact();
        }
        wanted
    }

    /// Converts a signed index into a distance from the head, if there is such an element.
    #[inline]
    fn absolute(&self, index: i64) -> Option<usize> {
        let distance = usize::try_from(index.unsigned_abs()).ok()?;
        let index = if index >= 0 { distance } else { self.len.checked_sub(distance)? };
        (index < self.len).then_some(index)
    }

    /// The node with the element `index`, and the element's index within that node. O(nodes) from the nearer end.
    fn locate(&self, index: usize) -> Option<(u32, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let (mut id, mut left) = (self.nodes.first(Direction::Forward), index);
            loop {
                let node = &self.nodes[id];
                match left.checked_sub(node.data.count()) {
                    Some(rest) => (id, left) = (node.next, rest),
                    None => return Some((id, left)),
                }
            }
        }
        // `behind` elements follow the one searched for.
        let (mut id, mut behind) = (self.nodes.first(Direction::Backward), self.len - 1 - index);
        loop {
            let node = &self.nodes[id];
            let count = node.data.count();
            match behind.checked_sub(count) {
                Some(rest) => (id, behind) = (node.prev, rest),
                None => return Some((id, count - 1 - behind)),
            }
        }
    }
}

/// An upper bound for the size of the entry of `item` in a listpack, without reading its bytes.
#[inline]
fn entry_bound(item: Item<'_>) -> usize {
    match item {
        Item::Int(_) => encoded_size(item),
        Item::Str(text) if text.len() < 64 => text.len() + 2,
        Item::Str(text) => text.len() + 10,
    }
}

/// Nodes: filling, splitting, merging, compressing.
impl Quicklist {
    /// A node for one element.
    fn data_for(&self, item: Item<'_>) -> Data {
        if self.options.is_large(item.len()) {
            return Data::plain(item.to_vec());
        }
        let mut entries = Listpack::new();
        entries.push_back(item);
        Data::Packed { count: 1, stiff: false, entries }
    }

    /// Whether one more element may be added to this node.
    #[inline]
    fn fits(&self, id: u32, item: Item<'_>) -> bool {
        let data = &self.nodes[id].data;
        data.is_packed()
            && self.options.allows(data.count() + 1, data.raw_len() + entry_bound(item))
            && !self.options.is_large(item.len())
    }

    /// Adds an element to a packed node at the end where `direction` starts. Updates only the count of the node.
    #[inline]
    fn push_into(&mut self, id: u32, item: Item<'_>, direction: Direction) {
        let data = &mut self.nodes[id].data;
        data.decompress();
        let Data::Packed { count, stiff, entries } = data else { unreachable!("the node is packed") };
        match direction {
            Direction::Forward => entries.push_front(item),
            Direction::Backward => entries.push_back(item),
        }
        *count += 1;
        *stiff = false;
    }

    /// Adds an element beside the one at `pos` of the uncompressed node `id`, before or after it according to
    /// `direction`. Returns true if it was added to the same node and nothing else changed.
    fn insert_beside(&mut self, id: u32, pos: Pos, item: Item<'_>, direction: Direction) -> bool {
        self.len += 1;
        if self.fits(id, item) {
            let Data::Packed { count, stiff, entries } = &mut self.nodes[id].data else {
                unreachable!("only packed nodes have room");
            };
            match direction {
                Direction::Forward => entries.insert_after(pos, item),
                Direction::Backward => entries.insert_before(pos, item),
            };
            *count += 1;
            *stiff = false;
            return true;
        }
        let at_edge = self.nodes[id].data.step(pos, direction).is_none();
        let neighbour = self.nodes[id].towards(direction);
        if at_edge && neighbour != NIL && self.fits(neighbour, item) {
            self.push_into(neighbour, item, direction);
            self.close(neighbour);
            self.close(id);
            return false;
        }
        let data = self.data_for(item);
        let new = if at_edge {
            match direction {
                Direction::Forward => self.nodes.insert_after(id, data),
                Direction::Backward => self.nodes.insert_before(id, data),
            }
        } else {
            self.split(id, pos, direction);
            self.nodes.insert_after(id, data)
        };
        self.merge_around(new);
        false
    }

    /// Splits an uncompressed packed node after or before `pos`, according to `direction`.
    fn split(&mut self, id: u32, pos: Pos, direction: Direction) {
        let Data::Packed { count, stiff, entries } = &mut self.nodes[id].data else {
            unreachable!("only listpacks have a middle");
        };
        let kept = entries.index_of(pos) + usize::from(direction == Direction::Forward);
        let tail = entries.split_off(kept);
        let tail_count = *count - kept as u32;
        *count = kept as u32;
        *stiff = false;
        self.nodes.insert_after(id, Data::Packed { count: tail_count, stiff: false, entries: tail });
    }

    /// Merges small nodes around `center` (two on each side), then compresses nodes as the depth demands. The caller
    /// may have left these five nodes uncompressed.
    fn merge_around(&mut self, center: u32) {
        if center == NIL {
            self.settle();
            return;
        }
        let (prev, next) = (self.nodes[center].prev, self.nodes[center].next);
        if prev != NIL {
            self.try_merge(self.nodes[prev].prev, prev);
        }
        if next != NIL {
            self.try_merge(next, self.nodes[next].next);
        }
        let mut center = center;
        center = self.try_merge(self.nodes[center].prev, center).unwrap_or(center);
        center = self.try_merge(center, self.nodes[center].next).unwrap_or(center);
        self.settle();
        for direction in [Direction::Forward, Direction::Backward] {
            let mut id = center;
            for _ in 0..3 {
                if id != NIL {
                    self.close(id);
                    id = self.nodes[id].towards(direction);
                }
            }
        }
    }

    /// Merges two neighbouring packed nodes if the fill allows it. Returns the one that remains.
    fn try_merge(&mut self, first: u32, second: u32) -> Option<u32> {
        if first == NIL || second == NIL {
            return None;
        }
        let (a, b) = (&self.nodes[first].data, &self.nodes[second].data);
        let (count, bytes) =
            (a.count() + b.count(), a.raw_len() + b.raw_len() - LISTPACK_FRAME.min(b.raw_len()));
        if !(a.is_packed() && b.is_packed() && self.options.allows(count, bytes)) {
            return None;
        }
        let mut second = self.nodes.unlink(second);
        second.decompress();
        let node = &mut self.nodes[first];
        node.data.decompress();
        let Data::Packed { entries: second, .. } = second else { unreachable!("it is packed") };
        let Data::Packed { entries, .. } = &mut node.data else { unreachable!("it is packed") };
        let merged = Listpack::merge(std::mem::take(entries), second);
        node.data = Data::Packed { count: count as u32, stiff: false, entries: merged };
        Some(first)
    }

    /// Whether `id` lies deeper than the compress depth from both ends. O(depth).
    fn is_inner(&self, id: u32) -> bool {
        if self.options.depth == 0 {
            return false;
        }
        for direction in [Direction::Forward, Direction::Backward] {
            let mut outer = self.nodes.first(direction);
            for _ in 0..self.options.depth {
                if outer == id || outer == NIL {
                    return false;
                }
                outer = self.nodes[outer].towards(direction);
            }
        }
        true
    }

    /// Called after a node was edited: compresses it if it lies deep enough.
    fn close(&mut self, id: u32) {
        if self.is_inner(id) {
            self.nodes[id].data.compress();
        }
    }

    /// Restores the compress depth at both ends after a node was added or removed. O(depth).
    #[inline]
    fn settle(&mut self) {
        if self.options.depth > 0 {
            self.settle_ends();
        }
    }

    fn settle_ends(&mut self) {
        let depth = usize::from(self.options.depth);
        // A split of an outer node pushes at most two nodes at a time inside from each end.
        let inner = self.nodes.len().saturating_sub(2 * depth).min(2);
        for direction in [Direction::Forward, Direction::Backward] {
            let mut id = self.nodes.first(direction);
            for i in 0..depth + inner {
                if id == NIL {
                    break;
                }
                let node = &mut self.nodes[id];
                if i < depth {
                    node.data.decompress();
                } else {
                    node.data.compress();
                }
                id = node.towards(direction);
            }
        }
    }
}
