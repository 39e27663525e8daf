//! Files and payloads exchanged between servers: from Redis to Spinel and back, and from Valkey to Spinel. Streams are
//! exchanged with all state of their groups.
//!
//! Tests whose server is not installed are skipped, or fail if `CI` is set.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, Oracle, ServerProcess, redis, run, spinel, valkey};

const FILES: [&str; 4] = ["redis-7.0.rdb", "old.rdb", "valkey-9.1.rdb", "valkey-9.1-fields.rdb"];

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("spinel-cross-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn start(&self, binary: &Path, more: &[&str]) -> ServerProcess {
        let dir = self.0.to_str().expect("text");
        let options = [
            "--dir",
            dir,
            "--appendfsync",
            "always",
            "--enable-debug-command",
            "yes",
            "--auto-aof-rewrite-percentage",
            "0",
        ];
        ServerProcess::start(binary, &[&options[..], more].concat())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait_for(client: &mut Client, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !run(client, "INFO persistence").contains(line) {
        assert!(Instant::now() < deadline, "no {line}: {}", run(client, "INFO persistence"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Switches the append-only file on, which writes a base, then appends to it.
fn add(client: &mut Client, tag: &str) {
    run(client, "CONFIG SET appendonly yes");
    wait_for(client, "aof_rewrite_in_progress:0");
    wait_for(client, "aof_last_bgrewrite_status:ok");
    for line in [
        "SELECT 3",
        "SET @s 1 PX 100000000",
        "RPUSH @l a b c",
        "LPOP @l",
        "SADD @set 1 2 x",
        "SPOP @set",
        "ZADD @z 1.5 a inf b",
        "HSET @h f 1 g 2",
        "HINCRBYFLOAT @h f 0.5",
        "MULTI",
        "INCRBYFLOAT @f 0.1",
        "EXPIRE @f 10000",
        "EXEC",
        "SELECT 0",
    ] {
        let reply = run(client, &line.replace('@', tag));
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
}

/// `from` loads the snapshot at `data`, writes an append-only file and appends to it; `to` loads that, rewrites it
/// and appends more; then `from` loads it again, if `back` says that it can read the files of `to`.
fn there_and_back(data: &str, from: &Path, to: &Path, preamble: &str, back: bool) {
    let name = format!("{data}-{preamble}-{}", from.file_name().expect("a file").to_string_lossy());
    let directory = Directory::new(&name);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(data);
    fs::copy(data, directory.0.join("dump.rdb")).expect("a copy");
    let rest = ["--aof-use-rdb-preamble", preamble];
    let ours = [&rest[..], &["--appendonly", "yes", "--rdb-save-version", "10"]].concat();
    let theirs = [&rest[..], &["--appendonly", "yes"]].concat();
    let options = |binary: &Path| if binary == spinel() { ours.clone() } else { theirs.clone() };

    let first = directory.start(from, &rest);
    let mut client = first.client();
    add(&mut client, "first");
    if !back {
        // Valkey's digest formats the score 0.1 differently from Redis and Spinel.
        run(&mut client, "ZREM zset-small tenth");
        run(&mut client, "ZREM zset-large tenth");
        run(&mut client, "CONFIG SET appendonly no");
    }
    // Valkey's digest includes expiries of fields in another form, so the expiries themselves are compared.
    let fields = |client: &mut Client| {
        let expiries = run(client, "HPEXPIRETIME expiring FIELDS 3 a b c");
        (expiries, if back { String::new() } else { run(client, "DEL expiring") })
    };
    let theirs_expire = if back { Default::default() } else { fields(&mut client) };
    let digest = run(&mut client, "DEBUG DIGEST");
    drop(first);

    let second = directory.start(to, &options(to));
    let mut client = second.client();
    if !back {
        assert_eq!(fields(&mut client), theirs_expire, "{name}");
    }
    assert_eq!(run(&mut client, "DEBUG DIGEST"), digest, "{name}");
    run(&mut client, "BGREWRITEAOF");
    wait_for(&mut client, "aof_rewrite_in_progress:0");
    add(&mut client, "second");
    let digest = run(&mut client, "DEBUG DIGEST");
    drop(second);

    if back {
        let third = directory.start(from, &options(from));
        assert_eq!(run(&mut third.client(), "DEBUG DIGEST"), digest, "{name}, and back");
    }
    let again = directory.start(&spinel(), &ours);
    assert_eq!(run(&mut again.client(), "DEBUG DIGEST"), digest, "{name}, by us");
}

#[test]
fn redis_to_us_and_back() {
    let Some(redis) = redis() else { return };
    for data in &FILES[..2] {
        for preamble in ["yes", "no"] {
            there_and_back(data, &redis, &spinel(), preamble, true);
        }
    }
}

#[test]
fn valkey_to_us() {
    let Some(valkey) = valkey() else { return };
    for data in &FILES[2..] {
        // No request in a file of requests creates fields that expire; a snapshot can hold them.
        for preamble in ["yes", "no"] {
            there_and_back(data, &valkey, &spinel(), preamble, false);
        }
    }
}

const STREAMS: [&str; 5] = ["rich", "short", "empty", "made", "gone"];

/// Makes streams with groups, pending entries, tombstones and consumers; the last one has pending entries that no longer
/// exist.
fn make_streams(client: &mut Client) {
    let mut all = |line: &str| {
        let reply = run(client, line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    };
    for i in 1..=400 {
        let more = if i % 3 == 0 { " other x" } else { "" };
        all(&format!("XADD rich {}-{} field {i} name {}{more}", 1000 + i / 4, i, "v".repeat(i % 70)));
    }
    for i in [5, 77, 300] {
        all(&format!("XDEL rich {}-{i}", 1000 + i / 4));
    }
    all("XTRIM rich MAXLEN 350");
    for (group, count) in [("behind", 40), ("far", 120), ("none", 0), ("odd name\t", 3)] {
        let words: [&[u8]; 5] = [b"XGROUP", b"CREATE", b"rich", group.as_bytes(), b"0"];
        client.command(&words).expect("it answers");
        for consumer in ["alice", "bob", "carol"].into_iter().take(if count > 100 { 3 } else { 1 }) {
            let count = count.to_string();
            let words: [&[u8]; 9] = [
                b"XREADGROUP",
                b"GROUP",
                group.as_bytes(),
                consumer.as_bytes(),
                b"COUNT",
                count.as_bytes(),
                b"STREAMS",
                b"rich",
                b">",
            ];
            if count != "0" {
                client.command(&words).expect("it answers");
            }
        }
    }
    for line in [
        "XGROUP CREATECONSUMER rich behind idle",
        "XACK rich far 1020-80 1020-81 1021-85",
        "XCLAIM rich far bob 0 1025-100 RETRYCOUNT 7",
        "XGROUP SETID rich none 1050-200",
        "XADD short 1-1 a b",
        "XGROUP CREATE short g $ ENTRIESREAD 1",
        "XADD short 2-1 a b",
        "XADD empty 5-1 a b",
        "XDEL empty 5-1",
        "XSETID empty 9-9 ENTRIESADDED 77 MAXDELETEDID 6-1",
        "XGROUP CREATE made g $ MKSTREAM",
        "XGROUP CREATECONSUMER made g c",
        "XADD gone 1-1 a b",
        "XADD gone 2-1 a b",
        "XADD gone 3-1 a b",
        "XGROUP CREATE gone g 0",
        "XREADGROUP GROUP g c STREAMS gone >",
        "XDEL gone 2-1",
    ] {
        let reply = run(client, line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
}

/// What XINFO STREAM FULL tells of streams, but for the fields in `but`, and those that tell of the structure in memory.
fn tell(client: &mut Client, streams: &[&str], but: &[&str]) -> Vec<Vec<String>> {
    let one = |stream: &&str| {
        let reply = run(client, &format!("XINFO STREAM {stream} FULL COUNT 0"));
        let mut lines: Vec<String> = Vec::new();
        let mut rest = reply.lines().filter(|line| !line.starts_with(['*', '%', '$'])).map(str::to_owned);
        while let Some(line) = rest.next() {
            if line.starts_with("radix-tree") || but.contains(&&*line) {
                rest.next();
            } else {
                lines.push(line);
            }
        }
        lines
    };
    streams.iter().map(one).collect()
}

fn same(ours: &[Vec<String>], theirs: &[Vec<String>], what: &str) {
    for (a, b) in ours.iter().zip(theirs) {
        let first = a.iter().zip(b).position(|(a, b)| a != b);
        let around =
            |lines: &[String], i: usize| lines[i.saturating_sub(6)..(i + 6).min(lines.len())].to_vec();
        if let Some(i) = first {
            panic!("{what}:\n{:?}\n{:?}", around(a, i), around(b, i));
        }
        assert_eq!(a.len(), b.len(), "{what}");
    }
}

/// The payload of a bulk reply.
fn payload(reply: &[u8]) -> &[u8] {
    let start = reply.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
    &reply[start..reply.len() - 2]
}

/// Streams cross from `from` to `to` in every way.
fn streams_cross(from: &Path, to: &Path, version: &str) {
    let directory =
        Directory::new(&format!("streams-{version}-{}", from.file_name().expect("a file").display()));
    let options = |binary: &Path, more: &[&'static str]| -> Vec<&'static str> {
        let ours = if binary == spinel() {
            ["--rdb-save-version", if version == "10" { "10" } else { "11" }]
        } else {
            ["--save", ""]
        };
        [&ours[..], more].concat()
    };
    let by_requests = ["--aof-use-rdb-preamble", "no"];
    // A consumer's time of the last entry is told and stored since Redis 7.2; requests tell neither time.
    let but: &[&str] = if version == "10" { &["active-time"] } else { &[] };
    let untimed = ["seen-time", "active-time"];

    let first = directory.start(from, &options(from, &by_requests));
    let mut client = first.client();
    make_streams(&mut client);
    let (whole, bare) = (tell(&mut client, &STREAMS, but), tell(&mut client, &STREAMS[..4], &untimed));
    assert_eq!(run(&mut client, "SAVE"), "+OK");
    run(&mut client, "CONFIG SET appendonly yes");
    wait_for(&mut client, "aof_rewrite_in_progress:0");
    wait_for(&mut client, "aof_last_bgrewrite_status:ok");
    let dumps: Vec<_> =
        STREAMS.iter().map(|key| client.command(&[b"DUMP", key.as_bytes()]).expect("it answers")).collect();
    drop(first);

    let second = directory.start(to, &options(to, &[]));
    let mut client = second.client();
    same(&tell(&mut client, &STREAMS, but), &whole, "by a snapshot");
    run(&mut client, "FLUSHALL");
    for (key, dump) in STREAMS.iter().zip(&dumps) {
        let words: [&[u8]; 4] = [b"RESTORE", key.as_bytes(), b"0", payload(dump)];
        assert_eq!(client.command(&words).expect("it answers"), b"+OK\r\n", "{key}");
    }
    same(&tell(&mut client, &STREAMS, but), &whole, "by RESTORE");
    drop(second);

    let third = directory.start(to, &options(to, &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]));
    same(&tell(&mut third.client(), &STREAMS[..4], &untimed), &bare, "by requests");
}

#[test]
fn streams_cross_to_every_server_and_back() {
    for (oracle, version) in [(Oracle::Redis7_0, "10"), (Oracle::Redis8_2, "12"), (Oracle::Valkey9_1, "80")] {
        let Some(other) = oracle.program() else { continue };
        println!("{oracle:?}");
        streams_cross(&spinel(), &other, version);
        streams_cross(&other, &spinel(), version);
    }
}

/// The exemption of keys from eviction survives in our files, and other servers load and follow what has it.
#[test]
fn exemptions_from_eviction_are_kept_by_us_and_ignored_by_others() {
    let others: Vec<PathBuf> = [Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]
        .iter()
        .filter_map(|oracle| oracle.program())
        .collect();
    for preamble in ["yes", "no"] {
        let directory = Directory::new(&format!("exempt-{preamble}"));
        let options = ["--aof-use-rdb-preamble", preamble, "--appendonly", "yes", "--rdb-save-version", "10"];
        let server = directory.start(&spinel(), &options);
        let mut client = server.client();
        let lines = ["SET a 1", "HSET h f 1", "SET e 1 EX 10000", "SET plain 1", "SELECT 3", "SET a 3"];
        for line in lines.iter().chain(&["BLESS SET a NO-EVICT", "SELECT 0", "BLESS SET h NO-EVICT"]) {
            run(&mut client, line);
        }
        run(&mut client, "BGREWRITEAOF");
        wait_for(&mut client, "aof_rewrite_in_progress:0");
        // These are appended to the new base, one inside a transaction and one by a script.
        let script = "EVAL return(redis.call('BLESS','SET',KEYS[1],'NO-EVICT')) 1 e";
        for line in [
            "MULTI",
            "SET t 1",
            "BLESS SET t NO-EVICT",
            "EXEC",
            script,
            "BLESS SET a NO-EVICT",
            "BLESS CLEAR h NO-EVICT",
        ] {
            assert!(!run(&mut client, line).starts_with('-'), "{line}");
        }
        for other in &others {
            let place = Directory::new(&format!("follower-{preamble}"));
            let follower = place.start(other, &["--replicaof", "127.0.0.1", &server.port.to_string()]);
            let mut follower_client = follower.client();
            let follow = |line: &str, follower_client: &mut Client| {
                let deadline = Instant::now() + Duration::from_secs(30);
                while !run(follower_client, line).contains("now") {
                    assert!(Instant::now() < deadline, "{line}: {}", run(follower_client, line));
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            run(&mut client, "SET first now");
            follow("GET first", &mut follower_client);
            for line in ["BLESS SET plain NO-EVICT", "BLESS CLEAR plain NO-EVICT", "SET second now"] {
                run(&mut client, line);
            }
            follow("GET second", &mut follower_client);
            assert!(run(&mut follower_client, "INFO replication").contains("master_link_status:up"));
            run(&mut client, "DEL first second");
            assert!(!follower.log().contains("CRITICAL"), "{}", follower.log());
        }
        let copy = Directory::new(&format!("ours-{preamble}"));
        let ours = copy.start(&spinel(), &["--replicaof", "127.0.0.1", &server.port.to_string()]);
        let mut copied = ours.client();
        wait_for_replica(&mut copied);
        run(&mut client, "BLESS SET plain NO-EVICT");
        run(&mut client, "BLESS CLEAR plain NO-EVICT");
        run(&mut client, "WAIT 1 10000");
        let expected = |client: &mut Client| {
            let mut listed: Vec<String> =
                run(client, "BLESS LIST NO-EVICT").split_whitespace().map(str::to_owned).collect();
            listed.retain(|word| !word.starts_with(['*', '$']));
            listed.sort();
            assert_eq!(listed, ["a", "e", "t"]);
            run(client, "SELECT 3");
            assert!(run(client, "BLESS GET a").contains("NO-EVICT"));
            run(client, "SELECT 0");
        };
        expected(&mut copied);
        expected(&mut client);
        assert_eq!(run(&mut client, "DEBUG RELOAD"), "+OK");
        expected(&mut client);
        drop((ours, server));
        let again = directory.start(&spinel(), &options);
        expected(&mut again.client());
        drop(again);
        for other in &others {
            let theirs = directory.start(other, &["--appendonly", "yes", "--aof-use-rdb-preamble", preamble]);
            let mut client = theirs.client();
            assert_eq!(run(&mut client, "DBSIZE"), ":5");
            assert_eq!(run(&mut client, "GET t"), "$1\r\n1");
        }
    }
}

fn wait_for_replica(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !run(client, "INFO replication").contains("master_link_status:up") {
        assert!(Instant::now() < deadline, "no link: {}", run(client, "INFO replication"));
        std::thread::sleep(Duration::from_millis(20));
    }
}
