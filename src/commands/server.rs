//! Commands about the server as a whole: flushing, sizes, memory, role, shutdown.

use super::help::help;
use super::info::{MemoryReport, ratio};
use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::config::value::ShutdownFlags;
use crate::keyspace::Keyspace;
use crate::resp::{Args, Error, Replied};
use crate::server::Server;
use crate::server::command::{
    Acl, Arg, CmdResult, Ctx, Databases, Docs, Flags, Group, KeyFlags, KeySpec, Spec,
};
use crate::stdx::rng::Rng;
use crate::stdx::{alloc, clock, num};

/// Table entries of the commands on the whole server.
pub const COMMANDS: &[Spec] = &[DBSIZE, FLUSHALL, FLUSHDB, LOLWUT, MEMORY, SHUTDOWN, SWAPDB, TIME];

const DBSIZE: Spec = Spec::data("dbsize", 1, dbsize)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Counts the keys of the selected database.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// DBSIZE → the number of keys in the selected database.
fn dbsize(ctx: &mut Ctx<'_>) -> CmdResult {
    let n = ctx.db.database().shown_len();
    Ok(ctx.reply.int(n as i64))
}

const HOW_TO_FLUSH: &[Arg] = &[Arg::one_of(
    "flush-type",
    &[Arg::word("async", "ASYNC").since("4.0.0"), Arg::word("sync", "SYNC").since("6.2.0")],
)
.optional()];

const FLUSHALL: Spec = Spec::admin("flushall", -1, flushall)
    .flags(Flags::WRITE)
    .databases(Databases::All)
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Removes all keys of all databases.",
        since: "1.0.0",
        complexity: "O(N) for N keys in all databases; O(1) when they are freed in the background",
        group: Group::Server,
        history: &[("4.0.0", "Added the option `ASYNC`."), ("6.2.0", "Added the option `SYNC`.")],
        args: HOW_TO_FLUSH,
        ..Docs::NONE
    });

/// FLUSHALL [ASYNC | SYNC] → OK. Removes all keys of all databases.
fn flushall(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let lazily = flush_lazily(&args, &server.keyspace)?;
    let answered = flush(server, key, None, lazily);
    server.emptied_on_demand();
    Ok(answered)
}

const FLUSHDB: Spec = Spec::admin("flushdb", -1, flushdb)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Removes all keys of the selected database.",
        since: "1.0.0",
        complexity: "O(N) for N keys in the database; O(1) when they are freed in the background",
        group: Group::Server,
        history: &[("4.0.0", "Added the option `ASYNC`."), ("6.2.0", "Added the option `SYNC`.")],
        args: HOW_TO_FLUSH,
        ..Docs::NONE
    });

/// FLUSHDB [ASYNC | SYNC] → OK. Removes all keys of the selected database.
fn flushdb(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let lazily = flush_lazily(&args, &server.keyspace)?;
    let db = server.clients[key].db as usize;
    Ok(flush(server, key, Some(db), lazily))
}

/// Removes all keys of a database, or of all. The reply to SYNC says that their memory is free: a client that can wait
/// for it waits, while the others are served.
fn flush(server: &mut Server, key: ClientKey, db: Option<usize>, lazily: bool) -> Replied {
    let waits = !lazily && server.can_wait(key);
    let removed = server.keyspace.flush(db, lazily || waits);
    if waits && removed > 0 {
        let job = server.keyspace.reclaimer.last_job();
        server.execution.wait = Some(Wait::Memory { job });
        return Replied::later();
    }
    server.reply(key).ok()
}

/// Whether to free the keys in the background.
fn flush_lazily(args: &Args<'_>, space: &Keyspace) -> Result<bool, Error> {
    match args.len() {
        1 => Ok(space.lazy.user_flush),
        2 if args.is(1, "ASYNC") => Ok(true),
        2 if args.is(1, "SYNC") => Ok(false),
        _ => Err(Error::Syntax),
    }
}

