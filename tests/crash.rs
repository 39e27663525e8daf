//! Servers killed at random moments, and the data that remain.
//!
//! Writers number their commands, so that the data show how many commands were executed: they must be the state
//! after all commands up to some number, which is at least the last acknowledged one and at most the last one sent.
//! Readers record what they see, and must find it again.
//!
//! `kill -9` loses what a process holds in memory, but nothing that it has passed to the kernel. These tests
//! therefore show that no reply leaves before its commands are written, that files are switched and named in the
//! right order, and that a rewrite leaves no gap. They cannot show that the data are on the disk.
//!
//! `SPINEL_CRASH_ROUNDS` sets the number of rounds (default 8; half as many with `everysec`, but at least 5),
//! `SPINEL_CRASH_SEED` the first seed.

mod support;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, spinel};

const WRITERS: usize = 6;
const READERS: usize = 3;
/// Number of fields in each hash.
const FIELDS: u64 = 10;

fn rounds(default: u64) -> RangeInclusive<u64> {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first = variable("SPINEL_CRASH_SEED").unwrap_or(1);
    first..=first + variable("SPINEL_CRASH_ROUNDS").unwrap_or(default) - 1
}

/// A directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("spinel-crash-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Contents of a writer's keys after its first `n` commands. Command `i` depends on the remainder of `i / 4`:
/// `SET`, `RPUSH`, `HSET`, or two `INCR` and a removal in a transaction.
#[derive(PartialEq, Eq, Debug, Clone)]
struct Model {
    string: u64,
    list: Vec<u64>,
    hash: Vec<(String, u64)>,
    counters: (u64, u64),
}

/// Length to which the transaction trims the list.
const LIST: usize = 20;

impl Model {
    fn after(n: u64) -> Model {
        let last_of = |kind: u64| (1..=n).rev().find(|i| i % 4 == kind);
        let mut list: Vec<u64> = Vec::new();
        // Only the last few commands affect the list.
        for i in n.saturating_sub(4 * LIST as u64 + 8).max(1)..=n {
            match i % 4 {
                1 => list.push(i),
                3 if list.len() > LIST => drop(list.drain(..list.len() - LIST)),
                _ => {}
            }
        }
        if list.len() > LIST + 1 {
            list.drain(..list.len() - LIST - 1);
        }
        let mut hash = Vec::new();
        for field in 0..FIELDS {
            let last =
                (1..=n).rev().take(8 * FIELDS as usize).find(|i| i % 4 == 2 && i / 4 % FIELDS == field);
            hash.extend(last.map(|i| (format!("f{field}"), i)));
        }
        let transactions = (n + 1) / 4;
        Model { string: last_of(0).unwrap_or(0), list, hash, counters: (transactions, transactions) }
    }

    /// Reads the keys of writer `w` from a server.
    fn of(client: &mut Client, w: usize) -> Model {
        let string = texts(client, &["GET", &format!("s:{w}")]);
        let list = texts(client, &["LRANGE", &format!("l:{w}"), "0", "-1"]);
        let mut hash: Vec<(String, u64)> = texts(client, &["HGETALL", &format!("h:{w}")])
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), number(&pair[1])))
            .collect();
        hash.sort();
        let counters = texts(client, &["MGET", &format!("a:{w}"), &format!("b:{w}")]);
        Model {
            string: string.first().map_or(0, |text| number(text)),
            list: list.iter().map(|text| number(text)).collect(),
            hash,
            counters: (number(&counters[0]), number(&counters[1])),
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// The strings of a reply; a missing one is empty.
fn texts(client: &mut Client, words: &[&str]) -> Vec<String> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let reply = client.command(&words).expect("the server answers");
    strings(&reply)
}

fn strings(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply);
    assert!(!text.starts_with('-'), "{text}");
    let mut lines = text.split("\r\n");
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        match line.as_bytes().first() {
            Some(b'$') if line == "$-1" => out.push(String::new()),
            Some(b'$') => out.extend(lines.next().map(str::to_owned)),
            _ => {}
        }
    }
    out
}

/// Appends command `i` of writer `w` and returns its number of replies.
fn add(out: &mut Vec<u8>, w: usize, i: u64) -> usize {
    let n = i.to_string();
    let key = |prefix: &str| format!("{prefix}:{w}");
    let mut request = |words: &[&str]| write_request(out, words.iter().map(|word| word.as_bytes()));
    match i % 4 {
        0 => request(&["SET", &key("s"), &n]),
        1 => request(&["RPUSH", &key("l"), &n]),
        2 => request(&["HSET", &key("h"), &format!("f{}", i / 4 % FIELDS), &n]),
        _ => {
            request(&["MULTI"]);
            request(&["INCR", &key("a")]);
            request(&["LTRIM", &key("l"), &(-(LIST as i64)).to_string(), "-1"]);
            request(&["INCR", &key("b")]);
            request(&["EXEC"]);
            return 5;
        }
    }
    1
}

