//! Servers that are nodes of one cluster, as clients see them.
//!
//! Replies are compared with those of Redis and Valkey if these are installed. Otherwise that part is skipped, or fails
//! if `CI` is set.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, Oracle, ServerProcess, lasting_port, run, skip, spinel};

/// Options of every node: a failure is noticed soon.
const OPTIONS: &[&str] =
    &["--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--enable-debug-command", "yes"];

fn start(binary: &Path, options: &[&str]) -> ServerProcess {
    let options = [OPTIONS, options].concat();
    ServerProcess::start_at(lasting_port(), binary, None, &options, &[])
}

/// Waits until `done`.
#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} has not happened");
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_ok(node: &ServerProcess) -> bool {
    run(&mut node.client(), "CLUSTER INFO").contains("cluster_state:ok")
}

/// The text of a bulk string.
fn bulk(reply: &str) -> &str {
    reply.split_once("\r\n").map_or(reply, |(_, text)| text)
}

fn id(node: &ServerProcess) -> String {
    bulk(&run(&mut node.client(), "CLUSTER MYID")).to_owned()
}

/// Primaries of Spinel that share the slots, which all of them know.
fn cluster(nodes: usize, options: &[&str]) -> Vec<ServerProcess> {
    let nodes: Vec<ServerProcess> = (0..nodes).map(|_| start(&spinel(), options)).collect();
    for (i, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        let (first, last) = (16384 * i / nodes.len(), 16384 * (i + 1) / nodes.len() - 1);
        assert_eq!(run(&mut client, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK");
        assert_eq!(run(&mut client, &format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1)), "+OK");
        assert_eq!(run(&mut client, &format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port)), "+OK");
    }
    wait("the cluster", || nodes.iter().all(|node| knows(node, nodes.len()) && is_ok(node)));
    nodes
}

fn knows(node: &ServerProcess, others: usize) -> bool {
    run(&mut node.client(), "CLUSTER INFO").contains(&format!("cluster_known_nodes:{others}\r"))
}

/// Runs lines of commands at a node and compares the replies with what stands behind `→`. `A`, `B` and `C` are ports.
fn check(client: &mut Client, nodes: &[ServerProcess], script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (request, expected) = line.split_once(" → ").expect("an arrow stands between request and reply");
        let words =
            spinel::stdx::quote::split_args(fill(request, nodes).as_bytes()).expect("balanced quotes");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let reply = client.command(&words).expect("the node answers");
        let reply = String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " ");
        assert_eq!(reply, fill(expected, nodes), "{request}");
    }
}

/// `$A` stands for the port of the first node, `#A` for its id, and so on.
fn fill(text: &str, nodes: &[ServerProcess]) -> String {
    let mut text = text.to_owned();
    for (letter, node) in ('A'..='Z').zip(nodes) {
        if text.contains(&format!("#{letter}")) {
            text = text.replace(&format!("#{letter}"), &id(node));
        }
        text = text.replace(&format!("${letter}"), &node.port.to_string());
    }
    text
}

// Slot of a: 15495; b: 3300; foo: 12182. Of two nodes, B owns a and foo, A owns b.

