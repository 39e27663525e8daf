//! A node of a cluster as a machine: events and the time go in, actions come out.
//!
//! The owner of a [`Machine`] tells it of connections, packets and the time, and carries out the [`Action`]s that
//! [`Machine::settle`] returns, in their order. The order matters: what must be durable comes before what tells others
//! of it. A vote, for example, is written and synced before it is sent, or a node that restarts could vote twice.
//!
//! - [`links`]: connections, heartbeats and when they are sent;
//! - [`packets`]: what a packet changes;
//! - [`failures`]: who is suspected, who has failed, and whether the cluster serves clients;
//! - [`ownership`]: who owns which slot, by the larger epoch;
//! - [`election`]: how a replica takes over from a primary that has failed;
//! - [`manual`]: how it takes over on demand;
//! - [`orphans`]: how a replica moves to a primary that has none left;
//! - [`commands`]: what an administrator changes.
//!
//! The rules are those of the Redis Cluster specification, with the constants of Redis 7.2.

mod commands;
mod election;
mod failures;
mod links;
mod manual;
mod orphans;
mod ownership;
mod packets;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;

use bytes::Bytes;

pub use commands::Refused;
pub use manual::Manual;

use super::bus::Kind;
use super::nodes::{Flags, LinkId, Node, NodeId, NodeKey, Nodes};
use super::slots::SlotSet;
use super::{Moment, Now};
use crate::stats::log::Level;
use crate::stdx::bits::bit_set;
use crate::stdx::rng::Rng;

/// Milliseconds between two calls of [`Machine::tick`].
pub const TICK_MS: i64 = 100;

/// What the machine must know of the server that it is part of.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// The time.
    pub now: Now,
    /// Offset of the data.
    pub offset: u64,
    /// Whether the server follows a primary.
    pub follows: bool,
    /// Milliseconds since something last came from that primary.
    pub data_age_ms: i64,
}

/// What an administrator has set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Milliseconds of silence after which a node is suspected.
    pub node_timeout_ms: i64,
    /// Milliseconds between pings to nodes drawn by chance.
    pub ping_interval_ms: i64,
    /// Number of node timeouts after which the data of a replica are too old to take over; 0 for any age.
    pub replica_validity_factor: i64,
    /// Milliseconds between two pings of a primary to its replicas, in their stream.
    pub replica_ping_ms: i64,
    /// Replicas that a primary keeps when one moves to another primary.
    pub migration_barrier: usize,
    /// Whether replicas move to other primaries by themselves.
    pub allow_replica_migration: bool,
    /// Whether the cluster serves nobody while a slot is not served.
    pub require_full_coverage: bool,
    /// Whether this node never takes over unasked.
    pub no_failover: bool,
    /// Address to announce; empty for the one that others see.
    pub ip: String,
    /// Host name to announce; empty for none.
    pub hostname: String,
    /// Name for people to announce; empty for none.
    pub human_name: String,
    /// Ports to announce: for clients, for clients with TLS, and of the bus.
    pub ports: (u16, u16, u16),
    /// Whether the bus uses TLS.
    pub tls: bool,
    /// Milliseconds for which a node that was removed does not come back.
    pub blacklist_ms: i64,
    /// Milliseconds after which a failover on demand is given up.
    pub manual_timeout_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_timeout_ms: 15_000,
            ping_interval_ms: 1000,
            replica_validity_factor: 10,
            replica_ping_ms: 10_000,
            migration_barrier: 1,
            allow_replica_migration: true,
            require_full_coverage: true,
            no_failover: false,
            ip: String::new(),
            hostname: String::new(),
            human_name: String::new(),
            ports: (0, 0, 0),
            tls: false,
            blacklist_ms: 60_000,
            manual_timeout_ms: 5000,
        }
    }
}

/// What the owner of the machine is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Write what the node knows to its file, and sync it if `sync`, before anything else is done.
    Save {
        /// Whether it must survive a loss of power.
        sync: bool,
    },
    /// Open a connection.
    Connect {
        /// Its number.
        link: LinkId,
        /// Where to.
        ip: String,
        /// Port of the bus there.
        port: u16,
    },
    /// Send a packet.
    Send {
        /// Over which connection.
        link: LinkId,
        /// The packet.
        packet: Bytes,
    },
    /// Close a connection.
    Close {
        /// Its number.
        link: LinkId,
    },
    /// Become a replica of the primary at this address, from whatever was before.
    Follow {
        /// Its address.
        ip: String,
        /// Its port for clients, with TLS if replication uses TLS.
        port: u16,
        /// Its other port for clients.
        tls_port: u16,
    },
    /// Become a primary.
    Lead,
    /// Remove all data.
    Empty,
    /// Let clients write nothing for so many milliseconds.
    Pause {
        /// Milliseconds.
        ms: i64,
    },
    /// End the pause.
    Resume,
    /// Pass a message of another node on to subscribers.
    Deliver {
        /// Whether its channel belongs to a slot.
        sharded: bool,
        /// The channel.
        channel: Vec<u8>,
        /// The message.
        payload: Vec<u8>,
    },
    /// Remove the keys of slots that have got another owner.
    RemoveKeys(SlotSet),
    /// Slots that this node's shard no longer serves: whoever waits for something in them is told.
    SlotsLeft(SlotSet),
    /// The cluster begins to serve clients, or stops.
    Served(bool),
    /// Write a line to the log.
    Log(Level, String),
}

bit_set! {
    /// What is to be done before actions are returned.
    struct Todo: u8 {
        SAVE = 0;
        SYNC = 1;
        STATE = 2;
        FAILOVER = 3;
        MANUAL = 4;
    }
}

