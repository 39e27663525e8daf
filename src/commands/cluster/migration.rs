//! Slots that move as a whole: MIGRATESLOTS, CANCELSLOTMIGRATIONS, GETSLOTMIGRATIONS, and what nodes say to each other
//! about it (SYNCSLOTS).

use super::{CHANGES, DOCS, table};
use crate::clients::ClientKey;
use crate::cluster::migration::{Outcome, Word};
use crate::cluster::nodes::{NodeId, NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::resp::{Args, Error, Replied};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Databases, Docs, Flags, Spec};
use crate::server::execution::Origin;
use crate::stdx::num;

const RANGE: &[Arg] = &[Arg::integer("start-slot"), Arg::integer("end-slot")];

pub(super) const MIGRATESLOTS: Spec = Spec::admin("cluster|migrateslots", -4, migrateslots)
    .flags(CHANGES)
    .databases(Databases::All)
    .docs(Docs {
        summary: "Moves slots of this node to other ones, with their keys.",
        since: "9.0.0",
        complexity: "O(N) for N slots; the keys move in the background",
        args: &[Arg::block(
            "migration-group",
            &[
                Arg::word("slotsrange-token", "SLOTSRANGE"),
                Arg::block("range", RANGE).multiple(),
                Arg::word("node-token", "NODE"),
                Arg::string("node-id"),
            ],
        )
        .multiple()],
        ..DOCS
    });

/// CLUSTER MIGRATESLOTS SLOTSRANGE first last [first last …] NODE node [SLOTSRANGE …] → OK.
fn migrateslots(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let nodes = table(server)?;
    if !nodes.myself().is_primary() {
        return Err(Error::text("ERR Slot migration can only be used on primary nodes."));
    }
    if nodes.all_migrating().next().is_some() || nodes.all_importing().next().is_some() {
        return Err(Error::text("ERR Slots are being manually migrated"));
    }
    let mut groups: Vec<(SlotSet, NodeKey)> = Vec::new();
    let mut i = 2;
    while i < args.len() {
        if !args.is(i, "SLOTSRANGE") {
            return Err(Error::Syntax);
        }
        let (slots, next) = ranges(&args, i + 1)?;
        if next + 1 >= args.len() || !args.is(next, "NODE") {
            return Err(Error::Syntax);
        }
        let target = target(nodes, args.at(next + 1))?;
        for slot in slots.iter() {
            let Some(owner) = nodes.owner(slot) else {
                return Err(Error::text(format!("ERR Slot {slot} has no node served.")));
            };
            let first = slots.iter().next().and_then(|first| nodes.owner(first));
            if first != Some(owner) {
                return Err(Error::text("ERR Requested slots span multiple shards"));
            }
            if groups.iter().any(|(others, _)| others.contains(slot)) {
                return Err(Error::text("ERR Slot ranges in migrations overlap"));
            }
        }
        if slots.iter().any(|slot| !nodes.is_mine(slot)) {
            return Err(Error::text("ERR Slots are not served by this node."));
        }
        let migrations = server.cluster.as_ref().map(|cluster| &cluster.migrations);
        if let Some(slot) =
            slots.iter().find(|&slot| migrations.is_some_and(|migrations| migrations.of_slot(slot).is_some()))
        {
            return Err(Error::text(format!("ERR I am already migrating slot {slot}.")));
        }
        groups.push((slots, target));
        i = next + 2;
    }
    let asked_by = server.client_line(key);
    server.begin_exports(groups, &asked_by);
    Ok(server.reply(key).ok())
}

/// The node that slots are to move to.
fn target(nodes: &Nodes, name: &[u8]) -> Result<NodeKey, Error> {
    let id = NodeId::parse(name).ok_or_else(|| Error::quoting(&[b"ERR Invalid node name: ", name]))?;
    let node = nodes.find(&id).ok_or_else(|| Error::quoting(&[b"ERR Unknown node name: ", name]))?;
    if node == nodes.me() {
        return Err(Error::text("ERR Target node can not be this node."));
    }
    if nodes[node].is_replica() {
        return Err(Error::text("ERR Target node is not a master"));
    }
    Ok(node)
}

