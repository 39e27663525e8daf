//! Fields that expire by the rules of Redis.

use super::{events_and_feed, server, with_due_fields};
use crate::commands::testing::check_with;
use crate::keyspace::{FieldRules, Suspend};

#[test]
fn errors_in_their_order() {
    check_with(
        &mut server(FieldRules::Redis),
        r#"
        SET s x
        HEXPIRE s x FOO 0 a
        HEXPIRE h x FOO 0 a
        HEXPIRE h -1 FOO 0 a
        HEXPIRE h 9223372036854775807 FOO 0 a
        HEXPIRE h 1 FOO 0 a
        HEXPIRE h 1 NX XX FIELDS 1 a
        HEXPIRE h 1 FIELDS 0 a b
        HEXPIRE h 1 FIELDS 2 a
        HEXPIREAT h 70368744178 FIELDS 1 a
        HPEXPIREAT h 70368744177663 FIELDS 1 a
        HTTL s FOO x a
        HTTL h FOO x a
        HTTL h FIELDS x a
        HPERSIST h FIELDS 1 a b
        HGETEX s EX x FIELDS 1 a
        HGETEX h EX x y
        HGETEX h EX 10 y
        HGETEX h EX 10 PX 10 FIELDS 1 a
        HGETDEL h FIELDS 0 a
        HSETEX h FIELDS 1 a 1 EX 10
        HSETEX h FIELDS 0 a 1
        HSETEX h FNX FXX FIELDS 1 a 1
        HSETEX h KEEPTTL EX x FIELDS 1 a 1
        HSETEX h NX FIELDS 1 a 1
        HSETEX s EX -1 FIELDS 1 a 1
        HSETEX s FIELDS 1 a 1
        "#,
        r#"
        OK
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR value is not an integer or out of range
        (error) ERR invalid expire time, must be >= 0
        (error) ERR invalid expire time in 'hexpire' command
        (error) ERR Mandatory argument FIELDS is missing or not at the right position
        (error) ERR Mandatory argument FIELDS is missing or not at the right position
        (error) ERR Parameter `numFields` should be greater than 0
        (error) ERR The `numfields` parameter must match the number of arguments
        (error) ERR invalid expire time in 'hexpireat' command
        1) (integer) -2
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR Mandatory argument FIELDS is missing or not at the right position
        (error) ERR Number of fields must be a positive integer
        (error) ERR The `numfields` parameter must match the number of arguments
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR value is not an integer or out of range
        (error) ERR wrong number of arguments for 'hgetex' command
        (error) ERR Mandatory argument FIELDS is missing or not at the right position
        (error) ERR Number of fields must be a positive integer
        (error) ERR wrong number of arguments for 'hsetex' command
        (error) ERR invalid number of fields
        (error) ERR Only one of FXX or FNX arguments can be specified
        (error) ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified
        (error) ERR unknown argument: NX
        (error) ERR invalid expire time, must be >= 0
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        "#,
    );
}

#[test]
fn seconds_are_rounded_up() {
    check_with(
        &mut server(FieldRules::Redis),
        "HSETEX h PXAT 4102444800001 FIELDS 1 a 1\nHEXPIRETIME h FIELDS 1 a",
        "(integer) 1\n1) (integer) 4102444801",
    );
}

#[test]
fn who_reads_a_due_field_removes_it_and_who_writes_finds_it() {
    for (line, reply, len) in [
        ("HLEN h", "(integer) 3", 3),
        ("HGETALL h", "1) \"c\"\n2) \"3\"", 3),
        ("HTTL h FIELDS 1 a", "1) (integer) -2", 3),
        ("HPERSIST h FIELDS 1 a", "1) (integer) -2", 3),
        ("HGET h a", "(nil)", 2),
        ("HMGET h a b", "1) (nil)\n2) (nil)", 1),
        ("HEXISTS h a", "(integer) 0", 2),
        ("HSTRLEN h a", "(integer) 0", 2),
        ("HRANDFIELD h", "\"c\"", 1),
        ("HDEL h a", "(integer) 1", 2),
        ("HSET h a 1", "(integer) 0", 3),
        ("HSETEX h FIELDS 1 a 1", "(integer) 1", 3),
        ("HEXPIRE h 100 FIELDS 1 a", "1) (integer) 1", 3),
    ] {
        let mut harness = with_due_fields(FieldRules::Redis);
        assert_eq!(harness.run(line), reply, "{line}");
        assert_eq!(harness.run("HLEN h"), format!("(integer) {len}"), "{line}");
        assert_eq!(
            harness.server.keyspace.stats.expired_fields,
            match line {
                "HDEL h a" => 0,
                _ => 3 - len,
            }
        );
    }
    // What must not be changed is hidden only.
    let mut paused = with_due_fields(FieldRules::Redis);
    paused.server.keyspace.suspend_expiry(Suspend::Pause, true);
    check_with(
        &mut paused,
        "HGET h a\nHMGET h a b\nHRANDFIELD h\nHLEN h",
        "(nil)\n1) (nil)\n2) (nil)\n\"c\"\n(integer) 3",
    );
}

