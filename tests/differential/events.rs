//! Keyspace notifications of requests that replace values, compared with Redis 8.2: which events, of which class, in which
//! order.

use std::time::{Duration, Instant};

use crate::support::{Client, Oracle, ServerProcess, spinel};

/// Requests that prepare the data, and those whose events are compared. `DUMPED` stands for the value of `a` as DUMP gives
/// it.
#[rustfmt::skip]
const CASES: &[(&str, &str)] = &[
    ("", "set k v"),
    ("set k a", "set k b"),
    ("set k a", "set k 1"),
    ("set k a", "set k a ex 100"),
    ("set k a", "set k b get"),
    ("set k a", "set k b xx"),
    ("set k a", "setex k 100 b"),
    ("set k a", "psetex k 100000 b"),
    ("set k a", "getset k b"),
    ("set k a", "append k b"),
    ("set k a", "setrange k 0 b"),
    ("set k 1", "incr k"),
    ("set k 1", "incrbyfloat k 1.5"),
    ("set k a", "setbit k 0 1"),
    ("set k a", "mset k b"),
    ("rpush k a", "mset k b l 2"),
    ("set k a; set k2 b", "mset k b k2 c"),
    ("rpush k a", "set k b"),
    ("hset k a 1", "set k b"),
    ("sadd k a 1", "set k b"),
    ("zadd k 1 a", "set k b"),
    ("xadd k * a 1", "set k b"),
    ("rpush k a", "set k b ex 100"),
    ("rpush k a", "setex k 100 b"),
    ("rpush k a", "psetex k 100000 b"),
    ("rpush k a", "getset k b"),
    ("rpush k a", "set k b keepttl"),
    ("set a x; set b y", "rename a b"),
    ("set a x; rpush b y", "rename a b"),
    ("set a x", "rename a b"),
    ("set a x", "rename a a"),
    ("set a x; rpush b y", "copy a b replace"),
    ("set a x; set b y", "copy a b replace"),
    ("set a x", "copy a b"),
    ("sadd s 1 2; sadd t 2 3; set d x", "sunionstore d s t"),
    ("sadd s 1 2; sadd t 2 3; sadd d x", "sunionstore d s t"),
    ("sadd s 1 2; sadd t 2 3; sadd d x", "sinterstore d s t"),
    ("sadd s 1 2; sadd t 2 3; rpush d x", "sinterstore d s t"),
    ("sadd s 1 2; sadd t 2 3; sadd d x", "sdiffstore d s t"),
    ("sadd s 1 2; sadd t 2 3; sadd d x", "sdiffstore d s s"),
    ("sadd s 1 2; sadd t 2 3; set d x", "sdiffstore d s s"),
    ("zadd s 1 2; zadd t 2 3; set d x", "zunionstore d 2 s t"),
    ("zadd s 1 2; zadd t 2 3; zadd d 1 x", "zunionstore d 2 s t"),
    ("zadd s 1 2; zadd t 2 2; zadd d 1 x", "zinterstore d 2 s t"),
    ("zadd s 1 2; zadd t 2 2; set d x", "zdiffstore d 2 s t"),
    ("zadd s 1 2; zadd t 2 3; set d x", "zdiffstore d 2 s t"),
    ("zadd s 1 2; set d x", "zrangestore d s 0 -1"),
    ("zadd s 1 2; zadd d 1 x", "zrangestore d s 0 -1"),
    ("zadd s 1 2; zadd d 1 x", "zrangestore d s 5 9"),
    ("geoadd s 1 2 m; zadd d 1 x", "geosearchstore d s fromlonlat 1 2 byradius 10 km"),
    ("geoadd s 1 2 m; set d x", "geosearchstore d s fromlonlat 1 2 byradius 10 km"),
    ("geoadd s 1 2 m; set d x", "georadius s 1 2 10 km store d"),
    ("geoadd s 1 2 m; set d x", "georadius s 80 2 10 km store d"),
    ("rpush s 3 1 2; set d x", "sort s store d"),
    ("rpush s 3 1 2; rpush d x", "sort s store d"),
    ("rpush d x", "sort s store d"),
    ("set a x; set d y", "bitop not d a"),
    ("set a x; rpush d y", "bitop not d a"),
    ("set a x", "bitop not d a"),
    ("set d y", "bitop not d a"),
    ("pfadd a x; pfadd d y", "pfmerge d a"),
    ("pfadd a x", "pfmerge d a"),
    ("pfadd a x", "pfadd a y"),
    ("rpush a x; rpush b y", "lmove a b left right"),
    ("rpush a x y; sadd s 1; sadd t 2", "smove s t 1"),
    ("set a x", "set b y; rename b a"),
    ("set k x", "getdel k"),
    ("set k x", "getex k ex 100"),
    ("set k x; pexpire k 1", "debug sleep 0.01; set k y"),
    ("set k x; pexpire k 1", "debug sleep 0.01; rpush k y"),
    ("set k x", "setnx k y"),
    ("set k x", "msetnx k y"),
    ("set k x", "move k 1"),
    ("set k x; select 1; set k y; select 0", "copy k k db 1 replace; select 1; flushall; select 0"),
    ("set k x; select 1; rpush k y; select 0", "copy k k db 1 replace; select 1; flushall; select 0"),
    ("set k x", "bitfield k set u8 0 5"),
    ("set k x", "eval return(redis.call('set','k','v')) 1 k"),
    ("set k x", "multi; set k 1; set k 2; exec"),
    ("hset k a 1", "hset k a 2"),
    ("xadd s 1-1 a 1", "xadd s 2-1 a 2"),
    ("set k x; expire k 100", "set k y"),
    ("rpush k x; expire k 100", "set k y"),
    ("set k v ex 100", "set k b keepttl"),
    ("set a x; set b y ex 100", "rename a b"),
    ("set a x; expire a 100; rpush b y", "rename a b"),
    ("set a x; set b y", "renamenx a b"),
    ("set k x", "set k y pxat 1"),
    ("rpush k x", "set k y pxat 1"),
    ("set b y", "sort nothing store b"),
    ("sadd s 1; set b y", "sunionstore b nothing"),
    ("sadd s 1; set d y", "sunionstore d nothing; sinterstore d s"),
    ("set a x; set b y", "restore b 0 DUMPED replace"),
    ("set a x; rpush b y", "restore b 0 DUMPED replace"),
    ("set a x", "restore b 0 DUMPED"),
    ("set a x; rpush b y", "restore b 1 DUMPED replace absttl"),
    ("set a x; set b y", "restore b 1 DUMPED replace absttl"),
];

