//! Lists: byte strings in order, cheap at both ends.
//!
//! A list is a single listpack while it fits into one quicklist node, and a quicklist beyond that. It becomes a
//! listpack again when the quicklist has shrunk to one node of at most half that size, so that a list near the
//! limit does not change back and forth.

use super::Limits;
use super::prefetch::{self, PrefetchTarget, Prefetcher};
use super::value::{Collection, Describe, Part};
use crate::stdx::alloc::relocation::Relocator;
use crate::structures::listpack::{Item, Listpack, Needle};
use crate::structures::quicklist::{Direction, NodeRef, Quicklist, QuicklistOptions};
use crate::structures::tagged::{self, OneOf, Owned};

/// A list of byte strings in one machine word.
#[repr(transparent)]
pub struct List(OneOf<Listpack, Box<Quicklist>>);

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The end with index 0.
    Head,
    /// The end with index −1.
    Tail,
}

impl End {
    /// Direction of a walk that starts at this end.
    fn direction(self) -> Direction {
        match self {
            End::Head => Direction::Forward,
            End::Tail => Direction::Backward,
        }
    }

    /// Index of the element at this end.
    fn index(self) -> i64 {
        match self {
            End::Head => 0,
            End::Tail => -1,
        }
    }
}

/// Quicklist options from the configured limits.
fn options(limits: &Limits) -> QuicklistOptions {
    QuicklistOptions {
        fill: limits.list_max_listpack_size.clamp(i16::MIN as i32, i16::MAX as i32) as i16,
        depth: limits.list_compress_depth.min(u16::MAX as u32) as u16,
        packed_threshold: limits.list_packed_threshold.min(u32::MAX as usize) as u32,
    }
}

/// Whether one listpack may hold `count` elements in `bytes` bytes.
fn one_node(limits: &Limits, count: usize, bytes: usize) -> bool {
    let options = options(limits);
    count <= options.max_count() && bytes <= options.max_bytes()
}

