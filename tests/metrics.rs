//! Metrics over HTTP: what they say, and who cannot disturb them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use spinel::stats::metrics::table::{LABELS, LEFT_OUT, METRICS};
use support::{ServerProcess, free_port, run, spinel};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with metrics, and their port.
fn server(options: &[&str]) -> (ServerProcess, u16) {
    let port = free_port();
    let number = port.to_string();
    let options = [&["--metrics-port", &number], options].concat();
    (ServerProcess::start(&spinel(), &options), port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// All that comes until the connection ends.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).expect("text")
}

/// The answer to bytes, which end the connection.
fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = connect(port);
    // The server may refuse the request before it has read all of it.
    let _ = stream.write_all(request);
    rest(&mut stream)
}

/// Head and body of what is at a path.
fn get(port: u16, path: &str) -> (String, String) {
    let answer = ask(port, format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// Name, labels and value of a sample.
type Sample = (String, BTreeMap<String, String>, f64);

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a name and a value");
    let value = value.parse().unwrap_or_else(|_| panic!("a number: {line}"));
    let Some((name, labels)) = series.split_once('{') else { return (series.into(), BTreeMap::new(), value) };
    let mut rest = labels.strip_suffix('}').expect("labels are closed");
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect("a label has a value");
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("a value is closed") {
                (at, '"') => break at + 1,
                (_, '\\') => text.push(match chars.next().expect("something is escaped").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("\\{c} in {line}"),
                }),
                (_, c) => text.push(c),
            }
        };
        assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        assert!(found.insert(label.to_owned(), text).is_none(), "{label} twice: {line}");
        rest = &quoted[end..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.into(), found, value)
}

/// Reads the text format strictly: each family begins with its help and its type, occurs once, and has samples; no
/// series occurs twice; histograms grow.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let (mut samples, mut families, mut series) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a name and a text");
            assert!(!words.is_empty() && families.insert(name.to_owned()), "{line}");
            let kind_line = lines.next().expect("a type follows");
            kind = kind_line.strip_prefix(&format!("# TYPE {name} ")).expect(kind_line).to_owned();
            assert!(["gauge", "counter", "histogram"].contains(&kind.as_str()), "{kind_line}");
            assert!(lines.peek().is_some_and(|next| next.starts_with(name)), "{name} has no samples");
            family = name.into();
            continue;
        }
        assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
        let (name, labels, value) = sample(line);
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        if kind == "histogram" {
            assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
        } else {
            assert!(suffix.is_empty(), "{line} is not of {family}");
            assert!(kind != "counter" || value >= 0.0 && name.ends_with("_total"), "{line}");
        }
        assert!(value.is_finite() && series.insert((name.clone(), labels.clone())), "{line}");
        samples.push((name, labels, value));
    }
    histograms(&samples);
    samples
}

fn histograms(samples: &[Sample]) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, labels, value) in samples {
        let Some(family) = name.strip_suffix("_bucket") else { continue };
        let of = format!("{family} {}", labels["command"]);
        let limit =
            if labels["le"] == "+Inf" { f64::INFINITY } else { labels["le"].parse().expect("a number") };
        if let Some((before, count)) = last.insert(of.clone(), (limit, *value)) {
            assert!(limit > before && *value >= count, "{of}: {limit} {value}");
        }
    }
    assert!(!last.is_empty());
    for (of, (limit, count)) in last {
        let (family, command) = of.split_once(' ').expect("just joined");
        let other = |suffix: &str| {
            let name = format!("{family}{suffix}");
            samples
                .iter()
                .find(|(have, labels, _)| *have == name && labels["command"] == command)
                .expect("is there")
                .2
        };
        assert!(limit.is_infinite() && other("_count") == count && other("_sum") > 0.0, "{of}");
    }
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |have: &BTreeMap<String, String>| {
        labels.iter().all(|(label, value)| have.get(*label).is_some_and(|have| have == value))
    };
    samples.iter().find(|(have, their, _)| have == name && fits(their)).map(|(.., value)| *value)
}