const SWAPDB: Spec = Spec::data("swapdb", 3, swapdb)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .databases(Databases::Named(|_, found| (1..3).for_each(found)))
    .docs(Docs {
        summary: "Lets two databases change places.",
        since: "4.0.0",
        complexity: "O(N) for N clients that watch or wait for keys of either database",
        group: Group::Server,
        args: &[Arg::integer("index1"), Arg::integer("index2")],
        ..Docs::NONE
    });

/// SWAPDB index1 index2 → OK. Clients of each database see the keys of the other.
fn swapdb(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.db.database().keys().is_by_slot() {
        return Err(Error::text("ERR SWAPDB is not allowed in cluster mode"));
    }
    let index = |i: usize, which: &str| {
        let n = num::parse_i64(ctx.args.at(i)).filter(|n| i32::try_from(*n).is_ok());
        n.ok_or_else(|| Error::text(format!("ERR invalid {which} DB index")))
    };
    let (a, b) = (index(1, "first")?, index(2, "second")?);
    let existing = 0..ctx.db.databases() as i64;
    if !existing.contains(&a) || !existing.contains(&b) {
        return Err(Error::text("ERR DB index is out of range"));
    }
    if a != b {
        ctx.db.space().swap(a as usize, b as usize);
    } else {
        // Counted and propagated like other changes, although no key moved.
        ctx.db.space().ledger.count(1);
    }
    Ok(ctx.reply.ok())
}

const TIME: Spec = Spec::data("time", 1, time)
    .flags(Flags::LOADING.with(Flags::STALE).with(Flags::FAST))
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells the time of the server's clock.",
        since: "2.6.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// TIME → Unix time: seconds, and microseconds of the second.
fn time(ctx: &mut Ctx<'_>) -> CmdResult {
    // Time stands still while a script runs.
    let now_us = if ctx.from_script { ctx.now.0 * 1000 } else { clock::now_us() };
    ctx.reply.array(2);
    ctx.reply.bulk_int(now_us / 1_000_000);
    Ok(ctx.reply.bulk_int(now_us % 1_000_000))
}

const SHUTDOWN: Spec = Spec::admin("shutdown", -1, shutdown)
    .flags(
        Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::NO_MULTI)
            .with(Flags::ALLOW_BUSY),
    )
    .docs(Docs {
        summary: "Ends the server, saving the data first if so configured or asked.",
        since: "1.0.0",
        complexity: "O(N) for N keys when they are saved, else O(1)",
        group: Group::Server,
        history: &[
            ("7.0.0", "Added the options `NOW`, `FORCE` and `ABORT`."),
            ("9.0.0", "Added the options `SAFE` and `FAILOVER`."),
        ],
        args: &[
            Arg::one_of("save-selector", &[Arg::word("nosave", "NOSAVE"), Arg::word("save", "SAVE")])
                .optional(),
            Arg::word("now", "NOW").since("7.0.0").optional(),
            Arg::word("force", "FORCE").since("7.0.0").optional(),
            Arg::word("safe", "SAFE").since("9.0.0").optional(),
            Arg::word("failover", "FAILOVER").since("9.0.0").optional(),
            Arg::word("abort", "ABORT").since("7.0.0").optional(),
        ],
        ..Docs::NONE
    });

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER] | ABORT → no reply: the server ends and closes the
/// connection, once its replicas have everything. SAFE refuses to while this node serves slots of a cluster. FAILOVER
/// is for nodes of a cluster, which hand over to a replica first; one that has replicas is refused, as it cannot.
fn shutdown(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let Some((flags, failover)) = shutdown_flags(&args)? else {
        server.abort_shutdown()?;
        return Ok(server.reply(key).ok());
    };
    if failover {
        match &server.cluster {
            None => return Err(Error::text("ERR SHUTDOWN FAILOVER is only supported in cluster mode.")),
            Some(cluster) if cluster.has_replicas() => {
                return Err(Error::text(
                    "ERR SHUTDOWN FAILOVER does not hand over to a replica. Send CLUSTER FAILOVER to one first.",
                ));
            }
            Some(_) => {}
        }
    }
    if server.execution.depth > 0 && !flags.now {
        return Err(Error::text("ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client"));
    }
    if !flags.nosave {
        server.no_script_runs()?;
    }
    if !server.begin_shutdown(flags)? {
        server.execution.wait = Some(Wait::Shutdown);
    }
    Ok(Replied::later())
}

