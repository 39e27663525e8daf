//! What a Sentinel answers: the commands that it has, and those by which users and clients ask it.

use super::help::help;
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Replied, Reply};
use crate::sentinel::HELLO_CHANNEL;
use crate::sentinel::instance::InstanceId;
use crate::sentinel::machine::Machine;
use crate::sentinel::machine::describe::Fields;
use crate::server::Server;
use crate::server::command::{Acl, Arg, ChannelSpec, CmdResult, Docs, Flags, Group, Spec};
use crate::server::sentinel::now;
use crate::stdx::sync::OnceLock;

/// Commands of other groups that a Sentinel has, too.
const COMMON: [&str; 12] = [
    "acl",
    "auth",
    "client",
    "command",
    "hello",
    "info",
    "ping",
    "psubscribe",
    "punsubscribe",
    "shutdown",
    "subscribe",
    "unsubscribe",
];

/// Subcommands of those that make no sense without data.
const WITHOUT: [&str; 1] = ["client|no-touch"];

/// Table entries with which a Sentinel is created.
pub fn known() -> Vec<&'static [Spec]> {
    static COMMANDS: OnceLock<Vec<Spec>> = OnceLock::new();
    let commands = COMMANDS.get_or_init(|| {
        let all = super::ALL.iter().flat_map(|group| group.iter());
        let common = all.filter(|spec| COMMON.contains(&spec.name)).map(|spec| {
            let subcommands: Vec<Spec> =
                spec.subcommands.iter().filter(|sub| !WITHOUT.contains(&sub.name)).copied().collect();
            // The table of commands lasts as long as the process.
            Spec { subcommands: subcommands.leak(), ..*spec }
        });
        common.chain([PUBLISH, ROLE, SENTINEL]).collect()
    });
    vec![commands.as_slice()]
}

/// Documentation that all share.
pub(super) const DOCS: Docs = Docs { group: Group::Sentinel, complexity: "O(1)", ..Docs::NONE };

const SENTINEL: Spec = Spec::container(
    "sentinel",
    -2,
    &[
        CKQUORUM,
        super::sentinel_admin::CONFIG,
        super::sentinel_admin::DEBUG,
        super::sentinel_admin::FAILOVER,
        super::sentinel_admin::FLUSHCONFIG,
        ADDRESS,
        Spec { name: "sentinel|get-primary-addr-by-name", ..ADDRESS },
        HELP,
        INFO_CACHE,
        IS_DOWN,
        Spec { name: "sentinel|is-primary-down-by-addr", ..IS_DOWN },
        MASTER,
        MASTERS,
        super::sentinel_admin::MONITOR,
        MYID,
        PENDING_SCRIPTS,
        Spec { name: "sentinel|primaries", ..MASTERS },
        Spec { name: "sentinel|primary", ..MASTER },
        super::sentinel_admin::REMOVE,
        REPLICAS,
        super::sentinel_admin::RESET,
        SENTINELS,
        super::sentinel_admin::SET,
        super::sentinel_admin::SIMULATE_FAILURE,
        Spec { name: "sentinel|slaves", ..REPLICAS },
    ],
)
.flags(Flags::ADMIN)
.docs(Docs {
    summary: "Commands about primaries that are watched.",
    since: "2.8.4",
    complexity: "That of the subcommand.",
    ..DOCS
});

/// The machine of this Sentinel.
pub(super) fn machine(server: &Server) -> Result<&Machine, Error> {
    let sentinel = server.sentinel.as_ref();
    sentinel.map(|sentinel| &sentinel.machine).ok_or_else(|| Error::text("ERR This is no Sentinel"))
}

/// The primary of a name.
pub(super) fn primary(server: &Server, name: &[u8]) -> Result<InstanceId, Error> {
    let found = machine(server)?.find_primary(&String::from_utf8_lossy(name));
    found.ok_or_else(|| Error::text("ERR No such master with that name"))
}

fn write_fields(reply: &mut Reply<'_>, fields: &Fields) -> Replied {
    let replied = reply.map(fields.len());
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    replied
}

