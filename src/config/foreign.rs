//! Directives of Redis 8.2 and Valkey 9.1 that this server does not have.
//!
//! Configuration files written for or by these servers are accepted: a directive that changes nothing a user relies
//! on is noted in the log, and one that promises an absent feature is refused. These directives are not parameters:
//! CONFIG GET tells a value only to those who ask for the name, CONFIG SET is judged like a line of a file, and CONFIG
//! REWRITE leaves their lines alone.

use std::collections::BTreeMap;

use super::value::Reason;

/// What to do about a value other than the other servers' default.
#[derive(Clone, Copy)]
enum Otherwise {
    /// Accept it: nobody depends on what it tunes or switches on.
    Harmless,
    /// Refuse it: it promises an absent feature.
    Refused,
}

use Otherwise::{Harmless, Refused};

/// A directive: its name, the other servers' default, and what to do about other values.
type Directive = (&'static str, &'static str, Otherwise);

/// All known directives, sorted by name.
#[rustfmt::skip]
const DIRECTIVES: &[Directive] = &[
    ("active-defrag-cycle-us", "500", Harmless),
    ("availability-zone", "", Harmless),
    ("cluster-announce-client-ipv4", "", Harmless),
    ("cluster-announce-client-ipv6", "", Harmless),
    ("cluster-announce-client-port", "0", Harmless),
    ("cluster-announce-client-tls-port", "0", Harmless),
    ("cluster-compatibility-sample-ratio", "0", Harmless),
    ("cluster-config-save-behavior", "sync", Harmless),
    ("cluster-message-gossip-perc", "10", Harmless),
    ("debug-context", "", Harmless),
    ("dual-channel-replication-enabled", "no", Harmless),
    ("enable-debug-assert", "no", Harmless),
    ("events-per-io-thread", "2", Harmless),
    ("extended-redis-compatibility", "no", Harmless),
    ("hash-seed", "", Harmless),
    ("hide-user-data-from-log", "no", Harmless),
    ("import-mode", "no", Refused),
    ("io-threads-always-active", "no", Harmless),
    ("lazyexpire-nested-arbitrary-keys", "yes", Harmless),
    ("lua-enable-insecure-api", "no", Refused),
    ("max-new-connections-per-cycle", "10", Harmless),
    ("max-new-tls-connections-per-cycle", "1", Harmless),
    ("min-io-threads-avoid-copy-reply", "7", Harmless),
    ("min-string-size-avoid-copy-reply", "16384", Harmless),
    ("min-string-size-avoid-copy-reply-threaded", "65536", Harmless),
    ("mptcp", "no", Harmless),
    ("prefetch-batch-max-size", "16", Harmless),
    ("rdb-version-check", "strict", Harmless),
    ("rdma-bind", "", Refused),
    ("rdma-completion-vector", "-1", Harmless),
    ("rdma-port", "0", Refused),
    ("rdma-rx-size", "1048576", Harmless),
    ("repl-mptcp", "no", Harmless),
    ("repl-rdb-channel", "no", Harmless),
    ("replica-full-sync-buffer-limit", "0", Harmless),
    ("unixsocketgroup", "", Refused),
    ("vset-force-single-threaded-execution", "no", Harmless),
];

/// Values of directives that are not the other servers' defaults.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Values(BTreeMap<&'static str, Box<[u8]>>);

impl Values {
    /// The value of a directive, in any letter case; `None` if no related server knows it.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let (name, default, _) = find(name)?;
        Some(self.0.get(name).map_or(default.as_bytes(), |value| value))
    }

    /// Sets a directive after [`check`]. `None` if no related server knows it, otherwise a message for the log, if one
    /// is due.
    ///
    /// # Errors
    /// As [`check`].
    pub fn set(&mut self, name: &[u8], values: &[Vec<u8>]) -> Option<Result<Option<String>, Reason>> {
        let (name, default, _) = find(name)?;
        let judgement = check(name.as_bytes(), values)?;
        if judgement.is_ok() {
            let value = values.join(&b' ');
            if value == default.as_bytes() {
                self.0.remove(name);
            } else {
                self.0.insert(name, value.into());
            }
        }
        Some(judgement)
    }

    /// Messages for the log about values that were others `before`.
    pub fn notes(&self, before: &Values) -> Vec<String> {
        let changed = self.0.iter().filter(|(name, value)| before.0.get(*name) != Some(value));
        changed.filter_map(|(name, value)| check(name.as_bytes(), &[value.to_vec()])?.ok()?).collect()
    }
}

