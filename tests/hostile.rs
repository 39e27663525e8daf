//! Hostile clients: whatever arrives, the server neither panics nor hangs nor grows without bound.
//!
//! Each test has a server of its own, which must serve another client all the while, exit cleanly, and write no
//! crash report. `SPINEL_HOSTILE_SEED` sets the seed, which is printed.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, run, spinel};

/// A server under attack, and a witness that must be served meanwhile.
struct Target {
    server: ServerProcess,
    witness: Client,
}

impl Target {
    fn start(options: &[&str]) -> Target {
        let server = ServerProcess::start(&spinel(), &[&["--enable-debug-command", "yes"], options].concat());
        let witness = server.client();
        Target { server, witness }
    }

    fn attacker(&self) -> TcpStream {
        let stream =
            TcpStream::connect(("127.0.0.1", self.server.port)).expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket of ours");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket of ours");
        stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket of ours");
        stream
    }

    /// Sends bytes and reads replies until none arrive for a while or the connection closes.
    fn attack(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.attacker();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        reply
    }

    /// Asserts that the witness is served promptly.
    #[track_caller]
    fn assert_serving(&mut self, what: &str) {
        let asked = Instant::now();
        let reply = self.witness.command(&[b"PING"]);
        let log = || self.server.log();
        assert!(reply.as_ref().is_ok_and(|reply| reply == b"+PONG\r\n"), "{what}: {reply:?}\n{}", log());
        assert!(asked.elapsed() < Duration::from_secs(5), "{what}: an answer takes {:?}", asked.elapsed());
    }

    /// Bytes allocated by the server.
    fn used(&mut self) -> u64 {
        let info = run(&mut self.witness, "INFO memory");
        let number = info.split("used_memory:").nth(1).and_then(|rest| rest.split("\r\n").next());
        number.and_then(|text| text.parse().ok()).expect("INFO has used_memory")
    }

    /// Asserts that memory falls below `limit` bytes.
    #[track_caller]
    fn assert_memory_below(&mut self, limit: u64, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.used() > limit {
            assert!(Instant::now() < deadline, "{what}: {} bytes are in use, not {limit}", self.used());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server and asserts that it has not crashed.
    fn finish(mut self) {
        self.assert_serving("in the end");
        let _ = self.witness.command(&[b"SHUTDOWN", b"NOSAVE"]);
        let status = self.server.wait();
        let log = self.server.log();
        assert!(status.success(), "{status}\n{log}");
        assert!(!log.contains("panicked") && !log.contains("REPORT START"), "{log}");
    }
}

fn rng() -> Rng {
    let seed = std::env::var("SPINEL_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x4057);
    println!("seed {seed}");
    Rng::new(seed)
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    write_request(&mut out, words.iter().map(|word| word.as_bytes()));
    out
}

#[test]
fn random_bytes() {
    let (mut rng, mut target) = (rng(), Target::start(&[]));
    const PARTS: [&[u8]; 16] = [
        b"*",
        b"$",
        b"\r\n",
        b"*3\r\n",
        b"$3\r\nSET\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"-1",
        b"\0",
        b"GET k\r\n",
        b"\"",
        b"'",
        b"\\x",
        b"*2\r\n$4\r\nECHO\r\n",
        b"$-1\r\n",
        b"99999999",
        b"\n",
    ];
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..rng.below(30) {
            match rng.below(3) {
                0 => bytes.extend((0..rng.below(20)).map(|_| rng.next_u64() as u8)),
                _ => bytes.extend_from_slice(PARTS[rng.index(PARTS.len())]),
            }
        }
        let mut stream = target.attacker();
        let _ = stream.write_all(&bytes);
    }
    target.assert_serving("random bytes");
    target.finish();
}

#[test]
fn valid_requests_with_damaged_bytes() {
    let (mut rng, mut target) = (rng(), Target::start(&[]));
    let lines = [
        "SET k v EX 100",
        "ZADD z 1 a 2 b",
        "HSET h f v",
        "LPUSH l a b c",
        "BITFIELD s SET u8 0 255",
        "SORT l ALPHA",
        "GEOADD g 13 38 m",
        "PFADD p a b",
        "RESTORE r 0 x",
        "MULTI",
        "EXEC",
        "CLIENT TRACKING ON",
        "SUBSCRIBE c",
        "SCAN 0 COUNT 10",
        "LCS s s IDX",
        "CONFIG GET *",
        "OBJECT ENCODING z",
        "SETRANGE s 10 x",
        "HELLO 3",
    ];
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(6) {
            bytes.extend(request(&lines[rng.index(lines.len())].split(' ').collect::<Vec<_>>()));
        }
        for _ in 0..1 + rng.below(3) {
            let at = rng.index(bytes.len());
            match rng.below(3) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.next_u64() as u8),
            }
        }
        let mut stream = target.attacker();
        let _ = stream.write_all(&bytes);
    }
    target.assert_serving("damaged requests");
    target.finish();
}

