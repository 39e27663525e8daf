//! Random commands on streams and their groups: every reply must be equal, and so must the data.
//!
//! [`compare`] sends requests with every option and, now and then, a damaged one. Spinel is restarted from its own
//! files in between, the other server is not; and payloads of DUMP are exchanged. [`wake`] has clients that wait for
//! entries, and others that add entries or take away what they wait for.
//!
//! Ids are given, so that only few of them depend on the time. What tells times is hidden by [`rendered`].

use std::path::{Path, PathBuf};

use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::commands_and_seed;
use crate::known::{self, Case};
use crate::pair::{both, digests, shown, words};
use crate::reply::elements;
use crate::sessions::{CLIENTS, Sessions};
use crate::support::{self, Client, Oracle, ServerProcess};

#[test]
fn streams_are_those_of_redis_7_0() {
    compare(Oracle::Redis7_0);
}

#[test]
fn streams_are_those_of_redis_8_2() {
    compare(Oracle::Redis8_2);
}

#[test]
fn streams_are_those_of_valkey_9_1() {
    compare(Oracle::Valkey9_1);
}

#[test]
fn waiting_readers_are_served_as_in_redis_7_0() {
    wake(Oracle::Redis7_0);
}

#[test]
fn waiting_readers_are_served_as_in_redis_8_2() {
    wake(Oracle::Redis8_2);
}

#[test]
fn waiting_readers_are_served_as_in_valkey_9_1() {
    wake(Oracle::Valkey9_1);
}

const OPTIONS: &[&str] = &["--enable-debug-command", "yes", "--stream-node-max-entries", "5"];

/// Version of Spinel's payloads, which the other server must be able to read.
fn version(oracle: Oracle) -> [&'static str; 2] {
    ["--rdb-save-version", if oracle == Oracle::Redis7_0 { "10" } else { "11" }]
}

/// What is hidden of a reply, so that two correct ones are equal. Times always are.
#[derive(Clone, Copy)]
struct View {
    /// When a consumer was active, which neither 7.0 nor its files tell, nor the log.
    activity: bool,
    /// What a group has read, and has yet to read, which 7.0 and Valkey count by older rules.
    counts: bool,
    /// How many nodes there are. With DELREF and ACKED, Redis 8.2 leaves nodes without entries.
    nodes: bool,
    /// The third of four elements, which XPENDING tells of an entry: how long ago it was delivered.
    third: bool,
}

/// A reply in a form in which two correct replies are equal: without times, and without what differs by version.
fn rendered(oracle: Oracle, args: &[Vec<u8>], reply: &[u8]) -> Vec<u8> {
    let is = |name: &str| args[0].eq_ignore_ascii_case(name.as_bytes());
    // The id is the time.
    if is("XADD") && args.iter().any(|arg| arg == b"*") && reply[0] == b'$' {
        return reply[..1].to_vec();
    }
    let view = View {
        activity: oracle == Oracle::Redis7_0,
        counts: oracle != Oracle::Redis8_2,
        nodes: oracle == Oracle::Redis8_2,
        third: is("XPENDING") && args.len() > 3,
    };
    let mut out = Vec::new();
    render(view, 0, reply, &mut out);
    out
}

