//! Commands on sets.

use std::ops::ControlFlow;

use super::store::store;
use crate::keyspace::{Db, Event, Key};
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::structures::listpack::Item;
use crate::types::set::{difference, intersect, union};
use crate::types::{Describe, Limits, Set};

use super::scan_args::ScanArgs;

/// Table entries of the set commands.
pub const COMMANDS: &[Spec] = &[
    SADD,
    SCARD,
    SDIFF,
    SDIFFSTORE,
    SINTER,
    SINTERCARD,
    SINTERSTORE,
    SISMEMBER,
    SMEMBERS,
    SMISMEMBER,
    SMOVE,
    SPOP,
    SRANDMEMBER,
    SREM,
    SSCAN,
    SUNION,
    SUNIONSTORE,
];

// ---- members --------------------------------------------------------------------------------

const SADD: Spec = Spec::data("sadd", -3, sadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Adds members to a set, creating it if need be.",
        since: "1.0.0",
        complexity: "O(1) per member.",
        group: Group::Set,
        history: &[("2.4.0", "Several `member` arguments.")],
        args: &[Arg::key("key"), Arg::string("member").multiple()],
        ..Docs::NONE
    });
/// SADD key member [member …] → number of new members.
fn sadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let members = ctx.args.rest(2);
    let limits = &ctx.limits.types;
    let set = ctx.db.write_or_insert(key, || Set::for_members(members.at(0), members.len(), limits))?;
    set.expect(members.len(), limits);
    let added = members.iter().filter(|member| set.add(member, limits)).count();
    ctx.db.changed(key, Event::set("sadd"), added);
    Ok(ctx.reply.int(added as i64))
}

const SREM: Spec = Spec::data("srem", -3, srem)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Removes members of a set; a set without members is deleted.",
        since: "1.0.0",
        complexity: "O(N) for N members removed.",
        group: Group::Set,
        history: &[("2.4.0", "Several `member` arguments.")],
        args: &[Arg::key("key"), Arg::string("member").multiple()],
        ..Docs::NONE
    });
/// SREM key member [member …] → number of removed members.
fn srem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let Some(set) = ctx.db.write_as::<Set>(key)? else { return Ok(ctx.reply.int(0)) };
    let removed = ctx.args.rest(2).iter().filter(|member| set.remove(member)).count();
    ctx.db.changed(key, Event::set("srem"), removed);
    ctx.db.settle::<Set>(key);
    Ok(ctx.reply.int(removed as i64))
}

const SMOVE: Spec = Spec::data("smove", 4, smove)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT)),
    ])
    .docs(Docs {
        summary: "Moves a member from one set to another.",
        since: "1.0.0",
        complexity: "O(1).",
        group: Group::Set,
        args: &[Arg::key("source"), Arg::key("destination").key_spec(1), Arg::string("member")],
        ..Docs::NONE
    });
/// SMOVE source destination member → 1 if the source had the member, else 0.
fn smove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (source, destination) = (ctx.args.key(1), ctx.args.key(2));
    let member = ctx.args.at(3);
    // Both keys are looked up, with the effects of a lookup, before either type matters.
    for key in [source, destination] {
        ctx.db.expire_due(key);
    }
    if ctx.db.find_as::<Set>(source)?.is_none() {
        return Ok(ctx.reply.int(0));
    }
    ctx.db.find_as::<Set>(destination)?;
    let set = ctx.db.write_as::<Set>(source)?.expect("it was there a moment ago");
    if source.bytes == destination.bytes {
        let present = set.contains(member);
        return Ok(ctx.reply.int(i64::from(present)));
    }
    if !set.remove(member) {
        return Ok(ctx.reply.int(0));
    }
    ctx.db.changed(source, Event::set("srem"), 1);
    ctx.db.settle::<Set>(source);
    let limits = &ctx.limits.types;
    let set = ctx.db.write_or_insert(destination, || Set::for_members(member, 1, limits))?;
    let added = usize::from(set.add(member, limits));
    ctx.db.changed(destination, Event::set("sadd"), added);
    Ok(ctx.reply.int(1))
}

const SISMEMBER: Spec = Spec::data("sismember", 3, sismember)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Tells whether a set has a member.",
        since: "1.0.0",
        complexity: "O(1).",
        group: Group::Set,
        args: &[Arg::key("key"), Arg::string("member")],
        ..Docs::NONE
    });
