//! Random requests from the command table's documentation, and some that it does not produce.

use spinel::commands;
use spinel::server::command::{Arg, ArgKind, Group, Spec};
use spinel::stdx::rng::Rng;

use crate::pair::words;
use crate::reply::RANDOM;
use crate::support::Oracle;

/// Commands that are not sent, because the reply depends on the server, the time or chance, or because the command
/// ends the test.
const SKIPPED: &[&str] = &[
    // The state of the server itself.
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
    // Takes a second on the other server.
    "pfselftest",
    // Generated only by [`Grammar::special`], with a deterministic result.
    "spop",
    "sort",
    "sort_ro",
    // Commands on fields that expire are in [`crate::fields`].
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
    // Commands whose messages arrive at any time, that block, or that begin a state: see [`crate::sessions`].
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "blpop",
    "brpop",
    "blmove",
    "blmovem",
    "brpoplpush",
    "blmpop",
    "bzpopmin",
    "bzpopmax",
    "bzmpop",
    "bzmove",
    "wait",
    // Connects to another server.
    "migrate",
    // The payload contains the format version: see [`crate::sessions`].
    "dump",
    "multi",
    "exec",
    "discard",
];

/// Commands and options that some of the servers lack, and the servers that have them.
const NEWER: &[(&str, &[Oracle])] = &[
    // Of a module.
    ("cl.throttle", &[]),
    // Of Redis 8.12.
    ("bless", &[]),
    // Of no other server.
    ("delprefix", &[]),
    // Of a module in Redis 8; [`crate::vectors`] compares them.
    ("vadd", &[]),
    ("vcard", &[]),
    ("vdim", &[]),
    ("vemb", &[]),
    ("vgetattr", &[]),
    ("vinfo", &[]),
    ("vismember", &[]),
    ("vlinks", &[]),
    ("vrandmember", &[]),
    ("vrange", &[]),
    ("vrem", &[]),
    ("vsetattr", &[]),
    ("vsim", &[]),
    // Of Redis 8.4 and later, and Valkey 9.2.
    ("delex", &[]),
    ("digest", &[]),
    ("increx", &[]),
    ("lmovem", &[]),
    ("sdiffcard", &[]),
    ("sunioncard", &[]),
    ("zmove", &[]),
    ("zmovemember", &[]),
    ("IFNE", &[]),
    ("IFDEQ", &[]),
    ("IFDNE", &[]),
    ("DIFF", &[Oracle::Redis8_2]),
    ("DIFF1", &[Oracle::Redis8_2]),
    ("ANDOR", &[Oracle::Redis8_2]),
    ("ONE", &[Oracle::Redis8_2]),
    ("NOSCORES", &[Oracle::Valkey9_1]),
    ("clusterscan", &[Oracle::Valkey9_1]),
    ("delifeq", &[Oracle::Valkey9_1]),
    ("msetex", &[Oracle::Valkey9_1]),
    ("IFEQ", &[Oracle::Valkey9_1]),
    ("BYPOLYGON", &[Oracle::Valkey9_1]),
    ("NOVALUES", &[Oracle::Redis8_2, Oracle::Valkey9_1]),
    ("WITHSCORE", &[Oracle::Redis8_2, Oracle::Valkey9_1]),
];

/// Integers at the limits of their types.
const EXTREMES: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775807",
    "9223372036854775806",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "4611686018427387904",
    "-1",
    "0",
    "",
    "-0",
    "1e3",
    "nan",
];

/// Commands that set the expiry of a key.
pub const EXPIRING: &[&str] =
    &["set", "setex", "psetex", "getex", "expire", "pexpire", "expireat", "pexpireat", "restore"];

/// Commands that shrink or remove values or databases, except those that also add.
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

/// Commands that enlarge collections.
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

/// Numbers at the limits of a double.
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

/// Number of requests after which growing and shrinking alternate.
const PHASE: u64 = 700;

pub struct Grammar {
    pub rng: Rng,
    /// Index of the argument that holds the number of keys.
    numkeys_at: Option<usize>,
    specs: Vec<&'static Spec>,
    /// Number of requests generated.
    made: u64,
    /// Whether the request orders members by their text, which requires equal scores.
    lex: bool,
    /// Whether to use missing keys, keys of another type, and numbers at the limits.
    extreme: bool,
    oracle: Oracle,
}

/// Whether a server has a command or an option.
fn known_to(oracle: Oracle, word: &str) -> bool {
    NEWER.iter().find(|(name, _)| *name == word).is_none_or(|(_, oracles)| oracles.contains(&oracle))
}

