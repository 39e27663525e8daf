//! A snapshot in the text format of Prometheus, version 0.0.4: a `# HELP` and a `# TYPE` line for each family, then its
//! samples.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::table::{Kind, LABELS, METRICS};
use super::{BOUNDS, Snapshot, fields, parts};

/// Beginning of the name of each metric.
const PREFIX: &str = "spinel";

/// A family with labels: where its samples come from, and what they mean.
struct Labelled {
    /// Beginning of the field in INFO; what follows is the value of the label.
    field: &'static str,
    /// Whether a number follows.
    numbered: bool,
    /// Label for what follows.
    label: &'static str,
    /// Part of the value, or its possible names, separated by `|`; empty for all of it.
    part: &'static str,
    kind: Kind,
    name: &'static str,
    help: &'static str,
    factor: f64,
    /// The word that counts as 1, where the value is a word.
    word: Option<&'static str>,
}

const fn family(
    (field, numbered, label): (&'static str, bool, &'static str),
    part: &'static str,
    kind: Kind,
    name: &'static str,
    factor: f64,
    help: &'static str,
) -> Labelled {
    Labelled { field, numbered, label, part, kind, name, help, factor, word: None }
}

impl Labelled {
    const fn word(self, word: &'static str) -> Labelled {
        Labelled { word: Some(word), ..self }
    }
}

const COMMAND: (&str, bool, &str) = ("cmdstat_", false, "command");
const DATABASE: (&str, bool, &str) = ("db", true, "database");
const REPLICA: (&str, bool, &str) = ("slave", true, "replica");
const THREAD: (&str, bool, &str) = ("io_thread_", true, "thread");
const WATCHED: (&str, bool, &str) = ("master", true, "primary");

#[rustfmt::skip]
const FAMILIES: &[Labelled] = &[
    family(COMMAND, "calls", Kind::Counter, "command_calls_total", 1.0, "Calls of a command."),
    family(COMMAND, "usec", Kind::Counter, "command_seconds_total", 1e-6, "Time spent in a command."),
    family(COMMAND, "rejected_calls", Kind::Counter, "command_rejected_total", 1.0, "Calls refused before the command ran."),
    family(COMMAND, "failed_calls", Kind::Counter, "command_failed_total", 1.0, "Calls that ended with an error."),
    family(("errorstat_", false, "code"), "count", Kind::Counter, "errors_total", 1.0, "Errors by their first word."),
    family(DATABASE, "keys", Kind::Gauge, "database_keys", 1.0, "Keys of a database."),
    family(DATABASE, "expires", Kind::Gauge, "database_keys_expiring", 1.0, "Keys with a time to live."),
    family(DATABASE, "avg_ttl", Kind::Gauge, "database_ttl_average_seconds", 1e-3, "Average time to live of these."),
    family(DATABASE, "subexpiry|keys_with_volatile_items", Kind::Gauge, "database_keys_with_expiring_fields", 1.0, "Hashes with fields that have a time to live."),
    family(REPLICA, "state", Kind::Gauge, "replica_online", 1.0, "Whether a replica gets the stream.").word("online"),
    family(REPLICA, "lag", Kind::Gauge, "replica_lag_seconds", 1.0, "Time since a replica has said how far it is."),
    family(REPLICA, "offset", Kind::Gauge, "replica_acknowledged_offset_bytes", 1.0, "Position in the stream that a replica has acknowledged."),
    family(THREAD, "clients", Kind::Gauge, "io_thread_clients", 1.0, "Clients of a thread; 0 is the main thread."),
    family(THREAD, "reads", Kind::Counter, "io_thread_reads_total", 1.0, "Receives by a thread."),
    family(THREAD, "writes", Kind::Counter, "io_thread_writes_total", 1.0, "Sends by a thread."),
    family(("used_active_time_io_thread_", true, "thread"), "", Kind::Counter, "io_thread_active_seconds_total", 1.0, "Time that a thread was not waiting."),
    family(("tls_server_cert_expires_in_seconds", false, ""), "", Kind::Gauge, "tls_server_certificate_remaining_seconds", 1.0, "Time until the certificate for clients expires; 0 if there is none."),
    family(("tls_client_cert_expires_in_seconds", false, ""), "", Kind::Gauge, "tls_client_certificate_remaining_seconds", 1.0, "Time until the certificate for other servers expires; 0 if there is none."),
    family(("tls_ca_cert_expires_in_seconds", false, ""), "", Kind::Gauge, "tls_authority_certificate_remaining_seconds", 1.0, "Time until a certificate of an authority expires; 0 if there is none."),
    family(WATCHED, "status", Kind::Gauge, "sentinel_primary_ok", 1.0, "Whether this Sentinel holds a primary to be up.").word("ok"),
    family(WATCHED, "slaves", Kind::Gauge, "sentinel_primary_replicas", 1.0, "Replicas of a primary that this Sentinel knows."),
    family(WATCHED, "sentinels", Kind::Gauge, "sentinel_primary_sentinels", 1.0, "Sentinels that watch a primary, with this one."),
];