/// SISMEMBER key member → 1 if the set has the member, else 0.
fn sismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<Set>(ctx.args.key(1))?;
    let present = set.is_some_and(|set| set.contains(ctx.args.at(2)));
    Ok(ctx.reply.int(i64::from(present)))
}

const SMISMEMBER: Spec = Spec::data("smismember", -3, smismember)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Tells for each of several members whether a set has it.",
        since: "6.2.0",
        complexity: "O(N) for N members asked for.",
        group: Group::Set,
        args: &[Arg::key("key"), Arg::string("member").multiple()],
        ..Docs::NONE
    });
/// SMISMEMBER key member [member …] → 1 or 0 for each member.
fn smismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let members = ctx.args.rest(2);
    let set = ctx.db.read_as::<Set>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let replied = reply.array(members.len());
    match set {
        Some(set) => set.contains_each(members.iter(), |present| _ = reply.int(i64::from(present))),
        None => members.iter().for_each(|_| _ = reply.int(0)),
    }
    Ok(replied)
}

const SCARD: Spec = Spec::data("scard", 2, scard)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Counts the members of a set.",
        since: "1.0.0",
        complexity: "O(1).",
        group: Group::Set,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// SCARD key → number of members.
fn scard(ctx: &mut Ctx<'_>) -> CmdResult {
    let len = ctx.db.read_as::<Set>(ctx.args.key(1))?.map_or(0, Set::len);
    Ok(ctx.reply.int(len as i64))
}

const SMEMBERS: Spec = Spec::data("smembers", 2, smembers)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output_order"])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Answers all members of a set.",
        since: "1.0.0",
        complexity: "O(N) for N members.",
        group: Group::Set,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// SMEMBERS key → all members.
fn smembers(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(set) = ctx.db.read_as::<Set>(ctx.args.key(1))? else { return Ok(ctx.reply.set(0)) };
    let replied = ctx.reply.set(set.len());
    ctx.reply.each(set.iter(), |reply, member| _ = reply.item(member));
    Ok(replied)
}

const SSCAN: Spec = Spec::data("sscan", -3, sscan)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Goes through the members of a set, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls until the cursor is 0 again, for N members.",
        group: Group::Set,
        args: &[
            Arg::key("key"),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });
/// SSCAN key cursor [MATCH pattern] [COUNT count] → next cursor, and some members.
fn sscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.args.cursor(2)?;
    let set = ctx.db.read_as::<Set>(ctx.args.key(1))?;
    let start = ctx.reply.defer();
    let Some(set) = set else { return Ok(ctx.reply.end_scan(start, 0, 0)) };
    let options = ScanArgs::parse(ctx.args, 3, "")?;
    let (reply, mut found) = (&mut ctx.reply, 0);
    let cursor = options.run(reply, cursor, |reply, cursor| {
        let mut seen = 0;
        let next = set.scan(cursor, |member| {
            seen += 1;
            if options.pattern.matches(member.text(&mut itoa::Buffer::new())) {
                reply.item(member);
                found += 1;
            }
        });
        (next, seen)
    });
    Ok(ctx.reply.end_scan(start, cursor, found))
}

// ---- members at random ----------------------------------------------------------------------

const SRANDMEMBER: Spec = Spec::data("srandmember", -2, srandmember)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Answers random members of a set.",
        since: "1.0.0",
        complexity: "O(1) without a count, else O(N) for a count of N.",
        group: Group::Set,
        history: &[("2.6.0", "The argument `count`, optional.")],
        args: &[Arg::key("key"), Arg::integer("count").since("2.6.0").optional()],
        ..Docs::NONE
    });
/// SRANDMEMBER key → a random member, or null.
/// SRANDMEMBER key count → `count` distinct random members; with a negative count, members may repeat.
fn srandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = if ctx.args.len() == 3 { Some(ctx.args.int(2)?) } else { None };
    if count == Some(i64::MIN) {
        return Err(out_of_range());
    }
    let mut rng = fork(ctx);
    let set = ctx.db.read_as::<Set>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(count) = count else {
        return Ok(match set.and_then(|set| set.random(&mut rng)) {
            Some(member) => reply.item(member),
            None => reply.null(),
        });
    };
    let Some(set) = set else { return Ok(reply.array(0)) };
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        let replied = reply.array(n);
        reply.in_steps(n, |reply, _, n| set.random_repeated(n, &mut rng, |member| _ = reply.item(member)));
        return Ok(replied);
    }
    let replied = reply.array(n.min(set.len()));
    let _ = set.random_distinct(n, &mut rng, |member| {
        reply.item(member);
        reply.proceed()
    });
    Ok(replied)
}

