//! Slots get another owner: ADDSLOTS, DELSLOTS, FLUSHSLOTS and SETSLOT.

use super::{CHANGES, DOCS, change, node, slot, table};
use crate::clients::ClientKey;
use crate::cluster::nodes::{NodeId, NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Spec};

const RANGES: &[Arg] =
    &[Arg::block("start-slot_end-slot", &[Arg::integer("start-slot"), Arg::integer("end-slot")]).multiple()];

pub(super) const ADDSLOTS: Spec = Spec::admin("cluster|addslots", -3, addslots).flags(CHANGES).docs(Docs {
    summary: "Gives slots to this node.",
    since: "3.0.0",
    complexity: "O(N) for N slots",
    args: &[Arg::integer("slot").multiple()],
    ..DOCS
});

/// CLUSTER ADDSLOTS slot [slot …] → OK.
fn addslots(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let slots = listed(table(server)?, &args, 1, true)?;
    add(server, key, &slots)
}

pub(super) const ADDSLOTSRANGE: Spec =
    Spec::admin("cluster|addslotsrange", -4, addslotsrange).flags(CHANGES).docs(Docs {
        summary: "Gives ranges of slots to this node.",
        since: "7.0.0",
        complexity: "O(N) for N slots",
        args: RANGES,
        ..DOCS
    });

/// CLUSTER ADDSLOTSRANGE first last [first last …] → OK.
fn addslotsrange(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let slots = listed(table(server)?, &args, 2, true)?;
    add(server, key, &slots)
}

