//! Servers that replicate each other: Spinel with itself, with Redis and with Valkey, in both roles.
//!
//! Writers are at work all the while; when they stop, the data of all servers must become equal. Tests whose server is
//! not installed are skipped, or fail if `CI` is set.
//!
//! `SPINEL_REPLICATION_ROUNDS` sets the number of rounds in which servers are killed (default 4),
//! `SPINEL_REPLICATION_SEED` the first seed.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use spinel::stdx::rng::Rng;
use support::{Client, Oracle, ServerProcess, run, spinel};

/// A server program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Spinel,
    Redis7,
    Redis8,
    Valkey9,
}

impl Kind {
    fn program(self) -> Option<PathBuf> {
        match self {
            Kind::Spinel => Some(spinel()),
            Kind::Redis7 => Oracle::Redis7_0.program(),
            Kind::Redis8 => Oracle::Redis8_2.program(),
            Kind::Valkey9 => Oracle::Valkey9_1.program(),
        }
    }

    /// Whether fields of hashes can expire.
    fn has_expiring_fields(self) -> bool {
        self != Kind::Redis7
    }
}

/// A server that can be killed and started again at its port, with its directory.
struct Server {
    kind: Kind,
    process: Option<ServerProcess>,
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// `None` if the program is not installed.
    fn start(kind: Kind, options: &[&str]) -> Option<Server> {
        kind.program()?;
        let port = support::lasting_port();
        let dir = std::env::temp_dir().join(format!("spinel-replication-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Server { kind, process: None, port, dir, options };
        server.begin();
        Some(server)
    }

    fn begin(&mut self) {
        let program = self.kind.program().expect("it was found before");
        let dir = self.dir.to_str().expect("text").to_owned();
        let common = ["--dir", &dir, "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"];
        let more: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.process =
            Some(ServerProcess::start_at(self.port, &program, None, &[&common[..], &more].concat(), &[]));
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").pid().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("there is such a program").success());
    }

    /// Kills the process, as `kill -9` does.
    fn kill(&mut self) {
        self.signal("-9");
        self.process.as_mut().expect("it runs").wait();
        self.process = None;
    }

    fn client(&self) -> Client {
        self.process.as_ref().expect("it runs").client()
    }

    fn run(&self, line: &str) -> String {
        run(&mut self.client(), line)
    }

    fn log(&self) -> String {
        self.process.as_ref().map_or_else(String::new, ServerProcess::log)
    }

    fn follow(&self, primary: &Server) {
        let reply = self.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
        assert!(reply.starts_with("+OK"), "{reply}");
    }

    /// A number in INFO.
    fn info(&self, field: &str) -> u64 {
        let info = self.run("INFO everything");
        let value = info.split(&format!("\n{field}:")).nth(1).and_then(|rest| rest.split("\r\n").next());
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("INFO has {field}: {info}"))
    }

    /// Waits until the stream of its primary flows.
    #[track_caller]
    fn wait_for_link(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.run("INFO replication").contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "{:?} has no link:\n{}", self.kind, tail(&self.log()));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- {:?} at port {}:\n{}", self.kind, self.port, tail(&self.log()));
        }
        self.process = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Everything that a server holds, by database and key; libraries of functions under the name `functions`.
fn contents(server: &Server, kinds: &[Kind]) -> BTreeMap<String, String> {
    let mut client = server.client();
    let mut out = BTreeMap::new();
    let expiring = kinds.iter().all(|kind| kind.has_expiring_fields());
    for db in 0..16 {
        run(&mut client, &format!("SELECT {db}"));
        for key in strings(&run(&mut client, "KEYS *")) {
            let kind = run(&mut client, &format!("TYPE {key}"));
            let value = match &kind[..] {
                "+string" => run(&mut client, &format!("GET {key}")),
                "+list" => run(&mut client, &format!("LRANGE {key} 0 -1")),
                "+set" => sorted(strings(&run(&mut client, &format!("SMEMBERS {key}")))),
                "+zset" => run(&mut client, &format!("ZRANGE {key} 0 -1 WITHSCORES")),
                "+hash" => {
                    let reply = strings(&run(&mut client, &format!("HGETALL {key}")));
                    let mut fields: Vec<String> = reply.chunks(2).map(|pair| pair.join("=")).collect();
                    if expiring {
                        let names: Vec<&str> = reply.chunks(2).map(|pair| &pair[0][..]).collect();
                        for names in names.chunks(500) {
                            let line =
                                format!("HPEXPIRETIME {key} FIELDS {} {}", names.len(), names.join(" "));
                            let times = run(&mut client, &line);
                            fields.extend(
                                names.iter().zip(times.lines().skip(1)).map(|(a, b)| format!("{a}@{b}")),
                            );
                        }
                    }
                    sorted(fields)
                }
                "+stream" => stream(&run(&mut client, &format!("XINFO STREAM {key} FULL COUNT 0")), kinds),
                // It expired meanwhile.
                "+none" => continue,
                other => panic!("{key} is a {other}"),
            };
            let until = run(&mut client, &format!("PEXPIRETIME {key}"));
            out.insert(format!("{db}/{key}"), format!("{kind} {until} {value}"));
        }
    }
    let functions = strings(&run(&mut client, "FUNCTION LIST WITHCODE"));
    out.insert("functions".to_owned(), sorted(functions));
    out
}

/// The bulk strings of a reply.
fn strings(reply: &str) -> Vec<String> {
    assert!(!reply.starts_with('-'), "{reply}");
    let mut lines = reply.split("\r\n");
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') && line != "$-1" {
            out.extend(lines.next().map(str::to_owned));
        }
    }
    out
}

