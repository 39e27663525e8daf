//! Scripts of commands on streams, with the answers of Redis.

use super::testing::{Harness, check, check_with};

#[test]
fn ids_options_and_errors_of_xadd() {
    check(
        r#"
        XADD s * a
        XADD s 0-0 a b
        XADD s 0-* a b
        XADD s bad a b
        XADD s 5-5 a b
        XADD s 5-5 a b
        XADD s 5-* a b
        XADD s 4-* a b
        XADD s MAXLEN -1 6-1 a b
        XADD s MAXLEN ~ 5 LIMIT 3 6-1 a b
        XADD s MAXLEN 5 LIMIT 3 7-1 a b
        XADD s LIMIT 5 7-1 a b
        XADD s MAXLEN ~ 5 MINID 3 8-1 a b
        XADD s MAXLEN 2 8-1 a b
        XRANGE s - +
        XADD none NOMKSTREAM * a b
        EXISTS none
        XADD m 18446744073709551615-18446744073709551615 a b
        XADD m * a b
        SET str x
        XADD str bad a b
        XADD str 1 a b
        "#,
        r#"
        (error) ERR wrong number of arguments for 'xadd' command
        (error) ERR The ID specified in XADD must be greater than 0-0
        "0-1"
        (error) ERR Invalid stream ID specified as stream command argument
        "5-5"
        (error) ERR The ID specified in XADD is equal or smaller than the target stream top item
        "5-6"
        (error) ERR The ID specified in XADD is equal or smaller than the target stream top item
        (error) ERR The MAXLEN argument must be >= 0.
        "6-1"
        (error) ERR syntax error, LIMIT cannot be used without the special ~ option
        (error) ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
        (error) ERR syntax error, MAXLEN and MINID options at the same time are not compatible
        "8-1"
        1) 1) "6-1"
           2) 1) "a"
              2) "b"
        2) 1) "8-1"
           2) 1) "a"
              2) "b"
        (nil)
        (integer) 0
        "18446744073709551615-18446744073709551615"
        (error) ERR The stream has exhausted the last possible ID, unable to add more items
        OK
        (error) ERR Invalid stream ID specified as stream command argument
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn a_stream_without_entries_stays() {
    check(
        r#"
        XADD s 1-1 a b
        XDEL s 1-1
        EXISTS s
        XLEN s
        XADD s 1-1 a b
        XSETID s 0-1
        XTRIM s MAXLEN 0
        TYPE s
        OBJECT ENCODING s
        "#,
        r#"
        "1-1"
        (integer) 1
        (integer) 1
        (integer) 0
        (error) ERR The ID specified in XADD is equal or smaller than the target stream top item
        (error) ERR The ID specified in XSETID is smaller than current max_deleted_entry_id
        (integer) 0
        stream
        "stream"
        "#,
    );
}

#[test]
fn a_group_reads_acknowledges_and_claims() {
    check(
        r#"
        XADD s 10-0 a b
        XADD s 11-0 c d
        XGROUP CREATE s g 0
        XGROUP CREATE s g 0
        XGROUP CREATE none g $
        XREADGROUP GROUP g a COUNT 1 STREAMS s >
        XREADGROUP GROUP g b STREAMS s >
        XREADGROUP GROUP g b STREAMS s >
        XREADGROUP GROUP g b STREAMS s 0
        XREADGROUP GROUP nog b STREAMS s >
        XREADGROUP GROUP g b STREAMS s $
        XPENDING s g
        XACK s g 10-0 99
        XCLAIM s g a 0 11-0 JUSTID
        XDEL s 11-0
        XREADGROUP GROUP g a STREAMS s 0
        XAUTOCLAIM s g b 0 0
        XPENDING s g
        XINFO GROUPS s
        XGROUP DELCONSUMER s g a
        XGROUP DESTROY s g
        XGROUP DESTROY s g
        "#,
        r#"
        "10-0"
        "11-0"
        OK
        (error) BUSYGROUP Consumer Group name already exists
        (error) ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
        1) 1) "s"
           2) 1) 1) "10-0"
                 2) 1) "a"
                    2) "b"
        1) 1) "s"
           2) 1) 1) "11-0"
                 2) 1) "c"
                    2) "d"
        (nil)
        1) 1) "s"
           2) 1) 1) "11-0"
                 2) 1) "c"
                    2) "d"
        (error) NOGROUP No such key 's' or consumer group 'nog' in XREADGROUP with GROUP option
        (error) ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.
        1) (integer) 2
        2) "10-0"
        3) "11-0"
        4) 1) 1) "a"
              2) "1"
           2) 1) "b"
              2) "1"
        (integer) 1
        1) "11-0"
        (integer) 1
        1) 1) "s"
           2) 1) 1) "11-0"
                 2) (nil)
        1) "0-0"
        2) (empty array)
        3) 1) "11-0"
        1) (integer) 0
        2) (nil)
        3) (nil)
        4) (nil)
        1)  1) "name"
            2) "g"
            3) "consumers"
            4) (integer) 2
            5) "pending"
            6) (integer) 0
            7) "last-delivered-id"
            8) "11-0"
            9) "entries-read"
           10) (integer) 2
           11) "lag"
           12) (integer) 0
        (integer) 0
        (integer) 1
        (integer) 0
        "#,
    );
}

