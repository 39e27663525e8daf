//! Commands on strings.
//!
//! A string that is the canonical text of an integer is stored as an integer, whichever command wrote it; a string
//! changed in place (`APPEND`, `SETRANGE`) stays bytes. Every write of a whole value goes through [`store`].

use std::sync::Arc;

use super::expiry::{Expiry, Unit};
use super::string_compare::{COMPARISONS, Comparison};
use super::window::{all_keys, each_key};
use crate::keyspace::{Db, Event, Ttl, WrongType};
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::stdx::long_double::LongDouble;
use crate::stdx::num;
use crate::types::Value;
use crate::types::lcs::{self, Alignment};
use crate::types::string::{StringRef, clamp_ordered};

/// Table entries of the string commands.
pub const COMMANDS: &[Spec] = &[
    APPEND,
    DECR,
    DECRBY,
    GET,
    GETDEL,
    GETEX,
    GETRANGE,
    GETSET,
    INCR,
    INCRBY,
    INCRBYFLOAT,
    LCS,
    MGET,
    MSET,
    MSETEX,
    MSETNX,
    PSETEX,
    SET,
    SETEX,
    SETNX,
    SETRANGE,
    STRLEN,
    SUBSTR,
];

const SET_EVENT: Event = Event::string("set");
const EXPIRE_EVENT: Event = Event::generic("expire");
const DEL_EVENT: Event = Event::generic("del");

// ---- what the commands share -------------------------------------------------------------------

/// Argument `i` as a value: an integer if its text is one, shared if it was received in a buffer of its own.
#[inline]
fn value_arg(args: Args<'_>, i: usize) -> Value<'_> {
    if let Some(shared) = args.shared(i) {
        return Value::Shared(Arc::clone(shared));
    }
    let bytes = args.at(i);
    match num::parse_i64(bytes) {
        Some(n) => Value::Int(n),
        None => Value::Bytes(bytes),
    }
}

/// Size in bytes from which a string is sent without being copied; a shorter copy costs less than managing the
/// piece.
const SHARE_FROM: usize = 8 << 10;

#[inline]
fn reply_string(reply: &mut Reply<'_>, text: Option<StringRef<'_>>) -> Replied {
    match text {
        Some(StringRef::Bytes(bytes)) => reply.bulk(bytes),
        Some(StringRef::Int(n)) => reply.bulk_int(n),
        None => reply.null(),
    }
}

/// Stores argument `value` under `key` and reports the change.
#[inline]
fn store(db: &mut Db<'_>, key: Key<'_>, args: Args<'_>, value: usize, ttl: Ttl) {
    db.set_string_reporting(key, value_arg(args, value), ttl, SET_EVENT);
    if matches!(ttl, Ttl::At(_)) {
        db.event_only(key, EXPIRE_EVENT);
    }
}

/// Whether changes are propagated; otherwise no request needs to be built.
#[inline]
fn is_fed(ctx: &mut Ctx<'_>) -> bool {
    ctx.db.space().ledger.listeners.feeds()
}

/// Propagates `SET key value` with the resulting expiry, independent of the command that caused it.
fn feed_set(ctx: &mut Ctx<'_>, key: &[u8], value: &[u8], ttl: Ttl) {
    if !is_fed(ctx) {
        return;
    }
    match ttl {
        Ttl::Clear => ctx.feed.instead(&[b"SET", key, value]),
        Ttl::Keep => ctx.feed.instead(&[b"SET", key, value, b"KEEPTTL"]),
        Ttl::At(at) => {
            let mut digits = itoa::Buffer::new();
            ctx.feed.instead(&[b"SET", key, value, b"PXAT", digits.format(at.0).as_bytes()]);
        }
    }
}

/// Condition under which a key is set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Condition {
    #[default]
    Always,
    /// Only if the key is missing.
    Absent,
    /// Only if the key exists.
    Present,
    /// Only if the value compares so with an argument.
    Compared(Comparison),
}

/// Options that a command accepts besides those of the expiry.
#[derive(Clone, Copy)]
struct Known {
    nx_xx: bool,
    comparisons: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
}

/// Options of `SET`, `GETEX` and `MSETEX`.
#[derive(Clone, Copy, Default)]
struct SetOptions<'a> {
    condition: Condition,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<Expiry<'a>>,
}

impl<'a> SetOptions<'a> {
    /// Parses the arguments from `from` on. Contradictory options are a syntax error; a repeated option is not, and
    /// its last amount counts.
    fn parse(args: Args<'a>, from: usize, known: Known) -> Result<Self, Error> {
        let mut options = SetOptions::default();
        let mut i = from;
        while i < args.len() {
            let condition = options.condition;
            if known.nx_xx && args.is(i, "NX") && matches!(condition, Condition::Always | Condition::Absent) {
                options.condition = Condition::Absent;
            } else if known.nx_xx
                && args.is(i, "XX")
                && matches!(condition, Condition::Always | Condition::Present)
            {
                options.condition = Condition::Present;
            } else if known.comparisons
                && condition == Condition::Always
                && let Some(comparison) = Comparison::at(&args, i)
            {
                i += 1;
                comparison.validate(&args)?;
                options.condition = Condition::Compared(comparison);
            } else if known.get && args.is(i, "GET") {
                options.get = true;
            } else if known.keep_ttl && args.is(i, "KEEPTTL") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if known.persist && args.is(i, "PERSIST") && options.expiry.is_none() {
                options.persist = true;
            } else {
                let expiry = Expiry::at(args, i).ok_or(Error::Syntax)?;
                let other = options.expiry.is_some_and(|earlier| earlier.unit != expiry.unit);
                if other || options.keep_ttl || options.persist {
                    return Err(Error::Syntax);
                }
                options.expiry = Some(expiry);
                i += 1;
            }
            i += 1;
        }
        Ok(options)
    }

    /// The resulting expiry.
    fn ttl(&self, now: UnixMillis, command: &str) -> Result<Ttl, Error> {
        match self.expiry {
            Some(expiry) => Ok(Ttl::At(expiry.instant(now, command)?)),
            None if self.keep_ttl => Ok(Ttl::Keep),
            None => Ok(Ttl::Clear),
        }
    }
}

const AMOUNTS: [Arg; 4] = [
    Arg::integer("seconds").token("EX"),
    Arg::integer("milliseconds").token("PX"),
    Arg::unix_time("unix-time-seconds").token("EXAT"),
    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
];

