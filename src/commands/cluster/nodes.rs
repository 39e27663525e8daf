//! Nodes join and leave a cluster, and take over from each other: MEET, FORGET, REPLICATE, FAILOVER, RESET and what
//! concerns epochs.

use super::slots::refusal;
use super::{CHANGES, DOCS, change, node, table};
use crate::clients::ClientKey;
use crate::cluster::machine::Manual;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Spec};
use crate::stdx::num;

/// Distance of the bus's port from the port for clients, unless it is configured.
const BUS_PORT_OFFSET: i64 = 10_000;

pub(super) const MEET: Spec = Spec::admin("cluster|meet", -4, meet).flags(CHANGES).docs(Docs {
    summary: "Joins this node's cluster and another node's.",
    since: "3.0.0",
    history: &[("4.0.0", "Added the optional argument `cluster_bus_port`.")],
    args: &[
        Arg::string("ip"),
        Arg::integer("port"),
        Arg::integer("cluster-bus-port").since("4.0.0").optional(),
    ],
    ..DOCS
});

/// CLUSTER MEET ip port [bus-port] → OK. The nodes meet later.
fn meet(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    if args.len() > 5 {
        return Err(Error::arity("cluster|meet"));
    }
    let number = |i: usize, what: &[u8]| {
        num::parse_i64(args.at(i))
            .ok_or_else(|| Error::quoting(&[b"ERR Invalid ", what, b" port specified: ", args.at(i)]))
    };
    let port = number(3, b"base")?;
    let bus_port = if args.len() == 5 { number(4, b"bus")? } else { port.saturating_add(BUS_PORT_OFFSET) };
    let valid = |port: i64| u16::try_from(port).ok().filter(|&port| port > 0);
    let (Some(port), Some(bus_port), Ok(ip)) =
        (valid(port), valid(bus_port), std::str::from_utf8(args.at(2)))
    else {
        return Err(invalid_address(&args));
    };
    change(server, |machine, local| machine.meet(ip, port, bus_port, local))?
        .map_err(|_| invalid_address(&args))?;
    Ok(server.reply(key).ok())
}

fn invalid_address(args: &Args<'_>) -> Error {
    Error::quoting(&[b"ERR Invalid node address specified: ", args.at(2), b":", args.at(3)])
}

pub(super) const FORGET: Spec = Spec::admin("cluster|forget", 3, forget).flags(CHANGES).docs(Docs {
    summary: "Removes a node from this node's table.",
    since: "3.0.0",
    args: &[Arg::string("node-id")],
    ..DOCS
});

/// CLUSTER FORGET node → OK.
fn forget(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    change(server, |machine, local| machine.forget(args.at(2), local))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const REPLICATE: Spec = Spec::admin("cluster|replicate", 3, replicate).flags(CHANGES).docs(Docs {
    summary: "Makes this node a replica of a primary.",
    since: "3.0.0",
    args: &[Arg::string("node-id")],
    ..DOCS
});

/// CLUSTER REPLICATE node → OK.
fn replicate(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let primary = node(table(server)?, &args, 2)?;
    let empty = server.keyspace.is_empty();
    change(server, |machine, _| machine.replicate(primary, empty))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const FAILOVER: Spec = Spec::admin("cluster|failover", -2, failover).flags(CHANGES).docs(Docs {
    summary: "Has this replica become the primary of its shard.",
    since: "3.0.0",
    args: &[
        Arg::one_of("options", &[Arg::word("force", "FORCE"), Arg::word("takeover", "TAKEOVER")]).optional()
    ],
    ..DOCS
});

/// CLUSTER FAILOVER [FORCE | TAKEOVER] → OK. Without TAKEOVER it is only begun.
fn failover(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let manual = match args.len() {
        2 => Manual::Plain,
        3 if args.is(2, "FORCE") => Manual::Force,
        3 if args.is(2, "TAKEOVER") => Manual::Takeover,
        3 => return Err(Error::Syntax),
        _ => return Err(Error::arity("cluster|failover")),
    };
    change(server, |machine, local| machine.failover(manual, local))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const RESET: Spec =
    Spec::admin("cluster|reset", -2, reset)
        .flags(Flags::ADMIN.with(Flags::STALE).with(Flags::NOSCRIPT))
        .docs(Docs {
            summary: "Has this node forget the cluster.",
            since: "3.0.0",
            complexity: "O(N) for N nodes; a replica's keys are removed, too",
            args: &[
                Arg::one_of("reset-type", &[Arg::word("hard", "HARD"), Arg::word("soft", "SOFT")]).optional()
            ],
            ..DOCS
        });

/// CLUSTER RESET [HARD | SOFT] → OK.
fn reset(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let hard = match args.len() {
        2 => false,
        3 if args.is(2, "HARD") => true,
        3 if args.is(2, "SOFT") => false,
        3 => return Err(Error::Syntax),
        _ => return Err(Error::arity("cluster|reset")),
    };
    let empty = server.keyspace.is_empty();
    change(server, |machine, local| machine.reset(hard, empty, local))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const BUMPEPOCH: Spec = Spec::admin("cluster|bumpepoch", 2, bumpepoch)
    .flags(CHANGES)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Takes a configuration epoch that is larger than all others.",
        since: "3.0.0",
        ..DOCS
    });

/// CLUSTER BUMPEPOCH → BUMPED or STILL, and the epoch.
fn bumpepoch(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let (bumped, epoch) = change(server, |machine, _| machine.bump_epoch())?;
    let word = if bumped { "BUMPED" } else { "STILL" };
    Ok(server.reply(key).simple(&format!("{word} {epoch}")))
}

pub(super) const SET_CONFIG_EPOCH: Spec =
    Spec::admin("cluster|set-config-epoch", 3, set_config_epoch).flags(CHANGES).docs(Docs {
        summary: "Sets the configuration epoch of a new node.",
        since: "3.0.0",
        args: &[Arg::integer("config-epoch")],
        ..DOCS
    });

/// CLUSTER SET-CONFIG-EPOCH epoch → OK.
fn set_config_epoch(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let epoch = args.int(2)?;
    let epoch = u64::try_from(epoch)
        .map_err(|_| Error::text(format!("ERR Invalid config epoch specified: {epoch}")))?;
    change(server, |machine, _| machine.set_config_epoch(epoch))?.map_err(refusal)?;
    Ok(server.reply(key).ok())
}

pub(super) const COUNT_FAILURE_REPORTS: Spec =
    Spec::admin("cluster|count-failure-reports", 3, count_failure_reports)
        .flags(Flags::ADMIN.with(Flags::STALE))
        .tips(&["nondeterministic_output"])
        .docs(Docs {
            summary: "Tells how many nodes say that a node does not answer.",
            since: "3.0.0",
            complexity: "O(N) for N reports",
            args: &[Arg::string("node-id")],
            ..DOCS
        });

/// CLUSTER COUNT-FAILURE-REPORTS node → number of reports.
fn count_failure_reports(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let node = node(table(server)?, &args, 2)?;
    let reports = change(server, |machine, local| machine.failure_reports(node, local.now.at))?;
    Ok(server.reply(key).int(reports as i64))
}

pub(super) const SAVECONFIG: Spec = Spec::admin("cluster|saveconfig", 2, saveconfig)
    .flags(CHANGES)
    .docs(Docs { summary: "Saves what this node knows of the cluster.", since: "3.0.0", ..DOCS });

/// CLUSTER SAVECONFIG → OK.
fn saveconfig(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    server
        .save_cluster_config(true)
        .map_err(|error| Error::text(format!("ERR error saving the cluster node config: {error}")))?;
    Ok(server.reply(key).ok())
}
