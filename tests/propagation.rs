//! Propagated commands: replaying them gives the same data, and they equal those of Redis.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spinel::stdx::rng::Rng;
use support::{Client, Oracle, ServerProcess, redis, run, spinel, valkey};

const OPTIONS: [&str; 12] = [
    "--appendonly",
    "yes",
    "--aof-use-rdb-preamble",
    "no",
    "--enable-debug-command",
    "yes",
    "--auto-aof-rewrite-percentage",
    "0",
    // Whether deletions are written as DEL or as UNLINK. Redis has other defaults.
    "--lazyfree-lazy-expire",
    "yes",
    "--lazyfree-lazy-eviction",
    "yes",
];

/// Command templates: `K` is a key, `N` a small number, `M` a member, `F` a float, `T` a time, `D` a database.
const COMMANDS: &str = "
SET K M|SET K N|SET K M PX T|SET K M EX N|SET K M KEEPTTL|SET K M GET|SET K M NX|SET K M XX PXAT 99999999999999|SETEX K N M
PSETEX K T M|SETNX K M|GETSET K M|GETDEL K|GETEX K PX T|GETEX K PERSIST|GETEX K|GETEX K EX 1000|APPEND K M|SETRANGE K N M
INCR K|DECRBY K N|INCRBYFLOAT K F|MSET K M K N|MSETNX K M K M|SETBIT K N 1|BITOP OR K K K|BITFIELD K INCRBY u4 0 N
PFADD K M M|PFMERGE K K K|PFCOUNT K|PFCOUNT K K|PFDEBUG TODENSE K|LPUSH K M M N|RPUSH K M N|LPUSHX K M|LPOP K|RPOP K N|LMPOP 2 K K LEFT COUNT N|LINSERT K BEFORE M N
LSET K 0 N|LREM K 0 M|LTRIM K 0 5|RPOPLPUSH K K|LMOVE K K LEFT RIGHT|BLPOP K K 0.01|BRPOP K 0.01|BLMOVE K K LEFT LEFT 0.01
BLMPOP 0.01 1 K RIGHT|SADD K M M N|SREM K M|SPOP K|SPOP K N|SMOVE K K M|SUNIONSTORE K K K|SINTERSTORE K K K|SDIFFSTORE K K K
ZADD K N M F M|ZADD K XX CH N M|ZADD K GT INCR F M|ZINCRBY K F M|ZREM K M|ZPOPMIN K|ZPOPMAX K N|BZPOPMIN K 0.01
ZMPOP 1 K MIN COUNT N|ZRANGESTORE K K 0 N|ZUNIONSTORE K 2 K K|ZINTERSTORE K 2 K K|ZREMRANGEBYRANK K 0 0|ZREMRANGEBYSCORE K N N
GEOADD K N N M|GEOADD K XX CH F N M N N M|GEOSEARCHSTORE K K FROMLONLAT 1 1 BYRADIUS 900 km|GEORADIUS K N N 300 km STORE K
GEORADIUSBYMEMBER K M 200 mi COUNT N STOREDIST K|GEOSEARCHSTORE K K FROMMEMBER M BYBOX 400 400 km STOREDIST|HSET K M N M M|HSETNX K M N|HDEL K M|HINCRBY K M N
HINCRBYFLOAT K M F|HEXPIRE K N FIELDS 1 M|HPEXPIRE K T FIELDS 2 M M|HPERSIST K FIELDS 1 M|HGETEX K PX T FIELDS 1 M
HSETEX K EX N FIELDS 1 M N|HGETDEL K FIELDS 1 M|DEL K K|UNLINK K|EXPIRE K N|PEXPIRE K T|EXPIRE K -1|EXPIREAT K 1|EXPIRE K 1000 NX
PEXPIREAT K 99999999999999 GT|PERSIST K|RENAME K K|RENAMENX K K|COPY K K REPLACE|COPY K K DB D|MOVE K D|SORT K BY nosort STORE K
SORT K ALPHA STORE K|SWAPDB 0 D|SELECT D|SELECT 0|MULTI|MULTI|EXEC|EXEC|EXEC|DISCARD|GET K|EXISTS K|TYPE K|TTL K|TOUCH K
FLUSHDB|LCS K K|DUMPRESTORE K K";

