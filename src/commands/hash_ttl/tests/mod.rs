//! Fields that expire, by the rules of each server.

mod redis;
mod valkey;

use crate::commands::testing::{Harness, check_with};
use crate::keyspace::{Change, FieldRules, Listeners, Sink, Suspend};

/// A server that follows `rules`.
fn server(rules: FieldRules) -> Harness {
    let mut harness = Harness::default();
    harness.server.keyspace.field_rules = rules;
    harness
}

/// A server with a hash `h` of the expired but present fields `a` and `b`, and of `c`.
fn with_due_fields(rules: FieldRules) -> Harness {
    let mut harness = server(rules);
    harness.server.keyspace.suspend_expiry(Suspend::Loading, true);
    check_with(
        &mut harness,
        "HSET h a 1 b 2 c 3\nHPEXPIREAT h 1 FIELDS 2 a b",
        "(integer) 3\n1) (integer) 1\n2) (integer) 1",
    );
    harness.server.keyspace.suspend_expiry(Suspend::Loading, false);
    harness
}

/// The events of one command, and the commands propagated.
fn events_and_feed(harness: &mut Harness, line: &str) -> (String, String) {
    let ledger = &mut harness.server.keyspace.ledger;
    ledger.listeners.set(Listeners::NOTIFY, true);
    ledger.feed(Sink::Log, true);
    harness.server.keyspace.ledger.drained = Default::default();
    harness.server.execution.unit.drained.clear();
    harness.run(line);
    let events: Vec<&str> = harness
        .server
        .keyspace
        .ledger
        .drained
        .0
        .iter()
        .map(|change| match change {
            Change::Key { event, .. } | Change::EventOnly { event, .. } => event.name,
            Change::FieldGone { .. } => "",
            other => panic!("{other:?} was not to be expected"),
        })
        .filter(|name| !["", "new"].contains(name))
        .collect();
    let text = String::from_utf8_lossy(&harness.server.execution.unit.drained).into_owned();
    let words: Vec<&str> = text.split_terminator("\r\n").filter(|w| !w.starts_with(['$', '*'])).collect();
    let feed = match words.join(" ") {
        words if words.is_empty() => "nothing".into(),
        words if words == line => "as received".into(),
        words => words,
    };
    (events.join(" "), feed)
}
