//! Commands on the pending entries of a group: who has them, and giving them to another consumer.

use super::stream::{write_entry, write_id};
use super::stream_groups::no_key_or_group;
use super::stream_read::{consumer, feed_claimed, feed_consumer, feed_dropped};
use crate::keyspace::Event;
use crate::resp::{Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::num;
use crate::types::Stream;
use crate::types::stream::{Claim, Claimed, GroupAt, IdBuf, PendingEntry, StreamId};

/// Commands on pending entries.
pub const COMMANDS: &[Spec] = &[XAUTOCLAIM, XCLAIM, XPENDING];

/// The group named by argument 2 of the stream at argument 1.
fn find_group(ctx: &mut Ctx<'_>) -> Result<GroupAt, Error> {
    let args = ctx.args;
    let stream = ctx.db.write_as::<Stream>(args.key(1))?;
    let group = stream.and_then(|stream| stream.find_group(args.at(2)));
    group.ok_or_else(|| no_key_or_group(args.at(1), args.at(2)))
}

const XPENDING: Spec = Spec::data("xpending", -3, xpending)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells what is pending in a group.",
        since: "5.0.0",
        complexity: "O(M) for M consumers, or O(log(N)+K) for K entries looked at of N that are pending.",
        group: Group::Stream,
        history: &[("6.2.0", "The option `IDLE` and exclusive ranges.")],
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::block(
                "filters",
                &[
                    Arg::integer("min-idle-time").token("IDLE").optional().since("6.2.0"),
                    Arg::string("start"),
                    Arg::string("end"),
                    Arg::integer("count"),
                    Arg::string("consumer").optional(),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]] → a summary, or entries.
fn xpending(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let mut range = None;
    if args.len() != 3 {
        let timed = args.is(3, "IDLE");
        if !(6..=9).contains(&args.len()) {
            return Err(Error::Syntax);
        }
        let (i, min_idle) = if timed { (5, args.int(4)?) } else { (3, 0) };
        if args.len() < i + 3 {
            return Err(Error::Syntax);
        }
        let count = usize::try_from(args.int(i + 2)?).unwrap_or(0);
        let (start, end) = (StreamId::parse_start(args.at(i))?, StreamId::parse_end(args.at(i + 1))?);
        range = Some((start, end, min_idle, count, args.get(i + 3)));
    }
    let stream = ctx.db.read_as::<Stream>(args.key(1))?;
    let found = stream.and_then(|stream| stream.find_group(args.at(2)).map(|at| stream.group(at)));
    let group = found.ok_or_else(|| no_key_or_group(args.at(1), args.at(2)))?;
    let reply = &mut ctx.reply;
    let Some((start, end, min_idle, count, name)) = range else {
        let replied = reply.array(4);
        reply.int(group.pending_len() as i64);
        let Some((first, last)) = group.pending_edges() else {
            reply.null();
            reply.null();
            reply.null_array();
            return Ok(replied);
        };
        write_id(reply, first);
        write_id(reply, last);
        let (at, mut n) = (reply.defer(), 0);
        let consumers = group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0);
        reply.each(consumers, |reply, (_, consumer)| {
            reply.array(2);
            reply.bulk(consumer.name());
            reply.bulk_int(consumer.pending_len() as i64);
            n += 1;
        });
        return Ok(reply.end_array(at, n));
    };
    let now = ctx.now.0;
    let idle_enough =
        |entry: &PendingEntry| min_idle <= 0 || now.saturating_sub(entry.delivered_ms) >= min_idle;
    let (at, mut n) = (reply.defer(), 0);
    let mut write = |reply: &mut Reply<'_>, entry: PendingEntry| {
        reply.array(4);
        write_id(reply, entry.id);
        match entry.consumer {
            Some(consumer) => {
                reply.bulk(group.consumer(consumer).name());
                reply.int(now.saturating_sub(entry.delivered_ms).max(0));
            }
            None => {
                reply.bulk(b"");
                reply.int(-1);
            }
        }
        reply.int(entry.deliveries as i64);
        n += 1;
    };
    match name {
        None => reply.each(group.pending(start, end).filter(idle_enough).take(count), &mut write),
        Some(name) => {
            if let Some(consumer) = group.find_consumer(name) {
                let entries = group.pending_of(consumer, start, end);
                reply.each(entries.filter(idle_enough).take(count), &mut write);
            }
        }
    }
    Ok(reply.end_array(at, n))
}

