//! Commands on hashes.
//!
//! An expired field is invisible to every reader, but counts in the length until it has been removed. By the rules of
//! Redis, a command that reads it by its name removes it, and one that only sets or removes it finds it; by those of
//! Valkey, a command that sets it creates a new field.

use std::sync::Arc;

use crate::keyspace::{Db, Event, FieldRules, Key};
use crate::resp::{Args, Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::stdx::clock::UnixMillis;
use crate::stdx::long_double::LongDouble;
use crate::stdx::rng::Rng;
use crate::structures::listpack::Item;
use crate::types::{Before, Describe, Hash, NewExpiry, Value};

use super::scan_args::ScanArgs;

/// Table entries of the hash commands.
pub const COMMANDS: &[Spec] = &[
    HDEL,
    HEXISTS,
    HGET,
    HGETALL,
    HINCRBY,
    HINCRBYFLOAT,
    HKEYS,
    HLEN,
    HMGET,
    HMSET,
    HRANDFIELD,
    HSCAN,
    HSET,
    HSETNX,
    HSTRLEN,
    HVALS,
];

// ---- setting --------------------------------------------------------------------------------

const HSET: Spec = Spec::data("hset", -4, hset)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Sets the values of fields of a hash, creating it if need be.",
        since: "2.0.0",
        complexity: "O(N) for N fields set.",
        group: Group::Hash,
        history: &[("4.0.0", "Several pairs of `field` and `value`.")],
        args: &[
            Arg::key("key"),
            Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        ..Docs::NONE
    });
/// HSET key field value [field value …] → number of new fields.
fn hset(ctx: &mut Ctx<'_>) -> CmdResult {
    let added = set_fields(ctx)?;
    Ok(ctx.reply.int(added as i64))
}

const HMSET: Spec = Spec::data("hmset", -4, hmset)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Sets the values of fields of a hash.",
        since: "2.0.0",
        complexity: "O(N) for N fields set.",
        group: Group::Hash,
        deprecated_since: "4.0.0",
        replaced_by: "`HSET` with multiple field-value pairs",
        args: &[
            Arg::key("key"),
            Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        ..Docs::NONE
    });
/// HMSET key field value [field value …] → OK.
fn hmset(ctx: &mut Ctx<'_>) -> CmdResult {
    set_fields(ctx)?;
    Ok(ctx.reply.ok())
}

/// Sets the fields from argument 2 on and returns the number of new ones.
fn set_fields(ctx: &mut Ctx<'_>) -> Result<usize, Error> {
    if ctx.args.len() % 2 == 1 {
        return Err(Error::arity(ctx.name));
    }
    let (key, now) = (ctx.args.key(1), ctx.db.due_to_writers_by());
    let limits = &ctx.limits.types;
    let hash = ctx.db.write_or_insert(key, Hash::new)?;
    hash.prepare(ctx.args.rest(2).iter(), limits);
    let (mut added, mut due) = (0, 0);
    for i in (2..ctx.args.len()).step_by(2) {
        let value = value_at(ctx.args, i + 1);
        let before = hash.put(ctx.args.at(i), value, NewExpiry::Never, limits, now);
        added += usize::from(before.is_new());
        due += usize::from(before == Before::Due);
    }
    report_expired_fields(&mut ctx.db, key, due, &[]);
    let args = ctx.args;
    let fields = || args.rest(2).iter().step_by(2);
    ctx.db.changed_parts(key, Event::hash("hset"), (args.len() - 2) / 2, fields);
    Ok(added)
}

/// Reports that `n` fields had expired, before the change to them is reported. `names` are theirs as far as they are
/// known: that they are found by writers is a rule of Valkey, which names no fields.
pub(super) fn report_expired_fields(db: &mut Db<'_>, key: Key<'_>, n: usize, names: &[&[u8]]) {
    if n > 0 {
        db.space().stats.expired_fields += n as u64;
        db.event_of_parts(key, Event::hash("hexpired"), names.iter().copied());
    }
}

