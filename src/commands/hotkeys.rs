//! HOTKEYS: which keys cost most processor time, or most bytes of requests and replies.
//!
//! The forms, replies and errors are those that the documentation and the tests of Redis 8.6 describe.

use super::help::help;
use crate::clients::ClientKey;
use crate::keyspace::slot::{SLOTS, Slot};
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::watching::hot_keys::{Elapsed, HotKeys, Wanted};
use crate::stats::space_saving::SpaceSaving;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

/// Table entries of the HOTKEYS commands.
pub const COMMANDS: &[Spec] =
    &[Spec::container("hotkeys", -2, &[GET, HELP, RESET, START, STOP]).docs(Docs {
        summary: "Commands about the keys that cost most.",
        complexity: "That of the subcommand.",
        ..DOCS
    })];

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT);

const DOCS: Docs = Docs { since: "8.6.0", complexity: "O(1)", group: Group::Server, ..Docs::NONE };

/// Number of keys that are listed unless COUNT says otherwise, and the most.
const DEFAULT_KEYS: usize = 10;
const MOST_KEYS: i64 = 64;

const START: Spec = Spec::admin("hotkeys|start", -2, start).flags(FLAGS).docs(Docs {
    summary: "Begins to find the keys that cost most.",
    args: &[
        Arg::block(
            "metrics",
            &[Arg::integer("count"), Arg::word("cpu", "CPU").optional(), Arg::word("net", "NET").optional()],
        )
        .token("METRICS"),
        Arg::integer("k").token("COUNT").optional(),
        Arg::integer("seconds").token("DURATION").optional(),
        Arg::integer("ratio").token("SAMPLE").optional(),
        Arg::block("slots", &[Arg::integer("count"), Arg::integer("slot").multiple()])
            .token("SLOTS")
            .optional(),
    ],
    ..DOCS
});

/// HOTKEYS START METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio] [SLOTS count slot [slot …]] → OK.
fn start(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.finds_hot_keys() {
        return Err(Error::text("ERR hotkey tracking session already in progress"));
    }
    let wanted = parse(server, args)?;
    server.find_hot_keys(wanted);
    Ok(server.reply(key).ok())
}

fn parse(server: &Server, args: Args<'_>) -> Result<Wanted, Error> {
    let mut wanted =
        Wanted { cpu: false, net: false, keys: DEFAULT_KEYS, seconds: 0, ratio: 1, slots: Vec::new() };
    let number = |i: usize| args.get(i).ok_or(Error::Syntax).map(num::parse_i64);
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "METRICS") {
            i = parse_metrics(args, i + 1, &mut wanted)?;
            continue;
        } else if args.is(i, "COUNT") {
            let count = number(i + 1)?.filter(|count| (1..=MOST_KEYS).contains(count));
            wanted.keys = count.ok_or_else(|| Error::text("ERR COUNT must be between 1 and 64"))? as usize;
        } else if args.is(i, "DURATION") {
            let seconds = number(i + 1)?.and_then(|seconds| u64::try_from(seconds).ok());
            wanted.seconds = seconds.ok_or_else(|| Error::text("ERR DURATION must be non-negative"))?;
        } else if args.is(i, "SAMPLE") {
            let ratio = number(i + 1)?.filter(|ratio| *ratio > 0);
            wanted.ratio = ratio.ok_or_else(|| Error::text("ERR SAMPLE ratio must be positive"))? as u64;
        } else if args.is(i, "SLOTS") {
            i = parse_slots(server, args, i + 1, &mut wanted.slots)?;
            continue;
        } else {
            return Err(Error::Syntax);
        }
        i += 2;
    }
    if !wanted.cpu && !wanted.net {
        return Err(Error::text("ERR METRICS parameter is required"));
    }
    Ok(wanted)
}

/// The number of metrics and their names, from argument `i` on; returns the argument behind them. A name that is not
/// known is ignored beside one that is, so that requests for later servers are understood.
fn parse_metrics(args: Args<'_>, i: usize, wanted: &mut Wanted) -> Result<usize, Error> {
    let count =
        args.get(i).ok_or(Error::Syntax).map(num::parse_i64)?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0);
    let count = count.ok_or_else(|| Error::text("ERR METRICS count must be positive"))?;
    let end = i.saturating_add(1).saturating_add(count);
    if end > args.len() {
        return Err(Error::text("ERR METRICS count does not match number of metric types provided"));
    }
    for at in i + 1..end {
        for (name, chosen) in [("CPU", &mut wanted.cpu), ("NET", &mut wanted.net)] {
            if args.is(at, name) && std::mem::replace(chosen, true) {
                return Err(Error::text(format!("ERR METRICS {name} defined more than once")));
            }
        }
    }
    if !wanted.cpu && !wanted.net {
        return Err(Error::text("ERR METRICS no valid metrics passed"));
    }
    Ok(end)
}

