//! Commands of replication: REPLICAOF, ROLE, FAILOVER, WAIT, WAITAOF, and those that servers send each other.

use crate::clients::blocking::{Acknowledgements, Wait};
use crate::clients::{ClientFlags, ClientKey};
use crate::config::value::PrimaryAddr;
use crate::replication::replica::{Capabilities, Filter, State};
use crate::resp::{Args, Error, Replied};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::error::NOT_LOGGED;
use crate::server::replication::primary::Ask;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num::parse_i64;
use crate::stdx::text::Lossy;

/// Table entries of the replication commands.
pub const COMMANDS: &[Spec] = &[FAILOVER, PSYNC, REPLCONF, REPLICAOF, ROLE, SLAVEOF, SYNC, WAIT, WAITAOF];

const FOLLOW: Flags = Flags::NO_ASYNC_LOADING.with(Flags::ADMIN).with(Flags::NOSCRIPT).with(Flags::STALE);
const COPY: Flags = Flags::NO_ASYNC_LOADING.with(Flags::ADMIN).with(Flags::NO_MULTI).with(Flags::NOSCRIPT);

const WHOM: &[Arg] = &[Arg::one_of(
    "args",
    &[
        Arg::block("host-port", &[Arg::string("host"), Arg::integer("port")]),
        Arg::block("no-one", &[Arg::word("no", "NO"), Arg::word("one", "ONE")]),
    ],
)];

// ---- role -------------------------------------------------------------------------------------

const REPLICAOF: Spec = Spec::admin("replicaof", 3, replicaof).flags(FOLLOW).docs(Docs {
    summary: "Makes the server a replica of another one, or of none.",
    since: "5.0.0",
    complexity: "O(1)",
    group: Group::Server,
    args: WHOM,
    ..Docs::NONE
});

const SLAVEOF: Spec = Spec::admin("slaveof", 3, replicaof).flags(FOLLOW).docs(Docs {
    summary: "Makes the server a replica of another one, or of none.",
    since: "1.0.0",
    complexity: "O(1)",
    group: Group::Server,
    deprecated_since: "5.0.0",
    replaced_by: "`REPLICAOF`",
    args: WHOM,
    ..Docs::NONE
});

/// REPLICAOF host port | NO ONE → OK. Begins or ends copying another server.
fn replicaof(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.config.cluster.enabled {
        return Err(Error::text("ERR REPLICAOF not allowed in cluster mode."));
    }
    if server.replication.failover.phase != crate::server::replication::failover::Phase::None {
        return Err(Error::text("ERR REPLICAOF not allowed while failing over."));
    }
    let asked_by = server.client_line(key);
    if args.is(1, "no") && args.is(2, "one") {
        server.replicate(None, &asked_by);
        return Ok(server.reply(key).ok());
    }
    if server.clients[key].flags.has(ClientFlags::REPLICA) {
        return Err(Error::text("ERR Command is not valid when client is a replica."));
    }
    let address = address(&args, 1)?;
    let same =
        server.replication.is_replica() && server.config.replication.replicaof.as_ref() == Some(&address);
    server.replicate(Some(address), &asked_by);
    if same {
        return Ok(server.reply(key).simple("OK Already connected to specified master"));
    }
    Ok(server.reply(key).ok())
}

/// The address at arguments `i` and `i + 1`.
fn address(args: &Args<'_>, i: usize) -> Result<PrimaryAddr, Error> {
    let port = parse_i64(args.at(i + 1)).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| Error::text("ERR Invalid master port"))?;
    let host = std::str::from_utf8(args.at(i)).map_err(|_| Error::text("ERR Invalid master host"))?;
    Ok(PrimaryAddr { host: host.to_owned(), port })
}

