//! A dashboard for Grafana over the metrics of `metrics-port`, collected by Prometheus.

use std::fmt::Write as _;

use spinel::stats::log::escape_json;

/// A panel: its title, unit, and queries with their legends.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const PANELS: &[Panel] = &[
    ("Operations per second", "ops", &[("rate(spinel_commands_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}}")]),
    ("Time of a command", "s", &[
        ("histogram_quantile(0.5, sum by (le) (rate(spinel_command_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))", "median"),
        ("histogram_quantile(0.99, sum by (le) (rate(spinel_command_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))", "99 %"),
        ("histogram_quantile(0.999, sum by (le) (rate(spinel_command_duration_seconds_bucket{instance=~\"$instance\"}[$__rate_interval])))", "99.9 %"),
    ]),
    ("Memory", "bytes", &[
        ("spinel_memory_used_bytes{instance=~\"$instance\"}", "{{instance}} used"),
        ("spinel_memory_resident_bytes{instance=~\"$instance\"}", "{{instance}} resident"),
        ("spinel_memory_limit_bytes{instance=~\"$instance\"} > 0", "{{instance}} limit"),
    ]),
    ("Lookups that found their key", "percentunit", &[("rate(spinel_keyspace_hits_total{instance=~\"$instance\"}[$__rate_interval]) / (rate(spinel_keyspace_hits_total{instance=~\"$instance\"}[$__rate_interval]) + rate(spinel_keyspace_misses_total{instance=~\"$instance\"}[$__rate_interval]))", "{{instance}}")]),
    ("Busiest commands", "ops", &[("topk(8, sum by (command) (rate(spinel_command_calls_total{instance=~\"$instance\"}[$__rate_interval])))", "{{command}}")]),
    ("Clients", "short", &[
        ("spinel_clients{instance=~\"$instance\"}", "{{instance}} connected"),
        ("spinel_clients_blocked{instance=~\"$instance\"}", "{{instance}} blocked"),
    ]),
    ("Keys", "short", &[("spinel_database_keys{instance=~\"$instance\"}", "{{instance}} database {{database}}")]),
    ("Keys removed per second", "ops", &[
        ("rate(spinel_expired_keys_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} expired"),
        ("rate(spinel_evicted_keys_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} evicted"),
    ]),
    ("Network", "Bps", &[
        ("rate(spinel_network_received_bytes_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} received"),
        ("rate(spinel_network_sent_bytes_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} sent"),
    ]),
    ("Processor time", "percentunit", &[
        ("rate(spinel_cpu_user_seconds_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} program"),
        ("rate(spinel_cpu_system_seconds_total{instance=~\"$instance\"}[$__rate_interval])", "{{instance}} system"),
    ]),
    ("Replicas behind", "bytes", &[("spinel_replica_lag_bytes{instance=~\"$instance\"}", "{{instance}} {{address}}:{{port}}")]),
    ("Errors per second", "ops", &[("sum by (code) (rate(spinel_errors_total{instance=~\"$instance\"}[$__rate_interval]))", "{{code}}")]),
];

/// The dashboard as JSON, to be imported.
pub(super) fn dashboard() -> String {
    let mut out = String::from(
        "{\n  \"title\": \"Spinel\",\n  \"uid\": \"spinel\",\n  \"schemaVersion\": 39,\n  \"refresh\": \"10s\",\n  \
         \"time\": {\"from\": \"now-1h\", \"to\": \"now\"},\n  \"templating\": {\"list\": [\n    \
         {\"name\": \"datasource\", \"type\": \"datasource\", \"query\": \"prometheus\"},\n    \
         {\"name\": \"instance\", \"type\": \"query\", \"multi\": true, \"includeAll\": true, \"refresh\": 2, \
         \"datasource\": {\"type\": \"prometheus\", \"uid\": \"${datasource}\"}, \
         \"query\": \"label_values(spinel_info, instance)\"}\n  ]},\n  \"panels\": [",
    );
    for (i, (title, unit, queries)) in PANELS.iter().enumerate() {
        let (x, y) = (i % 2 * 12, i / 2 * 8);
        let _ = write!(
            out,
            "{}\n    {{\"id\": {}, \"type\": \"timeseries\", \"title\": {}, \
             \"datasource\": {{\"type\": \"prometheus\", \"uid\": \"${{datasource}}\"}}, \
             \"gridPos\": {{\"h\": 8, \"w\": 12, \"x\": {x}, \"y\": {y}}}, \
             \"fieldConfig\": {{\"defaults\": {{\"unit\": {}, \"min\": 0}}, \"overrides\": []}}, \"targets\": [",
            if i > 0 { "," } else { "" },
            i + 1,
            quoted(title),
            quoted(unit),
        );
        for (n, (query, legend)) in queries.iter().enumerate() {
            let _ = write!(
                out,
                "{}\n      {{\"refId\": \"{}\", \"expr\": {}, \"legendFormat\": {}}}",
                if n > 0 { "," } else { "" },
                char::from(b'A' + n as u8),
                quoted(query),
                quoted(legend),
            );
        }
        out.push_str("\n    ]}");
    }
    out.push_str("\n  ]\n}\n");
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    escape_json(text, &mut out);
    out.push('"');
    out
}
