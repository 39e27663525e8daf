//! Nodes of a quicklist, and the arena in which they are linked.
//!
//! What always holds: the nodes reached from `head` by `next` are those reached from `tail` by `prev`, in reverse;
//! together with the vacant slots they are all slots. The id of a node stays the same until [`Nodes::compact`].

use std::ops::{Index, IndexMut};

use super::Direction;
use crate::stdx::alloc::relocation::Relocator;
use crate::structures::listpack::{Entries, Item, Listpack, Pos};
use crate::structures::lzf;

/// Nodes smaller than this many bytes are not compressed.
const MIN_COMPRESS: usize = 48;
/// Bytes that compression must save to be used.
const MIN_SAVING: usize = 8;

/// The id that stands for no node.
pub(super) const NIL: u32 = u32::MAX;

const _: () = assert!(size_of::<Node>() == 32);

/// Content of a node.
#[derive(Clone)]
pub(super) enum Data {
    /// None: the slot is free.
    Vacant,
    /// Elements in a listpack. `count` is its length; `stiff` says that compressing it was of no use.
    Packed { count: u32, stiff: bool, entries: Listpack },
    /// One element that is too large to share a node.
    Plain { stiff: bool, bytes: Box<[u8]> },
    /// A compressed [`Data::Packed`].
    PackedLzf { count: u32, packed: Lzf },
    /// A compressed [`Data::Plain`].
    PlainLzf { packed: Lzf },
}

/// Compressed bytes: the length of the uncompressed bytes (u32, little-endian), then an LZF stream.
#[derive(Clone)]
pub(super) struct Lzf(Box<[u8]>);

impl Lzf {
    /// Compresses `bytes`; `None` if that is of no use.
    fn new(bytes: &[u8]) -> Option<Self> {
        let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() >= MIN_COMPRESS)?;
        let mut out = Vec::with_capacity(bytes.len());
        out.extend_from_slice(&len.to_le_bytes());
        lzf::compress_into(bytes, bytes.len() - MIN_SAVING, &mut out).then(|| Lzf(out.into_boxed_slice()))
    }

    /// Length of the uncompressed bytes.
    pub(super) fn raw_len(&self) -> usize {
        u32::from_le_bytes(*self.0.first_chunk().expect("starts with a length")) as usize
    }

    /// The LZF stream.
    pub(super) fn stream(&self) -> &[u8] {
        &self.0[4..]
    }
}

