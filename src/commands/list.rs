//! Commands on lists.

use std::ops::Range;

use crate::keyspace::{Event, Key};
use crate::resp::{Error, Replied};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::types::list::End;
use crate::types::{Describe, List};

/// Table entries of the list commands.
pub const COMMANDS: &[Spec] = &[
    LINDEX, LINSERT, LLEN, LMOVE, LMPOP, LPOP, LPOS, LPUSH, LPUSHX, LRANGE, LREM, LSET, LTRIM, RPOP,
    RPOPLPUSH, RPUSH, RPUSHX,
];

const LPUSH: Spec = Spec::data("lpush", -3, lpush)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Adds elements at the head, creating the list if need be.",
        since: "1.0.0",
        complexity: "O(1) per element.",
        group: Group::List,
        history: &[("2.4.0", "Several `element` arguments.")],
        args: &[Arg::key("key"), Arg::string("element").multiple()],
        ..Docs::NONE
    });

/// LPUSH key element [element …] → new length.
fn lpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Head, false)
}

const RPUSH: Spec = Spec::data("rpush", -3, rpush)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Adds elements at the tail, creating the list if need be.",
        since: "1.0.0",
        complexity: "O(1) per element.",
        group: Group::List,
        history: &[("2.4.0", "Several `element` arguments.")],
        args: &[Arg::key("key"), Arg::string("element").multiple()],
        ..Docs::NONE
    });

/// RPUSH key element [element …] → new length.
fn rpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Tail, false)
}

const LPUSHX: Spec = Spec::data("lpushx", -3, lpushx)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Adds elements at the head of a list that exists.",
        since: "2.2.0",
        complexity: "O(1) per element.",
        group: Group::List,
        history: &[("4.0.0", "Several `element` arguments.")],
        args: &[Arg::key("key"), Arg::string("element").multiple()],
        ..Docs::NONE
    });

/// LPUSHX key element [element …] → new length; 0 if there is no list.
fn lpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Head, true)
}

const RPUSHX: Spec = Spec::data("rpushx", -3, rpushx)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Adds elements at the tail of a list that exists.",
        since: "2.2.0",
        complexity: "O(1) per element.",
        group: Group::List,
        history: &[("4.0.0", "Several `element` arguments.")],
        args: &[Arg::key("key"), Arg::string("element").multiple()],
        ..Docs::NONE
    });

/// RPUSHX key element [element …] → new length; 0 if there is no list.
fn rpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Tail, true)
}

fn push(ctx: &mut Ctx<'_>, end: End, must_exist: bool) -> CmdResult {
    let key = ctx.args.key(1);
    let elements = ctx.args.rest(2);
    let limits = &ctx.limits.types;
    let list = if must_exist {
        match ctx.db.write_as::<List>(key)? {
            Some(list) => list,
            None => return Ok(ctx.reply.int(0)),
        }
    } else {
        ctx.db.write_or_insert(key, List::new)?
    };
    list.prepare(elements.len(), elements.iter().map(<[u8]>::len).sum(), limits);
    for element in elements.iter() {
        list.push(end, element);
    }
    let len = list.len();
    ctx.db.changed(key, pushed(end), elements.len());
    Ok(ctx.reply.int(len as i64))
}

pub(super) fn pushed(end: End) -> Event {
    Event::list(if end == End::Head { "lpush" } else { "rpush" })
}

pub(super) fn popped(end: End) -> Event {
    Event::list(if end == End::Head { "lpop" } else { "rpop" })
}

const LPOP: Spec = Spec::data("lpop", -2, lpop)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Takes elements from the head.",
        since: "1.0.0",
        complexity: "O(N) for N elements taken.",
        group: Group::List,
        history: &[("6.2.0", "The `count` argument.")],
        args: &[Arg::key("key"), Arg::integer("count").since("6.2.0").optional()],
        ..Docs::NONE
    });

/// LPOP key [count] → the first element, or an array of up to `count` elements.
fn lpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Head)
}

const RPOP: Spec = Spec::data("rpop", -2, rpop)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Takes elements from the tail.",
        since: "1.0.0",
        complexity: "O(N) for N elements taken.",
        group: Group::List,
        history: &[("6.2.0", "The `count` argument.")],
        args: &[Arg::key("key"), Arg::integer("count").since("6.2.0").optional()],
        ..Docs::NONE
    });

/// RPOP key [count] → the last element, or an array of up to `count` elements.
fn rpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Tail)
}

fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    if ctx.args.len() > 3 {
        return Err(Error::arity(ctx.name));
    }
    let key = ctx.args.key(1);
    let count = match ctx.args.get(2) {
        None => None,
        Some(_) => Some(count_arg(ctx, 2, 0)?),
    };
    if ctx.db.find_as::<List>(key)?.is_none() {
        return Ok(if count.is_some() { ctx.reply.null_array() } else { ctx.reply.null() });
    }
    let Some(count) = count else { return Ok(pop_one(ctx, key, end)) };
    if count == 0 {
        return Ok(ctx.reply.array(0));
    }
    pop_many(ctx, key, end, count);
    Ok(Replied::later())
}

/// Removes an element of a non-empty list and replies with it.
pub(super) fn pop_one(ctx: &mut Ctx<'_>, key: Key<'_>, end: End) -> Replied {
    let Ok(Some(list)) = ctx.db.write_as::<List>(key) else { unreachable!("looked up by the caller") };
    let reply = &mut ctx.reply;
    let replied = list.pop(end, |item| reply.item(item)).expect("no empty list is kept");
    list.relax(&ctx.limits.types);
    ctx.db.changed(key, popped(end), 1);
    ctx.db.settle::<List>(key);
    replied
}

/// Removes up to `count` elements of a non-empty list and replies with an array of them.
fn pop_many(ctx: &mut Ctx<'_>, key: Key<'_>, end: End, count: usize) {
    let Ok(Some(list)) = ctx.db.write_as::<List>(key) else { unreachable!("looked up by the caller") };
    let len = list.len();
    let count = count.min(len);
    ctx.reply.array(count);
    let reply = &mut ctx.reply;
    let (start, first) = match end {
        End::Head => (0, 0),
        End::Tail => (-1, len - count),
    };
    list.visit(start, end, count, |item| {
        reply.item(item);
    });
    list.remove_range(first, count);
    list.relax(&ctx.limits.types);
    ctx.db.changed(key, popped(end), count);
    ctx.db.settle::<List>(key);
}

/// Argument `i` as a count of at least `least`.
fn count_arg(ctx: &Ctx<'_>, i: usize, least: i64) -> Result<usize, Error> {
    let Ok(n) = ctx.args.int(i) else {
        return Err(Error::NegativeCount);
    };
    if n < least { Err(Error::NegativeCount) } else { Ok(n as usize) }
}

const LMPOP: Spec = Spec::data("lmpop", -4, lmpop)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).count(0, 1, 1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Takes elements from an end of the first list that is not empty.",
        since: "7.0.0",
        complexity: "O(N+M) for N keys and M elements taken.",
        group: Group::List,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::one_of("where", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count] → the key and an array of elements, or null.
fn lmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let popping = MultiPop::parse(ctx, 1)?;
    Ok(popping.run(ctx)?.unwrap_or_else(|| ctx.reply.null_array()))
}

/// A command that removes elements from the first non-empty list of several.
pub(super) struct MultiPop {
    /// Indices of the arguments that are keys.
    pub keys: Range<usize>,
    end: End,
    count: usize,
}

impl MultiPop {
    /// Parses `numkeys key [key …] LEFT|RIGHT [COUNT count]` from argument `at` on.
    pub(super) fn parse(ctx: &Ctx<'_>, at: usize) -> Result<MultiPop, Error> {
        let numkeys = match ctx.args.int(at) {
            Ok(n) if n > 0 => n as usize,
            _ => return Err(Error::text("ERR numkeys should be greater than 0")),
        };
        let keys = at + 1..numkeys.saturating_add(at + 1);
        if keys.end >= ctx.args.len() {
            return Err(Error::Syntax);
        }
        let end = end_arg(ctx, keys.end)?;
        let mut count = None;
        let mut i = keys.end + 1;
        while i < ctx.args.len() {
            if count.is_some() || !ctx.args.is(i, "count") || i + 1 >= ctx.args.len() {
                return Err(Error::Syntax);
            }
            count = match ctx.args.int(i + 1) {
                Ok(n) if n > 0 => Some(n as usize),
                _ => return Err(Error::text("ERR count should be greater than 0")),
            };
            i += 2;
        }
        Ok(MultiPop { keys, end, count: count.unwrap_or(1) })
    }

    /// Removes the elements and replies with the key and the elements; `None` if all lists are empty.
    pub(super) fn run(&self, ctx: &mut Ctx<'_>) -> Result<Option<Replied>, Error> {
        for i in self.keys.clone() {
            let key = ctx.args.key(i);
            let Some(list) = ctx.db.write_as::<List>(key)? else { continue };
            let count = self.count.min(list.len());
            ctx.reply.array(2);
            let replied = ctx.reply.bulk(key.bytes);
            pop_many(ctx, key, self.end, count);
            // Others need not search for the list again.
            let mut digits = itoa::Buffer::new();
            ctx.feed.instead(&[pop_command(self.end), key.bytes, digits.format(count).as_bytes()]);
            return Ok(Some(replied));
        }
        Ok(None)
    }
}