/// Requests whose announced bytes do not arrive: the server allocates memory for the bytes received, not for the
/// bytes announced.
#[test]
fn announced_lengths_take_no_memory() {
    let mut target = Target::start(&[]);
    let before = target.used();
    let mut attackers = Vec::new();
    for announced in [
        "*2147483647\r\n",
        "*1048576\r\n",
        "*1048577\r\n",
        "*1024\r\n$536870912\r\n",
        "*2\r\n$512000000\r\nx",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870911\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc",
        "*-2147483648\r\n",
        "*9223372036854775807\r\n",
        "*9223372036854775808\r\n",
        "*1\r\n$-2\r\n",
        "*1\r\n$99999999999999999999\r\n",
        "*0\r\n*-1\r\n",
        "*1\r\n$0\r\n\r\n",
        "*00000000000000000000000001\r\n$4\r\nPING\r\n",
        "*1\r\n$4\r\nPINGxx",
    ] {
        for _ in 0..20 {
            let mut stream = target.attacker();
            let _ = stream.write_all(announced.as_bytes());
            attackers.push(stream);
        }
        target.assert_serving(announced);
    }
    let most = before + (64 << 20);
    target.assert_memory_below(most, "with all attackers connected");
    drop(attackers);
    target.assert_memory_below(before + (8 << 20), "when all have left");
    target.finish();
}

/// Lines without an end, and endless requests.
#[test]
fn endless_lines_are_cut() {
    let mut target = Target::start(&["--client-query-buffer-limit", "1mb"]);
    let before = target.used();
    for start in [&b"*"[..], b"$", b"", b"*1\r\n$", b"SET k \"", b"*1000000\r\n$1\r\nx\r\n"] {
        let mut stream = target.attacker();
        let _ = stream.write_all(start);
        let mut closed = false;
        for _ in 0..80 {
            closed |= stream.write_all(&[b'1'; 65536]).is_err();
        }
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut rest = Vec::new();
        closed |= stream.read_to_end(&mut rest).is_ok();
        assert!(closed, "a line without an end is refused after {:?}", String::from_utf8_lossy(start));
        target.assert_serving("an endless line");
    }
    target.assert_memory_below(before + (8 << 20), "after endless lines");
    target.finish();
}

/// Long transaction queues, hard patterns, and many or deeply nested arguments.
#[test]
fn depth_and_number_are_bounded() {
    let mut target = Target::start(&[]);
    let nested = "*1\r\n".repeat(100_000);
    target.attack(nested.as_bytes());
    target.assert_serving("arrays inside arrays");
    // A pattern with exponentially many ways to match.
    let long = "a".repeat(1000);
    run(&mut target.witness, &format!("SET {long} 1"));
    let stars = "a*".repeat(20) + "b";
    let asked = Instant::now();
    target.attack(&request(&["KEYS", &stars]));
    target.attack(&request(&["SCAN", "0", "MATCH", &"*a".repeat(200), "COUNT", "100"]));
    target.attack(&request(&["PSUBSCRIBE", &"[".repeat(10_000)]));
    target.attack(&request(&["KEYS", &"\\".repeat(10_000)]));
    target.assert_serving("patterns");
    assert!(asked.elapsed() < Duration::from_secs(20), "patterns take {:?}", asked.elapsed());
    let mut many = request(&["MULTI"]);
    for _ in 0..20_000 {
        many.extend_from_slice(&request(&["PING"]));
    }
    many.extend_from_slice(&request(&["EXEC"]));
    target.attack(&many);
    let keys: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let mut words: Vec<&str> = vec!["SADD", "big"];
    words.extend(keys.iter().map(String::as_str));
    target.attack(&request(&words));
    words[0] = "DEL";
    target.attack(&request(&words));
    target.assert_serving("a hundred thousand arguments");
    target.finish();
}