const PAIRS: Arg = Arg::block("data", &[Arg::key("key"), Arg::string("value")]).multiple();

// ---- one value -----------------------------------------------------------------------------------

const GET: Spec = Spec::data("get", 2, get)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::LongString)
    .docs(Docs {
        summary: "Reads a string.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// GET key → string, or null.
fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    let long = {
        let Some(slot) = ctx.db.read(ctx.args.key(1)) else { return Ok(ctx.reply.null()) };
        match slot.string() {
            Some(StringRef::Bytes(bytes)) if bytes.len() < SHARE_FROM => return Ok(ctx.reply.bulk(bytes)),
            Some(StringRef::Bytes(_)) => slot.shared_string(),
            Some(StringRef::Int(n)) => return Ok(ctx.reply.bulk_int(n)),
            None => return Err(WrongType.into()),
        }
    };
    Ok(ctx.lend(long.expect("so long a string is on its own")))
}

const SET: Spec = Spec::data("set", -3, set)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE).with(KeyFlags::VARIABLE_FLAGS))
        .notes("The key is read only with `GET` or to compare its value")])
    .find_keys(set_keys)
    .docs(Docs {
        summary: "Stores a string under a key, whatever was there before.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        history: &[
            ("2.6.12", "The options `EX`, `PX`, `NX` and `XX` were added."),
            ("6.0.0", "The option `KEEPTTL` was added."),
            ("6.2.0", "The options `GET`, `EXAT` and `PXAT` were added."),
            ("7.0.0", "`NX` and `GET` no longer exclude each other."),
            ("8.4.0", "The options `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE` were added."),
        ],
        args: &[
            Arg::key("key"),
            Arg::string("value"),
            Arg::one_of(
                "condition",
                &[
                    Arg::word("nx", "NX"),
                    Arg::word("xx", "XX"),
                    COMPARISONS[0],
                    COMPARISONS[1],
                    COMPARISONS[2],
                    COMPARISONS[3],
                ],
            )
            .since("2.6.12")
            .optional(),
            Arg::word("get", "GET").since("6.2.0").optional(),
            Arg::one_of(
                "expiration",
                &[
                    AMOUNTS[0].since("2.6.12"),
                    AMOUNTS[1].since("2.6.12"),
                    AMOUNTS[2].since("6.2.0"),
                    AMOUNTS[3].since("6.2.0"),
                    Arg::word("keepttl", "KEEPTTL").since("6.0.0"),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// Finds the key of a SET, which is read only with `GET` or to compare its value.
fn set_keys(args: &Args<'_>, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    let reads = (3..args.len()).any(|i| args.is(i, "GET") || Comparison::at(args, i).is_some());
    let access = if reads { KeyFlags::RW | KeyFlags::ACCESS } else { KeyFlags::OW };
    f(1, access | KeyFlags::UPDATE);
    true
}

/// SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET] [EX s | PX ms | EXAT s |
/// PXAT ms | KEEPTTL] → OK, or null if the condition is not met; with GET, the old string.
fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    const KNOWN: Known = Known { nx_xx: true, comparisons: true, get: true, keep_ttl: true, persist: false };
    let key = ctx.args.key(1);
    if ctx.args.len() == 3 {
        store(&mut ctx.db, key, ctx.args, 2, Ttl::Clear);
        return Ok(ctx.reply.ok());
    }
    let options = SetOptions::parse(ctx.args, 3, KNOWN)?;
    let ttl = options.ttl(ctx.now, ctx.name)?;
    let mut before = None;
    if options.get {
        let text = ctx.db.read_string(key)?;
        before = Some(reply_string(&mut ctx.reply, text));
    }
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => !ctx.db.contains(key),
        Condition::Present => ctx.db.contains(key),
        Condition::Compared(comparison) => return set_compared(ctx, comparison, ttl, before),
    };
    if !holds {
        return Ok(before.unwrap_or_else(|| ctx.reply.null()));
    }
    store(&mut ctx.db, key, ctx.args, 2, ttl);
    let as_it_is = ctx.args.len() == 5 && ctx.args.is(3, "PXAT");
    if options.expiry.is_some() && !as_it_is {
        feed_set(ctx, key.bytes, ctx.args.at(2), ttl);
    } else if options.get && is_fed(ctx) {
        // Nobody reads the reply there.
        let kept = (0..ctx.args.len()).filter(|&i| i < 3 || !ctx.args.is(i, "GET"));
        let request: Vec<&[u8]> = kept.map(|i| ctx.args.at(i)).collect();
        ctx.feed.instead(&request);
    }
    Ok(before.unwrap_or_else(|| ctx.reply.ok()))
}

/// The rest of a SET that compares: its outcome is passed on, which is a plain SET. `before` is the reply, if it is
/// written already.
fn set_compared(ctx: &mut Ctx<'_>, comparison: Comparison, ttl: Ttl, before: Option<Replied>) -> CmdResult {
    let key = ctx.args.key(1);
    if !comparison.holds(ctx, key)? {
        return Ok(before.unwrap_or_else(|| ctx.reply.null()));
    }
    store(&mut ctx.db, key, ctx.args, 2, ttl);
    feed_set(ctx, key.bytes, ctx.args.at(2), ttl);
    Ok(before.unwrap_or_else(|| ctx.reply.ok()))
}

const SETNX: Spec = Spec::data("setnx", 3, setnx)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Stores a string under a key that is not there yet.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        deprecated_since: "2.6.12",
        replaced_by: "`SET` with the `NX` argument",
        args: &[Arg::key("key"), Arg::string("value")],
        ..Docs::NONE
    });

/// SETNX key value → 1 if the key was set, else 0.
fn setnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    if ctx.db.contains(key) {
        return Ok(ctx.reply.int(0));
    }
    store(&mut ctx.db, key, ctx.args, 2, Ttl::Clear);
    Ok(ctx.reply.int(1))
}

const SETEX: Spec = Spec::data("setex", 4, setex)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Stores a string under a key that expires in so many seconds.",
        since: "2.0.0",
        complexity: "O(1)",
        group: Group::String,
        deprecated_since: "2.6.12",
        replaced_by: "`SET` with the `EX` argument",
        args: &[Arg::key("key"), Arg::integer("seconds"), Arg::string("value")],
        ..Docs::NONE
    });

