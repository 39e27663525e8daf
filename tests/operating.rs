//! Operation: the log, signals, reports, statistics, and settings whose state lies outside the process.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use support::{ServerProcess, run, spinel};

fn signal(server: &ServerProcess, signal: i32) {
    let status = Command::new("kill").args([&format!("-{signal}"), &server.pid().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn signals_that_a_server_survives() {
    let server = ServerProcess::start(&spinel(), &[]);
    for harmless in [
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGXFSZ,
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGALRM,
    ] {
        signal(&server, harmless);
        assert_eq!(run(&mut server.client(), "PING"), "+PONG", "signal {harmless}");
    }
    wait_until("SIGALRM is not answered", || server.log().contains("SIGALRM RECEIVED"));
    let log = server.log();
    let report = &log[log.find("--- SIGALRM RECEIVED ---").expect("just seen")..];
    assert!(report.contains("STACK TRACE") && report.contains("0x"), "{report}");
    // Again, while the loop waits without a timeout.
    signal(&server, libc::SIGALRM);
    wait_until("SIGALRM is answered once only", || server.log().matches("SIGALRM RECEIVED").count() == 2);
}

#[test]
fn a_file_that_may_not_grow_is_an_error_like_others() {
    let limited = format!("ulimit -f 64; exec {} \"$@\"", spinel().display());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let shell = dir.join(format!("limited-{}", std::process::id()));
    fs::write(&shell, format!("#!/bin/sh\n{limited}\n")).expect("room for it");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&shell, executable).expect("it is ours");
    let server = ServerProcess::start(&shell, &["--appendonly", "yes"]);
    let mut client = server.client();
    let value = "v".repeat(8000);
    // A write of the log may wait for a running sync, so the refusal need not come at once.
    let mut refused = "+OK".to_owned();
    wait_until("the limit is never met", || {
        refused = run(&mut client, &format!("SET k {value}"));
        refused != "+OK"
    });
    assert_eq!(refused, "-MISCONF Errors writing to the AOF file: File too large");
    let _ = fs::remove_file(shell);
}

#[test]
fn a_report_names_us_and_shows_no_password() {
    for (line, secret) in [
        ("CONFIG SET requirepass s3cret", Some("s3cret")),
        ("AUTH user s3cret", Some("s3cret")),
        ("DEBUG SEGFAULT", None),
        ("DEBUG PANIC", None),
    ] {
        let mut server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        // The report shows the command that runs when the watchdog expires; MIGRATE blocks in the middle.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port().to_string();
        let mut request = Vec::new();
        let words: Vec<&str> = match secret {
            Some(_) => vec!["MIGRATE", "127.0.0.1", &port, "k", "0", "5000", "AUTH2", "user", "s3cret"],
            None => line.split(' ').collect(),
        };
        run(&mut client, "SET k v");
        write_request(&mut request, words.iter().map(|word| word.as_bytes()));
        client.send(&request).expect("it is connected");
        if secret.is_some() {
            let _peer = listener.accept().expect("it connects");
            std::thread::sleep(Duration::from_millis(200));
            signal(&server, libc::SIGSEGV);
        }
        let status = server.wait();
        assert!(matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGABRT)), "{status}");
        let log = server.log();
        assert!(log.contains("=== SPINEL BUG REPORT START") && !log.contains("REDIS BUG REPORT"), "{log}");
        assert!(!log.contains("Redis 7.2.4 crashed"), "{log}");
        if line != "DEBUG PANIC" {
            assert!(
                log.contains(concat!("Spinel ", env!("CARGO_PKG_VERSION"), " crashed by signal: 11")),
                "{log}"
            );
        }
        if secret.is_some() {
            assert!(log.contains("argv[8]: \"(redacted)\"") || log.contains("(redacted)"), "{log}");
            assert!(!log.contains("s3cret"), "{log}");
        }
        let number = |name: &str| {
            let value = log.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            value.parse::<u64>().expect("a number")
        };
        assert!(number("used_memory:") <= number("used_memory_peak:"));
    }
}