fn sorted(mut strings: Vec<String>) -> String {
    strings.sort();
    strings.join("\n")
}

/// What XINFO tells of a stream, without its structure in memory, and the times at which consumers were last seen.
/// Where some of `kinds` are not ours, also without what their primaries do not tell replicas: consumers to whom nothing
/// was delivered, and, Redis 7.0, how many entries a group has read.
fn stream(reply: &str, kinds: &[Kind]) -> String {
    let (redis_7, ours) = (kinds.contains(&Kind::Redis7), kinds.iter().all(|&kind| kind == Kind::Spinel));
    let mut out: Vec<&str> = Vec::new();
    let mut lines = reply.lines().filter(|line| !line.starts_with(['*', '%', '$'])).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("radix-tree") || ["seen-time", "active-time"].contains(&line) {
            lines.next();
        } else if redis_7 && ["entries-read", "lag"].contains(&line) {
            // What is not known has no line.
            lines.next_if(|line| line.starts_with(':'));
        } else {
            out.push(line);
            if !ours && let [.., "name", _, "pel-count", ":0", "pending"] = out[..] {
                out.truncate(out.len() - 5);
            }
        }
    }
    out.join("\n")
}

/// Waits until all servers hold the same.
#[track_caller]
fn assert_equal(servers: &[&Server], what: &str) {
    let kinds: Vec<Kind> = servers.iter().map(|server| server.kind).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let all: Vec<_> = servers.iter().map(|server| contents(server, &kinds)).collect();
        let unequal = (1..all.len()).find(|&i| all[i] != all[0]);
        let Some(i) = unequal else { break };
        if Instant::now() > deadline {
            let (a, b) = (&all[0], &all[i]);
            let differing = a.keys().chain(b.keys()).filter(|&key| a.get(key) != b.get(key));
            for key in differing.take(5) {
                let shown = |map: &BTreeMap<String, String>| {
                    map.get(key).map(|value| value.chars().take(600).collect::<String>())
                };
                eprintln!("{key}:\n{:?}\n{:?}", shown(a), shown(b));
            }
            panic!("{what}: {:?} ({} keys) and {:?} ({} keys) differ", kinds[0], a.len(), kinds[i], b.len());
        }
        thread::sleep(Duration::from_millis(100));
    }
    // The digests of others differ in form. Ours contain what is due and has not been removed.
    let alike = |server: &&&Server| matches!(server.kind, Kind::Spinel | Kind::Redis7);
    loop {
        let digests: Vec<String> =
            servers.iter().filter(alike).map(|server| server.run("DEBUG DIGEST")).collect();
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {digests:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

// ---- data -------------------------------------------------------------------------------------

/// Makes values of every type and encoding in several databases, which all of `kinds` can hold.
fn populate(primary: &Server, kinds: &[Kind]) {
    let mut client = primary.client();
    let mut all = |line: &str| {
        let reply = run(&mut client, line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    };
    let long = "v".repeat(100);
    all("SET int 12345");
    all("SET embstr hello");
    all(&format!("SET raw {}", "r".repeat(5000)));
    all(&format!("SET big {}", "b".repeat(1 << 20)));
    all("SETBIT bits 5000 1");
    all("PFADD hll a b c d e");
    all("SET until x PX 10000000");
    all("RPUSH list-small a 1 b 2");
    all("SADD set-ints 1 2 3 100000 -5");
    all("SADD set-small a b 3");
    all("HSET hash-small f 1 g two");
    all("ZADD zset-small 1.5 a -inf b inf c 3 d");
    all("GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
    for i in 0..300 {
        all(&format!("RPUSH list-large {i} {long}"));
        all(&format!("SADD set-large m{i}"));
        all(&format!("HSET hash-large f{i} {i}"));
        all(&format!("ZADD zset-large {i} m{i}"));
        all(&format!("XADD stream {}-1 i {i} text {long}", 1000 + i));
    }
    for i in 0..1000 {
        all(&format!("SADD set-ints-large {}", i * 7));
    }
    for line in [
        "XGROUP CREATE stream g 0",
        "XGROUP CREATE stream behind 1100-1",
        "XREADGROUP GROUP g alice COUNT 20 STREAMS stream >",
        "XREADGROUP GROUP g bob COUNT 5 STREAMS stream >",
        "XACK stream g 1001-1 1002-1",
        "XDEL stream 1003-1 1150-1",
        "XGROUP CREATE made g $ MKSTREAM",
        "SELECT 5",
        "SET k5 v5",
        "HSET h5 a 1",
        "SELECT 15",
        "SET k15 v15 PX 20000000",
        "SELECT 0",
    ] {
        all(line);
    }
    if kinds.iter().all(|kind| kind.has_expiring_fields()) {
        for i in 0..300 {
            all(&format!("HSET expiring-large f{i} {i}"));
        }
        all("HSET expiring-small a 1 b 2 c 3");
        all("HPEXPIRE expiring-small 10000000 FIELDS 2 a b");
        all("HPEXPIRE expiring-large 20000000 FIELDS 3 f1 f2 f3");
        all("HPEXPIRE expiring-large 30 FIELDS 2 f8 f9");
    }
    let code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    let reply = client.command(&[b"FUNCTION", b"LOAD", b"REPLACE", code]).expect("it answers");
    assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
}

/// A random request of a writer; `fields` says whether fields may expire.
fn request(rng: &mut Rng, fields: bool) -> Vec<String> {
    let n = rng.below(40);
    let (small, number) = (rng.below(30), rng.below(1_000_000));
    let line = match rng.below(36) {
        0 => format!("SET s:{n} {number}"),
        1 => format!("SET s:{n} {number} PX {}", 1 + rng.below(400)),
        2 => format!("INCR c:{n}"),
        3 => format!("APPEND a:{small} {number}"),
        4 => format!("DEL a:{small} s:{n}"),
        5 => format!("INCRBYFLOAT f:{n} 0.25"),
        6 => format!("GETDEL s:{n}"),
        7 => format!("RPUSH l:{n} {number} x{small}"),
        8 => format!("LPOP l:{n} 2"),
        9 => format!("LMOVE l:{n} l:{small} LEFT RIGHT"),
        10 => format!("LREM l:{n} 1 x{small}"),
        11 => format!("SADD set:{n} {number} m{small}"),
        12 => format!("SPOP set:{n} 2"),
        13 => format!("SMOVE set:{n} set:{small} m{small}"),
        14 => format!("SUNIONSTORE set:{small} set:{n} set:1"),
        15 => format!("ZADD z:{n} {number} m{small} {small} n{small}"),
        16 => format!("ZPOPMIN z:{n}"),
        17 => format!("ZINCRBY z:{n} 1.5 m{small}"),
        18 => format!("ZREMRANGEBYRANK z:{n} 5 -1"),
        19 => format!("HSET h:{n} f{small} {number} g 1"),
        20 => format!("HINCRBY h:{n} count 1"),
        21 => format!("HDEL h:{n} f{small}"),
        22 | 23 => format!("XADD x:{small} MAXLEN ~ 50 * f {number}"),
        24 => format!("XGROUP CREATE x:{small} g 0 MKSTREAM"),
        25 => format!("XREADGROUP GROUP g c{} COUNT 3 STREAMS x:{small} >", rng.below(3)),
        26 => format!("XAUTOCLAIM x:{small} g c1 0 0 COUNT 2"),
        27 => format!("XTRIM x:{small} MAXLEN 20"),
        28 => format!("PEXPIRE h:{n} {}", 1 + rng.below(2000)),
        29 => format!("EXPIRE z:{n} 1000"),
        30 => format!("PERSIST z:{n}"),
        31 => format!("RENAME s:{n} s:{small}"),
        32 => format!("COPY l:{n} l2:{small} REPLACE"),
        33 => format!("SETBIT bits:{small} {n} 1"),
        34 if fields => format!("HPEXPIRE h:{n} {} FIELDS 1 f{small}", 1 + rng.below(1500)),
        34 => format!("PFADD hll:{small} {number}"),
        _ => {
            let script = "redis.call('INCR', KEYS[1]); redis.call('RPUSH', KEYS[2], ARGV[1]); return 1";
            return ["EVAL", script, "2", &format!("c:{n}"), &format!("l:{n}"), &number.to_string()]
                .map(str::to_owned)
                .to_vec();
        }
    };
    line.split(' ').map(str::to_owned).collect()
}

/// Writes to a server until told to stop; errors do not matter. Returns how many requests were answered.
struct Writers {
    threads: Vec<JoinHandle<u64>>,
    over: Arc<AtomicBool>,
    /// Port of the server that is written to.
    port: Arc<AtomicU16>,
}

impl Writers {
    fn start(port: u16, seed: u64, fields: bool) -> Writers {
        let over = Arc::new(AtomicBool::new(false));
        let port = Arc::new(AtomicU16::new(port));
        let one = |i: u64| {
            let (over, port) = (Arc::clone(&over), Arc::clone(&port));
            thread::spawn(move || write(&mut Rng::new(seed << 8 | i), &over, &port, fields))
        };
        Writers { threads: (0..3).map(one).collect(), over, port }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    }
}

fn write(rng: &mut Rng, over: &AtomicBool, port: &AtomicU16, fields: bool) -> u64 {
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        let to = port.load(Ordering::Relaxed);
        let Ok(mut client) = Client::connect(to) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        while !over.load(Ordering::Relaxed) && to == port.load(Ordering::Relaxed) {
            let mut requests = Vec::new();
            if rng.one_in(6) {
                requests.push(vec!["SELECT".to_owned(), rng.below(4).to_string()]);
            }
            let whole = rng.one_in(5);
            if whole {
                requests.push(vec!["MULTI".to_owned()]);
            }
            for _ in 0..1 + rng.below(8) {
                requests.push(request(rng, fields));
            }
            if whole {
                requests.push(vec!["EXEC".to_owned()]);
            }
            let mut bytes = Vec::new();
            for words in &requests {
                spinel::resp::request::write_request(&mut bytes, words.iter().map(|word| word.as_bytes()));
            }
            if client.send(&bytes).is_err() || requests.iter().any(|_| client.reply().is_err()) {
                break;
            }
            answered += requests.len() as u64;
            thread::sleep(Duration::from_millis(1));
        }
    }
    answered
}

// ---- tests ------------------------------------------------------------------------------------

/// Full and partial synchronisation, then the replica is promoted and the former primary follows it.
fn pair(primary: Kind, replica: Kind, diskless: &str) {
    let what = format!("{primary:?} to {replica:?}, diskless {diskless}");
    let options = ["--repl-diskless-sync", diskless];
    let (Some(a), Some(b)) = (Server::start(primary, &options), Server::start(replica, &options)) else {
        return;
    };
    println!("{what}");
    let kinds = [primary, replica];
    let fields = kinds.iter().all(|kind| kind.has_expiring_fields());
    populate(&a, &kinds);
    b.run("SET gone 1");
    let writers = Writers::start(a.port, 1, fields);
    thread::sleep(Duration::from_millis(100));
    b.follow(&a);
    b.wait_for_link();
    thread::sleep(Duration::from_millis(300));
    assert!(writers.stop() > 100, "{what}: writers were served");
    assert_equal(&[&a, &b], &format!("{what}: full"));
    assert_eq!(a.info("sync_full"), 1, "{what}");

    let writers = Writers::start(a.port, 2, fields);
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(100));
        b.run("CLIENT KILL TYPE master");
        thread::sleep(Duration::from_millis(100));
        b.wait_for_link();
    }
    writers.stop();
    assert_equal(&[&a, &b], &format!("{what}: partial"));
    assert_eq!((a.info("sync_full"), a.info("sync_partial_ok")), (1, 3), "{what}");
    let mut client = a.client();
    run(&mut client, "SET waited 1");
    assert_eq!(run(&mut client, "WAIT 1 10000"), ":1", "{what}");
    assert_eq!(b.run("GET waited"), "$1\r\n1", "{what}");

    // The replica goes on with data of its own; its former primary has nothing that it lacks.
    b.run("REPLICAOF NO ONE");
    b.run("SET own 1");
    b.run("SELECT 3");
    a.follow(&b);
    let writers = Writers::start(b.port, 3, fields);
    a.wait_for_link();
    thread::sleep(Duration::from_millis(200));
    writers.stop();
    assert_equal(&[&b, &a], &format!("{what}: promoted"));
    assert_eq!((b.info("sync_full"), b.info("sync_partial_ok")), (0, 1), "{what}: promoted");
}

#[test]
fn spinel_to_spinel() {
    pair(Kind::Spinel, Kind::Spinel, "yes");
    pair(Kind::Spinel, Kind::Spinel, "no");
}

#[test]
fn spinel_and_redis_7() {
    pair(Kind::Spinel, Kind::Redis7, "yes");
    pair(Kind::Redis7, Kind::Spinel, "no");
}

#[test]
fn spinel_and_redis_8() {
    pair(Kind::Spinel, Kind::Redis8, "no");
    pair(Kind::Redis8, Kind::Spinel, "yes");
}

#[test]
fn spinel_and_valkey_9() {
    pair(Kind::Spinel, Kind::Valkey9, "yes");
    pair(Kind::Valkey9, Kind::Spinel, "yes");
}

/// The one in the middle passes on what it receives; when it is promoted, both others go on from where they stand.
fn chain(kinds: [Kind; 3]) {
    let started: Vec<Server> = kinds.iter().filter_map(|&kind| Server::start(kind, &[])).collect();
    let [a, b, c] = &started[..] else { return };
    println!("{kinds:?}");
    let fields = kinds.iter().all(|kind| kind.has_expiring_fields());
    populate(a, &kinds);
    let writers = Writers::start(a.port, 4, fields);
    b.follow(a);
    c.follow(b);
    b.wait_for_link();
    c.wait_for_link();
    thread::sleep(Duration::from_millis(200));
    b.run("CLIENT KILL TYPE master");
    c.run("CLIENT KILL TYPE master");
    thread::sleep(Duration::from_millis(200));
    b.wait_for_link();
    c.wait_for_link();
    writers.stop();
    assert_equal(&[a, b, c], &format!("{kinds:?}"));
    assert_eq!((b.info("sync_full"), b.info("sync_partial_ok")), (1, 1), "{kinds:?}");
    assert_eq!(a.info("master_repl_offset"), b.info("master_repl_offset"), "{kinds:?}");

    b.run("REPLICAOF NO ONE");
    let writers = Writers::start(b.port, 5, fields);
    a.follow(b);
    a.wait_for_link();
    thread::sleep(Duration::from_millis(1200));
    c.wait_for_link();
    writers.stop();
    assert_equal(&[b, a, c], &format!("{kinds:?}: promoted"));
    assert_eq!(b.info("sync_full"), 1, "{kinds:?}: promoted\n{}", b.log());
}

#[test]
fn chains_of_three() {
    use Kind::{Redis7, Redis8, Spinel, Valkey9};
    chain([Spinel, Spinel, Spinel]);
    chain([Redis7, Spinel, Redis7]);
    chain([Spinel, Redis8, Spinel]);
    chain([Spinel, Spinel, Valkey9]);
    chain([Redis8, Spinel, Redis8]);
}

/// Kills a server at a random moment, or stops it for a while; then either it comes back, or a replica is promoted.
fn round(seed: u64) {
    let rng = &mut Rng::new(seed);
    let partner = [Kind::Spinel, Kind::Redis7, Kind::Redis8, Kind::Valkey9][seed as usize % 4];
    let mut kinds = [Kind::Spinel, Kind::Spinel, partner];
    kinds.swap(2, rng.index(3));
    // A file format of one family is not that of the other, but each server only loads files of its own.
    let logged = if rng.one_in(2) { "yes" } else { "no" };
    let options = [
        "--appendonly",
        logged,
        "--appendfsync",
        "always",
        "--repl-diskless-sync",
        ["yes", "no"][rng.index(2)],
        "--repl-diskless-load",
        ["disabled", "on-empty-db", "swapdb"][rng.index(3)],
    ];
    let mut servers: Vec<Server> = kinds.iter().filter_map(|&kind| Server::start(kind, &options)).collect();
    if servers.len() < 3 {
        return;
    }
    let chained = rng.one_in(2);
    println!("seed {seed}: {kinds:?}, logged {logged}, chained {chained}");
    let fields = kinds.iter().all(|kind| kind.has_expiring_fields());
    populate(&servers[0], &kinds);
    let writers = Writers::start(servers[0].port, seed, fields);
    servers[1].follow(&servers[0]);
    servers[2].follow(&servers[usize::from(chained)]);
    let mut primary = 0;
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(rng.below(600)));
        let victim = rng.index(3);
        if rng.one_in(4) {
            servers[victim].signal("-STOP");
            thread::sleep(Duration::from_millis(rng.below(500)));
            servers[victim].signal("-CONT");
            continue;
        }
        servers[victim].kill();
        if victim == primary && rng.one_in(2) {
            // Which of the others it is does not matter: the rest copies it, if need be.
            primary = (victim + 1 + rng.index(2)) % 3;
            servers[primary].run("REPLICAOF NO ONE");
            writers.port.store(servers[primary].port, Ordering::Relaxed);
            let other = 3 - victim - primary;
            servers[other].follow(&servers[primary]);
            thread::sleep(Duration::from_millis(rng.below(300)));
        }
        servers[victim].begin();
        if victim != primary {
            let target = if chained && rng.one_in(2) { 3 - victim - primary } else { primary };
            let cycle = servers[target]
                .run("INFO replication")
                .contains(&format!("master_port:{}", servers[victim].port));
            let target = if cycle { primary } else { target };
            servers[victim].follow(&servers[target]);
        }
    }
    writers.stop();
    for (s, server) in servers.iter().enumerate() {
        if s != primary {
            server.wait_for_link();
        }
    }
    let mut order: Vec<&Server> = vec![&servers[primary]];
    order.extend(servers.iter().enumerate().filter(|(s, _)| *s != primary).map(|(_, server)| server));
    assert_equal(&order, &format!("seed {seed}"));
}