/// SETEX key seconds value → OK.
fn setex(ctx: &mut Ctx<'_>) -> CmdResult {
    set_with_expiry(ctx, Unit::Seconds)
}

const PSETEX: Spec = Spec::data("psetex", 4, psetex)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Stores a string under a key that expires in so many milliseconds.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::String,
        deprecated_since: "2.6.12",
        replaced_by: "`SET` with the `PX` argument",
        args: &[Arg::key("key"), Arg::integer("milliseconds"), Arg::string("value")],
        ..Docs::NONE
    });

/// PSETEX key milliseconds value → OK.
fn psetex(ctx: &mut Ctx<'_>) -> CmdResult {
    set_with_expiry(ctx, Unit::Millis)
}

fn set_with_expiry(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let key = ctx.args.key(1);
    let ttl = Ttl::At(unit.instant(ctx.args.at(2), ctx.now, ctx.name)?);
    store(&mut ctx.db, key, ctx.args, 3, ttl);
    feed_set(ctx, key.bytes, ctx.args.at(3), ttl);
    Ok(ctx.reply.ok())
}

const GETSET: Spec = Spec::data("getset", 3, getset)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Stores a string and answers the one from before.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        deprecated_since: "6.2.0",
        replaced_by: "`SET` with the `!GET` argument",
        args: &[Arg::key("key"), Arg::string("value")],
        ..Docs::NONE
    });

/// GETSET key value → old string, or null.
fn getset(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let text = ctx.db.read_string(key)?;
    let before = reply_string(&mut ctx.reply, text);
    store(&mut ctx.db, key, ctx.args, 2, Ttl::Clear);
    feed_set(ctx, key.bytes, ctx.args.at(2), Ttl::Clear);
    Ok(before)
}

const GETDEL: Spec = Spec::data("getdel", 2, getdel)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Reads a string and removes its key.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// GETDEL key → removed string, or null.
fn getdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let text = ctx.db.read_string(key)?;
    let found = text.is_some();
    let before = reply_string(&mut ctx.reply, text);
    if found {
        remove(ctx, key, false);
    }
    Ok(before)
}

/// Removes a key and propagates just that.
fn remove(ctx: &mut Ctx<'_>, key: Key<'_>, lazily: bool) {
    ctx.db.remove(key, lazily);
    ctx.db.changed(key, DEL_EVENT, 1);
    if is_fed(ctx) {
        ctx.feed.instead(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
    }
}

const GETEX: Spec = Spec::data("getex", -2, getex)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))
        .notes("What is updated is the time to live")])
    .docs(Docs {
        summary: "Reads a string and sets or removes the expiry of its key.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[
            Arg::key("key"),
            Arg::one_of(
                "expiration",
                &[AMOUNTS[0], AMOUNTS[1], AMOUNTS[2], AMOUNTS[3], Arg::word("persist", "PERSIST")],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] → string, or null.
fn getex(ctx: &mut Ctx<'_>) -> CmdResult {
    const KNOWN: Known =
        Known { nx_xx: false, comparisons: false, get: false, keep_ttl: false, persist: true };
    let key = ctx.args.key(1);
    let options = SetOptions::parse(ctx.args, 2, KNOWN)?;
    if ctx.limits.compat_version.is_valkey() {
        options.ttl(ctx.now, ctx.name)?;
    }
    let Some(text) = ctx.db.read_string(key)? else {
        return Ok(ctx.reply.null());
    };
    // The amount is validated only now, because for a missing key it does not matter.
    let ttl = options.ttl(ctx.now, ctx.name)?;
    let replied = reply_string(&mut ctx.reply, Some(text));
    match ttl {
        Ttl::At(at) if at <= ctx.now && ctx.db.removes_due_keys() => {
            let lazily = ctx.db.space().lazy.expire;
            remove(ctx, key, lazily);
        }
        Ttl::At(at) => {
            ctx.db.set_expires(key, Some(at));
            ctx.db.changed(key, EXPIRE_EVENT, 1);
            if is_fed(ctx) {
                ctx.feed.instead(&[b"PEXPIREAT", key.bytes, itoa::Buffer::new().format(at.0).as_bytes()]);
            }
        }
        Ttl::Clear | Ttl::Keep if options.persist && ctx.db.expires(key).is_some() => {
            ctx.db.set_expires(key, None);
            ctx.db.changed(key, Event::generic("persist"), 1);
            if is_fed(ctx) {
                ctx.feed.instead(&[b"PERSIST", key.bytes]);
            }
        }
        Ttl::Clear | Ttl::Keep => {}
    }
    Ok(replied)
}

// ---- parts of a value ----------------------------------------------------------------------------

const STRLEN: Spec = Spec::data("strlen", 2, strlen)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Tells how many bytes a string has.",
        since: "2.2.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// STRLEN key → length in bytes; 0 without a key.
fn strlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let len = ctx.db.read_string(ctx.args.key(1))?.map_or(0, |text| text.len());
    Ok(ctx.reply.int(len as i64))
}

const APPEND: Spec = Spec::data("append", 3, append)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Adds bytes at the end of a string.",
        since: "2.0.0",
        complexity: "O(1) per byte added, on average over many calls.",
        group: Group::String,
        args: &[Arg::key("key"), Arg::string("value")],
        ..Docs::NONE
    });

/// Length of the string at `key`, for a command that then changes it, which counts as the access.
fn length(ctx: &mut Ctx<'_>, key: Key<'_>) -> Result<Option<usize>, Error> {
    let Some(entry) = ctx.db.inspect(key) else { return Ok(None) };
    entry.string().map(|text| Some(text.len())).ok_or(Error::WrongType)
}

/// APPEND key value → new length.
fn append(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let bytes = ctx.args.at(2);
    let len = match length(ctx, key)? {
        None => {
            ctx.db.set_string(key, value_arg(ctx.args, 2), Ttl::Clear);
            bytes.len()
        }
        Some(before) => {
            check_len(ctx, before, bytes.len())?;
            ctx.db.string_mut(key)?.append(bytes);
            before + bytes.len()
        }
    };
    ctx.db.changed(key, Event::string("append"), 1);
    Ok(ctx.reply.int(len as i64))
}

