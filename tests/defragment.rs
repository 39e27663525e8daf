//! Active defragmentation, and freeing in the background, in a running server: only a process of its own has an
//! allocator that packs blocks.

mod support;

use std::time::{Duration, Instant};

use spinel::stdx::alloc::relocation::{self, Relocator};
use support::{Client, ServerProcess, run};

#[global_allocator]
static ALLOCATOR: spinel::stdx::alloc::Jemalloc = spinel::stdx::alloc::Jemalloc;

fn server(options: &[&str]) -> ServerProcess {
    ServerProcess::start(&support::spinel(), &[&["--enable-debug-command", "yes"], options].concat())
}

/// Value of an INFO field.
fn info(client: &mut Client, field: &str) -> f64 {
    let text = run(client, "INFO everything");
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no number {field}"))
}

/// Sends all of `lines` at once and reads as many replies.
fn send_all(client: &mut Client, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    for some in lines.chunks(1000) {
        let inline: String = some.iter().map(|line| format!("{line}\r\n")).collect();
        client.send(inline.as_bytes()).expect("the server listens");
        for _ in some {
            let reply = client.reply().expect("the server answers");
            assert!(reply[0] != b'-', "{}", String::from_utf8_lossy(&reply));
        }
    }
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Commands that fill a database with values of all kinds and encodings, and those that remove most of them.
fn fill(n: usize) -> impl Iterator<Item = String> {
    (0..n).flat_map(|i| {
        let long = "x".repeat(i % 7 * 300);
        [
            format!("SET s:{i} value:{i}:{long} EX 10000"),
            format!("SETRANGE r:{i} 150 x"),
            format!("HSET h:{i} f {i} g value h other"),
            format!("HSET big:h f:{i} v:{i}:{}", &long[..long.len() / 4]),
            format!("SADD i:{i} {i} {} {}", i + 1, i + 100_000),
            format!("SADD big:s member:{i}"),
            format!("ZADD z:{i} 1 a 2 b 3 c{i}"),
            format!("ZADD big:z {} member:{i} {i} other:{i}", i * 7 % 1000),
            format!("RPUSH l:{} element:{i}", i % 300),
            format!("RPUSH big:l element:{i}:{long}"),
            format!("XADD x:{} * field value:{i}", i % 100),
            format!("HSET v:{} f:{i} value", i % 40),
        ]
    })
}

fn thin_out(n: usize) -> impl Iterator<Item = String> {
    (0..n).filter(|i| i % 5 != 0).flat_map(|i| {
        [
            format!("DEL s:{i} r:{i} h:{i} i:{i} z:{i}"),
            format!("HDEL big:h f:{i}"),
            format!("SREM big:s member:{i}"),
            format!("ZREM big:z member:{i} other:{i}"),
        ]
    })
}

#[test]
fn moving_every_block_of_a_running_server_changes_nothing() {
    let server = server(&[]);
    let mut client = server.client();
    send_all(&mut client, fill(2000));
    let volatile = (0..40).map(|i| format!("HEXPIRE v:{i} {} FIELDS 1 f:{i}", 1000 + i));
    send_all(
        &mut client,
        volatile.chain(["XGROUP CREATE x:1 g 0".into(), "XREADGROUP GROUP g c STREAMS x:1 >".into()]),
    );
    let names: Vec<String> = (0..200)
        .map(|i| {
            let text = format!("return{{'{}',{i}}}", "x".repeat(i));
            let reply = client.command(&[b"SCRIPT", b"LOAD", text.as_bytes()]).expect("the server answers");
            String::from_utf8_lossy(&reply[5..45]).into_owned()
        })
        .collect();
    let digest = run(&mut client, "DEBUG DIGEST");
    for _ in 0..2 {
        let moved = run(&mut client, "DEBUG DEFRAGMENT");
        let moved: String = moved.chars().filter(char::is_ascii_digit).collect();
        assert!(moved.parse::<u64>().is_ok_and(|moved| moved > 20_000), "{moved}");
        assert_eq!(run(&mut client, "DEBUG DIGEST"), digest);
        for (i, name) in names.iter().enumerate() {
            let reply = run(&mut client, &format!("EVALSHA {name} 0"));
            assert!(reply.ends_with(&format!("{}\r\n:{i}", "x".repeat(i))), "{reply}");
        }
    }
    // What was moved is changed and removed as before.
    send_all(&mut client, thin_out(2000));
    send_all(&mut client, fill(1000));
    let digest = run(&mut client, "DEBUG DIGEST");
    run(&mut client, "DEBUG DEFRAGMENT");
    assert_eq!(run(&mut client, "DEBUG DIGEST"), digest);
    run(&mut client, "FLUSHALL SYNC");
}

#[cfg(not(spinel_sanitize))]
#[test]
fn memory_becomes_dense_again() {
    let server = server(&["--active-defrag-ignore-bytes", "1mb", "--active-defrag-cycle-max", "75"]);
    let mut client = server.client();
    send_all(&mut client, fill(20_000));
    send_all(&mut client, thin_out(20_000));
    std::thread::sleep(Duration::from_millis(150));
    let before = info(&mut client, "allocator_frag_ratio");
    assert!(before > 1.4, "{before}");
    let digest = run(&mut client, "DEBUG DIGEST");
    assert!(run(&mut client, "CONFIG SET activedefrag yes").contains("OK"));
    wait_until(|| info(&mut client, "active_defrag_running") > 0.0);
    wait_until(|| info(&mut client, "allocator_frag_ratio") < 1.15);
    assert_eq!(run(&mut client, "DEBUG DIGEST"), digest);
    for counter in
        ["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]
    {
        assert!(info(&mut client, counter) > 0.0, "{counter}");
    }
    run(&mut client, "CONFIG RESETSTAT");
    assert_eq!(info(&mut client, "active_defrag_hits"), 0.0);
}

#[test]
fn what_cannot_be_is_refused() {
    if relocation::is_possible() {
        return;
    }
    let server = server(&[]);
    let reply = run(&mut server.client(), "CONFIG SET activedefrag yes");
    assert!(reply.contains("Active defragmentation cannot be enabled"), "{reply}");
    assert!(run(&mut server.client(), "CONFIG GET activedefrag").contains("no"));
}

#[test]
fn the_reply_to_a_synchronous_flush_says_that_memory_is_free() {
    let server = server(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    let empty = info(&mut other, "used_memory");
    for command in ["FLUSHALL SYNC", "FLUSHDB SYNC"] {
        send_all(&mut client, ["DEBUG POPULATE 200000 key 100".into()].into_iter());
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        assert_eq!(client.command(&words).expect("a reply"), b"+OK\r\n");
        let left = info(&mut other, "used_memory") - empty;
        assert!(left < 4e6, "{left} bytes are left after {command}");
        assert_eq!(info(&mut other, "lazyfree_pending_objects"), 0.0);
        assert_eq!(info(&mut other, "blocked_clients"), 0.0);
    }
    // Inside a transaction and a script there is no waiting, and an empty database has nothing to free.
    for lines in [&["MULTI", "FLUSHALL SYNC", "EXEC"][..], &["FLUSHALL SYNC"], &["FLUSHDB SYNC"]] {
        send_all(&mut client, lines.iter().map(|line| (*line).to_owned()));
    }
    assert!(run(&mut client, "PING").contains("PONG"));
}

#[cfg(not(spinel_sanitize))]
#[test]
fn blocks_gather_in_few_slabs() {
    assert!(relocation::is_possible());
    // A size that no other test is likely to use in such numbers.
    let new = || Box::new([1u8; 1792]);
    let mut boxes: Vec<Option<Box<[u8; 1792]>>> = (0..16_000).map(|_| Some(new())).collect();
    for (i, place) in boxes.iter_mut().enumerate() {
        if i % 8 != 0 {
            *place = None;
        }
    }
    let unused = || relocation::sparseness().unused;
    let before = unused();
    assert!(before > 14_000 * 1792 * 8 / 10, "{before} bytes are unused");
    for _ in 0..3 {
        let mut relocator = Relocator::new().expect("it is possible");
        relocator.run(|by| boxes.iter_mut().flatten().for_each(|owner| by.relocate_box(owner)));
    }
    let after = unused();
    assert!(after < before / 4, "{after} of {before} bytes are still unused");
    assert!(boxes.iter().flatten().all(|owner| **owner == [1; 1792]));
    // In the end everything is dense, and nothing moves any more.
    let mut relocator = Relocator::new().expect("it is possible");
    relocator.run(|by| boxes.iter_mut().flatten().for_each(|owner| by.relocate_box(owner)));
    assert!(relocator.moved <= 200, "{} moved", relocator.moved);
}
