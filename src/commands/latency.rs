//! LATENCY: events that made clients wait, and distributions of command run times.

use super::help::help;
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Reply};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, CommandId, Docs, Flags, Group, Spec};
use crate::stats::CommandStats;
use crate::stats::latency::Sample;
use crate::stdx::clock::UnixMillis;

/// Table entries of the LATENCY commands.
pub const COMMANDS: &[Spec] = &[LATENCY];

const LATENCY: Spec = Spec::container(
    "latency",
    -2,
    &[
        LATENCY_DOCTOR,
        LATENCY_GRAPH,
        LATENCY_HELP,
        LATENCY_HISTOGRAM,
        LATENCY_HISTORY,
        LATENCY_LATEST,
        LATENCY_RESET,
    ],
)
.docs(Docs {
    summary: "Commands about what made clients wait.",
    since: "2.8.13",
    complexity: "That of the subcommand.",
    group: Group::Server,
    ..Docs::NONE
});

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);
const FROM_EACH_NODE: &[&str] =
    &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
const DOCS: Docs = Docs { since: "2.8.13", complexity: "O(1)", group: Group::Server, ..Docs::NONE };

const LATENCY_LATEST: Spec = Spec::admin("latency|latest", 2, latency_latest)
    .flags(FLAGS)
    .tips(FROM_EACH_NODE)
    .docs(Docs { summary: "Tells the latest and the longest wait for each cause.", ..DOCS });

/// LATENCY LATEST → for each event: name, Unix time and milliseconds of the latest occurrence, milliseconds of the
/// longest.
fn latency_latest(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let latest: Vec<(&str, Sample, u64)> =
        server.stats.latency.all().map(|(name, series)| (name, series.latest(), series.max_ms())).collect();
    let mut reply = server.reply(key);
    let mut done = reply.array(latest.len());
    for (name, sample, max_ms) in latest {
        reply.array(4);
        reply.bulk(name.as_bytes());
        reply.int(sample.at_s);
        reply.int(sample.ms as i64);
        done = reply.int(max_ms as i64);
    }
    Ok(done)
}

const LATENCY_HISTORY: Spec = Spec::admin("latency|history", 3, latency_history)
    .flags(FLAGS)
    .tips(FROM_EACH_NODE)
    .docs(Docs { summary: "Lists the waits for one cause.", args: &[Arg::string("event")], ..DOCS });

/// LATENCY HISTORY event → Unix time and milliseconds of each occurrence.
fn latency_history(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let series = server.stats.latency.series(args.at(2));
    let samples: Vec<Sample> = series.into_iter().flat_map(|series| series.samples()).collect();
    let mut reply = server.reply(key);
    let mut done = reply.array(samples.len());
    for sample in samples {
        reply.array(2);
        reply.int(sample.at_s);
        done = reply.int(sample.ms as i64);
    }
    Ok(done)
}

const LATENCY_RESET: Spec = Spec::admin("latency|reset", -2, latency_reset)
    .flags(FLAGS)
    .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Forgets the waits for some causes, or for all.",
        args: &[Arg::string("event").optional().multiple()],
        ..DOCS
    });

/// LATENCY RESET [event …] → number of events whose history was deleted.
fn latency_reset(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let latency = &mut server.stats.latency;
    let forgotten = match args.len() {
        2 => latency.reset(None),
        _ => args.rest(2).iter().map(|cause| latency.reset(Some(cause))).sum(),
    };
    Ok(server.reply(key).int(forgotten as i64))
}

const LATENCY_GRAPH: Spec = Spec::admin("latency|graph", 3, latency_graph)
    .flags(FLAGS)
    .tips(FROM_EACH_NODE)
    .docs(Docs { summary: "Draws the waits for one cause.", args: &[Arg::string("event")], ..DOCS });

