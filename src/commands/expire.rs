//! Commands on the expiry of keys.
//!
//! Whatever unit and base a command uses, the keyspace stores milliseconds since 1970, and so does the propagated
//! command: a replica or a reader of the append-only file has another "now".

use crate::keyspace::Event;
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::clock::UnixMillis;

use super::expiry::{Conditions, rounded_secs};

/// Table entries of the commands on expiries.
pub const COMMANDS: &[Spec] =
    &[EXPIRE, EXPIREAT, EXPIRETIME, PERSIST, PEXPIRE, PEXPIREAT, PEXPIRETIME, PTTL, TTL];

const CONDITION: Arg = Arg::one_of(
    "condition",
    &[Arg::word("nx", "NX"), Arg::word("xx", "XX"), Arg::word("gt", "GT"), Arg::word("lt", "LT")],
)
.since("7.0.0")
.optional();

const SINCE_7: &[(&str, &str)] = &[("7.0.0", "The conditions `NX`, `XX`, `GT` and `LT` were added.")];

const EXPIRE: Spec = Spec::data("expire", -3, expire)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets a key expire in so many seconds.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: SINCE_7,
        args: &[Arg::key("key"), Arg::integer("seconds"), CONDITION],
        ..Docs::NONE
    });

/// EXPIRE key seconds [NX | XX | GT | LT] → 1 if the expiry was set, else 0.
fn expire(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now.0;
    set_expiry(ctx, |seconds| seconds.checked_mul(1000)?.checked_add(now))
}

const PEXPIRE: Spec = Spec::data("pexpire", -3, pexpire)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets a key expire in so many milliseconds.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: SINCE_7,
        args: &[Arg::key("key"), Arg::integer("milliseconds"), CONDITION],
        ..Docs::NONE
    });

/// PEXPIRE key milliseconds [NX | XX | GT | LT] → 1 if the expiry was set, else 0.
fn pexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now.0;
    set_expiry(ctx, |ms| ms.checked_add(now))
}

const EXPIREAT: Spec = Spec::data("expireat", -3, expireat)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets a key expire at a Unix time in seconds.",
        since: "1.2.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: SINCE_7,
        args: &[Arg::key("key"), Arg::unix_time("unix-time-seconds"), CONDITION],
        ..Docs::NONE
    });

/// EXPIREAT key unix-time-seconds [NX | XX | GT | LT] → 1 if the expiry was set, else 0.
fn expireat(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiry(ctx, |seconds| seconds.checked_mul(1000))
}

const PEXPIREAT: Spec = Spec::data("pexpireat", -3, pexpireat)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Lets a key expire at a Unix time in milliseconds.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: SINCE_7,
        args: &[Arg::key("key"), Arg::unix_time("unix-time-milliseconds"), CONDITION],
        ..Docs::NONE
    });

/// PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] → 1 if the expiry was set, else 0.
fn pexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    set_expiry(ctx, Some)
}

/// Sets the expiry that `absolute` computes from argument 2, in milliseconds since 1970. If that time has passed,
/// removes the key.
fn set_expiry(ctx: &mut Ctx<'_>, absolute: impl FnOnce(i64) -> Option<i64>) -> CmdResult {
    let key = ctx.args.key(1);
    let conditions = Conditions::parse(ctx.args.rest(3))?;
    let at = absolute(ctx.args.int(2)?).ok_or_else(|| Error::invalid_expire(ctx.name))?;
    let at = UnixMillis(at);
    let allowed = ctx.db.find(key).is_some_and(|entry| conditions.allow(entry.expires(), at));
    if !allowed {
        return Ok(ctx.reply.int(0));
    }
    if at <= ctx.now && ctx.db.removes_due_keys() {
        let lazily = ctx.db.space().lazy.expire;
        ctx.db.remove(key, lazily);
        ctx.db.changed(key, Event::generic("del"), 1);
        ctx.feed.instead(&[if lazily { b"UNLINK" } else { b"DEL" }, key.bytes]);
    } else {
        ctx.db.set_expires(key, Some(at));
        ctx.db.changed(key, Event::generic("expire"), 1);
        if ctx.name != PEXPIREAT.name {
            let mut digits = itoa::Buffer::new();
            let mut request: Vec<&[u8]> = ctx.args.iter().collect();
            request[0] = b"PEXPIREAT";
            request[2] = digits.format(at.0).as_bytes();
            ctx.feed.instead(&request);
        }
    }
    Ok(ctx.reply.int(1))
}

