//! Two hundred clients that randomly subscribe, block, watch keys, run transactions, track keys and disconnect.
//!
//! `SPINEL_SOAK_SEED` sets the seed, which is printed, `SPINEL_SOAK_SECONDS` the duration in seconds (default 60; 10
//! for the jobs of streams).
//! Each request is answered in time. Afterwards nothing remains of the clients: no connection, subscription,
//! blocked client or watch, and no memory except what the server keeps for new clients.

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, run, spinel};

/// Number of simultaneous connections.
const CLIENTS: usize = 200;
/// Threads that drive the connections.
const THREADS: usize = 4;
/// Number of names of keys and channels; few, so that clients interact.
const NAMES: u64 = 12;
/// Bytes that may remain allocated in the end: tables that have grown, log entries.
const MARGIN: u64 = 1 << 19;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Words of a request.
type Words = Vec<String>;

fn words(line: &str) -> Words {
    line.split(' ').map(str::to_owned).collect()
}

/// A random next request or pipeline of a client.
fn step(rng: &mut Rng) -> Words {
    let mut name = |kind: &str| format!("{kind}{}", rng.below(NAMES));
    let (list, other, zset) = (name("list"), name("list"), name("zset"));
    let (string, second, hash) = (name("string"), name("string"), name("hash"));
    let (channel, pattern, shard) = (name("channel"), name("chan*"), name("shard"));
    let value = "v".repeat(rng.index(300));
    let timeout = ["0.001", "0.01", "0.05", "0.2"][rng.index(4)];
    let end = ["LEFT", "RIGHT"][rng.index(2)];
    let line = match rng.below(58) {
        0..3 => format!("SUBSCRIBE {channel} {channel}x"),
        3 => format!("UNSUBSCRIBE {channel}"),
        4 => "UNSUBSCRIBE".into(),
        5..7 => format!("PSUBSCRIBE {pattern} __key*__:{string}"),
        7 => "PUNSUBSCRIBE".into(),
        8 => format!("SSUBSCRIBE {shard}"),
        9 => "SUNSUBSCRIBE".into(),
        10..13 => format!("PUBLISH {channel} {value}"),
        13 => format!("SPUBLISH {shard} {value}"),
        14..16 => format!("BLPOP {list} {other} {timeout}"),
        16 => format!("BRPOP {list} {timeout}"),
        17 => format!("BLMOVE {list} {other} {end} LEFT {timeout}"),
        18 => format!("BLMPOP {timeout} 2 {list} {other} {end} COUNT 3"),
        19 => format!("BZPOPMIN {zset} {zset}x {timeout}"),
        20 => format!("BZMPOP {timeout} 1 {zset} MAX"),
        21..24 => format!("RPUSH {list} {value} b"),
        24..26 => format!("ZADD {zset} {} m 3 n", rng.below(100)),
        26 => format!("RENAME {list} {other}"),
        27 => format!("COPY {list} {other} REPLACE"),
        28 => format!("DEL {list} {zset}"),
        29..32 => format!("WATCH {string} {second} {list}"),
        32 => "UNWATCH".into(),
        33..36 => "MULTI".into(),
        36..41 => "EXEC".into(),
        41 => "DISCARD".into(),
        42..44 => format!("SET {string} {value} PX {}", 1 + rng.below(100)),
        44 => format!("INCR {string}"),
        45..47 => format!("GET {string}"),
        47 => format!("MGET {string} {second}"),
        48 => format!("HSET {hash} f {value}"),
        49 => "HELLO 3".into(),
        50..52 => "CLIENT TRACKING ON".into(),
        52 => format!("CLIENT TRACKING ON BCAST PREFIX {string} NOLOOP"),
        53 => "CLIENT TRACKING OFF".into(),
        54 => "CLIENT NO-TOUCH ON".into(),
        55 => "RESET".into(),
        56 => match rng.below(60) {
            0 => "FLUSHALL".into(),
            1 => "SWAPDB 0 1".into(),
            2 => "CLIENT PAUSE 5 WRITE".into(),
            3 => "CLIENT KILL TYPE pubsub".into(),
            4..20 => "SELECT 1".into(),
            _ => "SELECT 0".into(),
        },
        _ => format!("CLIENT UNBLOCK {} ERROR", rng.below(4000)),
    };
    words(&line)
}

/// A connection that sends without waiting, and discards the replies.
struct Guest {
    stream: TcpStream,
    /// Pings sent whose replies have not arrived; they show what the server has read.
    pings: u64,
    pongs: u64,
    tail: Vec<u8>,
}

