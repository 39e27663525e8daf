//! XINFO: what there is to know about a stream, its groups and their consumers.

use super::help::help;
use super::stream::{write_entries, write_entry, write_id};
use super::stream_groups::no_group;
use crate::resp::{Error, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group as In, KeyFlags, KeySpec, Spec};
use crate::types::Stream;
use crate::types::stream::{Group, StreamId};

/// The command `XINFO` with its subcommands.
pub const COMMANDS: &[Spec] = &[XINFO];

const XINFO: Spec = Spec::container("xinfo", -2, &[CONSUMERS, GROUPS, XINFO_HELP, STREAM]).docs(Docs {
    summary: "A container for commands that tell about streams.",
    since: "5.0.0",
    complexity: "Depends on subcommand.",
    group: In::Stream,
    ..Docs::NONE
});

const READ: KeyFlags = KeyFlags::RO.with(KeyFlags::ACCESS);

const STREAM: Spec = Spec::data("xinfo|stream", -3, stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(READ)])
    .docs(Docs {
        summary: "Tells about a stream.",
        since: "5.0.0",
        complexity: "O(1)",
        group: In::Stream,
        history: &[
            ("6.0.0", "The modifier `FULL`."),
            ("7.0.0", "Fields `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`."),
            ("7.2.0", "The field `active-time`, and `seen-time` as the time of the last attempt."),
        ],
        args: &[
            Arg::key("key"),
            Arg::block(
                "full-block",
                &[Arg::word("full", "FULL"), Arg::integer("count").token("COUNT").optional()],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// XINFO STREAM key [FULL [COUNT count]] → a map.
fn stream(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let stream = ctx.db.read_as::<Stream>(args.key(2))?.ok_or(Error::NoSuchKey)?;
    let mut full = None;
    if args.len() > 3 {
        let form =
            matches!(args.len(), 4 | 6) && args.is(3, "FULL") && (args.len() == 4 || args.is(4, "COUNT"));
        if !form {
            return Err(Error::quoting(&[
                b"ERR unknown subcommand or wrong number of arguments for '",
                args.at(1),
                b"'. Try XINFO HELP.",
            ]));
        }
        let count = if args.len() == 6 { args.int(5)? } else { 10 };
        full = Some(match usize::try_from(count) {
            Ok(0) => usize::MAX,
            Ok(count) => count,
            Err(_) => 10,
        });
    }
    let reply = &mut ctx.reply;
    let idempotency = stream.idempotency();
    let replied = reply.map(if full.is_some() { 9 } else { 10 } + if idempotency.is_some() { 6 } else { 0 });
    let nodes = stream.nodes_len() as i64;
    number(reply, "length", stream.entries_len() as i64);
    number(reply, "radix-tree-keys", nodes);
    number(reply, "radix-tree-nodes", nodes + 1);
    id(reply, "last-generated-id", stream.last_id());
    id(reply, "max-deleted-entry-id", stream.max_deleted_id());
    number(reply, "entries-added", stream.entries_added() as i64);
    id(reply, "recorded-first-entry-id", stream.first_id());
    if let Some(state) = idempotency {
        number(reply, "idmp-duration", state.duration_s() as i64);
        number(reply, "idmp-maxsize", state.max_size() as i64);
        number(reply, "pids-tracked", state.producers_len() as i64);
        number(reply, "iids-tracked", state.len() as i64);
        number(reply, "iids-added", state.added() as i64);
        number(reply, "iids-duplicates", state.duplicates() as i64);
    }
    match full {
        None => {
            number(reply, "groups", stream.groups_len() as i64);
            for (name, entry) in [("first-entry", stream.first()), ("last-entry", stream.last())] {
                reply.bulk(name.as_bytes());
                match entry {
                    Some(entry) => write_entry(reply, entry),
                    None => reply.null(),
                };
            }
        }
        Some(count) => {
            reply.bulk(b"entries");
            let at = reply.defer();
            let n = write_entries(reply, stream.range(StreamId::MIN, StreamId::MAX), count);
            reply.end_array(at, n);
            reply.bulk(b"groups");
            reply.array(stream.groups_len());
            reply.each(stream.groups(), |reply, group| whole_group(reply, stream, group, count));
        }
    }
    Ok(replied)
}

fn number(reply: &mut Reply<'_>, name: &str, n: i64) {
    reply.bulk(name.as_bytes());
    reply.int(n);
}

fn id(reply: &mut Reply<'_>, name: &str, id: StreamId) {
    reply.bulk(name.as_bytes());
    write_id(reply, id);
}

/// Writes what a group has read and has yet to read.
fn progress(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    let read = group.entries_read().map(|read| read as i64);
    for (name, n) in [("entries-read", read), ("lag", stream.lag(group))] {
        reply.bulk(name.as_bytes());
        match n {
            Some(n) => reply.int(n),
            None => reply.null(),
        };
    }
}

/// Writes a group with up to `count` of its pending entries, in all and of each consumer.
fn whole_group(reply: &mut Reply<'_>, stream: &Stream, group: &Group, count: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(group.name());
    id(reply, "last-delivered-id", group.last_id());
    progress(reply, stream, group);
    number(reply, "pel-count", group.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    reply.each(group.pending(StreamId::MIN, StreamId::MAX).take(count), |reply, entry| {
        reply.array(4);
        write_id(reply, entry.id);
        reply.bulk(entry.consumer.map_or(&b""[..], |consumer| group.consumer(consumer).name()));
        reply.int(entry.delivered_ms);
        reply.int(entry.deliveries as i64);
    });
    reply.bulk(b"consumers");
    reply.array(group.consumers_len());
    reply.each(group.consumers(), |reply, (number_of, consumer)| {
        reply.map(5);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        number(reply, "seen-time", consumer.seen_ms());
        number(reply, "active-time", consumer.active_ms());
        number(reply, "pel-count", consumer.pending_len() as i64);
        reply.bulk(b"pending");
        reply.array(consumer.pending_len().min(count));
        reply.each(group.pending_of(number_of, StreamId::MIN, StreamId::MAX).take(count), |reply, entry| {
            reply.array(3);
            write_id(reply, entry.id);
            reply.int(entry.delivered_ms);
            reply.int(entry.deliveries as i64);
        });
    });
}

const GROUPS: Spec = Spec::data("xinfo|groups", 3, groups)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(READ)])
    .docs(Docs {
        summary: "Tells about the groups of a stream.",
        since: "5.0.0",
        complexity: "O(N) for N groups.",
        group: In::Stream,
        history: &[("7.0.0", "Fields `entries-read` and `lag`.")],
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// XINFO GROUPS key → a map for each group.
fn groups(ctx: &mut Ctx<'_>) -> CmdResult {
    let stream = ctx.db.read_as::<Stream>(ctx.args.key(2))?.ok_or(Error::NoSuchKey)?;
    let reply = &mut ctx.reply;
    let replied: Replied = reply.array(stream.groups_len());
    reply.each(stream.groups(), |reply, group| {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(group.name());
        number(reply, "consumers", group.consumers_len() as i64);
        number(reply, "pending", group.pending_len() as i64);
        id(reply, "last-delivered-id", group.last_id());
        progress(reply, stream, group);
    });
    Ok(replied)
}

const CONSUMERS: Spec = Spec::data("xinfo|consumers", 4, consumers)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(READ)])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells about the consumers of a group.",
        since: "5.0.0",
        complexity: "O(N) for N consumers.",
        group: In::Stream,
        history: &[("7.2.0", "The field `inactive`.")],
        args: &[Arg::key("key"), Arg::string("group")],
        ..Docs::NONE
    });

/// XINFO CONSUMERS key group → a map for each consumer.
fn consumers(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, now) = (ctx.args, ctx.now.0);
    let stream = ctx.db.read_as::<Stream>(args.key(2))?.ok_or(Error::NoSuchKey)?;
    let group = stream.find_group(args.at(3)).ok_or_else(|| no_group(args.at(2), args.at(3)))?;
    let (group, reply) = (stream.group(group), &mut ctx.reply);
    let replied = reply.array(group.consumers_len());
    reply.each(group.consumers(), |reply, (_, consumer)| {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        number(reply, "pending", consumer.pending_len() as i64);
        number(reply, "idle", now.saturating_sub(consumer.seen_ms()).max(0));
        let active = consumer.active_ms();
        number(reply, "inactive", if active == -1 { -1 } else { now.saturating_sub(active).max(0) });
    });
    Ok(replied)
}

const XINFO_HELP: Spec = Spec::data("xinfo|help", 2, xinfo_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::STREAM)
    .docs(Docs { summary: "Explains the subcommands.", since: "5.0.0", group: In::Stream, ..Docs::NONE });

/// XINFO HELP → what the subcommands do.
fn xinfo_help(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(help(
        &mut ctx.reply,
        "XINFO",
        &[
            ("CONSUMERS <key> <groupname>", "Show the consumers of the group."),
            ("GROUPS <key>", "Show the groups of the stream."),
            ("STREAM <key> [FULL [COUNT <count>]", "Show what there is to know about the stream."),
        ],
    ))
}
