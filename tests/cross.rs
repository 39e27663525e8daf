//! Append-only files exchanged between servers: from Redis to Spinel and back, and from Valkey to Spinel.
//!
//! Tests whose server is not installed are skipped, or fail if `CI` is set.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, redis, run, spinel, valkey};

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