/// Name of a command, and the whole request.
pub type Request = (&'static str, Vec<Vec<u8>>);

impl Grammar {
    pub fn new(seed: u64, oracle: Oracle) -> Self {
        let specs = commands::ALL
            .iter()
            .flat_map(|group| group.iter())
            // Streams have [`crate::streams`].
            .filter(|spec| spec.docs.group != Group::Stream)
            .filter(|spec| !SKIPPED.contains(&spec.name) && spec.subcommands.is_empty())
            .filter(|spec| known_to(oracle, spec.name))
            .collect();
        Grammar { rng: Rng::new(seed), numkeys_at: None, specs, made: 0, lex: false, extreme: false, oracle }
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.rng.index(items.len())]
    }

    /// Whether values grow in the current phase.
    fn grows(&self) -> bool {
        (self.made / PHASE).is_multiple_of(2)
    }

    /// Generates a random request.
    pub fn request(&mut self) -> Request {
        self.made += 1;
        let (name, mut args) = if self.rng.one_in(6) { self.special() } else { self.regular() };
        // Without a count, SPOP depends on chance; sorting a set may need each of its words; the scores of some
        // sets must stay equal.
        let whole = match name {
            "spop" => true,
            "sort" | "sort_ro" => args[1].starts_with(b"e") || args[1].starts_with(b"i"),
            "zadd" => args[1].starts_with(b"y"),
            _ => false,
        };
        if !whole && self.rng.one_in(8) {
            self.damage(&mut args);
            if EXPIRING.contains(&name) {
                // Nothing may expire during the test, nor shortly after.
                for arg in args.iter_mut().skip(2) {
                    let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<i64>().ok());
                    if number.is_some_and(|time| (1..99_999_999).contains(&time)) {
                        *arg = b"99999999".to_vec();
                    }
                }
            }
        }
        // Whether a new expiry is later than the old one must not depend on when each was set: no two spans are equal.
        if matches!(name, "expire" | "pexpire") {
            let span = 101_500_000 + self.made * 40_503 % 65_536 * 1_000_000;
            for arg in args.iter_mut().skip(2) {
                if arg == b"99999999" || arg == b"1000000000" {
                    *arg = span.to_string().into();
                }
            }
        }
        // A listpack turns -0 into 0. Redis 7.2 knows in advance that there will be no listpack, where 7.0 begins
        // with one.
        if name == "zadd" && args.len() > 4 {
            args.iter_mut().filter(|arg| **arg == b"-0").for_each(|arg| *arg = b"0".to_vec());
        }
        // A request that only the other servers refuse must not change Spinel's data: see [`crate::known`].
        if self.oracle != Oracle::Redis7_0 {
            for arg in &mut args {
                let least = name == "lrem" && arg == b"-9223372036854775808";
                let bound = name == "zremrangebyscore" || name == "zrangestore";
                if least || bound && (arg.starts_with(b" ") || arg.starts_with(b"0x")) {
                    *arg = b"1".to_vec();
                }
            }
        }
        // A negative count asks for that many members, however few there are: both servers would take hours.
        let hours = |arg: &Vec<u8>| {
            let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|count| count < -10_000 && count != i64::MIN)
        };
        if RANDOM.contains(&name) && args.iter().any(hours) {
            return self.request();
        }
        (name, args)
    }

    /// Generates a request from the command table.
    fn regular(&mut self) -> Request {
        let spec = self.specs[self.rng.index(self.specs.len())];
        // Emptying everything is tested, but interesting states need time to grow.
        if matches!(spec.name, "flushall" | "flushdb") && !self.rng.one_in(40) {
            return self.regular();
        }
        let against = if self.grows() { SHRINKING } else { GROWING };
        if against.contains(&spec.name) && !self.rng.one_in(8) {
            return self.regular();
        }
        self.lex = spec.name.contains("lex") || spec.name.starts_with("zrange") && self.rng.one_in(3);
        self.numkeys_at = None;
        self.extreme = self.rng.one_in(8);
        let mut args = vec![self.spelled(spec.name)];
        for arg in spec.docs.args {
            self.argument(spec, arg, &mut args);
        }
        (spec.name, args)
    }

    /// Generates a request that the command table never or rarely produces.
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
                        // Redis 7.2 counts the given arguments, even if they repeat.
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
            // All members are removed, so that the rest does not depend on chance.
            8 => ("spop", words(&["SPOP", &format!("e{n}"), "9223372036854775807"])),
            _ => self.sort(),
        }
    }

    /// Generates a SORT with a deterministic result.
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
                // Equal texts keep the order of the list, unless there is a limit.
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

    /// Number of repetitions of a repeatable argument.
    fn times(&mut self) -> u64 {
        if self.grows() && self.rng.one_in(3) { 1 + self.rng.below(12) } else { 1 + self.rng.below(3) }
    }

    /// Text that nearly always is a number.
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
        if arg.optional && self.rng.one_in(2) || arg.token.is_some_and(|token| !known_to(self.oracle, token))
        {
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
                    let known = |arg: &&Arg| arg.token.is_none_or(|token| known_to(self.oracle, token));
                    let choices: Vec<&Arg> = arg.args.iter().filter(known).collect();
                    let chosen = choices[self.rng.index(choices.len())];
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
                        // Distances as scores put many members at one position, where the order depends on chance.
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
        // The number of keys precedes the keys, and must usually be right.
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
        if self.extreme && self.rng.one_in(2) {
            return b"missing".to_vec();
        }
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
        let kind = match self.rng.below(if self.extreme { 2 } else { 12 }) {
            // The scores of a sorted set without positions would put many members at one position.
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
            // Far from now in either direction, so that nothing expires during the test.
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
            // The largest possible bitmap would be allocated on both servers.
            ArgKind::Integer if self.extreme && !self.rng.one_in(4) => {
                let number = self.pick(EXTREMES);
                if number.starts_with("21474836") && name == "offset" {
                    b"4294967296".to_vec()
                } else {
                    number.into()
                }
            }
            ArgKind::Integer if spec.docs.group == Group::Bitmap || name == "offset" => {
                // An offset just below the limit would allocate half a gigabyte on both servers.
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

    /// A coordinate or a length. No two are equal, because members at equal distances have no defined order.
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
