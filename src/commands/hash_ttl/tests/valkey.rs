//! Fields that expire by the rules of Valkey.

use super::{events_and_feed, with_due_fields};
use crate::commands::testing::{Harness, check_with};
use crate::keyspace::{FieldRules, Suspend};

/// A server that follows Valkey.
fn valkey() -> Harness {
    super::server(FieldRules::Valkey)
}

#[track_caller]
fn check(script: &str, expected: &str) {
    check_with(&mut valkey(), script, expected);
}

fn with_due() -> Harness {
    with_due_fields(FieldRules::Valkey)
}

#[test]
fn expiries_are_set_told_and_taken_away() {
    check(
        r#"
        HSET h a 1 b 2
        HTTL h FIELDS 3 a b nosuch
        HEXPIRE h 100 FIELDS 2 a nosuch
        HTTL h FIELDS 1 a
        OBJECT ENCODING h
        HEXPIRE h 100 NX FIELDS 2 a b
        HEXPIREAT h 4102444800 FIELDS 1 a
        HPEXPIREAT h 4102444800500 GT FIELDS 1 a
        HPEXPIRETIME h FIELDS 1 a
        HEXPIRETIME h FIELDS 1 a
        HPEXPIREAT h 4102444800499 LT FIELDS 1 a
        HEXPIRETIME h FIELDS 1 a
        HPERSIST h FIELDS 3 a a nosuch
        HPTTL h FIELDS 1 a
        HPEXPIREAT nosuch 4102444800499 FIELDS 2 a b
        HPTTL nosuch FIELDS 1 a
        HPERSIST nosuch FIELDS 1 a
        "#,
        r#"
        (integer) 2
        1) (integer) -1
        2) (integer) -1
        3) (integer) -2
        1) (integer) 1
        2) (integer) -2
        1) (integer) 100
        "hashtable"
        1) (integer) 0
        2) (integer) 1
        1) (integer) 1
        1) (integer) 1
        1) (integer) 4102444800500
        1) (integer) 4102444801
        1) (integer) 1
        1) (integer) 4102444800
        1) (integer) 1
        2) (integer) -1
        3) (integer) -2
        1) (integer) -1
        1) (integer) -2
        2) (integer) -2
        1) (integer) -2
        1) (integer) -2
        "#,
    );
}

#[test]
fn an_expiry_in_the_past_removes() {
    check(
        r#"
        HSET h a 1 b 2 c 3
        HEXPIRE h 0 FIELDS 3 a a nosuch
        HPEXPIREAT h 1 XX FIELDS 1 b
        HGETEX h PXAT 1 FIELDS 2 b b
        HSETEX h EX 0 FIELDS 1 new 1
        HGETALL h
        OBJECT ENCODING h
        HSETEX h EX 0 FIELDS 1 c 1
        EXISTS h
        HSETEX h EXAT 1 FIELDS 1 c 1
        EXISTS h
        "#,
        r#"
        (integer) 3
        1) (integer) 2
        2) (integer) -2
        3) (integer) -2
        1) (integer) 0
        1) "2"
        2) (nil)
        (integer) 1
        1) "c"
        2) "3"
        "listpack"
        (integer) 1
        (integer) 0
        (integer) 1
        (integer) 0
        "#,
    );
}

