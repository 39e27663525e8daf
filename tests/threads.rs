//! A server whose threads all work at once: the loop, the three background threads, the watchdog, and children that
//! save. Afterwards the log that they wrote gives the same data again.
//!
//! Under the thread sanitizer this shows races between the threads, wherever they are; a report fails the test when
//! the server is dropped. `SPINEL_THREADS_SECONDS` sets the duration in seconds (default 2), `SPINEL_THREADS_SEED`
//! the seed, which is printed.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, run, spinel};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A random request. Values are large, so that they are freed in the background, and shared with replies under way.
fn request(rng: &mut Rng) -> Vec<String> {
    let mut name = |kind: &str| format!("{kind}{}", rng.below(8));
    let (string, other, list, set, hash) =
        (name("string"), name("string"), name("list"), name("set"), name("hash"));
    let start = rng.below(1000);
    let many = |from: u64| (from..from + 200).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let line = match rng.below(40) {
        0..6 => format!("SET {string} {}", "v".repeat(20_000 + rng.index(100_000))),
        6..11 => format!("GET {string}"),
        11..13 => format!("MGET {string} {other}"),
        13 => format!("COPY {string} {other} REPLACE"),
        14..18 => format!("RPUSH {list} {}", many(start)),
        18..21 => format!("SADD {set} {}", many(start)),
        21..23 => format!("HSET {hash} {}", many(start)),
        23 => format!("HPEXPIRE {hash} 5 FIELDS 2 {start} {}", start + 2),
        24..27 => format!("UNLINK {string} {list} {set}"),
        27 => format!("DEL {list} {hash}"),
        28 => format!("PEXPIRE {set} 3"),
        29 => format!("SUNIONSTORE {set} {set}x {set}y"),
        30 => format!("SINTERSTORE {list} {set} {set}"),
        31 => "MULTI".into(),
        32 | 33 => "EXEC".into(),
        34 => "CLIENT TRACKING ON".into(),
        35 => format!("LRANGE {list} 0 -1"),
        _ => format!("INCR counter{start}"),
    };
    line.split(' ').map(str::to_owned).collect()
}

/// A request that starts or stops the work of a thread, or changes what it does.
fn command(rng: &mut Rng) -> &'static str {
    const LINES: [&str; 19] = [
        "CONFIG SET appendfsync always",
        "CONFIG SET appendfsync always",
        "CONFIG SET appendfsync everysec",
        "CONFIG SET appendfsync everysec",
        "CONFIG SET appendfsync no",
        "CONFIG SET appendonly no",
        "CONFIG SET appendonly yes",
        "CONFIG SET appendonly yes",
        "CONFIG SET watchdog-period 200",
        "CONFIG SET watchdog-period 0",
        "CONFIG SET loglevel debug",
        "CONFIG SET loglevel notice",
        "CONFIG SET jemalloc-bg-thread no",
        "BGREWRITEAOF",
        "BGREWRITEAOF",
        "BGSAVE",
        "FLUSHALL ASYNC",
        "FLUSHDB SYNC",
        "INFO everything",
    ];
    LINES[rng.index(LINES.len())]
}

fn field(info: &str, name: &str) -> String {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {info}")).trim().to_owned()
}

/// Asks until the answer satisfies `is_right`.
#[track_caller]
fn wait_for(client: &mut Client, section: &str, is_right: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let info = run(client, &format!("INFO {section}"));
        if is_right(&info) {
            return info;
        }
        assert!(Instant::now() < deadline, "{info}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn threads_that_all_work_lose_nothing() {
    let (seconds, seed) =
        (setting("SPINEL_THREADS_SECONDS", 2), setting("SPINEL_THREADS_SEED", rand::random()));
    println!("seed {seed}");
    let server = ServerProcess::start(
        &spinel(),
        &[
            &["--enable-debug-command", "yes", "--appendonly", "yes", "--appendfsync", "everysec"][..],
            &["--lazyfree-lazy-eviction", "yes", "--lazyfree-lazy-expire", "yes"],
            &["--lazyfree-lazy-server-del", "yes", "--lazyfree-lazy-user-del", "yes"],
            &["--hash-max-listpack-entries", "16", "--watchdog-period", "300"],
        ]
        .concat(),
    );
    let until = Instant::now() + Duration::from_secs(seconds);
    let port = server.port;
    let clients: Vec<_> = (1..=4)
        .map(|i| {
            thread::spawn(move || {
                let mut rng = Rng::new(seed.wrapping_add(i));
                let mut client = Client::connect(port).expect("the server takes connections");
                while Instant::now() < until {
                    let words = request(&mut rng);
                    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
                    client.command(&words).expect("the server answers");
                }
            })
        })
        .collect();
    let mut rng = Rng::new(seed);
    let mut operator = server.client();
    while Instant::now() < until {
        run(&mut operator, command(&mut rng));
        thread::sleep(Duration::from_millis(rng.below(60)));
    }
    clients.into_iter().for_each(|client| client.join().expect("it does not panic"));

    run(&mut operator, "CONFIG SET appendonly no");
    wait_for(&mut operator, "persistence", |info| field(info, "rdb_bgsave_in_progress") == "0");
    run(&mut operator, "DEBUG SET-ACTIVE-EXPIRE 1");
    // What is about to expire would make the digest depend on the time.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(run(&mut operator, "CONFIG SET appendonly yes"), "+OK");
    wait_for(&mut operator, "persistence", |info| {
        field(info, "aof_rewrite_in_progress") == "0" && field(info, "aof_rewrite_scheduled") == "0"
    });
    for i in 0..50 {
        assert_eq!(run(&mut operator, &format!("RPUSH last {i}")), format!(":{}", i + 1));
    }
    wait_for(&mut operator, "persistence", |info| field(info, "aof_pending_bio_fsync") == "0");
    wait_for(&mut operator, "memory", |info| field(info, "lazyfree_pending_objects") == "0");
    let before = run(&mut operator, "DEBUG DIGEST");
    assert_eq!(run(&mut operator, "DEBUG LOADAOF"), "+OK");
    assert_eq!(run(&mut operator, "DEBUG DIGEST"), before);
    assert_eq!(run(&mut operator, "LLEN last"), ":50");
    let stats = run(&mut operator, "INFO everything");
    let number = |name| field(&stats, name).parse::<u64>().expect("a number");
    assert!(number("lazyfreed_objects") > 0 && number("total_forks") > 0, "seed {seed}: {stats}");
    assert!(!server.log().contains("BUG REPORT"), "{}", server.log());
}
