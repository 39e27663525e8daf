//! The configuration: options as plain fields, and a table of parameters that names them.
//!
//! - [`options`] holds the structs that other rooms read: `config.limits.types.hash_max_listpack_entries` is one
//!   load.
//! - [`table`] has one line per parameter: name, alias, kind, range, effects of a change.
//! - [`foreign`] knows the directives of related servers.
//! - [`mod@file`] reads configuration files and the command line; [`mod@rewrite`] writes a file anew.
//!
//! Invariants: a value in a [`Config`] has passed the check of its parameter; a printed value reads back as the
//! same value; a failed [`Config::set`] changes nothing.
//!
//! This room does not know how a change takes effect. [`Config::set`] returns [`Effects`], and the server applies
//! them:
//!
//! ```ignore
//! let before = server.config.clone();
//! let effects = server.config.set(&pairs, origin)?;
//! server.apply(before, effects)?; // or else all is as it was before
//! ```
//!
//! Names, ranges, defaults and error texts are those of Redis 7.2, on which clients and tools rely.
#![warn(missing_docs)]

pub mod file;
pub mod foreign;
pub mod nearest;
pub mod options;
pub mod param;
pub mod rewrite;
pub mod table;
pub mod value;

use std::borrow::Cow;

pub use options::{Config, LimitOptions as Limits};
pub use param::{Effects, Param};
pub use value::Reason;

use crate::stdx::glob;
use value::DebugAccess;

/// Circumstances of a change that decide whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// Whether the client is on the loopback interface or the Unix socket.
    pub local: bool,
    /// Whether a data set is being loaded.
    pub loading: bool,
}

/// Why CONFIG SET changed nothing. The text is the error reply, including its code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No parameter has this name.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{}'", String::from_utf8_lossy(.0))]
    Unknown(Vec<u8>),
    /// One parameter was refused.
    #[error(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {reason}",
        String::from_utf8_lossy(name)
    )]
    Refused {
        /// Name of the parameter as the client wrote it.
        name: Vec<u8>,
        /// Reason for the refusal.
        reason: Reason,
    },
    /// The parameter cannot change while a data set is loaded.
    #[error("LOADING Redis is loading the dataset in memory")]
    Loading,
}

impl SetError {
    /// The error that one parameter was refused.
    pub fn refused(name: &[u8], reason: impl Into<Reason>) -> SetError {
        SetError::Refused { name: name.into(), reason: reason.into() }
    }
}

impl Config {
    /// Parameters whose name or alias matches one of the glob `patterns`, in any letter case, with their values as
    /// CONFIG GET shows them. A parameter is listed once under each matching name; a pattern without wildcards
    /// lists it in the pattern's own spelling. Hidden parameters, and directives of related servers, match only their full
    /// name. O(patterns *
    /// parameters).
    pub fn get<'p>(&self, patterns: &[&'p [u8]]) -> Vec<(&'p [u8], Vec<u8>)> {
        let mut found: Vec<(&'p [u8], Vec<u8>)> = Vec::new();
        let mut others: Vec<(&'p [u8], Vec<u8>)> = Vec::new();
        let mut list = |name: &'p [u8], param: &Param| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name, param.print(self)));
            }
        };
        for pattern in patterns {
            if let Some(param) = table::find(pattern) {
                list(pattern, param);
            } else if let Some(value) = self.foreign.get(pattern) {
                others.push((pattern, value.to_vec()));
            } else if pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
                for param in table::params().filter(|param| !param.hidden && !param.unlisted) {
                    for name in param.listed_names().map(str::as_bytes) {
                        if glob::matches_nocase(pattern, name) {
                            list(name, param);
                        }
                    }
                }
            }
        }
        for (name, value) in others {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name, value));
            }
        }
        found
    }

    /// Sets several parameters, all or none, and returns the effects of the change. A parameter set to its current
    /// value changes nothing. If both names of one parameter occur, the later pair wins.
    ///
    /// # Errors
    /// The first pair that names no parameter, or a parameter that may not be set now or is named twice; then the
    /// first pair with an invalid value.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])], origin: Origin) -> Result<Effects, SetError> {
        let mut params: Vec<Option<&Param>> = Vec::with_capacity(pairs.len());
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(SetError::refused(name, "duplicate parameter"));
            }
            let Some(param) = table::find(name) else {
                if self.foreign.get(name).is_none() {
                    return Err(SetError::Unknown(name.to_vec()));
                }
                params.push(None);
                continue;
            };
            if param.immutable {
                return Err(SetError::refused(name, "can't set immutable config"));
            }
            if param.protected && !self.security.enable_protected_configs.admits(origin.local) {
                return Err(SetError::refused(name, "can't set protected config"));
            }
            if param.deny_loading && origin.loading {
                return Err(SetError::Loading);
            }
            params.push(Some(param));
        }

        let mut changed = self.clone();
        for (param, (name, value)) in params.iter().zip(pairs) {
            let read = match param {
                Some(param) => param.read(&mut changed, &[value], false),
                None => {
                    changed.foreign.set(name, &[value.to_vec()]).map_or(Ok(()), |judged| judged.map(drop))
                }
            };
            read.map_err(|reason| SetError::refused(name, reason))?;
        }
        let mut effects = Effects::NONE;
        for param in params.into_iter().flatten() {
            if param.lines(self) != param.lines(&changed) || param.effects.has(Effects::OUTSIDE) {
                effects = effects | param.effects;
            }
        }
        *self = changed;
        Ok(effects)
    }
}