/// Templates of commands that came after Redis 7.0. They are passed on as what older servers know.
const NEWER: &str = "
SET K M IFNE M EX 1000|SET K M IFEQ M KEEPTTL|SET K N IFNE N GET|SET K M IFDNE 0000000000000000|MSETEX 2 K M K N EX 1000
MSETEX 2 K M K N XX|MSETEX 1 K M KEEPTTL|DELEX K IFEQ M|DELEX K IFNE M|DELEX K|DELIFEQ K M|INCREX K|INCREX K BYINT N EX 1000 ENX
INCREX K BYFLOAT F UBOUND 5 SATURATE|INCREX K BYFLOAT F|INCREX K BYINT -3 LBOUND 0 SATURATE PERSIST|INCREX K UBOUND 3
BITOP DIFF K K K|BITOP DIFF1 K K K|BITOP ANDOR K K K|BITOP ONE K K K K|LMOVEM K K LEFT LEFT|LMOVEM K K LEFT LEFT COUNT 2 OBO
LMOVEM K K RIGHT RIGHT EXACTLY 3 OBO|LMOVEM K K LEFT LEFT COUNT 3 BULK|LMOVEM K K RIGHT LEFT COUNT 9 BULK
BLMOVEM K K LEFT RIGHT 0.01 COUNT 2 BULK|ZMOVE K K MIN COUNT 2|ZMOVE K K BYSCORE 0 N|ZMOVE K K MAX|BZMOVE K K MAX 0.01
ZMOVEMEMBER K K NX MEMBERS 2 M M|ZMOVEMEMBER K K XX MEMBERS 3 M M M|ZMOVEMEMBER K K MEMBERS 2 M M
CL.THROTTLE K 5 10 100000 N";

/// Templates of commands on vector sets, which are passed on as they are.
const VECTORS: &str = "
VADD K VALUES 2 N F M|VADD K VALUES 2 F N M SETATTR M|VADD K REDUCE 3 VALUES 2 N F M BIN M 4|VREM K M|VSETATTR K M N";

