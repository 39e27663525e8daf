//! BLESS: keys that are exempt from eviction.
//!
//! The forms, replies and events are those that Redis documents for its version 8.12, and in its tests: the exemption
//! stays when the value is replaced, goes with the key, moves with it, and is not copied or dumped.

use super::help::help;
use crate::keyspace::Event;
use crate::persistence::aof::rewrite::protection;
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::hash::Key;

/// Table entry of the BLESS command.
pub const COMMANDS: &[Spec] = &[BLESS];

/// Name of the only exemption there is.
const NO_EVICT: &str = "NO-EVICT";
/// Number of names that BLESS SCAN visits in one call unless told otherwise.
const PER_SCAN: u64 = 1024;

const BLESS: Spec = Spec::container(
    "bless",
    -2,
    &[BLESS_CLEAR, BLESS_COUNT, BLESS_GET, BLESS_HELP, BLESS_LIST, BLESS_SCAN, BLESS_SET],
)
.docs(Docs {
    summary: "Exempts keys from eviction.",
    since: "8.12.0",
    complexity: "That of the subcommand.",
    group: Group::Generic,
    ..Docs::NONE
});

const FLAG: Arg = Arg::word("no-evict", NO_EVICT);

const BLESS_SET: Spec = Spec::data("bless|set", 4, bless_set)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::DANGEROUS)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Exempts a key from eviction.",
        since: "8.12.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key"), FLAG],
        ..Docs::NONE
    });

const BLESS_CLEAR: Spec = Spec::data("bless|clear", 4, bless_clear)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::DANGEROUS)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Ends the exemption of a key from eviction.",
        since: "8.12.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key"), FLAG],
        ..Docs::NONE
    });

const BLESS_GET: Spec = Spec::data("bless|get", 3, bless_get)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Tells from what a key is exempt.",
        since: "8.12.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

const BLESS_LIST: Spec = Spec::data("bless|list", 3, bless_list)
    .acl(Acl::KEYSPACE)
    .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
    .docs(Docs {
        summary: "Lists the keys of the database that are exempt from eviction.",
        since: "8.12.0",
        complexity: "O(N) for N such keys.",
        group: Group::Generic,
        args: &[FLAG],
        ..Docs::NONE
    });

const BLESS_COUNT: Spec = Spec::data("bless|count", -2, bless_count)
    .flags(Flags::FAST)
    .acl(Acl::KEYSPACE)
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Counts the keys of the database that are exempt from eviction.",
        since: "8.12.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[FLAG.optional()],
        ..Docs::NONE
    });

const BLESS_SCAN: Spec = Spec::data("bless|scan", -4, bless_scan)
    .acl(Acl::KEYSPACE)
    .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
    .docs(Docs {
        summary: "Goes through the keys of the database that are exempt from eviction, some with each call.",
        since: "8.12.0",
        complexity: "O(1) for a call, O(N) for all calls until the cursor is 0 again, for N such keys.",
        group: Group::Generic,
        args: &[Arg::integer("cursor"), FLAG, Arg::integer("count").token("COUNT").optional()],
        ..Docs::NONE
    });

const BLESS_HELP: Spec = Spec::data("bless|help", 2, bless_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::KEYSPACE)
    .docs(Docs {
        summary: "Lists the subcommands.",
        since: "8.12.0",
        complexity: "O(1)",
        group: Group::Generic,
        ..Docs::NONE
    });

/// Refuses any word but the name of the exemption.
fn expect_flag(args: Args<'_>, i: usize) -> Result<(), Error> {
    if args.is(i, NO_EVICT) { Ok(()) } else { Err(Error::Syntax) }
}

/// Exempts the key from eviction, or ends that.
fn change(ctx: &mut Ctx<'_>, on: bool) -> CmdResult {
    expect_flag(ctx.args, 3)?;
    let key = ctx.args.key(2);
    let changed = ctx.db.protect(key, on).ok_or(Error::NoSuchKey)?;
    if changed {
        let event = Event::generic(if on { "bless" } else { "unbless" });
        ctx.db.changed_beside(key, event.of_no_use(), 1);
        ctx.feed.instead(&protection(key.bytes, on));
    }
    Ok(ctx.reply.int(changed.into()))
}

/// BLESS SET key NO-EVICT → 1, or 0 if the key was exempt already.
fn bless_set(ctx: &mut Ctx<'_>) -> CmdResult {
    change(ctx, true)
}

