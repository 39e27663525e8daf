//! Commands that read from several streams at once, alone or in a group, waiting for entries if need be.

use super::stream::{write_entries, write_entry, write_fields, write_id};
use crate::clients::blocking::Wait;
use crate::keyspace::{Db, Event, Key};
use crate::resp::{Args, Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;
use crate::types::stream::{ConsumerId, GroupAt, IdBuf, PendingEntry, StreamId};
use crate::types::{Kind, Stream};

/// Commands that read several streams and may wait.
pub const COMMANDS: &[Spec] = &[XREAD, XREADGROUP];

const STREAMS: Arg =
    Arg::block("streams", &[Arg::key("key").multiple(), Arg::string("id").multiple()]).token("STREAMS");

const XREAD: Spec = Spec::data("xread", -4, xread)
    .flags(Flags::READONLY.with(Flags::BLOCKING))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::after("STREAMS", 1).range(-1, 1, 2).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .find_keys(|args, f| find_keys(args, 1, KeyFlags::RO.with(KeyFlags::ACCESS), f))
    .docs(Docs {
        summary: "Returns the entries of streams that follow ids, waiting for some if need be.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for each stream of N nodes and M entries returned of it.",
        group: Group::Stream,
        args: &[
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            STREAMS,
        ],
        ..Docs::NONE
    });

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …] → of each stream with entries: its key and these.
fn xread(ctx: &mut Ctx<'_>) -> CmdResult {
    read(ctx, false)
}

const XREADGROUP: Spec = Spec::data("xreadgroup", -7, xreadgroup)
    .flags(Flags::WRITE.with(Flags::BLOCKING))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::after("STREAMS", 4).range(-1, 1, 2).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .find_keys(|args, f| find_keys(args, 4, KeyFlags::RO.with(KeyFlags::ACCESS), f))
    .docs(Docs {
        summary: "Returns new entries of streams to a consumer of a group, or what is pending for it; waits if need be.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for each stream of N nodes and M entries returned of it.",
        group: Group::Stream,
        args: &[
            Arg::block("group-block", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            Arg::word("noack", "NOACK").optional(),
            Arg::integer("min-idle-time").token("CLAIM").optional().since("8.4.0"),
            STREAMS,
        ],
        ..Docs::NONE
    });

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] [CLAIM min-idle-time] STREAMS key [key …]
/// id [id …] → of each stream: its key and entries.
fn xreadgroup(ctx: &mut Ctx<'_>) -> CmdResult {
    read(ctx, true)
}

/// The keys of a request: the first half of what follows STREAMS, which is looked for where options stand.
fn find_keys(args: &Args<'_>, from: usize, flags: KeyFlags, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    let Some(streams) = (from..args.len()).find(|&i| args.is(i, "STREAMS")) else { return false };
    let rest = args.len() - streams - 1;
    if rest == 0 {
        return false;
    }
    (streams + 1..streams + 1 + rest.div_ceil(2)).for_each(|i| f(i, flags));
    true
}

/// What a request says before its ids.
struct Request<'a> {
    count: u64,
    waits: bool,
    until: Option<UnixMillis>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    claim: Option<i64>,
    /// The argument that is the first key.
    first: usize,
    /// How many keys there are.
    keys: usize,
}

