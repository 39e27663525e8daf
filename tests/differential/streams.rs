//! Random commands on streams and their groups: every reply must be equal, and so must the data.
//!
//! Ids are given, so that nothing depends on the time; what tells times is not asked. Redis 7.0 creates consumers by
//! other rules than what came after it, so that only the others are asked.

use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::commands_and_seed;
use crate::pair::{both, digests, shown, words};
use crate::support::{self, Oracle, ServerProcess};

#[test]
fn streams_are_those_of_redis_8_2() {
    compare(Oracle::Redis8_2);
}

#[test]
fn streams_are_those_of_valkey_9_1() {
    compare(Oracle::Valkey9_1);
}

fn compare(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let (commands, seed) = commands_and_seed(10_000);
    let options = ["--enable-debug-command", "yes", "--stream-node-max-entries", "5"];
    let (ours, theirs) =
        (ServerProcess::start(&support::spinel(), &options), ServerProcess::start(&program, &options));
    let mut clients = (ours.client(), theirs.client());
    let mut rng = Rng::new(seed);
    let mut history = Vec::new();
    for i in 0..commands {
        let args = request(&mut rng, oracle);
        let args = words(&args.iter().map(String::as_str).collect::<Vec<_>>());
        history.push(shown(&args));
        let (x, y) = both(&mut clients, &args);
        let recent = || history[history.len().saturating_sub(60)..].join("\n");
        assert!(
            x == y,
            "seed {seed}, command {i}:\n{}\n  spinel {}\n  theirs {}",
            recent(),
            quote::repr(&x),
            quote::repr(&y)
        );
        if i % 500 == 499 {
            let (x, y) = digests(&mut clients);
            assert!(x == y, "the data differ, seed {seed}, after command {i}:\n{}", recent());
        }
    }
}

/// A random request on one of a few keys.
fn request(rng: &mut Rng, oracle: Oracle) -> Vec<String> {
    let mut pick = |items: &[&str]| items[rng.index(items.len())].to_owned();
    let key = pick(&["x", "x", "y", "none"]);
    let (group, consumer) = (pick(&["g", "g", "h"]), pick(&["a", "b", "c"]));
    let mut id = || format!("{}-{}", rng.below(60), rng.below(3));
    let ids = [id(), id(), id()];
    let n = rng.below(12).to_string();
    let policy = match (oracle, rng.below(3)) {
        (Oracle::Redis8_2, policy) => ["KEEPREF", "DELREF", "ACKED"][policy as usize],
        _ => "",
    };
    let text = match rng.below(if oracle == Oracle::Redis8_2 { 25 } else { 22 }) {
        0..5 => format!("XADD {key} {} a {n}", ids[0]),
        5 => format!("XADD {key} MAXLEN = {n} {} a {n} b {n}", ids[0]),
        6 => format!("XADD {key} MINID ~ {} {}-* b x", ids[1], rng.below(60)),
        7 => format!("XDEL {key} {} {}", ids[0], ids[1]),
        8 => format!("XTRIM {key} MAXLEN ~ {n}"),
        9 => format!("XTRIM {key} MINID {}", ids[0]),
        10 => format!("XRANGE {key} {} {} COUNT {n}", ids[0], ids[1]),
        11 => format!("XREVRANGE {key} ({} - COUNT {n}", ids[0]),
        12 => format!("XGROUP CREATE {key} {group} {} MKSTREAM", if n > ids[0] { "0" } else { "$" }),
        13 => format!("XREADGROUP GROUP {group} {consumer} COUNT {n} STREAMS {key} >"),
        14 => format!("XREADGROUP GROUP {group} {consumer} NOACK COUNT 1 STREAMS {key} >"),
        15 => format!("XREADGROUP GROUP {group} {consumer} COUNT {n} STREAMS {key} {}", ids[0]),
        16 => format!("XACK {key} {group} {} {} {}", ids[0], ids[1], ids[2]),
        17 => format!("XPENDING {key} {group}"),
        18 => format!("XCLAIM {key} {group} {consumer} 0 {} {} FORCE", ids[0], ids[1]),
        19 => format!("XAUTOCLAIM {key} {group} {consumer} 0 {} COUNT 3 JUSTID", ids[0]),
        // Valkey tells the lag by an older rule.
        20 if oracle == Oracle::Valkey9_1 => format!("XLEN {key}"),
        20 => format!("XINFO GROUPS {key}"),
        21 => match rng.below(40) {
            0 => format!("DEL {key}"),
            1 => format!("XGROUP DESTROY {key} {group}"),
            2 => format!("XGROUP DELCONSUMER {key} {group} {consumer}"),
            3 => format!("XGROUP SETID {key} {group} {} ENTRIESREAD {n}", ids[0]),
            4 => "DEBUG RELOAD".to_owned(),
            5 => "COPY x y REPLACE".to_owned(),
            6 => format!("XSETID {key} {}", ids[0]),
            _ => format!("XREAD COUNT {n} STREAMS x y {} {}", ids[0], ids[1]),
        },
        // Redis 8.2 still goes by the position of a group that was destroyed, so that it keeps entries nobody needs.
        22 | 24 if policy == "ACKED" => format!("XDELEX {key} IDS 1 {}", ids[0]),
        22 => format!("XDELEX {key} {policy} IDS 2 {} {}", ids[0], ids[1]),
        23 => format!("XACKDEL {key} {group} {policy} IDS 2 {} {}", ids[0], ids[1]),
        _ => format!("XTRIM {key} MAXLEN = {n} {policy}"),
    };
    text.split_whitespace().map(str::to_owned).collect()
}
