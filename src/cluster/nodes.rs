//! What a node knows of all nodes, itself among them: addresses, roles, slots and epochs.
//!
//! What always holds: a slot is in the set of a node exactly if the node is its owner; a node is in the list of its
//! primary's replicas exactly if it names that primary; there is always a node `myself`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Index, IndexMut};

use super::slots::SlotSet;
use super::{Moment, SLOTS, Slot};
use crate::stdx::bits::bit_set;
use crate::stdx::rng::Rng;

/// Length of a [`NodeId`] in bytes.
pub const ID_LEN: usize = 40;

/// Most nodes that are kept. Real clusters have up to about a thousand.
pub const MAX_NODES: usize = NOBODY as usize;

/// Name of a node or of a shard: 40 digits or lower-case letters, usually hexadecimal digits drawn by chance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; ID_LEN]);

impl NodeId {
    /// A name that nobody else draws.
    pub fn random(rng: &mut Rng) -> NodeId {
        let mut id = [0; ID_LEN];
        rng.fill_hex(&mut id);
        NodeId(id)
    }

    /// The name written as `text`; `None` if it is no such name.
    pub fn parse(text: &[u8]) -> Option<NodeId> {
        let id: [u8; ID_LEN] = text.try_into().ok()?;
        id.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()).then_some(NodeId(id))
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// The characters as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and letters are text")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str()[..8])
    }
}

bit_set! {
    /// What a node is, and how it is. The bits are those of packets; the order is that in which clients see the names.
    pub struct Flags: u16 {
        MYSELF = 4, "myself";
        PRIMARY = 0, "master";
        REPLICA = 1, "slave";
        /// It does not answer this node.
        PFAIL = 2, "fail?";
        /// Most primaries agree that it does not answer.
        FAIL = 3, "fail";
        /// Its name is not known yet.
        HANDSHAKE = 5, "handshake";
        /// Its address is not known.
        NOADDR = 6, "noaddr";
        /// It is to be sent a MEET.
        MEET = 7, "";
        /// A primary to which replicas may migrate: it had replicas once.
        MIGRATE_TO = 8, "";
        /// It does not start an election by itself.
        NOFAILOVER = 9, "nofailover";
        /// It understands extensions of pings.
        EXTENSIONS = 10, "";
        /// It understands published messages with the short header.
        LIGHT_PUBLISH = 11, "";
        /// It understands messages of modules with the short header.
        LIGHT_MODULE = 12, "";
    }
}

impl Flags {
    /// Bits that describe the role.
    pub const ROLE: Flags = Flags::PRIMARY.with(Flags::REPLICA);
    /// Bits by which a node counts as failing.
    pub const FAILING: Flags = Flags::PFAIL.with(Flags::FAIL);

    /// The known bits of a packet's flags.
    pub fn from_bits(bits: u16) -> Flags {
        Flags(bits & 0x1fff)
    }
}

/// Where a node is in the table, for as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeKey(u16);

/// No node's place.
const NOBODY: u16 = u16::MAX;

/// Number of a connection of the bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What is known of a node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, or a random one until it has told its name.
    pub id: NodeId,
    /// Role and state.
    pub flags: Flags,
    /// Address; empty if it is not known.
    pub ip: Box<str>,
    /// Port for clients without TLS; 0 for none.
    pub port: u16,
    /// Port for clients with TLS; 0 for none.
    pub tls_port: u16,
    /// Port of its bus.
    pub bus_port: u16,
    /// Host name that it announces; empty for none.
    pub hostname: Box<str>,
    /// Name for people that it announces; empty for none.
    pub human_name: Box<str>,
    /// The shard that it belongs to: a primary and its replicas.
    pub shard: NodeId,
    /// Last version of its configuration.
    pub config_epoch: u64,
    /// The primary it copies, if it is a replica and its primary is known.
    primary: Option<NodeKey>,
    /// Who copies it.
    replicas: Vec<NodeKey>,
    slots: SlotSet,
    /// When it became known.
    pub created_at: Moment,
    /// When the oldest ping that it has not answered was sent; never if it answered all.
    pub ping_sent: Moment,
    /// When its last answer arrived, here or, as others say, there.
    pub pong_received: Moment,
    /// When anything last arrived from it.
    pub data_received: Moment,
    /// When it was flagged as failed.
    pub failed_at: Moment,
    /// When a replica of it last got this node's vote.
    pub voted_at: Moment,
    /// When it lost its last working replica.
    pub orphaned_at: Moment,
    /// Offset of its data in the stream of its shard, as it last said.
    pub offset: u64,
    /// When it said so.
    pub offset_at: Moment,
    /// Primaries that say it does not answer, and when they last said it.
    pub(super) failure_reports: Vec<(NodeKey, Moment)>,
    /// Connection to it that this node opened.
    pub link: Option<LinkId>,
    /// Connection from it that this node accepted.
    pub inbound: Option<LinkId>,
}

