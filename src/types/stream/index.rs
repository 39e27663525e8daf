//! The nodes of a stream in order. The last node is stored separately: it receives new entries, and most streams have
//! no other.

use super::id::StreamId;
use super::node::Node;
use super::sorted::{At, Keyed, Sorted};
use crate::stdx::alloc::relocation::Relocator;

/// The nodes of a stream, ascending by master id. There are earlier nodes only if there is a last one.
#[derive(Clone, Default)]
pub(super) struct Index {
    earlier: Sorted<Node>,
    last: Option<Node>,
}

/// Position of a node. Valid until nodes are added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NodeAt {
    Earlier(At),
    Last,
}

impl Index {
    /// Number of nodes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.earlier.len() + usize::from(self.last.is_some())
    }

    /// The node at `at`.
    #[inline]
    pub(super) fn get(&self, at: NodeAt) -> &Node {
        match at {
            NodeAt::Earlier(at) => self.earlier.get(at),
            NodeAt::Last => self.last.as_ref().expect("a place has a node"),
        }
    }

    /// The node at `at`, mutable.
    #[inline]
    pub(super) fn update<R>(&mut self, at: NodeAt, change: impl FnOnce(&mut Node) -> R) -> R {
        match at {
            NodeAt::Earlier(at) => self.earlier.update(at, change),
            NodeAt::Last => change(self.last.as_mut().expect("a place has a node")),
        }
    }

    /// The position of the first node.
    #[inline]
    pub(super) fn front(&self) -> Option<NodeAt> {
        self.earlier.front().map(NodeAt::Earlier).or_else(|| self.back())
    }

    /// The position of the last node.
    #[inline]
    pub(super) fn back(&self) -> Option<NodeAt> {
        self.last.is_some().then_some(NodeAt::Last)
    }

    /// The position after `at`.
    #[inline]
    pub(super) fn next(&self, at: NodeAt) -> Option<NodeAt> {
        match at {
            NodeAt::Earlier(at) => self.earlier.next(at).map(NodeAt::Earlier).or_else(|| self.back()),
            NodeAt::Last => None,
        }
    }

    /// The position before `at`.
    #[inline]
    pub(super) fn prev(&self, at: NodeAt) -> Option<NodeAt> {
        match at {
            NodeAt::Earlier(at) => self.earlier.prev(at),
            NodeAt::Last => self.earlier.back(),
        }
        .map(NodeAt::Earlier)
    }

    /// The position of the node that would contain an entry with this id, if there is one. O(log n).
    #[inline]
    pub(super) fn covering(&self, id: StreamId) -> Option<NodeAt> {
        if self.last.as_ref().is_some_and(|last| last.id() <= id) {
            return Some(NodeAt::Last);
        }
        self.earlier.at_or_before(id).map(NodeAt::Earlier)
    }

    /// The last node, mutable.
    #[inline]
    pub(super) fn last_mut(&mut self) -> Option<&mut Node> {
        self.last.as_mut()
    }

    /// Adds a node at the end. O(1).
    pub(super) fn push(&mut self, node: Node) {
        if let Some(full) = self.last.replace(node) {
            self.earlier.push(full);
        }
    }

    /// Removes the node at `at`.
    pub(super) fn remove(&mut self, at: NodeAt) {
        match at {
            NodeAt::Earlier(at) => {
                self.earlier.remove_at(at);
            }
            NodeAt::Last => {
                self.last = self.earlier.back().map(|at| self.earlier.remove_at(at));
            }
        }
    }

    /// Moves blocks of one chunk of nodes whose places are sparse. Returns whether more chunks follow.
    pub(super) fn relocate(&mut self, chunk: usize, by: &mut Relocator) -> bool {
        if self.earlier.relocate_chunk(chunk, by, Node::relocate) {
            return true;
        }
        if let Some(last) = &mut self.last {
            last.relocate(by);
        }
        false
    }

    /// The nodes in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.earlier.iter().chain(&self.last)
    }

    /// Bytes allocated for the index itself, without the nodes.
    pub(super) fn bytes(&self) -> usize {
        self.earlier.bytes()
    }

    /// Panics if an invariant is violated. O(n).
    pub(super) fn check(&self) {
        self.earlier.check();
        assert!(self.last.is_some() || self.earlier.is_empty(), "the last node is at hand");
        let last = self.earlier.back().map(|at| self.earlier.get(at).id());
        assert!(self.last.as_ref().is_none_or(|node| Some(node.id()) > last), "master ids ascend");
    }
}
