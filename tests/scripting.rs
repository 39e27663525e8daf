//! Scripts and functions over sockets: service of other clients meanwhile, persistence, users, memory, isolation.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Client, ServerProcess, run, spinel};

/// Sends a request and returns the reply without its last line end.
fn ask(client: &mut Client, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let reply = client.command(&words).expect("the server answers");
    String::from_utf8_lossy(&reply).trim_end().to_string()
}

/// Sends a request without waiting for the reply.
fn send(client: &mut Client, words: &[&str]) {
    let mut request = Vec::new();
    spinel::resp::request::write_request(&mut request, words.iter().map(|word| word.as_bytes()));
    client.send(&request).expect("the server reads");
}

/// Waits until `client` is told that a script keeps it waiting.
fn wait_until_busy(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !run(client, "PING").starts_with("-BUSY") {
        assert!(Instant::now() < deadline, "the script is not slow");
    }
}

fn reply(client: &mut Client) -> String {
    String::from_utf8_lossy(&client.reply().expect("there is a reply")).trim_end().to_string()
}

const SLOW: [&str; 2] = ["--busy-reply-threshold", "20"];

#[test]
fn others_are_served_while_a_script_runs_until_it_is_killed() {
    let server = ServerProcess::start(&spinel(), &SLOW);
    let (mut caller, mut other) = (server.client(), server.client());
    for endless in [
        "while true do end",
        "while true do pcall(function() while true do redis.call('ping') end end) end",
        "while true do redis.pcall('get', 'k') end",
    ] {
        // The request behind the script waits for it.
        send(&mut caller, &["EVAL", endless, "0"]);
        send(&mut caller, &["ECHO", "behind"]);
        wait_until_busy(&mut other);
        let mut late = server.client();
        assert!(run(&mut late, "SET k v").starts_with("-BUSY"));
        assert!(run(&mut late, "FUNCTION KILL").starts_with("-BUSY"));
        assert!(run(&mut late, "SHUTDOWN").starts_with("-BUSY"));
        assert_eq!(run(&mut other, "SCRIPT KILL"), "+OK");
        assert!(reply(&mut caller).starts_with("-ERR Script killed by user with SCRIPT KILL."));
        assert_eq!(reply(&mut caller), "$6\r\nbehind");
        assert_eq!(run(&mut other, "PING"), "+PONG");
        assert!(run(&mut other, "SCRIPT KILL").starts_with("-NOTBUSY"));
    }
    ask(
        &mut other,
        &["FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() while true do end end)"],
    );
    send(&mut caller, &["FCALL", "f", "0"]);
    wait_until_busy(&mut other);
    let stats = run(&mut other, "FUNCTION STATS");
    assert!(stats.contains("$1\r\nf\r\n") && stats.contains("$5\r\nFCALL\r\n"), "{stats}");
    assert!(run(&mut other, "SCRIPT KILL").starts_with("-BUSY"));
    assert_eq!(run(&mut other, "FUNCTION KILL"), "+OK");
    assert!(reply(&mut caller).starts_with("-ERR Script killed by user with FUNCTION KILL."));
}

/// Many who are ready in the same turn as the script are served while it runs.
#[test]
fn nobody_is_left_waiting_by_a_script_of_the_same_turn() {
    let server = ServerProcess::start(&spinel(), &SLOW);
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            match i {
                10 => send(client, &["EVAL", "while true do end", "0"]),
                _ => send(client, &["PING"]),
            }
        }
        for (i, client) in clients.iter_mut().enumerate().filter(|(i, _)| *i != 10) {
            let answer = reply(client);
            assert!(answer == "+PONG" || answer.starts_with("-BUSY"), "client {i}: {answer}");
        }
        // Those who leave meanwhile do not matter.
        clients.truncate(15);
        let mut killer = server.client();
        wait_until_busy(&mut killer);
        assert_eq!(run(&mut killer, "SCRIPT KILL"), "+OK");
        assert!(reply(&mut clients[10]).starts_with("-ERR Script killed"));
        assert_eq!(run(&mut killer, "PING"), "+PONG");
    }
}

