//! Full and read-only disks, and missing or damaged files.
//!
//! A small file system in memory acts as the disk. If none can be mounted, the tests that need it are skipped, or
//! fail if `CI` is set.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, free_port, run, spinel};

const NO_SPACE: &str = "No space left on device";

/// A file system of one megabyte, or a plain directory; removed when dropped.
struct Disk {
    path: PathBuf,
    mounted: bool,
}

impl Disk {
    fn plain(name: &str) -> Disk {
        let path = std::env::temp_dir().join(format!("spinel-disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Disk { path, mounted: false }
    }

    fn small(name: &str) -> Option<Disk> {
        let mut disk = Disk::plain(name);
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk.path).output();
        disk.mounted = mount.is_ok_and(|output| output.status.success());
        if !disk.mounted {
            support::skip("no file system can be mounted here");
        }
        disk.mounted.then_some(disk)
    }

    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let dir = self.path.to_str().expect("text");
        [&["--dir", dir, "--enable-debug-command", "yes", "--auto-aof-rewrite-percentage", "0"][..], more]
            .concat()
    }

    /// Fills the disk except for `left` bytes.
    fn fill(&self, left: usize) {
        let filler = self.path.join("filler");
        let mut size = 1 << 20;
        while fs::write(&filler, vec![0; size]).is_err() {
            size -= 4096;
        }
        fs::write(&filler, vec![0; size - left]).expect("less fits as well");
    }

    fn free(&self) {
        fs::remove_file(self.path.join("filler")).expect("it is ours");
    }

    fn manifest(&self) -> PathBuf {
        self.path.join("appendonlydir/appendonly.aof.manifest")
    }

    fn increment(&self) -> PathBuf {
        self.path.join("appendonlydir/appendonly.aof.1.incr.aof")
    }

