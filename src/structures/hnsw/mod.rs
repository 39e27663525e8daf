//! A graph of vectors in which the nearest ones to a vector are found without comparing it with all: a *hierarchical
//! navigable small world* (Yu. Malkov, D. Yashunin, 2016).
//!
//! ```text
//! layer 2        o ──────────────────── o            each node is in layer 0, a quarter of them also in layer 1,
//! layer 1        o ───── o ──────────── o            a quarter of these in layer 2, and so on
//! layer 0    o ─ o ─ o ─ o ─ o ─ o ─ o ─ o
//! ```
//!
//! In each layer, nodes are linked with near ones. A search starts at a node of the highest layer, walks to the nearest
//! node there, continues from it one layer below, and so on. In the last layer it widens: it keeps the best `ef` nodes
//! that it has seen, and visits their neighbours until none is nearer than the worst of them.
//!
//! What always holds:
//! - links have two ends: if a is linked with b in a layer, b is with a, and both are in this layer;
//! - a node has at most [`Graph::most_links`] links in a layer;
//! - the entry point is a live node, if there is one.
//!
//! Because links have two ends, a node is removed without leaving anything behind: its neighbours are known, and are
//! linked with each other in its place.
//!
//! Which layers a node is in follows from its number, so that the same changes make the same graph everywhere.

mod code;
mod dot;
mod load;
mod search;
#[cfg(test)]
mod tests;

pub use code::{Code, Quantization};
pub use dot::dot_f32;
pub use load::{LoadError, LoadedNode};
pub use search::Neighbour;

use crate::stdx::alloc::relocation::Relocator;

/// Place of a node, which it keeps while it lives.
pub type Slot = u32;

/// The highest layer.
pub const MAX_LEVEL: usize = 16;
/// The fewest and the most links of [`Graph::new`].
pub const LINKS: std::ops::RangeInclusive<usize> = 4..=4096;

/// One end of a link.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Link {
    to: Slot,
    distance: f32,
}

/// A node.
#[derive(Clone, Debug)]
struct Node {
    /// Number that no other node of the graph has had.
    id: u64,
    code: Code,
    /// Links in each layer, from 0 on. The node is in as many layers.
    layers: Vec<Vec<Link>>,
}

impl Node {
    fn level(&self) -> usize {
        self.layers.len() - 1
    }

    fn has_link(&self, layer: usize, to: Slot) -> bool {
        self.layers[layer].iter().any(|link| link.to == to)
    }
}

/// A graph of vectors; see the module's description.
#[derive(Clone, Debug)]
pub struct Graph {
    /// `None` where a node was removed.
    nodes: Vec<Option<Node>>,
    free: Vec<Slot>,
    entry: Option<Slot>,
    links: usize,
    dim: usize,
    how: Quantization,
    /// The greatest number given to a node.
    last_id: u64,
}

/// The level of the node with this number: 0 for three of four nodes, 1 for three of four others, and so on.
fn level_of(id: u64) -> usize {
    // The finaliser of SplitMix64, which makes the bits of consecutive numbers look random.
    let mut x = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ x >> 31).trailing_zeros() as usize / 2).min(MAX_LEVEL - 1)
}

/// Properties.
impl Graph {
    /// An empty graph of vectors of `dim` components, whose nodes are linked with about `links` others per layer.
    ///
    /// # Panics
    /// If `links` is not in [`LINKS`], or `dim` is 0.
    pub fn new(dim: usize, links: usize, how: Quantization) -> Graph {
        assert!(LINKS.contains(&links) && dim > 0, "callers check what clients ask for");
        Graph { nodes: Vec::new(), free: Vec::new(), entry: None, links, dim, how, last_id: 0 }
    }

    /// Number of nodes. O(1).
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of components of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of links of a node that is added, per layer.
    pub fn links(&self) -> usize {
        self.links
    }

    /// How vectors are stored.
    pub fn quantization(&self) -> Quantization {
        self.how
    }

    /// The greatest number that a node has had.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// The highest layer with nodes.
    pub fn max_level(&self) -> usize {
        self.entry.map_or(0, |entry| self.node(entry).level())
    }

    /// The most links of a node in a layer.
    pub fn most_links(&self, layer: usize) -> usize {
        if layer == 0 { self.links * 2 } else { self.links }
    }

