//! Iteration over a quicklist from any element in either direction, for reading or editing.
//!
//! A compressed node is read through a decompressed copy. At the first edit, [`CursorMut`] puts the copy in the place
//! of the node, which is compressed again when the cursor leaves it.

use super::node::{Data, NIL};
use super::{Direction, Item, Pos, Quicklist, encoded_size};

/// The elements of a list from some index on. Created by [`Quicklist::iter`].
///
/// This is not an [`Iterator`], because an element may lie in a decompressed copy that lives only until the next
/// step.
pub struct Iter<'a> {
    list: &'a Quicklist,
    direction: Direction,
    node: u32,
    /// The decompressed copy of `node`, if that is compressed.
    copy: Option<Data>,
    /// Position of the next element; `None` if that is in the next node.
    upcoming: Option<Pos>,
}

impl<'a> Iter<'a> {
    pub(super) fn new(list: &'a Quicklist, index: i64, direction: Direction) -> Self {
        let mut iter = Iter { list, direction, node: NIL, copy: None, upcoming: None };
        if let Some((node, offset)) = list.absolute(index).and_then(|index| list.locate(index)) {
            iter.enter(node);
            iter.upcoming = iter.data().seek(offset);
        }
        iter
    }

    fn enter(&mut self, node: u32) {
        self.node = node;
        self.copy = self.list.nodes[node].data.decompressed();
    }

    #[inline]
    fn data(&self) -> &Data {
        self.copy.as_ref().unwrap_or(&self.list.nodes[self.node].data)
    }

    /// The next element.
    #[expect(clippy::should_implement_trait, reason = "the item borrows from the iterator")]
    #[inline]
    pub fn next(&mut self) -> Option<Item<'_>> {
        while self.upcoming.is_none() {
            if self.node == NIL {
                return None;
            }
            match self.list.nodes[self.node].towards(self.direction) {
                NIL => {
                    self.node = NIL;
                    return None;
                }
                node => self.enter(node),
            }
            self.upcoming = self.data().first(self.direction);
        }
        let pos = self.upcoming?;
        self.upcoming = self.data().step(pos, self.direction);
        Some(self.data().get(pos))
    }
}

/// Position of a cursor.
#[derive(Clone, Copy)]
enum Place {
    /// On an element of the cursor's node.
    At(Pos),
    /// Before (in the direction of the cursor) an element of the cursor's node.
    Before(Pos),
    /// Before the elements of another node, or at the end with [`NIL`]. The cursor's node is finished or removed.
    Outside(u32),
}

/// Iterates over a list and edits it. Created by [`Quicklist::cursor`].
///
/// [`next`](Self::next) moves to an element; edits apply to *that* element or beside it. After
/// [`remove`](Self::remove) the cursor is between two elements and must move on. Elements inserted in front of the
/// cursor are reached, those inserted behind it are not.
pub struct CursorMut<'a> {
    list: &'a mut Quicklist,
    direction: Direction,
    place: Place,
    /// The cursor's node, or [`NIL`].
    node: u32,
    /// The decompressed copy of `node`, if that is compressed.
    copy: Option<Data>,
    /// Index of the current element; without one, the number of elements before the gap.
    index: usize,
    /// Whether `node` may have to be compressed when the cursor leaves it.
    opened: bool,
    /// Whether an element of `node` was removed.
    shrunk: bool,
}

impl<'a> CursorMut<'a> {
    pub(super) fn new(list: &'a mut Quicklist, index: i64, direction: Direction) -> Self {
        let mut cursor = CursorMut {
            direction,
            place: Place::Outside(NIL),
            node: NIL,
            copy: None,
            index: 0,
            opened: false,
            shrunk: false,
            list,
        };
        if let Some(index) = cursor.list.absolute(index) {
            cursor.jump(index);
            if let Place::At(pos) = cursor.place {
                cursor.place = Place::Before(pos);
                cursor.index += usize::from(direction == Direction::Backward);
            }
        }
        cursor
    }

    /// Moves to the element `index`, wherever the cursor was. The old node is not read.
    fn jump(&mut self, index: usize) {
        (self.opened, self.shrunk) = (false, false);
        let (node, offset) = self.list.locate(index).expect("only existing elements are jumped to");
        self.enter(node);
        let pos = self.data().seek(offset).expect("the node counts its elements");
        (self.place, self.index) = (Place::At(pos), index);
    }

    fn enter(&mut self, node: u32) {
        self.node = node;
        self.copy = self.list.nodes[node].data.decompressed();
    }

    /// Finishes the current node; the cursor is outside then. The next node keeps its id.
    fn leave(&mut self) {
        self.copy = None;
        if std::mem::take(&mut self.shrunk) {
            // Merges only with the node behind, because the next one is still to be iterated over.
            let behind = self.list.nodes[self.node].towards(self.direction.reversed());
            let merged = match self.direction {
                Direction::Forward => self.list.try_merge(behind, self.node),
                Direction::Backward => self.list.try_merge(self.node, behind),
            };
            if let Some(merged) = merged {
                self.node = merged;
                self.list.settle();
            }
        }
        if std::mem::take(&mut self.opened) {
            self.list.close(self.node);
        }
        self.node = NIL;
    }

