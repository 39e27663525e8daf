//! Nodes of one cluster: failures, manual failovers, and state that survives a restart. Nodes of Redis and Valkey take
//! part if these are installed. Otherwise that part is skipped, or fails if `CI` is set.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, lasting_port, run, spinel};

/// Options of every node: a failure is noticed soon.
const OPTIONS: &[&str] =
    &["--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--repl-diskless-sync-delay", "0"];

/// What takes longer does not happen.
const LIMIT: Duration = Duration::from_secs(60);

fn start(binary: &Path) -> ServerProcess {
    ServerProcess::start_at(lasting_port(), binary, None, OPTIONS, &[])
}

/// Waits until `done`.
#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what} has not happened");
        thread::sleep(Duration::from_millis(50));
    }
}

fn ask(node: &ServerProcess, line: &str) -> String {
    run(&mut node.client(), line)
}

/// The text of a bulk string.
fn text(reply: &str) -> &str {
    reply.split_once("\r\n").map_or(reply, |(_, text)| text).trim_end()
}

fn id(node: &ServerProcess) -> String {
    text(&ask(node, "CLUSTER MYID")).to_owned()
}

fn leads(node: &ServerProcess) -> bool {
    ask(node, "INFO replication").contains("role:master")
}

fn is_ok(node: &ServerProcess) -> bool {
    ask(node, "CLUSTER INFO").contains("cluster_state:ok")
}

/// Stops a process, or lets it go on: stopped, it answers nobody.
fn signal(node: &ServerProcess, name: &str) {
    let sent = Command::new("kill").args([name, &node.pid().to_string()]).status();
    assert!(sent.expect("there is such a program").success());
}

/// Makes a cluster: as many primaries as `nodes` has pairs; the second of each pair copies the first.
fn create(nodes: &[ServerProcess]) {
    let shards = nodes.len() / 2;
    for (place, node) in nodes.iter().enumerate() {
        assert_eq!(ask(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1)), "+OK");
        assert_eq!(ask(node, &format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port)), "+OK");
    }
    let known = format!("cluster_known_nodes:{}\r", nodes.len());
    wait("that all know each other", || nodes.iter().all(|node| ask(node, "CLUSTER INFO").contains(&known)));
    for (shard, pair) in nodes.chunks(2).enumerate() {
        let (first, last) = (16384 * shard / shards, 16384 * (shard + 1) / shards - 1);
        assert_eq!(ask(&pair[0], &format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK");
        let primary = id(&pair[0]);
        wait("that a node is known by its name", || {
            ask(&pair[1], &format!("CLUSTER REPLICATE {primary}")) == "+OK"
        });
    }
    wait("that all serve", || nodes.iter().all(is_ok));
    for pair in nodes.chunks(2) {
        wait("that a replica is linked", || {
            ask(&pair[1], "INFO replication").contains("master_link_status:up")
        });
    }
}

/// Sends a request to the node that serves its key.
fn anywhere(clients: &mut [Client], line: &str) -> String {
    for client in clients {
        let reply = run(client, line);
        if !reply.starts_with("-MOVED") {
            return reply;
        }
    }
    panic!("nobody serves {line}");
}

fn clients(nodes: &[ServerProcess]) -> Vec<Client> {
    nodes.iter().map(ServerProcess::client).collect()
}

/// Spinel and `other` lead and copy in turn, and take over from each other.
fn take_turns(other: &Path) {
    let ours = spinel();
    // Ours with a replica of the others', the others' with one of ours, and ours with ours.
    let programs = [&ours, other, other, &ours, &ours, &ours];
    let nodes: Vec<ServerProcess> = programs.iter().map(|program| start(program)).collect();
    create(&nodes);
    for key in 0..100 {
        assert_eq!(anywhere(&mut clients(&nodes), &format!("SET key:{key} {key}")), "+OK");
    }
    for pair in nodes.chunks(2) {
        // A machine that is slow may make a primary seem to fail for a moment, or the attempt time out.
        let mut asked = 0;
        wait("a failover on demand", || {
            if asked % 100 == 0 && ask(&pair[1], "CLUSTER FAILOVER") != "+OK" {
                return leads(&pair[1]) && !leads(&pair[0]);
            }
            asked += 1;
            leads(&pair[1]) && !leads(&pair[0])
        });
    }
    wait("that all serve", || nodes.iter().all(is_ok));
    for pair in nodes.chunks(2) {
        wait("that a replica is linked", || {
            ask(&pair[0], "INFO replication").contains("master_link_status:up")
        });
        signal(&pair[1], "-STOP");
        wait("a failover", || leads(&pair[0]));
        signal(&pair[1], "-CONT");
        wait("that the old primary follows", || !leads(&pair[1]));
    }
    wait("that all serve", || nodes.iter().all(is_ok));
    for key in 0..100 {
        let expected = key.to_string();
        assert_eq!(text(&anywhere(&mut clients(&nodes), &format!("GET key:{key}"))), expected);
    }
    let mut subscribers = clients(&nodes);
    for subscriber in &mut subscribers {
        assert!(run(subscriber, "SUBSCRIBE channel").contains("subscribe"));
    }
    // Messages are not kept for a node whose links are being opened again, so they are published until all have them.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                ask(&nodes[0], "PUBLISH channel one");
                ask(&nodes[1], "PUBLISH channel two");
                thread::sleep(Duration::from_millis(100));
            }
        });
        let missing = subscribers.iter_mut().find_map(|subscriber| {
            let mut received = String::new();
            let deadline = Instant::now() + LIMIT;
            while !(received.contains("one") && received.contains("two")) {
                match subscriber.reply() {
                    Ok(message) if Instant::now() < deadline => {
                        received += &String::from_utf8_lossy(&message)
                    }
                    _ => return Some(received),
                }
            }
            None
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(missing, None, "what a subscriber has received");
    });
}