/// Refuses a string of `offset + more` bytes if that is too long.
fn check_len(ctx: &Ctx<'_>, offset: usize, more: usize) -> Result<(), Error> {
    match offset.checked_add(more) {
        Some(len) if len as u64 <= ctx.limits.proto_max_bulk_len => Ok(()),
        _ => Err(Error::StringTooLong),
    }
}

const SETRANGE: Spec = Spec::data("setrange", 4, setrange)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Overwrites a part of a string, which grows if it must.",
        since: "2.2.0",
        complexity: "O(M) for M bytes written, and for the zeros before them where the string ended earlier.",
        group: Group::String,
        args: &[Arg::key("key"), Arg::integer("offset"), Arg::string("value")],
        ..Docs::NONE
    });

/// SETRANGE key offset value → new length.
fn setrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let bytes = ctx.args.at(3);
    let offset = usize::try_from(ctx.args.int(2)?).map_err(|_| Error::text("ERR offset is out of range"))?;
    let before = length(ctx, key)?;
    if bytes.is_empty() {
        return Ok(ctx.reply.int(before.unwrap_or(0) as i64));
    }
    check_len(ctx, offset, bytes.len())?;
    let string = ctx.db.string_mut(key)?;
    string.set_range(offset, bytes);
    let len = string.len();
    ctx.db.changed(key, Event::string("setrange"), 1);
    Ok(ctx.reply.int(len as i64))
}

const GETRANGE: Spec = Spec::data("getrange", 4, getrange)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Reads a part of a string.",
        since: "2.4.0",
        complexity: "O(N) for N bytes answered.",
        group: Group::String,
        args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("end")],
        ..Docs::NONE
    });

/// GETRANGE key start end → bytes from `start` to `end`, inclusive.
fn getrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (start, end) = (ctx.args.int(2)?, ctx.args.int(3)?);
    let mut digits = itoa::Buffer::new();
    let text = ctx.db.read_string(ctx.args.key(1))?;
    let bytes = text.as_ref().map_or(&[][..], |text| text.text(&mut digits));
    Ok(ctx.reply.bulk(&bytes[clamp_ordered(start, end, bytes.len())]))
}

const SUBSTR: Spec = Spec::data("substr", 4, getrange)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Reads a part of a string.",
        since: "1.0.0",
        complexity: "O(N) for N bytes answered.",
        group: Group::String,
        deprecated_since: "2.0.0",
        replaced_by: "`GETRANGE`",
        args: &[Arg::key("key"), Arg::integer("start"), Arg::integer("end")],
        ..Docs::NONE
    });

// ---- numbers -------------------------------------------------------------------------------------

const INCR: Spec = Spec::data("incr", 2, incr)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Adds one to an integer. A key that is not there counts as 0.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// INCR key → new value.
fn incr(ctx: &mut Ctx<'_>) -> CmdResult {
    add(ctx, 1)
}

const DECR: Spec = Spec::data("decr", 2, decr)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Takes one from an integer. A key that is not there counts as 0.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// DECR key → new value.
fn decr(ctx: &mut Ctx<'_>) -> CmdResult {
    add(ctx, -1)
}

const INCRBY: Spec = Spec::data("incrby", 3, incrby)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Adds to an integer. A key that is not there counts as 0.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key"), Arg::integer("increment")],
        ..Docs::NONE
    });

/// INCRBY key increment → new value.
fn incrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let increment = ctx.args.int(2)?;
    add(ctx, increment)
}

const DECRBY: Spec = Spec::data("decrby", 3, decrby)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Takes from an integer. A key that is not there counts as 0.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key"), Arg::integer("decrement")],
        ..Docs::NONE
    });

/// DECRBY key decrement → new value.
fn decrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let decrement = ctx.args.int(2)?;
    let increment = decrement.checked_neg().ok_or_else(|| Error::text("ERR decrement would overflow"))?;
    add(ctx, increment)
}

/// Adds to the integer under argument 1. A value stored as an integer is changed in place.
fn add(ctx: &mut Ctx<'_>, increment: i64) -> CmdResult {
    let key = ctx.args.key(1);
    let mut sum = increment;
    let mut stored = false;
    if let Some(mut entry) = ctx.db.write(key) {
        let old = entry.string().ok_or(Error::WrongType)?.int().ok_or(Error::NotInteger)?;
        sum = old.checked_add(increment).ok_or(Error::Overflow)?;
        stored = entry.overwrite_int(sum);
    }
    if !stored {
        ctx.db.update_string(key, Value::Int(sum), Ttl::Keep);
    }
    ctx.db.changed(key, Event::string("incrby"), 1);
    Ok(ctx.reply.int(sum))
}

const INCRBYFLOAT: Spec = Spec::data("incrbyfloat", 3, incrbyfloat)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Adds to a decimal number. A key that is not there counts as 0.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key"), Arg::double("increment")],
        ..Docs::NONE
    });

/// INCRBYFLOAT key increment → new value.
fn incrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let old = match ctx.db.write_string(key)? {
        None => Some(LongDouble::from(0)),
        Some(StringRef::Int(n)) => Some(LongDouble::from(n)),
        Some(StringRef::Bytes(bytes)) => LongDouble::parse(bytes),
    };
    let (Some(old), Some(increment)) = (old, LongDouble::parse(ctx.args.at(2))) else {
        return Err(Error::NotFloat);
    };
    let sum = old + increment;
    if sum.is_nan() || sum.is_infinite() {
        return Err(Error::NanOrInfinity);
    }
    let mut text = Vec::with_capacity(40);
    sum.fmt_human(&mut text);
    ctx.db.update_string(key, Value::Bytes(&text), Ttl::Keep);
    ctx.db.changed(key, Event::string("incrbyfloat"), 1);
    // The result is propagated, because another machine might round differently.
    feed_set(ctx, key.bytes, &text, Ttl::Keep);
    Ok(ctx.reply.bulk(&text))
}

// ---- many values ---------------------------------------------------------------------------------

