//! Commands that read from several streams at once, alone or in a group, waiting for entries if need be.

use std::ops::Range;

use super::stream::{write_entries, write_entry, write_fields, write_id, write_pairs, write_parts};
use crate::clients::blocking::{Need, Wait};
use crate::keyspace::{Db, Event, Key};
use crate::resp::{Args, Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group as In, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;
use crate::types::Stream;
use crate::types::stream::{ConsumerId, Group, GroupAt, IdBuf, PendingEntry, Range as Entries, StreamId};

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
        group: In::Stream,
        args: &[
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("maxcount").token("MAXCOUNT").optional().since("8.10.0"),
            Arg::integer("maxsize").token("MAXSIZE").optional().since("8.10.0"),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            STREAMS,
        ],
        ..Docs::NONE
    });

/// XREAD [COUNT count] [MAXCOUNT count] [MAXSIZE bytes] [BLOCK milliseconds] STREAMS key [key …] id [id …] → of each
/// stream with entries: its key and these.
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
        group: In::Stream,
        args: &[
            Arg::block("group-block", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("maxcount").token("MAXCOUNT").optional().since("8.10.0"),
            Arg::integer("maxsize").token("MAXSIZE").optional().since("8.10.0"),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            Arg::word("noack", "NOACK").optional(),
            Arg::integer("min-idle-time").token("CLAIM").optional().since("8.4.0"),
            STREAMS,
        ],
        ..Docs::NONE
    });

/// XREADGROUP GROUP group consumer [COUNT count] [MAXCOUNT count] [MAXSIZE bytes] [BLOCK milliseconds] [NOACK]
/// [CLAIM min-idle-time] STREAMS key [key …] id [id …] → of each stream: its key and entries.
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
    /// Most entries of each stream.
    count: u64,
    /// Most entries of all streams together.
    max_count: u64,
    /// Bytes of the reply after which no entry follows.
    max_size: usize,
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
            max_count: u64::MAX,
            max_size: usize::MAX,
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
                if ctx.from_script {
                    return Err(Error::quoting(&[
                        b"ERR ",
                        args.at(0),
                        b" command is not allowed with BLOCK option from scripts",
                    ]));
                }
                (request.waits, request.until) = (true, timeout(ctx, i + 1)?);
                i += 2;
            } else if more > 0 && args.is(i, "COUNT") {
                let count = u64::try_from(args.int(i + 1)?).unwrap_or(0);
                request.count = if count == 0 { u64::MAX } else { count };
                i += 2;
            } else if more > 0 && args.is(i, "MAXCOUNT") {
                request.max_count = positive(&args, i)?;
                i += 2;
            } else if more > 0 && args.is(i, "MAXSIZE") {
                request.max_size = usize::try_from(positive(&args, i)?).unwrap_or(usize::MAX);
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
        if request.count != u64::MAX && request.max_count < request.count {
            return Err(Error::text("ERR MAXCOUNT must be greater than or equal to COUNT"));
        }
        Ok(request)
    }
}

/// The number that follows the option at `i`.
fn positive(args: &Args<'_>, i: usize) -> Result<u64, Error> {
    let n = num::parse_i64(args.at(i + 1)).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
    n.ok_or_else(|| {
        let option = String::from_utf8_lossy(args.at(i)).to_ascii_uppercase();
        Error::text(format!("ERR {option} must be a positive integer"))
    })
}

/// What may still be written to a reply.
struct Room {
    /// Number of entries.
    left: u64,
    /// Position in the output from which on no entry follows, other than the first one.
    end: usize,
    /// Whether there is no entry yet.
    is_empty: bool,
}

impl Room {
    /// Whether no entry may follow.
    fn is_full(&self, reply: &Reply<'_>) -> bool {
        self.left == 0 || !self.is_empty && reply.position() >= self.end
    }

    /// Calls `write` for each of `items` that finds room, and takes no others.
    fn each<T>(
        &mut self,
        reply: &mut Reply<'_>,
        mut items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Reply<'_>, T),
    ) {
        if self.end == usize::MAX {
            // Each entry that is taken is delivered, whether or not the reply is sent.
            let (mut n, most) = (0, usize::try_from(self.left).unwrap_or(usize::MAX));
            for item in items.take(most) {
                write(reply, item);
                n += 1;
            }
            return self.took(n);
        }
        while !self.is_full(reply) && !reply.is_dropping() {
            let Some(item) = items.next() else { break };
            write(reply, item);
            self.took(1);
        }
    }