impl<'a> Request<'a> {
    fn parse(ctx: &Ctx<'a>, in_group: bool) -> Result<Request<'a>, Error> {
        let args = ctx.args;
        let mut request = Request {
            count: u64::MAX,
            waits: false,
            until: None,
            group: None,
            no_ack: false,
            claim: None,
            first: 0,
            keys: 0,
        };
        let mut i = 1;
        while i < args.len() {
            let more = args.len() - 1 - i;
            if more > 0 && args.is(i, "BLOCK") {
                (request.waits, request.until) = (true, timeout(ctx, i + 1)?);
                i += 2;
            } else if more > 0 && args.is(i, "COUNT") {
                let count = u64::try_from(args.int(i + 1)?).unwrap_or(0);
                request.count = if count == 0 { u64::MAX } else { count };
                i += 2;
            } else if more > 0 && args.is(i, "STREAMS") {
                request.first = i + 1;
                if more % 2 == 1 {
                    return Err(unbalanced(ctx.name, in_group));
                }
                request.keys = more / 2;
                break;
            } else if more >= 2 && args.is(i, "GROUP") {
                if !in_group {
                    return Err(only_in_group("GROUP"));
                }
                request.group = Some((args.at(i + 1), args.at(i + 2)));
                i += 3;
            } else if args.is(i, "NOACK") {
                if !in_group {
                    return Err(only_in_group("NOACK"));
                }
                request.no_ack = true;
                i += 1;
            } else if in_group && more > 0 && args.is(i, "CLAIM") {
                let min_idle = num::parse_i64(args.at(i + 1)).filter(|&ms| ms >= 0);
                let refusal = || Error::text("ERR min-idle-time must be a positive integer");
                request.claim = Some(min_idle.ok_or_else(refusal)?);
                i += 2;
            } else {
                return Err(Error::Syntax);
            }
        }
        if request.keys == 0 {
            return Err(Error::Syntax);
        }
        if in_group && request.group.is_none() {
            return Err(Error::text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }
}

fn unbalanced(name: &str, in_group: bool) -> Error {
    let ids = if in_group { "an ID or '>'" } else { "an ID or '$'" };
    Error::text(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key {ids} must be specified."
    ))
}

fn only_in_group(option: &str) -> Error {
    Error::text(format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."))
}

fn meaningless(id: &str) -> Error {
    Error::text(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}

/// Argument `i` as milliseconds from now; 0 is `None`: without an end.
fn timeout(ctx: &Ctx<'_>, i: usize) -> Result<Option<UnixMillis>, Error> {
    let ms = num::parse_i64(ctx.args.at(i));
    match ms.ok_or_else(|| Error::text("ERR timeout is not an integer or out of range"))? {
        0 => Ok(None),
        ms if ms < 0 => Err(Error::text("ERR timeout is negative")),
        ms => {
            let until = ctx.now.checked_add(ms);
            until.map(Some).ok_or_else(|| Error::text("ERR timeout is out of range"))
        }
    }
}

/// What is wanted of one stream.
#[derive(Clone, Copy)]
enum Wanted {
    /// The entries that follow an id.
    After(StreamId),
    /// The last entry; if there is none, what follows this id.
    Last(StreamId),
    /// What the group has not read.
    New(GroupAt),
    /// What is pending for the consumer and follows an id.
    History(GroupAt, StreamId),
}

/// What is wanted of the stream at argument `at`, if it can be had at all.
fn wanted(ctx: &mut Ctx<'_>, request: &Request<'_>, at: usize) -> Result<Wanted, Error> {
    let (key, id) = (ctx.args.key(at), ctx.args.at(at + request.keys));
    let stream = match request.group {
        Some(_) => ctx.db.write_as::<Stream>(key)?.map(|stream| &*stream),
        None => ctx.db.read_as::<Stream>(key)?,
    };
    let Some((name, _)) = request.group else {
        let last_id = || stream.map_or(StreamId::MIN, Stream::last_id);
        return match id {
            b"$" => Ok(Wanted::After(last_id())),
            b"+" => Ok(Wanted::Last(last_id())),
            b">" => Err(Error::text(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            id => Ok(Wanted::After(StreamId::parse(id, 0)?)),
        };
    };
    let Some(group) = stream.and_then(|stream| stream.find_group(name)) else {
        return Err(Error::quoting(&[
            b"NOGROUP No such key '",
            key.bytes,
            b"' or consumer group '",
            name,
            b"' in XREADGROUP with GROUP option",
        ]));
    };
    match id {
        b"$" => Err(meaningless("$")),
        b"+" => Err(meaningless("+")),
        b">" => Ok(Wanted::New(group)),
        id => Ok(Wanted::History(group, StreamId::parse(id, 0)?)),
    }
}

fn read(ctx: &mut Ctx<'_>, in_group: bool) -> CmdResult {
    let request = Request::parse(ctx, in_group)?;
    let keys = request.first..request.first + request.keys;
    let mut all = Vec::with_capacity(request.keys);
    for at in keys.clone() {
        all.push(wanted(ctx, &request, at)?);
    }
    // What only the first key had is passed on with what the others have.
    let (at, mut served) = (ctx.reply.defer(), 0);
    let maps = ctx.reply.resp3();
    if in_group {
        ctx.feed.nothing();
    }
    for (place, &wanted) in keys.clone().zip(&all) {
        let before = ctx.reply.position();
        if !maps {
            ctx.reply.array(2);
        }
        ctx.reply.bulk(ctx.args.at(place));
        if serve(ctx, &request, place, wanted) {
            served += 1;
        } else {
            ctx.reply.truncate(before);
        }
    }
    if served > 0 {
        return Ok(if maps { ctx.reply.end_map(at, served) } else { ctx.reply.end_array(at, served) });
    }
    if !request.waits {
        return Ok(ctx.reply.null_array());
    }
    let mut resolved = Vec::new();
    for (place, wanted) in keys.clone().zip(all) {
        if let (b"$" | b"+", Wanted::After(id) | Wanted::Last(id)) =
            (ctx.args.at(place + request.keys), wanted)
        {
            resolved.push((place + request.keys, id.to_string().into_bytes()));
        }
    }
    ctx.wait_for(Wait { also_when_gone: in_group, resolved, ..Wait::new(keys, Kind::Stream, request.until) })
}

/// Writes what is wanted of the stream at argument `place`; false if there is nothing.
fn serve(ctx: &mut Ctx<'_>, request: &Request<'_>, place: usize, wanted: Wanted) -> bool {
    let key = ctx.args.key(place);
    let count = usize::try_from(request.count).unwrap_or(usize::MAX);
    match wanted {
        Wanted::After(after) => {
            let Some(stream) = ctx.db.look_as::<Stream>(key) else { return false };
            let Some(start) = after.next().filter(|&start| start <= stream.last_id()) else { return false };
            let mut range = stream.range(start, StreamId::MAX).take(count).peekable();
            range.peek().is_some() && {
                write_entries(&mut ctx.reply, range);
                true
            }
        }
        Wanted::Last(_) => match ctx.db.look_as::<Stream>(key).and_then(Stream::last) {
            Some(entry) => {
                ctx.reply.array(1);
                write_entry(&mut ctx.reply, entry);
                true
            }
            None => false,
        },
        Wanted::New(group) => serve_in_group(ctx, request, key, group, None),
        Wanted::History(group, after) => serve_in_group(ctx, request, key, group, Some(after)),
    }
}

/// The consumer with this name, created if there is none.
pub(super) fn consumer(
    db: &mut Db<'_>,
    feed: &mut Feed,
    key: Key<'_>,
    at: GroupAt,
    names: (&[u8], &[u8]),
    now: i64,
) -> ConsumerId {
    const THERE: &str = "the stream was found";
    let stream = db.write_as::<Stream>(key).ok().flatten().expect(THERE);
    let mut group = stream.group_mut(at);
    if let Some(consumer) = group.group().find_consumer(names.1) {
        group.saw(consumer, now);
        return consumer;
    }
    let consumer = group.create_consumer(names.1, now).expect("nobody has this name");
    feed.instead(&[b"XGROUP", b"CREATECONSUMER", key.bytes, names.0, names.1]);
    db.changed(key, Event::stream("xgroup-createconsumer"), 1);
    consumer
}

/// Passes on that a consumer has a pending entry, with all that is known of it.
pub(super) fn feed_claimed(
    feed: &mut Feed,
    key: &[u8],
    names: (&[u8], &[u8]),
    entry: &PendingEntry,
    group_last: StreamId,
) {
    if matches!(feed, Feed::Unheard) {
        return;
    }
    let (mut id, mut last, mut time, mut deliveries) =
        (IdBuf::new(), IdBuf::new(), itoa::Buffer::new(), itoa::Buffer::new());
    feed.instead(&[
        b"XCLAIM",
        key,
        names.0,
        names.1,
        b"0",
        entry.id.format(&mut id),
        b"TIME",
        time.format(entry.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        deliveries.format(entry.deliveries).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        group_last.format(&mut last),
    ]);
}

/// Passes on how far a group has read.
fn feed_position(feed: &mut Feed, key: &[u8], name: &[u8], last_id: StreamId, read: Option<u64>) {
    let (mut id, mut digits) = (IdBuf::new(), itoa::Buffer::new());
    let read = digits.format(read.map_or(-1, |read| read as i64)).as_bytes();
    feed.instead(&[b"XGROUP", b"SETID", key, name, last_id.format(&mut id), b"ENTRIESREAD", read]);
}

/// Writes what a consumer gets of one stream: what it is to claim, then new entries; or its history.
fn serve_in_group(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    key: Key<'_>,
    at: GroupAt,
    history: Option<StreamId>,
) -> bool {
    let (Some(names), now) = (request.group, ctx.now.0) else { return false };
    let consumer = consumer(&mut ctx.db, ctx.feed, key, at, names, now);
    let Ok(Some(stream)) = ctx.db.write_as::<Stream>(key) else { return false };
    let reply = &mut ctx.reply;
    if let Some(after) = history {
        let entries = stream.group_mut(at).history(consumer, after, request.count, now);
        let (start, mut n, mut told) = (reply.defer(), 0, Vec::new());
        // They are delivered even if the reply is dropped.
        for (id, entry) in entries {
            reply.array(2);
            write_id(reply, id);
            match entry {
                Some(entry) => {
                    write_fields(reply, &entry);
                    told.push(id);
                }
                None => _ = reply.null_array(),
            }
            n += 1;
        }
        reply.end_array(start, n);
        // Redeliveries are counted here alone: whoever repeats the data is not told.
        return true;
    }
    let start = reply.defer();
    let (mut n, mut left, mut changes) = (0, request.count, 0);
    if let Some(min_idle) = request.claim {
        let mut claimed = Vec::new();
        let mut group = stream.group_mut(at);
        let outcome = group.claim_idle(consumer, min_idle, left, now, |entry, idle, deliveries| {
            write_claimed(
                reply,
                entry.id,
                |reply| _ = write_fields(reply, &entry),
                idle.unwrap_or(-1),
                deliveries,
            );
            claimed.push(entry.id);
        });
        let last = group.group().last_id();
        for id in claimed {
            if let Some(pending) = group.group().find_pending(id) {
                feed_claimed(ctx.feed, key.bytes, names, &pending, last);
            }
        }
        for &id in &outcome.dropped {
            ctx.feed.instead(&[b"XACK", key.bytes, names.0, id.format(&mut IdBuf::new())]);
        }
        n += outcome.claimed as usize;
        left -= outcome.claimed;
        changes += outcome.claimed as usize + outcome.dropped.len();
    }
    if left > 0 && stream.group_mut(at).has_new() {
        let no_ack = request.no_ack;
        let heard = !matches!(ctx.feed, Feed::Unheard);
        let mut delivered = Vec::new();
        let mut new = 0;
        let entries = stream.group_mut(at).read_new(consumer, left, no_ack, now);
        let claims = request.claim.is_some();
        // They are delivered even if the reply is dropped.
        for entry in entries {
            if claims {
                write_claimed(reply, entry.id, |reply| _ = write_fields(reply, &entry), 0, 0);
            } else {
                write_entry(reply, entry);
            }
            if heard && !no_ack {
                delivered.push(entry.id);
            }
            new += 1;
        }
        if heard {
            let group = stream.group(at);
            for id in delivered {
                if let Some(pending) = group.find_pending(id) {
                    feed_claimed(ctx.feed, key.bytes, names, &pending, group.last_id());
                }
            }
            feed_position(ctx.feed, key.bytes, names.0, group.last_id(), group.entries_read());
        }
        n += new;
        changes += new;
    }
    if n > 0 {
        reply.end_array(start, n);
    }
    ctx.db.changed(key, Event::SILENT, changes);
    n > 0
}

/// Writes an entry with how long ago it was delivered, in milliseconds, and how often.
fn write_claimed(
    reply: &mut Reply<'_>,
    id: StreamId,
    fields: impl FnOnce(&mut Reply<'_>),
    idle: i64,
    deliveries: u64,
) {
    reply.array(4);
    write_id(reply, id);
    fields(reply);
    reply.int(idle);
    reply.int(deliveries as i64);
}
