//! Work for very many clients at once, which is done in parts: everything must be as if it had been done in one go.

mod support;

use std::time::{Duration, Instant};

use support::{Client, ServerProcess, run, spinel};

/// So many that an iteration of the loop does not do them all: see `server::event_loop::sending`.
const MANY: usize = 250;

fn many(server: &ServerProcess) -> Vec<Client> {
    (0..MANY).map(|_| server.client()).collect()
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Number of clients with this flag in CLIENT LIST.
fn with_flag(client: &mut Client, flag: &str) -> usize {
    run(client, "CLIENT LIST").matches(&format!(" flags={flag} ")).count()
}

/// Publishes some messages, and checks that all get them in order while others are answered.
fn publish_to_many(options: &[&str]) {
    let server = ServerProcess::start(&spinel(), options);
    let mut subscribers = many(&server);
    for subscriber in &mut subscribers {
        assert!(run(subscriber, "SUBSCRIBE c").ends_with(":1"));
    }
    let (mut publisher, mut other) = (server.client(), server.client());
    let long = "x".repeat(5000);
    for round in 0..5 {
        assert_eq!(run(&mut publisher, &format!("PUBLISH c {round}:{long}")), format!(":{MANY}"));
        assert_eq!(run(&mut other, &format!("SET key {round}")), "+OK");
        assert_eq!(run(&mut other, "PING"), "+PONG");
    }
    for subscriber in &mut subscribers {
        for round in 0..5 {
            let message = subscriber.reply().expect("a message");
            let text = format!("{round}:{long}\r\n");
            assert!(message.starts_with(b"*3\r\n$7\r\nmessage\r\n") && message.ends_with(text.as_bytes()));
        }
    }
    // Whoever is closed is closed, and nothing is sent twice.
    assert_eq!(run(&mut publisher, "CLIENT KILL TYPE pubsub"), format!(":{MANY}"));
    assert_eq!(run(&mut publisher, "PUBLISH c nobody"), ":0");
    for subscriber in &mut subscribers {
        assert!(subscriber.rest().is_empty());
    }
    wait_for("all are closed", || !run(&mut publisher, "CLIENT LIST").contains("sub=1"));
    // Those who come next have the places of those who left.
    let mut next = many(&server);
    for client in &mut next {
        assert_eq!(run(client, "PING"), "+PONG");
    }
    drop(next);
    wait_for("all are gone", || run(&mut publisher, "CLIENT LIST").matches("id=").count() == 2);
}

#[test]
fn a_message_reaches_very_many() {
    publish_to_many(&[]);
}

#[test]
fn a_message_reaches_very_many_when_replies_wait_for_the_log() {
    publish_to_many(&["--appendonly", "yes", "--appendfsync", "always"]);
}

#[test]
fn very_many_who_wait_are_served_before_anybody_else_sees_the_key() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut giver, mut other) = (server.client(), server.client());
    let served = MANY - 50;
    let elements: String = (0..served).map(|i| format!(" {i}")).collect();
    let looks: [(&[&str], &str); 7] = [
        (&["LLEN q"], ":0"),
        (&["LPOP q"], "$-1"),
        (&["EXISTS a q"], ":0"),
        (&["DBSIZE"], ":0"),
        (&["EVAL return{redis.call('LLEN',KEYS[1])} 1 q"], "*1\r\n:0"),
        (&["MULTI", "TYPE q", "EXEC"], "*1\r\n+none"),
        (&["PING", "GET nothing", "RENAME q r"], "-ERR no such key"),
    ];
    for (lines, expected) in looks {
        let mut waiting: Vec<Client> = Vec::new();
        for (i, mut client) in many(&server).into_iter().enumerate() {
            client.send(b"BLPOP p q 0\r\n").expect("it is sent");
            waiting.push(client);
            // The order in which they wait is that of their requests only if those do not arrive together.
            if i % 100 == 99 {
                wait_for("they wait", || with_flag(&mut giver, "b") == i + 1);
            }
        }
        wait_for("all wait", || with_flag(&mut giver, "b") == MANY);
        assert_eq!(run(&mut giver, &format!("RPUSH q{elements}")), format!(":{served}"));
        let replies: Vec<String> = lines.iter().map(|line| run(&mut other, line)).collect();
        assert_eq!(replies.last().map(String::as_str), Some(expected), "{lines:?}");
        let mut got: Vec<usize> = Vec::new();
        for client in &mut waiting[..served] {
            let reply = String::from_utf8(client.reply().expect("an element")).expect("text");
            let element = reply.trim_end().rsplit('\n').next().and_then(|text| text.parse().ok());
            got.push(element.unwrap_or_else(|| panic!("{reply}")));
        }
        // In each hundred the order is that of arrival, which nobody knows.
        for hundred in got.chunks_mut(100) {
            hundred.sort_unstable();
        }
        assert_eq!(got, (0..served).collect::<Vec<_>>());
        assert_eq!(with_flag(&mut giver, "b"), MANY - served);
        drop(waiting);
        wait_for("all are gone", || run(&mut giver, "CLIENT LIST").matches("id=").count() == 2);
    }
}

#[test]
fn very_many_keys_expire_while_others_are_served() {
    let server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
    let mut client = server.client();
    assert!(run(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0").contains("OK"));
    for some in 0..50 {
        let lines: String = (0..1000).map(|i| format!("SET k:{some}:{i} v PX 1\r\n")).collect();
        client.send(lines.as_bytes()).expect("it is sent");
        for _ in 0..1000 {
            assert_eq!(client.reply().expect("a reply"), b"+OK\r\n");
        }
    }
    assert_eq!(run(&mut client, "DBSIZE"), ":50000");
    assert!(run(&mut client, "DEBUG SET-ACTIVE-EXPIRE 1").contains("OK"));
    wait_for("all expire", || run(&mut client, "DBSIZE") == ":0");
    assert!(run(&mut client, "INFO stats").contains("\nexpired_keys:50000\r"));
}