/// LATENCY GRAPH event → a graph made of characters.
fn latency_graph(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let cause = args.at(2);
    let Some(series) = server.stats.latency.series(cause) else {
        return Err(Error::quoting(&[b"ERR No samples available for event '", cause, b"'"]));
    };
    let text = series.graph(&String::from_utf8_lossy(cause), UnixMillis::now().as_secs());
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

const LATENCY_DOCTOR: Spec = Spec::admin("latency|doctor", 2, latency_doctor)
    .flags(FLAGS)
    .tips(FROM_EACH_NODE)
    .docs(Docs { summary: "Reports what made clients wait, and what may help.", ..DOCS });

/// LATENCY DOCTOR → a report, as text.
fn latency_doctor(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let text = server.stats.latency.report(UnixMillis::now().as_secs());
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

const LATENCY_HISTOGRAM: Spec =
    Spec::admin("latency|histogram", -2, latency_histogram).flags(FLAGS).tips(FROM_EACH_NODE).docs(Docs {
        summary: "Tells how the run times of commands are distributed.",
        since: "7.0.0",
        complexity: "O(N) for N commands",
        args: &[Arg::string("COMMAND").optional().multiple()],
        ..DOCS
    });

/// LATENCY HISTOGRAM [command …] → for each command that has run: number of calls, and a histogram of microseconds.
fn latency_histogram(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let commands = &server.commands;
    let mut wanted: Vec<CommandId> = Vec::new();
    if args.len() == 2 {
        wanted.extend(commands.iter().map(|(id, _)| id));
    }
    for id in args.rest(2).iter().filter_map(|name| commands.find_full(name)) {
        wanted.push(id);
        let prefix = commands.spec(id).subcommands;
        let is_sub = |spec: &Spec| prefix.iter().any(|sub| sub.name == spec.name);
        wanted.extend(commands.iter().filter(|(_, spec)| is_sub(spec)).map(|(id, _)| id));
    }
    let found: Vec<(&'static str, CommandStats)> = wanted
        .into_iter()
        .map(|id| (commands.spec(id).name, &server.stats.commands[id.0 as usize]))
        .filter(|(_, stats)| stats.latency.is_some())
        .map(|(name, stats)| (name, stats.clone()))
        .collect();
    let mut reply = server.reply(key);
    let mut done = reply.map(found.len());
    for (name, stats) in &found {
        reply.bulk(name.as_bytes());
        done = distribution(&mut reply, stats);
    }
    Ok(done)
}

/// Run times of one command.
fn distribution(reply: &mut Reply<'_>, stats: &CommandStats) -> crate::resp::Replied {
    let latency = stats.latency.as_ref();
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(latency.map_or(0, |latency| latency.total()) as i64);
    reply.bulk(b"histogram_usec");
    let at = reply.defer();
    let mut n = 0;
    for (us, calls) in latency.into_iter().flat_map(|latency| latency.cumulative()) {
        reply.int(us as i64);
        reply.int(calls as i64);
        n += 1;
    }
    reply.end_map(at, n)
}

const LATENCY_HELP: Spec = Spec::admin("latency|help", 2, latency_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Describes the subcommands.", ..DOCS });

/// LATENCY HELP → descriptions of the subcommands.
fn latency_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "LATENCY",
        &[
            ("DOCTOR", "What made clients wait, and what may help."),
            ("GRAPH <event>", "A picture of the waits for one cause."),
            ("HISTORY <event>", "Time and duration of the waits for one cause."),
            ("LATEST", "The latest and the longest wait for each cause."),
            ("RESET [<event> ...]", "Forget the waits for these causes, or for all."),
            (
                "HISTOGRAM [<command> ...]",
                "How many calls of these commands, or of all, took up to so many microseconds.",
            ),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::commands::testing::{Harness, check_with};
    use crate::resp::Protocol;
    use crate::stats::latency::event;

    #[test]
    fn waits_are_listed() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "LATENCY LATEST\nLATENCY HISTORY command\nLATENCY GRAPH command\nLATENCY RESET\n\
             CONFIG SET latency-monitor-threshold 20\nLATENCY HISTORY\nLATENCY HELP x",
            r#"
            (empty array)
            (empty array)
            (error) ERR No samples available for event 'command'
            (integer) 0
            OK
            (error) ERR wrong number of arguments for 'latency|history' command
            (error) ERR wrong number of arguments for 'latency|help' command
            "#,
        );
        for (cause, ms) in [(event::COMMAND, 30), (event::FORK, 10), (event::EXPIRE_CYCLE, 40)] {
            harness.server.stats.latency.note(cause, Duration::from_millis(ms));
        }
        let latest = harness.run("LATENCY LATEST");
        assert!(latest.contains("\"command\"") && latest.contains("\"expire-cycle\""), "{latest}");
        assert!(!latest.contains("fork"), "{latest}");
        assert!(harness.run("LATENCY HISTORY command").ends_with("2) (integer) 30"));
        assert!(
            harness.run("LATENCY GRAPH expire-cycle").starts_with("\"expire-cycle - high 40 ms, low 40 ms (")
        );
        assert!(harness.run("LATENCY DOCTOR").contains("SLOWLOG"));
        check_with(&mut harness, "LATENCY RESET Command nosuch\nLATENCY RESET", "(integer) 1\n(integer) 1");
    }

    #[test]
    fn keys_that_took_long_to_free_are_reported() {
        let mut harness = Harness::default();
        harness.server.keyspace.removals.expired = Duration::from_millis(30);
        check_with(&mut harness, "PING\nCONFIG SET latency-monitor-threshold 20\nPING", "PONG\nOK\nPONG");
        assert!(harness.run("LATENCY HISTORY expire-del").ends_with("2) (integer) 30"));
        harness.server.keyspace.removals.evicted = Duration::from_millis(40);
        check_with(&mut harness, "PING", "PONG");
        assert!(harness.run("LATENCY HISTORY eviction-del").ends_with("2) (integer) 40"));
        check_with(&mut harness, "SET k v PX 1", "OK");
        std::thread::sleep(Duration::from_millis(3));
        check_with(&mut harness, "GET k\nCONFIG SET latency-monitor-threshold 0", "(nil)\nOK");
        assert!(!harness.server.keyspace.removals.timed);
    }

    #[test]
    fn histograms_of_commands_that_ran() {
        let mut harness = Harness::default();
        check_with(&mut harness, "SET a b\nSET a c\nCLIENT ID\nCLIENT GETNAME", "OK\nOK\n(integer) 1\n(nil)");
        let mut ask = |words: &[&[u8]]| String::from_utf8(harness.raw(words)).expect("text");
        assert!(
            ask(&[b"latency", b"histogram", b"set"])
                .starts_with("*2\r\n$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:2\r\n")
        );
        assert!(ask(&[b"latency", b"histogram", b"client"]).starts_with("*4\r\n$14\r\nclient|getname\r\n"));
        assert!(ask(&[b"latency", b"histogram", b"client|id"]).starts_with("*2\r\n$9\r\nclient|id\r\n"));
        assert_eq!(ask(&[b"latency", b"histogram", b"get", b"nosuch", b"client|x"]), "*0\r\n");
        harness.server.clients[harness.client].protocol = Protocol::Resp3;
        let all = String::from_utf8(harness.raw(&[b"latency", b"histogram"])).expect("text");
        assert!(all.starts_with("%4\r\n") && all.contains("$14\r\nhistogram_usec\r\n%"), "{all}");
    }
}