fn list(server: &mut Server, key: ClientKey, ids: &[InstanceId]) -> CmdResult {
    let machine = machine(server)?;
    let now = now();
    let all: Vec<Fields> = ids.iter().map(|&id| machine.fields(id, now)).collect();
    let mut reply = server.reply(key);
    let replied = reply.array(all.len());
    for fields in &all {
        write_fields(&mut reply, fields);
    }
    Ok(replied)
}

const NAME: &[Arg] = &[Arg::string("master-name")];

const MASTER: Spec = Spec::admin("sentinel|master", 3, master).flags(Flags::ADMIN).docs(Docs {
    summary: "Shows the state of a primary.",
    since: "2.8.4",
    args: NAME,
    ..DOCS
});

/// SENTINEL MASTER name → fields of the primary.
fn master(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    let fields = machine(server)?.fields(id, now());
    Ok(write_fields(&mut server.reply(key), &fields))
}

const MASTERS: Spec = Spec::admin("sentinel|masters", 2, masters).flags(Flags::ADMIN).docs(Docs {
    summary: "Lists the primaries that are watched.",
    since: "2.8.4",
    complexity: "O(N), N being the number of primaries.",
    ..DOCS
});

/// SENTINEL MASTERS → fields of each primary.
fn masters(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let ids = machine(server)?.primaries().to_vec();
    list(server, key, &ids)
}

const REPLICAS: Spec = Spec::admin("sentinel|replicas", 3, replicas).flags(Flags::ADMIN).docs(Docs {
    summary: "Lists the replicas of a primary.",
    since: "5.0.0",
    complexity: "O(N), N being the number of replicas.",
    args: NAME,
    ..DOCS
});

/// SENTINEL REPLICAS name → fields of each replica that is announced.
fn replicas(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    let ids = machine(server)?.announced_replicas(id);
    list(server, key, &ids)
}

const SENTINELS: Spec = Spec::admin("sentinel|sentinels", 3, sentinels).flags(Flags::ADMIN).docs(Docs {
    summary: "Lists the other Sentinels of a primary.",
    since: "2.8.4",
    complexity: "O(N), N being the number of Sentinels.",
    args: NAME,
    ..DOCS
});

/// SENTINEL SENTINELS name → fields of each other Sentinel.
fn sentinels(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    let ids = machine(server)?.sentinels(id).to_vec();
    list(server, key, &ids)
}

const ADDRESS: Spec = Spec::admin("sentinel|get-master-addr-by-name", 3, address)
    .flags(Flags::ADMIN)
    .docs(Docs { summary: "Tells where the primary of a name is.", since: "2.8.4", args: NAME, ..DOCS });

/// SENTINEL GET-MASTER-ADDR-BY-NAME name → host and port, or null.
fn address(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let machine = machine(server)?;
    let Some(id) = machine.find_primary(&String::from_utf8_lossy(args.at(2))) else {
        return Ok(server.reply(key).null_array());
    };
    let address = machine.current_address(id);
    let (host, port) = (machine.shown(address).to_owned(), address.port);
    let mut reply = server.reply(key);
    reply.array(2);
    reply.bulk(host.as_bytes());
    Ok(reply.bulk_int(port.into()))
}

const IS_DOWN: Spec =
    Spec::admin("sentinel|is-master-down-by-addr", 6, is_down).flags(Flags::ADMIN).docs(Docs {
        summary: "Tells another Sentinel whether a primary is down, and votes.",
        since: "2.8.4",
        args: &[Arg::string("ip"), Arg::integer("port"), Arg::integer("current-epoch"), Arg::string("runid")],
        ..DOCS
    });

