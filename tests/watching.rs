//! Watching and controlling a server over real sockets: pauses, monitors, renamed commands.

mod support;

use std::time::Duration;

use support::{Client, ServerProcess, spinel};

fn text(reply: Vec<u8>) -> String {
    String::from_utf8(reply).expect("the test uses text")
}

fn ask(client: &mut Client, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    text(client.command(&words).expect("the server answers"))
}

/// Waits for a text in INFO.
fn wait_for(client: &mut Client, line: &str) {
    for _ in 0..500 {
        if ask(client, "INFO clients").lines().any(|have| have == line) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("INFO never says {line}");
}

#[test]
fn a_pause_holds_requests_and_runs_them_in_order() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut writer, mut other) = (server.client(), server.client());
    let large = "x".repeat(100_000);
    let mut requests = Vec::new();
    for words in [
        &["SET", "k", "1"][..],
        &["CLIENT", "PAUSE", "1000000", "WRITE"],
        &["GET", "k"],
        &["SET", "k", &large],
        &["STRLEN", "k"],
        &["NOSUCH"],
        &["INCR", "n"],
        &["PING"],
    ] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        spinel::resp::request::write_request(&mut requests, words.into_iter());
    }
    // The last request arrives in two pieces, the second during the pause.
    let (now, later) = requests.split_at(requests.len() - 5);
    writer.send(now).expect("the server reads");
    for expected in ["+OK\r\n", "+OK\r\n", "$1\r\n1\r\n"] {
        assert_eq!(text(writer.reply().expect("the server answers")), expected);
    }
    wait_for(&mut other, "blocked_clients:1");
    writer.send(later).expect("the server reads");
    assert!(ask(&mut other, "CLIENT LIST").lines().any(|line| line.contains(" flags=b ")));
    assert_eq!(ask(&mut other, "GET k"), "$1\r\n1\r\n");
    // A client that disconnects while waiting is forgotten, with its request.
    let mut gone = server.client();
    let mut request = Vec::new();
    spinel::resp::request::write_request(&mut request, [&b"INCR"[..], b"n"].into_iter());
    gone.send(&request).expect("the server reads");
    wait_for(&mut other, "blocked_clients:2");
    drop(gone);
    wait_for(&mut other, "blocked_clients:1");

    assert_eq!(ask(&mut other, "CLIENT UNPAUSE"), "+OK\r\n");
    for expected in ["+OK\r\n", ":100000\r\n", "-ERR unknown command 'NOSUCH'", ":1\r\n", "+PONG\r\n"] {
        let reply = text(writer.reply().expect("the server answers"));
        assert!(reply.starts_with(expected), "{reply} instead of {expected}");
    }
    assert_eq!(ask(&mut writer, "PING"), "+PONG\r\n");
    wait_for(&mut other, "blocked_clients:0");
}

#[test]
fn a_pause_ends_by_itself() {
    let server = ServerProcess::start(&spinel(), &["--hz", "1"]);
    let (mut writer, mut other) = (server.client(), server.client());
    assert_eq!(ask(&mut other, "CLIENT PAUSE 50 ALL"), "+OK\r\n");
    assert_eq!(ask(&mut writer, "SET k v"), "+OK\r\n");
    assert_eq!(ask(&mut other, "GET k"), "$1\r\nv\r\n");
}

#[test]
fn monitors_see_what_runs_until_they_leave() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut monitors = [server.client(), server.client()];
    assert!(ask(&mut monitors[1], "HELLO 3").starts_with('%'));
    for monitor in &mut monitors {
        assert_eq!(ask(monitor, "MONITOR"), "+OK\r\n");
    }
    let mut client = server.client();
    assert_eq!(ask(&mut client, "SELECT 3"), "+OK\r\n");
    assert_eq!(ask(&mut client, "CONFIG SET masterauth secret"), "+OK\r\n");
    assert!(ask(&mut client, "AUTH me secret").starts_with("-WRONGPASS"));
    for monitor in &mut monitors {
        let mut next = || text(monitor.reply().expect("the server tells"));
        let select = next();
        assert!(select.contains(" [3 127.0.0.1:") && select.ends_with("] \"SELECT\" \"3\"\r\n"), "{select}");
        assert!(next().ends_with("] \"AUTH\" \"(redacted)\" \"(redacted)\"\r\n"));
    }
    let [_, mut left] = monitors;
    assert_eq!(ask(&mut client, "PING"), "+PONG\r\n");
    assert!(text(left.reply().expect("the server tells")).ends_with("] \"PING\"\r\n"));
    assert!(ask(&mut client, "CLIENT LIST").lines().filter(|line| line.contains(" flags=O ")).count() <= 2);
}

#[test]
fn commands_are_renamed_or_taken_away() {
    let server = ServerProcess::start(
        &spinel(),
        &["--rename-command", "FLUSHALL", "wipe", "--rename-command", "KEYS", ""],
    );
    let mut client = server.client();
    assert_eq!(ask(&mut client, "SET k v"), "+OK\r\n");
    assert!(ask(&mut client, "FLUSHALL").starts_with("-ERR unknown command 'FLUSHALL'"));
    assert!(ask(&mut client, "KEYS *").starts_with("-ERR unknown command 'KEYS'"));
    assert_eq!(ask(&mut client, "DBSIZE"), ":1\r\n");
    assert_eq!(ask(&mut client, "WIPE"), "+OK\r\n");
    assert_eq!(ask(&mut client, "DBSIZE"), ":0\r\n");
}

#[test]
fn the_watchdog_tells_where_the_loop_is_stuck() {
    let server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
    let mut client = server.client();
    assert_eq!(ask(&mut client, "CONFIG SET watchdog-period 20"), "+OK\r\n");
    assert_eq!(
        ask(&mut client, "CONFIG GET watchdog-period"),
        "*2\r\n$15\r\nwatchdog-period\r\n$3\r\n200\r\n",
        "never below two ticks of the timer"
    );
    // A loop that waits for requests is not stuck, however long it waits.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!server.log().contains("WATCHDOG"), "{}", server.log());
    assert_eq!(ask(&mut client, "DEBUG SLEEP 1"), "+OK\r\n");
    let log = (0..500)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            server.log()
        })
        .find(|log| log.contains("WATCHDOG TIMER EXPIRED"))
        .expect("the watchdog reports");
    assert!(log.contains("Running the command: \"DEBUG SLEEP 1\""), "{log}");
    assert!(log.contains("src/commands/debug.rs"), "{log}");
    assert_eq!(log.matches("WATCHDOG").count(), 1, "once per turn: {log}");
    assert_eq!(ask(&mut client, "CONFIG SET watchdog-period 0"), "+OK\r\n");
    assert_eq!(ask(&mut client, "DEBUG SLEEP 0.5"), "+OK\r\n");
    assert_eq!(server.log().matches("WATCHDOG").count(), 1);
}
