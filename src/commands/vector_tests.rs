//! Tests of the commands on vector sets as wholes: what they answer, propagate, and leave in files.

use crate::commands::testing::{Harness, check};

#[test]
fn elements_are_added_found_and_removed() {
    check(
        r#"
        VADD k VALUES 2 1 0 east
        VADD k VALUES 2 0 1 north SETATTR '{"y":1950}'
        VADD k VALUES 2 -1 0 west
        VADD k VALUES 2 1 0.5 east
        VCARD k
        VDIM k
        VSIM k VALUES 2 0 1
        VSIM k VALUES 2 0 1 COUNT 1 WITHATTRIBS
        VSIM k ELE north TRUTH COUNT 1 WITHSCORES
        VSIM k ELE west FILTER '.y < 2000'
        VSIM k ELE west FILTER '.y <'
        VEMB k west
        VGETATTR k north
        VGETATTR k east
        VSETATTR k east '{"y":2}'
        VSETATTR k none x
        VGETATTR k east
        VISMEMBER k west
        VISMEMBER k none
        VRANGE k - +
        VRANGE k (east [west
        VRANGE k [f + 1
        VRANGE k east +
        VRANGE none - +
        VADD k VALUES 3 1 2 3 x
        VADD k FP32 abc x
        VADD k REDUCE 1 VALUES 2 1 2 x
        VADD k VALUES 2 inf 1 x
        TYPE k
        OBJECT ENCODING k
        COPY k copy
        VREM k west
        VREM k west
        VREM k north
        VREM k east
        EXISTS k
        VCARD copy
        VADD big REDUCE 1048576 VALUES 17 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 x
        VRANDMEMBER copy 0
        VRANDMEMBER none
        VINFO none
        VLINKS none x
        "#,
        r#"
        (integer) 1
        (integer) 1
        (integer) 1
        (integer) 0
        (integer) 3
        (integer) 2
        1) "north"
        2) "east"
        3) "west"
        1) "north"
        2) "{\"y\":1950}"
        1) "north"
        2) "1"
        1) "north"
        (error) ERR syntax error in FILTER expression near: .y <
        1) "-1"
        2) "0"
        "{\"y\":1950}"
        (nil)
        (integer) 1
        (integer) 0
        "{\"y\":2}"
        (integer) 1
        (integer) 0
        1) "east"
        2) "north"
        3) "west"
        1) "north"
        2) "west"
        1) "north"
        (error) ERR invalid start or end range item: must start with '[' or '(', or be '-' or '+'
        (empty array)
        (error) ERR Vector dimension mismatch - got 3 but set has 2
        (error) ERR invalid vector specification
        (error) ERR cannot add projection to existing set without projection
        (error) ERR invalid vector specification
        vectorset
        "raw"
        (integer) 1
        (integer) 1
        (integer) 0
        (integer) 1
        (integer) 1
        (integer) 0
        (integer) 3
        (error) ERR invalid vector specification
        (empty array)
        (nil)
        (nil)
        (nil)
        "#,
    );
}

#[test]
fn damaged_payloads_are_refused() {
    let mut harness = Harness::default();
    for i in 0..30 {
        harness.run(&format!("VADD k REDUCE 3 VALUES 5 {i} 1 2 3 4 e{i} M 4 SETATTR '{{\"n\":{i}}}'"));
    }
    let reply = harness.raw(&[b"DUMP", b"k"]);
    let start = reply.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
    let payload = &reply[start..reply.len() - 2];
    harness.run("CONFIG SET sanitize-dump-payload yes");
    assert_eq!(harness.raw(&[b"RESTORE", b"copy", b"0", payload]), b"+OK\r\n");
    let mut rng = crate::stdx::rng::Rng::new(1);
    for _ in 0..3000 {
        let mut body = payload[..payload.len() - 8].to_vec();
        for _ in 0..=rng.below(3) {
            // Type and module stay.
            let at = 10 + rng.index(body.len() - 12);
            body[at] = if rng.one_in(2) { rng.next_u64() as u8 } else { body[at] ^ 1 << rng.below(8) };
        }
        let sum = crate::stdx::crc64::update(0, &body);
        body.extend_from_slice(&sum.to_le_bytes());
        let reply = harness.raw(&[b"RESTORE", b"damaged", b"0", &body, b"REPLACE"]);
        if reply == b"+OK\r\n" {
            for line in [
                "VSIM damaged VALUES 3 1 2 3",
                "VADD damaged REDUCE 3 VALUES 5 1 2 3 4 5 new M 4",
                "VREM damaged e3",
            ] {
                harness.run(line);
            }
        } else {
            assert_eq!(reply, b"-ERR Bad data format\r\n");
        }
    }
}
