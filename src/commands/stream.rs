//! Commands on the entries of streams.

use crate::keyspace::Event;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::num;
use crate::types::stream::{
    AddError, Deletion, Entry, Fields, IdBuf, IdError, NewId, NodeLimits, Range, RefPolicy, SetIdError,
    StreamId, Threshold, Trim, content_id,
};
use crate::types::{Limits, Stream};

/// Commands on whole streams.
pub const COMMANDS: &[Spec] =
    &[XADD, XCFGSET, XDEL, XDELEX, XIDMPRECORD, XLEN, XRANGE, XREVRANGE, XSETID, XTRIM];

// ---- what all commands on streams share ---------------------------------------------------------

impl From<IdError> for Error {
    fn from(error: IdError) -> Error {
        Error::text(format!("ERR {error}"))
    }
}

impl From<AddError> for Error {
    fn from(error: AddError) -> Error {
        Error::text(format!("ERR {error}"))
    }
}

impl From<SetIdError> for Error {
    fn from(error: SetIdError) -> Error {
        Error::text(format!("ERR {error}"))
    }
}

/// How large the nodes of streams become.
pub(super) fn node_limits(limits: &Limits) -> NodeLimits {
    NodeLimits { max_bytes: limits.stream_node_max_bytes, max_entries: limits.stream_node_max_entries }
}

/// Writes an id.
#[inline]
pub(super) fn write_id(reply: &mut Reply<'_>, id: StreamId) -> Replied {
    reply.bulk(id.format(&mut IdBuf::new()))
}

/// Writes fields and values.
#[inline]
pub(super) fn write_pairs(reply: &mut Reply<'_>, fields: &mut Fields<'_>) -> Replied {
    let replied = reply.array(2 * fields.len());
    for (field, value) in fields {
        reply.item(field);
        reply.item(value);
    }
    replied
}

/// Writes the fields and values of an entry.
#[inline]
pub(super) fn write_fields(reply: &mut Reply<'_>, entry: &Entry<'_>) -> Replied {
    write_pairs(reply, &mut entry.fields())
}

/// Writes an entry, given by its id, and its fields and values.
#[inline]
pub(super) fn write_parts(reply: &mut Reply<'_>, id: StreamId, fields: &mut Fields<'_>) -> Replied {
    reply.array(2);
    write_id(reply, id);
    write_pairs(reply, fields)
}

/// Writes an entry: its id, and its fields and values.
#[inline]
pub(super) fn write_entry(reply: &mut Reply<'_>, entry: Entry<'_>) -> Replied {
    write_parts(reply, entry.id, &mut entry.fields())
}

/// Writes up to `count` entries, the elements of an array that is open; returns how many. Stops early if nobody will
/// read them, but not before the first: there is none only if zero is returned.
#[inline]
pub(super) fn write_entries(reply: &mut Reply<'_>, mut range: Range<'_>, count: usize) -> usize {
    let mut n = 0;
    while n < count && range.read_next(|id, fields| _ = write_parts(reply, id, fields)).is_some() {
        n += 1;
        if reply.is_dropping() {
            break;
        }
    }
    n
}

/// Reads the argument at `i` as what becomes of references to deleted entries.
fn ref_policy(args: &Args<'_>, i: usize) -> Option<RefPolicy> {
    if args.is(i, "KEEPREF") {
        Some(RefPolicy::Keep)
    } else if args.is(i, "DELREF") {
        Some(RefPolicy::Delete)
    } else if args.is(i, "ACKED") {
        Some(RefPolicy::Acked)
    } else {
        None
    }
}

/// The ids of `IDS numids id [id …]` at `i`, as arguments, and where they end.
///
/// # Errors
/// The number is none, or there are not as many ids.
pub(super) fn numbered_ids<'a>(args: &Args<'a>, i: usize) -> Result<(Args<'a>, usize), Error> {
    let n = args.get(i + 1).and_then(num::parse_i64).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let n = n.ok_or_else(|| Error::text("ERR Number of IDs must be a positive integer"))?;
    let end = (i + 2).saturating_add(n);
    if end > args.len() {
        return Err(Error::text("ERR The `numids` parameter must match the number of arguments"));
    }
    Ok((args.range(i + 2..end), end))
}