#[test]
fn entries_are_deleted_as_their_groups_allow() {
    check(
        r#"
        XADD s 1-0 a b
        XADD s 2-0 a b
        XGROUP CREATE s g 0
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XDELEX s IDS 3 1-0 2-0
        XDELEX s IDS 0 1-0
        XDELEX s ACKED IDS 2 1-0 99-0
        XACKDEL s g IDS 2 1-0 1-0
        XNACK s g FAIL IDS 1 2-0 FORCE
        XPENDING s g - + 5
        XDELEX s DELREF IDS 1 2-0
        XPENDING s g
        "#,
        r#"
        "1-0"
        "2-0"
        OK
        1) 1) "s"
           2) 1) 1) "1-0"
                 2) 1) "a"
                    2) "b"
        (error) ERR The `numids` parameter must match the number of arguments
        (error) ERR Number of IDs must be a positive integer
        1) (integer) 2
        2) (integer) 2
        1) (integer) 1
        2) (integer) -1
        (integer) 1
        1) 1) "2-0"
           2) ""
           3) (integer) -1
           4) (integer) 0
        1) (integer) 1
        1) (integer) 0
        2) (nil)
        3) (nil)
        4) (nil)
        "#,
    );
}

#[test]
fn a_producer_may_send_an_entry_twice() {
    let mut harness = Harness::default();
    let first = harness.run("XADD s IDMP p 1 * a b");
    let dirty = harness.server.keyspace.ledger.dirty;
    assert_eq!(harness.run("XADD s IDMP p 1 * a b"), first);
    assert_eq!(
        harness.server.keyspace.ledger.dirty,
        dirty + 1,
        "a duplicate is counted, which a snapshot has"
    );
    assert_ne!(harness.run("XADD s IDMP p 2 * a b"), first);
    let auto = harness.run("XADD s IDMPAUTO q * c d");
    assert_eq!(harness.run("XADD s IDMPAUTO q * c d"), auto);
    assert_eq!(harness.run("XLEN s"), "(integer) 3");
    assert_eq!(harness.run("XCFGSET s IDMP-DURATION 5"), "OK");
    assert_ne!(harness.run("XADD s IDMP p 1 * a b"), first, "other settings forget all");
    assert_eq!(harness.run("XCFGSET none IDMP-DURATION 5"), "(error) ERR no such key");
}