/// The error for a count whose negation overflows.
fn out_of_range() -> Error {
    Error::text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
}

/// A generator to use while the keyspace, which owns the shared generator, is borrowed.
fn fork(ctx: &mut Ctx<'_>) -> Rng {
    Rng::new(ctx.db.rng().next_u64())
}

const SPOP: Spec = Spec::data("spop", -2, spop)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Removes random members of a set and answers them.",
        since: "1.0.0",
        complexity: "O(1) without a count, else O(N) for a count of N.",
        group: Group::Set,
        history: &[("3.2.0", "The argument `count`.")],
        args: &[Arg::key("key"), Arg::integer("count").since("3.2.0").optional()],
        ..Docs::NONE
    });
/// SPOP key → a removed random member, or null.
/// SPOP key count → `count` removed random members.
fn spop(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.args.len() {
        2 => pop_one(ctx),
        3 => pop_many(ctx),
        _ => Err(Error::Syntax),
    }
}

fn pop_one(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let mut rng = fork(ctx);
    let Some(set) = ctx.db.write_as::<Set>(key)? else { return Ok(ctx.reply.null()) };
    let (reply, feed) = (&mut ctx.reply, &mut *ctx.feed);
    let mut replied = None;
    set.pop(1, &mut rng, &ctx.limits.types, |member| {
        replied = Some(reply.item(member));
        feed.instead(&[b"SREM", key.bytes, member.text(&mut itoa::Buffer::new())]);
    });
    ctx.db.changed(key, Event::set("spop"), 1);
    ctx.db.settle::<Set>(key);
    Ok(replied.expect("no empty set is kept under a key"))
}

/// Largest number of members propagated in one SREM.
const REMOVED_AT_ONCE: usize = 1024;

fn pop_many(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let count = num::parse_i64(ctx.args.at(2)).and_then(|n| usize::try_from(n).ok());
    let count = count.ok_or(Error::NegativeCount)?;
    let mut rng = fork(ctx);
    let Some(set) = ctx.db.write_as::<Set>(key)? else { return Ok(ctx.reply.set(0)) };
    if count == 0 {
        return Ok(ctx.reply.set(0));
    }
    let (popped, all) = (count.min(set.len()), count >= set.len());
    let reply = &mut ctx.reply;
    let replied = reply.set(popped);
    // The members, concatenated, and the end of each.
    let (mut texts, mut ends) = (Vec::new(), Vec::new());
    set.pop(count, &mut rng, &ctx.limits.types, |member| {
        reply.item(member);
        if !all {
            member.write_to(&mut texts);
            ends.push(texts.len());
        }
    });
    ctx.db.changed(key, Event::set("spop"), popped);
    ctx.db.settle::<Set>(key);
    if all {
        let remove: &[u8] = if ctx.db.space().lazy.server_del { b"UNLINK" } else { b"DEL" };
        ctx.feed.instead(&[remove, key.bytes]);
        return Ok(replied);
    }
    let mut start = 0;
    for ends in ends.chunks(REMOVED_AT_ONCE) {
        let mut request: Vec<&[u8]> = vec![b"SREM", key.bytes];
        for &end in ends {
            request.push(&texts[start..end]);
            start = end;
        }
        ctx.feed.instead(&request);
    }
    Ok(replied)
}

// ---- set algebra ----------------------------------------------------------------------------

/// Looks up the keys in `range`; `None` for each missing set.
pub(super) fn look_up<'a>(
    ctx: &mut Ctx<'a>,
    range: std::ops::Range<usize>,
) -> Result<Vec<Option<Key<'a>>>, Error> {
    let mut keys = Vec::with_capacity(range.len());
    for i in range {
        let key = ctx.args.key(i);
        keys.push(ctx.db.read_as::<Set>(key)?.map(|_| key));
    }
    Ok(keys)
}

