//! Commands on expiries of hash fields.
//!
//! As with keys, an expiry is stored and propagated in milliseconds since 1970, whatever its unit was. A field that
//! gets an expiry in the past is removed at once, and its removal is propagated. Error texts and the order of
//! checks are Valkey's.

use crate::keyspace::{Event, Key};
use crate::resp::{Args, Error, Replied};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::clock::UnixMillis;
use crate::types::{Before, Hash, NewExpiry};

use super::expiry::{Conditions, Expiry, Unit, rounded_secs};
use super::hash::{report_expired_fields, value_at};

/// Table entries of the commands on expiries of hash fields.
pub const COMMANDS: &[Spec] = &[
    HEXPIRE,
    HEXPIREAT,
    HEXPIRETIME,
    HGETDEL,
    HGETEX,
    HPERSIST,
    HPEXPIRE,
    HPEXPIREAT,
    HPEXPIRETIME,
    HPTTL,
    HSETEX,
    HTTL,
];

// ---- arguments ------------------------------------------------------------------------------

const FIELDS: Arg =
    Arg::block("fields", &[Arg::integer("numfields"), Arg::string("field").multiple()]).token("FIELDS");

const CONDITION: Arg = Arg::one_of(
    "condition",
    &[Arg::word("nx", "NX"), Arg::word("xx", "XX"), Arg::word("gt", "GT"), Arg::word("lt", "LT")],
)
.optional();

const TIMES: [Arg; 4] = [
    Arg::integer("seconds").token("EX"),
    Arg::integer("milliseconds").token("PX"),
    Arg::unix_time("unix-time-seconds").token("EXAT"),
    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
];

#[cold]
fn wrong_count() -> Error {
    Error::text("ERR numfields should be greater than 0 and match the provided number of fields")
}

/// The fields after the number at argument `i`, with `parts` arguments each; `None` if the number is wrong.
fn counted(args: Args<'_>, i: usize, parts: usize) -> Result<Option<Args<'_>>, Error> {
    let (number, fields) = (args.int(i)?, args.rest(i + 1));
    let expected = usize::try_from(number).ok().filter(|&n| n > 0).and_then(|n| n.checked_mul(parts));
    Ok(Some(fields).filter(|fields| expected == Some(fields.len())))
}

/// The options from argument `from` on, and the position of the number of fields after the options and `FIELDS`.
fn options(args: Args<'_>, from: usize) -> Result<(Args<'_>, usize), Error> {
    let at = (from..args.len() - 1).find(|&i| args.is(i, "FIELDS")).ok_or_else(wrong_count)?;
    Ok((args.range(from..at), at + 1))
}

/// The fields of a command without options.
fn only_fields(args: Args<'_>, wrong_count: impl FnOnce() -> Error) -> Result<Args<'_>, Error> {
    if !args.is(2, "FIELDS") {
        return Err(Error::Syntax);
    }
    counted(args, 3, 1)?.ok_or_else(wrong_count)
}

/// Sets `option`, which may be repeated with the same value only.
fn choose<T: PartialEq>(option: &mut Option<T>, value: T) -> Result<(), Error> {
    match option {
        Some(old) if *old != value => Err(Error::Syntax),
        _ => {
            *option = Some(value);
            Ok(())
        }
    }
}

/// The option of a command that sets or removes an expiry.
#[derive(Clone, Copy)]
enum Choice<'a> {
    Time(Expiry<'a>),
    /// `PERSIST` or `KEEPTTL`.
    Word,
}

/// Parses an option that is a time or `word` at argument `i`; returns its number of arguments.
fn choice<'a>(chosen: &mut Option<Choice<'a>>, args: Args<'a>, i: usize, word: &str) -> Result<usize, Error> {
    let new = match Expiry::at(args, i) {
        Some(time) => Choice::Time(time),
        None if args.is(i, word) => Choice::Word,
        None => return Err(Error::Syntax),
    };
    match (&chosen, new) {
        (None, _) | (Some(Choice::Word), Choice::Word) => {}
        (Some(Choice::Time(old)), Choice::Time(new)) if old.unit == new.unit => {}
        _ => return Err(Error::Syntax),
    }
    *chosen = Some(new);
    Ok(if matches!(new, Choice::Word) { 1 } else { 2 })
}

/// Replies with the same value for each of `n` fields of a missing hash.
fn for_each_nothing(ctx: &mut Ctx<'_>, n: usize) -> Replied {
    let replied = ctx.reply.array(n);
    (0..n).for_each(|_| _ = ctx.reply.int(-2));
    replied
}

/// Reports fields that were removed because they had expired.
fn removed(ctx: &mut Ctx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    ctx.db.changed(key, Event::hash("hexpired"), fields.len());
    if !fields.is_empty() {
        feed_on(ctx, &[b"HDEL", key.bytes], fields.iter().copied());
    }
    ctx.db.settle::<Hash>(key);
}

/// Propagates `head` and `fields` as one command.
fn feed_on<'f>(ctx: &mut Ctx<'_>, head: &[&'f [u8]], fields: impl Iterator<Item = &'f [u8]>) {
    if !matches!(ctx.feed, Feed::Unheard) {
        let parts: Vec<&[u8]> = head.iter().copied().chain(fields).collect();
        ctx.feed.instead(&parts);
    }
}

// ---- giving an expiry -----------------------------------------------------------------------

const HEXPIRE: Spec = Spec::data("hexpire", -6, hexpire)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets fields of a hash expire in so many seconds.",
        since: "7.4.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::integer("seconds"), CONDITION, FIELDS],
        ..Docs::NONE
    });
