//! Names that the other servers know and this one does not: of configuration parameters, fields of INFO, MEMORY STATS
//! and CLIENT LIST, commands, and subcommands of DEBUG. There are few, each with its reason.

use std::collections::BTreeSet;

use crate::support::{self, Client, Oracle, ServerProcess};

type Names = BTreeSet<String>;
/// What asks a server for names.
type List = fn(&mut Client) -> Names;

/// Why names are unknown, and which: each ends with `*` if it stands for all that begin so.
#[rustfmt::skip]
const UNKNOWN: &[(&str, &str, &[&str])] = &[
    ("INFO", "counted by command, error or database", &["cmdstat_*", "errorstat_*", "latency_percentiles_usec_*", "db0*"]),
    ("INFO", "there are no modules, and no engines but Lua", &["module", "engine*"]),
    ("INFO", "jemalloc is configured to return memory to the system without keeping it as muzzy", &["allocator_muzzy"]),
    ("INFO", "when the peak was is not recorded", &["used_memory_peak_time"]),
    ("INFO", "what tables take while they are rehashed is part of what tables take", &["mem_overhead_db_hashtable_rehashing"]),
    ("INFO", "a replica keeps no stream while it loads a snapshot, and a primary no second connection for one",
        &["mem_replica_full_sync_buffer", "mem_replicas_repl_buffer", "replicas_waiting_psync"]),
    ("INFO", "no rule restricts databases", &["acl_access_denied_db"]),
    ("INFO", "slots move key by key", &["mem_cluster_slot_*", "slot_migration_fork_in_progress", "total_net_cluster_slot_*"]),
    ("INFO", "the work of I/O threads is another", &["io_threaded_accept_processed", "io_threaded_freed_objects",
        "io_threaded_poll_processed", "io_threaded_total_prefetch_*"]),
    ("INFO", "clients are visited by the timer", &["clients_hz"]),
    ("INFO", "no estimate is made of fields that are due", &["expired_keys_with_volatile_items_stale_perc"]),
    ("INFO", "availability zones are not told", &["availability_zone"]),
    ("MEMORY STATS", "as in INFO", &["allocator.muzzy", "replica.fullsync.buffer", "replicas.repl.buffer", "cluster.slot_*"]),
    ("MEMORY STATS", "by database", &["db.0", "overhead.hashtable.*"]),
    ("MEMORY STATS", "as in INFO: only whole tables are counted", &["db.dict.rehashing.count", "overhead.db.hashtable.*"]),
    ("COMMAND LIST", "there are no modules", &["module*"]),
    ("COMMAND LIST", "commands of modules keep their letter case there", &["VADD", "VCARD", "VDIM", "VEMB", "VGETATTR", "VINFO", "VISMEMBER",
        "VLINKS", "VRANDMEMBER", "VREM", "VSETATTR", "VSIM"]),
    ("COMMAND LIST", "slots move key by key", &["cluster|cancelslotmigrations", "cluster|getslotmigrations",
        "cluster|migrateslots", "cluster|syncslots"]),
    ("DEBUG HELP", "parts that this server has not", &["QUICKLIST", "SDSLEN", "STRINGMATCH-TEST", "STRUCTSIZE",
        "DICT-RESIZING", "HASHTABLE-CAN-ABORT-SHRINK", "CLIENT-EVICTION", "CLIENT-ENFORCE-REPLY-LIST", "SLOTMIGRATION",
        "KEYSIZES-HIST-ASSERT", "INTERNAL_SECRET", "MARK-INTERNAL-CLIENT", "SCRIPT"]),
    ("DEBUG HELP", "faults that its tests cause by other means", &["AOF-FLUSH-SLEEP", "CRASH-AND-RECOVER", "RESTART",
        "LEAK", "OOM", "PAUSE-AFTER-FORK", "REPL-PAUSE", "CLOSE-CLUSTER-LINK-ON-PACKET-DROP",
        "DELAY-RDB-CLIENT-FREE-SECOND", "DISABLE-CLUSTER-RANDOM-PING", "DISABLE-CLUSTER-RECONNECTION",
        "FORCE-FREE-PRIMARY-ASYNC", "FORCE-TLS-WRITE-ERROR", "PROTECT-CLIENT"]),
];

/// The lines of all strings in a reply.
fn lines(client: &mut Client, request: &str) -> Vec<String> {
    let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    let reply = client.command(&words).expect("an answer");
    let (mut rest, mut found) = (&reply[..], Vec::new());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (head, after) = (String::from_utf8_lossy(&rest[..end]).into_owned(), &rest[end + 2..]);
        rest = after;
        match head.split_at_checked(1) {
            Some(("$" | "=", len)) => {
                let len = len.parse::<usize>().unwrap_or(0);
                let text = String::from_utf8_lossy(&after[..len]).into_owned();
                found.extend(text.split('\n').map(|line| line.trim_end().to_owned()));
                rest = &after[(len + 2).min(after.len())..];
            }
            Some(("+", text)) => found.push(text.to_owned()),
            _ => {}
        }
    }
    found
}

fn parameters(client: &mut Client) -> Names {
    lines(client, "CONFIG GET *").into_iter().step_by(2).filter(|name| !name.is_empty()).collect()
}