/// Runs the cases and returns the messages that each causes.
fn messages(server: &ServerProcess, flags: &str) -> Vec<String> {
    let (mut client, mut subscriber) = (server.client(), server.client());
    let run = |client: &mut Client, line: &str| {
        let dumped = client.command(&[b"DUMP", b"a"]).expect("an answer");
        let payload = dumped.iter().position(|&b| b == b'\n').map_or(&[][..], |at| &dumped[at + 1..]);
        let payload = payload.strip_suffix(b"\r\n").unwrap_or_default();
        for request in line.split("; ").filter(|request| !request.is_empty()) {
            let words =
                request.split(' ').map(|word| if word == "DUMPED" { payload } else { word.as_bytes() });
            client.command(&words.collect::<Vec<_>>()).expect("an answer");
        }
    };
    run(&mut client, &format!("config set notify-keyspace-events {flags}"));
    subscriber.command(&[b"PSUBSCRIBE", b"__*"]).expect("an answer");
    let mut until_mark = |client: &mut Client, mark: &str| {
        client.command(&[b"PUBLISH", b"__mark", mark.as_bytes()]).expect("an answer");
        let (mut text, started) = (String::new(), Instant::now());
        while !text.ends_with(&format!("{mark}\r\n")) {
            assert!(started.elapsed() < Duration::from_secs(20), "no mark in {text}");
            text += &String::from_utf8_lossy(&subscriber.reply().expect("a message"));
        }
        text
    };
    let mut all = Vec::new();
    for (i, (before, requests)) in CASES.iter().enumerate() {
        run(&mut client, "flushall");
        run(&mut client, before);
        until_mark(&mut client, &format!("before-{i}"));
        run(&mut client, requests);
        all.push(until_mark(&mut client, &format!("after-{i}")));
    }
    all
}

#[test]
fn values_replaced_cause_the_events_of_redis_8_2() {
    let Some(program) = Oracle::Redis8_2.program() else { return };
    let options = ["--enable-debug-command", "yes"];
    let ours = ServerProcess::start(&spinel(), &[&options[..], &Oracle::Redis8_2.compat()].concat());
    let theirs = ServerProcess::start(&program, &options);
    for flags in ["KEAnoc", "Eoc", "Kc$s", "Eo"] {
        let (ours, theirs) = (messages(&ours, flags), messages(&theirs, flags));
        for ((case, ours), theirs) in CASES.iter().zip(ours).zip(theirs) {
            assert_eq!(ours, theirs, "{flags}: {case:?}");
        }
    }
}
