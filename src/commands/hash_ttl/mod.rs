//! Commands on expiries of hash fields.
//!
//! As with keys, an expiry is stored and propagated in milliseconds since 1970, whatever its unit was. A field that
//! gets an expiry in the past is removed at once, and its removal is propagated. Error texts, the order of checks,
//! what is seen of expired fields, events, and what is propagated are those of Redis 8.2 or of Valkey 9.1, as
//! [`FieldRules`] says.

mod redis;
#[cfg(test)]
mod tests;
mod valkey;

use crate::keyspace::FieldRules;
use crate::resp::{Args, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::clock::UnixMillis;
use crate::types::Hash;

use super::expiry::Unit;

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

// ---- whose rules hold -----------------------------------------------------------------------

/// The handlers that follow the rules of one server.
struct Rules {
    /// HEXPIRE and its sisters, with the unit of the time.
    set_expiries: fn(&mut Ctx<'_>, Unit) -> CmdResult,
    /// HPERSIST.
    persist: fn(&mut Ctx<'_>) -> CmdResult,
    /// HTTL and its sisters, with the unit of the answer.
    tell: fn(&mut Ctx<'_>, Unit) -> CmdResult,
    /// HGETDEL.
    get_and_remove: fn(&mut Ctx<'_>) -> CmdResult,
    /// HGETEX.
    get_and_expire: fn(&mut Ctx<'_>) -> CmdResult,
    /// HSETEX.
    set_and_expire: fn(&mut Ctx<'_>) -> CmdResult,
}

impl Rules {
    /// The rules that hold in the keyspace.
    fn of(ctx: &mut Ctx<'_>) -> &'static Rules {
        match ctx.db.space().field_rules {
            FieldRules::Redis => &redis::RULES,
            FieldRules::Valkey => &valkey::RULES,
        }
    }
}

/// Replies with the same value for each of `n` fields of a missing hash.
fn for_each_nothing(ctx: &mut Ctx<'_>, n: usize) -> Replied {
    let replied = ctx.reply.array(n);
    (0..n).for_each(|_| _ = ctx.reply.int(-2));
    replied
}

/// Replies with the expiry of each field, converted by `convert`: −1 no expiry, −2 no such field.
fn answer_times(
    reply: &mut Reply<'_>,
    hash: Option<&Hash>,
    fields: Args<'_>,
    now: UnixMillis,
    convert: impl Fn(UnixMillis) -> i64,
) -> Replied {
    let replied = reply.array(fields.len());
    for field in fields.iter() {
        reply.int(match hash.and_then(|hash| hash.get_with_expiry(field, now)) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(at))) => convert(at),
        });
    }
    replied
}

/// Removes the expiry of each field and replies: 1 removed, −1 no expiry, −2 no such field. Returns also how many were
/// removed.
fn persist_each<'a>(
    reply: &mut Reply<'_>,
    hash: &mut Hash,
    fields: Args<'a>,
    now: UnixMillis,
) -> (Replied, Vec<&'a [u8]>) {
    let replied = reply.array(fields.len());
    let mut persisted = Vec::new();
    for field in fields.iter() {
        reply.int(match hash.get_with_expiry(field, now) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(_))) => {
                hash.set_expiry(field, None);
                persisted.push(field);
                1
            }
        });
    }
    (replied, persisted)
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
    (Rules::of(ctx).set_expiries)(ctx, Unit::Seconds)
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
    (Rules::of(ctx).set_expiries)(ctx, Unit::Millis)
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
    (Rules::of(ctx).set_expiries)(ctx, Unit::UnixSeconds)
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
    (Rules::of(ctx).set_expiries)(ctx, Unit::UnixMillis)
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
    (Rules::of(ctx).persist)(ctx)
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
    (Rules::of(ctx).tell)(ctx, Unit::Seconds)
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
    (Rules::of(ctx).tell)(ctx, Unit::Millis)
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
    (Rules::of(ctx).tell)(ctx, Unit::UnixSeconds)
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
    (Rules::of(ctx).tell)(ctx, Unit::UnixMillis)
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
    (Rules::of(ctx).get_and_remove)(ctx)
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
    (Rules::of(ctx).get_and_expire)(ctx)
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
    (Rules::of(ctx).set_and_expire)(ctx)
}