/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS n field … → for each field: 1 set, 2 removed, 0 condition not
/// met, −2 no such field.
fn hexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiries(ctx, Unit::Seconds)
}

const HPEXPIRE: Spec = Spec::data("hpexpire", -6, hpexpire)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets fields of a hash expire in so many milliseconds.",
        since: "7.4.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::integer("milliseconds"), CONDITION, FIELDS],
        ..Docs::NONE
    });
/// HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS n field … → for each field: 1 set, 2 removed, 0 condition
/// not met, −2 no such field.
fn hpexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiries(ctx, Unit::Millis)
}

const HEXPIREAT: Spec = Spec::data("hexpireat", -6, hexpireat)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets fields of a hash expire at a Unix time in seconds.",
        since: "7.4.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::unix_time("unix-time-seconds"), CONDITION, FIELDS],
        ..Docs::NONE
    });
/// HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS n field … → for each field: 1 set, 2 removed, 0
/// condition not met, −2 no such field.
fn hexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiries(ctx, Unit::UnixSeconds)
}

const HPEXPIREAT: Spec = Spec::data("hpexpireat", -6, hpexpireat)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets fields of a hash expire at a Unix time in milliseconds.",
        since: "7.4.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::unix_time("unix-time-milliseconds"), CONDITION, FIELDS],
        ..Docs::NONE
    });
/// HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS n field … → for each field: 1 set, 2 removed, 0
/// condition not met, −2 no such field.
fn hpexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiries(ctx, Unit::UnixMillis)
}

/// Sets the expiry of the fields to argument 2, which is in `unit`. Fields that have thereby expired are removed.
fn set_expiries(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let (options, number) = options(ctx.args, 3)?;
    let conditions = Conditions::parse(options)?;
    let fields = counted(ctx.args, number, 1)?.ok_or_else(wrong_count)?;
    let at = unit.instant_or_now(ctx.args.at(2), ctx.now, ctx.name)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let over = at <= ctx.now && ctx.db.removes_due_keys();
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else {
        return Ok(for_each_nothing(ctx, fields.len()));
    };
    let replied = ctx.reply.array(fields.len());
    let (mut set, mut gone) = (0, Vec::new());
    for field in fields.iter() {
        let answer = match hash.get_with_expiry(field, now) {
            None => -2,
            Some((_, old)) if !conditions.allow(old, at) => 0,
            Some(_) if over => {
                hash.remove(field, now);
                gone.push(field);
                2
            }
            Some(_) => {
                hash.set_expiry(field, Some(at));
                set += 1;
                1
            }
        };
        ctx.reply.int(answer);
    }
    if over {
        removed(ctx, key, &gone);
    } else if set > 0 {
        ctx.db.fields_expire(key);
        ctx.db.changed(key, Event::hash("hexpire"), set);
        if unit != Unit::UnixMillis {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at.0).as_bytes();
            feed_on(ctx, &[b"HPEXPIREAT", key.bytes, at], ctx.args.rest(3).iter());
        }
    }
    Ok(replied)
}

const HPERSIST: Spec = Spec::data("hpersist", -5, hpersist)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Takes the expiry of fields of a hash away, so that they stay.",
        since: "7.4.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HPERSIST key FIELDS n field … → for each field: 1 expiry removed, −1 no expiry, −2 no such field.