/// The policy and the ids of a command that deletes with a policy, from argument `i` on.
///
/// # Errors
/// As [`numbered_ids`], and whatever else is no option.
pub(super) fn policy_and_ids<'a>(args: &Args<'a>, mut i: usize) -> Result<(RefPolicy, Args<'a>), Error> {
    let (mut policy, mut ids) = (None, None);
    while i < args.len() {
        if args.is(i, "IDS") && ids.is_none() {
            let (found, end) = numbered_ids(args, i)?;
            (ids, i) = (Some(found), end);
            continue;
        }
        if policy.is_some() {
            return Err(Error::Syntax);
        }
        policy = Some(ref_policy(args, i).ok_or(Error::Syntax)?);
        i += 1;
    }
    Ok((policy.unwrap_or_default(), ids.ok_or(Error::Syntax)?))
}

/// Reads ids, each complete or without a sequence number.
pub(super) fn parse_ids(ids: &Args<'_>) -> Result<Vec<StreamId>, Error> {
    ids.iter().map(|id| Ok(StreamId::parse(id, 0)?)).collect()
}

// ---- adding and trimming ------------------------------------------------------------------------

/// What precedes the entry of an XADD, or makes an XTRIM.
struct AddOptions<'a> {
    creates: bool,
    trim: Option<Trim>,
    policy: RefPolicy,
    /// The producer and, unless it follows from the content, the idempotency id.
    idempotency: Option<(&'a [u8], Option<&'a [u8]>)>,
    /// The argument behind the last option.
    end: usize,
}