#[test]
fn values_with_their_expiries() {
    check(
        r#"
        HSETEX h XX FIELDS 1 a 1
        HSETEX h NX FXX FIELDS 1 a 1
        HSETEX h NX FNX PXAT 4102444800123 FIELDS 2 a 1 b 2
        HSETEX h FNX FIELDS 2 b 3 c 3
        HSETEX h FXX KEEPTTL FIELDS 1 a 3
        HINCRBY h a 1
        HPEXPIRETIME h FIELDS 2 a b
        HSET h a 5
        HGETEX h PERSIST FIELDS 2 b nosuch
        HPEXPIRETIME h FIELDS 2 a b
        HGETEX h EXAT 4102444800 FIELDS 1 a
        HPEXPIRETIME h FIELDS 1 a
        HGETDEL h FIELDS 2 a nosuch
        HGETDEL h FIELDS 1 b
        EXISTS h
        HGETDEL h FIELDS 1 b
        HGETEX h FIELDS 1 b
        "#,
        r#"
        (integer) 0
        (integer) 0
        (integer) 1
        (integer) 0
        (integer) 1
        (integer) 4
        1) (integer) 4102444800123
        2) (integer) 4102444800123
        (integer) 0
        1) "2"
        2) (nil)
        1) (integer) -1
        2) (integer) -1
        1) "5"
        1) (integer) 4102444800000
        1) "5"
        2) (nil)
        1) "2"
        (integer) 0
        1) (nil)
        1) (nil)
        "#,
    );
}

#[test]
fn errors_in_their_order() {
    check(
        r#"
        SET s x
        HEXPIRE h 100 a b c
        HEXPIRE h 100 nx FIELDS 1
        HEXPIRE h x what FIELDS 1 a
        HEXPIRE h x NX LT FIELDS 2 a
        HEXPIRE h x FIELDS 2 a
        HEXPIRE s x FIELDS 1 a
        HEXPIRE s -1 FIELDS 1 a
        HPEXPIRE h 9223372036854775807 FIELDS 1 a
        HEXPIRE s 1 FIELDS 1 a
        HTTL s FIELDS 2 a
        HTTL s fields x a
        HTTL s FIELD x a
        HPERSIST s FIELDS 2 a
        HPERSIST s FIELD 2 a
        HGETEX s what FIELDS 1 a
        HGETEX s EX 1 PX 1 FIELDS 1 a
        HGETEX s EX FIELDS 1 a
        HGETEX s EX x FIELDS 0 a
        HGETEX s EX x FIELDS 1 a
        HGETEX h EX x FIELDS 1 a
        HGETEX h EX 1 EX -1 FIELDS 1 a
        HSETEX h NX XX FIELDS 1 a 1
        HSETEX h KEEPTTL EX 1 FIELDS 1 a 1
        HSETEX h FIELDS 2 a 1 b
        HSETEX h XX EX x FIELDS 1 a 1
        HSETEX h FXX EX x FIELDS 1 a 1
        HSETEX s NX FIELDS 1 a 1
        HGETDEL s FIELDS 0 a
        "#,
        r#"
        OK
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (error) ERR Unsupported option what
        (error) ERR NX and XX, GT or LT options at the same time are not compatible
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (error) ERR value is not an integer or out of range
        (error) ERR invalid expire time in 'hexpire' command
        (error) ERR invalid expire time in 'hpexpire' command
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR syntax error
        (error) ERR value is not an integer or out of range
        (error) ERR syntax error
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (error) ERR syntax error
        (error) ERR syntax error
        (error) ERR syntax error
        (error) ERR syntax error
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR value is not an integer or out of range
        (error) ERR invalid expire time in 'hgetex' command
        (error) ERR syntax error
        (error) ERR syntax error
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        (integer) 0
        (error) ERR value is not an integer or out of range
        (error) WRONGTYPE Operation against a key holding the wrong kind of value
        (error) ERR numfields should be greater than 0 and match the provided number of fields
        "#,
    );
}