fn hpersist(ctx: &mut Ctx<'_>) -> CmdResult {
    let fields = only_fields(ctx.args, wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else {
        return Ok(for_each_nothing(ctx, fields.len()));
    };
    let replied = ctx.reply.array(fields.len());
    let mut persisted = 0;
    for field in fields.iter() {
        let answer = match hash.get_with_expiry(field, now) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(_))) => {
                hash.set_expiry(field, None);
                persisted += 1;
                1
            }
        };
        ctx.reply.int(answer);
    }
    ctx.db.changed(key, Event::hash("hpersist"), persisted);
    Ok(replied)
}

// ---- telling the expiry ---------------------------------------------------------------------

const HTTL: Spec = Spec::data("httl", -5, httl)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells in how many seconds fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HTTL key FIELDS n field … → for each field: remaining seconds, rounded; −1 no expiry, −2 no such field.
fn httl(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now;
    tell(ctx, |at| rounded_secs((at - now).max(0)))
}

const HPTTL: Spec = Spec::data("hpttl", -5, hpttl)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells in how many milliseconds fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HPTTL key FIELDS n field … → for each field: remaining milliseconds; −1 no expiry, −2 no such field.
fn hpttl(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now;
    tell(ctx, |at| (at - now).max(0))
}

const HEXPIRETIME: Spec = Spec::data("hexpiretime", -5, hexpiretime)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Tells the Unix time in seconds at which fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HEXPIRETIME key FIELDS n field … → for each field: Unix time in seconds, rounded; −1 no expiry, −2 no such
/// field.
fn hexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, |at| rounded_secs(at.0))
}

const HPEXPIRETIME: Spec = Spec::data("hpexpiretime", -5, hpexpiretime)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Tells the Unix time in milliseconds at which fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HPEXPIRETIME key FIELDS n field … → for each field: Unix time in milliseconds; −1 no expiry, −2 no such field.
fn hpexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, |at| at.0)
}

fn tell(ctx: &mut Ctx<'_>, tell: impl Fn(UnixMillis) -> i64) -> CmdResult {
    let fields = only_fields(ctx.args, || Error::Syntax)?;
    let now = ctx.db.due_by();
    let Some(hash) = ctx.db.read_as::<Hash>(ctx.args.key(1))? else {
        return Ok(for_each_nothing(ctx, fields.len()));
    };
    let replied = ctx.reply.array(fields.len());
    for field in fields.iter() {
        ctx.reply.int(match hash.get_with_expiry(field, now) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(at))) => tell(at),
        });
    }
    Ok(replied)
}

// ---- reading or setting values with it ------------------------------------------------------

const HGETDEL: Spec = Spec::data("hgetdel", -5, hgetdel)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Answers the values of fields of a hash and removes them.",
        since: "8.0.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HGETDEL key FIELDS n field … → value, or null, of each field. Removes the fields.
fn hgetdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let fields = only_fields(ctx.args, wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let hash = ctx.db.write_as::<Hash>(key)?;
    let replied = ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| _ = ctx.reply.null());
        return Ok(replied);
    };
    let mut deleted = 0;
    for field in fields.iter() {
        match hash.get(field, now) {
            Some(value) => ctx.reply.item(value),
            None => ctx.reply.null(),
        };
        deleted += usize::from(hash.remove(field, now));
    }
    ctx.db.changed(key, Event::hash("hdel"), deleted);
    ctx.db.settle::<Hash>(key);
    Ok(replied)
}

const HGETEX: Spec = Spec::data("hgetex", -5, hgetex)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Answers the values of fields of a hash and changes when they expire.",
        since: "8.0.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[
            Arg::key("key"),
            Arg::one_of(
                "expiration",
                &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Arg::word("persist", "PERSIST")],
            )
            .optional(),
            FIELDS,
        ],
        ..Docs::NONE
    });
