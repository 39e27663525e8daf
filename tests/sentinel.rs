//! Three servers watched by three Sentinels, which are stock ones, Spinels, or both. The primary is killed, and its
//! successor is stopped later; each time a replica takes over, the others follow it, and the former primary returns as
//! a replica.
//!
//! A test with stock Sentinels is skipped if there is no `redis-sentinel`, or fails if `CI` is set.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, free_port, lasting_port, run, spinel};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Whose Sentinel it is.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Stock,
    Ours,
}

struct Sentinel {
    child: Child,
    port: u16,
    file: PathBuf,
}

impl Sentinel {
    fn start(dir: &Path, primary: u16, maker: Maker) -> Option<Sentinel> {
        let port = free_port();
        let file = dir.join(format!("sentinel-{port}.conf"));
        let text = format!(
            "port {port}\ndir {}\nlogfile sentinel-{port}.log\nsentinel monitor it 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds it 2000\nsentinel failover-timeout it 6000\n",
            dir.display()
        );
        std::fs::write(&file, text).expect("a file can be written");
        Sentinel::start_with(file, port, maker)
    }

    /// Starts a Sentinel with what its file says.
    fn start_with(file: PathBuf, port: u16, maker: Maker) -> Option<Sentinel> {
        let mut command = match maker {
            Maker::Stock => Command::new("redis-sentinel"),
            Maker::Ours => Command::new(spinel()),
        };
        command.arg(&file);
        if maker == Maker::Ours {
            command.arg("--sentinel");
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match started {
            Ok(child) => Some(Sentinel { child, port, file }),
            Err(error) => {
                support::skip(&format!("redis-sentinel: {error}"));
                None
            }
        }
    }

    fn ask(&self, line: &str) -> String {
        Client::connect(self.port).map_or_else(|_| String::new(), |mut client| run(&mut client, line))
    }

    /// Port of the primary, as it sees it.
    fn primary(&self) -> u16 {
        let reply = self.ask("SENTINEL get-master-addr-by-name it");
        reply.lines().last().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    fn number(&self, field: &str) -> u64 {
        let reply = self.ask("SENTINEL master it");
        let mut lines = reply.lines().filter(|line| !line.starts_with(['$', '*', '%']));
        lines.find(|line| *line == field);
        lines.next().and_then(|line| line.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        thread::sleep(Duration::from_millis(50));
    }
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if thread::panicking()
            && let Ok(files) = std::fs::read_dir(&self.0)
        {
            for file in files.flatten().filter(|file| file.path().extension().is_some_and(|it| it == "log")) {
                eprintln!("{}", std::fs::read_to_string(file.path()).unwrap_or_default());
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(port: u16) -> ServerProcess {
    ServerProcess::start_at(port, &spinel(), None, &["--repl-diskless-sync-delay", "0"], &[])
}

fn follows(server: &ServerProcess, primary: u16) -> bool {
    let role = run(&mut server.client(), "ROLE");
    role.contains("slave") && role.contains(&format!(":{primary}\r\n")) && role.contains("connected")
}

fn signal(server: &ServerProcess, signal: &str) {
    let status = Command::new("kill").args([signal, &server.pid().to_string()]).status();
    assert!(status.expect("there is such a program").success());
}

#[test]
fn stock_sentinels_have_a_replica_take_over() {
    a_replica_takes_over_from_a_primary_that_is_killed_or_stopped("stock", [Maker::Stock; 3]);
}

#[test]
fn a_sentinel_of_ours_agrees_with_stock_ones() {
    a_replica_takes_over_from_a_primary_that_is_killed_or_stopped(
        "mixed",
        [Maker::Ours, Maker::Stock, Maker::Stock],
    );
}

#[test]
fn sentinels_of_ours_have_a_replica_take_over() {
    a_replica_takes_over_from_a_primary_that_is_killed_or_stopped("ours", [Maker::Ours; 3]);
}

fn a_replica_takes_over_from_a_primary_that_is_killed_or_stopped(name: &str, makers: [Maker; 3]) {
    let dir = std::env::temp_dir().join(format!("spinel-sentinel-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    let dir = Directory(dir);
    let mut servers: Vec<ServerProcess> = (0..3).map(|_| start(lasting_port())).collect();
    let first = servers[0].port;
    for replica in &servers[1..] {
        run(&mut replica.client(), &format!("REPLICAOF 127.0.0.1 {first}"));
    }
    let started = makers.map(|maker| Sentinel::start(&dir.0, first, maker));
    let Some(mut sentinels) = started.into_iter().collect::<Option<Vec<_>>>() else {
        return;
    };
    wait_until("knowledge of all servers", || {
        sentinels.iter().all(|it| it.number("num-slaves") == 2 && it.number("num-other-sentinels") == 2)
    });
    wait_until("replication", || servers[1..].iter().all(|server| follows(server, first)));
    let mut client = servers[0].client();
    run(&mut client, "SET key 1");
    assert_eq!(run(&mut client, "WAIT 2 20000"), ":2");

    signal(&servers[0], "-9");
    servers[0].wait();
    wait_until("another primary", || sentinels.iter().all(|it| ![0, first].contains(&it.primary())));
    let second = sentinels[0].primary();
    let (at, rest) = if servers[1].port == second { (1, 2) } else { (2, 1) };
    wait_until("the rest following it", || follows(&servers[rest], second));
    assert_eq!(run(&mut servers[at].client(), "INFO stats").matches("sync_full:0").count(), 1, "no copy");
    run(&mut servers[at].client(), "SET key 2");
    servers.remove(0);
    servers.insert(0, start(first));
    wait_until("the former primary following it", || follows(&servers[0], second));
    wait_until("its data", || run(&mut servers[0].client(), "GET key").ends_with('2'));

    // Sentinels forget the disturbance first.
    wait_until("knowledge of all servers", || {
        sentinels
            .iter()
            .all(|it| it.number("num-slaves") == 2 && it.ask("SENTINEL ckquorum it").starts_with("+OK"))
    });
    signal(&servers[at], "-STOP");
    wait_until("a third primary", || sentinels.iter().all(|it| ![0, second].contains(&it.primary())));
    let third = sentinels[0].primary();
    let at_third = servers.iter().position(|server| server.port == third).expect("one of ours");
    let other = 3 - at - at_third;
    wait_until("the rest following it", || follows(&servers[other], third));
    run(&mut servers[at_third].client(), "SET key 3");
    signal(&servers[at], "-CONT");
    wait_until("the stopped primary following it", || follows(&servers[at], third));
    wait_until("its data", || {
        servers.iter().all(|server| run(&mut server.client(), "GET key").ends_with('3'))
    });

    // What one has written to its file, another one goes on with.
    if makers.contains(&Maker::Stock) && makers[0] == Maker::Ours {
        let ours = sentinels.remove(0);
        let (file, port) = (ours.file.clone(), ours.port);
        let id = ours.ask("SENTINEL myid");
        drop(ours);
        let Some(heir) = Sentinel::start_with(file, port, Maker::Stock) else { return };
        wait_until("the heir's answer", || heir.ask("SENTINEL myid") == id);
        assert_eq!(heir.primary(), third);
        assert_eq!((heir.number("num-slaves"), heir.number("num-other-sentinels")), (2, 2));
    }
}