/// The slots in the ranges from argument `i` on, and the argument behind them.
///
/// # Errors
/// They make no sense, or there are none.
fn ranges(args: &Args<'_>, mut i: usize) -> Result<(SlotSet, usize), Error> {
    let mut slots = SlotSet::default();
    let invalid = || Error::text("ERR Invalid or out of range slot");
    while i < args.len() && num::parse_i64(args.at(i)).is_some() {
        if i + 1 >= args.len() {
            return Err(Error::Syntax);
        }
        let first = Slot::parse(args.at(i)).ok_or_else(invalid)?;
        let last = Slot::parse(args.at(i + 1)).ok_or_else(invalid)?;
        if first > last {
            return Err(Error::text(format!(
                "ERR Start slot number {first} is greater than end slot number {last}."
            )));
        }
        if let Some((from, to)) = slots.ranges().find(|&(from, to)| first <= to && from <= last) {
            return Err(Error::text(format!(
                "ERR Slot range {first}-{last} overlaps with previous range {from}-{to}."
            )));
        }
        for slot in first.to(last) {
            slots.insert(slot);
        }
        i += 2;
    }
    if slots.is_empty() { Err(Error::text("ERR No slot ranges specified")) } else { Ok((slots, i)) }
}

pub(super) const CANCELSLOTMIGRATIONS: Spec =
    Spec::admin("cluster|cancelslotmigrations", 2, cancelslotmigrations)
        .flags(CHANGES)
        .databases(Databases::All)
        .docs(Docs {
            summary: "Ends all moves of slots that are not complete, without effect.",
            since: "9.0.0",
            complexity: "O(N) for N moves",
            ..DOCS
        });

/// CLUSTER CANCELSLOTMIGRATIONS → OK.
fn cancelslotmigrations(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let asked_by = server.client_line(key);
    match server.cancel_migrations() {
        0 => Err(Error::text("ERR No migrations ongoing")),
        _ => {
            tracing::info!("Canceled all in progress slot migrations (user request from '{asked_by}')");
            Ok(server.reply(key).ok())
        }
    }
}

pub(super) const GETSLOTMIGRATIONS: Spec =
    Spec::admin("cluster|getslotmigrations", 2, getslotmigrations).flags(CHANGES).docs(Docs {
        summary: "Tells of moves of slots that go on, and of those that ended lately.",
        since: "9.0.0",
        complexity: "O(N) for N moves",
        ..DOCS
    });

/// CLUSTER GETSLOTMIGRATIONS → the moves of slots, the latest first.
fn getslotmigrations(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let jobs = server.cluster.as_ref().map(|cluster| cluster.migrations.jobs()).unwrap_or_default();
    let jobs: Vec<_> = jobs.into_iter().cloned().collect();
    let mut replied = server.reply(key).array(jobs.len());
    for job in jobs {
        let mut reply = server.reply(key);
        reply.map(12);
        let operation = if job.is_export { "EXPORT" } else { "IMPORT" };
        for (name, text) in [
            ("name", job.name.as_str()),
            ("operation", operation),
            ("slot_ranges", &job.ranges()),
            ("target_node", job.target.as_str()),
            ("source_node", job.source.as_str()),
        ] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
        for (name, at) in [
            ("create_time", job.created),
            ("last_update_time", job.updated),
            ("last_ack_time", job.acknowledged),
        ] {
            reply.bulk(name.as_bytes());
            reply.int(at.as_secs());
        }
        for (name, text) in [("state", job.state.name()), ("message", &job.message)] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
        // Nothing is copied on write, and changes are sent at once.
        for name in ["cow_size", "remaining_repl_size"] {
            reply.bulk(name.as_bytes());
            replied = reply.int(0);
        }
    }
    Ok(replied)
}