fn add(server: &mut Server, key: ClientKey, slots: &SlotSet) -> CmdResult {
    change(server, |machine, _| machine.add_slots(slots))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const DELSLOTS: Spec = Spec::admin("cluster|delslots", -3, delslots).flags(CHANGES).docs(Docs {
    summary: "Takes slots from their owner, as this node sees it.",
    since: "3.0.0",
    complexity: "O(N) for N slots",
    args: &[Arg::integer("slot").multiple()],
    ..DOCS
});

/// CLUSTER DELSLOTS slot [slot …] → OK.
fn delslots(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let slots = listed(table(server)?, &args, 1, false)?;
    delete(server, key, &slots)
}

pub(super) const DELSLOTSRANGE: Spec =
    Spec::admin("cluster|delslotsrange", -4, delslotsrange).flags(CHANGES).docs(Docs {
        summary: "Takes ranges of slots from their owner, as this node sees it.",
        since: "7.0.0",
        complexity: "O(N) for N slots",
        args: RANGES,
        ..DOCS
    });

/// CLUSTER DELSLOTSRANGE first last [first last …] → OK.
fn delslotsrange(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let slots = listed(table(server)?, &args, 2, false)?;
    delete(server, key, &slots)
}

fn delete(server: &mut Server, key: ClientKey, slots: &SlotSet) -> CmdResult {
    change(server, |machine, _| machine.del_slots(slots))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

/// The slots that the arguments from 2 on list: one by one if `step` is 1, by their ranges if it is 2.
///
/// # Errors
/// They do not make sense, or one has an owner if they are to be `free`, or none if not, or is listed twice.
fn listed(nodes: &Nodes, args: &Args<'_>, step: usize, free: bool) -> Result<SlotSet, Error> {
    let list = args.rest(2);
    if !list.len().is_multiple_of(step) {
        return Err(Error::arity(if free { "cluster|addslotsrange" } else { "cluster|delslotsrange" }));
    }
    let mut ranges = Vec::with_capacity(list.len() / step);
    for i in (0..list.len()).step_by(step) {
        let (first, last) = (slot(&list, i)?, slot(&list, i + step - 1)?);
        if first > last {
            return Err(Error::text(format!(
                "ERR start slot number {first} is greater than end slot number {last}"
            )));
        }
        ranges.push((first, last));
    }
    let mut slots = SlotSet::default();
    for slot in ranges.into_iter().flat_map(|(first, last)| first.to(last)) {
        match nodes.owner(slot) {
            Some(_) if free => return Err(Error::text(format!("ERR Slot {slot} is already busy"))),
            None if !free => return Err(Error::text(format!("ERR Slot {slot} is already unassigned"))),
            _ if !slots.insert(slot) => {
                return Err(Error::text(format!("ERR Slot {slot} specified multiple times")));
            }
            _ => {}
        }
    }
    Ok(slots)
}

pub(super) const FLUSHSLOTS: Spec =
    Spec::admin("cluster|flushslots", 2, flushslots).flags(CHANGES).docs(Docs {
        summary: "Takes all slots from this node, which must have no keys.",
        since: "3.0.0",
        ..DOCS
    });

/// CLUSTER FLUSHSLOTS → OK.
fn flushslots(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    if !server.keyspace.is_empty() {
        return Err(Error::text("ERR DB must be empty to perform CLUSTER FLUSHSLOTS."));
    }
    change(server, |machine, _| machine.flush_slots())?;
    Ok(server.reply(key).ok())
}

pub(super) const SETSLOT: Spec = Spec::admin("cluster|setslot", -4, setslot).flags(CHANGES).docs(Docs {
    summary: "Begins, ends or abandons the move of a slot from one node to another.",
    since: "3.0.0",
    args: &[
        Arg::integer("slot"),
        Arg::one_of(
            "subcommand",
            &[
                Arg::string("importing").token("IMPORTING").display("node-id"),
                Arg::string("migrating").token("MIGRATING").display("node-id"),
                Arg::string("node").token("NODE").display("node-id"),
                Arg::word("stable", "STABLE"),
            ],
        ),
    ],
    ..DOCS
});

/// CLUSTER SETSLOT slot MIGRATING node | IMPORTING node | STABLE | NODE node → OK.
fn setslot(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let nodes = table(server)?;
    if nodes.myself().is_replica() {
        return Err(Error::text("ERR Please use SETSLOT only with masters."));
    }
    let slot = slot(&args, 2)?;
    if let Some(job) = server.cluster.as_ref().and_then(|cluster| cluster.migrations.of_slot(slot)) {
        let which = if job.is_export { "export" } else { "import" };
        return Err(Error::text(format!("ERR Slot {which} in progress.")));
    }
    if args.is(3, "MIGRATING") && args.len() == 5 {
        if !nodes.is_mine(slot) {
            return Err(Error::text(format!("ERR I'm not the owner of hash slot {slot}")));
        }
        let to = other(nodes, &args)?;
        change(server, |machine, _| machine.migrate_slot(slot, to))?.map_err(refusal)?;
    } else if args.is(3, "IMPORTING") && args.len() == 5 {
        if nodes.is_mine(slot) {
            return Err(Error::text(format!("ERR I'm already the owner of hash slot {slot}")));
        }
        let from = other(nodes, &args)?;
        change(server, |machine, _| machine.import_slot(slot, from))?.map_err(refusal)?;
    } else if args.is(3, "STABLE") && args.len() == 4 {
        change(server, |machine, _| machine.stabilise_slot(slot))?.map_err(refusal)?;
    } else if args.is(3, "NODE") && args.len() == 5 {
        let owner = primary(nodes, node(nodes, &args, 4)?)?;
        assign(server, slot, owner)?;
    } else {
        return Err(Error::text(
            "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
        ));
    }
    Ok(server.reply(key).ok())
}

/// Gives a slot to a node.
///
/// # Errors
/// This node still has keys of it.
fn assign(server: &mut Server, slot: Slot, owner: NodeKey) -> Result<(), Error> {
    let keys = server.slot_keys(slot);
    change(server, |machine, local| machine.assign_slot(slot, owner, keys, local))?.map_err(refusal)
}

/// The primary that argument 4 names.
///
/// # Errors
/// There is no such node, or it is a replica.
fn other(nodes: &Nodes, args: &Args<'_>) -> Result<NodeKey, Error> {
    let found = NodeId::parse(args.at(4)).and_then(|id| nodes.find(&id));
    primary(nodes, found.ok_or_else(|| Error::quoting(&[b"ERR I don't know about node ", args.at(4)]))?)
}

/// # Errors
/// The node is a replica.
fn primary(nodes: &Nodes, node: NodeKey) -> Result<NodeKey, Error> {
    if nodes[node].is_replica() { Err(Error::text("ERR Target node is not a master")) } else { Ok(node) }
}

/// The error for what the machine refuses.
pub(super) fn refusal(refused: crate::cluster::machine::Refused) -> Error {
    Error::text(format!("ERR {refused}"))
}