impl<'a> AddOptions<'a> {
    /// Reads options from argument 2 on; `of_add` until something else comes.
    fn parse(args: &Args<'a>, limits: NodeLimits, of_add: bool) -> Result<AddOptions<'a>, Error> {
        let mut options = AddOptions {
            creates: true,
            trim: None,
            policy: RefPolicy::Keep,
            idempotency: None,
            end: args.len(),
        };
        let (mut limit, mut policy) = (None, None);
        let mut i = 2;
        while i < args.len() {
            let more = args.len() - 1 - i;
            let by_length = args.is(i, "MAXLEN");
            if of_add && args.at(i) == b"*" {
                options.end = i;
                break;
            } else if more > 0 && (by_length || args.is(i, "MINID")) {
                if options.trim.is_some() {
                    return Err(Error::text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let approximate = more >= 2 && args.at(i + 1) == b"~";
                if approximate || (more >= 2 && args.at(i + 1) == b"=") {
                    i += 1;
                }
                let threshold = if by_length {
                    let max = u64::try_from(args.int(i + 1)?);
                    Threshold::MaxLen(max.map_err(|_| Error::text("ERR The MAXLEN argument must be >= 0."))?)
                } else {
                    Threshold::MinId(StreamId::parse(args.at(i + 1), 0)?)
                };
                options.trim = Some(Trim { threshold, approximate, limit: 0 });
                i += 2;
            } else if more > 0 && args.is(i, "LIMIT") {
                let n = u64::try_from(args.int(i + 1)?);
                limit = Some(n.map_err(|_| Error::text("ERR The LIMIT argument must be >= 0."))?);
                i += 2;
            } else if of_add && args.is(i, "NOMKSTREAM") {
                options.creates = false;
                i += 1;
            } else if let Some(found) = ref_policy(args, i).filter(|_| policy.is_none()) {
                policy = Some(found);
                i += 1;
            } else if of_add && more >= 2 && args.is(i, "IDMP") && options.idempotency.is_none() {
                options.idempotency = Some((args.at(i + 1), Some(args.at(i + 2))));
                i += 3;
            } else if of_add && more > 0 && args.is(i, "IDMPAUTO") && options.idempotency.is_none() {
                options.idempotency = Some((args.at(i + 1), None));
                i += 2;
            } else if of_add {
                options.end = i;
                break;
            } else {
                return Err(Error::Syntax);
            }
        }
        options.policy = policy.unwrap_or_default();
        if limit.is_some() && options.trim.is_none() {
            return Err(Error::text(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if let Some(trim) = &mut options.trim {
            if limit.is_some() && !trim.approximate {
                return Err(Error::text(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            if trim.approximate {
                trim.limit = limit.unwrap_or_else(|| Trim::default_limit(limits));
            }
        } else if !of_add {
            return Err(Error::text("ERR syntax error, XTRIM must be called with MAXLEN or MINID"));
        }
        Ok(options)
    }
}

/// Calls `f` with the words of an exact trim that has the outcome of `trim` on `stream`.
fn with_exact_trim<R>(stream: &Stream, trim: &Trim, policy: RefPolicy, f: impl FnOnce(&[&[u8]]) -> R) -> R {
    let (mut digits, mut id) = (itoa::Buffer::new(), IdBuf::new());
    let threshold = if trim.approximate { stream.exact_threshold(trim.threshold) } else { trim.threshold };
    let (name, value): (&[u8], &[u8]) = match threshold {
        Threshold::MaxLen(max) => (b"MAXLEN", digits.format(max).as_bytes()),
        Threshold::MinId(min) => (b"MINID", min.format(&mut id)),
    };
    match policy {
        RefPolicy::Keep => f(&[name, b"=", value]),
        RefPolicy::Delete => f(&[name, b"=", value, b"DELREF"]),
        RefPolicy::Acked => f(&[name, b"=", value, b"ACKED"]),
    }
}

const REFERENCES: Arg = Arg::one_of(
    "condition",
    &[Arg::word("keepref", "KEEPREF"), Arg::word("delref", "DELREF"), Arg::word("acked", "ACKED")],
)
.optional()
.since("8.2.0");

const TRIM: &[Arg] = &[
    Arg::one_of("strategy", &[Arg::word("maxlen", "MAXLEN"), Arg::word("minid", "MINID").since("6.2.0")]),
    Arg::one_of("operator", &[Arg::word("equal", "="), Arg::word("approximately", "~")]).optional(),
    Arg::string("threshold"),
    Arg::integer("count").token("LIMIT").optional().since("6.2.0"),
];

const XADD: Spec = Spec::data("xadd", -5, xadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.with(KeyFlags::UPDATE))
        .notes("UPDATE instead of INSERT because of the optional trimming feature")])
    .seeks(Seeks::Start)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Adds an entry to a stream, creating it if need be.",
        since: "5.0.0",
        complexity: "O(1) for the entry, O(N) for N entries that trimming removes.",
        group: Group::Stream,
        history: &[
            ("6.2.0", "The options `NOMKSTREAM`, `MINID` and `LIMIT`."),
            ("7.0.0", "Explicit ids of the form `<ms>-*`."),
        ],
        args: &[
            Arg::key("key"),
            Arg::word("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
            REFERENCES,
            Arg::one_of(
                "idmp",
                &[
                    Arg::string("pid").token("IDMPAUTO"),
                    Arg::block("idmp", &[Arg::string("pid"), Arg::string("iid")]).token("IDMP"),
                ],
            )
            .optional()
            .since("8.6.0"),
            Arg::block("trim", TRIM).optional(),
            Arg::one_of("id-selector", &[Arg::word("auto-id", "*"), Arg::string("id")]),
            Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        ..Docs::NONE
    });

/// XADD key [option …] id field value [field value …] → the id of the entry, or null if there is no stream.
fn xadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key, limits) = (ctx.args, ctx.args.key(1), node_limits(&ctx.limits.types));
    let options = AddOptions::parse(&args, limits, true)?;
    let at = options.end;
    let Some(id) = args.get(at) else { return Err(Error::arity(ctx.name)) };
    let new_id = NewId::parse(id)?;
    let items = args.rest(at + 1);
    if items.len() < 2 || items.len() % 2 == 1 {
        return Err(Error::arity(ctx.name));
    }
    if new_id == NewId::Exact(StreamId::MIN) {
        return Err(AddError::Zero.into());
    }
    let mut made = false;
    let found = if options.creates {
        Some(ctx.db.write_or_insert(key, || {
            made = true;
            Stream::new()
        })?)
    } else {
        ctx.db.write_as::<Stream>(key)?
    };
    let Some(stream) = found else { return Ok(ctx.reply.null()) };
    let now = ctx.now.0.max(0) as u64;
    let mut idempotency = None;
    if let Some((producer, iid)) = options.idempotency {
        let iid = iid.map_or_else(|| content_id(items.iter()).to_vec(), <[u8]>::to_vec);
        let state = stream.idempotency_or_default();
        if let Some(id) = state.find(producer, &iid, now) {
            state.count_duplicate();
            // A change of what snapshots have, and of nothing that a repeated request would find elsewhere.
            ctx.feed.nothing();
            ctx.db.changed(key, Event::SILENT, 1);
            return Ok(write_id(&mut ctx.reply, id));
        }
        idempotency = Some((producer, iid));
    }
    let added = stream.next_id(new_id, now).and_then(|id| stream.add(id, items.iter(), limits).map(|()| id));
    let id = match added {
        Ok(id) => id,
        Err(error) => {
            if made {
                ctx.db.remove(key, false);
            }
            return Err(error.into());
        }
    };
    let trimmed = options.trim.map_or(0, |trim| stream.trim(trim, options.policy));
    if let Some((producer, iid)) = &idempotency {
        stream.idempotency_or_default().add(producer, iid, id, now);
    }
    let settled = matches!(new_id, NewId::Exact(_)) && options.trim.is_none_or(|trim| !trim.approximate);
    if !(settled && idempotency.is_none() || matches!(ctx.feed, Feed::Unheard)) {
        feed_added(ctx.feed, &args, &options, stream, id, at);
        if let Some((producer, iid)) = &idempotency {
            ctx.feed.instead(&[b"XIDMPRECORD", key.bytes, producer, iid, id.format(&mut IdBuf::new())]);
        }
    }
    ctx.db.changed(key, Event::stream("xadd"), 1);
    if trimmed > 0 {
        ctx.db.also_changed(key, Event::stream("xtrim").of_no_use());
    }
    Ok(write_id(&mut ctx.reply, id))
}

/// Passes on an entry that was added: with its id, and trimming to what is left now.
fn feed_added(
    feed: &mut Feed,
    args: &Args<'_>,
    options: &AddOptions<'_>,
    stream: &Stream,
    id: StreamId,
    at: usize,
) {
    let mut id_text = IdBuf::new();
    let mut words: Vec<&[u8]> = vec![args.at(0), args.at(1)];
    if !options.creates {
        words.push(b"NOMKSTREAM");
    }
    let mut finish = |trim: &[&[u8]]| {
        let mut words = words.clone();
        words.extend_from_slice(trim);
        words.push(id.format(&mut id_text));
        words.extend(args.rest(at + 1).iter());
        feed.instead(&words);
    };
    match &options.trim {
        Some(trim) => with_exact_trim(stream, trim, options.policy, finish),
        None => finish(&[]),
    }
}

const XTRIM: Spec = Spec::data("xtrim", -4, xtrim)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Removes entries from the front of a stream.",
        since: "5.0.0",
        complexity: "O(N) for N entries removed.",
        group: Group::Stream,
        history: &[("6.2.0", "The options `MINID` and `LIMIT`.")],
        args: &[Arg::key("key"), Arg::block("trim", TRIM), REFERENCES],
        ..Docs::NONE
    });

/// XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count] [KEEPREF|DELREF|ACKED] → how many entries were removed.
fn xtrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let options = AddOptions::parse(&ctx.args, node_limits(&ctx.limits.types), false)?;
    let trim = options.trim.expect("there are no options without it");
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return Ok(ctx.reply.int(0)) };
    let trimmed = stream.trim(trim, options.policy);
    if trimmed > 0 {
        if trim.approximate && !matches!(ctx.feed, Feed::Unheard) {
            let (name, feed) = (ctx.args.at(0), &mut *ctx.feed);
            with_exact_trim(stream, &trim, options.policy, |words| {
                feed.instead(&[&[name, key.bytes], words].concat());
            });
        }
        ctx.db.changed(key, Event::stream("xtrim").of_no_use(), trimmed as usize);
    }
    Ok(ctx.reply.int(trimmed as i64))
}

// ---- reading ------------------------------------------------------------------------------------

const XLEN: Spec = Spec::data("xlen", 2, xlen)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Counts the entries of a stream.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Stream,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// XLEN key → how many entries there are.
fn xlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let stream = ctx.db.read_as::<Stream>(ctx.args.key(1))?;
    Ok(ctx.reply.int(stream.map_or(0, |stream| stream.entries_len() as i64)))
}

