//! SLOWLOG and COMMANDLOG: logs of commands that were slow, or had a large request or reply.

use super::help::help;
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Replied};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::stats::slowlog::LogKind;
use crate::stdx::num;

/// Table entries of the SLOWLOG and COMMANDLOG commands.
pub const COMMANDS: &[Spec] = &[COMMANDLOG, SLOWLOG];

/// Number of entries shown by default.
const DEFAULT_COUNT: i64 = 10;

const FLAGS: Flags = Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE);

const SLOWLOG: Spec =
    Spec::container("slowlog", -2, &[SLOWLOG_GET, SLOWLOG_HELP, SLOWLOG_LEN, SLOWLOG_RESET]).docs(Docs {
        summary: "Commands about the slow log.",
        since: "2.2.12",
        complexity: "That of the subcommand.",
        group: Group::Server,
        ..Docs::NONE
    });

const SLOWLOG_GET: Spec = Spec::admin("slowlog|get", -2, slowlog_get)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "nondeterministic_output"])
    .docs(Docs {
        summary: "Lists commands that were slow.",
        since: "2.2.12",
        complexity: "O(N) for N entries listed",
        group: Group::Server,
        history: &[("4.0.0", "Entries tell the client's address and name.")],
        args: &[Arg::integer("count").optional()],
        ..Docs::NONE
    });

/// SLOWLOG GET [count] → latest entries, newest first; −1 for all.
fn slowlog_get(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 3 {
        return Err(Error::quoting(&[
            b"ERR unknown subcommand or wrong number of arguments for '",
            args.at(1),
            b"'. Try SLOWLOG HELP.",
        ]));
    }
    let count = if args.len() == 3 { count(args, 2)? } else { DEFAULT_COUNT };
    Ok(list(server, key, LogKind::Slow, count))
}

/// Argument `i` as a number of entries.
fn count(args: Args<'_>, i: usize) -> Result<i64, Error> {
    num::parse_i64(args.at(i))
        .filter(|&count| count >= -1)
        .ok_or_else(|| Error::text("ERR count should be greater than or equal to -1"))
}

/// Replies with the latest `count` entries of a log; −1 for all.
fn list(server: &mut Server, key: ClientKey, kind: LogKind, count: i64) -> Replied {
    let client = &mut server.clients[key];
    let protocol = client.protocol;
    // The output leaves its client while it is written, because the entries are borrowed from the server meanwhile.
    let mut out = std::mem::take(&mut client.io.output);
    let mut reply = out.reply(protocol);
    let log = server.stats.logs.of(kind);
    let count = usize::try_from(count).map_or(log.len(), |count| count.min(log.len()));
    let replied = reply.array(count);
    reply.each(log.iter().take(count), |reply, entry| {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.at_s);
        reply.int(entry.value as i64);
        reply.bulks(&entry.args);
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.name);
    });
    server.clients[key].io.output = out;
    replied
}

const SLOWLOG_LEN: Spec = Spec::admin("slowlog|len", 2, slowlog_len)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
    .docs(Docs {
        summary: "Counts the entries of the slow log.",
        since: "2.2.12",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// SLOWLOG LEN → number of entries.
fn slowlog_len(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let len = server.stats.logs.of(LogKind::Slow).len();
    Ok(server.reply(key).int(len as i64))
}

const SLOWLOG_RESET: Spec = Spec::admin("slowlog|reset", 2, slowlog_reset)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Empties the slow log.",
        since: "2.2.12",
        complexity: "O(N) for N entries",
        group: Group::Server,
        ..Docs::NONE
    });

/// SLOWLOG RESET → OK. Empties the log.
fn slowlog_reset(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.stats.logs.of_mut(LogKind::Slow).clear();
    Ok(server.reply(key).ok())
}

const SLOWLOG_HELP: Spec =
    Spec::admin("slowlog|help", 2, slowlog_help).flags(Flags::LOADING.with(Flags::STALE)).docs(Docs {
        summary: "Describes the subcommands.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// SLOWLOG HELP → descriptions of the subcommands.
fn slowlog_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "SLOWLOG",
        &[
            (
                "GET [<count>]",
                "The latest <count> slow commands (10 unless given, all of them if -1). Each is told by:\n\
                 number, Unix time, microseconds, arguments, address and name of the client.",
            ),
            ("LEN", "How many slow commands are remembered."),
            ("RESET", "Forget them."),
        ],
    ))
}

