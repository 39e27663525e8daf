//! Commands that iterate over the keys of a database: KEYS, SCAN, RANDOMKEY.

use crate::keyspace::slot::{Slot, pattern_slot};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, Spec};
use crate::stdx::glob::Pattern;
use crate::stdx::hash::Key;
use crate::types::Kind;

/// Table entries of the commands that iterate over keys.
pub const COMMANDS: &[Spec] = &[KEYS, RANDOMKEY, SCAN];

const SCAN: Spec = Spec::data("scan", -2, scan)
    .flags(Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS))
    .acl(Acl::KEYSPACE)
    .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
    .docs(Docs {
        summary: "Goes through the keys of the database, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls until the cursor is 0 again, for N keys.",
        group: Group::Generic,
        history: &[("6.0.0", "The option `TYPE` was added.")],
        args: &[
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::string("type").token("TYPE").since("6.0.0").optional(),
        ],
        ..Docs::NONE
    });

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type] → next cursor, and some keys.
fn scan(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut cursor = ctx.args.cursor(1)?;
    let options = ScanOptions::parse(ctx.args)?;
    let start = ctx.reply.defer();
    let (mut seen, mut found) = (0, 0);
    let mut due: Vec<Box<[u8]>> = Vec::new();
    // Limits the time of a call if most buckets are empty.
    let mut buckets = options.count.saturating_mul(10);
    let slot = options.slot.filter(|_| ctx.db.database().keys().is_by_slot());
    if cursor == 0 {
        cursor = slot.map_or(0, |slot| slot.number().into());
    }
    loop {
        let (db, reply) = (&ctx.db, &mut ctx.reply);
        cursor = db.scan(cursor, slot.is_some(), |entry| {
            seen += 1;
            let key = entry.key();
            if !options.pattern.matches(key) {
                return;
            }
            if db.is_due(entry) {
                due.push(key.into());
            } else if options.kind.allows(entry.kind()) {
                reply.bulk(key);
                found += 1;
            }
        });
        buckets -= 1;
        if cursor == 0 || seen >= options.count || buckets == 0 || ctx.reply.is_dropping() {
            break;
        }
    }
    for key in due {
        ctx.db.expire_due(Key::new(&key));
    }
    Ok(ctx.reply.end_scan(start, cursor, found))
}

/// Which keys a scan selects, and how much work one call does.
struct ScanOptions<'a> {
    pattern: Pattern<'a>,
    /// The slot of a cluster that all keys which match the pattern are in, if they are in one.
    slot: Option<Slot>,
    count: u64,
    kind: KindFilter,
}

/// Types of values that a scan selects.
#[derive(Clone, Copy)]
enum KindFilter {
    Any,
    Only(Kind),
    /// An unknown type name, which selects nothing.
    Nothing,
}

impl KindFilter {
    fn allows(self, kind: Kind) -> bool {
        match self {
            KindFilter::Any => true,
            KindFilter::Only(only) => only == kind,
            KindFilter::Nothing => false,
        }
    }
}