#[test]
fn nodes_of_redis_and_ours_take_over_from_each_other() {
    if let Some(redis) = support::redis() {
        take_turns(&redis);
    }
}

#[test]
fn nodes_of_valkey_and_ours_take_over_from_each_other() {
    if let Some(valkey) = support::valkey() {
        take_turns(&valkey);
    }
}

/// Starts a node in a directory that is there already, and returns what it says before it ends.
fn fails(dir: &Path) -> String {
    let mut program = Command::new(spinel());
    program.args(["--port", &lasting_port().to_string(), "--save", "", "--dir"]).arg(dir);
    let output = program.args(OPTIONS).output().expect("it can be started");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_node_keeps_its_name_and_its_file_to_itself() {
    let mut node = start(&spinel());
    let (port, name) = (node.port, id(&node));
    assert_eq!(ask(&node, "CLUSTER ADDSLOTSRANGE 0 16383"), "+OK");
    assert_eq!(ask(&node, "CLUSTER BUMPEPOCH"), "+BUMPED 1");
    let said = fails(&node.dir);
    assert!(said.contains("is already used by a different Redis Cluster node."), "{said}");

    // A copy, since the directory goes with the process.
    let file = std::fs::read_to_string(node.dir.join("nodes.conf")).expect("it is written");
    signal(&node, "-KILL");
    node.wait();
    drop(node);
    let dir = std::env::temp_dir().join(format!("spinel-test-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    std::fs::write(dir.join("nodes.conf"), &file[..file.len() - 3]).expect("a file can be written");
    let said = fails(&dir);
    assert!(said.contains("Unrecoverable error: corrupted cluster config file"), "{said}");
    std::fs::write(dir.join("nodes.conf"), &file).expect("a file can be written");
    let node = ServerProcess::start_at(port, &spinel(), None, OPTIONS, &[]);
    assert_eq!(id(&node), name);
    assert!(node.log().contains(&format!("Node configuration loaded, I'm {name}")));
    wait("that it serves", || is_ok(&node));
    let shown = ask(&node, "CLUSTER NODES");
    assert!(shown.contains("myself,master - 0 0 1 connected 0-16383"), "{shown}");
    assert_eq!(ask(&node, "SET key value"), "+OK");
}