fn render(view: View, depth: u32, value: &[u8], out: &mut Vec<u8>) {
    let number =
        |value: &[u8]| std::str::from_utf8(value.strip_prefix(b":")?).ok()?.trim_end().parse::<i64>().ok();
    if !matches!(value[0], b'*' | b'%' | b'~') || value.starts_with(b"*-1") {
        // The time of a delivery.
        let is_time = number(value).is_some_and(|n| n > 1_600_000_000_000 && n < 100_000_000_000_000);
        return out.extend_from_slice(if is_time { b"time " } else { value });
    }
    out.extend_from_slice(&[value[0], b'(']);
    let items = elements(value);
    let mut i = 0;
    while i < items.len() {
        let item = items[i];
        i += 1;
        let text = item.splitn(2, |&b| b == b'\n').nth(1).and_then(|rest| rest.strip_suffix(b"\r\n"));
        let name = text.filter(|_| item[0] == b'$' && i < items.len()).unwrap_or_default();
        if view.activity && matches!(name, b"active-time" | b"inactive") {
            i += 1;
            continue;
        }
        if view.third && depth == 1 && i == 3 {
            out.extend_from_slice(b"idle ");
            continue;
        }
        render(view, depth + 1, item, out);
        let is_hidden = match name {
            b"radix-tree-nodes" => true,
            b"radix-tree-keys" => view.nodes,
            b"lag" | b"entries-read" => view.counts,
            b"seen-time" | b"active-time" | b"idle" | b"inactive" => number(items[i]).is_some_and(|n| n >= 0),
            _ => false,
        };
        if is_hidden {
            out.extend_from_slice(b"hidden ");
            i += 1;
        }
    }
    out.push(b')');
}

/// Spinel on files of its own, which it is restarted from.
struct Restarted {
    dir: PathBuf,
    options: Vec<String>,
    server: Option<ServerProcess>,
}