/// Names of fields that a source writes by `method`, as far as they are written out.
fn written(source: &str, method: &str) -> Vec<String> {
    let call = format!(".{method}(");
    let parts = source.split(&call).skip(1);
    let names = parts.filter_map(|part| part.trim_start().strip_prefix('"')?.split_once('"'));
    names.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(['{', ' '])).collect()
}

#[test]
fn every_field_of_info_is_a_metric_or_left_out_for_a_reason() {
    let source = include_str!("../src/commands/info.rs");
    let source = &source[..source.find("#[cfg(test)]").expect("there are tests")];
    let known: BTreeSet<&str> = METRICS
        .iter()
        .map(|metric| metric.field)
        .chain(LABELS.iter().copied())
        .chain(LEFT_OUT.iter().map(|(field, _)| *field))
        .collect();
    let written: Vec<String> =
        ["field", "flag", "ratio"].iter().flat_map(|method| written(source, method)).collect();
    assert!(written.len() > 200, "{}", written.len());
    for field in &written {
        assert!(known.contains(field.as_str()), "INFO's field {field} is not in stats/metrics/table.rs");
    }
    // The other way round, against names that are not written out in one piece.
    for field in known {
        let stem = field.strip_prefix("used_cpu_").map_or(field, |_| "used_cpu_");
        assert!(source.contains(&format!("\"{stem}")), "INFO has no field {field}");
    }
}