/// Argument `i` as a value, which is shared if it was received in a buffer of its own.
pub(super) fn value_at<'a>(args: Args<'a>, i: usize) -> Value<'a> {
    match args.shared(i) {
        Some(shared) => Value::Shared(Arc::clone(shared)),
        None => Value::Bytes(args.at(i)),
    }
}

const HSETNX: Spec = Spec::data("hsetnx", 4, hsetnx)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Sets the value of a field that the hash does not have yet.",
        since: "2.0.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field"), Arg::string("value")],
        ..Docs::NONE
    });
/// HSETNX key field value → 1 if the field was new, else 0.
fn hsetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, field) = (ctx.args.key(1), ctx.args.at(2));
    let now = ctx.db.due_by();
    if ctx.db.find_as::<Hash>(key)?.is_some_and(|hash| hash.contains(field, now)) {
        return Ok(ctx.reply.int(0));
    }
    let before = set_field(ctx, key, value_at(ctx.args, 3), "hset")?;
    if before == Before::Due {
        // Others do not remove the expired field by themselves.
        ctx.feed.instead(&[b"HSET", key.bytes, field, ctx.args.at(3)]);
    }
    Ok(ctx.reply.int(1))
}

/// Sets the field named by argument 2, which keeps its expiry.
fn set_field(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    value: Value<'_>,
    event: &'static str,
) -> Result<Before, Error> {
    let now = ctx.db.due_by();
    let mut hash = ctx.db.write_or_insert(key, Hash::new)?;
    if hash.volatile() > 0 {
        // These commands read the field first.
        ctx.db.remove_read(key, Some(&mut [ctx.args.at(2)].into_iter()));
        hash = ctx.db.write_or_insert(key, Hash::new)?;
    }
    let field = [ctx.args.at(2)];
    let before = hash.put(field[0], value, NewExpiry::Same, &ctx.limits.types, now);
    if before == Before::Due {
        report_expired_fields(&mut ctx.db, key, 1, &field);
    }
    ctx.db.changed_parts(key, Event::hash(event), 1, || field.into_iter());
    Ok(before)
}

/// Propagates the result of a command that set the field named by argument 2.
fn feed_field(ctx: &mut Ctx<'_>, key: Key<'_>, value: &[u8], expires: Option<UnixMillis>) {
    let field = ctx.args.at(2);
    match expires {
        None => ctx.feed.instead(&[b"HSET", key.bytes, field, value]),
        Some(_) if ctx.db.space().field_rules == FieldRules::Redis => {
            ctx.feed.instead(&[b"HSETEX", key.bytes, b"KEEPTTL", b"FIELDS", b"1", field, value]);
        }
        Some(at) => {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at.0).as_bytes();
            ctx.feed.instead(&[b"HSETEX", key.bytes, b"PXAT", at, b"FIELDS", b"1", field, value]);
        }
    }
}

const HINCRBY: Spec = Spec::data("hincrby", 4, hincrby)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Adds an integer to the value of a field, which counts as 0 if there is none.",
        since: "2.0.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field"), Arg::integer("increment")],
        ..Docs::NONE
    });
/// HINCRBY key field increment → the sum.
fn hincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, increment) = (ctx.args.key(1), ctx.args.int(3)?);
    let now = ctx.db.due_by();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let (old, expires) = match hash.and_then(|hash| hash.get_with_expiry(ctx.args.at(2), now)) {
        Some((value, expires)) => {
            (value.int().ok_or_else(|| Error::text("ERR hash value is not an integer"))?, expires)
        }
        None => (0, None),
    };
    let sum = old.checked_add(increment).ok_or(Error::Overflow)?;
    let before = set_field(ctx, key, Value::Int(sum), "hincrby")?;
    // Others do not notice that the field has expired. By the rules of Valkey, they notice it before they receive this
    // change.
    let alone = expires.is_some() && ctx.db.space().field_rules == FieldRules::Valkey;
    if alone || before == Before::Due {
        feed_field(ctx, key, itoa::Buffer::new().format(sum).as_bytes(), expires);
    }
    Ok(ctx.reply.int(sum))
}