/// The sets of `keys`, which have been looked up, in order. If there are many, repetitions are omitted.
pub(super) fn sets<'d>(db: &'d Db<'_>, keys: impl IntoIterator<Item = Option<Key<'d>>>) -> Vec<&'d Set> {
    /// Number of sets up to which a repetition costs less than searching for repetitions.
    const FEW: usize = 8;
    let set = |key| db.look_as::<Set>(key).expect("no key goes away while they are looked up");
    let mut sets: Vec<&Set> = keys.into_iter().flatten().map(set).collect();
    if sets.len() > FEW {
        let mut places: Vec<(usize, usize)> =
            sets.iter().enumerate().map(|(place, &set)| (std::ptr::from_ref(set).addr(), place)).collect();
        places.sort_unstable();
        places.dedup_by_key(|(address, _)| *address);
        if places.len() < sets.len() {
            places.sort_unstable_by_key(|&(_, place)| place);
            sets = places.into_iter().map(|(_, place)| sets[place]).collect();
        }
    }
    sets
}

/// `key [key …]` as the first arguments.
const SOURCES: &[KeySpec] = &[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS))];

/// `destination key [key …]` as the first arguments.
const DESTINATION_AND_SOURCES: &[KeySpec] = &[
    KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    KeySpec::at(2).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
];

const SINTER: Spec = Spec::data("sinter", -2, sinter)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(SOURCES)
    .tips(&["nondeterministic_output_order"])
    .docs(Docs {
        summary: "Answers the members that all sets have.",
        since: "1.0.0",
        complexity: "O(N*M) for N members in the smallest of M sets.",
        group: Group::Set,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });
/// SINTER key [key …] → members common to all sets.
fn sinter(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 1..ctx.args.len())?;
    if keys.iter().any(Option::is_none) {
        return Ok(ctx.reply.set(0));
    }
    let (start, mut n) = (ctx.reply.defer(), 0);
    let out = &mut ctx.reply;
    let _ = intersect(&mut sets(&ctx.db, keys), |member| {
        out.item(member);
        n += 1;
        out.proceed()
    });
    Ok(ctx.reply.end_set(start, n))
}

const SINTERSTORE: Spec = Spec::data("sinterstore", -3, sinterstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SET)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE)),
        KeySpec::at(2).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
    ])
    .docs(Docs {
        summary: "Stores the members that all sets have.",
        since: "1.0.0",
        complexity: "O(N*M) for N members in the smallest of M sets.",
        group: Group::Set,
        args: &[Arg::key("destination"), Arg::key("key").key_spec(1).multiple()],
        ..Docs::NONE
    });
/// SINTERSTORE destination key [key …] → number of stored members common to all sets.
fn sinterstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 2..ctx.args.len())?;
    let mut result = Set::new();
    if keys.iter().all(Option::is_some) {
        let _ = intersect(&mut sets(&ctx.db, keys), |member| {
            result.add_item(member, &ctx.limits.types);
            ControlFlow::Continue(())
        });
    }
    store(ctx, ctx.args.key(1), result, Event::set("sinterstore"))
}

