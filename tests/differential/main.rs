//! Differential test: Spinel and real servers get the same random commands. Every reply must be equal, byte for
//! byte, and so must the data afterwards.
//!
//! Requests are generated from the command table's documentation ([`grammar`]): each command's argument tree is a
//! grammar, so that a new command is covered by its table entry. One request in eight is damaged afterwards (an
//! argument is dropped, doubled or replaced); one in eight uses numbers at the limits of their types, and keys that
//! are missing or of another type. Phases in which values grow alternate with phases in which they shrink, under
//! encoding limits that change, too, so that every conversion happens in both directions; `OBJECT ENCODING` is
//! frequent. Requests that are not sent, and replies that cannot be equal, are listed with reasons: in [`grammar`],
//! in [`reply::normalise`], and, by command and server, in [`known`].
//!
//! Names of keys say what they usually hold: `l` lists, `e` sets, `h` hashes, `z` sorted sets, `s` strings; `y`
//! sorted sets whose scores are all equal, `n` lists and `i` sets of numbers only; `g` positions, `d` stored
//! results of searches for them, `p` HyperLogLogs.
//!
//! [`databases`] has users who may use some databases only. [`events`] compares keyspace notifications. [`names`] compares what the servers know by name. [`scripts`] has Lua programs. [`sessions`] has several clients that block, subscribe, watch, queue and cache; [`fields`] has hashes with
//! fields that expire; [`streams`] has streams and their consumer groups; [`vectors`] has
//! vector sets.
//!
//! The other servers are Redis 7.0 and, for newer features, Redis 8.2 and Valkey 9.1; [`support::Oracle`] says
//! where they are searched for. `SPINEL_DIFF_COMMANDS` sets the number of commands per test, `SPINEL_DIFF_SEED` the
//! seed, which is printed; with `SPINEL_DIFF_HISTORY`, a test stops at the first difference and prints the history
//! of the key, or of all clients.

#[path = "../support/mod.rs"]
mod support;

mod databases;
mod events;
mod fields;
mod grammar;
mod known;
mod names;
mod pair;
mod reply;
mod scripts;
mod sessions;
mod streams;
mod vectors;

use std::collections::BTreeMap;
use std::time::Instant;

use spinel::commands;
use spinel::server::command::Flags;
use spinel::stdx::quote;

use grammar::{EXPIRING, Grammar};
use known::Case;
use pair::{both, differing_keys, digests, shown, words};
use reply::normalise;
use support::{Oracle, ServerProcess};

/// Number of commands per test, and the seed.
fn commands_and_seed(default: u64) -> (u64, u64) {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (commands, seed) = (number("SPINEL_DIFF_COMMANDS", default), number("SPINEL_DIFF_SEED", 0x5919));
    println!("seed {seed}, {commands} commands");
    (commands, seed)
}

#[test]
fn spinel_answers_as_redis_7_0_does() {
    compare_with(Oracle::Redis7_0, 8_000);
}

#[test]
fn spinel_answers_as_redis_8_2_does() {
    compare_with(Oracle::Redis8_2, 8_000);
}

#[test]
fn spinel_answers_as_valkey_9_1_does() {
    compare_with(Oracle::Valkey9_1, 8_000);
}

/// Whether a command may change data.
fn writes(name: &str) -> bool {
    commands::ALL
        .iter()
        .flat_map(|group| group.iter())
        .any(|spec| spec.name == name && spec.flags.has(Flags::WRITE))
}