/// The number of slots and the slots, from argument `i` on; returns the argument behind them.
fn parse_slots(server: &Server, args: Args<'_>, i: usize, slots: &mut Vec<Slot>) -> Result<usize, Error> {
    let Some(cluster) = &server.cluster else {
        return Err(Error::text("ERR SLOTS parameter cannot be used in non-cluster mode"));
    };
    if !slots.is_empty() {
        return Err(Error::text("ERR SLOTS parameter already specified"));
    }
    let count =
        args.get(i).ok_or(Error::Syntax).map(num::parse_i64)?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=SLOTS).contains(count));
    let count = count.ok_or_else(|| Error::text("ERR SLOTS count must be between 1 and 16384"))?;
    let end = i + 1 + count;
    if end > args.len() {
        return Err(Error::text("ERR not enough slot numbers provided"));
    }
    let nodes = &cluster.machine.nodes;
    for at in i + 1..end {
        let slot = Slot::parse(args.at(at)).ok_or_else(|| Error::text("ERR Invalid or out of range slot"))?;
        if nodes.owner(slot).is_none() || nodes.owner(slot) != nodes.my_primary() {
            return Err(Error::text(format!("ERR slot {} not handled by this node", slot.number())));
        }
        slots.push(slot);
    }
    slots.sort_unstable();
    if slots.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::text("ERR duplicate slot number"));
    }
    Ok(end)
}

const STOP: Spec = Spec::admin("hotkeys|stop", 2, stop)
    .flags(FLAGS)
    .docs(Docs { summary: "Ends to find the keys that cost most, and keeps what was found.", ..DOCS });

/// HOTKEYS STOP → OK.
fn stop(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    if !server.finds_hot_keys() {
        return Err(Error::text("ERR no hotkey tracking session in progress"));
    }
    server.end_hot_keys(UnixMillis::now());
    Ok(server.reply(key).ok())
}

const RESET: Spec = Spec::admin("hotkeys|reset", 2, reset)
    .flags(FLAGS)
    .docs(Docs { summary: "Forgets what was found about the keys that cost most.", ..DOCS });

/// HOTKEYS RESET → OK.
fn reset(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    if server.finds_hot_keys() {
        return Err(Error::text("ERR hotkey tracking session in progress, stop tracking first"));
    }
    server.hot_keys = None;
    Ok(server.reply(key).ok())
}

const GET: Spec = Spec::admin("hotkeys|get", 2, get).flags(FLAGS).docs(Docs {
    summary: "Tells the keys that cost most.",
    complexity: "O(K) where K is the number of keys told.",
    ..DOCS
});

/// HOTKEYS GET → a list of one map, in RESP2 a flat list; null if nothing was started.
fn get(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.finds_hot_keys();
    let Some(found) = server.hot_keys.take() else { return Ok(server.reply(key).null()) };
    let elapsed = server.hot_keys_elapsed(&found);
    let slots = match &server.cluster {
        _ if !found.wanted.slots.is_empty() => ranges(found.wanted.slots.iter().copied()),
        Some(cluster) => {
            let nodes = &cluster.machine.nodes;
            let mine = |slot: &Slot| nodes.owner(*slot).is_some() && nodes.owner(*slot) == nodes.my_primary();
            ranges(Slot::all().filter(mine))
        }
        None => ranges(Slot::all()),
    };
    let replied = write(&mut server.reply(key), &found, &elapsed, &slots);
    server.hot_keys = Some(found);
    Ok(replied)
}

/// First and last slots of runs of slots.
fn ranges(slots: impl Iterator<Item = Slot>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot.number() => *last += 1,
            _ => ranges.push((slot.number(), slot.number())),
        }
    }
    ranges
}