#[test]
fn metrics_are_the_numbers_of_info() {
    let (primary, port) = server(&["--appendonly", "yes", "--maxmemory", "100mb"]);
    let replica = ServerProcess::start(&spinel(), &["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let mut client = primary.client();
    for line in [
        "SET k v",
        "SET l w EX 1000",
        "GET k",
        "GET nosuch",
        "LPUSH k x",
        "SELECT 3",
        "LPUSH list a",
        "NOSUCH",
    ] {
        run(&mut client, line);
    }
    let deadline = Instant::now() + PATIENCE;
    while !run(&mut client, "INFO replication").contains("state=online") {
        assert!(Instant::now() < deadline, "the replica does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (head, body) = get(port, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let samples = parse(&body);
    let of = |name: &str, labels: &[(&str, &str)]| value(&samples, name, labels);
    let get_labels = [("command", "get")];
    assert_eq!(of("spinel_keyspace_hits_total", &[]), Some(1.0));
    assert_eq!(of("spinel_keyspace_misses_total", &[]), Some(1.0));
    assert_eq!(of("spinel_memory_limit_bytes", &[]), Some(100.0 * 1024.0 * 1024.0));
    assert_eq!(of("spinel_aof_write_ok", &[]), Some(1.0));
    assert_eq!(of("spinel_command_calls_total", &get_labels), Some(2.0));
    assert_eq!(of("spinel_command_duration_seconds_count", &get_labels), Some(2.0));
    assert_eq!(of("spinel_command_failed_total", &[("command", "lpush")]), Some(1.0));
    assert_eq!(of("spinel_errors_total", &[("code", "WRONGTYPE")]), Some(1.0));
    assert_eq!(of("spinel_database_keys", &[("database", "0")]), Some(2.0));
    assert_eq!(of("spinel_database_keys_expiring", &[("database", "0")]), Some(1.0));
    assert_eq!(of("spinel_database_keys", &[("database", "3")]), Some(1.0));
    assert_eq!(of("spinel_replicas", &[]), Some(1.0));
    let its = [("replica", "0"), ("address", "127.0.0.1"), ("port", &replica.port.to_string())];
    assert_eq!(of("spinel_replica_online", &its), Some(1.0));
    assert!(of("spinel_replica_lag_seconds", &its).is_some_and(|lag| lag < 20.0), "{body}");
    assert!(of("spinel_replica_lag_bytes", &its).is_some(), "{body}");
    assert_eq!(of("spinel_info", &[("role", "master"), ("server_name", "spinel")]), Some(1.0));

    // The dashboard asks for nothing that is not there.
    let output =
        std::process::Command::new(spinel()).args(["generate", "grafana"]).output().expect("it runs");
    let dashboard = String::from_utf8(output.stdout).expect("text");
    let asked: BTreeSet<&str> = dashboard
        .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
        .filter(|word| word.starts_with("spinel_"))
        .collect();
    assert!(asked.len() >= 20, "{asked:?}");
    for name in asked {
        assert!(samples.iter().any(|(have, ..)| have == name), "there is no {name}");
    }

    // Whatever is a number in INFO is a metric.
    let info = run(&mut client, "INFO everything debug");
    let metrics: BTreeSet<&str> = METRICS.iter().map(|metric| metric.field).collect();
    let others: BTreeSet<&str> =
        LABELS.iter().copied().chain(LEFT_OUT.iter().map(|(field, _)| *field)).collect();
    for (field, text) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
        let is_number = text.trim_end_matches('%').parse::<f64>().is_ok();
        assert!(
            !is_number || metrics.contains(field) || others.contains(field) || field.starts_with("tls_"),
            "{field}:{text}"
        );
    }

    let (head, json) = get(port, "/data.json?x=1");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    assert!(
        json.starts_with("{\"info\":{\"redis_version\":\"") && json.contains("\"lpush\":{\"counts\":["),
        "{json}"
    );
    let (head, page) = get(port, "/");
    assert!(head.contains("Content-Security-Policy: default-src 'none'; script-src 'sha256-"), "{head}");
    assert!(page.starts_with("<!doctype html>"));
}

/// Names of keys are told only if that is configured and somebody looks at the page.
#[test]
fn hot_and_big_keys_are_told_to_who_may_see_them() {
    let (server, port) = server(&[]);
    let mut client = server.client();
    run(&mut client, &format!("SET big {}", "x".repeat(100_000)));
    let keys = || {
        std::thread::sleep(Duration::from_millis(300));
        let (_, json) = get(port, "/data.json");
        json.split_once("\"keys\":").expect("keys").1.trim_end_matches('}').to_owned()
    };
    assert_eq!(keys(), "null");
    assert_eq!(run(&mut client, "CONFIG SET metrics-keys yes"), "+OK");
    let deadline = Instant::now() + PATIENCE;
    loop {
        for _ in 0..200 {
            client.command(&[b"SET", b"h\"\\<\xff>", b"v"]).expect("it answers");
        }
        let told = keys();
        let big = told.contains("{\"name\":\"big\",\"db\":0,\"type\":\"string\",\"bytes\":1");
        let hot = told.contains("\"hot\":[{\"name\":\"\\\"h\\\\\\\"\\\\\\\\<\\\\xff>\\\"\",\"of_time\":");
        if big && hot && told.ends_with("\"seen\":1.000") {
            break;
        }
        assert!(Instant::now() < deadline, "{told}");
    }
    assert!(!get(port, "/metrics").1.contains("xff"), "metrics tell no keys");
    assert_eq!(run(&mut client, "HOTKEYS GET"), "$-1", "that is another count");
    assert_eq!(run(&mut client, "CONFIG SET metrics-keys no"), "+OK");
    assert_eq!(keys(), "null");
}

#[test]
fn a_reader_sees_a_replica_and_a_server_without_metrics_has_none() {
    let (server, port) = server(&["--replicaof", "127.0.0.1 1"]);
    let samples = parse(&get(port, "/metrics").1);
    assert_eq!(value(&samples, "spinel_primary_link_up", &[]), Some(0.0));
    let taken = std::process::Command::new(spinel())
        .args(["--port", "0", "--unixsocket", "x.sock", "--metrics-port", &port.to_string()])
        .current_dir(&server.dir)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&taken.stdout);
    assert!(!taken.status.success() && said.contains("Metrics: "), "{said}");
    let off = ServerProcess::start(&spinel(), &[]);
    assert!(!off.log().contains("Metrics are served"));
    assert_eq!(run(&mut off.client(), "CONFIG GET metrics-port"), "*2\r\n$12\r\nmetrics-port\r\n$1\r\n0");
}

#[test]
fn requests_are_judged() {
    let (_server, port) = server(&[]);
    let status = |request: &[u8]| ask(port, request).split("\r\n").next().expect("a line").to_owned();
    let close = "Host: h\r\nConnection: close\r\n\r\n";
    assert_eq!(status(format!("GET /nosuch HTTP/1.1\r\n{close}").as_bytes()), "HTTP/1.1 404 Not Found");
    assert_eq!(
        status(format!("POST /metrics HTTP/1.1\r\n{close}").as_bytes()),
        "HTTP/1.1 405 Method Not Allowed"
    );
    assert_eq!(status(b"GET /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"), "HTTP/1.1 400 Bad Request");
    assert_eq!(status(b"*1\r\n$4\r\nPING\r\n"), "HTTP/1.1 400 Bad Request");
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(8 << 10));
    assert_eq!(status(&long.as_bytes()[..8 << 10]), "HTTP/1.1 431 Request Header Fields Too Large");
    let head = ask(port, format!("HEAD /metrics HTTP/1.1\r\n{close}").as_bytes());
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(get(port, "/metrics").0.split("\r\n").next(), Some("HTTP/1.1 200 OK"));

    // Several requests in one connection, the second in two pieces, after which no more is sent.
    let mut stream = connect(port);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /a HTTP").expect("it is taken");
    stream.write_all(b"/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.0\r\n\r\n").expect("it is taken");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let answers = rest(&mut stream);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 404 Not Found").count(), 2, "{answers}");
    assert_eq!(answers.matches("Connection: keep-alive").count(), 2);
}

/// Many who connect and say little do not keep others away, and the server does not even notice them.
#[test]
fn nobody_keeps_others_away() {
    let (server, port) = server(&[]);
    let mut idle: Vec<TcpStream> = (0..100)
        .map(|i| {
            let mut stream = connect(port);
            let _ = stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost"[..i % 25]);
            stream
        })
        .collect();
    for _ in 0..3 {
        assert!(get(port, "/metrics").0.starts_with("HTTP/1.1 200"));
        assert_eq!(run(&mut server.client(), "PING"), "+PONG");
    }
    // Those who ask for much and take nothing are given up.
    let greedy: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = connect(port);
            let _ = stream.write_all("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(50).as_bytes());
            stream
        })
        .collect();
    let deadline = Instant::now() + PATIENCE + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port))
        .map(|_| ask(port, b"GET / HTTP/1.0\r\n\r\n"))
        .is_ok_and(|text| text.is_empty())
    {
        assert!(Instant::now() < deadline, "the page does not come");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(greedy);
    // At most 16 are left; the others were dropped, so that reading ends.
    let mut open = 0;
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout can be set");
        let read = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        open += usize::from(matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
    }
    assert!(open <= 16, "{open}");
}