enum View<'a> {
    Pack(&'a Listpack),
    Quick(&'a Quicklist),
}

enum ViewMut<'a> {
    Pack(&'a mut Listpack),
    Quick(&'a mut Quicklist),
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List::pack(Listpack::new())
    }

    fn pack(pack: Listpack) -> List {
        List(OneOf::first(pack))
    }

    fn quick(list: Quicklist) -> List {
        List(OneOf::second(Box::new(list)))
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        match self.0.view() {
            tagged::View::First(pack) => View::Pack(pack),
            tagged::View::Second(list) => View::Quick(list),
        }
    }

    #[inline(always)]
    fn view_mut(&mut self) -> ViewMut<'_> {
        match self.0.view_mut() {
            tagged::ViewMut::First(pack) => ViewMut::Pack(pack),
            tagged::ViewMut::Second(list) => ViewMut::Quick(list),
        }
    }

    /// Makes room for `count` more elements with `bytes` bytes in total. The only place where a listpack becomes a
    /// quicklist.
    pub fn prepare(&mut self, count: usize, bytes: usize, limits: &Limits) {
        let ViewMut::Pack(pack) = self.view_mut() else { return };
        if one_node(limits, pack.len() + count, pack.bytes() + bytes) {
            return;
        }
        let pack = std::mem::take(pack);
        *self = if pack.is_empty() {
            List::quick(Quicklist::new(options(limits)))
        } else {
            List::quick(Quicklist::from_listpack(pack, options(limits)))
        };
    }

    /// Converts a list with few elements left back to a listpack. The only place where a quicklist becomes a
    /// listpack.
    pub fn relax(&mut self, limits: &Limits) {
        let View::Quick(list) = self.view() else { return };
        let Some(pack) = list.single_listpack() else { return };
        if !one_node(limits, pack.len() * 2, pack.bytes() * 2) {
            return;
        }
        let Owned::Second(list) = std::mem::take(self).0.into_owned() else { return };
        *self = match list.into_listpack() {
            Ok(pack) => List::pack(pack),
            Err(list) => List::quick(list),
        };
    }

    /// Adds an element at an end. Call [`List::prepare`] first.
    #[inline]
    pub fn push(&mut self, end: End, element: &[u8]) {
        match (self.view_mut(), end) {
            (ViewMut::Pack(pack), End::Head) => pack.push_front(element),
            (ViewMut::Pack(pack), End::Tail) => pack.push_back(element),
            (ViewMut::Quick(list), End::Head) => list.push_front(element),
            (ViewMut::Quick(list), End::Tail) => list.push_back(element),
        }
    }

    /// Removes the element at an end after passing it to `f`.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match self.view_mut() {
            ViewMut::Pack(pack) => {
                let pos = match end {
                    End::Head => pack.first()?,
                    End::Tail => pack.last()?,
                };
                let result = f(pack.get(pos));
                pack.remove(pos);
                Some(result)
            }
            ViewMut::Quick(list) => list.pop(end.direction(), f),
        }
    }

    /// Passes the element at `index` to `f`; negative indices count from the end.
    pub fn get<R>(&self, index: i64, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match self.view() {
            View::Pack(pack) => pack.seek(index).map(|pos| f(pack.get(pos))),
            View::Quick(list) => list.get(index).map(|entry| f(entry.item())),
        }
    }

    /// Passes up to `count` elements to `f`, starting at index `start` and walking away from `end`.
    #[inline]
    pub fn visit(&self, start: i64, end: End, count: usize, mut f: impl FnMut(Item<'_>)) {
        if count == 0 {
            return;
        }
        match self.view() {
            View::Pack(pack) => {
                let Some(pos) = pack.seek(start) else { return };
                match end {
                    End::Head => pack.iter_from(pos).take(count).for_each(f),
                    End::Tail => {
                        let mut at = Some(pos);
                        for _ in 0..count {
                            let Some(pos) = at else { return };
                            f(pack.get(pos));
                            at = pack.prev(pos);
                        }
                    }
                }
            }
            View::Quick(list) => {
                let mut left = count;
                list.visit(start, end.direction(), |item| {
                    f(item);
                    left -= 1;
                    left > 0
                });
            }
        }
    }

    /// Replaces the element at `index` and returns whether there was one. Call [`List::prepare`] first.
    pub fn set(&mut self, index: i64, element: &[u8]) -> bool {
        match self.view_mut() {
            ViewMut::Pack(pack) => match pack.seek(index) {
                Some(pos) => {
                    pack.replace(pos, element);
                    true
                }
                None => false,
            },
            ViewMut::Quick(list) => list.replace(index, element),
        }
    }

    /// Inserts an element before or after the first one equal to `pivot`; returns false if there is none. Call
    /// [`List::prepare`] first.
    pub fn insert(&mut self, pivot: &[u8], after: bool, element: &[u8]) -> bool {
        match self.view_mut() {
            ViewMut::Pack(pack) => {
                let Some(pos) = pack.find(pivot, 0) else { return false };
                if after {
                    pack.insert_after(pos, element);
                } else {
                    pack.insert_before(pos, element);
                }
                true
            }
            ViewMut::Quick(list) => {
                let needle = Needle::new(pivot);
                let mut cursor = list.cursor(0, Direction::Forward);
                while let Some(item) = cursor.next() {
                    if needle.matches(item) {
                        if after {
                            cursor.insert_after(element);
                        } else {
                            cursor.insert_before(element);
                        }
                        return true;
                    }
                }
                false
            }
        }
    }

    /// Removes up to `count` elements equal to `element`, those nearest to `end` first, and returns how many.
    pub fn remove(&mut self, element: &[u8], end: End, count: usize) -> usize {
        let needle = Needle::new(element);
        let mut removed = 0;
        match self.view_mut() {
            ViewMut::Pack(pack) => {
                let mut at = match end {
                    End::Head => pack.first(),
                    End::Tail => pack.last(),
                };
                while let Some(pos) = at.filter(|_| removed < count) {
                    let matches = needle.matches(pack.get(pos));
                    at = match (end, matches) {
                        (End::Head, true) => pack.remove(pos),
                        (End::Head, false) => pack.next(pos),
                        (End::Tail, _) => pack.prev(pos),
                    };
                    if matches && end == End::Tail {
                        // Elements before `pos`, where the walk continues, do not move.
                        pack.remove(pos);
                    }
                    removed += usize::from(matches);
                }
            }
            ViewMut::Quick(list) => {
                let mut cursor = list.cursor(end.index(), end.direction());
                while removed < count {
                    let Some(item) = cursor.next() else { break };
                    if needle.matches(item) {
                        cursor.remove();
                        removed += 1;
                    }
                }
            }
        }
        removed
    }

    /// Calls `f` with the index of each element equal to `element`, starting at `end`, until `f` returns false or
    /// `most` elements have been compared.
    pub fn positions(&self, element: &[u8], end: End, most: usize, mut f: impl FnMut(usize) -> bool) {
        let needle = Needle::new(element);
        let len = self.len();
        let mut seen = 0;
        let mut go_on = |item: Item<'_>| {
            let index = if end == End::Head { seen } else { len - 1 - seen };
            seen += 1;
            (!needle.matches(item) || f(index)) && seen < most
        };
        match self.view() {
            View::Pack(pack) => {
                let mut items = pack.iter();
                loop {
                    let item = if end == End::Head { items.next() } else { items.next_back() };
                    if !item.is_some_and(&mut go_on) {
                        break;
                    }
                }
            }
            View::Quick(list) => list.visit(end.index(), end.direction(), go_on),
        }
    }

    /// Removes `count` elements, starting at index `start`.
    pub fn remove_range(&mut self, start: usize, count: usize) {
        if count == 0 {
            return;
        }
        match self.view_mut() {
            ViewMut::Pack(pack) => pack.remove_range(start as i64, count),
            ViewMut::Quick(list) => {
                list.delete_range(start as i64, count);
            }
        }
    }

    /// The quicklist, if the list is one, for code that inspects or saves its nodes.
    pub fn quicklist(&self) -> Option<&Quicklist> {
        match self.view() {
            View::Pack(_) => None,
            View::Quick(list) => Some(list),
        }
    }

    /// The bytes of the listpack, if the list is one, as files store it.
    pub fn as_listpack(&self) -> Option<&[u8]> {
        match self.view() {
            View::Pack(pack) => Some(pack.as_bytes()),
            View::Quick(_) => None,
        }
    }

    /// An empty quicklist that takes whole nodes, for [`List::from_nodes`].
    pub fn nodes(limits: &Limits) -> Quicklist {
        Quicklist::new(options(limits))
    }

    /// A list of these nodes: a listpack if there is just one and it is within the limits.
    pub fn from_nodes(nodes: Quicklist, limits: &Limits) -> List {
        match nodes.single_listpack() {
            None => List::quick(nodes),
            Some(pack) if !one_node(limits, pack.len(), pack.bytes()) => List::quick(nodes),
            Some(_) => match nodes.into_listpack() {
                Ok(pack) => List::pack(pack),
                Err(nodes) => List::quick(nodes),
            },
        }
    }

    /// Checks the invariants. O(n).
    pub fn check(&self) {
        match self.view() {
            View::Pack(pack) => pack.check(),
            View::Quick(list) => list.check(),
        }
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}