    /// Asserts that a server would load the files.
    fn assert_whole(&self) {
        let output = Command::new(spinel()).arg("check-aof").arg(self.manifest()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Runs a server that is expected to exit by itself.
    fn run(&self, more: &[&str]) -> (Output, String) {
        let output = Command::new(spinel())
            .args(["--port", &free_port().to_string(), "--save", ""])
            .args(self.options(more))
            .output()
            .expect("it runs");
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        (output, log)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Sets keys to 8 KB each until that fails; returns the number of acknowledged writes and the first error.
fn set_until_refused(client: &mut Client) -> (usize, Option<String>) {
    let value = vec![b'v'; 8192];
    for i in 0..1000 {
        match client.command(&[b"SET", format!("key:{i}").as_bytes(), &value]) {
            Ok(reply) if reply == b"+OK\r\n" => {}
            Ok(reply) => return (i, Some(String::from_utf8_lossy(&reply).trim_end().to_owned())),
            Err(_) => return (i, None),
        }
    }
    panic!("the disk is never full");
}

/// Incompressible bytes.
fn noise(n: usize) -> Vec<u8> {
    let mut rng = Rng::new(n as u64);
    (0..n).map(|_| rng.next_u64() as u8).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(disk) = Disk::small("everysec") else { return };
    let options = disk.options(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    disk.fill(200 << 10);
    let (_, refused) = set_until_refused(&mut client);
    let expected = format!("-MISCONF Errors writing to the AOF file: {NO_SPACE}");
    assert_eq!(refused.as_ref(), Some(&expected));
    assert!(server.log().contains(&format!("Error writing to the AOF file: {NO_SPACE}")), "{}", server.log());
    assert!(run(&mut client, "INFO persistence").contains("aof_last_write_status:err"));
    assert!(run(&mut client, "GET key:0").starts_with("$8192"), "reading goes on");
    disk.assert_whole();
    assert_eq!(run(&mut client, "SET key:0 new"), expected, "still");
    let before = run(&mut client, "DEBUG DIGEST");
    disk.free();
    wait_until("writes are taken again", || run(&mut client, "SETNX key:0 new") == ":0");
    assert!(run(&mut client, "INFO persistence").contains("aof_last_write_status:ok"));
    assert_eq!(run(&mut client, "DEBUG LOADAOF"), "+OK");
    assert_eq!(run(&mut client, "DEBUG DIGEST"), before, "what was executed before the refusal is written");
    assert_eq!(run(&mut client, "SET key:0 new"), "+OK");
    let before = run(&mut client, "DEBUG DIGEST");
    drop(server);
    disk.assert_whole();
    let server = ServerProcess::start(&spinel(), &options);
    assert_eq!(run(&mut server.client(), "DEBUG DIGEST"), before);
}

#[test]
fn a_server_that_promised_durability_ends() {
    let Some(disk) = Disk::small("always") else { return };
    let options = disk.options(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    disk.fill(200 << 10);
    let (acknowledged, refused) = set_until_refused(&mut client);
    assert_eq!(refused, None, "nothing is said about what is not on disk");
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log().contains(&format!("Error writing to the AOF file: {NO_SPACE}")), "{}", server.log());
    assert!(
        server
            .log()
            .contains("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...")
    );
    disk.assert_whole();
    disk.free();
    let server = ServerProcess::start(&spinel(), &options);
    assert_eq!(run(&mut server.client(), "DBSIZE"), format!(":{acknowledged}"));
}

#[test]
fn a_rewrite_that_fails_changes_nothing() {
    let Some(disk) = Disk::small("rewrite") else { return };
    let server = ServerProcess::start(&spinel(), &disk.options(&["--appendonly", "yes"]));
    let mut client = server.client();
    for i in 0..20 {
        let value = noise(10_000);
        client.command(&[b"SET", format!("key:{i}").as_bytes(), &value]).expect("it answers");
    }
    let before = run(&mut client, "DEBUG DIGEST");
    // Otherwise the output that waits for a slow fsync, and not the rewrite, would find the disk full.
    wait_until("all is written", || run(&mut client, "INFO persistence").contains("aof_buffer_length:0\r"));
    disk.fill(100 << 10);
    run(&mut client, "BGREWRITEAOF");
    wait_until("it fails", || run(&mut client, "INFO persistence").contains("aof_last_bgrewrite_status:err"));
    wait_until("it is over", || run(&mut client, "INFO persistence").contains("aof_rewrite_in_progress:0"));
    // The child's file is removed in the background.
    wait_until("a small write finds room", || run(&mut client, "SET more x") == "+OK");
    run(&mut client, "DEL more");
    disk.assert_whole();
    disk.free();
    run(&mut client, "BGREWRITEAOF");
    wait_until("it succeeds", || {
        run(&mut client, "INFO persistence").contains("aof_last_bgrewrite_status:ok")
    });
    assert_eq!(run(&mut client, "DEBUG LOADAOF"), "+OK");
    assert_eq!(run(&mut client, "DEBUG DIGEST"), before);
    let left: Vec<_> = fs::read_dir(&disk.path)
        .expect("our own directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("temp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_snapshot_that_fails_holds_up_writes() {
    let Some(disk) = Disk::small("snapshot") else { return };
    let server = ServerProcess::start(&spinel(), &[disk.options(&["--save"]), vec!["900 1"]].concat());
    let mut client = server.client();
    let value = noise(50_000);
    client.command(&[b"SET", b"key", &value]).expect("it answers");
    disk.fill(8192);
    assert_eq!(run(&mut client, "BGSAVE"), "+Background saving started");
    wait_until("it fails", || run(&mut client, "INFO persistence").contains("rdb_last_bgsave_status:err"));
    assert!(server.log().contains(NO_SPACE), "{}", server.log());
    assert!(run(&mut client, "SET a 1").starts_with("-MISCONF Redis is configured to save RDB snapshots"));
    assert_eq!(run(&mut client, "CONFIG SET stop-writes-on-bgsave-error no"), "+OK");
    assert_eq!(run(&mut client, "SET a 1"), "+OK");
    assert_eq!(run(&mut client, "CONFIG SET stop-writes-on-bgsave-error yes"), "+OK");
    assert!(run(&mut client, "SET a 1").starts_with("-MISCONF "));
    assert!(run(&mut client, "SAVE").starts_with("-ERR"));
    disk.free();
    assert_eq!(run(&mut client, "BGSAVE"), "+Background saving started");
    wait_until("it succeeds", || run(&mut client, "INFO persistence").contains("rdb_last_bgsave_status:ok"));
    assert_eq!(run(&mut client, "SET a 1"), "+OK");
}

#[test]
fn a_directory_that_is_read_only() {
    let Some(disk) = Disk::small("read-only") else { return };
    let remount = |how: &str| {
        let mount = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&disk.path).status();
        assert!(mount.expect("there is such a program").success());
    };
    remount("ro");
    let (output, log) = disk.run(&["--appendonly", "yes"]);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("Can't open or create the append-only dir appendonlydir: Read-only file system"),
        "{log}"
    );
    let server = ServerProcess::start(&spinel(), &disk.options(&[]));
    let mut client = server.client();
    assert_eq!(run(&mut client, "SET a 1"), "+OK");
    assert!(run(&mut client, "SAVE").starts_with("-ERR"));
    assert!(server.log().contains("Read-only file system"));
    run(&mut client, "CONFIG SET appendonly yes");
    assert_eq!(run(&mut client, "SET a 2"), "+OK", "it is not switched on");
    remount("rw");
    assert_eq!(run(&mut client, "SAVE"), "+OK");
}

fn requests(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        write_request(&mut bytes, words.into_iter());
    }
    bytes
}

fn place(disk: &Disk, increment: &[u8], parts: &str) {
    fs::create_dir_all(disk.path.join("appendonlydir")).expect("a directory can be made");
    fs::write(disk.increment(), increment).expect("our own file");
    fs::write(disk.manifest(), parts).expect("our own file");
}

const ONE: &str = "file appendonly.aof.1.incr.aof seq 1 type i\n";

#[test]
fn a_file_that_is_listed_must_be_there() {
    let disk = Disk::plain("missing");
    place(&disk, b"", &format!("file appendonly.aof.1.base.rdb seq 1 type b\n{ONE}"));
    let (output, log) = disk.run(&["--appendonly", "yes"]);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("appendonly.aof.1.base.rdb") && log.contains("No such file or directory"), "{log}");
    place(&disk, b"", "file x seq 1 typ i\n");
    let (output, log) = disk.run(&["--appendonly", "yes"]);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("at line 1") && log.contains(">>> 'file x seq 1 typ i'"), "{log}");
}

/// Complete commands are loaded and their bytes kept; the incomplete tail is cut off, and new commands follow
/// correctly.
#[test]
fn a_tail_that_is_cut_off() {
    let disk = Disk::plain("tail");
    let long = format!("SET long {}", "x".repeat(100_000));
    let whole = requests(&["SET a 1", "SET b 2"]);
    let tails: [(&str, Vec<u8>); 4] = [
        ("a request", requests(&["SET c 3"])[..20].to_vec()),
        ("a long string", requests(&[&long])[..60_000].to_vec()),
        ("a transaction", requests(&["MULTI", "SET a 9", "SET c 3"])),
        ("a transaction within a request", requests(&["MULTI", "SET a 9", "EXEC"])[..40].to_vec()),
    ];
    for (what, tail) in tails {
        let bytes = [&whole[..], &tail].concat();
        place(&disk, &bytes, ONE);
        let (output, log) = disk.run(&["--appendonly", "yes", "--aof-load-truncated", "no"]);
        assert_eq!(output.status.code(), Some(1), "{what}: {log}");
        assert!(log.contains("Unexpected end of file reading the append only file"), "{what}: {log}");
        assert_eq!(fs::read(disk.increment()).expect("it is there"), bytes, "{what}: left as it was");
        let options = disk.options(&["--appendonly", "yes", "--appendfsync", "always"]);
        let server = ServerProcess::start(&spinel(), &options);
        assert_eq!(fs::read(disk.increment()).expect("it is there"), whole, "{what}");
        assert!(server.log().contains("loaded anyway because aof-load-truncated is enabled"));
        let mut client = server.client();
        assert_eq!(run(&mut client, "MGET a b c"), "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1", "{what}");
        assert_eq!(run(&mut client, "APPEND b 7"), ":2");
        drop(server);
        let server = ServerProcess::start(&spinel(), &disk.options(&["--appendonly", "yes"]));
        assert_eq!(run(&mut server.client(), "MGET a b c"), "*3\r\n$1\r\n1\r\n$2\r\n27\r\n$-1", "{what}");
    }
}

#[test]
fn what_is_garbled_is_refused_and_can_be_mended() {
    let disk = Disk::plain("garbled");
    let whole = requests(&["SET a 1", "SET b 2"]);
    let name = format!("{} x", "N".repeat(50_000));
    for (garbage, message) in [
        (&b"!!!"[..], "Bad file format reading the append only file"),
        (b"\0\0\0\0\0\0\0\0", "Bad file format reading the append only file"),
        (&requests(&["NONSENSE x"]), "Unknown command 'NONSENSE' reading the append only file"),
        (&requests(&[&name]), "Unknown command 'NNNN"),
    ] {
        place(&disk, &[&whole[..], garbage, &requests(&["SET c 3"])].concat(), ONE);
        let (output, log) = disk.run(&["--appendonly", "yes"]);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(message), "{log}");
    }
    place(&disk, &[&whole[..], b"!!!", &requests(&["SET c 3"])].concat(), ONE);
    let mend = |path: &Path| {
        let mut child = Command::new(spinel())
            .args(["check-aof", "--fix"])
            .arg(path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("asked for"), b"y\n").expect("it listens");
        child.wait_with_output().expect("it ends")
    };
    let output = mend(&disk.manifest());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Successfully truncated AOF appendonly.aof.1.incr.aof"), "{text}");
    assert_eq!(fs::read(disk.increment()).expect("it is there"), whole);
    let server = ServerProcess::start(&spinel(), &disk.options(&["--appendonly", "yes"]));
    assert_eq!(run(&mut server.client(), "DBSIZE"), ":2");
}

/// With damaged files, a server either serves or exits with a line that says why; it neither hangs nor crashes.
#[test]
fn damaged_files_end_well() {
    let disk = Disk::plain("fuzz");
    let rng = &mut Rng::new(7);
    let mut whole =
        requests(&["SELECT 1", "SET a 1", "RPUSH l a b c", "MULTI", "HSET h f v", "EXEC", "ZADD z 1 a"]);
    whole.extend(requests(&[
        "PEXPIREAT a 4102444800000",
        &format!("SET long {}", "x".repeat(40_000)),
        "SPOP s",
    ]));
    let snapshot =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/redis-7.0.rdb")).expect("a file");
    for round in 0..16 {
        let mut bytes = if round % 3 == 0 { [&snapshot[..], &whole].concat() } else { whole.clone() };
        for _ in 0..=rng.below(3) {
            let at = if rng.one_in(2) { rng.index(bytes.len()) } else { rng.index(300) };
            match rng.below(4) {
                0 => bytes[at] = b"*$#0159-\r\n"[rng.index(10)],
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes.insert(at, b"0123456789"[rng.index(10)]),
                _ => drop(bytes.remove(at)),
            }
        }
        place(&disk, &bytes, ONE);
        let (port, log) = (free_port(), disk.path.join("log"));
        let mut child = Command::new(spinel())
            .args(["--port", &port.to_string(), "--save", ""])
            .args(disk.options(&["--appendonly", "yes", "--aof-load-truncated", "no"]))
            .stdout(fs::File::create(&log).expect("our own file"))
            .stderr(fs::File::create(disk.path.join("err")).expect("our own file"))
            .spawn()
            .expect("it runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                break Some(status);
            }
            let answer = Client::connect(port).and_then(|mut client| client.command(&[b"PING"]));
            if answer.is_ok_and(|reply| reply == b"+PONG\r\n") {
                break None;
            }
            assert!(Instant::now() < deadline, "round {round} hangs");
            std::thread::sleep(Duration::from_millis(5));
        };
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(&log).expect("our own file");
        if let Some(status) = status {
            assert_eq!(status.code(), Some(1), "round {round}: {log}");
            assert!(
                log.contains(" the append only file ") || log.contains("AOF file"),
                "round {round}: {log}"
            );
        }
    }
}
