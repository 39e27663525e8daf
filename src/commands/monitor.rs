//! MONITOR: shows a client every command that the server runs.

use crate::clients::ClientKey;
use crate::resp::{Args, Replied};
use crate::server::Server;
use crate::server::command::{CmdResult, Docs, Flags, Group, Spec};

/// Table entry of the MONITOR command.
pub const COMMANDS: &[Spec] = &[MONITOR];

const MONITOR: Spec = Spec::admin("monitor", 1, monitor)
    .flags(Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE))
    .docs(Docs {
        summary: "Shows every command the server runs.",
        since: "1.0.0",
        complexity: "O(1); each command costs more for each client that monitors.",
        group: Group::Server,
        ..Docs::NONE
    });

/// MONITOR → OK, then a status for each command of any client.
fn monitor(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(if server.start_monitoring(key)? { server.reply(key).ok() } else { Replied::later() })
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check_with};

    /// The lines received by the only client, without times and origins.
    fn seen(harness: &mut Harness, line: &str) -> Vec<String> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let got = String::from_utf8(harness.raw(&args)).expect("text");
        let lines = got.lines().filter_map(|line| line.split_once("[0 unix:]"));
        lines.map(|(_, command)| command.trim().to_owned()).collect()
    }

    #[test]
    fn commands_are_seen_after_they_ran() {
        let mut harness = Harness::default();
        check_with(&mut harness, "MONITOR", "OK");
        assert_eq!(harness.raw(&[b"MONITOR"]), b"");
        assert_eq!(seen(&mut harness, "PING a"), [r#""PING" "a""#]);
        assert_eq!(seen(&mut harness, "CONFIG GET hz"), [""; 0]);
        assert_eq!(seen(&mut harness, "nosuch"), [""; 0]);
        assert_eq!(seen(&mut harness, "ECHO"), [""; 0]);
        assert_eq!(seen(&mut harness, "AUTH user secret"), [r#""AUTH" "(redacted)" "(redacted)""#]);
        assert_eq!(
            seen(&mut harness, "HELLO 2 SETNAME AUTH AUTH user secret"),
            [r#""HELLO" "2" "SETNAME" "AUTH" "AUTH" "(redacted)" "(redacted)""#]
        );
        assert_eq!(seen(&mut harness, "MULTI"), [r#""MULTI""#]);
        assert_eq!(seen(&mut harness, "ECHO x"), [""; 0]);
        assert_eq!(seen(&mut harness, "EXEC"), [r#""ECHO" "x""#, r#""EXEC""#]);
        assert_eq!(seen(&mut harness, "EXEC now"), [r#""EXEC" "now""#]);
        assert_eq!(seen(&mut harness, "RESET"), [""; 0]);
        assert!(harness.server.clients.monitors.is_empty());
    }

    #[test]
    fn who_monitors_does_not_touch_keys() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "MULTI\nMONITOR\nEXEC\nMONITOR",
            r#"
            OK
            QUEUED
            1) (error) ERR MONITOR isn't allowed for DENY BLOCKING client
            OK
            "#,
        );
        for request in [&[&b"GET"[..], b"k"][..], &[b"SET", b"k", b"v"]] {
            assert_eq!(harness.raw(request), b"-ERR Replica can't interact with the keyspace\r\n");
        }
        harness.raw(&[b"RESET"]);
        check_with(&mut harness, "GET k", "(nil)");
    }
}