#[test]
fn data_are_equal_after_kills_of_each_party() {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first = variable("SPINEL_REPLICATION_SEED").unwrap_or(1);
    let rounds = variable("SPINEL_REPLICATION_ROUNDS").unwrap_or(4);
    for seed in first..first + rounds {
        round(seed);
    }
}

/// FAILOVER under load: what was acknowledged before is there afterwards.
fn failover(from: Kind, to: Kind) {
    let (Some(a), Some(b)) = (Server::start(from, &[]), Server::start(to, &[])) else { return };
    println!("{from:?} to {to:?}");
    b.follow(&a);
    b.wait_for_link();
    let over = Arc::new(AtomicBool::new(false));
    let counter = {
        let (mut client, over) = (a.client(), Arc::clone(&over));
        thread::spawn(move || {
            let mut acknowledged = 0;
            while !over.load(Ordering::Relaxed) {
                let Ok(reply) = client.command(&[b"INCR", b"counter"]) else { break };
                match reply.strip_prefix(b":") {
                    Some(n) => acknowledged = String::from_utf8_lossy(n).trim().parse().expect("a number"),
                    // It is a replica now.
                    None => break,
                }
            }
            acknowledged
        })
    };
    thread::sleep(Duration::from_millis(300));
    let reply = a.run(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", b.port));
    assert_eq!(reply, "+OK");
    a.wait_for_link();
    over.store(true, Ordering::Relaxed);
    let acknowledged: u64 = counter.join().expect("it does not panic");
    assert!(acknowledged > 50, "{acknowledged} writes");
    assert!(b.run("ROLE").contains("master"));
    assert_eq!(strings(&b.run("GET counter")), [acknowledged.to_string()], "{from:?} to {to:?}");
    assert_equal(&[&b, &a], "after FAILOVER");
    assert_eq!((b.info("sync_full"), b.info("sync_partial_ok")), (0, 1), "{from:?} to {to:?}");
}

#[test]
fn a_replica_counts_as_good_as_soon_as_it_is_online() {
    let servers = [&["--min-replicas-to-write", "1"][..], &[]].map(|it| Server::start(Kind::Spinel, it));
    let [Some(primary), Some(replica)] = servers else { panic!("it is ours") };
    assert!(primary.run("SET k v").starts_with("-NOREPLICAS"));
    replica.follow(&primary);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !primary.run("INFO replication").contains("state=online") {
        assert!(Instant::now() < deadline, "the replica is online");
    }
    assert_eq!(primary.run("SET k v"), "+OK");
    assert_eq!(primary.info("min_slaves_good_slaves"), 1);
}

#[test]
fn a_failover_loses_nothing() {
    failover(Kind::Spinel, Kind::Spinel);
    failover(Kind::Spinel, Kind::Redis7);
    failover(Kind::Redis7, Kind::Spinel);
}

/// Counts on a server until it is gone; returns how many times it was told so, and how many times at most. The first
/// is in `told`, too.
fn count(mut client: Client, key: &str, from: u64, depth: u64, told: &AtomicU64) -> (u64, u64) {
    let (mut acknowledged, mut sent) = (from, from);
    let mut bytes = Vec::new();
    for _ in 0..depth {
        spinel::resp::request::write_request(&mut bytes, ["INCR", key].iter().map(|word| word.as_bytes()));
    }
    loop {
        sent += depth;
        if client.send(&bytes).is_err() {
            return (acknowledged, sent);
        }
        for _ in 0..depth {
            let Ok(reply) = client.reply() else { return (acknowledged, sent) };
            match reply.strip_prefix(b":") {
                Some(n) => acknowledged = String::from_utf8_lossy(n).trim().parse().expect("a number"),
                None => return (acknowledged, sent),
            }
            told.store(acknowledged, Ordering::Relaxed);
        }
    }
}

/// Whoever is acknowledged with `min-replicas-durable` is acknowledged for good, if the replica that has most takes over.
#[test]
fn what_a_replica_acknowledged_survives_the_primary() {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first = variable("SPINEL_REPLICATION_SEED").unwrap_or(1);
    let rounds = variable("SPINEL_REPLICATION_ROUNDS").unwrap_or(4);
    let options = ["--min-replicas-durable", "1"];
    let mut servers: Vec<Server> =
        (0..3).map(|_| Server::start(Kind::Spinel, &options).expect("it is ours")).collect();
    let mut primary = 0;
    let mut counts = [0; 5];
    for seed in first..first + rounds {
        println!("seed {seed}");
        let rng = &mut Rng::new(seed);
        let replicas = [(primary + 1) % 3, (primary + 2) % 3];
        for replica in replicas {
            servers[replica].follow(&servers[primary]);
        }
        for replica in replicas {
            servers[replica].wait_for_link();
        }
        // The primary takes no writes before it has heard of one of them, within a second.
        let deadline = Instant::now() + Duration::from_secs(20);
        while servers[primary].run("SET round begins").starts_with("-NOREPLICAS") {
            assert!(Instant::now() < deadline, "a replica follows");
            thread::sleep(Duration::from_millis(10));
        }
        let told: Arc<[AtomicU64; 5]> = Arc::default();
        let counters: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(i, &from)| {
                let (client, depth) = (servers[primary].client(), [1, 1, 3, 10, 40][i]);
                let told = Arc::clone(&told);
                thread::spawn(move || count(client, &format!("counter:{i}"), from, depth, &told[i]))
            })
            .collect();
        thread::sleep(Duration::from_millis(50 + rng.below(300)));
        let deadline = Instant::now() + Duration::from_secs(20);
        while told.iter().any(|told| told.load(Ordering::Relaxed) == 0) {
            assert!(Instant::now() < deadline, "all of them count");
            thread::sleep(Duration::from_millis(10));
        }
        if rng.one_in(2) {
            // One of them lags behind.
            servers[replicas[0]].signal("-STOP");
            thread::sleep(Duration::from_millis(rng.below(200)));
        }
        servers[primary].kill();
        servers[replicas[0]].signal("-CONT");
        let counted: Vec<(u64, u64)> =
            counters.into_iter().map(|counter| counter.join().expect("it does not panic")).collect();
        // They apply what has reached them.
        for replica in replicas {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !servers[replica].run("INFO replication").contains("master_link_status:down") {
                assert!(Instant::now() < deadline, "the connection is lost");
            }
        }
        let killed = primary;
        primary = replicas.into_iter().max_by_key(|&it| servers[it].info("slave_repl_offset")).expect("two");
        servers[primary].run("REPLICAOF NO ONE");
        for (i, &(acknowledged, sent)) in counted.iter().enumerate() {
            let found = strings(&servers[primary].run(&format!("GET counter:{i}")));
            let found: u64 = found.first().map_or(0, |text| text.parse().expect("a number"));
            assert!(
                (acknowledged..=sent).contains(&found),
                "seed {seed}: {acknowledged} acknowledged, {sent} sent, {found} found"
            );
            counts[i] = found;
        }
        servers[killed].begin();
    }
    assert!(counts.iter().all(|&count| count >= rounds), "all of them counted: {counts:?}");
}

