//! A snapshot as JSON, for the page.
//!
//! ```text
//! {"info":{"used_memory":"17",…},"bounds_ns":[1024,…],
//!  "commands":{"get":{"counts":[1,…],"total":4,"sum_ns":6000}},
//!  "slow":[{"id":0,"at":1796073983,"us":12000,"command":"keys","args":1}]}
//! ```
//!
//! Counts are cumulative: calls that took no longer than the bound of the same index.

use std::fmt::Write as _;

use super::{BOUNDS, Snapshot, fields};
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
    out.push_str("]}");
    out
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
    use super::super::SlowCommand;
    use super::*;

    #[test]
    fn text_is_escaped() {
        let snapshot = Snapshot {
            info: "# A\r\nos:a\"\\\u{1}b:c\r\n".into(),
            latencies: Vec::new(),
            slow: vec![SlowCommand { id: 3, at_s: 1, us: 2, name: "g\"".into(), args: 0 }],
        };
        let text = json(&snapshot);
        assert!(
            text.starts_with("{\"info\":{\"os\":\"a\\\"\\\\\\u0001b:c\"},\"bounds_ns\":[1024,2048,"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "8589934592],\"commands\":{},\"slow\":[{\"id\":3,\"at\":1,\"us\":2,\"command\":\"g\\\"\",\"args\":0}]}"
            ),
            "{text}"
        );
    }
}