// ---- three kinds of log ---------------------------------------------------------------------------

const COMMANDLOG: Spec =
    Spec::container("commandlog", -2, &[COMMANDLOG_GET, COMMANDLOG_HELP, COMMANDLOG_LEN, COMMANDLOG_RESET])
        .docs(Docs {
            summary: "Commands about the logs of slow commands, large requests and large replies.",
            since: "8.1.0",
            complexity: "That of the subcommand.",
            group: Group::Server,
            ..Docs::NONE
        });

const KIND: Arg = Arg::one_of(
    "type",
    &[
        Arg::word("slow", "SLOW"),
        Arg::word("large-request", "LARGE-REQUEST"),
        Arg::word("large-reply", "LARGE-REPLY"),
    ],
);

/// Argument `i` as a kind of log.
fn kind(args: Args<'_>, i: usize) -> Result<LogKind, Error> {
    LogKind::from_name(args.at(i)).ok_or_else(|| {
        Error::text("ERR type should be one of the following: slow, large-request, large-reply")
    })
}

const COMMANDLOG_GET: Spec = Spec::admin("commandlog|get", 4, commandlog_get)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "nondeterministic_output"])
    .docs(Docs {
        summary: "Lists the commands of one log.",
        since: "8.1.0",
        complexity: "O(N) for N entries listed",
        group: Group::Server,
        args: &[Arg::integer("count"), KIND],
        ..Docs::NONE
    });

/// COMMANDLOG GET count type → latest entries, newest first; −1 for all.
fn commandlog_get(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let count = count(args, 2)?;
    let kind = kind(args, 3)?;
    Ok(list(server, key, kind, count))
}

const COMMANDLOG_LEN: Spec = Spec::admin("commandlog|len", 3, commandlog_len)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
    .docs(Docs {
        summary: "Counts the entries of one log.",
        since: "8.1.0",
        complexity: "O(1)",
        group: Group::Server,
        args: &[KIND],
        ..Docs::NONE
    });

/// COMMANDLOG LEN type → number of entries.
fn commandlog_len(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let len = server.stats.logs.of(kind(args, 2)?).len();
    Ok(server.reply(key).int(len as i64))
}

const COMMANDLOG_RESET: Spec = Spec::admin("commandlog|reset", 3, commandlog_reset)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Empties one log.",
        since: "8.1.0",
        complexity: "O(N) for N entries",
        group: Group::Server,
        args: &[KIND],
        ..Docs::NONE
    });

/// COMMANDLOG RESET type → OK. Empties that log.
fn commandlog_reset(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.stats.logs.of_mut(kind(args, 2)?).clear();
    Ok(server.reply(key).ok())
}