const XCLAIM: Spec = Spec::data("xclaim", -6, xclaim)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Gives pending entries to a consumer, and returns them.",
        since: "5.0.0",
        complexity: "O(log(N)) for each id, for N entries that are pending.",
        group: Group::Stream,
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("id").multiple(),
            Arg::integer("ms").token("IDLE").optional(),
            Arg::unix_time("unix-time-milliseconds").token("TIME").optional(),
            Arg::integer("count").token("RETRYCOUNT").optional(),
            Arg::word("force", "FORCE").optional(),
            Arg::word("justid", "JUSTID").optional(),
            Arg::string("lastid").token("LASTID").optional(),
        ],
        ..Docs::NONE
    });

/// XCLAIM key group consumer min-idle-time id [id …] [option …] → the entries that the consumer has now.
fn xclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key, now) = (ctx.args, ctx.args.key(1), ctx.now.0);
    let at = find_group(ctx)?;
    let invalid = |what: &str| Error::text(format!("ERR Invalid {what} argument for XCLAIM"));
    let min_idle = num::parse_i64(args.at(4)).ok_or_else(|| invalid("min-idle-time"))?;
    let mut ids = Vec::with_capacity(args.len() - 5);
    ids.extend(args.rest(5).iter().map_while(|id| StreamId::parse(id, 0).ok()));
    let mut claim = Claim {
        min_idle_ms: min_idle.max(0),
        delivered_ms: now,
        deliveries: None,
        counts: true,
        force: false,
    };
    let (mut last_id, mut i) = (StreamId::MIN, 5 + ids.len());
    while i < args.len() {
        let more = i + 1 < args.len();
        let int = |what: &str| num::parse_i64(args.at(i + 1)).ok_or_else(|| invalid(what));
        let taken = if args.is(i, "FORCE") {
            claim.force = true;
            1
        } else if args.is(i, "JUSTID") {
            claim.counts = false;
            1
        } else if more && args.is(i, "IDLE") {
            claim.delivered_ms = now.saturating_sub(int("IDLE option")?);
            2
        } else if more && args.is(i, "TIME") {
            claim.delivered_ms = int("TIME option")?;
            2
        } else if more && args.is(i, "RETRYCOUNT") {
            claim.deliveries = u64::try_from(int("RETRYCOUNT option")?).ok();
            2
        } else if more && args.is(i, "LASTID") {
            last_id = StreamId::parse(args.at(i + 1), 0)?;
            2
        } else {
            return Err(Error::quoting(&[b"ERR Unrecognized XCLAIM option '", args.at(i), b"'"]));
        };
        i += taken;
    }
    // A delivery in the future, or before there was time, happens now. One that is replayed happened when it says,
    // although the clock here may be behind.
    if claim.delivered_ms < 0 || claim.delivered_ms > now && ctx.db.removes_due_keys() {
        claim.delivered_ms = now;
    }
    ctx.feed.nothing();
    let names = (args.at(2), args.at(3));
    let (consumer, mut untold) = consumer(&mut ctx.db, key, at, names.1, now);
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    let mut group = stream.group_mut(at);
    let mut changes = 0;
    if last_id > group.group().last_id() {
        group.advance(last_id);
        changes += 1;
    }
    let just_ids = !claim.counts;
    let (start, mut n) = (ctx.reply.defer(), 0);
    for id in ids {
        match group.claim(id, consumer, &claim, now) {
            Claimed::Entry(entry) => {
                if just_ids {
                    write_id(&mut ctx.reply, id)
                } else {
                    write_entry(&mut ctx.reply, entry)
                };
                n += 1;
                changes += 1;
                untold = false;
                if let Some(pending) = group.group().find_pending(id) {
                    feed_claimed(ctx.feed, key.bytes, names, &pending, group.group().last_id());
                }
            }
            Claimed::Dropped(entry) => {
                changes += 1;
                feed_dropped(ctx.feed, key.bytes, (names.0, group.group()), &entry);
            }
            Claimed::No => {}
        }
    }
    if untold {
        feed_consumer(ctx.feed, key.bytes, names);
    }
    if changes > 0 && n == 0 && !last_id.is_zero() {
        let (read, mut digits, mut id) = (group.group().entries_read(), itoa::Buffer::new(), IdBuf::new());
        let read = digits.format(read.map_or(-1, |read| read as i64)).as_bytes();
        let last_id = group.group().last_id().format(&mut id);
        ctx.feed.instead(&[b"XGROUP", b"SETID", key.bytes, names.0, last_id, b"ENTRIESREAD", read]);
    }
    ctx.db.changed_beside(key, Event::DELIVERED, changes);
    Ok(ctx.reply.end_array(start, n))
}