const MGET: Spec = Spec::data("mget", -2, mget)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["request_policy:multi_shard"])
    .docs(Docs {
        summary: "Reads the strings of several keys at once.",
        since: "1.0.0",
        complexity: "O(N) for N keys.",
        group: Group::String,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// MGET key [key …] → array of strings; null for missing keys and other types.
fn mget(ctx: &mut Ctx<'_>) -> CmdResult {
    let Ctx { args, db, reply, .. } = ctx;
    let replied = reply.array(args.len() - 1);
    // Each key is looked up even if the reply is dropped: who listens to that is told of those that are missing.
    all_keys(db, args.rest(1), 1, |db, key, _| {
        reply_string(reply, db.read_string(key).unwrap_or(None));
        true
    });
    Ok(replied)
}

const MSET: Spec = Spec::data("mset", -3, mset)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).range(-1, 2, 0).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Stores strings under several keys at once.",
        since: "1.0.1",
        complexity: "O(N) for N keys.",
        group: Group::String,
        args: &[PAIRS],
        ..Docs::NONE
    });

/// MSET key value [key value …] → OK.
fn mset(ctx: &mut Ctx<'_>) -> CmdResult {
    let pairs = pairs(ctx)?;
    set_pairs(&mut ctx.db, pairs, Ttl::Clear);
    Ok(ctx.reply.ok())
}

const MSETNX: Spec = Spec::data("msetnx", -3, msetnx)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).range(-1, 2, 0).flags(KeyFlags::OW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Stores strings under several keys at once, if none of the keys is there yet.",
        since: "1.0.1",
        complexity: "O(N) for N keys.",
        group: Group::String,
        args: &[PAIRS],
        ..Docs::NONE
    });

/// MSETNX key value [key value …] → 1 if the keys were set, else 0.
fn msetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let pairs = pairs(ctx)?;
    let free = all_keys(&mut ctx.db, pairs, 2, |db, key, _| !db.contains(key));
    if free {
        set_pairs(&mut ctx.db, pairs, Ttl::Clear);
    }
    Ok(ctx.reply.int(i64::from(free)))
}

/// The arguments after the name, if their number is even.
fn pairs<'a>(ctx: &Ctx<'a>) -> Result<Args<'a>, Error> {
    if ctx.args.len().is_multiple_of(2) {
        return Err(Error::arity(ctx.name));
    }
    Ok(ctx.args.rest(1))
}

fn set_pairs(db: &mut Db<'_>, pairs: Args<'_>, ttl: Ttl) {
    each_key(db, pairs, 2, |db, key, i| store(db, key, pairs, i + 1, ttl));
}