pub(super) const SYNCSLOTS: Spec = Spec::admin("cluster|syncslots", -3, syncslots)
    .flags(CHANGES.with(Flags::LOGGED).with(Flags::LOADING))
    .docs(Docs {
        summary: "What nodes say to each other while slots move.",
        since: "9.0.0",
        complexity: "Depends on what is said.",
        ..DOCS
    });

/// CLUSTER SYNCSLOTS ESTABLISH SOURCE node NAME name SLOTSRANGE first last [first last …] → OK; or
/// FINISH STATE state NAME name MESSAGE text → OK; or a word of those who move slots, without a reply.
fn syncslots(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.cluster.is_none() && server.execution.origin == Origin::Loading {
        // The file is from a time when this was a node of a cluster.
        return Ok(Replied::later());
    }
    table(server)?;
    if args.is(2, "ESTABLISH") {
        let (source, name, slots) = introduction(&args)?;
        let direct = server.establish_import(key, source, name, slots)?;
        server.tell_copies_of_migration(&args);
        return if direct { Ok(Replied::later()) } else { Ok(server.reply(key).ok()) };
    }
    if args.is(2, "FINISH") {
        let (name, outcome, message) = end(&args)?;
        server.finish_import(&name, outcome, message)?;
        server.tell_copies_of_migration(&args);
        return Ok(server.reply(key).ok());
    }
    if args.is(2, "CAPA") {
        // No capability is known.
        return Ok(Replied::later());
    }
    match Word::parse(args.at(2)) {
        Some(word) if args.len() == 3 => server.hear_source(key, word)?,
        _ => server.hear_nonsense(key)?,
    }
    Ok(Replied::later())
}

/// Source, name and slots of a move.
fn introduction(args: &Args<'_>) -> Result<(NodeId, NodeId, SlotSet), Error> {
    let (mut source, mut name, mut slots) = (None, None, None);
    let mut i = 3;
    while i + 1 < args.len() {
        if args.is(i, "SOURCE") && source.is_none() {
            source = Some(NodeId::parse(args.at(i + 1)).ok_or(Error::Syntax)?);
            i += 2;
        } else if args.is(i, "NAME") && name.is_none() {
            name = Some(NodeId::parse(args.at(i + 1)).ok_or(Error::Syntax)?);
            i += 2;
        } else if args.is(i, "SLOTSRANGE") && slots.is_none() {
            let (found, next) = ranges(args, i + 1)?;
            slots = Some(found);
            i = next;
        } else {
            return Err(Error::Syntax);
        }
    }
    match (source, name, slots) {
        (Some(source), Some(name), Some(slots)) if i == args.len() => Ok((source, name, slots)),
        _ => Err(Error::Syntax),
    }
}

/// Name, outcome and message of a move that has ended.
fn end<'a>(args: &Args<'a>) -> Result<(NodeId, Outcome, &'a str), Error> {
    let (mut name, mut outcome, mut message) = (None, None, "");
    let mut i = 3;
    while i + 1 < args.len() {
        let value = args.at(i + 1);
        if args.is(i, "STATE") {
            outcome = Some(match () {
                () if args.is(i + 1, "SUCCESS") => Outcome::Success,
                () if args.is(i + 1, "FAILED") => Outcome::Failed,
                () if args.is(i + 1, "CANCELED") || args.is(i + 1, "CANCELLED") => Outcome::Cancelled,
                () => return Err(Error::Syntax),
            });
        } else if args.is(i, "NAME") {
            name = Some(NodeId::parse(value).ok_or(Error::Syntax)?);
        } else if args.is(i, "MESSAGE") {
            message = std::str::from_utf8(value).unwrap_or_default();
        } else {
            return Err(Error::Syntax);
        }
        i += 2;
    }
    match (name, outcome) {
        (Some(name), Some(outcome)) if i == args.len() => Ok((name, outcome, message)),
        _ => Err(Error::Syntax),
    }
}