impl Guest {
    fn connect(port: u16) -> io::Result<Guest> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Guest { stream, pings: 0, pongs: 0, tail: Vec::new() })
    }

    /// Reads the available output and counts the replies to pings.
    ///
    /// # Errors
    /// If the server has closed the connection.
    fn drain(&mut self, room: &mut [u8]) -> io::Result<()> {
        const MARK: &[u8] = b"are you there";
        loop {
            let n = match self.stream.read(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // A reply may be split between two reads.
            self.tail.extend_from_slice(&room[..n]);
            let mut from = 0;
            while let Some(at) = self.tail[from..].windows(MARK.len()).position(|window| window == MARK) {
                self.pongs += 1;
                from += at + MARK.len();
            }
            let keep = self.tail.len().saturating_sub(MARK.len() - 1).max(from);
            self.tail.drain(..keep);
        }
    }

    fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        // What does not fit into the socket is lost, and with it part of a request, so the guest disconnects.
        match self.stream.write(requests) {
            Ok(n) if n == requests.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) => Err(error),
        }
    }
}

/// Runs a share of the clients until the time is up.
fn live(port: u16, mut rng: Rng, until: Instant, requests: &AtomicU64) {
    let mut room = vec![0; 1 << 16];
    let connect = || Guest::connect(port).expect("the server takes connections");
    let mut guests: Vec<Guest> = (0..CLIENTS / THREADS).map(|_| connect()).collect();
    let mut bytes = Vec::new();
    while Instant::now() < until {
        for guest in &mut guests {
            bytes.clear();
            for _ in 0..1 + rng.below(4) {
                let words = step(&mut rng);
                write_request(&mut bytes, words.iter().map(String::as_bytes));
                requests.fetch_add(1, Ordering::Relaxed);
            }
            let leaves = match rng.below(400) {
                0 => {
                    // One of the few monitors, for a while.
                    write_request(&mut bytes, [&b"MONITOR"[..]].into_iter());
                    false
                }
                1..6 => {
                    // Disconnects in the middle of a request.
                    bytes.truncate(bytes.len() - 3);
                    true
                }
                6..10 => true,
                _ => false,
            };
            let gone = guest.drain(&mut room).is_err() || guest.send(&bytes).is_err();
            if gone || leaves {
                if rng.one_in(2) {
                    let _ = guest.stream.shutdown(Shutdown::Write);
                }
                *guest = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(rng.below(10)));
    }
    // Every remaining client gets its reply: none is blocked for ever or forgotten.
    for guest in &mut guests {
        let mut last = Vec::new();
        for words in ["DISCARD", "RESET"] {
            write_request(&mut last, [words.as_bytes()].into_iter());
        }
        write_request(&mut last, [&b"PING"[..], b"are you there"].into_iter());
        guest.pings = guest.pongs + 1;
        if guest.drain(&mut room).is_err() || guest.send(&last).is_err() {
            guest.pings = 0;
        }
    }
    let patience = Instant::now() + Duration::from_secs(30);
    while let Some(guest) = guests.iter_mut().find(|guest| guest.pongs < guest.pings) {
        if guest.drain(&mut room).is_err() {
            guest.pings = 0;
        }
        assert!(Instant::now() < patience, "a client got no answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Numeric fields of INFO.
fn info(client: &mut Client) -> HashMap<String, u64> {
    let text = client.command(&[b"INFO", b"everything"]).expect("the server answers");
    let text = String::from_utf8(text).expect("INFO is text");
    let numbers = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    numbers.collect()
}

/// What remains of clients, besides the observer.
const LEFT: [(&str, u64); 12] = [
    ("connected_clients", 1),
    ("blocked_clients", 0),
    ("tracking_clients", 0),
    ("pubsub_clients", 0),
    ("watching_clients", 0),
    ("clients_in_timeout_table", 0),
    ("total_watched_keys", 0),
    ("total_blocking_keys", 0),
    ("pubsub_channels", 0),
    ("pubsub_patterns", 0),
    ("pubsubshard_channels", 0),
    ("tracking_total_items", 0),
];

fn left(now: &HashMap<String, u64>) -> Vec<String> {
    let wrong = LEFT.iter().filter(|(name, expected)| now.get(*name) != Some(expected));
    wrong.map(|(name, expected)| format!("{name} is {:?} instead of {expected}", now.get(*name))).collect()
}

#[test]
fn nothing_is_left_of_clients_that_are_gone() {
    let seed = setting("SPINEL_SOAK_SEED").unwrap_or_else(rand::random);
    let seconds = setting("SPINEL_SOAK_SECONDS").unwrap_or(60);
    println!("seed {seed}, {seconds} seconds");
    let server = ServerProcess::start(
        &spinel(),
        &["--notify-keyspace-events", "KEA", "--tracking-table-max-keys", "8", "--maxclients", "1000"],
    );
    let mut observer = server.client();
    // As many clients as during the test have been connected once, so that the memory kept for new clients is
    // allocated.
    let crowd: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    drop(crowd);
    let wait_for_quiet = |observer: &mut Client| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = info(observer);
            let wrong = left(&now);
            if wrong.is_empty() {
                return now;
            }
            assert!(Instant::now() < deadline, "seed {seed}: {}\n{}", wrong.join(", "), server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let before = wait_for_quiet(&mut observer);
    let until = Instant::now() + Duration::from_secs(seconds);
    let requests = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (port, requests) = (server.port, &requests);
            scope.spawn(move || live(port, Rng::new(seed.wrapping_add(thread)), until, requests));
        }
    });
    let seen = info(&mut observer);
    // Keys do not belong to clients, and neither do histograms of run times.
    for request in [
        &[&b"CLIENT"[..], b"UNPAUSE"][..],
        &[b"FLUSHALL", b"SYNC"],
        &[b"SLOWLOG", b"RESET"],
        &[b"CONFIG", b"RESETSTAT"],
    ] {
        assert_eq!(observer.command(request).expect("the server answers"), b"+OK\r\n");
    }
    wait_for_quiet(&mut observer);
    // Frees buffers kept for new clients.
    assert_eq!(observer.command(&[b"MEMORY", b"PURGE"]).expect("the server answers"), b"+OK\r\n");
    let after = wait_for_quiet(&mut observer);
    let (used, was) = (after["used_memory"], before["used_memory"]);
    println!(
        "{} requests of {} clients, {} commands; {was} bytes before, {used} after",
        requests.load(Ordering::Relaxed),
        seen["total_connections_received"],
        seen["total_commands_processed"],
    );
    assert!(used <= was + MARGIN, "seed {seed}: {was} bytes were in use, and now {used}");
}

/// Groups that read the stream of jobs, and consumers of each. Some of the consumers die now and then.
const GROUPS: usize = 5;
const CONSUMERS: usize = 10;
const MORTALS: usize = 4;
const PRODUCERS: usize = 50;

/// What producers and consumers of jobs have in common.
struct Jobs {
    port: u16,
    /// Producers are to end.
    over: AtomicBool,
    /// Consumers are to end.
    done: AtomicBool,
    added: AtomicU64,
    /// Jobs that were acknowledged, by group.
    finished: [Mutex<HashSet<String>>; GROUPS],
}

impl Jobs {
    fn client(&self) -> Client {
        Client::connect(self.port).expect("the server takes connections")
    }

    fn produce(&self, number: usize, rng: &mut Rng) {
        let mut client = self.client();
        let mut n = 0;
        while !self.over.load(Ordering::Relaxed) {
            let reply = run(
                &mut client,
                &format!("XADD jobs * job job-{number}-{n} load {}", "x".repeat(rng.index(100))),
            );
            assert!(reply.starts_with('$'), "{reply}");
            self.added.fetch_add(1, Ordering::Relaxed);
            n += 1;
            std::thread::sleep(Duration::from_millis(rng.below(8)));
        }
    }

    /// The ids and names of the jobs in a reply.
    fn jobs(reply: &str) -> Vec<(String, String)> {
        let (mut found, mut id) = (Vec::new(), "");
        for line in reply.lines() {
            if line.starts_with("job-") {
                found.push((id.to_owned(), line.to_owned()));
            } else if line.contains('-') && line.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
                id = line;
            }
        }
        found
    }

    fn consume(&self, number: usize, rng: &mut Rng) {
        let (group, place) = (number % GROUPS, number / GROUPS);
        let mortal = place < MORTALS;
        let mut lives = 0;
        let mut client = self.client();
        while !self.done.load(Ordering::Relaxed) {
            let name = format!("c{number}-{lives}");
            let claims = !mortal && rng.one_in(4);
            let line = if claims && rng.one_in(2) {
                format!("XREADGROUP GROUP g{group} {name} COUNT 20 BLOCK 50 CLAIM 200 STREAMS jobs >")
            } else if claims {
                format!("XAUTOCLAIM jobs g{group} {name} 200 0 COUNT 20")
            } else {
                format!("XREADGROUP GROUP g{group} {name} COUNT 10 BLOCK 50 STREAMS jobs >")
            };
            let reply = run(&mut client, &line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
            for (id, job) in Jobs::jobs(&reply) {
                if mortal && rng.one_in(20) {
                    // Dies with what it has not yet acknowledged, and is born again as another.
                    client = self.client();
                    lives += 1;
                    break;
                }
                match &*run(&mut client, &format!("XACK jobs g{group} {id}")) {
                    ":1" => {
                        let mut finished = self.finished[group].lock().expect("nobody panicked");
                        assert!(
                            finished.insert(job.clone()),
                            "{job} was acknowledged twice in group {group}"
                        );
                    }
                    // Somebody else took it over.
                    ":0" => {}
                    other => panic!("{other}"),
                }
            }
        }
    }

    /// Trims what every group has acknowledged.
    fn trim(&self) {
        let mut client = self.client();
        while !self.done.load(Ordering::Relaxed) {
            let id = |text: &str| -> Option<(u64, u64)> {
                let (ms, seq) = text.split_once('-')?;
                Some((ms.parse().ok()?, seq.parse().ok()?))
            };
            // What was delivered up to here and is not pending after this was looked at was acknowledged.
            let groups = run(&mut client, "XINFO GROUPS jobs");
            let lines: Vec<&str> = groups.lines().collect();
            let delivered = lines.windows(3).filter(|w| w[0] == "last-delivered-id").filter_map(|w| id(w[2]));
            let mut least = delivered.min().expect("there are groups");
            for group in 0..GROUPS {
                let pending = run(&mut client, &format!("XPENDING jobs g{group}"));
                least = pending.lines().filter_map(id).min().unwrap_or(least).min(least);
            }
            let reply = run(&mut client, &format!("XTRIM jobs MINID {}-{}", least.0, least.1));
            assert!(reply.starts_with(':'), "{reply}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn every_job_is_done_once_in_each_group_whoever_dies() {
    let seed = setting("SPINEL_SOAK_SEED").unwrap_or_else(rand::random);
    let seconds = setting("SPINEL_SOAK_SECONDS").unwrap_or(10);
    println!("seed {seed}, {seconds} seconds");
    let server = ServerProcess::start(&spinel(), &["--maxclients", "1000"]);
    let mut observer = server.client();
    let crowd: Vec<Client> = (0..PRODUCERS + GROUPS * CONSUMERS + 2).map(|_| server.client()).collect();
    drop(crowd);
    let used = |observer: &mut Client| {
        run(observer, "MEMORY PURGE");
        info(observer)["used_memory"]
    };
    let before = used(&mut observer);
    for group in 0..GROUPS {
        assert_eq!(run(&mut observer, &format!("XGROUP CREATE jobs g{group} 0 MKSTREAM")), "+OK");
    }
    let jobs = Jobs {
        port: server.port,
        over: AtomicBool::new(false),
        done: AtomicBool::new(false),
        added: AtomicU64::new(0),
        finished: Default::default(),
    };
    let finished =
        || jobs.finished.each_ref().map(|group| group.lock().expect("nobody panicked").len() as u64);
    std::thread::scope(|scope| {
        let jobs = &jobs;
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|n| scope.spawn(move || jobs.produce(n, &mut Rng::new(seed.wrapping_add(n as u64)))))
            .collect();
        for n in 0..GROUPS * CONSUMERS {
            scope.spawn(move || jobs.consume(n, &mut Rng::new(seed.wrapping_add(1000 + n as u64))));
        }
        scope.spawn(|| jobs.trim());
        std::thread::sleep(Duration::from_secs(seconds));
        jobs.over.store(true, Ordering::Relaxed);
        producers.into_iter().for_each(|producer| producer.join().expect("it ends well"));
        let added = jobs.added.load(Ordering::Relaxed);
        let patience = Instant::now() + Duration::from_secs(60);
        while finished().iter().any(|&n| n < added) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        jobs.done.store(true, Ordering::Relaxed);
    });
    let added = jobs.added.load(Ordering::Relaxed);
    assert_eq!(finished(), [added; GROUPS], "seed {seed}");
    for group in 0..GROUPS {
        let pending = run(&mut observer, &format!("XPENDING jobs g{group}"));
        assert!(pending.starts_with("*4\r\n:0\r\n"), "{pending}");
        for lines in run(&mut observer, &format!("XINFO CONSUMERS jobs g{group}"))
            .lines()
            .collect::<Vec<_>>()
            .windows(3)
        {
            if lines[0] == "name" {
                run(&mut observer, &format!("XGROUP DELCONSUMER jobs g{group} {}", lines[2]));
            }
        }
    }
    run(&mut observer, "XTRIM jobs MAXLEN 0");
    let stream = run(&mut observer, "MEMORY USAGE jobs SAMPLES 0");
    let stream: u64 = stream.trim_start_matches(':').parse().expect("a number");
    assert!(stream < 5000, "an empty stream takes {stream} bytes");
    run(&mut observer, "DEL jobs");
    run(&mut observer, "CONFIG RESETSTAT");
    run(&mut observer, "SLOWLOG RESET");
    let deadline = Instant::now() + Duration::from_secs(20);
    while used(&mut observer) > before + MARGIN && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = used(&mut observer);
    println!("{added} jobs, each done by {GROUPS} groups; {before} bytes before, {after} after");
    assert!(after <= before + MARGIN, "seed {seed}: {before} bytes were in use, and now {after}");
}
