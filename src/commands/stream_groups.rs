//! Commands on the groups of a stream, and on what a group has pending.

use super::help::help;
use super::stream::{numbered_ids, parse_ids, policy_and_ids};
use crate::keyspace::Event;
use crate::resp::{Args, Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::types::Stream;
use crate::types::stream::{Deletion, GroupAt, Release, StreamId};

/// Commands on consumer groups.
pub const COMMANDS: &[Spec] = &[XACK, XACKDEL, XGROUP, XNACK];

const XGROUP: Spec =
    Spec::container("xgroup", -2, &[CREATE, CREATECONSUMER, DELCONSUMER, DESTROY, XGROUP_HELP, SETID]).docs(
        Docs {
            summary: "A container for commands on groups of consumers.",
            since: "5.0.0",
            complexity: "Depends on subcommand.",
            group: Group::Stream,
            ..Docs::NONE
        },
    );

/// There is no such group.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> Error {
    Error::quoting(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

fn no_stream() -> Error {
    Error::text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
         MKSTREAM option to create an empty stream automatically.",
    )
}

/// There is an unknown option, or there are more arguments than options.
fn malformed(args: &Args<'_>) -> Error {
    Error::quoting(&[
        b"ERR unknown subcommand or wrong number of arguments for '",
        args.at(1),
        b"'. Try XGROUP HELP.",
    ])
}

/// What `XGROUP CREATE` and `SETID` are told after the id.
struct GroupOptions {
    creates: bool,
    entries_read: Option<u64>,
}

impl GroupOptions {
    fn parse(ctx: &Ctx<'_>, of_create: bool) -> Result<GroupOptions, Error> {
        let args = ctx.args;
        let mut options = GroupOptions { creates: false, entries_read: None };
        let mut i = 5;
        while i < args.len() {
            if of_create && args.is(i, "MKSTREAM") {
                options.creates = true;
                i += 1;
            } else if args.is(i, "ENTRIESREAD") && i + 1 < args.len() {
                let n = args.int(i + 1)?;
                if n < -1 {
                    return Err(Error::text("ERR value for ENTRIESREAD must be positive or -1"));
                }
                options.entries_read = u64::try_from(n).ok();
                i += 2;
            } else {
                return Err(malformed(&args));
            }
        }
        Ok(options)
    }
}

/// The stream at argument 2, which must be there.
fn stream<'c>(ctx: &'c mut Ctx<'_>) -> Result<&'c mut Stream, Error> {
    ctx.db.write_as::<Stream>(ctx.args.key(2))?.ok_or_else(no_stream)
}

/// The stream at argument 2 and its group named by argument 3.
fn stream_and_group<'c>(ctx: &'c mut Ctx<'_>) -> Result<(&'c mut Stream, GroupAt), Error> {
    let args = ctx.args;
    let stream = stream(ctx)?;
    let group = stream.find_group(args.at(3)).ok_or_else(|| no_group(args.at(2), args.at(3)))?;
    Ok((stream, group))
}

/// An id, or `$` for the last one of the stream.
fn position(text: &[u8], stream: Option<&Stream>) -> Result<StreamId, Error> {
    match text {
        b"$" => Ok(stream.map_or(StreamId::MIN, Stream::last_id)),
        text => Ok(StreamId::parse(text, 0)?),
    }
}

const CREATE: Spec = Spec::data("xgroup|create", -5, create)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Creates a group.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Stream,
        history: &[("7.0.0", "The named argument `entries_read`.")],
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::one_of("id-selector", &[Arg::string("id"), Arg::word("new-id", "$")]),
            Arg::word("mkstream", "MKSTREAM").optional(),
            Arg::integer("entries-read").display("entries-read").token("ENTRIESREAD").optional(),
        ],
        ..Docs::NONE
    });

/// XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read] → OK.
fn create(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(2));
    let options = GroupOptions::parse(ctx, true)?;
    let found = ctx.db.write_as::<Stream>(key)?;
    if found.is_none() && !options.creates {
        return Err(no_stream());
    }
    if args.len() > 8 {
        return Err(malformed(&args));
    }
    let (exists, id) = (found.is_some(), position(args.at(4), found.as_deref())?);
    let stream = ctx.db.write_or_insert(key, Stream::new)?;
    if stream.create_group(args.at(3), id, options.entries_read).is_none() {
        return Err(Error::text("BUSYGROUP Consumer Group name already exists"));
    }
    let event = Event::stream("xgroup-create");
    if exists {
        ctx.db.changed_beside(key, event, 1)
    } else {
        ctx.db.changed(key, event, 1)
    }
    Ok(ctx.reply.ok())
}

const SETID: Spec = Spec::data("xgroup|setid", -5, set_id)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Sets how far a group has read.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Stream,
        history: &[("7.0.0", "The optional argument `entries_read`.")],
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::one_of("id-selector", &[Arg::string("id"), Arg::word("new-id", "$")]),
            Arg::integer("entriesread").display("entries-read").token("ENTRIESREAD").optional(),
        ],
        ..Docs::NONE
    });

