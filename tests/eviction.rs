//! Memory limits of a running server, which is a process of its own so that its allocator counts nothing else.

mod support;

use std::time::{Duration, Instant};

use spinel::commands;
use spinel::server::command::Flags;
use support::{Client, ServerProcess};

const OOM: &[u8] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";

fn server(options: &[&str]) -> ServerProcess {
    ServerProcess::start(&support::spinel(), options)
}

/// Sends the words of a line and returns the reply.
fn run(client: &mut Client, line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    client.command(&words).expect("the server answers")
}

/// Value of an INFO field.
fn info(client: &mut Client, field: &str) -> String {
    let text = everything(client);
    field_of(&text, field).to_string()
}

/// All sections of INFO from one moment, because the timer may evict between two commands.
fn everything(client: &mut Client) -> String {
    String::from_utf8(run(client, "INFO")).expect("INFO is text")
}

fn field_of<'a>(text: &'a str, field: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no field {field}"))
}

fn number(client: &mut Client, field: &str) -> u64 {
    info(client, field).parse().expect("a number")
}

fn keys(client: &mut Client) -> u64 {
    let reply = run(client, "DBSIZE");
    String::from_utf8_lossy(&reply[1..reply.len() - 2]).parse().expect("a number")
}

/// Waits until `done`, for events between commands.
#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_a_policy_exactly_the_commands_that_take_memory_are_refused() {
    let server = server(&[]);
    let mut client = server.client();
    run(&mut client, "CONFIG SET maxmemory 1");
    let data = Flags::WRITE.with(Flags::READONLY).with(Flags::DENYOOM);
    let tried = commands::ALL.iter().flat_map(|group| group.iter()).filter(|spec| spec.flags.has(data));
    let mut refused = 0;
    for spec in tried {
        let words = usize::from(spec.arity.unsigned_abs());
        let line = [vec![spec.name], vec!["1"; words - 1]].concat().join(" ");
        let denied = run(&mut client, &line) == OOM;
        assert_eq!(denied, spec.flags.has(Flags::DENYOOM), "{line}");
        refused += usize::from(denied);
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(number(&mut client, "evicted_keys"), 0);
    run(&mut client, "CONFIG SET maxmemory 0");
    assert_eq!(run(&mut client, "SET k v"), b"+OK\r\n");
    let total = number(&mut client, "total_eviction_exceeded_time");
    assert_eq!(number(&mut client, "current_eviction_exceeded_time"), 0);
    run(&mut client, "CONFIG RESETSTAT");
    assert!(number(&mut client, "total_eviction_exceeded_time") <= total);
}

#[test]
fn each_policy_keeps_the_limit_and_what_it_may_not_touch() {
    const VALUE: &str =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    let server = server(&["--latency-tracking", "no"]);
    let mut client = server.client();
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-lrm",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-lrm",
        "volatile-random",
        "volatile-ttl",
    ] {
        run(&mut client, "CONFIG SET maxmemory 0");
        run(&mut client, "FLUSHALL");
        run(&mut client, "CONFIG RESETSTAT");
        run(&mut client, &format!("CONFIG SET maxmemory-policy {policy}"));
        assert_eq!(info(&mut client, "maxmemory_policy"), policy);
        for i in 0..200 {
            run(&mut client, &format!("SET permanent:{i} {VALUE}"));
        }
        let limit = number(&mut client, "used_memory") + 200_000;
        run(&mut client, &format!("CONFIG SET maxmemory {limit}"));
        for i in 0..4000 {
            assert_eq!(run(&mut client, &format!("SETEX volatile:{i} 1000 {VALUE}")), b"+OK\r\n", "{policy}");
        }
        // A command evicts for at most half a millisecond; the timer evicts the rest.
        wait_until(|| number(&mut client, "used_memory") < limit + 20_000);
        let now = everything(&mut client);
        let evicted: u64 = field_of(&now, "evicted_keys").parse().expect("a number");
        assert!(evicted > 1000, "{evicted} with {policy}");
        let left = format!("keys={},", 4200 - evicted);
        assert!(field_of(&now, "db0").starts_with(&left), "{evicted} evicted: {now}");
        if policy.starts_with("volatile") {
            for i in 0..200 {
                assert_eq!(run(&mut client, &format!("EXISTS permanent:{i}")), b":1\r\n", "{policy}");
            }
            // No key is left that may be evicted.
            run(&mut client, "CONFIG SET maxmemory 1");
            wait_until(|| keys(&mut client) == 200);
            assert_eq!(run(&mut client, "SETEX k 10 v"), OOM);
        }
    }
}