#[test]
fn the_watchdog_shows_no_password() {
    let server =
        ServerProcess::start(&spinel(), &["--enable-debug-command", "yes", "--watchdog-period", "200"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let mut client = server.client();
    run(&mut client, "CONFIG SET watchdog-period 200");
    run(&mut client, "SET k v");
    // Nobody answers, so the command blocks until its timeout.
    let reply = run(&mut client, &format!("MIGRATE 127.0.0.1 {port} k 0 1500 AUTH s3cret"));
    assert!(reply.starts_with("-IOERR"), "{reply}");
    wait_until("the watchdog reports nothing", || server.log().contains("WATCHDOG TIMER EXPIRED"));
    let log = server.log();
    assert!(log.contains("MIGRATE"), "{log}");
    assert!(log.contains("(redacted)") && !log.contains("s3cret"), "{log}");
}

#[test]
fn versions_are_told_to_people_and_to_scripts() {
    let output = Command::new(spinel()).arg("-v").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(" v=7.2.4 ") && text.contains(concat!(" spinel=", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for order in [["-v", "--compat-version", "8.2.3"], ["--compat-version", "8.2.3", "--version"]] {
        let output = Command::new(spinel()).args(order).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("Spinel server v=8.2.3 "), "the version it is to stand in for: {text}");
    }
    let build = text.split("build=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a build");
    assert!(build.bytes().any(|digit| digit != b'0'));
    let server = ServerProcess::start(&spinel(), &[]);
    let info = run(&mut server.client(), "INFO server");
    assert!(info.contains(&format!("redis_build_id:{build}\r\n")), "{info}");
}

#[test]
fn waiting_is_not_running() {
    let options = ["--slowlog-log-slower-than", "100000", "--latency-monitor-threshold", "100"];
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    let wait = |line: &str| {
        let mut waiting = server.client();
        let mut request = Vec::new();
        write_request(&mut request, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
        waiting.send(&request).expect("it is connected");
        std::thread::sleep(Duration::from_millis(250));
        waiting
    };
    // Clients that time out, are served, are unblocked, are closed, or disconnect while blocked; and a pause.
    assert_eq!(run(&mut client, "BLPOP nosuch 0.25"), "*-1");
    let mut served = wait("BLPOP list 5");
    run(&mut client, "RPUSH list x");
    served.reply().expect("it is served");
    let unblocked = wait("BRPOP nosuch 5");
    let list = run(&mut client, "CLIENT LIST");
    let line = list.lines().find(|line| line.contains("cmd=brpop")).expect("it waits");
    let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()).expect("a client has a number");
    assert_eq!(run(&mut client, &format!("CLIENT UNBLOCK {id} ERROR")), ":1");
    drop(unblocked);
    let mut killed = wait("BLMOVE nosuch other LEFT RIGHT 5");
    run(&mut client, "CLIENT KILL TYPE normal SKIPME yes");
    killed.rest();
    drop(wait("BZPOPMIN nosuch 5"));
    run(&mut client, "CLIENT PAUSE 250 WRITE");
    assert_eq!(run(&mut client, "SET k v"), "+OK");
    assert_eq!(run(&mut client, "SLOWLOG LEN"), ":0", "{}", run(&mut client, "SLOWLOG GET"));
    assert_eq!(run(&mut client, "LATENCY LATEST"), "*0");
    wait_until("who leaves is not counted", || {
        run(&mut client, "INFO commandstats").contains("cmdstat_bzpopmin")
    });
    let stats = run(&mut client, "INFO commandstats");
    for (name, calls) in [("blpop", 2), ("brpop", 1), ("blmove", 1), ("bzpopmin", 1), ("set", 1)] {
        let line =
            stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls={calls},usec=")));
        let usec = line.and_then(|rest| rest.split(',').next()).unwrap_or_else(|| panic!("{name}: {stats}"));
        assert!(usec.parse::<u64>().expect("a number") < 100_000, "{name}: {usec}");
    }
    let percentiles = run(&mut client, "INFO latencystats");
    let blpop = percentiles.lines().find(|line| line.contains("usec_blpop")).expect("it was counted");
    let p999 = blpop.rsplit('=').next().and_then(|number| number.trim().parse::<f64>().ok());
    assert!(p999.expect("a number") < 100_000.0, "{blpop}");
}

#[test]
fn a_client_cannot_fill_the_log() {
    let server =
        ServerProcess::start(&spinel(), &["--loglevel", "debug", "--client-query-buffer-limit", "1mb"]);
    let mut client = server.client();
    let payload = run(&mut client, "SET k v");
    assert_eq!(payload, "+OK");
    // A payload with a valid checksum and an invalid value: a list of type 1 whose announced length exceeds the
    // data.
    let mut value = vec![1, 200];
    value.extend([11, 0]);
    let checksum = spinel::stdx::crc64::update(0, &value);
    value.extend(checksum.to_le_bytes());
    let mut request = Vec::new();
    for _ in 0..10_000 {
        write_request(&mut request, [&b"RESTORE"[..], b"x", b"0", &value].into_iter());
    }
    client.send(&request).expect("it is connected");
    for _ in 0..10_000 {
        assert_eq!(client.reply().expect("it answers"), b"-ERR Bad data format\r\n");
    }
    for _ in 0..300 {
        let mut other = server.client();
        other.send(b"*x\r\n").expect("it is connected");
        other.rest();
    }
    let log = server.log();
    let restored = log.lines().filter(|line| line.contains("RESTORE: ")).count();
    let protocol = log.lines().filter(|line| line.contains("Protocol error (")).count();
    assert!((1..100).contains(&restored), "{restored} lines");
    assert!((1..100).contains(&protocol), "{protocol} lines");
    assert!(log.contains("more lines like this are left out for a second"));
}

#[test]
fn the_directory_is_where_the_process_is() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("operating-dir-{}", std::process::id()));
    let (dir, moved) = (root.join("data"), root.join("moved"));
    fs::create_dir_all(&dir).expect("a directory can be made");
    let path = dir.to_str().expect("text").to_owned();
    let options = ["--dir", &path, "--enable-protected-configs", "yes"];
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    let told = |text: &str| format!("*2\r\n$3\r\ndir\r\n${}\r\n{text}", text.len());
    assert_eq!(run(&mut client, "CONFIG GET dir"), told(&path));
    // Another directory replaces it, as when a volume is mounted again.
    fs::remove_dir_all(&dir).expect("it is ours");
    fs::create_dir(&dir).expect("a directory can be made");
    assert!(run(&mut client, "SAVE").starts_with('-'));
    assert_eq!(run(&mut client, "CONFIG GET dir"), told("").trim_end());
    assert_eq!(run(&mut client, &format!("CONFIG SET dir {path}")), "+OK");
    assert_eq!(run(&mut client, "SAVE"), "+OK");
    assert!(dir.join("dump.rdb").is_file());
    // The directory is renamed.
    fs::rename(&dir, &moved).expect("it is ours");
    assert_eq!(run(&mut client, "CONFIG GET dir"), told(moved.to_str().expect("text")));
    let _ = fs::remove_dir_all(root);
}

#[test]
fn a_snapshot_may_be_cancelled() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut client = server.client();
    const NONE: &str = "-ERR Background saving is currently not in progress or scheduled";
    assert_eq!(run(&mut client, "BGSAVE CANCEL"), NONE);
    run(&mut client, "MSET a 1 b 2 c 3");
    // Long enough for all that follows.
    assert_eq!(run(&mut client, "CONFIG SET rdb-key-save-delay 20000000"), "+OK");
    assert_eq!(run(&mut client, "BGSAVE"), "+Background saving started");
    assert_eq!(run(&mut client, "BGSAVE CANCEL"), "+Background saving cancelled");
    let mut info = || run(&mut client, "INFO persistence");
    wait_until("the child ends", || info().contains("rdb_bgsave_in_progress:0"));
    assert!(info().contains("rdb_last_bgsave_status:ok"));
    assert_eq!(run(&mut client, "BGSAVE CANCEL"), NONE);
    let left = fs::read_dir(&server.dir).expect("it is there").filter_map(Result::ok);
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().ends_with(".rdb")));
}

#[test]
fn turns_last_as_long_as_their_parts() {
    let server = ServerProcess::start(&spinel(), &["--appendonly", "yes"]);
    let mut client = server.client();
    for _ in 0..20 {
        run(&mut client, &format!("SET key {}", "x".repeat(100_000)));
        run(&mut client, "GET key");
    }
    std::thread::sleep(Duration::from_millis(300));
    let number = |text: &str, field: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(field)).and_then(|it| it.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{field}: {text}"))
    };
    let parts = run(&mut client, "INFO debug");
    let stats = run(&mut client, "INFO stats");
    let (log, timers) =
        (number(&parts, "eventloop_duration_aof_sum"), number(&parts, "eventloop_duration_cron_sum"));
    assert!(log > 0 && timers > 0, "{parts}");
    let commands = number(&stats, "eventloop_duration_cmd_sum");
    assert!(number(&stats, "eventloop_duration_sum") >= log + timers + commands, "{parts} {stats}");
}