const XAUTOCLAIM: Spec = Spec::data("xautoclaim", -6, xautoclaim)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Gives entries that have been pending for long to a consumer, and returns them.",
        since: "6.2.0",
        complexity: "O(1) if COUNT is small.",
        group: Group::Stream,
        history: &[("7.0.0", "A third element: the ids of entries that no longer exist.")],
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("start"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("justid", "JUSTID").optional(),
        ],
        ..Docs::NONE
    });

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID] → where to go on, the entries that the
/// consumer has now, and the ids of those that no longer exist.
fn xautoclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key, now) = (ctx.args, ctx.args.key(1), ctx.now.0);
    let min_idle = num::parse_i64(args.at(4));
    let min_idle =
        min_idle.ok_or_else(|| Error::text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?;
    let start = StreamId::parse_start(args.at(5))?;
    let (mut count, mut just_ids, mut i) = (100, false, 6);
    while i < args.len() {
        if i + 1 < args.len() && args.is(i, "COUNT") {
            let n = num::parse_i64(args.at(i + 1)).filter(|n| (1..=i64::MAX / 16).contains(n));
            count = n.ok_or_else(|| Error::text("ERR COUNT must be > 0"))? as u64;
            i += 2;
        } else if args.is(i, "JUSTID") {
            just_ids = true;
            i += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    let at = find_group(ctx)?;
    ctx.feed.nothing();
    let names = (args.at(2), args.at(3));
    let (consumer, untold) = consumer(&mut ctx.db, key, at, names.1, now);
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    let mut group = stream.group_mut(at);
    let heard = !matches!(ctx.feed, Feed::Unheard);
    let (reply, mut claimed) = (&mut ctx.reply, Vec::new());
    let whole = reply.defer();
    let listed = reply.defer();
    let outcome = group.auto_claim(consumer, start, min_idle.max(0), count, !just_ids, now, |entry| {
        if heard {
            claimed.push(entry.id);
        }
        if just_ids {
            write_id(reply, entry.id)
        } else {
            write_entry(reply, entry)
        };
    });
    reply.end_array(listed, outcome.claimed as usize);
    reply.insert(whole, |reply| {
        reply.array(3);
        write_id(reply, outcome.cursor);
    });
    let replied = reply.array(outcome.dropped.len());
    for dropped in &outcome.dropped {
        write_id(reply, dropped.id);
    }
    if untold && outcome.claimed == 0 {
        feed_consumer(ctx.feed, key.bytes, names);
    }
    // Both ascend, and are passed on in the order in which they were come by.
    let mut dropped = outcome.dropped.iter().peekable();
    for id in claimed {
        while let Some(entry) = dropped.next_if(|entry| entry.id < id) {
            feed_dropped(ctx.feed, key.bytes, (names.0, group.group()), entry);
        }
        if let Some(pending) = group.group().find_pending(id) {
            feed_claimed(ctx.feed, key.bytes, names, &pending, group.group().last_id());
        }
    }
    for entry in dropped {
        feed_dropped(ctx.feed, key.bytes, (names.0, group.group()), entry);
    }
    ctx.db.changed_beside(key, Event::DELIVERED, outcome.claimed as usize + outcome.dropped.len());
    Ok(replied)
}
