//! A snapshot as JSON, for the page.
//!
//! ```text
//! {"info":{"used_memory":"17",…},"bounds_ns":[1024,…],
//!  "commands":{"get":{"counts":[1,…],"total":4,"sum_ns":6000}},
//!  "slow":[{"id":0,"at":1796073983,"us":12000,"command":"keys","args":1}],
//!  "keys":{"hot":[{"name":"a","of_time":0.5,"of_bytes":0.125}],
//!          "big":[{"name":"b","db":0,"type":"list","bytes":4096,"elements":100}],"seen":1}}
//! ```
//!
//! `keys` is null unless names of keys may be told. Counts are cumulative: calls that took no longer than the bound of
//! the same index.

use std::fmt::Write as _;

use super::{BOUNDS, KeysReport, Snapshot, fields};
use crate::stats::log;

/// The snapshot as one object.
pub fn json(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(32 << 10);
    out.push_str("{\"info\":{");
    for (i, (name, value)) in fields(&snapshot.info).enumerate() {
        separate(&mut out, i);
        string(name, &mut out);
        out.push(':');
        string(value, &mut out);
    }
    out.push_str("},\"bounds_ns\":[");
    for (i, bits) in BOUNDS.enumerate() {
        separate(&mut out, i);
        number(&mut out, 1u64 << bits);
    }
    out.push_str("],\"commands\":{");
    for (i, latency) in snapshot.latencies.iter().enumerate() {
        separate(&mut out, i);
        string(latency.name, &mut out);
        out.push_str(":{\"counts\":[");
        for (i, count) in latency.counts.into_iter().enumerate() {
            separate(&mut out, i);
            number(&mut out, count);
        }
        let _ = write!(out, "],\"total\":{},\"sum_ns\":{}}}", latency.total, latency.sum_ns);
    }
    out.push_str("},\"slow\":[");
    for (i, slow) in snapshot.slow.iter().enumerate() {
        separate(&mut out, i);
        let _ = write!(out, "{{\"id\":{},\"at\":{},\"us\":{},\"command\":", slow.id, slow.at_s, slow.us);
        string(&slow.name, &mut out);
        let _ = write!(out, ",\"args\":{}}}", slow.args);
    }
    out.push_str("],\"keys\":");
    match &snapshot.keys {
        Some(report) => keys(report, &mut out),
        None => out.push_str("null"),
    }
    out.push('}');
    out
}

fn keys(report: &KeysReport, out: &mut String) {
    out.push_str("{\"hot\":[");
    for (i, hot) in report.hot.iter().enumerate() {
        separate(out, i);
        out.push_str("{\"name\":");
        string(&hot.name, out);
        let _ = write!(out, ",\"of_time\":{:.4},\"of_bytes\":{:.4}}}", hot.of_time, hot.of_bytes);
    }
    out.push_str("],\"big\":[");
    for (i, big) in report.big.iter().enumerate() {
        separate(out, i);
        out.push_str("{\"name\":");
        string(&big.name, out);
        let _ =
            write!(out, ",\"db\":{},\"type\":\"{}\",\"bytes\":{},\"elements\":", big.db, big.kind, big.bytes);
        match big.elements {
            Some(elements) => number(out, elements),
            None => out.push_str("null"),
        }
        out.push('}');
    }
    let _ = write!(out, "],\"seen\":{:.3}}}", report.seen);
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

fn number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    log::escape_json(text, out);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::{BigKey, HotKey, SlowCommand};
    use super::*;

    #[test]
    fn text_is_escaped() {
        let snapshot = Snapshot {
            info: "# A\r\nos:a\"\\\u{1}b:c\r\n".into(),
            latencies: Vec::new(),
            slow: vec![SlowCommand { id: 3, at_s: 1, us: 2, name: "g\"".into(), args: 0 }],
            keys: Some(KeysReport {
                hot: vec![HotKey { name: "\\x00\"".into(), of_time: 0.5, of_bytes: 1.0 }],
                big: vec![
                    BigKey { name: "</script>".into(), db: 1, kind: "list", bytes: 9, elements: Some(3) },
                    BigKey { name: "s".into(), db: 0, kind: "string", bytes: 8, elements: None },
                ],
                seen: 0.25,
            }),
        };
        let text = json(&snapshot);
        assert!(
            text.starts_with("{\"info\":{\"os\":\"a\\\"\\\\\\u0001b:c\"},\"bounds_ns\":[1024,2048,"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "8589934592],\"commands\":{},\"slow\":[{\"id\":3,\"at\":1,\"us\":2,\"command\":\"g\\\"\",\"args\":0}],\
                 \"keys\":{\"hot\":[{\"name\":\"\\\\x00\\\"\",\"of_time\":0.5000,\"of_bytes\":1.0000}],\"big\":[\
                 {\"name\":\"</script>\",\"db\":1,\"type\":\"list\",\"bytes\":9,\"elements\":3},\
                 {\"name\":\"s\",\"db\":0,\"type\":\"string\",\"bytes\":8,\"elements\":null}],\"seen\":0.250}}"
            ),
            "{text}"
        );
    }
}