const HINCRBYFLOAT: Spec = Spec::data("hincrbyfloat", 4, hincrbyfloat)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Adds a number to the value of a field, which counts as 0 if there is none.",
        since: "2.6.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field"), Arg::double("increment")],
        ..Docs::NONE
    });
/// HINCRBYFLOAT key field increment → the sum, as text.
fn hincrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, field) = (ctx.args.key(1), ctx.args.at(2));
    let increment = LongDouble::parse(ctx.args.at(3)).ok_or(Error::NotFloat)?;
    if increment.is_infinite() {
        return Err(Error::text("ERR value is NaN or Infinity"));
    }
    let now = ctx.db.due_by();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let (old, expires) = match hash.and_then(|hash| hash.get_with_expiry(field, now)) {
        Some((value, expires)) => {
            let value = LongDouble::parse(value.text(&mut itoa::Buffer::new()));
            (value.ok_or_else(|| Error::text("ERR hash value is not a float"))?, expires)
        }
        None => (LongDouble::ZERO, None),
    };
    let sum = old + increment;
    if sum.is_nan() || sum.is_infinite() {
        return Err(Error::NanOrInfinity);
    }
    let mut text = Vec::new();
    sum.fmt_human(&mut text);
    set_field(ctx, key, Value::Bytes(&text), "hincrbyfloat")?;
    // Adding with another precision would give another sum.
    feed_field(ctx, key, &text, expires);
    Ok(ctx.reply.bulk(&text))
}

const HDEL: Spec = Spec::data("hdel", -3, hdel)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Removes fields of a hash; a hash without fields is deleted.",
        since: "2.0.0",
        complexity: "O(N) for N fields removed.",
        group: Group::Hash,
        history: &[("2.4.0", "Several `field` arguments.")],
        args: &[Arg::key("key"), Arg::string("field").multiple()],
        ..Docs::NONE
    });
/// HDEL key field [field …] → number of removed fields.
fn hdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, now) = (ctx.args.key(1), ctx.db.due_to_writers_by());
    let names = ctx.db.names_parts();
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else { return Ok(ctx.reply.int(0)) };
    let (mut removed, mut gone) = (0, Vec::new());
    for field in ctx.args.rest(2).iter().filter(|field| hash.remove(field, now)) {
        removed += 1;
        if names {
            gone.push(field);
        }
    }
    ctx.db.changed_parts(key, Event::hash("hdel"), removed, || gone.into_iter());
    ctx.db.settle::<Hash>(key);
    Ok(ctx.reply.int(removed as i64))
}

// ---- reading --------------------------------------------------------------------------------

const HGET: Spec = Spec::data("hget", 3, hget)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Answers the value of a field of a hash.",
        since: "2.0.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field")],
        ..Docs::NONE
    });
/// HGET key field → value, or null.
fn hget(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    if let Some(value) = hash.and_then(|hash| hash.get(ctx.args.at(2), now)) {
        return Ok(ctx.reply.item(value));
    }
    let may_be_due = may_have_due(hash);
    let replied = ctx.reply.null();
    if may_be_due {
        ctx.db.remove_read(ctx.args.key(1), Some(&mut ctx.args.rest(2).iter()));
    }
    Ok(replied)
}

/// Whether a field that was not found may have expired and still be there.
#[inline]
fn may_have_due(hash: Option<&Hash>) -> bool {
    hash.is_some_and(|hash| hash.volatile() > 0)
}

const HMGET: Spec = Spec::data("hmget", -3, hmget)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Answers the values of several fields of a hash.",
        since: "2.0.0",
        complexity: "O(N) for N fields asked for.",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field").multiple()],
        ..Docs::NONE
    });