/// Name of the command that removes elements from one end of a list.
pub(super) fn pop_command(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

const LLEN: Spec = Spec::data("llen", 2, llen)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Returns the number of elements.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::List,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// LLEN key → number of elements.
fn llen(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let len = ctx.db.read_as::<List>(key)?.map_or(0, List::len);
    Ok(ctx.reply.int(len as i64))
}

const LINDEX: Spec = Spec::data("lindex", 3, lindex)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Returns the element at an index.",
        since: "1.0.0",
        complexity: "O(N) for N elements between the index and the nearer end.",
        group: Group::List,
        args: &[Arg::key("key"), Arg::integer("index")],
        ..Docs::NONE
    });

/// LINDEX key index → the element, or null.
fn lindex(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let Some(list) = ctx.db.read_as::<List>(key)? else { return Ok(ctx.reply.null()) };
    let index = ctx.args.int(2)?;
    let reply = &mut ctx.reply;
    Ok(list.get(index, |item| reply.item(item)).unwrap_or_else(|| ctx.reply.null()))
}

const LRANGE: Spec = Spec::data("lrange", 4, lrange)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Returns a range of elements.",
        since: "1.0.0",
        complexity: "O(S+N) for a start S elements from the nearer end and N elements returned.",
        group: Group::List,
        args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
        ..Docs::NONE
    });

/// LRANGE key start stop → the elements from `start` to `stop`, inclusive.
fn lrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let (start, stop) = (ctx.args.int(2)?, ctx.args.int(3)?);
    let Some(list) = ctx.db.read_as::<List>(key)? else { return Ok(ctx.reply.array(0)) };
    let range = clip(start, stop, list.len());
    let replied = ctx.reply.array(range.len());
    ctx.reply.in_steps(range.len(), |reply, from, n| {
        list.visit((range.start + from) as i64, End::Head, n, |item| _ = reply.item(item));
    });
    Ok(replied)
}

/// Indices from `start` to `stop`, inclusive, in a list of `len` elements; negative ones count from the end.
fn clip(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let absolute = |i: i64| if i < 0 { (len as i64).saturating_add(i) } else { i };
    let start = absolute(start).max(0) as usize;
    let stop = absolute(stop).saturating_add(1).clamp(0, len as i64) as usize;
    start.min(stop)..stop
}

const LPOS: Spec = Spec::data("lpos", -3, lpos)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Finds where elements equal to a value are.",
        since: "6.0.6",
        complexity: "O(N) for N elements looked at; MAXLEN bounds them.",
        group: Group::List,
        args: &[
            Arg::key("key"),
            Arg::string("element"),
            Arg::integer("rank").token("RANK").optional(),
            Arg::integer("num-matches").token("COUNT").optional(),
            Arg::integer("len").token("MAXLEN").optional(),
        ],
        ..Docs::NONE
    });

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len] → an index or null, or an array of indices.
fn lpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let element = ctx.args.at(2);
    let (mut rank, mut count, mut most) = (1i64, None, 0i64);
    let mut i = 3;
    while i < ctx.args.len() {
        if i + 1 == ctx.args.len() {
            return Err(Error::Syntax);
        }
        if ctx.args.is(i, "rank") {
            rank = match ctx.args.int(i + 1)? {
                0 => return Err(Error::text(ZERO_RANK)),
                i64::MIN => {
                    return Err(Error::text(
                        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                    ));
                }
                rank => rank,
            };
        } else if ctx.args.is(i, "count") {
            count = match ctx.args.int(i + 1) {
                Ok(n) if n >= 0 => Some(n as usize),
                _ => return Err(Error::text("ERR COUNT can't be negative")),
            };
        } else if ctx.args.is(i, "maxlen") {
            most = match ctx.args.int(i + 1) {
                Ok(n) if n >= 0 => n,
                _ => return Err(Error::text("ERR MAXLEN can't be negative")),
            };
        } else {
            return Err(Error::Syntax);
        }
        i += 2;
    }
    let Some(list) = ctx.db.read_as::<List>(key)? else {
        return Ok(if count.is_some() { ctx.reply.array(0) } else { ctx.reply.null() });
    };
    let end = if rank < 0 { End::Tail } else { End::Head };
    let mut skip = rank.unsigned_abs() - 1;
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(n) => n,
    };
    let most = if most == 0 { usize::MAX } else { most as usize };
    let mut found = Vec::new();
    list.positions(element, end, most, |index| {
        if skip > 0 {
            skip -= 1;
            return true;
        }
        found.push(index);
        found.len() < wanted
    });
    if count.is_none() {
        return Ok(match found.first() {
            Some(&index) => ctx.reply.int(index as i64),
            None => ctx.reply.null(),
        });
    }
    let replied = ctx.reply.array(found.len());
    ctx.reply.each(found, |reply, index| _ = reply.int(index as i64));
    Ok(replied)
}