/// SENTINEL IS-MASTER-DOWN-BY-ADDR ip port epoch id → 1 if it is down, whom this Sentinel voted for or `*`, and in which
/// epoch. With an ID instead of `*`, that Sentinel asks for the vote in the epoch.
fn is_down(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let (port, epoch) = (args.int(3)?, args.int(4)?);
    let (port, epoch) = (u16::try_from(port).unwrap_or(0), u64::try_from(epoch).unwrap_or(0));
    let (host, candidate) = (String::from_utf8_lossy(args.at(2)), String::from_utf8_lossy(args.at(5)));
    let told =
        server.sentinel_change(|machine, now| machine.is_down_by_addr(&host, port, epoch, &candidate, now));
    let (down, vote) = told.unwrap_or_default();
    let (leader, epoch) = vote.unwrap_or_else(|| ("*".to_owned(), 0));
    let mut reply = server.reply(key);
    reply.array(3);
    reply.int(down.into());
    reply.bulk(leader.as_bytes());
    Ok(reply.int(epoch as i64))
}

const CKQUORUM: Spec = Spec::admin("sentinel|ckquorum", 3, ckquorum).flags(Flags::ADMIN).docs(Docs {
    summary: "Tells whether a failover would find enough Sentinels.",
    since: "2.8.4",
    args: NAME,
    ..DOCS
});

/// SENTINEL CKQUORUM name → OK and the number of Sentinels, or an error.
fn ckquorum(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    let (usable, quorum, majority) = machine(server)?.usable(id);
    if quorum && majority {
        let text = format!("OK {usable} usable Sentinels. Quorum and failover authorization can be reached");
        return Ok(server.reply(key).simple(&text));
    }
    let mut text = format!("NOQUORUM {usable} usable Sentinels. ");
    if !quorum {
        text.push_str("Not enough available Sentinels to reach the specified quorum for this master");
    }
    if !majority {
        text.push_str(if quorum { "" } else { ". " });
        text.push_str("Not enough available Sentinels to reach the majority and authorize a failover");
    }
    Err(Error::text(text))
}

const INFO_CACHE: Spec = Spec::admin("sentinel|info-cache", -3, info_cache).flags(Flags::ADMIN).docs(Docs {
    summary: "Shows the last INFO of primaries and their replicas.",
    since: "3.2.0",
    complexity: "O(N), N being the number of instances.",
    args: &[Arg::string("nodename").multiple()],
    ..DOCS
});

/// SENTINEL INFO-CACHE name … → of each primary, its name, and for itself and its replicas the age of the text and the
/// text.
fn info_cache(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    type Cached = (String, Vec<Option<(i64, Vec<u8>)>>);
    let (machine, now) = (machine(server)?, now());
    let mut all: Vec<Cached> = Vec::new();
    for name in args.rest(2).iter() {
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(id) = machine.find_primary(&name)
            && !all.iter().any(|(known, _)| *known == name)
        {
            let cached = machine.cached_info(id, now).into_iter();
            all.push((name, cached.map(|info| info.map(|(age, text)| (age, text.to_vec()))).collect()));
        }
    }
    let mut reply = server.reply(key);
    let replied = reply.array(2 * all.len());
    for (name, cached) in all {
        reply.bulk(name.as_bytes());
        reply.array(cached.len());
        for info in cached {
            reply.array(2);
            reply.int(info.as_ref().map_or(0, |(age, _)| *age));
            reply.bulk_or_null(info.as_ref().map(|(_, text)| &text[..]));
        }
    }
    Ok(replied)
}

const MYID: Spec = Spec::admin("sentinel|myid", 2, myid).flags(Flags::ADMIN).docs(Docs {
    summary: "Tells the ID of this Sentinel.",
    since: "6.2.0",
    ..DOCS
});

/// SENTINEL MYID → the ID.
fn myid(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let id = machine(server)?.id.clone();
    Ok(server.reply(key).bulk(id.as_bytes()))
}

const PENDING_SCRIPTS: Spec = Spec::admin("sentinel|pending-scripts", 2, pending_scripts)
    .flags(Flags::ADMIN)
    .docs(Docs { summary: "Lists scripts that run or are to be run.", since: "2.8.4", ..DOCS });