/// HMGET key field [field …] → value, or null, of each field.
fn hmget(ctx: &mut Ctx<'_>) -> CmdResult {
    let (fields, now) = (ctx.args.rest(2), ctx.db.due_by());
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    let may_be_due = may_have_due(hash);
    let reply = &mut ctx.reply;
    let replied = reply.array(fields.len());
    let mut each = |value: Option<Item<'_>>| {
        match value {
            Some(value) => reply.item(value),
            None => reply.null(),
        };
    };
    match hash {
        Some(hash) => hash.get_each(fields.iter(), now, each),
        None => fields.iter().for_each(|_| each(None)),
    }
    if may_be_due {
        ctx.db.remove_read(ctx.args.key(1), Some(&mut fields.iter()));
    }
    Ok(replied)
}

const HEXISTS: Spec = Spec::data("hexists", 3, hexists)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Tells whether a hash has a field.",
        since: "2.0.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field")],
        ..Docs::NONE
    });
/// HEXISTS key field → 1 if the hash has the field, else 0.
fn hexists(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    let present = hash.is_some_and(|hash| hash.contains(ctx.args.at(2), now));
    if !present && may_have_due(hash) {
        ctx.db.remove_read(ctx.args.key(1), Some(&mut ctx.args.rest(2).iter()));
    }
    Ok(ctx.reply.int(i64::from(present)))
}

const HSTRLEN: Spec = Spec::data("hstrlen", 3, hstrlen)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Answers the length of a field's value.",
        since: "3.2.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key"), Arg::string("field")],
        ..Docs::NONE
    });
/// HSTRLEN key field → length of the value; 0 if there is none.
fn hstrlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    let len = hash.and_then(|hash| hash.get(ctx.args.at(2), now)).map_or(0, Item::len);
    if len == 0 && may_have_due(hash) {
        ctx.db.remove_read(ctx.args.key(1), Some(&mut ctx.args.rest(2).iter()));
    }
    Ok(ctx.reply.int(len as i64))
}

const HLEN: Spec = Spec::data("hlen", 2, hlen)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Counts the fields of a hash.",
        since: "2.0.0",
        complexity: "O(1).",
        group: Group::Hash,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// HLEN key → number of fields, including expired ones that have not been removed yet.
fn hlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let len = ctx.db.read_as::<Hash>(ctx.args.key(1))?.map_or(0, Hash::len);
    Ok(ctx.reply.int(len as i64))
}

const HGETALL: Spec = Spec::data("hgetall", 2, hgetall)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output_order"])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Answers all fields of a hash with their values.",
        since: "2.0.0",
        complexity: "O(N) for N fields.",
        group: Group::Hash,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// HGETALL key → all fields with their values.
fn hgetall(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.db.due_by();
    let Some(hash) = ctx.db.read_as::<Hash>(ctx.args.key(1))? else { return Ok(ctx.reply.map(0)) };
    let replied = ctx.reply.map(hash.len_at(now));
    ctx.reply.each(hash.iter_at(now), |reply, (field, value)| {
        reply.item(field);
        reply.item(value);
    });
    Ok(replied)
}

const HKEYS: Spec = Spec::data("hkeys", 2, hkeys)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output_order"])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Answers all fields of a hash.",
        since: "2.0.0",
        complexity: "O(N) for N fields.",
        group: Group::Hash,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// HKEYS key → all fields.
fn hkeys(ctx: &mut Ctx<'_>) -> CmdResult {
    all(ctx, |(field, _)| field)
}

const HVALS: Spec = Spec::data("hvals", 2, hvals)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output_order"])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Answers the values of all fields of a hash.",
        since: "2.0.0",
        complexity: "O(N) for N fields.",
        group: Group::Hash,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });
/// HVALS key → values of all fields.
fn hvals(ctx: &mut Ctx<'_>) -> CmdResult {
    all(ctx, |(_, value)| value)
}

/// Replies with one part of every field.
fn all(ctx: &mut Ctx<'_>, part: impl for<'i> Fn((Item<'i>, Item<'i>)) -> Item<'i>) -> CmdResult {
    let now = ctx.db.due_by();
    let Some(hash) = ctx.db.read_as::<Hash>(ctx.args.key(1))? else { return Ok(ctx.reply.array(0)) };
    let replied = ctx.reply.array(hash.len_at(now));
    ctx.reply.each(hash.iter_at(now), |reply, pair| _ = reply.item(part(pair)));
    Ok(replied)
}