const XRANGE: Spec = Spec::data("xrange", -4, xrange)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Returns the entries of a stream in a range of ids.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for M entries returned of a stream of N nodes.",
        group: Group::Stream,
        history: &[("6.2.0", "Exclusive ranges.")],
        args: &[
            Arg::key("key"),
            Arg::string("start"),
            Arg::string("end"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// XRANGE key start end [COUNT count] → the entries.
fn xrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, false)
}

const XREVRANGE: Spec = Spec::data("xrevrange", -4, xrevrange)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Returns the entries of a stream in a range of ids, the last first.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for M entries returned of a stream of N nodes.",
        group: Group::Stream,
        history: &[("6.2.0", "Exclusive ranges.")],
        args: &[
            Arg::key("key"),
            Arg::string("end"),
            Arg::string("start"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// XREVRANGE key end start [COUNT count] → the entries, the last first.
fn xrevrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, true)
}

fn range(ctx: &mut Ctx<'_>, backward: bool) -> CmdResult {
    let args = ctx.args;
    let (start, end) = if backward { (3, 2) } else { (2, 3) };
    let (start, end) = (StreamId::parse_start(args.at(start))?, StreamId::parse_end(args.at(end))?);
    let mut count = usize::MAX;
    for i in (4..args.len()).step_by(2) {
        if !args.is(i, "COUNT") || i + 1 == args.len() {
            return Err(Error::Syntax);
        }
        count = usize::try_from(args.int(i + 1)?).unwrap_or(0);
    }
    let Some(stream) = ctx.db.read_as::<Stream>(args.key(1))? else { return Ok(ctx.reply.array(0)) };
    if count == 0 {
        return Ok(ctx.reply.null_array());
    }
    let range = if backward { stream.range_back(start, end) } else { stream.range(start, end) };
    let at = ctx.reply.defer();
    let n = write_entries(&mut ctx.reply, range, count);
    Ok(ctx.reply.end_array(at, n))
}

