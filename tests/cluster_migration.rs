//! Slots that move as a whole (`CLUSTER MIGRATESLOTS`), between nodes of Spinel, and from and to nodes of Valkey 9 where
//! that is installed; where not, that part is skipped, or fails if `CI` is set.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use spinel::cluster::key_slot;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, lasting_port, run, spinel};

const OPTIONS: &[&str] = &[
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "15000",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];

fn start(binary: &Path) -> ServerProcess {
    ServerProcess::start_at(lasting_port(), binary, None, OPTIONS, &[])
}

/// Waits until `done`.
#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} has not happened");
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask(node: &ServerProcess, line: &str) -> String {
    run(&mut node.client(), line)
}

fn id(node: &ServerProcess) -> String {
    let reply = ask(node, "CLUSTER MYID");
    reply.split_once("\r\n").map_or("", |(_, id)| id).to_owned()
}

/// Two primaries, each with half of the slots.
fn pair(first: &Path, second: &Path) -> [ServerProcess; 2] {
    let nodes = [start(first), start(second)];
    for (i, node) in nodes.iter().enumerate() {
        let (from, to) = (8192 * i, 8192 * (i + 1) - 1);
        assert_eq!(ask(node, &format!("CLUSTER ADDSLOTSRANGE {from} {to}")), "+OK");
        assert_eq!(ask(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1)), "+OK");
    }
    assert_eq!(ask(&nodes[1], &format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port)), "+OK");
    wait("the cluster", || nodes.iter().all(is_ok));
    nodes
}

fn is_ok(node: &ServerProcess) -> bool {
    let info = ask(node, "CLUSTER INFO");
    info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
}

/// A replica of a node.
fn replica_of(node: &ServerProcess) -> ServerProcess {
    let replica = start(&spinel());
    assert_eq!(ask(&replica, &format!("CLUSTER MEET 127.0.0.1 {}", node.port)), "+OK");
    let primary = id(node);
    wait("that a node is known by its name", || {
        ask(&replica, &format!("CLUSTER REPLICATE {primary}")) == "+OK"
    });
    wait("that a replica is linked", || ask(&replica, "INFO replication").contains("master_link_status:up"));
    wait("that it knows the owners of all slots", || is_ok(&replica));
    replica
}

/// A word that is a key in `slot` if it stands in braces.
fn tag(slot: u16) -> String {
    (0..)
        .map(|n: u32| n.to_string())
        .find(|text| key_slot(text.as_bytes()).number() == slot)
        .expect("there is one")
}

/// State and message of the last migration that a node knows of.
fn last(node: &ServerProcess) -> (String, String) {
    let reply = ask(node, "CLUSTER GETSLOTMIGRATIONS");
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let after = |name: &str| {
        let at = lines.iter().position(|line| *line == name);
        at.and_then(|at| lines.get(at + 2)).map_or(String::new(), |text| (*text).to_owned())
    };
    (after("state"), after("message"))
}

/// Moves slots, and waits until that has succeeded at both ends.
fn migrate(from: &ServerProcess, to: &ServerProcess, first: u16, end: u16) {
    let request = format!("CLUSTER MIGRATESLOTS SLOTSRANGE {first} {end} NODE {}", id(to));
    assert_eq!(ask(from, &request), "+OK");
    wait("the end of a migration", || {
        let states = [last(from), last(to)];
        for (state, message) in &states {
            assert!(!["failed", "cancelled"].contains(&state.as_str()), "{state}: {message}\n{}", from.log());
        }
        states.iter().all(|(state, _)| state == "success")
    });
}