const HSCAN: Spec = Spec::data("hscan", -3, hscan)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Goes through the fields of a hash, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls until the cursor is 0 again, for N fields.",
        group: Group::Hash,
        args: &[
            Arg::key("key"),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("novalues", "NOVALUES").optional(),
        ],
        ..Docs::NONE
    });
/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES] → next cursor, and some fields with their values.
fn hscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.args.cursor(2)?;
    let now = ctx.db.due_by();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key(1))?;
    let start = ctx.reply.defer();
    let Some(hash) = hash else { return Ok(ctx.reply.end_scan(start, 0, 0)) };
    let options = ScanArgs::parse(ctx.args, 3, "NOVALUES")?;
    let (reply, mut found) = (&mut ctx.reply, 0);
    let cursor = options.run(reply, cursor, |reply, cursor| {
        let mut seen = 0;
        let next = hash.scan(cursor, now, |field, value| {
            seen += 1;
            if !options.pattern.matches(field.text(&mut itoa::Buffer::new())) {
                return;
            }
            reply.item(field);
            found += 1;
            if !options.names_only {
                reply.item(value);
                found += 1;
            }
        });
        (next, seen)
    });
    Ok(ctx.reply.end_scan(start, cursor, found))
}

const HRANDFIELD: Spec = Spec::data("hrandfield", -2, hrandfield)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Answers random fields of a hash.",
        since: "6.2.0",
        complexity: "O(N) for N fields answered.",
        group: Group::Hash,
        args: &[
            Arg::key("key"),
            Arg::block("options", &[Arg::integer("count"), Arg::word("withvalues", "WITHVALUES").optional()])
                .optional(),
        ],
        ..Docs::NONE
    });
