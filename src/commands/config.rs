//! CONFIG: reading and changing the configuration of the running server.

use super::help::help;
use crate::clients::ClientKey;
use crate::config::rewrite::Scope;
use crate::config::{Origin, SetError, table};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::execution::admission::Conditions;

/// Table entries of the CONFIG commands.
pub const COMMANDS: &[Spec] = &[CONFIG];

const CONFIG: Spec = Spec::container("config", -2, &[GET, HELP, RESETSTAT, REWRITE, SET]).docs(Docs {
    summary: "Reads and changes the configuration.",
    since: "2.0.0",
    complexity: "That of the subcommand.",
    group: Group::Server,
    ..Docs::NONE
});

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);
const ON_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const GET: Spec = Spec::admin("config|get", -3, get).flags(FLAGS).docs(Docs {
    summary: "Tells the values of parameters.",
    since: "2.0.0",
    complexity: "O(N) for N patterns",
    group: Group::Server,
    history: &[("7.0.0", "Several patterns may be given.")],
    args: &[Arg::string("parameter").multiple()],
    ..Docs::NONE
});

/// CONFIG GET pattern [pattern …] → a map of the matching parameters and their values.
fn get(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let patterns: Vec<&[u8]> = args.rest(2).iter().collect();
    let found = server.config.get(&patterns);
    let mut reply = server.reply(key);
    let mut done = reply.map(found.len());
    for (name, value) in &found {
        reply.bulk(name);
        done = match *name {
            b"dir" => reply.bulk(&working_directory()),
            _ => reply.bulk(value),
        };
    }
    Ok(done)
}

/// The current directory of the process, even if it was renamed; empty if it was deleted.
fn working_directory() -> Vec<u8> {
    std::env::current_dir().map_or_else(|_| Vec::new(), |path| path.into_os_string().into_encoded_bytes())
}

const SET: Spec =
    Spec::admin("config|set", -4, set).flags(FLAGS).tips(ON_ALL_NODES).secrets(set_secrets).docs(Docs {
        summary: "Changes parameters, all or none of them.",
        since: "2.0.0",
        complexity: "O(N) for N parameters",
        group: Group::Server,
        history: &[("7.0.0", "Several parameters may be set at once.")],
        args: &[Arg::block("data", &[Arg::string("parameter"), Arg::string("value")]).multiple()],
        ..Docs::NONE
    });

/// Marks the values of secret parameters.
fn set_secrets(args: &Args<'_>, secret: &mut dyn FnMut(usize)) {
    for i in (2..args.len() - 1).step_by(2) {
        if table::find(args.at(i)).is_some_and(|param| param.sensitive) {
            secret(i + 1);
        }
    }
}

/// CONFIG SET parameter value [parameter value …] → OK. If one is refused, nothing changes.
fn set(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let args = args.rest(2);
    if !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> =
        (0..args.len()).step_by(2).map(|i| (args.at(i), args.at(i + 1))).collect();
    let origin = Origin {
        local: server.clients[key].io.peer.is_local(),
        loading: server.conditions.has(Conditions::LOADING.with(Conditions::ASYNC_LOADING)),
    };
    let before = server.config.clone();
    let effects = server.config.set(&pairs, origin)?;
    server.apply(before, effects)?;
    Ok(server.reply(key).ok())
}

impl From<SetError> for Error {
    fn from(error: SetError) -> Error {
        match error {
            // The name comes from the client and may hold any bytes. Redis prints it up to a NUL.
            SetError::Unknown(name) => Error::quoting(&[
                b"ERR Unknown option or number of arguments for CONFIG SET - '",
                name.split(|&b| b == 0).next().unwrap_or_default(),
                b"'",
            ]),
            SetError::Refused { name, reason } => Error::quoting(&[
                b"ERR CONFIG SET failed (possibly related to argument '",
                &name,
                b"') - ",
                reason.as_bytes(),
            ]),
            SetError::Loading => Error::text(error.to_string()),
        }
    }
}

