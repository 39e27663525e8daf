//! OBJECT: properties of a value other than its content.

use crate::keyspace::Entry;
use crate::keyspace::access::Access;
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::types::string::StringRef;

/// Table entries of the OBJECT commands.
pub const COMMANDS: &[Spec] = &[OBJECT];

/// Reference count reported for shared values, which are never freed.
const SHARED: i64 = i32::MAX as i64;
/// Small integers, which Redis shares among all keys unless each key needs its own access time.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;

const OBJECT: Spec = Spec::container(
    "object",
    -2,
    &[OBJECT_ENCODING, OBJECT_FREQ, OBJECT_HELP, OBJECT_IDLETIME, OBJECT_REFCOUNT],
)
.docs(Docs {
    summary: "Tells about the value under a key beside its content.",
    since: "2.2.3",
    complexity: "That of the subcommand.",
    group: Group::Generic,
    ..Docs::NONE
});

const OBJECT_ENCODING: Spec = Spec::data("object|encoding", 3, object_encoding)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Names the way in which a value is stored.",
        since: "2.2.3",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// OBJECT ENCODING key → name of the encoding, or null.
fn object_encoding(ctx: &mut Ctx<'_>) -> CmdResult {
    let encoding = look_up(ctx, |entry| entry.encoding());
    Ok(ctx.reply.bulk_or_null(encoding.map(str::as_bytes)))
}

const OBJECT_FREQ: Spec = Spec::data("object|freq", 3, object_freq)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells how often a key is used, on a logarithmic scale.",
        since: "4.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// OBJECT FREQ key → access frequency counter, or null. Requires an LFU policy.
fn object_freq(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(bits) = look_up(ctx, Entry::access) {
        let access = access(ctx);
        if !access.counts() {
            return Err(Error::text(concat!(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when ",
                "switching between policies at runtime LRU and LFU data will take some time to adjust."
            )));
        }
        return Ok(ctx.reply.int(i64::from(access.frequency(bits))));
    }
    Ok(ctx.reply.null())
}

const OBJECT_IDLETIME: Spec = Spec::data("object|idletime", 3, object_idletime)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells for how many seconds a key has not been used.",
        since: "2.2.3",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// OBJECT IDLETIME key → seconds since the last access, or null. Requires a policy other than LFU.
fn object_idletime(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(bits) = look_up(ctx, Entry::access) {
        let access = access(ctx);
        if access.counts() {
            return Err(Error::text(concat!(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching ",
                "between policies at runtime LRU and LFU data will take some time to adjust."
            )));
        }
        return Ok(ctx.reply.int(i64::from(access.idle_seconds(bits))));
    }
    Ok(ctx.reply.null())
}

const OBJECT_REFCOUNT: Spec = Spec::data("object|refcount", 3, object_refcount)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells how many owners a value has: one, but for small integers.",
        since: "2.2.3",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// OBJECT REFCOUNT key → 1; the count of shared values for a small integer; or null.
fn object_refcount(ctx: &mut Ctx<'_>) -> CmdResult {
    let small = look_up(
        ctx,
        |entry| matches!(entry.string(), Some(StringRef::Int(n)) if SHARED_INTEGERS.contains(&n)),
    );
    Ok(match small {
        None => ctx.reply.null(),
        Some(small) => {
            let shared = small && !access(ctx).guides_eviction;
            ctx.reply.int(if shared { SHARED } else { 1 })
        }
    })
}

fn access(ctx: &mut Ctx<'_>) -> Access {
    ctx.db.space().access
}

/// Passes the entry of argument 2 to `tell`. The lookup counts as a hit or a miss, but neither as an access nor as
/// an event.
fn look_up<T>(ctx: &mut Ctx<'_>, tell: impl FnOnce(&Entry) -> T) -> Option<T> {
    let told = ctx.db.inspect(ctx.args.key(2)).map(|entry| tell(&entry));
    let stats = &mut ctx.db.space().stats;
    match told {
        Some(_) => stats.hits += 1,
        None => stats.misses += 1,
    }
    told
}

const OBJECT_HELP: Spec = Spec::data("object|help", 2, object_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::KEYSPACE)
    .docs(Docs {
        summary: "Lists the subcommands.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::Generic,
        ..Docs::NONE
    });

