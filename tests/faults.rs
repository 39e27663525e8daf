//! Disks that fail at single calls: short writes, lack of space, errors of `write`, `fsync`, `ftruncate`, `open`
//! and `rename`; and forks that fail or take long.
//!
//! A small library between the server and the C library (`support/faults.c`) makes the calls fail that the test
//! names. The server is the unmodified program. After each fault it does what `redis.conf` says, recovers without a
//! restart once the disk works again, and has lost no acknowledged write.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, run, spinel};

const EIO: i32 = libc::EIO;
const ENOSPC: i32 = libc::ENOSPC;

/// Path of the library, which is compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let output = Command::new("cc")
            .args(["-Wall", "-O1", "-shared", "-fPIC", "-o"])
            .args([&path, &source])
            .arg("-ldl")
            .output()
            .expect("there is a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    })
}

/// A server with a disk that fails on demand.
struct Patient {
    server: Option<ServerProcess>,
    dir: PathBuf,
}

impl Patient {
    fn new(name: &str, options: &[&str]) -> Patient {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory can be made");
        let mut patient = Patient { server: None, dir };
        patient.well();
        patient.start(options);
        patient
    }

    fn start(&mut self, options: &[&str]) {
        let dir = self.dir.to_str().expect("text");
        let all = [&["--dir", dir, "--auto-aof-rewrite-percentage", "0"][..], options].concat();
        let control = self.dir.join("control");
        let environment = [("LD_PRELOAD", library()), ("FAULTS", control.as_path())];
        self.server = Some(ServerProcess::start_with(&spinel(), None, &all, &environment));
    }

    /// Makes calls fail as these lines say: `CALL NAME NTH ERRNO`.
    fn fail(&self, lines: &[(&str, &str, u32, i32)]) {
        let text: String =
            lines.iter().map(|(c, name, nth, error)| format!("{c} {name} {nth} {error}\n")).collect();
        let new = self.dir.join("control.new");
        fs::write(&new, text).expect("room for it");
        fs::rename(new, self.dir.join("control")).expect("it is ours");
    }

    fn well(&self) {
        self.fail(&[]);
    }

    fn client(&self) -> Client {
        self.server.as_ref().expect("it runs").client()
    }

    fn log(&self) -> String {
        self.server.as_ref().expect("it runs").log()
    }