/// XGROUP SETID key group id|$ [ENTRIESREAD entries-read] → OK.
fn set_id(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let options = GroupOptions::parse(ctx, false)?;
    let (stream, group) = stream_and_group(ctx)?;
    if args.len() > 7 {
        return Err(malformed(&args));
    }
    let id = match args.at(4) {
        b"-" => StreamId::MIN,
        b"+" => StreamId::MAX,
        text => position(text, Some(stream))?,
    };
    stream.group_mut(group).set_last_id(id, options.entries_read);
    ctx.db.changed_beside(args.key(2), Event::stream("xgroup-setid").of_no_use(), 1);
    Ok(ctx.reply.ok())
}

const DESTROY: Spec = Spec::data("xgroup|destroy", 4, destroy)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Destroys a group.",
        since: "5.0.0",
        complexity: "O(N) for N entries that are pending in the group.",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("group")],
        ..Docs::NONE
    });

/// XGROUP DESTROY key group → whether it was there.
fn destroy(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let destroyed = stream(ctx)?.destroy_group(args.at(3));
    ctx.db.changed_beside(args.key(2), Event::stream("xgroup-destroy"), usize::from(destroyed));
    Ok(ctx.reply.int(i64::from(destroyed)))
}

const CREATECONSUMER: Spec = Spec::data("xgroup|createconsumer", 5, create_consumer)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Creates a consumer in a group.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("group"), Arg::string("consumer")],
        ..Docs::NONE
    });

/// XGROUP CREATECONSUMER key group consumer → whether it is new.
fn create_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, now) = (ctx.args, ctx.now.0);
    let (stream, group) = stream_and_group(ctx)?;
    let created = stream.group_mut(group).create_consumer(args.at(4), now).is_some();
    ctx.db.changed_beside(
        args.key(2),
        Event::stream("xgroup-createconsumer").of_no_use(),
        usize::from(created),
    );
    Ok(ctx.reply.int(i64::from(created)))
}

const DELCONSUMER: Spec = Spec::data("xgroup|delconsumer", 5, delete_consumer)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Deletes a consumer of a group.",
        since: "5.0.0",
        complexity: "O(N) for N entries that are pending for the consumer.",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("group"), Arg::string("consumer")],
        ..Docs::NONE
    });

/// XGROUP DELCONSUMER key group consumer → how many entries were pending for it.
fn delete_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let (stream, group) = stream_and_group(ctx)?;
    let pending = stream.group_mut(group).delete_consumer(args.at(4));
    ctx.db.changed_beside(
        args.key(2),
        Event::stream("xgroup-delconsumer").of_no_use(),
        usize::from(pending.is_some()),
    );
    Ok(ctx.reply.int(pending.unwrap_or(0) as i64))
}

const XGROUP_HELP: Spec = Spec::data("xgroup|help", 2, xgroup_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::STREAM)
    .docs(Docs { summary: "Explains the subcommands.", since: "5.0.0", group: Group::Stream, ..Docs::NONE });

/// XGROUP HELP → what the subcommands do.
fn xgroup_help(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(help(
        &mut ctx.reply,
        "XGROUP",
        &[
            (
                "CREATE <key> <groupname> <id|$> [option]",
                "Create a group that reads from this id on. Options are:\n* MKSTREAM\n  \
                 Create the stream if it is not there.\n* ENTRIESREAD entries_read\n  \
                 Say how many entries the group has read (for internal use).",
            ),
            ("CREATECONSUMER <key> <groupname> <consumer>", "Create a consumer in the group."),
            ("DELCONSUMER <key> <groupname> <consumer>", "Delete a consumer of the group."),
            ("DESTROY <key> <groupname>", "Destroy the group."),
            ("SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]", "Set how far the group has read."),
        ],
    ))
}

// ---- what is pending ----------------------------------------------------------------------------

const XACK: Spec = Spec::data("xack", -4, xack)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Acknowledges entries, so that they are no longer pending in a group.",
        since: "5.0.0",
        complexity: "O(log(N)) for each id, for N entries that are pending.",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("group"), Arg::string("id").multiple()],
        ..Docs::NONE
    });

/// XACK key group id [id …] → how many were pending.
fn xack(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return Ok(ctx.reply.int(0)) };
    let Some(group) = stream.find_group(args.at(2)) else { return Ok(ctx.reply.int(0)) };
    let ids = args.rest(3);
    for id in ids.iter() {
        StreamId::parse(id, 0)?;
    }
    let mut group = stream.group_mut(group);
    let pending = |id: &&[u8]| StreamId::parse(id, 0).is_ok_and(|id| group.acknowledge(id));
    let acknowledged = ids.iter().filter(pending).count();
    ctx.db.changed_beside(key, Event::SILENT, acknowledged);
    Ok(ctx.reply.int(acknowledged as i64))
}

