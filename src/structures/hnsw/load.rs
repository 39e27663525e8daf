//! Building a graph from nodes and links that were saved.

use std::collections::HashMap;

use super::{Code, Graph, Link, MAX_LEVEL, Node, Slot};

/// Why nodes do not make a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// A node is in too many layers, or in none.
    #[error("a node is in too many layers")]
    Level,
    /// A node has more links than it may have.
    #[error("a node has too many links")]
    TooManyLinks,
    /// Two nodes have the same number, or a node has the number 0.
    #[error("two nodes have the same number")]
    Id,
    /// A link leads to no node, to its own node, twice to the same one, to a layer in which its node is not, or in one
    /// direction only.
    #[error("a link has not two ends")]
    Link,
}

/// A node as it was saved.
pub struct LoadedNode {
    /// Number of the node.
    pub id: u64,
    /// Its vector.
    pub code: Code,
    /// Numbers of the nodes it is linked with, for each layer from 0 on.
    pub layers: Vec<Vec<u64>>,
}

impl Graph {
    /// Adds saved nodes to an empty graph. They get slots in their order, from 0 on. O(links) distances.
    ///
    /// # Errors
    /// The nodes do not make a graph.
    ///
    /// # Panics
    /// If the graph is not empty, or the vectors are not stored as its vectors are.
    pub fn load(&mut self, loaded: Vec<LoadedNode>) -> Result<(), LoadError> {
        assert!(self.nodes.is_empty(), "nodes are loaded into an empty graph");
        let mut by_id = HashMap::with_capacity(loaded.len());
        for (slot, node) in loaded.iter().enumerate() {
            if node.layers.is_empty() || node.layers.len() > MAX_LEVEL + 1 {
                return Err(LoadError::Level);
            }
            if node.layers.iter().enumerate().any(|(layer, links)| links.len() > self.most_links(layer)) {
                return Err(LoadError::TooManyLinks);
            }
            let slot = Slot::try_from(slot).expect("memory ends before slots do");
            if node.id == 0 || node.id == u64::MAX || by_id.insert(node.id, slot).is_some() {
                return Err(LoadError::Id);
            }
        }
        let mut nodes = Vec::with_capacity(loaded.len());
        for LoadedNode { id, code, layers } in loaded {
            let link = |id: &u64| by_id.get(id).map(|&to| Link { to, distance: 0.0 }).ok_or(LoadError::Link);
            let layers = layers.iter().map(|ids| ids.iter().map(link).collect()).collect::<Result<_, _>>()?;
            self.last_id = self.last_id.max(id);
            nodes.push(Some(Node { id, code, layers }));
        }
        self.nodes = nodes;
        self.measure()?;
        let highest = |node: &(usize, &Option<Node>)| node.1.as_ref().map_or(0, Node::level);
        self.entry = self.nodes.iter().enumerate().max_by_key(highest).map(|(slot, _)| slot as Slot);
        Ok(())
    }

    /// Checks all links, and sets their distances: each is computed once for both ends of a link.
    fn measure(&mut self) -> Result<(), LoadError> {
        for slot in 0..self.nodes.len() as Slot {
            for layer in 0..self.node(slot).layers.len() {
                for i in 0..self.node(slot).layers[layer].len() {
                    let node = self.node(slot);
                    let links = &node.layers[layer];
                    let to = links[i].to;
                    let other = self.node(to);
                    let twice = links[..i].iter().any(|before| before.to == to);
                    if to == slot || twice || other.level() < layer {
                        return Err(LoadError::Link);
                    }
                    let mut ends = other.layers[layer].iter();
                    let back = ends.position(|link| link.to == slot).ok_or(LoadError::Link)?;
                    if slot < to {
                        let distance = node.code.distance(&other.code);
                        self.node_mut(slot).layers[layer][i].distance = distance;
                        self.node_mut(to).layers[layer][back].distance = distance;
                    }
                }
            }
        }
        Ok(())
    }
}