impl Data {
    pub(super) fn packed(entries: Listpack) -> Self {
        let count = u32::try_from(entries.len()).expect("an entry takes two bytes of at most 4 GB");
        Data::Packed { count, stiff: false, entries }
    }

    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Data::Plain { stiff: false, bytes: bytes.into_boxed_slice() }
    }

    /// Number of elements.
    #[inline]
    pub(super) fn count(&self) -> usize {
        match self {
            Data::Vacant => 0,
            Data::Packed { count, .. } | Data::PackedLzf { count, .. } => *count as usize,
            Data::Plain { .. } | Data::PlainLzf { .. } => 1,
        }
    }

    /// Uncompressed size of the listpack or the element in bytes.
    pub(super) fn raw_len(&self) -> usize {
        match self {
            Data::Vacant => 0,
            Data::Packed { entries, .. } => entries.bytes(),
            Data::Plain { bytes, .. } => bytes.len(),
            Data::PackedLzf { packed, .. } | Data::PlainLzf { packed } => packed.raw_len(),
        }
    }

    /// Bytes allocated.
    pub(super) fn allocated(&self) -> usize {
        match self {
            Data::Vacant => 0,
            Data::Packed { entries, .. } => entries.allocated(),
            Data::Plain { bytes, .. } => bytes.len(),
            Data::PackedLzf { packed, .. } | Data::PlainLzf { packed } => packed.0.len(),
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self, Data::Packed { .. } | Data::PackedLzf { .. })
    }

    #[inline]
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Data::PackedLzf { .. } | Data::PlainLzf { .. })
    }

    /// The decompressed form, if this is compressed.
    pub(super) fn decompressed(&self) -> Option<Data> {
        const OURS: &str = "made by `Lzf::new`";
        match self {
            Data::PackedLzf { count, packed } => {
                let fill = |out: &mut [u8]| lzf::decompress_into(packed.stream(), out).is_ok();
                let entries = Listpack::from_filled(packed.raw_len(), fill).expect(OURS);
                Some(Data::Packed { count: *count, stiff: false, entries })
            }
            Data::PlainLzf { packed } => {
                Some(Data::plain(lzf::decompress(packed.stream(), packed.raw_len()).expect(OURS)))
            }
            _ => None,
        }
    }

    /// Compresses the content, unless that is of no use.
    pub(super) fn compress(&mut self) {
        match self {
            Data::Packed { count, stiff, entries } if !*stiff => match Lzf::new(entries.as_bytes()) {
                Some(packed) => *self = Data::PackedLzf { count: *count, packed },
                None => *stiff = true,
            },
            Data::Plain { stiff, bytes } if !*stiff => match Lzf::new(bytes) {
                Some(packed) => *self = Data::PlainLzf { packed },
                None => *stiff = true,
            },
            _ => {}
        }
    }

    /// Decompresses the content, if it is compressed.
    #[inline]
    pub(super) fn decompress(&mut self) {
        if self.is_compressed()
            && let Some(data) = self.decompressed()
        {
            *self = data;
        }
    }

    /// The position of the first element in `direction`. For uncompressed data.
    #[inline]
    pub(super) fn first(&self, direction: Direction) -> Option<Pos> {
        match (self, direction) {
            (Data::Packed { entries, .. }, Direction::Forward) => entries.first(),
            (Data::Packed { entries, .. }, Direction::Backward) => entries.last(),
            (Data::Plain { .. }, _) => Some(Pos::FIRST),
            _ => None,
        }
    }

    /// The position after `pos` in `direction`. For uncompressed data.
    #[inline]
    pub(super) fn step(&self, pos: Pos, direction: Direction) -> Option<Pos> {
        match (self, direction) {
            (Data::Packed { entries, .. }, Direction::Forward) => entries.next(pos),
            (Data::Packed { entries, .. }, Direction::Backward) => entries.prev(pos),
            _ => None,
        }
    }

    /// The position of the element with this index. For uncompressed data.
    #[inline]
    pub(super) fn seek(&self, index: usize) -> Option<Pos> {
        match self {
            Data::Packed { entries, .. } => entries.seek(i64::try_from(index).ok()?),
            Data::Plain { .. } if index == 0 => Some(Pos::FIRST),
            _ => None,
        }
    }

    /// The element at `pos`. For uncompressed data.
    #[inline]
    pub(super) fn get(&self, pos: Pos) -> Item<'_> {
        match self {
            Data::Packed { entries, .. } => entries.get(pos),
            Data::Plain { bytes, .. } => Item::Str(bytes),
            _ => unreachable!("elements are read from uncompressed data"),
        }
    }

    /// The elements of a listpack, or the single element of a plain node. For uncompressed data.
    #[inline]
    pub(super) fn elements(&self) -> Result<Entries<'_>, Item<'_>> {
        match self {
            Data::Packed { entries, .. } => Ok(entries.entries()),
            other => Err(other.get(Pos::FIRST)),
        }
    }
}

/// A node: its content and its neighbours.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) data: Data,
}

impl Node {
    /// The neighbour in `direction`.
    #[inline]
    pub(super) fn towards(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Forward => self.next,
            Direction::Backward => self.prev,
        }
    }
}

/// Doubly linked nodes in one vector. Links are indices. Vacant slots are linked by `next`.
#[derive(Clone)]
pub(super) struct Nodes {
    slots: Vec<Node>,
    head: u32,
    tail: u32,
    vacant: u32,
    live: u32,
}

impl Index<u32> for Nodes {
    type Output = Node;

    #[inline]
    fn index(&self, id: u32) -> &Node {
        &self.slots[id as usize]
    }
}

impl IndexMut<u32> for Nodes {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut Node {
        &mut self.slots[id as usize]
    }
}

impl Nodes {
    pub(super) fn new() -> Self {
        Nodes { slots: Vec::new(), head: NIL, tail: NIL, vacant: NIL, live: 0 }
    }