    /// Kills the server and restarts it on a working disk.
    fn kill_and_restart(&mut self, options: &[&str]) {
        self.server = None;
        self.well();
        self.start(options);
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.server = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A key that counts up, and the last acknowledged number.
struct Counter {
    acknowledged: i64,
}

impl Counter {
    /// Increments the key; returns the reply if it is an error.
    fn add(&mut self, client: &mut Client) -> Result<(), String> {
        let reply = run(client, "INCR counter");
        match reply.strip_prefix(':') {
            Some(number) => {
                self.acknowledged = number.parse().expect("a number");
                Ok(())
            }
            None => Err(reply),
        }
    }

    fn check(&self, client: &mut Client, when: &str) {
        let stored = run(client, "GET counter");
        assert!(
            stored.ends_with(&format!("\n{}", self.acknowledged)),
            "{when}: {stored} but {}",
            self.acknowledged
        );
    }
}

/// Waits until the kernel has all output: with `everysec`, a write can be delayed by a running sync.
fn settle(client: &mut Client) {
    wait_until("what was acknowledged is not written", || {
        run(client, "INFO persistence").contains("aof_buffer_length:0")
    });
}

const EVERYSEC: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];

/// Refuses writes while calls on the increment fail, and accepts them afterwards without a restart.
fn refuses_and_recovers(name: &str, faults: &[(&str, &str, u32, i32)]) {
    let mut patient = Patient::new(name, EVERYSEC);
    let mut client = patient.client();
    let mut counter = Counter { acknowledged: 0 };
    for _ in 0..10 {
        counter.add(&mut client).expect("the disk is well");
    }
    patient.fail(faults);
    let mut refused = String::new();
    wait_until("no write is refused", || match counter.add(&mut client) {
        Ok(()) => false,
        Err(reply) => {
            refused = reply;
            true
        }
    });
    assert!(refused.starts_with("-MISCONF Errors writing to the AOF file: "), "{refused}");
    assert!(run(&mut client, "INFO persistence").contains("aof_last_write_status:err"));
    assert!(!run(&mut client, "GET counter").starts_with('-'), "what only reads is served");
    patient.well();
    wait_until("the server does not recover", || counter.add(&mut client).is_ok());
    assert!(run(&mut client, "INFO persistence").contains("aof_last_write_status:ok"));
    let log = patient.log();
    assert!(log.contains("AOF write error looks solved"));
    assert_eq!(
        log.matches("Writes are refused: the append-only file cannot be written: ").count(),
        1,
        "{log}"
    );
    assert!(
        log.contains("Free space on the disk of ") && log.contains("Writes are accepted again: data can"),
        "{log}"
    );
    settle(&mut client);
    patient.kill_and_restart(EVERYSEC);
    counter.check(&mut patient.client(), name);
}

#[test]
fn a_sync_that_fails() {
    refuses_and_recovers("fsync", &[("fsync", "incr.aof", 1, EIO)]);
}

#[test]
fn a_write_that_fails() {
    refuses_and_recovers("write", &[("write", "incr.aof", 1, ENOSPC)]);
}

#[test]
fn a_write_that_is_cut_short() {
    refuses_and_recovers("short", &[("short", "incr.aof", 1, ENOSPC)]);
}

#[test]
fn a_write_that_is_cut_short_and_cannot_be_taken_back() {
    refuses_and_recovers("torn", &[("short", "incr.aof", 1, ENOSPC), ("ftruncate", "incr.aof", 1, EIO)]);
}

#[test]
fn who_promised_durability_ends_and_has_kept_it() {
    let always = ["--appendonly", "yes", "--appendfsync", "always"];
    for (i, fault) in [("fsync", EIO), ("write", ENOSPC), ("short", ENOSPC)].into_iter().enumerate() {
        let mut patient = Patient::new(&format!("always-{i}"), &always);
        let mut client = patient.client();
        let mut counter = Counter { acknowledged: 0 };
        for _ in 0..10 {
            counter.add(&mut client).expect("the disk is well");
        }
        patient.fail(&[(fault.0, "incr.aof", 3, fault.1)]);
        let mut request = Vec::new();
        spinel::resp::request::write_request(&mut request, [&b"INCR"[..], b"counter"].into_iter());
        while client.send(&request).is_ok()
            && let Ok(reply) = client.reply()
        {
            counter.acknowledged = String::from_utf8_lossy(&reply[1..]).trim().parse().expect("a number");
        }
        let status = patient.server.as_mut().expect("it was started").wait();
        assert_eq!(status.code(), Some(1), "{fault:?}");
        assert!(patient.log().contains("Can't recover from AOF write error"), "{}", patient.log());
        patient.kill_and_restart(&always);
        // Unacknowledged writes may be present as well.
        let stored = run(&mut patient.client(), "GET counter");
        let stored: i64 = stored.rsplit('\n').next().and_then(|n| n.parse().ok()).expect("a number");
        assert!((counter.acknowledged..=counter.acknowledged + 1).contains(&stored), "{fault:?}: {stored}");
    }
}

#[test]
fn a_rewrite_with_an_error_at_any_call() {
    let mut patient = Patient::new("rewrite", EVERYSEC);
    let mut counter = Counter { acknowledged: 0 };
    let mut failed = 0;
    for call in ["write", "fsync", "open", "rename"] {
        for nth in 1..=4 {
            let mut client = patient.client();
            // The increment has tests of its own; this one fails calls on the base, the manifest and the directory.
            let names: &[&str] = if call == "open" {
                &["appendonlydir", "temp-rewrite"]
            } else {
                &["appendonly.aof.manifest", "base", "temp-rewrite", "appendonlydir$"]
            };
            let faults: Vec<_> = names.iter().map(|name| (call, *name, nth, EIO)).collect();
            patient.fail(&faults);
            let _ = run(&mut client, "BGREWRITEAOF");
            for _ in 0..20 {
                let _ = counter.add(&mut client);
            }
            let info = |client: &mut Client| run(client, "INFO persistence");
            wait_until("a rewrite does not end", || info(&mut client).contains("aof_rewrite_in_progress:0"));
            failed += usize::from(info(&mut client).contains("aof_last_bgrewrite_status:err"));
            patient.well();
            wait_until("the server does not recover", || counter.add(&mut client).is_ok());
            settle(&mut client);
            patient.kill_and_restart(EVERYSEC);
            let mut client = patient.client();
            counter.check(&mut client, &format!("{call} {nth}"));
            assert!(run(&mut client, "BGREWRITEAOF").starts_with("+Background"), "{call} {nth}");
            wait_until("a rewrite does not end", || info(&mut client).contains("aof_rewrite_in_progress:0"));
            assert!(info(&mut client).contains("aof_last_bgrewrite_status:ok"), "{call} {nth}");
        }
    }
    assert!(failed >= 5, "only {failed} of the faults were met");
}

#[test]
fn a_snapshot_that_fails_holds_up_writes_until_one_succeeds() {
    for (call, name) in [("write", "temp-"), ("fsync", "temp-"), ("rename", "dump.rdb"), ("open", "temp-")] {
        let options = ["--save", "1 1", "--rdbcompression", "no"];
        let mut patient = Patient::new(&format!("snapshot-{call}"), &options);
        let mut client = patient.client();
        let mut counter = Counter { acknowledged: 0 };
        counter.add(&mut client).expect("the disk is well");
        assert_eq!(run(&mut client, "SAVE"), "+OK");
        let before = fs::read(patient.dir.join("dump.rdb")).expect("it is there");
        patient.fail(&[(call, name, 1, ENOSPC)]);
        assert!(run(&mut client, "SAVE").starts_with('-'), "{call}");
        counter.add(&mut client).expect("a snapshot on demand holds up nothing");
        let mut refused = String::new();
        wait_until("no write is refused", || match counter.add(&mut client) {
            Ok(()) => false,
            Err(reply) => {
                refused = reply;
                true
            }
        });
        assert!(refused.starts_with("-MISCONF Redis is configured to save RDB snapshots"), "{refused}");
        assert_eq!(fs::read(patient.dir.join("dump.rdb")).expect("it is there"), before, "{call}");
        patient.well();
        wait_until("the server does not recover", || counter.add(&mut client).is_ok());
        let log = patient.log();
        assert_eq!(log.matches("Writes are refused: the last snapshot failed").count(), 1, "{log}");
        assert!(
            log.contains("then send BGSAVE") && log.contains("Writes are accepted again: data can"),
            "{log}"
        );
        let left = fs::read_dir(&patient.dir).expect("it is there").filter_map(Result::ok);
        let left = left.filter(|file| file.file_name().to_string_lossy().starts_with("temp-")).count();
        assert_eq!(left, 0, "{call} leaves files behind");
        patient.kill_and_restart(&options);
        let stored = run(&mut patient.client(), "GET counter");
        assert!(!stored.starts_with("$-1"), "{call}");
    }
}

#[test]
fn forks_that_fail_or_take_long_are_explained() {
    let mut patient = Patient::new("fork", &["--save", "1000 1"]);
    let mut client = patient.client();
    let saved = |client: &mut Client| {
        wait_until("a snapshot does not end", || {
            run(client, "INFO persistence").contains("rdb_bgsave_in_progress:0")
        });
    };
    assert!(run(&mut client, "BGSAVE").starts_with("+Background"));
    saved(&mut client);
    assert!(!patient.log().contains("The fork for a child process took"), "{}", patient.log());
    patient.fail(&[("slow", "fork", 1, 150)]);
    assert!(run(&mut client, "BGSAVE").starts_with("+Background"));
    saved(&mut client);
    let log = patient.log();
    let line =
        log.lines().find(|line| line.contains("The fork for a child process took")).expect("it is told");
    assert!(
        line.contains(" ms, in which no client was served.") && line.contains("save less often"),
        "{line}"
    );
    patient.fail(&[("fork", "fork", 1, libc::EAGAIN)]);
    assert!(run(&mut client, "BGSAVE").starts_with('-'));
    let log = patient.log();
    assert!(
        log.contains("Can't save in background: fork: ") && log.contains("vm.overcommit_memory"),
        "{log}"
    );
    assert!(log.contains("Writes are refused: the last snapshot failed"), "{log}");
    assert!(run(&mut client, "BGREWRITEAOF").starts_with('-'));
    patient.well();
    assert!(run(&mut client, "BGSAVE").starts_with("+Background"));
    saved(&mut client);
    assert!(patient.log().contains("Writes are accepted again: data can be saved"), "{}", patient.log());
    patient.server = None;
}

#[test]
fn a_start_that_cannot_read_ends_with_a_reason() {
    let mut patient = Patient::new("start", EVERYSEC);
    let mut client = patient.client();
    let mut counter = Counter { acknowledged: 0 };
    counter.add(&mut client).expect("the disk is well");
    patient.server = None;
    for name in ["manifest", "incr.aof", "base.rdb"] {
        patient.fail(&[("open", name, 1, EIO)]);
        let output = Command::new(spinel())
            .args(["--port", "0", "--unixsocket"])
            .arg(patient.dir.join("socket"))
            .arg("--dir")
            .arg(&patient.dir)
            .args(EVERYSEC)
            .env("LD_PRELOAD", library())
            .env("FAULTS", patient.dir.join("control"))
            .output()
            .expect("it runs");
        let log = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {log}");
        assert!(log.contains(name) && log.contains("Input/output error"), "{name}: {log}");
    }
    patient.kill_and_restart(EVERYSEC);
    counter.check(&mut patient.client(), "afterwards");
}