impl Node {
    /// A node of which only the name and the flags are known. It is in a shard of its own.
    pub fn new(id: NodeId, flags: Flags, shard: NodeId, now: Moment) -> Node {
        Node {
            id,
            flags,
            ip: "".into(),
            port: 0,
            tls_port: 0,
            bus_port: 0,
            hostname: "".into(),
            human_name: "".into(),
            shard,
            config_epoch: 0,
            primary: None,
            replicas: Vec::new(),
            slots: SlotSet::default(),
            created_at: now,
            ping_sent: Moment::NEVER,
            pong_received: Moment::NEVER,
            data_received: Moment::NEVER,
            failed_at: Moment::NEVER,
            voted_at: Moment::NEVER,
            orphaned_at: Moment::NEVER,
            offset: 0,
            offset_at: Moment::NEVER,
            failure_reports: Vec::new(),
            link: None,
            inbound: None,
        }
    }

    /// Whether one of these flags is set.
    pub fn is(&self, flags: Flags) -> bool {
        self.flags.has(flags)
    }

    /// Whether it is a primary.
    pub fn is_primary(&self) -> bool {
        self.is(Flags::PRIMARY)
    }

    /// Whether it is a replica.
    pub fn is_replica(&self) -> bool {
        self.is(Flags::REPLICA)
    }

    /// Whether it counts as failed.
    pub fn has_failed(&self) -> bool {
        self.is(Flags::FAIL)
    }

    /// Whether it seems to work: it is not flagged as failed, nor suspected.
    pub fn seems_alive(&self) -> bool {
        !self.is(Flags::FAILING)
    }

    /// Its slots.
    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Whether it votes: it is a primary that owns slots.
    pub fn votes(&self) -> bool {
        self.is_primary() && !self.slots.is_empty()
    }

    /// The primary it copies.
    pub fn primary(&self) -> Option<NodeKey> {
        self.primary
    }

    /// Who copies it.
    pub fn replicas(&self) -> &[NodeKey] {
        &self.replicas
    }

    /// How it is called in the log: its name for people, if it has one, besides.
    pub fn title(&self) -> String {
        format!("{} ({})", self.id, self.human_name)
    }

    /// Port for clients, with or without TLS.
    pub fn client_port(&self, tls: bool) -> u16 {
        if tls { self.tls_port } else { self.port }
    }
}

/// All nodes, and who owns which slot.
#[derive(Clone, Debug)]
pub struct Nodes {
    list: Vec<Option<Box<Node>>>,
    free: Vec<NodeKey>,
    by_id: HashMap<NodeId, NodeKey>,
    me: NodeKey,
    owner: Box<[u16; SLOTS]>,
    migrating: BTreeMap<Slot, NodeKey>,
    importing: BTreeMap<Slot, NodeKey>,
    /// The largest epoch seen.
    pub current_epoch: u64,
    /// The epoch in which this node last voted.
    pub last_vote_epoch: u64,
    /// Whether the cluster serves clients, as this node sees it.
    pub ok: bool,
    /// Number of primaries that own slots.
    pub size: usize,
}