#[test]
fn wait_counts_who_has_the_write() {
    let start = || Server::start(Kind::Spinel, &[]).expect("it is ours");
    let (a, b, c) = (start(), start(), start());
    b.follow(&a);
    c.follow(&a);
    b.wait_for_link();
    c.wait_for_link();
    let mut client = a.client();
    run(&mut client, "SET k 1");
    assert_eq!(run(&mut client, "WAIT 2 20000"), ":2");
    c.signal("-STOP");
    run(&mut client, "SET k 2");
    assert_eq!(run(&mut client, "WAIT 1 20000"), ":1");
    let asked = Instant::now();
    assert_eq!(run(&mut client, "WAIT 2 300"), ":1");
    assert!(asked.elapsed() >= Duration::from_millis(290));
    c.signal("-CONT");
    assert_eq!(run(&mut client, "WAIT 2 20000"), ":2");
    // Who wrote nothing has nothing to wait for.
    assert_eq!(a.run("WAIT 2 20000"), ":2");
    assert_eq!(c.run("GET k"), "$1\r\n2");
}

// ---- a primary of the test's own --------------------------------------------------------------

/// A primary whose stream is known to the byte.
struct Played {
    listener: TcpListener,
    port: u16,
}

impl Played {
    fn new() -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        Played { listener, port }
    }

    /// Takes the next connection of a replica up to its request for data; returns the words of that. Attempts that the
    /// replica made of its own accord, and gave up when it was told to follow another, are passed over.
    fn greet(&self) -> (BufReader<TcpStream>, Vec<String>) {
        loop {
            let (stream, _) = self.listener.accept().expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket of ours");
            stream.set_nodelay(true).expect("a socket of ours");
            let mut stream = BufReader::new(stream);
            if let Some(words) = introduction(&mut stream) {
                return (stream, words);
            }
        }
    }
}