    /// Writes at most `count` of the entries of `range`, those that find room; returns their number.
    fn entries(&mut self, reply: &mut Reply<'_>, mut range: Entries<'_>, count: usize) -> usize {
        let mut n = 0;
        if self.end == usize::MAX {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            n = write_entries(reply, range, count.min(most));
        } else {
            let mut full = self.left == 0 || !self.is_empty && reply.position() >= self.end;
            while !full && n < count {
                if range.read_next(|id, fields| write_parts(reply, id, fields)).is_none() {
                    break;
                }
                n += 1;
                full = n as u64 == self.left || reply.position() >= self.end || reply.is_dropping();
            }
        }
        self.took(n as u64);
        n
    }

    /// Notes that entries were written.
    fn took(&mut self, n: u64) {
        self.left -= n;
        self.is_empty &= n == 0;
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
        Some(_) => ctx.db.find_as::<Stream>(key)?,
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
    let end = ctx.reply.position().saturating_add(request.max_size);
    let mut room = Room { left: request.max_count, end, is_empty: true };
    let maps = ctx.reply.resp3();
    if in_group {
        ctx.feed.nothing();
    }
    for (place, &wanted) in keys.clone().zip(&all) {
        if room.is_full(&ctx.reply) {
            break;
        }
        let before = ctx.reply.position();
        if !maps {
            ctx.reply.array(2);
        }
        ctx.reply.bulk(ctx.args.at(place));
        if serve(ctx, &request, &mut room, place, wanted) {
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
    for (place, &wanted) in keys.clone().zip(&all) {
        if let (b"$" | b"+", Wanted::After(id) | Wanted::Last(id)) =
            (ctx.args.at(place + request.keys), wanted)
        {
            resolved.push((place + request.keys, id.to_string().into_bytes()));
        }
    }
    let need = if in_group {
        let again_at = request.claim.and_then(|min_idle| idle_at(ctx, &keys, &all, min_idle));
        Need::Group { claims: request.claim.is_some(), again_at }
    } else {
        Need::Stream { resolved }
    };
    ctx.wait_for(Wait::Keys { keys, until: request.until, need })
}

/// When the first entry that is pending in one of the groups will have been so for `min_idle` milliseconds, so that it
/// can be claimed; `None` if none is pending.
fn idle_at(ctx: &mut Ctx<'_>, keys: &Range<usize>, all: &[Wanted], min_idle: i64) -> Option<UnixMillis> {
    let mut first = None;
    for (place, wanted) in keys.clone().zip(all) {
        let Wanted::New(group) = *wanted else { continue };
        let stream = ctx.db.look_as::<Stream>(ctx.args.key(place));
        let at = stream.and_then(|stream| stream.group(group).idle_at(min_idle));
        first = [first, at].into_iter().flatten().min();
    }
    // What could be claimed now was.
    first.map(|at| UnixMillis(at.max(ctx.now.0.saturating_add(1))))
}

/// Writes what is wanted of the stream at argument `place`; false if there is nothing.
fn serve(ctx: &mut Ctx<'_>, request: &Request<'_>, room: &mut Room, place: usize, wanted: Wanted) -> bool {
    let key = ctx.args.key(place);
    let count = usize::try_from(request.count).unwrap_or(usize::MAX);
    match wanted {
        Wanted::After(after) => {
            let Some(stream) = ctx.db.look_as::<Stream>(key) else { return false };
            let Some(start) = after.next().filter(|&start| start <= stream.last_id()) else { return false };
            let at = ctx.reply.defer();
            let n = room.entries(&mut ctx.reply, stream.range(start, StreamId::MAX), count);
            ctx.reply.end_array(at, n);
            n > 0
        }
        Wanted::Last(_) => match ctx.db.look_as::<Stream>(key).and_then(Stream::last) {
            Some(entry) => {
                ctx.reply.array(1);
                write_entry(&mut ctx.reply, entry);
                room.took(1);
                true
            }
            None => false,
        },
        Wanted::New(group) => serve_in_group(ctx, request, room, key, group, None),
        Wanted::History(group, after) => serve_in_group(ctx, request, room, key, group, Some(after)),
    }
}

/// The consumer with this name, created if there is none; and whether it was. Whoever repeats the data creates it with
/// the first entry that it gets: if it gets none, [`feed_consumer`] is to be called.
pub(super) fn consumer(
    db: &mut Db<'_>,
    key: Key<'_>,
    at: GroupAt,
    name: &[u8],
    now: i64,
) -> (ConsumerId, bool) {
    const THERE: &str = "the stream was found";
    let stream = db.write_as::<Stream>(key).ok().flatten().expect(THERE);
    let mut group = stream.group_mut(at);
    if let Some(consumer) = group.group().find_consumer(name) {
        group.saw(consumer, now);
        return (consumer, false);
    }
    let consumer = group.create_consumer(name, now).expect("nobody has this name");
    db.changed_beside(key, Event::stream("xgroup-createconsumer").of_no_use(), 1);
    (consumer, true)
}

/// Passes on that a consumer was created.
pub(super) fn feed_consumer(feed: &mut Feed, key: &[u8], names: (&[u8], &[u8])) {
    feed.instead(&[b"XGROUP", b"CREATECONSUMER", key, names.0, names.1]);
}

/// Passes on that an entry is no longer pending because it does not exist: claiming it for who had it has this outcome.
pub(super) fn feed_dropped(feed: &mut Feed, key: &[u8], group: (&[u8], &Group), entry: &PendingEntry) {
    let (name, group) = group;
    match entry.consumer {
        Some(consumer) => {
            let names = (name, group.consumer(consumer).name());
            feed_claimed(feed, key, names, entry, group.last_id());
        }
        None => feed.instead(&[b"XACK", key, name, entry.id.format(&mut IdBuf::new())]),
    }
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
    room: &mut Room,
    key: Key<'_>,
    at: GroupAt,
    history: Option<StreamId>,
) -> bool {
    let (Some(names), now) = (request.group, ctx.now.0) else { return false };
    let (consumer, is_new) = consumer(&mut ctx.db, key, at, names.1, now);
    let Ok(Some(stream)) = ctx.db.write_as::<Stream>(key) else { return false };
    // Nobody gets entries by a request for its history, or keeps any that it need not acknowledge.
    let mut untold = is_new;
    if is_new && (request.no_ack || history.is_some()) {
        feed_consumer(ctx.feed, key.bytes, names);
        untold = false;
    }
    let reply = &mut ctx.reply;
    if let Some(after) = history {
        let entries = stream.group_mut(at).history(consumer, after, request.count, now);
        let (start, mut n) = (reply.defer(), 0);
        room.each(reply, entries, |reply, (id, entry)| {
            reply.array(2);
            write_id(reply, id);
            match entry {
                Some(entry) => _ = write_fields(reply, &entry),
                None => _ = reply.null_array(),
            }
            n += 1;
        });
        reply.end_array(start, n);
        // That they were delivered again is not passed on: files and replicas count other deliveries.
        return true;
    }
    let start = reply.defer();
    let (mut n, mut left, mut changes) = (0, request.count.min(room.left), 0);
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
            room.took(1);
            !room.is_full(reply)
        });
        let last = group.group().last_id();
        for id in claimed {
            if let Some(pending) = group.group().find_pending(id) {
                feed_claimed(ctx.feed, key.bytes, names, &pending, last);
            }
        }
        for dropped in &outcome.dropped {
            feed_dropped(ctx.feed, key.bytes, (names.0, group.group()), dropped);
        }
        untold &= outcome.claimed == 0;
        n += outcome.claimed as usize;
        left -= outcome.claimed;
        changes += outcome.claimed as usize + outcome.dropped.len();
    }
    if left > 0 && !room.is_full(reply) && stream.group_mut(at).has_new() {
        let no_ack = request.no_ack;
        let heard = !matches!(ctx.feed, Feed::Unheard);
        let mut delivered = Vec::new();
        let mut new = 0;
        let mut entries = stream.group_mut(at).read_new(consumer, left, no_ack, now);
        let claims = request.claim.is_some();
        // Whoever reads the reply, or nobody: what the group reads does not depend on it.
        while !room.is_full(reply)
            && let Some(id) = entries.read_next(|id, fields| {
                if claims {
                    write_claimed(reply, id, |reply| _ = write_pairs(reply, fields), 0, 0);
                } else {
                    write_parts(reply, id, fields);
                }
                id
            })
        {
            room.took(1);
            if heard && !no_ack {
                delivered.push(id);
            }
            new += 1;
        }
        if heard {
            let group = stream.group(at);
            for id in delivered {
                if let Some(pending) = group.find_pending(id) {
                    untold = false;
                    feed_claimed(ctx.feed, key.bytes, names, &pending, id);
                }
            }
            feed_position(ctx.feed, key.bytes, names.0, group.last_id(), group.entries_read());
        }
        n += new;
        changes += new;
    }
    if untold {
        feed_consumer(ctx.feed, key.bytes, names);
    }
    if n > 0 {
        reply.end_array(start, n);
    }
    ctx.db.changed_beside(key, Event::DELIVERED, changes);
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
