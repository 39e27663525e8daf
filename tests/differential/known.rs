//! Known differences, by command and server, each with its reason. Spinel is told which server it is compared with
//! (`compat-version`); what remains is the same for all of them.

use crate::reply::is_last;
use crate::support::Oracle::{self, Redis7_0, Redis8_2, Valkey9_1};

/// A request with two different replies.
pub struct Case<'a> {
    pub args: &'a [Vec<u8>],
    pub ours: &'a [u8],
    pub theirs: &'a [u8],
    /// Milliseconds by which the times at which the servers set and read expiries may differ.
    pub slack_ms: u64,
}

/// An accepted difference.
struct Known {
    /// Command names in lower case; a trailing `*` matches any ending.
    commands: &'static [&'static str],
    servers: &'static [Oracle],
    /// Whether a case is an instance of this difference.
    is: fn(&Case<'_>) -> bool,
    why: &'static str,
}

impl Case<'_> {
    /// Whether only the other server refuses the request.
    fn only_they_refuse(&self) -> bool {
        self.theirs.starts_with(b"-ERR") && !self.ours.starts_with(b"-ERR")
    }

    /// Whether only Spinel refuses the request.
    fn only_we_refuse(&self) -> bool {
        self.ours.starts_with(b"-ERR") && !self.theirs.starts_with(b"-ERR")
    }

    /// Whether the request has a number of this form after the key.
    fn has_number(&self, is: impl Fn(i64) -> bool) -> bool {
        let number = |arg: &Vec<u8>| std::str::from_utf8(arg).ok()?.parse::<i64>().ok();
        self.args.iter().skip(1).filter_map(number).any(is)
    }
}