/// Options of the shutdown, and whether a replica takes over; `None` to abort one.
fn shutdown_flags(args: &Args<'_>) -> Result<Option<(ShutdownFlags, bool)>, Error> {
    let mut flags = ShutdownFlags::default();
    let (mut abort, mut failover) = (false, false);
    for i in 1..args.len() {
        let word = |word: &str| args.is(i, word);
        if word("NOSAVE") {
            flags.nosave = true;
        } else if word("SAVE") {
            flags.save = true;
        } else if word("NOW") {
            flags.now = true;
        } else if word("FORCE") {
            flags.force = true;
        } else if word("SAFE") {
            flags.safe = true;
        } else if word("FAILOVER") {
            failover = true;
        } else if word("ABORT") {
            abort = true;
        } else {
            return Err(Error::Syntax);
        }
    }
    if flags.save && flags.nosave || abort && (failover || flags != ShutdownFlags::default()) {
        return Err(Error::Syntax);
    }
    Ok((!abort).then_some((flags, failover)))
}

const LOLWUT: Spec = Spec::admin("lolwut", -1, lolwut).flags(Flags::READONLY.with(Flags::FAST)).docs(Docs {
    summary: "Draws something, and tells the version.",
    since: "5.0.0",
    group: Group::Server,
    args: &[Arg::integer("version").token("VERSION").optional()],
    ..Docs::NONE
});

