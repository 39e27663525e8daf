//! The same random commands to Spinel and to a real `redis-server`: every reply must be equal,
//! byte for byte, and so must the data afterwards.
//!
//! Requests are made from the command table's own documentation: each command's argument tree is
//! a grammar, so that a new command is covered by being in the table. One request in eight is
//! damaged afterwards (an argument dropped, doubled, replaced). Phases in which values grow take
//! turns with phases in which they shrink, under limits that change too, so that every conversion
//! happens in both directions; `OBJECT ENCODING` is asked often. What cannot be equal is listed in
//! [`SKIPPED`], [`normalise`] and [`known_difference`], with the reason.
//!
//! Keys are named by what they usually hold: `l` lists, `e` sets, `h` hashes, `z` sorted sets, `s`
//! strings; `y` sorted sets whose scores are all equal, `n` lists and `i` sets of numbers only; `g` places, `d` what
//! searches for them stored, `p` HyperLogLogs.
//!
//! Fields of hashes that expire are not in Redis 7.0: a second test compares the commands on them with Valkey.
//!
//! Runs where a `redis-server` is on the PATH, or a `valkey-server` is found. `SPINEL_DIFF_COMMANDS` sets how many commands
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
    // Takes the other server a second.
    "pfselftest",
    // Made by [`Grammar::special`] only, where the outcome is not a matter of chance.
    "spop",
    "sort",
    "sort_ro",
    // Not in 7.0; those on fields that expire have [`FieldGrammar`].
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
    // The payload names the version of the format.
    "dump",
    // Replies in one, and some of them without an order.
    "multi",
    "exec",
    "discard",
];

/// Options that the server of 7.0 does not know.
const NOT_IN_7_0: &[&str] = &["NOVALUES", "IFEQ", "WITHSCORE", "BYPOLYGON"];