/// Keys of every type in a slot.
fn fill(node: &ServerProcess, tag: &str) {
    let mut client = node.client();
    for line in [
        "SET {T}s value",
        "SET {T}n 12345",
        "SET {T}ttl x PX 10000000",
        "RPUSH {T}l a b c d",
        "SADD {T}i 1 2 3",
        "SADD {T}set a b c",
        "HSET {T}h f v g w",
        "ZADD {T}z 1 a 2.5 b",
        "XADD {T}x 1-1 f v",
        "XADD {T}x 2-1 f w",
        "XGROUP CREATE {T}x g 0",
        "XREADGROUP GROUP g c COUNT 1 STREAMS {T}x >",
        "PFADD {T}hll a b c",
    ] {
        let reply = run(&mut client, &line.replace("{T}", &format!("{{{tag}}}")));
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
}

/// What a client sees of the keys of [`fill`].
fn picture(node: &ServerProcess, tag: &str) -> Vec<String> {
    let mut client = node.client();
    [
        "GET {T}s",
        "GET {T}n",
        "LRANGE {T}l 0 -1",
        "SMEMBERS {T}i",
        "SCARD {T}set",
        "HGET {T}h f",
        "HLEN {T}h",
        "ZRANGE {T}z 0 -1 WITHSCORES",
        "XRANGE {T}x - +",
        "XPENDING {T}x g",
        "PFCOUNT {T}hll",
        "PEXPIRETIME {T}ttl",
    ]
    .iter()
    .map(|line| run(&mut client, &line.replace("{T}", &format!("{{{tag}}}"))))
    .collect()
}

/// A client that writes at whichever node serves its key, until it is told to stop; how often each key was changed.
fn write(done: &AtomicBool, ports: [u16; 2], tags: &[String]) -> Vec<u64> {
    let mut clients = ports.map(|port| Client::connect(port).expect("the node takes connections"));
    let mut counts = vec![0; tags.len()];
    let (mut at, mut n) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        n = (n + 1) % tags.len();
        // A list shows a change that is lost, or comes twice.
        let line = match counts[n] % 3 {
            0 => format!("RPUSH {{{}}}w {}", tags[n], counts[n]),
            1 => format!("EVAL return(redis.call('rpush',KEYS[1],ARGV[1])) 1 {{{}}}w {}", tags[n], counts[n]),
            _ => format!("RPUSHX {{{}}}w {}", tags[n], counts[n]),
        };
        let mut reply = run(&mut clients[at], &line);
        if reply.starts_with("-MOVED") {
            at = 1 - at;
            reply = run(&mut clients[at], &line);
        }
        // The new owner may serve the slot before the old one has heard of it, never the other way round.
        assert!(reply.starts_with(':') || reply.starts_with("-MOVED"), "{line}: {reply}");
        counts[n] += u64::from(reply.starts_with(':'));
    }
    counts
}

/// Slots with keys of every type move from the first node to the second one, and back, while clients write.
fn move_there_and_back(first: &Path, second: &Path) {
    let nodes = pair(first, second);
    let tags: Vec<String> = (100..104).map(tag).collect();
    let kept = tag(99);
    for tag in tags.iter().chain([&kept]) {
        fill(&nodes[0], tag);
    }
    // More keys than are sent in one turn, in one slot.
    let mut client = nodes[0].client();
    for group in 0..50 {
        let words: Vec<String> = (0..100).map(|n| format!("{{{}}}k{group}:{n} {n}", tags[0])).collect();
        assert_eq!(run(&mut client, &format!("MSET {}", words.join(" "))), "+OK");
    }
    let before: Vec<_> = tags.iter().map(|tag| picture(&nodes[0], tag)).collect();
    let replica = (first == second).then(|| replica_of(&nodes[1]));
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (done, tags, ports) = (Arc::clone(&done), tags.clone(), [nodes[0].port, nodes[1].port]);
        thread::spawn(move || write(&done, ports, &tags))
    };
    migrate(&nodes[0], &nodes[1], 100, 3000);
    let after: Vec<_> = tags.iter().map(|tag| picture(&nodes[1], tag)).collect();
    assert_eq!(after, before);
    wait("that the old owner has removed the keys", || ask(&nodes[0], "CLUSTER COUNTKEYSINSLOT 100") == ":0");
    assert!(ask(&nodes[0], &format!("GET {{{}}}s", tags[0])).starts_with("-MOVED 100 "));
    assert_eq!(picture(&nodes[0], &kept)[0], "$5\r\nvalue");
    if let Some(replica) = &replica {
        let keys = |node| ask(node, "DBSIZE");
        wait("that the replica has the keys", || keys(replica) == keys(&nodes[1]));
    }
    migrate(&nodes[1], &nodes[0], 100, 3000);
    done.store(true, Ordering::Relaxed);
    let counts = writer.join().expect("no panic");
    let again: Vec<_> = tags.iter().map(|tag| picture(&nodes[0], tag)).collect();
    assert_eq!(again, before);
    for (tag, count) in tags.iter().zip(counts) {
        assert!(count > 10, "the writer came to something");
        let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let reply = ask(&nodes[0], &format!("LRANGE {{{tag}}}w 0 -1"));
        let found: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
        assert_eq!(found, expected);
    }
    wait("that the old owner has removed the keys", || ask(&nodes[1], "DBSIZE") == ":0");
    if let Some(replica) = &replica {
        wait("that the replica has none", || ask(replica, "DBSIZE") == ":0");
    }
}

#[test]
fn slots_move_between_nodes_of_ours() {
    move_there_and_back(&spinel(), &spinel());
}