    /// Number of nodes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.live as usize
    }

    /// The first node in `direction`, or [`NIL`].
    #[inline]
    pub(super) fn first(&self, direction: Direction) -> u32 {
        match direction {
            Direction::Forward => self.head,
            Direction::Backward => self.tail,
        }
    }

    /// Bytes of the slots.
    pub(super) fn allocated(&self) -> usize {
        self.slots.capacity() * size_of::<Node>()
    }

    /// The nodes in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Node)> {
        let mut id = self.head;
        std::iter::from_fn(move || {
            let node = self.slots.get(id as usize)?;
            Some((std::mem::replace(&mut id, node.next), node))
        })
    }

    /// Moves the slots together if there are few and their place is sparse.
    pub(super) fn relocate_slots(&mut self, by: &mut Relocator) {
        by.relocate_vec(&mut self.slots);
    }

    /// Moves the content of up to `most` slots from `from` on if its place is sparse. Returns the index of the next
    /// slot, or 0 at the end.
    pub(super) fn relocate(&mut self, from: usize, most: usize, by: &mut Relocator) -> usize {
        let to = from.saturating_add(most).min(self.slots.len());
        for slot in self.slots.get_mut(from..to).unwrap_or_default() {
            match &mut slot.data {
                Data::Vacant => {}
                Data::Packed { entries, .. } => entries.relocate(by),
                Data::Plain { bytes, .. } => by.relocate_bytes(bytes),
                Data::PackedLzf { packed, .. } | Data::PlainLzf { packed } => {
                    by.relocate_bytes(&mut packed.0)
                }
            }
        }
        if to < self.slots.len() { to } else { 0 }
    }

    /// Links a new node before `next`, or at the end if that is [`NIL`]. O(1) amortised.
    pub(super) fn insert_before(&mut self, next: u32, data: Data) -> u32 {
        let prev = if next == NIL { self.tail } else { self[next].prev };
        let node = Node { prev, next, data };
        let id = if self.vacant != NIL {
            let id = self.vacant;
            self.vacant = self[id].next;
            self[id] = node;
            id
        } else {
            if self.slots.len() == self.slots.capacity() {
                // Space for one node first, doubled afterwards: most lists are short.
                self.slots.reserve_exact(self.slots.len().max(1));
            }
            self.slots.push(node);
            u32::try_from(self.slots.len() - 1).ok().filter(|&id| id != NIL).expect("four billion nodes")
        };
        if prev == NIL {
            self.head = id
        } else {
            self[prev].next = id
        }
        if next == NIL {
            self.tail = id
        } else {
            self[next].prev = id
        }
        self.live += 1;
        id
    }

    /// Links a new node after `prev`, or at the start if that is [`NIL`]. O(1) amortised.
    pub(super) fn insert_after(&mut self, prev: u32, data: Data) -> u32 {
        let next = if prev == NIL { self.head } else { self[prev].next };
        self.insert_before(next, data)
    }

    /// Unlinks a node and returns its content. O(1).
    pub(super) fn unlink(&mut self, id: u32) -> Data {
        let vacant = Node { prev: NIL, next: self.vacant, data: Data::Vacant };
        let Node { prev, next, data } = std::mem::replace(&mut self[id], vacant);
        self.vacant = id;
        if prev == NIL {
            self.head = next
        } else {
            self[prev].next = next
        }
        if next == NIL {
            self.tail = prev
        } else {
            self[next].prev = prev
        }
        self.live -= 1;
        data
    }

    /// Frees memory if most slots are vacant. Ids change. O(nodes); O(1) amortised over unlinking.
    #[inline]
    pub(super) fn compact(&mut self) {
        if self.slots.len() >= 16 && self.len() * 4 <= self.slots.len() {
            self.rebuild();
        }
    }

    #[cold]
    fn rebuild(&mut self) {
        let mut dense = Nodes::new();
        dense.slots.reserve_exact(self.len());
        let mut id = self.head;
        while id != NIL {
            let node = &mut self[id];
            id = node.next;
            let data = std::mem::replace(&mut node.data, Data::Vacant);
            dense.insert_before(NIL, data);
        }
        *self = dense;
    }

    /// Panics unless all links agree.
    pub(super) fn check(&self) {
        let (mut prev, mut live) = (NIL, 0);
        for (id, node) in self.iter() {
            assert_eq!(node.prev, prev, "links agree");
            assert!(!matches!(node.data, Data::Vacant), "a linked node holds something");
            prev = id;
            live += 1;
        }
        assert_eq!(self.tail, prev, "the last node is the tail");
        assert_eq!(self.live, live, "nodes are counted");
        let (mut vacant, mut id) = (0, self.vacant);
        while id != NIL {
            assert!(matches!(self[id].data, Data::Vacant), "vacant slots hold nothing");
            vacant += 1;
            id = self[id].next;
        }
        assert_eq!((live + vacant) as usize, self.slots.len(), "no slot is lost");
    }
}