/// Replies whose elements have no order: they are compared as sets.
const UNORDERED: &[&str] = &["keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "spop"];

/// Replies that are a matter of chance: only their form is compared.
const RANDOM: &[&str] = &["randomkey", "srandmember", "hrandfield", "zrandmember"];

/// Commands that say when a key expires.
const EXPIRING: &[&str] = &["set", "setex", "psetex", "getex", "expire", "pexpire", "expireat", "pexpireat"];

/// Commands that make values, databases even, smaller or go away, but for those that add as well.
const SHRINKING: &[&str] = &[
    "del",
    "unlink",
    "flushall",
    "flushdb",
    "expire",
    "pexpire",
    "expireat",
    "pexpireat",
    "getex",
    "getdel",
    "rename",
    "renamenx",
    "move",
    "copy",
    "ltrim",
    "lrem",
    "lpop",
    "rpop",
    "lmpop",
    "srem",
    "spop",
    "sinterstore",
    "sdiffstore",
    "hdel",
    "zrem",
    "zpopmin",
    "zpopmax",
    "zmpop",
    "zremrangebyrank",
    "zremrangebyscore",
    "zremrangebylex",
    "zinterstore",
    "zdiffstore",
    "zrangestore",
    "set",
    "setex",
    "psetex",
    "getset",
    "mset",
    "bitop",
];

/// Commands that make collections larger.
const GROWING: &[&str] = &[
    "lpush",
    "rpush",
    "lpushx",
    "rpushx",
    "linsert",
    "sadd",
    "sunionstore",
    "hset",
    "hmset",
    "hsetnx",
    "zadd",
    "zunionstore",
    "append",
    "setrange",
    "geoadd",
];

/// Numbers at the borders of what a double can say.
const DOUBLES: &[&str] = &[
    "0",
    "1",
    "2",
    "-1",
    "1.5",
    "-2.25",
    "1e3",
    "inf",
    "-inf",
    "+inf",
    "nan",
    "abc",
    "",
    "0x10",
    "100",
    "3",
    "-0",
    "0.1",
    "0.30000000000000004",
    "3.1415926535897931",
    "123456789.12345678",
    "-0.00001234567890123456",
    "17179869184.000001",
    "1e17",
    "123456789012345678",
    "9007199254740993",
    "1e21",
    "1e-7",
    "1.7976931348623157e308",
    "-1e308",
    "1e400",
    "4.9e-324",
    "1e-400",
    "Infinity",
    " 1",
    "1 ",
    "1e",
    ".5",
    "5.",
];

/// The number of requests after which growing turns into shrinking or back.
const PHASE: u64 = 700;

struct Grammar {
    rng: Rng,
    /// Where the request says how many keys follow.
    numkeys_at: Option<usize>,
    specs: Vec<&'static Spec>,
    /// Requests made.
    made: u64,
    /// Whether the request orders members by their text, for which their scores must be equal.
    lex: bool,
}

/// A command's name and the whole request.
type Request = (&'static str, Vec<Vec<u8>>);

impl Grammar {
    fn new(seed: u64) -> Self {
        let specs = commands::ALL
            .iter()
            .flat_map(|group| group.iter())
            .filter(|spec| !SKIPPED.contains(&spec.name) && spec.subcommands.is_empty())
            .collect();
        Grammar { rng: Rng::new(seed), numkeys_at: None, specs, made: 0, lex: false }
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.rng.index(items.len())]
    }

    /// Whether values grow at the moment.
    fn grows(&self) -> bool {
        (self.made / PHASE).is_multiple_of(2)
    }

    /// A random request.
    fn request(&mut self) -> Request {
        self.made += 1;
        let (name, mut args) = if self.rng.one_in(6) { self.special() } else { self.regular() };
        // Without its count, SPOP would be a matter of chance; sorting a set may need each of its words; the scores
        // of some sets must stay equal.
        let whole = match name {
            "spop" => true,
            "sort" | "sort_ro" => args[1].starts_with(b"e") || args[1].starts_with(b"i"),
            "zadd" => args[1].starts_with(b"y"),
            _ => false,
        };
        if !whole && self.rng.one_in(8) {
            self.damage(&mut args);
            if EXPIRING.contains(&name) {
                // Nothing may expire while the test runs, nor shortly after.
                for arg in args.iter_mut().skip(2) {
                    let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<i64>().ok());
                    if number.is_some_and(|time| (1..99_999_999).contains(&time)) {
                        *arg = b"99999999".to_vec();
                    }
                }
            }
        }
        // A listpack turns -0 into 0, and 7.2 knows beforehand that there will be none, where 7.0 begins with one.
        if name == "zadd" && args.len() > 4 {
            args.iter_mut().filter(|arg| **arg == b"-0").for_each(|arg| *arg = b"0".to_vec());
        }
        // A negative count asks for so many members, be they few or not: it would take both servers hours.
        let hours = |arg: &Vec<u8>| {
            let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|count| count < -10_000 && count != i64::MIN)
        };
        if RANDOM.contains(&name) && args.iter().any(hours) {
            return self.request();
        }
        (name, args)
    }

    /// A request as the command table describes it.
    fn regular(&mut self) -> Request {
        let spec = self.specs[self.rng.index(self.specs.len())];
        // Emptying everything is tested, but the interesting states need time to grow.
        if matches!(spec.name, "flushall" | "flushdb") && !self.rng.one_in(40) {
            return self.regular();
        }
        let against = if self.grows() { SHRINKING } else { GROWING };
        if against.contains(&spec.name) && !self.rng.one_in(8) {
            return self.regular();
        }
        self.lex = spec.name.contains("lex") || spec.name.starts_with("zrange") && self.rng.one_in(3);
        self.numkeys_at = None;
        let mut args = vec![self.spelled(spec.name)];
        for arg in spec.docs.args {
            self.argument(spec, arg, &mut args);
        }
        (spec.name, args)
    }

    /// A request that the command table does not lead to, or not often enough.
    fn special(&mut self) -> Request {
        let n = self.rng.below(4);
        match self.rng.below(13) {
            0..3 => {
                let kind = *self.pick(&[&"e", &"h", &"z", &"s", &"s", &"i", &"n", &"l", &"g", &"d", &"p"]);
                ("object", words(&["OBJECT", "ENCODING", &format!("{kind}{n}")]))
            }
            3 => {
                let (option, values) = *self.pick(&[
                    &("hash-max-listpack-entries", ["0", "4", "8", "16", "64"]),
                    &("hash-max-listpack-value", ["0", "8", "32", "64", "2000"]),
                    &("zset-max-listpack-entries", ["0", "4", "8", "16", "64"]),
                    &("zset-max-listpack-value", ["0", "8", "32", "64", "2000"]),
                    &("set-max-intset-entries", ["0", "4", "8", "16", "64"]),
                    &("list-max-listpack-size", ["1", "4", "16", "-1", "-2"]),
                    &("list-compress-depth", ["0", "0", "1", "2", "3"]),
                    &("hll-sparse-max-bytes", ["0", "20", "40", "100", "3000"]),
                ]);
                let value = values[self.rng.index(5)];
                ("config", words(&["CONFIG", "SET", option, value]))
            }
            4 | 5 => {
                let key = format!("y{n}");
                let mut args = words(&["ZADD", &key]);
                for _ in 0..self.times() {
                    args.push(b"0".to_vec());
                    args.push(self.text());
                }
                ("zadd", args)
            }
            6 | 7 => {
                let (list, set) = (format!("n{n}"), format!("i{n}"));
                match self.rng.below(6) {
                    0 if !self.grows() => ("del", words(&["DEL", &list, &set])),
                    1 | 2 => {
                        let mut args = words(&["SADD", &set]);
                        for _ in 0..self.times() {
                            args.push((self.rng.next_u64() as i64 >> self.rng.below(64)).to_string().into());
                        }
                        // 7.2 goes by how many are given, though they be the same.
                        args[2..].sort();
                        args.dedup();
                        ("sadd", args)
                    }
                    _ => {
                        let mut args = words(&["RPUSH", &list]);
                        for _ in 0..self.times() {
                            args.push(self.number());
                        }
                        ("rpush", args)
                    }
                }
            }
            12 => {
                let gone = self.pick(&["g", "d", "p"]);
                match self.rng.below(6) {
                    0 if !self.grows() => ("del", words(&["DEL", &format!("{gone}{n}")])),
                    1 | 2 => ("get", words(&["GET", &format!("p{n}")])),
                    3 => ("zrange", words(&["ZRANGE", &format!("d{n}"), "0", "-1", "WITHSCORES"])),
                    _ => ("zrem", vec![b"ZREM".to_vec(), format!("g{n}").into(), self.text()]),
                }
            }
            // All of them are taken: what remains is no matter of chance.
            8 => ("spop", words(&["SPOP", &format!("e{n}"), "9223372036854775807"])),
            _ => self.sort(),
        }
    }

    /// A SORT whose outcome is defined.
    fn sort(&mut self) -> Request {
        const PATTERNS: &[&str] =
            &["s*", "*", "h*->m1", "h*->", "*->x", "z*", "h*->m2", "s*->m1", "e*", "*1", "h0->*"];
        let kind = *self.pick(&[&"n", &"n", &"n", &"i", &"l", &"l", &"e", &"y", &"s", &"none"]);
        let read_only = self.rng.one_in(4);
        let store = !read_only && self.rng.one_in(3);
        let limit = self.rng.one_in(3);
        let alpha = self.rng.one_in(if matches!(kind, "l" | "e" | "y") { 1 } else { 4 });
        let name = if read_only { "sort_ro" } else { "sort" };
        let mut args = vec![self.spelled(name), format!("{kind}{}", self.rng.below(4)).into()];
        if self.rng.one_in(2) {
            let pattern = match self.rng.below(4) {
                // A set has no order of its own.
                0 if store || !matches!(kind, "e" | "i") => Some("nosort"),
                // Equal texts stay in the order of the list, unless there is a limit.
                _ if alpha && (limit || kind != "l") => None,
                _ => Some(self.pick(PATTERNS)),
            };
            if let Some(pattern) = pattern {
                args.extend(words(&["BY", pattern]));
            }
        }
        if limit {
            for name in ["LIMIT", "", ""] {
                let number = self.pick(&["0", "1", "2", "3", "5", "100", "-1", "-5", "9223372036854775807"]);
                args.push(if name.is_empty() { number.into() } else { name.into() });
            }
        }
        for _ in 0..[0, 0, 1, 2][self.rng.index(4)] {
            let pattern = if self.rng.one_in(4) { "#" } else { self.pick(PATTERNS) };
            args.extend(words(&["GET", pattern]));
        }
        if alpha {
            args.push(self.spelled("alpha"));
        }
        if self.rng.one_in(2) {
            let order = self.pick(&["asc", "desc"]);
            args.push(self.spelled(order));
        }
        if store {
            let to = self.pick(&["l", "n", "s"]);
            args.extend(words(&["STORE", &format!("{to}{}", self.rng.below(4))]));
        }
        (name, args)
    }

    /// How often a repeated argument is given.
    fn times(&mut self) -> u64 {
        if self.grows() && self.rng.one_in(3) { 1 + self.rng.below(12) } else { 1 + self.rng.below(3) }
    }

    /// Text of a number, nearly always.
    fn number(&mut self) -> Vec<u8> {
        match self.rng.below(40) {
            0 => self.pick(DOUBLES).into(),
            1..10 => format!("{}", (self.rng.next_u64() as i64 >> self.rng.below(64)) as f64 / 1024.0).into(),
            10..12 => format!("{:e}", f64::from_bits(self.rng.next_u64() >> 2)).into(),
            _ => self.rng.below(40).to_string().into(),
        }
    }

    fn spelled(&mut self, name: &str) -> Vec<u8> {
        if self.rng.one_in(4) { name.to_ascii_uppercase().into() } else { name.into() }
    }

    fn argument(&mut self, spec: &Spec, arg: &Arg, out: &mut Vec<Vec<u8>>) {
        if arg.optional && self.rng.one_in(2) || arg.token.is_some_and(|token| NOT_IN_7_0.contains(&token)) {
            return;
        }
        if arg.token == Some("BYLEX") && !self.lex {
            return;
        }
        let few = arg.kind == ArgKind::Key || spec.name.starts_with("bit");
        let times = if !arg.multiple {
            1
        } else if few {
            1 + self.rng.below(3)
        } else {
            self.times()
        };
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
                    let stored = matches!(arg.name, "destination" | "storekey" | "storedistkey");
                    let key = if stored && spec.docs.group == Group::Geo {
                        // Distances as scores are many places in one, whose order is a matter of chance.
                        format!("d{}", self.rng.below(4)).into()
                    } else if self.lex {
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
            Group::Geo => 'g',
            Group::HyperLogLog => 'p',
            _ => *self.pick(&[&'l', &'e', &'h', &'z', &'s', &'s']),
        };
        let kind = match self.rng.below(12) {
            // The scores of a sorted set that is none of places would be many places in one.
            0 if group == Group::Geo => *self.pick(&[&'l', &'e', &'h', &'s', &'p']),
            0 => *self.pick(&[&'l', &'e', &'h', &'z', &'s']),
            _ => kind,
        };
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
                self.pick(&[
                    "0",
                    "1",
                    "7",
                    "8",
                    "100",
                    "4000",
                    "-1",
                    "-100",
                    "99999999999",
                    "x",
                    "5",
                    "#1",
                    "#70",
                ])
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
            ArgKind::Double if spec.docs.group == Group::Geo => self.geographic(name),
            ArgKind::Double if self.rng.one_in(2) => self.number(),
            ArgKind::Double => self.pick(DOUBLES).into(),
            ArgKind::Pattern => self
                .pick(&["*", "s*", "?1", "[el]0", "l[^0-1]", "m1*", "nosuch", "\\*", "[", ""])
                .as_bytes()
                .to_vec(),
            _ if name == "min" || name == "start" && spec.docs.group == Group::SortedSet => self.bound(),
            _ if name == "max" || name == "stop" && spec.docs.group == Group::SortedSet => self.bound(),
            _ if name == "encoding" => self
                .pick(&[
                    "u1", "i1", "u8", "i8", "i5", "u63", "i64", "u64", "i65", "i0", "x8", "u16", "u4", "i",
                ])
                .into(),
            _ if name == "subcommand" => {
                self.pick(&["ENCODING", "DECODE", "decode", "TODENSE", "GETREG", "nosuch"]).into()
            }
            _ if name == "type" => {
                self.pick(&["string", "list", "SET", "zset", "hash", "nosuch"]).as_bytes().to_vec()
            }
            _ => self.text(),
        }
    }

    /// A coordinate or a length. No two are equal: members at one distance have no order.
    fn geographic(&mut self, name: &str) -> Vec<u8> {
        if self.rng.one_in(25) {
            return self.pick(&["181", "-180.1", "85.06", "-90", "abc", "", "inf", "-1", "1e400"]).into();
        }
        let (around, spread) = match name {
            "longitude" => (self.pick(&["13", "-75", "179", "0"]), 360.0),
            "latitude" => (self.pick(&["38", "-12", "84", "0"]), 170.0),
            _ => return (10f64.powf(self.rng.f64() * 7.0)).to_string().into(),
        };
        let around: f64 = around.parse().expect("a number");
        let near = around + (self.rng.f64() - 0.5) * if self.rng.one_in(4) { spread } else { 4.0 };
        near.clamp(-spread / 2.0, spread / 2.0).to_string().into()
    }

    fn bound(&mut self) -> Vec<u8> {
        self.pick(&[
            "-inf",
            "+inf",
            "0",
            "(1",
            "5",
            "(0",
            "[m1",
            "(m3",
            "-",
            "+",
            "1",
            "-1",
            "2.5",
            "abc",
            "[",
            "(",
            "[m",
            "10",
            "(inf",
            "(-inf",
            "1e400",
            "-1e400",
            "(1e400",
            "nan",
            "3",
            "0.1",
            "(0.30000000000000004",
            "(",
            "[m15",
            "(m20",
            "-0",
            "0x1",
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
                .pick(&["3.5", "-0", "1e5", "00", "\r\n", "a\0\x01", "hello world", "\"", "10.50"])
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

/// Which argument of a command is a cursor.
fn cursor_at(name: &str) -> Option<usize> {
    match name {
        "scan" => Some(1),
        "sscan" | "hscan" | "zscan" => Some(2),
        _ => None,
    }
}

/// Whether a scan ended with this reply.
fn is_last(reply: &[u8]) -> bool {
    reply.starts_with(b"*2\r\n$1\r\n0\r\n")
}

/// The reply in a form in which two right answers are equal.
fn normalise(name: &str, args: &[Vec<u8>], reply: &[u8]) -> Vec<u8> {
    let aggregate = matches!(reply[0], b'*' | b'~' | b'%');
    if UNORDERED.contains(&name) && aggregate {
        let mut items = elements(reply);
        items.sort();
        return items.concat();
    }
    if name == "hgetall" && aggregate {
        let items = elements(reply);
        let mut pairs: Vec<_> = items.chunks(2).collect();
        pairs.sort();
        return pairs.concat().concat();
    }
    if RANDOM.contains(&name) {
        let end = reply.iter().position(|&b| b == b'\r').unwrap_or(reply.len());
        let null = reply[1..].starts_with(b"-1");
        return if reply[0] == b'$' && !null { b"$".to_vec() } else { reply[..end].to_vec() };
    }
    // A cursor is the server's own, and what a scan returns has no order. A scan that ends as it began, though,
    // has shown everything.
    if let Some(at) = cursor_at(name).filter(|_| aggregate) {
        if !is_last(reply) || args.get(at).is_none_or(|cursor| cursor != b"0") {
            return b"scanned".to_vec();
        }
        let both = elements(reply);
        let items = elements(both[1]);
        let number = |score: &[u8]| -> Option<f64> {
            std::str::from_utf8(score).ok()?.split_ascii_whitespace().last()?.parse().ok()
        };
        let mut parts: Vec<Vec<u8>> = match name {
            "hscan" => items.chunks(2).map(|pair| pair.concat()).collect(),
            "zscan" => items
                .chunks(2)
                .map(|pair| [pair[0], &number(pair[1]).expect("a score").to_be_bytes()].concat())
                .collect(),
            _ => items.iter().map(|item| item.to_vec()).collect(),
        };
        parts.sort();
        // While a table is being moved, some may be seen twice.
        parts.dedup();
        return parts.concat();
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
        let number = |word: &[u8]| {
            let text = std::str::from_utf8(word).ok()?.trim();
            text.strip_prefix(',').unwrap_or(text).parse::<f64>().ok()
        };
        let same = |(x, y): (&[u8], &[u8])| x == y || number(x).is_some() && number(x) == number(y);
        if words(ours).count() == words(theirs).count() && words(ours).zip(words(theirs)).all(same) {
            return true;
        }
    }
    match &name[..] {
        // 7.2 refuses the one rank that has no positive counterpart.
        b"lpos" => args.iter().any(|arg| arg == b"-9223372036854775808"),
        // 7.2 knows a fourth argument.
        b"zrank" | b"zrevrank" => args.len() != 3,
        // One of them has seen everything, the other has not.
        b"scan" | b"sscan" | b"hscan" | b"zscan" => {
            ours[0] == b'*' && theirs[0] == b'*' && is_last(ours) != is_last(theirs)
        }
        // 7.2 has small sets and small lists in one listpack.
        b"object" => {
            let key = args.get(2).map_or(&b"-"[..], |key| key);
            let (ours, theirs) = (String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
            let either = |reply: &str, words: &[&str]| {
                words.iter().any(|word| reply.ends_with(&format!("{word}\r\n")))
            };
            match key.first() {
                _ if theirs.contains("quicklist") => either(&ours, &["listpack", "quicklist"]),
                _ if theirs.contains("hashtable") => {
                    either(&ours, &["listpack", "hashtable"]) && key[0] != b'h'
                }
                _ => false,
            }
        }
        _ => false,
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn both((a, b): &mut (Client, Client), args: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let ours = a.command(&slices).unwrap_or_else(|error| panic!("Spinel: {error} after {}", shown(args)));
    let theirs =
        b.command(&slices).unwrap_or_else(|error| panic!("the other server: {error} after {}", shown(args)));
    (ours, theirs)
}

fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| quote::repr(arg)).collect::<Vec<_>>().join(" ")
}

/// The digests of all data, after the keys that are due were met and so removed.
fn digests(clients: &mut (Client, Client)) -> (Vec<u8>, Vec<u8>) {
    for db in 0..16 {
        both(clients, &words(&["SELECT", &db.to_string()]));
        both(clients, &words(&["SCAN", "0", "COUNT", "100000"]));
    }
    both(clients, &words(&["DEBUG", "DIGEST"]))
}

/// The keys whose values differ, or whether they expire, with what each server says of them.
fn differing_keys(clients: &mut (Client, Client)) -> String {
    let mut out = String::new();
    let bytes = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
    for db in 0..16 {
        both(clients, &words(&["SELECT", &db.to_string()]));
        let (x, y) = both(clients, &words(&["KEYS", "*"]));
        let mut keys: Vec<Vec<u8>> =
            elements(&x).into_iter().chain(elements(&y)).map(<[u8]>::to_vec).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let start = key.iter().position(|&b| b == b'\n').expect("a bulk string") + 1;
            let key = &key[start..key.len() - 2];
            let digests = both(clients, &bytes(&[b"DEBUG", b"DIGEST-VALUE", key]));
            let times = both(clients, &bytes(&[b"TTL", key]));
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
                let (x, y) = both(clients, &bytes(view));
                if !x.starts_with(b"-WRONGTYPE") {
                    out += &format!("  spinel {}\n  redis  {}\n", quote::repr(&x), quote::repr(&y));
                }
            }
        }
    }
    out
}

/// How many commands a test sends, and from which seed they come.
fn commands_and_seed() -> (u64, u64) {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (commands, seed) = (number("SPINEL_DIFF_COMMANDS", 20_000), number("SPINEL_DIFF_SEED", 0x5919));
    println!("seed {seed}, {commands} commands");
    (commands, seed)
}

#[test]
fn spinel_answers_as_redis_does() {
    let Some(redis) = support::redis() else {
        eprintln!("no redis-server on the PATH: nothing to compare with");
        return;
    };
    let (commands, seed) = commands_and_seed();
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
    let mut speakers = ["2", "3"].map(|protocol| {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        clients
    });
    let mut observers = (ours.client(), theirs.client());
    // Times in the past are tested: when such keys go must not depend on a timer.
    both(&mut observers, &words(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]));
    let mut grammar = Grammar::new(seed);
    let mut differences: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut history: Vec<String> = Vec::new();
    for i in 0..commands {
        let (name, args) = grammar.request();
        let speaker = &mut speakers[usize::from(grammar.rng.one_in(3))];
        if matches!(name, "object" | "sort" | "sort_ro") {
            // What is allowed to differ goes by the type, and the type by the name. SORT leaves a sorted set as a
            // skiplist in Redis, even a read-only one: only of the `y` nobody asks.
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
            // How many keys that are due have been met is a matter of chance.
            both(speaker, &words(&["SCAN", "0", "COUNT", "100000"]));
        }
        if name.starts_with("sort") {
            // It takes a number that an earlier command found out of range for one of its own, unless one that
            // was in range came in between.
            both(speaker, &words(&["ZUNION", "1", "none", "WEIGHTS", "1"]));
        }
        history.push(shown(&args));
        let (x, y) = both(speaker, &args);
        if normalise(name, &args, &x) != normalise(name, &args, &y) && !known_difference(&args, &x, &y) {
            let text =
                format!("{}\n  spinel {}\n  redis  {}", shown(&args), quote::repr(&x), quote::repr(&y));
            if std::env::var_os("SPINEL_DIFF_HISTORY").is_some() {
                // What happened to the key before.
                let key = format!("\"{}\"", String::from_utf8_lossy(&args[args.len() - 1]));
                history.iter().filter(|line| line.contains(&key)).for_each(|line| println!("{line}"));
                panic!("{text}");
            }
            differences.entry(name).or_default().push(text);
            if differences.values().map(Vec::len).sum::<usize>() >= 40 {
                break;
            }
        }
        if matches!(name, "zadd" | "zincrby" | "geoadd" | "hset" | "hmset" | "sadd") && args.len() > 1 {
            // 7.2 chooses the encoding by what is given, though it be there already or not be taken. A value that
            // is encoded otherwise for that reason goes, for the encodings differ in what becomes of -0.
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
        if i % 1000 == 999 {
            let (x, y) = digests(&mut observers);
            if x != y {
                let last = history.split_off(history.len().saturating_sub(1000)).join("\n");
                let keys = differing_keys(&mut observers);
                panic!(
                    "the data differ after {i} commands, seed {seed}, in\n{keys}\nThe last commands were\n{last}"
                );
            }
            history.clear();
            // 7.0 has no such limit.
            let limit = ["0", "2", "8", "128"][grammar.rng.index(4)].as_bytes();
            observers
                .0
                .command(&[b"CONFIG", b"SET", b"set-max-listpack-entries", limit])
                .expect("Spinel answers");
        }
    }
    let text: Vec<String> = differences.values().flatten().cloned().collect();
    assert!(text.is_empty(), "{} replies differ, seed {seed}:\n{}", text.len(), text.join("\n"));
}

/// Requests on hashes `h0` to `h3`, a string `s`, and fields `f0` to `f7` of which some expire.
struct FieldGrammar {
    rng: Rng,
    /// Requests made.
    made: u64,
}

/// Those that answer when a field expires.
const FIELD_TIMES: &[&str] = &["httl", "hpttl", "hexpiretime", "hpexpiretime"];

impl FieldGrammar {
    fn pick(&mut self, items: &[&'static str]) -> &'static str {
        items[self.rng.index(items.len())]
    }

    fn field(&mut self) -> Vec<u8> {
        match self.rng.below(30) {
            0 => Vec::new(),
            1 => b"-17".to_vec(),
            2 => vec![b'x'; 80],
            n => format!("f{}", n % 8).into(),
        }
    }

    /// A point in time or a span, in a unit that may be too fine or too coarse. Far from now on either side: nothing
    /// expires while the test runs.
    fn time(&mut self, millis: bool, span: bool) -> Vec<u8> {
        if self.rng.one_in(4) {
            return self
                .pick(&[
                    "0",
                    "-1",
                    "1",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9223372036854775",
                    "x",
                    "",
                ])
                .replace('1', if span { "99999999" } else { "1" })
                .into();
        }
        // Whole hours, no two spans alike: which of two expiries is the later one is the same on both servers.
        let hours = self.made * 40_503 % 65_536 + 25;
        let from = if span { 0 } else { 33_177_117_420 };
        let seconds = from + 3600 * hours;
        if millis { seconds * 1000 } else { seconds }.to_string().into()
    }

    /// `FIELDS n field …`, with values if asked for, and the number usually right.
    fn fields(&mut self, with_values: bool) -> Vec<Vec<u8>> {
        let n = 1 + self.rng.below(4);
        let number = if self.rng.one_in(25) {
            self.pick(&["0", "-1", "3", "99", "x", "9223372036854775807"]).into()
        } else {
            n.to_string().into()
        };
        let mut out = vec![self.pick(&["FIELDS", "FIELDS", "fields"]).into(), number];
        for _ in 0..n {
            out.push(self.field());
            if with_values {
                out.push(self.rng.below(300).to_string().into());
            }
        }
        out
    }

    /// `EX s`, `PX ms`, `EXAT t`, `PXAT t`, or the word.
    fn expiration(&mut self, word: &'static str) -> Vec<Vec<u8>> {
        match self.rng.below(6) {
            0 => Vec::new(),
            1 => vec![word.into()],
            n => {
                let (name, millis, span) =
                    [("EX", false, true), ("PX", true, true), ("EXAT", false, false), ("PXAT", true, false)]
                        [n as usize - 2];
                vec![name.into(), self.time(millis, span)]
            }
        }
    }

    fn request(&mut self) -> Request {
        self.made += 1;
        let name = match self.rng.below(40) {
            0 => "del",
            1 => "hdel",
            2 => "hget",
            3 => "hgetall",
            4 => "hincrby",
            5 => "hlen",
            6 => "hsetnx",
            7 => "hincrbyfloat",
            8 => "copy",
            9 => "rename",
            10 => "hmget",
            11 => "object",
            12 => "hstrlen",
            13 => "hexists",
            14..18 => "hset",
            18 => "hgetdel",
            19 | 20 => "hpersist",
            21..23 => "hgetex",
            23..28 => "hsetex",
            28..32 => self.pick(FIELD_TIMES),
            32..34 => "hexpire",
            34..36 => "hpexpire",
            36..38 => "hexpireat",
            _ => "hpexpireat",
        };
        let key: Vec<u8> =
            if self.rng.one_in(40) { b"s".to_vec() } else { format!("h{}", self.rng.below(4)).into() };
        let mut args: Vec<Vec<u8>> = vec![name.into(), key];
        match name {
            "del" | "hgetall" | "hlen" => {}
            "object" => args.insert(1, b"ENCODING".to_vec()),
            "hincrby" => args.extend([self.field(), b"7".to_vec()]),
            "hincrbyfloat" => args.extend([self.field(), b"0.5".to_vec()]),
            "hset" | "hsetnx" => args.extend([self.field(), self.rng.below(300).to_string().into()]),
            "copy" => args.extend([b"h0".to_vec(), b"REPLACE".to_vec()]),
            "rename" => args.push(format!("h{}", self.rng.below(4)).into()),
            "hget" | "hdel" | "hmget" | "hstrlen" | "hexists" => args.push(self.field()),
            "hgetex" => {
                args.extend(self.expiration("PERSIST"));
                args.extend(self.fields(false));
            }
            "hsetex" => {
                let conditions: [&[&'static str]; 2] = [&["NX", "XX"], &["FNX", "FXX"]];
                for words in conditions {
                    if self.rng.one_in(4) {
                        args.push(self.pick(words).into());
                    }
                }
                args.extend(self.expiration("KEEPTTL"));
                args.extend(self.fields(true));
            }
            "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat" => {
                args.push(self.time(name.starts_with("hp"), !name.ends_with("at")));
                if self.rng.one_in(2) {
                    args.push(self.pick(&["NX", "XX", "GT", "LT", "gt"]).into());
                }
                args.extend(self.fields(false));
            }
            _ => args.extend(self.fields(false)),
        }
        if self.rng.one_in(12) {
            self.damage(&mut args);
        }
        (name, args)
    }

    /// An argument behind the key dropped, doubled, swapped with the next or put in. The key stays: one that is named
    /// `FIELDS` Valkey takes for the word.
    fn damage(&mut self, args: &mut Vec<Vec<u8>>) {
        let at = 2 + self.rng.index(args.len() - 1);
        match self.rng.below(4) {
            0 if at < args.len() => drop(args.remove(at)),
            1 if at < args.len() => args.insert(at, args[at].clone()),
            2 if at + 1 < args.len() => args.swap(at, at + 1),
            _ => {
                let word =
                    self.pick(&["NX", "XX", "GT", "EX", "KEEPTTL", "PERSIST", "FIELDS", "FNX", "FXX", "f1"]);
                args.insert(at, word.into());
            }
        }
    }
}

/// Whether two replies that consist of times are equal but for the moment at which they were made.
fn about_equal(ours: &[u8], theirs: &[u8]) -> bool {
    let lines = |reply: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(reply).split("\r\n").map(str::to_owned).collect()
    };
    let number = |line: &str| line.strip_prefix(':')?.parse::<i64>().ok().filter(|&time| time > 5000);
    let (ours, theirs) = (lines(ours), lines(theirs));
    let near =
        |x: &str, y: &str| x == y || number(x).zip(number(y)).is_some_and(|(x, y)| x.abs_diff(y) < 5000);
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(x, y)| near(x, y))
}

#[test]
fn fields_expire_as_in_valkey() {
    let Some(valkey) = support::valkey() else {
        return eprintln!("skipped: no valkey-server to compare with");
    };
    let (commands, seed) = commands_and_seed();
    let options = ["--enable-debug-command", "yes", "--hash-max-listpack-entries", "5"];
    let ours = ServerProcess::start(&support::spinel(), &options);
    let theirs = ServerProcess::start(&valkey, &options);
    let mut speakers = ["2", "3"].map(|protocol| {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        both(&mut clients, &words(&["SET", "s", "string"]));
        clients
    });
    let mut grammar = FieldGrammar { rng: Rng::new(seed), made: 0 };
    let mut differences = Vec::new();
    let mut compare = |speaker: &mut (Client, Client), name: &str, args: &[Vec<u8>]| {
        let (x, y) = both(speaker, args);
        let same = if FIELD_TIMES.contains(&name) {
            about_equal(&x, &y)
        } else {
            normalise(name, args, &x) == normalise(name, args, &y)
        };
        if !same {
            differences.push(format!(
                "{}\n  spinel {}\n  valkey {}",
                shown(args),
                quote::repr(&x),
                quote::repr(&y)
            ));
        }
        differences.len() < 20
    };
    let all_fields: Vec<String> = (0..8).map(|i| format!("f{i}")).chain(["".into(), "-17".into()]).collect();
    for i in 0..commands {
        let (name, args) = grammar.request();
        let speaker = &mut speakers[usize::from(grammar.rng.one_in(3))];
        let mut go_on = compare(speaker, name, &args);
        if i % 200 == 199 {
            for key in ["h0", "h1", "h2", "h3"] {
                go_on &= compare(speaker, "hgetall", &words(&["HGETALL", key]));
                let mut times = words(&["HPEXPIRETIME", key, "FIELDS", &all_fields.len().to_string()]);
                times.extend(all_fields.iter().map(|field| field.clone().into_bytes()));
                go_on &= compare(speaker, "hpexpiretime", &times);
            }
        }
        if !go_on {
            break;
        }
    }
    assert!(differences.is_empty(), "replies differ, seed {seed}:\n{}", differences.join("\n"));
}