/// Answers a replica that introduces itself, up to its request for data; `None` if it has gone.
fn introduction(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    loop {
        let words = read_request(stream)?;
        let reply: &[u8] = match &words[0][..] {
            "PING" => b"+PONG\r\n",
            "REPLCONF" => b"+OK\r\n",
            _ => return Some(words),
        };
        stream.get_mut().write_all(reply).ok()?;
    }
}

/// A request of a replica; `None` if it has gone.
fn read_request(stream: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = || {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
            Ok(_) => None,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the replica says something");
                None
            }
        }
    };
    let count: usize = line()?.trim_start_matches('*').parse().expect("a request");
    let word = |_| {
        line()?;
        line()
    };
    (0..count).map(word).collect()
}

/// The stream is cut at each byte, and asked for again from where the replica stands: each request is executed once.
#[test]
fn a_stream_may_be_cut_at_each_byte() {
    const START: usize = 1000;
    let large = "x".repeat(100_000);
    let units: [&[&[&str]]; 13] = [
        &[&["SELECT", "0"]],
        &[&["INCR", "c"]],
        &[&["MULTI"], &["INCR", "c"], &["APPEND", "s", "a"], &["EXEC"]],
        &[&["SELECT", "3"]],
        &[&["APPEND", "s", "b"]],
        &[&["PING"]],
        &[&["MULTI"], &["SELECT", "5"], &["INCR", "c"], &["EXEC"]],
        &[&["INCR", "c"]],
        &[&["APPEND", "large", &large]],
        &[&["REPLCONF", "GETACK", "*"]],
        &[&["MULTI"], &["APPEND", "large", &large], &["INCR", "c"], &["EXEC"]],
        &[&["EVAL", "return redis.call('INCR', KEYS[1])", "1", "c"]],
        &[&["SELECT", "0"], &["INCR", "c"]],
    ];
    let (mut stream, mut ends) = (Vec::new(), vec![0]);
    for unit in units {
        for words in unit {
            spinel::resp::request::write_request(&mut stream, words.iter().map(|word| word.as_bytes()));
            // Each request counts by itself, except for those of a transaction.
            if unit[0] != ["MULTI"] || words == &["EXEC"] {
                ends.push(stream.len());
            }
        }
    }
    let replica = Server::start(Kind::Spinel, &[]).expect("it is ours");
    let primaries = [Played::new(), Played::new()];
    let id = |pass: u64| format!("{pass:040}");
    let mut client = replica.client();
    let follow = |client: &mut Client, port: u16| {
        assert_eq!(run(client, &format!("REPLICAOF 127.0.0.1 {port}")), "+OK");
    };
    let wait_for = |client: &mut Client, what: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !run(client, "INFO replication").contains(what) {
            assert!(Instant::now() < deadline, "no {what}");
        }
    };
    let mut turn = 0;
    for pass in 0..12 {
        let (id, mut rng) = (id(pass), Rng::new(pass));
        println!("seed {pass}");
        turn += 1;
        follow(&mut client, primaries[turn % 2].port);
        let (mut connection, _) = primaries[turn % 2].greet();
        let snapshot = b"REDIS0009\xff\0\0\0\0\0\0\0\0";
        let head = format!("+FULLRESYNC {id} {START}\r\n${}\r\n", snapshot.len());
        connection
            .get_mut()
            .write_all(&[head.as_bytes(), snapshot].concat())
            .expect("the replica waits for it");
        wait_for(&mut client, &id);
        let mut cut = 0;
        loop {
            // The answer may overtake what is on the way from the primary: the link has come up before it ends, and so
            // has been read to its end when it is down.
            wait_for(&mut client, "master_link_status:up");
            connection.get_ref().shutdown(Shutdown::Write).expect("it is open");
            wait_for(&mut client, "master_link_status:down");
            turn += 1;
            follow(&mut client, primaries[turn % 2].port);
            let words;
            (connection, words) = primaries[turn % 2].greet();
            assert_eq!(words[..2], ["PSYNC", &id], "cut at {cut}");
            let offset = words[2].parse::<usize>().expect("a number") - 1 - START;
            let expected = ends.iter().copied().rfind(|&end| end <= cut).expect("the start is one");
            assert_eq!(offset, expected, "cut at {cut}");
            if cut == stream.len() {
                break;
            }
            // One byte more each time, or some more; most of a large argument at once.
            cut += if pass == 0 { 1 } else { 1 + rng.index(200) };
            if stream.get(cut) == Some(&b'x') {
                cut += stream[cut..].iter().take_while(|&&byte| byte == b'x').count() * rng.index(10) / 9;
            }
            cut = cut.min(stream.len());
            let piece = [b"+CONTINUE\r\n", &stream[offset..cut]].concat();
            connection.get_mut().write_all(&piece).expect("the replica reads");
        }
        for (db, key, value) in [(0, "c", "3"), (0, "s", "a"), (3, "s", "b"), (5, "c", "4")] {
            run(&mut client, &format!("SELECT {db}"));
            assert_eq!(strings(&run(&mut client, &format!("GET {key}"))), [value], "{db} {key}");
        }
        run(&mut client, "SELECT 5");
        assert_eq!(run(&mut client, "STRLEN large"), format!(":{}", 2 * large.len()));
    }
}