    /// One more than the greatest slot in use so far.
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, slot: Slot) -> &Node {
        self.nodes[slot as usize].as_ref().expect("links and the entry point lead to live nodes")
    }

    fn node_mut(&mut self, slot: Slot) -> &mut Node {
        self.nodes[slot as usize].as_mut().expect("links and the entry point lead to live nodes")
    }

    /// The vector of a node.
    ///
    /// # Panics
    /// If there is no node in this slot.
    pub fn code(&self, slot: Slot) -> &Code {
        &self.node(slot).code
    }

    /// The number of a node.
    ///
    /// # Panics
    /// If there is no node in this slot.
    pub fn id(&self, slot: Slot) -> u64 {
        self.node(slot).id
    }

    /// The links of a node in each layer it is in, from layer 0 on.
    ///
    /// # Panics
    /// If there is no node in this slot.
    pub fn links_of(
        &self,
        slot: Slot,
    ) -> impl DoubleEndedIterator<Item = impl ExactSizeIterator<Item = Neighbour>> + ExactSizeIterator {
        let neighbour = |link: &Link| Neighbour { slot: link.to, distance: link.distance };
        self.node(slot).layers.iter().map(move |links| links.iter().map(neighbour))
    }

    /// Bytes allocated, estimated from `samples` nodes (0: all of them).
    pub fn allocated(&self, samples: usize) -> usize {
        let each = |node: &Node| {
            let links: usize = node.layers.iter().map(|layer| layer.capacity() * size_of::<Link>()).sum();
            node.code.allocated() + node.layers.capacity() * size_of::<Vec<Link>>() + links
        };
        let samples = if samples == 0 { self.len() } else { samples.min(self.len()) };
        let sum: usize = self.nodes.iter().flatten().take(samples).map(each).sum();
        let nodes = sum.checked_div(samples).map_or(0, |_| sum * self.len() / samples);
        nodes + self.nodes.capacity() * size_of::<Option<Node>>() + self.free.capacity() * size_of::<Slot>()
    }

    /// Moves the blocks of about `most` nodes from slot `cursor` on if their places are sparse. Returns the next cursor,
    /// 0 at the end.
    pub fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        let from = usize::try_from(cursor).unwrap_or(usize::MAX).min(self.nodes.len());
        let until = from.saturating_add(most).min(self.nodes.len());
        for node in self.nodes[from..until].iter_mut().flatten() {
            node.code.relocate(by);
            by.relocate_vec(&mut node.layers);
            node.layers.iter_mut().for_each(|links| by.relocate_vec(links));
        }
        if until < self.nodes.len() { until as u64 } else { 0 }
    }

    /// Panics unless the invariants hold. O(n).
    pub fn check(&self) {
        assert_eq!(self.entry.is_none(), self.is_empty());
        assert_eq!(self.nodes.iter().filter(|node| node.is_none()).count(), self.free.len());
        for (slot, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            assert!(node.id <= self.last_id && node.level() <= MAX_LEVEL);
            for (layer, links) in node.layers.iter().enumerate() {
                assert!(links.len() <= self.most_links(layer));
                for (i, link) in links.iter().enumerate() {
                    let other = self.node(link.to);
                    assert!(link.to as usize != slot && other.level() >= layer);
                    assert!(other.has_link(layer, slot as Slot), "links have two ends");
                    assert!(links[..i].iter().all(|before| before.to != link.to), "nodes are linked once");
                }
            }
        }
    }
}

/// Changes.
impl Graph {
    /// Adds a node and returns its slot. Near nodes are chosen among the best `ef` of a search: the more, the better the
    /// graph. O(log n) distances on average.
    ///
    /// # Panics
    /// If the vector is not stored as those of this graph are.
    pub fn insert(&mut self, code: Code, ef: usize) -> Slot {
        self.last_id += 1;
        let level = level_of(self.last_id);
        let layers = (0..=level).map(|_| Vec::new()).collect();
        let node = Node { id: self.last_id, code, layers };
        let slot = self.place(node);
        let Some(entry) = self.entry else {
            self.entry = Some(slot);
            return slot;
        };
        let top = self.node(entry).level();
        let mut near = self.descend(&self.node(slot).code, entry, level.min(top));
        for layer in (0..=level.min(top)).rev() {
            let found = self.search_layer(&self.node(slot).code, &[near], layer, ef.max(self.links), slot);
            self.connect(slot, layer, &found);
            near = found.first().copied().unwrap_or(near);
        }
        if level > top {
            self.entry = Some(slot);
        }
        slot
    }