#[test]
fn requests_are_redirected_to_the_owner_of_their_slot() {
    let nodes = cluster(2, &[]);
    let (mut a, mut b) = (nodes[0].client(), nodes[1].client());
    check(
        &mut a,
        &nodes,
        r#"
        SET b 1 → +OK
        GET a → -MOVED 15495 127.0.0.1:$B
        MGET b a → -CROSSSLOT Keys in request don't hash to the same slot
        MGET b {b}2 → *2 $1 1 $-1
        SSUBSCRIBE a → -MOVED 15495 127.0.0.1:$B
        SPUBLISH a x → -MOVED 15495 127.0.0.1:$B
        PUBLISH a x → :0
        WATCH a → -MOVED 15495 127.0.0.1:$B
        MULTI → +OK
        GET a → -MOVED 15495 127.0.0.1:$B
        EXEC → -EXECABORT Transaction discarded because of previous errors.
        SELECT 1 → -ERR SELECT is not allowed in cluster mode
        SWAPDB 0 1 → -ERR SWAPDB is not allowed in cluster mode
        MOVE b 1 → -ERR MOVE is not allowed in cluster mode
        COPY b {b}2 DB 1 → -ERR Copying to another database is not allowed in cluster mode
        REPLICAOF 127.0.0.1 1 → -ERR REPLICAOF not allowed in cluster mode.
        CLUSTER KEYSLOT {b}2 → :3300
        CLUSTER COUNTKEYSINSLOT 3300 → :1
        CLUSTER GETKEYSINSLOT 3300 10 → *1 $1 b
        CONFIG SET cluster-preferred-endpoint-type unknown-endpoint → +OK
        GET a → -MOVED 15495 :$B
        CONFIG SET cluster-preferred-endpoint-type hostname → +OK
        GET a → -MOVED 15495 ?:$B
        "#,
    );
    check(&mut b, &nodes, "GET a → $-1\nGET b → -MOVED 3300 127.0.0.1:$A");
}

#[test]
fn a_slot_on_its_way_is_served_by_both_its_nodes() {
    let nodes = cluster(2, &[]);
    let (mut a, mut b) = (nodes[0].client(), nodes[1].client());
    check(
        &mut a,
        &nodes,
        "
        MSET {b}1 1 {b}2 2 → +OK
        CLUSTER SETSLOT 3300 MIGRATING #B → +OK
        GET {b}1 → $1 1
        GET {b}3 → -ASK 3300 127.0.0.1:$B
        MGET {b}1 {b}3 → -TRYAGAIN Multiple keys request during rehashing of slot
        MGET {b}3 {b}4 → -ASK 3300 127.0.0.1:$B
        ",
    );
    check(
        &mut b,
        &nodes,
        "
        CLUSTER SETSLOT 3300 IMPORTING #A → +OK
        GET {b}1 → -MOVED 3300 127.0.0.1:$A
        ASKING → +OK
        GET {b}1 → $-1
        GET {b}1 → -MOVED 3300 127.0.0.1:$A
        ASKING → +OK
        MGET {b}1 {b}2 → -TRYAGAIN Multiple keys request during rehashing of slot
        ASKING → +OK
        MULTI → +OK
        SET {b}3 3 → +QUEUED
        GET {b}3 → +QUEUED
        EXEC → *2 +OK $1 3
        GET {b}3 → -MOVED 3300 127.0.0.1:$A
        ",
    );
    let mut others = nodes[0].client();
    check(&mut others, &nodes, "MULTI → +OK\nGET {b}1 → +QUEUED");
    check(
        &mut a,
        &nodes,
        r#"
        MIGRATE 127.0.0.1 $B "" 0 5000 KEYS {b}1 {b}2 {b}9 → +OK
        GET {b}1 → -ASK 3300 127.0.0.1:$B
        CLUSTER COUNTKEYSINSLOT 3300 → :0
        "#,
    );
    // What was queued is judged once more.
    check(&mut others, &nodes, "EXEC → -ASK 3300 127.0.0.1:$B\nPING → +PONG\nGET b → -ASK 3300 127.0.0.1:$B");
    check(&mut b, &nodes, "CLUSTER SETSLOT 3300 NODE #B → +OK\nMGET {b}1 {b}2 {b}3 → *3 $1 1 $1 2 $1 3");
    check(&mut a, &nodes, "CLUSTER SETSLOT 3300 NODE #B → +OK\nGET {b}1 → -MOVED 3300 127.0.0.1:$B");
}

