//! Behaviour while a file is loaded, and effects of a file on the server that loads it.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use support::{Client, ServerProcess, free_port, run, spinel};

/// A directory with an append-only file of one part.
struct Log(PathBuf);

const INCREMENT: &str = "appendonly.aof.1.incr.aof";

impl Log {
    fn new(name: &str, lines: &[&str]) -> Log {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loading-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("appendonlydir")).expect("a directory can be made");
        let manifest = format!("file {INCREMENT} seq 1 type i\n");
        fs::write(dir.join("appendonlydir/appendonly.aof.manifest"), manifest).expect("room for it");
        let log = Log(dir);
        fs::write(log.increment(), requests(lines)).expect("room for it");
        log
    }

    fn increment(&self) -> PathBuf {
        self.0.join("appendonlydir").join(INCREMENT)
    }

    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let dir = self.0.to_str().expect("text");
        [&["--dir", dir, "--appendonly", "yes", "--enable-debug-command", "yes"][..], more].concat()
    }

    fn start(&self, more: &[&str]) -> ServerProcess {
        ServerProcess::start(&spinel(), &self.options(more))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn requests(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        write_request(&mut bytes, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
    }
    bytes
}

/// A server that may still be loading.
struct Loading {
    child: Child,
    port: u16,
}

impl Loading {
    fn start(options: &[&str]) -> Loading {
        let port = free_port();
        let child = Command::new(spinel())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        Loading { child, port }
    }

    fn client(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Client::connect(self.port) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the kernel has all output: with `everysec`, a write can be delayed by a running sync.
fn settle(server: &ServerProcess) {
    while !script(server, &["INFO persistence"])[0].contains("aof_buffer_length:0") {}
}

/// Sends each line and returns the raw replies.
fn script(server: &ServerProcess, lines: &[&str]) -> Vec<String> {
    let mut client = server.client();
    lines.iter().map(|line| run(&mut client, line)).collect()
}

#[test]
fn a_request_that_is_no_command_ends_the_start() {
    for (i, (lines, reason, at)) in [
        (&["SET a"][..], "Error 'wrong number of arguments for 'set' command'", 0),
        (&["NOSUCH a"], "Unknown command 'NOSUCH'", 0),
        (&["CONFIG NOSUCH a"], "Error 'unknown subcommand 'NOSUCH'", 0),
        (&["MULTI", "SET a", "EXEC"], "Error 'wrong number of arguments for 'set' command'", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let before = ["SELECT 0", "SET before 1"];
        let all = [&before[..], lines, &["SET after 1"]].concat();
        let offset = requests(&all[..before.len() + at]).len();
        let log = Log::new(&format!("fatal-{i}"), &all);
        let output = Command::new(spinel())
            .args(["--port", &free_port().to_string(), "--save", ""])
            .args(log.options(&[]))
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{lines:?}: {text}");
        assert!(text.contains(reason), "{lines:?}: {text}");
        let place = format!("reading the append only file {INCREMENT}, at offset {offset}");
        assert!(text.contains(&place), "{lines:?}: {text}");
    }
}

#[test]
fn an_error_of_a_command_is_logged_and_what_follows_is_loaded() {
    for (i, (lines, reason)) in [
        (&["SET s x", "LPUSH s x"][..], "WRONGTYPE"),
        (&["SET s x", "INCR s"], "ERR value is not an integer"),
        (&["SELECT 99"], "ERR DB index is out of range"),
        (&["EXEC"], "ERR EXEC without MULTI"),
        (&["MULTI", "MULTI", "EXEC"], "ERR MULTI calls can not be nested"),
        (&["SET s x", "MULTI", "SET t x", "LPUSH s x", "SUBSCRIBE c", "SET u x", "EXEC"], "WRONGTYPE"),
    ]
    .into_iter()
    .enumerate()
    {
        let all = [&["SELECT 0", "SET before 1"][..], lines, &["SET after 1"]].concat();
        let log = Log::new(&format!("error-{i}"), &all);
        let server = log.start(&[]);
        assert_eq!(script(&server, &["MGET before after"]), ["*2\r\n$1\r\n1\r\n$1\r\n1"], "{lines:?}");
        let text = server.log();
        let line =
            text.lines().find(|line| line.contains(reason)).unwrap_or_else(|| panic!("{lines:?}: {text}"));
        assert!(line.contains(" # The request at offset ") && line.contains(INCREMENT), "{line}");
        if i == 5 {
            assert_eq!(
                script(&server, &["MGET t u"]),
                ["*2\r\n$1\r\nx\r\n$1\r\nx"],
                "the others of the transaction ran"
            );
        }
        // Commands of the file do not count as calls; their errors count as unexpected.
        let stats = script(&server, &["INFO everything"]).concat();
        let code = reason.split(' ').next().expect("a code");
        assert!(!stats.contains("cmdstat_lpush"), "{stats}");
        // One is that of SUBSCRIBE in the last case.
        let errors = if i == 5 { 2 } else { 1 };
        for line in [
            format!("errorstat_{code}:count=1"),
            format!("unexpected_error_replies:{errors}"),
            format!("total_error_replies:{errors}"),
        ] {
            assert!(stats.contains(&line), "{line}: {stats}");
        }
    }
}

#[test]
fn an_error_of_a_command_ends_the_server_if_that_is_wished() {
    let lines = ["SELECT 0", "SET s x", "MULTI", "LPUSH s x", "EXEC", "SET after 1"];
    let log = Log::new("error-panic", &lines);
    let server = log.start(&["--propagation-error-behavior", "panic-on-replicas"]);
    assert_eq!(script(&server, &["GET after"]), ["$1\r\n1"], "the file is not a primary");
    drop(server);
    let log = Log::new("error-panic", &lines);
    let output = Command::new(spinel())
        .args(["--port", &free_port().to_string(), "--save", ""])
        .args(log.options(&["--propagation-error-behavior", "panic"]))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(6), "{text}");
    for line in [
        "This server is sending an error to its AOF-loading-client: '-WRONGTYPE Operation against a key holding the wrong \
         kind of value' after processing the command 'exec'",
        "This server panicked sending an error to its AOF-loading-client after processing the command 'exec'",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn requests_about_clients_and_the_server_are_not_run() {
    for line in [
        "SUBSCRIBE c",
        "PSUBSCRIBE c",
        "SSUBSCRIBE c",
        "MONITOR",
        "SHUTDOWN NOSAVE",
        "QUIT",
        "RESET",
        "HELLO 3",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT KILL TYPE normal SKIPME no",
        "CLIENT PAUSE 100000",
        "CLIENT TRACKING ON",
        "CLIENT SETNAME x",
        "AUTH x y",
        "WATCH k",
        "DISCARD",
        "DEBUG RELOAD",
        "DEBUG LOADAOF",
        "DEBUG SLEEP 100",
        "CONFIG SET maxmemory 1",
        "CONFIG REWRITE",
        "ACL SETUSER default off",
        "SAVE",
        "BGSAVE",
        "BGREWRITEAOF",
    ] {
        let log = Log::new("unfit", &["SELECT 0", "SET before 1", line, "SET after 1"]);
        let server = log.start(&[]);
        let got = script(&server, &["MGET before after", "CONFIG GET maxmemory", "SET new 1"]);
        assert_eq!(got[0], "*2\r\n$1\r\n1\r\n$1\r\n1", "{line}");
        assert_eq!((&*got[1], &*got[2]), ("*2\r\n$9\r\nmaxmemory\r\n$1\r\n0", "+OK"), "{line}");
        assert!(server.log().contains("Not a command of an append-only file"), "{line}: {}", server.log());
    }
    // A command of the file cannot block, as within a transaction.
    let log = Log::new("waiting", &["SELECT 0", "SET before 1", "BLPOP q 0", "RPUSH q 1", "SET after 1"]);
    assert_eq!(script(&log.start(&[]), &["MGET before after", "LLEN q"]), ["*2\r\n$1\r\n1\r\n$1\r\n1", ":1"]);
}

/// Whatever clients do and limits say during loading, the whole file is loaded.
#[test]
fn nobody_can_get_at_the_client_that_loads() {
    let value = "v".repeat(1000);
    let lines: Vec<String> = (0..40_000).map(|i| format!("SET key:{i} {value}")).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    // Replies of some megabytes, which no client reads.
    let many = format!("MGET {}", vec!["key:1"; 5000].join(" "));
    lines.insert(20_000, &many);
    let log = Log::new("hidden", &lines);
    let server = Loading::start(&log.options(&[
        "--timeout",
        "1",
        "--client-output-buffer-limit",
        "normal 100kb 0 0",
        "--key-load-delay",
        "1000",
        "--hz",
        "100",
    ]));
    let mut disturbed = 0;
    loop {
        let mut client = server.client();
        let list = run(&mut client, "CLIENT LIST");
        assert_eq!(list.matches(" addr=").count(), 1, "{list}");
        if run(&mut client, "INFO persistence").contains("\r\nloading:0") {
            break;
        }
        disturbed += 1;
        let _ = run(&mut client, "CLIENT KILL TYPE normal SKIPME no");
    }
    assert!(disturbed > 1, "it was loaded too fast to be disturbed");
    assert_eq!(run(&mut server.client(), "DBSIZE"), ":40000");
}

#[test]
fn a_pause_outlasts_loading() {
    for reload in ["DEBUG RELOAD", "DEBUG LOADAOF"] {
        let log = Log::new("pause", &["SELECT 0"]);
        let server = log.start(&[]);
        let got =
            script(&server, &["SET k v PX 600", "CLIENT PAUSE 100000 WRITE", reload, reload, "INFO stats"]);
        assert_eq!(got[..4], ["+OK", "+OK", "+OK", "+OK"]);
        std::thread::sleep(Duration::from_millis(900));
        // Due keys are hidden, and stay until the pause is over.
        assert_eq!(script(&server, &["GET k", "DBSIZE"]), ["$-1", ":1"], "{reload}");
        assert_eq!(script(&server, &["CLIENT UNPAUSE", "GET k", "DBSIZE"]), ["+OK", "$-1", ":0"], "{reload}");
    }
}

#[test]
fn what_loads_a_file_is_not_passed_on() {
    let log = Log::new("fed", &["SELECT 0"]);
    let before = fs::metadata(log.increment()).expect("it is there").len();
    let server = log.start(&[]);
    let ok = [
        "DEBUG RELOAD",
        "DEBUG LOADAOF",
        "DEBUG RELOAD NOSAVE",
        "CONFIG SET maxmemory 0",
        "DEBUG RELOAD MERGE",
    ];
    assert!(script(&server, &ok).iter().all(|reply| reply == "+OK"));
    assert_eq!(fs::metadata(log.increment()).expect("it is there").len(), before);
    // Later commands are logged again, and earlier commands of the same transaction are part of the file that is
    // loaded.
    let got = script(&server, &["MULTI", "SET a 1", "DEBUG LOADAOF", "GET a", "SET b 1", "EXEC", "SET c 1"]);
    assert_eq!(got[5], "*4\r\n+OK\r\n+OK\r\n$1\r\n1\r\n+OK");
    settle(&server);
    drop(server);
    let server = log.start(&[]);
    assert_eq!(script(&server, &["MGET a b c"]), ["*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1"]);
    assert!(!String::from_utf8_lossy(&fs::read(log.increment()).expect("it is there")).contains("DEBUG"));
}

#[test]
fn a_copy_of_due_fields_is_replayed_as_it_was_made() {
    let log = Log::new("copied", &["SELECT 0"]);
    let server = log.start(&["--enable-debug-command", "yes"]);
    let mut client = server.client();
    let mut reply = |line: &str| run(&mut client, line);
    assert_eq!(reply("DEBUG SET-ACTIVE-EXPIRE 0"), "+OK");
    reply("HSET h a 1 b 2 c 3");
    reply("HSET all a 1");
    reply("HPEXPIRE h 1 FIELDS 1 a");
    reply("HPEXPIRE h 1000000 FIELDS 1 b");
    reply("HPEXPIRE all 1 FIELDS 1 a");
    std::thread::sleep(Duration::from_millis(20));
    for (from, to) in [("h", "g"), ("all", "none"), ("h", "g2"), ("g", "g3 DB 1")] {
        assert_eq!(reply(&format!("COPY {from} {to}")), ":1");
    }
    // By the rules of Redis, HSET finds the due field, and it is not new.
    assert_eq!(reply("HSET g2 a new"), ":0");
    let shown =
        ["HGETALL g", "HGETALL none", "HMGET g2 a b c", "HPTTL g FIELDS 1 a", "HPERSIST g FIELDS 1 a"];
    let before = shown.map(&mut reply);
    assert_eq!(before[0], "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3");
    assert_eq!(before[1..], ["*0", "*3\r\n$3\r\nnew\r\n$1\r\n2\r\n$1\r\n3", "*1\r\n:-2", "*1\r\n:-2"]);
    let digest = reply("DEBUG DIGEST");
    assert_eq!(reply("DEBUG LOADAOF"), "+OK");
    assert_eq!((shown.map(&mut reply), reply("DEBUG DIGEST")), (before, digest));
    // The timer removes what is due, from copies as from originals.
    assert_eq!(reply("DEBUG SET-ACTIVE-EXPIRE 1"), "+OK");
    let until = Instant::now() + Duration::from_secs(10);
    while reply("EXISTS all none") != ":0" || [reply("HLEN h"), reply("HLEN g")] != [":2", ":2"] {
        assert!(Instant::now() < until, "{}", reply("INFO keyspace"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let digest = reply("DEBUG DIGEST");
    assert_eq!((reply("DEBUG LOADAOF"), reply("DEBUG DIGEST")), ("+OK".to_owned(), digest));
}

#[test]
fn a_client_that_waits_is_served_once_loading_is_over() {
    let log = Log::new("served", &["SELECT 0", "RPUSH q first"]);
    let server = log.start(&[]);
    let mut waiting = server.client();
    let mut other = server.client();
    assert_eq!(run(&mut other, "DEL q"), ":1");
    waiting.send(&requests(&["BLPOP q 0"])).expect("it is connected");
    while !run(&mut other, "INFO clients").contains("blocked_clients:1") {}
    fs::write(log.increment(), requests(&["SELECT 0", "RPUSH q first second"])).expect("room for it");
    assert_eq!(run(&mut other, "DEBUG LOADAOF"), "+OK");
    assert_eq!(waiting.reply().expect("it is served"), b"*2\r\n$1\r\nq\r\n$5\r\nfirst\r\n");
    assert_eq!(run(&mut other, "LRANGE q 0 -1"), "*1\r\n$6\r\nsecond");
    settle(&server);
    drop(server);
    let server = log.start(&[]);
    assert_eq!(script(&server, &["LRANGE q 0 -1"]), ["*1\r\n$6\r\nsecond"], "it was passed on");
}

#[test]
fn without_a_file_the_data_stay() {
    let server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
    let got = script(&server, &["SET k v", "DEBUG LOADAOF", "DEBUG RELOAD NOSAVE", "GET k"]);
    assert!(got[1].starts_with("-ERR Error trying to load the AOF files"), "{}", got[1]);
    assert!(got[2].starts_with("-ERR Error trying to load the RDB dump"), "{}", got[2]);
    assert_eq!(got[3], "$1\r\nv");
}

#[test]
fn a_snapshot_is_not_replaced_while_it_is_loaded() {
    let log = Log::new("snapshot", &[]);
    let dir = log.0.to_str().expect("text");
    let options = ["--dir", dir, "--enable-debug-command", "yes", "--enable-protected-configs", "yes"];
    let server = ServerProcess::start(&spinel(), &options);
    assert_eq!(script(&server, &["DEBUG POPULATE 5000", "SAVE"]), ["+OK", "+OK"]);
    drop(server);
    let slow = ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"];
    let server = Loading::start(&[&options[..], &slow].concat());
    let mut client = server.client();
    for line in ["DEBUG RELOAD", "DEBUG LOADAOF", "SAVE", "CONFIG SET appendonly yes", "CONFIG SET dir /"] {
        let reply = run(&mut client, line);
        assert!(reply.contains("LOADING") || reply.contains("loading"), "{line}: {reply}");
    }
    while run(&mut client, "INFO persistence").contains("\r\nloading:1") {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(run(&mut client, "DBSIZE"), ":5000");
}

/// A result computed from data that have expired since is the same whenever the log is loaded.
#[test]
fn the_log_gives_the_same_data_whenever_it_is_loaded() {
    let log = Log::new("clock", &["SELECT 0"]);
    let server = log.start(&[]);
    let got = script(
        &server,
        &[
            "RPUSH l 1 2",
            "HSET h1 f one w 9",
            "HSET h2 f two w 1",
            "SET k1 eins PX 300",
            "HPEXPIRE h1 300 FIELDS 2 f w",
            "SORT l BY nosort GET h*->f STORE d",
            "SORT l BY h*->w STORE e",
            "SORT l BY nosort GET k* STORE g",
            "COPY h1 h3",
            "SETRANGE k1 4 !",
            "HSTRLEN h1 f",
        ],
    );
    assert!(got.iter().all(|reply| !reply.starts_with('-')), "{got:?}");
    let look = ["LRANGE d 0 -1", "LRANGE e 0 -1", "LRANGE g 0 -1", "GET k1", "HGETALL h1", "HGETALL h3"];
    assert_eq!(script(&server, &look[..2]), ["*2\r\n$3\r\none\r\n$3\r\ntwo", "*2\r\n$1\r\n2\r\n$1\r\n1"]);
    std::thread::sleep(Duration::from_millis(500));
    let before = script(&server, &look);
    assert_eq!(script(&server, &["DEBUG LOADAOF"]), ["+OK"]);
    assert_eq!(script(&server, &look), before);
    settle(&server);
    drop(server);
    assert_eq!(script(&log.start(&[]), &look), before);
}

/// A snapshot without keys, with these auxiliary fields.
fn base(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = b"REDIS0011".to_vec();
    for (name, text) in fields {
        bytes.push(0xfa);
        for part in [name, text] {
            bytes.push(part.len() as u8);
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.extend_from_slice(b"\xff\0\0\0\0\0\0\0\0");
    bytes
}

#[test]
fn a_file_that_ends_with_a_position_has_the_data_of_that_position() {
    let id = "0123456789abcdef0123456789abcdef01234567";
    let position = format!("#REPL:{id}:77:3\r\n").into_bytes();
    let set = requests(&["SELECT 3", "SET k v"]);
    let torn = &set[..set.len() - 4];
    let multi = requests(&["MULTI", "SET k w"]);
    let aux = base(&[("repl-stream-db", "3"), ("repl-id", id), ("repl-offset", "77")]);
    let plain = base(&[("aof-base", "1")]);
    let ends_with = [&set, &position[..]].concat();
    let cases = [
        ("ends with it", None, ends_with.clone(), true),
        ("timestamp after it", None, [&set, &position[..], b"#TS:1700000000\r\n"].concat(), true),
        ("request after it", None, [&set, &position[..], &set].concat(), false),
        ("taken back", None, [&set, &position[..], b"#REPL:-\r\n"].concat(), false),
        ("torn request after it", None, [&set, &position[..], torn].concat(), false),
        ("half a transaction after it", None, [&set, &position[..], &multi].concat(), false),
        ("torn itself", None, [&set, &position[..position.len() - 1]].concat(), false),
        ("base", Some(&aux), Vec::new(), true),
        ("base and request", Some(&aux), set.clone(), false),
        ("base without, then with", Some(&plain), ends_with, true),
    ];
    for (what, base, increment, expected) in cases {
        let log = Log::new(&format!("position-{}", what.replace(' ', "-")), &[]);
        fs::write(log.increment(), increment).expect("room for it");
        if let Some(base) = base {
            let name = "appendonly.aof.1.base.rdb";
            let manifest = format!("file {name} seq 1 type b\nfile {INCREMENT} seq 1 type i\n");
            let dir = log.0.join("appendonlydir");
            fs::write(dir.join(name), base).expect("room for it");
            fs::write(dir.join("appendonly.aof.manifest"), manifest).expect("room for it");
        }
        let server = log.start(&[]);
        let text = server.log();
        let line = format!("The data are those of offset 77 in the history {id}");
        assert_eq!(text.contains(&line), expected, "{what}: {text}");
    }
}