/// The old owner of slots removes their keys in slices, not while data must not change, and before the slots return.
#[test]
fn keys_left_behind_are_not_seen_and_do_not_outlive_a_return() {
    const KEYS: usize = 5000;
    let nodes = pair(&spinel(), &spinel());
    let tag = tag(100);
    let mut client = nodes[0].client();
    for group in 0..KEYS / 100 {
        let words: Vec<String> = (0..100).map(|n| format!("{{{tag}}}{group}:{n} {n}")).collect();
        assert_eq!(run(&mut client, &format!("MSET {}", words.join(" "))), "+OK");
    }
    let count = |node: &ServerProcess| ask(node, "CLUSTER COUNTKEYSINSLOT 100");
    assert_eq!(ask(&nodes[0], "CLIENT PAUSE 600000 WRITE"), "+OK");
    migrate(&nodes[0], &nodes[1], 100, 100);
    assert_eq!(count(&nodes[0]), format!(":{KEYS}"));
    assert_eq!(ask(&nodes[0], "DBSIZE"), ":0");
    assert_eq!(ask(&nodes[0], "SCAN 0 COUNT 100000"), "*2\r\n$1\r\n0\r\n*0");
    assert!(ask(&nodes[0], &format!("GET {{{tag}}}0:1")).starts_with("-MOVED 100 "));
    assert_eq!(ask(&nodes[1], &format!("DEL {{{tag}}}0:1")), ":1");
    // The slot returns as soon as data may change again. What comes must not be taken for what is left.
    let request = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 100 100 NODE {}", id(&nodes[0]));
    assert_eq!(ask(&nodes[1], &request), "+OK");
    wait("that what is left goes first", || count(&nodes[0]) == ":0");
    assert_eq!(ask(&nodes[0], "CLIENT UNPAUSE"), "+OK");
    let expected = format!(":{}", KEYS - 1);
    wait("that the keys return", || ask(&nodes[0], "DBSIZE") == expected);
    wait("that the other node removes them", || count(&nodes[1]) == ":0");
    assert_eq!(count(&nodes[0]), expected);
    assert_eq!(ask(&nodes[0], &format!("GET {{{tag}}}0:1")), "$-1");
}

#[test]
fn slots_move_to_and_from_valkey() {
    if let Some(valkey) = support::valkey() {
        move_there_and_back(&spinel(), &valkey);
    }
}

/// The part of a source, played by the test.
struct Source {
    client: Client,
    name: String,
}

impl Source {
    fn establish(target: &ServerProcess, source: &str, digit: char, slots: &str) -> Source {
        let mut client = target.client();
        let name: String = std::iter::repeat_n(digit, 40).collect();
        let request = format!("CLUSTER SYNCSLOTS ESTABLISH SOURCE {source} NAME {name} SLOTSRANGE {slots}");
        assert_eq!(run(&mut client, &request), "+OK");
        Source { client, name }
    }

