//! Limits on the cost of one client, over sockets: unsent output, queued requests, and work for other clients.

mod support;

use std::time::{Duration, Instant};

use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, run, spinel};

/// Largest resident memory of the process so far, in bytes.
fn peak(server: &ServerProcess) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line about the peak");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<usize>().ok()).expect("a number") << 10
}

/// Waits for a text in the log.
fn logged(server: &ServerProcess, text: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if server.log().contains(text) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn what_exceeds_the_output_limit_is_not_even_written() {
    let server = ServerProcess::start(&spinel(), &["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut other = server.client();
    let mut fill = Vec::new();
    for i in 0..1000 {
        for request in ["SADD s", "HSET h f", "ZADD z 1", "RPUSH l"] {
            let tail =
                if request.starts_with('H') { format!("{i} value:{i}") } else { format!(" member:{i}") };
            fill.extend_from_slice(format!("{request}{tail}\r\n").as_bytes());
        }
    }
    other.send(&fill).expect("connected");
    (0..4000).for_each(|_| drop(other.reply().expect("a reply")));
    run(&mut other, &format!("SET big {}", "x".repeat(1 << 20)));
    let gets = vec!["big"; 300].join(" ");
    let exec = format!("MULTI\r\n{}EXEC", "LRANGE l 0 -1\r\n".repeat(2000));
    let before = peak(&server);
    let endless = [
        "SRANDMEMBER s -30000000",
        "HRANDFIELD h -30000000 WITHVALUES",
        "ZRANDMEMBER z -30000000",
        &format!("MGET {gets}"),
        &exec,
    ];
    for request in endless {
        let mut client = server.client();
        client.send(format!("{request}\r\n").as_bytes()).expect("connected");
        let rest = client.rest();
        assert!(rest.len() < 4 << 20, "{request:.30}: {}", rest.len());
        assert_eq!(run(&mut other, "PING"), "+PONG");
    }
    assert!(peak(&server) < before + (16 << 20), "{} and then {}", before, peak(&server));
    assert!(logged(&server, "scheduled to be closed ASAP for overcoming of output buffer limits."));
    let stats = run(&mut other, "INFO stats");
    assert!(stats.contains("client_output_buffer_limit_disconnections:5"), "{stats}");
}

/// The shortest time of the command in several runs of `request`, in microseconds.
fn shortest(client: &mut Client, request: &str, skip: bool) -> u64 {
    let name = request.split(' ').next().expect("a name").to_lowercase();
    let times = (0..5).map(|_| {
        run(client, "CONFIG RESETSTAT");
        if skip {
            client.send(format!("CLIENT REPLY SKIP\r\n{request}\r\n").as_bytes()).expect("connected");
        } else {
            assert!(!run(client, request).starts_with('-'), "{request}");
        }
        let stats = run(client, "INFO commandstats");
        // Commands with subcommands are counted as those.
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}")));
        let usec = line.and_then(|line| line.split_once("usec=")).expect("it was run").1;
        usec.split(',').next().and_then(|usec| usec.parse().ok()).expect("a number")
    });
    times.min().expect("several runs")
}

#[test]
fn walks_end_when_nobody_will_read_their_reply() {
    let server = ServerProcess::start(&spinel(), &["--slowlog-max-len", "100000"]);
    let mut client = server.client();
    let mut fill = Vec::new();
    let n = 20_000;
    for i in 0..n {
        for request in ["SADD s", "SADD t", "HSET h f", "ZADD z 1", "GEOADD g 1 1", "RPUSH l", "XADD x * f"] {
            let tail =
                if request.starts_with('H') { format!("{i} value:{i}") } else { format!(" member:{i}") };
            fill.extend_from_slice(format!("{request}{tail}\r\n").as_bytes());
        }
    }
    fill.extend_from_slice(b"XGROUP CREATE x g 0\r\nXREADGROUP GROUP g c STREAMS x >\r\n");
    fill.extend_from_slice(b"CONFIG SET slowlog-log-slower-than 0\r\n");
    (0..n).for_each(|_| fill.extend_from_slice(b"PING\r\n"));
    fill.extend_from_slice(b"CONFIG SET slowlog-log-slower-than -1\r\n");
    client.send(&fill).expect("connected");
    (0..7 * n + 2 + 1 + n + 1).for_each(|_| drop(client.reply().expect("a reply")));
    let docs = format!("COMMAND DOCS {}", "set ".repeat(2000));
    let infos = format!("COMMAND INFO {}", "set ".repeat(5000));
    let requests = [
        "SMEMBERS s",
        "SINTER s t",
        "SUNION s t",
        "SDIFF s nosuch",
        "SRANDMEMBER s 5000",
        "SRANDMEMBER s 30000",
        "SRANDMEMBER s -20000",
        "SSCAN s 0 COUNT 100000",
        "HGETALL h",
        "HKEYS h",
        "HVALS h",
        "HRANDFIELD h 5000",
        "HRANDFIELD h -20000 WITHVALUES",
        "HSCAN h 0 COUNT 100000",
        "ZRANGE z 0 -1 WITHSCORES",
        "ZRANGE z -inf +inf BYSCORE",
        "ZRANGE z + - BYLEX REV",
        "ZRANDMEMBER z 4000",
        "ZRANDMEMBER z 10000",
        "ZRANDMEMBER z -20000",
        "ZSCAN z 0 COUNT 100000",
        "LRANGE l 0 -1",
        "XRANGE x - +",
        "XREVRANGE x + -",
        "XREAD STREAMS x 0",
        "XINFO STREAM x FULL COUNT 0",
        "XPENDING x g - + 100000",
        "XPENDING x g - + 100000 c",
        "SLOWLOG GET -1",
        docs.trim_end(),
        infos.trim_end(),
    ];
    let mut slow = Vec::new();
    for request in requests {
        let (heard, unheard) = (shortest(&mut client, request, false), shortest(&mut client, request, true));
        // What is not written is little work; choosing elements and finding commands by name is more.
        if unheard > heard / 3 {
            slow.push(format!("{request:.40}: {heard} and {unheard} µs"));
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

#[test]
fn replies_that_are_not_read_arrive_in_the_end() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut client = server.client();
    let long = "y".repeat(10_000);
    run(&mut client, &format!("SET long {long}"));
    let mut rng = Rng::new(11);
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for i in 0..60_000 {
        if rng.one_in(20) {
            requests.extend_from_slice(b"GET long\r\n");
            expected.extend_from_slice(format!("$10000\r\n{long}\r\n").as_bytes());
        } else {
            requests.extend_from_slice(format!("ECHO {i}\r\n").as_bytes());
            expected.extend_from_slice(format!("${}\r\n{i}\r\n", i.to_string().len()).as_bytes());
        }
    }
    requests.extend_from_slice(b"QUIT\r\n");
    expected.extend_from_slice(b"+OK\r\n");
    client.send(&requests).expect("connected");
    std::thread::sleep(Duration::from_millis(200));
    assert!(client.rest() == expected);
}

#[test]
fn queued_requests_count_toward_the_limit_of_input() {
    let server = ServerProcess::start(&spinel(), &["--client-query-buffer-limit", "1mb"]);
    let mut client = server.client();
    run(&mut client, "MULTI");
    let request = format!("SET k {}\r\n", "v".repeat(20_000));
    let sent = (0..400).take_while(|_| {
        // One by one, so that the server reads each request separately.
        client.send(request.as_bytes()).is_ok() && client.reply().is_ok_and(|reply| reply == b"+QUEUED\r\n")
    });
    let queued = sent.count() * request.len();
    assert!((900 << 10..1100 << 10).contains(&queued), "{queued}");
    assert!(logged(&server, "Closing client that reached max query buffer length: id="));
    assert_eq!(run(&mut server.client(), "EXISTS k"), ":0");
}

#[test]
fn what_a_browser_sends_is_not_run() {
    let server = ServerProcess::start(&spinel(), &[]);
    for request in ["POST / HTTP/1.1\r\nContent-Length: 3\r\n", "GET k\r\nhOsT: x\r\n", "MULTI\r\npost x\r\n"]
    {
        let mut client = server.client();
        client.send(format!("{request}\r\nSET pwned 1\r\n").as_bytes()).expect("connected");
        assert_eq!(client.rest(), b"", "{request}");
    }
    assert_eq!(run(&mut server.client(), "EXISTS pwned"), ":0");
    assert!(logged(&server, "Possible SECURITY ATTACK detected."));
    let warnings = server.log().matches("SECURITY ATTACK").count();
    assert_eq!(warnings, 1, "at most one in a minute");
}

#[test]
fn limits_may_change_while_clients_leave() {
    let server = ServerProcess::start(&spinel(), &["--maxmemory-clients", "1gb"]);
    for _ in 0..5 {
        let others: Vec<Client> = (0..10).map(|_| server.client()).collect();
        let mut victim = server.client();
        let id = run(&mut victim, "CLIENT ID").trim_start_matches(':').to_owned();
        run(&mut victim, "CLIENT TRACKING on BCAST");
        run(&mut victim, "SUBSCRIBE news");
        let mut client = server.client();
        let requests = format!(
            "CLIENT KILL ID {id}\r\nCONFIG SET maxmemory-clients 0\r\nFLUSHALL\r\nPUBLISH news x\r\n\
             CONFIG SET maxmemory-clients 1gb\r\nCONFIG SET maxmemory-clients 0\r\nPING\r\n"
        );
        client.send(requests.as_bytes()).expect("connected");
        (0..6).for_each(|_| drop(client.reply().expect("a reply")));
        assert_eq!(client.reply().expect("a reply"), b"+PONG\r\n");
        drop(others);
        assert_eq!(run(&mut client, "CONFIG SET maxmemory-clients 1gb"), "+OK");
    }
}

#[test]
fn who_is_one_too_many_is_refused() {
    let server = ServerProcess::start(&spinel(), &["--maxclients", "5"]);
    // The connection that awaited the start is being closed.
    while !run(&mut server.client(), "CLIENT LIST").starts_with('$') {}
    std::thread::sleep(Duration::from_millis(200));
    let mut served: Vec<Client> = (0..5).map(|_| server.client()).collect();
    served.iter_mut().for_each(|client| assert_eq!(run(client, "PING"), "+PONG"));
    let mut refused: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for client in &mut refused {
        assert_eq!(client.rest(), b"-ERR max number of clients reached\r\n");
    }
    served.iter_mut().for_each(|client| assert_eq!(run(client, "PING"), "+PONG"));
}

#[test]
fn who_is_killed_hears_nothing_of_what_follows() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut listener = server.client();
    run(&mut listener, "SUBSCRIBE c");
    let mut monitor = server.client();
    run(&mut monitor, "MONITOR");
    let mut waiting = server.client();
    waiting.send(b"BLPOP l 0\r\n").expect("connected");
    let mut other = server.client();
    while !run(&mut other, "CLIENT LIST").contains("cmd=blpop") {}
    // All in one packet: the clients are still there when what follows is run.
    let request = "MULTI\r\nCLIENT KILL TYPE normal\r\nCLIENT KILL TYPE pubsub\r\nPUBLISH c x\r\nRPUSH l a\r\nLLEN l\r\nEXEC\r\n";
    other.send(request.as_bytes()).expect("connected");
    (0..6).for_each(|_| drop(other.reply().expect("a reply")));
    assert_eq!(other.reply().expect("a reply"), b"*5\r\n:2\r\n:1\r\n:0\r\n:1\r\n:1\r\n");
    assert!(listener.rest().is_empty() && waiting.rest().is_empty());
    assert!(!String::from_utf8_lossy(&monitor.rest()).contains("publish"));
}

#[test]
fn walks_through_all_keys_let_others_be_served() {
    let directory = std::env::temp_dir().join(format!("spinel-walks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let dir = directory.to_str().expect("plain text");
    let options = [
        "--dir",
        dir,
        "--appendonly",
        "yes",
        "--notify-keyspace-events",
        "KEA",
        "--enable-debug-command",
        "yes",
    ];
    let server = ServerProcess::start(&spinel(), &options);
    let mut other = server.client();
    const KEYS: usize = 30_000;
    let mut fill = Vec::new();
    for i in 0..KEYS {
        let (kind, expiry) = if i % 3 == 0 { ("user", " EX 10000") } else { ("item", "") };
        fill.extend_from_slice(format!("SET {kind}:{i}:x value{expiry}\r\n").as_bytes());
    }
    other.send(&fill).expect("connected");
    (0..KEYS).for_each(|_| drop(other.reply().expect("a reply")));
    run(&mut other, "SET plain value");
    // A reply without lengths and types.
    let flat = |reply: String| -> String {
        let words = reply.split("\r\n").filter(|word| !word.starts_with(['$', '*']));
        words.map(|word| word.trim_start_matches(':')).collect::<Vec<_>>().join(" ")
    };
    let stats = flat(run(&mut other, "PREFIX STATS"));
    let expected = [
        "keys 30001 bytes",
        "expires 10000 avg-ttl-ms",
        "prefixes 3 uncounted-keys 0",
        "prefix item: keys 20000",
    ];
    expected.iter().for_each(|part| assert!(stats.contains(part), "{part}: {stats}"));
    assert!(flat(run(&mut other, "PREFIX STATS : 2 1")).contains("prefixes 30001"));
    for (wrong, error) in [
        ("PREFIX STATS : 0", "must be positive"),
        ("PREFIX STATS : 1 1 1", "syntax"),
        ("DELPREFIX item: LIMIT", "syntax"),
        ("DELPREFIX item: LIMIT -1", "must be positive"),
        ("PREFIX", "wrong number"),
    ] {
        assert!(run(&mut other, wrong).contains(error), "{wrong}");
    }
    assert_eq!(run(&mut other, "DELPREFIX item: LIMIT 100"), ":100");
    run(&mut other, "MULTI");
    assert!(run(&mut other, "DELPREFIX item:").starts_with("-ERR"));
    run(&mut other, "DISCARD");
    // A user without permission for every key may not remove keys by a prefix.
    run(&mut other, "ACL SETUSER limited on nopass +@all ~item:*");
    let mut limited = server.client();
    run(&mut limited, "AUTH limited x");
    assert!(run(&mut limited, "DELPREFIX item:").starts_with("-NOPERM"));
    // Others are served while keys are removed, and hear of it. A write that is paused waits.
    let mut listener = server.client();
    run(&mut listener, "SUBSCRIBE __keyevent@0__:del");
    run(&mut other, "CLIENT PAUSE 100000 WRITE");
    let mut walker = server.client();
    walker.send(b"DELPREFIX item:\r\n").expect("connected");
    assert!(flat(run(&mut other, "PREFIX STATS")).contains("item: keys 19900"));
    run(&mut other, "CLIENT UNPAUSE");
    while run(&mut other, "DBSIZE") != ":10001" {}
    assert_eq!(walker.reply().expect("a reply"), b":19900\r\n");
    for _ in 0..19_900 {
        listener.reply().expect("an event");
    }
    // How far one has come is told meanwhile. It may be over before that is asked.
    let seen = (0..1000).any(|_| {
        walker.send(b"PREFIX STATS\r\n").expect("connected");
        let info = run(&mut other, "INFO stats");
        let reply = walker.reply().expect("a reply");
        assert!(flat(String::from_utf8_lossy(&reply).into_owned()).contains("keys 10001 bytes"));
        info.contains("walks_in_progress:1\r\n") && info.contains("walks_keys_total:10001\r\n")
    });
    assert!(seen && run(&mut other, "INFO stats").contains("walks_in_progress:0\r\n"));
    // One that disconnects waits no longer.
    let mut gone = server.client();
    gone.send(b"PREFIX STATS\r\n").expect("connected");
    drop(gone);
    assert_eq!(run(&mut other, "PING"), "+PONG");
    let digest = run(&mut other, "DEBUG DIGEST");
    run(&mut other, "DEBUG LOADAOF");
    assert_eq!(run(&mut other, "DEBUG DIGEST"), digest);
    drop(server);
    std::fs::remove_dir_all(&directory).expect("it is there");
}

#[test]
fn the_log_says_what_to_do_about_refusals_once() {
    let options = ["--maxmemory", "1", "--min-replicas-to-write", "1", "--maxclients", "3"];
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !run(&mut client, "DEL k").starts_with("-NOREPLICAS") {
        assert!(Instant::now() < deadline, "writes are refused");
    }
    for _ in 0..3 {
        assert!(run(&mut client, "SET k v").starts_with("-OOM"));
        assert!(run(&mut client, "DEL k").starts_with("-NOREPLICAS"));
    }
    for line in ["min-replicas-to-write 0", "maxmemory 0"] {
        run(&mut client, &format!("CONFIG SET {line}"));
    }
    for i in 0..100 {
        assert_eq!(run(&mut client, &format!("SET k{i} v")), "+OK");
    }
    run(&mut client, "CONFIG SET maxmemory-policy allkeys-random maxmemory 1");
    while run(&mut client, "DBSIZE") != ":0" {
        run(&mut client, "SET k v");
        assert!(Instant::now() < deadline, "keys are evicted");
    }
    let _others: Vec<_> = (0..5).map(|_| server.client()).collect();
    while run(&mut client, "INFO stats").contains("rejected_connections:0\r\n") {
        assert!(Instant::now() < deadline, "the others are refused");
    }
    let log = server.log();
    for line in [
        "Commands that take memory are refused: maxmemory (1B) is reached",
        "Writes are refused: 0 replicas have answered",
        "Connections are refused: 3 clients are connected",
        "Keys are evicted: maxmemory (1B) is reached",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}

#[test]
fn the_log_says_when_writes_are_accepted_again() {
    let server = ServerProcess::start(&spinel(), &["--min-replicas-to-write", "1"]);
    let mut client = server.client();
    assert_eq!(run(&mut client, "SET k v"), "-NOREPLICAS Not enough good replicas to write.");
    let log = server.log();
    assert!(
        log.contains("Writes are refused: 0 replicas have answered") && log.contains("INFO replication"),
        "{log}"
    );
    let replica = ServerProcess::start(&spinel(), &["--replicaof", &format!("127.0.0.1 {}", server.port)]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while run(&mut client, "SET k v") != "+OK" {
        assert!(Instant::now() < deadline, "the replica does not come");
    }
    assert!(server.log().contains("Writes are accepted again: enough replicas"), "{}", server.log());
    // Who takes over says what is to be done with the others.
    assert_eq!(run(&mut replica.client(), "REPLICAOF NO ONE"), "+OK");
    let told = format!("have the former primary 127.0.0.1:{} and its other replicas follow", server.port);
    assert!(replica.log().contains(&told), "{}", replica.log());
}

/// Who connects from elsewhere, or by the machine's own address.
#[test]
fn protected_mode_says_what_to_do() {
    // No packet is sent; the system chooses the address from which it would be.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port is free");
    if probe.connect("192.0.2.1:9").is_err() {
        return;
    }
    let own = probe.local_addr().expect("it is bound").ip();
    if own.is_loopback() || own.is_unspecified() {
        return;
    }
    let server = ServerProcess::start(&spinel(), &["--bind", "127.0.0.1", &own.to_string()]);
    let mut stream = std::net::TcpStream::connect((own, server.port)).expect("it listens there");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stream, &mut told).expect("it closes the connection");
    assert!(told.starts_with("-DENIED Redis is running in protected mode"), "{told}");
    let log = server.log();
    let line = format!("A connection from {own}:");
    assert!(log.contains(&line) && log.contains("Set one for the user default with requirepass"), "{log}");
}

#[test]
fn refused_settings_say_what_to_do() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut client = server.client();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    assert!(run(&mut client, &format!("CONFIG SET port {port}")).starts_with("-ERR CONFIG SET failed"));
    assert!(run(&mut client, "CONFIG SET tls-port 1").starts_with("-ERR CONFIG SET failed"));
    let log = server.log();
    assert!(log.contains("CONFIG SET port failed") && log.contains("ss -ltnp"), "{log}");
    assert!(log.contains("-file configured!") && log.contains("CONFIG SET tls-port failed"), "{log}");
    assert!(log.contains("Mend what the line above says"), "{log}");
    assert_eq!(run(&mut client, "PING"), "+PONG");

    let file = server.dir.join("users");
    std::fs::write(&file, "user default on nopass ~* &* +@all\nuser a +nosuch\n").expect("room for it");
    let path = file.to_str().expect("text").to_owned();
    let output = std::process::Command::new(spinel()).args(["--port", "0", "--aclfile", &path]).output();
    let told = String::from_utf8(output.expect("it runs").stdout).expect("text");
    assert!(told.contains("users:2") && told.contains("nosuch"), "{told}");
    std::fs::write(&file, "user default on nopass ~* &* +@all\n").expect("room for it");
    let server = ServerProcess::start(&spinel(), &["--aclfile", &path]);
    std::fs::write(&file, format!("user {} on\nuser b >s3cret x3cret\n", "a ".repeat(2000)))
        .expect("room for it");
    let mut client = server.client();
    assert!(run(&mut client, "ACL LOAD").starts_with("-ERR "));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("ACL LOAD failed: ")).expect("it is told");
    assert!(
        line.contains("users:2") && line.contains("send ACL LOAD again") && !line.contains("3cret"),
        "{line}"
    );
}