const ALL: &[Oracle] = &[Redis7_0, Redis8_2, Valkey9_1];

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    Known { commands: &["ttl", "expiretime"], servers: ALL, is: |case| near(case, 1000),
        why: "times are set and asked for at two moments" },
    Known { commands: &["pttl", "pexpiretime"], servers: ALL, is: |case| near(case, 1),
        why: "times are set and asked for at two moments" },
    Known { commands: &["scan", "sscan", "hscan", "zscan"], servers: ALL,
        is: |case| case.ours[0] == b'*' && case.theirs[0] == b'*' && is_last(case.ours) != is_last(case.theirs),
        why: "the order of a table is its own: one of them has seen everything, the other has not" },
    Known { commands: &["scan", "sscan", "hscan", "zscan"], servers: &[Redis8_2, Valkey9_1],
        is: |case| {
            let cursor = usize::from(!case.args[0].eq_ignore_ascii_case(b"scan")) + 1;
            case.args.get(cursor).is_some_and(|text| text.is_empty() || !text.iter().all(u8::is_ascii_digit))
        },
        why: "cursors with a sign, blanks or nothing in them are read by other rules since Redis 7.4 and Valkey 8" },
    Known { commands: &["zrangebyscore", "zrevrangebyscore", "zcount", "zremrangebyscore", "zrange", "zrangestore"],
        servers: &[Redis8_2, Valkey9_1],
        is: |case| case.args.iter().any(|arg| [&b" "[..], b"0x", b"(0x"].iter().any(|odd| arg.starts_with(odd)))
            && case.theirs.starts_with(b"-ERR min or max is not a float"),
        why: "Redis 8 and Valkey 9 take neither a blank before a score nor hexadecimal ones" },
    Known { commands: &["config"], servers: &[Redis8_2],
        is: |case| contains(case.ours, b"argument must be between 0 and")
            && contains(case.theirs, b"argument must be greater or equal to 0"),
        why: "Redis 8 has another text for negative sizes" },
    Known { commands: &["georadius*", "geopos", "geosearch"], servers: &[Redis8_2],
        is: |case| numbers_within(case, 1e-14),
        why: "Redis 8 prints coordinates in their shortest form" },
    Known { commands: &["sort", "sort_ro"], servers: &[Redis8_2, Valkey9_1],
        is: |case| case.theirs.starts_with(NO_NUMBER) && case.only_they_refuse(),
        why: "Redis 8 and Valkey 9 sort neither hexadecimal numbers nor blanks before one, Valkey 9 no empty string" },
    Known { commands: &["sort", "sort_ro"], servers: &[Redis8_2],
        is: |case| case.ours.starts_with(NO_NUMBER) && case.only_we_refuse(),
        why: "Redis 8 sorts numbers that are out of range for a double" },
    Known { commands: &["sort", "sort_ro"], servers: &[Redis7_0],
        is: |case| case.theirs.starts_with(NO_NUMBER) && case.only_they_refuse(),
        why: "7.0 takes subnormal numbers for out of range" },
    Known { commands: &["lset"], servers: &[Redis8_2, Valkey9_1],
        is: |case| case.ours.starts_with(b"-ERR index out of range") && case.theirs == b"+OK\r\n"
            && case.has_number(|n| i32::try_from(n).is_err()),
        why: "since Redis 7.2, only the low 32 bits of the index count" },
    Known { commands: &["zadd", "zincrby"], servers: &[Valkey9_1],
        is: |case| case.theirs.starts_with(b"-ERR value is not a valid float")
            && case.args.iter().any(|arg| arg.starts_with(b"0x")),
        why: "Valkey 9 takes no hexadecimal scores" },
    Known { commands: &["bitcount"], servers: &[Valkey9_1],
        is: |case| case.ours.starts_with(b"-ERR") && case.theirs.starts_with(b"-ERR"),
        why: "Valkey 9 looks at the unit before it looks at the numbers" },
    Known { commands: &["scan"], servers: &[Valkey9_1],
        is: |case| case.theirs.starts_with(b"-ERR unknown type name"),
        why: "Valkey 9 refuses names of no type" },
    Known { commands: &["zrangeby*", "zrevrangeby*", "zrange", "zrangestore"], servers: &[Valkey9_1],
        is: |case| has(case, "LIMIT") && case.has_number(|n| n < 0),
        why: "Valkey 9 counts a negative offset in a skiplist from the end" },
    Known { commands: &["object"], servers: &[Redis8_2],
        is: |case| ends(case.theirs, "raw") && ends(case.ours, "embstr"),
        why: "Redis 8 has a little less room for strings next to their headers" },
    Known { commands: &["object"], servers: &[Valkey9_1],
        is: |case| ends(case.theirs, "embstr") && ends(case.ours, "raw"),
        why: "Valkey 9 has longer strings next to their keys" },
    Known { commands: &["object"], servers: &[Valkey9_1],
        is: |case| ends(case.theirs, "skiplist") && ends(case.ours, "listpack"),
        why: "Valkey 9 goes by the lengths of members that it does not add" },
    Known { commands: &["object"], servers: ALL,
        is: |case| ends(case.theirs, "skiplist") && ends(case.ours, "listpack") && case.args[2].starts_with(b"l"),
        why: "only the others convert a sorted set in order to sort it" },
    Known { commands: &["object"], servers: &[Redis8_2, Valkey9_1],
        is: |case| ends(case.theirs, "quicklist") && ends(case.ours, "listpack")
            || ends(case.theirs, "listpack") && ends(case.ours, "quicklist"),
        why: "a quicklist that shrinks becomes a listpack when one node is left: where nodes begin is each server's own" },
    Known { commands: &["xread", "xreadgroup"], servers: ALL,
        is: |case| [case.ours, case.theirs].iter().all(|error| contains(error, b" list of streams: for each stream key")),
        why: "each of them tells of the ids that it knows" },
    Known { commands: &["xread"], servers: &[Valkey9_1], is: |case| has(case, "+"),
        why: "Valkey 9 takes for the last entry what has the last id, which may be deleted" },
    Known { commands: &["xread"], servers: &[Redis7_0],
        is: |case| has(case, "+") && case.theirs.starts_with(b"-ERR Invalid stream ID"),
        why: "7.0 does not know the ID" },
    Known { commands: &["*"], servers: &[Redis7_0],
        is: |case| case.theirs.starts_with(b"*1\r\n*2\r\n$2\r\nk") && (case.theirs.ends_with(b"*0\r\n")
            || contains(case.ours, &case.theirs[4..]) || case.ours.starts_with(b"-WRONGTYPE")),
        why: "7.0 serves a reader that waited only from the first key that has changed, even if another has taken all" },
    Known { commands: &["xreadgroup"], servers: &[Redis7_0],
        is: |case| contains(case.ours, b"The + ID is meaningless") && contains(case.theirs, b"-ERR Invalid stream ID"),
        why: "7.0 does not know the ID" },
    Known { commands: &["xsetid"], servers: &[Redis7_0],
        is: |case| [case.ours, case.theirs].iter().all(|error| error.starts_with(b"-ERR The ID specified in XSETID is smaller")),
        why: "7.0 looks at the last entry before it looks at deleted ones" },
    Known { commands: &["xsetid"], servers: &[Redis7_0],
        is: |case| case.ours.starts_with(b"-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
            && case.theirs == b"+OK\r\n",
        why: "7.0 lets the ID be smaller than that of a deleted entry" },
    Known { commands: &["*"], servers: &[Redis7_0],
        is: |case| contains(case.theirs, b"-UNBLOCKED the stream key no longer exists")
            && (contains(case.ours, b"-NOGROUP") || contains(case.ours, b"-WRONGTYPE")),
        why: "7.2 runs a blocked command again when the key is gone, and reports what it finds" },
    Known { commands: &["*"], servers: &[Redis7_0],
        is: |case| contains(case.theirs, b"-NOGROUP the consumer group this client was blocked on no longer exists")
            && contains(case.ours, b"-NOGROUP"),
        why: "7.2 runs a blocked command again when the group is gone, and reports what it finds" },
    Known { commands: &["geo*"], servers: &[Valkey9_1],
        is: |case| case.ours.starts_with(b"-ERR could not decode requested zset member")
            && case.theirs.starts_with(b"-ERR member "),
        why: "Valkey 9 names the member in the error" },
    Known { commands: &["bitcount", "bitpos"], servers: &[Redis7_0],
        is: |case| case.ours.starts_with(b"-ERR") && !case.theirs.starts_with(b"-ERR"),
        why: "7.0 looks for the key before it looks at the numbers" },
    Known { commands: &["*"], servers: &[Redis7_0],
        is: |case| contains(case.theirs, b"message\r\n") || contains(case.theirs, b"invalidate\r\n"),
        why: "7.0 writes what a client is told because of its own request into the midst of the reply" },
    Known { commands: &["z*", "bz*", "exec"], servers: &[Redis7_0], is: same_numbers,
        why: "7.2 prints scores in their shortest form, 7.0 with 17 digits" },
    Known { commands: &["lpos"], servers: &[Redis7_0], is: |case| has(case, "-9223372036854775808"),
        why: "7.2 refuses the one rank that has no positive counterpart" },
    Known { commands: &["zrank", "zrevrank"], servers: &[Redis7_0], is: |case| case.args.len() != 3,
        why: "7.2 knows a fourth argument" },
    Known { commands: &["object"], servers: &[Redis7_0],
        is: |case| ends(case.theirs, "quicklist") && ends(case.ours, "listpack"),
        why: "7.2 has small lists in one listpack" },
    Known { commands: &["object"], servers: &[Redis7_0],
        is: |case| ends(case.theirs, "hashtable") && ends(case.ours, "listpack")
            && !case.args[2].starts_with(b"h"),
        why: "7.2 has small sets in a listpack" },
];