#[test]
fn what_was_not_written_for_longest_is_evicted_first() {
    let value = "x".repeat(1000);
    let server = server(&["--maxmemory-policy", "allkeys-lrm", "--maxmemory-samples", "64"]);
    let mut client = server.client();
    for i in 0..100 {
        run(&mut client, &format!("SET old:{i} {value}"));
    }
    let idle = |client: &mut Client, key: &str| {
        let reply = run(client, &format!("OBJECT IDLETIME {key}"));
        String::from_utf8_lossy(&reply[1..reply.len() - 2]).parse::<u64>().expect("a number")
    };
    wait_until(|| idle(&mut client, "old:99") >= 2);
    for i in 0..100 {
        run(&mut client, &format!("SET new:{i} {value}"));
    }
    for i in 0..100 {
        run(&mut client, &format!("GET old:{i}"));
    }
    assert!(idle(&mut client, "old:99") >= 2, "a read is not a change");
    let half = number(&mut client, "used_memory") - 60_000;
    run(&mut client, &format!("CONFIG SET maxmemory {half}"));
    wait_until(|| number(&mut client, "used_memory") < half + 20_000);
    let evicted = number(&mut client, "evicted_keys");
    assert!((1..100).contains(&evicted), "{evicted} keys");
    for i in 0..100 {
        assert_eq!(run(&mut client, &format!("EXISTS new:{i}")), b":1\r\n", "{evicted} keys are gone");
    }
}

#[test]
fn a_lower_limit_is_reached_without_another_command() {
    for lazily in ["no", "yes"] {
        let options = [
            "--maxmemory-eviction-tenacity",
            "0",
            "--maxmemory-policy",
            "allkeys-lru",
            "--enable-debug-command",
            "yes",
        ];
        let server = server(&[&options[..], &["--lazyfree-lazy-eviction", lazily]].concat());
        let mut client = server.client();
        for i in 0..20 {
            let members: Vec<String> =
                (0..100).map(|member| format!("member-{i}-{member}-{member}")).collect();
            run(&mut client, &format!("SADD set:{i} {}", members.join(" ")));
        }
        run(&mut client, "DEBUG POPULATE 20000");
        run(&mut client, "CONFIG SET maxmemory 1");
        // Reading evicts, too, but little; the timer does the rest.
        std::thread::sleep(Duration::from_millis(300));
        wait_until(|| keys(&mut client) == 0);
        assert!(server.log().contains("WARNING: the new maxmemory value set via CONFIG SET (1)"));
        assert_eq!(number(&mut client, "evicted_keys"), 20_020);
    }
}