const MSETEX: Spec = Spec::data("msetex", -4, msetex)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::MOVABLE_KEYS))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).count(0, 1, 2).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Stores strings under several keys at once, with one expiry for all of them.",
        since: "9.1.0",
        complexity: "O(N) for N keys.",
        group: Group::String,
        args: &[
            Arg::integer("numkeys"),
            PAIRS,
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")]).optional(),
            Arg::one_of(
                "expiration",
                &[AMOUNTS[0], AMOUNTS[1], AMOUNTS[2], AMOUNTS[3], Arg::word("keepttl", "KEEPTTL")],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// MSETEX numkeys key value [key value …] [NX | XX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] → 1 if the keys
/// were set, else 0. NX requires that none of them exists, XX that all exist.
fn msetex(ctx: &mut Ctx<'_>) -> CmdResult {
    const KNOWN: Known =
        Known { nx_xx: true, comparisons: false, get: false, keep_ttl: true, persist: false };
    let count = num::parse_i64(ctx.args.at(1))
        .and_then(|n| i32::try_from(n).ok())
        .filter(|&n| n > 0)
        .ok_or_else(|| Error::text("ERR invalid numkeys value or out of range"))?;
    let end = 2 + 2 * count as usize;
    if end > ctx.args.len() {
        return Err(Error::Syntax);
    }
    let options = SetOptions::parse(ctx.args, end, KNOWN)?;
    let ttl = options.ttl(ctx.now, ctx.name)?;
    let pairs = ctx.args.range(2..end);
    let holds = match options.condition {
        Condition::Absent => all_keys(&mut ctx.db, pairs, 2, |db, key, _| !db.contains(key)),
        Condition::Present => all_keys(&mut ctx.db, pairs, 2, |db, key, _| db.contains(key)),
        Condition::Always | Condition::Compared(_) => true,
    };
    if holds {
        set_pairs(&mut ctx.db, pairs, ttl);
        if ttl == Ttl::Clear {
            let mut request: Vec<&[u8]> = vec![b"MSET"];
            request.extend(pairs.iter());
            ctx.feed.instead(&request);
        } else if is_fed(ctx) {
            for i in (0..pairs.len()).step_by(2) {
                feed_set(ctx, pairs.at(i), pairs.at(i + 1), ttl);
            }
        }
    }
    Ok(ctx.reply.int(i64::from(holds)))
}

// ---- comparing -----------------------------------------------------------------------------------

const LCS: Spec = Spec::data("lcs", -3, lcs)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).range(1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Finds the longest common subsequence of two strings.",
        since: "7.0.0",
        complexity: "O(N*M) for strings of N and M bytes.",
        group: Group::String,
        args: &[
            Arg::key("key1"),
            Arg::key("key2"),
            Arg::word("len", "LEN").optional(),
            Arg::word("idx", "IDX").optional(),
            Arg::integer("min-match-len").token("MINMATCHLEN").optional(),
            Arg::word("withmatchlen", "WITHMATCHLEN").optional(),
        ],
        ..Docs::NONE
    });

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN] → the subsequence, its length, or the positions of
/// its parts, from the last to the first.
fn lcs(ctx: &mut Ctx<'_>) -> CmdResult {
    let not_string = |_| Error::text("ERR The specified keys must contain string values");
    let a = ctx.db.read_text(ctx.args.key(1));
    let b = ctx.db.read_text(ctx.args.key(2));
    let (a, b) = (a.map_err(not_string)?.unwrap_or_default(), b.map_err(not_string)?.unwrap_or_default());

    let (mut want_len, mut want_idx, mut with_len, mut min_len) = (false, false, false, 0);
    let mut i = 3;
    while i < ctx.args.len() {
        if ctx.args.is(i, "LEN") {
            want_len = true;
        } else if ctx.args.is(i, "IDX") {
            want_idx = true;
        } else if ctx.args.is(i, "WITHMATCHLEN") {
            with_len = true;
        } else if ctx.args.is(i, "MINMATCHLEN") && i + 1 < ctx.args.len() {
            i += 1;
            min_len = ctx.args.int(i)?.max(0) as usize;
        } else {
            return Err(Error::Syntax);
        }
        i += 1;
    }
    if want_len && want_idx {
        return Err(Error::text("ERR If you want both the length and indexes, please just use IDX."));
    }

    // The limit is that of a table with a 32-bit number per pair of bytes. The table here has one bit per pair, but
    // every server must accept the same requests.
    if a.len().max(b.len()) >= u32::MAX as usize - 1 {
        return Err(Error::text("ERR String too long for LCS"));
    }
    let table = (a.len() as u128 + 1) * (b.len() as u128 + 1) * 4;
    if table > u128::from(ctx.limits.proto_max_bulk_len) {
        let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        return Err(Error::text(text));
    }
    let no_memory = |_| Error::text("ERR Insufficient memory, failed allocating transient memory for LCS");
    if want_len {
        let len = lcs::length(&a, &b).map_err(no_memory)?;
        return Ok(ctx.reply.int(len as i64));
    }
    let alignment = Alignment::new(&a, &b).map_err(no_memory)?;
    if !want_idx {
        return Ok(ctx.reply.bulk(&alignment.text()));
    }
    let reply = &mut ctx.reply;
    reply.map(2);
    reply.bulk(b"matches");
    let start = reply.defer();
    let mut n = 0;
    for m in alignment.matches().filter(|m| m.len >= min_len) {
        reply.array(if with_len { 3 } else { 2 });
        for from in [m.a, m.b] {
            reply.array(2);
            reply.int(from as i64);
            reply.int((from + m.len - 1) as i64);
        }
        if with_len {
            reply.int(m.len as i64);
        }
        n += 1;
    }
    reply.end_array(start, n);
    reply.bulk(b"len");
    Ok(reply.int(alignment.len() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{Harness, check};
    use crate::resp::reply::Protocol;
    use crate::resp::request::{self, Decoder};
    use crate::server::command::Handler;
    use crate::server::execution::feed::Feed;

    #[test]
    fn a_long_string_on_its_way_is_what_it_was() {
        let mut harness = Harness::default();
        let long = vec![b'x'; SHARE_FROM];
        let reply = [format!("${SHARE_FROM}\r\n").as_bytes(), &long, b"\r\n"].concat();
        harness.raw(&[b"SET", b"k", &long]);
        assert_eq!(harness.raw(&[b"GET", b"k"]), reply);
        for request in
            [&[&b"MULTI"[..]][..], &[b"GET", b"k"], &[b"APPEND", b"k", b"y"], &[b"SET", b"k", b"z"]]
        {
            harness.raw(request);
        }
        let tail = format!(":{}\r\n+OK\r\n", SHARE_FROM + 1);
        assert_eq!(harness.raw(&[b"EXEC"]), [b"*3\r\n", &reply[..], tail.as_bytes()].concat());
        harness.raw(&[b"SET", b"k", &long]);
        harness.raw(&[b"CLIENT", b"REPLY", b"OFF"]);
        assert_eq!(harness.raw(&[b"GET", b"k"]), b"");
        assert_eq!(harness.raw(&[b"CLIENT", b"REPLY", b"ON"]), b"+OK\r\n");
    }

    #[test]
    fn setting_with_conditions_and_expiry() {
        check(
            r#"
            SET k hello
            GET k
            SET k 12
            GET k
            GET nosuch
            SET k
            RPUSH list a
            GET list
            SET k v NX
            SET k v XX
            SET nosuch v XX
            SET k w GET
            SET nosuch w GET NX
            SET list w GET
            SET list w NX
            SET k v NX XX
            SET k v EX
            SET k v EX 0
            SET k v EX abc
            SET k v EX 10 PX 10
            SET k v EX 10 KEEPTTL
            SET k v EX 9223372036854775807
            SET k v EXAT 9999999999
            EXPIRETIME k
            SET k w KEEPTTL
            EXPIRETIME k
            SET k w
            TTL k
            SETEX k 0 v
            SETEX list 100 v
            PSETEX k 9223372036854775807 v
            SETNX k v
            SETNX fresh v
            GETSET k x
            GETSET fresher x
            GETDEL k
            GETDEL k
            EXISTS k
            "#,
            r#"
            OK
            "hello"
            OK
            "12"
            (nil)
            (error) ERR wrong number of arguments for 'set' command
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (nil)
            OK
            (nil)
            "v"
            (nil)
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (nil)
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR invalid expire time in 'set' command
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR invalid expire time in 'set' command
            OK
            (integer) 9999999999
            OK
            (integer) 9999999999
            OK
            (integer) -1
            (error) ERR invalid expire time in 'setex' command
            OK
            (error) ERR invalid expire time in 'psetex' command
            (integer) 0
            (integer) 1
            "w"
            (nil)
            "x"
            (nil)
            (integer) 0
            "#,
        );
    }

    #[test]
    fn getex_changes_the_expiry_only() {
        check(
            r#"
            SET k v EXAT 9999999999
            GETEX k
            EXPIRETIME k
            GETEX k PXAT 8888888888888
            PEXPIRETIME k
            GETEX k PERSIST
            TTL k
            GETEX k PERSIST EX 10
            GETEX k KEEPTTL
            GETEX k EX 0
            GETEX nosuch EX 0
            GETEX k EXAT 1
            EXISTS k
            "#,
            r#"
            OK
            "v"
            (integer) 9999999999
            "v"
            (integer) 8888888888888
            "v"
            (integer) -1
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR invalid expire time in 'getex' command
            (nil)
            "v"
            (integer) 0
            "#,
        );
    }

    #[test]
    fn parts_of_strings_and_their_encodings() {
        check(
            r#"
            APPEND k 12
            OBJECT ENCODING k
            APPEND k 34
            OBJECT ENCODING k
            INCR k
            OBJECT ENCODING k
            SETRANGE k 0 ""
            OBJECT ENCODING k
            SETRANGE k 6 xy
            GET k
            OBJECT ENCODING k
            STRLEN k
            STRLEN nosuch
            GETRANGE k 1 -3
            GETRANGE k 0 -100
            GETRANGE k -5 -6
            GETRANGE k a 1
            SUBSTR k -2 -1
            SETRANGE k -1 x
            SETRANGE k 536870912 x
            SETRANGE nosuch 536870912 ""
            SETRANGE k 9223372036854775807 x
            RPUSH list a
            APPEND list x
            SETRANGE list 0 x
            GETRANGE list 0 1
            STRLEN list
            SET k 12345678901234567890123456789012345678901234
            OBJECT ENCODING k
            SET k 123456789012345678901234567890123456789012345
            OBJECT ENCODING k
            SET k 9223372036854775808
            OBJECT ENCODING k
            SET k -1
            OBJECT ENCODING k
            "#,
            r#"
            (integer) 2
            "int"
            (integer) 4
            "raw"
            (integer) 1235
            "int"
            (integer) 4
            "int"
            (integer) 8
            "1235\x00\x00xy"
            "raw"
            (integer) 8
            (integer) 0
            "235\x00\x00"
            "1"
            ""
            (error) ERR value is not an integer or out of range
            "xy"
            (error) ERR offset is out of range
            (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)
            (integer) 0
            (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            OK
            "embstr"
            OK
            "raw"
            OK
            "embstr"
            OK
            "int"
            "#,
        );
    }

    #[test]
    fn numbers() {
        check(
            r#"
            INCR n
            INCRBY n 41
            DECR n
            DECRBY n 42
            GET n
            SET n 9223372036854775807
            INCR n
            DECRBY n -1
            DECRBY n -9223372036854775808
            SET n " 1"
            INCR n
            INCRBY n abc
            RPUSH list a
            INCR list
            SET f 10.5
            INCRBYFLOAT f 0.1
            OBJECT ENCODING f
            INCRBYFLOAT f -5
            INCRBYFLOAT f 1e3
            INCRBYFLOAT f abc
            INCRBYFLOAT f inf
            INCRBYFLOAT list abc
            INCRBYFLOAT n 1
            SET f 3.0e3
            INCRBYFLOAT f 200
            OBJECT ENCODING f
            "#,
            r#"
            (integer) 1
            (integer) 42
            (integer) 41
            (integer) -1
            "-1"
            OK
            (error) ERR increment or decrement would overflow
            (error) ERR increment or decrement would overflow
            (error) ERR decrement would overflow
            OK
            (error) ERR value is not an integer or out of range
            (error) ERR value is not an integer or out of range
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            OK
            "10.6"
            "embstr"
            "5.6"
            "1005.59999999999999998"
            (error) ERR value is not a valid float
            (error) ERR increment would produce NaN or Infinity
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR value is not a valid float
            OK
            "3200"
            "embstr"
            "#,
        );
    }

    #[test]
    fn many_at_once() {
        check(
            r#"
            RPUSH list a
            MSET a 1 b two a 3
            MGET a nosuch b list
            MSET a 1 b
            MSETNX c 1 a 2
            EXISTS c
            MSETNX c 1 c 2
            GET c
            MSETNX c
            "#,
            r#"
            (integer) 1
            OK
            1) "3"
            2) (nil)
            3) "two"
            4) (nil)
            (error) ERR wrong number of arguments for 'mset' command
            (integer) 0
            (integer) 0
            (integer) 1
            "2"
            (error) ERR wrong number of arguments for 'msetnx' command
            "#,
        );
    }

    #[test]
    fn longest_common_subsequence() {
        check(
            r#"
            MSET a ohmytext b mynewtext
            LCS a b
            LCS a b LEN
            LCS a b IDX
            LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN
            LCS a b LEN IDX
            LCS a b MINMATCHLEN
            LCS a b MINMATCHLEN x
            LCS nosuch b
            LCS nosuch b IDX
            RPUSH list a
            LCS a list
            "#,
            r#"
            OK
            "mytext"
            (integer) 6
            1) "matches"
            2) 1) 1) 1) (integer) 4
                     2) (integer) 7
                  2) 1) (integer) 5
                     2) (integer) 8
               2) 1) 1) (integer) 2
                     2) (integer) 3
                  2) 1) (integer) 0
                     2) (integer) 1
            3) "len"
            4) (integer) 6
            1) "matches"
            2) 1) 1) 1) (integer) 4
                     2) (integer) 7
                  2) 1) (integer) 5
                     2) (integer) 8
                  3) (integer) 4
            3) "len"
            4) (integer) 6
            (error) ERR If you want both the length and indexes, please just use IDX.
            (error) ERR syntax error
            (error) ERR value is not an integer or out of range
            ""
            1) "matches"
            2) (empty array)
            3) "len"
            4) (integer) 0
            (integer) 1
            (error) ERR The specified keys must contain string values
            "#,
        );
    }

    #[test]
    fn many_at_once_with_an_expiry() {
        check(
            r#"
            MSETEX 2 a 1 b 2 EXAT 9999999999
            EXPIRETIME b
            MSETEX 1 a 3 KEEPTTL
            EXPIRETIME a
            MSETEX 2 a 4 c 5 NX
            MSETEX 2 a 4 c 5 XX
            MSETEX 2 a 4 b 5 XX
            TTL a
            MGET a b c
            MSETEX 0 a 1
            MSETEX 2 a 1
            MSETEX 2147483648 a 1
            MSETEX 1 a 1 NX XX
            MSETEX 1 a 1 EX 0
            MSETEX 1 a 1 GET
            COMMAND GETKEYS MSETEX 2 a 1 b 2 NX
            "#,
            r#"
            (integer) 1
            (integer) 9999999999
            (integer) 1
            (integer) 9999999999
            (integer) 0
            (integer) 0
            (integer) 1
            (integer) -1
            1) "4"
            2) "5"
            3) (nil)
            (error) ERR invalid numkeys value or out of range
            (error) ERR syntax error
            (error) ERR invalid numkeys value or out of range
            (error) ERR syntax error
            (error) ERR invalid expire time in 'msetex' command
            (error) ERR syntax error
            1) "a"
            2) "b"
            "#,
        );
    }

    #[test]
    fn a_subsequence_is_refused_above_the_bound() {
        let mut harness = Harness::default();
        harness.server.config.limits.proto_max_bulk_len = 1 << 20;
        let refusal = "(error) ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        harness.raw(&[b"SET", b"a", &[b'x'; 500]]);
        harness.raw(&[b"SET", b"b", &[b'x'; 522]]);
        assert_eq!(harness.run("LCS a b LEN"), "(integer) 500");
        harness.raw(&[b"SET", b"b", &[b'x'; 523]]);
        assert_eq!(harness.run("LCS a b LEN"), refusal);
        assert_eq!(harness.run("LCS a b"), refusal);
    }

    #[test]
    fn strings_do_not_grow_beyond_the_bound() {
        let mut harness = Harness::default();
        harness.server.config.limits.proto_max_bulk_len = 1 << 20;
        assert_eq!(harness.run("SETRANGE k 1048575 x"), "(integer) 1048576");
        let refusal = "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        assert_eq!(harness.run("SETRANGE k 1048576 x"), refusal);
        assert_eq!(harness.run("APPEND k x"), refusal);
        assert_eq!(harness.run("APPEND k \"\""), "(integer) 1048576");
        let refusal = "(error) ERR bit offset is not an integer or out of range";
        assert_eq!(harness.run("SETBIT k 8388608 1"), refusal);
        assert_eq!(harness.run("SETBIT k 8388607 1"), "(integer) 0");
    }

    #[test]
    fn more_pairs_than_a_window_holds() {
        let mut harness = Harness::default();
        let keys: Vec<String> = (0..100).map(|i| format!("key:{i}")).collect();
        let pairs =
            keys.iter().enumerate().map(|(i, key)| format!("{key} {i}")).collect::<Vec<_>>().join(" ");
        let values = (0..100).map(|i| format!("{:>3}) \"{i}\"", i + 1)).collect::<Vec<_>>().join("\n");
        assert_eq!(harness.run(&format!("MSET {pairs}")), "OK");
        assert_eq!(harness.run(&format!("MGET {}", keys.join(" "))), values);
        assert_eq!(harness.run(&format!("MSETNX {} key:99 y", pairs.replace("key", "new"))), "(integer) 0");
        assert_eq!(harness.run("EXISTS new:0"), "(integer) 0");
        assert_eq!(harness.run("DBSIZE"), "(integer) 100");
    }

    #[test]
    fn a_value_written_over_a_due_one_inherits_nothing() {
        let mut harness = Harness::default();
        assert_eq!(harness.run("SET k v PXAT 1"), "OK");
        assert_eq!(harness.run("SET k w KEEPTTL"), "OK");
        assert_eq!(harness.run("TTL k"), "(integer) -1");
        assert_eq!(harness.server.keyspace.stats.expired, 1);
        assert_eq!(harness.run("SET n 5 PXAT 1"), "OK");
        assert_eq!(harness.run("INCR n"), "(integer) 1");
        assert_eq!(harness.run("TTL n"), "(integer) -1");
    }

    /// The commands propagated for one command, with the clock fixed at 1000 ms; empty if it is propagated as
    /// received.
    fn fed(harness: &mut Harness, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        request::write_request(&mut bytes, words.iter().copied());
        let (mut spans, mut at) = (Vec::new(), 0);
        let frame = Decoder::default()
            .next(&mut bytes, &mut at, &mut spans, &request::Limits::default())
            .expect("the request is well formed")
            .expect("the request is complete");
        let args = Args::new(frame.head(&bytes), frame.spans(&spans), &[]);
        let server = &mut harness.server;
        let id = server.commands.find(words[0]).expect("a command");
        let spec = server.commands.spec(id);
        let Handler::Data(handler) = spec.handler else { panic!("not a data command") };
        server.keyspace.set_now(UnixMillis(1000));
        server.keyspace.ledger.feed(crate::keyspace::Sink::Log, true);
        let (mut out, mut feed) = (Vec::new(), Feed::AsReceived);
        let mut ctx = Ctx {
            from_script: false,
            permissions: None,
            args,
            db: server.keyspace.db(0),
            reply: Reply::new(&mut out, Protocol::Resp2),
            limits: &server.config.limits,
            feed: &mut feed,
            name: spec.name,
            now: UnixMillis(1000),
            wait: &mut None,
            lent: &mut None,
        };
        handler(&mut ctx).expect("the command succeeds");
        match feed {
            Feed::Instead(bytes, _) => {
                let text = String::from_utf8(bytes).expect("the tests write text");
                text.split("\r\n")
                    .filter(|l| !l.is_empty() && !l.starts_with(['*', '$']))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            _ => String::new(),
        }
    }

    #[test]
    fn what_is_passed_on_does_not_depend_on_the_clock() {
        let mut harness = Harness::default();
        let cases = [
            ("SET k v", ""),
            ("SET k v XX PXAT 5000", "SET k v PXAT 5000"),
            ("SET k v pxat 5000", ""),
            ("SET k v get XX", "SET k v XX"),
            ("SET k v EX 10", "SET k v PXAT 11000"),
            ("SET k v EXAT 10 XX GET", "SET k v PXAT 10000"),
            ("SET k v GET KEEPTTL", "SET k v KEEPTTL"),
            ("SET k w IFEQ v", "SET k w"),
            ("SET k v IFEQ w PX 10", "SET k v PXAT 1010"),
            ("SET k w GET IFNE x KEEPTTL", "SET k w KEEPTTL"),
            ("SET k v IFDNE 0000000000000000", "SET k v"),
            ("SETEX k 10 v", "SET k v PXAT 11000"),
            ("PSETEX k 10 v", "SET k v PXAT 1010"),
            ("GETSET k v", "SET k v"),
            ("GETEX k", ""),
            ("GETEX k EX 10", "PEXPIREAT k 11000"),
            ("GETEX k PERSIST", "PERSIST k"),
            ("GETEX k PERSIST", ""),
            ("GETEX k PXAT 1000", "UNLINK k"),
            ("GETDEL k", ""),
            ("SET k v", ""),
            ("GETDEL k", "DEL k"),
            ("INCRBYFLOAT k 1.50", "SET k 1.5 KEEPTTL"),
            ("DELIFEQ k 1.5", "DEL k"),
            ("MSETEX 2 a 1 b 2 NX EX 10", "SET a 1 PXAT 11000 SET b 2 PXAT 11000"),
            ("MSETEX 2 a 1 b 2 PXAT 9000", "SET a 1 PXAT 9000 SET b 2 PXAT 9000"),
            ("MSETEX 1 a 1 KEEPTTL", "SET a 1 KEEPTTL"),
            ("MSETEX 2 a 1 b 2 XX", "MSET a 1 b 2"),
            ("DELEX a", "DEL a"),
            ("DELEX b IFEQ 2", "DEL b"),
        ];
        for (line, expected) in cases {
            assert_eq!(fed(&mut harness, line), expected, "{line}");
        }
    }
}