/// HGETEX key [EX s | PX ms | EXAT t | PXAT t | PERSIST] FIELDS n field … → value, or null, of each field.
fn hgetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let (options, number) = options(ctx.args, 2)?;
    let (mut chosen, mut i) = (None, 0);
    while i < options.len() {
        i += choice(&mut chosen, options, i, "PERSIST")?;
    }
    let fields = counted(ctx.args, number, 1)?.ok_or_else(wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let removes = ctx.db.removes_due_keys();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let at = match chosen {
        Some(Choice::Time(time)) => Some(time.instant_or_now(ctx.now, ctx.name)?),
        _ => None,
    };
    let over = removes && at.is_some_and(|at| at <= ctx.now);
    let replied = ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| _ = ctx.reply.null());
        return Ok(replied);
    };
    let mut changed: Vec<&[u8]> = Vec::new();
    for field in fields.iter() {
        let Some((value, old)) = hash.get_with_expiry(field, now) else {
            ctx.reply.null();
            continue;
        };
        ctx.reply.item(value);
        match chosen {
            None => continue,
            Some(Choice::Word) if old.is_none() => continue,
            Some(_) if over => _ = hash.remove(field, now),
            Some(_) => _ = hash.set_expiry(field, at),
        }
        changed.push(field);
    }
    if changed.is_empty() {
        return Ok(replied);
    }
    if over {
        removed(ctx, key, &changed);
        return Ok(replied);
    }
    let (mut digits, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let count = count.format(changed.len()).as_bytes();
    match at {
        Some(at) => {
            ctx.db.fields_expire(key);
            ctx.db.changed(key, Event::hash("hexpire"), changed.len());
            let at = digits.format(at.0).as_bytes();
            feed_on(ctx, &[b"HPEXPIREAT", key.bytes, at, b"FIELDS", count], changed.iter().copied());
        }
        None => {
            ctx.db.changed(key, Event::hash("hpersist"), changed.len());
            feed_on(ctx, &[b"HPERSIST", key.bytes, b"FIELDS", count], changed.iter().copied());
        }
    }
    Ok(replied)
}

const HSETEX: Spec = Spec::data("hsetex", -6, hsetex)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Sets the values of fields of a hash and when they expire.",
        since: "8.0.0",
        complexity: "O(N) for N fields named; O(N log M) where M fields of the hash expire.",
        group: Group::Hash,
        args: &[
            Arg::key("key"),
            Arg::one_of("key-condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")]).optional(),
            Arg::one_of("fields-condition", &[Arg::word("fnx", "FNX"), Arg::word("fxx", "FXX")]).optional(),
            Arg::one_of(
                "expiration",
                &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Arg::word("keepttl", "KEEPTTL")],
            )
            .optional(),
            Arg::block(
                "fields",
                &[
                    Arg::integer("numfields"),
                    Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
                ],
            )
            .token("FIELDS"),
        ],
        ..Docs::NONE
    });
/// HSETEX key [NX | XX] [FNX | FXX] [EX s | PX ms | EXAT t | PXAT t | KEEPTTL] FIELDS n field value … → 1 if the
/// fields were set, else 0. The conditions apply to the key and to all fields.
fn hsetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let (options, number) = options(ctx.args, 2)?;
    let (mut chosen, mut key_there, mut fields_there, mut i) = (None, None, None, 0);
    while i < options.len() {
        i += match () {
            () if options.is(i, "NX") => choose(&mut key_there, false).map(|()| 1)?,
            () if options.is(i, "XX") => choose(&mut key_there, true).map(|()| 1)?,
            () if options.is(i, "FNX") => choose(&mut fields_there, false).map(|()| 1)?,
            () if options.is(i, "FXX") => choose(&mut fields_there, true).map(|()| 1)?,
            () => choice(&mut chosen, options, i, "KEEPTTL")?,
        };
    }
    let fields = counted(ctx.args, number, 2)?.ok_or_else(wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let removes = ctx.db.removes_due_keys();
    let hash = ctx.db.write_as::<Hash>(key)?;
    if key_there.is_some_and(|there| there != hash.is_some()) {
        return Ok(ctx.reply.int(0));
    }
    let expiry = match chosen {
        None => NewExpiry::Never,
        Some(Choice::Word) => NewExpiry::Same,
        Some(Choice::Time(time)) => NewExpiry::At(time.instant_or_now(ctx.now, ctx.name)?),
    };
    if let Some(there) = fields_there {
        let is_there = |field| hash.as_ref().is_some_and(|hash| hash.contains(field, now));
        if fields.iter().step_by(2).any(|field| is_there(field) != there) {
            return Ok(ctx.reply.int(0));
        }
    }
    if let NewExpiry::At(at) = expiry
        && at <= ctx.now
        && removes
    {
        set_and_remove(ctx, key, fields);
        return Ok(ctx.reply.int(1));
    }
    let limits = &ctx.limits.types;
    let hash = ctx.db.write_or_insert(key, Hash::new)?;
    hash.prepare(fields.iter(), limits);
    let mut due: Vec<&[u8]> = Vec::new();
    for i in (0..fields.len()).step_by(2) {
        if hash.put(fields.at(i), value_at(fields, i + 1), expiry, limits, now) == Before::Due {
            due.push(fields.at(i));
        }
    }
    report_expired_fields(&mut ctx.db, key, due.len());
    ctx.db.changed(key, Event::hash("hset"), fields.len() / 2);
    let mut digits = itoa::Buffer::new();
    let mut head = vec![&b"HSETEX"[..], key.bytes];
    match expiry {
        NewExpiry::Never => {}
        NewExpiry::Same => {
            // Others do not notice by themselves that an expired field has no expiry to keep.
            if !due.is_empty() {
                feed_on(ctx, &[b"HDEL", key.bytes], due.into_iter());
            }
            head.push(b"KEEPTTL");
        }
        NewExpiry::At(at) => {
            ctx.db.fields_expire(key);
            ctx.db.event_only(key, Event::hash("hexpire"));
            head.extend([&b"PXAT"[..], digits.format(at.0).as_bytes()]);
        }
    }
    feed_on(ctx, &head, ctx.args.rest(number - 1).iter());
    Ok(ctx.reply.int(1))
}