/// Bytes mean the same requests wherever they are cut into packets.
#[test]
fn split_at_each_byte() {
    let mut target = Target::start(&[]);
    let mut bytes = b"PING\r\n  \r\nSET k \"a b\\x41\"\r\n\r\n".to_vec();
    for words in
        [&["GET", "k"][..], &["ECHO", ""], &["HELLO", "3"], &["NOSUCH", "\r\n"], &["CLIENT", "GETNAME"]]
    {
        bytes.extend(request(words));
    }
    bytes.extend(b"*0\r\n*-1\r\nQUIT\r\n");
    let whole = target.attack(&bytes);
    assert!(
        whole.starts_with(b"+PONG\r\n+OK\r\n$4\r\na bA\r\n$0\r\n\r\n%"),
        "{}",
        String::from_utf8_lossy(&whole)
    );
    // The reply to HELLO contains the client's ID.
    let shape = |reply: &[u8]| {
        let text = String::from_utf8_lossy(reply).into_owned();
        let (head, tail) = text.split_once("$2\r\nid\r\n:").expect("HELLO has the id");
        [head, tail.split_once("\r\n").expect("a line").1].concat()
    };
    for at in 1..bytes.len() {
        let mut stream = target.attacker();
        stream.write_all(&bytes[..at]).expect("the first part is taken");
        // The server has processed the first part: the witness is served after it.
        target.assert_serving("between the parts");
        let _ = stream.write_all(&bytes[at..]);
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("QUIT closes");
        assert_eq!(shape(&reply), shape(&whole), "cut at byte {at}");
    }
    let mut stream = target.attacker();
    for byte in &bytes {
        let _ = stream.write_all(&[*byte]);
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("QUIT closes");
    assert_eq!(shape(&reply), shape(&whole), "byte by byte");
    target.finish();
}

/// Requests in one packet that remove what later ones rely on: clients, limits, users, databases.
#[test]
fn killing_and_reconfiguring_in_one_packet() {
    let (mut rng, mut target) = (rng(), Target::start(&[]));
    let before = target.used();
    for round in 0..250 {
        // Victims are in every state that has a side table.
        let mut victims = Vec::new();
        let mut ids = Vec::new();
        for state in [
            "SUBSCRIBE c",
            "BLPOP nosuch 0",
            "WATCH k",
            "MULTI",
            "CLIENT TRACKING ON BCAST",
            "MONITOR",
            "PSUBSCRIBE *",
        ] {
            if !rng.one_in(3) {
                let mut victim = target.server.client();
                let id = run(&mut victim, "CLIENT ID");
                ids.push(id.trim_start_matches(':').to_owned());
                let words: Vec<&str> = state.split(' ').collect();
                let _ = victim.send(&request(&words));
                victims.push(victim);
            }
        }
        let mut attacker = target.server.client();
        ids.push(run(&mut attacker, "CLIENT ID").trim_start_matches(':').to_owned());
        let mut packet = Vec::new();
        for _ in 0..1 + rng.below(8) {
            let id = &ids[rng.index(ids.len())];
            let line = match rng.below(26) {
                0..4 => format!("CLIENT KILL ID {id}"),
                4 => format!("CLIENT KILL ID {id} SKIPME no"),
                5 => "CLIENT KILL TYPE normal SKIPME no".to_owned(),
                6 => "CLIENT KILL TYPE pubsub".to_owned(),
                7 => "CONFIG SET maxmemory-clients 0".to_owned(),
                8 => "CONFIG SET maxmemory-clients 1gb".to_owned(),
                9 => "CONFIG SET maxmemory-clients 100kb".to_owned(),
                10 => "CONFIG SET timeout 1".to_owned(),
                11 => "CONFIG SET client-output-buffer-limit normal 1 0 0"
                    .replace(" normal 1 0 0", "|normal 1 0 0"),
                12 => "CONFIG SET notify-keyspace-events KEA".to_owned(),
                13 => "PUBLISH c x".to_owned(),
                14 => "LPUSH nosuch x".to_owned(),
                15 => "SET k v".to_owned(),
                16 => format!("CLIENT UNBLOCK {id} ERROR"),
                17 => "MULTI".to_owned(),
                18 => "EXEC".to_owned(),
                19 => "QUIT".to_owned(),
                20 => "RESET".to_owned(),
                21 => "CLIENT TRACKING ON".to_owned(),
                22 => "SUBSCRIBE c".to_owned(),
                23 => "CLIENT NO-EVICT on".to_owned(),
                24 => "ACL SETUSER default on".to_owned(),
                _ => "FLUSHALL".to_owned(),
            };
            let words: Vec<String> = line.split(' ').map(|word| word.replace('|', " ")).collect();
            packet.extend(request(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        let _ = attacker.send(&packet);
        if !rng.one_in(2) {
            // It leaves when it has its replies, or is killed.
            let _ = attacker.send(&request(&["QUIT"]));
            attacker.rest();
        }
        drop((attacker, victims));
        let id = format!("id={} ", ids.last().expect("that of the attacker"));
        // The witness may have been killed as well, and may be evicted until the victims are gone.
        let lifted = (0..200).any(|_| {
            target.witness = target.server.client();
            // With I/O threads, what the attacker has sent may be executed after what the witness sends.
            let list = target.witness.command(&[b"CLIENT", b"LIST"]);
            let is_alone = list.is_ok_and(|list| !String::from_utf8_lossy(&list).contains(&id));
            let reply = target.witness.command(&[b"CONFIG", b"SET", b"maxmemory-clients", b"0"]);
            let done = is_alone && reply.is_ok_and(|reply| reply == b"+OK\r\n");
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            done
        });
        assert!(lifted, "round {round}: nobody can lift the limit");
        target.assert_serving(&format!("round {round}"));
    }
    for (name, value) in [("timeout", "0"), ("maxmemory-clients", "0")] {
        target.witness.command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).expect("an answer");
    }
    target.assert_memory_below(before + (16 << 20), "when all have left");
    target.finish();
}

/// A client that requests much and never reads is closed, or has to wait; the server holds no more output than the
/// limit.
#[test]
fn replies_that_nobody_reads_are_bounded() {
    let mut target = Target::start(&["--client-output-buffer-limit", "normal 8mb 0 0"]);
    target.witness.command(&[b"SET", b"big", &vec![b'x'; 1 << 20]]).expect("an answer");
    let before = target.used();
    for words in [&["GET", "big"][..], &["ECHO", "short"], &["CONFIG", "GET", "*"]] {
        let mut stream = target.attacker();
        let one = request(words);
        let packet = one.repeat((1 << 20) / one.len());
        for _ in 0..4 {
            if stream.write_all(&packet).is_err() {
                break;
            }
            target.assert_serving("somebody does not read");
        }
        let most = target.used();
        assert!(most < before + (96 << 20), "{words:?}: {} bytes more are in use", most - before);
    }
    target.assert_memory_below(before + (8 << 20), "when all have left");
    target.finish();
}

/// Whatever somebody says who pretends to be a replica, and whenever they leave.
#[test]
fn replicas_that_make_no_sense() {
    let mut rng = rng();
    let mut target = Target::start(&[
        "--repl-diskless-sync-delay",
        "0",
        "--client-output-buffer-limit",
        "replica 4mb 0 0",
        "--repl-backlog-size",
        "1mb",
    ]);
    for i in 0..200 {
        run(&mut target.witness, &format!("SET key:{i} {}", "v".repeat(1000)));
    }
    let before = target.used();
    let id = run(&mut target.witness, "INFO replication");
    let id =
        id.split("master_replid:").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("it has one");
    let lines = [
        "REPLCONF listening-port 7000",
        "REPLCONF listening-port 99999999999999999999",
        "REPLCONF listening-port -1 ip-address",
        "REPLCONF ip-address 10.0.0.1 capa eof capa psync2 capa nosuch",
        "REPLCONF capa eof capa psync2",
        "REPLCONF version 9.0.1",
        "REPLCONF version 99999999999999999999.x",
        "REPLCONF version 8",
        "REPLCONF ack 0",
        "REPLCONF ack 9223372036854775807 fack 18446744073709551615",
        "REPLCONF ACK -5 FACK -5",
        "REPLCONF GETACK *",
        "REPLCONF rdb-only 1",
        "REPLCONF rdb-only 1 rdb-filter-only functions",
        "REPLCONF rdb-filter-only keys\\x00",
        "REPLCONF rdb-channel 1 main-ch-client-id 1",
        "REPLCONF",
        "REPLCONF \\xff\\xfe x",
        "PSYNC ? -1",
        "PSYNC ? -9223372036854775808",
        "PSYNC ID 1",
        "PSYNC ID 9223372036854775807",
        "PSYNC ID -9223372036854775808",
        "PSYNC ID 0 FAILOVER",
        "PSYNC ID 1 NOSUCH",
        "PSYNC x y",
        "SYNC",
        "SYNC x",
        "MULTI",
        "EXEC",
        "RESET",
        "QUIT",
        "SUBSCRIBE c",
        "MONITOR",
        "BLPOP nosuch 0",
        "WAIT 1 10",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT TRACKING ON",
        "CLIENT KILL TYPE replica SKIPME no",
        "CLIENT NO-EVICT on",
        "HELLO 3",
        "GET key:1",
        "SET key:2 x",
        "SELECT 3",
        "FAILOVER ABORT",
        "REPLICAOF NO ONE",
        "CLIENT PAUSE 10",
        "ROLE",
        "INFO replication",
        "CLIENT LIST",
        "DEBUG CHANGE-REPL-ID",
    ];
    let mut staying = Vec::new();
    for round in 0..400 {
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(7) {
            let line = lines[rng.index(lines.len())].replace("ID", id);
            bytes.extend(request(&line.split(' ').collect::<Vec<_>>()));
        }
        if rng.one_in(4) {
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let mut stream = target.attacker();
        let mut piece = [0; 3000];
        let asks = rng.one_in(2);
        if asks {
            // A request for data is refused while replies have not left.
            for line in ["REPLCONF capa eof capa psync2", "PSYNC ? -1"] {
                let _ = stream.write_all(&request(&line.split(' ').collect::<Vec<_>>()));
                let _ = stream.read(&mut piece);
            }
        }
        if !asks || rng.one_in(2) {
            let _ = stream.write_all(&bytes);
        }
        if rng.one_in(5) {
            let _ = stream.read(&mut piece);
        }
        if rng.one_in(if asks { 3 } else { 6 }) {
            staying.push(stream);
        }
        if rng.one_in(30) {
            staying.clear();
        }
        for _ in 0..5 {
            // Pauses end by themselves.
            let _ = target.witness.command(&[b"SET", b"stream", &vec![b'x'; 100_000]]);
        }
        target.assert_serving(&format!("round {round}"));
    }
    let most = target.used();
    assert!(most < before + (64 << 20), "{} bytes more are in use", most - before);
    drop(staying);
    target.assert_memory_below(before + (8 << 20), "when all have left");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !run(&mut target.witness, "INFO replication").contains("connected_slaves:0") {
        assert!(Instant::now() < deadline, "{}", run(&mut target.witness, "INFO replication"));
        std::thread::sleep(Duration::from_millis(50));
    }
    target.finish();
}

/// What a primary sends that means harm: bytes, and whether they are followed by more without end.
fn from_a_hostile_primary(rng: &mut Rng, snapshot: &[u8]) -> (Vec<u8>, Option<&'static [u8]>) {
    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    let mut out = Vec::new();
    let random = |rng: &mut Rng, most: u64| -> Vec<u8> {
        (0..rng.below(most)).map(|_| rng.next_u64() as u8).collect()
    };
    let endless =
        [None, None, None, Some(&b"\n"[..]), Some(b"x"), Some(b"1"), Some(b"+OK\r\n"), Some(b"*1\r\n")];
    let endless = endless[rng.index(endless.len())];
    let greeting = ["+PONG\r\n", "-NOAUTH no\r\n", "-ERR operation not permitted\r\n", "\n\n+PONG\n", "+"];
    if rng.one_in(8) {
        out.extend(random(rng, 200));
        return (out, endless);
    }
    let good = greeting[if rng.one_in(6) { rng.index(greeting.len()) } else { 0 }];
    out.extend_from_slice(good.as_bytes());
    let replies = if rng.one_in(8) { rng.below(6) } else { 3 };
    for _ in 0..replies {
        out.extend_from_slice([&b"+OK\r\n"[..], b"-ERR no\r\n"][rng.index(2)]);
    }
    let full = format!("+FULLRESYNC {ID} 100\r\n");
    let answers = [
        "+CONTINUE\r\n",
        "+CONTINUE x\r\n",
        "+FULLRESYNC\r\n",
        "+FULLRESYNC x 1\r\n",
        "-NOMASTERLINK no\r\n",
        "-LOADING no\r\n",
        "-ERR unknown\r\n",
        "+DUALCHANNELSYNC\r\n",
        "+RDBCHANNELSYNC 7\r\n",
        "$-1\r\n",
        "+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 18446744073709551615\r\n",
        "+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 9223372036854775807\r\n",
    ];
    if rng.one_in(4) {
        out.extend_from_slice(answers[rng.index(answers.len())].as_bytes());
    } else {
        out.extend_from_slice(full.as_bytes());
    }
    let headers = [
        "$-1\r\n",
        "$\r\n",
        "$9223372036854775807\r\n",
        "$18446744073709551615\r\n",
        "$99999999999999999999999\r\n",
        "$EOF:short\r\n",
        "$EOF:0123456789012345678901234567890123456789\r\n",
        "$0\r\n",
        "-ERR no snapshot\r\n",
        "+OK\r\n",
    ];
    if rng.one_in(3) {
        out.extend_from_slice(headers[rng.index(headers.len())].as_bytes());
        out.extend(random(rng, 3000));
        return (out, endless);
    }
    let mut snapshot = snapshot.to_vec();
    let damaged = rng.one_in(2);
    if damaged {
        for _ in 0..1 + rng.below(4) {
            let at = rng.index(snapshot.len());
            snapshot[at] = rng.next_u64() as u8;
        }
        // Without a checksum, more of it is looked at.
        let end = snapshot.len();
        snapshot[end - 8..].fill(0);
    }
    let cut = if rng.one_in(4) { rng.index(snapshot.len()) } else { snapshot.len() };
    if rng.one_in(2) {
        let mark = b"0123456789012345678901234567890123456789";
        out.extend_from_slice(&[b"$EOF:", &mark[..], b"\r\n", &snapshot[..cut], mark].concat());
    } else {
        out.extend_from_slice(format!("${}\r\n", snapshot.len()).as_bytes());
        out.extend_from_slice(&snapshot[..cut]);
        if cut < snapshot.len() {
            return (out, endless);
        }
    }
    let lines = [
        "SET k v",
        "SET k",
        "NOSUCH x",
        "SELECT 3",
        "SELECT 999999",
        "MULTI",
        "EXEC",
        "DISCARD",
        "SUBSCRIBE c",
        "PSUBSCRIBE *",
        "MONITOR",
        "BLPOP nosuch 0",
        "WAIT 1 0",
        "REPLICAOF NO ONE",
        "REPLICAOF 127.0.0.1 1",
        "CLIENT REPLY ON",
        "CLIENT KILL TYPE master",
        "CLIENT TRACKING ON",
        "PSYNC ? -1",
        "SYNC",
        "REPLCONF GETACK *",
        "REPLCONF ACK 5",
        "HELLO 3",
        "AUTH x",
        "RESET",
        "QUIT",
        "WATCH k",
        "EVAL return{1} 0",
        "GET k",
        "CONFIG SET maxmemory 1",
        "CONFIG SET maxmemory 0",
        "FLUSHALL",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS nosuch >",
        "PING",
        "FAILOVER",
        "BGSAVE",
        "DEBUG RELOAD",
        "RESTORE r 0 xxxxxxxxxxxxxxx",
    ];
    for _ in 0..rng.below(12) {
        let line = lines[rng.index(lines.len())];
        out.extend(request(&line.split(' ').collect::<Vec<_>>()));
    }
    let garbage: [&[u8]; 9] = [
        b"",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4611686018427387903\r\nabc",
        b"*2147483647\r\n",
        b"*-5\r\n",
        b"*9223372036854775807\r\n$3\r\nSET\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*2\r\n$-2\r\n",
        b"\r\n\r\n*0\r\nPING\r\n",
        b"SET k \"unfinished",
    ];
    out.extend_from_slice(garbage[rng.index(garbage.len())]);
    out.extend(random(rng, 100));
    (out, endless)
}

#[test]
fn primaries_that_mean_harm() {
    primaries_attack("disabled");
}

#[test]
fn primaries_that_mean_harm_to_who_loads_directly() {
    primaries_attack("swapdb");
}

fn primaries_attack(load: &str) {
    let mut rng = rng();
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/redis-7.0.rdb");
    let snapshot = std::fs::read(data).expect("it is there");
    let mut target =
        Target::start(&["--repl-timeout", "5", "--replica-read-only", "no", "--repl-diskless-load", load]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("a socket of ours");
    let port = listener.local_addr().expect("it is bound").port();
    let before = target.used();
    let mut kept = Vec::new();
    for round in 0..150 {
        for line in ["REPLICAOF NO ONE".to_owned(), format!("REPLICAOF 127.0.0.1 {port}")] {
            assert_eq!(run(&mut target.witness, &line), "+OK", "round {round}\n{}", target.server.log());
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => {
                    assert!(Instant::now() < deadline, "round {round}: nobody connects");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        stream.set_nonblocking(false).expect("a socket of ours");
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket of ours");
        let (bytes, endless) = from_a_hostile_primary(&mut rng, &snapshot);
        if rng.one_in(5) {
            for piece in bytes.chunks(1 + rng.index(5000)) {
                let _ = stream.write_all(piece);
                std::thread::yield_now();
            }
        } else {
            let _ = stream.write_all(&bytes);
        }
        if let Some(endless) = endless {
            let piece = endless.repeat((64 << 10) / endless.len());
            // Less than what memory is reserved for many times over, if it belongs to a large argument.
            for _ in 0..32 {
                if stream.write_all(&piece).is_err() {
                    break;
                }
            }
        }
        let used = target.used();
        assert!(used < before + (64 << 20), "round {round}: {used} bytes are in use");
        if load == "disabled" {
            target.assert_serving(&format!("round {round}"));
            if rng.one_in(3) {
                kept.push(stream);
            }
            continue;
        }
        // What is loaded as it arrives keeps others waiting, who are told so.
        drop(stream);
        let deadline = Instant::now() + Duration::from_secs(10);
        while run(&mut target.witness, "PING").starts_with("-LOADING") {
            assert!(Instant::now() < deadline, "round {round}: it loads\n{}", target.server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        target.assert_serving(&format!("round {round}"));
    }
    drop(kept);
    run(&mut target.witness, "REPLICAOF NO ONE");
    // Some came far.
    let log = target.server.log();
    for line in
        ["Finished with success", "Failed trying to load", "Bad protocol from MASTER", "Protocol error"]
    {
        assert!(log.contains(line), "{line}");
    }
    run(&mut target.witness, "CONFIG SET maxmemory 0");
    run(&mut target.witness, "FLUSHALL");
    target.assert_memory_below(before + (8 << 20), "when all have left");
    target.finish();
}