#[test]
fn a_script_that_has_written_ends_only_with_the_server() {
    let mut server = ServerProcess::start(&spinel(), &SLOW);
    let (mut caller, mut other, mut waiting) = (server.client(), server.client(), server.client());
    send(&mut waiting, &["BLPOP", "l", "0"]);
    std::thread::sleep(Duration::from_millis(100));
    send(&mut caller, &["EVAL", "redis.call('lpush', 'l', 1) while true do end", "0"]);
    wait_until_busy(&mut other);
    assert!(run(&mut other, "SCRIPT KILL").starts_with("-UNKILLABLE"));
    send(&mut other, &["SHUTDOWN", "NOSAVE"]);
    assert!(server.wait().success());
    assert!(waiting.rest().is_empty(), "what the script did is not seen before it has ended");
}

#[test]
fn time_stands_still_and_nothing_expires_while_others_are_served() {
    let server = ServerProcess::start(&spinel(), &SLOW);
    let mut client = server.client();
    let script = "redis.call('set', 'k', 'v', 'px', 30)
        local first = redis.call('time')
        for i = 1, 30000000 do local x = i * i end
        local last = redis.call('time')
        return {redis.call('get', 'k'), first[1] == last[1] and first[2] == last[2], redis.call('dbsize')}";
    assert_eq!(ask(&mut client, &["EVAL", script, "0"]), "*3\r\n$1\r\nv\r\n:1\r\n:1");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(run(&mut client, "GET k"), "$-1");
}

fn logged(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir.join("appendonlydir")).expect("there is a log") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "aof") {
            text.push_str(&String::from_utf8_lossy(&fs::read(path).expect("it can be read")));
        }
    }
    text
}