/// Parts of a value that tell its samples apart, beside the number, with their labels.
const IDENTIFYING: &[(&str, &str, &str)] = &[
    ("slave", "ip", "address"),
    ("slave", "port", "port"),
    ("master", "name", "name"),
    ("master", "address", "address"),
];

/// The metrics as text.
pub fn exposition(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(64 << 10);
    let info: BTreeMap<&str, &str> = fields(&snapshot.info).collect();
    head(&mut out, "info", "gauge", "Facts about the server, as labels; the value is 1.");
    let labels = LABELS.iter().filter_map(|label| Some((*label, *info.get(label)?)));
    sample(&mut out, "info", labels.filter(|(_, value)| !value.is_empty()), 1.0);
    for metric in METRICS {
        let Some(number) = info.get(metric.field).and_then(|value| metric.number(value)) else { continue };
        head(&mut out, metric.name, metric.kind.name(), metric.help);
        sample(&mut out, metric.name, std::iter::empty(), number);
    }
    for family in FAMILIES {
        labelled(&mut out, family, &snapshot.info);
    }
    behind(&mut out, &info);
    latencies(&mut out, snapshot);
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}");
}

fn sample<'a>(out: &mut String, name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64) {
    let _ = write!(out, "{PREFIX}_{name}");
    let mut open = false;
    for (label, value) in labels {
        out.push_str(if open { "," } else { "{" });
        open = true;
        let _ = write!(out, "{label}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if open {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn labelled(out: &mut String, family: &Labelled, info: &str) {
    let mut begun = false;
    for (field, value) in fields(info) {
        let Some(which) = field.strip_prefix(family.field) else { continue };
        if family.numbered && which.parse::<u32>().is_err() || which.is_empty() != family.label.is_empty() {
            continue;
        }
        let number = match (family.part, family.word) {
            ("", _) => value.parse().ok(),
            (part, word) => parts(value)
                .find(|(name, _)| part.split('|').any(|part| part == *name))
                .and_then(|(_, value)| match word {
                    Some(word) => Some(f64::from(u8::from(value == word))),
                    None => value.parse().ok(),
                }),
        };
        let Some(number): Option<f64> = number else { continue };
        if !begun {
            head(out, family.name, family.kind.name(), family.help);
            begun = true;
        }
        let others = IDENTIFYING
            .iter()
            .filter(|(of, ..)| *of == family.field)
            .filter_map(|(_, part, label)| Some((*label, parts(value).find(|(name, _)| name == part)?.1)));
        let labels =
            std::iter::once((family.label, which)).filter(|(label, _)| !label.is_empty()).chain(others);
        sample(out, family.name, labels, number * family.factor);
    }
}

/// How far each replica is behind.
fn behind(out: &mut String, info: &BTreeMap<&str, &str>) {
    let Some(offset) = info.get("master_repl_offset").and_then(|offset| offset.parse::<i64>().ok()) else {
        return;
    };
    let mut begun = false;
    for (field, value) in info {
        let Some(which) = field.strip_prefix("slave").filter(|which| which.parse::<u32>().is_ok()) else {
            continue;
        };
        let part = |wanted: &str| parts(value).find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let Some(acknowledged) = part("offset").and_then(|offset| offset.parse::<i64>().ok()) else {
            continue;
        };
        if !begun {
            head(
                out,
                "replica_lag_bytes",
                "gauge",
                "Bytes of the stream that a replica has not acknowledged.",
            );
            begun = true;
        }
        let labels =
            [("replica", which), ("address", part("ip").unwrap_or("")), ("port", part("port").unwrap_or(""))];
        sample(
            out,
            "replica_lag_bytes",
            labels.into_iter(),
            offset.saturating_sub(acknowledged).max(0) as f64,
        );
    }
}

fn latencies(out: &mut String, snapshot: &Snapshot) {
    const NAME: &str = "command_duration_seconds";
    if snapshot.latencies.is_empty() {
        return;
    }
    head(out, NAME, "histogram", "Run times of a command, while latency-tracking is on.");
    let bucket = format!("{NAME}_bucket");
    for latency in &snapshot.latencies {
        let name = ("command", latency.name);
        for (bits, count) in BOUNDS.zip(latency.counts) {
            let limit = ((1u64 << bits) as f64 / 1e9).to_string();
            sample(out, &bucket, [name, ("le", &limit)].into_iter(), count as f64);
        }
        sample(out, &bucket, [name, ("le", "+Inf")].into_iter(), latency.total as f64);
        sample(out, &format!("{NAME}_sum"), [name].into_iter(), latency.sum_ns as f64 / 1e9);
        sample(out, &format!("{NAME}_count"), [name].into_iter(), latency.total as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::table::LEFT_OUT;
    use super::super::{CommandLatency, SlowCommand};
    use super::*;
    use crate::stats::CommandStats;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        let labelled = FAMILIES.iter().map(|family| (family.name, family.kind, family.help));
        for (name, kind, help) in
            METRICS.iter().map(|metric| (metric.name, metric.kind, metric.help)).chain(labelled)
        {
            assert!(seen.insert(name), "{name} twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
        }
        let mut fields = HashSet::new();
        let others = LABELS.iter().copied().chain(LEFT_OUT.iter().map(|(field, _)| *field));
        for field in METRICS.iter().map(|metric| metric.field).chain(others) {
            assert!(fields.insert(field), "{field} twice");
        }
    }

    #[test]
    fn a_snapshot_becomes_samples() {
        let mut stats = CommandStats::default();
        for us in [1, 5, 5_000_000, 60_000_000] {
            stats.called(us * 1000, true);
        }
        let snapshot = Snapshot {
            info: "# Server\r\nredis_version:7.2.4\r\nos:a\"b\\c\r\nused_memory:17\r\nused_memory_peak_perc:50.00%\r\n\
                   rdb_last_bgsave_status:err\r\nrdb_last_bgsave_time_sec:-1\r\nserver_time_usec:2500000\r\n\
                   master_repl_offset:100\r\nslave0:ip=::1,port=7000,state=online,offset=90,lag=1\r\n\
                   cmdstat_get:calls=4,usec=65000006,usec_per_call=1.00,rejected_calls=0,failed_calls=1\r\n\
                   db0:keys=2,expires=1,avg_ttl=1500\r\nslave_priority:100\r\n"
                .into(),
            latencies: CommandLatency::of("get", &stats).into_iter().collect(),
            slow: vec![SlowCommand { id: 0, at_s: 1, us: 2, name: "get".into(), args: 1 }],
            keys: None,
        };
        let text = exposition(&snapshot);
        for line in [
            "spinel_info{redis_version=\"7.2.4\",os=\"a\\\"b\\\\c\"} 1",
            "# TYPE spinel_memory_used_bytes gauge",
            "spinel_memory_used_bytes 17",
            "spinel_memory_used_peak_ratio 0.5",
            "spinel_snapshot_last_ok 0",
            "spinel_time_seconds 2.5",
            "spinel_replica_lag_seconds{replica=\"0\",address=\"::1\",port=\"7000\"} 1",
            "spinel_replica_lag_bytes{replica=\"0\",address=\"::1\",port=\"7000\"} 10",
            "spinel_replica_online{replica=\"0\",address=\"::1\",port=\"7000\"} 1",
            "spinel_command_calls_total{command=\"get\"} 4",
            "spinel_command_seconds_total{command=\"get\"} 65.000006",
            "spinel_database_keys{database=\"0\"} 2",
            "spinel_database_ttl_average_seconds{database=\"0\"} 1.5",
            "spinel_command_duration_seconds_bucket{command=\"get\",le=\"0.000001024\"} 1",
            "spinel_command_duration_seconds_bucket{command=\"get\",le=\"8.589934592\"} 3",
            "spinel_command_duration_seconds_bucket{command=\"get\",le=\"+Inf\"} 4",
            "spinel_command_duration_seconds_sum{command=\"get\"} 65.000006",
            "spinel_command_duration_seconds_count{command=\"get\"} 4",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("snapshot_last_duration"), "there is none");
    }
}