/// Sets fields to values that have already expired: the fields are removed at once.
fn set_and_remove(ctx: &mut Ctx<'_>, key: Key<'_>, fields: Args<'_>) {
    let anyway = UnixMillis(i64::MIN);
    ctx.db.event_only(key, Event::hash("hset"));
    ctx.db.event_only(key, Event::hash("hexpire"));
    let mut gone: Vec<&[u8]> = fields.iter().step_by(2).collect();
    let hash = ctx.db.write_as::<Hash>(key).ok().flatten();
    let was_there = hash.is_some();
    match hash {
        Some(hash) => gone.retain(|field| hash.remove(field, anyway)),
        None => gone.clear(),
    }
    if !gone.is_empty() {
        return removed(ctx, key, &gone);
    }
    ctx.db.event_only(key, Event::hash("hexpired"));
    if !was_there {
        ctx.db.event_only(key, Event::generic("del"));
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};
    use crate::keyspace::Suspend;
    use crate::keyspace::{Change, Listeners, Sink};

    #[test]
    fn expiries_are_set_told_and_taken_away() {
        check(
            r#"
            HSET h a 1 b 2
            HTTL h FIELDS 3 a b nosuch
            HEXPIRE h 100 FIELDS 2 a nosuch
            HTTL h FIELDS 1 a
            OBJECT ENCODING h
            HEXPIRE h 100 NX FIELDS 2 a b
            HEXPIREAT h 4102444800 FIELDS 1 a
            HPEXPIREAT h 4102444800500 GT FIELDS 1 a
            HPEXPIRETIME h FIELDS 1 a
            HEXPIRETIME h FIELDS 1 a
            HPEXPIREAT h 4102444800499 LT FIELDS 1 a
            HEXPIRETIME h FIELDS 1 a
            HPERSIST h FIELDS 3 a a nosuch
            HPTTL h FIELDS 1 a
            HPEXPIREAT nosuch 4102444800499 FIELDS 2 a b
            HPTTL nosuch FIELDS 1 a
            HPERSIST nosuch FIELDS 1 a
            "#,
            r#"
            (integer) 2
            1) (integer) -1
            2) (integer) -1
            3) (integer) -2
            1) (integer) 1
            2) (integer) -2
            1) (integer) 100
            "hashtable"
            1) (integer) 0
            2) (integer) 1
            1) (integer) 1
            1) (integer) 1
            1) (integer) 4102444800500
            1) (integer) 4102444801
            1) (integer) 1
            1) (integer) 4102444800
            1) (integer) 1
            2) (integer) -1
            3) (integer) -2
            1) (integer) -1
            1) (integer) -2
            2) (integer) -2
            1) (integer) -2
            1) (integer) -2
            "#,
        );
    }

    #[test]
    fn an_expiry_in_the_past_removes() {
        check(
            r#"
            HSET h a 1 b 2 c 3
            HEXPIRE h 0 FIELDS 3 a a nosuch
            HPEXPIREAT h 1 XX FIELDS 1 b
            HGETEX h PXAT 1 FIELDS 2 b b
            HSETEX h EX 0 FIELDS 1 new 1
            HGETALL h
            OBJECT ENCODING h
            HSETEX h EX 0 FIELDS 1 c 1
            EXISTS h
            HSETEX h EXAT 1 FIELDS 1 c 1
            EXISTS h
            "#,
            r#"
            (integer) 3
            1) (integer) 2
            2) (integer) -2
            3) (integer) -2
            1) (integer) 0
            1) "2"
            2) (nil)
            (integer) 1
            1) "c"
            2) "3"
            "listpack"
            (integer) 1
            (integer) 0
            (integer) 1
            (integer) 0
            "#,
        );
    }

    #[test]
    fn values_with_their_expiries() {
        check(
            r#"
            HSETEX h XX FIELDS 1 a 1
            HSETEX h NX FXX FIELDS 1 a 1
            HSETEX h NX FNX PXAT 4102444800123 FIELDS 2 a 1 b 2
            HSETEX h FNX FIELDS 2 b 3 c 3
            HSETEX h FXX KEEPTTL FIELDS 1 a 3
            HINCRBY h a 1
            HPEXPIRETIME h FIELDS 2 a b
            HSET h a 5
            HGETEX h PERSIST FIELDS 2 b nosuch
            HPEXPIRETIME h FIELDS 2 a b
            HGETEX h EXAT 4102444800 FIELDS 1 a
            HPEXPIRETIME h FIELDS 1 a
            HGETDEL h FIELDS 2 a nosuch
            HGETDEL h FIELDS 1 b
            EXISTS h
            HGETDEL h FIELDS 1 b
            HGETEX h FIELDS 1 b
            "#,
            r#"
            (integer) 0
            (integer) 0
            (integer) 1
            (integer) 0
            (integer) 1
            (integer) 4
            1) (integer) 4102444800123
            2) (integer) 4102444800123
            (integer) 0
            1) "2"
            2) (nil)
            1) (integer) -1
            2) (integer) -1
            1) "5"
            1) (integer) 4102444800000
            1) "5"
            2) (nil)
            1) "2"
            (integer) 0
            1) (nil)
            1) (nil)
            "#,
        );
    }

    #[test]
    fn errors_in_their_order() {
        check(
            r#"
            SET s x
            HEXPIRE h 100 a b c
            HEXPIRE h 100 nx FIELDS 1
            HEXPIRE h x what FIELDS 1 a
            HEXPIRE h x NX LT FIELDS 2 a
            HEXPIRE h x FIELDS 2 a
            HEXPIRE s x FIELDS 1 a
            HEXPIRE s -1 FIELDS 1 a
            HPEXPIRE h 9223372036854775807 FIELDS 1 a
            HEXPIRE s 1 FIELDS 1 a
            HTTL s FIELDS 2 a
            HTTL s fields x a
            HTTL s FIELD x a
            HPERSIST s FIELDS 2 a
            HPERSIST s FIELD 2 a
            HGETEX s what FIELDS 1 a
            HGETEX s EX 1 PX 1 FIELDS 1 a
            HGETEX s EX FIELDS 1 a
            HGETEX s EX x FIELDS 0 a
            HGETEX s EX x FIELDS 1 a
            HGETEX h EX x FIELDS 1 a
            HGETEX h EX 1 EX -1 FIELDS 1 a
            HSETEX h NX XX FIELDS 1 a 1
            HSETEX h KEEPTTL EX 1 FIELDS 1 a 1
            HSETEX h FIELDS 2 a 1 b
            HSETEX h XX EX x FIELDS 1 a 1
            HSETEX h FXX EX x FIELDS 1 a 1
            HSETEX s NX FIELDS 1 a 1
            HGETDEL s FIELDS 0 a
            "#,
            r#"
            OK
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (error) ERR Unsupported option what
            (error) ERR NX and XX, GT or LT options at the same time are not compatible
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (error) ERR value is not an integer or out of range
            (error) ERR invalid expire time in 'hexpire' command
            (error) ERR invalid expire time in 'hpexpire' command
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR syntax error
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR value is not an integer or out of range
            (error) ERR invalid expire time in 'hgetex' command
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            (integer) 0
            (error) ERR value is not an integer or out of range
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR numfields should be greater than 0 and match the provided number of fields
            "#,
        );
    }

    /// A server with a hash `h` of the expired but present fields `a` and `b`, and of `c`.
    fn with_due_fields() -> Harness {
        let mut harness = Harness::default();
        harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
        check_with(
            &mut harness,
            "HSET h a 1 b 2 c 3\nHPEXPIREAT h 1 FIELDS 2 a b",
            "(integer) 3\n1) (integer) 1\n2) (integer) 1",
        );
        harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
        harness
    }

    #[test]
    fn fields_that_are_due_are_shown_to_nobody() {
        let script = r#"
            HLEN h
            HGET h a
            HMGET h a b c
            HGETALL h
            HKEYS h
            HVALS h
            HEXISTS h a
            HSTRLEN h a
            HSCAN h 0
            HRANDFIELD h
            HRANDFIELD h 5
            HRANDFIELD h -3
            HTTL h FIELDS 2 a c
            HEXPIRE h 100 FIELDS 1 a
            HPERSIST h FIELDS 1 a
            HGETEX h EX 100 FIELDS 1 a
            HGETDEL h FIELDS 1 a
            HDEL h a b
            HSETEX h FXX FIELDS 1 a 1
            HLEN h
        "#;
        let expected = r#"
            (integer) 3
            (nil)
            1) (nil)
            2) (nil)
            3) "3"
            1) "c"
            2) "3"
            1) "c"
            1) "3"
            (integer) 0
            (integer) 0
            1) "0"
            2) 1) "c"
               2) "3"
            "c"
            1) "c"
            1) "c"
            2) "c"
            3) "c"
            1) (integer) -2
            2) (integer) -1
            1) (integer) -2
            1) (integer) -2
            1) (nil)
            1) (nil)
            (integer) 0
            (integer) 0
            (integer) 3
        "#;
        let mut harness = with_due_fields();
        check_with(&mut harness, script, expected);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, true);
        check_with(&mut harness, script, expected);
        check_with(
            &mut harness,
            "HDEL h c\nHGETALL h\nHRANDFIELD h -3\nHRANDFIELD h\nHSCAN h 0",
            "
            (integer) 1
            (empty array)
            (empty array)
            (nil)
            1) \"0\"
            2) (empty array)
        ",
        );
    }

    #[test]
    fn a_field_that_was_due_is_a_new_one() {
        check_with(
            &mut with_due_fields(),
            "HSET h a 5 c 5\nHTTL h FIELDS 1 a",
            "(integer) 1\n1) (integer) -1",
        );
        check_with(&mut with_due_fields(), "HSETNX h a 5\nHSETNX h c 5", "(integer) 1\n(integer) 0");
        check_with(&mut with_due_fields(), "HINCRBY h a 5\nHINCRBYFLOAT h b 0.5", "(integer) 5\n\"0.5\"");
        check_with(&mut with_due_fields(), "HTTL h FIELDS 1 a\nHLEN h", "1) (integer) -2\n(integer) 3");
        check_with(
            &mut with_due_fields(),
            "HSETEX h FNX KEEPTTL FIELDS 1 a 5\nHTTL h FIELDS 1 a",
            "(integer) 1\n1) (integer) -1",
        );
    }

    /// The events of one command, and the commands propagated.
    fn events_and_feed(harness: &mut Harness, line: &str) -> (String, String) {
        let ledger = &mut harness.server.keyspace.ledger;
        ledger.listeners.set(Listeners::NOTIFY, true);
        ledger.feed(Sink::Log, true);
        harness.server.keyspace.ledger.drained = Default::default();
        harness.server.execution.unit.drained.clear();
        harness.run(line);
        let events: Vec<&str> = harness
            .server
            .keyspace
            .ledger
            .drained
            .0
            .iter()
            .map(|change| match change {
                Change::Key { event, .. } | Change::EventOnly { event, .. } => event.name,
                other => panic!("{other:?} was not to be expected"),
            })
            .filter(|&name| name != "new")
            .collect();
        let text = String::from_utf8_lossy(&harness.server.execution.unit.drained).into_owned();
        let words: Vec<&str> = text.split_terminator("\r\n").filter(|w| !w.starts_with(['$', '*'])).collect();
        let feed = match words.join(" ") {
            words if words.is_empty() => "nothing".into(),
            words if words == line => "as received".into(),
            words => words,
        };
        (events.join(" "), feed)
    }

    #[test]
    fn events_and_what_is_passed_on() {
        let mut harness = Harness::default();
        for (line, events, feed) in [
            ("HSET h a 1 b 2 c 3", "hset", "as received"),
            (
                "HEXPIREAT h 4102444800 NX FIELDS 2 a x",
                "hexpire",
                "HPEXPIREAT h 4102444800000 NX FIELDS 2 a x",
            ),
            ("HPEXPIREAT h 4102444800123 FIELDS 1 a", "hexpire", "as received"),
            ("HEXPIRE h 1 NX FIELDS 1 a", "", "nothing"),
            ("HINCRBY h a 1", "hincrby", "HSETEX h PXAT 4102444800123 FIELDS 1 a 2"),
            ("HINCRBY h b 1", "hincrby", "as received"),
            ("HINCRBYFLOAT h a 1", "hincrbyfloat", "HSETEX h PXAT 4102444800123 FIELDS 1 a 3"),
            ("HINCRBYFLOAT h b 1", "hincrbyfloat", "HSET h b 4"),
            ("HPERSIST h FIELDS 2 a b", "hpersist", "as received"),
            ("HPERSIST h FIELDS 2 a b", "", "nothing"),
            ("HGETEX h EXAT 4102444800 FIELDS 2 a x", "hexpire", "HPEXPIREAT h 4102444800000 FIELDS 1 a"),
            ("HGETEX h PERSIST FIELDS 2 b a", "hpersist", "HPERSIST h FIELDS 1 a"),
            ("HGETEX h FIELDS 1 a", "", "nothing"),
            ("HGETEX h PX 0 FIELDS 2 a x", "hexpired", "HDEL h a"),
            (
                "HSETEX h XX EXAT 4102444800 FIELDS 1 a 1",
                "hset hexpire",
                "HSETEX h PXAT 4102444800000 FIELDS 1 a 1",
            ),
            ("HSETEX h FXX KEEPTTL FIELDS 1 a 1", "hset", "HSETEX h KEEPTTL FIELDS 1 a 1"),
            ("HSETEX h FNX FIELDS 1 a 1", "", "nothing"),
            ("HSETEX h PX 0 FIELDS 2 a 1 x 1", "hset hexpire hexpired", "HDEL h a"),
            ("HSETEX h PX 0 FIELDS 1 x 1", "hset hexpire hexpired", "nothing"),
            ("HGETDEL h FIELDS 2 b x", "hdel", "as received"),
            ("HEXPIRE h 0 FIELDS 2 c x", "hexpired del", "HDEL h c"),
            ("HSETEX h PX 0 FIELDS 1 x 1", "hset hexpire hexpired del", "nothing"),
        ] {
            assert_eq!(events_and_feed(&mut harness, line), (events.into(), feed.into()), "{line}");
        }
        for (line, events, feed) in [
            ("HSET h a 1 b 1", "hexpired hset", "as received"),
            ("HSETNX h a 1", "hexpired hset", "HSET h a 1"),
            ("HINCRBY h a 1", "hexpired hincrby", "HSET h a 1"),
            ("HINCRBYFLOAT h a 1", "hexpired hincrbyfloat", "HSET h a 1"),
            ("HSETEX h FIELDS 2 a 1 b 1", "hexpired hset", "as received"),
            ("HSETEX h KEEPTTL FIELDS 1 a 1", "hexpired hset", "HDEL h a HSETEX h KEEPTTL FIELDS 1 a 1"),
            ("HSETEX h EX 0 FIELDS 1 a 1", "hset hexpire hexpired", "HDEL h a"),
            ("HDEL h a", "", "nothing"),
        ] {
            assert_eq!(events_and_feed(&mut with_due_fields(), line), (events.into(), feed.into()), "{line}");
        }
    }

    #[test]
    fn an_expiry_in_the_past_is_kept_where_keys_are_not_removed() {
        let mut harness = with_due_fields();
        harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
        check_with(
            &mut harness,
            "HPEXPIRETIME h FIELDS 2 a c\nHSETEX h PXAT 5 FIELDS 1 c 4\nHGETEX h PXAT 6 FIELDS 1 b\nHGET h c",
            "1) (integer) 1\n2) (integer) -1\n(integer) 1\n1) \"2\"\n\"4\"",
        );
        harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
        assert_eq!(harness.run("HGETALL h"), "(empty array)");
    }

    #[test]
    fn a_copy_shows_and_keeps_no_field_that_is_due() {
        // As in Redis 8.2, a copy has the due fields with their expiries, so that it is the same whenever the command is
        // replayed: they are as dead as in the original.
        let mut harness = with_due_fields();
        assert_eq!(
            events_and_feed(&mut harness, "COPY h copy"),
            ("copy_to".to_owned(), "as received".to_owned())
        );
        check_with(
            &mut harness,
            r#"
            HGETALL copy
            HMGET copy a c
            HPERSIST copy FIELDS 1 a
            HEXPIRE copy 100 FIELDS 1 b
            HGETDEL copy FIELDS 1 a
            HSET copy a new
            HPTTL copy FIELDS 2 a b
            "#,
            r#"
            1) "c"
            2) "3"
            1) (nil)
            2) "3"
            1) (integer) -2
            1) (integer) -2
            1) (nil)
            (integer) 1
            1) (integer) -1
            2) (integer) -2
            "#,
        );
    }

    #[test]
    fn copies_and_moves_keep_expiries() {
        check(
            r#"
            HSETEX h PXAT 4102444800123 FIELDS 1 a 1
            COPY h copy
            RENAME h other
            MOVE other 1
            HPEXPIRETIME copy FIELDS 1 a
            HPERSIST copy FIELDS 1 a
            SELECT 1
            HPEXPIRETIME other FIELDS 1 a
            "#,
            r#"
            (integer) 1
            (integer) 1
            OK
            (integer) 1
            1) (integer) 4102444800123
            1) (integer) 1
            OK
            1) (integer) 4102444800123
            "#,
        );
    }
}