impl Restarted {
    fn new(oracle: Oracle, seed: u64) -> Restarted {
        let name = format!("spinel-streams-{}-{oracle:?}-{seed}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let options = [OPTIONS, &version(oracle), &oracle.compat()].concat();
        let mut new =
            Restarted { dir, options: options.iter().map(|&word| word.to_owned()).collect(), server: None };
        new.start("no");
        new
    }

    fn start(&mut self, appendonly: &str) {
        // Two servers at once would write the same files.
        self.server = None;
        let dir = self.dir.display().to_string();
        let mut options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        // It is killed, so that what it has answered must be in the file.
        options.extend(["--dir", &dir, "--appendonly", appendonly, "--appendfsync", "no"]);
        self.server = Some(ServerProcess::start(&support::spinel(), &options));
    }

    fn server(&self) -> &ServerProcess {
        self.server.as_ref().expect("it is stopped only to be started")
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        self.server = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const KEYS: [&str; 3] = ["x", "y", "none"];

struct Comparison {
    oracle: Oracle,
    seed: u64,
    ours: Restarted,
    theirs: ServerProcess,
    /// Clients that speak RESP2 and RESP3.
    clients: [(Client, Client); 2],
    /// Whether Spinel's file is the log.
    logs: bool,
    history: Vec<String>,
}

fn connect(ours: &ServerProcess, theirs: &ServerProcess) -> [(Client, Client); 2] {
    ["2", "3"].map(|protocol| {
        let mut clients = (ours.client(), theirs.client());
        both(&mut clients, &words(&["HELLO", protocol]));
        clients
    })
}

impl Comparison {
    /// Sends a request and compares the replies.
    fn step(&mut self, protocol: usize, args: &[Vec<u8>]) {
        self.history.push(shown(args));
        let (x, y) = both(&mut self.clients[protocol], args);
        let case = Case { args, ours: &x, theirs: &y, slack_ms: 0 };
        let same = x == y || rendered(self.oracle, args, &x) == rendered(self.oracle, args, &y);
        if !same && known::reason(self.oracle, &case).is_none() {
            self.fail(&format!("spinel {}\n  theirs {}", quote::repr(&x), quote::repr(&y)));
        }
        if !same && (x[0] == b'-') != (y[0] == b'-') {
            // What the request has changed on one of them would show in later replies.
            both(&mut self.clients[0], &words(&["DEL", "x", "y", "none", "t"]));
        }
    }

    fn say(&mut self, line: &str) {
        self.step(0, &words(&line.split(' ').collect::<Vec<_>>()));
    }

    fn fail(&self, what: &str) -> ! {
        let shown = if std::env::var_os("SPINEL_DIFF_HISTORY").is_some() { usize::MAX } else { 80 };
        let recent = &self.history[self.history.len().saturating_sub(shown)..];
        panic!("seed {}, command {}:\n{}\n  {what}", self.seed, self.history.len(), recent.join("\n"));
    }

    /// Compares all data.
    fn all(&mut self) {
        // Its ids are times.
        self.say("DEL t");
        for key in KEYS {
            self.say(&format!("XINFO STREAM {key} FULL COUNT 0"));
            for group in ["g", "h"] {
                self.say(&format!("XINFO CONSUMERS {key} {group}"));
            }
        }
        let (x, y) = digests(&mut self.clients[0]);
        both(&mut self.clients[0], &words(&["SELECT", "0"]));
        if x != y {
            let keys = both(&mut self.clients[0], &words(&["KEYS", "*"]));
            self.fail(&format!(
                "the data differ, in {}\n  or {}",
                quote::repr(&keys.0),
                quote::repr(&keys.1)
            ));
        }
    }

    /// What Spinel knows of each stream.
    fn ours_whole(&mut self) -> Vec<Vec<u8>> {
        KEYS.iter()
            .map(|key| {
                let full: [&[u8]; 5] = [b"XINFO", b"STREAM", key.as_bytes(), b"FULL", b"COUNT"];
                let reply =
                    self.clients[0].0.command(&[&full[..], &[b"0"]].concat()).expect("Spinel answers");
                // Neither the log nor a file in the format of 7.0 tells when a consumer was active.
                if !self.logs && self.oracle != Oracle::Redis7_0 {
                    return reply;
                }
                let mut out = Vec::new();
                render(
                    // A group that has read more entries than were added has not when the log is replayed.
                    View { activity: true, counts: self.logs, nodes: false, third: false },
                    0,
                    &reply,
                    &mut out,
                );
                out
            })
            .collect()
    }

    /// Restarts Spinel from its own files; nothing may change.
    fn restart(&mut self) {
        let before = self.ours_whole();
        if !self.logs {
            assert_eq!(self.clients[0].0.command(&[b"SAVE"]).expect("Spinel answers"), b"+OK\r\n");
        }
        self.ours.start(if self.logs { "yes" } else { "no" });
        self.clients = connect(self.ours.server(), &self.theirs);
        self.limits();
        let after = self.ours_whole();
        for (before, after) in before.iter().zip(after) {
            if *before != after {
                self.fail(&format!(
                    "before the restart {}\n  after it {}",
                    quote::repr(before),
                    quote::repr(&after)
                ));
            }
        }
        self.all();
    }

    /// Sets the limits of nodes to what Spinel starts with.
    fn limits(&mut self) {
        self.say("CONFIG SET stream-node-max-entries 5");
        self.say("CONFIG SET stream-node-max-bytes 4096");
    }

    /// Makes the log Spinel's file from now on.
    fn log(&mut self) {
        self.limits();
        // Nothing is left of what the log cannot say.
        self.say("DEL x y none");
        let ours = &mut self.clients[0].0;
        assert_eq!(
            ours.command(&[b"CONFIG", b"SET", b"appendonly", b"yes"]).expect("Spinel answers"),
            b"+OK\r\n"
        );
        while !Path::exists(&self.ours.dir.join("appendonlydir").join("appendonly.aof.manifest")) || {
            let info = ours.command(&[b"INFO", b"persistence"]).expect("Spinel answers");
            !String::from_utf8_lossy(&info).contains("aof_rewrite_in_progress:0")
        } {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.logs = true;
    }

    /// Both servers restore what either has dumped.
    fn cross(&mut self, key: &str) {
        self.history.push(format!("DUMP {key}"));
        let dumps = both(&mut self.clients[0], &words(&["DUMP", key]));
        for (by, dump) in [("spinel", dumps.0), ("them", dumps.1)] {
            let Some(start) = dump.iter().position(|&b| b == b'\n').filter(|_| !dump.starts_with(b"$-1"))
            else {
                continue;
            };
            let mut args = words(&["RESTORE", "r", "0"]);
            args.push(dump[start + 1..dump.len() - 2].to_vec());
            args.push(b"REPLACE".to_vec());
            self.history.push(format!("# what {by} dumped"));
            self.step(0, &args);
            self.say("XINFO STREAM r FULL COUNT 0");
        }
        self.say("DEL r");
    }
}

fn compare(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let (commands, seed) = commands_and_seed(8_000);
    let ours = Restarted::new(oracle, seed);
    let theirs = ServerProcess::start(&program, OPTIONS);
    let clients = connect(ours.server(), &theirs);
    let mut comparison = Comparison { oracle, seed, ours, theirs, clients, logs: false, history: Vec::new() };
    let mut grammar = Grammar { rng: Rng::new(seed), oracle, logs: false, newest: 20 };
    for i in 0..commands {
        let mut args = grammar.request();
        // An id that is a time stays in its stream.
        let timed = args.iter().any(|arg| arg == b"*");
        // The log does not tell of reads of a consumer's history, and damage may make one.
        let unlogged = grammar.logs && args[0] == b"XREADGROUP";
        let damaged = grammar.rng.one_in(12) && !timed && !unlogged;
        if damaged {
            grammar.damage(&mut args);
        }
        let name = args[0].to_ascii_uppercase();
        let named = matches!(&name[..], b"XREADGROUP" | b"XCLAIM" | b"XAUTOCLAIM") && args.len() > 3;
        if named && oracle == Oracle::Redis7_0 {
            // 7.0 creates a consumer by other rules, so there is one before.
            for key in KEYS {
                let mut create = words(&["XGROUP", "CREATECONSUMER", key]);
                create.extend_from_slice(&args[2..4]);
                comparison.step(0, &create);
            }
        }
        let protocol = usize::from(grammar.rng.one_in(3));
        comparison.step(protocol, &args);
        if damaged {
            // It may have been about any word.
            let words: Vec<Vec<u8>> =
                WORDS.iter().filter(|&&word| word != "x").map(|&word| word.into()).collect();
            comparison.step(0, &[&[b"DEL".to_vec()], &words[..]].concat());
        }
        if i == commands / 2 {
            // The log tells neither how often a consumer has read its history nor how large nodes were to be.
            grammar.logs = true;
            comparison.log();
        }
        match i % 2_000 {
            1_999 => comparison.restart(),
            n if n % 250 == 249 => comparison.all(),
            _ if grammar.rng.one_in(50) => {
                let key = grammar.pick(&KEYS);
                comparison.cross(&key);
            }
            _ => {}
        }
    }
}

/// Words that damaged requests have.
const WORDS: &[&str] =
    &["COUNT", "STREAMS", "x", "0", "-1", "JUSTID", "FULL", "MAXLEN", "LIMIT", "NOACK", "IDLE"];

struct Grammar {
    rng: Rng,
    oracle: Oracle,
    /// Whether Spinel's file is the log.
    logs: bool,
    /// Milliseconds of the newest ids.
    newest: u64,
}

impl Grammar {
    fn pick(&mut self, items: &[&str]) -> String {
        items[self.rng.index(items.len())].to_owned()
    }

    /// An option, or nothing.
    fn maybe(&mut self, one_in: u64, option: impl FnOnce(&mut Grammar) -> String) -> String {
        if self.rng.below(one_in) == 0 { option(self) } else { String::new() }
    }

    fn id(&mut self) -> String {
        match self.rng.below(20) {
            0 => self.pick(&[
                "0",
                "0-0",
                "18446744073709551615-18446744073709551615",
                "5",
                "-",
                "+",
                "x",
                "1-",
                "1-*",
            ]),
            1 => self.recent().to_string(),
            _ => format!("{}-{}", self.recent(), self.rng.below(3)),
        }
    }

    /// Milliseconds of an id that may be in use.
    fn recent(&mut self) -> u64 {
        self.newest + 3 - self.rng.below(20)
    }

    /// An id for a new entry, which is mostly larger than the others.
    fn new_id(&mut self) -> String {
        if self.rng.one_in(20) {
            return self.id();
        }
        self.newest += self.rng.below(2);
        format!("{}-{}", self.newest, self.rng.below(3))
    }

    fn ids(&mut self) -> String {
        let n = 1 + self.rng.below(4);
        (0..n).map(|_| self.id()).collect::<Vec<_>>().join(" ")
    }

    /// Where a consumer's history is to begin. Behind the greatest id, the others begin anew, or reply null.
    fn position(&mut self) -> String {
        let id = self.id();
        if id.starts_with("18446744073709551615") { "0".to_owned() } else { id }
    }

    fn bound(&mut self) -> String {
        let id = self.id();
        if self.rng.one_in(4) { format!("({id}") } else { id }
    }

    fn number(&mut self) -> String {
        match self.rng.below(12) {
            0 => self.pick(&[
                "-1",
                "0",
                "9223372036854775807",
                "-9223372036854775808",
                "x",
                "576460752303423488",
                "01",
            ]),
            _ => self.rng.below(12).to_string(),
        }
    }

    fn count(&mut self) -> String {
        self.maybe(2, |own| format!("COUNT {}", own.number()))
    }

    fn policy(&mut self) -> String {
        if self.oracle != Oracle::Redis8_2 {
            return String::new();
        }
        self.maybe(3, |own| own.pick(&["KEEPREF", "DELREF", "ACKED", "delref"]))
    }

    fn trim(&mut self) -> String {
        let how = self.pick(&["", "=", "~", "~"]);
        let limit =
            if how == "~" { self.maybe(3, |own| format!("LIMIT {}", own.number())) } else { String::new() };
        let to = if self.rng.one_in(2) {
            format!("MAXLEN {how} {}", self.number())
        } else {
            format!("MINID {how} {}", self.id())
        };
        format!("{to} {limit}")
    }

    /// A time that is either now or long ago, in milliseconds.
    fn idle(&mut self) -> String {
        self.pick(&["0", "0", "10000000", "10000000", "-5", "x"])
    }

    fn request(&mut self) -> Vec<Vec<u8>> {
        let text = self.text();
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    /// A random request on one of a few keys.
    fn text(&mut self) -> String {
        let key = self.pick(&["x", "x", "x", "y", "y", "none"]);
        let (group, consumer) = (self.pick(&["g", "g", "h"]), self.pick(&["a", "b", "c"]));
        let (id, n) = (self.id(), self.number());
        match self.rng.below(if self.oracle == Oracle::Redis8_2 { 44 } else { 41 }) {
            0..6 => format!("XADD {key} {} a {n}", self.new_id()),
            6..9 => {
                let trim = self.maybe(2, Self::trim);
                let (policy, options) = (self.policy(), self.maybe(4, |_| "NOMKSTREAM".to_owned()));
                let end = self.pick(&[
                    "a 1",
                    "a 1 b 2",
                    "a 1 b 2",
                    "c 3",
                    "a",
                    "a 123456789012345678901234567890 b -17 c x",
                ]);
                format!("XADD {key} {options} {policy} {trim} {} {end}", self.new_id())
            }
            9 => format!("XADD {key} {}-* b x", self.newest),
            // The ids of this stream are times.
            10 => format!("XADD t {} * a {n}", self.maybe(2, |own| format!("MAXLEN = {}", own.rng.below(4)))),
            11 => "XLEN t".to_owned(),
            12 => format!("XDEL {key} {}", self.ids()),
            13 | 14 => format!("XTRIM {key} {} {}", self.trim(), self.policy()),
            15 => format!("XRANGE {key} {} {} {}", self.bound(), self.bound(), self.count()),
            16 => format!("XREVRANGE {key} {} {} {}", self.bound(), self.bound(), self.count()),
            17 => format!("XRANGE {key} - + {}", self.count()),
            18 | 19 => {
                let read = self.maybe(4, |own| format!("ENTRIESREAD {}", own.number()));
                let make = self.maybe(2, |_| "MKSTREAM".to_owned());
                let id = self.pick(&["$", "0", &id]);
                let options =
                    if self.rng.one_in(2) { format!("{make} {read}") } else { format!("{read} {make}") };
                format!("XGROUP CREATE {key} {group} {id} {options}")
            }
            20..24 => {
                let ack = self.maybe(4, |_| "NOACK".to_owned());
                format!("XREADGROUP GROUP {group} {consumer} {} {ack} STREAMS {key} >", self.count())
            }
            24 => {
                let from = if self.logs { ">".to_owned() } else { self.position() };
                format!("XREADGROUP GROUP {group} {consumer} {} STREAMS x {key} > {from}", self.count())
            }
            25 if !self.logs => {
                format!(
                    "XREADGROUP GROUP {group} {consumer} {} STREAMS {key} {}",
                    self.count(),
                    self.position()
                )
            }
            25 | 26 => format!("XACK {key} {group} {}", self.ids()),
            27 => format!("XPENDING {key} {group}"),
            28 => {
                let idle = self.maybe(3, |own| format!("IDLE {}", own.idle()));
                let consumer = self.maybe(2, |_| consumer);
                format!("XPENDING {key} {group} {idle} {} {} {n} {consumer}", self.bound(), self.bound())
            }
            29..31 => {
                let mut options = Vec::new();
                for option in [
                    "IDLE 20000000",
                    "TIME 1000",
                    "IDLE x",
                    "RETRYCOUNT 3",
                    "RETRYCOUNT 0",
                    "FORCE",
                    "FORCE",
                    "JUSTID",
                    "LASTID",
                ] {
                    let last = self.id();
                    options.push(self.maybe(6, |_| {
                        if option == "LASTID" { format!("LASTID {last}") } else { option.to_owned() }
                    }));
                }
                format!(
                    "XCLAIM {key} {group} {consumer} {} {} {}",
                    self.idle(),
                    self.ids(),
                    options.join(" ")
                )
            }
            31 => {
                let just = self.maybe(3, |_| "JUSTID".to_owned());
                format!(
                    "XAUTOCLAIM {key} {group} {consumer} {} {} {} {just}",
                    self.idle(),
                    self.bound(),
                    self.count()
                )
            }
            32 => format!("XINFO GROUPS {key}"),
            33 => format!("XINFO CONSUMERS {key} {group}"),
            34 => format!("XINFO STREAM {key}"),
            35 => format!("XINFO STREAM {key} FULL {}", self.count()),
            36 => {
                let any = if self.oracle == Oracle::Redis7_0 { "$" } else { "+" };
                let from = self.pick(&["$", "0", any, &id]);
                format!("XREAD {} STREAMS x {key} {id} {from}", self.count())
            }
            37 => {
                // The log cannot say that a group has read more entries than were added.
                let rare = if self.logs { u64::MAX } else { 2 };
                let added = self.maybe(rare, |own| format!("ENTRIESADDED {}", own.number()));
                let deleted = self.maybe(2, |own| format!("MAXDELETEDID {}", own.id()));
                format!("XSETID {key} {id} {added} {deleted}")
            }
            38 => format!("XLEN {key}"),
            39 | 40 => match self.rng.below(24) {
                0 => format!("DEL {key}"),
                // Redis 8.2 goes on keeping entries for a group that was destroyed.
                1 if self.oracle == Oracle::Redis8_2 => format!("DEL {key}"),
                1 => format!("XGROUP DESTROY {key} {group}"),
                2..4 => format!("XGROUP DELCONSUMER {key} {group} {consumer}"),
                4 => format!("XGROUP CREATECONSUMER {key} {group} {consumer}"),
                5..8 => {
                    let read = self.maybe(2, |own| format!("ENTRIESREAD {}", own.number()));
                    format!("XGROUP SETID {key} {group} {} {read}", self.pick(&["$", &id, &id]))
                }
                8 => "DEBUG RELOAD".to_owned(),
                9 => "COPY x y REPLACE".to_owned(),
                10 => "RENAME y x".to_owned(),
                11 => format!("SET {key} v"),
                12 => format!("TYPE {key}"),
                13 => format!("OBJECT ENCODING {key}"),
                14 => format!("LPUSH {key} v"),
                15 => format!("SORT {key}"),
                16..19 if self.logs => format!("XLEN {key}"),
                16 => "CONFIG SET stream-node-max-entries 3".to_owned(),
                17 => "CONFIG SET stream-node-max-entries 5".to_owned(),
                18 => format!("CONFIG SET stream-node-max-bytes {}", self.pick(&["40", "4096", "0"])),
                _ => format!("XREAD COUNT {n} STREAMS x y {id} 0"),
            },
            41 => format!("XDELEX {key} {} IDS 2 {} {}", self.policy(), self.id(), self.id()),
            42 => format!("XDELEX {key} IDS {n} {}", self.ids()),
            _ => format!("XACKDEL {key} {group} {} IDS 2 {} {}", self.policy(), self.id(), self.id()),
        }
    }

    /// Drops, doubles or replaces an argument.
    fn damage(&mut self, args: &mut Vec<Vec<u8>>) {
        let at = 1 + self.rng.index(args.len() - 1);
        let word = self.pick(WORDS);
        match self.rng.below(4) {
            0 => drop(args.remove(at)),
            1 => args.insert(at, args[at].clone()),
            2 => args[at] = word.into(),
            _ => args.insert(at, word.into()),
        }
    }
}

/// Requests that wait, if there is nothing to read; `T` stands for the timeout, `#` for an id already used.
const READS: &[&str] = &[
    "XREAD BLOCK T STREAMS k $",
    "XREAD COUNT 1 BLOCK T STREAMS k k2 $ $",
    "XREAD BLOCK T STREAMS k2 k # $",
    "XREADGROUP GROUP g c BLOCK T STREAMS k >",
    "XREADGROUP GROUP g c BLOCK T STREAMS k >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK T NOACK STREAMS k >",
    "XREADGROUP GROUP g c BLOCK T STREAMS k0 k1 > >",
    "XREADGROUP GROUP g c BLOCK T STREAMS k 0",
];

/// Requests that add entries, and those that take away what clients wait for. `@` is a new id.
const CHANGES: &[&str] = &[
    "XADD k2 @ a 1",
    "XADD k @ a 1",
    "XADD k @ a 1",
    "XADD k @ a 1",
    "XADD k @ a 1",
    "XADD k MAXLEN 1 @ a 1 b 2",
    "XADD k MAXLEN 0 @ a 1",
    "XDEL k #",
    "XTRIM k MAXLEN 1",
    "XACK k g #",
    "XPENDING k g",
    "XRANGE k - +",
    "XCLAIM k g c 0 #",
    "XAUTOCLAIM k g c 0 0 JUSTID",
    "XSETID k @",
    "XGROUP CREATE k g $ MKSTREAM",
    "XGROUP CREATE k g $ MKSTREAM",
    "XGROUP CREATE k g 0 MKSTREAM",
    "XGROUP DESTROY k g",
    "XGROUP SETID k g $",
    "XGROUP SETID k g 0",
    "XGROUP DELCONSUMER k g c",
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "CLIENT UNBLOCK #ID ERROR",
    "DEL k",
];

/// The same, but 7.0 has other rules for them, as far as clients wait.
const TAKING: &[&str] = &[
    "SET k v",
    "LPUSH k v",
    "RENAME k k",
    "COPY k k REPLACE",
    "COPY k k",
    "MOVE k 1",
    "SELECT 1",
    "SELECT 0",
    "SELECT 0",
    "SWAPDB 0 1",
    "FLUSHDB",
    "FLUSHALL",
    "EXPIRE k 0",
    "PEXPIREAT k 1",
    "RESTORE k",
    "RESTORE k",
];

fn wake(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let (steps, seed) = commands_and_seed(2_000);
    let ours =
        ServerProcess::start(&support::spinel(), &[OPTIONS, &version(oracle), &oracle.compat()].concat());
    let mut sessions = Sessions::new(oracle, ours, ServerProcess::start(&program, OPTIONS));
    let mut rng = Rng::new(seed);
    let mut used = 1;
    for i in 0..steps {
        let free = sessions.free();
        let Some(&who) = free.get(rng.index(free.len().max(1))) else {
            sessions.connect_anew(rng.index(CLIENTS));
            continue;
        };
        let state = sessions.states[who];
        let waits = !state.queues && rng.one_in(4);
        let template = if waits || rng.one_in(12) {
            READS[rng.index(READS.len())]
        } else if rng.one_in(4) && (oracle != Oracle::Redis7_0 || free.len() == CLIENTS) {
            TAKING[rng.index(TAKING.len())]
        } else {
            CHANGES[rng.index(CHANGES.len())]
        };
        // The servers refuse a transaction in another with different words.
        if template == "MULTI" && state.queues {
            continue;
        }
        // 7.0 serves a reader only from the key that has changed.
        if oracle == Oracle::Redis7_0 && template.ends_with("STREAMS k0 k1 > >") {
            continue;
        }
        // Nor does it serve a reader when its group is set back.
        if oracle == Oracle::Redis7_0 && template == "XGROUP SETID k g 0" {
            continue;
        }
        // Nor does it compare the ID with that of a deleted entry, which may be greater when the transaction runs.
        if oracle == Oracle::Redis7_0 && template.starts_with("XSETID") && state.queues {
            continue;
        }
        // Which of several clients blocked on keys of a database is served first depends on chance.
        if template.starts_with("SWAPDB") && (state.queues || free.len() + 1 < CLIENTS) {
            continue;
        }
        // At least two clients stay free.
        let patient = waits && free.len() > 2;
        let timeout = if patient { "0" } else { "5" };
        let mut args: Vec<Vec<u8>> = template
            .split(' ')
            .map(|word| match word {
                "k" => format!("k{}", rng.below(2)).into(),
                "c" => format!("c{}", rng.below(2)).into(),
                "g" => if rng.one_in(5) { "h" } else { "g" }.into(),
                "T" => timeout.into(),
                "@" => {
                    used += 1;
                    format!("{used}-0").into()
                }
                "#" => format!("{}-0", used - rng.below(used.min(4))).into(),
                "#ID" => "#".into(),
                word => word.into(),
            })
            .collect();
        if template.starts_with("RESTORE") {
            let from = format!("k{}", rng.below(2));
            let dump = both(&mut sessions.observers, &words(&["DUMP", &from])).0;
            let Some(start) = dump.iter().position(|&b| b == b'\n').filter(|_| !dump.starts_with(b"$-1"))
            else {
                continue;
            };
            args.extend([b"0".to_vec(), dump[start + 1..dump.len() - 2].to_vec(), b"REPLACE".to_vec()]);
        }
        let reads = READS.contains(&template);
        sessions.states[who].waits = patient;
        sessions.step(who, &args, !patient && (reads || template.starts_with("FLUSH")));
        if i % 500 == 499 && sessions.differences.is_empty() {
            let (x, y) = digests(&mut sessions.observers);
            if x != y {
                sessions.differences.push("the data differ".to_owned());
            }
            both(&mut sessions.observers, &words(&["SELECT", "0"]));
        }
        if sessions.differences.len() >= 4 {
            break;
        }
    }
    sessions.finish(seed);
}