const ROLE: Spec = Spec::admin("role", 1, role)
    .flags(Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST))
    .acl(Acl::ADMIN.with(Acl::DANGEROUS))
    .docs(Docs {
        summary: "Tells the server's part in replication.",
        since: "2.8.12",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// ROLE → `master`, offset, replicas; or `slave`, host, port, state of the link, offset.
fn role(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let offset = server.replication.offset() as i64;
    if let Some(following) = &server.replication.following {
        let address = server.config.replication.replicaof.clone();
        let (state, linked) = (following.state_name(), following.is_linked());
        let mut reply = server.reply(key);
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(address.as_ref().map_or("", |primary| &primary.host).as_bytes());
        reply.int(i64::from(address.map_or(0, |primary| primary.port)));
        reply.bulk(state.as_bytes());
        return Ok(reply.int(if linked { offset } else { -1 }));
    }
    let mut replicas = Vec::new();
    for &other in &server.replication.replicas {
        let Some(replica) = server.replica(other).filter(|replica| replica.state == State::Online) else {
            continue;
        };
        let Some(ip) = server.replica_ip(other) else { continue };
        replicas.push((ip, replica.port.to_string(), replica.acknowledged.to_string()));
    }
    let mut reply = server.reply(key);
    reply.array(3);
    reply.bulk(b"master");
    reply.int(offset);
    let mut replied = reply.array(replicas.len());
    for (ip, port, acknowledged) in &replicas {
        reply.array(3);
        reply.bulk(ip.as_bytes());
        reply.bulk(port.as_bytes());
        replied = reply.bulk(acknowledged.as_bytes());
    }
    Ok(replied)
}

const FAILOVER: Spec = Spec::admin("failover", -1, failover)
    .flags(Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE))
    .docs(Docs {
        summary: "Hands over to a replica, losing no write.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::Server,
        args: &[
            Arg::block(
                "target",
                &[Arg::string("host"), Arg::integer("port"), Arg::word("force", "FORCE").optional()],
            )
            .token("TO")
            .optional(),
            Arg::word("abort", "ABORT").optional(),
            Arg::integer("milliseconds").token("TIMEOUT").optional(),
        ],
        ..Docs::NONE
    });

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds] → OK, before it is done.
fn failover(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.config.cluster.enabled {
        return Err(Error::text(
            "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
        ));
    }
    let (mut target, mut timeout, mut force, mut abort) = (None, None, false, false);
    let mut i = 1;
    while i < args.len() {
        if args.is(i, "TIMEOUT") && i + 1 < args.len() && timeout.is_none() {
            let ms = args.int(i + 1)?;
            if ms <= 0 {
                return Err(Error::text("ERR FAILOVER timeout must be greater than 0"));
            }
            timeout = Some(ms);
            i += 2;
        } else if args.is(i, "ABORT") {
            abort = true;
            i += 1;
        } else if args.is(i, "TO") && i + 2 < args.len() && target.is_none() {
            let port = args.int(i + 2)?;
            let port = u16::try_from(port).map_err(|_| Error::NotInteger)?;
            target = Some(PrimaryAddr { host: Lossy(args.at(i + 1)).to_string(), port });
            i += 3;
        } else if args.is(i, "FORCE") {
            force = true;
            i += 1;
        } else {
            return Err(Error::Syntax);
        }
    }
    if abort {
        if target.is_some() || timeout.is_some() || force {
            return Err(Error::Syntax);
        }
        server.abort_failover()?;
        return Ok(server.reply(key).ok());
    }
    if force && (target.is_none() || timeout.is_none()) {
        return Err(Error::text(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ));
    }
    server.begin_failover(target, timeout, force)?;
    Ok(server.reply(key).ok())
}

// ---- between servers --------------------------------------------------------------------------

const SYNC: Spec = Spec::admin("sync", 1, sync).flags(COPY).docs(Docs {
    summary: "Asks for all data; sent by replicas of old versions.",
    since: "1.0.0",
    group: Group::Server,
    ..Docs::NONE
});

/// SYNC → the data, and then the stream.
fn sync(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.synchronise(key, Ask::All)
}

const PSYNC: Spec = Spec::admin("psync", -3, psync).flags(COPY).docs(Docs {
    summary: "Asks for the stream from an offset on; sent by replicas.",
    since: "2.8.0",
    group: Group::Server,
    args: &[Arg::string("replicationid"), Arg::integer("offset")],
    ..Docs::NONE
});

/// PSYNC id offset [FAILOVER] → the stream from there on, or the data and then the stream.
fn psync(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.clients[key].flags.has(ClientFlags::REPLICA) {
        return Ok(Replied::later());
    }
    if args.len() > 3 {
        if !args.is(3, "FAILOVER") {
            return Err(Error::Syntax);
        }
        server.take_over(args.at(1))?;
    }
    let Ok(next) = args.int(2) else {
        let line = server.client_line(key);
        tracing::warn!("Replica {line} asks for synchronization but with a wrong offset");
        return Err(Error::NotInteger);
    };
    server.synchronise(key, Ask::After { id: args.at(1), next })
}

const REPLCONF: Spec = Spec::admin("replconf", -1, replconf)
    .flags(Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE).with(Flags::ALLOW_BUSY))
    .docs(Docs {
        summary: "Tells the other side of a replication link about this one; sent by servers.",
        since: "3.0.0",
        complexity: "O(1)",
        group: Group::Server,
        internal: true,
        ..Docs::NONE
    });