fn write(reply: &mut Reply<'_>, found: &HotKeys, elapsed: &Elapsed, slots: &[(u16, u16)]) -> Replied {
    let (wanted, number) = (&found.wanted, |n: u64| i64::try_from(n).unwrap_or(i64::MAX));
    let (by_slot, sampled) = (!wanted.slots.is_empty(), wanted.ratio > 1);
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let numbers = [
        (by_slot && sampled, "sampled-commands-selected-slots-us", found.sampled.ns / 1000),
        (by_slot, "all-commands-selected-slots-us", found.selected.ns / 1000),
        (true, "all-commands-all-slots-us", found.all.ns / 1000),
        (by_slot && sampled, "net-bytes-sampled-commands-selected-slots", found.sampled.bytes),
        (by_slot, "net-bytes-all-commands-selected-slots", found.selected.bytes),
        (true, "net-bytes-all-commands-all-slots", found.all.bytes),
        (true, "collection-start-time-unix-ms", u64::try_from(elapsed.began.0).unwrap_or(0)),
        (true, "collection-duration-ms", elapsed.ms),
        (wanted.cpu, "total-cpu-time-user-ms", ms(elapsed.cpu.user)),
        (wanted.cpu, "total-cpu-time-sys-ms", ms(elapsed.cpu.system)),
        (wanted.net, "total-net-bytes", elapsed.net),
    ];
    let lists: [(&str, &Option<SpaceSaving>, u64); 2] =
        [("by-cpu-time-us", &found.cpu, 1000), ("by-net-bytes", &found.net, 1)];
    let fields = numbers.iter().filter(|(told, ..)| *told).count();
    reply.array(1);
    reply.map(3 + fields + lists.iter().filter(|(_, sketch, _)| sketch.is_some()).count());
    reply.bulk(b"tracking-active");
    reply.int(i64::from(found.is_active()));
    reply.bulk(b"sample-ratio");
    reply.int(number(wanted.ratio));
    reply.bulk(b"selected-slots");
    let mut done = reply.array(slots.len());
    for &(first, last) in slots {
        reply.array(if first == last { 1 } else { 2 });
        done = reply.int(i64::from(first));
        if first != last {
            done = reply.int(i64::from(last));
        }
    }
    for &(_, name, value) in numbers.iter().filter(|(told, ..)| *told) {
        reply.bulk(name.as_bytes());
        done = reply.int(number(value));
    }
    for (name, sketch, unit) in lists {
        let Some(sketch) = sketch else { continue };
        let top = sketch.top(wanted.keys);
        reply.bulk(name.as_bytes());
        done = reply.array(2 * top.len());
        for (key, sum) in top {
            reply.bulk(key);
            done = reply.int(number(sum / unit));
        }
    }
    done
}

const HELP: Spec = Spec::admin("hotkeys|help", 2, help_text)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Describes the subcommands.", since: "8.6.1", ..DOCS });