const REWRITE: Spec =
    Spec::admin("config|rewrite", 2, rewrite_file).flags(FLAGS).tips(ON_ALL_NODES).docs(Docs {
        summary: "Writes the values in force into the configuration file.",
        since: "2.8.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// CONFIG REWRITE → OK, once the configuration file holds the current configuration.
fn rewrite_file(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.rewrite_config(Scope::Needed)?;
    Ok(server.reply(key).ok())
}

const RESETSTAT: Spec =
    Spec::admin("config|resetstat", 2, resetstat).flags(FLAGS).tips(ON_ALL_NODES).docs(Docs {
        summary: "Sets the counters of INFO back to zero.",
        since: "2.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// CONFIG RESETSTAT → OK. Resets the counters.
fn resetstat(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.stats.reset();
    server.keyspace.stats = Default::default();
    server.keyspace.reclaimer.reset();
    server.defragment.counts = Default::default();
    server.replication.counts = Default::default();
    server.reset_slot_stats();
    Ok(server.reply(key).ok())
}

const HELP: Spec =
    Spec::admin("config|help", 2, help_text).flags(Flags::LOADING.with(Flags::STALE)).docs(Docs {
        summary: "Describes the subcommands.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// CONFIG HELP → descriptions of the subcommands.
fn help_text(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "CONFIG",
        &[
            ("GET <pattern> [<pattern> ...]", "The parameters whose names match, and their values."),
            ("SET <parameter> <value> [<parameter> <value> ...]", "Change parameters; all of them or none."),
            ("RESETSTAT", "Set the counters of INFO back to zero."),
            ("REWRITE", "Write the values in force into the configuration file."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{Harness, check, check_with};
    use crate::config::Config;
    use crate::server::command::RenameError;

    #[test]
    fn several_are_set_or_none() {
        check(
            r#"
            CONFIG SET maxmemory 10mb hz 50
            CONFIG GET maxmemory
            CONFIG SET maxmemory 1 hz many
            CONFIG GET maxmemory HZ
            CONFIG SET hz 1 nosuch 2
            CONFIG SET hz 1 hz 2
            CONFIG SET databases 3
            CONFIG SET hz
            CONFIG SET hz 1 maxmemory
            CONFIG GET nosuch
            CONFIG REWRITE
            CONFIG nosuch
            CONFIG GET
            "#,
            r#"
            OK
            1) "maxmemory"
            2) "10485760"
            (error) ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer
            1) "maxmemory"
            2) "10485760"
            3) "HZ"
            4) "50"
            (error) ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'
            (error) ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter
            (error) ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
            (error) ERR wrong number of arguments for 'config|set' command
            (error) ERR syntax error
            (empty array)
            (error) ERR The server is running without a config file
            (error) ERR unknown subcommand 'nosuch'. Try CONFIG HELP.
            (error) ERR wrong number of arguments for 'config|get' command
            "#,
        );
    }

    /// What can be refused is done before what cannot, so that it need not be undone.
    #[test]
    fn a_change_that_is_refused_is_undone() {
        let mut harness = Harness::default();
        let before = harness.server.config.clone();
        let reply = harness.run("CONFIG SET maxclients 4294967295 maxmemory-policy allkeys-lfu");
        assert!(reply.contains("'maxclients') - The operating system is not able to handle"), "{reply}");
        let server = &harness.server;
        assert!(server.config == before && !server.keyspace.access.counts());
    }

    /// The options that are copied arrive where they are read, at once and when the server is made.
    #[test]
    fn copied_options_arrive() {
        type Probe = fn(&Server) -> String;
        let probes: [(&str, &str, Probe); 13] = [
            ("maxmemory", "1gb", |s| s.conditions.has(Conditions::MAXMEMORY).to_string()),
            ("maxmemory-clients", "1gb", |s| s.conditions.has(Conditions::CLIENT_MEMORY).to_string()),
            ("maxmemory-policy", "allkeys-lfu", |s| s.keyspace.access.counts().to_string()),
            ("lfu-log-factor", "3", |s| s.keyspace.access.log_factor.to_string()),
            ("lfu-decay-time", "3", |s| s.keyspace.access.decay_minutes.to_string()),
            ("lazyfree-lazy-eviction", "no", |s| s.keyspace.lazy.eviction.to_string()),
            ("lazyfree-lazy-expire", "no", |s| s.keyspace.lazy.expire.to_string()),
            ("lazyfree-lazy-server-del", "no", |s| s.keyspace.lazy.server_del.to_string()),
            ("lazyfree-lazy-user-del", "no", |s| s.keyspace.lazy.user_del.to_string()),
            ("lazyfree-lazy-user-flush", "no", |s| s.keyspace.lazy.user_flush.to_string()),
            ("slowlog-log-slower-than", "7", |s| s.stats.thresholds.slow_ns.to_string()),
            ("commandlog-request-larger-than", "7", |s| s.stats.thresholds.request.to_string()),
            ("latency-monitor-threshold", "7", |s| s.stats.latency.threshold_ms.to_string()),
        ];
        for (name, value, probe) in probes {
            let mut harness = Harness::default();
            let before = probe(&harness.server);
            assert_eq!(harness.run(&format!("CONFIG SET {name} {value}")), "OK", "{name}");
            let changed = probe(&harness.server);
            assert_ne!(before, changed, "{name}");
            // A server that is made with this configuration begins there.
            harness.server.config = Config::default();
            harness.server.apply_options();
            assert_eq!(probe(&harness.server), before, "{name}");
        }
    }

    #[test]
    fn renamed_commands_go_by_their_new_names_only() {
        let mut harness = Harness::default();
        let commands = &mut harness.server.commands;
        assert_eq!(commands.rename(b"flushall", b"Wipe"), Ok(()));
        assert_eq!(commands.rename(b"CONFIG", b"settings"), Ok(()));
        assert_eq!(commands.rename(b"keys", b""), Ok(()));
        assert_eq!(commands.rename(b"keys", b"names"), Err(RenameError::NoSuchCommand));
        assert_eq!(commands.rename(b"set", b"get"), Err(RenameError::NameIsTaken));
        assert_eq!(RenameError::NoSuchCommand.to_string(), "No such command in rename-command");
        assert_eq!(RenameError::NameIsTaken.to_string(), "Target command name already exists");
        check_with(
            &mut harness,
            r#"
            FLUSHALL
            WIPE
            KEYS *
            CONFIG GET hz
            Settings GET hz
            Settings nosuch
            MULTI
            wipe
            flushall
            EXEC
            "#,
            r#"
            (error) ERR unknown command 'FLUSHALL', with args beginning with:
            OK
            (error) ERR unknown command 'KEYS', with args beginning with: '*'
            (error) ERR unknown command 'CONFIG', with args beginning with: 'GET' 'hz'
            1) "hz"
            2) "10"
            (error) ERR unknown subcommand 'nosuch'. Try CONFIG HELP.
            OK
            QUEUED
            (error) ERR unknown command 'flushall', with args beginning with:
            (error) EXECABORT Transaction discarded because of previous errors.
            "#,
        );
    }

    #[test]
    fn some_parameters_stay_while_data_are_loaded() {
        use crate::server::execution::admission::Conditions;
        for condition in [Conditions::LOADING, Conditions::ASYNC_LOADING] {
            let mut harness = Harness::default();
            harness.server.conditions.set(condition, true);
            for line in ["CONFIG SET appendonly no", "CONFIG SET repl-diskless-load swapdb"] {
                let reply = harness.run(line);
                assert!(reply.contains("LOADING"), "{line}: {reply}");
            }
        }
    }

    #[test]
    fn resetstat_forgets() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "GET a\nNOSUCH\nCONFIG RESETSTAT",
            "(nil)\n(error) ERR unknown command 'NOSUCH', with args beginning with: \nOK",
        );
        assert_eq!(harness.server.keyspace.stats.misses, 0);
        assert!(harness.server.stats.errors.is_empty());
    }
}