/// LOLWUT [VERSION n] [columns [rows]] → a picture, then the version.
fn lolwut(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mut sizes = args.rest(1);
    if args.is(1, "VERSION") && args.len() >= 3 {
        args.int(2)?;
        sizes = args.rest(3);
    }
    let size = |i: usize, usual: i64, most: i64| {
        let wanted = sizes.get(i).and_then(num::parse_i64).unwrap_or(usual);
        wanted.clamp(1, most) as usize
    };
    let (columns, rows) = (size(0, 56, 160), size(1, 14, 60));
    let mut text = octahedron(columns, rows, &mut server.keyspace.rng);
    let (name, version) = server.config.limits.compat_version.server();
    let name = if name == "redis" { "Redis" } else { "Valkey" };
    text.push_str(&format!("\n{name} ver. {version}\n"));
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

/// A spinel crystal, which is an octahedron: facets of random brightness around a random vertical edge.
fn octahedron(columns: usize, rows: usize, rng: &mut Rng) -> String {
    const SHADES: &[u8] = b".:-=+*#%@";
    let edge = 0.25 + 0.5 * rng.f64();
    let mut facets = [0usize; 4];
    for facet in &mut facets {
        *facet = rng.index(SHADES.len());
    }
    let mut text = String::with_capacity((columns + 1) * rows);
    for row in 0..rows {
        // The girdle lies in the middle; above and below it the outline narrows to a point.
        let height = (row as f64 + 0.5) / rows as f64 * 2.0 - 1.0;
        let half_width = (1.0 - height.abs()) / 2.0;
        for column in 0..columns {
            let x = (column as f64 + 0.5) / columns as f64;
            let inside = (x - 0.5).abs() <= half_width;
            // The edge runs from the upper point through the girdle to the lower one.
            let edge_at = 0.5 + (edge - 0.5) * (1.0 - height.abs());
            let facet = usize::from(x > edge_at) + 2 * usize::from(height > 0.0);
            let sparkle = rng.one_in(24);
            let shade = (facets[facet] + usize::from(sparkle)).min(SHADES.len() - 1);
            text.push(if inside { SHADES[shade] as char } else { ' ' });
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

const MEMORY: Spec = Spec::container(
    "memory",
    -2,
    &[MEMORY_DOCTOR, MEMORY_HELP, MEMORY_MALLOC_STATS, MEMORY_PURGE, MEMORY_STATS, MEMORY_USAGE],
)
.docs(Docs {
    summary: "Tells where the memory goes.",
    since: "4.0.0",
    complexity: "That of the subcommand.",
    group: Group::Server,
    ..Docs::NONE
});

const FROM_EACH_SHARD: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

const MEMORY_USAGE: Spec = Spec::data("memory|usage", -3, memory_usage)
    .flags(Flags::READONLY)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Estimates the memory one key takes.",
        since: "4.0.0",
        complexity: "O(N) for N samples",
        group: Group::Server,
        args: &[Arg::key("key"), Arg::integer("count").token("SAMPLES").optional()],
        ..Docs::NONE
    });

/// Default number of elements of a collection that are measured.
const SAMPLES: usize = 5;

/// MEMORY USAGE key [SAMPLES n] → bytes of the entry and its value, and their share of the tables; n = 0 measures
/// all elements.
fn memory_usage(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut samples = SAMPLES;
    let mut i = 3;
    while i < ctx.args.len() {
        if !ctx.args.is(i, "SAMPLES") || i + 1 >= ctx.args.len() {
            return Err(Error::Syntax);
        }
        samples = usize::try_from(ctx.args.int(i + 1)?).map_err(|_| Error::Syntax)?;
        i += 2;
    }
    let key = ctx.args.key(2);
    Ok(match ctx.db.inspect(key).map(|entry| (entry.bytes(samples), entry.expires().is_some())) {
        None => ctx.reply.null(),
        Some((bytes, volatile)) => {
            let share = ctx.db.database().table_share(key, volatile);
            ctx.reply.int((bytes + share) as i64)
        }
    })
}

const MEMORY_STATS: Spec = Spec::admin("memory|stats", 2, memory_stats).tips(FROM_EACH_SHARD).docs(Docs {
    summary: "Tells what the memory is used for.",
    since: "4.0.0",
    complexity: "O(1)",
    group: Group::Server,
    ..Docs::NONE
});

/// MEMORY STATS → a map of sizes in bytes and ratios.
fn memory_stats(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let memory = MemoryReport::of(server);
    let keys = server.keyspace.len();
    let used_by_databases: Vec<(usize, usize, usize)> = memory
        .tables
        .iter()
        .zip(server.keyspace.databases())
        .enumerate()
        .filter(|(_, (_, db))| !db.is_empty())
        .map(|(i, (&(keys, expires), _))| (i, keys, expires))
        .collect();
    let aof_buffer = server.aof.log.buf.capacity() as i64;
    let replicas = server.replica_memory();
    let backlog = server.replication.backlog.allocated() - replicas;
    let scripts = server.scripts.figures();
    let links = server.cluster.as_ref().map_or(0, |cluster| cluster.links.memory());
    let mut reply = server.reply(key);
    let at = reply.defer();
    let mut n = 0;
    let mut int = |reply: &mut crate::resp::Reply<'_>, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
        n += 1;
    };
    let size = |bytes: usize| bytes as i64;
    int(&mut reply, "peak.allocated", size(memory.peak));
    int(&mut reply, "total.allocated", size(memory.used));
    int(&mut reply, "startup.allocated", size(memory.startup));
    int(&mut reply, "replication.backlog", size(backlog));
    int(&mut reply, "clients.slaves", size(replicas));
    int(&mut reply, "clients.normal", size(memory.clients));
    int(&mut reply, "cluster.links", size(links));
    int(&mut reply, "aof.buffer", aof_buffer);
    int(&mut reply, "lua.caches", size(scripts.scripts_bytes));
    int(&mut reply, "functions.caches", size(scripts.libraries_bytes));
    int(&mut reply, "script.VMs", size(scripts.heap));
    for (i, keys, expires) in &used_by_databases {
        reply.bulk(format!("db.{i}").as_bytes());
        reply.map(3);
        reply.bulk(b"overhead.hashtable.main");
        reply.int(size(*keys));
        reply.bulk(b"overhead.hashtable.expires");
        reply.int(size(*expires));
        reply.bulk(b"overhead.hashtable.slot-to-keys");
        reply.int(0);
    }
    int(&mut reply, "overhead.total", size(memory.overhead()));
    int(&mut reply, "keys.count", size(keys));
    int(&mut reply, "keys.bytes-per-key", size(memory.used.saturating_sub(memory.startup) / keys.max(1)));
    int(&mut reply, "dataset.bytes", size(memory.dataset()));
    let mut ratios = 0;
    let mut double = |reply: &mut crate::resp::Reply<'_>, name: &str, value: f64| {
        reply.bulk(name.as_bytes());
        ratios += 1;
        reply.double(value)
    };
    double(&mut reply, "dataset.percentage", memory.dataset_percent());
    double(&mut reply, "peak.percentage", 100.0 * ratio(memory.used, memory.peak));
    int(&mut reply, "allocator.allocated", size(memory.allocated));
    int(&mut reply, "allocator.active", size(memory.active));
    int(&mut reply, "allocator.resident", size(memory.resident));
    double(&mut reply, "allocator-fragmentation.ratio", ratio(memory.active, memory.allocated));
    int(&mut reply, "allocator-fragmentation.bytes", size(memory.active) - size(memory.allocated));
    double(&mut reply, "allocator-rss.ratio", ratio(memory.resident, memory.active));
    int(&mut reply, "allocator-rss.bytes", size(memory.resident) - size(memory.active));
    double(&mut reply, "rss-overhead.ratio", ratio(memory.rss, memory.resident));
    int(&mut reply, "rss-overhead.bytes", size(memory.rss) - size(memory.resident));
    double(&mut reply, "fragmentation", ratio(memory.rss, memory.used));
    int(&mut reply, "fragmentation.bytes", size(memory.rss) - size(memory.used));
    let n = n + ratios + used_by_databases.len();
    Ok(reply.end_map(at, n))
}