/// Who waits gets what comes, in the order in which they came.
#[test]
fn readers_wait_for_entries() {
    let mut harness = Harness::default();
    let (first, second, third) = (harness.connect(), harness.connect(), harness.connect());
    assert_eq!(harness.run_as(first, "XREAD BLOCK 0 STREAMS s $"), "");
    assert_eq!(harness.run_as(second, "XREAD BLOCK 0 STREAMS s t 0 0"), "");
    harness.run("XADD s 1-1 a b");
    let entry = "1) 1) \"s\"\n   2) 1) 1) \"1-1\"\n         2) 1) \"a\"\n            2) \"b\"";
    assert_eq!((harness.output_of(first), harness.output_of(second)), (entry.to_owned(), entry.to_owned()));
    // A position is taken when waiting begins.
    assert_eq!(harness.run_as(first, "XREAD BLOCK 0 STREAMS s $"), "");
    harness.run("XGROUP CREATE s g $");
    assert_eq!(harness.run_as(second, "XREADGROUP GROUP g a COUNT 1 BLOCK 0 STREAMS s >"), "");
    assert_eq!(harness.run_as(third, "XREADGROUP GROUP g b COUNT 1 BLOCK 0 STREAMS s >"), "");
    harness.run("MULTI");
    harness.run("XADD s 2-1 a b");
    harness.run("XADD s 3-1 a b");
    harness.run("EXEC");
    assert!(harness.output_of(first).contains("3-1"));
    assert!(harness.output_of(second).contains("2-1"));
    assert!(harness.output_of(third).contains("3-1"));
    assert!(harness.server.clients.blocking.is_empty());
}

/// Who waits in a group hears when there is nothing to wait for any more; who reads alone waits on.
#[test]
fn readers_of_groups_learn_that_a_stream_is_gone() {
    let nogroup = "(error) NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    let wrong = "(error) WRONGTYPE Operation against a key holding the wrong kind of value";
    for (change, answer) in [
        ("DEL s", nogroup),
        ("SET s x", wrong),
        ("FLUSHALL", nogroup),
        ("RENAME s t", nogroup),
        ("XGROUP DESTROY s g", nogroup),
        ("SWAPDB 0 1", nogroup),
    ] {
        let mut harness = Harness::default();
        let (alone, grouped) = (harness.connect(), harness.connect());
        harness.run("XGROUP CREATE s g $ MKSTREAM");
        assert_eq!(harness.run_as(alone, "XREAD BLOCK 0 STREAMS s $"), "");
        assert_eq!(harness.run_as(grouped, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), "");
        harness.run(change);
        assert_eq!(
            (harness.output_of(alone).as_str(), harness.output_of(grouped).as_str()),
            ("", answer),
            "{change}"
        );
    }
}

/// What comes and goes at once serves nobody.
#[test]
fn an_entry_that_is_gone_again_serves_nobody() {
    let mut harness = Harness::default();
    let reader = harness.connect();
    assert_eq!(harness.run_as(reader, "XREAD BLOCK 0 STREAMS s 0"), "");
    for line in ["MULTI", "XADD s 1-1 a b", "DEL s", "EXEC", "RPUSH s x", "DEL s"] {
        harness.run(line);
        assert_eq!(harness.output_of(reader), "", "{line}");
    }
    harness.run("XADD s 1-1 a b");
    assert!(harness.output_of(reader).contains("1-1"));
}

#[test]
fn mistakes_are_reported_in_the_order_of_redis() {
    check(
        r#"
        SET s v
        XINFO STREAM nosuch MAYBE
        XINFO STREAM s MAYBE
        XDELEX s MAYBE IDS 1 1-0
        XACKDEL s g MAYBE IDS 1 1-0
        XPENDING s g IDLE x 1
        XPENDING s g IDLE 1 1
        XGROUP CREATE s g $ MKSTREAM ENTRIESREAD ENTRIESREAD 9
        XGROUP CREATE s g $ ENTRIESREAD 1 ENTRIESREAD 2
        XGROUP CREATE new g $ MKSTREAM MKSTREAM ENTRIESREAD 2
        EXISTS new
        "#,
        r#"
        OK
        (error) ERR no such key
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR value is not an integer or out of range
        (error) ERR syntax error
        (error) ERR value is not an integer or out of range
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP.
        (integer) 0
        "#,
    );
}

#[test]
fn entries_are_delivered_to_who_wants_no_reply() {
    let mut harness = Harness::default();
    for ms in 1..=100 {
        harness.run(&format!("XADD s {ms}-0 a b"));
    }
    harness.run("XGROUP CREATE s g 0");
    for line in ["CLIENT REPLY OFF", "XREADGROUP GROUP g c COUNT 90 STREAMS s >", "CLIENT REPLY ON"] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        harness.raw(&words);
    }
    check_with(
        &mut harness,
        "XPENDING s g",
        r#"
        1) (integer) 90
        2) "1-0"
        3) "90-0"
        4) 1) 1) "c"
              2) "90"
        "#,
    );
}