fn info(client: &mut Client) -> Names {
    let lines = lines(client, "INFO everything");
    lines.iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

fn memory(client: &mut Client) -> Names {
    let named = |line: &String| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains('.');
    lines(client, "MEMORY STATS").into_iter().filter(named).collect()
}

fn connection(client: &mut Client) -> Names {
    let line = lines(client, "CLIENT LIST").join(" ");
    line.split_whitespace()
        .filter_map(|field| field.split_once('='))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn commands(client: &mut Client) -> Names {
    lines(client, "COMMAND LIST").into_iter().filter(|name| !name.is_empty()).collect()
}

fn debug(client: &mut Client) -> Names {
    let lines = lines(client, "DEBUG HELP");
    let subcommands = lines.iter().skip(1).filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    subcommands.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// The reason why a name of this list is unknown.
fn reason(list: &str, name: &str) -> Option<&'static str> {
    let stands_for =
        |pattern: &&str| pattern.strip_suffix('*').map_or(*pattern == name, |start| name.starts_with(start));
    UNKNOWN.iter().find(|(of, _, names)| *of == list && names.iter().any(&stands_for)).map(|found| found.1)
}

/// A file with all parameters as their server tells them is valid here, too.
fn check_defaults(theirs: &mut Client, oracle: Oracle) {
    let told = lines(theirs, "CONFIG GET *");
    let mut text = String::new();
    for pair in told.chunks(2).filter(|pair| pair.len() == 2) {
        let (name, value) = (&pair[0], &pair[1]);
        match name.as_str() {
            // No primary cannot be written as a line.
            "replicaof" | "slaveof" if value.is_empty() => {}
            "proc-title-template" => text += &format!("{name} \"{value}\"\n"),
            _ if value.is_empty() => text += &format!("{name} \"\"\n"),
            _ => text += &format!("{name} {value}\n"),
        }
    }
    assert!(text.lines().count() > 150, "{text}");
    let mut check = std::process::Command::new(support::spinel())
        .args(["--check-config", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = check.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{oracle:?}: {said}");
}

fn compare_with(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let options = ["--enable-debug-command", "yes"];
    let ours = ServerProcess::start(&support::spinel(), &[&options[..], &oracle.compat()].concat());
    let theirs = ServerProcess::start(&program, &options);
    let (mut ours, mut theirs) = (ours.client(), theirs.client());
    check_defaults(&mut theirs, oracle);
    let mut missing = Vec::new();
    // A parameter may be known without being listed.
    for name in parameters(&mut theirs) {
        if lines(&mut ours, &format!("CONFIG GET {name}")).first().is_none_or(String::is_empty) {
            missing.push(format!("CONFIG GET: {name}"));
        }
    }
    let lists: [(&str, List); 5] = [
        ("INFO", info),
        ("MEMORY STATS", memory),
        ("CLIENT LIST", connection),
        ("COMMAND LIST", commands),
        ("DEBUG HELP", debug),
    ];
    for (list, names) in lists {
        let theirs = names(&mut theirs);
        assert!(theirs.len() > 20, "{list}: {theirs:?}");
        for name in theirs.difference(&names(&mut ours)).filter(|name| reason(list, name).is_none()) {
            missing.push(format!("{list}: {name}"));
        }
    }
    assert!(missing.is_empty(), "{oracle:?} also has\n{}", missing.join("\n"));
}

#[test]
fn spinel_knows_the_names_of_redis_7_0() {
    compare_with(Oracle::Redis7_0);
}

#[test]
fn spinel_knows_the_names_of_redis_8_2() {
    compare_with(Oracle::Redis8_2);
}

#[test]
fn spinel_knows_the_names_of_valkey_9_1() {
    compare_with(Oracle::Valkey9_1);
}

/// Requests after each of which the sizes of values are compared.
const SIZES: &str = "SET a x; SET b 1024; APPEND b 123456789012; SETRANGE c 70000 x; SET d -123; SET e -1; SETBIT f 9000000 1; \
    PFADD p a b c; RPUSH l 1 2 3 4 5; LPOP l; LTRIM l 0 0; SADD s 1 2 3; SADD s a b c d e; SPOP s; ZADD z 1 a 2 b 3 c; \
    ZREM z a; HSET h a 1 b 2; HDEL h a; XADD x * a 1; GEOADD g 1 1 a; SUNIONSTORE t s; ZUNIONSTORE u 1 z; RENAME u v; \
    COPY s w; SELECT 3; SET a x; HSET h a 1; SELECT 0; MOVE w 3; SWAPDB 0 3; SWAPDB 0 3; DEL a b c; SET l string; \
    HSETEX h2 FIELDS 2 a 1 b 2; HPEXPIREAT h2 1 FIELDS 1 a; PEXPIREAT f 1; FLUSHDB; FLUSHALL";

#[test]
fn sizes_are_those_of_redis_8_2() {
    let Some(program) = Oracle::Redis8_2.program() else { return };
    let ours = ServerProcess::start(&support::spinel(), &Oracle::Redis8_2.compat());
    let theirs = ServerProcess::start(&program, &[]);
    let (mut ours, mut theirs) = (ours.client(), theirs.client());
    for request in SIZES.split(';').map(str::trim) {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        for client in [&mut ours, &mut theirs] {
            client.command(&words).expect("an answer");
        }
        let shown = [&mut ours, &mut theirs].map(|client| lines(client, "INFO keysizes"));
        assert_eq!(shown[0], shown[1], "{request}");
    }
    let sections = |client: &mut Client, request: &str| -> bool {
        lines(client, request).iter().any(|line| line == "# Keysizes")
    };
    for request in ["INFO", "INFO all", "INFO everything", "INFO default", "INFO keyspace", "INFO KEYSIZES"] {
        assert_eq!(sections(&mut ours, request), sections(&mut theirs, request), "{request}");
    }
}