const MEMORY_DOCTOR: Spec = Spec::admin("memory|doctor", 2, memory_doctor).tips(FROM_EACH_SHARD).docs(Docs {
    summary: "Reports what is unusual about the use of memory.",
    since: "4.0.0",
    complexity: "O(1)",
    group: Group::Server,
    ..Docs::NONE
});

/// MEMORY DOCTOR → a report of memory problems, as text.
fn memory_doctor(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let text = diagnosis(&MemoryReport::of(server), server.clients.len());
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

fn diagnosis(memory: &MemoryReport, clients: usize) -> String {
    const TOO_SMALL_TO_REPORT: usize = 5 << 20;
    const MUCH_PER_CLIENT: usize = 200 << 10;
    if memory.used < TOO_SMALL_TO_REPORT {
        return "So little memory is in use that nothing can be said about it.\n".into();
    }
    let checks = [
        (
            ratio(memory.peak, memory.used) > 1.5,
            "The peak was much higher than what is used now: the resident size may stay high, and MEMORY PURGE may help.",
        ),
        (
            ratio(memory.rss, memory.used) > 1.4,
            "The process occupies much more than is allocated: memory is fragmented, or was not given back yet.",
        ),
        (
            ratio(memory.active, memory.allocated) > 1.1 && memory.active - memory.allocated > 10 << 20,
            "The allocator's pages are badly filled.",
        ),
        (
            memory.clients / clients.max(1) > MUCH_PER_CLIENT,
            "Clients have large buffers: some may send long pipelines, or read too slowly.",
        ),
    ];
    let found: Vec<&str> = checks.into_iter().filter_map(|(holds, text)| holds.then_some(text)).collect();
    if found.is_empty() {
        return "Nothing unusual.\n".into();
    }
    found.iter().map(|text| format!("* {text}\n")).collect()
}

const MEMORY_MALLOC_STATS: Spec =
    Spec::admin("memory|malloc-stats", 2, memory_malloc_stats).tips(FROM_EACH_SHARD).docs(Docs {
        summary: "Shows the allocator's own report.",
        since: "4.0.0",
        complexity: "Grows with the number of allocations; may be slow",
        group: Group::Server,
        ..Docs::NONE
    });

/// MEMORY MALLOC-STATS → the allocator's report, as text.
fn memory_malloc_stats(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(server.reply(key).verbatim("txt", &alloc::report()))
}

const MEMORY_PURGE: Spec = Spec::admin("memory|purge", 2, memory_purge)
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Gives unused memory back to the system.",
        since: "4.0.0",
        complexity: "Grows with the memory given back; may be slow",
        group: Group::Server,
        ..Docs::NONE
    });