/// HOTKEYS HELP → descriptions of the subcommands.
fn help_text(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "HOTKEYS",
        &[
            ("GET", "The keys that cost most, and sums over all requests."),
            ("RESET", "Forget what was found."),
            (
                "START METRICS <count> [CPU] [NET] [COUNT <k>] [DURATION <seconds>] [SAMPLE <ratio>] [SLOTS <count> <slot> \
                 [<slot> ...]]",
                "Begin to find the <k> keys that take most processor time (CPU), or most bytes of requests and\n\
                 replies (NET), by looking at one in <ratio> requests.",
            ),
            ("STOP", "End it, and keep what was found."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    #[test]
    fn what_is_wrong_is_told() {
        check(
            "
            HOTKEYS GET
            HOTKEYS STOP
            HOTKEYS RESET
            HOTKEYS START
            HOTKEYS START COUNT 5
            HOTKEYS START METRICS
            HOTKEYS START METRICS 0
            HOTKEYS START METRICS -1
            HOTKEYS START METRICS 2 CPU
            HOTKEYS START METRICS 3 CPU NET
            HOTKEYS START METRICS 1 CPU NET
            HOTKEYS START METRICS 1 GPU
            HOTKEYS START METRICS 2 CPU CPU
            HOTKEYS START METRICS 2 net Net
            HOTKEYS START METRICS 1 CPU COUNT 0
            HOTKEYS START METRICS 1 CPU COUNT 65
            HOTKEYS START METRICS 1 CPU COUNT
            HOTKEYS START METRICS 1 CPU SAMPLE 0
            HOTKEYS START METRICS 1 CPU DURATION -1
            HOTKEYS START METRICS 1 CPU SLOTS 2 0 5
            HOTKEYS START METRICS 9223372036854775807 CPU
            HOTKEYS START METRICS 2 GPU CPU COUNT 64 SAMPLE 5
            HOTKEYS START METRICS 1 NET
            HOTKEYS RESET
            HOTKEYS STOP
            HOTKEYS STOP
            HOTKEYS RESET
            HOTKEYS GET
            ",
            "
            (nil)
            (error) ERR no hotkey tracking session in progress
            OK
            (error) ERR METRICS parameter is required
            (error) ERR METRICS parameter is required
            (error) ERR syntax error
            (error) ERR METRICS count must be positive
            (error) ERR METRICS count must be positive
            (error) ERR METRICS count does not match number of metric types provided
            (error) ERR METRICS count does not match number of metric types provided
            (error) ERR syntax error
            (error) ERR METRICS no valid metrics passed
            (error) ERR METRICS CPU defined more than once
            (error) ERR METRICS NET defined more than once
            (error) ERR COUNT must be between 1 and 64
            (error) ERR COUNT must be between 1 and 64
            (error) ERR syntax error
            (error) ERR SAMPLE ratio must be positive
            (error) ERR DURATION must be non-negative
            (error) ERR SLOTS parameter cannot be used in non-cluster mode
            (error) ERR METRICS count does not match number of metric types provided
            OK
            (error) ERR hotkey tracking session already in progress
            (error) ERR hotkey tracking session in progress, stop tracking first
            OK
            (error) ERR no hotkey tracking session in progress
            OK
            (nil)
            ",
        );
    }

    /// The lines of HOTKEYS GET, without numbering.
    fn told(harness: &mut Harness) -> Vec<String> {
        let shown = harness.run("HOTKEYS GET");
        shown
            .lines()
            .filter_map(|line| line.rsplit(") ").next())
            .map(|word| word.trim_matches('"').to_string())
            .collect()
    }

    fn after<'a>(lines: &'a [String], field: &str) -> &'a [String] {
        let at =
            lines.iter().position(|line| line == field).unwrap_or_else(|| panic!("no {field} in {lines:?}"));
        &lines[at + 1..]
    }

    #[test]
    fn the_keys_with_most_bytes_are_told() {
        let mut harness = Harness::default();
        harness.run("HOTKEYS START METRICS 1 NET COUNT 2");
        for line in [
            "SET small 1",
            "SET large xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "GET large",
            "GET middle",
            "SET middle 1",
        ] {
            harness.run(line);
        }
        let lines = told(&mut harness);
        assert_eq!(after(&lines, "tracking-active")[0], "1");
        assert_eq!(after(&lines, "selected-slots")[..2], ["0", "16383"]);
        let keys = after(&lines, "by-net-bytes");
        assert_eq!((keys.len(), &*keys[0], &*keys[2]), (4, "large", "middle"));
        assert!(!lines.iter().any(|line| line == "by-cpu-time-us" || line == "total-cpu-time-user-ms"));
        harness.run("HOTKEYS STOP");
        let before = told(&mut harness);
        assert_eq!(after(&before, "tracking-active")[0], "0");
        harness.run("SET small 2");
        assert_eq!(told(&mut harness), before, "nothing counts any more");
    }

    #[test]
    fn transactions_count_by_request_and_scripts_as_one() {
        let mut harness = Harness::default();
        harness.run("HOTKEYS START METRICS 2 CPU NET");
        for line in ["MULTI", "SET a 1", "SET b 2", "SET b 3", "EXEC"] {
            harness.run(line);
        }
        harness.run("EVAL \"redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[1], 2)\" 1 c");
        let lines = told(&mut harness);
        for list in ["by-cpu-time-us", "by-net-bytes"] {
            let keys: Vec<&String> = after(&lines, list).iter().step_by(2).take(3).collect();
            assert!(["a", "b", "c"].iter().all(|key| keys.iter().any(|known| known == key)), "{lines:?}");
        }
        let net = after(&lines, "by-net-bytes");
        let bytes =
            |key: &str| after(net, key)[0].trim_start_matches("(integer) ").parse::<u64>().expect("a number");
        assert_eq!(bytes("b"), 2 * bytes("a"), "{lines:?}");
    }
}