impl Describe for List {
    fn len(&self) -> usize {
        match self.view() {
            View::Pack(pack) => pack.len(),
            View::Quick(list) => list.len(),
        }
    }

    fn effort(&self) -> usize {
        match self.view() {
            View::Pack(_) => 1,
            View::Quick(list) => list.node_count(),
        }
    }

    fn encoding(&self) -> &'static str {
        match self.view() {
            View::Pack(_) => "listpack",
            View::Quick(_) => "quicklist",
        }
    }

    fn bytes(&self, _samples: usize) -> usize {
        match self.view() {
            View::Pack(pack) => pack.allocated(),
            View::Quick(list) => size_of::<Quicklist>() + list.bytes(),
        }
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        self.visit(0, End::Head, self.len(), |item| f(Part::Item(item.text(&mut itoa::Buffer::new()))));
    }

    fn details(&self, out: &mut String) {
        let View::Quick(list) = self.view() else { return };
        let (mut compressed, mut bytes) = (false, 0);
        for node in list.nodes() {
            bytes += match node {
                NodeRef::Packed(entries) => entries.bytes(),
                NodeRef::Plain(element) => element.len(),
                NodeRef::PackedLzf { raw_len, .. } | NodeRef::PlainLzf { raw_len, .. } => {
                    compressed = true;
                    raw_len
                }
            };
        }
        out.push_str(&format!(
            " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{bytes}",
            list.node_count(),
            list.len() as f64 / list.node_count().max(1) as f64,
            list.options().fill,
            u8::from(compressed || list.options().depth > 0),
        ));
    }
}