impl<'a> ScanOptions<'a> {
    /// Parses the arguments from 2 on: options with one value each.
    fn parse(args: Args<'a>) -> Result<ScanOptions<'a>, Error> {
        let (mut pattern, mut count, mut kind) = (&b"*"[..], 10, KindFilter::Any);
        for i in (2..args.len()).step_by(2) {
            let Some(value) = args.get(i + 1) else { return Err(Error::Syntax) };
            if args.is(i, "COUNT") {
                let n = args.int(i + 1)?;
                count = u64::try_from(n).ok().filter(|&n| n > 0).ok_or(Error::Syntax)?;
            } else if args.is(i, "MATCH") {
                pattern = value;
            } else if args.is(i, "TYPE") {
                kind = Kind::from_name(value).map_or(KindFilter::Nothing, KindFilter::Only);
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(ScanOptions { pattern: Pattern::compile(pattern), slot: pattern_slot(pattern), count, kind })
    }
}

const KEYS: Spec = Spec::data("keys", 2, keys)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
    .docs(Docs {
        summary: "Lists all keys that match a pattern.",
        since: "1.0.0",
        complexity: "O(N) for N keys in the database; O(1) for a pattern without special characters.",
        group: Group::Generic,
        args: &[Arg::pattern("pattern")],
        ..Docs::NONE
    });

/// KEYS pattern → matching keys.
fn keys(ctx: &mut Ctx<'_>) -> CmdResult {
    let pattern = Pattern::compile(ctx.args.at(1));
    let keys = ctx.db.database().keys();
    let start = ctx.reply.defer();
    let mut found = 0;
    if let Some(literal) = pattern.literal() {
        let key = Key::new(literal);
        let hidden = keys.is_by_slot() && keys.hides(Slot::of(literal));
        if !hidden && keys.find(key.hash(), key.bytes).is_some_and(|entry| !ctx.db.is_due(&entry)) {
            ctx.reply.bulk(literal);
            found = 1;
        }
    } else {
        let slot = pattern_slot(ctx.args.at(1)).filter(|_| keys.is_by_slot());
        let all = slot.is_none().then(|| keys.iter_shown());
        let in_slot = slot.filter(|&slot| !keys.hides(slot)).map(|slot| keys.in_slot(slot));
        for entry in all.into_iter().flatten().chain(in_slot.into_iter().flatten()) {
            if ctx.reply.is_dropping() {
                break;
            }
            if pattern.matches(entry.key()) && !ctx.db.is_due(&entry) {
                ctx.reply.bulk(entry.key());
                found += 1;
            }
        }
    }
    Ok(ctx.reply.end_array(start, found))
}

const RANDOMKEY: Spec = Spec::data("randomkey", 1, randomkey)
    .flags(Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS))
    .acl(Acl::KEYSPACE)
    .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"])
    .docs(Docs {
        summary: "Picks one key of the database at random.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        ..Docs::NONE
    });

/// RANDOMKEY → a key, each equally likely, or null if there is none.
fn randomkey(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.db.random_key();
    Ok(ctx.reply.bulk_or_null(key.as_deref()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::commands::testing::{Harness, check};
    use crate::keyspace::Suspend;

    #[test]
    fn due_keys_that_are_come_across_have_nothing_to_do_with_each_other() {
        let mut harness = Harness::default();
        harness.server.replication.backlog.activate();
        harness.server.keyspace.ledger.feed(crate::keyspace::Sink::Backlog, true);
        for key in ["a", "b"] {
            assert_eq!(harness.run(&format!("SET {key} v PXAT 1")), "OK");
        }
        let before = harness.server.replication.offset();
        harness.run("SCAN 0");
        let stream = String::from_utf8_lossy(harness.server.replication.backlog.read(before)).into_owned();
        assert!(!stream.contains("MULTI"), "{stream}");
    }

    #[test]
    fn forms_of_a_scan() {
        check(
            r#"
            SET k v
            SCAN 0
            SCAN ""
            SCAN -1
            SCAN +0 TYPE String MATCH ? COUNT 1
            SCAN 0 TYPE list
            SCAN 0 TYPE nosuch
            SCAN 0 MATCH x*
            SCAN 18446744073709551616
            SCAN x WHAT
            SCAN - COUNT x
            SCAN 0 COUNT x
            SCAN 0 COUNT 0 WHAT
            SCAN 0 COUNT 9223372036854775807
            SCAN 0 WHAT 1
            SCAN 0 MATCH
            SCAN 0 TYPE
            "#,
            r#"
            OK
            1) "0"
            2) 1) "k"
            1) "0"
            2) 1) "k"
            1) "0"
            2) 1) "k"
            1) "0"
            2) 1) "k"
            1) "0"
            2) (empty array)
            1) "0"
            2) (empty array)
            1) "0"
            2) (empty array)
            (error) ERR invalid cursor
            (error) ERR invalid cursor
            (error) ERR invalid cursor
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            1) "0"
            2) 1) "k"
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            "#,
        );
    }

    /// The bulk strings of a reply that otherwise consists of arrays.
    fn bulks(reply: &[u8]) -> Vec<String> {
        let text = String::from_utf8(reply.to_vec()).expect("the tests write text");
        let mut lines = text.split("\r\n");
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            if line.starts_with('$') {
                found.push(lines.next().expect("a length is followed by a text").to_string());
            }
        }
        found
    }

    /// A complete scan with the given options: the keys, and the largest number in one step.
    fn scan_all(harness: &mut Harness, options: &[&[u8]]) -> (BTreeSet<String>, usize) {
        let (mut keys, mut most) = (BTreeSet::new(), 0);
        let mut cursor = "0".to_string();
        loop {
            let reply = harness.raw(&[&[b"SCAN", cursor.as_bytes()], options].concat());
            let mut found = bulks(&reply).into_iter();
            cursor = found.next().expect("the cursor comes first");
            most = most.max(found.len());
            keys.extend(found);
            if cursor == "0" {
                return (keys, most);
            }
        }
    }

    #[test]
    fn a_scan_finds_every_key_that_stays() {
        let mut harness = Harness::default();
        let stay: BTreeSet<String> = (0..1000).map(|i| format!("key:{i}")).collect();
        for key in &stay {
            harness.run(&format!("SET {key} 1"));
        }
        assert_eq!(scan_all(&mut harness, &[]).0, stay);
        let (keys, most) = scan_all(&mut harness, &[b"COUNT", b"5"]);
        assert_eq!(keys, stay);
        assert!(most < 100, "{most}");
        let (keys, _) = scan_all(&mut harness, &[b"MATCH", b"key:1??", b"TYPE", b"string"]);
        assert_eq!(keys.len(), 100);
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_string();
        for round in 0.. {
            for i in 0..10 {
                harness.run(&format!("SET other:{} 1", (round * 7 + i) % 300));
                harness.run(&format!("DEL other:{}", (round * 5 + i) % 300));
            }
            let reply = bulks(&harness.raw(&[b"SCAN", cursor.as_bytes()]));
            cursor.clone_from(&reply[0]);
            found.extend(reply[1..].iter().filter(|key| key.starts_with("key")).cloned());
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found, stay);
    }

    #[test]
    fn expired_keys_are_not_shown_and_scanned_away() {
        let mut harness = Harness::default();
        harness.run("SET stays 1");
        harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
        for i in 0..50 {
            harness.run(&format!("SET due:{i} 1"));
            harness.run(&format!("PEXPIREAT due:{i} 1"));
        }
        assert_eq!(bulks(&harness.raw(&[b"KEYS", b"*"])).len(), 51);
        harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, true);
        assert_eq!(bulks(&harness.raw(&[b"KEYS", b"*"])), ["stays"]);
        assert_eq!(bulks(&harness.raw(&[b"KEYS", b"due:1"])), [""; 0]);
        assert_eq!(scan_all(&mut harness, &[]).0.len(), 1);
        assert_eq!(harness.run("RANDOMKEY"), "\"stays\"");
        assert_eq!(harness.server.keyspace.len(), 51);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, false);
        assert_eq!(bulks(&harness.raw(&[b"KEYS", b"*"])), ["stays"]);
        assert_eq!(harness.server.keyspace.len(), 51);
        let (keys, _) = scan_all(&mut harness, &[b"TYPE", b"nosuch", b"MATCH", b"*4"]);
        assert!(keys.is_empty());
        assert_eq!(harness.server.keyspace.len(), 46, "those that match are removed, of whatever type");
        assert_eq!(scan_all(&mut harness, &[]).0.len(), 1);
        assert_eq!(harness.server.keyspace.len(), 1);
        assert_eq!(harness.server.keyspace.stats.expired, 50);
    }

    #[test]
    fn keys_that_match() {
        let mut harness = Harness::default();
        for key in ["foo_a", "foo_b", "key_x", "a*", ""] {
            harness.raw(&[b"SET", key.as_bytes(), b"1"]);
        }
        let mut matching = |pattern: &[u8]| {
            let mut found = bulks(&harness.raw(&[b"KEYS", pattern]));
            found.sort();
            found
        };
        assert_eq!(matching(b"foo*"), ["foo_a", "foo_b"]);
        assert_eq!(matching(b"*").len(), 5);
        assert_eq!(matching(b"key_x"), ["key_x"]);
        assert_eq!(matching(b"a\\*"), ["a*"]);
        assert_eq!(matching(b""), [""]);
        assert_eq!(matching(b"nosuch"), [""; 0]);
    }

    #[test]
    fn a_random_key_is_any_key_that_is_not_due() {
        let mut harness = Harness::default();
        assert_eq!(harness.run("RANDOMKEY"), "(nil)");
        harness.run("SET a 1");
        harness.run("SET b 1");
        let seen: BTreeSet<String> = (0..100).map(|_| harness.run("RANDOMKEY")).collect();
        assert_eq!(seen.len(), 2);
        harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
        harness.run("PEXPIREAT a 1");
        harness.run("PEXPIREAT b 1");
        // If all keys have expired and none may be removed, the reply is one of them.
        harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
        harness.server.keyspace.suspend_expiry(Suspend::Pause, true);
        assert_ne!(harness.run("RANDOMKEY"), "(nil)");
        harness.server.keyspace.suspend_expiry(Suspend::Pause, false);
        assert_eq!(harness.run("RANDOMKEY"), "(nil)");
        assert_eq!(harness.server.keyspace.len(), 0);
    }
}