#[test]
fn fields_that_are_due_are_shown_to_nobody() {
    let script = r#"
        HLEN h
        HGET h a
        HMGET h a b c
        HGETALL h
        HKEYS h
        HVALS h
        HEXISTS h a
        HSTRLEN h a
        HSCAN h 0
        HRANDFIELD h
        HRANDFIELD h 5
        HRANDFIELD h -3
        HTTL h FIELDS 2 a c
        HEXPIRE h 100 FIELDS 1 a
        HPERSIST h FIELDS 1 a
        HGETEX h EX 100 FIELDS 1 a
        HGETDEL h FIELDS 1 a
        HDEL h a b
        HSETEX h FXX FIELDS 1 a 1
        HLEN h
    "#;
    let expected = r#"
        (integer) 3
        (nil)
        1) (nil)
        2) (nil)
        3) "3"
        1) "c"
        2) "3"
        1) "c"
        1) "3"
        (integer) 0
        (integer) 0
        1) "0"
        2) 1) "c"
           2) "3"
        "c"
        1) "c"
        1) "c"
        2) "c"
        3) "c"
        1) (integer) -2
        2) (integer) -1
        1) (integer) -2
        1) (integer) -2
        1) (nil)
        1) (nil)
        (integer) 0
        (integer) 0
        (integer) 3
    "#;
    let mut harness = with_due();
    check_with(&mut harness, script, expected);
    harness.server.keyspace.suspend_expiry(Suspend::Pause, true);
    check_with(&mut harness, script, expected);
    check_with(
        &mut harness,
        "HDEL h c\nHGETALL h\nHRANDFIELD h -3\nHRANDFIELD h\nHSCAN h 0",
        "
        (integer) 1
        (empty array)
        (empty array)
        (nil)
        1) \"0\"
        2) (empty array)
    ",
    );
}

#[test]
fn a_field_that_was_due_is_a_new_one() {
    check_with(&mut with_due(), "HSET h a 5 c 5\nHTTL h FIELDS 1 a", "(integer) 1\n1) (integer) -1");
    check_with(&mut with_due(), "HSETNX h a 5\nHSETNX h c 5", "(integer) 1\n(integer) 0");
    check_with(&mut with_due(), "HINCRBY h a 5\nHINCRBYFLOAT h b 0.5", "(integer) 5\n\"0.5\"");
    check_with(&mut with_due(), "HTTL h FIELDS 1 a\nHLEN h", "1) (integer) -2\n(integer) 3");
    check_with(
        &mut with_due(),
        "HSETEX h FNX KEEPTTL FIELDS 1 a 5\nHTTL h FIELDS 1 a",
        "(integer) 1\n1) (integer) -1",
    );
}

#[test]
fn events_and_what_is_passed_on() {
    let mut harness = valkey();
    for (line, events, feed) in [
        ("HSET h a 1 b 2 c 3", "hset", "as received"),
        ("HEXPIREAT h 4102444800 NX FIELDS 2 a x", "hexpire", "HPEXPIREAT h 4102444800000 NX FIELDS 2 a x"),
        ("HPEXPIREAT h 4102444800123 FIELDS 1 a", "hexpire", "as received"),
        ("HEXPIRE h 1 NX FIELDS 1 a", "", "nothing"),
        ("HINCRBY h a 1", "hincrby", "HSETEX h PXAT 4102444800123 FIELDS 1 a 2"),
        ("HINCRBY h b 1", "hincrby", "as received"),
        ("HINCRBYFLOAT h a 1", "hincrbyfloat", "HSETEX h PXAT 4102444800123 FIELDS 1 a 3"),
        ("HINCRBYFLOAT h b 1", "hincrbyfloat", "HSET h b 4"),
        ("HPERSIST h FIELDS 2 a b", "hpersist", "as received"),
        ("HPERSIST h FIELDS 2 a b", "", "nothing"),
        ("HGETEX h EXAT 4102444800 FIELDS 2 a x", "hexpire", "HPEXPIREAT h 4102444800000 FIELDS 1 a"),
        ("HGETEX h PERSIST FIELDS 2 b a", "hpersist", "HPERSIST h FIELDS 1 a"),
        ("HGETEX h FIELDS 1 a", "", "nothing"),
        ("HGETEX h PX 0 FIELDS 2 a x", "hexpired", "HDEL h a"),
        (
            "HSETEX h XX EXAT 4102444800 FIELDS 1 a 1",
            "hset hexpire",
            "HSETEX h PXAT 4102444800000 FIELDS 1 a 1",
        ),
        ("HSETEX h FXX KEEPTTL FIELDS 1 a 1", "hset", "HSETEX h KEEPTTL FIELDS 1 a 1"),
        ("HSETEX h FNX FIELDS 1 a 1", "", "nothing"),
        ("HSETEX h PX 0 FIELDS 2 a 1 x 1", "hset hexpire hexpired", "HDEL h a"),
        ("HSETEX h PX 0 FIELDS 1 x 1", "hset hexpire hexpired", "nothing"),
        ("HGETDEL h FIELDS 2 b x", "hdel", "as received"),
        ("HEXPIRE h 0 FIELDS 2 c x", "hexpired del", "HDEL h c"),
        ("HSETEX h PX 0 FIELDS 1 x 1", "hset hexpire hexpired del", "nothing"),
    ] {
        assert_eq!(events_and_feed(&mut harness, line), (events.into(), feed.into()), "{line}");
    }
    for (line, events, feed) in [
        ("HSET h a 1 b 1", "hexpired hset", "as received"),
        ("HSETNX h a 1", "hexpired hset", "HSET h a 1"),
        ("HINCRBY h a 1", "hexpired hincrby", "HSET h a 1"),
        ("HINCRBYFLOAT h a 1", "hexpired hincrbyfloat", "HSET h a 1"),
        ("HSETEX h FIELDS 2 a 1 b 1", "hexpired hset", "as received"),
        ("HSETEX h KEEPTTL FIELDS 1 a 1", "hexpired hset", "HDEL h a HSETEX h KEEPTTL FIELDS 1 a 1"),
        ("HSETEX h EX 0 FIELDS 1 a 1", "hset hexpire hexpired", "HDEL h a"),
        ("HDEL h a", "", "nothing"),
    ] {
        assert_eq!(events_and_feed(&mut with_due(), line), (events.into(), feed.into()), "{line}");
    }
}

