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

#[test]
fn keys_that_cost_most_are_found_among_many() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut client = server.client();
    for ratio in [1, 5] {
        assert_eq!(ask(&mut client, &format!("HOTKEYS START METRICS 2 CPU NET SAMPLE {ratio}")), "+OK\r\n");
        // A fifth of the keys get four fifths of the requests.
        let mut request = Vec::new();
        for i in 0..20_000_u64 {
            let n = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let key = if n % 5 < 4 { n / 5 % 20 } else { 20 + n / 5 % 80 };
            request.extend_from_slice(format!("SET key:{key:03} value\r\n").as_bytes());
        }
        client.send(&request).expect("the server receives");
        for _ in 0..20_000 {
            assert_eq!(client.reply().expect("the server answers"), b"+OK\r\n");
        }
        assert_eq!(ask(&mut client, "HOTKEYS STOP"), "+OK\r\n");
        let told = ask(&mut client, "HOTKEYS GET");
        let bytes = told.split("by-net-bytes").nth(1).expect("a field");
        let keys: Vec<&str> = bytes.split("\r\n").filter_map(|part| part.strip_prefix("key:")).collect();
        assert_eq!(keys.len(), 10, "{told}");
        let hot = keys.iter().filter(|key| key.parse::<u64>().expect("a number") < 20).count();
        assert!(hot > 7, "{keys:?}");
        assert_eq!(ask(&mut client, "HOTKEYS RESET"), "+OK\r\n");
        assert_eq!(ask(&mut client, "HOTKEYS GET"), "$-1\r\n");
    }
    // It ends by itself.
    assert_eq!(ask(&mut client, "HOTKEYS START METRICS 1 CPU DURATION 1"), "+OK\r\n");
    let is_active =
        |told: &str| told.split("tracking-active\r\n:").nth(1).is_some_and(|rest| rest.starts_with('1'));
    for _ in 0..2000 {
        if !is_active(&ask(&mut client, "HOTKEYS GET")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = ask(&mut client, "HOTKEYS GET");
    assert!(!is_active(&told) && told.contains("collection-duration-ms\r\n:1000\r\n"), "{told}");
    assert_eq!(ask(&mut client, "HOTKEYS START METRICS 1 NET"), "+OK\r\n", "another one can begin");
    ask(&mut client, "HELLO 3");
    assert!(ask(&mut client, "HOTKEYS GET").starts_with("*1\r\n%"), "a map in a list");
}

#[test]
fn keys_that_cost_most_are_found_by_slot() {
    let server = ServerProcess::start(&spinel(), &["--cluster-enabled", "yes"]);
    let mut client = server.client();
    assert_eq!(ask(&mut client, "CLUSTER ADDSLOTSRANGE 0 16000"), "+OK\r\n");
    let start =
        |client: &mut Client, slots: &str| ask(client, &format!("HOTKEYS START METRICS 1 NET SLOTS {slots}"));
    for (slots, error) in [
        ("2 0", "not enough slot numbers provided"),
        ("2 0 0", "duplicate slot number"),
        ("1 0 SLOTS 1 5", "SLOTS parameter already specified"),
        ("1 -1", "Invalid or out of range slot"),
        ("1 16384", "Invalid or out of range slot"),
        ("1 abc", "Invalid or out of range slot"),
        ("1 16001", "slot 16001 not handled by this node"),
    ] {
        assert_eq!(start(&mut client, slots), format!("-ERR {error}\r\n"));
    }
    for _ in 0..2000 {
        if ask(&mut client, "CLUSTER INFO").contains("cluster_slots_assigned:16001") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(start(&mut client, "6 10 5 1 0 6 2"), "+OK\r\n");
    let told = ask(&mut client, "HOTKEYS GET");
    assert!(
        told.contains("selected-slots\r\n*3\r\n*2\r\n:0\r\n:2\r\n*2\r\n:5\r\n:6\r\n*1\r\n:10\r\n"),
        "{told}"
    );
    assert!(
        told.contains("net-bytes-all-commands-selected-slots") && !told.contains("sampled-commands"),
        "{told}"
    );
    ask(&mut client, "HOTKEYS STOP");
    assert_eq!(ask(&mut client, "HOTKEYS START METRICS 1 NET"), "+OK\r\n");
    let told = ask(&mut client, "HOTKEYS GET");
    assert!(told.contains("selected-slots\r\n*1\r\n*2\r\n:0\r\n:16000\r\n"), "{told}");
}
