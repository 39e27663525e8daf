//! Commands on expiries of hash fields, as Valkey 9.1 has them: an expired field is absent for all commands.

use crate::keyspace::{Event, Key};
use crate::resp::{Args, Error};
use crate::server::command::{CmdResult, Ctx};
use crate::stdx::clock::UnixMillis;
use crate::types::{Before, Hash, NewExpiry};

use super::super::expiry::{Conditions, Expiry, Unit, rounded_secs};
use super::super::hash::{report_expired_fields, value_at};
use super::{Rules, answer_times, feed_on, for_each_nothing, persist_each};

/// The handlers.
pub(super) const RULES: Rules =
    Rules { set_expiries, persist, tell, get_and_remove, get_and_expire, set_and_expire };

// ---- arguments ------------------------------------------------------------------------------

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

/// Reports fields that were removed because they had expired.
fn removed(ctx: &mut Ctx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    ctx.db.changed_parts(key, Event::hash("hexpired"), fields.len(), || fields.iter().copied());
    if !fields.is_empty() {
        feed_on(ctx, &[b"HDEL", key.bytes], fields.iter().copied());
    }
    ctx.db.settle::<Hash>(key);
}

// ---- giving an expiry -----------------------------------------------------------------------

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
    let (mut set, mut gone) = (Vec::new(), Vec::new());
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
                set.push(field);
                1
            }
        };
        ctx.reply.int(answer);
    }
    if over {
        removed(ctx, key, &gone);
    } else if !set.is_empty() {
        ctx.db.fields_expire(key);
        ctx.db.changed_parts(key, Event::hash("hexpire"), set.len(), || set.into_iter());
        if unit != Unit::UnixMillis {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at.0).as_bytes();
            feed_on(ctx, &[b"HPEXPIREAT", key.bytes, at], ctx.args.rest(3).iter());
        }
    }
    Ok(replied)
}

/// HPERSIST.
fn persist(ctx: &mut Ctx<'_>) -> CmdResult {
    let fields = only_fields(ctx.args, wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else {
        return Ok(for_each_nothing(ctx, fields.len()));
    };
    let (replied, persisted) = persist_each(&mut ctx.reply, hash, fields, now);
    ctx.db.changed_parts(key, Event::hash("hpersist"), persisted.len(), || persisted.into_iter());
    Ok(replied)
}

// ---- telling the expiry ---------------------------------------------------------------------

/// HTTL and its sisters: the answer is in `unit`, seconds are rounded half up.
fn tell(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let fields = only_fields(ctx.args, || Error::Syntax)?;
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    Ok(answer_times(&mut ctx.reply, hash, fields, now, |at| match unit {
        Unit::Seconds => rounded_secs((at - ctx.now).max(0)),
        Unit::Millis => (at - ctx.now).max(0),
        Unit::UnixSeconds => rounded_secs(at.0),
        Unit::UnixMillis => at.0,
    }))
}

// ---- reading or setting values with it ------------------------------------------------------

/// HGETDEL.
fn get_and_remove(ctx: &mut Ctx<'_>) -> CmdResult {
    let fields = only_fields(ctx.args, wrong_count)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let hash = ctx.db.write_as::<Hash>(key)?;
    let replied = ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| _ = ctx.reply.null());
        return Ok(replied);
    };
    let mut deleted: Vec<&[u8]> = Vec::new();
    for field in fields.iter() {
        match hash.get(field, now) {
            Some(value) => ctx.reply.item(value),
            None => ctx.reply.null(),
        };
        if hash.remove(field, now) {
            deleted.push(field);
        }
    }
    ctx.db.changed_parts(key, Event::hash("hdel"), deleted.len(), || deleted.into_iter());
    ctx.db.settle::<Hash>(key);
    Ok(replied)
}

/// HGETEX.
fn get_and_expire(ctx: &mut Ctx<'_>) -> CmdResult {
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
            ctx.db.changed_parts(key, Event::hash("hexpire"), changed.len(), || changed.iter().copied());
            let at = digits.format(at.0).as_bytes();
            feed_on(ctx, &[b"HPEXPIREAT", key.bytes, at, b"FIELDS", count], changed.iter().copied());
        }
        None => {
            ctx.db.changed_parts(key, Event::hash("hpersist"), changed.len(), || changed.iter().copied());
            feed_on(ctx, &[b"HPERSIST", key.bytes, b"FIELDS", count], changed.iter().copied());
        }
    }
    Ok(replied)
}

/// HSETEX.
fn set_and_expire(ctx: &mut Ctx<'_>) -> CmdResult {
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
    report_expired_fields(&mut ctx.db, key, due.len(), &due);
    ctx.db.changed_parts(key, Event::hash("hset"), fields.len() / 2, || fields.iter().step_by(2));
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
            ctx.db.event_of_parts(key, Event::hash("hexpire"), fields.iter().step_by(2));
            head.extend([&b"PXAT"[..], digits.format(at.0).as_bytes()]);
        }
    }
    feed_on(ctx, &head, ctx.args.rest(number - 1).iter());
    Ok(ctx.reply.int(1))
}

/// Sets fields to values that have already expired: the fields are removed at once.
fn set_and_remove(ctx: &mut Ctx<'_>, key: Key<'_>, fields: Args<'_>) {
    let anyway = UnixMillis(i64::MIN);
    let names = || fields.iter().step_by(2);
    ctx.db.event_of_parts(key, Event::hash("hset"), names());
    ctx.db.event_of_parts(key, Event::hash("hexpire"), names());
    let mut gone: Vec<&[u8]> = names().collect();
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
