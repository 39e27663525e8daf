//! Searching a graph.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use super::{Code, Graph, Slot};
use crate::stdx::prefetch::prefetch;

/// A node, and how far it is from what is searched.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// Place of the node.
    pub slot: Slot,
    /// Distance: from 0 for the same direction to 2 for the opposite.
    pub distance: f32,
}

/// By distance; of equally distant ones, the one in the lower slot comes first.
impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Neighbour {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Neighbour {}

/// Which slots a search has seen.
struct Seen(Vec<u64>);

impl Seen {
    fn new(slots: usize) -> Seen {
        Seen(vec![0; slots.div_ceil(64)])
    }

    /// Marks a slot; whether it was not marked before.
    #[inline]
    fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = (&mut self.0[slot as usize / 64], 1 << (slot % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// The best nodes so far, at most `most`.
struct Best {
    heap: BinaryHeap<Neighbour>,
    most: usize,
}

impl Best {
    fn new(most: usize) -> Best {
        Best { heap: BinaryHeap::with_capacity(most.min(1024) + 1), most }
    }

    /// Whether a node at this distance would be among the best.
    fn has_place_for(&self, distance: f32) -> bool {
        self.heap.len() < self.most || self.heap.peek().is_some_and(|worst| distance < worst.distance)
    }

    fn offer(&mut self, neighbour: Neighbour) {
        if self.has_place_for(neighbour.distance) {
            self.heap.push(neighbour);
            if self.heap.len() > self.most {
                self.heap.pop();
            }
        }
    }

    /// Nearest first.
    fn into_sorted(self) -> Vec<Neighbour> {
        self.heap.into_sorted_vec()
    }
}

impl Graph {
    fn neighbour(&self, query: &Code, slot: Slot) -> Neighbour {
        Neighbour { slot, distance: query.distance(&self.node(slot).code) }
    }

    /// Walks from the entry point to the nearest node in the layer above `layer`, or to the entry point itself if there is
    /// no such layer.
    pub(super) fn descend(&self, query: &Code, entry: Slot, layer: usize) -> Neighbour {
        let mut near = self.neighbour(query, entry);
        for layer in (layer + 1..=self.node(entry).level()).rev() {
            loop {
                let links = self.node(near.slot).layers[layer].iter();
                let nearest = links.map(|link| self.neighbour(query, link.to)).min();
                match nearest {
                    Some(next) if next.distance < near.distance => near = next,
                    _ => break,
                }
            }
        }
        near
    }

    /// The nearest `ef` nodes in a layer that a walk from `from` finds, nearest first, without the node `except`.
    pub(super) fn search_layer(
        &self,
        query: &Code,
        from: &[Neighbour],
        layer: usize,
        ef: usize,
        except: Slot,
    ) -> Vec<Neighbour> {
        self.explore(query, from, layer, ef, |slot| match slot == except {
            true => ControlFlow::Continue(false),
            false => ControlFlow::Continue(true),
        })
    }

    /// As [`Graph::search_layer`], for nodes that `accept` accepts. Others are only passed through. The walk ends early
    /// when `accept` breaks.
    fn explore(
        &self,
        query: &Code,
        from: &[Neighbour],
        layer: usize,
        ef: usize,
        mut accept: impl FnMut(Slot) -> ControlFlow<(), bool>,
    ) -> Vec<Neighbour> {
        let mut seen = Seen::new(self.slots());
        let mut best = Best::new(ef);
        let mut next = BinaryHeap::new();
        for &start in from {
            if seen.insert(start.slot) {
                match accept(start.slot) {
                    ControlFlow::Continue(true) => best.offer(start),
                    ControlFlow::Continue(false) => {}
                    ControlFlow::Break(()) => return best.into_sorted(),
                }
                next.push(Reverse(start));
            }
        }
        let mut unseen = Vec::with_capacity(self.most_links(0));
        while let Some(Reverse(near)) = next.pop() {
            if !best.has_place_for(near.distance) {
                break;
            }
            unseen.clear();
            for link in &self.node(near.slot).layers[layer] {
                if seen.insert(link.to) {
                    prefetch(self.node(link.to).code.start());
                    unseen.push(link.to);
                }
            }
            for &slot in &unseen {
                let found = self.neighbour(query, slot);
                if !best.has_place_for(found.distance) {
                    continue;
                }
                next.push(Reverse(found));
                match accept(slot) {
                    ControlFlow::Continue(true) => best.offer(found),
                    ControlFlow::Continue(false) => {}
                    ControlFlow::Break(()) => return best.into_sorted(),
                }
            }
        }
        best.into_sorted()
    }

    /// The nearest `ef` nodes that the graph leads to, nearest first. O(log n) distances on average.
    ///
    /// # Panics
    /// If the vector is not stored as those of this graph are.
    pub fn search(&self, query: &Code, ef: usize) -> Vec<Neighbour> {
        self.search_where(query, ef, |_| ControlFlow::Continue(true))
    }

    /// The nearest `ef` nodes that the graph leads to and `accept` accepts, nearest first. The search ends early when
    /// `accept` breaks.
    ///
    /// # Panics
    /// If the vector is not stored as those of this graph are.
    pub fn search_where(
        &self,
        query: &Code,
        ef: usize,
        accept: impl FnMut(Slot) -> ControlFlow<(), bool>,
    ) -> Vec<Neighbour> {
        let Some(entry) = self.entry else { return Vec::new() };
        let near = self.descend(query, entry, 0);
        self.explore(query, &[near], 0, ef, accept)
    }

    /// The nearest `count` nodes of those that `accept` accepts, by comparing the vector with all. O(n).
    ///
    /// # Panics
    /// If the vector is not stored as those of this graph are.
    pub fn scan(&self, query: &Code, count: usize, mut accept: impl FnMut(Slot) -> bool) -> Vec<Neighbour> {
        let mut best = Best::new(count);
        for (slot, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let found = Neighbour { slot: slot as Slot, distance: query.distance(&node.code) };
            if best.has_place_for(found.distance) && accept(found.slot) {
                best.offer(found);
            }
        }
        best.into_sorted()
    }
}