impl Collection for List {
    fn duplicate(&self) -> Self {
        match self.view() {
            View::Pack(pack) => List::pack((*pack).clone()),
            View::Quick(list) => List::quick(list.clone()),
        }
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            self.0.relocate(by);
        }
        match self.view_mut() {
            ViewMut::Pack(_) => 0,
            ViewMut::Quick(list) => list.relocate(by, cursor, most),
        }
    }

    fn prefetcher<'a>(&'a self, _aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        prefetch::block(self.0.address())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::stdx::rng::Rng;

    fn limits(fill: i32, depth: u32, threshold: usize) -> Limits {
        Limits {
            list_max_listpack_size: fill,
            list_compress_depth: depth,
            list_packed_threshold: threshold,
            ..Limits::default()
        }
    }

    fn contents(list: &List) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        list.visit(0, End::Head, usize::MAX, |item| out.push(item.to_vec()));
        out
    }

    #[test]
    fn behaves_as_a_deque_whatever_the_encoding() {
        let settings = [
            limits(-2, 0, 1 << 30),
            limits(4, 0, 1 << 30),
            limits(4, 1, 1 << 30),
            limits(-1, 1, 200),
            limits(1, 0, 1 << 30),
        ];
        for (seed, limits) in settings.into_iter().enumerate() {
            let mut rng = Rng::new(seed as u64);
            let mut list = List::new();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for step in 0..4000 {
                let at = format!("seed {seed}, step {step}");
                let element = match rng.below(8) {
                    0 => vec![b'x'; rng.index(300)],
                    1 => rng.next_u64().to_string().into_bytes(),
                    _ => format!("e{}", rng.below(6)).into_bytes(),
                };
                let end = if rng.one_in(2) { End::Head } else { End::Tail };
                match rng.below(9) {
                    0..=2 => {
                        list.prepare(1, element.len(), &limits);
                        list.push(end, &element);
                        if end == End::Head { model.push_front(element) } else { model.push_back(element) }
                    }
                    3 => {
                        let got = list.pop(end, |item| item.to_vec());
                        let want = if end == End::Head { model.pop_front() } else { model.pop_back() };
                        assert_eq!(got, want, "{at}");
                        list.relax(&limits);
                    }
                    4 if !model.is_empty() => {
                        let i = rng.index(model.len());
                        list.prepare(0, element.len(), &limits);
                        assert!(list.set(i as i64, &element), "{at}");
                        model[i] = element;
                    }
                    5 => {
                        let pivot = format!("e{}", rng.below(6)).into_bytes();
                        let after = rng.one_in(2);
                        list.prepare(1, element.len(), &limits);
                        let found = model.iter().position(|e| *e == pivot);
                        assert_eq!(list.insert(&pivot, after, &element), found.is_some(), "{at}");
                        if let Some(i) = found {
                            model.insert(i + usize::from(after), element);
                        }
                    }
                    6 => {
                        let count = 1 + rng.index(3);
                        let mut wanted = 0;
                        while wanted < count {
                            let found = match end {
                                End::Head => model.iter().position(|e| *e == element),
                                End::Tail => model.iter().rposition(|e| *e == element),
                            };
                            let Some(i) = found else { break };
                            model.remove(i);
                            wanted += 1;
                        }
                        assert_eq!(list.remove(&element, end, count), wanted, "{at}");
                        list.relax(&limits);
                    }
                    7 if rng.one_in(20) && !model.is_empty() => {
                        let start = rng.index(model.len());
                        let count = 1 + rng.index(model.len() - start);
                        list.remove_range(start, count);
                        model.drain(start..start + count);
                        list.relax(&limits);
                    }
                    _ => {
                        let mut got = Vec::new();
                        list.positions(&element, End::Head, usize::MAX, |i| {
                            got.push(i);
                            true
                        });
                        let all = model.iter().enumerate();
                        let want: Vec<usize> = all.filter(|(_, e)| **e == element).map(|(i, _)| i).collect();
                        assert_eq!(got, want, "{at}");
                    }
                }
                list.check();
                assert_eq!(list.len(), model.len(), "{at}");
                if step % 50 == 0 {
                    assert_eq!(contents(&list), Vec::from(model.clone()), "{at}");
                    assert_eq!(contents(&list.duplicate()), contents(&list));
                }
            }
        }
    }

    #[test]
    fn converts_at_the_limit_and_back_below_half_of_it() {
        let limits = limits(4, 0, 1 << 30);
        let mut list = List::new();
        for i in 0..4 {
            list.prepare(1, 1, &limits);
            list.push(End::Tail, b"x");
            assert_eq!(list.encoding(), "listpack", "{i} elements");
        }
        list.prepare(1, 1, &limits);
        list.push(End::Tail, b"x");
        assert_eq!(list.encoding(), "quicklist");
        for left in [4, 3] {
            list.pop(End::Tail, |_| ());
            list.relax(&limits);
            assert_eq!((list.len(), list.encoding()), (left, "quicklist"));
        }
        list.pop(End::Tail, |_| ());
        list.relax(&limits);
        assert_eq!((list.len(), list.encoding()), (2, "listpack"));
    }
}
