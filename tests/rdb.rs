//! Snapshots exchanged with real servers, and failures of saving and loading.
//!
//! The files in `tests/data` were made by `make.py` in the same directory. Tests that need a `redis-server` are
//! skipped if there is none, or fail if `CI` is set.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, free_port, redis, run, spinel};

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("spinel-rdb-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--dir", self.0.to_str().expect("text")][..], &DEBUG, more].concat()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn digest(client: &mut Client) -> String {
    run(client, "DEBUG DIGEST")
}

/// Waits for a line of INFO.
fn wait_for(client: &mut Client, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !run(client, "INFO persistence").contains(line) {
        assert!(Instant::now() < deadline, "no {line}: {}", run(client, "INFO persistence"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn snapshots_of_other_servers() {
    let dir = data();
    let dir = dir.to_str().expect("text");
    // Digests reported by redis-server for its own file and for the one in old encodings; Valkey's file holds the
    // same data.
    for (file, expected) in [
        ("redis-7.0.rdb", "+4b34eb0bfd1642c904d66240a416824f2d1968a9"),
        ("valkey-9.1.rdb", "+4b34eb0bfd1642c904d66240a416824f2d1968a9"),
        ("old.rdb", "+aa92392d7cfd69273c9b3fdc92a5809b03bb8c92"),
    ] {
        let options = [&["--dir", dir, "--dbfilename", file][..], &DEBUG].concat();
        let server = ServerProcess::start(&spinel(), &options);
        assert_eq!(digest(&mut server.client()), expected, "{file}");
        let check = Command::new(spinel()).arg("check-rdb").arg(data().join(file)).output().expect("it runs");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}

#[test]
fn there_and_back_again() {
    let Some(redis) = redis() else { return };
    let theirs = Directory::new("theirs");
    fs::copy(data().join("redis-7.0.rdb"), theirs.0.join("dump.rdb")).expect("a copy");
    let ours = Directory::new("ours");
    fs::copy(data().join("old.rdb"), ours.0.join("dump.rdb")).expect("a copy");
    let version = ["--rdb-save-version", "10"];
    for _ in 0..2 {
        // Each server loads the snapshot of the other.
        let first = ServerProcess::start(&spinel(), &ours.options(&version));
        let second = ServerProcess::start(&redis, &theirs.options(&[]));
        let (mut a, mut b) = (first.client(), second.client());
        let digests = (digest(&mut a), digest(&mut b));
        assert_eq!(run(&mut a, "SAVE"), "+OK");
        assert_eq!(run(&mut b, "SAVE"), "+OK");
        let [from, to] = [&ours, &theirs].map(|directory| directory.0.join("dump.rdb"));
        let kept = from.with_extension("kept");
        fs::rename(&from, &kept).expect("our own file");
        fs::rename(&to, &from).expect("our own file");
        fs::rename(&kept, &to).expect("our own file");
        assert_eq!(run(&mut a, "DEBUG RELOAD NOSAVE"), "+OK");
        assert_eq!(run(&mut b, "DEBUG RELOAD NOSAVE"), "+OK");
        assert_eq!((digest(&mut b), digest(&mut a)), digests);
        // And value by value.
        run(&mut a, "DEL moved");
        for key in
            ["list-lzf", "zset-large", "hash-small", "ints-large", "set-small", "long", "quicklist", "zset"]
        {
            let payload = b.command(&[b"DUMP", key.as_bytes()]).expect("it answers");
            if !payload.starts_with(b"$-1") {
                let start = payload.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
                let payload = &payload[start..payload.len() - 2];
                let reply =
                    a.command(&[b"RESTORE", b"moved", b"0", payload, b"REPLACE"]).expect("it answers");
                assert_eq!(reply, b"+OK\r\n", "{key}");
                let [value, copy] = [(&mut b, key), (&mut a, "moved")]
                    .map(|(client, key)| run(client, &format!("DEBUG DIGEST-VALUE {key}")));
                assert_eq!(copy, value, "{key}");
            }
        }
    }
}

#[test]
fn a_child_that_dies() {
    let directory = Directory::new("child");
    let mut options = directory.options(&["--rdb-key-save-delay", "10000000"]);
    options.extend(["--save", "900 1"]);
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    run(&mut client, "SET key value");
    let kill = |client: &mut Client, signal: &str| {
        assert_eq!(run(client, "BGSAVE"), "+Background saving started");
        assert!(run(client, "BGSAVE").contains("already in progress"));
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid()));
        let child = children.unwrap_or_default().trim().to_string();
        assert!(!child.is_empty(), "there is a child");
        assert!(Command::new("kill").args([signal, &child]).status().expect("kill").success());
        wait_for(client, "rdb_bgsave_in_progress:0");
    };
    // SIGUSR1 means that the snapshot is no longer needed.
    kill(&mut client, "-USR1");
    assert_eq!(run(&mut client, "SET key value"), "+OK");
    // Any other signal is a failure: writes are refused until a snapshot succeeds.
    kill(&mut client, "-KILL");
    assert!(
        run(&mut client, "SET key value").starts_with("-MISCONF Redis is configured to save RDB snapshots")
    );
    assert!(run(&mut client, "PING").starts_with("-MISCONF "));
    assert_eq!(run(&mut client, "GET key"), "$5\r\nvalue");
    assert_eq!(run(&mut client, "CONFIG SET rdb-key-save-delay 0"), "+OK");
    assert_eq!(run(&mut client, "BGSAVE"), "+Background saving started");
    wait_for(&mut client, "rdb_last_bgsave_status:ok");
    assert_eq!(run(&mut client, "SET key value"), "+OK");
    let left: Vec<_> = fs::read_dir(&directory.0)
        .expect("our own directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("temp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn damaged_files_are_not_served() {
    let directory = Directory::new("damaged");
    let path = directory.0.join("dump.rdb");
    let whole = fs::read(data().join("redis-7.0.rdb")).expect("a file of ours");
    let mut wrong_sum = whole.clone();
    *wrong_sum.last_mut().expect("not empty") ^= 1;
    for (bytes, message) in [
        (&wrong_sum[..], "RDB CRC error"),
        (&whole[..whole.len() / 2], "Short read"),
        (b"REDIS0011\xfe\x00\x15\x02xs\x01", "the data end too early, at offset 16"),
        (b"REDIS0011\xf5\x03abc\xff\0\0\0\0\0\0\0\0", "Failed creating the library"),
        (b"GARBAGE", "Terminating server after rdb file reading failure."),
    ] {
        fs::write(&path, bytes).expect("our own file");
        let output = Command::new(spinel())
            .args(["--port", &free_port().to_string(), "--save", ""])
            .args(directory.options(&[]))
            .output()
            .expect("it runs");
        let log = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(message), "{log}");
    }
}

#[test]
fn data_survive_a_shutdown() {
    let directory = Directory::new("shutdown");
    let options = [directory.options(&[]), vec!["--save", "900 1"]].concat();
    let mut server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    run(&mut client, "DEBUG POPULATE 1000 key 100");
    run(&mut client, "SADD set a b c");
    let before = digest(&mut client);
    client.send(b"SHUTDOWN\r\n").expect("it can be sent");
    assert!(server.wait().success());
    let server = ServerProcess::start(&spinel(), &options);
    assert_eq!(digest(&mut server.client()), before);
    assert!(server.log().contains("DB loaded from disk: "));
    assert!(server.log().contains("Done loading RDB, keys loaded: 1001, keys expired: 0."));
}