#[test]
fn scripts_stay_in_one_slot_unless_they_say_otherwise() {
    let nodes = cluster(2, &[]);
    check(
        &mut nodes[1].client(),
        &nodes,
        r##"
        MSET a 1 {a}2 2 → +OK
        SET foo 3 → +OK
        EVAL "return redis.pcall('get', KEYS[1])" 1 a → $1 1
        EVAL "return redis.call('get', KEYS[1])" 1 b → -MOVED 3300 127.0.0.1:$A
        EVAL "return redis.pcall('get', 'b').err" 0 → $64 ERR Script attempted to access a non local key in a cluster node
        EVAL "redis.call('get', 'a') return redis.call('get', 'foo')" 0 → $1 3
        EVAL "#!lua\n redis.call('get', 'a') return redis.pcall('get', 'foo').err" 0 → $69 ERR Script attempted to access keys that do not hash to the same slot
        EVAL "#!lua\n return redis.pcall('get', 'foo').err" 1 a → $69 ERR Script attempted to access keys that do not hash to the same slot
        EVAL "#!lua flags=allow-cross-slot-keys\n redis.call('get', 'a') return redis.call('get', 'foo')" 0 → $1 3
        EVAL "return redis.pcall('mget', 'a', 'foo').err" 0 → $86 ERR Command 'mget' in script attempted to access keys that don't hash to the same slot
        EVAL "#!lua flags=no-cluster\n return 1" 0 → -ERR Can not run script on cluster, 'no-cluster' flag is set.
        EVAL "return 1" 2 a foo → -CROSSSLOT Keys in request don't hash to the same slot
        "##,
    );
}

#[test]
fn who_waits_or_listens_is_told_when_a_slot_leaves() {
    let nodes = cluster(2, &[]);
    let (mut a, mut waiting, mut listening) = (nodes[0].client(), nodes[0].client(), nodes[0].client());
    check(&mut listening, &nodes, "SSUBSCRIBE b → *3 $10 ssubscribe $1 b :1");
    check(&mut listening, &nodes, "SSUBSCRIBE {b}2 → *3 $10 ssubscribe $4 {b}2 :2");
    waiting.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nb\r\n$1\r\n0\r\n").expect("the node reads");
    wait("the wait", || run(&mut a, "INFO clients").contains("blocked_clients:1"));
    check(&mut nodes[1].client(), &nodes, "CLUSTER SETSLOT 3300 NODE #B → +OK");
    check(&mut a, &nodes, "CLUSTER SETSLOT 3300 NODE #B → +OK");
    let reply = waiting.reply().expect("the node answers");
    assert_eq!(String::from_utf8_lossy(&reply), format!("-MOVED 3300 127.0.0.1:{}\r\n", nodes[1].port));
    let mut names: Vec<String> = (0..2)
        .map(|_| String::from_utf8_lossy(&listening.reply().expect("a message")).replace("\r\n", " "))
        .collect();
    names.sort();
    assert!(
        names[0].starts_with("*3 $12 sunsubscribe $1 b :") && names[1].contains("$4 {b}2 :"),
        "{names:?}"
    );
    check(&mut listening, &nodes, "PUBSUB SHARDCHANNELS → *0\nPING → +PONG");
}

#[test]
fn keys_of_a_slot_that_another_node_takes_are_removed() {
    let nodes = cluster(2, &[]);
    let (mut a, mut b) = (nodes[0].client(), nodes[1].client());
    check(&mut a, &nodes, "MSET {b}1 1 {b}2 2 → +OK\nSET c 1 → +OK\nDBSIZE → :3");
    // As if an administrator had moved the slot by force.
    check(
        &mut b,
        &nodes,
        "
        CLUSTER DELSLOTS 3300 → +OK
        CLUSTER ADDSLOTS 3300 → +OK
        CLUSTER BUMPEPOCH → +STILL 2
        SET {b}1 new → +OK
        ",
    );
    wait("the removal", || run(&mut a, "DBSIZE") == ":1");
    check(&mut a, &nodes, "GET {b}1 → -MOVED 3300 127.0.0.1:$B\nGET c → $1 1");
    check(&mut b, &nodes, "GET {b}1 → $3 new");
}