const TTL: Spec = Spec::data("ttl", 2, ttl)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells in how many seconds a key expires.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: &[("2.8.0", "Answers -2 for a key that is not there.")],
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// TTL key → remaining seconds, rounded; −1 without an expiry, −2 without a key.
fn ttl(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now;
    answer_expiry(ctx, |at| rounded_secs((at - now).max(0)))
}

const PTTL: Spec = Spec::data("pttl", 2, pttl)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells in how many milliseconds a key expires.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: &[("2.8.0", "Answers -2 for a key that is not there.")],
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// PTTL key → remaining milliseconds; −1 without an expiry, −2 without a key.
fn pttl(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.now;
    answer_expiry(ctx, |at| (at - now).max(0))
}

const EXPIRETIME: Spec = Spec::data("expiretime", 2, expiretime)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Tells the Unix time in seconds at which a key expires.",
        since: "7.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// EXPIRETIME key → Unix time in seconds, rounded; −1 without an expiry, −2 without a key.
fn expiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    answer_expiry(ctx, |at| rounded_secs(at.0))
}

const PEXPIRETIME: Spec = Spec::data("pexpiretime", 2, pexpiretime)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Tells the Unix time in milliseconds at which a key expires.",
        since: "7.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// PEXPIRETIME key → Unix time in milliseconds; −1 without an expiry, −2 without a key.
fn pexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    answer_expiry(ctx, |at| at.0)
}

fn answer_expiry(ctx: &mut Ctx<'_>, tell: impl FnOnce(UnixMillis) -> i64) -> CmdResult {
    let answer = match ctx.db.peek(ctx.args.key(1)).map(|entry| entry.expires()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => tell(at),
    };
    Ok(ctx.reply.int(answer))
}

const PERSIST: Spec = Spec::data("persist", 2, persist)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Takes the expiry of a key away, so that it stays.",
        since: "2.2.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// PERSIST key → 1 if the key had an expiry, else 0.
