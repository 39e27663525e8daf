//! I/O threads: whatever clients do, they get the replies that they get from the main thread alone.
//!
//! `SPINEL_IO_THREADS_SEED` sets the seed, which is printed, `SPINEL_IO_THREADS_SECONDS` the duration of the tests under
//! load in seconds (default 2).

#[path = "../support/tls.rs"]
mod certificates;
mod kinds;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::rng::Rng;
use support::{Client, ServerProcess, spinel};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    let seed = setting("SPINEL_IO_THREADS_SEED", rand::random());
    println!("seed {seed}");
    seed
}

fn duration() -> Duration {
    Duration::from_secs(setting("SPINEL_IO_THREADS_SECONDS", 2))
}

/// A server with `threads` threads for I/O, the main one included.
fn server(threads: u32, options: &[&str]) -> ServerProcess {
    let threads = threads.to_string();
    let ours = ["--io-threads", &threads, "--enable-debug-command", "yes"];
    ServerProcess::start(&spinel(), &[&ours[..], options].concat())
}

fn connect(server: &ServerProcess) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server takes connections");
    stream.set_nodelay(true).expect("a socket of ours");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket of ours");
    stream
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    write_request(&mut out, words.iter().map(|word| word.as_bytes()));
    out
}

/// The reply to a line of words: arrays as their elements, strings without their lengths.
fn run(client: &mut Client, line: &str) -> String {
    let reply = support::run(client, line);
    match reply.as_bytes() {
        [b'$' | b'=', b'0'..=b'9', ..] => {
            reply.split_once("\r\n").map_or(String::new(), |(_, text)| text.to_owned())
        }
        [b'*' | b'>' | b'%', b'0'..=b'9', ..] => {
            let elements: Vec<&str> =
                reply.split("\r\n").filter(|line| !line.starts_with(['*', '$', '>', '%'])).collect();
            elements.join(" ")
        }
        _ => reply,
    }
}

fn field(info: &str, name: &str) -> String {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {info}")).trim().to_owned()
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A random request on the keys of one client. No reply depends on time or on other clients.
fn any_request(rng: &mut Rng, own: usize) -> Vec<u8> {
    let key = format!("{own}:{}", rng.below(6));
    let other = format!("{own}:{}", rng.below(6));
    let n = rng.below(50).to_string();
    let text = "v".repeat(match rng.below(20) {
        0 => 20_000 + rng.index(100_000),
        1 => 3000,
        _ => rng.index(40),
    });
    let words: Vec<&str> = match rng.below(44) {
        0..6 => vec!["SET", &key, &text],
        6..12 => vec!["GET", &key],
        12 => vec!["APPEND", &key, &text],
        13 => vec!["INCR", &other],
        14..16 => vec!["RPUSH", &key, &n, &text],
        16 => vec!["LPOP", &key],
        17 => vec!["LRANGE", &key, "0", "-1"],
        18 => vec!["HSET", &key, &n, &text],
        19 => vec!["HGETALL", &key],
        20 => vec!["SADD", &key, &n],
        21 => vec!["SCARD", &key],
        22 => vec!["DEL", &key, &other],
        23 => vec!["BLPOP", &key, "0.01"],
        24 => vec!["MULTI"],
        25..28 => vec!["EXEC"],
        28 => vec!["DISCARD"],
        29 => vec!["WATCH", &key],
        30 => vec!["SELECT", if n.len() > 1 { "0" } else { "1" }],
        31 => vec!["EVAL", "return redis.call('get', KEYS[1])", "1", &key],
        32 => vec!["HELLO", "3", "SETNAME", "me"],
        33 => vec!["NO-SUCH-COMMAND", &key],
        34 => vec!["GET"],
        35 => vec!["CLIENT", "REPLY", "SKIP"],
        36 => vec!["SUBSCRIBE", &key],
        37 => vec!["UNSUBSCRIBE", &other, &key],
        38 => vec!["RESET"],
        39 => vec!["ECHO", &text],
        40 => vec!["CLIENT", "TRACKING", "ON"],
        41 => vec!["CLIENT", "TRACKING", "OFF"],
        42 => vec!["OBJECT", "ENCODING", &key],
        _ => vec!["PING"],
    };
    // HELLO tells the ID of the connection, which differs.
    if words[0] == "HELLO" { b"PING inline\r\n".to_vec() } else { request(&words) }
}

/// Sends a session in pieces and returns everything that comes back.
fn converse(server: &ServerProcess, session: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut stream = connect(server);
    let mut reader = stream.try_clone().expect("a descriptor is left");
    let replies = thread::spawn(move || {
        let mut replies = Vec::new();
        reader.read_to_end(&mut replies).expect("the server answers and closes");
        replies
    });
    let mut rest = session;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + rng.index(30_000)));
        stream.write_all(now).expect("the server reads");
        rest = later;
        if rng.one_in(4) {
            thread::sleep(Duration::from_micros(rng.below(300)));
        }
    }
    replies.join().expect("it does not panic")
}