impl Nodes {
    /// A cluster of one node.
    pub fn new(mut myself: Node) -> Nodes {
        myself.flags.set(Flags::MYSELF, true);
        let me = NodeKey(0);
        Nodes {
            by_id: HashMap::from([(myself.id, me)]),
            list: vec![Some(Box::new(myself))],
            free: Vec::new(),
            me,
            owner: Box::new([NOBODY; SLOTS]),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            current_epoch: 0,
            last_vote_epoch: 0,
            ok: false,
            size: 1,
        }
    }

    /// This node's place.
    #[inline]
    pub fn me(&self) -> NodeKey {
        self.me
    }

    /// This node.
    pub fn myself(&self) -> &Node {
        &self[self.me]
    }

    /// This node.
    pub fn myself_mut(&mut self) -> &mut Node {
        let me = self.me;
        &mut self[me]
    }

    /// The primary of this node's shard: itself, or the one it copies.
    pub fn my_primary(&self) -> Option<NodeKey> {
        if self.myself().is_primary() { Some(self.me) } else { self.myself().primary }
    }

    /// The node at a place, if it is still there.
    pub fn get(&self, key: NodeKey) -> Option<&Node> {
        self.list.get(usize::from(key.0))?.as_deref()
    }

    /// The node at a place, if it is still there.
    pub fn get_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.list.get_mut(usize::from(key.0))?.as_deref_mut()
    }

    /// The node with this name.
    pub fn find(&self, id: &NodeId) -> Option<NodeKey> {
        self.by_id.get(id).copied()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Never: there is always this node.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// All nodes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        let places = self.list.iter().enumerate();
        places.filter_map(|(place, node)| Some((NodeKey(place as u16), node.as_deref()?)))
    }

    /// The places of all nodes.
    pub fn keys(&self) -> Vec<NodeKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// A node drawn by chance. O(1) unless many were removed.
    pub fn pick(&self, rng: &mut Rng) -> NodeKey {
        loop {
            let key = NodeKey(rng.index(self.list.len()) as u16);
            if self.get(key).is_some() {
                return key;
            }
        }
    }

    /// Adds a node; `None` if there is one of this name, or no room.
    pub fn insert(&mut self, node: Node) -> Option<NodeKey> {
        if self.by_id.contains_key(&node.id) || self.len() >= MAX_NODES {
            return None;
        }
        let key = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            NodeKey((self.list.len() - 1) as u16)
        });
        self.by_id.insert(node.id, key);
        self.list[usize::from(key.0)] = Some(Box::new(node));
        Some(key)
    }

    /// Removes a node and all that refers to it: its slots have no owner, its replicas no primary.
    pub fn remove(&mut self, key: NodeKey) -> Option<Node> {
        assert!(key != self.me, "this node stays in its own table");
        for slot in self.get(key)?.slots.clone().iter() {
            self.set_owner(slot, None);
        }
        self.migrating.retain(|_, other| *other != key);
        self.importing.retain(|_, other| *other != key);
        for replica in self[key].replicas.clone() {
            self.set_primary(replica, None);
        }
        self.set_primary(key, None);
        for node in self.list.iter_mut().flatten() {
            node.failure_reports.retain(|(reporter, _)| *reporter != key);
        }
        let node = self.list[usize::from(key.0)].take()?;
        self.by_id.remove(&node.id);
        self.free.push(key);
        Some(*node)
    }

    /// Gives a node another name; false if somebody has it.
    pub fn rename(&mut self, key: NodeKey, id: NodeId) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        let old = std::mem::replace(&mut self[key].id, id);
        self.by_id.remove(&old);
        self.by_id.insert(id, key);
        true
    }

    /// Makes a node a replica of another one, or of none.
    pub fn set_primary(&mut self, key: NodeKey, primary: Option<NodeKey>) {
        if let Some(old) = self[key].primary
            && old != key
        {
            self[old].replicas.retain(|&replica| replica != key);
            if self[old].replicas.is_empty() {
                self[old].flags.set(Flags::MIGRATE_TO, false);
            }
        }
        let primary = primary.filter(|&primary| primary != key);
        self[key].primary = primary;
        if let Some(primary) = primary {
            self[primary].replicas.push(key);
            self[primary].flags.set(Flags::MIGRATE_TO, true);
        }
    }

    /// The owner of a slot.
    #[inline]
    pub fn owner(&self, slot: Slot) -> Option<NodeKey> {
        let owner = self.owner[slot.index()];
        (owner != NOBODY).then_some(NodeKey(owner))
    }

    /// Whether this node owns a slot.
    #[inline]
    pub fn is_mine(&self, slot: Slot) -> bool {
        self.owner[slot.index()] == self.me.0
    }

    /// Gives a slot to a node, or to none.
    pub fn set_owner(&mut self, slot: Slot, owner: Option<NodeKey>) {
        if let Some(old) = self.owner(slot) {
            self[old].slots.remove(slot);
        }
        if let Some(new) = owner {
            self[new].slots.insert(slot);
        }
        self.owner[slot.index()] = owner.map_or(NOBODY, |key| key.0);
    }

    /// Number of slots that have an owner.
    pub fn assigned(&self) -> usize {
        self.iter().map(|(_, node)| node.slots.len()).sum()
    }

    /// Number of slots whose owner has one of these flags.
    pub fn slots_of(&self, flags: Flags) -> usize {
        self.iter().filter(|(_, node)| node.is(flags)).map(|(_, node)| node.slots.len()).sum()
    }

    /// The node that a slot of this node is being moved to.
    #[inline]
    pub fn migrating_to(&self, slot: Slot) -> Option<NodeKey> {
        if self.migrating.is_empty() { None } else { self.migrating.get(&slot).copied() }
    }

    /// The node that a slot is being moved from, to this node.
    #[inline]
    pub fn importing_from(&self, slot: Slot) -> Option<NodeKey> {
        if self.importing.is_empty() { None } else { self.importing.get(&slot).copied() }
    }

    /// Notes where a slot of this node is being moved to.
    pub fn set_migrating(&mut self, slot: Slot, to: Option<NodeKey>) {
        match to {
            Some(key) => self.migrating.insert(slot, key),
            None => self.migrating.remove(&slot),
        };
    }

    /// Notes where a slot is being moved from, to this node.
    pub fn set_importing(&mut self, slot: Slot, from: Option<NodeKey>) {
        match from {
            Some(key) => self.importing.insert(slot, key),
            None => self.importing.remove(&slot),
        };
    }

    /// Slots that are being moved away from this node, and where to.
    pub fn all_migrating(&self) -> impl Iterator<Item = (Slot, NodeKey)> + '_ {
        self.migrating.iter().map(|(&slot, &key)| (slot, key))
    }

    /// Slots that are being moved to this node, and where from.
    pub fn all_importing(&self) -> impl Iterator<Item = (Slot, NodeKey)> + '_ {
        self.importing.iter().map(|(&slot, &key)| (slot, key))
    }

    /// Forgets all moves of slots.
    pub fn stop_moves(&mut self) {
        self.migrating.clear();
        self.importing.clear();
    }

    /// The configuration epoch of a node's shard: a replica has that of its primary.
    pub fn epoch_of(&self, key: NodeKey) -> u64 {
        match self[key].primary {
            Some(primary) if self[key].is_replica() => self[primary].config_epoch,
            _ => self[key].config_epoch,
        }
    }

    /// The largest epoch of all nodes.
    pub fn max_epoch(&self) -> u64 {
        self.iter().map(|(_, node)| node.config_epoch).fold(self.current_epoch, u64::max)
    }

    /// Number of replicas of a node that seem to work.
    pub fn working_replicas(&self, key: NodeKey) -> usize {
        self[key].replicas.iter().filter(|&&replica| self[replica].seems_alive()).count()
    }

    /// Nodes of a shard, the primary first.
    pub fn shard(&self, id: NodeId) -> Vec<NodeKey> {
        let mut keys: Vec<_> = self.iter().filter(|(_, node)| node.shard == id).map(|(key, _)| key).collect();
        keys.sort_by_key(|&key| !self[key].is_primary());
        keys
    }

    /// Checks what always holds. O(slots + nodes).
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut owned = 0;
        for (key, node) in self.iter() {
            assert!(node.slots.iter().all(|slot| self.owner(slot) == Some(key)));
            owned += node.slots.len();
        }
        assert_eq!(owned, self.owner.iter().filter(|&&owner| owner != NOBODY).count());
        for (key, node) in self.iter() {
            assert_eq!(self.find(&node.id), Some(key));
            assert_eq!(node.is(Flags::MYSELF), key == self.me);
            assert!(node.primary.is_none_or(|primary| self[primary].replicas.contains(&key)));
            assert!(node.replicas.iter().all(|&replica| self[replica].primary == Some(key)));
            assert!(node.failure_reports.iter().all(|&(reporter, _)| self.get(reporter).is_some()));
        }
        assert_eq!(self.iter().count(), self.len());
        let moved = self.migrating.values().chain(self.importing.values());
        assert!(moved.copied().all(|key| self.get(key).is_some()));
    }
}

