//! The commands of a cluster: what nodes tell of themselves and each other, and what operators change.
//!
//! - [`about`]: who the nodes are, and which slots they own;
//! - [`nodes`]: nodes join, leave, and take over;
//! - [`slots`]: slots get another owner;
//! - [`keys`]: the keys of a slot;
//! - [`migration`]: slots move as a whole;
//! - [`stats`]: what is known of slots;
//! - [`scan`]: iteration over the keys of all nodes;
//! - [`connection`]: what a client asks for itself.

pub mod about;
pub mod connection;
pub mod keys;
pub mod migration;
pub mod nodes;
pub mod scan;
pub mod slots;
pub mod stats;

use crate::clients::ClientKey;
use crate::cluster::machine::{Local, Machine};
use crate::cluster::nodes::{NodeId, NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{CmdResult, Docs, Flags, Group, Spec};

/// Table entries of the cluster commands.
pub const COMMANDS: &[Spec] =
    &[connection::ASKING, CLUSTER, scan::CLUSTERSCAN, connection::READONLY, connection::READWRITE];

const DOCS: Docs = Docs { group: Group::Cluster, ..Docs::NONE };

/// Flags of commands that tell something.
const TELLS: Flags = Flags::LOADING.with(Flags::STALE);
/// Flags of commands that change something of the cluster.
const CHANGES: Flags = Flags::ADMIN.with(Flags::STALE).with(Flags::NO_ASYNC_LOADING);

const CLUSTER: Spec = Spec::container(
    "cluster",
    -2,
    &[
        slots::ADDSLOTS,
        slots::ADDSLOTSRANGE,
        nodes::BUMPEPOCH,
        migration::CANCELSLOTMIGRATIONS,
        nodes::COUNT_FAILURE_REPORTS,
        keys::COUNTKEYSINSLOT,
        slots::DELSLOTS,
        slots::DELSLOTSRANGE,
        nodes::FAILOVER,
        keys::FLUSHSLOT,
        slots::FLUSHSLOTS,
        nodes::FORGET,
        keys::GETKEYSINSLOT,
        migration::GETSLOTMIGRATIONS,
        HELP,
        about::INFO,
        keys::KEYSLOT,
        about::LINKS,
        nodes::MEET,
        migration::MIGRATESLOTS,
        about::MYID,
        about::MYSHARDID,
        about::NODES,
        about::REPLICAS,
        nodes::REPLICATE,
        nodes::RESET,
        nodes::SAVECONFIG,
        nodes::SET_CONFIG_EPOCH,
        slots::SETSLOT,
        about::SHARDS,
        about::SLAVES,
        stats::SLOT_STATS,
        about::SLOTS,
        migration::SYNCSLOTS,
    ],
)
.docs(Docs {
    summary: "Commands about the cluster.",
    since: "3.0.0",
    complexity: "That of the subcommand.",
    ..DOCS
});

const HELP: Spec = Spec::admin("cluster|help", 2, help).flags(TELLS).docs(Docs {
    summary: "Lists the subcommands.",
    since: "5.0.0",
    ..DOCS
});

/// CLUSTER HELP → descriptions of the subcommands.
fn help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let forms = [
        ("ADDSLOTS <slot> [<slot> ...]", "Give slots to this node."),
        ("ADDSLOTSRANGE <first> <last> [<first> <last> ...]", "Give ranges of slots to this node."),
        ("BUMPEPOCH", "Take a new configuration epoch."),
        ("CANCELSLOTMIGRATIONS", "End all moves of slots by MIGRATESLOTS that are not complete."),
        ("COUNT-FAILURE-REPORTS <node-id>", "How many nodes say that a node does not answer."),
        ("COUNTKEYSINSLOT <slot>", "How many keys this node has in a slot."),
        ("DELSLOTS <slot> [<slot> ...]", "Take slots from their owner, as this node sees it."),
        ("DELSLOTSRANGE <first> <last> [<first> <last> ...]", "Take ranges of slots from their owner."),
        ("FAILOVER [FORCE|TAKEOVER]", "Have this replica become the primary."),
        ("FLUSHSLOT <slot> [ASYNC|SYNC]", "Remove the keys of a slot."),
        ("FLUSHSLOTS", "Take all slots from this node, which has no keys."),
        ("FORGET <node-id>", "Remove a node from this node's table."),
        ("GETKEYSINSLOT <slot> <count>", "Keys that this node has in a slot."),
        ("GETSLOTMIGRATIONS", "Moves of slots by MIGRATESLOTS, the latest first."),
        ("INFO", "How the cluster is."),
        ("KEYSLOT <key>", "The slot of a key."),
        ("LINKS", "The connections of the cluster bus."),
        ("MEET <ip> <port> [<bus-port>]", "Join this node's cluster and another node's."),
        (
            "MIGRATESLOTS SLOTSRANGE <first> <last> [<first> <last> ...] NODE <node-id> [SLOTSRANGE ...]",
            "Move slots of this node to another one, with their keys.",
        ),
        ("MYID", "The id of this node."),
        ("MYSHARDID", "The id of this node's shard."),
        (
            "NODES",
            "All nodes, one per line:\n<id> <ip:port> <flags> <primary> <ping> <pong> <epoch> <link> <slot> ...",
        ),
        ("REPLICAS <node-id>", "The replicas of a node."),
        ("REPLICATE <node-id>", "Make this node a replica of another one."),
        ("RESET [HARD|SOFT]", "Forget the cluster."),
        ("SAVECONFIG", "Save what this node knows of the cluster."),
        ("SET-CONFIG-EPOCH <epoch>", "Set the configuration epoch of a new node."),
        (
            "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
            "Begin, end or abandon the move of a slot.",
        ),
        ("SHARDS", "The slots by shard, with the nodes of each."),
        (
            "SLOT-STATS (SLOTSRANGE <first> <last>|ORDERBY <metric> [LIMIT <n>] [ASC|DESC])",
            "What is known of slots.",
        ),
        ("SLOTS", "The ranges of slots, each with the nodes that serve it."),
    ];
    Ok(super::help::help(&mut server.reply(key), "CLUSTER", &forms))
}

/// The table of nodes.
///
/// # Errors
/// This server is not a node of a cluster.
fn table(server: &Server) -> Result<&Nodes, Error> {
    match &server.cluster {
        Some(cluster) => Ok(&cluster.machine.nodes),
        None => Err(disabled()),
    }
}

/// Has the node's machine change something, and carries out what follows.
///
/// # Errors
/// This server is not a node of a cluster.
fn change<R>(server: &mut Server, change: impl FnOnce(&mut Machine, &Local) -> R) -> Result<R, Error> {
    server.cluster_change(change).ok_or_else(disabled)
}

fn disabled() -> Error {
    Error::text("ERR This instance has cluster support disabled")
}

/// The node that argument `i` names.
///
/// # Errors
/// There is none.
fn node(nodes: &Nodes, args: &Args<'_>, i: usize) -> Result<NodeKey, Error> {
    let found = NodeId::parse(args.at(i)).and_then(|id| nodes.find(&id));
    found.ok_or_else(|| Error::quoting(&[b"ERR Unknown node ", args.at(i)]))
}

/// The slot that argument `i` is the number of.
///
/// # Errors
/// There is none.
fn slot(args: &Args<'_>, i: usize) -> Result<Slot, Error> {
    Slot::parse(args.at(i)).ok_or_else(|| Error::text("ERR Invalid or out of range slot"))
}