#[test]
fn what_scripts_change_is_written_down_as_one_and_comes_back() {
    const LIBRARY: &str =
        "#!lua name=lib\nredis.register_function('f', function(keys) return redis.call('incr', keys[1]) end)";
    let dir = std::env::temp_dir().join(format!("spinel-scripting-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory can be made");
    let dir_text = dir.to_str().expect("text").to_owned();
    // The file has whatever was replied to.
    let always = ["--appendonly", "yes", "--appendfsync", "always"];
    let options = [&["--dir", dir_text.as_str(), "--enable-debug-command", "yes"], &always[..]].concat();
    let (digest, list);
    {
        let server = ServerProcess::start(&spinel(), &options);
        let client = &mut server.client();
        run(client, "CONFIG SET aof-use-rdb-preamble no");
        ask(client, &["EVAL", "redis.call('set', 'one', 1)", "0"]);
        ask(
            client,
            &["EVAL", "redis.call('set', 'a', 1) redis.call('set', 'b', 2) redis.call('get', 'a')", "0"],
        );
        ask(
            client,
            &[
                "EVAL",
                "redis.set_repl(redis.REPL_NONE) redis.call('set', 'hidden', 1) redis.set_repl(redis.REPL_ALL) redis.call('del', 'hidden')",
                "0",
            ],
        );
        ask(client, &["EVAL", "redis.call('select', 3) redis.call('set', 'in3', 1)", "0"]);
        assert_eq!(run(client, "DBSIZE"), ":3", "the caller's database stays selected");
        assert_eq!(ask(client, &["FUNCTION", "LOAD", LIBRARY]), "$3\r\nlib");
        assert_eq!(ask(client, &["FCALL", "f", "1", "n"]), ":1");
        let log = logged(&dir).replace("\r\n", " ");
        assert!(!log.contains("EVAL") && !log.contains("FCALL") && log.contains("FUNCTION $4 LOAD"), "{log}");
        assert!(!log.contains("$6 hidden $1 1"), "{log}");
        assert!(log.contains("*1 $5 MULTI *3 $3 set $1 a $1 1 *3 $3 set $1 b $1 2 *1 $4 EXEC"), "{log}");
        assert_eq!(log.matches("MULTI").count(), 1, "{log}");
        (digest, list) = (run(client, "DEBUG DIGEST"), run(client, "FUNCTION LIST WITHCODE"));
        assert_eq!(run(client, "DEBUG LOADAOF"), "+OK");
        assert_eq!(
            (run(client, "DEBUG DIGEST"), run(client, "FUNCTION LIST WITHCODE")),
            (digest.clone(), list.clone())
        );
    }
    for preamble in ["yes", "no"] {
        let server = ServerProcess::start(&spinel(), &options);
        let client = &mut server.client();
        assert_eq!(
            (run(client, "DEBUG DIGEST"), run(client, "FUNCTION LIST WITHCODE")),
            (digest.clone(), list.clone())
        );
        // The next time the library comes from the base of the log.
        run(client, &format!("CONFIG SET aof-use-rdb-preamble {preamble}"));
        run(client, "BGREWRITEAOF");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !run(client, "INFO persistence")
            .contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0")
        {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let server = ServerProcess::start(&spinel(), &options);
    let client = &mut server.client();
    assert_eq!((run(client, "DEBUG DIGEST"), run(client, "FUNCTION LIST WITHCODE")), (digest, list.clone()));
    assert_eq!(run(client, "DEBUG RELOAD"), "+OK");
    assert_eq!(run(client, "FUNCTION LIST WITHCODE"), list);
    let dump = client.command(&[b"FUNCTION", b"DUMP"]).expect("it answers");
    let start = dump.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
    let payload = &dump[start..dump.len() - 2];
    assert!(
        client
            .command(&[b"FUNCTION", b"RESTORE", payload])
            .expect("it answers")
            .starts_with(b"-ERR Library lib already exists")
    );
    run(client, "FUNCTION FLUSH");
    assert_eq!(client.command(&[b"FUNCTION", b"RESTORE", payload]).expect("it answers"), b"+OK\r\n");
    assert_eq!(run(client, "FUNCTION LIST WITHCODE"), list);
    let mut damaged = payload.to_vec();
    damaged[5] ^= 1;
    let refused = client.command(&[b"FUNCTION", b"RESTORE", &damaged, b"REPLACE"]).expect("it answers");
    assert!(refused.starts_with(b"-ERR DUMP payload version or checksum are wrong"));
    drop(server);
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_script_may_do_what_its_caller_may() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut admin, mut limited) = (server.client(), server.client());
    run(&mut admin, "ACL SETUSER u on nopass +@all -get ~a*");
    assert_eq!(run(&mut limited, "AUTH u x"), "+OK");
    assert_eq!(ask(&mut limited, &["EVAL", "return redis.call('set', 'ab', 1)", "0"]), "+OK");
    let denied = ask(&mut limited, &["EVAL", "return redis.call('get', 'ab')", "0"]);
    assert!(
        denied.starts_with("-ERR ACL failure in script: User u has no permissions to run the 'get' command"),
        "{denied}"
    );
    let denied = ask(&mut limited, &["EVAL", "return redis.pcall('set', 'b', 1)", "0"]);
    assert_eq!(denied, "-ERR ACL failure in script: No permissions to access a key");
    let checked = ask(
        &mut limited,
        &["EVAL", "return {redis.acl_check_cmd('set','b',1), redis.acl_check_cmd('set','a',1)}", "0"],
    );
    assert_eq!(checked, "*2\r\n$-1\r\n:1");
    let log = run(&mut admin, "ACL LOG");
    assert!(
        log.contains("$3\r\nlua\r\n") && log.contains("$1\r\nb\r\n") && log.contains("cmd=eval"),
        "{log}"
    );
    // The caller's rights end with the script.
    assert_eq!(ask(&mut admin, &["EVAL", "return redis.call('get', 'ab')", "0"]), "$1\r\n1");
}

#[test]
fn without_memory_scripts_do_what_they_declare() {
    let server = ServerProcess::start(&spinel(), &[]);
    let client = &mut server.client();
    run(client, "SET k v");
    run(client, "CONFIG SET maxmemory 1");
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert!(ask(client, &["EVAL", "return redis.call('set', 'a', 1)", "0"]).starts_with(OOM));
    assert_eq!(ask(client, &["EVAL", "return redis.pcall('set', 'a', 1)", "0"]), OOM);
    assert_eq!(ask(client, &["EVAL", "return redis.call('get', 'k')", "0"]), "$1\r\nv");
    // What has begun is not left half done.
    assert_eq!(ask(client, &["EVAL", "redis.call('del', 'k') return redis.call('set', 'a', 1)", "0"]), "+OK");
    assert!(ask(client, &["EVAL", "#!lua\nreturn 1", "0"]).starts_with("-OOM"));
    assert_eq!(ask(client, &["EVAL", "#!lua flags=allow-oom\nreturn redis.call('set', 'b', 1)", "0"]), "+OK");
    assert_eq!(
        ask(client, &["EVAL", "#!lua flags=no-writes\nreturn redis.call('get', 'b')", "0"]),
        "$1\r\n1"
    );
}

#[test]
fn scripts_leave_nothing_behind() {
    let server = ServerProcess::start(&spinel(), &[]);
    let client = &mut server.client();
    for script in [
        "x = 1",
        "redis.call = nil",
        "string.len = nil",
        "getmetatable('').__index = nil",
        "setmetatable(_G, {})",
        "_G.pairs = nil",
        "rawset(_G, 'y', 1)",
        "table.insert(math, 1)",
    ] {
        let answer = ask(client, &["EVAL", script, "0"]);
        assert!(answer.starts_with("-ERR"), "{script}: {answer}");
    }
    ask(client, &["EVAL", "redis.setresp(3) redis.call('select', 5) math.randomseed(7)", "0"]);
    let intact =
        "local s = 'abc' return {s:len(), type(pairs), redis.call('hgetall', 'none'), redis.call('ping')}";
    assert_eq!(ask(client, &["EVAL", intact, "0"]), "*4\r\n:3\r\n$8\r\nfunction\r\n*0\r\n+PONG");
    assert!(run(client, "CLIENT INFO").contains(" db=0 "));
    // Scripts of EVAL make room for others; those of SCRIPT LOAD stay.
    let kept = ask(client, &["SCRIPT", "LOAD", "return 'kept'"]);
    let first = ask(client, &["EVAL", "return 'first'", "0"]);
    assert_eq!(first, "$5\r\nfirst");
    for i in 0..600 {
        ask(client, &["EVAL", &format!("return {i}"), "0"]);
    }
    let memory = run(client, "INFO memory");
    assert!(memory.contains("number_of_cached_scripts:501\r\n"), "{memory}");
    let sha = kept.split("\r\n").nth(1).expect("a bulk string");
    assert_eq!(ask(client, &["EVALSHA", sha, "0"]), "$4\r\nkept");
    assert_eq!(ask(client, &["SCRIPT", "SHOW", sha]), "$13\r\nreturn 'kept'");
}

#[test]
fn monitors_and_statistics_tell_of_scripts() {
    let server = ServerProcess::start(&spinel(), &["--slowlog-log-slower-than", "0"]);
    let (mut client, mut monitor) = (server.client(), server.client());
    run(&mut monitor, "MONITOR");
    ask(&mut client, &["EVAL", "redis.call('set', 'k', 1) return redis.pcall('incr')", "0"]);
    let lines: Vec<String> = (0..2).map(|_| reply(&mut monitor)).collect();
    assert!(lines[0].contains("\"EVAL\" ") && !lines[0].contains("[0 lua]"), "{lines:?}");
    assert!(lines[1].contains("[0 lua] \"set\" \"k\" \"1\""), "{lines:?}");
    let stats = run(&mut client, "INFO commandstats");
    let of = |name: &str| {
        let line =
            stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).unwrap_or_default();
        (line.contains(":calls=1,"), line.contains("rejected_calls=1,"), line.contains("failed_calls=1"))
    };
    assert_eq!(
        (of("set"), of("incr"), of("eval")),
        ((true, false, false), (false, true, false), (true, false, true)),
        "{stats}"
    );
    assert!(run(&mut client, "INFO errorstats").contains("errorstat_ERR:count=1"));
    assert!(run(&mut client, "SLOWLOG GET").contains("$3\r\nset\r\n$1\r\nk\r\n$1\r\n1\r\n$3\r\n?:0"));
}

#[test]
fn keys_that_a_script_reads_are_tracked_for_its_caller() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut reader, mut writer) = (server.client(), server.client());
    run(&mut reader, "HELLO 3");
    run(&mut reader, "CLIENT TRACKING ON");
    run(&mut writer, "SET k 1");
    assert_eq!(ask(&mut reader, &["EVAL", "return redis.call('get', 'k')", "1", "k"]), "$1\r\n1");
    ask(&mut writer, &["EVAL", "redis.call('set', 'k', 2)", "0"]);
    assert_eq!(reply(&mut reader), ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk");
}

