//! Commands on expiries of hash fields, as Redis 8.2 has them: a due field is there for commands that set or remove
//! it, and is removed by those that read its value.

use crate::keyspace::{Db, Event, Key};
use crate::resp::{Args, Error};
use crate::server::command::{CmdResult, Ctx};
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;
use crate::types::{Hash, NewExpiry};

use super::super::expiry::{Conditions, Unit};
use super::super::hash::value_at;
use super::{Rules, answer_times, feed_on, for_each_nothing, persist_each};

/// The handlers.
pub(super) const RULES: Rules =
    Rules { set_expiries, persist, tell, get_and_remove, get_and_expire, set_and_expire };

/// Latest expiry that a client may set, in milliseconds since 1970: 46 bits.
const LATEST: UnixMillis = UnixMillis((1 << 46) - 1);

/// Before all times: no field is due by then.
const EVER: UnixMillis = UnixMillis(i64::MIN);

// ---- arguments ------------------------------------------------------------------------------

#[cold]
fn fields_missing() -> Error {
    Error::text("ERR Mandatory argument FIELDS is missing or not at the right position")
}

#[cold]
fn wrong_number() -> Error {
    Error::text("ERR Number of fields must be a positive integer")
}

/// The fields after `FIELDS` at argument `at` and their number.
fn named(args: Args<'_>, at: usize, wrong_number: impl FnOnce() -> Error) -> Result<Args<'_>, Error> {
    if !args.is(at, "FIELDS") {
        return Err(fields_missing());
    }
    let number = num::parse_i64(args.at(at + 1)).filter(|&n| n > 0).ok_or_else(wrong_number)?;
    let fields = args.rest(at + 2);
    if usize::try_from(number) != Ok(fields.len()) {
        return Err(Error::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(fields)
}

/// The time that is `amount` of `unit` after its base.
fn instant(db: &Db<'_>, unit: Unit, amount: &[u8], now: UnixMillis, name: &str) -> Result<UnixMillis, Error> {
    let amount = num::parse_i64(amount).ok_or(Error::NotInteger)?;
    if amount < 0 {
        return Err(Error::text("ERR invalid expire time, must be >= 0"));
    }
    // A file, or a primary that is another server, may have later times.
    let latest = if db.removes_due_keys() { LATEST } else { UnixMillis(i64::MAX) };
    unit.after(amount, now).filter(|&at| at <= latest).ok_or_else(|| Error::invalid_expire(name))
}

/// Whether an expiry has passed where expired fields are removed.
fn is_over(ctx: &Ctx<'_>, at: UnixMillis) -> bool {
    at <= ctx.now && ctx.db.removes_due_keys()
}

/// Reports that fields were removed because they were given an expiry in the past. Each is propagated on its own.
fn report_removed(ctx: &mut Ctx<'_>, key: Key<'_>, fields: &[&[u8]]) {
    ctx.db.space().stats.expired_fields += fields.len() as u64;
    ctx.db.changed_parts(key, Event::hash("hdel"), fields.len(), || fields.iter().copied());
    for field in fields {
        ctx.feed.instead(&[b"HDEL", key.bytes, field]);
    }
    ctx.db.settle::<Hash>(key);
}

// ---- giving an expiry -----------------------------------------------------------------------

/// HEXPIRE and its sisters: sets the expiry of the fields to argument 2, which is in `unit`. Fields that have thereby
/// expired are removed.
fn set_expiries(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let (key, args) = (ctx.args.key(1), ctx.args);
    ctx.db.find_as::<Hash>(key)?;
    let at = instant(&ctx.db, unit, args.at(2), ctx.now, ctx.name)?;
    let condition = Conditions::named(args.at(3));
    let start = if condition.is_some() { 4 } else { 3 };
    let wrong_number = || Error::text("ERR Parameter `numFields` should be greater than 0");
    let fields = named(args, start, wrong_number)?;
    let condition = condition.unwrap_or_default();
    let over = is_over(ctx, at);
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else {
        return Ok(for_each_nothing(ctx, fields.len()));
    };
    let replied = ctx.reply.array(fields.len());
    let mut changed: Vec<&[u8]> = Vec::new();
    for field in fields.iter() {
        let answer = match hash.get_with_expiry(field, EVER) {
            None => -2,
            Some((_, old)) if !condition.allow(old, at) => 0,
            Some(_) if over => {
                hash.remove(field, EVER);
                changed.push(field);
                2
            }
            Some(_) => {
                hash.set_expiry(field, Some(at));
                changed.push(field);
                1
            }
        };
        ctx.reply.int(answer);
    }
    if changed.is_empty() {
        return Ok(replied);
    }
    if over {
        report_removed(ctx, key, &changed);
        return Ok(replied);
    }
    ctx.db.fields_expire(key);
    ctx.db.changed_parts(key, Event::hash("hexpire"), changed.len(), || changed.iter().copied());
    let (mut digits, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut head = vec![&b"HPEXPIREAT"[..], key.bytes, digits.format(at.0).as_bytes()];
    head.extend(args.range(3..start + 1).iter());
    head.push(count.format(changed.len()).as_bytes());
    feed_on(ctx, &head, changed.into_iter());
    Ok(replied)
}

/// HPERSIST.
fn persist(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let hash = ctx.db.write_as::<Hash>(key)?;
    let fields = named(ctx.args, 2, wrong_number)?;
    let Some(hash) = hash else { return Ok(for_each_nothing(ctx, fields.len())) };
    let (replied, persisted) = persist_each(&mut ctx.reply, hash, fields, now);
    ctx.db.changed_parts(key, Event::hash("hpersist"), persisted.len(), || persisted.into_iter());
    Ok(replied)
}

// ---- telling the expiry ---------------------------------------------------------------------

/// HTTL and its sisters: the answer is in `unit`, a part of a second counts as one.
fn tell(ctx: &mut Ctx<'_>, unit: Unit) -> CmdResult {
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    let fields = named(ctx.args, 2, wrong_number)?;
    let seconds = |ms: i64| ms / 1000 + i64::from(ms % 1000 > 0);
    Ok(answer_times(&mut ctx.reply, hash, fields, now, |at| match unit {
        Unit::Seconds => seconds((at - ctx.now).max(0)),
        Unit::Millis => (at - ctx.now).max(0),
        Unit::UnixSeconds => seconds(at.0),
        Unit::UnixMillis => at.0,
    }))
}

// ---- reading or setting values with it ------------------------------------------------------

/// HGETDEL.
fn get_and_remove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    ctx.db.find_as::<Hash>(key)?;
    let fields = named(ctx.args, 2, wrong_number)?;
    ctx.db.remove_read(key, Some(&mut fields.iter()));
    let hash = ctx.db.write_as::<Hash>(key)?;
    let replied = ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.iter().for_each(|_| _ = ctx.reply.null());
        return Ok(replied);
    };
    let mut removed: Vec<&[u8]> = Vec::new();
    for field in fields.iter() {
        match hash.get(field, now) {
            Some(value) => ctx.reply.item(value),
            None => ctx.reply.null(),
        };
        if hash.remove(field, now) {
            removed.push(field);
        }
    }
    ctx.db.changed_parts(key, Event::hash("hdel"), removed.len(), || removed.into_iter());
    feed_on(ctx, &[b"HDEL", key.bytes], fields.iter());
    ctx.db.settle::<Hash>(key);
    Ok(replied)
}

/// What HGETEX does with the expiry.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    Persist,
    Expire(UnixMillis),
}

/// HGETEX.
fn get_and_expire(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, now, args) = (ctx.args.key(1), ctx.db.due_by(), ctx.args);
    ctx.db.find_as::<Hash>(key)?;
    let (change, start) = match Unit::named(args.at(2)) {
        Some(unit) => {
            let at = instant(&ctx.db, unit, args.at(3), ctx.now, ctx.name)?;
            (Change::Expire(at), 4)
        }
        None if args.is(2, "PERSIST") => (Change::Persist, 3),
        None => (Change::Nothing, 2),
    };
    if args.len() < start + 2 {
        return Err(Error::arity(ctx.name));
    }
    let fields = named(args, start, wrong_number)?;
    let over = matches!(change, Change::Expire(at) if is_over(ctx, at));
    ctx.db.remove_read(key, Some(&mut fields.iter()));
    let hash = ctx.db.write_as::<Hash>(key)?;
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
        match change {
            Change::Nothing => continue,
            Change::Persist if old.is_none() => continue,
            Change::Persist => _ = hash.set_expiry(field, None),
            Change::Expire(_) if over => _ = hash.remove(field, now),
            Change::Expire(at) => _ = hash.set_expiry(field, Some(at)),
        }
        changed.push(field);
    }
    if changed.is_empty() {
        return Ok(replied);
    }
    let rest = args.rest(start);
    match change {
        Change::Nothing => {}
        Change::Expire(_) if over => report_removed(ctx, key, &changed),
        Change::Expire(at) => {
            ctx.db.fields_expire(key);
            ctx.db.changed_parts(key, Event::hash("hexpire"), changed.len(), || changed.iter().copied());
            let mut digits = itoa::Buffer::new();
            feed_on(ctx, &[b"HPEXPIREAT", key.bytes, digits.format(at.0).as_bytes()], rest.iter());
        }
        Change::Persist => {
            ctx.db.changed_parts(key, Event::hash("hpersist"), changed.len(), || changed.iter().copied());
            feed_on(ctx, &[b"HPERSIST", key.bytes], rest.iter());
        }
    }
    Ok(replied)
}

