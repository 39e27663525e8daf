//! What users change of a Sentinel.

use super::sentinel::{DOCS, machine, primary};
use crate::clients::ClientKey;
use crate::config::Origin;
use crate::config::value::Choice as _;
use crate::resp::{Args, Error};
use crate::sentinel::conf;
use crate::sentinel::machine::admin::{Change, parse_period};
use crate::sentinel::machine::{Settings, Timings};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Spec};
use crate::stdx::{glob, text};

/// Answers OK if the configuration file could be written with the change.
fn saved(server: &mut Server, key: ClientKey) -> CmdResult {
    if server.sentinel_unsaved().is_some() {
        return Err(Error::text("ERR Failed to save config file. Check server logs."));
    }
    Ok(server.reply(key).ok())
}

const NAME: &[Arg] = &[Arg::string("master-name")];

pub(super) const MONITOR: Spec = Spec::admin("sentinel|monitor", 6, monitor).flags(Flags::ADMIN).docs(Docs {
    summary: "Watches another primary.",
    since: "2.8.4",
    args: &[Arg::string("name"), Arg::string("ip"), Arg::integer("port"), Arg::integer("quorum")],
    ..DOCS
});

/// SENTINEL MONITOR name host port quorum → OK.
fn monitor(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let quorum = args.int(5).map_err(|_| Error::text("ERR Invalid quorum"))?;
    let port = args.int(4).map_err(|_| Error::text("ERR Invalid port"))?;
    if quorum <= 0 {
        return Err(Error::text("ERR Quorum must be 1 or greater."));
    }
    let name = String::from_utf8_lossy(args.at(2)).into_owned();
    if name.chars().any(char::is_control) {
        return Err(Error::text("ERR Invalid master name"));
    }
    let host = String::from_utf8_lossy(args.at(3)).into_owned();
    server.sentinel_look_up(&host);
    let port = u16::try_from(port).ok().filter(|&port| port != 0);
    let result = server.sentinel_change(|machine, now| -> Result<(), &'static str> {
        let port = port.ok_or("Invalid port number.")?;
        let address = machine.address_of(&host, port).ok_or("Invalid IP address or hostname specified")?;
        let id = machine.monitor(&name, address, quorum, now)?;
        machine.flush_config();
        machine.announce_monitor(id);
        Ok(())
    });
    match result {
        Some(Err(reason)) => Err(Error::quoting(&[b"ERR ", str::as_bytes(reason)])),
        _ => saved(server, key),
    }
}

pub(super) const REMOVE: Spec = Spec::admin("sentinel|remove", 3, remove).flags(Flags::ADMIN).docs(Docs {
    summary: "Watches a primary no longer.",
    since: "2.8.4",
    args: NAME,
    ..DOCS
});

/// SENTINEL REMOVE name → OK.
fn remove(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    server.sentinel_change(|machine, _| machine.unmonitor(id));
    saved(server, key)
}

pub(super) const RESET: Spec = Spec::admin("sentinel|reset", 3, reset).flags(Flags::ADMIN).docs(Docs {
    summary: "Forgets what is known of primaries.",
    since: "2.8.4",
    complexity: "O(N), N being the number of primaries.",
    args: &[Arg::pattern("pattern")],
    ..DOCS
});

/// SENTINEL RESET pattern → number of primaries whose names match: their replicas and Sentinels are found anew.
fn reset(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let count = server.sentinel_change(|machine, now| machine.reset_matching(args.at(2), now));
    Ok(server.reply(key).int(count.unwrap_or(0) as i64))
}

pub(super) const FAILOVER: Spec = Spec::admin("sentinel|failover", 3, failover)
    .flags(Flags::ADMIN)
    .docs(Docs { summary: "Has a replica take over.", since: "2.8.4", args: NAME, ..DOCS });

/// SENTINEL FAILOVER name → OK; the failover goes on by itself.
fn failover(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    match server.sentinel_change(|machine, now| machine.failover(id, now)) {
        Some(Err(refusal)) => Err(Error::text(refusal.to_string())),
        _ => Ok(server.reply(key).ok()),
    }
}

