//! Commands on the expiry of a hash's fields.
//!
//! As with keys, an expiry is stored and passed on in milliseconds since 1970, in whatever it was given. A field
//! that is given an expiry in the past is removed at once, and passed on as that. The texts of errors and the
//! order in which they are found are Valkey's.

use crate::keyspace::{Event, Key};
use crate::resp::{Args, Error, Replied};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::feed::Feed;
use crate::stdx::clock::UnixMillis;
use crate::types::{Before, Hash, NewExpiry};

use super::expiry::{Conditions, Expiry, Unit, rounded_secs};
use super::hash::{met_due, value_at};

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

/// What follows the number at argument `i`: as many fields, of `parts` arguments each, as it says.
fn counted(args: Args<'_>, i: usize, parts: usize) -> Result<Option<Args<'_>>, Error> {
    let (number, fields) = (args.int(i)?, args.rest(i + 1));
    let expected = usize::try_from(number).ok().filter(|&n| n > 0).and_then(|n| n.checked_mul(parts));
    Ok(Some(fields).filter(|fields| expected == Some(fields.len())))
}

/// The options from argument `from` on and the position of the number of fields behind them and the word `FIELDS`.
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

/// Sets `option`, which may be given again but not be another one.
fn choose<T: PartialEq>(option: &mut Option<T>, value: T) -> Result<(), Error> {
    match option {
        Some(old) if *old != value => Err(Error::Syntax),
        _ => {
            *option = Some(value);
            Ok(())
        }
    }
}

/// The option of a command that gives or takes away an expiry.
#[derive(Clone, Copy)]
enum Choice<'a> {
    Time(Expiry<'a>),
    /// `PERSIST` or `KEEPTTL`.
    Word,
}

/// Reads an option that is a time or `word` at argument `i`; how many arguments it takes.
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

/// Answers the same for each of `n` fields of a hash that is not there.
fn for_each_nothing(ctx: &mut Ctx<'_>, n: usize) -> Replied {
    let replied = ctx.reply.array(n);
    (0..n).for_each(|_| _ = ctx.reply.int(-2));
    replied
}

/// Reports that fields were removed because their time is over.
fn removed(ctx: &mut Ctx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    ctx.db.changed(key, Event::hash("hexpired"), fields.len());
    if !fields.is_empty() {
        feed_on(ctx, &[b"HDEL", key.bytes], fields.iter().copied());
    }
    ctx.db.settle::<Hash>(key);
}

/// Passes on `head` and `fields` as one command.
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
/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS n field … → for each: 1 set, 2 removed, 0 not allowed, −2 not there.
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
/// HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS n field … → for each: 1 set, 2 removed, 0 not allowed, −2 not there.
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
/// HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS n field … → for each: 1 set, 2 removed, 0 not allowed, −2 not there.
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
/// HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS n field … → for each: 1 set, 2 removed, 0 not allowed, −2 not there.
fn hpexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiries(ctx, Unit::UnixMillis)
}

/// Gives the fields the expiry that argument 2 tells in `unit`. Fields whose time is over already are removed.
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
/// HPERSIST key FIELDS n field … → for each: 1 it had an expiry, −1 it had none, −2 not there.
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
    .docs(Docs {
        summary: "Tells in how many seconds fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HTTL key FIELDS n field … → for each: seconds left, rounded; −1 without an expiry, −2 not there.
fn httl(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now;
    tell(ctx, |at| rounded_secs((at - now).max(0)))
}

const HPTTL: Spec = Spec::data("hpttl", -5, hpttl)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Tells in how many milliseconds fields of a hash expire.",
        since: "7.4.0",
        complexity: "O(N) for N fields named.",
        group: Group::Hash,
        args: &[Arg::key("key"), FIELDS],
        ..Docs::NONE
    });
/// HPTTL key FIELDS n field … → for each: milliseconds left; −1 without an expiry, −2 not there.
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
/// HEXPIRETIME key FIELDS n field … → for each: Unix time in seconds, rounded; −1 without an expiry, −2 not there.
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
/// HPEXPIRETIME key FIELDS n field … → for each: Unix time in milliseconds; −1 without an expiry, −2 not there.
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
/// HGETDEL key FIELDS n field … → the value, or null, of each, which are gone then.
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
/// HGETEX key [EX s | PX ms | EXAT t | PXAT t | PERSIST] FIELDS n field … → the value, or null, of each.
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
/// HSETEX key [NX | XX] [FNX | FXX] [EX s | PX ms | EXAT t | PXAT t | KEEPTTL] FIELDS n field value … → whether they
/// were set: the conditions are on the key and on all of the fields.
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
    met_due(&mut ctx.db, key, due.len());
    ctx.db.changed(key, Event::hash("hset"), fields.len() / 2);
    let mut digits = itoa::Buffer::new();
    let mut head = vec![&b"HSETEX"[..], key.bytes];
    match expiry {
        NewExpiry::Never => {}
        NewExpiry::Same => {
            // Others do not notice by themselves that there is nothing to keep.
            if !due.is_empty() {
                feed_on(ctx, &[b"HDEL", key.bytes], due.into_iter());
            }
            head.push(b"KEEPTTL");
        }
        NewExpiry::At(at) => {
            ctx.db.fields_expire(key);
            ctx.db.told(key, Event::hash("hexpire"));
            head.extend([&b"PXAT"[..], digits.format(at.0).as_bytes()]);
        }
    }
    feed_on(ctx, &head, ctx.args.rest(number - 1).iter());
    Ok(ctx.reply.int(1))
}

/// Sets fields whose time is over: they, and what there was by their names, are gone at once.
fn set_and_remove(ctx: &mut Ctx<'_>, key: Key<'_>, fields: Args<'_>) {
    let anyway = UnixMillis(i64::MIN);
    ctx.db.told(key, Event::hash("hset"));
    ctx.db.told(key, Event::hash("hexpire"));
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
    ctx.db.told(key, Event::hash("hexpired"));
    if !was_there {
        ctx.db.told(key, Event::generic("del"));
    }
}