/// OBJECT HELP → descriptions of the subcommands.
fn object_help(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(ctx.reply.lines(&[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    How the value is stored.",
        "FREQ <key>",
        "    How often the key is used: a counter from 0 to 255 that grows with the logarithm",
        "    of the accesses and falls with time. Needs an LFU maxmemory-policy.",
        "IDLETIME <key>",
        "    Seconds since the key was last used. Needs a maxmemory-policy other than LFU.",
        "REFCOUNT <key>",
        "    How many owners the value has.",
        "HELP",
        "    These lines.",
    ]))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};
    use crate::keyspace::access::Noted;

    #[test]
    fn strings() {
        check(
            r#"
            SET k 9999
            OBJECT ENCODING k
            OBJECT REFCOUNT k
            OBJECT IDLETIME k
            SET k 10000
            OBJECT REFCOUNT k
            SET k hello
            object encoding k
            OBJECT REFCOUNT k
            OBJECT ENCODING nosuch
            OBJECT REFCOUNT nosuch
            OBJECT IDLETIME nosuch
            OBJECT FREQ nosuch
            OBJECT FREQ k
            OBJECT ENCODING
            OBJECT WHAT k
            OBJECT
            "#,
            r#"
            OK
            "int"
            (integer) 2147483647
            (integer) 0
            OK
            (integer) 1
            OK
            "embstr"
            (integer) 1
            (nil)
            (nil)
            (nil)
            (nil)
            (error) ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
            (error) ERR wrong number of arguments for 'object|encoding' command
            (error) ERR unknown subcommand 'WHAT'. Try OBJECT HELP.
            (error) ERR wrong number of arguments for 'object' command
            "#,
        );
    }

    #[test]
    fn under_an_eviction_policy() {
        let mut harness = Harness::default();
        harness.server.keyspace.access.noted = Noted::Frequency;
        harness.server.keyspace.access.guides_eviction = true;
        harness.run("SET k 7");
        assert_eq!(harness.run("OBJECT FREQ k"), "(integer) 5");
        assert_eq!(harness.run("OBJECT REFCOUNT k"), "(integer) 1");
        harness.run("TOUCH k");
        assert_eq!(harness.run("OBJECT FREQ k"), "(integer) 6");
        for quiet in ["EXISTS k", "TYPE k", "TTL k", "OBJECT ENCODING k"] {
            harness.run(quiet);
            assert_eq!(harness.run("OBJECT FREQ k"), "(integer) 6", "after {quiet}");
        }
        assert!(harness.run("OBJECT IDLETIME k").contains("An LFU maxmemory policy is selected"));
    }

    /// Gives a key an idle time.
    fn age(harness: &mut Harness, key: &str, seconds: &str) {
        let dumped = harness.raw(&[b"DUMP", key.as_bytes()]);
        let start = dumped.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
        let payload = &dumped[start..dumped.len() - 2];
        let restored =
            [b"RESTORE", key.as_bytes(), b"0", payload, b"REPLACE", b"IDLETIME", seconds.as_bytes()];
        assert_eq!(harness.raw(&restored), b"+OK\r\n");
    }

    fn idle(harness: &mut Harness, key: &str) -> u64 {
        let reply = harness.run(&format!("OBJECT IDLETIME {key}"));
        reply.strip_prefix("(integer) ").and_then(|seconds| seconds.parse().ok()).expect("a number")
    }

    #[test]
    fn where_only_changes_count_reads_do_not_end_the_idle_time() {
        let mut harness = Harness::default();
        harness.run("CONFIG SET maxmemory-policy allkeys-lrm");
        for write in ["SET s v", "RPUSH l a b", "HSET h f v", "XADD x 1-1 f v"] {
            harness.run(write);
        }
        let keys = ["s", "l", "h", "x"];
        keys.iter().for_each(|key| age(&mut harness, key, "1000"));
        // A command that fails, or changes nothing, is not a change.
        for line in [
            "GET s",
            "TOUCH s",
            "STRLEN s",
            "LRANGE l 0 -1",
            "HGET h f",
            "XRANGE x - +",
            "INCR s",
            "SET s v NX",
            "LREM l 0 z",
            "HSETNX h f w",
            "XDEL x 9-9",
        ] {
            harness.run(line);
            keys.iter().for_each(|key| assert!(idle(&mut harness, key) >= 1000, "{key} after {line}"));
        }
        for write in ["APPEND s w", "RPOP l", "EXPIRE h 1000", "XGROUP CREATE x g 0"] {
            harness.run(write);
        }
        keys.iter().for_each(|key| assert!(idle(&mut harness, key) < 1000, "{key}"));
        age(&mut harness, "s", "1000");
        harness.run("RENAME s t");
        assert!(idle(&mut harness, "t") < 1000);
        // Under another policy, an access is noted again.
        age(&mut harness, "t", "1000");
        harness.run("CONFIG SET maxmemory-policy allkeys-lru");
        assert!(idle(&mut harness, "t") >= 1000);
        harness.run("GET t");
        assert!(idle(&mut harness, "t") < 1000);
    }
}