/// The names of all directives here.
pub fn names() -> impl Iterator<Item = &'static str> {
    DIRECTIVES.iter().map(|(name, ..)| *name)
}

fn find(name: &[u8]) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|(known, ..)| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Checks a directive that is not a parameter of this server. `None` if no related server knows it, otherwise a
/// message for the log, if one is due.
///
/// # Errors
/// If the number of values is wrong or the value promises an absent feature.
pub fn check(name: &[u8], values: &[Vec<u8>]) -> Option<Result<Option<String>, Reason>> {
    let &(name, default, otherwise) = find(name)?;
    // Some directives take several addresses, or none as the empty string.
    let value = values.join(&b' ');
    if value.eq_ignore_ascii_case(default.as_bytes()) || value.is_empty() && default == "0" {
        return Some(Ok(None));
    }
    if values.is_empty() {
        return Some(Err("wrong number of arguments".into()));
    }
    if matches!(default, "yes" | "no") && ![&b"yes"[..], b"no"].contains(&&*value.to_ascii_lowercase()) {
        return Some(Err("argument must be 'yes' or 'no'".into()));
    }
    if default.parse::<i64>().is_ok()
        && std::str::from_utf8(&value).map_or(true, |text| text.parse::<i64>().is_err())
    {
        return Some(Err("argument couldn't be parsed into an integer".into()));
    }
    Some(match otherwise {
        Harmless => {
            let value = String::from_utf8_lossy(&value);
            Ok(Some(format!("'{name} {value}' has no effect: this version has no such setting.")))
        }
        Refused => {
            let default = if default.is_empty() { "\"\"" } else { default };
            Err(format!("'{name}' is not supported by this server: only {default} is possible").into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;

    #[test]
    fn directives_are_sorted_and_no_parameters() {
        assert!(DIRECTIVES.is_sorted_by(|a, b| a.0 < b.0));
        for (name, ..) in DIRECTIVES {
            assert!(table::find(name.as_bytes()).is_none(), "{name} has become a parameter");
        }
    }

    #[test]
    fn other_values_are_noted_or_refused() {
        let judged = |name: &str, value: &str| check(name.as_bytes(), &[value.into()]);
        assert_eq!(judged("nosuch", "1"), None);
        for (name, default, otherwise) in DIRECTIVES {
            assert_eq!(judged(name, default), Some(Ok(None)), "{name}");
            let other = match *default {
                "yes" => "no",
                "no" => "yes",
                number if number.parse::<i64>().is_ok() => "77",
                _ => "other",
            };
            assert!(["yes", "no", "77", "other"].contains(&other) && judged(name, "").is_some());
            match (otherwise, judged(&name.to_uppercase(), other).expect("known in any case")) {
                (Harmless, Ok(Some(note))) => {
                    assert!(note.starts_with(&format!("'{name} {other}' has no effect")), "{note}");
                }
                (Refused, Err(reason)) => assert!(reason.contains("not supported"), "{reason}"),
                (_, judgement) => panic!("{name}: {judgement:?}"),
            }
            let none = check(name.as_bytes(), &[]).expect("known");
            assert!(none.is_err() || default.is_empty() || *default == "0", "{name}");
        }
        assert!(judged("mptcp", "maybe").is_some_and(|judgement| judgement.is_err()));
        assert!(judged("rdma-rx-size", "many").is_some_and(|judgement| judgement.is_err()));
    }

    #[test]
    fn values_are_kept_for_those_who_ask() {
        let mut values = Values::default();
        assert_eq!(values.get(b"nosuch"), None);
        assert_eq!(values.set(b"nosuch", &[b"1".to_vec()]), None);
        assert_eq!(values.get(b"MPTCP"), Some(&b"no"[..]));
        let before = values.clone();
        assert!(values.set(b"Mptcp", &[b"yes".to_vec()]).expect("known").is_ok());
        assert!(values.set(b"import-mode", &[b"yes".to_vec()]).expect("known").is_err());
        assert_eq!(values.get(b"mptcp"), Some(&b"yes"[..]));
        assert_eq!(values.get(b"import-mode"), Some(&b"no"[..]));
        assert_eq!(values.notes(&before).len(), 1);
        assert!(values.notes(&values).is_empty());
        assert!(values.set(b"mptcp", &[b"no".to_vec()]).expect("known").is_ok());
        assert_eq!(values, before);
    }
}
