//! Commands on sorted sets that block until there is a member.

use std::ops::Range;

use super::timeout::timeout;
use super::zset::{End, MultiPop, pop_first};
use crate::clients::blocking::{Need, Wait};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::clock::UnixMillis;

/// Table entries of the blocking sorted set commands.
pub const COMMANDS: &[Spec] = &[BZMPOP, BZPOPMAX, BZPOPMIN];

pub(super) const TAKEN: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE);

/// Waits for a sorted set under one of the arguments `keys`.
pub(super) fn wait(ctx: &mut Ctx<'_>, keys: Range<usize>, until: Option<UnixMillis>) -> CmdResult {
    ctx.wait_for(Wait::Keys { keys, until, need: Need::Zset })
}

const BZPOPMIN: Spec = Spec::data("bzpopmin", -3, bzpopmin)
    .flags(Flags::WRITE.with(Flags::FAST).with(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).range(-2, 1, 0).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes the member with the lowest score out of the first set there is, waiting if need be.",
        since: "5.0.0",
        complexity: "O(log(N)) for a set of N members.",
        group: Group::SortedSet,
        history: &[("6.0.0", "Fractions of a second in `timeout`.")],
        args: &[Arg::key("key").multiple(), Arg::double("timeout")],
        ..Docs::NONE
    });

/// BZPOPMIN key [key …] timeout → key, member and score, or null.
fn bzpopmin(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Min)
}

const BZPOPMAX: Spec = Spec::data("bzpopmax", -3, bzpopmax)
    .flags(Flags::WRITE.with(Flags::FAST).with(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).range(-2, 1, 0).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes the member with the highest score out of the first set there is, waiting if need be.",
        since: "5.0.0",
        complexity: "O(log(N)) for a set of N members.",
        group: Group::SortedSet,
        history: &[("6.0.0", "Fractions of a second in `timeout`.")],
        args: &[Arg::key("key").multiple(), Arg::double("timeout")],
        ..Docs::NONE
    });

/// BZPOPMAX key [key …] timeout → key, member and score, or null.
fn bzpopmax(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Max)
}

fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let until = timeout(ctx, last)?;
    match pop_first(ctx, 1..last, end)? {
        Some(replied) => Ok(replied),
        None => wait(ctx, 1..last, until),
    }
}

const BZMPOP: Spec = Spec::data("bzmpop", -5, bzmpop)
    .flags(Flags::WRITE.with(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes members with the lowest or highest scores out of the first set there is, waiting if need be.",
        since: "7.0.0",
        complexity: "O(K) + O(M*log(N)) for K keys and a set of N members of which M are taken out.",
        group: Group::SortedSet,
        args: &[
            Arg::double("timeout"),
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// BZMPOP timeout numkeys key [key …] MIN | MAX [COUNT count] → key and removed members, or null.
fn bzmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let popping = MultiPop::parse(&ctx.args, 2)?;
    let until = timeout(ctx, 1)?;
    match popping.run(ctx)? {
        Some(replied) => Ok(replied),
        None => wait(ctx, popping.keys, until),
    }
}