/// HRANDFIELD key → a random field, or null.
/// HRANDFIELD key count [WITHVALUES] → `count` distinct random fields; with a negative count, fields may repeat.
fn hrandfield(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let mut rng = Rng::new(ctx.db.rng().next_u64());
    let now = ctx.db.due_by();
    if ctx.args.len() == 2 {
        let mut hash = ctx.db.read_as::<Hash>(key)?;
        if may_have_due(hash) {
            ctx.db.remove_read(key, None);
            hash = ctx.db.look_as::<Hash>(key);
        }
        return Ok(match hash.and_then(|hash| hash.random(&mut rng, now)) {
            Some((field, _)) => ctx.reply.item(field),
            None => ctx.reply.null(),
        });
    }
    let count = ctx.args.int(2)?;
    if count == i64::MIN {
        let text =
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        return Err(Error::text(text));
    }
    let with_values = ctx.args.is(3, "WITHVALUES");
    if ctx.args.len() > 4 || (ctx.args.len() == 4 && !with_values) {
        return Err(Error::Syntax);
    }
    // Twice the count must be a valid length.
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::OutOfRange);
    }
    let mut hash = ctx.db.read_as::<Hash>(key)?;
    if may_have_due(hash) {
        ctx.db.remove_read(key, None);
        hash = ctx.db.look_as::<Hash>(key);
    }
    let reply = &mut ctx.reply;
    let Some(hash) = hash else { return Ok(reply.array(0)) };
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let fields = match hash.len_at(now) {
        0 => 0,
        _ if count < 0 => n,
        len => n.min(len),
    };
    let pairs = with_values && reply.resp3();
    let replied = reply.array(if with_values && !pairs { 2 * fields } else { fields });
    let each = |reply: &mut Reply<'_>, field: Item<'_>, value: Item<'_>| {
        if pairs {
            reply.array(2);
        }
        reply.item(field);
        if with_values {
            reply.item(value);
        }
    };
    if count < 0 {
        reply.in_steps(n, |reply, _, n| {
            hash.random_repeated(n, &mut rng, now, |field, value| each(reply, field, value));
        });
    } else {
        let _ = hash.random_distinct(n, &mut rng, now, |field, value| {
            each(reply, field, value);
            reply.proceed()
        });
    }
    Ok(replied)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn fields_come_and_go() {
        check(
            r#"
            HSET h f v g w
            HSET h f x i 5
            HSET h f
            HSET h f x g
            HMSET h f y
            HMSET h f
            HGET h f
            HGET h nosuch
            HGET nosuch f
            HMGET h f nosuch i
            HMGET nosuch f
            HSETNX h f z
            HSETNX h new z
            HLEN h
            HSTRLEN h i
            HSTRLEN h nosuch
            HEXISTS h f
            HEXISTS h nosuch
            HDEL h f g nosuch
            HGETALL h
            HKEYS h
            HVALS h
            HDEL h i new
            EXISTS h
            HGETALL h
            SET str v
            HSET str f v
            HGETALL str
            "#,
            r#"
            (integer) 2
            (integer) 1
            (error) ERR wrong number of arguments for 'hset' command
            (error) ERR wrong number of arguments for 'hset' command
            OK
            (error) ERR wrong number of arguments for 'hmset' command
            "y"
            (nil)
            (nil)
            1) "y"
            2) (nil)
            3) "5"
            1) (nil)
            (integer) 0
            (integer) 1
            (integer) 4
            (integer) 1
            (integer) 0
            (integer) 1
            (integer) 0
            (integer) 2
            1) "i"
            2) "5"
            3) "new"
            4) "z"
            1) "i"
            2) "new"
            1) "5"
            2) "z"
            (integer) 2
            (integer) 0
            (empty array)
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn increments() {
        check(
            r#"
            HINCRBY h n 5
            HINCRBY h n -7
            HINCRBY h n 9223372036854775807
            HINCRBY h n 3
            HINCRBY h n x
            HINCRBYFLOAT h x 10.5
            HINCRBYFLOAT h x 0.1
            HINCRBYFLOAT h y 5.0e3
            HINCRBYFLOAT h x inf
            HINCRBYFLOAT h x foo
            HINCRBY h x 1
            HSET h t text
            HINCRBY h t 1
            HINCRBYFLOAT h t 1
            HGET h n
            "#,
            r#"
            (integer) 5
            (integer) -2
            (integer) 9223372036854775805
            (error) ERR increment or decrement would overflow
            (error) ERR value is not an integer or out of range
            "10.5"
            "10.6"
            "5000"
            (error) ERR value is NaN or Infinity
            (error) ERR value is not a valid float
            (error) ERR hash value is not an integer
            (integer) 1
            (error) ERR hash value is not an integer
            (error) ERR hash value is not a float
            "9223372036854775805"
            "#,
        );
    }

    #[test]
    fn random_fields_and_scans() {
        check(
            r#"
            HSET h f v
            HRANDFIELD h
            HRANDFIELD h -2
            HRANDFIELD h 2 WITHVALUES
            HRANDFIELD h 0
            HRANDFIELD nosuch
            HRANDFIELD nosuch 1 WITHVALUES
            HRANDFIELD h 1 FOO
            HRANDFIELD h 1 WITHVALUES x
            HRANDFIELD h -9223372036854775808
            HRANDFIELD h -9223372036854775807 WITHVALUES
            HSCAN h 0
            HSCAN h 0 NOVALUES
            HSCAN h 0 MATCH x*
            HSCAN h 0 COUNT x
            "#,
            r#"
            (integer) 1
            "f"
            1) "f"
            2) "f"
            1) "f"
            2) "v"
            (empty array)
            (nil)
            (empty array)
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
            (error) ERR value is out of range
            1) "0"
            2) 1) "f"
               2) "v"
            1) "0"
            2) 1) "f"
            1) "0"
            2) (empty array)
            (error) ERR value is not an integer or out of range
            "#,
        );
    }
}
