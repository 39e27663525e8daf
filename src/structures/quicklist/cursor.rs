//! Walking through a quicklist from any element in either direction: reading, or editing underway.
//!
//! A compressed node is read through a decompressed copy, which [`CursorMut`] puts into the node's
//! place at the first edit; the node is compressed again when the cursor leaves it.

use super::node::{Data, NIL};
use super::{Direction, Item, Pos, Quicklist, encoded_size};

/// The elements of a list from some index on. Made by [`Quicklist::iter`].
///
/// Not an [`Iterator`]: an element may lie in a decompressed copy that lives until the next step.
pub struct Iter<'a> {
    list: &'a Quicklist,
    direction: Direction,
    node: u32,
    /// The copy of `node`, if that is compressed.
    copy: Option<Data>,
    /// What [`Iter::next`] will return; with `None` it goes on to the next node.
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

/// Where a cursor is.
#[derive(Clone, Copy)]
enum Place {
    /// On an element of the cursor's node.
    At(Pos),
    /// Before (as the direction goes) an element of the cursor's node.
    Before(Pos),
    /// Before the elements of another node, or at the end with [`NIL`]; the cursor's node is left or gone.
    Outside(u32),
}

/// Walks through a list and edits it. Made by [`Quicklist::cursor`].
///
/// [`next`](Self::next) steps on an element; the edits are to *that* element or beside it. After
/// [`remove`](Self::remove) the cursor stands between two elements and must step on. Elements
/// inserted ahead of the cursor are met, those inserted behind it are not.
pub struct CursorMut<'a> {
    list: &'a mut Quicklist,
    direction: Direction,
    place: Place,
    /// The node the cursor stands in, or [`NIL`].
    node: u32,
    /// The copy of `node`, if that is compressed.
    copy: Option<Data>,
    /// Of the current element; if there is none, how many precede the gap.
    index: usize,
    /// Whether `node` may have to be compressed when it is left.
    opened: bool,
    /// Whether `node` lost an element.
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

    /// Steps on the element `index`, wherever the cursor was. The old node is not looked at.
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

    /// Finishes the current node: the cursor is outside. The node ahead keeps its id.
    fn leave(&mut self) {
        self.copy = None;
        if std::mem::take(&mut self.shrunk) {
            // With the node behind: the one ahead is yet to be walked through.
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

    /// The position of the current element; its node is uncompressed from here on.
    fn edit(&mut self) -> Pos {
        let Place::At(pos) = self.place else { panic!("the cursor stands on no element") };
        if let Some(copy) = self.copy.take() {
            self.list.nodes[self.node].data = copy;
        }
        self.opened = true;
        pos
    }

    /// Steps on the next element and returns it; `None` at the end.
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

    /// The index of the current element, from the head.
    pub fn index(&self) -> Option<usize> {
        matches!(self.place, Place::At(_)).then_some(self.index)
    }

    /// Adds an element before the current one (nearer the head), on which the cursor stays.
    ///
    /// # Panics
    /// Like all edits: if the cursor is on no element.
    pub fn insert_before<'b>(&mut self, item: impl Into<Item<'b>>) {
        let pos = self.edit();
        if self.list.insert_beside(self.node, pos, item.into(), Direction::Backward) {
            let next = self.data().step(pos, Direction::Forward).expect("the current element");
            (self.place, self.index) = (Place::At(next), self.index + 1);
        } else {
            self.jump(self.index + 1);
        }
    }

    /// Adds an element after the current one (nearer the tail), on which the cursor stays.
    pub fn insert_after<'b>(&mut self, item: impl Into<Item<'b>>) {
        let pos = self.edit();
        if !self.list.insert_beside(self.node, pos, item.into(), Direction::Forward) {
            self.jump(self.index);
        }
    }

    /// Gives the current element another value; the cursor stays on it.
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
        // The new value needs another kind of node, or more room: it comes behind the old one, which goes.
        self.insert_after(item);
        let index = self.index;
        self.remove();
        self.finish();
        self.jump(index);
    }

    /// Takes the current element out. The cursor stands before the next one then.
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

    /// Finishes the node the cursor stands in, if any.
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