pub(super) const FLUSHCONFIG: Spec = Spec::admin("sentinel|flushconfig", 2, flushconfig)
    .flags(Flags::ADMIN)
    .docs(Docs { summary: "Writes the configuration file.", since: "2.8.4", ..DOCS });

/// SENTINEL FLUSHCONFIG → OK.
fn flushconfig(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.sentinel_change(|machine, _| machine.flush_config());
    saved(server, key)
}

pub(super) const SET: Spec = Spec::admin("sentinel|set", -5, set).flags(Flags::ADMIN).docs(Docs {
    summary: "Changes options of a primary.",
    since: "2.8.4",
    args: &[Arg::string("master-name"), Arg::string("option value").multiple()],
    ..DOCS
});

/// SENTINEL SET name option value … → OK. Options before one that is wrong are changed.
fn set(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let id = primary(server, args.at(2))?;
    let deny_scripts = machine(server)?.settings.deny_scripts_reconfig;
    let (mut at, mut changed, mut failed) = (3, false, None);
    while at < args.len() {
        match parse_change(&args, at, deny_scripts) {
            Ok((change, used)) => {
                let shown: Vec<_> =
                    (at + 1..at + used).map(|i| String::from_utf8_lossy(args.at(i))).collect();
                let is_secret = matches!(change, Change::AuthPass(_));
                let shown = if is_secret { "******".to_owned() } else { shown.join(" ") };
                let option = String::from_utf8_lossy(args.at(at)).into_owned();
                server.sentinel_change(|machine, _| {
                    machine.apply(id, change);
                    machine.announce_set(id, &option, &shown);
                });
                (at, changed) = (at + used, true);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if changed {
        server.sentinel_change(|machine, _| machine.flush_config());
    }
    match failed {
        Some(error) => Err(error),
        None => saved(server, key),
    }
}

/// The change that begins at an argument, and how many arguments it has.
fn parse_change(args: &Args<'_>, at: usize, deny_scripts: bool) -> Result<(Change, usize), Error> {
    const OPTIONS: [&str; 10] = [
        "down-after-milliseconds",
        "failover-timeout",
        "parallel-syncs",
        "notification-script",
        "client-reconfig-script",
        "auth-pass",
        "auth-user",
        "quorum",
        "master-reboot-down-after-period",
        "primary-reboot-down-after-period",
    ];
    let option = args.at(at);
    let invalid = |value: &[u8]| {
        Error::quoting(&[b"ERR Invalid argument '", value, b"' for SENTINEL SET '", option, b"'"])
    };
    if text::eq_ignore_case(option, b"rename-command")
        && let (Some(from), Some(to)) = (args.get(at + 1), args.get(at + 2))
    {
        if from.is_empty() || to.is_empty() {
            return Err(invalid(if from.is_empty() { from } else { to }));
        }
        let from = String::from_utf8_lossy(from).to_ascii_lowercase();
        return Ok((Change::Rename(from, String::from_utf8_lossy(to).into_owned()), 3));
    }
    let known = OPTIONS.into_iter().find(|known| text::eq_ignore_case(option, known.as_bytes()));
    let (Some(known), Some(value)) = (known, args.get(at + 1)) else {
        return Err(Error::quoting(&[
            b"ERR Unknown option or number of arguments for SENTINEL SET '",
            option,
            b"'",
        ]));
    };
    let is_script = known.ends_with("-script");
    if is_script && deny_scripts {
        return Err(Error::text(
            "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig \
             configuration directive in your Sentinel configuration",
        ));
    }
    let change = conf::change(known, value).map_err(|reason| {
        if is_script {
            Error::quoting(&[b"ERR ", reason.trim_end_matches('.').as_bytes()])
        } else {
            invalid(value)
        }
    })?;
    Ok((change, 2))
}

pub(super) const CONFIG: Spec = Spec::admin("sentinel|config", -4, config).flags(Flags::ADMIN).docs(Docs {
    summary: "Shows or changes options of all primaries.",
    since: "6.2.0",
    complexity: "O(N), N being the number of options named.",
    args: &[Arg::string("action"), Arg::string("parameter").multiple()],
    ..DOCS
});

/// SENTINEL CONFIG GET pattern … | SET option value …
fn config(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.is(2, "get") {
        config_get(server, key, args.rest(3))
    } else if args.is(2, "set") && args.len() >= 5 {
        config_set(server, key, args.rest(3))
    } else {
        Err(Error::text(
            "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...] \
             are supported.",
        ))
    }
}

const OPTIONS: [&str; 7] = [
    "resolve-hostnames",
    "announce-hostnames",
    "announce-ip",
    "announce-port",
    "sentinel-user",
    "sentinel-pass",
    "loglevel",
];

fn config_get(server: &mut Server, key: ClientKey, patterns: Args<'_>) -> CmdResult {
    let settings = machine(server)?.settings.clone();
    let yes_no = |on: bool| if on { b"yes".to_vec() } else { b"no".to_vec() };
    let value = |option: &str| match option {
        "resolve-hostnames" => yes_no(settings.resolve_hostnames),
        "announce-hostnames" => yes_no(settings.announce_hostnames),
        "announce-ip" => settings.announce_ip.clone().unwrap_or_default().into_bytes(),
        "announce-port" => settings.announce_port.to_string().into_bytes(),
        "sentinel-user" => settings.sentinel_user.clone().unwrap_or_default(),
        "sentinel-pass" => settings.sentinel_pass.clone().unwrap_or_default(),
        _ => server.config.logs.level.name().as_bytes().to_vec(),
    };
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for pattern in patterns.iter() {
        for option in OPTIONS.into_iter().filter(|option| glob::matches_nocase(pattern, option.as_bytes())) {
            if !found.iter().any(|(known, _)| *known == option) {
                found.push((option, value(option)));
            }
        }
    }
    let mut reply = server.reply(key);
    let replied = reply.map(found.len());
    for (option, value) in found {
        reply.bulk(option.as_bytes());
        reply.bulk(&value);
    }
    Ok(replied)
}

fn config_set(server: &mut Server, key: ClientKey, words: Args<'_>) -> CmdResult {
    let mut settings = machine(server)?.settings.clone();
    let mut seen: Vec<&str> = Vec::new();
    // All options must exist before any value is looked at.
    for at in (0..words.len()).step_by(2) {
        let option = words.at(at);
        let Some(known) = OPTIONS.into_iter().find(|known| text::eq_ignore_case(option, known.as_bytes()))
        else {
            return Err(Error::quoting(&[b"ERR Invalid argument '", option, b"' to SENTINEL CONFIG SET"]));
        };
        if seen.contains(&known) {
            return Err(Error::quoting(&[b"ERR Duplicate argument '", option, b"' to SENTINEL CONFIG SET"]));
        }
        if words.get(at + 1).is_none() {
            return Err(Error::quoting(&[b"ERR Missing argument '", option, b"' value"]));
        }
        seen.push(known);
    }
    let mut level = None;
    for (place, option) in seen.into_iter().enumerate() {
        let value = words.at(2 * place + 1);
        let invalid = || {
            Error::quoting(&[
                b"ERR Invalid value '",
                value,
                b"' to SENTINEL CONFIG SET '",
                words.at(2 * place),
                b"'",
            ])
        };
        let is_valid = change_setting(&mut settings, option, value);
        if option == "loglevel" {
            // Levels are a parameter of the whole server.
            let mut changed = server.config.clone();
            let pairs: [(&[u8], &[u8]); 1] = [(b"loglevel", value)];
            changed.set(&pairs, Origin::default()).map_err(|_| invalid())?;
            level = Some(value);
        } else if !is_valid {
            return Err(invalid());
        }
    }
    if let Some(level) = level {
        let before = server.config.clone();
        let pairs: [(&[u8], &[u8]); 1] = [(b"loglevel", level)];
        let effects = server.config.set(&pairs, Origin::default());
        let effects = effects.map_err(|error| Error::text(error.to_string()))?;
        server.apply(before, effects).map_err(|error| Error::text(error.to_string()))?;
    }
    server.sentinel_change(|machine, _| {
        machine.set_settings(settings);
        machine.flush_config();
    });
    saved(server, key)
}

/// Changes one of the machine's options; false if the value is wrong.
fn change_setting(settings: &mut Settings, option: &str, value: &[u8]) -> bool {
    let yes_no = match value.to_ascii_lowercase().as_slice() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    };
    let given = || Some(value.to_vec()).filter(|value| !value.is_empty());
    match (option, yes_no) {
        ("resolve-hostnames", Some(on)) => settings.resolve_hostnames = on,
        ("announce-hostnames", Some(on)) => settings.announce_hostnames = on,
        ("announce-ip", _) => {
            if value.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b',') {
                return false;
            }
            settings.announce_ip = given().map(|ip| String::from_utf8_lossy(&ip).into_owned());
        }
        ("announce-port", _) => match conf::parse_port(value) {
            Some(port) => settings.announce_port = port,
            None => return false,
        },
        ("sentinel-user", _) => settings.sentinel_user = given(),
        ("sentinel-pass", _) => settings.sentinel_pass = given(),
        _ => return false,
    }
    true
}

pub(super) const DEBUG: Spec = Spec::admin("sentinel|debug", -2, debug).flags(Flags::ADMIN).docs(Docs {
    summary: "Shows or changes periods and time limits.",
    since: "7.0.0",
    complexity: "O(N), N being the number of parameters.",
    args: &[Arg::string("parameter value").optional().multiple()],
    ..DOCS
});

/// SENTINEL DEBUG → all periods in milliseconds; SENTINEL DEBUG parameter value … → OK.
fn debug(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mut timings: Timings = machine(server)?.timings.clone();
    if args.len() == 2 {
        let mut reply = server.reply(key);
        let all = timings.table();
        let replied = reply.map(all.len());
        for (name, ms) in all {
            reply.bulk(name.as_bytes());
            reply.bulk_int(*ms);
        }
        return Ok(replied);
    }
    let (mut at, mut failed) = (2, None);
    while at < args.len() && failed.is_none() {
        let name = args.at(at);
        let mut table = timings.table();
        let known = table.iter_mut().find(|(known, _)| text::eq_ignore_case(name, known.as_bytes()));
        match (known, args.get(at + 1)) {
            (Some((_, ms)), Some(value)) => match parse_period(value) {
                Some(period) => **ms = period,
                None => {
                    failed = Some(Error::quoting(&[
                        b"ERR Invalid argument '",
                        value,
                        b"' for SENTINEL DEBUG '",
                        name,
                        b"'",
                    ]));
                }
            },
            _ => {
                failed = Some(Error::quoting(&[
                    b"ERR Unknown option or number of arguments for SENTINEL DEBUG '",
                    name,
                    b"'",
                ]));
            }
        }
        at += 2;
    }
    server.sentinel_change(|machine, _| machine.timings = timings);
    failed.map_or_else(|| Ok(server.reply(key).ok()), Err)
}

pub(super) const SIMULATE_FAILURE: Spec =
    Spec::admin("sentinel|simulate-failure", -3, simulate_failure).flags(Flags::ADMIN).docs(Docs {
        summary: "Ends the process in the middle of a failover, for tests.",
        since: "3.2.0",
        args: &[Arg::string("mode").multiple()],
        ..DOCS
    });

/// SENTINEL SIMULATE-FAILURE when … | HELP
fn simulate_failure(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mut failures = crate::sentinel::machine::Failures::default();
    for word in args.rest(2).iter() {
        if text::eq_ignore_case(word, b"crash-after-election") {
            failures.after_election = true;
        } else if text::eq_ignore_case(word, b"crash-after-promotion") {
            failures.after_promotion = true;
        } else if text::eq_ignore_case(word, b"help") {
            return Ok(server.reply(key).bulks(&["crash-after-election", "crash-after-promotion"]));
        } else {
            return Err(Error::text("ERR Unknown failure simulation specified"));
        }
    }
    server.sentinel_change(|machine, _| machine.failures = failures);
    Ok(server.reply(key).ok())
}
