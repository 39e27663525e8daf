//! The same random commands to Spinel and to a real `redis-server`: every reply must be equal,
//! byte for byte, and so must the data afterwards.
//!
//! Requests are made from the command table's own documentation: each command's argument tree is
//! a grammar, so that a new command is covered by being in the table. One request in eight is
//! damaged afterwards (an argument dropped, doubled, replaced). What cannot be equal is listed
//! in [`SKIPPED`] and [`normalise`], with the reason.
//!
//! Runs where a `redis-server` is on the PATH. `SPINEL_DIFF_COMMANDS` sets how many commands
//! (default 20,000), `SPINEL_DIFF_SEED` the seed, which is printed.

mod support;

use std::collections::BTreeMap;

use spinel::commands;
use spinel::server::command::{Arg, ArgKind, Group, Spec};
use spinel::stdx::quote;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess};

/// Not sent: the reply depends on the server, the time or chance, or the command stops the test.
const SKIPPED: &[&str] = &[
    // The server's own affairs.
    "acl",
    "auth",
    "client",
    "command",
    "config",
    "debug",
    "hello",
    "info",
    "latency",
    "lolwut",
    "memory",
    "module",
    "role",
    "shutdown",
    "slowlog",
    "time",
    "lastsave",
    "monitor",
    "save",
    "bgsave",
    "bgrewriteaof",
    "sync",
    "psync",
    "replicaof",
    "slaveof",
    "failover",
    "replconf",
    "object",
    "quit",
    "reset",
    "commandlog",
    "swapdb",
    "cluster",
    // Version 10 there, 11 here; and compressed texts differ in their bytes.
    "dump",
    // Chance. What remains afterwards would differ.
    "randomkey",
    "spop",
    "srandmember",
    "hrandfield",
    "zrandmember",
    // Not in 7.0.
    "delifeq",
    "msetex",
    "hexpire",
    "hpexpire",
    "hexpireat",
    "hpexpireat",
    "httl",
    "hpttl",
    "hexpiretime",
    "hpexpiretime",
    "hpersist",
    "hgetex",
    "hsetex",
    "hgetdel",
    "waitaof",
    // Messages arrive at their own time, or the connection blocks.
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "blpop",
    "brpop",
    "blmove",
    "brpoplpush",
    "blmpop",
    "bzpopmin",
    "bzpopmax",
    "bzmpop",
    "wait",
    "xread",
    "xreadgroup",
    // Keys that are due soon would be gone on one side first.
    "restore",
    "migrate",
    // Replies in one, and some of them without an order.
    "multi",
    "exec",
    "discard",
    // The table of 7.2 has more options than the server of 7.0 (WITHSCORE).
    "zrank",
    "zrevrank",
];

/// Options that the server of 7.0 does not know.
///
/// `BYLEX` is known, but undefined over members of different scores: the commands that are always
/// lexicographic get keys of their own, with equal scores.
const NOT_IN_7_0: &[&str] = &["NOVALUES", "IFEQ", "BYLEX"];

/// Replies whose elements have no order: they are compared as sets.
const UNORDERED: &[&str] = &["keys", "smembers", "sinter", "sunion", "sdiff", "hgetall", "hkeys", "hvals"];

struct Grammar {
    rng: Rng,
    /// Where the request says how many keys follow.
    numkeys_at: Option<usize>,
    specs: Vec<&'static Spec>,
}

