//! What is known of slots: SLOT-STATS.

use super::{DOCS, TELLS, slot, table};
use crate::clients::ClientKey;
use crate::cluster::nodes::Nodes;
use crate::cluster::slot::{SLOTS, Slot};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::cluster::slot_stats::SlotStats;
use crate::server::command::{Arg, CmdResult, Docs, Spec};

pub(super) const SLOT_STATS: Spec = Spec::admin("cluster|slot-stats", -4, slot_stats)
    .flags(TELLS)
    .tips(&["nondeterministic_output", "request_policy:all_shards"])
    .docs(Docs {
        summary: "Tells what is known of slots of this node.",
        since: "8.2.0",
        complexity: "O(N) for N slots, O(N log N) if they are sorted",
        args: &[Arg::one_of(
            "filter",
            &[
                Arg::block("slotsrange", &[Arg::integer("start-slot"), Arg::integer("end-slot")])
                    .token("SLOTSRANGE"),
                Arg::block(
                    "orderby",
                    &[
                        Arg::string("metric"),
                        Arg::integer("limit").token("LIMIT").optional(),
                        Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")])
                            .optional(),
                    ],
                )
                .token("ORDERBY"),
            ],
        )],
        ..DOCS
    });

/// CLUSTER SLOT-STATS SLOTSRANGE first last | ORDERBY metric [LIMIT n] [ASC | DESC] → slots of this node's shard, each
/// with its number of keys, and what its requests cost if that is measured.
fn slot_stats(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let nodes = table(server)?;
    let measured = costs(server).is_some();
    let slots: Vec<(Slot, [u64; 4])> = if args.is(2, "SLOTSRANGE") && args.len() == 5 {
        let (first, last) = (slot(&args, 3)?, slot(&args, 4)?);
        if first > last {
            return Err(Error::text(format!(
                "ERR Start slot number {first} is greater than end slot number {last}"
            )));
        }
        first.to(last).filter(|&slot| serves(nodes, slot)).map(|slot| (slot, figures(server, slot))).collect()
    } else if args.is(2, "ORDERBY") {
        let order = Order::parse(&args, measured)?;
        let slots = Slot::all().filter(|&slot| serves(nodes, slot));
        let mut slots: Vec<_> = slots.map(|slot| (slot, figures(server, slot))).collect();
        // Slots that are equal stay in ascending order.
        if order.descending {
            slots.sort_by_key(|(_, figures)| std::cmp::Reverse(figures[order.metric]));
        } else {
            slots.sort_by_key(|(_, figures)| figures[order.metric]);
        }
        slots.truncate(order.limit);
        slots
    } else {
        return Err(Error::text(
            "ERR unknown subcommand or wrong number of arguments for 'SLOT-STATS'. Try CLUSTER HELP.",
        ));
    };
    let shown = if measured { METRICS.len() } else { 1 };
    let mut replied = server.reply(key).array(slots.len());
    for (slot, figures) in slots {
        let mut reply = server.reply(key);
        reply.array(2);
        reply.int(slot.number().into());
        reply.map(shown);
        for (name, figure) in METRICS.iter().zip(figures).take(shown) {
            reply.bulk(name.as_bytes());
            replied = reply.int(figure as i64);
        }
    }
    Ok(replied)
}

/// What is known of a slot. Only the first is known without being measured.
const METRICS: [&str; 4] = ["key-count", "cpu-usec", "network-bytes-in", "network-bytes-out"];

fn costs(server: &Server) -> Option<&SlotStats> {
    server.cluster.as_ref()?.slot_stats.as_deref()
}

/// The figures for [`METRICS`].
fn figures(server: &Server, slot: Slot) -> [u64; 4] {
    let cost = costs(server).map(|costs| costs.of(slot)).unwrap_or_default();
    [server.slot_keys(slot) as u64, cost.ns / 1000, cost.received, cost.sent]
}

/// Whether a slot is one of this node's shard.
fn serves(nodes: &Nodes, slot: Slot) -> bool {
    nodes.owner(slot).is_some_and(|owner| Some(owner) == nodes.my_primary())
}

/// In which order how many slots are shown.
struct Order {
    metric: usize,
    limit: usize,
    descending: bool,
}

impl Order {
    fn parse(args: &Args<'_>, measured: bool) -> Result<Order, Error> {
        let known = if measured { METRICS.len() } else { 1 };
        let metric = METRICS[..known].iter().position(|metric| args.is(3, metric));
        let metric = metric.ok_or_else(|| Error::text("ERR Unrecognized sort metric for ORDERBY."))?;
        let (mut limit, mut descending) = (None, None);
        let twice = || Error::text("ERR Multiple filters of the same type are disallowed.");
        let mut i = 4;
        while i < args.len() {
            if args.is(i, "LIMIT") && i + 1 < args.len() {
                let n = usize::try_from(args.int(i + 1)?).ok().filter(|n| (1..=SLOTS).contains(n));
                let n = n.ok_or_else(|| {
                    Error::text("ERR Limit has to lie in between 1 and 16384 (maximum number of slots).")
                })?;
                if limit.replace(n).is_some() {
                    return Err(twice());
                }
                i += 1;
            } else if args.is(i, "ASC") || args.is(i, "DESC") {
                if descending.replace(args.is(i, "DESC")).is_some() {
                    return Err(twice());
                }
            } else {
                return Err(Error::Syntax);
            }
            i += 1;
        }
        Ok(Order { metric, limit: limit.unwrap_or(SLOTS), descending: descending.unwrap_or(true) })
    }
}
