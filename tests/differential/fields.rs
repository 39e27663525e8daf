//! Random requests on hashes with fields that expire.

use std::time::Instant;

use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::commands_and_seed;
use crate::grammar::Request;
use crate::pair::{both, shown, words};
use crate::reply::normalise;
use crate::support::{self, Client, Oracle, ServerProcess};

/// Generates requests on hashes `h0` to `h3`, a string `s`, and fields `f0` to `f7`, some of which expire.
struct FieldGrammar {
    rng: Rng,
    /// Number of requests generated.
    made: u64,
}

/// Commands that report when a field expires.
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

    /// A time or a duration, in a unit that may be too fine or too coarse. It is far from now in either direction,
    /// so that nothing expires during the test.
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
        // Whole hours, and no two durations are equal, so that both servers agree on which of two expiries is
        // later.
        let hours = self.made * 40_503 % 65_536 + 25;
        let from = if span { 0 } else { 33_177_117_420 };
        let seconds = from + 3600 * hours;
        if millis { seconds * 1000 } else { seconds }.to_string().into()
    }

    /// `FIELDS n field …`, optionally with values; the number is usually right.
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

    /// `EX s`, `PX ms`, `EXAT t`, `PXAT t`, or `word`.
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

    /// Drops, doubles, swaps or inserts an argument after the key. The key stays, because Valkey takes a key named
    /// `FIELDS` for the keyword.
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

/// Whether two replies that consist of times are equal within two units plus `slack`.
fn about_equal(ours: &[u8], theirs: &[u8], slack: u64) -> bool {
    let lines = |reply: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(reply).split("\r\n").map(str::to_owned).collect()
    };
    let number = |line: &str| line.strip_prefix(':')?.parse::<i64>().ok().filter(|&time| time >= 0);
    let (ours, theirs) = (lines(ours), lines(theirs));
    let near = |x: &str, y: &str| {
        x == y || number(x).zip(number(y)).is_some_and(|(x, y)| x.abs_diff(y) <= 2 + slack)
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(x, y)| near(x, y))
}

#[test]
fn fields_expire_as_in_valkey() {
    compare_with(Oracle::Valkey9_1);
}

#[test]
fn fields_expire_as_in_redis() {
    compare_with(Oracle::Redis8_2);
}

/// Why the encodings of a hash may differ, or `None` if they may not.
fn another_encoding(oracle: Oracle, ours: &[u8], theirs: &[u8]) -> Option<&'static str> {
    let packed = oracle == Oracle::Redis8_2 && theirs.ends_with(b"listpackex\r\n");
    if packed && ours.ends_with(b"hashtable\r\n") {
        return Some("a hash with fields that expire is a table here, however small");
    }
    (packed && ours.ends_with(b"listpack\r\n")).then_some(
        "Redis converts a small hash even if the field is removed at once, because its expiry has passed",
    )
}

fn compare_with(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let (commands, seed) = commands_and_seed(8_000);
    let options = ["--enable-debug-command", "yes", "--hash-max-listpack-entries", "5"];
    let ours = ServerProcess::start(&support::spinel(), &[&options[..], &oracle.compat()].concat());
    let theirs = ServerProcess::start(&program, &options);
    let mut speakers = ["2", "3"].map(|protocol| {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        both(&mut clients, &words(&["SET", "s", "string"]));
        clients
    });
    let mut grammar = FieldGrammar { rng: Rng::new(seed), made: 0 };
    let mut differences = Vec::new();
    let mut longest_ms = 0;
    let mut compare = |speaker: &mut (Client, Client), name: &str, args: &[Vec<u8>]| {
        let sent = Instant::now();
        let (x, y) = both(speaker, args);
        let taken_ms = sent.elapsed().as_millis() as u64;
        longest_ms = longest_ms.max(taken_ms);
        let same = if FIELD_TIMES.contains(&name) {
            about_equal(&x, &y, (longest_ms + taken_ms) / if name.starts_with("hp") { 1 } else { 1000 })
        } else {
            normalise(name, args, &x) == normalise(name, args, &y)
                || (name == "object" && another_encoding(oracle, &x, &y).is_some())
        };
        if !same {
            differences.push(format!(
                "{}\n  spinel {}\n  theirs {}",
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

/// Each server restores hashes with fields that expire which either has dumped.
fn exchange_dumps(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let ours = ServerProcess::start(&support::spinel(), &oracle.compat());
    let theirs = ServerProcess::start(&program, &[]);
    let mut clients = (ours.client(), theirs.client());
    let number = |n: usize| n.to_string();
    for fields in [1, 3, 600] {
        for every in [1, 2] {
            let mut set = words(&["HSET", "h"]);
            for i in 0..fields {
                set.extend(words(&[&format!("f{i}"), &number(i * i)]));
            }
            both(&mut clients, &words(&["DEL", "h", "x", "y"]));
            both(&mut clients, &set);
            for i in (0..fields).step_by(every) {
                let at = number(4_000_000_000_000 + i * 7919 % 100_000);
                both(&mut clients, &words(&["HPEXPIREAT", "h", &at, "FIELDS", "1", &format!("f{i}")]));
            }
            let dumps = both(&mut clients, &words(&["DUMP", "h"]));
            for (name, dump) in [("x", dumps.0), ("y", dumps.1)] {
                let start = dump.iter().position(|&b| b == b'\n').expect("a bulk string") + 1;
                let mut restore = words(&["RESTORE", name, "0"]);
                restore.push(dump[start..dump.len() - 2].to_vec());
                let restored = both(&mut clients, &restore);
                assert_eq!(restored, (b"+OK\r\n".to_vec(), b"+OK\r\n".to_vec()), "{name} of {fields}");
                for i in 0..fields {
                    let field = format!("f{i}");
                    for question in
                        [vec!["HGET", name, &field], vec!["HPEXPIRETIME", name, "FIELDS", "1", &field]]
                    {
                        let (a, b) = both(&mut clients, &words(&question));
                        assert_eq!(a, b, "{question:?}");
                        let expires = i % every == 0;
                        assert!(question.len() == 3 || a.ends_with(b":-1\r\n") != expires, "{question:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn dumps_with_expiries_of_fields_are_exchanged_with_redis() {
    exchange_dumps(Oracle::Redis8_2);
}

#[test]
fn dumps_with_expiries_of_fields_are_exchanged_with_valkey() {
    exchange_dumps(Oracle::Valkey9_1);
}