#[test]
fn transactions_are_refused_as_a_whole() {
    let server = server(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    let aborted = [&b"-EXECABORT Transaction discarded because of: "[..], &OOM[1..]].concat();
    let broken: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
    run(&mut client, "SET k v");
    for (queued, reply) in [("SET a 1", &aborted[..]), ("GET k", b"*1\r\n$1\r\nv\r\n")] {
        run(&mut client, "MULTI");
        assert_eq!(run(&mut client, queued), b"+QUEUED\r\n");
        run(&mut other, "CONFIG SET maxmemory 1");
        assert_eq!(run(&mut client, "EXEC"), reply);
        run(&mut other, "CONFIG SET maxmemory 0");
    }
    // Only commands that need memory are refused; commands that free memory are accepted.
    run(&mut other, "CONFIG SET maxmemory 1");
    for (queued, reply) in
        [("PING", &b"*1\r\n+PONG\r\n"[..]), ("GET k", b"*1\r\n$1\r\nv\r\n"), ("DEL k", b"*1\r\n:1\r\n")]
    {
        assert_eq!(run(&mut client, "MULTI"), b"+OK\r\n");
        assert_eq!(run(&mut client, queued), b"+QUEUED\r\n", "{queued}");
        assert_eq!(run(&mut client, "EXEC"), reply);
    }
    run(&mut client, "MULTI");
    assert_eq!(run(&mut client, "SET k v"), OOM);
    assert_eq!(run(&mut client, "DEL k"), b"+QUEUED\r\n");
    assert_eq!(run(&mut client, "EXEC"), broken);
    for (end, reply) in [("DISCARD", &b"+OK\r\n"[..]), ("EXEC", b"*0\r\n"), ("RESET", b"+RESET\r\n")] {
        run(&mut client, "MULTI");
        assert_eq!(run(&mut client, end), reply);
    }
    // Queued commands still run.
    run(&mut other, "CONFIG SET maxmemory 0");
    for line in ["MULTI", "INCR x", "CONFIG SET maxmemory 1", "INCR x"] {
        run(&mut client, line);
    }
    assert_eq!(run(&mut client, "EXEC"), b"*3\r\n:1\r\n+OK\r\n:2\r\n");
}

#[test]
fn clients_that_take_too_much_are_closed_unless_spared() {
    let server = server(&["--maxmemory-clients", "1mb"]);
    let mut control = server.client();
    run(&mut control, "CLIENT NO-EVICT ON");
    let half_sent = |bytes: usize| [format!("*1\r\n${bytes}\r\n").into_bytes(), vec![b'x'; bytes]].concat();
    let names = |control: &mut Client| {
        let list = String::from_utf8(run(control, "CLIENT LIST")).expect("names are text");
        ["small", "large", "spared"].map(|name| list.contains(&format!("name={name} ")))
    };
    let [mut small, mut large, mut spared] = ["small", "large", "spared"].map(|name| {
        let mut client = server.client();
        run(&mut client, &format!("CLIENT SETNAME {name}"));
        client
    });
    small.send(&half_sent(100_000)).expect("the server reads");
    large.send(&half_sent(700_000)).expect("the server reads");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(names(&mut control), [true; 3]);
    run(&mut spared, "CLIENT NO-EVICT ON");
    spared.send(&half_sent(600_000)).expect("the server reads");
    wait_until(|| names(&mut control) == [true, false, true]);
    assert!(large.reply().is_err());
    assert_eq!(number(&mut control, "evicted_clients"), 1);
    assert!(server.log().contains("Evicting client: "));
    // A percentage of `maxmemory`: clients are closed before keys are evicted.
    run(&mut control, "SET k v");
    run(&mut control, "CONFIG SET maxmemory 100mb maxmemory-clients 1%");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(names(&mut control), [true, false, true]);
    run(&mut control, "CONFIG SET maxmemory 20mb");
    wait_until(|| names(&mut control) == [false, false, true]);
    assert_eq!(run(&mut control, "GET k"), b"$1\r\nv\r\n");
    assert_eq!(number(&mut control, "evicted_clients"), 2);
}

/// Deterministic behaviour equals that of Redis.
#[test]
fn frequencies_and_errors_are_those_of_redis() {
    let Some(redis) = support::redis() else { return };
    let servers = [server(&[]), ServerProcess::start(&redis, &["--enable-debug-command", "yes"])];
    let mut clients = servers.each_ref().map(ServerProcess::client);
    let mut compare = |line: &str| {
        let [ours, theirs] = clients.each_mut().map(|client| run(client, line));
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "{line}");
    };
    for policy in [
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        compare(&format!("CONFIG SET maxmemory 0 maxmemory-policy {policy}"));
        compare("FLUSHALL");
        // The first access raises a counter with certainty; later ones depend on chance.
        for create in [
            // Not a small integer: Redis shares the counter of these among all keys unless `maxmemory` is set.
            "SET k 12345",
            "SET k long-enough-to-be-no-number",
            "APPEND k x",
            "SETRANGE k 5 x",
            // Not INCR: in Redis, the counter of an integer created by INCR begins at 0, by an oversight.
            "SETBIT k 9 1",
            "GETSET k v",
            "GETSET k w",
            "LPUSH k a",
            "SADD k a",
            "HSET k f v",
            "HINCRBY k f 1",
            "ZADD k 1 a",
            "SET k 12345 EX 1000",
            "MSET k 12345 other 2",
        ] {
            compare("DEL k");
            compare(create);
            compare("OBJECT FREQ k");
            compare("EXISTS k");
            compare("TYPE k");
            compare("TOUCH k");
            compare("OBJECT FREQ k");
        }
        for line in [
            "DEL k",
            "SADD s a b",
            "SUNIONSTORE k s",
            "OBJECT FREQ k",
            "DEL k",
            "SET source v",
            "COPY source k",
            "OBJECT FREQ k",
            "RENAME k l",
            "OBJECT FREQ l",
            "DEL k source other l s",
            "SET k v",
            "SET e v EX 1000",
            "CONFIG SET maxmemory 1",
            "GET nosuch",
            "DEL nosuch",
        ] {
            compare(line);
        }
        // The data are few, so everything that may be evicted is evicted at once.
        for line in ["SET new 1", "EXISTS k", "EXISTS e", "DBSIZE", "INCR n", "EXPIRE k 10", "PING"] {
            if policy != "noeviction" || !line.starts_with("SET") {
                compare(line);
            }
        }
    }
}

#[test]
fn protected_keys_may_exceed_the_limit_by_a_quarter() {
    for policy in ["allkeys-lru", "allkeys-random", "volatile-ttl"] {
        let server = server(&["--maxmemory-policy", policy]);
        let mut client = server.client();
        let value = "y".repeat(10_000);
        for i in 0..2000 {
            run(&mut client, &format!("SET b:{i} {value} EX 10000"));
            assert_eq!(run(&mut client, &format!("BLESS SET b:{i} NO-EVICT")), b":1\r\n");
        }
        let used = number(&mut client, "used_memory");
        assert_eq!(number(&mut client, "blessed_keys"), 2000);
        let limit = |client: &mut Client, part: f64| {
            run(client, &format!("CONFIG SET maxmemory {}", (used as f64 / part) as u64));
        };
        limit(&mut client, 1.15);
        assert_eq!(run(&mut client, "SET within 1"), b"+OK\r\n", "{policy}");
        limit(&mut client, 1.4);
        assert_eq!(run(&mut client, "SET past 1"), OOM, "{policy}");
        assert_eq!(run(&mut client, "BLESS SET within NO-EVICT"), OOM);
        assert_eq!(run(&mut client, "BLESS COUNT"), b":2000\r\n", "none of them was evicted");
        // Protection can be withdrawn, and then there is something to evict.
        for i in 0..2000 {
            run(&mut client, &format!("BLESS CLEAR b:{i} NO-EVICT"));
        }
        assert_eq!(run(&mut client, "SET after 1"), b"+OK\r\n", "{policy}");
        assert!(number(&mut client, "evicted_keys") > 0);
    }
}