#[test]
fn replicas_serve_reads_of_those_who_want_that() {
    let nodes = cluster(1, &[]);
    let replica = start(&spinel(), &[]);
    let mut client = replica.client();
    check(&mut client, &nodes, "CLUSTER MEET 127.0.0.1 $A → +OK");
    wait("the meeting", || knows(&replica, 2) && knows(&nodes[0], 2));
    check(&mut client, &nodes, "CLUSTER REPLICATE #A → +OK");
    check(&mut nodes[0].client(), &nodes, "SET a 1 → +OK");
    wait("the copy", || {
        run(&mut client, "INFO replication").contains("master_link_status:up") && is_ok(&replica)
    });
    wait("the key", || run(&mut client, "DBSIZE") == ":1");
    check(
        &mut client,
        &nodes,
        "
        GET a → -MOVED 15495 127.0.0.1:$A
        READONLY → +OK
        GET a → $1 1
        SET a 2 → -MOVED 15495 127.0.0.1:$A
        MULTI → +OK
        GET a → +QUEUED
        EXEC → *1 $1 1
        READWRITE → +OK
        GET a → -MOVED 15495 127.0.0.1:$A
        CLUSTER SETSLOT 1 STABLE → -ERR Please use SETSLOT only with masters.
        CLUSTER COUNTKEYSINSLOT 15495 → :1
        ",
    );
    let slots = run(&mut nodes[0].client(), "CLUSTER SLOTS").replace("\r\n", " ");
    let of = |node: &ServerProcess| format!("*4 $9 127.0.0.1 :{} $40 {} *0", node.port, id(node));
    wait("the replica's offset", || {
        run(&mut nodes[0].client(), "CLUSTER SLOTS").contains(&replica.port.to_string())
    });
    assert!(slots.starts_with(&format!("*1 *4 :0 :16383 {}", of(&nodes[0]))) || slots.starts_with("*1 *3"));
    let slots = run(&mut nodes[0].client(), "CLUSTER SLOTS").replace("\r\n", " ");
    assert_eq!(slots, format!("*1 *4 :0 :16383 {} {}", of(&nodes[0]), of(&replica)));
}

#[test]
fn a_scan_goes_through_all_nodes() {
    let nodes = cluster(3, &[]);
    let mut clients: Vec<Client> = nodes.iter().map(ServerProcess::client).collect();
    for n in 0..500 {
        let set = clients.iter_mut().any(|client| run(client, &format!("SET key:{n} v")) == "+OK");
        assert!(set, "some node takes key {n}");
    }
    let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let replies = clients.iter_mut().map(|client| run(client, &format!("CLUSTERSCAN {cursor} COUNT 20")));
        let replies: Vec<String> = replies.filter(|reply| !reply.starts_with("-MOVED")).collect();
        let lines: Vec<&str> = replies[0].split("\r\n").collect();
        assert_eq!(lines[0], "*2", "{}", replies[0]);
        cursor = lines[2].to_owned();
        seen.extend(lines[4..].iter().skip(1).step_by(2).map(|line| line.to_string()));
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 500);
}