const ZERO_RANK: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list";

const LSET: Spec = Spec::data("lset", 4, lset)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Replaces the element at an index.",
        since: "1.0.0",
        complexity: "O(N) for N elements between the index and the nearer end.",
        group: Group::List,
        args: &[Arg::key("key"), Arg::integer("index"), Arg::string("element")],
        ..Docs::NONE
    });

/// LSET key index element → OK.
fn lset(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Err(Error::NoSuchKey) };
    let index = ctx.args.int(2)?;
    let element = ctx.args.at(3);
    let limits = &ctx.limits.types;
    list.prepare(1, element.len(), limits);
    let done = list.set(index, element);
    list.relax(limits);
    if !done {
        return Err(Error::IndexOutOfRange);
    }
    ctx.db.changed(key, Event::list("lset"), 1);
    Ok(ctx.reply.ok())
}

const LINSERT: Spec = Spec::data("linsert", 5, linsert)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Puts an element beside the first one equal to a pivot.",
        since: "2.2.0",
        complexity: "O(N) for N elements before the pivot.",
        group: Group::List,
        args: &[
            Arg::key("key"),
            Arg::one_of("where", &[Arg::word("before", "BEFORE"), Arg::word("after", "AFTER")]),
            Arg::string("pivot"),
            Arg::string("element"),
        ],
        ..Docs::NONE
    });

/// LINSERT key BEFORE|AFTER pivot element → new length; −1 if the pivot is missing, 0 if there is no list.
fn linsert(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let after = match () {
        () if ctx.args.is(2, "after") => true,
        () if ctx.args.is(2, "before") => false,
        () => return Err(Error::Syntax),
    };
    let (pivot, element) = (ctx.args.at(3), ctx.args.at(4));
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Ok(ctx.reply.int(0)) };
    list.prepare(1, element.len(), &ctx.limits.types);
    if !list.insert(pivot, after, element) {
        return Ok(ctx.reply.int(-1));
    }
    let len = list.len();
    ctx.db.changed(key, Event::list("linsert"), 1);
    Ok(ctx.reply.int(len as i64))
}

const LREM: Spec = Spec::data("lrem", 4, lrem)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Removes elements equal to a value.",
        since: "1.0.0",
        complexity: "O(N+M) for N elements in the list, M of them removed.",
        group: Group::List,
        args: &[Arg::key("key"), Arg::integer("count"), Arg::string("element")],
        ..Docs::NONE
    });

/// LREM key count element → number of removed elements: the first `count`, the last `-count`, or all for 0.
fn lrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let count = ctx.args.int(2)?;
    if count == i64::MIN && ctx.limits.compat_version.is_newer() {
        return Err(Error::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Ok(ctx.reply.int(0)) };
    let end = if count < 0 { End::Tail } else { End::Head };
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = list.remove(ctx.args.at(3), end, most);
    list.relax(&ctx.limits.types);
    ctx.db.changed(key, Event::list("lrem"), removed);
    ctx.db.settle::<List>(key);
    Ok(ctx.reply.int(removed as i64))
}

const LTRIM: Spec = Spec::data("ltrim", 4, ltrim)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Keeps a range of elements and removes all others.",
        since: "1.0.0",
        complexity: "O(N) for N elements removed.",
        group: Group::List,
        args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("stop")],
        ..Docs::NONE
    });

/// LTRIM key start stop → OK. Keeps only the elements from `start` to `stop`.
fn ltrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let (start, stop) = (ctx.args.int(2)?, ctx.args.int(3)?);
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Ok(ctx.reply.ok()) };
    let len = list.len();
    let keep = clip(start, stop, len);
    let removed = len - keep.len();
    if keep.is_empty() {
        list.remove_range(0, len);
    } else {
        list.remove_range(keep.end, len - keep.end);
        list.remove_range(0, keep.start);
    }
    list.relax(&ctx.limits.types);
    let event = Event::list("ltrim");
    match removed {
        // Nothing changed, but watchers and clients that cache the key are told so, as in Redis.
        0 => ctx.db.also_changed(key, event),
        _ => ctx.db.changed(key, event, removed),
    }
    ctx.db.settle::<List>(key);
    Ok(ctx.reply.ok())
}