/// BLESS CLEAR key NO-EVICT → 1, or 0 if the key was not exempt.
fn bless_clear(ctx: &mut Ctx<'_>) -> CmdResult {
    change(ctx, false)
}

/// BLESS GET key → names of its exemptions.
fn bless_get(ctx: &mut Ctx<'_>) -> CmdResult {
    let protected = ctx.db.inspect(ctx.args.key(2)).ok_or(Error::NoSuchKey)?.is_protected();
    let replied = ctx.reply.array(protected.into());
    if protected {
        ctx.reply.bulk(NO_EVICT.as_bytes());
    }
    Ok(replied)
}

/// BLESS LIST NO-EVICT → the names of all keys that are exempt.
fn bless_list(ctx: &mut Ctx<'_>) -> CmdResult {
    expect_flag(ctx.args, 2)?;
    reply_names(ctx, 0, u64::MAX, false)
}

/// BLESS COUNT [NO-EVICT] → number of keys that are exempt.
fn bless_count(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.args.len() {
        2 => {}
        3 => expect_flag(ctx.args, 2)?,
        _ => return Err(Error::Syntax),
    }
    Ok(ctx.reply.int(ctx.db.database().protected().len() as i64))
}

/// BLESS SCAN cursor NO-EVICT [COUNT count] → next cursor, and the names of some keys that are exempt.
fn bless_scan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.args.cursor(2)?;
    expect_flag(ctx.args, 3)?;
    let count = match ctx.args.len() {
        4 => PER_SCAN,
        6 if ctx.args.is(4, "COUNT") => {
            u64::try_from(ctx.args.int(5)?).ok().filter(|&n| n > 0).ok_or(Error::Syntax)?
        }
        _ => return Err(Error::Syntax),
    };
    reply_names(ctx, cursor, count, true)
}

/// Replies with the names from `cursor` on, until `count` have been seen; with the next cursor before them if
/// `in_parts`. Keys that are due but still there are left out.
fn reply_names(ctx: &mut Ctx<'_>, mut cursor: u64, count: u64, in_parts: bool) -> CmdResult {
    let start = ctx.reply.defer();
    let (db, reply) = (&ctx.db, &mut ctx.reply);
    let (mut seen, mut found) = (0, 0);
    // Limits the time of a call if most buckets are empty.
    let mut buckets = count.saturating_mul(10);
    loop {
        cursor = db.database().protected().scan(cursor, |name| {
            seen += 1;
            if db.exists_now(Key::new(name.text())) {
                reply.bulk(name.text());
                found += 1;
            }
        });
        buckets -= 1;
        if cursor == 0 || seen >= count || buckets == 0 || reply.is_dropping() {
            break;
        }
    }
    Ok(if in_parts { reply.end_scan(start, cursor, found) } else { reply.end_array(start, found) })
}