/// A connection, as the machine sees it.
#[derive(Clone, Debug)]
struct Link {
    /// Who is at the other end, if that is known.
    node: Option<NodeKey>,
    /// Whether this node opened it.
    outgoing: bool,
    connected: bool,
    created_at: Moment,
    /// Address of the other end, of a connection that was accepted.
    peer: Box<str>,
    /// This end's address.
    local: Box<str>,
}

/// Packets by kind.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    /// Sent.
    pub sent: [u64; Kind::ALL.len()],
    /// Received.
    pub received: [u64; Kind::ALL.len()],
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// A node of a cluster.
#[derive(Debug)]
pub struct Machine {
    /// What it knows of all nodes.
    pub nodes: Nodes,
    /// What an administrator has set.
    pub settings: Settings,
    /// Packets sent and received.
    pub counts: Counts,
    /// Kind of packets that are ignored, as if they had been lost.
    pub ignored: Option<Kind>,
    rng: Rng,
    links: HashMap<LinkId, Link>,
    next_link: u64,
    actions: Vec<Action>,
    todo: Todo,
    /// Nodes that were removed, and until when they must not come back.
    blacklist: Vec<(NodeId, Moment)>,
    election: election::Election,
    manual: manual::Progress,
    /// When the machine began.
    began_at: Moment,
    /// When this node was last among a minority of primaries.
    minority_at: Moment,
    ticks: u64,
    /// Number of suspected nodes.
    suspected: usize,
    /// Slots whose keys are to be removed.
    foreign: SlotSet,
    /// Slots that this node's shard has lost.
    left: SlotSet,
    /// A slot changed its owner.
    pub slots_version: u64,
}

impl Machine {
    /// A node with what was in its file, or a new one. Random choices follow from `rng`.
    pub fn new(nodes: Nodes, settings: Settings, rng: Rng, now: Moment) -> Machine {
        let mut machine = Machine {
            nodes,
            settings: Settings::default(),
            counts: Counts::default(),
            ignored: None,
            rng,
            links: HashMap::new(),
            next_link: 0,
            actions: Vec::new(),
            todo: Todo::STATE,
            blacklist: Vec::new(),
            election: election::Election::default(),
            manual: manual::Progress::default(),
            began_at: now,
            minority_at: Moment::NEVER,
            ticks: 0,
            suspected: 0,
            foreign: SlotSet::default(),
            left: SlotSet::default(),
            slots_version: 0,
        };
        machine.nodes.ok = false;
        machine.set_settings(settings);
        machine.count_sizes();
        machine
    }

    /// A cluster of one node that nobody knows, with a random name.
    pub fn alone(rng: &mut Rng, now: Moment) -> Nodes {
        let id = NodeId::random(rng);
        Nodes::new(Node::new(id, Flags::PRIMARY | Flags::MYSELF, NodeId::random(rng), now))
    }

    /// Takes over what an administrator has set.
    pub fn set_settings(&mut self, settings: Settings) {
        let me = self.nodes.myself_mut();
        let before = (me.ip.clone(), me.hostname.clone(), me.human_name.clone(), me.flags);
        if !settings.ip.is_empty() {
            me.ip = settings.ip.as_str().into();
        } else if !self.settings.ip.is_empty() {
            // The next packet tells the address that others see.
            me.ip = "".into();
        }
        me.hostname = settings.hostname.as_str().into();
        me.human_name = settings.human_name.as_str().into();
        (me.port, me.tls_port, me.bus_port) = settings.ports;
        me.flags.set(Flags::NOFAILOVER, settings.no_failover);
        me.flags.set(Flags::EXTENSIONS | Flags::LIGHT_PUBLISH, true);
        if before != (me.ip.clone(), me.hostname.clone(), me.human_name.clone(), me.flags) {
            self.todo.set(Todo::SAVE, true);
        }
        self.todo.set(Todo::STATE, true);
        self.settings = settings;
    }

    /// Does what follows from what has happened, and returns what is to be done, in this order.
    pub fn settle(&mut self, local: &Local) -> Vec<Action> {
        // Each round does what the one before asked for; nothing asks for itself.
        for _ in 0..4 {
            let todo = self.todo;
            self.todo = todo.and(Todo::SAVE | Todo::SYNC);
            if todo.has(Todo::MANUAL) && self.nodes.myself().is_replica() {
                self.continue_manual(local);
            }
            if todo.has(Todo::FAILOVER) && self.nodes.myself().is_replica() {
                self.continue_election(local);
            }
            if todo.has(Todo::STATE) {
                self.update_state(local.now.at);
            }
            if !self.todo.has(Todo::MANUAL | Todo::FAILOVER | Todo::STATE) {
                break;
            }
        }
        if !self.foreign.is_empty() {
            let slots = std::mem::take(&mut self.foreign);
            self.actions.push(Action::RemoveKeys(slots));
        }
        if !self.left.is_empty() {
            let slots = std::mem::take(&mut self.left);
            self.actions.push(Action::SlotsLeft(slots));
        }
        let mut actions = std::mem::take(&mut self.actions);
        if self.todo.has(Todo::SAVE) {
            actions.insert(0, Action::Save { sync: self.todo.has(Todo::SYNC) });
            self.todo = self.todo.without(Todo::SAVE | Todo::SYNC);
        }
        actions
    }

    fn save(&mut self) {
        self.todo = self.todo | Todo::SAVE;
    }

    fn save_synced(&mut self) {
        self.todo = self.todo | Todo::SAVE | Todo::SYNC;
    }

    fn log(&mut self, level: Level, text: impl Into<String>) {
        self.actions.push(Action::Log(level, text.into()));
    }

    /// Primaries that are enough to decide something.
    fn quorum(&self) -> usize {
        self.nodes.size / 2 + 1
    }
}