/// While a script runs for long, there is an answer that says so, and afterwards all is well.
#[test]
fn a_server_that_is_busy_is_told_of() {
    let (server, port) = server(&["--busy-reply-threshold", "50"]);
    let mut client = server.client();
    client.send(b"*3\r\n$4\r\nEVAL\r\n$18\r\nwhile true do end \r\n$1\r\n0\r\n").expect("it is taken");
    let deadline = Instant::now() + PATIENCE;
    while !run(&mut server.client(), "GET k").starts_with("-BUSY") {
        assert!(Instant::now() < deadline, "the script does not run");
    }
    let (head, _) = get(port, "/metrics");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable"), "{head}");
    assert!(get(port, "/").0.starts_with("HTTP/1.1 200"), "the page needs no snapshot");
    assert_eq!(run(&mut server.client(), "SCRIPT KILL"), "+OK");
    assert!(get(port, "/metrics").0.starts_with("HTTP/1.1 200"));
}

/// A child process does not keep the port from the server that comes next.
#[test]
fn a_child_leaves_the_port() {
    let (mut server, port) = server(&["--rdb-key-save-delay", "100000"]);
    let mut client = server.client();
    for i in 0..100 {
        run(&mut client, &format!("SET k{i} v"));
    }
    assert!(run(&mut client, "BGSAVE").starts_with("+Background"));
    let info = run(&mut client, "INFO persistence");
    assert!(info.contains("rdb_bgsave_in_progress:1"));
    let pid = server.pid();
    let killed =
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
    server.wait();
    let next = ServerProcess::start(&spinel(), &["--metrics-port", &port.to_string()]);
    assert!(get(port, "/metrics").0.starts_with("HTTP/1.1 200"));
    drop(next);
}