/// BLESS HELP → descriptions of the subcommands.
fn bless_help(ctx: &mut Ctx<'_>) -> CmdResult {
    let forms = [
        ("CLEAR <key> NO-EVICT", "The key may be evicted again."),
        ("COUNT [NO-EVICT]", "Number of keys in the database that are exempt."),
        ("GET <key>", "What the key is exempt from."),
        ("LIST NO-EVICT", "All keys of the database that are exempt."),
        ("SCAN <cursor> NO-EVICT [COUNT <count>]", "Some of these keys, as SCAN does."),
        ("SET <key> NO-EVICT", "The key is not evicted, whatever the policy is."),
    ];
    Ok(help(&mut ctx.reply, "BLESS", &forms))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    /// What the tests of Redis 8.12 show.
    #[test]
    fn keys_are_exempt_until_they_go() {
        check(
            "SET k v\nBLESS GET k\nBLESS SET k no-evict\nBLESS SET k NO-EVICT\nBLESS GET k\nSET k2 v\nBLESS SET k2 no-evict
             BLESS COUNT\nBLESS CLEAR k no-evict\nBLESS CLEAR k no-evict\nBLESS GET k\nBLESS LIST no-evict
             BLESS SET nope no-evict\nBLESS CLEAR nope no-evict\nBLESS GET nope\nBLESS SET k\nBLESS SET k bogus
             BLESS SET k no-evict no-evict\nBLESS LIST\nBLESS LIST none\nBLESS SCAN 0\nBLESS SCAN x no-evict
             BLESS SCAN 0 no-evict\nBLESS SCAN 0 no-evict COUNT 0\nBLESS SCAN 0 no-evict COUNT 1\nBLESS COUNT none",
            r#"
            OK
            (empty array)
            (integer) 1
            (integer) 0
            1) "NO-EVICT"
            OK
            (integer) 1
            (integer) 2
            (integer) 1
            (integer) 0
            (empty array)
            1) "k2"
            (error) ERR no such key
            (error) ERR no such key
            (error) ERR no such key
            (error) ERR wrong number of arguments for 'bless|set' command
            (error) ERR syntax error
            (error) ERR wrong number of arguments for 'bless|set' command
            (error) ERR wrong number of arguments for 'bless|list' command
            (error) ERR syntax error
            (error) ERR wrong number of arguments for 'bless|scan' command
            (error) ERR invalid cursor
            1) "0"
            2) 1) "k2"
            (error) ERR syntax error
            1) "0"
            2) 1) "k2"
            (error) ERR syntax error
            "#,
        );
        // The value may be replaced, in place or not, and by one of another type.
        check(
            "SET k v1\nBLESS SET k NO-EVICT\nSET k v2\nSET k 12345678901234567890123456789\nSET k 7 EX 100\nINCR k\nAPPEND k x
             PERSIST k\nBLESS LIST NO-EVICT\nHSET h f v\nBLESS SET h NO-EVICT\nSET h text\nBLESS GET h\nDEL h\nSET h x\nBLESS GET h
             SADD s a b\nSUNIONSTORE k s\nBLESS GET k\nCOPY k c\nBLESS GET c\nRENAME k n\nBLESS GET n\nBLESS LIST NO-EVICT
             RENAME s n\nBLESS GET n\nBLESS COUNT\nBLESS SET n NO-EVICT\nMOVE n 1\nBLESS COUNT\nSELECT 1\nBLESS LIST NO-EVICT
             FLUSHALL\nBLESS COUNT\nSET e 1\nBLESS SET e NO-EVICT\nPEXPIREAT e 1\nBLESS COUNT\nBLESS SCAN 0 NO-EVICT",
            r#"
            OK
            (integer) 1
            OK
            OK
            OK
            (integer) 8
            (integer) 2
            (integer) 1
            1) "k"
            (integer) 1
            (integer) 1
            OK
            1) "NO-EVICT"
            (integer) 1
            OK
            (empty array)
            (integer) 2
            (integer) 2
            1) "NO-EVICT"
            (integer) 1
            (empty array)
            OK
            1) "NO-EVICT"
            1) "n"
            OK
            (empty array)
            (integer) 0
            (integer) 1
            (integer) 1
            (integer) 0
            OK
            1) "n"
            OK
            (integer) 0
            OK
            (integer) 1
            (integer) 1
            (integer) 0
            1) "0"
            2) (empty array)
            "#,
        );
    }

    #[test]
    fn dumps_carry_no_exemption() {
        let mut harness = Harness::default();
        harness.run("SET a hello");
        harness.run("BLESS SET a NO-EVICT");
        let dumped = harness.raw(&[b"DUMP", b"a"]);
        let start = dumped.iter().position(|&b| b == b'\n').expect("a bulk string") + 1;
        let payload = &dumped[start..dumped.len() - 2];
        harness.raw(&[b"RESTORE", b"b", b"0", payload]);
        assert_eq!(harness.run("BLESS GET b"), "(empty array)");
        harness.raw(&[b"RESTORE", b"a", b"0", payload, b"REPLACE"]);
        assert_eq!(harness.run("BLESS LIST NO-EVICT"), "1) \"a\"");
    }

    #[test]
    fn all_names_are_found_by_scans_in_parts() {
        let mut harness = Harness::default();
        for i in 0..500 {
            harness.run(&format!("SET key:{i} v"));
            if i % 2 == 0 {
                harness.run(&format!("BLESS SET key:{i} NO-EVICT"));
            }
        }
        let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
        loop {
            let text = harness.run(&format!("BLESS SCAN {cursor} NO-EVICT COUNT 10"));
            let mut words = text.split('"').skip(1).step_by(2).map(str::to_owned);
            cursor = words.next().expect("a cursor");
            found.extend(words);
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 250);
    }
}