/// SENTINEL PENDING-SCRIPTS → fields of each script.
fn pending_scripts(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let (jobs, now): (Vec<_>, i64) = (machine(server)?.scripts.jobs().cloned().collect(), now());
    let mut reply = server.reply(key);
    let replied = reply.array(jobs.len());
    for job in jobs {
        reply.map(5);
        reply.bulk(b"argv");
        reply.bulks(&job.argv);
        reply.bulk(b"flags");
        reply.bulk(if job.pid.is_some() { &b"running"[..] } else { b"scheduled" });
        reply.bulk(b"pid");
        reply.bulk_int(job.pid.unwrap_or(0).into());
        if job.pid.is_some() {
            reply.bulk(b"run-time");
            reply.bulk_int(now - job.start_at);
        } else {
            reply.bulk(b"run-delay");
            reply.bulk_int((job.start_at - now).max(0));
        }
        reply.bulk(b"retry-num");
        reply.bulk_int(job.retries.into());
    }
    Ok(replied)
}

const HELP: Spec = Spec::admin("sentinel|help", 2, show_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Lists the subcommands.", since: "6.2.0", ..DOCS });

/// SENTINEL HELP → descriptions of the subcommands.
fn show_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let forms = [
        (
            "CKQUORUM <master-name>",
            "Tell whether enough Sentinels are up to agree on a failover and to\nelect who does it.",
        ),
        ("CONFIG SET param value [param value ...]", "Set options of all primaries."),
        ("CONFIG GET <param> [param param param ...]", "Show options of all primaries."),
        ("DEBUG [<param> <value> ...]", "Show periods and time limits in milliseconds, or change them."),
        ("GET-MASTER-ADDR-BY-NAME <master-name>", "Tell the host and port of a primary."),
        ("FAILOVER <master-name>", "Have a replica take over without asking other Sentinels."),
        ("FLUSHCONFIG", "Write the configuration file with the present state."),
        ("INFO-CACHE <master-name>", "Show the last INFO of a primary and its replicas."),
        (
            "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
            "Tell whether a primary is down as far as this Sentinel knows.",
        ),
        ("MASTER <master-name>", "Show the state of a primary."),
        ("MASTERS", "List the primaries and their state."),
        ("MONITOR <name> <ip> <port> <quorum>", "Watch another primary."),
        ("MYID", "Tell the ID of this Sentinel."),
        ("PENDING-SCRIPTS", "List scripts that run or are to be run."),
        ("REMOVE <master-name>", "Watch a primary no longer."),
        ("REPLICAS <master-name>", "List the replicas of a primary and their state."),
        ("RESET <pattern>", "Forget what is known of primaries whose names match."),
        ("SENTINELS <master-name>", "List the other Sentinels of a primary and their state."),
        ("SET <master-name> <option> <value> [<option> <value> ...]", "Change options of a primary."),
        (
            "SIMULATE-FAILURE [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]",
            "End the process in the middle of a failover, for tests.",
        ),
    ];
    Ok(help(&mut server.reply(key), "SENTINEL", &forms))
}

const PUBLISH: Spec = Spec::admin("publish", 3, publish)
    .flags(Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST))
    .channels(ChannelSpec::PUBLISH)
    .docs(Docs {
        summary: "Says hello to this Sentinel.",
        since: "2.0.0",
        args: &[Arg::string("channel"), Arg::string("message")],
        group: Group::PubSub,
        ..DOCS
    });

/// PUBLISH `__sentinel__:hello` message → 1. Other Sentinels tell of themselves so.
fn publish(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.at(1) != HELLO_CHANNEL {
        return Err(Error::text("ERR Only HELLO messages are accepted by Sentinel instances."));
    }
    server.sentinel_change(|machine, now| machine.hello(args.at(2), now));
    Ok(server.reply(key).int(1))
}

const ROLE: Spec = Spec::admin("role", 1, role)
    .flags(Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST))
    .acl(Acl::ADMIN.with(Acl::DANGEROUS))
    .docs(Docs {
        summary: "Tells the names of the primaries.",
        since: "2.8.12",
        group: Group::Server,
        ..DOCS
    });

/// ROLE → `sentinel`, and the names of the primaries.
fn role(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let names: Vec<String> = machine(server)?.names().map(str::to_owned).collect();
    let mut reply = server.reply(key);
    reply.array(2);
    reply.bulk(b"sentinel");
    Ok(reply.bulks(&names))
}