fn fill(template: &str, rng: &mut Rng) -> String {
    let words = template.split(' ').enumerate().map(|(i, word)| match word {
        _ if i == 0 => word.to_owned(),
        "K" => format!("key:{}", rng.below(12)),
        "N" => rng.below(6).to_string(),
        "M" => format!("m{}", rng.below(8)),
        "F" => ["0.1", "-3.25", "1e10", "2.7182818284590452"][rng.index(4)].to_owned(),
        "T" => (rng.below(40) + 1).to_string(),
        "D" => rng.below(3).to_string(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Dumps a value and restores it under another key.
fn dump_and_restore(client: &mut Client, from: &str, to: &str) {
    let dump = client.command(&[b"DUMP", from.as_bytes()]).expect("it answers");
    if dump.first() == Some(&b'$') && !dump.starts_with(b"$-1") {
        let start = dump.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
        let payload = &dump[start..dump.len() - 2];
        client.command(&[b"RESTORE", to.as_bytes(), b"1000", payload, b"REPLACE"]).expect("it answers");
    }
}

#[test]
fn what_is_written_down_makes_the_same_data() {
    let commands = [COMMANDS, NEWER, VECTORS].into_iter().flat_map(|list| list.split(['|', '\n']));
    let commands: Vec<&str> = commands.filter(|line| !line.is_empty()).collect();
    for seed in 1..=4 {
        let rng = &mut Rng::new(seed);
        let dir = std::env::temp_dir().join(format!("spinel-propagation-{seed}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory can be made");
        let options = [&OPTIONS[..], &["--dir", dir.to_str().expect("text")]].concat();
        let server = ServerProcess::start(&spinel(), &options);
        let mut clients = [server.client(), server.client()];
        // A blocked client, served by commands of the others.
        let mut waiting = server.client();
        let mut waits = false;
        let mut done = Vec::new();
        for step in 0..4000 {
            let client = &mut clients[rng.index(2)];
            let line = fill(commands[rng.index(commands.len())], rng);
            if let Some(keys) = line.strip_prefix("DUMPRESTORE ") {
                let (from, to) = keys.split_once(' ').expect("two keys");
                dump_and_restore(client, from, to);
            } else if line != "FLUSHDB" || rng.one_in(8) {
                run(client, &line);
            }
            done.push(line);
            if waits {
                // Whether the blocked client has been served does not matter; it blocks again now and then.
                if rng.one_in(20) {
                    run(client, "RPUSH waited a");
                    run(client, "ZADD waited 1 a");
                    run(client, "DEL waited");
                    waits = false;
                }
            } else {
                let line = [
                    "BLPOP waited 0.2\r\n",
                    "BZPOPMIN waited 0.2\r\n",
                    "BLMOVE waited key:1 LEFT LEFT 0.2\r\n",
                ][rng.index(3)];
                waiting.send(line.as_bytes()).expect("it can be sent");
                waits = true;
            }
            if step == 3000 {
                // From here on, memory is too small for all data.
                for client in &mut clients {
                    run(client, "DISCARD");
                }
                run(&mut clients[0], "SELECT 0");
                for i in 0..500 {
                    run(&mut clients[0], &format!("SET evict:{i} {}", "x".repeat(2000)));
                }
                let info = run(&mut clients[0], "INFO memory");
                let used =
                    info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is there");
                let limit = used.trim().parse::<u64>().expect("a number") - 500_000;
                run(
                    &mut clients[0],
                    &format!("CONFIG SET maxmemory {limit} maxmemory-policy allkeys-random"),
                );
            }
        }
        for client in &mut clients {
            run(client, "DISCARD");
        }
        let client = &mut clients[0];
        assert!(!run(client, "INFO stats").contains("evicted_keys:0\r"), "something was evicted");
        run(client, "CONFIG SET maxmemory 0");
        // Keys and fields with a short time to live expire.
        std::thread::sleep(Duration::from_millis(6500));
        let before = run(client, "DEBUG DIGEST");
        assert_eq!(run(client, "DEBUG LOADAOF"), "+OK", "seed {seed}");
        let after = run(client, "DEBUG DIGEST");
        if after != before {
            fs::write(std::env::temp_dir().join("spinel-propagation-failed"), done.join("\n"))
                .expect("room for it");
            panic!(
                "seed {seed}: the commands are in spinel-propagation-failed in {}",
                std::env::temp_dir().display()
            );
        }
        drop(server);
        let server = ServerProcess::start(&spinel(), &options);
        assert_eq!(run(&mut server.client(), "DEBUG DIGEST"), before, "seed {seed}, after a restart");
        drop(server);
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}

/// The requests of a file, one per line. Future times are replaced by `<time>`.
fn lines(bytes: &[u8]) -> Vec<String> {
    let mut words =
        bytes.split(|&byte| byte == b'\n').map(|line| String::from_utf8_lossy(line).trim_end().to_owned());
    let mut out = Vec::new();
    while let Some(header) = words.next() {
        let Some(n) = header.strip_prefix('*') else { continue };
        let mut line = Vec::new();
        for _ in 0..n.parse::<usize>().expect("a number") {
            words.next();
            let word = words.next().expect("as many as announced");
            // Also as the first half of a stream id.
            let ms = word.split_once('-').map_or(&*word, |(ms, _)| ms);
            let is_time = ms.len() == 13 && ms.bytes().all(|byte| byte.is_ascii_digit());
            line.push(if is_time && word != "4102444800000" { "<time>".to_owned() } else { word });
        }
        out.push(line.join(" "));
    }
    out
}

fn increment(dir: &Path) -> Vec<String> {
    lines(&fs::read(dir.join("appendonlydir/appendonly.aof.1.incr.aof")).expect("it is there"))
}

/// Steps, separated by `|`: `!` runs a step on a second connection, which may block; `~` is a pause in
/// milliseconds.
const STEPS: &str = "SET a 1|SET a 1 EX 100|SET a 2 PX 100000 NX|SET a 2 PXAT 4102444800000|SET a 3 KEEPTTL|SETEX a 100 v
PSETEX a 100000 v|GETEX a|GETEX a EX 50|GETEX a PERSIST|GETEX a PXAT 4102444800000|GETEX a EXAT 1|GETDEL nothing|SET a 1|GETDEL a
SET f 1.5|INCRBYFLOAT f 0.1|EXPIRE f 100|INCRBYFLOAT f 1|PEXPIRE f 100000|EXPIREAT f 4102444800|PEXPIREAT f 4102444800000|EXPIRE f -1
SET f x|EXPIREAT f 1|EXPIRE nothing 10|SET f 1|EXPIRE f 100 XX|EXPIRE f 100|PERSIST f|PERSIST f|SADD s a|SPOP s|SADD s a b|SPOP s 5
SADD s a|SPOP s 0|SADD s a|SREM s x|SREM s a|HSET h f 1|HINCRBYFLOAT h f 0.5|HINCRBY h f2 5|HSETNX h f 1|HDEL h f f2|RPUSH l a b c
LPOP l|RPOPLPUSH l l2|LMOVE l l2 LEFT RIGHT|LMPOP 2 nothing l2 LEFT COUNT 1|BLPOP l2 0|ZADD z 1 a 2 b 3 c|ZPOPMIN z|ZMPOP 1 z MAX
BZPOPMIN z 0|ZADD z XX 5 nobody|MULTI|SET m 1|INCR m|GET m|EXEC|MULTI|GET m|EXEC|MULTI|SET m 2|EXEC|MULTI|SELECT 3|SET m 3|SELECT 0|EXEC
MULTI|DISCARD|!BLPOP w w2 0|RPUSH w a|~50|!BRPOPLPUSH w v 0|RPUSH w a b|~50|!BLMOVE w v LEFT RIGHT 0|LPUSH w2 x|DEL w|RPUSH w a|~50
!BLMPOP 0 2 w x LEFT COUNT 10|MULTI|RPUSH x 1 2|RPUSH x 3|EXEC|~50|!BZPOPMAX z2 0|ZADD z2 1 a 2 b|~50|!BZMPOP 0 1 z3 MIN COUNT 2|ZADD z3 1 a 2 b
~50|RENAME m m2|RENAMENX m2 m|COPY m m3|COPY m m4 DB 2|MOVE m3 4|RPUSH sort 3 1 2|SORT sort STORE sorted|SORT nothing STORE sorted|SORT sort
SUNIONSTORE u nothing|SADD u a|SUNIONSTORE u nothing|SET p v PX 20|~200|GET p|SET p v PX 20|~1|SWAPDB 0 1|SWAPDB 0 1|SETRANGE r 3 x|APPEND r y
SETBIT b 7 1|BITOP NOT b2 b|GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania|GEOADD g nx CH 1 1 Palermo 2 2 b
GEOADD g XX 2 2 b|GEOSEARCHSTORE g2 g FROMLONLAT 15 37 BYRADIUS 200 km|GEORADIUS g 15 37 200 km STORE g3|GEORADIUS g 15 37 200 km
GEORADIUSBYMEMBER g b 1 m STOREDIST g3|GEORADIUS g 90 0 1 m STORE g3|GEORADIUS g 90 0 1 m STORE g3|PFADD p|PFADD p a b|PFADD p a|PFCOUNT p
PFCOUNT p|PFMERGE p2 p nothing|PFMERGE p2 p|PFCOUNT p p2|PFDEBUG TODENSE p2|PFDEBUG TODENSE p2|PFDEBUG GETREG p|PFDEBUG ENCODING p|DEL nothing|UNLINK m
SET c 1 NX|SET c 2 NX|SET c 2 XX|SET c 3 XX GET|SET c 4 get keepttl|SET d 1 NX GET|SET c 5 XX EX 100|SET c 6 XX PXAT 4102444800000 GET
SET c 7 KEEPTTL|EXPIRE c 200 NX|EXPIRE c 100 LT|EXPIRE c 200 GT|EXPIRE c 50 GT|EXPIREAT c 4102444800 XX GT|PEXPIREAT c 4102444801000 gt|PEXPIRE c 100 GT
LTRIM sort 0 -1|LTRIM sort 0 1|LTRIM sort 5 1|LTRIM nothing 0 1
GETSET a b|MSET q 1 w 2|MSETNX q 1|DEL w|LREM sort 0 nobody|TOUCH q|OBJECT FREQ q|FLUSHDB|FLUSHALL ASYNC|PUBLISH a b|SET end 1";

/// The same for commands on fields that expire.
const FIELD_STEPS: &str = "HSET h a 1 b 2 c 3 d 4|HEXPIRE h 100 FIELDS 2 a b|HEXPIRE h 100 NX FIELDS 2 a c
HEXPIRE h 200 XX FIELDS 2 a d|HPEXPIRE h 300000 GT FIELDS 1 a|HPEXPIRE h 300 GT FIELDS 1 a|HEXPIREAT h 4102444800 LT FIELDS 1 d
HEXPIREAT h 4102444700 lt FIELDS 1 d|HPEXPIREAT h 4102444800000 NX FIELDS 1 d|HPEXPIREAT h 4102444800000 FIELDS 2 d nothing
HPERSIST h FIELDS 2 a nothing|HPERSIST h FIELDS 1 a|HEXPIRE nothing 100 FIELDS 1 a|HGETEX h EX 100 FIELDS 2 a b|HGETEX h FIELDS 1 a
HGETEX h PERSIST FIELDS 2 a c|HGETEX h PXAT 4102444800000 FIELDS 1 a|HSETEX h EX 100 FIELDS 1 e 5|HSETEX h FNX EX 100 FIELDS 1 e 5
HSETEX h FXX PX 100000 FIELDS 2 e 5 a 6|HSETEX h KEEPTTL FIELDS 1 e 7|HSETEX h FIELDS 1 e 8|HSETEX h EXAT 4102444800 FIELDS 1 e 8
HSETEX h PXAT 4102444800000 FIELDS 1 e 8|HPEXPIREAT h 1 FIELDS 2 a b|HEXPIRE h 0 FIELDS 1 e|HSETEX h PXAT 1 FIELDS 1 g 1
HGETEX h EXAT 1 FIELDS 1 c|HGETDEL h FIELDS 2 d nothing|HSET h a 1|HEXPIRE h 100 FIELDS 1 a|HDEL h a|SET s v";

const FIELD_STEPS_OF_VALKEY: &str = "|DELIFEQ s x|DELIFEQ s v|SET end 1";

/// The expiry cycle is off, so that due fields are removed by those who read them.
const FIELD_STEPS_OF_REDIS: &str = "|HINCRBY h z 1|HEXPIRE h 100 FIELDS 1 z|HINCRBY h z 1|HINCRBYFLOAT h z 1.5|DEL h
DEBUG SET-ACTIVE-EXPIRE 0|HSET h a 1 b 2 c 3 d 4 e 5 f 6 g 7|HPEXPIRE h 1 FIELDS 6 a b c d e f|~5|HLEN h|HGETALL h|HGET h a|HSETNX h b 1
HINCRBY h c 1|HMGET h d g d e|HDEL h f|HLEN h|HPEXPIRE h 1 FIELDS 4 b c g nothing|~5|HSETEX h FXX FIELDS 2 b 1 c 1|HSETEX h FNX FIELDS 1 c 1
HGETDEL h FIELDS 2 g c|HSET h a 1 b 2|HPEXPIRE h 1 FIELDS 1 a|~5|HGETEX h EX 0 FIELDS 2 a b|HSETEX h PX 0 FIELDS 2 a 1 b 1
HSET h a 1|HPEXPIRE h 1 FIELDS 1 a|~5|HRANDFIELD h|HSET h a 1|HPEXPIRE h 1 FIELDS 1 a|~5|HSET h a 2|HPEXPIRE h 1 FIELDS 1 a|~5
HEXPIRE h 100 FIELDS 1 a|SET end 1";

/// The same for streams. Not among them: a consumer that is created and gets nothing. It is passed on here, so that it
/// is there after a restart, and not by Redis.
const STREAM_STEPS: &str = "XADD s 1-1 a b|XADD s 2-1 a b c d|XADD s 2-* a b|XADD s * a b|XADD s 1-1 a b|XADD none NOMKSTREAM 1-1 a b
XADD s NOMKSTREAM MAXLEN = 3 9999999999999-1 a b|XADD s MAXLEN ~ 1 9999999999999-2 a b|XADD s 9999999999999-3 a b
XADD s MINID 3 9999999999999-4 a b|XADD s 9999999999999-* a b|XTRIM s MAXLEN 3|XTRIM s MAXLEN 3|XTRIM s MAXLEN ~ 0
XTRIM none MAXLEN 0|XADD t 1-1 a b|XADD t 2-1 a b|XADD t 3-1 a b|XADD t 4-1 a b|XADD t 5-1 a b|XADD t 6-1 a b|XADD t 7-1 a b|XADD t 8-1 a b
XADD t KEEPREF MAXLEN 100 9-1 a b|XADD t DELREF MAXLEN 100 9-2 a b|XADD t ACKED MAXLEN 100 9-3 a b|XTRIM t MAXLEN 10 DELREF|XTRIM t MINID 2 ACKED
XGROUP CREATE t g 0|XGROUP CREATE t g 0|XGROUP CREATE t h $ ENTRIESREAD 3|XGROUP CREATE made g $ MKSTREAM|XGROUP CREATE none g $
XGROUP CREATECONSUMER t g z|XGROUP CREATECONSUMER t g z|XGROUP DELCONSUMER t g z|XGROUP DELCONSUMER t g z|XGROUP SETID t h 1-1 ENTRIESREAD 1
XREADGROUP GROUP g c COUNT 2 STREAMS t >|XREADGROUP GROUP g c STREAMS t 0|XREADGROUP GROUP g n NOACK COUNT 1 STREAMS t >
XREADGROUP GROUP g n NOACK COUNT 1 STREAMS t >|XREADGROUP GROUP g d COUNT 3 STREAMS t >|XGROUP CREATECONSUMER made g c|XREADGROUP GROUP g c STREAMS made t > >|XREADGROUP GROUP g c STREAMS t >
XACK t g 1-1|XACK t g 1-1|XACK t g 9-9 2-1|XCLAIM t g e 0 6-1|XCLAIM t g e 0 5-1 6-1 JUSTID|XCLAIM t g e 99999999 5-1|XCLAIM t g c 0 5-1 RETRYCOUNT 7
XCLAIM t g c 0 5-1 TIME 4102444800000 FORCE|XCLAIM t g c 0 1-1 FORCE|XCLAIM t g c 0 77-1 LASTID 20-1|XCLAIM t g c 0 5-1 LASTID 21-1|XDEL t 5-1 77-1|XDEL t 77-1
XCLAIM t g d 0 5-1|XDEL t 6-1 8-1|XAUTOCLAIM t g c 0 0 COUNT 3|XAUTOCLAIM t g c 0 0|XAUTOCLAIM t g c 99999999 0|XAUTOCLAIM t g e 0 9 JUSTID|XPENDING t g
XACKDEL t g KEEPREF IDS 1 9-1|XACKDEL t g ACKED IDS 2 9-2 9-3|XACKDEL t g IDS 1 77-1|XDELEX t IDS 2 4-1 77-1|XDELEX t ACKED IDS 1 3-1|XDELEX t IDS 1 77-1
XSETID t 30-1|XSETID t 31-1 ENTRIESADDED 100 MAXDELETEDID 9-3|XADD t 32-1 a b|MULTI|XADD t 33-1 a b|XREADGROUP GROUP g c STREAMS t >|XACK t g 33-1|EXEC
MULTI|XREADGROUP GROUP g c STREAMS t >|EXEC|!XREADGROUP GROUP g c BLOCK 0 STREAMS t >|XADD t 34-1 a b|~50|!XREADGROUP GROUP g c BLOCK 0 COUNT 1 STREAMS made t > >
MULTI|XADD made 1-1 a b|XADD made 2-1 a b|EXEC|~50|!XREADGROUP GROUP g c NOACK BLOCK 0 STREAMS t >|XADD t * a b|~50|!XREAD BLOCK 0 STREAMS t $|XADD t * a b
~50|!XREADGROUP GROUP h c BLOCK 0 STREAMS other t > >|XGROUP CREATE other h $ MKSTREAM|XGROUP CREATECONSUMER other h c|!XREADGROUP GROUP h c BLOCK 0 STREAMS other >|~50|XGROUP DESTROY other h
COPY t u|RENAME u v|XGROUP DESTROY t h|XGROUP DESTROY t h|DEL v|SET end 1";

fn written(binary: &Path, options: &[&str], steps: &str) -> Vec<String> {
    let options = [&OPTIONS[..], &["--appendfsync", "no"], options].concat();
    let server = ServerProcess::start(binary, &options);
    let (mut client, mut second) = (server.client(), server.client());
    let mut asked = 0;
    for step in steps.split(['|', '\n']) {
        if let Some(ms) = step.strip_prefix('~') {
            std::thread::sleep(Duration::from_millis(ms.parse().expect("a number")));
        } else if let Some(line) = step.strip_prefix('!') {
            second.send(format!("{line}\r\n").as_bytes()).expect("it can be sent");
            asked += 1;
            std::thread::sleep(Duration::from_millis(30));
        } else {
            run(&mut client, step);
        }
    }
    for _ in 0..asked {
        second.reply().expect("everything that waited was served");
    }
    // The iteration of the event loop that sent the last reply has ended by then.
    std::thread::sleep(Duration::from_millis(100));
    increment(&server.dir)
}

#[track_caller]
fn reads_as_written_by(other: Option<PathBuf>, options: &[&str], steps: &str) {
    let ours = written(&spinel(), options, steps);
    assert_eq!(ours.last().map(String::as_str), Some("SET end 1"));
    let Some(other) = other else { return };
    let theirs = written(&other, &[], steps);
    for (i, (ours_line, theirs_line)) in ours.iter().zip(&theirs).enumerate() {
        // Of a set that SPOP empties, Redis 7.0 always writes the one, and Valkey the other by default, as Spinel does.
        if let Some(key) = ours_line.strip_prefix("UNLINK ")
            && theirs_line.strip_prefix("DEL ") == Some(key)
        {
            continue;
        }
        let around = |lines: &[String]| lines[i.saturating_sub(4)..(i + 4).min(lines.len())].join("\n  ");
        assert_eq!(
            ours_line,
            theirs_line,
            "line {i}, ours:\n  {}\ntheirs:\n  {}",
            around(&ours),
            around(&theirs)
        );
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn it_reads_as_what_redis_writes() {
    reads_as_written_by(redis(), &[], STEPS);
}

#[test]
fn it_reads_as_what_valkey_writes() {
    let steps = [FIELD_STEPS, FIELD_STEPS_OF_VALKEY].concat();
    reads_as_written_by(valkey(), &Oracle::Valkey9_1.compat(), &steps);
}

#[test]
fn it_reads_as_what_redis_writes_of_fields_that_expire() {
    let steps = [FIELD_STEPS, FIELD_STEPS_OF_REDIS].concat();
    reads_as_written_by(Oracle::Redis8_2.program(), &[], &steps);
}

#[test]
fn it_reads_as_what_redis_writes_of_streams() {
    reads_as_written_by(Oracle::Redis8_2.program(), &[], STREAM_STEPS);
}

#[test]
fn older_servers_read_what_is_written_of_newer_commands() {
    let Some(older) = redis() else { return };
    let preparing =
        "SET K M|SET K N|RPUSH K M N M|ZADD K N M F M|SADD K M|DEL K|EXPIRE K 1000|SET K M EX 1000";
    let commands: Vec<&str> = [NEWER, NEWER, preparing, preparing]
        .into_iter()
        .flat_map(|list| list.split(['|', '\n']))
        .filter(|line| !line.is_empty())
        .collect();
    let rng = &mut Rng::new(11);
    let server = ServerProcess::start(&spinel(), &[&OPTIONS[..], &["--appendfsync", "always"]].concat());
    let (mut client, mut waiting) = (server.client(), server.client());
    for line in ["BLMOVEM waited key:1 LEFT LEFT 0 EXACTLY 2 OBO", "BZMOVE scored key:2 MIN 0"] {
        waiting.send(format!("{line}\r\n").as_bytes()).expect("it can be sent");
    }
    for step in 0..3000 {
        if step == 1000 {
            // One element is not enough for the first that waits, which the second wait follows.
            run(&mut client, "DEL key:1 key:2");
            run(&mut client, "RPUSH waited a");
            assert_eq!(run(&mut client, "LLEN waited"), ":1");
            run(&mut client, "RPUSH waited b c");
            assert_eq!(run(&mut client, "LLEN waited"), ":1");
            run(&mut client, "ZADD scored 1 a 2 b");
        }
        run(&mut client, &fill(commands[rng.index(commands.len())], rng));
    }
    assert_eq!(waiting.reply().expect("it was served"), b"*2\r\n$1\r\nb\r\n$1\r\na\r\n");
    assert_eq!(waiting.reply().expect("it was served"), b"*1\r\n$1\r\na\r\n");
    let digest = run(&mut client, "DEBUG DIGEST");
    let older = ServerProcess::start(&older, &["--enable-debug-command", "yes"]);
    let mut reader = older.client();
    let lines = increment(&server.dir);
    reader
        .send(&fs::read(server.dir.join("appendonlydir/appendonly.aof.1.incr.aof")).expect("it is there"))
        .expect("it can be sent");
    for line in &lines {
        let reply = reader.reply().expect("an answer to each request");
        assert!(!reply.starts_with(b"-"), "{line}: {}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(run(&mut older.client(), "DEBUG DIGEST"), digest);
}

/// What XINFO and XPENDING tell about a stream, without the times at which consumers were seen: nobody passes them on.
fn told(client: &mut Client, stream: &str) -> Vec<String> {
    let whole = run(client, &format!("XINFO STREAM {stream} FULL COUNT 0"));
    let mut lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    for name in ["seen-time", "active-time"] {
        let places: Vec<usize> = (1..lines.len()).filter(|&i| lines[i - 1] == name).collect();
        places.into_iter().for_each(|i| lines[i].clear());
    }
    for group in ["g", "h"] {
        lines.push(run(client, &format!("XPENDING {stream} {group}")));
    }
    lines
}

#[test]
fn what_is_written_down_makes_the_same_streams() {
    let options = [&OPTIONS[..], &["--appendfsync", "always", "--rdb-save-version", "14"]].concat();
    let server = ServerProcess::start(&spinel(), &options);
    let mut client = server.client();
    let steps = STREAM_STEPS.split(['|', '\n']).filter(|step| {
        // That entries were delivered again as history, no server passes on.
        !step.starts_with(['!', '~']) && *step != "XREADGROUP GROUP g c STREAMS t 0"
    });
    let newer = [
        "XADD t IDMP p 1 * a b",
        "XADD t IDMP p 1 * a b",
        "XADD t IDMPAUTO q MAXLEN ~ 100 * a b",
        "XCFGSET made IDMP-DURATION 7 IDMP-MAXSIZE 3",
        "XADD t 9999999999999-1 a b",
        "XREADGROUP GROUP g x STREAMS t >",
        "XREADGROUP GROUP g idle STREAMS t >",
        "XREADGROUP GROUP g taker CLAIM 0 COUNT 2 STREAMS t >",
        "XNACK t g FATAL IDS 1 9999999999999-1",
        "XNACK t g SILENT IDS 1 32-1 FORCE RETRYCOUNT 3",
        "XADD made 99-1 a b",
        "XREADGROUP GROUP g x MAXCOUNT 1 STREAMS t made > >",
    ];
    for step in steps.chain(newer) {
        run(&mut client, step);
    }
    let all = |client: &mut Client| ["s", "t", "made"].map(|stream| told(client, stream));
    let before = all(&mut client);
    assert!(
        before[1].iter().any(|line| line == "idle") && before[1].iter().any(|line| line == "pids-tracked")
    );
    let counted = |told: &[Vec<String>; 3]| -> Vec<Vec<String>> {
        // How many idempotency ids there ever were is not passed on.
        let count =
            |i: usize, lines: &[String]| lines[i - 1].starts_with("iids-") && lines[i - 1] != "iids-tracked";
        let kept = |lines: &Vec<String>| {
            (1..lines.len()).filter(|&i| !count(i, lines)).map(|i| lines[i].clone()).collect()
        };
        told.iter().map(kept).collect()
    };
    assert_eq!(run(&mut client, "DEBUG LOADAOF"), "+OK");
    assert_eq!(counted(&all(&mut client)), counted(&before), "as written command by command");
    let before = all(&mut client);
    assert_eq!(run(&mut client, "DEBUG RELOAD"), "+OK");
    assert_eq!(all(&mut client), before, "as a snapshot");
    for preamble in ["no", "yes"] {
        let digest = run(&mut client, "DEBUG DIGEST");
        run(&mut client, &format!("CONFIG SET aof-use-rdb-preamble {preamble}"));
        run(&mut client, "BGREWRITEAOF");
        while run(&mut client, "INFO persistence").contains("aof_rewrite_in_progress:1") {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(run(&mut client, "DEBUG LOADAOF"), "+OK");
        assert_eq!(counted(&all(&mut client)), counted(&before), "rewritten, with a snapshot: {preamble}");
        assert_eq!(run(&mut client, "DEBUG DIGEST"), digest);
    }
}