impl Grammar {
    fn new(seed: u64) -> Self {
        let specs = commands::ALL
            .iter()
            .flat_map(|group| group.iter())
            .filter(|spec| !SKIPPED.contains(&spec.name) && spec.subcommands.is_empty())
            .collect();
        Grammar { rng: Rng::new(seed), numkeys_at: None, specs }
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.rng.index(items.len())]
    }

    /// A random request.
    fn request(&mut self) -> (&'static Spec, Vec<Vec<u8>>) {
        let spec = self.specs[self.rng.index(self.specs.len())];
        // Emptying everything is tested, but the interesting states need time to grow.
        if matches!(spec.name, "flushall" | "flushdb") && !self.rng.one_in(20) {
            return self.request();
        }
        let mut args = vec![self.spelled(spec.name)];
        for arg in spec.docs.args {
            self.argument(spec, arg, &mut args);
        }
        if spec.name == "zadd" && self.rng.one_in(3) {
            args = vec![b"zadd".to_vec(), format!("y{}", self.rng.below(4)).into()];
            for _ in 0..3 {
                args.push(b"0".to_vec());
                args.push(self.text());
            }
            return (spec, args);
        }
        if self.rng.one_in(8) {
            self.damage(&mut args);
        }
        (spec, args)
    }

    fn spelled(&mut self, name: &str) -> Vec<u8> {
        if self.rng.one_in(4) { name.to_ascii_uppercase().into() } else { name.into() }
    }

    fn argument(&mut self, spec: &Spec, arg: &Arg, out: &mut Vec<Vec<u8>>) {
        if arg.optional && self.rng.one_in(2) || arg.token.is_some_and(|token| NOT_IN_7_0.contains(&token)) {
            return;
        }
        let times = if arg.multiple { 1 + self.rng.below(3) } else { 1 };
        for i in 0..times {
            if let Some(token) = arg.token
                && arg.kind != ArgKind::PureToken
                && (i == 0 || arg.multiple_token)
            {
                out.push(self.spelled(token));
            }
            match arg.kind {
                ArgKind::PureToken => {
                    let token = self.spelled(arg.token.unwrap_or(arg.name));
                    out.push(token);
                }
                ArgKind::OneOf => {
                    let chosen = &arg.args[self.rng.index(arg.args.len())];
                    self.argument(spec, &Arg { optional: false, ..*chosen }, out);
                }
                ArgKind::Block => {
                    for inner in arg.args {
                        self.argument(spec, inner, out);
                    }
                }
                ArgKind::Key => {
                    let key = if spec.name.contains("lex") {
                        format!("y{}", self.rng.below(4)).into()
                    } else {
                        self.key(spec.docs.group)
                    };
                    out.push(key);
                }
                kind => {
                    let value = self.value(spec, arg.name, kind);
                    out.push(value);
                }
            }
        }
        // The number of keys comes before them, and must usually be right.
        if arg.name == "numkeys" {
            self.numkeys_at = Some(out.len() - 1);
        } else if arg.kind == ArgKind::Key
            && let Some(at) = self.numkeys_at.take()
            && !self.rng.one_in(10)
        {
            out[at] = times.to_string().into();
        }
    }

    fn key(&mut self, group: Group) -> Vec<u8> {
        let kind = match group {
            Group::List => 'l',
            Group::Set => 'e',
            Group::Hash => 'h',
            Group::SortedSet => 'z',
            Group::String | Group::Bitmap => 's',
            _ => *self.pick(&[&'l', &'e', &'h', &'z', &'s', &'s']),
        };
        let kind = if self.rng.one_in(12) { *self.pick(&[&'l', &'e', &'h', &'z', &'s']) } else { kind };
        format!("{kind}{}", self.rng.below(4)).into()
    }

    fn value(&mut self, spec: &Spec, name: &str, kind: ArgKind) -> Vec<u8> {
        let time =
            matches!(kind, ArgKind::UnixTime) || name.contains("seconds") || name.contains("milliseconds");
        if time {
            // Far from now on either side: nothing expires while the test runs.
            return self
                .pick(&[
                    "1000000000",
                    "99999999",
                    "-1",
                    "0",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "abc",
                    "33177117420",
                    "33177117420000",
                ])
                .as_bytes()
                .to_vec();
        }
        match kind {
            ArgKind::Integer if spec.docs.group == Group::Bitmap || name == "offset" => {
                // An offset just below the limit would allocate half a gigabyte on both sides.
                self.pick(&["0", "1", "7", "8", "100", "4000", "-1", "-100", "99999999999", "x", "5"])
                    .as_bytes()
                    .to_vec()
            }
            ArgKind::Integer if matches!(name, "index" | "db" | "destination-db") => {
                self.pick(&["0", "1", "0", "0", "2", "-1", "16", "abc", "99"]).as_bytes().to_vec()
            }
            ArgKind::Integer => self
                .pick(&[
                    "0",
                    "1",
                    "2",
                    "3",
                    "-1",
                    "-2",
                    "-3",
                    "5",
                    "10",
                    "100",
                    "-100",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9223372036854775808",
                    "abc",
                    "1.5",
                    "",
                    " 1",
                    "01",
                    "+1",
                ])
                .as_bytes()
                .to_vec(),
            ArgKind::Double => self
                .pick(&[
                    "0", "1", "2", "-1", "1.5", "-2.25", "1e3", "inf", "-inf", "+inf", "nan", "abc", "",
                    "0x10", "100", "3",
                ])
                .as_bytes()
                .to_vec(),
            ArgKind::Pattern => self
                .pick(&["*", "s*", "?1", "[el]0", "l[^0-1]", "m1*", "nosuch", "\\*", "[", ""])
                .as_bytes()
                .to_vec(),
            _ if name == "min" || name == "start" && spec.docs.group == Group::SortedSet => self.bound(),
            _ if name == "max" || name == "stop" && spec.docs.group == Group::SortedSet => self.bound(),
            _ if name == "type" => {
                self.pick(&["string", "list", "SET", "zset", "hash", "nosuch"]).as_bytes().to_vec()
            }
            _ => self.text(),
        }
    }

    fn bound(&mut self) -> Vec<u8> {
        self.pick(&[
            "-inf", "+inf", "0", "(1", "5", "(0", "[m1", "(m3", "-", "+", "1", "-1", "2.5", "abc", "[", "(",
            "[m", "10",
        ])
        .as_bytes()
        .to_vec()
    }

    fn text(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => self.rng.below(40).to_string().into(),
            1 => (self.rng.next_u64() as i64 >> self.rng.below(64)).to_string().into(),
            2 => vec![b'x'; [0, 1, 44, 45, 63, 64, 65, 200, 3000][self.rng.index(9)]],
            3 => self
                .pick(&["3.5", "-0", "1e5", "00", "\r\n", "\0\x01", "hello world", "\"", "10.50"])
                .as_bytes()
                .to_vec(),
            _ => format!("m{}", self.rng.below(24)).into(),
        }
    }

    fn damage(&mut self, args: &mut Vec<Vec<u8>>) {
        let at = self.rng.index(args.len());
        match self.rng.below(4) {
            0 if at > 0 => drop(args.remove(at)),
            1 => args.insert(at.max(1), self.text_or_token()),
            2 if at > 0 => args[at] = self.text_or_token(),
            _ => args.push(self.text_or_token()),
        }
    }

    fn text_or_token(&mut self) -> Vec<u8> {
        if self.rng.one_in(2) {
            return self.text();
        }
        self.pick(&[
            "NX",
            "XX",
            "GET",
            "COUNT",
            "LIMIT",
            "WITHSCORES",
            "EX",
            "0",
            "-1",
            "BYLEX",
            "KEEPTTL",
            "REV",
        ])
        .as_bytes()
        .to_vec()
    }
}