/// Progress of a writer.
struct Written {
    acknowledged: u64,
    sent: u64,
    /// Times at which replies arrived, each with the highest acknowledged number.
    times: Vec<(Instant, u64)>,
}

/// Writes commands from `first` on, `depth` at a time, until the server is gone.
fn write(mut client: Client, w: usize, first: u64, depth: u64) -> Written {
    let mut written = Written { acknowledged: first - 1, sent: first - 1, times: Vec::new() };
    let mut out = Vec::new();
    loop {
        out.clear();
        let from = written.sent + 1;
        let replies: Vec<usize> = (from..from + depth).map(|i| add(&mut out, w, i)).collect();
        written.sent += depth;
        if client.send(&out).is_err() {
            return written;
        }
        for n in replies {
            for _ in 0..n {
                match client.reply() {
                    Ok(reply) => assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii()),
                    Err(_) => return written,
                }
            }
            written.acknowledged += 1;
        }
        written.times.push((Instant::now(), written.acknowledged));
    }
}

/// Reads the strings and lists of all writers until the server is gone; returns the highest number seen of each.
fn read(mut client: Client) -> Vec<u64> {
    let mut seen = vec![0; WRITERS];
    let mget: Vec<String> =
        ["MGET".to_owned()].into_iter().chain((0..WRITERS).map(|w| format!("s:{w}"))).collect();
    for turn in 0.. {
        let mut request = Vec::new();
        let tail = format!("l:{}", turn % WRITERS);
        write_request(&mut request, mget.iter().map(|word| word.as_bytes()));
        write_request(&mut request, ["LRANGE", &tail, "-1", "-1"].into_iter().map(str::as_bytes));
        if client.send(&request).is_err() {
            break;
        }
        let Ok(values) = client.reply() else { break };
        for (seen, value) in seen.iter_mut().zip(strings(&values)) {
            *seen = number(&value).max(*seen);
        }
        let Ok(last) = client.reply() else { break };
        if let Some(value) = strings(&last).first() {
            let seen = &mut seen[turn % WRITERS];
            *seen = number(value).max(*seen);
        }
    }
    seen
}

/// What the server does when it is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum During {
    Nothing,
    Rewrite,
    Snapshot,
    /// Each write to the file is slow.
    SlowDisk,
}

const DURING: [During; 4] = [During::Nothing, During::SlowDisk, During::Rewrite, During::Snapshot];

struct Crashes {
    directory: Directory,
    options: Vec<&'static str>,
    /// Number of executed commands of each writer.
    done: Vec<u64>,
    /// Writes acknowledged within this time before the end may be lost.
    grace: Duration,
}

impl Crashes {
    fn new(name: &str, fsync: &'static str, grace: Duration) -> Crashes {
        let options = vec![
            "--appendonly",
            "yes",
            "--appendfsync",
            fsync,
            "--enable-debug-command",
            "yes",
            "--aof-timestamp-enabled",
            "yes",
        ];
        Crashes { directory: Directory::new(name), options, done: vec![0; WRITERS], grace }
    }

    fn start(&self) -> ServerProcess {
        let dir = self.directory.0.to_str().expect("text");
        ServerProcess::start(&spinel(), &[&["--dir", dir][..], &self.options].concat())
    }

