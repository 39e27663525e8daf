//! Streams over sockets: readers that wait for entries pending for others, limits of replies, state that files leave
//! out.

mod support;

use std::time::{Duration, Instant};

use support::{Client, ServerProcess, run, spinel};

fn wait(client: &mut Client, line: &str) -> Instant {
    client.send(format!("{line}\r\n").as_bytes()).expect("it can be sent");
    Instant::now()
}

fn answer(client: &mut Client) -> String {
    let reply = client.reply().expect("it is answered");
    String::from_utf8(reply).expect("text").replace("\r\n", " ")
}

fn blocked(client: &mut Client, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !run(client, "INFO clients").contains(&format!("blocked_clients:{n}\r")) {
        assert!(Instant::now() < deadline, "not {n} clients wait");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_waiting_reader_claims_an_entry_once_it_is_idle_for_long_enough() {
    let server = ServerProcess::start(&spinel(), &[]);
    let (mut client, mut reader, mut other) = (server.client(), server.client(), server.client());
    run(&mut client, "XGROUP CREATE s g $ MKSTREAM");

    // Pending before the reader waits.
    run(&mut client, "XADD s 1-1 a b");
    run(&mut client, "XREADGROUP GROUP g first STREAMS s >");
    let began = wait(&mut reader, "XREADGROUP GROUP g second BLOCK 20000 CLAIM 300 STREAMS s >");
    let reply = answer(&mut reader);
    assert!(reply.contains("1-1") && reply.ends_with(":1 "), "{reply}");
    let waited = began.elapsed();
    assert!((150..10_000).contains(&waited.as_millis()), "{waited:?}");
    run(&mut client, "XACK s g 1-1");

    // Delivered to another while the reader waits. The reader that waits longer than the entry is idle gets it.
    let began = wait(&mut reader, "XREADGROUP GROUP g second BLOCK 20000 CLAIM 400 STREAMS s >");
    wait(&mut other, "XREADGROUP GROUP g third BLOCK 20000 STREAMS s >");
    blocked(&mut client, 2);
    for line in ["MULTI", "XADD s 2-1 a b", "XREADGROUP GROUP g first STREAMS s >", "EXEC"] {
        run(&mut client, line);
    }
    let reply = answer(&mut reader);
    assert!(reply.contains("2-1") && reply.ends_with(":1 "), "{reply}");
    assert!((300..10_000).contains(&began.elapsed().as_millis()));
    // Who does not claim waits for new entries.
    blocked(&mut client, 1);
    run(&mut client, "XADD s 3-1 a b");
    assert!(answer(&mut other).contains("3-1"));

    // Given back: at once.
    let began = wait(&mut reader, "XREADGROUP GROUP g second BLOCK 20000 CLAIM 15000 STREAMS s >");
    blocked(&mut client, 1);
    assert_eq!(run(&mut client, "XNACK s g FAIL IDS 1 3-1"), ":1");
    assert!(answer(&mut reader).contains("3-1"));
    assert!(began.elapsed() < Duration::from_secs(10));

    // Acknowledged before it is due: nothing.
    run(&mut client, "XACK s g 2-1 3-1");
    run(&mut client, "XADD s 4-1 a b");
    run(&mut client, "XREADGROUP GROUP g first STREAMS s >");
    let began = wait(&mut reader, "XREADGROUP GROUP g second BLOCK 700 CLAIM 300 STREAMS s >");
    blocked(&mut client, 1);
    run(&mut client, "XACK s g 4-1");
    assert_eq!(answer(&mut reader), "*-1 ");
    assert!(began.elapsed() >= Duration::from_millis(650));
    // The loop sleeps meanwhile: a reader that waits for something far off does not keep it busy.
    let commands = |client: &mut Client| run(client, "INFO commandstats");
    assert!(commands(&mut client).contains("cmdstat_xreadgroup"));
}

#[test]
fn a_reply_ends_where_its_limits_say() {
    let server = ServerProcess::start(&spinel(), &[]);
    let mut client = server.client();
    for key in ["a", "b", "c"] {
        for ms in 1..=4 {
            run(&mut client, &format!("XADD {key} {ms}-1 field {}", "v".repeat(50)));
        }
        run(&mut client, &format!("XGROUP CREATE {key} g 0"));
    }
    let ids = |reply: &str| reply.lines().filter(|line| line.ends_with("-1") && line.len() == 3).count();
    let count = |client: &mut Client, line: &str| ids(&run(client, line));
    assert_eq!(count(&mut client, "XREAD COUNT 2 STREAMS a b c 0 0 0"), 6);
    assert_eq!(count(&mut client, "XREAD COUNT 2 MAXCOUNT 3 STREAMS a b c 0 0 0"), 3);
    assert_eq!(count(&mut client, "XREAD MAXCOUNT 100 STREAMS a b c 0 0 0"), 12);
    assert_eq!(count(&mut client, "XREAD MAXSIZE 1 STREAMS a b c 0 0 0"), 1);
    assert_eq!(count(&mut client, "XREAD MAXSIZE 200 STREAMS a b c 0 0 0"), 3);
    assert_eq!(count(&mut client, "XREAD MAXSIZE 100000 MAXCOUNT 5 STREAMS a b c 0 0 0"), 5);
    assert_eq!(run(&mut client, "XREAD MAXSIZE 1 MAXCOUNT 1 STREAMS a $"), "*-1");
    // What is not in the reply is not delivered.
    assert_eq!(count(&mut client, "XREADGROUP GROUP g x MAXCOUNT 5 STREAMS a b c > > >"), 5);
    assert_eq!(count(&mut client, "XREADGROUP GROUP g x MAXSIZE 1 STREAMS a b c > > >"), 1);
    assert_eq!(count(&mut client, "XREADGROUP GROUP g x MAXSIZE 1 STREAMS a b c 0 0 0"), 1);
    assert_eq!(count(&mut client, "XREADGROUP GROUP g y CLAIM 0 MAXSIZE 1 STREAMS a b c > > >"), 1);
    assert_eq!(count(&mut client, "XREADGROUP GROUP g y CLAIM 0 MAXCOUNT 3 STREAMS a b c > > >"), 3);
    let pending = |client: &mut Client, key: &str| {
        let reply = run(client, &format!("XPENDING {key} g"));
        reply.lines().nth(1).map(str::to_owned)
    };
    assert_eq!(["a", "b", "c"].map(|key| pending(&mut client, key)).map(Option::unwrap), [":4", ":2", ":0"]);
    for (line, error) in [
        ("XREAD MAXCOUNT 0 STREAMS a 0", "-ERR MAXCOUNT must be a positive integer"),
        ("XREAD maxsize x STREAMS a 0", "-ERR MAXSIZE must be a positive integer"),
        ("XREADGROUP GROUP g x MAXSIZE -1 STREAMS a >", "-ERR MAXSIZE must be a positive integer"),
        ("XREAD COUNT 3 MAXCOUNT 2 STREAMS a 0", "-ERR MAXCOUNT must be greater than or equal to COUNT"),
    ] {
        assert_eq!(run(&mut client, line), error);
    }
}

#[test]
fn the_log_names_streams_that_a_snapshot_cuts() {
    let server = ServerProcess::start(&spinel(), &["--enable-debug-command", "yes"]);
    let mut client = server.client();
    let id = run(&mut client, "XADD jobs IDMP p 1 * a b");
    run(&mut client, "XGROUP CREATE jobs g 0");
    run(&mut client, "XREADGROUP GROUP g c STREAMS jobs >");
    let id = id.lines().nth(1).expect("an id").to_owned();
    run(&mut client, &format!("XNACK jobs g FAIL IDS 1 {id}"));
    run(&mut client, "SET other x");
    assert_eq!(run(&mut client, "CONFIG SET rdb-save-version 14"), "+OK");
    assert_eq!(run(&mut client, "SAVE"), "+OK");
    assert!(!server.log().contains("is saved without"));
    assert_eq!(run(&mut client, "CONFIG SET rdb-save-version 11"), "+OK");
    assert_eq!(run(&mut client, "SAVE"), "+OK");
    let log = server.log();
    assert_eq!(log.matches("is saved without").count(), 1, "{log}");
    assert!(
        log.contains(
            "The stream 'jobs' is saved without its idempotency ids and that entries were given back"
        )
    );
    // The entry stays pending, and can be claimed at once.
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "+OK");
    let reply = run(&mut client, "XREADGROUP GROUP g d CLAIM 1000000 STREAMS jobs >");
    assert!(reply.contains(&id), "{reply}");
    // A hundred streams do not fill the log.
    for i in 0..100 {
        run(&mut client, &format!("XADD many{i} IDMP p 1 * a b"));
        run(&mut client, &format!("DUMP many{i}"));
    }
    assert!(server.log().matches("is saved without").count() < 60);
}
