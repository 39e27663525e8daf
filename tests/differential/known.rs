//! Known differences, by command and server, each with its reason.

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
    Known { commands: &["georadius*", "geopos", "geosearch"], servers: &[Redis8_2],
        is: |case| numbers_within(case, 1e-14),
        why: "Redis 8 prints coordinates in their shortest form" },
    Known { commands: &["lrem"], servers: &[Redis8_2, Valkey9_1], is: |case| has(case, "-9223372036854775808"),
        why: "Redis 8 and Valkey 9 refuse the one count that has no positive counterpart" },
    Known { commands: &["sort", "sort_ro"], servers: &[Valkey9_1],
        is: |case| case.theirs.starts_with(b"-ERR One or more scores can't be converted into double"),
        why: "Valkey 9 does not take an empty string for the number 0" },
    Known { commands: &["geo*"], servers: &[Valkey9_1],
        is: |case| case.ours.starts_with(b"-ERR could not decode requested zset member")
            && case.theirs.starts_with(b"-ERR member "),
        why: "Valkey 9 names the member in the error" },
    Known { commands: &["getex"], servers: &[Valkey9_1],
        is: |case| case.theirs.starts_with(b"-ERR ") && (is_null(case.ours) || case.ours.starts_with(b"-WRONGTYPE")),
        why: "Valkey 9 looks at the time before it looks for the key" },
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

fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
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