    #[inline]
    fn data(&self) -> &Data {
        self.copy.as_ref().unwrap_or(&self.list.nodes[self.node].data)
    }

    /// The position of the current element, whose node is uncompressed from here on.
    fn edit(&mut self) -> Pos {
        let Place::At(pos) = self.place else { panic!("the cursor stands on no element") };
        if let Some(copy) = self.copy.take() {
            self.list.nodes[self.node].data = copy;
        }
        self.opened = true;
        pos
    }

    /// Moves to the next element and returns it; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "the item borrows from the cursor")]
    #[inline]
    pub fn next(&mut self) -> Option<Item<'_>> {
        let forward = self.direction == Direction::Forward;
        let was_on_element = matches!(self.place, Place::At(_));
        let pos = loop {
            let upcoming = match self.place {
                Place::At(pos) => self.data().step(pos, self.direction),
                Place::Before(pos) => Some(pos),
                Place::Outside(NIL) => return None,
                Place::Outside(node) => {
                    self.enter(node);
                    self.data().first(self.direction)
                }
            };
            if let Some(pos) = upcoming {
                break pos;
            }
            self.place = Place::Outside(self.list.nodes[self.node].towards(self.direction));
            self.leave();
            if matches!(self.place, Place::Outside(NIL)) {
                return None;
            }
        };
        self.place = Place::At(pos);
        if !forward {
            self.index -= 1;
        } else if was_on_element {
            self.index += 1;
        }
        Some(self.data().get(pos))
    }

    /// The current element.
    pub fn item(&self) -> Option<Item<'_>> {
        match self.place {
            Place::At(pos) => Some(self.data().get(pos)),
            _ => None,
        }
    }

    /// Index of the current element, counted from the head.
    pub fn index(&self) -> Option<usize> {
        matches!(self.place, Place::At(_)).then_some(self.index)
    }

    /// Adds an element before the current one (nearer to the head). The cursor stays on the current one.
    ///
    /// # Panics
    /// If the cursor is not on an element, as for all edits.
    pub fn insert_before<'b>(&mut self, item: impl Into<Item<'b>>) {
        let pos = self.edit();
        if self.list.insert_beside(self.node, pos, item.into(), Direction::Backward) {
            let next = self.data().step(pos, Direction::Forward).expect("the current element");
            (self.place, self.index) = (Place::At(next), self.index + 1);
        } else {
            self.jump(self.index + 1);
        }
    }

    /// Adds an element after the current one (nearer to the tail). The cursor stays on the current one.
    pub fn insert_after<'b>(&mut self, item: impl Into<Item<'b>>) {
        let pos = self.edit();
        if !self.list.insert_beside(self.node, pos, item.into(), Direction::Forward) {
            self.jump(self.index);
        }
    }

    /// Replaces the value of the current element, on which the cursor stays.
    pub fn replace<'b>(&mut self, item: impl Into<Item<'b>>) {
        let item = item.into();
        let pos = self.edit();
        let options = self.list.options;
        let large = options.is_large(item.len());
        let data = &mut self.list.nodes[self.node].data;
        match data {
            Data::Packed { count, stiff, entries } if !large => {
                let bytes = entries.bytes() - entries.entry_size(pos) + encoded_size(item);
                if *count == 1 || bytes <= options.max_bytes() {
                    entries.replace(pos, item);
                    *stiff = false;
                    return;
                }
            }
            Data::Plain { stiff, bytes } if large => {
                *bytes = item.to_vec().into_boxed_slice();
                *stiff = false;
                return;
            }
            _ => {}
        }
        // The new value needs another kind of node, or more space: it is inserted behind the old one, which is
        // removed.
        self.insert_after(item);
        let index = self.index;
        self.remove();
        self.finish();
        self.jump(index);
    }

    /// Removes the current element. The cursor is before the next one then.
    pub fn remove(&mut self) {
        let pos = self.edit();
        let direction = self.direction;
        let data = &mut self.list.nodes[self.node].data;
        self.list.len -= 1;
        match data {
            Data::Packed { count, stiff, entries } if *count > 1 => {
                *count -= 1;
                *stiff = false;
                let upcoming = match direction {
                    Direction::Forward => entries.remove(pos),
                    Direction::Backward => {
                        let prev = entries.prev(pos);
                        entries.remove(pos);
                        prev
                    }
                };
                self.shrunk = true;
                match upcoming {
                    Some(pos) => self.place = Place::Before(pos),
                    None => {
                        self.place = Place::Outside(self.list.nodes[self.node].towards(direction));
                        self.leave();
                    }
                }
            }
            _ => {
                self.place = Place::Outside(self.list.nodes[self.node].towards(direction));
                self.list.nodes.unlink(self.node);
                self.list.settle();
                self.node = NIL;
                (self.opened, self.shrunk) = (false, false);
            }
        }
    }

    /// Finishes the cursor's node, if there is one.
    fn finish(&mut self) {
        if self.node != NIL {
            self.place = Place::Outside(NIL);
            self.leave();
        }
    }
}

impl Drop for CursorMut<'_> {
    fn drop(&mut self) {
        self.finish();
        self.list.nodes.compact();
    }
}