    fn send(&mut self, line: &str) {
        let words = spinel::stdx::quote::split_args(line.as_bytes()).expect("balanced quotes");
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(&word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.client.send(&bytes).expect("the target is there");
    }

    /// The word that the target says.
    fn hear(&mut self) -> String {
        let reply = self.client.reply().expect("the target speaks");
        let text = String::from_utf8_lossy(&reply).into_owned();
        text.trim_end().rsplit("\r\n").next().unwrap_or_default().to_owned()
    }

    fn is_closed(&mut self) -> bool {
        self.client.reply().is_err()
    }
}

#[test]
fn keys_are_not_seen_before_the_slots_are_taken() {
    let nodes = pair(&spinel(), &spinel());
    let replica = replica_of(&nodes[1]);
    let (target, other) = (&nodes[1], id(&nodes[0]));
    let mut source = Source::establish(target, &other, '1', "100 101");
    source.send("CLUSTER SYNCSLOTS ACK");
    assert_eq!(source.hear(), "ACK");
    let key = format!("{{{}}}k", tag(100));
    source.send(&format!("SET {key} v"));
    wait("that the key is there", || ask(target, "CLUSTER COUNTKEYSINSLOT 100") == ":1");
    wait("that the replica has it", || ask(&replica, "CLUSTER COUNTKEYSINSLOT 100") == ":1");
    for node in [target, &replica] {
        assert_eq!(ask(node, "DBSIZE"), ":0");
        assert_eq!(ask(node, "KEYS *"), "*0");
        assert_eq!(ask(node, &format!("KEYS {key}")), "*0");
        assert_eq!(ask(node, &format!("SCAN 0 MATCH {{{}}}*", tag(100))), "*2\r\n$1\r\n0\r\n*0");
        assert_eq!(ask(node, "RANDOMKEY"), "$-1");
        assert!(ask(node, &format!("GET {key}")).starts_with("-MOVED 100 "));
    }
    assert_eq!(last(&replica).0, "occurring-on-primary");
    assert_eq!(last(target).0, "receiving-snapshot");
    assert_eq!(
        ask(target, &format!("CLUSTER SETSLOT 100 IMPORTING {other}")),
        "-ERR Slot import in progress."
    );
    // A replica that comes while it goes on hides them, too.
    let late = replica_of(target);
    wait("that the late replica has the key", || ask(&late, "CLUSTER COUNTKEYSINSLOT 100") == ":1");
    assert_eq!((ask(&late, "DBSIZE"), last(&late).0), (":0".to_owned(), "occurring-on-primary".to_owned()));

    source.send("CLUSTER SYNCSLOTS SNAPSHOT-EOF");
    assert_eq!(source.hear(), "REQUEST-PAUSE");
    source.send("CLUSTER SYNCSLOTS PAUSED");
    assert_eq!(source.hear(), "REQUEST-FAILOVER");
    source.send("CLUSTER SYNCSLOTS FAILOVER-GRANTED");
    assert!(source.is_closed());
    assert_eq!((last(target).0, ask(target, "DBSIZE")), ("success".to_owned(), ":1".to_owned()));
    assert_eq!(ask(target, &format!("GET {key}")), "$1\r\nv");
    for node in [&replica, &late] {
        wait("that the replica shows it", || last(node).0 == "success" && ask(node, "DBSIZE") == ":1");
    }
    wait("that the old owner knows", || ask(&nodes[0], &format!("GET {key}")).starts_with("-MOVED 100 "));
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let nodes = pair(&spinel(), &spinel());
    let (target, other) = (&nodes[1], id(&nodes[0]));
    let (key, foreign) = (format!("{{{}}}k", tag(100)), format!("{{{}}}k", tag(9000)));
    assert_eq!(ask(target, &format!("SET {foreign} mine")), "+OK");
    // What the source says or does at last, and what the target says of it.
    let refused = "Failed to process command";
    let ends = [
        ("FOO".to_owned(), refused),
        (format!("SET {foreign} theirs"), refused),
        (format!("MSET {key} 1 {foreign} theirs"), refused),
        ("FLUSHALL".to_owned(), refused),
        ("CONFIG SET maxmemory 1".to_owned(), refused),
        ("SHUTDOWN NOSAVE".to_owned(), refused),
        (format!("LPUSH {key} 1"), refused),
        ("CLUSTER SYNCSLOTS PAUSED".to_owned(), "Unexpected state machine transition"),
        ("CLUSTER SYNCSLOTS FAILOVER-GRANTED".to_owned(), "Unexpected state machine transition"),
        ("CLUSTER SYNCSLOTS WHATEVER".to_owned(), "Unknown SYNCSLOTS subcommand used"),
        ("".to_owned(), "Connection lost to source"),
    ];
    for (place, (end, why)) in ends.iter().enumerate() {
        let digit = char::from(b'a' + place as u8);
        let mut source = Source::establish(target, &other, digit, "100 110");
        source.send("CLUSTER SYNCSLOTS ACK");
        assert_eq!(source.hear(), "ACK");
        source.send(&format!("SET {key} v"));
        wait("that the key is there", || ask(target, "CLUSTER COUNTKEYSINSLOT 100") == ":1");
        if end.is_empty() {
            drop(source);
        } else {
            source.send(end);
            assert!(source.is_closed(), "{end}");
        }
        wait("that it has failed", || last(target).0 == "failed");
        assert!(last(target).1.starts_with(why), "{end}: {}", last(target).1);
        assert_eq!(ask(target, "CLUSTER COUNTKEYSINSLOT 100"), ":0", "{end}");
        assert_eq!(ask(target, &format!("GET {foreign}")), "$4\r\nmine", "{end}");
    }
    let source = Source::establish(target, &other, 'x', "100 110");
    assert_eq!(ask(target, "CLUSTER CANCELSLOTMIGRATIONS"), "+OK");
    wait("that it is cancelled", || last(target).0 == "cancelled");
    drop(source);
    let mut source = Source::establish(target, &other, 'y', "100 110");
    let again = format!(
        "CLUSTER SYNCSLOTS ESTABLISH SOURCE {other} NAME {} SLOTSRANGE 110 111",
        source.name.replace('y', "z")
    );
    assert!(ask(target, &again).starts_with("-ERR Slot is already being imported"));
    assert_eq!(ask(target, "FLUSHALL"), "+OK");
    assert!(source.is_closed());
    assert_eq!(last(target), ("failed".to_owned(), "Data was flushed".to_owned()));
    assert_eq!(ask(target, "CLUSTER CANCELSLOTMIGRATIONS"), "-ERR No migrations ongoing");
}

#[test]
fn a_source_goes_on_when_its_target_is_gone() {
    let [from, to] = pair(&spinel(), &spinel());
    let key = format!("{{{}}}k", tag(100));
    assert_eq!(ask(&from, &format!("SET {key} v")), "+OK");
    let target = id(&to);
    // A target that does not answer, so that the migration lasts until somebody ends it.
    let stopped = std::process::Command::new("kill").args(["-STOP", &to.pid().to_string()]).status();
    assert!(stopped.expect("there is such a program").success());
    let request = format!("CLUSTER MIGRATESLOTS SLOTSRANGE 100 110 NODE {target}");
    assert_eq!(ask(&from, &request), "+OK");
    assert_eq!(ask(&from, &request), "-ERR I am already migrating slot 100.");
    assert_eq!(ask(&from, "CLUSTER SETSLOT 100 STABLE"), "-ERR Slot export in progress.");
    assert_eq!(ask(&from, "CLUSTER CANCELSLOTMIGRATIONS"), "+OK");
    wait("that it is cancelled", || last(&from).0 == "cancelled");
    assert_eq!(ask(&from, &request), "+OK");
    assert_eq!(ask(&from, "FLUSHALL"), "+OK");
    wait("that it has failed", || last(&from) == ("failed".to_owned(), "Data was flushed".to_owned()));
    assert_eq!(ask(&from, &format!("SET {key} v")), "+OK");
    assert_eq!(ask(&from, &request), "+OK");
    drop(to);
    wait("that it has failed", || last(&from).0 == "failed");
    assert_eq!(ask(&from, &format!("GET {key}")), "$1\r\nv");
}

#[test]
fn whatever_is_said_about_migrations_a_node_keeps_its_slots() {
    let nodes = pair(&spinel(), &spinel());
    let seed: u64 = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_130);
    println!("SEED={seed}");
    let mut rng = Rng::new(seed);
    let (mine, other) = (id(&nodes[1]), id(&nodes[0]));
    let ids =
        [mine.clone(), other.clone(), "1".repeat(40), "2".repeat(40), "short".to_owned(), String::new()];
    let words = [
        "ESTABLISH",
        "FINISH",
        "ACK",
        "SNAPSHOT-EOF",
        "PAUSED",
        "REQUEST-PAUSE",
        "REQUEST-FAILOVER",
        "FAILOVER-GRANTED",
        "CAPA",
        "SOURCE",
        "NAME",
        "SLOTSRANGE",
        "STATE",
        "SUCCESS",
        "MESSAGE",
        "0",
        "5",
        "100",
        "16384",
        "-1",
        "99999999999999999999",
        "x",
    ];
    for _ in 0..300 {
        let mut client = nodes[1].client();
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(4) {
            let mut request: Vec<String> = vec!["CLUSTER".into(), "SYNCSLOTS".into()];
            if rng.below(2) == 0 {
                let name = &ids[rng.below(4) as usize];
                request.extend(
                    ["ESTABLISH", "SOURCE", &other, "NAME", name, "SLOTSRANGE", "5", "9"].map(String::from),
                );
            }
            for _ in 0..rng.below(5) {
                let any = match rng.below(4) {
                    0 => ids[rng.below(6) as usize].clone(),
                    _ => words[rng.below(words.len() as u64) as usize].to_owned(),
                };
                request.push(any);
            }
            bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
            request.iter().for_each(|word| {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            });
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.below(1 + bytes.len() as u64) as usize);
        }
        // The node may have closed the connection already.
        let _ = client.send(&bytes);
    }
    // The last of them may still be said.
    wait("the end of the last migration", || {
        let running = [
            "waiting-for-ack",
            "receiving-snapshot",
            "waiting-for-paused",
            "failover-requested",
            "cleaning-up",
        ];
        !running.contains(&last(&nodes[1]).0.as_str())
    });
    assert_eq!(ask(&nodes[1], "CLUSTER COUNTKEYSINSLOT 5"), ":0");
    let table = ask(&nodes[1], "CLUSTER NODES");
    let taken = table.lines().find(|line| line.contains("myself")).expect("it knows itself");
    assert!(taken.trim_end().ends_with(" 8192-16383"), "{table}");
}