/// A RESP value cut into its elements.
fn elements(reply: &[u8]) -> Vec<&[u8]> {
    fn skip(bytes: &[u8]) -> usize {
        let end = bytes.windows(2).position(|w| w == b"\r\n").expect("a whole reply") + 2;
        let n = std::str::from_utf8(&bytes[1..end - 2])
            .ok()
            .and_then(|n| n.parse::<i64>().ok())
            .unwrap_or(0)
            .max(0) as usize;
        match bytes[0] {
            b'$' | b'=' if bytes[1] != b'-' => end + n + 2,
            b'*' | b'~' | b'>' => (0..n).fold(end, |at, _| at + skip(&bytes[at..])),
            b'%' => (0..2 * n).fold(end, |at, _| at + skip(&bytes[at..])),
            _ => end,
        }
    }
    let mut at = reply.windows(2).position(|w| w == b"\r\n").expect("a whole reply") + 2;
    let mut out = Vec::new();
    while at < reply.len() {
        let len = skip(&reply[at..]);
        out.push(&reply[at..at + len]);
        at += len;
    }
    out
}

/// The reply in a form in which two right answers are equal.
fn normalise(name: &str, reply: &[u8]) -> Vec<u8> {
    if UNORDERED.contains(&name) && matches!(reply[0], b'*' | b'~' | b'%') {
        let mut items = elements(reply);
        if name == "hgetall" {
            let mut pairs: Vec<_> = items.chunks(2).collect();
            pairs.sort();
            return pairs.concat().concat();
        }
        items.sort();
        return items.concat();
    }
    // A cursor is the server's own; what a scan of a small collection returns has no order.
    if matches!(name, "scan" | "sscan" | "hscan" | "zscan") && reply[0] == b'*' {
        return b"scanned".to_vec();
    }
    reply.to_vec()
}

/// Differences between 7.0, which is asked, and 7.2, which Spinel follows.
fn known_difference(args: &[Vec<u8>], ours: &[u8], theirs: &[u8]) -> bool {
    let name = args[0].to_ascii_lowercase();
    // Times differ by the moment at which they are set and asked for.
    if matches!(&name[..], b"ttl" | b"pttl" | b"expiretime" | b"pexpiretime") {
        let number = |reply: &[u8]| std::str::from_utf8(&reply[1..]).ok()?.trim().parse::<i64>().ok();
        return number(ours).zip(number(theirs)).is_some_and(|(x, y)| x > 5000 && x.abs_diff(y) < 5000);
    }
    // 7.2 prints doubles in their shortest form, 7.0 with 17 digits; length headers differ too.
    if name.starts_with(b"z") {
        fn words(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
            reply.split(|&b| b == b'\n').filter(|line| !line.starts_with(b"$"))
        }
        let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|w| w.trim().parse::<f64>().ok());
        let same = |(x, y): (&[u8], &[u8])| x == y || number(x).is_some() && number(x) == number(y);
        return words(ours).count() == words(theirs).count() && words(ours).zip(words(theirs)).all(same);
    }
    // 7.2 refuses the one rank that has no positive counterpart.
    name == b"lpos" && args.iter().any(|arg| arg == b"-9223372036854775808")
}