/// The options of HSETEX.
struct Setting<'a> {
    /// Whether all fields must be there, or none.
    there: Option<bool>,
    expiry: NewExpiry,
    /// Position of the option with the time.
    time_at: Option<usize>,
    /// Fields and values.
    pairs: Args<'a>,
}

impl<'a> Setting<'a> {
    fn parse(ctx: &Ctx<'a>) -> Result<Setting<'a>, Error> {
        let args = ctx.args;
        let (mut there, mut expiry, mut time_at, mut i) = (None, None, None, 2);
        while i < args.len() {
            let word = args.at(i);
            if args.is(i, "FIELDS") {
                let pairs = Self::pairs(args, i, ctx.name)?;
                return Ok(Setting { there, expiry: expiry.unwrap_or(NewExpiry::Never), time_at, pairs });
            }
            let unit = Unit::named(word);
            if args.is(i, "FNX") || args.is(i, "FXX") {
                if there.is_some() {
                    return Err(Error::text("ERR Only one of FXX or FNX arguments can be specified"));
                }
                there = Some(args.is(i, "FXX"));
            } else if unit.is_some() || args.is(i, "KEEPTTL") {
                if expiry.is_some() {
                    return Err(Error::text(
                        "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                    ));
                }
                expiry = Some(NewExpiry::Same);
                if let Some(unit) = unit {
                    time_at = Some(i);
                    i += 1;
                    let amount = args.get(i).ok_or_else(|| Error::arity(ctx.name))?;
                    expiry = Some(NewExpiry::At(instant(&ctx.db, unit, amount, ctx.now, ctx.name)?));
                }
            } else {
                return Err(Error::quoting(&[b"ERR unknown argument: ", word]));
            }
            i += 1;
        }
        Err(Error::arity(ctx.name))
    }

    /// The fields and values after `FIELDS` at argument `at` and their number, which end the request.
    fn pairs(args: Args<'a>, at: usize, name: &str) -> Result<Args<'a>, Error> {
        if args.len() < at + 4 {
            return Err(Error::arity(name));
        }
        let number = num::parse_i64(args.at(at + 1)).and_then(|n| i32::try_from(n).ok()).filter(|&n| n > 0);
        let number = number.ok_or_else(|| Error::text("ERR invalid number of fields"))?;
        let pairs = args.rest(at + 2);
        if pairs.len() as u64 != 2 * number as u64 {
            return Err(Error::arity(name));
        }
        Ok(pairs)
    }
}

/// HSETEX.
fn set_and_expire(ctx: &mut Ctx<'_>) -> CmdResult {
    let Setting { there, expiry, time_at, pairs } = Setting::parse(ctx)?;
    let (key, now) = (ctx.args.key(1), ctx.db.due_by());
    let fields = || pairs.iter().step_by(2);
    let hash = ctx.db.find_as::<Hash>(key)?;
    if let Some(there) = there {
        let is_there = |field| hash.is_some_and(|hash| hash.contains(field, now));
        let unfit = fields().position(|field| is_there(field) != there);
        // The fields looked at, up to the first that does not meet the condition.
        let seen = unfit.map_or(pairs.len() / 2, |i| i + 1);
        ctx.db.remove_read(key, Some(&mut fields().take(seen)));
        if unfit.is_some() {
            return Ok(ctx.reply.int(0));
        }
    }
    if let NewExpiry::At(at) = expiry
        && is_over(ctx, at)
    {
        // The fields count as changed once, when they are removed.
        ctx.db.event_of_parts(key, Event::hash("hset"), fields());
        let hash = ctx.db.write_as::<Hash>(key)?;
        let was_there = hash.is_some();
        if let Some(hash) = hash {
            fields().for_each(|field| _ = hash.remove(field, EVER));
        }
        let gone: Vec<&[u8]> = fields().collect();
        report_removed(ctx, key, &gone);
        if !was_there {
            ctx.db.also_changed(key, Event::generic("del"));
        }
        return Ok(ctx.reply.int(1));
    }
    let limits = &ctx.limits.types;
    let hash = ctx.db.write_or_insert(key, Hash::new)?;
    hash.prepare(pairs.iter(), limits);
    for i in (0..pairs.len()).step_by(2) {
        hash.put(pairs.at(i), value_at(pairs, i + 1), expiry, limits, EVER);
    }
    ctx.db.changed_parts(key, Event::hash("hset"), pairs.len() / 2, fields);
    if let (NewExpiry::At(at), Some(time_at)) = (expiry, time_at) {
        ctx.db.fields_expire(key);
        ctx.db.event_of_parts(key, Event::hash("hexpire"), fields());
        let mut digits = itoa::Buffer::new();
        let mut head: Vec<&[u8]> = ctx.args.range(0..time_at).iter().collect();
        head.extend([&b"PXAT"[..], digits.format(at.0).as_bytes()]);
        feed_on(ctx, &head, ctx.args.rest(time_at + 2).iter());
    }
    Ok(ctx.reply.int(1))
}