impl Index<NodeKey> for Nodes {
    type Output = Node;

    fn index(&self, key: NodeKey) -> &Node {
        self.get(key).expect("a place is used as long as its node is there")
    }
}

impl IndexMut<NodeKey> for Nodes {
    fn index_mut(&mut self, key: NodeKey) -> &mut Node {
        self.get_mut(key).expect("a place is used as long as its node is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(rng: &mut Rng, flags: Flags) -> Node {
        Node::new(NodeId::random(rng), flags, NodeId::random(rng), Moment(1))
    }

    fn slot(number: u16) -> Slot {
        Slot::new(usize::from(number)).expect("a slot")
    }

    #[test]
    fn a_node_that_is_removed_leaves_nothing_behind() {
        let mut rng = Rng::new(3);
        let mut nodes = Nodes::new(node(&mut rng, Flags::PRIMARY));
        let primary = nodes.insert(node(&mut rng, Flags::PRIMARY)).expect("room");
        let replica = nodes.insert(node(&mut rng, Flags::REPLICA)).expect("room");
        nodes.set_primary(replica, Some(primary));
        nodes.set_owner(slot(7), Some(primary));
        nodes.set_owner(slot(8), Some(primary));
        nodes.set_owner(slot(8), Some(nodes.me()));
        nodes.set_migrating(slot(8), Some(primary));
        nodes.set_importing(slot(7), Some(primary));
        let me = nodes.me();
        nodes[me].failure_reports.push((primary, Moment(5)));
        nodes.check();
        assert!(nodes.is_mine(slot(8)) && !nodes.is_mine(slot(7)));
        assert_eq!((nodes.assigned(), nodes.migrating_to(slot(8))), (2, Some(primary)));
        assert!(nodes[primary].votes() && nodes[primary].is(Flags::MIGRATE_TO));
        nodes.remove(primary).expect("it is there");
        nodes.check();
        assert_eq!((nodes.owner(slot(7)), nodes[replica].primary()), (None, None));
        assert_eq!((nodes.migrating_to(slot(8)), nodes.importing_from(slot(7))), (None, None));
        assert_eq!(nodes.len(), 2);
        let again = nodes.insert(node(&mut rng, Flags::PRIMARY)).expect("room");
        assert_eq!(again, primary, "places are used again");
        assert!(nodes.rename(again, NodeId::random(&mut rng)));
        assert!(!nodes.rename(again, nodes.myself().id));
        nodes.set_primary(replica, Some(replica));
        assert_eq!(nodes[replica].primary(), None);
        nodes.check();
    }

    #[test]
    fn names_have_forty_digits_or_small_letters() {
        assert!(NodeId::parse(&[b'z'; 40]).is_some());
        for text in [&b""[..], &[b'a'; 39], &[b'a'; 41], &[b'A'; 40], &[b'-'; 40], &[0; 40]] {
            assert_eq!(NodeId::parse(text), None);
        }
    }
}