#[test]
fn an_expiry_in_the_past_is_kept_where_keys_are_not_removed() {
    let mut harness = with_due();
    harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
    check_with(
        &mut harness,
        "HPEXPIRETIME h FIELDS 2 a c\nHSETEX h PXAT 5 FIELDS 1 c 4\nHGETEX h PXAT 6 FIELDS 1 b\nHGET h c",
        "1) (integer) 1\n2) (integer) -1\n(integer) 1\n1) \"2\"\n\"4\"",
    );
    harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
    assert_eq!(harness.run("HGETALL h"), "(empty array)");
}

#[test]
fn a_copy_shows_and_keeps_no_field_that_is_due() {
    // As in Redis 8.2, a copy has the due fields with their expiries, so that it is the same whenever the command is
    // replayed: they are as dead as in the original.
    let mut harness = with_due();
    assert_eq!(
        events_and_feed(&mut harness, "COPY h copy"),
        ("copy_to".to_owned(), "as received".to_owned())
    );
    check_with(
        &mut harness,
        r#"
        HGETALL copy
        HMGET copy a c
        HPERSIST copy FIELDS 1 a
        HEXPIRE copy 100 FIELDS 1 b
        HGETDEL copy FIELDS 1 a
        HSET copy a new
        HPTTL copy FIELDS 2 a b
        "#,
        r#"
        1) "c"
        2) "3"
        1) (nil)
        2) "3"
        1) (integer) -2
        1) (integer) -2
        1) (nil)
        (integer) 1
        1) (integer) -1
        2) (integer) -2
        "#,
    );
}

#[test]
fn copies_and_moves_keep_expiries() {
    check(
        r#"
        HSETEX h PXAT 4102444800123 FIELDS 1 a 1
        COPY h copy
        RENAME h other
        MOVE other 1
        HPEXPIRETIME copy FIELDS 1 a
        HPERSIST copy FIELDS 1 a
        SELECT 1
        HPEXPIRETIME other FIELDS 1 a
        "#,
        r#"
        (integer) 1
        (integer) 1
        OK
        (integer) 1
        1) (integer) 4102444800123
        1) (integer) 1
        OK
        1) (integer) 4102444800123
        "#,
    );
}
