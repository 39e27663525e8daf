//! Effects of write commands besides the reply: whether a transaction that watches the key fails, how many changes
//! are counted, and which events are published. Most rows are requests that change nothing.
//!
//! The rows match Redis 8.2.3, with three exceptions. A trim that removes nothing, and expiries of fields that are
//! in the past when they are set, match Valkey 9.1.2. A BITFIELD whose operations all overflow extends its string;
//! here that is a change, because the string of replicas and of the append-only file would differ otherwise.

use super::testing::Harness;

/// Commands that prepare the data, by name.
const BEFORE: &[(&str, &[&str])] = &[
    ("l", &["RPUSH k a b c"]),
    ("l1", &["RPUSH k a"]),
    ("s", &["SADD k a b"]),
    ("h", &["HSET k f v n 5 x 1.5"]),
    ("z", &["ZADD k 1 a 2 b"]),
    ("str", &["SET k hello"]),
    ("n", &["SET k 5"]),
    ("e", &["SET k hello", "PEXPIREAT k 4000000000000"]),
    ("hll", &["PFADD k a b c"]),
    ("geo", &["GEOADD k 13.361389 38.115556 P 15.087269 37.502669 C"]),
    ("none", &[]),
    ("k2", &["SET k hello", "SET k2 x"]),
    ("s2", &["SADD k a b", "SADD k2 a c"]),
    ("he", &["HSET k f v", "HPEXPIREAT k 4000000000000 FIELDS 1 f"]),
    ("l2", &["RPUSH k a", "RPUSH k2 b"]),
    ("z2", &["ZADD k 1 a", "ZADD k2 1 a"]),
    ("bits", &[r#"SET k "\xff""#]),
    ("el", &["RPUSH k a b c", "PEXPIREAT k 4000000000000"]),
    ("hll2", &["PFADD k a b c", "PFADD k2 a b"]),
    (
        "x",
        &[
            "XADD k 1-0 f v",
            "XADD k 2-0 f v",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g c COUNT 1 STREAMS k >",
        ],
    ),
];

/// Name of the prepared data, request, whether a transaction that watches `k` fails, number of changes counted, and
/// events.
#[rustfmt::skip]
const REQUESTS: &[(&str, &str, bool, u64, &str)] = &[
    ("l", "LTRIM k 0 -1", true, 0, "ltrim k"),
    ("l", "LTRIM k 0 100", true, 0, "ltrim k"),
    ("l", "LTRIM k -100 100", true, 0, "ltrim k"),
    ("l", "LTRIM k 1 1", true, 2, "ltrim k"),
    ("none", "LTRIM k 0 0", false, 0, ""),
    ("l", "LTRIM k 5 10", true, 3, "ltrim k, del k"),
    ("str", r#"SETRANGE k 0 """#, false, 0, ""),
    ("none", r#"SETRANGE k 5 """#, false, 0, ""),
    ("str", "SETRANGE k 0 h", true, 1, "setrange k"),
    ("str", r#"APPEND k """#, true, 1, "append k"),
    ("none", r#"APPEND k """#, true, 1, "append k"),
    ("str", "PERSIST k", false, 0, ""),
    ("none", "PERSIST k", false, 0, ""),
    ("e", "PERSIST k", true, 1, "persist k"),
    ("e", "PEXPIREAT k 4000000000000", true, 1, "expire k"),
    ("e", "PEXPIREAT k 4000000000000 NX", false, 0, ""),
    ("e", "PEXPIREAT k 4000000000000 GT", false, 0, ""),
    ("str", "EXPIRE k 100 XX", false, 0, ""),
    ("none", "EXPIRE k 100", false, 0, ""),
    ("none", "SORT k STORE k", false, 0, ""),
    ("none", "SORT k2 STORE k", false, 0, ""),
    ("l", "SORT k2 STORE k", true, 1, "del k"),
    ("l", "SORT k ALPHA STORE k", true, 3, "sortstore k"),
    ("l", "LSET k 0 a", true, 1, "lset k"),
    ("l", "LINSERT k BEFORE zz x", false, 0, ""),
    ("none", "LINSERT k BEFORE zz x", false, 0, ""),
    ("l", "LREM k 0 zz", false, 0, ""),
    ("none", "LREM k 0 zz", false, 0, ""),
    ("l", "LPUSHX nok a", false, 0, ""),
    ("none", "LPUSHX k a", false, 0, ""),
    ("h", "HSET k f v", true, 1, "hset k"),
    ("h", "HMSET k f v", true, 1, "hset k"),
    ("h", "HSETNX k f w", false, 0, ""),
    ("h", "HINCRBY k n 0", true, 1, "hincrby k"),
    ("h", "HINCRBYFLOAT k x 0", true, 1, "hincrbyfloat k"),
    ("h", "HDEL k nof", false, 0, ""),
    ("none", "HDEL k f", false, 0, ""),
    ("n", "INCRBY k 0", true, 1, "incrby k"),
    ("n", "DECRBY k 0", true, 1, "incrby k"),
    ("n", "INCRBYFLOAT k 0", true, 1, "incrbyfloat k"),
    ("str", "GETEX k", false, 0, ""),
    ("e", "GETEX k", false, 0, ""),
    ("str", "GETEX k PERSIST", false, 0, ""),
    ("e", "GETEX k PERSIST", true, 1, "persist k"),
    ("e", "GETEX k PXAT 4000000000000", true, 1, "expire k"),
    ("e", "GETEX k PXAT 1", true, 1, "del k"),
    ("none", "GETEX k PX 100", false, 0, ""),
    ("none", "GETEX k PERSIST", false, 0, ""),
    ("str", "RENAME k k", false, 0, ""),
    ("str", "RENAMENX k k", false, 0, ""),
    ("k2", "RENAMENX k k2", false, 0, ""),
    ("k2", "RENAMENX k2 k", false, 0, ""),
    ("k2", "COPY k2 k", false, 0, ""),
    ("none", "COPY k2 k", false, 0, ""),
    ("str", "COPY k k", false, 0, ""),
    ("str", "COPY k k DB 1", false, 1, "1:copy_to k"),
    ("none", "COPY k2 k REPLACE", false, 0, ""),
    ("z", "ZADD k 1 a", false, 0, ""),
    ("z", "ZADD k NX 5 a", false, 0, ""),
    ("z", "ZADD k XX 5 zz", false, 0, ""),
    ("none", "ZADD k XX 5 zz", false, 0, ""),
    ("z", "ZADD k GT 0 a", false, 0, ""),
    ("z", "ZADD k CH 1 a", false, 0, ""),
    ("z", "ZADD k INCR 0 a", false, 0, ""),
    ("z", "ZADD k NX INCR 1 a", false, 0, ""),
    ("z", "ZINCRBY k 0 a", false, 0, ""),
    ("z", "ZREM k zz", false, 0, ""),
    ("none", "ZREM k zz", false, 0, ""),
    ("geo", "GEOADD k 13.361389 38.115556 P", false, 0, ""),
    ("geo", "GEOADD k NX 1 1 P", false, 0, ""),
    ("geo", "GEOADD k XX 1 1 Q", false, 0, ""),
    ("hll", "PFADD k a", false, 0, ""),
    ("hll", "PFADD k", false, 0, ""),
    ("none", "PFADD k", true, 1, "pfadd k"),
    ("hll", "PFMERGE k", true, 1, "pfadd k"),
    ("hll", "PFMERGE k k", true, 1, "pfadd k"),
    ("hll2", "PFMERGE k k2", true, 1, "pfadd k"),
    ("none", "PFMERGE k", true, 1, "pfadd k"),
    ("none", "PFMERGE k k2", true, 1, "pfadd k"),
    ("hll", "PFCOUNT k", true, 1, ""),
    ("bits", "BITFIELD k OVERFLOW FAIL INCRBY u8 0 1", false, 0, ""),
    ("none", "BITFIELD k OVERFLOW FAIL INCRBY u2 0 5", true, 1, "setbit k"),
    ("none", "BITFIELD k OVERFLOW FAIL SET u2 0 5", true, 1, "setbit k"),
    ("none", "BITFIELD k GET u8 0", false, 0, ""),
    ("none", "BITFIELD k", false, 0, ""),
    ("bits", "BITFIELD k SET u8 0 255", false, 0, ""),
    ("bits", "BITFIELD k INCRBY u8 0 0", false, 0, ""),
    ("none", "BITFIELD k SET u8 0 0", true, 1, "setbit k"),
    ("bits", "SETBIT k 0 1", false, 0, ""),
    ("none", "SETBIT k 0 0", true, 1, "setbit k"),
    ("str", "SWAPDB 0 0", false, 1, ""),
    ("str", "SWAPDB 0 1", true, 1, ""),
    ("str", "SWAPDB 1 2", false, 1, ""),
    ("s", "SPOP k 0", false, 0, ""),
    ("none", "SPOP k 0", false, 0, ""),
    ("none", "SPOP k", false, 0, ""),
    ("l", "LPOP k 0", false, 0, ""),
    ("none", "LPOP k 0", false, 0, ""),
    ("none", "LPOP k", false, 0, ""),
    ("l", "RPOP k 0", false, 0, ""),
    ("z", "ZPOPMIN k 0", false, 0, ""),
    ("none", "ZPOPMIN k", false, 0, ""),
    ("none", "ZPOPMIN k 0", false, 0, ""),
    ("z", "ZREMRANGEBYSCORE k 50 60", false, 0, ""),
    ("z", "ZREMRANGEBYRANK k 50 60", false, 0, ""),
    ("z", "ZREMRANGEBYLEX k [x [z", false, 0, ""),
    ("none", "ZREMRANGEBYRANK k 0 -1", false, 0, ""),
    ("s", "SMOVE k k a", false, 0, ""),
    ("s", "SMOVE k k zz", false, 0, ""),
    ("s2", "SMOVE k2 k a", false, 1, "srem k2"),
    ("s2", "SMOVE k2 k zz", false, 0, ""),
    ("none", "SMOVE k2 k a", false, 0, ""),
    ("s", "SADD k a", false, 0, ""),
    ("s", "SREM k zz", false, 0, ""),
    ("none", "SREM k zz", false, 0, ""),
    ("l1", "RPOPLPUSH k k", true, 1, "lpush k, rpop k"),
    ("l", "RPOPLPUSH k k", true, 1, "lpush k, rpop k"),
    ("l1", "LMOVE k k LEFT LEFT", true, 1, "lpush k, lpop k"),
    ("l", "LMOVE k k LEFT LEFT", true, 1, "lpush k, lpop k"),
    ("l", "LMOVE k k LEFT RIGHT", true, 1, "rpush k, lpop k"),
    ("l", "LMOVE k k RIGHT RIGHT", true, 1, "rpush k, rpop k"),
    ("l1", "BLMOVE k k LEFT LEFT 1", true, 1, "lpush k, lpop k"),
    ("l1", "BRPOPLPUSH k k 1", true, 1, "lpush k, rpop k"),
    ("none", "LMOVE k2 k LEFT LEFT", false, 0, ""),
    ("none", "RPOPLPUSH k2 k", false, 0, ""),
    ("none", "LMPOP 1 k LEFT", false, 0, ""),
    ("none", "ZMPOP 1 k MIN", false, 0, ""),
    ("s", "SINTERSTORE k k", true, 1, "sinterstore k"),
    ("none", "SINTERSTORE k k2", false, 0, ""),
    ("none", "SUNIONSTORE k k2", false, 0, ""),
    ("s", "SDIFFSTORE k k k2", true, 1, "sdiffstore k"),
    ("s", "SUNIONSTORE k k", true, 1, "sunionstore k"),
    ("z", "ZUNIONSTORE k 1 k", true, 1, "zunionstore k"),
    ("none", "ZUNIONSTORE k 1 k2", false, 0, ""),
    ("z", "ZRANGESTORE k k 0 -1", true, 1, "zrangestore k"),
    ("none", "ZRANGESTORE k k2 0 -1", false, 0, ""),
    ("geo", "GEOSEARCHSTORE k k FROMMEMBER P BYRADIUS 1 km", true, 1, "geosearchstore k"),
    ("geo", "GEOSEARCHSTORE k k FROMMEMBER P BYRADIUS 1000 km", true, 2, "geosearchstore k"),
    ("geo", "GEOSEARCHSTORE k2 k FROMMEMBER P BYRADIUS 1000 km", false, 2, "geosearchstore k2"),
    ("geo", "GEOSEARCHSTORE k2 k FROMLONLAT 0 0 BYRADIUS 1 km", false, 0, ""),
    ("geo", "GEORADIUS k 13 38 1000 km STORE k2", false, 2, "georadiusstore k2"),
    ("geo", "GEORADIUS k 13 38 1 m STORE k", true, 1, "del k"),
    ("none", "GEOSEARCHSTORE k k2 FROMLONLAT 0 0 BYRADIUS 1 km", false, 0, ""),
    ("none", "BITOP AND k k2", false, 0, ""),
    ("none", "BITOP NOT k k2", false, 0, ""),
    ("str", "BITOP AND k k", true, 1, "set k"),
    ("str", "BITOP AND k nok", true, 1, "del k"),
    ("none", "DEL k", false, 0, ""),
    ("none", "UNLINK k", false, 0, ""),
    ("str", "TOUCH k", false, 0, ""),
    ("str", "MOVE k 1", true, 1, "move_from k, 1:move_to k"),
    ("none", "MOVE k 1", false, 0, ""),
    ("str", "GETDEL nok", false, 0, ""),
    ("none", "GETDEL k", false, 0, ""),
    ("str", "GETSET k hello", true, 1, "set k"),
    ("str", "SET k hello", true, 1, "set k"),
    ("str", "SET k hello NX", false, 0, ""),
    ("none", "SET k hello XX", false, 0, ""),
    ("str", "SET k hello GET", true, 1, "set k"),
    ("str", "SET k hello NX GET", false, 0, ""),
    ("none", "SET k hello XX GET", false, 0, ""),
    ("str", "SETNX k x", false, 0, ""),
    ("k2", "MSETNX k a k3 b", false, 0, ""),
    ("str", "MSET k hello", true, 1, "set k"),
    ("none", r#"RESTORE k 0 "\x00\x01a\x0b\x00""#, false, 0, ""),
    ("he", "HPERSIST k FIELDS 1 f", true, 1, "hpersist k"),
    ("h", "HPERSIST k FIELDS 1 f", false, 0, ""),
    ("h", "HPERSIST k FIELDS 1 nof", false, 0, ""),
    ("none", "HPERSIST k FIELDS 1 nof", false, 0, ""),
    ("he", "HPEXPIREAT k 4000000000000 FIELDS 1 f", true, 1, "hexpire k"),
    ("he", "HPEXPIREAT k 4000000000000 NX FIELDS 1 f", false, 0, ""),
    ("h", "HPEXPIREAT k 4000000000000 XX FIELDS 1 f", false, 0, ""),
    ("h", "HPEXPIREAT k 4000000000000 FIELDS 1 nof", false, 0, ""),
    ("h", "HPEXPIREAT k 1 FIELDS 1 f", true, 1, "hdel k"),
    ("h", "HGETEX k FIELDS 1 f", false, 0, ""),
    ("h", "HGETEX k PERSIST FIELDS 1 f", false, 0, ""),
    ("he", "HGETEX k PERSIST FIELDS 1 f", true, 1, "hpersist k"),
    ("he", "HGETEX k PXAT 4000000000000 FIELDS 1 f", true, 1, "hexpire k"),
    ("h", "HGETEX k PXAT 4000000000000 FIELDS 1 nof", false, 0, ""),
    ("h", "HGETDEL k FIELDS 1 nof", false, 0, ""),
    ("h", "HGETDEL k FIELDS 1 f", true, 1, "hdel k"),
    ("h", "HSETEX k FIELDS 1 f v", true, 1, "hset k"),
    ("h", "HSETEX k FNX FIELDS 1 f v", false, 0, ""),
    ("h", "HSETEX k FXX FIELDS 1 nof v", false, 0, ""),
    ("none", "HSETEX k FXX FIELDS 1 nof v", false, 0, ""),
    ("h", "HSETEX k KEEPTTL FIELDS 1 f v", true, 1, "hset k"),
    ("h", "HSETEX k PXAT 1 FIELDS 1 f v", true, 1, "hset k, hdel k"),
    ("h", "HSETEX k PXAT 1 FIELDS 1 nof v", true, 1, "hset k, hdel k"),
    ("none", "HSETEX k PXAT 1 FIELDS 1 nof v", false, 1, "hset k, hdel k, del k"),
    ("none", "FLUSHDB", false, 0, ""),
    ("str", "FLUSHDB", true, 1, ""),
    ("none", "FLUSHALL", false, 0, ""),
    ("el", "LTRIM k 0 -1", true, 0, "ltrim k"),
    ("str", "PEXPIRE k -1", true, 1, "del k"),
    ("str", "PEXPIREAT k 1", true, 1, "del k"),
    ("none", "PEXPIREAT k 1", false, 0, ""),
    ("str", "SET k v PXAT 1", true, 1, "set k, expire k"),
    ("none", "SET k v PXAT 1", true, 1, "set k, expire k"),
    ("str", "GETEX k PXAT 1", true, 1, "del k"),
    ("l", "BLPOP k 1", true, 1, "lpop k"),
    ("l", "LMPOP 1 k LEFT COUNT 10", true, 3, "lpop k, del k"),
    ("s", "SPOP k 10", true, 2, "spop k, del k"),
    ("s", "SPOP k", true, 1, "spop k"),
    ("z", "ZPOPMIN k 10", true, 2, "zpopmin k, del k"),
    ("z", "ZMPOP 1 k MIN COUNT 10", true, 2, "zpopmin k, del k"),
    ("str", "DEL k k", true, 1, "del k"),
    ("k2", "DEL k k2 k3", true, 2, "del k, del k2"),
    ("l2", "LMOVE k2 k LEFT LEFT", true, 1, "lpush k, lpop k2, del k2"),
    ("k2", "MSET k a k2 b k a", true, 3, "set k, set k2, set k"),
    ("k2", "MSETNX x1 a x2 b", false, 2, "set x1, set x2"),
    ("k2", "RENAME k2 k", true, 1, "rename_from k2, rename_to k"),
    ("s2", "SUNIONSTORE k k k2", true, 1, "sunionstore k"),
    ("z2", "ZUNIONSTORE k 2 k k2", true, 1, "zunionstore k"),
    ("h", "HSET k f 1 g 2 f 3", true, 3, "hset k"),
    ("h", "HDEL k f n f", true, 2, "hdel k"),
    ("bits", "BITFIELD k SET u8 0 1 SET u8 8 1 INCRBY u8 0 1", true, 3, "setbit k"),
    ("hll", "PFADD k q", true, 1, "pfadd k"),
    ("z", "ZADD k 5 a 6 q", true, 2, "zadd k"),
    ("s", "SADD k q w", true, 2, "sadd k"),
    ("l", "LINSERT k BEFORE a x", true, 1, "linsert k"),
    ("l", "LREM k 0 a", true, 1, "lrem k"),
    ("l", "LPUSH k q w", true, 2, "lpush k"),
    ("l", "LMOVEM k k2 LEFT RIGHT COUNT 2 OBO", true, 2, "rpush k2, lpop k"),
    ("l1", "LMOVEM k k LEFT LEFT", true, 1, "lpush k, lpop k"),
    ("none", "LMOVEM k k2 LEFT RIGHT", false, 0, ""),
    ("z", "ZMOVEMEMBER k k2 MEMBERS 1 nosuch", false, 0, ""),
    ("z", "ZMOVE k k MIN", false, 0, ""),
    ("str", "DELEX k IFEQ x", false, 0, ""),
    ("str", "DELEX k", true, 1, "del k"),
    ("str", "SET k x IFNE x", true, 1, "set k"),
    ("str", "SET k x IFEQ x", false, 0, ""),
    ("none", "INCREX k", true, 1, "incrby k"),
    ("none", "INCREX k EX 100", true, 1, "incrby k, expire k"),
    ("none", "INCREX k BYFLOAT 1.5", true, 1, "incrbyfloat k"),
    ("none", "INCREX k UBOUND 0", false, 0, ""),
    ("str", "BITOP DIFF k k k2", true, 1, "set k"),
    // What changes in the groups of a stream does not concern its readers.
    ("x", "XADD k NOMKSTREAM MAXLEN ~ 100 1-0 f v", false, 0, ""),
    ("x", "XADD k 3-0 f v", true, 1, "xadd k"),
    ("x", "XADD k MAXLEN 1 3-0 f v", true, 1, "xadd k, xtrim k"),
    ("x", "XDEL k 9-9", false, 0, ""),
    ("x", "XDEL k 1-0", true, 1, "xdel k"),
    ("x", "XTRIM k MAXLEN 100", false, 0, ""),
    ("x", "XTRIM k MAXLEN 1", true, 1, "xtrim k"),
    ("x", "XTRIM k MINID 0", false, 0, ""),
    ("x", "XSETID k 2-0", false, 1, "xsetid k"),
    ("x", "XSETID k 5-0", false, 1, "xsetid k"),
    ("x", "XSETID k 2-0 ENTRIESADDED 9", false, 1, "xsetid k"),
    ("x", "XGROUP CREATE k g2 0", false, 1, "xgroup-create k"),
    ("x", "XGROUP CREATE k g 0", false, 0, ""),
    ("x", "XGROUP SETID k g 1-0", false, 1, "xgroup-setid k"),
    ("x", "XGROUP SETID k g 2-0", false, 1, "xgroup-setid k"),
    ("x", "XGROUP DESTROY k none", false, 0, ""),
    ("x", "XGROUP DESTROY k g", false, 1, "xgroup-destroy k"),
    ("x", "XGROUP CREATECONSUMER k g c", false, 0, ""),
    ("x", "XGROUP CREATECONSUMER k g d", false, 1, "xgroup-createconsumer k"),
    ("x", "XGROUP DELCONSUMER k g none", false, 0, ""),
    ("x", "XGROUP DELCONSUMER k g c", false, 1, "xgroup-delconsumer k"),
    ("x", "XACK k g 9-9", false, 0, ""),
    ("x", "XACK k g 1-0", false, 1, ""),
    ("x", "XACK k none 1-0", false, 0, ""),
    ("x", "XCLAIM k g c 99999999 1-0", false, 0, ""),
    ("x", "XCLAIM k g c 0 1-0", false, 1, ""),
    ("x", "XCLAIM k g d 0 1-0", false, 2, "xgroup-createconsumer k"),
    ("x", "XCLAIM k g d 99999999 1-0", false, 1, "xgroup-createconsumer k"),
    ("x", "XCLAIM k g c 0 9-9", false, 0, ""),
    ("x", "XAUTOCLAIM k g c 99999999 0", false, 0, ""),
    ("x", "XAUTOCLAIM k g d 99999999 0", false, 1, "xgroup-createconsumer k"),
    ("x", "XAUTOCLAIM k g c 0 0", false, 1, ""),
    ("x", "XREADGROUP GROUP g c STREAMS k 0", false, 0, ""),
    ("x", "XREADGROUP GROUP g d STREAMS k 0", false, 1, "xgroup-createconsumer k"),
    ("x", "XREADGROUP GROUP g c STREAMS k >", false, 1, ""),
    ("x", "XREADGROUP GROUP g d STREAMS k >", false, 2, "xgroup-createconsumer k"),
    ("x", "XREADGROUP GROUP g c NOACK STREAMS k >", false, 1, ""),
    ("x", "XDELEX k IDS 1 9-9", false, 0, ""),
    ("x", "XDELEX k IDS 1 1-0", true, 1, "xdel k"),
    ("x", "XACKDEL k g IDS 1 9-9", false, 0, ""),
    ("x", "XACKDEL k g IDS 1 1-0", true, 1, "xdel k"),
    ("x", "XACKDEL k g ACKED IDS 1 2-0", false, 0, ""),
    ("none", "XGROUP CREATE k g $ MKSTREAM", true, 1, "xgroup-create k"),
];

/// Event and key of each message in a subscriber's output, with the number of the database unless it is the
/// selected one.
fn events(written: &str) -> String {
    let texts: Vec<&str> = written
        .lines()
        .filter_map(|line| line.trim_start().split_once(") ")?.1.strip_prefix('"')?.strip_suffix('"'))
        .collect();
    let events = texts.chunks(4).map(|message| {
        let (database, name) = message[2]
            .strip_prefix("__keyevent@")
            .and_then(|rest| rest.split_once("__:"))
            .expect("messages of the pattern");
        let database = if database == "0" { String::new() } else { format!("{database}:") };
        format!("{database}{name} {}", message[3])
    });
    events.collect::<Vec<_>>().join(", ")
}

#[test]
fn requests_have_these_effects() {
    let mut harness = Harness::default();
    let (watcher, subscriber) = (harness.connect(), harness.connect());
    harness.run("CONFIG SET notify-keyspace-events EA");
    harness.run_as(subscriber, "PSUBSCRIBE __keyevent@*");
    let mut wrong = Vec::new();
    for &(before, request, breaks, changes, told) in REQUESTS {
        harness.run("FLUSHALL");
        let (_, lines) = BEFORE.iter().find(|(name, _)| *name == before).expect("a name of the table");
        for line in *lines {
            let answer = harness.run(line);
            assert!(!answer.starts_with("(error)"), "{line}: {answer}");
        }
        harness.output_of(subscriber);
        harness.run_as(watcher, "WATCH k");
        let dirty = harness.server.keyspace.ledger.dirty;
        harness.run(request);
        let counted = harness.server.keyspace.ledger.dirty - dirty;
        let told_of = events(&harness.output_of(subscriber));
        harness.run_as(watcher, "MULTI");
        let broken = harness.run_as(watcher, "EXEC") == "(nil)";
        if (broken, counted, told_of.as_str()) != (breaks, changes, told) {
            wrong.push(format!("{before}: {request}: {broken}, {counted}, {told_of:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Preparation, request, and what shows its effect. The requests change something for each element that they answer,
/// of which there are thousands.
#[rustfmt::skip]
const LONG_ANSWERS: &[(&[&str], &str, &str)] = &[
    (&[], "SPOP set 2000", "SCARD set"),
    (&[], "LPOP list 2000", "LLEN list"),
    (&[], "LMPOP 1 list RIGHT COUNT 2000", "LLEN list"),
    (&[], "ZPOPMAX sorted 2000", "ZCARD sorted"),
    (&[], "ZMPOP 1 sorted MIN COUNT 2000", "ZCARD sorted"),
    (&[], "XREADGROUP GROUP g c STREAMS stream >", "XPENDING stream g"),
    (&[], "XREADGROUP GROUP g c NOACK STREAMS stream >", "XINFO GROUPS stream"),
    (&["XREADGROUP GROUP g c STREAMS stream >"], "XAUTOCLAIM stream g d 0 0 COUNT 2000", "XPENDING stream g"),
    (&["XREADGROUP GROUP g c STREAMS stream >"], "XREADGROUP GROUP g d CLAIM 0 STREAMS stream >", "XPENDING stream g"),
    (
        &["XREADGROUP GROUP g c STREAMS stream >", "XCLAIM stream g c 0 2500-0 TIME 0 JUSTID RETRYCOUNT 5"],
        "XREADGROUP GROUP g c STREAMS stream 0",
        "XAUTOCLAIM stream g c 9999999 0 COUNT 3000 JUSTID",
    ),
];

#[test]
fn effects_do_not_depend_on_who_reads_the_reply() {
    let mut harness = Harness::default();
    let silent = harness.connect();
    harness.run_as(silent, "CLIENT REPLY OFF");
    for &(before, request, probe) in LONG_ANSWERS {
        let mut shown = Vec::new();
        for heard in [true, false] {
            harness.run("FLUSHALL");
            for i in 1..=2500 {
                harness.run(&format!("SADD set {i}"));
                harness.run(&format!("RPUSH list {i}"));
                harness.run(&format!("ZADD sorted {i} {i}"));
                harness.run(&format!("XADD stream {i}-0 f v"));
            }
            harness.run("XGROUP CREATE stream g 0");
            before.iter().for_each(|line| drop(harness.run(line)));
            if heard {
                let answer = harness.run(request);
                assert!(answer.lines().count() >= 2000, "{request}: {answer:.100}");
            } else {
                assert_eq!(harness.run_as(silent, request), "");
            }
            shown.push(harness.run(probe));
        }
        assert!(shown[0] == shown[1], "{request}: {:.300} and then {:.300}", shown[0], shown[1]);
    }
}