#[test]
fn replies_are_those_of_one_thread() {
    let seed = seed();
    let (one, four) = (Arc::new(server(1, &[])), Arc::new(server(4, &[])));
    let clients: Vec<_> = (0..12)
        .map(|own| {
            let (one, four) = (Arc::clone(&one), Arc::clone(&four));
            thread::spawn(move || {
                for round in 0..8 {
                    let mut rng = Rng::new(seed.wrapping_add(own as u64 * 1000 + round));
                    let mut session = Vec::new();
                    for _ in 0..60 {
                        session.extend(any_request(&mut rng, own));
                    }
                    // Nothing is told of keys that others change, and the end is certain.
                    session.extend(request(&["RESET"]));
                    session.extend(request(&["QUIT"]));
                    let mut again = Rng::new(rng.below(u64::MAX));
                    let (expected, got) =
                        (converse(&one, &session, &mut rng), converse(&four, &session, &mut again));
                    let differs = expected.iter().zip(&got).position(|(a, b)| a != b);
                    let near = |all: &[u8]| {
                        let at = differs.unwrap_or(all.len()).saturating_sub(60);
                        String::from_utf8_lossy(&all[at.min(all.len())..all.len().min(at + 120)]).into_owned()
                    };
                    assert!(
                        expected == got,
                        "client {own}, round {round}: {} and {} bytes differ at {differs:?}: {:?} {:?}",
                        expected.len(),
                        got.len(),
                        near(&expected),
                        near(&got)
                    );
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("replies are equal"));
    let (mut a, mut b) = (one.client(), four.client());
    assert_eq!(run(&mut a, "DEBUG DIGEST"), run(&mut b, "DEBUG DIGEST"));
    wait_for("all have left", || field(&run(&mut b, "INFO clients"), "connected_clients") == "1");
}

#[test]
fn threads_have_names_and_figures() {
    let server = server(3, &[]);
    let mut client = server.client();
    assert_eq!(run(&mut client, "SET k v"), "+OK");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("procfs");
    let mut names: Vec<String> = tasks
        .map(|task| std::fs::read_to_string(task.expect("procfs").path().join("comm")).unwrap_or_default())
        .filter(|name| name.starts_with("io_thd_"))
        .collect();
    names.sort();
    assert_eq!(names, ["io_thd_1\n", "io_thd_2\n"]);
    let info = run(&mut client, "INFO everything");
    assert_eq!(field(&info, "io_threads_active"), "1");
    let threads: Vec<&str> = info.lines().filter(|line| line.starts_with("io_thread_")).collect();
    assert_eq!(threads.len(), 3, "{threads:?}");
    assert!(threads[0].starts_with("io_thread_0:clients=0,"), "{threads:?}");
    assert!(threads[1..].iter().any(|line| line.contains(":clients=1,")), "{threads:?}");
    assert_ne!(field(&info, "io_threaded_reads_processed"), "0");
    assert!(info.contains("used_active_time_io_thread_2:"));
    assert!(run(&mut client, "CLIENT LIST").contains(&format!("laddr=127.0.0.1:{}", server.port)));
    // An idle server sleeps.
    let spent = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("procfs");
        tasks
            .map(|task| {
                let text = std::fs::read_to_string(task.expect("procfs").path().join("schedstat"))
                    .unwrap_or_default();
                text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
            })
            .sum()
    };
    thread::sleep(Duration::from_millis(2500));
    let before = spent();
    thread::sleep(Duration::from_secs(1));
    let ms = (spent() - before) / 1_000_000;
    assert!(ms < 100, "{ms} ms of processor time in a second without requests");
}

/// Clients that count, each on its own key, with pipelines of random length, until told to stop.
fn counters(
    server: &ServerProcess,
    clients: usize,
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> Vec<thread::JoinHandle<u64>> {
    (0..clients)
        .map(|i| {
            let (mut stream, stop) = (connect(server), Arc::clone(stop));
            thread::spawn(move || {
                let mut rng = Rng::new(seed.wrapping_add(i as u64));
                let (mut count, mut replies) = (0u64, vec![0; 1 << 16]);
                let key = format!("counter:{i}");
                while !stop.load(Ordering::Relaxed) {
                    let n = 1 + rng.below(40);
                    let mut pipeline = Vec::new();
                    (0..n).for_each(|_| pipeline.extend(request(&["INCR", &key])));
                    stream.write_all(&pipeline).expect("the server reads");
                    let expected: String = (count + 1..=count + n).map(|n| format!(":{n}\r\n")).collect();
                    let got = &mut replies[..expected.len()];
                    stream.read_exact(got).expect("the server answers");
                    assert_eq!(got, expected.as_bytes(), "client {i}");
                    count += n;
                }
                count
            })
        })
        .collect()
}

#[test]
fn the_number_of_threads_changes_under_load() {
    let seed = seed();
    let server = server(2, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = counters(&server, 16, seed, &stop);
    let mut operator = server.client();
    let (mut rng, until) = (Rng::new(seed), Instant::now() + 2 * duration());
    // A client that only waits must be found wherever it is.
    let mut sleeper = server.client();
    assert_eq!(run(&mut sleeper, "CLIENT SETNAME sleeper"), "+OK");
    while Instant::now() < until {
        let n = 1 + rng.below(6);
        assert_eq!(run(&mut operator, &format!("CONFIG SET io-threads {n}")), "+OK");
        let list = run(&mut operator, "CLIENT LIST");
        assert_eq!(list.lines().filter(|line| line.contains("addr=127.0.0.1:")).count(), 18, "{list}");
        assert!(list.contains("name=sleeper"), "{list}");
        if rng.one_in(4) {
            assert_eq!(run(&mut sleeper, "ECHO here"), "here");
        }
        thread::sleep(Duration::from_millis(rng.below(50)));
        let info = run(&mut operator, "INFO threads");
        assert_eq!(info.matches("io_thread_").count(), n as usize, "{info}");
    }
    stop.store(true, Ordering::Relaxed);
    for (i, client) in clients.into_iter().enumerate() {
        let count = client.join().expect("every reply is right");
        assert_eq!(run(&mut operator, &format!("GET counter:{i}")), count.to_string());
    }
}

#[test]
fn clients_are_killed_under_load() {
    let seed = seed();
    let server = server(4, &["--timeout", "0"]);
    let stop = Arc::new(AtomicBool::new(false));
    let lasting = counters(&server, 6, seed, &stop);
    let port = server.port;
    let victims: Vec<_> = (0..6)
        .map(|i| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut killed = 0;
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut client) = Client::connect(port) else { continue };
                    let name: &[u8] = b"victim";
                    let mut work = || -> std::io::Result<()> {
                        client.command(&[b"CLIENT", b"SETNAME", name])?;
                        for n in 0u64.. {
                            match (n + i) % 4 {
                                0 => client.command(&[b"BLPOP", b"nothing", b"0.001"])?,
                                1 => client.command(&[b"SET", b"large", &vec![b'x'; 50_000]])?,
                                2 => client.command(&[b"GET", b"large"])?,
                                _ => client.command(&[b"PING"])?,
                            };
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        Ok(())
                    };
                    killed += u32::from(work().is_err());
                }
                killed
            })
        })
        .collect();
    let mut operator = server.client();
    let until = Instant::now() + duration();
    let mut told = 0;
    while Instant::now() < until {
        let list = run(&mut operator, "CLIENT LIST");
        for line in list.lines().filter(|line| line.contains("name=victim")) {
            let id = line.split("id=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an ID");
            told += u32::from(run(&mut operator, &format!("CLIENT KILL ID {id}")) == ":1");
            assert!(!run(&mut operator, "CLIENT LIST").contains(&format!("id={id} ")), "{id} is gone");
        }
        thread::sleep(Duration::from_millis(2));
    }
    stop.store(true, Ordering::Relaxed);
    let killed: u32 = victims.into_iter().map(|victim| victim.join().expect("no panic")).sum();
    assert!(told > 0 && killed <= told, "{killed} of {told}");
    lasting.into_iter().for_each(|client| _ = client.join().expect("every reply is right"));
    wait_for("all have left", || field(&run(&mut operator, "INFO clients"), "connected_clients") == "1");
}

#[test]
fn subscribers_monitors_and_the_blocked_are_served() {
    let server = server(4, &[]);
    let (mut a, mut b, mut c) = (server.client(), server.client(), server.client());
    for round in 0..20 {
        assert_eq!(run(&mut a, "SUBSCRIBE news"), "subscribe news :1");
        assert_eq!(run(&mut b, "PUBLISH news x"), ":1");
        assert_eq!(a.reply().expect("a message"), b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n");
        assert_eq!(run(&mut a, "UNSUBSCRIBE news"), "unsubscribe news :0");
        assert_eq!(run(&mut a, &format!("ECHO {round}")), round.to_string());

        a.send(&request(&["BLPOP", "queue", "0"])).expect("the server reads");
        // Behind the blocking command, in the same piece.
        a.send(&[request(&["ECHO", "behind"]), request(&["PING"])].concat()).expect("the server reads");
        wait_for("it is blocked", || field(&run(&mut b, "INFO clients"), "blocked_clients") == "1");
        assert_eq!(run(&mut b, "RPUSH queue item"), ":1");
        assert_eq!(a.reply().expect("an item"), b"*2\r\n$5\r\nqueue\r\n$4\r\nitem\r\n");
        assert_eq!(a.reply().expect("an echo"), b"$6\r\nbehind\r\n");
        assert_eq!(a.reply().expect("a pong"), b"+PONG\r\n");

        assert_eq!(run(&mut c, "HELLO 3").split(' ').next(), Some("server"));
        assert_eq!(run(&mut c, "CLIENT TRACKING ON"), "+OK");
        run(&mut c, "GET tracked");
        assert_eq!(run(&mut b, "SET tracked 1"), "+OK");
        assert_eq!(
            c.reply().expect("an invalidation"),
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n"
        );
        assert_eq!(run(&mut c, "RESET"), "+RESET");

        assert_eq!(run(&mut c, "MONITOR"), "+OK");
        assert_eq!(run(&mut b, "GET seen"), "$-1");
        let line = c.reply().expect("a line");
        assert!(line.ends_with(b"\"GET\" \"seen\"\r\n"), "{}", String::from_utf8_lossy(&line));
        assert_eq!(run(&mut c, "RESET"), "+RESET");

        assert_eq!(run(&mut a, "WATCH w"), "+OK");
        assert_eq!(run(&mut a, "MULTI"), "+OK");
        assert_eq!(run(&mut a, "GET w"), "+QUEUED");
        assert_eq!(run(&mut b, "INCR w"), format!(":{}", round + 1));
        assert_eq!(run(&mut a, "EXEC"), "*-1");

        assert_eq!(run(&mut b, "CLIENT PAUSE 60 WRITE"), "+OK");
        let asked = Instant::now();
        assert_eq!(run(&mut a, "SET p 1"), "+OK");
        assert!(asked.elapsed() >= Duration::from_millis(40));
    }
}

#[test]
fn slow_readers_get_everything_or_are_closed() {
    let server = server(3, &["--client-output-buffer-limit", "normal 40000000 0 0"]);
    let mut client = server.client();
    let text = vec![b'y'; 1 << 20];
    assert_eq!(client.command(&[b"SET", b"text", &text]).expect("an answer"), b"+OK\r\n");
    // 20 MB wait, then all arrive.
    let mut slow = connect(&server);
    slow.write_all(&request(&["GET", "text"]).repeat(20)).expect("the server reads");
    wait_for("output waits", || {
        let list = run(&mut client, "CLIENT LIST");
        list.lines().any(|line| {
            let omem =
                line.split("omem=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            omem.is_some_and(|bytes| bytes > 10 << 20)
        })
    });
    assert_eq!(run(&mut client, "PING"), "+PONG");
    let expected = [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat();
    for _ in 0..20 {
        let mut got = vec![0; expected.len()];
        slow.read_exact(&mut got).expect("it arrives");
        assert!(got == expected);
    }
    slow.write_all(b"PING\r\n").expect("the server reads");
    let mut pong = [0; 7];
    slow.read_exact(&mut pong).expect("it is served");
    assert_eq!(&pong, b"+PONG\r\n");
    // More than allowed.
    slow.write_all(&request(&["GET", "text"]).repeat(100)).expect("the server reads");
    wait_for("it is closed", || field(&run(&mut client, "INFO clients"), "connected_clients") == "1");
    let info = run(&mut client, "INFO stats");
    assert_eq!(field(&info, "client_output_buffer_limit_disconnections"), "1");
}

#[test]
fn large_values_pass_whole() {
    let seed = seed();
    let server = server(4, &["--proto-max-bulk-len", "512mb"]);
    let stop = Arc::new(AtomicBool::new(false));
    let others = counters(&server, 3, seed, &stop);
    let mut client = server.client();
    let mut rng = Rng::new(seed);
    for size in [40_000, 1 << 20, 30 << 20] {
        let value: Vec<u8> = (0..size).map(|_| rng.below(256) as u8).collect();
        assert_eq!(client.command(&[b"SET", b"value", &value]).expect("an answer"), b"+OK\r\n");
        let expected = [format!("${size}\r\n").as_bytes(), &value, b"\r\n"].concat();
        assert!(client.command(&[b"GET", b"value"]).expect("an answer") == expected);
        assert_eq!(
            client.command(&[b"APPEND", b"value", b"x"]).expect("an answer"),
            format!(":{}\r\n", size + 1).as_bytes()
        );
    }
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|client| _ = client.join().expect("every reply is right"));
}

#[test]
fn limits_on_clients_are_kept() {
    let server = server(3, &["--requirepass", "secret", "--client-query-buffer-limit", "2mb"]);
    let replies = |bytes: &[u8]| {
        let mut stream = connect(&server);
        stream.write_all(bytes).expect("the server reads");
        let _ = stream.shutdown(Shutdown::Write);
        let mut replies = Vec::new();
        let _ = stream.read_to_end(&mut replies);
        String::from_utf8_lossy(&replies).into_owned()
    };
    let auth = request(&["AUTH", "secret"]);
    // Replies precede the error, and nothing follows it.
    assert_eq!(
        replies(&[&auth[..], b"PING\r\n*1\r\n$x\r\nPING\r\n"].concat()),
        "+OK\r\n+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"
    );
    assert_eq!(replies(b"*11\r\n$1\r\n"), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert_eq!(
        replies(b"*2\r\n$4\r\nECHO\r\n$20000\r\n"),
        "-ERR Protocol error: unauthenticated bulk length\r\n"
    );
    // Who has authenticated in the same piece may send more.
    let text = "z".repeat(20_000);
    let long = [auth.clone(), request(&["ECHO", &text])].concat();
    assert_eq!(replies(&long), format!("+OK\r\n$20000\r\n{text}\r\n"));
    assert_eq!(replies(&[&auth[..], b"QUIT\r\nPING\r\n"].concat()), "+OK\r\n+OK\r\n");
    // Input without end.
    let mut endless = connect(&server);
    endless.write_all(&auth).expect("the server reads");
    let header = b"*3000\r\n";
    let _ = endless.write_all(header);
    let piece = [b"$20000\r\n".to_vec(), vec![b'q'; 20_000], b"\r\n".to_vec()].concat();
    let closed = (0..2000).any(|_| endless.write_all(&piece).is_err());
    assert!(closed, "it took 40 MB");
    let mut operator = server.client();
    assert_eq!(run(&mut operator, "AUTH secret"), "+OK");
    let info = run(&mut operator, "INFO stats");
    assert_eq!(field(&info, "client_query_buffer_limit_disconnections"), "1");
    // A password that goes: who has not authenticated is trusted from then on.
    let mut stranger = server.client();
    assert!(run(&mut stranger, "PING").starts_with("-NOAUTH"));
    let none = operator.command(&[b"CONFIG", b"SET", b"requirepass", b""]);
    assert_eq!(none.expect("an answer"), b"+OK\r\n");
    assert_eq!(stranger.command(&[b"ECHO", text.as_bytes()]).map(|reply| reply.len()).ok(), Some(20_010));
}

#[test]
fn memory_of_clients_and_idle_time_are_limited() {
    let server = server(3, &["--maxmemory-clients", "20mb"]);
    let mut operator = server.client();
    assert_eq!(run(&mut operator, "CLIENT NO-EVICT ON"), "+OK");
    // Each sends half of a large request.
    let hoarders: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9000000\r\n").expect("the server reads");
            let _ = stream.write_all(&vec![b'h'; 8_000_000]);
            stream
        })
        .collect();
    wait_for("some are closed", || {
        field(&run(&mut operator, "INFO stats"), "evicted_clients").parse::<u64>().is_ok_and(|n| n >= 3)
    });
    drop(hoarders);
    assert_eq!(run(&mut operator, "CONFIG SET maxmemory-clients 0"), "+OK");
    let _idle = server.client();
    assert_eq!(run(&mut operator, "CONFIG SET timeout 1"), "+OK");
    wait_for("the idle one is closed", || {
        field(&run(&mut operator, "INFO clients"), "connected_clients") == "1"
    });
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    for options in [["--appendfsync", "always"], ["--appendfsync", "no"]] {
        let seed = seed();
        let always = options[1] == "always";
        let mut server = server(4, &[&["--appendonly", "yes"][..], &options].concat());
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..8).map(|_| AtomicU64::new(0)).collect());
        let clients: Vec<_> = (0..8)
            .map(|i| {
                let (mut stream, acknowledged) = (connect(&server), Arc::clone(&acknowledged));
                thread::spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_add(i as u64));
                    let (mut count, key) = (0, format!("k{i}"));
                    loop {
                        let n = 1 + rng.below(5);
                        let pipeline = request(&["INCR", &key]).repeat(n as usize);
                        let expected: String = (count + 1..=count + n).map(|n| format!(":{n}\r\n")).collect();
                        let mut got = vec![0; expected.len()];
                        if stream.write_all(&pipeline).is_err() || stream.read_exact(&mut got).is_err() {
                            return;
                        }
                        assert_eq!(got, expected.as_bytes());
                        count += n;
                        acknowledged[i].store(count, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        thread::sleep(duration() / 2);
        let seen: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        std::process::Command::new("kill")
            .args(["-9", &server.pid().to_string()])
            .status()
            .expect("kill runs");
        server.wait();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("every reply is right"));
        let after: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
        let dir = server.dir.to_str().expect("a path of ours").to_owned();
        let again =
            ServerProcess::start(&spinel(), &["--appendonly", "yes", "--dir", &dir, "--io-threads", "2"]);
        let mut client = again.client();
        for (i, &count) in after.iter().enumerate() {
            let kept: u64 = run(&mut client, &format!("GET k{i}")).parse().expect("a number");
            // A process that is killed loses nothing that it has written, synced or not.
            assert!(kept >= count, "{kept} of {count}, always: {always}");
        }
    }
}

#[test]
fn others_are_told_of_a_long_script_and_can_end_it() {
    let server = server(4, &["--busy-reply-threshold", "100"]);
    let mut before = server.client();
    let mut looping = server.client();
    let script = request(&["EVAL", "while true do end", "0"]);
    looping
        .send(&[request(&["PING"]), script, request(&["ECHO", "behind"])].concat())
        .expect("the server reads");
    assert_eq!(looping.reply().expect("a pong"), b"+PONG\r\n");
    wait_for("others are told", || run(&mut before, "GET k").starts_with("-BUSY"));
    let mut new = server.client();
    assert!(run(&mut new, "GET k").starts_with("-BUSY"));
    assert!(run(&mut new, "CONFIG SET io-threads 2").starts_with("-BUSY"));
    assert_eq!(run(&mut new, "SCRIPT KILL"), "+OK");
    assert!(looping.reply().expect("an error").starts_with(b"-ERR"));
    assert_eq!(looping.reply().expect("an echo"), b"$6\r\nbehind\r\n");
    assert_eq!(run(&mut before, "GET k"), "$-1");
}

#[test]
fn a_server_that_ends_sends_its_last_replies() {
    for _ in 0..5 {
        let mut server = server(4, &[]);
        let mut other = connect(&server);
        other.write_all(&request(&["SET", "k", "v"])).expect("the server reads");
        let mut ok = [0; 5];
        other.read_exact(&mut ok).expect("an answer");
        let mut stream = connect(&server);
        let session = [request(&["ECHO", "last"]).repeat(100), request(&["SHUTDOWN", "NOSAVE"])].concat();
        stream.write_all(&session).expect("the server reads");
        let mut replies = Vec::new();
        let _ = stream.read_to_end(&mut replies);
        assert_eq!(replies, b"$4\r\nlast\r\n".repeat(100));
        assert!(server.wait().success());
    }
}