#[test]
fn transactions_and_scripts_go_together() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut client, mut other) = (server.client(), server.client());
    run(&mut client, "WATCH k");
    ask(&mut other, &["EVAL", "redis.call('set', 'k', 1)", "0"]);
    run(&mut client, "MULTI");
    run(&mut client, "PING");
    assert_eq!(run(&mut client, "EXEC"), "*-1");
    run(&mut client, "MULTI");
    run(&mut client, "SET a 1");
    ask(&mut client, &["EVAL", "return redis.call('incr', 'a')", "0"]);
    ask(&mut client, &["EVALSHA", &"f".repeat(40), "0"]);
    ask(&mut client, &["EVAL", "return redis.call('blpop', 'none', 0)", "0"]);
    assert_eq!(
        run(&mut client, "EXEC"),
        "*4\r\n+OK\r\n:2\r\n-NOSCRIPT No matching script. Please use EVAL.\r\n$-1"
    );
}

#[test]
fn what_needs_the_engine_is_refused_in_scripts() {
    let server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
    let mut client = server.client();
    assert_eq!(run(&mut client, "DEBUG SET-DISABLE-DENY-SCRIPTS 1"), "+OK");
    let refused = "ERR This Redis command is not allowed from script";
    for command in [
        "'eval','return 1',0",
        "'evalsha','x',0",
        "'fcall','f',0",
        "'function','list'",
        "'script','flush'",
        "'save'",
        "'debug','reload'",
        "'debug','loadaof'",
    ] {
        let script = format!("return redis.pcall({command}).err");
        let reply = client.command(&[b"EVAL", script.as_bytes(), b"0"]).expect("the server lives");
        assert!(String::from_utf8_lossy(&reply).contains(refused), "{command}: {reply:?}");
    }
    assert_eq!(run(&mut client, "PING"), "+PONG");
}

#[test]
fn a_debugged_script_keeps_nobody_waiting_and_takes_no_requests() {
    let server = ServerProcess::start(&spinel(), &SLOW);
    let (mut debugging, mut other) = (server.client(), server.client());
    let stop =
        "*2\r\n+* Stopped at 1, stop reason = timeout reached, infinite loop?\r\n+-> 1   while true do end";
    assert_eq!(run(&mut debugging, "SCRIPT DEBUG YES"), "+OK");
    send(&mut debugging, &["EVAL", "while true do end", "0"]);
    assert!(reply(&mut debugging).starts_with("*2\r\n+* Stopped at 1, stop reason = step over"));
    for _ in 0..3 {
        send(&mut debugging, &["c"]);
        // Longer than the threshold, each answered by the server and not by the process of the session.
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            assert_eq!(run(&mut other, "INCR k").as_bytes()[0], b':');
        }
        assert_eq!(reply(&mut debugging), stop);
    }
    let count = run(&mut other, "GET k");
    send(&mut debugging, &["a"]);
    assert_eq!(reply(&mut debugging), "*1\r\n+<endsession>");
    assert!(reply(&mut debugging).starts_with("-ERR script aborted for user request"));
    assert_eq!(run(&mut server.client(), "GET k"), count);
}