fn both(a: &mut Client, b: &mut Client, args: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let ours = a.command(&args).expect("Spinel answers");
    let theirs = b.command(&args).expect("redis-server answers");
    (ours, theirs)
}

fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| quote::repr(arg)).collect::<Vec<_>>().join(" ")
}

/// The digests of all data, after the keys that are due were met and so removed.
fn digests((a, b): &mut (Client, Client)) -> (Vec<u8>, Vec<u8>) {
    for db in 0..16 {
        both(a, b, &[b"SELECT".to_vec(), db.to_string().into_bytes()]);
        both(a, b, &[b"KEYS".to_vec(), b"*".to_vec()]);
    }
    both(a, b, &[b"DEBUG".to_vec(), b"DIGEST".to_vec()])
}

/// The keys whose values differ, or whether they expire, with what each server says of them.
fn differing_keys(a: &mut Client, b: &mut Client) -> String {
    let mut out = String::new();
    let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
    for db in 0..16 {
        both(a, b, &words(&[b"SELECT", db.to_string().as_bytes()]));
        let (x, y) = both(a, b, &words(&[b"KEYS", b"*"]));
        let mut keys: Vec<Vec<u8>> =
            elements(&x).into_iter().chain(elements(&y)).map(<[u8]>::to_vec).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let start = key.iter().position(|&b| b == b'\n').expect("a bulk string") + 1;
            let key = &key[start..key.len() - 2];
            let digests = both(a, b, &words(&[b"DEBUG", b"DIGEST-VALUE", key]));
            let times = both(a, b, &words(&[b"TTL", key]));
            if digests.0 == digests.1 && (times.0 == b":-1\r\n") == (times.1 == b":-1\r\n") {
                continue;
            }
            out += &format!("database {db}, key {}\n", quote::repr(key));
            let views: [&[&[u8]]; 6] = [
                &[b"TTL", key],
                &[b"GET", key],
                &[b"LRANGE", key, b"0", b"-1"],
                &[b"SMEMBERS", key],
                &[b"HGETALL", key],
                &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
            ];
            for view in views {
                let (x, y) = both(a, b, &words(view));
                if !x.starts_with(b"-WRONGTYPE") {
                    out += &format!("  spinel {}\n  redis  {}\n", quote::repr(&x), quote::repr(&y));
                }
            }
        }
    }
    out
}

#[test]
fn spinel_answers_as_redis_does() {
    let Some(redis) = support::redis() else {
        eprintln!("no redis-server on the PATH: nothing to compare with");
        return;
    };
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let commands = number("SPINEL_DIFF_COMMANDS", 20_000);
    let seed = number("SPINEL_DIFF_SEED", 0x5919);
    println!("seed {seed}, {commands} commands");
    // Low limits, so that conversions happen all the time.
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
    let ours = ServerProcess::start(&support::spinel(), &options);
    let theirs = ServerProcess::start(&redis, &options);
    let (mut a, mut b) = (ours.client(), theirs.client());
    let mut observers = (ours.client(), theirs.client());
    // Times in the past are tested: when such keys go must not depend on a timer.
    let no_timer = [b"DEBUG".to_vec(), b"SET-ACTIVE-EXPIRE".to_vec(), b"0".to_vec()];
    both(&mut a, &mut b, &no_timer);
    let mut grammar = Grammar::new(seed);
    let mut differences: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut history: Vec<String> = Vec::new();
    for i in 0..commands {
        let (spec, args) = grammar.request();
        history.push(shown(&args));
        let (x, y) = both(&mut a, &mut b, &args);
        if normalise(spec.name, &x) != normalise(spec.name, &y) && !known_difference(&args, &x, &y) {
            let text =
                format!("{}\n  spinel {}\n  redis  {}", shown(&args), quote::repr(&x), quote::repr(&y));
            differences.entry(spec.name).or_default().push(text);
            if differences.values().map(Vec::len).sum::<usize>() >= 40 {
                break;
            }
        }
        if i % 1000 == 999 {
            let (x, y) = digests(&mut observers);
            if x != y {
                let last = history.split_off(history.len().saturating_sub(1000)).join("\n");
                let keys = differing_keys(&mut observers.0, &mut observers.1);
                panic!(
                    "the data differ after {i} commands, seed {seed}, in\n{keys}\nThe last commands were\n{last}"
                );
            }
            history.clear();
        }
    }
    let text: Vec<String> = differences.values().flatten().cloned().collect();
    assert!(text.is_empty(), "{} replies differ, seed {seed}:\n{}", text.len(), text.join("\n"));
}