fn persist(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let had_expiry = ctx.db.find(key).is_some_and(|entry| entry.expires().is_some());
    if had_expiry {
        ctx.db.set_expires(key, None);
        ctx.db.changed(key, Event::generic("persist"), 1);
    }
    Ok(ctx.reply.int(i64::from(had_expiry)))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};
    use crate::keyspace::Suspend;
    use crate::server::execution::feed::Feed;

    #[test]
    fn expiries_are_set_told_and_taken_away() {
        check(
            r#"
            SET k v
            TTL k
            PTTL nosuch
            EXPIRE k 100
            TTL k
            PERSIST k
            PERSIST k
            TTL k
            PEXPIREAT k 4102444800499
            EXPIRETIME k
            PEXPIREAT k 4102444800500
            EXPIRETIME k
            PEXPIRETIME k
            EXPIREAT k 4102444800
            PEXPIRETIME k
            PEXPIREAT k 9223372036854775807
            EXPIRETIME k
            PEXPIRE k 100000
            TTL k
            EXPIRE nosuch 100
            PERSIST nosuch
            EXPIRETIME nosuch
            PEXPIRE k 0
            TTL k
            SET k v
            EXPIREAT k 1
            GET k
            SET k v
            EXPIRE k -1
            GET k
            SET k v
            PEXPIREAT k -9223372036854775808
            GET k
            "#,
            r#"
            OK
            (integer) -1
            (integer) -2
            (integer) 1
            (integer) 100
            (integer) 1
            (integer) 0
            (integer) -1
            (integer) 1
            (integer) 4102444800
            (integer) 1
            (integer) 4102444801
            (integer) 4102444800500
            (integer) 1
            (integer) 4102444800000
            (integer) 1
            (integer) 9223372036854776
            (integer) 1
            (integer) 100
            (integer) 0
            (integer) 0
            (integer) -2
            (integer) 1
            (integer) -2
            OK
            (integer) 1
            (nil)
            OK
            (integer) 1
            (nil)
            OK
            (integer) 1
            (nil)
            "#,
        );
    }

    #[test]
    fn options_then_numbers_then_keys_are_looked_at() {
        check(
            r#"
            EXPIRE nosuch x what
            EXPIRE nosuch x NX GT
            EXPIRE nosuch x nx XX
            EXPIRE nosuch x GT lt
            EXPIRE nosuch x
            EXPIRE nosuch 9223372036854775
            EXPIRE nosuch 9223372036854776
            EXPIRE nosuch -9223372036854776
            EXPIRE nosuch -9223372036854775
            PEXPIRE nosuch 9223372036854775807
            EXPIREAT nosuch 9223372036854776
            EXPIREAT nosuch 9223372036854775
            "#,
            r#"
            (error) ERR Unsupported option what
            (error) ERR NX and XX, GT or LT options at the same time are not compatible
            (error) ERR NX and XX, GT or LT options at the same time are not compatible
            (error) ERR GT and LT options at the same time are not compatible
            (error) ERR value is not an integer or out of range
            (error) ERR invalid expire time in 'expire' command
            (error) ERR invalid expire time in 'expire' command
            (error) ERR invalid expire time in 'expire' command
            (integer) 0
            (error) ERR invalid expire time in 'pexpire' command
            (error) ERR invalid expire time in 'expireat' command
            (integer) 0
            "#,
        );
    }

    #[test]
    fn what_is_passed_on_is_absolute() {
        let mut harness = Harness::default();
        harness.server.keyspace.ledger.feed(crate::keyspace::Sink::Log, true);
        harness.server.keyspace.lazy.expire = false;
        let mut fed = |line: &str| {
            harness.run(line);
            match &harness.server.execution.feed {
                Feed::Instead(bytes, _) => String::from_utf8_lossy(bytes).replace("\r\n", " "),
                other => format!("{other:?}"),
            }
        };
        fed("SET k v");
        assert_eq!(fed("EXPIREAT k 4102444800 NX"), "*4 $9 PEXPIREAT $1 k $13 4102444800000 $2 NX ");
        assert_eq!(fed("TTL k"), "AsReceived");
        assert_eq!(fed("EXPIRE k -5"), "*2 $3 DEL $1 k ");
        harness.server.keyspace.lazy.expire = true;
        let mut fed = |line: &str| {
            harness.run(line);
            matches!(&harness.server.execution.feed, Feed::Instead(bytes, _) if bytes.ends_with(b"UNLINK\r\n$1\r\nk\r\n"))
        };
        fed("SET k v");
        assert!(fed("PEXPIREAT k 5"));
    }

    #[test]
    fn an_expiry_in_the_past_is_kept_where_keys_are_not_removed() {
        let mut harness = Harness::default();
        harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
        harness.run("SET k v");
        assert_eq!(harness.run("PEXPIREAT k 5000"), "(integer) 1");
        assert_eq!(harness.run("EXPIRETIME k"), "(integer) 5");
        assert_eq!(harness.run("TTL k"), "(integer) 0");
        harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, true);
        assert_eq!(harness.run("GET k"), "(nil)");
        assert_eq!(harness.run("TTL k"), "(integer) -2");
        assert_eq!(harness.server.keyspace.len(), 1);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, false);
        assert_eq!(harness.run("EXISTS k"), "(integer) 0");
        assert_eq!(harness.server.keyspace.len(), 0);
    }
}