fn compare_with(oracle: Oracle, commands: u64) {
    let Some(program) = oracle.program() else { return };
    let (commands, seed) = commands_and_seed(commands);
    // Low limits make conversions frequent.
    let options = [
        "--enable-debug-command",
        "yes",
        "--hash-max-listpack-entries",
        "8",
        "--zset-max-listpack-entries",
        "8",
        "--set-max-intset-entries",
        "8",
        "--list-max-listpack-size",
        "4",
        "--hash-max-listpack-value",
        "32",
        "--zset-max-listpack-value",
        "32",
    ];
    let ours = ServerProcess::start(&support::spinel(), &[&options[..], &oracle.compat()].concat());
    let theirs = ServerProcess::start(&program, &options);
    let mut speakers = ["2", "3"].map(|protocol| {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        clients
    });
    let mut observers = (ours.client(), theirs.client());
    // Times in the past are tested, so the removal of such keys must not depend on a timer.
    both(&mut observers, &words(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]));
    let mut grammar = Grammar::new(seed, oracle);
    let mut differences: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut history: Vec<String> = Vec::new();
    let stops = std::env::var_os("SPINEL_DIFF_HISTORY").is_some();
    // Longest duration of a request that set a time.
    let mut setting_ms = 0;
    for i in 0..commands {
        let (name, args) = grammar.request();
        let speaker = &mut speakers[usize::from(grammar.rng.one_in(3))];
        if matches!(name, "object" | "sort" | "sort_ro") {
            // Accepted differences depend on the type, and the type follows from the name. In Redis, SORT, even a
            // read-only one, converts a sorted set to a skiplist; the `y` sets are never asked for their encoding.
            let key = args.iter().skip(1).find(|arg| arg.len() == 2).cloned().unwrap_or_default();
            let expected: &[u8] = match key.first() {
                Some(b'e' | b'i') => b"+set\r\n",
                Some(b'h') => b"+hash\r\n",
                Some(b'n' | b'l') => b"+list\r\n",
                Some(b'y') => b"+zset\r\n",
                Some(b'z' | b'g' | b'd') if name == "object" => b"+zset\r\n",
                _ => b"+string\r\n",
            };
            let found = both(speaker, &[b"TYPE".to_vec(), key]).0;
            if found != expected && found != b"+none\r\n" {
                continue;
            }
        }
        if name == "dbsize" {
            // The number of due keys that have been accessed depends on chance.
            both(speaker, &words(&["SCAN", "0", "COUNT", "100000"]));
        }
        if name.starts_with("sort") {
            // The reply includes a number that an earlier command found out of range, unless a valid one came in
            // between.
            both(speaker, &words(&["ZUNION", "1", "none", "WEIGHTS", "1"]));
        }
        history.push(shown(&args));
        let sent = Instant::now();
        let (x, y) = both(speaker, &args);
        let taken_ms = sent.elapsed().as_millis() as u64;
        if EXPIRING.contains(&name) {
            setting_ms = setting_ms.max(taken_ms);
        }
        let case = Case { args: &args, ours: &x, theirs: &y, slack_ms: setting_ms + taken_ms };
        let differs = normalise(name, &args, &x) != normalise(name, &args, &y);
        let known = differs && known::reason(oracle, &case).is_some();
        if known && writes(name) && ((x[0] == b'-') != (y[0] == b'-') || name == "zrangestore") {
            // What the request has changed on one of them would show in later replies.
            both(speaker, &[&[b"DEL".to_vec()], &args[1..]].concat());
        }
        if differs && !known {
            let text =
                format!("{}\n  spinel {}\n  theirs {}", shown(&args), quote::repr(&x), quote::repr(&y));
            if stops {
                // The history of the key.
                let key = format!("\"{}\"", String::from_utf8_lossy(&args[args.len() - 1]));
                history.iter().filter(|line| line.contains(&key)).for_each(|line| println!("{line}"));
                panic!("{text}");
            }
            // A few differences per command are enough.
            let same = differences.entry(name).or_default();
            if same.len() < 4 {
                same.push(text);
            }
        }
        if oracle == Oracle::Redis7_0
            && matches!(name, "zadd" | "zincrby" | "geoadd" | "hset" | "hmset" | "sadd")
            && args.len() > 1
        {
            // Redis 7.2 chooses the encoding by the arguments, even if they are already members or are not
            // accepted. A value whose encoding differs for that reason is removed, because encodings differ in
            // their treatment of -0.
            let (x, y) = both(speaker, &[b"OBJECT".to_vec(), b"ENCODING".to_vec(), args[1].clone()]);
            let larger: &[&[u8]] = match &y[..] {
                b"$8\r\nlistpack\r\n" => &[b"$8\r\nskiplist\r\n", b"$9\r\nhashtable\r\n"],
                b"$6\r\nintset\r\n" => &[b"$9\r\nhashtable\r\n", b"$8\r\nlistpack\r\n"],
                _ => &[],
            };
            if larger.contains(&&x[..]) {
                both(speaker, &[b"DEL".to_vec(), args[1].clone()]);
            }
        }
        if matches!(name, "sunionstore" | "sinterstore" | "sdiffstore") && args.len() > 1 {
            // The order of a table decides whether the result first has too many numbers for an intset, which then
            // becomes a table, or something that is no number, so that it becomes a listpack.
            let (x, y) = both(speaker, &[b"OBJECT".to_vec(), b"ENCODING".to_vec(), args[1].clone()]);
            if x != y {
                both(speaker, &[b"DEL".to_vec(), args[1].clone()]);
            }
        }
        if i % 1000 == 999 {
            let (x, y) = digests(&mut observers);
            if x != y {
                let keys = differing_keys(&mut observers);
                let last = history.join("\n");
                assert!(
                    keys.is_empty(),
                    "the data differ after {i} commands, seed {seed}, in\n{keys}\nReplies that differ: {differences:#?}\n\
                     The last commands were\n{last}"
                );
            }
            if !stops {
                history.clear();
            }
            let limit = ["0", "2", "8", "128"][grammar.rng.index(4)];
            let set_limit = ["CONFIG", "SET", "set-max-listpack-entries", limit];
            if oracle == Oracle::Redis7_0 {
                // Redis 7.0 has no such limit.
                observers.0.command(&set_limit.map(str::as_bytes)).expect("Spinel answers");
            } else {
                both(&mut observers, &words(&set_limit));
            }
        }
    }
    let text: Vec<String> = differences.values().flatten().cloned().collect();
    assert!(text.is_empty(), "{} replies differ, seed {seed}:\n{}", text.len(), text.join("\n"));
}