/// MEMORY PURGE → OK. Returns unused memory of the server and the allocator to the system.
fn memory_purge(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.pool.clear();
    alloc::purge();
    Ok(server.reply(key).ok())
}

const MEMORY_HELP: Spec =
    Spec::admin("memory|help", 2, memory_help).flags(Flags::LOADING.with(Flags::STALE)).docs(Docs {
        summary: "Describes the subcommands.",
        since: "4.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// MEMORY HELP → descriptions of the subcommands.
fn memory_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "MEMORY",
        &[
            ("DOCTOR", "What is unusual about the use of memory."),
            ("MALLOC-STATS", "The allocator's own report."),
            ("PURGE", "Give unused memory back to the system."),
            ("STATS", "What the memory is used for, in bytes."),
            (
                "USAGE <key> [SAMPLES <count>]",
                "Bytes a key and its value take, estimated from <count> elements:\n5 unless given, all of them if 0.",
            ),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{Harness, check, check_with};

    #[test]
    fn flushing_and_counting() {
        check(
            r#"
            SET a 1
            SET b 2
            DBSIZE
            FLUSHDB now
            FLUSHDB SYNC ASYNC
            FLUSHDB async
            DBSIZE
            SET a 1
            FLUSHALL
            GET a
            "#,
            r#"
            OK
            OK
            (integer) 2
            (error) ERR syntax error
            (error) ERR syntax error
            OK
            (integer) 0
            OK
            OK
            (nil)
            "#,
        );
    }

    #[test]
    fn databases_change_places() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            SET k zero
            SWAPDB a 1
            SWAPDB 0 b
            SWAPDB 0 16
            SWAPDB -1 0
            SWAPDB 0 4294967296
            SWAPDB 3 0
            GET k
            SWAPDB 0 3
            GET k
            "#,
            r#"
            OK
            (error) ERR invalid first DB index
            (error) ERR invalid second DB index
            (error) ERR DB index is out of range
            (error) ERR DB index is out of range
            (error) ERR invalid second DB index
            OK
            (nil)
            OK
            "zero"
            "#,
        );
    }

    #[test]
    fn memory_of_a_key() {
        check(
            r#"
            MEMORY USAGE nosuch
            SET k v
            MEMORY USAGE k SAMPLES
            MEMORY USAGE k SAMPLES -1
            MEMORY USAGE k SAMPLES x
            MEMORY USAGE k LIMIT 3
            MEMORY PURGE
            ROLE
            SHUTDOWN ABORT
            SHUTDOWN SAVE NOSAVE
            SHUTDOWN ABORT NOW
            SHUTDOWN ABORT FAILOVER
            SHUTDOWN FAILOVER
            SHUTDOWN later
            LOLWUT VERSION x
            "#,
            r#"
            (nil)
            OK
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            OK
            1) "master"
            2) (integer) 0
            3) (empty array)
            (error) ERR No shutdown in progress.
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR SHUTDOWN FAILOVER is only supported in cluster mode.
            (error) ERR syntax error
            (error) ERR value is not an integer or out of range
            "#,
        );
        let mut harness = Harness::default();
        harness.run("SET k v");
        let usage: usize = harness.run("MEMORY USAGE k")["(integer) ".len()..].parse().expect("a number");
        assert!((16..1000).contains(&usage), "{usage} bytes");
        assert!(harness.run("MEMORY STATS").contains("\"db.0\""));
    }

    /// Makes a client of the harness a replica that is online.
    fn replica(harness: &mut Harness) -> ClientKey {
        let key = harness.connect();
        harness.run_as(key, "REPLCONF capa psync2");
        harness.server.replica_mut(key).state = crate::replication::replica::State::Online;
        harness.server.clients[key].flags.set(crate::clients::ClientFlags::REPLICA, true);
        harness.server.replication.replicas.push(key);
        harness.server.replication.backlog.activate();
        harness.server.keyspace.ledger.feed(crate::keyspace::Sink::Backlog, true);
        key
    }

    #[test]
    fn the_end_waits_until_replicas_have_everything() {
        let mut harness = Harness::default();
        let replica = replica(&mut harness);
        let (one, two, other) = (harness.connect(), harness.connect(), harness.connect());
        assert_eq!(harness.run("SET k v"), "OK");
        let end = harness.server.replication.offset();
        assert!(end > 0);
        assert_eq!(harness.run_as(one, "SHUTDOWN NOSAVE"), "");
        assert_eq!(harness.run_as(two, "SHUTDOWN NOW"), "");
        assert!(harness.server.persistence.shutdown.is_some());
        assert!(harness.run("INFO server").contains("shutdown_in_milliseconds:"));
        // Reads go on, writes wait, and CLIENT UNBLOCK is not for those who asked.
        assert_eq!(harness.run("GET k"), "\"v\"");
        let id = harness.server.clients[one].id;
        assert_eq!(harness.run(&format!("CLIENT UNBLOCK {id}")), "(integer) 0");
        assert_eq!(harness.run_as(other, "SET k w"), "");
        assert_eq!(harness.run("SHUTDOWN ABORT"), "OK");
        const FAILED: &str = "(error) ERR Errors trying to SHUTDOWN. Check logs.";
        assert_eq!([harness.output_of(one), harness.output_of(two)], [FAILED, FAILED]);
        assert_eq!(harness.output_of(other), "OK");
        assert_eq!(harness.run("GET k"), "\"w\"");
        assert_eq!(harness.run("SHUTDOWN ABORT"), "(error) ERR No shutdown in progress.");
        assert!(harness.server.persistence.shutdown.is_none());
        // A replica that has everything is not waited for.
        let end = harness.server.replication.offset();
        harness.server.acknowledged(replica, end, None);
        assert_eq!(harness.server.begin_shutdown(ShutdownFlags::default()).ok(), Some(true));
    }

    #[test]
    fn the_end_is_not_waited_for_if_asked() {
        for config in ["", "0"] {
            let mut harness = Harness::default();
            replica(&mut harness);
            assert_eq!(harness.run("SET k v"), "OK");
            if !config.is_empty() {
                harness.server.config.general.shutdown_timeout_s = 0;
            }
            let flags = ShutdownFlags { now: config.is_empty(), ..ShutdownFlags::default() };
            assert_eq!(harness.server.begin_shutdown(flags).ok(), Some(true));
        }
    }

    #[test]
    fn the_picture_ends_with_the_version() {
        let mut harness = Harness::default();
        for line in ["LOLWUT", "LOLWUT VERSION 7 20 5", "LOLWUT 1 1", "LOLWUT big", "LOLWUT -5 99999999999"] {
            let text = harness.run(line);
            assert!(text.ends_with("\\nRedis ver. 7.2.4\\n\""), "{text}");
        }
        let text = octahedron(40, 9, &mut Rng::new(7));
        assert_eq!(text.lines().count(), 9);
        assert!(text.lines().all(|line| line.len() <= 40));
    }
}