const COMMANDLOG_HELP: Spec =
    Spec::admin("commandlog|help", 2, commandlog_help).flags(Flags::LOADING.with(Flags::STALE)).docs(Docs {
        summary: "Describes the subcommands.",
        since: "8.1.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// COMMANDLOG HELP → descriptions of the subcommands.
fn commandlog_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "COMMANDLOG",
        &[
            (
                "GET <count> <type>",
                "The latest <count> commands of a log (all of them if -1). Each is told by:\n\
                 number, Unix time, size, arguments, address and name of the client. The size is\n\
                 - the run time in microseconds for SLOW,\n\
                 - the bytes of the request for LARGE-REQUEST,\n\
                 - the bytes of the reply for LARGE-REPLY.",
            ),
            ("LEN <type>", "How many commands of a log are remembered."),
            ("RESET <type>", "Forget them."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};

    /// Size and arguments of the entries of a log, newest first.
    fn entries(harness: &Harness, kind: &[u8]) -> Vec<(u64, String)> {
        let kind = super::LogKind::from_name(kind).expect("a kind");
        let text = |entry: &crate::stats::slowlog::Entry| {
            String::from_utf8_lossy(&entry.args.join(&b' ')).into_owned()
        };
        harness.server.stats.logs.of(kind).iter().map(|entry| (entry.value, text(entry))).collect()
    }

    #[test]
    fn errors() {
        check(
            r#"
            SLOWLOG
            SLOWLOG GET x
            SLOWLOG GET -2
            SLOWLOG GET 1 2
            SLOWLOG LEN 1
            SLOWLOG LEN
            SLOWLOG GET
            SLOWLOG nosuch
            COMMANDLOG GET 1
            COMMANDLOG GET x y
            COMMANDLOG GET 1 y
            COMMANDLOG GET -1 slow
            COMMANDLOG LEN y
            COMMANDLOG RESET y
            COMMANDLOG LEN Large-Reply
            COMMANDLOG RESET large-request
            "#,
            r#"
            (error) ERR wrong number of arguments for 'slowlog' command
            (error) ERR count should be greater than or equal to -1
            (error) ERR count should be greater than or equal to -1
            (error) ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.
            (error) ERR wrong number of arguments for 'slowlog|len' command
            (integer) 0
            (empty array)
            (error) ERR unknown subcommand 'nosuch'. Try SLOWLOG HELP.
            (error) ERR wrong number of arguments for 'commandlog|get' command
            (error) ERR count should be greater than or equal to -1
            (error) ERR type should be one of the following: slow, large-request, large-reply
            (empty array)
            (error) ERR type should be one of the following: slow, large-request, large-reply
            (error) ERR type should be one of the following: slow, large-request, large-reply
            (integer) 0
            OK
            "#,
        );
    }

    #[test]
    fn what_is_slow_enough_is_noted() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "CLIENT SETNAME me\nCONFIG SET slowlog-log-slower-than 0\nPING\nMULTI\nECHO x\nEXEC\nNOSUCH\nECHO",
            r#"
            OK
            OK
            PONG
            OK
            QUEUED
            1) "x"
            (error) ERR unknown command 'NOSUCH', with args beginning with:
            (error) ERR wrong number of arguments for 'echo' command
            "#,
        );
        check_with(
            &mut harness,
            "CONFIG SET masterauth secret commandlog-execution-slower-than -1\nPING",
            "OK\nPONG",
        );
        let noted: Vec<String> = entries(&harness, b"slow").into_iter().map(|(_, text)| text).collect();
        assert_eq!(noted, ["ECHO x", "MULTI", "PING", "CONFIG SET slowlog-log-slower-than 0"]);
        check_with(
            &mut harness,
            "CONFIG SET slowlog-log-slower-than 0\nCONFIG SET masterauth secret",
            "OK\nOK",
        );
        assert_eq!(entries(&harness, b"slow")[0].1, "CONFIG SET masterauth (redacted)");
        let shown = harness.run("SLOWLOG GET 1");
        assert!(shown.ends_with("5) \":0\"\n   6) \"me\""), "{shown}");
        check_with(&mut harness, "CONFIG SET slowlog-max-len 2\nSLOWLOG LEN", "OK\n(integer) 2");
        check_with(
            &mut harness,
            "CONFIG SET slowlog-log-slower-than 1000000\nSLOWLOG RESET\nSLOWLOG LEN",
            "OK\nOK\n(integer) 0",
        );
    }

    #[test]
    fn sizes_are_those_on_the_wire() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            CONFIG SET commandlog-request-larger-than 46 commandlog-reply-larger-than 14
            SET k 12345678901234567890
            GET k
            PING 1234
            PING 12345678
            COMMANDLOG LEN large-request
            COMMANDLOG LEN large-reply
            CONFIG SET commandlog-request-larger-than -1 commandlog-reply-larger-than -1
            PING 12345678
            "#,
            r#"
            OK
            OK
            "12345678901234567890"
            "1234"
            "12345678"
            (integer) 2
            (integer) 2
            OK
            "12345678"
            "#,
        );
        let requests = entries(&harness, b"large-request");
        let set = (47, "SET k 12345678901234567890".to_string());
        assert!(requests.contains(&set) && requests.iter().all(|(bytes, _)| *bytes >= 46), "{requests:?}");
        assert_eq!(entries(&harness, b"large-reply"), [(14, "PING 12345678".into()), (27, "GET k".into())]);
    }
}