#[test]
fn replies_of_a_node_by_itself_are_those_of_redis() {
    let Some(redis) = Oracle::Redis8_2.program() else { return };
    let (ours, theirs) = (start(&spinel(), &[]), start(&redis, &[]));
    let script = include_str!("data/cluster-replies.txt");
    let (mut a, mut b) = (ours.client(), theirs.client());
    let mut ids = [id(&ours), id(&theirs)];
    let mut differ = Vec::new();
    for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line == "WAIT UNTIL OK" {
            wait("the state", || is_ok(&ours) && is_ok(&theirs));
            continue;
        }
        let mut replies = [(&mut a, &ours, &ids[0]), (&mut b, &theirs, &ids[1])].map(|(client, node, id)| {
            let line = line.replace("MYID()", id);
            let words = spinel::stdx::quote::split_args(line.as_bytes()).expect("balanced quotes");
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let reply = client.command(&words).expect("the node answers");
            let reply = String::from_utf8_lossy(&reply).replace(&**id, "MYID");
            reply.replace(&node.port.to_string(), "PORT").replace(&(node.port + 10_000).to_string(), "BUS")
        });
        if line == "CLUSTER MYSHARDID" {
            replies = replies.map(|reply| reply.len().to_string());
        }
        if replies[0] != replies[1] {
            differ.push(format!("{line}\n  ours:   {:?}\n  theirs: {:?}", replies[0], replies[1]));
        }
        if line == "CLUSTER RESET HARD" {
            ids = [id(&ours), id(&theirs)];
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn slots_move_while_clients_write() {
    let nodes = cluster(3, &[]);
    let done = Arc::new(AtomicBool::new(false));
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (done, ports) = (Arc::clone(&done), ports.clone());
            thread::spawn(move || write_until(&done, writer, ports[0]))
        })
        .collect();
    // From each node to the next.
    let tool = Command::new("redis-cli").arg("--version").output();
    if tool.is_err() {
        skip("no redis-cli");
    } else {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let arguments = [
                "--cluster".to_owned(),
                "reshard".to_owned(),
                format!("127.0.0.1:{}", ports[0]),
                "--cluster-from".to_owned(),
                id(&nodes[from]),
                "--cluster-to".to_owned(),
                id(&nodes[to]),
                "--cluster-slots".to_owned(),
                "100".to_owned(),
                "--cluster-yes".to_owned(),
            ];
            let output = Command::new("redis-cli").args(&arguments).output().expect("it was there before");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    done.store(true, Ordering::Relaxed);
    let counts: Vec<u64> = writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
    // Every key has the last value that was acknowledged.
    let mut router = Router::new(ports[0]);
    for (writer, count) in counts.iter().enumerate() {
        assert!(*count > KEYS, "the writers came to something");
        for key in 0..KEYS {
            let last = (count - 1) / KEYS * KEYS + key;
            let last = if last < *count { last } else { last - KEYS };
            let reply = router.run(&format!("GET w{writer}:{key}"));
            assert_eq!(bulk(&reply), last.to_string(), "w{writer}:{key}");
        }
    }
}

/// Number of keys that a writer writes in turn.
const KEYS: u64 = 2000;

fn write_until(done: &AtomicBool, writer: usize, port: u16) -> u64 {
    let mut router = Router::new(port);
    let mut n = 0;
    while !done.load(Ordering::Relaxed) || n <= KEYS {
        let reply = router.run(&format!("SET w{writer}:{} {n}", n % KEYS));
        assert_eq!(reply, "+OK");
        n += 1;
    }
    n
}

/// A client that goes where it is sent.
struct Router {
    clients: Vec<(u16, Client)>,
    next: u16,
}

impl Router {
    fn new(port: u16) -> Router {
        Router { clients: Vec::new(), next: port }
    }

    fn client(&mut self, port: u16) -> &mut Client {
        let place = self.clients.iter().position(|(known, _)| *known == port).unwrap_or_else(|| {
            self.clients.push((port, Client::connect(port).expect("the node takes connections")));
            self.clients.len() - 1
        });
        &mut self.clients[place].1
    }

    fn run(&mut self, line: &str) -> String {
        let mut port = self.next;
        let mut asking = false;
        for _ in 0..100 {
            let client = self.client(port);
            if asking {
                assert_eq!(run(client, "ASKING"), "+OK");
            }
            let reply = run(client, line);
            let mut words = reply.split(' ');
            match words.next() {
                Some(word @ ("-MOVED" | "-ASK")) => {
                    let address = words.nth(1).and_then(|address| address.rsplit(':').next());
                    port = address.and_then(|port| port.parse().ok()).expect("a redirection names a port");
                    asking = word == "-ASK";
                }
                Some("-TRYAGAIN") => thread::sleep(Duration::from_millis(1)),
                _ => return reply,
            }
        }
        panic!("{line} is sent around for ever");
    }
}

#[test]
fn a_node_with_slots_is_not_shut_down_where_that_is_not_safe() {
    let mut node = start(&spinel(), &[]);
    let mut client = node.client();
    assert_eq!(run(&mut client, "CLUSTER ADDSLOTSRANGE 0 5"), "+OK");
    assert_eq!(run(&mut client, "SHUTDOWN SAFE"), "-ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(run(&mut client, "CLUSTER COUNTKEYSINSLOT 3"), ":0");
    assert_eq!(run(&mut client, "CLUSTER DELSLOTSRANGE 0 5"), "+OK");
    // There is no replica that could take over.
    client.send(b"SHUTDOWN SAFE FAILOVER\r\n").expect("it can be sent");
    assert!(node.wait().success());
}