/// REPLCONF option value [option value …] → OK; no reply to ACK and GETACK.
fn replconf(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    for i in (1..args.len()).step_by(2) {
        let value = args.at(i + 1);
        if args.is(i, "listening-port") {
            let port = args.int(i + 1)?;
            server.replica_mut(key).port = u16::try_from(port).map_err(|_| Error::NotInteger)?;
        } else if args.is(i, "ip-address") {
            const LONGEST: usize = 255;
            let ip = std::str::from_utf8(value).ok().filter(|ip| ip.len() <= LONGEST);
            let ip = ip.ok_or_else(|| {
                Error::text("ERR REPLCONF ip-address provided by replica instance is too long")
            })?;
            server.replica_mut(key).ip = (!ip.is_empty()).then(|| ip.to_owned());
        } else if args.is(i, "capa") {
            // Unknown ones are of no use to a replica whose primary does not know them.
            let known = [
                ("eof", Capabilities::EOF),
                ("psync2", Capabilities::PSYNC2),
                ("rdb-channel-repl", Capabilities::RDB_CHANNEL),
            ];
            for (name, capability) in known {
                if value.eq_ignore_ascii_case(name.as_bytes()) {
                    server.replica_mut(key).capabilities.set(capability, true);
                }
            }
        } else if args.is(i, "version") {
            if !server.replica_mut(key).set_version(value) {
                return Err(Error::quoting(&[b"ERR Unrecognized version format: ", value]));
            }
        } else if args.is(i, "ack") {
            let Some(offset) = parse_i64(value).and_then(|offset| u64::try_from(offset).ok()) else {
                return Ok(Replied::later());
            };
            let synced = (i + 3 < args.len() && args.is(i + 2, "fack"))
                .then(|| parse_i64(args.at(i + 3)).and_then(|offset| u64::try_from(offset).ok()))
                .flatten();
            server.acknowledged(key, offset, synced);
            return Ok(Replied::later());
        } else if args.is(i, "fack") {
            return Ok(Replied::later());
        } else if args.is(i, "getack") {
            if server.clients[key].flags.has(ClientFlags::PRIMARY) {
                server.asked_for_offset();
            }
            return Ok(Replied::later());
        } else if args.is(i, "rdb-only") {
            let only = match value {
                b"0" => false,
                b"1" => true,
                _ => return Err(Error::NotInteger),
            };
            server.replica_mut(key).snapshot_only = only;
        } else if args.is(i, "rdb-filter-only") {
            let filter = Filter::parse(value)
                .ok_or_else(|| Error::quoting(&[b"ERR Unsupported rdb-filter-only option: ", value]))?;
            server.replica_mut(key).filter = filter;
        } else {
            return Err(Error::quoting(&[b"ERR Unrecognized REPLCONF option: ", args.at(i)]));
        }
    }
    Ok(server.reply(key).ok())
}

// ---- waiting ----------------------------------------------------------------------------------

const WAIT: Spec = Spec::admin("wait", 3, wait)
    .flags(Flags::BLOCKING)
    .acl(Acl::CONNECTION)
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .docs(Docs {
        summary: "Waits until replicas have what the connection wrote.",
        since: "3.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::integer("numreplicas"), Arg::integer("timeout")],
        ..Docs::NONE
    });

/// WAIT numreplicas timeout → number of replicas that have acknowledged.
fn wait(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.replication.is_replica() {
        return Err(Error::text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not \
             propagated.",
        ));
    }
    let replicas = whole(args.int(1)?, "ERR value is out of range, must be positive")?;
    let until = deadline(server, &args, 2)?;
    let offset = server.clients[key].last_write;
    wait_for(server, key, Acknowledgements { replicas, local: false, synced: false, offset }, until)
}

const WAITAOF: Spec = Spec::admin("waitaof", 4, waitaof)
    .flags(Flags::BLOCKING)
    .acl(Acl::CONNECTION)
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .docs(Docs {
        summary: "Waits until what the connection wrote is on disk, here and at replicas.",
        since: "7.2.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::integer("numlocal"), Arg::integer("numreplicas"), Arg::integer("timeout")],
        ..Docs::NONE
    });

/// WAITAOF numlocal numreplicas timeout → on how many disks it is: here (0 or 1), and at replicas.
fn waitaof(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    const RANGE: &str = "ERR value is out of range";
    let local = match args.int(1)? {
        0 => false,
        1 => true,
        _ => return Err(Error::text(RANGE)),
    };
    let replicas = whole(args.int(2)?, RANGE)?;
    let until = deadline(server, &args, 3)?;
    if server.replication.is_replica() {
        return Err(Error::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are \
             not propagated.",
        ));
    }
    if local && !server.config.persistence.appendonly {
        return Err(Error::text(NOT_LOGGED));
    }
    let offset = server.clients[key].last_write;
    wait_for(server, key, Acknowledgements { replicas, local, synced: true, offset }, until)
}

fn whole(n: i64, reason: &str) -> Result<u64, Error> {
    u64::try_from(n).map_err(|_| Error::text(reason.to_owned()))
}

/// The end of a time limit in milliseconds at argument `i`; `None` if it is 0.
fn deadline(server: &Server, args: &Args<'_>, i: usize) -> Result<Option<UnixMillis>, Error> {
    let ms = args.int(i).map_err(|_| Error::text("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(Error::text("ERR timeout is negative"));
    }
    let until = server.keyspace.now().0.checked_add(ms);
    let until = until.ok_or_else(|| Error::text("ERR timeout is out of range"))?;
    Ok((ms > 0).then_some(UnixMillis(until)))
}

fn wait_for(
    server: &mut Server,
    key: ClientKey,
    wanted: Acknowledgements,
    until: Option<UnixMillis>,
) -> CmdResult {
    // A transaction or script does not wait: the reply says how many there are now.
    if server.is_acknowledged(&wanted) || server.execution.depth > 0 {
        return Ok(server.reply_acknowledged(key, &wanted));
    }
    server.execution.wait = Some(Wait::Acknowledgements { wanted, until });
    server.ask_replicas();
    Ok(Replied::later())
}