    /// Stores a node in a free slot.
    fn place(&mut self, node: Node) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = Some(node);
                slot
            }
            None => {
                let slot = Slot::try_from(self.nodes.len()).expect("memory ends before slots do");
                self.nodes.push(Some(node));
                slot
            }
        }
    }

    /// Links a new node with some of the nodes found near it, which are ordered by distance.
    fn connect(&mut self, slot: Slot, layer: usize, found: &[Neighbour]) {
        for &neighbour in &self.select(found) {
            self.link_with_full(slot, layer, neighbour);
        }
        if self.node(slot).layers[layer].is_empty()
            && let Some(&nearest) = found.first()
        {
            // All were full of nearer links: the node would not be found at all.
            self.squeeze_in(slot, layer, nearest);
        }
    }

    /// Chooses up to [`Graph::links`] of the nodes near a new one, which are ordered by distance. A node that is nearer
    /// to one already chosen than to the new one is reached through it, and is taken only if places are left: links in
    /// all directions are worth more than links to one crowd.
    fn select(&self, found: &[Neighbour]) -> Vec<Neighbour> {
        let mut chosen: Vec<Neighbour> = Vec::with_capacity(self.links);
        let mut rest = Vec::new();
        for &candidate in found {
            if chosen.len() == self.links {
                return chosen;
            }
            let code = &self.node(candidate.slot).code;
            let behind = |before: &Neighbour| self.node(before.slot).code.distance(code) < candidate.distance;
            if chosen.iter().any(behind) { rest.push(candidate) } else { chosen.push(candidate) }
        }
        let room = self.links - chosen.len();
        chosen.extend(rest.into_iter().take(room));
        chosen
    }

    /// Links a node with a neighbour. A neighbour without room gives up its farthest link, if that is farther than the
    /// node, and leads to a node with links enough.
    fn link_with_full(&mut self, slot: Slot, layer: usize, neighbour: Neighbour) {
        let most = self.most_links(layer);
        if self.node(slot).layers[layer].len() >= most {
            return;
        }
        let links = &self.node(neighbour.slot).layers[layer];
        if links.len() >= most {
            let farther = links.iter().filter(|link| {
                let others = self.node(link.to).layers[layer].len();
                link.distance > neighbour.distance && others > self.links / 2
            });
            let Some(farthest) = farther.max_by(|a, b| a.distance.total_cmp(&b.distance)) else { return };
            let farthest = farthest.to;
            self.unlink(neighbour.slot, farthest, layer);
        }
        self.link(slot, layer, neighbour);
    }

    /// Puts a node without links between a neighbour that is full of nearer links and another node: what hung together
    /// before still does.
    fn squeeze_in(&mut self, slot: Slot, layer: usize, neighbour: Neighbour) {
        let links = &self.node(neighbour.slot).layers[layer];
        let farthest = links.iter().max_by(|a, b| a.distance.total_cmp(&b.distance));
        let farthest = farthest.expect("a full node has links").to;
        self.unlink(neighbour.slot, farthest, layer);
        self.link(slot, layer, neighbour);
        let distance = self.node(slot).code.distance(&self.node(farthest).code);
        self.link(slot, layer, Neighbour { slot: farthest, distance });
    }

    fn link(&mut self, slot: Slot, layer: usize, Neighbour { slot: other, distance }: Neighbour) {
        self.node_mut(slot).layers[layer].push(Link { to: other, distance });
        self.node_mut(other).layers[layer].push(Link { to: slot, distance });
    }

    fn unlink(&mut self, a: Slot, b: Slot, layer: usize) {
        self.node_mut(a).layers[layer].retain(|link| link.to != b);
        self.node_mut(b).layers[layer].retain(|link| link.to != a);
    }

    /// Removes a node, and links its neighbours with each other. O(links²) distances.
    ///
    /// # Panics
    /// If there is no node in this slot.
    pub fn remove(&mut self, slot: Slot) {
        let node = self.nodes[slot as usize].take().expect("callers name live nodes");
        self.free.push(slot);
        for (layer, links) in node.layers.iter().enumerate() {
            for link in links {
                self.node_mut(link.to).layers[layer].retain(|back| back.to != slot);
            }
        }
        if self.entry == Some(slot) {
            self.entry = self.entry_after(&node);
        }
        for (layer, links) in node.layers.iter().enumerate() {
            let orphans: Vec<Slot> = links.iter().map(|link| link.to).collect();
            self.join(&orphans, layer);
        }
    }

    /// The entry point after that node was removed: a node of the highest layer.
    fn entry_after(&self, old: &Node) -> Option<Slot> {
        let level = |slot: &Slot| self.node(*slot).level();
        // The highest layer in which the old one had links is the highest one left, as all of a layer hang together.
        let links = old.layers.iter().rev().find(|links| !links.is_empty());
        if let Some(slot) = links.and_then(|links| links.iter().map(|link| link.to).max_by_key(level)) {
            return Some(slot);
        }
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.is_some());
        nodes.map(|(slot, _)| slot as Slot).max_by_key(level)
    }

    /// Links nodes that have lost their common neighbour, nearest pairs first, each with one other.
    fn join(&mut self, orphans: &[Slot], layer: usize) {
        let mut pairs = Vec::new();
        for (i, &a) in orphans.iter().enumerate() {
            for &b in &orphans[i + 1..] {
                if !self.node(a).has_link(layer, b) {
                    pairs.push((self.node(a).code.distance(&self.node(b).code), a, b));
                }
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut joined = Vec::new();
        for (distance, a, b) in pairs {
            let has_room = |slot: Slot| self.node(slot).layers[layer].len() < self.most_links(layer);
            if !joined.contains(&a) && !joined.contains(&b) && has_room(a) && has_room(b) {
                self.link(a, layer, Neighbour { slot: b, distance });
                joined.extend([a, b]);
            }
        }
        for &slot in orphans {
            let Some(entry) = self.entry else { continue };
            if self.node(slot).layers[layer].is_empty() && layer <= self.node(entry).level() {
                let code = &self.node(slot).code;
                let near = self.descend(code, entry, layer);
                let found = self.search_layer(code, &[near], layer, 4 * self.links, slot);
                self.connect(slot, layer, &found);
            }
        }
    }
}