const XACKDEL: Spec = Spec::data("xackdel", -6, xackdel)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE).with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Acknowledges entries for a group and deletes them as far as other groups allow.",
        since: "8.2.0",
        complexity: "O(log(N)) for each id and group, for N entries that are pending.",
        group: Group::Stream,
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::one_of(
                "condition",
                &[
                    Arg::word("keepref", "KEEPREF"),
                    Arg::word("delref", "DELREF"),
                    Arg::word("acked", "ACKED"),
                ],
            )
            .optional(),
            Arg::block("ids", &[Arg::integer("numids"), Arg::string("id").multiple()]).token("IDS"),
        ],
        ..Docs::NONE
    });

/// As many times `n` as `reply` answers.
fn missing(reply: &mut Reply<'_>, n: usize) -> CmdResult {
    let replied = reply.array(n);
    reply.repeat(n, |reply| _ = reply.int(Deletion::Missing as i64));
    Ok(replied)
}

/// XACKDEL key group [KEEPREF|DELREF|ACKED] IDS numids id [id …] → of each id: 1 deleted, -1 not pending, 2 still needed.
fn xackdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let (policy, ids) = match policy_and_ids(&args, 3) {
        Ok(found) => found,
        // A key of another type is the greater mistake.
        Err(error) => {
            ctx.db.write_as::<Stream>(key)?;
            return Err(error);
        }
    };
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return missing(&mut ctx.reply, ids.len()) };
    let Some(group) = stream.find_group(args.at(2)) else { return missing(&mut ctx.reply, ids.len()) };
    let ids = parse_ids(&ids)?;
    let (before, replied) = (stream.entries_len(), ctx.reply.array(ids.len()));
    let mut acknowledged = 0;
    for id in ids {
        let outcome = stream.acknowledge_and_delete(group, id, policy);
        acknowledged += usize::from(outcome != Deletion::Missing);
        ctx.reply.int(outcome as i64);
    }
    if stream.entries_len() < before {
        ctx.db.changed(key, Event::stream("xdel").of_no_use(), acknowledged);
    } else {
        ctx.db.changed_beside(key, Event::SILENT, acknowledged);
    }
    Ok(replied)
}

const XNACK: Spec = Spec::data("xnack", -7, xnack)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Gives back entries, so that they stay pending in a group and belong to no consumer.",
        since: "8.8.0",
        complexity: "O(log(N)) for each id, for N entries that are pending.",
        group: Group::Stream,
        args: &[
            Arg::key("key"),
            Arg::string("group"),
            Arg::one_of(
                "mode",
                &[Arg::word("silent", "SILENT"), Arg::word("fail", "FAIL"), Arg::word("fatal", "FATAL")],
            ),
            Arg::block("ids", &[Arg::integer("numids"), Arg::string("id").multiple()]).token("IDS"),
            Arg::integer("count").token("RETRYCOUNT").optional(),
            Arg::word("force", "FORCE").optional(),
        ],
        ..Docs::NONE
    });

/// XNACK key group SILENT|FAIL|FATAL IDS numids id [id …] [RETRYCOUNT count] [FORCE] → how many were given back.
fn xnack(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let release = if args.is(3, "SILENT") {
        Release::Silent
    } else if args.is(3, "FAIL") {
        Release::Fail
    } else if args.is(3, "FATAL") {
        Release::Fatal
    } else {
        return Err(Error::Syntax);
    };
    if !args.is(4, "IDS") {
        return Err(Error::Syntax);
    }
    let (ids, mut i) = numbered_ids(&args, 4)?;
    let (mut deliveries, mut force) = (None, false);
    while i < args.len() {
        if args.is(i, "FORCE") {
            force = true;
            i += 1;
        } else if args.is(i, "RETRYCOUNT") && i + 1 < args.len() {
            let n = num::parse_i64(args.at(i + 1)).and_then(|n| u64::try_from(n).ok());
            deliveries = Some(n.ok_or_else(|| Error::text("ERR Invalid RETRYCOUNT value"))?);
            i += 2;
        } else {
            return Err(Error::Syntax);
        }
    }
    let stream = ctx.db.write_as::<Stream>(key)?;
    let found = stream.and_then(|stream| stream.find_group(args.at(2)).map(|group| (stream, group)));
    let (stream, group) = found.ok_or_else(|| no_key_or_group(key.bytes, args.at(2)))?;
    let ids = parse_ids(&ids)?;
    let mut group = stream.group_mut(group);
    let released = ids.into_iter().filter(|&id| group.release(id, release, deliveries, force)).count();
    ctx.db.changed_beside(key, Event::DELIVERED, released);
    Ok(ctx.reply.int(released as i64))
}

/// There is no such key, or the stream has no such group.
pub(super) fn no_key_or_group(key: &[u8], group: &[u8]) -> Error {
    Error::quoting(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"])
}