// ---- deleting -----------------------------------------------------------------------------------

const XDEL: Spec = Spec::data("xdel", -3, xdel)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Deletes entries of a stream.",
        since: "5.0.0",
        complexity: "O(log(N)) for each entry, for a stream of N nodes.",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("id").multiple()],
        ..Docs::NONE
    });

/// XDEL key id [id …] → how many entries there were.
fn xdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return Ok(ctx.reply.int(0)) };
    let ids = parse_ids(&ctx.args.rest(2))?;
    let deleted = ids.into_iter().filter(|&id| stream.delete(id)).count();
    ctx.db.changed(key, Event::stream("xdel").of_no_use(), deleted);
    Ok(ctx.reply.int(deleted as i64))
}

const XDELEX: Spec = Spec::data("xdelex", -5, xdelex)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Deletes entries of a stream as far as its groups allow.",
        since: "8.2.0",
        complexity: "O(log(N)) for each entry and group, for a stream of N nodes.",
        group: Group::Stream,
        args: &[
            Arg::key("key"),
            REFERENCES,
            Arg::block("ids", &[Arg::integer("numids"), Arg::string("id").multiple()]).token("IDS"),
        ],
        ..Docs::NONE
    });

/// XDELEX key [KEEPREF|DELREF|ACKED] IDS numids id [id …] → of each id: 1 deleted, -1 not there, 2 still needed.
fn xdelex(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let (policy, ids) = match policy_and_ids(&ctx.args, 2) {
        Ok(found) => found,
        // A key of another type is the greater mistake.
        Err(error) => {
            ctx.db.write_as::<Stream>(key)?;
            return Err(error);
        }
    };
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else {
        let replied = ctx.reply.array(ids.len());
        ctx.reply.repeat(ids.len(), |reply| _ = reply.int(Deletion::Missing as i64));
        return Ok(replied);
    };
    let ids = parse_ids(&ids)?;
    let replied = ctx.reply.array(ids.len());
    let (before, mut changes) = (stream.entries_len(), 0);
    for id in ids {
        let (outcome, changed) = stream.delete_noting(id, policy);
        changes += usize::from(changed);
        ctx.reply.int(outcome as i64);
    }
    if stream.entries_len() < before {
        ctx.db.changed(key, Event::stream("xdel").of_no_use(), changes);
    } else {
        ctx.db.changed_beside(key, Event::SILENT, changes);
    }
    Ok(replied)
}

// ---- counters and idempotency -------------------------------------------------------------------