impl DebugAccess {
    /// Whether a client has access, given whether it is local.
    pub fn admits(self, local: bool) -> bool {
        match self {
            DebugAccess::No => false,
            DebugAccess::Yes => true,
            DebugAccess::Local => local,
        }
    }
}

/// The message of an operating system error, without the number that Rust adds.
pub fn os_error(error: &std::io::Error) -> Cow<'static, str> {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_string().into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::param::Kind;
    use super::*;

    const LOCAL: Origin = Origin { local: true, loading: false };

    fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Effects, String> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        config.set(&pairs, LOCAL).map_err(|error| error.to_string())
    }

    fn get(config: &Config, pattern: &str) -> String {
        let found = config.get(&[pattern.as_bytes()]);
        let shown = found.into_iter().map(|(name, value)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(&value))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// For every parameter that can be set, CONFIG SET with the value of CONFIG GET changes nothing.
    #[test]
    fn setting_what_is_there_changes_nothing() {
        let defaults = Config::default();
        let mut config = defaults.clone();
        config.security.enable_protected_configs = DebugAccess::Local;
        let before = config.clone();
        for (name, value) in before.get(&[b"*"]) {
            if !table::find(name).expect("just listed").immutable {
                let effects = config.set(&[(name, &value)], LOCAL).expect("a value that is there is valid");
                // State outside the program is applied again.
                let effects_of = table::find(name).expect("just listed").effects;
                let expected = if effects_of.has(Effects::OUTSIDE) { effects_of } else { Effects::NONE };
                assert_eq!(effects, expected, "{}", name.escape_ascii());
            }
        }
        assert!(config == before);
    }

    /// Values other than the default survive CONFIG GET followed by CONFIG SET.
    #[test]
    fn values_make_the_round_trip() {
        for (name, value, shown) in [
            ("save", "60 1 30 2", "60 1 30 2"),
            ("save", "", ""),
            ("save", "1 0", "1 0"),
            ("maxmemory", "1Gb", "1073741824"),
            ("maxmemory", "1g", "1000000000"),
            ("maxmemory", "18446744073709551615", "18446744073709551615"),
            ("maxmemory", "", "0"),
            ("maxmemory-clients", "7%", "7%"),
            ("maxmemory-clients", "5mb", "5242880"),
            ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
            ("appendonly", "YES", "yes"),
            ("hz", "0", "1"),
            ("hz", "1000", "500"),
            ("repl-backlog-size", "1", "16384"),
            ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
            ("bind", "", ""),
            ("list-max-listpack-size", "-5", "-5"),
            ("slowlog-log-slower-than", "-1", "-1"),
            ("requirepass", "p\u{1}\u{ff}w", "p\u{1}\u{ff}w"),
            ("notify-keyspace-events", "KEA", "AKE"),
            ("notify-keyspace-events", "g$lshzxetd", "A"),
            ("notify-keyspace-events", "Elgmnd$", "g$ldnEm"),
            ("notify-keyspace-events", "conmKd", "dnocKm"),
            ("notify-keyspace-events", "VITSha", "haSTIV"),
            ("notify-keyspace-events", "", ""),
            ("oom-score-adj-values", "800 -100 2000", "800 -100 2000"),
            ("latency-tracking-info-percentiles", "50 99.9 33.3333 100.0 0", "50 99.9 33.3333 100 0"),
            ("latency-tracking-info-percentiles", "", ""),
            ("shutdown-on-sigint", "force NOW nosave", "nosave now force"),
            ("shutdown-on-sigint", "default force", "force"),
            ("shutdown-on-sigterm", "Safe save", "save safe"),
            ("shutdown-on-sigint", "default", "default"),
            (
                "client-output-buffer-limit",
                "NORMAL 1mb 2 3 replica 4kb 5 6",
                "normal 1048576 2 3 slave 4096 5 6 pubsub 33554432 8388608 60",
            ),
            (
                "client-output-buffer-limit",
                "",
                "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            ),
            ("proc-title-template", "{title} {port}", "{title} {port}"),
            ("slave-priority", "7", "7"),
        ] {
            let mut config = Config::default();
            let effects = set(&mut config, &[(name, value)]).expect(name);
            assert_eq!(get(&config, name), format!("{name}={shown}"));
            let before = config.clone();
            set(&mut config, &[(name, shown)]).expect(name);
            assert!(config == before, "{name} {shown}");
            if config != Config::default() {
                assert_eq!(effects, table::find(name.as_bytes()).expect(name).effects);
            }
        }
    }

    /// The class of new keys is not shown beside `A`, but it survives in the file and counts as a change.
    #[test]
    fn events_of_new_keys_are_kept() {
        let mut config = Config::default();
        let param = table::find(b"notify-keyspace-events").expect("a parameter");
        assert_eq!(set(&mut config, &[("notify-keyspace-events", "KA")]), Ok(Effects::KEYSPACE_EVENTS));
        assert_eq!(param.lines(&config), [b"\"AK\""]);
        assert_eq!(set(&mut config, &[("notify-keyspace-events", "KAn")]), Ok(Effects::KEYSPACE_EVENTS));
        assert_eq!(get(&config, "notify-keyspace-events"), "notify-keyspace-events=AK");
        assert_eq!(param.lines(&config), [b"\"AnK\""]);
        assert_eq!(set(&mut config, &[("notify-keyspace-events", "KAcno")]), Ok(Effects::KEYSPACE_EVENTS));
        assert_eq!(get(&config, "notify-keyspace-events"), "notify-keyspace-events=AK");
        assert_eq!(param.lines(&config), [b"\"AnocK\""]);
        assert_eq!(set(&mut config, &[("notify-keyspace-events", "Kn")]), Ok(Effects::KEYSPACE_EVENTS));
        assert_eq!(get(&config, "notify-keyspace-events"), "notify-keyspace-events=nK");
    }

    #[test]
    fn refusals_are_worded_as_in_redis() {
        for (name, value, reason) in [
            ("databases", "3", "can't set immutable config"),
            ("timeout", "x", "argument couldn't be parsed into an integer"),
            ("timeout", "", "argument couldn't be parsed into an integer"),
            ("timeout", "007", "argument couldn't be parsed into an integer"),
            ("timeout", "-1", "argument must be between 0 and 2147483647 inclusive"),
            ("port", "65536", "argument must be between 0 and 65535 inclusive"),
            ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
            (
                "slowlog-log-slower-than",
                "-2",
                "argument must be between -1 and 9223372036854775807 inclusive",
            ),
            ("maxmemory", "1t", "argument must be a memory value"),
            ("maxmemory", "-1", "argument must be a memory value"),
            (
                "proto-max-bulk-len",
                "1kb",
                "argument must be between 1048576 and 9223372036854775807 inclusive",
            ),
            ("maxmemory-clients", "101%", "percentage argument must be less or equal to 100"),
            ("maxmemory-clients", "-5%", "argument must be a memory or percent value"),
            ("maxmemory-clients", "05%", "argument must be a memory or percent value"),
            ("maxmemory-clients", "%", "argument must be a memory or percent value"),
            ("appendonly", "1", "argument must be 'yes' or 'no'"),
            ("appendfsync", "x", "argument(s) must be one of the following: everysec, always, no"),
            (
                "maxmemory-policy",
                "lru",
                "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-lrm, \
                 volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-lrm, allkeys-random, noeviction",
            ),
            ("save", "1 2 3", "Invalid save parameters"),
            ("save", "0 1", "Invalid save parameters"),
            ("save", "1 -1", "Invalid save parameters"),
            ("save", " 1 2", "Invalid save parameters"),
            (
                "client-output-buffer-limit",
                "normal 1 2",
                "Wrong number of arguments in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "master 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "normal 1 2 -3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            ("notify-keyspace-events", "Q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            ("oom-score-adj-values", "1 2", "wrong number of arguments"),
            (
                "oom-score-adj-values",
                "1 2 2001",
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ),
            (
                "latency-tracking-info-percentiles",
                "50 101",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            (
                "latency-tracking-info-percentiles",
                "nan",
                "Invalid latency-tracking-info-percentiles parameters",
            ),
            (
                "shutdown-on-sigint",
                "save nosave",
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            ),
            (
                "shutdown-on-sigterm",
                "",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
            ("bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "Too many bind addresses specified."),
            ("dbfilename", "a/b", "dbfilename can't be a path, just a filename"),
            ("dir", "/nonexistent", "No such file or directory"),
            ("dir", "Cargo.toml", "Not a directory"),
            ("proc-title-template", "{foo}", "template format is invalid or contains unknown variables"),
            ("proc-title-template", "{", "template format is invalid or contains unknown variables"),
            ("proc-title-template", "", "template format is invalid or contains unknown variables"),
            (
                "cluster-announce-hostname",
                "a_b",
                "Hostnames may only contain alphanumeric characters, hyphens or dots",
            ),
        ] {
            let mut config = Config::default();
            config.security.enable_protected_configs = DebugAccess::Yes;
            let before = config.clone();
            let expected =
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
            assert_eq!(set(&mut config, &[(name, value)]), Err(expected));
            assert!(config == before, "{name}");
        }
    }

    #[test]
    fn the_first_fault_is_named() {
        let failed = |name: &str, reason: &str| {
            Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
        };
        let config = &mut Config::default();
        let unknown =
            |name| Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        assert_eq!(set(config, &[("foo", "bar")]), unknown("foo"));
        assert_eq!(set(config, &[("include", "bar")]), unknown("include"));
        assert_eq!(set(config, &[("timeout", "x"), ("foo", "1"), ("databases", "2")]), unknown("foo"));
        assert_eq!(
            set(config, &[("timeout", "x"), ("databases", "2"), ("foo", "1")]),
            failed("databases", "can't set immutable config")
        );
        assert_eq!(
            set(config, &[("maxmemory", "1"), ("MAXMEMORY", "2")]),
            failed("MAXMEMORY", "duplicate parameter")
        );
        assert_eq!(
            set(
                config,
                &[("maxmemory", "1"), ("maxmemory-clients", "200%"), ("client-query-buffer-limit", "x")]
            ),
            failed("maxmemory-clients", "percentage argument must be less or equal to 100")
        );
        assert!(*config == Config::default());
        assert_eq!(set(config, &[("dir", ".")]), failed("dir", "can't set protected config"));
    }

    #[test]
    fn protected_parameters_open_for_permitted_clients() {
        let mut config = Config::default();
        config.security.enable_protected_configs = DebugAccess::Local;
        let pair: [(&[u8], &[u8]); 1] = [(b"dbfilename", b"x.rdb")];
        assert!(config.set(&pair, Origin::default()).is_err());
        assert_eq!(config.set(&pair, LOCAL), Ok(Effects::NONE));
        let loading = config.set(&[(b"dir", b".")], Origin { loading: true, ..LOCAL });
        assert_eq!(loading, Err(SetError::Loading));
    }

    #[test]
    fn several_are_set_at_once_and_the_later_alias_wins() {
        let mut config = Config::default();
        let effects = set(
            &mut config,
            &[
                ("hash-max-ziplist-entries", "1"),
                ("hash-max-listpack-entries", "2"),
                ("hz", "20"),
                ("acllog-max-len", "3"),
                ("requirepass", "x"),
            ],
        );
        assert_eq!(effects, Ok(Effects::ACL_LOG | Effects::PASSWORD));
        assert_eq!(config.limits.types.hash_max_listpack_entries, 2);
        assert_eq!(config.advanced.hz, 20);
    }

    #[test]
    fn patterns_find_names_and_aliases() {
        let config = Config::default();
        assert_eq!(get(&config, "MAXMEMORY"), "MAXMEMORY=0");
        assert_eq!(get(&config, "*-Priority"), "replica-priority=100 slave-priority=100");
        assert_eq!(get(&config, "[m]axmemory"), "maxmemory=0");
        assert_eq!(get(&config, "slaveof"), "slaveof=");
        assert_eq!(get(&config, "nothing*"), "");
        assert_eq!(get(&config, "key-load-delay"), "key-load-delay=0");
        assert_eq!(get(&config, "key-load-*"), "");
        assert_eq!(get(&config, "bio[-_]cpulist"), "bio_cpulist=");
        assert_eq!(get(&config, "bio-cpulist"), "bio-cpulist=");
        assert_eq!(get(&config, "save"), "save=3600 1 300 100 60 10000");
        assert_eq!(get(&config, "bind"), "bind=* -::*");
        let several = config.get(&[b"maxmemory", b"maxmemory-s*", b"*maxmemory", b"hz"]);
        let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                &b"maxmemory"[..],
                b"maxmemory-samples",
                b"replica-ignore-maxmemory",
                b"slave-ignore-maxmemory",
                b"hz"
            ]
        );
    }

    #[test]
    fn secrets_are_marked() {
        for name in ["requirepass", "masterauth", "masteruser"] {
            let param = table::find(name.as_bytes()).expect(name);
            assert!(param.sensitive && matches!(param.kind, Kind::Bytes(_)));
        }
    }
}