const SINTERCARD: Spec = Spec::data("sintercard", -3, sintercard)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(&[KeySpec::at(1).count(0, 1, 1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Counts the members that all sets have.",
        since: "7.0.0",
        complexity: "O(N*M) for N members in the smallest of M sets.",
        group: Group::Set,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Docs::NONE
    });
/// SINTERCARD numkeys key [key …] [LIMIT limit] → number of members common to all sets, at most `limit`.
fn sintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let numkeys = num::parse_i64(ctx.args.at(1)).filter(|&n| n > 0);
    let numkeys = numkeys.ok_or_else(|| Error::text("ERR numkeys should be greater than 0"))?;
    let end =
        usize::try_from(numkeys).ok().and_then(|n| n.checked_add(2)).filter(|&end| end <= ctx.args.len());
    let end = end.ok_or_else(|| Error::text("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = 0;
    let mut i = end;
    while i < ctx.args.len() {
        let value = ctx.args.get(i + 1).filter(|_| ctx.args.is(i, "LIMIT")).ok_or(Error::Syntax)?;
        limit = num::parse_i64(value)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
        i += 2;
    }
    let keys = look_up(ctx, 2..end)?;
    let mut n = 0;
    if keys.iter().all(Option::is_some) {
        let _ = intersect(&mut sets(&ctx.db, keys), |_| {
            n += 1;
            if n == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    Ok(ctx.reply.int(n as i64))
}

const SUNION: Spec = Spec::data("sunion", -2, sunion)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(SOURCES)
    .tips(&["nondeterministic_output_order"])
    .docs(Docs {
        summary: "Answers the members that any of the sets has.",
        since: "1.0.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });
/// SUNION key [key …] → members of any set.
fn sunion(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 1..ctx.args.len())?;
    let (start, mut n) = (ctx.reply.defer(), 0);
    let out = &mut ctx.reply;
    let _ = union(&sets(&ctx.db, keys), &ctx.limits.types, |member| {
        out.item(member);
        n += 1;
        out.proceed()
    });
    Ok(ctx.reply.end_set(start, n))
}

const SUNIONSTORE: Spec = Spec::data("sunionstore", -3, sunionstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SET)
    .keys(DESTINATION_AND_SOURCES)
    .docs(Docs {
        summary: "Stores the members that any of the sets has.",
        since: "1.0.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[Arg::key("destination"), Arg::key("key").key_spec(1).multiple()],
        ..Docs::NONE
    });
/// SUNIONSTORE destination key [key …] → number of stored members of any set.
fn sunionstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 2..ctx.args.len())?;
    let mut result = Set::new();
    for set in sets(&ctx.db, keys) {
        set.iter().for_each(|member| _ = result.add_item(member, &ctx.limits.types));
    }
    store(ctx, ctx.args.key(1), result, Event::set("sunionstore"))
}

const SDIFF: Spec = Spec::data("sdiff", -2, sdiff)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .keys(SOURCES)
    .tips(&["nondeterministic_output_order"])
    .docs(Docs {
        summary: "Answers the members of the first set that no other set has.",
        since: "1.0.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });
/// SDIFF key [key …] → members of the first set that are in no other.
fn sdiff(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 1..ctx.args.len())?;
    let (start, mut n) = (ctx.reply.defer(), 0);
    let out = &mut ctx.reply;
    let _ = subtract(&ctx.db, &ctx.limits.types, keys, |member| {
        out.item(member);
        n += 1;
        out.proceed()
    });
    Ok(ctx.reply.end_set(start, n))
}

const SDIFFSTORE: Spec = Spec::data("sdiffstore", -3, sdiffstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SET)
    .keys(DESTINATION_AND_SOURCES)
    .docs(Docs {
        summary: "Stores the members of the first set that no other set has.",
        since: "1.0.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[Arg::key("destination"), Arg::key("key").key_spec(1).multiple()],
        ..Docs::NONE
    });
/// SDIFFSTORE destination key [key …] → number of stored members of the first set that are in no other.
fn sdiffstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx, 2..ctx.args.len())?;
    let mut result = Set::new();
    let _ = subtract(&ctx.db, &ctx.limits.types, keys, |member| {
        result.add_item(member, &ctx.limits.types);
        ControlFlow::Continue(())
    });
    store(ctx, ctx.args.key(1), result, Event::set("sdiffstore"))
}

/// Calls `each` with the members of the first set that are in no other, until it breaks.
pub(super) fn subtract<'d>(
    db: &'d Db<'_>,
    limits: &Limits,
    keys: Vec<Option<Key<'d>>>,
    each: impl FnMut(Item<'d>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut keys = keys.into_iter();
    // Without a first set the difference is empty. The first set may also be among the others.
    match sets(db, keys.next()).first() {
        Some(first) => difference(first, &mut sets(db, keys), limits, each),
        None => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    #[test]
    fn members_come_and_go() {
        check(
            r#"
            SADD s 3 1 2 2
            SADD s 3 x
            SISMEMBER s x
            SISMEMBER s y
            SMISMEMBER s 1 y 2
            SMISMEMBER nosuch 1
            SCARD s
            SREM s 1 2 9
            SREM s 3 x
            EXISTS s
            SMEMBERS s
            SADD one a
            SMEMBERS one
            SET str v
            SADD str a
            SMEMBERS str
            "#,
            r#"
            (integer) 3
            (integer) 1
            (integer) 1
            (integer) 0
            1) (integer) 1
            2) (integer) 0
            3) (integer) 1
            1) (integer) 0
            (integer) 4
            (integer) 2
            (integer) 2
            (integer) 0
            (empty array)
            (integer) 1
            1) "a"
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn members_move() {
        check(
            r#"
            SADD a 1 x
            SMOVE a b 2
            SMOVE a b x
            SMEMBERS b
            SMOVE a a 1
            SMOVE a b 1
            EXISTS a
            SMOVE a b 1
            SET str v
            SMOVE a str 1
            SMOVE b str x
            OBJECT ENCODING b
            "#,
            r#"
            (integer) 2
            (integer) 0
            (integer) 1
            1) "x"
            (integer) 1
            (integer) 1
            (integer) 0
            (integer) 0
            OK
            (integer) 0
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "listpack"
            "#,
        );
    }

    #[test]
    fn random_members() {
        check(
            r#"
            SADD s a
            SRANDMEMBER s
            SRANDMEMBER s -2
            SRANDMEMBER s 2
            SRANDMEMBER s 0
            SRANDMEMBER nosuch
            SRANDMEMBER nosuch 1
            SRANDMEMBER s 1 2
            SRANDMEMBER s -9223372036854775808
            SPOP s -1
            SPOP s 0
            SPOP s 5
            EXISTS s
            SPOP s
            SADD s a
            SPOP s
            EXISTS s
            SPOP s 1 2
            "#,
            r#"
            (integer) 1
            "a"
            1) "a"
            2) "a"
            1) "a"
            (empty array)
            (nil)
            (empty array)
            (error) ERR syntax error
            (error) ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            (error) ERR value is out of range, must be positive
            (empty array)
            1) "a"
            (integer) 0
            (nil)
            (integer) 1
            "a"
            (integer) 0
            (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn algebra() {
        check(
            r#"
            SADD a 1 2 3 4
            SADD b 2 3 4 x
            SADD c 3 y
            SINTER a b c
            SINTERSTORE r a b
            SMEMBERS r
            SINTERCARD 2 a b
            SINTERCARD 2 a b LIMIT 2
            SINTERCARD 2 a b LIMIT -1
            SINTERCARD 0 a
            SINTERCARD 3 a b
            SINTERCARD 1 a b
            SDIFF a b
            SDIFF nosuch a
            SDIFFSTORE r a c
            SMEMBERS r
            SUNIONSTORE r a b c
            SUNION c c
            SINTER a nosuch
            SINTERSTORE r a nosuch
            EXISTS r
            SET str v
            SINTER nosuch str
            SUNIONSTORE str c
            TYPE str
            "#,
            r#"
            (integer) 4
            (integer) 4
            (integer) 2
            1) "3"
            (integer) 3
            1) "2"
            2) "3"
            3) "4"
            (integer) 3
            (integer) 2
            (error) ERR LIMIT can't be negative
            (error) ERR numkeys should be greater than 0
            (error) ERR Number of keys can't be greater than number of args
            (error) ERR syntax error
            1) "1"
            (empty array)
            (integer) 3
            1) "1"
            2) "2"
            3) "4"
            (integer) 6
            1) "3"
            2) "y"
            (empty array)
            (integer) 0
            (integer) 0
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (integer) 2
            set
            "#,
        );
    }

    /// A set that is named several times counts once.
    #[test]
    fn sets_may_be_named_repeatedly() {
        let mut harness = Harness::default();
        harness.run("SADD a 1 2 3 x");
        harness.run("SADD b 2 3 x y");
        let (many_a, many_b) = ("a ".repeat(20), "b ".repeat(20));
        for (request, answer) in [
            (format!("SINTERCARD 40 {many_a}{many_b}"), 3),
            (format!("SINTERCARD 20 {many_a}"), 4),
            (format!("SINTERSTORE d {many_a}{many_b}"), 3),
            (format!("SUNIONSTORE d {many_b}{many_a}"), 5),
            (format!("SUNIONSTORE d {many_b}{many_a}nosuch"), 5),
            (format!("SDIFFSTORE d {many_a}{many_b}"), 0),
            (format!("SDIFFSTORE d a {many_b}"), 1),
            (format!("SINTERSTORE d {many_a}nosuch"), 0),
        ] {
            assert_eq!(harness.run(&request), format!("(integer) {answer}"), "{request}");
        }
    }

    #[test]
    fn scanning() {
        check(
            r#"
            SADD s 1 2 30
            SSCAN s 0
            SSCAN s 0 MATCH 3*
            SSCAN s 0 COUNT 0
            SSCAN s x
            SSCAN nosuch 0 FOO
            SSCAN s 0 NOVALUES
            "#,
            r#"
            (integer) 3
            1) "0"
            2) 1) "1"
               2) "2"
               3) "30"
            1) "0"
            2) 1) "30"
            (error) ERR syntax error
            (error) ERR invalid cursor
            1) "0"
            2) (empty array)
            (error) ERR syntax error
            "#,
        );
    }
}