const NO_NUMBER: &[u8] = b"-ERR One or more scores can't be converted into double";

/// The reason why the two replies may differ, or `None` if they may not.
pub fn reason(oracle: Oracle, case: &Case<'_>) -> Option<&'static str> {
    let name = String::from_utf8_lossy(&case.args[0]).to_ascii_lowercase();
    let concerns = |pattern: &&str| {
        pattern.strip_suffix('*').map_or(*pattern == name, |beginning| name.starts_with(beginning))
    };
    KNOWN
        .iter()
        .find(|known| {
            known.servers.contains(&oracle) && known.commands.iter().any(concerns) && (known.is)(case)
        })
        .map(|known| known.why)
}

fn has(case: &Case<'_>, word: &str) -> bool {
    case.args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

fn ends(reply: &[u8], word: &str) -> bool {
    reply.strip_suffix(b"\r\n").is_some_and(|text| text.ends_with(word.as_bytes()))
}

fn contains(reply: &[u8], part: &[u8]) -> bool {
    reply.windows(part.len()).any(|window| window == part)
}

/// Whether both replies are times that differ by at most two units of `unit_ms` milliseconds plus the slack.
fn near(case: &Case<'_>, unit_ms: u64) -> bool {
    let number =
        |reply: &[u8]| std::str::from_utf8(reply.strip_prefix(b":")?).ok()?.trim().parse::<i64>().ok();
    let far = number(case.ours).zip(number(case.theirs)).filter(|&(x, y)| x >= 0 && y >= 0);
    far.is_some_and(|(x, y)| x.abs_diff(y) <= 2 + case.slack_ms / unit_ms)
}

/// Whether the replies differ only in the format of numbers, and so in the lengths of strings.
fn same_numbers(case: &Case<'_>) -> bool {
    numbers_within(case, 0.0)
}

/// Whether the replies differ only in numbers, by at most `distance`.
fn numbers_within(case: &Case<'_>, distance: f64) -> bool {
    fn words(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
        reply.split(|&b| b == b'\n').filter(|line| !line.starts_with(b"$"))
    }
    let number = |word: &[u8]| {
        let text = std::str::from_utf8(word).ok()?.trim();
        text.strip_prefix(',').unwrap_or(text).parse::<f64>().ok()
    };
    let near = |(x, y): (f64, f64)| x == y || (x - y).abs() <= distance;
    let same = |(x, y): (&[u8], &[u8])| x == y || number(x).zip(number(y)).is_some_and(near);
    words(case.ours).count() == words(case.theirs).count()
        && words(case.ours).zip(words(case.theirs)).all(same)
}