const LMOVE: Spec = Spec::data("lmove", 5, lmove)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::LIST)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT)),
    ])
    .docs(Docs {
        summary: "Takes an element from one end of a list and puts it at one end of another.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::List,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of("wherefrom", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
            Arg::one_of("whereto", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
        ],
        ..Docs::NONE
    });

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT → the element, or null.
fn lmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let from = end_arg(ctx, 3)?;
    let to = end_arg(ctx, 4)?;
    Ok(move_element(ctx, from, to)?.unwrap_or_else(|| ctx.reply.null()))
}

/// Argument `i` as an end of a list.
pub(super) fn end_arg(ctx: &Ctx<'_>, i: usize) -> Result<End, Error> {
    if ctx.args.is(i, "left") {
        Ok(End::Head)
    } else if ctx.args.is(i, "right") {
        Ok(End::Tail)
    } else {
        Err(Error::Syntax)
    }
}

/// Moves an element from the list at argument 1 to the list at argument 2, and replies with it; `None` if there is
/// none.
pub(super) fn move_element(ctx: &mut Ctx<'_>, from: End, to: End) -> Result<Option<Replied>, Error> {
    let (source, destination) = (ctx.args.key(1), ctx.args.key(2));
    if ctx.db.find_as::<List>(source)?.is_none() {
        return Ok(None);
    }
    // The type of the destination is checked before an element is removed.
    ctx.db.find_as::<List>(destination)?;
    let limits = &ctx.limits.types;
    let list = ctx.db.write_as::<List>(source)?.expect("looked up above");
    let element = list.pop(from, |item| item.to_vec()).expect("no list is empty");
    if source.bytes == destination.bytes {
        list.push(to, &element);
    } else {
        list.relax(limits);
        let list = ctx.db.write_or_insert(destination, List::new)?;
        list.prepare(1, element.len(), limits);
        list.push(to, &element);
    }
    ctx.db.changed(destination, pushed(to), 1);
    ctx.db.also_changed(source, popped(from));
    ctx.db.settle::<List>(source);
    Ok(Some(ctx.reply.bulk(&element)))
}

const RPOPLPUSH: Spec = Spec::data("rpoplpush", 3, rpoplpush)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::LIST)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT)),
    ])
    .docs(Docs {
        summary: "Takes the last element of a list and puts it first in another.",
        since: "1.2.0",
        complexity: "O(1)",
        group: Group::List,
        deprecated_since: "6.2.0",
        replaced_by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
        args: &[Arg::key("source"), Arg::key("destination").key_spec(1)],
        ..Docs::NONE
    });

/// RPOPLPUSH source destination → the element, or null.
fn rpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(move_element(ctx, End::Tail, End::Head)?.unwrap_or_else(|| ctx.reply.null()))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn both_ends_and_ranges() {
        check(
            r#"
            RPUSH l a b c
            LPUSH l z 7
            LRANGE l 0 -1
            LPOP l
            RPOP l 2
            LLEN l
            LINDEX l -1
            LPOP l 0
            LPOP nosuch 3
            LTRIM l 5 9
            EXISTS l
            "#,
            r#"
            (integer) 3
            (integer) 5
            1) "7"
            2) "z"
            3) "a"
            4) "b"
            5) "c"
            "7"
            1) "c"
            2) "b"
            (integer) 2
            "a"
            (empty array)
            (nil)
            OK
            (integer) 0
            "#,
        );
    }

    #[test]
    fn positions_and_moves() {
        check(
            r#"
            RPUSH l a b c 1 2 3 c c
            LPOS l c
            LPOS l c RANK 2
            LPOS l c COUNT 0
            LPOS l c RANK -1 COUNT 2
            LPOS l c RANK 0
            LREM l -2 c
            LINSERT l BEFORE 1 x
            LINSERT l AFTER nosuch x
            LMOVE l m RIGHT LEFT
            RPOPLPUSH l l
            LMPOP 2 nosuch l LEFT COUNT 2
            LSET l 10 x
            LSET nosuch 0 x
            "#,
            r#"
            (integer) 8
            (integer) 2
            (integer) 6
            1) (integer) 2
            2) (integer) 6
            3) (integer) 7
            1) (integer) 7
            2) (integer) 6
            (error) ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
            (integer) 2
            (integer) 7
            (integer) -1
            "3"
            "2"
            1) "l"
            2) 1) "2"
               2) "a"
            (error) ERR index out of range
            (error) ERR no such key
            "#,
        );
    }
}