#[test]
fn events_and_what_is_passed_on() {
    let mut harness = server(FieldRules::Redis);
    for (line, events, feed) in [
        ("HSET h a 1 b 2 c 3", "hset", "as received"),
        ("HEXPIREAT h 4102444800 NX FIELDS 2 a x", "hexpire", "HPEXPIREAT h 4102444800000 NX FIELDS 1 a"),
        ("HEXPIRE h 1 NX FIELDS 1 a", "", "nothing"),
        ("HINCRBY h a 1", "hincrby", "as received"),
        ("HINCRBYFLOAT h a 1", "hincrbyfloat", "HSETEX h KEEPTTL FIELDS 1 a 3"),
        ("HINCRBYFLOAT h b 1", "hincrbyfloat", "HSET h b 3"),
        ("HPERSIST h FIELDS 2 a b", "hpersist", "as received"),
        ("HGETEX h EXAT 4102444800 FIELDS 2 a x", "hexpire", "HPEXPIREAT h 4102444800000 FIELDS 2 a x"),
        ("HGETEX h PERSIST FIELDS 2 b a", "hpersist", "HPERSIST h FIELDS 2 b a"),
        ("HGETEX h FIELDS 1 a", "", "nothing"),
        ("HGETEX h PX 0 FIELDS 2 a x", "hdel", "HDEL h a"),
        (
            "HSETEX h FXX EXAT 4102444800 FIELDS 1 b 1",
            "hset hexpire",
            "HSETEX h FXX PXAT 4102444800000 FIELDS 1 b 1",
        ),
        ("HSETEX h PX 0 FIELDS 2 b 1 x 1", "hset hdel", "HDEL h b HDEL h x"),
        ("HGETDEL h FIELDS 2 c x", "hdel del", "HDEL h c x"),
        ("HSETEX h PX 0 FIELDS 1 x 1", "hset hdel del", "HDEL h x"),
    ] {
        assert_eq!(events_and_feed(&mut harness, line), (events.into(), feed.into()), "{line}");
    }
    for (line, events, feed) in [
        ("HMGET h b a c", "hexpired", "HDEL h b HDEL h a"),
        ("HSET h a 1 b 1", "hset", "as received"),
        ("HSETNX h a 1", "hexpired hset", "HDEL h a HSETNX h a 1"),
        ("HINCRBY h a 1", "hexpired hincrby", "HDEL h a HINCRBY h a 1"),
        ("HINCRBYFLOAT h a 1", "hexpired hincrbyfloat", "HDEL h a HSET h a 1"),
        ("HSETEX h FNX FIELDS 1 a 1", "hexpired hset", "HDEL h a HSETEX h FNX FIELDS 1 a 1"),
        ("HSETEX h FXX FIELDS 2 a 1 b 1", "hexpired", "HDEL h a"),
        ("HGETDEL h FIELDS 2 a c", "hexpired hdel", "HDEL h a HDEL h a c"),
        ("HEXPIRE h 0 FIELDS 3 a b c", "hdel del", "HDEL h a HDEL h b HDEL h c"),
        ("HGETEX h EX 0 FIELDS 3 a b c", "hexpired hdel del", "HDEL h a HDEL h b HDEL h c"),
    ] {
        let mut harness = with_due_fields(FieldRules::Redis);
        assert_eq!(events_and_feed(&mut harness, line), (events.into(), feed.into()), "{line}");
    }
}