    /// Runs and kills one server, and checks what the next one finds.
    fn round(&mut self, seed: u64, during: During, life: Duration) {
        let rng = &mut Rng::new(seed);
        let mut server = self.start();
        let writers: Vec<JoinHandle<Written>> = (0..WRITERS)
            .map(|w| {
                let (client, first) = (server.client(), self.done[w] + 1);
                let depth = [1, 1, 2, 7, 16, 60][w % 6];
                thread::spawn(move || write(client, w, first, depth))
            })
            .collect();
        let readers: Vec<JoinHandle<Vec<u64>>> = (0..READERS)
            .map(|_| {
                let client = server.client();
                thread::spawn(move || read(client))
            })
            .collect();
        let over = Arc::new(AtomicBool::new(false));
        let disturber = {
            let (mut client, over) = (server.client(), Arc::clone(&over));
            let delay = rng.below(3000).to_string();
            thread::spawn(move || {
                let mut send = |words: &[&str]| {
                    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                    client.command(&words).is_ok()
                };
                match during {
                    During::Nothing => return,
                    During::SlowDisk => {
                        send(&["DEBUG", "AOF-FLUSH-SLEEP", "4000"]);
                        return;
                    }
                    During::Rewrite | During::Snapshot => {}
                }
                // A child process takes between 0 and 90 ms.
                send(&["CONFIG", "SET", "rdb-key-save-delay", &delay]);
                let command = if during == During::Rewrite { "BGREWRITEAOF" } else { "BGSAVE" };
                while !over.load(Ordering::Relaxed) && send(&[command]) {
                    thread::sleep(Duration::from_millis(3));
                }
            })
        };
        thread::sleep(life);
        let killed = Instant::now();
        let kill = Command::new("kill").args(["-9", &server.pid().to_string()]).status();
        assert!(kill.expect("there is such a program").success());
        over.store(true, Ordering::Relaxed);
        server.wait();
        disturber.join().expect("it does not panic");
        let written: Vec<Written> = writers.into_iter().map(|w| w.join().expect("no error reply")).collect();
        let seen: Vec<Vec<u64>> = readers.into_iter().map(|r| r.join().expect("no error reply")).collect();
        drop(server);

        let server = self.start();
        let mut client = server.client();
        for (w, written) in written.iter().enumerate() {
            let found = Model::of(&mut client, w);
            let acknowledged = match self.grace {
                Duration::ZERO => written.acknowledged,
                // The last acknowledgement that is old enough, in order of time.
                grace => {
                    let old = written.times.iter().rev().find(|(at, _)| *at + grace < killed);
                    old.map_or(self.done[w], |(_, n)| *n)
                }
            };
            let executed = (acknowledged..=written.sent).find(|&n| Model::after(n) == found);
            let Some(n) = executed else {
                panic!(
                    "seed {seed}, {during:?}: writer {w} had commands from {} on, {acknowledged} acknowledged, {} sent; \
                     found {found:?}, expected {:?}",
                    self.done[w] + 1,
                    written.sent,
                    Model::after(acknowledged)
                );
            };
            if self.grace.is_zero() {
                for seen in &seen {
                    assert!(
                        seen[w] <= n,
                        "seed {seed}, {during:?}: {} was seen of writer {w}, {n} is left",
                        seen[w]
                    );
                }
            }
            self.done[w] = n;
        }
    }
}

#[test]
fn acknowledged_writes_survive() {
    let mut crashes = Crashes::new("always", "always", Duration::ZERO);
    for seed in rounds(8) {
        let during = DURING[seed as usize % 4];
        let life = Duration::from_millis(20 + Rng::new(seed ^ 0xdead).below(250));
        crashes.round(seed, during, life);
    }
    assert!(crashes.done.iter().all(|&n| n > 0), "all writers wrote: {:?}", crashes.done);
}

/// The guarantee for a system failure, applied to a process: the kernel keeps what it was given, so only writes
/// that waited for a running sync are lost.
#[test]
fn no_more_than_the_last_moments_are_lost_with_everysec() {
    let mut crashes = Crashes::new("everysec", "everysec", Duration::from_secs(1));
    // Each round takes as long as several of the other tests.
    let rounds = rounds(8);
    let last = rounds.end() - (rounds.end() - rounds.start()) / 2;
    for seed in *rounds.start()..=last.max(rounds.start() + 4) {
        let life = Duration::from_millis(1200 + Rng::new(seed ^ 0xbeef).below(800));
        crashes.round(seed, DURING[seed as usize % 4], life);
    }
}

/// Neither the writer nor readers learn of a write before it is durable; a client that neither writes nor reads
/// anything new is served as usual.
#[test]
fn replies_wait_for_the_disk() {
    let crashes = Crashes::new("held", "always", Duration::ZERO);
    let mut server = crashes.start();
    let (mut control, mut writer, mut reader) = (server.client(), server.client(), server.client());
    control.command(&[b"SET", b"key", b"old"]).expect("it answers");
    control.command(&[b"DEBUG", b"AOF-FLUSH-SLEEP", b"700000"]).expect("it answers");
    let started = Instant::now();
    writer.send(b"SET key new\r\n").expect("it can be sent");
    thread::sleep(Duration::from_millis(150));
    assert_eq!(reader.command(&[b"GET", b"key"]).expect("it answers"), b"$3\r\nnew\r\n");
    assert!(started.elapsed() >= Duration::from_millis(650), "the reader was told too early");
    assert_eq!(writer.reply().expect("it answers"), b"+OK\r\n");
    // A write that was never acknowledged may be lost, and nobody may have seen it.
    writer.send(b"SET key newer\r\n").expect("it can be sent");
    thread::sleep(Duration::from_millis(150));
    reader.send(b"GET key\r\n").expect("it can be sent");
    thread::sleep(Duration::from_millis(150));
    assert!(Command::new("kill").args(["-9", &server.pid().to_string()]).status().expect("kill").success());
    server.wait();
    assert_eq!((writer.rest(), reader.rest()), (Vec::new(), Vec::new()));
    let server = crashes.start();
    assert_eq!(server.client().command(&[b"GET", b"key"]).expect("it answers"), b"$3\r\nnew\r\n");
}