const XSETID: Spec = Spec::data("xsetid", -3, xsetid)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Sets the last id of a stream.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Stream,
        history: &[("7.0.0", "The arguments `entries_added` and `max_deleted_id`.")],
        args: &[
            Arg::key("key"),
            Arg::string("last-id"),
            Arg::integer("entries-added").token("ENTRIESADDED").optional().since("7.0.0"),
            Arg::string("max-deleted-id").token("MAXDELETEDID").optional().since("7.0.0"),
        ],
        ..Docs::NONE
    });

/// XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id] → OK.
fn xsetid(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let id = StreamId::parse(args.at(2), 0)?;
    let (mut entries_added, mut max_deleted) = (None, None);
    for i in (3..args.len()).step_by(2) {
        if i + 1 == args.len() {
            return Err(Error::Syntax);
        } else if args.is(i, "ENTRIESADDED") {
            let n = u64::try_from(args.int(i + 1)?);
            entries_added = Some(n.map_err(|_| Error::text("ERR entries_added must be positive"))?);
        } else if args.is(i, "MAXDELETEDID") {
            let tombstone = StreamId::parse(args.at(i + 1), 0)?;
            if id < tombstone {
                return Err(SetIdError::BelowGivenTombstone.into());
            }
            max_deleted = Some(tombstone);
        } else {
            return Err(Error::Syntax);
        }
    }
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    stream.set_id(id, entries_added, max_deleted)?;
    ctx.db.changed_beside(key, Event::stream("xsetid").of_no_use(), 1);
    Ok(ctx.reply.ok())
}

const XCFGSET: Spec = Spec::data("xcfgset", -2, xcfgset)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Sets how long and how many idempotency ids of a stream are remembered.",
        since: "8.6.0",
        complexity: "O(1)",
        group: Group::Stream,
        args: &[
            Arg::key("key"),
            Arg::integer("idmp-duration").token("IDMP-DURATION").optional(),
            Arg::integer("idmp-maxsize").token("IDMP-MAXSIZE").optional(),
        ],
        ..Docs::NONE
    });

/// XCFGSET key [IDMP-DURATION seconds] [IDMP-MAXSIZE ids] → OK.
fn xcfgset(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let (mut duration, mut max_size) = (None, None);
    let within = |i: usize, most: u64, name: &str| {
        let n = u64::try_from(args.int(i)?).ok().filter(|n| (1..=most).contains(n));
        n.ok_or_else(|| Error::text(format!("ERR {name} must be between 1 and {most}")))
    };
    for i in (2..args.len()).step_by(2) {
        if i + 1 == args.len() {
            return Err(Error::Syntax);
        } else if args.is(i, "IDMP-DURATION") {
            duration = Some(within(i + 1, 86_400, "IDMP-DURATION")?);
        } else if args.is(i, "IDMP-MAXSIZE") {
            max_size = Some(within(i + 1, 10_000, "IDMP-MAXSIZE")?);
        } else {
            return Err(Error::Syntax);
        }
    }
    if duration.is_none() && max_size.is_none() {
        return Err(Error::text("ERR At least one parameter must be specified"));
    }
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    stream.idempotency_or_default().configure(duration, max_size);
    ctx.db.changed_beside(key, Event::stream("xcfgset").of_no_use(), 1);
    Ok(ctx.reply.ok())
}

const XIDMPRECORD: Spec = Spec::data("xidmprecord", 5, xidmprecord)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STREAM)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Remembers that an idempotency id of a producer stands for an entry; for files and replicas.",
        since: "8.6.2",
        complexity: "O(1)",
        group: Group::Stream,
        args: &[Arg::key("key"), Arg::string("pid"), Arg::string("iid"), Arg::string("id")],
        ..Docs::NONE
    });

/// XIDMPRECORD key producer iid id → OK.
fn xidmprecord(ctx: &mut Ctx<'_>) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key(1));
    let id = StreamId::parse(args.at(4), 0)?;
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(Error::NoSuchKey)?;
    let recorded = stream.idempotency_or_default().record(args.at(2), args.at(3), id);
    recorded.map_err(|error| Error::text(format!("ERR {error}")))?;
    ctx.db.changed_beside(key, Event::SILENT, 1);
    Ok(ctx.reply.ok())
}
